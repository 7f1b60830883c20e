"""Messages to people: text from a Jinja2 template, in parts that a service takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, TemplateError

from ssm_stream.config import Config, ConfigError, Notify
from ssm_stream.ingest.entity_filter import only_this
from ssm_stream.notify.alerts import Episode
from ssm_stream.notify.outbox import Batch, Entry
from ssm_stream.notify.routing import Routing

LOG = structlog.get_logger("ssm_stream.notify")
MAX_DETAILED = 5
"""Alerts of a message that have their sentence and links; the others are named."""
MAX_PARTS = 8
"""Messages that one batch becomes at most, where a service takes only short ones."""
MIN_PART = 400
"""Characters below which a text is cut, not sent in parts: SMS, pagers."""


class Text(NamedTuple):
    """A message to people."""

    title: str
    body: str


class Links:
    """Where a person reads on and what a person can do about an alert."""

    def __init__(self, config: Config, file: str) -> None:
        ops, page = config.ops, config.notify.page if config.notify else None
        if page is None and ops.ui and ops.address is not None:
            page = f"http://{ops.address}"
        self._page = None if page is None else page.rstrip("/").removesuffix("/ui")
        self._mutes, self._file = config.control_topic is not None, file

    def of(self, episode: Episode) -> str | None:
        """Return the address of an alert on the live page; None if the page's is not known."""
        return None if self._page is None else f"{self._page}/ui/#alert/{quote(str(episode.last['id']), safe='')}"

    def mute(self, episode: Episode) -> str | None:
        """Return the command that mutes the alert's entity; None without a control topic."""
        if not self._mutes or episode.entity == "*":
            return None
        entity = shlex.quote(only_this(episode.entity))
        rest = f"--for 8h -- {entity}" if entity.startswith("-") else f"{entity} --for 8h"
        return f"ssm-stream mute {shlex.quote(self._file)} {rest}"


class Renderer:
    """Writes messages by the template of `notify.template`, else by that of `alerts.language`.

    file: name of the configuration, for commands

    Raises:
        ConfigError: the template cannot be read or is not valid.
    """

    def __init__(self, config: Config, routing: Routing, file: str) -> None:
        assert config.notify is not None
        self._config, self._routing, self.links = config, routing, Links(config, file)
        self._notify = notify = config.notify
        self._template = load_template(notify, config.alerts.language)
        plain = notify.model_copy(update={"template": None})
        self._packaged = load_template(plain, config.alerts.language) if notify.template is not None else None

    def batch(self, batch: Batch, watched: int) -> Text:
        """Return the message for a batch. watched: episodes that are open"""
        groups = {
            name: self._group(entry for entry in batch.entries if entry.what == name)
            for name in ("started", "escalated", "open", "recovered", "passed")
        }
        return self._render(
            groups=groups, digest=batch.digest, held_back=round(batch.held_back), hello=batch.first, watched=watched
        )

    def heartbeat(self, watched: int, predictions: int | None) -> Text:
        """Return the message that shows that somebody watches. predictions: offsets of their topic since the last one,
        if that is known; of transactions the ends are among them"""
        at_most = self._config.delivery == "exactly_once"
        return self._render(heartbeat=True, watched=watched, predictions=predictions, at_most=at_most)

    def test(self) -> Text:
        """Return a message that only shows that messages arrive."""
        return self._render(test=True, watched=0)

    def _render(self, **values: Any) -> Text:
        defaults = {"groups": {}, "digest": False, "held_back": 0, "hello": False, "heartbeat": False, "test": False}
        content = {**defaults, "predictions": None, "at_most": False, "topic": self._config.sinks.alerts, **values}
        try:
            text = self._template.render(content)
        except Exception as error:
            if self._packaged is None:
                raise
            # A fault of an own template must cost no alert.
            LOG.error("template_failed", template=str(self._notify.template), error=f"{type(error).__name__}: {error}")
            text = self._packaged.render(content)
        title, _, body = text.strip().partition("\n")
        return Text(title.strip(), body.strip())

    def _group(self, entries: Iterable[Entry]) -> dict[str, Any]:
        """Return what a template has of the entries of one sort: the worst in detail, all others by kind."""
        ordered = ranked(entries)
        shown, others = ordered[:MAX_DETAILED], ordered[MAX_DETAILED:]
        by_kind: dict[str, list[str]] = {}
        for entry in others:
            by_kind.setdefault(entry.episode.kind, []).append(_name(entry.episode))
        return {
            "count": len(ordered),
            "critical": sum(entry.episode.critical for entry in ordered),
            "shown": [self._item(entry.episode) for entry in shown],
            "others": {kind: sorted(names) for kind, names in sorted(by_kind.items())},
        }

    def _item(self, episode: Episode) -> dict[str, Any]:
        last = episode.last
        acknowledged = episode.acknowledged
        return {
            "entity": _printable(episode.entity),
            "kind": episode.kind,
            "severity": episode.severity,
            "summary": last["summary"],
            "team": self._routing.team(episode),
            "ended_by": last.get("ended_by"),
            "link": self.links.of(episode),
            "mute": self.links.mute(episode),
            "acknowledged_by": None if acknowledged is None else acknowledged.by,
            "alert": last,
        }


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the order in which a message has them: the worst first."""
    return sorted(entries, key=_rank)


def _rank(entry: Entry) -> tuple[bool, float, str]:
    return not entry.episode.critical, -float(entry.episode.last.get("score") or 0.0), entry.episode.entity


def _name(episode: Episode) -> str:
    """Return the name of an episode in a list: its entity, with the column that it is about."""
    column = episode.last.get("column")
    if episode.entity == "*":
        return f"* ({episode.last.get('count', 0)})"
    name = _printable(episode.entity)
    return f"{name} ({column})" if column else name


def _printable(name: str) -> str:
    """Return a name of a message with what is no text in it made visible: a line's end would end a subject."""
    return "".join(letter if letter.isprintable() or letter == "\u3000" else "·" for letter in name)


def load_template(notify: Notify, language: str) -> Template:
    """Return the template of messages to people.

    Raises:
        ConfigError: the file cannot be read, or is not a template.
    """
    packaged = PackageLoader("ssm_stream.notify", "templates")
    environment = Environment(
        loader=packaged, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    path: Path | None = notify.template
    try:
        if path is None:
            return environment.get_template(f"{language}.txt.j2")
        return environment.from_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"notify.template: {path}: cannot be read: {error}") from None
    except TemplateError as error:
        raise ConfigError(f"notify.template: {path}: {error}; docs/notify.md has an example") from None


def parts(text: Text, limit: int) -> list[Text]:
    """Return a message as parts of at most `limit` characters of body; a service that takes few characters gets one
    part, cut.

    >>> [part.body for part in parts(Text("t", "a, b, " * 200), 700)][1][:4]
    'a, b'
    """
    if len(text.body) <= limit:
        return [text]
    if limit < MIN_PART:
        return [Text(text.title, text.body[: max(limit - 1, 0)] + "…")]
    bodies, left = list[str](), text.body
    while left and len(bodies) < MAX_PARTS:
        if len(left) <= limit:
            bodies.append(left)
            left = ""
            break
        head = left[:limit]
        cut = max(head.rfind("\n"), head.rfind(", ") + 1, head.rfind("、") + 1)
        cut = cut if cut > limit // 2 else limit
        bodies.append(left[:cut].rstrip())
        left = left[cut:].lstrip()
    if left:
        bodies[-1] = bodies[-1][: limit - 1] + "…"
    return [Text(f"{text.title} ({i + 1}/{len(bodies)})", body) for i, body in enumerate(bodies)]
