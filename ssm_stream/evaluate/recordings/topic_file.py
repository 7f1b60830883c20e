"""The events of a topic as one Parquet file: written in any order of its partitions, read in that of their messages.

Rows are in the order of the messages' timestamps; within a partition they keep the order of the partition, whatever its
timestamps are. The order, and so every result, does not depend on how the partitions were read. Memory is bounded: rows
go to sorted files next to the recording, which are merged into it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from ssm_stream.config import Event
from ssm_stream.config.paths import KEY as MESSAGE_KEY
from ssm_stream.config.paths import columns_of, is_flat
from ssm_stream.evaluate.recordings.document_columns import (
    KEY,
    OFFSET,
    PARTITION,
    PLACE,
    TIMESTAMP,
    WHOLE,
    Document,
    DocumentColumns,
)
from ssm_stream.evaluate.recordings.files import RecordingError, Row
from ssm_stream.evaluate.recordings.frames import Slice, typed_slice
from ssm_stream.ingest.json_values import is_utf8
from ssm_stream.ingest.message_fields import decode_text
from ssm_stream.ingest.paths import path_getter
from ssm_stream.ingest.rows.names import entity_getter

RUN_ROWS, RUN_CELLS = 262_144, 16_000_000
"""Rows and cells that are sorted together in memory."""
BATCH_ROWS = 16_384
"""Rows of the sorted files that are read at a time, at least."""
GROUP_ROWS = 100_000
"""Rows of a group of the Parquet file."""
ORDER = "kafka.order"
"""Column of the sorted files: the latest timestamp of the partition so far, ms."""
SORTED_BY = [ORDER, PARTITION, OFFSET]
Ints = NDArray[np.int64]


class Places(NamedTuple):
    """Where documents come from: partition (`Source.number`), offset, timestamp (ms) and key of each message."""

    partition: Ints
    offset: Ints
    ts: Ints
    keys: Sequence[bytes | str | None]


class TopicFile:
    """Writes a recording. It is a file of its name once `finish` has returned, and nothing before.

    Args:
        path: of the recording; its folder needs room for the events twice while they are written
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self._folder = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.absolute().parent)
        self._columns = DocumentColumns()
        self._frames: list[pl.DataFrame] = []
        self._cells = self._waiting = 0
        self._latest: dict[int, int] = {}
        self._runs: list[Path] = []

    def __enter__(self) -> TopicFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    @property
    def columns(self) -> list[str]:
        """The columns so far, without those of the place."""
        return list(self._columns.types)

    def add(self, documents: Sequence[Document], places: Places) -> None:
        """Add documents; those of a partition in its order."""
        if not documents:
            return
        frame = self._columns.frame(documents).with_columns(
            pl.Series(PARTITION, places.partition, dtype=pl.Int32),
            pl.Series(OFFSET, places.offset),
            pl.Series(TIMESTAMP, places.ts),
            pl.Series(KEY, places.keys, dtype=pl.Binary),
            pl.Series(ORDER, self._order(places)),
        )
        self._frames.append(frame)
        self.rows += frame.height
        self._waiting += frame.height
        self._cells += frame.height * frame.width
        if self._waiting >= RUN_ROWS or self._cells >= RUN_CELLS:
            self._write_run()

    def _order(self, places: Places) -> Ints:
        """Return the latest timestamp of its partition up to each message."""
        out = np.empty(len(places.ts), np.int64)
        for number in np.unique(places.partition).tolist():
            rows = np.flatnonzero(places.partition == number)
            latest = np.maximum.accumulate(np.maximum(places.ts[rows], self._latest.get(number, -(2**62))))
            out[rows], self._latest[number] = latest, int(latest[-1])
        return out

    def _write_run(self) -> None:
        """Write the waiting rows, sorted, to a file of their own."""
        if not self._frames:
            return
        run = pl.concat(self._frames, how="diagonal_relaxed").sort(SORTED_BY)
        self._runs.append(Path(self._folder.name) / f"run-{len(self._runs):06d}.arrow")
        with self._writing():
            run.write_ipc(self._runs[-1], compression="uncompressed", record_batch_size=BATCH_ROWS)
        self._frames, self._waiting, self._cells = [], 0, 0

    def finish(self) -> None:
        """Merge the sorted files into the recording, and give it its name."""
        self._write_run()
        whole = Path(self._folder.name) / "whole.parquet"
        with self._writing():
            pl.scan_ipc(self._merge()).sink_parquet(whole, row_group_size=GROUP_ROWS)
            os.replace(whole, self.path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn the errors of a full or broken disk into a RecordingError."""
        try:
            yield
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).split("\n")[0]
            raise RecordingError(
                f"{self.path}: cannot be written ({reason}); while it is written its folder needs room for the events "
                "twice, uncompressed"
            ) from error

    def _merge(self) -> list[Path]:
        """Write the rows of all sorted files in their order; return the files that have them."""
        final = {
            **self._columns.final_types(),
            PARTITION: pl.Int32(),
            OFFSET: pl.Int64(),
            TIMESTAMP: pl.Int64(),
            KEY: pl.Binary(),
            WHOLE: pl.String(),
        }
        step = max(RUN_ROWS // max(len(self._runs), 1), 1024)
        runs, out = [_Run(path, step) for path in self._runs], list[Path]()
        while runs := [run for run in runs if run.fill()]:
            bound = min(run.last for run in runs)
            parts = [_with_types(part, final) for run in runs if (part := run.take(bound)).height]
            together = pl.concat(parts).sort(SORTED_BY) if len(parts) > 1 else parts[0]
            together = together.drop(ORDER).with_columns(pl.col(TIMESTAMP).cast(pl.Datetime("ms", "UTC")))
            out.append(Path(self._folder.name) / f"merged-{len(out):06d}.arrow")
            together.write_ipc(out[-1], compression="uncompressed")
        for path in self._runs:
            path.unlink()
        return out


class _Run:
    """A sorted file that is read some rows at a time. step: so many"""

    def __init__(self, path: Path, step: int) -> None:
        self._scan, self._step, self._next = pl.scan_ipc(path), step, 0
        self._height = int(self._scan.select(pl.len()).collect().item())
        self._rows: pl.DataFrame | None = None
        self._keys: list[NDArray[Any]] = []

    def fill(self) -> bool:
        """Read the next rows if none are left; return whether there are any."""
        if self._rows is None and self._next < self._height:
            self._rows = self._scan.slice(self._next, self._step).collect()
            self._next += self._rows.height
            self._keys = [self._rows[name].to_numpy() for name in SORTED_BY]
        return self._rows is not None

    def _key(self, row: int) -> tuple[int, ...]:
        return tuple(int(column[row]) for column in self._keys)

    @property
    def last(self) -> tuple[int, ...]:
        """What the last of the rows read is sorted by."""
        return self._key(len(self._keys[0]) - 1)

    def take(self, bound: tuple[int, ...]) -> pl.DataFrame:
        """Remove and return the rows up to a key."""
        assert self._rows is not None
        end = bisect_right(range(self._rows.height), bound, key=self._key)
        taken, rest = self._rows[:end], self._rows[end:]
        self._rows, self._keys = (rest, [column[end:] for column in self._keys]) if rest.height else (None, [])
        return taken


def _with_types(frame: pl.DataFrame, types: dict[str, Any]) -> pl.DataFrame:
    """Return the frame with exactly these columns and the order."""
    return frame.select(
        *(
            pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, kind).alias(name)
            for name, kind in types.items()
        ),
        ORDER,
    )


def is_recorded(names: Sequence[str]) -> bool:
    """Return whether a file with these columns is a recorded topic."""
    return set(PLACE) <= set(names)


def recorded_slice(frame: pl.DataFrame) -> Slice:
    """Return a frame of a recorded topic as a slice: without the places, but with the messages' keys as text, and with
    the documents kept as text."""
    whole, keys = frame[WHOLE], None
    fields = frame.drop(PLACE, strict=False)
    if KEY in frame.columns and MESSAGE_KEY not in fields.columns:
        try:
            fields = fields.with_columns(frame[KEY].cast(pl.String).alias(MESSAGE_KEY))
        except pl.exceptions.ComputeError:  # a key is not UTF-8
            keys = frame[KEY]
    came = frame[TIMESTAMP].dt.epoch("ms").to_numpy() if TIMESTAMP in frame.columns else None
    if keys is None and whole.null_count() == len(whole):
        return typed_slice(fields)._replace(came=came)
    return Slice(len(frame), partial(_documents, fields, whole, keys), lambda _: None, came)


def _documents(fields: pl.DataFrame, whole: pl.Series, keys: pl.Series | None) -> list[Row]:
    """Return the rows, those that are kept as text from it. keys: of the messages, where they are no column"""
    rows = typed_slice(fields).rows() if fields.width else [{} for _ in range(len(whole))]
    texts = fields[MESSAGE_KEY].to_list() if MESSAGE_KEY in fields.columns else ()
    if keys is not None:
        texts = list(map(decode_text, keys.to_list()))
    out = [row if text is None else _from_json(text) for row, text in zip(rows, whole.to_list(), strict=True)]
    for row, key in zip(out, texts, strict=False):
        row.setdefault(MESSAGE_KEY, key)
    return out


def _from_json(text: str) -> Row:
    """Return a document of its text. A lone surrogate, of a key or header that was not UTF-8, stays one."""
    try:
        document: Row = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = json.loads(text)
    return document


def partition_by_entity(path: Path, event: Event) -> dict[str, int]:
    """Return the partition of the first event of each entity of a recorded topic."""
    get, out, names = entity_getter(event), dict[str, int](), {*columns_of(event.entity), PARTITION, WHOLE}
    if event.entity == MESSAGE_KEY:
        names.add(KEY)
    scan = pl.scan_parquet(path)
    scan = scan.select([name for name in scan.collect_schema().names() if name in names])
    for start in range(0, int(scan.select(pl.len()).collect().item()), GROUP_ROWS):
        frame = scan.slice(start, GROUP_ROWS).collect()
        found = pl.DataFrame({"entity": _entities(frame, event), "partition": frame[PARTITION]})
        first = found.group_by("entity", maintain_order=True).agg(pl.col("partition").first())
        for each, partition in first.iter_rows():
            if (name := get({event.entity: each})) is not None:  # of readings, a tag has the name
                out.setdefault(name, partition)
    return out


def _entities(frame: pl.DataFrame, event: Event) -> pl.Series:
    """Return the name in each row, null without one: of the documents kept as text, too."""
    part, default = recorded_slice(frame), event.entity_default
    column = part.column(event.entity)
    if column is not None and (is_flat(event.entity) or column.dtype != pl.Null):
        return column.cast(pl.String, strict=False).fill_null(pl.lit(default, pl.String))
    rows = part.rows() or [{}] * len(frame)  # some are kept as text, or the name is within a list
    found = [default if value is None else value for value in map(path_getter(event.entity), rows)]
    return pl.Series(list(map(_name, found)), dtype=pl.String)


def _name(value: Any) -> str | None:
    """Return a name as the reader of events has it; None for what is none."""
    text = str(value) if type(value) is int else value
    return text if type(text) is str and is_utf8([text]) else None


def row_by_place(path: Path) -> dict[tuple[int, int], int]:
    """Return the row, from 0, of each partition and offset of a recorded topic."""
    places = pl.scan_parquet(path).select(PARTITION, OFFSET).collect()
    return {place: row for row, place in enumerate(places.iter_rows())}
