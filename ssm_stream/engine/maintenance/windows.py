"""The windows of `alerts.maintenance` and of the control topic: which events of which entities lie in one.

A weekly window is on the clock of its time zone: an event belongs to it whenever that clock shows a time of the window.
So a window in the hour that the clock skips in spring does not occur then, and one in the hour that it repeats in
autumn holds in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.config.sections.alerts import LIMIT
from ssm_stream.config.sections.maintenance import Maintenance, weekly_spans
from ssm_stream.core.features import FIRST_MONDAY, utc_offsets
from ssm_stream.ingest.control import ControlWindow
from ssm_stream.ingest.entity_filter import pattern_filter
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.planned_stops import HELD, LEARNED
from ssm_stream.ingest.timestamps import iso_to_ms

MINUTE, DAY_MS, WEEK = 60_000, 86_400_000, 7 * 86_400_000  # ms
Offsets = Sequence[float] | NDArray[Any] | None
"""Of events on their partition; None: they have none."""
Contains = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


class Window(NamedTuple):
    """A window.

    contains: of times (n,) ms, whether they lie in it; entities: pattern; value: of `Events.maintenance` inside it
    limits: whether it suppresses the alerts of limits, too
    """

    contains: Contains
    entities: str
    value: int
    limits: bool


def window(settings: Maintenance, zone: str) -> Window:
    """Return a window of the configuration. zone: of its times, where it names none"""
    zone = settings.time_zone or zone
    value = HELD if settings.learn == "hold" else LEARNED
    if settings.weekly is not None:
        contains = weekly(settings.weekly, zone)
    else:
        assert settings.begin is not None
        assert settings.end is not None
        contains = between(*(iso_to_ms(text, ZoneInfo(zone)) for text in (settings.begin, settings.end)))
    return Window(contains, settings.entities, value, settings.limits)


def weekly(text: str, zone: str) -> Contains:
    """Return the test of times that a text such as `Sun 06:00-18:00` sets."""
    spans = [(MINUTE * span.begin, MINUTE * span.end) for span in weekly_spans(text)]

    def contains(ts: NDArray[np.int64]) -> NDArray[np.bool_]:
        out = np.zeros(len(ts), np.bool_)
        if not len(ts):
            return out
        ends = np.array([ts.min(), ts.max()])
        offsets = utc_offsets(zone, ends)
        lasts = int(ends[1] - ends[0])
        if lasts < DAY_MS and offsets[0] == offsets[1]:  # a zone does not change twice a day
            first = (int(ends[0]) + 1000 * (int(offsets[0]) - FIRST_MONDAY)) % WEEK
            last = first + lasts
            near = [(begin, end) for begin, end in spans if (begin <= last and first < end) or begin + WEEK <= last]
            if not near:
                return out
            offsets = offsets[:1]
        else:
            near, offsets = spans, utc_offsets(zone, ts)
        local = (ts + 1000 * (offsets - FIRST_MONDAY)) % WEEK
        for begin, end in near:
            out |= (begin <= local) & (local < end)
        return out

    return contains


def between(begin: int, end: int) -> Contains:
    """Return the test of times, ms, that lie in [begin, end)."""
    return lambda ts: (begin <= ts) & (ts < end)


class MaintenanceWindows:
    """All windows of a configuration.

    control: those of the control topic for the partition whose events are processed next; each acts from an offset on
    """

    def __init__(self, config: Config) -> None:
        self._windows = [window(each, config.event.time_zone) for each in config.alerts.maintenance]
        self.control: Sequence[ControlWindow] = ()

    def mark(self, events: Events, offsets: Offsets = None) -> Events:
        """Return the events with `maintenance`. Where windows overlap, the one that holds learning counts.

        offsets: of the events; None: they have none, and those of the control topic do not apply
        """
        values = np.zeros(len(events), np.int8)
        for each in self._all(offsets):
            inside = each.contains(events.ts)
            if not inside.any():
                continue
            rows = np.flatnonzero(inside)
            if each.entities != "*":
                names = [events.entity[row] for row in rows.tolist()]
                rows = rows[np.fromiter(map(pattern_filter(each.entities).matches, names), np.bool_)]
            values[rows] = np.maximum(values[rows], each.value)
        return replace(events, maintenance=values)

    def suppresses(self, entity: str, kind: str, ts: NDArray[np.int64], offsets: Offsets) -> bool:
        """Return whether an episode that starts is suppressed.

        Args:
            kind: of the alert
            ts: (n,) ms, times of which one counts
            offsets: (n,) of the events; None: of labels
        """
        return any(
            (each.limits or kind != LIMIT)
            and pattern_filter(each.entities).matches(entity)
            and bool(each.contains(ts).any())
            for each in self._all([math.inf] if offsets is None else offsets)
        )

    def contain(self, entity: str, ts: NDArray[np.int64], offsets: Offsets) -> NDArray[np.bool_]:
        """Return whether events (n,) would lie in a window if they were of this entity.

        ts: ms; offsets: as of `mark`
        """
        own = [each.contains(ts) for each in self._all(offsets) if pattern_filter(each.entities).matches(entity)]
        return np.logical_or.reduce(own) if own else np.zeros(len(ts), np.bool_)

    def _all(self, offsets: Offsets) -> Iterator[Window]:
        """Yield all windows. offsets: of the events to which they are applied"""
        yield from self._windows
        if offsets is None or not self.control:
            return
        places = np.asarray(offsets)
        for each in self.control:
            value = HELD if each.held else LEARNED
            yield Window(_acting(each, places), each.entity, value, limits=False)


def maintenance_windows(config: Config) -> MaintenanceWindows | None:
    """Return the windows of a configuration; None if it can have none."""
    return MaintenanceWindows(config) if config.alerts.has_stops else None


def _acting(window: ControlWindow, offsets: NDArray[Any]) -> Contains:
    """Return the test of events with these offsets (n,), by their times."""
    until = math.inf if window.until is None else window.until
    acts = (offsets >= window.since) & ((offsets < until) | (until == math.inf))
    return lambda ts: (window.begin <= ts) & (ts < window.end) & acts
