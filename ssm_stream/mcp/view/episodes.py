"""Alerts as episodes, bounded in memory: the messages of each joined by its `started`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

MAX_EPISODES = 10_000
"""Episodes that are kept; the oldest that has recovered makes room."""
MAX_IDS = 50
"""Message ids of an episode by which it is found: the first, and the last ones."""
MAX_FEEDBACK = 20_000
"""Verdicts and acknowledgements that are kept, also of alerts that are not."""
NEEDED = {"id", "entity", "kind", "phase", "ts"}


class Episode:
    """An episode.

    id: that of its `started`; begun, last: times of the first and last message's event, ms; top: highest score
    message: content of its last message that has an explanation; state: content of its last message
    """

    __slots__ = ("acknowledged", "begun", "id", "ids", "last", "message", "reports", "state", "top", "verdict")

    def __init__(self, name: str, message: Mapping[str, Any]) -> None:
        self.id, self.ids = name, [name]
        self.begun = self.last = int(message["ts"])
        self.top, self.reports = 0.0, 0
        self.state = self.message = message
        self.verdict: bool | None = None
        self.acknowledged: Mapping[str, Any] | None = None

    def add(self, message: Mapping[str, Any]) -> None:
        """Add a message."""
        self.state = message
        if message.get("summary") and message["phase"] != "recovered":
            self.message = message
        self.last = int(message["ts"])
        self.reports += 1
        self.top = max(self.top, message.get("score") or 0.0)

    @property
    def is_open(self) -> bool:
        """Whether it has not recovered."""
        return bool(self.state["phase"] != "recovered")

    @property
    def is_suppressed(self) -> bool:
        """Whether it is withheld from the alerts topic."""
        return self.state.get("suppressed_by") is not None

    @property
    def entity(self) -> str:
        """Its entity; `*` of a fleet alert."""
        return str(self.state["entity"])

    @property
    def entities(self) -> list[str]:
        """Its entity, or those that a fleet alert names."""
        if self.state.get("scope") != "fleet":
            return [self.entity]
        return [each["entity"] for each in self.message.get("entities") or ()]

    @property
    def since(self) -> int:
        """Time of its first event, ms."""
        return int(self.message.get("since") or self.begun)

    @property
    def end(self) -> float:
        """Time at which it ended, ms; infinite while it is open."""
        return float("inf") if self.is_open else self.last


class Episodes:
    """The last episodes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.evicted = 0
        """Episodes that have made room for others."""
        self._episodes: OrderedDict[str, Episode] = OrderedDict()
        self._by_id: dict[str, Episode] = {}
        self._feedback: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def add(self, messages: Iterable[Any]) -> None:
        """Add alert messages as their topics have them; others are ignored, and repeated ones."""
        with self.lock:
            for message in messages:
                if isinstance(message, dict) and message.keys() >= NEEDED and message["id"] not in self._by_id:
                    self._add(message)

    def _add(self, message: dict[str, Any]) -> None:
        name = message.get("episode") or message["id"]
        episode = self._by_id.get(name)
        if episode is None:
            episode = self._episodes[name] = self._by_id[name] = Episode(name, message)
            episode.verdict = self._feedback.get(("verdict", name))
            episode.acknowledged = self._feedback.get(("acknowledged", name))
        episode.add(message)
        if message["id"] != name:
            self._by_id[message["id"]] = episode
            episode.ids.append(message["id"])
            if len(episode.ids) > MAX_IDS:
                self._by_id.pop(episode.ids.pop(1), None)
        if len(self._episodes) > MAX_EPISODES:
            self._evict()

    def _evict(self) -> None:
        done = next((name for name, each in self._episodes.items() if not each.is_open), next(iter(self._episodes)))
        for each in self._episodes.pop(done).ids:
            self._by_id.pop(each, None)
        self.evicted += 1

    def add_verdict(self, alert: str, true: bool) -> None:
        """Keep an operator's verdict on an alert; the last one counts."""
        self._add_feedback("verdict", alert, true)

    def add_acknowledgement(self, alert: str, content: Mapping[str, Any]) -> None:
        """Keep who attends to an alert; the last one counts."""
        self._add_feedback("acknowledged", alert, content)

    def _add_feedback(self, field: str, alert: str, value: Any) -> None:
        with self.lock:
            self._feedback[field, alert] = value
            self._feedback.move_to_end((field, alert))
            if len(self._feedback) > MAX_FEEDBACK:
                self._feedback.popitem(last=False)
            if (episode := self._by_id.get(alert)) is not None:
                setattr(episode, field, value)

    def find(self, alert: str) -> Episode | None:
        """Return the episode that the id of any of its messages belongs to; None if it is not kept."""
        with self.lock:
            return self._by_id.get(alert)

    def all(self) -> list[Episode]:
        """Return all episodes, oldest first."""
        with self.lock:
            return list(self._episodes.values())

    def open_by_entity(self) -> dict[str, list[Episode]]:
        """Return the open episodes of each entity that are not suppressed, those of a fleet alert that names it among
        them."""
        found = dict[str, list[Episode]]()
        for episode in self.all():
            if episode.is_open and not episode.is_suppressed:
                for entity in episode.entities:
                    found.setdefault(entity, []).append(episode)
        return found
