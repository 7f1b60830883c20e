"""The content of the messages of hours that have ended: one an entity and hour, with several targets one of each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core import native
from ssm_stream.engine.rules.messages import alert_kinds
from ssm_stream.engine.summaries.columns import (
    COVERED,
    ERRORS,
    EVENTS,
    HOUR,
    HOUR_MS,
    INSIDE_MS,
    JUDGED,
    KINDS,
    LABELLED,
    LAST,
    OF_TARGET,
    OF_TARGETS,
    PREDICTED,
    SCORE,
    STARTED,
    STOPPED,
    USUAL,
    VALUES,
    WEIGHT,
)  # fmt: skip
from ssm_stream.engine.summaries.hourly import EndedHours
from ssm_stream.ingest.timestamps import EPOCH

PLAIN = (
    "events", "labelled", "mean", "mean_predicted", "judged", "error", "usual_error", "relative_error", "coverage",
    "score", "stopped", "episode_seconds",
)  # fmt: skip
"""Fields with a number, after the hour."""


class SummaryMessage(NamedTuple):
    """A summary. key: of its message; offset: of the message that ended the hour; content: as JSON has it"""

    key: str
    offset: int
    content: dict[str, Any]


def summary_messages(config: Config, ended: EndedHours) -> Iterator[SummaryMessage]:
    """Yield the messages of hours that have ended."""
    targets = config.event.targets
    kinds = [(kind, STARTED + KINDS.index(kind)) for kind in alert_kinds(config) if kind in KINDS]
    times, rows = ended.times.tolist(), ended.sums.tolist()
    for i, (name, offset, at, row) in enumerate(zip(ended.names, ended.offsets, times, rows, strict=True)):
        hour = at[HOUR] * HOUR_MS
        for j, target in enumerate(targets):
            own = row[OF_TARGETS + j * OF_TARGET : OF_TARGETS + (j + 1) * OF_TARGET]
            labelled, judged, weight = own[LABELLED], own[JUDGED], own[WEIGHT]
            error = own[ERRORS] / judged if judged else None
            usual = own[USUAL] / weight if weight else None
            content: dict[str, Any] = {"entity": name, "hour": hour}
            if len(targets) > 1:
                content["target"] = target
            content |= {
                "events": int(row[EVENTS]),
                "labelled": int(labelled),
                "mean": own[VALUES] / labelled if labelled else None,
                "mean_predicted": own[PREDICTED] / labelled if labelled else None,
                "judged": int(judged),
                "error": error,
                "usual_error": usual,
                "relative_error": None if error is None or not usual else error / usual,
                "coverage": own[COVERED] / judged if judged else None,
                "score": own[SCORE],
                "stopped": int(row[STOPPED]),
                "episode_seconds": min(round(row[INSIDE_MS] / 1000, 3), 3600.0),
                "open": ended.open[i],
                "alerts": {kind: int(row[column]) for kind, column in kinds},
                "last": at[LAST] or None,
                "silent_since": ended.silence[i],
            }
            yield SummaryMessage(summary_key(name, hour, target if len(targets) > 1 else None), offset, content)


def summary_lines(config: Config, ended: EndedHours) -> list[bytes]:
    """Return the contents of `summary_messages` as JSON, for one target: the same bytes, in a fraction of the time."""
    rows, times = ended.sums, ended.times
    own = rows[:, OF_TARGETS : OF_TARGETS + OF_TARGET]
    with np.errstate(invalid="ignore", divide="ignore"):
        error, usual = own[:, ERRORS] / own[:, JUDGED], own[:, USUAL] / own[:, WEIGHT]
        relative = np.where(usual == 0.0, np.nan, error / usual)
        coverage = own[:, COVERED] / own[:, JUDGED]
        means = [own[:, column] / own[:, LABELLED] for column in (VALUES, PREDICTED)]
    kinds = [kind for kind in alert_kinds(config) if kind in KINDS]
    started = [_whole(rows[:, STARTED + KINDS.index(kind)]) for kind in kinds]
    seconds = np.minimum(np.round(rows[:, INSIDE_MS] / 1000, 3), 3600.0)
    columns = [
        times[:, HOUR] * HOUR_MS, _whole(rows[:, EVENTS]), _whole(own[:, LABELLED]), *means, _whole(own[:, JUDGED]),
        error, usual, relative, coverage, own[:, SCORE], _whole(rows[:, STOPPED]), seconds, *started, times[:, LAST],
    ]  # fmt: skip
    columns = [np.ascontiguousarray(each) for each in columns]
    lines: list[bytes] = native.write_rows([_template(tuple(kinds))], ended.names, columns)
    unusual = [
        i
        for i, (open_, silence) in enumerate(zip(ended.open, ended.silence, strict=True))
        if open_ or silence is not None or not times[i, LAST]
    ]
    for i in unusual:
        one = ended.row(i)
        lines[i] = orjson.dumps(next(summary_messages(config, one)).content)
    return lines


def _whole(column: NDArray[np.float64]) -> NDArray[np.int64]:
    return column.astype(np.int64)


@lru_cache(16)
def _template(kinds: tuple[str, ...]) -> list[bytes]:
    """Return the text before, between and after the values of a summary without an open episode."""
    names = ("hour", *PLAIN)
    texts = [b'{"entity":', *(b',"%b":' % name.encode() for name in names)]
    first = b',"open":[],"alerts":{'
    for kind in kinds:
        texts.append(first + b'"%b":' % kind.encode())
        first = b","
    return [*texts, b'},"last":', b',"silent_since":null}']


def summary_key(entity: str, hour: int, target: str | None = None) -> str:
    """Return the key of a message: a compacted topic keeps the last one of an entity and hour, and target.

    hour: its begin, ms since 1970
    """
    key = f"{entity}|{_hour_text(hour)}"
    return key if target is None else f"{key}|{target}"


@lru_cache(256)
def _hour_text(ms: int) -> str:
    return f"{EPOCH + timedelta(milliseconds=ms):%Y-%m-%dT%HZ}"
