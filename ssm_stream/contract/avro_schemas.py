"""Avro schemas of the messages that are written, made from their JSON Schemas.

Texts of a fixed set stay texts, as later releases add to them. What is not in every message of a topic (an alert of an
entity has no `pool`) is null where it is missing. Times are `timestamp-millis`.
"""

from __future__ import annotations

from typing import Any

from ssm_stream.config import Config
from ssm_stream.contract.message_schemas import alert_schema, prediction_schema, suppressed_schema
from ssm_stream.contract.path_schema import Schema
from ssm_stream.contract.summary_schema import summary_schema

NAMESPACE = "io.ssm_stream"
TIMES = frozenset({"ts", "for", "since", "hour", "last", "silent_since"})
TIMESTAMP = {"type": "long", "logicalType": "timestamp-millis"}
PLAIN = {"integer": "long", "number": "double", "boolean": "boolean", "string": "string"}
ORDER = ("null", "boolean", "long", "double", "string")
"""Order of the branches of a union of plain types."""


def prediction_avro(config: Config) -> dict[str, Any]:
    """Return the Avro schema of a prediction."""
    return avro_schema("Prediction", prediction_schema(config))


def alert_avro(config: Config) -> dict[str, Any]:
    """Return the Avro schema of an alert."""
    return avro_schema("Alert", alert_schema(config))


def suppressed_avro(config: Config) -> dict[str, Any]:
    """Return the Avro schema of a suppressed alert."""
    return avro_schema("SuppressedAlert", suppressed_schema(config))


def summary_avro(config: Config) -> dict[str, Any]:
    """Return the Avro schema of an hourly summary."""
    return avro_schema("Summary", summary_schema(config))


def avro_schema(name: str, schema: Schema) -> dict[str, Any]:
    """Return the Avro schema of the messages that a closed JSON Schema has, or one of several (`oneOf`)."""
    found = _record(name, schema.get("oneOf") or [schema])
    return {**found, "namespace": NAMESPACE, "doc": schema.get("description", schema.get("title", name))}


def _record(name: str, schemas: list[Schema]) -> dict[str, Any]:
    fields: dict[str, list[Schema]] = {}
    for schema in schemas:
        for key, value in schema["properties"].items():
            fields.setdefault(key, []).append(value)
    return {
        "type": "record",
        "name": name,
        "fields": [
            _field(name, key, found, everywhere=all(key in schema["required"] for schema in schemas))
            for key, found in _ordered(fields, schemas)
        ],
    }


def _ordered(fields: dict[str, list[Schema]], schemas: list[Schema]) -> list[tuple[str, list[Schema]]]:
    """Return the fields in the order of the first schema, with those of the others at the end."""
    return [(key, fields[key]) for key in dict.fromkeys(key for schema in schemas for key in schema["properties"])]


def _field(record: str, key: str, schemas: list[Schema], *, everywhere: bool) -> dict[str, Any]:
    branches = [branch for schema in schemas for branch in _branches(record, key, schema)]
    if not everywhere or branches == ["null"]:
        branches.append("null")
        if key in TIMES:
            branches.append(TIMESTAMP)
    distinct = [branch for i, branch in enumerate(branches) if branch not in branches[:i]]
    if "null" in distinct:
        distinct.sort(key=lambda branch: branch != "null")
    doc = next((schema["description"] for schema in schemas if "description" in schema), None)
    return {
        "name": key,
        "type": distinct[0] if len(distinct) == 1 else distinct,
        **({"default": None} if distinct[0] == "null" else {}),
        **({"doc": doc} if doc else {}),
    }


def _branches(record: str, key: str, schema: Schema) -> list[Any]:
    """Return the Avro types that a JSON Schema allows."""
    if "anyOf" in schema:
        return [branch for option in schema["anyOf"] for branch in _branches(record, key, option)]
    if "const" in schema:
        return [_type_of(schema["const"])]
    if "enum" in schema:
        return sorted({_type_of(value) for value in schema["enum"]}, key=ORDER.index)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return [_type(record, key, kind, schema) for kind in kinds]


def _type(record: str, key: str, kind: str, schema: Schema) -> Any:
    name = f"{record}{''.join(part.capitalize() for part in key.split('_'))}"
    if kind == "array" and schema["items"].get("type") != "object":
        return {"type": "array", "items": _branches(record, key, schema["items"])[0]}
    if kind == "array":
        return {"type": "array", "items": _record(name, [schema["items"]])}
    if kind == "object":
        return _record(name, [schema])
    if kind == "integer" and key in TIMES:
        return TIMESTAMP
    return PLAIN.get(kind, kind)


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    return "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "double"
