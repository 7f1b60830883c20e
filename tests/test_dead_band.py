"""The dead band of the last known target: where it holds a prediction, and where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ssm_stream.config import parse_config
from ssm_stream.core.constants import BAND_HALF
from ssm_stream.core.shapes import BANDS
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.verify.gating.dead_band import DeadBand

BASIC = "source: {brokers: a, topic: t}\nrecovery: {directory: null}\nevent: {entity: e, timestamp: t, features: [x]}\n"


def recording(stands_still: int, n: int = 900) -> list[dict[str, Any]]:
    """A target that follows its feature, but only in every `stands_still`-th event."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=n)
    y = 3.0 * x[np.arange(n) // stands_still * stands_still] + 0.1 * rng.normal(size=n) * (stands_still == 1)
    return [{"e": "a", "t": 60_000 * i, "x": float(x[i]), "target": float(y[i])} for i in range(n)]


def predicted(rows: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate([chunk.predictions.yhat for chunk in prequential(parse_config(BASIC), rows)])


def test_a_target_that_stands_still_is_predicted_to_the_last_bit() -> None:
    rows = recording(stands_still=6)
    y, yhat = np.array([row["target"] for row in rows]), predicted(rows)
    again = np.flatnonzero(y[1:] == y[:-1]) + 1
    again = again[again > 300]
    assert (yhat[again] == y[again - 1]).mean() > 0.8


def test_a_target_that_follows_its_feature_is_not_held() -> None:
    rows = recording(stands_still=1)
    y, yhat = np.array([row["target"] for row in rows]), predicted(rows)
    held = np.flatnonzero(yhat[300:] == y[299:-1]) + 300
    assert len(held) <= 3
    relation = 3.0 * np.array([rows[i]["x"] for i in held])
    assert np.abs(relation - y[held - 1]).max(initial=0.0) < 0.1, "only where it says the same, within the noise"
    assert np.abs(yhat - y)[300:].mean() < 0.2


def test_by_distance_a_loss_holds_and_a_gain_does_not() -> None:
    """Near the last target it stays, farther away it goes; in between by parts. It stays until going has gained."""
    band, unit = DeadBand(), 2.0
    assert band.held().predict(5.0, 4.9, unit) == 4.9
    for _ in range(200):
        band.learn(4.0 + 1 / 64, 4.0, 4.0, unit)  # stood still
        band.learn(14.0, 4.0, 14.0, unit)  # moved as far as the gates said
    held = band.held()
    assert held.part[0] == held.part[1] == 1.0
    assert held.part[BANDS - 1] == held.part[BANDS] == 0.0
    assert held.predict(4.0 + 1 / 64, 4.0, unit) == 4.0
    assert held.predict(14.0, 4.0, unit) == 14.0
    middle = 4.0 + BAND_HALF * unit * 3.5 / (BANDS - 3.5)  # between the fourth place, which holds, and the fifth
    assert held.predict(middle, 4.0, unit) == pytest.approx((4.0 + middle) / 2)
    assert held.predict(middle, 4.0, 0.0) == middle


def test_the_interval_is_that_of_the_gates_and_reaches_the_prediction() -> None:
    """Errors of held predictions are none or a jump: they would leave it no width."""
    rows = recording(stands_still=6)
    found = [chunk.predictions for chunk in prequential(parse_config(BASIC), rows)]
    lower, yhat, upper = (np.concatenate([getattr(p, name) for p in found]) for name in ("lower", "yhat", "upper"))
    assert (lower <= yhat).all()
    assert (yhat <= upper).all()
    y = np.array([row["target"] for row in rows])
    held = np.flatnonzero(yhat[1:] == y[:-1])[100:] + 1
    assert len(held) > 300
    assert ((upper - lower)[held] > 0.0).all()
