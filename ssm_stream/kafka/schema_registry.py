"""Confluent's schema registry: registers the schemas of predictions and alerts, and frames the messages.

A framed message is a zero byte, the schema's id (four bytes, the highest first), and the JSON. Subjects are named after
their topics: `TOPIC-value`.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

from ssm_stream.config import Config, Registry
from ssm_stream.config.client_properties import REDACTED
from ssm_stream.contract.message_schemas import alert_schema, prediction_schema, suppressed_schema
from ssm_stream.kafka.client import BrokerError

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The schemas use only what this and the newer drafts share, as some registries lack the newer ones."""


class RegistryError(BrokerError):
    """The schema registry cannot be used. The text has the reason and the cure."""


class Frames(NamedTuple):
    """The first bytes of a prediction, an alert and a suppressed alert; empty without a registry."""

    prediction: bytes = b""
    alert: bytes = b""
    suppressed: bytes = b""


_cache: dict[tuple[str, str, str], bytes] = {}
"""URL, subject and schema → the frame: all writers of a process need the same."""


def resolve_frames(config: Config) -> Frames:
    """Register the schemas, or find them where `register_schemas` is off, and return the frames of their messages.

    Raises:
        RegistryError: the registry does not answer, refuses, or lacks a schema while `register_schemas` is off.
    """
    sinks = config.sinks
    if sinks.schema_registry is None:
        return Frames()
    predictions = None if sinks.predictions is None else _frame(config, sinks.predictions, prediction_schema(config))
    alerts = None if sinks.alerts is None else _frame(config, sinks.alerts, alert_schema(config))
    suppressed = None if sinks.suppressed is None else _frame(config, sinks.suppressed, suppressed_schema(config))
    return Frames(predictions or b"", alerts or b"", suppressed or b"")


def _frame(config: Config, topic: str, schema: dict[str, Any]) -> bytes:
    assert config.sinks.schema_registry is not None
    registry, subject = config.sinks.schema_registry, f"{topic}-value"
    text = json.dumps({"$schema": DRAFT, **schema}, ensure_ascii=False)
    key = (registry.url, subject, text)
    if key not in _cache:
        _cache[key] = struct.pack(">bI", 0, _schema_id(registry, subject, text, config.source.wait))
    return _cache[key]


def _schema_id(registry: Registry, subject: str, text: str, wait: float) -> int:
    try:
        from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
        from confluent_kafka.schema_registry.error import SchemaRegistryError
    except ImportError as error:
        raise RegistryError(
            f"sinks.schema_registry: the client of the schema registry is not installed ({error.name})",
            "install it: pip install -e '.[registry]', or leave sinks.schema_registry out",
        ) from None
    where = f"schema registry {registry.url}, subject {subject}"
    schema = Schema(text, "JSON")
    try:
        client = SchemaRegistryClient({"timeout": wait, **registry.properties, "url": registry.url})
        if registry.register_schemas:
            found = client.register_schema(subject, schema)
        else:
            found = int(client.lookup_schema(subject, schema).schema_id or 0)
    except SchemaRegistryError as error:
        reason = _redact(str(error.error_message), registry)
        raise RegistryError(
            f"{where}: {reason} (HTTP {error.http_status_code})", _cure(error.http_status_code)
        ) from None
    except Exception as error:  # noqa: BLE001  # the client lets the errors of its HTTP library through
        reason = _redact(str(error) or type(error).__name__, registry)
        cure = "start the registry, or correct sinks.schema_registry (url, properties)"
        raise RegistryError(f"{where}: {reason}", cure) from None
    return found


def _cure(status: int) -> str:
    if status in (401, 403):
        return (
            "give the login in sinks.schema_registry.properties (basic.auth.user.info), or the user the right to the "
            "subject"
        )
    if status == 404:
        return "register it: ssm-stream schema prediction (alert) prints it; or set register_schemas: true"
    if status == 409:
        return (
            "the messages have changed in a way that the subject's compatibility forbids: write to another topic, or "
            "change the compatibility"
        )
    return "see the registry's log"


def _redact(text: str, registry: Registry) -> str:
    for value in registry.properties.values():
        if isinstance(value, str) and len(value) > 2:
            text = text.replace(value, REDACTED)
    return text
