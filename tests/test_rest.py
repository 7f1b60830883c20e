"""Targets at rest: their intervals while they work, and what only seems to rest."""

from __future__ import annotations

import numpy as np
import pytest
from engines import DIRECT, config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.bootstrap import Bootstrap
from ssm_stream.evaluate.engine_run import EngineRun
from ssm_stream.evaluate.pilot.prediction_figures import at_rest, coverage
from ssm_stream.ingest.events import Events

MINUTE = 60_000
LATE = 3000
"""Events after which rest is known."""


def pump(on: int, off: int, seed: int, n: int = 15_000) -> tuple[Events, NDArray[np.bool_]]:
    """40 + 4a + b + noise while it works, about so many minutes, and 0 while it is off; when it works.

    a and b wander; off they are 0, too.
    """
    rng = np.random.default_rng(seed)
    works = np.zeros(n, bool)
    start = 0
    while start < n:
        end = start + int(on * rng.uniform(0.6, 1.4))
        works[start:end] = True
        start = end + int(off * rng.uniform(0.6, 1.4))
    features = np.empty((n, 2))
    level = np.zeros(2)
    for t, step in enumerate(rng.normal(size=(n, 2))):
        level = 0.97 * level + 0.24 * step
        features[t] = level
    features[~works] = 0.0
    y = np.where(works, 40 + features @ [4.0, 1.0] + rng.normal(size=n), 0.0)
    return made(y, features, ts=MINUTE * np.arange(n)), works


def covered(event: str, events: Events) -> NDArray[np.bool_]:
    predicted, _ = run(Engine(config(event)), events)
    return (predicted["lower"] <= events.target) & (events.target <= predicted["upper"])


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
@pytest.mark.parametrize(("on", "off"), [(120, 80), (40, 200)])
def test_a_machine_that_rests_at_times_is_covered_while_it_works(event: str, on: int, off: int) -> None:
    events, works = pump(on, off, seed=5)
    inside, late = covered(event, events), np.arange(len(works)) >= LATE
    assert abs(inside[works & late].mean() - 0.9) < 0.04
    assert inside[~works & late].mean() > 0.95


@pytest.mark.parametrize("step", [3.0, 5.0])
@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
@pytest.mark.parametrize(("on", "off"), [(120, 200), (120, 80)])
def test_pauses_of_a_machine_at_work_are_no_rest(event: str, on: int, off: int, step: float) -> None:
    """Read in coarse steps, most values are the ones before, and the next one differs again and again."""
    events, works = pump(on, off, seed=6)
    wander = np.convolve(np.random.default_rng(6).normal(size=len(works)), 0.9 ** np.arange(40))[: len(works)]
    y = step * np.round(np.where(works, events.target + wander, 0.0) / step)
    inside, late = covered(event, made(y, events.features, ts=events.ts)), np.arange(len(works)) >= LATE
    assert abs(inside[works & late].mean() - 0.9) < 0.04
    assert inside[~works & late].mean() > 0.95


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_where_values_are_sampled_and_held_all_events_count(event: str) -> None:
    events, _ = pump(10**6, 1, seed=5)
    held = events.target[np.arange(len(events)) // 5 * 5]
    inside = covered(event, made(held, events.features, ts=events.ts))
    assert abs(inside[LATE:].mean() - 0.9) < 0.02


@pytest.mark.parametrize("horizon", [0, 2])
def test_a_prediction_that_was_right_as_published_is_no_anomaly(horizon: int) -> None:
    """A meter that never reads below 0: what the answer is below it, nobody reads."""
    rng = np.random.default_rng(1)
    features = np.empty((4000, 2))
    level = np.zeros(2)
    for t, step in enumerate(rng.normal(size=features.shape)):
        level = 0.9 * level + 0.44 * step
        features[t] = level
    y = np.maximum(0.0, features @ [4.0, 1.0] - 2.0 + 0.3 * rng.normal(size=len(features)))
    events = made(y, np.roll(features, -horizon, axis=0), ts=MINUTE * np.arange(len(y)))
    engine = Engine(config(DIRECT, f"alerts: {{anomaly: {{channels: [residual]}}}}\nmodel: {{horizon: {horizon}}}"))
    predicted, _ = run(engine, events)
    score, yhat, target = predicted["score"], predicted["yhat"], y
    if horizon:
        parts = engine.resolved_predictions
        score, yhat, target = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("score", "yhat", "y")
        )
    right = (yhat == 0.0) & (target == 0.0)
    assert right.sum() > 1000
    assert not score[right].any()
    assert score[target > 0.0][1000:].all()


def test_before_rest_is_known_all_events_count() -> None:
    """A young entity may only seem to rest: its interval keeps its share of all."""
    events, _ = pump(40, 40, seed=5, n=1800)
    inside = covered("features: [a, b]", events)
    assert abs(inside[300:].mean() - 0.9) < 0.03


def test_rest_is_not_held_against_the_intervals_of_a_pilot() -> None:
    """Two machines in turn, one of which stands still; of 100 events those of the other are inside as told."""

    def off(missed: int, stands: bool = True) -> float:
        n, none = 200, np.zeros(0)
        entity, place = np.arange(n) % 2, np.arange(n) // 2
        y = np.where((entity == 0) & stands, 7.0, place)
        reach = np.where((entity == 1) & (place < missed), -1.0, 1.0)
        whole = EngineRun(
            ["a", "b"], entity, MINUTE * np.arange(n), y, np.arange(n), y, y - reach, y + reach,
            np.zeros(n, bool), np.arange(n), none,
        )  # fmt: skip
        rests = at_rest(whole)
        assert rests.sum() == (99 if stands else 0)
        blocks = np.arange(n) // 20
        return float(coverage(whole, rests, 0.9, blocks, Bootstrap(10, 0))["off"])

    assert off(10) < 0.001, "95 % of all are inside, and half of all rest"
    assert off(40) == pytest.approx(0.1)
    assert off(0, stands=False) == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_known_of_work_outlasts_a_night_at_rest(seed: int) -> None:
    """Of 960 events at rest a day one in eight is learned: all of them had what was known of work forgotten."""
    rng, minutes = np.random.default_rng(seed), np.arange(20_000)
    works = minutes % 1440 >= 960
    load = np.where(works, 50 + 20 * np.sin(minutes / 37) + rng.normal(size=len(minutes)), 0.0)
    speed = np.where(works, 30 + 10 * np.sin(minutes / 23) + rng.normal(size=len(minutes)), 0.0)
    y = np.where(works, 5 + 0.8 * load - 0.5 * speed + 0.3 * rng.normal(size=len(minutes)), 0.0)
    settings = config("features: [load, speed], target: temp, calendar: []")
    predicted, _ = run(Engine(settings), made(y, np.column_stack([load, speed]), ts=minutes * 60_000))
    error = np.abs(y - predicted["yhat"])[works & (minutes > 7 * 1440)].mean()
    assert error < 0.37, "it was 0.41, and the noise alone has 0.24"
