"""Windows of events: the rate from topic to topic beside that of plain events, the rows beside a group-by, memory.

    python benchmarks/windows.py [--events N] [--rounds R] [--json]

Requests of 100 services, one a message, on 4 partitions keyed by the service, up to 5 s out of order. One worker of
`ssm-stream run` reads them as plain events, and as windows of a minute with a count, a share, a mean and two quantiles;
each in a process of its own, in turn, on the same topic. The clock runs from before the first connection until the
broker has every prediction and the snapshots are written. `rows` compares what the builder makes of the events with
polars' group-by; `bytewax` has Bytewax's own windows do the same, in one process without a broker, beside ours.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from confluent_kafka import Producer
from measuring import Check, MissingError, check, child, hand_over, say, tell
from wire import PARTITIONS, cluster, create, delete, named, read

from ssm_stream.config import Config, parse_config
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.rows.window_builder import WindowBuilder

RATIO = 0.4
ENTITIES, A_SECOND, DISORDER = 100, 500, 5_000
BEGIN, MINUTE = 1_767_225_600_000, 60_000
CHUNK = 4_000
PLAIN = "entity: service, timestamp: at, features: [status, size], target: latency"
WINDOWS = """entity: service, timestamp: at, target: errors, features: [requests, mean, p50, p95],
  aggregate: {every: 1m, grace: 10s, columns: {requests: count, errors: {share: {status: {from: 500}}},
  mean: {mean: latency}, p50: {p50: latency}, p95: {p95: latency}, bytes: {sum: size}}}"""
BYTEWAX_EVENTS = 50_000


def requests(count: int) -> list[dict[str, Any]]:
    """Requests in the order in which they come."""
    rng = np.random.default_rng(0)
    at = BEGIN + np.sort(rng.integers(0, 1000 * max(count // A_SECOND, 1), count))
    come = np.argsort(at + rng.integers(0, DISORDER, count), kind="stable")
    service = rng.integers(0, ENTITIES, count)
    status = np.where(rng.random(count) < 0.02, 500, 200)
    latency, size = rng.lognormal(4, 0.7, count).round(1), rng.integers(100, 100_000, count)
    columns = (service[come], at[come], status[come], latency[come], size[come])
    return [
        {"service": f"service-{s:03d}", "at": t, "status": code, "latency": ms, "size": bytes_}
        for s, t, code, ms, bytes_ in zip(*(column.tolist() for column in columns), strict=True)
    ]


def configuration(event: str, broker: str = "b:1", source: str = "t", sink: str = "p", folder: str = "state") -> str:
    return (
        f"source: {{brokers: '{broker}', topic: {source}, group: {sink}}}\nevent: {{{event}}}\n"
        f"sinks: {{predictions: {sink}, alerts: {sink}-alerts, dead_letters: {sink}-dead}}\n"
        f"recovery: {{directory: '{folder}'}}\nops: {{address: null}}\n"
    )


def load(broker: str, topic: str, documents: list[dict[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for document in documents:
        hand_over(producer, topic, orjson.dumps(document), document["service"])
        producer.poll(0)
    if left := producer.flush(60):
        raise MissingError(f"{left} messages did not reach the broker within a minute")


def time_run(name: str, event: str, broker: str, source: str, count: int, folder: Path) -> dict[str, float]:
    """Run the product on the topic; returns its figures."""
    sink = f"{name}-{uuid.uuid4().hex[:8]}"
    topics = [sink, f"{sink}-alerts", f"{sink}-dead"]
    create(broker, topics)
    file = folder / f"{sink}.yaml"
    file.write_text(configuration(event, broker, source, sink, f"{folder / sink}-state"))
    job = {"broker": broker, "events": count, "source": source, "sink": sink, "partitions": PARTITIONS}
    figures: dict[str, float] = child("clients.py", job | {"config": str(file)}, "product", title=name)
    ids = [orjson.loads(message.value())["id"] for message in read(broker, sink)]
    if letters := sum(1 for _ in read(broker, f"{sink}-dead")):
        raise MissingError(f"{name}: {letters} dead letters")
    if len(set(ids)) != len(ids) or not ids:
        raise MissingError(f"{name}: {len(ids)} predictions, {len(set(ids))} of them distinct")
    delete(broker, topics)
    figures |= {"rate": count / figures["seconds"], "predictions": float(len(ids))}
    say(f"  {name}: {figures['rate']:,.0f} messages/s, {len(ids):,} predictions")
    return figures


def measure_rates(broker: str, folder: Path, documents: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    topic = named("requests")
    create(broker, [topic])
    load(broker, topic, documents)
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "windows": []}
    for number in range(rounds):
        say(f" round {number + 1}")
        for name, event in (("plain", PLAIN), ("windows", WINDOWS)):
            runs[name].append(time_run(name, event, broker, topic, len(documents), folder))
    delete(broker, [topic])
    ratios = [w["rate"] / p["rate"] for p, w in zip(runs["plain"], runs["windows"], strict=True)]
    rates = {name: round(statistics.median(each["rate"] for each in found)) for name, found in runs.items()}
    return {**rates, "ratio": statistics.median(ratios)}


def build(
    config: Config, documents: list[dict[str, Any]]
) -> tuple[dict[tuple[str, int], dict[str, float]], int, float]:
    """The rows of documents that have events; bytes that the builder holds; seconds in reader and builder."""
    reader, builder = MessageReader(config.event), WindowBuilder(config.event)
    rows: dict[tuple[str, int], dict[str, float]] = {}
    parts, began = [], time.perf_counter()
    for at in range(0, len(documents), CHUNK):
        messages, _ = reader.read(documents[at : at + CHUNK])
        parts.append(builder.add(messages, range(at, at + len(messages)), 0).events)
    seconds = time.perf_counter() - began
    held = builder.memory
    names = [*config.event.columns, *config.event.targets]
    for events in [*parts, builder.flush().events]:
        values = np.column_stack([events.features, events.target]).tolist()
        for name, ts, row in zip(events.entity, events.ts.tolist(), values, strict=True):
            if row[0]:
                rows[name, ts] = dict(zip(names, row, strict=True))
    return rows, held, seconds


def group_by(documents: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    frame = pl.DataFrame(documents).with_columns(window=(pl.col("at") // MINUTE + 1) * MINUTE - 1)
    latency = pl.col("latency")
    found = frame.group_by("service", "window").agg(
        requests=pl.len(),
        errors=(pl.col("status") >= 500).mean(),
        latencies=latency,
        p50=latency.sort().get((pl.len() * 50 + 99) // 100 - 1),
        p95=latency.sort().get((pl.len() * 95 + 99) // 100 - 1),
    )
    return {(row["service"], row["window"]): row for row in found.to_dicts()}


def measure_rows(documents: list[dict[str, Any]]) -> dict[str, float]:
    """How many rows differ from the group-by's, and the largest error of a quantile, as a share of it."""
    rows, *_ = build(parse_config(configuration(WINDOWS)), documents)
    expected = group_by(documents)
    differing, error = len(expected.keys() ^ rows.keys()), 0.0
    for key, want in expected.items():
        row = rows.get(key, {})
        exact = (want["requests"], want["errors"], math.fsum(want["latencies"]) / want["requests"])
        differing += tuple(row.get(name) for name in ("requests", "errors", "mean")) != exact
        error = max(error, *(abs(row.get(name, 0.0) / want[name] - 1.0) for name in ("p50", "p95")))
    say(f"  {len(expected):,} windows, {differing} differ from the group-by; quantiles within {100 * error:.2f} %")
    return {"rows": len(expected), "differing": differing, "quantile_error": error}


def measure_memory(documents: list[dict[str, Any]]) -> dict[str, float]:
    """Bytes that windows hold, of many times as many events in the same time over those of few."""
    config = parse_config(configuration(WINDOWS))
    few = [{**each, "at": BEGIN + i // 2} for i, each in enumerate(documents[: len(documents) // 10])]
    many = [{**each, "at": BEGIN + i // 20} for i, each in enumerate(documents)]
    held = [build(config, each)[1] for each in (few, many)]
    say(
        f"  {held[1] / ENTITIES:,.0f} bytes an entity with {len(many):,} events; {held[0] / ENTITIES:,.0f} with a tenth"
    )
    return {"bytes_an_entity": held[1] / ENTITIES, "growth": held[1] / held[0]}


def measure_bytewax(documents: list[dict[str, Any]]) -> dict[str, float]:
    """Events a second through Bytewax's windows, and through ours, from documents to rows."""
    import bytewax.operators as op
    import bytewax.operators.windowing as w
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink, TestingSource, run_main

    some, out = documents[:BYTEWAX_EVENTS], list[Any]()
    flow = Dataflow("windows")
    stream = op.input("in", flow, TestingSource([(each["service"], each) for each in some], batch_size=CHUNK))
    clock: Any = w.EventClock(
        ts_getter=lambda each: datetime.fromtimestamp(each["at"] / 1000, UTC),
        wait_for_system_duration=timedelta(seconds=10),
    )
    windower = w.TumblingWindower(length=timedelta(minutes=1), align_to=datetime(2026, 1, 1, tzinfo=UTC))

    def folded(state: list[float], each: dict[str, Any]) -> list[float]:
        state.append(each["latency"])
        return state

    found = w.fold_window("fold", stream, clock, windower, list, folded, lambda a, b: a + b)
    op.output("out", found.down, TestingSink(out))
    began = time.perf_counter()
    run_main(flow)
    theirs = len(some) / (time.perf_counter() - began)
    ours = len(some) / build(parse_config(configuration(WINDOWS)), some)[2]
    say(f"  Bytewax's windows: {theirs:,.0f} events/s; ours: {ours:,.0f}, from documents to rows in one process")
    return {"bytewax": theirs, "ours": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description="Windows of events: rate, rows and memory.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    options = parser.parse_args()
    documents = requests(options.events)
    figures: dict[str, Any] = {"rows": measure_rows(documents), "memory": measure_memory(documents)}
    figures["operators"] = measure_bytewax(documents)
    with tempfile.TemporaryDirectory() as temporary, cluster(Path(temporary)) as (broker, kind):
        say(f"broker: {kind}")
        figures["rates"] = measure_rates(broker, Path(temporary), documents, options.rounds)
    found: list[Check] = [
        check("windows, messages/s end to end over those of plain events", figures["rates"]["ratio"], ">=", RATIO),
        check("rows that differ from the group-by", figures["rows"]["differing"], "<=", 0),
        check("largest error of a quantile, share of it", figures["rows"]["quantile_error"], "<=", 1 / 128),
        check("memory of windows, bytes an entity", figures["memory"]["bytes_an_entity"], "<=", 40_000),
        check("memory of windows, ten times as many events over one time", figures["memory"]["growth"], "<=", 2.0),
        check(
            "rate over that of Bytewax's windows",
            figures["operators"]["ours"] / figures["operators"]["bytewax"],
            ">=",
            1.0,
        ),
    ]
    tell(found)
    if options.json:
        print(json.dumps({"checks": found, "broker": kind, **figures}, indent=2))
    sys.exit(0 if all(each["ok"] for each in found) else 1)


if __name__ == "__main__":
    main()
