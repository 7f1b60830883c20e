"""Alerts that wait for others: one cause is one alert from the first entity on, and what is not joined is as it was."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka
from engines import config, cut
from hypothesis import given, settings
from hypothesis import strategies as st
from test_episode_shares import documents
from test_fleet_alerts import LIVELY, SECTIONS, alert, follow, gone, lively, stream, struck
from test_labels import LATE, bare, labelled, labels_of
from test_stream import Job
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config
from ssm_stream.engine.counts.batch_labels import NONE, LabelledEvents
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.fleet_alerts import FleetAlerts
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.prequential import Chunk, alert_rows
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import ShardBatch

WAIT = 3
AT_ONCE = LIVELY.replace("alerts:\n", "alerts:\n  fleet: {wait: 0}\n")
APART = LIVELY.replace("alerts:\n", "alerts:\n  fleet: {enabled: false}\n")


def made(wait: int = WAIT, least: int = 3) -> FleetAlerts:
    return FleetAlerts(config(sections=f"alerts: {{fleet: {{wait: {wait}, min_entities: {least}, share: 0.01}}}}"))


def sent(fleet: FleetAlerts, alerts: Iterable[Alert], rows: int = 100, start: int = 0) -> list[Any]:
    """Row, entity, phase of what is sent in a batch of so many events, all of them labelled and of pool (0, 0)."""
    every = LabelledEvents(np.arange(rows), start + 1000 * np.arange(rows))

    def rows_of(pool: tuple[int, int]) -> LabelledEvents:
        return every if pool == (0, 0) else NONE

    given_ = [each._replace(gap=10_000.0) for each in alerts]
    return [
        (a.row, a.message["entity"], a.message["phase"], *(["part"] if a.suppressed_by else []))
        for a in fleet.update(given_, rows_of)
        if not a.waits
    ]


# The rule.


def test_three_at_once_are_one_alert_and_nothing_else() -> None:
    found = sent(made(), [alert(1, "m1"), alert(2, "m2"), alert(30, "m3")])
    assert found == [
        (30, "*", "started"),
        (30, "m1", "started", "part"),
        (30, "m2", "started", "part"),
        (30, "m3", "started", "part"),
    ]


def test_one_that_stays_alone_is_sent_after_the_wait() -> None:
    """Of ten entities, three events of each are thirty of the pool."""
    assert sent(made(), [alert(1, "m1")]) == [(31, "m1", "started")]
    assert sent(made(), [alert(1, "m1"), alert(20, "m2")]) == [(31, "m1", "started"), (50, "m2", "started")]
    assert sent(made(), [alert(1, "m1"), alert(2, "m2"), alert(31, "m3")])[0] == (31, "*", "started"), "the last one"
    later = sent(made(), [alert(1, "m1"), alert(20, "m2"), alert(32, "m3")])
    assert later == [
        (31, "m1", "started"),
        (32, "*", "started"),
        (32, "m2", "started", "part"),
        (32, "m3", "started", "part"),
    ]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_the_wait_counts_events_of_the_pool_whatever_the_batches_are(sizes: list[int]) -> None:
    """Through a restart after each batch."""
    fleet, found, first, total = made(), [], 0, sum(sizes)
    for size in sizes:
        here = [
            replace_row(alert(row, name), row - first)
            for row, name in ((3, "m1"), (9, "m2"))
            if first <= row < first + size
        ]
        found += [(first + row, *rest) for row, *rest in sent(fleet, here, size)]
        first += size
        again = made()
        again.load(orjson.loads(orjson.dumps(fleet.dump())))
        again.waiting.load(orjson.loads(orjson.dumps(fleet.waiting.dump())))
        fleet = again
    assert found == [each for each in [(33, "m1", "started"), (39, "m2", "started")] if each[0] < total]


@pytest.mark.parametrize("cut_", [None, 5, 8])
def test_where_the_pool_has_stopped_its_next_event_is_enough(cut_: int | None) -> None:
    """Each has an event in ten seconds, so the wait is half a minute: two minutes later something had stopped."""

    def of(fleet: FleetAlerts, ts: list[int], alerts: list[Alert]) -> list[Any]:
        every = LabelledEvents(np.arange(len(ts)), np.array(ts))
        found = fleet.update([each._replace(gap=10_000.0) for each in alerts], lambda _: every)
        return [(a.row, a.message["entity"], a.message["phase"]) for a in found if not a.waits]

    for gap, due in ((80_000, 31), (121_000, 7)):
        ts = [1000 * i + (gap if i >= 7 else 0) for i in range(60)]
        fleet = made()
        if cut_ is None:
            assert of(fleet, ts, [alert(1, "m1")]) == [(due, "m1", "started")]
            continue
        found = of(fleet, ts[:cut_], [alert(1, "m1")])
        again = made()
        again.load(orjson.loads(orjson.dumps(fleet.dump())))
        again.waiting.load(orjson.loads(orjson.dumps(fleet.waiting.dump())))
        found += [(row + cut_, *rest) for row, *rest in of(again, ts[cut_:], [])]
        assert found == [(due, "m1", "started")]


def replace_row(each: Alert, row: int) -> Alert:
    return each._replace(row=row)


def test_what_comes_after_it_queues_behind_and_its_end_ends_the_wait() -> None:
    assert sent(made(), [alert(1, "m1"), alert(5, "m1", "ongoing"), alert(9, "m1", "recovered")]) == [
        (9, "m1", "started"),
        (9, "m1", "ongoing"),
        (9, "m1", "recovered"),
    ]
    assert sent(made(), [alert(1, "m1"), alert(5, "m1", "ongoing"), alert(50, "m1", "ongoing")]) == [
        (31, "m1", "started"),
        (31, "m1", "ongoing"),
        (50, "m1", "ongoing"),
    ]
    assert sent(made(), [alert(1, "m1"), gone(9, "m1")]) == [(9, "m1", "started"), (9, "m1", "recovered")]


def test_a_joined_one_has_its_last_report_when_the_fleets_episode_recovers() -> None:
    fleet = made()
    first = [alert(1, "m1", score=2.0), alert(4, "m1", "ongoing", score=7.0), alert(5, "m2"), alert(6, "m3")]
    assert sent(fleet, first) == [
        (6, "*", "started"),
        (6, "m1", "started", "part"),
        (6, "m1", "ongoing", "part"),
        (6, "m2", "started", "part"),
        (6, "m3", "started", "part"),
    ]
    assert sent(fleet, [alert(7, "m2", "recovered"), alert(8, "m3", "recovered")], 300) == [
        (7, "m2", "recovered", "part"),
        (8, "m3", "recovered", "part"),
        (8, "*", "recovered"),
        (208, "m1", "started"),
    ]


def test_the_last_ones_of_a_fleet_episode_mostly_recover_before_they_are_sent() -> None:
    fleet = made()
    assert len(sent(fleet, [alert(1, "m1"), alert(2, "m2"), alert(3, "m3")])) == 4
    ends = [alert(4, "m1", "recovered"), alert(5, "m2", "recovered"), alert(6, "m3", "ongoing")]
    assert sent(fleet, [*ends, alert(34, "m3", "recovered")]) == [
        (4, "m1", "recovered", "part"),
        (5, "m2", "recovered", "part"),
        (5, "*", "recovered"),
        (6, "m3", "ongoing", "part"),
        (34, "m3", "recovered", "part"),
    ]
    assert (fleet.dump(), fleet.waiting.dump()) == ([], [])
    sent(fleet, [alert(1, "m1"), alert(2, "m2"), alert(3, "m3")])
    found = sent(fleet, [*ends, alert(15, "m4"), alert(16, "m5")])
    assert found[4:] == [
        (16, "*", "started"),
        (16, "m4", "started", "part"),
        (16, "m5", "started", "part"),
    ], "of the next fleet episode, too"


@pytest.mark.parametrize(("wait", "least", "entities"), [(0, 3, 10), (3, 3, 2), (3, 11, 10)])
def test_none_waits_where_that_is_off_or_a_fleet_alert_out_of_reach(wait: int, least: int, entities: int) -> None:
    one = alert(1, "m1", entities=entities)
    assert sent(made(wait, least), [one]) == [(1, "m1", "started")]


def test_pools_and_kinds_wait_apart() -> None:
    fleet = made()
    assert sent(fleet, [alert(1, "m1", pool=(0, 1)), alert(1, "m1", kind="anomaly"), alert(2, "m2")]) == [
        (31, "m1", "started"),
        (32, "m2", "started"),
    ]
    assert len(fleet.waiting) == 1, "no event of the other pool came"


# The engine: what is sent is what would have been sent.

Own = dict[tuple[str, str, str, int], tuple[dict[str, Any], str]]


def own_messages(sections: str, events: Events, targets: str = "") -> tuple[Own, list[Chunk]]:
    """Of a backtest: message and id of the entities' alerts, by entity, kind, phase and time."""
    chunks, found = list[Chunk](), Own()
    backtest(config(f"features: [a, b]{targets}", sections), documents(events, 2 if targets else 1), chunks.append)
    for chunk in chunks:
        for m in alert_rows(chunk):
            if m["scope"] == "entity":
                key = (m["entity"], m["kind"], m["phase"], m["ts"])
                assert key not in found
                found[key] = {k: v for k, v in m.items() if k not in ("config_hash", "id")}, m["id"]
    return found, chunks


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("targets", ["", ", target: [y, z]"])
def test_what_is_not_joined_is_the_same_message_with_the_same_id(seed: int, targets: str) -> None:
    events = struck(2500, seed)
    if targets:
        events = replace(events, target=np.stack([events.target, np.roll(events.target, 1)], 1))
    waited, chunks = own_messages(LIVELY, events, targets)
    alone, _ = own_messages(APART, events, targets)
    late = [a for chunk in chunks for a in chunk.alerts if a.place is not None]
    assert len(late) > 5
    same = 0
    for key, (message, id_) in waited.items():
        if id_.rpartition("-")[2].isdigit():  # sent when a fleet episode recovered, at another event
            continue
        own, its = alone[key]
        if message["episode"] != own["episode"]:  # its episode was part of a fleet's when it started
            message, own = ({**m, "episode": None} for m in (message, own))
        assert (message, id_) == (own, its)
        assert list(message) == list(own), "in the same order, as JSON has them"
        same += 1
    assert same > 10
    follow([a for chunk in chunks for a in chunk.alerts])


def test_what_still_waits_at_the_end_has_the_fields_of_rules_too() -> None:
    """Whether it is sent then, or shown as it will be."""
    settings_ = config("features: [a, b]", LIVELY.replace("alerts:\n", "alerts:\n  stuck: true\n"))
    events = struck(2500)
    engine = Engine(settings_)
    row = 0
    while not (shown := engine.episodes.waiting()):
        engine.process(cut(events, row, row + 1), 0, EventIds("events", 0, [row]))
        row += 1
    released = engine.episodes.release(0)
    assert [a.message for a in released] == [a.message for a in shown]
    assert {(a.message["column"], a.message["value"]) for a in released} == {(None, None)}


@pytest.mark.parametrize("case", sorted(SECTIONS))
def test_fewer_are_sent_and_none_is_lost(case: str) -> None:
    """Every `started` of an entity is sent as such or is part of a fleet episode, in its order."""
    events, counts = stream(case), []
    for wait in (0, WAIT):
        settings_ = lively(case)
        fleet = settings_.alerts.fleet.model_copy(update={"wait": wait})
        settings_ = settings_.replace(
            alerts=settings_.alerts.model_copy(update={"fleet": fleet}),
            sinks=settings_.sinks.model_copy(update={"suppressed": "suppressed"}),
        )
        engine = Engine(settings_)
        alerts = engine.process(events, 0, EventIds("events", 0, range(len(events))))[1] + engine.episodes.release(2499)
        starts = [
            (a.message["entity"], a.message["kind"], a.message["since"])
            for a in alerts
            if a.message["scope"] == "entity" and a.message["phase"] == "started"
        ]
        counts.append((set(starts), sum(a.message["phase"] == "started" and a.suppressed_by is None for a in alerts)))
        assert [a.row for a in alerts] == sorted(a.row for a in alerts)
        assert len(engine.episodes.waiting()) == 0
    assert counts[0][0] == counts[1][0]
    assert counts[1][1] <= counts[0][1]


@settings(max_examples=20)
@given(st.sampled_from(["", "targets", "horizon"]), st.lists(st.integers(0, 2500), max_size=8))
def test_one_by_one_or_in_batches_with_restarts_the_ids_are_the_same(case: str, cuts: list[int]) -> None:
    events, settings_ = stream(case), lively(case)
    ids = EventIds("events", 3, range(1000, 3500))
    whole = Encoder(settings_).alert_bodies(
        ShardBatch(3, events, list(ids.offsets)), Engine(settings_).process(events, 3, ids)[1]
    )
    parts, engine = [], Engine(settings_)
    for start, stop in pairwise([0, *sorted(cuts), 2500]):
        own = ids.take(range(start, stop))
        part = cut(events, start, stop)
        parts += Encoder(settings_).alert_bodies(
            ShardBatch(3, part, list(own.offsets)), engine.process(part, 3, own)[1]
        )
        engine = Engine.restore(settings_, engine.snapshot())
    assert parts == whole
    assert len({each["id"] for each in whole}) == len(whole)


def test_labels_that_come_by_themselves_count_for_the_pool_of_their_entity() -> None:
    """Events by partition 3, labels by partition 7: sent at the label that ends the wait, named by its own label."""
    engine, found = Engine(config("features: [a, b]", LIVELY + LATE)), list[tuple[int, Alert]]()
    events = labelled(struck(2500))
    for row in range(2500):
        one = cut(events, row, row + 1)
        found += [(row, a) for a in engine.process(bare(one), 3, EventIds("events", 3, [row]))[1]]
        if row % 500 == 0:
            engine = Engine.restore(engine.config, engine.snapshot())
        found += [(row, a) for a in engine.learn(labels_of(one), 7, EventIds("labels", 7, [row])).alerts]
    late = [(row, a.place) for row, a in found if a.place is not None and a.message["phase"] == "started"]
    assert late
    for row, place in late:
        assert (place.topic, place.partition) == ("labels", 7)
        assert 0 < row - place.offset <= 60
    assert any(a.message["scope"] == "fleet" for _, a in found)


# A small fleet.


def plant(machines: int, at: Iterable[int] = (1200, 1201, 1202), n: int = 1500) -> Events:
    """One event of each machine a minute; something happens to all of them at some times."""
    rng = np.random.default_rng(machines)
    x = rng.normal(size=(n * machines, 2))
    y = 5 + x @ [2.0, -1.0] + 0.1 * rng.normal(size=n * machines)
    minute = np.arange(n * machines) // machines
    y[np.isin(minute, list(at))] += 20
    names = [f"m{i % machines}" for i in range(n * machines)]
    return Events(names, minute * 60_000, x, y, np.arange(n * machines))


def starts(settings_: Config, events: Events, since: int = 0) -> list[str]:
    found: list[str] = []

    def on_chunk(chunk: Chunk) -> None:
        found.extend(
            a.message["entity"]
            for a in chunk.alerts
            if (a.message["phase"], a.message["kind"]) == ("started", "anomaly")
            and since <= a.message["ts"] < since + 600_000
        )

    backtest(settings_, documents(events), on_chunk)
    return found


@pytest.mark.parametrize("machines", [3, 4, 7, 12])
def test_one_cause_is_one_alert_from_three_machines_on(machines: int) -> None:
    events, since = plant(machines), 1200 * 60_000
    assert starts(config("features: [a, b]"), events, since) == ["*"]
    alone = starts(config("features: [a, b]", "alerts: {fleet: {wait: 0}}"), events, since)
    assert len(alone) >= 3, "today's first ones alone, then the fleet's"
    assert starts(config("features: [a, b]", "alerts: {fleet: {enabled: false}}"), events, since) == [
        f"m{i}" for i in range(machines)
    ]


def test_what_waits_at_the_end_of_a_recording_is_in_its_backtest() -> None:
    events = plant(5, at=[])
    events.target[-3] += 20
    found, result = list[dict[str, Any]](), {}

    def on_chunk(chunk: Chunk) -> None:
        found.extend(alert_rows(chunk))

    result = backtest(config("features: [a, b]"), documents(events), on_chunk)
    last = found[-1]
    assert (last["entity"], last["phase"], last["ts"]) == ("m2", "started", 1499 * 60_000)
    assert last["id"] == "events-0-7497-anomaly"
    assert result["by_entity"]["m2"]["anomalies"] == sum(
        a["entity"] == "m2" and a["phase"] == "started" and a["kind"] == "anomaly" for a in found
    )


def test_a_message_is_caused_by_the_event_at_which_it_is_sent() -> None:
    """A writer leaves out what messages before a position caused: what was sent later is no such."""
    events, settings_ = plant(5, at=[]), config("features: [a, b]")
    events.target[1000] += 20
    engine, encoder = Engine(settings_), Encoder(settings_)
    batch = ShardBatch(0, events, list(range(7500)))
    output = encoder.encode(batch, *engine.process(events, 0, encoder.event_ids(batch)))
    late = [r for r in output.others if orjson.loads(r.value or b"")["source"]["offset"] == 1000]
    assert [r.offset for r in late] == [1005], "an event of each of five"
    first = output.caused_from(1003).others[0]
    assert orjson.loads(first.value or b"")["id"] == "events-0-1000-anomaly"


# Kafka.


def test_nothing_that_waits_is_lost_or_said_twice_by_restarts(kafka: Kafka, tmp_path: Path) -> None:
    """Stopped after each few events, while alerts wait, and killed: the same messages as of one run, and `explain`
    makes one that waited again."""
    events = plant(4, n=420, at=[300, 301])
    events.target[4 * 200] += 20  # alone
    events.target[4 * 250 + 1] += 20
    messages = [
        (name.encode(), orjson.dumps({"entity": name, "ts": 1_700_000_000_000 + t, "a": a, "b": b, "target": y}))
        for name, t, (a, b), y in zip(
            events.entity, events.ts.tolist(), events.features.tolist(), events.target.tolist(), strict=True
        )
    ]

    def job(name: str) -> Job:
        found = Job(kafka, tmp_path / name, topic)
        content = orjson.loads(found.path.read_bytes())
        found.path.write_bytes(orjson.dumps({**content, "state": {"shards": 1}, "model": {"warmup": 50}}))
        return found

    topic = kafka.topic("events", 1)
    steps = job("steps")
    cuts = [0, 4 * 200 + 2, 4 * 200 + 5, 4 * 250 + 3, 4 * 300 + 1, 4 * 300 + 2, len(messages)]
    for i, (start, stop) in enumerate(pairwise(cuts)):
        kafka.produce(topic, messages[start:stop])
        if i == 3:
            process = steps.start()
            process.kill()
            process.wait(20)
        steps.run()
    whole = job("whole")
    whole.run()
    found, expected = ([orjson.loads(v) for v in each.told_alerts().values()] for each in (steps, whole))
    assert {a["id"] for a in found} == {a["id"] for a in expected}
    assert sorted(map(orjson.dumps, found)) == sorted(map(orjson.dumps, expected))
    anomalies = [a for a in found if a["kind"] == "anomaly" and a["phase"] == "started"]
    assert sorted((a["entity"], a["source"]["offset"]) for a in anomalies if a["scope"] == "entity") == [
        ("m0", 800),
        ("m1", 1001),
    ]
    assert [a["source"]["offset"] // 4 for a in anomalies if a["scope"] == "fleet"] == [300]
    told = CliRunner().invoke(app, ["explain", str(whole.path), f"{topic}-0-800-anomaly", "--json"])
    assert told.exit_code == 0, told.output + told.stderr
    assert orjson.loads(told.stdout)["same"] is True
