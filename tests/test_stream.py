"""The dataflow over the broker: nothing lost, same bits, through kills, signals, rescaling and brokers that go away."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka, LocalKafka, MockKafka, free_port
from confluent_kafka import Consumer, KafkaError, TopicPartition
from forked import Forked
from patience import SLOWER

from ssm_stream.autoconfig.feature_selection import select_features, with_columns
from ssm_stream.config import Config, ConfigError, Event, Source, load_config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.flow import runtime
from ssm_stream.ingest.events import EventReader
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.embedded_broker import ApiKey
from ssm_stream.kafka.topic_head import first_documents
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.directory import open_recovery, prune
from ssm_stream.recovery.reader import read_state
from ssm_stream.recovery.settings_files import read_feature_selection, write_feature_selection

PARTITIONS = 3
ENTITIES = 60


def events(n: int, seed: int = 0) -> list[tuple[bytes, bytes]]:
    """(key, value) of n events of a few machines, linear with noise and rare jumps that alert."""
    rng = np.random.default_rng(seed)
    x, who = rng.normal(size=(n, 2)).round(4), rng.integers(0, ENTITIES, n)
    y = (x @ [1.0, -2.0] + 0.1 * rng.normal(size=n) + 30 * (rng.random(n) < 0.003)).round(4)
    rows = zip(who.tolist(), x.tolist(), y.tolist(), range(n), strict=True)
    return [
        (b"m%d" % e, orjson.dumps({"entity": f"m{e}", "ts": 1_700_000_000_000 + i, "a": a, "b": b, "target": t}))
        for e, (a, b), t, i in rows
    ]


class Job:
    """A configuration on a broker, and processes that run it."""

    def __init__(self, kafka: Kafka, folder: Path, topic: str, **keys: Any) -> None:
        self.kafka, self.folder, self.topic = kafka, folder, topic
        self.predictions, self.alerts, self.dead = (kafka.topic(kind, 2) for kind in ("predictions", "alerts", "dead"))
        content = {
            "source": {"brokers": kafka.bootstrap_servers, "topic": topic, "batch": 100, **keys.get("source", {})},
            "event": {"entity": "entity", "timestamp": "ts", "features": ["a", "b"], **keys.get("event", {})},
            "sinks": {"predictions": self.predictions, "alerts": self.alerts, "dead_letters": self.dead},
            "state": {"shards": keys.get("shards", 4)},
            "recovery": {"directory": str(folder / "recovery"), "epoch_interval": keys.get("epoch", "200ms")},
            "ops": keys.get("ops", {"address": None}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "config.yaml"
        self.path.write_bytes(orjson.dumps(content))  # JSON is YAML

    @property
    def config(self) -> Config:
        return load_config(self.path)

    def start(self, *options: str) -> subprocess.Popen[str]:
        return Forked("run", str(self.path), *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, *options: str, timeout: float = 60) -> str:
        process = self.start("--until-eof", *options)
        output = finished(process, timeout)
        assert process.returncode == 0, output
        return output

    def kill_often(
        self, rng: random.Random, times: int, longest: float, *options: str, workers: Sequence[int] = (1,)
    ) -> None:
        """Start it and end it by SIGKILL at random moments so often, each at most `longest` s after its start; fewer
        times where it ends by itself before."""
        kills = 0
        while kills < times:
            process = self.start(*options, "-w", str(rng.choice(workers)))
            wait_for(process, "started")
            try:
                output = process.communicate(timeout=rng.uniform(0.05, longest))[0]
                assert process.returncode == 0, output
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
        assert kills, "the run ended before the first kill"

    def ids(self) -> Counter[str]:
        """How often each prediction id is on the topic; the same id never says two different things."""
        said: dict[str, set[bytes]] = {}
        counts: Counter[str] = Counter()
        for message in self.kafka.read(self.predictions):
            value = message.value() or b""
            name = orjson.loads(value)["id"]
            counts[name] += 1
            said.setdefault(name, set()).add(value)
        assert all(len(values) == 1 for values in said.values()), "an id with two contents"
        return counts

    def told_alerts(self) -> dict[str, bytes]:
        """Alert by id; the same id never says two different things."""
        said: dict[str, bytes] = {}
        for message in self.kafka.read(self.alerts):
            value = message.value() or b""
            assert said.setdefault(orjson.loads(value)["id"], value) == value, "an id with two contents"
        return said

    def messages(self) -> dict[str, bytes]:
        """Prediction and alert by id; the same id never has two different contents."""
        out = self.told_alerts()
        for message in self.kafka.read(self.predictions):
            value = message.value() or b""
            assert out.setdefault(orjson.loads(value)["id"], value) == value, "an id with two contents"
        return out

    def state(self, partitions: Sequence[int] = range(PARTITIONS)) -> dict[str, str]:
        """Entity and partition → hash of its state and its pool's there, as the recovery directory has them."""
        folder = self.config.recovery.directory
        assert folder is not None
        kept, hashes = read_state(folder), dict[str, str]()
        for shard in kept.chains:
            engine = kept.engine(shard, self.config)
            hashes |= {f"{name} {p}": engine.state_hash(name, p) for name in engine.names for p in partitions}
        return hashes


def finished(process: subprocess.Popen[str], timeout: float) -> str:
    """All output of a process that must end by itself."""
    try:
        return process.communicate(timeout=SLOWER * timeout)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"still running after {SLOWER * timeout:g} s:\n{process.communicate()[0][-3000:]}")


def keeping_state_in(directory: Path) -> Config:
    """The smallest configuration with that recovery directory."""
    return parse_config(
        f"source: {{brokers: a, topic: t}}\nevent: {{entity: e, timestamp: t}}\nrecovery: {{directory: {directory}}}\n"
    )


def wait_for(process: subprocess.Popen[str], event: str) -> None:
    """Read the log until an event of that name."""
    assert process.stdout is not None
    for line in process.stdout:
        if f'"event": "{event}"' in line:
            return
    pytest.fail(f"ended without {event!r}: exit code {process.wait(10)}")


@pytest.fixture
def job(kafka: Kafka, tmp_path: Path) -> Callable[..., Job]:
    """Makes a job: input topic with messages, output topics of its own."""

    def make(messages: list[tuple[bytes | None, bytes | None]], name: str = "job", topic: str = "", **keys: Any) -> Job:
        if not topic:
            topic = kafka.topic("events", PARTITIONS)
            kafka.produce(topic, messages)
        return Job(kafka, tmp_path / name, topic, **keys)

    return make


def test_topic_in_predictions_and_dead_letters_out(job: Callable[..., Job], kafka: Kafka) -> None:
    """Every message ends as a prediction or a dead letter; the predictions are the engine's, to the last digit."""
    good = events(3_000)
    bad: list[tuple[bytes | None, bytes | None]] = [
        (b"m1", b"not json"), (b"m1", b"\xff\xfe"), (b"m2", None), (None, b""), (b"m3", b"[1,2]"),
        (b"m3", orjson.dumps({"entity": "m3", "ts": 1, "a": "NaN", "b": 1, "target": 1})),
        (b"m3", orjson.dumps({"entity": "m3", "a": 1, "b": 1, "target": 1})),
        (b"m4", b'{"entity":"m4","ts":1,"a":1e39,"b":1,"target":1}'),
        (b"m5", b"[" * 5_000),
        (b"m6", b"x" * 1_000_000),
    ]  # fmt: skip
    mixed = [*good[:1500], *bad, *good[1500:]]
    made = job(mixed)
    made.run()
    letters = kafka.read(made.dead)
    predictions = [orjson.loads(m.value() or b"") for m in kafka.read(made.predictions)]
    assert len(predictions) + len(letters) == len(mixed)
    assert len(letters) == len(bad)
    assert Counter((m.key(), m.value()) for m in letters) == Counter(bad)
    for letter in letters:
        headers = dict(letter.headers() or [])
        assert headers["__connect.errors.topic"] == made.topic.encode()
        assert {"partition", "offset", "stage", "exception.class.name", "exception.message"} <= {
            str(name).removeprefix("__connect.errors.") for name in headers
        }
    reader, engine = EventReader(made.config.event), Engine(made.config)
    usable, by_entity = set(good), dict[str, list[float]]()
    for partition in range(PARTITIONS):
        messages = [m for m in kafka.read(made.topic) if m.partition() == partition and (m.key(), m.value()) in usable]
        read, _ = reader.read([orjson.loads(m.value() or b"") for m in messages])
        expected, _ = engine.process(read, source=partition)
        for name, yhat in zip(read.entity, expected.yhat.tolist(), strict=True):
            by_entity.setdefault(name, []).append(yhat)
    seen: dict[str, list[float]] = {}
    for row in sorted(predictions, key=lambda row: row["n"]):
        seen.setdefault(row["entity"], []).append(row["yhat"])
    assert seen == by_entity


def test_positions_are_committed_for_lag_tools(job: Callable[..., Job], kafka: Kafka) -> None:
    """After a run to the end, the monitoring group stands at the end of every partition."""
    made = job(events(500))
    made.run()
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": made.config.source.group_id})
    places = [TopicPartition(made.topic, p) for p in range(PARTITIONS)]
    committed = {p.partition: p.offset for p in consumer.committed(places, timeout=10)}
    ends = {p.partition: consumer.get_watermark_offsets(p, timeout=10)[1] for p in places}
    consumer.close()
    assert {p: end for p, end in ends.items() if end} == {p: committed[p] for p, end in ends.items() if end}


def test_kill_nine_loses_nothing_and_changes_no_bit(job: Callable[..., Job], kafka: Kafka) -> None:
    """SIGKILL at random moments, with one and two workers: every event is predicted, states equal a calm run's."""
    n = 40_000  # the first kill comes while it works, on fast machines, too
    calm = job(events(n), "calm")
    calm.run()
    killed = job([], "killed", topic=calm.topic)
    killed.kill_often(random.Random(1), 4, 0.65, "--until-eof", workers=(1, 2))
    killed.run()
    ids = killed.ids()
    assert len(ids) == n
    assert killed.state() == calm.state()
    assert killed.told_alerts() == calm.told_alerts()
    assert calm.told_alerts()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_gracefully(job: Callable[..., Job], number: signal.Signals) -> None:
    """Exit code 0, snapshots written: the next start repeats nothing and misses nothing."""
    n = 12_000
    made = job(events(n), epoch="60s")
    process = made.start()
    wait_for(process, "started")
    time.sleep(0.5)
    process.send_signal(number)
    output = finished(process, 20)
    assert process.returncode == 0, output
    assert '"reason": "signal"' in output or "reason=signal" in output
    made.run()
    counts = made.ids()
    assert len(counts) == n
    assert max(counts.values()) == 1


def test_rescaling_keeps_every_bit(job: Callable[..., Job], kafka: Kafka) -> None:
    """1 → 3 → 2 workers between parts of the topic, against one worker throughout."""
    parts = [events(1_500, seed) for seed in range(3)]
    topic = kafka.topic("events", PARTITIONS)
    rescaled, steady = job([], "rescaled", topic=topic), job([], "steady", topic=topic)
    for part, workers in zip(parts, (1, 3, 2), strict=True):
        kafka.produce(topic, part)
        rescaled.run("-w", str(workers))
    steady.run()
    assert rescaled.state() == steady.state()
    assert rescaled.told_alerts() == steady.told_alerts()
    assert rescaled.ids() == steady.ids()


class Cluster:
    """Processes of one dataflow, over one recovery directory."""

    def __init__(self, job: Job, processes: int, *options: str) -> None:
        where = ";".join(f"127.0.0.1:{free_port()}" for _ in range(processes))
        self.processes = [job.start("-i", str(i), "-a", where, *options) for i in range(processes)]

    def finish(self, timeout: float = 90) -> None:
        """Wait for the end of the topic."""
        for process in self.processes:
            output = finished(process, timeout)
            assert process.returncode == 0, output

    def kill(self, which: int) -> None:
        """SIGKILL one; the others end by themselves."""
        self.processes[which].kill()
        for process in self.processes:
            finished(process, 20)
            assert process.returncode != 0


def test_a_cluster_is_killed_and_rescaled_and_keeps_every_bit(job: Callable[..., Job], kafka: Kafka) -> None:
    """Two processes, one of them killed at a random moment, then one, then three: as one worker throughout."""
    parts, topic = [events(3_000, seed) for seed in range(4)], kafka.topic("events", PARTITIONS)
    spread, steady = job([], "spread", topic=topic), job([], "steady", topic=topic)
    kafka.produce(topic, parts[0])
    Cluster(spread, 2, "--until-eof").finish()
    rng = random.Random(3)
    for which in (1, 0):
        kafka.produce(topic, parts[which + 1])
        cluster, before = Cluster(spread, 2), len(kafka.read(spread.predictions))
        while len(kafka.read(spread.predictions)) == before:
            assert all(process.poll() is None for process in cluster.processes)
        time.sleep(0.5 * rng.random())
        cluster.kill(which)
    spread.run("-w", "2")
    kafka.produce(topic, parts[3])
    Cluster(spread, 3, "--until-eof").finish()
    steady.run()
    assert spread.state() == steady.state()
    assert spread.told_alerts() == steady.told_alerts()
    assert set(spread.ids()) == set(steady.ids())
    assert len(steady.ids()) == 12_000


def test_independent_processes_share_a_topic_by_its_partitions(job: Callable[..., Job], kafka: Kafka) -> None:
    """Two with a recovery directory each, side by side, one killed: every entity as in one process for all."""
    topic = kafka.topic("events", PARTITIONS)
    kafka.produce(topic, events(9_000))
    whole = job([], "whole", topic=topic, shards=1)
    parts = [
        job([], f"part{i}", topic=topic, shards=1, source={"partitions": mine}) for i, mine in enumerate(([0, 2], [1]))
    ]
    first = [part.start("--until-eof") for part in parts]
    wait_for(first[0], "started")
    time.sleep(0.4)
    first[0].kill()
    finished(first[0], 10)
    parts[0].run()
    output = finished(first[1], 60)
    assert first[1].returncode == 0, output
    whole.run()
    told = [part.state() for part in parts]
    expected = whole.state()
    keyed = {m.key(): m.partition() for m in kafka.read(topic)}
    for name, partition in ((key.decode(), partition) for key, partition in keyed.items() if key):
        mine = told[0 if partition in (0, 2) else 1]
        assert mine[f"{name} {partition}"] == expected[f"{name} {partition}"]
    assert len(expected) == PARTITIONS * ENTITIES


def test_two_targets_through_a_kill_and_more_workers(job: Callable[..., Job], kafka: Kafka) -> None:
    """Two messages an event, one alert an event and kind, states and alerts as of a calm run."""
    n, rng = 12_000, np.random.default_rng(7)
    messages = []
    for key, value in events(n):
        document = orjson.loads(value)
        jump = 20 * (rng.random() < 0.005)
        second = None if rng.random() < 0.1 else 3 * document["a"] + 0.1 * rng.normal() + jump
        messages.append((key, orjson.dumps({**document, "second": second})))
    two = {"event": {"target": ["target", "second"]}}
    calm = job(messages, "calm", **two)
    calm.run()
    killed = job([], "killed", topic=calm.topic, **two)
    process = killed.start()
    wait_for(process, "started")
    time.sleep(0.5)
    process.kill()
    process.communicate()
    killed.run("-w", "2")
    ids = killed.ids()
    assert set(ids) == set(calm.ids())
    assert len(ids) == 2 * n
    assert Counter(name.rsplit("-", 1)[1] for name in ids) == {"target": n, "second": n}
    assert killed.state() == calm.state()
    assert killed.told_alerts() == calm.told_alerts()
    alerts = [orjson.loads(value) for value in calm.told_alerts().values()]
    assert {a["target"] for a in alerts} == {"target", "second"}
    assert all((a["phase"] == "recovered") == (a["targets"] == []) for a in alerts)


def test_bytewax_runs_the_flow_too(job: Callable[..., Job]) -> None:
    """`python -m bytewax.run` with its own recovery options; `ssm-stream run` continues from there."""
    made = job(events(800))
    process = by_bytewax(made, "-r", str(made.folder / "recovery"), "-s", "1", "-b", "0")
    deadline = time.monotonic() + 30
    while len(made.ids()) < 800 and time.monotonic() < deadline:
        time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    output = finished(process, 20)
    assert process.returncode == 0, output
    assert len(made.ids()) == 800
    made.kafka.produce(made.topic, events(200, seed=1))
    made.run()
    assert len(made.ids()) == 1_000
    assert set(made.ids().values()) == {1}


def by_bytewax(made: Job, *options: str) -> subprocess.Popen[str]:
    """Bytewax's runner with the flow of the checkout."""
    return subprocess.Popen(
        [sys.executable, "-m", "bytewax.run", f"flows.monitor:build({str(made.path)!r})", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip


def test_bytewax_without_a_recovery_directory_is_refused(job: Callable[..., Job]) -> None:
    """Its state would be lost at the end; one sentence names the cure."""
    made = job(events(10))
    process = by_bytewax(made)
    output = finished(process, 30)
    assert process.returncode == 1
    assert output.count("\n") == 1
    assert output.startswith("error: recovery.directory is ")
    assert f"add -r {made.folder / 'recovery'}" in output


def test_a_changed_configuration_is_refused_with_the_way_out(job: Callable[..., Job]) -> None:
    """State made under other settings is neither used nor silently dropped."""
    made = job(events(300))
    made.run()
    content = orjson.loads(made.path.read_bytes())
    content["event"]["lags"] = 0
    made.path.write_bytes(orjson.dumps(content))
    process = made.start("--until-eof")
    output = finished(process, 30)
    assert process.returncode == 1
    assert "another recovery.directory" in output
    assert "Traceback" not in output


def with_gas(n: int, seed: int) -> list[tuple[bytes, bytes]]:
    """Events with one column more."""
    return [(key, orjson.dumps({**orjson.loads(value), "gas": 0.5})) for key, value in events(n, seed)]


def logged(output: str, event: str) -> dict[str, Any]:
    """The log line of that event."""
    lines = [line for line in output.splitlines() if f'"event": "{event}"' in line]
    assert len(lines) == 1, output
    content: dict[str, Any] = orjson.loads(lines[0])
    return content


def test_picked_features_stay_for_the_life_of_the_state(job: Callable[..., Job], kafka: Kafka) -> None:
    """`features: auto`: what the first events of the first start had, also when others come to be the first."""
    made = job(events(60), event={"features": "auto"})
    first = made.run()
    assert logged(first, "features_picked")["features"] == ["a", "b"]
    kafka.produce(made.topic, with_gas(1_000, seed=1))
    now = first_documents(made.config, tuple(range(PARTITIONS)), 200, until_eof=True)
    assert select_features(made.config, now).config.event.features == ["a", "b", "gas"], (
        "another choice would be made now"
    )

    process = made.start()
    wait_for(process, "features_kept")
    wait_for(process, "started")
    process.send_signal(signal.SIGTERM)
    assert finished(process, 20) is not None
    assert process.returncode == 0
    output = made.run("-w", "2")
    kept = logged(output, "features_kept")
    assert (kept["features"], kept["categories"]) == (["a", "b"], [])
    assert len(made.ids()) == 1_060
    alone = with_columns(made.config, ["a", "b"], [])
    assert logged(output, "started")["config_hash"] == alone.hash


def test_a_start_logs_whether_it_goes_on(job: Callable[..., Job]) -> None:
    """A relative directory is another one in another working directory: nothing else shows that a start begins anew."""
    made = job(events(60))
    directory = made.config.recovery.directory
    assert directory is not None
    assert logged(made.run(), "started")["state"] == f"{directory.resolve()}: new"
    assert re.fullmatch(rf"{directory.resolve()}: epoch \d+", logged(made.run(), "started")["state"])


def test_a_new_state_of_a_flow_that_has_run_before_is_a_warning(job: Callable[..., Job]) -> None:
    """It learns and sends all again, as in another working directory."""
    made = job(events(60))
    directory = made.config.recovery.directory
    assert directory is not None
    assert "state_is_new" not in made.run()
    assert "state_is_new" not in made.run()
    content = orjson.loads(made.path.read_bytes())
    content["recovery"]["directory"] = str(made.folder / "elsewhere")
    made.path.write_bytes(orjson.dumps(content))
    warned = logged(made.run(), "state_is_new")
    assert (warned["directory"], warned["before"]) == (str(made.folder / "elsewhere"), str(directory.resolve()))
    assert (warned["level"], warned["read_before"]) == ("warning", 60)


def test_bytewax_runs_the_flow_with_picked_features(job: Callable[..., Job]) -> None:
    """`flows.monitor` picks and keeps as `ssm-stream run` does."""
    made = job(events(300), event={"features": "auto"})
    for event, total in (("features_picked", 300), ("features_kept", 320)):
        if total > 300:  # whose predictions tell that it reads, and hears signals
            made.kafka.produce(made.topic, events(20, seed=1))
        process = by_bytewax(made, "-r", str(made.folder / "recovery"), "-s", "1", "-b", "0")
        wait_for(process, event)
        deadline = time.monotonic() + 30
        while len(made.ids()) < total and time.monotonic() < deadline:
            time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        output = finished(process, 20)
        assert process.returncode == 0, output
    assert set(made.ids().values()) == {1}
    assert (made.folder / "recovery" / "features.json").exists()


def of_topic(source: Source, partitions: tuple[int, ...], n: int, *, until_eof: bool) -> list[Any]:
    """The first documents of a topic of JSON."""
    return first_documents(
        Config(source=source, event=Event(entity="e", timestamp="t", target="y")), partitions, n, until_eof=until_eof
    )


def test_the_first_documents_come_from_all_partitions(mock_kafka: MockKafka) -> None:
    """The first of each, then the second of each: a busy partition does not hide the others."""
    topic = mock_kafka.topic("events", 3)
    for partition, n in enumerate((500, 2, 500)):
        texts = [b"not json", *(orjson.dumps({"p": partition, "i": i}) for i in range(1, n))]
        mock_kafka.produce(topic, texts, partition=partition)
    found = of_topic(mock_kafka.source(topic), (0, 1, 2), 20, until_eof=False)
    assert [(d["p"], d["i"]) for d in found] == [(0, 1), (1, 1), (2, 1), *((p, i) for i in range(2, 9) for p in (0, 2))]
    only = of_topic(mock_kafka.source(topic), (1,), 20, until_eof=True)
    assert only == [{"p": 1, "i": 1}]


def test_the_first_documents_are_waited_for(mock_kafka: MockKafka) -> None:
    topic = mock_kafka.topic("events", 2)
    with pytest.raises(BrokerError, match="is empty\n  start when there are events"):  # exit code 1: started again
        of_topic(mock_kafka.source(topic), (0, 1), 20, until_eof=True)
    began = time.monotonic()
    with pytest.raises(BrokerError, match="is empty"):
        of_topic(mock_kafka.source(topic, wait=1.5), (0, 1), 20, until_eof=False)
    assert 1.4 < time.monotonic() - began < 5
    mock_kafka.produce(topic, [b"{"] * 3)
    with pytest.raises(ConfigError, match="none of its first 3 messages is JSON"):
        of_topic(mock_kafka.source(topic), (0, 1), 20, until_eof=True)
    late = threading.Timer(1.0, mock_kafka.produce, (topic, [b"{}"] * 30))
    late.start()
    assert len(of_topic(mock_kafka.source(topic, wait=30), (0, 1), 20, until_eof=False)) >= 17
    late.join()


def test_the_first_documents_of_a_broker_that_refuses(mock_kafka: MockKafka) -> None:
    topic = mock_kafka.topic("events", 1)
    mock_kafka.produce(topic, [b"{}"])
    mock_kafka.push_errors(ApiKey.FETCH, [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 50)
    with pytest.raises(BrokerError, match=topic):
        of_topic(mock_kafka.source(topic, wait=5), (0,), 20, until_eof=True)


def test_what_was_picked_is_kept_beside_the_state(tmp_path: Path) -> None:
    config = keeping_state_in(tmp_path)
    assert read_feature_selection(tmp_path, config) is None
    picked = with_columns(config, ["a", "b.c"], ["mode"])
    write_feature_selection(tmp_path, config, picked)
    assert [file.name for file in tmp_path.iterdir()] == ["features.json"]
    assert read_feature_selection(tmp_path, config) == picked
    other = config.model_copy(update={"event": config.event.model_copy(update={"target": "a"})})
    with pytest.raises(RecoveryError, match=r"target 'target' → 'a'.*another recovery.directory"):
        read_feature_selection(tmp_path, other)
    for damaged in ("", "{", "[]", "{}", '{"for": {}, "features": 3, "categories": []}', "\x00"):
        (tmp_path / "features.json").write_text(damaged)
        with pytest.raises(RecoveryError, match=r"features\.json cannot be read.*another recovery.directory"):
            read_feature_selection(tmp_path, config)


def test_a_process_that_joins_takes_what_the_first_one_picked(mock_kafka: MockKafka, tmp_path: Path) -> None:
    """In a cluster one process picks; without a directory in common there is no agreement."""
    topic = mock_kafka.topic("events", 1)
    mock_kafka.produce(topic, events(50))
    made = Job(mock_kafka, tmp_path / "job", topic, event={"features": "auto"}, source={"wait": "2s"})
    with pytest.raises(RecoveryError, match="first process has not set up"):
        runtime.prepare(made.config, lock=False)
    directory = made.folder / "recovery"
    directory.mkdir()
    (directory / "initialised").touch()
    with pytest.raises(RecoveryError, match="first process has stored no selection of features"):
        runtime.prepare(made.config, lock=False)
    write_feature_selection(directory, made.config, with_columns(made.config, ["b"], []))
    assert runtime.prepare(made.config, lock=False).config.event.features == ["b"]
    off = made.config.model_copy(update={"recovery": made.config.recovery.model_copy(update={"directory": None})})
    for lock in (True, False):
        with pytest.raises(ConfigError, match="must agree on the features"):
            runtime.prepare(off, lock=lock, cluster=True)
    assert runtime.prepare(off).config.event.features == ["a", "b"]


def test_broker_away_at_start(tmp_path: Path) -> None:
    """A clear error after the configured wait: who was asked, why not, what to do. Exit code 1."""
    path = tmp_path / "config.yaml"
    path.write_text("source: {brokers: '127.0.0.1:9', topic: t, wait: 2s}\nevent: {entity: e, timestamp: t}\n")
    process = Forked("run", str(path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    began = time.monotonic()
    output = finished(process, 20)
    assert process.returncode == 1
    assert time.monotonic() - began < 12
    assert "127.0.0.1:9" in output
    assert "source.wait" in output
    assert "Traceback" not in output


def test_broker_away_while_running_then_back(private_kafka: Callable[[], LocalKafka], tmp_path: Path) -> None:
    """The flow stops with the broker's message; after both are back it goes on and every event is predicted."""
    kafka = private_kafka()
    topic = kafka.topic("events", PARTITIONS)
    made = Job(kafka, tmp_path / "job", topic, source={"wait": "3s"})
    kafka.produce(topic, events(2_000))
    process = made.start()
    wait_for(process, "started")
    time.sleep(1.0)
    kafka.stop()
    output = finished(process, 120)
    assert process.returncode == 1, output
    assert kafka.bootstrap_servers in output
    kafka.start()
    kafka.produce(topic, events(1_000, seed=1))
    made.run()
    assert len(made.ids()) == 3_000


def test_a_refused_message_stops_the_flow(mock_kafka: MockKafka, tmp_path: Path) -> None:
    """A delivery that fails for good is not swallowed: exit code 1 and the broker's own words."""
    topic = mock_kafka.topic("events", PARTITIONS)
    mock_kafka.produce(topic, events(500))
    made = Job(mock_kafka, tmp_path / "job", topic)
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 50)
    process = made.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode == 1, output
    assert "did not take a message" in output
    assert "the user needs the operation Write on the topic" in output
    assert "authoriz" in output.lower()
    assert "panicked" not in output, "frames of Rust"
    assert "Traceback" not in output
    mock_kafka.clear_errors(ApiKey.PRODUCE)
    made.run()
    assert len(made.ids()) == 500


def test_passing_faults_are_borne(mock_kafka: MockKafka, tmp_path: Path) -> None:
    """Retriable errors and a broken connection cost nothing but time."""
    topic = mock_kafka.topic("events", PARTITIONS)
    mock_kafka.produce(topic, events(1_000))
    made = Job(mock_kafka, tmp_path / "job", topic)
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.NOT_ENOUGH_REPLICAS, KafkaError._TRANSPORT])
    mock_kafka.push_errors(ApiKey.FETCH, [KafkaError._TRANSPORT])
    made.run()
    assert len(made.ids()) == 1_000


def test_two_processes_cannot_share_a_recovery_directory(tmp_path: Path) -> None:
    """The second is told which process holds it."""
    config = keeping_state_in(tmp_path)
    held = open_recovery(config)
    assert held is not None
    with pytest.raises(RecoveryError, match=f"process {os.getpid()}"):
        open_recovery(config)
    held.lock.close()
    again = open_recovery(config)
    assert again is not None
    again.lock.close()


def test_databases_of_a_start_that_was_killed_are_made_anew(tmp_path: Path) -> None:
    """A kill while the directory is set up leaves part of it, which no start could use."""
    opened = open_recovery(keeping_state_in(tmp_path))
    assert opened is not None
    opened.lock.close()
    files = sorted(tmp_path.glob("part-*.sqlite3"))
    files[0].unlink()
    files[1].write_bytes(b"")
    (tmp_path / "initialised").unlink()
    opened = open_recovery(keeping_state_in(tmp_path))
    assert opened is not None
    opened.lock.close()
    assert sorted(tmp_path.glob("part-*.sqlite3")) == files
    assert all(file.stat().st_size for file in files)


def test_prune_deletes_what_no_epoch_confirmed(tmp_path: Path) -> None:
    """Snapshots at or after the smallest frontier of the last execution belong to an epoch that never ended."""
    opened = open_recovery(keeping_state_in(tmp_path))
    assert opened is not None
    assert (opened.resume_epoch, opened.pruned) == (1, 0)
    files = sorted(tmp_path.glob("part-*.sqlite3"))
    for file in files:
        database = sqlite3.connect(file)
        columns = {t: [r[1] for r in database.execute(f"PRAGMA table_info({t})")] for t in ("exs", "fronts", "snaps")}
        database.close()
    assert set(columns["snaps"]) >= {"step_id", "state_key", "snap_epoch", "ser_change"}
    with sqlite3.connect(files[0]) as database:
        insert(database, "exs", columns["exs"], ex_num=0, cluster_name="c", worker_count=2, resume_epoch=1)
        insert(database, "fronts", columns["fronts"], ex_num=0, worker_index=0, worker_frontier=5)
        insert(database, "fronts", columns["fronts"], ex_num=0, worker_index=1, worker_frontier=4)
    with sqlite3.connect(files[1]) as database:
        for epoch in (2, 3, 4, 5):
            insert(database, "snaps", columns["snaps"], step_id="s", state_key="k", snap_epoch=epoch, ser_change=b"x")
    assert prune(tmp_path) == (4, 2)
    with sqlite3.connect(files[1]) as database:
        assert [row[0] for row in database.execute("SELECT snap_epoch FROM snaps")] == [2, 3]
    assert prune(tmp_path) == (4, 0)


def insert(database: sqlite3.Connection, table: str, columns: list[str], **values: Any) -> None:
    """A row of a table of Bytewax's; columns that are not named get 0."""
    row = [values.get(column, 0) for column in columns]
    database.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
