"""The clients that throughput_topics.py times: each is started as a process of its own and prints one line of JSON.

Usage: python clients.py NAME SPECIFICATION, where the specification is JSON: broker, events, source, sink and, for the
product, the configuration file. Imports stand inside the functions: the peers live in another virtual environment than
the product, and nobody pays for the memory of another's libraries.

The product's clock runs from before the first connection until the dataflow has ended: the broker has every prediction,
the snapshots are written. The clock of the others starts later, at their first event: the pass-through is to show what
the wire carries at best, and the peers join a consumer group, which takes seconds that a long run does not notice.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from measuring import memory
from slices import Slices, with_metrics, with_page

FEATURES = [f"f{i}" for i in range(8)]
CHUNK = 4000  # messages a poll, the product's own default
SLICES = {"metrics": 0.2, "page": 0.4}
"""Seconds for which a part of the product is on, or off. A browser is told something ten times a second."""


class Clock:
    """Wall and CPU time from `start` to `stop`."""

    def __init__(self) -> None:
        self.wall = self.cpu = -1.0

    def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self.wall < 0:
            self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> tuple[float, float]:
        """Seconds of wall and of CPU (all threads of the process)."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


class Specification(NamedTuple):
    """What a client is told."""

    broker: str
    events: int
    source: str
    sink: str
    partitions: int
    config: str | None = None
    alternating: str | None = None
    """What is on and off by turns, for what it costs: `metrics` or `page`."""
    off_first: bool = False


def passthrough(job: Specification, clock: Clock) -> dict[str, float]:
    """Consume and produce the same bytes: no decoding, no model. No Python client of this library can be faster.

    The settings are the product's own but for two: it fetches further ahead, and it has no idempotence, for a producer
    with it waits for an identity first, about a second, which would lower the ceiling of a short run. Without
    `fetch.queue.backoff.ms` the client waits a second whenever it has enough, which would lower it by three quarters.
    """
    from confluent_kafka import Consumer, Producer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": job.broker,
            "group.id": job.sink,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "fetch.wait.max.ms": 20,
            "queued.min.messages": 100_000,
            "fetch.queue.backoff.ms": 20,
            "receive.message.max.bytes": 1_000_000_000,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": job.broker,
            "acks": "all",
            "linger.ms": 5,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
        }
    )
    consumer.assign([TopicPartition(job.source, partition, 0) for partition in range(job.partitions)])
    produce, done = producer.produce, 0
    consuming = producing = 0.0
    while done < job.events:
        before = time.perf_counter()
        messages = consumer.consume(CHUNK, 0.5)
        if done == 0:
            if not messages:
                continue
            clock.start()
            before = time.perf_counter()
        between = time.perf_counter()
        for message in messages:
            produce(job.sink, message.value(), message.key())
        producer.poll(0)
        done += len(messages)
        consuming += between - before
        producing += time.perf_counter() - between
    producer.flush()
    consumer.close()
    # Wall time of the calling thread: it holds the interpreter while librdkafka's threads work beside it.
    return {"consume_us": consuming / done * 1e6, "produce_us": producing / done * 1e6}


class TimedKernel:
    """The core's loops over events, each call's CPU time added to `spent`, s; threads may call at once."""

    def __init__(self, bound: Any, spent: list[float]) -> None:
        self._bound, self._spent = bound, spent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bound, name)

    def run(self, *arguments: Any) -> Any:
        """Predict and learn events whose targets come with them."""
        before = time.thread_time()
        out = self._bound.run(*arguments)
        self._spent.append(time.thread_time() - before)
        return out


def timed_kernel() -> list[float]:
    """Time the kernel from now on; one call a chunk, so the clock costs nothing. Gives seconds of CPU, of each call."""
    from ssm_stream.core import native

    spent, engine = list[float](), native.Engine
    native.Engine = lambda *of: TimedKernel(engine(*of), spent)  # type: ignore[misc,assignment,return-value]
    return spent


def product(job: Specification, clock: Clock) -> dict[str, Any]:
    """What `ssm-stream run CONFIG --until-eof` does, in this process."""
    from ssm_stream.config import load_config
    from ssm_stream.engine.engine import Engine
    from ssm_stream.flow import live_page, runtime
    from ssm_stream.ingest.events import EventReader
    from ssm_stream.kafka.decoder import Decoder
    from ssm_stream.kafka.encoder import Encoder
    from ssm_stream.kafka.records import ShardBatch

    assert job.config is not None
    config = load_config(job.config)
    # What is imported when it is first needed does not belong to the throughput.
    row = dict.fromkeys(["entity", "ts", "target", *FEATURES], 1.0) | {"entity": "e", config.event.entity: "e"}
    events, _ = EventReader(config.event).read([row] * 3)
    Decoder(config)
    Encoder(config).encode(ShardBatch(0, events, [0, 1, 2]), *Engine(config).process(events))
    slices = Slices(SLICES.get(job.alternating or "", 0.0), off_first=job.off_first)
    if job.alternating == "metrics":
        runtime.Metrics = with_metrics(slices)  # type: ignore[misc]
    elif job.alternating == "page":
        live_page.LivePage = with_page(slices)  # type: ignore[misc]
    kernel = timed_kernel()
    prepared = runtime.prepare(config, until_eof=True)
    clock.start()
    runtime.run(prepared)
    if not job.alternating:
        return {"kernel_us": sum(kernel) / job.events * 1e6}
    if job.alternating == "metrics":
        return {"slices": slices.done, "pages": prepared.metrics.pages}  # type: ignore[attr-defined]
    return {"slices": slices.done, "own": prepared.site.page.own}  # type: ignore[union-attr]


def river_model() -> Any:
    """What River's own documentation offers for an online regression."""
    from river import linear_model, optim, preprocessing

    return preprocessing.StandardScaler() | linear_model.LinearRegression(optimizer=optim.SGD(0.01))


def answer(model: Any, event: dict[str, Any]) -> dict[str, Any]:
    """Predict, then learn."""
    features = {name: event[name] for name in FEATURES}
    prediction = model.predict_one(features)
    model.learn_one(features, event["target"])
    return {"entity": event["entity"], "ts": event["ts"], "y": event["target"], "yhat": prediction}


def quix_river(job: Specification, clock: Clock) -> dict[str, float]:
    """Quix Streams with a River model an entity."""
    from quixstreams import Application

    application = Application(
        broker_address=job.broker,
        consumer_group=job.sink,
        auto_offset_reset="earliest",
        use_changelog_topics=False,
        loglevel="ERROR",
    )
    models: dict[str, Any] = {}

    def step(event: dict[str, Any]) -> dict[str, Any]:
        clock.start()
        model = models.get(event["entity"])
        if model is None:
            model = models[event["entity"]] = river_model()
        return answer(model, event)

    events = application.dataframe(application.topic(job.source, value_deserializer="json"))
    events.apply(step).to_topic(application.topic(job.sink, value_serializer="json"))
    application.run(count=job.events)
    return {}


def bytewax_river(job: Specification, clock: Clock) -> dict[str, float]:
    """Bytewax with its own Kafka connectors and a River model an entity."""
    import bytewax.operators as op
    import orjson
    from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
    from bytewax.connectors.kafka import operators as kop
    from bytewax.dataflow import Dataflow
    from bytewax.testing import run_main

    def decode(message: KafkaSourceMessage) -> tuple[str, dict[str, Any]]:
        clock.start()
        event = orjson.loads(message.value)
        return event["entity"], event

    def step(model: Any, event: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        model = river_model() if model is None else model
        return model, answer(model, event)

    def encode(item: tuple[str, dict[str, Any]]) -> KafkaSinkMessage:
        return KafkaSinkMessage(item[0].encode(), orjson.dumps(item[1]))

    flow = Dataflow("bytewax_river")
    source = kop.input("in", flow, brokers=[job.broker], topics=[job.source], tail=False, batch_size=CHUNK)
    learned = op.stateful_map("learn", op.map("decode", source.oks, decode), step)
    kop.output("out", op.map("encode", learned, encode), brokers=[job.broker], topic=job.sink)
    run_main(flow)
    return {}


CLIENTS: dict[str, Callable[[Specification, Clock], dict[str, Any]]] = {
    "passthrough": passthrough,
    "product": product,
    "quix": quix_river,
    "bytewax": bytewax_river,
}


def main() -> None:
    name, job = sys.argv[1], Specification(**json.loads(sys.argv[2]))
    clock = Clock()
    more = CLIENTS[name](job, clock)
    wall, cpu = clock.stop()
    print(json.dumps({"seconds": wall, "cpu_seconds": cpu, "peak_bytes": memory()[1], **more}))


if __name__ == "__main__":
    main()
