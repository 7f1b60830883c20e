"""Whatever ends an episode is sent, at one and the same event; all messages of an episode name its beginning."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from engines import DAY, HOUR, config, cut, made
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_fleet_alerts import LIVELY, struck

from ssm_stream.config import Config
from ssm_stream.contract.message_schemas import alert_headers, alert_schema, suppressed_schema
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import ShardBatch

TOPIC = "sinks: {suppressed: hidden}\n"
TTL = "alerts: {anomaly: {recover_after: 1000}}\nmodel: {warmup: 10}\nstate: {ttl: 1d}\n"
NULL = ("score", "y", "yhat", "yhat_lower", "yhat_upper", "channel", "change", "absorbed_after", "state_hash")


def messages(
    engine: Engine, events: Events, first: int = 0, source: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Process a batch, and return the messages on the topics of alerts and of suppressed ones, each valid."""
    config_, encoder = engine.config, Encoder(engine.config)
    if not len(events):
        return [], []
    batch = ShardBatch(source, events, list(range(first, first + len(events))))
    records = encoder.encode(batch, *engine.process(events, source, encoder.event_ids(batch))).others
    found: dict[str, list[dict[str, Any]]] = {"alerts": [], "hidden": []}
    headers = Draft202012Validator(alert_headers(config_))
    schemas = {"alerts": alert_schema(config_), "hidden": suppressed_schema(config_)}
    for record in records:
        message = orjson.loads(record.value or b"")
        Draft202012Validator(schemas[record.topic]).validate(message)
        headers.validate({name: value.decode() for name, value in record.headers or [] if isinstance(value, bytes)})
        found[record.topic].append(message)
    return found["alerts"], found["hidden"]


def broken(n: int = 60, at: int = 40, entity: str = "old") -> Events:
    """An entity's events, a minute apart, whose last are far off."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=n)
    y[at:] += 1000
    return made(y, entity=entity, ts=np.arange(n) * 60_000)


def clock(n: int, hours: float = 0.2, start: float = 1.0, entity: str = "clock") -> Events:
    """Another's events, so many hours apart: the watermark moves by a hundredth of the TTL at most."""
    return made(np.random.default_rng(1).normal(size=n), entity=entity, ts=HOUR * (start + hours * np.arange(n)))


def together(*parts: Events) -> Events:
    return Events(
        [name for each in parts for name in each.entity],
        *(np.concatenate([getattr(each, name) for each in parts]) for name in ("ts", "features", "target")),
        np.arange(sum(map(len, parts))),
    )


def restored(engine: Engine, config_: Config | None = None) -> Engine:
    return Engine.restore(config_ or engine.config, engine.snapshot())


def opened(sections: str = TTL) -> tuple[Engine, dict[str, Any]]:
    """An engine with an open anomaly of `old`, and its `started` message."""
    engine = Engine(config(sections=sections))
    found, _ = messages(engine, broken())
    assert [(m["entity"], m["kind"], m["phase"]) for m in found] == [("old", "anomaly", "started")]
    assert (found[0]["episode"], found[0]["ended_by"]) == (found[0]["id"], None)
    return engine, found[0]


# An entity that sends no more.


@pytest.mark.parametrize("comes_back", [False, True])
def test_an_episode_ends_at_the_event_at_which_the_ttl_is_over(comes_back: bool) -> None:
    """Whoever's event it is; if the entity comes back, its next event is its first."""
    engine, began = opened()
    later = clock(200)
    if comes_back:
        later = together(later, made([0.0], entity="old", ts=[60 * HOUR]))
    found, _ = messages(engine, later, 60)
    (over,) = [m for m in found if m["entity"] == "old"]
    # Its last event is that of minute 59, and a day has passed since at hour 25.
    assert (over["ts"], over["id"], over["source"]["offset"]) == (25 * HOUR, "events-0-180-anomaly-1", 180)
    assert (over["phase"], over["ended_by"], over["episode"]) == ("recovered", "ttl", began["id"])
    assert (over["since"], over["severity"], over["learning"]) == (began["since"], "warning", 1.0)
    assert all(over[name] is None for name in NULL)
    assert list(over) == list(began), "in the same order"
    assert engine.count_open_episodes("anomaly") == 0


def test_as_long_as_labels_come_nothing_ends() -> None:
    engine, _ = opened()
    far = replace(broken(200, 0), ts=np.arange(200) * HOUR + HOUR)
    found, _ = messages(engine, far, 60)
    assert {m["phase"] for m in found} <= {"ongoing"}
    assert engine.count_open_episodes("anomaly") == 1


def test_without_a_ttl_nothing_ends() -> None:
    engine, _ = opened(TTL.replace("1d", "null"))
    assert messages(engine, clock(200, 365 * 24), 60) == ([], [])
    assert engine.count_open_episodes("anomaly") == 1


def test_partitions_have_clocks_of_their_own() -> None:
    engine, began = opened()
    assert messages(engine, clock(400, entity="fast"), 0, source=1) == ([], [])
    found, _ = messages(engine, clock(200), 60)
    assert [(m["id"], m["episode"]) for m in found if m["entity"] == "old"] == [("events-0-180-anomaly-1", began["id"])]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2500), max_size=12), st.sampled_from(["batches", "restores", "snapshots"]))
@pytest.mark.parametrize("targets", [1, 2])
def test_no_batch_restart_or_snapshot_changes_a_message(targets: int, cuts: list[int], how: str) -> None:
    config_, events = several(targets)
    whole = WHOLE.setdefault(targets, messages(Engine(config_), events))
    engine, alerts, hidden = Engine(config_), list[dict[str, Any]](), list[dict[str, Any]]()
    for start, stop in pairwise([0, *sorted(cuts), len(events)]):
        some, more = messages(engine, cut(events, start, stop), start)
        alerts += some
        hidden += more
        if how == "restores":
            engine = restored(engine)
        elif how == "snapshots":
            engine.snapshot()
    assert (alerts, hidden) == whole


WHOLE: dict[int, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {}


def several(targets: int) -> tuple[Config, Events]:
    """Entities with gaps longer than the TTL, in fleet episodes and outside of them."""
    sections = LIVELY.replace("alerts:\n", "alerts:\n  fleet: {share: 0.01}\n").replace("100 events", "100m")
    events = struck(2500, gaps=True)
    if targets == 1:
        return config("features: [a, b]", sections + TOPIC + "state: {ttl: 2h}\n"), events
    y = np.stack([events.target, np.roll(events.target, 1)], 1)
    return config("features: [a, b], target: [y, z]", sections + TOPIC + "state: {ttl: 2h}\n"), replace(
        events, target=y
    )


@pytest.mark.parametrize("targets", [1, 2])
def test_every_episode_begins_once_and_ends_at_most_once_on_either_topic(targets: int) -> None:
    config_, events = several(targets)
    alerts, hidden = messages(Engine(config_), events)
    ids = [m["id"] for m in alerts + hidden]
    assert len(set(ids)) == len(ids)
    fleets = {m["id"]: m for m in alerts if m["scope"] == "fleet" and m["phase"] == "started"}
    for mine in (alerts, hidden):
        open_: dict[str, dict[str, Any]] = {}
        for m in mine:
            if m["phase"] == "started":
                assert m["episode"] == m["id"]
                open_[m["id"]] = m
                continue
            if mine is hidden and m["episode"] not in open_:  # it was sent before the fleet's began
                assert m["phase"] == "ongoing"
                continue
            began = open_[m["episode"]]
            assert (m["entity"], m["kind"], m["since"]) == (began["entity"], began["kind"], began["since"])
            if m["phase"] == "recovered":
                del open_[m["episode"]]
    assert {m["ended_by"] for m in alerts} == {None, "recovered", "ttl"}
    assert {m["suppressed_by"] for m in hidden} <= set(fleets)
    assert {m["phase"] for m in hidden} == {"started", "ongoing", "recovered"}
    counted = Counter((m["kind"], m["scope"]) for m in alerts)
    assert counted["anomaly", "fleet"] >= 2


def test_suppressed_alerts_are_rendered_for_their_topic_only() -> None:
    """The messages of alerts are the same with and without it."""
    config_, events = several(1)
    alerts, hidden = messages(Engine(config_), events)
    without = Engine(config_.replace(sinks=config_.sinks.model_copy(update={"suppressed": None})))
    assert messages(without, events) == (alerts, [])
    assert hidden
    assert all(len(m["state_hash"] or "-" * 16) == 16 for m in hidden)
    assert [a for a in Engine(config_).process(events)[1] if a.suppressed_by is not None] == [], "no ids, no topic"


def test_an_entity_that_is_open_when_a_fleet_episode_ends_begins_anew_among_the_alerts() -> None:
    config_, events = several(1)
    alerts, hidden = messages(Engine(config_), events)
    later = [m for m in alerts if m["scope"] == "entity" and m["phase"] == "started" and m["id"][-2:-1] == "-"]
    assert later
    for m in later:
        before = [h for h in hidden if h["entity"] == m["entity"] and h["kind"] == m["kind"] and h["ts"] <= m["ts"]]
        assert before[-1]["since"] == m["since"]
        assert before[-1]["episode"] != m["episode"] == m["id"]


# Ends between two events.


def test_a_reset_is_sent_at_the_next_event_of_its_source() -> None:
    engine, began = opened()
    engine.remove("old")
    assert "old" not in engine
    engine = restored(restored(engine))
    assert messages(engine, clock(5), 7, source=1) == ([], []), "another source"
    (over,), _ = messages(restored(engine), clock(5), 60)
    again, _ = messages(engine, clock(2), 60)
    assert again == [over], "however many events there are"
    assert (over["id"], over["episode"], over["ended_by"]) == ("events-0-60-anomaly-1", began["id"], "reset")
    assert (over["entity"], over["ts"], over["since"]) == ("old", HOUR, began["since"])
    assert all(over[name] is None for name in NULL)
    assert messages(restored(engine), clock(5), 62) == ([], []), "once"


def test_an_entity_that_makes_room_for_another_ends_by_reset() -> None:
    engine = Engine(config(sections=TTL.replace("ttl: 1d", "ttl: 1d, max_entities: 1, when_full: evict")))
    events, _ = engine.admit(broken())
    (began,), _ = messages(engine, events)
    events, _ = engine.admit(clock(3))
    (over,), _ = messages(engine, events, 60)
    assert (over["entity"], over["ended_by"], over["episode"]) == ("old", "reset", began["id"])
    assert over["id"] == "events-0-60-anomaly-1"


@pytest.mark.parametrize("targets", [1, 2])
def test_a_detector_that_is_switched_off_ends_its_episodes(targets: int) -> None:
    before, events = several(targets)
    engine = Engine(before)
    alerts, hidden = messages(engine, cut(events, 0, 1950))
    left = still_open(alerts, "anomaly")
    assert {m["scope"] for m in left} == {"entity", "fleet"}
    inside = [m for m in still_open(hidden, "anomaly") if not went_on(m, alerts)]
    assert bool(inside) == (targets == 1)
    alerts_ = before.alerts.model_copy(update={"anomaly": before.alerts.anomaly.model_copy(update={"enabled": False})})
    engine = restored(engine, before.replace(alerts=alerts_))
    some, more = messages(restored(engine), cut(events, 1950, 1960), 1950)
    ended = [m for m in some if m["ended_by"] == "disabled"]
    assert {m["episode"] for m in ended} == {m["episode"] for m in left}
    assert {m["source"]["offset"] for m in ended} == {1950}
    assert {m["kind"] for m in ended} == {"anomaly"}
    assert {m["episode"] for m in more if m["ended_by"] == "disabled"} == {m["episode"] for m in inside}
    once = messages(engine, cut(events, 1950, 1951), 1950)[0]
    assert [m for m in once if m["ended_by"]] == [m for m in some if m["source"]["offset"] == 1950 and m["ended_by"]]


def still_open(alerts: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The last message of each episode that has not recovered."""
    last = {m["episode"]: m for m in alerts if m["kind"] == kind}
    return [m for m in last.values() if m["phase"] != "recovered"]


def went_on(hidden: dict[str, Any], alerts: list[dict[str, Any]]) -> bool:
    """Whether a suppressed episode was still open when the fleet's ended: it goes on among the alerts."""
    same = ("entity", "kind", "since")
    return any(all(m[name] == hidden[name] for name in same) for m in alerts if m["phase"] == "started")


def test_fleet_alerts_that_are_switched_off_end_theirs() -> None:
    before, events = several(1)
    engine = Engine(before)
    alerts, hidden = messages(engine, cut(events, 0, 1950))
    left = [m for m in still_open(alerts, "anomaly") if m["scope"] == "fleet"]
    assert len(left) == 1
    off = before.alerts.model_copy(update={"fleet": before.alerts.fleet.model_copy(update={"enabled": False})})
    some, more = messages(restored(engine, before.replace(alerts=off)), cut(events, 1950, 1951), 1950)
    ended = [m for m in some if m["ended_by"] == "disabled"]
    assert [(m["scope"], m["episode"], m["count"], m["entities"]) for m in ended] == [
        ("fleet", left[0]["episode"], 0, [])
    ]
    assert ended[0]["id"] == "events-0-1950-anomaly-fleet"
    inside = [m for m in still_open(hidden, "anomaly") if not went_on(m, alerts)]
    assert {m["episode"] for m in more} == {m["episode"] for m in inside}
    assert inside


# Ids.


def test_an_event_with_several_alerts_of_a_kind_has_as_many_ids() -> None:
    """As where it brings the targets of several predictions."""
    settings_ = config("features: [a, b]", LIVELY.replace("warmup: 10", "warmup: 10, horizon: 20s"))
    alerts, _ = messages(Engine(settings_), struck(2500))
    assert len({m["id"] for m in alerts}) == len(alerts)


def test_without_ids_alerts_have_no_episode() -> None:
    _, alerts = Engine(config(sections=TTL)).process(broken())
    assert [a.message["episode"] for a in alerts] == [None]


def test_an_episode_outlives_restarts_with_the_id_of_its_beginning() -> None:
    engine, began = opened(TTL.replace("recover_after: 1000", "recover_after: 20"))
    engine = restored(engine)
    normal = made(np.random.default_rng(2).normal(size=30), entity="old", ts=DAY // 24 + np.arange(30) * 60_000)
    found, _ = messages(engine, normal, 60)
    assert [(m["phase"], m["ended_by"], m["episode"]) for m in found] == [("recovered", "recovered", began["id"])]
    assert found[0]["absorbed_after"] >= 1


def test_event_ids_of_rows() -> None:
    ids = EventIds("t", 2, [5, 7, 9]).take([0, 2])
    assert ids.alert_id(Alert(1, {"kind": "drift"}, suffix="-fleet")) == "t-2-9-drift-fleet"
