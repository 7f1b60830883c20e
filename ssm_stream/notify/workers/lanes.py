"""Threads that do jobs; those of one key in their order."""

from __future__ import annotations

import queue
import threading
import zlib
from collections.abc import Callable

Job = Callable[[], None]


class Lanes:
    """A fixed number of threads; jobs of one key are done by one of them, one after the other.

    name: of the threads
    """

    def __init__(self, name: str, lanes: int) -> None:
        self._queues = [queue.SimpleQueue[Job | None]() for _ in range(lanes)]
        self._threads = [
            threading.Thread(target=self._run, args=(each,), name=f"{name} {i}", daemon=True)
            for i, each in enumerate(self._queues)
        ]
        self.failed: Exception | None = None
        """What a job has raised; no job is begun after it."""
        for thread in self._threads:
            thread.start()

    def submit(self, key: str, job: Job) -> None:
        """Have a job done after those of its key before."""
        self._queues[zlib.crc32(key.encode()) % len(self._queues)].put(job)

    def _run(self, jobs: queue.SimpleQueue[Job | None]) -> None:
        while (job := jobs.get()) is not None:
            if self.failed is None:
                try:
                    job()
                except Exception as error:  # noqa: BLE001 - the worker raises it
                    self.failed = error

    def close(self) -> None:
        """Wait until the jobs are done."""
        for each in self._queues:
            each.put(None)
        for thread in self._threads:
            thread.join()
