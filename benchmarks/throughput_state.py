"""Snapshots and recovery of a large state: the learning step of the dataflow in Bytewax, without a broker.

`python throughput_state.py JOB` is one start of it: a source that hands over the events of one epoch at a time, as fast
as they would come at `RATE`, and the product's own operator and recovery directory. What is not the operator's work on
events, between the end of an epoch's events and the moment that Bytewax asks for the next, is the stall: making the
snapshot, and writing it. The second start, in another process, finds the state of the first.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from clients import CHUNK
from measuring import Check, check, child, memory, say, size
from rich.console import Console
from throughput_growth import Stream, configuration

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.kafka.records import ShardBatch
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.recovery.directory import open_recovery

RATE = 20_000  # events/s
EPOCH = 10.0  # s
EPOCHS = 3
FEATURES = 16
ENTITIES = 100_000

STALL_MOST = 0.10
RECOVERY_MOST = 5.0
Keyed = tuple[str, ShardBatch]


def written() -> int:
    """Bytes that this process has handed to the system for writing so far (Linux; elsewhere 0)."""
    counters = Path("/proc/self/io")
    return int(counters.read_text().split("wchar:")[1].split()[0]) if counters.exists() else 0


class Times:
    """Seconds, by epoch (the first one, in which the entities are met, is number 0)."""

    def __init__(self) -> None:
        self.learn: list[float] = []
        self.snapshot: list[float] = []
        self.epoch: list[float] = []
        self.written: list[int] = []
        self.build = self.ready = 0.0
        self.started = time.perf_counter()


class Timed(StatefulBatchLogic[ShardBatch, int, bytes]):
    """The product's operator, watched from outside."""

    def __init__(self, config: Config, state: bytes | None, times: Times) -> None:
        before = time.perf_counter()
        self._logic, self._times = ShardLogic(config, state), times
        times.ready = time.perf_counter()
        times.build = times.ready - before

    def on_batch(self, values: list[ShardBatch]) -> tuple[Iterable[int], bool]:
        before = time.perf_counter()
        out, discard = self._logic.on_batch(values)
        made = len(list(out))
        self._times.learn[-1] += time.perf_counter() - before
        return [made], discard

    def snapshot(self) -> bytes:
        before = time.perf_counter()
        state = self._logic.snapshot()
        self._times.snapshot[-1] += time.perf_counter() - before
        return state


class Epochs(FixedPartitionedSource[Keyed, int]):
    """One part, of which each call gives the events of one epoch; its state is the number of calls."""

    def __init__(self, job: dict[str, Any], times: Times) -> None:
        self.job, self.times = job, times

    def list_parts(self) -> list[str]:
        return ["events"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> StatefulSourcePartition[Keyed, int]:
        return Paced(self.job, self.times, resume_state)


class Paced(StatefulSourcePartition[Keyed, int]):
    """First all entities in turn, then epochs of entities at random, no sooner than they would come.

    The last epoch is short, and not told: at the end of its input Bytewax asks for a second snapshot. A start from
    state has no other.
    """

    def __init__(self, job: dict[str, Any], times: Times, resumed: int | None) -> None:
        self._job, self._times, self._done = job, times, resumed or 0
        self._left = job["epochs"] + 2 if resumed is None else 1
        self._stream = Stream(job["entities"], FEATURES)
        self._handed, self._offset, self._written = 0.0, 0, 0

    def next_batch(self) -> list[Keyed]:
        now, times = time.perf_counter(), self._times
        if self._handed:
            times.epoch.append(now - self._handed)
            times.written.append(written() - self._written)
        if not self._left:
            raise StopIteration
        if self._done == 0:
            events = self._stream.meeting(CHUNK)
        else:
            events = self._stream.random(CHUNK if self._left == 1 else self._job["events"], CHUNK)
        batches = []
        for each in events:
            offsets = list(range(self._offset, self._offset + len(each)))
            self._offset += len(each)
            batches.append(("0000", ShardBatch(0, each, offsets)))
        if self._handed:
            time.sleep(max(self._job["epoch"] - (time.perf_counter() - self._handed), 0))
        self._left -= 1
        self._done += 1
        for record in (times.learn, times.snapshot):
            record.append(0)
        self._written, self._handed = written(), time.perf_counter()
        return batches

    def snapshot(self) -> int:
        return self._done


class Nowhere(DynamicSink[Any]):
    """Takes everything."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Any]:
        return Nothing()


class Nothing(StatelessSinkPartition[Any]):
    def write_batch(self, items: list[Any]) -> None:
        pass


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One start of the flow, until its epochs are over."""
    directory = Path(job["directory"])
    config = configuration(FEATURES, more=f"recovery: {{directory: '{directory}'}}\n")
    engine = Engine(config)
    for events in Stream(10, FEATURES).random(2_000, 1_000):
        engine.process(events)  # the kernels are there
    held, times = memory()[0], Times()
    recovery = open_recovery(config)
    assert recovery is not None
    flow = Dataflow("monitor")
    stream = op.input("source", flow, Epochs(job, times))
    learned = op.stateful_batch("learn", stream, lambda state: Timed(config, state, times))
    op.output("sink", learned, Nowhere())
    # Each call of the source is an epoch.
    cli_main(flow, epoch_interval=timedelta(0), recovery_config=recovery.config)
    return {
        "learn_s": times.learn[:-1],
        "snapshot_s": times.snapshot[:-1],
        "stall_s": [whole - work for whole, work in zip(times.epoch, times.learn, strict=True)][:-1],
        "written_bytes": times.written[:-1],
        "build_s": times.build,
        "ready_s": times.ready - times.started,
        "files_bytes": size(directory),
        "held_bytes": held,
        "peak_bytes": memory()[1],
        "state_bytes": engine.bytes_per_entity * job["entities"],
    }


def measure(folder: Path, entities: int, epoch: float, epochs: int) -> dict[str, Any]:
    """A start from nothing, and a start from its state."""
    job = {"directory": str(folder / "state"), "entities": entities, "epoch": epoch, "epochs": epochs}
    job["events"] = int(RATE * epoch)
    first = child("throughput_state.py", job, title="snapshots")
    say(f"  snapshots: {first['snapshot_s']} s, stalls {first['stall_s']} s")
    again = child("throughput_state.py", job, title="recovery")
    say(f"  recovery: {again['ready_s']:.2f} s, {again['build_s']:.2f} s of them in the operator")
    return {"entities": entities, "epoch_s": epoch, "events": job["events"], "first": first, "again": again}


def checks(measured: dict[str, Any]) -> list[Check]:
    """The worst epoch after the one in which the entities are met."""
    what = f"{measured['entities']:,} entities of {FEATURES} features"
    stall = max(measured["first"]["stall_s"][1:]) / measured["epoch_s"]
    return [
        check(f"snapshot: stall by the epoch, {what}", stall, "<=", STALL_MOST),
        check(f"snapshot: recovery, s, {what}", measured["again"]["ready_s"], "<=", RECOVERY_MOST),
    ]


def show(measured: dict[str, Any], console: Console) -> None:
    """In words."""
    first, again = measured["first"], measured["again"]
    stalls, snapshots = first["stall_s"][1:], first["snapshot_s"][1:]
    console.print(
        f"[bold]Snapshots[/]: {measured['entities']:,} entities of {FEATURES} features, "
        f"{first['state_bytes'] / 1e6:,.0f} MB of state, {measured['events']:,} events an epoch of "
        f"{measured['epoch_s']:g} s. A snapshot took {min(snapshots):.2f} to {max(snapshots):.2f} s, with "
        f"{max(first['written_bytes'][1:]) / 1e6:,.0f} MB written; the flow stood still for {min(stalls):.2f} to "
        f"{max(stalls):.2f} s (after the first epoch, in which all are new: {first['stall_s'][0]:.2f} s). The recovery "
        f"directory held {first['files_bytes'] / 1e6:,.0f} MB. Peak memory: {first['peak_bytes'] / 2**20:,.0f} MiB, "
        f"before the flow {first['held_bytes'] / 2**20:,.0f} MiB. Recovery in a new process: {again['ready_s']:.2f} s "
        f"from opening the directory until the operator is there, {again['build_s']:.2f} s of them in building it."
    )


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
