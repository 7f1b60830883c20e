"""Errors whose size is not constant: budgets, coverage by the hour, interval scores, and changes that must be found.

    python benchmarks/alerts_scale.py                                   # 15 streams; two minutes on a free core
    python benchmarks/alerts_scale.py --kinds GARCH "many zeros" --seed 3
    python benchmarks/alerts_scale.py --parts scale changes --entities 40 --json
    python benchmarks/alerts_scale.py --parts scale --figures before.json         # for --baseline of a later run

`scale` runs the whole engine with its defaults over the streams of `scale_streams.py`, in which nothing changes: starts
of episodes by those that the budget allows, coverage, interval score. `changes` has the same streams with a change.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scale_streams as streams
from alerts_recordings import check
from alerts_run import (
    KINDS,
    Judged,
    Row,
    Stream,
    configuration,
    geometric_mean,
    judge,
    of_episodes,
    of_intervals,
    score_ratio,
)
from rich.console import Console
from rich.table import Table

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True, width=140)
BEFORE = Path(__file__).with_name("alerts_before.json")
"""Figures of the product before it knew of the size of errors."""
Part = Callable[[argparse.Namespace], tuple[list[Row], list[Row]]]
"""Its checks, and rows of figures."""
BUDGET, YEAR = "1 per 10000 events", "1 per 365d"
DAYS = 365.0
YEAR_ALLOWED = 20
"""Alarms that the rare budget allows to the entities that it is judged on, at least: 100 entities of a stream with an
event a minute are allowed three, and seven come by chance in one run of four where the rate is 1.7 of them."""
SETTLED = 1_000
"""Events of an entity after which coverage and scores are taken."""
LIMIT = 3_000
"""Events after a change within which it must be found."""
RATE_MOST, RATE_EVER, YEAR_MOST, HOUR_MOST = 1.2, 2.0, 2.0, 0.03
BETTER, SAME = 0.92, 1.01


def rates(judged: Judged, allowed: float) -> Row:
    return {kind: sum(one.kind == kind for one in judged.episodes) / allowed for kind in KINDS}


def years(stream: Stream) -> float:
    """Years of all entities together."""
    return float(stream.ts[-1] - stream.ts[0]) / 86_400_000 / DAYS * len(stream.names)


def measured(name: str, entities: int, count: int, seed: int) -> Row:
    """One stream without a change."""
    kind = streams.KINDS[name]
    stream, _ = streams.made(name, None, entities, count, seed)
    judged = judge(stream, configuration(stream, BUDGET))
    allowed = len(stream.y) / 1e4
    row: Row = {"stream": name, "day": kind.day, "varying": kind.varying, "allowed": allowed}
    row["over"] = rates(judged, allowed)
    row |= of_episodes(stream, judged)
    row |= of_intervals(stream, judged, judged.nth >= SETTLED)
    enough = math.ceil(YEAR_ALLOWED / years(stream) * entities)
    fleet, _ = streams.made(name, None, max(entities, enough), count, seed)
    row["allowed, 365d"] = years(fleet)
    row["over, 365d"] = rates(judge(fleet, configuration(fleet, YEAR)), years(fleet))
    return row


def delays(stream: Stream, judged: Judged, at: Any) -> dict[str, Row]:
    """By kind and of either: median of the events from each entity's change to the first start, share not found."""
    found: dict[str, Row] = {}
    for kind in (*KINDS, "either"):
        late = []
        for entity, change in enumerate(at):
            after = [
                one.first - int(change)
                for one in judged.episodes
                if one.entity == entity and kind in (one.kind, "either") and 0 <= one.first - change < LIMIT
            ]
            late.append(min(after, default=np.inf))
        missed = float(np.isinf(late).mean())
        median = float(np.median(late))
        found[kind] = {"median": median if np.isfinite(median) else None, "missed": missed}
    return found


def changed(name: str, entities: int, count: int, seed: int) -> Row:
    """A stream with each change, and by chance: at the same places of the stream without one."""
    row: Row = {"stream": name}
    for change in (None, *streams.CHANGES):
        stream, at = streams.made(name, change, entities, count, seed)
        row[change or "chance"] = delays(stream, judge(stream, configuration(stream, BUDGET)), at)
    return row


def scale_checks(rows: list[Row], before: list[Row]) -> list[Row]:
    """The bars of the streams without a change; before: rows of an earlier run."""
    checks = []
    for kind in KINDS:
        kept = [row["over"][kind] for row in rows]
        within = sum(one <= RATE_MOST for one in kept)
        checks += [
            check(f"scale/{kind} starts within {RATE_MOST} budgets, streams", within, ">=", len(rows) - 1),
            check(f"scale/{kind} starts by the budget, worst stream", max(kept), "<=", RATE_EVER),
        ]
        within = sum(row["over, 365d"][kind] <= YEAR_MOST for row in rows)
        checks.append(check(f"scale/{kind} starts within 2 of 1 per 365d, streams", within, ">=", len(rows) - 1))
    hours = [row["worst hour off"] for row in rows if row["day"]]
    checks.append(check("scale/coverage of the worst hour, off the level", max(hours, default=None), "<=", HOUR_MOST))
    old = {row["stream"]: row for row in before}
    ratio = {row["stream"]: score_ratio(row, old[row["stream"]]) for row in rows if row["stream"] in old}
    for row in rows:
        row["score by before"] = ratio.get(row["stream"])
    varying = [row["score by before"] for row in rows if row["varying"]]
    steady = [row["score by before"] for row in rows if not row["varying"]]
    checks.append(check("scale/interval score by before, varying size", geometric_mean(varying), "<=", BETTER))
    worst = None if not steady or None in steady else max(steady)
    checks.append(check("scale/interval score by before, constant size, worst", worst, "<=", SAME))
    return checks


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def scale_table(rows: list[Row]) -> Table:
    table = Table(
        box=None,
        padding=(0, 1, 0, 0),
        title="Nothing changes. Starts by those allowed (drift, anomaly), worst hour off in points, rows inside in %",
    )
    table.add_column("stream", no_wrap=True)
    columns = ("drift", "anom.", "drift\n365d", "anom.\n365d", "cover-\nage", "worst\nhour", "score", "by\nbefore")
    for title in (*columns, "drift\ninside", "\nlongest", "anom.\ninside", "\nlongest"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = [number(row[over][kind]) for over in ("over", "over, 365d") for kind in ("drift", "anomaly")]
        off = row["worst hour off"]
        cells += [number(row["coverage"], 3), number(None if off is None else 100 * off, 1), number(row["score"])]
        cells.append(number(row.get("score by before"), 3))
        for kind in ("drift", "anomaly"):
            cells += [number(100 * row[kind]["inside"], 1), f"{row[kind]['longest']:,}"]
        table.add_row(row["stream"], *cells)
    return table


def changes_table(rows: list[Row], kind: str = "drift") -> Table:
    title = f"First {kind} start after a change: median delay in events (% not found within {LIMIT:,})"
    table = Table(box=None, padding=(0, 1, 0, 0), title=title)
    table.add_column("stream", no_wrap=True)
    for change in ("chance", *streams.CHANGES):
        table.add_column(change, justify="right")
    for row in rows:
        cells = [(row[change][kind]["median"], row[change][kind]["missed"]) for change in ("chance", *streams.CHANGES)]
        table.add_row(row["stream"], *(f"{number(m, 0)} ({100 * missed:.0f})" for m, missed in cells))
    return table


def each(run: Callable[[str], Row], names: list[str], processes: int) -> list[Row]:
    """A row a stream, in their order."""
    if processes == 1:
        rows = []
        for name in names:
            rows.append(run(name))
            CONSOLE.print(f"done: {name}")
        return rows
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(run, names))


def scale(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks, and a row a stream."""
    run = partial(measured, entities=options.entities, count=options.count, seed=options.seed)
    rows = each(run, options.kinds or list(streams.KINDS), options.processes)
    checks = scale_checks(rows, baseline(options, "scale"))
    CONSOLE.print(scale_table(rows))
    return checks, rows


def changes(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """No check, and a row a stream."""
    run = partial(changed, entities=options.entities, count=options.count, seed=options.seed)
    rows = each(run, options.kinds or list(streams.KINDS), options.processes)
    for kind in (*KINDS, "either"):
        CONSOLE.print(changes_table(rows, kind))
    return [], rows


def baseline(options: argparse.Namespace, part: str) -> list[Row]:
    """Rows of an earlier run on the same streams."""
    if not options.baseline.exists():
        return []
    before = json.loads(options.baseline.read_text())
    if part == "scale" and before.get("streams") != streams_of(options):
        CONSOLE.print(f"{options.baseline.name} has other streams ({before.get('streams')}): no ratios")
        return []
    rows: list[Row] = before.get(part, [])
    return rows


def add_options(parser: Any) -> None:
    """Of the streams, for each command that runs them."""
    parser.add_argument("--kinds", nargs="+", choices=list(streams.KINDS), metavar="KIND", help="only these streams")
    parser.add_argument("--entities", type=int, default=20, help="of each stream (20)")
    parser.add_argument("--count", type=int, default=16_000, help="events of an entity (16,000)")
    parser.add_argument("--seed", type=int, default=22, help="of the streams (22)")
    parser.add_argument("--processes", type=int, default=1, help="streams at a time (1)")
    parser.add_argument("--baseline", type=Path, default=BEFORE, help="figures of an earlier run (alerts_before.json)")
    parser.add_argument("--figures", type=Path, help="write the figures to this file, for --baseline of a later run")


def write_figures(options: argparse.Namespace, parts: dict[str, list[Row]]) -> None:
    """Into the file of --figures; parts that it has from before and that were not run stay."""
    file = options.figures
    before = json.loads(file.read_text()) if file.exists() else {}
    if "scale" in parts:
        before["streams"] = streams_of(options)
    file.write_text(json.dumps(before | rounded(parts)) + "\n")


def streams_of(options: argparse.Namespace) -> Row:
    """What the streams depend on."""
    return {name: getattr(options, name) for name in ("entities", "count", "seed")}


def rounded(value: Any) -> Any:
    """Floats to six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def run_parts(options: argparse.Namespace, parts: dict[str, Part]) -> None:
    """Run the parts that --parts names, or all: print their checks, and write what --figures and --json ask for."""
    checks: list[Row] = []
    found: dict[str, list[Row]] = {}
    for name in parts if "all" in options.parts else dict.fromkeys(options.parts):
        more, found[name] = parts[name](options)
        checks += more
    show_checks(checks)
    if options.figures:
        write_figures(options, found)
    if options.json:
        print(json.dumps({"checks": checks, **found}))


def show_checks(checks: list[Row]) -> None:
    """Print each check with its bar."""
    for row in checks:
        value = "–" if row["value"] is None else f"{row['value']:.4g}"
        CONSOLE.print(f"{row['name']}: {value} {row['relation']} {row['bar']:g}: {'met' if row['ok'] else 'not met'}")


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--parts", nargs="+", choices=["scale", "changes"], default=["scale"])
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    add_options(parser)
    run_parts(parser.parse_args(), {"scale": scale, "changes": changes})


if __name__ == "__main__":
    main()
