"""A machine that has always run begins to stop twice a day: a new duty is some alerts, and not one at each stop."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from alerts_recordings import WEEK, Floats, levels_scores, novelty_scores

BEFORE, STOPS = 12_100, 8
"""Events before the first stop, and stops."""


def stops_of(seed: int) -> list[range]:
    """Rows of 5 minutes in which it stops."""
    rng = np.random.default_rng(seed)
    starts = [BEFORE + k * 150 + int(rng.integers(0, 40)) for k in range(STOPS)]
    return [range(start, start + int(rng.integers(60, 100))) for start in starts]


def stopping(seed: int, level: float, spread: float) -> Floats:
    """A signal that is 0 in the stops. level, spread: its mean at work and the noise there"""
    out = level + spread * np.random.default_rng(seed).normal(size=BEFORE + STOPS * 150)
    for stop in stops_of(seed):
        out[stop] = 0.0
    return out


def alarms(seed: int, score: Floats) -> list[bool]:
    """Whether each stop is one."""
    return [bool((score[stop] > 1.0).any()) for stop in stops_of(seed)]


@pytest.mark.parametrize("seed", range(4))
def test_a_stop_is_beyond_the_range_once(seed: int) -> None:
    """It was new for as long as a block of 1,000 events: at seven of the stops."""
    flow = stopping(seed, 16.0, 1.5)
    found = alarms(seed, novelty_scores(flow, np.arange(len(flow)) * 300.0 % WEEK, 400_000.0))
    assert found == [True] + [False] * (STOPS - 1)


@pytest.mark.parametrize("seed", range(4))
def test_a_stop_of_a_thousand_deviations_is_usual_from_the_third_on(seed: int) -> None:
    """The fast mean goes a part of the way only, by which the unit doubled at each visit: each stop was an alarm."""
    speed = stopping(seed, 300.0, 0.3)
    found = alarms(seed, levels_scores(speed, np.zeros((len(speed), 0)), 400_000.0))
    assert found == [True] * 3 + [False] * (STOPS - 3)


def test_a_fault_that_was_repaired_is_found_twice_again() -> None:
    rng = np.random.default_rng(3)
    values, columns = rng.normal(size=12_000), rng.normal(size=(12_000, 3))
    for at in (2000, 5500, 9000):
        values[at : at + 500] += 20.0
    score = levels_scores(values, columns)
    for at in (2000, 5500, 9000):
        assert (score[at + 5 : at + 500] > 1.0).all()
