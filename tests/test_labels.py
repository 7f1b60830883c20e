"""Targets that come late, early or never, and predictions ahead: the same bits as on time, and nothing lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engines import FIELDS, assert_same_bits, config, cut, effect_later, fleet, linear, made, run
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssm_stream.config import ConfigError
from ssm_stream.core import loop
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels

LATE = "labels: {topic: labels}\n"
DIRECT = "features: [a, b], lags: 0"


def labelled(events: Events) -> Events:
    """Each event with a target."""
    return replace(events, target=np.nan_to_num(events.target, nan=5.0))


def misread(events: Events) -> Events:
    """The events with bad readings of the first feature, the last third of which are true."""
    bad = np.random.default_rng(4).random(len(events)) < 0.01
    features, target = events.features.copy(), events.target.copy()
    features[bad, 0] = 9999.5
    target[bad & (np.arange(len(events)) > 2 * len(events) // 3)] += 20.0
    return replace(events, features=features, target=target)


def bare(events: Events) -> Events:
    """The events without their targets."""
    return replace(events, target=np.full(len(events), np.nan))


def labels_of(events: Events) -> Labels:
    return Labels(events.entity, events.ts, np.zeros(len(events), np.int64), events.target, events.position)


def said(alert: Alert) -> dict[str, Any]:
    return {name: value for name, value in alert.message.items() if not name.endswith("_hash")}


def apart(events: Events, seed: int) -> Events:
    """The events with times that differ within an entity, so that a label says which event it belongs to."""
    return replace(labelled(events), ts=np.arange(len(events)) * 1000 + seed)


# As if they had come with their events.


@pytest.mark.parametrize(
    "event", ["features: [a, b]", DIRECT, "features: [a], categories: [b]", "features: [a, b], feature_lags: 3"]
)
@pytest.mark.parametrize("model", ["", "model: {fleet: false}\n"])
def test_a_label_right_after_its_event_teaches_the_same_bits_as_one_in_it(event: str, model: str) -> None:
    events = misread(labelled(fleet(3000, entities=2)))
    if "categories" in event:
        events = replace(events, features=np.ascontiguousarray(np.round(events.features)))
    # A soft sensor leans on its last label only where labels are configured: in both engines, then.
    predicted, alerts = run(Engine(config(event, model + LATE if event == DIRECT else model)), events)
    engine = Engine(config(event, model + LATE))
    yhat, score, late_alerts = [], [], []
    for i in range(len(events)):
        one = cut(events, i, i + 1)
        predictions, none = engine.process(bare(one))
        assert none == []
        assert predictions.score.tolist() == [0.0]
        outcome = engine.learn(labels_of(one), 0, EventIds("events", 0, [i]))
        assert outcome.matched.all()
        yhat.append(predictions.yhat[0])
        score.append(outcome.resolved.score[0])
        late_alerts += [alert._replace(row=i) for alert in outcome.alerts]
    assert np.array(yhat).tobytes() == predicted["yhat"].tobytes()
    assert np.array(score).tobytes() == predicted["score"].tobytes()
    assert alerts
    assert [(a.row, said(a)) for a in late_alerts] == [(a.row, said(a)) for a in alerts]


def test_targets_in_the_events_count_at_once_where_labels_may_come_too() -> None:
    events = labelled(fleet(2000))
    on_time = run(Engine(config()), events)[0]
    engine = Engine(config(sections=LATE))
    assert_same_bits(run(engine, events, [700, 701, 1500])[0], on_time)
    assert engine.label_counts["matched"] == 2000
    assert engine.label_counts["waiting"] == 0


@pytest.mark.parametrize("delay", [1, 10, 100])
def test_late_labels_teach_nearly_as_well(delay: int) -> None:
    features, y = linear(3000)
    events = made(y, features)
    engine = Engine(config(DIRECT, LATE))
    errors = []
    for i in range(3000):
        predicted, _ = engine.process(bare(cut(events, i, i + 1)))
        errors.append(abs(predicted.yhat[0] - y[i]))
        if i >= delay:
            assert engine.learn(labels_of(cut(events, i - delay, i - delay + 1))).matched.all()
    on_time = np.abs(run(Engine(config(DIRECT)), events)[0]["yhat"] - y)
    assert np.mean(errors[500:]) < 1.05 * on_time[500:].mean()
    assert engine.label_counts == {"waiting": delay, "matched": 3000 - delay, "dropped": 0, "unmatched": 0, "early": 0}


@pytest.mark.parametrize("delay", [1, 7])
def test_past_features_are_those_of_the_last_events_labelled_or_not(delay: int) -> None:
    """The effect comes after two events, the label later still: it may not be needed to know the cause."""
    events = effect_later(2, 3000)
    errors = []
    engine = Engine(config(f"{DIRECT}, feature_lags: 2", LATE))
    for i in range(3000):
        predicted, _ = engine.process(bare(cut(events, i, i + 1)))
        errors.append(abs(predicted.yhat[0] - events.target[i]))
        if i >= delay:
            assert engine.learn(labels_of(cut(events, i - delay, i - delay + 1))).matched.all()
    assert np.mean(errors[1000:]) < 0.1 * np.abs(np.diff(events.target)).mean()


def test_past_features_reach_behind_a_horizon() -> None:
    """What three events on follows the feature of five events before that is two events back from here."""
    events = effect_later(5, 3000)
    predicted, _ = run(Engine(config(f"{DIRECT}, feature_lags: 2", "model: {horizon: 3 events}\n")), events)
    foreseeable = events.target + events.features[:, 1]  # its own −b cannot be known three events before
    errors = np.abs(predicted["yhat"][1000:-3] - foreseeable[1003:])
    assert errors.mean() < 0.1 * np.abs(np.diff(foreseeable)).mean()


# Nothing is lost, whatever the order.


@st.composite
def interleavings(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Steps ('event' | 'label' | 'restore', event's number): events in order, labels anywhere, twice or never."""
    n = draw(st.integers(1, 120))
    places = draw(st.lists(st.integers(-5, 40), min_size=n, max_size=n))
    steps = [(2.0 * i, "event", i) for i in range(n)]
    steps += [(2.0 * (i + places[i]) + 1, "label", i) for i in range(n) if places[i] < 38]
    steps += [(2.0 * i + 1.5, "label", i) for i in draw(st.lists(st.integers(0, n - 1), max_size=4))]
    steps += [(2.0 * i + 0.5, "restore", i) for i in draw(st.lists(st.integers(0, n), max_size=2))]
    return [(kind, i) for _, kind, i in sorted(steps, key=lambda step: step[0])]


def follow(
    steps: list[tuple[str, int]], events: Events, sections: str, *, restoring: bool
) -> tuple[Engine, list[NDArray[Any]], int]:
    """The engine after the steps, what it predicted, and the labels that it was given and gave back."""
    engine, predicted, given, refused = Engine(config(sections=sections)), [], 0, 0
    for kind, i in steps:
        one = cut(events, i, i + 1)
        if kind == "restore":
            engine = Engine.restore(config(sections=sections), engine.snapshot()) if restoring else engine
        elif kind == "event":
            predicted.append(np.concatenate([np.atleast_1d(column) for column in engine.process(bare(one))[0]]))
        else:
            given += 1
            engine.learn(labels_of(one))
        refused += len(engine.pop_unmatched_labels())
    counts = engine.label_counts
    assert counts["matched"] + counts["early"] + counts["unmatched"] == given
    assert counts["unmatched"] == refused
    return engine, predicted, refused


@settings(max_examples=40)
@given(interleavings(), st.integers(0, 3), st.sampled_from([3, 20, 256]), st.sampled_from(["7s", "1d"]))
def test_every_event_is_labelled_waits_or_was_dropped(
    steps: list[tuple[str, int]], seed: int, most: int, wait: str
) -> None:
    events = apart(fleet(120, seed), seed)
    sections = f"labels: {{topic: labels, pending: {most}, wait: {wait}}}\n"
    engine, predicted, _ = follow(steps, events, sections, restoring=False)
    counts = engine.label_counts
    assert counts["matched"] + counts["waiting"] + counts["dropped"] == sum(kind == "event" for kind, _ in steps)
    assert np.isfinite(np.concatenate(predicted)).all()
    again, restored, _ = follow(steps, events, sections, restoring=True)
    assert np.concatenate(predicted).tobytes() == np.concatenate(restored).tobytes()
    assert engine.snapshot() == again.snapshot()


def test_a_label_waits_for_its_event_and_teaches_when_it_comes() -> None:
    events = labelled(fleet(400))
    events = replace(events, ts=np.arange(400) * 1000)
    on_time = run(Engine(config()), events)[0]
    engine = Engine(config(sections=LATE))
    yhat = []
    for i in range(400):
        one = cut(events, i, i + 1)
        assert not engine.learn(labels_of(one)).matched.any()
        yhat.append(engine.process(bare(one))[0].yhat[0])
    assert np.array(yhat).tobytes() == on_time["yhat"].tobytes()
    assert engine.label_counts["matched"] == 400
    assert engine.pop_unmatched_labels() == []


def test_labels_without_an_event_have_a_reason() -> None:
    engine = Engine(config(sections="labels: {topic: labels, wait: 5s, pending: 8}\n"))
    events = made(np.arange(20.0), ts=np.arange(20) * 1000)
    engine.process(bare(events))
    assert engine.label_counts["dropped"] == 14  # all but those of the last 5 s
    assert engine.learn(labels_of(cut(events, 19, 20))).matched.all()
    for again in (cut(events, 19, 20), cut(events, 2, 3), made([1.0], ts=[1500])):
        assert not engine.learn(labels_of(again)).matched.any()
        (refused,) = engine.pop_unmatched_labels()
        assert "waits for a label" in refused.reason
    assert not engine.learn(labels_of(made([1.0], ts=[30_000]))).matched.any()
    assert engine.pop_unmatched_labels() == []  # its event may still come
    engine.process(bare(made([1.0], ts=[36_000])))
    (refused,) = engine.pop_unmatched_labels()
    assert "labels.wait" in refused.reason


def test_labels_by_id_find_their_events_in_any_order() -> None:
    engine = Engine(config(sections="labels: {topic: labels, id: id}\n"))
    events = made(np.arange(50.0), ts=np.zeros(50))
    keys = np.arange(50, dtype=np.int64) * 7919 - 100
    engine.process(replace(bare(events), key=keys))
    order = np.random.default_rng(0).permutation(50)
    labels = replace(labels_of(events.take(order)), ts=np.zeros(50, np.int64), key=keys[order])
    outcome = engine.learn(labels)
    assert outcome.matched.all()
    assert outcome.resolved.y.tolist() == order.tolist()


def test_the_rings_grow_and_keep_what_waits() -> None:
    features, y = linear(600)
    events = made(y, features, ["a", "b", "c"] * 200)
    engine = Engine(config(sections="labels: {topic: labels, pending: 200}\n"))
    engine.process(bare(events))
    assert engine.label_counts["waiting"] == 600
    restored = Engine.restore(engine.config, engine.snapshot())
    assert restored.snapshot() == engine.snapshot()
    for one in (engine, restored):
        assert one.learn(labels_of(events)).matched.all()
    assert restored.snapshot() == engine.snapshot()
    assert restored.state_hash("b") == engine.state_hash("b")


def test_what_waits_of_an_entity_that_expires_is_dropped() -> None:
    engine = Engine(config(sections="labels: {topic: labels, wait: 2d}\nstate: {ttl: 1d}\n"))
    engine.process(bare(made(np.zeros(10), entity="old")))
    engine.process(bare(made(np.zeros(300), entity="new", ts=np.arange(300) * 3_600_000)))
    engine.snapshot()
    counts = engine.label_counts
    assert counts["dropped"] >= 10
    assert counts["waiting"] + counts["dropped"] == 310


# Ahead.


def shifted(seed: int = 0, n: int = 1200) -> Events:
    """One entity whose target follows its features of three events before."""
    features, y = linear(n + 3, seed)
    return made(y[:n], features[3 : n + 3], ts=np.arange(n) * 60_000)


def test_a_horizon_of_events_predicts_the_target_so_many_events_on() -> None:
    events = shifted()
    engine = Engine(config("features: [a, b]", "model: {horizon: 3 events}\n"))
    predicted, _ = run(engine, events)
    error = np.abs(predicted["yhat"][:-3] - events.target[3:])
    assert error[500:].mean() < 0.5
    plain = run(Engine(config()), events)[0]
    assert np.abs(plain["yhat"] - events.target)[500:].mean() > 1.0
    assert engine.label_counts["matched"] == 1197
    assert engine.label_counts["waiting"] == 3


def test_a_horizon_in_time_is_a_horizon_in_events_where_they_come_evenly() -> None:
    # Within an hour: the scale of errors knows the hour that is predicted only where the horizon is in time.
    events = replace(shifted(), ts=np.arange(1200) * 1000)
    by_count = run(Engine(config("features: [a, b], calendar: []", "model: {horizon: 3}\n")), events)
    by_time = run(Engine(config("features: [a, b], calendar: []", "model: {horizon: 3s}\n")), events)
    assert_same_bits(by_count[0], by_time[0])
    assert [said(a) for a in by_count[1]] == [said(a) for a in by_time[1]]


YEARS = 10 * 365 * 86_400_000


def test_a_clock_far_ahead_at_one_event_keeps_no_later_one_from_its_prediction() -> None:
    """It waits in front of all that come after it, for ten years by their times."""
    features, y = linear(900)
    events = made(y, features)
    events = replace(events, ts=1_700_000_000_000 + 60_000 * np.arange(900))
    wrong = replace(events, ts=events.ts + np.where(np.arange(900) == 300, YEARS, 0))
    minutes = "model: {horizon: 5m}\n"
    on_time = Engine(config("features: [a, b]", minutes))
    off = Engine(config("features: [a, b]", minutes))
    run(on_time, events)
    run(off, wrong)
    assert on_time.label_counts["matched"] == 895
    assert off.label_counts["matched"] >= 895 - 10, "the five that wait, and the five that would be of it"
    assert off.label_counts["waiting"] == 5


def test_a_clock_far_ahead_at_one_event_keeps_no_later_one_from_its_label() -> None:
    """Nor a label that comes before its event from waiting for it: what counts is how far the entity is."""
    features, y = linear(600)
    events = replace(made(y, features), ts=1_700_000_000_000 + 60_000 * np.arange(600))
    wrong = replace(events, ts=events.ts + np.where(np.arange(600) == 300, YEARS, 0))
    engine = Engine(config(DIRECT, "labels: {topic: labels, wait: 30m}\n"))
    early = 0
    for i in range(600):
        if i == 550:
            assert not engine.learn(labels_of(cut(events, i, i + 1))).matched.any()
            early = engine.label_counts["early"]
        engine.process(bare(cut(wrong, i, i + 1)))
        if i >= 3 and i - 3 not in (300, 550):
            found = engine.learn(labels_of(cut(events, i - 3, i - 2))).matched.all()
            assert found or 297 <= i - 3 < 300, "those that wait then are ten years old by its time"
    assert early == 1
    assert engine.label_counts["matched"] == 600 - 3 - 1 - 3
    assert engine.label_counts["early"] == 0


def test_the_gap_to_a_clock_far_ahead_is_no_gap_between_events() -> None:
    """Else the usual one is a month from then on, and nothing that comes is after it."""
    features, y = linear(600)
    events = replace(made(y, features), ts=1_700_000_000_000 + 60_000 * np.arange(600))
    wrong = replace(events, ts=events.ts + np.where(np.arange(600) == 300, YEARS, 0))
    engine = Engine(config("features: [a, b]"))
    run(engine, wrong)
    store = engine.target_engines[0].store
    last, gap = store.state.clock.number[0, [loop.LAST, loop.GAP]]
    assert last == events.ts[-1]
    assert gap == pytest.approx(60.0, rel=0.05)


def test_predictions_ahead_do_not_depend_on_later_targets() -> None:
    events = shifted()
    other = replace(events, target=np.where(np.arange(1200) >= 800, events.target + 7, events.target))
    one, two = (run(Engine(config(sections="model: {horizon: 5}\n")), e)[0] for e in (events, other))
    for name in FIELDS:
        assert one[name][:800].tobytes() == two[name][:800].tobytes()
    assert one["yhat"][800] != two["yhat"][800]


def test_a_time_that_comes_without_a_target_is_counted() -> None:
    ts = np.arange(100) * 60_000
    ts[50:] += 3_600_000
    y = np.arange(100.0)
    y[20] = np.nan
    engine = Engine(config(sections="model: {horizon: 2m}\n"))
    run(engine, made(y, ts=ts))
    counts = engine.label_counts
    assert counts["unmatched"] == 2  # the gap's; the missing target's is met a minute later
    assert counts["matched"] + counts["waiting"] + counts["unmatched"] == 100
    engine = Engine(config(sections="model: {horizon: 2}\n"))
    run(engine, made(y, ts=ts))
    assert engine.label_counts["unmatched"] == 1


@settings(max_examples=15)
@example("1", [62], 1)  # the first target below zero comes between a prediction and its target
@given(
    st.sampled_from(["1", "7", "3s", "20s"]),
    st.lists(st.integers(0, 800), min_size=1, max_size=5),
    st.integers(0, 2),
)
def test_batches_and_restores_change_no_bit_ahead(horizon: str, cuts: list[int], seed: int) -> None:
    events, settings_ = fleet(800, seed), config(sections=f"model: {{horizon: {horizon}}}\n")
    whole = Engine(settings_)
    predicted, alerts = run(whole, events)
    engine, parts, late_alerts = Engine(settings_), [], []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 800], strict=True):
        engine = Engine.restore(settings_, engine.snapshot())
        ids = EventIds("events", 0, range(start, stop))
        predictions, some = engine.process(cut(events, start, stop), 0, ids)
        parts.append(predictions)
        late_alerts += [alert._replace(row=alert.row + start) for alert in some]
    assert_same_bits(predicted, {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS})
    assert alerts == late_alerts
    assert engine.snapshot() == whole.snapshot()
    assert all(np.isfinite(predicted[name]).all() for name in FIELDS)


def test_without_labels_and_horizon_nothing_is_remembered() -> None:
    engine = Engine(config())
    run(engine, fleet(500))
    assert engine.label_counts == {}
    assert not hasattr(engine.target_engines[0].store, "pending")
    assert b"pending" not in engine.snapshot()


# Configuration.


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ("labels: {}", "set the `topic` of the labels"),
        ("labels: {topic: labels, marker: kind}", "`marker` is for labels on the events topic"),
        ("labels: {topic: labels, id: a, timestamp: b}", "leave the other out"),
        ("labels: {topic: labels, event_id: a}", "goes with `id`"),
        ("labels: {topic: events}", "must all differ"),
        ("labels: {topic: labels}\nmodel: {horizon: 3}", "leave one of the two out"),
        ("model: {horizon: -1}", "write 0, a number of events"),
        ("model: {horizon: soon}", "write 0, a number of events"),
        ("model: {horizon: 9999}", "write 0, a number of events"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(sections: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(sections=sections + "\n")
    assert words in str(caught.value)


def test_horizons_are_events_or_time() -> None:
    for text, events, seconds in (("0", 0, 0), ("5", 5, 0), ("1 event", 1, 0), ("90s", 0, 90), ("1h", 0, 3600)):
        horizon = config(sections=f"model: {{horizon: {text}}}\n").model.horizon
        assert (horizon.events, horizon.seconds) == (events, seconds)
