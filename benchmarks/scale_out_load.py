"""What the state of many entities costs a member: `scale_out.py --parts load`. Needs no broker.

A member has entities with 16 features in some partitions. All of them change in some epochs; then a tenth changes in
each epoch, others each time, until the files of the store have about twice the state, as they do in the long run.
Events come at a steady rate, so that changes are written ahead where that spares an epoch's end much. Measured is how
long the member stands still for that and at the epochs' ends, and the start of another one that takes all over.
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
from typing import Any, NamedTuple

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
WHOLE, SETTLED = 9, 3
"""Epochs in which all change, and how many of them are measured: later files are written over earlier ones."""
QUICK = 1.0
"""Seconds within which the events of the other epochs come."""
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
    noise = np.random.default_rng((epoch, len(names), len(names[0])))
    x = noise.normal(size=(len(names), FEATURES))
    ts = 1_700_000_000_000 + 1000 * epoch + np.zeros(len(names), np.int64)
    engine.process(Events(position=np.arange(len(names)), entity=names, ts=ts, features=x, target=x[:, 0]), 0)


class Ends(NamedTuple):
    """Of an epoch, s: that the member stands still at its end, and CPU of that; that it stood still before; CPU of its
    events"""

    end: float
    cpu: float
    ahead: float
    learn_cpu: float


def run_epoch(
    engines: list[Engine], files: list[PartitionSnapshots], names: list[list[str]], epoch: int, seconds: float
) -> Ends:
    """Let each entity have an event within so many seconds, then write and commit what has changed."""
    chunks = [
        (engine, each, mine[at : at + CHUNK])
        for at in range(0, max(map(len, names)), CHUNK)
        for engine, each, mine in zip(engines, files, names, strict=True)
        if mine[at:]
    ]
    began, learned, ahead = time.perf_counter(), 0.0, 0.0
    for i, (engine, each, some) in enumerate(chunks):
        time.sleep(max(began + i * seconds / len(chunks) - time.perf_counter(), 0.0))
        cpu = time.thread_time()
        learn(engine, some, epoch)
        learned += time.thread_time() - cpu
        before = time.perf_counter()
        each.write_ahead(engine, len(some), epoch - 1)
        ahead += time.perf_counter() - before
    if seconds == EPOCH:
        for engine, mine in zip(engines, names, strict=True):
            engine.target_engines[0].store.entity_block[: len(mine)] |= 0  # written to: memory as after a long time
    began, cpu = time.perf_counter(), time.process_time()
    for engine, each in zip(engines, files, strict=True):
        each.write(engine, epoch)
    for each in files:
        each.wait()
    found = Ends(time.perf_counter() - began, time.process_time() - cpu, ahead, learned)
    for each in files:
        each.commit(epoch)
    flush()
    return found


def fill(folder: Path, entities: int, partitions: int) -> dict[str, Any]:
    """Fill the store: `whole`, then `stalls`: of epochs in which all have changed, and a tenth"""
    store, rng = FlowStore(settings(folder)), random.Random(1)
    engines = [Engine(settings(folder)) for _ in range(partitions)]
    files = [store.partition(i) for i in range(partitions)]
    names = [[f"machine-{p}-{i}" for i in range(entities // partitions)] for p in range(partitions)]
    found: dict[str, Any] = {"whole": [], "stalls": []}
    for epoch in range(1, 1 + WHOLE):
        found["whole"].append(run_epoch(engines, files, names, epoch, EPOCH))
    for epoch in range(1 + WHOLE, 1 + WHOLE + EPOCHS):
        some = [rng.sample(mine, int(CHANGED * len(mine))) for mine in names]
        found["stalls"].append(run_epoch(engines, files, some, epoch, QUICK))
    commits = {i: [each.name, WHOLE + EPOCHS] for i, each in enumerate(files)}
    sizes = {"files": sum(each.size for each in files), "state": entities * engines[0].bytes_per_entity}
    return {**found, **sizes, "commits": commits}


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
    tenth, whole = (medians(filled["stalls"][1:]), medians(filled["whole"][-SETTLED:]))
    first = Ends(*filled["whole"][0])
    say(
        f"{entities:,} entities in {partitions} partitions: files of {filled['files'] / 1e9:.1f} GB, "
        f"{filled['files'] / filled['state']:.2f} times the state; where a tenth changes, an epoch's end takes "
        f"{tenth.end:.2f} s ({tenth.cpu:.2f} s CPU), and copies {tenth.ahead:.2f} s before; where all do, "
        f"{whole.end:.2f} s ({whole.cpu:.2f}) and {whole.ahead:.2f} s, beside {whole.learn_cpu:.2f} s of CPU for their "
        f"events; the first time {first.end:.2f} s ({first.cpu:.2f}); a start {fastest['seconds']:.1f} s "
        f"({fastest['cpu_s']:.1f} s CPU, {fastest['system_s']:.1f} s of the system)"
    )
    ends = {"stall": tenth._asdict(), "whole": whole._asdict(), "first": first._asdict()}
    return {**ends, "load": fastest, "loads": loads, "gb": filled["files"] / 1e9}


def medians(ends: list[list[float]]) -> Ends:
    return Ends(*(statistics.median(each) for each in zip(*ends, strict=True)))


def share(ends: dict[str, float], *, copies: bool = False) -> float:
    """Return for which share of an epoch a member stands still at its end. copies: before its end, too"""
    return (ends["end"] + copies * ends["ahead"]) / EPOCH


def report(scale: float) -> dict[str, Any]:
    """The figures of issue and campaign. scale: of the numbers of entities"""
    one, many = (measure(int(scale * entities), n) for entities, n in ((100_000, 1), (300_000, 8)))
    checks: list[Check] = [
        check("100,000 entities on a partition that moves: seconds more", one["load"]["seconds"], "<=", LOAD),
        check("300,000 entities: stall, share of an epoch, a tenth changed", share(many["stall"]), "<=", STALL),
        check("300,000 entities: stall, share of an epoch, all changed", share(many["whole"]), "<=", STALL),
        check("300,000 entities: the same with the copies", share(many["whole"], copies=True), "<=", STALL),
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
