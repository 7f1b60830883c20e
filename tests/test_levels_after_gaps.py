"""Levels of a machine that is off at night, and sends nothing: what moved meanwhile is no anomaly each morning."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made, run

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

MINUTE, HOUR, DAYS = 60_000, 3_600_000, 28
A_DAY = 19 * 60  # events, from five in the morning to midnight
ALERTS = "alerts: {drift: {enabled: false}, anomaly: {channels: [levels]}}"


def train(seed: int, *, shift_on: int | None = None) -> Events:
    """A battery that has cooled by another amount each night, and warms up in the hours after; a load, and its sensor.

    shift_on: day on whose noon the load's sensor moves for good
    """
    rng = np.random.default_rng(seed)
    minute = np.arange(DAYS * A_DAY) % A_DAY
    day = np.arange(DAYS * A_DAY) // A_DAY
    load = np.sin(minute / 7.0) + rng.normal(0.0, 0.3, len(day))
    volts = (
        27.0
        + (0.4 + 0.2 * rng.random(DAYS))[day] * np.exp(-minute / 120.0)
        - 0.1 * load
        + rng.normal(0.0, 0.02, len(day))
    )
    if shift_on is not None:
        load += 5.0 * ((day > shift_on) | ((day == shift_on) & (minute > 7 * 60)))
    ts = 1_767_571_200_000 + day * 24 * HOUR + 5 * HOUR + minute * MINUTE
    return made(volts.round(2), load.round(2)[:, None], ts=ts)


def starts(events: Events) -> list[int]:
    """Events at which an alert began."""
    _, alerts = run(Engine(config("features: [load]", ALERTS)), events)
    return [each.row for each in alerts if each.message["phase"] == "started"]


@pytest.mark.parametrize("seed", range(3))
def test_what_moved_while_a_machine_was_off_is_no_anomaly(seed: int) -> None:
    found = starts(train(seed))
    assert sum(row % A_DAY < 120 for row in found if row >= A_DAY) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_a_level_that_moves_while_it_runs_is_found(seed: int) -> None:
    day = 20
    found = starts(train(seed, shift_on=day))
    at = day * A_DAY + 7 * 60
    assert any(at < row < at + 60 for row in found)
