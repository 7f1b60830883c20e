"""The messages of the alerts topic, and the episodes that they belong to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import orjson

from ssm_stream.ingest.verdicts import AlertAcknowledgement
from ssm_stream.kafka.groups.reader import GroupMessage, Place
from ssm_stream.kafka.records import Message, timestamp_of

Content = dict[str, Any]
AsJson = Callable[[bytes | None], bytes | None]
"""From a message's value to its content as JSON."""
MAX_IDS = 100_000
"""Ids of messages by which repeats are recognised."""
MAX_EPISODE_IDS = 200
"""Ids of the messages of one episode that an acknowledgement may name."""
NEEDED = ("entity", "kind", "phase", "severity", "summary", "id", "ts")
News = Literal["started", "escalated", "ongoing", "recovered"]
"""What a message brings: a new episode, one that has become worse, one that goes on, the end of one."""
WORSE = 1.25
"""Times the score of what was news so far, from which on another target that joins makes an episode worse."""


class NotAnAlertError(ValueError):
    """A message of the alerts topic is no alert; the text has the reason."""


class AlertMessage(NamedTuple):
    """An alert as it was read. value: as JSON; at: its timestamp, s since 1970; processed: before, for this target"""

    place: Place
    message: Message
    content: Content
    value: bytes
    at: float
    processed: bool


def parse_alert(found: GroupMessage, now: float, as_json: AsJson) -> AlertMessage:
    """Return the alert in a message. now: s since 1970, for a message without a timestamp

    Raises:
        NotAnAlertError: the message is none.
    """
    raw = found.message.value()
    value = as_json(raw.encode() if isinstance(raw, str) else raw) or b""
    try:
        content = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise NotAnAlertError(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(content, dict) or any(not content.get(name) for name in NEEDED):
        raise NotAnAlertError(f"not an alert: it needs {', '.join(NEEDED)}")
    timestamp = timestamp_of(found.message)
    at = now if timestamp is None else timestamp[0] / 1000
    return AlertMessage(found.place, found.message, content, value, at, found.processed)


@dataclass
class Episode:
    """An alert from its start to its end.

    severity: the highest so far; last: the content of its last message; at: timestamp of that, s
    target: that the last news was about; targets: all so far; score: the highest that was news
    smaller: all that was news are errors that are smaller than usual
    needs_nothing: all that has come is of such errors
    announced: the target has been sent that it started; sent_at: when it was last sent something of it, s
    """

    id: str
    last: Content
    severity: str
    began: float
    at: float
    announced: bool = False
    sent_at: float = 0.0
    acknowledged: AlertAcknowledgement | None = None
    ids: list[str] = field(default_factory=list)
    target: str | None = field(default=None, init=False)
    targets: set[str] = field(default_factory=set, init=False)
    score: float = field(default=0.0, init=False)
    smaller: bool = field(default=True, init=False)
    needs_nothing: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self._note_news(self.last)
        self._note_targets(self.last)

    def _note_targets(self, content: Content) -> None:
        """Note the targets of a message that is not the end."""
        targets = _targets_of(content)
        # What another target has that came with it is not known, nor what the other entities of a fleet have.
        alone = content.get("scope") != "fleet" and targets - self.targets <= {content.get("target")}
        self.needs_nothing = self.needs_nothing and alone and content.get("change") == "smaller" and not self.critical
        self.targets = self.targets | targets

    def _note_news(self, content: Content) -> None:
        self.target = content.get("target")
        self.score = max(self.score, float(content.get("score") or 0.0))
        self.smaller = self.smaller and content.get("change") == "smaller"

    def apply(self, content: Content) -> News:
        """Apply a further message; return what is new.

        An episode becomes worse where it becomes critical, and where another target joins that is further off than what
        was news before, or the first whose errors are not merely smaller than usual: once for each target.
        """
        if content["phase"] == "recovered":
            self.last = content
            return "recovered"
        joins = self.last.get("scope") != "fleet" and content.get("target") not in (None, *self.targets)
        above = float(content.get("score") or 0.0) > WORSE * self.score
        worse = joins and (above or (self.smaller and content.get("change") != "smaller"))
        if content["severity"] == "critical" and not self.critical:
            self.severity, worse = "critical", True
        self.last = content
        self._note_targets(content)
        if worse:
            self._note_news(content)
        return "escalated" if worse else "ongoing"

    @property
    def entity(self) -> str:
        """The entity; `*` for a fleet's."""
        return str(self.last["entity"])

    @property
    def kind(self) -> str:
        """The kind of the alert."""
        return str(self.last["kind"])

    @property
    def critical(self) -> bool:
        """Whether it is or was critical."""
        return self.severity == "critical"

    @property
    def entities(self) -> list[str]:
        """The entities that it is about: of a fleet's, those that its last message lists."""
        listed = self.last.get("entities")
        return (
            [str(each["entity"]) for each in listed] if self.last.get("scope") == "fleet" and listed else [self.entity]
        )


def _targets_of(content: Content) -> set[str]:
    """Return the targets that a message names."""
    listed = [each["target"] for each in content.get("targets") or ()]
    return {name for name in (content.get("target"), *listed) if name is not None}


def passed(alert: AlertMessage) -> Episode:
    """Return the episode of an alert that is over."""
    content = alert.content
    return Episode(str(content.get("episode") or content["id"]), content, content["severity"], alert.at, alert.at)


class Episodes:
    """The open episodes of a topic, by their ids."""

    def __init__(self) -> None:
        self._open: dict[str, Episode] = {}
        self._seen = OrderedDict[str, None]()
        self._of_message: dict[str, str] = {}  # id of a message → episode

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Episode]:
        return iter(list(self._open.values()))

    def apply(self, alert: AlertMessage) -> tuple[Episode, News] | None:
        """Apply a message; return its episode and what is new. None: it is a repeat of one that was applied."""
        content, own = alert.content, str(alert.content["id"])
        if own in self._seen:
            return None
        self._seen[own] = None
        if len(self._seen) > MAX_IDS:
            self._seen.popitem(last=False)
        name = str(content.get("episode") or own)
        episode = self._open.get(name)
        news: News = "started"
        if episode is None:
            episode = self._open[name] = Episode(name, content, content["severity"], alert.at, alert.at)
        else:
            news = episode.apply(content)
        episode.at = alert.at
        if len(episode.ids) < MAX_EPISODE_IDS:
            episode.ids.append(own)
            self._of_message[own] = name
        if content["phase"] == "recovered":
            self.remove(episode)
            return episode, "recovered"
        return episode, news

    def find(self, alert: AlertMessage) -> Episode | None:
        """Return the open episode of an alert; None if it is over."""
        return self._open.get(str(alert.content.get("episode") or alert.content["id"]))

    def remove(self, episode: Episode) -> None:
        """Take an episode for over."""
        self._open.pop(episode.id, None)
        for each in episode.ids:
            self._of_message.pop(each, None)

    def acknowledge(self, found: AlertAcknowledgement) -> Episode | None:
        """Note that somebody attends to an episode; return it, None if none of that id is open."""
        name = self._of_message.get(found.alert, found.alert)
        episode = self._open.get(name)
        if episode is not None:
            episode.acknowledged = found
        return episode

    def orphans(self, before: float) -> list[Episode]:
        """Remove and return the episodes whose last message is older. before: s since 1970"""
        found = [episode for episode in self._open.values() if episode.at < before]
        for episode in found:
            self.remove(episode)
        return found
