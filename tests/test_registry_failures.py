"""A schema registry that is slow, down, or answers 401, 404 and 500; and frames in headers, which have GUIDs.

The registry is the tests' own (`registry.py`): a real one does not fail on demand, and Apicurio has no GUIDs.
"""

from __future__ import annotations

import json
import re
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from brokers import Kafka, free_port
from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from registry import FakeRegistry, fake_registry
from test_cli import command
from test_decoder import FakeMessage
from test_formats import avro_schema_of, in_avro
from test_stream import Job, events, finished

from ssm_stream.config import Config, parse_config
from ssm_stream.flow import doctor
from ssm_stream.ingest.events import RefusedDocument
from ssm_stream.kafka.client import STOP
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.formats import registry as registry_module
from ssm_stream.kafka.formats.framing import HEADER
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.formats.registry import RegistryError
from ssm_stream.kafka.records import Chunk, OutputBatch, ShardBatch

ROWS = [{"machine": f"m{i % 3}", "ts": 1_700_000_000_000 + i, "load": 0.5 * i, "temp": float(i)} for i in range(30)]
SCHEMA = avro_schema_of(ROWS)


@pytest.fixture(autouse=True)
def going() -> None:
    STOP.clear()


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as made:
        yield made


def config(url: str, wait: str = "2s", more: str = "", name: str = "avro") -> Config:
    return parse_config(
        f"source: {{brokers: 'localhost:9092', topic: plant.events, wait: {wait}}}\n"
        f"event: {{entity: machine, timestamp: ts, features: [load], target: temp, format: {name}}}\n"
        f"schema_registry: {{url: '{url}'{more}}}\n"
    )


def values(registry: FakeRegistry, rows: list[dict[str, Any]] = ROWS) -> list[bytes]:
    return in_avro(SCHEMA, registry.add("plant.events-value", json.dumps(SCHEMA)), rows)


def read(made: Config, some: list[bytes]) -> tuple[list[Any], list[RefusedDocument]]:
    refused: list[RefusedDocument] = []
    return message_format(made).parse(some, refused)[0], refused


def test_a_schema_is_requested_once_a_process(registry: FakeRegistry) -> None:
    some = values(registry)
    registry.asked.clear()
    for _ in range(3):
        assert read(config(registry.url), some)[0] == ROWS
    assert registry.asked == ["GET /schemas/ids/100"]


def test_a_registry_that_fails_for_a_while_is_waited_for(registry: FakeRegistry) -> None:
    some = values(registry)
    for status in (500, 503, 429):
        registry.failing = (status, 2)
        made = config(registry.url, wait=f"{status / 100:g}s")  # another client each time
        with structlog.testing.capture_logs() as logs:
            assert read(made, some) == (ROWS, [])
        assert [each["event"] for each in logs] == ["registry_away", "registry_back"]


def test_a_registry_that_is_down_ends_the_flow_after_the_wait(registry: FakeRegistry) -> None:
    some = values(registry)
    registry.failing = (500, 1_000_000)
    began = time.monotonic()
    with pytest.raises(RegistryError, match=r"schema id 100: no answer for . s \(source.wait\): It fails on demand"):
        read(config(registry.url, wait="1s"), some)
    assert 0.4 < time.monotonic() - began < 3
    with pytest.raises(RegistryError, match=r"no answer .*refused.*\n  start the registry, or correct schema_registry"):
        read(config(f"http://127.0.0.1:{free_port()}", wait="1s"), some)


def test_a_slow_registry_is_waited_for_and_one_that_hangs_is_not_for_ever(registry: FakeRegistry) -> None:
    some = values(registry)
    registry.delay = 0.5
    assert read(config(registry.url, wait="3s"), some) == (ROWS, [])
    registry.delay = 1.5
    made = config(registry.url, wait="1s")
    began = time.monotonic()
    with pytest.raises(RegistryError, match=r"no answer .*timed out"):
        read(made, some)
    assert time.monotonic() - began < 4


def test_waiting_ends_with_the_dataflow(registry: FakeRegistry) -> None:
    some = values(registry)
    registry.failing = (500, 1_000_000)
    timer = threading.Timer(0.5, STOP.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(RegistryError):
        read(config(registry.url, wait="30s"), some)
    assert time.monotonic() - began < 5
    timer.join()


def test_a_login_that_is_refused_stops_with_key_and_cure() -> None:
    with fake_registry("me:hunter2") as registry:
        some = values(registry)
        with pytest.raises(RegistryError, match=r"HTTP 401.*\n.*schema_registry.properties .basic.auth.user.info"):
            read(config(registry.url), some)
        made = config(registry.url, more=", properties: {max.retries: 0}")
        assert made.schema_registry is not None
        given = made.schema_registry.model_copy(update={"properties": {"basic.auth.user.info": "me:hunter2"}})
        assert read(made.replace(schema_registry=given), some) == (ROWS, [])


def test_an_unknown_schema_is_requested_again_after_a_while(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, frame = config(registry.url), struct.pack(">bI", 0, 100)
    for _ in range(3):
        documents, refused = read(made, [frame + b"\2"] * 3)
        assert documents == []
        assert {str(each.fault) for each in refused} == {"UnknownSchema"}
        assert "schema id 100" in refused[0].reason
    assert registry.asked == ["GET /schemas/ids/100"]
    some = values(registry)
    monkeypatch.setattr(registry_module, "RETRY_UNKNOWN", 0.0)
    assert read(made, some) == (ROWS, [])


def test_what_is_no_registry_is_said_at_the_start(registry: FakeRegistry) -> None:
    elsewhere = config(f"{registry.url}/apis")
    check = doctor._registry(elsewhere)
    assert not check.ok
    assert "no schema registry is there" in check.found
    assert check.cure == "correct schema_registry.url; of Apicurio it ends with /apis/ccompat/v7"
    check = doctor._registry(config(registry.url))
    assert check.ok
    assert re.search(r"answered in \d\.\d\d s, and has JSON, PROTOBUF, AVRO$", check.found)
    strict = config(registry.url, more=", register_schemas: false")
    check = doctor._registry(strict)
    assert not check.ok
    assert "predictions-value" in check.found
    assert "ssm-stream schema prediction" in check.cure


def test_properties_that_the_client_refuses_are_named(registry: FakeRegistry) -> None:
    for more, text in (
        ("no.such.property: 1", "Unrecognized properties: no.such.property"),
        ("ssl.ca.location: /no/such/file", "No such file"),
    ):
        made = config(registry.url, more=f", properties: {{{more}}}")
        with pytest.raises(RegistryError, match=rf"schema_registry\.properties: .*{text}"):
            message_format(made).parse(values(registry), [])


# Frames in headers.


def test_a_header_names_the_schema_by_its_guid(registry: FakeRegistry) -> None:
    """As Confluent's serializers write it; the content may begin with a zero byte."""
    client = SchemaRegistryClient({"url": registry.url})
    registry.add("plant.events-value", json.dumps(SCHEMA))
    write = AvroSerializer(client, json.dumps(SCHEMA), conf={
        "schema.id.serializer": header_schema_id_serializer, "auto.register.schemas": False, "use.latest.version": True,
    })  # fmt: skip
    headers: list[tuple[str, bytes]] = []
    context = SerializationContext("plant.events", MessageField.VALUE, headers)
    rows = [*ROWS, {**ROWS[0], "machine": None}]
    some = [write(row, context) for row in rows]
    assert headers[0] == (HEADER, b"\1" + registry.guid(100).bytes)
    assert some[-1][0] == 0
    guid = b"\1" + registry.guid(100).bytes
    for name in ("avro", "auto"):
        made = config(registry.url, name=name)
        documents, positions = message_format(made).parse(some, [], [[(HEADER, guid)]] * len(some))
        assert (documents, positions) == (rows, list(range(len(rows))))
    decoder = Decoder(config(registry.url))
    framed = values(registry)
    messages: list[Any] = [
        FakeMessage(0, some[0], headers=[("other", b"x"), (HEADER, guid)]),
        FakeMessage(1, framed[1]),  # both framings on a topic
        FakeMessage(2, b"\1" + guid[1:] + framed[2][5:]),
        FakeMessage(3, some[3], headers=[(HEADER, b"\1short")]),
        FakeMessage(4, some[4], headers=[(HEADER, b"\1" + bytes(16))]),
        FakeMessage(5, some[5], headers=[(HEADER, struct.pack(">bI", 0, 100))]),
    ]
    out = decoder.decode(Chunk("plant.events", 0, messages))
    (batch,) = [item for _, item in out if isinstance(item, ShardBatch)]
    assert batch.offsets == [0, 1, 2, 5]
    assert batch.events.target.tolist() == [0.0, 1.0, 2.0, 5.0]
    (letters,) = [item for _, item in out if isinstance(item, OutputBatch)]
    faults = [dict(each.headers or [])["__connect.errors.exception.class.name"] for each in letters.others]
    assert faults == [b"ssm_stream.UnknownSchema"] * 2


def test_a_header_has_the_indexes_of_a_protobuf_message(registry: FakeRegistry) -> None:
    text = 'syntax = "proto3"; message A { string machine = 1; } message B { string machine = 1; double temp = 2; }'
    registry.add("plant.events-value", text, "PROTOBUF")
    guid = b"\1" + registry.guid(100).bytes
    value = b"\n\2m1\x11" + struct.pack("<d", 1.5)
    made = config(registry.url, name="protobuf")
    documents, _ = message_format(made).parse(
        [value, b"\n\2m2"], [], [[(HEADER, guid + b"\2\2")], [(HEADER, guid + b"\0")]]
    )
    assert documents == [{"machine": "m1", "temp": 1.5}, {"machine": "m2"}]


def test_json_among_the_messages_of_auto_is_read_as_fast_as_by_itself(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, plain = config(registry.url, name="auto"), [orjson.dumps(row) for row in ROWS]
    decoder = Decoder(made)
    chunks = [plain, values(registry), [*plain[:15], *values(registry)[15:]]]
    batches = []
    for some in chunks:
        messages: list[Any] = [FakeMessage(i, value) for i, value in enumerate(some)]
        ((_, batch),) = decoder.decode(Chunk("plant.events", 0, messages))
        assert isinstance(batch, ShardBatch)
        batches.append(batch.events)
    assert {tuple(events.target.tolist()) for events in batches} == {tuple(float(i) for i in range(30))}
    monkeypatch.setattr(decoder.reader, "read", lambda _: pytest.fail("read document by document"))
    messages = [FakeMessage(i, value) for i, value in enumerate(plain)]
    decoder.decode(Chunk("plant.events", 0, messages))


# A run.


def test_a_run_waits_for_the_registry_and_loses_nothing(kafka: Kafka, tmp_path: Path, registry: FakeRegistry) -> None:
    """It answers 500 when the second schema comes; events in plain JSON on the labels' side of `auto` go on."""
    topic = kafka.topic("events", 1)
    job = Job(kafka, tmp_path, topic)
    content = orjson.loads(job.path.read_bytes())
    content["event"] |= {"format": "auto"}
    content |= {"schema_registry": {"url": registry.url}}
    job.path.write_bytes(orjson.dumps(content))
    rows = [orjson.loads(value) for _, value in events(600)]
    schema = avro_schema_of(rows)
    other = {**schema, "fields": [*schema["fields"], {"name": "more", "type": ["null", "long"], "default": None}]}
    first = in_avro(schema, registry.add(f"{topic}-value", json.dumps(schema)), rows[:200])
    second = in_avro(other, registry.add(f"{topic}-value", json.dumps(other)), rows[200:400])
    keys = [row["entity"].encode() for row in rows]
    kafka.produce(topic, list(zip(keys, [*first, *map(orjson.dumps, rows[400:])], strict=False)))
    process = job.start()
    try:
        deadline = time.monotonic() + 60
        while len(kafka.read(job.predictions)) < 400 and time.monotonic() < deadline:
            time.sleep(0.1)
        registry.failing = (500, 4)
        kafka.produce(topic, list(zip(keys[200:400], second, strict=True)))
        while len(kafka.read(job.predictions)) < 600 and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        process.terminate()
        output = finished(process, 60)
    assert process.returncode == 0, output
    assert "registry_away" in output
    assert "registry_back" in output
    assert len(kafka.read(job.predictions)) == 600
    assert kafka.read(job.dead) == []


def test_letters_of_a_schema_that_was_missing_are_sent_back(
    kafka: Kafka, tmp_path: Path, registry: FakeRegistry
) -> None:
    job = Job(kafka, tmp_path, kafka.topic("events", 1))
    content = orjson.loads(job.path.read_bytes())
    content["event"] |= {"format": "avro"}
    job.path.write_bytes(orjson.dumps(content | {"schema_registry": {"url": registry.url}}))
    rows = [orjson.loads(value) for _, value in events(20)]
    schema = avro_schema_of(rows)
    some = in_avro(schema, 102, rows)  # 100 and 101 are the schemas of predictions and alerts
    kafka.produce(job.topic, [(row["entity"].encode(), value) for row, value in zip(rows, some, strict=True)])
    job.run()
    assert len(kafka.read(job.dead)) == 20
    told = command("dlq", "redrive", str(job.path), "--yes")
    assert "UnknownSchema" in told.stdout + told.stderr
    assert kafka.read(job.predictions) == []
    assert registry.add("late", json.dumps(schema)) == 102
    told = command("dlq", "redrive", str(job.path), "--yes")
    assert told.returncode == 0, told.stderr
    job.run()
    assert len(kafka.read(job.predictions)) == 20


@pytest.mark.parametrize("login", ["", "me:hunter2"])
def test_a_run_without_its_registry_ends_with_one_sentence(kafka: Kafka, tmp_path: Path, login: str) -> None:
    job = Job(kafka, tmp_path, kafka.topic("events", 1), source={"wait": "1s"})
    content = orjson.loads(job.path.read_bytes())
    content["event"] |= {"format": "avro"}
    with fake_registry(login) as registry:
        content |= {"schema_registry": {"url": registry.url if login else f"http://127.0.0.1:{free_port()}"}}
        job.path.write_bytes(orjson.dumps(content))
        process = job.start("--until-eof")
        output = finished(process, 60)
    assert process.returncode == 1
    assert "Traceback" not in output
    text = "schema_registry.properties (basic.auth.user.info" if login else "start the registry, or correct schema_reg"
    assert text in output
