"""What sharing a topic by a group costs: rate, CPU and latency beside processes that have partitions of their own.

`scale_out.py --parts rate`. A topic is full when the processes start. The rate is the steady one: from when each
partition has had results of the process that keeps it, until the first partition is done. That of the whole, from the
first result to the last, has what comes and goes in it: the second member joins what the first one reads already. The
latency is that of results at a rate that leaves most of a core idle. All deliver exactly once.

With `--other PYTHON`, the interpreter of an environment that has an earlier release, members are held against processes
of that one, too.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from clients import FEATURES
from confluent_kafka import Consumer, Producer
from measuring import MissingError, check, cpu_seconds, hand_over, say
from wire import cluster, create, end, events, load, read

PARTITIONS, ENTITIES, PATIENCE = 8, 1000, 300.0
PACE, SECONDS = 2000, 20.0
"""Events a second of the latency's stream, and its length, s."""
SHARE, TWO = 0.95, 1.0
"""Bars: rate of a member by that of a process, of two members by that of two processes."""
EARLIER = ", earlier"
"""In the names of set-ups: of the other release."""
SET_UPS: dict[str, list[dict[str, Any]]] = {
    "a process": [{}],
    "a member": [{"assignment": "group"}],
    "2 processes": [{"partitions": [0, 1, 2, 3]}, {"partitions": [4, 5, 6, 7]}],
    "2 members": [{"assignment": "group"}, {"assignment": "group"}],
}


class Rate(NamedTuple):
    """steady, whole: events/s; seconds: of the steady part; cpu_us: µs of CPU an event, starts included; steady_cpu_us:
    without"""

    steady: float
    whole: float
    seconds: float
    cpu_us: float
    steady_cpu_us: float


class Processes:
    """The processes of a set-up, whose results go to a topic of their own. python: that runs them"""

    def __init__(self, broker: str, topic: str, sink: str, name: str, folder: Path, python: str) -> None:
        self.sink, self._broker, self._folder = sink, broker, folder
        parts = SET_UPS[name.removesuffix(EARLIER)]
        create(broker, [sink, f"{sink}-alerts", f"{sink}-dead"])
        self._running = []
        # A checkout that is on the path goes before what the interpreter has.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" or python == sys.executable}
        for i, own in enumerate(parts):
            file = folder / f"{sink}-{i}.yaml"
            file.write_bytes(orjson.dumps(self._configuration(i, topic, own)))
            with self._log(i).open("wb") as log:
                command = [python, "-P", "-m", "ssm_stream", "run", str(file)]
                self._running.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))

    def _configuration(self, i: int, topic: str, own: dict[str, Any]) -> dict[str, Any]:
        sink, grouped = self.sink, "assignment" in own
        state = {"state": {"store": str(self._folder / f"{sink}-store")}} if grouped else {}
        recovery = {"epoch_interval": "1s", **({} if grouped else {"directory": str(self._folder / f"{sink}-{i}")})}
        return {
            "delivery": "exactly_once",
            "source": {"brokers": self._broker, "topic": topic, "group": f"{sink}{'' if grouped else f'-{i}'}", **own},
            "event": {"entity": "entity", "timestamp": "ts", "target": "target", "features": FEATURES},
            "sinks": {"predictions": sink, "alerts": f"{sink}-alerts", "dead_letters": f"{sink}-dead"},
            "ops": {"address": None},
            "recovery": recovery,
            **state,
        }

    def _log(self, i: int) -> Path:
        return self._folder / f"{self.sink}-{i}.log"

    def cpu(self) -> float:
        """CPU seconds of all so far."""
        return sum(cpu_seconds(each.pid) for each in self._running)

    def await_results(self, count: int) -> tuple[float, list[tuple[float, float]]]:
        """Wait for so many results, end the processes, and return their CPU seconds, and pairs of a time, s since 1970,
        and the CPU seconds until then."""
        consumer, deadline = Consumer({"bootstrap.servers": self._broker, "group.id": "ends"}), time.time() + PATIENCE
        samples = []
        try:
            while end(consumer, self.sink, 4) < count:
                if time.time() > deadline or any(each.poll() is not None for each in self._running):
                    raise MissingError(f"{self.sink}: not all of {count} results came, or a process has ended")
                samples.append((time.time(), self.cpu()))
                time.sleep(0.2)
            samples.append((time.time(), self.cpu()))
        finally:
            consumer.close()
            for each in self._running:
                each.send_signal(signal.SIGTERM)
        cpu = 0.0
        for each in self._running:
            _, _, usage = os.wait4(each.pid, 0)
            each.returncode = 0
            cpu += usage.ru_utime + usage.ru_stime
        return cpu, samples

    def settled(self) -> float:
        """Return when the last member took partitions over, s since 1970; 0 of processes."""
        lines = (line for i in range(len(self._running)) for line in self._log(i).read_bytes().splitlines())
        taken = (orjson.loads(line)["timestamp"] for line in lines if b'"partition_taken"' in line)
        return max((datetime.fromisoformat(each).timestamp() for each in taken), default=0.0)

    def results(self) -> Iterator[tuple[int, int, int]]:
        """Yield partition and offset of each event that has a result, and the time of this, ms since 1970."""
        for message in read(self._broker, self.sink):
            *_, partition, offset = message.value().rpartition(b'"id":"')[2].split(b'"')[0].rsplit(b"-", 2)
            yield int(partition), int(offset), message.timestamp()[1]


def _as_name(name: str) -> str:
    """Return a part of topics' names for a set-up, another one each time."""
    return f"{name.replace(',', '').replace(' ', '-')}-{time.time_ns() % 10**8}"


def measure_rate(broker: str, topic: str, count: int, name: str, folder: Path, python: str) -> Rate:
    """Measure a set-up over a full topic."""
    sink = f"{topic}-{_as_name(name)}"
    processes = Processes(broker, topic, sink, name, folder, python)
    cpu, samples = processes.await_results(count)
    found = np.array([(partition, ms) for partition, _, ms in processes.results()])
    partition, seconds = found[:, 0], found[:, 1] / 1000
    later = seconds >= processes.settled()
    own = [seconds[later & (partition == each)] for each in range(PARTITIONS)]
    if not all(map(len, own)):
        raise MissingError(f"{sink}: a partition was done before it had its last reader: more events (--scale)")
    begin, stop = max(each.min() for each in own), min(each.max() for each in own)
    steady = np.count_nonzero((seconds >= begin) & (seconds < stop))
    used = np.interp([begin, stop], *zip(*samples, strict=True))
    return Rate(
        steady / (stop - begin),
        (len(seconds) - 1) / np.ptp(seconds),
        stop - begin,
        1e6 * cpu / count,
        1e6 * float(used[1] - used[0]) / steady,
    )


def measure_latency(broker: str, name: str, folder: Path, python: str) -> float:
    """The 99th percentile of the time from an event to its result, ms."""
    topic = f"paced-{_as_name(name)}"
    create(broker, [topic], PARTITIONS)
    sink, count = f"{topic}-out", int(PACE * SECONDS)
    processes = Processes(broker, topic, sink, name, folder, python)
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 1})

    def feed() -> None:
        time.sleep(5.0)
        began = time.monotonic()
        for i, (key, event) in enumerate(events(count, ENTITIES)):
            hand_over(producer, topic, orjson.dumps(event), key)
            if i % 20 == 0:
                producer.poll(0)
                time.sleep(max(0.0, began + i / PACE - time.monotonic()))
        producer.flush(60)

    thread = threading.Thread(target=feed)
    thread.start()
    processes.await_results(count)
    thread.join()
    sent = {(m.partition(), m.offset()): m.timestamp()[1] for m in read(broker, topic)}
    delays = [ms - sent[partition, offset] for partition, offset, ms in processes.results()]
    settled = np.sort(delays[len(delays) // 4 :])  # the first ones have waited for the start
    return float(np.percentile(settled, 99))


def report(count: int, rounds: int, other: Path | None) -> dict[str, Any]:
    """Return the figures of each set-up, and what has a bar. other: interpreter that has another release"""
    pythons = dict.fromkeys(SET_UPS, sys.executable)
    if other is not None:
        pythons |= {f"{name}{EARLIER}": str(other) for name in ("a process", "2 processes")}
    rates: dict[str, list[Rate]] = {name: [] for name in pythons}
    p99: dict[str, list[float]] = {name: [] for name in pythons if name.startswith("a ")}
    with tempfile.TemporaryDirectory() as temporary, cluster(Path(temporary)) as (broker, word):
        topic = f"full-{time.time_ns() % 10**8}"
        create(broker, [topic], PARTITIONS)
        load(broker, topic, count, ENTITIES)
        say(f"{count:,} events of {len(FEATURES)} features, {ENTITIES:,} entities, {PARTITIONS} partitions, on {word}")
        for _ in range(rounds):
            for name, found in rates.items():
                found.append(measure_rate(broker, topic, count, name, Path(temporary), pythons[name]))
                one = found[-1]
                say(
                    f"{name}: {one.steady:,.0f} events/s for {one.seconds:.1f} s ({one.steady_cpu_us:.2f} µs CPU an "
                    f"event), {one.whole:,.0f} with the start ({one.cpu_us:.2f})"
                )
            for name, delays in p99.items():
                delays.append(measure_latency(broker, name, Path(temporary), pythons[name]))
                say(f"{name}: 99 % of the results within {delays[-1]:.0f} ms")

    def ratio(one: str, other: str, figure: str = "steady") -> float:
        pairs = zip(rates[one], rates[other], strict=True)
        return statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs)

    checks = []
    for release in ("", EARLIER) if other is not None else ("",):
        process, processes = f"a process{release}", f"2 processes{release}"
        slower = statistics.median(a / b for a, b in zip(p99["a member"], p99[process], strict=True))
        for figure in ("whole", "cpu_us", "steady_cpu_us"):
            one, two = ratio("a member", process, figure), ratio("2 members", processes, figure)
            say(f"{figure}: a member {one:.2f} times {process}, two members {two:.2f} times {processes}")
        checks += [
            check(f"rate of a member, by that of {process}", ratio("a member", process), ">=", SHARE),
            check(f"latency of a member, 99 %, by that of {process}", slower, "<=", 1.0),
            check(f"rate of two members, by that of {processes}", ratio("2 members", processes), ">=", TWO),
        ]
    figures = {name: [each._asdict() for each in found] for name, found in rates.items()}
    return {"rates": figures, "p99_ms": p99, "checks": checks}
