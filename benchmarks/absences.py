"""Inputs that are unknown, jump or are misread, and gaps between events: intervals, alerts and errors of such events.

    python benchmarks/absences.py [--seeds 20 21 …] [--data FOLDER] [--json]

Generated machines: of inputs that are autoregressions, one is unknown at random, or away for 20 events in the mean; and
targets that are autoregressions, with rare long gaps, frequent short ones, irregular times, or times without a target;
an input that is a valve, opened and closed for 60 events in the mean; six recipes, whose level a machine reaches at
once or in a few events; and inputs with a bad reading now and then, or with five at a time in the mean. With --data,
values of recordings are taken at random, or misread. Each row of the tables has the share of these events inside their
interval of 90 %, that of the other events, and alerts by those that the budgets allow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accuracy_product import configuration, events_of, read
from measuring import Check, check, tell
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

HOUR = 3_600_000
MACHINES, EVENTS, CALM = 4, 6_000, 500
"""Of a stream: machines, events of each, and those of each before anything is away."""
JUDGED_FROM = 1_500
"""Events of a machine after which shares are counted; of a recording, a sixth of its rows."""
BUDGET = 10_000
INSIDE_LEAST, OTHERS_WITHIN = 0.85, 0.01
ALERTS_MOST = 1.2
"""Budgets allow 9.6 alerts of four streams of a kind, so that 13 of them are chance, and 38 of sixteen."""
ABSENCES = {"1 % at random": (0.01, 1.0), "10 % at random": (0.1, 1.0), "5 %, 20 at a time": (0.05, 20.0)}
"""Share of the events, and how many at a time in the mean: of unknown values, and of bad readings."""
LASTING = "bad readings, 5 at a time"
"""A sensor that is out of order for so long is worth an alert: the channel `levels` has one of its level."""
BAD = {"bad readings": (0.005, 1.0), LASTING: (0.005, 5.0)}
BAD_READING = 9999.0
GAPS = {"1 % of 30": (0.01, 30), "0.2 % of 480": (0.002, 480)}
"""Share of the events that come after a gap, and usual gaps that it has."""
RECIPES = {"recipes of 60": (60, 0.01), "recipes of 300": (300, 0.01), "recipes of 300, slowly": (300, 4.0)}
"""Events of a recipe in the mean, and time constant of the level; judged are the first four events of each."""
RECIPE = {"categories": ["recipe"]}
RECORDINGS = ("gas_turbine_nox", "steel_energy", "bike_sharing_hourly", "tep_shared", "skab_shared")
ROWS = 10_000
CELLS: dict[str, dict[str, Any]] = {"no past": {"lags": 0}, "past": {}}


class Stream(NamedTuple):
    """Events in order, with the names of their features; special (n,): those that the rest does not tell of."""

    features: list[str]
    events: Events
    special: Mask


class Figures(NamedTuple):
    """Of a stream: share inside of the special events and of the others, mean absolute errors of both, alerts."""

    inside: float
    others: float
    error: float
    other_error: float
    anomalies: int
    drifts: int


def autoregression(rng: np.random.Generator, n: int, columns: int, alike: float) -> Floats:
    """(n, columns) with variance 1, and `alike` as the correlation of neighbours."""
    out = rng.normal(size=(n, columns))
    out[1:] *= np.sqrt(1 - alike**2)
    for i in range(1, n):
        out[i] += alike * out[i - 1]
    return out


def absent(rng: np.random.Generator, n: int, share: float, length: float, calm: int = CALM) -> Mask:
    """(n,) True in such a share of the events, so many at a time in the mean."""
    out = np.zeros(n, np.bool_)
    for i in range(calm, n):
        out[i] = rng.random() < (1 - 1 / length if out[i - 1] else share / (1 - share) / length)
    return out


def joined(each: list[tuple[Floats, Floats, Floats, Mask]]) -> Stream:
    """The events of machines, by time. each: minutes (n,), features (n, f), target (n,), special (n,)"""
    names = np.repeat(np.arange(len(each)), [len(one[0]) for one in each])
    minutes, features, target, special = (np.concatenate(part) for part in zip(*each, strict=True))
    order = np.argsort(minutes, kind="stable")
    n = len(order)
    ts = 1_767_225_600_000 + (minutes[order] * 60_000).astype(np.int64)
    events = Events(
        [f"m{m}" for m in names[order]], ts, np.ascontiguousarray(features[order]), target[order], np.arange(n)
    )
    return Stream([f"x{i}" for i in range(features.shape[1])], events, special[order])


def with_absences(seed: int, alike: float, share: float, length: float) -> Stream:
    """Machines with five inputs, of which the one that matters most is unknown now and then."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=5)
    weights[0] = 2.0
    machines = []
    for _ in range(MACHINES):
        x = autoregression(rng, EVENTS, 5, alike)
        y = 50 + x @ weights + 0.5 * rng.normal(size=EVENTS)
        away = absent(rng, EVENTS, share, length)
        features = 20 + 3 * x
        features[away, 0] = np.nan
        machines.append((5.0 * np.arange(EVENTS, dtype=np.float64), features, y, away))
    return joined(machines)


def with_gaps(seed: int, alike: float, kind: str) -> Stream:
    """Machines whose target moves on while no events come. kind: of GAPS, or `irregular`, or `no target`"""
    rng = np.random.default_rng(seed)
    machines = []
    for _ in range(MACHINES):
        steps = np.ones(EVENTS, np.int64)
        if kind in GAPS:
            share, length = GAPS[kind]
            steps[CALM:][rng.random(EVENTS - CALM) < share] = length
        elif kind == "irregular":
            steps = np.maximum(1, rng.exponential(5.0, EVENTS).astype(np.int64))
        minutes = np.cumsum(steps)
        level = autoregression(rng, int(minutes[-1]) + 1, 1, alike)[minutes, 0]
        target = 50 + 5 * level + 0.2 * rng.normal(size=EVENTS)
        special = steps > (12 if kind == "irregular" else 1)
        if kind == "no target":
            away = absent(rng, EVENTS, 0.2, 30.0)
            target[away] = np.nan
            special = ~away & np.concatenate([[False], away[:-1]])
        machines.append((minutes.astype(np.float64), rng.normal(size=(EVENTS, 2)), target, special))
    return joined(machines)


def with_jumps(seed: int, kind: str) -> Stream:
    """Machines with an input that jumps. kind: `valve`, which the target follows, or of BAD, of no consequence"""
    rng = np.random.default_rng(seed)
    machines = []
    for _ in range(MACHINES):
        x = autoregression(rng, EVENTS, 2, 0.9)
        target = 50 + x @ [2.0, 1.0] + 0.5 * rng.normal(size=EVENTS)
        features = 20 + 3 * x
        if kind == "valve":
            opened = np.cumsum(rng.random(EVENTS) < 1 / 60) % 2
            features[:, 0], target = 100.0 * opened, 50.0 * opened + 0.3 * rng.normal(size=EVENTS)
            special = np.diff(opened, prepend=0) != 0
        else:
            special = absent(rng, EVENTS, *BAD[kind])
            features[special, 0] = BAD_READING
        machines.append((np.arange(EVENTS, dtype=np.float64), features, target, special))
    return joined(machines)


def with_recipes(seed: int, length: float, inertia: float) -> Stream:
    """Machines that change between six recipes, each of which has a level."""
    rng = np.random.default_rng(seed)
    levels, machines = rng.normal(0, 5, 6), []
    for machine in range(MACHINES):
        change = rng.random(EVENTS) < 1 / length
        recipe = rng.integers(6, size=EVENTS)[np.maximum.accumulate(np.where(change, np.arange(EVENTS), 0))]
        x, level = autoregression(rng, EVENTS, 1, 0.95), np.full(EVENTS, levels[recipe[0]])
        for i in range(1, EVENTS):
            level[i] = level[i - 1] + (levels[recipe[i]] - level[i - 1]) * (1 - np.exp(-1 / inertia))
        noise = 0.2 * autoregression(rng, EVENTS, 1, 0.9)[:, 0]
        target = 50 + machine + level + 0.5 * x[:, 0] + noise
        changed = np.diff(recipe, prepend=recipe[0]) != 0
        special = np.convolve(changed, np.ones(4))[:EVENTS] > 0
        machines.append((np.arange(EVENTS, dtype=np.float64), np.column_stack([x, recipe]), target, special))
    return joined(machines)._replace(features=["x0"])


def figures_of(stream: Stream, event: dict[str, Any]) -> Figures:
    """What the production engine makes of a stream. event: what its section has besides columns"""
    predicted, alerts = Engine(configuration(stream.features, "fast", {"event": event})).process(stream.events)
    y = stream.events.target
    judged = ~np.isnan(y) & (np.arange(len(y)) > min(MACHINES * JUDGED_FROM, len(y) // 6))
    special, others = judged & stream.special, judged & ~stream.special
    inside, error = (y >= predicted.lower) & (y <= predicted.upper), np.abs(predicted.yhat - y)
    started = [alert.message["kind"] for alert in alerts if alert.message["phase"] == "started"]

    def mean(of: NDArray[Any], where: Mask) -> float:
        return float(of[where].mean()) if where.any() else np.nan

    return Figures(
        mean(inside, special), mean(inside, others), mean(error, special), mean(error, others),
        started.count("anomaly"), started.count("drift"),
    )  # fmt: skip


def generated(seeds: list[int]) -> Iterator[dict[str, Any]]:
    """A row a kind of stream, over all seeds."""
    for alike in (0.0, 0.9, 0.99):
        for cell, lags in CELLS.items():
            for kind, (share, length) in ABSENCES.items():
                streams = [with_absences(seed, alike, share, length) for seed in seeds]
                yield row(f"absent input, {kind}", alike, cell, streams, lags)
    for alike in (0.9, 0.99, 0.999):
        for kind in (*GAPS, "irregular", "no target"):
            yield row(f"gaps, {kind}", alike, "past", [with_gaps(seed, alike, kind) for seed in seeds], {})
    for kind in ("valve", *BAD):
        for cell, lags in CELLS.items():
            yield row(kind, 0.9, cell, [with_jumps(seed, kind) for seed in seeds], lags)
    for kind, (length, inertia) in RECIPES.items():
        yield row(kind, 0.9, "past", [with_recipes(seed, length, inertia) for seed in seeds], RECIPE)


def row(kind: str, alike: float, cell: str, streams: list[Stream], lags: dict[str, Any]) -> dict[str, Any]:
    found = [figures_of(stream, lags) for stream in streams]
    allowed = sum(len(stream.special) for stream in streams) / BUDGET
    return {
        "kind": kind,
        "alike": alike,
        "inputs": cell,
        "inside": float(np.nanmean([each.inside for each in found])),
        "others inside": float(np.mean([each.others for each in found])),
        "error": float(np.nanmean([each.error for each in found])),
        "error of others": float(np.mean([each.other_error for each in found])),
        "anomalies by allowed": sum(each.anomalies for each in found) / allowed,
        "drifts by allowed": sum(each.drifts for each in found) / allowed,
    }


def closed_at_night(folder: Path) -> dict[str, Any]:
    """Car parks that send nothing at night: the first events of the day, and the others."""
    recording = read(folder / "parking_birmingham.csv.gz", 40_000)
    events, last = events_of(configuration(recording.features, "fast"), recording.rows), dict[str, int]()
    first = np.zeros(len(events), np.bool_)
    for i, (entity, ts) in enumerate(zip(events.entity, events.ts.tolist(), strict=True)):
        first[i] = ts - last.get(entity, ts) > 4 * HOUR
        last[entity] = ts
    found = figures_of(Stream(recording.features, events, first), {})
    return {
        "recording": "parking_birmingham",
        "taken": "nothing: closed at night",
        "inputs": "past",
        "inside": found.inside,
        "others inside": found.others,
        "error by whole": 1.0,
        "anomalies": str(found.anomalies),
        "drifts": str(found.drifts),
    }


def of_recordings(folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each recording from which values are taken: share inside, and errors by those without that."""
    for name in RECORDINGS:
        recording = read(folder / f"{name}.csv.gz", ROWS)
        events = events_of(configuration(recording.features, "fast"), recording.rows)
        for kind, (share, length) in (ABSENCES | BAD).items():
            away: Mask = np.isnan(events.features) & False
            rng = np.random.default_rng(1)
            for entity in dict.fromkeys(events.entity):
                here = np.flatnonzero([each == entity for each in events.entity])
                for j in range(len(recording.features)):
                    away[here, j] = absent(rng, len(here), share, length, calm=100)
            taken = replace(events, features=np.where(away, BAD_READING if kind in BAD else np.nan, events.features))
            for cell, lags in CELLS.items():
                special: Mask = np.logical_or.reduce(away, axis=1)
                found = [figures_of(Stream(recording.features, one, special), lags) for one in (events, taken)]
                whole, holed = found
                part = float(special.mean())
                yield {
                    "recording": name,
                    "taken": kind,
                    "inputs": cell,
                    "inside": holed.inside,
                    "others inside": holed.others,
                    "error by whole": (part * holed.error + (1 - part) * holed.other_error)
                    / (part * whole.error + (1 - part) * whole.other_error),
                    "anomalies": f"{holed.anomalies} ({whole.anomalies})",
                    "drifts": f"{holed.drifts} ({whole.drifts})",
                }


def checks_of(rows: list[dict[str, Any]]) -> list[Check]:
    checks = []
    for what in ("absent input", "gaps", "valve", "recipes", "bad readings"):
        some = [each for each in rows if each["kind"].startswith(what)]
        others = max(abs(each["others inside"] - 0.9) for each in some if "irregular" not in each["kind"])
        checks += [
            check(f"{what}: inside, the worst row", min(each["inside"] for each in some), ">=", INSIDE_LEAST),
            check(f"{what}: others inside, off 0.90, the worst row", others, "<=", OTHERS_WITHIN),
            check(
                f"{what}: anomaly alerts by allowed, the worst row",
                max(each["anomalies by allowed"] for each in some if each["kind"] != LASTING), "<=", ALERTS_MOST,
            ),
            check(
                f"{what}: drift alerts by allowed, the worst row",
                max(each["drifts by allowed"] for each in some), "<=", ALERTS_MOST,
            ),
        ]  # fmt: skip
    return checks


def table_of(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1))
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for each in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in each.values()))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(20, 36)], help="of the generated streams")
    parser.add_argument("--data", type=Path, help="folder of recordings (gzipped CSV), to take values from")
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    options = parser.parse_args()
    rows = list(generated(options.seeds))
    recordings = [closed_at_night(options.data), *of_recordings(options.data)] if options.data else []
    checks = checks_of(rows)
    if options.json:
        print(json.dumps({"checks": checks, "generated": rows, "recordings": recordings}))
        return
    for each in (rows, recordings):
        if each:
            Console(width=160).print(table_of(each))
    tell(checks)


if __name__ == "__main__":
    main()
