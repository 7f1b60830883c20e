"""The moment heads on products of inputs: of the few numbers with the largest weights, each times each.

One S serves two targets, the residual and the one in log space. Symbols in `learner.py`; k numbers are multiplied,
J = k(k + 1)/2 products, X = 1 + F + J + K inputs [1, z, products, codes].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.shapes import CHOOSE_AT, LearnerParams, factors
from ssm_stream.reference.inputs import Inputs, learn_inputs, standardise
from ssm_stream.reference.state import Meta, ProductState


class ProductRead(NamedTuple):
    """x (B, X): inputs; answers (B, 1 or 2)."""

    x: Tensor
    answers: Tensor


def _multiply(p: LearnerParams, s: ProductState, x: Inputs, v: Tensor) -> Tensor:
    """Products (B, J) of the chosen numbers, row by row of their upper triangle; NaN before the choice.

    v (B, F): the numbers, NaN where their products are to be
    """
    z = torch.where(v.isnan(), math.nan, x.fleet[:, 1 : 1 + p.F])
    chosen = torch.where(s.of > 0, z.gather(1, (s.of - 1).clamp_min(0)), math.nan)
    i, j = torch.triu_indices(chosen.shape[1], chosen.shape[1])
    return chosen[:, i] * chosen[:, j]


def _place(p: LearnerParams, s: ProductState, x: Inputs) -> Tensor:
    at = 1 + p.F
    return torch.cat([x.fleet[:, :at], standardise(s, _multiply(p, s, x, x.v)), x.fleet[:, at:]], 1)


def read_products(p: LearnerParams, s: ProductState, x: Inputs) -> ProductRead:
    """Inputs and standardised answers."""
    inputs = _place(p, s, x)
    return ProductRead(inputs, torch.einsum("bhd,bd->bh", s.W, inputs))


def _choose(p: LearnerParams, s: ProductState) -> ProductState:
    """Choose the numbers with the largest weights, half of them features, once so many events are learned, for good.

    The weights stay. The moments start anew: what came before was standardised by statistics that were not settled.
    """
    now = (s.n >= CHOOSE_AT) & (s.of == 0).all(1)
    if not factors(p) or not now.any():
        return s
    count, weight = s.of.shape[1], s.W[:, 0, 1 : 1 + p.F].abs()
    features = weight[:, : p.features].argsort(stable=True, dim=1, descending=True)[:, : count // 2]
    order = weight.scatter(1, features, math.inf).argsort(stable=True, dim=1, descending=True)[:, :count]
    here = now[:, None]
    return s._replace(
        of=torch.where(here, 1 + order.sort(1).values, s.of),
        S=torch.where(here[..., None], 0.0, s.S),
        R=torch.where(here[..., None], 0.0, s.R),
        waiting=torch.where(now, 0.0, s.waiting),
        touched=s.touched & ~here,
    )


def learn_products(
    p: LearnerParams, meta: Meta, s: ProductState, x: Inputs, answers: Tensor, targets: Tensor, max_waiting: Tensor
) -> ProductState:
    """S ← λS + ωxxᵀ and for each target P ← λP + ωqx, ω = min(1, c/|e|) of the residual; then one sweep of each.

    x: with the codes that the event brought; answers (B, 1 or 2): of `read_products`; targets (B, 1 or 2)
    max_waiting (B,): `may_wait`
    """
    s = _choose(p, s)
    inputs = _place(p, s, x)
    now = s.waiting >= max_waiting
    touched = s.touched | (inputs != 0) | (torch.arange(p.X) < p.X - p.K)
    on = touched & now[:, None]
    error = targets - answers
    weight = (meta.product_huber / (error[:, 0].abs() + 1e-12)).clamp_max(1.0)
    wx = weight[:, None] * inputs
    S = meta.product_decay * s.S + wx[:, :, None] * inputs[:, None]
    R = meta.product_decay * s.R + error[..., None] * wx[:, None]
    eye = torch.eye(p.X, dtype=S.dtype)
    lower = torch.where(on[..., None], S.tril() + meta.product_ridge * eye, eye)
    force = torch.where(on[:, None], R - meta.product_ridge * s.W, 0.0)
    step = torch.linalg.solve_triangular(lower, force.mT, upper=False)
    s = s._replace(
        n=s.n + 1.0, S=S, R=R - (S @ step).mT, W=s.W + step.mT, waiting=torch.where(now, 0.0, s.waiting + 1.0),
        touched=touched & ~now[:, None],
    )  # fmt: skip
    return learn_inputs(s, _multiply(p, s, x, x.values))
