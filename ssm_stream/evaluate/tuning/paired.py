"""Is one configuration better than another, or was it luck? Errors on the same rows, and a bootstrap over time.

An error counts in units of its entity's mean step (the error of persistence), so that an entity with large numbers does
not decide for all; with one entity that changes no ratio. The rows are cut, in order of time, into blocks; blocks are
drawn with replacement (Künsch 1989, with blocks that do not overlap), for both configurations together: errors of
neighbouring rows are alike, and what is hard for one is hard for the other.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ssm_stream.evaluate.tuning.trials import Floats, Ints, Trial

BLOCKS = 40
LEAST_ROWS = 300
"""Rows that a part must have, or nothing is said."""
DRAWS = 10_000
CONFIDENCE = 0.95


class Change(NamedTuple):
    """Relative change of the error, −0.1: a tenth less, with the interval that holds it at the given confidence."""

    value: float
    low: float
    high: float
    rows: int

    @property
    def better(self) -> bool:
        """Surely less."""
        return self.high < 0.0

    @property
    def worse(self) -> bool:
        """Surely more."""
        return self.low > 0.0


@functools.lru_cache(maxsize=4)
def draws(count: int, seed: int, size: int = DRAWS) -> Floats:
    """(size, count): how often each of the blocks is drawn. Not to be written to."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size).astype(np.float64)


def blocks_of(ts: Ints, count: int = BLOCKS) -> Ints:
    """(n,) block of each row: equally many rows each, in order of time."""
    block = np.empty(len(ts), np.int64)
    block[np.argsort(ts, kind="stable")] = np.arange(len(ts)) * count // max(len(ts), 1)
    return block


def change(old: Trial, new: Trial, among: int = 1, seed: int = 0) -> Change | None:
    """How much larger the errors of `new` are, on the rows that both have; None where these are too few.

    among: the number of such questions that are asked together: their intervals hold together (Bonferroni)
    """
    _, i, j = np.intersect1d(old.row, new.row, assume_unique=True, return_indices=True)
    entity, step = old.entity[i], old.step[i]
    count = np.bincount(entity, minlength=len(old.names))
    unit = np.bincount(entity, step, len(old.names)) / np.maximum(count, 1)
    moving = np.flatnonzero(unit[entity] > 0)  # an entity that never moves has no unit, and is no test
    if len(moving) < LEAST_ROWS:
        return None
    i, j = i[moving], j[moving]
    scale = unit[old.entity[i]]
    block = blocks_of(old.ts[i])
    before = np.bincount(block, old.error[i] / scale, BLOCKS)
    after = np.bincount(block, new.error[j] / scale, BLOCKS)
    if not before.sum() > 0.0:
        return None
    weights = draws(BLOCKS, seed)
    drawn = (weights @ after) / np.maximum(weights @ before, 1e-300) - 1.0
    edge = (1.0 - CONFIDENCE) / (2 * max(among, 1))
    low, high = np.quantile(drawn, [edge, 1.0 - edge]).tolist()
    return Change(float(after.sum() / before.sum() - 1.0), low, high, len(i))
