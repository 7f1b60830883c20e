"""The core's own exp, log and waves: within 2e-15 of the true values, on their whole range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssm_stream.core import native

BAR = 2e-15
RNG = np.random.default_rng(0)
NEAR_1 = 1 + RNG.normal(size=3000) * 10.0 ** RNG.uniform(-16, -1, 3000)
LOGS = np.concatenate([np.exp(RNG.uniform(-708, 709, 3000)), NEAR_1])
SIZES = np.exp(RNG.uniform(-40, 40, 3000))
SIGNED = np.concatenate([SIZES, -SIZES])
CASES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "log": (mpmath.log, LOGS),
    "log1p": (lambda x: mpmath.log(1 + mpmath.mpf(x)), SIZES),
    "exp": (mpmath.exp, RNG.uniform(-708, 709.7, 5000)),
    "expm1": (mpmath.expm1, np.clip(SIGNED, -700, 700)),
    "asinh": (mpmath.asinh, SIGNED),
    "exp2": (lambda x: mpmath.power(2, mpmath.mpf(x)), RNG.uniform(-1020, 1020, 5000)),
}


def of(name: str, x: Any) -> Any:
    x = np.ascontiguousarray(x, np.float64)
    out = np.empty(len(x))
    native.elementary(name, x, out)
    return out


@pytest.mark.parametrize("name", CASES)
def test_errors_are_below_the_bar(name: str) -> None:
    exact, x = CASES[name]
    x = x[x != 1.0]
    with mpmath.workdps(40):
        worst = max(abs((mpmath.mpf(found) - exact(at)) / exact(at)) for found, at in zip(of(name, x), x, strict=True))
    assert worst <= BAR


def test_bounds() -> None:
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(of("log", [0.0, -1.0, inf, nan, 1.0]), [-inf, nan, inf, nan, 0.0])
    np.testing.assert_allclose(of("log", [5e-324, 2e-310]), np.log([5e-324, 2e-310]), rtol=BAR)
    np.testing.assert_array_equal(of("exp", [-inf, -800.0, 0.0, 800.0, inf, nan]), [0.0, 0.0, 1.0, inf, inf, nan])
    np.testing.assert_allclose(of("exp", [-744.0, 709.78]), np.exp([-744.0, 709.78]), rtol=1e-2)
    np.testing.assert_array_equal(of("log1p", [0.0, inf, nan]), [0.0, inf, nan])
    np.testing.assert_array_equal(of("expm1", [-0.0, -800.0, inf, nan]), [0.0, -1.0, inf, nan])
    np.testing.assert_array_equal(of("asinh", [0.0, inf, -inf, nan]), [0.0, inf, -inf, nan])
    np.testing.assert_array_equal(of("exp2", [-3.0, 10.0, -2000.0, 2000.0, nan]), [0.125, 1024.0, 0.0, inf, nan])
    np.testing.assert_allclose(of("asinh", [1e200, 1e-300]), np.arcsinh([1e200, 1e-300]), rtol=BAR)


@given(st.floats(-4.0, 4.0))
def test_waves(turns: float) -> None:
    out = np.empty((1, 2))
    native.waves(np.array([turns]), out)
    with mpmath.workdps(40):
        angle = 2 * mpmath.pi * mpmath.mpf(turns)
        assert abs(out[0, 0] - mpmath.sin(angle)) < 4e-16
        assert abs(out[0, 1] - mpmath.cos(angle)) < 4e-16
