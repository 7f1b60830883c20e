"""A dataflow of one's own with two monitors, killed (SIGKILL) and started again: are its results those of a calm run?

    python benchmarks/plugin_kills.py [--kills 50] [--events 60000] [--json]

Each start has another number of workers (1, 3, 2, …). Results are lines of a file; after a kill some are written again.
A difference is a result that is missing, that no calm run has, or that has other bytes; and an entity of the final
state that has another hash.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from measuring import say

import ssm_stream.operators as sop
from ssm_stream.engine.engine import Engine
from ssm_stream.operators.embedded_shard import unpack
from ssm_stream.operators.monitor_operator import monitor_config

WORKERS = (1, 3, 2)
EPOCH = 0.2
"""Seconds."""
BATCH = 20
MONITORS: dict[str, dict[str, Any]] = {
    "first": {
        "event": {"entity": "machine", "timestamp": "ts", "features": ["load"], "target": "temp"},
        "state": {"shards": 16},
    },
    "second": {
        "event": {"entity": "machine", "timestamp": "ts", "features": ["temp"], "target": "load"},
        "model": {"warmup": 30},
        "state": {"shards": 5},
    },
}


def event(i: int) -> dict[str, Any]:
    """The event of that number: sixty machines, of which some are rare, with jumps that alert."""
    draw = random.Random(i)
    who = int(60 * draw.random() ** 3)
    load = round(draw.random(), 4)
    temp = round(20 + 3 * load + draw.gauss(0, 0.05) + 10 * (draw.random() < 0.003), 4)
    return {"machine": f"press-{who}", "ts": 1_700_000_000_000 + 1000 * i, "load": load, "temp": temp}


class Events(FixedPartitionedSource[dict[str, Any], int]):
    """So many events, `pace` seconds a batch."""

    def __init__(self, count: int, pace: float) -> None:
        self._count, self._pace = count, timedelta(seconds=pace)

    def list_parts(self) -> list[str]:
        return ["all"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> EventPartition:
        return EventPartition(self._count, self._pace, resume_state or 0)


class EventPartition(StatefulSourcePartition[dict[str, Any], int]):
    def __init__(self, count: int, pace: timedelta, at: int) -> None:
        self._count, self._pace, self._at = count, pace, at

    def next_batch(self) -> list[dict[str, Any]]:
        if self._at >= self._count:
            raise StopIteration
        first, self._at = self._at, min(self._at + BATCH, self._count)
        return [event(i) for i in range(first, self._at)]

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + self._pace if self._pace else None

    def snapshot(self) -> int:
        return self._at


class Lines(DynamicSink[bytes]):
    """Lines of one file, which all workers append to."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def build(self, step_id: str, worker_index: int, worker_count: int) -> LinesPartition:
        return LinesPartition(self._file)


class LinesPartition(StatelessSinkPartition[bytes]):
    def __init__(self, file: Path) -> None:
        # One write a batch, at the end of the file: the lines of two workers do not mix.
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write_batch(self, items: list[bytes]) -> None:
        os.write(self._file, b"".join(each + b"\n" for each in items))


def flow_of(folder: Path, count: int, pace: float) -> Dataflow:
    """The dataflow: events keyed by machine, two monitors, results of each in a file."""
    flow = Dataflow("composed")
    events = op.key_on("by_machine", op.input("in", flow, Events(count, pace)), lambda each: each["machine"])
    for name, config in MONITORS.items():
        watched = sop.monitor(name, events, config)
        for kind, stream in (("predictions", watched.predictions), ("alerts", watched.alerts)):
            lines = op.map(f"{name}_{kind}_json", stream, lambda each: each.to_json())
            op.output(f"{name}_{kind}_out", lines, Lines(folder / f"{name}.{kind}"))
    return flow


def live(folder: Path, count: int, workers: int, pace: float) -> None:
    """Run the dataflow in this process."""
    config = RecoveryConfig(str(folder / "recovery"), timedelta(0))
    flow = flow_of(folder, count, pace)
    cli_main(flow, workers_per_process=workers, epoch_interval=timedelta(seconds=EPOCH), recovery_config=config)


def results(folder: Path) -> dict[str, bytes]:
    """Monitor, kind and id of each result → its bytes, of all lives; two contents of one id are joined."""
    found: dict[str, bytes] = {}
    for name in MONITORS:
        for kind in ("predictions", "alerts"):
            file = folder / f"{name}.{kind}"
            for line in file.read_bytes().splitlines() if file.exists() else ():
                try:
                    key = f"{name} {kind} {json.loads(line)['id']}"
                except ValueError:
                    continue  # cut off by the kill; it is written again
                if found.setdefault(key, line) != line:
                    found[key] += b" " + line
    return found


def state(folder: Path) -> dict[str, str]:
    """Monitor and entity → hash of its state at the end."""
    rows: dict[tuple[str, str], tuple[int, Any]] = {}
    for file in sorted((folder / "recovery").glob("part-*.sqlite3")):
        with sqlite3.connect(file) as database:
            for step, key, epoch, change in database.execute(
                "SELECT step_id, state_key, snap_epoch, ser_change FROM snaps ORDER BY snap_epoch"
            ):
                rows[step, key] = (epoch, change)
    hashes: dict[str, str] = {}
    for name, config in MONITORS.items():
        for (step, _), (_, change) in rows.items():
            if step == f"composed.{name}" and change is not None:
                engine = Engine.restore(monitor_config(config, name), unpack(pickle.loads(change))[1])
                hashes |= {f"{name} {entity}": engine.state_hash(entity) for entity in engine.names}
    return hashes


def start(folder: Path, count: int, workers: int, pace: float) -> subprocess.Popen[bytes]:
    """A life of the dataflow, in a process of its own."""
    command = [sys.executable, __file__, "--live", str(folder), str(count), str(workers), str(pace)]
    return subprocess.Popen(command, stderr=(folder / "log").open("ab"))


def written(folder: Path) -> int:
    """Bytes of results so far."""
    return sum(file.stat().st_size for file in folder.glob("*.predictions"))


def prepared(folder: Path) -> Path:
    folder.mkdir()
    (folder / "recovery").mkdir()
    init_db_dir(folder / "recovery", 3)
    return folder


def campaign(folder: Path, kills: int, count: int) -> dict[str, Any]:
    """Kill the dataflow so often, let it end, and compare it with a calm one."""
    calm, mine = prepared(folder / "calm"), prepared(folder / "killed")
    if start(calm, count, 1, 0).wait() != 0:
        raise SystemExit((calm / "log").read_text())
    draw, done = random.Random(1), 0
    while done < kills:
        workers, before = WORKERS[done % len(WORKERS)], written(mine)
        # Paced so that the events last for all kills.
        process = start(mine, count, workers, 0.02)
        while written(mine) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 3 * EPOCH))
        if process.poll() is not None:
            break  # all events are processed, or it failed
        process.kill()
        process.wait()
        done += 1
        if done % 10 == 0:
            say(f"  {done} kills")
    if start(mine, count, 1, 0).wait() != 0:
        raise SystemExit((mine / "log").read_text())
    expected, found = results(calm), results(mine)
    states, final = state(calm), state(mine)
    wrong = sum(expected.get(key) != found.get(key) for key in expected.keys() | found.keys())
    lost = sum(states.get(key) != final.get(key) for key in states.keys() | final.keys())
    alerts = sum(" alerts " in key for key in expected)
    return {
        "kills": done,
        "events": count,
        "results": len(expected),
        "alerts": alerts,
        "entities": len(states),
        "repeated": _lines(mine) - len(found),
        "results_that_differ": wrong,
        "states_that_differ": lost,
        "differences": wrong + lost,
    }


def _lines(folder: Path) -> int:
    files = [folder / f"{name}.{kind}" for name in MONITORS for kind in ("predictions", "alerts")]
    return int(np.sum([file.read_bytes().count(b"\n") for file in files if file.exists()]))


def main() -> None:
    if sys.argv[1:2] == ["--live"]:
        folder, count, workers, pace = sys.argv[2:]
        live(Path(folder), int(count), int(workers), float(pace))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--json", action="store_true", help="only JSON on standard output")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), arguments.kills, arguments.events)
    print(json.dumps(found, indent=None if arguments.json else 1))


if __name__ == "__main__":
    main()
