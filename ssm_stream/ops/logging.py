"""Logs on standard error: readable lines on a terminal, JSON elsewhere.

No event of the topic has a line of its own. Lines of the same name are limited to a few a minute; the next one has the
number that was left out.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any

import structlog

MAX_LINES = 20
"""Lines of one name in a window; those beyond are only counted."""
WINDOW = 60.0
"""Seconds."""

_ALWAYS: dict[str, Any] = {}


def always(**values: Any) -> None:
    """Add these values to every line from now on, in every thread."""
    _ALWAYS.update(values)


def _add_always(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**_ALWAYS, **event}


class Limiter:
    """Drops lines whose name has come too often in a window, but no errors; the next line has the number dropped.

    >>> limit = Limiter(limit=1, window=60.0)
    >>> limit(None, "info", {"event": "again"})
    {'event': 'again'}
    >>> limit(None, "info", {"event": "again"})
    Traceback (most recent call last):
    structlog.exceptions.DropEvent
    """

    def __init__(self, limit: int = MAX_LINES, window: float = WINDOW) -> None:
        self._limit, self._window = limit, window
        self._lock = threading.Lock()
        self._seen: dict[str, list[float]] = {}  # since when, how many, how many left out before

    def __call__(self, _: Any, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if level in ("error", "critical"):
            return event
        name, now = str(event.get("event")), time.monotonic()
        with self._lock:
            seen = self._seen.setdefault(name, [now, 0, 0])
            if now - seen[0] >= self._window:
                left_out = max(seen[1] - self._limit, 0)
                seen[:] = [now, 0, left_out]
            seen[1] += 1
            if seen[1] > self._limit:
                raise structlog.DropEvent
            left_out, seen[2] = seen[2], 0
        return {**event, "left_out": int(left_out)} if left_out else event


def set_up_logging(*, level: str = "info", json: bool | None = None) -> None:
    """Send structlog's events to standard error.

    Args:
        level: lowest severity that is written
        json: write JSON lines; by default if standard error is no terminal
    """
    as_json = not sys.stderr.isatty() if json is None else json
    last: list[structlog.typing.Processor]
    if as_json:
        last = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[
            Limiter(),
            _add_always,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        # Standard error as it is at each line: it may have been replaced and closed in between.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
