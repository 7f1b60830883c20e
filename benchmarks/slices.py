"""What something costs, measured by switching it on and off within one run.

A shared machine changes its pace by more from one run to the next than a part of the product costs, but less within a
second or two. So a run is cut into slices of time in which the part is on, off, off, on, and so on: a pace that changes
steadily changes both alike. Every other run begins with off: what a run does at a certain time, as a snapshot, shall
not always fall upon the same. Each four slices give a share. What counts is the mean of all shares but the tenth at
either end, where the machine stood still within a slice; its standard error and the mean of all are told beside.

Only the standard library at the top: clients.py runs this in the peers' virtual environment too.
"""

from __future__ import annotations

import statistics
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple

from measuring import MissingError

FOUR = 4
LEAST = 10
BEGIN, END = 12, 4
"""Slices of a run that do not count: entities come in, and the first snapshot is written; what is left is sent."""
Slice = tuple[int, float, float, bool]
"""Events, seconds, seconds of CPU of all threads, and whether the part was on."""


class Slices:
    """Cuts a run.

    Args:
        seconds: of a slice; many batches, few beside how long a shared machine keeps its pace
        off_first: begin with off
    """

    def __init__(self, seconds: float, *, off_first: bool = False) -> None:
        self.on = not off_first
        self.done: list[Slice] = []
        self._seconds, self._off_first = seconds, off_first
        self._since = self._cpu = 0.0
        self._events = 0

    def learned(self, events: int) -> bool:
        """So many more, told by the dataflow's thread; whether a slice has begun."""
        now, cpu = time.perf_counter(), time.process_time()
        if not self._since:
            self._since, self._cpu = now, cpu
            return False
        self._events += events
        if now - self._since < self._seconds:
            return False
        self.done.append((self._events, now - self._since, cpu - self._cpu, self.on))
        self.on = (len(self.done) % FOUR in (0, 3)) != self._off_first
        self._since, self._cpu, self._events = now, cpu, 0
        return True


def with_metrics(slices: Slices) -> type:
    """Metrics that count, time and are asked for their page while they are on, and do nothing in between."""
    from ssm_stream.ops.metrics import Metrics

    class Switched:
        """Adds while metrics are on."""

        def __init__(self, of: Any) -> None:
            self._of = of
            self.read = of.read

        def add(self, *arguments: Any) -> None:
            if slices.on:
                self._of.add(*arguments)

    class Alternating(Metrics):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.quality = {path: Switched(of) for path, of in self.quality.items()}  # type: ignore[misc]
            self.pages: list[int] = []  # bytes of each that was asked for
            self._page = f"http://{config.ops.address}/metrics"
            self._asked = 0

        def _ask(self) -> None:
            with urllib.request.urlopen(self._page, timeout=5) as answer:
                self.pages.append(len(answer.read()))

        def on_batch(self, shard: Any, batch: Any) -> None:
            # Once a second of those that count, in a thread of its own, as the server answers in one.
            if slices.learned(len(batch.events)) and slices.on and len(slices.done) >= self._asked + 2 * FOUR:
                self._asked = len(slices.done)
                threading.Thread(target=self._ask, daemon=True).start()
            if slices.on:
                super().on_batch(shard, batch)

    def switched(name: str) -> Callable[..., None]:
        def count(self: Any, *arguments: Any, **named: Any) -> None:
            if slices.on:
                getattr(Metrics, name)(self, *arguments, **named)

        return count

    for name in ("on_read", "observe_stage", "on_labels", "on_evicted", "on_snapshot", "on_sent", "on_epoch"):
        setattr(Alternating, name, switched(name))
    return Alternating


def with_page(slices: Slices) -> type:
    """A live page that observes nothing and sends its browsers nothing while it is off."""
    from ssm_stream.ui.live_page import LivePage

    class Alternating(LivePage):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._on = threading.Event()
            self._on.set()
            self._sending = 0.0
            self._streams: dict[int, float] = {}

        def on_batch(self, shard: Any, batch: Any) -> None:
            if slices.learned(len(batch.events)):
                self.switch()

        @property
        def own(self) -> float:
            """Seconds of CPU of the page's own functions, in the thread that sends and in those of its streams."""
            return self._sending + sum(self._streams.values())

        def switch(self) -> None:
            """Of the time that the page may take none is saved up while it is off."""
            if slices.on:
                self.cache._budget_since = time.monotonic()
                self._on.set()
            else:
                self._on.clear()

        def on_sent(self, sent: Any) -> None:
            if slices.on:
                began = time.thread_time()
                super().on_sent(sent)
                self._sending += time.thread_time() - began

        def refresh(self) -> None:
            # Each browser's turn begins with this; its thread does nothing else.
            self._streams[threading.get_ident()] = time.thread_time()
            while not self._on.wait(1.0) and not self.closed.is_set():
                pass
            super().refresh()

    return Alternating


class Cost(NamedTuple):
    """Share that something costs, without the tenth of the comparisons at either end, and its standard error; the mean
    of all; of how many comparisons."""

    share: float
    standard_error: float
    mean: float
    comparisons: int


def cost(runs: list[list[Slice]], figure: int) -> Cost:
    """Of a figure's events a second (1: of time, 2: of CPU time), over the slices of each run but its first and last.
    The standard error is that of a trimmed mean (Yuen 1974).

    Raises:
        MissingError: there are too few of them.
    """

    def pace(some: list[Slice], on: bool) -> float:
        mine = [one for one in some if one[3] == on]
        return sum(one[0] for one in mine) / sum(one[figure] for one in mine)

    fours = [run[i : i + FOUR] for run in runs for i in range(BEGIN, len(run) - END - FOUR + 1, FOUR)]
    shares = sorted(1 - pace(four, True) / pace(four, False) for four in fours)
    count, cut = len(shares), len(shares) // 10
    if count < LEAST:
        raise MissingError(f"{count} comparisons are too few for a figure: more --events, or --rounds")
    kept = shares[cut : count - cut]
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    error = statistics.stdev(winsorized) * count**0.5 / len(kept)
    return Cost(statistics.fmean(kept), error, statistics.fmean(shares), count)


def told(title: str, of: Cost) -> str:
    """In words."""
    return (
        f"{title}: {of.share:.4f}, standard error {of.standard_error:.4f}, of {of.comparisons} comparisons "
        f"(mean of all {of.mean:.4f})"
    )
