"""Monitoring as a step of anyone's dataflow: are its results those of `run`, what does it cost, does it survive?

    python benchmarks/plugin.py [--json] [--quick] [--part equal …]

CPU time and rates are those of processes of their own, in turn, and the best of several rounds counts: other work on
the machine only makes them worse. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import bytewax.operators as op
import orjson
import plugin_calls
import plugin_kills
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main
from confluent_kafka import Producer
from measuring import Check, MissingError, check, child, end_on_signals, hand_over, say, tell
from wire import cluster, configuration, create, delete, events, load, named, read

import ssm_stream.operators as sop
from ssm_stream.config import Config, load_config, parse_config
from ssm_stream.flow import runtime
from ssm_stream.flow.runtime import Prepared
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import Chunk, PredictedBatch
from ssm_stream.operators.kafka import DeferredSink, DeferredSource, service_sink, service_source
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.ops.observers import UNOBSERVED

ROOT = Path(__file__).parents[1]
BATCH, ENTITIES = 1_000, 100
IMPORT = """
import time
began = time.perf_counter()
import flows.monitor
print(time.perf_counter() - began)
"""
EFFECTS = """
import sys, threading
effects = []
watched = ("socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "fcntl.flock", "signal.pthread_kill")
def audit(event, arguments):
    if event in watched or (event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wa+x")):
        effects.append(event)
import signal
handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
sys.addaudithook(audit)
sys.dont_write_bytecode = True
import flows.monitor
flows.monitor.build(sys.argv[1])
effects += [each.name for each in threading.enumerate()[1:]]
effects += [1 for a, b in zip(handlers, map(signal.getsignal, (signal.SIGTERM, signal.SIGINT))) if a is not b]
print(len(effects))
"""


class Sizes(NamedTuple):
    """How much of everything."""

    equal: int
    cost: int
    rate: int
    rounds: int
    kills: int
    killed_events: int


FULL, QUICK = Sizes(40_000, 200_000, 400_000, 5, 50, 60_000), Sizes(4_000, 20_000, 20_000, 2, 3, 2_000)


def settings(more: str = "") -> Config:
    """The configuration of the events of wire.py, without a broker."""
    return parse_config(configuration("127.0.0.1:9", "events", "out", "unused", more=more))


class Discard(DynamicSink[Any]):
    """A sink that counts what it gets."""

    def __init__(self) -> None:
        self.count = 0

    def build(self, step_id: str, worker_index: int, worker_count: int) -> DiscardPartition:
        return DiscardPartition(self)


class DiscardPartition(StatelessSinkPartition[Any]):
    def __init__(self, sink: Discard) -> None:
        self._sink = sink

    def write_batch(self, items: list[Any]) -> None:
        self._sink.count += len(items)


class Message:
    """A message as the client gives it."""

    __slots__ = ("_offset", "_value")

    def __init__(self, value: bytes, offset: int) -> None:
        self._value, self._offset = value, offset

    def value(self) -> bytes:
        return self._value

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


class Chunks(FixedPartitionedSource[Any, int]):
    """Chunks of messages in memory, decoded as the reader's thread does."""

    def __init__(self, config: Config, values: list[bytes]) -> None:
        self._config = config
        self._chunks = [
            Chunk("events", 0, [Message(value, at + i) for i, value in enumerate(values[at : at + BATCH])])  # type: ignore[misc]
            for at in range(0, len(values), BATCH)
        ]

    def list_parts(self) -> list[str]:
        return ["memory"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> ChunksPartition:
        return ChunksPartition(Decoder(self._config), self._chunks)


class ChunksPartition(StatefulSourcePartition[Any, int]):
    def __init__(self, decoder: Decoder, chunks: list[Chunk]) -> None:
        self._decode, self._left = decoder.decode, iter(chunks)

    def next_batch(self) -> list[Any]:
        return self._decode(next(self._left))

    def snapshot(self) -> int:
        return 0


class Memory:
    """The service without a broker and without files."""

    files, until_eof, observers, partitions = True, True, UNOBSERVED, dict[str, tuple[int, ...]]()
    facts = None

    def __init__(self, config: Config) -> None:
        self.settings = self.config = config.model_copy(
            update={"recovery": config.recovery.model_copy(update={"directory": None})}
        )


def built_in(count: int) -> tuple[Dataflow, Discard]:
    """The built-in path from messages to messages, in memory: batches of columns all the way."""
    service, flow, sink = Memory(settings()), Dataflow("built_in"), Discard()
    source = Chunks(service.config, [orjson.dumps(each) for _, each in events(count, ENTITIES)])
    decoded = sop.decode("decode", op.input("in", flow, source), service.config, service=service)
    watched = sop.monitor("learn", decoded.events, service.config, service=service)
    encoder = Encoder(service.config)

    def encode(items: list[tuple[str, PredictedBatch]]) -> list[bytes]:
        return [value for _, batch in items for record in [encoder.encode(*batch)] for value in record.values]

    op.output("out", op.flat_map_batch("encode", watched.batches, encode), sink)
    return flow, sink


def of_dicts(count: int) -> tuple[Dataflow, Discard]:
    """A dataflow of one's own: dicts in, records out."""
    flow, sink = Dataflow("mine"), Discard()
    given: Stream[Any] = op.input("in", flow, TestingSource([each for _, each in events(count, ENTITIES)], BATCH))
    watched = sop.monitor("watch", given, settings())
    op.output("predictions", watched.predictions, sink)
    op.output("alerts", watched.alerts, Discard())
    return flow, sink


def cost(job: dict[str, Any]) -> dict[str, float]:
    """µs of CPU an event of a dataflow, in this process."""
    make: Callable[[int], tuple[Dataflow, Discard]] = {"batches": built_in, "dicts": of_dicts}[job["flow"]]
    run_main(make(2 * BATCH)[0])  # what a first call costs
    flow, sink = make(job["events"])
    began = time.process_time()
    run_main(flow, epoch_interval=timedelta(seconds=10))
    seconds = time.process_time() - began
    if sink.count != job["events"]:
        raise MissingError(f"{job['flow']}: {sink.count} results of {job['events']} events")
    return {"cpu_us": seconds / job["events"] * 1e6}


def direct(prepared: Prepared) -> Dataflow:
    """The dataflow of `run` without the operators: source, shard logic and sink joined directly, as it was before."""
    flow = Dataflow("monitor")
    decoded = op.input("source", flow, DeferredSource(lambda: service_source(prepared)))
    split = op.branch("usable", decoded, lambda item: not hasattr(item[1], "others"))
    learned = op.stateful_batch(
        "learn", split.trues, lambda state: ShardLogic(prepared.config, state, prepared.observers)
    )
    sink = DeferredSink(prepared.config.writers, lambda: service_sink(prepared))
    op.output("sink", op.merge("outputs", learned, split.falses), sink)
    return flow


def rate(job: dict[str, Any]) -> dict[str, float]:
    """Events a second of `run --until-eof`, and CPU, in this process."""
    if job["direct"]:
        runtime.build = direct  # type: ignore[assignment]
    prepared = runtime.prepare(load_config(job["config"]), until_eof=True)
    began, cpu = time.perf_counter(), time.process_time()
    runtime.run(prepared)
    seconds = time.perf_counter() - began
    return {"events_per_s": job["events"] / seconds, "cpu_us": (time.process_time() - cpu) / job["events"] * 1e6}


def produce(broker: str, topic: str, count: int) -> None:
    """Fill a topic with events of which some alert."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20})
    for i in range(count):
        event = plugin_kills.event(i)
        hand_over(producer, topic, orjson.dumps(event), event["machine"])
    if producer.flush(60):
        raise MissingError("the events did not reach the broker within a minute")


def measure_equal(broker: str, folder: Path, sizes: Sizes) -> list[Check]:
    """Predictions and alerts of `run` and of a dataflow of dicts, byte by byte."""
    source, out = named("plugin-events"), named("plugin-out")
    create(broker, [source])
    create(broker, [out, f"{out}-alerts", f"{out}-dead"])
    produce(broker, source, sizes.equal)
    file, given = folder / "equal.yaml", plugin_kills.MONITORS["first"]
    sinks = {"predictions": out, "alerts": f"{out}-alerts", "dead_letters": f"{out}-dead"}
    recovery, ops = {"directory": str(folder / "equal-state")}, {"address": None}
    served = {"source": {"brokers": broker, "topic": source}, "sinks": sinks, "recovery": recovery, "ops": ops}
    file.write_bytes(orjson.dumps({**given, **served}))  # JSON is YAML
    command = [sys.executable, "-m", "ssm_stream", "run", str(file), "--until-eof"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(done.stderr[-3000:])
    expected = {
        orjson.loads(m.value())["id"]: m.value() for topic in (out, f"{out}-alerts") for m in read(broker, topic)
    }
    found: dict[str, bytes] = {}
    flow = Dataflow("mine")
    messages = sop.kafka_input("source", flow, file, until_eof=True)
    watched = sop.monitor("watch", sop.decode("decode", messages, file).events, file)
    both: Stream[Any] = op.merge("both", watched.predictions, watched.alerts)

    def keep(items: list[Any]) -> list[Any]:
        found.update((each.id, each.to_json()) for each in items)
        return []

    op.output("out", op.flat_map_batch("keep", both, keep), Discard())
    run_main(flow)
    delete(broker, [source, out, f"{out}-alerts", f"{out}-dead"])
    wrong = sum(expected.get(key) != found.get(key) for key in expected.keys() | found.keys())
    alerts = len(expected) - sizes.equal
    say(f"  {len(expected):,} messages of run, {alerts} of them alerts: {wrong} differ")
    if alerts < 1:
        raise MissingError("no alerts to compare")
    return [check("predictions and alerts that differ from those of run", wrong, "<=", 0)]


def measure_cost(sizes: Sizes) -> list[Check]:
    """A dataflow of dicts against the built-in path."""
    least = {"batches": float("inf"), "dicts": float("inf")}
    for _ in range(sizes.rounds):
        for name in least:
            found = child("plugin.py", {"flow": name, "events": sizes.cost}, "--cost")
            least[name] = min(least[name], found["cpu_us"])
    say(f"  an event of a dict {least['dicts']:.2f} µs of CPU, of the built-in path {least['batches']:.2f}")
    return [
        check("cost of an event as a dict, of that on the built-in path", least["dicts"] / least["batches"], "<=", 2.5)
    ]


def measure_rate(broker: str, folder: Path, sizes: Sizes) -> list[Check]:
    """`run` of operators against the same parts joined directly."""
    source = named("plugin-rate")
    create(broker, [source])
    load(broker, source, sizes.rate, ENTITIES)
    best = {False: 0.0, True: 0.0}
    for number in range(sizes.rounds):
        for as_before in (False, True) if number % 2 else (True, False):
            sink = named(f"plugin-rate-{number}-{as_before}".lower())
            topics = [sink, f"{sink}-alerts", f"{sink}-dead"]
            create(broker, topics)
            file = folder / f"{sink}.yaml"
            file.write_text(configuration(broker, source, sink, folder / sink))
            found = child("plugin.py", {"config": str(file), "events": sizes.rate, "direct": as_before}, "--rate")
            best[as_before] = max(best[as_before], found["events_per_s"])
            say(f"  {'joined directly' if as_before else 'of operators'}: {found['events_per_s']:,.0f} events/s, "
                f"{found['cpu_us']:.2f} µs of CPU an event")  # fmt: skip
            delete(broker, topics)
    delete(broker, [source])
    return [check("rate of run, of that of its parts joined directly", best[False] / best[True], ">=", 0.98)]


def measure_import(folder: Path, sizes: Sizes) -> list[Check]:
    """`import flows.monitor` without a broker, and its `build`."""
    file = folder / "import.yaml"
    file.write_text(configuration("127.0.0.1:9", "events", "out", folder / "import-state"))

    def printed(script: str) -> float:
        command = [sys.executable, "-c", script, str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return float(done.stdout)

    return [
        check("s of import flows.monitor", min(printed(IMPORT) for _ in range(sizes.rounds)), "<=", 1.0),
        check("effects of import flows.monitor and its build", printed(EFFECTS), "<=", 0),
    ]


def measure_kills(folder: Path, sizes: Sizes) -> list[Check]:
    """Two monitors, killed and started again with other numbers of workers."""
    found = plugin_kills.campaign(folder / "kills", sizes.kills, sizes.killed_events)
    say(f"  {found}")
    return [
        check("kills of two monitors in one dataflow", found["kills"], ">=", sizes.kills),
        check("results and states that differ after them", found["differences"], "<=", 0),
    ]


PARTS = ("equal", "cost", "calls", "rate", "import", "kills")


def main() -> None:
    for name, work in (("--cost", cost), ("--rate", rate)):
        if sys.argv[1:2] == [name]:
            print(json.dumps(work(json.loads(sys.argv[2]))))
            return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="only JSON on standard output")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it work at all?")
    parser.add_argument("--part", dest="parts", action="append", choices=PARTS, help="only this part; repeatable")
    arguments = parser.parse_args()
    end_on_signals()
    sizes, parts, checks = QUICK if arguments.quick else FULL, arguments.parts or PARTS, list[Check]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kills").mkdir()
        if {"equal", "rate"} & set(parts):
            with cluster(folder) as (broker, words):
                say(f"broker: {words}")
                checks += measure_equal(broker, folder, sizes) if "equal" in parts else []
                checks += measure_rate(broker, folder, sizes) if "rate" in parts else []
        checks += measure_cost(sizes) if "cost" in parts else []
        checks += plugin_calls.measure_calls(quick=arguments.quick) if "calls" in parts else []
        checks += measure_import(folder, sizes) if "import" in parts else []
        checks += measure_kills(folder, sizes) if "kills" in parts else []
    tell(checks)
    if arguments.json:
        print(json.dumps({"checks": checks}))


if __name__ == "__main__":
    main()
