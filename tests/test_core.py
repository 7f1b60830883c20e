"""The native core at its boundary: the same bits on every instruction set, blocks and their views, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.core import ISA, blocks, detect, kernel, levels, lifecycle, native, novelty, shapes
from ssm_stream.core.features import FeaturePlan, calendar_columns
from ssm_stream.core.frozen_weights import untrained
from ssm_stream.core.shapes import Heads, Learner

PLAN = FeaturePlan(("a", "b", "c"), ("k",), ("auto",), lags=2)
PARAMS = shapes.learner_params(PLAN, untrained(), Heads(), K=16)


def made(p: shapes.LearnerParams = PARAMS, E: int = 3) -> Learner:
    return Learner(
        shapes.new_entities(p, E),
        shapes.new_pools(p, 1),
        shapes.new_heads(p, 1, "fleet"),
        shapes.new_heads(p, 1, "norm"),
    )


def events(n: int = 300, seed: int = 0) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    ts = 1_700_000_000_000 + 60_000 * np.arange(n, dtype=np.int64)
    cycles, steps = calendar_columns(PLAN, ts)
    x = np.hstack([rng.normal(size=(n, 3)), rng.integers(0, 3, (n, 1)), cycles])
    rows = rng.integers(0, 3, n)
    return np.zeros(n, np.int64), rows, np.ascontiguousarray(x), steps, ts, x[:, 0] + 0.1 * rng.normal(size=n)


def answers(state: Learner, seed: int = 0) -> bytes:
    given_ = events(seed=seed)
    out = np.empty(len(given_[-1]))
    assert kernel.run(PARAMS, state, shapes.new_scratch(PARAMS), *given_, 0, out) == (len(out), kernel.ENOUGH)
    return out.tobytes() + b"".join(array.tobytes() for group in state for array in group)


PROGRAM = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from ssm_stream.core import ISA
from test_core import answers, made
print(ISA, hashlib.sha256(answers(made())).hexdigest())
"""


@pytest.mark.parametrize("isa", native.isas())
def test_every_instruction_set_comes_to_the_same_bits(isa: str) -> None:
    environment = os.environ | {"SSM_STREAM_ISA": isa}
    command = [sys.executable, "-c", PROGRAM, os.path.dirname(__file__)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    best = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told == [isa, best[1]]


def test_an_instruction_set_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="SSM_STREAM_ISA: found v9, this machine and build have"):
        native.choose("v9")
    assert native.choose("x86-64-v3" if ISA == "v3" else ISA) == ISA


def test_a_group_is_views_on_one_block_without_overlap() -> None:
    size, fields = native.schema("pool", PARAMS, 0)
    taken = np.zeros(size, np.int64)
    for name, dtype, shape, strides, at in fields:
        index = np.zeros((), np.int64)
        for n, stride in zip(shape, strides, strict=True):
            index = index[..., None] + np.arange(n) * stride
        for byte in range(np.dtype(dtype).itemsize):
            np.add.at(taken, (at + index + byte).ravel(), 1)
        assert at + (index.max() if index.size else 0) < size + 1, name
    assert taken.max() == 1


def test_groups_share_a_block_or_have_one_each() -> None:
    entity = blocks.schema("entity", PARAMS)
    layout = blocks.layout(tuple, [])
    assert layout.size == 0
    block = blocks.empty_block(5, entity.size)
    view = blocks.views(shapes.EntityState, entity, block)
    view.W[3] = 1.0
    view.unit[:] = 7.0
    assert block[3].any()
    assert not view.v_mean.any()
    assert all(
        a.shape == b.shape and a.dtype == b.dtype for a, b in zip(view, shapes.new_entities(PARAMS, 5), strict=True)
    )


def bad(state: Learner, name: str, array: Any) -> Learner:
    return state._replace(entity=state.entity._replace(**{name: array}))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (bad(made(), "unit", np.zeros(3)), "entity.unit: found an array by itself"),
        (bad(made(), "unit", np.zeros(3, np.float32)), "entity.unit: found type f"),
        (bad(made(), "W", np.zeros((3, 1, 1), np.float32)), "entity.W: found shape"),
        (made(PARAMS._replace(K=8, L=PARAMS.L - 8, N=PARAMS.N - 8, X=PARAMS.X - 8)), "found shape"),
    ],
)
def test_arrays_of_other_types_and_shapes_are_refused(state: Learner, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        native.Learner(PARAMS, shapes.new_scratch(PARAMS), state)


def test_sizes_that_do_not_fit_each_other_are_refused() -> None:
    for change in ({"F": 99}, {"T": 3}, {"X": 3}, {"K": 257}, {"M": 3}, {"lags": -1}):
        with pytest.raises((TypeError, ValueError)):
            native.schema("entity", PARAMS._replace(**change), 0)


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [(0, 1, IndexError), (0, -1, IndexError), (1, 3, IndexError), (1, -1, IndexError), (3, 24, ValueError)],
)
def test_indices_out_of_range_are_refused(place: int, value: int, error: type[Exception]) -> None:
    given_ = list(events())
    given_[place] = given_[place].copy()
    given_[place][7] = value
    with pytest.raises(error):
        kernel.run(PARAMS, made(), shapes.new_scratch(PARAMS), *given_, 0, np.empty(300))


def test_columns_of_other_shapes_are_refused() -> None:
    for place, other in ((2, np.zeros((300, 2))), (4, np.zeros(3, np.int64)), (5, np.zeros(300, np.float32))):
        given_ = list(events())
        given_[place] = other
        with pytest.raises(TypeError):
            kernel.run(PARAMS, made(), shapes.new_scratch(PARAMS), *given_, 0, np.empty(300))
    with pytest.raises((TypeError, ValueError)):
        kernel.run(PARAMS, made(), shapes.new_scratch(PARAMS), *events(), 0, np.empty(299))
    with pytest.raises(ValueError, match="start"):
        kernel.run(PARAMS, made(), shapes.new_scratch(PARAMS), *events(), -1, np.empty(300))


def test_detectors_refuse_rows_that_are_not_there() -> None:
    with pytest.raises(IndexError):
        detect.observe(detect.new_detector_state(2), 2, 0.0, 100.0, False)
    with pytest.raises(IndexError):
        novelty.observe(novelty.new_novelty_state(2), -1, np.zeros(1), np.zeros(1), 100.0)
    with pytest.raises(TypeError):
        levels.observe(levels.new_levels_state(1, 3), 0, np.zeros(1), np.zeros((1, 5)), 100.0)
    rules = lifecycle.LifecycleRules(1, (1, 1), (0, 0), 10)
    with pytest.raises(IndexError):
        lifecycle.step(lifecycle.new_lifecycle_state(1), 0, 2, 0, 0.0, 2.0, True, False, rules)


def test_errors_in_a_row_are_heard_as_one_by_one() -> None:
    errors = np.random.default_rng(0).normal(size=2000)
    alone, together = detect.new_detector_state(1), detect.new_detector_state(1)
    one = [detect.observe(alone, 0, float(e), 300.0, False) for e in errors]
    assert detect.observe_all(together, 0, errors, 300.0, False).tolist() == one


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_no_bytes_upset_the_reader(values: list[bytes]) -> None:
    reader, n = native.Reader([b"e", b"t", b"y", b"a.b", b"c"], 1, 4), len(values)
    time, target, features = np.empty(n), np.empty(n), np.empty((n, 2))
    for begin in (b"", b'{"e":"m","t":1,"c":', b'{"e":"m","t":1,"a":{"b":', b'{"e":"m","t":1,"'):
        reader.read([begin + value for value in values], None, time, target, features)


def test_the_reader_and_the_writer_check_what_they_are_given() -> None:
    time, target, features = np.empty(1), np.empty(1), np.empty((1, 1))
    reader, message = native.Reader([b"e", b"t", b"y", b"a"], 1, 4), [b'{"e":"m","t":1}']
    assert reader.read(message, None, time, target, features) == (["m"], None)
    for wrong in (np.empty(2), np.empty(1, np.float32), np.empty((1, 2))):
        with pytest.raises((TypeError, BufferError, ValueError)):
            reader.read(message, None, wrong, target, features)
        with pytest.raises((TypeError, BufferError, ValueError)):
            reader.read(message * 2, None, time, target, wrong)
    for paths, targets, categories in (
        ([b"e"], 0, 1),
        ([b"e", b"t"], 1, 2),
        ([b"e", b"t", b"e"], 0, 3),
        ([b"e", b"t"], -1, 2),
    ):
        with pytest.raises(ValueError, match=r"paths|categories"):
            native.Reader(paths, targets, categories)
    number, pieces = np.arange(2.0), [[b"{", b",", b"}"]]
    assert native.write_rows(pieces, ["a", 'b"\x01'], [number]) == [b'{"a",0.0}', b'{"b\\"\\u0001",1.0}']
    assert native.write_rows(pieces, ["a"], [[7, 8]]) == [b'{"a",7}']
    with pytest.raises(ValueError, match="fewer rows"):
        native.write_rows(pieces, ["a", "b", "c"], [number])
    with pytest.raises(ValueError, match="want a piece"):
        native.write_rows(pieces, ["a"], [number, number])
    with pytest.raises(ValueError, match="none"):
        native.write_rows([], ["a"], [number])
    for wrong in (np.empty(2, np.int32), np.empty((2, 2)), ["7"], [None]):
        with pytest.raises(TypeError):
            native.write_rows(pieces, ["a"], [wrong])
    with pytest.raises(TypeError):
        native.write_rows(pieces, [b"a"], [number])  # type: ignore[list-item]
    with pytest.raises(OverflowError):
        native.write_rows(pieces, ["a"], [[2**63]])
