"""Is one configuration better than another, or was it chance? Errors on the same rows, and a bootstrap over time.

An error counts in units of its entity's mean step (the error of persistence), so that an entity with large numbers does
not decide for all; with one entity that changes no ratio. The rows are cut, in order of time, into blocks, which are
drawn for both configurations together: what is hard for one is hard for the other.

With several targets the change is the geometric mean of the changes of each: all count alike, whatever their units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ssm_stream.evaluate.bootstrap import Bootstrap, sums_by_block
from ssm_stream.evaluate.engine_run import Ints
from ssm_stream.evaluate.tuning.trials import Trial

BLOCKS = 40
MIN_ROWS = 300
"""Rows of a part below which nothing is concluded from it."""
DRAWS = 10_000
CONFIDENCE = 0.95


class Change(NamedTuple):
    """Relative change of the error, with its confidence interval. value: −0.1 is a tenth less"""

    value: float
    low: float
    high: float
    rows: int

    @property
    def better(self) -> bool:
        """Whether the error is smaller beyond chance."""
        return self.high < 0.0

    @property
    def worse(self) -> bool:
        """Whether the error is larger beyond chance."""
        return self.low > 0.0


def bootstrap(seed: int) -> Bootstrap:
    """Return the draws of BLOCKS blocks."""
    return Bootstrap(BLOCKS, seed, DRAWS, CONFIDENCE)


def time_blocks(ts: Ints) -> Ints:
    """Return (n,) the block of each row: equally many rows each, in order of time."""
    block = np.empty(len(ts), np.int64)
    block[np.argsort(ts, kind="stable")] = np.arange(len(ts)) * BLOCKS // max(len(ts), 1)
    return block


def compare(old: Trial, new: Trial, comparisons: int = 1, seed: int = 0) -> Change | None:
    """Return the change of the error from `old` to `new` on the rows that both have; None if these are too few.

    Args:
        comparisons: number of comparisons made together; their intervals hold together
    """
    m = len(old.targets)
    _, i, j = np.intersect1d(_keys(old), _keys(new), assume_unique=True, return_indices=True)
    group, step = old.entity[i] * m + old.target[i], old.step[i]
    count = np.bincount(group, minlength=m * len(old.names))
    unit = np.bincount(group, step, m * len(old.names)) / np.maximum(count, 1)
    moving = np.flatnonzero(unit[group] > 0)  # an entity that never moves has no unit, and is no test
    if len(np.unique(old.row[i[moving]])) < MIN_ROWS:
        return None
    i, j, scale = i[moving], j[moving], unit[group[moving]]
    block, target = time_blocks(old.ts[i]), old.target[i]
    draws = bootstrap(seed)
    value, drawn, used = 1.0, np.ones(DRAWS), 0
    for t in np.unique(target).tolist():
        mine = target == t
        before = sums_by_block(old.error[i[mine]] / scale[mine], block[mine], BLOCKS)
        after = sums_by_block(new.error[j[mine]] / scale[mine], block[mine], BLOCKS)
        if before.sum() > 0.0:
            value *= float(after.sum() / before.sum())
            drawn *= draws.sums(after) / np.maximum(draws.sums(before), 1e-300)
            used += 1
    if not used:
        return None
    low, high = draws.interval(drawn ** (1.0 / used) - 1.0, comparisons)
    assert low is not None
    assert high is not None
    return Change(value ** (1.0 / used) - 1.0, low, high, len(i))


def on_rows_of(trial: Trial, other: Trial) -> Trial:
    """Return a trial without the rows that another one does not have, as where a column makes rows of it refused."""
    return trial.take(np.flatnonzero(np.isin(_keys(trial), _keys(other), assume_unique=True)))


def _keys(trial: Trial) -> Ints:
    """Return (n,) a number for each row and target, the same in trials of one recording and its targets."""
    return trial.row * len(trial.targets) + trial.target


def why_not(figures: dict[str, Any]) -> str:
    """Return why `compare` has no change, in words. figures: of a trial that was compared"""
    steps = [each["mae_persistence"] for each in figures.get("by_target", {"": figures}).values()]
    return "constant target" if figures["rows"] >= MIN_ROWS and not any(steps) else "too few rows"
