"""Targets at rest: their intervals while they work, and what only seems to rest."""

from __future__ import annotations

import numpy as np
import pytest
from engines import DIRECT, config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

MINUTE = 60_000
LATE = 3000
"""Events after which rest is known."""


def pump(on: int, off: int, seed: int, n: int = 15_000) -> tuple[Events, NDArray[np.bool_]]:
    """40 + 4a + b + noise while it works, about so many minutes, and 0 while it is off; when it works.

    a and b wander; off they are 0, too.
    """
    rng = np.random.default_rng(seed)
    works = np.zeros(n, bool)
    start = 0
    while start < n:
        end = start + int(on * rng.uniform(0.6, 1.4))
        works[start:end] = True
        start = end + int(off * rng.uniform(0.6, 1.4))
    features = np.empty((n, 2))
    level = np.zeros(2)
    for t, step in enumerate(rng.normal(size=(n, 2))):
        level = 0.97 * level + 0.24 * step
        features[t] = level
    features[~works] = 0.0
    y = np.where(works, 40 + features @ [4.0, 1.0] + rng.normal(size=n), 0.0)
    return made(y, features, ts=MINUTE * np.arange(n)), works


def covered(event: str, events: Events) -> NDArray[np.bool_]:
    predicted, _ = run(Engine(config(event)), events)
    return (predicted["lower"] <= events.target) & (events.target <= predicted["upper"])


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
@pytest.mark.parametrize(("on", "off"), [(120, 80), (40, 200)])
def test_a_machine_that_rests_at_times_is_covered_while_it_works(event: str, on: int, off: int) -> None:
    events, works = pump(on, off, seed=5)
    inside, late = covered(event, events), np.arange(len(works)) >= LATE
    assert abs(inside[works & late].mean() - 0.9) < 0.04
    assert inside[~works & late].mean() > 0.95


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_where_values_are_sampled_and_held_all_events_count(event: str) -> None:
    events, _ = pump(10**6, 1, seed=5)
    held = events.target[np.arange(len(events)) // 5 * 5]
    inside = covered(event, made(held, events.features, ts=events.ts))
    assert abs(inside[LATE:].mean() - 0.9) < 0.02


def test_before_rest_is_known_all_events_count() -> None:
    """A young entity may only seem to rest: its interval keeps its share of all."""
    events, _ = pump(40, 40, seed=5, n=1800)
    inside = covered("features: [a, b]", events)
    assert abs(inside[300:].mean() - 0.9) < 0.03
