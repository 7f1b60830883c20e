"""Stuck signals of rows that are made of readings: what repeats a value is a reading, not a row that has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ssm_stream import Engine
from ssm_stream.config import parse_config
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.rows.stage import read_rows, row_builder

Reading = dict[str, Any]
MINUTE, START = 60_000, 1_700_000_040_000
TEXT = """
source: {brokers: 'x:1', topic: t}
event: {layout: readings, entity: machine, signal: signal, timestamp: ts, target: flow, features: [air, load]%s}
alerts: {stuck: [air], anomaly: {budget: 1 per 1000 events}}
"""
GRID, OF_TARGET = ", every: 1m", ""


def plant(kept: Sequence[tuple[int, int]] = (), stuck: tuple[int, int] = (0, 0), minutes: int = 600) -> list[Reading]:
    """Readings a minute of five machines, of which m0 sends none of `air`, or one value, in these minutes."""
    rng, out = np.random.default_rng(0), list[Reading]()
    values = rng.normal(size=(minutes, 5, 3))
    for i in range(minutes):
        for m in range(5):
            for j, signal in enumerate(("air", "load", "flow")):
                value = float(values[i, m, j])
                if m == 0 and signal == "air":
                    if any(start <= i < stop for start, stop in kept):
                        continue
                    value = 1.25 if stuck[0] <= i < stuck[1] else value
                at = START + MINUTE * i + 1000 * j
                out.append({"machine": f"m{m}", "signal": signal, "ts": at, "value": value})
    return out


def stuck(every: str, readings: list[Reading]) -> list[tuple[str, str]]:
    made = parse_config(TEXT % every)
    events, _ = read_rows(made.event, readings)
    return [(a.message["entity"], a.message["phase"]) for a in SilenceAlerts(made).process(events, 0, [])]


@pytest.mark.parametrize("every", [GRID, OF_TARGET])
def test_rows_without_a_new_reading_repeat_no_value(every: str) -> None:
    """An air flow whose readings came every six minutes was stuck when some were left out."""
    assert stuck(every, plant([(300, 308), (400, 409)])) == []


@pytest.mark.parametrize("every", [GRID, OF_TARGET])
def test_readings_that_repeat_a_value_are_stuck(every: str) -> None:
    assert stuck(every, plant(stuck=(300, 330))) == [("m0", "started"), ("m0", "recovered")]


@pytest.mark.parametrize("every", [GRID, OF_TARGET])
def test_it_is_stuck_since_the_first_row_that_has_the_value(every: str) -> None:
    """The alert comes some rows later, and its end as well has that time."""
    made = parse_config(TEXT % every)
    events, _ = read_rows(made.event, plant(stuck=(300, 330)))
    m0 = np.flatnonzero(np.array(events.entity) == "m0")
    equal = m0[events.features[m0, 0] == 1.25]
    begun, over = SilenceAlerts(made).process(events, 0, [])
    assert begun.message["since"] == over.message["since"] == events.ts[equal[0]]
    assert begun.message["ts"] > events.ts[equal[3]]


def test_a_run_goes_on_after_a_row_without_a_reading() -> None:
    whole = [(300 + 4 * i, 302 + 4 * i) for i in range(15)]  # half of its readings are left out
    assert stuck(GRID, plant(whole, stuck=(300, 360))) == [("m0", "started"), ("m0", "recovered")]


def test_which_values_are_held_does_not_depend_on_how_readings_are_cut() -> None:
    for every in (GRID, OF_TARGET, GRID + ", grace: 5s", OF_TARGET + ", grace: 5s"):
        made, readings = parse_config(TEXT % every), plant([(30, 36)], minutes=60)
        events, _ = read_rows(made.event, readings)
        assert events.held is not None
        mine = np.array(events.entity) == "m0"
        assert 5 <= events.held[mine, 0].sum() <= 7
        assert not events.held[mine, 2][1:].any()
        assert not events.held[~mine].any()
        builder, held = row_builder(made.event), []
        assert builder is not None
        for start in range(0, len(readings), 7):
            state, builder = builder.dump(), row_builder(made.event)
            assert builder is not None
            builder.load(state)
            messages, _ = MessageReader(made.event).read(readings[start : start + 7])
            rows = builder.add(messages, list(range(start, start + len(messages))), 0)
            held.append(rows.events.held)
        held.append(builder.flush().events.held)
        np.testing.assert_array_equal(np.concatenate([each for each in held if each is not None]), events.held)


def test_the_engine_has_them_too() -> None:
    found = Engine(TEXT % GRID + "sinks: {predictions: p, alerts: a}\n").run(plant([(300, 308)], minutes=400)).alerts
    assert not [each for each in found if each["kind"] == "stuck"]
