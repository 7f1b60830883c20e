"""What counting, timing and serving metrics costs.

    python benchmarks/metrics.py [--json]

One run has both: for a fifth of a second metrics are on and their page is asked for, for another fifth every counter is
a function that does nothing, and so on (slices.py says why). The page is asked for once a second of the slices that
count, which is fifteen times as often as Prometheus does by default. What the server takes to start and to end is not
in it: it comes once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import throughput_topics as topics
from measuring import MissingError, check, end_on_signals, say, tell
from slices import Slice, cost, told
from wire import cluster

from ssm_stream.ops.bytewax_metrics import free_port

COST_MOST = 0.03


def measure(broker: str, folder: Path, count: int, entities: int, rounds: int) -> list[list[Slice]]:
    """The slices of each run.

    Raises:
        MissingError: a run without a page of metrics.
    """

    def watched(number: int) -> list[topics.Client]:
        more = f"ops: {{address: '127.0.0.1:{free_port()}'}}\n"
        title, off = "metrics on and off", number % 2 == 1
        return [topics.Client("watched", "product", title, more=more, alternating="metrics", off_first=off)]

    def one(client: topics.Client, source: topics.Topic) -> dict[str, Any]:
        return topics.time_client(client, broker, source, sys.executable, folder)

    found: list[dict[str, dict[str, Any]]] = topics.in_turn(broker, count, entities, rounds, watched, one)
    if not all(figures["watched"]["pages"] for figures in found):
        raise MissingError("the endpoint was never there, or a run was too short for it to be asked: more --events")
    return [figures["watched"]["slices"] for figures in found]


def main() -> None:
    parser = argparse.ArgumentParser(description="What metrics cost.")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--entities", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    arguments = parser.parse_args()
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as name, cluster(Path(name)) as (broker, word):
        say(f"on {word}")
        runs = measure(broker, Path(name), arguments.events, arguments.entities, arguments.rounds)

    wall, cpu = cost(runs, 1), cost(runs, 2)
    checks = [check("metrics, share of the throughput that they cost", wall.share, "<=", COST_MOST)]
    tell(checks)
    say(told("of the throughput", wall))
    say(told("of the CPU time", cpu))
    if arguments.json:
        print(
            json.dumps(
                {"checks": checks, "throughput": wall._asdict(), "cpu": cpu._asdict(), "slices": runs},
            )
        )


if __name__ == "__main__":
    main()
