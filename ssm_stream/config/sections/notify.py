"""The section `notify`: where alerts go beyond their topic, to people and to systems."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from ssm_stream.config.quantities import Duration
from ssm_stream.config.sections.base import File, Section
from ssm_stream.config.sections.conditions import EntityPattern
from ssm_stream.config.sections.maintenance import weekly_spans

KINDS = ("anomaly", "drift", "limit", "silence", "stuck", "quality", "heartbeat")
Kind = Literal["anomaly", "drift", "limit", "silence", "stuck", "quality", "heartbeat"]
TargetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]


UNSET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A placeholder that stands as it is written: no process but that of `ssm-stream notify` needs its value."""
IN_NO_HEADER = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def _address(text: str) -> str:
    """Check that a request can be sent to an address; the errors do not show it, as it may be a secret."""
    if UNSET.search(text):
        return text
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:  # UnicodeError, too
        host, port = b"", None
    if not host or port == 0:
        raise ValueError("the address has no host, or a port that there is not; write it as https://host:443/path")
    if not (parts.path + parts.query).isascii() or not text.isprintable():
        raise ValueError("the address has a character that no request can have; write it as %XX")
    return text


def _http(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if not text.startswith(("http://", "https://", "${")) or any(each.isspace() for each in text):
        raise ValueError("write an address such as https://tickets.example/alerts")
    _address(text)
    return url


def _header(value: SecretStr) -> SecretStr:
    if IN_NO_HEADER.search(value.get_secret_value()):
        raise ValueError(
            "the value has a line break, or another character that no header can have; correct the variable or the file"
        )
    return value


def _weekly(text: str) -> str:
    weekly_spans(text)
    return text.strip()


class Target(Section):
    """Where alerts are sent: one of `apprise`, `alertmanager` and `webhook`; and which ones."""

    name: TargetName | None = None
    """Name in metrics, in the log and in its consumer group. Null: that of the service, such as `slack`; of several
    with the same one, `slack-2` and so on."""
    apprise: SecretStr | None = None
    """People: a URL of Apprise (Slack, Teams, e-mail, LINE and a hundred more), only as `${NAME}`, from the
    environment, or `${file:/path}`. Needs the extra `notify`."""
    alertmanager: Annotated[str, Field(pattern=r"^https?://[^@\s]+$"), AfterValidator(_address)] | None = None
    """Prometheus' Alertmanager: its address, `http://alertmanager:9093`."""
    webhook: Annotated[SecretStr, AfterValidator(_http)] | None = None
    """A system: each alert is a CloudEvent in a POST to this address."""
    authorization: Annotated[SecretStr, AfterValidator(_header)] | None = None
    """Header `Authorization` for `alertmanager` or `webhook`, such as `Bearer …`; only as `${NAME}` or
    `${file:/path}`."""
    chart: bool | None = None
    """A small picture of an alert that starts, or becomes worse: value, prediction and interval. People get it where
    the service takes attachments, unless it is `false`; `webhook` only with `true`, as `chart` in the message."""
    kinds: list[Kind] | None = None
    """Only alerts of these kinds, and `heartbeat`. Null: all."""
    severity: Literal["warning", "critical"] = "warning"
    """`critical`: only alerts that are, or become, critical."""
    entities: EntityPattern = "*"
    """Only alerts on these entities: a name, or a pattern such as `pump-*`."""
    team: str | None = None
    """Only alerts of this one of `teams`."""

    @model_validator(mode="after")
    def _usable(self) -> Target:
        given = [name for name in ("apprise", "alertmanager", "webhook") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"found {' and '.join(given) or 'no address'}; a target has one of apprise, alertmanager and webhook"
            )
        if self.authorization is not None and self.apprise is not None:
            raise ValueError("authorization: found with apprise, whose login is in its URL; leave it out")
        if self.chart is not None and self.alertmanager is not None:
            raise ValueError("chart: found with alertmanager, which takes no pictures; leave it out")
        return self

    @property
    def unset(self) -> list[tuple[str, str]]:
        """The keys whose value is an environment variable that is not set, each with its name."""
        secrets = {name: getattr(self, name) for name in ("apprise", "webhook", "authorization")}
        found = {name: UNSET.search(value.get_secret_value()) for name, value in secrets.items() if value is not None}
        return [(name, match[1]) for name, match in found.items() if match is not None]

    @property
    def for_people(self) -> bool:
        """Whether people read it: messages are grouped, limited and repeated."""
        return self.apprise is not None

    @property
    def service(self) -> str:
        """The name of the service, such as `slack` or `webhook`."""
        if self.apprise is None:
            return "webhook" if self.alertmanager is None else "alertmanager"
        scheme, mark, rest = self.apprise.get_secret_value().lower().partition("://")
        if not mark:
            return "apprise"
        if scheme in ("http", "https"):  # the service's own address, such as https://hooks.slack.com/services/…
            scheme = (rest.partition("/")[0].split(".")[-2:] or ["apprise"])[0]
        return "".join(each for each in scheme if each.isascii() and each.isalnum())[:60] or "apprise"


class Notify(Section):
    """`ssm-stream notify`: sends the alerts of `sinks.alerts` to people and systems."""

    targets: Annotated[list[Target], Field(min_length=1)]
    """Where alerts go. Each target gets all alerts that it is for, whatever the others get."""
    teams: dict[str, EntityPattern] = {}
    """Who is responsible, such as `{paint: "press-*", water: "pump-*"}`: an alert is of the first team whose pattern
    its entity matches."""
    heartbeat: Duration | None = None
    """Time between messages that only show that somebody watches: who gets none for longer has a dead watcher. A target
    with `kinds` gets them if `heartbeat` is one of these. Null: none."""
    group: Duration | Literal[0] = 10.0
    """People: how long the first alert waits for others, so that what starts together is one message. 0: each is sent
    at once."""
    repeat: Duration | None = 4 * 3600.0
    """People: an alert that is still open, and acknowledged by nobody, is sent again after so long. Null: never."""
    quiet: list[Annotated[str, AfterValidator(_weekly)]] = []
    """People: times such as `Mon-Fri 22:00-06:00` or `Sat,Sun 00:00-24:00`, on the clock of `event.time_zone`, in which
    only critical alerts are sent; the rest comes as one digest at their end."""
    per_hour: Annotated[int, Field(ge=1, le=3600)] = 20
    """People: most messages an hour to a target, a quarter of them at once; what is held back is in the next one."""
    orphans: Duration = 7 * 86400.0
    """An alert on which the topic has had no message for so long is taken for over: its recovery will not come."""
    page: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """Address of the live page, for links to an alert: `https://monitor.plant.example`. Null: that of `ops.address`,
    where `ops.ui` is on."""
    template: File | None = None
    """Jinja2 template of the messages to people; its first line is the title. Null: that of `alerts.language`."""
    address: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):\d{1,5}$")] | None = "127.0.0.1:9465"
    """`host:port` of `/healthz`, `/readyz` and `/metrics` of `ssm-stream notify`; null: none."""

    @model_validator(mode="after")
    def _consistent(self) -> Notify:
        for target in self.targets:
            if target.team is not None and target.team not in self.teams:
                raise ValueError(
                    f"targets: found team {target.team!r}, which is not in notify.teams "
                    f"({', '.join(self.teams) or 'empty'}); add it there, with its pattern of entities"
                )
        names = [target.name for target in self.targets if target.name]
        if len(set(names)) != len(names):
            raise ValueError(f"targets: the names {names} must all differ")
        return self

    def named_targets(self) -> Iterator[tuple[str, Target]]:
        """Yield each target with its name, in the order of the file."""
        used = {target.name for target in self.targets}
        for target in self.targets:
            name, number = target.name or target.service, 1
            while target.name is None and name in used:
                number += 1
                name = f"{target.service}-{number}"
            used.add(name)
            yield name, target
