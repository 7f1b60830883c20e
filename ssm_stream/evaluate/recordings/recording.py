"""Recorded files as rows: CSV, JSON lines (both also gzipped) and Parquet.

A `Recording` yields dicts of native Python values, in file order: the form of an event as it comes from the topic. Its
`slices` yield the same rows some at a time, as dicts or by column. `read_recording(path)` yields polars frames. A file
is read slice by slice, so its size is not bounded by memory.

A CSV column holds numbers when most of its filled cells, over the whole file, are numbers. A stray text in it ("NaN",
"n/a") does not spoil the file: a row keeps it as it stands, `read_recording` shows NaN there, and the event decoder
refuses that row only. Numbers written with leading zeros ("007") are names and stay text.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from ssm_stream.config import Config, ConfigError, Event
from ssm_stream.config.paths import KEY as MESSAGE_KEY
from ssm_stream.config.sections.kafka import TOPIC_STEP
from ssm_stream.evaluate.recordings.document_columns import KEY, PLACE, WHOLE
from ssm_stream.evaluate.recordings.exports.folder import files_of, kind_of
from ssm_stream.evaluate.recordings.exports.options import DETECTED, FileOptions
from ssm_stream.evaluate.recordings.exports.table import Table
from ssm_stream.evaluate.recordings.exports.tags import Tags, find_tags
from ssm_stream.evaluate.recordings.exports.typed_dates import HEAD, TypedDates, find_typed_dates
from ssm_stream.evaluate.recordings.files import RecordingError, Row
from ssm_stream.evaluate.recordings.frames import SLICE, Slice, typed_slice
from ssm_stream.evaluate.recordings.json_lines import count_json_rows, json_rows, unfinished_line
from ssm_stream.evaluate.recordings.parquet_file import (
    is_recorded_topic,
    parquet_columns,
    parquet_head,
    parquet_height,
    parquet_slices,
)
from ssm_stream.evaluate.recordings.signals import absent_signals
from ssm_stream.evaluate.recordings.text_columns import number, text_column, text_rows
from ssm_stream.evaluate.recordings.topic_file import partition_by_entity, recorded_slice, row_by_place
from ssm_stream.evaluate.topic_partitions import TopicPartitions
from ssm_stream.ingest.missing_paths import FIRST, PathSearch
from ssm_stream.ingest.paths import path_getter

MAX_SLICES, MAX_PARSED = 40, 20
"""Slices that are read where a sample is not enough; of JSON, of which each row has to be parsed."""
MAX_CELLS = 10_000_000
"""Cells of JSON that are searched for other values: where many columns are the same, fewer rows."""


def _plain_values(rows: Sequence[Row], path: str) -> set[Any]:
    """Return the different values at a path of rows; of lists and objects none."""
    found = map(path_getter(path), rows)
    return {value for value in found if value is not None and not isinstance(value, dict | list)}


def _pairs(part: Slice, group: str, names: Sequence[str]) -> dict[str, set[tuple[Any, Any]]]:
    """Return column → pairs of a group and a value that are in rows of a slice."""
    keys, columns = part.column(group), {name: part.column(name) for name in names}
    if keys is not None and all(column is not None for column in columns.values()):
        frames = {name: pl.DataFrame({"key": keys, "value": column}) for name, column in columns.items()}
        return {name: set(frame.drop_nulls().unique().iter_rows()) for name, frame in frames.items()}
    rows, key, getters = part.rows(), path_getter(group), {name: path_getter(name) for name in names}
    return {
        name: {
            (str(key(row)), value)
            for row in rows
            if (value := get(row)) is not None and not isinstance(value, dict | list)
        }
        for name, get in getters.items()
    }


class Recording:
    """The rows of a file as dicts: numbers as int or float, an empty cell as None, nested JSON as it is.

    Times stay text in CSV and JSON; Parquet's dates and times become ISO 8601 text. A CSV line whose
    cells are all empty is no row.

    Args:
        path: of the file, or of a folder with files of one table
        limit: largest number of rows; None: all
        options: how cells are read, where it is not detected

    Raises:
        RecordingError: no such file, unknown suffix, broken file, or no rows; raised by the first row.
    """

    def __init__(self, path: str | Path, limit: int | None = None, options: FileOptions = DETECTED) -> None:
        self.path, self.limit, self.options = Path(path), limit, options

    def of_event(self, event: Event) -> Recording:
        """Return the recording as a configuration reads it."""
        return Recording(self.path, self.limit, self.options.of_event(event))

    @property
    def _table(self) -> Table:
        return Table(tuple(files_of(self.path)), self.options)

    def count(self) -> int:
        """Return the number of rows: from Parquet's footer, or by one pass over the text.

        Raises:
            RecordingError: the file cannot be read.
        """
        kind, files = kind_of(self.path), files_of(self.path)
        if kind == "table":
            total = self._table.scan().rows
        else:
            total = sum(map(count_json_rows if kind == "jsonl" else self._parquet_height, files))
        return total if self.limit is None else min(total, self.limit)

    def _parquet_height(self, file: Path) -> int:
        tags = self._parquet_tags
        return parquet_height(file) if tags is None else sum(map(tags.count, parquet_slices(file)))

    def describe(self) -> str:
        """Return in words how the cells of the file are read, if not as they stand; else an empty text.

        Raises:
            RecordingError: the file cannot be read.
        """
        kind = kind_of(self.path)
        if kind == "table":
            return self._table.describe()
        tags = self._parquet_tags if kind == "parquet" else None
        facts = [self._typed_dates.describe(), "" if tags is None else tags.describe()]
        if kind == "jsonl" and self.limit is None:
            cut = {file: unfinished_line(file) for file in files_of(self.path)}
            facts += [
                f"{file.name}:{line} left out, an unfinished line at its end" for file, line in cut.items() if line
            ]
        return "; ".join(filter(None, facts))

    @property
    def numbered(self) -> str | None:
        """Name of the column with times by the number of the row; None if none was made.

        Raises:
            RecordingError: the file cannot be read.
        """
        return self._table.scan().format.numbered if kind_of(self.path) == "table" else None

    def __iter__(self) -> Iterator[Row]:
        for part in self.slices():
            yield from part.rows()

    def slices(self, names: Collection[str] | None = None) -> Iterator[Slice]:
        """Yield the rows, up to 50,000 at a time. names: of Parquet, read these columns only (those that there are)"""
        kind = kind_of(self.path)
        columns = self._table.scan().columns if kind == "table" else {}
        left = self.limit
        recorded = self.is_topic
        if names is not None and (sources := self._typed_dates.sources):
            names = {*names, *sources}
        if recorded and names is not None:
            names = {*names, WHOLE, *([KEY] if MESSAGE_KEY in names else [])}
        for whole in self._parts(kind, names):
            part = whole if left is None else whole[:left]
            if kind == "table":
                yield Slice(len(part), partial(text_rows, part, columns), partial(text_column, part, columns))
            elif kind == "jsonl":
                yield Slice(len(part), partial(list, part), lambda _: None)
            else:
                yield recorded_slice(part) if recorded else typed_slice(part)
            if left is not None:
                left -= len(part)
                if not left:
                    return

    def first_slices(self, names: Collection[str]) -> Iterator[Slice]:
        """Yield what is read where a sample is not enough: up to 2,000,000 rows, of JSON 1,000,000; see `slices`."""
        return islice(self.slices(names), MAX_PARSED if kind_of(self.path) == "jsonl" else MAX_SLICES)

    def distinct(self, most: Mapping[str, int]) -> dict[str, set[Any]]:
        """Return different values of columns in the rows of `first_slices`, of wide JSON in fewer.

        most: path of a column → number of values after which no more are searched
        """
        values, searched = {name: set[Any]() for name in most}, 0
        for part in self.first_slices(most.keys()):
            left = [name for name in most if len(values[name]) < most[name]]
            if not left or searched >= MAX_CELLS:
                break
            for name in left:
                if (column := part.column(name)) is not None:
                    values[name] |= set(column.drop_nulls().unique().head(most[name]).to_list())
                else:
                    values[name] |= _plain_values(part.rows(), name)
                    searched += part.height
        return values

    def varying(self, group: str, names: Collection[str]) -> set[str]:
        """Return which columns have several values in the rows of one group, in the rows of `first_slices`.

        Args:
            group: path of what the rows are grouped by, such as the entity
            names: paths of the columns
        """
        first: dict[str, dict[Any, Any]] = {name: {} for name in names}
        found: set[str] = set()
        for part in self.first_slices({group, *names}):
            if not (left := [name for name in first if name not in found]):
                break
            for name, pairs in _pairs(part, group, left).items():
                if any(first[name].setdefault(key, value) != value for key, value in pairs):
                    found.add(name)
        return found

    def _parts(self, kind: str, names: Collection[str] | None) -> Iterator[Any]:
        """Yield frames of text (tables) or of the file's types (Parquet), or lists of rows."""
        if kind == "table":
            return self._table.frames(SLICE)
        files, dates = files_of(self.path), self._typed_dates
        if kind == "jsonl":
            return map(dates.rows, _batched(chain.from_iterable(map(_whole_rows, files))))
        if (tags := self._parquet_tags) is not None:
            return (dates.frame(tags.to_rows(frame)) for file in files for frame in parquet_slices(file))
        return (dates.frame(frame) for file in files for frame in parquet_slices(file, names))

    @property
    def _typed_dates(self) -> TypedDates:
        """The columns of JSON and Parquet files that are a time written as numbers."""
        if kind_of(self.path) == "table" or self.is_topic:
            return TypedDates()
        file = files_of(self.path)[0]
        stat = file.stat()
        return _typed_dates(file, self.options, (stat.st_mtime_ns, stat.st_size))

    @property
    def _parquet_tags(self) -> Tags | None:
        """Which columns of Parquet files are one tag each."""
        if self.is_topic:
            return None
        return find_tags(parquet_columns(files_of(self.path)[0]), self.options.tags, self.options.columns)

    @property
    def is_topic(self) -> bool:
        """Whether `ssm-stream record` wrote the file: its rows are the events of a topic."""
        return kind_of(self.path) == "parquet" and self.path.is_file() and is_recorded_topic(self.path)

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

    def has_signal(self, config: Config, signal: str) -> bool:
        """Return whether the file has a column or signal of this path, watched or not; it has those configured."""
        event = config.event
        if signal in (*event.targets, *event.columns):
            return True
        # With `target: all` a feature is a target, too, of which there is a largest number.
        key = "inputs" if event.watches_all else "features"
        try:
            read = config.replace(event=event.model_copy(update={key: [*(getattr(event, key) or []), signal]}))
        except ValueError:  # the entity, or the time
            return False
        return not self.missing_paths(read)

    def missing_paths(self, config: Config) -> list[str]:
        """Return an error sentence for each configured column or path that the file does not have; of JSON lines, that
        none of the rows to read has (at most the first 50,000), of nested columns none of the first 1,000.

        Raises:
            RecordingError: the file cannot be read.
        """
        kind, first, read = kind_of(self.path), files_of(self.path)[0], self.of_event(config.event)
        names, rows = list[str](), iter(list[Row]())
        if kind == "table":
            names = list(read._table.scan().columns)
        elif kind == "parquet":
            tags, names = read._parquet_tags, parquet_columns(first)
            names = read._typed_dates.names(names if tags is None else tags.names(names))
            rows = islice(read, FIRST)
        else:
            rows = islice(_whole_rows(first), min(SLICE, self.limit or SLICE))
            if (dates := read._typed_dates).sources:
                rows = iter(dates.rows(list(rows)))
        search = PathSearch(config, names)
        if search.missing:
            search.add(rows)
        sentences = search.sentences(self.path.name)
        if kind == "table" and any(sentence.startswith("event.timestamp") for sentence in sentences):
            sentences.append("if the file has no times, say what lies between two rows, such as --every 1s")
        if not sentences and config.event.layout == "readings":
            return absent_signals(config, read.slices(), self.path.name)
        return sentences


_whole_rows = functools.partial(json_rows, unfinished=True)


@functools.lru_cache(maxsize=16)
def _typed_dates(file: Path, options: FileOptions, _version: tuple[int, int]) -> TypedDates:
    """Return the columns of a file of JSON or Parquet that are a time written as numbers, from its first rows."""
    rows: list[Row] = []
    with contextlib.suppress(RecordingError):  # a broken row further on is for the reader of the rows
        if kind_of(file) == "parquet":
            return find_typed_dates(parquet_head(file, HEAD), options)
        rows.extend(islice(_whole_rows(file), HEAD))
    names = dict.fromkeys(chain.from_iterable(rows))
    return find_typed_dates({name: [row.get(name) for row in rows] for name in names}, options)


def read_recording(path: str | Path) -> Iterator[pl.DataFrame]:
    """Yield frames of up to 50,000 rows, in file order.

    Columns of text files are Int64, Float64 or String, the same in every slice; a stray text in a number column is NaN.
    JSON lines and Parquet keep their own types (nested objects become structs).

    Raises:
        RecordingError: as `Recording`.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "table":
        table = Table(tuple(files_of(path)), DETECTED)
        columns = table.scan().columns
        for frame in table.frames(SLICE):
            yield frame.select(number(name, columns[name]) for name in frame.columns)
    elif kind == "jsonl":
        for rows in _batched(chain.from_iterable(map(_whole_rows, files_of(path)))):
            yield pl.DataFrame(rows, infer_schema_length=None, strict=False)
    else:
        for file in files_of(path):
            recorded = is_recorded_topic(file)
            for frame in parquet_slices(file):
                yield frame.drop(PLACE) if recorded else frame


def count_rows(path: str | Path) -> int:
    """Return the number of rows. Raises RecordingError as `Recording`."""
    return Recording(path).count()


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
