"""The targets of a recording, read without running the engine."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssm_stream.config import Config
from ssm_stream.evaluate.engine_run import Ints
from ssm_stream.evaluate.prequential import batches
from ssm_stream.evaluate.recordings import Recording, RecordingError


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
    for events, *_ in batches(config, Recording(file, limit)):
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
