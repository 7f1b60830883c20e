"""Part of `verify`: do the inputs carry the gradient? Rank and condition of what the learner accumulated."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssm_stream.core.excitation import Collinear, Excitation, measure_excitation
from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.section import Cell, Chart, Section, Series, Table
from ssm_stream.verify.record import Recorded
from ssm_stream.verify.replay import Replay
from ssm_stream.verify.words import Words

SEASONS = ("usual at this hour", "usual at this hour of the week")
MAX_POOLS = 32
"""Pools that are measured, those with most events first."""


def excitation_section(run: Replay, seen: Recorded, words: Words) -> tuple[Section, dict[str, Any], list[str]]:
    """The excitation of the largest pool's numeric inputs, and how many pools lack a direction; the warnings."""
    title, p = words("excitation.title"), run.params
    learned = ~np.isnan(seen.q)
    pools, counts = np.unique(run.tape.pools[learned], return_counts=True)
    x = seen.x[:, 1 : 1 + p.F]
    # The usual targets of the hour and the week are inputs from a whole day, a whole week on. Values of a category hold
    # each other, as codes do, and one with few of them has places to spare.
    values = run.plan.category_values
    used = [
        j for j, name in enumerate(run.plan.numbers)
        if name not in values and (name not in SEASONS or (x[:, j] != 0).any())
    ]  # fmt: skip
    if not used or not len(pools):
        return Section(title, text=[words("excitation.none")]), {}, []
    decay = float(np.max(p.decay)) or 1.0
    names = [run.plan.numbers[j] for j in used]
    found = [
        measure_excitation(x[learned & (run.tape.pools == pool)][:, used].astype(np.float64), names, decay)
        for pool in pools[np.argsort(-counts, kind="stable")][:MAX_POOLS]
    ]
    first, lacking = found[0], sum(not each.full for each in found)
    advice = _warnings(first, words)
    section = Section(
        title,
        text=[
            words("excitation.text.what", inputs=len(used), decay=f"{decay:g}"),
            _rank(first, words),
            *([words("excitation.text.pools", pools=len(found), lacking=lacking)] if len(found) > 1 else []),
            *advice,
        ],
        tables=_tables(first, words),
        charts=_charts(first, words),
    )
    return section, first.as_json() | {"decay": decay, "pools": len(found), "pools_lacking": lacking}, advice


def _rank(found: Excitation, words: Words) -> str:
    condition = number(found.condition)
    if found.full and found.full_after is not None:
        return words(
            "excitation.text.full", inputs=found.inputs, after=f"{found.full_after:,}", condition=condition
        )  # fmt: skip
    text = words(
        "excitation.text.lacking", rank=found.rank, inputs=found.inputs, condition=condition, highest=found.highest,
        after=f"{found.highest_after:,}",
    )  # fmt: skip
    if found.full_after is None:
        return text
    lost = found.inputs - found.rank
    return f"{text} {words('excitation.text.lost', inputs=found.inputs, after=f'{found.full_after:,}', lost=lost)}"


def _warnings(found: Excitation, words: Words) -> list[str]:
    """Return a sentence each for dead, collinear and nearly collinear columns, where there are any."""
    exact = _without_changes([each for each in found.collinear if each.exact])
    nearly = _without_changes([each for each in found.collinear if not each.exact])
    dead = [name for name in found.dead if _source(name) not in found.dead]
    lines = [words("excitation.text.dead", columns=words.listed(dead))] if dead else []
    lines += [words("excitation.text.collinear", columns=_held(exact, words))] if exact else []
    return lines + ([words("excitation.text.nearly", columns=_held(nearly, words))] if nearly else [])


def _source(name: str) -> str:
    """The feature whose change an input is, such as `load` of `change(load)`; empty for other inputs."""
    return name[7:-1].split(", ")[0] if name.startswith("change(") else ""


def _without_changes(columns: list[Collinear]) -> list[Collinear]:
    """Those that are no change of one of them: what holds for a feature holds for its changes."""
    named = {each.column for each in columns}
    return [each for each in columns if _source(each.column) not in named]


def _held(columns: list[Collinear], words: Words) -> str:
    return "; ".join(
        words("excitation.held", column=each.column, others=words.listed(list(each.others))) for each in columns
    )


def _tables(found: Excitation, words: Words) -> list[Table]:
    columns = [words(f"excitation.column.{name}") for name in ("input", "others", "left")]
    rows: list[list[Cell]] = [[each.column, words.listed(list(each.others)), each.left] for each in found.collinear]
    return [Table(words("excitation.table"), columns, rows)] if rows else []


def _charts(found: Excitation, words: Words) -> list[Chart]:
    x = [float(event) for event in found.events]
    known = [i for i, value in enumerate(found.conditions) if np.isfinite(value)]
    rank = [
        Series(words("excitation.rank"), x, [float(rank) for rank in found.ranks]),
        Series(words("excitation.inputs"), x[:1] + x[-1:], 2 * [float(found.inputs)], dashed=True),
    ]
    condition = Series(words("excitation.condition"), [x[i] for i in known], [found.conditions[i] for i in known])
    axis = words("excitation.x")
    return [
        Chart(words("excitation.chart.rank"), axis, words("excitation.rank"), rank, log_x=True),
        Chart(
            words("excitation.chart.condition"), axis, words("excitation.condition"), [condition], log_x=True,
            log_y=True,
        ),
    ]  # fmt: skip
