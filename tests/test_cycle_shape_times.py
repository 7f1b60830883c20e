"""The shape of cycles goes by time: what lost rows, pauses and uneven cadences do to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engines import assert_same_bits, config, cut, made, run
from numpy.typing import NDArray

from ssm_stream.core import cycle_shape
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
N, MINUTE, EVENTS = 8_000, 60_000.0, 10_000.0
BEGIN = 1_767_225_600_000.0
ODD = (6_000, 7_000)
EVENT = "target: y, features: []"


def pump(odd: bool, seed: int = 1, period: int = 30) -> Floats:
    """On for eight of thirty steps; odd: for three of them only, for two cycles each."""
    step = np.arange(N)
    on = step % period < 8
    for at in ODD if odd else ():
        here = (step >= at) & (step < at + 2 * period)
        on = np.where(here, step % period < 3, on)
    return 30.0 * on + 0.3 * np.random.default_rng(seed).normal(size=N)


def kept(lost: float, seed: int = 2) -> Flags:
    return np.random.default_rng(seed).random(N) >= lost


def scores(values: Floats, times: Floats | None) -> Floats:
    return cycle_shape.observe(cycle_shape.new_shape_state(1), 0, values, EVENTS, times)


def evenly(n: int = N) -> Floats:
    return BEGIN + MINUTE * np.arange(n, dtype=np.float64)


def found(score: Floats, step: NDArray[np.int64], cycle: int = 30) -> list[bool]:
    """Of each odd place, whether it is an alarm."""
    return [bool((score[(step >= at) & (step < at + 3 * cycle)] > 1.0).any()) for at in ODD]


@pytest.mark.parametrize("lost", [0.001, 0.01, 0.05, 0.1])
def test_lost_rows_are_no_anomaly_and_hide_none(lost: float) -> None:
    here = kept(lost)
    times, step = evenly()[here], np.flatnonzero(here)
    assert not (scores(pump(False)[here], times) > 1.0).any()
    assert all(found(scores(pump(True)[here], times), step))


def test_without_lost_rows_times_change_no_bit() -> None:
    y = pump(True)
    assert (scores(y, evenly()) == scores(y, None)).all()


def test_a_few_minutes_without_rows_keep_the_phase() -> None:
    here = np.ones(N, bool)
    for at in range(1_000, N, 1_000):
        here[at - 100 : at - 90] = False
    y, times = pump(True)[here], evenly()[here]
    score = scores(y, times)
    assert all(found(score, np.flatnonzero(here)))
    assert not (score[np.flatnonzero(here) < ODD[0]] > 1.0).any()


def test_after_a_pause_windows_begin_anew() -> None:
    here = np.ones(N, bool)
    here[5_000:5_024] = False
    y, times = pump(False)[here], evenly()[here]
    assert (scores(y, None) > 1.0).any(), "rows that are counted are out of step"
    assert not (scores(y, times) > 1.0).any()


@pytest.mark.parametrize("cadence", ["jitter 10 %", "jitter 20 %", "jitter 30 %", "events", "whole seconds"])
def test_an_uneven_cadence_tells_of_no_lost_rows(cadence: str) -> None:
    g = np.random.default_rng(3)
    gap = np.ones(N)
    if cadence.startswith("jitter"):
        gap += float(cadence.split()[1]) / 100.0 * g.normal(size=N).clip(-3.0, 3.0)
    elif cadence == "events":
        gap = g.exponential(size=N)
    times = BEGIN + MINUTE * np.cumsum(gap)
    if cadence == "whole seconds":
        times = BEGIN + 1_000.0 * np.floor(0.4 * np.arange(N))
    y = pump(True)
    expected = scores(y, None)
    score = scores(y, times)
    assert found(score, np.arange(N)) == found(expected, np.arange(N)) == [True, True]
    assert (score[: ODD[0]] > 1.0).sum() == (expected[: ODD[0]] > 1.0).sum() == 0


def test_pauses_between_batches_are_a_part_of_the_cycle() -> None:
    gap = np.ones(N)
    gap[::30] += np.random.default_rng(4).integers(1, 300, len(gap[::30]))
    times = BEGIN + MINUTE * np.cumsum(gap)
    assert not (scores(pump(False), times) > 1.0).any()
    assert all(found(scores(pump(True), times), np.arange(N)))


def test_what_comes_twice_takes_no_place() -> None:
    twice = np.repeat(np.arange(N), 1 + (np.random.default_rng(5).random(N) < 0.01))
    score = scores(pump(True)[twice], evenly()[twice])
    assert all(found(score, twice))
    assert not (score[twice < ODD[0]] > 1.0).any()


def test_wild_times_are_survived() -> None:
    y = pump(False)
    some = np.where(kept(0.01), evenly(), np.nan)
    for times in (np.zeros(N), -evenly(), np.full(N, 1e300), evenly()[::-1].copy(), some):
        assert np.isfinite(scores(y, times)).all()
    times = evenly()
    times[3_000] = 4e15
    assert np.isfinite(scores(y, times)).all()


def test_a_cadence_that_changes_is_learned() -> None:
    times = BEGIN + MINUTE * np.cumsum(np.where(np.arange(N) < 3_000, 1.0, 5.0))
    s = cycle_shape.new_shape_state(1)
    cycle_shape.observe(s, 0, pump(False), EVENTS, times)
    assert s.number[0, cycle_shape.STEP] == pytest.approx(5.0 * MINUTE, rel=0.01)
    assert s.number[0, cycle_shape.STEADY] > 0.8


# In the whole product.


def events(odd: bool, lost: float = 0.003) -> Events:
    here = kept(lost)
    here[4_500:4_524] = False
    y = pump(odd)[here]
    return made(y, np.zeros((len(y), 0)), ts=evenly()[here])


def shaped(alerts: list[Alert]) -> list[float]:
    """Steps of the alerts of another shape."""
    own = [alert.message for alert in alerts if alert.message["channel"] == "shape"]
    return [(float(message["ts"]) - BEGIN) / MINUTE for message in own if message["phase"] == "started"]


def test_alerts_of_shape_are_those_of_the_machine() -> None:
    _, alerts = run(Engine(config(EVENT)), events(False))
    assert shaped(alerts) == []
    _, alerts = run(Engine(config(EVENT)), events(True))
    assert all(at >= ODD[0] for at in shaped(alerts))
    assert any(odd <= at < odd + 90 for at in shaped(alerts) for odd in ODD), shaped(alerts)


def test_batches_and_a_restart_change_no_bit() -> None:
    whole, settings = events(True), config(EVENT)
    engine = Engine(settings)
    expected, _ = run(engine, whole)
    other = Engine(settings)
    in_parts, _ = run(other, whole, [7, 1_001, 4_499, 4_500, 6_010])
    assert_same_bits(expected, in_parts)
    assert other.snapshot() == engine.snapshot()
    first = Engine(settings)
    at = int(np.flatnonzero(np.diff(whole.ts) > MINUTE)[5]) + 1  # right after a lost row
    before, _ = run(first, cut(whole, 0, at))
    again = Engine.restore(settings, first.snapshot())
    after, _ = run(again, cut(whole, at, None))
    assert_same_bits(expected, {name: np.concatenate([before[name], after[name]]) for name in before})
    assert again.snapshot() == engine.snapshot()


@pytest.mark.parametrize("horizon", ["5 events", "5m"])
def test_a_horizon_goes_by_the_times_of_targets(horizon: str) -> None:
    settings = config(EVENT, f"model: {{horizon: {horizon}}}")
    for odd in (False, True):
        alerts = shaped(run(Engine(settings), events(odd))[1])
        assert all(at >= ODD[0] - 5 for at in alerts)
        assert odd == any(ODD[0] - 5 <= at < ODD[0] + 90 for at in alerts), alerts


def test_late_labels_go_by_the_times_of_their_events() -> None:
    settings = config("target: y, features: [], lags: 1", "labels: {topic: labels, wait: 1d}")
    for odd in (False, True):
        engine, whole, alerts = Engine(settings), events(odd), []
        bare = replace(whole, target=np.full(len(whole), np.nan))
        for at in range(0, len(whole), 10):  # a batch's labels come after the next one
            run(engine, cut(bare, at, at + 10))
            late = cut(whole, max(at - 10, 0), at)
            labels = Labels(late.entity, late.ts, np.zeros(len(late), np.int64), late.target, late.position)
            alerts += engine.learn(labels, 0, EventIds("labels", 0, late.position.tolist())).alerts
        assert all(at >= ODD[0] for at in shaped(alerts))
        assert odd == any(ODD[0] <= at < ODD[0] + 90 for at in shaped(alerts)), shaped(alerts)
