"""Events a second from topic to topic, beside what the wire allows and what a user would run instead; and what an
event, an entity, a snapshot and a start cost.

    python benchmarks/throughput.py [--json] [--plot FILE] [--peers-python PATH]    # all that has a bar: minutes
    python benchmarks/throughput.py --smoke                                         # under 40 s: does it work at all?
    python benchmarks/throughput.py --latency --growth …                            # only these parts, and whole

One run makes every figure: a fresh broker on the same machine, the same events, each client in a process of its own and
with an output topic of its own, in turn, several rounds. Ratios are taken within a round, and medians over the rounds,
so that a machine that is slow for a while slows both sides. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import throughput_commands as commands
import throughput_growth as growth
import throughput_latency as latency
import throughput_stages as stages
import throughput_state as state
import throughput_topics as topics
from measuring import Check, MissingError, end_on_signals, peers_python, say
from rich.console import Console
from rich.markup import escape
from wire import cluster

CONSOLE = Console(stderr=True, width=120)
PARTS = ("throughput", "latency", "many-entities", "snapshot", "backfill", "stages", "growth", "cold-start", "million")
WITH_BARS = PARTS[:5]
"""Of a run that names no parts; a million entities need 16 GB."""
FEW = 100


class Sizes:
    """How much of everything: as the bars say, or just enough to see that it works."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        smoke = arguments.smoke
        self.events = arguments.events or (10_000 if smoke else 1_000_000)
        self.rounds = arguments.rounds or (1 if smoke else 5)
        self.entities_events, self.entities_rounds = (4_000, 1) if smoke else (1_000_000, 2)
        self.many = 1_000 if smoke else 100_000
        self.rates, self.times = ((latency.CHECKED,), (1.0, 1.0)) if smoke else (latency.RATES, (3.0, 12.0))
        self.window = 10_000 if smoke else growth.WINDOW
        self.staged = 20_000 if smoke else 200_000
        self.state = (self.many, 0.5, 1) if smoke else (state.ENTITIES, state.EPOCH, state.EPOCHS)
        self.million = arguments.million_entities or (1_000 if smoke else growth.MILLION)
        self.rows = 50_000 if smoke else commands.ROWS


class Run:
    """Measures parts; keeps what to tell, the checks, and how to show it."""

    def __init__(self, arguments: argparse.Namespace, broker: str, folder: Path) -> None:
        self.arguments, self.broker, self.folder, self.sizes = arguments, broker, folder, Sizes(arguments)
        self.report: dict[str, Any] = {}
        self.checks: list[Check] = []
        self.shows: list[Callable[[Console], None]] = []
        self.whole = bool(arguments.parts)
        """Parts asked for by name are measured with what has no bar, too."""

    def throughput(self) -> None:
        sizes, arguments = self.sizes, self.arguments
        peers = [] if arguments.no_peers else topics.present(arguments.peers_python)
        ours = topics.CHECKED if arguments.smoke else topics.OURS
        how = (sizes.events, arguments.entities, sizes.rounds, ours, peers, arguments.peers_python)
        found = topics.measure(self.broker, self.folder, *how)
        self.report |= {"rows": topics.rows(found), "bytes": found["bytes"]}
        self.report |= {"events": sizes.events, "entities": arguments.entities, "rounds": sizes.rounds}
        self.report["peers_absent"] = [peer.name for peer in topics.PEERS if peer not in peers]
        self.checks += topics.checks(found)
        self.shows.append(lambda console: topics.show(found, console))

    def latency(self) -> None:
        found = self.report["latency"] = latency.measure(
            self.broker, self.folder, self.sizes.rates, *self.sizes.times, plain=self.whole
        )
        self.checks += latency.checks(found)
        self.shows.append(lambda console: latency.show(found, console))

    def many_entities(self) -> None:
        sizes = self.sizes
        found = self.report["entities_topic_to_topic"] = topics.measure_entities(
            self.broker, self.folder, sizes.entities_events, FEW, sizes.many, sizes.entities_rounds
        )
        self.checks += topics.checks_entities(found)
        self.shows.append(lambda console: topics.show_entities(found, console))
        if "growth" not in self.arguments.parts:
            self._grow((FEW, sizes.many), (), ())

    def growth(self) -> None:
        if self.arguments.smoke:
            self._grow((FEW, self.sizes.many), (2, 8), (100, 4_000))
        else:
            self._grow(growth.ENTITIES, growth.FEATURES, growth.BATCHES)
        count = self.sizes.staged
        self.report["shards"] = stages.measure_shards(self.broker, count, self.arguments.entities)

    def _grow(self, entities: tuple[int, ...], features: tuple[int, ...], batches: tuple[int, ...]) -> None:
        found = self.report["growth"] = growth.measure(entities, features, batches, self.sizes.window)
        self.checks += growth.checks(found, FEW, self.sizes.many)
        self.shows.append(lambda console: growth.show(found, self.report.get("shards", {}), console))

    def snapshot(self) -> None:
        found = self.report["snapshot"] = state.measure(self.folder, *self.sizes.state)
        self.checks += state.checks(found)
        self.shows.append(lambda console: state.show(found, console))

    def backfill(self) -> None:
        found = self.report["backfill"] = commands.measure_backfill(self.folder, self.sizes.rows, plain=self.whole)
        self.checks += commands.checks_backfill(found)
        self.shows.append(lambda console: commands.show_backfill(found, console))

    def stages(self) -> None:
        found = self.report["stages"] = stages.measure(self.broker, self.sizes.staged, self.arguments.entities)
        self.shows.append(lambda console: stages.show(found, console))

    def million(self) -> None:
        found = self.report["million"] = growth.measure_million(FEW, self.sizes.million, self.sizes.window)
        self.checks += growth.checks_million(found)
        self.shows.append(lambda console: growth.show_million(found, console))

    def cold_start(self) -> None:
        found = self.report["cold_start"] = commands.measure_cold(self.broker, self.folder)
        self.shows.append(lambda console: commands.show_cold(found, console))


def parse() -> argparse.Namespace:
    """The command line; `parts` are those named, in the order of `PARTS`."""
    parser = argparse.ArgumentParser(description="Events a second from topic to topic, and what the rest costs.")
    parser.add_argument("--events", type=int, help="topic to topic (1,000,000)")
    parser.add_argument("--entities", type=int, default=FEW, help="topic to topic (100)")
    parser.add_argument("--rounds", type=int, help="topic to topic (5)")
    for part in PARTS:
        words = "has bars" if part in (*WITH_BARS, "million") else "has no bar"
        parser.add_argument(f"--{part}", dest="parts", action="append_const", const=part, help=f"this part: {words}")
    parser.add_argument("--million-entities", type=int, help="with --million: fewer, where memory is short")
    parser.add_argument("--all", dest="parts", action="store_const", const=list(PARTS), help="all parts")
    parser.add_argument("--smoke", action="store_true", help="little of everything, no peers: does it work at all?")
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    parser.add_argument("--plot", type=Path, help="a picture of the figures: .png or .svg (needs matplotlib)")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--peers-python", default=peers_python(), help="interpreter that has quixstreams and river")
    arguments = parser.parse_args()
    arguments.parts = [part for part in PARTS if part in (arguments.parts or [])]
    arguments.no_peers |= arguments.smoke
    return arguments


def main() -> None:
    arguments = parse()
    end_on_signals()
    parts = arguments.parts or WITH_BARS
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as name, cluster(Path(name)) as (broker, word):
        say(f"on {word}: {', '.join(parts)}")
        run = Run(arguments, broker, Path(name))
        for part in parts:
            before = time.perf_counter()
            try:
                getattr(run, part.replace("-", "_"))()
            except MissingError as error:  # the other parts have their figures all the same
                failed[part] = str(error)
            say(f"{part}: {time.perf_counter() - before:.0f} s")
    for show in run.shows:
        show(CONSOLE)
    for one in run.checks:
        word = "[green]met[/]" if one["ok"] else "[red]not met[/]"
        CONSOLE.print(f"{one['name']}: {one['value']:,} {one['relation']} {one['bar']:,}: {word}")
    for part, text in failed.items():
        CONSOLE.print(f"[red]{part} failed:[/] {escape(text)}")
    report = {"checks": run.checks, "failed": failed, **run.report}
    if arguments.plot:
        from throughput_plot import draw

        draw(report, arguments.plot)
    if arguments.json:
        print(json.dumps(report, indent=2))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
