"""Do explanations add up to what production said, and do alerts come again to the same bits?

    python benchmarks/explain.py [--data FOLDER] [--json]

Sums: on every event of two recordings, the prediction is taken apart (base, constant, contributions, rest) just before
the production engine makes it; the sum of the parts is held to what the engine then says. The first recording is the
bundled one; the others are the .csv.gz files in FOLDER that have the columns entity, ts and target.

Alerts: the product runs over a topic of a fleet with jumps, drifts and outliers, and is killed once; then 100 of its
alerts, drawn at random, are made again from the topic, each from the beginning, and compared byte by byte.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Producer
from measuring import MissingError, check, end_on_signals, running, say, tell
from wire import cluster, create, named, read

from ssm_stream.config import Config, load_config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import explain
from ssm_stream.evaluate.examples import PARKING, example_file
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.flow.reproduce_alert import parse_alert_id, reproduce_alert
from ssm_stream.ingest.events import EventReader

OFF_MOST = 1e-5
ALERTS = 100
COLUMNS = ("entity", "ts", "target")


def recordings(folder: Path | None, most: int) -> list[Path]:
    """The bundled recording, and those of the folder that fit."""
    found = [example_file(PARKING.recording)]
    for path in sorted(folder.glob("*.csv.gz")) if folder is not None else ():
        first = next(iter(Recording(path)))
        if path.name != found[0].name and all(name in first for name in COLUMNS):
            found.append(path)
    return found[:most]


def configured(path: Path) -> Config:
    """All numeric columns as features, but for labels and other candidates for the target."""
    first = list(islice(Recording(path), 100))
    names = [
        name
        for name in first[0]
        if name not in COLUMNS
        and not name.startswith(("label_", "alt_target"))
        and all(isinstance(row[name], int | float | None) for row in first)
    ]
    event = {"entity": "entity", "timestamp": "ts", "target": "target", "features": names[:16]}
    return parse_config(json.dumps({"source": {"brokers": "none:1", "topic": "events"}, "event": event}))


def sums(path: Path, limit: int) -> dict[str, Any]:
    """Largest relative difference between the parts' sum and the production prediction, over all events."""
    config = configured(path)
    engine, worst, count = Engine(config), 0.0, 0
    events, _ = EventReader(config.event).read(list(islice(Recording(path), limit)))
    began = time.perf_counter()
    for t in range(len(events)):
        one = events.take(np.array([t]))
        parts = None
        if one.entity[0] in engine and engine.target_engines[0].store.view(one.entity[0]) is not None:
            try:
                parts = explain(engine.target_engines[0], one)
            except KeyError:
                parts = None
        said, _ = engine.process(one)
        if parts is not None:
            total = parts.base + parts.constant + parts.rest + sum(part.contribution for part in parts.parts)
            yhat = float(said.yhat[0])
            worst = max(worst, abs(total - yhat) / max(abs(yhat), 1e-9))
            count += 1
    say(f"  {path.name}: {count:,} predictions taken apart in {time.perf_counter() - began:.0f} s, worst {worst:.2e}")
    return {"recording": path.name, "events": count, "largest_relative_difference": worst}


def documents(count: int, entities: int) -> list[tuple[str, dict[str, Any]]]:
    """A fleet whose relations drift and jump, with outliers."""
    rng = np.random.default_rng(1)
    w = rng.normal(size=(entities, 3))
    out = []
    for i in range(count):
        e = int(rng.integers(entities))
        x = rng.normal(size=3).round(4)
        if rng.random() < 0.0005:
            w[e] = rng.normal(size=3)
        y = float(x @ w[e] + 0.1 * rng.normal() + 20 * (rng.random() < 0.001))
        document = {"entity": f"m{e:03d}", "ts": 1_700_000_000_000 + 1000 * i, "target": round(y, 4)}
        out.append((document["entity"], {**document, **{f"f{j}": float(x[j]) for j in range(3)}}))
    return out


def alerts(broker: str, folder: Path, count: int, entities: int, wanted: int) -> dict[str, Any]:
    """Run the product, kill it once, make alerts again."""
    source, sink = named("explained"), named("said")
    create(broker, [source, sink, f"{sink}-alerts", f"{sink}-dead"])
    producer = Producer({"bootstrap.servers": broker})
    for key, document in documents(count, entities):
        producer.produce(source, orjson.dumps(document), key)
        producer.poll(0)
    producer.flush(60)
    file = folder / "explained.yaml"
    file.write_text(
        f"source: {{brokers: '{broker}', topic: {source}}}\n"
        "event: {entity: entity, timestamp: ts, features: [f0, f1, f2]}\n"
        f"sinks: {{predictions: {sink}, alerts: {sink}-alerts, dead_letters: {sink}-dead}}\n"
        f"recovery: {{directory: '{folder / 'recovery'}', epoch_interval: 500ms}}\nops: {{address: null}}\n"
        "alerts: {anomaly: {budget: 1 per 500 events}, drift: {budget: 1 per 500 events}}\nstate: {shards: 2}\n"
        f"audit: {{directory: '{folder / 'audit'}'}}\n"
    )
    command = [sys.executable, "-m", "ssm_stream", "run", str(file)]
    with running(command, folder / "run.log") as process:
        while sum(1 for _ in read(broker, sink)) < count // 2:
            if process.poll() is not None:
                raise MissingError((folder / "run.log").read_text()[-2000:])
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running([*command, "--until-eof"], folder / "run.log") as process:
        if process.wait(300) != 0:
            raise MissingError((folder / "run.log").read_text()[-2000:])
    sent = {orjson.loads(m.value())["id"]: m.value() for m in read(broker, f"{sink}-alerts")}
    say(f"  {len(sent)} alerts of {count:,} events")
    if len(sent) < wanted:
        raise MissingError(f"only {len(sent)} alerts to draw {wanted} from")
    chosen = random.Random(0).sample(sorted(sent), wanted)
    config, same, seconds, events = load_config(file), 0, 0.0, 0
    for text in chosen:
        parsed = parse_alert_id(text)
        assert parsed is not None
        found = reproduce_alert(config, parsed, sent[text])
        same += bool(found.same)
        seconds, events = seconds + found.seconds, events + found.events
    say(f"  {same} of {wanted} are the same; {events:,} events again in {seconds:.0f} s")
    return {"alerts": len(sent), "replayed": wanted, "same": same, "events": events, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Do explanations add up, and do alerts come again to the same bits?")
    parser.add_argument("--data", type=Path, help="folder with recordings (.csv.gz) for the sums")
    parser.add_argument("--recordings", type=int, default=3, help="of them, the bundled one included (3)")
    parser.add_argument("--limit", type=int, default=50_000, help="rows of a recording (50,000)")
    parser.add_argument("--events", type=int, default=60_000, help="of the fleet whose alerts are made again")
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    arguments = parser.parse_args()
    end_on_signals()
    chosen = recordings(arguments.data, arguments.recordings)
    found = [sums(path, arguments.limit) for path in chosen]
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as name, cluster(Path(name)) as (broker, word):
        say(f"on {word}")
        again = alerts(broker, Path(name), arguments.events, 60, ALERTS)
    checks = [
        check(f"contributions add up, {one['recording']}, {one['events']:,} events, largest relative difference",
              one["largest_relative_difference"], "<=", OFF_MOST)
        for one in found
    ]  # fmt: skip
    checks.append(check(f"alerts made again to the same bits, of {again['replayed']}", again["same"], ">=", ALERTS))
    tell(checks)
    if arguments.json:
        print(json.dumps({"checks": checks, "sums": found, "alerts": again}, indent=2))


if __name__ == "__main__":
    main()
