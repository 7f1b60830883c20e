"""Decodes messages of the events topic as the dataflow would, and counts the results."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.ingest.timestamps import OTHER_TIME
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.dead_letters import refusal_of
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.records import Chunk, LabelBatch, Message, OutputBatch, ShardBatch, offset_of, timestamp_of
from ssm_stream.kafka.topic_reader import read_topic

NEWEST = 20
"""Messages of a partition, from its end, whose times set the time of the stream."""
LATEST = 1000
"""Messages of a partition, from its end, whose entities are those that send now."""
TIMEOUT = 10.0
"""Seconds that the broker has for them."""


class SampleCounts(NamedTuple):
    """What messages became.

    messages: all of them; events, labels: among them; refused: fault → how often; example: one refusal in words
    split_entity: an entity that came by two partitions; unlabelled: events without a target
    partition_by_entity: of each entity, the partition of its first event among them
    """

    messages: int
    events: int
    labels: int
    refused: Counter[str]
    example: str
    split_entity: str | None
    unlabelled: int
    partition_by_entity: dict[str, int]


def decode_sample(config: Config, messages: list[Message]) -> SampleCounts:
    """Decode these messages of an events topic and count the results; with `features: auto`, without the features."""
    topic = (messages[0].topic() if messages else None) or config.source.topic
    refused, example = Counter[str](), ""
    events = labels = unlabelled = 0
    partition_of: dict[str, int] = {}
    split_entity: str | None = None
    for partition, item in _decoded(config, topic, messages):
        if isinstance(item, OutputBatch):
            for record in item.others:
                fault, reason = refusal_of(record)
                refused[fault] += 1
                example = example or f"{topic}-{partition}-{record.offset}: {reason}"
        elif isinstance(item, LabelBatch):
            labels += len(item.labels)
        elif isinstance(item, ShardBatch):
            events += len(item.events)
            if not config.event.makes_rows:
                labelled = item.events.target == item.events.target
                unlabelled += int((~(labelled if labelled.ndim == 1 else labelled.any(axis=1))).sum())
            for name in item.events.entity:
                if partition_of.setdefault(name, partition) != partition:
                    split_entity = split_entity or name
    return SampleCounts(len(messages), events, labels, refused, example, split_entity, unlabelled, partition_of)


def _decoded(config: Config, topic: str, messages: list[Message]) -> Iterator[tuple[int, Any]]:
    """Yield what the dataflow makes of messages of an events topic, each with its partition."""
    if config.event.features == "auto":
        event = config.event.model_copy(update={"features": [], "lags": max(config.event.lags, 1)})
        config = config.replace(event=event)
    by_partition: dict[int, list[Message]] = {}
    for message in messages:
        by_partition.setdefault(message.partition() or 0, []).append(message)
    decoder = Decoder(config)
    for partition, some in by_partition.items():
        for _, item in decoder.decode(Chunk(topic, partition, some)):
            yield partition, item


def stream_time(config: Config) -> int:
    """Return the time of the stream now, ms: by the wall clock, or by the last events where their time is more than an
    hour away from when they came, as in a recording. By the wall clock, too, where they cannot be read."""
    away = list[int]()
    for each in config.source.each:
        try:
            messages = read_topic(each.model_copy(update={"wait": min(each.wait, TIMEOUT)}), last=NEWEST)
            messages.sort(key=offset_of)
            came = {(message.partition() or 0, offset_of(message)): timestamp_of(message) for message in messages}
            for partition, item in _decoded(config, each.topic, messages):
                if isinstance(item, ShardBatch):
                    for ts, offset in zip(item.events.ts.tolist(), item.offsets, strict=True):
                        if (stamp := came.get((partition, offset))) is not None:
                            away.append(ts - stamp[0])
        except BrokerError:
            continue
    now, between = 1000 * time.time(), statistics.median(away) if away else 0
    return round(now + between if abs(between) > OTHER_TIME else now)


def latest_entities(config: Config) -> list[str]:
    """Return the entities of the last messages of the events topics; none where they cannot be read."""
    found = dict[str, None]()
    for each in config.source.each:
        try:
            messages = read_topic(each.model_copy(update={"wait": min(each.wait, TIMEOUT)}), last=LATEST)
            for _, item in _decoded(config, each.topic, messages):
                if isinstance(item, ShardBatch):
                    found.update(dict.fromkeys(item.events.entity))
        except BrokerError:
            continue
    return list(found)
