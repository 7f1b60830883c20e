"""Figures of predictions: errors of the product and of simpler predictors, coverage, how drifts were absorbed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssm_stream.evaluate.alarm_matching import Alarm
from ssm_stream.evaluate.bootstrap import Bootstrap, sums_by_block
from ssm_stream.evaluate.engine_run import EngineRun, Flags, Floats, Ints
from ssm_stream.evaluate.pilot.split import Split

PRODUCT = "product"
SIMPLE = ("persistence", "seasonal", "mean")
"""Predictors that need no training; the verdict compares with the best of them."""
DRIFT_METHODS = (PRODUCT, "frozen", "least_squares")
BEFORE, AFTER, BIN = 100, 300, 10
"""Events of the entity before and after a drift that its curves show, and those that a point is the mean of."""
CALM = 200
"""Events before BEFORE whose mean error is the usual one."""
FLEET_CURVES = 20
"""Entities of a fleet alert whose curves count."""


@dataclass
class Errors:
    """Errors of each method."""

    figures: dict[str, Any]
    """As in `report.json`."""
    relative: dict[str, Floats]
    """(n,) |error| over the mean error of persistence for the entity, NaN where it is not judged."""


def errors(run: EngineRun, predictions: dict[str, Floats], block: Ints, bootstrap: Bootstrap) -> Errors:
    """Return the errors of the product and of the others, on the rows that all of them predict.

    Relative: over the mean error of persistence on the same rows of the entity, so that units do not matter and
    persistence is 1; entities for which persistence makes no error are left out of it.

    Args:
        predictions: (n,) by method
        block: (n,) of each judged row, −1 of the others
    """
    count = bootstrap.count
    usable = (block >= 0) & np.isfinite(np.column_stack(list(predictions.values()))).all(axis=1)
    here = np.where(usable, block, -1)
    deviation = {name: np.where(usable, np.abs(run.y - yhat), 0.0) for name, yhat in predictions.items()}
    E = len(run.names)
    rows = np.bincount(run.entity[usable], minlength=E)
    unit = np.bincount(run.entity, deviation["persistence"], minlength=E) / np.maximum(rows, 1)
    scale = unit[run.entity]
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = {name: np.where(usable & (scale > 0), each / scale, 0.0) for name, each in deviation.items()}
    known = (usable & (scale > 0)).astype(np.float64)
    n = sums_by_block(known, here, count)
    plain = sums_by_block(usable.astype(np.float64), here, count)
    sums = {name: sums_by_block(each, here, count) for name, each in relative.items()}
    methods = dict[str, dict[str, Any]]()
    for name in predictions:
        methods[name] = {
            "mae": bootstrap.ratio(sums_by_block(deviation[name], here, count), plain)["value"],
            "rmse": _root(bootstrap.ratio(sums_by_block(deviation[name] ** 2, here, count), plain)["value"]),
            "relative": bootstrap.ratio(sums[name], n),
            "product_over_it": bootstrap.ratio(sums[PRODUCT], sums[name]),
        }
    found = {name: methods[name]["relative"]["value"] for name in SIMPLE if name in methods}
    ranked = sorted((value, name) for name, value in found.items() if value is not None)
    by_entity = {}
    means = {name: np.bincount(run.entity, each, minlength=E) for name, each in deviation.items()}
    for e, name in enumerate(run.names):
        if rows[e]:
            by_entity[name] = {"events": int(rows[e]), **{m: float(means[m][e] / rows[e]) for m in predictions}}
    figures = {
        "events": int(usable.sum()),
        "methods": methods,
        "best_simple": ranked[0][1] if ranked else None,
        "entities_better_than_persistence": sum(m[PRODUCT] < m["persistence"] for m in by_entity.values()),
        "by_entity": by_entity,
    }
    return Errors(figures, {name: np.where(known > 0, each, np.nan) for name, each in relative.items()})


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)


def at_rest(run: EngineRun) -> Flags:
    """Return where the target is what it was in the entity's event before, (n,)."""
    order = np.argsort(run.entity, kind="stable")
    entity, y = run.entity[order], run.y[order]
    rests = np.zeros(len(run), bool)
    rests[order[1:]] = (entity[1:] == entity[:-1]) & (y[1:] == y[:-1])
    return rests


def coverage(run: EngineRun, rests: Flags, level: float, block: Ints, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the share of judged targets inside their interval, in all, by entity, and over ten parts of the time.

    rests: (n,) of `at_rest`; nearly all of these are inside, so `off` leaves out what they may add to the level
    """
    count = bootstrap.count
    judged = block >= 0
    inside = judged & (run.lower <= run.y) & (run.y <= run.upper)
    n = sums_by_block(judged.astype(np.float64), block, count)
    hit = sums_by_block(inside.astype(np.float64), block, count)
    E = len(run.names)
    rows, hits = (np.bincount(run.entity[mask], minlength=E) for mask in (judged, inside))
    widths = np.bincount(run.entity[judged], (run.upper - run.lower)[judged], minlength=E)
    place = np.zeros(len(run), np.int64)
    for e in range(E):
        mine = np.flatnonzero(judged & (run.entity == e))
        place[mine] = np.arange(len(mine)) * 10 // max(len(mine), 1)
    tenths = [float(inside[judged & (place == k)].mean()) if (judged & (place == k)).any() else None for k in range(10)]
    found = bootstrap.ratio(hit, n)
    more = (1.0 - level) * float(rests[judged].mean()) if judged.any() else 0.0
    return {
        "level": level,
        **found,
        "off": None if found["value"] is None else max(level - found["value"], found["value"] - level - more, 0.0),
        "by_tenth": tenths,
        "by_entity": {
            name: {"coverage": float(hits[e] / rows[e]), "width": float(widths[e] / rows[e])}
            for e, name in enumerate(run.names)
            if rows[e]
        },
    }


def drifts(
    run: EngineRun, alarms: list[Alarm], of: Callable[[Alarm], tuple[Split, dict[str, Floats]]]
) -> tuple[list[dict[str, Any]], dict[str, Floats], list[dict[str, Floats]]]:
    """Return how each drift that was found in the judged part was absorbed.

    Args:
        of: returns the split of an alarm's target, and `relative` of its `Errors`

    Returns:
        figures of each drift; the median curves of each method (offset → |error| over the product's usual one); the
        curves of each drift
    """
    absorbed, methods = _absorbed(run), DRIFT_METHODS
    figures, own, stacked = list[dict[str, Any]](), list[dict[str, Floats]](), list[dict[str, Floats]]()
    for alarm in alarms:
        if alarm.kind != "drift":
            continue
        split, relative = of(alarm)
        curves = [
            curve
            for e in alarm.entities[:FLEET_CURVES]
            if (curve := _curves(split.rows[e], alarm.row, relative, methods)) is not None
        ]
        mean = {name: _middle([each[name] for each in curves]) for name in methods} if curves else {}
        message = alarm.message
        figures.append(
            {
                "entity": message["entity"] if message["scope"] == "entity" else "*",
                "entities": len(alarm.entities),
                "ts": alarm.ts,
                "row": int(run.position[alarm.row]) + 1,
                "change": message.get("change"),
                "score": message["score"],
                "absorbed_after": absorbed.get((message["entity"], message["since"])),
                **{f"{name}_{when}": _curve_value(mean, name, when) for name in methods for when in ("peak", "after")},
            }
        )
        own.append(mean)
        stacked += [mean] if mean else []
    together = {name: _middle([each[name] for each in stacked]) for name in methods} if stacked else {}
    return figures, together, own


def _middle(curves: list[Floats]) -> Floats:
    """Return the median over curves, at each offset over those that reach it: one outlier must not hide the others."""
    table = np.sort(np.array(curves), axis=0)  # NaN last
    count = np.isfinite(table).sum(axis=0)
    at, places = np.maximum(count - 1, 0), np.arange(table.shape[1])
    out: Floats = np.where(count > 0, (table[at // 2, places] + table[(at + 1) // 2, places]) / 2, np.nan)
    return out


def _curve_value(mean: dict[str, Floats], name: str, when: str) -> float | None:
    """Return the largest point near the alarm (`peak`) or the mean of the last hundred events (`after`), if any."""
    if name not in mean:
        return None
    curve = mean[name]
    at = BEFORE // BIN
    part = curve[at - 5 : at + 5] if when == "peak" else curve[-10:]
    part = part[np.isfinite(part)]
    return None if not len(part) else float(part.max() if when == "peak" else part.mean())


def _curves(rows: Ints, row: int, relative: dict[str, Floats], methods: Sequence[str]) -> dict[str, Floats] | None:
    """Return the mean |error| of BIN events each, over the product's usual error before; None if that is not known.

    Args:
        rows: of the entity; row: of the alert
    """
    at = int(np.searchsorted(rows, row))
    calm = relative[PRODUCT][rows[max(at - BEFORE - CALM, 0) : max(at - BEFORE, 0)]]
    usual = float(np.nanmean(calm)) if np.isfinite(calm).sum() >= 20 else math.nan
    if not usual > 0.0:
        return None
    out = {}
    for name in methods:
        window = np.full(BEFORE + AFTER, np.nan)
        left, right = max(at - BEFORE, 0), min(at + AFTER, len(rows))
        window[left - at + BEFORE : right - at + BEFORE] = relative[name][rows[left:right]] / usual
        binned = window.reshape(-1, BIN)
        count = np.isfinite(binned).sum(axis=1)
        sums = np.where(np.isfinite(binned), binned, 0.0).sum(axis=1)
        out[name] = np.where(count > 0, sums / np.maximum(count, 1), np.nan)
    return out


def _absorbed(run: EngineRun) -> dict[tuple[str, int], int]:
    """Return after how many events each drift was absorbed, by entity and start, of those that were."""
    return {
        (m["entity"], m["since"]): m["absorbed_after"]
        for _, m in run.messages
        if m["kind"] == "drift" and m["absorbed_after"] is not None
    }
