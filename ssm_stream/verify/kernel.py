"""Part (a) of `verify`: is the production kernel gradient descent on this recording?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table, at_most
from ssm_stream.verify.record import Deviation, Recorded
from ssm_stream.verify.reference import Array, head_names
from ssm_stream.verify.replay import Replay

MEDIAN_BAR = 1e-5
EDGES = (1, 4, 11, 31, 101, 301, 1001, 3001, 10_001, 30_001, 100_001, 300_001, 1_000_001)
"""First counts of events seen of each bin; the last bin is open."""


def bin_name(index: int) -> str:
    """Such as `4–10`."""
    return f"{EDGES[index]:,}–{EDGES[index + 1] - 1:,}" if index + 1 < len(EDGES) else f"from {EDGES[index]:,}"


def kernel_section(
    run: Replay, seen: Recorded, deviation: Deviation, distances: Array, tolerance: float
) -> tuple[Section, Any]:
    """Checks, tables and charts of part (a), and its figures for the JSON.

    distances: of the moment heads from their exact solution, see `replay.compare`
    tolerance: bar of the largest relative deviation
    """
    events = ~np.isnan(seen.q)
    learned = deviation.learned
    parts = (("predictions", deviation.answer), ("weights", deviation.weights))
    same = float(np.max(np.abs(seen.yhat - run.yhat)))
    checks = [at_most("verify kernel: recorded predictions against the engine's, largest difference", same, 0.0)]
    used = np.flatnonzero(learned.any(0)).tolist()
    names = head_names(run.params)
    heads: list[dict[str, Any]] = [{"head": names[h]} for h in used]
    for name, values in parts:
        all_values = values[learned]
        checks += [
            at_most(f"verify kernel: {name}, largest relative deviation", float(np.max(all_values)), tolerance),
            at_most(f"verify kernel: {name}, median relative deviation", float(np.median(all_values)), MEDIAN_BAR),
        ]
        for h, head in zip(used, heads, strict=True):
            head[name] = _worst(run, values[:, h], learned[:, h])
    shift = deviation.shift[events]
    figures: dict[str, Any] = {
        "events": int(events.sum()),
        "heads": heads,
        "prediction_difference": {"largest": float(shift.max()), "median": float(np.median(shift))},
        "mae": float(np.abs(run.y - run.yhat)[events].mean()),
        "exact": _exact(run, distances),
    }
    section = Section(
        "The production kernel against explicit gradient descent",
        text=_text(run, figures, checks),
        checks=checks,
        tables=[_table(heads), *_exact_table(figures["exact"])],
        charts=[_chart(run, learned, name, values) for name, values in reversed(parts)],
    )
    return section, figures


def _worst(run: Replay, values: Any, learned: Any) -> dict[str, Any]:
    """Largest and median deviation of one head, and where the largest is."""
    at = int(np.argmax(np.where(learned, np.where(np.isnan(values), np.inf, values), -1.0)))
    return {
        "largest": float(values[at]),
        "median": float(np.median(values[learned])),
        "entity": run.names[run.lives[at]],
        "events_seen": int(run.seen[at]),
    }


def _exact(run: Replay, distances: Array) -> list[dict[str, Any]]:
    """Median and largest distance of each moment head from the exact solution; none where nothing was to solve."""
    found = []
    for m, name in enumerate(head_names(run.params)[: distances.shape[1]]):
        known = distances[~np.isnan(distances[:, m]), m]
        if len(known):
            figures = {"median": float(np.median(known)), "largest": float(known.max()), "moments": len(known)}
            found.append({"head": name, **figures})
    return found


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
        "The checks take the largest and the median over all learned events and all heads. Fleet: the pool's weights "
        "on inputs standardised by the pool; norm: the pool's, standardised by entity and by pool; entity: its own.",
    )


def _exact_table(exact: list[dict[str, Any]]) -> list[Table]:
    rows: list[list[Cell]] = [[row["head"], row["median"], row["largest"], row["moments"]] for row in exact]
    title = "Distance of the moment heads from the exact solution of their decayed least squares"
    note = (
        "Root mean square difference of the predictions over the decayed events, as a part of the exact solution's "
        "own. One sweep an event follows the minimum; it does not stand on it."
    )
    return [Table(title, ["head", "median", "largest", "moments measured"], rows, note)] if rows else []


def _groups(run: Replay) -> dict[str, list[int]]:
    """Heads of the chart's lines: each moment head of each scope, and the gradient heads of a scope together."""
    groups: dict[str, list[int]] = {}
    for h, name in enumerate(head_names(run.params)):
        scope = name.split(":")[0]
        groups.setdefault(name if ": moments" in name else f"{scope}: all others", []).append(h)
    return groups


def _chart(run: Replay, learned: Any, name: str, values: Any) -> Chart:
    """Largest deviation of each group of heads in each bin of events seen."""
    bins = np.digitize(run.seen, EDGES) - 1
    series = []
    for group, heads in _groups(run).items():
        x, y = [], []
        for b in range(len(EDGES)):
            here = learned[:, heads] & (bins == b)[:, None]
            if here.any():
                x.append(float(EDGES[b]))
                y.append(float(values[:, heads][here].max()))
        if x:
            series.append(Series(group, x, y))
    title = f"{name.capitalize()}: largest relative deviation, by events the entity has seen"
    return Chart(title, "events seen", "relative deviation", series, log_x=True, log_y=True)


def _text(run: Replay, figures: dict[str, Any], checks: list[Check]) -> list[str]:
    shift, mae = figures["prediction_difference"], figures["mae"]
    p, scopes = run.params, {head["head"].split(":")[0] for head in figures["heads"]}
    loose = [h["head"] for h in figures["heads"] if h["weights"]["median"] > MEDIAN_BAR]
    left_out = "the gates" if not p.window else "the gates and the corrections that attention adds to the moment heads"
    text = [
        f"The production kernel learned {figures['events']:,} events in the order of the recording, in 32-bit floats. "
        "Next to it ran gradient descent written out in 64-bit floats on the same inputs and targets: moments "
        "accumulated one product at a time, every gradient of every coordinate computed anew from them, embedding and "
        f"ferns too, its own weights from the first event to the last. That is {len(figures['heads'])} heads in "
        f"{len(scopes)} {'scope' if len(scopes) == 1 else 'scopes'}, compared after every event. Not compared: "
        f"{left_out}, which weigh what the heads say.",
        "Deviation of predictions: |kernel − reference| / max(1, |reference|), in standard deviations of the head's "
        "target. Deviation of weights: Euclidean norm of the difference over the norm of the reference. Both use the "
        "kernel's decays, ridges and steps.",
        f"Carried to the final prediction, with the gate's weights held, the difference is at most "
        f"{number(shift['largest'])} and {number(shift['median'])} in the median, in the target's unit, where the mean "
        f"absolute error is {number(mae)}.",
    ]
    if loose:
        text.append(
            f"Taken alone, the weights of {'; '.join(loose)} deviate by more than {MEDIAN_BAR:g} in the median. "
            "Moments S are 32-bit floats: where inputs are nearly copies of each other, their rounding moves the "
            "weights along the directions that S hardly determines, which the predictions hardly feel."
        )
    missed = [check for check in checks if not check.ok]
    if missed:
        text.append(
            "The kernel is not within its bars here: " + "; ".join(f"{c.name} is {number(c.value)}" for c in missed)
            + ". Do not use this build for production before that is explained; send this report with the recording."
        )  # fmt: skip
    return text
