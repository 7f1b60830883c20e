"""The content of the messages of hours that have ended: one an entity and hour, with several targets one of each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from ssm_stream.config import Config
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
    SCORE,
    STARTED,
    STOPPED,
    USUAL,
    WEIGHT,
)  # fmt: skip
from ssm_stream.engine.summaries.hourly import EndedHours
from ssm_stream.ingest.timestamps import EPOCH


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
        started = {kind: int(row[column]) for kind, column in kinds}
        rest = {
            "stopped": int(row[STOPPED]),
            "episode_seconds": min(round(row[INSIDE_MS] / 1000, 3), 3600.0),
            "open": ended.open[i],
            "alerts": started,
            "last": at[LAST] if row[EVENTS] or at[LAST] else None,
            "silent_since": ended.silence[i],
        }
        for j, target in enumerate(targets):
            own = row[OF_TARGETS + j * OF_TARGET : OF_TARGETS + (j + 1) * OF_TARGET]
            several = {"target": target} if len(targets) > 1 else {}
            content = {"entity": name, "hour": hour, **several, "events": int(row[EVENTS]), **_of_target(own), **rest}
            yield SummaryMessage(summary_key(name, hour, several.get("target")), offset, content)


def summary_key(entity: str, hour: int, target: str | None = None) -> str:
    """Return the key of a message: a compacted topic keeps the last one of an entity and hour, and target.

    hour: its begin, ms since 1970
    """
    time = f"{EPOCH + timedelta(milliseconds=hour):%Y-%m-%dT%HZ}"
    return f"{entity}|{time}" if target is None else f"{entity}|{time}|{target}"


def _of_target(row: list[float]) -> dict[str, Any]:
    judged, weight = row[JUDGED], row[WEIGHT]
    error = row[ERRORS] / judged if judged else None
    usual = row[USUAL] / weight if weight else None
    return {
        "labelled": int(row[LABELLED]),
        "judged": int(judged),
        "error": error,
        "usual_error": usual,
        "relative_error": None if error is None or not usual else error / usual,
        "coverage": row[COVERED] / judged if judged else None,
        "score": row[SCORE],
    }
