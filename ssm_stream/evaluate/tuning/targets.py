"""The targets of a recording, read without running the engine."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.evaluate.engine_run import Ints
from ssm_stream.evaluate.prequential import batches, read_events
from ssm_stream.evaluate.recordings import Recording, RecordingError
from ssm_stream.ingest.labels import LabelReader, label_test
from ssm_stream.ingest.rows.reader import MessageReader


class Targets(NamedTuple):
    """The targets of a recording."""

    ts: Ints
    """(n,) times of the events with a target, ms."""
    negative: bool
    """Whether one of the targets is below 0."""
    entities: frozenset[str]
    """Names of the entities."""


def read_targets(config: Config, file: Path, limit: int | None = None) -> Targets:
    """Return the targets of a recording.

    Raises:
        RecordingError: the file cannot be read, or has no event with a target.
    """
    found: list[Ints] = []
    negative = False
    names = set[str]()
    recording = Recording(file, limit)
    late = config.labels is not None and config.labels.marker is not None
    if late:
        ts, y = _read_labels(config, recording)
        found.append(ts)
        negative = bool(np.any(y < 0))
    for events, *_ in read_events(config, recording) if late else batches(config, recording):
        y = events.target
        found.append(events.ts[~np.isnan(y) if y.ndim == 1 else ~np.isnan(y).all(axis=1)])
        negative = negative or bool(np.any(y < 0))
        names.update(events.entity)
    ts = np.concatenate(found) if found else np.empty(0, np.int64)
    if not len(ts):
        raise RecordingError(
            f"{file}: no event with a target (`{', '.join(config.event.targets)}`) of an entity "
            f"(`{config.event.entity}`)"
        )
    return Targets(ts, negative, frozenset(names))


def _read_labels(config: Config, recording: Recording) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return (n,) times, ms, and values of the labels among the rows; times are those of their events.

    Of labels that are joined by an id, the times of the events above that have the same one.
    """
    section, is_label = config.labels, label_test(config.labels)
    assert section is not None
    assert is_label is not None
    reader, own = LabelReader(config, section), MessageReader(config.event)
    by_id, times, values = dict[tuple[str, int], int](), list[int](), list[float]()
    for batch in (part.rows() for part in recording.of_event(config.event).slices()):
        if section.id is not None:
            some = [each for each in batch if not is_label(each)]
            events = reader.add_ids(some, own.read(some)[0])[0]
            keys = [] if events.key is None else events.key.tolist()
            by_id |= zip(zip(events.entity, keys, strict=True), events.ts.tolist(), strict=True)
        labels = reader.read([each for each in batch if is_label(each)])[0]
        for name, ts, key, y in zip(labels.entity, labels.ts.tolist(), labels.key.tolist(), labels.target, strict=True):
            at = ts if section.id is None else by_id.get((name, key))
            if at is not None:
                times.append(at)
                values.append(float(y))
    return np.array(times, np.int64), np.array(values)
