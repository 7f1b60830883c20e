"""How fast the server for AI assistants answers: 30 questions of an operator as tool calls, on a fleet of 10,000.

    python benchmarks/mcp_answers.py [--json]

Predictions and alerts of the fleet are on their topics, and predictions keep coming while the questions are asked. The
client is the SDK's own; the server is `ssm-stream mcp` as an assistant starts it, over standard input and output.
Timed is each call from the client's request to its answer, after the server has read the topics.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Producer
from mcp import Client, StdioServerParameters
from measuring import check, end_on_signals, hand_over, running, say, tell
from wire import cluster, create, named

from ssm_stream.ops.bytewax_metrics import free_port

ENTITIES, ROUNDS, ALERTS = 10_000, 20, 3_000
RATE = 1_000
"""Predictions a second while the questions are asked."""
HUNDRED = [f"press-{i:05d}" for i in range(100)]
SLOWEST = 1.0
"""Seconds that an answer may take."""


def predictions(entities: int, rounds: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys and values of predictions, the rounds within the last hour."""
    rng, begin = np.random.default_rng(0), int(time.time() * 1000) - rounds * 60_000
    for i in range(rounds):
        scores = rng.gamma(1.0, 0.15, entities).round(4).tolist()
        for e, score in enumerate(scores):
            name = f"press-{e:05d}"
            yield name, {
                "entity": name, "ts": begin + 60_000 * i + e, "y": 10.0 + score, "yhat": 10.0, "yhat_lower": 9.1,
                "yhat_upper": 10.9, "anomaly_score": score, "warmup": e % 50 == 0, "n": 1000 + i, "fleet": 0.25,
                "id": f"events-{e % 4}-{1000 * i + e}",
            }  # fmt: skip


def alerts(count: int, entities: int, topic: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys and values of alerts, three of four recovered, within the last hour."""
    rng, begin = np.random.default_rng(1), int(time.time() * 1000) - 3_600_000
    for i in range(count):
        name, kind = f"press-{rng.integers(entities):05d}", ("anomaly", "drift")[i % 5 == 0]
        episode = f"{topic}-{i % 4}-{i}-{kind}"
        value = {
            "entity": name, "scope": "entity", "kind": kind, "phase": "started", "episode": episode, "ended_by": None,
            "severity": "critical" if i % 17 == 0 else "warning", "summary": f"{name}: y is 14, expected 10 ± 1.",
            "ts": begin + 1000 * i, "since": begin + 1000 * i, "score": round(1.0 + rng.gamma(1.0), 3), "y": 14.0,
            "yhat": 10.0, "yhat_lower": 9.0, "yhat_upper": 11.0, "channel": "residual" if kind == "anomaly" else None,
            "contributions": [{"feature": f"f{k}", "share": 0.2} for k in range(5)], "heads": [], "weight_change": [],
            "change": None, "budget": "1 per 30d", "id": episode,
        }  # fmt: skip
        yield name, value
        if i % 4:
            ended = {"phase": "recovered", "ended_by": "recovered", "ts": value["ts"] + 90_000}
            yield name, {**value, **ended, "id": f"{topic}-{i % 4}-{i + 100_000}-{kind}"}


def questions(alert: str) -> list[tuple[str, str, dict[str, Any]]]:
    """What an operator asks, and the call that answers it."""
    one = "press-04711"
    return [
        ("how is the plant?", "overview", {}),
        ("which machines are the most unusual?", "list_entities", {"sort": "score", "limit": 50}),
        ("which alarm right now?", "list_entities", {"state": "alerting", "limit": 200}),
        ("which have not sent for a minute?", "list_entities", {"no_event_for_seconds": 60, "sort": "oldest"}),
        ("which are still warming up?", "list_entities", {"state": "warmup", "limit": 200}),
        ("is there a machine called 4711?", "list_entities", {"contains": "4711"}),
        ("all of hall 03", "list_entities", {"pattern": "press-03*", "sort": "name", "limit": 200}),
        ("the last page of all", "list_entities", {"sort": "name", "limit": 200, "offset": 9_800}),
        ("where is the error the largest?", "list_entities", {"sort": "error", "limit": 20}),
        ("what about this one?", "get_entity", {"entity": one}),
        ("its last 48 predictions", "get_entity", {"entity": one, "recent": 48}),
        ("a name with a slip", "get_entity", {"entity": "pres-04711"}),
        ("what is predicted of these hundred?", "get_predictions", {"entities": HUNDRED}),
        ("which alerts are open?", "list_alerts", {"which": {"open": True}, "limit": 100}),
        ("which are critical?", "list_alerts", {"which": {"severity": "critical"}, "sort": "score"}),
        ("what alarmed in the last quarter of an hour?", "list_alerts", {"which": {"since": "15m"}, "limit": 200}),
        ("its alerts", "list_alerts", {"which": {"entity": one}}),
        ("alerts of hall 07", "list_alerts", {"which": {"entity": "press-07*"}, "limit": 100}),
        ("drifts that go on", "list_alerts", {"which": {"kind": "drift", "open": True}}),
        ("alerts that nobody has judged", "list_alerts", {"which": {"verdict": "none"}, "limit": 200}),
        ("why this alert?", "get_alert", {"id": alert}),
        ("which machines alarm most?", "count_alerts", {"by": "entity", "groups": 50}),
        ("are there more alerts than an hour ago?", "count_alerts", {"by": "hour"}),
        ("how many of each kind?", "count_alerts", {"by": "kind", "which": {"since": "1h"}}),
        ("is maintenance planned?", "list_planned_stops", {}),
        ("does the process run?", "get_health", {}),
        ("how far is it behind?", "get_metrics", {"contains": "lag"}),
        ("with which settings does it run?", "get_configuration", {}),
        ("what is a fleet alert?", "search_docs", {"query": "fleet alert many entities at once"}),
        ("is the file valid?", "validate", {}),
    ]  # fmt: skip


def fill(broker: str, topic: str, made: Iterator[tuple[str, dict[str, Any]]]) -> None:
    """Write messages to a topic."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for key, value in made:
        hand_over(producer, topic, orjson.dumps(value), key)
        producer.poll(0)
    producer.flush(60)


@contextmanager
def feeding(broker: str, topic: str) -> Iterator[None]:
    """`RATE` predictions a second."""
    producer, done = Producer({"bootstrap.servers": broker, "linger.ms": 5}), threading.Event()

    def run() -> None:
        for i, (key, value) in enumerate(itertools.cycle(predictions(ENTITIES, 1))):
            hand_over(producer, topic, orjson.dumps({**value, "ts": int(time.time() * 1000)}), key)
            if i % 100 == 0:
                producer.poll(0)
                if done.wait(100 / RATE):
                    return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        producer.flush(10)


async def timed(file: Path, alert: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Seconds and bytes of each answer, and the overview at the end."""
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "ssm_stream", "mcp", str(file), "--files", str(file.parent / "none")]
    )
    found = []
    async with Client(parameters) as client:
        began = time.perf_counter()
        while True:
            first = (await client.call_tool("overview", {})).structured_content
            assert first is not None
            health = (await client.call_tool("get_health", {})).structured_content
            assert health is not None
            if all(each["loaded"] for each in first["topics"]) and health["processes"][0]["reachable"]:
                break
            await asyncio.sleep(0.2)
        say(f"the topics were read, and the process was there, within {time.perf_counter() - began:.1f} s")
        for text, tool, arguments in questions(alert):
            began = time.perf_counter()
            answer = await client.call_tool(tool, arguments)
            seconds = time.perf_counter() - began
            assert not answer.is_error, (tool, answer.content)
            size = len(orjson.dumps(answer.structured_content))
            found.append({"question": text, "tool": tool, "seconds": round(seconds, 4), "bytes": size})
        return found, (await client.call_tool("overview", {})).structured_content or {}


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast the server for AI assistants answers.")
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    arguments = parser.parse_args()
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as name, cluster(Path(name)) as (broker, word):
        say(f"on {word}")
        events, sent, raised, dead = map(named, ("events", "predictions", "alerts", "dead"))
        create(broker, [events, sent, raised, dead])
        fill(broker, sent, predictions(ENTITIES, ROUNDS))
        fill(broker, raised, alerts(ALERTS, ENTITIES, events))
        (Path(name) / "none").mkdir()
        file = Path(name) / "monitor.yaml"
        file.write_text(
            f"source: {{brokers: '{broker}', topic: {events}}}\n"
            "event: {entity: entity, timestamp: ts, features: [a]}\n"
            f"ops: {{address: '127.0.0.1:{free_port()}'}}\n"
            f"sinks: {{predictions: {sent}, alerts: {raised}, dead_letters: {dead}}}\nrecovery: {{directory: null}}\n"
        )
        command = [sys.executable, "-m", "ssm_stream", "run", str(file)]
        with running(command, Path(name) / "run.log"), feeding(broker, sent):
            found, overview = asyncio.run(timed(file, f"{events}-0-4-anomaly"))
    assert len(found) == 30
    for each in sorted(found, key=lambda each: -each["seconds"])[:5]:
        say(f"  {each['seconds']:.3f} s, {each['bytes']:,} bytes: {each['tool']}: {each['question']}")
    seconds = [each["seconds"] for each in found]
    many = f"{ENTITIES:,} entities"
    checks = [
        check(f"mcp, 30 questions, the slowest answer, s, {many}", max(seconds), "<=", SLOWEST),
        check(f"mcp, 30 questions, median answer, s, {many}", statistics.median(seconds), "<=", SLOWEST),
        check("mcp, entities that it has", overview["entities"], ">=", ENTITIES),
    ]
    tell(checks)
    if arguments.json:
        print(json.dumps({"checks": checks, "answers": found}))


if __name__ == "__main__":
    main()
