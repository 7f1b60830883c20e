"""Alerts as episodes: when each started, whether and by what it ended, who attends to it, and operators' verdicts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from ssm_stream.config.sections.alerts import LIMIT, SILENCE, STUCK
from ssm_stream.engine.alert_kinds import MAINTENANCE
from ssm_stream.ingest.verdicts import AlertAcknowledgement
from ssm_stream.ui.entity_cache import (
    ANOMALY,
    DRIFT,
    FLEET_ANOMALY,
    FLEET_DRIFT,
    LIMIT_FLAG,
    SILENCE_FLAG,
    STUCK_FLAG,
    EntityCache,
)

MAX_EPISODES = 500
"""Episodes that are kept."""
MAX_OPEN = 20_000
"""Episodes that go on and are counted, also those that are no longer kept."""
STUB = ("id", "entity", "entities", "kind", "scope", "phase", "suppressed_by")
"""Fields that are left of those."""
MAX_VERDICTS = 2_000
"""Verdicts, and acknowledgements, that are kept, also of alerts that are not known yet."""
MAX_LISTED = 100
"""Entities of a fleet alert that are kept."""
MAX_IDS = 50
"""Message ids of an episode that are kept: the first, which verdicts refer to, and the last ones."""
MAX_WEIGHTS = 8
"""Weights in a drift alert that are kept."""
FIELDS = (
    "id", "entity", "scope", "kind", "severity", "score", "since", "ts", "target", "channel", "change", "y", "yhat",
    "yhat_lower", "yhat_upper", "contributions", "heads", "weight_change", "learning", "count", "pool", "summary",
    "limit", "column", "value", "suppressed_by",
)  # fmt: skip
"""Fields of an alert message that the episode keeps."""
BITS = {
    "anomaly": ANOMALY,
    "drift": DRIFT,
    LIMIT: LIMIT_FLAG,
    SILENCE: SILENCE_FLAG,
    STUCK: STUCK_FLAG,
}
"""Kinds of alerts of an entity, and their bits in the flags of the cache."""

Episode = dict[str, Any]


class Changes(NamedTuple):
    """Episodes that have changed, and the version they are of."""

    episodes: list[Episode]
    version: int


def is_open(episode: Mapping[str, Any]) -> bool:
    """Return whether an episode goes on and no planned stop withholds it: somebody is to act on it."""
    return bool(episode["phase"] != "recovered" and episode["suppressed_by"] != MAINTENANCE)


def _without_frame(value: bytes | None) -> bytes | None:
    """Return a message without a schema registry's frame: a zero byte and four of an id."""
    return value[5:] if value is not None and value[:1] == b"\0" else value


def describe(episode: Mapping[str, Any]) -> str:
    """Return the sentence of an episode; of one that is over, that of its beginning and that of its end."""
    sentences = [episode["began"], episode["summary"]] if episode["phase"] == "recovered" else [episode["summary"]]
    return " ".join(dict.fromkeys(filter(None, sentences)))


class AlertEpisodes:
    """The last episodes. cache: its flags follow them"""

    def __init__(self, cache: EntityCache) -> None:
        self.version = 0
        self.open = 0
        """Number of episodes that are open."""
        self.as_json: Callable[[bytes | None], bytes | None] = _without_frame
        """Returns the content of a message as JSON; replaced where messages are not JSON."""
        self._cache = cache
        self._lock = threading.Lock()
        self._episodes: OrderedDict[int, Episode] = OrderedDict()
        self._open: dict[tuple[str, str], dict[str | None, Episode]] = {}
        """Of an entity and kind → of a rule or pool → the episode, or a stub of it."""
        self._of: dict[str, Episode] = {}
        self._feedback: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._serial = 0

    def add(self, values: Iterable[bytes | None], *, framed: bool = True) -> None:
        """Add alert messages as they are on the topic, or their JSON; others are ignored, and what was added before."""
        for value in values:
            try:
                message = orjson.loads((self.as_json(value) if framed else value) or b"")
            except orjson.JSONDecodeError:
                continue
            if isinstance(message, dict) and message.keys() >= {"id", "entity", "kind", "phase", "scope", "ts"}:
                self._add(message)
        with self._lock:
            self.open = sum(each["suppressed_by"] != MAINTENANCE for each in self._all_open())

    def _all_open(self) -> Iterator[Episode]:
        return (each for group in self._open.values() for each in group.values())

    def _add(self, message: Mapping[str, Any]) -> None:
        key, part = (message["entity"], message["kind"]), message.get("pool") or message.get("limit")
        part = part or message.get("column")
        phase = message["phase"]
        with self._lock:
            if message["id"] in self._of:  # it came before a restart, or twice
                return
            self.version += 1
            # Messages of release 0.1 do not name their episode.
            named = message.get("episode")
            episode = self._open.get(key, {}).get(part) if named is None else self._of.get(named)
            # If one starts again, its recovery was missed, or it has outlasted the planned stop that suppressed it.
            if episode is None or phase == "started":
                self._end_replaced(self._open.get(key, {}).get(part), message["ts"])
                episode = self._begin(message, named or message["id"])
            was_critical = episode["severity"] == "critical"
            episode |= {name: message[name] for name in FIELDS[4:] if message.get(name) is not None}
            if was_critical:  # a `recovered` is a warning, whatever its episode was
                episode["severity"] = "critical"
            episode |= {"phase": phase, "version": self.version, "reports": episode["reports"] + 1}
            episode["top"] = max(episode["top"], message.get("score") or 0.0)
            if message["id"] not in self._of:
                self._of[message["id"]] = episode
                episode["ids"].append(message["id"])
            if len(episode["ids"]) > MAX_IDS:
                self._of.pop(episode["ids"].pop(1), None)
            if (changed := episode.get("weight_change")) is not None:
                episode["weight_change"] = changed[:MAX_WEIGHTS]
            before = episode["entities"]
            episode["entities"] = [each["entity"] for each in (message.get("entities") or [])[:MAX_LISTED]]
            group = self._open.setdefault(key, {})
            if phase != "recovered":
                group[part] = episode
            else:
                episode |= {name: message.get(name) for name in ("absorbed_after", "ended_by")}
                if named is None or group.get(part, episode)["id"] == episode["id"]:
                    group.pop(part, None)
            self._evict()
            still = any(each["suppressed_by"] != MAINTENANCE for each in group.values())
            if not group:
                del self._open[key]
            while len(self._open) > MAX_OPEN:
                del self._open[next(iter(self._open))]
        self._flag(message, before, still)

    def _end_replaced(self, episode: Episode | None, ts: int) -> None:
        """End an episode of a planned stop, which goes on as another one."""
        if episode is not None and episode["suppressed_by"] == MAINTENANCE:
            episode |= {"phase": "recovered", "ended_by": MAINTENANCE, "ts": ts, "version": self.version}

    def _begin(self, message: Mapping[str, Any], name: str) -> Episode:
        """Add an episode. name: id of its `started`, which may no longer be on the topic; verdicts are on that"""
        self._serial += 1
        episode = {name: message.get(name) for name in FIELDS}
        episode |= {"n": self._serial, "top": 0.0, "reports": 0, "entities": [], "id": name, "ids": [name]}
        episode |= {"absorbed_after": None, "ended_by": None, "began": message.get("summary")}
        episode |= {field: self._feedback.get((field, name)) for field in ("verdict", "acknowledged")}
        self._episodes[self._serial] = self._of[name] = episode
        return episode

    def _evict(self) -> None:
        """Evict the oldest episode that has recovered, or else the oldest, while there are too many. Of one that goes
        on, a stub still counts."""
        while len(self._episodes) > MAX_EPISODES:
            done = (n for n, episode in self._episodes.items() if episode["phase"] == "recovered")
            episode = self._episodes.pop(next(done, next(iter(self._episodes))))
            for each in episode["ids"]:
                self._of.pop(each, None)
            group = self._open.get((episode["entity"], episode["kind"]), {})
            for part, known in group.items():
                if known is episode:
                    group[part] = {name: episode[name] for name in STUB}

    def _flag(self, message: Mapping[str, Any], before: list[str], still: bool) -> None:
        """Set or clear the flags of a message's entities. before: those of the fleet alert until now; still: whether an
        episode of this entity and kind is open, of which a rule may have several"""
        kind = message["kind"]
        if kind not in BITS:
            return
        if message["scope"] != "fleet":
            self._cache.set_flag([message["entity"]], BITS[kind], still)
            return
        bit = FLEET_ANOMALY if kind == "anomaly" else FLEET_DRIFT
        self._cache.set_flag(before, bit, False)
        if message["phase"] != "recovered":
            self._cache.set_flag([each["entity"] for each in (message.get("entities") or [])[:MAX_LISTED]], bit, True)

    def flag_again(self) -> None:
        """Set the flags of all open episodes, for entities that had no row when their alert came."""
        with self._lock:
            episodes = [dict(each) for each in self._all_open() if each["suppressed_by"] != MAINTENANCE]
        for each in episodes:
            if each["scope"] != "fleet":
                if each["kind"] in BITS:
                    self._cache.set_flag([each["entity"]], BITS[each["kind"]], True)
            elif each["kind"] in ("anomaly", "drift"):
                self._cache.set_flag(
                    each["entities"], FLEET_ANOMALY if each["kind"] == "anomaly" else FLEET_DRIFT, True
                )

    def open_kinds(self) -> dict[str, set[str]]:
        """Return the kinds of the open episodes by entity, without those that a planned stop withholds."""
        found = dict[str, set[str]]()
        with self._lock:
            for each in self._all_open():
                if is_open(each):
                    for entity in each["entities"] or [each["entity"]]:
                        found.setdefault(entity, set()).add(each["kind"])
        return found

    def add_verdict(self, alert: str, true: bool) -> None:
        """Keep an operator's verdict on an alert."""
        self._add_feedback("verdict", alert, true)

    def add_acknowledgement(self, found: AlertAcknowledgement) -> None:
        """Keep who attends to an alert; the last one counts."""
        self._add_feedback("acknowledged", found.alert, {"by": found.by, "note": found.note, "at": found.at or None})

    def _add_feedback(self, field: str, alert: str, value: Any) -> None:
        with self._lock:
            self._feedback[field, alert] = value
            self._feedback.move_to_end((field, alert))
            if len(self._feedback) > MAX_VERDICTS:
                self._feedback.popitem(last=False)
            episode = self._of.get(alert)
            if episode is not None and episode[field] != value:
                self.version += 1
                episode |= {field: value, "version": self.version}

    def find(self, alert: str) -> Episode | None:
        """Return the episode that an alert's id belongs to; None if it is not kept."""
        with self._lock:
            episode = self._of.get(alert)
            return None if episode is None else dict(episode)

    def changes(self, since: int = 0, entity: str | None = None, most: int = MAX_EPISODES) -> Changes:
        """Return the episodes that have changed since a version, oldest first.

        Args:
            entity: only its own, and fleet episodes that include it
            most: at most so many, the newest
        """
        if since == self.version:
            return Changes([], since)
        with self._lock:
            found = [
                {name: value for name, value in each.items() if name not in ("ids", "version")}
                for each in self._episodes.values()
                if each["version"] > since
                and (entity is None or each["entity"] == entity or entity in each["entities"])
            ]
            return Changes(found[-most:], self.version)
