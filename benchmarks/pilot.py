"""How long the pilot report takes for a large recording, and how large it is: 200,000 events of 30 entities.

    python benchmarks/pilot.py [--events N] [--entities E] [--json]

The command runs as a person runs it, in a process of its own, on a recording that is made here: six features, a daily
season, noise, changes of the relation, and labelled faults.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from measuring import Check, check, say

SECONDS, MEGABYTES = 60.0, 5.0
START = 1_760_000_000_000
MINUTE = 60_000
CONFIG = """source: {brokers: "localhost:9092", topic: benchmark}
event: {entity: machine, timestamp: ts, features: [f0, f1, f2, f3, f4, f5], target: y}
"""


def recording(events: int, entities: int, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows side by side, and the faults: 20 events long or so, on one entity each."""
    rng = np.random.default_rng(seed)
    each = events // entities
    faults: list[tuple[str, int, int]] = []
    parts = []
    for e in range(entities):
        name = f"machine-{e:02d}"
        ts = START + MINUTE * np.arange(each) * 5
        x = rng.normal(size=(each, 6)).cumsum(0) * 0.05 + rng.normal(size=(each, 6))
        weights = rng.normal(size=6)
        change = int(each * rng.uniform(0.4, 0.8))
        after = weights + rng.normal(size=6) * 0.5
        y = np.where(np.arange(each) < change, x @ weights, x @ after)
        y = y + 2.0 * np.sin(2 * np.pi * np.arange(each) / 288) + 0.3 * rng.normal(size=each)
        for at in np.sort(rng.integers(each // 3, each - 50, 4)).tolist():
            length = int(rng.integers(5, 40))
            y[at : at + length] += rng.choice([-1.0, 1.0]) * rng.uniform(2.0, 6.0)
            faults.append((name, int(ts[at]), int(ts[at + length - 1])))
        columns = {f"f{j}": x[:, j] for j in range(6)}
        parts.append(pl.DataFrame({"machine": [name] * each, "ts": ts, **columns, "y": y}))
    rows = pl.concat(parts).sort("ts", "machine")
    return rows, pl.DataFrame(faults, schema=["entity", "start", "end"], orient="row")


def run(folder: Path, events: int, entities: int) -> tuple[float, int, int]:
    """Seconds, and bytes of the page and of the JSON."""
    rows, faults = recording(events, entities)
    rows.write_csv(folder / "recording.csv")
    faults.write_csv(folder / "labels.csv")
    (folder / "pilot.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "ssm_stream", "pilot", "pilot.yaml", "recording.csv", "--labels", "labels.csv"]
    begin = time.perf_counter()
    subprocess.run([*command, "--out", "report.html"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - begin
    return took, (folder / "report.html").stat().st_size, (folder / "report.json").stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and size of the pilot report.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--entities", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="checks on stdout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds, page, beside = run(Path(folder), options.events, options.entities)
    checks: list[Check] = [
        check("pilot/seconds", seconds, "<=", SECONDS),
        check("pilot/report, MB", page / 1e6, "<=", MEGABYTES),
    ]
    for one in checks:
        say(f"{'ok  ' if one['ok'] else 'MISS'} {one['name']}: {one['value']:.3g} {one['relation']} {one['bar']:g}")
    say(f"     report.json: {beside / 1e6:.2f} MB")
    if options.json:
        print(json.dumps({"checks": checks}, indent=2))


if __name__ == "__main__":
    main()
