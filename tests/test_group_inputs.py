"""What members of a group share beside events: each case beside one process that nobody disturbed, by every byte.

Two members read three partitions; one is killed in the middle.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka, kafka_obstacle
from forked import Forked, ran
from test_group import member

from ssm_stream.config import load_config
from ssm_stream.flow.doctor import diagnose
from ssm_stream.flow.group.keyed import spread_entity
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.control.topic import control_topic, read_control
from ssm_stream.kafka.membership.further import further_sources
from ssm_stream.kafka.membership.stopped import read_commits
from ssm_stream.kafka.topic_reader import open_topic, read_topic

pytestmark = pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))

PARTITIONS, START = 3, 1_700_000_000_000
Document = dict[str, Any]
EVENTS: Document = {"entity": "m", "timestamp": "ts", "features": ["a", "b"]}


class Flow:
    """Topics, and two files of one flow: of the members, and of one process by itself. more: sections of both"""

    def __init__(self, kafka: Kafka, folder: Path, event: Document, **more: Any) -> None:
        self.kafka, self.folder = kafka, folder
        self.events, self.left_out = kafka.topic("events", PARTITIONS), set[str]()
        source = more.pop("source", {})
        self.topics = source.pop("topics", [self.events])
        self.sinks = {
            kind: {name: kafka.topic(f"{kind}-{name}", 2) for name in ("predictions", "alerts", "dead_letters")}
            for kind in ("group", "alone")
        }
        for kind, parts in (
            ("group", {"state": {"store": str(folder / "store")}}),
            ("alone", {"recovery": {"directory": str(folder / "recovery")}}),
        ):
            assigned = {"assignment": "group", "kafka": {"session.timeout.ms": 6000}} if kind == "group" else {}
            content = {
                "delivery": "exactly_once",
                "source": {
                    "brokers": kafka.bootstrap_servers, "group": f"{self.events}-flow", **assigned, **source,
                    **({"topics": self.topics} if len(self.topics) > 1 else {"topic": self.topics[0]}),
                },
                "event": event,
                "sinks": self.sinks[kind],
                "ops": {"address": None},
                "model": {"warmup": 20},
                **more,
                **parts,
            }  # fmt: skip
            content["recovery"] = {"epoch_interval": "200ms", **content.get("recovery", {})}
            self.file(kind).write_bytes(orjson.dumps(content))

    def file(self, kind: str) -> Path:
        return self.folder / f"{kind}.yaml"

    def send(self, documents: list[Document], topic: str = "", key: str = "m") -> None:
        self.kafka.produce(topic or self.events, [(each[key].encode(), orjson.dumps(each)) for each in documents])

    def messages(self, kind: str) -> Counter[tuple[str, Any, Any]]:
        return Counter(
            (name, message.key(), message.value())
            for name, topic in self.sinks[kind].items()
            if name not in self.left_out
            for message in self.kafka.read(topic)
        )

    def run_disturbed(self, parts: list[Any], between: Any = lambda: None, send: Any = None) -> None:
        """Send the documents in parts to members of which one is killed, and wait for the results of all."""
        log = self.folder / "member.log"
        with ExitStack() as stack:
            stack.enter_context(member(self.file("group"), log))
            with (self.folder / "victim.log").open("ab") as output:
                victim = Forked("run", str(self.file("group")), stdout=output, stderr=output)
            for i, part in enumerate(parts):
                (send or self.send)(part)
                if i == 0:
                    self.wait_until(lambda: "partition_taken" in (self.folder / "victim.log").read_text())
                    time.sleep(1.0)
                if i == len(parts) // 2:
                    victim.kill()
                    victim.wait()
                between()
                time.sleep(0.3)
            self.wait_until(self.is_done, log)
            ended = ran("run", str(self.file("alone")), "--until-eof", timeout=300)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            expected = self.messages("alone")
        found = self.messages("group")
        if load_config(self.file("group")).delivery == "at_least_once":
            found = Counter(set(found))  # the same bytes once more, where an epoch was repeated
        assert found == expected, differing(found, expected)

    def is_done(self) -> bool:
        """Whether the group has committed all that the events topic holds."""
        config = load_config(self.file("group"))
        ends: dict[str, dict[int, int]] = {}
        for topic in (config.source.topic, *(each.topic for each in further_sources(config))):
            with open_topic(with_topic(config.source, topic)) as reader:
                ends[topic] = {partition: span.end for partition, span in reader.spans(range(PARTITIONS)).items()}
        first = ends.pop(config.source.topic)
        return all(
            commit.offset == first[partition] and dict(commit.further) == {t: own[partition] for t, own in ends.items()}
            for partition, commit in read_commits(config, list(first)).items()
        )

    def wait_until(self, there: Any, log: Path | None = None) -> None:
        deadline = time.monotonic() + 120
        while not there():
            assert time.monotonic() < deadline, log.read_text() if log else ""
            time.sleep(0.3)


def differing(found: Counter[Any], expected: Counter[Any]) -> list[Any]:
    """Messages that one has more often: id, how often each has it, and what differs from that of the same id."""
    more, missing = found - expected, expected - found
    by_id = {orjson.loads(each[2]).get("id"): orjson.loads(each[2]) for each in missing}
    rows: list[Any] = []
    for each in [*more, *missing]:
        one = orjson.loads(each[2])
        other = by_id.get(one.get("id"), {})
        fields = {name: (one.get(name), other.get(name)) for name in one | other if one.get(name) != other.get(name)}
        rows.append({**fields, "id": one.get("id"), "found": found[each], "expected": expected[each]})
    return rows[:12]


def numbers(n: int, seed: int = 0) -> list[Document]:
    """Events of some machines, with jumps."""
    rng, found = np.random.default_rng(seed), []
    for i in range(n):
        a, b = rng.normal(size=2).round(3).tolist()
        jump = 30 * float(rng.random() < 0.02)
        target = round(a - 2 * b + 0.1 * float(rng.normal()) + jump, 3)
        found.append({"m": f"m{rng.integers(9)}", "ts": START + 1000 * i, "a": a, "b": b, "target": target})
    return found


def cut(documents: list[Document], parts: int = 6) -> list[list[Document]]:
    size = -(-len(documents) // parts)
    return [documents[at : at + size] for at in range(0, len(documents), size)]


def test_readings_and_their_late_ones(kafka: Kafka, tmp_path: Path) -> None:
    event = {"layout": "readings", "entity": "m", "signal": "signal", "timestamp": "ts", "features": ["a", "b"]}
    flow = Flow(kafka, tmp_path, {**event, "target": "y", "grace": "2s"})
    rng = np.random.default_rng(1)
    ts = np.sort(rng.integers(0, 400_000, 1500)) - 5_000 * (rng.random(1500) < 0.02).astype(np.int64)
    readings = [
        {"m": f"m{rng.integers(9)}", "signal": "aby"[int(rng.integers(3))], "ts": START + int(t), "value": rng.normal()}
        for t in ts
    ]
    flow.run_disturbed(cut(readings))
    letters = [key for key in flow.messages("group") if key[0] == "dead_letters"]
    assert letters, "late readings"


def test_windows_of_events(kafka: Kafka, tmp_path: Path) -> None:
    aggregate = {"every": "5s", "grace": "1s", "columns": {"n": "count", "a": {"mean": "a"}, "b": {"p95": "b"}}}
    flow = Flow(kafka, tmp_path, {"entity": "m", "timestamp": "ts", "aggregate": aggregate, "target": "a",
                                  "features": ["n", "b"]})  # fmt: skip
    flow.run_disturbed(cut(numbers(2000)))


def test_labels_among_the_events_and_holidays(kafka: Kafka, tmp_path: Path) -> None:
    labels = {"topic": None, "marker": "result", "target": "result", "wait": "1h"}
    (tmp_path / "days.csv").write_text("date\n2023-11-14\n")
    flow = Flow(kafka, tmp_path, {**EVENTS, "holidays": [str(tmp_path / "days.csv")]}, labels=labels)
    documents: list[Document] = []
    for i, each in enumerate(numbers(900)):
        target = each.pop("target")
        documents.append(each)
        if i % 3:
            documents.append({"m": each["m"], "ts": each["ts"], "result": target})
    flow.run_disturbed(cut(documents))


def test_labels_on_a_topic_of_their_own(kafka: Kafka, tmp_path: Path) -> None:
    """Members begin with a backlog of both topics, in which timestamps tell the order; the first one is killed."""
    results = kafka.topic("results", PARTITIONS)
    labels = {"topic": results, "target": "result", "wait": "1h"}
    flow = Flow(kafka, tmp_path, EVENTS, labels=labels, source={"batch": 1})
    events, late, began = numbers(2000), list[Document](), 1000 * int(time.time()) - 3_600_000
    for each in events:
        target = each.pop("target")
        late.append({"m": each["m"], "ts": each["ts"], "result": target})
    kept = [i for i in range(len(late)) if i % 3]
    for topic, documents, stamps in (
        (flow.events, events, [began + 10 * i for i in range(len(events))]),
        (results, [late[i] for i in kept], [began + 10 * i + 205 for i in kept]),  # 20 events later
    ):
        kafka.produce(topic, [(each["m"].encode(), orjson.dumps(each)) for each in documents], timestamps=stamps)
    config, log = load_config(flow.file("group")), tmp_path / "member.log"

    def done() -> int:
        commits = read_commits(config, range(PARTITIONS)).values()
        return sum(commit.number for commit in commits if commit.snapshot)

    with (tmp_path / "victim.log").open("ab") as output:
        victim = Forked("run", str(flow.file("group")), stdout=output, stderr=output)
    flow.wait_until(lambda: done() > 200, tmp_path / "victim.log")
    before = done()
    victim.kill()  # perhaps within a transaction, which holds back what is committed until the next member ends it
    victim.wait()
    assert before < len(events) + len(kept), "it was killed in the middle"
    with member(flow.file("group"), log):
        flow.wait_until(lambda: done() > before, log)
        with member(flow.file("group"), tmp_path / "other.log"):
            flow.wait_until(flow.is_done, log)
    ended = ran("run", str(flow.file("alone")), "--until-eof", timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found, expected = flow.messages("group"), flow.messages("alone")
    logs = "".join((tmp_path / f"{name}.log").read_text() for name in ("victim", "member", "other"))
    assert found == expected, f"{differing(found, expected)}\n{logs}"
    told = [orjson.loads(value) for kind, _, value in found if kind == "predictions"]
    assert max(each["n"] for each in told) > 100, "labels were learned"


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_several_events_topics(kafka: Kafka, tmp_path: Path, delivery: str) -> None:
    topics = [kafka.topic(f"line-{name}", PARTITIONS) for name in "abc"]
    flow = Flow(kafka, tmp_path, EVENTS, source={"topics": topics}, delivery=delivery)
    parts = cut(numbers(900), 6)

    def send(part: list[Document]) -> None:
        for i, topic in enumerate(flow.topics):
            flow.send([{**each, "m": f"{each['m']}-{i}"} for each in part[i::3]], topic)

    flow.run_disturbed(parts, send=send)
    names = {key for kind, key, _ in flow.messages("group") if kind == "predictions"}
    assert len(names) == 27


def test_topics_that_go_together_have_as_many_partitions_and_the_same_keys(kafka: Kafka, tmp_path: Path) -> None:
    results = kafka.topic("results", PARTITIONS + 1)
    flow = Flow(kafka, tmp_path, EVENTS, labels={"topic": results, "target": "result", "wait": "1h"})
    refused = ran("run", str(flow.file("group")))
    assert refused.returncode == 1, refused.stderr
    cure = f"kafka-topics --alter --topic {flow.events} --partitions 4"
    assert cure in " ".join(refused.stderr.split())
    checks = [check for check in diagnose(load_config(flow.file("group"))) if check.name == "partitions"]
    assert [check.ok for check in checks] == [False]
    assert cure in checks[0].cure

    same = kafka.topic("same", PARTITIONS)
    content = orjson.loads(flow.file("group").read_bytes())
    content["labels"]["topic"] = same
    flow.file("group").write_bytes(orjson.dumps(content))
    events = [{"m": "m1", "ts": START + i, "a": 1.0, "b": 2.0, "target": 1.0} for i in range(3)]
    kafka.produce(flow.events, [(b"m1", orjson.dumps(each)) for each in events], 1)
    kafka.produce(same, [(b"m1", orjson.dumps({"m": "m1", "ts": START, "result": 1.0}))], 2)
    refused = ran("run", str(flow.file("group")))
    assert refused.returncode == 2, refused.stderr
    assert "same partitioner" in " ".join(refused.stderr.split())


def test_facts_as_of_the_events_time(kafka: Kafka, tmp_path: Path) -> None:
    orders = kafka.topic("orders", 2)
    source = {"context": [{"topic": orders, "columns": ["product"], "grace": "10ms"}]}
    flow = Flow(kafka, tmp_path, {**EVENTS, "categories": ["product"]}, source=source)
    rng = np.random.default_rng(2)
    facts = [{"m": f"m{i % 9}", "ts": START + 10_000 * i, "product": "ABC"[int(rng.integers(3))]} for i in range(90)]
    flow.send(facts, orders)
    flow.run_disturbed(cut(numbers(900)))
    products = {orjson.loads(value).get("product") for _, _, value in flow.messages("group")}
    assert products


@pytest.mark.parametrize("rows", ["readings", "windows"])
def test_facts_as_of_the_time_of_rows(kafka: Kafka, tmp_path: Path, rows: str) -> None:
    orders = kafka.topic("orders", 2)
    source = {"context": [{"topic": orders, "columns": ["product", "speed"], "grace": "10ms"}]}
    inputs = {"features": ["a", "speed"], "categories": ["product"]}
    event = {
        "readings": {"layout": "readings", "entity": "m", "signal": "signal", "timestamp": "ts", "target": "y",
                     "grace": "2s", **inputs},
        "windows": {"entity": "m", "timestamp": "ts", "target": "y", **inputs,
                    "aggregate": {"every": "5s", "grace": "1s", "columns": {"a": "count", "y": {"mean": "value"}}}},
    }[rows]  # fmt: skip
    flow = Flow(kafka, tmp_path, event, source=source)
    rng = np.random.default_rng(3)
    held = {(f"m{m}", k): int(rng.integers(3)) for m in range(9) for k in range(45)}
    facts = [{"m": m, "ts": START + 10_000 * k, "product": "ABC"[p], "speed": p} for (m, k), p in held.items()]
    flow.send(facts, orders)
    readings = list[Document]()
    for ts in np.sort(rng.integers(0, 400_000, 1500)).tolist():
        name = f"m{rng.integers(9)}"
        value, signal = 10 * held[name, ts // 10_000] + float(rng.normal()), "ay"[int(rng.integers(2))]
        readings.append({"m": name, "signal": signal, "ts": START + ts, "value": value})
    flow.run_disturbed(cut(readings))
    told = [orjson.loads(value) for name, _, value in flow.messages("group") if name == "predictions"]
    missed = [abs(each["y"] - each["yhat"]) for each in told if each["n"] > 40 and each["y"] is not None]
    assert missed
    assert np.mean(missed) < 4.0, "levels are 10 apart, and known by the facts alone"


def test_planned_stops_and_verdicts(kafka: Kafka, tmp_path: Path) -> None:
    control, verdicts = kafka.topic("control", 1), kafka.topic("verdicts", 2)
    alerts = {"anomaly": {"cooldown": 0, "recover_after": 5}, "control": {"topic": control},
              "feedback": {"topic": verdicts}}  # fmt: skip
    flow = Flow(kafka, tmp_path, EVENTS, alerts=alerts)
    flow.left_out = {"dead_letters"}  # members log what is no feedback
    stops, judged = iter(range(5)), set[str]()

    def alert_ids() -> set[str]:
        return {orjson.loads(message.value() or b"")["id"] for message in kafka.read(flow.sinks["group"]["alerts"])}

    def announce() -> None:
        if (i := next(stops, None)) is None:
            return  # one that no event follows is applied by the next process, to all events
        begin, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START / 1000 + 150 * i + s)) for s in (0, 400))
        stop = {"entity": f"m{i}", "from": begin, "to": end, "reason": "oil", "by": "ann"}
        kafka.produce(control, [(b"stop", orjson.dumps(stop))])
        if i == 4:  # the victim is dead: what is new is of a partition that the member holds, which logs the verdict
            flow.wait_until(lambda: not alert_ids() <= judged)
        found = sorted(alert_ids() - judged)
        judged.update(found)
        kafka.produce(verdicts, [(b"v", orjson.dumps({"id": each, "true": True})) for each in found])
        kafka.produce(verdicts, [(b"v", b"no verdict")])
        time.sleep(0.7)

    flow.run_disturbed(cut(numbers(900)), announce)
    config = load_config(flow.file("group"))
    source = control_topic(config)
    assert source is not None
    applied = read_control(config, source).applied
    assert {len(own) for own in applied.values()} == {5}, applied
    assert sum(json.loads(value).get("maintenance", False) for kind, _, value in flow.messages("group")
               if kind == "predictions") > 20  # fmt: skip
    log = (tmp_path / "member.log").read_text()
    assert "feedback_refused" in log
    assert "precision" in log


def test_readings_of_an_entity_in_several_partitions_are_refused(kafka: Kafka, tmp_path: Path) -> None:
    event = {"layout": "readings", "entity": "m", "signal": "signal", "timestamp": "ts", "features": ["a"]}
    flow = Flow(kafka, tmp_path, {**event, "target": "y"})
    readings = [{"m": "m1", "signal": "ay"[i % 2], "ts": START + i, "value": 1.0 * i} for i in range(8)]
    for partition, some in ((0, readings[:2]), (2, readings[2:4])):
        kafka.produce(flow.events, [(b"", orjson.dumps(each)) for each in some], partition)
    config, source = load_config(flow.file("group")), load_config(flow.file("group")).source
    assert spread_entity(config, read_topic(source)) is None, "partitions were added"
    kafka.produce(flow.events, [(b"", orjson.dumps(each)) for each in readings[4:]], 0)
    assert spread_entity(config, read_topic(source)) == ("m1", 0, 2)
    refused = ran("run", str(flow.file("group")))
    assert refused.returncode == 2, refused.stderr
    assert "partitions 0 and 2" in refused.stderr
    assert "source.repartition" in refused.stderr


def test_versions_mixed_and_a_rollback(kafka: Kafka, tmp_path: Path) -> None:
    """A member whose file cannot continue the state gives its partitions back; the others go on where they were."""
    flow = Flow(kafka, tmp_path, EVENTS)
    log, new_log = tmp_path / "member.log", tmp_path / "new.log"
    newer = tmp_path / "newer.yaml"
    content = orjson.loads(flow.file("group").read_bytes())
    newer.write_bytes(orjson.dumps({**content, "model": {"warmup": 20, "horizon": 3}}))
    parts = cut(numbers(600), 4)
    with member(flow.file("group"), log):
        flow.send(parts[0])
        flow.wait_until(flow.is_done, log)
        with member(newer, new_log):
            flow.wait_until(lambda: "partitions_given_back" in new_log.read_text(), new_log)
            flow.send(parts[1])
            flow.wait_until(flow.is_done, log)
        flow.send(parts[2])
        flow.wait_until(flow.is_done, log)
    assert "model.horizon" in new_log.read_text()
    with member(flow.file("group"), log):  # all are of the former file again
        flow.send(parts[3])
        flow.wait_until(flow.is_done, log)
    ended = ran("run", str(flow.file("alone")), "--until-eof", timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found, expected = flow.messages("group"), flow.messages("alone")
    assert found == expected, differing(found, expected)
