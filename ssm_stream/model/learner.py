"""The streaming learner in torch: the definition that the fused kernel is held to. Section 2 of `docs/model.md`.

Batched over entities and differentiable; used to check the kernel and for work off the hot path, never per event in
production. Written for reading: every step is the equation in its docstring.

Symbols: as in `kernel.py`, with a leading batch of E entities. B = E here, as every entity has one event a step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.model.kernel import (
    FAST_DECAY,
    FIXED_SHARE,
    FLOOR_RATE,
    GATE_PRIOR,
    LOSS_CLIP,
    Q_CLIP,
    SHARPNESS,
    SLOW_DECAY,
    TOP_DECAY,
    TOP_PRIOR,
    WINSOR,
    Z_CLIP,
    G,
    LearnerParams,
)

TINY = 1e-300
PROXIMAL_CLIP = 3.0


class State(NamedTuple):
    """State of E entities.

    n (E,): labelled events learned
    v_mean, v_var, v_count (E, F): running statistics of the raw inputs
    u_last (E, features); y_last (E, max(lags, 1)): the last features; past targets, newest first
    y_mean, y_spread (E,): running mean of the target, mean absolute deviation from it
    r_mean, r_var (E,): running mean and variance of r = y − b
    S (E, M, D, D), P (E, M, D): decayed moments of x and of q·x
    W (E, H, D): the heads' weights, moment heads first
    regret, spread (E, G + 1, A), unit (E, G + 1): of the gates, the last one over the others
    """

    n: Tensor
    v_mean: Tensor
    v_var: Tensor
    v_count: Tensor
    u_last: Tensor
    y_last: Tensor
    y_mean: Tensor
    y_spread: Tensor
    r_mean: Tensor
    r_var: Tensor
    S: Tensor
    P: Tensor
    W: Tensor
    regret: Tensor
    spread: Tensor
    unit: Tensor


class Answer(NamedTuple):
    """What is known of an event before its target.

    v (E, F), x (E, D): raw and standardised inputs; q (E, H): standardised answers of the heads; a (E, A): answers;
    made (E, G + 1): answers of the gates, the last one is the prediction; base (E,)
    """

    v: Tensor
    x: Tensor
    q: Tensor
    a: Tensor
    made: Tensor
    base: Tensor

    @property
    def yhat(self) -> Tensor:
        """(E,) predictions."""
        return self.made[:, G]


def new_state(p: LearnerParams, E: int, dtype: torch.dtype = torch.float64) -> State:
    """E fresh entities."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(E, *shape, dtype=dtype)

    return State(
        n=zeros(), v_mean=zeros(p.F), v_var=zeros(p.F), v_count=zeros(p.F), u_last=zeros(p.features),
        y_last=zeros(max(p.lags, 1)), y_mean=zeros(), y_spread=zeros(), r_mean=zeros(), r_var=zeros(),
        S=zeros(p.M, p.D, p.D), P=zeros(p.M, p.D), W=zeros(p.H, p.D),
        regret=zeros(G + 1, p.A), spread=zeros(G + 1, p.A), unit=zeros(G + 1),
    )  # fmt: skip


def raw_inputs(p: LearnerParams, s: State, u: Tensor) -> Tensor:
    """v = [u, u − u_last, y_{t−1}, y_{t−1} − y_{t−2}, …], shape (E, F), from columns u (E, C)."""
    parts = [u]
    if p.differences:
        change = u[:, : p.features] - s.u_last
        parts.append(torch.where(s.n[:, None] > 0, change, torch.zeros_like(change)))
    if p.lags:
        parts += [s.y_last[:, :1], s.y_last[:, :-1] - s.y_last[:, 1:]]
    return torch.cat(parts, 1)


def standardise(s: State, v: Tensor) -> Tensor:
    """x = [1, clip((v − mean) / deviation, ±5)], shape (E, D); unknown and constant inputs stand at 0."""
    deviation = s.v_var.clamp_min(TINY).sqrt()
    usable = (s.v_count > 1.5) & ~v.isnan() & (deviation > 1e-9 * (1e-12 + s.v_mean.abs()))
    z = ((v - s.v_mean) / deviation).clamp(-Z_CLIP, Z_CLIP)
    z = torch.where(usable, z, torch.zeros_like(z))
    return torch.cat([torch.ones_like(z[:, :1]), z], 1)


def gate_weights(regret: Tensor, spread: Tensor, prior: float) -> Tensor:
    """ML-Poly: weights in proportion to positive regret over 1 + its second moment; (…, A).

    A prior, which fades as evidence comes in, keeps them continuous where all regrets are near zero.
    """
    raw = regret.clamp_min(0) / (1 + spread)
    raw = raw + prior**2 / (prior + raw.sum(-1, keepdim=True))
    return raw / raw.sum(-1, keepdim=True)


def softmax_weights(loss: Tensor) -> Tensor:
    """exp(−SHARPNESS · decayed loss), normalised, with a fixed share for all; (…, A)."""
    weights = torch.softmax(-SHARPNESS * loss, -1)
    return (1 - FIXED_SHARE) * weights + FIXED_SHARE / loss.shape[-1]


def predict(p: LearnerParams, s: State, u: Tensor) -> Answer:
    """Answers for one event an entity, from columns u (E, C) with NaN for unknown. Changes nothing."""
    v = raw_inputs(p, s, u)
    x = standardise(s, v)
    base = s.y_last[:, 0] if p.lags else s.y_mean
    q = torch.einsum("ehd,ed->eh", s.W, x)
    heads = (base + s.r_mean)[:, None] + s.r_var.clamp_min(0).sqrt()[:, None] * q.clamp(-Q_CLIP, Q_CLIP)
    a = torch.cat([heads, base[:, None], s.y_mean[:, None]], 1)
    slow = gate_weights(s.regret[:, 1], s.spread[:, 1], GATE_PRIOR)
    gates = torch.stack([softmax_weights(s.regret[:, 0]), slow], 1)
    made = torch.einsum("ega,ea->eg", gates, a)
    top = gate_weights(s.regret[:, G, :G], s.spread[:, G, :G], TOP_PRIOR)
    return Answer(v, x, q, a, torch.cat([made, (top * made).sum(1, keepdim=True)], 1), base)


def learn_moments(p: LearnerParams, s: State, x: Tensor, q: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """S ← λS + ωxxᵀ, P ← λP + ωqx with ω = min(1, c/|e|), then one Gauss–Seidel sweep of the ridge regression.

    A sweep solves the lower triangle: W ← W + (L + D + ρI)⁻¹ (P − SW − ρW), L strictly lower, D the diagonal of S.
    """
    decay, ridge, huber = (torch.as_tensor(c, dtype=x.dtype) for c in (p.decay, p.ridge, p.huber))
    W = s.W[:, : p.M]
    weight = (huber / ((target[:, None] - q[:, : p.M]).abs() + 1e-12)).clamp_max(1)
    S = decay[:, None, None] * s.S + weight[:, :, None, None] * (x[:, :, None] * x[:, None, :])[:, None]
    P = decay[:, None] * s.P + (weight * target[:, None])[:, :, None] * x[:, None]
    eye = torch.eye(p.D, dtype=x.dtype)
    lower = S.tril() + ridge[:, None, None] * eye
    residual = P - torch.einsum("emij,emj->emi", S, W) - ridge[:, None] * W
    step = torch.linalg.solve_triangular(lower, residual[..., None], upper=False)[..., 0]
    return S, P, W + step


def learn_proximal(p: LearnerParams, s: State, x: Tensor, q: Tensor, target: Tensor) -> Tensor:
    """W ← W + β clip(q − W·x, ±3) x / (1 + ‖x‖²), shape (E, H − M, D): implicit online gradient descent."""
    step = torch.as_tensor(p.step, dtype=x.dtype)
    error = (target[:, None] - q[:, p.M :]).clamp(-PROXIMAL_CLIP, PROXIMAL_CLIP)
    size = 1 + (x * x).sum(1)
    return s.W[:, p.M :] + (step * error / size[:, None])[:, :, None] * x[:, None]


def learn_gates(s: State, answer: Answer, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The fast gate's decayed losses; decayed linearised regrets of the others' answers against their own.

    Losses and regrets are in units of each gate's running error.
    """
    error = (answer.made - y[:, None]).abs()
    unit = torch.where(s.unit == 0, error, s.unit)
    A = answer.a.shape[1]
    gates = torch.nn.functional.pad(answer.made[:, :G], (0, A - G))
    answers = torch.cat([answer.a[:, None].expand(-1, G, -1), gates[:, None]], 1)
    slope = ((answer.made - y[:, None]) / (0.5 * unit + TINY)).clamp(-1, 1)
    size = torch.maximum(unit, error / Z_CLIP) + TINY
    r = (slope[:, :, None] * (answer.made[:, :, None] - answers) / size[:, :, None]).clamp(-Z_CLIP, Z_CLIP)
    used = torch.ones(G + 1, A, dtype=torch.bool)
    used[G, G:] = False
    learned = (unit > 0)[:, :, None] & used
    loss = ((answer.a - y[:, None]).abs() / (unit[:, :1] + TINY)).clamp_max(LOSS_CLIP)
    r = torch.cat([loss[:, None], r[:, 1:]], 1)
    decay = torch.tensor([FAST_DECAY, SLOW_DECAY, TOP_DECAY], dtype=y.dtype)[:, None]
    regret = torch.where(learned, decay * s.regret + r, s.regret)
    spread = torch.where(learned, decay * s.spread + r * r, s.spread)
    spread = torch.cat([torch.zeros_like(spread[:, :1]), spread[:, 1:]], 1)
    rate = (1 / (s.n + 2)).clamp_min(0.02)[:, None]
    return regret, spread, unit + rate * (torch.minimum(error, WINSOR * unit) - unit)


def learn(p: LearnerParams, s: State, answer: Answer, u: Tensor, y: Tensor) -> State:
    """The state after targets y (E,) of the events that `predict` answered."""
    seen = s.n > 0
    r = y - answer.base
    if p.lags:
        r = torch.where(seen, r, torch.zeros_like(r))
    deviation = s.r_var.clamp_min(0).sqrt()
    size = torch.where(deviation > 0, deviation, r.abs().clamp_min(TINY))
    target = ((r - s.r_mean) / size).clamp(-Q_CLIP, Q_CLIP)
    S, P, W_moments = learn_moments(p, s, answer.x, answer.q, target)
    W = torch.cat([W_moments, learn_proximal(p, s, answer.x, answer.q, target)], 1)
    regret, spread, unit = learn_gates(s, answer, y)

    def after_first(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(seen.reshape(-1, *[1] * (old.dim() - 1)), new, old)

    learned = s._replace(
        S=after_first(S, s.S), P=after_first(P, s.P), W=after_first(W, s.W),
        regret=after_first(regret, s.regret), spread=after_first(spread, s.spread), unit=after_first(unit, s.unit),
    )  # fmt: skip
    return learn_statistics(p, learned, answer, u, y, r)


def learn_statistics(p: LearnerParams, s: State, answer: Answer, u: Tensor, y: Tensor, r: Tensor) -> State:
    """Running means and variances at rate max(1/n, floor), winsorised once 30 values are known; lags."""
    rate = 1 / (s.v_count + 1)
    delta = answer.v - s.v_mean
    bound = WINSOR * s.v_var.clamp_min(0).sqrt() + 1e-9 * s.v_mean.abs() + TINY
    delta = torch.where(s.v_count > 30, torch.clamp(delta, -bound, bound), delta)
    known = ~answer.v.isnan()
    v_mean = torch.where(known, s.v_mean + rate * delta, s.v_mean)
    v_var = torch.where(known, (1 - rate) * (s.v_var + rate * delta * delta), s.v_var)
    v_count = torch.where(known, (s.v_count + 1).clamp_max(1 / FLOOR_RATE - 1), s.v_count)

    first = s.n == 0
    rate = (1 / (s.n + 1)).clamp_min(FLOOR_RATE)
    off = y - s.y_mean
    bound = WINSOR * s.y_spread + 1e-9 * s.y_mean.abs() + TINY
    off = torch.where(s.n > 30, torch.clamp(off, -bound, bound), off)
    y_mean = s.y_mean + rate * off
    y_spread = torch.where(first, s.y_spread, s.y_spread + rate * (off.abs() - s.y_spread))
    r_rate = (1 / (s.n + 1 - int(p.lags > 0)).clamp_min(0.5)).clamp(FLOOR_RATE, 1)
    delta = r - s.r_mean
    bound = WINSOR * s.r_var.clamp_min(0).sqrt() + 1e-9 * y_mean.abs() + TINY
    delta = torch.where(s.n > 30, torch.clamp(delta, -bound, bound), delta)
    r_mean, r_var = s.r_mean + r_rate * delta, (1 - r_rate) * s.r_var + r_rate * delta * delta
    if p.lags:
        r_mean, r_var = torch.where(first, s.r_mean, r_mean), torch.where(first, s.r_var, r_var)
        shifted = torch.cat([y[:, None], s.y_last[:, :-1]], 1)
        y_last = torch.where(first[:, None], y[:, None].expand_as(shifted), shifted)
    else:
        y_last = s.y_last
    features = u[:, : p.features]
    return s._replace(
        n=s.n + 1, v_mean=v_mean, v_var=v_var, v_count=v_count, y_mean=y_mean, y_spread=y_spread,
        r_mean=r_mean, r_var=r_var, y_last=y_last, u_last=torch.where(features.isnan(), s.u_last, features),
    )  # fmt: skip
