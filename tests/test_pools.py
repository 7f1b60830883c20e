"""Which pools production has: Kafka's partitioner, the shards, and what is reported about small ones."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka, MockKafka
from confluent_kafka import Message, Producer
from engines import config, cut
from hypothesis import given, settings
from hypothesis import strategies as st
from test_broker import by_name, configured
from test_episode_shares import documents
from test_fleet_alerts import LIVELY, struck
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.cli.validate import _describe
from ssm_stream.engine.engine import Alert, Engine, shard_of
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.pools import (
    Pool,
    describe_budget,
    describe_pools,
    murmur2,
    other_partitioner,
    partition_of,
    pools_of,
)
from ssm_stream.evaluate.prequential import Chunk
from ssm_stream.evaluate.topic_partitions import parse_partitions
from ssm_stream.flow.doctor import diagnose
from ssm_stream.kafka.topic_reader import TopicReader


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


@pytest.mark.parametrize(("partitioner", "option"), [("murmur2_random", "7"), (None, "7:crc32")])
def test_the_partition_is_the_one_that_a_client_chooses(
    mock_kafka: MockKafka, partitioner: str | None, option: str
) -> None:
    """librdkafka's own choice is another than that of Java's clients."""
    topic, found = mock_kafka.topic(partitions=7), dict[bytes, int]()
    own = {} if partitioner is None else {"partitioner": partitioner}
    producer = Producer({"bootstrap.servers": mock_kafka.bootstrap_servers, **own})

    def delivered(_: object, message: Message) -> None:
        found[message.key() or b""] = message.partition() or 0

    names = [f"press-{i}" for i in range(40)] + ["プレス機", "é", "line 4/pump"]
    for name in names:
        producer.produce(topic, b"{}", name.encode(), on_delivery=delivered)
    producer.flush(20)
    assert found == {name.encode(): partition_of(name, parse_partitions(option)) for name in names}
    by_name = {key.decode(): at for key, at in found.items()}
    sentence = other_partitioner(by_name, 7)
    assert sentence is None if partitioner else sentence is not None and "`--partitions 7:crc32`" in sentence


@pytest.mark.parametrize("text", ["0", "-1", "many", "3:java", "3.5", "", "200000"])
def test_partitions_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="found"):
        parse_partitions(text)


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


@pytest.mark.parametrize("batch", [1, 1000])
def test_doctor_reports_pools_and_budget_from_the_last_messages(
    batch: int, mock_kafka: MockKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the last messages, however few of them one poll returns."""
    monkeypatch.setattr(TopicReader, "poll", functools.partialmethod(TopicReader.poll, batch=batch))
    topic = mock_kafka.topic(partitions=3)
    for i in range(30):
        name = f"m{i % 5}"
        value = b'{"id": "%b", "t": 1800000000, "a": 1, "target": 1}' % name.encode()
        mock_kafka.produce(topic, [(name.encode(), value)], partition=partition_of(name, 3))
    file = configured(mock_kafka, tmp_path, topic)
    sizes = [pool.entities for pool in pools_of({f"m{i}": partition_of(f"m{i}", 3) for i in range(5)}, 1)]
    assert sizes == [1, 2, 2]
    found = by_name(diagnose(file))["entities"].found
    assert "5 entities in 3 partitions × 1 shard form 3 pools, each with fewer than alerts.fleet.min_entities" in found
    assert "budget" not in found
    team = config(sections="alerts: {budget: {alerts: 1, per: 7d, entities: 2}}").alerts
    found = by_name(diagnose(file.replace(alerts=team)))["entities"].found
    assert "alerts.budget.entities is 2, and there are 5 entities, more than twice as many" in found


# The engine by partition.

SHARDS = LIVELY + "state: {shards: 2}\n"
LIMIT = LIVELY + "state: {max_entities: 4, when_full: evict}\n"
FULL = LIVELY + "state: {max_entities: 2}\n"
HORIZON = LIVELY.replace("warmup: 10", "warmup: 10, horizon: 2")


@settings(max_examples=20)
@given(
    st.sampled_from([LIVELY, SHARDS, LIMIT, FULL, HORIZON]), st.integers(1, 5),
    st.lists(st.integers(0, 1500), max_size=4),
)  # fmt: skip
def test_each_partition_is_processed_as_if_it_were_alone(sections: str, partitions: int, cuts: list[int]) -> None:
    """Predictions, what is refused, and alerts are those of engines that see one partition each."""
    events = struck(1500, entities=9)
    settings_ = config("features: [a, b]", sections)
    of = np.array([partition_of(name, partitions) for name in events.entity])
    engine = PartitionedEngine(settings_, partitions)
    yhat, refused, alerts, resolved = np.full(1500, np.nan), list[int](), list[Alert](), np.full(1500, np.nan)
    for start, stop in pairwise([0, *sorted(cuts), 1500]):
        part = cut(events, start, stop)
        admitted, more = engine.admit(part)
        kept = np.setdiff1d(np.arange(len(part)), [each.position for each in more])
        refused += [start + each.position for each in more]
        predictions, own = engine.process(admitted)
        yhat[start + kept] = predictions.yhat
        alerts += [alert._replace(row=start + int(kept[alert.row])) for alert in own]
        for each in engine.resolved_predictions:
            resolved[start + kept[each.item]] = each.yhat
    expected, messages, turned = np.full(1500, np.nan), list[tuple[int, Any]](), list[int]()
    brought = np.full(1500, np.nan)
    for partition in range(partitions):
        rows = np.flatnonzero(of == partition)
        alone = Engine(settings_)
        admitted, more = alone.admit(events.take(rows), partition)
        turned += [int(rows[each.position]) for each in more]
        kept = np.delete(rows, [each.position for each in more])
        predictions, own = alone.process(admitted, partition)
        expected[kept] = predictions.yhat
        messages += [(int(kept[alert.row]), alert.message) for alert in own]
        for each in alone.resolved_predictions:
            brought[kept[each.item]] = each.yhat
    assert refused == sorted(turned)
    assert yhat.tobytes() == expected.tobytes()
    assert resolved.tobytes() == brought.tobytes()
    if "horizon" in sections:  # the hash of an event that waits has the number of its pool, which depends on the others
        for message in [*(alert.message for alert in alerts), *(message for _, message in messages)]:
            del message["state_hash"]
    assert [(alert.row, alert.message) for alert in alerts] == sorted(messages, key=lambda each: each[0])


def test_a_backtest_with_partitions_has_the_fleet_alerts_of_each_pool() -> None:
    rows = documents(struck(2500, entities=12))
    one, four = (pools_in(rows, partitions) for partitions in (1, 4))
    assert one == {"0-0"}
    assert len(four) > 1
    assert four <= {f"{partition}-0" for partition in range(4)}


def pools_in(rows: list[dict[str, Any]], partitions: int) -> set[str]:
    found = set[str]()

    def on_chunk(chunk: Chunk) -> None:
        found.update(a.message["pool"] for a in chunk.alerts if a.message["scope"] == "fleet")

    # By a budget in events a pool of so few would need more than all.
    loose = config("features: [a, b]", LIVELY.replace("100 events", "20m"))
    result = backtest(loose, rows, on_chunk, partitions=partitions)
    assert {pool["pool"] for pool in result["pools"]} >= found
    return found


def five_entities(folder: Path, more: str = "") -> tuple[Path, Path]:
    """A recording of five entities, and a configuration with a team's budget for two. more: of its sections"""
    file, settings_ = folder / "file.jsonl", folder / "monitor.yaml"
    file.write_bytes(b"\n".join(map(orjson.dumps, documents(struck(600, entities=5)))))
    settings_.write_text(
        "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t, features: [a, b]}\n"
        f"alerts: {{budget: {{alerts: 1, per: 7d, entities: 2}}}}\n{more}"
    )
    return file, settings_


def test_the_command_prints_the_pools_of_production(tmp_path: Path) -> None:
    file, settings_ = five_entities(tmp_path)
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["backtest", str(settings_), str(file), "--partitions", "3"])
    assert result.exit_code == 0, result.output
    assert "in production: 5 entities in 3 partitions × 1 shard form 3 pools, each with fewer than" in result.stdout
    assert "events inside episodes: " in result.stdout
    assert "alerts.budget.entities is 2, and there are 5 entities" in result.stdout


def test_validate_counts_the_entities_of_a_recording(tmp_path: Path) -> None:
    file, settings_ = five_entities(tmp_path, "recovery: {directory: null}\n")
    words = ["validate", str(settings_), "--recording", str(file), "--partitions", "3"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "recording 5 entities in 3 partitions × 1 shard form 3 pools, each with fewer than" in result.stdout
    assert "recording alerts.budget.entities is 2, and there are 5 entities" in result.stdout
    assert len(orjson.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["recording"]) == 2
    gone = CliRunner().invoke(app, [*words[:3], str(tmp_path / "none.csv")])
    assert gone.exit_code == 1
    assert "none.csv" in gone.stderr


def test_a_backtest_is_production(kafka: Kafka, tmp_path: Path) -> None:
    """A file by `backtest --partitions 3`, and by `replay` and `run` over a topic of three: the same messages."""
    from test_stream import PARTITIONS, Job, events

    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\n".join(value for _, value in events(6_000, 7)))
    topic, config = kafka.topic("events", PARTITIONS), CliRunner()
    made = Job(kafka, tmp_path / "job", topic, shards=2)
    fleet = {"min_entities": 4, "share": 0.3, "wait": 0}  # at its end, a file sends what waits, and a topic goes on
    more = {"model": {"warmup": 20}, "alerts": {"anomaly": {"budget": "1 per 200 events"}, "fleet": fleet}}
    made.path.write_bytes(orjson.dumps(orjson.loads(made.path.read_bytes()) | more))
    out, alerts = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    words = ["backtest", str(made.path), str(file), "--partitions", str(PARTITIONS), "--out", str(out)]
    assert config.invoke(app, [*words, "--alerts", str(alerts)]).exit_code == 0
    assert config.invoke(app, ["replay", str(made.path), str(file)]).exit_code == 0
    made.run()

    def bare(rows: Iterable[bytes], *ids: str) -> list[str]:
        """The messages without what names their place."""
        found = ({k: v for k, v in orjson.loads(row).items() if k not in ids} for row in rows)
        return sorted(orjson.dumps(each, option=orjson.OPT_SORT_KEYS).decode() for each in found)

    live = [message.value() or b"" for message in kafka.read(made.predictions)]
    assert bare(live, "id") == bare(out.read_bytes().splitlines(), "id")
    named = ("id", "source", "episode")
    sent = [message.value() or b"" for message in kafka.read(made.alerts)]
    assert bare(sent, *named) == bare(alerts.read_bytes().splitlines(), *named)
    assert sent
