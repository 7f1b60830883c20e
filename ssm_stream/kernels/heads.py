"""The heads: each a linear state that an event updates by a gradient step, and that the next event's inputs read.

All work on one pool's (or entity's) arrays and on standardised targets q. D inputs are in use; rows of inputs and
weights are zero from there to the next whole vector step, n (`whole`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssm_stream.kernels import simd
from ssm_stream.kernels.inputs import clip
from ssm_stream.kernels.jit import inner
from ssm_stream.kernels.shapes import BATCH_FROM, DEPTH, ERROR_CLIP, KEEP, LEVEL, PULL, PUSH, RIDGE

LEAST_LEVEL = 1e-9


@inner
def whole(D: int) -> int:
    """D rounded up to whole vector steps: beyond D, inputs and weights are zero."""
    return (D + simd.LANES - 1) // simd.LANES * simd.LANES


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
    S: Any, R: Any, W: Any, level: Any, x: Any, D: int, lead: int, heads: int, rate: Any, batch: Any, kept: Any,
    waiting: Any, k: int, most: int, others: Any,
) -> None:  # fmt: skip
    """S ← λS + ωxxᵀ, P ← λP + ωqx with ω = min(1, c/|e|), then one Gauss–Seidel sweep on ½WᵀSW − PᵀW + ½ρ‖W‖².

    Only the residual R = P − SW is kept: with the new moments it is λR + ωx(q − W·x), and a step δ of one weight takes
    δ times that weight's row of S from it. So the sweep adds rows and never sums along one, and S is read once. The
    weights of codes that are 0 are not swept. S and R stand for `level` times what is stored, so that rows decay
    without being touched.

    In a pool of several entities up to `most` events wait, and are swept with the next: S is read and written once for
    all of them. R knows of each at once, S when they are swept.

    S (heads, D, n), R, W (heads, n), level (heads,); rate (heads, RATES): what `moment_rate` says of each head's event
    lead: inputs before the codes; others (≥ codes,): room
    batch (BATCH, n), kept (heads, BATCH): inputs and ω of the events that wait; waiting (P,): how many
    """
    rows, width, n = S.shape[1], R.shape[1], whole(D)
    for m in range(heads):
        decay(S, R, level, kept, m, D, n, rate)
        simd.add(R, m * width, x, 0, rate[m, PULL], n)
    if wait(batch, kept, waiting, k, most, x, n, heads, rate):
        return
    more, held = 0, waiting[k]
    for j in range(lead, D):
        there = x[j] != 0.0
        for i in range(held):
            there = there or batch[i, j] != 0.0
        if there:
            others[more] = j
            more += 1
    for m in range(0, heads - 1, 2):
        at, row, of = m * rows * width, m * width, m * simd.RATES
        if held == 0:
            simd.sweep_two(S, at, R, row, W, row, x, rate, of, width, rows, lead, others, more, n)
        else:
            simd.sweep_two_batch(
                S, at, R, row, W, row, x, rate, of, width, rows, lead, others, more, n, batch, kept, m * simd.BATCH,
                width,
            )  # fmt: skip
    if heads % 2:
        m = heads - 1
        at, row, of = m * rows * width, m * width, m * simd.RATES
        if held == 0:
            simd.sweep(S, at, R, row, W, row, x, rate, of, width, rows, lead, others, more, n)
        else:
            simd.sweep_batch(
                S, at, R, row, W, row, x, rate, of, width, rows, lead, others, more, n, batch, kept, m * simd.BATCH,
                width,
            )  # fmt: skip
    if held > 0:
        swept(kept, waiting, k, heads)


@inner
def decay(S: Any, R: Any, level: Any, kept: Any, m: int, D: int, n: int, rate: Any) -> None:
    """The level of state m sinks by λ, and ω and ωe of its event are put in what is stored.

    Long before a level is too small for its numbers, S, R and what waits take it over.
    """
    now = (level[m] if level[m] > 0.0 else 1.0) * rate[m, KEEP]
    if now < LEAST_LEVEL:
        for i in range(D):
            for j in range(n):
                S[m, i, j] *= now
        for j in range(n):
            R[m, j] *= now
        for i in range(simd.BATCH):
            kept[m, i] *= now
        now = 1.0
    level[m] = now
    rate[m, LEVEL] = level[m]
    rate[m, PUSH] /= level[m]
    rate[m, PULL] /= level[m]


@inner
def may_wait(window: int, entities: int, n: int) -> int:
    """Events that may wait to be swept with a later one, in a pool of so many entities that has learned n events.

    None of an entity's own, on average, by the time of its next one. Beside the attention, sweeps cost little.
    """
    return min(entities - 1, simd.BATCH) if window == 0 and n >= BATCH_FROM else 0


@inner
def wait(batch: Any, kept: Any, waiting: Any, k: int, most: int, x: Any, n: int, heads: int, rate: Any) -> bool:
    """Put the event with those that wait, if it may; else it is to be swept with them."""
    i = waiting[k]
    if i >= most:
        return False
    for j in range(n):
        batch[i, j] = x[j]
    for m in range(heads):
        kept[m, i] = rate[m, PUSH]
    waiting[k] = i + 1
    return True


@inner
def swept(kept: Any, waiting: Any, k: int, heads: int) -> None:
    """No event waits any more."""
    waiting[k] = 0
    for m in range(heads):
        for i in range(simd.BATCH):
            kept[m, i] = 0.0


@inner
def moment_rate(rate: Any, m: int, keep: float, ridge: Any, huber: Any, error: float) -> None:
    """Constants of head m for an event that it missed by `error`: λ, ω, ρ and ωe."""
    weight = np.float32(min(1.0, huber / (abs(error) + 1e-12)))
    rate[m, KEEP], rate[m, PUSH], rate[m, PULL] = np.float32(keep), weight, weight * np.float32(error)
    rate[m, RIDGE] = ridge


@inner
def learn_gradient(W: Any, at: int, x: Any, n: int, step: float, error: float, size: Any) -> None:
    """W ← W + β clip(e, ±3) x / ‖x‖²: implicit online gradient descent. W: the row that begins at place `at`."""
    simd.add(W, at, x, 0, np.float32(step * clip(error, ERROR_CLIP)) / size, n)


@inner
def embed(phi: Any, x: Any, slots: Any, count: int, numbers: int, omega: Any, phase: Any) -> None:
    """φ = cos 2π(Ωᵀx + phase), (R,) from the numbers x[1:numbers + 1] and the codes."""
    R = len(phase)
    for r in range(R):
        phi[r] = phase[r]
    simd.weigh(phi, 0, x, 1, omega, 0, numbers, R, R)
    for i in range(count):
        simd.add(phi, 0, omega, (numbers + slots[i]) * R, np.float32(1.0), R)
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
def learn_direct(P: Any, x: Any, n: int, decay: float, q: float) -> None:
    """P ← λP + (1 − λ) q x: the paper's layer with decay, one gradient step from zero weights on the decayed mean."""
    simd.decay_add(P, 0, np.float32(decay), x, 0, np.float32((1.0 - decay) * q), n)
