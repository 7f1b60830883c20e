"""Workers and brokers of Apache Kafka are killed, by turns and at once; is what is left that of a run in peace?

    python benchmarks/torture.py [--rounds 10] [--seed 0] [--json]

Three nodes (KRaft, replication 3, `min.insync.replicas` 2) and events at a steady rate. `ssm-stream run` reads them
with `exactly_once` (seeds 0, 1, 3, 4, …) or `at_least_once` (2, 5, …), each life by chance with one worker, three, or
as a cluster of two processes. A round:

1. lives that end by SIGKILL, at any time from their start on;
2. a broker is killed, every other time two of three; meanwhile a life or two are killed;
3. the broker is started again; the time from its first answer to the first prediction, as a `read_committed` consumer
   sees it, of an event that was sent after that answer.

In the middle all brokers are restarted one after the other under load. Then the job goes on to the end of the topic,
and a second job with topics and a recovery directory of its own reads the same events with one worker, disturbed by
nobody. Every prediction, alert and dead letter of both must be the same bytes, and the state of every entity the same
bits.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from measuring import Check, check, end_on_signals, hand_over, say, tell
from scale_out import message
from torture_job import PARTITIONS, SHAPES, Difference, Job, compare

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from brokers.nodes import KafkaNodes, Node

from ssm_stream.kafka.client import LOGGER

RATE = 200
"""Events a second."""
LIFE = 1.5
"""Seconds from its start that a process lives, at most."""
AWAY = (0.2, 3.0)
"""Seconds that a broker is away before lives are killed and it is started again, which takes as long again."""
NEW_MOST = 30.0
"""Bar: seconds from a broker's return to the first new prediction."""
PATIENCE = 120.0
FIRST = 1_700_000_000_000
"""Time of event 0, ms; each is 1 ms later than the one before."""
QUICK = {"logger": LOGGER, "reconnect.backoff.max.ms": 500, "topic.metadata.refresh.interval.ms": 2_000}
"""Clients of the campaign notice soon what a broker does: their waiting is not the product's."""


class Load(threading.Thread):
    """Sends events at a rate until `done` is set. sent: number of the next"""

    def __init__(self, brokers: str, topic: str, rate: int = RATE) -> None:
        super().__init__(daemon=True)
        self._brokers, self._topic, self._rate, self.sent = brokers, topic, rate, 0
        self.done = threading.Event()

    def run(self) -> None:
        own = {"bootstrap.servers": self._brokers, "linger.ms": 5, "max.in.flight": 1, "message.timeout.ms": 600_000}
        producer, began = Producer({**own, **QUICK}), time.monotonic()
        while not self.done.is_set():
            name, value = message(self.sent)
            hand_over(producer, self._topic, value, name)
            self.sent += 1
            producer.poll(0)
            if self.sent % 10 == 0:
                time.sleep(max(0.0, began + self.sent / self._rate - time.monotonic()))
        if left := producer.flush(60):
            say(f"{left} events did not reach the brokers")


class Watch(threading.Thread):
    """Sees predictions as a consumer does. newest: number of the latest event that is predicted"""

    def __init__(self, brokers: str, topic: str) -> None:
        super().__init__(daemon=True)
        own = {"bootstrap.servers": brokers, "group.id": f"watch-{topic}", "enable.auto.commit": False}
        self._consumer = Consumer({**own, **QUICK, "isolation.level": "read_committed", "fetch.wait.max.ms": 50})
        self._consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        self.newest, self.done = -1, threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            for each in self._consumer.consume(1_000, 0.1):
                if each.error() is None:
                    self.newest = max(self.newest, orjson.loads(each.value())["ts"] - FIRST)
        self._consumer.close()


class Campaign:
    """Three nodes, a job that is killed and one that is not.

    Args:
        folder: for all that is written
        seed: of all that is left to chance
        prepare: is given each node before it is formatted
        source: more settings of the product's section
    """

    def __init__(
        self, folder: Path, seed: int, prepare: Callable[[Node], None] = lambda _: None, **source: Any
    ) -> None:
        self.folder, self.rng, self.source = folder, random.Random(seed), source
        self.kafka = KafkaNodes(folder / "kafka", prepare)
        topic = self.kafka.topic("events", PARTITIONS)
        delivery = "at_least_once" if seed % 3 == 2 else "exactly_once"
        self.job = Job(self.kafka, folder / "job", topic, delivery, **source)
        self.load = Load(self.kafka.bootstrap_servers, topic)
        self.watch = Watch(self.kafka.bootstrap_servers, self.job.sinks["predictions"])
        self.brokers_killed = self.brokers_stopped = 0
        self.returns: list[float] = []
        self.strikes = 0

    def begin(self) -> None:
        """Start a life of any shape, unless one goes on."""
        if not self.job.processes:
            self.job.start(self.rng.choice(SHAPES))

    def live(self) -> None:
        """A life that ends by SIGKILL: at any time from its start on, or after it has said that it goes."""
        self.begin()
        if self.rng.random() < 0.7:
            self.job.await_started(20)
        time.sleep(self.rng.uniform(0, LIFE))
        self.job.kill(self.rng)

    def strike(self) -> None:
        """Kill a broker, or two, and lives meanwhile; measure how soon predictions come again."""
        self.kafka.await_in_sync(20)
        self.strikes += 1
        gone = self.rng.sample(self.kafka.nodes, 2 if self.strikes % 2 == 0 else 1)
        self.begin()
        if self.rng.random() < 0.7:
            self.job.await_started(20)
            time.sleep(self.rng.uniform(0, 1))
        self.kafka.stop(gone)
        self.brokers_killed += len(gone)
        time.sleep(self.rng.uniform(*AWAY))
        if self.rng.random() < 0.6:
            self.job.kill(self.rng)
            self.live()
            self.begin()
        self.kafka.start(gone)
        self.recovered(f"{len(gone)} killed")

    def recovered(self, what: str) -> None:
        """Measure the time from now to the first prediction of an event that is sent from now on."""
        began, sent = time.monotonic(), self.load.sent
        while self.watch.newest < sent and time.monotonic() - began < PATIENCE:
            self.job.check()
            self.begin()
            time.sleep(0.02)
        self.returns.append(time.monotonic() - began)
        say(f"{what}: {self.returns[-1]:.1f} s to the first new prediction")

    def roll(self) -> None:
        """Restart all brokers, one after the other, as an upgrade does, while one life goes on."""
        self.begin()
        for node in self.kafka.nodes:
            self.kafka.await_in_sync(30)
            self.kafka.stop([node], signal.SIGTERM)
            self.brokers_stopped += 1
            self.kafka.start([node])
            self.recovered("stopped and started")

    def run(self, rounds: int) -> dict[str, Any]:
        """All of it. Returns the figures."""
        self.watch.start()
        self.load.start()
        for i in range(rounds):
            for _ in range(self.rng.randint(1, 2)):
                self.live()
            self.strike()
            if i == rounds // 2:
                self.roll()
            self.job.kill(self.rng)
            say(f"round {i + 1}/{rounds}: {self.job.kills} workers and {self.brokers_killed} brokers killed")
        found = self.ended()
        return {
            "delivery": self.job.delivery,
            "worker kills": self.job.kills,
            "broker kills": self.brokers_killed,
            "clean stops of brokers": self.brokers_stopped,
            "events": self.load.sent,
            **found._asdict(),
            "ends": [each._asdict() for each in self.job.ended],
            "returns": [round(each, 2) for each in self.returns],
        }

    def ended(self) -> Difference:
        """Go on to the end of the topic in peace, and compare with a job that nobody has disturbed."""
        self.load.done.set()
        self.load.join()
        self.watch.done.set()
        self.kafka.await_in_sync(30)
        calm = Job(self.kafka, self.folder / "calm", self.job.topic, "at_least_once", **self.source)
        codes = self.job.finish(), calm.finish()
        if any(codes):
            raise RuntimeError(f"to the end of the topic: {codes}\n{self.job.said()[-2000:]}{calm.said()[-2000:]}")
        return compare(self.job, calm)

    def close(self) -> None:
        self.load.done.set()
        self.watch.done.set()
        for process in self.job.processes:
            process.kill()
        self.kafka.close()


def checks_of(figures: dict[str, Any], workers: int = 300, brokers: int = 100) -> list[Check]:
    """Figures beside their bars; those for kills are of a whole campaign."""
    return [
        check("lost", figures["lost"], "<=", 0),
        check("twice", figures["twice"], "<=", 0),
        check("other bits", figures["other"] + figures["states_that_differ"], "<=", 0),
        check("process ends by itself", len(figures["ends"]), "<=", 0),
        check("worker kills", figures["worker kills"], ">=", workers),
        check("broker kills", figures["broker kills"], ">=", brokers),
        check("broker's return to the first new prediction, s", max(figures["returns"]), "<=", NEW_MOST),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=80, help="3 to 6 kills of workers each, 1 or 2 of brokers (80)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="leave all logs behind, as where a fault is found")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    options = parser.parse_args()
    end_on_signals()
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    campaign = Campaign(folder, options.seed)
    keep = True  # where something is found, the logs say why
    try:
        figures = campaign.run(options.rounds)
        checks = checks_of(figures)
        keep = options.keep or not all(each["ok"] for each in checks if each["relation"] == "<=")
    finally:
        campaign.close()
        if keep:
            say(f"logs in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    say(json.dumps({name: value for name, value in figures.items() if name != "ends"}))
    tell(checks)
    if options.json:
        print(json.dumps({"checks": checks, **figures}))
    return 0 if all(each["ok"] for each in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
