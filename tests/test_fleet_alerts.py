"""Fleet alerts: many entities at once are one alert; nothing is sent twice, nothing that was sent is left open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka
from engines import config, cut, run
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoder import chunk
from test_labels import LATE, bare, labelled, labels_of
from test_stream import Job
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError
from ssm_stream.config.sections import Alerts
from ssm_stream.engine.alert_summary import Members
from ssm_stream.engine.counts.batch_labels import NONE, LabelledEvents
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.engine.episodes.endings import ending
from ssm_stream.engine.fleet_alerts import MAX_LISTED, FleetAlerts
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.prequential import Chunk, alert_rows
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.single_event import SingleEvent
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import ShardBatch

LIVELY = """alerts:
  anomaly: {budget: 1 per 100 events, cooldown: 0, recover_after: 5}
  drift: {budget: 1 per 100 events, cooldown: 0}
model: {warmup: 10}
"""


@pytest.fixture(autouse=True, scope="module")
def reported_often() -> Iterator[None]:
    """Open alerts are reported again every 7 events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Alerts, "ongoing_every", 7)
        yield


def alert(row: int, entity: str, phase: str = "started", score: float = 2.0, **other: Any) -> Alert:
    """Of one among ten labelled entities; an episode began at the second of its name's number."""
    number = int(entity[1:]) * 1000
    message = {
        "entity": entity,
        "scope": "entity",
        "kind": other.get("kind", "drift"),
        "phase": phase,
        "severity": "warning",
        "ts": 1000 * row,
        "score": score,
        "since": other.get("since", number),
        "ended_by": "recovered" if phase == "recovered" else None,
        "absorbed_after": 7 if phase == "recovered" else None,
    }
    return Alert(row, message, other.get("pool", (0, 0)), other.get("entities", 10))


def gone(row: int, entity: str) -> Alert:
    """One that expired."""
    message = ending(config(), entity, "drift", int(entity[1:]) * 1000, 1000 * row, "ttl")
    return Alert(row, message, suffix="-")


def made(least: int = 3, share: float = 0.2) -> FleetAlerts:
    """The rule by itself: no alert waits for others (test_fleet_wait.py)."""
    return FleetAlerts(config(sections=f"alerts: {{fleet: {{min_entities: {least}, share: {share}, wait: 0}}}}"))


def none_labelled(_: tuple[int, int]) -> LabelledEvents:
    return NONE


def update(fleet: FleetAlerts, alerts: Sequence[Alert]) -> list[Alert]:
    """Those that are sent."""
    return [each for each in fleet.update(alerts, none_labelled) if each.suppressed_by is None]


def sent(fleet: FleetAlerts, alerts: Sequence[Alert]) -> list[Any]:
    """Row, entity, phase, and of a fleet alert the number of open ones."""
    found = update(fleet, alerts)
    assert all((a.suffix == "-fleet") == (a.message["scope"] == "fleet") for a in found)
    return [
        (a.row, a.message["entity"], a.message["phase"], *([a.message["count"]] if "count" in a.message else []))
        for a in found
    ]


# The episode.


def test_what_starts_one_after_another_is_no_fleet_event() -> None:
    """As where entities are replayed one after another, and each ends in its fault."""
    fleet = made()
    alone = [alert(i, f"m{i}")._replace(labelled=201 * i) for i in range(1, 9)]
    assert sent(fleet, alone) == [(i, f"m{i}", "started") for i in range(1, 9)]
    assert sent(fleet, [alert(9, "m9")._replace(labelled=201 * 8), alert(9, "m10")._replace(labelled=201 * 8)]) == [
        (9, "m9", "started"),
        (9, "*", "started", 10),
    ]


def test_the_one_that_makes_them_many_is_the_fleets_alert_and_later_ones_are_inside() -> None:
    fleet = made()
    assert sent(fleet, [alert(1, "m1"), alert(2, "m2"), alert(3, "m3"), alert(4, "m4"), alert(5, "m5")]) == [
        (1, "m1", "started"),
        (2, "m2", "started"),
        (3, "*", "started", 3),
    ]
    assert sent(fleet, [alert(6, "m1", "ongoing"), alert(7, "m6")]) == [(7, "*", "ongoing", 6)]
    ups = [alert(10 + i, f"m{i}", "recovered") for i in range(1, 7)]
    # m1 and m2 were told of; of the threshold of 3 half is 1.5.
    assert sent(fleet, ups) == [
        (11, "m1", "recovered"),
        (12, "m2", "recovered"),
        (15, "*", "recovered", 1),
        (15, "m6", "started"),
        (16, "m6", "recovered"),
    ]
    assert fleet.dump() == []


def at(row: int, entity: str, labelled: int, phase: str = "started", **other: Any) -> Alert:
    return alert(row, entity, phase, **other)._replace(labelled=labelled)


TWO = "features: [a, b], target: [temp, power]"


def two_targets() -> FleetAlerts:
    """The rule by itself, of events that have one target or the other, or both."""
    return FleetAlerts(config(TWO, "alerts: {fleet: {min_entities: 3, share: 0.2, wait: 0}}"))


def about(row: int, name: str, target: str, phase: str = "started") -> Alert:
    """On `power`, which 6 of 9 entities have, and which has counted far fewer events."""
    entities, before = (9, 90_000) if target == "temp" else (6, 1000)
    found = alert(row, name, phase, entities=entities)
    return found._replace(message=found.message | {"target": target}, labelled=before + row)


def by_batches(alerts: Sequence[Alert], sizes: Sequence[int], restored: bool) -> list[Any]:
    """Row, entity, phase of what is sent where every event is labelled, in batches of these sizes."""
    fleet, found, first = two_targets(), [], 0
    for size in sizes:
        here = [each._replace(row=each.row - first) for each in alerts if first <= each.row < first + size]
        rows = LabelledEvents(np.arange(size), np.arange(size))
        if here:
            some = [each for each in fleet.update(here, lambda _, rows=rows: rows) if each.suppressed_by is None]
            found += [(first + each.row, each.message["entity"], each.message["phase"]) for each in some]
        else:
            fleet.pass_by(lambda _, size=size: size)
        first += size
        if restored:
            again = two_targets()
            again.load(orjson.loads(orjson.dumps(fleet.dump())))
            again.load_pools(orjson.loads(orjson.dumps(fleet.dump_pools())))
            fleet = again
    return found


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("sizes", [[5000], [1, 10, 3989, 1000], [250] * 20])
def test_at_the_same_time_is_by_one_clock_whichever_targets_they_are_on(sizes: list[int], restored: bool) -> None:
    """Of 9 entities twenty rounds are 180 events."""
    apart = [about(10, "m1", "power"), about(400, "m2", "temp"), about(800, "m3", "power"), about(1200, "m4", "temp")]
    assert by_batches(apart, sizes, restored) == [(a.row, a.message["entity"], "started") for a in apart]
    near = [about(4000, "m5", "power"), about(4080, "m6", "temp"), about(4170, "m7", "power")]
    assert by_batches([*apart, *near], sizes, restored)[4:] == [
        (4000, "m5", "started"),
        (4080, "m6", "started"),
        (4170, "*", "started"),
    ]


def test_members_on_several_targets_are_named_with_theirs() -> None:
    fleet = two_targets()
    rows = LabelledEvents(np.arange(100), np.arange(100))
    (*_, one, _) = fleet.update(
        [about(1, "m1", "temp"), about(2, "m2", "power"), about(3, "m3", "temp")], lambda _: rows
    )
    assert one.message["entity"] == "*"
    assert (one.entities, one.members) == (9, Members(["temp", "power", "temp"], True, "m3"))


def test_an_open_episode_of_one_target_goes_on_under_several() -> None:
    """What one target had counted is no time of the common clock: they count as having started just now."""
    fleet = made()
    fleet.update([alert(1, "m1")._replace(labelled=90_000), alert(2, "m2")._replace(labelled=90_900)], none_labelled)
    later = two_targets()
    later.load(orjson.loads(orjson.dumps(fleet.dump())))
    assert [each[3] for each in later.dump()[0][7]] == [-900, 0]


def test_it_recovers_though_others_start_for_reasons_of_their_own() -> None:
    """Where budgets are loose some are always open: before it, and beside it."""
    fleet = made()
    assert len(sent(fleet, [at(i, f"m{i}", i) for i in (1, 2)])) == 2, "two that have nothing to do with it"
    started = sent(fleet, [at(i, f"m{i}", 1000 + i) for i in (3, 4, 5)])
    assert started == [(3, "m3", "started"), (4, "m4", "started"), (5, "*", "started", 5)]
    later = [at(6, "m6", 1500), at(7, "m7", 1600), at(8, "m1", 1700, "recovered"), at(9, "m2", 1700, "recovered")]
    assert sent(fleet, later) == [(8, "m1", "recovered"), (9, "m2", "recovered")], "its own are open still"
    assert sent(fleet, [at(10, "m3", 1800, "recovered"), at(11, "m4", 1800, "recovered")]) == [
        (10, "m3", "recovered"),
        (11, "m4", "recovered"),
        (11, "*", "recovered", 3),
        (11, "m5", "started"),
        (11, "m6", "started"),
        (11, "m7", "started"),
    ]


def test_it_is_since_the_first_of_its_own() -> None:
    """What has been open for long before is counted, and is no beginning of what happens to many now."""
    fleet = made()
    sent(fleet, [at(1, "m1", 1), at(2, "m2", 2)])
    found = update(fleet, [at(i, f"m{i}", 1000 + i) for i in (3, 4, 5)])
    over = update(fleet, [at(10 + i, f"m{i}", 1800, "recovered") for i in (3, 4)])
    whole = [each.message for each in (*found, *over) if each.suffix == "-fleet"]
    assert [(each["phase"], each["since"], each["count"]) for each in whole] == [
        ("started", 3000, 5),
        ("recovered", 3000, 3),
    ]
    assert {each["entity"]: each["since"] for each in whole[0]["entities"]}["m1"] == 1000


def test_its_own_are_those_about_each_report() -> None:
    fleet = made()
    sent(fleet, [at(i, f"m{i}", i) for i in (1, 2, 3)])
    assert sent(fleet, [at(4, "m4", 1000), at(5, "m5", 1001), at(6, "m6", 1002)]) == [(6, "*", "ongoing", 6)]
    assert sent(fleet, [at(10 + i, f"m{i}", 1100, "recovered") for i in (1, 2, 3)])[-1] == (12, "m2", "recovered")
    assert sent(fleet, [at(20 + i, f"m{i}", 1100, "recovered") for i in (4, 5)]) == [
        (25, "*", "recovered", 1),
        (25, "m6", "started"),
    ]


@pytest.mark.parametrize("restored", [False, True])
def test_it_recovers_as_it_would_have_after_a_restore(restored: bool) -> None:
    fleet = made()
    sent(fleet, [at(1, "m1", 1), *(at(i, f"m{i}", 1000 + i) for i in (3, 4, 5))])
    if restored:
        again = made()
        again.load(orjson.loads(orjson.dumps(fleet.dump())))
        fleet = again
    sent(fleet, [at(6, "m6", 1500), at(7, "m3", 1500, "recovered"), at(8, "m1", 1500, "recovered")])
    assert sent(fleet, [at(9, "m4", 1500, "recovered")])[1] == (9, "*", "recovered", 2)


@pytest.mark.parametrize(("events", "at_once"), [(10_000, 8), (1000, 8), (100, 20)])
def test_as_many_as_a_loose_budget_lets_start_by_chance_are_no_fleet_event(events: int, at_once: int) -> None:
    """Of 40 entities 8 are a fifth; within 20 rounds 8 start by chance where one in 100 events does, 8 ± 2.8."""
    fleet = FleetAlerts(config(sections=f"alerts: {{drift: {{budget: 1 per {events} events}}, fleet: {{wait: 0}}}}"))
    found = sent(fleet, [alert(i, f"m{i}", entities=40) for i in range(1, 40)])
    assert next(row for row, entity, *_ in found if entity == "*") == at_once


def test_a_fleet_alert_names_the_highest_score_first_and_keeps_the_fields_of_its_event() -> None:
    fleet = made()
    first = [alert(1, "m1", score=4.0), alert(2, "m2", score=2.0)]
    (*_, whole) = update(fleet, [*first, alert(3, "m3", score=2.5)])
    m = whole.message
    assert set(m) == {*alert(3, "m3").message, "pool", "count", "entities"}
    assert (m["entity"], m["scope"], m["severity"], m["score"], m["since"]) == ("*", "fleet", "critical", 4.0, 1000)
    assert (m["ts"], m["absorbed_after"], m["pool"], m["count"]) == (3000, None, "0-0", 3)
    assert m["entities"] == [
        {"entity": "m1", "score": 4.0, "since": 1000},
        {"entity": "m3", "score": 2.5, "since": 3000},
        {"entity": "m2", "score": 2.0, "since": 2000},
    ]
    # Reports of those inside bring the picture up to date.
    later = [alert(4, "m2", "ongoing", 9.0), *(alert(5 + i, f"m{4 + i}") for i in range(3))]
    (again,) = update(fleet, later)
    assert [e["entity"] for e in again.message["entities"][:2]] == ["m2", "m1"]
    assert (again.message["phase"], again.message["since"]) == ("ongoing", 1000)
    ups = [alert(20 + i, f"m{1 + i}", "recovered", 1.0) for i in range(6)]
    over = next(a for a in update(fleet, ups) if a.suffix == "-fleet").message
    assert (over["phase"], over["since"], over["absorbed_after"], over["severity"]) == ("recovered", 1000, 7, "warning")


def test_the_list_is_cut_and_the_count_is_not() -> None:
    fleet = made(least=MAX_LISTED + 20)
    (*_, whole) = update(fleet, [alert(i, f"m{i}", score=1.0 + i) for i in range(MAX_LISTED + 20)])
    assert (whole.message["count"], len(whole.message["entities"])) == (MAX_LISTED + 20, MAX_LISTED)
    assert whole.message["entities"][0]["entity"] == f"m{MAX_LISTED + 19}"


def test_those_left_when_it_recovers_are_sent_with_their_own_time_and_an_id_of_their_own() -> None:
    fleet = made(least=4)
    update(fleet, [*(alert(i, f"m{i}") for i in range(1, 5)), alert(8, "m4", "ongoing", 6.0)])
    (one, two, three) = update(fleet, [alert(10 + i, f"m{i}", "recovered") for i in range(1, 4)])[-3:]
    assert [one.message["entity"], two.message["entity"], three.message["entity"]] == ["m3", "*", "m4"]
    assert (three.message["phase"], three.message["since"], three.message["score"]) == ("started", 4000, 6.0)
    assert (three.message["ts"], three.row) == (8000, 13), "its own last report, at the event that ended the fleet's"
    assert [one.suffix, two.suffix, three.suffix] == ["", "-fleet", "-"], "numbered when all of the event are there"
    assert sent(fleet, [alert(20, "m4", "ongoing"), alert(30, "m4", "recovered")]) == [
        (20, "m4", "ongoing"),
        (30, "m4", "recovered"),
    ]


def test_the_share_is_of_the_pools_labelled_entities_at_that_event() -> None:
    fleet = made(least=2, share=0.5)
    grown = [alert(1, "m1", entities=5), alert(2, "m2", entities=5), alert(3, "m3", entities=7)]
    assert sent(fleet, grown) == [(i, f"m{i}", "started") for i in (1, 2, 3)]
    assert sent(fleet, [alert(4, "m4", entities=8)]) == [(4, "*", "started", 4)]


def test_pools_and_kinds_are_apart() -> None:
    fleet = made(least=2)
    apart = [alert(1, "m1"), alert(2, "m2", pool=(0, 1)), alert(3, "m3", pool=(1, 0)), alert(4, "m4", kind="anomaly")]
    assert sent(fleet, apart) == [(i, f"m{i}", "started") for i in (1, 2, 3, 4)]
    found = update(fleet, [alert(5, "m5", pool=(0, 1)), alert(6, "m6", kind="anomaly")])
    assert [(a.message["kind"], a.message["pool"]) for a in found] == [("drift", "1-0"), ("anomaly", "0-0")]
    # An entity that comes by another partition is still the one that started in the first.
    assert sent(fleet, [alert(7, "m1", "recovered", pool=(0, 1))]) == [(7, "m1", "recovered")]


def test_one_that_was_reported_before_fleet_alerts_were_switched_on_gets_its_recovered() -> None:
    fleet = made()
    sent(fleet, [alert(i, f"m{i}") for i in (1, 2, 3)])
    assert sent(fleet, [alert(4, "m9", "ongoing")]) == []
    assert sent(fleet, [alert(5, "m9", "recovered")]) == [(5, "m9", "recovered")]


# Entities that fall silent.


def test_one_that_starts_afresh_leaves_and_may_start_again() -> None:
    fleet = made()
    sent(fleet, [alert(i, f"m{i}") for i in (1, 2, 3)])
    again = [gone(5, "m3"), alert(6, "m3", since=6000), alert(7, "m1", "recovered"), alert(8, "m2", "recovered")]
    assert sent(fleet, again) == [
        (7, "m1", "recovered"),
        (8, "m2", "recovered"),
        (8, "*", "recovered", 1),
        (8, "m3", "started"),
    ]


def test_a_fleet_episode_ends_with_the_expiry_of_its_last() -> None:
    """What was reported of one is ended; of one that was withheld nothing was, and nothing is."""
    fleet = made()
    sent(fleet, [alert(i, f"m{i}") for i in (1, 2, 3)])
    found = fleet.update([gone(9, "m2"), gone(9, "m3")], none_labelled)
    assert [(a.message["entity"], a.message["phase"], a.suppressed_by) for a in found] == [
        ("m2", "recovered", None), ("m3", "recovered", "0-0"), ("*", "recovered", None),
    ]  # fmt: skip
    over = found[-1].message
    assert (over["ended_by"], over["score"], over["absorbed_after"], over["y"]) == ("ttl", 2.0, None, None)
    assert over["count"] == 1
    assert sent(fleet, [gone(10, "m1")]) == [(10, "m1", "recovered")]


# The engine.


def struck(n: int, seed: int = 0, entities: int = 8, gaps: bool = False) -> Events:
    """Entities that jump by themselves, and twice all at once; with gaps, most have a label only now and then."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = 5 + x @ [2.0, -1.0] + 0.3 * rng.normal(size=n)
    y[rng.random(n) < 0.01] += 30
    at = np.arange(n) % (n // 2)
    y[(at > n // 4) & (at < n // 4 + 60)] += 20 * (1 + np.arange(n) % 3)[(at > n // 4) & (at < n // 4 + 60)]
    y[n // 2 :] -= 3 * x[n // 2 :, 0]
    y[rng.random(n) < 0.1] = np.nan
    number = rng.integers(entities, size=n)
    if gaps:  # three of sixteen are last_labelled for forty events
        number = rng.integers(16, size=(n, 3))[np.arange(n) // 40, rng.integers(3, size=n)]
    return Events([f"m{i}" for i in number], np.arange(n) * (60_000 if gaps else 1000), x, y, np.arange(n))


SECTIONS = {
    "": LIVELY,
    # Those that start afresh count again among the labelled: of so many, a loose budget in events would expect much.
    "gaps": LIVELY.replace("alerts:\n", "alerts:\n  fleet: {share: 0.01}\n").replace("100 events", "100m")
    + "state: {ttl: 2h}\n",
    "horizon": LIVELY.replace("warmup: 10", "warmup: 10, horizon: 2"),
    "targets": LIVELY,
    "shards": LIVELY + "state: {shards: 2}\n",
}
SECTIONS["targets gaps"] = SECTIONS["gaps"]


def lively(case: str) -> Config:
    return config("features: [a, b]" + (", target: [y, z]" if "targets" in case else ""), SECTIONS[case])


def stream(case: str, n: int = 2500) -> Events:
    events = struck(n, gaps="gaps" in case)
    if "targets" not in case:
        return events
    return replace(events, target=np.stack([events.target, np.roll(events.target, 1)], 1))


WHOLE: dict[str, tuple[list[Alert], Engine]] = {}


def whole(case: str) -> tuple[list[Alert], Engine]:
    if case not in WHOLE:
        engine = Engine(lively(case))
        WHOLE[case] = run(engine, stream(case))[1], engine
    return WHOLE[case]


def follow(alerts: list[Alert]) -> None:
    """What a subscriber sees: each episode starts before it goes on or recovers; while a fleet's lasts, none starts."""
    open_: set[tuple[str, str]] = set()
    for m in (a.message for a in alerts):
        key = (m["entity"], m["kind"])
        assert (m["phase"] == "started") == (key not in open_)
        if m["scope"] == "entity" and m["phase"] != "recovered":
            assert ("*", m["kind"]) not in open_
        if m["scope"] == "fleet":
            names = [e["entity"] for e in m["entities"]]
            assert m["count"] == len(set(names)) == len(names)
        if m["phase"] == "recovered":
            open_.discard(key)
        else:
            open_.add(key)


@pytest.mark.parametrize("case", ["", "horizon", "targets"])
def test_no_alert_is_without_a_beginning_and_entities_are_quiet_in_a_fleet_episode(case: str) -> None:
    alerts, _ = whole(case)
    follow(alerts)
    scopes = {(a.message["scope"], a.message["phase"]) for a in alerts}
    assert scopes >= {("fleet", "started"), ("fleet", "recovered"), ("entity", "started"), ("entity", "recovered")}


@settings(max_examples=30)
@given(st.sampled_from(sorted(SECTIONS)), st.lists(st.integers(0, 2500), max_size=12), st.booleans())
def test_batches_and_restores_change_no_message(case: str, cuts: list[int], restored: bool) -> None:
    """With gaps, entities expire in the middle of fleet episodes, at an event, an alert or a snapshot."""
    alerts, before = whole(case)
    events, engine, others = stream(case), Engine(lively(case)), list[Alert]()
    for start, stop in pairwise([0, *sorted(cuts), len(events)]):
        others += [a._replace(row=a.row + start) for a in run(engine, cut(events, start, stop))[1]]
        if restored:
            engine = Engine.restore(lively(case), engine.snapshot())
    assert others == alerts
    for each in (engine, before):
        each.snapshot()  # drops the silent ones
    assert engine.episodes.fleet is not None
    assert before.episodes.fleet is not None
    assert engine.episodes.fleet.dump() == before.episodes.fleet.dump()


def test_events_one_at_a_time_go_by_the_same_clock() -> None:
    alerts, _ = whole("targets")
    events, engine = stream("targets"), Engine(lively("targets"))
    others = [a.message for a in run(engine, cut(events, 0, 500))[1]]
    for i in range(500, len(events)):
        one = SingleEvent(
            events.entity[i], int(events.ts[i]), events.features[i].tolist(), events.target[i].tolist(), None
        )
        found = engine.process_one(one)
        assert found is not None
        others += [a.message for a in found[1]]
    assert [{**m, "episode": None} for m in others] == [{**a.message, "episode": None} for a in alerts]


@pytest.mark.parametrize("case", ["gaps", "targets gaps"])
def test_a_snapshot_every_few_events_shows_nowhere_though_entities_are_dropped_at_some(case: str) -> None:
    alerts, _ = whole(case)
    events, engine, dropped, others = stream(case), Engine(lively(case)), 0, list[Alert]()
    for start in range(0, 2500, 20):
        others += [a._replace(row=a.row + start) for a in run(engine, cut(events, start, start + 20))[1]]
        before = len(engine)
        data = engine.snapshot()
        dropped += before - len(engine)
        engine = Engine.restore(lively(case), data)
    assert dropped >= 2
    assert sum(a.message["ended_by"] == "ttl" for a in alerts) >= 2
    assert any(a.message["scope"] == "fleet" for a in alerts)
    assert others == alerts


def test_labels_that_come_by_themselves_tip_it_too() -> None:
    """A label right after its event, by another source: the pool is the event's."""
    engine, found = Engine(config("features: [a, b]", LIVELY + LATE)), list[Alert]()
    events = labelled(struck(2500))
    for row in range(2500):
        one = cut(events, row, row + 1)
        found += engine.process(bare(one), 3)[1]
        if row == 1500:
            engine = Engine.restore(engine.config, engine.snapshot())
        found += engine.learn(labels_of(one), 7).alerts
    follow(found)
    assert {a.message["pool"] for a in found if a.message["scope"] == "fleet"} == {"3-0"}
    on_time = run(Engine(config("features: [a, b]", LIVELY)), events)[1]
    sent = [(a.message["ts"], a.message["entity"], a.message["kind"], a.message["phase"]) for a in found]
    assert sent == [(a.message["ts"], a.message["entity"], a.message["kind"], a.message["phase"]) for a in on_time]


def test_switched_off_or_each_alone_the_alerts_are_those_of_entities() -> None:
    off = LIVELY.replace("alerts:\n", "alerts:\n  fleet: {enabled: false}\n")
    alone = LIVELY.replace("model: {", "model: {fleet: false, ")
    for sections in (off, alone):
        engine = Engine(config("features: [a, b]", sections))
        found = run(engine, struck(2500))[1]
        assert engine.episodes.fleet is None
        assert {a.message["scope"] for a in found} == {"entity"}
    assert len(found) > len(whole("")[0])


# What is written.


def documents(n: int) -> list[dict[str, Any]]:
    e = struck(n)
    return [
        {"e": name, "t": t, "a": a, "b": b, "target": None if y != y else y}
        for name, t, (a, b), y in zip(e.entity, e.ts.tolist(), e.features.tolist(), e.target.tolist(), strict=True)
    ]


def test_ids_are_unique_and_the_subject_is_the_fleet() -> None:
    settings_ = lively("")
    ((_, batch),) = Decoder(settings_).decode(chunk([orjson.dumps(d) for d in documents(2500)]))
    assert isinstance(batch, ShardBatch)
    encoder = Encoder(settings_)
    records = encoder.encode(batch, *Engine(settings_).process(batch.events, 3, encoder.event_ids(batch))).records
    sent = [r for r in records if r.topic == "alerts"]
    alerts = [orjson.loads(r.value or b"") for r in sent]
    assert len({a["id"] for a in alerts}) == len(alerts)
    for record, a in zip(sent, alerts, strict=True):
        stem = f"events-3-{a['source']['offset']}-{a['kind']}"
        assert a["id"] == stem + "-fleet" if a["scope"] == "fleet" else a["id"].startswith(stem)
        assert record.key == a["entity"] == dict(record.headers or [])["ce_subject"].decode()
        assert a["scope"] != "fleet" or a["pool"] == "3-0"


def test_a_backtest_counts_a_fleet_alert_once_and_for_no_entity() -> None:
    rows: list[dict[str, Any]] = []

    def on_chunk(part: Chunk) -> None:
        rows.extend(alert_rows(part))

    result = backtest(lively(""), documents(2500), on_chunk, source="file.csv")
    starts = [r for r in rows if r["phase"] == "started"]
    fleet = [r for r in starts if r["scope"] == "fleet"]
    assert fleet
    assert result["anomalies"] + result["drifts"] == len(starts)
    assert (result["entities"], set(result["by_entity"])) == (8, {f"m{i}" for i in range(8)})
    own = sum(m["anomalies"] + m["drifts"] for m in result["by_entity"].values())
    assert own == len(starts) - len(fleet)
    assert len({r["id"] for r in rows}) == len(rows)


def test_a_fleet_alert_of_a_backtest_is_explained_by_the_entity_whose_values_its_sentence_has(tmp_path: Path) -> None:
    """Its `entity` is `*`, of which there are no rows."""
    file, monitor, alerts = tmp_path / "rows.jsonl", tmp_path / "flow.yaml", tmp_path / "alerts.jsonl"
    file.write_bytes(b"\n".join(orjson.dumps(row) for row in documents(2500)))
    monitor.write_text(
        "source: {brokers: 'localhost:9092', topic: t}\n"
        f"event: {{entity: e, timestamp: t, features: [a, b], target: target}}\n{LIVELY}"
    )
    made = CliRunner().invoke(app, ["backtest", str(monitor), str(file), "--alerts", str(alerts)])
    assert made.exit_code == 0, made.output
    found = [orjson.loads(line) for line in alerts.read_bytes().splitlines()]
    fleet = next(each for each in found if each["scope"] == "fleet" and each["y"] is not None)
    result = CliRunner().invoke(app, ["explain", str(monitor), fleet["id"], "--recording", str(file), "--json"])
    assert result.exit_code == 0, result.output
    explained = orjson.loads(result.stdout)
    assert (explained["y"], explained["ts"]) == (fleet["y"], fleet["ts"])
    assert f"the last of them, {explained['entity']}: " in fleet["summary"]
    assert f"explained is {explained['entity']!r} in row " in result.stderr


@pytest.mark.parametrize(
    ("keys", "words"), [("share: 0", "greater than 0"), ("min_entities: 1", "greater than or equal to 2")]
)
def test_a_threshold_that_cannot_be_is_refused(keys: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"alerts\.fleet\.\w+: .*{words}"):
        config(sections=f"alerts: {{fleet: {{{keys}}}}}")


def test_an_event_of_the_whole_plant_is_one_alert_on_the_topic(kafka: Kafka, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 2))
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=4000)
    y[3600:3640] += 50  # all twenty, twice each
    messages = [
        (b"m%d" % (i % 20), orjson.dumps({"entity": f"m{i % 20}", "ts": i, "a": a, "b": b, "target": t}))
        for i, ((a, b), t) in enumerate(zip(x.tolist(), y.tolist(), strict=True))
    ]
    job = Job(kafka, tmp_path / "job", kafka.topic("events", 1))
    content = orjson.loads(job.path.read_bytes())
    job.path.write_bytes(orjson.dumps({**content, "state": {"shards": 1}, "model": {"warmup": 50}}))
    kafka.produce(job.topic, messages)
    job.run(timeout=600)
    alerts = [orjson.loads(value) for value in job.told_alerts().values()]
    struck_ = [a for a in alerts if a["kind"] == "anomaly" and 3600 <= a["source"]["offset"] < 3640]
    assert [a["phase"] for a in struck_ if a["scope"] == "fleet"] == ["started", "ongoing", "ongoing"]
    assert [a for a in struck_ if a["scope"] == "entity"] == [], "the first ones have waited for the fourth"
    first = next(a for a in struck_ if a["scope"] == "fleet")
    assert first["id"] == f"{job.topic}-0-{first['source']['offset']}-anomaly-fleet"
    assert {e["entity"] for e in first["entities"]} == {"m0", "m1", "m2", "m3"}
