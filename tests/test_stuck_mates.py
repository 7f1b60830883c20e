"""A site that is idle: a column stands still in most of its machines, each at a value of its own, and is one alert."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from test_silence import at_once, config, found, own_rows, starts

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

MACHINES, FROM, STILL = 12, 1500, 50


def idle(still: int, apart: int = 1, stuck: int = STILL) -> Events:
    """A load that moves every ten rows or so stands still from row 1,500 on, in each machine some rows later.

    still: machines in which it does; apart: rows; stuck: rows for which that of m05 does
    """
    events = at_once(MACHINES, 2200)
    rng = np.random.default_rng(1)
    for i in range(MACHINES):
        mine = own_rows(events, f"m{i:02}")
        events.features[mine, 0] = np.repeat(rng.uniform(0.5, 1.5, 2200), rng.integers(6, 14, 2200))[: len(mine)]
        if i < still:
            begin = FROM + apart * i
            events.features[mine[begin : begin + (stuck if i == 5 else STILL)], 0] = 0.3 + 0.01 * i
    return events


def told(events: Events, cuts: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    return found(Engine(config("stuck: true")), events, cuts)


@pytest.mark.parametrize("apart", [0, 1])
def test_what_stands_still_in_most_machines_is_one_alert(apart: int) -> None:
    """The state of charge of 24 racks on a night without trade: 17 alerts of its own, of the same cause."""
    events = idle(MACHINES, apart)
    messages = told(events)
    assert [m["phase"] for m in messages] == ["started", "recovered"]
    assert messages[0]["entity"] == messages[1]["entity"]
    assert told(events, (18_001, 18_300, 18_600, 18_690)) == messages


@pytest.mark.parametrize("apart", [0, 1])
def test_the_sentence_says_in_how_many_machines(apart: int) -> None:
    """It named one rack and the value of that one, as if its sensor were at fault."""
    first, end = (each["summary"] for each in told(idle(MACHINES, apart)))
    shown = re.fullmatch(
        r"m\d\d: load is stuck at [.\d]+, and 1 more with it; load stands still in (\d+) of 12 .+", first
    )
    assert shown is not None, first
    assert int(shown[1]) == 12 if apart == 0 else int(shown[1]) >= 6
    assert "stands still" not in end
    assert not any("stands still" in each["summary"] for each in told(idle(4)))


def test_a_sensor_that_is_stuck_all_the_same_is_found_when_the_others_go_on() -> None:
    first, end, *others = told(idle(MACHINES, stuck=400))
    assert (end["phase"], end["entity"]) == ("recovered", first["entity"])
    assert first["entity"] != "m05"
    assert [(m["entity"], m["phase"]) for m in others] == [("m05", "started"), ("m05", "recovered")]
    assert others[0]["row"] // MACHINES <= FROM + 5 + 1.25 * (STILL + MACHINES)


def test_one_that_fell_silent_hides_no_other() -> None:
    """The first sends nothing any more: another one is the alert once it has stood for twice as long, or so."""
    events = idle(MACHINES)
    for i in range(1, MACHINES):
        events.features[own_rows(events, f"m{i:02}")[FROM + i : 2000], 0] = 0.3 + 0.01 * i
    mine = own_rows(events, "m00")
    events = events.take(np.setdiff1d(np.arange(len(events)), mine[1540:]))
    first, *others = [each["entity"] for each in starts(told(events)) if each["kind"] == "stuck"]
    assert first == "m00"
    assert others


def test_what_stands_still_in_few_machines_is_an_alert_of_each() -> None:
    assert [each["entity"] for each in starts(told(idle(4)))] == [f"m{i:02}" for i in range(4)]
