"""Avro: the content of a message by its schema → a document.

fastavro reads it; `flat_avro` is a shorter way for records without nesting. Logical types become what JSON has
(`values`), under names of this module: those of fastavro would make Python objects, and are others' too.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import orjson
from fastavro.read import LOGICAL_READERS

from ssm_stream.ingest.json_values import text_of
from ssm_stream.kafka.formats.flat_avro import flat_reader
from ssm_stream.kafka.formats.registry import FetchedSchema
from ssm_stream.kafka.formats.values import date_text, decimal_number, local_time, time_writer

PREFIX = "ssm-stream"
UNITS = {"millis": "ms", "micros": "us", "nanos": "ns"}
NAMED = ("record", "error", "enum", "fixed")
Read = Callable[[bytes, int, bytes | None], Any]
"""Returns the document in a value, whose content begins at a place."""


def avro_reader(schema: FetchedSchema, timestamp_format: str) -> Read:
    """Return the function that reads messages of a schema. timestamp_format: of the times in its documents

    Raises:
        ValueError: the schema cannot be used.
    """
    names: dict[str, Any] = {}
    for _, text in schema.references:
        fastavro.parse_schema(_Preparation(timestamp_format).prepare(orjson.loads(text)), names)
    parsed = fastavro.parse_schema(_Preparation(timestamp_format).prepare(orjson.loads(schema.text)), names)
    schemaless_reader = fastavro.schemaless_reader
    flat = flat_reader(parsed) if isinstance(parsed, dict) else None

    def read(value: bytes, start: int, _indexes: bytes | None) -> Any:
        if flat is not None and (found := flat(value, start)) is not None:
            return found
        content = BytesIO(value)
        content.seek(start)
        try:
            document = schemaless_reader(content, parsed, None)
        except (EOFError, IndexError) as error:
            if isinstance(error, EOFError) or str(error).startswith("string"):  # within a whole number
                raise EOFError(f"a value goes beyond the end of the content, {len(value) - start} bytes") from error
            raise IndexError("a value names a branch of a union, or a symbol of an enum, that is not there") from error
        if content.tell() != len(value):
            raise ValueError(f"{len(value) - content.tell()} bytes are left over")
        return document

    return read


class _Preparation:
    """Replaces the logical types of a schema by those of this module."""

    def __init__(self, timestamp_format: str) -> None:
        self._format = timestamp_format
        self._open: list[str] = []

    def prepare(self, schema: Any, namespace: str = "") -> Any:
        """Return the schema, with the logical types of this module.

        Raises:
            ValueError: a record contains itself: its depth would have no bound.
        """
        if isinstance(schema, str):
            if schema == "bytes":
                return self._logical({"type": "bytes"}, "text", _text)
            full = schema if "." in schema or not namespace else f"{namespace}.{schema}"
            if full in self._open or schema in self._open:
                raise ValueError(f"the record {schema} contains itself; such schemas are not read")
            return schema
        if isinstance(schema, list):
            return [self.prepare(branch, namespace) for branch in schema]
        if not isinstance(schema, dict):
            raise ValueError(f"found {schema!r}, which is no schema")
        kind = schema.get("type")
        if kind in NAMED:
            name = str(schema.get("name", ""))
            namespace = name.rpartition(".")[0] or str(schema.get("namespace") or namespace)
            name = name if "." in name or not namespace else f"{namespace}.{name}"
        if kind in ("record", "error"):
            self._open.append(name)
            fields = [{**each, "type": self.prepare(each["type"], namespace)} for each in schema["fields"]]
            self._open.pop()
            return {**schema, "fields": fields}
        if kind == "array":
            return {**schema, "items": self.prepare(schema["items"], namespace)}
        if kind == "map":
            return {**schema, "values": self.prepare(schema["values"], namespace)}
        if isinstance(kind, dict | list):
            return self.prepare(kind, namespace)
        if "logicalType" in schema or kind in ("bytes", "fixed"):
            return self._of_logical(schema)
        if isinstance(kind, str) and kind not in NAMED:
            self.prepare(kind, namespace)  # a name, or a primitive with properties
        return schema

    def _of_logical(self, schema: dict[str, Any]) -> Any:
        kind, logical = schema["type"], str(schema.get("logicalType", ""))
        name, _, unit = logical.rpartition("-")
        if kind == "long" and name == "timestamp" and unit in UNITS:
            write = time_writer(UNITS[unit], self._format)
            return self._logical(schema, f"{logical}-{self._format}", lambda data, _, __: write(data))
        if kind == "long" and name == "local-timestamp" and unit in UNITS:
            local = local_time(UNITS[unit])
            return self._logical(schema, logical, lambda data, _, __: local(data))
        if (kind, logical) == ("int", "date"):
            return self._logical(schema, logical, lambda data, _, __: date_text(data))
        if (kind, logical) in (("int", "time-millis"), ("long", "time-micros")):
            divisor = 1_000 if unit == "millis" else 1_000_000
            return self._logical(schema, logical, lambda data, _, __: data / divisor)
        if kind in ("bytes", "fixed") and logical == "decimal":
            scale = int(schema.get("scale", 0))
            return self._logical(schema, f"decimal-{scale}", _decimal(scale))
        if kind in ("bytes", "fixed"):
            return self._logical(schema, "text", _text)
        return {key: value for key, value in schema.items() if key != "logicalType"}  # as what it is stored as

    def _logical(self, schema: dict[str, Any], name: str, read: Callable[[Any, Any, Any], Any]) -> dict[str, Any]:
        """Return the schema with a logical type of this module."""
        name = f"{PREFIX}-{name}"
        LOGICAL_READERS.setdefault(f"{schema['type']}-{name}", read)
        return {**schema, "logicalType": name}


def _text(data: bytes, _schema: object, _reader: object) -> str:
    return text_of(data)


def _decimal(scale: int) -> Callable[[bytes, object, object], float]:
    def read(data: bytes, _schema: object, _reader: object) -> float:
        return decimal_number(int.from_bytes(data, "big", signed=True), scale)

    return read
