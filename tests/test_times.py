"""Chaos on time: clocks that go back, centuries of error, leap seconds, days of 23 and 25 hours."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.ingest.timestamps import (
    AUTO_LIMITS,
    MAX_MS,
    MIN_MS,
    UNITS_PER_MS,
    iso_to_ms,
    number_to_ms,
    plain_iso_to_ms,
    to_milliseconds,
)

START = 1_750_000_000_000


def config(zone: str = "UTC", more: str = "") -> Config:
    return parse_config(
        f"source: {{brokers: a, topic: t}}\n"
        f"event: {{entity: e, timestamp: t, features: [a, b], target: y, time_zone: {zone}}}\n{more}"
    )


def read(settings: Config, times: list[Any]) -> tuple[Events, list[Any]]:
    rows = [{"e": "m", "t": t, "a": 1.0, "b": 2.0, "y": 3.0} for t in times]
    return EventReader(settings.event).read(rows)


def stream(n: int, seed: int = 0) -> tuple[Any, Any, Any, list[str]]:
    """Times a minute apart, features, targets, and the names of three machines in turn."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = 50 + 3 * x[:, 0] - 2 * x[:, 1] + 0.2 * rng.normal(size=n)
    return START + 60_000 * np.arange(n), x, y, [f"m{i % 3}" for i in range(n)]


def run(ts: Any, x: Any, y: Any, names: list[str], settings: Config) -> tuple[Any, list[Any], Engine]:
    engine = Engine(settings)
    out, alerts = [], []
    for at in range(0, len(ts), 500):
        part = slice(at, at + 500)
        n = len(ts[part])
        events = Events(names[part], ts[part], x[part], y[part], np.arange(n), np.zeros(n, np.int64))
        predictions, told = engine.process(events)
        out.append(predictions.yhat)
        alerts += told
    return np.concatenate(out), alerts, engine


CHAOS = {
    "a clock an hour back, for a while": lambda ts, _: np.where(
        (ts > ts[3_000]) & (ts < ts[4_000]), ts - 3_600_000, ts
    ),
    "a clock back for good": lambda ts, _: np.where(ts > ts[3_000], ts - 40 * 86_400_000, ts),
    "some of 1970": lambda ts, rng: np.where(rng.random(len(ts)) < 0.02, rng.integers(0, 10**9, len(ts)), ts),
    "some of the year 9998": lambda ts, rng: np.where(rng.random(len(ts)) < 0.02, 253_370_000_000_000, ts),
    "both in turn": lambda ts, _: np.where(np.arange(len(ts)) % 2, 253_370_000_000_000, -62_000_000_000_000),
    "all at once": lambda ts, _: np.full(len(ts), START),
    "backwards": lambda ts, _: ts[::-1].copy(),
    "shuffled": lambda ts, rng: rng.permutation(ts),
}


@pytest.mark.parametrize("name", CHAOS)
def test_whatever_the_clock_shows_learning_goes_on(name: str) -> None:
    """Times are inputs of the calendar and of the gaps; wrong ones may cost a little, and no more."""
    ts, x, y, names = stream(6_000)
    calm, _, _ = run(ts, x, y, names, config())
    yhat, alerts, engine = run(CHAOS[name](ts, np.random.default_rng(1)), x, y, names, config())
    assert np.isfinite(yhat).all()
    late = slice(4_500, None)
    assert np.abs(yhat - y)[late].mean() < 1.25 * np.abs(calm - y)[late].mean()
    for alert in alerts:
        orjson.dumps(alert.message)
    assert Engine.restore(config(), engine.snapshot()).snapshot() == engine.snapshot()


def test_one_event_from_the_far_future_ends_no_entity() -> None:
    """A single wrong clock may not age the others by a century: they would all start afresh."""
    ts, x, y, names = stream(3_000)
    ts[1_500] = 253_370_000_000_000
    yhat, _, engine = run(ts, x, y, names, config(more="state: {ttl: 30d}\n"))
    assert len(engine) == 3
    assert np.abs(yhat - y)[1_510:].mean() < 0.5


LEAP = {
    "2016-12-31T23:59:60Z": None,
    "2016-12-31T23:59:59Z": 1_483_228_799_000,
    "2017-01-01T00:00:00Z": 1_483_228_800_000,
    "2024-02-29T12:00:00Z": 1_709_208_000_000,
    "2023-02-29T12:00:00Z": None,
    "1970-01-01T00:00:00Z": 0,
    "9999-12-31T23:59:59Z": None,
    "10000-01-01T00:00:00Z": None,
    "0000-01-01T00:00:00Z": None,
}


@pytest.mark.parametrize("text", LEAP)
def test_a_time_is_read_or_refused_with_a_reason(text: str) -> None:
    """A leap second is no time of Unix: refused, not moved."""
    events, refused = read(config(), [text])
    if LEAP[text] is None:
        assert len(events) == 0
        assert refused[0].reason
    else:
        assert events.ts.tolist() == [LEAP[text]]


def test_days_of_23_and_25_hours() -> None:
    """Local times without an offset: what the spring leaves out and the autumn has twice is read the same way always,
    in order, and an hour around either is an hour."""
    zone = config("Europe/Berlin")
    events, refused = read(zone, ["2025-03-30T01:59:59", "2025-03-30T02:30:00", "2025-03-30T03:00:00"])
    assert not refused
    before, between, after = events.ts.tolist()
    assert after - before == 1_000
    assert abs(between - before) <= 3_600_000
    again, _ = read(zone, ["2025-03-30T02:30:00"])
    assert again.ts.tolist() == [between]
    events, refused = read(zone, ["2025-10-26T02:30:00", "2025-10-26T02:30:00+02:00", "2025-10-26T02:30:00+01:00"])
    assert not refused
    plain, summer, winter = events.ts.tolist()
    assert winter - summer == 3_600_000
    assert plain in (summer, winter)


@pytest.mark.parametrize("step", [1_000, 60_000, 3_600_000])
def test_a_year_through_every_change_of_the_clocks(step: int) -> None:
    """Calendar features in local time: hours are whole numbers from 0 to 23, whatever the zone does."""
    for zone in ("Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns"):
        engine = Engine(config(zone))
        n = 400
        for start in (1_743_000_000_000, 1_761_400_000_000, 1_325_200_000_000):
            ts = start + step * np.arange(n)
            x = np.zeros((n, 2))
            events = Events(["m"] * n, ts, x, np.sin(ts / 1e7), np.arange(n), np.zeros(n, np.int64))
            predictions, _ = engine.process(events)
            assert np.isfinite(predictions.yhat).all()


@given(st.lists(st.datetimes(), min_size=1, max_size=4), st.sampled_from([0, 1, 3, 6]), st.sampled_from("T "),
       st.sampled_from(["", "Z", "+00:00"]))  # fmt: skip
@example([datetime(2000, 2, 29), datetime(1900, 2, 28), datetime(2024, 12, 31)], 0, "T", "Z")
@example([datetime(2, 1, 1, 0, 0, 0, 999_999), datetime(9998, 12, 31, 12)], 6, " ", "")
def test_columns_of_iso_times_are_those_of_each(times: list[datetime], digits: int, separator: str, end: str) -> None:
    texts = []
    for each in times:
        whole, _, fraction = each.isoformat(separator, "microseconds").partition(".")
        texts.append(whole + ("." + fraction[:digits] if digits else "") + end)
    found = plain_iso_to_ms(texts, without_zone=True)
    if found is not None:
        assert found.tolist() == [iso_to_ms(text) for text in texts]
    else:
        assert any(each.year in (1, 9998, 9999) for each in times), "those that no zone can have"
    assert (plain_iso_to_ms(texts, without_zone=False) is None) == (found is None or not end)


@pytest.mark.parametrize(
    "texts",
    [
        ["2026-02-29T00:00:00Z"], ["2026-13-01T00:00:00Z"], ["2026-01-01T24:00:00Z"], ["2026-01-01T00:00:60Z"],
        ["2026-01-01T00:00:00+01:00"], ["2026-01-01T00:00:00.1234567Z"], ["2026-01-01"], ["0000-01-01T00:00:00Z"],
        ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"], ["2026-01-0１T00:00:00Z"], ["2026-01-01x00:00:00Z"],
        ["2026-01-01T00:00:00Z", "2026-01-01T00:00:0"], ["2026-01-01T00:00:00.Z"], [],
    ],
)  # fmt: skip
def test_other_times_are_left_to_the_general_reader(texts: list[str]) -> None:
    assert plain_iso_to_ms(texts, without_zone=True) is None


EDGES = [
    0.0,
    -0.0,
    -1.0,
    *AUTO_LIMITS.values(),
    -1e11,
    MAX_MS / 1000,
    float(MAX_MS),
    MAX_MS + 1.0,
    float(MIN_MS),
    1e300,
    np.nan,
]


@given(
    st.lists(st.sampled_from(EDGES) | st.floats(0, 4e9) | st.floats(1e11, 4e12) | st.floats(), max_size=4),
    st.sampled_from(["auto", *UNITS_PER_MS]),
)
def test_columns_of_numbers_are_those_of_each(numbers: list[float], unit: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        each = [float(number_to_ms(np.float64(number), unit)) for number in numbers]
    found = to_milliseconds(np.array(numbers), unit)
    if all(MIN_MS <= ms <= MAX_MS for ms in each):
        assert found is not None
        assert found.tolist() == [int(np.floor(ms)) for ms in each]
    else:
        assert found is None
