"""Brokers, topics and `doctor`: what works, and what is said where something does not."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import typer
from brokers import Kafka, LocalKafka, MockKafka, free_port
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from typer.testing import CliRunner

from ssm_stream.cli.app import app as command
from ssm_stream.cli.doctor import doctor
from ssm_stream.config import Config, Source, parse_config
from ssm_stream.flow.doctor import Check, create_missing, diagnose
from ssm_stream.kafka import embedded_broker
from ssm_stream.kafka.admin import create_topics
from ssm_stream.kafka.client import (
    LOGGER,
    BrokerError,
    KafkaProducer,
    client_properties,
    kafka_error,
    redact_properties,
    redact_text,
    unwrap_system_error,
)
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.embedded_broker import ApiKey, EmbeddedBroker

SASL = {
    "security.protocol": "sasl_plaintext",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "u",
    "sasl.password": "pw-7!x",
}


def configured(kafka: Kafka, directory: Path, topic: str, more: str = "") -> Config:
    suffix = topic.rpartition("-")[2]
    return parse_config(
        f"""
source: {{brokers: "{kafka.bootstrap_servers}", topic: {topic}, wait: 20s{more}}}
event: {{entity: id, timestamp: t, features: [a]}}
sinks: {{predictions: p-{suffix}, alerts: a-{suffix}, suppressed: s-{suffix}, dead_letters: d-{suffix}}}
recovery: {{directory: {directory}/state}}
"""
    )


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_embedded_topics_have_the_partitions_asked_for() -> None:
    with EmbeddedBroker(topics={"events": 3, "alerts": 1}, brokers=2) as broker:
        cluster = check_broker(Source(brokers=broker.bootstrap_servers, topic="events"))
        assert cluster.topics == {"events": (0, 1, 2), "alerts": (0,)}
        assert sorted(cluster.addresses) == [1, 2]
        with pytest.raises(BrokerError, match="TOPIC_ALREADY_EXISTS"):
            broker.create_topic("events", 5)
    broker.close()  # a second time does nothing
    with pytest.raises(BrokerError, match="closed"):
        broker.set_down(1)


def test_embedded_broker_without_ctypes_says_what_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_broker, "librdkafka", lambda: None)
    with pytest.warns(RuntimeWarning, match="4 partitions"):
        broker = EmbeddedBroker(topics={"events": 3})
    with broker:
        assert not broker.faults
        assert len(check_broker(Source(brokers=broker.bootstrap_servers, topic="events")).topics["events"]) == 4
        with pytest.raises(BrokerError, match="cannot be injected"):
            broker.push_errors(ApiKey.PRODUCE, [KafkaError.REQUEST_TIMED_OUT])


def test_embedded_broker_drops_old_data_beyond_5_mb_a_partition(mock_kafka: MockKafka) -> None:
    topic = mock_kafka.topic()
    mock_kafka.produce(topic, (bytes(1000) for _ in range(8000)))
    kept = mock_kafka.read(topic)
    assert 4000 < len(kept) < 6000
    assert kept[-1].offset() == 7999


@pytest.mark.parametrize("fixture", ["kafka", "mock_kafka"])
def test_what_is_written_is_read(fixture: str, request: pytest.FixtureRequest) -> None:
    kafka: Kafka = request.getfixturevalue(fixture)
    topic = kafka.topic("events", partitions=3)
    kafka.produce(topic, [("a", b"1"), ("a", b"2"), ("b", None)])
    kafka.produce(topic, [f"{i}" for i in range(500)], partition=2)
    found = kafka.read(topic, expected=503)
    assert [m.value() for m in found if m.key() == b"a"] == [b"1", b"2"]
    assert [m.value() for m in found if m.partition() == 2 and m.key() is None] == [b"%d" % i for i in range(500)]
    assert [m.value() for m in found if m.key() == b"b"] == [None]


def test_read_says_what_did_not_come(mock_kafka: MockKafka) -> None:
    topic = mock_kafka.topic()
    mock_kafka.produce(topic, [b"1"])
    with pytest.raises(AssertionError, match=r"messages in 0\.5 s, waiting for 2 messages"):
        mock_kafka.read(topic, expected=2, timeout=0.5)


def test_old_messages_are_kept(kafka: Kafka) -> None:
    topic = kafka.topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    long_ago = int(datetime.datetime(2011, 1, 1, tzinfo=datetime.UTC).timestamp() * 1000)
    producer.produce(topic, b"old", timestamp=long_ago)
    assert producer.flush(10) == 0
    assert [m.timestamp()[1] for m in kafka.read(topic, expected=1)] == [long_ago]


def test_a_fatal_error_is_the_clients_own_exception(kafka: Kafka) -> None:
    """Whether or not delivery reports come in the same call: the plain client makes a SystemError of some of these."""
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not fence")
    topic = kafka.topic()
    settings = {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic, "logger": LOGGER}

    def refused(error: KafkaError | None, _: Message) -> None:
        assert error is not None
        error.code()  # as anything that a callback asks of the client, it fails where the exception is set

    for _ in range(12):
        first, second = (KafkaProducer({**settings, "on_delivery": refused}) for _ in range(2))
        first.init_transactions(20)
        second.init_transactions(20)
        first.begin_transaction()
        for _ in range(20):
            first.produce(topic, b"1")
        with pytest.raises(KafkaException, match="fenced") as caught:
            first.flush(10.0)
        assert kafka_error(caught.value).fatal()


def test_what_callbacks_made_of_a_fatal_error_is_undone() -> None:
    fatal = KafkaException(KafkaError(KafkaError._FENCED, fatal=True))
    once, twice = (SystemError("returned a result with an exception set") for _ in range(2))
    once.__cause__, twice.__cause__ = fatal, once
    with pytest.raises(KafkaException) as caught, unwrap_system_error():
        raise twice
    assert caught.value is fatal
    with pytest.raises(SystemError, match="another"), unwrap_system_error():
        raise SystemError("another")
    with pytest.raises(SystemError, match="another"), unwrap_system_error():
        raise SystemError("another") from ValueError("no error of the client")


def test_retriable_errors_are_retried_and_others_reported(mock_kafka: MockKafka) -> None:
    topic = mock_kafka.topic()
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._TRANSPORT])
    mock_kafka.produce(topic, [b"1"])
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
    with pytest.raises(AssertionError, match="authorization failed"):
        mock_kafka.produce(topic, [b"2"])
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
    mock_kafka.clear_errors(ApiKey.PRODUCE)
    mock_kafka.produce(topic, [b"3"])
    assert [m.value() for m in mock_kafka.read(topic)] == [b"1", b"3"]


def test_leader_moves_and_brokers_go_and_come() -> None:
    with MockKafka({"events": 1}, brokers=2) as kafka:
        kafka.set_leader("events", 0, 1)
        kafka.produce("events", [b"1"])
        kafka.set_leader("events", 0, 2)
        kafka.set_down(1)
        kafka.produce("events", [b"2"])
        kafka.set_up(1)
        kafka.set_delay(20)
        assert [m.value() for m in kafka.read("events")] == [b"1", b"2"]
        with pytest.raises(BrokerError, match="set_down"):
            kafka.set_down(7)


def test_a_silent_broker_is_waited_for_and_named() -> None:
    source = Source(brokers=f"127.0.0.1:{free_port()}", topic="events", wait=1.0)
    began = time.monotonic()
    with pytest.raises(BrokerError) as caught:
        check_broker(source)
    assert 0.9 < time.monotonic() - began < 20  # the machine may be busy
    text = str(caught.value)
    assert source.brokers in text
    assert "within 1 s (source.wait)" in text
    assert "Connection refused" in text
    assert "start the broker, or correct source.brokers" in text


def test_a_broker_that_comes_within_the_wait_is_found(private_kafka: Callable[[], LocalKafka]) -> None:
    kafka = private_kafka()
    topic = kafka.topic(partitions=2)
    kafka.produce(topic, [b"1", b"2"], partition=1)
    kafka.stop()
    with pytest.raises(BrokerError, match="Connection refused"):
        check_broker(kafka.source(topic, wait=1.0))
    kafka.start()
    assert check_broker(kafka.source(topic)).partitions_of(topic) == (0, 1)
    assert [m.value() for m in kafka.read(topic)] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("brokers", "properties", "said", "cure"),
    [
        ("no-such-host.invalid:9092", {}, "Failed to resolve", "correct the host name"),
        (
            "127.0.0.1:1",
            {"no.such.property": 1},
            'No such configuration property: "no.such.property"',
            "CONFIGURATION.md",
        ),
        ("127.0.0.1:1", {"security.protocol": "tls"}, 'Invalid value "tls"', "CONFIGURATION.md"),
    ],
)
def test_each_reason_has_its_cure(brokers: str, properties: dict[str, str | int], said: str, cure: str) -> None:
    with pytest.raises(BrokerError) as caught:
        check_broker(Source(brokers=brokers, topic="events", wait=1.5, kafka=properties))
    assert said in str(caught.value)
    assert cure in str(caught.value)


def test_secrets_are_not_shown(mock_kafka: MockKafka) -> None:
    source = Source(brokers=mock_kafka.bootstrap_servers, topic="events", wait=1.5, kafka=SASL)
    with pytest.raises(BrokerError) as caught:
        check_broker(source)
    assert "sasl.*" in caught.value.cure
    assert SASL["sasl.password"] not in str(caught.value)
    shown = redact_properties(client_properties(source, **{"ssl.key.pem": "PRIVATE", "linger.ms": 5}))
    assert shown == {
        "client.id": "ssm-stream",
        "bootstrap.servers": source.brokers,
        **SASL,
        "sasl.password": "***",
        "ssl.key.pem": "***",
        "linger.ms": 5,
    }
    assert redact_text("refused pw-7!x at https://me:key@host", SASL) == "refused *** at https://***@host"


def test_a_missing_topic_or_partition_is_named_and_not_created(kafka: Kafka) -> None:
    topic = kafka.topic(partitions=2)
    source = kafka.source(topic).model_copy(update={"partitions": [1, 5]})
    cluster = check_broker(source)
    with pytest.raises(BrokerError, match=rf"'{topic}-not' does not exist on {kafka.bootstrap_servers}") as caught:
        cluster.partitions_of(f"{topic}-not")
    assert "ssm-stream doctor CONFIG --create-topics" in str(caught.value)
    # To create what is misspelt would be a topic without events, for which a run waits for good.
    assert f"did you mean '{topic}'? Else create it" in str(caught.value)
    with pytest.raises(BrokerError, match=r"has partitions 0 to 1, not \[5\]"):
        cluster.source_partitions(source)
    assert cluster.source_partitions(source.model_copy(update={"partitions": [1]})) == (1,)
    assert f"{topic}-not" not in check_broker(source).topics


def test_topics_are_created_once(kafka: Kafka) -> None:
    if kafka.kind == "mock":
        pytest.skip("the mock cluster answers no admin request")
    topic = kafka.topic(partitions=2)
    source = kafka.source(topic)
    assert create_topics(source, {topic: 7, f"{topic}-b": 3}) == [f"{topic}-b"]
    kafka.created.append(f"{topic}-b")
    cluster = check_broker(source)
    assert (cluster.topics[topic], cluster.topics[f"{topic}-b"]) == ((0, 1), (0, 1, 2))
    with pytest.raises(BrokerError, match=rf"{topic}-c.* on {kafka.bootstrap_servers}"):
        create_topics(source, {f"{topic}-c": 3}, replication=99)


def test_the_mock_creates_no_topics_for_an_admin_client(mock_kafka: MockKafka) -> None:
    with pytest.raises(BrokerError, match="embedded"):
        create_topics(mock_kafka.source(), {"events": 1}, timeout=0.5)


def test_doctor_passes_where_all_is_there(kafka: Kafka, tmp_path: Path) -> None:
    if kafka.kind == "mock":
        pytest.skip("the mock cluster answers no admin request")
    topic = kafka.topic(partitions=2)
    config = configured(kafka, tmp_path, topic, ", partitions: [0, 1]")
    created = create_missing(config, 3)
    assert created.ok, created
    kafka.created += config.sinks.topics
    kafka.produce(topic, [b'{"id": "m", "t": 1800000000, "a": 1, "target": 1}'] * 3, partition=0)
    checks = by_name(diagnose(config))
    assert all(check.ok and not check.cure for check in checks.values()), checks
    assert checks["source topic"].found == f"{topic}: 2 of 2 partitions"
    assert checks["reading"].found.startswith("3 messages on the topic")
    assert checks["events"].found == "3 of the last 3 messages are events"
    assert "is not known" in checks["clock"].found
    assert checks["sinks.alerts"].found.endswith("3 partitions")
    assert checks["sinks.suppressed"].found.endswith("3 partitions")
    assert "bytewax 0.21" in checks["libraries"].found
    assert not (tmp_path / "state").exists()
    assert create_missing(config, 3).found == "all exist"


GOOD = b'{"id": "m%d", "t": 1800000000, "a": 1, "target": 1}'


@pytest.mark.parametrize(
    ("by_partition", "ok", "found", "cure"),
    [
        ([[GOOD % 1, b"no", b'{"t": 1}'], [GOOD % 2]], True, r"2 of the last 4 messages are events; the others would "
         r"be dead letters \(NotJson 1, MissingField 1\); \S+-0-1: not JSON", ""),
        ([[GOOD % 1, b"no", b'{"t": 1}', b"\xff", b"[]"], []], True,
         r"\(NotJson 1, MissingField 1, NotUtf8 1, NotAnObject 1\)", ""),
        ([[b'{"f": 1}'] * 3, []], False, r"0 of the last 3 messages are events; event.entity: no column 'id' in the "
         r"last 3 messages; its columns: f; if all .* `event.entity_default`; event.timestamp: no column 't'",
         "correct these paths"),
        ([[b'{"id": "m", "t": 1800000000, "a": 1, "tarqet": 1}'], []], False,
         r"1 of the last 1 messages are events; event.target: no column 'target' .*; did you mean `tarqet`\?", "paths"),
        ([[b'{"id": "m", "t": 1800000000, "a": 1, "target": null}'], []], False, "none has a target",
         r"event.target \(target\)"),
        ([[GOOD % 1], [GOOD % 1]], True, "'m1' comes by two partitions", ""),
    ],
)  # fmt: skip
def test_doctor_decodes_the_latest_events(
    mock_kafka: MockKafka, tmp_path: Path, by_partition: list[list[bytes]], ok: bool, found: str, cure: str
) -> None:
    topic = mock_kafka.topic(partitions=2)
    for partition, values in enumerate(by_partition):
        mock_kafka.produce(topic, values, partition=partition)
    check = by_name(diagnose(configured(mock_kafka, tmp_path, topic)))["events"]
    assert check.ok is ok, check
    assert re.search(found, check.found), check
    assert re.search(cure, check.cure), check


def test_validate_may_ask_the_broker_too(mock_kafka: MockKafka, tmp_path: Path) -> None:
    topic = mock_kafka.topic("events", 1)
    names = {kind: mock_kafka.topic(kind, 1) for kind in ("predictions", "alerts", "dead_letters")}
    mock_kafka.produce(topic, [b"no"])
    file = tmp_path / "config.yaml"
    text = (
        f"source: {{brokers: '{mock_kafka.bootstrap_servers}', topic: {topic}}}\nevent: {{entity: id, timestamp: t}}\n"
    )
    file.write_text(f"{text}sinks: {orjson.dumps(names).decode()}\nrecovery: {{directory: null}}\n")
    run = CliRunner().invoke
    assert run(command, ["validate", str(file)]).exit_code == 0
    asked = run(command, ["validate", str(file), "--against-broker"])
    assert asked.exit_code == 1
    assert "FAIL  events: 0 of the last 1 messages are events" in asked.stdout
    mock_kafka.produce(topic, [GOOD % 1])
    asked = run(command, ["validate", str(file), "--against-broker", "--json"])
    assert asked.exit_code == 0, asked.stdout
    assert {check["name"] for check in orjson.loads(asked.stdout)["checks"]} >= {"events", "brokers"}


def test_doctor_on_a_broker_without_its_topics(mock_kafka: MockKafka, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a directory")
    config = configured(mock_kafka, tmp_path, "events")
    # Not as a file may have it: a secret that nothing uses.
    source = config.source.model_copy(update={"kafka": {"sasl.password": "hidden-one"}})
    config = config.model_copy(update={"source": source})
    checks = by_name(diagnose(config))
    assert [name for name, check in checks.items() if not check.ok] == [
        "recovery",
        "source topic",
        "sinks.predictions",
        "sinks.alerts",
        "sinks.suppressed",
        "sinks.dead_letters",
    ]
    assert all(check.cure for check in checks.values() if not check.ok)
    assert "'sasl.password': '***'" in checks["configuration"].found
    assert "hidden-one" not in str(checks)


def test_doctor_counts_the_inputs_that_are_signals_too(mock_kafka: MockKafka, tmp_path: Path) -> None:
    config = configured(mock_kafka, tmp_path, "events")
    watched = {"target": "all", "features": ["a", "b", "c"], "inputs": ["a", "b"], "categories": ["recipe"]}
    event = type(config.event).model_validate({**config.event.model_dump(), **watched})
    checks = by_name(diagnose(config.model_copy(update={"event": event})))
    assert ": 3 features and 8 lags of a, b, c," in checks["configuration"].found


def test_doctor_tells_of_a_clock_that_is_ahead(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topic, b"1", timestamp=int((time.time() + 120) * 1000))
    assert producer.flush(10) == 0
    clock = by_name(diagnose(configured(kafka, tmp_path, topic)))["clock"]
    assert not clock.ok
    assert "in this machine's future" in clock.found


def test_doctor_knows_a_brokers_clock_from_its_stamps(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic(config={"message.timestamp.type": "LogAppendTime"})
    kafka.produce(topic, [b"1"])
    clock = by_name(diagnose(configured(kafka, tmp_path, topic)))["clock"]
    expected = "is not known" if kafka.kind == "mock" else "the broker is not ahead"
    assert expected in clock.found


def test_doctor_reports_a_read_that_is_refused(mock_kafka: MockKafka, tmp_path: Path) -> None:
    topic = mock_kafka.topic()
    mock_kafka.push_errors(ApiKey.LIST_OFFSETS, [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 3)
    reading = by_name(diagnose(configured(mock_kafka, tmp_path, topic)))["reading"]
    assert not reading.ok
    assert "authorization failed" in reading.found
    assert f"the operation Read on the topic '{topic}'" in reading.cure


def test_doctor_command(mock_kafka: MockKafka, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(doctor)
    run = CliRunner().invoke
    file = tmp_path / "config.yaml"
    for topic in ("events", "predictions", "alerts", "dead-letters"):
        mock_kafka.create_topic(topic, 2)
    text = f'source: {{brokers: "{mock_kafka.bootstrap_servers}", topic: events, wait: 20s}}\n'
    text += f"event: {{entity: e, timestamp: t}}\nrecovery: {{directory: {tmp_path}}}\n"
    file.write_text(text)
    good = run(app, [str(file)])
    assert good.exit_code == 0, good.output
    assert good.stdout.endswith("checks passed\n")

    file.write_text(text.replace("topic: events", "topic: elsewhere"))
    bad = run(app, [str(file), "--json"])
    report = orjson.loads(bad.stdout)
    assert bad.exit_code == 1
    assert [c["name"] for c in report["checks"] if not c["ok"]] == ["source topic"]
    assert report["ok"] is False
    (missing,) = [c for c in report["checks"] if not c["ok"]]
    assert missing["cure"].endswith(f"create it: ssm-stream doctor {file} --create-topics"), "as it can be copied"
    validated = run(command, ["validate", str(file), "--against-broker"])
    assert f"ssm-stream doctor {file} --create-topics" in validated.stdout

    # The wait bounds the creation too, which the mock never answers.
    file.write_text(text.replace("topic: events", "topic: elsewhere").replace("20s", "1s"))
    refused = run(app, [str(file), "--create-topics"])
    assert refused.exit_code == 1
    assert "embedded" in refused.stdout

    file.write_text("source: {}")
    assert run(app, [str(file)]).exit_code == 2
    invalid = run(app, [str(file), "--json"])
    assert invalid.exit_code == 2
    assert orjson.loads(invalid.stdout)["checks"][0]["name"] == "configuration"


def test_a_mock_cluster_that_is_down_comes_back(mock_kafka: MockKafka) -> None:
    mock_kafka.set_down(-1)
    producer = Producer({"bootstrap.servers": mock_kafka.bootstrap_servers, "logger": LOGGER})
    with pytest.raises(KafkaException):
        producer.list_topics(timeout=0.3)
    mock_kafka.set_up(-1)
    assert producer.list_topics(timeout=5).brokers
