"""Places in a cycle as inputs: welds since the electrode was dressed, parts since a cleaning, which wear goes with.

Such a count is no signal to watch, as nothing is wrong with it. But where it explains a part of what is watched, a
model without it takes the wear of each cycle for noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column
from ssm_stream.autoconfig.signals import Narrowed
from ssm_stream.autoconfig.target import begins_anew
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize

Floats = NDArray[np.float64]
MIN_EXPLAINED = 0.1
"""Share of a signal that a place must explain in both halves of the sample, beyond entity and categories."""
MAX_PLACES = 2
"""Places that are inputs."""


def with_places(
    narrowed: Narrowed,
    left_out: Mapping[str, str],
    columns: Mapping[str, Column],
    owners: dict[int, Any],
    events: Events,
) -> Narrowed:
    """Return the section with every signal as a target, with the places in a cycle that explain one as inputs.

    Args:
        left_out: path → why, of columns that are no signals
        columns: path → column; owners: row → name of its entity, if a column has it
        events: of the sample, read by a section with all signals
    """
    event = narrowed.event
    able = [path for path, why in left_out.items() if why.startswith("it counts the rows") and path in columns]
    if event.inputs is None or not (able := [path for path in able if begins_anew(columns[path], owners)]):
        return narrowed
    rows, group = events.position, _groups(events, len(event.categories))
    targets = {path: columns[path].numbers[rows] for path in event.targets if path in columns}
    shares = {}
    for path in able:
        place = columns[path].numbers[rows]
        shares[path] = max(((_explained(place, y, group), name) for name, y in targets.items()), default=(0.0, ""))
    chosen = sorted((path for path in able if shares[path][0] >= MIN_EXPLAINED), key=lambda path: -shares[path][0])
    if not chosen[:MAX_PLACES]:
        return narrowed
    notes = [
        f"`{path}` counts the rows and begins anew, as the place in a cycle of wear, and explains {shares[path][1]} "
        f"({shares[path][0]:.0%}): an input of all signals, no target"
        for path in chosen[:MAX_PLACES]
    ]
    changed = event.model_validate({**event.model_dump(), "inputs": [*event.inputs, *chosen[:MAX_PLACES]]})
    rest = {path: why for path, why in narrowed.left_out.items() if path not in chosen[:MAX_PLACES]}
    return narrowed._replace(event=changed, left_out=rest, notes=[*narrowed.notes, *notes])


def _groups(events: Events, categories: int) -> NDArray[np.int64]:
    """Return the number (n,) of the entity and the categories of each event. categories: the last so many features"""
    codes = events.features[:, events.features.shape[1] - categories :] if categories else np.empty((len(events), 0))
    keys = np.column_stack([factorize(events.entity, {}), np.nan_to_num(codes, nan=-1.0)])
    return np.unique(keys, axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def _explained(x: Floats, y: Floats, group: NDArray[np.int64]) -> float:
    """Return the share of y that a line of x explains within groups, in the half of the sample where it is less."""
    halves = np.array_split(np.flatnonzero(np.isfinite(x) & np.isfinite(y)), 2)
    slopes = [_share(x[half], y[half], group[half]) for half in halves if len(half) > 2]
    return min(map(abs, slopes)) if len(slopes) == 2 and slopes[0] * slopes[1] > 0 else 0.0


def _share(x: Floats, y: Floats, group: NDArray[np.int64]) -> float:
    """Return the squared correlation within groups, with its sign."""
    count = np.maximum(np.bincount(group), 1)
    u, v = (each - (np.bincount(group, each) / count)[group] for each in (x, y))
    scale = float(u @ u) * float(v @ v)
    product = float(u @ v)
    return float(np.sign(product)) * product**2 / scale if scale > 0 else 0.0
