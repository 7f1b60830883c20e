"""Kafka as source and sink of a dataflow, by the sections `source` and `sinks`.

One thread reads and decodes ahead of the worker, another encodes and sends behind it. Nothing is opened before the
dataflow runs.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from typing import Any, cast

import bytewax.operators as op
import structlog
from bytewax.connectors.kafka import KafkaSourceMessage
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from ssm_stream.config import Config, ConfigError, read_config
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.context.topic import context_of
from ssm_stream.kafka.control.topic import ControlTopic
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.groups.earlier_runs import state_note
from ssm_stream.kafka.partition_queue import Decode
from ssm_stream.kafka.records import Chunk, OutputBatch, PredictedBatch, ProducerRecord, headers_of, shard_key
from ssm_stream.kafka.topic_head import FirstMessages
from ssm_stream.operators.catch_up import CatchUpDecoder
from ssm_stream.operators.codec import MessageEncoder
from ssm_stream.operators.documents import NO_OFFSET
from ssm_stream.operators.failures import ItemError, explained, explained_build
from ssm_stream.operators.monitor_operator import Settings, monitor_config, without_alerts
from ssm_stream.operators.records import Alert, Prediction, RefusedEvent
from ssm_stream.operators.service import Service
from ssm_stream.operators.sink import KafkaSink, TransactionalSink
from ssm_stream.operators.source import KafkaSource, label_source, labels_topic
from ssm_stream.ops.observers import UNOBSERVED

LOG = structlog.get_logger("ssm_stream.source")
Open = Callable[[], KafkaSource]


class DeferredSource(FixedPartitionedSource[Any, int]):
    """A source that is opened when the dataflow runs."""

    def __init__(self, open_source: Open) -> None:
        self._open, self._lock = open_source, threading.Lock()
        self._source: KafkaSource | None = None

    def _opened(self) -> KafkaSource:
        with self._lock, explained():
            if self._source is None:
                self._source = self._open()
            return self._source

    def list_parts(self) -> list[str]:
        return self._opened().list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> StatefulSourcePartition[Any, int]:
        with explained():
            return self._opened().build_part(step_id, for_part, resume_state)


class DeferredSink(FixedPartitionedSink[Any, Any]):
    """A sink that is opened when the dataflow runs. parts: of a sink that has so many"""

    def __init__(self, parts: int, open_sink: Callable[[], KafkaSink]) -> None:
        self._parts, self._open, self._lock = parts, open_sink, threading.Lock()
        self._sink: KafkaSink | None = None

    def list_parts(self) -> list[str]:
        return [f"{i:04d}" for i in range(self._parts)]

    def part_fn(self, item_key: str) -> int:
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> StatefulSinkPartition[Any, Any]:
        with explained():
            with self._lock:
                if self._sink is None:
                    self._sink = self._open()
            return self._sink.build_part(step_id, for_part, resume_state)


def kafka_input(
    step_id: str,
    flow: Dataflow,
    config: Settings,
    *,
    batches: bool = False,
    until_eof: bool = False,
    service: Service | None = None,
) -> Stream[Any]:
    """Read the events topics, and the labels topic if there is one.

    Args:
        step_id: unique name of the step; with `-r` it continues at the offsets that Bytewax keeps under this name
        flow: the dataflow
        config: as of `monitor`, with `source`
        batches: decode ahead, and give `decode` batches of columns: as fast as `ssm-stream run`, but a step in between
            sees columns, not messages
        until_eof: end at the end of the topic instead of waiting for more
        service: of `ssm-stream run`; None in a dataflow of your own

    Returns:
        a stream of `KafkaSourceMessage`, or of batches

    Raises:
        ConfigError: the configuration cannot be used.
        BrokerError: while the dataflow runs: the broker does not answer, or the topic does not exist.
    """
    if service is not None:
        return op.input(step_id, flow, DeferredSource(lambda: service_source(service)))
    with explained_build():
        settings = read_config(config)
        if batches and settings.event.features == "auto":
            raise ConfigError("event.features: auto: a step cannot select features from events to come: list them")
    return op.input(step_id, flow, DeferredSource(lambda: _open_source(settings, batches=batches, until_eof=until_eof)))


def service_source(service: Service) -> KafkaSource:
    """Return the source of the events topics, decoded ahead, and of the labels topic."""
    config, observers = service.config, service.observers
    begun = service.begun if config.source.partitions is None else frozenset[str]()
    first, *others = [
        each.model_copy(update={"start": "earliest"}) if each.topic in begun else each for each in config.source.each
    ]
    labels = labels_topic(config)
    control = (
        ControlTopic(config, interrupted=service.interrupted).windows if config.control_topic is not None else None
    )

    def report_missing(paths: int, sentences: list[str]) -> None:
        observers.on_missing_paths(paths)
        for each in sentences:
            LOG.warning("path_missing", what=each)

    partitions = sum(len(service.partitions[each.topic]) for each in config.source.each)
    inspect, join = FirstMessages(config, report_missing, partitions), context_of(config, flow=True)
    again = service.catch_up
    if service.facts is not None:
        service.facts.topics()  # what cannot be read ends the start

    def decoder() -> Decode:
        decode = Decoder(config, observers.on_passed_by, control, inspect, join, service.facts).decode
        return decode if again is None else CatchUpDecoder(decode, config.source, *again)

    source = KafkaSource(
        first,
        service.partitions[first.topic],
        None if labels is None else label_source(config, service.partitions[labels.topic], observers),
        further=[KafkaSource(each, service.partitions[each.topic], observers=observers) for each in others],
        decoder=decoder,
        until_eof=service.until_eof,
        observers=observers,
        resting=service.resting,
    )
    for each in source.topics:
        each.consumer.note = state_note(config)
    return source


def _open_source(config: Config, *, batches: bool, until_eof: bool) -> KafkaSource:
    cluster, labels = check_broker(config.source), labels_topic(config)
    recovery = config.recovery.model_copy(update={"directory": None})  # the state is where Bytewax has it
    join = context_of(config.replace(recovery=recovery), flow=True) if batches else None
    first, *others = config.source.each
    return KafkaSource(
        first,
        cluster.source_partitions(first),
        None if labels is None else label_source(config, cluster.source_partitions(labels)),
        further=[KafkaSource(each, cluster.source_partitions(each)) for each in others],
        decoder=(lambda: Decoder(config, join=join).decode) if batches else (lambda: _messages),
        until_eof=until_eof,
    )


def _messages(chunk: Chunk) -> list[Any]:
    """Return the messages of a chunk as those of Bytewax's source."""
    place: dict[str, Any] = {"topic": chunk.topic, "partition": chunk.partition}
    return [
        KafkaSourceMessage(
            each.key(),
            each.value(),
            headers=cast("list[tuple[str, bytes]]", headers_of(each)),
            offset=each.offset(),
            timestamp=each.timestamp(),
            **place,
        )
        for each in chunk.messages
    ]


def kafka_output(step_id: str, up: Stream[Any], config: Settings, *, service: Service | None = None) -> None:
    """Write messages to Kafka: an epoch ends when the broker has all of its messages, or the dataflow ends with its
    error.

    Args:
        step_id: unique name of the step
        up: `MonitorOut.batches`, which are encoded in a thread of the sink; or messages of `encode`; or records
        config: as of `monitor`, with `source.brokers`; `sinks` has the topics
        service: of `ssm-stream run`; None in a dataflow of your own, whose messages are delivered at least once

    Raises:
        ConfigError: the configuration cannot be used.
        BrokerError: while the dataflow runs: the broker does not take a message.
    """
    if service is not None:
        parts = service.settings.writers
        op.output(step_id, up, DeferredSink(parts, lambda: service_sink(service)))
        return
    with explained_build():
        read_config(config)  # without `source` there is no broker
        settings = monitor_config(config, step_id, registry=True)
    routed = op.flat_map_batch(f"{step_id}_route", up, _Router(step_id, settings))
    op.output(step_id, routed, DeferredSink(settings.writers, lambda: KafkaSink(settings, UNOBSERVED)))


def service_sink(service: Service) -> KafkaSink:
    """Return the sink that `delivery` requires; its transactions cover all topics that are read."""
    if service.config.delivery == "at_least_once":
        return KafkaSink(service.config, service.observers)
    return TransactionalSink(service.config, dict(service.partitions), service.observers)


class _Router:
    """Gives each message a writer by its key, so that the messages of one key keep their order."""

    def __init__(self, step: str, config: Config) -> None:
        self._step, self._config = step, config
        self._encoder = MessageEncoder(step, config)

    def __call__(self, items: list[Any]) -> list[tuple[str, PredictedBatch | OutputBatch]]:
        """Return batches by writer."""
        out: list[tuple[str, PredictedBatch | OutputBatch]] = []
        records: dict[int, list[ProducerRecord]] = {}
        unsent = self._config.sinks.alerts is None
        with explained():
            for item in items:
                if type(item) is tuple and len(item) == 2 and isinstance(item[1], PredictedBatch | OutputBatch):
                    key, batch = item
                    if unsent and isinstance(batch, OutputBatch):
                        batch = without_alerts(batch)
                    out.append((key, batch))
                    continue
                messages = self._encoder([item]) if isinstance(item, Prediction | Alert | RefusedEvent) else [item]
                for message in messages:
                    record = self._record(message)
                    key = record.key.encode() if isinstance(record.key, str) else record.key or b""
                    records.setdefault(zlib.crc32(key) % self._config.writers, []).append(record)
        topic = self._config.source.topic
        return out + [
            (shard_key(writer), OutputBatch(topic, 0, NO_OFFSET, NO_OFFSET, own)) for writer, own in records.items()
        ]

    def _record(self, message: Any) -> ProducerRecord:
        topic = getattr(message, "topic", None)
        if topic is None or not hasattr(message, "value"):
            raise ItemError(
                f"step {self._step!r}: found {type(message).__name__}, expected batches or records of "
                "ssm_stream.operators, or a KafkaSinkMessage with a topic: encode it first"
            )
        return ProducerRecord(topic, message.key, message.value, list(message.headers or []), NO_OFFSET)
