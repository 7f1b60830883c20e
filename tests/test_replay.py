"""Replay: every row arrives once, as it was recorded, at the pace asked for, or the replay says why not."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from brokers import Kafka, MockKafka
from confluent_kafka import KafkaError
from typer.testing import CliRunner

from ssm_stream.cli import replay as command
from ssm_stream.config import Event
from ssm_stream.ingest.paths import path_getter
from ssm_stream.kafka.embedded_broker import ApiKey
from ssm_stream.kafka.replay import PositionError, ReplayError, ReplayPosition, RowProducer, encode_row, replay

ROOT = Path(__file__).parent.parent
ROWS = [{"entity": f"pump-{i % 7}", "ts": 1_767_225_600 + i, "temp": i / 4, "target": i} for i in range(500)]

EVENT = Event.model_validate({"entity": "entity", "timestamp": "ts"})

app = typer.Typer()
app.callback()(lambda: None)
app.command()(command.replay)


def run(broker: Kafka, topic: str, rows: Any, **options: Any) -> Any:
    properties = {"bootstrap.servers": broker.bootstrap_servers, **options.pop("properties", {})}
    event = EVENT.model_copy(update={"entity_default": options.pop("entity_default", None)})
    return replay(RowProducer(properties, topic, event), rows, **options)


def values(broker: Kafka, topic: str, expected: int | None = None) -> list[Any]:
    return [orjson.loads(message.value() or b"") for message in broker.read(topic, expected)]


def test_every_row_arrives_under_its_entitys_key(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 3)
    told: list[int] = []
    began = time.time()
    result = run(mock_kafka, "events", ROWS, on_progress=told.append)
    assert (result.rows, result.stopped) == (500, False)
    assert result.events_per_s == pytest.approx(500 / result.seconds)
    assert told == sorted(told)
    assert told[-1] == 500
    messages = mock_kafka.read("events", 500)
    found = [orjson.loads(message.value() or b"") for message in messages]
    assert sorted(found, key=lambda row: row["target"]) == ROWS
    assert all(message.key() == row["entity"].encode() for message, row in zip(messages, found, strict=True))
    partition_of: dict[str, set[int]] = {}
    for message, row in zip(messages, found, strict=True):
        partition_of.setdefault(row["entity"], set()).add(message.partition())
        assert message.timestamp()[1] / 1000 == pytest.approx(began, abs=60), (
            "Kafka's time is now, not the recorded one"
        )
    assert all(len(partitions) == 1 for partitions in partition_of.values())
    for name in partition_of:
        order = [row["target"] for row in found if row["entity"] == name]
        assert order == sorted(order)


def test_keys_go_where_a_java_client_would_put_them(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1000)
    # Kafka's own test vectors of murmur2 (UtilsTest), made positive, modulo 1000.
    vectors = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536}
    run(mock_kafka, "events", [{"entity": key, "ts": 0} for key in vectors])
    found = {(m.key() or b"").decode(): m.partition() for m in mock_kafka.read("events", len(vectors))}
    assert found == {key: (hashed & 0x7FFFFFFF) % 1000 for key, hashed in vectors.items()}


def test_rows_without_a_name_have_no_key(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    rows = [{"entity": None}, {"entity": ""}, {}, {"entity": 7}, {"entity": "Straße"}]
    run(mock_kafka, "events", rows)
    assert [message.key() for message in mock_kafka.read("events", 5)] == [None, None, None, b"7", "Straße".encode()]


def test_keys_and_headers_that_are_no_text_arrive_as_the_bytes_they_were(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    rows = [{"$key": "\udcff\udcfe", "$header.line": "\udcfe", "ts": 0}, {"$key": "\ud800", "ts": 1}]
    producer = RowProducer(
        {"bootstrap.servers": mock_kafka.bootstrap_servers}, "events", EVENT.model_copy(update={"entity": "$key"})
    )
    replay(producer, rows)
    messages = mock_kafka.read("events", 2)
    assert [(message.key(), message.headers()) for message in messages] == [
        (b"\xff\xfe", [("line", b"\xfe")]),
        (b"?", None),
    ]


def test_rows_without_a_name_have_the_default_one_as_key(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    run(mock_kafka, "events", [{"entity": None}, {}, {"entity": 7}], entity_default="line-1")
    assert [message.key() for message in mock_kafka.read("events", 3)] == [b"line-1", b"line-1", b"7"]


def test_encode_says_what_json_cannot() -> None:
    row = {"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": None, "e": 1.5}
    assert json.loads(encode_row(row)) == {"a": "NaN", "b": ["Infinity", {"c": "-Infinity"}], "d": None, "e": 1.5}
    assert json.loads(encode_row({"n": 2**70, "x": math.nan})) == {"n": 2**70, "x": "NaN"}
    assert encode_row({"a": None}) == b'{"a":null}'


def test_paths_may_be_dotted() -> None:
    row = {"a": {"b": {"c": 1}}, "x.y": 2, "n": None}
    assert [path_getter(path)(row) for path in ("a.b.c", "x.y", "n", "n.z", "a.q", "none")] == [
        1,
        2,
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("times", "scale"),
    [
        ([1_767_225_600, 1_767_225_660], "seconds"),
        ([1_767_225_600_000, 1_767_225_660_000], "milliseconds"),
        (["2026-01-01T00:00:00", "2026-01-01T00:01:00"], "ISO"),
    ],
)
def test_speed_keeps_the_recorded_gaps(mock_kafka: MockKafka, times: list[Any], scale: str) -> None:
    mock_kafka.create_topic("events", 1)
    began = time.monotonic()
    result = run(mock_kafka, "events", [{"entity": "a", "ts": t} for t in times], speed=100)
    assert 0.6 <= result.seconds <= time.monotonic() - began < 4, scale
    first, second = (message.timestamp()[1] for message in mock_kafka.read("events", 2))
    assert 500 < second - first < 2000


def test_speed_begins_anew_where_time_does_and_does_not_wait_for_unreadable_times(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    rows = [{"entity": entity, "ts": t} for entity in "ab" for t in (0, 20, 10, "nonsense", None, 40)]
    result = run(mock_kafka, "events", rows, speed=200)
    assert result.rows == 12
    assert 0.4 <= result.seconds < 3, "two entities of 40 recorded seconds each"
    with pytest.raises(ReplayError, match="no time can be read"):
        run(mock_kafka, "events", [{"entity": "a", "ts": "yesterday"}], speed=1)


def test_rate(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    result = run(mock_kafka, "events", ROWS[:101], rate=200)
    assert 0.5 <= result.seconds < 3
    assert result.rows == 101


def test_stop_ends_with_everything_sent_acknowledged(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    until = time.monotonic() + 0.7
    began = time.monotonic()
    result = run(mock_kafka, "events", ROWS, rate=50, should_stop=lambda: time.monotonic() > until)
    assert result.stopped
    assert time.monotonic() - began < 4
    assert 0 < result.rows < 500
    assert len(mock_kafka.read("events")) == result.rows
    # Also in the middle of a long wait between two rows.
    until = time.monotonic() + 0.3
    began = time.monotonic()
    rows = [{"entity": "a", "ts": 0}, {"entity": "a", "ts": 10_000}]
    result = run(mock_kafka, "events", rows, speed=1, should_stop=lambda: time.monotonic() > until)
    assert (result.rows, result.stopped) == (1, True)
    assert time.monotonic() - began < 4


def test_a_refused_row_stops_with_the_brokers_words(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 3)
    with pytest.raises(ReplayError) as caught:
        run(mock_kafka, "events", ROWS)
    assert "'events'" in str(caught.value)
    assert "row 1 " in str(caught.value)
    assert "authorization failed" in str(caught.value)
    assert "let this user write" in str(caught.value)
    assert caught.value.acknowledged == 0


def test_passing_faults_are_ridden_out(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._TRANSPORT])
    assert run(mock_kafka, "events", ROWS).rows == 500
    assert [row["target"] for row in values(mock_kafka, "events", 500)] == list(range(500))


def test_a_row_that_is_too_large_is_named(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    rows = [*ROWS[:3], {"entity": "a", "blob": "x" * 2_000_000}]
    with pytest.raises(ReplayError, match=r"row 4 .*too large.*message\.max\.bytes"):
        run(mock_kafka, "events", rows)


def test_no_broker_names_the_connection() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ReplayError, match="Connection refused"):
        replay(RowProducer({"bootstrap.servers": address, "message.timeout.ms": 1500}, "events", EVENT), ROWS)


def test_a_refused_property_is_named_and_idempotence_yields_to_acks(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    with pytest.raises(ReplayError, match=r"no\.such\.property"):
        run(mock_kafka, "events", ROWS, properties={"no.such.property": "1"})
    assert run(mock_kafka, "events", ROWS[:5], properties={"acks": 1, "delivery.timeout.ms": 5000}).rows == 5


def test_rows_that_break_off_are_delivered_up_to_there(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)

    def broken() -> Any:
        yield from ROWS[:10]
        raise OSError("the disk is gone")

    told: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        run(mock_kafka, "events", broken(), on_progress=told.append)
    assert told[-1] == 10
    assert len(mock_kafka.read("events", 10)) == 10


def test_position(tmp_path: Path) -> None:
    recording = tmp_path / "a.jsonl"
    recording.write_text("x" * 100)
    folder = tmp_path / "positions"
    position = ReplayPosition(recording, "b:1", "events", folder)
    assert position.read() == 0
    position.write(42)
    assert ReplayPosition(recording, "b:1", "events", folder).read() == 42
    assert ReplayPosition(recording, "b:1", "other", folder).read() == 0
    assert [path.suffix for path in folder.iterdir()] == [".json"]
    recording.write_text("x" * 99)
    with pytest.raises(PositionError, match="shorter"):
        ReplayPosition(recording, "b:1", "events", folder).read()
    position.path.write_text("{")
    with pytest.raises(PositionError, match="not a position file"):
        position.read()


@pytest.fixture
def job(mock_kafka: MockKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[MockKafka, list[str]]:
    """A broker, and the command's first arguments: a configuration for it and a recording of ROWS."""
    monkeypatch.chdir(tmp_path)
    mock_kafka.create_topic("events", 1)
    (tmp_path / "c.yaml").write_text(
        f"source: {{brokers: '{mock_kafka.bootstrap_servers}', topic: events, wait: 2s}}\n"
        "event: {entity: entity, timestamp: ts, features: [temp]}\n"
    )
    (tmp_path / "r.jsonl").write_bytes(b"\n".join(map(orjson.dumps, ROWS)))
    return mock_kafka, ["replay", "c.yaml", "r.jsonl"]


def test_command_limit_resume_and_json(job: tuple[MockKafka, list[str]]) -> None:
    broker, arguments = job
    first = CliRunner().invoke(app, [*arguments, "--limit", "200", "--json"])
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert (told["rows"], told["skipped"], told["topic"], told["stopped"]) == (200, 0, "events", False)
    second = CliRunner().invoke(app, [*arguments, "--resume"])
    assert second.exit_code == 0
    assert "300 rows of r.jsonl → topic events" in second.stdout
    assert "after 200" in second.stdout
    assert [row["target"] for row in values(broker, "events", 500)] == list(range(500))
    third = CliRunner().invoke(app, [*arguments, "--resume"])
    assert third.exit_code == 0
    assert third.stdout.startswith("0 rows")


def test_command_errors(job: tuple[MockKafka, list[str]], tmp_path: Path) -> None:
    _, arguments = job
    both = CliRunner().invoke(app, [*arguments, "--rate", "1", "--speed", "1"])
    assert (both.exit_code, "exclude each other" in both.stderr) == (2, True)
    missing = CliRunner().invoke(app, ["replay", "c.yaml", "none.csv"])
    assert (missing.exit_code, "no such file" in missing.stderr) == (2, True)
    wrong = CliRunner().invoke(app, ["replay", "none.yaml", "r.jsonl"])
    assert (wrong.exit_code, "none.yaml" in wrong.stderr) == (2, True)
    with (tmp_path / "r.jsonl").open("ab") as file:
        file.write(b"\n{broken\n")
    broken = CliRunner().invoke(app, arguments)
    assert broken.exit_code == 1
    assert "r.jsonl:501: not JSON" in broken.stderr
    assert "has 500 rows" in broken.stderr


def test_ctrl_c_stops_cleanly_and_resume_goes_on(job: tuple[MockKafka, list[str]], tmp_path: Path) -> None:
    broker, arguments = job
    code = "import typer; from ssm_stream.cli.replay import replay; typer.run(replay)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments[1:], "--rate", "100", "--json"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob(".ssm-stream/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 1, errors
    told = json.loads(output)
    assert told["stopped"]
    assert 0 < told["rows"] < 500
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert CliRunner().invoke(app, [*arguments, "--resume"]).exit_code == 0
    assert [row["target"] for row in values(broker, "events", 500)] == list(range(500))


def test_the_flow_sends_every_row(job: tuple[MockKafka, list[str]], tmp_path: Path) -> None:
    broker, _ = job
    flow = f"flows.replay:build({str(tmp_path / 'c.yaml')!r}, {str(tmp_path / 'r.jsonl')!r})"
    done = subprocess.run(
        [sys.executable, "-m", "bytewax.run", flow], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [row["target"] for row in values(broker, "events", 500)] == list(range(500))
