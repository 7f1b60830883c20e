"""Context topics: facts as of the event's time, whatever the order in which they come."""

from __future__ import annotations

import random
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from brokers import Kafka, MockKafka
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import real_registry, registry_obstacle
from test_formats import avro_schema_of, in_avro
from test_stream import Job, wait_for
from test_transactions import ExactJob
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.contract.event_schema import event_schema
from ssm_stream.ingest.context.table import ContextTable, Message
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.missing_paths import missing_paths
from ssm_stream.kafka.context.topic import ContextTopics

runner = CliRunner()
EVENT = "entity: entity, timestamp: ts, features: [a, b], categories: [product]"
CONTEXT = "{topic: orders, columns: [product, speed]}"
KEYS = "entity: e, timestamp: t, features: [speed], categories: [product]"
START = 1_700_000_000_000


def configured(context: str = CONTEXT, event: str = "") -> Config:
    event = event or KEYS
    return parse_config(f"source: {{brokers: 'localhost:1', topic: t, context: [{context}]}}\nevent: {{{event}}}\n")


def table(
    context: str = CONTEXT, first: dict[int, int] | None = None, **facts: list[tuple[int, Any, Any]]
) -> ContextTable:
    """A table of facts (time, product, speed) by entity. first: as of `ContextTable`"""
    config = configured(context)
    made, offset = ContextTable(config, config.source.context[0], first), 0
    for name, rows in facts.items():
        for ts, product, speed in rows:
            document = {"e": name, "t": START + ts, "product": product, "speed": speed}
            assert made.add([Message(0, offset, None, 0, document)]) == []
            offset += 1
    return made


def test_a_fact_holds_from_its_time_to_the_next() -> None:
    made = table(m=[(10, "A", 1.5), (20, "B", None)], other=[(0, "C", 3)])
    expected = {9: (None, None), 10: ("A", 1.5), 19: ("A", 1.5), 20: ("B", None), 10**9: ("B", None)}
    assert {ts: made.as_of("m", START + ts) for ts in expected} == expected
    assert made.as_of("unknown", START) == (None, None)
    aged = table("{topic: orders, columns: [product, speed], max_age: 5s}", m=[(0, "A", 1)])
    assert [aged.as_of("m", START + ms)[0] for ms in (5000, 5001)] == ["A", None]


def test_events_have_the_columns_and_not_their_own_fields() -> None:
    made = table(m=[(10, "A", 1.5)])
    documents: list[Any] = [
        {"e": "m", "t": START + 10, "product": "mine"},
        {"e": "m", "t": START + 9, "product": "mine"},
        {"e": "none", "t": START},
        {"no": "event"},
        7,
    ]
    made.join(documents)
    found = [each.get("product", "-") for each in documents[:4]]
    assert found == ["A", None, None, "-"]


def test_keys_times_and_tombstones() -> None:
    """A message without entity is of its key, one without time of its Kafka timestamp; null ends what holds."""
    config = configured()
    made = ContextTable(config, config.source.context[0])
    messages = [
        Message(0, 0, "m", START + 10, {"product": "A"}),
        Message(0, 1, "m", START + 20, None),
        Message(0, 2, None, START + 30, {"product": "B"}),
        Message(0, 3, "m", START, {"product": "C", "t": "soon"}),
        Message(0, 4, "m", START, [1]),
    ]
    refused = made.add(messages)
    assert [each.position for each in refused] == [2, 3, 4]
    assert [made.as_of("m", START + ts)[0] for ts in (9, 10, 20)] == [None, "A", None]
    iso = configured(event="entity: e, timestamp: t, timestamp_format: iso, features: [speed], categories: [product]")
    made = ContextTable(iso, iso.source.context[0])
    assert made.add([Message(0, 0, "m", START, {"product": "A"})]) == []
    assert made.as_of("m", START) == ("A", None)


def test_a_fact_of_a_wrong_type_is_refused_and_what_held_before_holds_on() -> None:
    """Its events would be dead letters instead, all of them until the next fact, and name neither topic nor fact."""
    config = configured("{topic: orders, columns: [product, speed, when]}", f"{KEYS}, when: {{when: {{above: 1}}}}")
    made = ContextTable(config, config.source.context[0])
    facts = [
        {"product": "A", "speed": 1000},
        {"product": "A", "speed": "fast"},
        {"product": {"id": 1}, "speed": 1},
        {"product": "A", "speed": 1e39},
        {"product": "\ud800", "speed": 1},
        {"product": 7, "speed": True, "when": [1]},
        {"product": 7, "speed": True, "when": 2},
    ]
    messages = [Message(0, i, "m", START + 10 * i, each) for i, each in enumerate(facts)]
    refused = made.add(messages)
    assert [each.position for each in refused] == [1, 2, 3, 4, 5]
    assert refused[0][1:] == (Fault.WRONG_TYPE, "`speed` must be a number, found 'fast'")
    assert [made.as_of("m", START + ts) for ts in (5, 55, 60)] == [("A", 1000, None)] * 2 + [(7, True, 2)]
    auto = configured("{topic: orders, columns: [product]}", KEYS.replace("[speed]", "auto"))
    assert len(ContextTable(auto, auto.source.context[0]).add(messages[:4])) == 1


facts = st.lists(st.tuples(st.sampled_from(["m", "n"]), st.integers(0, 20), st.sampled_from("ABC")), max_size=12)


@settings(max_examples=150)
@given(facts, st.randoms(), st.lists(st.tuples(st.sampled_from(["m", "n"]), st.integers(-1, 22)), max_size=12))
def test_any_order_of_the_facts_gives_the_as_of_join(
    rows: list[tuple[str, int, str]], order: random.Random, asked: list[tuple[str, int]]
) -> None:
    config = configured()
    messages = [
        Message(i % 3, i, None, 0, {"e": name, "t": START + ts, "product": product})
        for i, (name, ts, product) in enumerate(rows)
    ]
    shuffled = messages[:]
    order.shuffle(shuffled)
    made = [ContextTable(config, config.source.context[0]) for _ in range(2)]
    made[0].add(messages)
    for message in [*shuffled, *messages[:2]]:  # some are read twice
        made[1].add([message])
    found = [[each.as_of(name, START + ts)[0] for name, ts in asked] for each in made]
    assert found[0] == found[1]
    if rows and asked:
        right = sorted((START + ts, i % 3, i, name, product) for i, (name, ts, product) in enumerate(rows))
        left = pl.DataFrame({"n": range(len(asked)), "e": [a for a, _ in asked], "t": [START + t for _, t in asked]})
        there = pl.DataFrame({"t": [r[0] for r in right], "e": [r[3] for r in right], "p": [r[4] for r in right]})
        last = there.group_by("e", "t", maintain_order=True).last().sort("t")
        joined = left.sort("t").join_asof(last, on="t", by="e", check_sortedness=False).sort("n")
        assert joined["p"].to_list() == found[0]


def fact(offset: int, ts: int, came: int, product: str, entity: str = "m") -> Message:
    """A fact that the broker got at a time."""
    return Message(0, offset, None, START + came, {"e": entity, "t": START + ts, "product": product})


def test_facts_that_come_too_late_for_an_event_are_reported_once() -> None:
    """And are not joined to it, when it is read again; later events have them. The grace is one second."""
    made = table(first={0: 1}, m=[(0, "A", 1)])
    assert made.as_of("m", START + 100)[0] == "A"
    made.add([fact(1, 50, 1_100, "in time"), fact(2, 60, 1_101, "late"), fact(3, 150, 9_000, "of later events")])
    (late,) = made.pop_late()
    assert (late.place.offset, late.entity, late.event, late.behind) == (2, "m", START + 100, 1)
    assert made.as_of("m", START + 100)[0] == "in time"
    assert made.as_of("m", START + 101)[0] == "late"
    assert made.as_of("m", START + 155, START + 8_000)[0] == "late"
    assert [each.place.offset for each in made.pop_late()] == [3], "found by an event that came before it"
    assert made.as_of("m", START + 155, START + 9_300)[0] == "of later events", "an event that came later itself"
    made.as_of("new", START)
    made.add([fact(4, 0, 1_001, "C", "new"), fact(5, 0, 1_001, "C", "other")])
    assert [each.entity for each in made.pop_late()] == ["new"]


def test_what_was_there_at_the_first_start_is_joined_whenever_it_came() -> None:
    made = table(first={0: 3})
    made.add([fact(2, 0, 10**9, "A"), fact(3, 10, 10**9, "B")])
    assert (made.as_of("m", START + 5)[0], made.as_of("m", START + 15)[0]) == ("A", "A")
    whole = table()
    whole.add([fact(2, 0, 10**9, "A"), fact(3, 10, 10**9, "B")])
    assert whole.as_of("m", START + 15)[0] == "B", "without a flow, the times of facts and events alone count"


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3_000)), max_size=10), st.randoms())
def test_what_an_event_gets_does_not_depend_on_when_facts_are_read(
    rows: list[tuple[int, int]], order: random.Random
) -> None:
    """Whether they are read before the event or after it, and in which order: as at a restart."""
    config = configured()
    whole, running = (ContextTable(config, config.source.context[0], {}) for _ in range(2))
    facts = [fact(i, ts, came, f"p{i}") for i, (ts, came) in enumerate(rows)]
    events = [(START + ts, START + came) for ts in range(0, 31, 3) for came in (0, 500, 1_500)]
    whole.add(facts)
    expected = {each: whole.as_of("m", *each) for each in events}
    left = facts[:]
    order.shuffle(left)
    for event in sorted(events, key=lambda each: whole.deadline(*each)):
        due = [each for each in left if each.ms <= whole.deadline(*event)]
        running.add(due)
        left = [each for each in left if each not in due]
        assert running.as_of("m", *event) == expected[event]
    running.add(left)
    assert {each.place for each in whole.pop_late()} <= {each.place for each in running.pop_late()}


@pytest.mark.parametrize(
    ("context", "event", "words"),
    [
        ("{topic: o, columns: [speed]}, {topic: p, columns: [speed]}", "", "a column of two topics"),
        ("{topic: o, columns: [e]}", "", "is the entity"),
        ("{topic: o, columns: [weight]}", "", "is used by nothing"),
        ("{topic: t, columns: [speed]}", "", "must all differ"),
        ("{topic: o, columns: ['a[0']}", "", "never closed"),
    ],
)
def test_what_cannot_be_joined_is_refused(context: str, event: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(context, event)


def test_events_need_not_have_the_columns() -> None:
    """Neither by their schema nor by what is searched for in a topic; a recording has them."""
    config = configured()
    schema = event_schema(config)
    assert {"product", "speed"}.isdisjoint(schema["properties"])
    assert {"product", "speed"}.isdisjoint(schema["examples"][0])
    whole = [{"e": "m", "t": START, "target": 1}]
    assert missing_paths(config, whole, "the topic") == []


# Over a broker.

N, MACHINES = 3_000, 12


def rows(seed: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events whose target depends on the product, with it; and the facts."""
    rng = np.random.default_rng(seed)
    out = []
    orders = [
        {"entity": f"m{m}", "ts": START + int(at), "product": "ABC"[int(rng.integers(3))]}
        for m in range(MACHINES)
        for at in sorted(rng.integers(0, N * 100, 8).tolist())
    ]
    for i in range(N):
        name, ts = f"m{int(rng.integers(MACHINES))}", START + 100 * i
        held = [each["product"] for each in orders if each["entity"] == name and each["ts"] <= ts]
        product = held[-1] if held else None
        a, b = rng.normal(size=2).round(3).tolist()
        jump = 25 * float(rng.random() < 0.01)
        y = a - b + {None: 0, "A": 5, "B": -5, "C": 9}[product] + 0.1 * float(rng.normal()) + jump
        out.append({"entity": name, "ts": ts, "a": a, "b": b, "target": round(y, 3), "product": product})
    return out, orders


def produce(kafka: Kafka, topic: str, messages: list[dict[str, Any]]) -> None:
    kafka.produce(topic, [(each["entity"].encode(), orjson.dumps(each)) for each in messages])


def job(kafka: Kafka, folder: Path, topic: str, orders: str | None, kind: type[Job] = Job) -> Job:
    context = {} if orders is None else {"context": [{"topic": orders, "columns": ["product"]}]}
    made = kind(kafka, folder, topic, source=context, event={"categories": ["product"]})
    content = {"model": {"warmup": 20}, "alerts": {"anomaly": {"budget": "1 per 100 events"}}}
    made.path.write_bytes(orjson.dumps(orjson.loads(made.path.read_bytes()) | content))
    return made


def test_joined_events_are_as_if_they_had_the_facts(kafka: Kafka, tmp_path: Path) -> None:
    whole, orders = rows()
    inline, bare, context = kafka.topic("inline", 2), kafka.topic("bare", 2), kafka.topic("orders", 2)
    produce(kafka, inline, whole)
    random.Random(1).shuffle(orders)
    produce(kafka, context, [*orders[:50], {"entity": "m1", "ts": "soon"}, *orders[50:]])
    produce(kafka, bare, [{key: value for key, value in each.items() if key != "product"} for each in whole])
    plain = job(kafka, tmp_path / "plain", inline, None)
    plain.run()
    joined = job(kafka, tmp_path / "joined", bare, context)
    output = joined.run("-w", "2")
    assert output.count("context_refused") == 1
    assert "context_late" not in output

    def contents(made: Job) -> dict[tuple[str, int], tuple[Any, ...]]:
        found = [orjson.loads(message.value() or b"") for message in kafka.read(made.predictions)]
        return {(each["entity"], each["ts"]): (each["yhat"], each["anomaly_score"]) for each in found}

    assert contents(joined) == contents(plain)
    assert len(contents(joined)) == N
    alerts = joined.told_alerts()
    assert alerts
    told = runner.invoke(app, ["explain", str(joined.path), sorted(alerts)[0], "--json"])
    assert orjson.loads(told.stdout)["same"] is True, told.output
    file = tmp_path / "r.parquet"
    assert runner.invoke(app, ["record", str(joined.path), "--out", str(file)]).exit_code == 0
    out = tmp_path / "p.jsonl"
    done = runner.invoke(app, ["backtest", str(joined.path), str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    tested = {(row["entity"], row["ts"]): row["yhat"] for row in map(orjson.loads, out.read_bytes().splitlines())}
    assert tested == {key: value[0] for key, value in contents(joined).items()}
    checked = runner.invoke(app, ["doctor", str(joined.path)])
    assert f"source.context[0]: {context}: 2 partitions" in checked.output
    assert "events: " in checked.output
    assert "no column" not in checked.output


def test_killed_and_exactly_once(kafka: Kafka, tmp_path: Path) -> None:
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    whole, orders = rows(3)
    bare, context = kafka.topic("bare", 2), kafka.topic("orders", 1)
    produce(kafka, context, orders)
    produce(kafka, bare, [{key: value for key, value in each.items() if key != "product"} for each in whole])
    killed = job(kafka, tmp_path / "killed", bare, context, ExactJob)
    killed.kill_often(random.Random(2), 3, 0.45, "--until-eof")
    killed.run()
    counts = killed.ids()
    assert (len(counts), max(counts.values())) == (N, 1)
    calm = job(kafka, tmp_path / "calm", bare, context)
    calm.run()
    assert killed.messages() == calm.messages()


@pytest.fixture
def registry() -> Iterator[str]:
    if (obstacle := registry_obstacle()) is not None:
        pytest.skip(obstacle)
    with real_registry() as found:
        yield found


def test_facts_are_in_the_formats_of_a_registry_and_in_json(
    mock_kafka: MockKafka, tmp_path: Path, registry: str
) -> None:
    """Each by the schema that it names; one whose schema nobody has is a dead letter with the schema's id."""
    mock_kafka.create_topic("orders", 1)
    client, context = SchemaRegistryClient({"url": registry}), "{topic: orders, columns: [product]}"
    made = parse_config(
        f"source: {{brokers: '{mock_kafka.bootstrap_servers}', topic: t, context: [{context}]}}\n"
        f"event: {{{EVENT}, format: avro}}\nschema_registry: {{url: '{registry}'}}\n"
        f"recovery: {{directory: {tmp_path}}}\n"
    )
    facts = [{"entity": "m", "ts": START + 1_000 * i, "product": "AB"[i]} for i in range(2)]
    schema = avro_schema_of(facts)
    number = client.register_schema(f"orders-{tmp_path.name}", Schema(orjson.dumps(schema).decode(), "AVRO"))
    mock_kafka.produce("orders", [*in_avro(schema, number, facts), orjson.dumps(facts[0] | {"entity": "n"})])
    join = ContextTopics(made, flow=True)
    documents: list[Any] = [{"entity": name, "ts": START + ts} for name, ts in (("m", 0), ("m", 1_000), ("n", 0))]
    assert join(documents) == []
    assert [each["product"] for each in documents] == ["A", "B", "A"]
    mock_kafka.produce("orders", [struct.pack(">bI", 0, 999_999) + b"x", (b"m", None)])
    now: list[Any] = [{"entity": "m", "ts": int(time.time() * 1000)}]
    (letter,) = join(now)
    assert b"999999" in dict(letter.headers or [])["__connect.errors.exception.message"]
    assert now[0]["product"] is None, "a tombstone ends what holds"


def test_a_restart_gives_the_bits_of_an_undisturbed_run(kafka: Kafka, tmp_path: Path) -> None:
    """Also where the context topic got facts meanwhile that are about events of before, and events are read again."""
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    whole, orders = rows(5)
    bare = [{key: value for key, value in each.items() if key != "product"} for each in whole]
    events, context = kafka.topic("bare", 2), kafka.topic("orders", 1)
    produce(kafka, context, orders[: len(orders) // 2])
    produce(kafka, events, bare[: N // 2])
    jobs = [
        job(kafka, tmp_path / name, events, context, kind)
        for name, kind in (("calm", Job), ("killed", ExactJob), ("again", Job))
    ]
    for each in jobs:
        content = orjson.loads(each.path.read_bytes())
        content["source"]["context"][0]["grace"] = "200ms"
        content["recovery"]["epoch_interval"] = "1s"
        each.path.write_bytes(orjson.dumps(content))
    calm, killed, again = jobs
    calm.run()
    process = killed.start()
    wait_for(process, "started")
    while not list((tmp_path / "killed" / "recovery").glob("context-*.json")):
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    time.sleep(0.5)
    produce(kafka, context, orders[len(orders) // 2 :])  # late for half of the events, whose times are past
    time.sleep(0.5)
    produce(kafka, events, bare[N // 2 :])
    calm.run()
    killed.run()
    assert killed.messages() == calm.messages()
    (kept,) = (tmp_path / "calm" / "recovery").glob("context-*.json")
    assert orjson.loads(kept.read_bytes()) == {"topic": context, "positions": {"0": len(orders) // 2}}
    export, moved = tmp_path / "export", tmp_path / "moved"
    assert runner.invoke(app, ["state", "export", str(calm.path), str(export)]).exit_code == 0
    settings = orjson.loads(calm.path.read_bytes())
    settings["recovery"]["directory"] = str(moved)
    (tmp_path / "moved.yaml").write_bytes(orjson.dumps(settings))
    assert runner.invoke(app, ["state", "import", str(tmp_path / "moved.yaml"), str(export)]).exit_code == 0
    assert orjson.loads((moved / kept.name).read_bytes()) == orjson.loads(kept.read_bytes())
    counts = killed.ids()
    assert (len(counts), max(counts.values())) == (N, 1)
    again.run()
    assert again.messages() != calm.messages(), "to a flow that begins now, the facts are there"


def test_an_event_waits_for_facts_within_the_grace(mock_kafka: MockKafka, tmp_path: Path) -> None:
    """A fact that comes after its event, but within the grace, is joined; a later one is not, and is a dead letter."""
    mock_kafka.create_topic("orders", 1)
    config = parse_config(
        f"source: {{brokers: '{mock_kafka.bootstrap_servers}', topic: t, context: [{{topic: orders, "
        "columns: [product], grace: 700ms}]}\nevent: {" + EVENT + "}\n"
        f"recovery: {{directory: {tmp_path}}}\n"
    )
    join = ContextTopics(config, flow=True)
    old: list[Any] = [{"entity": "m", "ts": START}]
    began = time.monotonic()
    join(old)
    assert time.monotonic() - began < 0.4, "the past does not wait"
    now = int(time.time() * 1000)
    produce(mock_kafka, "orders", [{"entity": "m", "ts": now - 5, "product": "A"}])
    live: list[Any] = [{"entity": "m", "ts": now}]
    began = time.monotonic()
    join(live)
    assert live[0]["product"] == "A"
    assert time.monotonic() - began < 3
    produce(mock_kafka, "orders", [{"entity": "m", "ts": now - 2, "product": "B"}])
    ahead: list[Any] = [{"entity": "m", "ts": now + 3_600_000}]
    began = time.monotonic()
    letters = join(ahead)
    assert ahead[0]["product"] == "B"
    assert time.monotonic() - began < 3, "a clock that is ahead does not stop the flow"
    (letter,) = letters
    found = {str(name).rpartition("errors.")[2]: value for name, value in letter.headers or []}
    assert (found["topic"], found["stage"], found["exception.class.name"]) == (
        b"orders", b"context", b"ssm_stream.Late"
    )  # fmt: skip
    assert re.search(
        rb"came .* after the event of .* could wait no longer; grace is 0.7s", found["exception.message"] or b""
    )
    assert orjson.loads(letter.value or b"")["product"] == "B"
    again = ContextTopics(config)
    replayed: list[Any] = [{"entity": "m", "ts": now}]
    again(replayed)
    assert replayed[0]["product"] == "A", "as it was joined, although the late fact is on the topic now"
