"""Which pools production has: Kafka's partitioner, the shards, and what is reported about small ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers import MockKafka
from confluent_kafka import Message, Producer
from engines import config
from hypothesis import given
from hypothesis import strategies as st
from test_broker import by_name, configured

from ssm_stream.cli.validate import _describe
from ssm_stream.engine.engine import shard_of
from ssm_stream.evaluate.pools import Pool, describe_budget, describe_pools, murmur2, partition_of, pools_of
from ssm_stream.flow.doctor import diagnose


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_the_hash_is_that_of_kafkas_own_test(key: str, signed: int) -> None:
    assert murmur2(key.encode()) == signed % 2**32


def test_the_partition_is_the_one_that_a_client_chooses(mock_kafka: MockKafka) -> None:
    topic, found = mock_kafka.topic(partitions=7), dict[bytes, int]()
    producer = Producer({"bootstrap.servers": mock_kafka.bootstrap_servers, "partitioner": "murmur2_random"})

    def delivered(_: object, message: Message) -> None:
        found[message.key() or b""] = message.partition() or 0

    names = [f"press-{i}" for i in range(40)] + ["プレス機", "é", "line 4/pump"]
    for name in names:
        producer.produce(topic, b"{}", name.encode(), on_delivery=delivered)
    producer.flush(20)
    assert found == {name.encode(): partition_of(name, 7) for name in names}


@given(st.dictionaries(st.text(max_size=8), st.integers(0, 3), max_size=30), st.integers(1, 4))
def test_every_entity_is_in_one_pool(partitions: dict[str, int], shards: int) -> None:
    pools = pools_of(partitions, shards)
    assert sum(pool.entities for pool in pools) == len(partitions)
    for pool in pools:
        inside = [n for n, p in partitions.items() if (p, shard_of(n, shards)) == (pool.partition, pool.shard)]
        assert len(inside) == pool.entities


POOLS = [Pool(0, 0, 2), Pool(1, 0, 3), Pool(3, 0, 1)]


@pytest.mark.parametrize(
    ("sections", "pools", "words"),
    [
        ("", POOLS, "6 entities in 4 partitions × 1 shard form 3 pools, 2 of them with fewer than "
         "alerts.fleet.min_entities (3): there a common cause is an alert for each entity. Fewer partitions, or fewer "
         "state.shards, keep a small fleet together"),
        ("", [Pool(0, 0, 2)], "2 entities in 4 partitions × 1 shard form 1 pool"),
        ("alerts: {fleet: {enabled: false}}", POOLS, "6 entities in 4 partitions × 1 shard form 3 pools"),
        ("model: {fleet: false}", POOLS, "6 entities in 4 partitions × 1 shard; each learns by itself "
         "(model.fleet: false)"),
    ],
)  # fmt: skip
def test_what_is_said_of_pools(sections: str, pools: list[Pool], words: str) -> None:
    assert describe_pools(config(sections=sections), pools, 4) == words


def test_a_budget_for_another_number_of_entities_is_named() -> None:
    team = config(sections="alerts: {budget: {alerts: 20, per: 7d, entities: 100}}")
    assert [describe_budget(team, n) is None for n in (49, 50, 100, 200, 201)] == [False, True, True, True, False]
    assert describe_budget(team, 20, all_seen=False) is None
    assert "there are 250 entities, more than twice as many: the team gets 2.5 times" in (
        describe_budget(team, 250) or ""
    )
    assert describe_budget(config(), 1000) is None


def test_validate_shows_the_share_and_pools_that_the_file_makes_too_small() -> None:
    team = "alerts: {budget: {alerts: 20, per: 7d, entities: 250}}\n"
    whole = "\n".join(_describe(config(sections=team)))
    assert "budget    20 per 7d for 250 entities: of each kind, and target, 1 per 175d for an entity" in whole
    assert "warning" not in whole
    small = "\n".join(_describe(config(sections=team.replace("250", "12") + "state: {shards: 8}\n")))
    assert (
        "12 entities (alerts.budget) in 1 partition × 8 shards are fewer a pool than alerts.fleet.min_entities" in small
    )


def test_doctor_reports_pools_and_budget_from_the_last_messages(mock_kafka: MockKafka, tmp_path: Path) -> None:
    topic = mock_kafka.topic(partitions=3)
    for i in range(30):
        name = f"m{i % 5}"
        value = b'{"id": "%b", "t": 1800000000, "a": 1, "target": 1}' % name.encode()
        mock_kafka.produce(topic, [(name.encode(), value)], partition=partition_of(name, 3))
    settings = configured(mock_kafka, tmp_path, topic)
    sizes = [pool.entities for pool in pools_of({f"m{i}": partition_of(f"m{i}", 3) for i in range(5)}, 1)]
    assert sizes == [1, 2, 2]
    found = by_name(diagnose(settings))["entities"].found
    assert "5 entities in 3 partitions × 1 shard form 3 pools, each with fewer than alerts.fleet.min_entities" in found
    assert "budget" not in found
    team = config(sections="alerts: {budget: {alerts: 1, per: 7d, entities: 2}}").alerts
    found = by_name(diagnose(settings.replace(alerts=team)))["entities"].found
    assert "alerts.budget.entities is 2, and there are 5 entities, more than twice as many" in found
