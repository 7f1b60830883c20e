"""Heads on products: what two inputs do together is learned, chosen by weight, and told by name."""

from __future__ import annotations

import numpy as np
import pytest

from ssm_stream.config import parse_config
from ssm_stream.core.shapes import CHOOSE_AT
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import explain
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.events import Events

SOURCE = "source: {brokers: 'localhost:9092', topic: events}\n"
EVENT = "event: {entity: entity, timestamp: ts, features: [a, b, c], lags: 0, differences: false, calendar: []}\n"
WITHOUT = "model: {heads: [moments, proximal]}\n"
WITH = "model: {heads: [moments, products, proximal]}\n"


def made(n: int, shift: float = 0.0) -> Events:
    """y = 2ab + a + noise of 0.1, and a third input that says nothing."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(n, 3)) + shift
    y = 2.0 * x[:, 0] * x[:, 1] + x[:, 0] + 0.1 * rng.normal(size=n)
    i = np.arange(n)
    return Events(["m"] * n, 1_700_000_000_000 + 60_000 * i, x, y, i)


def error(model: str) -> float:
    events = made(1500)
    yhat = Engine(parse_config(SOURCE + EVENT + model)).process(events)[0].yhat
    return float(np.abs(yhat - events.target)[500:].mean())


def test_a_product_is_learned_that_no_linear_head_can() -> None:
    assert error(WITH) < 0.2 < 1.0 < error(WITHOUT)


def test_what_is_multiplied_is_chosen_once_so_many_events_are_learned() -> None:
    engine, events = Engine(parse_config(SOURCE + EVENT)), made(CHOOSE_AT + 3)
    engine.process(events.take(np.arange(CHOOSE_AT + 1)))  # the first one teaches statistics only
    pool = engine.target_engines[0].store.shared.pool
    assert not pool.product_of[0].any()
    assert pool.product_n[0] == CHOOSE_AT
    engine.process(events.take(np.arange(CHOOSE_AT + 1, CHOOSE_AT + 2)))
    assert pool.product_of[0].tolist() == [1, 2, 3]


def test_features_that_act_in_their_product_alone_are_multiplied() -> None:
    """Next to twelve past targets, all of which weigh more."""
    rng = np.random.default_rng(6)
    i, x = np.arange(1500), rng.normal(size=(1500, 2))
    push, y = x[:, 0] * x[:, 1] + 0.1 * rng.normal(size=1500), np.zeros(1500)
    for t in range(12, 1500):
        y[t] = 0.075 * y[t - 12 : t].sum() + push[t]
    events = Events(["m"] * 1500, 1_700_000_000_000 + 60_000 * i, x, y, i)
    lags = EVENT.replace("a, b, c", "a, b").replace("lags: 0", "lags: 12")
    engine = Engine(parse_config(SOURCE + lags + WITH))
    yhat = engine.process(events)[0].yhat
    assert engine.target_engines[0].store.shared.pool.product_of[0, :2].tolist() == [1, 2]
    assert np.abs(yhat - y)[500:].mean() < 0.25, "without a × b it is 0.65"


def test_an_explanation_names_the_product() -> None:
    engine, events = Engine(parse_config(SOURCE + EVENT + WITH)), made(1001)
    engine.process(events.take(np.arange(1000)))
    found = explain(engine.target_engines[0], events.take(np.array([1000])))
    assert found.entity == "m"
    parts = {part.feature: part for part in found.parts}
    assert {"a × b", "a²", "b × c"} <= set(parts)
    assert parts["a × b"].weight == pytest.approx(2.0, rel=0.1), "a and b have a deviation of 1"
    assert abs(parts["b × c"].weight) < 0.1
    total = found.base + found.constant + found.rest + sum(part.contribution for part in found.parts)
    assert total == pytest.approx(found.yhat)
    assert abs(found.rest) < 0.5


def test_an_unknown_input_makes_its_products_unknown() -> None:
    engine, events = Engine(parse_config(SOURCE + EVENT + WITH)), made(1001)
    engine.process(events.take(np.arange(1000)))
    last = events.take(np.array([1000]))
    last.features[0, 0] = np.nan
    parts = {part.feature: part for part in explain(engine.target_engines[0], last).parts}
    assert parts["a × b"].value is None
    assert parts["a × b"].contribution == 0.0
    assert parts["b × c"].value is not None


def test_a_state_that_has_chosen_in_part_is_refused() -> None:
    """It would lead the core in front of its arrays."""
    engine = Engine(parse_config(SOURCE + EVENT))
    engine.process(made(CHOOSE_AT + 3))
    engine.target_engines[0].store.shared.pool.product_of[0, 1] = 0
    with pytest.raises(StateError, match="product_of"):
        Engine.restore(engine.config, engine.snapshot())
