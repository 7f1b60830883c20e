"""Codes and calendar of the streaming learner's definition: bookkeeping of one pool, in plain Python.

A column's value gets a slot, an input of its own, once the column has shown that it is a category: two values for a
category, the hour and the weekday, three whole numbers for a feature. An unknown value has a slot too, and so have,
together, all values of a category beyond the first VALUES.
"""

from __future__ import annotations

import copy
import math
import statistics

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.constants import MAX_GAP_HOUR, MAX_GAP_WEEKDAY, MIN_GAP_HOUR, MIN_GAP_WEEKDAY, WHOLE
from ssm_stream.core.features import BY_RULE, NEVER
from ssm_stream.core.shapes import GAPS, SLOTS, VALUES, LearnerParams


class PoolCodes:
    """Of Q columns that may be coded: features, categories, hour, weekday.

    slots: of each column, the slot of each value shown so far, None while it has none; missing, other: of an unknown
        value, of any further value; dead: a feature that is no category after all
    differs: whether a feature has differed from the hour, from the weekday
    gaps: the first GAPS gaps between an entity's events, s; begun: time of the first labelled event, ms
    used: slots given out
    """

    def __init__(self, Q: int) -> None:
        self.slots: list[dict[float, int | None]] = [{} for _ in range(Q)]
        self.missing: list[int | None] = [None] * Q
        self.other: list[int | None] = [None] * Q
        self.dead = [False] * Q
        self.differs = [[False, False] for _ in range(Q)]
        self.gaps: list[float] = []
        self.begun: float | None = None
        self.used = 0

    def copied(self) -> PoolCodes:
        """A copy that may be changed."""
        new = copy.copy(self)
        new.slots, new.differs = [dict(each) for each in self.slots], [list(each) for each in self.differs]
        new.missing, new.other, new.dead = list(self.missing), list(self.other), list(self.dead)
        return new

    def gap(self) -> float:
        """The median gap between an entity's events, s; NaN while too few are known."""
        return statistics.median(self.gaps) if len(self.gaps) == GAPS else math.nan

    def age(self, ts: float) -> float:
        """Seconds since the first labelled event; 0 before it."""
        return 0.0 if self.begun is None else (ts - self.begun) / 1000.0


def hourly(codes: PoolCodes, ts: float) -> bool:
    """Do events come often enough for the usual target of an hour, and has an hour come again?"""
    return 0.0 < codes.gap() <= MAX_GAP_HOUR and codes.age(ts) >= WHOLE[0]


def _calendar(p: LearnerParams, codes: PoolCodes, ts: float) -> list[bool]:
    """Are the hour and the weekday codes? Not before one may have come again.

    By rule, if events come so often and no feature equals it.
    """
    gap = codes.gap()
    on = []
    for which, mode in enumerate((p.step_hour, p.step_weekday)):
        fits = MIN_GAP_HOUR <= gap <= MAX_GAP_HOUR if which == 0 else MIN_GAP_WEEKDAY <= gap <= MAX_GAP_WEEKDAY
        new = all(codes.differs[j][which] for j in range(p.features))
        known = codes.age(ts) >= WHOLE[which]
        on.append(known and (fits and new if mode == BY_RULE else mode != NEVER))
    return on


def _values(
    p: LearnerParams, codes: PoolCodes, u: NDArray[np.float64], steps: NDArray[np.int64], on: list[bool]
) -> list[float]:
    """The value of each coded column: NaN if unknown, infinite where it is no category."""
    values = [float(value) for value in u[: p.features + p.categories]]
    for j in range(p.features):
        if not math.isnan(values[j]) and (codes.dead[j] or values[j] != math.floor(values[j])):
            values[j] = math.inf
    return values + [float(steps[which]) if on[which] else math.inf for which in range(2)]


def _least(p: LearnerParams, j: int) -> int:
    """Distinct values from which on a column is a category."""
    return 3 if j < p.features else 2


def _missing_counts(codes: PoolCodes, j: int) -> bool:
    """An unknown value means something once the column has shown a known one."""
    return bool(codes.slots[j]) or codes.dead[j]


def active_slots(
    p: LearnerParams, codes: PoolCodes, u: NDArray[np.float64], steps: NDArray[np.int64], ts: float
) -> list[int]:
    """Slots of the codes that are 1 in this event."""
    found: list[int | None] = []
    for j, value in enumerate(_values(p, codes, u, steps, _calendar(p, codes, ts))):
        if math.isnan(value):
            found.append(codes.missing[j])
        elif value in codes.slots[j]:
            found.append(codes.slots[j][value])
        elif value != math.inf and len(codes.slots[j]) == VALUES and j >= p.features:
            found.append(codes.other[j])
    return [slot for slot in found if slot is not None]


def register(
    p: LearnerParams, before: PoolCodes, u: NDArray[np.float64], steps: NDArray[np.int64], ts: float
) -> tuple[PoolCodes, list[int]]:
    """The bookkeeping after this event's values, and the slots that are 1 in it for the first time."""
    codes, now = before.copied(), []
    on = _calendar(p, codes, ts)

    def give(here: bool) -> int | None:
        if codes.used >= min(p.K, SLOTS):
            return None
        codes.used += 1
        if here:
            now.append(codes.used - 1)
        return codes.used - 1

    for j in range(p.features):
        for which in range(2):
            codes.differs[j][which] |= bool(abs(u[j] - steps[which]) >= 1.0)
        codes.dead[j] |= not math.isnan(u[j]) and bool(u[j] != math.floor(u[j]))
    for j, value in enumerate(_values(p, codes, u, steps, on)):
        slots = codes.slots[j]
        if math.isnan(value):
            if codes.missing[j] is None and _missing_counts(codes, j):
                codes.missing[j] = give(True)
        elif value != math.inf and value not in slots:
            if len(slots) < VALUES:
                slots[value] = None
                if len(slots) >= _least(p, j):
                    for known, slot in slots.items():
                        if slot is None:
                            slots[known] = give(known == value)
            elif j < p.features:
                codes.dead[j] = True
            elif codes.other[j] is None:
                codes.other[j] = give(True)
    return codes, now


def learn_time(before: PoolCodes, ts: float, gap: float | None) -> PoolCodes:
    """The time of a labelled event: the first, ms; one more gap, s (None: there was no event before), while fewer than
    GAPS are known."""
    codes = copy.copy(before)
    if before.begun is None:
        codes.begun = ts
    if gap is not None and len(before.gaps) < GAPS:
        codes.gaps = [*before.gaps, gap]
    return codes
