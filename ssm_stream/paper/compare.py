"""What each part of the layer is for, and what other sequence layers do with the same window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table, at_most
from ssm_stream.paper.experiment import Context, relative, within
from ssm_stream.paper.gdssm import GDSSM
from ssm_stream.paper.linear import EVALUATION_SEED
from ssm_stream.paper.models import ABLATIONS, S5, AblatedGDSSM, Attention, Mamba
from ssm_stream.paper.steps import solver
from ssm_stream.paper.tasks import LinearTasks, descent, evaluation_tasks, least_squares, mean_losses, zero
from ssm_stream.paper.training import QueryModel, Recipe, fit, predictor


@dataclass(frozen=True)
class AblationSettings:
    """Ablations to train on scalar targets, f = N = 10."""

    ablations: tuple[str, ...] = ABLATIONS
    recipe: Recipe = field(default_factory=Recipe)
    count: int = 20_000
    seed: int = 4


def ablations(settings: AblationSettings, context: Context) -> Section:
    """Train the layer without one of its parts; each must learn nothing, or the report has what it learned."""
    tasks = LinearTasks()
    checks: list[Check] = []
    rows: list[list[Cell]] = []
    curves: list[Series] = []
    for index, ablation in enumerate(settings.ablations):
        advance = context.part(index, len(settings.ablations))
        model, curve = fit(
            lambda ablation=ablation: AblatedGDSSM(tasks.f, ablation),  # type: ignore[misc]
            tasks, settings.recipe, settings.seed, context.device, advance,
        )  # fmt: skip
        drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
        losses = mean_losses({"model": predictor(model, 1), "zero": zero, "GD": descent([tasks.best_rate])}, drawn)
        off = relative(losses["model"], losses["zero"])
        checks.append(at_most(f"ablation: {ablation}, off the zero predictor", off, 0.03))
        rows.append([ablation, losses["model"], losses["zero"], losses["model"] / losses["zero"] - 1, losses["GD"]])
        curves.append(Series(ablation, [float(u) for u in curve.updates], curve.losses))
    first, last = curves[0].x[0], curves[0].x[-1]
    curves.append(Series("zero predictor", [first, last], [tasks.zero_loss] * 2, dashed=True))
    curves.append(Series("one gradient step", [first, last], [tasks.one_step_loss(tasks.best_rate)] * 2, dashed=True))
    text = [
        "One part of the layer replaced, trained with the same recipe: a linear map of the window instead of the input "
        "gate, a linear map of the state instead of the output gate, single tokens instead of windows. "
        + within("The ablated layer learns nothing", checks),
        "Theory agrees. Turn the sign of the weights, of the query, or of one example's x, and the sign of the target, "
        "or of that example's y, turns with it. Only a product of x, y of the same example and the query keeps a mean "
        "with the target: the window brings x and y together, the input gate multiplies them, the output gate "
        "multiplies the result by the query. Without one of the three, the best prediction is zero.",
    ]
    columns = ["replaced", "loss", "zero predictor", "relative difference", "gradient step"]
    chart = Chart("Training loss without one part", "updates", "loss", curves)
    return Section("Ablations: both gates and the window are needed", text, checks, [Table("", columns, rows)], [chart])


# --- other layers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BaselineSettings:
    """Other layers on the same tasks, with the same window. Each with a rate that it trains at steadily."""

    recipes: dict[str, Recipe] = field(
        default_factory=lambda: {
            "GD-SSM": Recipe(),
            "linear attention": Recipe(updates=3000, rate=0.005),
            "softmax attention": Recipe(updates=6000, rate=0.005),
            "S5-style SSM": Recipe(updates=6000, rate=0.005),
            "Mamba-style SSM": Recipe(updates=4000, rate=0.005, batch=192),
        }
    )
    ranges: tuple[float, ...] = (0.5, 1.0, 1.5)
    count: int = 20_000
    seed: int = 5


BUILDERS: dict[str, Callable[[int], QueryModel]] = {
    "GD-SSM": lambda d: GDSSM(d),
    "linear attention": lambda d: Attention(d, 2 * d, softmax=False),
    "softmax attention": lambda d: Attention(d, 2 * d, softmax=True),
    "S5-style SSM": lambda d: S5(d, width=64, state=32),
    "Mamba-style SSM": lambda d: Mamba(d, width=16, state=16),
}


def baselines(settings: BaselineSettings, context: Context) -> Section:
    """Train every layer on the scalar task and test it in and out of distribution."""
    tasks = LinearTasks()
    models: dict[str, QueryModel] = {}
    curves: list[Series] = []
    for index, (name, recipe) in enumerate(settings.recipes.items()):
        advance = context.part(index, len(settings.recipes))
        build = BUILDERS[name]
        model, curve = fit(lambda build=build: build(tasks.f), tasks, recipe, settings.seed, context.device, advance)  # type: ignore[misc]
        models[name] = model
        share = [u / recipe.updates for u in curve.updates]
        curves.append(Series(name, share, curve.losses))
    by_range: dict[float, dict[str, float]] = {}
    for r in settings.ranges:
        drawn = evaluation_tasks(LinearTasks(input_range=r), settings.count, EVALUATION_SEED, context.device)
        references = {"GD": descent([tasks.best_rate]), "zero": zero, "least squares": solver(least_squares)}
        by_range[r] = mean_losses({**{n: predictor(m, 1) for n, m in models.items()}, **references}, drawn)
    home = by_range[1.0]
    rows: list[list[Cell]] = []
    for name, model in models.items():
        size = sum(p.numel() for _, p in model.named_parameters())
        learned = (home["zero"] - home[name]) / (home["zero"] - home["GD"])
        rows.append(
            [
                name,
                size,
                settings.recipes[name].updates,
                *(by_range[r][name] for r in settings.ranges),
                f"{100 * learned:.0f} %",
            ]
        )
    rows += [
        [name, "", "", *(by_range[r][name] for r in settings.ranges), ""] for name in ("GD", "zero", "least squares")
    ]
    reached = [n for n in models if home[n] <= 1.02 * home["GD"]]
    short = [f"{n} ({home[n] / home['GD']:.2f} times its loss)" for n in models if n not in reached]
    text = [
        "One layer each, the window [x; y; x'] given to all as one vector, same tasks, contexts of the same length. "
        f"Within 2 % of one gradient step: {', '.join(reached) or 'none'}. "
        + (f"Not within it: {', '.join(short)}." if short else ""),
        "One gradient step is a product of x and y on the way in and of state and query on the way out. Linear "
        "attention and the selective SSM contain it: key times value, B(u)·u. Softmax attention can only average the "
        "values it has seen, with positive weights that sum to one, and a diagonal SSM driven linearly has to find the "
        "products behind its read-out.",
        "Longer training or more layers may move the ones that fall short; nothing here says that they cannot learn "
        "it.",
    ]
    columns = ["layer", "parameters", "updates", *(f"loss, r = {r:g}" for r in settings.ranges), "of one step's gain"]
    chart = Chart("Training loss", "share of the training", "loss", curves)
    return Section("Other layers with the same window", text, [], [Table("", columns, rows)], [chart])
