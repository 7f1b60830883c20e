"""A batch on its way through the core, the working memory of a thread that takes it on, and the threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from operator import is_
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import loop, native, shapes
from ssm_stream.core.loop import Predictions
from ssm_stream.engine.alerts import AlertBuilder, ReportedEvent, TargetAndPrediction
from ssm_stream.engine.category_texts import WatchedPools
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.parallel.cores import cores
from ssm_stream.engine.report_collector import Location, ReportCollector
from ssm_stream.ingest.events import Events

MAX_REPORTS = 64
"""Reported events whose state a batch holds until its turn: of a flood the rest waits for it."""


@dataclass(slots=True)
class BatchRun:
    """A batch of one target on its way through the core; none of its events is idle.

    rows, pools (n,): of the state, for each event; u (n, C), steps (n, 2): the columns that the core reads
    mark: index of its source's watermark; watched: of the texts of its categories
    out: its predictions, as far as it is; at: the next event; reports: of the events before its turn
    watermark: of its source before it, ms, NaN at the first; None: it has not begun
    """

    events: Events
    source: int
    rows: NDArray[np.int64]
    pools: NDArray[np.int64]
    u: NDArray[np.float64]
    steps: NDArray[np.int64]
    mark: int
    watched: WatchedPools | None
    out: Predictions
    at: int = 0
    reports: list[ReportedEvent] = field(default_factory=list)
    watermark: float | None = None

    def advance(
        self,
        core: native.Engine,
        watermarks: NDArray[np.float64],
        mark: int,
        end: int | None = None,
        allowance: NDArray[np.float64] | None = None,
    ) -> int:
        """Go on until the core stops, at event `end` at the latest, and return why. mark: index of the watermark"""
        part, events = slice(end), self.events
        out: Any = [column[part] for column in self.out]
        self.at, stop = core.run(
            self.pools[part], self.rows[part], events.ts[part], self.u[part], self.steps[part], events.target[part],
            self.at, watermarks, mark, Predictions(*out), None if allowance is None else allowance[part],
            None if events.stopped is None else events.stopped[part],
            None if events.share is None else events.share[part],
        )  # fmt: skip
        return stop

    def reported(self) -> tuple[int, str, int, TargetAndPrediction, Location]:
        """Return the arguments of `ReportCollector.read` for the last event, which the core has reported."""
        i, out = self.at - 1, self.out
        values = TargetAndPrediction(
            float(self.events.target[i]), float(out.yhat[i]), float(out.lower[i]), float(out.upper[i])
        )
        location = Location(int(self.rows[i]), int(self.pools[i]), self.source)
        return i, self.events.entity[i], int(self.events.ts[i]), values, location


class Lane:
    """The working memory of a thread that learns batches before their turn: for a store's arrays as they are now.

    scratch, report: as of `EntityStore`
    """

    def __init__(self, store: EntityStore, rules: loop.Rules, builder: AlertBuilder) -> None:
        self._store = store
        self._of = (store.params, store.state, store.shared)
        self.scratch, self.report = shapes.new_scratch(store.params), store.new_report()
        self._bound = native.Engine(store.params, self.scratch, store.state, store.shared, rules, self.report)
        self._reports = ReportCollector(store, builder, self)
        self._watermark = np.empty(1)

    def fits(self) -> bool:
        """Return whether the store still has the arrays that this is for."""
        return all(map(is_, self._of, (self._store.params, self._store.state, self._store.shared)))

    def advance(self, run: BatchRun, lock: Lock) -> bool:
        """Learn a batch until it needs its turn, and return whether that is all of it. lock: of the store's tally"""
        marks = self._store.watermarks
        run.watermark = self._watermark[0] = float(marks[run.mark])
        stop = loop.REPORT
        while stop == loop.REPORT and len(run.reports) < MAX_REPORTS:
            stop = run.advance(self._bound, self._watermark, 0)
            if stop == loop.REPORT:
                with lock:
                    run.reports.append(self._reports.read(*run.reported()))
        marks[run.mark] = self._watermark[0]
        return stop == loop.DONE


class Lanes:
    """The lanes of one target. rules: of the core; builder: of its alerts"""

    def __init__(self, store: EntityStore, rules: loop.Rules, builder: AlertBuilder) -> None:
        self._store, self._rules, self._builder = store, rules, builder
        self._free, self._lock = list[Lane](), Lock()

    def advance(self, runs: Sequence[BatchRun]) -> None:
        """Learn batches of one source in their order, until one stops; called by several threads."""
        with self._lock:
            lane = self._free.pop() if self._free else None
        if lane is None or not lane.fits():
            lane = Lane(self._store, self._rules, self._builder)
        all(lane.advance(run, self._lock) for run in runs)
        self._free.append(lane)


@cache
def _helpers() -> ThreadPoolExecutor:
    """Return the threads that help the workers': the same for all shards of the process."""
    return ThreadPoolExecutor(cores() - 1, "ssm-stream-learn")


class Task(NamedTuple):
    """What one thread does: learn batches. events: of them"""

    events: int
    run: Callable[[], None]


def run_all(tasks: Iterable[Task]) -> None:
    """Run tasks on this thread and on the helpers, and return when all are done.

    Raises:
        Exception: the first that a task has raised, after the others have ended.
    """
    ordered = sorted(tasks, key=lambda task: -task.events)  # else a thread may be left with the largest at the end
    left = iter(ordered)  # the threads take from it in turn

    def work() -> None:
        for task in left:
            task.run()

    helpers = [_helpers().submit(work) for _ in range(min(len(ordered), cores()) - 1)]
    try:
        work()
    finally:
        for each in helpers:  # one that has not begun finds nothing left
            each.cancel() or each.exception()
    for each in helpers:
        if not each.cancelled():
            each.result()
