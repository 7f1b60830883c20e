"""Threads that do jobs; those of one key in their order. A job that has to be tried again later delays no other key."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable

Job = Callable[[], float | None]
"""Returns the seconds after which it is to be called again; None: it is done."""


class Lanes:
    """A fixed number of threads that share the jobs.

    name: of the threads
    """

    def __init__(self, name: str, threads: int) -> None:
        self._change = threading.Condition()
        self._jobs: dict[str, deque[Job]] = {}
        self._ready = deque[str]()
        self._later: list[tuple[float, int, str]] = []
        self._numbers, self._closing = itertools.count(), False
        self.failed: Exception | None = None
        """What a job has raised."""
        self._threads = [threading.Thread(target=self._run, name=f"{name} {i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, key: str, job: Job) -> None:
        """Have a job done after those of its key before."""
        with self._change:
            jobs = self._jobs.setdefault(key, deque())
            jobs.append(job)
            if len(jobs) == 1:
                self._ready.append(key)
                self._change.notify()

    def _run(self) -> None:
        while (key := self._next()) is not None:
            again: float | None = None
            try:
                again = self._jobs[key][0]()
            except Exception as error:  # noqa: BLE001 - the worker raises it
                self.failed = error
            with self._change:
                if again is not None:
                    heapq.heappush(self._later, (time.monotonic() + again, next(self._numbers), key))
                else:
                    self._jobs[key].popleft()
                    if self._jobs[key]:
                        self._ready.append(key)
                    else:
                        del self._jobs[key]
                self._change.notify()

    def _next(self) -> str | None:
        """Wait for a key whose first job is due, and return it; None: the threads are to end."""
        with self._change:
            while not self._closing:
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    self._ready.append(heapq.heappop(self._later)[2])
                if self._ready:
                    if len(self._ready) > 1:
                        self._change.notify()
                    return self._ready.popleft()
                self._change.wait(self._later[0][0] - now if self._later else None)
            return None

    def close(self) -> None:
        """Wait until the calls that have begun are over; begin no others."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()
