"""The layer against explicit gradient descent, in float64: equalities, not approximations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssm_stream.evaluate.report.section import Section, Table, at_most
from ssm_stream.paper.experiment import Context
from ssm_stream.paper.gdssm import GDSSM, ConstructedGDSSM, centred_one_hot, constructed_tokens, pack_tokens
from ssm_stream.paper.tasks import Tasks, apply_weights, gradient_descent

EXACT = 1e-12
"""Largest error that rounding explains for numbers of size one in float64."""


@dataclass(frozen=True)
class EqualitySettings:
    """(f, N, m) to test at, tasks each, and numbers of steps."""

    shapes: tuple[tuple[int, int, int], ...] = (
        (10, 10, 10),
        (10, 10, 1),
        (3, 20, 2),
        (5, 3, 5),
        (2, 8, 4),
        (50, 10, 1),
    )
    batch: int = 16
    steps: int = 10
    seed: int = 101


def largest(a: Tensor, b: Tensor) -> float:
    """max |a − b|."""
    return float((a - b).detach().abs().max())


def one_step(t: Tasks, layer: GDSSM, rate: float) -> float:
    """1. −out at the query is W1 q, W1 = (η/N) Σ y xᵀ."""
    W1 = rate / t.x.shape[1] * torch.einsum("bnm,bnf->bmf", t.y, t.x)
    return largest(layer(t.tokens)[:, -1, -t.y.shape[-1] :], apply_weights(W1, t.query))


def query_jacobian(predict: Callable[[Tensor], Tensor], query: Tensor) -> Tensor:
    """∂prediction/∂query of every task, (B, m, f): one backward pass an output, as tasks do not mix."""
    query = query.clone().requires_grad_(True)
    prediction = predict(query)
    rows = [
        torch.autograd.grad(prediction[:, i].sum(), query, retain_graph=True)[0] for i in range(prediction.shape[-1])
    ]
    return torch.stack(rows, dim=1)


def jacobian(t: Tasks, layer: GDSSM, rate: float) -> float:
    """2. The Jacobian of the prediction by the query is W1."""
    m = t.y.shape[-1]
    J = query_jacobian(lambda q: layer.predict_query(pack_tokens(t.x, t.y, q))[:, -m:], t.query)
    return largest(J, gradient_descent(t.x, t.y, [rate]))


def prefixes(t: Tasks, layer: GDSSM, rates: list[float]) -> float:
    """3. After k pairs the prediction for x_{k+1} is the descent on those pairs, with the same η/N."""
    N, m = t.x.shape[1], t.y.shape[-1]
    predictions = layer(t.tokens)[..., -m:]
    following = torch.cat([t.x[:, 1:], t.query[:, None]], dim=1)
    error = 0.0
    for k in range(1, N + 1):
        W = gradient_descent(t.x[:, :k], t.y[:, :k], [rate * k / N for rate in rates])
        error = max(error, largest(predictions[:, k - 1], apply_weights(W, following[:, k - 1])))
    return error


def two_steps(t: Tasks) -> float:
    """5. Two steps are (η1 + η2) G − η1 η2 G S."""
    N, m, d = t.x.shape[1], t.y.shape[-1], t.tokens.shape[-1]
    G = torch.einsum("bnm,bnf->bmf", t.y, t.x) / N
    S = torch.einsum("bne,bnf->bef", t.x, t.x) / N
    W2 = 1.6 * G - 1.0 * 0.6 * G @ S
    layer = GDSSM.gradient_descent(d, [1.0, 0.6], N)
    return largest(layer.predict_query(t.tokens)[:, -m:], apply_weights(W2, t.query))


def many_steps(t: Tasks, steps: int, W0: Tensor | None = None) -> float:
    """5. and 7.: K = 1 … steps, from zero or from W0, against the explicit recursion."""
    N, m, d = t.x.shape[1], t.y.shape[-1], t.tokens.shape[-1]
    error = 0.0
    for K in range(1, steps + 1):
        rates = [1.2 - 0.08 * j for j in range(K)]
        layer = GDSSM.gradient_descent(d, rates, N, W0=W0)
        expected = apply_weights(gradient_descent(t.x, t.y, rates, W0), t.query)
        error = max(error, largest(layer.predict_query(t.tokens)[:, -m:], expected))
    return error


def constructed(t: Tasks, layer: GDSSM, rate: float) -> float:
    """6. Constructed tokens [x y; x'] with a linear input give the same predictions."""
    N, m, f = t.x.shape[1], t.y.shape[-1], t.x.shape[-1]
    other = ConstructedGDSSM(f, m, rate, N)
    return largest(other(constructed_tokens(t.x, t.y, t.query)), layer(t.tokens)[..., -m:])


def cross_entropy(t: Tasks, classes: int, rate: float) -> float:
    """8. One step of the softmax cross-entropy from zero, its gradient by automatic differentiation."""
    B, N, f = t.x.shape
    labels = torch.randint(classes, (B, N), generator=torch.Generator().manual_seed(7))
    W = torch.zeros(B, classes, f, requires_grad=True)
    logits = torch.einsum("bmf,bnf->bnm", W, t.x)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / N
    (gradient,) = torch.autograd.grad(loss, W)
    layer = GDSSM.gradient_descent(max(f, classes), rate, N)
    tokens = pack_tokens(t.x, centred_one_hot(labels, classes), t.query)
    return largest(layer.predict_query(tokens)[:, -classes:], apply_weights(-rate * gradient, t.query))


def decayed(t: Tasks, rate: float, decay: float) -> float:
    """Λ < 1 is the explicit decayed sum (η/N) Σ Λ^(N−i) y_i x_iᵀ."""
    N, m, d = t.x.shape[1], t.y.shape[-1], t.tokens.shape[-1]
    weights = decay ** torch.arange(N - 1, -1, -1)
    W = rate / N * torch.einsum("n,bnm,bnf->bmf", weights, t.y, t.x)
    layer = GDSSM.gradient_descent(d, rate, N, decay=decay)
    return largest(layer(t.tokens)[:, -1, -m:], apply_weights(W, t.query))


def forms(t: Tasks, steps: int) -> tuple[float, float]:
    """Largest difference of the recurrent and the parallel form of a random layer: (outputs, relative of gradients)."""
    layer = GDSSM(t.tokens.shape[-1], steps)
    results = []
    for form in (layer.forward, layer.recurrent):
        layer.zero_grad()
        out = form(t.tokens)
        torch.autograd.backward(out.square().mean())
        results.append((out, [p.grad for p in layer.parameters() if p.grad is not None]))
    (parallel, parallel_grads), (recurrent, recurrent_grads) = results
    gradient = max(
        largest(a, b) / max(1.0, float(b.abs().max())) for a, b in zip(parallel_grads, recurrent_grads, strict=True)
    )
    return largest(parallel, recurrent) / max(1.0, float(recurrent.detach().abs().max())), gradient


def equalities(settings: EqualitySettings, context: Context) -> Section:
    """All equalities at all shapes, on the CPU in float64; one check each, with the largest error."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        worst, rows = measure(settings, context)
    finally:
        torch.set_default_dtype(before)
    checks = [at_most(f"equal: {name}, largest error", value, EXACT) for name, value in worst.items()]
    ok = all(check.ok for check in checks)
    text = [
        "The layer with the construction Q = e0 e1ᵀ, Λ = 1, D = e2, C = −(η/N) I against explicit gradient descent, "
        "which shares no code with it, in float64. "
        + (
            f"All {len(checks)} equalities hold to {max(worst.values()):.1e}: the state is the gradient, not like it."
            if ok
            else "Not all hold: see the table."
        ),
    ]
    table = Table(
        "Largest error by shape (f inputs, N pairs, m targets)",
        ["equality", *[f"f={f} N={N} m={m}" for f, N, m in settings.shapes], "bar"],
        [[name, *errors, EXACT] for name, errors in rows.items()],
        "Errors grow with the number of terms that are summed; they are rounding.",
    )
    return Section("The state is gradient descent", text, checks, [table])


def measure(settings: EqualitySettings, context: Context) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Errors of every equality: the largest, and by shape."""
    rows: dict[str, list[float]] = {}
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    for index, (f, N, m) in enumerate(settings.shapes):
        x = torch.rand(settings.batch, N + 1, f, generator=generator) - 0.5
        y = torch.randn(settings.batch, N, m, generator=generator)
        t = Tasks(x[:, :-1], y, x[:, -1], torch.zeros(settings.batch, m))
        W0 = torch.randn(m, f, generator=generator)
        layer = GDSSM.gradient_descent(max(f, m), 1.5, N)
        scalar = Tasks(t.x, t.y[..., :1], t.query, t.target[..., :1])
        outputs, gradients = forms(t, 3)
        errors = {
            "1 one step": one_step(t, layer, 1.5),
            "2 query Jacobian is W1": jacobian(t, layer, 1.5),
            "3 every prefix": prefixes(t, layer, [1.5]),
            "3 every prefix, 3 steps": prefixes(
                t, GDSSM.gradient_descent(max(f, m), [1.0, 0.8, 0.6], N), [1.0, 0.8, 0.6]
            ),
            "4 scalar target": one_step(scalar, GDSSM.gradient_descent(f, 1.5, N), 1.5),
            "5 two steps, closed form": two_steps(t),
            f"5 K = 1…{settings.steps} steps": many_steps(t, settings.steps),
            "6 constructed tokens": constructed(t, layer, 1.5),
            f"7 from W0, K = 1…{settings.steps} steps": many_steps(t, settings.steps, W0),
            "8 cross-entropy step": cross_entropy(t, max(2, m), 1.5),
            "decay 0.9 is the decayed sum": decayed(t, 1.5, 0.9),
            "recurrent and parallel form": outputs,
            "gradients of both forms": gradients,
        }
        for name, error in errors.items():
            rows.setdefault(name, []).append(error)
        context.advance((index + 1) / len(settings.shapes))
    return {name: max(errors) for name, errors in rows.items()}, rows
