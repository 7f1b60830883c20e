"""Fixed limits: told at their event from the first on, whatever the batches and restarts, until they no longer hold."""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.contract.message_schemas import alert_schema
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.ingest.events import EventReader
from ssm_stream.ops.metrics import Metrics

LIMITS = """
  - {column: temp, above: 90, for: 3 events}
  - {column: load, below: 2, for: 5m, entities: "pump-*", severity: warning}
  - {column: mode, one_of: [fault]}
"""


def config(limits: str = LIMITS, more: str = "", target: str = "temp") -> Config:
    return parse_config(
        f"""
source: {{brokers: "localhost:9092", topic: events}}
event: {{entity: machine, timestamp: ts, features: [load], categories: [mode], target: {target}}}
alerts:
  limits:{limits}
{more}
"""
    )


Row = tuple[str, float | None, float | None, str | None]


def rows(values: list[Row], minutes: int = 1) -> list[dict[str, Any]]:
    return [
        {"machine": name, "ts": 60 * minutes * i, "temp": temp, "load": load, "mode": mode}
        for i, (name, temp, load, mode) in enumerate(values)
    ]


def messages(engine: Engine, given: list[dict[str, Any]], cuts: list[int] | None = None) -> list[dict[str, Any]]:
    """The alerts of limits of rows that come in these batches."""
    out = list[dict[str, Any]]()
    for start, stop in pairwise([0, *(cuts or []), len(given)]):
        events, refused = EventReader(engine.config.event).read(given[start:stop])
        assert not refused
        ids = EventIds("events", 0, list(range(start, stop)))
        alerts = engine.process(events, 0, ids)[1]
        out += [alert.message | {"row": start + alert.row, "id": ids.alert_id(alert)} for alert in alerts]
    return [message for message in out if message["kind"] == "limit"]


def told(found: list[dict[str, Any]]) -> list[tuple[int, str, str, str]]:
    return [(m["row"], m["entity"], m["limit"], m["phase"]) for m in found]


def test_at_its_event_from_the_first_on_and_until_it_no_longer_holds() -> None:
    values: list[Row] = [
        ("pump-1", 91, 5, "run"),
        ("pump-1", 92, 5, "run"),
        ("pump-1", None, 5, "run"),  # no value changes nothing
        ("pump-1", 93, 5, "run"),
        ("pump-1", 99, 5, "fault"),
        ("pump-1", 90, 5, "run"),
    ]
    found = messages(Engine(config()), rows(values))
    assert told(found) == [
        (3, "pump-1", "temp above 90", "started"),
        (4, "pump-1", "mode fault", "started"),
        (5, "pump-1", "temp above 90", "recovered"),
        (5, "pump-1", "mode fault", "recovered"),
    ]
    assert [m["since"] for m in found] == [0, 240_000, 0, 240_000]
    assert [m["value"] for m in found] == [93.0, "fault", 90.0, "run"]
    assert len({m["id"] for m in found}) == 4
    assert found[0]["episode"] == found[2]["episode"] == found[0]["id"]
    assert found[0]["summary"] == "pump-1: temp is 93, above its limit of 90 (since 00:00)."
    assert found[1]["summary"] == "pump-1: mode is fault (since 00:04)."
    assert found[2]["summary"] == "pump-1: temp is within its limit again (90) (00:00 to 00:05)."
    assert {m["budget"] for m in found} == {None}


def test_metrics_count_the_entities_that_are_beyond_a_limit() -> None:
    settings_ = config()
    metrics, engine = Metrics(settings_), Engine(settings_)

    class Shard:
        key, read = "0000", MappingProxyType[tuple[str, int], int]({})

        def __init__(self) -> None:
            self.engine = engine

    shard = Shard()
    metrics.register_shard(shard)
    counted = list[float]()
    for mode in ("run", "fault", "run"):
        messages(engine, rows([(name, 95 if mode == "fault" else 20, 5, mode) for name in ("m1", "m2")] * 3))
        counted.append(metrics.value("ssm_stream_episodes_open", kind="limit"))
    assert counted == [0, 2, 0], "each once, whatever the number of its limits"
    kinds = [sample.labels["kind"] for each in metrics.registry.collect() for sample in each.samples
             if sample.name == "ssm_stream_episodes_open"]  # fmt: skip
    assert kinds == ["anomaly", "drift", "limit"], "those that the configuration has"


def test_a_time_and_a_pattern_of_entities() -> None:
    values: list[Row] = [(name, 20, 1, "run") for _ in range(7) for name in ("pump-1", "press-1")]
    found = messages(Engine(config()), rows(values))
    assert told(found) == [(6, "pump-1", "load below 2", "started")], "the fifth minute of the pump is its event 6"
    assert found[0]["severity"] == "warning"


VALUES = st.tuples(
    st.sampled_from(["pump-1", "press-1"]),
    st.sampled_from([20.0, 95.0, None]),
    st.sampled_from([1.0, 5.0]),
    st.sampled_from(["run", "fault", None]),
)


@settings(max_examples=30)
@given(st.lists(VALUES, min_size=1, max_size=40), st.data())
def test_no_batch_and_no_restart_changes_an_alert(values: list[Row], data: st.DataObject) -> None:
    given = rows(values)
    whole = messages(Engine(config()), given)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(given) - 1, 1)), max_size=3)))
    assert messages(Engine(config()), given, [cut for cut in cuts if cut < len(given)]) == whole
    cut = data.draw(st.integers(0, len(given)))
    engine = Engine(config())
    first = messages(engine, given[:cut]) if cut else []
    engine = Engine.restore(config(), engine.snapshot())
    rest = []
    if cut < len(given):
        events, _ = EventReader(engine.config.event).read(given[cut:])
        ids = EventIds("events", 0, list(range(cut, len(given))))
        rest = [
            a.message | {"row": cut + a.row, "id": ids.alert_id(a)}
            for a in engine.process(events, 0, ids)[1] if a.message["kind"] == "limit"
        ]  # fmt: skip
    assert first + rest == whole


def test_messages_keep_to_their_schema_beside_those_of_the_model() -> None:
    rng = np.random.default_rng(1)
    values: list[Row] = [
        ("pump-1", float(20 + rng.normal() + 80 * (500 < i < 520)), float(5 + rng.normal()), "run") for i in range(900)
    ]
    made = config(more="  anomaly: {recover_after: 3}\n  fleet: {enabled: false}")
    engine = Engine(made)
    events, _ = EventReader(made.event).read(rows(values))
    ids = EventIds("events", 0, list(range(len(values))))
    validator = Draft202012Validator(alert_schema(made))
    kinds = set()
    for alert in engine.process(events, 0, ids)[1]:
        place = {"topic": "events", "partition": 0, "offset": alert.row}
        validator.validate({**alert.message, "source": place, "id": ids.alert_id(alert)})
        kinds.add(alert.message["kind"])
    assert {"limit", "anomaly"} <= kinds


def test_a_limit_that_is_gone_ends_its_alerts_and_a_reset_too() -> None:
    given = rows([("pump-1", 95, 5, "run")] * 5)
    engine = Engine(config())
    assert told(messages(engine, given)) == [(2, "pump-1", "temp above 90", "started")]
    state = engine.snapshot()
    again = Engine.restore(config("\n  - {column: load, above: 100}"), state)
    (ended,) = messages(again, given[:1])
    assert (ended["phase"], ended["ended_by"], ended["limit"]) == ("recovered", "disabled", "temp above 90")
    engine.remove("pump-1")
    (ended,) = messages(engine, given[:1])
    assert (ended["ended_by"], ended["summary"]) == (
        "reset", "pump-1: closed, as its state was reset (at 00:00)."
    )  # fmt: skip


@pytest.mark.parametrize("more", ["", "alerts: {stuck: true}", "alerts: {limits: [{column: load, above: 99}]}"])
def test_a_limit_that_is_gone_ends_its_alerts_whatever_other_rules_there_are(more: str) -> None:
    engine = Engine(config("\n  - {column: mode, one_of: [run], below: 7}\n  - {column: oil temp, above: 90}"))
    given: list[dict[str, Any]] = [{**row, "oil temp": 95.0} for row in rows([("pump-1", 95, 5, "run")] * 3)]
    begun = messages(engine, given)
    text = f"""
source: {{brokers: "localhost:9092", topic: events}}
event: {{entity: machine, timestamp: ts, features: [load], categories: [mode], target: temp}}
{more}
"""
    again = Engine.restore(parse_config(text), engine.snapshot())
    again = Engine.restore(again.config, again.snapshot())
    ended = messages(again, given[:1])
    assert {(m["phase"], m["ended_by"], m["value"]) for m in ended} == {("recovered", "disabled", None)}
    assert {(m["limit"], m["column"]) for m in ended} == {(m["limit"], m["column"]) for m in begun}
    assert {m["episode"] for m in ended} == {m["id"] for m in begun if m["phase"] == "started"}
    assert not messages(again, given)
    Draft202012Validator(alert_schema(again.config)["oneOf"][0]["properties"]["budget"]).validate(ended[0]["budget"])


@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2, 3, 4]])
def test_who_never_had_a_target_and_makes_room_ends_by_reset_where_it_does(cuts: list[int]) -> None:
    """Whatever the batches are: it has no TTL."""
    made = config("\n  - {column: load, above: 2}", more="state: {max_entities: 2, when_full: evict}")
    values: list[Row] = [(name, temp, load, None) for name, temp, load in (
        ("m1", None, 3), ("m2", 1, 0), ("m3", 1, 0), ("m2", 1, 0), ("m1", 1, 0)
    )]  # fmt: skip
    engine, given, found = Engine(made), rows(values), list[tuple[int, str, str | None]]()
    for start, stop in pairwise([0, *cuts, len(given)]):
        events, _ = engine.admit(EventReader(made.event).read(given[start:stop])[0])
        found += [(start + a.row, a.message["phase"], a.message["ended_by"]) for a in engine.process(events)[1]]
    assert found == [(0, "started", None), (2, "recovered", "reset")]


def test_an_entity_past_its_ttl_ends_its_alert_where_the_others_show_it() -> None:
    made = config("\n  - {column: temp, above: 90}", "state: {ttl: 1h}")
    values: list[Row] = [("pump-1", 95, 5, "run")] * 2 + [("press-1", 20, 5, "run")] * 200 + [("pump-1", 96, 5, "run")]
    found = messages(Engine(made), rows(values))
    assert [(m["phase"], m["ended_by"]) for m in found] == [("started", None), ("recovered", "ttl"), ("started", None)]
    assert messages(Engine(made), rows(values), [50, 100, 202]) == found


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ("\n  - {column: machine, one_of: [pump-1]}", "the entity or the time of the event"),
        ("\n  - {column: temp}", "above, below, from or to"),
        ("\n  - {column: temp, above: 1}\n  - {column: temp, above: 1}", "twice, as entries 1 and 2"),
        ("\n  - {column: temp, above: 1, for: often}", "'3 events', or a duration such as '5m'"),
        ("\n  - {column: temp, above: 1, for: 0 events}", "'3 events'"),
    ],
)
def test_what_cannot_be_a_limit_is_refused(limits: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config(limits)


def test_a_limit_on_a_column_that_nothing_else_reads() -> None:
    made = config("\n  - {column: line.mode, one_of: [fault]}\n  - {column: speed, above: 10}")
    assert made.event.context == ["line.mode", "speed"]
    assert made.replace(alerts=made.without_shadow().alerts).event.context == ["line.mode", "speed"]
    assert made.replace(alerts=type(made.alerts)()).event.context == []
    given = rows([("pump-1", 20, 5, "run")] * 3)
    given[1] |= {"line": {"mode": "fault"}, "speed": 11}
    found = messages(Engine(made), given)
    assert [(m["row"], m["limit"], m["value"], m["phase"]) for m in found] == [
        (1, "line.mode fault", "fault", "started"),
        (1, "speed above 10", 11.0, "started"),
    ]


def test_limits_beside_several_targets() -> None:
    made = config("\n  - {column: temp, above: 90}\n  - {column: noise, above: 1}", target="[temp, noise]")
    given = [row | {"noise": 2.0} for row in rows([("pump-1", 95, 5, "run"), ("pump-1", 20, 5, "run")])]
    found = messages(Engine(made), given)
    assert told(found) == [
        (0, "pump-1", "temp above 90", "started"),
        (0, "pump-1", "noise above 1", "started"),
        (1, "pump-1", "temp above 90", "recovered"),
    ]
    assert [m["id"] for m in found] == ["events-0-0-limit", "events-0-0-limit-1", "events-0-1-limit"]
    for message in found:
        place = {"topic": "events", "partition": 0, "offset": message.pop("row")}
        Draft202012Validator(alert_schema(made)).validate({**message, "source": place})
