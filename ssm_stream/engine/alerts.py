"""Alerts and their details: which inputs moved a prediction, which weights changed, which heads had the most weight.

Most alerts are never sent, because a fleet alert replaces them. So the details are computed only for those that are
(`render`), from the state captured at their event.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core import detect, error_scale, lifecycle, loop
from ssm_stream.core.features import INDICATED, FeaturePlan, value_name
from ssm_stream.core.implicit import answer_names
from ssm_stream.core.shapes import MANY, LearnerParams
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.alert_summary import NO_EVIDENCE, Evidence, Members, Summarizer, read_evidence
from ssm_stream.engine.event_capture import CaptureLayout
from ssm_stream.engine.kernel_params import own_channels

LEARNED_SHARE = {"adapt": 1.0, "slow": 1.0 / loop.SLOW_EVERY, "hold": 0.0}
"""Share of an episode's events that are learned, by `learn`."""
MAX_PENDING_BYTES = 8 << 20
"""Bytes of captured state that an engine holds for details which may never be needed."""


@dataclass(slots=True)
class EventPlace:
    """Where the event of an alert that waits comes from, noted as long as it is known.

    topic, partition, offset: of its message, no topic if events have no ids; suffix: of the alert's id
    number: of the event, or label, among those that this engine has processed, from 0; −1 if it was before a restart
    """

    topic: str = ""
    partition: int = 0
    offset: int = 0
    suffix: str = ""
    number: int = field(default=-1, compare=False)  # a state does not have it


class Alert(NamedTuple):
    """An alert of the engine.

    row: its event's index in the batch; message: without the fields of `details`, which `render` adds
    pool: shard and source that the entity learns with; entities: of the pool, labelled so far
    suffix: of the alert's id, after the kind (`episodes.ids`)
    labelled: events of the pool so far; details: None: the message is complete
    suppressed_by: the pool of the fleet episode that replaces the alert, then the episode's id; None: it is sent
    place: of its own event, if the alert has waited (`episodes.waiting`): `row` is then the event at which it is sent
    waits: it is not sent at `row`, but later; only its place is noted
    gap: mean time between labelled events of the entity, ms
    others: columns that stopped with its own, and have no alert therefore
    still: in how many entities of how many that column stands still, where these are most; else zeros
    cause: the column whose level moved most, where the channel is `levels`
    ended: other targets of an episode that is over, and what ended each one's part
    members: the entities of a fleet alert; None of an entity's
    counts: the events that `absorbed_after` counts begin where the episode does
    reported: of several targets, those that are reported at this event; None: all that the message lists
    """

    row: int
    message: dict[str, Any]
    pool: tuple[int, int] = (0, 0)
    entities: int = 1
    suffix: str = ""
    labelled: int = 0
    details: AlertDetails | None = None
    suppressed_by: str | None = None
    place: EventPlace | None = None
    waits: bool = False
    gap: float = 0.0
    others: int = 0
    still: tuple[int, int] = (0, 0)
    cause: str | None = None
    ended: tuple[tuple[str, str], ...] = ()
    members: Members | None = None
    counts: bool = True
    reported: tuple[str, ...] | None = None


def render(alert: Alert) -> Alert:
    """Return the alert with its complete message."""
    if alert.details is None:
        return alert
    message = alert.details.complete(alert)
    return alert._replace(message=message, details=None, ended=(), members=None, counts=True, reported=None)


def ended_by(phase: int, code: int) -> str | None:
    """Return what ended an episode at an event of its entity; None while it lasts. code: of `lifecycle.ENDED`"""
    return lifecycle.ENDED[code] if phase == lifecycle.RECOVERED else None


class PoolCodes(NamedTuple):
    """The codes of a pool: how many slots are in use, and the pool's row of each of these arrays of `PoolState`."""

    used: int
    seen: NDArray[np.int64]
    slot: NDArray[np.int64]
    value: NDArray[np.float64]
    missing: NDArray[np.int64]
    other: NDArray[np.int64]


def input_names(
    plan: FeaturePlan, p: LearnerParams, codes: PoolCodes | None, text_of: Callable[[float], str | None]
) -> list[str]:
    """Return the names of a pool's implicit weights: the constant, the numbers, then the codes in use.

    A value of a category may be both a number and a code, which have the same name; one not shown yet has none.

    text_of: the text of a category's code; None for a value that is a number
    """
    names = ["?"] * (codes.used if codes else 0)
    numbers = dict(zip(plan.numbers, plan.numbers, strict=True))
    numbers |= dict.fromkeys(plan.category_values, "")
    for j, column in enumerate(plan.coded if codes else ()):
        assert codes is not None
        category = 0 <= j - len(plan.features) < len(plan.categories)
        for i in range(int(codes.seen[j])):
            value = float(codes.value[j, i])
            text = text_of(value) if category else None
            name = f"{column}={value:g}" if text is None else f"{column}={text}"
            if codes.slot[j, i]:
                names[codes.slot[j, i] - 1] = name
            if category and i < INDICATED:
                numbers[value_name(column, i)] = name
        if codes.missing[j]:
            names[codes.missing[j] - 1] = f"{column} unknown"
        if codes.other[j]:
            names[codes.other[j] - 1] = f"{column}=another"
    return ["constant", *numbers.values(), *names, *[""] * (p.K - len(names))]


def add_alike(names: list[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values (n,) in which inputs of the same name have their sum, at the first of them, and the others 0."""
    out, first = values.copy(), dict[str, int]()
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            out[first[name]] += out[i]
            out[i] = 0.0
    return out


class TargetAndPrediction(NamedTuple):
    """The target of an event, its prediction, and the bounds of the prediction's interval."""

    y: float
    yhat: float
    lower: float
    upper: float


class CapturedState(NamedTuple):
    """The state of an entity and its pool at one event.

    layout, content: a capture (`event_capture`); waiting: records of events that wait for their targets
    """

    layout: CaptureLayout
    content: bytes
    waiting: bytes

    def array(self, name: str) -> NDArray[Any]:
        """Return a captured row."""
        return self.layout.array(self.content, name)

    def find(self, name: str) -> NDArray[Any] | None:
        """Return a captured row; None if there is none."""
        return self.layout.array(self.content, name) if name in self.layout else None

    @property
    def state_hash(self) -> str:
        """16 hex digits over all that the entity's next prediction depends on."""
        return self.layout.state_hash(self.content, self.waiting)


def _measured_score(score: float, state: CapturedState) -> float:
    """Return the score of an anomaly: 1, that of an alarm as such, where there is no size of errors to measure it by.

    A target that has never moved has had no error before this one, or only those by which the prediction of a fleet
    found its value: its first step, however small, is any number of times the bound, however grave it is.
    """
    errors, rest, n = (state.find(name) for name in ("error_scale.number", "error_scale.rest", "learner.n"))
    if not score > 1.0 or errors is None or rest is None or n is None:
        return score
    stood = int(n) - 3  # all but the first, which is not judged, the second, which has none before it, and this one
    moved = error_scale.first_rest(float(rest[error_scale.USUAL_REST])) < stood - 0.5
    just_moved = rest[error_scale.STANDING] == error_scale.MOVED
    return 1.0 if errors[error_scale.SEEN] <= 1.0 or (just_moved and not moved) else score


class ReportedEvent(NamedTuple):
    """An event at which the kernel reported a change of an episode.

    row: its index in the batch; ts: ms; pool: as of `Alert`
    level_shifts (2 (features + 1),): contributions to the level channel's score; None: another channel scored highest
    """

    row: int
    entity: str
    ts: int
    values: TargetAndPrediction
    pool: tuple[int, int]
    state: CapturedState
    level_shifts: NDArray[np.float64] | None


class AlertDetails:
    """The fields of a message that are computed from the captured state, which is held until then."""

    def __init__(self, builder: AlertBuilder, kind: str, event: ReportedEvent) -> None:
        self._builder, self._kind = builder, kind
        self._event: ReportedEvent | None = event
        self._fields: dict[str, Any] = {}
        self._evidence = NO_EVIDENCE

    def complete(self, alert: Alert) -> dict[str, Any]:
        """Return the message of an alert with the fields and its sentence."""
        message = alert.message | self.fields()
        evidence = self._evidence._replace(ended=alert.ended, members=alert.members, reported=alert.reported)
        evidence = evidence if alert.counts else evidence._replace(calm=None)
        if message.get("target") not in (None, self._builder.target):
            # How finely that one is measured is not known here, nor are its days.
            evidence = evidence._replace(step=0.0, days=None)
        return message | {"summary": self._builder.summarizer(message, evidence, alert.entities)}

    def fields(self) -> dict[str, Any]:
        """Return the fields; compute them at the first call."""
        if self._event is not None:
            self._evidence = self._builder.evidence(self._kind, self._event)
            self._fields, self._event = self._builder.detail_fields(self._kind, self._event), None
        return self._fields

    @property
    def pending(self) -> bool:
        """Whether the fields have yet to be computed."""
        return self._event is not None


class AlertBuilder:
    """Builds the alerts of one target from the events that the kernel reports.

    text_of: as of `input_names`; summarizer: writes their sentences; target: the path of the target
    """

    def __init__(self, config: Config, plan: FeaturePlan, text_of: Callable[[float], str | None]) -> None:
        alerts = config.alerts
        self._plan, self._max_listed, self._critical = plan, alerts.contributions, alerts.critical
        self._text_of = text_of
        self._channels = (*loop.CHANNELS, *own_channels(config))
        self._columns, self.target = [*plan.features, *config.event.targets], config.event.targets[0]
        rules = (alerts.anomaly, alerts.drift)
        self._learning = [LEARNED_SHARE[rule.learn] for rule in rules]
        self._budgets = [rule.budget.text for rule in rules]
        self._config = config
        self.summarizer = Summarizer(config)
        self._pending = deque[tuple[weakref.ref[AlertDetails], int]]()
        self._pending_bytes = 0

    def build(self, event: ReportedEvent) -> list[Alert]:
        """Return the alerts of an event, at most one a kind, without their details."""
        out, state = [], event.state
        phases, numbers = state.array("report.phase").tolist(), state.array("report.number").tolist()
        entities, labelled = int(state.array("pool.entities")), int(state.array("pool.n"))
        for kind, name in enumerate(KINDS):
            phase = phases[kind]
            if phase == lifecycle.UNCHANGED:
                continue
            score, since, absorbed = numbers[kind]
            if name == "anomaly":
                score = _measured_score(score, state)
            recovered, drifts = phase == lifecycle.RECOVERED, name == "drift"
            change = detect.CHANGES[int(state.array("detector.number")[detect.CHANGE])] if drifts else None
            message = {
                "entity": event.entity,
                "scope": "entity",
                "kind": name,
                "phase": lifecycle.PHASES[phase],
                "episode": None,
                "ended_by": ended_by(phase, phases[loop.ENDED + kind]),
                "severity": "critical" if score >= self._critical and change != detect.SMALLER else "warning",
                "summary": "",
                "ts": event.ts,
                "score": score,
                "y": event.values.y,
                "yhat": event.values.yhat,
                "yhat_lower": event.values.lower,
                "yhat_upper": event.values.upper,
                "since": int(since),
                "absorbed_after": int(absorbed) if recovered else None,
                "contributions": [],
                "weight_change": [],
                "heads": [],
                "channel": None if drifts else self._channels[phases[loop.CHANNEL]],
                "change": change,
                "learning": 1.0 if recovered else self._learning[kind],
                "budget": self._budgets[kind],
                "config_hash": self._config.hash,
                "state_hash": "",
            }
            details = AlertDetails(self, name, event)
            self._hold(details, len(state.content) + len(state.waiting))
            gap = 1000.0 * float(state.array("clock.number")[loop.GAP])
            cause = None if drifts or recovered or score <= 1.0 else self._most_moved(event.level_shifts)
            out.append(Alert(event.row, message, event.pool, entities, "", labelled, details, gap=gap, cause=cause))
        return out

    def _hold(self, details: AlertDetails, size: int) -> None:
        """Hold captured state for details; beyond `MAX_PENDING_BYTES`, compute the oldest that are still needed."""
        self._pending.append((weakref.ref(details), size))
        self._pending_bytes += size
        if self._pending_bytes <= MAX_PENDING_BYTES:
            return
        pending = [(each, size) for ref, size in self._pending if (each := ref()) is not None and each.pending]
        self._pending_bytes = sum(size for _, size in pending)
        computed = 0
        while self._pending_bytes > MAX_PENDING_BYTES * 3 // 4:  # so that this is rare
            pending[computed][0].fields()
            self._pending_bytes -= pending[computed][1]
            computed += 1
        self._pending = deque((weakref.ref(each), size) for each, size in pending[computed:])

    def detail_fields(self, kind: str, event: ReportedEvent) -> dict[str, Any]:
        """Return the fields of a message that are expensive to compute."""
        drifts, names = kind == "drift", self._input_names(event.state)
        shifts = None if drifts else event.level_shifts
        return {
            "contributions": self._contributions(event.state, names) if shifts is None else self._level_shifts(shifts),
            "weight_change": self._weight_change(event.state, names) if drifts else [],
            "heads": self._heads(event.state) if drifts else [],
            "state_hash": event.state.state_hash,
        }

    def evidence(self, kind: str, event: ReportedEvent) -> Evidence:
        """Return what the state at an event shows of an alert's cause."""
        channel = self._channels[int(event.state.array("report.phase")[loop.CHANNEL])]
        return read_evidence(kind, channel, event.state.find, self._columns, event.level_shifts)

    def _largest(self, values: NDArray[np.float64]) -> list[int]:
        """Return the indexes of the largest values by magnitude, without zeros."""
        order = np.argsort(-np.abs(values), kind="stable")[: self._max_listed]
        return [i for i in order.tolist() if values[i]]

    def _shares(self, values: NDArray[np.float64], names: list[str]) -> list[dict[str, Any]]:
        total = float(np.abs(values).sum())
        if total == 0.0:
            return []
        return [{"feature": names[i], "share": float(values[i]) / total} for i in self._largest(values)]

    def _input_names(self, state: CapturedState) -> list[str]:
        used = int(state.array("pool.used"))
        codes = PoolCodes(used, *(state.array(f"pool.{name}") for name in PoolCodes._fields[1:])) if used else None
        return input_names(self._plan, state.layout.params, codes, self._text_of)

    def _contributions(self, state: CapturedState, names: list[str]) -> list[dict[str, Any]]:
        """Return the inputs that contributed most: each one's signed share of the distance from the base."""
        weights = state.array("report.weights")
        x = state.array("entity" if state.array("flag")[MANY] else "fleet")
        return self._shares(add_alike(names, (weights * x[: len(weights)]).astype(np.float64))[1:], names[1:])

    def _most_moved(self, shifts: NDArray[np.float64] | None) -> str | None:
        """Return the column whose level, or whose steps, moved most; None if none did."""
        if shifts is None or not shifts.any():
            return None
        return self._columns[int(np.abs(shifts).argmax()) % len(self._columns)]

    def _level_shifts(self, shifts: NDArray[np.float64]) -> list[dict[str, Any]]:
        """Return the columns whose levels shifted most: each one's signed share of all shifts."""
        return self._shares(shifts, [*self._columns, *(f"steps({name})" for name in self._columns)])

    def _heads(self, state: CapturedState) -> list[dict[str, Any]]:
        """Return the heads with the most weight in the gate: fast ones after a change, slow ones in calm."""
        g = state.array("g")[: int(state.array("places")[0])]
        names = answer_names(state.layout.params, bool(state.array("flag")[MANY]))
        return [{"head": names[i], "weight": float(g[i])} for i in self._largest(g)]

    def _weight_change(self, state: CapturedState, names: list[str]) -> list[dict[str, Any]]:
        """Return the implicit weights that changed most, in the target's unit per standard deviation of the input."""
        weights = [state.array(name).astype(np.float64) for name in ("reference.weights", "report.weights")]
        before, after = (add_alike(names, each) for each in weights)
        return [
            {"feature": names[i], "before": float(before[i]), "after": float(after[i])}
            for i in self._largest(after - before)
        ]
