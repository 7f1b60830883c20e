"""`ssm-stream record` and `--topic`: what a topic holds, as a recording, gives the bits that the service gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from brokers import Kafka
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, load_config, parse_config
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.evaluate.recordings import Recording, RecordingError, count_rows, read_recording, topic_file
from ssm_stream.evaluate.recordings.column_reader import ColumnReader
from ssm_stream.evaluate.recordings.document_columns import MAX_DEPTH, PLACE, WHOLE
from ssm_stream.evaluate.recordings.topic_file import Places, TopicFile
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.ingest.paths import path_getter

FIRST = 1_750_000_000_000
EVENT = "event: {entity: press, timestamp: at, features: [load, site.heat], categories: [mode], target: temp}\n"


def ssm_stream(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(n: int = 900, machines: int = 6) -> Iterator[dict[str, Any]]:
    """Events with a nested field, numbers that are whole or not, and now and again one of another shape."""
    rng = np.random.default_rng(0)
    for i in range(n):
        load = float(rng.normal(5, 1))
        row: dict[str, Any] = {
            "press": f"press-{i % machines}",
            "at": FIRST + 60_000 * i,
            "load": int(load) if i % 9 == 0 else load,
            "site": {"line": i % 3, "heat": float(rng.normal())},
            "mode": "AB"[int(rng.integers(2))],
            "temp": 20 + 3 * load + float(rng.normal(0, 0.1)),
            "text": f"é {i}",
        }
        if i % 50 == 7:
            row["load"] = "n/a"
        if i % 70 == 3:
            del row["site"]
        if i % 80 == 5:
            row["mode"] = i % 2
        yield row


def produce(kafka: Kafka, topic: str, messages: list[tuple[bytes | None, bytes | None, int]]) -> None:
    """Write keys, values and timestamps, in order."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    for key, value, ts in messages:
        producer.produce(topic, value, key, timestamp=ts)
    assert not producer.flush(30)


def keyed(n: int = 900) -> list[tuple[bytes | None, bytes | None, int]]:
    """Messages keyed by their machine; some timestamps go back, some messages are no events."""
    out: list[tuple[bytes | None, bytes | None, int]] = []
    for i, row in enumerate(rows(n)):
        value: bytes | None = orjson.dumps(row)
        if i % 100 == 11:
            value = b"{broken" if i % 200 == 11 else None
        out.append((row["press"].encode(), value, FIRST + 1000 * i - (30_000 if i % 40 == 0 else 0)))
    return out


@pytest.fixture(scope="module")
def topic(kafka: Kafka) -> str:
    name = kafka.topic("presses", 3)
    produce(kafka, name, keyed())
    return name


def configured(kafka: Kafka, topic: str, folder: Path, more: str = "") -> Path:
    path = folder / "monitor.yaml"
    sinks = f"sinks: {{predictions: {topic}-p, alerts: {topic}-a, dead_letters: {topic}-d}}\n"
    path.write_text(
        f"source: {{brokers: '{kafka.bootstrap_servers}', topic: {topic}}}\n{EVENT}{sinks}"
        f"recovery: {{directory: '{folder / 'state'}'}}\nops: {{address: null}}\n{more}"
    )
    return path


def test_a_recording_has_all_fields_and_says_what_it_left_out(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    config, out = configured(kafka, topic, tmp_path), tmp_path / "presses.parquet"
    done = ssm_stream("record", config, "--out", out, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["messages"] == 900
    assert told["unreadable"] == {"NotJson": 5, "Tombstone": 4}
    assert told["rows"] == count_rows(out) == 891
    assert "9 messages are no events and left out (NotJson 5, Tombstone 4); the first: " in done.stderr
    frame = pl.read_parquet(out)
    assert set(frame.columns) == {"press", "at", "load", "site.line", "site.heat", "mode", "temp", "text", *PLACE}
    assert frame["kafka.partition"].n_unique() == told["partitions"] == 3
    assert frame["kafka.key"].to_list()[:2] == [b"press-0", b"press-1"]
    assert frame["kafka.timestamp"].dtype == pl.Datetime("ms", "UTC")
    # In each partition all that is readable, in its order.
    for _, part in frame.group_by("kafka.partition"):
        assert part["kafka.offset"].is_sorted()
    found = {(row["press"], row["at"]): row for row in Recording(out)}
    for key, value, _ in keyed():
        if value is not None and value != b"{broken":
            sent = orjson.loads(value)
            read = found[key.decode() if key else "", sent["at"]]
            flat = sent if "site" not in sent or "site" in read else {
                **{name: each for name, each in sent.items() if name != "site"},
                **{f"site.{name}": each for name, each in sent["site"].items()},
            }  # fmt: skip
            assert read["$key"] == key.decode()
            assert {name: each for name, each in read.items() if each is not None and name != "$key"} == flat
    again = ssm_stream("record", config, "--out", out)
    assert (again.exit_code, "is not overwritten" in again.stderr) == (2, True)
    assert ssm_stream("record", config, "--out", out, "--force").exit_code == 0
    assert not list(tmp_path.glob(".*"))


def test_the_topic_gives_the_bits_of_its_recording_and_of_the_service(kafka: Kafka, tmp_path: Path) -> None:
    name = kafka.topic("bits", 3)
    produce(kafka, name, keyed())
    for each in ("p", "a", "d"):
        kafka._create(f"{name}-{each}", 1, {"retention.ms": "-1"})
    config, out = configured(kafka, name, tmp_path, "model: {fleet: true}\n"), tmp_path / f"{name}.parquet"
    assert ssm_stream("record", config, "--out", out).exit_code == 0
    by_topic, by_file = tmp_path / "topic.jsonl", tmp_path / "file.jsonl"
    done = ssm_stream("backtest", config, "--topic", "--out", by_topic, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["partitions"] == 3
    assert ssm_stream("backtest", config, out, "--out", by_file).exit_code == 0
    assert by_topic.read_bytes() == by_file.read_bytes()
    assert ssm_stream("run", config, "--until-eof").exit_code == 0

    def bare(lines: list[bytes]) -> list[dict[str, Any]]:
        found = [{**orjson.loads(line), "id": None} for line in lines]
        return sorted(found, key=lambda row: (row["entity"], row["ts"]))

    served = [message.value() or b"" for message in kafka.read(f"{name}-p")]
    assert bare(served) == bare(by_topic.read_bytes().splitlines())


def test_since_and_until_go_by_the_messages_timestamps(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    config, out = configured(kafka, topic, tmp_path), tmp_path / "part.parquet"
    begin, end = (datetime.fromtimestamp((FIRST + 1000 * i) / 1000, UTC).isoformat() for i in (300, 600))
    assert ssm_stream("record", config, "--since", begin, "--until", end, "--out", out).exit_code == 0
    stamps = pl.read_parquet(out)["kafka.timestamp"].dt.epoch("ms")
    in_time = stamps.filter((stamps >= FIRST + 300_000) & (stamps < FIRST + 600_000))
    assert len(in_time) >= 0.98 * len(stamps)  # a few go back
    assert 280 < len(stamps) < 310
    late = ssm_stream("record", config, "--since", "1s", "--out", tmp_path / "none.parquet")
    assert (late.exit_code, "it holds no message" in late.stderr) == (1, True)
    assert not (tmp_path / "none.parquet").exists()
    wrong = ssm_stream("record", config, "--since", "yesterday", "--out", tmp_path / "none.parquet")
    assert (wrong.exit_code, "--since: found 'yesterday'" in wrong.stderr) == (2, True)
    wrong = ssm_stream("record", config, "--since", end, "--until", begin, "--out", tmp_path / "none.parquet")
    assert (wrong.exit_code, "it is not before --until" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("command", ["backtest", "pilot", "verify", "tune", "ablate"])
def test_a_recording_or_the_topic(command: str, kafka: Kafka, topic: str, tmp_path: Path) -> None:
    config = configured(kafka, topic, tmp_path)
    for words, cure in (
        ([], "give a FILE, or --topic"),
        (["x.csv", "--topic"], "not both"),
        (["x.csv", "--since", "7d"], "need --topic"),
    ):
        done = ssm_stream(command, config, *words)
        assert (done.exit_code, cure in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("command", ["pilot", "verify", "ablate"])
def test_commands_judge_the_topic(command: str, kafka: Kafka, topic: str, tmp_path: Path) -> None:
    config = configured(kafka, topic, tmp_path)
    extra = ["--cache", tmp_path / "runs"] if command == "ablate" else ["--out", tmp_path / "page.html"]
    done = ssm_stream(command, config, "--topic", *extra)
    assert done.exit_code in (0, 1), done.stderr
    assert f"891 events of topic {topic} (3 partitions), messages from 2025-06-15 " in done.stderr
    if command != "ablate":
        assert (tmp_path / "page.html").stat().st_size > 1000


def test_an_unknown_topic_is_an_error_with_its_cure(kafka: Kafka, tmp_path: Path) -> None:
    done = ssm_stream("backtest", configured(kafka, "nowhere-at-all", tmp_path), "--topic")
    assert (done.exit_code, "does not exist" in done.stderr) == (1, True)


# The file by itself.


def config_of(event: str = EVENT) -> Config:
    return parse_config(f"source: {{brokers: 'h:1', topic: t}}\n{event}")


def written(
    path: Path,
    documents: list[dict[str, Any]],
    chunk: int = 7,
    partitions: int = 3,
    keys: Sequence[bytes | None] | None = None,
) -> Path:
    keys = keys or [None] * len(documents)
    with TopicFile(path) as file:
        for at in range(0, len(documents), chunk):
            some = documents[at : at + chunk]
            number = np.arange(at, at + len(some))
            file.add(some, Places(number % partitions, number // partitions, 10 * number, keys[at : at + chunk]))
        file.finish()
    return path


def events_of(recording: Recording, config: Config) -> tuple[list[Events], list[Any]]:
    reader = ColumnReader(config.event)
    parts = [reader.read(part) for part in recording.slices(reader.names)]
    return [events for events, _ in parts], [refusal for _, refused in parts for refusal in refused]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=25)
@given(st.lists(st.dictionaries(st.sampled_from(["m", "t", "x", "y", "a", "a.b"]), JSON), min_size=1, max_size=30))
def test_any_documents_give_the_events_and_refusals_of_their_messages(
    tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, Any]]
) -> None:
    config = config_of("event: {entity: m, timestamp: t, features: [x, a.b], categories: [a.c], target: y, lags: 1}\n")
    usual = {"m": "e", "t": 1, "x": 1.5, "y": 1.5, "a": {"b": 1.5, "c": "s"}}
    documents = [usual] * 7 + documents
    path = written(tmp_path_factory.mktemp("any") / "any.parquet", documents)
    Recording(path).check_columns(config)
    reader = EventReader(config.event)
    read, refused = reader.read(documents)
    found, misfits = reader.read(list(Recording(path)))
    assert [(r.position, r.fault) for r in misfits] == [(r.position, r.fault) for r in refused]
    assert found.entity == read.entity
    for name in ("ts", "features", "target", "position"):
        np.testing.assert_array_equal(getattr(found, name), getattr(read, name))


def test_a_null_at_the_whole_path_is_not_the_value_of_the_nested_field(tmp_path: Path) -> None:
    """A fact that is not known is such a null: it is what the event has, whatever field of its own it brings."""
    nested, null = {"a": {"b": 2}}, {"a.b": None}
    values = [nested, nested | null, null | nested, null, nested | {"a.b": 3}, {"a": {"b": None}} | null, {}]
    documents = [{"m": "e", "t": i, "x": 1} | value for i, value in enumerate(values)]
    recording = Recording(path := written(tmp_path / "n.parquet", documents, partitions=1))
    get = path_getter("a.b")
    assert [get(row) for row in recording] == [get(row) for row in documents] == [2, None, None, None, 3, None, None]
    assert pl.read_parquet(path)[WHOLE].is_not_null().arg_true().to_list() == [1, 2, 4], "the others are columns"


@pytest.mark.parametrize(
    "values",
    [
        [20.7] * 7 + [21] * 7,
        [21] * 7 + [20.7] * 7 + [22] * 7,
        [20.7] * 7 + [2**60 + 1] * 7 + [21] * 7,
        [2**60 + 1] * 7 + [20.7] * 7 + [2**60 + 3] * 7,
        [20.7, 2**60 + 1, 21] * 7,
        [1] * 7 + [1e300] + [2] * 6,
    ],
)
def test_numbers_that_are_whole_and_not_are_kept_as_they_are(tmp_path: Path, values: list[float]) -> None:
    documents = [{"m": "e", "t": i, "x": value, "y": value} for i, value in enumerate(values)]
    path = written(tmp_path / "n.parquet", documents, partitions=1)
    assert [row["x"] for row in Recording(path)] == values
    by_column, _ = events_of(Recording(path), config := config_of("event: {entity: m, timestamp: t, target: y}\n"))
    read, _ = EventReader(config.event).read(documents)
    np.testing.assert_array_equal(np.concatenate([each.target for each in by_column]), read.target)


def test_one_time_out_of_all_bounds_is_recorded(tmp_path: Path) -> None:
    documents = [{"m": "e", "t": 1_700_000_000_123 + i, "y": 1.5} for i in range(14)]
    documents[9]["t"] = 1e300
    events, refused = events_of(
        Recording(written(tmp_path / "t.parquet", documents)),
        config_of("event: {entity: m, timestamp: t, target: y}\n"),
    )
    assert np.concatenate([each.ts for each in events]).tolist() == [
        each["t"] for i, each in enumerate(documents) if i != 9
    ]
    assert len(refused) == 1


def test_readings_of_a_topic_are_late_as_they_were_there(tmp_path: Path) -> None:
    config = config_of("event: {layout: readings, entity: m, signal: s, timestamp: t, target: y, features: [x]}\n")
    readings = [{"m": "e", "s": "xy"[i % 2], "t": 1000 * (i - 3 * (i % 7 == 6)), "value": i} for i in range(70)]
    refused = [chunk.refused for chunk in prequential(config, Recording(written(tmp_path / "r.parquet", readings)))]
    assert sum(map(len, refused)) == 10
    assert sum(len(chunk.refused) for chunk in prequential(config, readings)) == 0


def test_columns_and_rows_give_the_same_events(tmp_path: Path) -> None:
    documents = list(rows(300))
    path, config = written(tmp_path / "rows.parquet", documents), config_of()
    events, refused = events_of(Recording(path), config)
    read, expected = EventReader(config.event).read(documents)
    assert [(r.position, r.fault, r.reason) for r in refused] == [(r.position, r.fault, r.reason) for r in expected]
    np.testing.assert_array_equal(np.concatenate([each.features for each in events]), read.features)
    assert events[0].category_texts == read.category_texts
    plain = written(tmp_path / "plain.parquet", [row for row in documents if isinstance(row["load"], float)])
    Recording(plain).check_columns(config)
    assert next(read_recording(plain)).columns == [
        "press",
        "at",
        "load",
        "site.line",
        "site.heat",
        "mode",
        "temp",
        "text",
    ]


def test_the_order_is_of_time_and_does_not_depend_on_how_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each partition keeps its own order; several sorted files are merged as one would be."""
    rng = np.random.default_rng(1)
    messages = [
        (partition, offset, int(ts), {"m": f"p{partition}", "t": offset})
        for partition in range(4)
        for offset, ts in enumerate(rng.integers(0, 500, 300).cumsum() - rng.integers(0, 900, 300))
    ]

    def record(name: str, order: list[Any], chunk: int) -> pl.DataFrame:
        with TopicFile(tmp_path / name) as file:
            for at in range(0, len(order), chunk):
                some = order[at : at + chunk]
                partition, offset, ts, documents = zip(*some, strict=True)
                file.add(documents, Places(np.array(partition), np.array(offset), np.array(ts), [None] * len(some)))
            file.finish()
        return pl.read_parquet(tmp_path / name)

    once = record("once.parquet", messages, 10_000)
    latest: dict[int, int] = {}
    keyed = []
    for partition, offset, ts, _ in messages:
        latest[partition] = max(ts, latest.get(partition, ts))
        keyed.append((latest[partition], partition, offset))
    assert once.select("kafka.partition", "kafka.offset").rows() == [(p, o) for _, p, o in sorted(keyed)]
    monkeypatch.setattr(topic_file, "RUN_ROWS", 90)
    for chunk in (13, 40):
        mixed = sorted(messages, key=lambda each: (each[1] // chunk, each[0], each[1]))
        assert record(f"mixed-{chunk}.parquet", mixed, chunk).equals(once)


def test_nothing_is_left_of_a_recording_that_fails(tmp_path: Path) -> None:
    zero = np.zeros(1, np.int64)

    def fail() -> None:
        with TopicFile(tmp_path / "x.parquet") as file:
            file.add([{"m": 1}], Places(zero, zero, zero, [None]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_ipc", full)
    with pytest.raises(RecordingError, match=r"cannot be written .*No space left on device.*needs room"):
        written(tmp_path / "x.parquet", [{"m": 1}])
    assert list(tmp_path.iterdir()) == []


def test_deep_and_wide_documents_are_kept_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssm_stream.evaluate.recordings import document_columns

    monkeypatch.setattr(document_columns, "MAX_COLUMNS", 5)
    deep: Any = 1
    for _ in range(MAX_DEPTH + 2):
        deep = {"a": deep}
    documents = [{"m": "x", "t": 1}, {"m": "x", "deep": deep}, {"m": "x", **{f"k{i}": i for i in range(9)}}, {"k0": 7}]
    path = written(tmp_path / "odd.parquet", documents, partitions=1)
    read = [{name: value for name, value in row.items() if value is not None} for row in Recording(path)]
    assert read == documents
    assert len(pl.read_parquet(path).columns) <= 5 + len(PLACE)


def test_pools_are_by_the_partitions_of_the_topic(tmp_path: Path) -> None:
    config = config_of("event: {entity: m, timestamp: t, target: y, entity_default: none}\n")
    documents: list[dict[str, Any]] = [{"m": i % 4 or None, "t": i, "y": 1.0} for i in range(40)]
    found = Recording(written(tmp_path / "p.parquet", documents, partitions=4)).partitions(config)
    assert found == 4
    assert found is not None
    assert found.by_entity == {"none": 0, "1": 1, "2": 2, "3": 3}
    plain = tmp_path / "plain.csv"
    plain.write_text("m,t,y\na,1,2\n")
    assert Recording(plain).partitions(config) is None


@pytest.mark.parametrize("path", ["m", "of.m", "ids[1]", "of[name=m].id", "$key"])
@pytest.mark.parametrize("kept", ["all", "some", "those of one"])
def test_pools_are_by_partition_where_messages_are_kept_as_text(tmp_path: Path, path: str, kept: str) -> None:
    """A list of objects is no column: such a message is kept whole, the name of its entity with it."""
    default = "" if path == "$key" else ", entity_default: none"
    config = config_of(f"event: {{entity: '{path}', timestamp: t, target: y{default}}}\n")
    documents: list[dict[str, Any]] = []
    for i in range(40):
        name = None if i % 4 == 3 and default else f"m{i % 4}"
        document = {"m": name, "of": {"m": name}, "ids": ["x", name], "t": i, "y": 1.0, "$key": name}
        if path == "of[name=m].id":
            document["of"] = [{"name": "m", "id": name}]
        if kept == "all" or (i % 8 < 4 if kept == "some" else i % 4 == 2):
            document["more"] = [{"name": "temp"}]
        if path != "$key":
            del document["$key"]
        documents.append(document)
    found = Recording(written(tmp_path / "p.parquet", documents, partitions=4)).partitions(config)
    assert found is not None
    assert (int(found), found.by_entity) == (4, {"m0": 0, "m1": 1, "m2": 2, "none" if default else "m3": 3})


@pytest.mark.parametrize("named", [True, False])
def test_a_key_that_is_no_text_is_refused_as_on_the_topic(tmp_path: Path, named: bool) -> None:
    config = config_of("event: {entity: $key, timestamp: t, target: y, entity_default: none}\n")
    keys = [b"\xff\xfe" if i == 5 else b"m%d" % (i % 2) for i in range(20)]
    texts = [key.decode("utf-8", "surrogateescape") for key in keys]
    documents = [{"t": 1000 * i, "y": 1.5, **({"$key": texts[i]} if named else {})} for i in range(20)]
    recording = Recording(written(tmp_path / "k.parquet", documents, partitions=2, keys=keys))
    events, refused = events_of(recording, config)
    assert [name for each in events for name in each.entity] == [text for i, text in enumerate(texts) if i != 5]
    assert [(each.position, each.fault) for each in refused] == [(5, "NotUtf8")]
    found = recording.partitions(config)
    assert found is not None
    assert (int(found), found.by_entity) == (2, {"m0": 0, "m1": 1})


def test_the_places_are_no_inputs(tmp_path: Path) -> None:
    path = written(tmp_path / "drafted.parquet", [row for row in rows(400) if isinstance(row["load"], float)])
    done = ssm_stream("init", path, "--out", tmp_path / "made.yaml")
    assert done.exit_code == 0, done.stderr
    assert not [name for name in load_config(tmp_path / "made.yaml").event.columns if name.startswith("kafka.")]
