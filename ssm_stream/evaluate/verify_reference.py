"""The production kernel beside explicit gradient descent: the same events, float32 against float64.

`record` runs the production kernel over the events and keeps what its heads saw, answered and became. `descend` then
does gradient descent on what they saw, written out in float64 with every gradient computed anew, and shares no line and
no state with the kernel: its weights are its own from the first event to the last. Section 3 of `docs/model.md`.

Symbols as in `model/kernel.py`; n events, E lives (an entity between two expiries), here also
    P  (E, M, D)  decayed moments of q and x, of which the kernel keeps only R = P − S W
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.model import kernel
from ssm_stream.model.jit import jit
from ssm_stream.model.kernel import LearnerParams

Array = NDArray[np.float64]

SMALLEST = 1e-6
"""Norm of weights below which a difference counts in absolute terms, as parts of this."""
PROXIMAL_BOUND = 3.0
"""Largest error that a proximal head steps for, in standard deviations."""
CHUNK_BYTES = 64_000_000
"""Memory for the weights of one chunk of events."""


class Recorded(NamedTuple):
    """What the production kernel saw and answered, a row an event.

    x (n, D) float32: standardised inputs; q (n,): standardised target, NaN where the heads learned nothing;
    answer (n, H): the heads' standardised answers; g (n, A): gate weights; base, mean, deviation, level (n,): the base,
    the mean and deviation of y − b, the running mean of y; yhat (n,): the prediction; frozen (n,): see `Frozen`, NaN
    before it is frozen
    """

    x: NDArray[np.float32]
    q: Array
    answer: Array
    g: Array
    base: Array
    mean: Array
    deviation: Array
    level: Array
    yhat: Array
    frozen: Array


class Frozen(NamedTuple):
    """Implicit models that stop learning, and what each input moved until the middle.

    after (E,) int64: labelled events after which a life's model is frozen; W (E, D), g (E, A): Σ_h g_h W_h and the gate
    weights, each the mean over the second half of the labelled events until then (the gate of a single moment may lean
    on a head that suits that moment only); until (E,) int64: labelled events over which `moved` is summed; moved
    (E, D): Σ |Σ_h g_h W_h ⊙ x|
    """

    after: NDArray[np.int64]
    W: Array
    g: Array
    until: NDArray[np.int64]
    moved: Array


class Constants(NamedTuple):
    """The kernel's constants as float64: decay, ridge, huber (M,) and step (H − M,)."""

    decay: Array
    ridge: Array
    huber: Array
    step: Array


class Descent(NamedTuple):
    """State of the explicit gradient descent, float64: S (E, M, D, D), P (E, M, D), W (E, H, D)."""

    S: Array
    P: Array
    W: Array


class Deviation(NamedTuple):
    """Kernel against reference, (n, H) each; NaN where nothing was learned.

    answer64: the reference's standardised answers
    answer: |q_h − q_64| / max(1, |q_64|), before the event is learned
    weights: ‖W_h − W_64‖ / max(‖W_64‖, SMALLEST), after it is learned
    """

    answer64: Array
    answer: Array
    weights: Array


def constants(p: LearnerParams) -> Constants:
    """The same constants, to the last bit, that the kernel computes with."""
    return Constants(*(np.asarray(c, np.float64) for c in (p.decay, p.ridge, p.huber, p.step)))


def new_descent(p: LearnerParams, E: int) -> Descent:
    """E lives that have seen nothing."""
    return Descent(np.zeros((E, p.M, p.D, p.D)), np.zeros((E, p.M, p.D)), np.zeros((E, p.H, p.D)))


def head_names(p: LearnerParams) -> list[str]:
    """The heads in the order of W, such as `moments, decay 0.998` and `proximal, step 0.3`."""
    return [f"moments, decay {d:g}" for d in p.decay.tolist()] + [f"proximal, step {s:.3g}" for s in p.step.tolist()]


@jit
def record(
    p: Any, s: Any, w: Any, lives: Any, u: Any, y: Any, first: int, count: int, W: Any, frozen: Any, out: Any
) -> None:
    """The production kernel over events first … first + count − 1; W (≥ count, H, D) takes the weights after each."""
    for i in range(count):
        t = first + i
        e = lives[t]
        n = s.n[e]
        out.yhat[t] = kernel.predict(p, s, w, e, u[t])
        base, mean, deviation = w.scale[0], w.scale[1], w.scale[2]
        out.base[t], out.mean[t], out.deviation[t], out.level[t] = base, mean, deviation, w.a[p.H + 1]
        for j in range(p.D):
            out.x[t, j] = w.x[j]
        for h in range(p.H):
            out.answer[t, h] = w.q[h]
        for a in range(p.A):
            out.g[t, a] = w.g[a]
        _freeze(p, s, w, e, n, t, not math.isnan(y[t]), frozen, out)
        out.q[t] = np.nan
        if not math.isnan(y[t]):
            if n > 0:
                r = y[t] - base
                size = deviation if deviation > 0.0 else max(abs(r), 1e-300)
                out.q[t] = min(max((r - mean) / size, -kernel.Q_CLIP), kernel.Q_CLIP)
            kernel.learn(p, s, w, e, u[t], y[t])
        for h in range(p.H):
            for j in range(p.D):
                W[i, h, j] = s.W[e, h, j]


@jit
def _freeze(p: Any, s: Any, w: Any, e: int, n: int, t: int, labelled: bool, frozen: Any, out: Any) -> None:
    """Add up what the inputs move, average the implicit weights until they freeze, and answer with them after."""
    if n < frozen.until[e]:
        for j in range(p.D):
            weight = 0.0
            for h in range(p.H):
                weight += w.g[h] * s.W[e, h, j]
            frozen.moved[e, j] += abs(weight * w.x[j])
    start, end = frozen.after[e] // 2, frozen.after[e]
    if start <= n < end and labelled:
        share = 1.0 / (end - start)
        for h in range(p.H):
            for j in range(p.D):
                frozen.W[e, j] += share * w.g[h] * s.W[e, h, j]
        for a in range(p.A):
            frozen.g[e, a] += share * w.g[a]
    out.frozen[t] = np.nan
    if n >= frozen.after[e]:
        answer, heads = 0.0, 0.0
        for j in range(p.D):
            answer += frozen.W[e, j] * w.x[j]
        for h in range(p.H):
            heads += frozen.g[e, h]
        base, mean, deviation = w.scale[0], w.scale[1], w.scale[2]
        moved = heads * mean + deviation * min(max(answer, -kernel.Q_CLIP), kernel.Q_CLIP)
        share = frozen.g[e, p.H + 1]
        out.frozen[t] = (1.0 - share) * base + share * w.a[p.H + 1] + moved


@jit
def descend(c: Any, lives: Any, first: int, count: int, x: Any, seen: Any, W: Any, d: Any, out: Any) -> None:
    """Explicit gradient descent over events first … first + count − 1, compared with what the kernel did.

    c: `Constants`; x (count, D) float64: the inputs; seen: `Recorded`; W (≥ count, H, D): the kernel's weights after
    each; d: `Descent`, which moves on; out: `Deviation`, whose rows are filled in
    """
    M, H, D = len(c.decay), len(c.decay) + len(c.step), x.shape[1]
    for i in range(count):
        t = first + i
        e, q = lives[t], seen.q[t]
        for h in range(H):
            w = d.W[e, h]
            answer = 0.0
            for j in range(D):
                answer += w[j] * x[i, j]
            out.answer64[t, h] = answer
            out.answer[t, h] = out.weights[t, h] = np.nan
            if math.isnan(q):
                continue
            out.answer[t, h] = abs(seen.answer[t, h] - answer) / max(1.0, abs(answer))
            error = q - answer
            if h < M:
                weigh = 1.0 if abs(error) <= c.huber[h] else c.huber[h] / abs(error)
                _descend_moments(d.S[e, h], d.P[e, h], w, x[i], q, weigh, c.decay[h], c.ridge[h])
            else:
                _descend_proximal(w, x[i], error, c.step[h - M])
            apart = norm = 0.0
            for j in range(D):
                apart += (W[i, h, j] - w[j]) ** 2
                norm += w[j] ** 2
            out.weights[t, h] = math.sqrt(apart) / max(math.sqrt(norm), SMALLEST)


@jit
def _descend_moments(S: Any, P: Any, w: Any, x: Any, q: float, weigh: float, decay: float, ridge: float) -> None:
    """S ← λS + ωxxᵀ, P ← λP + ωqx, then for each coordinate an exact step along the gradient of the ridge loss.

    With L(W) = ½WᵀSW − PᵀW + ½ρ‖W‖² the gradient is g_i = Σ_j S_ij W_j + ρW_i − P_i, computed anew at every coordinate,
    and its step W_i ← W_i − g_i/(S_ii + ρ).
    """
    D = len(w)
    for i in range(D):
        P[i] = decay * P[i] + weigh * q * x[i]
        for j in range(D):
            S[i, j] = decay * S[i, j] + weigh * x[i] * x[j]
    for i in range(D):
        gradient = ridge * w[i] - P[i]
        for j in range(D):
            gradient += S[i, j] * w[j]
        w[i] -= gradient / (S[i, i] + ridge)


@jit
def _descend_proximal(w: Any, x: Any, error: float, step: float) -> None:
    """W ← W + β clip(q − W·x, ±3) x / (1 + ‖x‖²): the implicit step on the squared error of one event."""
    size = 1.0
    for i in range(len(w)):
        size += x[i] * x[i]
    rate = step * min(max(error, -PROXIMAL_BOUND), PROXIMAL_BOUND) / size
    for i in range(len(w)):
        w[i] += rate * x[i]


def chunk_length(p: LearnerParams) -> int:
    """Events whose weights fit into `CHUNK_BYTES`."""
    return max(1, CHUNK_BYTES // (4 * p.H * p.D))


def new_recorded(p: LearnerParams, n: int) -> Recorded:
    """Room for n events."""
    columns = [np.empty(n) for _ in range(6)]
    x = np.empty((n, p.D), np.float32)
    return Recorded(x, np.empty(n), np.empty((n, p.H)), np.empty((n, p.A)), *columns)


def new_deviation(p: LearnerParams, n: int) -> Deviation:
    """Room for n events."""
    return Deviation(np.empty((n, p.H)), np.empty((n, p.H)), np.empty((n, p.H)))
