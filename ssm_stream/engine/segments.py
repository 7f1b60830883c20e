"""Processes a batch in segments, none of which has an event of an entity that is evicted later in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ssm_stream.core.loop import Predictions, Settled
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.delayed_labels import DelayedLabels
from ssm_stream.engine.entity_limiter import Segment
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.ingest.events import Events

Process = Callable[[Events, list[tuple[int, str]], EventIds | None], tuple[Predictions, list[Alert]]]
"""Processes a segment: its events; row and name of the entities to evict there; ids."""


def process_segments(
    segments: Sequence[Segment],
    events: Events,
    ids: EventIds | None,
    process: Process,
    delayed: Sequence[DelayedLabels],
) -> tuple[Predictions, list[Alert]]:
    """Return predictions and alerts of a batch, in its order. delayed: of the targets that come after their events"""
    parts, alerts = list[Predictions](), list[Alert]()
    resolved: list[list[Settled]] = [[] for _ in delayed]
    for rows, evicted in segments:
        first, unmatched = int(rows[0]), delayed[0].unmatched_count if delayed else 0
        some = None if ids is None else ids.take(rows.tolist())
        part = events.take(rows)
        predictions, own = process(part, [(i - first, name) for i, name in evicted], some)
        events.features[rows] = part.features  # with the columns that are filled in
        parts.append(predictions)
        alerts += [alert._replace(row=first + alert.row) for alert in own]
        for each, found in zip(delayed, resolved, strict=True):
            found.append(each.resolved._replace(item=first + each.resolved.item))
        if delayed:
            delayed[0].renumber_unmatched(unmatched, rows)
    for each, found in zip(delayed, resolved, strict=True):
        each.resolved = Settled(*map(np.concatenate, zip(*found, strict=True)))
    return Predictions(*map(np.concatenate, zip(*parts, strict=True))), alerts
