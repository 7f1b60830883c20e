"""Gates by situation: what regrets of an hour, of a level, of an entity are worth, and how they are interpolated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssm_stream.config import parse_config
from ssm_stream.core.shapes import AT_LEVEL, LAST_TARGET, LEVELS, G
from ssm_stream.engine.engine import Engine
from ssm_stream.verify.gating.gates import LEVEL
from ssm_stream.verify.gating.regrets import shares_of
from ssm_stream.verify.gating.views import difference_of, level_of
from ssm_stream.verify.trace import Production

BASIC = """
source: {brokers: a, topic: t}
recovery: {directory: null}
event: {entity: e, timestamp: t, features: [high, x], target: y, lags: 1, differences: false, calendar: []}
"""
PLACES = st.floats(0, LEVELS - 1)
SIZES = st.floats(-1e300, 1e300)


@given(PLACES)
def test_two_places_share_an_event(place: float) -> None:
    shares = shares_of(place)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares > 0).sum() <= 2
    assert shares @ np.arange(LEVELS) == pytest.approx(place)


@given(SIZES, SIZES, st.floats(0, 1e300))
def test_any_answer_has_its_place(answer: float, mean: float, deviation: float) -> None:
    place = level_of(answer, (mean, deviation))
    assert 0 <= place <= LEVELS - 1
    assert (place > (LEVELS - 1) / 2) <= (answer > mean)


@given(st.lists(st.floats(-1e150, 1e150), min_size=G, max_size=G), st.floats(0, 1e150))
def test_any_difference_has_its_place(made: list[float], unit: float) -> None:
    assert 0 <= difference_of(np.array(made), unit) <= LEVELS - 1


def test_at_each_level_the_answer_that_is_best_there_is_believed() -> None:
    """Low, the target wanders, and its last value is best; high, it follows an input, and that value is worthless."""
    rng = np.random.default_rng(3)
    engine = Engine(parse_config(BASIC))
    production = Production(engine.params, 1, 1)
    high, x, low = np.arange(6_000) // 40 % 2, rng.normal(size=6_000), np.cumsum(rng.normal(size=6_000) * 0.1)
    y = np.where(high, 100.0 + 10.0 * x, low + 0.001 * rng.normal(size=6_000))
    weights: dict[int, list[float]] = {0: [], 1: []}
    for t in range(6_000):
        u = np.array([high[t], x[t]], np.float64)
        event = (0, 0, u, np.zeros(2, np.int64), 60_000.0 * t)
        production.predict(event, labelled=True)
        w = production.scratch
        if t > 3_000 and t % 40 > 5:  # well inside one of the two
            weights[int(high[t])].append(float(w.gate[LEVEL, LAST_TARGET] / w.gate[LEVEL].sum()))
            assert (w.made[AT_LEVEL] > (LEVELS - 1) / 2) == high[t]
        production.learn(event, float(y[t]))
    assert np.mean(weights[0]) > 3 * np.mean(weights[1])
