"""What a group needs for many entities, worked out from what was measured here: `scale_out.py --simulate`."""

from __future__ import annotations

import math
import random
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import Check, check, say

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.recovery.store.flow_store import FlowStore

FEATURES, MEASURED, CHANGED, EPOCHS = 16, 4000, 0.1, 40
"""Of the measurement: features, entities, share of them that changes in an epoch, epochs."""
BUSY, BASE_GB, MEMORY_GB, NETWORK_GB = 0.6, 0.25, 45.0, 0.6
"""Share of a core in use; memory of a process without state; state that a process may have; bytes/s to the store."""
PER_PROCESS = (4, 8, 16, 32)
"""Partitions a process, the fewest with which failover is short enough: those of one that dies go to as many others."""
RATE, ENTITIES, LENGTHS = 1_000_000, (1_000_000, 10_000_000, 100_000_000), (1.0, 10.0, 60.0)
MAX_PARTITIONS, MAX_FAILOVER, MAX_TRAFFIC = 10_000, 60.0, 1.2
REQUEST = 5e-6
"""Dollars for a PUT."""


class Costs(NamedTuple):
    """What was measured.

    cpu_us: of an event, µs; state_bytes: of an entity
    write_s, load_s: CPU of a snapshot and of a start, s a GB
    traffic: bytes written, for each that changed; files: bytes of a state's files, for each of the state
    gap_s: of a partition whose member is killed, without the load
    """

    cpu_us: float
    state_bytes: float
    write_s: float
    load_s: float
    traffic: float
    files: float
    gap_s: float


def settings(folder: Path) -> Config:
    columns = ", ".join(f"f{i}" for i in range(FEATURES))
    return parse_config(
        f"source: {{brokers: none, topic: events, assignment: group}}\nstate: {{store: '{folder}'}}\n"
        f"event: {{entity: e, timestamp: ts, features: [{columns}]}}\nrecovery: {{keep: null}}\n"
    )


def measure(cpu_us: float, gap_s: float) -> Costs:
    """The costs of snapshots here: a tenth of the entities changes in each epoch, others each time."""
    rng, names = random.Random(1), [f"e{i}" for i in range(MEASURED)]
    noise = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        config = settings(Path(folder))
        engine, store = Engine(config), FlowStore(config)
        snapshots, written, changed, cpu, filled = store.partition(0), 0, 0, 0.0, 0.0
        for epoch in range(EPOCHS):
            some = names if epoch == 0 else rng.sample(names, int(CHANGED * MEASURED))
            x = noise.normal(size=(len(some), FEATURES))
            ts = 1_700_000_000_000 + 1000 * epoch + np.zeros(len(some), np.int64)
            engine.process(Events(position=np.arange(len(some)), entity=some, ts=ts, features=x, target=x[:, 0]), 0)
            changed += len(some) * engine.bytes_per_entity + engine.bytes_per_pool
            began = time.process_time()
            snapshots.write(engine, epoch + 1)
            snapshots.wait()
            cpu += time.process_time() - began
            written += snapshots.written
            snapshots.commit(epoch + 1)
        filled = snapshots.size / (MEASURED * engine.bytes_per_entity)
        began = time.process_time()
        store.partition(0).restore(config, snapshots.name)
        load = (time.process_time() - began) / (snapshots.size / 1e9)
        traffic = written / changed
    return Costs(cpu_us, engine.bytes_per_entity, cpu / (written / 1e9), load, traffic, filled, gap_s)


def plan(costs: Costs, entities: int, epoch: float, rate: int = RATE) -> dict[str, Any]:
    """What so many entities need, with epochs of so many seconds; `limit` is what sets the number of processes."""
    found = [_plan(costs, entities, epoch, rate, each) for each in PER_PROCESS]
    return next((each for each in found if each["failover_s"] <= MAX_FAILOVER), found[-1])


def _plan(costs: Costs, entities: int, epoch: float, rate: int, per_process: int) -> dict[str, Any]:
    state = entities * costs.state_bytes / 1e9
    # Events fall on entities at random: so many have had one in an epoch.
    changed = entities * -math.expm1(-rate * epoch / entities)
    stored = costs.traffic * changed * costs.state_bytes / 1e9 / epoch  # GB/s
    needs = {
        "CPU": (rate * costs.cpu_us / 1e6 + stored * costs.write_s) / BUSY,
        "memory": state * 1.05 / MEMORY_GB,
        "network to the store": stored / NETWORK_GB,
    }
    limit, most = max(needs.items(), key=lambda need: need[1])
    processes = max(math.ceil(most), 2)
    partitions = per_process * processes
    moved = math.ceil(per_process / (processes - 1))  # partitions that one member takes over
    load = moved * state / partitions * costs.files * max(costs.load_s, 1 / NETWORK_GB)
    used = (per_process + moved) / per_process * needs["CPU"] * BUSY / processes
    behind = moved * needs["CPU"] * BUSY / partitions * (costs.gap_s + load)  # seconds of a core
    catch_up = behind / (1 - used) if used < 1 else math.inf
    return {
        "entities": entities,
        "epoch_s": epoch,
        "processes": processes,
        "limit": limit,
        "memory_gb": round(BASE_GB + state * 1.05 / processes * (1 + moved / per_process), 2),
        "state_gb": round(state, 1),
        "partitions": partitions,
        "store_gb_s": round(stored, 3),
        "store_gb": round(costs.files * state, 1),
        "puts_s": round(2 * partitions / epoch, 1),
        "puts_dollars_day": round(2 * partitions / epoch * 86_400 * REQUEST, 1),
        "load_s": round(load, 1),
        "failover_s": round(costs.gap_s + load + catch_up, 1),
    }


def simulate(cpu_us: float, gap_s: float) -> dict[str, Any]:
    """Measured costs, a row for each number of entities and length of epochs, and what is checked of them."""
    costs = measure(cpu_us, gap_s)
    rows = [plan(costs, entities, epoch) for entities in ENTITIES for epoch in LENGTHS]
    say(
        f"measured: {costs.state_bytes:,.0f} bytes an entity; snapshots {costs.write_s:.2f} s CPU a GB, a start "
        f"{costs.load_s:.2f}; {costs.traffic:.2f} bytes written for each that changed; files of {costs.files:.2f} "
        f"times the state. Given: {cpu_us:g} µs CPU an event, {gap_s:g} s from a kill to the load"
    )
    say("| entities | epoch | processes | set by | memory each | partitions | to the store | failover |")
    say("|---|---|---|---|---|---|---|---|")
    for row in rows:
        say(
            f"| {row['entities']:,} | {row['epoch_s']:g} s | {row['processes']} | {row['limit']} | "
            f"{row['memory_gb']:.1f} GB | {row['partitions']} | {row['store_gb_s']:.2f} GB/s | "
            f"{row['failover_s']:.0f} s |"
        )
    longest = [row for row in rows if row["epoch_s"] == LENGTHS[-1]]
    checks: list[Check] = [
        check("bytes written for each that changed", costs.traffic, "<=", MAX_TRAFFIC),
        check("partitions, of those that a store has", max(row["partitions"] for row in rows), "<=", MAX_PARTITIONS),
        check("longest failover with epochs of 60 s", max(row["failover_s"] for row in longest), "<=", MAX_FAILOVER),
    ]
    return {"costs": costs._asdict(), "rows": rows, "checks": checks}
