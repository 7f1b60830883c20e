"""Paths into lists, keys and headers: one grammar, the same events by every reader, and words for what is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import orjson
import pytest
from brokers import Kafka, MockKafka
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ssm_stream.autoconfig.feature_selection import _leaves
from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.config.paths import Match, PathError, columns_of, parse_path
from ssm_stream.contract.path_schema import schema_at
from ssm_stream.evaluate.prequential import batches
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.ingest.missing_paths import FIRST, missing_paths
from ssm_stream.ingest.paths import leaf_paths, path_getter
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.fast_json import FastReader
from ssm_stream.kafka.records import Chunk, OutputBatch, ShardBatch
from ssm_stream.kafka.replay import RowProducer, replay
from ssm_stream.kafka.topic_head import FirstMessages


def configured(event: str, more: str = "") -> Config:
    return parse_config(f"source: {{brokers: 'localhost:9092', topic: t}}\nevent: {{{event}}}\n{more}")


class FakeMessage:
    """A consumed message as the Kafka client shows it."""

    def __init__(self, offset: int, value: bytes | None, key: Any = None, headers: Any = None) -> None:
        self._offset, self._value, self._key, self._headers = offset, value, key, headers

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> Any:
        return self._key

    def headers(self) -> Any:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_800_000_000_000 + self._offset


def decoded(config: Config, messages: list[Any]) -> tuple[list[ShardBatch], list[str]]:
    """The batches of events, and the reasons of the dead letters."""
    events, reasons = list[ShardBatch](), list[str]()
    for _, item in Decoder(config).decode(Chunk("t", 0, messages)):
        if isinstance(item, OutputBatch):
            reasons += [dict(r.headers or [])["__connect.errors.exception.message"].decode() for r in item.records]  # type: ignore[union-attr]
        else:
            assert isinstance(item, ShardBatch)
            events.append(item)
    return events, reasons


def same(ours: Events, theirs: Events) -> None:
    assert (ours.entity, ours.category_texts) == (theirs.entity, theirs.category_texts)
    for name in ("ts", "features", "target", "position"):
        assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes(), name


# The grammar.


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("temp", ("temp",)),
        ("payload.temp", ("payload", "temp")),
        ("payload.sensors[0].value", ("payload", "sensors", 0, "value")),
        ("payload.sensors[name=temp].value", ("payload", "sensors", Match("name", "temp"), "value")),
        ("m[name=Line 1.Temp][2]", ("m", Match("name", "Line 1.Temp"), 2)),
        (r'm[name="a]\"\\b"].v', ("m", Match("name", 'a]"\\b'), "v")),
        ("matrix[1][2]", ("matrix", 1, 2)),
        ("Temp [°C]", ("Temp [°C]",)),
        ("I[A]", ("I[A]",)),
        ("ch[0]_temp", ("ch[0]_temp",)),
        ("No.", ("No", "")),
        ("$id", ("$id",)),
        ("$key", ("$key",)),
        ("$header.machine.id", ("$header.machine.id",)),
    ],
)
def test_paths_have_steps(path: str, steps: tuple[Any, ...]) -> None:
    assert parse_path(path) == steps


@pytest.mark.parametrize(
    ("path", "at", "words"),
    [
        ("a.b[0", 4, "never closed"),
        ("a[name=x", 2, "never closed"),
        ('a[name="x].v', 8, "quote"),
        ("a[=x]", 3, "key is missing"),
        ("a[name=]", 8, "value is missing"),
        ("a[-1]", 3, "whole number from 0"),
        ("a[name=x]v", 10, "follows a bracket"),
        ("$keys", 5, "$key"),
        ("$Header.x", 1, "$header.NAME"),
        ("$headers.machine", 8, "$header.NAME"),
        ("$header.", 8, "$header.NAME"),
    ],
)
def test_errors_name_the_path_and_the_character(path: str, at: int, words: str) -> None:
    with pytest.raises(PathError) as caught:
        parse_path(path)
    assert repr(path) in str(caught.value)
    assert f"at character {at} " in str(caught.value)
    assert words in str(caught.value)
    for key in ("entity", "timestamp", "target", "features", "categories"):
        keys = {"entity": "e", "timestamp": "t", "target": "y", "features": [], "categories": []}
        keys[key] = [path] if isinstance(keys[key], list) else path
        with pytest.raises(ConfigError, match=f"event.{key}"):
            configured(json.dumps(keys)[1:-1])


def test_values_are_found_in_lists_by_place_and_by_name() -> None:
    document = {
        "p": {"s": [{"name": "temp", "v": 1.5}, {"name": "temp", "v": 9}, {"name": 7, "v": None},
                    {"name": True, "v": 2}]},
        "p.q": [[1, 2], [3]],
        "Temp [K]": 300,
        "x[0]": "its own name",
    }  # fmt: skip
    paths = {
        "p.s[0].v": 1.5, "p.s[name=temp].v": 1.5, "p.s[name=7].v": None, "p.s[name=true].v": 2, "p.s[9].v": None,
        "p.s[name=none].v": None, "p.s.v": None, "p[0]": None, "p.q[1][0]": 3, "p.q[0]": [1, 2], "Temp [K]": 300,
        "x[0]": "its own name", "p.s[0].v.more": None,
    }  # fmt: skip
    assert {path: path_getter(path)(document) for path in paths} == paths
    missing = object()
    assert path_getter("p.s[name=7].v", missing)(document) is None
    assert path_getter("p.s[8].v", missing)(document) is missing


def test_the_paths_of_a_document_lead_back_to_its_values() -> None:
    document = {
        "a": 1, "b": {"c": [1.5, {"d": 2}], "e": {}}, "f": [{"name": "x]", "v": 3}, {"name": '"y', "v": 4}], "g": None,
        "h": [{"tag": "t1", "v": 5, "w": [6]}],
    }  # fmt: skip
    found = {path: path_getter(path)(document) for path in leaf_paths(document)}
    assert found == {
        "a": 1, "b.c[0]": 1.5, "b.c[1].d": 2, "b.e": {}, 'f[name="x]"].name': "x]", 'f[name="x]"].v': 3,
        'f[name="\\"y"].name': '"y', 'f[name="\\"y"].v': 4, "g": None, "h[tag=t1].tag": "t1", "h[tag=t1].v": 5,
        "h[tag=t1].w[0]": 6,
    }  # fmt: skip
    assert columns_of("b.c[1].d") == {"b.c[1].d", "b.c", "b"}


# Readers.

LISTS = "entity: 'who[0]', timestamp: at.ts, features: ['s[name=a].v', 's[1].v'], target: 's[name=y].v', lags: 1"
FLAT = "entity: e, timestamp: t, features: [a, b], target: y, lags: 1"
numbers = st.none() | st.floats(-1e6, 1e6) | st.integers(-5, 5) | st.booleans()


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["m1", "m2"]), numbers, numbers, numbers), min_size=1, max_size=8))
def test_events_of_lists_equal_those_of_plain_messages(rows: list[tuple[str, Any, Any, Any]]) -> None:
    nested = [
        {"who": [e], "at": {"ts": i}, "s": [{"name": "a", "v": a}, {"name": "b", "v": b}, {"name": "y", "v": y}]}
        for i, (e, a, b, y) in enumerate(rows)
    ]
    plain = [{"e": e, "t": i, "a": a, "b": b, "y": y} for i, (e, a, b, y) in enumerate(rows)]
    both = []
    for event, documents in ((LISTS, nested), (FLAT, plain)):
        messages: list[Any] = [FakeMessage(i, orjson.dumps(each)) for i, each in enumerate(documents)]
        both.append(decoded(configured(event), messages))
    (ours, our_letters), (theirs, their_letters) = both
    assert [text.replace("s[name=y].v", "y") for text in our_letters] == their_letters
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        same(mine.events, other.events)
        assert mine.offsets == other.offsets
    assert not FastReader(configured(LISTS).event).supported
    assert FastReader(configured(FLAT).event).supported


KEYED = "entity: $key, timestamp: t, features: [a], target: y, lags: 1"


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.none() | st.binary(max_size=3) | st.sampled_from([b"m1", "Öfen".encode(), b"x" * 512, b"x" * 513]),
            st.sampled_from([1, 2.5, None, "text"]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["", ", entity_default: line-1", ", only: [m*]"]),
)
def test_events_named_by_their_keys_are_the_same_by_either_reader(rows: list[tuple[Any, Any]], more: str) -> None:
    config = configured(KEYED + more)
    values: list[bytes | None] = [orjson.dumps({"t": i, "a": a, "y": 1, "$key": "no"}) for i, (_, a) in enumerate(rows)]
    keys = [key for key, _ in rows]
    messages: list[Any] = [FakeMessage(i, value, key) for i, (value, key) in enumerate(zip(values, keys, strict=True))]
    plain = FastReader(config.event).read(values, keys)
    slow = Decoder(config)
    slow._fast = None
    ours, _ = decoded(config, messages)
    theirs = [item for _, item in slow.decode(Chunk("t", 0, messages)) if isinstance(item, ShardBatch)]
    assert [batch.offsets for batch in ours] == [batch.offsets for batch in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        same(mine.events, other.events)
    usable = all(key and key.decode("utf-8", "replace").encode() == key and len(key) <= 512 for key in keys)
    if usable and all(a != "text" for _, a in rows):
        assert plain is not None
        expected = [key.decode() for key in keys if not more.startswith(", only") or key.startswith(b"m")]
        assert plain.entity == expected


def test_headers_are_entity_feature_category_and_time() -> None:
    config = configured(
        "entity: $header.machine, timestamp: $header.at, features: [$header.speed], categories: [$header.line], "
        "target: y, lags: 1, when: {$header.state: {from: 1}}"
    )
    good = [("at", b"1800000000"), ("speed", b"1.5"), ("line", b"7"), ("state", b"2"), ("machine", b"no")]
    messages: list[Any] = [
        FakeMessage(0, b'{"y": 1, "$header.machine": "spoofed"}', headers=[*good, ("machine", b"m1")]),
        FakeMessage(1, b'{"y": 2}', headers=good[:2]),
        FakeMessage(2, b'{"y": 3}', headers=[*good, ("machine", b"\xff")]),
        FakeMessage(3, b'{"y": 4}', headers=[*good, ("speed", b"fast")]),
        FakeMessage(4, b'{"y": 5}', headers=None),
        FakeMessage(5, b'{"y": 6}', headers=[("machine", "m2"), ("at", "2027-01-15T08:00:00Z")]),
    ]
    (batch,), letters = decoded(config, messages)
    assert batch.offsets == [0, 5]
    assert batch.events.entity == ["m1", "m2"]
    assert batch.events.ts.tolist() == [1_800_000_000_000, 1_800_000_000_000]
    np.testing.assert_array_equal(batch.events.features[0, 0], 1.5)
    assert list((batch.events.category_texts or {}).values()) == ["7"]
    assert batch.events.idle is not None
    assert batch.events.idle.tolist() == [False, True]
    assert ["`$header.machine` is missing" in text for text in letters] == [True, False, False, True]
    assert letters[1] == "entity: `$header.machine` is not UTF-8, found b'\\xff'"
    assert letters[2] == "`$header.speed` must be a number, found 'fast'"


def test_dicts_have_the_fields_of_their_messages() -> None:
    reader = EventReader(configured(KEYED).event)
    events, refused = reader.read([{"t": 1, "a": 1, "y": 2, "$key": "m"}, {"t": 1, "a": 1, "y": 2}])
    assert events.entity == ["m"]
    assert refused[0].reason == "entity: `$key` is missing or null"


# What is not there.


def documents(n: int = 5) -> list[dict[str, Any]]:
    sensors = [{"name": "temp", "value": 1.0}, {"name": "load", "value": 2.0}]
    return [{"machine": "m", "ts": i, "payload": {"sensors": sensors, "speed": 3}} for i in range(n)]


SENSORS = "payload.sensors"


@pytest.mark.parametrize(
    ("event", "near"),
    [
        ("entity: machine, timestamp: ts, target: 'payload.sensors[name=temp].value'", None),
        ("entity: machine, timestamp: ts, target: 'payload.sensors[name=tmp].value'", f"{SENSORS}[name=temp].value"),
        ("entity: machine, timestamp: ts, target: 'payload.sensor[name=temp].value'", f"{SENSORS}[name=temp].value"),
        ("entity: Machine, timestamp: ts, target: payload.speed", "machine"),
        ("entity: machine, timestamp: ts, target: speed", "payload.speed"),
        ("entity: machine, timestamp: ts, target: data.speed", "payload.speed"),
    ],
)  # fmt: skip
def test_a_path_that_no_document_has_is_named_with_the_nearest(event: str, near: str | None) -> None:
    found = missing_paths(configured(event), documents(), "the file")
    if near is None:
        assert found == []
    else:
        assert len(found) == 1
        assert f"in the file; did you mean `{near}`?" in found[0]


LABELS = "kubernetes.labels.app.kubernetes.io/name"


@pytest.mark.parametrize(
    ("found", "value"),
    [
        ({"a": {"b.c": 5}}, 5),
        ({"a": {"b.c": None, "b": {"c": 6}}}, None),
        ({"a": {"b": {"c": 6}, "b.c": 5}}, 5),
        ({"a.b.c": 7, "a": {"b.c": 5}}, 7),
        ({"a": {"b": 6}}, ...),
        ({"a.b": {"c": 5}}, ...),
        ({"a": [{"b.c": 5}]}, ...),
        ({"a": "b.c"}, ...),
    ],
)
def test_all_keys_that_are_left_may_be_one(found: dict[str, Any], value: Any) -> None:
    assert path_getter("a.b.c", ...)(found) is value
    schema = schema_at("a.b.c", {"type": "null"} if value is None else {})
    assert jsonschema.Draft202012Validator(schema).is_valid(found) is (value is not ...)
    leads = [path for path, *_ in _leaves(found) if path == "a.b.c"]
    if "a.b" not in found:
        assert len(leads) == (value is not ...), "the value that the reader finds, and none of what it passes over"


def test_labels_of_kubernetes_are_read_by_either_reader_and_drafted() -> None:
    config = configured(f"entity: {LABELS}, timestamp: t, features: [], target: 'm.cpu.load', lags: 1")
    documents = [
        {"t": i, "m": {"cpu.load": 1.5 + i}, "kubernetes": {"labels": {"app": "x", "app.kubernetes.io/name": "api"}}}
        for i in range(3)
    ]
    values: list[bytes | None] = [orjson.dumps(each) for each in documents]
    fast = FastReader(config.event).read(values)
    assert fast is not None
    slow, refused = EventReader(config.event).read(documents)
    same(fast, slow)
    assert not refused
    assert slow.entity == ["api"] * 3
    assert slow.target.ravel().tolist() == [1.5, 2.5, 3.5]
    assert {path for path, _, nameable in _leaves(documents[0]) if nameable} >= {LABELS, "m.cpu.load"}


def test_a_name_with_a_dot_that_leads_further_has_no_path_and_that_is_the_reason() -> None:
    """The nearest name would be the path itself."""
    event = "entity: e, timestamp: ts, target: y, features: [a.b.c]"
    (one,) = missing_paths(configured(event), [{"e": "m", "ts": 1, "y": 2.0, "a.b": {"c": 5}}], "plant.jsonl")
    assert one.startswith("event.features: no path leads to `a.b.c` in plant.jsonl: a name within it has a dot")
    assert "did you mean" not in one
    for found in ({"a.b.c": 5}, {"a": {"b": {"c": 5}}}, {"a": {"b.c": 5}}):
        assert missing_paths(configured(event), [{"e": "m", "ts": 1, "y": 2.0, **found}], "plant.jsonl") == []


def test_a_null_is_there_and_a_field_of_no_message_is_not() -> None:
    config = configured("entity: $header.machine, timestamp: ts, target: y")
    assert missing_paths(config, [{"ts": 1, "y": None, "$header.machine": "m"}], "it") == []
    (one,) = missing_paths(config, [{"ts": 1, "y": None, "$header.machine": None}], "plant.csv")
    assert "the header `machine` of the message, which plant.csv does not have" in one
    assert "ssm-stream record" in one


def test_the_first_thousand_messages_are_searched_and_no_more() -> None:
    config = configured("entity: e, timestamp: t, features: [a, b], target: y")
    reports: list[tuple[int, list[str]]] = []
    inspect = FirstMessages(config, lambda count, sentences: reports.append((count, sentences)))

    def chunk(n: int, **more: Any) -> Chunk:
        value = orjson.dumps({"e": "m", "t": 1, "y": 2, **more})
        return Chunk("t", 0, [FakeMessage(i, value) for i in range(n)])  # type: ignore[misc]

    assert inspect(chunk(FIRST - 100, a=1, B=1))
    assert reports == []
    assert not inspect(chunk(5000, a=1))
    ((count, sentences),) = reports
    assert count == 1
    assert sentences[0].startswith(
        "event.features: no column 'b' in the first 1,000 messages of t; did you mean `B`? its columns: e, t, y, a, B"
    )
    assert not inspect(chunk(10, b=1))
    assert len(reports) == 1
    reports.clear()
    inspect = FirstMessages(config, lambda count, sentences: reports.append((count, sentences)))
    assert not inspect(chunk(1, a=None, b=None)), "all are there: nothing to search for"
    assert reports == [(0, [])]


def test_what_only_another_partition_has_is_not_missing() -> None:
    """A backlog is read by large chunks of one partition each, and other machines are in the others."""
    config = configured("entity: e, timestamp: t, features: [a, b], target: y")
    reports: list[tuple[int, list[str]]] = []
    inspect = FirstMessages(config, lambda count, sentences: reports.append((count, sentences)), 3)

    def chunk(partition: int, n: int, **more: Any) -> Chunk:
        value = orjson.dumps({"e": "m", "t": 1, "y": 2, **more})
        return Chunk("t", partition, [FakeMessage(i, value) for i in range(n)])  # type: ignore[misc]

    assert inspect(chunk(0, 5000, a=1))
    assert inspect(chunk(0, 5000, a=1))
    assert inspect(chunk(1, 5000, a=1))
    assert reports == []
    assert not inspect(chunk(2, 5000, b=1))
    assert reports == [(0, [])]
    inspect = FirstMessages(config, lambda count, sentences: reports.append((count, sentences)), 3)
    assert [inspect(chunk(partition, 5000, a=1)) for partition in range(3)] == [True, True, False]
    assert "no column 'b' in the first 1,002 messages of t" in reports[-1][1][0]


def test_messages_that_are_no_events_are_searched_without_a_failure() -> None:
    reports: list[int] = []
    inspect = FirstMessages(configured("entity: e, timestamp: t"), lambda count, _: reports.append(count))
    values = [None, b"", b"[]", b"{broken", b"7", b'"text"', b"\xff"]
    assert not inspect(Chunk("t", 0, [FakeMessage(i, values[i % 7]) for i in range(2000)]))  # type: ignore[misc]
    assert reports == [], "dead letters say it"


runner = CliRunner()


def write_config(folder: Path, event: str, brokers: str = "localhost:9092", topic: str = "t") -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"source: {{brokers: '{brokers}', topic: {topic}, wait: 20s}}\nevent: {{{event}}}\n"
        "recovery: {directory: null}\nops: {address: null}\nsinks: {predictions: p, alerts: al, dead_letters: d}\n"
    )
    return path


NESTED = "entity: machine, timestamp: ts, target: 'payload.sensors[name=temp].value', features: [{}]"


def test_commands_over_a_file_name_what_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, documents(50))))
    config = write_config(tmp_path, NESTED.format("payload.sped"))
    checked = runner.invoke(app, ["validate", str(config), str(file)])
    assert checked.exit_code == 1
    assert (
        "missing   event.features: no column 'payload.sped' in r.jsonl; did you mean `payload.speed`?" in checked.output
    )
    as_json = runner.invoke(app, ["validate", str(config), str(file), "--json"])
    assert len(json.loads(as_json.stdout)["missing_paths"]) == 1
    for command in ("backtest", "pilot"):
        failed = runner.invoke(app, [command, str(config), str(file)])
        assert failed.exit_code == 2
        assert "did you mean `payload.speed`?" in failed.stderr
    config = write_config(tmp_path, NESTED.format("payload.speed"))
    checked = runner.invoke(app, ["validate", str(config), str(file)])
    assert checked.exit_code == 0, checked.output
    assert "recording 1 entity in 1 partition" in checked.output
    done = runner.invoke(app, ["backtest", str(config), str(file), "--json"])
    assert json.loads(done.stdout)["events"] == 50


def test_a_file_without_keys_is_refused_and_a_column_of_that_name_taken(tmp_path: Path) -> None:
    config = write_config(tmp_path, "entity: $key, timestamp: ts, target: y, categories: [$header.line]")
    bare, full = tmp_path / "bare.csv", tmp_path / "full.csv"
    bare.write_text("ts,y\n" + "".join(f"{i},{i}\n" for i in range(30)))
    full.write_text("ts,y,$key,$header.line\n" + "".join(f"{i},{i},m{i % 2},A\n" for i in range(30)))
    failed = runner.invoke(app, ["backtest", str(config), str(bare)])
    assert failed.exit_code == 2
    assert "event.entity: `$key` is the message's key, which bare.csv does not have; record the topic" in failed.stderr
    assert "event.categories: `$header.line` is the header `line` of the message" in failed.stderr
    done = runner.invoke(app, ["backtest", str(config), str(full), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["entities"] == 2
    sent = runner.invoke(app, ["replay", str(config), str(bare)])
    assert (sent.exit_code, "`$key` is the message's key" in sent.stderr) == (2, True)


# Over a broker.


def send(kafka: Kafka, topic: str, n: int, form: Any = None) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    for i in range(n):
        value = {"ts": 1_700_000_000_000 + 1000 * i, "y": i % 7, "load": i % 5} if form is None else form(i)
        headers = [("line", b"AB"[i % 2 :][:1]), ("speed", str(i % 3).encode()), ("trace", b"%d" % i)]
        producer.produce(topic, orjson.dumps(value), b"m%d" % (i % 4), headers=headers)
    assert not producer.flush(30)


BY_KEY = "entity: $key, timestamp: ts, target: y, features: [load, $header.speed], categories: [$header.line]"


def test_a_recorded_topic_has_keys_and_the_headers_that_are_named(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic("keyed", 2)
    send(kafka, topic, 200)
    config = write_config(tmp_path, BY_KEY, kafka.bootstrap_servers, topic)
    out = tmp_path / "r.parquet"
    done = runner.invoke(app, ["record", str(config), "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    loaded = parse_config(config.read_text())
    (row, *_) = Recording(out)
    assert row["$key"].startswith("m")
    assert row["$header.speed"] in (0, 1, 2)
    assert "$header.trace" not in row
    ((events, refused, *_),) = list(batches(loaded, Recording(out)))
    assert (len(events), refused) == (200, [])
    assert set(events.entity) == {"m0", "m1", "m2", "m3"}
    partitions = Recording(out).partitions(loaded)
    assert partitions is not None
    assert set(partitions.by_entity) == set(events.entity)
    again = kafka.topic("again", 2)
    properties = {"bootstrap.servers": kafka.bootstrap_servers}
    assert replay(RowProducer(properties, again, loaded.event), Recording(out)).rows == 200
    before, after = (
        sorted(((m.timestamp()[0] and m.value()), m.key(), sorted(h for h in m.headers() or [] if h[0] != "trace"))  # type: ignore[type-var]
               for m in kafka.read(name, 200)) for name in (topic, again)
    )  # fmt: skip
    assert [each[1:] for each in before] == [each[1:] for each in after]
    assert [orjson.loads(each[0] or b"") for each in before] == [orjson.loads(each[0] or b"") for each in after]


def test_doctor_names_a_path_that_no_message_has(mock_kafka: MockKafka, tmp_path: Path) -> None:
    for name in ("t", "p", "al", "d"):
        mock_kafka.create_topic(name, 1)
    send(mock_kafka, "t", 30, lambda i: documents(i + 1)[i])
    config = write_config(tmp_path, NESTED.format("payload.sped, $header.speedy"), mock_kafka.bootstrap_servers)
    done = runner.invoke(app, ["doctor", str(config)])
    assert "no column 'payload.sped' in the last 30 messages; did you mean `payload.speed`?" in done.output
    assert "event.features: `$header.speedy` is the header `speedy` of the message" in done.output
    config = write_config(tmp_path, NESTED.format("payload.speed, $header.speed"), mock_kafka.bootstrap_servers)
    done = runner.invoke(app, ["validate", str(config), "--against-broker"])
    assert "ok    events: 30 of the last 30 messages are events" in done.output


def test_a_run_says_what_its_first_messages_do_not_have(kafka: Kafka, tmp_path: Path) -> None:
    from test_stream import Job

    topic = kafka.topic("paths", 2)
    send(kafka, topic, 1200)
    event = {
        "entity": "$key", "timestamp": "ts", "target": "y", "features": ["load", "lod", "$header.speed"],
        "categories": ["$header.line"],
    }  # fmt: skip
    job = Job(kafka, tmp_path, topic, event=event, shards=2)
    output = job.run("--log-format", "json")
    (line,) = (json.loads(each) for each in output.splitlines() if "path_missing" in each)
    assert line["level"] == "warning"
    assert "no column 'lod' in the first 1,000 messages of" in line["what"]
    assert "did you mean `load`?" in line["what"]
    predictions = [orjson.loads(m.value() or b"") for m in kafka.read(job.predictions, 1200)]
    assert {each["entity"] for each in predictions} == {"m0", "m1", "m2", "m3"}
