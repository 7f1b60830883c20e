"""Whether messages that lie on the topic now can be used by a configuration: decoded as the flow would, and counted."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from confluent_kafka import Message

from ssm_stream.config import Config
from ssm_stream.kafka.codec import Chunk, Decoder, LabelBatch, Output, ShardBatch


class Sampled(NamedTuple):
    """messages: looked at; events, labels: among them; refused: reason → how often; example: one such, in words
    astray: an entity that came by two partitions; unlabelled: events without a target"""

    messages: int
    events: int
    labels: int
    refused: Counter[str]
    example: str
    astray: str | None
    unlabelled: int


def decode_sample(config: Config, messages: list[Message]) -> Sampled:
    """What becomes of these messages of the events topic. With `features: auto`, features are not looked at."""
    if config.event.features == "auto":
        event = config.event.model_copy(update={"features": [], "lags": max(config.event.lags, 1)})
        config = config.model_copy(update={"event": event})
    by_partition: dict[int, list[Message]] = {}
    for message in messages:
        by_partition.setdefault(message.partition() or 0, []).append(message)
    decode, refused, example = Decoder(config), Counter[str](), ""
    events = labels = unlabelled = 0
    home: dict[str, int] = {}
    astray: str | None = None
    for partition, some in by_partition.items():
        for _, item in decode(Chunk(config.source.topic, partition, some)):
            if isinstance(item, Output):
                for record in item.others:
                    said = dict(record.headers or [])
                    text = str(said["__connect.errors.exception.message"], "utf-8")  # type: ignore[arg-type]
                    refused[record.sent.labels[-1] if record.sent is not None else "other"] += 1
                    example = example or f"{config.source.topic}-{partition}-{record.offset}: {text}"
            elif isinstance(item, LabelBatch):
                labels += len(item.labels)
            elif isinstance(item, ShardBatch):
                events += len(item.events)
                known = item.events.target == item.events.target
                unlabelled += int((~(known if known.ndim == 1 else known.any(axis=1))).sum())
                for name in item.events.entity:
                    if home.setdefault(name, partition) != partition:
                        astray = astray or name
    return Sampled(len(messages), events, labels, refused, example, astray, unlabelled)
