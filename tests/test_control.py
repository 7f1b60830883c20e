"""The control topic: a planned stop acts from the offset that is acknowledged, in every repetition of the events."""

from __future__ import annotations

import shutil
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from answering import served
from brokers import Kafka, free_port
from engines import cut, fleet
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from structlog.testing import capture_logs
from test_episodes import messages, restored
from test_maintenance import MINUTE, QUICK, TOPIC, broken
from test_stream import Job, wait_for
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.config.changes import change_needs, diff_runtime_settings, runtime_settings
from ssm_stream.contract.asyncapi import asyncapi
from ssm_stream.contract.event_schema import control_schema
from ssm_stream.contract.message_schemas import dead_letter_headers, prediction_schema
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.flow.alert_id import parse_alert_id
from ssm_stream.flow.doctor import create_missing, diagnose
from ssm_stream.flow.reproduce_alert import reproduce_alert
from ssm_stream.flow.sent_alert import read_sent_alert
from ssm_stream.ingest.control import Acknowledgement, ControlError, ControlReader, ControlWindow, EndedStop
from ssm_stream.kafka.control.topic import ControlTopic, control_topic, read_control, write_message
from ssm_stream.kafka.redrive import Redecoder

TEXT = """
source: {brokers: "localhost:9092", topic: events}
event: {entity: e, timestamp: t, features: [a, b], time_zone: Asia/Tokyo}
"""


def configured(control: str = "true", more: str = "") -> Config:
    return parse_config(f"{TEXT}alerts: {{{QUICK}, control: {control}}}\nmodel: {{warmup: 10}}\n{TOPIC}{more}")


def stop(**other: Any) -> dict[str, Any]:
    return {"entity": "pump-3", "from": "1970-01-01T09:00", "to": "1970-01-01T10:00:00+09:00", "reason": "x"} | other


# The messages, and the file.


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (stop(), ControlWindow("0-1", "pump-3", 0, 3_600_000, True, "x", "")),
        (stop(learn="adapt", by="ann"), ControlWindow("0-1", "pump-3", 0, 3_600_000, False, "x", "ann")),
        (stop(**{"from": 5, "to": 7, "other": 1, "reason": None}), ControlWindow("0-1", "pump-3", 5, 7, True, "", "")),
        ({"acknowledges": "0-7", "group": "g", "partition": 2, "offset": 3}, Acknowledgement("0-7", "g", 2, 3)),
        ({"refused": "0-7", "group": "g"}, Acknowledgement("0-7", "g")),
        ({"ends": "0-7", "by": "ann"}, EndedStop("0-1", "0-7")),
    ],
)
def test_a_message_is_read(document: dict[str, Any], expected: ControlWindow | EndedStop | Acknowledgement) -> None:
    assert ControlReader(configured())(orjson.dumps(document), "0-1") == expected
    if isinstance(expected, Acknowledgement):
        again = ControlReader(configured())(expected.to_json(), "")
        assert again == expected
    else:
        Draft202012Validator(control_schema(configured())).validate(document)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "Tombstone"),
        (b"", "NotJson"),
        (b"{", "NotJson"),
        (b"[]", "NotAnObject"),
        (orjson.dumps({"entity": "a", "from": 1}), "MissingField"),
        (orjson.dumps(stop(entity=7)), "WrongType"),
        (orjson.dumps(stop(entity="")), "WrongType"),
        (orjson.dumps(stop(learn="slow")), "WrongType"),
        (orjson.dumps(stop(to="soon")), "WrongTimestamp"),
        (orjson.dumps(stop(to=1.5)), "WrongTimestamp"),
        (orjson.dumps(stop(to=True)), "WrongTimestamp"),
        (orjson.dumps(stop(to=10**17)), "WrongTimestamp"),
        (orjson.dumps(stop(to="1970-01-01T09:00")), "WrongTimestamp"),
        (orjson.dumps({"acknowledges": "0-1", "group": "g"}), "WrongType"),
        (orjson.dumps({"ends": 7}), "WrongType"),
    ],
)
def test_a_message_that_cannot_be_used_is_refused(value: bytes | None, fault: str) -> None:
    with pytest.raises(ControlError) as error:
        ControlReader(configured())(value, "0-1")
    assert str(error.value.fault) == fault


def test_the_section_of_the_file() -> None:
    assert configured().control_topic == configured("{}").control_topic == "events-control"
    assert configured("{topic: stops}").control_topic == "stops"
    assert configured("false").control_topic is configured("null").control_topic is None
    assert configured().hash == configured("null").hash
    with pytest.raises(ConfigError, match="must all differ"):
        configured("{topic: events}")
    old, new = runtime_settings(configured("null")), runtime_settings(configured())
    (change,) = diff_runtime_settings(old, new)
    assert (change.effect, "apply from now on" in change.why) == ("kept", True)
    assert [each.why for each in diff_runtime_settings(new, old)] == ["stops that were announced there apply no longer"]
    (change,) = diff_runtime_settings(new, runtime_settings(configured("{topic: stops}")))
    assert "on the other topic" in change.why
    assert change_needs("alerts.control") == "reload"
    assert "maintenance" in prediction_schema(configured())["properties"]
    assert "maintenance" not in prediction_schema(configured("null"))["properties"]
    assert asyncapi(configured())["channels"]["control"]["address"] == "events-control"
    labels = configured(more="labels: {topic: results, wait: 1h}\n")
    found = ControlReader(labels)(orjson.dumps(stop()), "0-1")
    assert isinstance(found, ControlWindow)
    assert not found.held, "labels come by themselves"


# The engine.


@settings(max_examples=10)
@given(
    cuts=st.sets(st.integers(1, 1499), max_size=5),
    restarts=st.sets(st.integers(1, 1499), max_size=2),
    since=st.integers(0, 1499),
    held=st.booleans(),
    entity=st.sampled_from(["*", "m[12]"]),
)
def test_no_batch_and_no_restart_changes_anything(
    cuts: set[int], restarts: set[int], since: int, held: bool, entity: str
) -> None:
    """A window acts from its offset on, wherever batches end."""
    alerts = "anomaly: {budget: 1 per 100 events, cooldown: 0, recover_after: 5}, silence: {after: 20s}, control: true"
    settings_ = parse_config(f"{TEXT}alerts: {{{alerts}}}\nmodel: {{warmup: 10}}\n{TOPIC}")
    windows = (ControlWindow("0-1", entity, 400_000, 1_200_000, held, since=since),)
    events = fleet(1500, seed=2)

    def started(engine: Engine) -> Engine:
        engine.episodes.set_control(windows)
        return engine

    expected = messages(started(Engine(settings_)), events)
    engine = started(Engine(settings_))
    sent, hidden = list[dict[str, Any]](), list[dict[str, Any]]()
    for begin, end in pairwise([0, *sorted(cuts | restarts), 1500]):
        if begin in restarts:
            engine = started(restored(engine))
        one, other = messages(engine, cut(events, begin, end), begin)
        sent += one
        hidden += other
    assert (sent, hidden) == expected


@pytest.mark.parametrize("restart", [1, 300, 399, 400, 401])
def test_a_restart_in_a_stop_since_the_first_event_changes_nothing(restart: int) -> None:
    """An entity that has learned nothing yet has a past all the same, which its lags are made of."""
    settings_, windows = configured(), [ControlWindow("0-1", "m1", 0, 400_000, True, since=0)]
    events = fleet(600, seed=2, entities=2)

    def hashes(*parts: tuple[int, int]) -> list[str]:
        engine = Engine(settings_)
        for begin, end in parts:
            engine = restored(engine)
            engine.episodes.set_control(windows)
            marked = engine.episodes.mark(cut(events, begin, end), EventIds("events", 0, list(range(begin, end))))
            engine.process(marked, 0)
        return [engine.state_hash(name) for name in sorted(engine.names)]

    assert hashes((0, restart), (restart, 600)) == hashes((0, 600))


def test_it_acts_from_its_offset_on_to_that_of_its_end() -> None:
    for since, until, suppressed in ((0, None, True), (40, 41, True), (41, None, False), (0, 40, False)):
        engine = Engine(configured())
        engine.episodes.set_control([ControlWindow("0-1", "o*", 0, 10**9, False, since=since, until=until)])
        sent, hidden = messages(engine, broken())
        assert (bool(hidden), bool(sent)) == (suppressed, not suppressed), since
    assert MINUTE == 60_000


# Over Kafka.


def rows(n: int, seed: int = 0) -> list[tuple[bytes, bytes]]:
    """Four entities in turn, a minute apart, with jumps that alert."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).round(4)
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=n)
    for at in range(200, n, 100):
        y[at : at + 24] += 50 * 3 ** ((at - 200) // 100)  # more each time: the bounds adapt
    return [
        (b"m%d" % (i % 4), orjson.dumps({"entity": f"m{i % 4}", "ts": 60 * i, "a": a, "b": b, "target": t}))
        for i, ((a, b), t) in enumerate(zip(x.tolist(), y.tolist(), strict=True))
    ]


def job_with_control(kafka: Kafka, folder: Path, events: str, control: str, hidden: str, **more: Any) -> Job:
    job = Job(kafka, folder, events)
    content = orjson.loads(job.path.read_bytes())
    content["sinks"]["suppressed"] = hidden
    content["model"] = {"warmup": 50}
    content["alerts"] = {
        "anomaly": {"cooldown": 0, "recover_after": 5}, "drift": {"enabled": False}, "control": {"topic": control},
    }  # fmt: skip
    content |= more
    job.path.write_bytes(orjson.dumps(content))
    return job


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_stop_is_acknowledged_and_every_repetition_agrees(kafka: Kafka, tmp_path: Path, delivery: str) -> None:
    events, control, hidden = kafka.topic("events", 2), kafka.topic("control", 1), kafka.topic("hidden", 1)
    job = job_with_control(kafka, tmp_path / "job", events, control, hidden, delivery=delivery)
    given_ = rows(1500)
    for partition in (0, 1):
        kafka.produce(events, given_[partition:600:2], partition)
    job.run()
    done = CliRunner().invoke(
        app,
        ["mute", str(job.path), "m*", "--from", "1970-01-01T00:00", "--until", "1970-01-01T18:00",
         "--reason", "bearing", "--by", "ann", "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert orjson.loads(done.stdout) == {
        "id": "0-0", "topic": control, "entity": "m*", "from": "1970-01-01T00:00:00Z", "to": "1970-01-01T18:00:00Z",
        "reason": "bearing", "by": "ann",
    }  # fmt: skip
    kafka.produce(control, [(b"x", b"no stop")])
    for partition in (0, 1):
        kafka.produce(events, given_[600 + partition :: 2], partition)
    output = job.run()
    source = control_topic(job.config)
    assert source is not None
    found = read_control(job.config, source)
    offsets = {partition: own["0-0"] for partition, own in found.applied.items()}
    assert output.count("planned_stop") == len(offsets) == 2, "one for each partition"
    predictions = {}
    for message in kafka.read(job.predictions):
        value = orjson.loads(message.value() or b"")
        predictions[value["id"]] = value
    for name, value in predictions.items():
        _, partition, offset = name.rsplit("-", 2)
        inside = value["ts"] < 64_800_000 and int(offset) >= offsets[int(partition)]
        assert value["maintenance"] == inside, name
    assert sum(value["maintenance"] for value in predictions.values()) == 1080 - 600
    assert not [value for value in predictions.values() if value["maintenance"] and value["anomaly_score"]]
    begun = [m["ts"] for m in map(orjson.loads, job.told_alerts().values()) if m["phase"] == "started"]
    assert not [ts for ts in begun if 36_000_000 <= ts < 64_800_000]
    assert min(begun) < 36_000_000
    assert max(begun) > 64_800_000
    # A bad message is a dead letter once, though the topic is read anew at each start.
    job.run()
    letters = kafka.read(job.dead)
    assert [message.value() for message in letters] == [b"no stop"]
    headers = {name: value.decode() for name, value in letters[0].headers() or [] if isinstance(value, bytes)}
    Draft202012Validator(dead_letter_headers(job.config)).validate(headers)
    # All over again, without a state: the same bits, as the acknowledgements are there.
    first, state = job.messages(), job.state()
    shutil.rmtree(tmp_path / "job" / "recovery")
    job.run()
    assert job.messages() == first, "an id with another content fails before"
    assert job.state() == state
    listed = CliRunner().invoke(app, ["mute", str(job.path), "--list"])
    assert listed.exit_code == 0
    assert "no stop on" in listed.stdout
    one = parse_alert_id(orjson.loads(list(job.told_alerts().values())[-1])["id"])
    assert one is not None
    assert reproduce_alert(job.config, one, read_sent_alert(job.config, one)).same is True


def test_a_running_process_applies_what_comes(kafka: Kafka, tmp_path: Path) -> None:
    events, control, hidden = kafka.topic("events", 1), kafka.topic("control", 1), kafka.topic("hidden", 1)
    job = job_with_control(kafka, tmp_path / "job", events, control, hidden)
    config, source = job.config, control_topic(job.config)
    assert source is not None
    topic = ControlTopic(config)
    assert topic.windows(0, 10) == ()
    name = write_message(config, source, orjson.dumps(stop(**{"from": 0})), "pump-3")
    found, deadline = (), time.monotonic() + 30
    while not found and time.monotonic() < deadline:
        time.sleep(0.1)
        found = topic.windows(0, 20)
    assert [(each.id, each.since) for each in found] == [(name, 20)]
    assert topic.windows(0, 30) == found
    # A second process of the same group, and one of another.
    assert ControlTopic(config).windows(0, 99) == found
    other = config.replace(source=config.source.model_copy(update={"group": "other"}))
    assert [each.since for each in ControlTopic(other).windows(0, 50)] == [50]
    assert [each.since for each in ControlTopic(config).windows(0, 99)] == [20]
    runner = CliRunner()
    later = ["mute", str(job.path), "pump-*", "--for", "8h", "--adapt"]
    assert "pump-* is muted from" in runner.invoke(app, later).stdout
    row = orjson.loads(runner.invoke(app, ["mute", str(job.path), "--list", "--json"]).stdout)["stops"][0]
    assert (row["entity"], row["learn"], row["acts_from"]) == ("pump-*", "adapt", {})
    unknown = runner.invoke(app, ["mute", str(job.path), "--end", "0-99"])
    assert unknown.exit_code == 2
    assert "has no such stop" in unknown.output
    ended = runner.invoke(app, ["mute", str(job.path), "--end", row["id"]])
    assert ended.exit_code == 0, ended.output
    assert "no stop on" in runner.invoke(app, ["mute", str(job.path), "--list"]).stdout
    assert [(each.id, each.since, each.until) for each in ControlTopic(config).windows(0, 70)] == [
        (name, 20, None), (row["id"], 70, 70),
    ]  # fmt: skip
    runner.invoke(app, ["mute", str(job.path), "--end", name])
    first = ControlTopic(config).windows(0, 80)[0]
    assert (first.since, first.until) == (20, 80)
    write_message(config, source, orjson.dumps({"ends": "0-77"}), "0-77")
    with capture_logs() as lines:
        ControlTopic(config).windows(0, 90)
    assert [(line["event"], line["stop"]) for line in lines] == [("planned_stop_unknown", "0-77")]
    # A partition that comes from a member that may have been killed, as a group hands it over.
    third = ControlTopic(config.replace(source=config.source.model_copy(update={"group": "third"})), interrupted=True)
    kafka.produce(events, rows(40), 0)
    third.catch_up()
    assert {each.since for each in third.windows(0, 5)} == {40}


def test_what_is_new_acts_behind_all_that_a_killed_process_may_have_put_out(kafka: Kafka, tmp_path: Path) -> None:
    events, control, hidden = kafka.topic("events", 2), kafka.topic("control", 1), kafka.topic("hidden", 1)
    job = job_with_control(kafka, tmp_path / "job", events, control, hidden)
    directory, source = job.config.recovery.directory, control_topic(job.config)
    assert directory is not None
    assert source is not None
    kafka.produce(events, rows(300)[::2], 0)
    process = job.start()
    wait_for(process, "started")
    process.kill()
    process.communicate()
    write_message(job.config, source, orjson.dumps(stop(**{"from": 0}, entity="m*")), "m")
    job.run()
    assert not [value for value in job.messages().values() if b'"maintenance":true' in value]
    assert read_control(job.config, source).applied == {0: {"0-0": 150}}
    # After a clean end it is known what was put out.
    write_message(job.config, source, orjson.dumps(stop(**{"from": 0}, entity="m*")), "m")
    kafka.produce(events, rows(300)[1::2], 1)
    kafka.produce(events, rows(600)[300:], 0)
    job.run()
    assert {p: own["0-2"] for p, own in read_control(job.config, source).applied.items()} == {0: 150, 1: 0}


def test_a_stop_from_now_on_is_by_the_time_of_the_events(kafka: Kafka, tmp_path: Path) -> None:
    """Those of a recording: no event of it would be in a stop by the wall clock."""
    events, control = kafka.topic("events", 2), kafka.topic("control", 1)
    job = job_with_control(kafka, tmp_path / "job", events, control, kafka.topic("hidden", 1))
    kafka.produce(events, [*rows(1200), (b"m", b"no event")], 1)
    runner = CliRunner()
    done = runner.invoke(app, ["mute", str(job.path), "m1", "--for", "8h"])
    assert "m1 is muted from 1970-01-01T19:" in done.stdout, done.output
    assert "another than the clock's" in done.stdout
    assert "note" not in done.stderr
    (row,) = orjson.loads(runner.invoke(app, ["mute", str(job.path), "--list", "--json"]).stdout)["stops"]
    assert row["to"].startswith("1970-01-02T03:"), "it is not over by their time"
    kafka.produce(events, [(b"m1", orjson.dumps({"entity": "m1", "ts": int(time.time()), "a": 1, "b": 1, "target": 1}))
                           for _ in range(30)], 1)  # fmt: skip
    done = runner.invoke(app, ["mute", str(job.path), "m1", "--for", "8h"])
    assert "m1 is muted from 20" in done.stdout
    assert "another" not in done.stdout
    assert "note" not in runner.invoke(app, ["mute", str(job.path), "m*", "--for", "1h"]).stderr
    misspelt = runner.invoke(app, ["mute", str(job.path), "m-1", "--for", "1h"]).stderr
    assert "entities in the latest events is 'm-1': did you mean 'm1'? To take the stop back: ssm-stream" in misspelt


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--for", "8h"], "ENTITY: missing"),
        (["", "--for", "8h"], "ENTITY: missing"),
        (["m" * 9999, "--from", "2026-01-01", "--for", "8h"], "`entity` must be a name or a pattern"),
        (["m", "--for", "0h"], "--for: found '0h'; write a duration such as 30m, 8h or 2d"),
        (["--end", "0-1", "--for", "1h"], "leave out --for"),
        (["m", "--end", "0-1"], "leave out ENTITY"),
        (["m", "--reason", "x"], "give either --for, such as 8h, or --until"),
        (["m", "--for", "8h", "--until", "2026-01-01"], "give either --for, such as 8h, or --until"),
        (["m", "--for", "long"], "write a duration such as 30m, 8h or 2d"),
        (["m", "--until", "later"], "write a time such as 2026-08-10T06:00"),
        (["m", "--from", "2000-01-01", "--until", "1999-01-01"], "is not later than"),
        (["m", "--for", "99999999999d"], "which ends after the year 9998"),
        (["m", "--until", "9999-12-31T23:59:59-23:00"], "write a time such as 2026-08-10T06:00"),
    ],
)
def test_options_that_cannot_be_used(tmp_path: Path, options: list[str], words: str) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(TEXT + "alerts: {control: true}\n")
    done = CliRunner().invoke(app, ["mute", str(path), *options])
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


def test_without_the_section_the_command_has_its_cure(tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(TEXT)
    done = CliRunner().invoke(app, ["mute", str(path), "m", "--for", "8h"])
    assert done.exit_code == 2
    assert "write alerts: {control: true}" in " ".join(done.output.split())


def test_a_process_that_does_not_read_the_topic_is_named(kafka: Kafka, tmp_path: Path) -> None:
    """It runs with the file of before, as the new one was refused: nothing is muted."""
    port, answers = free_port(), dict[str, bytes]()
    with served(port, answers):
        ops = {"address": f"127.0.0.1:{port}"}
        events, control, hidden = kafka.topic("events", 1), kafka.topic("control", 1), kafka.topic("hidden", 1)
        job = job_with_control(kafka, tmp_path / "job", events, control, hidden, ops=ops)
        settings_ = job.config.redacted()
        printed = []
        for running in (settings_, settings_ | {"alerts": settings_["alerts"] | {"control": None}}):
            answers["/config"] = orjson.dumps(running)
            for options in (["m1", "--from", "2026-01-01", "--for", "1h"], ["--list"]):
                done = CliRunner().invoke(app, ["mute", str(job.path), *options])
                assert done.exit_code == 0, done.output
                printed.append(done.stderr)
    assert ["does not read" in each for each in printed] == [False, False, True, True]
    assert f"{ops['address']} does not read {control}: it runs with alerts.control: null" in printed[2]


def test_doctor_names_settings_that_the_state_refuses(kafka: Kafka, tmp_path: Path) -> None:
    """All its checks passed, and the start that followed ended."""
    job = Job(kafka, tmp_path / "job", kafka.topic("events", 1))
    kafka.produce(job.topic, rows(100), 0)
    assert "state" not in {each.name for each in diagnose(job.config)}
    job.run()
    assert "state" not in {each.name for each in diagnose(job.config)}
    content = orjson.loads(job.path.read_bytes())
    content["event"]["lags"] = 3
    content["event"]["target"] = "b"
    content["event"]["features"] = ["a"]
    job.path.write_bytes(orjson.dumps(content))
    (check,) = (each for each in diagnose(job.config) if each.name == "state")
    assert not check.ok
    assert "event.target" in check.found
    assert "another recovery.directory" in check.cure
    assert check.found.splitlines()[0].startswith("the state in")
    assert "event.target" in job.start("--until-eof").communicate(timeout=60)[0]


def test_doctor_makes_the_topic(kafka: Kafka, tmp_path: Path) -> None:
    job = job_with_control(kafka, tmp_path / "job", kafka.topic("events", 3), "not-there-yet", kafka.topic("hidden", 1))
    assert [each.ok for each in diagnose(job.config) if each.name == "alerts.control"] == [False]
    assert "create it: ssm-stream doctor" in job.start("--until-eof").communicate(timeout=60)[0]
    assert create_missing(job.config, 3).ok
    assert [each.ok for each in diagnose(job.config) if each.name == "alerts.control"] == [True]
    assert [each is None for each in Redecoder(job.config).check([])] == []


def test_a_kill_changes_no_bit(kafka: Kafka, tmp_path: Path) -> None:
    """Stops are announced while a process runs that is killed; no message has an id with two contents."""
    events, control, hidden = kafka.topic("events", 2), kafka.topic("control", 1), kafka.topic("hidden", 1)
    job = job_with_control(kafka, tmp_path / "job", events, control, hidden)
    source = control_topic(job.config)
    assert source is not None
    given_, sent = rows(4000), 0
    for kill in range(3):
        process = job.start()
        wait_for(process, "started")
        for _ in range(4):
            for partition in (0, 1):
                kafka.produce(events, given_[sent + partition : sent + 300 : 2], partition)
            sent += 300
            document = {"entity": f"m{kill}", "from": 0, "to": 60_000 * (sent + 500)}
            write_message(job.config, source, orjson.dumps(document), "m")
            time.sleep(0.3)
        process.kill()
        process.communicate()
    for partition in (0, 1):
        kafka.produce(events, given_[sent + partition :: 2], partition)
    job.run()
    first, state = job.messages(), job.state()
    assert (
        sum(b'"maintenance":true' in value for value in first.values()) > 100
    )  # how many, depends on when the kills come
    shutil.rmtree(tmp_path / "job" / "recovery")
    job.run()
    assert job.messages() == first
    assert job.state() == state
