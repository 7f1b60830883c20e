"""The engine of one target: events in, predictions and alerts out, state inside. No Kafka, no Bytewax.

`TargetEngine.process` predicts each event from its entity's state, judges the error, then learns, one event after
another in the order given. Entities of one shard and one source learn together (a pool). What an entity is told depends
on the events of its pool in their order only: cutting the stream into other batches or processes changes no bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.engine.alerts import Alert, AlertBuilder, Codes, Report, input_names
from ssm_stream.engine.entity_store import Store
from ssm_stream.engine.event_capture import Layout, Moments
from ssm_stream.engine.kernel_params import build_feature_plan, build_rules
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Early, Labels, Unmatched
from ssm_stream.kernels import frozen_weights, kernel, levels, lifecycle, loop, pending, shapes
from ssm_stream.kernels.features import FeaturePlan, calendar_columns
from ssm_stream.kernels.loop import Predictions, Settled

TOGETHER = 16
"""Reports of the kernel that are looked at in one go, while the caches are warm for that."""


class LabelResult(NamedTuple):
    """What n labels did. matched (n,): an event waited for it; alerts: `row` is the label's;
    resolved: the predictions of those matched."""

    matched: NDArray[np.bool_]
    alerts: list[Alert]
    resolved: Settled


def _no_rows(n: int) -> Predictions:
    yhat, lower, upper, score, fleet = (np.empty(n) for _ in range(5))
    return Predictions(yhat, lower, upper, score, np.empty(n, np.bool_), np.empty(n, np.int64), fleet)


def _no_settled(m: int) -> Settled:
    item, ts, n = (np.empty(m, np.int64) for _ in range(3))
    y, yhat, lower, upper, score, fleet = (np.empty(m) for _ in range(6))
    return Settled(item, ts, y, yhat, lower, upper, score, np.empty(m, np.bool_), n, fleet)


def kernel_columns(
    plan: FeaturePlan, events: Events, ts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Columns (n, C) and steps (n, 2) of n events with the calendar of these times."""
    cycles, steps = calendar_columns(plan, ts)
    return np.ascontiguousarray(np.hstack([events.features, cycles]) if cycles.shape[1] else events.features), steps


class PredictionTrace(NamedTuple):
    """A prediction that was made to be looked at: the learner's arrays and scratch, and which rows are the event's."""

    params: shapes.LearnerParams
    learner: shapes.Learner
    scratch: shapes.Scratch
    pool: int
    row: int
    yhat: float


class TargetEngine:
    """Predicts, judges and learns one target of the events of many entities.

    config: with one target; see `ssm_stream.engine.engine` for several

    >>> from ssm_stream.config import parse_config
    >>> config = parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: machine, timestamp: ts, features: [load], target: temp}
    ... ''')
    >>> engine = TargetEngine(config)
    >>> from ssm_stream.ingest.events import EventReader
    >>> rows = [{"machine": "press-1", "ts": 60 * i, "load": i % 5, "temp": 20 + 3 * (i % 5)} for i in range(300)]
    >>> events, refused = EventReader(config.event).read(rows)
    >>> predictions, alerts = engine.process(events)
    >>> bool(abs(predictions.yhat[-1] - events.target[-1]) < 0.5), refused
    (True, [])
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.plan = build_feature_plan(config)
        self.weights = frozen_weights.load(config.model.weights)
        self.rules = build_rules(config)
        self.store = Store(config, self.plan, self.weights)
        self.resolved = _no_settled(0)
        """The predictions that met their targets in the last `process` or `learn`, where targets come late."""
        self._moments: Moments | None = None
        self._teller = AlertBuilder(config, self.plan)
        if self.store.late is not None:
            self._room, self._todo = pending.new_room(self.store.params), np.zeros(4, np.int64)

    def process(
        self, events: Events, source: int = 0, leaving: Sequence[tuple[int, str]] = ()
    ) -> tuple[Predictions, list[Alert]]:
        """Predict, judge and learn, in order.

        Args:
            events: n events
            source: the stream that they come from (the Kafka partition); each has a watermark of its own
            leaving: row and name of entities that are forgotten there to make room, and have no event before it

        Returns:
            n predictions, and the alerts in the order of their events, yet to be put `render`
        """
        store = self.store
        store.begin()
        store.leave(leaving)
        # A column of a table has steps between its numbers, for which the kernels would be compiled once more.
        events = replace(events, target=np.ascontiguousarray(events.target), ts=np.ascontiguousarray(events.ts))
        if store.late is not None:
            return self._process_late(events, source)
        n = len(events)
        rows = store.rows(events.entity)
        pools = store.pools_of(rows, source)
        store.changed[rows], store.pools_changed[pools] = True, True
        u, steps = kernel_columns(self.plan, events, events.ts)
        out = _no_rows(n)
        alerts, reports = list[Alert](), list[Report]()
        mark = store.mark_of(source)
        at = 0
        while at < n:
            at, why = loop.run(
                store.params, store.scratch, store.state, store.shared, self.rules, pools, rows, events.ts, u, steps,
                events.target, at, store.marks, mark, out, store.reported,
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

    def freeze_learning(self, entities: Sequence[str]) -> None:
        """From now on nothing is learned of these entities; see `Engine.freeze_learning`.

        An anomaly episode that no rule ends holds learning: the kernel knows no other word for it.
        """
        anomaly = self.config.alerts.anomaly
        assert not anomaly.enabled, "with anomaly alerts the episode would end"
        assert anomaly.learn == "hold"
        rows = self.store.rows(list(entities))
        self.store.state.lifecycle.number[rows, lifecycle.ANOMALY, lifecycle.OPEN] = 1.0
        self.store.changed[rows] = True

    def trace_prediction(self, events: Events, source: int = 0) -> PredictionTrace:
        """Predict the first of the events, and change nothing.

        Raises:
            KeyError: the engine has not met the entity, or not from that source.
        """
        store = self.store
        row = store.slots[events.entity[0]]
        pool = store.pool_of(row, source)
        if pool is None:
            raise KeyError(f"{events.entity[0]!r} was not met from source {source}")
        ahead = events.ts + round(store.late.ahead) if store.late is not None else events.ts
        u, steps = kernel_columns(self.plan, events, ahead)
        learner = shapes.Learner(store.state.learner, *store.shared)
        yhat = kernel.predict_one(store.params, learner, store.scratch, pool, row, u[0], steps[0], float(events.ts[0]))
        return PredictionTrace(store.params, learner, store.scratch, pool, row, float(yhat))

    def _make_room(self, why: int, at: int, row: int, pool: int) -> None:
        """What the kernel asked for before it can go on with event `at`, of that entity and pool."""
        store = self.store
        if why == loop.EXPIRED:
            store.expire(at, row)
        elif why == loop.MORE_SLOTS:
            store.widen(int(store.shared.pool.used[pool] + store.scratch.flag[shapes.FRESH]))
        elif why == loop.SECOND_ENTITY:
            store.resize_pools(len(store.shared.pool.n), norm=True)
            store.reshaped = True

    def _process_late(self, events: Events, source: int) -> tuple[Predictions, list[Alert]]:
        store = self.store
        late = store.late
        assert late is not None
        target = events.target
        if len(store.early):
            last = {}
            for name in store.early.entities():
                row = store.slots.get(name)
                if row is not None and store.state.clock.number[row, loop.GAPS] > 0:
                    last[name] = int(store.state.clock.number[row, loop.LAST])
            target = store.early.meet(events, last)
        rows = store.rows(events.entity)
        pools = store.pools_of(rows, source)
        # A target teaches the pool that its event came to, which may have been another.
        store.changed[rows], store.pools_changed[:] = True, True
        ahead = events.ts + round(late.ahead)
        u, steps = kernel_columns(self.plan, events, ahead)
        own = steps if not late.ahead else calendar_columns(self.plan, events.ts)[1]
        key = np.zeros(len(events), np.int64) if events.key is None else events.key
        out = _no_rows(len(events))
        mark = store.mark_of(source)
        alerts, self.resolved = self._run_late(
            events.entity, pools, rows, events.ts, u, steps, own, target, key, mark, out, predicting=True
        )
        out.score[self.resolved.item] = self.resolved.score
        return out, alerts

    def learn(self, labels: Labels, source: int = 0) -> LabelResult:
        """Learn targets that come by themselves; only where the configuration has `labels`.

        A label whose event is still to come waits for it. `pop_unmatched_labels` returns those that find no event.

        Args:
            labels: n labels
            source: the stream that they come from (the Kafka partition)
        """
        store = self.store
        late = store.late
        assert late is not None
        assert late.labels, "labels come by themselves where the configuration has a section `labels`"
        store.begin()
        n = len(labels)
        slots = store.slots
        found = np.array([slots.get(name, -1) for name in labels.entity], np.int64)
        known = np.flatnonzero(found >= 0)
        rows = found[known]
        store.changed[rows], store.pools_changed[:] = True, True
        columns, steps = np.empty((len(known), 0)), np.zeros((len(known), 2), np.int64)
        alerts, settled = self._run_late(
            [labels.entity[i] for i in known.tolist()], rows, rows, labels.ts[known], columns, steps, steps,
            labels.target[known], labels.key[known], 0, _no_rows(0), predicting=False,
        )  # fmt: skip
        self.resolved = settled = settled._replace(item=known[settled.item])
        alerts = [alert._replace(row=int(known[alert.row])) for alert in alerts]
        matched = np.zeros(n, np.bool_)
        matched[settled.item] = True
        for i in np.flatnonzero(~matched).tolist():
            self._keep(labels, i, int(found[i]), source)
        return LabelResult(matched, alerts, settled)

    def _keep(self, labels: Labels, i: int, row: int, source: int) -> None:
        """Label i has found no event: it waits for one that may come, or is given up."""
        store = self.store
        name, ts = labels.entity[i], int(labels.ts[i])
        clock = store.state.clock.number[row] if row >= 0 else np.zeros(4)
        last = int(clock[loop.LAST]) if clock[loop.GAPS] > 0 else None
        raw = None if labels.raw is None else labels.raw[i]
        label = Early(
            ts, int(labels.key[i]), float(labels.target[i]), last if store.early.by_id else ts, source,
            int(labels.position[i]), raw,
        )  # fmt: skip
        if not store.early.by_id and last is not None and ts <= last:
            store.early.refuse(
                name, label,
                f"no event of {name!r} at {ts} ms waits for a label: there was none, it is labelled already, or it was "
                "dropped (labels.wait, labels.pending)", i,
            )  # fmt: skip
        else:
            store.early.add(name, label, i)

    def pop_unmatched_labels(self) -> list[Unmatched]:
        """The labels given up since the last call, in order."""
        if self.store.late is None:
            return []
        out, self.store.early.unmatched = self.store.early.unmatched, []
        self.store.tally[loop.MISSED] += len(out)
        return out

    def place_unmatched(self, first: int, rows: NDArray[np.intp]) -> None:
        """The labels given up since there were `first`: their rows are places in `rows`."""
        if self.store.late is not None:
            given_up = self.store.early.unmatched
            given_up[first:] = [label._replace(row=int(rows[label.row])) for label in given_up[first:]]

    @property
    def unmatched(self) -> int:
        """Labels given up since the last `pop_unmatched_labels`."""
        return 0 if self.store.late is None else len(self.store.early.unmatched)

    @property
    def late(self) -> bool:
        """Whether targets come after their events."""
        return self.store.late is not None

    @property
    def label_counts(self) -> dict[str, int]:
        """Of events whose targets come late: `waiting`, `matched`, `dropped` (waited too long, too many or evicted).

        `unmatched`: labels without an event, or with a horizon, predictions whose time came without a target.
        `early`: labels that wait for their events.
        """
        store = self.store
        if store.late is None:
            return {}
        matched, dropped, missed = store.tally.tolist()
        return {
            "waiting": int(store.pending.open.sum()),
            "matched": matched,
            "dropped": dropped,
            "unmatched": missed + len(store.early.unmatched),
            "early": len(store.early),
        }

    def _run_late(
        self, names: list[str], pools: NDArray[np.int64], rows: NDArray[np.int64], ts: NDArray[np.int64],
        u: NDArray[np.float64], steps: NDArray[np.int64], own: NDArray[np.int64], y: NDArray[np.float64],
        key: NDArray[np.int64], mark: int, out: Predictions, *, predicting: bool,
    ) -> tuple[list[Alert], Settled]:  # fmt: skip
        """Events or labels through the kernel: alerts, and the predictions that met their targets."""
        store = self.store
        assert store.late is not None
        alerts, reports = list[Alert](), list[Report]()
        parts: list[Any] = []
        room = _no_settled(max(len(y), 16))
        at, self._todo[:] = 0, 0
        while at < len(y):
            at, why = loop.run_late(
                store.params, store.scratch, store.pending, self._room, store.state, store.shared, self.rules,
                store.late, pools, rows, ts, u, steps, own, y, key, at, store.marks, mark, out, room, store.reported,
                self._todo, store.tally, predicting,
            )  # fmt: skip
            done = int(self._todo[loop.ROWS])
            if why == loop.REPORT:
                i, row = int(room.item[done - 1]), done - 1
                said = (float(room.y[row]), float(room.yhat[row]), float(room.lower[row]), float(room.upper[row]))
                pool = int(self._todo[loop.POOL])
                source = list(store.pools)[pool][1] if self.config.model.fleet else 0
                reports.append(self._report(i, names[i], int(room.ts[row]), said, int(rows[i]), pool, source))
                if len(reports) == TOGETHER:
                    alerts += self._tell(reports)
            elif why == loop.MORE_PLACES:
                places = store.pending.open.shape[1]
                store.place(len(store.state.clock.number), min(2 * places, store.late.most))
            elif why == loop.MORE_ROWS:
                parts.append([column[:done].copy() for column in room])
                self._todo[loop.ROWS] = 0
            elif why != loop.DONE:
                self._make_room(why, at, int(rows[at]), int(self._todo[loop.POOL]))
        done = int(self._todo[loop.ROWS])
        parts.append([column[:done] for column in room])
        return alerts + self._tell(reports), Settled(*map(np.concatenate, zip(*parts, strict=True)))

    def _report(
        self, row: int, entity: str, ts: int, said: tuple[float, float, float, float], slot: int, pool: int, source: int
    ) -> Report:
        """What the kernel has just told of. said: target, prediction and the bounds of its interval"""
        store = self.store
        told, moved = store.reported, None
        if told.phase[0] != lifecycle.SILENT and told.phase[loop.CHANNEL] == loop.LEVELS_CHANNEL:
            moved = np.empty(2 * (store.params.features + 1))
            levels.causes(store.state.levels, slot, moved)
        mark = float(store.marks[store.sources[source]]) if self.config.model.fleet else 0.0
        home = int(store.shards[slot]), source
        return Report(row, entity, ts, *said, home, mark, *self._moment(slot, pool), moved)

    def _moment(self, row: int, pool: int | None) -> tuple[Layout, bytes, bytes]:
        """All that is known of an entity now, as `Layout.state_hash` takes it."""
        store = self.store
        if self._moments is None or not self._moments.are_of(store.state, store.shared, store.scratch):
            self._moments = Moments(store.params, store.reported, store.scratch, store.state, store.shared)
        waiting = b""
        if store.late is not None:
            records = pending.records(store.pending, np.array([row]))
            waiting = b"".join(array.tobytes() for name, array in records.items() if name != "row")
        return self._moments.layout, self._moments.take(row, pool), waiting

    def _tell(self, reports: list[Report]) -> list[Alert]:
        """The alerts of these reports, which are told of."""
        alerts = [alert for report in reports for alert in self._teller.alerts(report)]
        reports.clear()
        return alerts

    def input_names(self, pool: int = 0) -> list[str]:
        """Names of the implicit weights of a pool, the constant first, then the numbers, then the codes in use."""
        shared, codes = self.store.shared.pool, None
        if len(shared.used):
            codes = Codes(int(shared.used[pool]), *(getattr(shared, name)[pool] for name in Codes._fields[1:]))
        return input_names(self.plan, self.store.params, codes)

    def state_hash(self, entity: str, source: int = 0) -> str:
        """16 hex digits over all that the entity's next prediction depends on: its own state and its pool's.

        Args:
            entity: its name
            source: the stream that its events come from

        Raises:
            KeyError: no such entity.
        """
        row = self.store.slots[entity]
        pool = self.store.pool_of(row, source)
        layout, content, waiting = self._moment(row, pool)
        return layout.state_hash(content, waiting)
