"""Numbers of lots, orders and jobs: they name what is made, and measure nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_init_plants import decided, noise, plant

from ssm_stream.autoconfig.columns import columns
from ssm_stream.autoconfig.labels import lot_reason


@pytest.mark.parametrize("name", ["job_no", "Auftragsnummer", "order", "lotId", "charge_no"])
def test_a_whole_number_that_names_lots_is_no_signal(name: str) -> None:
    """Jobs of a printing press are numbered when they are ordered, and not always printed in that order."""
    made = np.random.default_rng(3).permutation(20)

    def reason(name: str, at: Callable[[int], int]) -> str | None:
        (column,) = (each for each in columns([{name: at(i), "x": i / 7} for i in range(400)]) if each.path == name)
        return lot_reason(column, {})

    assert "the number of a lot" in str(reason(name, lambda i: 48_200 + int(made[i // 20])))
    assert reason(name, lambda i: 1 + i // 20 % 5) is None, "programs, which come again"
    assert reason(name, lambda i: 48_200 + i * i % 997) is None, "another in each row"
    assert reason("battery_charge", lambda i: 100 - i // 20) is None, "an amount"
    assert reason("speed", lambda i: 48_200 + int(made[i // 20])) is None, "no name of a lot"


def test_the_number_of_a_job_is_watched_by_nothing() -> None:
    made = np.random.default_rng(3).permutation(20)
    rows = [
        {**row, "job_no": 48_200 + int(made[i // 20])}
        for i, row in enumerate(plant(400, load=noise(), temp=noise(seed=2)))
    ]
    draft = decided(rows)
    assert {*draft.event.targets} == {"load", "temp"}
    assert "the number of a lot" in draft.left_out["job_no"]
    assert "job_no" not in decided(rows, "temp").event.columns
