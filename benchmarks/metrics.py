"""What counting, timing and serving metrics costs.

    python benchmarks/metrics.py [--json]

One run has both: for a fifth of a second metrics are on and their page is asked for, for another fifth every counter is
a function that does nothing, and so on (`clients.alternating`). A shared machine changes its pace by more than metrics
cost from one run to the next, but less within a second; the share is taken within four slices and the mean over all of
them, with its standard error beside, and the same of the CPU time. The page is asked for once a second of the slices
that count, which is fifteen times as often as Prometheus does by default. What the server takes to start and to end is
not in it: it comes once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import throughput_topics as topics
from measuring import MissingError, check, end_on_signals, say, tell
from wire import cluster

from ssm_stream.ops.engine import free_port

COST_MOST = 0.03
FOUR = 4


Slice = tuple[int, float, float]
"""Events, seconds, seconds of CPU."""


def measure(broker: str, folder: Path, count: int, entities: int, rounds: int) -> list[list[Slice]]:
    """The slices of each run.

    Raises:
        MissingError: a run without a page of metrics.
    """

    def watched() -> list[topics.Client]:
        more = f"ops: {{address: '127.0.0.1:{free_port()}', self_check: false}}\n"
        return [topics.Client("watched", "product", "metrics on and off", more=more, alternating=True)]

    def one(client: topics.Client, source: topics.Topic) -> dict[str, Any]:
        return topics.time_client(client, broker, source, sys.executable, folder)

    found: list[dict[str, dict[str, Any]]] = topics.in_turn(broker, count, entities, rounds, watched, one)
    if not all(figures["watched"]["pages"] for figures in found):
        raise MissingError("the endpoint was never there, or a run was too short for it to be asked: more --events")
    return [figures["watched"]["slices"] for figures in found]


def shares(slices: list[Slice], figure: int) -> list[float]:
    """What metrics cost of a figure's events a second, by four slices, after the first four, in which all begins."""

    def pace(*some: Slice) -> float:
        return sum(one[0] for one in some) / sum(one[figure] for one in some)

    fours = [slices[i : i + FOUR] for i in range(FOUR, len(slices) - FOUR + 1, FOUR)]
    return [1 - pace(on, on_again) / pace(off, off_again) for on, off, off_again, on_again in fours]


def main() -> None:
    parser = argparse.ArgumentParser(description="What metrics cost.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--entities", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    arguments = parser.parse_args()
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as name, cluster(Path(name)) as (broker, word):
        say(f"on {word}")
        runs = measure(broker, Path(name), arguments.events, arguments.entities, arguments.rounds)

    def of(figure: int) -> dict[str, float]:
        found = [share for slices in runs for share in shares(slices, figure)]
        if len(found) < FOUR:
            raise MissingError(f"{len(found)} comparisons are too few for a figure: more --events, or --rounds")
        error = statistics.stdev(found) / len(found) ** 0.5
        return {"share": statistics.fmean(found), "standard_error": error, "comparisons": len(found)}

    wall, cpu = of(1), of(2)
    checks = [check("metrics, share of the throughput that they cost", wall["share"], "<=", COST_MOST)]
    tell(checks)
    say(f"standard error {wall['standard_error']:.4f}, of {wall['comparisons']} comparisons within a second each")
    say(f"of the CPU time: {cpu['share']:.4f}, standard error {cpu['standard_error']:.4f}")
    if arguments.json:
        print(json.dumps({"checks": checks, "throughput": wall, "cpu": cpu}, indent=2))


if __name__ == "__main__":
    main()
