"""Accuracy and coverage of the engine on synthetic streams and recordings, and past features."""

from __future__ import annotations

import os
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from engines import FIELDS, PAST, arrays_of, assert_same_bits, config, cut, effect_later, fleet, linear, made, run
from numpy.typing import NDArray

from ssm_stream.config import parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.recordings import Recording


def synthetic(name: str, n: int = 20_000) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(len(name))
    features, y = linear(n, len(name), 0.0)
    noise = rng.normal(size=n)
    t = np.arange(n)
    streams = {
        "linear": y + noise,
        "heavy tails": y + rng.standard_t(2.5, n),
        "skewed": y + rng.exponential(size=n),
        "season": 10 * np.sin(2 * np.pi * t / 48) + noise,
        "turning weights": 5 + 2 * np.cos(t / 3000) * features[:, 0] + np.sin(t / 3000) * features[:, 1] + noise,
        "level shifts": y + 20 * (t // 4000 % 2) + noise,
        "changing noise": y + noise * (1 + 3 * (t // 2000 % 2)),
        "large offset": 1e7 + y + noise,
        "tiny unit": 1e-9 * (y + noise),
    }
    return features, streams[name]


# The most that is left of persistence's error. Little below these is possible: 0.29 is the noise of `linear`.
LEFT = {
    "linear": 0.32, "heavy tails": 0.43, "skewed": 0.30, "season": 0.73, "turning weights": 0.43, "level shifts": 0.36,
    "changing noise": 0.56, "large offset": 0.33, "tiny unit": 0.33,
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_persistence_is_beaten_and_the_coverage_kept(name: str, level: float) -> None:
    features, y = synthetic(name)
    predicted, _ = run(Engine(config(sections=f"model: {{interval: {level}}}")), made(y, features))
    past = slice(100, None)
    error, step = np.abs(y - predicted["yhat"])[past].mean(), np.abs(np.diff(y))[99:].mean()
    covered = ((predicted["lower"] <= y) & (y <= predicted["upper"]))[past].mean()
    assert error < LEFT[name] * step
    assert abs(covered - level) < 0.03


DATA = Path(os.environ.get("SSM_STREAM_DATA") or Path(__file__).parents[2] / "shared" / "data")
RECORDINGS = {
    "gas_turbine_nox.csv.gz": "features: [at_ambient_temp, ap_ambient_press, ah_ambient_hum, afdp_filter_dp, "
    "gtep_exhaust_press, tit_inlet_temp, tat_after_temp, tey_energy_yield, cdp_discharge_press]",
    "steel_energy.csv.gz": "features: [lagging_reactive_kvarh, leading_reactive_kvarh, lagging_power_factor, "
    "leading_power_factor, nsm, weekend], calendar: [hour, weekday]",
    "parking_birmingham.csv.gz": "calendar: [hour, weekday], time_zone: Europe/London",
    "bike_sharing_hourly.csv.gz": "features: [workingday, weathersit, temp, atemp, hum, windspeed], "
    "calendar: [hour, weekday]",
}
LEFT_OF_RECORDINGS = {
    "gas_turbine_nox.csv.gz": 0.72, "steel_energy.csv.gz": 0.45, "parking_birmingham.csv.gz": 0.38,
    "bike_sharing_hourly.csv.gz": 0.46,
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDINGS)
def test_persistence_is_beaten_and_the_coverage_kept_on_a_recording(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not in {DATA}; set SSM_STREAM_DATA to the folder that holds it")
    settings_ = parse_config(
        "source: {brokers: 'localhost:9092', topic: events}\n"
        f"event: {{entity: entity, timestamp: ts, {RECORDINGS[name]}}}\n"
    )
    result = backtest(settings_, islice(Recording(DATA / name), 15_000))
    assert result["events"] == 15_000
    assert result["mae"] < LEFT_OF_RECORDINGS[name] * result["mae_persistence"]
    assert abs(result["coverage"] - 0.9) < 0.03


@pytest.mark.parametrize("entities", [1, 4])
def test_an_effect_that_comes_three_events_later_is_learned_from_past_features(entities: int) -> None:
    events = effect_later(3, 4000, entities)
    without, related = (
        np.abs(run(Engine(config(f"features: [a, b], lags: 0{keys}")), events)[0]["yhat"] - events.target)[2000:].mean()
        for keys in ("", ", feature_lags: 3")
    )
    assert related < 0.2 * without


@pytest.mark.parametrize("sections", ["", "model: {horizon: 2 events}"])
def test_past_features_survive_batches_and_restores(sections: str) -> None:
    events = fleet(2000)
    whole_engine = Engine(config(PAST, sections))
    predicted, alerts = run(whole_engine, events)
    engine, parts, more = Engine(config(PAST, sections)), [], []
    for start, stop in pairwise([0, 1, 2, 3, 5, 700, 701, 1500, 2000]):
        part, said = run(engine, cut(events, start, stop))
        parts.append(part)
        more += [a._replace(row=a.row + start) for a in said]
        state = engine.snapshot()
        engine = Engine.restore(config(PAST, sections), state)
        assert engine.snapshot() == state
    assert_same_bits(predicted, {name: np.concatenate([part[name] for part in parts]) for name in FIELDS})
    assert more == alerts
    assert engine.snapshot() == whole_engine.snapshot()
    head, _ = run(Engine(config(PAST, sections)), cut(events, 0, 900))
    assert head["yhat"].tobytes() == predicted["yhat"][:900].tobytes()


def test_past_features_are_counted_and_part_of_the_state_hash() -> None:
    events = fleet(500)
    sizes = [Engine(config(f"features: [a, b], feature_lags: {k}")).bytes_per_entity for k in range(4)]
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3]
    engine = Engine(config(PAST))
    run(engine, events)
    array = arrays_of(engine.snapshot())["0.learner.u_last"]
    assert array.shape == (5, 2 * (1 + 4))
    before, other = engine.state_hash("m0"), engine.state_hash("m1")
    engine.target_engines[0].store.state.learner.u_last[engine.names.index("m0"), -1] += 1.0
    assert engine.state_hash("m0") != before
    assert engine.state_hash("m1") == other
