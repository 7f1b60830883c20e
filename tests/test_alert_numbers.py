"""What the sentences of a stream say is true of its events: each number recomputed from them, as a person would."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from engines import config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

MACHINES, ROWS, MINUTE, HOUR = 4, 2400, 60_000, 3_600_000
N = r"(-?\d[\d,.]*(?:e-?\d+)?)(?<![.,])"
EARLIER = rf"the {N} events before(?: the latest {N})?"
SECTIONS = (
    "alerts: {fleet: {enabled: false}, drift: {budget: 1 per 100 events, cooldown: 1}, language: LANGUAGE, "
    "anomaly: {channels: [novelty], budget: 1 per 200 events, recover_after: 1, cooldown: 1}}"
)


def plant() -> Events:
    """Machines with errors as large as the load, values that none had, several soon after each other, and shifts."""
    rng = np.random.default_rng(11)
    load = 50 + 20 * np.sin(np.arange(ROWS) / 60)[:, None] + rng.normal(size=(ROWS, MACHINES))
    y = 20 + 0.5 * load + 0.01 * load * rng.normal(size=(ROWS, MACHINES))
    for row, machine in np.argwhere(rng.random((ROWS - 900, MACHINES)) < 0.005):
        y[850 + row + rng.integers(0, 40, 3), machine] += rng.choice([-1, 1]) * rng.uniform(5, 30, 3)
    y[2000:, 1] -= 2.0
    y[1800:, 2] += np.arange(ROWS - 1800) / 200
    y[:, 3] = np.where(np.arange(ROWS) // 40 % 2, 20, 60) + 0.2 * rng.normal(size=ROWS)
    y[[1200, 1219, 1803, 2277], 3] = 40, 44, 31, 51
    names = [f"M{i}" for i in range(MACHINES)] * ROWS
    return made(y.ravel(), load.ravel()[:, None], names, np.repeat(np.arange(ROWS), MACHINES) * MINUTE)


@cache
def told(language: str) -> tuple[NDArray[np.float64], NDArray[np.float64], list[dict[str, Any]]]:
    """Return targets and predictions (ROWS, MACHINES), and the messages of what started."""
    events = plant()
    engine = Engine(config("features: [load], target: temp", SECTIONS.replace("LANGUAGE", language)))
    predicted, alerts = run(engine, events)
    shape = ROWS, MACHINES
    messages = [alert.message for alert in alerts if alert.message["phase"] == "started"]
    return events.target.reshape(shape), predicted["yhat"].reshape(shape), messages


@cache
def told_of_levels() -> list[dict[str, Any]]:
    """Return the messages of what started in the channel of levels."""
    sections = SECTIONS.replace("novelty", "levels").replace("200 events", "100 events").replace("LANGUAGE", "en")
    alerts = run(Engine(config("features: [load], target: temp", sections)), plant())[1]
    return [alert.message for alert in alerts if alert.message["phase"] == "started"]


def number(text: str | None) -> float:
    return float("1" if text is None else text.replace(",", ""))


def half_digit(text: str) -> float:
    """Return half of what the last digit of a number stands for."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def check_value(text: str, message: dict[str, Any]) -> None:
    """The value has digits of its own, and is as written outside of the interval or inside, as the sentence has it.

    A value that is not on the side of the mean of the latest ones is left out.
    """
    place = r"expected |as predicted \(|within its interval \(|predicted "
    found = re.search(rf"(?:temp is|now) {N}, ({place}){N}(?: ± {N}| \[{N} to {N}\])?", text)
    if not found:
        assert message["kind"] == "drift", text
        return
    value, middle = number(found[1]), number(found[3])
    if message["kind"] == "drift" and (way := re.search("higher|lower|above|below", text)):
        assert value == middle or (value > middle) == (way[0] in ("higher", "above")), text  # as far as digits go
    assert value == pytest.approx(message["y"], rel=0.051), text
    reach = number(found[4]) if found[4] else 0.0
    low, high = (number(found[5]), number(found[6])) if found[5] else (middle - reach, middle + reach)
    if found[2] != "predicted " and (found[4] or found[5]):
        assert (low <= value <= high) == found[2].endswith("("), text
    if found[4]:
        assert reach == pytest.approx((message["yhat_upper"] - message["yhat_lower"]) / 2, rel=0.35), text


def check_earlier(text: str, y: NDArray[np.float64]) -> str | None:
    """The value is beyond the earlier ones, or at none of them. y: up to it; returns which"""
    found = re.search(
        rf"(higher|lower) than all of {EARLIER} \(at (?:most|least) {N}\)|between those of {EARLIER}", text
    )
    if not found:
        return None
    count, latest = (int(number(found[i] or found[i + 3])) for i in (2, 3))
    assert len(y) >= count + latest, text
    earlier = y[: len(y) - latest][-count:]
    if not found[1]:
        assert earlier.min() < y[-1] < earlier.max(), text
        assert not (earlier == y[-1]).any(), text
        return "between"
    side, bound, shown = (
        1 if found[1] == "higher" else -1,
        number(found[4]),
        number(re.findall(rf"temp is {N},", text)[0]),
    )
    assert (side * earlier).max() <= side * bound < side * shown, text
    assert side * (y[-1] - bound) > 0, text
    assert abs(bound - side * (side * earlier).max()) < 0.1 * np.ptp(earlier), text
    return found[1]


def check_hour(text: str, y: NDArray[np.float64]) -> str | None:
    """The value differs from the latest ones of this hour, which comes for the first time. y: up to it, one a minute"""
    found = re.search(rf"unlike its usual value \(about {N}\)", text)
    start = (len(y) - 1) // 60 * 60
    if not found or len(y) - 1 == start:
        return None
    mean = y[start]
    for i, value in enumerate(y[start:-1]):
        mean += max(0.2, 1 / (i + 1)) * (value - mean)
    assert number(found[1]) == pytest.approx(mean, rel=0.05), text
    return "hour"


def check_shift(text: str, errors: NDArray[np.float64]) -> str | None:
    """The mean of the latest errors is what the sentence says, within a factor of two and what its digits leave open.

    Each is known over the scale of its conditions, which is not kept: here errors grow with the load.
    """
    found = re.search(rf"about {N} (?:(higher|lower) than predicted )?in its last {N} events", text)
    if not found:
        return None
    sign = -1.0 if found[2] == "lower" or "below" in text else 1.0
    mean = sign * errors[-int(number(found[3])) :].mean()
    shift, half = number(found[1]), half_digit(found[1])
    assert shift + half > 0.48 * mean, (text, mean)
    assert shift - half < 2.1 * mean, (text, mean)
    return "shift"


def test_the_numbers_are_those_of_the_events() -> None:
    """Also where values that none had come soon after each other, and where errors grow with the load."""
    y, yhat, messages = told("en")
    checked = Counter[str | None]()
    for message in messages:
        row, machine, text = message["ts"] // MINUTE, int(message["entity"][1:]), message["summary"]
        check_value(text, message)
        values = y[: row + 1, machine]
        checked[check_earlier(text, values)] += 1
        checked[check_hour(text, values)] += 1
        checked[check_shift(text, values - yhat[: row + 1, machine])] += 1
    assert all(checked[kind] > 3 for kind in ("higher", "lower", "between", "hour", "shift")), checked


def test_steps_have_grown_or_shrunk_by_at_least_what_the_sentence_has() -> None:
    """Also where they change with the load, as errors do. Means of roots, as the channel has them, over 10 events."""
    events, found = plant(), Counter[str]()
    columns = {"temp": events.target.reshape(ROWS, MACHINES), "load": events.features.reshape(ROWS, MACHINES)}
    for message in told_of_levels():
        row, machine, text = message["ts"] // MINUTE, int(message["entity"][1:]), message["summary"]
        parts = re.search(rf"(temp|load) fluctuates (?:at (least|most) {N} ×|(?:more|less) than usual under)", text)
        if not parts:
            continue
        roots = np.sqrt(np.abs(np.diff(columns[parts[1]][: row + 1, machine])))[::-1]
        ratio = ((0.1 * 0.9 ** np.arange(len(roots))) @ roots / roots[10:1000].mean()) ** 2
        found[parts[2]] += 1
        if parts[2] == "least":
            assert ratio > 0.8 * number(parts[3]) > 0.8, (text, ratio)
        elif parts[2] == "most":
            assert ratio < 1.25 * number(parts[3]) < 1.25, (text, ratio)
    assert found["least"] > 3, found
    assert found["most"] > 0, found


def test_both_languages_have_the_same_numbers() -> None:
    english, japanese = (told(language)[2] for language in ("en", "ja"))
    assert len(english) == len(japanese) > 50
    for one, other in zip(english, japanese, strict=True):
        found = [sorted(re.findall(N, each["summary"])) for each in (one, other)]
        assert found[0] == found[1], (one["summary"], other["summary"])


def test_a_drift_of_what_rests_at_night_has_a_size() -> None:
    """That of the errors of the day: at rest there are none."""
    rng = np.random.default_rng(5)
    rows, first = 12_000, 10_300  # by day
    day = np.arange(rows) // 60 % 24 < 14
    load = np.where(day, 50 + 20 * np.sin(np.arange(rows) / 60), 0.0)[:, None] + np.zeros(MACHINES)
    y = np.where(day[:, None], 20 + 0.5 * load + 0.5 * rng.normal(size=(rows, MACHINES)), 0.0)
    y[first:, 1] += np.where(day[first:], 2.0, 0.0)
    y[first:, 2] = np.where(day[first:], y[first:, 2] + 1.5 * rng.normal(size=rows - first), 0.0)
    y = np.round(y, 1)
    names = [f"M{i}" for i in range(MACHINES)] * rows
    events = made(y.ravel(), load.ravel()[:, None], names, np.repeat(np.arange(rows), MACHINES) * MINUTE)
    sections = "alerts: {fleet: {enabled: false}, drift: {budget: 1 per 1000 events}, anomaly: {enabled: false}}"
    predicted, alerts = run(Engine(config("features: [load], target: temp", sections)), events)
    errors, found = y - predicted["yhat"].reshape(y.shape), Counter[str]()
    for message in [alert.message for alert in alerts if alert.message["phase"] == "started"]:
        row, machine, text = message["ts"] // MINUTE, int(message["entity"][1:]), message["summary"]
        if row < first:
            continue
        assert "those at rest not counted" in text, text
        # Not of a day's first event: a start is off by 18, and counts by the scale of starts.
        ofday = errors[: row + 1, machine][(day & (np.arange(rows) % 1440 > 0))[: row + 1]]
        if check_shift(text, ofday):
            found[message["entity"]] += 1
        elif times := re.search(rf"about {N} × as large as usual", text):
            assert 1.5 < number(times[1]) < 6.0, text
            found[message["entity"]] += 1
    assert min(found["M1"], found["M2"]) > 0, found
