"""Forgetting an incident: the same bits as if it had been a planned stop, and how fast the events are read again.

    python benchmarks/rewind.py [--json] [--windows 20] [--events 1000000] [--entities 10000]

Bits: a flow of 24 machines reads a topic in five parts. For each of 20 seeds, a copy of its state goes back to a random
time without one to four random stretches of random machines, and `ssm-stream run` reads on to the end. Another flow has
these stretches as `alerts.maintenance` and reads the topic from the beginning. The states of all shards are compared
byte by byte, and the topics of predictions and alerts must not have grown.

Rate: a fleet reads a million events (plain backfill, with its predictions), is set back to before them, and reads them
again. From both, the time of a run that has nothing to read is subtracted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml
from confluent_kafka import Producer
from measuring import MissingError, check, end_on_signals, say, tell
from wire import cluster, configuration, create, events, named, read

from ssm_stream.config import load_config
from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.recovery.generations.report import list_generations
from ssm_stream.recovery.reader import read_state
from ssm_stream.recovery.settings_files import with_stored_features

RATE_LEAST = 0.9
"""Of the rate of a plain backfill."""
START, STEP = 1_700_000_000_000, 60_000
MACHINES, ROWS, PARTS = 24, 6000, 5


def command(*arguments: str | Path) -> tuple[str, float]:
    """Output and seconds of an `ssm-stream` command.

    Raises:
        MissingError: it failed.
    """
    began = time.perf_counter()
    call = [sys.executable, "-m", "ssm_stream", *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise MissingError(f"{' '.join(call)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout, time.perf_counter() - began


def machine_rows() -> list[tuple[str, dict[str, Any]]]:
    """Keys and events of machines, with jumps that alert; some are late, some come without a value."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(ROWS, 2)).round(4)
    who = rng.integers(0, MACHINES, ROWS)
    y = (x * rng.normal(size=(MACHINES, 2))[who]).sum(1) + 0.1 * rng.normal(size=ROWS)
    for at in range(1000, ROWS, 400):
        y[at : at + 100] += rng.choice([-1, 1], 100) * 10 * 1.5 ** ((at - 1000) // 400)
    ts = START + STEP * np.arange(ROWS) - (rng.random(ROWS) < 0.02) * STEP * rng.integers(1, 30, ROWS)
    missing = rng.random(ROWS) < 0.03
    return [
        (f"m{e}", {"entity": f"m{e}", "ts": int(t), "x1": a, "x2": b, "target": None if gone else v})
        for e, (a, b), v, t, gone in zip(
            who.tolist(), x.tolist(), y.round(5).tolist(), ts.tolist(), missing.tolist(), strict=True
        )
    ]


def fill(broker: str, topic: str, rows: list[tuple[str, dict[str, Any]]]) -> None:
    """Send rows, each to the partition of its key."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "partitioner": "murmur2_random"})
    for key, event in rows:
        while True:
            try:
                producer.produce(topic, orjson.dumps(event), key)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if left := producer.flush(120):
        raise MissingError(f"{left} events did not reach the broker")


def content(broker: str, topic: str, sink: str, directory: Path) -> dict[str, Any]:
    """The configuration of the machines."""
    return {
        "source": {"brokers": broker, "topic": topic, "group": sink},
        "event": {"entity": "entity", "timestamp": "ts", "target": "target", "features": ["x1", "x2"]},
        "model": {"warmup": 30},
        "alerts": {"anomaly": {"recover_after": 5, "cooldown": 0}},
        "sinks": {"predictions": sink, "alerts": f"{sink}-alerts", "dead_letters": f"{sink}-dead"},
        "state": {"shards": 2},
        "recovery": {"directory": str(directory)},
        "ops": {"address": None},
    }


def snapshots(file: Path) -> dict[str, bytes]:
    """The state of each shard, header included."""
    config = with_stored_features(load_config(file))
    assert config.recovery.directory is not None
    stored = read_state(config.recovery.directory)
    return {shard: stored.engine(shard, config).snapshot() for shard in stored.chains}


def bits(broker: str, folder: Path, windows: int) -> dict[str, Any]:
    """How many of the random windows give equal bits, and the messages that came twice."""
    topic, sink = named("machines"), named("machines-out")
    create(broker, [topic, sink, f"{sink}-alerts", f"{sink}-dead"])
    rows = machine_rows()
    base = folder / "base.yaml"
    settings = content(broker, topic, sink, folder / "base")
    base.write_text(yaml.safe_dump(settings))
    part = ROWS // PARTS
    for i in range(PARTS):
        fill(broker, topic, rows[part * i : part * (i + 1)])
        command("run", base, "--until-eof")
    sent = sum(1 for _ in read(broker, sink)), sum(1 for _ in read(broker, f"{sink}-alerts"))
    equal, held, found = 0, [], list[dict[str, Any]]()
    for seed in range(windows):
        rng = np.random.default_rng(seed)
        to = int(rng.integers(part + 40, ROWS - part))
        excluded = []
        for _ in range(rng.integers(1, 5)):
            begin = int(rng.integers(to, ROWS - 200))
            end = begin + int(rng.integers(50, 2500))
            entity = str(rng.choice([f"m{rng.integers(MACHINES)}", f"m{rng.integers(1, 3)}*", "*"], p=[0.6, 0.3, 0.1]))
            excluded.append((entity, ms_to_iso(START + STEP * begin), ms_to_iso(START + STEP * end)))
        mine, theirs = folder / f"mine-{seed}", folder / f"theirs-{seed}"
        shutil.copytree(folder / "base", mine)
        file, other = folder / f"mine-{seed}.yaml", folder / f"theirs-{seed}.yaml"
        file.write_text(yaml.safe_dump({**settings, "recovery": {"directory": str(mine)}}))
        options = [text for each in excluded for text in ("--without", *each)]
        at = ms_to_iso(START + STEP * to)
        done = json.loads(command("state", "rewind", file, "--to", at, *options, "--yes", "--json")[0])
        command("run", file, "--until-eof")
        aside = {"predictions": None, "alerts": f"{sink}-dead", "dead_letters": f"{sink}-alerts"}
        stops = [{"entities": entity, "from": begin, "to": end} for entity, begin, end in excluded]
        their = {
            **settings,
            "source": {**settings["source"], "group": f"{sink}-{seed}"},
            "alerts": {**settings["alerts"], "maintenance": stops},
            "sinks": aside,
            "recovery": {"directory": str(theirs), "keep": None},
        }
        other.write_text(yaml.safe_dump(their))
        command("run", other, "--until-eof")
        same = snapshots(file) == snapshots(other)
        equal += same
        held.append(done["events"])
        found.append({"seed": seed, "to": at, "without": excluded, "read_again": done["events"], "equal": same})
        say(f"  seed {seed}: {done['events']:,} read again, {len(excluded)} stretches: {'equal' if same else 'DIFFER'}")
        shutil.rmtree(mine)
        shutil.rmtree(theirs)
    again = sum(1 for _ in read(broker, sink)) - sent[0]
    return {"equal": equal, "windows": windows, "sent_again": again, "alerts": sent[1], "each": found}


def rates(broker: str, folder: Path, count: int, entities: int, rounds: int) -> dict[str, Any]:
    """Rate of a plain backfill and of the same events read again; bytes of the generations."""
    topic, sink = named("fleet"), named("fleet-out")
    create(broker, [topic, sink, f"{sink}-alerts", f"{sink}-dead"])
    first = max(count // 5, 2 * entities)
    rows = list(events(first + count, entities))
    file, directory = folder / "fleet.yaml", folder / "fleet"
    file.write_text(configuration(broker, topic, sink, directory))
    fill(broker, topic, rows[:first])
    command("run", file, "--until-eof")
    fill(broker, topic, rows[first:])
    _, backfill = command("run", file, "--until-eof")
    idle = statistics.median(command("run", file, "--until-eof")[1] for _ in range(3))
    at = ms_to_iso(rows[first][1]["ts"])
    until = ms_to_iso(rows[first][1]["ts"] + count // 2)
    again, planned, took = [], [], []
    for _ in range(rounds):
        output, seconds = command(
            "state", "rewind", file, "--to", at, "--without", "m00001*", at, until, "--yes", "--json"
        )
        plan = json.loads(output)
        if plan["events"] != count:
            raise MissingError(f"{plan['events']:,} events to be read again, expected {count:,}")
        took.append(seconds)
        planned.append(plan["seconds"])
        again.append(command("run", file, "--until-eof")[1])
    sent = sum(1 for _ in read(broker, sink))
    kept = list_generations(directory)
    state = sum(each.size for chain in read_state(directory).chains.values() for each in chain)
    return {
        "events": count,
        "entities": entities,
        "idle_s": idle,
        "backfill_events_per_s": count / (backfill - idle),
        "again_events_per_s": [count / (seconds - idle) for seconds in again],
        "ratio": (backfill - idle) / (statistics.median(again) - idle),
        "planned_s": statistics.median(planned),
        "rewind_s": statistics.median(took),
        "sent_twice": sent - first - count,
        "state_bytes": state,
        "generations": len(kept.generations),
        "generations_bytes": kept.size,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--entities", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    end_on_signals()
    with tempfile.TemporaryDirectory() as name, cluster(Path(name)) as (broker, where):
        say(f"broker: {where}")
        found: dict[str, Any] = {"broker": where, "bits": bits(broker, Path(name), given.windows)}
        same = found["bits"]
        checks = [
            check("random windows with equal bits", same["equal"], ">=", given.windows),
            check("messages sent again", same["sent_again"], "<=", 0),
        ]
        if given.events:
            rate = found["rate"] = rates(broker, Path(name), given.events, given.entities, given.rounds)
            checks += [
                check("rate of reading again / of a plain backfill", rate["ratio"], ">=", RATE_LEAST),
                check("predictions of the fleet sent again", rate["sent_twice"], "<=", 0),
            ]
    tell(checks)
    if given.json:
        print(json.dumps({**found, "checks": checks}, indent=1))


if __name__ == "__main__":
    main()
