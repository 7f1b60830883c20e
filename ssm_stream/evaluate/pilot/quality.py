"""What is wrong with the data of a recording: gaps, repeats, disorder, stuck sensors, jumps as if a unit had changed.

gap        from one event to the next more than GAP times the entity's median interval
duplicate  an event with the time of one before it, of the same entity: an exact repeat, or with other numbers
disorder   an event older than one before it, of the same entity
stuck      a column that shows the same number STUCK times or more in a row, though it repeats itself seldom otherwise
unit jump  the median of BLOCK values changes at once by the factor of a known unit (or from °C to °F), to stay, and the
           spread with it
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.evaluate.engine_run import EngineRun, Floats, Ints

GAP = 5.0
STUCK = 50
SELDOM = 0.5
"""Share of steps without a change, stuck stretches left out, up to which a column repeats itself seldom."""
BLOCK = 50
FACTORS = {
    "×10": 10.0, "×100": 100.0, "×1000": 1000.0, "×60 (min → s, h → min)": 60.0, "×3600 (h → s)": 3600.0,
    "×3.6 (m/s → km/h)": 3.6, "×25.4 (inch → mm)": 25.4, "×2.54 (inch → cm)": 2.54, "×14.5 (bar → psi)": 14.5038,
    "×6.89 (psi → kPa)": 6.89476, "×2.2 (kg → lb)": 2.20462, "×3.28 (m → ft)": 3.28084, "×1.61 (mile → km)": 1.60934,
    "×3.79 (gallon → l)": 3.78541,
}  # fmt: skip
CLOSE, LASTS = 0.04, 4
"""Of the logarithms of two factors; blocks before and after that must be calm."""
MIN_RATIO = 0.2
"""Logarithm of the levels from which one may be °F of the other: near −40 both scales agree, and any move would be."""
MAX_FINDINGS = 200
"""Findings of a kind that are listed; all are counted."""


def quality(config: Config, runs: list[EngineRun]) -> dict[str, Any]:
    """Return counts, and the findings themselves, the most severe first. runs: of each target"""
    run, count = runs[0], len(runs)
    order = np.argsort(run.entity, kind="stable")
    edges = np.searchsorted(run.entity[order], np.arange(len(run.names) + 1))
    columns = [*config.event.targets, *config.event.columns]
    numbers = count + len(config.event.numbers)
    table = np.column_stack([*(each.y for each in runs), run.features])
    gaps: list[dict[str, Any]] = []
    stuck: list[dict[str, Any]] = []
    jumps: list[dict[str, Any]] = []
    by_entity: list[dict[str, Any]] = []
    repeats = conflicts = disorder = 0
    for e, name in enumerate(run.names):
        rows = order[edges[e] : edges[e + 1]]
        ts, values = run.ts[rows], table[rows]
        interval, found = _gaps(ts)
        exact, other = _repeats(ts, values)
        backwards = int((ts < np.maximum.accumulate(ts)).sum())
        repeats, conflicts, disorder = repeats + exact, conflicts + other, disorder + backwards
        gaps += [{"entity": name, "start": int(a), "end": int(b), "intervals": (b - a) / interval} for a, b in found]
        for j, column in enumerate(columns[:numbers]):
            stuck += [{"entity": name, "column": column, **each} for each in _stuck(ts, values[:, j])]
            jumps += [{"entity": name, "column": column, **each} for each in _jumps(ts, values[:, j])]
        span, lost = float(ts.max() - ts.min()), float(sum(b - a for a, b in found))
        by_entity.append(
            {
                "entity": name, "events": len(rows), "first": int(ts.min()), "last": int(ts.max()),
                "interval_s": interval / 1000.0 if interval else None, "gaps": len(found),
                "time_in_gaps": lost / span if span else 0.0, "duplicates": exact + other, "out_of_order": backwards,
                "without_target": int(np.isnan(values[:, :count]).all(axis=1).sum()),
            }
        )  # fmt: skip
    missing = {column: float(np.isnan(table[:, j]).mean()) if len(table) else 0.0 for j, column in enumerate(columns)}
    return {
        "events": len(run),
        "entities": len(run.names),
        "refused": run.refused,
        "refused_examples": [{"row": row + 1, "reason": reason} for row, reason in run.examples],
        "gaps": len(gaps),
        "duplicates": {"exact": repeats, "conflicting": conflicts},
        "out_of_order": disorder,
        "stuck": len(stuck),
        "unit_jumps": len(jumps),
        "constant": _constant(columns[:numbers], table),
        "missing": {column: share for column, share in missing.items() if share > 0.0},
        "gap_list": sorted(gaps, key=lambda each: each["start"] - each["end"])[:MAX_FINDINGS],
        "stuck_list": _rarest_first(stuck)[:MAX_FINDINGS],
        "unit_jump_list": jumps[:MAX_FINDINGS],
        "by_entity": by_entity,
    }


def _constant(columns: list[str], table: Floats) -> list[str]:
    """Return the columns that show one number only."""
    out = []
    for j, column in enumerate(columns):
        known = table[:, j][np.isfinite(table[:, j])]
        if len(known) and (known == known[0]).all():
            out.append(column)
    return out


def _gaps(ts: Ints) -> tuple[float, list[tuple[int, int]]]:
    """Return the median interval, ms, and the gaps."""
    times = np.unique(ts)
    steps = np.diff(times)
    if not len(steps):
        return 0.0, []
    interval = float(np.median(steps))
    at = np.flatnonzero(steps > GAP * interval)
    return interval, list(zip(times[at].tolist(), times[at + 1].tolist(), strict=True))


def _repeats(ts: Ints, values: Floats) -> tuple[int, int]:
    """Count the events at a time that an earlier event has: exact repeats of that, and others."""
    _, first, place = np.unique(ts, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[place] != np.arange(len(ts)))
    if not len(again):
        return 0, 0
    same = np.equal(values[again], values[first[place][again]]) | (
        np.isnan(values[again]) & np.isnan(values[first[place][again]])
    )
    exact = int(same.all(axis=1).sum())
    return exact, len(again) - exact


def _stuck(ts: Ints, x: Floats) -> list[dict[str, Any]]:
    """Return the stretches of STUCK or more equal numbers."""
    at = np.flatnonzero(np.isfinite(x))
    if len(at) < 2 * STUCK:
        return []
    known = x[at]
    changes = np.flatnonzero(np.diff(known) != 0.0) + 1
    edges = np.concatenate([[0], changes, [len(known)]])
    lengths = np.diff(edges)
    long = np.flatnonzero(lengths >= STUCK)
    others = len(known) - int(lengths[long].sum())
    if not len(long) or others < STUCK:
        return []
    still = others - (len(lengths) - len(long))
    if still / others > SELDOM:
        return []
    return [
        {
            "start": int(ts[at[edges[i]]]), "end": int(ts[at[edges[i + 1] - 1]]), "events": int(lengths[i]),
            "value": float(known[edges[i]]),
        }
        for i in long.tolist()
    ]  # fmt: skip


def _rarest_first(stuck: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the stretches of numbers that a column is seldom stuck at first, then the longest.

    A closed valve, or a count of none, stays at one number in many stretches, and for longer than a sensor is broken.
    """
    often = Counter((each["column"], each["value"]) for each in stuck)
    return sorted(stuck, key=lambda each: (often[each["column"], each["value"]], -each["events"]))


def _jumps(ts: Ints, x: Floats) -> list[dict[str, Any]]:
    """Return jumps of the level by the factor of a unit. Level and spread: of BLOCK values before and after."""
    at = np.flatnonzero(np.isfinite(x))
    blocks = len(at) // BLOCK
    if blocks < 3:
        return []
    known = x[at]
    shaped = np.sort(known[: blocks * BLOCK].reshape(blocks, BLOCK), axis=1)
    middle = shaped[:, BLOCK // 2]
    out, after = list[dict[str, Any]](), 0
    for i in range(blocks - 2):
        # A jump may lie inside the block between. What comes again every day is no jump: levels must be calm on both
        # sides for a while, and nearly all values must lie apart.
        if i < after or not (_calm(middle[max(i - LASTS + 1, 0) : i + 1]) and _calm(middle[i + 2 : i + 2 + LASTS])):
            continue
        one, other = shaped[i], shaped[i + 2]
        apart = one[-3] < other[2] or other[-3] < one[2]
        if apart and (unit := _unit_change(one, other)):
            inside = known[(i + 1) * BLOCK : (i + 2) * BLOCK]
            before, later = float(middle[i]), float(middle[i + 2])
            nearer = np.abs(inside - later) < np.abs(inside - before)
            first = (i + 1) * BLOCK + (int(np.argmax(nearer)) if nearer.any() else BLOCK)
            out.append({"at": int(ts[at[first]]), "before": before, "after": later, "unit": unit})
            after = i + 3
    return out


def _calm(middles: Floats) -> bool:
    """Return whether levels are of one sign and differ by a fifth at most."""
    low, high = float(np.min(np.abs(middles))), float(np.max(np.abs(middles)))
    return low > 0.0 and high <= 1.2 * low and bool((middles > 0).all() or (middles < 0).all())


def _unit_change(before: Floats, after: Floats) -> str:
    """Return the change of unit that turns one block's numbers (sorted) into the other's; empty if none does."""
    low, high = BLOCK // 4, 3 * BLOCK // 4
    spread, wide = before[high] - before[low], after[high] - after[low]
    m, a = float(before[BLOCK // 2]), float(after[BLOCK // 2])
    if spread <= 0.0 or wide <= 0.0:
        return ""
    if a * m <= 0.0:
        return ""
    ratio = math.log(a / m)
    # As much wider as it is higher: a process that only moved keeps its spread.
    if abs(math.log(wide / spread) - ratio) < math.log(1.6):
        for name, factor in FACTORS.items():
            if abs(abs(ratio) - math.log(factor)) < CLOSE:
                return name if ratio > 0 else f"1/({name})"
    for one, other, name in ((m, a, "°C → °F"), (a, m, "°F → °C")) if abs(ratio) > MIN_RATIO else ():
        scaled = (wide / spread) if one == m else (spread / wide)
        if abs(1.8 * one + 32.0 - other) < 0.01 * abs(other) and abs(math.log(scaled / 1.8)) < math.log(1.4):
            return name
    return ""
