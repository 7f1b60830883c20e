"""What the size of errors costs: CPU time of an event and bytes of an entity, with 8 features and all detectors.

    python benchmarks/alerts_cost.py --against CHECKOUT        # of commit 718501a, with its core built
    python benchmarks/alerts.py --parts cost --against CHECKOUT --json

Both run in turns on this machine, and the times are the least of several. Without --against only the bytes are
compared, with those in `alerts_before.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from alerts_recordings import check
from alerts_run import Row
from alerts_scale import BEFORE, baseline
from core import ROOT, Worker
from core_serving import CONFIG, Stream
from rich.console import Console

from ssm_stream.config import parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
NS_MOST, BYTES_MOST = 250.0, 1_024.0
ENTITIES, TIMES = 100, 7


def size() -> int:
    """Bytes of an entity."""
    engine = Engine(parse_config(CONFIG))
    for names, ts, x, y in Stream(ENTITIES).first(ENTITIES):
        engine.process(Events(names, ts, x, y, np.arange(len(names))))
    return int(engine.bytes_per_entity)


def times(checkouts: list[Path]) -> list[float]:
    """ns of an event in each."""
    workers = [Worker("core_native.py", sys.executable, checkout) for checkout in checkouts]
    found = [[worker.ask("event", ENTITIES) for worker in workers] for _ in range(TIMES)]
    for worker in workers:
        worker.close()
    return [min(one) for one in zip(*found, strict=True)]


def cost(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks, and one row."""
    before = next(iter(baseline(options, "cost")), None)
    row: Row = {"bytes": size()}
    more: Row = {"ns": None, "bytes": row["bytes"] - before["bytes"] if before else None}
    if options.against:
        row["ns"], row["ns before"] = times([ROOT, options.against.resolve()])
        more["ns"] = row["ns"] - row["ns before"]
        CONSOLE.print(f"an event: {row['ns']:.0f} ns, before {row['ns before']:.0f}")
    CONSOLE.print(f"an entity: {row['bytes']:,} bytes, before {before['bytes'] if before else '–'}")
    checks = [
        check("cost/more ns an event, 8 features", more["ns"], "<=", NS_MOST),
        check("cost/more bytes an entity, 8 features", more["bytes"], "<=", BYTES_MOST),
    ]
    return checks, [row]


def add_options(parser: Any) -> None:
    parser.add_argument("--against", type=Path, help="of cost: a checkout of 718501a whose core is built")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--baseline", type=Path, default=BEFORE, help="figures of an earlier run (alerts_before.json)")
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    checks, rows = cost(options := parser.parse_args())
    for row in checks:
        CONSOLE.print(f"{row['name']}: {row['value']} {row['relation']} {row['bar']:g}")
    if options.json:
        print(json.dumps({"checks": checks, "cost": rows}))


if __name__ == "__main__":
    main()
