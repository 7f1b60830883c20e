"""Ids of alerts, and of the episodes that they belong to.

An alert's id is made of its source event's topic, partition and offset, its kind, and a suffix: none for the alert of
the event's own entity, `-fleet` for a fleet's, a number for all others that are sent at that event; then the number of
the row, where one message causes several (`Events.number`). So a replay gives the same ids. An episode's id is that of
its `started` message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.engine.alert_kinds import FLEET, MAINTENANCE, OTHER, SHADOW
from ssm_stream.engine.alerts import Alert, EventPlace
from ssm_stream.engine.rules.messages import episode_kind


class EventIds(NamedTuple):
    """Where the events of a batch come from. offsets: of each; numbers: as `Events.number`"""

    topic: str
    partition: int
    offsets: Sequence[int]
    numbers: NDArray[np.int64] | None = None

    def take(self, rows: Sequence[int]) -> EventIds:
        """Return those of these rows."""
        numbers = None if self.numbers is None else self.numbers[rows]
        return self._replace(offsets=[self.offsets[row] for row in rows], numbers=numbers)

    def row_suffix(self, row: int) -> str:
        """Return the end of the ids of a row: its number, if it has one."""
        return "" if self.numbers is None else f"-{self.numbers[row]}"

    def alert_id(self, alert: Alert) -> str:
        """Return the id of an alert of the batch that has its suffix."""
        return alert_id(self.topic, self.partition, self.offsets[alert.row], alert)


def alert_id(topic: str, partition: int, offset: int, alert: Alert) -> str:
    """Return the id of an alert. topic, partition, offset: of the event that caused it"""
    return f"{topic}-{partition}-{offset}-{alert.message['kind']}{alert.suffix}"


def source_of(alert: Alert, events: EventIds) -> tuple[str, int, int]:
    """Return topic, partition and offset of an alert's own event. events: of the batch in which it is sent"""
    place = alert.place
    if place is not None and place.topic:
        return place.topic, place.partition, place.offset
    return events.topic, events.partition, events.offsets[alert.row]


def place_id(place: EventPlace, alert: Alert) -> str | None:
    """Return the id of an alert that has waited; None if its event has none. place: of its event"""
    return alert_id(place.topic, place.partition, place.offset, alert) if place.topic else None


def preview(alert: Alert, first: Alert) -> Alert:
    """Return an alert that waits as it will be sent. first: of its entity, the `started`"""
    assert alert.place is not None
    assert first.place is not None
    episode = place_id(first.place, first._replace(suffix=first.place.suffix))
    return alert._replace(suffix=alert.place.suffix, message=alert.message | {"episode": episode})


def _note_place(alert: Alert, events: EventIds | None) -> None:
    """Note where the event of an alert that waits comes from, while it is known."""
    assert alert.place is not None
    alert.place.suffix = alert.suffix
    if events is not None:
        place = alert.place
        place.topic, place.partition, place.offset = events.topic, events.partition, events.offsets[alert.row]


class EpisodeKey(NamedTuple):
    """Names an episode while it is open. entity: `*` for a fleet's; kind: see `episode_kind`; pool: of a fleet's, as in
    its messages"""

    entity: str
    kind: str
    pool: str = ""

    @property
    def scope(self) -> str:
        """Whether it is an entity's or a fleet's."""
        return "fleet" if self.pool else "entity"


class OpenEpisode(NamedTuple):
    """An open episode of an entity and a target. pool: shard and source; since: ms"""

    pool: tuple[int, int]
    since: int


class Started(NamedTuple):
    """An open episode. id: of its `started` message, None if events have no ids; since: ms; pool: shard and source"""

    id: str | None
    since: int
    pool: tuple[int, int]


class Ended(NamedTuple):
    """An episode whose end has yet to be sent, at the next event of its source.

    suppressed_by: id of the fleet episode if its `started` was suppressed, `SHADOW` or `MAINTENANCE`
    """

    key: EpisodeKey
    started: Started
    ended_by: str
    suppressed: bool
    suppressed_by: str | None

    def to_json(self) -> list[Any]:
        """Return it as JSON has it."""
        return [*self.key, *self.started, *self[2:]]


class EpisodeIds:
    """The open episodes that consumers can see, on the topic of alerts and on that of suppressed ones.

    shadow: suppress all alerts, but of episodes that were sent before; those that it has suppressed stay so to their
        end, so that each `started` has its `recovered` on its own topic
    """

    def __init__(self, *, shadow: bool = False) -> None:
        self._shadow = shadow
        self._sent: dict[EpisodeKey, Started] = {}
        self._suppressed: dict[EpisodeKey, tuple[Started, str | None]] = {}

    def assign(self, alerts: Iterable[Alert], events: EventIds | None, *, keep_suppressed: bool) -> list[Alert]:
        """Return the alerts of a batch with their suffixes and `episode`, in their order.

        Args:
            alerts: in the order of their events
            events: of the batch; None: `episode` is null
            keep_suppressed: also return the suppressed ones, with `suppressed_by`
        """
        out, numbers = list[Alert](), Counter[tuple[int, str, str]]()
        for alert in alerts:
            message = alert.message
            if alert.place is None or alert.waits:
                of_row = "" if events is None else events.row_suffix(alert.row)
                unique = alert._replace(suffix=_unique(alert, numbers) + of_row)
                own = None if events is None else events.alert_id(unique)
            else:
                unique = alert._replace(suffix=alert.place.suffix)
                own = place_id(alert.place, unique)
            if alert.waits:
                _note_place(unique, events)
                continue
            key = EpisodeKey(message["entity"], episode_kind(message), message.get("pool", ""))
            if message["episode"] is not None:  # it ended between two events
                if alert.suppressed_by is None or keep_suppressed:
                    out.append(unique)
                continue
            in_shadow = alert.suppressed_by is None and self._in_shadow(key, message["phase"])
            if alert.suppressed_by is None and not in_shadow:
                out.append(unique._replace(message=message | {"episode": self._send(key, alert, own)}))
                continue
            by: str | None = SHADOW if in_shadow else MAINTENANCE
            if not in_shadow and alert.suppressed_by != MAINTENANCE:
                by = self._fleet_episode(key, alert)
            episode = self._suppress(key, alert, own, by)
            if keep_suppressed:
                message = message | {"episode": episode, "suppressed_by": by}
                out.append(unique._replace(message=message, suppressed_by=by))
        return out

    def _in_shadow(self, key: EpisodeKey, phase: str) -> bool:
        """Return whether the shadow suppresses an alert that no fleet episode replaces."""
        if phase == "started" or key not in self._suppressed:
            return self._shadow and (phase == "started" or key not in self._sent)
        return self._suppressed[key][1] == SHADOW or (self._shadow and key not in self._sent)

    def _fleet_episode(self, key: EpisodeKey, alert: Alert) -> str | None:
        """Return the id of the fleet episode that replaces an alert."""
        fleet = EpisodeKey("*", key.kind, alert.suppressed_by or "")
        if fleet in self._sent:
            return self._sent[fleet].id
        if fleet in self._suppressed:
            return self._suppressed[fleet][0].id
        # The fleet episode of one that it has left open is over.
        return self._suppressed[key][1] if key in self._suppressed else None

    def _send(self, key: EpisodeKey, alert: Alert, own: str | None) -> str | None:
        """Note an alert that is sent; return its `episode`. own: its id"""
        phase, since = alert.message["phase"], alert.message["since"]
        if phase == "started":
            started = self._sent[key] = Started(own, since, alert.pool)
            self._suppressed.pop(key, None)
        elif phase == "ongoing":
            started = self._sent.setdefault(key, Started(own, since, alert.pool))
        else:
            started = self._sent.pop(key, Started(own, since, alert.pool))
        return started.id

    def _suppress(self, key: EpisodeKey, alert: Alert, own: str | None, by: str | None) -> str | None:
        """Note an alert that is suppressed; return its `episode`. own: its id; by: id of the fleet episode"""
        if alert.message["phase"] == "started" or not (key in self._sent or key in self._suppressed):
            self._suppressed[key] = Started(own, alert.message["since"], alert.pool), by
        started = self._sent.get(key) or self._suppressed[key][0]
        if alert.message["phase"] == "recovered":
            self._suppressed.pop(key, None)
        return started.id

    def suppressed_by(self, by: str) -> dict[tuple[str, str], OpenEpisode]:
        """Return the open episodes that are suppressed by this, by their entity and kind."""
        return {
            (key.entity, key.kind): OpenEpisode(started.pool, started.since)
            for key, (started, own) in self._suppressed.items()
            if own == by
        }

    def open(self, ended_by: str) -> list[Ended]:
        """Return the open episodes, as they would end; they stay open."""
        sent = [Ended(key, each, ended_by, False, None) for key, each in self._sent.items()]
        return sent + [Ended(key, each, ended_by, True, by) for key, (each, by) in self._suppressed.items()]

    @property
    def kinds(self) -> set[str]:
        """The kinds of the open episodes."""
        return {key.kind for key in (*self._sent, *self._suppressed)}

    def count_entities(self, kind: str) -> int:
        """Return the number of entities with an open episode of a kind of alerts; safe to call from another thread."""
        keys = [*self._sent, *self._suppressed]
        return len({key.entity for key in keys if not key.pool and key.kind.partition(" ")[0] == kind})

    def end(self, ended_by: str, kind: str | None = None, entity: str | None = None) -> list[Ended]:
        """End the episodes of a kind, of an entity (`*`: of fleets), or both; return them."""
        out = []
        for key, sent in list(self._sent.items()):
            if kind in (None, key.kind) and entity in (None, key.entity):
                out.append(Ended(key, sent, ended_by, suppressed=False, suppressed_by=None))
                del self._sent[key]
        for key, (suppressed, by) in list(self._suppressed.items()):
            if kind in (None, key.kind) and entity in (None, key.entity):
                out.append(Ended(key, suppressed, ended_by, suppressed=True, suppressed_by=by))
                del self._suppressed[key]
        return out

    def dump(self) -> dict[str, list[Any]]:
        """Return all of it as JSON has it."""
        return {
            "sent": [[*key, *started] for key, started in sorted(self._sent.items())],
            "suppressed": [[*key, *started, by] for key, (started, by) in sorted(self._suppressed.items())],
        }

    def load(self, content: dict[str, list[Any]]) -> None:
        """Load what `dump` returned."""
        self._sent = {EpisodeKey(*row[:3]): _started(row[3:]) for row in content["sent"]}
        self._suppressed = {EpisodeKey(*row[:3]): (_started(row[3:6]), row[6]) for row in content["suppressed"]}


def load_ended(rows: list[list[Any]]) -> list[Ended]:
    """Return the episodes that `Ended.to_json` returned."""
    return [Ended(EpisodeKey(*row[:3]), _started(row[3:6]), *row[6:]) for row in rows]


def _started(row: list[Any]) -> Started:
    name, since, (shard, source) = row
    return Started(name, since, (shard, source))


def _unique(alert: Alert, numbers: Counter[tuple[int, str, str]]) -> str:
    """Return the suffix of an alert, no other's of its event and kind. numbers: of those before, by suffix"""
    suffix, place = alert.suffix, (alert.row, alert.message["kind"])
    numbers[*place, suffix] += 1
    count = numbers[*place, suffix]
    if suffix == OTHER:
        return f"-{count}"
    if count == 1:
        return suffix
    if suffix == FLEET:
        return f"{FLEET}-{count}"
    numbers[*place, OTHER] += 1  # an event may bring the targets of several predictions
    return f"-{numbers[*place, OTHER]}"
