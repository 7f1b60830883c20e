"""What the size of errors costs: CPU time of an event and bytes of an entity, with 8 features and all detectors.

    python benchmarks/alerts_cost.py [--json]

The bytes are those of its own arrays. The time is that of its own step, of the prediction's scale and of what the error
teaches it, over the errors of one entity: the least of several.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from alerts_recordings import check
from alerts_run import Row
from core_serving import CONFIG, Stream
from rich.console import Console

from ssm_stream.config import parse_config
from ssm_stream.core.error_scale import observe_all
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.memory.growable_arrays import named_arrays
from ssm_stream.ingest.events import Events

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
NS_MOST, BYTES_MOST = 250.0, 1_024.0
FEATURES, ENTITIES, ERRORS, TIMES = 8, 100, 200_000, 7


def sizes() -> tuple[int, int]:
    """Bytes of an entity, and of what it knows of the size of its errors: their scale, and the level by the hour."""
    engine = Engine(parse_config(CONFIG))
    for names, ts, x, y in Stream(ENTITIES).first(ENTITIES):
        engine.process(Events(names, ts, x, y, np.arange(len(names))))
    arrays = {name: array[0].nbytes for name, array in named_arrays(engine.target_engines[0].store.state) if len(array)}
    own = sum(size for name, size in arrays.items() if name.startswith("error_scale.") or name == "interval.hours")
    return int(engine.bytes_per_entity), own


def step_ns() -> float:
    """CPU time of an event, an error a minute, whose size has a day."""
    rng, minutes = np.random.default_rng(0), np.arange(ERRORS)
    steps = np.stack([minutes // 60 % 24, minutes // 1440 % 7], axis=1)
    features = rng.normal(size=(ERRORS, FEATURES)).astype(np.float32)
    errors = rng.standard_t(4, ERRORS) * (1 + 0.5 * np.sin(2 * np.pi * minutes / 1440))
    least = np.inf
    for _ in range(TIMES):
        began = time.process_time()
        observe_all(errors, steps, features)
        least = min(least, time.process_time() - began)
    return 1e9 * least / ERRORS


def cost(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks, and one row."""
    whole, own = sizes()
    row: Row = {"bytes": whole, "own bytes": own, "own ns": step_ns()}
    CONSOLE.print(f"an entity: {whole:,} bytes, of which the size of errors has {own:,}")
    checks = [
        check("cost/ns an event of the size of errors, 8 features", row["own ns"], "<=", NS_MOST),
        check("cost/bytes an entity of the size of errors, 8 features", own, "<=", BYTES_MOST),
    ]
    return checks, [row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    checks, rows = cost(options := parser.parse_args())
    for row in checks:
        CONSOLE.print(f"{row['name']}: {row['value']} {row['relation']} {row['bar']:g}")
    if options.json:
        print(json.dumps({"checks": checks, "cost": rows}))


if __name__ == "__main__":
    main()
