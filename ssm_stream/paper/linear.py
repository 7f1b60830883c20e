"""The paper's linear regression: the layer trained from random initialisation against explicit gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table, at_least, at_most
from ssm_stream.paper.equalities import query_jacobian
from ssm_stream.paper.experiment import Context, relative, within
from ssm_stream.paper.gdssm import GDSSM, pack_tokens
from ssm_stream.paper.tasks import LinearTasks, descent, evaluation_tasks, gradient_descent, mean_losses, zero
from ssm_stream.paper.training import Curve, Recipe, fit, predictor

EVALUATION_SEED = 303
"""Seed of the evaluation tasks; training draws from other seeds."""


@dataclass(frozen=True)
class ClosedFormSettings:
    """Explicit gradient descent against its closed form."""

    sizes: tuple[int, ...] = (5, 10, 20, 35, 50)
    count: int = 40_000


def closed_form(settings: ClosedFormSettings, context: Context) -> Section:
    """Explicit gradient descent at η* on the evaluation tasks against ½ f s2 (1 − 1/m)."""
    checks: list[Check] = []
    rows: list[list[Cell]] = []
    for index, f in enumerate(settings.sizes):
        tasks = LinearTasks(f=f, m=f)
        rate = tasks.best_rate
        drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
        losses = mean_losses({"GD": descent([rate]), "zero": zero}, drawn)
        target = tasks.one_step_loss(rate)
        checks.append(at_most(f"loss: explicit GD, f={f}, off the closed form", relative(losses["GD"], target), 0.02))
        rows.append([f, rate, target, losses["GD"], losses["GD"] / target - 1, tasks.zero_loss, losses["zero"]])
        context.advance((index + 1) / len(settings.sizes))
    text = [
        f"Before anything is trained: explicit gradient descent, one step at η*, on {settings.count:,} fresh tasks "
        "against theory. What is left is sampling. " + within("It agrees", checks)
    ]
    columns = ["f", "η*", "loss, closed form", "loss, explicit GD", "relative difference", "zero, closed", "zero"]
    return Section("The yardstick: one step of gradient descent", text, checks, [Table("", columns, rows)])


# --- trained against constructed --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainedSettings:
    """The layer trained on f = N = 10, with a scalar (m = 1) or a vector target (m = f)."""

    m: int = 1
    f: int = 10
    count: int = 20_000
    probes: int = 2_000
    """Tasks whose Jacobian is taken."""
    seed: int = 1
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class Likeness:
    """How like two predictors are, averaged over tasks."""

    cosine: float
    """Cosine of the query Jacobian of the model with W1."""
    jacobian: float
    """‖J − W1‖."""
    prediction: float
    """Root mean square of the difference of the predictions, relative to that of the prediction."""
    eta: float
    """Effective η/N: the projection of J on Σ y xᵀ."""


def likeness(layer: GDSSM, tasks: LinearTasks, count: int, device: str) -> Likeness:
    """Compare the layer with one gradient step at η* on fresh tasks."""
    m = tasks.m
    t = tasks.draw(count, torch.Generator(device).manual_seed(EVALUATION_SEED + 1))
    J = query_jacobian(lambda q: layer.predict_query(pack_tokens(t.x, t.y, q))[:, -m:], t.query).flatten(1)
    W1 = gradient_descent(t.x, t.y, [tasks.best_rate]).flatten(1)
    products = W1 * (tasks.pairs / tasks.best_rate)
    with torch.no_grad():
        predicted, expected = predictor(layer, m)(t), descent([tasks.best_rate])(t)
    return Likeness(
        cosine=float(torch.nn.functional.cosine_similarity(J, W1).mean()),
        jacobian=float((J - W1).norm(dim=1).mean()),
        prediction=float(((predicted - expected).square().mean() / expected.square().mean()).sqrt()),
        eta=float((J * products).sum() / products.square().sum()),
    )


def parameters_table(layer: GDSSM, m: int, eta: float, predicted_eta: float) -> Table:
    """Table of the trained and the predicted parameters.

    Scaling Q by a, D by b and C by 1/(ab) changes nothing, so all three are shown at the scale Q[x, y] = D[x'] = 1.
    """
    head = layer.heads[0][0]
    with torch.no_grad():
        Q, D, decay = head.Q.cpu(), layer.D.cpu(), head.decay.cpu()
        scale = Q[0, 1] * D[2]
        C = (head.C.cpu() * scale)[-m:, -m:]
        Q, D = Q / Q[0, 1], D / D[2]
    rows: list[list[Cell]] = []
    names = ("x", "y", "x'")
    for i, left in enumerate(names):
        rows += [[f"Q[{left}, {names[j]}]", float(Q[i, j]), float((i, j) == (0, 1))] for j in range(3)]
    rows += [[f"D[{name}]", float(D[i]), float(i == 2)] for i, name in enumerate(names)]
    rows.append(["C, mean of the diagonal", float(C.diagonal().mean()), -predicted_eta])
    if m > 1:
        spread = C.diagonal().std()
        rows.append(["C, spread of the diagonal", float(spread), 0.0])
        off = C - torch.diag(C.diagonal())
        rows.append(["C, root mean square off the diagonal", float(off.square().sum().div(m * m - m).sqrt()), 0.0])
    rows.append(["Λ, mean of the entries that reach the prediction", float(decay[-m:].mean()), 1.0])
    rows.append(["Λ, smallest of all entries", float(decay.min()), 1.0])
    rows.append(["effective η/N", eta, predicted_eta])
    for row in rows:
        row.append(float(row[1]) - float(row[2]))
    return Table(
        "Trained parameters beside predicted ones",
        ["parameter", "trained", "predicted", "difference"],
        rows,
        "Q and D are divided by their largest entry and C multiplied by both, as only the product acts.",
    )


def trained(settings: TrainedSettings, context: Context) -> Section:
    """Train from random initialisation and compare with one gradient step: loss, Jacobian, parameters."""
    tasks = LinearTasks(f=settings.f, m=settings.m)
    rate = tasks.best_rate
    name = "scalar" if settings.m == 1 else "vector"
    d = max(settings.f, settings.m)
    layer, curve = fit(lambda: GDSSM(d), tasks, settings.recipe, settings.seed, context.device, context.advance)
    drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
    losses = mean_losses({"layer": predictor(layer, settings.m), "GD": descent([rate]), "zero": zero}, drawn)
    like = likeness(layer, tasks, settings.probes, context.device)
    decay = layer.heads[0][0].decay.detach()
    predicted_eta = rate / tasks.pairs
    checks = [
        at_most(f"loss: trained {name}, off GD on the same tasks", relative(losses["layer"], losses["GD"]), 0.01),
        at_least(f"cosine: trained {name}, query Jacobian with GD", like.cosine, 0.999),
        at_most(f"eta: trained {name}, effective η/N off {predicted_eta:.3f}", relative(like.eta, predicted_eta), 0.02),
        at_most(f"eta: trained {name}, largest |Λ − 1|", float((1 - decay).abs().max()), 0.08),
        at_most(
            f"loss: explicit GD, {name}, off the closed form", relative(losses["GD"], tasks.one_step_loss(rate)), 0.02
        ),
    ]
    recipe = settings.recipe
    text = [
        f"The layer from random initialisation, {recipe.updates:,} updates of {recipe.batch} fresh tasks. "
        f"Its loss on {settings.count:,} tasks is {losses['layer']:.4f}; gradient descent has {losses['GD']:.4f} on "
        f"the same tasks, theory says {tasks.one_step_loss(rate):.4f}, and predicting zero has {losses['zero']:.4f}. "
        f"The query Jacobian has cosine {like.cosine:.5f} with W1 and differs by {like.jacobian:.3f} in norm; "
        f"predictions differ by {100 * like.prediction:.1f} % (root mean square). "
        + within("The bars are met", checks),
        "Recipe: the authors take 30,000 updates of 64 tasks at constant rates of 1e-4 (Λ, Δ) and 2e-4 (the rest, "
        f"weight decay 0.05). Here Adam falls from {recipe.rate:g} (Δ: {recipe.decay_rate:g}) to 0 on a cosine, "
        "without weight decay; of Λ = exp(Λ_re·Δ) only Δ is trained, as only the product acts. Initialisation, tasks "
        "and loss are the authors'.",
    ]
    table = Table(
        "Trained layer and gradient descent",
        ["quantity", "trained", "target", "difference"],
        [
            ["loss against GD on the same tasks", losses["layer"], losses["GD"], losses["layer"] - losses["GD"]],
            [
                "loss of GD against the closed form",
                losses["GD"],
                tasks.one_step_loss(rate),
                losses["GD"] - tasks.one_step_loss(rate),
            ],
            ["Jacobian cosine", like.cosine, 1.0, like.cosine - 1.0],
            ["‖J − W1‖", like.jacobian, 0.0, like.jacobian],
            ["prediction difference, relative", like.prediction, 0.0, like.prediction],
            ["effective η/N", like.eta, predicted_eta, like.eta - predicted_eta],
        ],
    )
    return Section(
        f"Trained from random initialisation: {name} target",
        text,
        checks,
        [table, parameters_table(layer, settings.m, like.eta, predicted_eta)],
        [loss_chart(curve, tasks, losses["GD"])],
    )


def loss_chart(curve: Curve, tasks: LinearTasks, reached: float) -> Chart:
    """Training loss with the levels of gradient descent and of the zero predictor."""
    x = [float(u) for u in curve.updates]
    ends = [x[0], x[-1]]
    return Chart(
        "Training loss",
        "updates",
        "loss",
        [
            Series("trained layer", x, curve.losses),
            Series("one gradient step, evaluation tasks", ends, [reached] * 2, dashed=True),
            Series("zero predictor, closed form", ends, [tasks.zero_loss] * 2, dashed=True),
        ],
    )


# --- feature sizes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SizesSettings:
    """Scalar targets, N = 10, other numbers of inputs. Batches shrink with f, as the state has f² numbers."""

    sizes: tuple[tuple[int, Recipe], ...] = (
        (5, Recipe()),
        (20, Recipe(updates=1500, batch=192)),
        (35, Recipe(updates=1500, batch=128)),
        (50, Recipe(updates=1500, batch=96)),
    )
    count: int = 20_000
    seed: int = 2


def sizes(settings: SizesSettings, context: Context) -> Section:
    """Feature sizes 5 to 50: trained loss against GD on the same tasks and against the closed form."""
    checks: list[Check] = []
    rows: list[list[Cell]] = []
    curves: list[Series] = []
    points: dict[str, list[float]] = {"trained": [], "GD": [], "closed form": []}
    for index, (f, recipe) in enumerate(settings.sizes):
        tasks = LinearTasks(f=f)
        advance = context.part(index, len(settings.sizes))
        layer, curve = fit(lambda f=f: GDSSM(f), tasks, recipe, settings.seed, context.device, advance)  # type: ignore[misc]
        drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
        losses = mean_losses({"layer": predictor(layer, 1), "GD": descent([tasks.best_rate])}, drawn)
        like = likeness(layer, tasks, 1000, context.device)
        target = tasks.one_step_loss(tasks.best_rate)
        checks.append(
            at_most(f"loss: trained f={f}, off GD on the same tasks", relative(losses["layer"], losses["GD"]), 0.01)
        )
        rows.append(
            [
                f,
                losses["layer"],
                losses["GD"],
                losses["layer"] / losses["GD"] - 1,
                target,
                like.cosine,
                like.eta,
                tasks.best_rate / 10,
            ]
        )
        curves.append(Series(f"f = {f}", [float(u) for u in curve.updates], [v / target for v in curve.losses]))
        for key, value in zip(points, (losses["layer"], losses["GD"], target), strict=True):
            points[key].append(value)
    columns = ["f", "trained", "GD, same tasks", "relative difference", "closed form", "Jacobian cosine", "η/N", "η*/N"]
    fs = [float(f) for f, _ in settings.sizes]
    text = ["Scalar targets, ten examples, 5 to 50 inputs. " + within("The layer matches gradient descent", checks)]
    charts = [
        Chart(
            "Loss by feature size",
            "inputs f",
            "loss",
            [Series(k, fs, v, dashed=k != "trained") for k, v in points.items()],
        ),
        Chart("Training loss, relative to the closed form", "updates", "loss / closed form", curves, log_y=True),
    ]
    return Section("Feature sizes", text, checks, [Table("", columns, rows)], charts)


# --- out of distribution ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OodSettings:
    """Input ranges and weight scales outside those of training."""

    ranges: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    weights: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)
    count: int = 40_000
    trained: TrainedSettings | None = field(default_factory=lambda: TrainedSettings(m=10))
    """The layer to train and test besides the construction; None for the construction alone."""


def out_of_distribution(settings: OodSettings, context: Context) -> Section:
    """The construction at η* of r = 1 against the closed form at other ranges and weights, and the trained layer."""
    home = LinearTasks(m=10)
    rate = home.best_rate
    with torch.device(context.device):
        layers = {"construction": GDSSM.gradient_descent(10, rate, home.pairs)}
    if settings.trained is not None:
        run = settings.trained
        layers["trained"], _ = fit(lambda: GDSSM(10), home, run.recipe, run.seed, context.device, context.part(0, 2))
    checks: list[Check] = []
    tables, charts = [], []
    shifts = [("input range r", [LinearTasks(m=10, input_range=r) for r in settings.ranges], settings.ranges)]
    shifts.append(("weight scale", [LinearTasks(m=10, weight=w) for w in settings.weights], settings.weights))
    for label, shifted, values in shifts:
        rows: list[list[Cell]] = []
        lines: dict[str, list[float]] = {"closed form": [], **{name: [] for name in layers}}
        for value, tasks in zip(values, shifted, strict=True):
            drawn = evaluation_tasks(tasks, settings.count, EVALUATION_SEED, context.device)
            losses = mean_losses({name: predictor(layer, 10) for name, layer in layers.items()}, drawn)
            target = tasks.one_step_loss(rate)
            off = relative(losses["construction"], target)
            checks.append(at_most(f"ood: construction, {label} {value:g}, off the closed form", off, 0.02))
            row: list[Cell] = [value, target, losses["construction"], losses["construction"] / target - 1]
            if "trained" in losses:
                row += [losses["trained"], losses["trained"] / losses["construction"] - 1]
            rows.append([*row, tasks.zero_loss, tasks.best_rate])
            for name, line in lines.items():
                line.append(target if name == "closed form" else losses[name])
        extra = ["trained", "trained / construction − 1"] if "trained" in layers else []
        columns = [label, "closed form", "construction", "difference", *extra, "zero predictor", "η* there"]
        tables.append(Table(f"Loss against the {label}", columns, rows))
        series = [Series(n, list(values), v, dashed=n == "closed form") for n, v in lines.items()]
        charts.append(Chart(f"Loss against the {label}", label, "loss", series, log_y=True))
    worse = [r for r in settings.ranges if (t := LinearTasks(m=10, input_range=r)).one_step_loss(rate) > t.zero_loss]
    text = [
        f"Trained at input range 1 and weight scale 1, tested elsewhere, always with η = {rate:.2f}. "
        + within("The construction is on the closed form", checks),
        "The loss scales with the square of the weights, because the layer is linear in the targets. It is not "
        "invariant to the inputs: η* falls with the square of their range. "
        + (
            f"From a range of {worse[0]:g} on, one step at the old rate is worse than predicting zero. That is a "
            "property of gradient descent with a fixed rate and no defect of the training; standardise the inputs, or "
            "let the rate follow them."
            if worse
            else "At these ranges it stays better than predicting zero."
        ),
    ]
    return Section("Out of distribution", text, checks, tables, charts)
