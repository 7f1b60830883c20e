"""`event.only`: some entities are watched; the others pass by, counted, and are neither learned nor dead letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import orjson
import polars as pl
import pytest
from brokers import Kafka
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given
from hypothesis import strategies as st
from test_decoder import chunk
from test_stream import Job
from typer.testing import CliRunner

import ssm_stream.operators as sop
from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.config.changes import diff_runtime_settings, runtime_settings
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.document_engine import DocumentEngine
from ssm_stream.evaluate.recordings import Recording, RecordingError
from ssm_stream.evaluate.recordings.column_reader import ColumnReader
from ssm_stream.evaluate.true_events import read_true_events
from ssm_stream.ingest.entity_filter import EntityFilter, only_this
from ssm_stream.ingest.events import EventReader
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.records import LabelBatch, OutputBatch, ShardBatch

EVENT = "entity: machine, timestamp: ts, features: [a], target: y"


def config(only: str = "[press-*]", more: str = "") -> Config:
    return parse_config(f"source: {{brokers: 'h:1', topic: events}}\nevent: {{{EVENT}, only: {only}}}\n{more}")


def documents(n: int = 600) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    names = ["press-1", "oven-1", "press-2", "oven-2"]
    return [
        {"machine": names[i % 4], "ts": 60 * i, "a": float(rng.normal()), "y": float(rng.normal())} for i in range(n)
    ]


def presses(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if str(row["machine"]).startswith("press-")]


def test_patterns() -> None:
    found = EntityFilter(["press-*", "line-[12]/?", "x.y"])
    for name, matches in {
        "press-": True, "press-1": True, "Press-1": False, "a press-1": False, "line-1/a": True, "line-3/a": False,
        "line-1/ab": False, "x.y": True, "xzy": False, "press-\n": True,
    }.items():  # fmt: skip
        assert found.matches(name) is matches, name
    assert found.passed_by([3, 5, 8], ["press-1", "oven", ""]) == {5}


@pytest.mark.parametrize("name", ["TI[1]", "DB1.DBW[3]", "a*", "what?", "[", "[!a]"])
def test_a_name_that_could_be_a_pattern(name: str) -> None:
    """Typed as it is, it is matched; what names this entity alone matches no other."""
    assert EntityFilter([name]).matches(name)
    alone = EntityFilter([only_this(name)])
    assert alone.matches(name)
    assert not any(map(alone.matches, ["TI1", "DB1.DBW3", "ab", "whats", "b"]))


@pytest.mark.parametrize("only", ["press-1", "['']", "[1]", "[[a]]"])
def test_what_is_no_list_of_patterns_is_refused(only: str) -> None:
    with pytest.raises(ConfigError, match="only"):
        config(only)


@given(st.lists(st.sampled_from(["press-1", "oven-1", 7, "", None, 1.5, "press-2"]), max_size=12))
def test_documents_of_others_are_neither_events_nor_refused(names: list[Any]) -> None:
    """An unreadable name is a fault; other faults of a document count only if its entity is watched."""
    rows = [{"machine": name, "ts": i if i % 5 else "no time", "a": 1, "y": 2} for i, name in enumerate(names)]
    every, faults = EventReader(config("[]").event).read(rows)
    some, refused = EventReader(config("[press-*, '7']").event).read(rows)
    others = {i for i, name in enumerate(names) if name == "oven-1"}
    assert some.position.tolist() == [i for i in every.position.tolist() if i not in others]
    assert refused == [fault for fault in faults if fault.position not in others]


def test_all_ways_of_reading_agree(tmp_path: Path) -> None:
    rows, made = documents(), config()
    pl.DataFrame(rows).write_parquet(tmp_path / "r.parquet")
    expected = EventReader(config("[]").event).read(presses(rows))[0]
    reader = ColumnReader(made.event)
    parts = [reader.read(part)[0] for part in Recording(tmp_path / "r.parquet").slices(reader.names)]
    values: list[bytes | None] = [orjson.dumps(row) for row in rows]
    ((_, batch),) = Decoder(made).decode(chunk(values))
    assert isinstance(batch, ShardBatch)
    assert batch.offsets == [100 + i for i in range(600) if i % 2 == 0]
    engine = DocumentEngine(made)
    one_by_one = [engine.process_document(row) for row in rows]
    assert [bool(each.predictions) for each in one_by_one] == [i % 2 == 0 for i in range(600)]
    assert sorted(engine.names) == ["press-1", "press-2"]
    for events in (*parts, EventReader(made.event).read(rows)[0], batch.events):
        assert events.entity == expected.entity
        np.testing.assert_array_equal(events.target, expected.target)
        assert events.position.tolist() == list(range(0, 600, 2))


def test_the_decoder_counts_what_passes_by() -> None:
    counts: list[int] = []
    more = "labels: {topic: lab, id: id}\n"
    for made in (config(), config(more=more)):
        decoder = Decoder(made, counts.append)
        out = decoder.decode(chunk([b'{"machine":"oven","ts":1,"y":2,"id":"a"}']))
        assert out == []
        values = [b'{"machine":"press-1","ts":1,"y":2,"id":"a"}', b'{"machine":"oven","ts":1,"y":"z","id":"b"}', b"{"]
        items = [item for _, item in decoder.decode(chunk([*values, None]))]
        assert [item.size for item in items if isinstance(item, OutputBatch)] == [2]
    assert counts == [1, 1, 1, 1]
    label = [b'{"machine":"press-1","y":2,"id":"a"}', b'{"machine":"oven","y":1,"id":"b"}']
    (found,) = [item for _, item in decoder.decode(chunk(label)._replace(topic="lab"))]
    assert isinstance(found, LabelBatch)
    assert found.labels.entity == ["press-1"]
    assert counts[-1] == 1


def test_a_backtest_counts_them_and_judges_the_others(tmp_path: Path) -> None:
    rows = documents()
    result, alone = backtest(config(), rows), backtest(config("[]"), presses(rows))
    assert (result["passed_by"], alone["passed_by"], result["entities"]) == (300, 0, 2)
    assert result["by_entity"] == alone["by_entity"]
    file, path = tmp_path / "rows.jsonl", tmp_path / "monitor.yaml"
    file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    path.write_text(f"source: {{brokers: 'h:1', topic: events}}\nevent: {{{EVENT}, only: [press-*]}}\n")
    for command, words in (
        (["backtest", path, file], "300 rows of other entities passed by (event.only)"),
        (["validate", path], "watches press-*; all other entities pass by (event.only)"),
        (["validate", path, "--recording", file], "300 rows of other entities pass by (event.only)"),
    ):
        done = CliRunner().invoke(app, [str(word) for word in command])
        assert done.exit_code == 0, done.stderr
        assert words in " ".join((done.stdout + done.stderr).split())


def test_true_events_of_others_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("entity,start,end\noven-1,60,120\npress-1,60,120\n")
    assert [each.entity for each in read_true_events(path, config(), ["press-1", "press-2"])] == ["press-1"]
    path.write_text("entity,start,end\npress-9,60,120\n")
    with pytest.raises(RecordingError, match="'press-9' is not in the recording"):
        read_true_events(path, config(), ["press-1", "press-2"])


def test_a_change_keeps_the_state_of_all() -> None:
    """What is left out keeps its state: when it is watched again, it goes on as if it had been silent."""
    rows = documents()
    wide, narrow = config("['*']"), config()
    assert wide.hash == narrow.hash == config("[]").hash
    (change,) = diff_runtime_settings(runtime_settings(wide), runtime_settings(narrow))
    assert (change.path, change.effect) == ("event.only", "kept")
    engine = Engine(wide)
    engine.process(EventReader(wide.event).read(rows[:300])[0])
    before = engine.state_hash("oven-1")
    engine = Engine.restore(narrow, engine.snapshot())
    engine.process(EventReader(narrow.event).read(rows[300:])[0])
    assert len(engine) == 4
    assert engine.state_hash("oven-1") != before  # the pool has learned from the presses
    engine = Engine.restore(wide, engine.snapshot())
    assert sorted(engine.names) == ["oven-1", "oven-2", "press-1", "press-2"]


def test_the_operators_leave_them_out() -> None:
    flow, found, errors = Dataflow("d"), list[Any](), list[Any]()
    rows = [*documents(40), {"machine": "oven-9", "ts": "no time"}]
    watched = sop.monitor("m", op.input("in", flow, TestingSource(rows)), config())
    op.output("out", watched.predictions, TestingSink(found))
    op.output("errors", watched.errors, TestingSink(errors))
    run_main(flow)
    assert (len(found), errors) == (20, [])
    assert {each.entity for each in found} == {"press-1", "press-2"}


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_the_service_passes_them_by(kafka: Kafka, tmp_path: Path, delivery: str) -> None:
    """The position goes past them, also where nothing else comes, and after a restart with other patterns."""
    if kafka.kind == "mock" and delivery == "exactly_once":
        pytest.skip("the mock cluster has no transactions")
    job = Job(kafka, tmp_path / "job", kafka.topic("events", 1))
    content = orjson.loads(job.path.read_bytes())
    content["event"]["only"] = ["press-*"]
    content["delivery"] = delivery
    job.path.write_bytes(orjson.dumps(content))

    def rows(first: int, count: int, names: list[str]) -> list[tuple[bytes, bytes]]:
        return [
            (name.encode(), orjson.dumps({"entity": name, "ts": 60 * i, "a": 1.0, "b": i % 3, "target": i % 3}))
            for i in range(first, first + count)
            for name in names
        ]

    kafka.produce(job.topic, rows(0, 50, ["oven-1", "press-1"]) + rows(50, 50, ["oven-1"]))
    job.run()
    read = [json.loads(message.value() or b"") for message in kafka.read(job.predictions)]
    assert [each["entity"] for each in read] == ["press-1"] * 50
    content["event"]["only"] = ["press-*", "oven-*"]
    job.path.write_bytes(orjson.dumps(content))
    kafka.produce(job.topic, rows(100, 10, ["oven-1", "press-1"]))
    job.run()
    read = [json.loads(message.value() or b"") for message in kafka.read(job.predictions)]
    first = min((each for each in read if each["entity"] == "oven-1"), key=lambda each: each["ts"])
    assert (first["ts"], first["n"]) == (6_000_000, 0)
    assert max(each["n"] for each in read if each["entity"] == "press-1") == 59
    assert len(read) == 70
