"""The partition of each message of a topic that is not keyed by entity."""

from __future__ import annotations

from ssm_stream.config import Config
from ssm_stream.evaluate.pools import partition_of
from ssm_stream.ingest.events import RefusedDocument
from ssm_stream.ingest.json_values import is_utf8
from ssm_stream.ingest.message_fields import MessageFields
from ssm_stream.ingest.rows.names import entity_getter
from ssm_stream.kafka.bounded_cache import BoundedCache
from ssm_stream.kafka.decoder import add_fields
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.records import Message


class EntityPartitions:
    """Chooses the partition of each message: that of its entity, as a producer that keys by it would.

    A message without an entity stays with its neighbours: its partition is the remainder of the one it comes from.

    partitions: number of partitions of the topic that is copied to
    """

    def __init__(self, config: Config, partitions: int) -> None:
        self._partitions, self._default = partitions, config.event.entity_default
        self._format, self._fields = message_format(config), MessageFields(config)
        self._get = entity_getter(config.event)
        self._of: BoundedCache[int] = BoundedCache(lambda name: partition_of(name, partitions))

    def __call__(self, messages: list[Message]) -> list[int]:
        """Return the partition of each message."""
        out = [(message.partition() or 0) % self._partitions for message in messages]
        refused: list[RefusedDocument] = []
        headers = [message.headers() for message in messages] if self._format.needs_headers else None
        documents, places = self._format.parse([message.value() for message in messages], refused, headers)
        add_fields(self._fields, documents, messages, places)
        at, names = [], []
        for i, document in zip(range(len(documents)) if places is None else places, documents, strict=True):
            name = self._get(document) if type(document) is dict else None
            name = self._default if name is None else name
            if type(name) is int or (type(name) is str and is_utf8([name])):
                at.append(i)
                names.append(str(name))
        for i, partition in zip(at, self._of.values_of(names), strict=True):
            out[i] = partition
        return out
