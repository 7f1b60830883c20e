"""Schema registry framing, against Confluent's own clients on the other side and a registry of the tests' own."""

from __future__ import annotations

import gzip
import json
import struct
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka, free_port
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from jsonschema import Draft7Validator
from registry import FakeRegistry, fake_registry
from test_cli import command
from test_contract import Flow, config, documents
from test_decoder import decode, event
from test_stream import Job, events

from ssm_stream.config import Config, ConfigError, load_config, parse_config
from ssm_stream.contract.asyncapi import asyncapi
from ssm_stream.contract.event_schema import event_schema
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.formats.framing import strip_frame
from ssm_stream.kafka.formats.outputs import open_outputs
from ssm_stream.kafka.formats.registry import RegistryError

FRAMED = "schema_registry: {{url: '{url}'}}\n"


@pytest.fixture
def registry() -> Any:
    with fake_registry() as made:
        yield made


def registered(url: str, more: str = "") -> Config:
    return parse_config(
        "source: {brokers: 'localhost:9092', topic: plant.events, wait: 2s}\nevent: {entity: e, timestamp: t}\n"
        f"schema_registry: {{url: '{url}'{more}}}\n"
    )


def job(kafka: Kafka, folder: Path, topic: str, registry: FakeRegistry) -> Job:
    made = Job(kafka, folder, topic)
    content = orjson.loads(made.path.read_bytes())
    content["schema_registry"] = {"url": registry.url}
    content |= {"model": {"warmup": 10}, "alerts": {"anomaly": {"budget": "1 per 100 events"}}}
    made.path.write_bytes(orjson.dumps(content))
    return made


def test_confluents_clients_write_what_is_read_and_read_what_is_written(
    kafka: Kafka, tmp_path: Path, registry: FakeRegistry
) -> None:
    """Events by their serializer; predictions and alerts by their deserializer, which validates them."""
    topic = kafka.topic("events", 3)
    made = job(kafka, tmp_path, topic, registry)
    client = SchemaRegistryClient({"url": registry.url})
    write = JSONSerializer(json.dumps(event_schema(made.config)), client)
    where = SerializationContext(topic, MessageField.VALUE)
    good = events(3_000)
    kafka.produce(topic, [(key, write(orjson.loads(value), where)) for key, value in good[:2_000]])
    kafka.produce(topic, [*good[2_000:], (b"m1", b"\0\0\0\0\7{"), (b"m1", b"\0\0"), (b"m1", b"\0")])
    made.run()
    assert set(registry.subjects) == {f"{name}-value" for name in (topic, made.predictions, made.alerts)}
    letters = [(m.value(), dict(m.headers() or [])) for m in kafka.read(made.dead)]
    assert sorted(value for value, _ in letters) == [b"\0", b"\0\0", b"\0\0\0\0\7{"], (
        "with the frame that they came with"
    )
    for name, count in ((made.predictions, 3_000), (made.alerts, 1)):
        messages = kafka.read(name)
        assert len(messages) >= count
        schema = registry.schemas[registry.subjects[f"{name}-value"][0]]["schema"]
        read = JSONDeserializer(schema, schema_registry_client=client)
        at = SerializationContext(name, MessageField.VALUE)
        for message in messages[:: max(len(messages) // 200, 1)]:
            value = message.value()
            assert isinstance(value, bytes)
            assert read(value, at) == orjson.loads(value[5:])
            assert struct.unpack(">bI", value[:5]) == (0, registry.subjects[f"{name}-value"][0])


def test_suppressed_alerts_have_a_subject_of_their_own(registry: FakeRegistry) -> None:
    sinks = "sinks: {suppressed: hidden}\n" + FRAMED.format(url=registry.url)
    frames = open_outputs(config("features: [a]", sinks))
    assert registry.subjects.keys() == {"predictions-value", "alerts-value", "hidden-value"}
    assert len({each.frame for each in frames} - {b""}) == 3, "there are no summaries"
    schema = json.loads(registry.schemas[registry.subjects["hidden-value"][0]]["schema"])
    # Of an entity and, withheld by alerts.shadow, of a fleet.
    assert [one["properties"]["scope"]["const"] for one in schema["oneOf"]] == ["entity", "fleet"]
    assert all("suppressed_by" in one["required"] for one in schema["oneOf"])


def test_frames_cost_no_message_more_and_change_none(registry: FakeRegistry) -> None:
    plain = config("features: [a, b], target: [y, z]")
    framed = config("features: [a, b], target: [y, z]", FRAMED.format(url=registry.url))
    assert framed.hash == plain.hash, "it decides no number"
    outputs = open_outputs(framed)
    assert {outputs.prediction.frame, outputs.alert.frame} == {struct.pack(">bI", 0, n) for n in registry.schemas}
    told = [Flow(made).send(documents(400)).records for made in (plain, framed)]
    assert [strip_frame(record.value) for record in told[1]] == [record.value for record in told[0]]
    for record in told[1]:
        assert (record.value or b"")[:5] == (
            outputs.alert.frame if record.topic == "alerts" else outputs.prediction.frame
        )
    schema = json.loads(registry.schemas[registry.subjects["predictions-value"][0]]["schema"])
    assert schema["$schema"].startswith("http://json-schema.org/draft-07")
    Draft7Validator(schema).validate(orjson.loads(strip_frame(told[1][0].value) or b""))


GUID = uuid.UUID("6dd9186d-7d7b-4c7b-9b0c-1f7a4d1b2c3d")


@pytest.mark.parametrize(("frame", "name"), [(b"\0\0\0\0\7", "7"), (b"\1" + GUID.bytes, str(GUID))])
def test_a_frame_before_json_is_skipped_by_itself(frame: bytes, name: str) -> None:
    batches, letters = decode([frame + event(), event(), None, frame + b"\x06m01"])
    assert sum(len(batch.events) for _, batch in batches) == 2
    assert [letter.value for letter in letters] == [None, frame + b"\x06m01"]
    reason = dict(letters[1].headers or [])["__connect.errors.exception.message"]
    assert f"the frame of schema {name} is not JSON".encode() in (reason or b"")
    (whole,), none = decode([frame + event(), event()])  # plain: the native reader's
    assert (len(whole[1].events), none) == (2, [])
    assert b"set event.format" in (reason or b"")


def test_the_old_keys_name_the_new_ones() -> None:
    with pytest.raises(ConfigError, match=r"sinks\.schema_registry: unknown key; its name is `schema_registry` now"):
        parse_config(f"{SMALL}sinks: {{schema_registry: {{url: 'http://r:1'}}}}\n")
    with pytest.raises(ConfigError, match=r"event\.framed: unknown key; leave it out: .* is skipped by itself"):
        parse_config(SMALL.replace("timestamp: t", "timestamp: t, framed: true"))
    for text in ("event.format: found 'avro'", "sinks.format: found 'avro'"):
        section = text.split(".")[0]
        made = SMALL.replace("timestamp: t", "timestamp: t, format: avro") if section == "event" else SMALL
        with pytest.raises(ConfigError, match=f"{text} without a schema registry; write where it is"):
            parse_config(made + ("sinks: {format: avro}\n" if section == "sinks" else ""))


def test_each_schema_is_registered_once_whatever_the_number_of_writers(registry: FakeRegistry) -> None:
    made = registered(registry.url)
    for _ in range(4):
        Encoder(made)
    assert registry.asked == ["POST /subjects/predictions-value/versions", "POST /subjects/alerts-value/versions"]
    Encoder(parse_config("source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\n"))
    assert len(registry.asked) == 2


def test_a_registry_that_is_away_refuses_or_lacks_a_schema_is_told_of(registry: FakeRegistry) -> None:
    with pytest.raises(RegistryError, match=r"subject predictions-value: .*\n  start the registry, or correct"):
        open_outputs(registered(f"http://127.0.0.1:{free_port()}", ", properties: {max.retries: 0}"))
    registry.refused.add("predictions-value")
    with pytest.raises(RegistryError, match=r"incompatible \(HTTP 409\)\n  the messages have changed"):
        open_outputs(registered(registry.url))
    registry.refused.clear()
    by_hand = registered(registry.url, ", register_schemas: false")
    with pytest.raises(RegistryError, match=r"not found\. \(HTTP 404\)\n  register it: ssm-stream schema"):
        open_outputs(by_hand)
    open_outputs(registered(registry.url))
    assert open_outputs(by_hand) == open_outputs(registered(registry.url))


def test_a_login_comes_from_the_environment_and_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOGIN", "me:hunter2")
    with fake_registry("me:hunter2") as registry:
        with pytest.raises(RegistryError, match="give the login"):
            open_outputs(registered(registry.url))
        login = "properties: {basic.auth.user.info: '${LOGIN}'}"
        text = f"{SMALL}schema_registry: {{url: '{registry.url}', {login}}}\n"
        path = tmp_path / "monitor.yaml"
        path.write_text(text)
        made = load_config(path)
        assert open_outputs(made).prediction.frame
        told = command("validate", str(path), "--json").stdout
        assert "hunter2" not in told + repr(made) + json.dumps(asyncapi(made))
        assert json.loads(told)["schema_registry"]["properties"] == ["basic.auth.user.info"]
    with pytest.raises(
        ConfigError, match=r"schema_registry\.properties\.basic\.auth\.user\.info: a secret must not be written"
    ):
        parse_config(text.replace("${LOGIN}", "me:hunter2"))
    with pytest.raises(ConfigError, match=r"schema_registry\.url") as caught:
        parse_config(f"{SMALL}schema_registry: {{url: 'http://me:pw@registry:8081'}}\n")
    assert caught


SMALL = "source: {brokers: 'localhost:9092', topic: plant.events, wait: 2s}\nevent: {entity: e, timestamp: t}\n"


def test_asyncapi_names_the_registry_and_the_frame(registry: FakeRegistry) -> None:
    document = asyncapi(registered(registry.url))
    server = document["servers"]["kafka0"]["bindings"]["kafka"]
    assert (server["schemaRegistryUrl"], server["schemaRegistryVendor"]) == (registry.url, "confluent")
    assert document["components"]["messages"]["alerts"]["bindings"]["kafka"]["schemaIdLocation"] == "payload"
    official = json.loads(gzip.decompress(Path(__file__).with_name("asyncapi-3.0.0.json.gz").read_bytes()))
    Draft7Validator(official).validate(document)


def test_a_framed_topic_is_sampled(kafka: Kafka, tmp_path: Path) -> None:
    from test_init import plant, ssm_stream

    topic, out = kafka.topic("events", 1), tmp_path / "monitor.yaml"
    kafka.produce(topic, [b"\0\0\0\0\1" + orjson.dumps(row) for row in plant()])
    told = ssm_stream("init", "--topic", topic, "--brokers", kafka.bootstrap_servers, "--out", out)
    assert told.exit_code == 0, told.stderr
    assert load_config(out).event.format == "json"
