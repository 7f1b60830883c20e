"""The plant's context, measured: stops, limits, silence, stuck signals, and what watching for them costs.

    python benchmarks/plant.py --json                                      # two plants: minutes
    python benchmarks/plant.py --plants 101 102 103 104 --json
    python benchmarks/plant.py --parts silence throughput                  # stops, silence, throughput, wire

`stops`: ten pumps, eight weeks, of `plant.py --context`, under what `ssm-stream init` and `init --target temp` write,
with the lines that an engineer would add (`plant_run.py`), each by itself where the figure needs it, and all of them.
`silence`: cadences (`plant_cadences.py`). `throughput`: CPU time of one process; `wire`: from topic to topic, on a
broker of its own. Nothing in the product was chosen on the plants of seed 101 and above.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import plant_cadences as cadences
import plant_judged as judged
import plant_throughput as throughput
from measuring import Check, end_on_signals, say, tell
from rich.console import Console
from rich.table import Table

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True, width=140)
PARTS = ("stops", "silence", "throughput", "wire")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
Row = dict[str, Any]


def show_stops(rows: list[Row]) -> None:
    """Every alert: of which kind, during what, for how long it was open, and when in the week it began."""
    for title in judged.INITIALS:
        own = [row for row in rows if row["config"] == title]
        for word in ("without", "all"):
            told = [one for row in own for one in row["episodes"][word] if not one["suppressed"]]
            named = f"{title}, {'all of it' if word == 'all' else 'without'}, {len(own)} plants"
            CONSOLE.print(_by_kind(told, f"Alerts: {named}"))
            CONSOLE.print(_by_hour(told, f"Begun by hour of the week: {named}"))
    for row in rows:
        stuck = ", ".join(
            f"{one['sensor']} after {one['run']} equal readings ({one['bound']:.1f})" for one in row["stuck"]
        )
        elsewhere = f"{row['short stops']['when']} with event.when, {row['elsewhere']:.1f} in as many other hours"
        say(f"plant {row['seed']}, {row['config']}: stuck {stuck}; in short stops and two hours after {elsewhere}")


def _by_kind(told: list[Row], title: str) -> Table:
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))
    for name in ("kind", "during", "alerts", "open, median h", "open, longest h", "never ended"):
        table.add_column(name, justify="left" if name in ("kind", "during") else "right", no_wrap=True)
    for kind, during in sorted({(one["kind"], one["during"]) for one in told}):
        own = [one for one in told if (one["kind"], one["during"]) == (kind, during)]
        opened = [one["open"] for one in own]
        lasting = sum(not one["ended"] for one in own)
        table.add_row(
            kind, during, str(len(own)), f"{statistics.median(opened):.1f}", f"{max(opened):.1f}", str(lasting)
        )
    return table


def _by_hour(told: list[Row], title: str) -> Table:
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))
    table.add_column("day")
    for hour in range(0, 24, 2):
        table.add_column(f"{hour:02}", justify="right")
    for day, name in enumerate(DAYS):
        counts = [sum(day * 24 + hour <= one["hour"] < day * 24 + hour + 2 for one in told) for hour in range(0, 24, 2)]
        table.add_row(name, *(str(count) if count else "·" for count in counts))
    return table


def show_silence(rows: list[Row]) -> None:
    table = Table(title="Silence by cadence", box=None, padding=(0, 1, 0, 0))
    for name in (
        "cadence",
        "usual gap, min",
        "by the median gap",
        "found after, usual gaps",
        "95 %",
        "false",
        "allowed",
    ):
        table.add_column(name, justify="left" if name == "cadence" else "right")
    for row in rows:
        delays = (f"{row['delay']:.2f}", f"{row['delay_95']:.2f}")
        sizes = (f"{row['usual_minutes']:.1f}", f"{row['by_median_gap']:.1f}")
        table.add_row(row["cadence"], *sizes, *delays, str(row["false"]), f"{row['allowed']:.1f}")
    CONSOLE.print(table)


def measure(options: argparse.Namespace) -> tuple[list[Check], Row]:
    """Checks, and the figures of each part."""
    report: Row = {}
    checks: list[Check] = []
    if "stops" in options.parts:
        rows = []
        for seed in options.plants:
            say(f"plant {seed}")
            rows += judged.judged(seed)
        show_stops(rows)
        report["stops"], checks = rows, checks + judged.checks_of(rows)
    if "silence" in options.parts:
        found = cadences.together([1000 + seed for seed in range(options.streams)])
        show_silence(found)
        report["silence"], checks = found, checks + cadences.checks_of(found)
    cost: Row = {}
    if "throughput" in options.parts:
        cost = throughput.measured(options.pumps, options.rounds)
    if "wire" in options.parts:
        from wire import cluster

        with tempfile.TemporaryDirectory(prefix="ssm-stream-plant-") as name, cluster(Path(name)) as (broker, word):
            say(f"on {word}")
            cost["wire"] = throughput.topic_to_topic(broker, Path(name), options.pumps, options.rounds)
    report["throughput"], checks = cost, checks + throughput.checks_of(cost)
    return checks, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plants", nargs="+", type=int, default=[101, 102], help="seeds (101 102)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which (all)")
    parser.add_argument("--streams", type=int, default=10, help="of silence: streams of each cadence (10)")
    parser.add_argument("--pumps", type=int, default=20, help="of throughput and wire (20)")
    parser.add_argument("--rounds", type=int, default=3, help="of throughput and wire (3)")
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    options = parser.parse_args()
    end_on_signals()
    checks, report = measure(options)
    tell(checks)
    if options.json:
        print(json.dumps({"checks": checks, **report}))


if __name__ == "__main__":
    main()
