"""Quiet hours: parts of the local week in which people are only called for what is critical."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from ssm_stream.config.sections.maintenance import DAY_MINUTES, weekly_spans


class QuietHours:
    """The times of `notify.quiet` on the clock of a time zone.

    >>> quiet = QuietHours(["Mon-Fri 22:00-06:00"], "UTC")
    >>> quiet.contains(datetime(2026, 5, 6, 23, 30, tzinfo=ZoneInfo("UTC")).timestamp())
    True
    """

    def __init__(self, weekly: Sequence[str], time_zone: str) -> None:
        self._spans = [span for text in weekly for span in weekly_spans(text)]
        self._zone = ZoneInfo(time_zone)

    def contains(self, at: float) -> bool:
        """Return whether a time, s since 1970, is quiet."""
        if not self._spans:
            return False
        local = datetime.fromtimestamp(at, self._zone)
        minute = local.weekday() * DAY_MINUTES + local.hour * 60 + local.minute
        return any(span.begin <= minute < span.end for span in self._spans)
