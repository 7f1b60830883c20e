"""A job that is killed: its topics, its processes by turns of one and three workers and a cluster of two, what is left.

The product runs as a user starts it (`ssm-stream run`), with its own settings but for short epochs and a long
`source.wait`.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from measuring import say

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from brokers import Kafka, free_port
from scale_out_check import Digests, Outcome, digest

from ssm_stream.config import Config, load_config
from ssm_stream.recovery.reader import read_state

PARTITIONS, SHARDS = 4, 6
SHAPES = ("one worker", "three workers", "two processes")
START = 240.0
"""Seconds that a start may take, on a busy machine and with brokers that are away."""
WAIT = 120.0
"""`source.wait`: on a busy machine a broker that starts again takes longer than the default, half a minute."""
WORDS = 4_000
"""Characters of a log that are shown."""


class Ended(NamedTuple):
    """A process that has ended though nobody ended it, and its last words."""

    code: int
    words: str


class Job:
    """A configuration, and the processes that run it.

    Args:
        kafka: the nodes
        folder: a new one
        topic: events
        delivery: `exactly_once` or `at_least_once`
        source: more settings of the section

    Attributes:
        sinks: `predictions`, `alerts`, `dead` → topic
        ended: processes that have ended by themselves
        kills: processes that were killed
    """

    def __init__(self, kafka: Kafka, folder: Path, topic: str, delivery: str, **source: Any) -> None:
        self.kafka, self.folder, self.topic, self.delivery = kafka, folder, topic, delivery
        folder.mkdir(parents=True)
        self.sinks = {
            kind: kafka.topic(kind, n) for kind, n in (("predictions", PARTITIONS), ("alerts", 1), ("dead", 1))
        }
        content = {
            "delivery": delivery,
            "source": {"brokers": kafka.bootstrap_servers, "topic": topic, "wait": WAIT, **source},
            "event": {"entity": "entity", "timestamp": "ts", "features": ["a", "b"]},
            "sinks": {
                "predictions": self.sinks["predictions"],
                "alerts": self.sinks["alerts"],
                "dead_letters": self.sinks["dead"],
            },
            "state": {"shards": SHARDS},
            "recovery": {"directory": str(folder / "recovery"), "epoch_interval": "300ms"},
            "ops": {"address": None},
        }
        self.path = folder / "monitor.yaml"
        self.path.write_bytes(orjson.dumps(content))  # JSON is YAML
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = folder / "log"
        self.log.touch()
        self.ended: list[Ended] = []
        self.kills = 0
        self._from = 0

    @property
    def config(self) -> Config:
        return load_config(self.path)

    def start(self, shape: str = SHAPES[0], *options: str) -> None:
        """Start it; what it says is added to the log."""
        each: list[list[str]] = [["-w", "3" if shape == SHAPES[1] else "1"]]
        if shape == SHAPES[2]:
            addresses = f"127.0.0.1:{free_port()};127.0.0.1:{free_port()}"
            each = [["-i", str(i), "-a", addresses] for i in range(2)]
        self._from = self.log.stat().st_size
        command = [sys.executable, "-m", "ssm_stream", "run", str(self.path), *options]
        with self.log.open("ab") as log:
            self.processes = [subprocess.Popen([*command, *own], stdout=log, stderr=log) for own in each]

    def said(self) -> str:
        """What it has said since the last start."""
        with self.log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode(errors="replace")

    def await_started(self, seconds: float = START) -> bool:
        """Wait until all processes have said that they have started. Returns whether they have."""
        deadline = time.monotonic() + seconds
        while len(re.findall('"event": "started"', self.said())) < len(self.processes):
            if time.monotonic() > deadline or self.over():
                return False
            time.sleep(0.02)
        return True

    def over(self) -> bool:
        """Return True if a process has ended."""
        return any(process.poll() is not None for process in self.processes)

    def kill(self, rng: random.Random) -> None:
        """End one process by SIGKILL, a cluster's other one with it: by itself, as its partner is gone, or by us."""
        self.check()
        if not self.processes:
            return
        victim = self.processes.pop(rng.randrange(len(self.processes)))
        victim.kill()
        victim.wait()
        self.kills += 1
        for other in self.processes:
            try:
                other.wait(5)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()
                self.kills += 1
        self.processes = []

    def check(self) -> None:
        """Note processes that have ended by themselves; the rest of a cluster ends with them."""
        if not self.over():
            return
        code = next(code for process in self.processes if (code := process.poll()) is not None)
        self.ended.append(Ended(code, self.said()[-WORDS:]))
        say(f"ENDED BY ITSELF with {code}: {self.ended[-1].words}")
        self.stop()

    def stop(self, seconds: float = 60.0) -> int:
        """End it by SIGTERM. Returns the largest exit code."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        codes = [abs(process.returncode) for process in self.processes]
        self.processes = []
        return max(codes, default=0)

    def finish(self, seconds: float = 180.0) -> int:
        """Go on to the end of the topic, undisturbed. Returns the exit code."""
        self.start(SHAPES[0], "--until-eof")
        code = self.processes[0].wait(seconds)
        self.processes = []
        return code

    def told(self) -> dict[str, Digests]:
        """By kind, what a `read_committed` consumer sees."""
        return {
            kind: Counter(digest(m.key(), m.value()) for m in self.kafka.read(topic, timeout=120))
            for kind, topic in self.sinks.items()
        }

    def states(self, partitions: int = PARTITIONS) -> dict[str, str]:
        """Entity and partition → hash of the state in the recovery directory."""
        kept, hashes = read_state(self.folder / "recovery"), dict[str, str]()
        for shard in kept.chains:
            engine = kept.engine(shard, self.config)
            hashes |= {f"{name} {p}": engine.state_hash(name, p) for name in engine.names for p in range(partitions)}
        return hashes


class Difference(NamedTuple):
    """Of messages of all kinds, and of states, beside the undisturbed job. repeated: told twice at least once"""

    messages: int
    lost: int
    twice: int
    other: int
    repeated: int
    states: int
    states_that_differ: int


def compare(job: Job, calm: Job) -> Difference:
    """What a job that was killed has left, beside one that nobody disturbed."""
    outcomes, repeated = list[Outcome](), 0
    found, wanted = job.told(), calm.told()
    for kind, expected in wanted.items():
        got = found[kind]
        lost = len(expected.keys() - got.keys())
        other = sum(n for each, n in got.items() if each not in expected)
        more = sum(max(n - expected[each], 0) for each, n in got.items() if each in expected)
        repeated += more if job.delivery == "at_least_once" else 0
        outcomes.append(Outcome(expected.total(), lost, more if job.delivery == "exactly_once" else 0, other))
    states, kept = calm.states(), job.states()
    differing = sum(states.get(name) != kept.get(name) for name in states.keys() | kept.keys())
    total = [sum(column) for column in zip(*outcomes, strict=True)]
    return Difference(*total, repeated, len(states), differing)
