"""Events in planned stops: whether they are learned there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ssm_stream.ingest.events import Events

OUTSIDE, LEARNED, HELD = range(3)
"""Values of `Events.maintenance`: the event lies in no planned stop, or in one in which it is learned, or is not."""


def withhold_targets(events: Events) -> Events:
    """Return the events as they are learned and judged: without the targets of those that are `HELD`."""
    if events.maintenance is None:
        return events
    held = events.maintenance == HELD
    if not held.any():
        return events
    target = np.where(held if events.target.ndim == 1 else held[:, None], np.nan, events.target)
    return replace(events, target=target, share=None if events.share is None else np.where(held, 0.0, events.share))
