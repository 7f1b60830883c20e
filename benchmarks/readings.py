"""Readings a second from topic to topic: each message one value of one signal, and a prediction for each row of them.

    python benchmarks/readings.py [--readings N] [--rounds R] [--json]

5 signals of 100 entities, on 4 partitions keyed by the entity: one worker of `ssm-stream run` reads them, makes rows,
predicts, learns and writes, in a process of its own. The clock runs from before the first connection until the broker
has every prediction and the snapshots are written. Beside it, in the same round, the same rows as plain events. Each
form must give as many predictions as there are rows, no dead letter, and the predictions of the plain form, to the bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from confluent_kafka import Producer
from measuring import Check, MissingError, check, child, hand_over, say, tell
from wire import PARTITIONS, cluster, create, delete, named, read

RATE = 150_000.0
ENTITIES = 100
SIGNALS = ["f0", "f1", "f2", "f3", "target"]
READINGS = "layout: readings, timestamp: ts, target: target, features: [f0, f1, f2, f3], max_age: 1h, "


class Form(NamedTuple):
    """How the values are sent. event: the section that reads them; rate: its readings have a bar"""

    name: str
    title: str
    event: str
    bar: bool = False


FORMS = [
    Form("plain", "the same rows as events", "entity: entity, timestamp: ts, features: [f0, f1, f2, f3]"),
    Form("fields", "readings, entity and signal apart", READINGS + "entity: entity, signal: signal", bar=True),
    Form("tag", "readings, one text", READINGS + "tag: '{entity}.{signal}'", bar=True),
    Form("grace", "readings, grace: 500ms", READINGS + "tag: '{entity}.{signal}', grace: 500ms"),
    Form("grid", "readings, every: 1s", READINGS + "tag: '{entity}.{signal}', every: 1s"),
]


def rows(count: int) -> Iterator[tuple[str, int, list[float]]]:
    """Entity, time and values of rows: a second of all entities after another."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(ENTITIES, len(SIGNALS) - 1))
    for second in range(-(-count // ENTITIES)):
        x = rng.normal(size=weights.shape)
        y = (x * weights).sum(1) + 0.1 * rng.normal(size=ENTITIES)
        for e, values in enumerate(np.column_stack([x, y]).round(6).tolist()):
            yield f"PUMP-{e:03d}", 1_700_000_000_000 + 1000 * second + e, values


def messages(form: Form, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and content of the messages."""
    for entity, ts, values in rows(count):
        if form.name == "plain":
            yield entity, {"entity": entity, "ts": ts, **dict(zip(SIGNALS, values, strict=True))}
            continue
        for signal, value in zip(SIGNALS, values, strict=True):
            who = {"entity": entity, "signal": signal} if form.name == "fields" else {"tag": f"{entity}.{signal}"}
            yield entity, {**who, "ts": ts, "value": value}


def load(broker: str, topic: str, form: Form, count: int) -> float:
    """Fill a topic; returns the mean size of a message."""
    # Idempotent: a first request that is tried again must not change the order.
    settings = {"linger.ms": 20, "queue.buffering.max.messages": 1_000_000, "enable.idempotence": True}
    producer = Producer({"bootstrap.servers": broker, **settings})
    size = number = 0
    for key, content in messages(form, count):
        value = orjson.dumps(content)
        size, number = size + len(value), number + 1
        hand_over(producer, topic, value, key)
        producer.poll(0)
    if left := producer.flush(60):
        raise MissingError(f"{left} messages did not reach the broker within a minute")
    return size / number


def time_form(form: Form, broker: str, source: str, count: int, folder: Path) -> tuple[dict[str, float], list[Any]]:
    """Run the product on one form; returns its figures, and its predictions in order."""
    sink = f"{form.name}-{uuid.uuid4().hex[:8]}"
    topics = [sink, f"{sink}-alerts", f"{sink}-dead"]
    create(broker, topics)
    file = folder / f"{sink}.yaml"
    file.write_text(
        f"source: {{brokers: '{broker}', topic: {source}, group: {sink}}}\nevent: {{{form.event}}}\n"
        f"sinks: {{predictions: {sink}, alerts: {sink}-alerts, dead_letters: {sink}-dead}}\n"
        f"recovery: {{directory: '{folder / sink}-state'}}\nops: {{address: null}}\n"
    )
    readings = count if form.name == "plain" else count * len(SIGNALS)
    job = {"broker": broker, "events": readings, "source": source, "sink": sink, "partitions": PARTITIONS}
    figures: dict[str, float] = child("clients.py", job | {"config": str(file)}, "product", title=form.title)
    found = [orjson.loads(message.value()) for message in read(broker, sink)]
    if letters := sum(1 for _ in read(broker, f"{sink}-dead")):
        raise MissingError(f"{form.title}: {letters} dead letters")
    if len({each["id"] for each in found}) != len(found):
        raise MissingError(f"{form.title}: {len(found)} predictions, some with the same id")
    delete(broker, topics)
    figures |= {"rate": readings / figures["seconds"], "rows": float(len(found))}
    figures["cpu_us"] = figures["cpu_seconds"] / readings * 1e6
    say(f"  {form.title}: {figures['rate']:,.0f} messages/s, {figures['cpu_us']:.2f} µs of CPU a message")
    return figures, sorted([each["entity"], each["ts"], each["y"], each["yhat"], each["yhat_upper"]] for each in found)


def measure(broker: str, folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Every form once a round."""
    topics = {form.name: named(form.name) for form in FORMS}
    topics |= dict.fromkeys(("tag", "grace", "grid"), topics["tag"])
    create(broker, sorted(set(topics.values())))
    sizes = {name: load(broker, topics[name], form, count) for form in FORMS[:3] for name in [form.name]}
    found: dict[str, list[dict[str, float]]] = {form.name: [] for form in FORMS}
    differing = dict.fromkeys(topics, 0)
    for number in range(rounds):
        say(f" round {number + 1}")
        expected: list[Any] = []
        for form in FORMS:
            figures, predictions = time_form(form, broker, topics[form.name], count, folder)
            found[form.name].append(figures)
            if form.name == "plain":
                expected = predictions
            elif form.name != "grid":
                # A row waits for a later reading: the last one of each entity is still to come.
                kept = {(entity, ts) for entity, ts, *_ in predictions}
                mine = [each for each in expected if tuple(each[:2]) in kept]
                missing = len(expected) - len(mine)
                wrong = missing > (ENTITIES if form.name == "grace" else 0)
                differing[form.name] += sum(a != b for a, b in zip(mine, predictions, strict=False)) + wrong * missing
    delete(broker, sorted(set(topics.values())))
    return {
        "rows": count,
        "bytes": {name: round(size, 1) for name, size in sizes.items()},
        "forms": {
            name: {key: statistics.median(each[key] for each in runs) for key in ("rate", "cpu_us", "rows", "seconds")}
            for name, runs in found.items()
        },
        "differing": differing,
    }


def checks(measured: dict[str, Any]) -> list[Check]:
    """The bars: the rate of each form, and no prediction that differs from the plain form's."""
    forms = measured["forms"]
    speed = [(f"{form.title}, readings/s end to end", round(forms[form.name]["rate"])) for form in FORMS if form.bar]
    differing = [(f"{name}: predictions that differ", number) for name, number in measured["differing"].items()]
    return [*(check(*each, ">=", RATE) for each in speed), *(check(*each, "<=", 0) for each in differing)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Readings a second end to end, one worker.")
    parser.add_argument("--readings", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, cluster(Path(temporary)) as (broker, kind):
        say(f"broker: {kind}")
        measured = measure(broker, Path(temporary), options.readings // len(SIGNALS), options.rounds)
    found = checks(measured)
    tell(found)
    if options.json:
        print(json.dumps({"checks": found, "broker": kind, **measured}, indent=2))
    sys.exit(0 if all(each["ok"] for each in found) else 1)


if __name__ == "__main__":
    main()
