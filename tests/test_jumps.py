"""A machine that starts and stops: the first minutes of a start are in doubt, and others are judged as before."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

MINUTE = 60_000
LATE = 6000
"""Events after which starts have been learned."""


def machine(seed: int, *, warms: float) -> tuple[Events, NDArray[np.bool_]]:
    """Load 0 or about 70, for hours each; the target goes to 20 + load by a part of the way a minute; its starts."""
    rng = np.random.default_rng(seed)
    works = np.repeat(np.arange(160) % 2 == 1, rng.integers(60, 300, 160))[:20_000]
    load = np.where(works, 70 + np.cumsum(rng.normal(0, 0.1, len(works))) % 5, 0.0)
    target, value = np.empty(len(works)), 20.0
    for i, now in enumerate(load):
        value += warms * (20 + now - value)
        target[i] = value
    target += 0.2 * rng.normal(size=len(works))
    starts = works & ~np.concatenate([[False], works[:-1]])
    events = made(target.round(2), load.round(2)[:, None], ts=MINUTE * np.arange(len(works)))
    return events, starts


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("warms", [1.0, 0.5])
def test_the_first_minutes_of_a_start_are_inside_and_the_others_no_wider(seed: int, warms: float) -> None:
    events, starts = machine(seed, warms=warms)
    predicted, _ = run(Engine(config("features: [load]")), events)
    inside = (predicted["lower"] <= events.target) & (events.target <= predicted["upper"])
    first = np.flatnonzero(starts)
    minutes = np.concatenate([first + i for i in range(3)])
    minutes = minutes[(minutes >= LATE) & (minutes < len(events))]
    calm = np.arange(len(events)) >= LATE
    turns = np.flatnonzero(np.abs(np.diff(events.features[:, 0])) > 20) + 1
    for i in range(30):
        calm[np.minimum(turns + i, len(calm) - 1)] = False
    width = predicted["upper"] - predicted["lower"]
    assert inside[minutes].mean() > 0.8
    assert abs(inside[calm].mean() - 0.9) < 0.04
    assert np.median(width[calm]) < 1.2
