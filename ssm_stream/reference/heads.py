"""The heads of the streaming learner's definition: each a linear state, read by the inputs and moved by an event.

All work on one scope of B pools with D inputs x (B, D) and on standardised targets q; symbols in `learner.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.shapes import (
    BATCH,
    BATCH_FROM,
    ERROR_CLIP,
    LATELY_RATE,
    LOG_RESIDUAL,
    LOG_VALUE,
    OFF_CENTRE,
    RESIDUAL,
    VALUE,
    WAIT_SHARE,
    LearnerParams,
)
from ssm_stream.reference.attention import Attended, attend, hold
from ssm_stream.reference.state import HeadsState, Meta


class HeadPredictions(NamedTuple):
    """Standardised predictions of the heads of a scope, in the order of the gate; no column for a head that is off.

    moments (B, M); proximal (B, H); slow, embedding, gd (B, 1); log_proximal (B, H); log_embedding (B, 1);
    attended (B, 4 or 5), log_attended (B, 2), log_attended_value (B, 1): of the attention
    """

    moments: Tensor
    proximal: Tensor
    slow: Tensor
    embedding: Tensor
    gd: Tensor
    log_proximal: Tensor
    log_embedding: Tensor
    attended: Tensor
    log_attended: Tensor
    log_attended_value: Tensor


# the scale of each
SCALES = dict.fromkeys(HeadPredictions._fields, RESIDUAL)
SCALES |= {"slow": VALUE, "log_proximal": LOG_RESIDUAL, "log_embedding": LOG_RESIDUAL}
SCALES |= {"log_attended": LOG_RESIDUAL, "log_attended_value": LOG_VALUE}


class Read(NamedTuple):
    """A scope's inputs and predictions in an event: x (B, D), phi (B, R), attention."""

    x: Tensor
    phi: Tensor
    predictions: HeadPredictions
    attention: Attended | None


class Targets(NamedTuple):
    """Targets of the heads of a scope, on each scale: (B,) each."""

    residual: Tensor
    value: Tensor
    log_residual: Tensor
    log_value: Tensor


def embed(meta: Meta, direction: Tensor, x: Tensor) -> Tensor:
    """φ = cos 2π(Ωᵀx + phase), (B, R) from the inputs without the constant; Ω = direction · frequency."""
    omega = direction[: x.shape[1] - 1] * meta.frequency
    return torch.cos(2 * torch.pi * (x[:, 1:] @ omega + meta.phase))


def read(p: LearnerParams, meta: Meta, h: HeadsState, norm: bool, x: Tensor, past: Tensor) -> Read:
    """Answers of all heads of a pooled scope.

    p: which heads the scope has; norm: is it the norm scope? past (B, lags): the targets before, standardised
    """
    H, R = p.prox, p.R
    none = x.new_zeros(len(x), 0)
    linear = torch.einsum("bhd,bd->bh", h.gradient, x)
    phi = log_embedding = embedding = none
    if R:
        phi = embed(meta, meta.direction, x)
        waves = torch.einsum("bid,bd->bi", h.embedding, torch.cat([phi, x], 1))
        embedding, log_embedding = waves[:, :1], waves[:, 1:]
    moments = torch.einsum("bmd,bd->bm", h.W, x)[:, : p.M] if p.moments else none
    attention = attend(p, h, x, past, norm) if p.window else None
    predictions = HeadPredictions(
        moments=moments,
        proximal=linear[:, :H],
        slow=linear[:, H : H + 1],
        embedding=embedding,
        gd=(h.gd * x).sum(1, keepdim=True) if p.gd else none,
        log_proximal=linear[:, H + 1 :] if p.log else none,
        log_embedding=log_embedding if p.log else none,
        attended=attention.experts if attention else none,
        log_attended=attention.log_experts[:, :2] if attention else none,
        log_attended_value=attention.log_experts[:, 2:] if attention else none,
    )
    return Read(x, phi, predictions, attention)


def may_wait(p: LearnerParams, entities: Tensor, n: Tensor) -> Tensor:
    """Events (B,) that may wait to be swept with a later one, in a pool of so many entities that has learned n events.

    A tenth of what comes on average between two of an entity's own. Compared with attention, sweeps cost little.
    """
    room = (entities / WAIT_SHARE).floor().clamp(0.0, float(BATCH))
    return torch.where(n >= BATCH_FROM, room, 0.0) if p.window == 0 else torch.zeros_like(n)


class Moments(NamedTuple):
    """Decayed second moments S (…, D, D), R = P − S W (…, D) and weights W (…, D)."""

    S: Tensor
    R: Tensor
    W: Tensor


def sweep(m: Moments, x: Tensor, decay: Tensor, ridge: Tensor, huber: Tensor, error: Tensor, on: Tensor) -> Moments:
    """S ← λS + ωxxᵀ, P ← λP + ωqx with ω = min(1, c/|e|), then one Gauss–Seidel sweep on ½WᵀSW − PᵀW + ½ρ‖W‖².

    A sweep solves the lower triangle: δ = (L + D + ρI)⁻¹ (P − SW − ρW), W ← W + δ, with L strictly below and D on the
    diagonal of S. R = P − SW is kept in place of P: with the new moments it is λR + ωx(q − W·x), then R − Sδ.
    Only weights that are `on` are swept; an event that waits sweeps none, and leaves them to a later one.

    Args:
        m: before the event
        x: (…, D)
        decay, ridge, huber, error: (…)
        on: (…, D)
    """
    weight = (huber / (error.abs() + 1e-12)).clamp_max(1.0)
    wx = weight[..., None] * x
    R = decay[..., None] * m.R + wx * error[..., None]
    S = decay[..., None, None] * m.S + wx[..., :, None] * x[..., None, :]
    return sweep_again(Moments(S, R, m.W), ridge, on)


def sweep_again(m: Moments, ridge: Tensor, on: Tensor) -> Moments:
    """A sweep of the moments as they are, as of `sweep`."""
    S, R, W = m
    lower = S.tril() + torch.diag_embed(ridge[..., None].expand_as(R))
    lower = torch.where(on[..., None], lower, torch.eye(S.shape[-1], dtype=S.dtype))
    force = torch.where(on, R - ridge[..., None] * W, 0.0)
    step = torch.linalg.solve_triangular(lower, force[..., None], upper=False)
    return Moments(S, R - (S @ step)[..., 0], W + step[..., 0])


def decays(p: LearnerParams, meta: Meta, gap: Tensor, kept: Tensor) -> Tensor:
    """λ of each moment head in this event, (B, M); λ = ½^(gap / half-life) where its half-life is one in time.

    kept (B,): what all but the first keep of it, or the only one
    """
    half_life = torch.as_tensor(p.half_life)
    in_time = half_life > 0
    decay = torch.where(in_time, 2.0 ** (-gap[:, None] / torch.where(in_time, half_life, 1.0)), meta.moment_decay)
    shares = torch.ones_like(decay) * kept[:, None]
    if decay.shape[1] > 1:
        shares = torch.cat([torch.ones_like(kept)[:, None], shares[:, 1:]], 1)
    return decay * shares


def learn_moments(
    p: LearnerParams,
    meta: Meta,
    h: HeadsState,
    r: Read,
    targets: Targets,
    decay: Tensor,
    logs: Tensor,
    max_waiting: Tensor,
) -> HeadsState:
    """One sweep of every moment head, or none where fewer than `max_waiting` (B,) events wait for it.

    Of the codes, those are swept that have been 1 since the last sweep.

    With attention in log space the last head is the first one's twin there; it learns where `logs`.
    """
    if not p.M:
        return h
    rows = [*range(p.M), 0][: h.W.shape[1]]
    target = torch.stack([targets.residual] * p.M + [targets.log_residual] * (len(rows) - p.M), 1)
    error = target - torch.einsum("bmd,bd->bm", h.W, r.x)
    ridge, huber = (part[rows].expand_as(error) for part in (meta.moment_ridge, meta.moment_huber))
    now = h.waiting >= max_waiting
    touched = h.touched | (r.x != 0) | (torch.arange(r.x.shape[1]) < r.x.shape[1] - p.K)
    swept = (touched & now[:, None])[:, None].expand_as(h.W)
    S, R, W = sweep(Moments(h.S, h.R, h.W), r.x[:, None].expand_as(h.W), decay[:, rows], ridge, huber, error, swept)
    on = torch.stack([torch.ones_like(logs)] * p.M + [logs] * (len(rows) - p.M), 1)
    return h._replace(
        S=torch.where(on[..., None, None], S, h.S),
        R=torch.where(on[..., None], R, h.R),
        W=torch.where(on[..., None], W, h.W),
        waiting=torch.where(now, 0.0, h.waiting + 1.0),
        touched=touched & ~now[:, None],
    )


def learn_gradient(W: Tensor, x: Tensor, step: Tensor, error: Tensor) -> Tensor:
    """W ← W + β clip(e, ±3) x / ‖x‖²: implicit online gradient descent.

    W (B, h, D), x (B, D), step (h,), error (B, h)
    """
    rate = step * error.clamp(-ERROR_CLIP, ERROR_CLIP) / (x * x).sum(1, keepdim=True)
    return W + rate[..., None] * x[:, None]


def learn_centred(
    W: Tensor, lately: Tensor, x: Tensor, step: Tensor, error: Tensor, settled: Tensor
) -> tuple[Tensor, Tensor]:
    """`learn_gradient` by a head's answer at the centre c and its slopes, brought back to W; and the means after it.

    With z − c in place of z: W ← W + β clip(e, ±3) [1 − c·(z − c), z − c, codes] / ‖[1, z − c, codes]‖². The centre is
    the mean lately of an input that stands off its mean, 0 of others.

    W (B, h, D), lately (B, F), x (B, D) = [1, z, codes], step (h,), error (B, h); settled (B,): are means learned, too?
    """
    F = lately.shape[1]
    z, centre = x[:, 1 : 1 + F], torch.where(lately.abs() > OFF_CENTRE, lately, 0.0)
    off = torch.cat([x[:, :1], z - centre, x[:, 1 + F :]], 1)
    across = (centre * off[:, 1 : 1 + F]).sum(1, keepdim=True)
    rate = step * error.clamp(-ERROR_CLIP, ERROR_CLIP) / (off * off).sum(1, keepdim=True)
    along = torch.cat([1.0 - across, off[:, 1:]], 1)
    after = lately + LATELY_RATE * (z - lately)
    return W + rate[..., None] * along[:, None], torch.where(settled[:, None], after, lately)


def learn_scope(
    p: LearnerParams,
    meta: Meta,
    h: HeadsState,
    r: Read,
    targets: Targets,
    decay: Tensor,
    logs: Tensor,
    max_waiting: Tensor,
) -> HeadsState:
    """One event for the heads of a pooled scope; those in log space learn where `logs` (B,).

    decay (B, M): `decays`; max_waiting (B,): `may_wait`
    """
    predictions, x = r.predictions, r.x
    no_log = torch.zeros_like(targets.residual)
    new = learn_moments(p, meta, h, r, targets, decay, logs, max_waiting)
    if p.prox:
        quick = meta.proximal_step
        errors = torch.cat(
            [
                targets.residual[:, None] - predictions.proximal,
                targets.value[:, None] - predictions.slow,
                torch.where(logs[:, None], targets.log_residual[:, None] - predictions.log_proximal, 0.0)
                if p.log
                else no_log[:, None].expand(-1, p.prox),
            ],
            1,
        )
        steps = torch.cat([quick, meta.slow_step[None], quick])
        new = new._replace(gradient=learn_gradient(h.gradient, x, steps, errors))
    if p.R:
        error = targets.residual - predictions.embedding[:, 0]
        log_error = torch.where(logs, targets.log_residual - predictions.log_embedding[:, 0], 0.0) if p.log else no_log
        errors = torch.stack([error, log_error], 1)
        wide = torch.cat([r.phi, x], 1)
        new = new._replace(embedding=learn_gradient(h.embedding, wide, meta.embedding_step, errors))
    if p.gd:
        # The paper's layer with decay: one gradient step from zero weights on the decayed mean of q x.
        keep = decay[:, :1]
        new = new._replace(gd=keep * h.gd + (1.0 - keep) * targets.residual[:, None] * x)
    if r.attention is not None:
        new = hold(p, new, r.attention, x, torch.stack(targets, 1), logs)
    return new
