"""Readers by schema: each is fetched and compiled once a process, when the first message names it."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from typing import Any

import orjson

from ssm_stream.config import Config
from ssm_stream.ingest.faults import Fault, describe_exception
from ssm_stream.kafka.formats.framing import Frame
from ssm_stream.kafka.formats.registry import (
    EXTRA,
    FetchedSchema,
    RegistryError,
    SchemaRegistry,
    UnknownSchemaError,
    open_registry,
)

Read = Callable[[bytes, int, bytes | None], Any]
"""Returns the document in a value, from where its content begins; of a Protobuf message whose frame is a header, with
the indexes that it has there."""


class SchemaError(ValueError):
    """A message cannot be read by the schema that it names. The text has the schema and the reason."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


class SchemaReaders:
    """The readers of one format.

    kind: of schemas that are read; None: all
    timestamp_format: of the times in documents

    Attributes:
        by_prefix: the readers of the schemas that were met, by the frame of their messages
    """

    def __init__(self, config: Config, kind: str | None, timestamp_format: str) -> None:
        self._registry, self._kind = open_registry(config), kind
        self._timestamp_format = timestamp_format
        self.by_prefix: dict[bytes, Read] = {}
        _require_packages(kind)

    def read(self, frame: Frame, value: bytes) -> Any:
        """Return the document in a message.

        Raises:
            SchemaError: the schema is not there, or is of another kind, or the message does not fit it.
            RegistryError: the registry refuses, or does not answer.
        """
        where = f"schema {frame.key}"
        try:
            schema = self._registry.fetch(frame.key)
        except UnknownSchemaError as error:
            raise SchemaError(Fault.UNKNOWN_SCHEMA, str(error)) from None
        if self._kind not in (None, schema.kind):
            cure = f"event.format: {schema.kind.lower()}, or auto, reads it"
            raise SchemaError(
                Fault.SCHEMA_MISMATCH, f"{where} is of the type {schema.kind}, expected {self._kind}; {cure}"
            )
        try:
            read = _compiled(self._registry, frame.key, schema, self._timestamp_format)
        except ValueError as error:
            raise SchemaError(Fault.SCHEMA_MISMATCH, f"{where} cannot be used: {error}") from None
        if frame.indexes is None and isinstance(frame.key, int):
            self.by_prefix[value[: frame.content]] = read
        try:
            return read(value, frame.content, frame.indexes)
        except MemoryError:
            raise
        except Exception as error:  # of fastavro and protobuf; on bytes of others it may be any
            reason = str(error) if isinstance(error, ValueError) else describe_exception(error)
            raise SchemaError(Fault.SCHEMA_MISMATCH, f"the message does not fit {where}: {reason[:300]}") from error


_READERS: dict[tuple[int, int | str, str], Read | ValueError] = {}
"""Registry, schema and `event.timestamp_format` → the reader, or why there is none."""
_LOCK = threading.Lock()


def _compiled(registry: SchemaRegistry, key: int | str, schema: FetchedSchema, timestamp_format: str) -> Read:
    """Return the reader of a schema. Raises ValueError: the schema cannot be used."""
    place = (id(registry), key, timestamp_format)  # a registry that is open stays so
    with _LOCK:
        if place not in _READERS:
            try:
                _READERS[place] = _compile(schema, timestamp_format)
            except RegistryError:
                raise
            except Exception as error:  # noqa: BLE001  # of the text of others
                _READERS[place] = ValueError(describe_exception(error, 500))
        found = _READERS[place]
    if isinstance(found, ValueError):
        raise found
    return found


def _compile(schema: FetchedSchema, timestamp_format: str) -> Read:
    if schema.kind == "AVRO":
        from ssm_stream.kafka.formats.avro import avro_reader

        return avro_reader(schema, timestamp_format)
    if schema.kind == "PROTOBUF":
        from ssm_stream.kafka.formats.protobuf import protobuf_reader

        return protobuf_reader(schema, timestamp_format)
    if schema.kind == "JSON":
        return lambda value, start, _indexes: orjson.loads(value[start:])
    raise ValueError(f"its type {schema.kind} is not known")


def _require_packages(kind: str | None) -> None:
    """Raises RegistryError: the extra is not installed."""
    packages = {"AVRO": ["fastavro"], "PROTOBUF": ["google.protobuf", "grpc_tools"]}
    needed = [name for each, names in packages.items() if kind in (each, None) for name in names]
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise RegistryError(
            f"event.format: {(kind or 'auto').lower()} needs packages that are not installed ({', '.join(missing)})",
            f"install them: {EXTRA}",
        )
