"""The streaming learner, fused for one CPU core: events one after another, float32 heads, float64 statistics.

`learner.py` is the definition of the same recurrence in torch; a test holds the two together. Section 2 of
`docs/model.md` explains it. Two calls an event, always in this order: `predict`, which changes nothing, and `learn`.

Symbols (all of one entity)
    u  (C,)  columns of the event            v (F,)  raw inputs: u, changes, last target, lag differences
    x  (D,)  [1, z], z = standardised v      D = F + 1
    y        target                          b       base: what is answered before any gradient
    q        standardised y − b              W (H, D) heads' weights: M moment heads, then the proximal heads
    S  (M, D, D)  decayed second moments     R (M, D) P − S W, P the decayed moments of q and x
    a  (A,)  answers: the heads' and the two bases'            g (A,)  gate weights over the answers
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.model.features import FeaturePlan
from ssm_stream.model.jit import jit

Z_CLIP = 5.0  # standardised inputs
Q_CLIP = 6.0  # standardised targets and answers
WINSOR = 10.0  # deviations a value may count for in the running statistics
FLOOR_RATE = 5e-4  # rate of the running statistics once 2,000 events have been seen
G = 2  # gates over the answers: a fast one (softmax of losses) and a slow one (regrets); a third chooses between them
FAST_DECAY = 0.9
SHARPNESS = 4.0
FIXED_SHARE = 1e-3
LOSS_CLIP = 4.0
SLOW_DECAY = 0.998
TOP_DECAY = 0.998
GATE_PRIOR = 1e-2
TOP_PRIOR = 0.1  # two gates of nearly equal worth: let them share until one is clearly better


class LearnerParams(NamedTuple):
    """Constants of the recurrence; the same for every entity.

    C, F, D, M, H, A: sizes, see the symbols above
    lags, differences: as in `FeaturePlan`
    decay (M,), ridge (M,), huber (M,): of the moment heads
    step (H − M,): of the proximal heads
    """

    C: int
    F: int
    D: int
    M: int
    H: int
    A: int
    features: int
    lags: int
    differences: bool
    decay: NDArray[np.float32]
    ridge: NDArray[np.float32]
    huber: NDArray[np.float32]
    step: NDArray[np.float32]


class LearnerState(NamedTuple):
    """State of E entities, one row each; a new entity's row is all zeros.

    n (E,) int64: labelled events learned
    v_mean, v_var (E, F) float64: running mean and variance of the raw inputs
    v_count (E, F) float64: values seen of each input (a missing one does not count), at most 1/FLOOR_RATE
    u_last (E, features) float64: features of the last learned event
    y_last (E, max(lags, 1)) float64: past targets, the newest first
    target (E, 4) float64: running mean of y, running mean and variance of y − b, mean absolute deviation of y
    S (E, M, D, D), R (E, M, D), W (E, H, D) float32: see the symbols
    regret (E, G + 1, A), spread (E, G + 1, A) float64: row 0 the fast gate's decayed losses; row 1 the slow gate's
        decayed regrets and their second moments; the last row those of the gate over the gates
    unit (E, G + 1) float64: running absolute error of each gate
    """

    n: NDArray[np.int64]
    v_mean: NDArray[np.float64]
    v_var: NDArray[np.float64]
    v_count: NDArray[np.float64]
    u_last: NDArray[np.float64]
    y_last: NDArray[np.float64]
    target: NDArray[np.float64]
    S: NDArray[np.float32]
    R: NDArray[np.float32]
    W: NDArray[np.float32]
    regret: NDArray[np.float64]
    spread: NDArray[np.float64]
    unit: NDArray[np.float64]


class Scratch(NamedTuple):
    """What `predict` found out about one event, for `learn` and for explanations.

    v (F,) float64, x (D,) float32, q (H,) float64 heads' standardised answers, a (A,) float64 answers in the target's
    unit, gate (G + 1, A) float64 weights of each gate, made (G + 1,) float64 answers of the gates,
    g (A,) float64 the answers' total weights, scale (3,) float64: base, mean and deviation of y − b
    """

    v: NDArray[np.float64]
    x: NDArray[np.float32]
    q: NDArray[np.float64]
    a: NDArray[np.float64]
    gate: NDArray[np.float64]
    made: NDArray[np.float64]
    g: NDArray[np.float64]
    scale: NDArray[np.float64]


def learner_params(plan: FeaturePlan, decays: tuple[float, ...], steps: tuple[float, ...]) -> LearnerParams:
    """Sizes and constants for these inputs and heads.

    A quick head sees few events, so it gets the larger ridge and the tighter Huber bound.
    """
    F = len(plan.names) - 1
    M, H = len(decays), len(decays) + len(steps)
    return LearnerParams(
        C=len(plan.columns),
        F=F,
        D=F + 1,
        M=M,
        H=H,
        A=H + 2,
        features=len(plan.features),
        lags=plan.lags,
        differences=plan.differences,
        decay=np.array(decays, np.float32),
        ridge=np.array([10.0 if d < 0.99 else 1.0 for d in decays], np.float32),
        huber=np.array([1.0 if d < 0.99 else 2.0 for d in decays], np.float32),
        step=np.array(steps, np.float32),
    )


def new_state(p: LearnerParams, E: int) -> LearnerState:
    """E fresh entities."""
    return LearnerState(
        n=np.zeros(E, np.int64),
        v_mean=np.zeros((E, p.F)),
        v_var=np.zeros((E, p.F)),
        v_count=np.zeros((E, p.F)),
        u_last=np.zeros((E, p.features)),
        y_last=np.zeros((E, max(p.lags, 1))),
        target=np.zeros((E, 4)),
        S=np.zeros((E, p.M, p.D, p.D), np.float32),
        R=np.zeros((E, p.M, p.D), np.float32),
        W=np.zeros((E, p.H, p.D), np.float32),
        regret=np.zeros((E, G + 1, p.A)),
        spread=np.zeros((E, G + 1, p.A)),
        unit=np.zeros((E, G + 1)),
    )


def new_scratch(p: LearnerParams) -> Scratch:
    """Working space of one event."""
    return Scratch(
        v=np.zeros(p.F),
        x=np.zeros(p.D, np.float32),
        q=np.zeros(p.H),
        a=np.zeros(p.A),
        gate=np.zeros((G + 1, p.A)),
        made=np.zeros(G + 1),
        g=np.zeros(p.A),
        scale=np.zeros(3),
    )


@jit
def _clip(value: Any, bound: float) -> Any:
    return min(max(value, -bound), bound)


@jit
def _dot(a: Any, b: Any, D: int) -> Any:
    """Dot product in eight interleaved sums: the order is fixed and still fits a vector register."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
    whole = D - D % 8
    for i in range(0, whole, 8):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    total = ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
    for i in range(whole, D):
        total += a[i] * b[i]
    return total


@jit
def _inputs(p: LearnerParams, s: LearnerState, w: Scratch, e: int, u: Any) -> None:
    """Raw inputs v and standardised inputs x of one event. Unknown (NaN) values stand at their mean, z = 0."""
    v = w.v
    for j in range(p.C):
        v[j] = u[j]
    at = p.C
    if p.differences:
        for j in range(p.features):
            v[at + j] = u[j] - s.u_last[e, j] if s.n[e] > 0 else 0.0
        at += p.features
    if p.lags > 0:
        v[at] = s.y_last[e, 0]
        for k in range(1, p.lags):
            v[at + k] = s.y_last[e, k - 1] - s.y_last[e, k]
    w.x[0] = 1.0
    for j in range(p.F):
        z = 0.0
        if s.v_count[e, j] > 1.5 and not math.isnan(v[j]):
            deviation = math.sqrt(s.v_var[e, j])
            if deviation > 1e-9 * (1e-12 + abs(s.v_mean[e, j])):
                z = _clip((v[j] - s.v_mean[e, j]) / deviation, Z_CLIP)
        w.x[j + 1] = z


@jit
def _poly(regret: Any, spread: Any, weights: Any, count: int, least: float) -> None:
    """ML-Poly weights (Gaillard, Stoltz, van Erven 2014): in proportion to the positive regrets; uniform at first.

    A prior, which fades as evidence comes in, keeps the weights continuous where all regrets are near zero: else
    rounding would decide them.
    """
    total = 0.0
    for i in range(count):
        weights[i] = max(regret[i], 0.0) / (1.0 + spread[i])
        total += weights[i]
    prior = least * least / (least + total)
    total += count * prior
    for i in range(count):
        weights[i] = (weights[i] + prior) / total


@jit
def _softmax(loss: Any, weights: Any, count: int) -> None:
    """Weights exp(−SHARPNESS · decayed loss), normalised, with a fixed share for all."""
    least = loss[0]
    for i in range(1, count):
        least = min(least, loss[i])
    total = 0.0
    for i in range(count):
        weights[i] = math.exp(-SHARPNESS * (loss[i] - least))
        total += weights[i]
    for i in range(count):
        weights[i] = (1.0 - FIXED_SHARE) * weights[i] / total + FIXED_SHARE / count


@jit
def _learn_losses(loss: Any, unit: float, answers: Any, count: int, y: float) -> None:
    """Decayed absolute losses of the answers, in units of the gate's usual error, clipped."""
    for i in range(count):
        loss[i] = FAST_DECAY * loss[i] + min(abs(answers[i] - y) / (unit + 1e-300), LOSS_CLIP)


@jit
def predict(p: LearnerParams, s: LearnerState, w: Scratch, e: int, u: Any) -> float:
    """The answer for columns u (C,) from entity row e; fills the scratch, leaves the state alone."""
    _inputs(p, s, w, e, u)
    base = s.y_last[e, 0] if p.lags > 0 else s.target[e, 0]
    mean, deviation = s.target[e, 1], math.sqrt(s.target[e, 2])
    w.scale[0], w.scale[1], w.scale[2] = base, mean, deviation
    for h in range(p.H):
        dot = _dot(s.W[e, h], w.x, p.D)
        w.q[h] = dot
        w.a[h] = base + mean + deviation * _clip(dot, Q_CLIP)
    w.a[p.H] = base
    w.a[p.H + 1] = s.target[e, 0]
    _softmax(s.regret[e, 0], w.gate[0], p.A)
    _poly(s.regret[e, 1], s.spread[e, 1], w.gate[1], p.A, GATE_PRIOR)
    for k in range(G):
        w.made[k] = 0.0
        for i in range(p.A):
            w.made[k] += w.gate[k, i] * w.a[i]
    _poly(s.regret[e, G], s.spread[e, G], w.gate[G], G, TOP_PRIOR)
    answer = 0.0
    for k in range(G):
        answer += w.gate[G, k] * w.made[k]
    for i in range(p.A):
        w.g[i] = 0.0
        for k in range(G):
            w.g[i] += w.gate[G, k] * w.gate[k, i]
    w.made[G] = answer
    return answer


@jit
def _learn_gate(
    regret: Any, spread: Any, unit: float, made: float, answers: Any, count: int, y: float, f: float
) -> None:
    """Decayed linearised regrets of `count` answers against the gate's own answer `made`.

    In units of the gate's usual error; a wild target's regrets are in units of its own error, so that it weighs no
    more than a bad one and what rounding does to it stays small.
    """
    slope = _clip((made - y) / (0.5 * unit + 1e-300), 1.0)
    size = max(unit, abs(made - y) / Z_CLIP) + 1e-300
    for i in range(count):
        r = _clip(slope * (made - answers[i]) / size, Z_CLIP)
        regret[i] = f * regret[i] + r
        spread[i] = f * spread[i] + r * r


@jit
def _learn_moments(p: LearnerParams, s: LearnerState, w: Scratch, e: int, m: int, q: float) -> None:
    """S ← λS + ωxxᵀ, P ← λP + ωqx, then one Gauss–Seidel sweep on ½WᵀSW − PᵀW + ½ρ‖W‖².

    Only the residual R = P − SW is kept: with the new moments it is λR + ωx(q − W·x), and a step δ of one weight takes
    δ times that weight's row of S from it. So the sweep adds rows and never sums along one.
    """
    S, R, W, x = s.S[e, m], s.R[e, m], s.W[e, m], w.x
    decay, ridge = p.decay[m], p.ridge[m]
    weight = np.float32(min(1.0, p.huber[m] / (abs(q - w.q[m]) + 1e-12)))
    error = np.float32(q - w.q[m])
    for i in range(p.D):
        wx = weight * x[i]
        R[i] = decay * R[i] + wx * error
        row = S[i]
        for j in range(p.D):
            row[j] = decay * row[j] + wx * x[j]
    for i in range(p.D):
        row = S[i]
        step = (R[i] - ridge * W[i]) / (row[i] + ridge)
        W[i] += step
        for j in range(p.D):
            R[j] -= step * row[j]


@jit
def _learn_proximal(p: LearnerParams, s: LearnerState, w: Scratch, e: int, h: int, q: float) -> None:
    """W ← W + β clip(q − W·x, 3) x / (1 + ‖x‖²): implicit online gradient descent."""
    W, x = s.W[e, h], w.x
    size = np.float32(1.0) + _dot(x, x, p.D)
    step = p.step[h - p.M] * np.float32(_clip(q - w.q[h], 3.0)) / size
    for i in range(p.D):
        W[i] += step * x[i]


@jit
def learn(p: LearnerParams, s: LearnerState, w: Scratch, e: int, u: Any, y: float) -> None:
    """Learn target y of the event that `predict` has just answered (its scratch is used)."""
    n = s.n[e]
    base = w.scale[0]
    # An entity's first event has no past: as its own base it teaches no residual.
    residual = y - base if n > 0 or p.lags == 0 else 0.0
    if n > 0:
        size = w.scale[2] if w.scale[2] > 0.0 else max(abs(residual), 1e-300)
        q = _clip((residual - w.scale[1]) / size, Q_CLIP)
        for m in range(p.M):
            _learn_moments(p, s, w, e, m, q)
        for h in range(p.M, p.H):
            _learn_proximal(p, s, w, e, h, q)
        for k in range(G + 1):
            error = abs(w.made[k] - y)
            if s.unit[e, k] == 0.0:
                s.unit[e, k] = error
            if s.unit[e, k] > 0.0:
                if k == 0:
                    _learn_losses(s.regret[e, 0], s.unit[e, 0], w.a, p.A, y)
                elif k == 1:
                    _learn_gate(s.regret[e, 1], s.spread[e, 1], s.unit[e, 1], w.made[1], w.a, p.A, y, SLOW_DECAY)
                else:
                    _learn_gate(s.regret[e, k], s.spread[e, k], s.unit[e, k], w.made[k], w.made, G, y, TOP_DECAY)
            rate = max(0.02, 1.0 / (n + 2.0))
            s.unit[e, k] += rate * (min(error, WINSOR * s.unit[e, k]) - s.unit[e, k])
    _learn_statistics(p, s, w, e, u, y, residual)


@jit
def _learn_statistics(p: LearnerParams, s: LearnerState, w: Scratch, e: int, u: Any, y: float, residual: float) -> None:
    """Running means and variances (winsorised, so that one wild value cannot blind the entity for years), lags."""
    for j in range(p.F):
        if math.isnan(w.v[j]):
            continue
        count = s.v_count[e, j]
        rate = 1.0 / (count + 1.0)
        delta = w.v[j] - s.v_mean[e, j]
        if count > 30.0:
            delta = _clip(delta, WINSOR * math.sqrt(s.v_var[e, j]) + 1e-9 * abs(s.v_mean[e, j]) + 1e-300)
        s.v_mean[e, j] += rate * delta
        s.v_var[e, j] = (1.0 - rate) * (s.v_var[e, j] + rate * delta * delta)
        s.v_count[e, j] = min(count + 1.0, 1.0 / FLOOR_RATE - 1.0)
    n = s.n[e]
    rate = max(1.0 / (n + 1.0), FLOOR_RATE)
    off = y - s.target[e, 0]
    if n > 30:
        off = _clip(off, WINSOR * s.target[e, 3] + 1e-9 * abs(s.target[e, 0]) + 1e-300)
    s.target[e, 0] += rate * off
    if n > 0:
        s.target[e, 3] += rate * (abs(off) - s.target[e, 3])
    if n > 0 or p.lags == 0:
        rate = max(1.0 / (n + 1.0 - (p.lags > 0)), FLOOR_RATE)
        delta = residual - s.target[e, 1]
        if n > 30:
            delta = _clip(delta, WINSOR * math.sqrt(s.target[e, 2]) + 1e-9 * abs(s.target[e, 0]) + 1e-300)
        s.target[e, 1] += rate * delta
        s.target[e, 2] = (1.0 - rate) * s.target[e, 2] + rate * delta * delta
    if p.lags > 0:
        first = n == 0
        for k in range(p.lags - 1, 0, -1):
            s.y_last[e, k] = y if first else s.y_last[e, k - 1]
        s.y_last[e, 0] = y
    for j in range(p.features):
        if not math.isnan(u[j]):
            s.u_last[e, j] = u[j]
    s.n[e] = n + 1


@jit
def run(p: LearnerParams, s: LearnerState, w: Scratch, rows: Any, u: Any, y: Any, out: Any) -> None:
    """Predict then learn, in order: rows (n,) of the state, u (n, C), y (n,) with NaN where there is no target."""
    for t in range(len(y)):
        out[t] = predict(p, s, w, rows[t], u[t])
        if not math.isnan(y[t]):
            learn(p, s, w, rows[t], u[t], y[t])
