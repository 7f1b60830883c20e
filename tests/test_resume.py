"""Nothing learned is thrown away: a state goes on where its position is gone, by hand and by itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from test_stream import events, finished, wait_for
from test_transactions import ExactJob
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.flow.doctor import Check, diagnose
from ssm_stream.kafka.admin import create_topics
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.transactional_producer import transactional_id
from ssm_stream.recovery.reader import read_state
from ssm_stream.recovery.resume.gaps import GapNotes, read_gaps

PARTITIONS = 3


@pytest.fixture
def job(kafka: Kafka, tmp_path: Path) -> ExactJob:
    """A job whose first 3,000 events are learned."""
    if kafka.kind in ("mock", "noida-db"):
        pytest.skip("needs a broker with transactions that deletes records")
    topic = kafka.topic("events", PARTITIONS)
    made = ExactJob(kafka, tmp_path / "job", topic)
    kafka.produce(topic, events(3_000))
    made.run()
    return made


def admin(job: ExactJob) -> AdminClient:
    return AdminClient({"bootstrap.servers": job.kafka.bootstrap_servers})


def positions(job: ExactJob) -> dict[int, int]:
    directory = job.config.recovery.directory
    assert directory is not None
    return {each.partition: each.offset for each in read_state(directory).positions(job.config)}


def delete_before(job: ExactJob, offsets: dict[int, int]) -> None:
    """What retention does."""
    places = [TopicPartition(job.topic, partition, offset) for partition, offset in offsets.items()]
    client = admin(job)  # kept: the answers are lost with it
    for answer in client.delete_records(places).values():
        answer.result(20)


def state_command(job: ExactJob, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["state", "resume", str(job.path), *arguments])
    return result.exit_code, result.output


def state_checks(job: ExactJob) -> list[Check]:
    """What `doctor` finds of the state's positions."""
    return [each for each in diagnose(job.config) if each.name == "state"]


def predictions(job: ExactJob) -> list[dict[str, Any]]:
    return [orjson.loads(m.value() or b"") for m in job.kafka.read(job.predictions)]


def states(job: ExactJob) -> dict[str, str]:
    return job.state()


def test_retention_that_passed_the_position(job: ExactJob) -> None:
    """The offsets that are missing are said; every entity goes on as it was; each later event is predicted once."""
    learned, at = states(job), positions(job)
    job.kafka.produce(job.topic, events(900, seed=1))
    gone = {partition: offset + 100 for partition, offset in at.items()}
    delete_before(job, gone)
    process = job.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert "100 offsets are missing" in output
    assert "ssm-stream state resume" in output
    assert "another recovery.directory" not in output
    (check,) = state_checks(job)
    assert (check.ok, "100 offsets are missing" in check.found) == (False, True)
    assert "ssm-stream state resume" in check.cure

    code, said = state_command(job, "--from", "earliest", "--dry-run")
    assert code == 0, said
    assert said.count("100 offsets are missing") == PARTITIONS
    assert positions(job) == at
    code, said = state_command(job, "--from", "earliest", "--yes")
    assert code == 0, said
    assert positions(job) == gone
    assert states(job) == learned
    assert state_checks(job) == []

    job.run()
    counts = job.ids()
    assert (len(counts), max(counts.values())) == (3_900 - 100 * PARTITIONS, 1)
    noted = Counter(each["entity"] for each in predictions(job) if each.get("gap") == 100)
    assert noted, "no note"
    assert set(noted.values()) == {1}
    assert set(noted) == {key.split()[0] for key in learned}
    ns = [each["n"] for each in predictions(job) if "gap" in each]
    assert min(ns) > 10, "they began anew"
    assert state_command(job, "--from", "earliest", "--yes")[1].count("nothing is missing") == PARTITIONS


def test_later_than_the_earliest_and_never_back(job: ExactJob) -> None:
    at = positions(job)
    job.kafka.produce(job.topic, events(300, seed=1))
    now = int(time.time() * 1000)
    code, said = state_command(job, "--from", "1970-01-01", "--yes")
    assert code == 0, said
    assert positions(job) == at, "what was learned would be learned twice"
    code, said = state_command(job, "--from", "latest", "--dry-run", "--json")
    found = orjson.loads(said)
    assert sum(each["missing"] for each in found["partitions"]) == 300
    assert not found["done"]
    code, said = state_command(job, "--from", "latest", "--yes")
    assert code == 0, said
    assert sum(positions(job).values()) >= sum(at.values()) + 300
    job.kafka.produce(job.topic, events(200, seed=2))
    job.run()
    counts = job.ids()
    assert (len(counts), max(counts.values())) == (3_200, 1)
    assert now > 0
    assert state_command(job, "--from", "yesterday", "--yes")[0] == 2


def make_anew(job: ExactJob, partitions: int = PARTITIONS) -> None:
    client = admin(job)
    client.delete_topics([job.topic])[job.topic].result(20)
    deadline = time.monotonic() + 20
    while True:  # the broker deletes by and by
        try:
            create_topics(job.kafka.source(job.topic), {job.topic: partitions}, config={"retention.ms": "-1"})
            break
        except BrokerError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_a_topic_made_anew(job: ExactJob) -> None:
    learned = states(job)
    make_anew(job)
    job.kafka.produce(job.topic, events(600, seed=3))
    assert len(job.kafka.read(job.topic)) == 600, "the broker has lost what it took into a topic that was just made"
    process = job.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert "made anew" in output
    code, said = state_command(job, "--from", "earliest", "--yes")
    assert code == 0, said
    assert set(positions(job).values()) == {0}
    assert states(job) == learned
    job.run()
    told = predictions(job)
    assert len(told) == 3_600
    noted = [each for each in told if "gap" in each]
    assert {each["gap"] for each in noted} == {-1}
    assert len(noted) == len({each["entity"] for each in noted})


@pytest.mark.parametrize("unattended", [False, True])
def test_a_topic_made_anew_with_fewer_partitions(job: ExactJob, *, unattended: bool) -> None:
    """The positions of partitions that the topic has no longer go; what was learned stays."""
    learned = states(job)
    make_anew(job, 1)
    job.kafka.produce(job.topic, events(600, seed=3), partition=0)
    if unattended:
        job.write(source={"on_gap": "resume"})
    else:
        code, said = state_command(job, "--from", "earliest", "--yes")
        assert code == 0, said
        assert said.count("made anew with fewer") == PARTITIONS - 1
        assert positions(job) == {0: 0}
        assert states(job) == learned
    output = job.run()
    assert output.count("partition_gone") == (PARTITIONS - 1) * unattended
    assert positions(job) == {0: 600}
    assert set(states(job)) == set(learned)
    assert len(predictions(job)) == 3_600
    assert {each.partition for each in read_gaps(job.config.recovery.directory)} == {0}
    job.run()


def test_a_position_counts_where_it_is_read(job: ExactJob) -> None:
    """Of a partition that was taken out, nothing is missing until it is added again."""
    at = positions(job)
    job.kafka.produce(job.topic, events(300, seed=1))
    delete_before(job, {1: at[1] + 20})
    assert len(state_checks(job)) == 1
    job.write(source={"partitions": [0, 2]})
    assert state_checks(job) == []
    checked = CliRunner().invoke(app, ["validate", str(job.path)])
    assert "ssm-stream state resume CONFIG --from earliest" in checked.output
    process = job.start("--until-eof")
    assert "source.partitions has changed" in finished(process, 60), "writers are named by them"
    assert state_command(job, "--from", "earliest", "--yes")[0] == 0
    job.run()
    counts = job.ids()
    assert (len(counts), max(counts.values())) == (3_000 + sum(positions(job).values()) - sum(at.values()), 1)
    job.write(source={"partitions": [0, 1, 2]})
    (check,) = state_checks(job)
    assert "partition 1: 20 offsets are missing" in check.found


def test_a_deleted_consumer_group(job: ExactJob) -> None:
    """The markers of what was delivered are gone; they are set from the state."""
    groups = [transactional_id(job.config, f"{writer:04d}") for writer in range(job.config.writers)]
    client = admin(job)
    for answer in client.delete_consumer_groups(groups).values():
        answer.result(20)
    job.kafka.produce(job.topic, events(300, seed=4))
    process = job.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert "ssm-stream state resume" in output
    code, said = state_command(job, "--from", "earliest", "--yes")
    assert code == 0, said
    assert "marker of writer" in said
    job.run()
    counts = job.ids()
    assert (len(counts), max(counts.values())) == (3_300, 1)
    assert not [each for each in predictions(job) if "gap" in each]


def test_unattended_at_start_and_while_running(job: ExactJob) -> None:
    """`on_gap: resume`: the next start goes on by itself, also over a group that is gone."""
    learned = states(job)
    job.write(source={"on_gap": "resume"})
    at = positions(job)
    job.kafka.produce(job.topic, events(600, seed=5))
    delete_before(job, {partition: offset + 50 for partition, offset in at.items()})
    groups = [transactional_id(job.config, f"{writer:04d}") for writer in range(job.config.writers)]
    client = admin(job)
    for answer in client.delete_consumer_groups(groups).values():
        answer.result(20)
    (check,) = state_checks(job)
    assert check.ok
    assert check.found.endswith("the next run goes on without them (source.on_gap: resume)")
    output = job.run()
    assert output.count('"event": "gap"') == PARTITIONS
    assert '"missing": 50' in output
    counts = job.ids()
    assert (len(counts), max(counts.values())) == (3_600 - 50 * PARTITIONS, 1)
    assert set(states(job)) == set(learned)
    directory = job.config.recovery.directory
    assert {each.missing for each in read_gaps(directory)} == {50}


def test_notes_are_the_same_after_a_kill(job: ExactJob) -> None:
    """Killed in and after the epoch of the first events: each entity is noted once, in what consumers see."""
    at = positions(job)
    job.kafka.produce(job.topic, events(2_000, seed=6))
    delete_before(job, {partition: offset + 10 for partition, offset in at.items()})
    assert state_command(job, "--from", "earliest", "--yes")[0] == 0
    for seconds in (0.2, 0.5, 0.9):
        process = job.start()
        wait_for(process, "started")
        time.sleep(seconds)
        process.kill()
        process.communicate()
    job.run()
    counts = job.ids()
    assert (len(counts), max(counts.values())) == (5_000 - 10 * PARTITIONS, 1)
    noted = Counter(each["entity"] for each in predictions(job) if "gap" in each)
    assert noted
    assert set(noted.values()) == {1}


def test_a_note_is_repeated_with_its_epoch_only(tmp_path: Path) -> None:
    """By the file of a shard: the same event has it again, no other has."""

    class Names:
        names = ("a", "b")

    make: Callable[[], GapNotes] = lambda: GapNotes(tmp_path, "0000", Names())  # type: ignore[arg-type]  # noqa: E731
    gap = {"number": 1, "topic": "t", "partition": 0, "position": 1, "to": 8, "missing": 7, "at": "", "by": ""}
    (tmp_path / "gaps.json").write_bytes(orjson.dumps({"gaps": [gap]}))
    notes = make()
    assert notes.of_batch("t", 0, ["a", "new", "a"], [8, 9, 10]) == {0: 7}
    assert make().of_batch("t", 0, ["a"], [8]) == {0: 7}, "before the epoch's end"
    notes.write()
    again = make()
    assert again.of_batch("t", 0, ["a", "b", "b"], [8, 11, 12]) == {0: 7, 1: 7}
    again.write()
    assert make().of_batch("t", 0, ["a", "b"], [13, 14]) == {}
    assert make().of_batch("t", 1, ["new"], [1]) == {}
