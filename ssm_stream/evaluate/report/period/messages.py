"""What the topics hold of a period and of the one before it, as the report takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Message = dict[str, Any]
DAY = 86_400_000


class AnnouncedStop(NamedTuple):
    """A planned stop that was announced. begin, end: ms, [begin, end)"""

    entity: str
    begin: int
    end: int
    reason: str
    by: str


class RewoundStretch(NamedTuple):
    """What a rewind has excluded from the state. begin, end: ms, [begin, end)"""

    entity: str
    begin: int
    end: int


class Period(NamedTuple):
    """The messages of [since, until), and of as long a time before it. since, until: ms

    alerts, suppressed: in the order of their times; verdicts: id of an alert → whether it was called true; None: the
        configuration names no topic for feedback
    summaries: the last of each key; None: the configuration names no topic for them
    """

    since: int
    until: int
    alerts: Sequence[Message]
    suppressed: Sequence[Message]
    verdicts: dict[str, bool] | None
    summaries: Sequence[Message] | None
    stops: Sequence[AnnouncedStop]
    rewound: Sequence[RewoundStretch] = ()

    @property
    def before(self) -> int:
        """Where the time before it begins, ms."""
        return 2 * self.since - self.until

    @property
    def days(self) -> float:
        """Its length."""
        return (self.until - self.since) / DAY
