"""Several targets per event: each as if it were alone, one message an event and target, one alert an entity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from engines import FIELDS, all_finite, assert_same_bits, config, cut, run
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_decoder import chunk

from ssm_stream.autoconfig.feature_selection import select_features
from ssm_stream.config import Config, ConfigError
from ssm_stream.config.sections import Alerts
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.engine.episodes.endings import ending
from ssm_stream.engine.multi_target_alerts import MultiTargetAlerts
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import ShardBatch

TWO = "features: [a, b], target: [y, z]"
LIVELY = """alerts:
  anomaly: {budget: 1 per 100 events, cooldown: 0, recover_after: 5}
  drift: {budget: 1 per 100 events, cooldown: 0}
  fleet: {enabled: false}
model: {warmup: 10}
"""
OWN = {"state_hash", "config_hash", "budget", "summary"}
"""Of an alert: what another configuration makes otherwise."""


@pytest.fixture(autouse=True, scope="module")
def reported_often() -> Iterator[None]:
    """Open alerts are reported again every 7 events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Alerts, "ongoing_every", 7)
        yield


def targets(n: int, seed: int = 0, entities: int = 4, gaps: bool = False) -> Events:
    """Two targets that are missing now and then, with spikes in common and of their own, and changes of relation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = 5 + np.stack([x @ [2.0, -1.0], x @ [1.0, 1.0]], 1) + 0.3 * rng.normal(size=(n, 2))
    y[rng.random(n) < 0.002] += 30
    y[rng.random((n, 2)) < 0.002] -= 20
    y[3 * n // 4 :, 0] -= 3 * x[3 * n // 4 :, 0]
    y[7 * n // 8 :, 1] += 3 * x[7 * n // 8 :, 0]
    if gaps:  # every fourth time, what is heard last is off
        y[(np.arange(n) // 50 % 4 == 3) & (np.arange(n) % 50 >= 44)] += 30
    y[rng.random((n, 2)) < 0.1] = np.nan
    number = rng.integers(entities, size=n)
    if gaps:  # two of twelve are heard for fifty events
        number = rng.integers(12, size=(n, 2))[np.arange(n) // 50, rng.integers(2, size=n)]
    return Events([f"m{i}" for i in number], np.arange(n) * (60_000 if gaps else 1000), x, y, np.arange(n))


def one_of(events: Events, j: int) -> Events:
    known = np.isfinite(events.target).mean(axis=1)  # an event's budget is shared by those that it has
    return replace(events, target=np.ascontiguousarray(events.target[:, j]), share=known)


def column(predicted: dict[str, NDArray[Any]], j: int) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(values[:, j]) for name, values in predicted.items()}


# Each target as if it were alone.


@pytest.mark.parametrize("sections", ["", "model: {fleet: false}", "model: {horizon: 3}", "model: {horizon: 20s}"])
def test_each_target_is_predicted_as_by_an_engine_of_its_own_with_its_share_of_the_budget(sections: str) -> None:
    off = "alerts: {fleet: {enabled: false}}"  # which is over all entities, and so not as of one alone
    events, engine = targets(3000, entities=2), Engine(config(TWO, f"{sections}\n{off}"))
    predicted, alerts = run(engine, events)
    budgets = "anomaly: {budget: 1 per 20000 events}, drift: {budget: 0.5 per 10000 events}"
    share = f"alerts: {{fleet: {{enabled: false}}, {budgets}}}"
    for j, path in enumerate(("y", "z")):
        single = Engine(config(f"features: [a, b], target: {path}", f"{sections}\n{share}"))
        alone, its = run(single, one_of(events, j))
        assert_same_bits(column(predicted, j), alone)
        for name in single.names:
            assert single.state_hash(name) == engine.state_hash(name, target=path)
        mine = {(a.row, a.message["kind"]): a.message for a in its}
        for alert in alerts:
            if alert.message["target"] == path:
                own = mine.get((alert.row, alert.message["kind"]))
                if own is None:  # the end is about the target of the start, whichever is the last to recover
                    assert alert.message["phase"] == "recovered"
                    continue
                same = set(own) - OWN - {"phase", "episode", "ended_by", "since", "severity", "absorbed_after"}
                assert {name: alert.message[name] for name in same} == {name: own[name] for name in same}
                assert alert.message["state_hash"] == own["state_hash"]
    assert alerts


def test_budgets_are_shared_in_events_and_in_time() -> None:
    whole = config("target: [a, b, c]", "alerts: {anomaly: {budget: 1 per 100 events}, drift: {budget: 1 per 30d}}")
    part = whole.for_target("b")
    assert part.event.target == "b"
    assert part.alerts.anomaly.budget.events == 300
    assert part.alerts.drift.budget.seconds == 90 * 86_400
    assert part.alerts.anomaly.budget.text == "1 per 100 events"
    one = config("target: [a]")
    assert one.for_target("a") is one


def test_a_missing_target_is_predicted_and_not_learned_while_the_others_are() -> None:
    events, engine = targets(300, entities=1), Engine(config(TWO))
    run(engine, events)
    before = [engine.state_hash("m0", target=path) for path in ("y", "z")]
    last = replace(cut(events, 299, 300), ts=np.array([400_000]), target=np.array([[1.0, np.nan]]))
    predicted, _ = run(engine, last)
    assert np.isfinite(predicted["yhat"]).all()
    after = [engine.state_hash("m0", target=path) for path in ("y", "z")]
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


def test_memory_names_and_hashes_are_over_all_targets() -> None:
    engine, single = Engine(config(TWO)), Engine(config("features: [a, b], target: y"))
    run(engine, targets(200))
    run(single, one_of(targets(200), 0))
    assert engine.bytes_per_entity == 2 * single.bytes_per_entity
    assert engine.bytes_per_pool == 2 * single.bytes_per_pool
    assert engine.names == single.names
    assert len(engine) == 4
    assert engine.input_names(target="z") == single.input_names()
    for call in (lambda: engine.state_hash("nobody"), lambda: engine.state_hash("m0", target="x")):
        with pytest.raises(KeyError):
            call()


# Episodes in common.


def follow(alerts: list[Alert]) -> None:
    """What each report must be, given those before it."""
    open_: dict[tuple[str, str], dict[str, Any]] = {}
    for alert in alerts:
        m = alert.message
        key, names = (m["entity"], m["kind"]), [t["target"] for t in m["targets"]]
        assert all_finite(m)
        assert (m["phase"] == "started") == (key not in open_)
        assert (m["phase"] == "recovered") == (names == [])
        assert (m["absorbed_after"] is not None) == (m["phase"] == "recovered")
        assert len(set(names)) == len(names)
        assert [t["score"] for t in m["targets"]] == sorted((t["score"] for t in m["targets"]), reverse=True)
        worst = max([m["score"], *(t["score"] for t in m["targets"])])
        assert m["severity"] == ("critical" if worst >= 3 else "warning")
        if m["phase"] == "started":
            assert m["since"] == m["ts"]
        else:
            assert m["since"] == open_[key]["since"]
        if m["phase"] == "recovered":
            del open_[key]
        else:
            assert m["target"] in names
            open_[key] = m


def state_of(engine: Engine) -> dict[str, str]:
    """Without the order of entities: one that was dropped at a snapshot comes back as the last."""
    engine.snapshot()
    return {name: engine.state_hash(name) for name in engine.names}


WHOLE: dict[bool, tuple[dict[str, NDArray[Any]], list[Alert], Engine]] = {}


def whole(gaps: bool) -> tuple[dict[str, NDArray[Any]], list[Alert], Engine]:
    if gaps not in WHOLE:
        engine = Engine(lively(gaps))
        WHOLE[gaps] = (*run(engine, stream(gaps)), engine)
    return WHOLE[gaps]


def stream(gaps: bool) -> Events:
    """Of so few entities that drift is looked for."""
    return targets(3000, 1, entities=2, gaps=gaps)


def lively(gaps: bool) -> Config:
    return config(TWO, LIVELY + ("state: {ttl: 1h}\n" if gaps else ""))


def test_targets_of_an_entity_share_one_episode_a_kind() -> None:
    _, alerts, _ = whole(gaps=False)
    follow(alerts)
    ids = Counter((alert.row, alert.message["kind"]) for alert in alerts)
    assert set(ids.values()) == {1}
    said = {(a.message["kind"], a.message["phase"], len(a.message["targets"])) for a in alerts}
    for kind in ("anomaly", "drift"):
        assert said >= {(kind, "started", 1), (kind, "ongoing", 2), (kind, "recovered", 0)}
    assert ("anomaly", "started", 2) in said, "both spike at once"


@settings(max_examples=15)
@given(st.booleans(), st.lists(st.integers(0, 3000), max_size=12), st.booleans())
def test_batches_and_restores_change_neither_messages_nor_state(gaps: bool, cuts: list[int], restored: bool) -> None:
    """With gaps, targets expire while their episodes are open, at an event or at a snapshot."""
    predicted, alerts, before = whole(gaps)
    events, engine = stream(gaps), Engine(lively(gaps))
    parts, others = [], []
    for start, stop in pairwise([0, *sorted(cuts), len(events)]):
        part, more = run(engine, cut(events, start, stop))
        parts.append(part)
        others += [alert._replace(row=alert.row + start) for alert in more]
        if restored:
            engine = Engine.restore(lively(gaps), engine.snapshot())
    assert_same_bits(predicted, {name: np.concatenate([part[name] for part in parts]) for name in FIELDS})
    assert others == alerts
    assert state_of(engine) == state_of(before)
    # A snapshot drops who has no label yet, who is then named later: another order.
    assert gaps or restored or engine.snapshot() == before.snapshot()


def test_a_snapshot_every_few_events_shows_nowhere_though_entities_are_dropped_at_some() -> None:
    _, alerts, whole_engine = whole(gaps=True)
    events, engine, dropped, others = stream(gaps=True), Engine(lively(gaps=True)), 0, []
    for start in range(0, 3000, 20):
        others += [a._replace(row=a.row + start) for a in run(engine, cut(events, start, start + 20))[1]]
        before = len(engine)
        data = engine.snapshot()
        dropped += before - len(engine)
        engine = Engine.restore(lively(gaps=True), data)
    assert dropped >= 1
    assert sum(alert.message["ended_by"] == "ttl" for alert in alerts) >= 2
    assert others == alerts
    assert state_of(engine) == state_of(whole_engine)


def alert(row: int, kind: str, phase: str, score: float, since: int, absorbed: int | None = None) -> Alert:
    rest = {"severity": "warning", "y": score, "yhat": 0.0, "yhat_lower": -1.0, "yhat_upper": 1.0, "config_hash": "x"}
    message = {"entity": "m", "kind": kind, "phase": phase, "ts": 1000 * row, "score": score, "since": since}
    ended_by = None if absorbed is None else "recovered"
    return Alert(row, {**message, "ended_by": ended_by, "absorbed_after": absorbed, **rest})


def expired(row: int, entity: str = "m") -> Alert:
    return Alert(row, ending(config("target: [x, y, z]"), entity, "drift", 1000, 1000 * row, "ttl"), suffix="-")


def joint_alerts(joint: MultiTargetAlerts, *alerts: list[Alert]) -> list[Any]:
    found = joint.update(alerts)
    return [
        (a.row, m["phase"], m["target"], [t["target"] for t in m["targets"]], m["since"], m["absorbed_after"])
        for a in found
        for m in [a.message]
    ]


def three() -> MultiTargetAlerts:
    return MultiTargetAlerts(config("target: [x, y, z]"))


def test_who_joins_is_reported_at_once_and_the_last_to_recover_ends_it() -> None:
    joint = three()
    x = [alert(1, "anomaly", "started", 2, 1000), alert(9, "anomaly", "recovered", 1.5, 1000, 4)]
    y = [alert(1, "anomaly", "started", 5, 1000), alert(20, "anomaly", "recovered", 1.2, 1000, 3)]
    z = [alert(4, "anomaly", "started", 3, 4000), alert(30, "anomaly", "recovered", 1.1, 4000, 2)]
    assert joint_alerts(joint, x, y, z) == [
        (1, "started", "y", ["y", "x"], 1000, None),
        (4, "ongoing", "z", ["y", "z", "x"], 1000, None),
        (30, "recovered", "z", [], 1000, 4),
    ]
    assert joint.dump() == []


def test_only_the_target_that_is_open_for_longest_is_reported_again() -> None:
    joint = three()
    x = [alert(1, "drift", "started", 2, 1000), alert(11, "drift", "ongoing", 3, 1000)]
    y = [alert(2, "drift", "started", 2, 2000), alert(12, "drift", "ongoing", 9, 2000)]
    assert [item[:3] for item in joint_alerts(joint, x, y, [])] == [
        (1, "started", "x"),
        (2, "ongoing", "y"),
        (11, "ongoing", "x"),
    ]
    x, y = [alert(3, "drift", "recovered", 1, 1000, 5)], [alert(4, "drift", "ongoing", 7, 2000)]
    assert joint_alerts(joint, x, y, []) == [(4, "ongoing", "y", ["y"], 1000, None)]
    ranked = joint.update([[], [alert(5, "drift", "ongoing", 2.5, 2000)], [alert(5, "drift", "started", 2, 5000)]])
    assert [t["score"] for t in ranked[0].message["targets"]] == [2.5, 2]


def test_the_end_is_about_the_target_of_the_start() -> None:
    joint = three()
    values = {"y": 7.0, "yhat": 6.5, "yhat_lower": 6.0, "yhat_upper": 8.0}
    x = [alert(1, "drift", "started", 2, 1000), alert(5, "drift", "recovered", 1.5, 1000, 4)]
    y = [alert(2, "drift", "started", 2, 2000), alert(9, "drift", "recovered", 1.1, 2000, 7)]
    found = joint.update([x, y, []], lambda number, row: values if (number, row) == (0, 9) else None)
    assert [(a.message["phase"], a.message["target"]) for a in found] == [
        ("started", "x"), ("ongoing", "y"), ("recovered", "x"),
    ]  # fmt: skip
    end = found[-1]
    assert {name: end.message[name] for name in values} == values
    assert (end.message["score"], end.message["absorbed_after"], end.ended) == (1.1, 7, (("y", "recovered"),))
    # Without a value there, or where its part ended otherwise, it is about the last one.
    found = joint.update([x, y, []])
    assert (found[-1].message["target"], found[-1].ended) == ("y", (("x", "recovered"),))
    y[1].message["ended_by"] = "absorbed"
    found = joint.update([x, y, []], lambda number, row: values)
    assert (found[-1].message["target"], found[-1].message["ended_by"]) == ("y", "absorbed")
    assert found[-1].ended == (("x", "recovered"),)


def test_what_the_level_of_another_target_raised_is_about_that_one() -> None:
    joint = three()
    values = {"y": 7.0, "yhat": 6.5, "yhat_lower": 6.0, "yhat_upper": 8.0}

    def at(number: int, row: int) -> dict[str, float] | None:
        return values if number == 2 and row < 8 else None

    x = [alert(1, "anomaly", "started", 2, 1000)._replace(cause="z"), alert(5, "anomaly", "ongoing", 0.5, 1000)]
    y = [alert(3, "anomaly", "started", 2.5, 3000)._replace(cause="z")]
    start, joined, later = joint.update([x, y, []], at)
    assert (start.message["target"], joined.message["target"], later.message["target"]) == ("z", "z", "z")
    assert joined.message["targets"] == [{"target": "z", "score": 2.5, "since": 1000, **values}]
    assert {name: joined.message[name] for name in values} == values
    again = three()
    again.load(orjson.loads(orjson.dumps(joint.dump())))
    assert again.dump() == joint.dump()
    # A feature that is no target, or one without a value, leaves it with the target of the detector.
    x = [alert(4, "anomaly", "ongoing", 2, 1000)._replace(cause="load")]
    assert joint.update([x, [], []], at)[0].message["target"] == "x"
    x = [alert(9, "anomaly", "ongoing", 2, 1000)._replace(cause="z")]
    assert joint.update([x, [], []], at)[0].message["target"] == "x"


def test_an_end_has_the_values_of_the_target_that_it_is_about() -> None:
    values = {"y": 7.0, "yhat": 6.5, "yhat_lower": 6.0, "yhat_upper": 8.0}
    x = [
        alert(1, "anomaly", "started", 2, 1000)._replace(cause="z"),
        alert(9, "anomaly", "recovered", 0.5, 1000, 4),
    ]
    end = three().update([x, [], []], lambda number, row: values if number == 2 else None)[-1].message
    assert (end["phase"], end["target"]) == ("recovered", "z")
    assert {name: end[name] for name in values} == values
    # Of one without a value at the last event it has none, and names it after the detector's own.
    end = three().update([x, [], []], lambda number, row: values if row < 9 else None)[-1]
    assert (end.message["target"], end.message["y"], end.ended) == ("x", 0.5, (("z", "recovered"),))


def test_a_report_names_the_targets_whose_values_are_of_its_event() -> None:
    joint = three()
    x, y = [alert(1, "anomaly", "started", 9, 1000)], [alert(1, "anomaly", "started", 3, 1000)]
    start, joined = joint.update([x, y, [alert(400, "anomaly", "started", 2, 400_000)]])
    assert (start.reported, joined.reported) == (("x", "y"), ("z",))
    assert [each["target"] for each in joined.message["targets"]] == ["x", "y", "z"]


def test_a_second_detector_that_reports_a_column_no_farther_off_is_no_news() -> None:
    joint = three()
    x = [alert(1, "anomaly", "started", 9, 1000)._replace(cause="z")]
    y = [alert(3, "anomaly", "started", 1.2, 3000)._replace(cause="z")]
    z = [alert(2, "anomaly", "started", 1.3, 2000), alert(9, "anomaly", "recovered", 0.4, 2000, 5)]
    found = joint.update([x, y, z], lambda number, row: {"y": 7.0} if number == 2 else None)
    assert [(each.row, each.message["phase"]) for each in found] == [(1, "started")]
    y = [alert(11, "anomaly", "started", 1.2, 11000)]
    assert joint_alerts(joint, [], y, []) == [(11, "ongoing", "y", ["z", "y"], 1000, None)]


def test_a_state_of_before_goes_on() -> None:
    joint = three()
    joint_alerts(joint, [alert(1, "drift", "started", 2, 1000)], [], [])
    ((*key, since, absorbed, items, _, _),) = joint.dump()
    before = [[name, {k: v for k, v in cause.items() if k != "target"}] for name, cause in items]
    again = three()
    again.load([[*key, since, absorbed, before]])
    assert joint_alerts(again, [alert(9, "drift", "recovered", 1, 1000, 4)], [], []) == [
        (9, "recovered", "x", [], 1000, 4)
    ]


def test_one_that_starts_as_the_last_recovers_goes_on_with_the_episode() -> None:
    joint = three()
    joint_alerts(joint, [alert(1, "anomaly", "started", 2, 1000)], [], [])
    x, y = [alert(5, "anomaly", "recovered", 1, 1000, 3)], [alert(5, "anomaly", "started", 2, 5000)]
    assert joint_alerts(joint, x, y, []) == [(5, "ongoing", "y", ["y"], 1000, None)]


def test_what_expires_leaves_the_episode_without_a_word_and_the_last_one_ends_it() -> None:
    joint = three()
    joint_alerts(joint, [alert(1, "drift", "started", 2, 1000)], [alert(1, "drift", "started", 3, 1000)], [])
    again = MultiTargetAlerts(joint_config := config("target: [x, y, z]"))
    again.load(orjson.loads(orjson.dumps(joint.dump())))
    assert again.dump() == joint.dump()
    assert joint_config.event.targets == ["x", "y", "z"]
    assert joint_alerts(joint, [expired(4)], [], [alert(4, "drift", "started", 2, 4000)]) == [
        (4, "ongoing", "z", ["y", "z"], 1000, None)
    ]
    assert joint_alerts(again, [expired(7)], [expired(9)], []) == [(9, "recovered", "y", [], 1000, None)]
    assert again.dump() == []


def test_episodes_of_several_entities_may_end_at_one_event() -> None:
    joint = three()
    for name in ("m", "k"):
        one = alert(1, "drift", "started", 2, 1000)
        joint.update([[one._replace(message={**one.message, "entity": name})], [], []])
    own = alert(9, "drift", "started", 2, 9000)
    own.message["entity"] = "other"
    found = joint.update([[expired(9, "k"), expired(9, "m"), own], [], []])
    assert [(a.message["entity"], a.message["phase"], a.message["ended_by"]) for a in found] == [
        ("k", "recovered", "ttl"), ("m", "recovered", "ttl"), ("other", "started", None),
    ]  # fmt: skip


# Snapshots.


def test_a_snapshot_of_other_targets_is_refused() -> None:
    state = whole(gaps=False)[2].snapshot()
    for other in ("[v, w]", "w"):
        with pytest.raises(StateError, match=r"(?s)event\.target: .*refused.*put back what is refused"):
            Engine.restore(config(TWO.replace("[y, z]", other), LIVELY), state)
    with pytest.raises(StateError, match=r"event\.target: "):
        Engine.restore(config(TWO, LIVELY), Engine(config("features: [a, b], target: w", LIVELY)).snapshot())


# Reading and writing.


def documents(n: int) -> list[dict[str, Any]]:
    events = targets(n, 1, entities=2)
    return [
        {"e": name, "t": t, "a": a, "b": b, "y": None if y != y else y, "z": None if z != z else z}
        for name, t, (a, b), (y, z) in zip(
            events.entity, events.ts.tolist(), events.features.tolist(), events.target.tolist(), strict=True
        )
    ]


def test_targets_are_read_as_columns_and_a_wrong_one_refuses_the_event_by_its_path() -> None:
    reader = EventReader(config("features: [a], target: [y, deep.z]").event)
    good = {"e": "m", "t": 1, "a": 2, "y": 3, "deep": {"z": 4}}
    docs = [good, {**good, "y": None}, {**good, "deep": {"z": "4"}}, {**good, "deep": None}, {**good, "y": True}]
    events, refused = reader.read(docs)
    np.testing.assert_array_equal(events.target, [[3, 4], [math.nan, 4], [3, math.nan]])
    assert events.features.tolist() == [[2]] * 3
    assert [(r.position, r.fault) for r in refused] == [(2, "WrongType"), (4, "WrongType")]
    assert "`deep.z`" in refused[0].reason
    assert "`y`" in refused[1].reason
    assert reader.read([])[0].target.shape == (0, 2)


@pytest.mark.parametrize("horizon", ["", "model: {horizon: 3}", "model: {horizon: 20s}"])
@pytest.mark.parametrize("paths", ["[y, z]", "[z, 'a \"quoted\" % s path/Öl', y]"])
def test_an_event_has_a_message_for_each_target_in_their_order(paths: str, horizon: str) -> None:
    settings_ = config(f"features: [a, b], target: {paths}", horizon)
    values: list[bytes | None] = [orjson.dumps(document) for document in documents(300)]
    ((_, batch),) = Decoder(settings_).decode(chunk(values))
    assert isinstance(batch, ShardBatch)
    predictions, alerts = Engine(settings_).process(batch.events, batch.partition)
    records = Encoder(settings_).encode(batch, predictions, alerts).records
    wanted = settings_.event.targets
    said = [orjson.loads(r.value or b"") for r in records if r.topic == "predictions"]
    assert [(m["id"], m["target"]) for m in said] == [
        (f"events-3-{offset}-{path}", path) for offset in range(100, 400) for path in wanted
    ]
    keys = [r.key for r in records if r.topic == "predictions"]
    assert keys == [m["entity"] for m in said]
    for i, m in enumerate(said):
        row, j = divmod(i, len(wanted))
        y = batch.events.target[row, j]
        assert m["y"] == (None if math.isnan(y) else y)
        assert (m["yhat"], m["n"], m["warmup"]) == (
            predictions.yhat[row, j], predictions.n[row, j], predictions.warmup[row, j],
        )  # fmt: skip
        assert ("for" in m) == bool(horizon)
    assert not said or set(said[0]) - {"for", "target"} == {
        "entity", "ts", "y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score", "warmup", "n", "fleet", "id",
    }  # fmt: skip


def test_alerts_of_two_targets_are_one_message_an_event_and_kind() -> None:
    settings_ = config(TWO, LIVELY)
    values: list[bytes | None] = [orjson.dumps(document) for document in documents(3000)]
    ((_, batch),) = Decoder(settings_).decode(chunk(values))
    assert isinstance(batch, ShardBatch)
    records = Encoder(settings_).encode(batch, *Engine(settings_).process(batch.events, 3)).records
    alerts = [orjson.loads(r.value or b"") for r in records if r.topic == "alerts"]
    assert {a["kind"] for a in alerts} == {"anomaly", "drift"}
    assert len({a["id"] for a in alerts}) == len(alerts)
    for a in alerts:
        assert a["id"] == f"events-3-{a['source']['offset']}-{a['kind']}"
        assert a["config_hash"] == settings_.hash
        for cause in a["targets"]:
            assert list(cause) == ["target", "score", "since", "y", "yhat", "yhat_lower", "yhat_upper"]


# Configuration.


def test_one_target_in_a_list_is_that_target() -> None:
    assert config("features: [a], target: [y]") == config("features: [a], target: y")
    assert config("features: [a], target: [y]").hash == config("features: [a], target: y").hash
    hashes = {config(f"features: [a], target: {paths}").hash for paths in ("y", "[y, z]", "[z, y]", "[y, z, w]")}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("target: []", "list of 1 to 64 paths"),
        ("target: ''", "found ''"),
        ("target: [y, '']", "write a path such as 'temp'"),
        ("target: [y, 3]", "found ['y', 3]"),
        ("target: {y: z}", "write a path"),
        ("target: [y, z, y]", "['y'] twice; name each target once"),
        (f"target: [{', '.join(f'y{i}' for i in range(65))}]", "found 65 entries"),
        ("features: [z], target: [y, z]", "'z' is a target; it may not be a feature"),
        ("categories: [y], target: [y, z]", "'y' is a target; it may not be a feature"),
    ],
)
def test_targets_that_cannot_be_are_refused_in_words(event: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(event)
    assert words in str(caught.value)
    assert ":2: event" in str(caught.value)


def test_labels_are_of_one_target() -> None:
    with pytest.raises(ConfigError, match="one flow per target"):
        config(TWO, "labels: {topic: labels}")


def test_no_target_is_picked_as_a_feature_nor_a_copy_of_one() -> None:
    docs = [{**d, "copy": d["z"], "near": (d["y"] or 0) + 1e-6 * i} for i, d in enumerate(documents(200))]
    selection = select_features(config("features: auto, target: [y, z, later]"), docs)
    assert selection.config.event.features == ["a", "b", "near"]
    assert "the same as the target z" in selection.left_out["copy"]
    assert any("the target `later` is in none" in remark for remark in selection.remarks)
    assert selection.config.event.target == ["y", "z", "later"]
