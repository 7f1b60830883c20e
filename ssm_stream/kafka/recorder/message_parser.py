"""Messages to documents, for a recording."""

from __future__ import annotations

from collections import Counter
from operator import methodcaller
from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.evaluate.recordings.topic_file import Places
from ssm_stream.ingest.events import RefusedDocument, not_an_object
from ssm_stream.ingest.message_fields import MessageFields
from ssm_stream.kafka.context.topic import context_of
from ssm_stream.kafka.decoder import add_fields
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.records import Message, timestamp_of
from ssm_stream.kafka.wire.messages import values_of


class MessageParser:
    """Parses messages as the decoder does, and counts those that are no documents.

    Attributes:
        unreadable: their number by fault
        example: the first of them in words
    """

    def __init__(self, config: Config) -> None:
        self._config, self._format = config, message_format(config)
        self._fields, self._join = MessageFields(config), context_of(config)
        self.unreadable, self.example = Counter[str](), ""

    def __call__(self, messages: list[Message], places: Places) -> tuple[list[dict[str, Any]], Places]:
        """Return the documents, and their places."""
        headers = list(map(methodcaller("headers"), messages)) if self._format.needs_headers else None
        refused: list[RefusedDocument] = []
        found, positions = self._format.parse(values_of(messages), refused, headers)
        if positions is None:
            if set(map(type, found)) == {dict}:
                self._add(found, messages, None)
                return found, places
            positions = list(range(len(found)))
        pairs = list(zip(positions, found, strict=True))
        refused += [not_an_object(at, each) for at, each in pairs if type(each) is not dict]
        kept = [(at, each) for at, each in pairs if type(each) is dict]
        for each in sorted(refused):
            self.unreadable[str(each.fault)] += 1
            topic, partition = self._config.source.place(int(places.partition[each.position]))
            place = f"{topic}-{partition}-{places.offset[each.position]}"
            self.example = self.example or f"{place}: {each.reason}"
        rows = np.array([at for at, _ in kept], np.int64)
        self._add([each for _, each in kept], messages, rows.tolist())
        keys = [places.keys[i] for i in rows.tolist()]
        return [each for _, each in kept], Places(places.partition[rows], places.offset[rows], places.ts[rows], keys)

    def _add(self, documents: list[Any], messages: list[Message], positions: list[int] | None) -> None:
        """Add what is not in the values: keys, headers and context."""
        add_fields(self._fields, documents, messages, positions)
        if self._join is not None:
            stamps = [timestamp_of(messages[i]) for i in (positions or range(len(messages)))]
            self._join(documents, [None if stamp is None else stamp[0] for stamp in stamps])
