"""How sure a figure is: a bootstrap over blocks of time (Künsch 1989, with blocks that do not overlap).

Figures are sums over blocks, or ratios of such sums. Events close in time are alike, so whole blocks are drawn, with
replacement; figures that are compared are computed from the same draws.
"""

from __future__ import annotations

import functools
import math
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DRAWS = 2000
CONFIDENCE = 0.9


class Estimate(TypedDict):
    """A figure and its confidence interval; None if there are too few blocks, or nothing to divide by."""

    value: float | None
    low: float | None
    high: float | None


@functools.lru_cache(maxsize=4)
def draw_blocks(count: int, seed: int, draws: int) -> Floats:
    """Return (draws, count): how often each block is drawn. The array is shared: do not write to it."""
    if not count:
        return np.zeros((draws, 0))
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), draws).astype(np.float64)


class Bootstrap:
    """Draws of `count` blocks, the same for every figure.

    Attributes:
        weights: (draws, count) how often each block was drawn
    """

    def __init__(self, count: int, seed: int, draws: int = DRAWS, confidence: float = CONFIDENCE) -> None:
        self.count, self.confidence = count, confidence
        self.weights = draw_blocks(count, seed, draws)

    def sums(self, columns: Floats) -> Floats:
        """Return the sums of each draw, (draws, …), from those of each block, (count, …)."""
        out: Floats = self.weights @ columns
        return out

    def interval(self, drawn: Floats, comparisons: int = 1) -> tuple[float | None, float | None]:
        """Return the confidence interval of a figure, (None, None) if there are too few blocks.

        Args:
            drawn: (draws,) the figure of each draw
            comparisons: number of intervals that hold together (Bonferroni)
        """
        finite = drawn[np.isfinite(drawn)]
        if self.count < 2 or len(finite) < len(drawn) / 2:
            return None, None
        edge = (1.0 - self.confidence) / (2 * max(comparisons, 1))
        low, high = np.quantile(finite, [edge, 1.0 - edge]).tolist()
        return low, high

    def ratio(self, numerator: Floats, denominator: Floats) -> Estimate:
        """Return Σ numerator / Σ denominator with its interval; both (count,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = self.sums(numerator) / self.sums(denominator)
        low, high = self.interval(drawn)
        below = float(denominator.sum())
        return {"value": float(numerator.sum()) / below if below else None, "low": low, "high": high}

    def total(self, column: Floats) -> Estimate:
        """Return Σ column with its interval."""
        low, high = self.interval(self.sums(column))
        return {"value": float(column.sum()), "low": low, "high": high}

    def rate(self, count: Floats, exposure: Floats) -> Estimate:
        """Return counts per exposure. If none was counted, the upper bound is 3 / exposure, the rule of three."""
        out = self.ratio(count, exposure)
        if out["value"] == 0.0:
            out["low"], out["high"] = 0.0, rule_of_three(float(exposure.sum()))
        return out

    def share(self, part: Floats, whole: Floats) -> Estimate:
        """Return part of a whole that is counted; the rule of three bounds a share of 0 or 1."""
        out, n = self.ratio(part, whole), float(whole.sum())
        if out["value"] == 0.0:
            out["low"], out["high"] = 0.0, min(rule_of_three(n) or 1.0, 1.0)
        elif out["value"] == 1.0:
            out["low"], out["high"] = max(1.0 - (rule_of_three(n) or 1.0), 0.0), 1.0
        return out


def rule_of_three(n: float) -> float | None:
    """Return the upper bound, at a confidence of 95 %, of a share or a rate of which none was counted in n."""
    return 3.0 / n if n and math.isfinite(n) else None


def sums_by_block(values: Floats, block: NDArray[np.int64], count: int) -> Floats:
    """Return (count,): the sum of a column over the rows of each block; rows of block −1 are in none."""
    inside = block >= 0
    sums: Floats = np.bincount(block[inside], values[inside], minlength=count).astype(np.float64)
    return sums
