"""Forgetting an incident: the state of a run that had the stretches as planned stops from the beginning."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka
from forked import Forked
from test_labels_stream import job as with_labels
from test_labels_stream import parted
from test_readings import shuffled, stream
from test_readings_stream import ReadingsJob, keyed
from test_stream import Job, events, finished, wait_for
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.snapshot_format import SnapshotReader
from ssm_stream.flow.reload import live_changes
from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.records import Chunk
from ssm_stream.kafka.topic_reader import Span, TopicReader
from ssm_stream.operators.catch_up import CatchUpDecoder
from ssm_stream.recovery.catch_up import CatchUp
from ssm_stream.recovery.checkpoint_files import load_chain, read_chain
from ssm_stream.recovery.directory import open_recovery
from ssm_stream.recovery.generations.store import FolderStore, Generation
from ssm_stream.recovery.generations.thinning import MAX_RECENT, beyond_disk, superfluous
from ssm_stream.recovery.reader import read_state
from ssm_stream.recovery.replacement import READY
from ssm_stream.recovery.rewind.plan import read_request
from ssm_stream.recovery.rewind.rewind import rewind
from ssm_stream.recovery.settings_files import with_stored_features

START = 1_700_000_000_000
STEP = 60_000
PARTITIONS = 2
ENTITIES = 8


def rows(n: int, seed: int = 0) -> list[tuple[bytes, bytes]]:
    """Machines a minute apart, with jumps that alert."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).round(4)
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=n)
    for at in range(400, n, 150):
        y[at : at + 60] += 20 * 1.7 ** ((at - 400) // 150 % 7)
    for at in range(1600, min(1950, n)):
        if at % ENTITIES in (1, 5):  # an incident that nothing can learn: ever more, up and down
            y[at] += 500 * 1.2 ** ((at - 1600) // ENTITIES) * (1 if rng.random() < 0.5 else -1)
    return [
        (
            b"m%d" % (i % ENTITIES),
            orjson.dumps({"entity": f"m{i % ENTITIES}", "ts": START + STEP * i, "a": a, "b": b, "target": t}),
        )
        for i, ((a, b), t) in enumerate(zip(x.tolist(), y.tolist(), strict=True))
    ]


def at(row: int) -> str:
    return ms_to_iso(START + STEP * row)


class Flow:
    """A job over partitions that are filled by hand, as its output must not depend on a partitioner."""

    def __init__(self, kafka: Kafka, folder: Path, topic: str, **more: Any) -> None:
        self.kafka, self.job, self.topic = kafka, Job(kafka, folder, topic, shards=more.pop("shards", 2)), topic
        content = orjson.loads(self.job.path.read_bytes())
        content["sinks"]["suppressed"] = self.hidden = kafka.topic("hidden", 1)
        content["source"]["group"] = f"group-{self.hidden}"
        content["model"] = {"warmup": 30, **more.pop("model", {})}
        content["alerts"] = {"anomaly": {"cooldown": 0, "recover_after": 5}, **more.pop("alerts", {})}
        self.job.path.write_bytes(orjson.dumps(content | more))

    def rewind(self, *options: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["state", "rewind", str(self.job.path), *options])
        assert done.exit_code == code, done.output
        return done.output

    def snapshots(self) -> dict[str, bytes]:
        """The whole state of each shard, header included, as of now."""
        config = with_stored_features(self.job.config)
        assert config.recovery.directory is not None
        stored = read_state(config.recovery.directory)
        return {shard: stored.engine(shard, config).snapshot() for shard in stored.chains}

    def messages(self, topic: str) -> list[dict[str, Any]]:
        return [orjson.loads(message.value() or b"") for message in self.kafka.read(topic)]


def fill(kafka: Kafka, topic: str, given: list[tuple[bytes, bytes]], begin: int, end: int) -> None:
    for partition in range(PARTITIONS):
        mine = [row for i, row in enumerate(given) if begin <= i < end and i % ENTITIES % PARTITIONS == partition]
        kafka.produce(topic, mine, partition)


def windows(excluded: list[tuple[str, int, int]]) -> list[dict[str, str]]:
    return [{"entities": entity, "from": at(begin), "to": at(end)} for entity, begin, end in excluded]


def options(excluded: list[tuple[str, int, int]]) -> list[str]:
    return [text for entity, begin, end in excluded for text in ("--without", entity, at(begin), at(end))]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_the_state_is_that_of_a_run_with_the_stretches_as_planned_stops(
    kafka: Kafka, tmp_path: Path, delivery: str
) -> None:
    given, topic = rows(2400), kafka.topic("events", PARTITIONS)
    flow = Flow(kafka, tmp_path / "flow", topic, delivery=delivery)
    fill(kafka, topic, given, 0, 900)
    flow.job.run()
    fill(kafka, topic, given, 900, 1800)
    flow.job.run()  # it keeps the state of now at its start
    before = {name: flow.messages(each) for name, each in vars(flow.job).items() if name in ("predictions", "alerts")}
    open_ = {m["episode"] for m in before["alerts"]} - {
        m["episode"] for m in before["alerts"] if m["phase"] == "recovered"
    }
    # The incident of m1 and m5 is open by then: that of m1 goes, and that of m5 begins later.
    said_before = {m["episode"] for m in before["alerts"]}
    excluded = [("m1", 1000, 1400), ("m4", 1290, 1760), ("m1", 1590, 1850), ("m5", 1590, 1700)]
    dry = orjson.loads(flow.rewind("--to", at(1000), *options(excluded), "--dry-run", "--json"))
    assert (dry["done"], dry["events"], dry["lost"]) == (False, 900, 0)
    assert dry["events_per_s"] > 0
    output = flow.rewind("--to", at(1000), *options(excluded), "--yes")
    assert "went back to the state of" in output
    flow.job.run()
    assert {n: flow.messages(each) for n, each in vars(flow.job).items() if n in before} == before, "nothing twice"
    other = Flow(
        kafka, tmp_path / "other", topic, delivery=delivery,
        alerts={"anomaly": {"cooldown": 0, "recover_after": 5}, "maintenance": windows(excluded)},
    )  # fmt: skip
    other.job.run()
    assert flow.snapshots() == other.snapshots()
    # What comes then: the same messages, and the ends of what consumers see as open.
    fill(kafka, topic, given, 1800, 2400)
    flow.job.run()
    other.job.run()
    assert flow.snapshots() == other.snapshots()
    said = [flow.messages(flow.job.predictions), other.messages(other.job.predictions)]
    after = [sorted((m for m in each if m["ts"] >= START + STEP * 1800), key=lambda m: str(m["id"])) for each in said]
    assert after[0] == after[1]
    assert len(said[0]) == len({m["id"] for m in said[0]}) == 2400
    alerts = flow.messages(flow.job.alerts)
    assert len(alerts) == len({m["id"] for m in alerts})
    phases = Counter(m["phase"] for m in alerts)
    rewound = [m for m in alerts if m["ended_by"] == "rewind"]
    assert rewound
    assert {m["episode"] for m in rewound} == open_, "begun by m1 and m5, whose stretches are excluded"
    begun = [m["episode"] for m in alerts if m["phase"] == "started"]
    ended = [m["episode"] for m in alerts if m["phase"] == "recovered"]
    assert len(begun) == len(set(begun)), phases
    assert len(ended) == len(set(ended)), phases
    assert set(ended) <= set(begun)
    theirs = other.messages(other.job.alerts)
    open_there = {m["episode"] for m in theirs} - {m["episode"] for m in theirs if m["phase"] == "recovered"}
    assert set(begun) - set(ended) == open_there
    late = [m["episode"] for m in theirs if m["phase"] == "started" and m["episode"] not in said_before]
    sent_late = set(late) & set(begun)
    assert sent_late, "one that the new state has open is sent, as it would have been"
    for name in (max(m["episode"] for m in rewound), sent_late.pop()):  # from before the rewind, and from after it
        explained = CliRunner().invoke(app, ["explain", str(flow.job.path), name, "--json"])
        assert orjson.loads(explained.stdout)["same"] is True, explained.output


# Random stretches, in each of which a kill comes somewhere.


@pytest.fixture(scope="module")
def recorded(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Flow:
    """A flow that has read all of its topic, and has states of three times before."""
    topic = kafka.topic("events", PARTITIONS)
    flow = Flow(kafka, tmp_path_factory.mktemp("recorded"), topic)
    given = rows(2400, seed=3)
    for begin in range(0, 2400, 600):
        fill(kafka, topic, given, begin, begin + 600)
        flow.job.run()
    return flow


def copied(flow: Flow, folder: Path, **more: Any) -> Flow:
    """The flow with a copy of its state."""
    out = Flow(flow.kafka, folder, flow.topic, **more)
    if not more:
        shutil.copytree(flow.job.folder / "recovery", folder / "recovery")
        out.job.predictions, out.job.alerts = flow.job.predictions, flow.job.alerts
        content = orjson.loads(flow.job.path.read_bytes())
        content["recovery"]["directory"] = str(folder / "recovery")
        out.job.path.write_bytes(orjson.dumps(content))
    return out


@pytest.mark.parametrize("seed", range(3))
def test_random_stretches_and_kills_while_reading_again(recorded: Flow, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    to = int(rng.integers(650, 1700))
    excluded = []
    for _ in range(rng.integers(1, 4)):
        begin = int(rng.integers(to, 2300))
        excluded.append((str(rng.choice(["m1", "m6", "m[2-4]", "*"])), begin, begin + int(rng.integers(20, 900))))
    flow = copied(recorded, tmp_path / "mine")
    before = flow.messages(flow.job.predictions)
    flow.rewind("--to", at(to), *options(excluded), "--yes")
    for _ in range(2):
        process = flow.job.start()
        wait_for(process, "started")
        time.sleep(float(rng.random()))
        process.kill()
        process.communicate()
    flow.job.run()
    other = copied(
        recorded, tmp_path / "other",
        alerts={"anomaly": {"cooldown": 0, "recover_after": 5}, "maintenance": windows(excluded)},
    )  # fmt: skip
    other.job.run()
    assert flow.snapshots() == other.snapshots()
    assert flow.messages(flow.job.predictions) == before, "nothing is sent again, even after a kill"


def test_a_second_rewind_has_the_stretches_of_both(recorded: Flow, tmp_path: Path) -> None:
    first, second = [("m1", 1250, 1400)], [("m2", 1900, 2100)]
    flow = copied(recorded, tmp_path / "mine")
    flow.rewind("--to", at(1250), *options(first), "--yes")
    flow.job.run()
    flow.job.run()  # no generation is newer than the one it went back to
    flow.rewind("--to", at(1890), *options(second), "--yes")
    flow.job.run()
    stops = windows([*first, *second])
    other = copied(
        recorded, tmp_path / "other",
        alerts={"anomaly": {"cooldown": 0, "recover_after": 5}, "maintenance": stops},
    )  # fmt: skip
    other.job.run()
    assert flow.snapshots() == other.snapshots()
    listed = CliRunner().invoke(app, ["state", "ls", str(flow.job.path), "--json"])
    assert [each["excluded"] for each in orjson.loads(listed.stdout)["rewinds"]] == [windows(first), windows(second)]
    text = "".join(CliRunner().invoke(app, ["state", "ls", str(flow.job.path)]).stdout.split())
    assert "earlierstatesarekept" in text or "1earlierstateiskept" in text
    assert f"withoutm1from{at(1250)}to{at(1400)}" in text
    # They are in an export, and in a reload.
    file = tmp_path / "flow.state"
    assert CliRunner().invoke(app, ["state", "export", str(flow.job.path), str(file)]).exit_code == 0
    moved = copied(recorded, tmp_path / "moved")
    done = CliRunner().invoke(app, ["state", "import", str(moved.job.path), str(file), "--force"])
    assert done.exit_code == 0, done.output
    assert moved.snapshots() == flow.snapshots()
    moved.job.run()
    assert live_changes(moved.job.config, moved.job.config) == []


class Killed(BaseException):
    """Stands for SIGKILL."""


def test_a_kill_leaves_the_old_state_or_the_new_one(
    recorded: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each write, link, move and deletion in turn."""
    excluded = [("m1", 1250, 1400)]
    whole = copied(recorded, tmp_path / "whole")
    old = whole.snapshots()
    whole.rewind("--to", at(1250), *options(excluded), "--yes")
    new = whole.snapshots()
    assert new.keys() == old.keys()
    assert new != old
    left, outcomes = [0], list[str]()

    def counting(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return function(*arguments, **named)

        return call

    flow = copied(recorded, tmp_path / "flow")
    for step in range(1, 200):
        shutil.rmtree(flow.job.folder / "recovery")
        shutil.copytree(recorded.job.folder / "recovery", flow.job.folder / "recovery")
        config = with_stored_features(flow.job.config)
        request = read_request(config, at(1250), [("m1", at(1250), at(1400))])
        left[0] = step
        with monkeypatch.context() as patched:
            for name in ("rename", "replace", "unlink", "mkdir"):
                patched.setattr(Path, name, counting(getattr(Path, name)))
            for name in ("fsync", "link", "rmdir"):
                patched.setattr(os, name, counting(getattr(os, name)))
            try:
                rewind(config, request)
                done = True
            except Killed:
                done = False
        if (flow.job.folder / "recovery" / READY).exists():
            listed = CliRunner().invoke(app, ["state", "ls", str(flow.job.path)])
            assert listed.exit_code == 1
            assert "was interrupted: the next start" in listed.output
        opened = open_recovery(flow.job.config)
        assert opened is not None
        assert opened.lock is not None
        opened.lock.close()
        now = flow.snapshots()
        assert now in (old, new), step
        outcomes.append("new" if now == new else "old")
        if done:
            break
    assert done
    assert outcomes == sorted(outcomes, reverse=True)
    assert {"old", "new"} == set(outcomes[:-1]), "kills before and after the step that counts"


# States that are kept while a flow runs.

KEEPING = """
import sys
from ssm_stream.recovery.generations import keeper
from ssm_stream.recovery.generations import thinning
keeper.STEP, thinning.MAX_RECENT = 0.15, 1000
from ssm_stream.cli.app import app
sys.argv[0] = "ssm-stream"
app()
"""


def test_each_kept_state_leads_to_the_same_bits(kafka: Kafka, tmp_path: Path) -> None:
    """Kept at any time while events come, with kills: its positions are those that its files have learned."""
    topic, given = kafka.topic("events", PARTITIONS), rows(6000, seed=5)
    flow = Flow(kafka, tmp_path / "flow", topic, shards=3)
    sent = 0
    for _ in range(3):
        process = Forked("run", str(flow.job.path), code=KEEPING, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_for(process, "started")
        for _ in range(10):
            fill(kafka, topic, given, sent, sent + 200)
            sent += 200
            time.sleep(0.15)
        process.kill()
        process.communicate()
    flow.job.run()
    config = flow.job.config
    assert config.recovery.directory is not None
    store = FolderStore(config.recovery.directory)
    kept = store.all()
    assert len(kept) >= 9
    final, decoder = flow.job.state(), Decoder(config)
    chunks = [
        Chunk(topic, partition, [m for m in kafka.read(topic) if m.partition() == partition])
        for partition in range(PARTITIONS)
    ]
    ahead = 0
    for generation in kept:
        engines = {}
        for key, shard in generation.shards.items():
            ahead += bool(shard.read)
            engines[key] = Engine(config)
            load_chain(engines[key], store.files, read_chain(store.files, shard.files[-1]))
        resume = generation.positions
        again = CatchUp({(topic, p): 10**9 for p in range(PARTITIONS)}, {}, {
            key: shard.read for key, shard in generation.shards.items()
        }, [], [], 1)  # fmt: skip
        for chunk in chunks:
            start = resume.get((topic, chunk.partition), 0)
            rest = chunk._replace(messages=[m for m in chunk.messages if (m.offset() or 0) >= start])
            for key, batch in CatchUpDecoder(decoder.decode, config.source, again, resume)(rest):
                assert batch.again
                engine = engines.setdefault(key, Engine(config))
                engine.process(batch.events, batch.partition, EventIds(topic, batch.partition, batch.offsets))
        hashes = {
            f"{name} {p}": engine.state_hash(name, p)
            for engine in engines.values()
            for name in engine.names
            for p in range(3)
        }
        assert hashes == final
    names = {file.name for file in store.files.iterdir()}
    assert names == {name for generation in kept for name in generation.files}, "no file is left over"
    assert store.size(kept) == sum(file.stat().st_size for file in store.files.iterdir())


def generation(taken: float) -> Generation:
    return Generation(round(taken), None, {}, {})


def test_thinning_keeps_all_of_an_hour_then_hourly_then_daily() -> None:
    now = 1_700_000_000_000
    kept = list[Generation]()
    for step in range(6 * 24 * 10):
        kept.append(generation(now + step * 600_000))
        gone = superfluous(kept, kept[-1].taken, 7 * 86400)
        kept = [each for each in kept if each not in gone]
    ages = [(kept[-1].taken - each.taken) / 3_600_000 for each in kept]
    assert 36 <= len(kept) <= 40
    assert sum(age <= 1 for age in ages) == 7
    assert all(old - young >= 1 / 6 - 0.01 for old, young in pairwise(ages))
    assert all(old - young <= 2 for old, young in pairwise(ages) if old <= 24)
    assert all(old - young <= 25 for old, young in pairwise(ages))
    assert 6 * 24 <= max(ages) <= 7 * 24


def test_thinning_is_bounded_by_restarts_and_by_the_disk() -> None:
    crashing = [generation(1000 * i) for i in range(100)]
    kept = [each for each in crashing if each not in superfluous(crashing, crashing[-1].taken, 86400)]
    assert len(kept) == MAX_RECENT
    assert [kept[0], kept[-1]] == [crashing[0], crashing[-1]]
    gone = beyond_disk(crashing, lambda some: 10 * len(list(some)), free=100)
    assert len(gone) == 73, "27 of 10 bytes are a quarter of 100 + 1000"
    assert not [each for each in (crashing[0], crashing[-1]) if each in gone]
    assert beyond_disk(crashing[:3], lambda some: 10 * len(list(some)), free=10**6) == []
    assert [each.taken for each in beyond_disk(crashing[:2], lambda some: 10**6, free=0)] == [0]


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["--to", at(3)], 1, "the earliest state that is kept has learned up to"),
        (["--to", "soon"], 2, "--to: found 'soon'; write a time such as"),
        (["--to", at(1250), "--without", "m1", at(1240), at(1300)], 1, f"write --to {at(1240)}, or an earlier time"),
        (["--to", at(1250), "--without", "m1", at(1300), at(1300)], 2, "is not later than"),
        (["--to", at(1250), "--without", "m1"], 2, "write --without ENTITY FROM TO"),
    ],
)
def test_what_is_refused(recorded: Flow, given: list[str], code: int, words: str) -> None:
    for more in ("--dry-run", "--yes"):
        output = recorded.rewind(*given, more, code=code)
        assert words in " ".join(output.replace("│", " ").split())


def test_it_is_refused_while_a_process_runs_and_without_the_events(
    recorded: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = copied(recorded, tmp_path / "mine")
    process = flow.job.start()
    wait_for(process, "started")
    assert f"process {process.pid} runs on the state" in flow.rewind("--to", at(1250), "--dry-run")
    assert "is in use by process" in flow.rewind("--to", at(1250), "--yes", code=1)
    process.terminate()
    finished(process, 30)
    declined = CliRunner().invoke(app, ["state", "rewind", str(flow.job.path), "--to", at(1250)], input="n\n")
    assert declined.exit_code == 1
    assert "would go back to the state of" in declined.output
    state = flow.snapshots()

    def retained(self: TopicReader, partitions: Any, **_: Any) -> dict[int, Span]:
        return {partition: Span(700, 1200) for partition in partitions}

    monkeypatch.setattr(TopicReader, "spans", retained)
    assert "THE BROKER NO LONGER HAS" in flow.rewind("--to", at(1250), "--dry-run")
    assert "are no longer on the broker" in flow.rewind("--to", at(1250), "--yes", code=1)
    assert flow.snapshots() == state


@pytest.mark.parametrize("partitions", [1, 3])
def test_rows_of_readings_are_made_again(kafka: Kafka, tmp_path: Path, partitions: int) -> None:
    topic = kafka.topic("readings", partitions)
    messages = keyed(shuffled(stream(9_000, 4, machines=20, span=200), 500, 2))
    event = {"every": "2s", "grace": "1s", "max_age": "30s"}
    job = ReadingsJob(kafka, tmp_path / "mine", topic, **event)
    for begin in (0, 3_000, 6_000):
        kafka.produce(topic, messages[begin : begin + 3_000])
        job.run()
    folder = job.config.recovery.directory
    assert folder is not None
    time_ = FolderStore(folder).all()[0].time
    assert time_ is not None
    excluded = ["m3", ms_to_iso(time_ + 1_000), ms_to_iso(time_ + 60_000)]
    before = job.ids()
    to = ms_to_iso(time_ + 1)
    done = CliRunner().invoke(
        app, ["state", "rewind", str(job.path), "--to", to, "--without", *excluded, "--yes", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert orjson.loads(done.stdout)["events"] >= 6_000
    for _ in range(2):
        process = job.start()
        wait_for(process, "started")
        time.sleep(0.5)
        process.kill()
        process.communicate()
    job.run()
    assert job.ids() == before
    other = ReadingsJob(kafka, tmp_path / "other", topic, **event)
    stop = dict(zip(("entities", "from", "to"), excluded, strict=True))
    other.path.write_bytes(orjson.dumps(orjson.loads(other.path.read_bytes()) | {"alerts": {"maintenance": [stop]}}))
    other.run()
    learned = with_stored_features(job.config)
    assert learned.hash == other.config.hash
    states = [read_state(each.recovery.directory) for each in (job.config, other.config) if each.recovery.directory]
    assert job.state() == other.state()
    if partitions == 1:  # of several, each shard has the pools in the order in which the partitions were first read
        mine, theirs = ({key: by_name(each.engine(key, learned).snapshot()) for key in each.chains} for each in states)
        assert mine == theirs


def by_name(snapshot: bytes) -> dict[str, bytes]:
    """The arrays of a state with its entities in the order of their names: their rows go by when others had left,
    which is looked at once a chunk."""
    reader = SnapshotReader(io.BytesIO(snapshot))
    found = {name: reader.read(name) for name in reader.names}
    names = orjson.loads(found.pop("0.names").tobytes())
    order = np.argsort(names)
    return {name: (array[order] if len(array) == len(order) else array).tobytes() for name, array in found.items()} | {
        "names": orjson.dumps(sorted(names))
    }


def test_labels_are_learned_again_and_no_dead_letter_is_written_twice(kafka: Kafka, tmp_path: Path) -> None:
    bare, results = parted(events(2_000))
    topic, answers = kafka.topic("events", PARTITIONS), kafka.topic("labels", 2)
    job = with_labels(kafka, tmp_path / "job", topic, {"topic": answers, "wait": "1h"})
    for begin in (0, 1_000):
        kafka.produce(topic, [*bare[begin : begin + 1_000], (b"m1", b"not json")])
        kafka.produce(answers, [*results[begin : begin + 1_000], (b"m1", b"no label")])
        job.run()
    before, letters, entities, counts = job.ids(), kafka.read(job.dead), job.state().keys(), label_counts(job)
    assert len(letters) == 4
    folder = job.config.recovery.directory
    assert folder is not None
    time_ = FolderStore(folder).all()[0].time
    assert time_ is not None
    given = ["state", "rewind", str(job.path), "--to", ms_to_iso(time_ + 1), "--yes"]
    refused = CliRunner().invoke(app, [*given, "--without", "m1", ms_to_iso(time_ + 1), ms_to_iso(time_ + 9)])
    assert refused.exit_code == 2
    assert "labels come by themselves" in refused.output
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert f"{answers} partition 1" in done.output
    job.run()
    assert (job.ids(), len(kafka.read(job.dead)), job.state().keys()) == (before, 4, entities)
    assert label_counts(job) == counts
    assert counts["matched"] == 2_000


def label_counts(job: Job) -> Counter[str]:
    """The counts of labels, over all shards."""
    assert job.config.recovery.directory is not None
    stored, out = read_state(job.config.recovery.directory), Counter[str]()
    for shard in stored.chains:
        out.update(stored.engine(shard, job.config).label_counts)
    return out
