"""Part (d) of `verify`: the paper's layer, by construction, on contexts of this recording."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssm_stream.core.shapes import Q_CLIP
from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.section import Cell, Section, Table, at_most
from ssm_stream.paper.gdssm import GDSSM, pack_tokens
from ssm_stream.verify.record import Recorded
from ssm_stream.verify.replay import Replay

PAIRS = 20
"""N: events of a context."""
MOST = 256
"""Contexts taken, evenly over the recording; fewer where inputs are many."""
NUMBERS = 4_000_000
"""Numbers of the layer's states over all contexts and pairs."""
STEPS = 4
EQUAL = 1e-12
LEAST_RATE = 1e-3
"""η where the fit gives a negative one: on contexts that hold nothing to learn."""


class Contexts(NamedTuple):
    """B contexts of N consecutive learned events of one life, and the event that follows, standardised by the pool.

    x (B, N, D), q (B, N), query (B, D), answer (B,): q of the query; row (B,): the query's place in the recording. D
    counts the inputs that are ever other than 0.
    """

    x: Tensor
    q: Tensor
    query: Tensor
    answer: Tensor
    row: Any


def contexts(run: Replay, seen: Recorded) -> Contexts | None:
    """Contexts in the order of their query's time; None where no life has N + 1 learned events."""
    order = np.argsort(run.lives, kind="stable")
    order = order[~np.isnan(seen.q[order])]
    lives = run.lives[order]
    starts = np.flatnonzero(lives[PAIRS:] == lives[:-PAIRS]) if len(lives) > PAIRS else np.zeros(0, np.int64)
    if not len(starts):
        return None
    D = int((seen.x != 0).any(0).sum())
    most = max(2, min(MOST, NUMBERS // (PAIRS * D * D), len(starts)))
    starts = starts[np.linspace(0, len(starts) - 1, most).astype(np.int64)]
    starts = starts[np.argsort(order[starts + PAIRS], kind="stable")]
    rows = order[starts[:, None] + np.arange(PAIRS + 1)]
    x = seen.x[rows].astype(np.float64)
    x, q = torch.from_numpy(x[..., (x != 0).any((0, 1))]), torch.from_numpy(seen.q[rows])
    return Contexts(x[:, :PAIRS], q[:, :PAIRS], x[:, PAIRS], q[:, PAIRS], rows[:, PAIRS])


def explicit_prefixes(c: Contexts, rate: float) -> Tensor:
    """(B, N) prediction for x_{k+1} after one gradient step from W0 = 0 on the first k pairs, each step on its own.

    The gradient of 1/(2N) Σ_{i≤k} (W x_i − q_i)² at 0 is −(1/N) Σ_{i≤k} q_i x_i.
    """
    following = torch.cat([c.x[:, 1:], c.query[:, None]], 1)
    predictions = []
    for k in range(1, PAIRS + 1):
        W = (rate / PAIRS) * (c.q[:, :k, None] * c.x[:, :k]).sum(1)
        predictions.append((W * following[:, k - 1]).sum(1))
    return torch.stack(predictions, 1)


def explicit_steps(c: Contexts, rate: float, steps: int) -> Tensor:
    """(B,) prediction for the query after some gradient steps from W0 = 0 on the whole context."""
    W = torch.zeros_like(c.query)
    for _ in range(steps):
        error = (c.x @ W[..., None])[..., 0] - c.q
        W = W - (rate / PAIRS) * (error[..., None] * c.x).sum(1)
    return (W * c.query).sum(1)


def _apart(a: Tensor, b: Tensor) -> float:
    """Largest |a − b| / max(1, |b|)."""
    return float(((a - b).abs() / b.abs().clamp_min(1.0)).max())


def construction_section(run: Replay, seen: Recorded) -> tuple[Section, Any]:
    """Equalities of the constructed layer and explicit gradient descent, and its error beside production's."""
    title = "Shipped weights and the paper's construction"
    found = contexts(run, seen)
    if found is None:
        return Section(title, text=[f"Not measured: no entity has {PAIRS + 1} learned events in a row."]), {}
    d = found.x.shape[-1]
    fitted = len(found.answer) // 2 or 1
    slope = explicit_steps(found, 1.0, 1)
    size = float((slope[:fitted] ** 2).sum()) or 1.0
    rate = max(float((slope[:fitted] * found.answer[:fitted]).sum()) / size, LEAST_RATE)
    steep = 1.0 / float(torch.linalg.eigvalsh(found.x.mT @ found.x / PAIRS).max())
    tokens = pack_tokens(found.x, found.q[..., None], found.query)
    with torch.no_grad():
        layer = GDSSM.gradient_descent(d, rate, PAIRS, dtype=torch.float64)
        stack = GDSSM.gradient_descent(d, [steep] * STEPS, PAIRS, dtype=torch.float64)
        prefixes = explicit_prefixes(found, rate)
        parallel, recurrent = layer(tokens)[..., -1], layer.recurrent(tokens)[..., -1]
        stacked = stack.predict_query(tokens)[..., -1]
    name = "verify equal: construction against explicit gradient descent"
    checks = [
        at_most(f"{name}, parallel form, every prefix", _apart(parallel, prefixes), EQUAL),
        at_most(f"{name}, recurrent form, every prefix", _apart(recurrent, prefixes), EQUAL),
        at_most(f"{name}, {STEPS} steps", _apart(stacked, explicit_steps(found, steep, STEPS)), EQUAL),
    ]
    figures: dict[str, Any] = {"contexts": len(found.row), "pairs": PAIRS, "rate": rate} | _errors(
        run, seen, found, fitted, parallel[:, -1], stacked
    )
    rows: list[list[Cell]] = [
        [label, figures[key]]
        for label, key in (
            ("production: shipped heads and gates, all events so far", "production"),
            (f"construction: one step on the last {PAIRS} events", "one_step"),
            (f"construction: {STEPS} steps on the last {PAIRS} events", "steps"),
            ("W0: the base alone", "w0"),
        )
    ]
    table = Table(
        f"Mean absolute error on the same {figures['judged']:,} events, in the target's unit",
        ["model", "error"],
        rows,
        "The second half of the contexts in time; η of the one step was fitted on the first half.",
    )
    return Section(title, text=_text(run, figures), checks=checks, tables=[table]), figures


def _errors(
    run: Replay, seen: Recorded, found: Contexts, fitted: int, one: Tensor, many: Tensor
) -> dict[str, float | int]:
    """Mean absolute errors on the queries that the rate was not fitted on (on all, if there is but one)."""
    judged = slice(fitted if len(found.row) > 1 else 0, None)
    row = found.row[judged]
    y = run.y[row]

    def error(q: Tensor) -> float:
        answer = seen.base[row] + seen.mean[row] + seen.deviation[row] * np.clip(q.numpy()[judged], -Q_CLIP, Q_CLIP)
        return float(np.abs(y - answer).mean())

    return {
        "judged": len(row),
        "production": float(np.abs(y - seen.yhat[row]).mean()),
        "one_step": error(one),
        "steps": error(many),
        "w0": float(np.abs(y - seen.w0[row]).mean()),
    }


def _text(run: Replay, figures: dict[str, Any]) -> list[str]:
    best = figures["production"] <= min(figures["one_step"], figures["steps"])
    return [
        "The shipped weights are the production heads' decays, steps and ridges of this configuration; the first "
        "chapter holds them to explicit gradient descent. The construction is the paper's layer with weights set by "
        f"hand (input gate e0 e1ᵀ, decay 1, output gate e2, read-out −(η/N) I): {figures['contexts']} contexts of "
        f"{PAIRS} consecutive events of this recording, inputs and targets standardised as production does, in 64-bit "
        f"floats, η = {number(figures['rate'])}. Against it stand explicit gradient steps from W0 = 0.",
        "The construction forgets everything before its context and knows no gates, so it shows what one gradient step "
        "is worth, not what production reaches. On these events production has the "
        + ("lowest error of the gradient models." if best else "higher error of the two: here the last events say it."),
    ]
