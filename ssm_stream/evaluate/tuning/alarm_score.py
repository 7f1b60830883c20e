"""Alarms of a trial against true events, and whether another budget of false alarms is better beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.evaluate.alarm_matching import match
from ssm_stream.evaluate.engine_run import Floats
from ssm_stream.evaluate.true_events import TrueEvent
from ssm_stream.evaluate.tuning.comparison import BLOCKS, bootstrap
from ssm_stream.evaluate.tuning.trials import Trial

HOUR = 3_600_000.0


class AlarmScore(NamedTuple):
    """How the alarms of a part of a recording meet its true events."""

    events: int
    found: int
    false: int
    repeats: int
    delays: list[float]
    """Hours from the start of each event found to its first alarm."""
    weeks: float
    """Entity-weeks of the part."""
    sums: Floats
    """(BLOCKS, 3): found, missed, false by block of time."""

    @property
    def f1(self) -> float:
        """Of found, missed and false."""
        return float(_f1(self.sums.sum(0)))

    def as_json(self) -> dict[str, Any]:
        """Return the figures for `--json` and the table."""
        return {
            "events": self.events,
            "found": self.found,
            "false": self.false,
            "repeats": self.repeats,
            "false_per_entity_week": self.false / self.weeks if self.weeks else None,
            "median_delay_hours": float(np.median(self.delays)) if self.delays else None,
            "f1": self.f1,
        }


def _f1(sums: Floats) -> Floats:
    """Return 2 found / (2 found + missed + false), (…, 3) → (…); 0 if there is nothing."""
    found, missed, false = sums[..., 0], sums[..., 1], sums[..., 2]
    out: Floats = 2 * found / np.maximum(2 * found + missed + false, 1e-300)
    return out


def score_alarms(
    trial: Trial, true_events: Sequence[TrueEvent], since: int | None = None, until: int | None = None
) -> AlarmScore:
    """Return the score of a trial's alarms.

    Args:
        trial: of the part that is judged
        since, until: the ends of that part, ms; None: those of the recording
    """
    start = int(trial.ts.min(initial=2**62)) if since is None else since
    stop = int(trial.ts.max(initial=-(2**62))) if until is None else until - 1
    number = {name: e for e, name in enumerate(trial.names)}
    inside = [
        (number[event.entity], event)
        for event in true_events
        if event.entity in number and event.start <= stop and event.end >= start
    ]
    judged = [each for each in inside if each[1].start >= start]
    first, outcomes = match(trial.alarms, judged, [each for each in inside if each[1].start < start])
    sums = np.zeros((BLOCKS, 3))

    def block(ts: int) -> int:
        return min(max((ts - start) * BLOCKS // max(stop - start + 1, 1), 0), BLOCKS - 1)

    for alarm, outcome in zip(trial.alarms, outcomes, strict=True):
        if outcome == "false":
            sums[block(alarm.ts), 2] += 1
    for (_, event), at in zip(judged, first, strict=True):
        sums[block(event.start), 1 if at is None else 0] += 1
    delays = [(at - event.start) / HOUR for (_, event), at in zip(judged, first, strict=True) if at is not None]
    false, repeats = outcomes.count("false"), outcomes.count("repeat")
    return AlarmScore(len(judged), len(delays), false, repeats, delays, trial.entity_weeks(), sums)


def f1_change(old: AlarmScore, new: AlarmScore, comparisons: int = 1, seed: int = 0) -> tuple[float, float, float]:
    """Return the change of F1 and its confidence interval. comparisons: as of `comparison.compare`"""
    draws = bootstrap(seed)
    low, high = draws.interval(_f1(draws.sums(new.sums)) - _f1(draws.sums(old.sums)), comparisons)
    assert low is not None
    assert high is not None
    return new.f1 - old.f1, low, high
