"""Flat Avro records: what is read without fastavro equals its result, whatever the schema and the bytes."""

from __future__ import annotations

import json
import math
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.kafka.formats.avro import avro_reader
from ssm_stream.kafka.formats.flat_avro import flat_reader
from ssm_stream.kafka.formats.registry import FetchedSchema

PLAIN: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "double": ("double", st.floats()),
    "float": ("float", st.floats(width=32)),
    "long": ("long", st.integers(-(2**63), 2**63 - 1)),
    "int": ("int", st.integers(-(2**31), 2**31 - 1)),
    "string": ("string", st.text(max_size=200)),
    "boolean": ("boolean", st.booleans()),
    "enum": ({"type": "enum", "name": "Letter", "symbols": ["A", "B"]}, st.sampled_from("AB")),
    "time": ({"type": "long", "logicalType": "timestamp-millis"}, st.integers(-(10**12), 10**13)),
    "date": ({"type": "int", "logicalType": "date"}, st.integers(-700_000, 2_900_000)),
}


@st.composite
def records(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema, and a record of it."""
    fields, row, named = [], dict[str, Any](), False
    for i, name in enumerate(draw(st.lists(st.sampled_from([*PLAIN, *["double"] * 6]), min_size=1, max_size=12))):
        kind, values = PLAIN[name]
        if name == "enum":
            kind, named = ("Letter" if named else kind), True
        form = draw(st.sampled_from([None, 0, 1]))
        schema = kind if form is None else [kind, "null"] if form else ["null", kind]
        fields.append({"name": f"f{i}", "type": schema})
        row[f"f{i}"] = draw(values if form is None else st.none() | values)
    return {"type": "record", "name": "E", "fields": fields}, row


def slowly(schema: dict[str, Any], value: bytes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What fastavro alone reads; the type of the error, where there is one."""
    with monkeypatch.context() as patched:
        patched.setattr("ssm_stream.kafka.formats.avro.flat_reader", lambda _: None)
        read = avro_reader(FetchedSchema("AVRO", json.dumps(schema)), "auto")
    try:
        return read(value, 0, None)
    except Exception as error:  # noqa: BLE001
        return type(error)


def quickly(schema: dict[str, Any], value: bytes) -> Any:
    try:
        return avro_reader(FetchedSchema("AVRO", json.dumps(schema)), "auto")(value, 0, None)
    except Exception as error:  # noqa: BLE001
        return type(error)


def alike(a: Any, b: Any) -> bool:
    """Equal, and NaN as NaN; a float is no integer."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return bool(a == b)
    return list(a) == list(b) and all(
        type(x) is type(y) and (x == y or (isinstance(x, float) and math.isnan(x) and math.isnan(y)))
        for x, y in zip(a.values(), b.values(), strict=True)
    )


@settings(max_examples=300)
@given(made=records(), cut=st.integers(0, 200), junk=st.binary(max_size=40), at=st.integers(0, 200))
def test_the_result_is_that_of_fastavro(
    made: tuple[dict[str, Any], dict[str, Any]], cut: int, junk: bytes, at: int
) -> None:
    schema, row = made
    content = BytesIO()
    fastavro.schemaless_writer(content, fastavro.parse_schema(schema), row)
    value = content.getvalue()
    with pytest.MonkeyPatch.context() as patch:
        for each in (value, value[:cut], value + junk, value[:at] + junk + value[at + len(junk) :], junk):
            assert alike(quickly(schema, each), slowly(schema, each, patch)), (schema, each)


def test_flat_records_need_no_fastavro() -> None:
    fields = [{"name": "e", "type": "string"}, {"name": "t", "type": "long"}, {"name": "a", "type": ["null", "double"]}]
    fields += [{"name": name, "type": "double"} for name in "bcd"]
    schema: Any = fastavro.parse_schema({"type": "record", "name": "E", "fields": fields})
    read = flat_reader(schema)
    assert read is not None
    for row in ({"e": "m1", "t": 2**40, "a": 1.5, "b": 1.0, "c": 2.0, "d": 3.0}, {"e": "x" * 200, "t": -1, "a": None}):
        row = {"b": 0.0, "c": 0.0, "d": 0.0, **row}
        content = BytesIO()
        fastavro.schemaless_writer(content, schema, row)
        assert read(content.getvalue(), 0) == row
        assert read(content.getvalue()[:-1], 0) is None
    for other in ({"type": "array", "items": "double"}, ["null", "double", "string"], "bytes"):
        parsed: Any = fastavro.parse_schema(
            {"type": "record", "name": "E", "fields": [*fields, {"name": "z", "type": other}]}
        )
        assert flat_reader(parsed) is None
