"""Own parts: formats and channels of another package, what happens where one fails, and the contract tests."""

from __future__ import annotations

import json
import math
import os
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from test_decoder import FakeMessage

import ssm_stream.operators as sop
from ssm_stream import ChannelEvent, ConfigError, Engine
from ssm_stream.config import Config, parse_config
from ssm_stream.config.sections import own_parts
from ssm_stream.contract.asyncapi import asyncapi
from ssm_stream.contract.message_schemas import alert_schema
from ssm_stream.core.own_channels import ChannelError
from ssm_stream.engine.engine import Engine as BatchEngine
from ssm_stream.engine.snapshot_format import SnapshotReader
from ssm_stream.flow import doctor
from ssm_stream.ingest.events import EventReader
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.records import Chunk, OutputBatch, ShardBatch
from ssm_stream.kafka.topic_head import parse_documents
from ssm_stream.testing import ContractError, check_channel, check_format

ROOT = Path(__file__).parent.parent
PARTS = Path(__file__).parent / "own_parts"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package of tests/own_parts, as if it were installed."""
    monkeypatch.syspath_prepend(str(PARTS))
    import plant_parts

    return plant_parts


def config_text(event: str = "", anomaly: str = "", more: str = "") -> str:
    return (
        "source: {brokers: 'x:1', topic: plant}\n"
        f"event: {{entity: machine, timestamp: ts, features: [load], target: temp{event}}}\n"
        f"alerts: {{anomaly: {{budget: 1 per 100 events{anomaly}}}, fleet: {{enabled: false}}}}\n{more}"
    )


def config(event: str = "", anomaly: str = "", more: str = "") -> Config:
    return parse_config(config_text(event, anomaly, more))


CHANNELS = ", channels: [residual, stuck]"


def documents(n: int = 900, seed: int = 0) -> list[dict[str, Any]]:
    """Machines of which one after the other repeats its value."""
    rng, out, held = random.Random(seed), [], dict[str, float]()
    for i in range(n):
        machine, load = f"m{rng.randrange(3)}", rng.gauss(0, 1)
        temp = 20 + 3 * load + rng.gauss(0, 0.3)
        if i % 300 > 240 and machine == f"m{i // 300 % 3}":
            temp = held.setdefault(f"{machine}{i // 300}", temp)
        out.append({"machine": machine, "ts": 1_700_000_000 + 60 * i, "load": load, "temp": temp})
    return out


# Names.


def test_a_name_that_is_not_installed_is_an_error_with_the_cure(parts: Any) -> None:
    with pytest.raises(ConfigError, match=r"event.format: found 'telegraph', which is no format that is installed "):
        config(", format: telegraph")
    with pytest.raises(
        ConfigError,
        match=r"\(json, avro, protobuf, auto, telegram\); correct the name, or install the package that has it",
    ):
        config(", format: telegraph")
    with pytest.raises(ConfigError, match=r"channels.*found 'stack', .*\(residual, novelty, levels, stuck\)"):
        config(anomaly=", channels: [stack]")


def test_a_name_of_two_packages_is_an_error(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other-2.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n")
    (other / "entry_points.txt").write_text(
        "[ssm_stream.formats]\ntelegram = other:f\nbroken = other:f\nnone = os:sep\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"a format of other 2.0 and plant-parts 1.0; remove one of them"):
        config(", format: telegram")
    with pytest.raises(ConfigError, match=r"format 'broken' .other:f of other 2.0. cannot be imported: ModuleNotFou"):
        own_parts.load_part("format", "broken")
    with pytest.raises(ConfigError, match=r"is no function: found str"):
        own_parts.load_part("format", "none")
    check = doctor._own_parts()
    assert not check.ok
    assert "format broken (other 2.0)" in check.found
    assert "format 'broken' (other:f of other 2.0) cannot be imported" in check.found


def test_doctor_lists_what_is_installed(parts: Any) -> None:
    assert doctor._own_parts() == doctor.Check(
        "own parts", True, "format telegram (plant-parts 1.0), channel stuck (plant-parts 1.0)"
    )


def test_without_own_parts_doctor_has_none() -> None:
    assert doctor._own_parts().found == "none installed"


# Formats.


def decoded(made: Config, values: list[bytes | None]) -> tuple[Any, list[tuple[int, str, bytes | None]]]:
    events, letters = None, []
    for _, item in Decoder(made).decode(Chunk("plant", 0, [FakeMessage(i, v, b"k") for i, v in enumerate(values)])):  # type: ignore[misc]
        if isinstance(item, ShardBatch):
            events = item.events
        elif isinstance(item, OutputBatch):
            for record in item.others:
                headers = dict(record.headers or [])
                letters.append((record.offset, headers["__connect.errors.exception.message"].decode(), record.value))
    return events, letters


def test_a_format_gives_the_events_of_the_same_documents_in_json(parts: Any) -> None:
    rows = documents(50)
    values = [parts.TELEGRAM.pack(r["machine"].encode(), r["ts"] * 1000, r["load"], r["temp"]) for r in rows]
    events, letters = decoded(config(", format: telegram"), values)
    expected, _ = EventReader(config().event).read([parts.telegram(value) for value in values])
    assert letters == []
    assert events.entity == expected.entity
    for name in ("ts", "features", "target", "position"):
        assert np.array_equal(getattr(events, name), getattr(expected, name)), name
    assert config(", format: telegram").hash == config().hash


def test_a_format_that_fails_makes_dead_letters(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    good = parts.TELEGRAM.pack(b"m1", 1_700_000_000_000, 1.0, 2.0)
    events, letters = decoded(config(", format: telegram"), [good, b"short", None, b"", good, b"x" * 2_000_000])
    assert events.position.tolist() == [0, 4]
    assert [(at, value) for at, _, value in letters][:3] == [(1, b"short"), (2, None), (3, b"")]
    assert letters[0][1].startswith("format 'telegram' failed: error: unpack requires a buffer of 24 bytes")
    for result, text in (([1], "returned list; it must return a dict"), ({1: 2}, "returned keys that are no text")):
        monkeypatch.setattr(parts, "telegram", lambda value, result=result: result)
        assert text in decoded(config(", format: telegram"), [good])[1][0][1]
    monkeypatch.setattr(parts, "telegram", lambda value: {"machine": "m", "ts": 1, "temp": "hot"})
    assert "`temp` must be a number" in decoded(config(", format: telegram"), [good])[1][0][1]


def test_labels_of_a_topic_of_their_own_stay_json(parts: Any) -> None:
    labelled = config(", format: telegram", more="labels: {topic: lab, entity: machine, timestamp: ts, target: temp}")
    value = b'{"machine":"m1","ts":1700000000,"temp":3}'
    found = Decoder(labelled).decode(Chunk("lab", 0, [FakeMessage(0, value)]))  # type: ignore[list-item]
    assert [len(item.labels) for _, item in found if not isinstance(item, ShardBatch | OutputBatch)] == [1]


def test_documents_of_a_format_select_features_and_are_in_the_contract(parts: Any) -> None:
    good = parts.TELEGRAM.pack(b"m1", 1_700_000_000_000, 1.0, 2.0)
    made = config(", format: telegram")
    messages: list[Any] = [FakeMessage(0, good), FakeMessage(1, b"bad")]
    assert parse_documents(messages, message_format(made)) == [parts.telegram(good)]
    message = asyncapi(config(", format: telegram"))["components"]["messages"]["events"]
    assert message["contentType"] == "application/octet-stream"
    assert "telegram" in message["summary"]


# Channels.


def test_a_channel_raises_alerts_whatever_the_batches(parts: Any) -> None:
    rows, made = documents(), config(anomaly=CHANNELS)
    whole = Engine(made)
    expected = whole.run(rows)
    assert {alert["channel"] for alert in expected.alerts if alert["kind"] == "anomaly"} == {"residual", "stuck"}
    without = Engine(config(anomaly=", channels: [residual]")).run(rows)
    assert [p.yhat for p in without.predictions] == [p.yhat for p in expected.predictions]
    for size in (1, 7, 250):
        engine = Engine(made)
        parts_ = [engine.run(rows[i] if size == 1 else rows[i : i + size]) for i in range(0, len(rows), size)]
        assert [p[1:] for part in parts_ for p in part.predictions] == [p[1:] for p in expected.predictions]
        alerts = [{**a, "row": 0} for part in parts_ for a in part.alerts]
        assert alerts == [{**a, "row": 0} for a in expected.alerts]
        assert engine.state_hash("m1") == whole.state_hash("m1")


def test_a_channel_is_in_the_schema_of_alerts(parts: Any) -> None:
    for schema in alert_schema(config(anomaly=CHANNELS))["oneOf"]:  # of an entity, and of many
        assert schema["properties"]["channel"]["enum"][-2:] == ["stuck", None]


def restored_from_files(made: Config, rows: list[dict[str, Any]], cuts: list[int]) -> BatchEngine:
    """An engine from the last full snapshot and the incremental ones after it, one at each of the cuts."""
    engine, reader, files, last = BatchEngine(made), EventReader(made.event), list[BytesIO](), ""
    for begin, end in zip([0, *cuts], cuts, strict=False):
        events, _ = engine.admit(reader.read(rows[begin:end])[0])
        if len(events):
            engine.process(events)
        full = engine.changed_share == 1.0
        files = [*([] if full else files), BytesIO()]
        last = engine.write_snapshot(files[-1], full=full, base=last)
    assert len(files) > 1
    other = BatchEngine(made)
    for file in files:
        file.seek(0)
        other.load(SnapshotReader(file))
    other.finish_load()
    return other


@pytest.mark.parametrize("more", ["", "state: {max_entities: 2}\n", "state: {ttl: 20m}\n", "model: {fleet: false}\n"])
def test_a_channel_is_in_the_snapshot(parts: Any, more: str) -> None:
    rows, made = documents(), config(anomaly=CHANNELS, more=more)
    rows = [row for i, row in enumerate(rows) if not (400 < i < 520 and row["machine"] == "m1")]  # m1 expires
    reader = EventReader(made.event)
    whole = BatchEngine(made)
    for i in (0, 600):
        events, _ = whole.admit(reader.read(rows[i : i + 600])[0])
        expected = whole.process(events)
    other = restored_from_files(made, rows, [200, 598, 599, 600])
    events, _ = other.admit(reader.read(rows[600:])[0])
    found = other.process(events)
    for name, column in found[0]._asdict().items():
        assert np.array_equal(column, getattr(expected[0], name)), name
    assert [alert.message for alert in found[1]] == [alert.message for alert in expected[1]]
    assert [other.state_hash(name) for name in sorted(other.names)] == [
        whole.state_hash(name) for name in sorted(whole.names)
    ]
    copy = pickle.loads(pickle.dumps(whole))
    assert copy.snapshot() == whole.snapshot()


def test_a_channel_can_be_added_to_a_state_and_removed(parts: Any) -> None:
    rows = documents()
    before = Engine(config(anomaly=", channels: [residual]"))
    before.run(rows[:300])
    with_channel = Engine.restore(config(anomaly=", channels: [stuck]"), before.snapshot())
    assert "stuck" in {alert["channel"] for alert in with_channel.run(rows[300:]).alerts}
    after = Engine.restore(config(anomaly=", channels: [residual]"), with_channel.snapshot())
    assert "stuck" not in {alert["channel"] for alert in after.run(rows[300:600]).alerts}


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (
            lambda state, event: (1 / 0, None),
            "channel 'stuck' failed at the event of 'm.' at 17000.* ms: ZeroDivisionE",
        ),
        (lambda state, event: (math.nan, None), "channel 'stuck' returned the score nan for the event of"),
        (lambda state, event: (-1.0, None), "returned the score -1.0 .*; it must be 0 or more"),
        (lambda state, event: 0.5, "channel 'stuck' failed .*: TypeError: "),
    ],
)
@pytest.mark.parametrize("more", ["", "model: {horizon: 2 events}\n"])
def test_a_channel_that_fails_stops_with_its_name(
    parts: Any, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], text: str, more: str
) -> None:
    monkeypatch.setattr(parts, "stuck", function)
    with pytest.raises(ChannelError, match=text):
        Engine(config(anomaly=CHANNELS, more=more)).run(documents(100))


def test_a_state_that_does_not_outlive_a_restart_is_an_error(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for state, text in (((1, 2), "is not the same after a restart"), ({1, 2}, "cannot be stored as JSON")):
        monkeypatch.setattr(parts, "stuck", lambda _, event, state=state: (0.0, state))
        engine = Engine(config(anomaly=CHANNELS))
        engine.run(documents(100))
        with pytest.raises(ChannelError, match=f"channel 'stuck': a state {text}"):
            engine.snapshot()


def test_the_channel_has_the_budget_and_the_event(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ChannelEvent] = []

    def watch(state: Any, event: ChannelEvent) -> tuple[float, Any]:
        seen.append(event)
        return 0.0, None

    monkeypatch.setattr(parts, "stuck", watch)
    rows = documents(20)
    predictions = Engine(config(anomaly=CHANNELS)).run(rows).predictions
    later = [i for i, row in enumerate(rows) if row["machine"] in {r["machine"] for r in rows[:i]}]
    assert [event.ts for event in seen] == [1000 * rows[i]["ts"] for i in later]
    event, row = seen[-1], rows[later[-1]]
    assert event == ChannelEvent(
        row["machine"], 1000 * row["ts"], row["temp"], predictions[later[-1]].yhat, {"load": row["load"]}, 200.0
    )


# In a dataflow.


def test_own_parts_in_a_dataflow(parts: Any) -> None:
    rows = documents()
    values = [parts.TELEGRAM.pack(r["machine"].encode(), r["ts"] * 1000, r["load"], r["temp"]) for r in rows]
    made, predictions, alerts, errors = config(", format: telegram", CHANNELS), list[Any](), list[Any](), list[Any]()
    flow = Dataflow("plant")
    decoded = sop.decode("decode", op.input("in", flow, TestingSource([*values, b"short"], 50)), made)
    watched = sop.monitor("watch", decoded.events, made)
    op.output("predictions", watched.predictions, TestingSink(predictions))
    op.output("alerts", watched.alerts, TestingSink(alerts))
    op.output("errors", decoded.errors, TestingSink(errors))
    run_main(flow)
    expected = Engine(made).run([parts.telegram(value) for value in values])
    assert [each.yhat for each in predictions] == [each.yhat for each in expected.predictions]
    assert [each.channel for each in alerts] == [alert["channel"] for alert in expected.alerts]
    assert [each.fault for each in errors] == ["FormatFailed"]


def test_a_channel_that_fails_ends_a_dataflow_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "import bytewax.operators as op, plant_parts\n"
        "from bytewax.dataflow import Dataflow\n"
        "from bytewax.testing import TestingSource, TestingSink, run_main\n"
        "import ssm_stream.operators as sop\n"
        "plant_parts.stuck = lambda state, event: (1 / 0, None)\n"
        f"config = {config_text(anomaly=CHANNELS)!r}\n"
        "events = [{'machine': 'm', 'ts': i, 'load': 1.0, 'temp': 2.0} for i in range(5)]\n"
        "flow = Dataflow('plant')\n"
        "watched = sop.monitor('watch', op.input('in', flow, TestingSource(events)), config)\n"
        "op.output('out', watched.predictions, TestingSink([]))\n"
        "run_main(flow)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PARTS), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "flow.py"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    expected = "error: channel 'stuck' failed at the event of 'm' at 1000 ms: ZeroDivisionError: division by zero\n"
    assert done.stderr == expected


# Contract tests.


def test_the_contract_tests_accept_the_package(parts: Any) -> None:
    value = parts.TELEGRAM.pack(b"press-7", 1_767_225_600_000, 3.5, 20.0)
    expected = {"machine": "press-7", "ts": 1_767_225_600_000, "load": 3.5, "temp": 20.0}
    assert check_format(parts.telegram, [value]) == [expected]
    assert check_channel(parts.stuck) <= 1 / 200


COUNTER = [0]


def _counts(value: bytes) -> dict[str, Any]:
    COUNTER[0] += 1
    return {"n": COUNTER[0]}


def _exits(value: bytes) -> dict[str, Any]:
    if value != b"x":
        raise SystemExit(1)
    return {}


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda value: [], "returned list; it must return a dict"),
        (lambda value: {"a": object()}, "a value that is no number or text"),
        (lambda value: 1 / 0, "ZeroDivisionError"),
        (_counts, "two readings differ"),
        (_exits, "raised SystemExit; raise an Exception"),
    ],
)
def test_formats_that_break_the_contract(function: Callable[[bytes], Any], text: str) -> None:
    with pytest.raises(ContractError, match=text):
        check_format(function, [b"x"])
    with pytest.raises(ContractError, match="at least one message"):
        check_format(function, [])


def _grows(state: Any, event: ChannelEvent) -> tuple[float, Any]:
    COUNTER[0] += 1
    return float(COUNTER[0]), None


def _changes(state: Any, event: ChannelEvent) -> tuple[float, Any]:
    event.features.clear()  # type: ignore[attr-defined]
    return 0.0, None


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda state, event: (0.0, (1, 2)), "not the same after a restart"),
        (lambda state, event: (0.0, {1}), "cannot be stored as JSON"),
        (lambda state, event: (math.nan, None), "found the score nan"),
        (lambda state, event: 1 / 0, "the channel failed: ZeroDivisionError"),
        (_grows, "another result after a restart"),
        (_changes, "changed its event"),
    ],
)
def test_channels_that_break_the_contract(function: Callable[..., Any], text: str) -> None:
    with pytest.raises(ContractError, match=text):
        check_channel(function)


def test_the_page_has_the_package_of_the_tests() -> None:
    page = (ROOT / "docs" / "own-parts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert (PARTS / "plant_parts.py").read_text(encoding="utf-8") in blocks
    points = (PARTS / "plant_parts-1.0.dist-info" / "entry_points.txt").read_text(encoding="utf-8")
    toml = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0]
    for group, name, function in (("formats", "telegram", "telegram"), ("channels", "stuck", "stuck")):
        assert f"[ssm_stream.{group}]\n{name} = plant_parts:{function}\n" in points
        assert f'[project.entry-points."ssm_stream.{group}"]\n{name} = "plant_parts:{function}"\n' in toml
    scope: dict[str, Any] = {}
    environment = {**os.environ, "PYTHONPATH": str(PARTS)}
    test = next(block for block in blocks if "check_format" in block)
    calls = "\n".join(f"{name}()" for name in re.findall(r"def (test_\w+)", test))
    subprocess.run([sys.executable, "-c", f"{test}\n{calls}"], env=environment, check=True)
    assert scope == {}


def test_the_command_line_uses_own_parts(tmp_path: Path) -> None:
    (tmp_path / "monitor.yaml").write_text(
        "source: {brokers: 'x:1', topic: plant}\n"
        "event: {entity: machine, timestamp: ts, features: [load], target: temp, format: telegram}\n"
        "alerts: {anomaly: {budget: 1 per 100 events, channels: [stuck]}}\n"
    )
    (tmp_path / "recording.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents()))
    environment = {**os.environ, "PYTHONPATH": str(PARTS)}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ssm_stream", *arguments],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = command("backtest", "monitor.yaml", "recording.jsonl", "--json")
    assert json.loads(done.stdout)["anomalies"] >= 2
    environment["PYTHONPATH"] = ""
    done = command("backtest", "monitor.yaml", "recording.jsonl")
    assert done.returncode == 2
    assert "found 'telegram', which is no format that is installed" in " ".join(done.stderr.split())
