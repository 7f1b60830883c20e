"""What scaling out costs: memory, stall and recovery of a large state; workers, clusters and independent processes.

    python benchmarks/scaling.py [state] [workers] [sizing] [--entities N] [--events N] [--cpu-us µS] [--json]

`state`: entities with 16 features in one shard. Every array is written to first, so that nothing is counted that only
looks small because it has not been used yet. `workers`: the same events through each set-up; seconds and CPU are those
of the processes, less those of the same set-up at an empty topic. `sizing`: what follows for larger jobs, worked out on
paper: the table of docs/scaling.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from clients import FEATURES
from measuring import Check, check, end_on_signals, memory, say, tell
from wire import cluster, configuration, create, load

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.records import ShardBatch
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.ops.bytewax_metrics import free_port
from ssm_stream.recovery.checkpoint_files import referenced_file

EPOCH = 10.0
STALL_MOST, RECOVERY_MOST, MEMORY_MOST = 0.10, 5.0, 1.2
CHUNK = 4000
CPU_US = 10.0


def settings(directory: Path) -> Config:
    columns = ", ".join(f"f{i}" for i in range(16))
    return parse_config(
        f"source: {{brokers: none, topic: events}}\nevent: {{entity: e, timestamp: ts, features: [{columns}]}}\n"
        f"sinks: {{predictions: null, alerts: null}}\nrecovery: {{directory: '{directory}'}}\n"
    )


class Fleet:
    """Entities by number, and the logic of the shard that has them."""

    def __init__(self, config: Config) -> None:
        self.logic, self.rng, self.time = ShardLogic(config, None), np.random.default_rng(0), 0

    def tell(self, entities: np.ndarray) -> None:
        """An event of each."""
        self.time += 1000
        for at in range(0, len(entities), CHUNK):
            names = [f"machine-{i}" for i in entities[at : at + CHUNK].tolist()]
            n = len(names)
            ts, x = np.full(n, 1_700_000_000_000 + self.time, np.int64), self.rng.normal(size=(n, 16))
            events = Events(names, ts, x, x[:, 0] + self.rng.normal(size=n), np.arange(n))
            self.logic.on_batch([ShardBatch(0, events, list(range(n)))])


def measure_state(entities: int, folder: Path) -> tuple[dict[str, Any], list[Check]]:
    """Figures of one large shard, and what has a bar."""
    config, everyone = settings(folder), np.arange(entities)
    fleet = Fleet(config)
    fleet.tell(everyone[:100])
    before, own = memory()[0], fleet.logic.engine.bytes_per_entity
    fleet.tell(everyone)
    fleet.logic.engine.target_engines[0].store.entity_block[:entities] |= 0
    now, most = (size - before for size in memory())
    say(f"an entity: {own} bytes of state; in memory {now / entities:.0f}, {now / entities / own:.3f} times as many")
    say(f"  at most while growing: {most / entities / own:.3f} times")
    stalls, snapshots = list[float](), list[dict[str, float]]()
    for share in (1.0, 1.0, 1.0, 1.0, 0.3, 0.1, 0.01):
        fleet.tell(fleet.rng.choice(entities, int(share * entities), replace=False))
        wall, cpu = time.perf_counter(), time.thread_time()
        token = fleet.logic.snapshot()
        wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
        size = (folder / "state" / str(referenced_file(token))).stat().st_size
        stalls += [wall] * (share == 1.0)
        snapshots.append({"changed": share, "bytes": size, "seconds": wall, "cpu_seconds": cpu})
        say(f"snapshot, {share:.0%} of the entities changed: {size / 1e6:.0f} MB, {wall:.3f} s ({cpu:.3f} s CPU)")
        time.sleep(3 * (share == 1.0))  # what an epoch leaves for the disk
    stall = float(np.median(stalls)) / EPOCH
    say(f"  median of whole ones: {stall:.1%} of an epoch of {EPOCH:g} s")
    del fleet
    gc.collect()
    wall = time.perf_counter()
    ShardLogic(config, token)
    recovery = time.perf_counter() - wall
    say(f"recovery: {recovery:.2f} s")
    of = f"{entities:,} entities of 16 features"
    return {"entities": entities, "bytes_per_entity": own, "snapshots": snapshots}, [
        check(f"memory of {of}, by the size of their state", most / entities / own, "<=", MEMORY_MOST),
        check(f"snapshot of {of}, share of an epoch", stall, "<=", STALL_MOST),
        check(f"snapshot of {of}, seconds of recovery", recovery, "<=", RECOVERY_MOST),
    ]


def spent(commands: list[list[str]]) -> tuple[float, float]:
    """Seconds until the last of these processes has ended, and CPU seconds of all."""
    start = time.perf_counter()
    running = [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in commands]
    cpu = 0.0
    for process in running:
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(process.args)} ended with {status}")  # type: ignore[arg-type]
        cpu += usage.ru_utime + usage.ru_stime
    return time.perf_counter() - start, cpu


def measure_workers(events: int, entities: int, folder: Path) -> dict[str, dict[str, float]]:
    """Events a second and µs of CPU an event of each set-up."""
    found = {}
    with cluster(folder) as (broker, word):
        create(broker, ["events", "nothing"])
        load(broker, "events", events, entities)
        say(f"{events:,} events of {len(FEATURES)} features, {entities:,} entities, 4 partitions, on {word}")
        for title, shards, set_up in (
            ("one worker", 1, [[]]),
            ("-w 2", 2, [["-w", "2"]]),
            ("cluster of 2 processes", 2, [["-i", "0"], ["-i", "1"]]),
            ("2 independent processes", 1, [["0, 1"], ["2, 3"]]),
        ):
            (idle, idle_cpu), (wall, cpu) = (
                run(broker, topic, shards, set_up, folder) for topic in ("nothing", "events")
            )
            seconds, cpu_seconds = wall - idle, cpu - idle_cpu
            found[title] = {"events_per_s": events / seconds, "cpu_us": 1e6 * cpu_seconds / events}
            say(f"{title}: {events / seconds:,.0f} events/s, {1e6 * cpu_seconds / events:.2f} µs CPU an event")
    return found


def run(broker: str, topic: str, shards: int, set_up: list[list[str]], folder: Path) -> tuple[float, float]:
    """The processes of a set-up over a topic: seconds and CPU seconds."""
    name, commands = uuid.uuid4().hex[:8], []
    create(broker, [name, f"{name}-alerts", f"{name}-dead"])
    where = ";".join(f"127.0.0.1:{free_port()}" for _ in set_up)
    for i, options in enumerate(set_up):
        alone = bool(options) and not options[0].startswith("-")
        text = configuration(broker, topic, name, folder / (f"{name}-{i}" if alone else name))
        text += f"state: {{shards: {shards}}}\n"
        if alone:
            text = text.replace(f"topic: {topic}", f"topic: {topic}, partitions: [{options[0]}]")
        file = folder / f"{name}-{i}.yaml"
        file.write_text(text)
        flags = [] if alone else [*options, *(["-a", where] if "-i" in options else [])]
        commands.append([sys.executable, "-m", "ssm_stream", "run", str(file), "--until-eof", *flags])
    return spent(commands)


BUSY = 0.6
"""Share of a core that is planned with: the rest is for bursts, and for catching up after a restart."""
BASE_MB, KEPT = 250, 5
"""Memory of a process without entities (interpreter, libraries, buffers); copies of the state on the disk at most."""


def sizing(cpu_us: float, own: int) -> list[dict[str, float]]:
    """A row a job: processes of one worker each, by events a second and entities."""
    rows = []
    say(f"{cpu_us:g} µs CPU an event, {own} bytes an entity, {BUSY:.0%} of a core in use, epochs of {EPOCH:g} s")
    say("| events/s | entities | processes | memory each | memory | disk | written a second | partitions |")
    say("|---|---|---|---|---|---|---|---|")
    for rate, entities in (
        (1_000, 1_000), (10_000, 10_000), (20_000, 100_000), (50_000, 100_000), (100_000, 100_000),
        (250_000, 500_000), (500_000, 1_000_000), (1_000_000, 1_000_000), (1_000_000, 5_000_000),
    ):  # fmt: skip
        processes = max(math.ceil(rate * cpu_us / 1e6 / BUSY), 1)
        state = 1.05 * own * entities / 1e9
        # Events fall on entities at random: so many have had one in an epoch; more than half are written as all.
        changed = 1 - math.exp(-rate * EPOCH / entities)
        written = state * 1000 * (1.0 if changed > 0.5 else changed) / EPOCH
        each = BASE_MB / 1000 + state / processes
        rows.append({"events_per_s": rate, "entities": entities, "processes": processes, "gb": each * processes})
        say(
            f"| {rate:,} | {entities:,} | {processes} | {each:.2f} GB | {each * processes:.1f} GB | "
            f"{KEPT * state:.1f} GB | {written:,.0f} MB | {processes} or more |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["state", "workers", "sizing"], help="state, workers, sizing")
    parser.add_argument("--entities", type=int, default=100_000, help="of the state")
    parser.add_argument("--events", type=int, default=2_000_000, help="through the workers, of 1,000 entities")
    parser.add_argument("--cpu-us", type=float, default=CPU_US, help="an event, for the sizing: see `workers`")
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    options = parser.parse_args()
    if unknown := set(options.what) - {"state", "workers", "sizing"}:
        parser.error(f"{unknown}: state, workers and sizing are what can be measured")
    end_on_signals()
    report: dict[str, Any] = {"checks": []}
    for what in options.what:
        with tempfile.TemporaryDirectory() as folder:
            if what == "state":
                report[what], report["checks"] = measure_state(options.entities, Path(folder))
            elif what == "sizing":
                report[what] = sizing(options.cpu_us, Engine(settings(Path(folder))).bytes_per_entity)
            else:
                report[what] = measure_workers(options.events, 1000, Path(folder))
    tell(report["checks"])
    if options.json:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
