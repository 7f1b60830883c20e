"""Long histories of few entities: the linear heads over whole chunks of events instead of one after another.

Implements docs/model.md, "Chunks instead of events". Two recurrences of section 2 are linear in their state, so that a
chunk of c events is a few products of matrices, and the answers *before* each event is learned come with them:

    decayed sums    Z_t = λ Z_{t−1} + v_t k_tᵀ          (moments S and P; the layer of section 1 with decay: W = ηP)
    delta rule      W_t = λ W_{t−1} + b_t e_t x_t,      e_t = q_t − W_{t−1}·x_t

Within a chunk that starts at state Z_0, event t (from 0) reads

    Z_{t−1} q_t = λ^t Z_0 q_t + Σ_{s<t} λ^(t−1−s) (k_s·q_t) v_s,

a product with a strictly lower triangular matrix of decays, and the chunk ends at λ^c Z_0 + Σ_s λ^(c−1−s) v_s k_sᵀ.
From chunk to chunk that is again a decayed sum, with the decay λ^c: a scan (`gdssm.scan`). This is the chunkwise form
of linear attention with decay (Sun et al. 2023, Retentive Network, arXiv 2307.08621).

In the delta rule the v_s are not known: they are the errors. They solve a triangular system,

    (I + L) e = q − diag(λ^t) X W_0,        L_ts = λ^(t−1−s) b_s (x_s·x_t) for s < t, else 0,

whose inverse (the UT transform of the WY form) is taken of all chunks at once, before any W_0 is known: with
u = (I + L)⁻¹ q and V = (I + L)⁻¹ diag(λ^t) X a chunk is e = u − V W_0 and W_c = λ^c W_0 + Σ_s λ^(c−1−s) b_s e_s x_s.
See Yang et al. 2024, Parallelizing Linear Transformers with the Delta Rule (arXiv 2406.06484), and with decay Gated
Delta Networks (arXiv 2412.06464); there the state decays before it is read, here after, as this product's heads do.

The proximal heads are the delta rule with b_t = β/‖x_t‖² and clip(e_t, ±E) in place of e_t. A clip is not linear, but
what it takes off, r_t = e_t − clip(e_t), is known once e_t is: (I + L) e = q − diag(λ^t) X W_0 + L r. So a chunk is
solved as if nothing were clipped, and its errors are right up to the first one beyond ±E; the rest is solved again with
that one's r, and so on. The result is that of the recurrence, at one more solve for every event that is clipped.

Huber weights, sweeps and gates have no such form: they depend on the state in every event. So the streaming learner as
a whole is not parallel in time, and production runs the recurrence.

Symbols, and the shapes that every docstring below uses
    B, N, c    sequences in a batch; events of each; events in a chunk
    D          inputs;  V, K: numbers in a value and in a key
    x, q       inputs (B, N, D), targets (B, N)
    λ, b       decay, in (0, 1]; steps (B, N)
    W, e       weights (B, D), errors before learning (B, N)
    Z          state (B, V, K)
All tensors are of one dtype (float64 or float32) and on one device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.paper.gdssm import scan

CHUNK = 64
"""Events in a chunk: the work is c·(c + D) a chunk and event, the steps one after another N/c."""
NUMBERS = 1 << 20
"""Numbers that a block of chunks may take in its largest array: bounds the memory of long histories."""


class Learned(NamedTuple):
    """said (B, N): answers before each event was learned; W (B, D): weights after all; clipped: errors that were."""

    said: Tensor
    W: Tensor
    clipped: int


class _Decays(NamedTuple):
    """Powers of λ: within (c, c) λ^(t−1−s) for s < t, else 0; start (c,) λ^t."""

    within: Tensor
    start: Tensor


def _powers(c: int, decay: float, like: Tensor) -> Tensor:
    """λ^t for t = 0 … c, taken in 64 bits: their rounding would grow with the chunk."""
    return (torch.tensor(decay, dtype=torch.float64) ** torch.arange(c + 1, dtype=torch.float64)).to(like)


def _ends(c: int, decay: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """What is left at the end of a chunk: (c,) λ^(c−1−s) of each event, and () λ^c of the state before it."""
    powers = _powers(c, decay, like)
    return powers[:c].flip(0), powers[c]


def _decays(c: int, decay: float, like: Tensor) -> _Decays:
    powers = _powers(c, decay, like)
    age = torch.arange(c, device=like.device)
    apart = (age[:, None] - age[None, :] - 1).clamp_min(0)
    return _Decays(powers[apart].tril(-1), powers[:c])


def _blocks(
    N: int, chunk: int, width: int, states: int = 0, *, squares: bool = True
) -> Iterator[tuple[slice, int, int]]:
    """Events of each block, its chunks, and the events in one: whole chunks, then what is left as a shorter one.

    width: numbers of an event, states: of a chunk's state, squares: (c, c), in the arrays that a block needs
    """
    if chunk < 1:
        raise ValueError(f"chunk: found {chunk}; a chunk has at least one event")
    most = max(NUMBERS // max(chunk * chunk * squares, chunk * width, states), 1)
    at = 0
    while at < N:
        c = min(chunk, N - at)
        count = min((N - at) // c, most)
        yield slice(at, at + count * c), count, c
        at += count * c


def _cut(part: Tensor, events: slice, c: int) -> Tensor:
    """The events in chunks: (B, N, …) → (B, chunks, c, …)."""
    return part[:, events].reshape(len(part), -1, c, *part.shape[2:])


def decayed_sums(
    v: Tensor, k: Tensor, decay: float, Z: Tensor, query: Tensor | None = None, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Z_t = λ Z_{t−1} + v_t k_tᵀ: what each event reads before it is added, Z_{t−1} query_t, and the last state.

    Args:
        v, k: (B, N, V), (B, N, K)
        Z: (B, V, K) state before
        query: (B, N, K); None: nothing is read, and chunks are as long as memory allows

    Returns:
        (B, N, V), of no events without a query; (B, V, K)
    """
    B, N, V = v.shape
    if query is None:  # a weighted sum
        chunk = max(NUMBERS // (V + k.shape[2]), 1)
    answers = v.new_zeros(B, 0 if query is None else N, V)
    for events, _, c in _blocks(N, chunk, max(V, k.shape[2]), V * k.shape[2], squares=query is not None):
        end, whole = _ends(c, decay, v)
        vs, ks = _cut(v, events, c), _cut(k, events, c)
        added = (vs * end[:, None]).transpose(2, 3) @ ks
        states = scan(torch.cat([Z[:, None], added], 1), whole)
        if query is not None:
            power, qs = _decays(c, decay, v), _cut(query, events, c)
            inside = (qs @ ks.transpose(2, 3) * power.within) @ vs
            before = qs @ states[:, :-1].transpose(2, 3) * power.start[:, None]
            answers[:, events] = (inside + before).flatten(1, 2)
        Z = states[:, -1]
    return answers, Z


def decayed_moments(x: Tensor, q: Tensor, weight: Tensor, decay: float, S: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """S ← λS + ωxxᵀ, P ← λP + ωqx over all events, weight ω (B, N): S (B, D, D) and P (B, D) after them."""
    keys = torch.cat([x, q[..., None]], 2)
    _, Z = decayed_sums(weight[..., None] * x, keys, decay, torch.cat([S, P[..., None]], 2))
    return Z[..., :-1], Z[..., -1]


def descend(x: Tensor, q: Tensor, rate: float, decay: float, W: Tensor, chunk: int = CHUNK) -> Learned:
    """W ← λW + η q x: the layer of section 1 with decay, a gradient step from zero. The `gd` head has η = 1 − λ."""
    said, Z = decayed_sums(rate * q[..., None], x, decay, W[:, None], x, chunk)
    return Learned(said[..., 0], Z[:, 0], 0)


def proximal_steps(x: Tensor, step: float) -> Tensor:
    """b_t = β/‖x_t‖², (B, N): with β = 1 the event is told exactly afterwards. Inputs hold a constant, so ‖x‖ ≥ 1."""
    return step / x.square().sum(-1)


def delta_rule(
    x: Tensor, q: Tensor, steps: Tensor, W: Tensor, decay: float = 1.0, clip: float = math.inf, chunk: int = CHUNK
) -> Learned:
    """W ← λW + b clip(q − W·x, ±E) x over all events, by one triangular solve a chunk.

    Args:
        x, q: (B, N, D), (B, N)
        steps: (B, N) b; see `proximal_steps`
        W: (B, D) weights before
        clip: E; ∞ for none
    """
    said, clipped, D = torch.empty_like(q), 0, x.shape[2]
    for events, _, c in _blocks(q.shape[1], chunk, D):
        power, (end, _) = _decays(c, decay, x), _ends(c, decay, x)
        xs, qs, bs = (_cut(part, events, c) for part in (x, q, steps))
        L = xs @ xs.transpose(2, 3) * power.within * bs[:, :, None]
        known = torch.cat([qs[..., None], power.start[:, None] * xs], 3)
        solved = torch.linalg.solve_triangular(L, known, upper=False, unitriangular=True)
        pull = ((end * bs)[..., None] * xs).transpose(2, 3)
        errors, weights = [], W[..., None]
        # Two products a chunk: what is left to do one after another.
        for j, (u, V, back) in enumerate(
            zip(*(part.unbind(1) for part in (*solved.split([1, D], 3), pull)), strict=True)
        ):
            e = learned = torch.baddbmm(u, V, weights, alpha=-1)
            if clip < math.inf and bool(e.abs().amax() > clip):
                for i in range(len(e)):
                    clipped += _settle(e[i, :, 0], L[i, j], clip)
                learned = e.clamp(-clip, clip)
            errors.append(e)
            weights = torch.baddbmm(weights, back, learned, beta=decay**c)
        W = weights[..., 0]
        said[:, events] = (qs - torch.stack(errors, 1)[..., 0]).flatten(1, 2)
    return Learned(said, W, clipped)


def _settle(e: Tensor, L: Tensor, clip: float) -> int:
    """Errors e (c,) of a chunk that was solved as if none were clipped, put right in place; how many are."""
    t, count = -1, 0
    while len(over := (e[t + 1 :].abs() > clip).nonzero()):
        t, count = t + 1 + int(over[0]), count + 1
        surplus = e[t] - e[t].clamp(-clip, clip)
        rest = slice(t + 1, None)
        known = (L[rest, t] * surplus)[:, None]
        e[rest] += torch.linalg.solve_triangular(L[rest, rest], known, upper=False, unitriangular=True)[:, 0]
    return count
