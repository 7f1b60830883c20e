"""`ssm_stream.operators`: monitoring as a step of anyone's dataflow."""

from __future__ import annotations

import logging
import pickle
import re
import subprocess
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import bytewax.operators as op
import numpy as np
import orjson
import pytest
from bytewax.connectors.kafka import KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.outputs import StatefulSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main

import ssm_stream.operators as sop
import ssm_stream.operators.kafka as operators_kafka
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.events import EventReader
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import PredictedBatch, ProducerRecord, ShardBatch
from ssm_stream.operators.documents import DocumentReader, EventBatch
from ssm_stream.operators.monitor_operator import monitor_config
from ssm_stream.recovery.bytewax_db import RecoveryError, open_database
from ssm_stream.recovery.compatibility import check_state
from ssm_stream.recovery.directory import open_recovery
from ssm_stream.recovery.reader import read_state
from ssm_stream.recovery.settings_files import write_runtime_settings

SETTINGS: dict[str, Any] = {
    "event": {"entity": "machine", "timestamp": "ts", "features": ["load"], "target": "temp"},
    "state": {"shards": 4},
}


def events(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Events of nine machines, linear with noise and rare jumps that alert."""
    rng = np.random.default_rng(seed)
    load, noise, jump = rng.random(n), rng.normal(0, 0.05, n), rng.random(n) < 0.003
    temp = (20 + 3 * load + noise + 10 * jump).round(4).tolist()
    rows = zip(load.round(4).tolist(), temp, range(n), strict=True)
    return [{"machine": f"press-{i % 9}", "ts": 1_700_000_000_000 + 1000 * i, "load": x, "temp": y} for x, y, i in rows]


class Mine:
    """A dataflow of one's own, and what its sinks got."""

    def __init__(self, given: list[Any], config: Any = SETTINGS, batch: int = 100) -> None:
        self.flow = Dataflow("mine")
        self.given = op.input("in", self.flow, TestingSource(given, batch))
        self.watched = sop.monitor("watch", self.given, config)
        self.predictions: list[sop.Prediction] = []
        self.alerts: list[sop.Alert] = []
        self.errors: list[sop.RefusedEvent] = []

    def run(self, **options: Any) -> Mine:
        op.output("predictions", self.watched.predictions, TestingSink(self.predictions))
        op.output("alerts", self.watched.alerts, TestingSink(self.alerts))
        op.output("errors", self.watched.errors, TestingSink(self.errors))
        run_main(self.flow, **options)
        return self

    @property
    def by_id(self) -> dict[str, bytes]:
        """Id → message of each prediction and alert; a repeat has the same content."""
        out: dict[str, bytes] = {}
        for each in [*self.predictions, *self.alerts]:
            assert out.setdefault(each.id, each.to_json()) == each.to_json(), "an id with two contents"
        return out


def test_records_are_the_messages_of_the_service() -> None:
    """With one shard, the results of dicts are to the byte what `run` produces for the same events on one partition."""
    given = events(3000)
    config = parse_config(
        orjson.dumps({**SETTINGS, "source": {"brokers": "-", "topic": "events"}, "state": {}}).decode()
    )
    mine = Mine(given, config, batch=1000).run()
    read, refused = EventReader(config.event).read(given)
    batch = ShardBatch(0, read, list(range(len(given))))
    encoder = Encoder(config)
    output = encoder.encode(batch, *Engine(config).process(read, 0, encoder.event_ids(batch)))
    assert not refused
    assert not mine.errors
    assert [each.to_json() for each in mine.predictions] == list(output.values)
    assert len(mine.alerts) > 3
    assert [each.to_json() for each in mine.alerts] == [each.value for each in output.others]
    assert mine.predictions[0].to_dict() == orjson.loads(output.values[0])
    assert {each.event_id for each in mine.alerts} <= {each.id for each in mine.predictions}
    assert mine.alerts[0].contributions == orjson.loads(mine.alerts[0].to_json())["contributions"]
    with pytest.raises(AttributeError):
        mine.predictions[0].y = 1.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        mine.alerts[0].severity = "none"  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [{"event": {"target": ["temp", "load2"]}}, {"model": {"horizon": "1 event"}}, {"model": {"horizon": "2s"}}],
)
def test_records_of_targets_and_horizons(change: dict[str, Any]) -> None:
    given = [{**each, "load2": each["load"] * 2} for each in events(600)]
    content = {**SETTINGS, "source": {"brokers": "-", "topic": "events"}, "state": {}, **change}
    content["event"] = {**SETTINGS["event"], **change.get("event", {})}
    config = parse_config(orjson.dumps(content).decode())
    mine = Mine(given, config).run()
    read, _ = EventReader(config.event).read(given)
    encoder, batch = Encoder(config), ShardBatch(0, read, list(range(len(given))))
    output = encoder.encode(batch, *Engine(config).process(read, 0, encoder.event_ids(batch)))
    assert [each.to_json() for each in mine.predictions] == list(output.values)


@pytest.mark.parametrize(("batch", "keyed"), [(1, False), (7, True), (1000, True)])
def test_neither_batches_nor_keys_change_a_bit(batch: int, keyed: bool) -> None:
    given = events(700)
    calm = Mine(given, batch=1000).run().by_id
    other = Mine([(each["machine"], each) for each in given] if keyed else given, batch=batch).run().by_id
    assert other == calm


def test_the_key_is_the_entity() -> None:
    """A keyed event need not repeat its entity; one that names another is refused."""
    given: list[Any] = [("press-1", {"ts": i, "load": 0.5, "temp": 1.0}) for i in range(3)]
    given.append(("line-7", {"machine": "press-1", "ts": 3, "load": 0.5, "temp": 1.0}))
    mine = Mine(given).run()
    assert [each.entity for each in mine.predictions] == ["press-1"] * 3
    (refused,) = mine.errors
    assert "key the stream by the entity" in refused.reason
    assert refused.event["machine"] == "press-1"


def test_what_is_no_event_is_an_error_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    good = events(2)
    given = [good[0], {"machine": "press-1"}, 7, {**good[1], "temp": "hot"}, {**good[1], "odd": object()}, good[1]]
    mine = Mine(given, batch=10).run()
    assert [each.fault for each in mine.errors] == ["MissingField", "NotAnObject", "WrongType"]
    assert [each.event for each in mine.errors[:2]] == given[1:3]
    assert orjson.loads(mine.errors[0].to_json())["reason"] == mine.errors[0].reason
    assert len(mine.predictions) == 3
    assert not caplog.records


def test_dicts_of_other_classes_are_events() -> None:
    settings = SETTINGS | {"event": SETTINGS["event"] | {"features": ["in.load"], "target": "out[name=temp].is"}}
    nested = [
        {**each, "in": {"load": each["load"]}, "out": [{"name": "temp", "is": each["temp"]}]} for each in events(300)
    ]
    placed = [each | {sop.PLACE: ("t", i % 2, i)} for i, each in enumerate(nested)]
    of_others: list[Any] = [
        OrderedDict(each, **{"in": defaultdict(int, each["in"]), "out": [OrderedDict(each["out"][0])]})
        for each in placed
    ]
    found = Mine(of_others, settings).run()
    assert found.errors == []
    assert found.by_id == Mine(placed, settings).run().by_id
    (lacking,) = Mine([defaultdict(int, machine="m", temp=1.0)]).run().errors
    assert lacking.reason == "timestamp: `ts` is missing or null"


def test_values_too_deep_or_too_long_to_show_are_refused() -> None:
    """Neither ends the dataflow: a message of nested arrays, a document of such a value, a number of 6,000 digits."""
    deep: Any = []
    for _ in range(3000):
        deep = [deep]
    place = {"machine": "a", "ts": 1, "temp": 1.0}
    mine = Mine([{**place, "load": deep}, {**place, "load": 10**6000}], batch=2).run()
    assert [each.fault for each in mine.errors] == ["WrongType", "OutOfRange"]
    assert all("too deep or too long to show" in each.reason for each in mine.errors)
    flow, letters = Dataflow("deep"), list[sop.RefusedEvent]()
    decoded = sop.decode("decode", op.input("in", flow, TestingSource([b"[" * 1000 + b"]" * 1000])), SETTINGS)
    op.output("errors", decoded.errors, TestingSink(letters))
    op.output("events", decoded.events, TestingSink([]))
    run_main(flow)
    assert [each.fault for each in letters] == ["NotAnObject"]


@pytest.mark.parametrize("kind", [OrderedDict, partial(defaultdict, float)])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_dict_of_another_class_is_one(kind: Any, keyed: bool) -> None:
    """As a parser of JSON may make them, at every depth."""
    settings = {**SETTINGS, "event": {**SETTINGS["event"], "features": ["is.load"]}}
    plain = [{**each, "is": {"load": each["load"]}} for each in events(50)]
    given = [kind({**each, "is": kind(each["is"])}) for each in plain]
    mine = Mine([(each["machine"], each) for each in given] if keyed else given, settings).run()
    assert not mine.errors
    assert mine.by_id == Mine(plain, settings).run().by_id
    assert all(len(each) == 5 for each in given), "nothing is put into them"


@pytest.mark.parametrize(
    "place", ["x", ("t", 0), ("t", "0", 5), ("t", 0, None), ("t", -1, 5), (None, 0, 5), ("t", True, 5)]
)
def test_what_is_no_place_is_an_error_with_the_cure(place: Any) -> None:
    read = DocumentReader("watch", monitor_config(SETTINGS, "watch"))
    with pytest.raises(TypeError, match=r"(?s)'watch'.*'ssm_stream.place'.*found.*: keep what .*decode puts there"):
        read([*events(2), {**events(1)[0], sop.PLACE: place}])
    listed, paired = ([{**events(1)[0], sop.PLACE: kind(("t", 0, 5))}] for kind in (list, tuple))
    ((_, one),), ((_, other),) = read(listed), read(paired)
    assert isinstance(one, EventBatch)
    assert isinstance(other, EventBatch)
    assert one[1:4] == other[1:4] == (0, "t", [5])


def test_refusals_that_no_step_reads_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    mine = Mine([{"machine": "press-1"}] * 25, batch=5)
    op.output("predictions", mine.watched.predictions, TestingSink(mine.predictions))
    with caplog.at_level(logging.WARNING):
        run_main(mine.flow)
    assert [record.args[1] for record in caplog.records if record.args] == [5, 10]
    assert "is missing" in caplog.text
    assert "no step reads its stream `errors`" in caplog.text


def test_the_config_has_many_forms(tmp_path: Path) -> None:
    file = tmp_path / "monitor.yaml"
    file.write_bytes(orjson.dumps(SETTINGS))
    given = events(200)
    calm = Mine(given).run().by_id
    for config in (file, str(file), file.read_text()):
        assert Mine(given, config).run().by_id == calm
    with pytest.raises(ConfigError, match="unknown key"):
        Mine(given, {**SETTINGS, "stat": {}})
    with pytest.raises(ConfigError, match=r"event\.features: auto"):
        Mine(given, {"event": {**SETTINGS["event"], "features": "auto"}})


def test_the_limit_of_entities_refuses_with_the_event() -> None:
    limited = {**SETTINGS, "state": {"max_entities": 3}}
    mine = Mine(events(18), limited).run()
    assert {each.entity for each in mine.predictions} == {"press-0", "press-1", "press-2"}
    assert {each.fault for each in mine.errors} == {"TooManyEntities"}
    assert mine.errors[0].event == events(18)[3]
    assert mine.errors[0].stage == "admit"


def recovery(folder: Path) -> RecoveryConfig:
    if not folder.exists():
        folder.mkdir()
        init_db_dir(folder, 3)
    return RecoveryConfig(str(folder), timedelta(0))


def test_two_monitors_continue_after_a_crash(tmp_path: Path) -> None:
    """The state is in Bytewax's recovery, of each monitor its own."""
    given, second = events(900), {**SETTINGS, "model": {"warmup": 20}}
    calm: list[list[Any]] = [[], []]
    found: list[list[Any]] = [[], []]

    def build(items: list[Any], out: list[list[Any]]) -> Dataflow:
        flow = Dataflow("two")
        stream = op.input("in", flow, TestingSource(items, 10))
        for name, config, mine in zip(("first", "second"), (SETTINGS, second), out, strict=True):
            watched = sop.monitor(name, stream, config)
            op.output(f"{name}_out", watched.predictions, TestingSink(mine))
        return flow

    run_main(build(given, calm))
    broken: list[Any] = [*given[:300], TestingSource.ABORT(), *given[300:500], TestingSource.EOF(), *given[500:]]
    for workers in (None, None, 3, 2):
        flow, options = (
            build(broken, found),
            {"epoch_interval": timedelta(0), "recovery_config": recovery(tmp_path / "r")},
        )
        if workers is None:
            run_main(flow, **options)
        else:
            cluster_main(flow, [], 0, worker_count_per_proc=workers, **options)
    for mine, expected in zip(found, calm, strict=True):
        assert {each.id: each for each in mine} == {each.id: each for each in expected}


def test_the_readme_has_it_in_twelve_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """What it shows runs as it stands, and alerts."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (block,) = re.findall(r"^```python\n(import bytewax.*?)^```", text, re.M | re.S)
    lines = [line for line in block.splitlines() if line]
    assert len(lines) <= 12
    exec(compile(block, "README.md", "exec"), {"__name__": "snippet"})
    alerts = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (60_000 * 400, "anomaly", "started") in {(alert["ts"], alert["kind"], alert["phase"]) for alert in alerts}


def decoded(messages: list[Any], config: Any = SETTINGS) -> tuple[list[Any], list[sop.RefusedEvent]]:
    """Events and errors of messages."""
    flow, found, errors = Dataflow("decode"), list[Any](), list[sop.RefusedEvent]()
    out = sop.decode("decode", op.input("in", flow, TestingSource(messages, 10)), config)
    op.output("events", out.events, TestingSink(found))
    op.output("errors", out.errors, TestingSink(errors))
    run_main(flow)
    return found, errors


def test_messages_of_any_source_are_decoded() -> None:
    event = events(1)[0]
    value = orjson.dumps(event)
    message = KafkaSourceMessage(b"k", value, topic="events", partition=2, offset=7, headers=[("h", b"1")])
    found, errors = decoded([value, value.decode(), (b"k", value), message])
    assert found == [event, event, event, {**event, sop.PLACE: ("events", 2, 7)}]
    assert not errors
    bad = KafkaSourceMessage(b"k", b"no json", topic="events", partition=2, offset=8, headers=[("h", b"1")])
    found, errors = decoded([bad, b"[1]", KafkaSourceMessage(b"k", None, topic="events", partition=2, offset=9)])
    assert not found
    assert [(each.fault, each.offset) for each in errors] == [("NotJson", 8), ("NotAnObject", None), ("Tombstone", 9)]
    assert (errors[0].key, errors[0].value, errors[0].headers) == (b"k", b"no json", (("h", b"1"),))


@pytest.mark.parametrize("limited", [False, True])
def test_a_dead_letter_is_the_message_whatever_steps_have_made_of_it(limited: bool) -> None:
    """What `monitor` refuses, at once or in the shard: key, bytes and headers, past copies, fields and workers."""
    event = {**SETTINGS["event"], "entity": "$key"}
    config = {"event": event, "state": {"max_entities": 1} if limited else {}}
    value = b'{ "ts": 1, "load": 1, "temp": %s }' % (b"2.5" if limited else b'"hot"')
    place: dict[str, Any] = {"topic": "events", "partition": 2}
    messages = [KafkaSourceMessage(b"p%d" % i, value, **place, offset=7 + i, headers=[("h", b"1")]) for i in range(2)]

    def enrich(given: dict[str, Any]) -> dict[str, Any]:
        assert given[sop.PLACE] in (("events", 2, 7), ("events", 2, 8))
        assert orjson.loads(orjson.dumps(given))[sop.PLACE][:2] == ["events", 2]
        return {**pickle.loads(pickle.dumps(given)), "rated": 3}

    def refused(step: Callable[[dict[str, Any]], dict[str, Any]]) -> sop.RefusedEvent:
        flow, found = Dataflow("mine"), list[sop.RefusedEvent]()
        out = sop.decode("decode", op.input("in", flow, TestingSource(messages, 10)), config)
        op.output("errors", sop.monitor("watch", op.map("step", out.events, step), config).errors, TestingSink(found))
        run_main(flow)
        return found[-1]

    last = refused(enrich)
    assert last.fault == ("TooManyEntities" if limited else "WrongType")
    assert (last.key, last.value, last.headers, last.offset) == (b"p1", value, (("h", b"1"),), 8)
    lost = refused(lambda given: {**given, sop.PLACE: ["events", 2, 8]})
    assert (lost.key, lost.headers, lost.offset) == (None, (), 8), "a place of one's own has no message"


def test_a_label_that_finds_no_event_is_its_message() -> None:
    config = {**SETTINGS, "labels": {"topic": "labels", "wait": "1h"}}
    value = b'{ "machine": "press-1", "ts": 1, "temp": 1.0 }'
    late = events(1)[0] | {"machine": "press-1", "temp": None}
    messages = [
        KafkaSourceMessage(b"press-1", value, topic="labels", partition=0, offset=3),
        KafkaSourceMessage(None, orjson.dumps(late), topic="events", partition=0, offset=4),
    ]
    flow, found = Dataflow("mine"), list[sop.RefusedEvent]()
    out = sop.decode("decode", op.input("in", flow, TestingSource(messages, 10)), config)
    op.output("errors", sop.monitor("watch", out.events, config).errors, TestingSink(found))
    run_main(flow)
    assert [(each.key, each.value) for each in found] == [(b"press-1", value)]


def test_events_with_a_place_learn_and_are_named_as_in_the_service() -> None:
    """Entities learn together by partition, and ids are those of the message."""
    given = events(800)
    config = parse_config(orjson.dumps({**SETTINGS, "source": {"brokers": "-", "topic": "events"}}).decode())
    expected: dict[str, bytes] = {}
    for partition in (0, 1):
        mine = [each for i, each in enumerate(given) if i % 9 % 2 == partition]
        read, _ = EventReader(config.event).read(mine)
        engine, encoder = Engine(config), Encoder(config)
        for shard in range(4):
            rows = np.array([i for i, name in enumerate(read.entity) if shard_of(name, 4) == shard], np.intp)
            if not len(rows):
                continue
            batch = ShardBatch(partition, read.take(rows), rows.tolist())
            output = encoder.encode(batch, *engine.process(batch.events, partition, encoder.event_ids(batch)))
            expected |= {orjson.loads(each.value or b"")["id"]: each.value or b"" for each in output.records}
    counts = [0, 0]
    placed = []
    for i, each in enumerate(given):
        partition = i % 9 % 2
        placed.append({**each, sop.PLACE: ("events", partition, counts[partition])})
        counts[partition] += 1
    assert Mine(placed, config).run().by_id == expected


@pytest.mark.parametrize("places", [[("a", 0), ("b", 0)], [("a", 0), ("b", 0), None], [("a", 0), ("a", 1)]])
def test_events_keep_their_order_in_any_batches(places: list[tuple[str, int] | None]) -> None:
    """Topics that are not configured count as one source, as do events without a place; or an entity is on several."""
    given, counts = list[Any](), dict.fromkeys(places, 0)
    for each, i in zip(events(300), np.random.default_rng(2).choice(len(places), 300).tolist(), strict=True):
        place = places[i]
        given.append(each if place is None else {**each, sop.PLACE: (*place, counts[place])})
        counts[place] += 1
    assert Mine(given, batch=1).run().by_id == Mine(given, batch=300).run().by_id


def test_records_are_encoded_as_messages() -> None:
    given = [*events(1_500), {"machine": "press-1"}]
    config = {**SETTINGS, "sinks": {"predictions": "p", "alerts": "a", "dead_letters": "d"}}
    mine, sent, batched = Mine(given, config), list[Any](), list[Any]()
    streams = [mine.watched.predictions, mine.watched.alerts, mine.watched.errors]
    op.output("sent", sop.encode("encode", op.merge("all", *streams), config), TestingSink(sent))
    op.output("batched", sop.encode("encode_batches", mine.watched.batches, config), TestingSink(batched))
    mine.run()
    by_topic = {topic: [each for each in sent if each.topic == topic] for topic in "pad"}
    assert [each.value for each in by_topic["p"]] == [each.to_json() for each in mine.predictions]
    assert [each.value for each in by_topic["a"]] == [each.to_json() for each in mine.alerts]
    assert dict(by_topic["a"][0].headers)["ce_id"] == mine.alerts[0].id.encode()
    (letter,) = by_topic["d"]
    assert orjson.loads(letter.value) == {"machine": "press-1"}
    assert dict(letter.headers)["__connect.errors.exception.class.name"] == b"ssm_stream.MissingField"
    others = {(each.topic, each.key, each.value) for each in batched}
    assert others == {(each.topic, each.key, each.value) for each in sent}
    assert [each.topic for each in sop_encoded(mine.predictions[:2], "elsewhere")] == ["elsewhere"] * 2


def sop_encoded(records: list[Any], topic: str) -> list[Any]:
    flow, found = Dataflow("encode"), list[Any]()
    stream = op.input("in", flow, TestingSource(records))
    op.output("out", sop.encode("encode", stream, SETTINGS, topic=topic), TestingSink(found))
    run_main(flow)
    return found


class Written(StatefulSinkPartition[Any, None]):
    """In place of the sink for Kafka, and its only writer: keeps the messages that it would send."""

    sent: ClassVar[list[ProducerRecord]] = []

    def __init__(self, config: Config, _: Any) -> None:
        self.encoder = Encoder(config)

    def list_parts(self) -> list[str]:
        return ["0000"]

    def build_part(self, *_: Any) -> Any:
        return self

    def write_batch(self, items: list[Any]) -> None:
        for each in items:
            self.sent.extend((self.encoder.encode(*each) if isinstance(each, PredictedBatch) else each).records)

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        return None


@pytest.mark.parametrize("absent", ["alerts", "predictions"])
def test_what_has_no_topic_is_not_written(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sinks.alerts: null`, `sinks.predictions: null`: neither batches nor records, nor alerts that labels cause."""
    monkeypatch.setattr(operators_kafka, "KafkaSink", Written)
    config = {
        **SETTINGS,
        "source": {"brokers": "-", "topic": "events"},
        "sinks": {"predictions": "p", "alerts": "a", absent: None},
        "labels": {"marker": "label", "wait": "1h"},
        "alerts": {"fleet": {"enabled": False}},
    }
    own, other = {"alerts": ("p", "a"), "predictions": ("a", "p")}[absent]
    given: list[dict[str, Any]] = []
    for each in events(3_000):
        given += [{**each, "temp": None}, {**each, "label": True}]
    mine = Mine(given, config)
    streams: list[Any] = [mine.watched.predictions, mine.watched.alerts]
    records, encoded, elsewhere = op.merge("records", *streams), list[Any](), list[Any]()
    monkeypatch.setattr(Written, "sent", written := [])
    for name, stream in (("batches", mine.watched.batches), ("records", records)):
        sop.kafka_output(f"out_{name}", stream, config)
        op.output(f"encoded_{name}", sop.encode(f"encode_{name}", stream, config), TestingSink(encoded))
    op.output("elsewhere", sop.encode("encode_elsewhere", records, config, topic="x"), TestingSink(elsewhere))
    mine.run()
    assert len(mine.alerts) > 3
    assert {each.topic for each in encoded} == {own}
    assert {each.topic for each in written} == {own}
    assert len(elsewhere) == len(mine.predictions) + len(mine.alerts), "a topic by name has them all"
    assert other not in {each.topic for each in elsewhere}


UNDECODED = """
import bytewax.operators as op
import ssm_stream.operators as sop
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource

flow = Dataflow("mine")
config = {"event": {"entity": "machine", "timestamp": "ts", "features": ["load"], "target": "temp"}}
watched = sop.monitor("watch", op.input("in", flow, TestingSource([b"{}"])), config)
op.output("out", watched.predictions, TestingSink([]))
"""


def run_mine(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A dataflow of one's own, `flow` in mine.py, started as by hand."""
    command = [sys.executable, "-m", "bytewax.run", "mine:flow", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_error_is_one_sentence_with_the_cure(tmp_path: Path, workers: str) -> None:
    (tmp_path / "mine.py").write_text(UNDECODED)
    done = run_mine(tmp_path, "-w", workers)
    assert done.returncode == 1
    assert done.stderr == (
        "error: step 'watch': an event is a dict, found bytes: decode messages first, as by "
        "ssm_stream.operators.decode\n"
    )


def test_a_recovery_directory_needs_bytewax_to_keep_the_state(tmp_path: Path) -> None:
    """Without `-r`, a configuration that names a directory is refused before anything runs."""
    (tmp_path / "mine.py").write_text(UNDECODED.replace('"temp"}}', '"temp"}, "recovery": {"directory": "state"}}'))
    done = run_mine(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: recovery.directory is state, and Bytewax was started without -r")
    assert done.stderr.count("\n") == 1


def of_service(folder: Path) -> Config:
    content = {**SETTINGS, "source": {"brokers": "-", "topic": "events"}, "recovery": {"directory": str(folder)}}
    return parse_config(orjson.dumps(content).decode())


def test_a_directory_of_the_service_is_refused(tmp_path: Path) -> None:
    """With `-r`, whatever dataflow and steps are called: the service could not read the snapshots of both."""
    recovery(tmp_path / "r")
    write_runtime_settings(of_service(tmp_path / "r"))
    (tmp_path / "mine.py").write_text(UNDECODED)
    done = run_mine(tmp_path, "-r", "r", "-s", "1", "-b", "0")
    assert done.returncode == 1
    assert done.stderr == (
        "error: the state in this recovery directory was made by `ssm-stream run`: continue it with `ssm-stream run`, "
        "or start with another recovery directory (-r)\n"
    )


def test_the_service_refuses_a_directory_of_another_dataflow(tmp_path: Path) -> None:
    """By a start and by the commands for states; where the service has run in it, too, its own snapshots count."""
    folder = tmp_path / "r"
    Mine(events(50)).run(epoch_interval=timedelta(0), recovery_config=recovery(folder))
    config, why = (
        of_service(folder),
        r"has the state of another dataflow \(steps mine\.in, mine\.watch\).*name another folder",
    )
    with pytest.raises(RecoveryError, match=why):
        open_recovery(config)
    with pytest.raises(RecoveryError, match=why):
        read_state(folder)
    found = check_state(config)
    assert found is not None
    assert found.effect == "refused"
    Mine(events(10, 1)).run(epoch_interval=timedelta(0), recovery_config=recovery(folder))  # it goes on itself
    with open_database(folder / "part-0.sqlite3") as database:
        insert = "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)"
        database.execute(insert, ("monitor.source", "00000", 1, pickle.dumps(7)))
        database.commit()
    assert [(row.step, row.value) for row in read_state(folder).rows] == [("monitor.source", 7)]


def test_a_changed_configuration_is_refused_with_the_setting(tmp_path: Path) -> None:
    given = events(50)
    options = {"epoch_interval": timedelta(0), "recovery_config": recovery(tmp_path / "r")}
    Mine(given, SETTINGS).run(**options)
    changed = {**SETTINGS, "event": {**SETTINGS["event"], "lags": 0}}
    with pytest.raises(StateError, match=r"event\.lags: 8 → 0"):
        Mine([*given, *events(10, 1)], changed).run(**options)


def test_two_monitors_survive_kills_and_other_numbers_of_workers() -> None:
    """SIGKILL at any moment, 1 → 3 → 2 workers: results and states are those of a calm run."""
    script = Path(__file__).parents[1] / "benchmarks" / "plugin_kills.py"
    command = [sys.executable, str(script), "--kills", "3", "--events", "2500", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = orjson.loads(done.stdout)
    assert found["kills"] == 3
    assert found["alerts"] > 0
    assert found["differences"] == 0


def test_labels_come_in_the_same_stream() -> None:
    """Targets in dicts of their own, found by their marker, in any batches; one without an event is an error."""
    labelled = {**SETTINGS, "labels": {"marker": "label", "wait": "1h"}}
    given: list[dict[str, Any]] = []
    for i, each in enumerate(events(300)):
        given.append({**each, "temp": None})
        if i >= 20:
            earlier = events(300)[i - 20]
            given.append({"machine": earlier["machine"], "ts": earlier["ts"], "temp": earlier["temp"], "label": True})
    given.append({"machine": "press-1", "ts": 1, "temp": 1.0, "label": True})
    given.append({**events(1)[0], "ts": 1_700_100_000_000, "machine": "press-1", "temp": None})
    calm = Mine(given, labelled, batch=1000).run()
    assert [each.n for each in calm.predictions if each.entity == "press-5"][-1] > 25
    assert {each.fault for each in calm.errors} == {"UnmatchedLabel"}
    assert calm.errors[0].event["ts"] == 1
    keyed = [(each["machine"], each) for each in given]
    other = Mine(keyed, labelled, batch=7).run()
    assert other.by_id == calm.by_id
    assert [each.to_dict() for each in other.errors] == [each.to_dict() for each in calm.errors]
