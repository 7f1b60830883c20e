"""The engine of one target: events in, predictions and alerts out, state inside. No Kafka, no Bytewax.

`TargetEngine.process` predicts each event from its entity's state, judges the error, then learns, one event after
another in the order given. Entities of one shard and one source learn together (a pool). What an entity is told depends
on the events of its pool in their order only: cutting the stream into other batches or processes changes no bit.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream import growth, loop
from ssm_stream.config import MOST_PENDING, Budget, Config
from ssm_stream.events import Events, places
from ssm_stream.growth import arrays_of, named
from ssm_stream.labels import Early, EarlyLabels, Labels, Unmatched
from ssm_stream.loop import Late, Predictions, Rules, Settled
from ssm_stream.model import kernel, pending, shapes, weights
from ssm_stream.model.features import FeaturePlan, calendar_columns
from ssm_stream.moment import Layout, Moments
from ssm_stream.monitor import detect, interval, levels, lifecycle, novelty
from ssm_stream.state import Part, Reader, StateError, text_part, unlike
from ssm_stream.telling import Alert, Codes, Report, Teller, input_names

SLOT_STEP = 8  # slots for codes are added so many at a time
FIRST_PLACES = 16  # of an entity's ring of events that wait for their targets
DAY = 86_400_000.0
TOGETHER = 16
"""Reports of the kernel that are looked at in one go, while the caches are warm for that."""
SWITCHED = ("detector.", "novelty.", "levels.")
"""Arrays that are there only where alerts need them: zeros are a new entity's, whatever the learner knows."""


def shard_of(entity: str, shards: int) -> int:
    """The shard that an entity belongs to, the same in every process (Python's own hash is not)."""
    return zlib.crc32(entity.encode()) % shards


def _ascending(rows: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Rows of `count`, as a snapshot names them."""
    if rows.dtype != np.int64 or rows.ndim != 1 or (np.diff(rows, prepend=-1, append=count) <= 0).any():
        raise StateError("the snapshot is damaged: it names rows that are not there")
    return rows


class Labelled(NamedTuple):
    """What n labels did. matched (n,): an event waited for it; alerts: `row` is the label's; settled: those matched."""

    matched: NDArray[np.bool_]
    alerts: list[Alert]
    settled: Settled


def _late(config: Config) -> Late | None:
    """The rules for targets that come after their predictions; None where each comes with its event."""
    labels, horizon = config.labels, config.model.horizon
    if labels is not None:
        return Late(True, labels.id is not None, labels.wait * 1000.0, labels.pending, config.model.fleet, 0, 0.0, 0.0)
    if horizon.events or horizon.seconds:
        most = MOST_PENDING if horizon.seconds else horizon.events
        ahead = horizon.seconds * 1000.0
        return Late(False, False, DAY, most, config.model.fleet, horizon.events, ahead, ahead / 2)
    return None


def _no_rows(n: int) -> Predictions:
    yhat, lower, upper, score, fleet = (np.empty(n) for _ in range(5))
    return Predictions(yhat, lower, upper, score, np.empty(n, np.bool_), np.empty(n, np.int64), fleet)


def _no_settled(m: int) -> Settled:
    item, ts, n = (np.empty(m, np.int64) for _ in range(3))
    y, yhat, lower, upper, score, fleet = (np.empty(m) for _ in range(6))
    return Settled(item, ts, y, yhat, lower, upper, score, np.empty(m, np.bool_), n, fleet)


LEARN = {"adapt": loop.ADAPT, "slow": loop.SLOW, "hold": loop.HOLD}


def _channels(config: Config) -> tuple[bool, bool, bool]:
    """Which of `loop.CHANNELS` look for anomalies; levels are of columns together, so that one is none.

    Where anomaly alerts are off, the score is the residual's, which needs no state beside the interval's.
    """
    if not config.alerts.anomaly.enabled:
        return True, False, False
    chosen = config.alerts.anomaly.channels
    return "residual" in chosen, "novelty" in chosen, "levels" in chosen and len(config.event.numbers) > 0


def _rules(config: Config) -> Rules:
    anomaly, drift = config.alerts.anomaly, config.alerts.drift

    def pair(budget: Budget) -> tuple[float, float]:
        return budget.events, budget.seconds

    return Rules(
        config.model.warmup,
        config.model.interval,
        config.state.ttl * 1000.0 if config.state.ttl else math.inf,
        anomaly.enabled,
        *pair(anomaly.budget),
        {"above": 1, "below": -1, "both": 0}[anomaly.direction],
        anomaly.min_deviation,
        anomaly.min_deviation_relative,
        drift.enabled,
        *pair(drift.budget),
        _channels(config),
        (LEARN[anomaly.learn], LEARN[drift.learn]),
        lifecycle.LifecycleRules(
            anomaly.consecutive,
            (anomaly.recover_after, 50),
            (anomaly.cooldown, drift.cooldown),
            config.alerts.ongoing_every,
        ),
    )


class Look(NamedTuple):
    """A prediction that was made to be looked at: the learner's arrays and scratch, and which rows are the event's."""

    params: shapes.LearnerParams
    learner: shapes.Learner
    scratch: shapes.Scratch
    pool: int
    row: int
    yhat: float


class View(NamedTuple):
    """An entity's row in the states, and the pools of its shard by source; where it learns alone, its own."""

    row: int
    state: loop.EntityStates
    pools: dict[int, int]


class TargetEngine:
    """Predicts, judges and learns one target of the events of many entities.

    config: with one target; see `ssm_stream.engine` for several

    >>> from ssm_stream.config import parse_config
    >>> config = parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: machine, timestamp: ts, features: [load], target: temp}
    ... ''')
    >>> engine = TargetEngine(config)
    >>> from ssm_stream.events import EventReader
    >>> rows = [{"machine": "press-1", "ts": 60 * i, "load": i % 5, "temp": 20 + 3 * (i % 5)} for i in range(300)]
    >>> events, refused = EventReader(config.event).read(rows)
    >>> predictions, alerts = engine.process(events)
    >>> bool(abs(predictions.yhat[-1] - events.target[-1]) < 0.5), refused
    (True, [])
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        event, model = config.event, config.model
        calendar = ("auto",) if event.calendar == "auto" else tuple(event.calendar)
        self.plan = FeaturePlan(
            tuple(event.numbers),
            tuple(event.categories),
            calendar,
            event.lags,
            event.changes,
            event.time_zone,
            event.feature_lags,
        )
        self.weights = weights.load(model.weights)
        self.params = self._params(0)
        self.rules = _rules(config)
        self.names: list[str] = []
        self._slots: dict[str, int] = {}
        self._sources: dict[int, int] = {}
        self._marks = np.full(1, np.nan)
        self._pools: dict[tuple[int, int], int] = {}
        self._shards = np.zeros(0, np.int64)
        self._state = self._fresh(0)
        self._shared = self._fresh_pools(0, 0)
        self._scratch = shapes.new_scratch(self.params)
        self._told = self._fresh_told()
        self._moments: Moments | None = None
        self._teller = Teller(config, self.plan)
        self.settled = _no_settled(0)
        """The predictions that met their targets in the last `process` or `learn`, where targets come late."""
        self.expired: list[tuple[int, str]] = []
        """Row and entity of those that started afresh in the last `process`, as they were past their TTL."""
        self._heard: list[float] = []  # of each of them: when it had last been labelled
        self.evicted = 0
        """Entities forgotten so far: past their TTL, or to make room."""
        # What `save` has yet to tell: rows that are no longer as they were told, those told of at all, and whether
        # the arrays themselves have changed since then.
        self._changed, self._pools_changed = np.zeros(0, np.bool_), np.zeros(0, np.bool_)
        self._told_of, self._reshaped = 0, True
        self._free: list[int] = []  # rows that were left for others
        self._renamed: dict[int, str] = {}  # of those told of: rows that were left and taken again
        self._late = _late(config)
        if self._late is not None:
            late = self._late
            self._pending = pending.new_pending(self.params, 0, min(FIRST_PLACES, late.most))
            self._room = pending.new_room(self.params)
            self._tally, self._todo = np.zeros(3, np.int64), np.zeros(4, np.int64)
            self._early = EarlyLabels(late.wait, late.most, by_id=late.by_id)

    def __len__(self) -> int:
        """Entities in memory."""
        return len(self.names)

    def __contains__(self, entity: object) -> bool:
        """Is that entity in memory?"""
        return entity in self._slots

    def _params(self, K: int) -> shapes.LearnerParams:
        model = self.config.model
        names = model.heads or ["moments", "proximal", "embedding", "fern"]
        if model.heads is None and model.profile == "accurate":
            names = [*names, "attention"]
        heads = shapes.Heads(
            "moments" in names, "proximal" in names, "embedding" in names, "fern" in names,
            model.window if "attention" in names else 0, "gd" in names, model.log_space, model.gate == "learned",
        )  # fmt: skip
        lives = model.half_lives
        half_lives = None if lives is None else tuple((life.events, life.seconds) for life in lives)
        return shapes.learner_params(self.plan, self.weights, heads, half_lives, K)

    def _fresh(self, E: int) -> loop.EntityStates:
        _, looks, moves = _channels(self.config)
        return loop.EntityStates(
            shapes.new_entities(self.params, E),
            interval.new_interval_state(E),
            detect.new_detector_state(E if self.config.alerts.drift.enabled else 0),
            novelty.new_novelty_state(E if looks else 0),
            levels.new_levels_state(E if moves else 0, self.params.features + 1),
            lifecycle.new_lifecycle_state(E),
            loop.Clock(np.zeros((E, 4))),
            loop.Reference(np.zeros((E, self.params.L), np.float32)),
        )

    def _fresh_pools(self, P: int, norms: int) -> loop.PoolStates:
        p = self.params
        return loop.PoolStates(shapes.new_pools(p, P), shapes.new_heads(p, P, p.L), shapes.new_heads(p, norms, p.N))

    def _fresh_told(self) -> loop.Reported:
        return loop.Reported(np.zeros(4, np.int64), np.zeros((2, 3)), np.zeros(self.params.L, np.float32))

    @property
    def bytes_per_entity(self) -> int:
        """Memory of one entity's own state."""
        return sum(array.nbytes for array in arrays_of(self._fresh(1)))

    @property
    def bytes_per_pool(self) -> int:
        """Memory of what the entities of one shard and source have learned together."""
        return sum(array.nbytes // max(len(array), 1) for array in arrays_of(self._shared))

    def process(
        self, events: Events, source: int = 0, leaving: Sequence[tuple[int, str]] = ()
    ) -> tuple[Predictions, list[Alert]]:
        """Predict, judge and learn, in order.

        Args:
            events: n events
            source: the stream that they come from (the Kafka partition); each has a watermark of its own
            leaving: row and name of entities that are forgotten there to make room, and have no event before it

        Returns:
            n predictions, and the alerts in the order of their events, yet to be put `in_words`
        """
        self.expired, self._heard = [], []
        self._leave(leaving)
        # A column of a table has steps between its numbers, for which the kernels would be compiled once more.
        events = replace(events, target=np.ascontiguousarray(events.target), ts=np.ascontiguousarray(events.ts))
        if self._late is not None:
            return self._process_late(events, source)
        n = len(events)
        rows = self._rows(events.entity)
        pools = self._pools_of(rows, source)
        self._changed[rows], self._pools_changed[pools] = True, True
        u, steps = self._columns(events, events.ts)
        out = _no_rows(n)
        alerts, reports = list[Alert](), list[Report]()
        mark = self._mark(source)
        at = 0
        while at < n:
            at, why = loop.run(
                self.params, self._scratch, self._state, self._shared, self.rules, pools, rows, events.ts, u, steps,
                events.target, at, self._marks, mark, out, self._told,
            )  # fmt: skip
            if why == loop.REPORT:
                i = at - 1
                said = (float(events.target[i]), float(out.yhat[i]), float(out.lower[i]), float(out.upper[i]))
                row, pool = int(rows[i]), int(pools[i])
                reports.append(self._report(i, events.entity[i], int(events.ts[i]), said, row, pool, source))
                if len(reports) == TOGETHER:
                    alerts += self._tell(reports)
            elif why != loop.DONE:
                self._make_room(why, at, int(rows[at]), int(pools[at]))
        return out, alerts + self._tell(reports)

    def hold(self, entities: Sequence[str]) -> None:
        """From now on nothing is learned of these entities; see `Engine.hold`.

        An anomaly episode that no rule ends holds learning: the kernel knows no other word for it.
        """
        anomaly = self.config.alerts.anomaly
        assert not anomaly.enabled, "with anomaly alerts the episode would end"
        assert anomaly.learn == "hold"
        rows = self._rows(list(entities))
        self._state.lifecycle.number[rows, lifecycle.ANOMALY, lifecycle.OPEN] = 1.0
        self._changed[rows] = True

    def look(self, events: Events, source: int = 0) -> Look:
        """Predict the first of the events, and change nothing.

        Raises:
            KeyError: the engine has not met the entity, or not from that source.
        """
        row = self._slots[events.entity[0]]
        pool = row if not self.config.model.fleet else self._pools[int(self._shards[row]), source]
        ahead = events.ts + round(self._late.ahead) if self._late is not None else events.ts
        u, steps = self._columns(events, ahead)
        learner = shapes.Learner(self._state.learner, *self._shared)
        yhat = kernel.predict_one(self.params, learner, self._scratch, pool, row, u[0], steps[0], float(events.ts[0]))
        return Look(self.params, learner, self._scratch, pool, row, float(yhat))

    def view(self, entity: str) -> View | None:
        """Where what is known of an entity lies, to be read; None where it is not here."""
        row = self._slots.get(entity)
        if row is None:
            return None
        if not self.config.model.fleet:
            return View(row, self._state, {0: row})
        shard = int(self._shards[row])
        return View(row, self._state, {source: pool for (home, source), pool in self._pools.items() if home == shard})

    def _columns(self, events: Events, ts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Columns (n, C) and steps (n, 2) of events with the calendar of these times."""
        cycles, steps = calendar_columns(self.plan, ts)
        return np.ascontiguousarray(np.hstack([events.features, cycles]) if cycles.shape[1] else events.features), steps

    def _make_room(self, why: int, at: int, row: int, pool: int) -> None:
        """What the kernel asked for before it can go on with event `at`, of that entity and pool."""
        if why == loop.EXPIRED:
            self.evicted += 1
            self.expired.append((at, self.names[row]))
            self._heard.append(self._labelled_at(row))
            self._clear(row)
        elif why == loop.MORE_SLOTS:
            self._widen(int(self._shared.pool.used[pool] + self._scratch.flag[shapes.FRESH]))
        elif why == loop.SECOND_ENTITY:
            self._resize_pools(len(self._shared.pool.n), norm=True)
            self._reshaped = True

    def _process_late(self, events: Events, source: int) -> tuple[Predictions, list[Alert]]:
        late = self._late
        assert late is not None
        target = events.target
        if len(self._early):
            last = {}
            for name in self._early.entities():
                row = self._slots.get(name)
                if row is not None and self._state.clock.number[row, loop.GAPS] > 0:
                    last[name] = int(self._state.clock.number[row, loop.LAST])
            target = self._early.meet(events, last)
        rows = self._rows(events.entity)
        pools = self._pools_of(rows, source)
        # A target teaches the pool that its event came to, which may have been another.
        self._changed[rows], self._pools_changed[:] = True, True
        ahead = events.ts + round(late.ahead)
        u, steps = self._columns(events, ahead)
        own = steps if not late.ahead else calendar_columns(self.plan, events.ts)[1]
        key = np.zeros(len(events), np.int64) if events.key is None else events.key
        out = _no_rows(len(events))
        alerts, self.settled = self._run_late(
            events.entity, pools, rows, events.ts, u, steps, own, target, key, self._mark(source), out, predicting=True
        )
        out.score[self.settled.item] = self.settled.score
        return out, alerts

    def learn(self, labels: Labels, source: int = 0) -> Labelled:
        """Learn targets that come by themselves; only where the configuration has `labels`.

        A label whose event is still to come waits for it. Those that find no event, now or later: `take_unmatched`.

        Args:
            labels: n labels
            source: the stream that they come from (the Kafka partition)
        """
        late = self._late
        assert late is not None
        assert late.labels, "labels come by themselves where the configuration has a section `labels`"
        self.expired, self._heard = [], []
        n = len(labels)
        slots = self._slots
        found = np.array([slots.get(name, -1) for name in labels.entity], np.int64)
        known = np.flatnonzero(found >= 0)
        rows = found[known]
        self._changed[rows], self._pools_changed[:] = True, True
        columns, steps = np.empty((len(known), 0)), np.zeros((len(known), 2), np.int64)
        alerts, settled = self._run_late(
            [labels.entity[i] for i in known.tolist()], rows, rows, labels.ts[known], columns, steps, steps,
            labels.target[known], labels.key[known], 0, _no_rows(0), predicting=False,
        )  # fmt: skip
        self.settled = settled = settled._replace(item=known[settled.item])
        alerts = [alert._replace(row=int(known[alert.row])) for alert in alerts]
        matched = np.zeros(n, np.bool_)
        matched[settled.item] = True
        for i in np.flatnonzero(~matched).tolist():
            self._keep(labels, i, int(found[i]), source)
        return Labelled(matched, alerts, settled)

    def _keep(self, labels: Labels, i: int, row: int, source: int) -> None:
        """Label i has found no event: it waits for one that may come, or is given up."""
        name, ts = labels.entity[i], int(labels.ts[i])
        clock = self._state.clock.number[row] if row >= 0 else np.zeros(4)
        last = int(clock[loop.LAST]) if clock[loop.GAPS] > 0 else None
        raw = None if labels.raw is None else labels.raw[i]
        label = Early(
            ts, int(labels.key[i]), float(labels.target[i]), last if self._early.by_id else ts, source,
            int(labels.position[i]), raw,
        )  # fmt: skip
        if not self._early.by_id and last is not None and ts <= last:
            self._early.refuse(
                name, label,
                f"no event of {name!r} at {ts} ms waits for a label: there was none, it is labelled already, or it was "
                "dropped (labels.wait, labels.pending)", i,
            )  # fmt: skip
        else:
            self._early.add(name, label, i)

    def take_unmatched(self) -> list[Unmatched]:
        """The labels given up since the last call, in order."""
        if self._late is None:
            return []
        out, self._early.unmatched = self._early.unmatched, []
        self._tally[loop.MISSED] += len(out)
        return out

    def place_unmatched(self, first: int, rows: NDArray[np.intp]) -> None:
        """The labels given up since there were `first`: their rows are places in `rows`."""
        if self._late is not None:
            given_up = self._early.unmatched
            given_up[first:] = [label._replace(row=int(rows[label.row])) for label in given_up[first:]]

    @property
    def unmatched(self) -> int:
        """Labels given up since the last `take_unmatched`."""
        return 0 if self._late is None else len(self._early.unmatched)

    @property
    def late(self) -> bool:
        """Whether targets come after their events."""
        return self._late is not None

    def open_episodes(self, kind: str) -> int:
        """Entities with an open episode of a kind (`lifecycle.KINDS`); may be asked from another thread."""
        number = self._state.lifecycle.number
        return int(np.count_nonzero(number[: len(self.names), lifecycle.KINDS.index(kind), lifecycle.OPEN]))

    @property
    def late_counts(self) -> dict[str, int]:
        """Of events whose targets come late: `waiting`, `matched`, `dropped` (waited too long, too many or evicted).

        `unmatched`: labels without an event, or with a horizon, predictions whose time came without a target.
        `early`: labels that wait for their events.
        """
        if self._late is None:
            return {}
        matched, dropped, missed = self._tally.tolist()
        return {
            "waiting": int(self._pending.open.sum()),
            "matched": matched,
            "dropped": dropped,
            "unmatched": missed + len(self._early.unmatched),
            "early": len(self._early),
        }

    def _run_late(
        self, names: list[str], pools: NDArray[np.int64], rows: NDArray[np.int64], ts: NDArray[np.int64],
        u: NDArray[np.float64], steps: NDArray[np.int64], own: NDArray[np.int64], y: NDArray[np.float64],
        key: NDArray[np.int64], mark: int, out: Predictions, *, predicting: bool,
    ) -> tuple[list[Alert], Settled]:  # fmt: skip
        """Events or labels through the kernel: alerts, and the predictions that met their targets."""
        assert self._late is not None
        alerts, reports = list[Alert](), list[Report]()
        parts: list[Any] = []
        room = _no_settled(max(len(y), 16))
        at, self._todo[:] = 0, 0
        while at < len(y):
            at, why = loop.run_late(
                self.params, self._scratch, self._pending, self._room, self._state, self._shared, self.rules,
                self._late, pools, rows, ts, u, steps, own, y, key, at, self._marks, mark, out, room, self._told,
                self._todo, self._tally, predicting,
            )  # fmt: skip
            done = int(self._todo[loop.ROWS])
            if why == loop.REPORT:
                i, row = int(room.item[done - 1]), done - 1
                said = (float(room.y[row]), float(room.yhat[row]), float(room.lower[row]), float(room.upper[row]))
                pool = int(self._todo[loop.POOL])
                source = list(self._pools)[pool][1] if self.config.model.fleet else 0
                reports.append(self._report(i, names[i], int(room.ts[row]), said, int(rows[i]), pool, source))
                if len(reports) == TOGETHER:
                    alerts += self._tell(reports)
            elif why == loop.MORE_PLACES:
                places = self._pending.open.shape[1]
                self._place(len(self._state.clock.number), min(2 * places, self._late.most))
            elif why == loop.MORE_ROWS:
                parts.append([column[:done].copy() for column in room])
                self._todo[loop.ROWS] = 0
            elif why != loop.DONE:
                self._make_room(why, at, int(rows[at]), int(self._todo[loop.POOL]))
        done = int(self._todo[loop.ROWS])
        parts.append([column[:done] for column in room])
        return alerts + self._tell(reports), Settled(*map(np.concatenate, zip(*parts, strict=True)))

    def _place(self, E: int, H: int) -> None:
        """Rings of H places for E entities."""
        q, one = self._pending, pending.new_pending(self.params, 1, H)
        if q.open.shape[1] == H:
            self._pending = growth.fit_group(q, one, E, len(self.names))
        else:
            self._pending = pending.resized(q, type(q)(*(growth.zeros(E, array) for array in one)))

    def _leave(self, leaving: Sequence[tuple[int, str]]) -> None:
        """Forget entities; `_rows` gives their rows to those that have come instead."""
        for at, name in leaving:
            slot = self._slots.pop(name, None)
            self.expired.append((at, name))
            self._heard.append(-math.inf if slot is None else self._labelled_at(slot))
            if slot is None:
                continue
            self.evicted += 1
            self._clear(slot)
            self._changed[slot] = True
            if not self.config.model.fleet:
                self._pools_changed[slot] = True
            self._free.append(slot)

    def _reuse(self, entities: list[str]) -> None:
        """Rows that were left to entities that have none; where there are too few, the rest is closed up."""
        new = [name for name in dict.fromkeys(entities) if name not in self._slots][: len(self._free)]
        for slot, name in zip(self._free, new, strict=False):
            self._rename(slot, name)
            if slot < self._told_of:
                self._renamed[slot] = name
        if len(new) < len(self._free):
            self._close(np.array(sorted(self._free[len(new) :]), np.int64))
            self._reshaped = True  # rows have moved, and nobody was told which
        self._free = []

    def _rename(self, slot: int, name: str) -> None:
        if self._slots.get(self.names[slot]) == slot:
            del self._slots[self.names[slot]]
        self.names[slot], self._slots[name] = name, slot
        shards = self.config.state.shards
        self._shards[slot] = shard_of(name, shards) if shards > 1 else 0

    def _rows(self, entities: list[str]) -> NDArray[np.int64]:
        if self._free:
            self._reuse(entities)
        rows = places(entities, self._slots)
        if len(self._slots) > len(self.names):
            self.names += islice(self._slots, len(self.names), None)
            self._grow(len(self.names))
        return rows

    def _grow(self, needed: int) -> None:
        """Room for so many entities, and their shards."""
        if needed > len(self._state.clock.number):
            self._resize(growth.room_for(needed))
        shards = self.config.state.shards
        known = len(self._shards)
        if needed > known:
            more = [shard_of(name, shards) if shards > 1 else 0 for name in self.names[known:needed]]
            self._shards = np.concatenate([self._shards, np.array(more, np.int64)])

    def _resize(self, E: int) -> None:
        self._state = growth.fit(self._state, self._fresh(1), E, len(self.names))
        self._changed = np.concatenate([self._changed, np.zeros(E, np.bool_)])[:E]
        if self._late is not None:
            self._place(E, self._pending.open.shape[1])
        if not self.config.model.fleet:
            self._resize_pools(E)

    def _resize_pools(self, P: int, *, norm: bool = False) -> None:
        """Room for so many pools. norm: for their norm scope too, as it is where there is some already."""
        norms = int(norm or len(self._shared.norm.near) > 0)
        used = len(self._pools) if self.config.model.fleet else len(self.names)
        self._shared = growth.fit(self._shared, self._fresh_pools(1, norms), P, used)
        self._pools_changed = np.concatenate([self._pools_changed, np.zeros(P, np.bool_)])[:P]

    def _widen(self, slots: int) -> None:
        """Room for so many codes."""
        K = min(-(-slots // SLOT_STEP) * SLOT_STEP, shapes.SLOTS)
        self.params = self._params(K)
        self._state = growth.fit(self._state, self._fresh(1), len(self._state.clock.number), len(self.names))
        self._resize_pools(len(self._shared.pool.n))
        self._scratch = shapes.new_scratch(self.params)
        self._told = self._fresh_told()
        self._reshaped = True

    def _pools_of(self, rows: NDArray[np.int64], source: int) -> NDArray[np.int64]:
        """The pool of each event: entities learn together within a shard and a source, whose order never changes."""
        if not self.config.model.fleet:
            return rows
        if self.config.state.shards == 1:
            return np.full(len(rows), self._pool(0, source)) if len(rows) else np.empty(0, np.int64)
        shards = self._shards[rows]
        out = np.empty(len(rows), np.int64)
        for shard in np.unique(shards).tolist():
            out[shards == shard] = self._pool(shard, source)
        return out

    def _pool(self, shard: int, source: int) -> int:
        """The pool of a shard and a source, made where there is none yet."""
        key = (shard, source)
        if key not in self._pools:
            self._pools[key] = len(self._pools)
            if len(self._pools) > len(self._shared.pool.n):
                self._resize_pools(growth.room_for(len(self._pools)))
        return self._pools[key]

    def _clear(self, row: int) -> None:
        """Start an entity afresh; its pool too, where that is its alone."""
        for array in (
            arrays_of(self._state) if self.config.model.fleet else arrays_of(self._state) + arrays_of(self._shared)
        ):
            if len(array):
                array[row] = 0
        if self._late is not None:
            self._tally[loop.DROPPED] += int(self._pending.open[row].sum())
            for array in self._pending:
                array[row] = 0

    def heard(self, entity: str, row: int) -> float:
        """Event time, ms, that an entity was last labelled at, where its TTL counts from: −∞ where it is not known.

        As of a row of the last batch; of one labelled again since then, without having started afresh, later.
        """
        for (at, name), before in zip(self.expired, self._heard, strict=True):
            if name == entity and at > row:
                return before
        slot = self._slots.get(entity)
        return -math.inf if slot is None else self._labelled_at(slot)

    def _labelled_at(self, row: int) -> float:
        clock = self._state.clock.number[row]
        return float(max(clock[loop.MARK], clock[loop.LAST])) if clock[loop.GAPS] > 0 else -math.inf

    def _mark(self, source: int) -> int:
        if source not in self._sources:
            self._sources[source] = len(self._sources)
            if len(self._sources) > len(self._marks):
                self._marks = np.concatenate([self._marks, np.full(len(self._marks), np.nan)])
        return self._sources[source]

    def _report(
        self, row: int, entity: str, ts: int, said: tuple[float, float, float, float], slot: int, pool: int, source: int
    ) -> Report:
        """What the kernel has just told of. said: target, prediction and the bounds of its interval"""
        told, moved = self._told, None
        if told.phase[0] != lifecycle.SILENT and told.phase[loop.CHANNEL] == loop.LEVELS_CHANNEL:
            moved = np.empty(2 * (self.params.features + 1))
            levels.causes(self._state.levels, slot, moved)
        mark = float(self._marks[self._sources[source]]) if self.config.model.fleet else 0.0
        home = int(self._shards[slot]), source
        return Report(row, entity, ts, *said, home, mark, *self._moment(slot, pool), moved)

    def _moment(self, row: int, pool: int | None) -> tuple[Layout, bytes, bytes]:
        """All that is known of an entity now, as `Layout.state_hash` takes it."""
        if self._moments is None or not self._moments.are_of(self._state, self._shared, self._scratch):
            self._moments = Moments(self.params, self._told, self._scratch, self._state, self._shared)
        waiting = b""
        if self._late is not None:
            records = pending.records(self._pending, np.array([row]))
            waiting = b"".join(array.tobytes() for name, array in records.items() if name != "row")
        return self._moments.layout, self._moments.take(row, pool), waiting

    def _tell(self, reports: list[Report]) -> list[Alert]:
        """The alerts of these reports, which are told of."""
        alerts = [alert for report in reports for alert in self._teller.alerts(report)]
        reports.clear()
        return alerts

    def input_names(self, pool: int = 0) -> list[str]:
        """Names of the implicit weights of a pool, the constant first, then the numbers, then the codes in use."""
        shared, codes = self._shared.pool, None
        if len(shared.used):
            codes = Codes(int(shared.used[pool]), *(getattr(shared, name)[pool] for name in Codes._fields[1:]))
        return input_names(self.plan, self.params, codes)

    def state_hash(self, entity: str, source: int = 0) -> str:
        """16 hex digits over all that the entity's next prediction depends on: its own state and its pool's.

        Args:
            entity: its name
            source: the stream that its events come from

        Raises:
            KeyError: no such entity.
        """
        row = self._slots[entity]
        pool = row if not self.config.model.fleet else self._pools.get((int(self._shards[row]), source))
        layout, content, waiting = self._moment(row, pool)
        return layout.state_hash(content, waiting)

    def evict(self) -> NDArray[np.int64]:
        """Drop entities past their TTL, or never labelled: each would start afresh anyway, so no result changes.

        Returns:
            their rows, ascending; the last of the others have taken their places (`growth.close`)
        """
        if not math.isfinite(self.rules.ttl) or not self.names:
            return np.zeros(0, np.int64)
        latest = np.nanmin(self._marks[: len(self._sources)]) if self._sources else math.nan
        seen = self._state.clock.number[: len(self.names)]
        expired = (seen[:, loop.GAPS] == 0) | (
            latest - np.maximum(seen[:, loop.MARK], seen[:, loop.LAST]) > self.rules.ttl
        )
        gone = np.flatnonzero(expired).astype(np.int64)
        self.evicted += len(gone)
        if self._late is not None:
            self._tally[loop.DROPPED] += int(self._pending.open[gone].sum())
        self._close(gone)
        return gone

    def _close(self, gone: NDArray[np.int64]) -> None:
        """Without these rows; their memory is given back."""
        if not len(gone):
            return
        count, own_pools = len(self.names), not self.config.model.fleet
        arrays = [*arrays_of(self._state), self._changed]
        if own_pools:
            arrays += [*arrays_of(self._shared), self._pools_changed]
        if self._late is not None:
            arrays += self._pending
        growth.close([*arrays, self._shards], count, gone)
        for row in gone.tolist():
            if self._slots.get(self.names[row]) == row:  # else it came back in another row
                del self._slots[self.names[row]]
        for row, last in zip(*(index.tolist() for index in growth.moves(count, gone)), strict=True):
            self.names[row] = self.names[last]
            self._slots[self.names[row]] = row
        left = count - len(gone)
        del self.names[left:]
        self._shards = self._shards[:left].copy()

    @property
    def share_changed(self) -> float:
        """Of the entities: that are not as the last `save` told them; 1 where the arrays have changed themselves."""
        if self._reshaped or not self.names:
            return 1.0
        return float(np.count_nonzero(self._changed)) / len(self.names)

    def save(self, *, whole: bool) -> tuple[dict[str, Any], list[Part]]:
        """The state as words and arrays, for `load`: all of it, or what has changed since this was `told`.

        Expired entities are dropped first.
        """
        assert whole or not self._reshaped, "what has changed since then is more than rows"
        added = self.names[self._told_of :]
        gone = self.evict()
        if whole and len(gone):
            self._reshaped = True  # rows have moved, and nobody was told which: see `told`
        used, fleet = len(self.names), self.config.model.fleet
        pools = len(self._pools) if fleet else used
        parts = [text_part("names", orjson.dumps(self.names if whole else added))]
        mine, theirs = np.arange(used), np.arange(pools)
        if not whole:
            mine = np.flatnonzero(self._changed[:used]).astype(np.int64)
            theirs = np.flatnonzero(self._pools_changed[:pools]).astype(np.int64)
            parts += [Part("gone", gone), Part("rows", mine), Part("pool_rows", theirs)]
        for name, array, chosen in self._kept(mine, theirs):
            parts.append(Part(name, array[: len(chosen)]) if whole else Part(name, array, (chosen,)))
        if self._late is not None:
            parts += self._save_late(mine)
        words = {
            "weights": weights.digest(self.weights),
            "marks": [[source, repr(float(self._marks[at]))] for source, at in sorted(self._sources.items())],
            "pools": list(self._pools),
            "slots": self.params.K,
            "norm": len(self._shared.norm.near) > 0,
        }
        if not whole and self._renamed:
            words["renamed"] = sorted(self._renamed.items())
        return words, parts

    def _kept(
        self, mine: NDArray[np.int64], theirs: NDArray[np.int64]
    ) -> Iterator[tuple[str, NDArray[Any], NDArray[np.int64]]]:
        """Name, array and chosen rows (of entities, of pools) of all that is switched on."""
        norm = int(len(self._shared.norm.near) > 0)
        for groups, one, chosen in (
            (self._state, self._fresh(1), mine),
            (self._shared, self._fresh_pools(1, norm), theirs),
        ):
            for (name, array), row in zip(named(groups), arrays_of(one), strict=True):
                if len(row):
                    yield name, array, chosen

    def told(self) -> None:
        """What `save` gave has been kept: the next one may tell what changes from now on."""
        self._changed[:] = self._pools_changed[:] = False
        self._told_of, self._reshaped, self._renamed = len(self.names), False, {}

    def _save_late(self, mine: NDArray[np.int64]) -> list[Part]:
        """What waits of these rows, without the room between: counts, then a row a record, oldest first."""
        q, H = self._pending, self._pending.open.shape[1]
        row, place = np.nonzero(q.open[mine])
        latest = q.met[mine][row] - 1
        index = latest - (latest - place) % H
        order = np.lexsort((index, row))
        row, index, at = row[order].astype(np.int64), index[order], (mine[row[order]], place[order])
        parts = [Part("late_rows", row), Part("late_index", index)]
        for i, (name, array) in enumerate(q._asdict().items()):
            parts.append(Part(name, array, (mine,) if i < pending.BY_ENTITY else at))
        return [*parts, Part("tally", self._tally), text_part("early", self._early.dump())]

    def load(self, words: dict[str, Any], reader: Reader, *, whole: bool, migrates: bool = False) -> None:
        """Take over what `save` gave: all of it, or what had changed since the state that is here.

        Args:
            migrates: it was made under settings that switch other detectors on

        Raises:
            StateError: damaged, or a state that other weights or another release made.
        """
        if words["weights"] != weights.digest(self.weights):
            raise StateError(
                "the state was made with other frozen weights: put model.weights back as it was (or use the release "
                "that wrote it), or start anew with another recovery.directory"
            )
        fleet, pools_before = self.config.model.fleet, len(self._pools)
        self._pools = {(shard, source): i for i, (shard, source) in enumerate(words["pools"])}
        added = orjson.loads(reader.read("names").tobytes())
        empty = np.zeros(0, np.int64)
        gone, mine, theirs = (empty, empty, empty) if whole else map(reader.read, ("gone", "rows", "pool_rows"))
        # Before there is room for what the names promise: it must be in the file, too.
        promised = reader.rows_of("clock.number") + len(gone), reader.rows_of("pool.n")
        more = len(self._pools) - (0 if whole else pools_before)
        if len(added) > promised[0] or (fleet and (more > promised[1] or len(self._pools) != len(words["pools"]))):
            raise unlike(f"{reader.prefix}names")
        if words["slots"] != self.params.K:
            self._widen(words["slots"])
        # First the rows that were left to others: who left one may have come again, to a new one.
        for slot, name in words.get("renamed", ()):
            self._rename(slot, name)
        self._slots |= {name: i for i, name in enumerate(added, len(self.names))}
        self.names += added
        if len(self._slots) != len(self.names):
            raise unlike(f"{reader.prefix}names")
        self._grow(len(self.names))
        self._close(_ascending(gone, len(self.names)))
        used = len(self.names)
        pools = len(self._pools) if fleet else used
        if pools > len(self._shared.pool.n):
            self._resize_pools(growth.room_for(pools))
        if words["norm"] and not len(self._shared.norm.near):
            self._resize_pools(len(self._shared.pool.n), norm=True)
        if whole:
            mine, theirs = np.arange(used), np.arange(pools)
        else:
            mine, theirs = _ascending(mine, used), _ascending(theirs, pools)
        self._load_kept(reader, mine, theirs, whole=whole, migrates=migrates)
        if self._late is not None:
            self._load_late(reader, mine)
        for source, value in words["marks"]:
            at = self._mark(source)  # may make `_marks` anew
            self._marks[at] = float(value)
        self.told()
        self._reshaped = migrates

    def _load_kept(
        self, reader: Reader, mine: NDArray[np.int64], theirs: NDArray[np.int64], *, whole: bool, migrates: bool
    ) -> None:
        """The arrays of these rows; a detector of which nothing is there begins anew, one that is off is left out."""
        kept = list(self._kept(mine, theirs))
        ours, there = {name for name, *_ in kept}, reader.names
        for name, array, chosen in kept:
            while migrates and there[0] not in ours and there[0].startswith(SWITCHED):
                reader.skip()
                there.pop(0)
            if migrates and there[0] != name and name.startswith(SWITCHED):
                continue
            reader.into(name, array[: len(chosen)] if whole else array, None if whole else (chosen,))
            there.pop(0)

    def end_episodes(self, kind: str, entity: str | None = None) -> None:
        """The episodes of a kind are over, without a word: of an entity, where it is here, or of all."""
        if entity is None or entity in self._slots:
            rows: slice | int = slice(None) if entity is None else self._slots[entity]
            self._state.lifecycle.number[rows, lifecycle.KINDS.index(kind)] = 0.0
            self._reshaped = True

    def forget(self, entity: str) -> None:
        """Drop an entity, where it is here; what it has taught its pool stays."""
        if entity in self._slots:
            row = np.array([self._slots[entity]])
            if self._late is not None:
                self._tally[loop.DROPPED] += int(self._pending.open[row].sum())
            self._close(row)
            self._reshaped = True
        if self._late is not None:
            self._early.forget(entity)

    def _load_late(self, reader: Reader, mine: NDArray[np.int64]) -> None:
        assert self._late is not None
        row, index = reader.read("late_rows"), reader.read("late_index")
        q = self._pending
        counts = q._fields[: pending.BY_ENTITY]
        for name in counts:
            reader.into(name, getattr(q, name), (mine,))
        q.open[mine] = 0
        span, places = int(np.max(q.met[mine][row] - index, initial=0)), q.open.shape[1]
        while places < min(span, self._late.most):
            places = min(2 * places, self._late.most)
        self._place(len(self._state.clock.number), places)
        at = (mine[row], index % places)
        for name in q._fields[pending.BY_ENTITY :]:
            reader.into(name, getattr(self._pending, name), at)
        reader.into("tally", self._tally)
        self._early = EarlyLabels(self._late.wait, self._late.most, by_id=self._late.by_id)
        self._early.load(reader.read("early").tobytes())
