"""Novelty of a value and levels of columns: invariances, wild inputs, what is found, and the false-alarm budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import alerts_recordings as bench
from alerts_recordings import WEEK, Floats, first_alarms, levels_scores, novelty_scores, run_levels, run_novelty

from ssm_stream.core import levels, novelty

EVENTS = bench.EVENTS
BUDGET_EVENTS = 300_000
GROWN = 3000


def week(count: int) -> Floats:
    return np.arange(count) * 300.0 % WEEK


def noise(seed: int, count: int = 600, columns: int = 3) -> tuple[Floats, Floats]:
    """A target and columns that it depends on, with a jump and a gap."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, columns))
    y = x @ np.linspace(1.0, 2.0, columns) + 0.3 * rng.standard_t(3, size=count)
    y[count // 2 :] += 4.0
    x[rng.random(x.shape) < 0.02] = np.nan
    return y, x


def everything(values: Floats, columns: Floats) -> Floats:
    """Both scores, (n, 2)."""
    return np.stack([novelty_scores(values, week(len(values))), levels_scores(values, columns)], 1)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), power=st.integers(-30, 30), sign=st.sampled_from([1.0, -1.0]))
def test_unit_does_not_matter(seed: int, power: int, sign: float) -> None:
    values, columns = noise(seed)
    unit = sign * 2.0**power
    a, b = everything(values, columns), everything(unit * values, unit * columns)
    off = np.abs(a - b) / np.maximum(a, 1.0)
    if sign < 0:
        # Mirrored, a value at a bin's edge falls into the neighbouring bin.
        assert np.mean(off > 0.05) < 0.03
    else:
        # Square roots of steps are in float32: those of a power of four are exact, those of two are rounded.
        assert off.max() <= (0.0 if power % 2 == 0 else 1e-5)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), shift=st.floats(-1e4, 1e4))
def test_zero_does_not_matter(seed: int, shift: float) -> None:
    values, columns = noise(seed)
    a, b = everything(values, columns), everything(values + shift, columns + shift)
    assert np.mean(np.abs(a - b) > 0.02 * np.maximum(a, 0.1)) < 0.02


WILD = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, -1.0, 1e30, -1e30, 1e-30, 1.7e308, -1.7e308, 5e-324]),
    st.floats(-10, 10),
)


@settings(max_examples=60)
@given(
    base=st.sampled_from([0.0, 5.0, -1e30, 1e-300, 1.7e308]),
    noisy=st.booleans(),
    wild=st.lists(st.tuples(st.integers(0, 399), WILD), max_size=20),
    events=st.floats(1.0, 1e9),
)
def test_scores_of_anything_finite_are_finite(
    base: float, noisy: bool, wild: list[tuple[int, float]], events: float
) -> None:
    values = np.full(400, base)
    if noisy:
        values = values + np.random.default_rng(0).normal(size=400)
    for at, value in wild:
        values[at] = value
    columns = np.stack([values[::-1], values], 1)
    for scores in (novelty_scores(values, week(400), events), levels_scores(values, columns, events)):
        assert np.isfinite(scores).all()
        assert (scores >= 0.0).all()
        assert (scores[: novelty.WARMUP] == 0.0).all()


@pytest.mark.parametrize("jump", [1e-6, 1.0, 1e30])
def test_a_constant_that_changes_is_new_at_once(jump: float) -> None:
    values = np.full(1000, 5.0)
    values[500:] += jump
    assert (novelty_scores(values, week(1000))[:500] == 0.0).all()
    assert novelty_scores(values, week(1000))[500] > 1.0
    scores = levels_scores(values, np.zeros((1000, 2)))
    assert (scores[:500] == 0.0).all()


def test_an_outlier_does_not_blind_forever() -> None:
    values = np.random.default_rng(3).normal(size=40_000)
    values[1000], values[-1] = 1e9, 12.0
    scores = novelty_scores(values, week(len(values)))
    assert scores[1000] > 1.0
    assert scores[-1] > 1.0


def test_a_missing_value_changes_nothing() -> None:
    values, columns = noise(1)
    s = novelty.new_novelty_state(1)
    out = np.zeros(1)
    run_novelty(s, 0, values, week(600), EVENTS, np.zeros(600))
    before = [a.copy() for a in s]
    for nothing in (np.nan, np.inf, -np.inf):
        run_novelty(s, 0, np.array([nothing]), np.zeros(1), EVENTS, out)
        assert out[0] == 0.0
    assert all((a == b).all() for a, b in zip(before, s, strict=True))
    q = levels.new_levels_state(1, 4)
    run_levels(q, 0, values, columns, EVENTS, np.zeros(600))
    column = q.mean.copy()
    run_levels(q, 0, np.array([np.nan]), np.full((1, 3), np.nan), EVENTS, out)
    assert out[0] == 0.0
    assert (q.mean == column).all()


def test_without_a_calendar_there_is_one_hour() -> None:
    values, _ = noise(2)
    assert (novelty_scores(values, np.full(600, np.nan)) == novelty_scores(values, np.zeros(600))).all()


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 599))
def test_scores_depend_on_the_past_alone(seed: int, cut: int) -> None:
    values, columns = noise(seed)
    whole, prefix = everything(values, columns), everything(values[:cut], np.ascontiguousarray(columns[:cut]))
    assert (whole[:cut] == prefix).all()


def test_entities_and_batches_do_not_matter() -> None:
    parts = [noise(seed) for seed in range(3)]
    alone = [everything(*part) for part in parts]
    s, q, out = novelty.new_novelty_state(4), levels.new_levels_state(4, 4), np.zeros((600, 3, 2))
    for start in range(0, 600, 150):
        some = slice(start, start + 150)
        for e, (values, columns) in enumerate(parts):
            run_novelty(s, e, values[some], week(600)[some], EVENTS, out[some, e, 0])
            run_levels(q, e, values[some], columns[some], EVENTS, out[some, e, 1])
    for e in range(3):
        assert (out[:, e] == alone[e]).all()
    fresh: list[Any] = [*s, *q]
    assert all((array[3] == 0).all() for array in fresh)


def seasonal(count: int) -> Floats:
    return np.asarray(
        np.sin(week(count) / 86_400.0 * 2 * np.pi) * 5.0 + np.random.default_rng(4).normal(size=count) * 0.3
    )


def found(values: Floats, at: int, within: int) -> bool:
    return bool((novelty_scores(values, week(len(values)))[at : at + within] > 1.0).any())


@pytest.mark.parametrize("kind", ["spike", "dip", "level", "flat", "noise", "hour", "gap"])
def test_kinds_of_anomaly_are_found(kind: str) -> None:
    values, at = seasonal(GROWN + 300), GROWN
    within = 60
    if kind == "spike":
        values[at] += 15.0
    elif kind == "dip":
        values[at] -= 15.0
    elif kind == "level":
        values[at:] += 8.0
    elif kind == "flat":
        values[at:] = values[at]
    elif kind == "noise":
        values[at:] += np.random.default_rng(5).normal(size=300) * 2.0
    elif kind == "hour":
        values[at:] -= 2.0 * (values[at:] - values.mean())  # the night in the daytime
        within = 200
    else:
        values = np.where(np.random.default_rng(6).random(len(values)) < 0.5, -10.0, 10.0) + 0.05 * values
        values[at] = 0.0
    assert found(values, at, within)


def test_causes_name_the_columns_that_moved() -> None:
    rng = np.random.default_rng(0)
    columns, values = rng.normal(size=(1200, 9)), rng.normal(size=1200)
    columns[1000:, 4] += 2.0
    columns[1000:, 7] -= 3.0
    s, out, causes = levels.new_levels_state(1, 10), np.zeros(1200), np.zeros(20)
    run_levels(s, 0, values, columns, EVENTS, out)
    assert (out[:1000] < 1.0).all()
    assert (out[1020:1100] > 1.0).mean() > 0.9
    levels.causes(s, 0, causes)
    order = np.argsort(-np.abs(causes))
    assert set(order[:2].tolist()) == {4, 7}
    assert causes[4] > 0.0
    assert causes[7] < 0.0


def test_a_column_that_drifts_is_not_an_alarm_and_a_level_that_stays_becomes_normal() -> None:
    rng = np.random.default_rng(1)
    ramp = np.linspace(0.0, 60.0, 1000)[:, None] + rng.normal(size=(1000, 1)) * 0.2
    assert (levels_scores(rng.normal(size=1000), ramp) < 1.0).mean() > 0.98
    values = rng.normal(size=30_000)
    values[3000:] += 5.0
    scores = levels_scores(values, np.zeros((30_000, 0)))
    assert (scores[3010:4000] > 1.0).all()
    assert (scores[-5000:] < 1.0).all()


def excursions(scores: Floats) -> int:
    return len(first_alarms(scores > 1.0, 0))


@pytest.mark.parametrize("seed", [1, 4, 9, 101])
def test_a_valve_that_opens_again_and_again_is_soon_usual(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dwell = rng.exponential(60.0, 600).astype(int) + 3
    valve = np.repeat(np.where(np.arange(600) % 2, 100.0, 0.0), dwell)[:30_000]
    scores = levels_scores(0.5 * valve + 0.2 * rng.normal(size=len(valve)), valve[:, None], 3e4)
    assert excursions(scores) <= 15
    assert (scores[7500:] < 1.0).all()


def test_what_always_comes_in_bursts_alarms_at_the_budget_in_the_long_run() -> None:
    rng = np.random.default_rng(0)
    setpoint = np.repeat(rng.choice([60.0, 65.0, 70.0, 75.0, 80.0], 250), 480)
    values, noise = np.empty(len(setpoint)), rng.normal(size=len(setpoint))
    value, red = setpoint[0], 0.0
    for i, wanted in enumerate(setpoint):
        value, red = value + (wanted - value) / 8.0, 0.6 * red + 0.24 * noise[i]
        values[i] = value + red
    scores = levels_scores(values, setpoint[:, None], 1e4)
    assert excursions(scores[40_000:]) <= 16  # 8 are allowed


def test_a_fault_stays_an_alarm_and_is_found_again_after_its_repair() -> None:
    rng = np.random.default_rng(3)
    values, columns = rng.normal(size=8000), rng.normal(size=(8000, 3))
    for at in (2000, 5500):
        values[at : at + 700] += 3.0
    scores = levels_scores(values, columns)
    for at in (2000, 5500):
        assert (scores[at + 25 : at + 700] > 1.0).all()


@pytest.mark.parametrize("events", [1e3, 1e4])
def test_false_alarms_keep_to_the_budget(events: float) -> None:
    # Three standard deviations of a count on top of what the budget allows.
    allowed = BUDGET_EVENTS / events
    for _, values, ts in bench.stationary(BUDGET_EVENTS, seed=7):
        for scores in (
            novelty_scores(values, ts, events),
            levels_scores(values, np.zeros((BUDGET_EVENTS, 0)), events),
            levels_scores(values[::4].copy(), np.stack([values[i::4] for i in (1, 2, 3)], 1), events),
        ):
            assert len(first_alarms(scores > 1.0, 0)) <= allowed + 3.0 * allowed**0.5


def test_young_entities_keep_quiet() -> None:
    rng, alarms = np.random.default_rng(8), 0
    for _ in range(100):
        alarms += len(first_alarms(novelty_scores(rng.normal(size=1000), week(1000), EVENTS) > 1.0, 0))
    assert alarms <= 20  # 10 are allowed


def test_state_is_small() -> None:
    assert sum(array.nbytes for array in novelty.new_novelty_state(1)) <= 10_000
    assert sum(array.nbytes for array in levels.new_levels_state(1, 50)) <= 2700


def test_numenta_rule() -> None:
    entity = bench.Entity(
        "a", np.zeros(100), np.zeros((100, 0)), np.zeros(100), np.zeros(100, bool), bench.pl.DataFrame()
    )
    file = bench.Scored(entity, [(40, 59)], 10)

    def points(*alarms: int) -> float:
        return bench.nab_points(file, np.array(alarms, np.int64), 1.0, 0.11)

    assert points() == -1.0
    assert points(40) == pytest.approx(1.0)
    assert points(40, 50) == pytest.approx(1.0)
    assert 0.0 < points(59) < 0.3
    assert points(40, 20) == pytest.approx(1.0 - 0.11)
    assert points(40, 60) > points(40, 75) > points(40, 99) >= 1.0 - 0.11
    assert bench.nab_normal(-1.0, 1, 1.0) == 0.0
    assert bench.nab_normal(1.0, 1, 1.0) == 100.0


def test_a_perfect_detector_has_no_false_and_no_missed_rows() -> None:
    flagged = np.arange(60) % 7 == 0
    assert bench.confusion([flagged], [flagged]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("first", [0.0, 25.0])
def test_what_began_as_a_constant_has_new_values(first: float) -> None:
    """A machine whose first rows are of a stop; of one that began at exactly 0 no value was ever new."""
    values = np.concatenate([np.full(60, first), np.random.default_rng(1).normal(100.0, 5.0, 5000), [1e6]])
    assert novelty_scores(values, week(len(values)))[-1] > 1.0


@pytest.mark.parametrize("seed", range(4))
def test_what_creeps_beyond_the_range_of_a_machine_that_stops_at_times_is_new(seed: int) -> None:
    """62 °C at rest and 80 °C at work, for a day or two each; then 50 °C more within eight hours."""
    rng = np.random.default_rng(seed)
    works = np.concatenate([np.full(rng.integers(300, 3600), i % 2) for i in range(20)])[:16_000]
    level = np.empty(len(works))
    value = 62.0
    for i, on in enumerate(works):
        value += (80.0 * on + 62.0 * (1 - on) - value) / (15.0 if on else 160.0)
        level[i] = value
    usual = level + 0.15 * rng.normal(size=len(level))
    minutes = np.arange(len(level)) * 60.0 % WEEK
    at = 15_000
    creeps = usual + np.clip(np.arange(len(level)) - at, 0, 480) * (50.0 / 480)
    before, after = (novelty_scores(values.round(1), minutes, 200_000.0) for values in (usual, creeps))
    assert (before[novelty.WARMUP + 8000 :] > 1.0).sum() == 0
    assert (after[at : at + 240] > 1.0).any()


def test_a_start_after_a_weekend_at_rest_is_not_new() -> None:
    """Rows of 10 s, of which 22,000 are at rest: they were a range of their own, beyond which each Monday was."""
    rng = np.random.default_rng(0)
    hours = np.arange(6 * 168 * 360) / 360.0
    load, values, value = np.where(hours % 168 >= 62, 70.0, 0.0), np.empty(len(hours)), 20.0
    for i, power in enumerate(load):
        value += (1 - np.exp(-1 / 720)) * (20 + power - value)
        values[i] = value
    values = np.round(values + 0.2 * rng.normal(size=len(values)), 2)
    score = novelty_scores(values, hours * 3600.0 % WEEK, 10_000.0)
    assert score[hours >= 2 * 168].max() < 5.0, "it was 45 to 66; the ordinary bound learns from each start"


@pytest.mark.parametrize("late", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("first", [0.0, 15.0])
def test_a_first_day_unlike_the_others_is_no_news_a_week_later(first: float, late: float) -> None:
    """Twelve levels that wander, and on the first day decay: hours were compared with those of a week ago alone. Where
    some values come 5 to 15 minutes late, so that hours end twice, too."""
    alarms = np.zeros(16)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        steps, wander, values = 0.1 * rng.normal(size=288 * 16), 0.0, np.empty(288 * 16)
        for i, step in enumerate(steps):
            wander = 0.998 * wander + step
            values[i] = 45.0 + first * np.exp(-i / 144) + wander
        values += 0.15 * rng.normal(size=len(values))
        delay = np.where(rng.random(len(values)) < late, rng.uniform(1.0, 3.0, len(values)), 0.0)
        order = np.argsort(np.arange(len(values)) + delay, kind="stable")
        alarms += (novelty_scores(values[order], week(len(values))[order]) > 1.0).reshape(16, 288).any(1)
    assert alarms[7] <= 3, "it was 9 of 12"


@pytest.mark.parametrize("seed", range(4))
def test_an_hour_that_begins_is_no_news(seed: int) -> None:
    """A wave of some minutes, read each second: the first value of each hour was compared with another mean."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(8 * 3600) + rng.integers(0, 3600)
    values = 10.0 * np.sin(2 * np.pi * seconds / rng.uniform(60, 900)) + 0.3 * rng.normal(size=len(seconds))
    score = novelty_scores(values.round(2), seconds % WEEK)
    begins = seconds % 3600 < 20
    assert (score[begins] > 1.0).sum() == 0
