"""Work on the store that nobody waits for, until somebody does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any


class Background:
    """Threads for it. threads: at most; name: of the threads"""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, name)
        self._running = set[Future[Any]]()

    def submit(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call it in a thread, soon."""
        future = self._pool.submit(call, *arguments)
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def drain(self) -> None:
        """Wait until all that was submitted is done."""
        wait(self._running.copy())
