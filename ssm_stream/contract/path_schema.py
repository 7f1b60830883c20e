"""JSON Schema of what lies at a path: where a reader finds it, and what must be there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ssm_stream.config.paths import Step, head_of, joined_keys, parse_path

Schema = dict[str, Any]


def add_schema(properties: dict[str, Schema], steps: Sequence[Step], schema: Schema) -> None:
    """Add a schema at the steps to what is there already; of the elements of a list there is none."""
    first, *rest = steps
    assert isinstance(first, str), "the first step is a key"
    if rest and isinstance(rest[0], str):
        add_schema(properties.setdefault(first, {}).setdefault("properties", {}), rest, schema)
    elif rest:
        properties.setdefault(first, {})
    elif first not in properties:
        properties[first] = {**schema}
    elif properties[first] != schema:  # one path in two roles, or one that ends where another goes on
        properties[first].setdefault("allOf", []).append(schema)


def schema_at(path: str, schema: Schema) -> Schema:
    """Return the schema of an object that has, where the reader finds it, something at the path that is valid."""
    steps = parse_path(path)
    if len(steps) == 1:
        return _within(steps, schema)
    head, rest = head_of(path)
    ways, before = [_within([path], schema)], [path]
    if rest and head != steps[0]:
        ways.append({"not": {"required": [path]}, **_within([head, *rest], schema)})
        before.append(head)
    absent = [{"required": [key]} for key in before]
    without = {"not": {"anyOf": absent} if len(absent) > 1 else absent[0]}
    return {"anyOf": [*ways, {**without, **_within(steps, schema)}]}


def _within(steps: Sequence[Step], schema: Schema) -> Schema:
    """Return the schema of an object that has something at the steps that is valid; the first of them is a key."""
    first, *rest = steps
    inside = _below(rest, schema)
    return {"required": [first], **({"properties": {first: inside}} if inside else {})}


def _below(steps: Sequence[Step], schema: Schema) -> Schema:
    """Return the schema of a value that has something at the steps that is valid."""
    if not steps:
        return schema
    first, *rest = steps
    if isinstance(first, str):
        inside, one_key = _within(steps, schema), joined_keys(steps)
        if one_key:
            inside = {"anyOf": [_within([one_key], schema), {"not": {"required": [one_key]}, **inside}]}
        return {"type": "object", **inside}
    if isinstance(first, int):
        inside = _below(rest, schema)
        element = {"prefixItems": [*({} for _ in range(first)), inside]} if inside else {}
        return {"type": "array", "minItems": first + 1, **element}
    named = {"type": "object", "required": [first.key], "properties": {first.key: {"enum": _spellings(first.value)}}}
    inside = _below(rest, schema)
    return {"type": "array", "contains": {"allOf": [named, inside]} if inside else named}


def _spellings(value: str) -> list[Any]:
    """Return the JSON values that a path's `[key=value]` matches."""
    try:
        found = json.loads(value)
    except ValueError:
        return [value]
    return [value, found] if isinstance(found, bool | int | float) else [value]
