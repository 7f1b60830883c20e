"""What operators say of alerts: the last word counts, by rule, through restarts; the rest are dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from brokers import Kafka
from engines import config
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_cli import command
from test_decoder import chunk
from test_stream import Job, events

from ssm_stream.config import Config, parse_config
from ssm_stream.contract.event_schema import feedback_schema
from ssm_stream.flow.feedback import KEY, FeedbackDecoder, FeedbackLogic, feedback_topic
from ssm_stream.ingest import verdicts as feedback
from ssm_stream.ingest.verdicts import (
    RULES,
    AlertAcknowledgement,
    FeedbackError,
    FeedbackReader,
    Verdict,
    VerdictCounts,
)
from ssm_stream.kafka.records import OutputBatch
from ssm_stream.ops.observers import Observers, RunObserver

TEXT = "source: {brokers: a, topic: events}\nevent: {entity: e, timestamp: t}\nalerts: {feedback: {topic: said}}"
FEEDBACK = "alerts: {feedback: {topic: said}}"


def told(alert: str, true: bool) -> bytes:
    return orjson.dumps({"id": alert, "true": true})


@pytest.mark.parametrize(
    ("end", "rule"),
    [
        ("anomaly", "anomaly"),
        ("drift", "drift"),
        ("anomaly-fleet", "anomaly-fleet"),
        ("drift-fleet", "drift-fleet"),
        ("anomaly-3", "anomaly"),
    ],
)
def test_an_id_tells_the_rule(end: str, rule: str) -> None:
    read = FeedbackReader(config())
    alert = f"events-0-12-{end}"
    value = orjson.dumps({"by": "night shift", "id": alert, "true": False})
    assert read(value) == Verdict(alert, rule, False)


def test_an_acknowledgement_is_no_verdict() -> None:
    read, alert = FeedbackReader(config()), "events-0-12-drift"
    value = {"id": alert, "acknowledged": True, "by": " Ann ", "note": "on my way", "at": "2026-05-06T08:00:00Z"}
    found = read(orjson.dumps(value))
    assert found == AlertAcknowledgement(alert, "Ann", "on my way", 1_778_054_400_000)
    assert read(orjson.dumps(found.to_json())) == found
    assert read(orjson.dumps(value | {"at": "soon", "note": None})) == AlertAcknowledgement(alert, "Ann")
    assert read(orjson.dumps(value | {"at": 10**18})) == AlertAcknowledgement(alert, "Ann", "on my way")
    schema = Draft202012Validator(feedback_schema(parse_config(TEXT)))
    for valid in (value, {"id": alert, "true": False}):
        schema.validate(valid)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"by": " "}, "WrongType"),
        ({"by": 7}, "WrongType"),
        ({"acknowledged": False}, "WrongType"),
        ({"id": "x"}, "WrongId"),
    ]
    for other, fault in wrong:
        assert not schema.is_valid(value | other)
        with pytest.raises(FeedbackError) as caught:
            read(orjson.dumps(value | other))
        assert caught.value.fault == fault
    with pytest.raises(FeedbackError, match="`by` is missing"):
        read(orjson.dumps({"id": alert, "acknowledged": True}))


def test_acknowledgements_reach_the_observers_and_count_nothing() -> None:
    seen: list[AlertAcknowledgement] = []

    class Seeing(RunObserver):
        def on_acknowledged(self, acknowledgement: AlertAcknowledgement) -> None:
            seen.append(acknowledgement)

    logic = FeedbackLogic(None, Observers(Seeing()))
    before = logic.snapshot()
    logic.on_batch([[AlertAcknowledgement("events-0-1-drift", "Ann")]])
    assert [each.by for each in seen] == ["Ann"]
    assert logic.snapshot() == before
    assert logic.notify_at() is None


def test_labels_raise_alerts_too() -> None:
    read = FeedbackReader(config(sections="labels: {topic: lab.results}"))
    assert read(told("lab.results-2-7-drift", True)).rule == "drift"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "Tombstone"),
        (b"", "NotJson"),
        (b"yes", "NotJson"),
        (b"[]", "NotAnObject"),
        (b'{"id": "events-0-1-drift"}', "MissingField"),
        (b'{"true": true}', "MissingField"),
        (b'{"id": "events-0-1-drift", "true": 1}', "WrongType"),
        (b'{"id": "events-0-1-drift", "true": "true"}', "WrongType"),
        (b'{"id": 7, "true": true}', "WrongId"),
        (b'{"id": "events-0-1", "true": true}', "WrongId"),
        (b'{"id": "others-0-1-drift", "true": true}', "WrongId"),
        (b'{"id": "events-0-1-drift-fleet-\\n", "true": true}', "WrongId"),
    ],
)
def test_what_is_no_feedback_is_refused_in_words(value: bytes | None, fault: str) -> None:
    with pytest.raises(FeedbackError) as caught:
        FeedbackReader(config())(value)
    assert caught.value.fault == fault
    assert len(str(caught.value)) > 8


verdicts = st.lists(
    st.builds(
        lambda number, rule, true: Verdict(f"events-0-{number}-{rule}", rule, true),
        st.integers(0, 5), st.sampled_from(RULES), st.booleans(),
    )
)  # fmt: skip


@given(verdicts, st.integers(0, 20))
def test_the_last_verdict_on_an_alert_counts_once_through_a_restart(said: list[Verdict], cut: int) -> None:
    counted = VerdictCounts()
    for verdict in said[:cut]:
        counted.add(verdict)
    counted = VerdictCounts.load(counted.dump())
    for verdict in said[cut:]:
        counted.add(verdict)
    last = {verdict.alert: verdict for verdict in said}.values()
    for row in counted.rows():
        true, false = (sum(v.rule == row["rule"] and v.true is what for v in last) for what in (True, False))
        assert (row["true"], row["false"]) == (true, false)
        assert row["precision"] == (true / (true + false) if true + false else None)


def test_only_so_many_alerts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "MAX_VERDICTS", 3)
    counted = VerdictCounts()
    for number in (0, 1, 2, 0, 3):  # 1 is forgotten
        counted.add(Verdict(f"events-0-{number}-drift", "drift", True))
    assert counted.of("drift")["true"] == 4
    assert counted.add(Verdict("events-0-1-drift", "drift", False))
    assert counted.add(Verdict("events-0-0-drift", "drift", False))
    assert (counted.of("drift")["true"], counted.of("drift")["false"]) == (3, 2)


def test_a_chunk_is_verdicts_and_dead_letters() -> None:
    made = config(sections=FEEDBACK)
    decoded = FeedbackDecoder(made)(chunk([told("events-0-1-drift", True), b"no", told("events-0-2-drift", False)]))
    ((key, said), (shard, output)) = decoded
    assert (key, said) == (
        KEY,
        [Verdict("events-0-1-drift", "drift", True), Verdict("events-0-2-drift", "drift", False)],
    )
    assert shard.isdigit()
    assert isinstance(output, OutputBatch)
    (letter,) = output.others
    headers = dict(letter.headers or [])
    assert (letter.topic, letter.value) == ("dead-letters", b"no")
    assert headers["__connect.errors.stage"] == b"feedback"
    assert headers["__connect.errors.exception.class.name"] == b"ssm_stream.NotJson"
    assert headers["__connect.errors.offset"] == b"101"


def test_the_log_says_what_changed_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("ssm_stream.flow.feedback.time.monotonic", lambda: clock[0])
    logic = FeedbackLogic(None)
    said = [Verdict(f"events-0-{i}-drift", "drift", i > 0) for i in range(4)]
    with structlog.testing.capture_logs() as lines:
        logic.on_batch([said[:2]])
        assert logic.notify_at() is None
        logic.on_batch([said[2:], said[:1]])
        assert logic.notify_at() is not None
        clock[0] += 1
        logic.on_notify()
        logic.on_batch([said])  # nothing new
        logic.on_eof()
    assert lines == [
        {"event": "feedback", "log_level": "info", "rule": "drift", "true": t, "false": 1, "precision": p}
        for t, p in ((1, 0.5), (3, 0.75))
    ]
    assert FeedbackLogic(logic.snapshot()).snapshot() == logic.snapshot()


def test_the_topic_is_read_whole_from_its_beginning() -> None:
    text = "source: {brokers: a, topic: events, start: latest, partitions: [1]}\nevent: {entity: e, timestamp: t}\n"
    source = feedback_topic(parse_config(text + FEEDBACK))
    assert source is not None
    assert (source.topic, source.partitions, source.start) == ("said", None, "earliest")
    assert feedback_topic(parse_config(text)) is None


def test_feedback_is_counted_beside_the_events_and_by_command(kafka: Kafka, tmp_path: Path) -> None:
    job = Job(kafka, tmp_path / "job", kafka.topic("events", 2))
    said = kafka.topic("said", 2)
    plain = orjson.loads(job.path.read_bytes())
    kafka.produce(job.topic, events(12_000))
    job.run(timeout=600)  # without feedback: it may be switched on and off in the life of a state
    alerts = sorted(job.told_alerts())
    anomalies = [alert for alert in alerts if alert.endswith("anomaly")]
    assert len(anomalies) > 2
    job.path.write_bytes(orjson.dumps({**plain, "alerts": {"feedback": {"topic": said}}}))
    kafka.produce(said, [(a.encode(), told(a, True)) for a in anomalies[:3]])
    assert rules(job.run(timeout=600))["anomaly"] == (3, 0, 1.0)
    kafka.produce(said, [(anomalies[0].encode(), told(anomalies[0], False)), (b"x", b'{"id": "x", "true": true}')])
    output = job.run(timeout=600)
    assert rules(output) == {"anomaly": (2, 1, 2 / 3)}
    (letter,) = kafka.read(job.dead)
    assert letter.value() == b'{"id": "x", "true": true}'
    assert rules(job.run(timeout=600)) == {}, "nothing new, and nothing again"
    printed = command("feedback", str(job.path), "--json")
    assert orjson.loads(printed.stdout) == {
        "rules": [
            {"rule": "anomaly", "true": 2, "false": 1, "precision": 2 / 3},
            *({"rule": rule, "true": 0, "false": 0, "precision": None} for rule in RULES[1:]),
        ],
        "refused": 1,
    }
    table = command("feedback", str(job.path)).stdout
    assert "66.7%" in table
    assert "not valid feedback (dead letters give the reason): 1" in table
    job.path.write_bytes(orjson.dumps(plain))
    job.run(timeout=600)
    nothing = command("feedback", str(job.path))
    assert nothing.returncode == 2
    assert "alerts.feedback: not set" in nothing.stderr


def rules(output: str) -> dict[str, tuple[Any, ...]]:
    """What a run's log says of each rule in the end."""
    lines = [orjson.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {r["rule"]: (r["true"], r["false"], r["precision"]) for r in lines if r["event"] == "feedback"}


def test_a_missing_topic_is_told_and_made(kafka: Kafka, tmp_path: Path) -> None:
    from ssm_stream.flow.doctor import diagnose

    job = Job(kafka, tmp_path / "job", kafka.topic("events", 1))
    content = orjson.loads(job.path.read_bytes())
    job.path.write_bytes(orjson.dumps({**content, "alerts": {"feedback": {"topic": f"{job.topic}.said"}}}))
    loaded: Config = job.config
    (check,) = [check for check in diagnose(loaded) if check.name == "alerts.feedback"]
    assert not check.ok
    assert "--create-topics" in check.cure
    result = command("feedback", str(job.path))
    assert result.returncode == 1
    assert "does not exist" in result.stderr
