"""What the target was at this time: a day ago and usually, with jitter, late labels and clocks that are put forward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core.implicit import answer_names, seasonal_names
from ssm_stream.core.shapes import DAY_BINS, WEEK_BINS
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.prequential import prequential_delayed, with_row_labels
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.ingest.labels import Labels

Floats = NDArray[np.float64]
START = 1_711_324_800  # 2024-03-25, a Monday; clocks in Berlin go forward on the 31st
QUARTER, HOUR, DAY, WEEK = 900, 3_600, 86_400, 604_800


def config(sections: dict[str, Any] | None = None, **event: Any) -> Config:
    """A soft sensor with one feature, which says nothing."""
    columns = {"entity": "e", "timestamp": "ts", "features": ["a"], "target": "y", "lags": 0}
    return Config.model_validate(
        {"source": {"brokers": "localhost:9092", "topic": "events"}, "event": columns | event, "state": {"shards": 1}}
        | (sections or {})
    )


def rows(ts: NDArray[np.int64], y: Floats, entities: int = 1, seed: int = 0) -> list[dict[str, Any]]:
    a = np.random.default_rng(seed).normal(size=len(ts))
    return [
        {"e": f"m{i % entities}", "ts": t, "y": value, "a": noise}
        for i, (t, value, noise) in enumerate(zip(ts.tolist(), y.tolist(), a.tolist(), strict=True))
    ]


LATE = config(calendar=["hour"], sections={"labels": {"topic": "labels", "wait": "1d"}})
AHEAD = config(calendar=["hour"], sections={"model": {"horizon": "735m"}})


def read(of: Config, some: list[dict[str, Any]]) -> Events:
    events, refused = EventReader(of.event).read(some)
    assert not refused
    return events


def errors(of: Config, ts: NDArray[np.int64], y: Floats, entities: int = 1) -> Floats:
    predictions, _ = Engine(of).process(read(of, rows(ts, y, entities)))
    return np.abs(predictions.yhat - y)


def shape_of(turns: Floats) -> Floats:
    """A day (or week) with a sharp peak and a plateau, which few waves do not have."""
    part = turns % 1.0
    return np.where((part > 0.31) & (part < 0.36), 10.0, np.where((part > 0.6) & (part < 0.8), 4.0, 0.0))


def days(ts: NDArray[np.int64], zone: int = 0) -> Floats:
    found: Floats = shape_of((ts - START + zone) / DAY)
    return found


def learner_of(engine: Engine) -> Any:
    return engine.target_engines[0].store.state.learner


@pytest.mark.parametrize("period", [DAY, WEEK])
def test_a_season_is_found_without_past_targets(period: int) -> None:
    """After two periods, and to the quarter of an hour; the calendar's codes know hours only."""
    ts = START + QUARTER * np.arange(4 * WEEK // QUARTER if period == WEEK else 8 * DAY // QUARTER)
    y = shape_of((ts - START) / period) + 0.1 * np.random.default_rng(1).normal(size=len(ts))
    late = ts >= START + 3 * period
    known, without = (errors(config(calendar=calendar), ts, y)[late].mean() for calendar in (["hour"], ["hour_cycle"]))
    assert known < 0.5
    assert known < 0.5 * without


@pytest.mark.parametrize(("lags", "kept"), [(4, 1.0), (0, 0.0)])
def test_without_a_season_nothing_is_lost(lags: int, kept: float) -> None:
    """Answers that are of no use beside those of a random walk with past targets, and of noise without."""
    rng = np.random.default_rng(2)
    ts = START + QUARTER * np.arange(20 * DAY // QUARTER)
    y = rng.normal(size=len(ts))
    y = np.cumsum(y) if kept else y
    known, without = (errors(config(calendar=c, lags=lags), ts, y)[500:].mean() for c in (["hour"], []))
    assert known < 1.03 * without


def test_a_jittered_cadence_meets_the_nearest_quarter() -> None:
    """Gaps of 20 to 50 minutes: on most days no event falls into the quarter of an hour of the day before."""
    rng = np.random.default_rng(3)
    ts = START + np.cumsum(rng.integers(20 * 60, 50 * 60, 1_200))
    y = 5 * np.sin(2 * np.pi * (ts - START) / DAY) + 5 * np.sin(6 * np.pi * (ts - START) / DAY)
    y += 0.1 * rng.normal(size=len(ts))
    engine = Engine(config(calendar=["hour"]))
    error = np.abs(engine.process(read(engine.config, rows(ts, y)))[0].yhat - y)
    assert error[600:].mean() < 1.0
    weights = engine.target_engines[0].store
    names = answer_names(weights.params, many=False)
    active = weights.scratch.active[: len(names)]
    assert all(active[names.index(name)] for name in seasonal_names(weights.params))


@pytest.mark.parametrize("delay", [1, 10, 40])
def test_late_labels_count_for_the_time_of_their_events(delay: int) -> None:
    """The entity holds the same with labels in time and late ones: they are addressed by time, not by arrival."""
    ts = START + HOUR * np.arange(600)
    y = days(ts) + 0.1 * np.random.default_rng(4).normal(size=len(ts))
    some = rows(ts, y)
    of = config(calendar=["hour"])
    in_time = Engine(of)
    in_time.process(read(of, some[: len(some) - delay]))
    late = PartitionedEngine(with_row_labels(of))
    chunks = prequential_delayed(some, delay, late)
    yhat = np.concatenate([chunk.predictions.yhat for chunk in chunks])
    assert np.abs(yhat - y)[400:].mean() < 1.0
    known, other = learner_of(in_time), learner_of(late)
    for name in ("day", "season"):
        np.testing.assert_array_equal(getattr(known, name)[0], getattr(other, name)[0])


def test_a_label_of_a_quarter_that_is_over_finds_its_place() -> None:
    """Labels out of order: each counts for its own quarter of an hour."""
    engine = Engine(LATE)
    ts = START + QUARTER * np.arange(6)
    events = read(LATE, rows(ts, np.arange(6.0)))
    engine.process(replace(events, target=np.full(6, np.nan)))
    for i in (0, 1, 4, 2, 3, 5):
        one = np.array([i])
        labels = Labels(["m0"], events.ts[one], np.zeros(1, np.int64), events.target[one], one)
        assert engine.learn(labels).matched.all()
    state = learner_of(engine)
    assert state.season[0, :6].tolist()[:5] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert state.day[0, :5].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert np.isnan(state.season[0, 5])


def test_a_horizon_looks_at_the_time_that_is_predicted() -> None:
    """Half a day and a quarter of an hour ahead, which no code of an hour knows."""
    ts = START + QUARTER * np.arange(12 * DAY // QUARTER)
    y = days(ts) + 0.1 * np.random.default_rng(7).normal(size=len(ts))
    yhat = Engine(AHEAD).process(read(AHEAD, rows(ts, y)))[0].yhat
    ahead = (12 * HOUR + QUARTER) // QUARTER
    error = np.abs(yhat[:-ahead] - y[ahead:])
    assert error[5 * DAY // QUARTER :].mean() < 0.5


def test_a_target_is_not_its_own_usual_target() -> None:
    """A quarter of an hour is learned when it is over; before, nothing is known of it."""
    of = config(calendar=["hour"])
    engine = Engine(of)
    minutes = START + 60 * np.arange(14)
    engine.process(read(of, rows(minutes, np.arange(14.0))))
    state = learner_of(engine)
    assert np.isnan(state.day[0]).all()
    assert np.isnan(state.season[0]).all()
    engine.process(read(of, rows(START + QUARTER + 60 * np.arange(1), np.array([50.0]))))
    assert np.flatnonzero(~np.isnan(state.season[0])).tolist() == [0]  # Monday, 00:00 to 00:15
    assert state.season[0, 0] == state.day[0, 0] == 6.5


def test_clocks_that_go_forward_move_the_season() -> None:
    """The target follows the clock on the wall: with the zone configured it is known on the day of the change."""
    ts = START + QUARTER * np.arange(14 * DAY // QUARTER)
    change = START + 6 * DAY + HOUR  # 01:00 UTC on Sunday
    zone = np.where(ts < change, HOUR, 2 * HOUR)
    y = days(ts, zone) + 0.1 * np.random.default_rng(5).normal(size=len(ts))

    def by_day(time_zone: str) -> Floats:
        error = errors(config(calendar=["hour"], time_zone=time_zone), ts, y)
        found: Floats = error.reshape(-1, DAY // QUARTER).mean(1)
        return found

    local, utc = by_day("Europe/Berlin"), by_day("UTC")
    assert local[7] < 1.5 * local[5] + 0.1
    # Without the zone it is another season for a while: back within five days.
    assert utc[7] > 1.5 * local[7]
    assert utc[11:].mean() < 1.5 * utc[5] + 0.1


@pytest.mark.parametrize(("gap", "active"), [(10, True), (HOUR, True), (6 * HOUR, False), (DAY, False)])
def test_events_that_are_too_rare_have_no_season(gap: int, active: bool) -> None:
    """Nor have the first day's; frequent ones are kept by quarters of an hour, in the same memory."""
    n = 3 * DAY // gap if gap == 10 else 60
    ts = START + gap * np.arange(n)
    engine = Engine(config(calendar=["hour"], lags=2))
    engine.process(read(engine.config, rows(ts, days(ts))))
    store = engine.target_engines[0].store
    names = answer_names(store.params, many=False)
    found = [bool(store.scratch.active[names.index(name)]) for name in ("a day ago", "usual at this time of day")]
    assert found == [active, active]
    state = learner_of(engine)
    assert (state.day.shape[1], state.season.shape[1]) == (DAY_BINS, WEEK_BINS)


def test_a_restart_within_a_quarter_changes_nothing() -> None:
    """The quarter that is not over is part of the state."""
    of = config(calendar="auto", lags=2)
    ts = START + 240 * np.arange(3_000)
    y = days(ts) + 0.1 * np.random.default_rng(6).normal(size=len(ts))
    some = rows(ts, y, 3)
    whole, _ = Engine(of).process(read(of, some))
    engine = Engine(of)
    first, _ = engine.process(read(of, some[:1_001]))
    again = Engine.restore(of, engine.snapshot())
    then, _ = again.process(read(of, some[1_001:]))
    np.testing.assert_array_equal(np.concatenate([first.yhat, then.yhat]), whole.yhat)


@pytest.mark.parametrize("seed", range(12))
def test_a_new_answer_does_not_leap(seed: int) -> None:
    """What was a day ago is there for all machines at once. That the first of them were near it is no reason to believe
    it of one that has moved since, by a hundred times the usual error."""
    rng, many, n = np.random.default_rng(7 + seed), 6, 300
    ramps = np.array([0.0, 3_000.0, 3_000.0, 2_500.0, 0.0, -1_500.0])
    y = 2_000.0 + np.linspace(0.0, 1.0, n)[:, None] * ramps + rng.normal(0.0, 15.0, (n, many))
    ts = np.repeat(START + 300 * np.arange(n), many)
    found = errors(config(lags=4, calendar=["hour"]), ts, y.ravel(), entities=many).reshape(n, many)
    assert found[288:291].max() < 2.0 * found[200:288].max()
