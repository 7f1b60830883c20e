"""Delays between attempts."""

from __future__ import annotations

import random

FIRST = 0.1
MAX = 60.0
"""Seconds before the second attempt, and between attempts at most."""
MAX_RETRY_AFTER = 600.0
"""Seconds that a receiver may name."""


class Backoff:
    """Delays that double from one failure to the next, less up to half at random."""

    def __init__(self, first: float = FIRST) -> None:
        self._first, self._failures = first, 0

    def next(self, retry_after: float | None = None) -> float:
        """Return the seconds until the next attempt. retry_after: that the receiver names"""
        self._failures += 1
        delay: float = min(self._first * 2.0 ** min(self._failures - 1, 20), MAX)
        delay *= random.uniform(0.5, 1.0)
        return delay if retry_after is None else max(delay, min(retry_after, MAX_RETRY_AFTER))

    def reset(self) -> None:
        """Begin again, after a success."""
        self._failures = 0
