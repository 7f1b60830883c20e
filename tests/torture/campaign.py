"""Kill the product at random and at chosen moments, and compare what is left with an engine that nobody disturbed.

    python tests/torture/campaign.py --events 200000 --kills 60

Events, some of them no events at all, lie on a broker of the campaign's own. `victim.py` runs over them with
`delivery: exactly_once`, by turns with one and three workers, and ends each time by SIGKILL: at a random time, or at
one of its `PLACES`. In between the recovery directory's disk is full, or read-only. Then a last run goes to the end
of the topic, and these must hold, by what a `read_committed` consumer sees:

- every event has its predictions and alerts, every other message its dead letter, each once;
- each is, byte for byte, what the engine says that has seen the same events in one piece;
- every entity's state is that engine's, to the bit;
- an episode begins once, and is told of in order.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # last: it has a torture of its own

from brokers import Kafka, start_local
from confluent_kafka import Message
from forked import Forked
from measuring import check, say

from ssm_stream.config import Config, load_config
from ssm_stream.engine.engine import Engine
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import Chunk, OutputBatch, ShardBatch
from ssm_stream.recovery.reader import read_state
from torture.victim import PLACES

PARTITIONS, SHARDS, ENTITIES = 4, 3, 60
VICTIM = Path(__file__).with_name("victim.py").read_text(encoding="utf-8")
BATCH = 50
LIFE = 15.0
"""Seconds of events that a run gets, at its pace: more than it lives, so that a slow machine has some for all runs."""
SIZE = 64 << 20
"""Bytes of the recovery directory's disk."""


def messages(n: int, seed: int = 0) -> list[tuple[bytes, bytes]]:
    """(key, value): events of machines whose relation changes at times, with jumps; one in 97 is no event."""
    rng = np.random.default_rng(seed)
    x, who = rng.normal(size=(n, 2)).round(4), rng.integers(0, ENTITIES, n)
    turn = np.where(np.arange(n) // 2_000 % 2, 1.0, -1.0)
    y = (x[:, 0] - 2 * turn * x[:, 1] + 0.1 * rng.normal(size=n) + 30 * (rng.random(n) < 0.003)).round(4)
    rows = zip(who.tolist(), x.tolist(), y.tolist(), range(n), strict=True)
    return [
        (b"m%d" % e, b"no event %d" % i)
        if i % 97 == 0
        else (b"m%d" % e, orjson.dumps({"entity": f"m{e}", "ts": 1_700_000_000_000 + i, "a": a, "b": b, "target": t}))
        for e, (a, b), t, i in rows
    ]


class Told(NamedTuple):
    """What is to be on the output topics, and the states that are left: messages as (key, value)."""

    predictions: Counter[tuple[bytes | None, bytes | None]]
    alerts: Counter[tuple[bytes | None, bytes | None]]
    dead: Counter[tuple[bytes | None, bytes | None]]
    states: dict[str, str]


def undisturbed(config: Config, read: list[Message], batch: int = 5_000) -> Told:
    """One engine a shard, in one piece."""
    assert config.sinks.predictions is not None
    decoder, encoder = Decoder(config), Encoder(config)
    engines: dict[str, Engine] = {}
    counts: dict[str, Counter[tuple[bytes | None, bytes | None]]] = {}
    for partition in range(PARTITIONS):
        mine = [m for m in read if m.partition() == partition]
        for at in range(0, len(mine), batch):
            for key, item in decoder.decode(Chunk(config.source.topic, partition, mine[at : at + batch])):
                if isinstance(item, ShardBatch):
                    engine = engines.setdefault(key, Engine(config))
                    output = encoder.encode(item, *engine.process(item.events, partition, encoder.event_ids(item)))
                else:
                    assert isinstance(item, OutputBatch)
                    output = item
                for record in output.records:
                    name = record.key.encode() if isinstance(record.key, str) else record.key
                    counts.setdefault(record.topic, Counter())[name, record.value] += 1
    states = {name: state for engine in engines.values() for name, state in hashes(engine).items()}
    sinks = config.sinks
    return Told(*(counts.get(str(t), Counter()) for t in (sinks.predictions, sinks.alerts, sinks.dead_letters)), states)


def hashes(engine: Engine) -> dict[str, str]:
    """Entity and partition → hash of its state."""
    return {f"{name} {p}": engine.state_hash(name, p) for name in engine.names for p in range(PARTITIONS)}


class Fault(NamedTuple):
    """What is done to one run, and how it ended: exit code and last words."""

    name: str
    code: int
    words: str


class Campaign:
    """A broker, a topic and a recovery directory, and runs that are disturbed."""

    def __init__(self, kafka: Kafka, folder: Path, n: int, seed: int) -> None:
        self.kafka, self.folder, self.rng = kafka, folder, random.Random(seed)
        self.n, self.faults = n, list[Fault]()
        self.pace = 0.0
        self.topics = {
            kind: self.kafka.topic(kind, partitions)
            for kind, partitions in (("events", PARTITIONS), ("predictions", 3), ("alerts", 1), ("dead", 1))
        }
        self.kafka.produce(self.topics["events"], messages(n, seed))
        self.directory = folder / "recovery"
        self.directory.mkdir()
        self.disk = _mount(self.directory)
        content = {
            "delivery": "exactly_once",
            "source": {
                "brokers": self.kafka.bootstrap_servers,
                "topic": self.topics["events"],
                "wait": "10s",
                "batch": BATCH,
            },
            "event": {"entity": "entity", "timestamp": "ts", "features": ["a", "b"]},
            "sinks": {
                "predictions": self.topics["predictions"],
                "alerts": self.topics["alerts"],
                "dead_letters": self.topics["dead"],
            },
            "state": {"shards": SHARDS},
            "recovery": {"directory": str(self.directory), "epoch_interval": "100ms"},
        }
        self.path = folder / "config.yaml"
        self.path.write_bytes(orjson.dumps(content))

    @property
    def config(self) -> Config:
        return load_config(self.path)

    def start(self, place: str = "", count: int = 1, seconds: float = 0.0) -> subprocess.Popen[str]:
        workers = self.rng.choice([1, 3])
        options = map(str, (self.path, workers, self.pace, place, count, seconds))
        return Forked(*options, code=VICTIM, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def note(self, name: str, process: subprocess.Popen[str], timeout: float = 90.0) -> Fault:
        """Wait for the end."""
        try:
            words = process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"{name}: still running:\n{process.communicate()[0][-3000:]}") from None
        fault = Fault(name, process.returncode, words)
        self.faults.append(fault)
        return fault

    def kill(self, place: str) -> Fault:
        """One run that kills itself there."""
        count = 1 if place.startswith("recovery") else self.rng.randint(1, 40 if place == "an event read" else 12)
        seconds = 0.0
        if "frontier" in place or place == "recovery: a state loaded":
            seconds = self.rng.choice([0.0, 0.001, 0.003, 0.01, 0.03])
        return self.note(place, self.start(place, count, seconds))

    def kill_at_random(self) -> Fault:
        """One run, killed from outside at any time after it has said that it goes."""
        process = self.start()
        time.sleep(1.0 + 3.0 * self.rng.random())
        process.kill()
        return self.note("any time", process)

    def fill_disk(self) -> Fault:
        """A run whose recovery directory's disk is full after a while."""
        process = self.start()
        time.sleep(1.5 + self.rng.random())
        filler = self.directory / "filler"
        try:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
            return self.note("disk full", process)
        finally:
            filler.unlink()

    def read_only(self) -> Fault:
        """A run whose recovery directory cannot be written."""
        _remount(self.directory, "ro")
        try:
            return self.note("recovery directory read-only", self.start())
        finally:
            _remount(self.directory, "rw")

    def finish(self) -> None:
        """To the end of the topic, undisturbed."""
        self.pace = 0.0
        process = self.start()
        words = process.communicate(timeout=60 + self.n / 1_000)[0]
        assert process.returncode == 0, words[-3000:]

    def found(self) -> Told:
        """What consumers see, and the states in the recovery directory."""
        seen = [
            Counter((m.key(), m.value()) for m in self.kafka.read(self.topics[kind], timeout=60 + self.n / 5_000))
            for kind in ("predictions", "alerts", "dead")
        ]
        kept, states = read_state(self.directory), dict[str, str]()
        for shard in kept.chains:
            states |= hashes(kept.engine(shard, self.config))
        return Told(*seen, states)

    def close(self) -> None:
        if self.disk:
            subprocess.run(["umount", str(self.directory)], check=False, capture_output=True)


def _mount(directory: Path) -> bool:
    """Give the folder a small disk of its own, where we may."""
    size = f"size={SIZE}"
    return not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(directory)], capture_output=True
    ).returncode


def _remount(directory: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(directory)], check=True, capture_output=True)


def orphans(alerts: Counter[tuple[bytes | None, bytes | None]]) -> list[str]:
    """Episodes that begin twice, go on or end without a beginning, or have no number."""
    told = sorted((orjson.loads(value or b"") for _, value in alerts), key=lambda alert: alert["source"]["offset"])
    open_: dict[tuple[str, str], bool] = {}
    wrong = []
    for alert in told:
        episode = (alert["entity"], alert["kind"])
        if (alert["phase"] == "started") == open_.get(episode, False):
            wrong.append(alert["id"])
        open_[episode] = alert["phase"] != "recovered"
    return wrong


def campaign(
    kafka: Kafka, folder: Path, n: int, kills: int, seed: int, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """All of it. Returns the figures."""
    made = Campaign(kafka, folder, n, seed)
    try:
        progress("the engine that nobody disturbs")
        wanted = undisturbed(made.config, made.kafka.read(made.topics["events"]))
        plan = [*PLACES, *["any time"] * max(kills // 4, 1)]
        steps = [plan[i % len(plan)] for i in range(kills)]
        others = ["disk full", "read-only"]
        others *= max(kills // 25, 1)
        steps += others
        made.rng.shuffle(steps)
        made.pace = BATCH * LIFE * len(steps) / n
        struck = 0
        for i, step in enumerate(steps):
            if step in PLACES:
                fault = made.kill(step)
            elif step == "any time":
                fault = made.kill_at_random()
            elif not made.disk:
                progress(f"{step}: skipped, no file system can be mounted here")
                continue
            else:
                fault = made.fill_disk() if step == "disk full" else made.read_only()
            struck += fault.code == -signal.SIGKILL
            progress(f"{i + 1}/{len(steps)} {fault.name}: {fault.code}")
            if fault.code not in (-signal.SIGKILL, 0, 1):
                raise AssertionError(f"{fault.name} ended with {fault.code}:\n{fault.words[-3000:]}")
            if fault.code == 1 and "error: " not in fault.words.lower():
                raise AssertionError(f"{fault.name} ended without a reason:\n{fault.words[-3000:]}")
        made.finish()
        found = made.found()
        lost = [sum((getattr(wanted, k) - getattr(found, k)).values()) for k in ("predictions", "alerts", "dead")]
        extra = [sum((getattr(found, k) - getattr(wanted, k)).values()) for k in ("predictions", "alerts", "dead")]
        differing = sum(found.states.get(name) != state for name, state in wanted.states.items())
        return {
            "events": n,
            "kills": struck,
            "runs": len(made.faults) + 1,
            "faults": dict(Counter((fault.name, fault.code) for fault in made.faults)),
            "lost": sum(lost),
            "extra": sum(extra),
            "alerts": sum(wanted.alerts.values()),
            "dead letters": sum(wanted.dead.values()),
            "entities": len(wanted.states),
            "states that differ": differing + len(set(found.states) - set(wanted.states)),
            "orphans": len(orphans(found.alerts)) - len(orphans(wanted.alerts)),
        }
    finally:
        made.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=60, help="runs that are killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    kafka = start_local(folder / "broker")
    try:
        figures = campaign(kafka, folder, options.events, options.kills, options.seed, say)
    finally:
        kafka.close()
        shutil.rmtree(folder, ignore_errors=True)
    faults = figures.pop("faults")
    for (name, code), count in sorted(faults.items()):
        say(f"{count:4d} × {name}: {'killed' if code < 0 else 'ended by itself' if code == 0 else 'refused'}")
    rows = [
        ("events", figures["events"], ">=", 200_000),
        ("kills", figures["kills"], ">=", 50),
        ("lost", figures["lost"], "<=", 0),
        ("twice or wrong", figures["extra"], "<=", 0),
        ("states that differ", figures["states that differ"], "<=", 0),
        ("orphans among alerts", figures["orphans"], "<=", 0),
    ]
    checks = [check(*row) for row in rows]
    for one in checks:
        say(f"{one['name']:24} {one['value']:>10} {one['relation']} {one['bar']} {'ok' if one['ok'] else 'MISSED'}")
    if options.json:
        print(json.dumps({"checks": checks}))
    sys.exit(not all(one["ok"] for one in checks))


if __name__ == "__main__":
    main()
