"""What creeps from day to day: a target that moves by less in an hour than its noise is, and by much in a week."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engines import DAY, config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Alert, Engine

Floats = NDArray[np.float64]
A_DAY = 48  # events
START = 1_767_571_200_000  # a Monday, 00:00


def days_of(days: int, seed: int) -> tuple[Floats, Floats]:
    """Daily curve and noise of so many days, (days, A_DAY), and what each day is off, (days,)."""
    rng = np.random.default_rng(seed)
    curve = 3.0 * np.sin(2 * np.pi * np.arange(A_DAY) / A_DAY) + 0.8 * rng.normal(size=(days, A_DAY))
    return 50.0 + curve, 0.3 * rng.normal(size=days)


def creeping(y: Floats, sections: str = "", begin: int = 0) -> list[Alert]:
    """The alerts of one machine that are about its days."""
    n = y.size
    step = DAY // (y.shape[1] if y.ndim == 2 else A_DAY)
    events = made(y.ravel().round(2), np.zeros((n, 0)), ts=START + (begin + np.arange(n)) * step)
    _, alerts = run(Engine(config("features: []", sections)), events)
    words = "for two days or more", "the days of"
    return [each for each in alerts if any(some in each.message["summary"] for some in words)]


@pytest.mark.parametrize("begin", [0, 20])
@pytest.mark.parametrize("by", [0.9, -0.9])
@pytest.mark.parametrize("seed", range(5))
def test_what_creeps_is_found_within_days(seed: int, by: float, begin: int) -> None:
    """A half more than the noise of an event each day; errors follow it, and show it after a week or never.

    begin: event of the first day with which it begins; what is left of that day has another mean
    """
    curve, off = days_of(28, seed)
    ramp = by * np.maximum(np.arange(28 * A_DAY).reshape(28, A_DAY) / A_DAY - 14, 0.0)
    y = (curve + off[:, None] + ramp).ravel()
    found = [each for each in creeping(y[begin:], begin=begin) if each.row >= 14 * A_DAY - begin]
    assert found
    assert found[0].row <= 19 * A_DAY - begin
    assert found[0].message["kind"] == "drift"
    assert found[0].message["change"] == ("creeping up" if by > 0 else "creeping down")


def test_what_creeps_by_a_tenth_of_the_noise_a_day_is_found() -> None:
    """Measured in what days of late are off, a line is never three units off: it taught the unit by itself."""
    found = 0
    for seed in range(8):
        curve, off = days_of(54, seed)
        ramp = 0.08 * np.maximum(np.arange(54 * A_DAY).reshape(54, A_DAY) / A_DAY - 14, 0.0)
        found += any(each.row >= 14 * A_DAY for each in creeping(curve + off[:, None] + ramp))
    assert found >= 5


@pytest.mark.parametrize("holiday", [2, 8])
def test_after_a_holiday_days_are_as_before_it(holiday: int) -> None:
    """A mean that follows the holiday, and the unit that it made, hid all that came for two months."""
    after = list[float]()
    for seed in range(6):
        curve, off = days_of(70, seed)
        y = curve + off[:, None] + 0.3 * np.maximum(np.arange(70 * A_DAY).reshape(70, A_DAY) / A_DAY - 35, 0.0)
        y[20 : 20 + holiday] -= 10.0
        started = [each.row / A_DAY for each in creeping(y) if each.message["phase"] == "started"]
        assert len([day for day in started if 20 < day < 35]) == 1
        after += [day - 35 for day in started if day >= 35][:1]
    assert len(after) == 6
    assert max(after) <= 9


def test_its_sentence_has_the_days() -> None:
    curve, off = days_of(28, 0)
    ramp = 0.9 * np.maximum(np.arange(28) - 13.0, 0.0)
    started, *_, last = creeping(curve + off[:, None] + ramp[:, None], "alerts: {drift: {absorb_after: 100}}")
    assert "target has been higher for two days or more: its mean is 5" in started.message["summary"]
    assert "in the last one, was 50" in started.message["summary"]
    assert "(found at " in started.message["summary"]
    assert last.message["phase"] == "recovered"
    assert "are compared with its mean of the last one" in last.message["summary"]


def test_a_jump_that_stays_has_not_crept() -> None:
    """A fan that fails, a holiday: the days are higher, and how they came to be so is not known from two of them."""
    curve, off = days_of(28, 1)
    jump = np.where(np.arange(28) >= 14, 6.0, 0.0)
    started = creeping(curve + off[:, None] + jump[:, None])[0].message["summary"]
    assert "target has been higher for two days or more: its mean is 56" in started
    assert "crept" not in started


def test_the_end_has_no_mean_of_another_target() -> None:
    """One target creeps, and another, of a tenth of its size, two days later: the end is about the first one."""
    curve, off = days_of(28, 0)
    y = curve + off[:, None]
    later = [0.9 * np.maximum(np.arange(28) - day, 0.0)[:, None] for day in (13.0, 15.0)]
    columns = np.stack([y + later[0], y[::-1] / 10.0 + later[1] / 10.0], axis=-1).reshape(-1, 2).round(2)
    events = made(columns[:, 0], np.zeros((len(columns), 0)), ts=START + np.arange(len(columns)) * (DAY // A_DAY))
    settings = config("features: [], target: [y, z]", "alerts: {drift: {absorb_after: 240}}")
    _, alerts = run(Engine(settings), replace(events, target=columns))
    first, *_, last = [each.message for each in alerts if each.message["kind"] == "drift"]
    assert "y has been higher for two days or more" in first["summary"]
    assert (last["target"], last["phase"], last["ended_by"]) == ("y", "recovered", "absorbed")
    assert "mean" not in last["summary"]
    assert "y has been so for" in last["summary"]


KINDS = {
    "nothing else": lambda rng, n: np.zeros(n),
    "weekends": lambda rng, n: np.where(np.arange(n) % 7 >= 5, -10.0, 0.0),
    "holidays": lambda rng, n: np.where(rng.random(n) < 0.02, -10.0, 0.0),
    "weather": lambda rng, n: np.cumsum(rng.normal(size=n)) * 0.5,
    "autumn": lambda rng, n: -0.1 * np.arange(n),
    "campaigns": lambda rng, n: np.repeat(rng.normal(size=n // 5 + 1) * 4.0, 5)[:n],
    "long campaigns": lambda rng, n: np.repeat(rng.normal(size=n // 20 + 1) * 4.0, 20)[:n],
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_days_do_anyway_is_no_news(kind: str) -> None:
    """In twelve half-years budgets allow 22 such alerts, one in a hundred days."""
    found = 0
    for seed in range(12):
        curve, off = days_of(182, seed)
        moved = off + KINDS[kind](np.random.default_rng(100 + seed), 182)
        found += sum(each.message["phase"] == "started" for each in creeping(curve + moved[:, None]))
    assert found <= 1.2 * 22


@pytest.mark.parametrize("rests", [False, True])
def test_what_is_less_than_an_error_is_none_at_rest_either(rests: bool) -> None:
    """Half of an event's error, where days are known to a tenth of it: at events that stood still, it was an alert."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        y = 50.0 + 3.0 * rng.normal(size=(40, 288)) + 0.05 * rng.normal(size=(40, 1))
        y[20:] += 1.5
        if rests:
            y[:, :24] = y[:, -48:] = 20.0
        assert not creeping(y)


@pytest.mark.parametrize("days", [0.4, 1.0])
def test_one_day_is_none(days: float) -> None:
    """A stop of some hours, a holiday: anomalies may say so, not a change that stays."""
    curve, off = days_of(28, 3)
    y = (curve + off[:, None]).ravel()
    y[16 * A_DAY : 16 * A_DAY + int(days * A_DAY)] = 20.0
    assert not [each for each in creeping(y.reshape(28, A_DAY)) if each.row > 16 * A_DAY]


def test_days_with_few_events_are_parts_of_one() -> None:
    """A machine that sends for two hours each Sunday, when it is cold."""
    curve, off = days_of(56, 4)
    y = curve + off[:, None]
    ts = START + np.arange(y.size) * (DAY // A_DAY)
    sunday = (np.arange(56) % 7 == 6).repeat(A_DAY)
    cold = sunday & (np.arange(y.size) % A_DAY >= 4)
    y = np.where(sunday, 20.0, y.ravel())
    events = made(y[~cold].round(2), np.zeros((int((~cold).sum()), 0)), ts=ts[~cold])
    _, alerts = run(Engine(config("features: []")), events)
    assert not [each for each in alerts if "for two days or more" in each.message["summary"]]


@pytest.mark.parametrize("seed", range(3))
def test_what_a_laboratory_finds_once_a_day_creeps_too(seed: int) -> None:
    """A gas in oil that rises by 5 % a day: at rest but for one event a day, and no day counted."""
    rng = np.random.default_rng(seed)
    samples = (24.0 + 0.9 * rng.normal(size=60)) * 1.05 ** np.maximum(np.arange(60) - 30.0, 0.0)
    found = creeping(samples.repeat(A_DAY))
    assert found
    assert 31 * A_DAY <= found[0].row <= 38 * A_DAY
    assert found[0].message["change"] == "creeping up"


HELD = {
    "a laboratory, daily": lambda rng: (24.0 + 0.9 * rng.normal(size=182)).repeat(A_DAY),
    "a laboratory, weekly": lambda rng: (24.0 + 0.9 * rng.normal(size=26)).repeat(7 * A_DAY),
    "one that wanders": lambda rng: (24.0 + np.cumsum(0.5 * rng.normal(size=182))).repeat(A_DAY),
    "a setpoint": lambda rng: (20.0 + 2.0 * rng.integers(-2, 3, size=26)).repeat(7 * A_DAY),
    "rain": lambda rng: np.where(rng.random(182 * A_DAY) < 0.05, rng.gamma(0.5, 4.0, size=182 * A_DAY), 0.0),
    "irrigation": lambda rng: (np.arange(182 * A_DAY) % A_DAY == 12) * rng.normal(9.0, 0.5, size=182 * A_DAY),
    "rare pulses": lambda rng: (rng.random(182 * A_DAY) < 0.02) * rng.exponential(5.0, size=182 * A_DAY),
    "a pump in standby": lambda rng: (30.0 + rng.normal(size=182 * A_DAY)) * (np.arange(182 * A_DAY) >= 60 * A_DAY),
}


@pytest.mark.parametrize("kind", HELD)
def test_what_held_values_do_anyway_is_no_news(kind: str) -> None:
    """In twelve half-years budgets allow 22 such alerts, one in a hundred days."""
    found = 0
    for seed in range(12):
        alerts = creeping(HELD[kind](np.random.default_rng(seed)))
        found += sum(each.message["phase"] == "started" for each in alerts)
    assert found <= 1.2 * 22


@pytest.mark.parametrize(("a_day", "pulses"), [(48, 2), (48, 8), (144, 6), (144, 24), (1440, 6)])
def test_pulses_that_no_longer_come_are_found(a_day: int, pulses: int) -> None:
    """A feeder that is out for three days: rests are most of its events, and one more shows nothing."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        y = np.zeros((48, a_day))
        at = (np.arange(pulses) * a_day) // pulses + a_day // (2 * pulses)
        y[:, at] = rng.normal(50.0, 3.0, size=(48, pulses))
        y[40:43] = 0.0
        started = [each for each in creeping(y) if each.message["phase"] == "started"]
        assert [each.row // a_day for each in started] == [42]
        assert "lower for two days or more: its mean is 0 in the last one" in started[0].message["summary"]
