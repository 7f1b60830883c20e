"""What the sliding window saves: the same layer with its tokens brought together by other means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table, at_least, at_most
from ssm_stream.paper.experiment import Context, relative, within
from ssm_stream.paper.gdssm import (
    GDSSM,
    STRIDE,
    WINDOW,
    ConstructedGDSSM,
    GatedState,
    constructed_tokens,
    last_state,
)
from ssm_stream.paper.linear import EVALUATION_SEED
from ssm_stream.paper.models import AblatedGDSSM
from ssm_stream.paper.tasks import LinearTasks, Tasks, descent, evaluation_tasks, mean_losses, zero
from ssm_stream.paper.training import QueryModel, Recipe, fit, predictor


@dataclass(frozen=True)
class WindowSettings:
    """Scalar targets, f = N = 10. modes: decays of the memory that stands in for the window"""

    modes: tuple[int, ...] = (1, 2, 3, 6)
    recipe: Recipe = field(default_factory=Recipe)
    longer: Recipe = field(default_factory=lambda: Recipe(updates=3000, rate=0.01))
    """Of the forms that have to learn which tokens belong together."""
    count: int = 20_000
    seed: int = 11


class FrontedGDSSM(nn.Module):
    """The layer with a learned mixture of all tokens so far in the place of each of the window's three tokens.

    It reads the mixtures at the same places as the window (every second token), so only what the window holds has to
    be learned: the last token but two, the last but one, and the last.
    """

    def __init__(self, d: int, length: int, modes: int) -> None:
        """length: tokens in a sequence. modes: decays of a diagonal state, or 0: weights by position, as attention."""
        super().__init__()
        self.modes = modes
        self.head = GatedState(d)
        self.D = nn.Parameter(torch.randn(WINDOW))
        if modes:
            self.logit = nn.Parameter(torch.linspace(-2.0, 2.0, modes) if modes > 1 else torch.zeros(1))
            self.mix = nn.Parameter(torch.randn(WINDOW, modes))
        else:
            self.position = nn.Parameter(0.1 * torch.randn(WINDOW, length))

    def weights(self, length: int) -> Tensor:
        """Weight of the token `age` tokens back in each of the three mixtures, (3, length)."""
        if not self.modes:
            return self.position.softmax(-1)
        age = torch.arange(length, device=self.mix.device, dtype=self.mix.dtype)
        return self.mix @ torch.sigmoid(self.logit)[:, None] ** age

    def predict_query(self, tokens: Tensor) -> Tensor:
        """(B, 2N+1, d) → (B, d)."""
        length = tokens.shape[1]
        at = torch.arange(WINDOW - 1, length, STRIDE, device=tokens.device)
        age = at[:, None] - torch.arange(length, device=tokens.device)
        reach = self.weights(length)[:, age.clamp_min(0)] * (age >= 0)
        T = torch.einsum("pnt,btd->bnpd", reach, tokens)
        Z = last_state(self.head.input_gate(T), self.head.decay)
        query = torch.einsum("bpd,p->bd", T[:, -1], self.D)
        return -(Z @ query[..., None])[..., 0] @ self.head.C.T


def constructed(tasks: LinearTasks) -> Callable[[Tasks], Tensor]:
    """The construction on tokens that somebody has multiplied beforehand, as a predictor."""
    layer = ConstructedGDSSM(tasks.f, tasks.m, tasks.best_rate, tasks.pairs)
    return lambda t: layer.to(t.x.device)(constructed_tokens(t.x, t.y, t.query))[:, -1]


def size(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def sliding_window(settings: WindowSettings, context: Context) -> Section:
    """Train the layer with the window, without it, and with what could stand in for it."""
    tasks = LinearTasks()
    f, length = tasks.f, 2 * tasks.pairs + 1
    memory = {f"memory of {n} decay{'s' if n > 1 else ''}": n for n in settings.modes}
    builders: dict[str, tuple[Callable[[], nn.Module], Recipe, int]] = {
        "window of three tokens": (lambda: GDSSM(f), settings.recipe, (WINDOW - 1) * f),
        "single tokens": (lambda: AblatedGDSSM(f, "window of one token"), settings.recipe, 0),
        **{
            name: (lambda n=n: FrontedGDSSM(f, length, n), settings.longer, n * f)  # type: ignore[misc]
            for name, n in memory.items()
        },
        "attention by position": (lambda: FrontedGDSSM(f, length, 0), settings.longer, length * f),
    }
    trained: dict[str, nn.Module] = {}
    predictors: dict[str, Callable[[Tasks], Tensor]] = {
        "GD": descent([tasks.best_rate]), "zero": zero, "constructed": constructed(tasks)
    }  # fmt: skip
    curves = []
    for index, (name, (build, recipe, _)) in enumerate(builders.items()):
        advance = context.part(index, len(builders))
        model, curve = fit(build, tasks, recipe, settings.seed, context.device, advance)  # type: ignore[type-var]
        trained[name] = model
        predictors[name] = predictor(_query_model(model), 1)
        curves.append(Series(name, [u / recipe.updates for u in curve.updates], curve.losses))
    drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
    losses = mean_losses(predictors, drawn)
    step = losses["GD"]
    checks = [
        at_most(
            "window: three tokens, loss off one gradient step", relative(losses["window of three tokens"], step), 0.03
        ),
        at_most("window: constructed tokens, loss off one gradient step", relative(losses["constructed"], step), 1e-3),
        at_least("window: single tokens, loss / zero predictor", losses["single tokens"] / losses["zero"], 0.97),
    ]
    rows: list[list[Cell]] = [
        [name, size(trained[name]), 2 * f, kept, recipe.updates, losses[name], losses[name] / step - 1]
        for name, (_, recipe, kept) in builders.items()
    ]
    products = tasks.m * f + f
    rows.insert(
        1,
        ["constructed tokens, not trained", 0, products, 0, 0, losses["constructed"], losses["constructed"] / step - 1],
    )
    rows += [
        ["one gradient step", "", "", "", "", step, 0.0],
        ["zero predictor", "", "", "", "", losses["zero"], losses["zero"] / step - 1],
    ]
    return Section(
        "What the sliding window saves",
        _text(losses, step, memory, checks, f),
        checks,
        [
            Table(
                "The layer with and without its window",
                ["tokens by", "parameters", "numbers read an example", "numbers kept", "updates", "loss", "off"],
                rows,
                "Kept: what a sequence has to hold between two examples besides the state, which is the same for all.",
            ),
            Table(
                "Numbers to read an example: raw tokens against constructed ones",
                ["targets m", *(f"f = {n}" for n in (10, 50, 200))],
                [
                    ["window, m = 1", *(2 * n for n in (10, 50, 200))],
                    ["constructed, m = 1", *(2 * n for n in (10, 50, 200))],
                    ["window, m = f", *(2 * n for n in (10, 50, 200))],
                    ["constructed, m = f", *(n * n + n for n in (10, 50, 200))],
                ],
            ),
        ],
        [Chart("Training loss by how tokens come together", "share of the training", "loss", curves, log_y=True)],
    )  # fmt: skip


def _query_model(model: nn.Module) -> QueryModel:
    return model  # type: ignore[return-value]


def _text(losses: dict[str, float], step: float, memory: dict[str, int], checks: list[Check], f: int) -> list[str]:
    reached = [n for name, n in memory.items() if losses[name] <= 1.05 * step]
    best = min(memory, key=lambda name: losses[name])
    return [
        "A gradient step needs x and y of one example in one place, and the next query. The window brings the three "
        f"raw tokens together and holds {2 * f} numbers for it. " + within("As expected", checks),
        "Without it somebody has to multiply beforehand (constructed tokens, which for as many targets as inputs are "
        "f² + f numbers an example instead of 2f), or a layer in front has to learn which tokens belong together. A "
        "diagonal state cannot shift exactly, it only decays. "
        + (
            f"Within 5 % of one step from {min(reached)} decays on."
            if reached
            else f"The best, {best}, stays {losses[best] / step:.2f} times the loss of one step."
        )
        + f" Attention by position reaches {losses['attention by position'] / step:.2f} times that loss, and holds all "
        "tokens of the context.",
    ]
