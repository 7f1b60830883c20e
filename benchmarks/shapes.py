"""Does the score rank anomalies of shape? On periodic signals with anomalies of known kinds, made from seeds.

    python benchmarks/shapes.py [--json] [--quick] [--chosen]

The whole product with its defaults on each signal, an entity of its own; every event's `anomaly_score` is judged: area
under the ROC curve and average precision, as means over the signals of a kind and then over the kinds. Beside it stand
scores that look at nothing, and the distance from the mean. --chosen: the base shapes that constants were chosen on,
which say nothing of others. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import shapes_streams as streams
from alerts_recordings import check
from alerts_run import Stream, configuration, judge
from alerts_scale import show_checks
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True, width=140)
AUC_LEAST, PRECISION_LEAST, RATE_MOST = 0.75, 0.3, 1.2
SEEDS = {"chosen": 100, "judged": 7_000, "quiet": 9_000}
YOUNG = (100, 600)
"""Events of an entity among which a score must rank from the beginning on."""
BUDGET = 1_000
"""Mean events between false alarms, where nothing happens: small, so that there are enough to count."""
MINUTE = 60_000
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Row = dict[str, Any]


def roc_auc(labels: Flags, scores: Floats) -> float:
    """Chance that a labelled row has a higher score than another one; equal scores count as half."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - count + (count + 1) / 2.0)[place]
    hits = int(labels.sum())
    return float((rank[labels].sum() - hits * (hits + 1) / 2) / (hits * (len(labels) - hits)))


def average_precision(labels: Flags, scores: Floats) -> float:
    """Mean precision over the recall; equal scores are one threshold."""
    values, place = np.unique(-scores, return_inverse=True)
    hits = np.bincount(place, labels, len(values))
    over = np.cumsum(np.bincount(place, minlength=len(values)))
    return float((np.cumsum(hits) / over) @ hits / labels.sum())


def stream_of(signal: streams.Signal) -> Stream:
    """The signal as events of one entity, a minute apart."""
    n, features = len(signal.y), [f"load{j}" for j in range(signal.x.shape[1])]
    ts = 1_700_000_000_000 + MINUTE * np.arange(n, dtype=np.int64)
    event = {"target": "value"}
    return Stream(signal.name, ["a"], np.zeros(n, np.int64), ts, signal.x, signal.y, features, event)


def product(signal: streams.Signal) -> Floats:
    stream = stream_of(signal)
    return judge(stream, configuration(stream)).score


def others(signal: streams.Signal) -> dict[str, Floats]:
    """Scores that look at nothing, and one that looks at the value alone."""
    n = len(signal.y)
    return {
        "never": np.zeros(n),
        "always": np.ones(n),
        "random": np.random.default_rng(5).uniform(size=n),
        "distance from the mean": np.abs(signal.y - signal.y.mean()),
    }


def ranked(signals: list[streams.Signal]) -> dict[str, dict[str, tuple[float, float]]]:
    """By score and kind: mean ROC-AUC and mean average precision."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for at, signal in enumerate(signals):
        for name, score in {"ssm-stream": product(signal), **others(signal)}.items():
            figures = roc_auc(signal.labels, score), average_precision(signal.labels, score)
            found.setdefault(name, {}).setdefault(str(signal.kind), []).append(figures)
        if (at + 1) % 36 == 0:
            CONSOLE.print(f"shapes: {at + 1} of {len(signals)} signals")
    out: dict[str, dict[str, tuple[float, float]]] = {}
    for name, kinds in found.items():
        out[name] = {kind: tuple(np.mean(rows, 0).tolist()) for kind, rows in kinds.items()}
        out[name]["mean"] = tuple(np.mean([out[name][kind] for kind in streams.KINDS], 0).tolist())
    return out


def quiet(quick: bool) -> float:
    """Anomaly episodes over the budget on signals without an anomaly."""
    n, starts, events = 20_000 if quick else 50_000, 0, 0
    for name, shape in streams.JUDGED_ON.items():
        for seed in range(2 if quick else 5):
            stream = stream_of(streams.make(name, shape, None, SEEDS["quiet"] + seed, n))
            judged = judge(stream, configuration(stream, f"1 per {BUDGET} events"))
            starts += sum(one.kind == "anomaly" for one in judged.episodes)
            events += n
    return starts * BUDGET / events


def young(shapes: dict[str, streams.Shape]) -> float:
    """Mean ROC-AUC over single spikes in an entity's first events."""
    first, end = YOUNG
    areas = []
    for name, shape in shapes.items():
        for seed in range(10):
            signal = streams.make(name, shape, None, SEEDS["quiet"] + 50 + seed, end)
            g = np.random.default_rng([seed, 1])
            rows = g.choice(np.arange(first, end), 5, replace=False)
            y, labels = signal.y.copy(), np.zeros(end, bool)
            y[rows] += g.choice([-1.0, 1.0], 5) * g.uniform(0.5, 1.5, 5) * y.std()
            labels[rows] = True
            score = product(signal._replace(y=y))
            areas.append(roc_auc(labels[first:], score[first:]))
    return float(np.mean(areas))


def show(found: dict[str, dict[str, tuple[float, float]]]) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0), title="Mean ROC-AUC / average precision")
    table.add_column("kind", no_wrap=True)
    for name in found:
        table.add_column(name, justify="right")
    for kind in (*streams.KINDS, "mean"):
        table.add_row(kind, *(f"{kinds[kind][0]:.2f} / {kinds[kind][1]:.2f}" for kinds in found.values()))
    CONSOLE.print(table)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    parser.add_argument("--quick", action="store_true", help="fewer signals")
    parser.add_argument("--chosen", action="store_true", help="the base shapes that constants were chosen on")
    options = parser.parse_args()
    shapes = streams.CHOSEN_ON if options.chosen else streams.JUDGED_ON
    seeds = SEEDS["chosen" if options.chosen else "judged"]
    found = ranked(streams.signals(shapes, 1 if options.quick else 3, seeds))
    show(found)
    area, precision = found["ssm-stream"]["mean"]
    checks = [
        check("shapes/mean ROC-AUC", area, ">=", AUC_LEAST),
        check("shapes/mean average precision", precision, ">=", PRECISION_LEAST),
        check("shapes/ROC-AUC, spikes among an entity's first events", young(shapes), ">=", AUC_LEAST),
        check(f"shapes/budget/quiet signals/1 in {BUDGET:,}", quiet(options.quick), "<=", RATE_MOST),
    ]
    show_checks(checks)
    if options.json:
        print(json.dumps({"checks": checks, "scores": found}))


if __name__ == "__main__":
    main()
