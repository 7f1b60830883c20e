"""Decodes messages of the events topic as the dataflow would, and counts the results."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ssm_stream.config import Config
from ssm_stream.kafka.dead_letters import refusal_of
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.records import Chunk, LabelBatch, Message, OutputBatch, ShardBatch


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
    if config.event.features == "auto":
        event = config.event.model_copy(update={"features": [], "lags": max(config.event.lags, 1)})
        config = config.replace(event=event)
    by_partition: dict[int, list[Message]] = {}
    for message in messages:
        by_partition.setdefault(message.partition() or 0, []).append(message)
    topic = (messages[0].topic() if messages else None) or config.source.topic
    decoder, refused, example = Decoder(config), Counter[str](), ""
    events = labels = unlabelled = 0
    partition_of: dict[str, int] = {}
    split_entity: str | None = None
    for partition, some in by_partition.items():
        for _, item in decoder.decode(Chunk(topic, partition, some)):
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
