"""Names of the learner's heads and answers, in the order of the core."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.shapes import (
    LOG_RESIDUAL,
    RESIDUAL,
    LearnerParams,
    PoolState,
    Scratch,
    corrected_heads,
    factors,
    product_heads,
)

SEASON_NAMES = ("a day ago", "usual at this time of the week", "usual at this time of day")
SEASON_CHANGES = ("of a day ago", "usual at this time of the week", "usual at this time of day")


class HeadNames(NamedTuple):
    """Names of a pooled scope's heads by kind; quick and slow are the proximal ones."""

    moments: list[str]
    quick: list[str]
    slow: list[str]
    waves: list[str]


def head_names(p: LearnerParams) -> HeadNames:
    """Such as `moments, decay 0.999`."""
    moments = [
        f"moments, half-life {life / 1000:g} s" if life else f"moments, decay {decay:g}"
        for decay, life in zip(p.decay.tolist(), p.half_life.tolist(), strict=True)
    ]
    return HeadNames(
        moments[: p.M],
        [f"proximal, step {step:.3g}" for step in p.steps.tolist()[: p.prox]],
        [f"proximal, step {p.slow_step:.3g}"] if p.prox else [],
        ["embedding"] if p.R else [],
    )


def product_names(p: LearnerParams) -> list[str]:
    """Names of the heads on products."""
    return ["products", "products, log space"][: product_heads(p)]


def seasonal_names(p: LearnerParams) -> list[str]:
    """Names of the seasonal answers: what the target was at this time, and the last one with what has changed since."""
    changes = [f"last target, with the change {since}" for since in SEASON_CHANGES] if p.lags or p.known else []
    return [*SEASON_NAMES, *changes] if p.seasons else []


def answer_names(p: LearnerParams, many: bool) -> list[str]:
    """Names of the answers, (T,), in the kernel's order. many: whether the pool has several entities"""
    moments, quick, slow, waves = head_names(p)
    first, gd = moments if p.moments else [], ["gd"] * p.gd
    logs = [f"{name}, log space" for name in quick + waves] if p.log else []
    attention = [f"attention {i + 1}" for i in range(4 + (p.lags > 0) + 3 * p.log)] if p.window else []
    heads = [
        *(f"fleet: {name}" for name in first + quick + slow + waves + gd + logs + attention + product_names(p)),
        *(f"entity: {name}" for name in quick + slow),
        *(f"norm: {name}" for name in first + gd + attention),
    ]
    bases = [
        "running mean",
        *["last target"] * (p.lags > 0 or p.known),
        *seasonal_names(p),
        *(f"{heads[at - p.bases]}, corrected" for at in corrected_heads(p)),
    ]
    return bases + (heads if many else heads[: p.B + product_heads(p)])


class Product(NamedTuple):
    """A product as an input: numbers i and j that are multiplied, in standard deviations; value: it; x: it in
    standard deviations of its own; weight: target's unit per such deviation."""

    i: int
    j: int
    value: float
    x: float
    weight: float


def head_weight(p: LearnerParams, w: Scratch, at: int) -> float:
    """The head's weight in the prediction, by its answer and by the corrected one."""
    heads = corrected_heads(p)
    return float(w.g[at] + sum(w.g[p.bases - len(heads) + i] for i, head in enumerate(heads) if head == at))


def product_parts(p: LearnerParams, w: Scratch, pool: PoolState, k: int) -> list[Product]:
    """The products of the event in the scratch, before it is learned; none before pool k has chosen them."""
    if not factors(p) or not pool.product_of[k].all():
        return []
    first = 1 + p.F
    weights = np.zeros(p.X - p.L)
    for h in range(product_heads(p)):
        at, kind = p.bases + p.B + h, (RESIDUAL, LOG_RESIDUAL)[h]
        share = float(head_weight(p, w, at) * w.scale[0, kind, 1])
        if kind == LOG_RESIDUAL:
            share *= 1.0 + float(w.a[at])
        weights += share * pool.product_W[k, h, first : first + len(weights)].astype(np.float64)
    i, j = _pairs(pool.product_of[k] - 1)
    values = zip(i, j, w.product_raw.tolist(), w.product[first:].tolist(), weights.tolist(), strict=False)
    return [Product(*each) for each in values]


def _pairs(of: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Numbers of each product, in the kernel's order."""
    i, j = np.triu_indices(len(of))
    return of[i].tolist(), of[j].tolist()
