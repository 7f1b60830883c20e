"""Errors that are smaller than in most work of late, and no smaller than they are as a rule, are no change."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made

from ssm_stream.engine.engine import Alert, Engine

STEP, A_DAY, WORK = 20, 4_320, 1_440
"""Seconds; events a day, and of its work."""
MACHINES, DAYS, BATCH = 3, 7, 45
CALM_FROM = DAYS - 2


def drifts(seed: int, still: bool = False) -> list[Alert]:
    """Drifts that start: machines stand for two thirds of a day, and heat batches in the third, the first from cold.

    still: from `CALM_FROM` on the first one's sensor does not move, but for its last digit.
    """
    rng = np.random.default_rng(seed)
    n = DAYS * A_DAY
    y = 20.0 + 0.1 * rng.normal(size=(MACHINES, n))
    phase = np.zeros((MACHINES, n))
    for i in range(MACHINES):
        for day in range(DAYS):
            at, end = day * A_DAY + 1_400, day * A_DAY + 1_400 + WORK
            start = 20.0
            while at < end:
                length = int(rng.integers(BATCH - 4, BATCH + 5))
                y[i, at : at + length] = (
                    200.0 - (200.0 - start) * np.exp(-np.arange(length) / 6.0) + 0.25 * rng.normal(size=length)
                )
                phase[i, at : at + length] = 1.0
                start, at = rng.uniform(85.0, 125.0), at + length
    if still:
        y[0, CALM_FROM * A_DAY :] = 120.0 + 0.01 * rng.normal(size=2 * A_DAY)
    events = made(
        y.T.reshape(-1), phase.T.reshape(-1, 1), [f"roaster-{i}" for _ in range(n) for i in range(MACHINES)],
        np.repeat(1_700_000_000_000 + 1000 * STEP * np.arange(n), MACHINES),
    )  # fmt: skip
    _, alerts = Engine(config("features: [phase]", "alerts: {fleet: {enabled: false}}")).process(events)
    return [each for each in alerts if each.message["kind"] == "drift" and each.message["phase"] == "started"]


@pytest.mark.parametrize("seed", range(3))
def test_work_that_goes_on_calmly_after_its_start_is_no_change(seed: int) -> None:
    """One or two of each pool were."""
    assert "smaller" not in [each.message["change"] for each in drifts(seed)]


def test_a_sensor_that_moves_no_more_is_one_all_the_same() -> None:
    found = [
        (each.message["entity"], each.message["change"], each.row // MACHINES // A_DAY)
        for each in drifts(1, still=True)
    ]
    assert ("roaster-0", "smaller", CALM_FROM) in found
