"""After a pause a target may be anywhere between what it was and what rest makes of it: its length shows how far."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made, run
from numpy.typing import NDArray

from ssm_stream.core.lifecycle import DRIFT, IN_ROW, KINDS
from ssm_stream.engine.engine import Engine

STEP = 30.0
DAY = 86_400.0
Values = NDArray[np.float64]


def engine_at_work(days: int, rng: np.random.Generator) -> tuple[Values, Values, Values]:
    """Times of rows, s, and coolant and speed of a truck: trips of hours by day, with breaks, none on weekends.

    The coolant is at 89 °C within minutes, and cools in a pause, by half in 50 min.
    """
    times, coolant, speed = list[float](), list[float](), list[float]()
    now = 12.0
    for day in range(days):
        if (day + 3) % 7 >= 5:  # 1970-01-01 was a Thursday
            continue
        at, end = day * DAY + rng.uniform(5.0, 6.5) * 3600, day * DAY + rng.uniform(14.0, 17.0) * 3600
        now = 12.0 + rng.normal()
        while at < end:
            for _ in range(int(rng.uniform(1.0, 3.0) * 3600 / STEP)):
                v = max(rng.normal(60, 15), 0.0)
                now += (89.0 - now) * 0.08 + 0.1 * rng.normal()
                times.append(at), coolant.append(round(now, 1)), speed.append(v)
                at += STEP
            pause = rng.choice([rng.uniform(0.2, 0.5), rng.uniform(0.5, 1.5)]) * 3600
            at += pause
            now = 15.0 + (now - 15.0) * 2.0 ** (-pause / 3000)
    return np.array(times), np.array(coolant), np.array(speed)


def fuel_at_work(days: int, rng: np.random.Generator) -> tuple[Values, Values, Values]:
    """As `engine_at_work`, with the level of the tank, %, and which rows are the first after it was filled up."""
    times, _, _ = engine_at_work(days, rng)
    level, levels, filled = rng.uniform(50, 90), np.empty(len(times)), np.zeros(len(times), bool)
    for i in range(len(times)):
        if level < 25 and i and times[i] - times[i - 1] > 10 * STEP:
            level, filled[i] = rng.uniform(85, 98), True
        level -= 0.015 * rng.uniform(0.5, 1.5)
        levels[i] = round(level + 0.3 * rng.normal(), 1)
    return times, levels, filled


def test_what_machines_of_a_pool_often_do_in_pauses_is_no_anomaly_and_the_other_way_is() -> None:
    """Twelve trucks that are filled up each few days, and of one fuel is stolen in its last night."""
    rng = np.random.default_rng(5)
    trucks = [fuel_at_work(26, rng) for _ in range(12)]
    theft = np.flatnonzero(np.diff(trucks[3][0]) > 1000 * STEP)[-1] + 1
    trucks[3][1][theft:] = np.maximum(trucks[3][1][theft:] - 20, 0)
    times = np.concatenate([each[0] for each in trucks])
    order = np.argsort(times, kind="stable")
    of = np.repeat(np.arange(12), [len(each[0]) for each in trucks])[order]
    times, level, filled = (np.concatenate([each[i] for each in trucks])[order] for i in range(3))
    events = made(level, None, [f"truck-{i}" for i in of], times * 1000)
    settings = config(
        "features: [a, b], target: fuel", "alerts: {anomaly: {budget: 1 per 30d}, fleet: {enabled: false}}"
    )
    _, alerts = run(Engine(settings), events)
    started = [
        alert.row for alert in alerts if alert.message["kind"] == "anomaly" and alert.message["phase"] == "started"
    ]
    assert filled[times > 7 * DAY].sum() >= 30
    assert sum(bool(filled[row]) for row in started if times[row] > 7 * DAY) <= 3
    stolen = int(np.flatnonzero((of == 3) & (times == trucks[3][0][theft]))[0])
    assert stolen in started


@pytest.mark.parametrize("seed", range(2))
def test_first_rows_after_pauses_are_covered_and_no_anomalies(seed: int) -> None:
    """Six trucks in four weeks, whose first rows after pauses are 28 to 70 °C below the last ones: none was covered."""
    rng = np.random.default_rng(seed)
    trucks = [engine_at_work(26, rng) for _ in range(6)]
    times = np.concatenate([each[0] for each in trucks])
    order = np.argsort(times, kind="stable")
    of = np.repeat(np.arange(6), [len(each[0]) for each in trucks])[order]
    times, coolant, speed = (np.concatenate([each[i] for each in trucks])[order] for i in range(3))
    events = made(coolant, speed[:, None], [f"truck-{i}" for i in of], times * 1000)
    settings = config("features: [speed], target: coolant", "alerts: {anomaly: {budget: 1 per 30d}}")
    predictions, _ = run(Engine(settings), events)

    first = np.zeros(len(times), bool)
    for i in range(6):
        own = np.flatnonzero(of == i)
        first[own[1:]] = np.diff(times[own]) > 10 * STEP
    first &= times > 12 * DAY
    inside = (coolant >= predictions["lower"]) & (coolant <= predictions["upper"])
    assert first.sum() > 100
    assert inside[first].mean() >= 0.8
    assert (predictions["score"][first] > 1).mean() <= 0.02
    assert 0.88 <= inside[~first & (times > 12 * DAY)].mean() <= 0.92


def oil_of_a_crane(days: int, rng: np.random.Generator) -> tuple[Values, Values]:
    """Times of rows, s, and the level of the oil, which expands as it gets warm: work for hours, then a pause."""
    times, levels = list[float](), list[float]()
    at, warm = rng.uniform(0, 8) * 3600, 0.0
    while at < days * DAY:
        for _ in range(int(rng.uniform(4, 7) * 3600 / STEP)):
            warm += (1.0 - warm) * STEP / 3000
            times.append(at), levels.append(round(75 + 5 * warm + 0.15 * rng.normal(), 1))
            at += STEP
        pause = rng.uniform(5, 12) * 3600
        at, warm = at + pause, warm * 2.0 ** (-pause / 5000)
    return np.array(times), np.array(levels)


def test_the_row_after_the_first_of_a_pause_is_no_anomaly_where_the_target_stays() -> None:
    """Eight cranes for three weeks: the prediction went half the way back to what was before the pause."""
    rng = np.random.default_rng(2)
    cranes = [oil_of_a_crane(21, rng) for _ in range(8)]
    times = np.concatenate([each[0] for each in cranes])
    order = np.argsort(times, kind="stable")
    of = np.repeat(np.arange(8), [len(each[0]) for each in cranes])[order]
    times, level = (np.concatenate([each[i] for each in cranes])[order] for i in range(2))
    # What jumps every few minutes, and does nothing to the oil, shares what pauses teach of the rows after them.
    lifted = np.where(rng.random(len(times)) < 1 / 60, 20.0, 0.1 * rng.normal(size=len(times)))
    second = np.zeros(len(times), bool)
    for i in range(8):
        own = np.flatnonzero(of == i)
        second[own[2:]] = np.diff(times[own])[:-1] > 100 * STEP
    second &= times > 4 * DAY
    events = made(level, lifted[:, None], [f"crane-{i}" for i in of], times * 1000)
    settings = config("features: [lifted], target: level", "alerts: {anomaly: {budget: 1 per 30d}}")
    predictions, _ = run(Engine(settings), events)
    assert second.sum() > 200
    assert (predictions["score"][second] > 1).sum() <= 2  # 6


@pytest.mark.parametrize("value", [-40.0, 0.0, 150.0])
@pytest.mark.parametrize(("least", "most"), [(900, 5400), (6 * 3600, DAY)])
def test_a_sensor_that_fails_in_a_pause_is_found_within_minutes(least: float, most: float, value: float) -> None:
    for seed in range(2):
        times, coolant, speed = engine_at_work(22, np.random.default_rng(seed))
        pauses = np.diff(times, prepend=times[0])
        failed = np.flatnonzero((pauses > least) & (pauses < most) & (times > 19 * DAY))[0]
        coolant[failed:] = value
        settings = config("features: [speed], target: coolant", "alerts: {anomaly: {budget: 1 per 30d}}")
        _, alerts = run(Engine(settings), made(coolant, speed[:, None], ts=times * 1000))
        assert any(0 <= alert.row - failed < 10 for alert in alerts if alert.message["phase"] == "started")


def test_an_episode_that_is_ended_from_outside_leaves_the_usual_gap() -> None:
    """A false alarm that is answered, and examples that prime an entity, end episodes; what pauses teach stays."""
    rng = np.random.default_rng(4)
    engine = Engine(config("features: [speed]"))
    times, coolant, speed = engine_at_work(4, rng)
    run(engine, made(coolant, speed[:, None], ts=times * 1000))
    gaps = engine.target_engines[0].store.state.lifecycle.number[0, DRIFT, IN_ROW].copy()
    for kind in KINDS:
        engine.target_engines[0].store.end_episodes(kind, engine.names[0])
    assert engine.target_engines[0].store.state.lifecycle.number[0, DRIFT, IN_ROW] == gaps > 0
