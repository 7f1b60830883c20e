"""Runs commands of ssm-stream in a process of their own, with a limit of time, and shortens what they print."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import anyio
import orjson

MAX_ITEMS = 20
"""Items of a list, and of an object with many names, in an answer."""
MAX_NAMES = 60
"""Names of an object from which on only the first `MAX_ITEMS` are kept."""
MAX_TEXT = 2_000
MAX_MESSAGES = 60
"""Lines of what a command prints on standard error."""
TIMED_OUT = 124
"""Exit code of a command that was ended as its time was over."""
PROGRESS_EVERY = 2.0


class Finished(NamedTuple):
    """A command that has ended. output: its standard output; messages: lines of its standard error"""

    exit_code: int
    seconds: float
    output: bytes
    messages: list[str]

    def json(self) -> dict[str, Any]:
        """Return the JSON object that it printed, shortened; empty if it is none."""
        try:
            found = orjson.loads(self.output)
        except orjson.JSONDecodeError:
            return {}
        return shortened(found) if isinstance(found, dict) else {}


class CommandRunner:
    """Runs one command at a time. limit: seconds that each may take"""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._lock = anyio.Lock()

    async def run(
        self, arguments: Sequence[str], on_progress: Callable[[float, float], Awaitable[None]] | None = None
    ) -> Finished:
        """Run `ssm-stream ARGUMENTS` and return what it printed; if the call is cancelled, the command ends.

        Args:
            arguments: of the command; they are passed as they are, through no shell
            on_progress: is called every two seconds with the seconds so far and the limit
        """
        async with self._lock:
            began, done = time.monotonic(), None
            with anyio.move_on_after(self.limit):
                async with anyio.create_task_group() as group:
                    if on_progress is not None:
                        group.start_soon(self._report, began, on_progress)
                    command = [sys.executable, "-m", "ssm_stream", *arguments]
                    done = await anyio.run_process(command, stdin=subprocess.DEVNULL, check=False)
                    group.cancel_scope.cancel()
            seconds = round(time.monotonic() - began, 3)
            if done is None:
                return Finished(TIMED_OUT, seconds, b"", [f"ended after {self.limit:g} s; give fewer rows by `rows`"])
            lines = done.stderr.decode("utf-8", "replace").splitlines()
            return Finished(done.returncode, seconds, done.stdout, [line[:MAX_TEXT] for line in lines[-MAX_MESSAGES:]])

    async def _report(self, began: float, on_progress: Callable[[float, float], Awaitable[None]]) -> None:
        while True:
            await anyio.sleep(PROGRESS_EVERY)
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                await on_progress(time.monotonic() - began, self.limit)


def shortened(content: Any) -> Any:
    """Return JSON content whose lists, large objects and texts are cut, each with a note of how much is left out."""
    if isinstance(content, str):
        return content if len(content) <= MAX_TEXT else f"{content[:MAX_TEXT]}… ({len(content) - MAX_TEXT:,} more)"
    if isinstance(content, list):
        found = [shortened(each) for each in content[:MAX_ITEMS]]
        return found if len(content) <= MAX_ITEMS else [*found, f"… {len(content) - MAX_ITEMS:,} more"]
    if isinstance(content, dict):
        names = list(content)
        shown = names if len(names) <= MAX_NAMES else names[:MAX_ITEMS]
        out = {name: shortened(content[name]) for name in shown}
        return out if len(shown) == len(names) else {**out, "…": f"{len(names) - len(shown):,} more"}
    return content
