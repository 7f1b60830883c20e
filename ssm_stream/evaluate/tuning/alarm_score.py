"""Alarms of a trial against true events, by the rules of the pilot's report, and whether one budget is surely better.

An event is found by an alarm that starts within it (both ends included), of its entity or of a fleet alert that names
it; the first one counts, later ones are repeats. An alarm outside every event is false. An event that began before the
judged part is not judged, nor are alarms within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.evaluate.pilot.inputs import TrueEvent
from ssm_stream.evaluate.tuning.paired import BLOCKS, CONFIDENCE, draws
from ssm_stream.evaluate.tuning.trials import Floats, Trial

HOUR = 3_600_000.0


class AlarmScore(NamedTuple):
    """events, found, false, repeats: counts; delays: hours of those found; weeks: entity-weeks of the part

    sums (BLOCKS, 3): found, missed, false by block of time
    """

    events: int
    found: int
    false: int
    repeats: int
    delays: list[float]
    weeks: float
    sums: Floats

    @property
    def f1(self) -> float:
        """Of found, missed and false."""
        return float(_f1(self.sums.sum(0)))

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the table."""
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
    """(…, 3) → (…): 2 found / (2 found + missed + false), 0 where there is nothing."""
    found, missed, false = sums[..., 0], sums[..., 1], sums[..., 2]
    out: Floats = 2 * found / np.maximum(2 * found + missed + false, 1e-300)
    return out


def score(trial: Trial, labels: Sequence[TrueEvent], since: int | None = None, until: int | None = None) -> AlarmScore:
    """The alarms of a part. trial: of that part; since, until: its ends, ms, None: those of the recording"""
    start = int(trial.ts.min(initial=2**62)) if since is None else since
    stop = int(trial.ts.max(initial=-(2**62))) if until is None else until - 1
    known = set(trial.names)
    inside = [each for each in labels if each.entity in known and each.start <= stop and each.end >= start]
    judged = [each for each in inside if each.start >= start]
    ignored = [each for each in inside if each.start < start]
    sums = np.zeros((BLOCKS, 3))

    def block(ts: int) -> int:
        return min(max((ts - start) * BLOCKS // max(stop - start + 1, 1), 0), BLOCKS - 1)

    first: dict[TrueEvent, int] = {}
    false = repeats = 0
    for alarm in sorted(trial.alarms, key=lambda alarm: alarm.ts):

        def within(
            events: list[TrueEvent], ts: int = alarm.ts, of: tuple[str, ...] = alarm.entities
        ) -> list[TrueEvent]:
            return [each for each in events if each.entity in of and each.start <= ts <= each.end]

        if met := within(judged):
            new = [each for each in met if each not in first]
            repeats += not new
            first.update(dict.fromkeys(new, alarm.ts))
        elif not within(ignored):
            false += 1
            sums[block(alarm.ts), 2] += 1
    for each in judged:
        sums[block(each.start), 0 if each in first else 1] += 1
    delays = [(ts - each.start) / HOUR for each, ts in first.items()]
    return AlarmScore(len(judged), len(first), false, repeats, delays, trial.entity_weeks(), sums)


def better(old: AlarmScore, new: AlarmScore, among: int = 1, seed: int = 0) -> tuple[float, float, float]:
    """How much larger F1 is, with the interval of that; among: as in `paired.change`"""
    weights = draws(BLOCKS, seed)
    drawn = _f1(weights @ new.sums) - _f1(weights @ old.sums)
    edge = (1.0 - CONFIDENCE) / (2 * max(among, 1))
    low, high = np.quantile(drawn, [edge, 1.0 - edge]).tolist()
    return new.f1 - old.f1, low, high
