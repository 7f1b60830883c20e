"""How kernels are compiled: what is changed of numba for it stays inside."""

from __future__ import annotations

import copy

import numba as nb
from numba.core import ir

from ssm_stream.kernels import jit


@jit.inlined
def _step(total: float, value: float) -> float:
    if value > 0.5:
        total += value
    else:
        total -= value
    return total


@nb.njit(inline="always")  # type: ignore[misc]  # as another program's
def _twice(value: float) -> float:
    other = value
    for _ in range(3):
        other = _step(other, value)
    return other


@jit.jit
def _whole(value: float) -> float:
    return _twice(_step(value, 0.25)) + _twice(value)


def test_functions_that_are_written_out_at_calls_do_what_they_say() -> None:
    """Several times in one function, one inside another."""

    def twice(value: float) -> float:
        other = value
        for _ in range(3):
            other += value if value > 0.5 else -value
        return other

    for value in (0.25, 0.75, 3.0):
        assert _whole(value) == twice(value - 0.25) + twice(value)


def test_a_copy_of_variables_is_one_again_after_inlining() -> None:
    _whole(1.0)
    loc = ir.Loc("f.py", 1)
    scope = ir.Scope(None, loc)
    scope.define("x", loc)
    copied = copy.deepcopy(scope)
    assert copied is not scope
    assert copied.localvars is not scope.localvars
    assert copied.get_exact("x").scope is copied
