"""Scores on NAB, SKAB and MSL as they are chosen, and with the choice left to other recordings.

    python benchmarks/alerts_left_out.py --data FOLDER             # 30 s
    python benchmarks/alerts_left_out.py --data FOLDER --json
    python benchmarks/alerts.py --parts left-out --data FOLDER

*default*: the product's default budget, an alarm being a score over 1. *best on all*: the budget and threshold that are
best on these very files. *one file left out*, *one family left out*: for each file those that are best on the other
files, or on the files of other kinds (realTweets, valve1, channels M-…). What *best on all* has more than these was
fitted; what *default* has more than these was chosen on files like them.

NAB by its own rule (every row over the threshold is an alarm) and with one alarm an episode; SKAB and MSL by F1 of the
rows of anomaly episodes; and VUS-PR of the anomaly score (`vus.py`), for which nothing is chosen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from alerts_recordings import (
    NAB_BUDGETS,
    PROFILES,
    SKAB_FROM,
    THOUGHTLESS,
    Entity,
    Flags,
    Floats,
    Row,
    Scored,
    check,
    engine_alarms,
    nab_files,
    nab_normal,
    nab_sigmoid,
    read,
)
from rich.console import Console
from rich.table import Table
from vus import WINDOW, vus_pr

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True, width=140)
DEFAULT = 10_000.0
"""Events between false alarms, the product's default."""
SKAB_F1, SKAB_FALSE = 0.77, 0.22
THRESHOLDS = 40
"""Of the score, that may be chosen."""


class Heard(NamedTuple):
    """A file under one budget. scores (n,); inside (n,): rows of anomaly episodes; starts (n,): their first rows"""

    scores: Floats
    inside: Flags
    starts: Flags


class Costs(NamedTuple):
    """NAB's points of a file for any alarms. outside (n,): of an alarm outside the windows, 0 within"""

    windows: list[tuple[int, int]]
    outside: Floats
    start: int


def heard(entities: list[Entity], budgets: list[float]) -> dict[float, list[Heard]]:
    out = {}
    for budget in budgets:
        files = []
        for scores, inside in engine_alarms(entities, budget):
            starts = inside & ~np.concatenate([[False], inside[:-1]])
            files.append(Heard(np.nan_to_num(scores), inside, starts))
        out[budget] = files
    return out


def costs(file: Scored) -> Costs:
    n = len(file.entity.values)
    rows, outside = np.arange(n), np.full(n, -1.0)
    for left, right in sorted(file.windows):
        far = (rows - right) / max(right - left, 1)
        late = (rows > right) & (far <= 3.0)
        outside[late] = 2.0 / (1.0 + np.exp(np.minimum(5.0 * far[late], 700.0))) - 1.0
        outside[(rows > right) & (far > 3.0)] = -1.0
    for left, right in file.windows:
        outside[left : right + 1] = 0.0
    return Costs(file.windows, outside, file.start)


def points(cost: Costs, alarms: Flags, miss: float, false: float) -> float:
    """As `alerts_recordings.nab_points`, for alarms on many rows."""
    alarms = alarms.copy()
    alarms[: cost.start] = False
    total = false * float(cost.outside[alarms].sum())
    for left, right in cost.windows:
        found = alarms[left : right + 1]
        if found.any():
            total += nab_sigmoid(-(right - left - int(found.argmax()) + 1) / (right - left + 1)) / nab_sigmoid(-1.0)
        else:
            total -= miss
    return total


def family(name: str) -> str:
    """The kind of file: the folder, and of MSL, which has one, the channel's letter."""
    folder, _, channel = name.partition("/")
    return f"{folder}/{channel[:1]}" if folder == "MSL" else folder


def left_out(names: list[str], values: Floats, total: Callable[[Floats], float], by: Callable[[str], str]) -> float:
    """Score of the files, each under the choice that is best on the files of other groups.

    values (files, choices, …): what `total` makes a score of, added over files
    """
    groups = np.array([by(name) for name in names])
    summed = np.zeros(values.shape[2:])
    for group in dict.fromkeys(groups.tolist()):
        rest = values[groups != group].sum(0)
        best = max(range(len(rest)), key=lambda i: total(rest[i]))
        summed = summed + values[groups == group, best].sum(0)
    return total(summed)


def chosen(names: list[str], values: Floats, total: Callable[[Floats], float], default: int) -> Row:
    """default: index of the choice that the product makes"""
    every = values.sum(0)
    best = max(range(len(every)), key=lambda i: total(every[i]))
    return {
        "default": total(every[default]),
        "one file left out": left_out(names, values, total, lambda name: name),
        "one family left out": left_out(names, values, total, family),
        "best on all": total(every[best]),
        "best": best,
    }


def volume(files: list[tuple[Flags, Floats]]) -> Row:
    """Mean VUS-PR over files with labelled rows: of the score, of random ones; and the labelled share."""
    files = [(labels, scores) for labels, scores in files if labels.any()]
    found = [vus_pr(labels, scores) for labels, scores in files]
    chance = [vus_pr(labels, np.random.default_rng(i).random(len(labels))) for i, (labels, _) in enumerate(files)]
    share = np.mean([labels.mean() for labels, _ in files])
    return {
        "score": float(np.mean(found)),
        "random": float(np.mean(chance)),
        "labelled": float(share),
        "window": WINDOW,
    }  # type: ignore[arg-type]


def nab(data: Path) -> list[Row]:
    files = nab_files(data)
    names, prices = [f.entity.name for f in files], [costs(f) for f in files]
    budgets = sorted({*NAB_BUDGETS, DEFAULT})
    found = heard([f.entity for f in files], budgets)
    windows = sum(len(f.windows) for f in files)
    every = np.concatenate([one.scores for one in found[DEFAULT]])
    limits = [1.0, *np.unique(np.quantile(every, 1.0 - np.geomspace(1e-5, 0.05, THRESHOLDS))).tolist()]
    rows = []
    for profile, (miss, false) in PROFILES.items():

        def normal(total: Floats, miss: float = miss) -> float:
            return nab_normal(float(total), windows, miss)

        def of(alarms: list[list[Flags]], miss: float = miss, false: float = false) -> Floats:
            return np.array([[points(p, a, miss, false) for a in each] for p, each in zip(prices, alarms, strict=True)])

        own = of([[one.scores >= limit for limit in limits] for one in found[DEFAULT]])
        episode = of([[found[budget][i].starts for budget in budgets] for i in range(len(files))])
        for rule, values, default, choices in (
            ("every row over the threshold", own, 0, limits),
            ("one alarm an episode", episode, budgets.index(DEFAULT), budgets),
        ):
            row = {"score": f"NAB, {profile}, {rule}", **chosen(names, values, normal, default)}
            row["best"] = float(choices[row["best"]])
            for name, make in THOUGHTLESS.items():
                row[name] = normal(of([[make(len(p.outside), i)] for i, p in enumerate(prices)]).sum())
            rows.append(row)
    labels = [
        (f.entity.anomalous[f.start :], one.scores[f.start :]) for f, one in zip(files, found[DEFAULT], strict=True)
    ]
    return [*rows, {"score": "NAB, VUS-PR", "vus": volume(labels)}]


def f1(counts: Floats) -> float:
    """counts (3,): hits, false, missed"""
    hit, false, missed = counts[:3]
    return float(2 * hit / max(2 * hit + false + missed, 1))


def by_rows(title: str, files: list[Entity], start: int) -> list[Row]:
    """F1 of the rows of anomaly episodes from row `start` on."""
    budgets = sorted({*NAB_BUDGETS, DEFAULT})
    found = heard(files, budgets)
    truth = [file.anomalous[start:] for file in files]

    def counted(flags: Flags, labels: Flags) -> list[int]:
        hits = [(flags & labels).sum(), (flags & ~labels).sum(), (~flags & labels).sum(), (~flags & ~labels).sum()]
        return [int(one) for one in hits]

    values = np.array(
        [[counted(found[b][i].inside[start:], labels) for b in budgets] for i, labels in enumerate(truth)], np.float64
    )
    default = budgets.index(DEFAULT)
    row: Row = {"score": f"{title}, F1 of rows", **chosen([f.name for f in files], values, f1, default)}
    row["best"] = budgets[row["best"]]
    _, false, _, calm = values[:, default].sum(0)
    hit, missed = values[:, default, 0].sum(), values[:, default, 2].sum()
    row |= {"false-alarm rate": float(false / (false + calm)), "missed-alarm rate": float(missed / (missed + hit))}
    for name, make in THOUGHTLESS.items():
        flags = [np.array(counted(make(len(labels), i), labels)) for i, labels in enumerate(truth)]
        row[name] = f1(np.sum(flags, 0))
    some = [(labels, found[DEFAULT][i].scores[start:]) for i, labels in enumerate(truth)]
    return [row, {"score": f"{title}, VUS-PR", "vus": volume(some)}]


def measured(data: Path) -> list[Row]:
    """Of those that the folder has."""
    rows = nab(data) if (data / "nab_shared.csv.gz").exists() else []
    for title, name, start in (("SKAB", "skab_shared", SKAB_FROM), ("MSL", "msl_telemetry", 0)):
        path = data / f"{name}.csv.gz"
        if path.exists():
            files = [file for file in read(path, "label_anomaly") if "anomaly-free" not in file.name]
            rows += by_rows(title, files, start)
    return rows


def shown(rows: list[Row]) -> None:
    titles = ("default", "one file left out", "one family left out", "best on all", *THOUGHTLESS)
    table = Table(box=None, padding=(0, 1, 0, 0), title=f"Chosen and not chosen; default: 1 in {DEFAULT:,.0f} events")
    table.add_column("score", no_wrap=True)
    for title in titles:
        table.add_column(title.replace(" left", "\nleft").replace(" on", "\non"), justify="right")
    for row in rows:
        if "vus" not in row:
            digits = 1 if row["score"].startswith("NAB") else 3
            table.add_row(row["score"], *(f"{row[title]:.{digits}f}" for title in titles))
    CONSOLE.print(table)
    for row in rows:
        if "vus" in row:
            one = row["vus"]
            CONSOLE.print(
                f"{row['score']}: {one['score']:.3f} (random {one['random']:.3f}, labelled {one['labelled']:.3f})"
            )
        elif "false-alarm rate" in row:
            told = f"false alarms {100 * row['false-alarm rate']:.1f} %, missed {100 * row['missed-alarm rate']:.1f} %"
            CONSOLE.print(f"{row['score']}, default: {told}")


def parts(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks of SKAB under the default, and a row a score."""
    rows = measured(options.data)
    shown(rows)
    skab = next((row for row in rows if row["score"] == "SKAB, F1 of rows"), None)
    if skab is None:
        return [], rows
    checks = [
        check("left-out/SKAB, default: F1", skab["default"], ">=", SKAB_F1),
        check("left-out/SKAB, default: false-alarm rate", skab["false-alarm rate"], "<=", SKAB_FALSE),
    ]
    return checks, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with nab_ and skab_shared, msl_telemetry.csv.gz"
    )
    parser.add_argument("--json", action="store_true", help="figures on standard output")
    options = parser.parse_args()
    checks, rows = parts(options)
    if options.json:
        print(json.dumps({"checks": checks, "left-out": rows}))


if __name__ == "__main__":
    main()
