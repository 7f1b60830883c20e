"""Predictions and alerts as their messages: JSON or Avro, with the id of their schema where there is a registry.

A message with an id begins with a zero byte and the schema's id (four bytes, the highest first). Subjects are named
after their topics: `TOPIC-value`.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import orjson

from ssm_stream.config import Config
from ssm_stream.contract.avro_schemas import alert_avro, prediction_avro, summary_avro, suppressed_avro
from ssm_stream.contract.message_schemas import alert_schema, prediction_schema, suppressed_schema
from ssm_stream.contract.summary_schema import summary_schema
from ssm_stream.kafka.formats.registry import EXTRA, RegistryError, open_registry

SchemaOf = Callable[[Config], dict[str, Any]]
DRAFT = "http://json-schema.org/draft-07/schema#"
"""The schemas use only what this and the newer drafts share, as some registries lack the newer ones."""


class Output(NamedTuple):
    """How the messages of one topic are written.

    frame: their first bytes; empty without a registry
    schema: of Avro, as fastavro has it; None: JSON
    """

    frame: bytes = b""
    schema: Any = None

    def encode(self, document: dict[str, Any]) -> bytes:
        """Return the message with a document."""
        if self.schema is None:
            return self.frame + orjson.dumps(document)
        return self._in_avro(document)

    def of_json(self, value: bytes) -> bytes:
        """Return the message with the document in a JSON text."""
        return self.frame + value if self.schema is None else self._in_avro(orjson.loads(value))

    def _in_avro(self, document: dict[str, Any]) -> bytes:
        import fastavro

        content = BytesIO()
        content.write(self.frame)
        fastavro.schemaless_writer(content, self.schema, document)
        return content.getvalue()


class Outputs(NamedTuple):
    """How predictions, alerts, suppressed alerts and summaries are written."""

    prediction: Output = Output()
    alert: Output = Output()
    suppressed: Output = Output()
    summary: Output = Output()


def open_outputs(config: Config) -> Outputs:
    """Register the schemas, or find them where `register_schemas` is off, and return how messages are written.

    Raises:
        RegistryError: the registry does not answer, refuses, or lacks a schema while `register_schemas` is off; or the
            packages for it are missing.
    """
    if config.schema_registry is None:
        return Outputs()
    sinks = config.sinks
    if sinks.format == "json":
        return Outputs(
            _in_json(config, sinks.predictions, prediction_schema),
            _in_json(config, sinks.alerts, alert_schema),
            _in_json(config, sinks.suppressed, suppressed_schema),
            _in_json(config, sinks.summaries, summary_schema),
        )
    if importlib.util.find_spec("fastavro") is None:
        raise RegistryError(
            "sinks.format: avro needs a package that is not installed (fastavro)", f"install it: {EXTRA}"
        )
    return Outputs(
        _in_avro(config, sinks.predictions, prediction_avro),
        _in_avro(config, sinks.alerts, alert_avro),
        _in_avro(config, sinks.suppressed, suppressed_avro),
        _in_avro(config, sinks.summaries, summary_avro),
    )


def _in_json(config: Config, topic: str | None, schema_of: SchemaOf) -> Output:
    if topic is None:
        return Output()
    text = json.dumps({"$schema": DRAFT, **schema_of(config)}, ensure_ascii=False)
    return Output(_frame(config, topic, text, "JSON"))


def _in_avro(config: Config, topic: str | None, schema_of: SchemaOf) -> Output:
    import fastavro

    if topic is None:
        return Output()
    schema = schema_of(config)
    return Output(_frame(config, topic, json.dumps(schema, ensure_ascii=False), "AVRO"), fastavro.parse_schema(schema))


def _frame(config: Config, topic: str, text: str, kind: str) -> bytes:
    return struct.pack(">bI", 0, open_registry(config).register(f"{topic}-value", text, kind))
