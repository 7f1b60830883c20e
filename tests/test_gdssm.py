"""The layer is gradient descent: equalities in float64, and the two forms of the recurrence."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssm_stream.paper.gdssm import (
    GDSSM,
    ConstructedGDSSM,
    NonlinearGDSSM,
    centred_one_hot,
    constructed_tokens,
    last_state,
    pack_tokens,
    scan,
    windows,
)

EXACT = 1e-12

# f, N, m, B: more inputs than pairs and fewer, scalar and several targets, more targets than inputs, one of each.
SHAPES = [(10, 10, 10, 3), (10, 10, 1, 5), (3, 12, 2, 4), (5, 2, 5, 1), (2, 7, 4, 2), (1, 1, 1, 1), (1, 9, 1, 2)]


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(11)
    yield
    torch.set_default_dtype(before)


def task(f: int, N: int, m: int, B: int) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.rand(B, N, f) - 0.5
    return x, torch.randn(B, N, m), torch.rand(B, f) - 0.5


def descend(x: Tensor, y: Tensor, etas: list[float], N: int, W0: Tensor | None = None) -> Tensor:
    """Gradient descent by automatic differentiation of the loss itself; N divides, whatever the number of rows."""
    B, _, f = x.shape
    W = torch.zeros(B, y.shape[-1], f) if W0 is None else W0.expand(B, *W0.shape).clone()
    for eta in etas:
        W.requires_grad_(True)
        loss = ((x @ W.transpose(1, 2) - y) ** 2).sum() / (2 * N)
        (gradient,) = torch.autograd.grad(loss, W)
        W = (W - eta * gradient).detach()
    return W


def apply(W: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("bmf,bf->bm", W, x)


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize(("f", "N", "m", "B"), SHAPES)
def test_one_step_of_gradient_descent_and_its_jacobian(f, N, m, B):
    x, y, q = task(f, N, m, B)
    layer = GDSSM.gradient_descent(max(f, m), 1.7, N)
    W1 = descend(x, y, [1.7], N)
    assert error(layer(pack_tokens(x, y, q))[:, -1, -m:], apply(W1, q)) <= EXACT
    assert error(layer.predict_query(pack_tokens(x, y, q))[:, -m:], apply(W1, q)) <= EXACT
    for b in range(B):
        one = slice(b, b + 1)
        jacobian = torch.autograd.functional.jacobian(
            lambda query, one=one: layer(pack_tokens(x[one], y[one], query))[0, -1, -m:], q[one]
        )
        assert error(jacobian[:, 0], W1[b]) <= EXACT


@pytest.mark.parametrize(("f", "N", "m", "B"), SHAPES)
@pytest.mark.parametrize("steps", [1, 3])
def test_every_prefix_is_the_descent_on_its_own_pairs(f, N, m, B, steps):
    x, y, q = task(f, N, m, B)
    etas = [0.9 + 0.2 * j for j in range(steps)]
    predictions = GDSSM.gradient_descent(max(f, m), etas, N)(pack_tokens(x, y, q))
    following = torch.cat([x[:, 1:], q[:, None]], dim=1)
    for k in range(1, N + 1):
        W = descend(x[:, :k], y[:, :k], etas, N)
        assert error(predictions[:, k - 1, -m:], apply(W, following[:, k - 1])) <= EXACT


def test_later_tokens_do_not_change_earlier_predictions():
    x, y, q = task(4, 9, 2, 3)
    layer = GDSSM(4, steps=3)
    tokens = pack_tokens(x, y, q)
    changed = tokens.clone()
    changed[:, 11:] = torch.randn_like(changed[:, 11:])
    before, after = layer(tokens), layer(changed)
    assert error(before[:, :5], after[:, :5]) == 0.0
    assert error(before[:, 5:], after[:, 5:]) > 1e-3


@pytest.mark.parametrize(("f", "N", "m", "B"), SHAPES)
@pytest.mark.parametrize("K", range(1, 11))
def test_k_steps(f, N, m, B, K):
    x, y, q = task(f, N, m, B)
    rates = [1.3 - 0.1 * j for j in range(K)]
    layer = GDSSM.gradient_descent(max(f, m), rates, N)
    assert error(layer.predict_query(pack_tokens(x, y, q))[:, -m:], apply(descend(x, y, rates, N), q)) <= EXACT
    reversed_ = GDSSM.gradient_descent(max(f, m), rates[::-1], N)
    assert error(reversed_.predict_query(pack_tokens(x, y, q)), layer.predict_query(pack_tokens(x, y, q))) <= EXACT


def test_two_steps_in_closed_form():
    x, y, q = task(6, 8, 6, 4)
    G, S = torch.einsum("bnm,bnf->bmf", y, x) / 8, torch.einsum("bne,bnf->bef", x, x) / 8
    W2 = (1.1 + 0.6) * G - 1.1 * 0.6 * G @ S
    layer = GDSSM.gradient_descent(6, [1.1, 0.6], 8)
    assert error(layer(pack_tokens(x, y, q))[:, -1], apply(W2, q)) <= EXACT


@pytest.mark.parametrize(("f", "N", "m", "B"), SHAPES)
@pytest.mark.parametrize("K", [1, 2, 5])
def test_descent_from_w0(f, N, m, B, K):
    x, y, q = task(f, N, m, B)
    W0 = torch.randn(m, f)
    rates = [0.8] * K
    layer = GDSSM.gradient_descent(max(f, m), rates, N, W0=W0)
    tokens = pack_tokens(x, y, q)
    expected = apply(descend(x, y, rates, N, W0), q)
    assert error(layer(tokens)[:, -1, -m:], expected) <= EXACT
    assert error(layer.predict_query(tokens)[:, -m:], expected) <= EXACT
    assert error(layer.recurrent(tokens), layer(tokens)) <= EXACT


@pytest.mark.parametrize(("f", "N", "m", "B"), SHAPES)
def test_constructed_tokens(f, N, m, B):
    x, y, q = task(f, N, m, B)
    predictions = ConstructedGDSSM(f, m, 1.7, N)(constructed_tokens(x, y, q))
    assert error(predictions, GDSSM.gradient_descent(max(f, m), 1.7, N)(pack_tokens(x, y, q))[..., -m:]) <= EXACT


@pytest.mark.parametrize(("f", "N", "classes", "B"), [(10, 10, 10, 3), (4, 20, 2, 2), (3, 6, 7, 4)])
def test_one_cross_entropy_step(f, N, classes, B):
    x, _, q = task(f, N, 1, B)
    labels = torch.randint(classes, (B, N))
    W = torch.zeros(B, classes, f, requires_grad=True)
    logits = torch.einsum("bmf,bnf->bnm", W, x)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / N
    (gradient,) = torch.autograd.grad(loss, W)
    layer = GDSSM.gradient_descent(max(f, classes), 2.3, N)
    predictions = layer(pack_tokens(x, centred_one_hot(labels, classes), q))
    assert error(predictions[:, -1, -classes:], apply(-2.3 * gradient, q)) <= EXACT


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999, 1.0])
def test_decay_is_the_explicit_decayed_sum(decay):
    x, y, q = task(5, 11, 3, 4)
    layer = GDSSM.gradient_descent(5, 1.7, 11, decay=decay)
    age = torch.arange(10, -1, -1)
    W = 1.7 / 11 * torch.einsum("n,bnm,bnf->bmf", decay**age, y, x)
    assert error(layer(pack_tokens(x, y, q))[:, -1, -3:], apply(W, q)) <= EXACT
    assert error(layer.predict_query(pack_tokens(x, y, q))[:, -3:], apply(W, q)) <= EXACT


@pytest.mark.parametrize(("f", "N", "m", "B"), SHAPES)
@pytest.mark.parametrize("steps", [1, 4])
def test_recurrent_and_parallel_forms_agree_with_their_gradients(f, N, m, B, steps):
    tokens = pack_tokens(*task(f, N, m, B))
    layer = GDSSM(tokens.shape[-1], steps)
    gradients, outputs = [], []
    for form in (layer.forward, layer.recurrent):
        layer.zero_grad()
        inputs = tokens.clone().requires_grad_(True)
        out = form(inputs)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        outputs.append(out)
        # A single event never meets the decay: no gradient there is a gradient of zero.
        gradients.append([t.new_zeros(t.shape) if t.grad is None else t.grad for t in [inputs, *layer.parameters()]])
    assert error(*outputs) <= EXACT
    assert error(layer.predict_query(tokens), outputs[0][:, -1]) <= EXACT
    for parallel, recurrent in zip(*gradients, strict=True):
        assert error(parallel, recurrent) <= EXACT * max(1.0, float(recurrent.abs().max()))


@given(
    N=st.integers(1, 40),
    shape=st.sampled_from([(), (1,), (2, 3)]),
    decay=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_scan_is_the_recurrence(N, shape, decay, seed):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(2, N, *shape, generator=generator, dtype=torch.float64)
    rate = torch.full(shape, decay, dtype=torch.float64)
    z, states = torch.zeros_like(u[:, 0]), []
    for k in range(N):
        z = rate * z + u[:, k]
        states.append(z)
    assert error(scan(u, rate), torch.stack(states, 1)) <= EXACT
    assert error(last_state(u, rate), z) <= EXACT


def test_decay_of_a_random_layer_starts_in_its_range_and_stays_below_one():
    head = GDSSM(20).heads[0][0]
    assert math.exp(-0.05) <= float(head.decay.min())
    assert float(head.decay.max()) <= math.exp(-0.0005)
    with torch.no_grad():
        head.log_step.add_(torch.randn_like(head.log_step) * 10)
    assert float(head.decay.max()) <= 1.0


def test_training_from_the_construction_has_finite_gradients():
    layer = GDSSM.gradient_descent(4, [1.0, 1.0], 6)
    layer.predict_query(pack_tokens(*task(4, 6, 4, 3))).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_the_recurrent_state_does_not_grow_with_the_sequence():
    layer = GDSSM(3, steps=2)
    state = layer.initial_state(2)
    sizes = set()
    for window in windows(pack_tokens(*task(3, 30, 1, 2))).unbind(1):
        _, state = layer.step(state, window)
        sizes.add(sum(Z.numel() for part in state for Z in part))
    assert sizes == {3 * 2 * 3 * 3}


def test_state_dict_round_trip_keeps_the_predictions():
    tokens = pack_tokens(*task(3, 5, 2, 2))
    layer, other = GDSSM(3, steps=2), GDSSM(3, steps=2)
    other.load_state_dict(layer.state_dict())
    assert error(layer(tokens), other(tokens)) == 0.0


@pytest.mark.parametrize("hidden", [0, 7])
def test_nonlinear_form_reads_the_query_as_its_last_prediction(hidden):
    model = NonlinearGDSSM(token=1, width=6, outputs=1, hidden=hidden)
    tokens = pack_tokens(*task(1, 8, 1, 3))
    assert error(model.predict_query(tokens), model(tokens)[:, -1]) <= EXACT


@pytest.mark.parametrize("length", [1, 2, 4])
def test_windows_need_whole_pairs_and_a_query(length):
    with pytest.raises(ValueError, match="2N\\+1"):
        windows(torch.zeros(2, length, 3))


@pytest.mark.parametrize("decay", [0.0, -0.1, 1.5])
def test_construction_refuses_a_decay_outside_its_range(decay):
    with pytest.raises(ValueError, match="decay"):
        GDSSM.gradient_descent(3, 1.0, 5, decay=decay)
