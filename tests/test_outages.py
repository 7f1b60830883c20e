"""What passes by itself does not end the process: errors are told apart in one place, waited for, and borne."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import orjson
import pytest
from brokers import Kafka, LocalKafka, MockKafka, kafka_obstacle
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from forked import Forked
from members import NoFlow
from structlog.testing import capture_logs
from test_consumer import until
from test_stream import Job, events, finished, wait_for
from test_transactions import ExactJob

from ssm_stream.cli.topic.options import describe
from ssm_stream.config import Source, parse_config
from ssm_stream.flow.doctor import diagnose
from ssm_stream.kafka import consumer, transactional_producer
from ssm_stream.kafka.client import BrokerError, LastError, open_consumer, with_topic
from ssm_stream.kafka.consumer import PrefetchConsumer
from ssm_stream.kafka.control.topic import ControlTopic
from ssm_stream.kafka.embedded_broker import ApiKey, EmbeddedBroker
from ssm_stream.kafka.membership.consumer import GroupConsumer
from ssm_stream.kafka.outages import patience
from ssm_stream.kafka.outages.classify import is_retriable, passes
from ssm_stream.kafka.outages.patience import patiently
from ssm_stream.kafka.partition_queue import adjust_pauses
from ssm_stream.kafka.recorder.topic_recorder import record_topic
from ssm_stream.kafka.topic_head import first_documents
from ssm_stream.kafka.topic_reader import open_topic
from ssm_stream.kafka.transactional_producer import Part, TransactionalProducer
from ssm_stream.kafka.watch import topic as watch
from ssm_stream.kafka.watch import transactions
from ssm_stream.kafka.watch.topic import TopicWatch
from ssm_stream.kafka.wire.fetching import Fetched, MessageFetcher

PARTITIONS = 3

RETRIABLE = (
    "OFFSET_NOT_AVAILABLE",
    "NOT_LEADER_FOR_PARTITION",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "NOT_COORDINATOR",
    "NOT_CONTROLLER",
    "CONCURRENT_TRANSACTIONS",
    "NOT_ENOUGH_REPLICAS",
    "_TRANSPORT",
    "_TIMED_OUT",
)
GIVEN_UP = ("OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "_MSG_TIMED_OUT", "_PURGE_QUEUE")
OF_A_PERSON = (
    "TOPIC_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    "MSG_SIZE_TOO_LARGE",
    "_AUTHENTICATION",
    "_FENCED",
    "INVALID_PRODUCER_EPOCH",
)


@pytest.mark.parametrize("name", [*RETRIABLE, *GIVEN_UP, *OF_A_PERSON])
def test_errors_are_told_apart(name: str) -> None:
    error = KafkaError(getattr(KafkaError, name))
    assert is_retriable(error) == (name in RETRIABLE)
    assert passes(error) == (name not in OF_A_PERSON)


def test_a_fatal_error_passes_unless_a_person_must_act() -> None:
    """Skipped sequence numbers: a new producer begins anew; one that was fenced must not."""
    assert passes(KafkaError(KafkaError._INCONSISTENT, "skipped sequence numbers", fatal=True))
    assert passes(KafkaError(KafkaError.UNKNOWN, "any", txn_requires_abort=True))
    assert not passes(KafkaError(KafkaError.UNKNOWN, "any"))
    assert not passes(KafkaError(KafkaError._FENCED, "fenced", fatal=True))
    assert not passes(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no", txn_requires_abort=True))


def test_requests_are_repeated_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    calls = list[float]()

    def fail(code: int, times: int) -> Callable[[float], str]:
        calls.clear()

        def call(left: float) -> str:
            calls.append(left)
            if len(calls) <= times:
                raise KafkaException(KafkaError(code))
            return "answer"

        return call

    assert patiently("it", fail(KafkaError.OFFSET_NOT_AVAILABLE, 3), 5.0) == "answer"
    assert len(calls) == 4
    assert calls == sorted(calls, reverse=True)
    with pytest.raises(KafkaException):
        patiently("it", fail(KafkaError.TOPIC_AUTHORIZATION_FAILED, 3), 5.0)
    assert len(calls) == 1
    with pytest.raises(KafkaException, match="OFFSET_NOT_AVAILABLE"):
        patiently("it", fail(KafkaError.OFFSET_NOT_AVAILABLE, 1000), 0.2)


def test_offsets_that_no_leader_knows_yet_are_waited_for(mock_kafka: MockKafka) -> None:
    """Just after a leader has changed: "Leader high watermark is not caught up"."""
    topic = mock_kafka.topic("events", 1)
    mock_kafka.produce(topic, [b"1", b"2"])
    source = Source(brokers=mock_kafka.bootstrap_servers, topic=topic, wait=10)
    mock_kafka.push_errors(ApiKey.LIST_OFFSETS, [KafkaError.OFFSET_NOT_AVAILABLE] * 4)
    reading = PrefetchConsumer(source, (0,))
    feed = reading.attach(0, None, lambda chunk: list(chunk.messages))
    assert feed.first == 0
    reading.detach(feed, graceful=False)
    mock_kafka.push_errors(ApiKey.LIST_OFFSETS, [KafkaError.OFFSET_NOT_AVAILABLE] * 4)
    with open_topic(source) as reader:
        assert reader.spans([0])[0].end == 2
    mock_kafka.push_errors(ApiKey.LIST_OFFSETS, [KafkaError.OFFSET_NOT_AVAILABLE] * 500)
    patient = source.model_copy(update={"wait": 1.0})
    with pytest.raises(BrokerError, match="watermark is not caught up"), open_topic(patient) as reader:
        reader.spans([0])


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ApiKey.OFFSET_FETCH, KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey.OFFSET_FETCH, KafkaError.NOT_COORDINATOR),
        (ApiKey.LIST_OFFSETS, KafkaError.OFFSET_NOT_AVAILABLE),
        (ApiKey.INIT_PRODUCER_ID, KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
        (ApiKey.INIT_PRODUCER_ID, KafkaError.CONCURRENT_TRANSACTIONS),
    ],
)
def test_a_writer_waits_for_its_coordinator(request_: ApiKey, code: int) -> None:
    with EmbeddedBroker(topics={"t": 1, "p": 1, "a": 1, "d": 1}) as broker:
        settings = parse_config(
            f"source: {{brokers: '{broker.bootstrap_servers}', topic: t, wait: 15s}}\n"
            "event: {entity: e, timestamp: t}\nsinks: {predictions: p, alerts: a, dead_letters: d}\n"
        )
        broker.push_errors(request_, [code] * 3)
        producer = TransactionalProducer(settings, Part("0000", {"t": (0,)}, {}, 1_000_000))
        producer.close()


def test_a_call_that_never_returns_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the coordinator moves: a call that keeps its timeout is made again, one that does not ends the flow, and
    that is built again."""
    monkeypatch.setattr(transactional_producer, "STEP", 0.2)
    monkeypatch.setattr(transactional_producer, "GRACE", 0.2)
    with EmbeddedBroker(topics={"t": 1, "p": 1, "a": 1, "d": 1}) as broker:
        settings = parse_config(
            f"source: {{brokers: '{broker.bootstrap_servers}', topic: t, wait: 15s}}\n"
            "event: {entity: e, timestamp: t}\nsinks: {predictions: p, alerts: a, dead_letters: d}\n"
        )
        producer = TransactionalProducer(settings, Part("0000", {"t": (0,)}, {}, 1_000_000))
        given: list[float] = []

        def slow(seconds: float) -> str:
            given.append(seconds)
            if len(given) < 3:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            return "done"

        assert producer._call("send_offsets_to_transaction", slow) == "done"
        assert given == [0.2] * 3
        began = time.monotonic()
        with pytest.raises(BrokerError, match="has not returned") as found:
            producer._call("send_offsets_to_transaction", lambda _: time.sleep(20))
        assert found.value.passes
        assert time.monotonic() - began < 5
        producer.close()


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("code", [KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, KafkaError.INVALID_PRODUCER_ID_MAPPING])
def test_a_producer_that_has_given_up_is_made_again(
    mock_kafka: MockKafka, tmp_path: Path, workers: str, code: int
) -> None:
    """From the last epoch, in the same process, to the state of a run that nothing disturbed."""
    topic = mock_kafka.topic("events", PARTITIONS)
    mock_kafka.produce(topic, events(2_000))
    calm, made = Job(mock_kafka, tmp_path / "calm", topic), Job(mock_kafka, tmp_path / "job", topic)
    calm.run()
    mock_kafka.push_errors(ApiKey.PRODUCE, [code] * 3)
    output = made.run("-w", workers)
    assert '"event": "flow_restarts"' in output
    assert "Traceback" not in output
    assert "panicked" not in output
    assert "error:" not in output
    assert set(made.ids()) == set(calm.ids())
    assert made.state() == calm.state()


def test_without_a_state_on_disk_the_process_ends(mock_kafka: MockKafka, tmp_path: Path) -> None:
    """What was learned would be forgotten in silence."""
    topic = mock_kafka.topic("events", PARTITIONS)
    mock_kafka.produce(topic, events(500))
    made = Job(mock_kafka, tmp_path / "job", topic)
    content = orjson.loads(made.path.read_bytes())
    made.path.write_bytes(orjson.dumps({**content, "recovery": {"directory": None}}))
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER] * 3)
    process = made.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert "has given up" in output
    assert "flow_restarts" not in output


def test_an_error_that_never_ends_ends_the_process(mock_kafka: MockKafka, tmp_path: Path) -> None:
    topic = mock_kafka.topic("events", PARTITIONS)
    mock_kafka.produce(topic, events(500))
    made = Job(mock_kafka, tmp_path / "job", topic, source={"wait": "2s"})
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER] * 5_000)
    process = made.start("--until-eof")
    output = finished(process, 90)
    assert process.returncode == 1, output
    lines = [line for line in output.splitlines() if line and not line.startswith("{")]
    assert len(lines) == 2, output  # the sentence that says why, and the cure
    assert lines[0].startswith("error: ")


def test_a_broker_restarts_under_transactions(private_kafka: Callable[[], LocalKafka], tmp_path: Path) -> None:
    """Exactly once over a broker that comes back from a kill, then from its end: each event is predicted once."""
    kafka = private_kafka()
    if kafka.kind != "Apache Kafka":
        pytest.skip("other brokers forget transactions when they restart")
    topic = kafka.topic("events", PARTITIONS)
    made = ExactJob(kafka, tmp_path / "job", topic)
    kafka.produce(topic, events(2_000))
    process = made.start("-w", "2")
    wait_for(process, "started")
    for i, stop in enumerate((signal.SIGKILL, signal.SIGTERM)):
        kafka.stop(stop)
        time.sleep(1)
        kafka.start()
        kafka.produce(topic, events(1_000, seed=i + 1))
    deadline = time.monotonic() + 60
    while len(kafka.read(made.predictions)) < 4_000 and time.monotonic() < deadline:
        time.sleep(1)
    process.terminate()
    output = finished(process, 60)
    assert process.returncode == 0, output
    counts = Counter(orjson.loads(m.value() or b"")["id"] for m in kafka.read(made.predictions))
    assert (len(counts), max(counts.values())) == (4_000, 1), re.findall('"event": "[a-z_]+"', output)


def test_doctor_waits_for_a_leader(mock_kafka: MockKafka, tmp_path: Path) -> None:
    topic = mock_kafka.topic("events", 1)
    mock_kafka.produce(topic, events(10), partition=0)
    made = Job(mock_kafka, tmp_path, topic)
    mock_kafka.push_errors(ApiKey.LIST_OFFSETS, [KafkaError.NOT_LEADER_FOR_PARTITION] * 5)
    checks = {check.name: check for check in diagnose(made.config)}
    assert checks["reading"].ok, checks["reading"]


def test_topics_are_created_on_a_young_broker(kafka: Kafka) -> None:
    """All of a configuration's topics at once, and each is usable when the call returns."""
    if kafka.kind == "mock":
        pytest.skip("the embedded broker answers no admin request")
    topic = kafka.topic("young", 3)
    with open_topic(kafka.source(topic)) as reader:
        assert [span.end for span in reader.spans(range(3)).values()] == [0, 0, 0]


ASK_OF_GROUPS = """
import sys, time
from ssm_stream.config import load_config
from ssm_stream.kafka.foresight import topics

config = load_config(sys.argv[1])
client = topics.AdminClient(topics.client_properties(config.source))
topics.AdminClient = lambda _: client  # it knows the coordinator, and is not gone while that is away
for patience in (20, 0.5):
    topics.PATIENCE = patience
    print(list(topics._of_groups(config)), flush=True)
    sys.stdin.readline()
time.sleep(3)
print("alive")
"""


def test_a_coordinator_that_comes_back_does_not_end_who_asked_for_it(
    private_kafka: Callable[[], LocalKafka], tmp_path: Path
) -> None:
    """A request that librdkafka gives up by itself before that would: an assertion of its fails."""
    kafka = private_kafka()
    job = Job(kafka, tmp_path, kafka.topic("events", 1))
    with Forked(str(job.path), code=ASK_OF_GROUPS, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
        assert asking.stdin is not None
        assert asking.stdout is not None
        assert asking.stdout.readline() == "[]\n"
        kafka.stop(signal.SIGKILL)
        asking.stdin.write("\n")
        asking.stdin.flush()
        assert asking.stdout.readline() == "[]\n"
        kafka.start()
        output, _ = asking.communicate("\n", timeout=30)
    assert (asking.returncode, output) == (0, "alive\n")


MEMBER_OF_GROUP = """
import sys, threading, time
from ssm_stream.config import load_config
from ssm_stream.kafka.membership.consumer import GroupConsumer
sys.path.insert(0, sys.argv[2])
from members import NoFlow
from structlog.testing import capture_logs

class Member(GroupConsumer):
    def _on_assign(self, consumer, places):
        super()._on_assign(consumer, places)
        print(sorted(place.partition for place in places), flush=True)
        sys.stdin.readline()
        over.set()

over = threading.Event()
member = Member(load_config(sys.argv[1]), NoFlow(), lambda: None)
member.join()
over.wait(60)
time.sleep(3)
print(member.topic_partitions, member.broken, flush=True)
member.leave(graceful=False)
"""


class CountingConsumer(GroupConsumer):
    """Counts what it reads."""

    count = 0

    def _process(self, consumer: Consumer, fetched: Sequence[Fetched]) -> None:
        self.count += sum(len(each.messages) for each in fetched)


def restart_paused(member: GroupConsumer) -> None:
    """Begin anew with partitions for which there is no room."""
    assert member._consumer is not None
    adjust_pauses(member._consumer, member.source.topic, member.queues(), 1, room=False)
    member._restart()


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_a_partition_that_is_taken_away_while_it_is_paused_is_read_when_it_comes_again(
    kafka: Kafka, tmp_path: Path
) -> None:
    """As where the broker was away for so long that there was no room for more, and the group begins anew."""
    topic = kafka.topic("events", 1)
    kafka.produce(topic, [b"1", b"2", b"3"])
    config = parse_config(
        f"source: {{brokers: '{kafka.bootstrap_servers}', topic: {topic}, assignment: group}}\n"
        "event: {entity: machine, timestamp: ts, features: [load]}\n"
        f"state: {{store: {tmp_path / 'store'}}}\n"
    )
    member = CountingConsumer(config, NoFlow(), lambda: lambda *_: [])
    member.join()
    try:
        until(lambda: member.count == 3)
        member._in_reader(lambda: restart_paused(member))
        until(lambda: member.count == 6)
    finally:
        member.leave()


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_a_member_outlives_two_callbacks_of_one_poll(private_kafka: Callable[[], LocalKafka], tmp_path: Path) -> None:
    """An error of the broker is due in the poll that assigns partitions. confluent-kafka ends the process with SIGABRT
    where the first of two callbacks has used its client for what unlocks the interpreter (`list_topics`)."""
    kafka, path = private_kafka(), tmp_path / "monitor.yaml"
    path.write_text(
        f"source: {{brokers: '{kafka.bootstrap_servers}', topic: {kafka.topic('events', 2)}, assignment: group}}\n"
        "event: {entity: machine, timestamp: ts, features: [load]}\n"
        f"state: {{store: {tmp_path / 'store'}}}\n"
    )
    with Forked(
        str(path), str(Path(__file__).parent), code=MEMBER_OF_GROUP, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as member:
        assert member.stdout is not None
        assert member.stdout.readline() == "[0, 1]\n"
        kafka.stop(signal.SIGKILL)
        time.sleep(2.0)  # until the client has noticed, and has queued its error
        kafka.start()
        output, _ = member.communicate("\n", timeout=60)
    assert (member.returncode, output.splitlines()[-1]) == (0, "2 None"), output


SOON = {"topic.metadata.propagation.max.ms": 1000}
"""After so long the client reports a topic that is gone, in a way of its own."""


def deleting(kafka: Kafka, topic: str, processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Delete a topic while processes read it; return how each has ended, and its output."""
    for process in processes:
        wait_for(process, "started")
    time.sleep(2)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})  # its answers are lost with it
    admin.delete_topics([topic])[topic].result(20)
    outputs = [finished(process, 60) for process in processes]
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_a_topic_that_is_deleted_while_it_is_read_ends_the_run_with_the_reason(kafka: Kafka, tmp_path: Path) -> None:
    """Also in a group, and where the client itself reports it before."""
    topic = kafka.topic("events", PARTITIONS)
    kafka.produce(topic, events(300))
    jobs = [Job(kafka, tmp_path / name, topic, source={"wait": "6s", "kafka": SOON}) for name in ("a", "b", "c")]
    member = orjson.loads(jobs[2].path.read_bytes())
    member["source"]["assignment"], member["state"] = "group", {"store": str(tmp_path / "store")}
    del member["recovery"]
    jobs[2].path.write_bytes(orjson.dumps(member))
    by_message = {**os.environ, "SSM_STREAM_CLIENT": "python"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    processes = [jobs[0].start(), Forked("run", str(jobs[1].path), env=by_message, **options), jobs[2].start()]
    for code, output in deleting(kafka, topic, processes):
        assert code == 1, output
        lines = [line for line in output.splitlines() if line and not line.startswith("{")]
        assert len(lines) == 2, output  # the sentence that says why, and the cure
        assert f"error: topic '{topic}' on {kafka.bootstrap_servers} does not exist any more" in lines[0]
        assert "--create-topics" in lines[1]


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_a_topic_of_feedback_that_is_deleted_ends_the_run_with_the_reason(kafka: Kafka, tmp_path: Path) -> None:
    topic, said = kafka.topic("events", 1), kafka.topic("said", 1)
    kafka.produce(topic, events(100))
    job = Job(kafka, tmp_path, topic, source={"wait": "6s", "kafka": SOON})
    content = orjson.loads(job.path.read_bytes())
    job.path.write_bytes(orjson.dumps({**content, "alerts": {"feedback": {"topic": said}}}))
    ((code, output),) = deleting(kafka, said, [job.start()])
    assert code == 1, output
    assert f"error: topic '{said}' on {kafka.bootstrap_servers} does not exist any more" in output


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_a_control_topic_that_is_deleted_ends_the_run_with_the_reason(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned stops would not come any more. It is read with the events that come."""
    monkeypatch.setattr(watch, "INTERVAL", 0.2)
    topic, said = kafka.topic("events", 1), kafka.topic("said", 1)
    config = parse_config(
        f"source: {{brokers: '{kafka.bootstrap_servers}', topic: {topic}, wait: 1s}}\n"
        f"event: {{entity: e, timestamp: t}}\nalerts: {{control: {{topic: {said}}}}}\n"
    )
    control = ControlTopic(config)
    assert control.windows(0, 0) == ()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_topics([said])[said].result(20)

    def is_gone() -> bool:
        try:
            return control.windows(0, 0) != ()
        except BrokerError as error:
            return "does not exist any more" in str(error)

    until(is_gone)
    control.close()


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_a_topic_that_is_unknown_for_a_moment_is_waited_for(kafka: Kafka) -> None:
    """As of a broker that starts: another answer, or none, and the time begins anew."""
    topic = kafka.topic("events", 2)
    source = Source(brokers=kafka.bootstrap_servers, topic=topic, wait=0.2)
    with open_consumer(source, LastError(source)) as client:
        there, gone, moved = (TopicWatch(each, 0) for each in (source, with_topic(source, f"{topic}-no"), source))
        there.check(client, [0, 1])
        gone.check(client, [])
        moved.check(client, [0, 2])
        time.sleep(0.3)
        there.check(client, [0, 1])
        with pytest.raises(BrokerError, match="does not exist any more"):
            gone.check(client, [])
        with pytest.raises(BrokerError, match=r"partition 2 on .* does not exist any more"):
            moved.check(client, [0, 2])
        away = mock.Mock(list_topics=mock.Mock(side_effect=KafkaException(KafkaError(KafkaError._TRANSPORT))))
        gone.check(away, [])
        gone.check(client, [])


class LeftOpen:
    """A transaction that a producer has begun and left, of so many messages."""

    def __init__(self, kafka: Kafka, topic: str, messages: int) -> None:
        settings = {"transactional.id": f"left-{topic}", "transaction.timeout.ms": 600_000}
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, **settings})
        self._producer.init_transactions(30)
        self._producer.begin_transaction()
        for i in range(messages):
            self._producer.produce(topic, orjson.dumps({"e": "m", "t": 1_700_000_000_000 + i}), partition=0)
        self._producer.flush(20)

    def abort(self) -> None:
        self._producer.abort_transaction(20)


@pytest.mark.parametrize("client", [None, "python"])
@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_what_waits_behind_an_open_transaction_is_lag(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, client: str | None
) -> None:
    """And named in the log; markers at a partition's end are none."""
    monkeypatch.setattr(transactions, "LONG", 0.5)
    if client:
        monkeypatch.setattr(consumer, "fetcher_of", lambda made, topic: MessageFetcher(made))
    topic = kafka.topic("events", 1)
    kafka.produce(topic, [b"{}"] * 50)
    open_ = LeftOpen(kafka, topic, 10)
    kafka.produce(topic, [b"{}"] * 40)
    with capture_logs() as lines:
        reading = PrefetchConsumer(Source(brokers=kafka.bootstrap_servers, topic=topic, batch=20), (0,))
        feed = reading.attach(0, None, lambda chunk: list(chunk.messages))

        def state() -> tuple[int | None, bool]:
            reading.take(feed, 1000)
            (found,) = reading.positions()
            return found.lag if found.next == 50 else None, found.caught_up

        until(lambda: state() == (50, False))
        until(lambda: any(line["event"] == "open_transaction" for line in lines))
        assert sum(line["event"] == "open_transaction" for line in lines) == 1
        open_.abort()
        until(lambda: reading.take(feed, 1000)[1] and reading.positions()[0].next == 100)
        time.sleep(1.5)  # until the end is measured
        assert [(each.lag, each.caught_up) for each in reading.positions()] == [(0, True)]
        reading.detach(feed, graceful=False)


@pytest.mark.parametrize("client", [None, "python"])
@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_a_run_to_the_end_names_what_it_leaves_behind_an_open_transaction(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, client: str | None
) -> None:
    """It ends there at once, as of a topic that has no more: nothing else shows that messages were left."""
    if client:
        monkeypatch.setattr(consumer, "fetcher_of", lambda made, topic: MessageFetcher(made))
    topic = kafka.topic("events", 2)
    kafka.produce(topic, [b"{}"] * 50, partition=0)
    kafka.produce(topic, [b"{}"] * 7, partition=1)
    open_ = LeftOpen(kafka, topic, 10)
    with capture_logs() as lines:
        source = Source(brokers=kafka.bootstrap_servers, topic=topic, batch=20)
        reading = PrefetchConsumer(source, (0, 1), until_eof=True)
        feeds = [reading.attach(p, None, lambda chunk: list(chunk.messages)) for p in (0, 1)]
        until(lambda: all(reading.take(feed, 1000)[1] for feed in feeds))
        assert [(each.next, each.lag) for each in reading.positions()] == [(50, 10), (7, 0)]
        for feed in feeds:
            reading.detach(feed, graceful=False)
    open_.abort()
    (found,) = [line for line in lines if line["event"] == "open_transaction"]
    assert "partition 0: 10 messages from offset 50 on wait for a transaction of another program" in found["error"]
    assert found["error"].endswith("; this run ends before them")
    assert f"--topic {topic} --partition 0 --start-offset 50" in found["cure"]


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_a_topic_on_which_all_waits_for_a_transaction_is_not_called_empty(kafka: Kafka) -> None:
    topic = kafka.topic("events", 1)
    open_ = LeftOpen(kafka, topic, 10)
    source = f"source: {{brokers: '{kafka.bootstrap_servers}', topic: {topic}}}"
    config = parse_config(f"{source}\nevent: {{entity: e, timestamp: t, target: x}}")
    try:
        with pytest.raises(BrokerError, match=r"nothing to select features from: .* 10 messages from offset 0 on wait"):
            first_documents(config, (0,), 200, until_eof=True)
    finally:
        open_.abort()
    with pytest.raises(BrokerError, match=f"from on topic '{topic}', which is empty"):
        first_documents(config, (0,), 200, until_eof=True)


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_doctor_and_record_name_an_open_transaction_and_how_to_end_it(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic("events", 1)
    kafka.produce(topic, [orjson.dumps({"e": "m", "t": 1_690_000_000_000 + i, "x": i}) for i in range(30)])
    config = parse_config(
        f"source: {{brokers: '{kafka.bootstrap_servers}', topic: {topic}}}\nevent: {{entity: e, timestamp: t}}\n"
    )
    calm = {check.name: check for check in diagnose(config)}
    assert "open there" not in calm["reading"].found
    open_ = LeftOpen(kafka, topic, 10)
    try:
        check = {check.name: check for check in diagnose(config)}["reading"]
        assert check.ok
        assert "partition 0: 10 messages from offset 30 on wait for a transaction of another program" in check.found
        assert f"--topic {topic} --partition 0 --start-offset 30" in check.cure
        said = describe(config, record_topic(config, tmp_path / "found.parquet"))
        assert "30 events of topic" in said
        assert "10 messages from offset 30 on wait for a transaction" in said
        assert "--start-offset 30" in said
    finally:
        open_.abort()
