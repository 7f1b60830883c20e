"""Part (d) of `verify`: the paper's layer, by construction, on contexts of this recording. `docs/model.md`, section 1.

The layer is written out in NumPy from its equations, with the weights of the construction, and compared with explicit
gradient descent; with automatic differentiation too where torch is installed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.shapes import Q_CLIP
from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.section import Cell, Section, Table, at_most
from ssm_stream.reference import has_torch
from ssm_stream.verify.record import Recorded
from ssm_stream.verify.reference import Array
from ssm_stream.verify.replay import Replay
from ssm_stream.verify.words import Words

PAIRS = 20
"""N: events of a context."""
MAX_CONTEXTS = 256
"""Contexts taken, evenly over the recording; fewer where inputs are many."""
NUMBERS = 4_000_000
"""Numbers of the layer's states over all contexts and pairs."""
STEPS = 4
EQUAL = 1e-12
MIN_RATE = 1e-3
"""η where the fit gives a negative one: on contexts that hold nothing to learn."""


class Contexts(NamedTuple):
    """B contexts of N consecutive learned events of one life, and the event that follows, standardised by the pool.

    x (B, N, D), q (B, N), query (B, D), answer (B,): q of the query; row (B,): the query's place in the recording. D
    counts the inputs that are ever other than 0.
    """

    x: Array
    q: Array
    query: Array
    answer: Array
    row: NDArray[np.int64]


def contexts(run: Replay, seen: Recorded) -> Contexts | None:
    """Contexts in the order of their query's time; None where no life has N + 1 learned events."""
    order = np.argsort(run.lives, kind="stable")
    order = order[~np.isnan(seen.q[order])]
    lives = run.lives[order]
    starts = np.flatnonzero(lives[PAIRS:] == lives[:-PAIRS]) if len(lives) > PAIRS else np.zeros(0, np.int64)
    if not len(starts):
        return None
    D = int((seen.x != 0).any(0).sum())
    count = max(2, min(MAX_CONTEXTS, NUMBERS // (PAIRS * D * D), len(starts)))
    starts = starts[np.linspace(0, len(starts) - 1, count).astype(np.int64)]
    starts = starts[np.argsort(order[starts + PAIRS], kind="stable")]
    rows = order[starts[:, None] + np.arange(PAIRS + 1)]
    x, q = seen.x[rows].astype(np.float64), seen.q[rows]
    x = x[..., (x != 0).any((0, 1))]
    return Contexts(x[:, :PAIRS], q[:, :PAIRS], x[:, PAIRS], q[:, PAIRS], rows[:, PAIRS])


def explicit_prefixes(c: Contexts, rate: float) -> Array:
    """(B, N) prediction for x_{k+1} after one gradient step from W0 = 0 on the first k pairs, each step on its own.

    The gradient of 1/(2N) Σ_{i≤k} (W x_i − q_i)² at 0 is −(1/N) Σ_{i≤k} q_i x_i.
    """
    following = np.concatenate([c.x[:, 1:], c.query[:, None]], 1)
    predictions = []
    for k in range(1, PAIRS + 1):
        W = (rate / PAIRS) * (c.q[:, :k, None] * c.x[:, :k]).sum(1)
        predictions.append((W * following[:, k - 1]).sum(1))
    return np.stack(predictions, 1)


def explicit_steps(c: Contexts, rate: float, steps: int) -> Array:
    """(B,) prediction for the query after some gradient steps from W0 = 0 on the whole context."""
    W = np.zeros_like(c.query)
    for _ in range(steps):
        error = (c.x @ W[..., None])[..., 0] - c.q
        W -= (rate / PAIRS) * (error[..., None] * c.x).sum(1)
    return np.asarray((W * c.query).sum(1))


def differentiated_steps(c: Contexts, rate: float, steps: int) -> Array:
    """`explicit_steps` with the gradient by torch's automatic differentiation of the loss."""
    import torch

    x, q, query = (torch.from_numpy(part) for part in (c.x, c.q, c.query))
    W = torch.zeros_like(query, requires_grad=True)
    for _ in range(steps):
        loss = (((x @ W[..., None])[..., 0] - q) ** 2).sum() / (2 * PAIRS)
        (gradient,) = torch.autograd.grad(loss, W)
        W = (W - rate * gradient).detach().requires_grad_()
    return np.asarray((W * query).sum(1).detach().numpy())


def windows(c: Contexts) -> Array:
    """T (B, N, 3, D): x_k, the token [0, …, 0, q_k], x_{k+1}; the last window holds the query."""
    T = np.zeros((*c.x.shape[:2], 3, c.x.shape[2]))
    T[:, :, 0], T[:, :, 1, -1] = c.x, c.q
    T[:, :-1, 2], T[:, -1, 2] = c.x[:, 1:], c.query
    return T


def input_gate(T: Array, left: int, right: int) -> Array:
    """U_kᵀ = T_kᵀ Qᵀ T_k with Q = e_left e_rightᵀ: (…, 3, D) → (…, D, D)."""
    Q = np.zeros((3, 3))
    Q[left, right] = 1.0
    return np.asarray(np.swapaxes(Q @ T, -1, -2) @ T)


def read(T: Array, answer: Array, rate: float, refine: Array | None = None, steps: int = 1) -> Array:
    """Output gate D = e2 and read-outs C = −(η/N) I of K = `steps` layers: (…,) predictions, the token's last number.

    answer, refine (…, D, D): the states N·G and N·S, the same in each layer, as its windows are; one layer needs no
        refine
    """
    v = T[..., 2, :]
    prediction = np.zeros_like(v)
    for _ in range(steps):
        prediction += (rate / PAIRS) * (answer @ v[..., None])[..., 0]
        if refine is not None:
            v = v - (rate / PAIRS) * (refine @ v[..., None])[..., 0]
    return np.asarray(prediction[..., -1])


def parallel_form(T: Array, rate: float) -> Array:
    """(B, N) predictions of one layer from all its states Z_k = Σ_{i≤k} U_iᵀ at once."""
    return read(T, np.cumsum(input_gate(T, 0, 1), 1), rate)


def recurrent_form(T: Array, rate: float) -> Array:
    """(B, N) predictions of one layer, one event after the other: Z_k = Z_{k−1} + U_kᵀ."""
    Z = np.zeros((len(T), T.shape[-1], T.shape[-1]))
    predictions = []
    for k in range(T.shape[1]):
        Z += input_gate(T[:, k], 0, 1)
        predictions.append(read(T[:, k], Z, rate))
    return np.stack(predictions, 1)


def stacked_layers(T: Array, rate: float, steps: int) -> Array:
    """(B,) predictions for the query of so many layers."""
    return read(T[:, -1], input_gate(T, 0, 1).sum(1), rate, input_gate(T, 0, 0).sum(1), steps)


def _apart(a: Array, b: Array) -> float:
    """Largest |a − b| / max(1, |b|)."""
    return float((np.abs(a - b) / np.maximum(np.abs(b), 1.0)).max())


def construction_section(run: Replay, seen: Recorded, words: Words) -> tuple[Section, Any]:
    """Equalities of the constructed layer and explicit gradient descent, and its error next to production's."""
    title = words("construction.title")
    found = contexts(run, seen)
    if found is None:
        return Section(title, text=[words("construction.unmeasured", need=PAIRS + 1)]), {}
    fitted = len(found.answer) // 2 or 1
    slope = explicit_steps(found, 1.0, 1)
    size = float((slope[:fitted] ** 2).sum()) or 1.0
    rate = max(float((slope[:fitted] * found.answer[:fitted]).sum()) / size, MIN_RATE)
    steep = 1.0 / float(np.linalg.eigvalsh(np.swapaxes(found.x, 1, 2) @ found.x / PAIRS).max())
    T = windows(found)
    prefixes, several = explicit_prefixes(found, rate), explicit_steps(found, steep, STEPS)
    parallel, stacked = parallel_form(T, rate), stacked_layers(T, steep, STEPS)
    name = "verify equal: construction against explicit gradient descent"
    checks = [
        at_most(f"{name}, parallel form, every prefix", _apart(parallel, prefixes), EQUAL),
        at_most(f"{name}, recurrent form, every prefix", _apart(recurrent_form(T, rate), prefixes), EQUAL),
        at_most(f"{name}, {STEPS} steps", _apart(stacked, several), EQUAL),
    ]
    if has_torch():
        name = "verify equal: explicit gradient descent against automatic differentiation"
        checks.append(at_most(name, _apart(differentiated_steps(found, steep, STEPS), several), EQUAL))
    figures: dict[str, Any] = {"contexts": len(found.row), "pairs": PAIRS, "rate": rate} | _errors(
        run, seen, found, fitted, parallel[:, -1], stacked
    )
    rows: list[list[Cell]] = [
        [label, figures[key]]
        for label, key in (
            (words("construction.production"), "production"),
            (words("construction.one_step", pairs=PAIRS), "one_step"),
            (words("construction.steps", steps=STEPS, pairs=PAIRS), "steps"),
            (words("construction.w0"), "w0"),
        )
    ]
    table = Table(
        words("construction.table", events=f"{figures['judged']:,}"),
        [words("construction.column.model"), words("construction.column.error")],
        rows,
        words("construction.note"),
    )
    return Section(title, text=_text(figures, words), checks=checks, tables=[table]), figures


def _errors(
    run: Replay, seen: Recorded, found: Contexts, fitted: int, one: Array, many: Array
) -> dict[str, float | int]:
    """Mean absolute errors on the queries that the rate was not fitted on (on all, if there is but one)."""
    judged = slice(fitted if len(found.row) > 1 else 0, None)
    row = found.row[judged]
    y = run.y[row]

    def error(q: Array) -> float:
        answer = seen.base[row] + seen.mean[row] + seen.deviation[row] * np.clip(q[judged], -Q_CLIP, Q_CLIP)
        return float(np.abs(y - answer).mean())

    return {
        "judged": len(row),
        "production": float(np.abs(y - seen.yhat[row]).mean()),
        "one_step": error(one),
        "steps": error(many),
        "w0": float(np.abs(y - seen.w0[row]).mean()),
    }


def _text(figures: dict[str, Any], words: Words) -> list[str]:
    best = figures["production"] <= min(figures["one_step"], figures["steps"])
    rate = number(figures["rate"])
    return [
        words("construction.text.what", contexts=figures["contexts"], pairs=PAIRS, rate=rate),
        words("construction.text.best" if best else "construction.text.not_best"),
    ]
