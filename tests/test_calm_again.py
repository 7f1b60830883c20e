"""Errors that become smaller where machines stand are drifts a few times: later breaks of the pool are none."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made
from numpy.typing import NDArray

from ssm_stream.engine.engine import Alert, Engine

STEP, A_DAY = 10, 8_640
SHIFT, BREAK = 2_880, 180
"""Events: three shifts a day, each of which ends with a break of half an hour."""
MACHINES, DAYS = 4, 4
Values = NDArray[np.float64]


def at_work(seed: int) -> Values:
    """Targets (machines, events): in breaks, which begin within minutes of each other, they spread by a seventh."""
    rng = np.random.default_rng(seed)
    n = DAYS * A_DAY
    begin = SHIFT - BREAK + rng.integers(-20, 20, (MACHINES, n // SHIFT))
    place = np.arange(n) % SHIFT
    breaks = (place >= np.repeat(begin, SHIFT, axis=1)) & (place < SHIFT - 10)
    return 50.0 + np.where(breaks, 0.15, 1.0) * rng.normal(size=(MACHINES, n))


def drifts(y: Values) -> list[Alert]:
    """Drifts that start; rows of machine after machine at each time."""
    machines, n = y.shape
    events = made(
        y.T.reshape(-1), np.empty((n * machines, 0)), [f"crane-{i}" for _ in range(n) for i in range(machines)],
        np.repeat(1_700_000_000_000 + 1000 * STEP * np.arange(n), machines),
    )  # fmt: skip
    _, alerts = Engine(config("features: []", "alerts: {fleet: {enabled: false}}")).process(events)
    return [each for each in alerts if each.message["kind"] == "drift" and each.message["phase"] == "started"]


@pytest.mark.parametrize("seed", range(3))
def test_breaks_of_a_pool_are_drifts_of_smaller_errors_three_times(seed: int) -> None:
    """Of 48 breaks 34 were one."""
    found = [each.message["change"] for each in drifts(at_work(seed))]
    assert found.count("smaller") == 3
    assert len(found) <= 4


def test_other_changes_of_such_a_machine_are_found_all_the_same() -> None:
    """What its breaks bring is no false alarm that would raise its threshold."""
    for seed in range(3):
        y, begin = at_work(seed), 3 * A_DAY
        y[1, begin:] = 50.0 + 4.0 * np.random.default_rng(seed + 9).normal(size=y.shape[1] - begin)
        found = [(each.message["entity"], each.row // MACHINES >= begin) for each in drifts(y)]
        assert ("crane-1", True) in found, found
