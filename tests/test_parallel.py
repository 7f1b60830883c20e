"""Chunks of events are the recurrence, event by event: to rounding, from any state, for any chunk, clipped or not."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssm_stream.core.shapes import ERROR_CLIP
from ssm_stream.paper.parallel import Learned, decayed_moments, decayed_sums, delta_rule, descend, proximal_steps
from ssm_stream.reference import heads

EXACT = {torch.float64: 1e-10, torch.float32: 2e-3}


class Case(NamedTuple):
    x: Tensor
    q: Tensor
    weight: Tensor
    start: Tensor
    decay: float
    chunk: int


def inputs(kind: str, B: int, N: int, D: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Inputs with a constant first: random, nearly copies of each other, far apart in size, or hardly moving."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(B, N, D, generator=g, dtype=torch.float64)
    if kind == "collinear":
        x = x[..., :1] + 1e-7 * x
    elif kind == "large":
        x = x * 10.0 ** torch.randint(-3, 4, (B, N, 1), generator=g)
    elif kind == "still":
        x = x[:, :1] + 1e-3 * x
    x[..., 0] = 1.0
    return x.to(dtype)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Lengths are mostly no multiples of the chunk; with decay 1 nothing is forgotten."""
    B, D = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    N = draw(st.sampled_from([1, 2, 17, 64, 200, 531]))
    dtype = draw(st.sampled_from([torch.float64, torch.float64, torch.float32]))
    seed = draw(st.integers(0, 1000))
    x = inputs(draw(st.sampled_from(["random", "collinear", "large", "still"])), B, N, D, seed, dtype)
    g = torch.Generator().manual_seed(seed + 1)
    q, weight, start = (torch.randn(*size, generator=g, dtype=torch.float64) for size in ((B, N), (B, N), (B, D)))
    decay = draw(st.sampled_from([0.9, 0.97, 0.999, 1.0]))
    return Case(
        x, q.to(dtype), weight.abs().to(dtype), start.to(dtype), decay, draw(st.sampled_from([1, 2, 7, 64, 512]))
    )


def assert_equal(found: Tensor, expected: Tensor, *like: Tensor) -> None:
    """To a share of the largest number: sums of terms that cancel have no better one."""
    scale = max([1e-30, *(float(part.abs().max()) for part in like if part.numel())])
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() if found.numel() else 0.0) <= EXACT[found.dtype] * scale


def rule(c: Case, steps: Tensor, clip: float) -> Learned:
    """W ← λW + b clip(q − W·x) x, one event after another."""
    W, said = c.start, []
    for t in range(c.q.shape[1]):
        said.append((W * c.x[:, t]).sum(1))
        e = (c.q[:, t] - said[-1]).clamp(-clip, clip)
        W = c.decay * W + (steps[:, t] * e)[:, None] * c.x[:, t]
    return Learned(torch.stack(said, 1), W, 0)


@settings(max_examples=80, deadline=None)
@given(cases())
def test_decayed_sums_are_the_recurrence(c: Case) -> None:
    """What every event reads, and the last state; then the moments of the heads."""
    v = torch.stack([c.q, c.weight], 2)
    start = torch.stack([c.start, 0 * c.start], 1)
    Z, read, largest = start, [], start.abs().amax()
    for t in range(c.q.shape[1]):
        read.append((Z * c.x[:, t, None]).sum(2))
        Z = c.decay * Z + v[:, t, :, None] * c.x[:, t, None, :]
        largest = torch.maximum(largest, Z.abs().amax())
    found, end = decayed_sums(v, c.x, c.decay, start, c.x, c.chunk)
    assert_equal(found, torch.stack(read, 1), largest * c.x.norm(dim=2).max())
    assert_equal(end, Z, largest)

    S, P = torch.zeros(len(c.q), c.x.shape[2], c.x.shape[2], dtype=c.q.dtype), c.start
    for t in range(c.q.shape[1]):
        x = c.weight[:, t, None] * c.x[:, t]
        S = c.decay * S + x[:, :, None] * c.x[:, t, None]
        P = c.decay * P + x * c.q[:, t, None]
    moments = decayed_moments(c.x, c.q, c.weight, c.decay, torch.zeros_like(S), c.start)
    assert_equal(moments[0], S, S)
    assert_equal(moments[1], P, c.q.abs().max() * S)


@settings(max_examples=80, deadline=None)
@given(cases(), st.sampled_from(["delta", "proximal", "slow"]), st.sampled_from([math.inf, 3.0, 0.5, 0.0]))
def test_the_delta_rule_is_the_recurrence(c: Case, kind: str, clip: float) -> None:
    """β/(1 + ‖x‖²) and β/‖x‖²; unclipped, a few clipped, most clipped, all."""
    steps = {
        "delta": 1.0 / (1.0 + c.x.square().sum(2)),
        "proximal": proximal_steps(c.x, 0.9),
        "slow": proximal_steps(c.x, 0.05),
    }[kind]
    found, expected = delta_rule(c.x, c.q, steps, c.start, c.decay, clip, c.chunk), rule(c, steps, clip)
    assert_equal(found.said, expected.said, expected.said, c.q)
    assert_equal(found.W, expected.W, expected.W, c.start, c.q)
    if clip == math.inf:
        assert found.clipped == 0
    elif c.q.dtype == torch.float64:
        assert found.clipped == int(((c.q - expected.said).abs() > clip).sum())


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(0, 531))
def test_a_state_is_taken_up_again(c: Case, cut: int) -> None:
    """Two parts are the whole, wherever it is cut."""
    cut = min(cut, c.q.shape[1])
    steps = proximal_steps(c.x, 0.3)
    whole = delta_rule(c.x, c.q, steps, c.start, c.decay, ERROR_CLIP, c.chunk)
    first = delta_rule(c.x[:, :cut], c.q[:, :cut], steps[:, :cut], c.start, c.decay, ERROR_CLIP, c.chunk)
    second = delta_rule(c.x[:, cut:], c.q[:, cut:], steps[:, cut:], first.W, c.decay, ERROR_CLIP, c.chunk)
    assert_equal(torch.cat([first.said, second.said], 1), whole.said, whole.said, c.q)
    assert_equal(second.W, whole.W, whole.W, c.start, c.q)


def test_they_are_the_heads_of_the_learner() -> None:
    """The proximal and the `gd` head of the torch definition, with outliers beyond the clip."""
    x = inputs("random", 2, 1500, 6, 3, torch.float64)
    q = (x @ torch.arange(6.0, dtype=torch.float64)) / 4 + torch.randn(2, 1500, dtype=torch.float64).pow(3) / 3
    step = torch.tensor([0.3], dtype=torch.float64)
    W, said = torch.zeros(2, 1, 6, dtype=torch.float64), []
    for t in range(1500):
        said.append((W * x[:, t, None]).sum(2))
        W = heads.learn_gradient(W, x[:, t], step, q[:, t, None] - said[-1])
    found = delta_rule(x, q, proximal_steps(x, 0.3), torch.zeros(2, 6, dtype=torch.float64), clip=ERROR_CLIP)
    assert found.clipped > 20
    assert_equal(found.said, torch.cat(said, 1), q)
    assert_equal(found.W, W[:, 0], q)

    direct = torch.zeros(2, 6, dtype=torch.float64)
    answers = []
    for t in range(1500):
        answers.append((direct * x[:, t]).sum(1))
        direct = 0.97 * direct + (1 - 0.97) * (q[:, t, None] * x[:, t])
    head = descend(x, q, 1 - 0.97, 0.97, torch.zeros(2, 6, dtype=torch.float64))
    assert_equal(head.said, torch.stack(answers, 1), q)
    assert_equal(head.W, direct, q)


def test_long_histories_take_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssm_stream.paper.parallel.NUMBERS", 5000)
    x = inputs("random", 1, 3001, 4, 5, torch.float64)
    c = Case(x, x.sum(2), x[..., 0], torch.zeros(1, 4, dtype=torch.float64), 0.999, 16)
    steps = proximal_steps(x, 0.3)
    assert_equal(delta_rule(x, c.q, steps, c.start, c.decay, chunk=16).said, rule(c, steps, math.inf).said, c.q)


def test_no_events_change_nothing_and_a_chunk_of_none_is_refused() -> None:
    x, W = torch.zeros(2, 0, 3), torch.ones(2, 3)
    found = delta_rule(x, x[..., 0], x[..., 0], W, 0.9)
    assert found.said.shape == (2, 0)
    assert torch.equal(found.W, W)
    with pytest.raises(ValueError, match="chunk: found 0"):
        delta_rule(x, x[..., 0], x[..., 0], W, chunk=0)
