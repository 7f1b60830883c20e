"""Planned stops as the page shows them: those of the file, and those that were announced on the control topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ssm_stream.config import Config
from ssm_stream.config.sections.maintenance import Maintenance, weekly_spans
from ssm_stream.ingest.control import ControlWindow
from ssm_stream.ingest.entity_filter import pattern_filter
from ssm_stream.ingest.timestamps import iso_to_ms

MAX_LISTED = 200
"""Announced stops that browsers get, the latest."""
MAX_SPANS = 100
"""Spans of an entity that a browser gets, the latest."""
DAY = 86_400_000
"""Milliseconds of a day."""
AHEAD = 8 * DAY
"""Time after an entity's last event up to which its stops are computed: a weekly one occurs in it."""
MAX_WEEKS = 60
"""Weeks in which the occurrences of a weekly stop are computed, from the end of the time in question."""


class AnnouncedStop(NamedTuple):
    """A stop of the control topic.

    acts_from: partition of the events → offset from which on it acts there; empty: not acknowledged yet
    written: when it was announced, ms; ended: when its end was announced, ms, None if it was not
    end_acts: whether that end is acknowledged
    """

    window: ControlWindow
    acts_from: Mapping[int, int]
    written: int
    ended: int | None = None
    end_acts: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as browsers get it."""
        each = self.window
        return {
            "id": each.id,
            "entity": each.entity,
            "from": each.begin,
            "to": each.end,
            "learn": "hold" if each.held else "adapt",
            "reason": each.reason,
            "by": each.by,
            "acts": sorted(self.acts_from.items()),
            "ended": self.ended,
            "end_acts": self.end_acts,
        }

    @property
    def span(self) -> tuple[int, int]:
        """[begin, end) in ms, in which it acts."""
        return self.window.span(self.written, self.ended)


class PlannedStops:
    """All stops of a configuration and of its control topic."""

    def __init__(self, config: Config) -> None:
        self.version = 0
        """Increases with each change."""
        self._zone = config.event.time_zone
        self._file = config.alerts.maintenance
        self._announced: tuple[AnnouncedStop, ...] = ()

    def announce(self, stops: Sequence[AnnouncedStop]) -> None:
        """Replace the announced stops."""
        if tuple(stops) != self._announced:
            self._announced = tuple(stops)
            self.version += 1

    def is_announced(self, name: str) -> bool:
        """Return whether there is an announced stop with this id."""
        return any(each.window.id == name for each in self._announced)

    def listed(self, entity: str | None = None) -> dict[str, Any]:
        """Return the stops as browsers get them, announced ones by their begin, latest first. entity: only its own"""
        announced = [each for each in self._announced if self._is_of(each.window.entity, entity)]
        announced.sort(key=lambda each: (each.window.begin, each.written), reverse=True)
        return {
            "announced": [each.to_json() for each in announced[:MAX_LISTED]],
            "file": [
                {"entity": each.entities, "text": each.text, "learn": each.learn, "limits": each.limits}
                for each in self._file
                if self._is_of(each.entities, entity)
            ],
        }

    def spans(self, entity: str, begin: int, end: int) -> list[list[Any]]:
        """Return [begin, end, reason] of the stops of an entity that overlap [begin, end), ms, in order."""
        found = list[tuple[int, int, str]]()
        for stop in self._file:
            if self._is_of(stop.entities, entity):
                found += [(*span, stop.text) for span in self._occurrences(stop, begin, end)]
        for each in self._announced:
            if self._is_of(each.window.entity, entity):
                found.append((*each.span, each.window.reason))
        return [list(each) for each in sorted(found) if each[0] < end and max(begin, each[0]) < each[1]][-MAX_SPANS:]

    def _is_of(self, pattern: str, entity: str | None) -> bool:
        return entity is None or pattern_filter(pattern).matches(entity)

    def _occurrences(self, stop: Maintenance, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield [begin, end), ms, of occurrences of a stop of the file, of at least those that overlap [begin, end)."""
        zone = ZoneInfo(stop.time_zone or self._zone)
        if stop.weekly is None:
            yield iso_to_ms(stop.begin or "", zone), iso_to_ms(stop.end or "", zone)
            return
        last = _date(end, zone)
        first = max(_date(begin, zone), last - timedelta(weeks=MAX_WEEKS))
        week, open_ = first - timedelta(days=first.weekday() + 7), None
        while week <= last:
            for span in weekly_spans(stop.weekly):
                begins, ends = _local_ms(week, span.begin, zone), _local_ms(week, span.end, zone)
                if open_ is not None and begins <= open_[1]:  # Sat,Sun 00:00-24:00 is one stop
                    open_ = open_[0], max(ends, open_[1])
                    continue
                if open_ is not None:
                    yield open_
                open_ = begins, ends
            week += timedelta(weeks=1)
        if open_ is not None:
            yield open_


class StopsView:
    """The stops for one browser: all, or those of an entity, with their spans.

    clock: returns the time of the stream, ms; reach: returns the times of the first and last event of the entity that
    are shown, None without any
    """

    def __init__(
        self,
        stops: PlannedStops,
        clock: Callable[[], int],
        entity: str | None = None,
        reach: Callable[[], tuple[int, int] | None] = lambda: None,
    ) -> None:
        self._stops, self._clock, self._entity, self._reach = stops, clock, entity, reach
        self._version = -1
        self._begin = self._end = 0

    def next(self) -> dict[str, Any]:
        """Return what is new since the last call."""
        version = self._stops.version
        if self._entity is None:
            if version == self._version:
                return {}
            self._version = version
            return {"stops": self._stops.listed()}
        reach = self._reach()
        if version == self._version and (reach is None or reach[1] < self._end - AHEAD + DAY):
            return {}
        first, last = reach or (self._clock(), self._clock())
        self._begin = first if self._version < 0 else min(first, self._begin)
        self._version, self._end = version, last + AHEAD
        spans = self._stops.spans(self._entity, self._begin, self._end)
        return {"stops": {**self._stops.listed(self._entity), "spans": spans}}


def _date(ms: int, zone: ZoneInfo) -> date:
    return (datetime.fromtimestamp(ms / 1000, UTC)).astimezone(zone).date()


def _local_ms(week: date, minutes: int, zone: ZoneInfo) -> int:
    """Return the time, ms, at which the clock of a zone shows so many minutes since the Monday of a week."""
    shown = datetime.combine(week, datetime.min.time()) + timedelta(minutes=minutes)
    return round(shown.replace(tzinfo=zone).timestamp() * 1000)
