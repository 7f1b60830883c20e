"""What Kafka's own Java clients see of a run: committed messages only, keys, headers, and Java's partitions."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
import yaml
from brokers import Kafka
from brokers.apache import LOGGING, kafka_home, kafka_obstacle
from confluent_kafka import Producer
from forked import ran

PARTITIONS = 3
EVENTS = 90
ENTITIES = [f"m{i}" for i in range(6)] + ["プレス 7", "", "m 8/é"]
STRANGER = b"of a transaction that was not committed"

READER = """
import java.time.Duration; import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition; import org.apache.kafka.common.utils.Utils;
public class Reader {
  static String hex(byte[] bytes) { return bytes == null ? "-" : "x" + HexFormat.of().formatHex(bytes); }
  public static void main(String[] args) {
    String bytes = "org.apache.kafka.common.serialization.ByteArrayDeserializer";
    try (var consumer = new KafkaConsumer<byte[], byte[]>(Map.of("bootstrap.servers", args[0],
        "isolation.level", "read_committed", "enable.auto.commit", "false",
        "key.deserializer", bytes, "value.deserializer", bytes))) {
      for (String topic : Arrays.asList(args).subList(1, args.length)) {
        var places = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
        consumer.assign(places);
        consumer.seekToBeginning(places);
        var ends = consumer.endOffsets(places);
        while (places.stream().anyMatch(p -> consumer.position(p) < ends.get(p)))
          for (var each : consumer.poll(Duration.ofSeconds(1))) {
            var headers = new StringJoiner(",");
            for (var header : each.headers()) headers.add(header.key() + "=" + hex(header.value()));
            int chosen = Utils.toPositive(Utils.murmur2(each.key() == null ? new byte[0] : each.key())) % places.size();
            System.out.println(String.join("\\t", topic, "" + each.partition(), "" + each.offset(), "" + chosen,
                hex(each.key()), hex(each.value()), headers.toString()));
          } } } } }
"""


class Seen(NamedTuple):
    """A message, as a client sees it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Run(NamedTuple):
    """Topics after a run, with transactions of another producer: aborted before it, and open."""

    kafka: Kafka
    topics: dict[str, str]


def content(text: str) -> bytes | None:
    return None if text == "-" else bytes.fromhex(text[1:])


def java(folder: Path, *arguments: str) -> str:
    logging = folder / "log4j2.properties"
    logging.write_text(LOGGING)
    options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={logging}"]
    command = ["java", *options, "-cp", f"{kafka_home()}/libs/*", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


def transaction(kafka: Kafka, topics: list[str]) -> Producer:
    """A transaction with a message in each partition, which the brokers have."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"stranger-{topics[0]}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for topic in topics:
        for partition in range(PARTITIONS):
            producer.produce(topic, STRANGER, b"stranger", partition)
    assert producer.flush(30) == 0
    return producer


@pytest.fixture(scope="module")
def run(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    if (why := kafka_obstacle()) is not None:
        pytest.skip(f"Java's clients: {why}")
    if kafka.kind == "mock":
        pytest.skip("librdkafka's mock cluster has no aborted transactions")
    folder = tmp_path_factory.mktemp("java")
    sinks = ("predictions", "alerts", "dead_letters")
    topics = {name: kafka.topic(name, PARTITIONS) for name in ("events", *sinks)}
    rows = [{"e": ENTITIES[i % len(ENTITIES)], "t": 60 * i, "a": i % 5, "target": i % 5} for i in range(EVENTS)]
    kafka.produce(topics["events"], [(row["e"], orjson.dumps(row)) for row in rows])
    kafka.produce(topics["events"], [(b"\xff\x00 no text", b"no event"), (None, b"[]")])
    transaction(kafka, [topics[name] for name in sinks]).abort_transaction(30)
    settings = {
        "delivery": "exactly_once",
        "source": {"brokers": kafka.bootstrap_servers, "topic": topics["events"]},
        "event": {"entity": "e", "timestamp": "t", "features": ["a"]},
        "alerts": {"limits": [{"column": "target", "above": 2}]},
        "sinks": {name: topics[name] for name in sinks},
        "recovery": {"directory": str(folder / "state"), "epoch_interval": "200ms"},
        "ops": {"address": None},
    }
    file = folder / "monitor.yaml"
    file.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    done = ran("run", str(file), "--until-eof")
    assert done.returncode == 0, done.stderr
    unfinished = transaction(kafka, [topics[name] for name in sinks])
    yield Run(kafka, topics)
    unfinished.abort_transaction(30)


@pytest.fixture(scope="module")
def seen(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Seen, int]]]:
    """By topic, what Java's consumer reads, and the partition that Java's producer would choose for the key."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "Reader.java").write_text(READER, encoding="utf-8")
    names = {topic: name for name, topic in run.topics.items()}
    found: dict[str, list[tuple[Seen, int]]] = {name: [] for name in run.topics}
    output = java(folder, str(folder / "Reader.java"), run.kafka.bootstrap_servers, *run.topics.values())
    for line in output.splitlines():
        topic, partition, offset, chosen, key, value, headers = line.split("\t")
        pairs = [pair.partition("=") for pair in headers.split(",") if pair]
        own = tuple((name, content(text)) for name, _, text in pairs)
        message = Seen(int(partition), int(offset), content(key), content(value), own)
        found[names[topic]].append((message, int(chosen)))
    return found


def entities(run: Run) -> int:
    """Events that became predictions: an entity may have no empty name."""
    return sum(ENTITIES[i % len(ENTITIES)] != "" for i in range(EVENTS))


@pytest.mark.parametrize("name", ["predictions", "alerts", "dead_letters"])
def test_java_reads_what_librdkafka_reads(name: str, run: Run, seen: dict[str, list[tuple[Seen, int]]]) -> None:
    """Each message with key, value and headers; nothing of the transactions that are aborted or open."""
    expected = [
        Seen(m.partition() or 0, m.offset() or 0, m.key(), m.value(), tuple(m.headers() or []))
        for m in run.kafka.read(run.topics[name])
    ]
    found = sorted(message for message, _ in seen[name])
    assert found
    assert found == sorted(expected)
    assert STRANGER not in {message.value for message in found}


def test_each_event_has_its_prediction_and_each_other_message_its_letter(
    run: Run, seen: dict[str, list[tuple[Seen, int]]]
) -> None:
    predictions = [orjson.loads(message.value or b"") for message, _ in seen["predictions"]]
    assert len(predictions) == len({each["id"] for each in predictions}) == entities(run)
    assert len(seen["dead_letters"]) == EVENTS - entities(run) + 2


@pytest.mark.parametrize("name", ["predictions", "alerts"])
def test_the_key_is_the_entity_and_the_partition_is_java_s(name: str, seen: dict[str, list[tuple[Seen, int]]]) -> None:
    assert len({message.partition for message, _ in seen[name]}) == PARTITIONS
    for message, chosen in seen[name]:
        assert message.key is not None
        assert message.key.decode() == orjson.loads(message.value or b"")["entity"]
        assert message.partition == chosen, message.key


def test_alerts_are_cloud_events(seen: dict[str, list[tuple[Seen, int]]]) -> None:
    for message, _ in seen["alerts"]:
        headers, alert = dict(message.headers), orjson.loads(message.value or b"")
        assert headers["ce_specversion"] == b"1.0"
        assert headers["ce_id"] == alert["id"].encode()
        assert headers["ce_type"] == f"io.ssm-stream.{alert['kind']}.{alert['phase']}".encode()
        assert headers["content-type"] == b"application/json"


def test_dead_letters_have_the_key_and_value_of_the_message(seen: dict[str, list[tuple[Seen, int]]]) -> None:
    events = {(message.partition, message.offset): message for message, _ in seen["events"]}
    for message, _ in seen["dead_letters"]:
        headers = dict(message.headers)
        place = [headers[f"__connect.errors.{name}"] for name in ("partition", "offset")]
        assert None not in place
        event = events[int(place[0] or b""), int(place[1] or b"")]
        assert (message.key, message.value) == (event.key, event.value)


def console(run: Run, folder: Path, topic: str, messages: int, level: str) -> list[str]:
    shown = [
        part for name in ("key", "partition", "headers") for part in ("--formatter-property", f"print.{name}=true")
    ]
    command = ["org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", run.kafka.bootstrap_servers]
    command += ["--topic", topic, "--from-beginning", "--isolation-level", level, *shown]
    return java(folder, *command, "--max-messages", str(messages), "--timeout-ms", "60000").splitlines()


def test_the_console_consumer_shows_committed_messages(
    run: Run, seen: dict[str, list[tuple[Seen, int]]], tmp_path: Path
) -> None:
    for name in ("predictions", "alerts"):
        lines = console(run, tmp_path, run.topics[name], len(seen[name]), "read_committed")
        expected = []
        for message, _ in seen[name]:
            headers = ",".join(f"{key}:{(value or b'').decode()}" for key, value in message.headers) or "NO_HEADERS"
            key, value = (message.key or b"").decode(), (message.value or b"").decode()
            expected.append(f"Partition:{message.partition}\t{headers}\t{key}\t{value}")
        assert sorted(lines) == sorted(expected)
    # The aborted ones are first in each partition: without the option they are shown.
    lines = console(run, tmp_path, run.topics["alerts"], len(seen["alerts"]), "read_uncommitted")
    assert any(STRANGER.decode() in line for line in lines)
