"""Several events topics of one layout: each as if it were alone, through kills, exactly once."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka, MockKafka
from test_stream import Job, events, finished
from test_transactions import ExactJob
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import ConfigError, parse_config
from ssm_stream.config.changes import diff_runtime_settings, runtime_settings
from ssm_stream.config.sections.process import Recovery
from ssm_stream.contract.asyncapi import asyncapi
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.flow.doctor import diagnose
from ssm_stream.recovery.reader import read_state
from ssm_stream.recovery.settings_files import read_runtime_settings, write_runtime_settings

runner = CliRunner()
EVENT = "event: {entity: entity, timestamp: ts, features: [a, b]}\n"

BOTH = (0, 1, 2, 1_000_000, 1_000_001, 1_000_002)
"""Numbers of the partitions of two topics."""


def configured(source: str) -> Any:
    return parse_config(f"source: {{brokers: 'localhost:9092', {source}}}\n{EVENT}")


def test_topics_in_place_of_a_topic() -> None:
    config = configured("topics: [a, b]")
    assert (config.source.topic, config.source.names, config.source.group_id) == ("a", ["a", "b"], "ssm-stream-a")
    assert [each.topic for each in config.source.each] == ["a", "b"]
    assert {each.group_id for each in config.source.each} == {"ssm-stream-a"}
    assert [config.source.number(*place) for place in (("a", 3), ("b", 3), (None, 3))] == [3, 1_000_003, 3]
    assert [config.source.place(number) for number in (3, 1_000_003)] == [("a", 3), ("b", 3)]
    one = configured("topic: a")
    assert one.source.each == [one.source]
    assert one.hash == config.hash, "a state does not depend on the topics"
    assert "topics" not in runtime_settings(one)["source"]
    for wrong, words in (
        ("topic: b, topics: [a, b]", "one of the two"),
        ("topics: [a, a]", "twice"),
        ("topics: []", "at least 1"),
        ("topics: [a, predictions]", "must all differ"),
        ("partitions: [0]", "topic"),
    ):
        with pytest.raises(ConfigError, match=words):
            configured(wrong)


def test_topics_may_be_added_but_not_moved() -> None:
    settings = [runtime_settings(configured(text)) for text in ("topic: a", "topics: [a, b]", "topics: [b, a]")]
    effects = {
        (i, j): [(change.path, change.effect) for change in diff_runtime_settings(settings[i], settings[j])]
        for i in range(3) for j in range(3) if i != j
    }  # fmt: skip
    assert effects[0, 1] == [("source.topics", "kept")]
    assert effects[1, 0] == [("source.topics", "kept")]
    assert ("source.topics", "refused") in effects[1, 2]
    assert ("source.topics", "refused") in effects[0, 2]


def test_a_place_stays_that_of_a_topic_that_was_taken_out(tmp_path: Path) -> None:
    """Another topic there would go on at its positions."""

    def with_topics(names: str) -> Any:
        return configured(f"topics: [{names}]").replace(recovery=Recovery(directory=tmp_path))

    for names in ("a, b, c", "a, b", "a", "a"):
        write_runtime_settings(with_topics(names))
    stored = read_runtime_settings(tmp_path)
    assert stored is not None
    assert [each.text for each in diff_runtime_settings(stored, runtime_settings(with_topics("a")))] == []

    def refused(names: str) -> str:
        (change,) = diff_runtime_settings(stored, runtime_settings(with_topics(names)))
        return change.why if change.effect == "refused" else ""

    assert refused("a, b") == refused("a, b, c") == refused("a, b, c, d") == ""
    assert "d would go on at the positions of b" in refused("a, d")
    assert "d would go on at the positions of c" in refused("a, b, d")
    assert "c has another place in the list" in refused("a, c")
    write_runtime_settings(with_topics("a, b"))
    assert "d would go on at the positions of c" in refused("a, b, d")
    write_runtime_settings(with_topics("a, b, c"))
    again = read_runtime_settings(tmp_path)
    assert again == runtime_settings(with_topics("a, b, c"))


def test_the_messages_of_each_topic_are_described() -> None:
    config = configured("topics: [line.1, line.2]")
    channels = asyncapi(config)["channels"]
    assert [channels[name]["address"] for name in ("events", "events2")] == ["line.1", "line.2"]
    prediction = asyncapi(config)["components"]["messages"]["predictions"]["payload"]
    assert r"^(?:line\.1|line\.2)-" in prediction["properties"]["id"]["pattern"]


def renamed(messages: list[tuple[bytes, bytes]], prefix: str) -> list[tuple[bytes | None, bytes | None]]:
    """The messages of other machines."""
    out: list[tuple[bytes | None, bytes | None]] = []
    for key, value in messages:
        content = orjson.loads(value)
        content["entity"] = prefix + content["entity"]
        out.append((prefix.encode() + key, orjson.dumps(content)))
    return out


PARTS = [events(5_000, 1), events(4_000, 2)]


@pytest.fixture(scope="module")
def topics(kafka: Kafka) -> list[str]:
    """Two topics with different numbers of partitions, and machines of their own."""
    names = [kafka.topic("line", 3), kafka.topic("line", 2)]
    for i, name in enumerate(names):
        kafka.produce(name, renamed(PARTS[i], f"line{i}-"))
    return names


def job(kafka: Kafka, folder: Path, topics: list[str], kind: type[Job] = Job, **keys: Any) -> Job:
    """A job that reads the topics, and alerts often."""
    made = kind(kafka, folder, topics[0], source={"topics": topics}, **keys)
    write(made, {"model": {"warmup": 20}, "alerts": {"anomaly": {"budget": "1 per 200 events"}}})
    return made


def write(made: Job, content: dict[str, Any]) -> None:
    """Add sections to the configuration's file."""
    made.path.write_bytes(orjson.dumps(orjson.loads(made.path.read_bytes()) | content))


def test_each_topic_is_as_if_it_were_alone(kafka: Kafka, tmp_path: Path, topics: list[str]) -> None:
    together = job(kafka, tmp_path / "both", topics)
    together.run("-w", "2")
    alone = [job(kafka, tmp_path / name, [name]) for name in topics]
    for each in alone:
        each.run()
    found = together.messages()
    assert len(together.ids()) == 9_000
    assert found == alone[0].messages() | alone[1].messages()
    directory = together.config.recovery.directory
    assert directory is not None
    positions = read_state(directory).positions(together.config)
    assert [(at.topic, at.partition) for at in positions] == sorted(
        [(topics[0], p) for p in range(3)] + [(topics[1], p) for p in range(2)]
    )
    assert sum(at.offset for at in positions) == 9_000
    again = together.run()
    assert len(together.ids()) == 9_000, again
    assert max(together.ids().values()) == 1


def test_killed_and_exactly_once(kafka: Kafka, tmp_path: Path, topics: list[str]) -> None:
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    killed = job(kafka, tmp_path / "killed", topics, ExactJob)
    killed.kill_often(random.Random(5), 4, 0.65, "--until-eof", workers=(1, 2))
    killed.run()
    counts = killed.ids()
    assert (len(counts), max(counts.values())) == (9_000, 1)
    calm = job(kafka, tmp_path / "calm", topics)
    calm.run()
    assert killed.messages() == calm.messages()
    assert killed.told_alerts()


def test_a_topic_is_added_and_one_is_not_moved(kafka: Kafka, tmp_path: Path, topics: list[str]) -> None:
    made = job(kafka, tmp_path / "one", topics[:1])
    made.run()

    def change(names: list[str]) -> None:
        content = orjson.loads(made.path.read_bytes())
        content["source"].pop("topic", None)
        content["source"]["topics"] = names
        made.path.write_bytes(orjson.dumps(content))

    change([topics[1], topics[0]])
    process = made.start("--until-eof")
    output = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    assert "has another place in the list" in output
    checked = runner.invoke(app, ["validate", str(made.path)])
    assert (checked.exit_code, "add topics at its end" in checked.output) == (1, True)
    change(topics)
    made.run()
    assert len(made.ids()) == 9_000
    both = job(kafka, tmp_path / "both", topics)
    both.run()
    assert made.messages() == both.messages()


def test_a_topic_is_taken_out_and_comes_back(kafka: Kafka, tmp_path: Path) -> None:
    names = [kafka.topic("line", 2), kafka.topic("line", 2), kafka.topic("line", 2)]
    made = job(kafka, tmp_path / "job", names[:2])
    content = orjson.loads(made.path.read_bytes())

    def change(topics: list[str]) -> None:
        write(made, {"source": {**content["source"], "topics": topics}})

    for name in names[:2]:
        kafka.produce(name, PARTS[0][:300])
    made.run()
    change(names[:1])
    for name in names[:2]:
        kafka.produce(name, PARTS[0][300:400])
    assert [each.name for each in diagnose(made.config) if not each.ok] == []
    made.run()
    assert len(made.ids()) == 700
    change([names[0], names[2]])
    process = made.start("--until-eof")
    assert "would go on at the positions of" in finished(process, 60)
    assert process.returncode == 1
    change(names)
    made.run()
    counts = made.ids()
    assert (len(counts), max(counts.values())) == (800, 1)


def test_the_tools_know_the_topics(kafka: Kafka, tmp_path: Path) -> None:
    names = [kafka.topic("tool", 2), kafka.topic("tool", 2)]
    for i, name in enumerate(names):
        kafka.produce(name, renamed(events(3_000, i), f"line{i}-"))
        kafka.produce(name, [(b"m", b"no event %d" % i)], partition=1)
    made = job(kafka, tmp_path, names, shards=2)
    made.run()
    letters = [dict(message.headers() or []) for message in kafka.read(made.dead)]
    origins = {(letter["__connect.errors.topic"].decode(), letter["__connect.errors.partition"]) for letter in letters}
    assert origins == {(name, b"1") for name in names}
    listed = runner.invoke(app, ["dlq", "ls", str(made.path), "--json"])
    assert {group["topic"] for group in json.loads(listed.stdout)["groups"]} == set(names), listed.output
    if kafka.kind != "mock":
        driven = runner.invoke(app, ["dlq", "redrive", str(made.path), "--failing", "--yes", "--json"])
        assert driven.exit_code == 0, driven.output
        assert [sum(m.value() == b"no event %d" % i for m in kafka.read(name)) for i, name in enumerate(names)] == [
            2,
            2,
        ]
    state = runner.invoke(app, ["state", "ls", str(made.path), "--json"])
    assert {each["topic"] for each in json.loads(state.stdout)["positions"]} == set(names)
    alert = next(name for name in sorted(made.told_alerts()) if name.startswith(f"{names[1]}-"))
    told = runner.invoke(app, ["explain", str(made.path), alert, "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["same"] is True
    doctor = runner.invoke(app, ["doctor", str(made.path)])
    assert all(f"source topic: {name}: 2 partitions" in doctor.output for name in names)
    file = tmp_path / "both.parquet"
    recorded = runner.invoke(app, ["record", str(made.path), "--out", str(file), "--json"])
    assert json.loads(recorded.stdout)["rows"] == 6_000, recorded.output
    partitions = Recording(file).partitions(made.config)
    assert partitions is not None
    assert (int(partitions), set(partitions.by_entity.values())) == (4, {0, 1, 1_000_000, 1_000_001})
    out = tmp_path / "predictions.jsonl"
    tested = runner.invoke(app, ["backtest", str(made.path), str(file), "--out", str(out), "--json"])
    assert tested.exit_code == 0, tested.output

    def by_event(rows: list[dict[str, Any]]) -> dict[tuple[str, int], float]:
        return {(row["entity"], row["ts"]): row["yhat"] for row in rows}

    live = by_event([orjson.loads(message.value() or b"") for message in kafka.read(made.predictions)])
    assert by_event(list(map(orjson.loads, out.read_bytes().splitlines()))) == live, "a backtest is production"
    third = kafka.topic("tool", 1)
    missing = runner.invoke(app, ["replay", str(made.path), str(file), "--to", third])
    assert (missing.exit_code, "is none of the events topics" in missing.stderr) == (2, True)
    replayed = runner.invoke(app, ["replay", str(made.path), str(file), "--to", names[1], "--limit", "10"])
    assert f"10 rows of both.parquet → topic {names[1]}" in replayed.output


def test_planned_stops_act_on_every_topic(kafka: Kafka, tmp_path: Path, topics: list[str]) -> None:
    control = kafka.topic("control", 1)
    made = job(kafka, tmp_path, topics, shards=2)
    write(made, {"alerts": {"anomaly": {"budget": "1 per 300 events"}, "control": {"topic": control}}})
    muted = runner.invoke(app, ["mute", str(made.path), "line?-m*", "--from", "2023-11-14T00:00:00Z", "--for", "1d"])
    assert muted.exit_code == 0, muted.output
    made.run()
    notes = [orjson.loads(message.value() or b"") for message in kafka.read(control)]
    applied = {note["partition"] for note in notes if "acknowledges" in note}
    assert applied == {0, 1, 2, 1_000_000, 1_000_001}
    assert made.told_alerts() == {}
    rows = [orjson.loads(message.value() or b"") for message in kafka.read(made.predictions)]
    assert all(row["maintenance"] for row in rows)


def test_labels_on_a_topic_of_their_own(mock_kafka: MockKafka, tmp_path: Path) -> None:
    """Events of two topics, labels of both on a third."""
    names = ["line-a", "line-b", "labels"]
    for name in names:
        mock_kafka.create_topic(name, 2)
    for i in range(2):
        rows = [orjson.loads(value) for _, value in renamed(events(800, i), f"{'ab'[i]}-") if value is not None]
        bare = [{key: row[key] for key in ("entity", "ts", "a", "b")} for row in rows]
        late = [{key: row[key] for key in ("entity", "ts", "target")} for row in rows]
        mock_kafka.produce(names[i], [(row["entity"].encode(), orjson.dumps(row)) for row in bare])
        mock_kafka.produce("labels", [(row["entity"].encode(), orjson.dumps(row)) for row in late])
    made = job(mock_kafka, tmp_path, names[:2])
    write(made, {"labels": {"topic": "labels", "pending": 1000}})
    made.run()
    assert len(made.ids()) == 1_600
    assert mock_kafka.read(made.dead) == [], "every label has found its event"
    state = runner.invoke(app, ["state", "ls", str(made.path), "--limit", "500", "--json"])
    learned = [each["entity"] for each in json.loads(state.stdout)["entities"] if each["n"]]
    assert {name[0] for name in learned} == {"a", "b"}
    assert len(learned) == 120


def test_an_operators_flow_reads_the_topics(kafka: Kafka, tmp_path: Path, topics: list[str]) -> None:
    """`kafka_input` in a dataflow of one's own gives the same ids as the service."""
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink, run_main

    import ssm_stream.operators as sop

    made = job(kafka, tmp_path, topics)
    config = made.config.replace(recovery=made.config.recovery.model_copy(update={"directory": None}))
    flow, out = Dataflow("own"), list[Any]()
    messages = sop.kafka_input("in", flow, config, batches=True, until_eof=True)
    watched = sop.monitor("watch", sop.decode("decode", messages, config).events, config)
    op.output("out", watched.predictions, TestingSink(out))
    run_main(flow)
    made.run()
    assert {each.id for each in out} == set(made.ids())


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_rewind_goes_over_all_topics(kafka: Kafka, tmp_path: Path, delivery: str) -> None:
    """The state without a stretch of the second topic's machine, nothing twice, open episodes ended."""
    from test_rewind import PARTITIONS, Flow, at, fill, options, rows, windows

    names = [kafka.topic("line", PARTITIONS), kafka.topic("line", PARTITIONS)]
    given: list[Any] = [renamed(rows(1_800, seed=i), f"line{i}-") for i in range(2)]

    def flow(folder: Path, **more: Any) -> Any:
        made = Flow(kafka, folder, names[0], delivery=delivery, **more)
        content = orjson.loads(made.job.path.read_bytes())
        write(made.job, {"source": {**content["source"], "topics": names}})
        return made

    rewound = flow(tmp_path / "flow")
    for begin in (0, 900, 1_500):
        for name, messages in zip(names, given, strict=True):
            fill(kafka, name, messages, begin, min(begin + 900, 1_500) if begin < 1_500 else begin)
        rewound.job.run()
    before = Counter(message["id"] for message in rewound.messages(rewound.job.predictions))
    excluded = [("line1-m1", 1_000, 1_400)]
    rewound.rewind("--to", at(950), *options(excluded), "--yes")
    rewound.job.run()
    assert Counter(message["id"] for message in rewound.messages(rewound.job.predictions)) == before, "nothing twice"
    alerts = {"anomaly": {"cooldown": 0, "recover_after": 5}, "maintenance": windows(excluded)}
    other = flow(tmp_path / "other", alerts=alerts)
    other.job.run()
    assert rewound.job.state(BOTH) == other.job.state(BOTH)
    for name, messages in zip(names, given, strict=True):
        fill(kafka, name, messages, 1_500, 1_800)
    rewound.job.run()
    other.job.run()
    assert rewound.job.state(BOTH) == other.job.state(BOTH)
    said = [message["id"] for message in rewound.messages(rewound.job.predictions)]
    assert len(said) == len(set(said)) == 3_600
