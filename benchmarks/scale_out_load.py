"""What the state of many entities costs a member: `scale_out.py --parts load`. Needs no broker.

A member has entities with 16 features in some partitions. All of them change in some epochs; then a tenth changes in
each epoch, others each time, until the files of the store have about twice the state, as they do in the long run.
Measured are the epochs' ends, and the start of another member that takes all of the partitions over.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Check, check, child, say

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.membership.commit import Commit
from ssm_stream.operators.group.partitions import PartitionLoader
from ssm_stream.ops.observers import UNOBSERVED
from ssm_stream.recovery.store.flow_store import FlowStore
from ssm_stream.recovery.store.partition import PartitionSnapshots, flush

FEATURES, CHUNK, CHANGED, EPOCHS, EPOCH = 16, 4000, 0.1, 24, 10.0
"""Of an event; at once; share of the entities that changes in an epoch; epochs; their length, s: the default's."""
WHOLE = 5
"""Epochs in which all change: the files of the first three are new, later ones are written over them."""
LOAD, STALL, RECOVERY = 3.0, 0.1, 8.0
"""Bars: s, share of an epoch, s."""


def settings(folder: Path) -> Config:
    columns = ", ".join(f"f{i}" for i in range(FEATURES))
    return parse_config(
        f"source: {{brokers: none, topic: events, assignment: group}}\nstate: {{store: '{folder}'}}\n"
        f"event: {{entity: e, timestamp: ts, features: [{columns}]}}\nrecovery: {{keep: null}}\n"
    )


def learn(engine: Engine, names: list[str], epoch: int) -> None:
    """Let an engine process an event of each entity."""
    noise = np.random.default_rng(epoch)
    for at in range(0, len(names), CHUNK):
        some = names[at : at + CHUNK]
        x = noise.normal(size=(len(some), FEATURES))
        ts = 1_700_000_000_000 + 1000 * epoch + np.zeros(len(some), np.int64)
        engine.process(Events(position=np.arange(len(some)), entity=some, ts=ts, features=x, target=x[:, 0]), 0)


def fill(folder: Path, entities: int, partitions: int) -> dict[str, Any]:
    """Fill the store. `stalls`: of the ends of epochs in which a tenth changed; `first`, `whole`: of those in which all
    did, into new files and over old ones: s, and those of CPU; `learn_cpu`: s of CPU of all events of such an epoch"""
    store, rng = FlowStore(settings(folder)), random.Random(1)
    engines = [Engine(settings(folder)) for _ in range(partitions)]
    files = [store.partition(i) for i in range(partitions)]
    names = [[f"machine-{p}-{i}" for i in range(entities // partitions)] for p in range(partitions)]
    ends, began = [], 0.0
    for epoch in range(WHOLE):
        began = time.process_time()
        for engine, mine in zip(engines, names, strict=True):
            learn(engine, mine, epoch)
        learned = time.process_time() - began
        for engine, mine in zip(engines, names, strict=True):
            engine.target_engines[0].store.entity_block[: len(mine)] |= 0  # written to: memory as after a long time
        ends.append(end_epoch(engines, files, 1 + epoch))
        flush()
    found: dict[str, Any] = {"first": ends[:1], "whole": ends[3:], "stalls": [], "learn_cpu": learned}
    for epoch in range(WHOLE, WHOLE + EPOCHS):
        for engine, mine in zip(engines, names, strict=True):
            learn(engine, rng.sample(mine, int(CHANGED * len(mine))), epoch)
        found["stalls"].append(end_epoch(engines, files, 1 + epoch))
    flush()
    commits = {i: [each.name, WHOLE + EPOCHS] for i, each in enumerate(files)}
    sizes = {"files": sum(each.size for each in files), "state": entities * engines[0].bytes_per_entity}
    return {**found, **sizes, "commits": commits}


def end_epoch(engines: list[Engine], files: list[PartitionSnapshots], epoch: int) -> tuple[float, float]:
    """Write and commit what has changed; return how long the member stands still: s, and those of CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    for engine, each in zip(engines, files, strict=True):
        each.write(engine, epoch)
    for each in files:
        each.wait()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    for each in files:
        each.commit(epoch)
    return seconds, cpu


def take_over(folder: Path, commits: dict[str, list[Any]]) -> dict[str, float]:
    """Load all partitions; seconds, and those of CPU."""
    config = settings(folder)
    loader = PartitionLoader(config, FlowStore(config), UNOBSERVED, None, None)
    began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    held = loader.load({int(p): Commit(offset, name) for p, (name, offset) in commits.items()})
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - cpu.ru_utime, after.ru_stime - cpu.ru_stime
    entities = sum(len(each.logic.engine) for each, _ in held.values())
    return {"seconds": seconds, "cpu_s": user, "system_s": system, "entities": entities}


def measure(entities: int, partitions: int) -> dict[str, Any]:
    """Figures of a member, each part in a process of its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        job = {"folder": folder, "entities": entities, "partitions": partitions}
        filled = child("scale_out_load.py", job, "fill")
        loads = [child("scale_out_load.py", {**job, "commits": filled["commits"]}, "load") for _ in range(3)]
    fastest = min(loads, key=lambda each: each["seconds"])
    (stall, cpu), (whole, whole_cpu), (first, first_cpu) = (
        (statistics.median(each) for each in zip(*filled[kind], strict=True)) for kind in ("stalls", "whole", "first")
    )
    say(
        f"{entities:,} entities in {partitions} partitions: files of {filled['files'] / 1e9:.1f} GB, "
        f"{filled['files'] / filled['state']:.2f} times the state; an epoch's end {stall:.2f} s ({cpu:.2f} s CPU) "
        f"where a tenth changed, {whole:.2f} s ({whole_cpu:.2f}) where all did, after {filled['learn_cpu']:.2f} s of "
        f"CPU for their events; {first:.2f} s ({first_cpu:.2f}) the first time, into new files; a start "
        f"{fastest['seconds']:.1f} s ({fastest['cpu_s']:.1f} s CPU, {fastest['system_s']:.1f} s of the system)"
    )
    cpus = {"stall_cpu": cpu, "whole_cpu": whole_cpu}
    return {"stall": stall, "whole": whole, **cpus, "load": fastest, "loads": loads, "gb": filled["files"] / 1e9}


def report(scale: float) -> dict[str, Any]:
    """The figures of issue and campaign. scale: of the numbers of entities"""
    one, many = (measure(int(scale * entities), n) for entities, n in ((100_000, 1), (300_000, 8)))
    checks: list[Check] = [
        check("100,000 entities on a partition that moves: seconds more", one["load"]["seconds"], "<=", LOAD),
        check("300,000 entities: stall, share of an epoch, a tenth changed", many["stall"] / EPOCH, "<=", STALL),
        check("300,000 entities: stall, share of an epoch, all changed", many["whole"] / EPOCH, "<=", STALL),
        check("300,000 entities: seconds of recovery", many["load"]["seconds"], "<=", RECOVERY),
    ]
    return {"one": one, "many": many, "checks": checks}


def main() -> None:
    job = json.loads(sys.argv[2])
    folder = Path(job["folder"])
    if sys.argv[1] == "fill":
        print(json.dumps(fill(folder, job["entities"], job["partitions"])))
    else:
        print(json.dumps(take_over(folder, job["commits"])))


if __name__ == "__main__":
    main()
