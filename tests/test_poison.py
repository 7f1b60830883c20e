"""An adversary owns an entity's events for 1,000 steps: what the model is worth after they stop.

Errors are told as multiples of the error before. With `learn: hold` nothing of an episode is learned, so that they are
back at once; with the default, `adapt`, what stays within the range of honest values is forgotten in some hundred
events, and gross values are learned as a new scale, which lasts. docs/reliability.md has the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ssm_stream.config import Config, parse_config
from ssm_stream.engine import Engine
from ssm_stream.events import Events
from ssm_stream.growth import named

BEFORE, DURING, AFTER = 3_000, 1_000, 1_000
Attack = Callable[[np.random.Generator, Any, Any], tuple[Any, Any]]
TURNS = np.where(np.arange(DURING) % 2, 1.0, -1.0)
GROSS: dict[str, Attack] = {
    "huge targets in turn": lambda _, x, y: (x, y + 1e6 * TURNS),
    "growing targets": lambda _, x, y: (x, y * np.exp(np.arange(DURING) / 50)),
    "targets at the edge of 32 bits": lambda _, x, y: (x, 3e38 * TURNS),
    "huge features": lambda _, x, y: (x * 1e8, y),
    "tiny values": lambda _, x, y: (x * 1e-30, y * 1e-30),
}
WITHIN: dict[str, Attack] = {
    "relation reversed": lambda _, x, y: (x, 40 - y),
    "targets shuffled": lambda rng, x, y: (x, rng.permutation(y)),
    "all the same": lambda _, x, y: (0 * x, 0 * y + 20),
}
SLY: dict[str, Attack] = {
    "creeping targets": lambda _, x, y: (x, y + 0.05 * np.arange(DURING)),
    "a huge feature now and then": lambda rng, x, y: (np.where(rng.random(x.shape) < 0.05, 3e38, x), y),
}
ATTACKS = {**GROSS, **WITHIN, **SLY}


def config(learn: str) -> Config:
    return parse_config(
        "source: {brokers: a, topic: t}\n"
        "event: {entity: e, timestamp: t, features: [a, b], target: y, lags: 2, calendar: []}\n"
        f"alerts: {{anomaly: {{learn: {learn}}}, drift: {{learn: {learn}}}}}\n"
    )


def honest(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    x = rng.normal(size=(n, 2))
    return x, 20 + 3 * x[:, 0] - 2 * x[:, 1] + 0.2 * rng.normal(size=n)


def errors(engine: Engine, x: Any, y: Any, start: int) -> Any:
    n = len(y)
    ts = 1_700_000_000_000 + 60_000 * (start + np.arange(n))
    predictions, _ = engine.process(Events(["m"] * n, ts, x, y, np.arange(n), np.zeros(n, np.int64)))
    assert np.isfinite(predictions.yhat).all()
    assert np.isfinite(predictions.lower).all()
    assert np.isfinite(predictions.upper).all()
    return np.abs(predictions.yhat - y)


def attacked(name: str, learn: str) -> tuple[float, Engine]:
    """Mean error of the events 250 to 1,000 after an attack, by that before it."""
    rng, engine = np.random.default_rng(0), Engine(config(learn))
    before = errors(engine, *honest(rng, BEFORE), 0)[1_000:].mean()
    errors(engine, *ATTACKS[name](rng, *honest(rng, DURING)), BEFORE)
    after = errors(engine, *honest(rng, AFTER), BEFORE + DURING)[250:].mean()
    return float(after / before), engine


@pytest.mark.parametrize("name", ATTACKS)
def test_held_learning_gives_an_adversary_next_to_nothing(name: str, compiled: None) -> None:
    """Gross or not, what starts an episode teaches nothing; the sly, which start none for a while, teach a little."""
    worse, _ = attacked(name, "hold")
    assert worse < (2.5 if name in SLY else 1.1)


@pytest.mark.parametrize("name", [*WITHIN, *SLY])
def test_what_is_learned_of_values_within_range_is_forgotten(name: str, compiled: None) -> None:
    """The default goes with every change, so it goes back as well."""
    worse, _ = attacked(name, "adapt")
    assert worse < 1.5


@pytest.mark.parametrize("learn", ["adapt", "slow", "hold"])
@pytest.mark.parametrize("name", ATTACKS)
def test_no_number_of_the_state_becomes_infinite(name: str, learn: str, compiled: None) -> None:
    """Weights and moments are bounded by the clipping of what they learn from, whatever that was."""
    _, engine = attacked(name, learn)
    for each in engine.targets:
        for where, array in [*named(each._state), *named(each._shared)]:
            assert not np.isinf(array).any(), where


@pytest.mark.parametrize("name", GROSS)
def test_a_neighbour_of_the_same_pool_is_hardly_worse_off(name: str, compiled: None) -> None:
    """One of ten entities is attacked; what the others are told stays good while it lasts."""
    rng, engine = np.random.default_rng(0), Engine(config("hold"))

    def told(x: Any, y: Any, start: int) -> Any:
        n = len(y)
        ts, who = 1_700_000_000_000 + 6_000 * (start + np.arange(n)), (start + np.arange(n)) % 10
        events = Events([f"m{i}" for i in who], ts, x, y, np.arange(n), np.zeros(n, np.int64))
        return np.abs(engine.process(events)[0].yhat - y)[who != 0]

    before = told(*honest(rng, 10_000), 0)[5_000:].mean()
    x, y = honest(rng, 10 * DURING)
    x[::10], y[::10] = ATTACKS[name](rng, x[::10], y[::10])
    assert told(x, y, 10_000).mean() < 1.3 * before
