"""Recorded files as rows: CSV, JSON lines (both also gzipped) and Parquet.

A `Recording` yields dicts of native Python values, in file order: the form of an event as it comes from the topic. Its
`slices` yield the same rows some at a time, as dicts or by column. `read_recording(path)` yields polars frames. A file
is read slice by slice, so its size is not bounded by memory.

A CSV column holds numbers when most of its filled cells, over the whole file, are numbers. A stray text in it ("NaN",
"n/a") does not spoil the file: a row keeps it as it stands, `read_recording` shows NaN there, and the event decoder
refuses that row only. Numbers written with leading zeros ("007") are names and stay text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from ssm_stream.config import Config, ConfigError
from ssm_stream.config.paths import KEY as MESSAGE_KEY
from ssm_stream.config.sections.kafka import TOPIC_STEP
from ssm_stream.evaluate.recordings.csv_file import csv_column, csv_rows, csv_slices, number, scan_csv
from ssm_stream.evaluate.recordings.document_columns import KEY, PLACE, WHOLE
from ssm_stream.evaluate.recordings.files import RecordingError, Row
from ssm_stream.evaluate.recordings.frames import SLICE, Slice, typed_slice
from ssm_stream.evaluate.recordings.json_lines import count_json_rows, json_rows
from ssm_stream.evaluate.recordings.parquet_file import (
    is_recorded_topic,
    parquet_columns,
    parquet_height,
    parquet_slices,
)
from ssm_stream.evaluate.recordings.topic_file import partition_by_entity, recorded_slice, row_by_place
from ssm_stream.evaluate.topic_partitions import TopicPartitions
from ssm_stream.ingest.missing_paths import FIRST, PathSearch

FORMATS = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
    ".parquet": "parquet",
}


class Recording:
    """The rows of a file as dicts: numbers as int or float, an empty cell as None, nested JSON as it is.

    Times stay text in CSV and JSON; Parquet's dates and times become ISO 8601 text. A CSV line whose
    cells are all empty is no row.

    Args:
        path: of the file
        limit: largest number of rows; None: all

    Raises:
        RecordingError: no such file, unknown suffix, broken file, or no rows; raised by the first row.
    """

    def __init__(self, path: str | Path, limit: int | None = None) -> None:
        self.path, self.limit = Path(path), limit

    def __iter__(self) -> Iterator[Row]:
        for part in self.slices():
            yield from part.rows()

    def slices(self, names: Collection[str] | None = None) -> Iterator[Slice]:
        """Yield the rows, up to 50,000 at a time. names: of Parquet, read these columns only (those that there are)"""
        kind = _format(self.path)
        columns = scan_csv(self.path).columns if kind == "csv" else {}
        left = self.limit
        recorded = self.is_topic
        if recorded and names is not None:
            names = {*names, WHOLE, *([KEY] if MESSAGE_KEY in names else [])}
        for whole in self._parts(kind, names):
            part = whole if left is None else whole[:left]
            if kind == "csv":
                yield Slice(len(part), partial(csv_rows, part, columns), partial(csv_column, part, columns))
            elif kind == "jsonl":
                yield Slice(len(part), partial(list, part), lambda _: None)
            else:
                yield recorded_slice(part) if recorded else typed_slice(part)
            if left is not None:
                left -= len(part)
                if not left:
                    return

    def _parts(self, kind: str, names: Collection[str] | None) -> Iterator[Any]:
        """Yield frames of text (CSV) or of the file's types (Parquet), or lists of rows."""
        if kind == "csv":
            return csv_slices(self.path, SLICE)
        return _batched(json_rows(self.path)) if kind == "jsonl" else parquet_slices(self.path, names)

    @property
    def is_topic(self) -> bool:
        """Whether `ssm-stream record` wrote the file: its rows are the events of a topic."""
        return _format(self.path) == "parquet" and is_recorded_topic(self.path)

    def partitions(self, config: Config) -> TopicPartitions | None:
        """Return the partition of each entity, of a recorded topic; None of another file.

        Raises:
            RecordingError: the file cannot be read.
        """
        if not self.is_topic:
            return None
        found = partition_by_entity(self.path, config.event)
        by_topic: dict[int, int] = {}
        for at in found.values():
            topic, partition = divmod(at, TOPIC_STEP)
            by_topic[topic] = max(by_topic.get(topic, 0), partition + 1)
        return TopicPartitions(sum(by_topic.values()) or 1, found)

    def row_by_place(self) -> dict[tuple[int, int], int] | None:
        """Return the row, from 0, of each partition (`Source.number`) and offset, of a recorded topic; None of
        another file.

        Raises:
            RecordingError: the file cannot be read.
        """
        return row_by_place(self.path) if self.is_topic else None

    def check_columns(self, config: Config) -> None:
        """Check that the file has each configured path: see `missing_paths`.

        Raises:
            ConfigError: names the missing path and the nearest one.
            RecordingError: the file cannot be read.
        """
        if missing := self.missing_paths(config):
            raise ConfigError("\n".join(missing))

    def missing_paths(self, config: Config) -> list[str]:
        """Return an error sentence for each configured column or path that the file does not have; of JSON lines, that
        none of the rows to read has (at most the first 50,000), of nested columns none of the first 1,000.

        Raises:
            RecordingError: the file cannot be read.
        """
        kind = _format(self.path)
        if kind == "jsonl":
            names, rows = list[str](), islice(json_rows(self.path), min(SLICE, self.limit or SLICE))
        else:
            names = list(scan_csv(self.path).columns) if kind == "csv" else parquet_columns(self.path)
            rows = islice(self, FIRST if kind == "parquet" else 0)
        search = PathSearch(config, names)
        if search.missing:
            search.add(rows)
        return search.sentences(self.path.name)


def read_recording(path: str | Path) -> Iterator[pl.DataFrame]:
    """Yield frames of up to 50,000 rows, in file order.

    CSV columns are Int64, Float64 or String, the same in every slice; a stray text in a number column is NaN.
    JSON lines and Parquet keep their own types (nested objects become structs).

    Raises:
        RecordingError: as `Recording`.
    """
    path = Path(path)
    kind = _format(path)
    if kind == "csv":
        columns = scan_csv(path).columns
        for frame in csv_slices(path, SLICE):
            yield frame.select(number(name, columns[name]) for name in frame.columns)
    elif kind == "jsonl":
        for rows in _batched(json_rows(path)):
            yield pl.DataFrame(rows, infer_schema_length=None, strict=False)
    else:
        recorded = is_recorded_topic(path)
        for frame in parquet_slices(path):
            yield frame.drop(PLACE) if recorded else frame


def count_rows(path: str | Path) -> int:
    """Return the number of rows: from Parquet's footer, or by one pass over the text.

    Raises:
        RecordingError: as `Recording`.
    """
    path = Path(path)
    kind = _format(path)
    if kind == "csv":
        return scan_csv(path).rows
    return count_json_rows(path) if kind == "jsonl" else parquet_height(path)


def _format(path: Path) -> str:
    suffix = next((s for s in sorted(FORMATS, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise RecordingError(f"{path}: unknown kind of file; name it {', '.join(FORMATS)}, by what it holds")
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise RecordingError(f"{path}: {found}; give the path of a recording ({', '.join(FORMATS)})")
    return FORMATS[suffix]


def _batched(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield lists of up to 50,000 rows; the rows before a broken one come before its error."""
    batch: list[Row] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == SLICE:
                yield batch
                batch = []
    except RecordingError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
