"""JSON Schema of the file as it is written: before placeholders are filled in, so that any value may be one."""

from __future__ import annotations

from typing import Any

from ssm_stream.config.config import config_schema

PLACEHOLDER = r"\$\{(file:[^}]*|[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?)\}"
"""Found in a text in which the file has one."""
ABOUT = ("title", "description", "default", "examples")
"""Keys of a schema that are about the value, and refuse none."""


def file_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file, for editors."""
    schema = config_schema()
    return {name: _written(part) if name in ("$defs", "properties") else part for name, part in schema.items()}


def _written(part: Any) -> Any:
    """Return a part of the schema whose texts, numbers and switches may be placeholders."""
    if isinstance(part, list):
        return [_written(each) for each in part]
    if not isinstance(part, dict):
        return part
    # Not what refuses nothing, nor names: placeholders are values.
    found = {name: each if name in (*ABOUT, "propertyNames") else _written(each) for name, each in part.items()}
    kind = part.get("type")
    if kind in ("integer", "number", "boolean") and not {"enum", "const"} & part.keys():
        return found | {"type": [kind, "string"], "pattern": PLACEHOLDER}  # `minimum` is for numbers alone
    if isinstance(part.get("pattern"), str) and kind == "string":
        return found | {"pattern": f"{part['pattern']}|{PLACEHOLDER}"}
    if kind in ("string", "integer", "number", "boolean") and {"enum", "const"} & part.keys():
        about = {name: each for name, each in found.items() if name in ABOUT}
        only = {name: each for name, each in found.items() if name not in ABOUT}
        return {**about, "anyOf": [only, {"type": "string", "pattern": PLACEHOLDER}]}
    return found
