"""Ends that no judged event of the entity brings: it stands still, its TTL is over, it was evicted or reset.

An entity's episode ends at the event at which the watermark of its source shows that its TTL is over, whether or not an
event of the entity, a snapshot or nothing at all follows: no batch, restart or snapshot changes where. What ends an
episode between two events (`state reset`, a detector that is switched off) is sent at the next event of its source.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import FLEET, KINDS, OTHER, STOPPED
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.entity_limiter import CLOCK_STEPS_PER_TTL
from ssm_stream.engine.entity_store import EntityStore, ResetEntity
from ssm_stream.engine.episodes.ids import Ended, OpenEpisode
from ssm_stream.engine.kernel_params import ttl_ms
from ssm_stream.engine.rules.messages import ended_message, episode_kind, rule_message, split_kind

Key = tuple[str, str]
"""Entity, and kind (`episode_kind`)."""


class Batch(NamedTuple):
    """The events of a batch.

    ts: (n,) ms; source: that they come from; watermark: before it, ms, NaN at the first
    idle: (n,) events that do not move the watermark; offsets: (n,) of the source, None: they have none
    entity: (n,) names; stopped: (n,) as of `Events`, None: nobody stands still
    """

    ts: NDArray[np.int64] | list[int]
    source: int
    watermark: float
    idle: NDArray[np.bool_] | None = None
    offsets: Sequence[int] | None = None
    entity: Sequence[str] = ()
    stopped: NDArray[np.int8] | None = None


class Endings:
    """Ends the open episodes of entities that stop, expire or are evicted.

    Args:
        stores: the state of each target, and for the alerts of rules, after those of the targets, that of the first
        end: ends an episode by its entity and kind: of a target, or of a rule
        stands: whether the last event of an entity, in the batches so far, was idle
    """

    def __init__(
        self,
        config: Config,
        stores: Sequence[EntityStore],
        end: Callable[[EntityStore, str, str], None],
        stands: Callable[[str], bool],
    ) -> None:
        self._stands = stands
        self._config, self._stores, self._end, self._ttl = config, stores, end, ttl_ms(config)
        self._open: list[dict[Key, OpenEpisode]] = [{} for _ in stores]
        self._due: list[dict[int, float]] = [{} for _ in stores]
        """Of each target: source → watermark, ms, up to which no entity with an open episode can be past its TTL."""

    def is_idle(self, batch: Batch) -> bool:
        """Return whether nothing ends in a batch that has no alerts."""
        if batch.stopped is not None and any(self._open) and batch.stopped.any():
            return False
        for store, due in zip(self._stores, self._due, strict=True):
            if store.reset_entities or _is_due(store, due, batch.source):
                return False
        return True

    def update(self, alerts: Sequence[list[Alert]], batch: Batch | None) -> Sequence[list[Alert]]:
        """Return the alerts of each target with those of the episodes that end otherwise, in the order of their events.

        batch: None for labels, which move no watermark
        """
        marks = None if batch is None else _Watermarks(batch, self._ttl)
        return [self._update(j, own, marks, _StoppedRows(batch)) for j, own in enumerate(alerts)]

    def _update(self, target: int, alerts: list[Alert], marks: _Watermarks | None, stops: _StoppedRows) -> list[Alert]:
        store, open_, due = self._stores[target], self._open[target], self._due[target]
        left, ended, new = sorted(store.reset_entities, reverse=True), list[Alert](), set[Key]()
        for alert in alerts:
            while left and left[-1].row <= alert.row:
                ended += self._reset(open_, left.pop(), marks, stops)
            message = alert.message
            key = (message["entity"], episode_kind(message))
            if key in open_ and (row := stops.first(key, alert.row)) is not None:
                ended.append(self._stop(open_, key, row, stops))
            if message["phase"] == "recovered":
                open_.pop(key, None)
            elif key not in open_:
                open_[key] = OpenEpisode(_pool_of(alert, store), message["since"])
                stops.begun[key] = alert.row
                new.add(key)
        while left:
            ended += self._reset(open_, left.pop(), marks, stops)
        if math.isfinite(self._ttl) and open_:
            for key in new & open_.keys():
                source, at = open_[key].pool[1], self._due_at(store, key[0])
                due[source] = min(due.get(source, math.inf), at)
            if marks is not None and _is_due(store, due, marks.source):
                ended += self._expire(store, open_, marks, stops)
                mine = (entity for (entity, _), each in open_.items() if each.pool[1] == marks.source)
                due[marks.source] = min((self._due_at(store, each) for each in mine), default=math.inf)
        for key in list(open_) if stops.any else ():
            if (row := stops.first(key)) is not None:
                ended.append(self._stop(open_, key, row, stops))
                if self._stands(key[0]):  # else its next event has come, before which the core ended it
                    self._end(store, key[1], key[0])
        if not ended:
            return alerts
        ended.sort(key=lambda each: (each.row, each.message["entity"], each.message["kind"]))
        return sorted([*ended, *alerts], key=lambda each: each.row)

    def _due_at(self, store: EntityStore, entity: str) -> float:
        """Return the watermark, ms, at which an entity is past its TTL; ∞ if it was never labelled."""
        labelled_at = store.labelled_at(entity)
        return labelled_at + self._ttl if math.isfinite(labelled_at) else math.inf

    def _stop(self, open_: dict[Key, OpenEpisode], key: Key, row: int, stops: _StoppedRows) -> Alert:
        """End an episode at an event by which its entity has stood still for long enough."""
        return self._alert(row, *key, open_.pop(key), STOPPED, stops.ts(row))

    def _reset(
        self, open_: dict[Key, OpenEpisode], reset: ResetEntity, marks: _Watermarks | None, stops: _StoppedRows
    ) -> list[Alert]:
        """End the episodes of an entity that started afresh at an event: its TTL was over then or before, or it was
        evicted."""
        assert marks is not None, "labels reset no entity"
        ended = []
        for kind in [kind for entity, kind in open_ if entity == reset.entity]:
            # One that was never labelled has no TTL: it was evicted, which is the same wherever the batch begins.
            row = marks.first_past(reset.labelled_at) if math.isfinite(reset.labelled_at) else None
            at, reason = (reset.row, "reset") if row is None or row > reset.row else (row, "ttl")
            stopped = stops.first((reset.entity, kind), at - 1)
            at, reason = (at, reason) if stopped is None else (stopped, STOPPED)
            ended.append(self._alert(at, reset.entity, kind, open_.pop((reset.entity, kind)), reason, marks.ts(at)))
        return ended

    def _expire(
        self, store: EntityStore, open_: dict[Key, OpenEpisode], marks: _Watermarks, stops: _StoppedRows
    ) -> list[Alert]:
        """End the episodes of entities whose TTL the batch's watermark has passed, though no event of theirs came."""
        source, ended = marks.source, list[Alert]()
        last = store.watermark(source)
        for (entity, kind), episode in list(open_.items()):
            labelled_at = store.labelled_at(entity)
            # One that was never labelled has no TTL; of the model's alerts it has none.
            if episode.pool[1] == source and math.isfinite(labelled_at) and last - labelled_at > self._ttl:
                row = marks.first_past(labelled_at)
                assert row is not None
                stopped = stops.first((entity, kind), row - 1)
                row, reason = (row, "ttl") if stopped is None else (stopped, STOPPED)
                del open_[entity, kind]
                self._end(store, kind, entity)
                ended.append(self._alert(row, entity, kind, episode, reason, marks.ts(row)))
        return ended

    def _alert(self, row: int, entity: str, kind: str, episode: OpenEpisode, ended_by: str, ts: int) -> Alert:
        message = ending(self._config, entity, kind, episode.since, ts, ended_by)
        return Alert(row, message, episode.pool, suffix=OTHER)

    def remove(self, kind: str, entity: str | None = None) -> None:
        """Remove the episodes of a kind: of one entity, or of all."""
        for open_ in self._open:
            for key in [key for key in open_ if key[1] == kind and entity in (None, key[0])]:
                del open_[key]

    def leave(self, target: int, kind: str, entity: str) -> None:
        """Remove the episode of an entity of one target. target: its place"""
        self._open[target].pop((entity, kind), None)

    def dump(self) -> list[list[Any]]:
        """Return the open episodes of each target as JSON has them, sorted."""
        return [[[*key, *each] for key, each in sorted(open_.items())] for open_ in self._open]

    def load(self, rows: list[list[Any]]) -> None:
        """Load what `dump` returned."""
        for open_, mine in zip(self._open, rows, strict=True):
            open_.update(
                {(entity, kind): OpenEpisode((shard, source), since) for entity, kind, (shard, source), since in mine}
            )
        self._due = [dict.fromkeys((each.pool[1] for each in open_.values()), -math.inf) for open_ in self._open]


def _pool_of(alert: Alert, store: EntityStore) -> tuple[int, int]:
    """Return the pool of an alert with a source that has events: labels that find theirs may come by any other."""
    shard, source = alert.pool
    return shard, source if source in store.sources else min(store.sources, default=source)


def _is_due(store: EntityStore, due: dict[int, float], source: int) -> bool:
    """Return whether an entity may be past its TTL. The bound is not rounded as in the core: it is 1 ms lower."""
    return source in due and store.watermark(source) >= due[source] - 1.0


class _StoppedRows:
    """The events of a batch by which an entity has stood still for long enough to end its episodes.

    begun: key of an episode → event of the batch at which it began, of those that began in it
    """

    def __init__(self, batch: Batch | None) -> None:
        self._batch = batch
        self._stopped = None if batch is None else batch.stopped
        self.any = self._stopped is not None and bool(self._stopped.any())
        self.begun: dict[Key, int] = {}
        self._by_entity: dict[str, list[int]] | None = None

    def ts(self, row: int) -> int:
        """Return the time of an event, ms."""
        assert self._batch is not None
        return int(self._batch.ts[row])

    def first(self, key: Key, last: int | None = None) -> int | None:
        """Return the first event after an episode began that ends it, up to `last`; None if none does."""
        if not self.any or key[1] not in KINDS:
            return None
        assert self._stopped is not None
        kind, rows = KINDS.index(key[1]), self._rows().get(key[0], [])
        later = rows[bisect_right(rows, self.begun.get(key, -1)) :]
        found = next((row for row in later if self._stopped[row] >> kind & 1), None)
        return None if found is None or (last is not None and found > last) else found

    def _rows(self) -> dict[str, list[int]]:
        """Return these events by entity, found once: a fleet may have many open episodes, and stand still by night."""
        if self._by_entity is None:
            assert self._batch is not None
            assert self._stopped is not None
            self._by_entity = {}
            for row in np.flatnonzero(self._stopped).tolist():
                self._by_entity.setdefault(self._batch.entity[row], []).append(row)
        return self._by_entity


class _Watermarks:
    """The watermark after each event of a batch, computed when it is first needed."""

    def __init__(self, batch: Batch, ttl: float) -> None:
        self._batch, self._ttl = batch, ttl
        self._marks: NDArray[np.float64] | None = None
        self.source = batch.source

    def ts(self, row: int) -> int:
        """Return the time of an event, ms."""
        return int(self._batch.ts[row])

    def first_past(self, labelled_at: float) -> int | None:
        """Return the first event at which an entity last labelled at that time, ms, is past its TTL; None if none."""
        if self._marks is None:
            self._marks = self._compute()
        past = self._marks - labelled_at > self._ttl
        row = int(np.argmax(past)) if len(past) else 0
        return row if len(past) and past[row] else None

    def _compute(self) -> NDArray[np.float64]:
        """Return the watermarks, as the core's `moved_mark` rounds them."""
        mark, step, out = self._batch.watermark, self._ttl / CLOCK_STEPS_PER_TTL, []
        idle = [False] * len(self._batch.ts) if self._batch.idle is None else self._batch.idle.tolist()
        for ts, stays in zip(np.asarray(self._batch.ts).tolist(), idle, strict=True):
            time = mark if stays else float(ts)
            mark = time if math.isnan(mark) else mark + min(max(time - mark, 0.0), step)
            out.append(mark)
        return np.array(out)


def ending(config: Config, entity: str, kind: str, since: int, ts: int, ended_by: str) -> dict[str, Any]:
    """Return the message of an episode that no event of its entity ends: what belongs to such an event is null.

    since, ts: of the episode's first event, and of the event at which it is sent, ms
    """
    if kind not in KINDS:
        message = rule_message(config, *split_kind(kind), entity, since, ts)
    else:
        budgets = {"anomaly": config.alerts.anomaly.budget, "drift": config.alerts.drift.budget}
        message = ended_message(config, entity, kind, since, ts, budgets[kind].text)
    return message | {"ended_by": ended_by}


def ending_later(config: Config, ended: Ended, ts: int) -> Alert:
    """Return the alert of an episode that ended between two events. ts: of the event at which it is sent, ms"""
    key, started = ended.key, ended.started
    message = ending(config, key.entity, key.kind, started.since, ts, ended.ended_by) | {"episode": started.id}
    if len(config.event.targets) > 1:
        message |= {"target": None, "targets": []}
    if key.scope == "fleet":
        message |= {"scope": "fleet", "pool": key.pool, "count": 0, "entities": []}
    suffix = FLEET if key.scope == "fleet" else OTHER
    if not ended.suppressed:
        return Alert(0, message, started.pool, suffix=suffix)
    by = ended.suppressed_by
    return Alert(0, message | {"suppressed_by": by}, started.pool, suffix=suffix, suppressed_by=by or "")
