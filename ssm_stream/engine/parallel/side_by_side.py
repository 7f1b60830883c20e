"""Learns batches of several sources, and several targets of a batch, side by side, on as many cores as there are.

Entities learn with those of their source and from nobody else. So batches of different sources that share no entity may
be learned at the same time, each by a thread with working memory of its own: the rows that it writes are written by no
other, and no bit depends on which thread is faster. Only the core's loops run so: what needs more room stops a batch,
and `TargetEngine.finish` goes on from there when it is the batch's turn. Targets have nothing in common: those of a
batch that has not begun are learned at the same time when it is its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from ssm_stream.core.loop import Predictions
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.parallel.cores import cores
from ssm_stream.engine.parallel.lanes import BatchRun, Lanes, Task, run_all
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.planned_stops import withhold_targets

MIN_EVENTS = 1024
"""Events of all batches and targets for which other threads are woken: some 4 ms of work. For less, waiting for a core
that others have would cost latency."""
MAX_INPUTS = 2**23
"""Inputs of all targets that memory has twice, as numbers, while their batches are learned before their turn: 64 MB."""

BatchOfSource = tuple[Events, int]


class Target(Protocol):
    """The engine of one target."""

    @property
    def store(self) -> EntityStore:
        """Its state."""

    @property
    def lanes(self) -> Lanes | None:
        """What runs batches ahead of their turn; None where only their turn will do, as things are."""

    def begin(self, events: Events, source: int) -> BatchRun:
        """Return a batch that is to be learned."""

    def finish(self, run: BatchRun) -> tuple[Predictions, list[Alert]]:
        """Return the results of a batch that has begun, whose turn it is."""

    def process(
        self, events: Events, source: int, evicted: Sequence[tuple[int, str]]
    ) -> tuple[Predictions, list[Alert]]:
        """Return the results of a batch that has not begun, whose turn it is."""


class SideBySide:
    """The batches of an engine, and those that have begun before their turn.

    targets: its engines, one a target; select: returns the events as the engine of a target, by its number, reads them

    Attributes:
        enabled: else batches and targets go one after another
    """

    def __init__(self, targets: Sequence[Target], select: Callable[[int, Events], Events]) -> None:
        self._targets, self._select, self.enabled = targets, select, cores() > 1
        self._begun: dict[int, tuple[Events, list[BatchRun]]] = {}

    def begin(self, batches: Sequence[BatchOfSource], others: int) -> list[Task]:
        """Return what learns batches as far as that goes before their turn; nothing where it is not worth it.

        others: events of other engines that are learned at the same time
        """
        alone = len({source for _, source in batches}) < 2 and not others
        count = sum(len(events) for events, _ in batches)
        if alone or not self.enabled or any(each.lanes is None for each in self._targets):
            return []
        inputs = count * sum(each.store.params.C for each in self._targets)
        if len(self._targets) * (count + others) < MIN_EVENTS or inputs > MAX_INPUTS:
            return []
        if any(events.idle is not None or events.maintenance is not None for events, _ in batches):
            return []
        tasks = list[Task]()
        for number, each in enumerate(self._targets):
            by_source: dict[int, list[BatchRun]] = {}
            for events, source in batches:
                run = each.begin(self._select(number, events), source)
                self._begun.setdefault(id(events), (events, []))[1].append(run)
                by_source.setdefault(source, []).append(run)
            if each.lanes is not None and _share_no_row(list(by_source.values()), len(each.store)):
                for runs in by_source.values():
                    tasks.append(Task(sum(len(run.rows) for run in runs), partial(each.lanes.advance, runs)))
        return tasks

    def take(self, events: Events, source: int) -> tuple[list[BatchRun] | None, float]:
        """Return what has begun of the batch whose turn it is, by target, and its source's watermark before it, ms.

        None: nothing has begun; NaN: it is the source's first batch.
        """
        begun = self._begun.pop(id(events), None)
        runs = None if begun is None else begun[1]
        before = None if runs is None else runs[0].watermark
        return runs, self._targets[0].store.watermark(source) if before is None else before

    def process(
        self, events: Events, source: int, evicted: Sequence[tuple[int, str]], begun: list[BatchRun] | None
    ) -> list[tuple[Predictions, list[Alert]]]:
        """Return the results of each target of a batch whose turn it is.

        Channels of one's own, which are Python, are called by one thread.

        begun: as of `take`; evicted: as of `TargetEngine.process`
        """
        targets = self._targets
        if begun is not None:
            return [each.finish(run) for each, run in zip(targets, begun, strict=True)]
        results = dict[int, tuple[Predictions, list[Alert]]]()

        def learn(number: int) -> None:
            own = withhold_targets(self._select(number, events))
            results[number] = targets[number].process(own, source, evicted)

        tasks = [Task(len(events), partial(learn, number)) for number in range(len(targets))]
        alone = len(tasks) == 1 or not self.enabled or any(each.store.own is not None for each in targets)
        if alone or len(tasks) * len(events) < MIN_EVENTS:
            for task in tasks:
                task.run()
        else:
            run_all(tasks)
        return [results[number] for number in range(len(targets))]


def _share_no_row(runs: Sequence[Sequence[BatchRun]], entities: int) -> bool:
    """Return whether no entity has events of two sources. runs: of each source"""
    if len(runs) == 1:
        return True
    taken = np.zeros(entities, np.bool_)
    for own in runs:
        rows = np.concatenate([run.rows for run in own])
        if taken[rows].any():
            return False
        taken[rows] = True
    return True
