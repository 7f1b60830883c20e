"""What creeps where a day has few events, as of flights or readings by hand: days are joined to six events."""

from __future__ import annotations

import numpy as np
import pytest
from engines import DAY, config, made, run
from numpy.typing import NDArray

from ssm_stream.core import days
from ssm_stream.engine.alert_summary.days import DayChange
from ssm_stream.engine.engine import Alert, Engine

Floats = NDArray[np.float64]
START = 1_767_592_800_000  # a Monday, 06:00


def readings_of(days: int, per_day: int, seed: int) -> Floats:
    """A daily curve, and noise of one, (days * per_day,)."""
    rng = np.random.default_rng(seed)
    hours = np.tile(np.arange(per_day) / per_day, days)
    return 50.0 + (np.sin(2 * np.pi * hours) if per_day > 1 else 0.0) + rng.normal(size=days * per_day)


def creeping(y: Floats, per_day: int, seed: int) -> list[Alert]:
    """The starts of alerts that are about means of days; readings come up to a third of a step late."""
    step = DAY // per_day
    late = np.random.default_rng(1000 + seed).integers(0, step // 3, y.size)
    events = made(y.round(2), np.zeros((y.size, 0)), ts=START + np.arange(y.size) * step + late)
    _, alerts = run(Engine(config("features: []")), events)
    return [each for each in alerts if each.message["phase"] == "started" and "its mean is" in each.message["summary"]]


@pytest.mark.parametrize(
    ("per_day", "by", "within"), [(1, 0.2, 35), (1, 0.1, 45), (1, -0.5, 25), (3, 0.2, 25), (3, -0.5, 15)]
)
def test_what_creeps_is_found(per_day: int, by: float, within: int) -> None:
    """A vibration that is measured once a day, or each shift: errors show it after 800 readings, or never."""
    for seed in range(6):
        y = readings_of(180, per_day, seed)
        y += by * np.maximum(np.arange(y.size) / per_day - 120.0, 0.0)
        found = [each for each in creeping(y, per_day, seed) if each.row >= 120 * per_day]
        assert found
        assert found[0].row <= (120 + within) * per_day
        assert found[0].message["change"] == ("creeping up" if by > 0 else "creeping down")


def test_what_wears_out_is_found_before_it_fails() -> None:
    """A machine of two hundred readings, the last quarter of which goes up to six times the noise."""
    leads = []
    for seed in range(16):
        y = readings_of(200, 1, seed) + 6.0 * np.exp((np.arange(200) - 200) / 25.0)
        leads += [200 - each.row for each in creeping(y, 1, seed)][:1]
    assert len(leads) == 16
    assert np.median(leads) >= 12


def test_its_sentence_has_events() -> None:
    """Six readings are no day."""
    y = readings_of(180, 1, 0)
    y[120:] += 0.5 * np.arange(60)
    summary = creeping(y, 1, 0)[0].message["summary"]
    assert "target has been higher for 12 events or more: its mean is " in summary
    assert "in the last 6, was 50.2 in those before" in summary


KINDS = {
    "nothing else": lambda rng, n: np.zeros(n),
    "weekends": lambda rng, n: np.where(np.arange(n) % 7 >= 5, -5.0, 0.0),
    "holidays": lambda rng, n: np.where(rng.random(n) < 0.02, -10.0, 0.0),
    "weather": lambda rng, n: np.cumsum(rng.normal(size=n)) * 0.5,
    "autumn": lambda rng, n: -0.1 * np.arange(n),
    "a year": lambda rng, n: 8.0 * np.sin(2 * np.pi * np.arange(n) / 365),
    "campaigns": lambda rng, n: np.repeat(rng.normal(size=n // 5 + 1) * 4.0, 5)[:n],
    "long campaigns": lambda rng, n: np.repeat(rng.normal(size=n // 20 + 1) * 4.0, 20)[:n],
}


@pytest.mark.parametrize("per_day", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_what_days_do_anyway_is_no_news(kind: str, per_day: int) -> None:
    """At most one alert in a hundred of what is joined, here of six days or of two."""
    days, found = 800 if per_day == 1 else 400, 0
    for seed in range(6):
        moved = KINDS[kind](np.random.default_rng(100 + seed), days).repeat(per_day)
        found += len(creeping(readings_of(days, per_day, seed) + moved, per_day, seed))
    assert found <= 6 * days * per_day / 6 / 100


def test_a_stream_that_becomes_slow_has_days_again() -> None:
    """From an event in half an hour to one a day: each day would be a part of one for good."""
    steps = np.concatenate([np.full(20 * 48, DAY // 48), np.full(100, DAY)])
    engine = Engine(config("features: []"))
    run(engine, made(readings_of(1060, 1, 0).round(2), np.zeros((1060, 0)), ts=START + np.cumsum(steps)))
    number = engine.target_engines[0].store.state.days.number[0]
    assert number[days.DAYS] > 19 + 10
    assert number[days.USUAL_EVENTS] < days.FEW_EVENTS


@pytest.mark.parametrize(("before", "after"), [(2387.97, 2388.05), (0.0, 0.004), (13.0, 14.5)])
def test_two_means_differ_as_they_are_written(before: float, after: float) -> None:
    """A speed of 2388 that has moved by 0.08 read: its mean is 2388, by its inputs 2388."""
    shown = DayChange(before, after).shown()
    assert shown["before"] != shown["after"]
