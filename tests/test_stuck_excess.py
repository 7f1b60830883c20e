"""Runs of equal values that are barely longer than those before: most are over with the next event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_silence import at_once, config, own_rows

from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import Events

MACHINES, ROWS, BROKEN = 20, 6000, 5000


def coarse(repeats: float, seed: int, stuck: int = 0) -> Events:
    """Temperatures in steps of 0.1 that repeat themselves by chance; that of m03 is stuck for so many rows."""
    rng, events = np.random.default_rng(seed), at_once(MACHINES, ROWS)
    for i in range(MACHINES):
        mine = own_rows(events, f"m{i:02}")
        steps = np.where(rng.random(ROWS) < repeats, 0.0, 0.1 * rng.choice([-2.0, -1.0, 1.0, 2.0], ROWS))
        events.target[mine] = np.round(20.0 + np.cumsum(steps), 1)
        if i == 3:
            events.target[mine[BROKEN : BROKEN + stuck]] = 19.4
    return replace(events, features=rng.normal(size=(len(events), 1)))


def alerts(events: Events) -> list[dict[str, Any]]:
    return [a.message | {"row": a.row // MACHINES} for a in SilenceAlerts(config("stuck: true")).process(events, 0, [])]


@pytest.mark.parametrize("repeats", [0.1, 0.3])
def test_few_alerts_are_over_with_the_next_event(repeats: float) -> None:
    """A site with sensors in steps of 0.1 had about twelve in 75 days: by the budget, and of no use to anybody."""
    lasted = list[int]()
    for seed in range(4):
        began = dict[str, int]()
        for message in alerts(coarse(repeats, seed)):
            if message["phase"] == "started":
                began[message["entity"]] = message["row"]
            else:
                lasted.append(message["row"] - began[message["entity"]])
    assert lasted.count(1) <= 4


@pytest.mark.parametrize(("repeats", "most"), [(0.1, 9), (0.3, 17)])
def test_a_sensor_that_is_stuck_is_found_two_events_later_or_so(repeats: float, most: int) -> None:
    found = [each for each in alerts(coarse(repeats, 5, 60)) if each["entity"] == "m03" and each["row"] > BROKEN]
    assert [each["phase"] for each in found][:2] == ["started", "recovered"]
    assert found[0]["row"] - BROKEN <= most
