"""True events, the labels that alarms are judged by: read from a file with a row an event."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ssm_stream.config import Config
from ssm_stream.config.suggestions import suggest
from ssm_stream.evaluate.recordings.files import RecordingError, decode, lines_of, open_file
from ssm_stream.evaluate.recordings.json_lines import json_rows
from ssm_stream.ingest.entity_filter import entity_filter
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.timestamps import parse_iso_time

COLUMNS = ("entity", "start", "end")
SEVERAL = "leave it empty, and any alarm of the entity finds the event, or write a row of each signal"
"""The cure of a cell that has several signals."""


class TrueEvent(NamedTuple):
    """Something that happened to an entity, from `start` to `end`, ms since 1970, both ends included.

    rows: of the file that it was made of, more than one where they overlap
    signal: path of the one that it shows in; empty: any alarm of the entity finds it
    """

    entity: str
    start: int
    end: int
    kind: str = ""
    rows: int = 1
    signal: str = ""


def read_true_events(
    path: Path,
    config: Config,
    entities: Collection[str] | None,
    unjudged: Collection[str] = (),
    is_recorded: Callable[[str], bool] = lambda _: False,
) -> list[TrueEvent]:
    """Return the true events of a CSV or JSON-lines file (also gzipped), by entity and start; of those that overlap,
    those of one signal are merged, and those of none.

    Cells of CSV are separated by commas, semicolons or tabs. Times are read as those of the configuration's events, or
    are ISO 8601: people write down when something happened, not the seconds since 1970 that a program exports.
    Columns: entity, start, end, and optionally `kind` and `signal`. Without an entity an event is that of
    `event.entity_default`, the one machine. Events of entities that `event.only` leaves out are skipped.

    Args:
        entities: of the recording; None: not known yet, so that any name will do
        unjudged: targets whose events are skipped, as another one is chosen
        is_recorded: whether the recording has a signal that is no target and no input; its events are kept, and missed

    Raises:
        RecordingError: names line and column, what was found, and the cure.
    """
    required = COLUMNS if config.event.entity_default is None else COLUMNS[1:]
    places, rows = zip(*_rows(path, required), strict=True)
    read: list[tuple[str, list[int]]] = []
    for column in ("start", "end"):
        form = "auto" if any(isinstance(row[column], str) for row in rows) else config.event.timestamp_format
        event = config.event.model_copy(
            update={"timestamp": column, "entity": "entity", "features": [], "categories": [], "target": "target"}
            | {"only": [], "timestamp_format": form}
        )
        # A text of digits is an epoch here, as CSV has no other; other texts are refused as times.
        events, refused = EventReader(event).read([{**row, "target": None} for row in rows])
        if refused:
            first = refused[0]
            raise RecordingError(f"{path}:{places[first.position]}: {first.reason}")
        read.append((column, events.ts.tolist()))
        names = events.entity
    watched = [*config.event.targets, *config.event.numbers]
    found, only, zone = [], entity_filter(config.event.only), ZoneInfo(config.event.time_zone)
    for at, row, name, start, end in zip(places, rows, names, read[0][1], read[1][1], strict=True):
        if only is not None and not only.matches(name):
            continue
        if entities is not None and name not in entities:
            cure = suggest(name, sorted(entities), "its entities")
            raise RecordingError(f"{path}:{at}: entity: {name!r} is not in the recording; {cure}")
        for column in ("start", "end"):
            if passes := _both_passes(row[column], zone):
                raise RecordingError(
                    f"{path}:{at}: {column}: {row[column]!r} comes twice in {zone.key}, as clocks go back; write it "
                    f"with its offset: {' or '.join(passes)}"
                )
        if end < start:
            raise RecordingError(
                f"{path}:{at}: end: {row['end']!r} is before start {row['start']!r}; write the later time as `end`"
            )
        kind, signal = ("" if row.get(key) is None else str(row[key]) for key in ("kind", "signal"))
        if signal in unjudged and signal not in watched:
            continue
        if signal and signal not in watched and not is_recorded(signal):
            several = [each.strip() for each in re.split("[,;|]", signal)]
            is_list = len(several) > 1 and set(several) <= set(watched)
            cure = SEVERAL if is_list else suggest(signal, watched, "its signals")
            raise RecordingError(f"{path}:{at}: signal: {signal!r} is no target and no input; {cure}")
        found.append(TrueEvent(name, start, end, kind, signal=signal))
    return _joined(found)


def _both_passes(value: Any, zone: ZoneInfo) -> list[str]:
    """Return both times of a local text that comes twice, with their offsets; none of any other value."""
    if not isinstance(value, str):
        return []
    time = parse_iso_time(value, zone)
    again = time.replace(fold=1)
    offset, later = time.utcoffset(), again.utcoffset()
    # Where clocks go forward, the second one is larger.
    twice = time.tzinfo is zone and offset is not None and later is not None and later < offset
    return [time.isoformat(), again.isoformat()] if twice else []


def _joined(events: list[TrueEvent]) -> list[TrueEvent]:
    """Return the events sorted, those of an entity and signal that overlap merged."""
    out: list[TrueEvent] = []
    for event in sorted(events, key=lambda event: (event.entity, event.signal, event)):
        last = out[-1] if out else None
        if last is not None and (last.entity, last.signal) == (event.entity, event.signal) and event.start <= last.end:
            kinds = dict.fromkeys(kind for kind in (*last.kind.split(" + "), event.kind) if kind)
            out[-1] = last._replace(end=max(last.end, event.end), kind=" + ".join(kinds), rows=last.rows + 1)
        else:
            out.append(event)
    return sorted(out)


def _rows(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str, Any]]]:
    """Return line and content of each row. required: columns that it must have"""
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; give the path of a CSV or JSON-lines file of true events")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson", ".json")):
        rows = list(_json_rows(path, required))
    elif name.endswith(".csv"):
        with open_file(path) as file:
            text = decode(b"".join(lines_of(file, path)), path, 1)
        rows = list(_csv_rows(path, text, required))
    else:
        raise RecordingError(f"{path}: unknown kind of file; name it .csv or .jsonl, by what it holds")
    if not rows:
        raise RecordingError(f"{path}: no events; write one a line: {','.join(required)}[,kind][,signal]")
    return rows


def _csv_rows(path: Path, text: str, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = text.removeprefix("\ufeff").splitlines()
    reader = csv.DictReader(lines, delimiter=_delimiter(lines[0] if lines else ""), skipinitialspace=True)
    _require(path, 1, list(reader.fieldnames or ()), required)
    for row in reader:
        cells = {key: _cell(value) for key, value in row.items() if isinstance(key, str)}
        if any(value is not None for value in cells.values()):
            # A name of digits is a name, times of digits are epochs.
            cells["entity"] = row.get("entity") or None
            yield reader.line_num, cells


def _delimiter(header: str) -> str:
    """Return what separates the names of the columns: a spreadsheet may write semicolons or tabs."""
    return max(",;\t", key=lambda each: sum(name.strip(' "') in COLUMNS for name in header.split(each)))


def _cell(text: Any) -> Any:
    if not isinstance(text, str) or not text.strip():
        return None
    text = text.strip()
    try:
        return float(text) if text.replace(".", "", 1).isdecimal() else text
    except ValueError:
        return text


def _json_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(json_rows(path), 1):
        _require(path, number, list(row), required)
        yield number, row


def _require(path: Path, line: int, names: list[str], required: Sequence[str]) -> None:
    if missing := [name for name in required if name not in names]:
        cure = suggest(missing[0], names, "its columns")
        if missing[0] == "entity":
            cure += "; name that of the machines `entity`"
        raise RecordingError(f"{path}:{line}: column `{missing[0]}` is missing; {cure}")
