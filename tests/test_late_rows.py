"""What comes late: a row, hours of rows, clocks set back: it silences nobody else, and ends no silence too soon."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ssm_stream import Engine as DocumentEngine
from ssm_stream.config import parse_config
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import Events

MINUTE = 60_000
CONFIG = """
source: {brokers: "localhost:9092", topic: events}
event: {entity: machine, timestamp: ts, features: [load], target: temp}
alerts: {silence: {columns: false}}
"""
Row = tuple[int, int]
"""Machine, and the round of its row."""


def rounds(count: int, seed: int | None = None, machines: int = 8) -> list[Row]:
    """Rows of machines that all come at the same times: in the same order, or each time in another."""
    g = np.random.default_rng(seed)
    return [
        (m, k) for k in range(count) for m in (range(machines) if seed is None else g.permutation(machines).tolist())
    ]


def silences(rows: list[Row], every: int = MINUTE, shift: Any = lambda k: 0) -> list[dict[str, Any]]:
    """The alerts at rows in this order. shift: round → ms by which its clocks are wrong"""
    ts = np.array([every * k + shift(k) for _, k in rows])
    y = np.random.default_rng(0).normal(size=len(rows))
    events = Events([f"m{m}" for m, _ in rows], ts, y[:, None], y, np.arange(len(rows)))
    return [alert.message for alert in SilenceAlerts(parse_config(CONFIG)).process(events, 0, [])]


def test_a_row_that_comes_late_moves_no_clock() -> None:
    """One of m6 is two hours late, in a round of another order; no row is missing."""
    rows = [(m, k) for k in range(600) for m in (5, 6, 3, 4, 1, 0, 7, 2)]
    rows[8 * 501 : 8 * 502] = [(m, 501) for m in (6, 0, 4, 5)] + [(6, 493)] + [(m, 501) for m in (2, 3, 1, 7)]
    assert silences(rows) == []


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_come_late_leave_gaps_of_two_which_are_none(seed: int) -> None:
    """Whoever comes first in its round and who last: before a budget's worth of gaps only two and a half are one."""
    g, rows = np.random.default_rng(seed), rounds(2000, seed)
    late = {(m, 100 * i + int(g.integers(90))) for m in range(8) for i in range(1, 19)}
    places = [i + (64.5 if row in late else 0.0) for i, row in enumerate(rows)]
    assert silences([rows[i] for i in np.argsort(places).tolist()]) == []


def test_what_a_machine_has_kept_for_hours_or_days_is_no_time_of_the_others() -> None:
    """It sends all of it at once: they have not been away meanwhile."""
    for away in (180, 4000):
        rows = rounds(500 + away) + rounds(200)
        kept = [(m, k) for m, k in rows[: 8 * (500 + away)] if m != 6 or k < 500]
        kept += [(6, k) for k in range(500, 500 + away)]
        kept += [(m, 500 + away + k) for m, k in rows[8 * (500 + away) :]]
        alerts = silences(kept)
        assert [(each["entity"], each["phase"]) for each in alerts] == [("m6", "started"), ("m6", "recovered")]
        assert alerts[1]["ts"] == MINUTE * (500 + away - 1)  # when it came, by the clock of the others


@pytest.mark.parametrize(("every", "back"), [(1000, 3600_000), (MINUTE, 400 * 86_400_000)])
def test_clocks_that_are_all_set_back_silence_nobody_and_who_stops_later_is_missed(every: int, back: int) -> None:
    """By an hour, as at the end of summer, at a row a second; and by a year, as of devices that begin in the past."""
    rows = [(m, k) for m, k in rounds(9000, machines=6) if m != 2 or k < 8500]
    alerts = silences(rows, every, lambda k: -back if k >= 3000 else 0)
    (alert,) = alerts
    assert (alert["entity"], alert["since"]) == ("m2", every * 8499 - back)
    assert alert["ts"] - alert["since"] <= 3 * every


def test_the_latest_row_is_since_when_nothing_comes() -> None:
    rows = [(m, k) for m, k in rounds(600) if m != 3 or k < 500]
    rows.insert(8 * 500, (3, 380))
    (alert,) = silences(rows)
    assert (alert["entity"], alert["since"]) == ("m3", MINUTE * 499)


@pytest.mark.parametrize("lost", [4, 12, 40])
def test_a_silence_of_readings_ends_when_the_next_one_comes(lost: int) -> None:
    """Not at the time of the rows that `every` makes then, of before the silence was found."""
    text = """
source: {brokers: "localhost:9092", topic: events}
event: {layout: readings, every: 15m, tag: "{entity}/{signal}", timestamp: time, value: value, target: [w, v]}
alerts: {silence: {}}
"""
    g, every = np.random.default_rng(0), 900
    readings = [
        {"tag": f"m{m}/{name}", "time": 1_772_409_600 + every * k, "value": round(float(g.normal(50.0)), 2)}
        for k in range(400)
        for m in range(8)
        for name in "vw"
        if m != 3 or not 300 <= k < 300 + lost
    ]
    alerts = [alert for alert in DocumentEngine(text).run(readings).alerts if alert["kind"] == "silence"]
    assert [(alert["entity"], alert["phase"]) for alert in alerts] == [("m3", "started"), ("m3", "recovered")]
    started, ended = ((alert["ts"] / 1000 - 1_772_409_600) / every - 300 for alert in alerts)
    assert started <= 2
    assert lost - 2 <= ended <= lost


def test_no_alert_on_a_column_ends_before_it_began() -> None:
    """The first row with another value, or with one again, is two hours late."""
    g = np.random.default_rng(0)
    values = g.normal(size=(800, 2)).round(3)
    values[500:540, 0], values[600:640, 1] = 1.25, np.nan
    ts = np.arange(800) * MINUTE
    ts[[540, 640]] -= 120 * MINUTE
    names = [f"m{m}" for _ in range(800) for m in range(5)]
    features, y, times = (np.repeat(each, 5, axis=0) for each in (values[:, 1:], values[:, 0], ts))
    for m in range(1, 5):
        features[m::5, 0], y[m::5] = g.normal(size=(2, 800))
    rules = SilenceAlerts(parse_config(CONFIG.replace("{columns: false}", "{}, stuck: true")))
    alerts = [each.message for each in rules.process(Events(names, times, features, y, np.arange(4000)), 0, [])]
    found = [(each["kind"], each["phase"]) for each in alerts]
    assert found == [(kind, phase) for kind in ("stuck", "silence") for phase in ("started", "recovered")]
    for started, ended in (alerts[:2], alerts[2:]):
        assert started["since"] <= started["ts"] <= ended["ts"]
