"""Seasons where many events come in a quarter of an hour: its first event is predicted like the others."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made, run

from ssm_stream.engine.engine import Engine

MINUTE = 60_000
SETTLED = 5000
"""Events after which errors count."""


@pytest.mark.parametrize("seed", range(3))
def test_the_first_minute_of_a_quarter_is_predicted_as_well_as_the_others(seed: int) -> None:
    """A machine that makes three products, 20 to 40 minutes each, at any time of the day. The error was 1.5 times that
    of other minutes, and a fifth was outside."""
    rng = np.random.default_rng(seed)
    product = np.repeat(np.arange(1000) % 3, rng.integers(20, 41, 1000))[:25_000]
    target = np.array([20.0, 60.0, 90.0])[product] + rng.normal(0.0, 0.2, len(product))
    events = made(target, product[:, None], ts=MINUTE * np.arange(len(target)))
    predicted, _ = run(Engine(config("categories: [product]")), events)
    late = np.arange(len(target)) >= SETTLED
    same = np.concatenate([[False], product[1:] == product[:-1]])  # what comes first of a product is another matter
    first = np.arange(len(target)) % 15 == 0
    error = np.abs(target - predicted["yhat"])
    inside = (predicted["lower"] <= target) & (target <= predicted["upper"])
    assert error[late & same & first].mean() < 1.25 * error[late & same & ~first].mean()
    assert inside[late & first].mean() > 0.85
