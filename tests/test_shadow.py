"""`alerts.shadow`: what would be sent goes to the topic of suppressed alerts, and episodes go on where they began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka
from engines import config, fleet, made
from test_episodes import broken, messages, restored
from test_fleet_alerts import LIVELY, struck
from test_stream import Job
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, parse_config
from ssm_stream.config.changes import diff_runtime_settings, runtime_settings
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.document_engine import DocumentEngine
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.flow.alert_id import parse_alert_id
from ssm_stream.flow.reproduce_alert import reproduce_alert
from ssm_stream.flow.sent_alert import read_sent_alert
from ssm_stream.ingest.events import Events
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import Sent
from ssm_stream.ui.live_page import is_shown

QUICK = "alerts: {anomaly: {recover_after: 5}}\nmodel: {warmup: 10}\n"
SHADOW = QUICK.replace("alerts: {", "alerts: {shadow: true, ")
TOPIC = "sinks: {suppressed: hidden}\n"


def without(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what says that it was withheld."""
    return {name: value for name, value in message.items() if name != "suppressed_by"}


def normal(n: int, first: int) -> Events:
    y = np.random.default_rng(first).normal(size=n)
    return made(y, entity="old", ts=(first + np.arange(n)) * 60_000)


@pytest.mark.parametrize("sections", [QUICK, LIVELY])
def test_the_shadow_withholds_the_same_alerts(sections: str) -> None:
    """Fleet alerts, and those that they replace, too; no prediction and no id differs."""
    plain = config(sections=sections + TOPIC)
    dark = plain.replace(alerts=plain.alerts.model_copy(update={"shadow": True}))
    events = struck(4000) if sections == LIVELY else fleet(4000)
    sent, replaced = messages(Engine(plain), events)
    none, withheld = messages(Engine(dark), events)
    assert none == []
    assert len(sent) > 3
    by_shadow = [m for m in withheld if m["suppressed_by"] == "shadow"]
    assert [without(m) for m in by_shadow] == sent
    assert [m for m in withheld if m["suppressed_by"] != "shadow"] == replaced
    if sections == LIVELY:
        assert {m["scope"] for m in by_shadow} == {"entity", "fleet"}
        assert replaced
    assert plain.hash == dark.hash


def test_an_episode_that_began_in_the_shadow_ends_there() -> None:
    light, dark = config(sections=QUICK + TOPIC), config(sections=SHADOW + TOPIC)
    engine = Engine(dark)
    sent, withheld = messages(engine, broken(44))
    assert (sent, [m["phase"] for m in withheld]) == ([], ["started"])
    engine = restored(engine, light)
    sent, more = messages(engine, normal(60, 44), 44)
    assert (sent, [(m["phase"], m["episode"], m["suppressed_by"]) for m in more]) == (
        [],
        [("recovered", withheld[0]["id"], "shadow")],
    )
    later = made(np.r_[np.zeros(60), np.full(5, 1000.0)], entity="old", ts=(120 + np.arange(65)) * 60_000)
    sent, more = messages(engine, later, 120)
    assert ([m["phase"] for m in sent], more) == (["started"], [])


def test_an_episode_that_was_sent_is_ended_in_the_shadow_all_the_same() -> None:
    light, dark = config(sections=QUICK + TOPIC), config(sections=SHADOW + TOPIC)
    engine = Engine(light)
    began, _ = messages(engine, broken(44))
    engine = restored(engine, dark)
    sent, withheld = messages(engine, normal(60, 44), 44)
    assert [(m["phase"], m["episode"]) for m in sent] == [("recovered", began[0]["id"])]
    assert withheld == []


def test_a_reset_ends_an_episode_where_it_began() -> None:
    engine = Engine(config(sections=SHADOW + TOPIC))
    _, (began,) = messages(engine, broken(44))
    engine.remove("old")
    engine = restored(engine, config(sections=QUICK + TOPIC))
    sent, withheld = messages(engine, normal(3, 100), 100)
    assert (sent, [(m["ended_by"], m["episode"], m["suppressed_by"]) for m in withheld]) == (
        [],
        [("reset", began["id"], "shadow")],
    )


def test_without_a_topic_nothing_is_sent_and_validate_warns(tmp_path: Path) -> None:
    assert messages(Engine(config(sections=SHADOW)), broken(44)) == ([], [])
    path = tmp_path / "monitor.yaml"
    path.write_text(f"source: {{brokers: 'h:1', topic: t}}\nevent: {{entity: e, timestamp: t}}\n{SHADOW}")
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert done.exit_code == 0
    assert "shadow    alerts go to (nowhere), none to alerts" in done.stdout
    assert "warning   alerts.shadow: true without sinks.suppressed" in done.stdout
    path.write_text(path.read_text() + TOPIC)
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert "shadow    alerts go to hidden, none to alerts" in done.stdout
    assert "warning" not in done.stdout


@pytest.mark.parametrize("engine", [PartitionedEngine, DocumentEngine])
def test_whoever_judges_alerts_has_them(engine: type[Engine]) -> None:
    """A recording, or events in one's own code: there is no topic that they could be withheld from."""
    dark = config(sections=SHADOW + TOPIC)
    alerts = engine(dark).process(broken(44))[1]
    assert [(alert.message["phase"], alert.suppressed_by) for alert in alerts] == [("started", None)]


def test_the_state_is_kept_when_the_shadow_ends() -> None:
    light, dark = config(sections=QUICK + TOPIC), config(sections=SHADOW + TOPIC)
    (change,) = diff_runtime_settings(runtime_settings(dark), runtime_settings(light))
    assert change.text == (
        "alerts.shadow: true → unset (kept: it applies to episodes that start from now on; open ones go on where they "
        "began)"
    )


def test_metrics_and_the_live_page_show_it() -> None:
    metrics = Metrics(config(sections=SHADOW + TOPIC))
    assert metrics.value("ssm_stream_alerts_shadow") == 1.0
    assert metrics.value("ssm_stream_alerts_suppressed_total", kind="drift", phase="started", by="shadow") == 0.0
    shown = [Sent("alert", ("drift", "started", "entity")), Sent("suppressed", ("drift", "started", "shadow"))]
    hidden = [Sent("suppressed", ("drift", "started", "fleet")), Sent("dead_letter", ("decode", "NotJson"))]
    assert [is_shown(each) for each in shown + hidden] == [True, True, False, False]


def test_the_shadow_over_kafka(kafka: Kafka, tmp_path: Path) -> None:
    """On, off by another file; an alert of the shadow is reproduced under the file that has none."""
    job = Job(kafka, tmp_path / "job", kafka.topic("events", 1))
    content = orjson.loads(job.path.read_bytes())
    content["sinks"]["suppressed"] = hidden = kafka.topic("shadow", 1)
    content["model"] = {"warmup": 50}
    content["alerts"] = {"shadow": True, "anomaly": {"cooldown": 0, "recover_after": 5}, "drift": {"enabled": False}}
    job.path.write_bytes(orjson.dumps(content))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 2))
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=900)
    y[300:310] += 50
    y[700:710] += 50
    rows = [
        (b"m", orjson.dumps({"entity": "m", "ts": 60 * i, "a": a, "b": b, "target": t}))
        for i, ((a, b), t) in enumerate(zip(x.tolist(), y.tolist(), strict=True))
    ]
    kafka.produce(job.topic, rows[:305])
    job.run()
    assert job.told_alerts() == {}
    content["alerts"]["shadow"] = False
    job.path.write_bytes(orjson.dumps(content))
    kafka.produce(job.topic, rows[305:])
    job.run()
    withheld = [orjson.loads(message.value() or b"") for message in kafka.read(hidden)]
    sent = [orjson.loads(value) for value in job.told_alerts().values()]
    assert {m["phase"] for m in withheld} == {"started", "recovered"}
    assert {m["suppressed_by"] for m in withheld} == {"shadow"}
    assert max(m["source"]["offset"] for m in withheld) < 400
    assert min(m["source"]["offset"] for m in sent) >= 400
    for message in (withheld[0], sent[0]):
        one = parse_alert_id(message["id"])
        assert one is not None
        assert reproduce_alert(job.config, one, read_sent_alert(job.config, one)).same is True


@pytest.mark.parametrize("command", ["backtest", "pilot", "verify"])
def test_commands_judge_what_would_be_sent(command: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path, rows = tmp_path / "monitor.yaml", tmp_path / "rows.jsonl"
    path.write_text(
        "source: {brokers: 'h:1', topic: t}\nevent: {entity: e, timestamp: t, features: [a], target: y}\n" + SHADOW
    )
    y = rng.normal(size=600)
    y[500:510] += 100
    rows.write_bytes(
        b"\n".join(
            orjson.dumps({"e": "m", "t": 60 * i, "a": float(rng.normal()), "y": float(value)})
            for i, value in enumerate(y)
        )
    )
    out = {"backtest": ["--alerts"], "pilot": ["--out"], "verify": ["--out"]}[command] + [str(tmp_path / "out.html")]
    done = CliRunner().invoke(app, [command, str(path), str(rows), *out, "--json"])
    assert done.exit_code in (0, 1), done.stderr
    assert "alerts.shadow is on: judged is what would be sent without it" in done.stderr
    if command == "backtest":
        assert b'"phase":"started"' in (tmp_path / "out.html").read_bytes()
        assert b"suppressed_by" not in (tmp_path / "out.html").read_bytes()
    if command == "pilot":
        found = orjson.loads(done.stdout)
        assert found["config"]["shadow"] is True
        assert "The configuration has alerts.shadow: true." in (tmp_path / "out.html").read_text()


def test_the_smallest_file_has_no_shadow() -> None:
    smallest: Config = parse_config("source: {brokers: 'h:1', topic: t}\nevent: {entity: e, timestamp: t}\n")
    assert not smallest.alerts.shadow
    assert smallest.event.only == []
