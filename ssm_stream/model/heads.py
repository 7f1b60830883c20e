"""The heads: each a linear state that an event updates by a gradient step, and that the next event's inputs read.

All work on one pool's (or entity's) arrays, cut to the D inputs in use, and on standardised targets q.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssm_stream.model.inputs import clip
from ssm_stream.model.jit import inner
from ssm_stream.model.shapes import DEPTH, ERROR_CLIP


@inner
def dot(a: Any, b: Any, D: int) -> Any:
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


@inner
def decline(weights: Any, count: int) -> None:
    """d → (1 − d/256)²⁵⁶ where d < 256, else 0, in place: exp(−d) within 2 % up to d = 2, in eight multiplications."""
    for i in range(count):
        t = max(np.float32(1.0) - weights[i] * np.float32(1 / 256), np.float32(0.0))
        t = t * t
        t = t * t
        t = t * t
        t = t * t
        t = t * t
        t = t * t
        t = t * t
        weights[i] = t * t


@inner
def learn_moments(
    S: Any, R: Any, W: Any, x: Any, D: int, decay: float, ridge: float, huber: float, error: float
) -> None:
    """S ← λS + ωxxᵀ, P ← λP + ωqx with ω = min(1, c/|e|), then one Gauss–Seidel sweep on ½WᵀSW − PᵀW + ½ρ‖W‖².

    Only the residual R = P − SW is kept: with the new moments it is λR + ωx(q − W·x), and a step δ of one weight takes
    δ times that weight's row of S from it. So the sweep adds rows and never sums along one, and S is read once.
    """
    weight = np.float32(min(1.0, huber / (abs(error) + 1e-12)))
    lam, e, r = np.float32(decay), np.float32(error), np.float32(ridge)
    for i in range(D):
        R[i] = lam * R[i] + weight * x[i] * e
    for i in range(D):
        row, wx = S[i], weight * x[i]
        # Off the chain from weight to weight, so that the division does not wait for the sweep.
        inverse = np.float32(1.0) / (lam * row[i] + wx * x[i] + r)
        if wx == 0.0:
            for j in range(D):
                row[j] = lam * row[j]
        else:
            for j in range(D):
                row[j] = lam * row[j] + wx * x[j]
        step = (R[i] - r * W[i]) * inverse
        W[i] += step
        for j in range(D):
            R[j] -= step * row[j]


@inner
def learn_gradient(W: Any, x: Any, D: int, step: float, error: float, size: Any) -> None:
    """W ← W + β clip(e, ±3) x / ‖x‖²: implicit online gradient descent."""
    rate = np.float32(step * clip(error, ERROR_CLIP)) / size
    for i in range(D):
        W[i] += rate * x[i]


@inner
def embed(phi: Any, x: Any, slots: Any, count: int, numbers: int, omega: Any, phase: Any) -> None:
    """φ = cos 2π(Ωᵀx + phase), (R,) from the numbers x[1:numbers + 1] and the codes."""
    R = len(phase)
    for r in range(R):
        phi[r] = phase[r]
    for j in range(numbers):
        z = x[1 + j]
        if z != 0.0:
            row = omega[j]
            for r in range(R):
                phi[r] += z * row[r]
    for i in range(count):
        row = omega[numbers + slots[i]]
        for r in range(R):
            phi[r] += row[r]
    for r in range(R):
        # cos 2πf = 1 − 2 sin² πf, with f within a half turn; the sine by its series, to the last bit of a 32-bit float
        f = phi[r] - np.floor(phi[r] + np.float32(0.5))
        t = np.float32(np.pi) * f
        g = t * t
        sine = np.float32(-2.5052108e-8)
        sine = sine * g + np.float32(2.7557319e-6)
        sine = sine * g - np.float32(1.9841270e-4)
        sine = sine * g + np.float32(8.3333333e-3)
        sine = sine * g - np.float32(1.6666667e-1)
        sine = sine * g + np.float32(1.0)
        sine = sine * t
        phi[r] = np.float32(1.0) - np.float32(2.0) * sine * sine


@inner
def find_leaves(leaf: Any, x: Any, column: Any, cut: Any, trees: int) -> None:
    """The leaf of each random fern that the numbers fall into."""
    for k in range(trees):
        place = 0
        for i in range(DEPTH):
            place = 2 * place + (1 if x[1 + column[k, i]] > cut[k, i] else 0)
        leaf[k] = place


@inner
def sum_leaves(value: Any, leaf: Any, trees: int) -> Any:
    """What the ferns answer together."""
    a = b = c = d = np.float32(0.0)
    for k in range(0, trees, 4):
        a += value[k, leaf[k]]
        b += value[k + 1, leaf[k + 1]]
        c += value[k + 2, leaf[k + 2]]
        d += value[k + 3, leaf[k + 3]]
    return (a + b) + (c + d)


@inner
def learn_leaves(value: Any, count: Any, leaf: Any, trees: int, step: float, decay: float, error: float) -> None:
    """Each fern's leaf takes its share of the error, at a rate that falls with the leaf's decayed count."""
    share = np.float32(clip(error, ERROR_CLIP) / trees)
    keep, least, settled = np.float32(decay), np.float32(step), np.float32(4.0 / step)
    for k in range(trees):
        i = leaf[k]
        seen = keep * count[k, i] + np.float32(1.0)
        count[k, i] = seen
        if seen >= settled:
            value[k, i] += share * least
        else:
            value[k, i] += share * min(np.float32(1.0), np.float32(4.0) / seen)


@inner
def learn_direct(P: Any, x: Any, D: int, decay: float, q: float) -> None:
    """P ← λP + (1 − λ) q x: the paper's layer with decay, one gradient step from zero weights on the decayed mean."""
    keep, rate = np.float32(decay), np.float32((1.0 - decay) * q)
    for i in range(D):
        P[i] = keep * P[i] + rate * x[i]
