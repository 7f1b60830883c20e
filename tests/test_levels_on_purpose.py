"""Levels that are moved on purpose, by a setpoint or another product: no alarm, and no deafness."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ssm_stream.core import levels

Floats = NDArray[np.float64]
BUDGET, STAY, N = 40_000.0, 480, 24_000


def loop(seed: int, stay: int = STAY) -> tuple[Floats, Floats]:
    """A loop that follows its setpoint in eight events, in noise of 0.3, and a sensor that follows it, too."""
    rng = np.random.default_rng(seed)
    setpoint = np.repeat(rng.choice([60.0, 65, 70, 75, 80], N // stay + 1), stay)[:N]
    value, noise, y = setpoint[0], 0.0, np.empty(N)
    for i, z in enumerate(rng.normal(size=N) * 0.24):
        value += (setpoint[i] - value) / 8
        noise = 0.6 * noise + z
        y[i] = value + noise
    return y, np.column_stack([setpoint, 0.2 * y + rng.normal(size=N) * 0.05])


def starts(y: Floats, columns: Floats) -> list[int]:
    """Events at which an excursion begins that is an alarm."""
    alarm = levels.observe(levels.new_levels_state(1, 1 + columns.shape[1]), 0, y, columns, BUDGET) > 1.0
    return [int(i) for i in np.flatnonzero(alarm & ~np.concatenate([[False], alarm[:-1]]))]


@pytest.mark.parametrize("seed", range(4))
def test_a_setpoint_that_moves_levels_is_no_alarm(seed: int) -> None:
    """There were 11 to 20 alarms, one for each second setpoint, while its level was not yet known."""
    assert len(starts(*loop(seed))) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_a_shift_under_a_setpoint_is_found(seed: int) -> None:
    """It is as large as the smallest difference between setpoints, of which the largest is four times that."""
    y, columns = loop(seed)
    at = 40 * STAY + 200  # a third of the way into a setpoint
    y[at:] -= 5.0
    columns[at:, 1] -= 1.0
    assert any(at < found < at + 100 for found in starts(y, columns))


def test_what_moves_at_every_event_is_no_setpoint() -> None:
    """With a column that hardly ever stands still nothing differs from before: it is measured like any other."""
    rng = np.random.default_rng(5)
    y, columns = rng.normal(size=N), np.round(rng.normal(size=(N, 1)), 1)
    shifted = y + 3.0 * (np.arange(N) >= 20_000)
    assert 20_000 <= starts(shifted, columns)[-1] < 20_050
