"""Training of the paper's models from random initialisation on freshly drawn tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from ssm_stream.paper.tasks import Tasks, TaskSource


class QueryModel(Protocol):
    """A module that reads tokens (B, 2N+1, d) and predicts the query's token (B, d)."""

    def predict_query(self, tokens: Tensor) -> Tensor:
        """Tokens (B, 2N+1, d) → prediction for the query (B, d)."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters with their names, as of nn.Module."""
        ...


Model = TypeVar("Model", bound=QueryModel)


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train. Adam; the rate warms up over 2 % of the updates and falls to 0 on a cosine.

    The authors take 30,000 updates of 64 tasks at 1e-4 and 2e-4. Larger batches, a larger rate and its decay reach the
    same optimum in a tenth of the updates, and the decay takes out the noise that a constant rate leaves in C.
    """

    updates: int = 1500
    batch: int = 256
    rate: float = 0.02
    decay_rate: float = 0.006
    """Rate of log Δ. Below the other rate, as with the authors: entries of Λ that no prediction reads would wander."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of a gradient: a scalar task with large weights and a large query outweighs its batch otherwise."""


@dataclass
class Curve:
    """Training loss against updates, averaged between two points of the curve."""

    updates: list[int]
    losses: list[float]


def train(
    model: QueryModel,
    loss: Callable[[], Tensor],
    recipe: Recipe,
    advance: Callable[[float], None] = lambda _: None,
    points: int = 60,
) -> Curve:
    """Minimise `loss`, which draws a fresh batch at every call, over the parameters of `model`.

    advance takes the fraction of the updates done, between 0 and 1. Raises FloatingPointError when the loss is not
    finite, as a diverged run has no result to report.
    """
    named = list(model.named_parameters())
    states = [p for name, p in named if name.endswith("log_step")]
    others = [p for name, p in named if not name.endswith("log_step")]
    groups = [
        {"params": others, "lr": recipe.rate, "weight_decay": recipe.weight_decay},
        {"params": states, "lr": recipe.decay_rate, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98))
    warm = max(1, recipe.updates // 50)

    def factor(update: int) -> float:
        return min(1.0, (update + 1) / warm) * 0.5 * (1.0 + math.cos(math.pi * update / recipe.updates))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    every = max(1, recipe.updates // points)
    curve = Curve([], [])
    total: list[Tensor] = []
    for update in range(1, recipe.updates + 1):
        optimiser.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_([p for _, p in named], recipe.clip)
        optimiser.step()
        schedule.step()
        total.append(value.detach())
        if update % every == 0:
            mean = float(torch.stack(total).mean())
            if not math.isfinite(mean):
                raise FloatingPointError(f"training diverged before update {update}")
            curve.updates.append(update)
            curve.losses.append(mean)
            total.clear()
            advance(update / recipe.updates)
    return curve


def predictor(model: QueryModel, m: int) -> Callable[[Tasks], Tensor]:
    """The model as a function from tasks to predictions (B, m): the last m numbers of the token it predicts."""
    return lambda t: model.predict_query(t.tokens)[:, -m:]


def fit(
    build: Callable[[], Model],
    tasks: TaskSource,
    recipe: Recipe,
    seed: int,
    device: str,
    advance: Callable[[float], None] = lambda _: None,
) -> tuple[Model, Curve]:
    """Train a fresh model on ½ of the mean squared error of the query's prediction; no task is drawn twice."""
    torch.manual_seed(seed)
    with torch.device(device):
        model = build()
    generator = torch.Generator(device).manual_seed(seed + 1000)

    def loss() -> Tensor:
        batch = tasks.draw(recipe.batch, generator)
        predicted = model.predict_query(batch.tokens)[:, -batch.target.shape[-1] :]
        return 0.5 * (predicted - batch.target).square().mean()

    return model, train(model, loss, recipe, advance)
