"""Excitation: rank, condition, dead and collinear columns of inputs whose directions are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.core.excitation import measure_excitation

RNG = np.random.default_rng(0)
N = 1500


def columns(**named: object) -> tuple[np.ndarray, list[str]]:
    return np.stack([np.broadcast_to(np.asarray(values, np.float64), N) for values in named.values()], 1), list(named)


A, B, C = RNG.normal(size=(3, N))


def test_independent_inputs_have_full_rank_soon() -> None:
    found = measure_excitation(*columns(a=A, b=B, c=C), decay=0.999)
    assert found.full
    assert (found.rank, found.dead, found.collinear) == (3, (), ())
    assert found.full_after == 4  # a mean and three directions
    assert found.condition < 1.3


def test_scale_and_offset_of_a_column_do_not_matter() -> None:
    plain = measure_excitation(*columns(a=A, b=B))
    scaled = measure_excitation(*columns(a=1e-9 * A + 5, b=1e12 * B - 1e13))
    assert scaled.rank == plain.rank == 2
    assert scaled.condition == pytest.approx(plain.condition, rel=1e-4)


def test_dead_and_collinear_columns_are_named_with_those_that_hold_them() -> None:
    found = measure_excitation(*columns(a=A, b=B, still=1e6 + 0.1, copy=1.8 * A + 32, both=A + B, near=B + 0.05 * C))
    assert found.dead == ("still",)
    assert (found.rank, found.inputs, found.full_after) == (3, 6, None)
    exact = {each.column: set(each.others) for each in found.collinear if each.exact}
    assert set(exact) == {"copy", "both"}
    assert exact["copy"] == {"a"}
    (near,) = [each for each in found.collinear if not each.exact]
    assert (near.column, near.others) == ("near", ("b",))
    assert 0.001 < near.left < 0.01
    content = found.as_json()
    assert content["collinear"][0]["exact"] is True
    assert all(value is None or math.isfinite(value) for value in content["conditions"])


def test_column_that_stands_still_for_long_is_forgotten() -> None:
    late = np.where(np.arange(N) < 300, A, A[299])
    found = measure_excitation(*columns(late=late, b=B), decay=0.95)
    assert found.full_after == 3
    assert (found.highest, found.rank, found.dead) == (2, 1, ("late",))


def test_unknown_values_and_empty_recordings_are_no_error() -> None:
    holes = A.copy()
    holes[::3] = np.nan
    assert measure_excitation(*columns(a=holes, b=B)).rank == 2
    unknown = measure_excitation(*columns(a=np.full(N, np.nan), b=B))
    assert (unknown.rank, unknown.dead) == (1, ("a",))
    empty = measure_excitation(np.zeros((0, 2)), ["a", "b"])
    assert (empty.rank, empty.full_after, empty.highest_after) == (0, None, 0)
    assert empty.as_json()["condition"] is None


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 3), st.integers(0, 1000))
def test_rank_is_that_of_the_directions(own: int, mixed: int, dead: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(200, own))
    sums = base @ rng.uniform(0.5, 2.0, (own, mixed))
    x = np.hstack([base, sums, np.full((200, dead), 3.0)])
    found = measure_excitation(x, [f"x{j}" for j in range(x.shape[1])])
    assert found.rank == own
    assert len(found.dead) == dead
    assert sum(each.exact for each in found.collinear) == mixed
