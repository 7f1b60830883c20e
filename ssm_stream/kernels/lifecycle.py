"""Episodes: an alert starts, goes on and recovers; one per entity and kind at a time.

anomaly   starts after `consecutive` events whose score exceeds 1, recovers after `recover_after` events without one
drift     starts at the detector's alarm, recovers once the errors' scores are standard normal again

Counts are labelled events of the entity, never wall-clock time, so that a replay tells the same story.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels.jit import jit

ANOMALY, DRIFT = 0, 1
KINDS = ("anomaly", "drift")
SILENT, STARTED, ONGOING, RECOVERED = range(4)
PHASES = ("", "started", "ongoing", "recovered")

# columns of LifecycleState.number
OPEN, SINCE_N, SINCE_TS, IN_ROW, CALM, QUIET_UNTIL, REPORTED, PEAK = range(8)


class LifecycleState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity.

    number (E, 2, 8) float64, a row a kind: episode open; its first event's count and time (ms); anomalous events in a
        row; calm events in a row; count before which no new episode starts; count at the last report; highest score
    """

    number: NDArray[np.float64]


class LifecycleRules(NamedTuple):
    """recover_after, cooldown, ongoing_every in events; consecutive: anomalous events in a row that start an episode"""

    consecutive: int
    recover_after: tuple[int, int]
    cooldown: tuple[int, int]
    ongoing_every: int


def new_lifecycle_state(E: int) -> LifecycleState:
    """E fresh entities."""
    return LifecycleState(np.zeros((E, 2, 8)))


@jit
def step(
    s: LifecycleState, e: int, kind: int, n: int, ts: float, score: float, alarm: bool, calm: bool, r: LifecycleRules
) -> int:
    """Move an episode on by one event and say its phase if it is to be reported (SILENT if not).

    n: labelled events before this one; ts: ms; score: the kind's score; alarm: the kind's condition holds on this
    event; calm: the event counts towards recovery.
    """
    number = s.number[e, kind]
    number[IN_ROW] = number[IN_ROW] + 1.0 if alarm else 0.0
    if number[OPEN] == 0.0:
        needed = r.consecutive if kind == ANOMALY else 1
        if number[IN_ROW] < needed or n < number[QUIET_UNTIL]:
            return SILENT
        number[OPEN], number[SINCE_N], number[SINCE_TS] = 1.0, n, ts
        number[CALM], number[REPORTED], number[PEAK] = 0.0, n, score
        return STARTED
    number[PEAK] = max(number[PEAK], score)
    number[CALM] = number[CALM] + 1.0 if calm and not alarm else 0.0
    if number[CALM] >= r.recover_after[kind]:
        number[OPEN], number[IN_ROW] = 0.0, 0.0
        number[QUIET_UNTIL] = n + r.cooldown[kind]
        return RECOVERED
    if n - number[REPORTED] >= r.ongoing_every:
        number[REPORTED] = n
        return ONGOING
    return SILENT


@jit
def absorbed_after(s: LifecycleState, e: int, kind: int, n: int) -> float:
    """Events from an episode's start to the first of the calm events that ended it."""
    number = s.number[e, kind]
    return max(n - number[SINCE_N] - number[CALM] + 1.0, 1.0)
