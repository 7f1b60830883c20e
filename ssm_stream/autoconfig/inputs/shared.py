"""What all machines share in a sample, by rows that follow it: each may have a sensor of its own.

Two drives of one line have one speed, as long as both controllers work. As an input that all share it would be watched
on none of them, so one part of the later rows in which machines differ makes it a signal of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssm_stream.autoconfig.roles import MAX_OWN, MIN_CHANGES, count_changes
from ssm_stream.config import Event
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize

PART = 5_000
"""Rows that are judged together: a fault of days is a small part of months."""


def only_these(event: Event, paths: Sequence[str]) -> Event:
    """Return the section with entity, time and these columns as features; not in its time zone, which takes longer."""
    kept = event.model_dump(include={"entity", "timestamp", "timestamp_format"})
    return Event.model_validate({**kept, "target": "\0", "features": list(paths)})


def find_own(events: Events) -> set[int]:
    """Return the features that machines have of their own in some part of these events, by their places."""
    out = set[int]()
    for rows in np.array_split(np.arange(len(events)), max(1, -(-len(events) // PART))):
        part = events.take(rows[np.argsort(events.ts[rows], kind="stable")])
        codes = factorize(part.entity, {})
        order = np.argsort(codes, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        for j in set(range(part.features.shape[1])) - out:
            others, at_own_times = count_changes(part.features[:, j], groups, part.ts)
            if at_own_times >= MIN_CHANGES and at_own_times > MAX_OWN * others and others >= MIN_CHANGES:
                out.add(j)
    return out
