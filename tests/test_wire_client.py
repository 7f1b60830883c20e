"""Batches past the interpreter are what confluent-kafka reads and produces message by message."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from ssm_stream.core import native
from ssm_stream.kafka.client import KafkaProducer
from ssm_stream.kafka.embedded_broker import ApiKey, EmbeddedBroker
from ssm_stream.kafka.wire import library
from ssm_stream.kafka.wire.fetching import BatchFetcher, Fetched, Fetcher, MessageFetcher, fetcher_of
from ssm_stream.kafka.wire.library import PLUGINS, is_available, with_plugin
from ssm_stream.kafka.wire.messages import ReadMessage, keys_of, unread, values_of
from ssm_stream.kafka.wire.values import WrittenValues

PRODUCER = {"linger.ms": 5, "delivery.report.only.error": True, "partitioner": "murmur2_random"}


def test_the_installed_client_is_one_that_takes_batches() -> None:
    assert is_available()
    assert native.librdkafka_version() >> 24 == 2


def test_own_plugins_stay() -> None:
    assert with_plugin({PLUGINS: "mine"})[PLUGINS] == f"mine;{native.__file__}"


def test_without_the_library_messages_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.SWITCH, "python")
    library.is_available.cache_clear()
    try:
        assert with_plugin({"a": 1}) == {"a": 1}
        with EmbeddedBroker(topics={"t": 1}) as broker:
            producer = KafkaProducer({"bootstrap.servers": broker.bootstrap_servers})
            assert not producer.takes_batches
            assert producer.hand_over("t", ["k"], [b"v"], 0, 1) == 0
            consumer = Consumer(with_plugin({"bootstrap.servers": broker.bootstrap_servers, "group.id": "g"}))
            assert isinstance(fetcher_of(consumer, "t"), MessageFetcher)
            consumer.close()
    finally:
        monkeypatch.undo()
        library.is_available.cache_clear()


def consumer_of(servers: str) -> Consumer:
    return Consumer(with_plugin({"bootstrap.servers": servers, "group.id": "g", "enable.partition.eof": True}))


def read_all(
    servers: str, topic: str, partitions: Sequence[int], most: int, make: Callable[[Consumer], Fetcher]
) -> dict[int, list[tuple[Any, ...]]]:
    """By partition: all messages, and at which of them its end was reported."""
    consumer = consumer_of(servers)
    fetcher = make(consumer)
    for partition in partitions:
        fetcher.add(topic, [partition])
        consumer.incremental_assign([TopicPartition(topic, partition, 0)])
    found: dict[int, list[tuple[Any, ...]]] = {partition: [] for partition in partitions}
    ended, deadline = set[int](), time.monotonic() + 30
    while len(ended) < len(partitions) and time.monotonic() < deadline:
        for each in fetcher.fetch(most, lambda _: nullcontext()):
            assert each.partition is not None
            found[each.partition] += map(content, each.messages)
            if each.ends:
                assert [error.code() for error in each.errors] == [KafkaError._PARTITION_EOF]
                ended.add(each.partition)
    fetcher.close()
    consumer.close()
    assert len(ended) == len(partitions)
    return found


def content(message: ReadMessage) -> tuple[Any, ...]:
    return (
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.headers(),
        message.timestamp(),
    )


def batches(topic: str) -> Callable[[Consumer], Fetcher]:
    return lambda consumer: fetcher_of(consumer, topic)


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_messages_are_those_of_the_client(kafka: Kafka, most: int) -> None:
    """Without key, value or headers, with empty ones, with a header without value, with text that is no ASCII."""
    topic = kafka.topic("wire", 3)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    headers: list[Any] = [None, [("ä", b"1"), ("b", None), ("b", b"")]]
    for i in range(300):
        value = [None, b"", f'{{"id":{i},"ö":"日本"}}'.encode()][i % 3 if i < 30 else 2]
        key = [None, b"", b"k" * i][i % 3]
        producer.produce(topic, value, key, partition=i % 2, timestamp=1_000 + i, headers=headers[i % 7 == 0])
    producer.flush(20)
    got = read_all(kafka.bootstrap_servers, topic, [0, 1, 2], most, batches(topic))
    assert got == read_all(kafka.bootstrap_servers, topic, [0, 1, 2], most, MessageFetcher)
    assert [len(got[partition]) for partition in range(3)] == [150, 150, 0]
    assert [row[2] for row in got[0]] == list(range(150))


def test_a_batch_is_a_sequence(kafka: Kafka) -> None:
    topic = kafka.topic("wire", 1)
    kafka.produce(topic, [(f"k{i}".encode(), f"v{i}".encode()) for i in range(10)])
    consumer = consumer_of(kafka.bootstrap_servers)
    fetcher = fetcher_of(consumer, topic)
    assert isinstance(fetcher, BatchFetcher)
    fetcher.add(topic, [0])
    consumer.incremental_assign([TopicPartition(topic, 0, 0)])
    found = fetch_some(fetcher)
    fetcher.close()
    consumer.close()  # what was read stays
    messages = found.messages
    assert values_of(messages) == [f"v{i}".encode() for i in range(len(messages))]
    assert keys_of(messages) == [f"k{i}".encode() for i in range(len(messages))]
    assert messages[-1].offset() == len(messages) - 1
    assert [message.offset() for message in messages[2:5]] == [2, 3, 4][: max(len(messages) - 2, 0)]
    assert unread(messages, 0) is messages
    assert [message.offset() for message in unread(messages, 3)] == list(range(3, len(messages)))
    assert [message.offset() for message in unread([*messages[:4], *messages[2:6]], 1)] == [1, 2, 3, 4, 5]
    assert not unread(messages, len(messages))
    with pytest.raises(IndexError):
        messages[len(messages)]
    with pytest.raises(ValueError, match="closed"):
        fetcher._reading.wait(0)


def fetch_some(fetcher: Fetcher) -> Fetched:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for each in fetcher.fetch(1000, lambda _: nullcontext()):
            if each.messages:
                return each
    raise AssertionError("nothing came")


def test_a_partition_that_is_paused_and_resumed_repeats_and_loses_nothing(kafka: Kafka) -> None:
    topic = kafka.topic("wire", 2)
    for partition in range(2):
        kafka.produce(topic, [b"%d" % i for i in range(5_000)], partition)
    consumer = consumer_of(kafka.bootstrap_servers)
    fetcher = fetcher_of(consumer, topic)
    places = [TopicPartition(topic, partition, 0) for partition in range(2)]
    for place in places:
        fetcher.add(topic, [place.partition])
        consumer.incremental_assign([place])
    offsets: dict[int, list[int | None]] = {0: [], 1: []}
    turn, deadline = 0, time.monotonic() + 30
    while sum(map(len, offsets.values())) < 10_000 and time.monotonic() < deadline:
        for each in fetcher.fetch(100, lambda _: nullcontext()):
            assert each.partition is not None
            offsets[each.partition] += [message.offset() for message in each.messages]
        turn += 1
        if turn in (3, 12, 16, 24):
            (consumer.pause if turn in (3, 16) else consumer.resume)([TopicPartition(topic, 1)])
    fetcher.close()
    consumer.close()
    assert offsets == {0: list(range(5_000)), 1: list(range(5_000))}


def test_produced_messages_are_those_of_the_client(kafka: Kafka) -> None:
    """The same partitions, in the same order."""
    topics = [kafka.topic("wire", 3) for _ in range(2)]
    keys = [f"machine {i % 17} ü" for i in range(2_000)]
    values = [b'{"n":%d}' % i for i in range(2_000)]
    producer = KafkaProducer({"bootstrap.servers": kafka.bootstrap_servers, **PRODUCER})
    assert producer.hand_over(topics[0], keys, values, 5, 2_000) == 1_995
    for key, value in zip(keys[5:], values[5:], strict=True):
        producer.produce(topics[1], value, key)
    assert producer.flush(20) == 0
    assert producer.failure() is None
    read = [[(m.partition(), m.key(), m.value()) for m in kafka.read(topic, 1_995)] for topic in topics]
    assert read[0] == read[1]


def test_a_full_queue_takes_a_part() -> None:
    with EmbeddedBroker(topics={"t": 1}) as broker:
        limits = {"queue.buffering.max.messages": 10, "linger.ms": 10_000}
        producer = KafkaProducer({"bootstrap.servers": broker.bootstrap_servers, **PRODUCER, **limits})
        keys, values = ["k"] * 25, [b"%d" % i for i in range(25)]
        assert producer.hand_over("t", keys, values, 0, 4) == 4
        assert producer.hand_over("t", keys, values, 4, 25) == 6
        assert producer.hand_over("t", keys, values, 10, 25) == 0
        assert producer.flush(10) == 0
        assert producer.hand_over("t", keys, values, 10, 25) == 10
        producer.purge()


def test_a_message_that_is_not_delivered_is_reported() -> None:
    with EmbeddedBroker(topics={"t": 1}) as broker:
        producer = KafkaProducer({"bootstrap.servers": broker.bootstrap_servers, **PRODUCER})
        broker.push_errors(ApiKey.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
        assert producer.hand_over("t", ["k"], [b"v"], 0, 1) == 1
        producer.flush(10)
        failed = producer.failure()
        assert failed is not None
        topic, error, text = failed
        assert (topic, error.code()) == ("t", KafkaError.TOPIC_AUTHORIZATION_FAILED)
        assert "authorization" in text.lower()


def test_own_callbacks_get_what_is_produced_one_by_one() -> None:
    """Errors of batches go to `failure`, those of single messages to their callback."""
    reports: list[Any] = []
    with EmbeddedBroker(topics={"t": 1}) as broker:
        settings = {**PRODUCER, "on_delivery": lambda error, _: reports.append(error)}
        producer = KafkaProducer({"bootstrap.servers": broker.bootstrap_servers, **settings})
        broker.push_errors(ApiKey.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
        producer.produce("t", b"v")
        producer.flush(10)
        assert producer.failure() is None
        assert [error.code() for error in reports] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]


@pytest.mark.parametrize(
    ("keys", "values", "begin", "end", "error"),
    [
        (["k"], [b"1", b"2"], 0, 2, ValueError),
        (["k"], [b"1"], 2, 2, ValueError),
        (["k"], [b"1"], 1, 0, ValueError),
        (["k"], [b"1"], 0, 2, ValueError),
        (["k"], [b"1"], -1, 1, ValueError),
        (["k"], ["1"], 0, 1, TypeError),
        ([1], [b"1"], 0, 1, TypeError),
    ],
)
def test_what_is_handed_over_is_checked(keys: list[Any], values: list[Any], begin: int, end: int, error: type) -> None:
    with EmbeddedBroker(topics={"t": 1}) as broker:
        producer = KafkaProducer({"bootstrap.servers": broker.bootstrap_servers, **PRODUCER})
        with pytest.raises(error):
            producer.hand_over("t", keys, values, begin, end)


def test_a_client_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no such client"):
        native.Producing(12345)


def test_a_run_writes_the_same_bytes_either_way(tmp_path: Path) -> None:
    """Two processes, one with each."""
    code = Path(__file__).with_name("wire_run.py")
    out = []
    for way in ("native", "python"):
        environment = {**os.environ, "SSM_STREAM_CLIENT": way}
        command = [sys.executable, str(code), str(tmp_path / way)]
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120)
        out.append((tmp_path / way / "out.txt").read_bytes())
    assert out[0] == out[1]
    assert out[0].count(b"\n") > 2_000


def test_rows_are_produced_from_where_they_were_written(kafka: Kafka) -> None:
    topic, pieces = kafka.topic("wire", 1), [[b'{"k":', b',"i":', b"}"]]
    names = [["ä", "m" * 300, 'q"'][i % 3] for i in range(3_000)]
    rows = WrittenValues(native.write_json(pieces, names, [list(range(3_000))]))
    want = [orjson.dumps({"k": name, "i": i}) for i, name in enumerate(names)]
    assert list(rows) == [rows[i] for i in range(3_000)] == want
    assert rows[-1] == want[-1]
    assert rows[2_990:] == want[2_990:]
    with pytest.raises(IndexError):
        rows[3_000]
    producer = KafkaProducer({"bootstrap.servers": kafka.bootstrap_servers, **PRODUCER})
    assert producer.hand_over(topic, names, rows, 0, 3_000) == 3_000
    del rows
    assert producer.flush(20) == 0
    assert producer.failure() is None
    found = read_all(kafka.bootstrap_servers, topic, [0], 1_000, batches(topic))[0]
    assert [(row[3], row[4]) for row in found] == [
        (name.encode(), value) for name, value in zip(names, want, strict=True)
    ]


def test_a_chunk_has_so_many_messages_at_most(kafka: Kafka) -> None:
    topic = kafka.topic("wire", 2)
    for partition in range(2):
        kafka.produce(topic, [b"%d" % i for i in range(1_000)], partition)
    consumer = consumer_of(kafka.bootstrap_servers)
    fetcher, sizes = fetcher_of(consumer, topic), list[int]()
    for partition in range(2):
        fetcher.add(topic, [partition])
        consumer.incremental_assign([TopicPartition(topic, partition, 0)])
    deadline = time.monotonic() + 20
    while sum(sizes) < 2_000 and time.monotonic() < deadline:
        sizes += [len(each.messages) for each in fetcher.fetch(100, lambda _: nullcontext())]
    fetcher.close()
    consumer.close()
    assert sum(sizes) == 2_000
    assert max(sizes) == 800
