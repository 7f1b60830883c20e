"""The vector loops of the kernels do what their docstrings say, for every length, and side by side as one by one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssm_stream.kernels import simd

Floats = NDArray[Any]
TYPES = [np.float32, np.float64]


def compiled(function: Any) -> Any:
    return nb.njit(error_model="numpy", _nrt=False)(function)


@compiled
def dots(a: Any, b: Any, n: int) -> Any:
    return simd.dot(a, n, b, 0, n), simd.total(a, n, n), simd.least(a, n, n)


@compiled
def sums(y: Any, x: Any, b: Any, n: int) -> None:
    simd.add(y, 0, x, 0, b, n)
    simd.decay_add(y, n, b, x, 0, b, n)


@compiled
def weighed(y: Any, x: Any, rows: Any, count: int, width: int, n: int) -> None:
    simd.weigh(y, 0, x, 1, rows, 0, count, width, n)


@compiled
def swept(
    S: Any, R: Any, W: Any, x: Any, rate: Any, lead: int, others: Any, n: int, both: bool, before: Any, kept: Any
) -> None:
    """Both states at once, or one after the other; with events that have waited where there are any."""
    rows, width, more, none = S.shape[1], R.shape[1], len(others), len(before) == 0
    if both and none:
        simd.sweep_two(S, 0, R, 0, W, 0, x, rate, 0, width, rows, lead, others, more, n)
    elif both:
        simd.sweep_two_batch(
            S, 0, R, 0, W, 0, x, rate, 0, width, rows, lead, others, more, n, before, kept, 0, width
        )  # fmt: skip
    else:
        for m in range(2):
            at, row, of = m * rows * width, m * width, m * simd.RATES
            if none:
                simd.sweep(S, at, R, row, W, row, x, rate, of, width, rows, lead, others, more, n)
            else:
                simd.sweep_batch(
                    S, at, R, row, W, row, x, rate, of, width, rows, lead, others, more, n, before, kept,
                    m * simd.BATCH, width,
                )  # fmt: skip


def lanes(dtype: Any) -> int:
    return simd.STEP_BYTES // np.dtype(dtype).itemsize


def row(rng: np.random.Generator, D: int, width: int, dtype: Any) -> Floats:
    out = np.zeros(width, dtype)
    out[:D] = rng.normal(size=D)
    return out


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 9])
def test_sums_over_rows(dtype: Any, steps: int) -> None:
    rng, n = np.random.default_rng(steps), steps * lanes(dtype)
    close = {"rtol": 0.0, "atol": 200 * n * float(np.finfo(dtype).eps)}
    a, b = rng.normal(size=2 * n).astype(dtype), rng.normal(size=n).astype(dtype)
    dot, total, least = dots(a, b, n)
    np.testing.assert_allclose([dot, total], [a[n:] @ b, a[n:].sum()], **close)
    assert least == a[n:].min()
    y = rng.normal(size=2 * n).astype(dtype)
    after = y.copy()
    sums(after, b, dtype(0.3), n)
    np.testing.assert_allclose(after, np.concatenate([y[:n] + 0.3 * b, 0.3 * y[n:] + 0.3 * b]), **close)
    rows, x, out = rng.normal(size=(7, n + 3)).astype(dtype), rng.normal(size=8).astype(dtype), y[:n].copy()
    weighed(out, x, rows, 7, n + 3, n)
    np.testing.assert_allclose(out, y[:n] + x[1:] @ rows[:, :n], **close)


@pytest.mark.parametrize("dtype", TYPES)
@settings(max_examples=60, deadline=None)
@given(
    lead=st.integers(1, 70),
    codes=st.integers(0, 40),
    spare=st.integers(0, 2),
    waited=st.integers(-1, simd.BATCH),
    seed=st.integers(0, 1000),
)
def test_a_sweep_is_one_exact_step_a_weight(
    dtype: Any, lead: int, codes: int, spare: int, waited: int, seed: int
) -> None:
    """Against the plain loop over the moments that S stands for, to which each event is added; two states side by side
    against one after the other, and no touch of what lies beside or of a code that is 0. waited: −1 the plain kernel
    """
    rng, step, D = np.random.default_rng(seed), lanes(dtype), lead + codes
    n = simd.padded(D, step)
    rows, width = D + spare, n + spare * step
    S, R, W = np.zeros((2, rows, width), dtype), np.zeros((2, width), dtype), np.zeros((2, width), dtype)
    for m in range(2):
        A = rng.normal(size=(D, D))
        S[m, :D, :D], R[m], W[m] = A @ A.T, row(rng, D, width, dtype), row(rng, D, width, dtype)
    S[:, D:] = R[:, n:] = W[:, n:] = 7.0
    rate = np.array([[0.7, 1.5, 0.9, 0.0, 0.0], [0.3, 20.0, 0.02, 0.0, 0.0]], dtype)
    on = np.sort(rng.permutation(codes)[: rng.integers(0, codes + 1)]) + lead
    x, before = row(rng, D, width, dtype), np.zeros((simd.BATCH if waited >= 0 else 0, width), dtype)
    kept = np.zeros((2, simd.BATCH), dtype)
    for i in range(len(before)):
        before[i] = row(rng, D, width, dtype)  # of those that do not count, too
    kept[:, : max(waited, 0)] = rng.uniform(0.0, 1.0, (2, max(waited, 0)))
    for inputs in (x, *before):
        inputs[lead:D][~np.isin(np.arange(lead, D), on)] = 0.0
    both, apart = (S.copy(), R.copy(), W.copy()), (S.copy(), R.copy(), W.copy())
    swept(*both, x, rate, lead, on, n, True, before, kept)
    swept(*apart, x, rate, lead, on, n, False, before, kept)
    for one, other in zip(both, apart, strict=True):
        np.testing.assert_array_equal(one, other)
    S, R, W = S.astype(float), R.astype(float), W.astype(float)
    for m, (push, ridge, level, *_) in enumerate(rate.astype(float)):
        events = [(push, x), *zip(kept[m], before, strict=False)]
        for weight, inputs in events:
            S[m, :D, :n] += float(weight) * np.outer(inputs[:D], inputs[:n]).astype(float)
        for i in [*range(lead), *on.tolist()]:
            delta = (level * R[m, i] - ridge * W[m, i]) / (level * S[m, i, i] + ridge)
            W[m, i] += delta
            R[m, :n] -= delta * S[m, i, :n]
    far = 1e-4 if dtype == np.float32 else 1e-12
    for one, other in zip(both, (S, R, W), strict=True):
        np.testing.assert_allclose(one, other, rtol=far, atol=far * max(1.0, float(np.abs(other).max())))


class Inner(NamedTuple):
    one: Any
    none: Any


class Outer(NamedTuple):
    wide: Any
    inner: Inner


@compiled
def prefetched(groups: Any, row: int) -> None:
    simd.prefetch(groups, row)


def test_a_row_may_be_asked_for_wherever_it_is() -> None:
    """It changes nothing, and no address is refused: what is asked for need not be there."""
    inner = Inner(np.arange(6.0).reshape(3, 2), np.zeros((0, 4), np.float32))
    groups = Outer(np.ones((3, 1000), np.uint8), inner)
    for row in (0, 2, 3, -1, 1 << 40):
        prefetched(groups, row)
    assert groups.inner.one.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert groups.wide.all()


def test_rows_are_padded_to_whole_steps() -> None:
    assert [simd.padded(n) for n in (0, 1, 16, 17, 53)] == [0, 16, 16, 32, 64]
    assert [simd.padded(n, 8) for n in (1, 8, 27)] == [8, 8, 32]
