"""More than one gradient step: stacked layers, learned rates, and the second-order methods that they do not reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table, at_most
from ssm_stream.paper.experiment import Context, relative, within
from ssm_stream.paper.gdssm import GDSSM
from ssm_stream.paper.linear import EVALUATION_SEED
from ssm_stream.paper.tasks import (
    LinearTasks,
    Spectrum,
    Tasks,
    apply_weights,
    best_rates,
    context_spectrum,
    descent,
    evaluation_tasks,
    expected_loss,
    least_squares,
    mean_losses,
    newton_schulz,
    zero,
)
from ssm_stream.paper.training import Recipe, fit, predictor

LEARNED_TARGETS = {2: 0.141, 3: 0.110, 4: 0.092}
"""Expected loss of K steps with a rate a step, f = N = 10, as published with the closed forms."""

SPECTRUM_SEED = 404


@dataclass(frozen=True)
class StepsSettings:
    """f = N = 10, vector targets. K layers with one rate, with a rate each, and trained from random initialisation."""

    steps: tuple[int, ...] = (1, 2, 3, 5, 10)
    learned: tuple[int, ...] = (2, 3, 4, 5, 10)
    trained: tuple[tuple[int, Recipe], ...] = (
        (2, Recipe(updates=2000)),
        (3, Recipe(updates=2000)),
        (4, Recipe(updates=2000)),
        (5, Recipe(updates=2000)),
    )
    count: int = 100_000
    contexts: int = 1_000_000
    """Contexts whose eigenvalues the best rates are found on."""
    seed: int = 3


def steps(settings: StepsSettings, context: Context) -> Section:
    """Stacks against explicit gradient descent on the same tasks and against the expected loss."""
    tasks = LinearTasks(m=10)
    spectrum = context_spectrum(tasks, settings.contexts, SPECTRUM_SEED)
    checks: list[Check] = []
    parts = 1 + len(settings.trained)
    same = one_rate(settings, tasks, spectrum, checks, context)
    each = rate_a_step(settings, tasks, spectrum, checks, context)
    context.part(0, parts)(1.0)
    free, charts = from_random(settings, tasks, each, checks, context, parts)
    lines = [
        Series("one rate", [float(k) for k in same], list(same.values())),
        Series("a rate a step", [1.0, *map(float, each)], [same[1], *each.values()]),
    ]
    if free:
        lines.append(Series("trained from random", [float(k) for k in free], list(free.values())))
    rows: list[list[Cell]] = [
        [K, *(losses.get(K, "") for losses in (same, each, free))] for K in sorted({*same, *each, *free})
    ]
    text = [
        "K stacked layers do K gradient steps: two heads a layer, one whose state is N·G and one whose state is N·S. "
        "Rates are the best for the expected loss, one for all steps or one a step; the trained stacks start from "
        "random Q, Λ, C, D and know no rates. " + within("The bars are met", checks),
        "Small rates fit the directions in which the inputs vary most, large ones the rest; one rate has to serve "
        "both, and a context with a large eigenvalue bounds it. "
        + " ".join(f"{K} steps: {each[K]:.4f} with a rate a step, {same[K]:.4f} with one." for K in each if K in same),
    ]
    summary = Table("Loss on the evaluation tasks", ["K", "one rate", "a rate a step", "trained from random"], rows)
    chart = Chart("Loss against gradient steps", "layers K", "loss", lines, log_y=True)
    return Section(
        "One to ten gradient steps", text, checks, [summary, *tables(settings, tasks, spectrum)], [chart, *charts]
    )


def tables(settings: StepsSettings, tasks: LinearTasks, spectrum: Spectrum) -> list[Table]:
    """The rates and the expected losses they have."""
    rows: list[list[Cell]] = []
    for K in settings.learned:
        rates = best_rates(tasks, spectrum, K, shared=False)
        target = float(expected_loss(tasks, spectrum, torch.tensor(rates, dtype=torch.float64)))
        rows.append([K, ", ".join(f"{r:.2f}" for r in rates), target, LEARNED_TARGETS.get(K, "")])
    return [Table("A rate a step", ["K", "rates η", "expected loss", "published"], rows)]


def one_rate(
    settings: StepsSettings, tasks: LinearTasks, spectrum: Spectrum, checks: list[Check], context: Context
) -> dict[int, float]:
    """The stack with one rate: its loss is that of explicit GD, which is within sampling of the expected loss."""
    losses: dict[int, float] = {}
    for K in settings.steps:
        rates = best_rates(tasks, spectrum, K, shared=True)
        expected = float(expected_loss(tasks, spectrum, torch.tensor(rates, dtype=torch.float64)))
        with torch.device(context.device):
            stack = GDSSM.gradient_descent(10, rates, tasks.pairs)
        drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
        measured = mean_losses({"stack": predictor(stack, 10), "GD": descent(rates)}, drawn)
        losses[K] = measured["stack"]
        checks.append(
            at_most(
                f"steps: explicit GD, K={K}, one rate, off the expectation", relative(measured["GD"], expected), 0.02
            )
        )
        checks.append(
            at_most(f"steps: stack of {K}, off GD on the same tasks", relative(measured["stack"], measured["GD"]), 1e-4)
        )
    return losses


def rate_a_step(
    settings: StepsSettings, tasks: LinearTasks, spectrum: Spectrum, checks: list[Check], context: Context
) -> dict[int, float]:
    """The stack with a learned rate a step, against the published expectation where there is one."""
    losses: dict[int, float] = {}
    for K in settings.learned:
        rates = best_rates(tasks, spectrum, K, shared=False)
        with torch.device(context.device):
            stack = GDSSM.gradient_descent(10, rates, tasks.pairs)
        drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
        losses[K] = mean_losses({"stack": predictor(stack, 10)}, drawn)["stack"]
        if K in LEARNED_TARGETS:
            target = LEARNED_TARGETS[K]
            checks.append(at_most(f"steps: learned rates, K={K}, loss off {target}", relative(losses[K], target), 0.03))
    return losses


def from_random(
    settings: StepsSettings,
    tasks: LinearTasks,
    each: dict[int, float],
    checks: list[Check],
    context: Context,
    parts: int,
) -> tuple[dict[int, float], list[Chart]]:
    """Stacks trained from random initialisation."""
    losses: dict[int, float] = {}
    curves: list[Series] = []
    for index, (K, recipe) in enumerate(settings.trained):
        advance = context.part(index + 1, parts)
        stack, curve = fit(lambda K=K: GDSSM(10, K), tasks, recipe, settings.seed, context.device, advance)  # type: ignore[misc]
        drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
        losses[K] = mean_losses({"stack": predictor(stack, 10)}, drawn)["stack"]
        target = LEARNED_TARGETS.get(K)
        if target is not None:
            checks.append(
                at_most(f"steps: trained from random, K={K}, loss off {target}", relative(losses[K], target), 0.03)
            )
        elif K in each:
            off = relative(losses[K], each[K])
            checks.append(at_most(f"steps: trained from random, K={K}, off GD with learned rates", off, 0.03))
        curves.append(Series(f"K = {K}", [float(u) for u in curve.updates], curve.losses))
    chart = Chart("Training loss of the stacks", "updates", "loss", curves, log_y=True)
    return losses, [chart] if curves else []


# --- second order -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecondOrderSettings:
    """Cases (N, σ) with f = 10, vector targets."""

    cases: tuple[tuple[int, float], ...] = ((10, 0.0), (20, 0.0), (20, 0.3), (40, 0.3))
    steps: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    learned: int = 4
    count: int = 10_000
    contexts: int = 1_000_000
    rules: tuple[str, ...] = field(default=("one rate", "a rate a step", "Newton–Schulz"))


def solver(solve: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tasks], Tensor]:
    """Predictor of a function from (x, y) to weights."""
    return lambda t: apply_weights(solve(t.x, t.y), t.query)


def second_order(settings: SecondOrderSettings, context: Context) -> Section:
    """Gradient steps against Newton's iteration and least squares on the same tasks."""
    tabled, charts, text = [], [], []
    for index, (N, noise) in enumerate(settings.cases):
        tasks = LinearTasks(pairs=N, m=10, noise=noise)
        spectrum = context_spectrum(tasks, settings.contexts, SPECTRUM_SEED)
        predictors: dict[str, Callable[[Tasks], Tensor]] = {"zero": zero}
        for K in settings.steps:
            predictors[f"one rate {K}"] = descent(best_rates(tasks, spectrum, K, shared=True))
            if settings.learned >= K:
                predictors[f"a rate a step {K}"] = descent(best_rates(tasks, spectrum, K, shared=False))
            predictors[f"Newton–Schulz {K}"] = solver(lambda x, y, K=K: newton_schulz(x, y, K))  # type: ignore[misc]
        predictors["least squares"] = solver(least_squares)
        ridge = noise**2
        if noise:
            predictors["ridge"] = solver(lambda x, y, ridge=ridge: least_squares(x, y, ridge))  # type: ignore[misc]
        losses = mean_losses(predictors, evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device))
        name = f"N = {N}, noise σ = {noise:g}"
        rows: list[list[Cell]] = [
            [K, *(losses.get(f"{rule} {K}", "") for rule in settings.rules)] for K in settings.steps
        ]
        best = losses["ridge"] if noise else losses["least squares"]
        note = f"Least squares {losses['least squares']:.3g}; zero predictor {losses['zero']:.3g}"
        note += f"; ridge with the noise's own σ², the best that any method can do, {best:.4f}." if noise else "."
        tabled.append(Table(f"{name}: loss after K steps", ["K", *settings.rules], rows, note))
        lines = [
            Series(
                rule,
                [float(K) for K in settings.steps if f"{rule} {K}" in losses],
                [losses[f"{rule} {K}"] for K in settings.steps if f"{rule} {K}" in losses],
            )
            for rule in settings.rules
        ]
        if best > 1e-6:
            lines.append(
                Series("ridge" if noise else "least squares", [1.0, float(settings.steps[-1])], [best] * 2, dashed=True)
            )
        charts.append(Chart(name, "steps K", "loss", lines, log_y=True))
        text.append(verdict(name, losses, settings, noise))
        context.advance((index + 1) / len(settings.cases))
    opening = (
        "Newton's iteration for the inverse of S squares its error at every step, gradient descent shrinks it by a "
        "factor; but a step of the layer needs products of a matrix with a vector, Newton's of two matrices."
    )
    return Section("Newton and least squares", [opening, *text], [], tabled, charts)


def verdict(name: str, losses: dict[str, float], settings: SecondOrderSettings, noise: float) -> str:
    """What was seen in one case."""
    last = settings.steps[-1]
    learned = max(K for K in settings.steps if settings.learned >= K)
    gd, newton = losses[f"one rate {last}"], losses[f"Newton–Schulz {last}"]
    best = losses["ridge"] if noise else losses["least squares"]
    behind = [K for K in settings.steps if losses[f"Newton–Schulz {K}"] >= losses[f"one rate {K}"]]
    ahead = f"up to K = {max(behind)}" if behind else "at no K"
    return (
        f"{name}: gradient descent with one rate is ahead of Newton's iteration {ahead}. After {last} steps gradient "
        f"descent has {gd:.4g} and Newton {newton:.4g}; {learned} steps with a rate each have "
        f"{losses[f'a rate a step {learned}']:.4g}, the exact solution has {best:.3g}."
        + (
            f" One rate is best at K = {best_k}: with more steps rare contexts with a large eigenvalue diverge."
            if (best_k := min(settings.steps, key=lambda K: losses[f"one rate {K}"])) < last
            else ""
        )
        + (" Newton runs into the overfitting of unregularised least squares." if noise and newton > gd else "")
    )
