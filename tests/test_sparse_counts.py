"""Counts that are zero for most of a night: what comes then, one by one, is no drift."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made, run

from ssm_stream.engine.engine import Engine

MINUTE, A_DAY, DAY = 60_000, 1440, 86_400_000
DAYS, LANES = 10, 4
BUDGET = DAYS * LANES / 30
"""Alerts that a budget of one in thirty days allows."""


@pytest.mark.parametrize("night", [0.01, 0.03])
def test_what_ends_a_night_of_zeros_is_no_shift(night: float) -> None:
    """Vehicles a minute in four lanes. Zeros that are predicted are not heard: heard alone, those that end them were a
    drift upwards, 4.3 and 8.7 of them in such days, where 0.7 and 1.7 are left."""
    found = 0
    for seed in range(3):
        rng, n = np.random.default_rng(seed), DAYS * A_DAY
        hour = np.arange(n) % A_DAY / 60
        rate = night + sum(8.0 * np.exp(-0.5 * ((hour - rush) / 1.5) ** 2) for rush in (8.0, 17.0))
        times = 1_772_000_000_000 // DAY * DAY + MINUTE * np.arange(n)
        events = made(
            rng.poisson(rate, (LANES, n)).T.reshape(-1), np.empty((n * LANES, 0)),
            [f"lane-{i}" for _ in range(n) for i in range(LANES)], np.repeat(times, LANES),
        )  # fmt: skip
        _, alerts = run(Engine(config("features: []", "alerts: {fleet: {enabled: false}}")), events)
        found += sum(each.message["kind"] == "drift" and each.message["phase"] == "started" for each in alerts)
    assert found <= 2 * 3 * BUDGET
