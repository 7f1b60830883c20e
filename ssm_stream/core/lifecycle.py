"""Episodes: an alert starts, goes on and recovers; one per entity and kind at a time.

anomaly   starts after `consecutive` events whose score exceeds 1, recovers after `recover_after` events without one
drift     starts at the detector's alarm, recovers once the errors' scores are standard normal again

Counts are labelled events of the entity, never wall-clock time, so that a replay gives the same alerts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks, native

ANOMALY, DRIFT = 0, 1
KINDS = ("anomaly", "drift")
UNCHANGED, STARTED, ONGOING, RECOVERED = range(4)
PHASES = ("", "started", "ongoing", "recovered")
ENDED = ("", "recovered", "absorbed")
"""How an episode ended, as `Reported.phase` has it."""

# columns of LifecycleState.number
OPEN, SINCE_N, SINCE_TS, IN_ROW, CALM, QUIET_UNTIL, REPORTED, PEAK, HELD = range(9)
ZEROED = {"anomaly": [*range(HELD)], "drift": [column for column in range(HELD) if column != IN_ROW]}
"""Columns that an end from outside sets to zero, by kind. What holds cost goes on, and so does the usual gap."""


class LifecycleState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity.

    number (E, 2, 9) float64, a row a kind: episode open; its first event's count and time (ms); anomalous events in a
        row, of a drift instead the usual gap between events (s), which is no episode's; calm events in a row; count
        before which no new episode starts; count at the last report; highest score; cost of the events that were not
        learned, less what others have paid back
    """

    number: NDArray[np.float64]


class LifecycleRules(NamedTuple):
    """recover_after, cooldown, ongoing_every in events; consecutive: anomalous events in a row that start an episode

    absorb_after: most events of an episode; 0: by the budget
    """

    consecutive: int
    recover_after: tuple[int, int]
    cooldown: tuple[int, int]
    ongoing_every: int
    absorb_after: tuple[int, int] = (0, 0)


def new_lifecycle_state(E: int) -> LifecycleState:
    """E fresh entities."""
    return blocks.zeros(LifecycleState, "lifecycle", E)


def step(
    s: LifecycleState,
    e: int,
    kind: int,
    n: int,
    ts: float,
    score: float,
    alarm: bool,
    calm: bool,
    r: LifecycleRules,
    absorb: float = 1000.0,
) -> int:
    """Move an episode on by one event and return its phase if it is to be reported (UNCHANGED if not).

    n: labelled events before this one; ts: ms; score: the kind's score; alarm: the kind's condition holds on this
    event; calm: the event counts towards recovery; absorb: most events of an episode
    """
    return native.episode_step(s, e, kind, n, ts, score, alarm, calm, absorb, r)
