"""Amounts that begin anew again and again, as the weight of a coil, are no signals; levels and speeds are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ssm_stream.autoconfig.no_signals.amount import begins_anew_near_zero


def coil(full: float | None, seed: int, noise: float = 0.0, n: int = 1500) -> NDArray[np.float64]:
    """Weight of the coil that is wound, which is changed after 40 to 90 rows and some at rest, or when it is full."""
    rng = np.random.default_rng(seed)
    weight, out = 0.0, []
    while len(out) < n:
        for _ in range(int(rng.integers(40, 90)) if full is None else n):
            if full is not None and weight >= full:
                break
            weight += float(rng.uniform(8.0, 12.0))
            out.append(weight)
        out += [weight] * int(rng.integers(4, 9))
        weight = 0.0
    return np.round(np.array(out) + noise * rng.normal(size=len(out)), 1)


def test_the_weight_of_a_coil_is_no_signal() -> None:
    assert begins_anew_near_zero([coil(None, seed) for seed in range(3)])
    assert begins_anew_near_zero([coil(None, 0), np.zeros(500)])  # one machine is closed


@pytest.mark.parametrize(("full", "noise"), [(500.0, 0.0), (None, 5.0), (500.0, 5.0)])
def test_a_level_is_a_signal(full: float | None, noise: float) -> None:
    """It is emptied when it is full, or falls now and then by the noise of what measures it."""
    assert not begins_anew_near_zero([np.abs(coil(full, seed, noise)) for seed in range(3)])


def test_what_is_switched_on_is_a_signal() -> None:
    speed = np.tile(np.concatenate([np.zeros(20), np.linspace(1.0, 14.0, 14), np.full(40, 14.0)]), 20)
    assert not begins_anew_near_zero([speed * np.repeat(np.random.default_rng(0).uniform(0.5, 1.5, 20), 74)])
