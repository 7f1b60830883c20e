"""The engine: predict then learn, the same bits however the stream is cut, finite whatever comes, alerts in order."""

from __future__ import annotations

import math
import os
import struct
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from xxhash import xxh3_64

from ssm_stream.config import Config, parse_config
from ssm_stream.core.loop import Predictions
from ssm_stream.engine import snapshot_format as snapshots
from ssm_stream.engine.engine import Alert, Engine, shard_of
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.evaluate.prequential import backtest
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.ingest.events import Events

DAY = 86_400_000
HOUR = 3_600_000
DIRECT = "features: [a, b], lags: 0, differences: false"
PAST = "features: [a, b], feature_lags: 4"
FIELDS = ("yhat", "lower", "upper", "score", "warmup", "n", "fleet")
ALONE = "model: {fleet: false}"
"""Each entity learns by itself: then nothing that happens to others may show in what it is told."""


def config(event: str = "features: [a, b]", sections: str = "") -> Config:
    return parse_config(
        f"source: {{brokers: 'localhost:9092', topic: events}}\nevent: {{entity: e, timestamp: t, {event}}}\n{sections}"
    )


def made(
    y: ArrayLike, features: ArrayLike | None = None, entity: Iterable[str] | str = "m", ts: ArrayLike | None = None
) -> Events:
    target = np.asarray(y, np.float64)
    n = len(target)
    columns = np.zeros((n, 2)) if features is None else np.ascontiguousarray(features, np.float64)
    times = np.arange(n) * 1000 if ts is None else np.asarray(ts)
    names = [entity] * n if isinstance(entity, str) else list(entity)
    return Events(names, times.astype(np.int64), columns, target, np.arange(n))


def linear(n: int, seed: int = 0, noise: float = 0.3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (n, 2) and y = 5 + 2a − b + noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 2))
    return features, 5 + features @ [2.0, -1.0] + noise * rng.normal(size=n)


def fleet(n: int, seed: int = 0, entities: int = 5) -> Events:
    """A lively stream: entities in random order, jittered times, missing values, jumps that alert; seed 2 has codes."""
    rng = np.random.default_rng(seed)
    features, y = linear(n, seed)
    if seed == 2:
        features[:, 1] = np.round(features[:, 1])
    y[n // 2 :] -= 3 * features[n // 2 :, 0]
    y[rng.random(n) < 0.01] += 30
    y[rng.random(n) < 0.05] = np.nan
    features[rng.random((n, 2)) < 0.05] = np.nan
    names = [f"m{i}" for i in rng.integers(entities, size=n)]
    return made(y, features, names, np.arange(n) * 1000 + rng.integers(-5000, 5000, n))


def effect_later(events: int, n: int, entities: int = 1) -> Events:
    """y = 5 + 2a of so many events before of the same entity, − b, + noise of 0.05; entities in random order."""
    rng = np.random.default_rng(events)
    features, rows_ = rng.normal(size=(n, 2)), rng.integers(entities, size=n)
    y = 5 - features[:, 1] + 0.05 * rng.normal(size=n)
    for e in range(entities):
        own = np.flatnonzero(rows_ == e)
        y[own[events:]] += 2 * features[own[:-events], 0]
    return made(y, features, [f"m{e}" for e in rows_])


def cut(events: Events, start: int, stop: int | None) -> Events:
    return events.take(np.arange(len(events))[start:stop])


def run(engine: Engine, events: Events, cuts: Iterable[int] = ()) -> tuple[dict[str, NDArray[Any]], list[Alert]]:
    """Process in the batches that `cuts` makes; the predictions together, the alerts with rows of the whole."""
    parts: list[Predictions] = []
    alerts: list[Alert] = []
    edges = [0, *sorted(cuts), len(events)]
    for start, stop in pairwise(edges):
        predictions, told = engine.process(cut(events, start, stop))
        parts.append(predictions)
        alerts += [alert._replace(row=alert.row + start) for alert in told]
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS}, alerts


def assert_same_bits(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> None:
    for name in FIELDS:
        assert one[name].tobytes() == other[name].tobytes(), name


def started(alerts: Iterable[Alert], kind: str) -> list[int]:
    return [a.row for a in alerts if a.message["kind"] == kind and a.message["phase"] == "started"]


def all_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(all_finite, value.values()))
    if isinstance(value, list):
        return all(map(all_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def arrays_of(state: bytes) -> dict[str, NDArray[Any]]:
    """All arrays of a snapshot, by name."""
    reader, length = snapshots.SnapshotReader(BytesIO(state)), struct.unpack_from("<Q", state, 8)[0]
    listed = orjson.loads(state[snapshots.PREFIX.size :][:length])["arrays"]
    return {name: reader.read(name) for name, _, _ in listed}


def assert_finite(engine: Engine, told: dict[str, NDArray[Any]], alerts: list[Alert]) -> None:
    for name in FIELDS:
        assert np.isfinite(told[name]).all(), name
    assert (told["lower"] <= told["yhat"]).all()
    assert (told["yhat"] <= told["upper"]).all()
    assert (told["score"] >= 0).all()
    assert ((told["fleet"] >= 0) & (told["fleet"] <= 1)).all()
    for alert in alerts:
        assert all_finite(alert.message), alert
    for name, array in arrays_of(engine.snapshot()).items():
        assert name == "0.learner.u_last" or np.isfinite(array).all(), name  # a feature not seen yet is NaN there


# Predict, then learn.


def test_a_prediction_knows_nothing_of_its_own_target() -> None:
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
    told, alerts = run(engine, made([np.nan] * 3, features[:3], ts=[1e6, 5e5, 2e6]))
    assert engine.state_hash("m") == before
    assert alerts == []
    assert told["n"].tolist() == [300, 300, 300]
    assert (told["score"] == 0).all()
    assert np.all(np.abs(told["yhat"] - (5 + features[:3] @ [2, -1])) < 0.5)
    run(engine, made([5.0], features[:1]))
    assert engine.state_hash("m") != before


def test_the_count_and_the_warm_up_are_of_labelled_events_of_the_entity() -> None:
    events = made([1, np.nan, 2, 3, 4] * 30, entity=["a", "a", "a", "b", "a"] * 30)
    told, _ = run(Engine(config(sections="model: {warmup: 10}")), events)
    seen: Counter[str] = Counter()
    for i, name in enumerate(events.entity):
        assert told["n"][i] == seen[name]
        assert told["warmup"][i] == (seen[name] < 10)
        seen[name] += not np.isnan(events.target[i])


def test_a_warming_entity_scores_nothing_and_alerts_never() -> None:
    rng = np.random.default_rng(3)
    events = made(rng.normal(size=1000) * np.where(rng.random(1000) < 0.05, 1e4, 1))
    told, alerts = run(Engine(config(sections="model: {warmup: 900}")), events)
    assert (told["score"][:900] == 0).all()
    assert (told["score"][900:] > 0).any()
    assert all(alert.row >= 900 for alert in alerts)


def test_entities_do_not_learn_from_each_other_where_each_is_alone() -> None:
    features, y = linear(400)
    alone, _ = run(Engine(config(sections=ALONE)), made(y, features))
    both = made(np.repeat(y, 2) * np.tile([1, -50], 400), np.repeat(features, 2, 0), ["m", "other"] * 400)
    together, _ = run(Engine(config(sections=ALONE)), both)
    assert_same_bits(alone, {name: together[name][::2] for name in FIELDS})


# The same bits, however the stream is cut.

WHOLE: dict[tuple[int, str], tuple[dict[str, NDArray[Any]], list[Alert], bytes]] = {}


def whole(seed: int, sections: str = "") -> tuple[dict[str, NDArray[Any]], list[Alert], bytes]:
    if (seed, sections) not in WHOLE:
        engine = Engine(config(sections=sections))
        WHOLE[seed, sections] = (*run(engine, fleet(3000, seed)), engine.snapshot())
    return WHOLE[seed, sections]


def test_the_stream_that_is_cut_below_has_alerts_of_both_kinds() -> None:
    alerts = whole(0)[1]
    assert {a.message["kind"] for a in alerts} == {"anomaly", "drift"}


LEARNS = st.sampled_from(["", ALONE, "model: {profile: accurate, window: 128}"])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), LEARNS, st.lists(st.integers(0, 3000), max_size=30))
def test_batches_change_no_bit_of_predictions_alerts_and_state(seed: int, sections: str, cuts: list[int]) -> None:
    told, alerts, state = whole(seed, sections)
    engine = Engine(config(sections=sections))
    other_told, other_alerts = run(engine, fleet(3000, seed), cuts)
    assert_same_bits(told, other_told)
    assert alerts == other_alerts
    assert engine.snapshot() == state


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2), LEARNS, st.lists(st.integers(0, 3000), min_size=1, max_size=4))
def test_an_engine_restored_at_any_point_goes_on_to_the_same_bits(seed: int, sections: str, cuts: list[int]) -> None:
    told, alerts, state = whole(seed, sections)
    events, engine = fleet(3000, seed), Engine(config(sections=sections))
    parts, other_alerts = [], []
    edges = [0, *sorted(cuts), len(events)]
    for start, stop in pairwise(edges):
        part, more = run(engine, cut(events, start, stop))
        parts.append(part)
        other_alerts += [a._replace(row=a.row + start) for a in more]
        engine = Engine.restore(config(sections=sections), engine.snapshot())
    assert_same_bits(told, {name: np.concatenate([part[name] for part in parts]) for name in FIELDS})
    assert other_alerts == alerts
    assert engine.snapshot() == state


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_among_entities_changes_no_bit_of_what_an_entity_is_told(seed: int) -> None:
    """Where each is alone, predictions, alerts and state hashes follow from its own events in their order."""
    events = fleet(3000)
    told, alerts, _ = whole(0, ALONE)
    queues = {name: [i for i, e in enumerate(events.entity) if e == name] for name in sorted(set(events.entity))}
    turns = np.random.default_rng(seed).permutation(events.entity)
    order = np.array([queues[name].pop(0) for name in turns])
    other_told, other_alerts = run(Engine(config(sections=ALONE)), events.take(order))
    assert_same_bits({name: told[name][order] for name in FIELDS}, other_told)
    theirs = sorted(((int(order[a.row]), a.message) for a in other_alerts), key=lambda item: item[0])
    assert theirs == [(a.row, a.message) for a in alerts]


def test_an_engine_that_holds_one_entity_tells_it_the_same_as_one_that_holds_all() -> None:
    events = fleet(3000)
    told, alerts, _ = whole(0, ALONE)
    mine = np.flatnonzero([name == "m3" for name in events.entity])
    other_told, other_alerts = run(Engine(config(sections=ALONE)), events.take(mine))
    assert_same_bits({name: told[name][mine] for name in FIELDS}, other_told)
    assert [a.message for a in other_alerts] == [a.message for a in alerts if a.message["entity"] == "m3"]


@pytest.mark.parametrize("seed", [0, 2])
def test_entities_of_other_shards_change_no_bit(seed: int) -> None:
    """A pool is a shard's: its predictions, alerts and state hashes follow from its own events in their order."""
    shards, sections = 4, "state: {shards: 4}"
    events = fleet(3000, seed)
    told, alerts = run(Engine(config(sections=sections)), events)
    shard = np.array([shard_of(name, shards) for name in events.entity])
    assert len(set(shard)) == 3
    for each in set(shard):
        mine = np.flatnonzero(shard == each)
        other_told, other_alerts = run(Engine(config(sections=sections)), events.take(mine))
        assert_same_bits({name: told[name][mine] for name in FIELDS}, other_told)
        expected = [a.message for a in alerts if shard[a.row] == each]
        assert [a.message for a in other_alerts] == expected


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2), st.integers(0, 2), st.lists(st.integers(0, 3000), max_size=10))
def test_entities_of_other_sources_change_no_bit(seed: int, other: int, cuts: list[int]) -> None:
    """Nor does the order among sources. The other one's entities have the same names: they are others all the same."""
    told, alerts, _ = whole(seed)
    engine, beside = Engine(config()), fleet(3000, other)
    beside = made(beside.target, beside.features, [f"other-{name}" for name in beside.entity], beside.ts)
    parts, other_alerts = [], []
    for start, stop in pairwise([0, *sorted(cuts), 3000]):
        engine.process(cut(beside, start, stop), source=1)
        part, more = engine.process(cut(fleet(3000, seed), start, stop), source=0)
        parts.append(part)
        other_alerts += [alert._replace(row=alert.row + start) for alert in more]
    assert_same_bits(told, {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS})
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
    """Its first five events are told with half the error that it would have alone, or less."""
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
    assert odd["fleet"][mine[1:20]].mean() > 0.5
    assert odd["fleet"][mine[-300:]].mean() < 0.4
    assert np.abs(y - odd["yhat"])[mine[-300:]].mean() < 0.35, "noise of 0.3 leaves 0.24"


def test_memory_of_entities_and_pools_is_told() -> None:
    engine = taught("features: [a, b]", 0)
    before = len(engine.snapshot())
    features, y = linear(1000)
    run(engine, made(y, features, [f"new{i}" for i in range(1000)]))
    assert len(engine.snapshot()) - before == pytest.approx(1000 * engine.bytes_per_entity, rel=0.05)
    assert engine.bytes_per_entity < 8_000, "of which the detectors keep 5,000"
    assert engine.bytes_per_pool < before < engine.bytes_per_pool + 9 * engine.bytes_per_entity + 10_000


@pytest.mark.parametrize("off", ["anomaly", "drift", "anomaly, drift", "channels"])
def test_a_detector_that_is_off_takes_no_memory_and_changes_no_prediction(off: str) -> None:
    kinds = {"channels": "anomaly: {channels: [residual]}"}.get(off, "")
    kinds = kinds or ", ".join(f"{kind}: {{enabled: false}}" for kind in off.split(", "))
    features, y = linear(500)
    events = made(y, features, [f"m{i % 3}" for i in range(500)])
    full, less = Engine(config()), Engine(config(sections=f"alerts: {{{kinds}}}"))
    assert less.bytes_per_entity < full.bytes_per_entity - 2_000
    told, _ = less.process(events)
    assert (told.yhat == full.process(events)[0].yhat).all()
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
    assert sorted(names[2:]) == ["mode=0", "mode=1", "mode=2"]


# Snapshots.


def test_a_restored_engine_has_the_same_snapshot() -> None:
    state = whole(0)[2]
    assert Engine.restore(config(), state).snapshot() == state


def test_an_empty_engine_has_a_snapshot_too() -> None:
    engine = Engine.restore(config(), Engine(config()).snapshot())
    features, y = linear(50)
    assert_same_bits(run(engine, made(y, features))[0], run(Engine(config()), made(y, features))[0])


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True))
def test_every_name_that_is_text_survives_a_snapshot(names: list[str]) -> None:
    engine = Engine(config())
    run(engine, made(np.arange(float(len(names))), entity=names))
    restored = Engine.restore(config(), engine.snapshot())
    assert restored.names == names
    assert [restored.state_hash(name) for name in names] == [engine.state_hash(name) for name in names]


def test_a_snapshot_of_another_configuration_is_refused() -> None:
    state = whole(0)[2]
    with pytest.raises(StateError, match=r"(?s)model\.interval: .*refused.*put back .*recovery.directory"):
        Engine.restore(config(sections="model: {interval: 0.8}"), state)
    moved = "sinks: {predictions: elsewhere}"
    assert Engine.restore(config(sections=moved), state).snapshot() == state


def test_a_snapshot_of_a_newer_format_is_refused_with_the_cure() -> None:
    state = bytearray(whole(0)[2])
    struct.pack_into("<H", state, 4, snapshots.VERSION + 1)
    with pytest.raises(StateError, match="use the release that wrote it"):
        Engine.restore(config(), bytes(state))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_snapshot_is_refused_wherever_the_damage_is(data: st.DataObject) -> None:
    state = bytearray(whole(0)[2])
    place = data.draw(st.integers(0, len(state) - 1) | st.integers(0, 300))
    state[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateError, match=r"damaged|not an ssm-stream snapshot|use the release"):
        Engine.restore(config(), bytes(state))


@pytest.mark.parametrize("kept", [0, 3, 9, 10, 500, -1])
def test_a_truncated_snapshot_is_refused(kept: int) -> None:
    with pytest.raises(StateError, match=r"damaged|not an ssm-stream snapshot"):
        Engine.restore(config(), whole(0)[2][:kept])


@pytest.mark.parametrize("head", [b"", b"garbage", bytes(100), b"{}", b"[]"])
def test_foreign_bytes_with_a_right_checksum_are_refused(head: bytes) -> None:
    sums = (len(head), xxh3_64(head).intdigest(), 0, xxh3_64(b"").intdigest())
    state = snapshots.PREFIX.pack(snapshots.MAGIC, snapshots.VERSION, 0, *sums) + head
    with pytest.raises(StateError, match="damaged"):
        Engine.restore(config(), state)


# Time to live.

TTL = config(sections="state: {ttl: 1d}")
TTL_ALONE = config(sections=f"state: {{ttl: 1d}}\n{ALONE}")


@pytest.mark.parametrize("event", ["features: [a, b]", PAST])
def test_an_entity_silent_for_longer_than_its_ttl_starts_afresh(event: str) -> None:
    features, y = linear(400)
    settings_ = config(event, f"state: {{ttl: 1d}}\n{ALONE}")
    engine = Engine(settings_)
    run(engine, made(y, features, "old"))
    run(engine, made(np.zeros(200), entity="clock", ts=np.arange(200) * HOUR))
    again, _ = run(engine, made(y, features, "old", np.arange(400) * 1000 + 200 * HOUR))
    fresh, _ = run(Engine(settings_), made(y, features, "old", np.arange(400) * 1000 + 200 * HOUR))
    assert_same_bits(again, fresh)


def test_an_entity_that_was_forgotten_is_to_the_fleet_as_a_new_one() -> None:
    """Its own is gone, what it taught the others stays: the same bits as another's first event."""
    features, y = linear(400)
    results = []
    for name in ("old", "new"):
        engine = Engine(TTL)
        run(engine, made(y, features, ["old", "other"] * 200))
        run(engine, made(np.zeros(200), entity="other", ts=np.arange(200) * HOUR))
        results.append(run(engine, made(y, features, name, np.arange(400) * 1000 + 200 * HOUR))[0])
    assert results[0]["n"][0] == 0
    assert results[0]["fleet"][0] > 0.5
    assert_same_bits(*results)


def test_an_entity_silent_for_less_than_its_ttl_is_remembered() -> None:
    engine = Engine(TTL)
    run(engine, made(np.zeros(50), entity="old"))
    run(engine, made(np.zeros(90), entity="clock", ts=np.arange(90) * DAY / 100))
    told, _ = run(engine, made([0.0], entity="old", ts=[0.9 * DAY]))
    assert told["n"].tolist() == [50]


def test_without_ttl_nobody_is_forgotten() -> None:
    engine = Engine(config(sections="state: {ttl: null}"))
    run(engine, made(np.zeros(50), entity="old"))
    run(engine, made(np.zeros(200), entity="clock", ts=np.arange(200) * 365 * DAY))
    engine.snapshot()
    assert run(engine, made([0.0], entity="old", ts=[200 * 365 * DAY]))[0]["n"].tolist() == [50]


def test_a_snapshot_frees_expired_entities() -> None:
    engine = Engine(TTL)
    run(engine, made(np.zeros(100), entity=[f"old{i}" for i in range(100)]))
    run(engine, made(np.zeros(200), entity="clock", ts=np.arange(200) * HOUR))
    assert len(engine) == 101
    state = engine.snapshot()
    assert len(engine) == len(Engine.restore(TTL, state)) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 400), max_size=6))
def test_evicted_at_a_snapshot_or_not_the_results_are_the_same(seed: int, points: list[int]) -> None:
    """Gaps near the TTL, in two partitions: whether a snapshot falls in between must not show."""
    rng = np.random.default_rng(seed)
    n = 400
    ts = np.cumsum(rng.choice([60_000, HOUR, 12 * HOUR, 30 * HOUR], n, p=[0.6, 0.3, 0.08, 0.02]))
    number = (rng.random(n) ** 3 * 12).astype(int)
    events = made(rng.normal(size=n), entity=[f"m{i}" for i in number], ts=ts)
    sources = number % 2

    kept = TTL if seed % 2 else TTL_ALONE

    def told(snapshot_at: set[int]) -> tuple[list[tuple[float, ...]], dict[str, str]]:
        engine, out = Engine(kept), []
        for i in range(n):
            if i in snapshot_at:
                engine = Engine.restore(kept, engine.snapshot())
            p, _ = engine.process(cut(events, i, i + 1), int(sources[i]))
            out.append((p.yhat[0], p.lower[0], p.score[0], p.n[0]))
        engine.snapshot()
        return out, {name: engine.state_hash(name, int(name[1:]) % 2) for name in engine.names}

    assert told(set(points)) == told(set())


def test_one_event_with_a_clock_far_ahead_does_not_evict_the_fleet() -> None:
    names = [f"m{i}" for i in range(50)]
    engine = Engine(TTL)
    for minute in range(20):
        run(engine, made(np.ones(50), entity=names, ts=np.full(50, minute * 60_000)))
    run(engine, made([1.0], entity="m7", ts=[100 * 365 * DAY]))
    engine.snapshot()
    assert len(engine) == 50
    told, _ = run(engine, made(np.ones(50), entity=names, ts=np.full(50, 21 * 60_000)))
    assert told["n"].tolist() == [21 if name == "m7" else 20 for name in names]


def test_each_partition_has_a_time_of_its_own() -> None:
    """A partition that lags by weeks keeps its entities while another runs ahead."""
    engine = Engine(TTL)
    engine.process(made(np.zeros(50), entity="slow"), source=0)
    engine.process(made(np.zeros(500), entity="fast", ts=np.arange(500) * HOUR), source=1)
    engine.snapshot()
    predictions, _ = engine.process(made([0.0], entity="slow", ts=[60_000]), source=0)
    assert predictions.n.tolist() == [50]


# Finite, whatever comes.

WILD = (0.0, 1.0, -1.0, 7.0, 1e6, -1e6, 3.4e38, -3.4e38, 1e-300, 5e-324, 1e-38, math.nan)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["features: [a, b]", DIRECT, "features: [a, b], calendar: [hour, weekday], time_zone: Asia/Tokyo"]),
    st.sampled_from(["", "fleet: false", "profile: accurate, window: 128", "gate: equal", "heads: [gd, attention]"]),
    st.integers(1, 3),
    st.lists(st.tuples(*[st.sampled_from(WILD)] * 3, st.integers(1, 60)), min_size=1, max_size=12),
)
@example("features: [a, b]", "", 1, [(3.4e38, 0.0, 0.0, 2), (-3.4e38, 0.0, 0.0, 2)])
def test_any_finite_input_gives_finite_output_and_state(
    event: str, model: str, entities: int, runs: list[tuple[float, float, float, int]]
) -> None:
    table = np.array([row[:3] for row in runs for _ in range(row[3])])
    sections = f"model: {{warmup: 10, {model}}}\nalerts: {{anomaly: {{cooldown: 0}}, drift: {{cooldown: 0}}}}"
    engine = Engine(config(event, sections))
    told, alerts = run(engine, made(table[:, 0], table[:, 1:], [f"m{i % entities}" for i in range(len(table))]))
    assert_finite(engine, told, alerts)


def life_of_faults(largest: float, n: int) -> tuple[Events, NDArray[np.int64]]:
    """Six stretches in turn: well, collinear features, a constant feature, features away, wild values, well."""
    rng = np.random.default_rng(5)
    features, y = linear(n, 5)
    kind = np.arange(n) // 5000 % 6
    features[kind == 1, 1] = features[kind == 1, 0]
    features[kind == 2, 1] = 4.0
    y = 5 + features @ [2.0, -1.0] + 0.3 * rng.normal(size=n)
    features[kind == 3] = np.nan
    wild = (kind == 4) & (rng.random(n) < 0.01)
    y[wild] = rng.choice([largest, -largest, 0.0], wild.sum())
    features[wild, 0] = rng.choice([largest, -largest, 0.0], wild.sum())
    return made(y, features), kind


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_a_long_life_of_faults_stays_finite(event: str) -> None:
    """200,000 events with values at the end of 32-bit floats."""
    events, _ = life_of_faults(3.4e38, 200_000)
    engine = Engine(config(event))
    assert_finite(engine, *run(engine, events))


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_an_entity_finds_back_after_faults(event: str) -> None:
    """Jumps of a million among values of about five: 7,000 events later the errors are ordinary again."""
    events, _ = life_of_faults(1e6, 60_000)
    engine = Engine(config(event))
    told, alerts = run(engine, events)
    assert_finite(engine, told, alerts)
    error = np.abs(events.target - told["yhat"])
    assert error[2000:5000].mean() < 0.3
    assert error[32_000:35_000].mean() < 0.5


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
@pytest.mark.parametrize("value", [0.0, 7.0, -3.4e38, 1e-300, 0.1])
def test_a_constant_series_is_predicted_and_never_alerts(event: str, value: float) -> None:
    engine = Engine(config(event))
    told, alerts = run(engine, made(np.full(3000, value), np.full((3000, 2), 2.0)))
    assert_finite(engine, told, alerts)
    assert np.allclose(told["yhat"][300:], value, rtol=0.005, atol=0)
    assert (told["score"] <= 1).all()
    assert alerts == []


def test_a_constant_series_that_jumps_alerts() -> None:
    engine = Engine(config())
    told, alerts = run(engine, made(np.r_[np.full(500, 7.0), 8.0, np.full(100, 7.0)]))
    assert_finite(engine, told, alerts)
    assert started(alerts, "anomaly")[0] == 500
    assert np.argmax(told["score"]) == 500


@pytest.mark.parametrize("heads", ["moments", "proximal", "embedding", "fern", "attention", "gd"])
@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT, "lags: 1, calendar: []", "features: [a, b], lags: 0"])
def test_every_head_answers_alone(heads: str, event: str) -> None:
    """Also where there are few answers, and no number at all: finite, and better than knowing nothing."""
    features, y = linear(2000)
    columns = features if "features" in event else np.zeros((2000, 0))
    engine = Engine(config(event, f"model: {{heads: [{heads}]}}"))
    told, alerts = run(engine, made(y, columns, [f"m{i % 3}" for i in range(2000)]))
    assert_finite(engine, told, alerts)
    error, usual = np.abs(y - told["yhat"])[500:].mean(), np.abs(y - y.mean())[500:].mean()
    assert error < (0.7 if "features" in event else 1.1) * usual


# Accuracy and coverage.


def synthetic(name: str, n: int = 20_000) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(len(name))
    features, y = linear(n, len(name), 0.0)
    noise = rng.normal(size=n)
    t = np.arange(n)
    streams = {
        "linear": y + noise,
        "heavy tails": y + rng.standard_t(2.5, n),
        "skewed": y + rng.exponential(size=n),
        "season": 10 * np.sin(2 * np.pi * t / 48) + noise,
        "turning weights": 5 + 2 * np.cos(t / 3000) * features[:, 0] + np.sin(t / 3000) * features[:, 1] + noise,
        "level shifts": y + 20 * (t // 4000 % 2) + noise,
        "changing noise": y + noise * (1 + 3 * (t // 2000 % 2)),
        "large offset": 1e7 + y + noise,
        "tiny unit": 1e-9 * (y + noise),
    }
    return features, streams[name]


# The most that is left of persistence's error. Little below these is possible: 0.29 is the noise of `linear`.
LEFT = {
    "linear": 0.32, "heavy tails": 0.43, "skewed": 0.30, "season": 0.73, "turning weights": 0.43, "level shifts": 0.36,
    "changing noise": 0.56, "large offset": 0.33, "tiny unit": 0.33,
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_persistence_is_beaten_and_the_coverage_kept(name: str, level: float) -> None:
    features, y = synthetic(name)
    told, _ = run(Engine(config(sections=f"model: {{interval: {level}}}")), made(y, features))
    past = slice(100, None)
    error, step = np.abs(y - told["yhat"])[past].mean(), np.abs(np.diff(y))[99:].mean()
    covered = ((told["lower"] <= y) & (y <= told["upper"]))[past].mean()
    assert error < LEFT[name] * step
    assert abs(covered - level) < 0.03


DATA = Path(os.environ.get("SSM_STREAM_DATA") or Path(__file__).parents[2] / "shared" / "data")
RECORDINGS = {
    "gas_turbine_nox.csv.gz": "features: [at_ambient_temp, ap_ambient_press, ah_ambient_hum, afdp_filter_dp, "
    "gtep_exhaust_press, tit_inlet_temp, tat_after_temp, tey_energy_yield, cdp_discharge_press]",
    "steel_energy.csv.gz": "features: [lagging_reactive_kvarh, leading_reactive_kvarh, lagging_power_factor, "
    "leading_power_factor, nsm, weekend], calendar: [hour, weekday]",
    "parking_birmingham.csv.gz": "calendar: [hour, weekday], time_zone: Europe/London",
    "bike_sharing_hourly.csv.gz": "features: [workingday, weathersit, temp, atemp, hum, windspeed], "
    "calendar: [hour, weekday]",
}
LEFT_OF_RECORDINGS = {
    "gas_turbine_nox.csv.gz": 0.72, "steel_energy.csv.gz": 0.45, "parking_birmingham.csv.gz": 0.38,
    "bike_sharing_hourly.csv.gz": 0.46,
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDINGS)
def test_persistence_is_beaten_and_the_coverage_kept_on_a_recording(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not in {DATA}; set SSM_STREAM_DATA to the folder that holds it")
    settings_ = parse_config(
        "source: {brokers: 'localhost:9092', topic: events}\n"
        f"event: {{entity: entity, timestamp: ts, {RECORDINGS[name]}}}\n"
    )
    result = backtest(settings_, islice(Recording(DATA / name), 15_000))
    assert result["events"] == 15_000
    assert result["mae"] < LEFT_OF_RECORDINGS[name] * result["mae_persistence"]
    assert abs(result["coverage"] - 0.9) < 0.03


@pytest.mark.parametrize("entities", [1, 4])
def test_an_effect_that_comes_three_events_later_is_learned_from_past_features(entities: int) -> None:
    events = effect_later(3, 4000, entities)
    without, related = (
        np.abs(run(Engine(config(f"features: [a, b], lags: 0{keys}")), events)[0]["yhat"] - events.target)[2000:].mean()
        for keys in ("", ", feature_lags: 3")
    )
    assert related < 0.2 * without


@pytest.mark.parametrize("sections", ["", "model: {horizon: 2 events}"])
def test_past_features_survive_batches_and_restores(sections: str) -> None:
    events = fleet(2000)
    whole_engine = Engine(config(PAST, sections))
    told, alerts = run(whole_engine, events)
    engine, parts, more = Engine(config(PAST, sections)), [], []
    for start, stop in pairwise([0, 1, 2, 3, 5, 700, 701, 1500, 2000]):
        part, said = run(engine, cut(events, start, stop))
        parts.append(part)
        more += [a._replace(row=a.row + start) for a in said]
        state = engine.snapshot()
        engine = Engine.restore(config(PAST, sections), state)
        assert engine.snapshot() == state
    assert_same_bits(told, {name: np.concatenate([part[name] for part in parts]) for name in FIELDS})
    assert more == alerts
    assert engine.snapshot() == whole_engine.snapshot()
    head, _ = run(Engine(config(PAST, sections)), cut(events, 0, 900))
    assert head["yhat"].tobytes() == told["yhat"][:900].tobytes()


def test_past_features_are_counted_and_part_of_the_state_hash() -> None:
    events = fleet(500)
    sizes = [Engine(config(f"features: [a, b], feature_lags: {k}")).bytes_per_entity for k in range(4)]
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3]
    engine = Engine(config(PAST))
    run(engine, events)
    array = arrays_of(engine.snapshot())["0.learner.u_last"]
    assert array.shape == (5, 2 * (1 + 4))
    before, other = engine.state_hash("m0"), engine.state_hash("m1")
    engine.target_engines[0].store.state.learner.u_last[engine.names.index("m0"), -1] += 1.0
    assert engine.state_hash("m0") != before
    assert engine.state_hash("m1") == other


# Anomaly alerts.


def alarms(spikes: dict[int, float], anomaly: str, n: int = 1000) -> tuple[list[Alert], dict[str, NDArray[Any]]]:
    """Anomaly alerts on a well-known relation (noise 0.3) with deviations at some rows."""
    features, y = linear(n)
    for row, size in spikes.items():
        y[row] += size
    sections = f"alerts: {{anomaly: {{{anomaly}}}, drift: {{enabled: false}}}}"
    told, alerts = run(Engine(config(DIRECT, sections)), made(y, features))
    return alerts, told


@pytest.mark.parametrize(("direction", "rows_"), [("both", [500, 700]), ("above", [500]), ("below", [700])])
def test_only_the_configured_direction_alerts(direction: str, rows_: list[int]) -> None:
    alerts, told = alarms({500: 15, 700: -15}, f"direction: {direction}")
    assert started(alerts, "anomaly") == rows_
    assert (told["score"][[500, 700]] > 1).all()


@pytest.mark.parametrize(("option", "rows_"), [
    ("min_deviation: 0", [500, 700]), ("min_deviation: 20", [700]), ("min_deviation: 40", []),
    ("min_deviation_relative: 4", [700]), ("min_deviation_relative: 1e6", []),
])  # fmt: skip
def test_small_deviations_do_not_alert_where_told_so(option: str, rows_: list[int]) -> None:
    features, y = linear(1000)
    features[500] = features[700] = 0
    y[500], y[700] = 5 + 12, 5 + 30
    sections = f"alerts: {{anomaly: {{{option}}}, drift: {{enabled: false}}}}"
    _, alerts = run(Engine(config(DIRECT, sections)), made(y, features))
    assert started(alerts, "anomaly") == rows_


def test_consecutive_events_are_needed_where_told_so() -> None:
    spikes = {2000: 15, 2400: 15, 2401: 15, 2800: 15, 2801: -15, 2802: 15, 2803: 15}
    alerts, _ = alarms(spikes, "consecutive: 3", 3000)
    assert started(alerts, "anomaly") == [2802]
    assert [a.message["since"] for a in alerts] == [2_802_000] * len(alerts)


def test_an_episode_ends_after_so_many_normal_events() -> None:
    alerts, _ = alarms({500: 15, 504: 15}, "recover_after: 7")
    assert [(a.row, a.message["phase"], a.message["absorbed_after"]) for a in alerts] == [
        (500, "started", None), (511, "recovered", 5),
    ]  # fmt: skip


def test_no_episode_starts_in_the_cooldown() -> None:
    spikes = {500: 15, 530: 15, 570: 15}
    assert started(alarms(spikes, "recover_after: 5, cooldown: 60")[0], "anomaly") == [500, 570]
    assert started(alarms(spikes, "recover_after: 5, cooldown: 0")[0], "anomaly") == [500, 530, 570]
    assert started(alarms(spikes, "recover_after: 5, cooldown: 400")[0], "anomaly") == [500]


def test_what_is_switched_off_never_alerts() -> None:
    events = fleet(3000)
    for off, left in (("anomaly", "drift"), ("drift", "anomaly")):
        _, alerts = run(Engine(config(sections=f"alerts: {{{off}: {{enabled: false}}}}")), events)
        assert {a.message["kind"] for a in alerts} == {left}


@pytest.mark.parametrize(("critical", "severities"), [(3, ["warning", "critical"]), (1.1, ["critical", "critical"])])
def test_severity_is_critical_from_the_configured_score(critical: float, severities: list[str]) -> None:
    features, y = linear(3000)
    y[2000] += 3.5
    y[2500] += 60
    settings_ = config(DIRECT, f"alerts: {{critical: {critical}, drift: {{enabled: false}}}}")
    told, alerts = run(Engine(settings_), made(y, features))
    assert started(alerts, "anomaly") == [2000, 2500]
    assert 1.1 < told["score"][2000] < 3 < told["score"][2500]
    assert [a.message["severity"] for a in alerts if a.message["phase"] == "started"] == severities


def test_an_alert_says_what_its_event_said() -> None:
    events = fleet(3000)
    told, alerts, _ = whole(0)
    own = [alert for alert in alerts if not alert.suffix]
    assert own
    for alert in own:
        m, row = alert.message, alert.row
        assert set(m) == {
            "entity", "scope", "kind", "phase", "severity", "ts", "score", "y", "yhat", "yhat_lower", "yhat_upper",
            "since", "absorbed_after", "contributions", "weight_change", "heads", "channel", "change", "learning",
            "budget", "config_hash", "state_hash",
        }  # fmt: skip
        assert (m["entity"], m["ts"], m["y"]) == (events.entity[row], events.ts[row], events.target[row])
        assert (m["yhat"], m["yhat_lower"], m["yhat_upper"]) == (
            told["yhat"][row], told["lower"][row], told["upper"][row],
        )  # fmt: skip
        assert m["kind"] == "drift" or m["score"] == told["score"][row]
        assert (m["budget"], m["config_hash"]) == ("1 per 10000 events", config().hash)
        assert len(m["contributions"]) == 5
        assert sum(abs(c["share"]) for c in m["contributions"]) <= 1 + 1e-9
        assert m["kind"] == "drift" or m["weight_change"] == []


def test_an_alerts_state_hash_is_the_state_after_its_event() -> None:
    events = fleet(3000)
    _, alerts, _ = whole(0)
    for alert in alerts[:3]:
        engine = Engine(config())
        run(engine, cut(events, 0, alert.row + 1))
        assert engine.state_hash(alert.message["entity"]) == alert.message["state_hash"]


# Episodes.


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 20), st.integers(0, 40), st.integers(1, 60),
    st.sampled_from([20, 100, 10_000]),
)  # fmt: skip
def test_episodes_start_go_on_and_recover_in_that_order(
    seed: int, consecutive: int, recover: int, cooldown: int, every: int, budget: int
) -> None:
    """Whatever the settings: one episode at a time of an entity and kind, its `since` the start, reports not too often,
    cooldown kept."""
    rng = np.random.default_rng(seed)
    n = 1500
    features, y = linear(n, seed)
    bursts = np.repeat(rng.random(n // 20) < 0.15, 20)
    y += np.where(bursts, rng.normal(0, 20, n), 0) + np.where(np.arange(n) % 700 > 350, 4 * features[:, 0], 0)
    settings_ = config(
        DIRECT,
        f"alerts: {{anomaly: {{budget: 1 per {budget} events, consecutive: {consecutive}, recover_after: {recover}, "
        f"cooldown: {cooldown}}}, drift: {{budget: 1 per {budget} events, cooldown: {cooldown}}}, "
        f"ongoing_every: {every}}}",
    )
    names = [f"m{i % 2}" for i in range(n)]
    told, alerts = run(Engine(settings_), made(y, features, names))
    assert alerts
    open_since: dict[tuple[str, str], int] = {}
    reported: dict[tuple[str, str], int] = {}
    ended: dict[tuple[str, str], int] = {}
    for alert in alerts:
        m, key, at = alert.message, (alert.message["entity"], alert.message["kind"]), int(told["n"][alert.row])
        if m["phase"] == "started":
            assert key not in open_since
            assert m["since"] == m["ts"]
            assert at - ended.get(key, -(10**9)) >= cooldown
            open_since[key] = m["ts"]
        else:
            assert m["since"] == open_since[key]
        if m["phase"] == "ongoing":
            assert at - reported[key] == every
        if m["phase"] == "recovered":
            del open_since[key]
            ended[key] = at
            assert m["absorbed_after"] >= 1
        else:
            assert m["absorbed_after"] is None
        reported[key] = at


def test_a_long_episode_is_reported_again() -> None:
    rng = np.random.default_rng(1)
    features, y = linear(2000)
    y[1000:] += 50 * np.exp(rng.normal(size=1000)) * rng.choice([-1, 1], 1000)
    sections = "alerts: {ongoing_every: 20, drift: {enabled: false}, anomaly: {recover_after: 100}}"
    _, alerts = run(Engine(config(DIRECT, sections)), made(y, features))
    first = [(a.row, a.message["phase"]) for a in alerts if a.row >= 1000][:3]
    assert first == [(1000, "started"), (1020, "ongoing"), (1040, "ongoing")]


# Drift.


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_a_change_of_coefficients_is_found_within_200_events_and_recovers(event: str) -> None:
    """Twenty entities, each alone, change after 2,000 events. One false episode may be open then and hide the start."""
    entities, n = 20, 4000
    features, y = linear(entities * n, 4)
    number, age = np.arange(entities * n) % entities, np.arange(entities * n) // entities
    y -= 3 * features[:, 0] * (age >= 2000)
    settings_ = config(event, f"{ALONE}\nalerts: {{anomaly: {{enabled: false}}}}")
    _, alerts = run(Engine(settings_), made(y, features, [f"m{i}" for i in number]))
    found = {a.message["entity"] for a in alerts if a.message["phase"] == "started" and 2000 <= age[a.row] <= 2200}
    assert len(found) >= 19
    over = {a.message["entity"] for a in alerts if a.message["phase"] == "recovered" and 2050 <= age[a.row] <= 3000}
    assert len(over) == 20


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_a_change_of_one_of_a_fleet_is_found_within_200_events_and_is_its_own(event: str) -> None:
    entities, n = 20, 3000
    features, y = linear(entities * n, 4)
    number, age = np.arange(entities * n) % entities, np.arange(entities * n) // entities
    y -= 3 * features[:, 0] * ((age >= 2000) & (number == 7))
    settings_ = config(event, "alerts: {anomaly: {enabled: false}}")
    told, alerts = run(Engine(settings_), made(y, features, [f"m{i}" for i in number]))
    found = [a.message["entity"] for a in alerts if a.message["phase"] == "started" and 2000 <= age[a.row] <= 2200]
    assert "m7" in found
    assert len(found) <= 3
    others = (number != 7) & (age >= 2000)
    assert np.abs(y - told["yhat"])[others].mean() < 0.3


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_a_change_of_a_whole_fleet_is_told_and_soon_learned(event: str) -> None:
    """What twenty entities see together is learned within a few events of each: not all have something to tell."""
    entities, n = 20, 3000
    features, y = linear(entities * n, 4)
    number, age = np.arange(entities * n) % entities, np.arange(entities * n) // entities
    y -= 3 * features[:, 0] * (age >= 2000)
    settings_ = config(event, "alerts: {anomaly: {enabled: false}}")
    told, alerts = run(Engine(settings_), made(y, features, [f"m{i}" for i in number]))
    assert any(a.message["phase"] == "started" and 2000 <= age[a.row] <= 2200 for a in alerts)
    assert np.abs(y - told["yhat"])[(age >= 2010) & (age < 2100)].mean() < 0.35


def test_a_drift_alert_names_the_weights_before_it() -> None:
    features, y = linear(4000)
    y[2000:] -= 3 * features[2000:, 0]
    sections = "alerts: {anomaly: {enabled: false}}"
    _, alerts = run(Engine(config(DIRECT, sections)), made(y, features))
    over = next(a.message for a in alerts if a.row >= 2000 and a.message["phase"] == "recovered")
    change = {item["feature"]: item for item in over["weight_change"]}
    assert over["weight_change"][0]["feature"] == "a"
    assert change["a"]["after"] == pytest.approx(-1, abs=0.4)
    first = next(a.message for a in alerts if a.row >= 2000)
    before = {item["feature"]: item["before"] for item in first["weight_change"]}
    assert before["a"] == pytest.approx(2, abs=0.4)
    assert before["b"] == pytest.approx(-1, abs=0.4)


@pytest.mark.parametrize(("entities", "event"), [(20, DIRECT), (20, "features: [a, b]"), (200, "features: [a, b]")])
def test_stationary_noise_raises_at_most_three_times_the_budget(entities: int, event: str) -> None:
    """200,000 events at one false alarm in 10,000; with 200 entities all are young."""
    features, y = linear(200_000, 1, 1.0)
    names = [f"m{i % entities}" for i in range(200_000)]
    _, alerts = run(Engine(config(event)), made(y, features, names))
    assert len(started(alerts, "drift")) <= 3 * 20
    assert len(started(alerts, "anomaly")) <= 3 * 20


@pytest.mark.parametrize("hours", [1, 6])
def test_a_budget_in_time_is_the_budget_in_events_at_the_entitys_own_rate(hours: int) -> None:
    """'1 per 30d' of an event every hour is one in 720 events, of an event every six hours one in 120."""
    features, y = linear(20_000, 2, 1.0)
    results = []
    for budget in ("1 per 30d", f"1 per {720 // hours} events"):
        sections = f"alerts: {{anomaly: {{budget: {budget}}}, drift: {{budget: {budget}}}}}"
        told, alerts = run(Engine(config(DIRECT, sections)), made(y, features, ts=np.arange(20_000) * hours * HOUR))
        results.append((told, [(a.row, a.message["kind"], a.message["phase"], a.message["score"]) for a in alerts]))
        assert {a.message["budget"] for a in alerts} == {budget}
    assert_same_bits(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    allowed = 20_000 / (720 / hours)
    for kind in ("anomaly", "drift"):
        assert sum(item[1:3] == (kind, "started") for item in results[0][1]) <= 3 * allowed
