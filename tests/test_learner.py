"""The fused kernel is the torch definition: one recurrence, two implementations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ssm_stream.model import kernel, learner
from ssm_stream.model.features import FeaturePlan


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small are slower on more threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stream(kind: str, n: int, entities: int, features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """u (n, E, C), y (n, E): linear with drift and outliers, or autoregressive with gaps in the features."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, entities, features)) * 3 + 10
    w = np.cumsum(rng.normal(size=(n, entities, features)) * 0.01, 0) + rng.normal(size=(entities, features))
    w[n // 2 :] += rng.normal(size=(entities, features))
    y = (u * w).sum(2) + 0.3 * rng.normal(size=(n, entities))
    y[rng.random(y.shape) < 0.01] *= 50
    u[rng.random(u.shape) < 0.002] *= 1e4
    if kind == "gaps":
        y = np.cumsum(rng.normal(size=y.shape), 0) + y
        u[rng.random(u.shape) < 0.1] = np.nan
    return u, y


@pytest.mark.parametrize(
    ("kind", "n", "lags", "differences", "features"),
    [
        ("drift", 5_000, 4, True, 3),
        ("drift", 1_000, 0, False, 8),
        ("gaps", 1_500, 2, True, 5),
        ("drift", 500, 3, False, 0),
    ],
)
def test_kernel_equals_torch(kind: str, n: int, lags: int, differences: bool, features: int) -> None:
    """Predictions agree to a relative 1e-4 (of the prediction, or of the target's scale where that is larger)."""
    entities = 4
    u, y = stream(kind, n, entities, features)
    plan = FeaturePlan(tuple(f"f{i}" for i in range(features)), (), lags, differences)
    p = kernel.learner_params(plan, (0.97, 0.998), (0.3, 0.05))
    fused = np.empty((n, entities))
    state, scratch = kernel.new_state(p, entities), kernel.new_scratch(p)
    rows = np.tile(np.arange(entities), n)
    kernel.run(p, state, scratch, rows, u.reshape(n * entities, features), y.reshape(-1), fused.reshape(-1))

    defined = np.empty((n, entities))
    s = learner.new_state(p, entities)
    with torch.no_grad():
        for t in range(n):
            columns, target = torch.from_numpy(u[t]), torch.from_numpy(y[t])
            answer = learner.predict(p, s, columns)
            defined[t] = answer.yhat.numpy()
            s = learner.learn(p, s, answer, columns, target)
    scale = np.abs(y).mean(0)
    worst = (np.abs(fused - defined) / np.maximum(np.abs(defined), scale)).max()
    assert worst <= 1e-4, f"largest relative difference {worst:.2e}"
    for h in range(p.H):
        np.testing.assert_allclose(state.W[:, h], s.W[:, h], atol=2e-3)


def test_torch_learner_is_differentiable() -> None:
    """Gradients flow through a few events into the moments' start, as meta-training needs."""
    plan = FeaturePlan(("a", "b"), (), 1, True)
    p = kernel.learner_params(plan, (0.97,), (0.3,))
    s = learner.new_state(p, 2)
    W = torch.zeros_like(s.W, requires_grad=True)
    s = s._replace(W=W)
    torch.manual_seed(0)
    loss = torch.zeros((), dtype=torch.float64)
    for _ in range(6):
        u, y = torch.randn(2, 2, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
        answer = learner.predict(p, s, u)
        loss = loss + (answer.yhat - y).square().mean()
        s = learner.learn(p, s, answer, u, y)
    loss.backward()
    assert W.grad is not None
    assert torch.isfinite(W.grad).all()
    assert W.grad.abs().sum() > 0
