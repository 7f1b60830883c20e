"""Exactly once over a broker with transactions: what is refused, what a consumer sees, what a marker is worth."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from brokers import Kafka, MockKafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from test_stream import Job, events, finished, wait_for

from ssm_stream.config import ConfigError, load_config, parse_config
from ssm_stream.flow import runtime
from ssm_stream.kafka import producer, transactional_producer
from ssm_stream.kafka.client import BrokerError, KafkaProducer, MissingRightError
from ssm_stream.kafka.dead_letters import truncate
from ssm_stream.kafka.embedded_broker import ApiKey, EmbeddedBroker
from ssm_stream.kafka.membership import producer as member_producer
from ssm_stream.kafka.membership.producer import GroupTransactions
from ssm_stream.kafka.records import OutputBatch, ProducerRecord
from ssm_stream.kafka.transactional_producer import Part, TransactionalProducer, max_output_bytes, transactional_id
from ssm_stream.operators.sink import KafkaWriter

PARTITIONS = 3


class ExactJob(Job):
    """A `Job` with `delivery: exactly_once`."""

    def __init__(self, kafka: Kafka, folder: Path, topic: str, **keys: Any) -> None:
        super().__init__(kafka, folder, topic, **keys)
        self.write(delivery="exactly_once")

    def write(self, **changes: Any) -> None:
        """Change the configuration's file."""
        content = orjson.loads(self.path.read_bytes())
        for name, value in changes.items():
            content[name] = {**content.get(name, {}), **value} if isinstance(value, dict) else value
        self.path.write_bytes(orjson.dumps(content))

    def marker(self, writer: int = 0) -> dict[int, int]:
        """Partition → offset, as a tool sees them."""
        group = transactional_id(self.config, f"{writer:04d}")
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": group})
        try:
            places = consumer.committed([TopicPartition(self.topic, p) for p in range(PARTITIONS)], timeout=10)
        finally:
            consumer.close()
        return {place.partition: place.offset for place in places}

    def move_marker(self, offset: int, writer: int = 0) -> None:
        """Set the marker of all partitions, as a tool may."""
        settings = self.config
        group = {
            "bootstrap.servers": self.kafka.bootstrap_servers,
            "group.id": transactional_id(settings, f"{writer:04d}"),
        }
        consumer = Consumer({**group, "enable.auto.commit": False})
        words = f"writers={settings.writers}"
        places = [TopicPartition(self.topic, p, offset, words) for p in range(PARTITIONS)]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()


@pytest.fixture
def job(kafka: Kafka, tmp_path: Path) -> Callable[..., ExactJob]:
    """Makes a job: input topic with messages, output topics of its own."""
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")

    def make(n: int = 0, name: str = "job", topic: str = "", **keys: Any) -> ExactJob:
        if not topic:
            topic = kafka.topic("events", PARTITIONS)
            kafka.produce(topic, events(n))
        return ExactJob(kafka, tmp_path / name, topic, **keys)

    return make


def test_an_embedded_broker_is_refused(mock_kafka: MockKafka, tmp_path: Path) -> None:
    """It shows what was never committed: silently wrong, so it is refused before anything runs."""
    made = ExactJob(mock_kafka, tmp_path, mock_kafka.topic("events", PARTITIONS))
    with pytest.raises(BrokerError, match=r"exactly_once.*embedded.*\n.*at_least_once"):
        runtime.prepare(made.path)


def test_no_recovery_directory_is_refused() -> None:
    text = "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\n"
    with pytest.raises(ConfigError, match=r"recovery\.directory"):
        parse_config(f"{text}delivery: exactly_once\nrecovery: {{directory: null}}\n")
    assert parse_config(f"{text}delivery: exactly_once\n").epoch_interval == 1.0
    assert parse_config(text).epoch_interval == 10.0


def test_all_is_told_once_and_the_marker_is_where_tools_look(job: Callable[..., ExactJob], kafka: Kafka) -> None:
    made = job(9_000)
    kafka.produce(made.topic, [(b"m1", b"no event")], partition=0)
    made.run()
    counts = made.ids()
    assert (len(counts), max(counts.values())) == (9_000, 1)
    assert made.told_alerts()
    assert len(kafka.read(made.dead)) == 1
    ends = Counter(m.partition() for m in kafka.read(made.topic))
    assert sum(1 for w in range(4) for p, offset in made.marker(w).items() if offset == ends[p]) >= PARTITIONS
    made.run()
    assert made.ids() == counts


def test_nothing_shows_before_its_epoch_ends(job: Callable[..., ExactJob], kafka: Kafka) -> None:
    """What a killed process left open is no result; the next start has it aborted, and says it again."""
    made = job(2_000, epoch="60s")
    process = made.start()
    wait_for(process, "started")
    time.sleep(2)
    process.kill()
    finished(process, 10)
    assert not kafka.read(made.predictions)
    made.run()
    counts = made.ids()
    assert (len(counts), max(counts.values())) == (2_000, 1)


def test_a_marker_behind_the_state_is_refused(job: Callable[..., ExactJob]) -> None:
    """What the broker forgot would be told twice; the text names group, partition and both offsets."""
    made = job(1_000, shards=1)
    made.run()
    made.move_marker(1)
    process = made.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    for part in ("exactly_once", transactional_id(made.config, "0000"), "up to offset", "up to 1 ", "state resume"):
        assert part in output


def test_a_marker_beyond_the_topics_end_is_refused(job: Callable[..., ExactJob]) -> None:
    made = job(1_000, shards=1)
    made.run()
    made.move_marker(10**9)
    process = made.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert "was created again" in output


def test_a_topic_that_takes_less_than_before(job: Callable[..., ExactJob], kafka: Kafka) -> None:
    """`max.message.bytes` is lowered while it runs, to less than a batch: the flow is built again with smaller ones; to
    less than a message: it ends with the cure, and goes on once that is done."""
    if kafka.kind == "noida-db":
        pytest.skip("needs a broker that changes the settings of topics")
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})

    def take(size: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        topic = ConfigResource(ResourceType.TOPIC, made.predictions, incremental_configs=[entry])
        client.incremental_alter_configs([topic])[topic].result(20)

    made = job(500)
    process = made.start()
    kafka.read(made.predictions, expected=500, timeout=60)
    take(5_000)
    kafka.produce(made.topic, events(1_000, seed=1))
    kafka.read(made.predictions, expected=1_500, timeout=60)
    take(100)
    kafka.produce(made.topic, events(500, seed=2))
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert output.count('"event": "flow_restarts"') == 2  # the second learns that it is less than a message
    assert "raise max.message.bytes" in output
    take(1_000_000)
    made.run()
    counts = made.ids()
    assert (len(counts), max(counts.values())) == (2_000, 1)


def test_a_lost_recovery_directory_is_learned_again_and_nothing_is_told_twice(job: Callable[..., ExactJob]) -> None:
    made = job(2_000)
    made.run()
    before, alerts = made.ids(), made.told_alerts()
    made.write(recovery={"directory": str(made.folder / "another")})
    made.kafka.produce(made.topic, events(500, seed=5))
    made.run()
    counts = made.ids()
    assert (len(counts), max(counts.values())) == (2_500, 1)
    assert set(before) < set(counts)
    assert alerts.items() <= made.told_alerts().items()


def test_another_number_of_writers_is_refused(job: Callable[..., ExactJob]) -> None:
    """Fewer, as the engine would only panic; more, as results would go through other transactions than before."""
    made = job(1_000, shards=8)
    earlier = (
        "from ssm_stream.config.sections import Sinks; Sinks.writers = {}; from ssm_stream.cli.app import main; main()"
    )

    def run(writers: int) -> tuple[int, str]:
        """Run a release that has so many."""
        command = [sys.executable, "-c", earlier.format(writers), "run", str(made.path), "--until-eof"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    assert run(3)[0] == 0
    for writers, words in ((2, "made with 3 writers"), (4, "written with writers=3")):
        code, output = run(writers)
        assert code == 1, output
        assert words in output
        assert "as many as state.shards, at most four" in output


def test_another_flow_of_the_same_group_is_refused_with_the_cure(job: Callable[..., ExactJob]) -> None:
    """It would leave out what the first has put out. With other names for its topics a flow of that state goes on."""
    first = job(1_000, "first")
    first.run()
    second = ExactJob(first.kafka, first.folder.parent / "second", first.topic)
    process = second.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert f"by a flow whose sinks.predictions is {first.predictions}, here it is {second.predictions}" in output
    assert "Name another source.group" in output
    moved = orjson.loads(second.path.read_bytes())["sinks"]
    first.write(sinks=moved)
    first.kafka.produce(first.topic, events(100, seed=7))
    first.run()
    assert len(first.kafka.read(second.predictions)) == 100


def test_a_second_process_takes_over_and_the_first_one_says_so(job: Callable[..., ExactJob], kafka: Kafka) -> None:
    """Two with the same group and directories of their own, as on two machines: the older one is shut out."""
    first = job(1_000, "first")
    second = ExactJob(kafka, first.folder.parent / "second", first.topic)
    second.write(sinks=orjson.loads(first.path.read_bytes())["sinks"])
    process = first.start()
    wait_for(process, "started")
    time.sleep(2)
    second.run()
    kafka.produce(first.topic, events(500, seed=7))
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert "another process with the same source.group has taken over" in output
    second.run()
    counts = Counter(orjson.loads(m.value() or b"")["id"] for m in kafka.read(first.predictions))
    assert (len(counts), max(counts.values())) == (1_500, 1)


REFUSALS: list[tuple[ApiKey, int, str, str]] = [
    (
        ApiKey.INIT_PRODUCER_ID,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        "init_transactions",
        "operation Write on the transactional id",
    ),
    (
        ApiKey.INIT_PRODUCER_ID,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        "init_transactions",
        "operation Write on the transactional id",
    ),
    (ApiKey.INIT_PRODUCER_ID, KafkaError.INVALID_TRANSACTION_TIMEOUT, "init_transactions", "timeout.ms to 100000"),
    (ApiKey.INIT_PRODUCER_ID, KafkaError.PRODUCER_FENCED, "init_transactions", "has taken over"),
    (ApiKey.OFFSET_FETCH, KafkaError.GROUP_AUTHORIZATION_FAILED, "the marker", "operation Read on the consumer group"),
    (
        ApiKey.ADD_PARTITIONS_TO_TXN,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        "producing",
        "operation Write on the transactional id",
    ),
    (ApiKey.ADD_PARTITIONS_TO_TXN, KafkaError.TOPIC_AUTHORIZATION_FAILED, "producing", "operation Write on the topics"),
    (ApiKey.ADD_PARTITIONS_TO_TXN, KafkaError.INVALID_PRODUCER_EPOCH, "producing", "has taken over"),
    (ApiKey.PRODUCE, KafkaError.INVALID_PRODUCER_EPOCH, "producing", "has taken over"),
    (ApiKey.PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED, "producing", "operation Write on the topics"),
    (ApiKey.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "producing", "continues after the last result"),
    (
        ApiKey.ADD_OFFSETS_TO_TXN,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        "send_offsets",
        "operation Read on the consumer group",
    ),
    (ApiKey.END_TXN, KafkaError.PRODUCER_FENCED, "commit_transaction", "has taken over"),
    (
        ApiKey.END_TXN,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        "commit_transaction",
        "operation Write on the transactional id",
    ),
]


@pytest.mark.parametrize(("request_", "code", "step", "cure"), REFUSALS)
def test_each_refusal_of_a_broker_has_its_cure(request_: ApiKey, code: int, step: str, cure: str) -> None:
    """By librdkafka's own broker, as the test broker has no permissions; the mode is otherwise refused with it."""
    with EmbeddedBroker(topics={"t": 1, "p": 1, "a": 1, "d": 1}) as broker:
        at_start = request_ in (ApiKey.INIT_PRODUCER_ID, ApiKey.OFFSET_FETCH)
        if at_start:
            broker.push_errors(request_, [code])
        with pytest.raises(BrokerError) as caught:
            deliver(broker, "5s", lambda: None if at_start else broker.push_errors(request_, [code]))
        assert re.search(step, caught.value.found), caught.value.found
        assert "Purged" not in caught.value.found
        assert re.search(cure, caught.value.cure), caught.value.cure
        assert ("taken over" in caught.value.cure) == ("taken over" in cure)


def test_a_broker_that_goes_away_is_named_as_the_reason() -> None:
    with EmbeddedBroker(topics={"t": 1, "p": 1}) as broker:
        with pytest.raises(BrokerError, match="timed out") as caught:
            deliver(broker, "2s", lambda: broker.set_down(1))
        assert re.search("[Rr]efused|[Dd]isconnected", caught.value.found), caught.value.found


def test_a_client_that_misses_its_own_timeout_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka 2.16: once in 200 times where the broker goes away with the first message of a topic."""
    monkeypatch.setattr(KafkaProducer, "flush", lambda producer, timeout=-1: len(producer))
    monkeypatch.setattr(producer, "STALLED", -1.5)
    timed_out = pytest.raises(BrokerError, match=r"\d+ messages to .* timed")
    with EmbeddedBroker(topics={"t": 1, "p": 1}) as broker, timed_out:
        deliver(broker, "1s", lambda: broker.set_down(1))


def deliver(broker: EmbeddedBroker, wait: str, now: Callable[[], None]) -> None:
    """An epoch of one writer. now: called before its first output"""
    settings = parse_config(
        f"source: {{brokers: '{broker.bootstrap_servers}', topic: t, wait: {wait}}}\n"
        "event: {entity: e, timestamp: t}\nsinks: {predictions: p, alerts: a, dead_letters: d}\n"
    )
    writer = KafkaWriter(settings, TransactionalProducer(settings, Part("0000", {"t": (0,)}, {}, 1_000_000)))
    try:
        now()
        writer.write_batch([OutputBatch("t", 0, 0, 0, [], "p", ["e"], [b"x"], [0])])
        writer.snapshot()
    finally:
        writer.close()


def test_a_member_names_what_is_granted_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transactions have another name after each start, and its positions are those of its group."""
    for module in (member_producer, transactional_producer):
        monkeypatch.setattr(module, "max_output_bytes", lambda _: 1_000_000)
    consumer: Any = SimpleNamespace(transactions="g-5c1d")
    with EmbeddedBroker(topics={"t": 1}) as broker:
        settings = parse_config(
            f"source: {{brokers: '{broker.bootstrap_servers}', topic: t, assignment: group, group: g}}\n"
            "event: {entity: e, timestamp: t}\nstate: {store: there}\n"
        )
        made = GroupTransactions(settings, consumer, lambda _: {})
    for code, cure in (
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "Write on the transactional ids that begin with 'g-'"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "Read on the consumer group 'g'"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "raise max.message.bytes"),
    ):
        error = made._error("commit_transaction", KafkaException(KafkaError(code)))
        assert cure in error.cure
        assert isinstance(error, MissingRightError) == ("raise" not in cure)


def test_independent_processes_have_transactions_of_their_own() -> None:
    text = "source: {brokers: a, topic: t%s}\nevent: {entity: e, timestamp: t}\n"
    ids = {
        transactional_id(parse_config(text % more), "0001")
        for more in ("", ", partitions: [1]", ", partitions: [0, 2]")
    }
    assert ids == {"ssm-stream-t-writer-0001", "ssm-stream-t-1-writer-0001", "ssm-stream-t-0_2-writer-0001"}


def test_a_dead_letter_too_large_for_its_topic_is_shortened(kafka: Kafka, tmp_path: Path) -> None:
    """By the client, before the broker refuses the transaction; as short as the smallest topic wants it."""
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    topic = kafka.topic("events", PARTITIONS)
    kafka.produce(topic, [(b"m1", b"x" * 500_000), *events(100)])
    made = ExactJob(kafka, tmp_path, topic)
    small = kafka.topic("dead-small", 1, {"max.message.bytes": "20000"})
    made.write(sinks={"dead_letters": small})
    assert max_output_bytes(load_config(made.path)) == 20_000
    made.run()
    (letter,) = kafka.read(small)
    headers = dict(letter.headers() or [])
    assert headers["ssm-stream.truncated.from.bytes"] == b"500000"
    assert 1_000 < len(letter.value() or b"") < 20_000
    assert len(made.ids()) == 100


def test_shortened_ends() -> None:
    record = ProducerRecord("dead", b"k", b"x" * 1_000_000, None, 3)
    sizes = []
    while (shorter := truncate(record)) is not record:
        record = shorter
        sizes.append(len(record.value or b""))
    assert sizes[0] == 100_000
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= 100
    assert record.headers == [("ssm-stream.truncated.from.bytes", b"1000000")]


def test_what_earlier_messages_caused_is_left_out() -> None:
    others = [ProducerRecord("alerts", "e", b"1", None, 4), ProducerRecord("alerts", "e", b"2", None, 6)]
    output = OutputBatch("t", 0, 4, 7, others, "predictions", ["a", "a", "b"], [b"x", b"y", b"z"], [4, 4, 7])
    kept = output.caused_from(5)
    assert [record.value for record in kept.records] == [b"z", b"2"]
    assert output.caused_from(4) == output
    assert not output.caused_from(8).records


def test_markers_are_the_group_that_admins_list(job: Callable[..., ExactJob], kafka: Kafka) -> None:
    """For permissions and for clean-up: a group a writer, named like its transactions."""
    made = job(300, shards=1)
    made.run()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    found = {group.group_id for group in admin.list_consumer_groups(request_timeout=10).result(15).valid}
    assert transactional_id(made.config, "0000") in found


def test_an_open_transaction_of_another_producer_is_waited_for(job: Callable[..., ExactJob], kafka: Kafka) -> None:
    """Events of a transaction that is aborted are none; offsets that markers take are no gap."""
    made = job(0)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"feeder-{made.topic}"})
    producer.init_transactions(20)
    for seed, keep in ((1, True), (2, False), (3, True)):
        producer.begin_transaction()
        for key, value in events(200, seed):
            producer.produce(made.topic, value, key)
        producer.flush(20)
        (producer.commit_transaction if keep else producer.abort_transaction)(20)
    made.run()
    counts = made.ids()
    assert (len(counts), max(counts.values())) == (400, 1)
    made.run()
    assert made.ids() == counts
