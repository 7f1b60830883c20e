"""What a pilot says of predictions: errors beside those of simpler predictors, coverage, how drifts were absorbed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.evaluate.pilot.baselines import Split
from ssm_stream.evaluate.pilot.run import Alarm, Floats, Ints, Tape
from ssm_stream.evaluate.pilot.score import Bootstrap, sums_by_block

PRODUCT = "product"
SIMPLE = ("persistence", "seasonal", "mean")
"""Predictors that need no training; the verdict compares with the best of them."""
BEFORE, AFTER, BIN = 100, 300, 10
"""Events of the entity around a drift that its curves show, and those that a point of a curve is the mean of."""
CALM = 200
"""Events before BEFORE that say what an entity's error usually is."""
FLEET_CURVES = 20
"""Entities of a fleet alert whose curves count."""
MOST_ALERTS = 2000
"""Alerts that are listed; all are counted."""


@dataclass
class Errors:
    """What `errors` found: the figures, and for the curves each method's |error| (n,) over the entity's unit."""

    figures: dict[str, Any]
    relative: dict[str, Floats]


def errors(tape: Tape, answers: dict[str, Floats], block: Ints, count: int, of: Bootstrap) -> Errors:
    """Errors of the product and of the others, on rows that all have an answer for.

    Relative: over the mean error of persistence on the same rows of the entity, so that units do not matter and
    persistence is 1; entities for which persistence makes no error are left out of it.

    Args:
        answers: by method, predictions (n,)
        block: of each judged row; count: of all blocks
    """
    usable = (block >= 0) & np.isfinite(np.column_stack(list(answers.values()))).all(axis=1)
    here = np.where(usable, block, -1)
    off = {name: np.where(usable, np.abs(tape.y - yhat), 0.0) for name, yhat in answers.items()}
    E = len(tape.names)
    rows = np.bincount(tape.entity[usable], minlength=E)
    unit = np.bincount(tape.entity, off["persistence"], minlength=E) / np.maximum(rows, 1)
    scale = unit[tape.entity]
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = {name: np.where(usable & (scale > 0), each / scale, 0.0) for name, each in off.items()}
    known = (usable & (scale > 0)).astype(np.float64)
    n = sums_by_block(known, here, count)
    plain = sums_by_block(usable.astype(np.float64), here, count)
    sums = {name: sums_by_block(each, here, count) for name, each in relative.items()}
    methods = dict[str, dict[str, Any]]()
    for name in answers:
        methods[name] = {
            "mae": of.ratio(sums_by_block(off[name], here, count), plain)["value"],
            "rmse": _root(of.ratio(sums_by_block(off[name] ** 2, here, count), plain)["value"]),
            "relative": of.ratio(sums[name], n),
            "product_over_it": of.ratio(sums[PRODUCT], sums[name]),
        }
    found = {name: methods[name]["relative"]["value"] for name in SIMPLE if name in methods}
    ranked = sorted((value, name) for name, value in found.items() if value is not None)
    by_entity = {}
    means = {name: np.bincount(tape.entity, each, minlength=E) for name, each in off.items()}
    for e, name in enumerate(tape.names):
        if rows[e]:
            by_entity[name] = {"events": int(rows[e]), **{m: float(means[m][e] / rows[e]) for m in answers}}
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


def coverage(tape: Tape, level: float, block: Ints, count: int, of: Bootstrap) -> dict[str, Any]:
    """Share of judged targets inside their interval, with its interval, by entity, and over ten parts of the time."""
    judged = block >= 0
    inside = judged & (tape.lower <= tape.y) & (tape.y <= tape.upper)
    n = sums_by_block(judged.astype(np.float64), block, count)
    hit = sums_by_block(inside.astype(np.float64), block, count)
    E = len(tape.names)
    rows, hits = (np.bincount(tape.entity[mask], minlength=E) for mask in (judged, inside))
    widths = np.bincount(tape.entity[judged], (tape.upper - tape.lower)[judged], minlength=E)
    place = np.zeros(len(tape), np.int64)
    for e in range(E):
        mine = np.flatnonzero(judged & (tape.entity == e))
        place[mine] = np.arange(len(mine)) * 10 // max(len(mine), 1)
    tenths = [float(inside[judged & (place == k)].mean()) if (judged & (place == k)).any() else None for k in range(10)]
    return {
        "level": level,
        **of.ratio(hit, n),
        "by_tenth": tenths,
        "by_entity": {
            name: {"coverage": float(hits[e] / rows[e]), "width": float(widths[e] / rows[e])}
            for e, name in enumerate(tape.names)
            if rows[e]
        },
    }


def drifts(
    tape: Tape, parts: Split, alarms: list[Alarm], relative: dict[str, Floats]
) -> tuple[list[dict[str, Any]], dict[str, Floats], list[dict[str, Floats]]]:
    """How each drift that was found in the judged part was absorbed.

    Returns:
        figures of each; the median curves of each method (offset → |error| over the product's usual one); of each drift
        its own curves
    """
    absorbed = _absorbed(tape)
    methods = [name for name in (PRODUCT, "frozen", "least_squares") if name in relative]
    figures, own, stacked = list[dict[str, Any]](), list[dict[str, Floats]](), list[dict[str, Floats]]()
    for alarm in alarms:
        if alarm.kind != "drift":
            continue
        curves = [
            curve
            for e in alarm.entities[:FLEET_CURVES]
            if (curve := _curves(tape, parts, e, alarm.row, relative, methods)) is not None
        ]
        mean = {name: _middle([each[name] for each in curves]) for name in methods} if curves else {}
        message = alarm.message
        figures.append(
            {
                "entity": message["entity"] if message["scope"] == "entity" else "*",
                "entities": len(alarm.entities),
                "ts": alarm.ts,
                "row": int(tape.position[alarm.row]) + 1,
                "change": message.get("change"),
                "score": message["score"],
                "absorbed_after": absorbed.get((message["entity"], message["since"])),
                **{f"{name}_{when}": _told(mean, name, when) for name in methods for when in ("peak", "after")},
            }
        )
        own.append(mean)
        stacked += [mean] if mean else []
    together = {name: _middle([each[name] for each in stacked]) for name in methods} if stacked else {}
    return figures, together, own


def _middle(curves: list[Floats]) -> Floats:
    """The median over curves, at each offset over those that reach it: one wild drift must not hide the others."""
    table = np.sort(np.array(curves), axis=0)  # NaN last
    count = np.isfinite(table).sum(axis=0)
    at, places = np.maximum(count - 1, 0), np.arange(table.shape[1])
    out: Floats = np.where(count > 0, (table[at // 2, places] + table[(at + 1) // 2, places]) / 2, np.nan)
    return out


def _told(mean: dict[str, Floats], name: str, when: str) -> float | None:
    """The largest point around the alarm, or the mean of the last hundred events; None where there is none."""
    if name not in mean:
        return None
    curve = mean[name]
    at = BEFORE // BIN
    part = curve[at - 5 : at + 5] if when == "peak" else curve[-10:]
    part = part[np.isfinite(part)]
    return None if not len(part) else float(part.max() if when == "peak" else part.mean())


def _curves(
    tape: Tape, parts: Split, e: int, row: int, relative: dict[str, Floats], methods: list[str]
) -> dict[str, Floats] | None:
    """Mean |error| of BIN events each, over the product's usual error before; None where that is not known."""
    rows = parts.rows[e]
    at = int(np.searchsorted(rows, row))
    calm = relative[PRODUCT][rows[max(at - BEFORE - CALM, 0) : max(at - BEFORE, 0)]]
    usual = float(np.nanmean(calm)) if np.isfinite(calm).sum() >= 20 else math.nan
    if not usual > 0.0:
        return None
    out = {}
    for name in methods:
        around = np.full(BEFORE + AFTER, np.nan)
        left, right = max(at - BEFORE, 0), min(at + AFTER, len(rows))
        around[left - at + BEFORE : right - at + BEFORE] = relative[name][rows[left:right]] / usual
        binned = around.reshape(-1, BIN)
        count = np.isfinite(binned).sum(axis=1)
        sums = np.where(np.isfinite(binned), binned, 0.0).sum(axis=1)
        out[name] = np.where(count > 0, sums / np.maximum(count, 1), np.nan)
    return out


def _absorbed(tape: Tape) -> dict[tuple[str, int], int]:
    """Of drifts that have recovered, by entity and start: after how many events."""
    return {
        (m["entity"], m["since"]): m["absorbed_after"]
        for _, m in tape.messages
        if m["kind"] == "drift" and m["phase"] == "recovered"
    }


def alert_list(tape: Tape, parts: Split, alarms: list[Alarm], truth: dict[int, str]) -> list[dict[str, Any]]:
    """What each alarm said. truth: by place among the alarms, where there are labels"""
    recovered = {
        (m["entity"], m["kind"], m["since"]): int(tape.ts[row]) for row, m in tape.messages if m["phase"] == "recovered"
    }
    out = []
    for i, alarm in enumerate(alarms[:MOST_ALERTS]):
        m = alarm.message
        out.append(
            {
                "entity": m["entity"], "scope": m["scope"], "kind": m["kind"], "severity": m["severity"],
                "ts": alarm.ts, "row": int(tape.position[alarm.row]) + 1, "score": m["score"], "y": m["y"],
                "yhat": m["yhat"], "yhat_lower": m["yhat_lower"], "yhat_upper": m["yhat_upper"],
                "channel": m.get("channel"), "change": m.get("change"), "contributions": m.get("contributions") or [],
                "entities": [tape.names[e] for e in alarm.entities] if m["scope"] == "fleet" else None,
                "recovered": recovered.get((m["entity"], m["kind"], m["since"])),
                "judged": bool(alarm.row >= parts.first[alarm.entities[0]]) if alarm.entities else False,
                "truth": truth.get(i),
            }
        )  # fmt: skip
    return out


def facts(config: Config, tape: Tape, parts: Split) -> dict[str, Any]:
    """Of the recording as a whole."""
    started = [int(first) < len(tape) for first in parts.first]
    return {
        "events": len(tape),
        "judged_events": int(parts.judged.sum()),
        "entities": len(tape.names),
        "judged_entities": sum(started),
        "first": int(tape.ts.min()) if len(tape) else None,
        "last": int(tape.ts.max()) if len(tape) else None,
        "target": config.event.targets[0],
        "features": len(config.event.columns),
        "time_zone": config.event.time_zone,
    }
