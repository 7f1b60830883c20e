"""Do alerts keep their budget, and how soon do they come? On streams with a known truth and on recordings.

    python benchmarks/alerts.py --data FOLDER [--json] [--quick] [--young] [--peers-python PYTHON]
    python benchmarks/alerts.py --parts all --data FOLDER [--quick] [--json]
    python benchmarks/alerts.py --parts delays cost rest [--json]
    python benchmarks/alerts.py --parts scale changes [--entities N] [--baseline FILE] [--json]
    python benchmarks/alerts.py --parts recordings hold plant left-out --data FOLDER [--names RECORDING …] [--json]

One default configuration throughout. Beside the product stand River's change detectors (their default, and their most
sensitive setting that raises no more false alarms than the budget allows) and alarms that look at nothing. See
README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import alerts_cost
import alerts_left_out
import alerts_plant
import alerts_real
import alerts_rest
import alerts_scale
import alerts_streams as streams
import numpy as np
from alerts_recordings import WEEK, check, levels_scores, nab, novelty_scores, skab, tep
from alerts_run import geometric_mean
from alerts_scale import show_checks
from alerts_young import young
from rich.console import Console
from rich.table import Table

from ssm_stream.core import detect, interval, levels, novelty
from ssm_stream.evaluate.backtest import backtest

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True, width=140)
BUDGETS = (1e3, 1e4, 1e5)
"""Mean events between false alarms."""
PEERS_SHOWN = {"EWMA": "EWMA", "ADWIN": "ADWIN", "PageHinkley": "PH", "KSWIN": "KSWIN"}
LEVELS = (0.5, 0.8, 0.95, 0.99)
TABLE_BUDGET = 1e4
"""Of the delays."""
RATE_MOST, COVERAGE_OFF, RAMP_MOST, FASTER_LEAST = 1.2, 0.01, 250.0, 11
SLOWER_MOST = 1.1
COST_MOST = {"all": 1.5, "without novelty": 0.5}
STATE_MOST = 16 * 1024
PEERS = Path(__file__).with_name("alerts_peers.json")
"""What `alerts_peers.py` found with River 0.26.1 on these streams, for machines without River."""

Row = dict[str, Any]


def budgets(quick: bool) -> list[Row]:
    """False alarms over the budget on streams without a change, and the coverage of the interval."""
    n = 1_000_000 if quick else 10_000_000
    rows = []
    for at, name in enumerate([*streams.NOISE, "seasonal"]):
        if name == "seasonal":
            errors = streams.seasonal(n // 5 if quick else n, 11)
        else:
            errors = streams.NOISE[name](np.random.default_rng([7, at]), n)
        for budget in BUDGETS:
            if budget * 50 > len(errors):
                continue  # too few alarms to tell a rate from
            where = f"{name}/1 in {budget:,.0f}"
            rows.append(check(f"budget/drift/{where}", streams.drift(errors, budget).mean() * budget, "<=", RATE_MOST))
            alarm, covered = streams.anomaly(errors, budget)
            rows.append(check(f"budget/anomaly/{where}", alarm.mean() * budget, "<=", RATE_MOST))
        rows.append(check(f"coverage/{name}", abs(covered - 0.9), "<=", COVERAGE_OFF))
        for level in LEVELS:
            _, covered = streams.anomaly(errors[:1_000_000], 1e4, level=level)
            rows.append(check(f"coverage/{name}, level {level}", abs(covered - level), "<=", COVERAGE_OFF))
        CONSOLE.print(f"budget: {name}, {len(errors):,} events")
    return rows


def widths() -> list[Row]:
    """Mean width of the 90 % interval over that of the exact one, which knows the distribution: no check."""
    exact = {"normal": 2 * 1.6449, "t3": 2 * 2.3534 / 3**0.5, "ar": 2 * 1.6449}
    rows = []
    for at, (name, noise) in enumerate(streams.NOISE.items()):
        width = streams.mean_width(noise(np.random.default_rng([7, at]), 200_000))
        rows.append({"stream": name, "width by the exact one": width / exact[name]})
    return rows


def whole(quick: bool) -> list[Row]:
    """Episodes over the budget of the whole engine, its three anomaly channels together, where nothing happens."""
    rows = []
    for at, name in enumerate(streams.NOISE):
        for budget in BUDGETS[:2]:
            n = int(min(budget * 300, 300_000 if quick else 3_000_000))
            for kind, count in streams.episodes(name, n, budget, at).items():
                where = f"engine/{kind}/{name}/1 in {budget:,.0f}"
                rows.append(check(f"budget/{where}", count * budget / n, "<=", RATE_MOST))
        CONSOLE.print(f"budget: engine, {name}")
    return rows


def first_alarm(alarm: Any) -> int:
    """Events from the change to the first alarm after it."""
    late = np.flatnonzero(alarm[streams.CHANGE :])
    return int(late[0]) if len(late) else streams.AFTER


def delays(peers_python: str | None) -> tuple[list[Row], list[Row]]:
    """Checks, and a row a change: median delay and share missed, of the product and of the others."""
    made = list(streams.streams(30))
    found = peers(made, peers_python)
    limits = {(n, a): streams.quiet_limit(n, a, TABLE_BUDGET) for n in streams.NOISE for a in (True, False)}
    table, faster = [], 0
    for name, noise, runs in made:
        delay = [first_alarm(streams.drift(errors, TABLE_BUDGET)) for errors in runs]
        ours = {"median": float(np.median(delay)), "missed": float(np.mean(np.array(delay) >= streams.AFTER))}
        row: Row = {"change": name, "noise": noise, "ssm-stream": ours}
        for each, (median, missed) in found.get("delay", {}).get(name, {}).items():
            row[each] = {"median": median, "missed": missed}
        for signal, absolute in (("|e|", True), ("e", False)):
            for kind, limit in (("quiet", limits[noise, absolute]), ("default", streams.EWMA_LIMITS[0])):
                if limit is not None:
                    late = [first_alarm(streams.ewma(np.abs(e) if absolute else e, limit)) for e in runs]
                    missed = float(np.mean(np.array(late) >= streams.AFTER))
                    row[f"EWMA/{signal}/{kind}"] = {"median": float(np.median(late)), "missed": missed}
        quiet = [one["median"] for each, one in row.items() if each.endswith("/quiet") and not each.startswith("EWMA")]
        row["best peer"] = min(quiet, default=None)
        if name in streams.CHANGES and quiet:
            faster += ours["median"] < row["best peer"]
        table.append(row)
    main = [row for row in table if row["change"] in streams.CHANGES]
    checks = [
        check("delay/faster than quiet ADWIN, PH and KSWIN, of 11", faster if found else None, ">=", FASTER_LEAST),
        check("delay/ramp", next(r["ssm-stream"]["median"] for r in main if "ramp" in r["change"]), "<=", RAMP_MOST),
        check("delay/missed, worst change", max(r["ssm-stream"]["missed"] for r in main), "<=", 0.01),
        check("delay/change kinds found", sum(r["ssm-stream"]["missed"] < 0.5 for r in table), ">=", len(table)),
    ]
    return checks, table


def peers(made: list[tuple[str, str, list[Any]]], python: str | None) -> Row:
    """What River's detectors did on these streams, from a run now or from the file."""
    if python is None:
        return json.loads(PEERS.read_text()) if PEERS.exists() else {}
    arrays: Row = {"budget": TABLE_BUDGET, "change": streams.CHANGE}
    for at, (name, noise) in enumerate(streams.NOISE.items()):
        arrays[f"noise/{name}"] = noise(np.random.default_rng([7, at]), 200_000)
    for name, noise, runs in made:
        arrays[f"change/{noise}/{name}"] = np.array(runs)
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, **arrays)
        file.flush()
        command = [python, str(Path(__file__).with_name("alerts_peers.py")), file.name]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def trivial() -> list[Row]:
    """False alarms in 100,000 events and median delay of alarms that look at nothing."""
    g = np.random.default_rng(3)
    rows = [{"detector": "never", "false": 0.0, "median": None}]
    rows.append({"detector": "every 100", "false": 1000.0, "median": 49.0})
    wait = g.geometric(1 / TABLE_BUDGET, size=10_000)
    rows.append({"detector": "random, at the budget", "false": 1e5 / TABLE_BUDGET, "median": float(np.median(wait))})
    return rows


def drifting() -> list[Row]:
    """Coverage where the errors change all the time: their size by half or to double, or their mean, every 1,000."""
    g = np.random.default_rng(9)
    n = 300_000
    size = np.repeat(2.0 ** g.uniform(-1, 1, n // 1000), 1000)
    mean = np.repeat(g.normal(size=n // 1000), 1000)
    made = {"size": size * g.normal(size=n), "mean": mean + g.normal(size=n), "t3": size * streams.heavy(g, n)}
    return [
        check(f"coverage/drift of {name}", abs(streams.anomaly(errors, 1e4)[1] - 0.9), "<=", COVERAGE_OFF)
        for name, errors in made.items()
    ]


def coverage(data: Path) -> list[Row]:
    """How far the long-run coverage is from the level, by recording."""
    from accuracy_product import configuration, read

    rows = []
    for path in sorted(data.glob("*.csv.gz")):
        recording = read(path, 10**9)
        level = backtest(configuration(recording.features, "fast"), recording.rows)["coverage"]
        short = path.name.removesuffix(".csv.gz")
        if level is None:
            CONSOLE.print(f"coverage: {short}: no entity has more events than the warm-up")
            continue
        rows.append(check(f"coverage/{short}", abs(level - 0.9), "<=", COVERAGE_OFF))
        CONSOLE.print(f"coverage: {short} {level:.4f}")
    return rows


def costs(quick: bool) -> list[Row]:
    """µs an event of interval, drift detector, novelty and levels of 8 features, each in a loop; bytes an entity."""
    n = 200_000 if quick else 1_000_000
    errors = np.random.default_rng(1).normal(size=n)
    features, week = np.random.default_rng(2).normal(size=(n, 8)), 300.0 * np.arange(n) % WEEK
    times: dict[str, float] = {}
    for name, run in (
        ("interval", lambda: streams.anomaly(errors, 1e4)),
        ("drift", lambda: streams.drift(errors, 1e4)),
        ("novelty", lambda: novelty_scores(errors, week, 1e4)),
        ("levels", lambda: levels_scores(errors, features, 1e4)),
    ):
        run()
        best = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - started)
        times[name] = best / n * 1e6
    plain = times["interval"] + times["drift"]
    states = [
        interval.new_interval_state(1),
        detect.new_detector_state(1),
        novelty.new_novelty_state(1),
        levels.new_levels_state(1, 9),
    ]
    size = sum(array.nbytes for state in states for array in state)
    return [
        check("cost/all, µs", sum(times.values()), "<=", COST_MOST["all"]),
        check("cost/without novelty, µs", plain, "<=", COST_MOST["without novelty"]),
        check("cost/bytes an entity", size, "<=", STATE_MOST),
    ]


def delays_table(rows: list[Row]) -> Table:
    table = Table(
        box=None, padding=(0, 1, 0, 0), title=f"Median delay in events (% missed), budget 1 in {TABLE_BUDGET:,.0f}"
    )
    table.add_column("change", no_wrap=True)
    table.add_column("ssm-\nstream", justify="right")
    for detector in PEERS_SHOWN.values():
        table.add_column(f"{detector}\nquiet", justify="right", no_wrap=True)
        table.add_column("\ndefault", justify="right", no_wrap=True)

    def told(one: Row | None) -> str:
        if one is None:
            return "–"
        return f"{one['median']:.0f}" + (f" ({100 * one['missed']:.0f})" if one["missed"] else "")

    def best(row: Row, detector: str, kind: str) -> Row | None:
        both = [one for name, one in row.items() if name.startswith(f"{detector}/") and name.endswith(kind)]
        return min(both, key=lambda one: float(one["median"]), default=None)

    for row in rows:
        others = [told(best(row, d, k)) for d in PEERS_SHOWN for k in ("quiet", "default")]
        table.add_row(row["change"], told(row["ssm-stream"]), *others)
    return table


def show(report: Row) -> None:
    CONSOLE.print(delays_table(report["delays"]))
    CONSOLE.print("Each peer by its better signal; quiet: no more false alarms than the budget; default: many more")
    for row in report["trivial"]:
        CONSOLE.print(f"{row['detector']}: {row['false']:.0f} false in 100,000, median delay {row['median'] or '–'}")
    for row in report["widths"]:
        CONSOLE.print(f"interval on {row['stream']}: {row['width by the exact one']:.3f} times the exact one's width")
    show_checks(report["checks"])


def delays_part(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks, and a row a change: the delays, and their geometric mean by that of an earlier run."""
    checks, table = delays(options.peers_python)
    old = {row["change"]: row["ssm-stream"]["median"] for row in alerts_scale.baseline(options, "delays")}
    ratios = [
        row["ssm-stream"]["median"] / old.get(row["change"], np.nan)
        for row in table
        if row["change"] in streams.CHANGES
    ]
    mean = geometric_mean([None if np.isnan(one) else one for one in ratios])
    CONSOLE.print(delays_table(table))
    return [*checks, check("delay/geometric mean by before, of 11", mean, "<=", SLOWER_MOST)], table


def labelled(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks of NAB, SKAB and Tennessee Eastman."""
    checks = []
    for score in (nab, skab, tep):
        rows, table = score(options.data)
        checks += rows
        CONSOLE.print(table)
    return checks, []


PARTS: dict[str, alerts_scale.Part] = {
    "budgets": lambda options: (budgets(options.quick) + whole(options.quick), []),
    "scale": alerts_scale.scale,
    "changes": alerts_scale.changes,
    "delays": delays_part,
    "recordings": alerts_real.recordings,
    "hold": alerts_real.hold,
    "plant": alerts_plant.parts,
    "rest": alerts_rest.parts,
    "labelled": labelled,
    "left-out": alerts_left_out.parts,
    "cost": alerts_cost.cost,
}
"""What --parts runs, by itself: each returns its checks and rows of figures."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of recordings (gzipped CSV)")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "all"], help="only these; see README.md")
    parser.add_argument("--json", action="store_true", help="checks and tables on standard output")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events: under two minutes")
    parser.add_argument("--young", action="store_true", help="only: false alarms of entities whose model still learns")
    parser.add_argument("--ramp-bound", action="store_true", help="only: the best that a ramp allows, simulated")
    parser.add_argument("--peers-python", help="interpreter that has river and numpy: measure River now")
    group = parser.add_argument_group("--parts")
    for part in (alerts_scale, alerts_real, alerts_plant, alerts_rest):
        part.add_options(group)
    options = parser.parse_args()
    if options.data is None and {"all", "labelled", "recordings", "hold", "left-out"} & set(options.parts or ()):
        parser.error("--data FOLDER is needed")
    if options.parts:
        alerts_scale.run_parts(options, PARTS)
        return
    if options.ramp_bound:
        bound = streams.ramp_bound()
        CONSOLE.print(f"ramp: a detector that is told sign, slope and shape takes {bound:.0f} events (median)")
        if options.json:
            print(json.dumps({"checks": [], "ramp bound": bound}))
        return
    if options.young:
        checks, table = young(options.quick)
        show_checks(checks)
        if options.json:
            print(json.dumps({"checks": checks, "young": table}))
        return
    if options.data is None:
        parser.error("--data FOLDER is needed")
    checks = budgets(options.quick) + whole(options.quick)
    more, young_table = young(options.quick)
    checks += more
    more, table = delays(options.peers_python)
    checks += more
    tables = []
    for score in (nab, skab, tep):
        rows, one = score(options.data)
        checks += rows
        tables.append(one)
    checks += drifting() + coverage(options.data) + costs(options.quick)
    more, chosen = alerts_left_out.parts(options)
    checks += more
    report = {
        "checks": checks,
        "left-out": chosen,
        "delays": table,
        "young": young_table,
        "trivial": trivial(),
        "widths": widths(),
    }
    show(report)
    for one in tables:
        CONSOLE.print(one)
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
