"""From produce to prediction: three processes, and the clock of one machine.

The sender puts the time of sending into each event's `ts`; the broker notes when it took the prediction
(`message.timestamp.type=LogAppendTime`), which says the same `ts` again. So nobody needs to read beside the product
while it is measured. Both times are whole milliseconds.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer
from measuring import Check, MissingError, check, child, cpu_seconds, running, say
from rich.console import Console
from rich.table import Table
from wire import FEATURES, LOGGER, PLAIN, STAMPED, configuration, create, delete, end, named, read

P99_MOST = {1_000: 10.0, 50_000: 50.0}  # events/s → ms
QUANTILES = [0.1, 1, 5, *range(10, 100, 10), 95, 98, 99, 99.5, 99.9, 100]
CHECKED = 1_000  # events/s
RATES = (CHECKED, 20_000, 50_000)
ENTITIES = 100


@contextlib.contextmanager
def product(broker: str, source: str, sink: str, folder: Path, text: str, behind: float = 120.0) -> Iterator[int]:
    """`ssm-stream run` on a configuration, ready: it has answered its first events. Gives its process's number.

    At the end it has so many seconds to answer what it is behind.
    """
    file, log = folder / f"{sink}.yaml", folder / f"{sink}.log"
    file.write_text(text)
    first = {"broker": broker, "topic": source, "rate": 10_000, "count": 1000, "entities": ENTITIES}
    child("sender.py", first)
    reader = Consumer({"bootstrap.servers": broker, "group.id": f"look-{sink}", "logger": LOGGER})
    with running([sys.executable, "-m", "ssm_stream", "run", str(file)], log) as process:
        deadline = time.monotonic() + 60
        while end(reader, sink, 1) < first["count"]:
            if process.poll() is not None or time.monotonic() > deadline:
                raise MissingError(f"the product did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield process.pid
        deadline = time.monotonic() + behind
        while (missing := end(reader, source, 1) - end(reader, sink, 1)) > 0:
            if process.poll() is not None or time.monotonic() > deadline:
                raise MissingError(f"{missing} events have no prediction:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
    reader.close()
    if process.returncode != 0:
        raise MissingError(f"the product ended with {process.returncode}:\n{log.read_text()[-2000:]}")


def measure(
    broker: str, folder: Path, rates: tuple[int, ...], warm: float, seconds: float, plain: bool
) -> dict[str, Any]:
    """Quantiles of the latency at each rate, one worker, one partition; default configuration, and plain beside it."""
    kinds = {"default": "", **({"plain": PLAIN} if plain else {})}
    return {
        f"{title} {rate}": at_rate(broker, folder, title, event, rate, warm, seconds)
        for title, event in kinds.items()
        for rate in rates
    }


def at_rate(
    broker: str, folder: Path, title: str, event: str, rate: int, warm: float, seconds: float
) -> dict[str, Any]:
    """One rate for `seconds`, after `warm` seconds of it.

    Raises:
        MissingError: an event has no prediction, or the broker kept no times.
    """
    source, sink = named(f"paced-{title}-{rate}"), named(f"answers-{title}-{rate}")
    # One partition: a consumer that waits on this broker keeps asking, which costs half a core each.
    create(broker, [source, sink, f"{sink}-alerts", f"{sink}-dead"], 1, STAMPED)
    job = {"broker": broker, "topic": source, "rate": rate, "count": int(rate * (warm + seconds)), "entities": ENTITIES}
    text = configuration(broker, source, sink, folder / f"{sink}-state", event)
    with product(broker, source, sink, folder, text) as process:
        before = cpu_seconds(process)
        sent = child("sender.py", job)
        busy = cpu_seconds(process) - before
    made, taken = [], []
    for message in read(broker, sink):
        kind, at = message.timestamp()
        if kind != TIMESTAMP_LOG_APPEND_TIME:
            raise MissingError("the broker does not note when it took a message: latency cannot be told")
        made.append(orjson.loads(message.value())["ts"])
        taken.append(at)
    ts, ms = np.array(made), np.array(taken) - np.array(made)
    counted = ms[ts >= sent["first_ms"] + warm * 1000]
    delete(broker, [source, sink, f"{sink}-alerts", f"{sink}-dead"])
    quantiles = {str(q): float(np.percentile(counted, q)) for q in QUANTILES}
    say(f"  {title}, {rate:,} events/s: p50 {quantiles['50']:.0f} ms, p99 {quantiles['99']:.0f} ms")
    took = (sent["last_ms"] - sent["first_ms"]) / 1000
    return {
        "configuration": title,
        "rate": rate,
        "sent_per_s": job["count"] / took,
        "sender_late_ms": sent["late_s"] * 1000,
        "warm_s": warm,
        "counted": len(counted),
        "cores": busy / took,
        "quantiles_ms": quantiles,
    }


def checks(measured: dict[str, Any]) -> list[Check]:
    """Of the default configuration."""
    found = {rate: measured.get(f"default {rate}") for rate in P99_MOST}
    return [
        check(f"latency p99 at {rate:,} events/s, one worker, ms", one["quantiles_ms"]["99"], "<=", P99_MOST[rate])
        for rate, one in found.items()
        if one is not None
    ]


def show(measured: dict[str, Any], console: Console) -> None:
    """p50 to the longest."""
    table = Table(title=f"From produce to prediction, ms: one worker, one partition, {len(FEATURES)} features")
    for column in [
        "configuration",
        "events/s",
        "sent/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "longest",
        "cores",
        "sender late",
    ]:
        table.add_column(column, justify="left" if column == "configuration" else "right", no_wrap=True)
    for row in measured.values():
        cells = [f"{row['quantiles_ms'][q]:.0f}" for q in ("50", "90", "99", "99.9", "100")]
        sent, cores, late = f"{row['sent_per_s']:,.0f}", f"{row['cores']:.2f}", f"{row['sender_late_ms']:.0f}"
        table.add_row(row["configuration"], f"{row['rate']:,}", sent, *cells, cores, late)
    console.print(table)
    warm = next(iter(measured.values()))["warm_s"]
    console.print(
        "From the sender's call of produce (it waits up to 1 ms for company) until the broker has the prediction, for "
        f"events later than {warm:g} s after the rate began. Cores: what the product's process used, with asking a "
        "broker that has nothing new. Sender late: by how much the sender was behind its schedule at worst; the "
        "time of sending is the true one."
    )
