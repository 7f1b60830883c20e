"""Digits of an alert's sentence: as many as the column has, and only what one value, or a mean, shows is stated."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from engines import config, made, run
from test_alert_summary import DRIFT, SEVERAL, message, summarizer

from ssm_stream.config.first_alerts import first_alerts
from ssm_stream.config.sections.model import Model
from ssm_stream.engine.alert_summary import Evidence
from ssm_stream.engine.alert_summary.errors import ErrorChange
from ssm_stream.engine.alert_summary.evidence import MovedLevel, NewValue
from ssm_stream.engine.engine import Engine


def written(evidence: Evidence, **other: Any) -> str:
    """Return a sentence without its frame."""
    found = re.fullmatch(r"PUMP-3: (.*) \(since 06:10\)\.", summarizer()(message(**other), evidence))
    assert found
    return found[1]


def interval(y: float, yhat: float, half: float, **other: Any) -> dict[str, Any]:
    return {"y": y, "yhat": yhat, "yhat_lower": yhat - half, "yhat_upper": yhat + half, **other}


@pytest.mark.parametrize(
    ("value", "shown"), [(1_213_456.0, "1,213,456"), (0.93, "0.93"), (32.9964, "32.9964"), (0.1 + 0.2, "0.3")]
)
def test_a_stuck_value_is_exact(value: float, shown: str) -> None:
    rule = {"kind": "stuck", "column": "count_total", "value": value, "channel": None}
    assert written(Evidence(), **rule) == f"count_total is stuck at {shown}"


@pytest.mark.parametrize(
    ("numbers", "step", "shown"),
    [
        # Digits of the column, whatever the interval: neither more nor fewer.
        (interval(16.6, 16.5405, 0.0011), 0.1, "16.6, expected 16.54"),
        (interval(327.0, 101.6, 90.0), 1.0, "327, expected 100 ± 90"),
        (interval(1_213_456.0, 1_100_000.0, 40_000.0), 1.0, "1,213,456, expected 1,100,000 ± 40,000"),
        (interval(0.5, 3.1953, 0.019), 0.1, "0.5, expected 3.20 ± 0.02"),
        (interval(335.4, 101.6, 90.0), 0.1, "335.4, expected 100 ± 90"),
        # The smallest step has more digits than this value.
        (interval(20.0, 19.7712, 0.0121), 0.01, "20, expected 19.771 ± 0.012"),
        # As many as it takes to differ, with the interval, from the value.
        (interval(5.0, 5.0014, 0.0012), 1.0, "5, expected 5.0014 ± 0.0012"),
        (interval(3.69, 3.6987, 0.0022), 0.01, "3.69, expected 3.699 ± 0.002"),
        # Two of its own at least, as far as its interval allows, however large the error is: -9999 means no value.
        (interval(-9999.0, 34.41, 1.2), 0.5, "-9999, expected 34"),
        (interval(-9999.0, 0.02, 1.2), 0.5, "-9999, expected 0"),
        # A computed value has none of its own.
        (interval(71.2384123, 101.6, 9.0), 0.0, "71, expected 102 ± 9"),
    ],
)
def test_a_value_has_the_digits_of_its_column(numbers: dict[str, Any], step: float, shown: str) -> None:
    assert written(Evidence(step=step), **numbers) == f"temp is {shown}"


@pytest.mark.parametrize(
    ("y", "bound", "step", "shown"),
    [
        (17.9, 17.99, 0.1, " (at least 18.0)"),
        (17.4, 17.91, 0.1, " (at least 18.0)"),
        (17.98, 17.99, 0.01, " (at least 17.99)"),
        # No number of the column's digits is between the two.
        (17.9, 17.95, 0.0, ""),
    ],
)
def test_a_bound_has_the_digits_of_its_column(y: float, bound: float, step: float, shown: str) -> None:
    evidence = Evidence(new=NewValue("lower", 8765, 1, bound, 0.3), step=step)
    text = written(evidence, **interval(y, 18.4, 0.2, channel="novelty"))
    assert text.endswith(f"lower than all of the 8,700 events before{shown}"), text


@pytest.mark.parametrize(("bound", "shown"), [(3e-8, "0"), (0.31, "0.31"), (4.0, "4.0")])
def test_what_is_zero_to_the_eye_is_zero(bound: float, shown: str) -> None:
    """The column has all digits of its floats, and nine is far from zero."""
    evidence = Evidence(new=NewValue("usual", 8765, 1, bound, 0.3), step=1e-9)
    text = written(evidence, **interval(9.0, 0.0, 0.15, channel="novelty"))
    assert text.endswith(f"unlike its usual value (about {shown})"), text


@pytest.mark.parametrize(("days", "words"), [(4, "unlike its usual value"), (15, "at this time of the week")])
def test_no_time_of_the_week_has_been_before_in_the_first_week(days: int, words: str) -> None:
    """A level of the morning in the evening of the last day."""
    found = list[str]()
    for seed in range(8):
        n = days * 288
        y = 50.0 + 10.0 * np.sin(2 * np.pi * np.arange(n) / 288) + np.random.default_rng(seed).normal(size=n)
        y[-88:-58] = 59.5
        events = made(y.round(1), np.zeros((n, 0)), ts=1_767_571_200_000 + np.arange(n) * 300_000)
        _, alerts = run(Engine(config("features: []", "alerts: {anomaly: {channels: [novelty]}}")), events)
        found += [each.message["summary"] for each in alerts if each.message["phase"] == "started"]
    assert any(words in each for each in found)
    assert days > 7 or not any("of the week" in each for each in found)


def test_a_wait_of_years_is_in_days() -> None:
    """It was `1.6e+03 days`."""
    sentence = first_alerts(2 * 86_400.0, Model(), "")
    assert sentence is not None
    assert "after 200 days (100 rows" in sentence
    assert "daily means after 200 days, of its errors after 1,600 days (800 rows)" in sentence


SHIFTED = "has been about 0.4 {} than predicted in its last 12 events"


BELOW = "has been {} than predicted by {} in its last 12 events"


def errors(side: int, shift: float = 0.4, ratio: float = 1.3) -> Evidence:
    return Evidence(errors=ErrorChange(shift, 12, ratio, side), step=0.1)


@pytest.mark.parametrize(
    ("change", "numbers", "evidence", "shown"),
    [
        ("higher", (0.8, 0.2, 0.5), errors(1), f"temp {SHIFTED.format('higher')}; now 0.8"),
        # One value is on the other side, or inside of its interval, which shows nothing.
        ("higher", (0.3, 0.9, 0.5), errors(1), f"temp {SHIFTED.format('higher')}"),
        ("higher", (0.6, 0.2, 0.5), errors(1), f"temp {SHIFTED.format('higher')}"),
        ("larger", (0.6, 0.2, 0.5), errors(1), "errors of temp are about 1.3 × as large as usual"),
        ("lower", (0.0, 0.03, 0.08), errors(-1, -0.4), f"temp {SHIFTED.format('lower')}"),
        ("creeping up", (0.3, 0.32, 0.5), Evidence(step=0.1), "temp is creeping up against its prediction"),
        ("larger", (0.0, 0.0, 0.2), errors(0), "errors of temp are about 1.3 × as large as usual"),
        ("smaller", (0.9, 0.0, 0.2), errors(0, ratio=0.5), "errors of temp are only about 0.50 × as large as usual"),
        # The mean goes another way than the ranks, or is not known.
        ("lower", (0.0, 0.9, 0.7), errors(1), "temp does not behave as it did before; now 0, predicted 0.90 ± 0.7"),
        ("lower", (0.0, 0.9, 1.7), errors(0), "temp does not behave as it did before"),
        # The size of the errors may be, though.
        ("lower", (0.0, 0.9, 1.7), errors(0, ratio=1.8), "errors of temp are about 1.8 × as large as usual"),
        ("higher", (0.0, 0.9, 1.7), errors(0, ratio=0.4), "errors of temp are only about 0.40 × as large as usual"),
        # Less than the column shows.
        ("higher", (0.3, 0.3, 0.5), errors(1, 0.03), f"temp {BELOW.format('higher', 'less than its step of 0.1')}"),
        ("lower", (0.3, 0.3, 0.5), errors(-1, -0.08), f"temp {BELOW.format('lower', 'about its step of 0.1 or less')}"),
        ("creeping up", (0.3, 0.3, 0.5), errors(1, 0.03), "temp has crept above its prediction, by less than its step"),
    ],
)  # fmt: skip
def test_a_drift_is_that_of_the_mean(
    change: str, numbers: tuple[float, float, float], evidence: Evidence, shown: str
) -> None:
    text = written(evidence, **{**DRIFT, **interval(*numbers), "change": change})
    assert text.startswith(shown), text
    assert ("now" in text) == ("now" in shown), text


@pytest.mark.parametrize(
    ("after", "step", "shown"),
    [
        (2.127, 0.01, "rose by less than its step of 0.01"),
        (2.119, 0.01, "fell by less than its step of 0.01"),
        (2.127, 0.001, "moved from 2.123 to 2.127"),
        (2.127, 0.0, "moved from 2.123 to 2.127"),
    ],
)
def test_a_level_moves_by_no_less_than_its_column_shows(after: float, step: float, shown: str) -> None:
    moved = [MovedLevel("temp", "level", 2.123, after, 0.001, after)]
    text = written(Evidence(moved=moved, step=step), **interval(2.12, 2.12, 0.1, channel="levels"))
    assert text == f"the level of temp {shown}"
    # How finely another column is measured is not known.
    other = Evidence(moved=[moved[0]._replace(column="load")], step=step)
    text = written(other, **interval(2.12, 2.12, 0.1, channel="levels"))
    assert text.startswith("the level of load moved from 2.123 to 2.1"), text


def test_a_target_whose_level_moved_is_named_once() -> None:
    moved = Evidence(moved=[MovedLevel("vibration", "level", 3.24, 5.13, 0.1, 5.13)])
    text = written(moved, **{**SEVERAL, "channel": "levels", "y": 70.4})
    assert text == "the level of vibration moved from 3.2 to 5.1"


def test_bounds_are_values_of_the_column() -> None:
    """In a column of one decimal, none of the values that are counted is beyond the bound: it has one, too."""
    rng = np.random.default_rng(7)
    y = np.round(np.abs(rng.normal(size=(3000, 4))) + 18.0, 1)
    rows = np.arange(300, 3000, 41)
    y[rows, rows % 4] = np.round(18.0 - rng.uniform(0.1, 4.0, len(rows)), 1)
    sections = "alerts: {fleet: {enabled: false}, anomaly: {channels: [novelty], budget: 1 per 200 events}}"
    names = [f"M{i}" for i in range(4)] * 3000
    events = made(y.ravel(), rng.normal(size=(12_000, 1)), names, np.arange(12_000) * 15_000)
    pattern = r"temp is (\S+),.* lower than all of the (\S+) events before(?: the latest (\d+))? \(at least ([\d.]+)\)"
    found = 0
    for alert in run(Engine(config("features: [load], target: temp", sections)), events)[1]:
        parts = re.search(pattern, alert.message["summary"])
        if alert.message["phase"] != "started" or not parts:
            continue
        row, machine = alert.message["ts"] // 60_000, int(alert.message["entity"][1:])
        last = row - int(parts[3] or 1) + 1
        before = y[max(last - int(parts[2].replace(",", "")), 0) : last, machine]
        bound = float(parts[4])
        assert float(parts[1]) < bound <= before.min() < bound + 0.5, (alert.message["summary"], before.min())
        assert bound == round(bound, 1)
        found += 1
    assert found > 3


def test_counts_that_are_mostly_zero_have_no_direction() -> None:
    """Rejects that quadruple: most errors are then lower, and their mean is higher."""
    rng = np.random.default_rng(2)
    rates = np.full((9000, 4), 0.2)
    rates[5000:, :2] = 0.8
    y = rng.poisson(rates).astype(float)
    sections = "alerts: {fleet: {enabled: false}, anomaly: {enabled: false}, drift: {budget: 1 per 1000 events}}"
    load = 5 + 0.1 * rng.normal(size=(36_000, 1))
    events = made(y.ravel(), load, [f"S{i}" for i in range(4)] * 9000, np.arange(36_000) * 15_000)
    predicted, alerts = run(Engine(config("features: [load], target: rejects", sections)), events)
    errors, contrary = y - predicted["yhat"].reshape(y.shape), 0
    for each in [alert.message for alert in alerts]:
        if each["phase"] != "started" or each["change"] not in ("higher", "lower"):
            continue
        mine = errors[: each["ts"] // 60_000 + 1, int(each["entity"][1:])]
        gap = (mine[-128:].mean() - mine[-3000:-300].mean()) / (mine[-128:].std() / 128**0.5)
        against = (gap if each["change"] == "lower" else -gap) > 1.5
        contrary += against
        assert not (against and re.search("higher|lower", each["summary"])), (each["summary"], gap)
    assert contrary
