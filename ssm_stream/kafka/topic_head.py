"""The first messages of a topic, read before the dataflow starts."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ssm_stream.config import Config, ConfigError, Source
from ssm_stream.kafka.formats.framing import schema_key
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.formats.registry import UnknownSchemaError, open_registry
from ssm_stream.kafka.records import Message
from ssm_stream.kafka.topic_reader import FROM_BEGINNING, open_topic


def sample_documents(config: Config, partitions: tuple[int, ...], n: int) -> tuple[list[Any], list[Message]]:
    """Return documents from the beginning of the partitions, of what is there now, and the messages that they are from;
    no documents if the topic is empty or has none in `event.format`.

    Raises:
        BrokerError: the broker, or the schema registry, refuses or does not answer.
    """
    messages = _first_messages(config.source, partitions, n, until_eof=True)
    return parse_documents(config, messages), messages


def first_documents(config: Config, partitions: tuple[int, ...], n: int, *, until_eof: bool) -> list[Any]:
    """Return documents from the beginning of the partitions, from each as evenly as they come.

    With too few on the topic it waits for more, `source.wait` seconds at most, but with `until_eof` not at all.

    Raises:
        BrokerError: the broker, or the schema registry, refuses or does not answer.
        ConfigError: no message can be read, or none came.
    """
    source = config.source
    messages = _first_messages(source, partitions, n, until_eof=until_eof)
    if documents := parse_documents(config, messages):
        return documents
    found = f"none of its first {len(messages)} messages is JSON, or in event.format" if messages else "it is empty"
    raise ConfigError(
        f"event.features: auto: there is nothing to select features from on topic {source.topic!r} ({found}): start "
        "when there are events, or list the features"
    )


def parse_documents(config: Config, messages: list[Message]) -> list[Any]:
    """Return the documents in messages, without those that cannot be read.

    Raises:
        RegistryError: the schema registry refuses, or does not answer.
    """
    values, headers = [message.value() for message in messages], [message.headers() for message in messages]
    return message_format(config).parse(values, [], headers)[0]  # the others will be dead letters


def names_schema(message: Message) -> bool:
    """Return whether a message names a schema of a registry."""
    return schema_key(message.value(), message.headers()) is not None


def format_of(config: Config, messages: list[Message]) -> str:
    """Return the `event.format` that reads messages which `auto` reads: `auto` where they differ.

    Raises:
        RegistryError: the schema registry refuses, or does not answer.
    """
    if config.schema_registry is None:
        return "json"
    kinds, registry = set[str](), open_registry(config)
    for key in {schema_key(message.value(), message.headers()) for message in messages}:
        with contextlib.suppress(UnknownSchemaError):
            kinds.add("json" if key is None else registry.fetch(key).kind.lower())
    return kinds.pop() if len(kinds) == 1 else "auto"


def _first_messages(source: Source, partitions: tuple[int, ...], n: int, *, until_eof: bool) -> list[Message]:
    """Return up to n messages, the first of each partition before the second of any.

    Raises:
        BrokerError: no message came, and not all partitions are empty.
    """
    share = -(-n // len(partitions))
    found: dict[int, list[Message]] = {partition: [] for partition in partitions}
    ended: set[int] = set()
    deadline = time.monotonic() + source.wait
    with open_topic(source) as reader:
        for messages, at_end in reader.poll(dict.fromkeys(partitions, FROM_BEGINNING), n):
            for message in messages:
                some = found[message.partition() or 0]
                if len(some) < n:
                    some.append(message)
                if len(some) == n:
                    reader.pause(message.partition() or 0)
            ended = ended.difference(message.partition() for message in messages) | at_end
            enough = sum(map(len, found.values())) >= n
            # A partition that has its share, or no more, need not be waited for.
            served = all(len(some) >= share or partition in ended for partition, some in found.items())
            if served and (enough or (until_eof and ended.issuperset(p for p in found if len(found[p]) < n))):
                break
            if time.monotonic() >= deadline:
                break
        if not any(found.values()) and len(ended) < len(partitions):
            raise reader.silence()
    rounds = sorted((i, partition) for partition, some in found.items() for i in range(len(some)))
    return [found[partition][i] for i, partition in rounds[:n]]
