"""Alerts, and their words: which inputs moved a prediction, which weights have changed, which heads were believed.

Most alerts are never sent, as a fleet alert stands for them: the words are made for those that are (`render`), from
the moment of their event.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.engine.event_capture import Layout
from ssm_stream.kernels import detect, lifecycle, loop
from ssm_stream.kernels.features import FeaturePlan
from ssm_stream.kernels.implicit import answer_names
from ssm_stream.kernels.shapes import MANY, LearnerParams

LEARNING = {"adapt": 1.0, "slow": 1.0 / loop.SLOW_EVERY, "hold": 0.0}
"""Share of an episode's events that are learned, as alerts tell it."""
ROOM = 8 << 20
"""Bytes of moments that an engine keeps for words that may never be needed."""


class Alert(NamedTuple):
    """An alert as the engine knows it.

    row: its event's place among the events processed; pool: shard and source of those that the entity learns with
    entities: of the pool, labelled so far; mark: the source's watermark then, ms; suffix: of its id, after the kind
    labelled: events of the pool so far; words: what the message lacks; None: it is whole
    """

    row: int
    message: dict[str, Any]
    pool: tuple[int, int] = (0, 0)
    entities: int = 1
    mark: float = 0.0
    suffix: str = ""
    labelled: int = 0
    words: Words | None = None


def render(alert: Alert) -> Alert:
    """The alert with its whole message."""
    if alert.words is None:
        return alert
    return alert._replace(message=alert.message | alert.words.said(), words=None)


class Codes(NamedTuple):
    """The codes of a pool: how many are in use, and the pool's row of each of these arrays of `PoolState`."""

    used: int
    seen: NDArray[np.int64]
    slot: NDArray[np.int64]
    value: NDArray[np.float64]
    missing: NDArray[np.int64]
    other: NDArray[np.int64]


def input_names(plan: FeaturePlan, p: LearnerParams, codes: Codes | None) -> list[str]:
    """Names of the implicit weights of a pool, the constant first, then the numbers, then the codes in use."""
    names = ["?"] * (codes.used if codes else 0)
    for j, column in enumerate(plan.coded if codes else ()):
        assert codes is not None
        for i in range(int(codes.seen[j])):
            if codes.slot[j, i]:
                names[codes.slot[j, i] - 1] = f"{column}={codes.value[j, i]:g}"
        if codes.missing[j]:
            names[codes.missing[j] - 1] = f"{column} unknown"
        if codes.other[j]:
            names[codes.other[j] - 1] = f"{column}=another"
    return ["constant", *plan.numbers, *names, *[""] * (p.K - len(names))]


class Report(NamedTuple):
    """What the kernel has told of an event, and the moment when it did.

    row: its place among the events processed; ts: ms; y, yhat, lower, upper: its target and what was predicted
    pool, mark: as in `Alert`; layout, content: of the moment; waiting: see `Layout.state_hash`
    moved (2 (features + 1),): what moved the levels, where these tell of an anomaly
    """

    row: int
    entity: str
    ts: int
    y: float
    yhat: float
    lower: float
    upper: float
    pool: tuple[int, int]
    mark: float
    layout: Layout
    content: bytes
    waiting: bytes
    moved: NDArray[np.float64] | None

    def array(self, name: str) -> NDArray[Any]:
        """A row of then."""
        return self.layout.array(self.content, name)


class Words:
    """The part of a message that it takes a moment's bytes to make; they are kept until it is made."""

    def __init__(self, teller: AlertBuilder, kind: str, report: Report) -> None:
        self._teller, self._kind = teller, kind
        self._report: Report | None = report
        self._said: dict[str, Any] = {}

    def said(self) -> dict[str, Any]:
        """Those fields."""
        if self._report is not None:
            self._said, self._report = self._teller.rest(self._kind, self._report), None
        return self._said

    @property
    def waits(self) -> bool:
        """Are they still to be made?"""
        return self._report is not None


class AlertBuilder:
    """Makes alerts of what the kernel tells of one target."""

    def __init__(self, config: Config, plan: FeaturePlan) -> None:
        alerts = config.alerts
        self._plan, self._most, self._critical = plan, alerts.contributions, alerts.critical
        self._columns = [*plan.features, *config.event.targets]
        rules = (alerts.anomaly, alerts.drift)
        self._learning = [LEARNING[rule.learn] for rule in rules]
        self._budgets = [rule.budget.text for rule in rules]
        self._config = config
        self._made = deque[tuple[weakref.ref[Words], int]]()
        self._bytes = 0

    def alerts(self, report: Report) -> list[Alert]:
        """The alerts of an event, a kind each at most, in no words yet."""
        out = []
        told, numbers = report.array("told.phase").tolist(), report.array("told.number").tolist()
        entities, labelled = int(report.array("pool.entities")), int(report.array("pool.n"))
        for kind, name in enumerate(lifecycle.KINDS):
            phase = told[kind]
            if phase == lifecycle.SILENT:
                continue
            score, since, absorbed = numbers[kind]
            recovered, drifts = phase == lifecycle.RECOVERED, name == "drift"
            message = {
                "entity": report.entity,
                "scope": "entity",
                "kind": name,
                "phase": lifecycle.PHASES[phase],
                "severity": "critical" if score >= self._critical else "warning",
                "ts": report.ts,
                "score": score,
                "y": report.y,
                "yhat": report.yhat,
                "yhat_lower": report.lower,
                "yhat_upper": report.upper,
                "since": int(since),
                "absorbed_after": int(absorbed) if recovered else None,
                "contributions": [],
                "weight_change": [],
                "heads": [],
                "channel": None if drifts else loop.CHANNELS[told[loop.CHANNEL]],
                "change": detect.CHANGES[int(report.array("detector.number")[detect.CHANGE])] if drifts else None,
                "learning": 1.0 if recovered else self._learning[kind],
                "budget": self._budgets[kind],
                "config_hash": self._config.hash,
                "state_hash": "",
            }
            words = Words(self, name, report)
            self._keep(words, len(report.content) + len(report.waiting))
            out.append(Alert(report.row, message, report.pool, entities, report.mark, "", labelled, words))
        return out

    def _keep(self, words: Words, size: int) -> None:
        """When there is no more room, the older ones among those that may still be needed are made."""
        self._made.append((weakref.ref(words), size))
        self._bytes += size
        if self._bytes <= ROOM:
            return
        waiting = [(each, size) for ref, size in self._made if (each := ref()) is not None and each.waits]
        self._bytes = sum(size for _, size in waiting)
        made = 0
        while self._bytes > ROOM * 3 // 4:  # so that this is rare
            waiting[made][0].said()
            self._bytes -= waiting[made][1]
            made += 1
        self._made = deque((weakref.ref(each), size) for each, size in waiting[made:])

    def rest(self, kind: str, report: Report) -> dict[str, Any]:
        """The fields of a message that take more than a look."""
        drifts, names = kind == "drift", self._input_names(report)
        levels = None if drifts else report.moved
        return {
            "contributions": self._contributions(report, names) if levels is None else self._levels(levels),
            "weight_change": self._weight_change(report, names) if drifts else [],
            "heads": self._heads(report) if drifts else [],
            "state_hash": report.layout.state_hash(report.content, report.waiting),
        }

    def _first(self, moved: NDArray[np.float64]) -> list[int]:
        """Places of those that moved most."""
        first = np.argsort(-np.abs(moved), kind="stable")[: self._most]
        return [i for i in first.tolist() if moved[i]]

    def _shares(self, moved: NDArray[np.float64], names: list[str]) -> list[dict[str, Any]]:
        total = float(np.abs(moved).sum())
        if total == 0.0:
            return []
        return [{"feature": names[i], "share": float(moved[i]) / total} for i in self._first(moved)]

    def _input_names(self, report: Report) -> list[str]:
        used = int(report.array("pool.used"))
        codes = Codes(used, *(report.array(f"pool.{name}") for name in Codes._fields[1:])) if used else None
        return input_names(self._plan, report.layout.params, codes)

    def _contributions(self, report: Report, names: list[str]) -> list[dict[str, Any]]:
        """The weightiest inputs of the prediction: each one's signed share of all that moved it from the base."""
        weights = report.array("told.weights")
        x = report.array("entity" if report.array("flag")[MANY] else "fleet")
        return self._shares((weights * x[: len(weights)]).astype(np.float64)[1:], names[1:])

    def _levels(self, moved: NDArray[np.float64]) -> list[dict[str, Any]]:
        """The columns whose levels have moved most: each one's signed share of what all have moved."""
        return self._shares(moved, [*self._columns, *(f"steps({name})" for name in self._columns)])

    def _heads(self, report: Report) -> list[dict[str, Any]]:
        """The heads that the gate believed most at the event: fast ones after a change, slow ones in calm."""
        g = report.array("g")[: int(report.array("places")[0])]
        names = answer_names(report.layout.params, bool(report.array("flag")[MANY]))
        return [{"head": names[i], "weight": float(g[i])} for i in self._first(g)]

    def _weight_change(self, report: Report, names: list[str]) -> list[dict[str, Any]]:
        """The implicit weights that moved most, in the target's unit per standard deviation of the input."""
        before, after = (report.array(name).astype(np.float64) for name in ("reference.weights", "told.weights"))
        return [
            {"feature": names[i], "before": float(before[i]), "after": float(after[i])}
            for i in self._first(after - before)
        ]
