"""Two sensors of the same: neither is a copy, as each has an error of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_init_plants import decided, plant
from test_init_roles import of

N = 1500


def pasteuriser(*, error: float, digits: int = 2) -> list[dict[str, Any]]:
    """Milk that is held hot for half of each hour, by two probes, one of them in Fahrenheit, too; flow and pressure."""
    rng = np.random.default_rng(3)
    hot = np.arange(N) // 60 % 2
    held, now = np.empty(N), 20.0
    for i in range(N):
        now += 0.2 * (20 + 55 * hot[i] - now)
        held[i] = now + rng.normal(0, 0.1)
    probe_1 = np.round(held, digits)
    made = {
        "flow": np.round(10 * hot + rng.normal(0, 0.3, N), 2),
        "pressure": np.round(3 + rng.normal(0, 0.1, N), 2),
        "probe_1": probe_1,
        "probe_1_f": np.round(32 + 1.8 * probe_1, digits),
        "probe_2": np.round(held + rng.normal(0, error, N), digits),
    }
    return plant(N, 1, 1, **{name: of(x[:, None]) for name, x in made.items()})


def test_a_second_sensor_of_the_same_is_watched_too() -> None:
    """It was left out as a copy, which holds nothing: that one of them drifts was to be seen nowhere."""
    draft = decided(pasteuriser(error=0.04))
    assert draft.event.targets == ["flow", "pressure", "probe_1", "probe_2"]
    assert [path for path in draft.left_out if path.startswith("probe_")] == ["probe_1_f"]


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_what_rounding_leaves_is_no_error_of_its_own(digits: int) -> None:
    """In other digits, and in another unit: such a one would explain the other's faults away."""
    left_out = decided(pasteuriser(error=0.0, digits=digits)).left_out
    assert [path for path in left_out if path.startswith("probe_")] == ["probe_2", "probe_1_f"]
    assert left_out["probe_2"].endswith("in all rows: it holds nothing of its own, and would explain the others away")


def test_a_second_sensor_of_the_target_is_no_input_unless_it_is_named() -> None:
    draft = decided(pasteuriser(error=0.04), "probe_1")
    assert draft.left_out["probe_1_f"].startswith("a leak: it is the target in another unit")
    assert draft.left_out["probe_2"] == (
        "maybe a leak: another sensor of the target or computed from it; name it under features if it is a sensor "
        "(probe_1 = probe_2, but for an error of its own)"
    )
