"""Messages to documents, for a recording."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import orjson

from ssm_stream.config import Config
from ssm_stream.evaluate.recordings.topic_file import Places
from ssm_stream.ingest.events import RefusedDocument, not_an_object
from ssm_stream.ingest.formats import message_format
from ssm_stream.ingest.message_fields import MessageFields
from ssm_stream.kafka.context.topic import context_of
from ssm_stream.kafka.decoder import add_fields, parse_each, strip_frame
from ssm_stream.kafka.records import Message


class MessageParser:
    """Parses messages as the decoder does, and counts those that are no documents.

    Attributes:
        unreadable: their number by fault
        example: the first of them in words
    """

    def __init__(self, config: Config) -> None:
        self._config, self._format = config, message_format(config.event)
        self._fields, self._join = MessageFields(config), context_of(config)
        self.unreadable, self.example = Counter[str](), ""

    def __call__(self, messages: list[Message], places: Places) -> tuple[list[dict[str, Any]], Places]:
        """Return the documents, and their places."""
        event = self._config.event
        values: list[bytes | None] = list(map(Message.value, messages))
        if event.framed:
            values = list(map(strip_frame, values))
        if self._format is orjson.loads:
            try:
                documents = list(map(orjson.loads, values))  # type: ignore[arg-type]  # None raises, too
                if set(map(type, documents)) == {dict} and max(map(len, values)) <= event.max_bytes:  # type: ignore[arg-type]
                    self._add(documents, messages, None)
                    return documents, places
            except orjson.JSONDecodeError:
                pass
        refused: list[RefusedDocument] = []
        found, positions = parse_each(values, refused, event.max_bytes, self._format)
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
            self._join(documents)
