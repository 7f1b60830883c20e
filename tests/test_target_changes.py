"""Targets are added, removed and reordered between two runs: those that stay go on to the bit."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from engines import config
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.config.changes import diff_model_settings, overall_effect
from ssm_stream.contract.message_schemas import alert_schema
from ssm_stream.engine import snapshot
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.snapshot_format import SnapshotReader, StateError
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.rows.reader import MessageReader

TARGETS = ("a", "b", "c", "d")
N, CUT = 3_000, 1_500
SHARED = 6_000
"""Events in which each target may raise a false alarm, however many targets there are."""
KEPT_ARRAYS = "anomaly: {{budget: 1 per {0} events, cooldown: 5}}, drift: {{budget: 1 per {0} events}}"
ALONE = "model: {fleet: false}\n"


def of(targets: str, more: str = "", rules: str = "", inputs: str = "features: [x1, x2], ") -> Any:
    """The configuration of targets as `ab`, with the same budget for each of them."""
    budgets = KEPT_ARRAYS.format(SHARED // len(targets))
    return config(
        f"{inputs}target: [{', '.join(targets)}]" if inputs else f"features: [{', '.join(targets)}], target: all",
        f"{more}alerts: {{{budgets}{rules}}}\nsinks: {{summaries: hours, suppressed: others}}\n",
    )


def values(seed: int = 3) -> tuple[Events, dict[str, NDArray[np.float64]]]:
    """Events of seven entities, with faults in `a` and `b` before and after the change, one open at it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 2))
    every = {name: x @ rng.normal(size=2) + 0.3 * rng.normal(size=N) for name in TARGETS}
    names = [f"m{i}" for i in rng.integers(7, size=N)]
    own = np.array(names) == "m1"
    every["a"][own & (np.arange(N) > CUT - 60) & (np.arange(N) < CUT + 60)] += 25.0
    every["b"][(np.array(names) == "m2") & (np.arange(N) > CUT + 300) & (np.arange(N) < CUT + 500)] -= 25.0
    every["b"][(np.array(names) == "m3") & (np.arange(N) > CUT + 600)] += 9.0
    unknown = rng.random(N) < 0.02
    for each in every.values():  # of all: a target that is unknown alone gives its part of the budget to the others
        each[unknown] = np.nan
    return Events(names, 60_000 * np.arange(N), x, every["a"], np.arange(N)), every


def part(targets: str, first: int, stop: int, events: Events, every: dict[str, NDArray[np.float64]]) -> Events:
    target = np.ascontiguousarray(np.column_stack([every[name] for name in targets])[first:stop])
    return replace(events.take(np.arange(first, stop)), target=target)


def fed(engine: Engine, targets: str, first: int, stop: int, seed: int = 3, bare: bool = False) -> Any:
    events = part(targets, first, stop, *values(seed))
    if bare:
        events = replace(events, features=np.zeros((len(events), 0)))
    return engine.process(events, ids=EventIds("t", 0, range(first, stop)))


def arrays(engine: Engine, target: str) -> list[tuple[str, bytes]]:
    """All that the engine keeps of a target."""
    store = engine._target_engine(target).store
    metadata, parts = snapshot.dump(store, "", full=True)
    content = [(each.name, (each.array if each.rows is None else each.array[each.rows]).tobytes()) for each in parts]
    return [*content, ("metadata", repr(metadata).encode())]


def told(alerts: list[Alert], targets: str = "ab") -> list[dict[str, Any]]:
    """Alerts about targets without what names the configuration."""
    return [
        {name: value for name, value in each.message.items() if name not in ("config_hash", "budget")}
        for each in alerts
        if each.message["target"] in targets
    ]


def same(found: Any, expected: Any, targets: str, before: str, after: str) -> None:
    """Check that predictions of targets are the same bits in two runs of which these are the targets."""
    for mine, theirs in zip(found, expected, strict=True):
        for name in targets:
            assert mine[:, after.index(name)].tobytes() == theirs[:, before.index(name)].tobytes()


@pytest.mark.parametrize("more", ["", ALONE, "model: {horizon: 3 events}\n"])
@pytest.mark.parametrize("now", ["abc", "cab", "acbd", "dbac"])
def test_a_target_is_added_and_the_others_go_on_to_the_bit(now: str, more: str) -> None:
    steady, engine = Engine(of("ab", more)), Engine(of("ab", more))
    for each in (steady, engine):
        fed(each, "ab", 0, CUT)
    engine = Engine.restore(of(now, more), engine.snapshot())
    expected, theirs = fed(steady, "ab", CUT, N)
    found, mine = fed(engine, now, CUT, N)
    same(found, expected, "ab", "ab", now)
    assert told(mine) == told(theirs)
    assert {each["target"] for each in told(mine)} >= {"a", "b"}
    assert any(each["phase"] == "recovered" and each["episode"] < f"t-0-{CUT}" for each in told(mine)), "one went on"
    for name in "ab":
        assert arrays(engine, name) == arrays(steady, name)
    # A new one is as in an engine that starts here.
    fresh = Engine(of(now, more))
    first, _ = fed(fresh, now, CUT, N)
    for mine_, theirs_ in zip(found, first, strict=True):
        at = now.index("c")
        assert mine_[:, at].tobytes() == theirs_[:, at].tobytes()
    steady.summaries.pop_ended(), engine.summaries.pop_ended()
    a, b = (each.summaries._sums[: len(each.summaries)] for each in (steady, engine))
    assert steady.summaries._names == engine.summaries._names
    assert a[:, :10].tobytes() == b[:, :10].tobytes()


@pytest.mark.parametrize("more", ["", ALONE])
def test_a_target_is_removed_and_the_others_go_on_to_the_bit(more: str) -> None:
    steady, engine = Engine(of("ab", more)), Engine(of("acb", more))
    fed(steady, "ab", 0, CUT), fed(engine, "acb", 0, CUT)
    engine = Engine.restore(of("ab", more), engine.snapshot())
    expected, theirs = fed(steady, "ab", CUT, N)
    found, mine = fed(engine, "ab", CUT, N)
    same(found, expected, "ab", "ab", "ab")
    assert told(mine) == told(theirs)
    for name in "ab":
        assert arrays(engine, name) == arrays(steady, name)
    again = Engine.restore(of("ab", more), engine.snapshot())
    assert again.snapshot() == engine.snapshot()


def test_what_is_open_of_a_target_that_goes_ends() -> None:
    engine = Engine(of("abc", rules=", silence: {}, stuck: true, fleet: {enabled: false}"))
    _, started = fed(engine, "abc", 0, CUT)
    assert "a" in engine.episodes.multi_target.targets_of("m1", "anomaly")
    opened = next(each.message["episode"] for each in reversed(started) if each.message["entity"] == "m1")
    less = of("bc", rules=", silence: {}, stuck: true, fleet: {enabled: false}")
    engine = Engine.restore(less, engine.snapshot())
    engine = Engine.restore(less, engine.snapshot())  # and a restart before its source sends an event
    _, alerts = fed(engine, "bc", CUT, CUT + 5)
    ends = [each.message for each in alerts if each.message["episode"] == opened]
    assert [(each["phase"], each["ended_by"], each["target"], each["targets"]) for each in ends] == [
        ("recovered", "disabled", None, [])
    ]
    fed(engine, "bc", CUT + 5, N)


def test_an_episode_of_several_goes_on_with_those_that_stay() -> None:
    engine = Engine(of("abc", rules=", fleet: {enabled: false}"))
    events, every = values()
    both = (np.array(events.entity) == "m5") & (np.arange(N) > CUT - 60) & (np.arange(N) < CUT + 200)
    every["a"][both] += 30.0
    every["c"][both] += 30.0
    _, before = engine.process(part("abc", 0, CUT, events, every), ids=EventIds("t", 0, range(CUT)))
    assert set(engine.episodes.multi_target.targets_of("m5", "anomaly")) == {"a", "c"}
    opened = [each.message for each in before if each.message["entity"] == "m5"][-1]["episode"]
    engine = Engine.restore(of("bc", rules=", fleet: {enabled: false}"), engine.snapshot())
    assert engine.episodes.multi_target.targets_of("m5", "anomaly") == ["c"]
    _, after = engine.process(part("bc", CUT, N, events, every), ids=EventIds("t", 0, range(CUT, N)))
    own = [each.message for each in after if each.message["episode"] == opened]
    assert own[-1]["phase"] == "recovered"
    assert own[-1]["ended_by"] == "recovered"
    assert own[-1]["target"] == "c"


@pytest.mark.parametrize("fleet", [True, False])
def test_a_target_of_all_is_added_and_an_input_of_the_others(fleet: bool) -> None:
    more = "" if fleet else ALONE
    engine = Engine(of("abc", more, inputs=""))
    fed(engine, "abc", 0, CUT, bare=True)
    before = Engine.restore(engine.config, engine.snapshot())
    engine = Engine.restore(of("dabc", more, inputs=""), engine.snapshot())
    assert [each.store.challenger is not None for each in engine.target_engines] == [False, True, True, True]
    found, _ = fed(engine, "dabc", CUT, N, bare=True)
    expected, _ = fed(before, "abc", CUT, N, bare=True)
    first = [found.yhat[0, "dabc".index(name)] for name in "abc"]
    assert first == pytest.approx(list(expected.yhat[0]), abs=0.1), "the new input has weight zero"
    errors = [
        np.nanmean(np.abs(found.yhat[300:, 1 + j] - values()[1][name][CUT + 300 :])) for j, name in enumerate("abc")
    ]
    same_ = [
        np.nanmean(np.abs(expected.yhat[300:, j] - values()[1][name][CUT + 300 :])) for j, name in enumerate("abc")
    ]
    assert np.mean(errors) < 1.1 * np.mean(same_)
    fewer = Engine.restore(of("ab", more, inputs=""), engine.snapshot())
    fed(fewer, "ab", CUT, N, bare=True)
    listed = Engine.restore(of("ab", more), fewer.snapshot())
    fed(listed, "ab", CUT, N)


def test_with_inputs_of_their_own_the_targets_of_all_go_on_to_the_bit() -> None:
    def signals(targets: str) -> Any:
        own = ", ".join(targets)
        return config(
            f"features: [{own}], target: all, inputs: [x1, x2]",
            f"alerts: {{{KEPT_ARRAYS.format(6000 // len(targets))}}}",
        )

    steady, engine = Engine(signals("ab")), Engine(signals("ab"))
    fed(steady, "ab", 0, CUT), fed(engine, "ab", 0, CUT)
    engine = Engine.restore(signals("bca"), engine.snapshot())
    expected, theirs = fed(steady, "ab", CUT, N)
    found, mine = fed(engine, "bca", CUT, N)
    same(found, expected, "ab", "ab", "bca")
    assert told(mine) == told(theirs)
    assert [arrays(engine, name) for name in "ab"] == [arrays(steady, name) for name in "ab"]


def loaded(settings: Config, *files: BytesIO) -> Engine:
    """Return an engine that has gone on from a whole snapshot and those that follow it."""
    engine = Engine(settings)
    for file in files:
        engine.load(SnapshotReader(file))
    engine.finish_load()
    return engine


def test_incremental_snapshots_follow_a_whole_one() -> None:
    engine = Engine(of("ab"))
    fed(engine, "ab", 0, CUT + 10)
    engine.write_snapshot(first := BytesIO(), full=True)
    fed(engine, "ab", CUT + 10, CUT + 13)
    engine.write_snapshot(second := BytesIO(), full=False, base=SnapshotReader(first).name)
    after = loaded(of("cab"), first, second)
    assert after.changed_share == 1.0, "the next one is whole"
    assert [arrays(after, name) for name in "ab"] == [arrays(engine, name) for name in "ab"]
    fed(after, "cab", CUT + 13, CUT + 310)
    after.write_snapshot(whole := BytesIO(), full=True)
    fed(after, "cab", CUT + 310, CUT + 313)
    after.write_snapshot(more := BytesIO(), full=False, base=SnapshotReader(whole).name)
    assert loaded(of("cab"), whole, more).snapshot() == after.snapshot()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", ["features: [x1, x2], ", ""])
def test_whatever_comes_and_goes_each_start_has_one_end_and_messages_keep_to_the_schema(form: str, seed: int) -> None:
    """With fleet alerts, alerts that wait for them, and faults of many entities in several targets at a time."""
    jsonschema = pytest.importorskip("jsonschema")
    rng = np.random.default_rng(seed)
    events, every = values(seed)
    for _ in range(12):
        first, some = rng.integers(300, N - 200), rng.choice(7, rng.integers(1, 7), replace=False)
        at = np.isin(events.entity, [f"m{i}" for i in some]) & (np.arange(N) > first) & (np.arange(N) < first + 150)
        for name in rng.choice(list(TARGETS), rng.integers(1, 4), replace=False):
            every[name][at] += rng.choice([-30.0, 30.0])
    if not form:
        events = replace(events, features=np.zeros((N, 0)))
    cuts = [0, *np.sort(rng.choice(np.arange(300, N - 100), 8, replace=False)).tolist(), N]
    targets, engine = "abcd", None
    begun, over = dict[str, tuple[str, str]](), set[str]()
    rules = ", silence: {columns: false}, limits: [{column: x, above: 20}], fleet: {min_entities: 3, share: 0.3}"
    for first, stop in pairwise(cuts):
        more = "model: {warmup: 30}\nevent_: 0\n".replace("event_: 0\n", "")
        settings = of(targets, more, rules.replace("column: x", f"column: {targets[0]}"), form)
        engine = Engine(settings) if engine is None else Engine.restore(settings, engine.snapshot())
        _, alerts = engine.process(
            part(targets, first, stop, events, every), ids=EventIds("events", 0, range(first, stop))
        )
        validator = jsonschema.Draft202012Validator(alert_schema(settings))
        for alert in alerts:
            if alert.suppressed_by is not None:  # one that a fleet alert has left open starts again, with another id
                continue
            message = alert.message
            name, key = message["episode"], (message["entity"], message["kind"])
            if message["phase"] == "started":
                assert begun.setdefault(name, key) == key
            assert name in begun, message
            assert name not in over, message
            if message["phase"] == "recovered":
                over.add(name)
            if message["ended_by"] != "disabled":
                source = {"topic": "events", "partition": 0, "offset": first + alert.row}
                body = {
                    **message,
                    "source": source,
                    "id": f"events-0-{first + alert.row}-{message['kind']}{alert.suffix}",
                }
                validator.validate(orjson.loads(orjson.dumps(body)))
        left = [name for name in targets if rng.random() < 0.7] or [targets[0]]
        fresh = [name for name in TARGETS if name not in targets and rng.random() < 0.5]
        if len(left) + len(fresh) < 2:
            fresh = [next(name for name in TARGETS if name not in left)]
        targets = left[0] + "".join(rng.permutation([*left[1:], *fresh]))
    assert any(alert in over for alert in begun)
    opened = {each.started.id for each in engine.episodes.open("x") if not each.suppressed}
    assert opened == begun.keys() - over


def test_a_change_of_inputs_on_trial_goes_on_for_the_targets_that_stay() -> None:
    engine = Engine(of("ab", inputs="features: [x1], "))
    events, every = values()
    first = part("ab", 0, CUT, replace(events, features=np.ascontiguousarray(events.features[:, :1])), every)
    engine.process(first, ids=EventIds("t", 0, range(CUT)))
    steady = Engine.restore(of("ab"), engine.snapshot())
    fed(steady, "ab", CUT, CUT + 400)
    assert all(each.store.challenger is not None for each in steady.target_engines)
    engine = Engine.restore(of("bca"), steady.snapshot())
    assert [each.store.challenger is not None for each in engine.target_engines] == [True, False, True]
    expected, _ = fed(steady, "ab", CUT + 400, N)
    found, _ = fed(engine, "bca", CUT + 400, N)
    same(found, expected, "ab", "ab", "bca")
    assert [arrays(engine, name) for name in "ab"] == [arrays(steady, name) for name in "ab"]


def test_inputs_and_targets_may_change_together_with_past_values_limits_and_summaries() -> None:
    derive = "derive: {mean: {rolling_mean: x1, over: 5}}, "
    more = "state: {max_entities: 20}\n"
    rules = ", silence: {}, stuck: true, limits: [{column: a, above: 20}]"
    before = of("ab", more, rules, f"features: [x1, x2], {derive}")
    after = of("bca", more, rules, f"features: [x1, x2], {derive.replace('over: 5', 'over: 7')}")
    third = of("bca", more, rules)
    engine = Engine(before)
    for config_, targets, first, stop in (
        (before, "ab", 0, CUT),
        (after, "bca", CUT, CUT + 500),
        (third, "bca", CUT + 500, N),
    ):
        engine = Engine.restore(config_, engine.snapshot())
        events = part(targets, first, stop, *values())
        if config_ is not third:
            mean = np.full((len(events), 1), np.nan)
            events = replace(
                events, features=np.concatenate([events.features, mean], axis=1), windows=events.features[:, :1]
            )
        admitted, refused = engine.admit(events)
        assert not refused
        predictions, _ = engine.process(admitted, ids=EventIds("t", 0, range(first, stop)))
        assert np.isfinite(predictions.yhat[20:]).all()
        again = Engine.restore(config_, engine.snapshot())
        assert Engine.restore(config_, again.snapshot()).snapshot() == again.snapshot()
    assert engine.summaries._names


def test_stops_and_restarts_go_on_for_the_targets_that_stay() -> None:
    stands = (np.arange(N) % 200) < 40
    events, every = values()
    events = replace(events, idle=stands)

    def go(engine: Engine, targets: str, first: int, stop: int) -> Any:
        return engine.process(part(targets, first, stop, events, every), ids=EventIds("t", 0, range(first, stop)))

    inputs = "features: [x1, x2], when: {state: runs}, "
    steady, engine = Engine(of("ab", inputs=inputs)), Engine(of("ab", inputs=inputs))
    go(steady, "ab", 0, CUT + 120), go(engine, "ab", 0, CUT + 120)  # it stands
    engine = Engine.restore(of("bca", inputs=inputs), engine.snapshot())
    go(steady, "ab", CUT + 120, CUT + 148), go(engine, "bca", CUT + 120, CUT + 148)  # and is within a restart
    engine = Engine.restore(of("dabc", inputs=inputs), engine.snapshot())
    assert steady.episodes.restarts[0].any_open
    expected, theirs = go(steady, "ab", CUT + 148, N)
    found, mine = go(engine, "dabc", CUT + 148, N)
    same(found, expected, "ab", "ab", "dabc")
    assert told(mine) == told(theirs)
    of_a, of_b = (each.dump() for each in steady.episodes.restarts)
    assert [engine.episodes.restarts[j].dump() for j in (1, 2)] == [of_a, of_b]


@pytest.mark.parametrize("fleet", ["", "model: {fleet: false}\n"])
@pytest.mark.parametrize(("was", "now"), [("a", "ba"), ("ab", "a"), ("acb", "b")])
def test_one_target_becomes_several_and_several_one(was: str, now: str, fleet: str) -> None:
    """What is open ends; what was learned of the one that stays goes on to the bit."""
    (stays,) = {*was} & {*now}
    inputs = "features: [x1, x2], "
    events, every = values()

    def go(engine: Engine, targets: str, first: int, stop: int) -> Any:
        some = part(targets, first, stop, events, every)
        some = replace(some, target=some.target[:, 0].copy()) if len(targets) == 1 else some
        return engine.process(some, ids=EventIds("t", 0, range(first, stop)))

    steady, engine = Engine(of(was, fleet, inputs=inputs)), Engine(of(was, fleet, inputs=inputs))
    go(steady, was, 0, CUT)
    go(engine, was, 0, CUT)
    opened = {each.started.id for each in engine.episodes.open("x")}
    assert opened
    engine = Engine.restore(of(now, fleet, inputs=inputs), engine.snapshot())
    assert Engine.restore(of(now, fleet, inputs=inputs), engine.snapshot()).snapshot() == engine.snapshot()
    expected, _ = go(steady, was, CUT, N)
    found, after = go(engine, now, CUT, N)
    yhat = [each.yhat.reshape(len(each.yhat), -1) for each in (found, expected)]
    assert yhat[0][:, now.index(stays)].tobytes() == yhat[1][:, was.index(stays)].tobytes()
    ends = [each.message for each in after if each.message["episode"] in opened]
    assert {(each["phase"], each["ended_by"]) for each in ends} == {("recovered", "disabled")}
    assert {each["episode"] for each in ends} == opened
    assert all(("targets" in each.message) == (len(now) > 1) for each in after)
    assert any(each.message["phase"] == "started" for each in after)


def test_rules_of_columns_that_stay_count_on() -> None:
    rules = ", silence: {}, stuck: [a], limits: [{column: b, above: 3}]"
    steady, engine = Engine(of("ab", rules=rules)), Engine(of("ab", rules=rules))
    events, every = values()
    still = np.array(events.entity) == "m6"
    every["a"][still & (np.arange(N) > CUT - 900) & (np.arange(N) < CUT + 400)] = 0.125
    gap = (np.array(events.entity) == "m4") & (np.arange(N) > CUT - 300) & (np.arange(N) < CUT + 300)

    def go(of_: Engine, targets: str, first: int, stop: int) -> list[dict[str, Any]]:
        at = np.flatnonzero(~gap[first:stop])
        some = part(targets, first, stop, events, every).take(at)
        alerts = of_.process(some, ids=EventIds("t", 0, (first + at).tolist()))[1]
        kinds = ("silence", "stuck", "limit")
        return [{**each.message, "config_hash": 0, "budget": 0} for each in alerts if each.message["kind"] in kinds]

    go(steady, "ab", 0, CUT), go(engine, "ab", 0, CUT)
    # The lengths that are unusual depend on the budget of all.
    engine = Engine.restore(of("acb", rules=rules).replace(alerts=steady.config.alerts), engine.snapshot())
    expected, found = go(steady, "ab", CUT, N), go(engine, "acb", CUT, N)
    assert {each["kind"] for each in expected} == {"silence", "stuck", "limit"}
    assert any(each["phase"] == "recovered" and each["since"] < 60_000 * CUT for each in expected)
    assert [each for each in found if each["column"] != "c"] == expected


FORMS = {
    "a": "features: [x1, b], target: a",
    "ab": "features: [x1], target: [a, b]",
    "all": "features: [a, b], target: all, inputs: [a, x1]",
    "bac": "features: [x1, x2], target: [b, a, c], lags: 4",
}


@pytest.mark.parametrize("now", FORMS)
@pytest.mark.parametrize("was", FORMS)
def test_inputs_become_targets_and_targets_inputs(was: str, now: str) -> None:
    events, every = values()
    columns = {**every, "x1": events.features[:, 0], "x2": events.features[:, 1]}

    def go(engine: Engine, first: int, stop: int) -> Any:
        event = engine.config.event
        target = np.column_stack([columns[name] for name in event.targets])
        numbers = np.column_stack([columns[name] for name in event.numbers])
        target = target[:, 0].copy() if len(event.targets) == 1 else target
        some = replace(events, target=target, features=numbers).take(np.arange(first, stop))
        return engine.process(some, ids=EventIds("t", 0, range(first, stop)))[0].yhat.reshape(stop - first, -1)

    engine = Engine(config(FORMS[was]))
    go(engine, 0, CUT)
    engine = Engine.restore(config(FORMS[now]), engine.snapshot())
    yhat = go(engine, CUT, N)[300:, engine.config.event.targets.index("a")]
    fresh = Engine(config(FORMS[now]))
    anew = go(fresh, 0, N)[CUT + 300 :, fresh.config.event.targets.index("a")]
    error, least = (np.nanmean(np.abs(each - every["a"][CUT + 300 :])) for each in (yhat, anew))
    assert error < 1.1 * least
    assert Engine.restore(engine.config, engine.snapshot()).snapshot() == engine.snapshot()


READINGS = "target: [{0}], features: [x], layout: readings, signal: s, every: 20s"
AGGREGATE = "target: [{0}], features: [x], aggregate: {{every: 1m, columns: {{x: {{mean: x}}, {1}}}}}"


@pytest.mark.parametrize("form", ["readings", "windows"])
def test_of_rows_that_are_made_targets_change_too(form: str) -> None:
    def made(targets: str) -> Any:
        columns = ", ".join(f"{name}: {{mean: {name}}}" for name in targets)
        event = READINGS if form == "readings" else AGGREGATE
        return config(event.format(", ".join(targets), columns), "alerts: {stuck: true}")

    def go(engine: Engine, first: int, stop: int) -> Any:
        rng = np.random.default_rng(1)
        rows = rng.normal(size=(stop, 4))
        sent = [
            {"e": "m", "t": 20_000 * i + j, "s": name, "value": float(rows[i, j])}
            if form == "readings"
            else {"e": "m", "t": 20_000 * i + j, name: float(rows[i, j])}
            for i in range(first, stop)
            for j, name in enumerate(["x", *"abc"])
        ]
        messages, refused = MessageReader(engine.config.event).read(sent)
        assert not refused
        assert engine.rows is not None
        return engine.process(engine.rows.add(messages, (messages.position + 4 * first).tolist(), 0).events)[0]

    engine, steady = Engine(made("ab")), Engine(made("ab"))
    go(engine, 0, 500), go(steady, 0, 500)
    engine = Engine.restore(made("bca"), engine.snapshot())
    found, expected = go(engine, 500, 900), go(steady, 500, 900)
    assert len(found.yhat) > 100
    assert found.yhat[:, [2, 0]].tobytes() == expected.yhat.tobytes()
    engine = Engine.restore(made("ab"), engine.snapshot())
    assert go(engine, 900, 1_000).yhat.tobytes() == go(steady, 900, 1_000).yhat.tobytes()


REFUSED = {
    "other": (
        "features: [x], target: a",
        "features: [x], target: b",
        "'b' is learned anew, as another target than 'a'",
    ),
    "none": ("features: [x], target: [a, b]", "features: [x], target: [c, d]", "none of the targets stays"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_go_on_is_refused_with_the_cure(name: str) -> None:
    *events, words = REFUSED[name]
    before, after = (config(each) for each in events)
    assert overall_effect(diff_model_settings(before.model_settings, after.model_settings)) == "refused"
    with pytest.raises(StateError, match=rf"(?s)event\.target: .*refused: {words}.*another recovery\.directory"):
        Engine.restore(after, Engine(before).snapshot())


def test_a_new_target_is_not_the_first_where_rules_need_what_it_has_seen() -> None:
    state = Engine(config("features: [x], target: [a, b]", "alerts: {silence: {}}")).snapshot()
    with pytest.raises(StateError, match=r"'c', is new, and by it .*: write it after one that stays"):
        Engine.restore(config("features: [x], target: [c, a, b]", "alerts: {silence: {}}"), state)
    Engine.restore(config("features: [x], target: [a, c, b]", "alerts: {silence: {}}"), state)
    Engine.restore(config("features: [x], target: [b, c]", "alerts: {silence: {}}"), state)
    without = Engine(config("features: [x], target: [a, b]")).snapshot()
    Engine.restore(config("features: [x], target: [c, a, b]"), without)


def test_what_becomes_of_the_targets_is_written() -> None:
    def text(before: str, after: str) -> list[str]:
        changes = diff_model_settings(config(before).model_settings, config(after).model_settings)
        assert overall_effect(changes) == "migrated"
        return [change.why for change in changes]

    assert text("features: [x], target: [a, b]", "features: [x], target: [b, c, d]") == [
        "added: c, d, learned anew; removed: a; what is open of it ends (`ended_by: disabled`); kept: 1, as learned; "
        "alarm budgets are shared by 3 from now on; for a new name of the same target: `ssm-stream state "
        "rename-feature` first"
    ]
    assert text("features: [x], target: a", "features: [x], target: [a, b]") == [
        "added: b, learned anew; kept: 1, as learned; open anomalies and drifts end (`ended_by: disabled`), as several "
        "targets have theirs in common; alarm budgets are shared by 2 from now on"
    ]
    assert text("features: [x], target: [a, b]", "features: [x], target: [b, a]") == [
        "all targets are kept, in another order"
    ]
    assert text("features: [a, b], target: all", "features: [a, b, c], target: all") == [
        "added: c, learned anew, and as inputs of others at weight zero; kept: 2, as learned; alarm budgets are shared "
        "by 3 from now on"
    ]
