"""Rows of a recording → messages in `event.format`, for a replay."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date
from decimal import Decimal
from io import BytesIO
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from ssm_stream.config import Config, Event
from ssm_stream.ingest.json_values import bytes_of
from ssm_stream.ingest.timestamps import iso_to_ms, ms_to_iso, number_to_ms
from ssm_stream.kafka.formats.registry import FetchedSchema, RegistryError, UnknownSchemaError, open_registry

Row = dict[str, Any]
PER_MS = {"millis": 1, "micros": 1_000, "nanos": 1_000_000}
WHOLE, REAL = ("int", "long"), ("float", "double")


class RowError(ValueError):
    """A row does not fit the schema of its topic. The text has the field and the value."""


def row_encoder(config: Config) -> Callable[[Row], bytes] | None:
    """Return the function that writes rows in Avro or Protobuf, by the latest schema of the topic's subject; None: they
    are sent as JSON.

    Raises:
        RegistryError: the registry does not answer, refuses, or has no such schema.
    """
    if config.event.format not in ("avro", "protobuf"):
        return None
    subject = f"{config.source.topic}-value"
    try:
        number, schema = open_registry(config).latest(subject)
    except UnknownSchemaError as error:
        cure = f"register the schema of the events as {subject}, or set event.format: auto, which reads JSON, too"
        raise RegistryError(str(error), cure) from None
    if schema.kind.lower() != config.event.format:
        cure = f"set event.format: {schema.kind.lower()}"
        raise RegistryError(f"subject {subject}: its latest schema is of the type {schema.kind}", cure)
    frame = struct.pack(">bI", 0, number)
    return (_AvroRows if schema.kind == "AVRO" else _ProtobufRows)(schema, frame, config.event).encode


class _AvroRows:
    def __init__(self, schema: FetchedSchema, frame: bytes, event: Event) -> None:
        import fastavro

        self._names: dict[str, Any] = {}
        for _, text in schema.references:
            fastavro.parse_schema(orjson.loads(text), self._names)
        self._schema = fastavro.parse_schema(orjson.loads(schema.text), self._names)
        self._write, self._frame, self._time = fastavro.schemaless_writer, frame, _time_reader(event)

    def encode(self, row: Row) -> bytes:
        """Return the message of a row. Raises RowError."""
        content = BytesIO()
        content.write(self._frame)
        self._write(content, self._schema, self._value(self._schema, _nested(row), ""))
        return content.getvalue()

    def _value(self, schema: Any, value: Any, path: str) -> Any:
        """Return a value as fastavro takes it for a schema."""
        if isinstance(schema, str) and schema in self._names:
            schema = self._names[schema]
        if isinstance(schema, list):
            return self._of_union(schema, value, path)
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind == "record" and isinstance(value, dict):
            fields = {}
            for each in schema["fields"]:
                name = each["name"]
                if name in value or "default" not in each:
                    fields[name] = self._value(each["type"], value.get(name), f"{path}{name}.")
            return fields
        if kind == "array" and isinstance(value, list):
            return [self._value(schema["items"], item, path) for item in value]
        if kind == "map" and isinstance(value, dict):
            return {key: self._value(schema["values"], item, f"{path}{key}.") for key, item in value.items()}
        try:
            return self._plain(kind, "" if isinstance(schema, str) else schema.get("logicalType", ""), value)
        except (TypeError, ValueError, ArithmeticError):
            raise RowError(f"`{path.rstrip('.')}`: found {value!r}, which is no {kind} of the schema") from None

    def _of_union(self, branches: list[Any], value: Any, path: str) -> Any:
        if value is None and "null" in branches:
            return None
        for branch in branches:
            try:
                return self._value(branch, value, path)
            except RowError:
                continue
        raise RowError(f"`{path.rstrip('.')}`: found {value!r}, which is none of {branches}")

    def _plain(self, kind: str, logical: str, value: Any) -> Any:
        """Raises TypeError, ValueError: the value does not fit."""
        name, _, unit = logical.rpartition("-")
        if name == "timestamp" and unit in PER_MS:
            return round(self._time(value) * PER_MS[unit])
        if logical == "date" and isinstance(value, str):
            return (date.fromisoformat(value[:10]) - date(1970, 1, 1)).days
        if logical == "decimal":
            return Decimal(str(value))
        if kind in WHOLE and (type(value) is int or (type(value) is float and value.is_integer())):
            return int(value)
        if kind in REAL and type(value) in (int, float):
            return float(value)
        fits = {"null": type(None), "boolean": bool, "string": str, "enum": str}
        if kind == "bytes" and isinstance(value, str):
            return bytes_of(value)
        if isinstance(value, fits.get(kind, ())):
            return value
        if kind == "string" and type(value) is int:
            return str(value)
        raise ValueError


class _ProtobufRows:
    def __init__(self, schema: FetchedSchema, frame: bytes, event: Event) -> None:
        from google.protobuf import message_factory

        from ssm_stream.kafka.formats.protobuf import compile_schema

        described = next(iter(compile_schema(schema).message_types_by_name.values()))
        self._class, self._frame, self._time = message_factory.GetMessageClass(described), frame, _time_reader(event)
        stamps = ("google.protobuf.Timestamp",)
        self._times = [
            each.name for each in described.fields if each.message_type and each.message_type.full_name in stamps
        ]

    def encode(self, row: Row) -> bytes:
        """Return the message of a row. Raises RowError."""
        from google.protobuf.json_format import ParseDict, ParseError

        document = {key: value for key, value in _nested(row).items() if value is not None}
        try:
            for name in self._times:
                if name in document:
                    document[name] = ms_to_iso(int(self._time(document[name])))
            return self._frame + b"\0" + bytes(ParseDict(document, self._class(), True).SerializeToString())
        except (ParseError, TypeError, ValueError) as error:
            raise RowError(str(error)[:200]) from None


def _time_reader(event: Event) -> Callable[[Any], float]:
    """Return the function from a time as a row has it to ms since 1970."""
    zone = UTC if event.time_zone == "UTC" else ZoneInfo(event.time_zone)

    def read(value: Any) -> float:
        if isinstance(value, str):
            return iso_to_ms(value, zone)
        if type(value) not in (int, float):
            raise TypeError
        return number_to_ms(value, "auto" if event.timestamp_format == "iso" else event.timestamp_format)

    return read


def _nested(row: Row) -> Row:
    """Return a row whose columns have dots in their names as objects within objects."""
    if not any("." in key for key in row):
        return row
    out: Row = {}
    for key, value in row.items():
        inside = out
        *above, name = key.split(".")
        for part in above:
            inside = inside.setdefault(part, {})
        inside[name] = value
    return out
