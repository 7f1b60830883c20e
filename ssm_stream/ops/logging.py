"""Logs on standard error: one event name a thing that happens, for people on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up_logging(*, level: str = "info", json: bool | None = None) -> None:
    """Send structlog's events to standard error.

    Args:
        level: the least severe that is written
        json: JSON lines; by default where standard error is no terminal
    """
    as_json = not sys.stderr.isatty() if json is None else json
    last: list[structlog.typing.Processor]
    if as_json:
        last = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        # Standard error as it is then: whoever replaced it for a while may have closed what stood there.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
