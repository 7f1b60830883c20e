"""The contents of messages that a flow has written, for whoever reads its topics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from ssm_stream.kafka.records import Message


def contents_of(
    messages: Iterable[Message], read: Callable[[bytes | None], bytes | None]
) -> Iterator[tuple[bytes | str | None, dict[str, Any]]]:
    """Yield key and content of messages; what is no JSON object is left out. read: from a value to its JSON"""
    for message in messages:
        try:
            content = orjson.loads(read(message.value()) or b"")
        except orjson.JSONDecodeError:
            continue
        if isinstance(content, dict):
            yield message.key(), content
