"""The engine: predictions before learning, the same bits however the stream is cut, and learning together."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from engines import ALONE, DIRECT, FIELDS, assert_same_bits, config, cut, fleet, linear, made, run, whole
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.episodes.ids import EventIds


def test_a_prediction_does_not_depend_on_its_own_target() -> None:
    features, y = linear(300)
    other = y.copy()
    other[200] += 1
    one, two = (run(Engine(config()), made(v, features))[0] for v in (y, other))
    for name in ("yhat", "lower", "upper", "n"):
        assert one[name][:201].tobytes() == two[name][:201].tobytes()
    assert one["yhat"][201] != two["yhat"][201]


def test_an_event_without_target_is_predicted_and_leaves_the_state_untouched() -> None:
    features, y = linear(300)
    engine = Engine(config())
    run(engine, made(y, features))
    before = engine.state_hash("m")
    predicted, alerts = run(engine, made([np.nan] * 3, features[:3], ts=[1e6, 5e5, 2e6]))
    assert engine.state_hash("m") == before
    assert alerts == []
    assert predicted["n"].tolist() == [300, 300, 300]
    assert (predicted["score"] == 0).all()
    assert np.all(np.abs(predicted["yhat"] - (5 + features[:3] @ [2, -1])) < 0.5)
    run(engine, made([5.0], features[:1]))
    assert engine.state_hash("m") != before


def test_the_count_and_the_warm_up_are_of_labelled_events_of_the_entity() -> None:
    events = made([1, np.nan, 2, 3, 4] * 30, entity=["a", "a", "a", "b", "a"] * 30)
    predicted, _ = run(Engine(config(sections="model: {warmup: 10}")), events)
    seen: Counter[str] = Counter()
    for i, name in enumerate(events.entity):
        assert predicted["n"][i] == seen[name]
        assert predicted["warmup"][i] == (seen[name] < 10)
        seen[name] += not np.isnan(events.target[i])


def test_a_warming_entity_scores_nothing_and_alerts_never() -> None:
    rng = np.random.default_rng(3)
    events = made(rng.normal(size=1000) * np.where(rng.random(1000) < 0.05, 1e4, 1))
    predicted, alerts = run(Engine(config(sections="model: {warmup: 900}")), events)
    assert (predicted["score"][:900] == 0).all()
    assert (predicted["score"][900:] > 0).any()
    assert all(alert.row >= 900 for alert in alerts)


def test_entities_do_not_learn_from_each_other_where_each_is_alone() -> None:
    features, y = linear(400)
    alone, _ = run(Engine(config(sections=ALONE)), made(y, features))
    both = made(np.repeat(y, 2) * np.tile([1, -50], 400), np.repeat(features, 2, 0), ["m", "other"] * 400)
    together, _ = run(Engine(config(sections=ALONE)), both)
    assert_same_bits(alone, {name: together[name][::2] for name in FIELDS})


# The same bits, however the stream is cut.


def test_the_stream_that_is_cut_below_has_alerts_of_both_kinds() -> None:
    alerts = whole(0)[1]
    assert {a.message["kind"] for a in alerts} == {"anomaly", "drift"}


LEARNS = st.sampled_from(["", ALONE, "model: {profile: accurate, window: 128}"])


@settings(max_examples=30)
@given(st.integers(0, 2), LEARNS, st.lists(st.integers(0, 6000), max_size=30))
def test_batches_change_no_bit_of_predictions_alerts_and_state(seed: int, sections: str, cuts: list[int]) -> None:
    predicted, alerts, state = whole(seed, sections)
    engine = Engine(config(sections=sections))
    others_predicted, other_alerts = run(engine, fleet(6000, seed), cuts)
    assert_same_bits(predicted, others_predicted)
    assert alerts == other_alerts
    assert engine.snapshot() == state


@settings(max_examples=15)
@given(st.integers(0, 2), LEARNS, st.lists(st.integers(0, 6000), min_size=1, max_size=4))
def test_an_engine_restored_at_any_point_goes_on_to_the_same_bits(seed: int, sections: str, cuts: list[int]) -> None:
    predicted, alerts, state = whole(seed, sections)
    events, engine = fleet(6000, seed), Engine(config(sections=sections))
    parts, other_alerts = [], []
    edges = [0, *sorted(cuts), len(events)]
    for start, stop in pairwise(edges):
        part, more = run(engine, cut(events, start, stop))
        parts.append(part)
        other_alerts += [a._replace(row=a.row + start) for a in more]
        engine = Engine.restore(config(sections=sections), engine.snapshot())
    assert_same_bits(predicted, {name: np.concatenate([part[name] for part in parts]) for name in FIELDS})
    assert other_alerts == alerts
    assert engine.snapshot() == state


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_order_among_entities_changes_no_bit_of_an_entitys_predictions(seed: int) -> None:
    """Where each is alone, predictions, alerts and state hashes follow from its own events in their order."""
    events = fleet(6000)
    predicted, alerts, _ = whole(0, ALONE)
    queues = {name: [i for i, e in enumerate(events.entity) if e == name] for name in sorted(set(events.entity))}
    turns = np.random.default_rng(seed).permutation(events.entity)
    order = np.array([queues[name].pop(0) for name in turns])
    others_predicted, other_alerts = run(Engine(config(sections=ALONE)), events.take(order))
    assert_same_bits({name: predicted[name][order] for name in FIELDS}, others_predicted)
    theirs = sorted(((int(order[a.row]), a.message) for a in other_alerts), key=lambda item: item[0])
    assert theirs == [(a.row, a.message) for a in alerts]


def test_an_engine_with_one_entity_predicts_the_same_as_one_with_all() -> None:
    events = fleet(6000)
    predicted, alerts, _ = whole(0, ALONE)
    mine = np.flatnonzero([name == "m3" for name in events.entity])
    others_predicted, other_alerts = run(Engine(config(sections=ALONE)), events.take(mine))
    assert_same_bits({name: predicted[name][mine] for name in FIELDS}, others_predicted)
    assert [a.message for a in other_alerts] == [a.message for a in alerts if a.message["entity"] == "m3"]


@pytest.mark.parametrize("seed", [0, 2])
def test_entities_of_other_shards_change_no_bit(seed: int) -> None:
    """A pool is a shard's: its predictions, alerts and state hashes follow from its own events in their order."""
    shards, sections = 4, "state: {shards: 4}"
    events = fleet(6000, seed)
    predicted, alerts = run(Engine(config(sections=sections)), events)
    shard = np.array([shard_of(name, shards) for name in events.entity])
    assert len(set(shard)) == 3
    for each in set(shard):
        mine = np.flatnonzero(shard == each)
        others_predicted, other_alerts = run(Engine(config(sections=sections)), events.take(mine))
        assert_same_bits({name: predicted[name][mine] for name in FIELDS}, others_predicted)
        expected = [a.message for a in alerts if shard[a.row] == each]
        assert [a.message for a in other_alerts] == expected


@settings(max_examples=15)
@given(st.integers(0, 2), st.integers(0, 2), st.lists(st.integers(0, 6000), max_size=10))
def test_entities_of_other_sources_change_no_bit(seed: int, other: int, cuts: list[int]) -> None:
    """Nor does the order among sources. The other one's entities have the same names: they are others all the same."""
    predicted, alerts, _ = whole(seed)
    engine, beside = Engine(config()), fleet(6000, other)
    beside = made(beside.target, beside.features, [f"other-{name}" for name in beside.entity], beside.ts)
    parts, other_alerts = [], []
    for start, stop in pairwise([0, *sorted(cuts), 6000]):
        engine.process(cut(beside, start, stop), source=1)
        ids = EventIds("events", 0, range(start, stop))
        part, more = engine.process(cut(fleet(6000, seed), start, stop), 0, ids)
        parts.append(part)
        other_alerts += [alert._replace(row=alert.row + start) for alert in more]
    assert_same_bits(predicted, {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS})
    assert other_alerts == alerts


# Learning together.


def taught(event: str, seed: int, entities: int = 8) -> Engine:
    """An engine whose fleet knows the relation of `linear`."""
    features, y = linear(2000, seed)
    engine = Engine(config(event))
    run(engine, made(y, features, [f"m{i % entities}" for i in range(2000)]))
    return engine


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
@pytest.mark.parametrize("seed", range(5))
def test_a_new_entity_starts_from_what_the_fleet_taught(event: str, seed: int) -> None:
    """Its first five events are predicted with half the error that it would have alone, or less."""
    features, y = linear(60, 100 + seed)
    events = made(y, features, "new", np.arange(60) * 1000 + 2_000_000)
    with_fleet, _ = run(taught(event, seed), events)
    alone, _ = run(Engine(config(event)), events)
    assert np.abs(y - with_fleet["yhat"])[:5].mean() < 0.5 * np.abs(y - alone["yhat"])[:5].mean()
    assert (with_fleet["fleet"][:5] > 0.7).all()
    assert (alone["fleet"] == 0).all()


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_less_rests_on_the_fleet_where_an_entitys_relation_contradicts_it(event: str) -> None:
    features, y = linear(8000)
    number = np.arange(8000) % 8
    names = [f"m{i}" for i in number]
    alike, _ = run(Engine(config(event)), made(y, features, names))
    y += np.where(number == 7, features @ [-4.0, 4.0], 0)
    odd, _ = run(Engine(config(event)), made(y, features, names))
    mine = np.flatnonzero(number == 7)
    assert alike["fleet"][mine[-300:]].mean() > 0.8
    assert odd["fleet"][mine[1:20]].mean() > 0.4
    assert odd["fleet"][mine[-300:]].mean() < 0.4
    assert np.abs(y - odd["yhat"])[mine[-300:]].mean() < 0.35, "noise of 0.3 leaves 0.24"


def test_memory_of_entities_and_pools_is_measured() -> None:
    engine = taught("features: [a, b]", 0)
    before = len(engine.snapshot())
    features, y = linear(1000)
    run(engine, made(y, features, [f"new{i}" for i in range(1000)]))
    assert len(engine.snapshot()) - before == pytest.approx(1000 * engine.bytes_per_entity, rel=0.05)
    assert engine.bytes_per_entity <= 13_632, "of which the detectors keep 8,900, and seasons 3,100"
    assert engine.bytes_per_pool < before < engine.bytes_per_pool + 9 * engine.bytes_per_entity + 10_000


@pytest.mark.parametrize("off", ["anomaly", "drift", "anomaly, drift", "channels"])
def test_a_detector_that_is_off_takes_no_memory_and_changes_no_prediction(off: str) -> None:
    kinds = {"channels": "anomaly: {channels: [residual]}"}.get(off, "")
    kinds = kinds or ", ".join(f"{kind}: {{enabled: false}}" for kind in off.split(", "))
    features, y = linear(500)
    events = made(y, features, [f"m{i % 3}" for i in range(500)])
    full, less = Engine(config()), Engine(config(sections=f"alerts: {{{kinds}}}"))
    assert less.bytes_per_entity < full.bytes_per_entity - 2_000
    predicted, _ = less.process(events)
    assert (predicted.yhat == full.process(events)[0].yhat).all()
    again = Engine.restore(less.config, less.snapshot())
    assert again.snapshot() == less.snapshot()
    assert again.state_hash("m1") == less.state_hash("m1")


def test_input_names_begin_with_the_constant_and_end_with_the_codes_in_use() -> None:
    rng = np.random.default_rng(0)
    engine = Engine(config("features: [a], categories: [mode], lags: 0, differences: false, calendar: []"))
    mode = rng.integers(0, 3, 200) * 1.0
    run(engine, made(mode + rng.normal(size=200), np.c_[rng.normal(size=200), mode]))
    names = [name for name in engine.input_names() if name]
    assert names[:2] == ["constant", "a"]
    assert sorted(names[2:]) == sorted(2 * ["mode=0", "mode=1", "mode=2"])  # as numbers, and as codes
