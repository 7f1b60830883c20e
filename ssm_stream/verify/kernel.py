"""Part (a) of `verify`: are the production kernel's heads, gates and predictions those of gradient descent?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssm_stream.core.implicit import product_names
from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table, at_most
from ssm_stream.verify.record import Deviation, Recorded
from ssm_stream.verify.reference import Array, head_names
from ssm_stream.verify.replay import Replay
from ssm_stream.verify.words import Words

MEDIAN_BAR = 1e-5
EDGES = (1, 4, 11, 31, 101, 301, 1001, 3001, 10_001, 30_001, 100_001, 300_001, 1_000_001)
"""First counts of events seen of each bin; the last bin is open."""


def bin_name(index: int) -> str:
    """Such as `4–10`."""
    return f"{EDGES[index]:,}–{EDGES[index + 1] - 1:,}" if index + 1 < len(EDGES) else f"from {EDGES[index]:,}"


def kernel_section(
    run: Replay, seen: Recorded, deviation: Deviation, distances: Array, tolerance: float, words: Words
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
    for name, one in (
        ("weights of the gates", deviation.gate),
        ("predictions of the gates", deviation.gated),
        ("the whole prediction", deviation.whole),
    ):
        checks += [
            at_most(f"verify kernel: {name}, largest deviation", float(np.max(one[events])), tolerance),
            at_most(f"verify kernel: {name}, median deviation", float(np.median(one[events])), MEDIAN_BAR),
        ]
    shift = np.abs(seen.yhat - deviation.reference)[events]
    figures: dict[str, Any] = {
        "events": int(events.sum()),
        "heads": heads,
        "prediction_difference": {"largest": float(shift.max()), "median": float(np.median(shift))},
        "gates_compared": True,
        "attention_compared": not run.params.window,
        "mae": float(np.abs(run.y - run.yhat)[events].mean()),
        "exact": _exact(run, distances),
    }
    section = Section(
        words("kernel.title"),
        text=_text(run, figures, checks, words),
        checks=checks,
        tables=[_table(heads, words), *_exact_table(figures["exact"], words)],
        charts=[_chart(run, learned, name, values, words) for name, values in reversed(parts)],
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
    names = head_names(run.params)[: run.params.M] + [f"fleet: {name}" for name in product_names(run.params)]
    for m, name in enumerate(names):
        known = distances[~np.isnan(distances[:, m]), m]
        if len(known):
            figures = {"median": float(np.median(known)), "largest": float(known.max()), "moments": len(known)}
            found.append({"head": name, **figures})
    return found


def _table(heads: list[dict[str, Any]], words: Words) -> Table:
    rows: list[list[Cell]] = []
    for head in heads:
        p, w = head["predictions"], head["weights"]
        where = words("kernel.where", entity=w["entity"], events=f"{w['events_seen']:,}")
        rows.append([head["head"], p["largest"], p["median"], w["largest"], w["median"], where])
    median = words("kernel.column.median")
    columns = [words(f"kernel.column.{name}") for name in ("head", "predictions", "weights", "where")]
    columns = [columns[0], columns[1], median, columns[2], median, columns[3]]
    return Table(words("kernel.table"), columns, rows, words("kernel.note"))


def _exact_table(exact: list[dict[str, Any]], words: Words) -> list[Table]:
    rows: list[list[Cell]] = [[row["head"], row["median"], row["largest"], row["moments"]] for row in exact]
    columns = [words(f"kernel.column.{name}") for name in ("head", "median", "largest", "moments")]
    return [Table(words("exact.table"), columns, rows, words("exact.note"))] if rows else []


def _groups(run: Replay, words: Words) -> dict[str, list[int]]:
    """Heads of the chart's lines: each moment head of each scope, and the gradient heads of a scope together."""
    groups: dict[str, list[int]] = {}
    for h, name in enumerate(head_names(run.params)):
        scope = name.split(":")[0]
        groups.setdefault(
            name if ": moments" in name or ": products" in name else words("kernel.others", scope=scope), []
        ).append(h)
    return groups


def _chart(run: Replay, learned: Any, name: str, values: Any, words: Words) -> Chart:
    """Largest deviation of each group of heads in each bin of events seen."""
    bins = np.digitize(run.seen, EDGES) - 1
    series = []
    for group, heads in _groups(run, words).items():
        x, y = [], []
        for b in range(len(EDGES)):
            here = learned[:, heads] & (bins == b)[:, None]
            if here.any():
                x.append(float(EDGES[b]))
                y.append(float(values[:, heads][here].max()))
        if x:
            series.append(Series(group, x, y))
    title = words(f"kernel.chart.{name}")
    return Chart(title, words("kernel.x"), words("kernel.y"), series, log_x=True, log_y=True)


def _text(run: Replay, figures: dict[str, Any], checks: list[Check], words: Words) -> list[str]:
    shift = figures["prediction_difference"]
    scopes = {head["head"].split(":")[0] for head in figures["heads"]}
    loose = [h["head"] for h in figures["heads"] if h["weights"]["median"] > MEDIAN_BAR]
    numbers = {"events": f"{figures['events']:,}", "heads": len(figures["heads"]), "scopes": len(scopes)}
    text = [
        words("kernel.text.heads", **numbers),
        words("kernel.text.gates"),
        words("kernel.text.attention" if run.params.window else "kernel.text.all"),
        words("kernel.text.deviation"),
        words(
            "kernel.text.unit", largest=number(shift["largest"]), median=number(shift["median"]),
            mae=number(figures["mae"]),
        ),
    ]  # fmt: skip
    if loose:
        text.append(words("kernel.text.loose", heads="; ".join(loose), bar=f"{MEDIAN_BAR:g}"))
    missed = [check for check in checks if not check.ok]
    if missed:
        listed = "; ".join(f"{words.check(c)} {number(c.value)}" for c in missed)
        text.append(words("kernel.text.missed", checks=listed))
    return text
