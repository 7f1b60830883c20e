"""Novelty where products change: what another product was predicted to bring is nothing new."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made, run

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

LINES, N, RUN = 8, 8_000, 200
FIRST = (N // RUN - 5) * RUN
"""The event at which the last line makes product 4 for the first time; the others have made it now and then."""
ALERTS = "alerts: {drift: {enabled: false}, anomaly: {channels: [novelty]}}"


def lines(seed: int, *, wrong: bool = False) -> Events:
    """Lines that make five products in turn, at another level each. wrong: the last is set up as for no product"""
    rng = np.random.default_rng(seed)
    product = rng.integers(5, size=(LINES, N // RUN))
    product[-1] %= 4
    product[-1, FIRST // RUN] = 4
    product = np.repeat(product, RUN, axis=1)
    load = np.sin(np.arange(N) / 7.0) + 0.3 * rng.normal(size=(LINES, N))
    y = np.array([10.0, 11.0, 12.5, 14.0, 20.0])[product] + 0.5 * load + 0.1 * rng.normal(size=(LINES, N))
    if wrong:
        y[-1, FIRST : FIRST + RUN] -= 14.0
    columns = np.stack([load, product], axis=-1).transpose(1, 0, 2).reshape(LINES * N, 2)
    names = [f"line{i}" for _ in range(N) for i in range(LINES)]
    return made(y.T.ravel(), columns, names, np.repeat(np.arange(N) * 60_000, LINES))


def heard(events: Events) -> tuple[bool, list[int]]:
    """Whether the product's first value is inside of its interval, and the events of that run at which alerts began."""
    predicted, alerts = run(Engine(config("features: [load], categories: [product]", ALERTS)), events)
    row = LINES * FIRST + LINES - 1
    inside = bool(predicted["lower"][row] <= events.target[row] <= predicted["upper"][row])
    started = [each for each in alerts if each.message["phase"] == "started" and each.row >= row]
    return inside, [each.row // LINES - FIRST for each in started if each.row % LINES == LINES - 1]


def test_what_another_product_was_predicted_to_bring_is_nothing_new() -> None:
    """Each of them was, at its first event. One may be predicted worse at the next one."""
    found = [heard(lines(seed)) for seed in range(10)]
    foreseen = [starts for inside, starts in found if inside]
    assert len(foreseen) >= 6
    assert sum(start < 40 for starts in foreseen for start in starts) <= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_level_that_the_product_does_not_have_is_found(seed: int) -> None:
    inside, starts = heard(lines(seed, wrong=True))
    assert not inside
    assert starts[0] < 5


@pytest.mark.parametrize("seed", range(4))
def test_what_was_foreseen_is_not_all_that_is_known(seed: int) -> None:
    """Until an entity's first values count as known, those at a change of product are the only ones that do."""
    rng = np.random.default_rng(seed)
    cleaning = [(1, 1), (2, 3)]  # product and events: a chamber that is cleaned, and then seasoned
    runs = [(0, 10), *cleaning, (0, 47), *cleaning, (0, 18), (3, 25), (0, 25)]
    product = np.repeat(*np.array(runs).T)
    count = len(product)
    y = 10.0 + rng.normal(size=(count, LINES))
    names = [f"line{i}" for _ in range(count) for i in range(LINES)]
    columns = np.stack([np.zeros(LINES * count), np.repeat(product, LINES)], axis=-1)
    events = made(y.ravel(), columns, names, np.repeat(np.arange(count) * 60_000, LINES))
    _, alerts = run(Engine(config("features: [load], categories: [product]", ALERTS)), events)
    assert [each.message["summary"] for each in alerts] == []
