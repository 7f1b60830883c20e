"""What sharing a topic by a group costs: rate, CPU and latency beside processes that have partitions of their own.

`scale_out.py --parts rate`. The rate is that of a topic that is full when the processes start, from the first result to
the last; the latency that of results at a rate that leaves most of a core idle. All deliver exactly once.
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
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from clients import FEATURES
from confluent_kafka import Consumer, Producer
from measuring import MissingError, check, hand_over, say
from wire import cluster, create, end, events, load, read

PARTITIONS, ENTITIES, PATIENCE = 8, 1000, 300.0
PACE, SECONDS = 2000, 20.0
"""Events a second of the latency's stream, and its length, s."""
SHARE, TWO = 0.95, 1.0
"""Bars: rate of a member by that of a process, of two members by that of two processes."""
SET_UPS: dict[str, list[dict[str, Any]]] = {
    "a process": [{}],
    "a member": [{"assignment": "group"}],
    "2 processes": [{"partitions": [0, 1, 2, 3]}, {"partitions": [4, 5, 6, 7]}],
    "2 members": [{"assignment": "group"}, {"assignment": "group"}],
}


def start(broker: str, topic: str, sink: str, parts: list[dict[str, Any]], folder: Path) -> list[subprocess.Popen[Any]]:
    """Start the processes of a set-up, whose results go to topics of their own."""
    create(broker, [sink, f"{sink}-alerts", f"{sink}-dead"])
    found = []
    for i, own in enumerate(parts):
        grouped = "assignment" in own
        state = {"state": {"store": str(folder / f"{sink}-store")}} if grouped else {}
        recovery = {"epoch_interval": "1s", **({} if grouped else {"directory": str(folder / f"{sink}-{i}")})}
        content = {
            "delivery": "exactly_once",
            "source": {"brokers": broker, "topic": topic, "group": f"{sink}{'' if grouped else f'-{i}'}", **own},
            "event": {"entity": "entity", "timestamp": "ts", "target": "target", "features": FEATURES},
            "sinks": {"predictions": sink, "alerts": f"{sink}-alerts", "dead_letters": f"{sink}-dead"},
            "ops": {"address": None},
            "recovery": recovery,
            **state,
        }
        file = folder / f"{sink}-{i}.yaml"
        file.write_bytes(orjson.dumps(content))
        with (folder / f"{sink}-{i}.log").open("wb") as log:
            command = [sys.executable, "-m", "ssm_stream", "run", str(file)]
            found.append(subprocess.Popen(command, stdout=log, stderr=log))
    return found


def await_results(broker: str, sink: str, count: int, processes: list[subprocess.Popen[Any]]) -> float:
    """Wait for so many results, end the processes, and return their CPU seconds."""
    consumer, deadline = Consumer({"bootstrap.servers": broker, "group.id": "ends"}), time.monotonic() + PATIENCE
    try:
        while end(consumer, sink, 4) < count:
            if time.monotonic() > deadline or any(each.poll() is not None for each in processes):
                raise MissingError(f"{sink}: not all of {count} results have come, or a process has ended")
            time.sleep(0.2)
    finally:
        consumer.close()
        for each in processes:
            each.send_signal(signal.SIGTERM)
    cpu = 0.0
    for each in processes:
        _, _, usage = os.wait4(each.pid, 0)
        each.returncode = 0
        cpu += usage.ru_utime + usage.ru_stime
    return cpu


def measure_rate(broker: str, topic: str, count: int, name: str, folder: Path) -> tuple[float, float]:
    """Events a second and µs of CPU an event of a set-up over a full topic."""
    sink = f"{topic}-{name.replace(' ', '-')}-{time.time_ns() % 10**8}"
    cpu = await_results(broker, sink, count, start(broker, topic, sink, SET_UPS[name], folder))
    stamps = np.array([message.timestamp()[1] for message in read(broker, sink)])
    return (len(stamps) - 1) / (np.ptp(stamps) / 1000), 1e6 * cpu / count


def measure_latency(broker: str, name: str, folder: Path) -> float:
    """The 99th percentile of the time from an event to its result, ms."""
    topic = f"paced-{name.replace(' ', '-')}-{time.time_ns() % 10**8}"
    create(broker, [topic], PARTITIONS)
    sink, count = f"{topic}-out", int(PACE * SECONDS)
    processes = start(broker, topic, sink, SET_UPS[name], folder)
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
    await_results(broker, sink, count, processes)
    thread.join()
    sent = {(m.partition(), m.offset()): m.timestamp()[1] for m in read(broker, topic)}
    delays = []
    for message in read(broker, sink):
        *_, partition, offset = orjson.loads(message.value())["id"].rsplit("-", 2)
        delays.append(message.timestamp()[1] - sent[int(partition), int(offset)])
    settled = np.sort(delays[len(delays) // 4 :])  # the first ones have waited for the start
    return float(np.percentile(settled, 99))


def report(count: int, rounds: int) -> dict[str, Any]:
    """Figures of each set-up, the medians of some rounds, and what has a bar."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in SET_UPS}
    p99: dict[str, list[float]] = {name: [] for name in ("a process", "a member")}
    with tempfile.TemporaryDirectory() as temporary, cluster(Path(temporary)) as (broker, word):
        topic = f"full-{time.time_ns() % 10**8}"
        create(broker, [topic], PARTITIONS)
        load(broker, topic, count, ENTITIES)
        say(f"{count:,} events of {len(FEATURES)} features, {ENTITIES:,} entities, {PARTITIONS} partitions, on {word}")
        for _ in range(rounds):
            for name, found in rates.items():
                found.append(measure_rate(broker, topic, count, name, Path(temporary)))
                say(f"{name}: {found[-1][0]:,.0f} events/s, {found[-1][1]:.2f} µs CPU an event")
            for name, delays in p99.items():
                delays.append(measure_latency(broker, name, Path(temporary)))
                say(f"{name}: 99 % of the results within {delays[-1]:.0f} ms")

    def ratio(one: str, other: str) -> float:
        return statistics.median(a[0] / b[0] for a, b in zip(rates[one], rates[other], strict=True))

    slower = statistics.median(a / b for a, b in zip(p99["a member"], p99["a process"], strict=True))
    checks = [
        check("rate of a member, by that of a process", ratio("a member", "a process"), ">=", SHARE),
        check("latency of a member, 99 %, by that of a process", slower, "<=", 1.0),
        check("rate of two members, by that of two processes", ratio("2 members", "2 processes"), ">=", TWO),
    ]
    return {"rates": rates, "p99_ms": p99, "checks": checks}
