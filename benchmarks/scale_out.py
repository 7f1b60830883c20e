"""Members of a group come, go, are killed and paused at random; is what they have done that of one process?

    python benchmarks/scale_out.py [--changes 30] [--calm] [--apart 25] [--work FOLDER] [--json]
    python benchmarks/scale_out.py --parts load [--scale 1] [--json]
    python benchmarks/scale_out.py --parts rate [--scale 1] [--rounds 3] [--other PYTHON] [--json]
    python benchmarks/scale_out.py --simulate [--cpu-us 10] [--gap 11.3] [--json]

The product reads a topic with `source.assignment: group` and `delivery: exactly_once` while events come at a steady
rate. Members join, leave (SIGTERM), are killed (SIGKILL) and halted past their session (SIGSTOP); with `--brokers` the
broker is killed, too. A member that has ended is started again, as a supervisor does. At the end every result, as a
`read_committed` consumer sees it, and every entity's state are compared with those of one engine that has read the same
events undisturbed.

With `--other PYTHON`, the interpreter of an environment that has another release, every second member is of that
release; after half of the changes all that start are: a rollback. Results of another model have other bytes.

With KAFKA_BOOTSTRAP_SERVERS and `--work FOLDER` a campaign goes on where it was, on the same topics: the figures are
those of all its parts. A gap is the time between two results of a partition; its cause is what was done meanwhile. With
`--apart` a change begins when the one before is over: the gaps are those of single failures.

`--parts load` measures what a state of 100,000 and 300,000 entities costs at the end of an epoch and at a start,
`--parts rate` what members cost beside processes that have partitions of their own.

`--simulate` measures what snapshots cost here, and works out what 1, 10 and 100 million entities need at 1 million
events/s: processes, memory, traffic to the store and failover.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer
from measuring import check, end_on_signals, hand_over, say, tell
from scale_out_check import Change, compare, gaps, gaps_of_changes, middle, result_times, summary
from scale_out_load import report as measure_load
from scale_out_plan import simulate
from scale_out_rate import report as measure_rates
from wire import cluster, create, named, read

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from brokers import LocalKafka, start_local

from ssm_stream.config import load_config

PARTITIONS, ENTITIES = 8, 64
EPOCH, SESSION = 1.0, 10.0
"""Seconds."""
GAP = 1.5
"""Seconds without a result that count as a gap."""
PATIENCE = 120.0
"""Seconds in which what is left must be processed."""
PLANNED, KILLED = 3.0, SESSION + 5.0
"""Bars: median gap of a planned change, longest of a kill, s."""


def message(i: int) -> tuple[str, bytes]:
    """Key and value of an event by its number; one in 97 is no event, some have jumps."""
    draw = random.Random(i)
    name = f"m{draw.randrange(ENTITIES)}"
    if i % 97 == 0:
        return name, b"no event %d" % i
    a, b = round(draw.gauss(0, 1), 4), round(draw.gauss(0, 1), 4)
    target = round(a - 2 * b + draw.gauss(0, 0.1) + 30 * (draw.random() < 0.003), 4)
    return name, orjson.dumps({"entity": name, "ts": 1_700_000_000_000 + i, "a": a, "b": b, "target": target})


class Feeder(threading.Thread):
    """Sends events at a rate until `done` is set. sent: number of the next"""

    def __init__(self, broker: str, topic: str, rate: int, sent: int) -> None:
        super().__init__(daemon=True)
        self._broker, self._topic, self._rate, self.sent = broker, topic, rate, sent
        self.done = threading.Event()

    def run(self) -> None:
        producer = Producer({"bootstrap.servers": self._broker, "linger.ms": 5, "enable.idempotence": True})
        began, first = time.monotonic(), self.sent
        while not self.done.is_set():
            name, value = message(self.sent)
            hand_over(producer, self._topic, value, name)
            self.sent += 1
            if self.sent % 50 == 0:
                producer.poll(0)
                time.sleep(max(0.0, began + (self.sent - first) / self._rate - time.monotonic()))
        assert producer.flush(60) == 0


class Campaign:
    """Topics, members, and what was done to them. work: folder of the configuration, the store and the logs"""

    def __init__(self, broker: str, work: Path, options: argparse.Namespace) -> None:
        self.broker, self.work, self.options = broker, work, options
        self.record = work / "campaign.json"
        if self.record.exists():
            self.state = json.loads(self.record.read_text())
        else:
            self.state = {"topics": {}, "sent": 0, "did": {}, "changes": [], "ended": 0, "person": 0, "members": 0}
            for kind, n in (("events", PARTITIONS), ("predictions", PARTITIONS), ("alerts", 1), ("dead", 1)):
                self.state["topics"][kind] = named(kind)
                create(broker, [named(kind)], n)
            self._configure()
        self.rng = random.Random(options.seed + self.state["members"])
        self.did = Counter(self.state["did"])
        self.members: dict[str, subprocess.Popen[bytes]] = {}
        self.started: dict[str, float] = {}
        self.paused: dict[str, float] = {}
        self.broker_process: LocalKafka | None = None
        self.rolled_back = False  # with `--other`: every member that starts is of that release

    @property
    def file(self) -> Path:
        return self.work / "monitor.yaml"

    def _configure(self) -> None:
        topics = self.state["topics"]
        content: dict[str, Any] = {
            "delivery": self.options.delivery,
            "source": {"brokers": self.broker, "topic": topics["events"], "assignment": "group"},
            "event": {"entity": "entity", "timestamp": "ts", "features": ["a", "b"]},
            "sinks": {"predictions": topics["predictions"], "alerts": topics["alerts"], "dead_letters": topics["dead"]},
            "state": {"store": str(self.work / "store")},
            "recovery": {"epoch_interval": f"{EPOCH}s"},
            "ops": {"address": None},
        }
        if self.options.protocol == "consumer":
            content["source"]["kafka"] = {"group.protocol": "consumer"}
        self.file.write_bytes(orjson.dumps(content))

    def join(self, name: str = "") -> None:
        """Start a member, a new one or one that has ended."""
        if not name:
            self.state["members"] += 1
            name = f"m{self.state['members']}"
        other = self.options.other is not None and (self.rolled_back or int(name[1:]) % 2 == 0)
        with (self.work / f"{name}.log").open("ab") as log:
            python = str(self.options.other) if other else sys.executable
            command = [python, "-P", "-m", "ssm_stream", "run", str(self.file)]
            self.members[name] = subprocess.Popen(command, stdout=log, stderr=log)
        self.started[name] = time.monotonic()

    def note(self, what: str, kind: str) -> None:
        """Count something that was done."""
        self.did[what] += 1
        self.state["changes"].append([kind, int(1000 * time.time())])

    def supervise(self) -> None:
        """Wake members whose pause is over, and start those again that have ended."""
        for name, until in list(self.paused.items()):
            if time.monotonic() > until:
                self.members[name].send_signal(signal.SIGCONT)
                del self.paused[name]
        for name, process in list(self.members.items()):
            if process.poll() is not None:
                self.state["ended"] += 1
                self.state["person"] += time.monotonic() - self.started[name] < 5
                log = (self.work / name).with_suffix(".log").read_text().splitlines()
                say("\n".join([f"{name} has ended with {process.returncode}; the end of its log:", *log[-20:]]))
                self.note("ended", "kill")
                self.join(name)

    def change(self) -> None:
        """Do something to a member."""
        awake = [name for name in self.members if name not in self.paused]
        what, calm = self.rng.random(), self.options.calm
        if len(awake) < 2 or (len(self.members) < self.options.most and what < (0.5 if calm else 0.3)):
            self.join()
            self.note("joined", "planned")
        elif what < (1.0 if calm else 0.5):
            if len(awake) < 3 and not calm:
                return
            name = self.rng.choice(awake)
            self.note("left", "planned")
            self.members[name].terminate()
            self.members.pop(name).wait(60)
        elif self.broker_process is not None and what > 0.8 and self.rng.random() < 0.6:
            self.note("broker killed", "broker")
            self.broker_process.stop(signal.SIGKILL)
            time.sleep(self.rng.uniform(1, 8))
            self.broker_process.start()
        elif what < 0.8:
            name = self.rng.choice(awake)
            self.note("killed", "kill")
            self.members[name].kill()
            self.members[name].wait()
            self.join(name)
        else:
            name = self.rng.choice(awake)
            self.note("paused", "pause")
            self.members[name].send_signal(signal.SIGSTOP)
            self.paused[name] = time.monotonic() + self.rng.uniform(SESSION + 2, 2.5 * SESSION)

    def run(self) -> None:
        """Disturb the members so many times, then let them end what is left."""
        feeder = Feeder(self.broker, self.state["topics"]["events"], self.options.rate, self.state["sent"])
        self.join()
        self.join()
        time.sleep(6)
        feeder.start()
        time.sleep(4)
        before, end = self.did.total(), time.monotonic() + self.options.seconds
        try:
            while self.did.total() - before < self.options.changes and time.monotonic() < end:
                self.rolled_back = 2 * (self.did.total() - before) >= self.options.changes
                self.change()
                wait = self.options.apart or self.rng.uniform(*((4, 8) if self.options.calm else (2, 7)))
                until = time.monotonic() + wait
                while time.monotonic() < until:
                    self.supervise()
                    time.sleep(0.2)
            while self.paused:
                self.supervise()
                time.sleep(0.2)
            feeder.done.set()
            feeder.join()
            self.state["sent"] = feeder.sent
            self._finish()
        finally:
            feeder.done.set()
            for process in self.members.values():
                process.send_signal(signal.SIGCONT)
                process.terminate()
            for process in self.members.values():
                process.wait(60)
        self.state["did"] = dict(self.did)
        self.record.write_text(json.dumps(self.state))

    def _finish(self) -> None:
        """Wait until consumers see a prediction or a dead letter for every message."""
        topics, deadline = self.state["topics"], time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.supervise()
            seen = sum(sum(1 for _ in read(self.broker, topics[kind])) for kind in ("predictions", "dead"))
            if seen >= self.state["sent"]:
                return
            time.sleep(1)

    def figures(self) -> dict[str, Any]:
        """Everything that was done so far, beside an undisturbed process."""
        outcomes, states = compare(load_config(self.file), self.broker)
        changes = [Change(*each) for each in self.state["changes"]]
        times = result_times(self.broker, self.state["topics"]["predictions"])
        found = summary(gaps(times, changes, GAP))
        apart = bool(self.options.apart)
        planned, kills = (gaps_of_changes(times, changes, kind) if apart else [] for kind in ("planned", "kill"))
        total = {name: sum(getattr(each, name) for each in outcomes.values()) for name in ("lost", "twice", "other")}
        checks = [
            check("messages lost", total["lost"], "<=", 0),
            check("messages with other bytes", total["other"], "<=", 0),
            check("states that differ", states["differing"], "<=", 0),
            check("members that needed a person", self.state["person"], "<=", 0),
        ]
        if self.options.delivery == "exactly_once":
            checks.append(check("messages twice", total["twice"], "<=", 0))
        # Where several are down at once, a rebalance waits for the sessions of all.
        if planned:
            checks.append(check("gap of a planned change, median, s", middle(planned), "<=", PLANNED))
        if kills:
            checks.append(check("gap of a kill, longest, s", max(kills), "<=", KILLED))
        return {
            "events": self.state["sent"],
            "done": dict(self.did),
            "changes": self.did.total(),
            "ended_by_themselves": self.state["ended"],
            "gaps_of_planned_changes": planned,
            "gaps_of_kills": kills,
            "topics": {topic: each._asdict() for topic, each in outcomes.items()},
            **total,
            "states": states,
            "gaps": found,
            "checks": checks,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=30, help="joins, leaves, kills and pauses, default 30")
    parser.add_argument("--seconds", type=float, default=1e9, help="end after so long, whatever the changes")
    parser.add_argument("--apart", type=float, help="seconds between two changes; default: 2 to 7, calm 4 to 8")
    parser.add_argument("--calm", action="store_true", help="only joins and polite leaves")
    parser.add_argument("--rate", type=int, default=2000, help="events a second")
    parser.add_argument("--most", type=int, default=4, help="members at once")
    parser.add_argument("--delivery", default="exactly_once", choices=("exactly_once", "at_least_once"))
    parser.add_argument("--protocol", default="classic", choices=("classic", "consumer"))
    parser.add_argument("--other", type=Path, help="interpreter that has another release: mixed, then all of it")
    parser.add_argument("--brokers", action="store_true", help="kill the broker, too: one of the campaign's own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder of a campaign that goes on")
    parser.add_argument("--parts", choices=("changes", "load", "rate"), default="changes", help="what is measured")
    parser.add_argument("--scale", type=float, default=1.0, help="of entities (load) or events (rate)")
    parser.add_argument("--rounds", type=int, default=3, help="of --parts rate")
    parser.add_argument("--simulate", action="store_true", help="what many entities need, by the costs measured here")
    parser.add_argument("--cpu-us", type=float, default=10.0, help="of --simulate: CPU an event, µs")
    parser.add_argument("--gap", type=float, default=11.3, help="of --simulate: s from a kill to the load, as measured")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    options = parser.parse_args()
    end_on_signals()
    if options.parts == "load":
        return report(measure_load(options.scale), as_json=options.json)
    if options.parts == "rate":
        return report(measure_rates(int(2e6 * options.scale), options.rounds, options.other), as_json=options.json)
    if options.simulate:
        return report(simulate(options.cpu_us, options.gap), as_json=options.json)
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        own = start_local(Path(temporary) / "broker") if options.brokers else None
        if own is not None:
            stack.callback(own.close)
            broker, what = own.bootstrap_servers, f"a fresh {own.kind}, which is killed at times"
        else:
            broker, what = stack.enter_context(cluster(Path(temporary)))
        work = options.work or Path(temporary) / "work"
        work.mkdir(parents=True, exist_ok=True)
        say(f"broker: {what}; logs in {work}")
        campaign = Campaign(broker, work, options)
        campaign.broker_process = own
        campaign.run()
        figures = campaign.figures()
    say(json.dumps({name: figures[name] for name in ("events", "done", "ended_by_themselves", "gaps")}))
    return report(figures, as_json=options.json)


def report(figures: dict[str, Any], *, as_json: bool) -> int:
    """Print checks and figures; return the exit code."""
    tell(figures["checks"])
    if as_json:
        print(json.dumps(figures))
    return 0 if all(each["ok"] for each in figures["checks"]) else 1


if __name__ == "__main__":
    sys.exit(main())
