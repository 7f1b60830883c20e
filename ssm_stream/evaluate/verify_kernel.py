"""Part (a) of `verify`: is the production kernel gradient descent on this recording?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssm_stream.evaluate.paper_report import number
from ssm_stream.evaluate.paper_section import Cell, Chart, Check, Section, Series, Table, at_most
from ssm_stream.evaluate.verify_reference import Array, Deviation, Recorded, head_names
from ssm_stream.evaluate.verify_replay import Replay
from ssm_stream.model.kernel import Q_CLIP

MEDIAN_BAR = 1e-5
EDGES = (1, 4, 11, 31, 101, 301, 1001, 3001, 10_001, 30_001, 100_001, 300_001, 1_000_001)
"""First counts of events seen of each bin; the last bin is open."""


def bin_name(index: int) -> str:
    """Such as `4–10`."""
    return f"{EDGES[index]:,}–{EDGES[index + 1] - 1:,}" if index + 1 < len(EDGES) else f"from {EDGES[index]:,}"


def kernel_section(run: Replay, seen: Recorded, deviation: Deviation, tolerance: float) -> tuple[Section, Any]:
    """Checks, tables and charts of part (a), and its figures for the JSON.

    tolerance: bar of the largest relative deviation
    """
    learned = ~np.isnan(seen.q)
    parts = (("predictions", deviation.answer), ("weights", deviation.weights))
    same = float(np.max(np.abs(seen.yhat - run.yhat)))
    checks = [at_most("verify kernel: recorded predictions against the engine's, largest difference", same, 0.0)]
    heads: list[dict[str, Any]] = [{"head": name} for name in head_names(run.params)]
    for name, values in parts:
        largest, median = float(np.max(values[learned])), float(np.median(values[learned]))
        checks += [
            at_most(f"verify kernel: {name}, largest relative deviation", largest, tolerance),
            at_most(f"verify kernel: {name}, median relative deviation", median, MEDIAN_BAR),
        ]
        for h, head in enumerate(heads):
            head[name] = _worst(run, values[:, h], learned)
    shift = _shift(run, seen, deviation)[learned]
    error = np.abs(run.y - run.yhat)[learned]
    figures = {
        "events": int(learned.sum()),
        "heads": heads,
        "prediction_difference": {"largest": float(shift.max()), "median": float(np.median(shift))},
        "mae": float(error.mean()),
    }
    section = Section(
        "The production kernel against explicit gradient descent",
        text=_text(run, figures, checks),
        checks=checks,
        tables=[_table(heads)],
        charts=[_chart(run, learned, name, values) for name, values in reversed(parts)],
    )
    return section, figures


def _worst(run: Replay, values: Array, learned: Any) -> dict[str, Any]:
    """Largest and median deviation of one head, and where the largest is."""
    at = int(np.argmax(np.where(learned, np.where(np.isnan(values), np.inf, values), -1.0)))
    return {
        "largest": float(values[at]),
        "median": float(np.median(values[learned])),
        "entity": run.names[run.lives[at]],
        "events_seen": int(run.seen[at]),
    }


def _shift(run: Replay, seen: Recorded, deviation: Deviation) -> Array:
    """(n,) |prediction with the kernel's heads − with the reference's|, gate weights alike, in the target's unit."""
    kernel, reference = (np.clip(a, -Q_CLIP, Q_CLIP) for a in (seen.answer, deviation.answer64))
    moved: Array = np.abs(seen.deviation * ((kernel - reference) * seen.g[:, : run.params.H]).sum(1))
    return moved


def _table(heads: list[dict[str, Any]]) -> Table:
    rows: list[list[Cell]] = []
    for head in heads:
        p, w = head["predictions"], head["weights"]
        where = f"{w['entity']}, after {w['events_seen']:,} events"
        rows.append([head["head"], p["largest"], p["median"], w["largest"], w["median"], where])
    return Table(
        "Relative deviation of the float32 kernel from float64 gradient descent, by head",
        ["head", "predictions: largest", "median", "weights: largest", "median", "largest of weights: where"],
        rows,
        "The checks take the largest and the median over all learned events and all heads.",
    )


def _chart(run: Replay, learned: Any, name: str, values: Array) -> Chart:
    """Largest deviation of each head in each bin of events seen."""
    bins = np.digitize(run.seen, EDGES) - 1
    used = [b for b in range(len(EDGES)) if np.any(learned & (bins == b))]
    series = [
        Series(
            head,
            [float(EDGES[b]) for b in used],
            [float(values[learned & (bins == b), h].max()) for b in used],
        )
        for h, head in enumerate(head_names(run.params))
    ]
    title = f"{name.capitalize()}: largest relative deviation, by events the entity has seen"
    return Chart(title, "events seen", "relative deviation", series, log_x=True, log_y=True)


def _text(run: Replay, figures: dict[str, Any], checks: list[Check]) -> list[str]:
    shift, mae = figures["prediction_difference"], figures["mae"]
    p = run.params
    loose = [h["head"] for h in figures["heads"] if h["weights"]["median"] > MEDIAN_BAR]
    text = [
        f"The production kernel learned {figures['events']:,} events in the order of the recording, in 32-bit floats. "
        "Beside it ran gradient descent written out in 64-bit floats on the same inputs and targets: moments "
        "accumulated one product at a time, every gradient of every coordinate computed anew from them, its own "
        f"weights from the first event to the last. That is {p.H} heads of {p.D} weights "
        f"({p.M} moment heads, {p.H - p.M} proximal heads), compared after every event.",
        "Deviation of predictions: |kernel − reference| / max(1, |reference|), in standard deviations of the target "
        "about its base. Deviation of weights: Euclidean norm of the difference over the norm of the reference. Both "
        "use the kernel's decays, ridges and steps to the last bit.",
        f"Carried to the final prediction, with the gate's weights held, the difference is at most "
        f"{number(shift['largest'])} and {number(shift['median'])} in the median, in the target's unit, where the mean "
        f"absolute error is {number(mae)}.",
    ]
    if loose:
        text.append(
            f"Taken alone, the weights of {' and '.join(loose)} deviate by more than {MEDIAN_BAR:g} in the median. "
            "Its moments S are 32-bit floats: where inputs are nearly copies of each other, their rounding moves the "
            "weights along the directions that S hardly determines, which the predictions hardly feel."
        )
    missed = [check for check in checks if not check.ok]
    if missed:
        text.append(
            "The kernel is not within its bars here: " + "; ".join(f"{c.name} is {number(c.value)}" for c in missed)
            + ". Do not use this build for production before that is explained; send this report with the recording."
        )  # fmt: skip
    return text
