"""Alerts on labelled recordings: the novelty of a value and the levels of all columns, beside alarms without a thought.

    python benchmarks/alerts_recordings.py --data FOLDER [--names nab skab tep budget] [--json]

nab     Numenta Anomaly Benchmark, its own scoring rule
skab    Skoltech Anomaly Benchmark: F1, false-alarm rate and missed-alarm rate of the rows of episodes
tep     Tennessee Eastman process: delay of each fault, alarms before it
budget  false alarms of the channels novelty and levels on stationary streams, over what the budget allows

The production engine hears each recording, with the columns named and one budget for all. Where NAB's budget is chosen,
it is chosen on other files than those it is judged on. Beside each table stand *never*, *always*, *every 100* and
*random* alarms: a rule under which these do well says nothing. No score is point-adjusted.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from alerts_streams import autoregress
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ssm_stream.config import Config
from ssm_stream.core import levels, novelty
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
EVENTS = 3_000.0
"""Budget: mean events between false anomaly alarms, the same for all recordings and the only setting."""
REST = 60
"""Events of silence after an alarm."""
RECOVER = 10
"""Calm rows that end an episode."""
MONDAY = datetime.datetime(1970, 1, 5)
WEEK = 604_800.0

Row = dict[str, Any]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def check(name: str, value: float | None, relation: str, bar: float) -> Row:
    """A figure beside its bar; None, what was not measured, is not met."""
    value = None if value is None else float(value)
    ok = value is not None and (value <= bar if relation == "<=" else value >= bar)
    return {"name": name, "value": value, "relation": relation, "bar": bar, "ok": ok}


# The detectors over a whole entity.


def run_novelty(s: Any, e: int, values: Any, week_seconds: Any, events: float, out: Any) -> None:
    out[:] = novelty.observe(s, e, values, week_seconds, events)


def run_levels(s: Any, e: int, values: Any, columns: Any, events: float, out: Any) -> None:
    out[:] = levels.observe(s, e, values, columns, events)


def novelty_scores(values: Floats, week_seconds: Floats, events: float = EVENTS) -> Floats:
    out = np.zeros(len(values))
    run_novelty(novelty.new_novelty_state(1), 0, values, week_seconds, events, out)
    return out


def levels_scores(values: Floats, columns: Floats, events: float = EVENTS) -> Floats:
    out = np.zeros(len(values))
    run_levels(levels.new_levels_state(1, columns.shape[1] + 1), 0, values, columns, events, out)
    return out


def engine_alarms(entities: list[Entity], events: float) -> list[tuple[Floats, Flags]]:
    """Of each entity: the engine's anomaly scores, and the rows of its anomaly episodes. One engine hears them all."""
    features = [f"x{j}" for j in range(entities[0].columns.shape[1])]
    config = Config.model_validate(
        {
            "source": {"brokers": "localhost:9092", "topic": "benchmark"},
            "event": {"entity": "entity", "timestamp": "ts", "features": features},
            "alerts": {"anomaly": {"budget": f"1 per {events:.0f} events"}},
        }
    )
    engine, out = Engine(config), []
    for entity in entities:
        n = len(entity.values)
        ts = (entity.frame["ts"].str.to_datetime(strict=True).dt.epoch("ms")).to_numpy()
        batch = Events([entity.name] * n, ts, entity.columns, entity.values, np.arange(n))
        predictions, alerts = engine.process(batch)
        open_, since = np.zeros(n, bool), None
        for alert in alerts:
            if alert.message["kind"] == "anomaly" and alert.message["phase"] == "started":
                since = alert.row
            elif alert.message["kind"] == "anomaly" and alert.message["phase"] == "recovered" and since is not None:
                open_[since : alert.row + 1], since = True, None
        if since is not None:
            open_[since:] = True
        out.append((predictions.score, open_))
    return out


# The files.


class Entity(NamedTuple):
    """A file of a benchmark: values (n,), columns (n, D), week_seconds (n,), the rows' labels, and its frame."""

    name: str
    values: Floats
    columns: Floats
    week_seconds: Floats
    anomalous: Flags
    frame: pl.DataFrame


def seconds(texts: pl.Series) -> Floats:
    """Since a Monday, 00:00."""
    return (texts.str.to_datetime(strict=True) - MONDAY).dt.total_microseconds().to_numpy().astype(np.float64) / 1e6


def read(path: Path, label: str) -> Iterator[Entity]:
    frame = pl.read_csv(path, infer_schema_length=None)
    names = [
        name
        for name in frame.columns
        if name not in ("entity", "ts", "target") and not name.startswith(("alt_target", "label_"))
    ]
    for (name,), part in frame.group_by(["entity"], maintain_order=True):
        columns = part.select(pl.col(names).cast(pl.Float64)).to_numpy() if names else np.zeros((part.height, 0))
        yield Entity(
            str(name),
            part["target"].cast(pl.Float64).to_numpy().astype(np.float64),
            np.ascontiguousarray(columns, np.float64),
            seconds(part["ts"]) % WEEK,
            part[label].to_numpy() == 1,
            part,
        )


def first_alarms(over: Flags, start: int) -> NDArray[np.int64]:
    """Rows of alarms from `start` on: one over the threshold, then silence."""
    alarms: list[int] = []
    for t in np.flatnonzero(over[start:]) + start:
        if not alarms or t > alarms[-1] + REST:
            alarms.append(int(t))
    return np.array(alarms, np.int64)


def random_flags(count: int, every: float, seed: int) -> Flags:
    return np.random.default_rng(seed).random(count) < 1.0 / every


THOUGHTLESS: dict[str, Callable[[int, int], Flags]] = {
    "never": lambda n, _: np.zeros(n, bool),
    "always": lambda n, _: np.ones(n, bool),
    "every 100": lambda n, _: np.arange(n) % 100 == 99,
    "random": lambda n, seed: random_flags(n, 100.0, seed),
}
"""Flags of n rows; the number seeds."""


# Numenta Anomaly Benchmark.

PROFILES = {"standard": (1.0, 0.11), "low FP": (1.0, 0.22), "low FN": (2.0, 0.11)}
"""Weights of a miss and of a false detection."""
NAB_BUDGETS = (100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0)
"""What may be chosen on other files: the budget, an alarm being a score over 1."""
FOLDS = (4, 7)


class Scored(NamedTuple):
    """A file of NAB: its windows (first and last row), the first row that is scored."""

    entity: Entity
    windows: list[tuple[int, int]]
    start: int


def nab_files(data: Path) -> list[Scored]:
    labels = json.loads((data / "nab_shared_windows.json").read_text())
    files = []
    for entity in read(data / "nab_shared.csv.gz", "label_anomaly"):
        ts = seconds(entity.frame["ts"])
        edges = labels.get(entity.name, labels.get(f"{entity.name}.csv", []))
        spans = [[(datetime.datetime.fromisoformat(edge) - MONDAY).total_seconds() for edge in w] for w in edges]
        windows = [
            (int(np.searchsorted(ts, left)), int(np.searchsorted(ts, right, side="right")) - 1) for left, right in spans
        ]
        files.append(Scored(entity, windows, int(entity.frame["label_probation"].sum())))
    return files


def nab_sigmoid(x: float) -> float:
    return 2.0 / (1.0 + math.exp(min(5.0 * x, 700.0))) - 1.0


def nab_points(file: Scored, alarms: NDArray[np.int64], miss: float, false: float) -> float:
    """A file's points: 1 for a window found at its first row, −miss for one that is not, −false for a false alarm."""
    total, inside = 0.0, np.zeros(len(file.entity.values), bool)
    for left, right in file.windows:
        inside[left : right + 1] = True
        found = alarms[(alarms >= left) & (alarms <= right)]
        if len(found):
            total += nab_sigmoid(-(right - found[0] + 1) / (right - left + 1)) / nab_sigmoid(-1.0)
        else:
            total -= miss
    for alarm in alarms[~inside[alarms]]:
        past = [window for window in file.windows if window[1] < alarm]
        far = (alarm - past[-1][1]) / max(past[-1][1] - past[-1][0], 1) if past else math.inf
        total += false * (-1.0 if far > 3.0 else nab_sigmoid(far))
    return total


def nab_normal(points: float, windows: int, miss: float) -> float:
    """0 for no alarm at all, 100 for every window at its first row and nothing else."""
    return 100.0 * (points + miss * windows) / (windows * (1.0 + miss))


def nab_points_by_budget(files: list[Scored], scores: list[list[Floats]], profile: str) -> Floats:
    """(files, budgets); scores: by budget, then by file"""
    miss, false = PROFILES[profile]
    by_budget = [
        [nab_points(f, first_alarms(s > 1.0, f.start), miss, false) for f, s in zip(files, some, strict=True)]
        for some in scores
    ]
    return np.array(by_budget).T


def nab_held_out(points: Floats, windows: NDArray[np.int64], folds: int, miss: float) -> float:
    """Mean score of folds whose budget is the best of the other folds. Each kind of file is spread over the folds."""
    fold, found = np.arange(len(windows)) % folds, []
    for held in range(folds):
        best = int(points[fold != held].sum(0).argmax())
        found.append(nab_normal(points[fold == held, best].sum(), int(windows[fold == held].sum()), miss))
    return float(np.mean(found))


def nab(data: Path, events: float = EVENTS) -> tuple[list[Row], Table]:
    files = nab_files(data)
    windows = np.array([len(file.windows) for file in files])
    every, budgets = int(windows.sum()), sorted({*NAB_BUDGETS, events})
    scores = [[score for score, _ in engine_alarms([f.entity for f in files], budget)] for budget in budgets]
    told: dict[str, dict[str, float]] = {name: {} for name in PROFILES}
    for profile, (miss, false) in PROFILES.items():
        points, row = nab_points_by_budget(files, scores, profile), told[profile]
        for folds in FOLDS:
            row[f"held out, {folds} folds"] = nab_held_out(points, windows, folds, miss)
        for budget, total in zip(budgets, points.sum(0), strict=True):
            row[f"1 in {budget:,.0f} events"] = nab_normal(total, every, miss)
        for name, make in THOUGHTLESS.items():
            total = sum(
                nab_points(f, first_alarms(make(len(f.entity.values), i), f.start), miss, false)
                for i, f in enumerate(files)
            )
            row[name] = nab_normal(total, every, miss)
    table = Table(title=f"Numenta Anomaly Benchmark, {len(files)} files, {every} windows")
    table.add_column("alarms", no_wrap=True)
    for profile in PROFILES:
        table.add_column(profile, justify="right")
    for name in told["standard"]:
        table.add_row(name, *(f"{told[profile][name]:.1f}" for profile in PROFILES))
    standard = told["standard"]
    rows = [check(f"nab/held out of {folds}", standard[f"held out, {folds} folds"], ">=", 65.0) for folds in FOLDS]
    rows.append(check(f"nab/whole, 1 in {events:,.0f} events", standard[f"1 in {events:,.0f} events"], ">=", 70.0))
    return rows, table


# Skoltech Anomaly Benchmark.

SKAB_FROM = 400


class Confusion(NamedTuple):
    f1: float
    false: float
    missed: float


def confusion(flagged: Iterable[Flags], truth: Iterable[Flags]) -> Confusion:
    a, b = np.concatenate(list(flagged)), np.concatenate(list(truth))
    hit, false, missed, calm = (int(x.sum()) for x in (a & b, a & ~b, ~a & b, ~a & ~b))
    return Confusion(2 * hit / (2 * hit + false + missed), false / (false + calm), missed / (missed + hit))


def skab(data: Path, events: float = EVENTS) -> tuple[list[Row], Table]:
    files = [f for f in read(data / "skab_shared.csv.gz", "label_anomaly") if "anomaly-free" not in f.name]
    truth = [f.anomalous[SKAB_FROM:] for f in files]
    flags = [flags[SKAB_FROM:] for _, flags in engine_alarms(files, events)]
    found = confusion(flags, truth)
    table = Table(title=f"Skoltech Anomaly Benchmark, {len(files)} files, rows from {SKAB_FROM} on")
    for title in ("alarms", "F1", "false-alarm rate", "missed-alarm rate"):
        table.add_column(title, justify="left" if title == "alarms" else "right")
    shown = {f"anomaly episodes, 1 in {events:,.0f} events": found}
    for name, make in THOUGHTLESS.items():
        shown[name] = confusion([make(len(t), i) for i, t in enumerate(truth)], truth)
    for name, one in shown.items():
        table.add_row(name, f"{one.f1:.3f}", f"{one.false:.1%}", f"{one.missed:.1%}")
    return [check("skab/F1", found.f1, ">=", 0.77), check("skab/false-alarm rate", found.false, "<=", 0.22)], table


# Tennessee Eastman process.

TEP_FROM, TEP_WARMUP = 160, 100
HARD = ("00", "03", "09")
"""Runs without a fault, or with one that no method finds."""


def tep_delays(runs: list[Entity], flags: list[Flags]) -> tuple[dict[str, float], int]:
    """Rows from the fault to the first alarm, inf where there is none; runs without an alarm before row 160."""
    delays, quiet = {}, 0
    for entity, over in zip(runs, flags, strict=True):
        alarms = np.flatnonzero(over)
        later = alarms[alarms >= TEP_FROM]
        delays[entity.name[-2:]] = float(later[0] - TEP_FROM) if len(later) else math.inf
        quiet += not ((alarms >= TEP_WARMUP) & (alarms < TEP_FROM)).any()
    return delays, quiet


def tep(data: Path, events: float = EVENTS) -> tuple[list[Row], Table]:
    runs = list(read(data / "tep_shared.csv.gz", "label_fault"))
    shown = {f"anomalies, 1 in {events:,.0f}": [scores > 1.0 for scores, _ in engine_alarms(runs, events)]}
    for name, make in THOUGHTLESS.items():
        shown[name] = [make(len(r.values), i) for i, r in enumerate(runs)]
    title = "Tennessee Eastman process: rows from the fault to the first alarm (run 00: none), runs quiet before it"
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))  # fourteen columns on 80 characters
    table.add_column("alarms", no_wrap=True)
    for name in (*(run.name[-2:] for run in runs), "median", "quiet"):
        table.add_column(name, justify="right", no_wrap=True)
    rows: list[Row] = []
    for name, flags in shown.items():
        delays, quiet = tep_delays(runs, flags)
        faults = [delay for fault, delay in delays.items() if fault not in HARD]
        median = float(np.median(faults))
        told = [f"{d:.0f}" if math.isfinite(d) else "–" for d in (*delays.values(), median)]
        table.add_row(name, *told, str(quiet))
        if not rows:
            rows = [
                check("tep/faults found", float(np.isfinite(faults).sum()), ">=", len(faults)),
                check("tep/median delay", median, "<=", 30.0),
                check("tep/quiet runs before the fault", quiet, ">=", 9),
            ]
    return rows, table


# The budget.

BUDGETS = (1e3, 1e4, 1e5)
STEP = 300.0
"""s between events."""


def stationary(count: int, seed: int = 0) -> Iterator[tuple[str, Floats, Floats]]:
    """Streams in which nothing happens: their name, values and seconds of the week."""
    rng, ts = np.random.default_rng(seed), np.arange(count) * STEP
    week = ts % WEEK
    yield "normal", rng.normal(size=count), week
    yield "Student t3", rng.standard_t(3, size=count), week
    x = rng.normal(size=count)
    autoregress(x, 0.7)
    yield "AR(0.7)", x, week
    season = 3.0 * np.sin(2 * np.pi * ts / 86_400.0) + 2.0 * np.sin(2 * np.pi * ts / WEEK)
    yield "seasonal", season + 0.5 * rng.normal(size=count), week


def budget(count: int = 10_000_000) -> tuple[list[Row], Table]:
    table = Table(title=f"False alarms by those that the budget allows, {count:,} events, and µs an event")
    for title in ("stream", "channel", *(f"1 in {b:,.0f}" for b in BUDGETS), "µs"):
        table.add_column(title, justify="left" if title in ("stream", "channel") else "right")
    rows: list[Row] = []
    for stream, values, week in stationary(count):
        none = np.zeros((count, 0))
        for channel, scores, columns in (("novelty", novelty_scores, week), ("levels", levels_scores, none)):
            ratios, spent = [], math.inf
            for events in BUDGETS:
                start = time.perf_counter()
                out = scores(values, columns, events)
                spent = min(spent, (time.perf_counter() - start) / count * 1e6)
                ratios.append(len(first_alarms(out > 1.0, 0)) * events / count)
                rows.append(check(f"budget/{channel}/{stream}/{events:.0f}", ratios[-1], "<=", 1.2))
            table.add_row(stream, channel, *(f"{ratio:.2f}" for ratio in ratios), f"{spent:.2f}")
    return rows, table


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Alerts on labelled recordings.")
    parser.add_argument("--data", type=Path, required=True, help="folder with nab_, skab_ and tep_shared.csv.gz")
    parser.add_argument("--names", nargs="+", choices=["nab", "skab", "tep", "budget"], default=["nab", "skab", "tep"])
    parser.add_argument("--events", type=float, default=EVENTS, help="budget: mean events between false alarms")
    parser.add_argument("--budget-events", type=int, default=10_000_000, help="length of the streams of `budget`")
    parser.add_argument("--json", action="store_true", help="checks on stdout")
    return parser.parse_args(arguments)


def main() -> None:
    options = parsed()
    rows: list[Row] = []
    for name in options.names:
        if name == "budget":
            found, table = budget(options.budget_events)
        else:
            found, table = {"nab": nab, "skab": skab, "tep": tep}[name](options.data, options.events)
        rows += found
        CONSOLE.print(table)
    for row in rows:
        word = "ok  " if row["ok"] else "MISS"
        CONSOLE.print(f"{word} {row['name']}: {row['value']:.4g} {row['relation']} {row['bar']}")
    if options.json:
        told = [row | {"value": row["value"] if math.isfinite(row["value"]) else None} for row in rows]
        print(json.dumps({"checks": told}, indent=2))


if __name__ == "__main__":
    main()
