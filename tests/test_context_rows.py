"""Facts of context topics in the rows of readings and windows: as of the time of each row, whatever the order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from brokers import Kafka
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stream import Cluster, Job
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.contract.event_schema import event_schema
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.context.table import ContextTable, JoinedTables, Message
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.rows.stage import read_rows, row_builder

runner = CliRunner()
START = 1_700_000_000_000
CONTEXT = {"topic": "orders", "columns": ["product", "speed"], "max_age": "1h"}
READINGS = {
    "layout": "readings", "entity": "m", "signal": "s", "timestamp": "t", "target": "y",
    "features": ["a", "speed"], "categories": ["product"],
}  # fmt: skip
WINDOWS = {
    "entity": "m", "timestamp": "t", "target": "y", "features": ["n", "speed"], "categories": ["product"],
    "aggregate": {"every": "1s", "grace": "500ms", "columns": {"n": "count", "y": {"mean": "value"}}},
}  # fmt: skip
LAYOUTS = {
    "arrival": {**READINGS, "grace": "500ms"},
    "grid": {**READINGS, "every": "1s", "grace": "500ms", "max_age": "1m"},
    "windows": WINDOWS,
}


def configured(event: dict[str, Any], context: dict[str, Any] | None = None) -> Config:
    source = {"brokers": "localhost:1", "topic": "events", "context": [context or CONTEXT]}
    return parse_config(orjson.dumps({"source": source, "event": event}).decode())


def table(config: Config, facts: list[tuple[str, int, Any, Any]], first: dict[int, int] | None = None) -> ContextTable:
    """facts: machine, ms, product, speed"""
    made = ContextTable(config, config.source.context[0], first)
    messages = [
        Message(0, i, None, 0, {"m": m, "t": START + t, "product": product, "speed": speed})
        for i, (m, t, product, speed) in enumerate(facts)
    ]
    assert made.add(messages) == []
    return made


machine = st.sampled_from(["m", "n"])
fact = st.tuples(machine, st.integers(0, 6_000), st.sampled_from(["A", "B", None]), st.sampled_from([1.5, None]))
message = st.tuples(machine, st.sampled_from("ya"), st.integers(0, 6_000), st.integers(0, 3))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60)
@given(st.lists(fact, max_size=8), st.lists(message, max_size=25), st.integers(1, 7))
def test_rows_get_what_holds_at_their_time(
    layout: str, facts: list[tuple[str, int, Any, Any]], given: list[tuple[str, str, int, int]], cut: int
) -> None:
    """As an as-of join of the rows by polars, and in any cuts of the messages."""
    config = configured(LAYOUTS[layout])
    documents = [{"m": m, "s": s, "t": START + t, "value": v} for m, s, t, v in sorted(given, key=lambda row: row[2])]
    joined = table(config, facts)
    rows, _ = read_rows(config.event, documents, JoinedTables([joined]))
    expected = pl.DataFrame({"m": rows.entity, "t": rows.ts}, schema={"m": pl.String, "t": pl.Int64}).with_row_index()
    held = pl.DataFrame(
        [(m, START + t, p, s) for m, t, p, s in facts],
        schema={"m": pl.String, "t": pl.Int64, "p": pl.String, "v": pl.Float64}, orient="row",
    ).group_by("m", "t", maintain_order=True).last().sort("t")  # fmt: skip
    expected = expected.sort("t").join_asof(held, on="t", by="m", check_sortedness=False).sort("index")
    texts = rows.category_texts or {}
    product, speed = rows.features[:, -1].tolist(), rows.features[:, config.event.columns.index("speed")]
    assert [texts.get(code) for code in product] == expected["p"].to_list()
    assert np.array_equal(speed, expected["v"].fill_null(np.nan).to_numpy(), equal_nan=True)
    builder, reader, parts = row_builder(config.event), MessageReader(config.event), []
    assert builder is not None
    builder.join_facts(JoinedTables([joined]))
    for begin in range(0, len(documents), cut):
        messages, _ = reader.read(documents[begin : begin + cut])
        parts.append(builder.add(messages, messages.position.tolist(), 0).events.features)
        state = builder.dump()
        builder.load(state)
    parts.append(builder.flush().events.features)
    assert np.concatenate(parts).tobytes() == rows.features.tobytes()


def test_a_fact_that_came_too_late_is_not_joined() -> None:
    """By when the broker got it, and the message that completed the row: as when all is read again."""
    config = configured(LAYOUTS["windows"])
    made = ContextTable(config, config.source.context[0], {})

    def sent(offset: int, ts: int, came: int, product: str) -> Message:
        return Message(0, offset, None, START + came, {"m": "m", "t": START + ts, "product": product})

    made.add([sent(0, 0, 10, "A"), sent(1, 500, 9_000, "late")])
    documents = [{"m": "m", "t": START + t, "value": 1} for t in (100, 1_700, 3_000)]
    builder = row_builder(config.event)
    assert builder is not None
    builder.join_facts(JoinedTables([made]))
    messages, _ = MessageReader(config.event).read(documents)
    live = replace(messages, came=START + np.array([100, 1_700, 3_000]))
    rows = builder.add(live, [0, 1, 2], 0).events
    assert [(rows.category_texts or {})[code] for code in rows.features[:, -1].tolist()] == ["A", "A"]
    assert [late.place.offset for late in made.pop_late()] == [1]
    again = row_builder(config.event)
    assert again is not None
    again.join_facts(JoinedTables([made]))
    backlog = replace(messages, came=START + np.array([20_000] * 3))
    rows = again.add(backlog, [0, 1, 2], 0).events
    assert [(rows.category_texts or {})[code] for code in rows.features[:, -1].tolist()] == ["late", "late"]


def test_what_is_no_fact_is_refused() -> None:
    config = configured(WINDOWS)
    made = ContextTable(config, config.source.context[0])
    refused = made.add([Message(0, 0, "m", START, {"speed": "fast"}), Message(0, 1, "m", START, {"speed": 2})])
    assert [(each.position, str(each.fault)) for each in refused] == [(0, "WrongType")]
    assert made.as_of("m", START)[1] == 2
    tagged = configured({**READINGS, "signal": None, "entity": "tag", "tag": "{entity}.{signal}"})
    of_tag = ContextTable(tagged, tagged.source.context[0])
    assert of_tag.add([Message(0, 0, None, 0, {"entity": "P1", "t": START, "product": "A"})]) == []
    assert of_tag.texts[of_tag.as_of("P1", START)[0]] == "A"


@pytest.mark.parametrize(
    ("event", "context", "words"),
    [
        ({**WINDOWS, "features": ["n", "speed", "sped"]}, CONTEXT, "'sped' is no column of a window"),
        (WINDOWS, {**CONTEXT, "columns": ["product", "speed", "n"]}, "a column of event.aggregate, too"),
        (WINDOWS, {**CONTEXT, "columns": ["product", "speed", "weight"]}, "is used by nothing"),
        ({**READINGS, "max_age": {"speed": "1m"}}, CONTEXT, "is no signal that is used"),
        ({**READINGS, "target": "speed", "features": ["a"]}, CONTEXT, "a target of the events"),
    ],
)
def test_what_cannot_be_joined_is_refused(event: dict[str, Any], context: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(event, context)


def test_messages_need_not_have_the_columns_and_rows_are_not_made_without() -> None:
    config = configured(LAYOUTS["arrival"])
    assert "speed" not in str(event_schema(config))
    assert config.event.signals == {"y", "a"}
    with pytest.raises(ConfigError, match=r"ssm-stream record"):
        read_rows(config.event, [{"m": "m", "s": "y", "t": START, "value": 1}])


def test_conditions_and_derived_inputs_use_facts() -> None:
    event = {**WINDOWS, "features": ["n", "twice"], "derive": {"twice": {"product": ["speed", "n"]}},
             "when": {"product": "A"}, "categories": []}  # fmt: skip
    config = configured(event)
    documents = [{"m": "m", "t": START + t, "value": 1} for t in (100, 200, 1_700, 3_000)]
    joined = JoinedTables([table(config, [("m", 0, "A", 4), ("m", 1_500, "B", 4)])])
    rows, _ = read_rows(config.event, documents, joined)
    assert rows.features[:, 1].tolist() == [8, 4, 0, 4][: len(rows)]
    assert rows.idle is not None
    assert rows.idle.tolist() == [False, True, True, True][: len(rows)]


# Over a broker.

N, MACHINES, PARTITIONS = 6_000, 10, 3


def stream(seed: int, span: int = 25, changes: int = 6) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages, up to 300 ms out of order, and facts. y depends on the product."""
    rng = np.random.default_rng(seed)
    facts = [
        {"m": f"m{m}", "t": START + int(at), "product": "ABC"[int(rng.integers(3))], "speed": int(rng.integers(5))}
        for m in range(MACHINES)
        for at in sorted(rng.integers(-1_000, N * span, changes).tolist())
    ]
    out = []
    for i in range(N):
        name, ts = f"m{int(rng.integers(MACHINES))}", START + span * i
        held = [each["product"] for each in facts if each["m"] == name and each["t"] <= ts]
        level = {"A": 0.0, "B": 10.0, "C": -5.0}[held[-1]] if held else 3.0
        value = level + float(rng.normal()) + 40 * float(rng.random() < 0.003)
        out.append({"m": name, "s": "ya"[int(rng.integers(2))], "t": ts, "value": round(value, 3)})
    order = np.argsort([each["t"] + int(rng.integers(300)) for each in out], kind="stable")
    return [out[i] for i in order.tolist()], facts


def send(kafka: Kafka, topic: str, documents: list[dict[str, Any]]) -> None:
    kafka.produce(topic, [(each["m"].encode(), orjson.dumps(each)) for each in documents])


@pytest.fixture
def job(kafka: Kafka, tmp_path: Path) -> Callable[..., Job]:
    def make(layout: str, topic: str, orders: str, name: str = "job", **keys: Any) -> Job:
        made = Job(kafka, tmp_path / name, topic, source={"context": [{**CONTEXT, "topic": orders}]})
        content = orjson.loads(made.path.read_bytes())
        content["event"] = LAYOUTS[layout]
        content |= {"model": {"warmup": 20}, "alerts": {"anomaly": {"budget": "1 per 100 events"}}, **keys}
        made.path.write_bytes(orjson.dumps(content))
        return made

    return make


def topics(kafka: Kafka, seed: int) -> tuple[str, str]:
    messages, facts = stream(seed)
    events, orders = kafka.topic("events", PARTITIONS), kafka.topic("orders", 2)
    random.Random(seed).shuffle(facts)
    send(kafka, orders, [*facts[:20], {"m": "m1", "t": START, "speed": "fast"}, *facts[20:]])
    send(kafka, events, messages)
    return events, orders


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_flow_a_recording_and_an_explanation_agree(
    job: Callable[..., Job], kafka: Kafka, tmp_path: Path, layout: str
) -> None:
    """The flow's predictions on two workers are those of a backtest of what `record` writes; alerts are made again."""
    events, orders = topics(kafka, 1)
    made = job(layout, events, orders)
    output = made.run("-w", "2")
    assert output.count("context_refused") == 1
    told = [orjson.loads(message.value() or b"") for message in kafka.read(made.predictions)]
    rows = {(each["entity"], each["ts"]): (each["yhat"], each["y"], each["n"]) for each in told}
    assert len(rows) == len(told) > 500
    file, out = tmp_path / "week.parquet", tmp_path / "p.jsonl"
    recorded = runner.invoke(app, ["record", str(made.path), "--out", str(file), "--json"])
    assert recorded.exit_code == 0, recorded.output
    assert orjson.loads(recorded.stdout)["facts"] == {str(tmp_path / f"week.{orders}.jsonl"): 60}
    done = runner.invoke(app, ["backtest", str(made.path), str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    tested = {
        (each["entity"], each["ts"]): (each["yhat"], each["y"], each["n"])
        for each in map(orjson.loads, out.read_bytes().splitlines())
    }
    assert {key: tested[key] for key in rows} == rows
    assert len(tested) - len(rows) <= 4 * MACHINES, "the rows at the end, which no message completes"
    alerts = made.told_alerts()
    assert alerts
    for each in sorted(alerts)[:2]:
        again = runner.invoke(app, ["explain", str(made.path), each, "--json"])
        assert orjson.loads(again.stdout)["same"] is True, again.output
    one = runner.invoke(app, ["explain", str(made.path), "m1", "--recording", str(file), "--json"])
    assert "product" in one.stdout, one.output
    valid = runner.invoke(app, ["validate", str(made.path), str(file)])
    assert valid.exit_code == 0, valid.output
    assert f"joins     product, speed from {orders}, as of the row's time" in valid.output
    checked = runner.invoke(app, ["doctor", str(made.path)])
    assert f"source.context[0]: {orders}: 2 partitions" in checked.output
    (tmp_path / f"week.{orders}.jsonl").unlink()
    missing = runner.invoke(app, ["validate", str(made.path), str(file)])
    assert missing.exit_code == 1
    assert f"name one week.{orders}.csv" in " ".join(missing.output.split())


def test_facts_matter(job: Callable[..., Job], kafka: Kafka, tmp_path: Path) -> None:
    """A file of one's own, with an export of the facts beside it: predictions use them."""
    messages, facts = stream(5, changes=40)
    made = job("windows", "events", "orders")
    file = tmp_path / "own.jsonl"
    file.write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in sorted(messages, key=lambda each: each["t"])))
    pl.DataFrame(facts).write_csv(tmp_path / "own.orders.csv", separator=";")
    found = orjson.loads(runner.invoke(app, ["backtest", str(made.path), str(file), "--json"]).stdout)
    with_facts = found["mae"]
    pl.DataFrame(facts).with_columns(product=pl.lit("A")).write_csv(tmp_path / "own.orders.csv", separator=";")
    found = orjson.loads(runner.invoke(app, ["backtest", str(made.path), str(file), "--json"]).stdout)
    assert with_facts < 0.9 * found["mae"]


@pytest.mark.parametrize("layout", ["grid", "windows"])
def test_killed_and_exactly_once(job: Callable[..., Job], kafka: Kafka, layout: str) -> None:
    """And facts that come meanwhile, too late for what was joined, change nothing."""
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    events, orders = topics(kafka, 2)
    calm = job(layout, events, orders, "calm")
    calm.run()
    killed = job(layout, events, orders, "killed", delivery="exactly_once")
    rng, begun = random.Random(4), killed.folder / "recovery"
    for _ in range(3):
        killed.kill_often(rng, 1, 0.8, "--until-eof")
        if not list(begun.glob("context-*.json")):
            continue  # the flow has not begun: what is there by then is joined
        send(kafka, orders, [{"m": f"m{i}", "t": START + 100, "product": "C"} for i in range(MACHINES)])
    killed.run()
    counts = killed.ids()
    assert max(counts.values()) == 1
    assert killed.messages() == calm.messages()
    assert killed.state() == calm.state()


def test_a_cluster_joins_the_same(job: Callable[..., Job], kafka: Kafka) -> None:
    """Two processes: a shard's rows are made in another process than its messages are read in."""
    if kafka.kind == "mock":
        pytest.skip("one broker for several processes")
    events, orders = topics(kafka, 3)
    spread, steady = job("windows", events, orders, "spread"), job("windows", events, orders, "steady")
    Cluster(spread, 2, "--until-eof").finish()
    steady.run()
    assert spread.messages() == steady.messages()
    assert spread.state() == steady.state()


def test_live_rows_wait_for_facts_within_the_grace(job: Callable[..., Job], kafka: Kafka) -> None:
    """A fact that comes a little after its time is joined; a late one is a dead letter, and of later rows."""
    events, orders = kafka.topic("events", 1), kafka.topic("orders", 1)
    made = job("arrival", events, orders)
    process = made.start()
    try:
        now = int(time.time() * 1000)
        send(kafka, events, [{"m": "m", "s": "y", "t": now, "value": 1.0}])
        time.sleep(0.4)
        send(kafka, orders, [{"m": "m", "t": now - 5, "product": "A", "speed": 1}])
        send(kafka, events, [{"m": "m", "s": "y", "t": now + 700, "value": 1.0}])
        deadline = time.monotonic() + 30
        while not kafka.read(made.predictions) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.5)
        send(kafka, orders, [{"m": "m", "t": now - 3, "product": "B", "speed": 1}])
        later = int(time.time() * 1000)
        send(kafka, events, [{"m": "m", "s": "y", "t": later + i, "value": 1.0} for i in (0, 600)])
        while not kafka.read(made.dead) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        process.terminate()
        output = process.communicate(timeout=30)[0]
    assert process.returncode == 0, output
    (letter,) = kafka.read(made.dead)
    headers = {str(name).rpartition("errors.")[2]: value for name, value in letter.headers() or []}
    assert (headers["topic"], headers["stage"]) == (orders.encode(), b"context")
    assert headers["exception.class.name"] == b"ssm_stream.Late"


def test_columns_of_windows_may_become_facts(tmp_path: Path) -> None:
    """A state goes on when an input comes from a context topic from now on."""
    plain = {**WINDOWS, "features": ["n"], "categories": []}
    before = parse_config(orjson.dumps({"source": {"brokers": "b", "topic": "t"}, "event": plain}).decode())
    engine = Engine(before)
    assert engine.rows is not None
    documents = [{"m": f"m{i % 3}", "t": START + 40 * i, "value": i % 7} for i in range(3_000)]

    def run(engine: Engine, some: list[dict[str, Any]]) -> list[float]:
        assert engine.rows is not None
        read, _ = MessageReader(engine.config.event).read(some)
        made = engine.rows.add(read, read.position.tolist(), 0)
        return engine.process(made.events)[0].yhat.tolist()

    run(engine, documents[:1_000])
    after = configured(WINDOWS)
    kept = Engine.restore(after, engine.snapshot())
    assert kept.rows is not None
    kept.rows.join_facts(JoinedTables([table(after, [("m1", 0, "A", 1)])]))
    assert len(run(kept, documents[1_000:2_000])) > 50
    back = Engine.restore(before, kept.snapshot())
    assert len(run(back, documents[2_000:])) > 50
