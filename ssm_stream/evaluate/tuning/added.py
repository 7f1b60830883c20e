"""Columns that `tune --add` names: whether they become features or categories, and whether the file can be read so."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssm_stream.autoconfig.feature_selection import SAMPLE
from ssm_stream.config import Config, ConfigError
from ssm_stream.config.suggestions import suggest
from ssm_stream.evaluate.prequential import batches
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.tuning.candidates import listed
from ssm_stream.evaluate.tuning.trials import with_settings
from ssm_stream.ingest.paths import path_getter


def added_columns(config: Config, file: Path, paths: list[str], limit: int | None = None) -> dict[str, str]:
    """Return path → key of columns to try as inputs: `event.features`, or `event.categories` of one without numbers.

    Raises:
        ConfigError: a column is in use, is not in the first rows of the file, or would have rows of it refused that are
            events without it.
    """
    if not paths:
        return {}
    event, rows = config.event, list(Recording(file, SAMPLE))
    used = {event.entity: "event.entity", event.timestamp: "event.timestamp"}
    used |= dict.fromkeys(event.features, "event.features") | dict.fromkeys(event.categories, "event.categories")
    used |= dict.fromkeys(event.targets, "event.target")
    for path in paths:
        if path in used:
            raise ConfigError(f"--add: found {path!r}, which is in use ({used[path]}); name a column that is not")
        if all(path_getter(path)(row) is None for row in rows):
            cure = suggest(path, list(rows[0]), "its columns")
            raise ConfigError(f"--add: no column {path!r} in the first rows of {file}; {cure}")
    already = set(_refused(config, Recording(file, limit))[0])
    return {path: _key_of(config, file, path, limit, already) for path in paths}


def _key_of(config: Config, file: Path, path: str, limit: int | None, already: set[int]) -> str:
    """Return the key of a column. already: rows that are refused without it"""
    for key in ("event.features", "event.categories"):
        trial = with_settings(config, {key: [*listed(config, key), path]})
        refused, known = _refused(trial, Recording(file, limit), path)
        new = {row: reason for row, reason in refused.items() if row not in already}
        if not new:
            return key
        if known:
            break
    row = min(new)
    raise ConfigError(
        f"--add: for {path!r} among {key} rows are refused that are events without it ({len(new):,}); the first, row "
        f"{row + 1}: {new[row]}; correct them, leave the column out, or add it to the configuration yourself if those "
        "rows may be lost"
    )


def _refused(config: Config, rows: Recording, path: str | None = None) -> tuple[dict[int, str], bool]:
    """Return row, from 0 → reason of those that are refused, and whether another one has a value of an input."""
    refused: dict[int, str] = {}
    first, known = 0, False
    config = config.replace(labels=None)  # a label in a row of its own has no inputs, and nothing of it is refused
    for part in batches(config, rows):
        refused |= {first + each.position: each.reason for each in part.refused}
        first += part.height
        if path is not None:
            column = part.events.features[:, config.event.columns.index(path)]
            known = known or not bool(np.isnan(column).all())
    return refused, known
