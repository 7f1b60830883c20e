"""The commands on the state of a group, with members on Apache Kafka: which work while they run, and which do not."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from brokers import Kafka, kafka_obstacle
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from forked import Forked
from object_server import S3Server
from test_group import member
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, load_config
from ssm_stream.flow.doctor import Check, diagnose
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.membership.stopped import read_commits
from ssm_stream.ops.bytewax_metrics import free_port
from ssm_stream.recovery.store.flow_store import FlowStore

pytestmark = pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))


class Group:
    """Topics of two partitions and the file of their members."""

    def __init__(self, kafka: Kafka, folder: Path, **more: Any) -> None:
        self.kafka, self.folder = kafka, folder
        self.topics = {name: kafka.topic(name, 2) for name in ("events", "predictions", "alerts", "dead")}
        self.file, self.log = folder / "member.yaml", folder / "member.log"
        sinks = {"predictions": self.topics["predictions"], "alerts": self.topics["alerts"]}
        self.content: dict[str, Any] = {
            "source": {"brokers": kafka.bootstrap_servers, "topic": self.topics["events"], "assignment": "group"},
            "event": {"entity": "machine", "timestamp": "ts", "features": ["load"]},
            "sinks": {**sinks, "dead_letters": self.topics["dead"]},
            "delivery": "exactly_once",
            "recovery": {"epoch_interval": "200ms"},
            "state": {"store": str(folder / "store")},
            "ops": {"address": None},
            **more,
        }
        self.write()
        self.sent = 0

    def write(self) -> None:
        self.file.write_text(json.dumps(self.content))

    @property
    def config(self) -> Config:
        return load_config(self.file)

    def send(self, count: int, machines: int = 6, target: str = "target") -> None:
        events = []
        for _ in range(count):
            i, name = self.sent, f"m{self.sent % machines}"
            value = {"machine": name, "ts": 1_700_000_000_000 + 1000 * i, "load": i % 7, target: (i * i) % 5}
            events.append((name, json.dumps(value)))
            self.sent += 1
        self.kafka.produce(self.topics["events"], events)

    def predictions(self, expected: int) -> list[Any]:
        return self.kafka.read(self.topics["predictions"], expected=expected, timeout=60)

    def learn(self, expected: int) -> None:
        with member(self.file, self.log):
            self.predictions(expected)


def call(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["state", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def entities(file: Path) -> dict[str, str]:
    rows = json.loads(call("ls", str(file), "--json"))["entities"]
    return {row["entity"]: row["hash"] for row in rows}


def test_what_reads_works_while_members_run_and_what_changes_names_those_to_stop(kafka: Kafka, tmp_path: Path) -> None:
    group = Group(kafka, tmp_path, audit={"directory": "audit"})
    file, export = str(group.file), tmp_path / "group.state"
    group.send(120)
    with member(group.file, group.log):
        group.predictions(120)
        time.sleep(1.0)
        assert len(entities(group.file)) == 6
        assert "state hash" in call("show", file, "m3")
        assert "2 partitions" in call("export", file, str(export))
        assert "the same in both: 6" in call("diff", file, str(export))
        assert "unbroken" in call("audit", file)
        for command in (["reset", file, "-y"], ["reset", file, "m3", "-y"], ["import", file, str(export), "--force"]):
            refused = call(*command, code=1)
            assert "has 1 members" in refused
            assert "(partitions 0, 1)" in refused
            assert "stop them first" in refused
    before = entities(group.file)
    call("reset", file, "m3", "-y")
    assert set(entities(group.file)) == before.keys() - {"m3"}
    group.send(60)
    group.learn(180)
    after = entities(group.file)
    assert after.keys() == before.keys()
    audit = json.loads(call("audit", file, "--json"))
    assert audit["ok"]
    assert (audit["shards"], audit["entities"]) == (2, 6)
    assert len(group.predictions(180)) == 180, "none twice"
    assert "--force" in call("import", file, str(export), code=1)
    call("import", file, str(export), "--force")
    assert entities(group.file) == before
    group.learn(180 + 60)
    assert entities(group.file).keys() == before.keys()
    again = entities(group.file)
    assert {name for name in after if again[name] != after[name]} >= {"m3"}, "which had not been reset in the export"
    call("reset", file, "-y")
    call("ls", file)
    group.learn(180 + 60 + 180)
    assert len(entities(group.file)) == 6


@pytest.mark.usefixtures("s3")
def test_a_state_in_a_bucket_is_moved_in_and_out(kafka: Kafka, tmp_path: Path) -> None:
    group = Group(kafka, tmp_path, state={"store": "s3://states/commands"})
    file, export = str(group.file), tmp_path / "group.state"
    group.send(60)
    group.learn(60)
    before = entities(group.file)
    call("export", file, str(export))
    call("reset", file, "-y")
    assert entities(group.file) == {}
    call("import", file, str(export))
    assert entities(group.file) == before
    group.send(30)
    group.learn(90)
    assert len(group.predictions(90)) == 90


def test_a_rewind_forgets_and_learns_again_without_sending_twice(kafka: Kafka, tmp_path: Path) -> None:
    group = Group(kafka, tmp_path)
    file = str(group.file)
    group.send(120)
    group.learn(120)
    group.send(120)
    group.learn(240)
    before = entities(group.file)
    to = "2023-11-14T22:15:20Z"  # the event with number 120
    with member(group.file, group.log):
        deadline = time.monotonic() + 30
        while "stop them first" not in call("rewind", file, "--to", to, "--dry-run"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert "has 1 members" in call("rewind", file, "--to", to, "-y", code=1)
    stretch = ["--without", "m3", to, "2023-11-15"]
    plan = json.loads(call("rewind", file, "--to", to, *stretch, "-y", "--json"))
    assert plan["done"]
    assert plan["events"] >= 120
    assert entities(group.file) != before
    ends = {0: 0, 1: 0}
    with member(group.file, group.log):
        deadline = time.monotonic() + 60
        while sum(ends.values()) < 240:
            assert time.monotonic() < deadline
            rows = json.loads(call("ls", file, "--json"))["positions"]
            ends = {row["partition"]: row["offset"] for row in rows}
            time.sleep(0.2)
    after = entities(group.file)
    assert after.keys() == before.keys()
    assert after["m3"] != before["m3"], "what it did since then is not learned again"
    assert len(group.predictions(240)) == 240, "nothing is sent a second time"
    assert "rewound to" in call("ls", file)
    group.send(60)
    group.learn(300)
    assert len(group.predictions(300)) == 300


def state_checks(group: Group) -> list[Check]:
    """What `doctor` finds of what the group goes on from."""
    return [each for each in diagnose(group.config) if each.name == "state"]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_members_go_on_where_retention_passed_the_position(kafka: Kafka, tmp_path: Path, delivery: str) -> None:
    """With `on_gap: resume` from the earliest that is left, with all that was learned; otherwise the cure says so."""
    group = Group(kafka, tmp_path, delivery=delivery)
    group.content["source"]["wait"] = "2s"
    group.write()
    group.send(120)
    group.learn(120)
    assert state_checks(group) == []
    group.send(60)
    offsets = {p: (each.offset or 0) + 10 for p, each in read_commits(group.config, (0, 1)).items()}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    places = [TopicPartition(group.topics["events"], partition, offset) for partition, offset in offsets.items()]
    for answer in admin.delete_records(places).values():
        answer.result(20)
    (check,) = state_checks(group)
    assert (check.ok, "10 offsets are missing" in check.found) == (False, True)
    with group.log.open("ab") as output:
        assert Forked("run", str(group.file), stdout=output, stderr=output).wait(60) == 1
    assert check.cure in group.log.read_text()
    assert check.cure.endswith("set source.on_gap: resume")
    assert "source.on_gap: resume" in call("resume", str(group.file), "--from", "earliest", "-y", code=1)

    group.content["source"]["on_gap"] = "resume"
    group.write()
    assert [each.ok for each in state_checks(group)] == [True]
    group.log.unlink()
    group.learn(160)
    found = [json.loads(each.value() or b"") for each in group.predictions(160)]
    assert len(found) == 160
    assert sorted(each["n"] for each in found)[-1] > 120 // 6, "they go on"
    assert max(Counter((each["entity"], each["n"]) for each in found).values()) == 1, "none began anew"
    log = group.log.read_text()
    assert log.count("messages_missing") >= 2
    assert "no_snapshot" not in log
    assert state_checks(group) == []


def test_an_open_transaction_that_holds_back_what_is_committed_is_the_reason(kafka: Kafka, tmp_path: Path) -> None:
    """As a member leaves it that is killed between its offsets and its commit."""
    group = Group(kafka, tmp_path)
    group.content["source"]["wait"] = "3s"
    group.write()
    source = group.config.source
    broker = {"bootstrap.servers": source.brokers}
    killed = Producer({**broker, "transactional.id": f"{source.group_id}-killed"})
    killed.init_transactions(20)
    killed.begin_transaction()
    reader = Consumer({**broker, "group.id": source.group_id})
    killed.send_offsets_to_transaction([TopicPartition(source.topic, 0, 5)], reader.consumer_group_metadata(), 20)
    with pytest.raises(BrokerError, match="a transaction of a member that was killed is open") as raised:
        read_commits(group.config, (0, 1))
    assert "start a member, which ends it" in raised.value.cure
    killed.abort_transaction(20)
    reader.close()
    assert [commit.offset for commit in read_commits(group.config, (0, 1)).values()] == [None, None]


def test_a_topic_made_anew_is_a_failed_check(kafka: Kafka, tmp_path: Path) -> None:
    group = Group(kafka, tmp_path)
    FlowStore(group.config, "another")
    (check,) = state_checks(group)
    assert (check.ok, "the topic was created again" in check.found) == (False, True)
    assert check.found.endswith("source.group of its own")
    assert "a source.group of its own" in call("resume", str(group.file), "--from", "earliest", "-y", code=1)


def test_the_positions_of_topics_that_go_together_move_with_the_state(kafka: Kafka, tmp_path: Path) -> None:
    labels = kafka.topic("labels", 2)
    group = Group(kafka, tmp_path, labels={"topic": labels, "target": "target", "wait": "1h"})
    file, export, marks = str(group.file), tmp_path / "group.state", range(2)

    def label(first: int, end: int) -> None:
        events = [(f"m{i % 6}", {"ts": 1_700_000_000_000 + 1000 * i, "target": (i * i) % 5}) for i in range(first, end)]
        kafka.produce(labels, [(name, json.dumps({"machine": name, **each})) for name, each in events])

    def taken() -> int:
        return group.log.read_text().count('"partition_taken"') if group.log.exists() else 0

    def learn_all(labelled: int) -> dict[str, str]:
        deadline, ends, before = time.monotonic() + 60, (0, 0), taken()
        with member(group.file, group.log):
            while ends != (120, labelled) or taken() < before + 2:  # it is there, even where there is nothing to do
                assert time.monotonic() < deadline, group.log.read_text()
                time.sleep(0.2)
                commits = read_commits(group.config, marks).values()
                ends = sum(c.offset or 0 for c in commits), sum(dict(c.further).get(labels, 0) for c in commits)
        return entities(group.file)

    group.send(120, target="unknown yet")
    none = learn_all(0)
    label(0, 60)
    before = learn_all(60)
    assert before != none
    call("export", file, str(export))
    committed = read_commits(group.config, marks)
    rows = json.loads(call("ls", file, "--json"))["positions"]
    assert sum(row["offset"] for row in rows if row["topic"] == labels) == 60
    label(60, 120)
    after = learn_all(120)
    assert after != before
    call("import", file, str(export), "--force")
    assert entities(group.file) == before
    assert {p: (c.offset, c.further) for p, c in read_commits(group.config, marks).items()} == {
        p: (c.offset, c.further) for p, c in committed.items()
    }
    assert learn_all(120) == after, "the labels since the export are read again"
    call("reset", file, "m3", "-y")
    assert learn_all(120).keys() == after.keys() - {"m3"}
    call("rewind", file, "--to", "2023-11-14T22:15:20Z", "-y")
    assert learn_all(120).keys() >= after.keys() - {"m3"}
    said = {bytes(m.value() or b"") for m in group.predictions(120)}
    assert len(said) == len(group.predictions(120)), "nothing is sent a second time"


def test_a_member_that_starts_while_the_store_is_away_answers_probes(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alive, not ready: else it would be ended for its silence while it waits."""
    server = S3Server()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    group = Group(kafka, tmp_path, state={"store": "s3://states/late"}, ops={"address": f"127.0.0.1:{port}"})
    group.send(60)
    server.stop()

    def status(path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as found:
                return int(found.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    with member(group.file, group.log):
        deadline = time.monotonic() + 60
        while "store_away" not in group.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert (status("/healthz"), status("/readyz")) == (200, 503)
        server.start()
        assert len(group.predictions(60)) == 60
    server.stop()


def test_members_wait_for_a_store_that_is_away(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = S3Server()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    group = Group(kafka, tmp_path, state={"store": "s3://states/away"})
    group.send(60)
    with member(group.file, group.log):
        group.predictions(60)
        server.stop()
        group.send(60)
        deadline = time.monotonic() + 30
        while "store_away" not in group.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        server.start()
        assert len(group.predictions(120)) == 120
    server.stop()
    log = group.log.read_text()
    assert "store_back" in log
    assert log.count('"event": "started"') == 1, "the same process goes on"
