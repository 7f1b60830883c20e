"""SSM or attention: error and cost against context length, memory a sequence, cost of a new event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssm_stream.evaluate.report.section import Cell, Chart, Section, Series, Table
from ssm_stream.paper.experiment import Context, seconds
from ssm_stream.paper.gdssm import GDSSM, NonlinearGDSSM, windows
from ssm_stream.paper.linear import EVALUATION_SEED
from ssm_stream.paper.models import Attention, NonlinearAttention
from ssm_stream.paper.nonlinear import SineTasks
from ssm_stream.paper.steps import SPECTRUM_SEED, solver
from ssm_stream.paper.tasks import (
    LinearTasks,
    best_rates,
    context_spectrum,
    descent,
    evaluation_tasks,
    least_squares,
    mean_losses,
    zero,
)
from ssm_stream.paper.training import QueryModel, Recipe, fit, predictor

Errors = dict[int, dict[str, float]]
"""Loss by context length and predictor."""


@dataclass(frozen=True)
class GuidelineSettings:
    """Context lengths for the errors, with noise; for training the attention layers; for the cost."""

    contexts: tuple[int, ...] = (5, 10, 20, 40, 80, 160)
    trained_contexts: tuple[int, ...] = (10, 40, 160)
    sine_contexts: tuple[int, ...] = (5, 10, 20, 40)
    cost_contexts: tuple[int, ...] = (16, 64, 256, 1024, 4096, 16384)
    noise: float = 0.1
    steps: int = 4
    sequences: int = 64
    """Sequences side by side when the cost of an event is measured."""
    repeats: int = 60
    recipe: Recipe = field(default_factory=lambda: Recipe(updates=1500, batch=128, rate=0.005))
    sine_recipe: Recipe = field(default_factory=lambda: Recipe(updates=1500, batch=128, rate=0.004, decay_rate=0.004))
    count: int = 10_000
    seed: int = 8


def linear_errors(settings: GuidelineSettings, context: Context) -> Errors:
    """Noisy linear regression: the construction, softmax attention trained at that length, the optimum."""
    errors: Errors = {}
    for N in settings.contexts:
        tasks = LinearTasks(pairs=N, noise=settings.noise)
        spectrum = context_spectrum(tasks, 200_000 if N <= 20 else 50_000, SPECTRUM_SEED)
        ridge = settings.noise**2
        predictors = {
            "GD-SSM, 1 layer": descent([tasks.best_rate]),
            f"GD-SSM, {settings.steps} layers": descent(best_rates(tasks, spectrum, settings.steps, shared=False)),
            "ridge, the optimum": solver(lambda x, y, ridge=ridge: least_squares(x, y, ridge)),  # type: ignore[misc]
            "zero": zero,
        }
        if N in settings.trained_contexts:
            model, _ = fit(
                lambda: Attention(10, 20, softmax=True), tasks, settings.recipe, settings.seed, context.device
            )
            predictors["softmax attention"] = predictor(model, 1)
        errors[N] = mean_losses(predictors, evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device))
    return errors


def sine_errors(settings: GuidelineSettings, context: Context) -> Errors:
    """Sine waves: layer and attention in the same embedding and MLP, each trained at that length."""
    errors: Errors = {}
    builders: dict[str, Callable[[], QueryModel]] = {
        "GD-SSM with MLP": lambda: NonlinearGDSSM(1, 24, 1, hidden=64),
        "softmax attention with MLP": lambda: NonlinearAttention(1, 24, 1, hidden=64),
    }
    for index, N in enumerate(settings.sine_contexts):
        tasks = SineTasks(N)
        predictors = {}
        for name, build in builders.items():
            model, _ = fit(build, tasks, settings.sine_recipe, settings.seed, context.device)
            predictors[name] = predictor(model, 1)
        drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
        errors[N] = mean_losses({**predictors, "zero": zero}, drawn)
        context.advance(0.4 + 0.4 * (index + 1) / len(settings.sine_contexts))
    return errors


def attention_event(model: Attention, keys: Tensor, values: Tensor, at: int, window: Tensor) -> Tensor:
    """A new event of cached softmax attention: project it, append it, attend over everything so far."""
    e = window.flatten(1)
    keys[:, at], values[:, at] = model.key(e), model.value(e)
    scores = torch.einsum("bw,bnw->bn", model.query(e), keys[:, : at + 1]) / keys.shape[-1] ** 0.5
    attended: Tensor = model.out(torch.einsum("bn,bnw->bw", scores.softmax(-1), values[:, : at + 1]))
    return attended


def event_costs(settings: GuidelineSettings) -> dict[int, tuple[float, float]]:
    """Microseconds a sequence for one new event after n events: (GD-SSM, attention with cache), on the CPU."""
    B, d = settings.sequences, 10
    costs = {}
    layer, attention = GDSSM(d), Attention(d, d, softmax=True)
    window = windows(torch.randn(B, 3, d))[:, 0]
    with torch.no_grad():
        for n in settings.cost_contexts:
            state = layer.initial_state(B)
            keys, values = torch.randn(2, B, n + 1, d)
            ssm = seconds(lambda state=state: layer.step(state, window), settings.repeats)  # type: ignore[misc]
            attended = seconds(
                lambda k=keys, v=values, n=n: attention_event(attention, k, v, n, window),  # type: ignore[misc]
                settings.repeats,
            )
            costs[n] = (1e6 * ssm / B, 1e6 * attended / B)
    return costs


def error_table(title: str, errors: Errors) -> Table:
    """Context lengths down, predictors across."""
    names = list(dict.fromkeys(name for losses in errors.values() for name in losses))
    rows: list[list[Cell]] = [[N, *(losses.get(name, "") for name in names)] for N, losses in errors.items()]
    return Table(title, ["N", *names], rows)


def error_chart(title: str, errors: Errors) -> Chart:
    """One line a predictor."""
    names = list(dict.fromkeys(name for losses in errors.values() for name in losses))
    series = [
        Series(
            name,
            [float(N) for N, losses in errors.items() if name in losses],
            [losses[name] for losses in errors.values() if name in losses],
            dashed=name in ("zero", "ridge, the optimum"),
        )
        for name in names
    ]
    return Chart(title, "examples N", "loss", series, log_x=True, log_y=True)


def guideline(settings: GuidelineSettings, context: Context) -> Section:
    """All measurements and the advice that follows from them."""
    linear = linear_errors(settings, context)
    context.advance(0.4)
    waves = sine_errors(settings, context)
    costs = event_costs(settings)
    state_bytes = 4 * 10 * 10
    rows: list[list[Cell]] = [[n, state_bytes, 4 * 2 * n * 10, ssm, attended] for n, (ssm, attended) in costs.items()]
    columns = [
        "events so far",
        "GD-SSM, bytes",
        "attention cache, bytes",
        "GD-SSM, µs an event",
        "attention, µs an event",
    ]
    cost_table = Table(
        "Memory a sequence and cost of a new event, d = 10",
        columns,
        rows,
        f"Float32, {settings.sequences} sequences side by side, median processor time of {settings.repeats} calls.",
    )
    ns = [float(n) for n in costs]
    cost_chart = Chart(
        "Cost of a new event",
        "events so far",
        "µs",
        [Series("GD-SSM", ns, [c[0] for c in costs.values()]), Series("attention", ns, [c[1] for c in costs.values()])],
        log_x=True,
        log_y=True,
    )
    return Section(
        "Guideline: SSM or attention",
        advice(settings, linear, waves, costs),
        [],
        [error_table("Loss, linear regression with noise", linear), error_table("Loss, sine waves", waves), cost_table],
        [error_chart("Linear regression with noise", linear), error_chart("Sine waves", waves), cost_chart],
    )


def advice(
    settings: GuidelineSettings, linear: Errors, waves: Errors, costs: dict[int, tuple[float, float]]
) -> list[str]:
    """What was measured, then what to take."""
    last = max(settings.trained_contexts)
    at = linear[last]
    deep = f"GD-SSM, {settings.steps} layers"
    N = max(waves)
    ssm, attended = waves[N]["GD-SSM with MLP"], waves[N]["softmax attention with MLP"]
    better = [n for n, w in waves.items() if w["softmax attention with MLP"] < w["GD-SSM with MLP"]]
    dearer = [n for n, (a, b) in costs.items() if b > a]
    longest = max(costs)
    return [
        f"Error, linear relation, {last} examples: one GD-SSM layer {at['GD-SSM, 1 layer']:.4f}, {settings.steps} "
        f"layers {at[deep]:.4f}, softmax attention {at['softmax attention']:.4f}, the optimum "
        f"{at['ridge, the optimum']:.4f}, zero {at['zero']:.4f}. Linear attention computes the same function as one "
        "GD-SSM layer and has the same error.",
        f"Error, sine waves, {N} examples: GD-SSM with MLP {ssm:.4f}, softmax attention in its place {attended:.4f}: "
        + ("attention is better" if attended < ssm else "the SSM is better")
        + " there. The advantage by context length: "
        + ", ".join(f"N = {n}: {w['GD-SSM with MLP'] / w['softmax attention with MLP']:.2f}" for n, w in waves.items())
        + " (loss of the SSM over that of attention).",
        f"Cost: a new event costs the SSM {costs[longest][0]:.2f} µs and attention {costs[longest][1]:.2f} µs after "
        f"{longest:,} events; attention is dearer "
        + (f"from {min(dearer):,} events on" if dearer else "at none of the lengths measured")
        + f". The state stays at {4 * 10 * 10} bytes; the cache passes it after {10 // 2} events and is "
        f"{longest * 80 / 400:,.0f} times as large after {longest:,}.",
        "Take the SSM for streams without end, many entities, and relations that are linear in the features or in an "
        "embedding: its cost does not grow, and forgetting is a decay. For an exact fit of a stationary linear "
        "relation take least squares: d² numbers of state as well, and no rate to choose.",
        (
            f"Attention was more accurate on the sine waves at {_listed(better)} examples: take it, or a window of it "
            "beside the SSM, for such relations where the history is short or may be cut."
            if better
            else "Attention was more accurate in none of the sine-wave cases measured."
        )
        + " Its layers had a fixed number of updates and no search for a rate, so that more training may favour them. "
        "That attention suits the recall of single past events is a judgement, not a measurement of this report.",
    ]


def _listed(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers)
