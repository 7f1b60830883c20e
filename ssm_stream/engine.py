"""The engine: events in, predictions and alerts out, state inside. No Kafka, no Bytewax.

`Engine.process` predicts each event from its entity's state, judges the error, then learns, one event after another in
the order given. What an entity is told depends on its own events in their order only: cutting the stream into other
batches, shards or processes changes no bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Budget, Config
from ssm_stream.events import Events
from ssm_stream.model import kernel
from ssm_stream.model.features import FeaturePlan, calendar_columns
from ssm_stream.model.jit import jit
from ssm_stream.monitor import detect, interval, lifecycle
from ssm_stream.state import StateError, pack, unpack

SCORE_MOST = 1e6
DONE, REPORT, EXPIRED = range(3)
# columns of Clock.number
LAST, MARK, GAP, GAPS = range(4)
MARKS_A_TTL = 100  # one event moves the watermark by at most ttl / MARKS_A_TTL: a wrong clock cannot evict the fleet
WEIGHT_EVERY = 8  # events between updates of the weights that drift alerts compare with
WEIGHT_RATE = 0.02
GAP_RATE = 0.01  # of the mean gap between events, once 100 are known
LARGEST_SHARE = 1e35  # keeps weights of targets near ±3e38, and their differences, within 32-bit floats


class Clock(NamedTuple):
    """number (E, 4) float64: time of the last event (ms), the watermark then (ms), mean gap (s) and gaps counted."""

    number: NDArray[np.float64]


class Reference(NamedTuple):
    """weights (E, D) float32: running mean of the implicit weights, in the target's unit."""

    weights: NDArray[np.float32]


class EngineState(NamedTuple):
    """Everything that is known of E entities: groups of arrays, a row an entity. All zeros is a new entity."""

    learner: kernel.LearnerState
    interval: interval.IntervalState
    detector: detect.DetectorState
    lifecycle: lifecycle.LifecycleState
    clock: Clock
    reference: Reference


def _arrays(state: EngineState) -> list[NDArray[Any]]:
    """All arrays of the state, in a fixed order."""
    return [array for group in state for array in group]


class Rules(NamedTuple):
    """What the configuration says, as numbers. Budgets: mean events, or mean seconds, between false alarms (0 = other).

    direction: 1 above, −1 below, 0 both; deviation: smallest |y − yhat| that counts, absolute and relative to |yhat|
    """

    warmup: int
    level: float
    ttl: float
    anomaly: bool
    anomaly_events: float
    anomaly_seconds: float
    direction: int
    deviation: float
    deviation_relative: float
    drift: bool
    drift_events: float
    drift_seconds: float
    episodes: lifecycle.LifecycleRules


class Reported(NamedTuple):
    """What the kernel tells of an event that changed an episode.

    phase (2,) int64 by kind; number (2, 3) float64: score, since (ms), absorbed after (events)
    weights (D,) float32: implicit weights before learning
    """

    phase: NDArray[np.int64]
    number: NDArray[np.float64]
    weights: NDArray[np.float32]


class Predictions(NamedTuple):
    """A row an event: yhat, lower, upper, score (n,) float64; warmup (n,) bool; n (n,) int64 labelled events before."""

    yhat: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    score: NDArray[np.float64]
    warmup: NDArray[np.bool_]
    n: NDArray[np.int64]


class Alert(NamedTuple):
    """An alert as the engine knows it; `row` is its event's place among the events processed."""

    row: int
    message: dict[str, Any]


@jit
def _budget_events(events: float, seconds: float, gap: float) -> float:
    """Mean events between false alarms, at the entity's own rate where the budget is in time."""
    if events > 0.0:
        return events
    return max(seconds / max(gap, 1e-3), 20.0)


@jit
def _implicit_weights(p: Any, s: Any, w: Any, e: int, out: Any) -> None:
    """The gate's mean of the heads' weights, in the target's unit per standard deviation of each input."""
    for i in range(p.D):
        out[i] = 0.0
    for h in range(p.H):
        share = np.float32(min(w.g[h] * w.scale[2], LARGEST_SHARE))
        for i in range(p.D):
            out[i] += share * s.W[e, h, i]


@jit
def _advance(number: Any, ts: float, mark: float) -> None:
    """The entity's clock: its mean gap counts time that passes, not time that goes back."""
    if number[GAPS] > 0.0 and ts > number[LAST]:
        rate = max(1.0 / number[GAPS], GAP_RATE)
        number[GAP] += rate * ((ts - number[LAST]) / 1000.0 - number[GAP])
    number[GAPS] = min(number[GAPS] + 1.0, 1e9)
    number[LAST] = max(ts, number[LAST]) if number[GAPS] > 1.0 else ts
    number[MARK] = mark


@jit
def _run(
    p: Any,
    w: Any,
    s: Any,
    r: Any,
    rows: Any,
    ts: Any,
    u: Any,
    y: Any,
    start: int,
    marks: Any,
    source: int,
    out: Any,
    told: Any,
) -> Any:
    """Events start, start + 1, … until the end, a report or an expired entity: (next event, why it stopped)."""
    for t in range(start, len(y)):
        e, time = rows[t], float(ts[t])
        mark = time if math.isnan(marks[source]) else marks[source]
        mark += min(max(time - mark, 0.0), r.ttl / MARKS_A_TTL)
        clock = s.clock.number[e]
        # Both clocks must agree: a watermark that began in the past still catches up with the entities.
        if clock[GAPS] > 0.0 and mark - max(clock[MARK], clock[LAST]) > r.ttl:
            return t, EXPIRED
        marks[source] = mark
        n = s.learner.n[e]
        answer = kernel.predict(p, s.learner, w, e, u[t])
        half = interval.half_width(s.interval, e)
        out.yhat[t], out.lower[t], out.upper[t] = answer, answer - half, answer + half
        out.score[t], out.warmup[t], out.n[t] = 0.0, n < r.warmup, n
        if math.isnan(y[t]):
            continue
        error = y[t] - answer
        _advance(clock, time, marks[source])
        anomaly_events = _budget_events(r.anomaly_events, r.anomaly_seconds, clock[GAP])
        told.phase[0] = told.phase[1] = lifecycle.SILENT
        if n >= r.warmup:
            size = abs(error)
            floor = 1e-9 * max(abs(y[t]), abs(answer)) + 1e-300
            bound = max(interval.anomaly_bound(s.interval, e, 1.0 / anomaly_events), floor)
            score = min(size / bound, SCORE_MOST)
            out.score[t] = score
            if r.anomaly:
                sided = r.direction == 0 or error * r.direction > 0.0
                counts = sided and size >= r.deviation and size >= r.deviation_relative * abs(answer)
                alarm = counts and score > 1.0
                told.phase[0] = lifecycle.step(
                    s.lifecycle, e, lifecycle.ANOMALY, n, time, score, alarm, not alarm, r.episodes
                )
                told.number[0, 0] = score
        if n > 0 and r.drift:
            drift_events = _budget_events(r.drift_events, r.drift_seconds, clock[GAP])
            rounding = 1e-12 * max(abs(y[t]), abs(answer)) + 1e-6 * w.scale[2]
            heard = error if abs(error) > rounding else 0.0
            evidence = min(detect.observe(s.detector, e, heard, drift_events), SCORE_MOST)
            if n >= r.warmup:
                calm = detect.is_calm(s.detector, e)
                told.phase[1] = lifecycle.step(
                    s.lifecycle, e, lifecycle.DRIFT, n, time, evidence, evidence >= 1.0, calm, r.episodes
                )
                told.number[1, 0] = evidence
        if n > 0:
            interval.observe(s.interval, e, n - 1, abs(error), r.level, 1.0 / anomaly_events)
        loud = told.phase[0] != lifecycle.SILENT or told.phase[1] != lifecycle.SILENT
        if loud or n % WEIGHT_EVERY == 0:
            _implicit_weights(p, s.learner, w, e, told.weights)
        if loud:
            for kind in range(2):
                told.number[kind, 1] = s.lifecycle.number[e, kind, lifecycle.SINCE_TS]
                told.number[kind, 2] = lifecycle.absorbed_after(s.lifecycle, e, kind, n)
        kernel.learn(p, s.learner, w, e, u[t], y[t])
        if loud:
            return t + 1, REPORT
        if n % WEIGHT_EVERY == 0:
            reference = s.reference.weights[e]
            for i in range(p.D):
                reference[i] += np.float32(WEIGHT_RATE) * (told.weights[i] - reference[i])
    return len(y), DONE


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
        lifecycle.LifecycleRules(
            anomaly.consecutive,
            (anomaly.recover_after, 50),
            (anomaly.cooldown, drift.cooldown),
            config.alerts.ongoing_every,
        ),
    )


class Engine:
    """Predicts, judges and learns events of many entities.

    >>> from ssm_stream.config import parse_config
    >>> config = parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: machine, timestamp: ts, features: [load], target: temp}
    ... ''')
    >>> engine = Engine(config)
    >>> from ssm_stream.events import EventReader
    >>> rows = [{"machine": "press-1", "ts": 60 * i, "load": i % 5, "temp": 20 + 3 * (i % 5)} for i in range(300)]
    >>> events, refused = EventReader(config.event).read(rows)
    >>> predictions, alerts = engine.process(events)
    >>> bool(abs(predictions.yhat[-1] - events.target[-1]) < 0.5), refused
    (True, [])
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        event = config.event
        self.plan = FeaturePlan(
            tuple(event.features), tuple(event.calendar), event.lags, event.differences, event.time_zone
        )
        self.params = kernel.learner_params(
            self.plan, tuple(config.model.moment_decays), tuple(config.model.proximal_steps)
        )
        self.rules = _rules(config)
        self.names: list[str] = []
        self._slots: dict[str, int] = {}
        self._sources: dict[int, int] = {}
        self._marks = np.full(1, np.nan)
        self._state = self._fresh(0)
        self._scratch = kernel.new_scratch(self.params)
        self._told = Reported(np.zeros(2, np.int64), np.zeros((2, 3)), np.zeros(self.params.D, np.float32))

    def __len__(self) -> int:
        """Entities in memory."""
        return len(self.names)

    def _fresh(self, E: int) -> EngineState:
        return EngineState(
            kernel.new_state(self.params, E),
            interval.new_interval_state(E),
            detect.new_detector_state(E),
            lifecycle.new_lifecycle_state(E),
            Clock(np.zeros((E, 4))),
            Reference(np.zeros((E, self.params.D), np.float32)),
        )

    @property
    def bytes_per_entity(self) -> int:
        """Memory of one entity's state."""
        return sum(array.nbytes for array in _arrays(self._fresh(1)))

    def process(self, events: Events, source: int = 0) -> tuple[Predictions, list[Alert]]:
        """Predict, judge and learn, in order.

        Args:
            events: n events
            source: the stream that they come from (the Kafka partition); each has a watermark of its own

        Returns:
            n predictions, and the alerts in the order of their events
        """
        n = len(events)
        rows = self._rows(events.entity)
        u = events.features
        if self.plan.calendar:
            u = np.hstack([u, calendar_columns(self.plan, events.ts)])
        u = np.ascontiguousarray(u)
        out = Predictions(
            np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n, np.bool_), np.empty(n, np.int64)
        )
        alerts: list[Alert] = []
        mark = self._mark(source)
        at = 0
        while at < n:
            at, why = _run(
                self.params, self._scratch, self._state, self.rules, rows, events.ts, u, events.target,
                at, self._marks, mark, out, self._told,
            )  # fmt: skip
            if why == EXPIRED:
                self._clear(rows[at])
            elif why == REPORT:
                alerts += self._alerts(events, at - 1, rows[at - 1], out)
        return out, alerts

    def _rows(self, entities: list[str]) -> NDArray[np.int64]:
        slots = self._slots
        try:
            return np.fromiter(map(slots.__getitem__, entities), np.int64, len(entities))
        except KeyError:
            for name in entities:
                if name not in slots:
                    slots[name] = len(self.names)
                    self.names.append(name)
            self._grow(len(self.names))
            return np.fromiter(map(slots.__getitem__, entities), np.int64, len(entities))

    def _grow(self, needed: int) -> None:
        have = len(self._state.clock.number)
        if needed <= have:
            return
        fresh = self._fresh(max(needed, 2 * have, 16))
        for old, new in zip(_arrays(self._state), _arrays(fresh), strict=True):
            new[: len(old)] = old
        self._state = fresh

    def _clear(self, row: int) -> None:
        for array in _arrays(self._state):
            array[row] = 0

    def _mark(self, source: int) -> int:
        if source not in self._sources:
            self._sources[source] = len(self._sources)
            if len(self._sources) > len(self._marks):
                self._marks = np.concatenate([self._marks, np.full(len(self._marks), np.nan)])
        return self._sources[source]

    def _alerts(self, events: Events, row: int, slot: int, out: Predictions) -> list[Alert]:
        alerts = []
        state_hash = self.state_hash(events.entity[row])
        for kind, name in enumerate(lifecycle.KINDS):
            phase = int(self._told.phase[kind])
            if phase == lifecycle.SILENT:
                continue
            score, since, absorbed = self._told.number[kind].tolist()
            budget = (self.config.alerts.anomaly if name == "anomaly" else self.config.alerts.drift).budget
            message = {
                "entity": events.entity[row],
                "kind": name,
                "phase": lifecycle.PHASES[phase],
                "severity": "critical" if score >= self.config.alerts.critical else "warning",
                "ts": int(events.ts[row]),
                "score": score,
                "y": float(events.target[row]),
                "yhat": float(out.yhat[row]),
                "yhat_lower": float(out.lower[row]),
                "yhat_upper": float(out.upper[row]),
                "since": int(since),
                "absorbed_after": int(absorbed) if phase == lifecycle.RECOVERED else None,
                "contributions": self._contributions(),
                "weight_change": self._weight_change(slot) if name == "drift" else [],
                "budget": budget.text,
                "config_hash": self.config.hash,
                "state_hash": state_hash,
            }
            alerts.append(Alert(row, message))
        return alerts

    def _contributions(self) -> list[dict[str, Any]]:
        """The weightiest inputs of the prediction: each one's signed share of all that moved it from the base."""
        moved = (self._told.weights * self._scratch.x).astype(np.float64)[1:]
        total = float(np.abs(moved).sum())
        if total == 0.0:
            return []
        first = np.argsort(-np.abs(moved), kind="stable")[: self.config.alerts.contributions]
        return [{"feature": self.plan.names[1 + i], "share": float(moved[i]) / total} for i in first]

    def _weight_change(self, slot: int) -> list[dict[str, Any]]:
        """The implicit weights that moved most, in the target's unit per standard deviation of the input."""
        before, after = self._state.reference.weights[slot].astype(np.float64), self._told.weights.astype(np.float64)
        first = np.argsort(-np.abs(after - before), kind="stable")[: self.config.alerts.contributions]
        return [
            {"feature": self.plan.names[i], "before": float(before[i]), "after": float(after[i])}
            for i in first
            if after[i] != before[i]
        ]

    def state_hash(self, entity: str) -> str:
        """16 hex digits over all that the entity's own events made of it (the watermark is its neighbours' work too).

        Raises:
            KeyError: no such entity.
        """
        row = self._slots[entity]
        digest = hashlib.blake2b(digest_size=8)
        for name, array in self._named():
            own = np.delete(array[row], MARK) if name == "clock.number" else array[row]
            digest.update(own.tobytes())
        return digest.hexdigest()

    def _evict(self) -> None:
        """Drop entities past their TTL, or never labelled: each would start afresh anyway, so no result changes."""
        if not math.isfinite(self.rules.ttl) or not self.names:
            return
        latest = np.nanmin(self._marks[: len(self._sources)]) if self._sources else math.nan
        seen = self._state.clock.number[: len(self.names)]
        expired = (seen[:, GAPS] == 0) | (latest - np.maximum(seen[:, MARK], seen[:, LAST]) > self.rules.ttl)
        if not expired.any():
            return
        keep = np.flatnonzero(~expired)
        names = [self.names[i] for i in keep]
        fresh = self._fresh(max(len(keep), 16))
        for old, new in zip(_arrays(self._state), _arrays(fresh), strict=True):
            new[: len(keep)] = old[keep]
        self._state, self.names = fresh, names
        self._slots = {name: i for i, name in enumerate(names)}

    def snapshot(self) -> bytes:
        """All state as bytes, for `restore`. Expired entities are dropped first."""
        self._evict()
        used = len(self.names)
        arrays = {name: array[:used] for name, array in self._named()}
        header = {"config": self.config.hash, "marks": ",".join(self._marked())}
        return pack(header, self.names, arrays)

    def _named(self) -> Iterator[tuple[str, NDArray[np.generic]]]:
        for group_name, group in self._state._asdict().items():
            for name, array in group._asdict().items():
                yield f"{group_name}.{name}", array

    def _marked(self) -> list[str]:
        return [f"{source}:{float(self._marks[at])!r}" for source, at in sorted(self._sources.items())]

    @classmethod
    def restore(cls, config: Config, data: bytes) -> Engine:
        """The engine that `snapshot` described.

        Raises:
            StateError: damaged bytes, or a state that another configuration made.
        """
        header, names, arrays = unpack(data)
        if header.get("config") != config.hash:
            raise StateError(
                f"the state was made by configuration {header.get('config')}, this one is {config.hash}: put `event`, "
                "`model`, `alerts` and `state` back as they were, or start anew with another recovery.directory"
            )
        engine = cls(config)
        engine.names = names
        engine._slots = {name: i for i, name in enumerate(names)}
        engine._grow(len(names))
        for name, array in engine._named():
            stored = arrays.get(name)
            if stored is None or stored.shape[1:] != array.shape[1:] or stored.dtype != array.dtype:
                raise StateError(
                    f"the snapshot's `{name}` is not what this release keeps: use the release that wrote it, or start "
                    "anew with another recovery.directory"
                )
            array[: len(names)] = stored
        for item in filter(None, header["marks"].split(",")):
            source, value = item.split(":")
            at = engine._mark(int(source))  # may make `_marks` anew
            engine._marks[at] = float(value)
        return engine
