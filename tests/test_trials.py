"""A change of inputs on trial: a challenger predicts beside the learner that goes on, and the better one stays."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from engines import config
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core import loop
from ssm_stream.engine import trials
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.entity_report import report_entity
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.snapshot_format import SnapshotReader
from ssm_stream.engine.trials import RunningTrial
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels

BEFORE, AFTER = config("features: [a, b]"), config("features: [a, b, c]")
ALONE = tuple(config(event, "model: {fleet: false}") for event in ("features: [a, b]", "features: [a, b, c]"))
AHEAD = tuple(config(event, "model: {horizon: 3 events}") for event in ("features: [a, b]", "features: [a, b, c]"))
LATE = tuple(
    config(f"{event}, lags: 0", "labels: {topic: labels, wait: 1d}")
    for event in ("features: [a, b]", "features: [a, b, c]")
)
LEARNED = 1_500
EVENTS = 300


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "EVENTS", EVENTS)
    monkeypatch.setattr(trials, "EVENTS_PER_ENTITY", 0)


def stream(n: int, *, shift: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (n, 3) and a target. shift: from LEARNED on all are another size, and the relation is another one"""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    y = 5 + x @ [2.0, -1.0, 0.0] + 0.3 * rng.normal(size=n)
    if shift:
        x[LEARNED:, :2] = 100 + 0.01 * x[LEARNED:, :2]
        y[LEARNED:] = 5 + 300 * (x[LEARNED:, 0] - 100) + 3 * x[LEARNED:, 2] + 0.1 * rng.normal(size=n - LEARNED)
    return x, y


def events(of: Config, first: int, stop: int, *, shift: bool) -> Events:
    x, y = stream(LEARNED + 3_000, shift=shift)
    names = [f"m{i}" for i in np.random.default_rng(1).integers(3, size=len(y))]
    at = np.arange(first, stop)
    features = np.ascontiguousarray(x[at][:, : len(of.event.features)])
    return Events([names[i] for i in at], 1_700_000_000_000 + 60_000 * at, features, y[at].copy(), at)


def begun(*, shift: bool, configs: tuple[Config, ...] = (BEFORE, AFTER)) -> Engine:
    engine = Engine(configs[0])
    engine.process(events(configs[0], 0, LEARNED, shift=shift))
    return Engine.restore(configs[1], engine.snapshot())


def store(engine: Engine) -> EntityStore:
    return engine.target_engines[0].store


def stages(engine: Engine) -> list[float]:
    number = store(engine).shared.trial.number
    return number[: len(store(engine).pools), loop.STAGE_OF_TRIAL].tolist()


def later(of: Config, stop: int, *, shift: bool, first: int = 0) -> Events:
    return events(of, LEARNED + first, LEARNED + stop, shift=shift)


def learners(engine: Engine) -> dict[str, bytes]:
    """What is learned of entities and pools, by name."""
    each, n = store(engine), len(engine)
    groups: list[tuple[Any, int]] = [(each.state.learner, n), (each.shared.pool, 1), (each.shared.fleet, 1)]
    return {f"{i}.{name}": array[:rows].tobytes() for i, (group, rows) in enumerate(groups)
            for name, array in group._asdict().items()}  # fmt: skip


def test_what_goes_on_stays_where_it_is_better_and_has_learned_as_if_alone() -> None:
    engine, alone = begun(shift=False), begun(shift=False)
    store(alone).shared.trial.number[:] = 0
    size = store(alone).entity_block.shape[1]
    assert stages(engine) == [loop.TRIAL_ON]
    part = later(AFTER, EVENTS, shift=False)
    for each in (engine, alone):
        each.process(part)
    assert stages(engine) == [loop.TRIAL_OVER]
    assert learners(engine) == learners(alone)
    after = later(AFTER, EVENTS + 200, shift=False, first=EVENTS)
    assert engine.process(after)[0].yhat.tobytes() == alone.process(after)[0].yhat.tobytes()
    assert store(engine).challenger is None, "its rows are gone"
    assert store(engine).entity_block.shape[1] < 0.8 * size
    assert "challenger" not in SnapshotReader(BytesIO(engine.snapshot())).metadata["targets"][0]


@pytest.mark.parametrize("configs", [(BEFORE, AFTER), ALONE], ids=["fleet", "alone"])
def test_predictions_begin_as_they_were(configs: tuple[Config, ...]) -> None:
    """A challenger that has learned a few events has hardly a part in them; the target's noise is 0.3."""
    engine, alone = begun(shift=False, configs=configs), begun(shift=False, configs=configs)
    store(alone).shared.trial.number[:] = 0
    part = later(configs[1], 60, shift=False)
    on_trial, kept = engine.process(part)[0], alone.process(part)[0]
    assert np.abs(on_trial.yhat - kept.yhat).max() < 0.3


@pytest.mark.parametrize("configs", [(BEFORE, AFTER), ALONE], ids=["fleet", "alone"])
def test_the_challenger_takes_the_place_where_it_is_better(configs: tuple[Config, ...]) -> None:
    engine, fresh = begun(shift=True, configs=configs), Engine(configs[1])
    part = later(configs[1], 2_200, shift=True)
    yhat, anew = (each.process(part)[0].yhat for each in (engine, fresh))
    kept = begun(shift=True, configs=configs)
    store(kept).shared.trial.number[:] = 0
    errors = [np.abs(each - part.target)[1_200:].mean() for each in (yhat, anew, kept.process(part)[0].yhat)]
    assert errors[2] > 1.1 * errors[1], "what goes on stays behind"
    assert errors[0] < 1.02 * errors[1]
    # Counts go on, so that neither warm-ups nor the lengths of episodes begin anew.
    assert store(engine).state.learner.n[: len(engine)].sum() == LEARNED + 2_200
    engine.process(later(configs[1], 2_201, shift=True, first=2_200))
    assert store(engine).challenger is None


def test_a_report_tells_how_a_trial_goes() -> None:
    engine, alone, fresh = begun(shift=False), begun(shift=False), Engine(AFTER)
    store(alone).shared.trial.number[:] = 0
    first = report_entity(engine.target_engines[0], "m0")
    assert first is not None
    assert first.trial == RunningTrial(0.0, EVENTS)
    for each in (engine, alone, fresh):
        each.process(later(AFTER, 100, shift=False))
    report = report_entity(engine.target_engines[0], "m0")
    assert report is not None
    assert report.trial is not None
    assert report.trial.events_left == EVENTS - 100
    with_both, kept, anew = (
        float(each.process(later(AFTER, 101, shift=False, first=100))[0].yhat[0]) for each in (engine, alone, fresh)
    )
    assert with_both == pytest.approx(kept + report.trial.share * (anew - kept), rel=1e-12)
    engine.process(later(AFTER, EVENTS, shift=False, first=101))
    last = report_entity(engine.target_engines[0], "m0")
    assert last is not None
    assert last.trial is None


NOTHING, WRITE, RESTART = range(3)


def written(engine: Engine, files: list[BytesIO]) -> list[BytesIO]:
    """The files of a state, with what has changed since the last one where that can be."""
    full, file = not files or engine.changed_share == 1.0, BytesIO()
    engine.write_snapshot(file, full=full, base="" if full else SnapshotReader(files[-1]).name)
    return [file] if full else [*files, file]


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(1, 899), st.sampled_from([NOTHING, WRITE, RESTART])), max_size=6),
    st.booleans(),
    st.sampled_from([(BEFORE, AFTER), ALONE, AHEAD]),
)
def test_neither_batches_nor_restarts_change_a_bit(
    cuts: list[tuple[int, int]], shift: bool, configs: tuple[Config, ...]
) -> None:
    """While the trial lasts, at its end, and after it; files may have the changed rows alone."""
    of = configs[1]
    whole, pieces = (begun(shift=shift, configs=configs) for _ in range(2))
    expected = whole.process(later(of, 900, shift=shift))[0]
    found, files, first = [], list[BytesIO](), 0
    for stop, then in [*sorted(dict(cuts).items()), (900, NOTHING)]:
        found.append(pieces.process(later(of, stop, first=first, shift=shift))[0])
        first = stop
        if then != NOTHING:
            files = written(pieces, files)
        if then == RESTART:
            pieces = Engine(of)
            for file in files:
                pieces.load(SnapshotReader(file))
            pieces.finish_load()
    for name in expected._fields:
        got = np.concatenate([getattr(each, name) for each in found])
        np.testing.assert_array_equal(got, getattr(expected, name))
    for entity in ("m0", "m1", "m2"):
        assert pieces.state_hash(entity) == whole.state_hash(entity)


def test_a_change_during_a_trial_begins_another_one() -> None:
    engine = begun(shift=False)
    engine.process(later(AFTER, 100, shift=False))
    engine = Engine.restore(BEFORE, engine.snapshot())
    number = store(engine).shared.trial.number[0]
    assert number.tolist() == [loop.TRIAL_ON, EVENTS, EVENTS, 0, 0]
    assert not store(engine).state.challenger.n.any()
    assert not store(engine).shared.challenger_pool.n.any()


def test_an_explanation_adds_up_to_what_is_predicted() -> None:
    engine = begun(shift=True)
    for first in range(0, 560, 40):
        part = later(AFTER, first + 40, first=first, shift=True)
        trace = engine.target_engines[0].trace_prediction(replace(part, target=np.full(40, np.nan)))
        assert trace.yhat == engine.process(part)[0].yhat[0]
    assert loop.TRIAL_WON in stages(engine)


def test_entities_that_expire_during_a_trial_start_afresh_in_both() -> None:
    of = tuple(config(event, "state: {ttl: 10h}") for event in ("features: [a, b]", "features: [a, b, c]"))
    engine = begun(shift=False, configs=of)
    engine.process(later(of[1], 100, shift=False))
    some = later(of[1], 250, first=100, shift=False)
    engine.process(replace(some, entity=["other"] * 150, ts=some.ts[0] + 360_000 * np.arange(150)))
    engine.process(replace(some.take(np.array([0])), entity=["m0"], ts=some.ts[:1] + 54_000_000))
    at = store(engine).row_by_name["m0"]
    assert store(engine).state.learner.n[at] == store(engine).state.challenger.n[at] == 1


def delayed(engine: Engine, first: int, stop: int, *, shift: bool) -> NDArray[np.float64]:
    """Predictions of events, fifteen at a time; with each fifteen come the labels of those thirty before."""
    of, found = engine.config, []
    for i in range(first, stop, 15):
        part = events(of, i, i + 15, shift=shift)
        found.append(engine.process(replace(part, target=np.full(15, np.nan)))[0].yhat)
        if i >= 30:
            due = events(of, i - 30, i - 15, shift=shift)
            labels = Labels(due.entity, due.ts, np.zeros(15, np.int64), due.target, np.arange(15))
            assert engine.learn(labels).matched.all()
    return np.concatenate(found)


@pytest.mark.parametrize("shift", [False, True])
def test_labels_that_come_late_choose_too(shift: bool) -> None:
    engine = Engine(LATE[0])
    delayed(engine, 0, LEARNED, shift=shift)
    snapshot = engine.snapshot()
    engine, again, kept = (Engine.restore(LATE[1], snapshot) for _ in range(3))
    store(kept).shared.trial.number[:] = 0
    stop = LEARNED + 900
    yhat, alone = (delayed(each, LEARNED, stop, shift=shift) for each in (engine, kept))
    both = [delayed(again, LEARNED, LEARNED + 315, shift=shift)]  # its end is at 300 labels
    assert store(again).pending.predicted[..., 0].any()
    again = Engine.restore(LATE[1], again.snapshot())
    both.append(delayed(again, LEARNED + 315, stop, shift=shift))
    np.testing.assert_array_equal(np.concatenate(both), yhat)
    y = events(LATE[1], LEARNED, stop, shift=shift).target
    errors = [np.abs(each - y)[600:].mean() for each in (yhat, alone)]
    if shift:
        assert errors[0] < 0.95 * errors[1]
        assert (yhat[600:] != alone[600:]).all()
    else:
        np.testing.assert_array_equal(yhat[600:], alone[600:])
    delayed(engine, stop, stop + 60, shift=shift)
    assert store(engine).challenger is None
    assert not store(engine).pending.predicted.size
    assert engine.label_counts["waiting"] == kept.label_counts["waiting"] == 30


def test_targets_of_later_events_choose_too() -> None:
    engine, kept, fresh = begun(shift=True, configs=AHEAD), begun(shift=True, configs=AHEAD), Engine(AHEAD[1])
    store(kept).shared.trial.number[:] = 0
    part = later(AHEAD[1], 1_200, shift=True)
    errors = []
    for each in (engine, kept, fresh):
        each.process(part)
        found = each.target_engines[0].resolved
        errors.append(np.abs(found.yhat - found.y)[-400:].mean())
    assert errors[0] < 1.02 * min(errors)


def test_a_trial_that_is_damaged_is_refused() -> None:
    engine = begun(shift=False)
    engine.process(later(AFTER, 100, shift=False))
    core = store(engine).bind(engine.target_engines[0].rules)
    assert core.check(len(engine), 1) == ""
    store(engine).shared.challenger_pool.used[0] = 1_000
    assert "used" in core.check(len(engine), 1)
    store(engine).shared.challenger_pool.used[0] = 0
    store(engine).shared.trial.number[0, loop.EVENTS_LEFT] = np.nan
    assert "trial" in core.check(len(engine), 1)
