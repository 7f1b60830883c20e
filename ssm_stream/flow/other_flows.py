"""Whether other flows write to the topics of a flow's results, by their latest messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from ssm_stream.config import Config, Source
from ssm_stream.config.own_messages import OwnMessages
from ssm_stream.kafka.client import BrokerError, with_topic
from ssm_stream.kafka.cluster import Cluster
from ssm_stream.kafka.formats.messages import output_format
from ssm_stream.kafka.formats.registry import RegistryError
from ssm_stream.kafka.formats.schema_readers import SchemaError
from ssm_stream.kafka.topic_reader import open_topic

LATEST = 50
"""Messages of a partition, from its end, that are read."""
READ_TIMEOUT = 10.0
"""Seconds for the reading of a topic."""
NAME = "other flows"
"""Of the check."""


def other_flows(config: Config, cluster: Cluster) -> list[tuple[str, bool, str, str]]:
    """Return a warning for each topic of predictions or alerts whose latest messages are another flow's, in part: name,
    whether a run may rely on it, finding and cure. What cannot be read is not known, and is no fault."""
    own, out = OwnMessages(config), list[tuple[str, bool, str, str]]()
    for key, topic, is_own in (
        ("predictions", config.sinks.predictions, own.has_prediction),
        ("alerts", config.sinks.alerts, own.has_alert),
        ("suppressed", config.sinks.suppressed, own.has_alert),
    ):
        if topic is None or topic not in cluster.topics:
            continue
        try:
            found = list(_latest(config, with_topic(config.source, topic), cluster))
        except (BrokerError, RegistryError):
            continue
        foreign = [each for each in found if not is_own(each)]
        if foreign:
            what = f"{len(foreign)} of the last {len(found)} messages of {topic} are another flow's"
            out.append((NAME, True, f"{what}, such as {foreign[-1].get('id')}", _cure(config, key)))
    return out


def _cure(config: Config, key: str) -> str:
    shared = "; a topic that one ssm-stream notify serves for all of them may stay" if key == "alerts" else ""
    return (
        f"name topics in `sinks` that no other flow writes to, here {key}: {config.source.topic}-{key}, and for "
        f"summaries, too, which do not show whose they are{shared}"
    )


def _latest(config: Config, source: Source, cluster: Cluster) -> Iterator[dict[str, Any]]:
    """Yield the contents of the last messages of a topic.

    Raises:
        BrokerError: it cannot be read.
        RegistryError: its schemas cannot be read.
    """
    message_format = output_format(config)
    with open_topic(source.model_copy(update={"wait": min(source.wait, READ_TIMEOUT)})) as reader:
        for messages in reader.read(reader.spans(cluster.partitions_of(source.topic), last=LATEST)):
            for message in messages:
                try:
                    content = message_format.read(message.value() or b"")
                except (SchemaError, orjson.JSONDecodeError):
                    continue
                if isinstance(content, dict):
                    yield content
