"""A soft sensor whose labels come late, beside the best of three simple ways, test then train.

    python benchmarks/late_labels.py --data FOLDER [--names bike steel] [--profile accurate] [--json]

The label of row t is there after row t + delay is predicted. No past target is among the inputs (`lags: 0`), as in the
soft cells of accuracy.py, and every way sees the same columns. The simple ways are the last label that is there, the
running mean of the labels, and least squares with forgetting; each for an entity alone and for all together, and the
least squares with seven rates of forgetting: the best of them in hindsight is what the product has to reach.
See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import CONSOLE, SHORT, check, find, number, plain, ratio_text
from accuracy_peers import SCORED_FROM
from accuracy_product import CELLS, Recording, configuration
from numpy.typing import NDArray
from rich.table import Table

from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.prequential import prequential_delayed, with_row_labels

DELAYS = (0, 1, 10, 100)
DECAYS = (1.0, 0.9995, 0.999, 0.995, 0.99, 0.97, 0.95)
"""Of the least squares, per label."""
RIDGE = 1.0
REACH = 0.5
"""Answers stay within this part of the range of labels so far beyond its ends, as the product's do."""
TIE = 1e-9
"""Errors that are the same numbers have means that differ in the last bits, by the order of their sum."""
WORSE_MOST = 0.1
"""Part of the cells in which the product may be behind the best simple way."""

Array = NDArray[np.float64]
Row = dict[str, Any]


class LeastSquares:
    """Recursive ridge regressions on one input, one a rate of forgetting; labels standardised by those so far."""

    def __init__(self, inputs: int) -> None:
        self.decay = np.array(DECAYS)
        self.P = np.tile(np.eye(inputs) / RIDGE, (len(DECAYS), 1, 1))
        self.W = np.zeros((len(DECAYS), inputs))

    def predict(self, x: Array) -> Array:
        """What each answers, (rates,)."""
        return self.W @ x

    def learn(self, x: Array, y: float) -> None:
        """One label. Where inputs stand still, P must not grow without end: its trace is bounded."""
        Px = self.P @ x
        gain = Px / (self.decay + Px @ x)[:, None]
        self.W += gain * (y - self.W @ x)[:, None]
        self.P = (self.P - gain[:, :, None] * Px[:, None, :]) / self.decay[:, None, None]
        most = 1e4 * len(x) / RIDGE
        self.P *= np.minimum(1.0, most / np.maximum(np.trace(self.P, axis1=1, axis2=2), 1e-300))[:, None, None]


class Statistics:
    """Running mean and deviation of columns."""

    def __init__(self, columns: int) -> None:
        self.n, self.mean, self.sum2 = 0, np.zeros(columns), np.zeros(columns)

    def add(self, value: Array) -> None:
        """One value of each column."""
        self.n += 1
        off = value - self.mean
        self.mean = self.mean + off / self.n
        self.sum2 = self.sum2 + off * (value - self.mean)

    def standard(self, value: Array) -> Array:
        """In deviations from the mean; 0 while a column has not varied."""
        deviation = np.sqrt(self.sum2 / max(self.n, 1))
        varies = deviation > 1e-9 * (1e-12 + np.abs(self.mean))
        return np.where(varies, np.clip((value - self.mean) / np.where(varies, deviation, 1.0), -5.0, 5.0), 0.0)


class Known:
    """What the labels of an entity (or of all) have taught: the last, their mean, and the least squares."""

    def __init__(self, inputs: int) -> None:
        self.last, self.labels, self.columns = math.nan, Statistics(1), Statistics(inputs)
        self.fit = LeastSquares(inputs + 1)
        self.low, self.high = math.inf, -math.inf

    def inputs(self, u: Array) -> Array:
        """The constant and the standardised columns; learns their statistics first, as they need no label."""
        self.columns.add(u)
        return np.concatenate([[1.0], self.columns.standard(u)])

    def answers(self, x: Array) -> Array:
        """Last label, mean, least squares by rate; NaN without a label."""
        if not self.labels.n:
            return np.full(2 + len(DECAYS), math.nan)
        mean, deviation = float(self.labels.mean[0]), self.deviation()
        reach = REACH * (self.high - self.low)
        fits = np.clip(mean + deviation * self.fit.predict(x), self.low - reach, self.high + reach)
        return np.concatenate([[self.last, mean], fits])

    def deviation(self) -> float:
        """Of the labels so far; 1 while they have not varied."""
        return float(np.sqrt(self.labels.sum2[0] / self.labels.n)) or 1.0

    def learn(self, x: Array, y: float) -> None:
        """A label, and the inputs of its event as they were."""
        self.labels.add(np.array([y]))
        self.last, self.low, self.high = y, min(self.low, y), max(self.high, y)
        self.fit.learn(x, (y - float(self.labels.mean[0])) / self.deviation())


def titles() -> list[str]:
    """Of the simple ways, those of an entity alone first."""
    ways = ["last label", "running mean", *(f"least squares, {decay:g}" for decay in DECAYS)]
    return [*ways, *(f"{way}, all" for way in ways)]


def simple_ways(recording: Recording, delay: int) -> dict[str, float]:
    """MAE of each; before an entity's first label, what all labels say, and 0 before the first of all."""
    rows = recording.rows
    u = np.array([[row[name] if row[name] is not None else math.nan for name in recording.features] for row in rows])
    u = filled(u.astype(np.float64))
    y = np.array([row["target"] for row in rows], np.float64)
    of: dict[str, Known] = {}
    everyone = Known(u.shape[1])
    inputs: list[tuple[Known, Array, Array]] = []
    errors = np.zeros((len(rows), len(titles())))
    for t, row in enumerate(rows):
        if t > delay:
            known, own, shared = inputs[t - delay - 1]
            known.learn(own, y[t - delay - 1])
            everyone.learn(shared, y[t - delay - 1])
        known = of.setdefault(row["entity"], Known(u.shape[1]))
        inputs.append((known, known.inputs(u[t]), everyone.inputs(u[t])))
        pooled = np.nan_to_num(everyone.answers(inputs[-1][2]))
        own_answers = known.answers(inputs[-1][1])
        errors[t] = np.abs(np.concatenate([np.where(np.isnan(own_answers), pooled, own_answers), pooled]) - y[t])
    return dict(zip(titles(), errors[SCORED_FROM:].mean(0).tolist(), strict=True))


def filled(u: Array) -> Array:
    """An unknown cell as the last value of its column, 0 before the first."""
    for j in range(u.shape[1]):
        known = np.maximum.accumulate(np.where(np.isnan(u[:, j]), -1, np.arange(len(u))))
        u[:, j] = np.where(known >= 0, u[known, j], 0.0)
    return u


def product(recording: Recording, delay: int, profile: str) -> float:
    """MAE of the product's soft sensor with labels so late."""
    config = with_row_labels(configuration(recording.features, profile, {"event": CELLS["soft"]}))
    chunks = prequential_delayed(recording.rows, delay, PartitionedEngine(config))
    yhat = np.concatenate([chunk.predictions.yhat for chunk in chunks])
    target = np.array([row["target"] for row in recording.rows])
    return float(np.abs(yhat - target)[SCORED_FROM:].mean())


def measure(recordings: list[Recording], profile: str, delays: list[int]) -> Row:
    """`checks`, and `rows`: a cell each."""
    rows = []
    for recording in recordings:
        if not recording.features:
            continue
        for delay in delays:
            ways = simple_ways(recording, delay)
            best = min(ways, key=lambda way: ways[way])
            mae = product(recording, delay, profile)
            name = f"{SHORT.get(recording.name, recording.name)}/{delay}"
            rows.append(
                {
                    "name": name,
                    "delay": delay,
                    "mae": mae,
                    "simple": ways[best],
                    "simple_by": best,
                    "ratio": mae / ways[best],
                    "ways": ways,
                }
            )
            CONSOLE.print(f"  {name}: {mae:.5g}, {best} {ways[best]:.5g}")
    return {"checks": checks(rows, profile), "profile": profile, "rows": rows}


def checks(rows: list[Row], profile: str) -> list[Row]:
    """How many cells are behind the best simple way, and by delay the mean."""
    prefix = "" if profile == "fast" else f"{profile}/"
    worse = sum(row["ratio"] > 1.0 + TIE for row in rows)
    count = check(f"{prefix}late/cells worse than the best simple way", worse, "<=", WORSE_MOST * len(rows))
    delays = dict.fromkeys(row["delay"] for row in rows)
    return [count, *(check(f"{prefix}late/{delay}", mean_ratio(rows, delay), "<=", 1.0) for delay in delays)]


def mean_ratio(rows: list[Row], delay: int) -> float:
    """Geometric mean of the product's error by that of the best simple way."""
    ratios = [math.log(row["ratio"]) for row in rows if row["delay"] == delay]
    return math.exp(sum(ratios) / len(ratios))


def show(report: Row) -> None:
    """The same for a person."""
    table = Table(title=f"Soft sensor with late labels, profile {report['profile']}: mean absolute error")
    table.add_column("recording/events late", no_wrap=True)
    for title in ["product", "best simple way", "×"]:
        table.add_column(title, justify="right")
    table.add_column("which", no_wrap=True)
    for row in report["rows"]:
        table.add_row(
            row["name"], number(row["mae"]), number(row["simple"]), ratio_text(row["ratio"]), row["simple_by"]
        )
    CONSOLE.print(table)
    for one in report["checks"]:
        word = "[green]met[/]" if one["ok"] else "[red]not met[/]"
        CONSOLE.print(f"{one['name']}: {one['value']:,} {one['relation']} {one['bar']:,}: {word}")


def main() -> None:
    parser = argparse.ArgumentParser(description="A soft sensor with late labels beside the best simple way.")
    parser.add_argument("--data", type=Path, required=True, help="folder of gzipped CSV files")
    parser.add_argument("--names", nargs="+", help="only these recordings, by their file's or their short name")
    parser.add_argument("--rows", type=int, default=3000, help="of each recording, the first by time")
    parser.add_argument("--profile", choices=["fast", "accurate"], default="fast")
    parser.add_argument("--delays", type=int, nargs="+", default=list(DELAYS), help="events that a label is late")
    parser.add_argument("--json", action="store_true", help="checks and rows on stdout")
    options = parser.parse_args()
    report = measure(find(options.data, options.names, options.rows), options.profile, options.delays)
    show(report)
    if options.json:
        print(json.dumps(plain(report), indent=2))


if __name__ == "__main__":
    main()
