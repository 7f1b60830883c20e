"""Whatever ends an episode is sent, at one and the same event; all messages of an episode name its beginning."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka
from engines import DAY, HOUR, config, cut, made
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_decoder import chunk
from test_fleet_alerts import LIVELY, struck
from test_labels import LATE, bare, labels_of
from test_stream import Job
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config
from ssm_stream.config.sections.alerts import Alerts
from ssm_stream.contract.message_schemas import alert_headers, alert_schema, suppressed_schema
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.flow.alert_id import parse_alert_id
from ssm_stream.flow.reproduce_alert import (
    NotReproducibleError,
    reproduce_alert,
)
from ssm_stream.flow.sent_alert import read_sent_alert
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import ShardBatch

TOPIC = "sinks: {suppressed: hidden}\n"
TTL = "alerts: {anomaly: {recover_after: 1000}}\nmodel: {warmup: 10}\nstate: {ttl: 1d}\n"
NULL = ("score", "y", "yhat", "yhat_lower", "yhat_upper", "channel", "change", "absorbed_after", "state_hash")

VALID = set[tuple[Any, ...]]()
"""Messages that were valid: the same are made over and over, in other batches."""


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
        if (same := (config_.hash, record.topic, record.value, tuple(record.headers or ()))) not in VALID:
            Draft202012Validator(schemas[record.topic]).validate(message)
            headers.validate({name: value.decode() for name, value in record.headers or [] if isinstance(value, bytes)})
            VALID.add(same)
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


@settings(max_examples=15)
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


STRUCK = 1480
"""An event of `swinging` at which alerts of all scopes are open."""


def swinging(n: int) -> Events:
    """Three of sixteen entities are labelled for seventy events; some jump by themselves, twice all swing."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(n, 2))
    y = 5 + x @ [2.0, -1.0] + 0.3 * rng.normal(size=n)
    y[rng.random(n) < 0.01] += 30
    at = np.arange(n) % (n // 2)
    swings = (at > n // 4) & (at < n // 4 + 100)
    y[swings] += 100 * rng.choice([-1, 1], swings.sum())
    y[n // 2 :] -= 3 * x[n // 2 :, 0]
    y[rng.random(n) < 0.1] = np.nan
    number = rng.integers(16, size=(n, 3))[np.arange(n) // 70, rng.integers(3, size=n)]
    return made(y, x, [f"m{i}" for i in number], np.arange(n) * 60_000)


def several(targets: int, wait: int = 3) -> tuple[Config, Events]:
    """Entities with gaps longer than the TTL, in fleet episodes and outside of them."""
    sections = LIVELY.replace("alerts:\n", f"alerts:\n  fleet: {{share: 0.01, wait: {wait}}}\n")
    sections = sections.replace("100 events", "100m")
    events = swinging(2500)
    if targets == 1:
        return config("features: [a, b]", sections + TOPIC + "state: {ttl: 2h}\n"), events
    y = np.stack([events.target, np.roll(events.target, 1)], 1)
    return config("features: [a, b], target: [y, z]", sections + TOPIC + "state: {ttl: 2h}\n"), replace(
        events, target=y
    )


@settings(max_examples=8, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 400)), max_size=12), st.booleans())
def test_nor_does_the_order_in_which_partitions_are_read(steps: list[tuple[int, int]], restoring: bool) -> None:
    """Each has entities of its own, as where the topic is keyed by entity; they share shards and snapshots."""
    base, events = several(1)
    config_ = base.replace(state=base.state.model_copy(update={"shards": 2}))
    own = np.array([int(name[1:]) % 2 for name in events.entity])
    streams = [events.take(np.flatnonzero(own == source)) for source in (0, 1)]

    def told(order: list[tuple[int, int]]) -> dict[str, dict[str, Any]]:
        engine, done, out = Engine(config_), [0, 0], dict[str, dict[str, Any]]()
        for source, count in [*order, (0, 2500), (1, 2500)]:
            start, stop = done[source], min(done[source] + count, len(streams[source]))
            for some in messages(engine, cut(streams[source], start, stop), start, source):
                for m in some:
                    assert m["id"] not in out
                    out[m["id"]] = m
            done[source] = stop
            if restoring:
                engine = restored(engine)
        return out

    assert told(steps) == PARTITIONED.setdefault("whole", told([]))


PARTITIONED: dict[str, dict[str, dict[str, Any]]] = {}


@pytest.mark.parametrize("targets", [1, 2])
def test_every_episode_begins_once_and_ends_at_most_once_on_either_topic(
    targets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Alerts, "ongoing_every", 7)
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
    config_, events = several(1, wait=0)
    alerts, hidden = messages(Engine(config_), events)
    later = [m for m in alerts if m["scope"] == "entity" and m["phase"] == "started" and m["id"][-2:-1] == "-"]
    assert later
    for m in later:
        before = [h for h in hidden if h["entity"] == m["entity"] and h["kind"] == m["kind"] and h["ts"] <= m["ts"]]
        assert before[-1]["since"] == m["since"]
        assert before[-1]["episode"] != m["episode"] == m["id"]


@pytest.mark.parametrize("fleet", ["true", "false"])
def test_an_episode_that_labels_have_started_ends_by_the_events_of_others(fleet: str) -> None:
    """Its labels are of a topic of their own; with or without a pool."""
    sections = TTL.replace("warmup: 10", f"warmup: 10, fleet: {fleet}")
    engine, found = Engine(config("features: [a, b]", sections + LATE)), list[dict[str, Any]]()
    events, labels_topic = broken(), EventIds("labels", 0, range(60))
    for at in range(60):
        one = cut(events, at, at + 1)
        assert messages(engine, bare(one), at, 4) == ([], [])
        outcome = engine.learn(labels_of(one), 0, labels_topic.take([at]))
        found += [alert.message for alert in outcome.alerts]
        if at == 50:
            engine = restored(engine)
    assert [(m["phase"], m["episode"]) for m in found] == [("started", "labels-0-40-anomaly")]
    (over,), _ = messages(engine, bare(clock(200)), 60, 4)
    assert (over["id"], over["ended_by"]) == ("events-4-180-anomaly-1", "ttl")
    assert over["episode"] == "labels-0-40-anomaly"


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
    before, events = several(targets, wait=0)
    engine = Engine(before)
    alerts, hidden = messages(engine, cut(events, 0, STRUCK))
    left = still_open(alerts, "anomaly")
    assert {m["scope"] for m in left} == {"entity", "fleet"}
    inside = [m for m in still_open(hidden, "anomaly") if not went_on(m, alerts)]
    assert inside
    alerts_ = before.alerts.model_copy(update={"anomaly": before.alerts.anomaly.model_copy(update={"enabled": False})})
    engine = restored(engine, before.replace(alerts=alerts_))
    some, more = messages(restored(engine), cut(events, STRUCK, STRUCK + 10), STRUCK)
    ended = [m for m in some if m["ended_by"] == "disabled"]
    assert {m["episode"] for m in ended} == {m["episode"] for m in left}
    assert {m["source"]["offset"] for m in ended} == {STRUCK}
    assert {m["kind"] for m in ended} == {"anomaly"}
    assert {m["episode"] for m in more if m["ended_by"] == "disabled"} == {m["episode"] for m in inside}
    once = messages(engine, cut(events, STRUCK, STRUCK + 1), STRUCK)[0]
    assert [m for m in once if m["ended_by"]] == [m for m in some if m["source"]["offset"] == STRUCK and m["ended_by"]]


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
    alerts, hidden = messages(engine, cut(events, 0, STRUCK))
    left = [m for m in still_open(alerts, "anomaly") if m["scope"] == "fleet"]
    assert len(left) == 1
    off = before.alerts.model_copy(update={"fleet": before.alerts.fleet.model_copy(update={"enabled": False})})
    some, more = messages(restored(engine, before.replace(alerts=off)), cut(events, STRUCK, STRUCK + 1), STRUCK)
    ended = [m for m in some if m["ended_by"] == "disabled"]
    assert [(m["scope"], m["episode"], m["count"], m["entities"]) for m in ended] == [
        ("fleet", left[0]["episode"], 0, [])
    ]
    assert ended[0]["id"] == f"events-0-{STRUCK}-anomaly-fleet"
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


# Over Kafka.


def documents(n: int, first: int = 0) -> list[tuple[bytes, bytes]]:
    """Twenty entities, all of which are struck twice at 3600, and one of which stays off from 3900 on."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=n)
    y[3600:3640] += 50
    y[3907::20] += 1000
    rows = zip(range(n), x.tolist(), y.tolist(), strict=True)
    return [
        (b"m%d" % (i % 20), orjson.dumps({"entity": f"m{i % 20}", "ts": i, "a": a, "b": b, "target": t}))
        for i, (a, b), t in rows
        if i >= first
    ]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_suppressed_alerts_and_a_reset_over_kafka(kafka: Kafka, tmp_path: Path, delivery: str) -> None:
    if kafka.kind == "mock" and delivery == "exactly_once":
        pytest.skip("the mock cluster has no transactions")
    job = Job(kafka, tmp_path / "job", kafka.topic("events", 1))
    content = orjson.loads(job.path.read_bytes())
    content["sinks"]["suppressed"] = hidden = kafka.topic("suppressed", 2)
    content |= {"state": {"shards": 1}, "model": {"warmup": 50}, "delivery": delivery}
    content["alerts"] = {"anomaly": {"cooldown": 0}, "drift": {"enabled": False}, "fleet": {"wait": 0}}
    job.path.write_bytes(orjson.dumps(content))
    every = documents(4040)
    kafka.produce(job.topic, every[:2000])
    job.run()
    kafka.produce(job.topic, every[2000:4000])
    job.run()
    alerts = [orjson.loads(value) for value in job.told_alerts().values()]
    withheld = [orjson.loads(message.value() or b"") for message in kafka.read(hidden)]
    whole = Engine(job.config)
    read = chunk([value for _, value in every[:4000]], 0, 0)._replace(topic=job.topic)
    ((_, batch),) = Decoder(job.config).decode(read)
    assert isinstance(batch, ShardBatch)
    encoder = Encoder(job.config)
    records = encoder.encode(batch, *whole.process(batch.events, 0, encoder.event_ids(batch))).others
    expected = [(each.topic, orjson.loads(each.value or b"")) for each in records]
    for topic, found in ((job.alerts, alerts), (hidden, withheld)):
        by_id = {m["id"]: m for m in found}
        assert by_id == {m["id"]: m for at, m in expected if at == topic}
        assert len(by_id) == len(found)
    (fleet,) = {m["episode"] for m in alerts if m["scope"] == "fleet"}
    assert {m["suppressed_by"] for m in withheld} == {fleet}
    assert {m["entity"] for m in withheld} >= {"m3", "m19"}
    one = parse_alert_id(withheld[0]["id"])
    assert one is not None
    value = read_sent_alert(job.config, one)
    assert value is not None
    assert reproduce_alert(job.config, one, value).same is True
    # The one that is still off is reset.
    left = {m["episode"]: m for m in alerts if m["entity"] == "m7" and m["source"]["offset"] >= 3900}
    assert [m["phase"] for m in left.values()] == ["started"]
    result = CliRunner().invoke(app, ["state", "reset", str(job.path), "m7", "--yes"])
    assert result.exit_code == 0, result.output
    kafka.produce(job.topic, every[4000:])
    job.run()
    (over,) = [m for m in map(orjson.loads, job.told_alerts().values()) if m["ended_by"] == "reset"]
    assert (over["id"], over["episode"]) == (f"{job.topic}-0-4000-anomaly-1", *left)
    number = parse_alert_id(over["id"])
    assert number is not None
    with pytest.raises(NotReproducibleError):
        reproduce_alert(job.config, number, None)
