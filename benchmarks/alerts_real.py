"""Episodes on recordings with the defaults, and what `learn: hold` and `slow` cost there.

    python benchmarks/alerts_real.py --data FOLDER                          # 20 s on a free core
    python benchmarks/alerts_real.py --data FOLDER --parts hold --names steel_energy nab_shared --json
    python benchmarks/alerts_real.py --data FOLDER --figures before.json    # for --baseline of a later run

`recordings` runs the whole engine with its defaults over every recording of the folder: share of rows inside episodes
beside that of labelled rows, longest episode, starts, coverage, interval score. An episode that is open at the end
lasts to the end. `hold` runs all, and the simulated plant of `plant.py`, with each setting of `learn` of both kinds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import alerts_plant
import numpy as np
import plant
from accuracy_product import configuration as columns_named
from accuracy_product import events_of, stem
from accuracy_product import read as read_rows
from alerts_recordings import check
from alerts_recordings import read as read_files
from alerts_run import (
    KINDS,
    LEVEL,
    Flags,
    Floats,
    Judged,
    Row,
    Stream,
    absorb_after,
    configuration,
    entities_ratio,
    geometric_mean,
    judge,
    of_episodes,
    of_intervals,
)
from alerts_scale import BEFORE, BETTER, SAME, baseline, number, run_parts
from rich.console import Console
from rich.table import Table

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True, width=140)
LABELS = {
    "nab_shared": "label_anomaly",
    "msl_telemetry": "label_anomaly",
    "skab_shared": "label_anomaly",
    "tep_shared": "label_fault",
}
"""Recordings whose files one engine takes one after another, and their column of labels."""
FEW = (
    "steel_energy",
    "bike_sharing_hourly",
    "parking_birmingham",
    "gas_turbine_nox",
    "water_flow",
    "chick_weights",
    "cmapss_fd001",
)
INSIDE_MOST, BY_LABELLED = 0.03, 2.0
SCORED = ("parking_birmingham", "bike_sharing_hourly", "steel_energy", "gas_turbine_nox")
HALVED = ("gas_turbine_nox", "steel_energy")
FROM = 100
"""Events of an entity after which coverage, errors and scores are taken."""
LEARN = ("adapt", "slow", "hold")
COVERAGE_OFF, ERROR_MOST = 0.03, 1.1


def recording(path: Path) -> tuple[Stream, Flags | None]:
    """A file of the folder, and which rows are labelled: by time, or the files of a benchmark one after another."""
    name = stem(path)
    if name not in LABELS:
        found = read_rows(path, 10**9)
        events = events_of(columns_named(found.features, "fast"), found.rows)
        names = list(dict.fromkeys(events.entity))
        number = {each: i for i, each in enumerate(names)}
        entity = np.array([number[each] for each in events.entity])
        return Stream(name, names, entity, events.ts, events.features, events.target, found.features, {}), None
    files = list(read_files(path, LABELS[name]))
    ts = [file.frame["ts"].str.to_datetime(strict=True).dt.epoch("ms").to_numpy() for file in files]
    x = np.concatenate([file.columns for file in files])
    stream = Stream(
        name,
        [file.name for file in files],
        np.repeat(np.arange(len(files)), [len(file.values) for file in files]),
        np.concatenate(ts),
        x,
        np.concatenate([file.values for file in files]),
        [f"x{j}" for j in range(x.shape[1])],
        {},
    )
    return stream, np.concatenate([file.anomalous for file in files])


def paths(options: argparse.Namespace) -> list[Path]:
    found = [path for path in sorted(options.data.glob("*.csv.gz")) if stem(path) in (options.names or [stem(path)])]
    if not found:
        raise SystemExit(f"--data {options.data}: no such recording (*.csv.gz)")
    return found


def measured(path: Path) -> Row:
    """One recording with the defaults."""
    stream, labelled = recording(path)
    config = configuration(stream)
    judged = judge(stream, config)
    row: Row = {"recording": stream.name, "rows": len(stream.y), "entities": len(stream.names)}
    row["labelled"] = None if labelled is None else float(labelled.mean())
    row["allowed"] = {kind: absorb_after(config, kind) for kind in KINDS}
    row |= of_episodes(stream, judged)
    return row | of_intervals(stream, judged, judged.nth >= FROM)


def recordings_checks(rows: list[Row], before: list[Row]) -> list[Row]:
    """The bars; before: rows of an earlier run."""
    found, old = {row["recording"]: row for row in rows}, {row["recording"]: row for row in before}
    checks = []
    for name, row in found.items():
        inside = row["anomaly"]["inside"]
        if name in FEW:
            checks.append(check(f"recordings/{name}: rows inside anomaly episodes", inside, "<=", INSIDE_MOST))
        elif row["labelled"]:
            ratio = inside / row["labelled"]
            checks.append(
                check(f"recordings/{name}: rows inside anomaly episodes by labelled", ratio, "<=", BY_LABELLED)
            )
    longest = max(row[kind]["longest"] / row["allowed"][kind] for row in rows for kind in KINDS)
    checks.append(check("recordings/longest episode by absorb_after", longest, "<=", 1.0))
    for row in rows:
        row["score by before"] = entities_ratio(row, old[row["recording"]]) if row["recording"] in old else None
    both = [name for name in found if name in old]
    total = [sum(each[name]["drift"]["starts"] for name in both) for each in (found, old)]
    halved = {"in all": total[0] / total[1] if both and total[1] else None}
    for name in HALVED:
        if name in both:
            halved[name] = found[name]["drift"]["starts"] / old[name]["drift"]["starts"]
    checks += [check(f"recordings/drift starts by before, {name}", ratio, "<=", 0.5) for name, ratio in halved.items()]
    if set(SCORED) <= set(found):
        ratio = geometric_mean([found[name]["score by before"] for name in SCORED])
        checks.append(check(f"recordings/interval score by before, {len(SCORED)} recordings", ratio, "<=", BETTER))
    if "nab_shared" in found:
        score = found["nab_shared"]["score by before"]
        checks.append(check("recordings/interval score by before, nab_shared", score, "<=", SAME))
    return checks


def recordings_table(rows: list[Row]) -> Table:
    title = (
        "Recordings, defaults: rows inside episodes and labelled in %, longest episode in events, worst hour in points"
    )
    table = Table(box=None, padding=(0, 1, 0, 0), title=title)
    table.add_column("recording", no_wrap=True)
    columns = (
        "rows",
        "label-\nled",
        "anom.\ninside",
        "\nlongest",
        "\nstarts",
        "drift\ninside",
        "\nlongest",
        "\nstarts",
    )
    for heading in (*columns, "ab-\nsorbed", "cover-\nage", "worst\nhour", "score", "by\nbefore"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{row['rows']:,}", "" if row["labelled"] is None else number(100 * row["labelled"], 1)]
        for kind in ("anomaly", "drift"):
            own = row[kind]
            cells += [number(100 * own["inside"], 1), f"{own['longest']:,}", f"{own['starts']:,}"]
        cells.append(str(sum(row[kind]["absorbed"] for kind in KINDS)))
        off = row["worst hour off"]
        cells += [number(row["coverage"], 3), number(None if off is None else 100 * off, 1)]
        table.add_row(row["recording"], *cells, number(row["score"]), number(row["score by before"], 3))
    return table


def recordings(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks, and a row a recording."""
    rows = [measured(path) for path in paths(options)]
    checks = recordings_checks(rows, baseline(options, "recordings"))
    CONSOLE.print(recordings_table(rows))
    return checks, rows


def errors_of(stream: Stream, judged: Judged) -> tuple[Floats, Floats, Floats]:
    """By entity, and target where there are several: events that count, their share inside the interval, mean absolute
    error."""
    targets = 1 if stream.y.ndim == 1 else stream.y.shape[1]
    of = stream.entity[:, None] * targets + np.arange(targets) if targets > 1 else stream.entity
    old = judged.nth >= FROM if judged.nth.ndim == stream.y.ndim else (judged.nth >= FROM)[:, None]
    count = old & np.isfinite(stream.y) & np.isfinite(judged.lower) & np.isfinite(judged.yhat)
    y, entity, names = stream.y[count], of[count], len(stream.names) * targets
    inside = (judged.lower[count] <= y) & (y <= judged.upper[count])
    events = np.bincount(entity, minlength=names).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        coverage = np.bincount(entity, inside.astype(np.float64), names) / events
        return events, coverage, np.bincount(entity, np.abs(y - judged.yhat[count]), names) / events


def compared(name: str, found: dict[str, tuple[Floats, Floats, Floats]]) -> Row | None:
    """Coverage and error by adapt's, each entity by its events. found: by setting of `learn`"""
    events, _, base = found["adapt"]
    some = (events > 0) & (base > 0)
    if not some.any():
        return None
    row: Row = {"recording": name, "events": int(events.sum())}
    for learn, (_, coverage, error) in found.items():
        ratio = error[some] / base[some]
        row[learn] = {
            "coverage": float(np.average(coverage[some], weights=events[some])),
            "lowest coverage": float(coverage[some].min()),
            "error": float(np.average(ratio, weights=events[some])),
            "highest error": float(ratio.max()),
        }
    return row


def held(path: Path) -> Row | None:
    """A recording under each setting of `learn`; None where no entity has more events than `FROM`."""
    stream, _ = recording(path)
    found = {}
    for learn in LEARN:
        config = configuration(stream, alerts={kind: {"learn": learn} for kind in KINDS})
        found[learn] = errors_of(stream, judge(stream, config))
    return compared(stream.name, found)


def held_plant(seed: int) -> Row | None:
    """The simulated plant under what `ssm-stream init` writes, and each setting of `learn`."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        plant.write(Path(folder), plant.made(seed=seed))
        config = alerts_plant.initial(Path(folder), [])
        if config is None:
            return None
        for learn in LEARN:
            setting = alerts_plant.changed(config, {kind: {"learn": learn} for kind in KINDS})
            one = alerts_plant.run(setting, Path(folder) / "plant.csv")
            found[learn] = errors_of(one.stream, one.judged)
    return compared(f"plant {seed}", found)


def hold_checks(rows: list[Row]) -> list[Row]:
    checks = []
    for learn in LEARN[1:]:
        off = [(abs(row[learn]["coverage"] - LEVEL), row["recording"]) for row in rows]
        more = [(row[learn]["error"], row["recording"]) for row in rows]
        for what, every, most in (
            ("coverage off the level", off, COVERAGE_OFF),
            ("error by adapt's", more, ERROR_MOST),
        ):
            worst, where = max(every)
            checks.append(check(f"hold/{learn}: {what}, worst recording", worst, "<=", most) | {"recording": where})
    return checks


def hold(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks, and a row a recording."""
    found = [held(path) for path in paths(options)]
    found += [held_plant(seed) for seed in options.plants] if not options.names else []
    rows = [row for row in found if row is not None]
    table = Table(
        box=None, padding=(0, 1, 0, 0), title="learn: coverage (entity with the lowest), error by adapt's (worst)"
    )
    table.add_column("recording", no_wrap=True)
    for learn in LEARN:
        table.add_column(learn, justify="right")
    for row in rows:
        cells = []
        for learn in LEARN:
            own = row[learn]
            told = f"{own['coverage']:.3f} ({own['lowest coverage']:.3f})"
            cells.append(told if learn == "adapt" else f"{told}, {own['error']:.3f} ({own['highest error']:.2f})")
        table.add_row(row["recording"], *cells)
    CONSOLE.print(table)
    return hold_checks(rows), rows


def add_options(parser: Any) -> None:
    parser.add_argument("--names", nargs="+", metavar="RECORDING", help="only these recordings (steel_energy …)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings (gzipped CSV)")
    parser.add_argument("--parts", nargs="+", choices=["recordings", "hold"], default=["recordings"])
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    parser.add_argument("--baseline", type=Path, default=BEFORE, help="figures of an earlier run (alerts_before.json)")
    parser.add_argument("--figures", type=Path, help="write the figures to this file, for --baseline of a later run")
    add_options(parser)
    alerts_plant.add_options(parser)
    run_parts(parser.parse_args(), {"recordings": recordings, "hold": hold})


if __name__ == "__main__":
    main()
