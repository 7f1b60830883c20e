"""`message_format`: how the values of a topic's messages become documents."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from ssm_stream.config import Config
from ssm_stream.config.sections.own_parts import load_part
from ssm_stream.config.sections.registry import OF_REGISTRY
from ssm_stream.ingest.events import RefusedDocument
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.formats import FormatError, OwnFormat
from ssm_stream.kafka.formats.framing import ID_BYTES, AnyHeaders, frame_in_headers, frame_of, strip_frame
from ssm_stream.kafka.formats.schema_readers import SchemaError, SchemaReaders

Values = Sequence[bytes | None]
HeadersOf = Sequence[AnyHeaders]
NO_NUMBER = re.compile(r"[^-\w]?(-?(?:NaN|nan|Infinity|inf))\b")
"""What programs write in place of a number, from the character before the place at which the parser stops."""
Places = list[int] | None
"""Positions of the documents among the values; None: all values are documents."""


class MessageFormat:
    """Reads messages in JSON, with a schema registry's frame before it or without one.

    max_bytes: of a value; a larger one is refused without being read
    """

    needs_headers = False
    """Whether a header of a message may name its schema."""
    unit = "a JSON object"
    """What an event is, for the reasons of dead letters."""

    def __init__(self, max_bytes: float) -> None:
        self._max_bytes = max_bytes

    def parse(
        self, values: Values, refused: list[RefusedDocument], headers: HeadersOf | None = None
    ) -> tuple[list[Any], Places]:
        """Return the documents in the values, and their positions; append those that cannot be read to `refused`.

        Args:
            headers: of each message, where the format `needs_headers`

        Raises:
            RegistryError: the schema registry refuses, or does not answer.
        """
        documents, positions = list[Any](), list[int]()
        for i, value in enumerate(values):
            refusal = self._parse(i, value, None if headers is None else headers[i], documents)
            if refusal is None:
                positions.append(i)
            else:
                refused.append(refusal)
        return documents, positions

    def _parse(
        self, position: int, value: bytes | None, headers: AnyHeaders, documents: list[Any]
    ) -> RefusedDocument | None:
        """Append the document in a value, or return why there is none."""
        if value is None:
            return RefusedDocument(position, Fault.TOMBSTONE, f"the value is null; an event is {self.unit}")
        if not value:
            return RefusedDocument(position, Fault.EMPTY, f"the value is empty; an event is {self.unit}")
        if len(value) > self._max_bytes:
            return RefusedDocument(position, Fault.TOO_LARGE, too_large_reason(len(value), self._max_bytes))
        try:
            documents.append(self.read(value, headers))
        except orjson.JSONDecodeError as error:
            return _not_json(position, value, error)
        except FormatError as error:
            return RefusedDocument(position, Fault.FORMAT_FAILED, str(error))
        except SchemaError as error:
            return RefusedDocument(position, error.fault, str(error))
        return None

    def read(self, value: bytes, headers: AnyHeaders = None) -> Any:
        """Return the document in a value.

        Raises:
            orjson.JSONDecodeError, FormatError, SchemaError: it cannot be read.
            RegistryError: the schema registry refuses, or does not answer.
        """
        return orjson.loads(strip_frame(value) or b"")


class JsonFormat(MessageFormat):
    """JSON, many values at a time."""

    def parse(
        self, values: Values, refused: list[RefusedDocument], headers: HeadersOf | None = None
    ) -> tuple[list[Any], Places]:
        if max_size(values) <= self._max_bytes:
            try:
                return list(map(orjson.loads, values)), None  # type: ignore[arg-type]
            except orjson.JSONDecodeError:
                pass  # at least one is bad, or has a frame
        return super().parse(values, refused)


class OwnMessageFormat(MessageFormat):
    """A format that another package brings."""

    def __init__(self, max_bytes: float, own: OwnFormat) -> None:
        super().__init__(max_bytes)
        self._own = own

    def read(self, value: bytes, headers: AnyHeaders = None) -> Any:
        return self._own(value)


class SchemaFormat(MessageFormat):
    """Messages that name their schema, in a frame or a header."""

    needs_headers, unit = True, "a message of a schema"

    def __init__(self, config: Config, name: str, max_bytes: float, timestamp_format: str) -> None:
        super().__init__(max_bytes)
        self._auto = name == "auto"
        self._readers = SchemaReaders(config, None if self._auto else name.upper(), timestamp_format)
        self._known = self._readers.by_prefix

    def parse(
        self, values: Values, refused: list[RefusedDocument], headers: HeadersOf | None = None
    ) -> tuple[list[Any], Places]:
        if max_size(values) > self._max_bytes or (headers is not None and any(headers)):
            return super().parse(values, refused, headers)
        # As almost always: framed, and by schemas that are known.
        known, documents, positions = self._known, list[Any](), list[int]()
        for i, value in enumerate(values):
            try:
                documents.append(known[value[:ID_BYTES]](value, ID_BYTES, None))  # type: ignore[index,arg-type]
            except Exception:  # noqa: BLE001  # of any reader: read again, it gets its reason
                if (refusal := self._parse(i, value, None, documents)) is not None:
                    refused.append(refusal)
                    continue
            positions.append(i)
        return documents, positions

    def read(self, value: bytes, headers: AnyHeaders = None) -> Any:
        try:
            frame = frame_in_headers(headers) or frame_of(value)
        except ValueError as error:
            raise SchemaError(Fault.UNKNOWN_SCHEMA, str(error)) from None
        if frame is None:
            return self._read_unnamed(value)
        return self._readers.read(frame, value)

    def _read_unnamed(self, value: bytes) -> Any:
        """Return the document in a value that names no schema."""
        if self._auto:
            return orjson.loads(value)
        cure = "; event.format: auto reads JSON, too" if value[:1] in b"{ \n\t" else ""
        raise SchemaError(Fault.UNKNOWN_SCHEMA, f"the message names no schema: it begins with {value[:5].hex()}{cure}")


def message_format(config: Config, *, labels: bool = False) -> MessageFormat:
    """Return what reads the messages of the events topic, or of topics of labels or facts: those are in JSON, or in the
    format of a schema that they name.

    Raises:
        ConfigError: the format is not installed, or cannot be imported.
        RegistryError: the packages that it needs are not installed.
    """
    name, max_bytes = config.event.format, config.source.max_message_bytes
    if name in OF_REGISTRY:
        return SchemaFormat(config, "auto" if labels else name, max_bytes, config.event.timestamp_format)
    if name == "json" or labels:
        return JsonFormat(max_bytes)
    return OwnMessageFormat(max_bytes, OwnFormat(name, load_part("format", name)))


def output_format(config: Config) -> MessageFormat:
    """Return what reads the predictions and alerts that were written with a configuration, or with an earlier one.

    Raises:
        RegistryError: the packages that it needs are not installed.
    """
    if config.schema_registry is None:
        return JsonFormat(math.inf)
    return SchemaFormat(config, "auto", math.inf, "ms")


def alert_reader(config: Config) -> Callable[[bytes | None], bytes | None]:
    """Return a function from an alert's message to its content as JSON; what cannot be read stays as it is.

    Raises:
        RegistryError: the packages that it needs are not installed.
    """
    if config.sinks.format == "json":
        return strip_frame
    read = output_format(config).read

    def as_json(value: bytes | None) -> bytes | None:
        try:
            return value and orjson.dumps(read(value))
        except (SchemaError, orjson.JSONDecodeError):
            return value

    return as_json


def max_size(values: Values) -> int:
    """Return the size of the largest value."""
    try:
        return max(map(len, values), default=0)  # type: ignore[arg-type]  # a TypeError where one is None
    except TypeError:
        return max(map(len, filter(None, values)), default=0)


def too_large_reason(size: int, max_bytes: float) -> str:
    """Return the reason of a dead letter with the fault TooLarge."""
    return f"the value has {size} bytes, more than {max_bytes} (source.kafka: max.partition.fetch.bytes)"


def _not_json(position: int, value: bytes, error: orjson.JSONDecodeError) -> RefusedDocument:
    if (frame := frame_of(value)) is not None:
        reason = (
            f"what follows the frame of schema {frame.key} is not JSON: {str(error)[:200]}; if it is Avro or Protobuf, "
            "set event.format"
        )
        return RefusedDocument(position, Fault.NOT_JSON, reason)
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return RefusedDocument(
            position, Fault.NOT_UTF8, f"byte {wrong.start} (0x{value[wrong.start]:02x}) is not UTF-8"
        )
    reason = str(error)[:200]
    if (found := NO_NUMBER.match(text, max(error.pos - 1, 0))) is not None:
        reason = f"{found[1]} is no number of JSON, where no value is null: char {found.start(1)}"
    return RefusedDocument(position, Fault.NOT_JSON, f"not JSON: {reason}")
