"""Events in Avro and Protobuf, by Confluent's own serializers and a real registry: documents, evolution, results.

The registry is Apicurio, one for the file; where there is none (SCHEMA_REGISTRY_HOME), tests say so and are skipped.
"""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import os
import re
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import orjson
import pytest
from brokers import Kafka
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import message_factory
from jsonschema import Draft7Validator
from registry import real_registry, registry_obstacle
from test_cli import command
from test_contract import Flow
from test_decoder import FakeMessage
from test_init import plant, ssm_stream
from test_recording_forms import NAMES
from test_stream import Job, events

from ssm_stream.autoconfig.feature_selection import select_features
from ssm_stream.config import Config, load_config, parse_config
from ssm_stream.contract.asyncapi import asyncapi
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.flow import doctor
from ssm_stream.ingest.events import EventReader, RefusedDocument
from ssm_stream.ingest.faults import describe_exception
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.formats.avro import avro_reader
from ssm_stream.kafka.formats.messages import alert_reader, message_format
from ssm_stream.kafka.formats.protobuf import compile_schema, protobuf_reader
from ssm_stream.kafka.formats.registry import FetchedSchema
from ssm_stream.kafka.records import Chunk, LabelBatch
from ssm_stream.kafka.replay import encode_row
from ssm_stream.ui.alert_episodes import AlertEpisodes
from ssm_stream.ui.entity_cache import EntityCache

DATA = Path(os.environ.get("SSM_STREAM_DATA") or Path(__file__).parents[2] / "shared" / "data")
UTC = datetime.UTC


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the registry is; the test is skipped if there is none."""
    if (obstacle := registry_obstacle()) is not None:
        pytest.skip(obstacle)
    with real_registry() as found:
        yield found


@pytest.fixture
def client(url: str) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": url})


@pytest.fixture
def subject() -> str:
    return f"events-{uuid.uuid4().hex[:8]}-value"


def config(url: str, event: str = "format: avro", more: str = "") -> Config:
    return parse_config(
        "source: {brokers: 'localhost:9092', topic: plant.events, wait: 5s}\n"
        f"event: {{entity: machine, timestamp: at, target: temp, {event}}}\nschema_registry: {{url: '{url}'}}\n{more}"
    )


def read(made: Config, values: Sequence[bytes | None]) -> tuple[list[Any], list[RefusedDocument]]:
    refused: list[RefusedDocument] = []
    documents, _ = message_format(made).parse(values, refused, [None] * len(values))
    return documents, refused


def in_avro(schema: dict[str, Any], number: int, rows: Sequence[dict[str, Any]]) -> list[bytes]:
    parsed, out = fastavro.parse_schema(schema), []
    for row in rows:
        content = BytesIO()
        content.write(struct.pack(">bI", 0, number))
        fastavro.schemaless_writer(content, parsed, row)
        out.append(content.getvalue())
    return out


# Avro.

NESTED = {
    "type": "record",
    "name": "Reading",
    "namespace": "plant",
    "fields": [
        {"name": "machine", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "founded", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "shift", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}},
        {
            "name": "fee",
            "type": {"type": "fixed", "size": 8, "name": "Fee", "logicalType": "decimal", "precision": 10, "scale": 2},
        },
        {"name": "raw", "type": "bytes"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["RUN", "OFF"]}},
        {
            "name": "inner",
            "type": [
                "null",
                {
                    "type": "record",
                    "name": "Inner",
                    "fields": [
                        {"name": "value", "type": ["null", "double", "string"]},
                        {"name": "before", "type": ["null", "State"]},
                    ],
                },
            ],
        },
        {"name": "times", "type": {"type": "map", "values": {"type": "long", "logicalType": "timestamp-millis"}}},
        {"name": "list", "type": {"type": "array", "items": "Inner"}},
        {"name": "serial", "type": {"type": "string", "logicalType": "uuid"}},
    ],
}
ROW = {
    "machine": "m1",
    "at": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
    "founded": datetime.datetime(1971, 1, 1, tzinfo=UTC),
    "local": datetime.datetime(2026, 1, 1, 12),
    "day": datetime.date(2026, 5, 6),
    "shift": datetime.time(1, 2, 3, 4000),
    "price": decimal.Decimal("-12.345"),
    "fee": decimal.Decimal("3.25"),
    "raw": b"ab\xff",
    "state": "RUN",
    "inner": {"value": "hot", "before": "OFF"},
    "times": {"a": datetime.datetime(2026, 1, 1, tzinfo=UTC)},
    "list": [{"value": 1.5, "before": None}, {"value": None, "before": "RUN"}],
    "serial": uuid.UUID(int=5),
}


def test_nested_records_unions_and_logical_types_are_documents(url: str, client: SchemaRegistryClient) -> None:
    write = AvroSerializer(client, json.dumps(NESTED))
    value = write(ROW, SerializationContext("plant.nested", MessageField.VALUE))
    for name, form, at, founded in (
        ("avro", "auto", 1_767_323_045_678, "1971-01-01T00:00:00+00:00"),
        ("auto", "ms", 1_767_323_045_678.901, 31_536_000_000),
        ("avro", "us", 1_767_323_045_678_901, 31_536_000_000_000),
        ("avro", "s", 1_767_323_045.678901, 31_536_000.0),
        ("avro", "iso", "2026-01-02T03:04:05.678901+00:00", "1971-01-01T00:00:00+00:00"),
    ):
        made = config(url, f"timestamp_format: {form}, format: {name}")
        (document,), refused = read(made, [value])
        assert refused == []
        assert (document.pop("at"), document.pop("founded")) == (at, founded), "the time, in every format of times"
        document.pop("times")
        assert document == {
            "machine": "m1",
            "local": "2026-01-01T12:00:00",
            "day": "2026-05-06",
            "shift": 3723.004,
            "price": -12.345,
            "fee": 3.25,
            "raw": "ab\udcff",
            "state": "RUN",
            "inner": {"value": "hot", "before": "OFF"},
            "list": [{"value": 1.5, "before": None}, {"value": None, "before": "RUN"}],
            "serial": "00000000-0000-0000-0000-000000000005",
        }
        again, _ = read(made, [value])
        assert EventReader(made.event).read(again)[0].ts.tolist() == [1_767_323_045_678]


def test_paths_lead_into_records(url: str, client: SchemaRegistryClient) -> None:
    write = AvroSerializer(client, json.dumps(NESTED))
    rows = [{**ROW, "inner": inner} for inner in ({"value": 1.5, "before": None}, None)]
    values = [write(row, SerializationContext("plant.nested", MessageField.VALUE)) for row in rows]
    made = parse_config(
        "source: {brokers: a, topic: plant.events}\nevent: {entity: machine, timestamp: at, target: inner.value, "
        f"features: [price], categories: [inner.before, state], format: avro}}\nschema_registry: {{url: '{url}'}}"
    )
    found, refused = EventReader(made.event).read(read(made, values)[0])
    assert refused == []
    assert found.target[0] == 1.5
    assert found.target[1] != found.target[1], "unknown"
    assert found.features[:, 0].tolist() == [-12.345, -12.345]


def test_two_versions_of_a_schema_are_read_side_by_side(url: str, client: SchemaRegistryClient, subject: str) -> None:
    old = {"type": "record", "name": "E", "fields": [{"name": "machine", "type": "string"}]}
    old["fields"] += [{"name": "at", "type": "long"}, {"name": "temp", "type": "double"}]  # type: ignore[operator]
    new = {**old, "fields": [*old["fields"], {"name": "load", "type": ["null", "double"], "default": None}]}
    made = config(url, "features: [load], format: avro")
    reader = message_format(made)
    rows = [{"machine": "m1", "at": 1_700_000_000_000 + i, "temp": float(i), "load": 0.5 * i} for i in range(100)]
    first = in_avro(old, client.register_schema(subject, Schema(json.dumps(old), "AVRO")), rows)
    assert reader.parse(first, [])[0][7] == {"machine": "m1", "at": 1_700_000_000_007, "temp": 7.0}
    # Registered while it runs.
    second = in_avro(new, client.register_schema(subject, Schema(json.dumps(new), "AVRO")), rows)
    mixed = [value for pair in zip(first, second, strict=True) for value in pair]
    documents, positions = reader.parse(mixed, [])
    assert positions == list(range(200))
    assert documents[0::2] == [{key: row[key] for key in ("machine", "at", "temp")} for row in rows]
    assert documents[1::2] == rows


def test_schema_errors_are_dead_letters_with_the_id(url: str, client: SchemaRegistryClient, subject: str) -> None:
    schema = {"type": "record", "name": "E", "fields": [{"name": "machine", "type": "string"}]}
    number = client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
    (good,) = in_avro(schema, number, [{"machine": "m1"}])
    unknown = struct.pack(">bI", 0, 999_999) + good[5:]
    values = [good, good[:-1], good + b"!", unknown, b'{"machine":"m2"}', None, b"", b"\1" + bytes(16)]
    documents, refused = read(config(url), values)
    assert documents == [{"machine": "m1"}]
    assert [(each.position, str(each.fault)) for each in refused] == [
        (1, "SchemaMismatch"), (2, "SchemaMismatch"), (3, "UnknownSchema"), (4, "UnknownSchema"), (5, "Tombstone"),
        (6, "Empty"), (7, "UnknownSchema"),
    ]  # fmt: skip
    assert f"does not fit schema {number}: EOFError" in refused[0].reason
    assert f"schema {number}: 1 bytes are left over" in refused[1].reason
    assert "schema id 999999" in refused[2].reason
    assert "event.format: auto reads JSON" in refused[3].reason
    documents, refused = read(config(url, "format: auto"), values)
    assert documents == [{"machine": "m1"}, {"machine": "m2"}]
    documents, refused = read(config(url, "format: protobuf"), [good])
    assert f"schema {number} is of the type AVRO, expected PROTOBUF; event.format: avro, or auto" in refused[0].reason


FLOAT: dict[str, Any] = {"name": "load", "type": "float"}
UNION: dict[str, Any] = {"name": "mode", "type": ["null", {"type": "array", "items": "string"}]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0\0", "EOFError: a value goes beyond the end of the content, 2 bytes"),
        (b"\0\0\0\0\xff", "EOFError: a value goes beyond the end of the content, 5 bytes"),
        (b"\0\0\0\0\2\2\x0f", "EOFError: a value goes beyond the end of the content, 7 bytes"),
        (b"\0\0\0\0\4", "IndexError: a value names a branch of a union, or a symbol of an enum, that is not there"),
    ],
)
def test_a_broken_message_has_the_same_reason_each_time(content: bytes, reason: str) -> None:
    """And one that tells what is wrong: fastavro names the object in memory that it reads from."""
    schema = {"type": "record", "name": "E", "fields": [FLOAT, UNION]}
    reader = avro_reader(FetchedSchema("AVRO", json.dumps(schema)), "auto")
    for _ in range(2):
        with pytest.raises((EOFError, IndexError)) as error:
            reader(content, 0, None)
        assert describe_exception(error.value) == reason


def test_reasons_have_no_address_of_memory() -> None:
    error = TypeError(f"cannot read {object()!r} or {BytesIO()!r}")
    assert describe_exception(error) == "TypeError: cannot read <object object> or <_io.BytesIO object>"


def test_a_record_that_contains_itself_is_refused(url: str, client: SchemaRegistryClient, subject: str) -> None:
    """Its depth would have no bound, and fastavro's stack has one."""
    schema = {
        "type": "record",
        "name": "List",
        "namespace": "a",
        "fields": [{"name": "next", "type": ["null", "List"]}],
    }
    number = client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
    _, refused = read(config(url), [struct.pack(">bI", 0, number) + b"\2" * 100_000 + b"\0"])
    assert f"schema {number} cannot be used: ValueError: the record List contains itself" in refused[0].reason


def test_schemas_refer_to_others(url: str, client: SchemaRegistryClient, subject: str) -> None:
    place = {"type": "record", "name": "Place", "namespace": "plant"}
    place["fields"] = [{"name": "line", "type": "bytes"}]  # type: ignore[assignment]
    client.register_schema(f"{subject}-place", Schema(json.dumps(place), "AVRO"))
    schema = {"type": "record", "name": "E", "namespace": "plant", "fields": [{"name": "place", "type": "Place"}]}
    referred = [SchemaReference("plant.Place", f"{subject}-place", 1)]
    number = client.register_schema(subject, Schema(json.dumps(schema), "AVRO", referred))
    documents, refused = read(config(url), [struct.pack(">bI", 0, number) + b"\4L1"])
    assert (documents, refused) == ([{"place": {"line": "L1"}}], [])


def test_json_schema_is_one_of_the_formats_of_auto(url: str, client: SchemaRegistryClient) -> None:
    schema = {"title": "E", "type": "object", "properties": {"machine": {"type": "string"}}}
    write = JSONSerializer(json.dumps(schema), client)
    value = write({"machine": "m1"}, SerializationContext("plant.json", MessageField.VALUE))
    assert read(config(url, "format: auto"), [value, b'{"machine": "m2"}'])[0] == [{"machine": "m1"}, {"machine": "m2"}]


# Protobuf.

PLACE = 'syntax = "proto3"; package plant; message Place { string line = 1; double x = 2; }'
READING = """syntax = "proto3";
package plant;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/duration.proto";
import "google/type/date.proto";
import "confluent/type/decimal.proto";
import "confluent/meta.proto";
import "place.proto";
message Other { int32 a = 1; message Inner { string b = 1; } }
message Reading {
  enum State { OFF = 0; RUN = 1; }
  string machine = 1; google.protobuf.Timestamp at = 2; optional double temp = 3; double load = 4; State state = 5;
  Place place = 6; repeated double levels = 7; map<string, int64> counts = 8; google.protobuf.DoubleValue maybe = 9;
  google.protobuf.Duration took = 10; google.protobuf.Struct more = 11;
  oneof what { string word = 12; int32 number = 13; }
  bytes raw = 14; google.type.Date day = 15; confluent.type.Decimal price = 16; repeated Place places = 17;
  int64 serial = 18; Reading last = 19;
}
"""


def reading(file: Any) -> Any:
    made = message_factory.GetMessageClass(file.message_types_by_name["Reading"])
    found = made(machine="m1", temp=0.0, load=2.5, state=1, levels=[1, 2], raw=b"z", serial=2**60, word="w")
    found.at.FromJsonString("2026-01-02T03:04:05.678Z")
    found.place.line, found.counts["a"], found.maybe.value = "L", 3, 4.5
    found.took.FromMilliseconds(1500)
    found.more.update({"a": [1, None, {"b": True}]})
    found.day.year, found.day.month, found.day.day = 2026, 2, 3
    found.price.value, found.price.scale = b"\x04\xd2", 2
    found.places.add(line="P")
    found.last.machine = "m0"
    return found


DOCUMENT = {
    "machine": "m1", "at": 1_767_323_045_678, "temp": 0.0, "load": 2.5, "state": "RUN",
    "place": {"line": "L", "x": 0.0}, "levels": [1.0, 2.0], "counts": {"a": 3}, "maybe": 4.5, "took": 1.5,
    "more": {"a": [1.0, None, {"b": True}]}, "word": "w", "raw": "z", "day": "2026-02-03", "price": 12.34,
    "places": [{"line": "P", "x": 0.0}], "serial": 2**60,
}  # fmt: skip


def test_protobuf_messages_are_documents(url: str, client: SchemaRegistryClient, subject: str) -> None:
    file = compile_schema(FetchedSchema("PROTOBUF", READING, (("place.proto", PLACE),)))
    client.register_schema(f"{subject}-place", Schema(PLACE, "PROTOBUF"))
    referred = [SchemaReference("place.proto", f"{subject}-place", 1)]
    number = client.register_schema(subject, Schema(READING, "PROTOBUF", referred))
    frame = struct.pack(">bI", 0, number)
    inner = message_factory.GetMessageClass(file.message_types_by_name["Other"].nested_types[0])
    whole = reading(file).SerializeToString()
    values = [
        frame + b"\2\2" + whole, frame + b"\4\0\0" + inner(b="x").SerializeToString(), frame + b"\0\x08\7",
        frame + b"\2\2", frame + b"\2\2\xff", frame + b"\2\x08", frame + b"\2\1", frame + b"\2", frame,
    ]  # fmt: skip
    documents, refused = read(config(url, "format: protobuf"), values)
    last = documents[0].pop("last")
    assert (last["machine"], last["state"], "temp" in last) == ("m0", "OFF", False)
    assert documents[:3] == [DOCUMENT, {"b": "x"}, {"a": 7}]
    assert documents[3] == {
        "machine": "", "load": 0.0, "state": "OFF", "levels": [], "counts": {}, "raw": "", "places": [], "serial": 0,
    }  # fmt: skip
    assert [each.position for each in refused] == [4, 5, 6, 7, 8]
    assert {str(each.fault) for each in refused} == {"SchemaMismatch"}
    assert f"does not fit schema {number}: DecodeError" in refused[0].reason
    assert "has the index 4 in" in refused[1].reason


def test_what_confluents_protobuf_serializer_writes_is_read(url: str, client: SchemaRegistryClient) -> None:
    """It registers the compiled schema, not its source."""
    file = compile_schema(FetchedSchema("PROTOBUF", READING, (("place.proto", PLACE),)))
    message = reading(file)
    write = ProtobufSerializer(type(message), client, {"use.deprecated.format": False})
    value = write(message, SerializationContext("plant.protobuf", MessageField.VALUE))
    for name in ("protobuf", "auto"):
        (document,), refused = read(config(url, f"format: {name}"), [value])
        assert refused == []
        assert {**DOCUMENT, "last": document["last"]} == document


def test_a_protobuf_schema_may_not_name_files_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"'../../x.proto', which is no name of a schema"):
        compile_schema(FetchedSchema("PROTOBUF", PLACE, (("../../x.proto", PLACE),)))
    with pytest.raises(ValueError, match=r"protoc: .*Expected"):
        compile_schema(FetchedSchema("PROTOBUF", "syntax = 'proto3'; message {"))


@pytest.mark.parametrize("form", ["avro", "protobuf"])
def test_bytes_that_are_no_text_are_refused_where_they_are_a_name(form: str) -> None:
    """Two machines are never one, and a field that no one reads stops nothing."""
    keys: list[bytes] = [b"ab", b"\x80\x90", b"\x81\x90"]
    if form == "avro":
        kind = {"type": "fixed", "name": "Key", "size": 2}
        fields = [{"name": "machine", "type": kind}, {"name": "raw", "type": "bytes"}]
        fields += [{"name": "of", "type": {"type": "record", "name": "Of", "fields": [{"name": "id", "type": "Key"}]}}]
        schema: dict[str, Any] = {"type": "record", "name": "E", "fields": fields}
        reader = avro_reader(FetchedSchema("AVRO", json.dumps(schema)), "auto")
        rows = [{"machine": key, "raw": b"\xff", "of": {"id": key}} for key in keys]
        values = in_avro(schema, 1, rows)
        documents = [reader(value, 5, None) for value in values]
    else:
        proto = FetchedSchema(
            "PROTOBUF", 'syntax = "proto3"; message E { bytes machine = 1; bytes raw = 2; Of of = 3; } '
            "message Of { bytes id = 1; }",
        )  # fmt: skip
        made = message_factory.GetMessageClass(compile_schema(proto).message_types_by_name["E"])
        found = [made(machine=key, raw=b"\xff", of={"id": key}) for key in keys]
        values = [b"\0" + each.SerializeToString() for each in found]
        documents = [protobuf_reader(proto, "auto")(value, 0, None) for value in values]
    for i, document in enumerate(documents):
        document |= {"at": 1_800_000_000 + i, "temp": 1.5}
    for names in ("entity: machine", "entity: raw, categories: [of.id]", "entity: of.id"):
        event = parse_config(
            f"source: {{brokers: b, topic: t}}\nevent: {{timestamp: at, target: temp, {names}}}\n"
        ).event
        usable = [{**each, "raw": "r"} for each in documents] if "raw" in names else documents
        events, refused = EventReader(event).read(usable)
        assert (events.entity, [each.fault for each in refused]) == (["r" if "raw" in names else "ab"], ["NotUtf8"] * 2)
        path = "machine" if names == "entity: machine" else "of.id"
        assert refused[0].reason.endswith(f"`{path}` is not UTF-8, found b'\\x80\\x90'")
    assert json.loads(encode_row(documents[1])) == {
        **documents[1], "machine": [0x80, 0x90], "raw": [0xFF], "of": {"id": [0x80, 0x90]},
    }  # fmt: skip


# Results.


def avro_schema_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Nullable columns: of the types that the rows have."""
    kinds: dict[str, set[type]] = {}
    for row in rows:
        for key, value in row.items():
            kinds.setdefault(key, set()).add(type(value))
    names = [
        (key, "string" if str in found else "double" if float in found else "boolean" if bool in found else "long")
        for key, found in kinds.items()
    ]
    return {"type": "record", "name": "Row", "fields": [{"name": n, "type": ["null", kind]} for n, kind in names]}


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_in_avro_gives_the_predictions_of_its_json(
    name: str, url: str, client: SchemaRegistryClient, subject: str
) -> None:
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{name} is not in {DATA}; set SSM_STREAM_DATA to the folder that holds it")
    rows = list(Recording(path, 3000))
    text = (
        "source: {{brokers: a, topic: plant.events}}\nevent: {{entity: entity, timestamp: ts, features: auto, "
        "target: target{}}}\nalerts: {{anomaly: {{budget: 1 per 100 events}}}}\n{}"
    )
    plain = select_features(parse_config(text.format("", "")), rows[:1000]).config
    registry = parse_config(text.format(", format: avro", f"schema_registry: {{url: '{url}'}}"))
    avro = plain.replace(
        event=plain.event.model_copy(update={"format": "avro"}), schema_registry=registry.schema_registry
    )
    schema = avro_schema_of(rows)
    number = client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
    expected = Flow(plain).send(rows).records
    found = Flow(avro).send(in_avro(schema, number, rows)).records
    assert len(expected) >= len(rows)
    assert avro.hash == plain.hash
    assert [(record.value or b"")[5:] for record in found] == [record.value for record in expected], "to the bit"


def test_predictions_and_alerts_in_avro_have_the_content_of_json(url: str) -> None:
    rows = [orjson.loads(value) for _, value in events(3000)]
    text = (
        "source: {{brokers: a, topic: plant.events}}\nevent: {{entity: entity, timestamp: ts, features: [a, b]{}}}\n"
        "model: {{warmup: 10}}\nalerts: {{anomaly: {{budget: 1 per 100 events}}}}\nsinks: {{format: {}}}\n{}"
    )
    section = f"schema_registry: {{url: '{url}'}}"
    for event in ("", ", target: [target, b]".replace("features: [a, b]", "features: [a]")):
        if event:
            text = text.replace("features: [a, b]", "features: [a]")
        plain = Flow(parse_config(text.format(event, "json", ""))).send(rows).written
        avro = Flow(parse_config(text.format(event, "avro", section))).send(rows).written
        pairs = zip(avro.predictions, plain.predictions, strict=True)
        assert all({k: v for k, v in a.items() if v is not None or k in b} == b for a, b in pairs)
        assert len(plain.alerts) > 10
        for (found, headers), (expected, _) in zip(avro.alerts, plain.alerts, strict=True):
            assert {key: value for key, value in found.items() if value is not None or key in expected} == expected
            assert headers["content-type"] == "application/vnd.apache.avro"


def test_from_avro_to_avro_over_the_broker(
    kafka: Kafka, tmp_path: Path, url: str, client: SchemaRegistryClient
) -> None:
    """A run, and Confluent's clients on both sides; then record, doctor, init and explain on the same topics."""
    topic = kafka.topic("events", 3)
    job = Job(kafka, tmp_path, topic)
    content = orjson.loads(job.path.read_bytes())
    content |= {"model": {"warmup": 10}, "alerts": {"anomaly": {"budget": "1 per 100 events"}}}
    content |= {"schema_registry": {"url": url}}
    content["event"] |= {"format": "avro"}
    content["sinks"] |= {"format": "avro"}
    job.path.write_bytes(orjson.dumps(content))
    rows = [orjson.loads(value) for _, value in events(2000)]
    schema = avro_schema_of(rows)
    write = AvroSerializer(client, json.dumps(schema))
    where = SerializationContext(topic, MessageField.VALUE)
    bad = struct.pack(">bI", 0, 999_999) + b"\2"
    kafka.produce(topic, [(row["entity"].encode(), write(row, where)) for row in rows])
    kafka.produce(topic, [(b"m1", bad), (b"m1", b"{}")])
    output = job.run()
    assert "registry_away" not in output
    letters = [dict(message.headers() or []) for message in kafka.read(job.dead)]
    assert (
        sorted(each["__connect.errors.exception.class.name"] for each in letters) == [b"ssm_stream.UnknownSchema"] * 2
    )
    alerts = []
    for name, count in ((job.predictions, 2000), (job.alerts, 4)):
        messages, deserialize = kafka.read(name), AvroDeserializer(client)
        assert len(messages) >= count
        for message in messages:
            document = deserialize(message.value(), SerializationContext(name, MessageField.VALUE))
            assert isinstance(document, dict)
            assert document["ts"].year == 2023
            assert message.key() == document["entity"].encode()
            alerts += [document] if name == job.alerts else []
    schemas = {name: json.loads(client.get_latest_version(f"{name}-value").schema.schema_str or "") for name in
               (job.predictions, job.alerts)}  # fmt: skip
    assert [schema["name"] for schema in schemas.values()] == ["Prediction", "Alert"]

    checks = {check.name: check for check in doctor.diagnose(load_config(job.path))}
    assert checks["schema registry"].ok
    assert "AVRO" in checks["schema registry"].found
    assert checks["events"].ok, checks["events"].found
    out = tmp_path / "recording.parquet"
    told = ssm_stream("record", job.path, "--out", out)
    assert told.exit_code == 0, told.output
    assert len(list(Recording(out))) == 2000
    alert = next(each for each in alerts if each["phase"] == "started" and each["kind"] == "anomaly")
    told = ssm_stream("explain", job.path, alert["id"])
    assert told.exit_code == 0, "it is computed again, and is the same"


def test_init_takes_a_sample_of_a_topic_in_avro(
    kafka: Kafka, tmp_path: Path, url: str, client: SchemaRegistryClient, subject: str
) -> None:
    topic, out, rows = kafka.topic("events", 1), tmp_path / "monitor.yaml", plant()
    schema = avro_schema_of(rows)
    kafka.produce(topic, in_avro(schema, client.register_schema(subject, Schema(json.dumps(schema), "AVRO")), rows))
    call = ("init", "--topic", topic, "--brokers", kafka.bootstrap_servers, "--out", out)
    told = ssm_stream(*call)
    assert told.exit_code == 2
    assert "name schemas of a registry, and are not JSON: give --schema-registry" in " ".join(told.output.split())
    told = ssm_stream(*call, "--schema-registry", url)
    assert told.exit_code == 0, told.output
    made = load_config(out)
    assert (made.event.format, made.event.entity, made.event.target) == ("avro", "press", "all")
    assert made.schema_registry is not None
    assert made.schema_registry.url == url
    told = command("validate", str(out), "--against-broker")
    assert re.search(r"(\d+) of the last \1 messages are events", " ".join(told.stdout.split())), told.stdout


def test_replay_writes_the_latest_schema_of_the_topic(
    kafka: Kafka, tmp_path: Path, url: str, client: SchemaRegistryClient
) -> None:
    rows = plant(60)
    recording = tmp_path / "recording.jsonl"
    recording.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    time = {"type": "long", "logicalType": "timestamp-micros"}
    fields: list[Any] = [{"name": "recorded_at", "type": time}, {"name": "press", "type": "string"}]
    fields += [{"name": "mode", "type": ["null", "string"]}, {"name": "load", "type": "double"}]
    fields += [{"name": "speed", "type": "long"}, {"name": "temp", "type": ["null", "double"]}]
    proto = (
        'syntax = "proto3"; import "google/protobuf/timestamp.proto"; message E { google.protobuf.Timestamp '
        "recorded_at = 1; string press = 2; string mode = 3; double load = 4; int32 speed = 5; double temp = 6; }"
    )
    for form, schema in (
        ("avro", Schema(json.dumps({"type": "record", "name": "E", "fields": fields}), "AVRO")),
        ("protobuf", Schema(proto, "PROTOBUF")),
    ):
        topic, path = kafka.topic("events", 1), tmp_path / f"{form}.yaml"
        path.write_text(
            f"source: {{brokers: '{kafka.bootstrap_servers}', topic: {topic}}}\nevent: {{entity: press, timestamp: "
            f"recorded_at, features: [load, speed], target: temp, format: {form}}}\nschema_registry: {{url: '{url}'}}\n"
        )
        told = ssm_stream("replay", path, recording)
        assert told.exit_code == 1
        said = " ".join(told.output.split())
        assert f"register the schema of the events as {topic}-value, or set event.format: auto" in said
        client.register_schema(f"{topic}-value", schema)
        told = ssm_stream("replay", path, recording)
        assert told.exit_code == 0, told.output
        documents, refused = read(load_config(path), [message.value() for message in kafka.read(topic)])
        assert refused == []
        event = load_config(path).event
        (found, _), (expected, _) = (EventReader(event).read(some) for some in (documents, rows))
        assert found.ts.tolist() == expected.ts.tolist()
        assert found.features.tolist() == expected.features.tolist()
        assert found.target.tolist() == expected.target.tolist()
        broken = tmp_path / "broken.jsonl"
        broken.write_bytes(orjson.dumps({**rows[0], "load": "heavy"}) + b"\n")
        told = ssm_stream("replay", path, broken)
        assert told.exit_code == 1
        assert "row 1" in told.output
        assert "load" in told.output


def test_labels_on_a_topic_of_their_own_are_in_avro_or_json(url: str, client: SchemaRegistryClient) -> None:
    text = "labels: {topic: lab, entity: machine, timestamp: at, target: temp}\n"
    made = config(url, "features: [load], format: avro", text)
    row = {"machine": "m1", "at": 1_700_000_000_000, "temp": 1.5}
    schema = avro_schema_of([row])
    number = client.register_schema("lab-value", Schema(json.dumps(schema), "AVRO"))
    values = [*in_avro(schema, number, [row]), orjson.dumps(row)]
    messages: list[Any] = [FakeMessage(i, value) for i, value in enumerate(values)]
    found = [item for _, item in Decoder(made).decode(Chunk("lab", 0, messages)) if isinstance(item, LabelBatch)]
    assert [len(each.labels) for each in found] == [2]


def test_the_contract_is_in_avro(url: str, tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(
        "source: {brokers: 'localhost:9092', topic: plant.events}\nevent: {entity: machine, timestamp: at, target: "
        f"temp, format: protobuf}}\nsinks: {{format: avro, suppressed: hidden}}\nschema_registry: {{url: '{url}'}}\n"
    )
    for name, title in (("prediction", "Prediction"), ("alert", "Alert"), ("suppressed", "SuppressedAlert")):
        told = ssm_stream("schema", name, path)
        assert told.exit_code == 0, told.output
        schema: Any = fastavro.parse_schema(json.loads(told.output))
        assert schema["name"] == f"io.ssm_stream.{title}"
    document = asyncapi(load_config(path))
    official = json.loads(gzip.decompress(Path(__file__).with_name("asyncapi-3.0.0.json.gz").read_bytes()))
    Draft7Validator(official).validate(document)
    alert = document["components"]["messages"]["alerts"]
    assert (alert["contentType"], alert["payload"]["schema"]["name"]) == ("application/vnd.apache.avro", "Alert")
    assert alert["headers"]["properties"]["content-type"] == {"const": "application/vnd.apache.avro"}
    assert "in protobuf" in document["components"]["messages"]["events"]["summary"]


def test_the_live_page_reads_alerts_in_avro(url: str) -> None:
    text = (
        "source: {{brokers: a, topic: plant.events}}\nevent: {{entity: entity, timestamp: ts, features: [a, b]}}\n"
        "model: {{warmup: 10}}\nalerts: {{anomaly: {{budget: 1 per 100 events}}}}\nsinks: {{format: avro}}\n"
        "schema_registry: {{url: '{}'}}"
    )
    made = parse_config(text.format(url))
    flow = Flow(made).send([orjson.loads(value) for _, value in events(3000)])
    episodes = AlertEpisodes(EntityCache())
    episodes.as_json = alert_reader(made)
    episodes.add(record.value for record in flow.records if record.topic == "alerts")
    started = [alert for alert, _ in flow.written.alerts if alert["phase"] == "started"]
    assert len(started) > 5
    assert len(episodes.changes().episodes) == len(started)


def test_the_benchmark_runs() -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "formats.py"
    command = [sys.executable, str(script), "--part", "decode", "--events", "1000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert [set(check) for check in checks] == [{"name", "value", "relation", "bar", "ok"}] * 4
    assert all(check["ok"] is (check["value"] >= check["bar"]) for check in checks)
