"""Topics that are not keyed by entity: copied to the partitions of the entities, then read as any other."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from test_readings import config as readings_config
from test_readings import shuffled, stream
from test_readings_stream import ReadingsJob, expected_of, keyed, predictions
from test_stream import Job, finished, wait_for
from test_windows_stream import WindowsJob, requests

from ssm_stream.config import ConfigError, parse_config
from ssm_stream.evaluate.pools import partition_of
from ssm_stream.ingest.rows.stage import read_rows
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.repartition.copier import Repartition
from ssm_stream.kafka.repartition.entity_partitions import EntityPartitions
from ssm_stream.kafka.repartition.merge import PartitionMerge

PARTITIONS = 3
SOURCE = """
source: {{brokers: 'localhost:1', topic: t, repartition: raw{more}}}
event: {{entity: e, timestamp: t{event}}}
"""


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=60), st.randoms())
def test_partitions_are_merged_by_time_however_they_are_read(rows: list[tuple[int, int]], order: random.Random) -> None:
    """Each in its own order; nothing is passed on that another partition could still precede."""
    queues: dict[int, list[tuple[int, int, int]]] = {p: [] for p in range(3)}
    for partition, ts in rows:
        queues[partition].append((ts, partition, len(queues[partition])))
    whole: PartitionMerge[tuple[int, int, int]] = PartitionMerge(range(3))
    for partition, queue in queues.items():
        for each in queue:
            whole.add(partition, each[0], each)
    assert list(whole.ready()) == [] or all(queues.values())
    for partition in range(3):
        whole.set_at_end(partition)
    merge: PartitionMerge[tuple[int, int, int]] = PartitionMerge(range(3))
    found, left = [], {p: list(queue) for p, queue in queues.items()}
    while any(left.values()):
        partition = order.choice([p for p in left if left[p]])
        for _ in range(order.randint(1, 4)):
            if left[partition]:
                each = left[partition].pop(0)
                merge.add(partition, each[0], each)
        if not left[partition]:
            merge.set_at_end(partition)
        found += merge.ready()
        for other in (p for p in left if not queues[p]):
            merge.set_at_end(other)
    found += merge.ready()
    assert [[each for each in found if each[1] == p] for p in range(3)] == [queues[p] for p in range(3)]
    if all(queue == sorted(queue) for queue in queues.values()) and all(queues.values()):
        assert found == sorted(found, key=lambda each: each[:2])


def test_what_it_excludes_is_refused() -> None:
    assert parse_config(SOURCE.format(more="", event="")).source.repartition == "raw"
    for more, event, words in (
        (", partitions: [0]", "", "together with `partitions`"),
        ("", ", features: auto", "list the features"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_config(SOURCE.format(more=more, event=event))
    with pytest.raises(ConfigError, match="must all differ"):
        parse_config(SOURCE.format(more="", event="").replace("raw", "t"))
    with pytest.raises(ConfigError, match="members do not agree on one yet"):
        parse_config(f"{SOURCE.format(more=', assignment: group', event='')}state: {{store: /tmp/store}}\n")
    with pytest.raises(ConfigError, match="together with `topics`"):
        parse_config(SOURCE.format(more="", event="").replace("topic: t", "topics: [t, u]"))


class Sent:
    """A message as the consumer gives it, in partition 4."""

    def __init__(self, key: bytes, headers: list[tuple[str, bytes]], value: bytes = b'{"t": 1, "v": 2}') -> None:
        self.key, self.headers, self.value = (lambda: key), (lambda: headers), (lambda: value)
        self.partition = lambda: 4


@pytest.mark.parametrize(
    "entity",
    ["entity: $key", "entity: $header.m", "tag: {field: $key, pattern: '{entity}/{signal}'}, value: v"],
)
def test_a_name_that_is_not_utf8_has_the_partition_of_its_neighbours(entity: str) -> None:
    """So that one foreign message does not end the copying, at each start again."""
    source = "source: {brokers: 'localhost:1', topic: t, repartition: raw}\n"
    inputs = "layout: readings, target: y" if "tag" in entity else "features: [v], target: y"
    choose = EntityPartitions(parse_config(f"{source}event: {{{entity}, timestamp: t, {inputs}}}\n"), PARTITIONS)
    sent: list[Any] = [Sent(name + b"/y" * ("tag" in entity), [("m", name)]) for name in (b"a", b"\xff\xfe", b"b")]
    assert choose(sent) == [partition_of("a", PARTITIONS), 4 % PARTITIONS, partition_of("b", PARTITIONS)]


def spread(job: Job, raw: str, partitions: int = PARTITIONS) -> Job:
    """Let a job read a topic that is not keyed by entity. Its own topic is created."""
    content = orjson.loads(job.path.read_bytes())
    job.topic = job.kafka.topic("keyed", partitions)
    content["source"] |= {"topic": job.topic, "repartition": raw}
    job.path.write_bytes(orjson.dumps(content))
    return job


def by_signal(kafka: Kafka, readings: list[dict[str, Any]]) -> str:
    """A topic of readings that is keyed by the signal, with the times of readings as those of messages."""
    raw = kafka.topic("raw", PARTITIONS)
    kafka.produce(raw, keyed(readings, "signal"), timestamps=[each["ts"] for each in readings])
    return raw


@pytest.fixture
def exact(kafka: Kafka) -> Kafka:
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    return kafka


@pytest.mark.parametrize("event", [{"grace": "2s"}, {"every": "3s", "grace": "2s"}], ids=["arrival", "grid"])
def test_rows_of_readings_by_several_partitions_are_equal_through_kills(
    exact: Kafka, tmp_path: Path, event: dict[str, Any]
) -> None:
    """The rows are those of all readings; nothing is lost or repeated; each result is the engine's, to the bit."""
    readings = shuffled(stream(20_000, 2, machines=30, span=100), 1_500, 3)
    raw = by_signal(exact, readings)
    made = spread(ReadingsJob(exact, tmp_path / "killed", raw, delivery="exactly_once", **event), raw)
    made.kill_often(random.Random(7), 4, 3.0)
    made.run(timeout=180)
    copies = Counter(message.value() for message in exact.read(made.topic))
    assert copies == Counter(value for _, value in keyed(readings))
    told = predictions(made, exact)
    assert told == sorted(expected_of(made, exact))
    assert len({each[3] for each in told}) == len(told) > 2_000
    assert exact.read(made.dead) == []
    rows, _ = read_rows(readings_config(**event).event, readings)
    found = {
        (each["entity"], each["ts"]): each["y"]
        for each in (orjson.loads(m.value() or b"") for m in exact.read(made.predictions))
    }
    expected = {
        (name, ts): None if y != y else y
        for name, ts, y in zip(rows.entity, rows.ts.tolist(), rows.target.tolist(), strict=True)
    }
    assert found.items() <= expected.items()
    waiting = expected.keys() - found.keys()
    last = {name: max(ts for n, ts in found if n == name) for name, _ in found}
    assert all(ts > last[name] for name, ts in waiting), "only rows that a later reading would complete are left out"


def test_windows_of_events_by_several_partitions(exact: Kafka, tmp_path: Path) -> None:
    documents = requests(12_000, 2, 20)
    raw = exact.topic("raw", PARTITIONS)
    exact.produce(
        raw, [(b"%d" % i, orjson.dumps(each)) for i, each in enumerate(documents)],
        timestamps=[each["at"] for each in documents],
    )  # fmt: skip
    one = exact.topic("one", 1)
    exact.produce(one, [(each["service"].encode(), orjson.dumps(each)) for each in documents])
    whole = WindowsJob(exact, tmp_path / "whole", one)
    whole.run()
    made = spread(WindowsJob(exact, tmp_path / "killed", raw, delivery="exactly_once"), raw)
    made.kill_often(random.Random(3), 3, 3.0)
    made.run(timeout=180)

    def contents(job: Job) -> dict[tuple[str, int], float | None]:
        read = [orjson.loads(m.value() or b"") for m in exact.read(job.predictions)]
        assert len({(each["entity"], each["ts"]) for each in read}) == len(read)
        return {(each["entity"], each["ts"]): each["y"] for each in read}

    found, expected = contents(made), contents(whole)
    assert len(found) > 1_000
    # How far the other entities have come closes a window that nothing follows: the partitions are others.
    assert {key: value for key, value in found.items() if key in expected}.items() <= expected.items()
    assert len(found.keys() ^ expected.keys()) < 20 * 5
    assert exact.read(made.dead) == []


def test_messages_are_copied_as_they_are(exact: Kafka, tmp_path: Path) -> None:
    """Value, key and headers; those without an entity in UTF-8 too, whose dead letters have their reason."""
    raw = exact.topic("raw", 2)
    producer = Producer({"bootstrap.servers": exact.bootstrap_servers})
    sent = [
        (b"m1.a", orjson.dumps({"ts": 1_700_000_000_000, "value": 1.5}), [("h", b"x"), ("h", b"y")]),
        (b"m2.y", orjson.dumps({"ts": 1_700_000_000_001, "value": 2.5}), []),
        (b"nothing", b"not json", []),
        (b"\xff\xfe.y", orjson.dumps({"ts": 1_700_000_000_002, "value": 3.5}), []),
        (None, None, []),
    ]
    for i, (key, value, headers) in enumerate(sent):
        producer.produce(raw, value, key, i % 2, headers=headers, timestamp=1_700_000_000_000 + i)
    producer.flush(10)
    made = ReadingsJob(exact, tmp_path / "job", raw)
    content = orjson.loads(made.path.read_bytes())
    del content["event"]["entity"], content["event"]["signal"]
    content["event"]["tag"] = {"field": "$key", "pattern": "{entity}.{signal}"}
    made.path.write_bytes(orjson.dumps(content))
    spread(made, raw, partitions=5)
    made.run()
    copies = exact.read(made.topic)
    assert sorted((m.key() or b"", m.value() or b"", m.headers() or []) for m in copies) == sorted(
        (key or b"", value or b"", headers) for key, value, headers in sent
    )
    at = {m.key(): m.partition() for m in copies}
    assert (at[b"m1.a"], at[b"m2.y"]) == (partition_of("m1", 5), partition_of("m2", 5))
    assert [orjson.loads(m.value() or b"")["entity"] for m in exact.read(made.predictions)] == ["m2"]
    assert len(exact.read(made.dead)) == 3


def test_what_comes_is_copied_at_once_and_a_second_process_takes_over(exact: Kafka, tmp_path: Path) -> None:
    raw = exact.topic("raw", PARTITIONS)
    made = spread(ReadingsJob(exact, tmp_path / "job", raw), raw)
    process = made.start()
    wait_for(process, "repartitioning")
    time.sleep(1)
    began = time.monotonic()
    exact.produce(raw, keyed(stream(300, 1), "signal"))
    assert len(exact.read(made.topic, 300)) == 300
    assert time.monotonic() - began < 5
    other = Repartition(made.config)
    other.close()
    exact.produce(raw, keyed(stream(10, 1), "signal"))
    output = finished(process, 30)
    assert process.returncode == 1, output
    assert "another process with the same source.group copies the topic" in output, output


def test_lost_positions_are_refused(exact: Kafka, tmp_path: Path) -> None:
    """Nothing is copied a second time because the broker has forgotten how far the copies reach."""
    raw = by_signal(exact, stream(100, 1))
    made = spread(ReadingsJob(exact, tmp_path / "job", raw), raw)
    made.run()
    content = orjson.loads(made.path.read_bytes())
    content["source"]["group"] = another = f"another-{made.topic}"
    made.path.write_bytes(orjson.dumps(content))
    with pytest.raises(BrokerError, match=rf"has messages, and group '{another}-repartition' has no positions"):
        Repartition(made.config)
    group = {"bootstrap.servers": exact.bootstrap_servers, "group.id": f"{made.config.source.group_id}-repartition"}
    consumer = Consumer(group)
    consumer.commit(offsets=[TopicPartition(raw, p, 0) for p in range(PARTITIONS)], asynchronous=False)
    consumer.close()
    made.run()
    assert len(exact.read(made.topic)) == 200, "an operator may have all of it copied again"


def test_start_latest_copies_what_comes_from_now_on(exact: Kafka, tmp_path: Path) -> None:
    raw = exact.topic("raw", 1)
    exact.produce(raw, keyed(stream(50, 1)))
    made = spread(ReadingsJob(exact, tmp_path / "job", raw), raw, 1)
    content = orjson.loads(made.path.read_bytes())
    content["source"]["start"] = "latest"
    made.path.write_bytes(orjson.dumps(content))
    copier = Repartition(made.config)
    exact.produce(raw, keyed(stream(7, 2)))
    copier.run(lambda: False, to_end=True)
    (position,) = copier.positions()
    assert (position.topic, position.next, position.lag, position.caught_up) == (raw, 57, 0, True)
    copier.close()
    assert copier.copied == 7


def test_the_refusal_of_exactly_once_names_the_cure(exact: Kafka, tmp_path: Path) -> None:
    raw = by_signal(exact, stream(3_000, 4, machines=3, span=200))
    made = ReadingsJob(exact, tmp_path / "job", raw, delivery="exactly_once", grace="10s")
    process = made.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode != 0
    assert "come in several partitions" in output
    assert "source.repartition" in output
