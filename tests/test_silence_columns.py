"""Columns of an entity that have no value now and then: how long is learned by an alert or two, not by each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_silence import at_once, starts

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import Events

COLUMNS, ROWS = 40, 20_000
LONGEST = 12
"""Rows for which a column has no value, at most."""


def furnace(seed: int = 0) -> tuple[Config, Events]:
    """One machine with a row a minute for two weeks; each of its columns times out once, for some minutes."""
    g = np.random.default_rng(seed)
    features = g.normal(size=(ROWS, COLUMNS))
    for j, at in enumerate(g.integers(2_000, ROWS - 100, COLUMNS)):
        features[at : at + g.integers(4, LONGEST + 1), j] = np.nan
    names = ", ".join(f"x{j}" for j in range(COLUMNS))
    made = parse_config(
        'source: {brokers: "localhost:9092", topic: events}\n'
        f"event: {{entity: machine, timestamp: ts, features: [{names}], target: temp}}\n"
        "alerts: {silence: {}, anomaly: {budget: 1 per 30d}}"
    )
    return made, replace(at_once(1, ROWS), features=features)


def columns_missed(made: Config, events: Events, rows: int = ROWS) -> list[dict[str, Any]]:
    """The alerts of batches of so many rows, each with a state that was kept after the one before."""
    rules, out = SilenceAlerts(made), list[dict[str, Any]]()
    for start in range(0, len(events), rows):
        part = events.take(np.arange(start, min(start + rows, len(events))))
        out += [alert.message for alert in rules.process(part, 0, [])]
        content = rules.dump()
        rules = SilenceAlerts(made)
        rules.load(content)
    return starts(out)


@pytest.mark.parametrize("seed", range(4))
def test_one_column_teaches_the_others_how_long_values_are_away(seed: int) -> None:
    """Each raised an alert of its own: a furnace with 63 had eleven in 30 days, for outages of minutes."""
    made, events = furnace(seed)
    messages = columns_missed(made, events)
    assert 1 <= len(messages) <= 4
    assert columns_missed(made, events, 977) == messages
    events.features[ROWS - 60 :, 7] = np.nan
    (last,) = [m for m in columns_missed(made, events) if m["since"] == events.ts[ROWS - 60]]
    assert last["column"] == "x7"
    assert (last["ts"] - last["since"]) / 60_000 <= 1.25 * (LONGEST + 1) + 1


def test_a_column_that_is_often_missing_teaches_no_other() -> None:
    """One of a laboratory, a value an hour: once it had none for a day. The others are missed within minutes."""
    made, events = furnace()
    g = np.random.default_rng(5)
    events.features[:] = g.normal(size=events.features.shape)
    events.features[np.arange(ROWS) % 60 > 0, 3] = np.nan
    events.features[15_000:16_440, 3] = np.nan
    events.features[18_000:18_060, 7] = np.nan
    messages = columns_missed(made, events)
    (own,) = [m for m in messages if m["column"] == "x3"]
    assert 14_900 * 60_000 <= own["since"] <= 15_060 * 60_000
    (other,) = [m for m in messages if m["column"] == "x7"]
    assert (other["ts"] - other["since"]) / 60_000 <= 5


def test_one_outage_of_hours_hides_no_other_for_long() -> None:
    made, events = furnace()
    events.features[:] = np.random.default_rng(5).normal(size=events.features.shape)
    events.features[15_000:15_600, 3] = np.nan
    events.features[18_000:18_060, 7] = np.nan
    waits = {m["column"]: (m["ts"] - m["since"]) / 60_000 for m in columns_missed(made, events)}
    assert sorted(waits) == ["x3", "x7"]
    assert waits["x3"] <= 5
    assert waits["x7"] <= 20
