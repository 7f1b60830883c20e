"""Tasks of the paper's experiments, explicit gradient descent on them, and the loss that theory predicts.

Symbols as in `ssm_stream.paper.gdssm`; r is the range of the inputs, x ~ U(−r/2, r/2)^f, and s2 = r²/12 their variance.
Every loss is ½ of the squared error of the query's prediction, averaged over outputs and tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ssm_stream.paper.gdssm import pack_tokens


class Tasks(NamedTuple):
    """A batch of in-context regression tasks."""

    x: Tensor
    """Inputs of the examples, (B, N, f)."""
    y: Tensor
    """Targets of the examples, (B, N, m)."""
    query: Tensor
    """Input to predict at, (B, f)."""
    target: Tensor
    """Its target, (B, m), without noise."""

    @property
    def tokens(self) -> Tensor:
        """The sequence that the layer reads, (B, 2N+1, d)."""
        return pack_tokens(self.x, self.y, self.query)


class TaskSource(Protocol):
    """A distribution of tasks."""

    def draw(self, batch: int, generator: torch.Generator) -> Tasks:
        """`batch` fresh tasks, on the generator's device."""
        ...


@dataclass(frozen=True)
class LinearTasks:
    """y = W x + noise, x ~ U(−r/2, r/2)^f, W ~ N(0, weight²)^(m×f), noise ~ N(0, σ²): the paper's regression."""

    f: int = 10
    pairs: int = 10
    m: int = 1
    input_range: float = 1.0
    weight: float = 1.0
    noise: float = 0.0

    def draw(self, batch: int, generator: torch.Generator) -> Tasks:
        """`batch` fresh tasks, on the generator's device."""
        device = generator.device
        W = self.weight * torch.randn(batch, self.m, self.f, generator=generator, device=device)
        inputs = self.input_range * (
            torch.rand(batch, self.pairs + 1, self.f, generator=generator, device=device) - 0.5
        )
        outputs = inputs @ W.transpose(1, 2)
        y = outputs[:, :-1]
        if self.noise:
            y = y + self.noise * torch.randn(y.shape, generator=generator, device=device)
        return Tasks(inputs[:, :-1], y, inputs[:, -1], outputs[:, -1])

    @property
    def variance(self) -> float:
        """s2 = r²/12."""
        return self.input_range**2 / 12.0

    @property
    def moment(self) -> float:
        """m with E[S²] = s2² m I: (N−1)/N + (0.8+f)/N for uniform inputs (kurtosis 1.8)."""
        return (self.pairs - 1) / self.pairs + (0.8 + self.f) / self.pairs

    @property
    def best_rate(self) -> float:
        """η* = 1/(s2 m + σ²/N): the learning rate whose single step from zero has the lowest expected loss."""
        return 1.0 / (self.variance * self.moment + self.noise**2 / self.pairs / self.weight**2)

    @property
    def zero_loss(self) -> float:
        """Loss of the prediction 0: ½ f s2 weight²; 0.4167 for f = 10, r = 1."""
        return 0.5 * self.f * self.variance * self.weight**2

    def one_step_loss(self, rate: float) -> float:
        """Expected loss of one gradient step with learning rate η, in closed form.

        ½ f s2 weight² (1 − 2 η s2 + η² s2² m + η² s2 σ²/(N weight²)); at η* this is ½ f s2 (1 − 1/m) without noise.
        """
        a = rate * self.variance
        noise = rate * a * self.noise**2 / (self.pairs * self.weight**2)
        return self.zero_loss * (1.0 - 2.0 * a + a * a * self.moment + noise)


def chunks(count: int, size: int = 2000) -> list[int]:
    """Sizes of the pieces that `count` tasks are evaluated in."""
    return [min(size, count - start) for start in range(0, count, size)]


def evaluation_tasks(tasks: TaskSource, count: int, seed: int, device: str | torch.device = "cpu") -> Iterator[Tasks]:
    """The same `count` tasks in the same pieces at every call, so that predictors are compared on identical tasks."""
    generator = torch.Generator(device).manual_seed(seed)
    for size in chunks(count):
        yield tasks.draw(size, generator)


def mean_losses(predictors: dict[str, Callable[[Tasks], Tensor]], batches: Iterator[Tasks]) -> dict[str, float]:
    """Loss of every predictor, a function from tasks to predictions (B, m), on the same tasks."""
    sums = dict.fromkeys(predictors, 0.0)
    seen = 0
    with torch.no_grad():
        for batch in batches:
            seen += len(batch.query)
            for name, predict in predictors.items():
                squared = (predict(batch) - batch.target).double().square().mean(-1)
                sums[name] += 0.5 * float(squared.sum())
    return {name: total / seen for name, total in sums.items()}


# --- explicit solvers: what the layer is compared with, written without it --------------------------------------------


def gradient_descent(x: Tensor, y: Tensor, rates: Sequence[float], W0: Tensor | None = None) -> Tensor:
    """Weights (B, m, f) after one explicit step W ← W − η ∇L(W) for each rate, from W0 (m, f) or zero."""
    W = x.new_zeros(x.shape[0], y.shape[-1], x.shape[-1])
    if W0 is not None:
        W = W + W0
    for rate in rates:
        residual = x @ W.transpose(1, 2) - y
        W = W - rate / x.shape[1] * residual.transpose(1, 2) @ x
    return W


def newton_schulz(x: Tensor, y: Tensor, iterations: int) -> Tensor:
    """Weights G M_k with Newton's iteration for the inverse of S, M_{k+1} = M_k (2I − S M_k), M_0 = S/‖S‖₁².

    The second-order method that deep transformers have been found to approximate. It converges to the least-squares
    solution of smallest norm and squares its error at every iteration; the 1-norm bounds λ_max, so M_0 is small enough.
    """
    N = x.shape[1]
    S = x.transpose(1, 2) @ x / N
    G = y.transpose(1, 2) @ x / N
    largest = S.abs().sum(-1).amax(-1)
    M = S / largest.square()[:, None, None]
    for _ in range(iterations):
        M = 2 * M - M @ S @ M
    return G @ M


def least_squares(x: Tensor, y: Tensor, ridge: float = 0.0) -> Tensor:
    """argmin_W Σ‖W x − y‖² + ridge ‖W‖², (B, m, f); of smallest norm when ridge is 0. Solved in float64."""
    x64, y64 = x.double(), y.double()
    if ridge == 0.0:
        inverse: Tensor = torch.linalg.pinv(x64, rtol=1e-12)
        return (inverse @ y64).transpose(1, 2).to(x.dtype)
    gram = x64.transpose(1, 2) @ x64 + ridge * torch.eye(x.shape[-1], dtype=torch.float64, device=x.device)
    W: Tensor = torch.linalg.solve(gram, x64.transpose(1, 2) @ y64)
    return W.transpose(1, 2).to(x.dtype)


def apply_weights(W: Tensor, query: Tensor) -> Tensor:
    """W q for every task: (B, m, f), (B, f) → (B, m)."""
    return (W @ query[..., None])[..., 0]


def descent(rates: Sequence[float]) -> Callable[[Tasks], Tensor]:
    """The predictor, a function from tasks to predictions (B, m), that runs gradient descent with these rates."""
    return lambda t: apply_weights(gradient_descent(t.x, t.y, rates), t.query)


def zero(t: Tasks) -> Tensor:
    """The predictor that has learned nothing."""
    return torch.zeros_like(t.target)


# --- the expected loss of many steps ----------------------------------------------------------------------------------


class Spectrum(NamedTuple):
    """Distribution of the eigenvalues λ of S over contexts: Σ weights·g(nodes) is E Σ_i g(λ_i)."""

    nodes: Tensor
    """Mean eigenvalue of every bin, (bins,), float64."""
    weights: Tensor
    """Eigenvalues a context in the bin, (bins,); they sum to f."""


def context_spectrum(tasks: LinearTasks, contexts: int, seed: int) -> Spectrum:
    """Eigenvalues of S over `contexts` contexts, in bins so narrow that a step's polynomial is straight within one.

    Rates that are the best for a few thousand contexts diverge on the rare one with a large eigenvalue: (1 − ηλ)^(2K)
    has a long tail. A million contexts in bins cost no more to optimise over than a thousand.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for size in chunks(contexts, 50_000):
        x = tasks.input_range * (torch.rand(size, tasks.pairs, tasks.f, generator=generator) - 0.5)
        found.append(torch.linalg.eigvalsh(x.transpose(1, 2) @ x / tasks.pairs).clamp_min(0.0).flatten())
    values = torch.cat(found).double()
    bins = 8192
    bin_of = (values * (bins / values.max())).long().clamp_max(bins - 1)
    counts = torch.bincount(bin_of, minlength=bins)
    sums = torch.bincount(bin_of, weights=values, minlength=bins)
    used = counts > 0
    return Spectrum(sums[used] / counts[used], counts[used].double() / contexts)


def expected_loss(tasks: LinearTasks, spectrum: Spectrum, rates: Tensor) -> Tensor:
    """Expected loss of gradient descent with these rates (K,).

    With p(λ) = Π_j (1 − η_j λ), K steps leave W p(S) of the weights unlearned and turn the noise of the targets into
    weights of covariance σ²/N (1 − p(S))² S⁻¹. Over weights, noise and query the expected loss is therefore
    ½ s2 E Σ_i weight² p(λ_i)² + σ²/N (1 − p(λ_i))²/λ_i: only the eigenvalues are left to average over.
    """
    left = (1.0 - rates[:, None] * spectrum.nodes).prod(0)
    per_direction = tasks.weight**2 * left.square()
    if tasks.noise:
        # A direction without data (λ = 0) learns nothing, noise included: (1 − p)² vanishes faster than λ.
        learned = (1.0 - left).square() / spectrum.nodes.clamp_min(1e-9)
        per_direction = per_direction + tasks.noise**2 / tasks.pairs * learned
    return 0.5 * tasks.variance * (per_direction * spectrum.weights).sum()


def best_rates(tasks: LinearTasks, spectrum: Spectrum, steps: int, shared: bool) -> list[float]:
    """Learning rates of K steps with the lowest expected loss: one shared rate, or one a step (sorted)."""
    # Distinct starting values, roots of a Chebyshev polynomial: equal rates would get equal gradients and never part.
    high = float(spectrum.nodes.max())
    roots = [high * (0.52 + 0.48 * math.cos(math.pi * (2 * j + 1) / (2 * steps))) for j in range(steps)]
    start = [1.0 / (tasks.variance * tasks.moment)] if shared else [1.0 / root for root in roots]
    logs = torch.tensor(start, dtype=torch.float64).log().requires_grad_(True)
    optimiser = torch.optim.LBFGS([logs], max_iter=500, tolerance_change=1e-13, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        rates = logs.exp().expand(steps) if shared else logs.exp()
        loss = expected_loss(tasks, spectrum, rates)
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    rates = logs.detach().exp()
    return [float(rates)] * steps if shared else sorted(float(rate) for rate in rates)
