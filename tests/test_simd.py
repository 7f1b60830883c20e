"""The vector loops of the kernels do what their docstrings say, for every length, and side by side as one by one."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssm_stream.model import simd

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
def swept(S: Any, R: Any, W: Any, x: Any, rate: Any, D: int, n: int, both: bool) -> None:
    rows, width = S.shape[1], R.shape[1]
    if both:
        simd.sweep_two(S, 0, R, 0, W, 0, x, rate, 0, width, rows, D, n)
    else:
        simd.sweep(S, 0, R, 0, W, 0, x, rate, 0, width, rows, D, n)
        simd.sweep(S, rows * width, R, width, W, width, x, rate, simd.RATES, width, rows, D, n)


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
@settings(max_examples=40, deadline=None)
@given(D=st.integers(1, 70), spare=st.integers(0, 2), seed=st.integers(0, 1000))
def test_a_sweep_is_one_exact_step_a_weight(dtype: Any, D: int, spare: int, seed: int) -> None:
    """Against the plain loop, two states side by side against one after the other, and no touch of what lies beside."""
    rng, step = np.random.default_rng(seed), lanes(dtype)
    n = simd.padded(D, step)
    rows, width = D + spare, n + spare * step
    S, R, W = np.zeros((2, rows, width), dtype), np.zeros((2, width), dtype), np.zeros((2, width), dtype)
    for m in range(2):
        A = rng.normal(size=(D, D))
        S[m, :D, :D], R[m], W[m] = A @ A.T, row(rng, D, width, dtype), row(rng, D, width, dtype)
    S[:, D:] = R[:, n:] = W[:, n:] = 7.0
    x, rate = row(rng, D, width, dtype), np.array([[0.99, 0.7, 1.5, 0.0], [0.9, 0.3, 20.0, 0.0]], dtype)
    both, apart = (S.copy(), R.copy(), W.copy()), (S.copy(), R.copy(), W.copy())
    swept(*both, x, rate, D, n, True)
    swept(*apart, x, rate, D, n, False)
    for one, other in zip(both, apart, strict=True):
        np.testing.assert_array_equal(one, other)
    S, R, W = S.astype(float), R.astype(float), W.astype(float)
    for m, (keep, push, ridge, _) in enumerate(rate.astype(float)):
        S[m, :D, :n] = keep * S[m, :D, :n] + push * np.outer(x[:D], x[:n])
        for i in range(D):
            delta = (R[m, i] - ridge * W[m, i]) / (S[m, i, i] + ridge)
            W[m, i] += delta
            R[m, :n] -= delta * S[m, i, :n]
    far = 1e-4 if dtype == np.float32 else 1e-12
    for one, other in zip(both, (S, R, W), strict=True):
        np.testing.assert_allclose(one, other, rtol=far, atol=far * max(1.0, float(np.abs(other).max())))


def test_rows_are_padded_to_whole_steps() -> None:
    assert [simd.padded(n) for n in (0, 1, 16, 17, 53)] == [0, 16, 16, 32, 64]
    assert [simd.padded(n, 8) for n in (1, 8, 27)] == [8, 8, 32]
