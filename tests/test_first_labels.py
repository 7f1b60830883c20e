"""What a soft sensor predicts before its first labels, and between these and its first errors."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made
from numpy.typing import NDArray

from ssm_stream.core.loop import Predictions
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.labels import Labels

DAY = 48
SOFT = "features: [a, b], lags: 0"
LATE = "labels: {topic: results, wait: 30d}\n"


def days(
    engine: Engine, entities: int, count: int, level: float = 0.0
) -> tuple[list[Predictions], NDArray[np.float64]]:
    """Process days of events, an event of each entity in turn, whose labels all come at the end of their day.

    level: of an entity over the one before it
    """
    rng, names = np.random.default_rng(7), [f"m{i}" for i in range(entities)]
    out, targets = list[Predictions](), list[NDArray[np.float64]]()
    for day in range(count):
        n = DAY * entities
        ts, who = 1_800_000 * (day * DAY + np.arange(n) // entities), [names[i % entities] for i in range(n)]
        features = rng.normal(size=(n, 2))
        y = 50 + 3 * features[:, 0] + rng.normal(size=n) + level * (np.arange(n) % entities)
        predictions, _ = engine.process(made(np.full(n, np.nan), features, who, ts))
        zero = np.zeros(n, np.int64)
        engine.learn(Labels(who, ts.astype(np.int64), zero, y, zero))
        out.append(predictions)
        targets.append(y)
    return out, np.array(targets)


def inside(p: Predictions, y: NDArray[np.float64]) -> float:
    return float(((p.lower <= y) & (y <= p.upper)).mean())


@pytest.mark.parametrize("entities", [1, 3])
def test_the_first_interval_is_as_wide_as_the_labels_spread(entities: int) -> None:
    predicted, y = days(Engine(config(SOFT, LATE)), entities, 4)
    first, *later = predicted
    assert (first.n == 0).all()
    assert first.warmup.all()
    assert not first.fleet.any()
    assert not first.yhat.any(), "nothing is known: marked by n and fleet"
    for p, target in zip(later, y[1:], strict=True):
        assert 0.8 < inside(p, target) <= 1.0
    width = (later[0].upper - later[0].lower).mean()
    assert 0.7 < width / (2 * 1.645 * y[0].std()) < 1.4, "an interval of 90 % of normal labels"
    assert (later[1].upper - later[1].lower).mean() < 0.8 * width, "then by the errors"


def test_who_joins_a_fleet_has_its_prediction_and_interval() -> None:
    engine = Engine(config(SOFT, LATE))
    days(engine, 3, 3)
    rng = np.random.default_rng(2)
    features = rng.normal(size=(40, 2))
    joined, _ = engine.process(made(np.full(40, np.nan), features, "new", 1_800_000 * (3 * DAY + np.arange(40))))
    assert (joined.n == 0).all()
    assert (joined.fleet > 0.5).all()
    assert inside(joined, 50 + 3 * features[:, 0] + rng.normal(size=40)) > 0.85


def test_labels_that_are_all_alike_have_no_width() -> None:
    engine = Engine(config(SOFT, LATE))
    ts, zero = 1000 * np.arange(20), np.zeros(10, np.int64)
    engine.process(made(np.full(10, np.nan), ts=ts[:10]))
    engine.learn(Labels(["m"] * 10, ts[:10].astype(np.int64), zero, np.full(10, 5.0), zero))
    after, _ = engine.process(made(np.full(10, np.nan), ts=ts[10:]))
    np.testing.assert_allclose(after.upper - after.lower, 0.0, atol=1e-9)
