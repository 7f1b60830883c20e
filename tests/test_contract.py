"""The contracts: what is written is valid, what is read is valid and what is refused is not, AsyncAPI is AsyncAPI."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
from forked import ran
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from test_decoder import FakeMessage

from ssm_stream.config import Config, load_config, parse_config
from ssm_stream.config.own_messages import OwnMessages
from ssm_stream.config.paths import has_list_step, head_of, is_message_field
from ssm_stream.config.sections import Alerts
from ssm_stream.contract import message_schemas
from ssm_stream.contract.asyncapi import asyncapi
from ssm_stream.contract.event_schema import (
    control_schema,
    event_schema,
    example_event,
    feedback_schema,
    label_schema,
)
from ssm_stream.engine.summaries.messages import summary_key
from ssm_stream.flow.feedback import FeedbackDecoder
from ssm_stream.ingest.context.table import ContextTable, Message
from ssm_stream.ingest.control import Acknowledgement
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.labels import LabelReader
from ssm_stream.ingest.paths import path_getter
from ssm_stream.ingest.verdicts import FeedbackError, FeedbackReader
from ssm_stream.kafka.dead_letters import truncate
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.formats.messages import output_format
from ssm_stream.kafka.records import Chunk, OutputBatch, PredictedBatch, ProducerRecord
from ssm_stream.operators.shard_operator import ShardLogic

ROOT = Path(__file__).parents[1]
LIVELY = """
alerts:
  anomaly: {budget: 1 per 100 events, cooldown: 0, recover_after: 5}
  drift: {budget: 1 per 100 events, cooldown: 0}
"""
QUICK = "recovery: {directory: null}\n"
KINDS = ("event", "prediction", "alert", "dead-letter", "asyncapi")


@pytest.fixture(autouse=True, scope="module")
def reported_often() -> Iterator[None]:
    """Open alerts are reported again every 7 events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Alerts, "ongoing_every", 7)
        yield


def config(event: str = "features: [a, b]", more: str = "", model: str = "", alerts: str = LIVELY) -> Config:
    where = "{entity: machine, timestamp: ts, " + event + "}"
    return parse_config(
        f"source: {{brokers: 'localhost:9092', topic: plant.events}}\nevent: {where}\nmodel: {{warmup: 10{model}}}\n"
        f"{QUICK}{alerts}{more}"
    )


def documents(n: int, seed: int = 0, entities: int = 4, together: bool = False) -> list[dict[str, Any]]:
    """Events with two targets that spike and change their relation; `together`: at all entities at once."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).round(4)
    y = 5 + np.stack([x @ [2.0, -1.0], x @ [1.0, 1.0]], 1) + 0.3 * rng.normal(size=(n, 2))
    y[rng.random(n) < 0.005] += 30
    y[3 * n // 4 :, 0] -= 3 * x[3 * n // 4 :, 0]
    if together:
        y[(np.arange(n) // entities) % 150 == 149] += 40
    who = np.arange(n) % entities if together else rng.integers(entities, size=n)
    return [
        {"machine": f"m{who[i]}", "ts": 1_700_000_000_000 + 1000 * i, "a": float(x[i, 0]), "b": float(x[i, 1]),
         "mode": "AB"[i % 2], "id": f"part-{i}", "y": float(y[i, 0]), "z": None if i % 9 == 0 else float(y[i, 1])}
        for i in range(n)
    ]  # fmt: skip


class Written(NamedTuple):
    """What came out: predictions and alerts parsed, alerts with their headers; dead letters as they are."""

    predictions: list[dict[str, Any]]
    alerts: list[tuple[dict[str, Any], dict[str, str]]]
    letters: list[ProducerRecord]


def headers_of(record: ProducerRecord) -> dict[str, str]:
    return {name: (value if isinstance(value, bytes) else b"").decode() for name, value in record.headers or []}


class Flow:
    """The dataflow's steps, one after another, without a broker."""

    def __init__(self, config: Config) -> None:
        self.config, self.written, self.records = config, Written([], [], []), list[ProducerRecord]()
        self._decoder, self._encoder, self._logics = Decoder(config), Encoder(config), dict[str, ShardLogic]()
        self._offsets, self._format = Counter[str](), output_format(config)

    def send(self, values: Iterable[Any], topic: str = "plant.events") -> Flow:
        """Documents, or bytes as they are, a chunk of 200 at a time."""
        raw = [v if v is None or isinstance(v, bytes) else orjson.dumps(v) for v in values]
        for start in range(0, len(raw), 200):
            first, some = self._offsets[topic], raw[start : start + 200]
            self._offsets[topic] += len(some)
            messages: list[Any] = [FakeMessage(first + i, value, b"key") for i, value in enumerate(some)]
            for key, item in self._decoder.decode(Chunk(topic, 0, messages)):
                if isinstance(item, OutputBatch):
                    self._take([item])
                else:
                    logic = self._logics.setdefault(key, ShardLogic(self.config, None))
                    self._take(logic.on_batch([item])[0])
        return self

    def restored(self) -> Flow:
        """The same flow after a restart."""
        self._logics = {key: ShardLogic(self.config, logic.snapshot()) for key, logic in self._logics.items()}
        return self

    def _take(self, items: Iterable[PredictedBatch | OutputBatch]) -> None:
        for item in items:
            output = self._encoder.encode(*item) if isinstance(item, PredictedBatch) else item
            self.records += output.records
            for record in output.records:
                if record.topic == self.config.sinks.predictions:
                    self.written.predictions.append(self._format.read(record.value or b""))
                elif record.topic == self.config.sinks.alerts:
                    self.written.alerts.append((self._format.read(record.value or b""), headers_of(record)))
                else:
                    self.written.letters.append(record)


def valid(schema: dict[str, Any], document: Any) -> bool:
    return Draft202012Validator(schema).is_valid(document)


def check(config: Config, written: Written) -> None:
    """Every message is what the contract says."""
    predictions = Draft202012Validator(message_schemas.prediction_schema(config))
    alerts = Draft202012Validator(message_schemas.alert_schema(config))
    headers = Draft202012Validator(
        message_schemas.alert_headers(config), format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    letters = Draft202012Validator(message_schemas.dead_letter_headers(config))
    for prediction in written.predictions:
        predictions.validate(prediction)
    for alert, attributes in written.alerts:
        alerts.validate(alert)
        headers.validate(attributes)
        assert attributes["ce_type"].endswith(f"{alert['kind']}.{alert['phase']}")
    for letter in written.letters:
        letters.validate(headers_of(letter))
    own, source = OwnMessages(config), config.source.model_copy(update={"topic": "another", "topics": None})
    other = OwnMessages(config.replace(source=source, labels=None))
    assert all(own.has_prediction(each) and not other.has_prediction(each) for each in written.predictions)
    assert all(own.has_alert(each) and not other.has_alert(each) for each, _ in written.alerts)


# What is written.

VARIANTS = {
    "one target": config("features: [a, b], target: y"),
    "a category": config("features: [a, b], categories: [mode], target: y"),
    "several targets": config("features: [a, b], target: [y, z]"),
    "five events ahead": config("features: [a, b], target: y", model=", horizon: 5 events"),
    "ten seconds ahead, two targets": config("features: [a, b], target: [y, z]", model=", horizon: 10s"),
    "each by itself": config("features: [a, b], target: z", model=", fleet: false"),
    "soft sensor, accurate": config("features: [a, b], lags: 0, target: y", model=", profile: accurate"),
    "planned stops": config(
        "features: [a, b], target: y", alerts="alerts: {maintenance: [{weekly: 'Sun 06:00-18:00'}], control: true}\n"
    ),
    "held": config("features: [a], target: y", alerts="alerts: {drift: {learn: hold, budget: 1 per 100 events}}\n"),
    "no drift, no predictions": config(
        "features: [a], target: y", "sinks: {predictions: null}\n", alerts="alerts: {drift: {enabled: false}}\n"
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_message_is_valid(name: str) -> None:
    # So many that drift is looked for, and that learning is held.
    n, entities = {"one target": (2400, 2), "held": (3200, 1), "ten seconds ahead, two targets": (800, 4)}.get(
        name, (500, 4)
    )
    flow = Flow(VARIANTS[name]).send(documents(n, entities=entities)).restored()
    flow.send(documents(n, seed=1, entities=entities))
    check(flow.config, flow.written)
    assert len(flow.written.predictions) == 2 * n * len(flow.config.event.targets) * bool(flow.config.sinks.predictions)
    assert flow.written.alerts
    assert not flow.written.letters
    if name == "one target":
        told = Counter((alert["kind"], alert["phase"]) for alert, _ in flow.written.alerts)
        assert len(told) == 6, told
    if name == "held":
        assert any(a["learning"] == 0 and a["source"]["offset"] >= 4000 for a, _ in flow.written.alerts)


@pytest.mark.parametrize("target", ["y", "[y, z]"])
def test_fleet_alerts_are_valid(target: str) -> None:
    flow = Flow(config(f"features: [a, b], target: {target}")).send(documents(4800, entities=8, together=True))
    check(flow.config, flow.written)
    assert Counter(alert["scope"] for alert, _ in flow.written.alerts)["fleet"] > 2


LABELLED = {
    "on a topic": ("labels", "labels: {topic: labels}\n"),
    "by id": ("labels", "labels: {topic: labels, id: id}\n"),
    "among the events": ("plant.events", "labels: {marker: result, target: result}\n"),
}


@pytest.mark.parametrize("name", LABELLED)
def test_with_labels_every_message_is_valid_either_way(name: str) -> None:
    topic, section = LABELLED[name]
    flow = Flow(config("features: [a, b], target: y", section))
    events, labels = event_schema(flow.config), label_schema(flow.config)
    bare, late = [], []
    for d in documents(800):
        bare.append({key: value for key, value in d.items() if key not in ("y", "z")})
        who = {key: d[key] for key in (("machine", "id") if name == "by id" else ("machine", "ts"))}
        late.append({**who, ("result" if "result" in section else "y"): d["y"]})
    for start in range(0, 800, 20):
        flow.send(bare[start : start + 20]).send(late[start : start + 20], topic)
    flow.send([{**late[-1], "machine": "m0", "ts": 1, "id": "nobody's"}], topic)
    assert flow.written.alerts
    assert [headers_of(letter)["__connect.errors.stage"] for letter in flow.written.letters] in (["label"], [])
    check(flow.config, flow.written)
    assert all(valid(events, d) for d in bare)
    assert all(valid(labels, d) for d in late)
    assert "among" not in name or all(valid(events, d) for d in late)


def test_dead_letters_of_every_stage_are_valid() -> None:
    good = documents(300, entities=3)
    more = "state: {max_entities: 2}\nlabels: {topic: labels}\n"
    alerts = "alerts: {feedback: {topic: said}}\n"
    flow = Flow(config("features: [a, b], target: y", more, alerts=alerts)).send({**d, "y": None} for d in good)
    flow.send(
        [b"{", b"\xff", None, b"", [1], {"ts": 1}, {**good[0], "a": "x"}, {**good[0], "ts": "soon"}, b"x" * 2_000_000]
    )
    flow.send([*({"machine": f"m{i}", "ts": 1, "y": 5} for i in range(3)), {"machine": "m0", "ts": 1}], "labels")
    said: list[Any] = [
        FakeMessage(i, value, b"k") for i, value in enumerate([b"{", b"[]", b"{}", b'{"id":1,"true":false}'])
    ]
    for _, item in FeedbackDecoder(flow.config)(Chunk("said", 0, said)):
        if isinstance(item, OutputBatch):
            flow.written.letters.extend(item.records)
    flow.written.letters.extend([truncate(r) for r in flow.written.letters if len(r.value or b"") > 1_000_000])
    check(flow.config, flow.written)
    stages = {headers_of(letter)["__connect.errors.stage"] for letter in flow.written.letters}
    assert stages == {"decode", "admit", "label", "feedback"}
    schema, whole = message_schemas.dead_letter_headers(flow.config), headers_of(flow.written.letters[0])
    assert valid(schema, {**whole, "traceparent": "of the message itself"})
    assert not valid(schema, {**whole, "__connect.errors.new": "x"})
    assert not valid(schema, {k: v for k, v in whole.items() if "stage" not in k})
    bare = message_schemas.dead_letter_headers(config("features: [a, b], target: y"))
    assert bare["properties"]["__connect.errors.stage"]["enum"] == ["decode"]


def test_faults_are_those_of_the_documentation_and_of_the_code() -> None:
    stages = {fault for faults in message_schemas.FAULTS.values() for fault in faults}
    table = (ROOT / "docs/messages.md").read_text().partition("| fault | when |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([A-Z]\w+)`", table)) == stages == set(Fault)
    code = "".join(path.read_text() for path in (ROOT / "ssm_stream").rglob("*.py"))
    raised = re.findall(
        r"(?:Refused\w*\(\w+,|FaultError\(|SchemaError\(|FeedbackError\(|\"label\",)\s*Fault\.(\w+)", code
    )
    raised += re.findall(r"self\.refuse\(.*, Fault\.(\w+),", code)
    assert {Fault[name] for name in raised} == stages


def test_a_field_without_a_schema_and_a_missing_one_are_faults() -> None:
    flow = Flow(VARIANTS["several targets"]).send(documents(800))
    prediction, alert = flow.written.predictions[-1], flow.written.alerts[-1][0]
    for schema, message in (
        (message_schemas.prediction_schema(flow.config), prediction),
        (message_schemas.alert_schema(flow.config), alert),
    ):
        assert valid(schema, message)
        assert not valid(schema, {**message, "new": 1})
        for name in message:
            assert not valid(schema, {key: value for key, value in message.items() if key != name}), name
    other = message_schemas.prediction_schema(VARIANTS["one target"])
    assert not valid(other, prediction), "of another configuration"


# What is read.

SHAPES = {
    "flat": config("features: [load, speed], categories: [mode], target: temp"),
    "nested": config("features: [deep.load, deep.er.speed], categories: [deep.mode], target: [temp, deep.er.flow]"),
    "one path twice": config("features: [], categories: [machine], target: temp"),
    "all deep": parse_config(
        "source: {brokers: a, topic: t}\n"
        "event: {entity: who.id, timestamp: who.ts, features: [who.load], target: who.temp, timestamp_format: ms}\n"
    ),
    "lists": parse_config(
        "source: {brokers: a, topic: t}\n"
        "event: {entity: 'who[0].id', timestamp: 'at.times[1]', features: ['in.all[name=load].v', 'in.all[name=7].v'],"
        " target: 'in.all[name=temp].v', categories: ['$header.line', 'in.all[name=load].mode']}\n"
    ),
    "seconds": parse_config(
        "source: {brokers: a, topic: t}\nevent: {entity: machine, timestamp: ts, timestamp_format: s, target: temp}\n"
    ),
    "nameless": config("features: [load], target: temp, entity_default: line-1"),
    "text": parse_config(
        "source: {brokers: a, topic: t}\nevent: {entity: machine, timestamp: ts, timestamp_format: iso, target: temp}\n"
    ),
}
times = st.datetimes().map(lambda t: t.isoformat()) | st.datetimes().map(lambda t: f"{t:%G-W%V-%u}")
times |= st.sampled_from(
    ["2026-01-31", "20260131T1200Z", "2026-01-31 12:00:00,5+09:00", "20260131120000", "soon", "2026-02-30"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-5, 2_000_000_000_000)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    | st.sampled_from(["A", "press-1", "x" * 512, "y" * 513])
    | times
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from("ab"), scalars, max_size=2)


@st.composite
def events_of(draw: st.DrawFn, shape: Config) -> dict[str, Any]:
    """An event with one or more values changed, dotted paths in one spelling."""
    event, flat = shape.event, draw(st.booleans())
    out = {path: path_getter(path)(example_event(shape)) for path in [event.entity, event.timestamp, *event.targets]}
    out |= {path: path_getter(path)(example_event(shape)) for path in event.columns if not is_message_field(path)}
    for path in draw(st.lists(st.sampled_from(sorted(out)), max_size=3)):
        if draw(st.integers(0, 5)):
            out[path] = draw(values)
        else:
            out.pop(path, None)
    document: dict[str, Any] = {}
    if not flat and any(map(has_list_step, out)):
        document = example_event(shape)
        for path in draw(st.lists(st.sampled_from(sorted(out)), max_size=2)):
            head = head_of(path)[0]
            document |= {head.split(".")[0]: draw(values)} | ({path: draw(values)} if draw(st.booleans()) else {})
        return document
    for path, value in out.items():
        within, keys = document, [path] if flat else path.split(".")
        for key in keys[:-1]:
            within = within.setdefault(key, {})
        within[keys[-1]] = value
    if not flat and draw(st.integers(0, 9)) == 0:
        document |= {key: draw(values) for key in document if isinstance(document[key], dict)}
    return document


def beyond_a_schema(shape: Config, document: Any, fault: str) -> bool:
    """Refused for what a schema cannot tell."""
    if fault == "WrongTimestamp":
        return True  # such as February 30
    if fault == "OutOfRange":
        return shape.event.timestamp_format in ("auto", "iso")
    return fault == "WrongType" and type(path_getter(shape.event.entity)(document)) is float


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=60)
@given(data=st.data())
def test_what_is_read_is_valid_and_what_is_refused_is_not(name: str, data: st.DataObject) -> None:
    shape = SHAPES[name]
    validator, reader = Draft202012Validator(event_schema(shape)), EventReader(shape.event)
    document = orjson.loads(orjson.dumps(data.draw(events_of(shape))))
    _, refused = reader.read([document])
    if not refused:
        validator.validate(document)
    elif not beyond_a_schema(shape, document, refused[0].fault):
        assert not validator.is_valid(document), refused


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "20260131", "2026-W05-6", "2026-01-31 12:00:00.123456+09:00"])
def test_times_as_text_are_valid(text: str) -> None:
    shape = SHAPES["flat"]
    document = {**example_event(shape), "ts": text}
    assert not EventReader(shape.event).read([document])[1]
    assert valid(event_schema(shape), document)
    assert not valid(event_schema(shape), {**document, "ts": f"at {text}"})


@pytest.mark.parametrize("name", SHAPES)
def test_the_example_is_an_event(name: str) -> None:
    schema = event_schema(SHAPES[name])
    assert all(valid(schema, example) for example in schema["examples"])
    assert not EventReader(SHAPES[name].event).read(schema["examples"])[1]


@pytest.mark.parametrize("section", [section for _, section in LABELLED.values()])
def test_labels_that_are_refused_are_not_valid(section: str) -> None:
    made = config("features: [a], target: y", section)
    assert made.labels is not None
    read, schema = LabelReader(made, made.labels), label_schema(made)
    good = {"machine": "m", "ts": 1_700_000_000, "y": 1.5, "result": 1.5, "id": 7}
    tried: list[Any] = [good, [], 5]
    for key in good:
        tried += [
            {k: v for k, v in good.items() if k != key},
            {**good, key: None},
            {**good, key: [1]},
            {**good, key: ""},
        ]
    for document in tried:
        assert valid(schema, document) == (not read.read([document])[1]), document


def test_feedback_that_is_refused_is_not_valid() -> None:
    made = config("features: [a], target: y", alerts="alerts: {feedback: {topic: said}}\n")
    read, schema = FeedbackReader(made), feedback_schema(made)
    ids = [
        "plant.events-0-5-drift",
        "plant.events-0-5-anomaly-fleet",
        "plantXevents-0-5-drift",
        "plant.events-0-5",
        7,
        None,
    ]
    tried = [
        {"id": one, "true": true, "by": "me"} for one in [*ids, "plant.events-3-9-drift-2"] for true in (True, None, 1)
    ]
    for document in [*tried, {}, {"true": True}, []]:
        try:
            read(orjson.dumps(document))
            taken = True
        except FeedbackError:
            taken = False
        assert valid(schema, document) == taken, document


# AsyncAPI.

EVERYTHING = """
source:
  brokers: [kafka-1.example:9093, kafka-2.example:9093]
  topic: plant.events
  kafka: {security.protocol: SASL_SSL, sasl.mechanism: SCRAM-SHA-512, sasl.username: who, sasl.password: "${SECRET}"}
event: {entity: machine, timestamp: payload.ts, features: [load], target: temp}
labels: {topic: labels}
alerts: {feedback: {topic: said}}
sinks: {suppressed: hidden}
delivery: exactly_once
"""


def all_configs() -> dict[str, Config]:
    files = {path.name: load_config(path) for path in sorted((ROOT / "configs").glob("*.yaml"))}
    return {**files, **VARIANTS, **{name: config("features: [a]", section) for name, (_, section) in LABELLED.items()}}


@pytest.fixture(scope="module")
def official() -> Draft7Validator:
    """AsyncAPI's own JSON Schema (see README.md)."""
    return Draft7Validator(
        json.loads(gzip.decompress((Path(__file__).with_name("asyncapi-3.0.0.json.gz")).read_bytes()))
    )


def test_asyncapi_is_valid_for_every_configuration(official: Draft7Validator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    for name, made in {**all_configs(), "everything": parse_config(EVERYTHING)}.items():
        errors = [f"{name}: {error.json_path}: {error.message[:200]}" for error in official.iter_errors(asyncapi(made))]
        assert not errors


def test_asyncapi_tells_every_topic_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    document = asyncapi(parse_config(EVERYTHING))
    addresses = {name: channel["address"] for name, channel in document["channels"].items()}
    assert addresses == {
        "events": "plant.events", "labels": "labels", "feedback": "said",
        "predictions": "predictions", "alerts": "alerts", "suppressed": "hidden", "deadLetters": "dead-letters",
    }  # fmt: skip
    actions = {
        operation["channel"]["$ref"].rpartition("/")[2]: operation["action"]
        for operation in document["operations"].values()
    }
    assert actions == {
        name: "receive" if name in ("events", "labels", "feedback") else "send" for name in document["channels"]
    }
    assert [server["host"] for server in document["servers"].values()] == [
        "kafka-1.example:9093",
        "kafka-2.example:9093",
    ]
    assert {server["protocol"] for server in document["servers"].values()} == {"kafka-secure"}
    assert document["components"]["securitySchemes"]["sasl"] == {"type": "scramSha512"}
    text = json.dumps(document)
    assert "hunter2" not in text
    assert "sasl.username" not in text
    for found in re.findall(r'"\$ref": "#/([^"]+)"', text):
        within = document
        for key in found.split("/"):
            within = within[key]


SHARED = """
source:
  brokers: a
  topic: keyed
  repartition: plain
  context: [{topic: orders, columns: [product, speed]}, {topic: crews, columns: [crew], max_age: 8h}]
event: {entity: machine, timestamp: at, features: [load, speed], categories: [product, crew], target: [temp, bar]}
alerts: {control: true}
sinks: {summaries: hours}
"""


def test_asyncapi_has_facts_copies_and_answers(official: Draft7Validator) -> None:
    loaded = parse_config(SHARED)
    document = asyncapi(loaded)
    assert not list(official.iter_errors(document))
    channels, messages = document["channels"], document["components"]["messages"]
    names = {name: each["address"] for name, each in channels.items()}
    assert {names[name] for name in ("events", "unkeyedEvents", "facts", "facts2", "control")} == {
        "keyed", "plain", "orders", "crews", "keyed-control",
    }  # fmt: skip
    assert {"receiveEvents", "sendEvents", "receiveUnkeyedEvents", "receiveFacts2"} <= document["operations"].keys()
    table = ContextTable(loaded, loaded.source.context[0])
    schema = Draft7Validator(messages["facts"]["payload"])
    facts = [
        {"machine": "m1", "at": "2026-01-31T09:00:00Z", "product": "A", "speed": 1.5}, {"product": 7}, {},
        {"machine": None, "at": None, "product": None}, {"speed": "fast"}, {"machine": []}, {"at": "soon"}, [],
    ]  # fmt: skip
    for i, fact in enumerate(facts):
        refused = table.add([Message(0, i, "m2", 1_769_850_000_000, fact)])
        assert schema.is_valid(fact) == (not refused), fact
    answers = [Acknowledgement("0-17", "g", 2, 4711), Acknowledgement("0-17", "g")]
    for each in (json.loads(answer.to_json()) for answer in answers):
        assert Draft7Validator(messages["answers"]["payload"]).is_valid(each)
        assert Draft202012Validator(control_schema(loaded)).is_valid(each)
        assert not Draft7Validator(messages["control"]["payload"]).is_valid(each)
    key = messages["summaries"]["bindings"]["kafka"]["key"]["description"]
    assert summary_key("press-7", 1_769_850_000_000, "temp") in key
    assert "same key" in messages["summaries"]["summary"]
    one = asyncapi(parse_config(SHARED.replace("[temp, bar]", "temp")))["components"]["messages"]["summaries"]
    assert "press-7|2026-01-31T09Z:" in one["bindings"]["kafka"]["key"]["description"]


def test_schemas_are_schemas_in_either_draft() -> None:
    """The same text stands under 2020-12 on its own and under draft-07 in AsyncAPI."""
    for made in all_configs().values():
        schemas = [event_schema(made), message_schemas.prediction_schema(made), message_schemas.alert_schema(made)]
        schemas += [message_schemas.suppressed_schema(made)]
        schemas += [message_schemas.alert_headers(made), message_schemas.dead_letter_headers(made)]
        schemas += [label_schema(made)] if made.labels else []
        for schema in schemas:
            Draft202012Validator.check_schema(schema)
            Draft7Validator.check_schema(schema)
            assert "$ref" not in json.dumps(schema)


def test_every_message_is_valid_by_the_asyncapi_document() -> None:
    flow = Flow(VARIANTS["several targets"]).send(documents(600))
    messages = asyncapi(flow.config)["components"]["messages"]
    assert all(Draft7Validator(messages["predictions"]["payload"]).is_valid(p) for p in flow.written.predictions)
    assert all(Draft7Validator(messages["alerts"]["payload"]).is_valid(a) for a, _ in flow.written.alerts)


# The commands.


def test_schema_commands_print_json_schema(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ssm_stream.cli.app import app

    path = tmp_path / "monitor.yaml"
    path.write_text(f"source: {{brokers: a, topic: t}}\nevent: {{entity: e, timestamp: t, features: auto}}\n{QUICK}")
    for kind in KINDS:
        told = CliRunner().invoke(app, ["schema", kind, str(path)])
        assert told.exit_code == 0, told.stderr
        content = json.loads(told.stdout)
        assert content.get("$schema", "").endswith("2020-12/schema") or content["asyncapi"] == "3.0.0"
    for kind in (*KINDS, "config", "label", "feedback"):
        assert f"Example: ssm-stream schema {kind}" in CliRunner().invoke(app, ["schema", kind, "--help"]).stdout
    for kind, words in (("label", "labels: not set"), ("feedback", "alerts.feedback: not set")):
        told = CliRunner().invoke(app, ["schema", kind, str(path)])
        assert (told.exit_code, told.stdout) == (2, "")
        assert words in told.stderr


def test_the_schema_has_the_inputs_that_were_picked_for_the_state(tmp_path: Path) -> None:
    from ssm_stream.autoconfig.feature_selection import select_features
    from ssm_stream.recovery.settings_files import write_feature_selection

    path = tmp_path / "monitor.yaml"
    path.write_text(
        f"source: {{brokers: a, topic: t}}\nevent: {{entity: e, timestamp: t, features: auto}}\n"
        f"recovery: {{directory: {tmp_path / 'state'}}}\n"
    )
    made = load_config(path)
    selection = select_features(made, [{"e": "m", "t": i, "load": i * i, "target": i} for i in range(50)])
    (tmp_path / "state").mkdir()
    write_feature_selection(tmp_path / "state", made, selection.config)
    told = json.loads(ran("schema", "event", str(path)).stdout)
    assert "load" in told["properties"]
