"""The column with the time of an event, among those of a sample."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import (
    Column,
    epochs,
    has_offset,
    holds_date_numbers,
    holds_several_units,
    holds_spreadsheet_days,
    may_be_elapsed_seconds,
    time_format,
)
from ssm_stream.autoconfig.target import TIMES, rank
from ssm_stream.config import ConfigError, Event
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.local_times import find_zone

ZONE = re.compile(r":[0-9]{2}(?:[.,][0-9]+)? *(?:[AaPp]\.?[Mm]\.? *)?(?!AM|PM|UTC|GMT)([A-Z]{3,5}) *$")
"""The abbreviation of a zone at the end of a time."""


def find_timestamp(
    found: dict[str, Column], chosen: str | None, why: dict[str, str], notes: list[str]
) -> tuple[str, str]:
    """Return the path of the time, and its format.

    Raises:
        ConfigError: no column is a time, or its numbers are dates in a form that the flow cannot read.
    """
    if chosen is not None:
        _refuse_date_numbers(found[chosen])
        form = time_format(found[chosen]) or ("s" if may_be_elapsed_seconds(found[chosen]) else "auto")
        why["timestamp"] = f"as given; {_describe_time(found[chosen], form, notes)}"
        return chosen, form
    forms = {
        path: detected
        for path, column in found.items()
        if (detected := time_format(column)) is not None
        and (detected == "iso" or rank(column, TIMES) < len(TIMES) or _is_increasing(column))
    }
    if forms:
        path = min(forms, key=lambda path: (rank(found[path], TIMES), found[path].index))
        _refuse_date_numbers(found[path])
        why["timestamp"] = _describe_time(found[path], forms[path], notes)
        if len(forms) > 1:
            others = ", ".join(other for other in forms if other != path)
            why["timestamp"] += f"; {others} would do, too"
        return path, forms[path]
    elapsed = [c for c in found.values() if rank(c, TIMES) < len(TIMES) and may_be_elapsed_seconds(c)]
    if elapsed:
        column = min(elapsed, key=lambda c: (rank(c, TIMES), c.index))
        _refuse_date_numbers(column)
        why["timestamp"] = _describe_time(column, "s", notes)
        return column.path, "s"
    named = sorted((c for c in found.values() if rank(c, TIMES) < len(TIMES)), key=lambda c: (rank(c, TIMES), c.index))
    for column in named:
        if holds_several_units(column):
            why["timestamp"] = _describe_time(column, "auto", notes)
            return column.path, "auto"
    hint = ""
    if named:
        _refuse_date_numbers(named[0])
        value = next(iter(named[0].values.values()))
        hint = f"; `{named[0].path}` ({value!r}) is named like one, but {_not_a_time(named[0])}: convert it"
    raise ConfigError(
        f"no column is a time{hint}; name one with --timestamp, or, if a file has none, say what lies between two "
        "rows: --every 1s. Times are ISO 8601 text (in files other dates, too), or seconds, milli-, micro- or "
        f"nanoseconds since 1970. Columns: {', '.join(found)}"
    )


def _not_a_time(column: Column) -> str:
    """Return why a column is no time."""
    if not column.is_filled:
        return f"{column.n - len(column.values)} of {column.n} rows have none"
    if column.kind not in ("number", "whole"):
        value = next(iter(column.values.values()))
        zone = ZONE.search(value) if isinstance(value, str) else None
        return f"has the zone {zone[1]} in place of an offset, +05:30" if zone else "is neither ISO 8601 nor a number"
    if column.distinct < min(3, column.n):
        return f"hardly changes: {column.distinct} different in {column.n} rows"
    return "is in no unit a time of 2000 to 2100, and not all rows have seconds from 0 on"


def _refuse_date_numbers(column: Column) -> None:
    """Raise ConfigError if numbers are dates, or may be, which would be taken for seconds."""
    value = next(iter(column.values.values()))
    if holds_spreadsheet_days(column):
        raise ConfigError(
            f"`{column.path}` (found {value!r}) may hold days as spreadsheets count them, or seconds: format its cells "
            "as dates and export them again; if they are seconds, let them begin at 0"
        )
    if holds_date_numbers(column):
        raise ConfigError(
            f"`{column.path}` (found {value!r}) holds dates as whole numbers, which an "
            "event cannot have: write them as ISO 8601 text (2026-02-03T06:00:00)"
        )


def _describe_time(column: Column, form: str, notes: list[str]) -> str:
    """Return a description of a column of times; add notes on its zone and origin."""
    if form == "iso":
        if has_offset(column):
            if offset := _local_offset(column):
                notes.append(
                    f"`{column.path}` has an offset from UTC, {offset}: the hours and weekdays that are learned, "
                    "and the times in alerts, are those of UTC unless event.time_zone names the zone"
                )
            return "dates and times with an offset from UTC"
        notes.append(
            f"`{column.path}` has no offset from UTC and is taken for UTC: set event.time_zone where it is local time "
            "(ssm-stream backtest names a zone where a recording has an hour twice, as clocks that go back have)"
        )
        return "dates and times without an offset from UTC: taken for UTC"
    if form == "auto" and holds_several_units(column):
        notes.append(f"`{column.path}` has numbers since 1970 in several units: each is taken for that of its size")
        return "numbers since 1970 in several units, each by its size"
    if form == "auto":
        return "the format is detected value by value"
    unit = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[form]
    if time_format(column) is None:
        notes.append(f"`{column.path}` does not count from 1970: calendar inputs and times in alerts are meaningless")
        return f"numbers that grow, taken for {unit} since some beginning"
    return f"numbers{' in quotes' if column.kind == 'text' else ''}, {unit} since 1970"


def _local_offset(column: Column) -> str | None:
    """Return the first offset of its texts that is not that of UTC; None if all are."""
    found = (re.search(r"[T ][0-9:.,]+ ?([+-][0-9:]+)$", str(value).strip()) for value in column.values.values())
    return next((match[1] for match in found if match and match[1].strip("+-0:")), None)


def _is_increasing(column: Column) -> bool:
    """Return whether hardly a number is smaller than that of the row before."""
    steps = np.diff(epochs(column))
    return bool(np.count_nonzero(steps < 0) <= 0.1 * len(steps))


def read_times(rows: Sequence[dict[str, Any]], timestamp: str, form: str) -> NDArray[np.int64]:
    """Return times (n,) in ms; where one cannot be read, the last one before."""
    bare = {"entity": "\0", "entity_default": "-", "timestamp": timestamp, "timestamp_format": form, "target": "\0"}
    reader = EventReader(Event.model_validate(bare))
    events, _ = reader.read(rows)
    if not len(events):
        raise ConfigError(
            f"timestamp: `{timestamp}` cannot be read in any of {len(rows)} rows; name another with --timestamp"
        )
    at = np.searchsorted(events.position, np.arange(len(rows)), side="right") - 1
    return events.ts[np.maximum(at, 0)]


def zone_of(
    found: dict[str, Column], entity: str | None, ts: NDArray[np.int64], why: dict[str, str], notes: list[str]
) -> str | None:
    """Return the zone of times that go back where its clocks did, in place of the note that they are taken for UTC."""
    names = None if entity is None else [found[entity].values.get(i) for i in range(len(ts))]
    zone = find_zone(names, ts)
    if zone is not None:
        why["time_zone"] = f"an hour comes twice in the sample, when the clocks of {zone} went back"
        notes[:] = [note for note in notes if "no offset from UTC" not in note]
        notes.append(f"time zone: {zone} is one of those whose clocks went back then; set event.time_zone to your own")
    return zone
