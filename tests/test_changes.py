"""What a changed configuration does to a state: kept, migrated with the learner as it is to the bit, or refused."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.config import Config, input_changes, parse_config
from ssm_stream.config.changes import (
    HOLIDAYS,
    MIGRATES,
    UNSET,
    WHY_REFUSED,
    diff_model_settings,
    diff_runtime_settings,
    overall_effect,
    runtime_settings,
)
from ssm_stream.config.earlier import REMOVED
from ssm_stream.config.sections import Sinks
from ssm_stream.config.setting_text import format_value
from ssm_stream.core.lifecycle import KINDS, OPEN, ZEROED
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.memory.growable_arrays import named_arrays
from ssm_stream.engine.snapshot import require_compatible_state
from ssm_stream.engine.snapshot_format import SnapshotReader, StateError
from ssm_stream.ingest.events import Events

BEFORE: dict[str, Any] = {
    "source": {"brokers": "a", "topic": "t"},
    "event": {"entity": "e", "timestamp": "t", "features": ["a", "b"]},
    "alerts": {"anomaly": {"budget": "1 per 200 events"}, "drift": {"budget": "1 per 200 events"}},
    "recovery": {"directory": None},
}


def changed(**changes: Any) -> Config:
    """The configuration with other values at these paths; `__` stands for a dot."""
    content = orjson.loads(orjson.dumps(BEFORE))
    for path, value in changes.items():
        *above, last = path.split("__")
        section = content
        for key in above:
            section = section.setdefault(key, {})
        section[last] = value
    if "budget" in content["alerts"]:  # it replaces those of both kinds
        for kind in ("anomaly", "drift"):
            content["alerts"][kind].pop("budget", None)
    return parse_config(orjson.dumps(content).decode())


ANOMALY, DRIFT = "alerts__anomaly__", "alerts__drift__"
TEAM = {"alerts": 20, "per": "7d", "entities": 250}
MIGRATING: list[dict[str, Any]] = [
    {"alerts__budget": TEAM},
    {"model__warmup": 50},
    {"event__timestamp": "time"},
    {"event__timestamp_format": "iso"},
    {"alerts__limits": [{"column": "target", "above": 1.5}]},
    {"alerts__silence": {"after": "10m", "columns": False}},
    {"alerts__silence": {}, "alerts__stuck": True},
    {"alerts__maintenance": [{"weekly": "Sun 06:00-18:00", "learn": "adapt"}]},
    {ANOMALY + "enabled": False},
    {DRIFT + "enabled": False},
    {ANOMALY + "enabled": False, DRIFT + "enabled": False},
    {ANOMALY + "budget": "1 per 30d"},
    {DRIFT + "budget": "1 per 5000 events"},
    {ANOMALY + "channels": ["residual"]},
    {ANOMALY + "channels": ["levels"]},
    {ANOMALY + "direction": "above"},
    {ANOMALY + "min_deviation": 1.5},
    {ANOMALY + "min_deviation_relative": 0.5},
    {ANOMALY + "consecutive": 3},
    {ANOMALY + "recover_after": 30},
    {ANOMALY + "cooldown": 0},
    {ANOMALY + "absorb_after": 40},
    {ANOMALY + "learn": "hold"},
    {DRIFT + "cooldown": 7},
    {DRIFT + "absorb_after": 60},
    {DRIFT + "learn": "slow"},
    {"alerts__fleet": {"enabled": False}},
    {"alerts__fleet": {"share": 0.5, "min_entities": 2}},
    {"alerts__fleet": {"wait": 0}},
    {"alerts__language": "ja"},
    {"event__when": {"a": {"above": -1}}},
    {"event__quality": {"columns": {"a": "a_flag"}, "good": [1]}},
    {"state__ttl": "2d"},
    {"state__ttl": None},
]
REFUSED: list[dict[str, Any]] = [
    {"event__lags": 0},
    {"event__target": ["y", "z"]},
    {"event__time_zone": "Asia/Tokyo"},
    {"event__features": ["a", "b", "c"], "event__target": "all"},
    {"model__interval": 0.95},
    {"model__fleet": False},
    {"model__profile": "accurate"},
    {"model__tuning__half_lives": ["6h"]},
    {"model__horizon": "3 events"},
    {"model__weights": "untrained"},
    {"state__shards": 3},
    {"labels": {"topic": "labels"}},
]
OF_READINGS = {"event.grace", "event.max_age"}
"""Settings that only readings have: tests/test_readings.py tries them, and tests/test_windows.py that of windows."""
ids = lambda change: "-".join(f"{path.split('__')[-1]}={value}" for path, value in change.items())  # noqa: E731


def readings() -> Config:
    """Return a configuration of readings."""
    return changed(event__layout="readings", event__signal="signal")


CHANGE, FED, ALL = 2_600, 2_700, 3_000
"""Events: drift is looked for only once an entity is known; a state; the stream."""


def stream(n: int, seed: int = 0) -> Events:
    """Events with faults and a change, so that episodes of both kinds are open now and again."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 2))
    slope = np.where(np.arange(n) < CHANGE, 1.0, 6.0)
    y = slope * features[:, 0] + 0.1 * rng.normal(size=n) + 20 * (rng.random(n) < 0.005)
    names = [f"m{i}" for i in (rng.random(n) * 3).astype(int)]
    return Events(names, 60_000 * np.arange(n), features, y, np.arange(n), np.zeros(n, np.int64))


def fed(config: Config, n: int = FED) -> Engine:
    engine = Engine(config)
    engine.process(stream(ALL).take(np.arange(n)))
    return engine


@pytest.fixture(scope="module")
def whole() -> bytes:
    """A state with open episodes."""
    engine = fed(changed())
    open_ = engine.target_engines[0].store.state.lifecycle.number[:3, :, OPEN]
    assert open_.any(axis=0).all(), "episodes of both kinds are open"
    return engine.snapshot()


def learned(engine: Engine) -> dict[str, bytes]:
    """All that predictions are made of, and the clocks."""
    out = {}
    for each in engine.target_engines:
        used, pools = len(each.store.names), len(each.store.pools)
        groups = {"learner", "error_scale", "interval", "clock", "reference"}
        out |= {
            name: array[:used].tobytes()
            for name, array in named_arrays(each.store.state)
            if name.split(".")[0] in groups
        }
        out |= {name: array[:pools].tobytes() for name, array in named_arrays(each.store.shared)}
    return out


@pytest.mark.parametrize("change", MIGRATING, ids=ids)
def test_what_migrates_leaves_the_learner_as_it_is_to_the_bit(change: dict[str, Any], whole: bytes) -> None:
    before, config = changed(), changed(**change)
    assert overall_effect(diff_model_settings(before.model_settings, config.model_settings)) == "migrated"
    engine, same = Engine.restore(config, whole), Engine.restore(before, whole)
    assert learned(engine) == learned(same)
    assert engine.names == same.names
    assert engine.changed_share == 1.0, "the next snapshot is a whole one, of the new configuration"
    again = Engine.restore(config, engine.snapshot())
    assert again.snapshot() == engine.snapshot()
    rest = stream(ALL).take(np.arange(FED, ALL))
    told, calm = again.process(rest)[0], same.process(rest)[0]
    if not any("learn" in path or "ttl" in path for path in change):
        assert told.yhat.tobytes() == calm.yhat.tobytes(), "alerts decide nothing of the predictions"
    assert np.isfinite(told.yhat).all()


@pytest.mark.parametrize("change", MIGRATING, ids=ids)
def test_back_again_is_a_state_of_the_old_configuration(change: dict[str, Any], whole: bytes) -> None:
    """Detectors that were dropped on the way begin anew; nothing else has changed."""
    there = Engine.restore(changed(**change), whole).snapshot()
    back, same = Engine.restore(changed(), there), Engine.restore(changed(), whole)
    assert learned(back) == learned(same)
    for (name, array), other in zip(
        named_arrays(back.target_engines[0].store.state), named_arrays(same.target_engines[0].store.state), strict=True
    ):
        assert array.shape[1:] == other[1].shape[1:], name
    back.process(stream(300, seed=1))


@pytest.mark.parametrize("change", REFUSED, ids=ids)
def test_what_would_mean_something_else_is_refused_with_all_that_differs(change: dict[str, Any], whole: bytes) -> None:
    config = changed(**change, **{ANOMALY + "cooldown": 3})
    with pytest.raises(StateError) as error:
        Engine.restore(config, whole)
    text = str(error.value)
    assert "another recovery.directory" in text
    for path in change:
        assert f"\n  {path.replace('__', '.')}: " in text
    assert "\n  alerts.anomaly.cooldown: 50 → 3 (migrated: " in text
    assert "(refused: " in text


def test_every_setting_that_decides_is_known_here() -> None:
    """A new one must be put on one of the two lists: with no reason, nobody would know what it does to a state."""

    def paths(content: dict[str, Any], above: str = "") -> list[str]:
        return [
            path
            for key, value in content.items()
            for path in (paths(value, f"{above}{key}.") if isinstance(value, dict) else [f"{above}{key}"])
        ]

    config = changed(labels={"topic": "labels"}, event__feature_lags=1, alerts__language="ja")
    every = ["alerts.budget", *paths(config.model_settings), *paths(changed(alerts__budget=TEAM).model_settings)]
    every += paths(changed(alerts__fleet={"wait": 0}).model_settings)
    every += paths(changed(alerts__limits=[{"column": "target", "above": 1}]).model_settings)
    stop = {"weekly": "Sun 06:00-18:00", "learn": "adapt"}
    every += paths(changed(alerts__maintenance=[stop]).model_settings)
    every += ["alerts.silence", *paths(changed(alerts__silence={}, alerts__stuck=True).model_settings)]
    every += [*paths(changed(event__when={"a": 1}).model_settings), "event.quality"]
    every += [f"alerts.{kind}.absorb_after" for kind in ("anomaly", "drift")]
    every += [name for name in OF_READINGS if name.removeprefix("event.") in readings().model_settings["event"]]
    every.append("event.aggregate.grace")
    every += input_changes.PATHS
    every.append(HOLIDAYS)  # a text a year, of which the difference is one
    assert [path for path in every if path not in MIGRATES and not path.startswith(tuple(WHY_REFUSED))] == []
    assert set(MIGRATES) <= set(every)
    tried = (
        OF_READINGS
        | {*input_changes.PATHS, "event.aggregate.grace"}
        | {key for change in MIGRATING for key in [*change, *paths(change)]}
    )
    assert {path.replace("__", ".") for path in tried} >= set(MIGRATES) - {HOLIDAYS, *REMOVED}, (
        "test_holidays.py, test_input_changes.py"
    )


def test_a_kind_that_is_switched_off_leaves_no_episode_open(whole: bytes) -> None:
    """It would hold learning for ever, and would be told as recovered by whoever switches it on again."""
    off = Engine.restore(changed(**{DRIFT + "enabled": False, DRIFT + "learn": "hold"}), whole)
    on = Engine.restore(changed(), off.snapshot())
    for engine, kinds in ((off, [1]), (on, [1])):
        number = engine.target_engines[0].store.state.lifecycle.number
        assert not number[:, kinds][:, :, ZEROED["drift"]].any()
        assert number[:, 0].any(), "the other kind goes on"


def test_episodes_inside_a_fleet_alert_begin_anew_without_it() -> None:
    """Nobody was told that they had started, so nobody may be told that they have recovered."""
    n = 9_000
    rng = np.random.default_rng(3)
    features = rng.normal(size=(n, 2))
    y = features[:, 0] + 0.1 * rng.normal(size=n) + 50.0 * (np.arange(n) >= 8_900)
    names = [f"m{i % 30}" for i in range(n)]
    events = Events(names, 60_000 * np.arange(n), features, y, np.arange(n), np.zeros(n, np.int64))
    rare: dict[str, Any] = {ANOMALY + "budget": "1 per 10000 events"}
    engine = Engine(changed(**rare))
    alerts = [a.message for a in engine.process(events)[1]]
    assert any(message["scope"] == "fleet" and message["phase"] == "started" for message in alerts)
    snapshot = engine.snapshot()
    told = {(a["entity"], a["kind"]) for a in alerts if a["scope"] == "entity" and a["phase"] == "started"}

    def silent(engine: Engine) -> set[tuple[str, str]]:
        """Open episodes that nobody was told of."""
        number, names = engine.target_engines[0].store.state.lifecycle.number, engine.target_engines[0].store.names
        open_ = {(name, kind) for row, name in enumerate(names) for i, kind in enumerate(KINDS) if number[row, i, OPEN]}
        return open_ - told

    assert silent(engine)
    assert not silent(Engine.restore(changed(**rare, alerts__fleet={"enabled": False}), snapshot))
    assert silent(Engine.restore(changed(**rare, alerts__fleet={"share": 0.3}), snapshot)) == silent(engine)


@settings(max_examples=20)
@given(st.sampled_from(MIGRATING), st.lists(st.integers(1, 599), min_size=1, max_size=5))
def test_chains_of_changes_migrate_as_a_whole_snapshot_does(change: dict[str, Any], cuts: list[int]) -> None:
    before, config, events = changed(state__ttl="1d"), changed(**{"state__ttl": "1d", **change}), stream(600, seed=2)
    engine, files, name, at = Engine(before), list[BytesIO](), "", 0
    for cut in [*sorted(set(cuts)), 600]:
        engine.process(events.take(np.arange(at, cut)))
        at = cut
        whole = not files or engine.changed_share == 1.0
        files = [*([] if whole else files), BytesIO()]
        name = engine.write_snapshot(files[-1], full=whole, base=name)
    migrated = Engine(config)
    for file in files:
        migrated.load(SnapshotReader(file))
    migrated.finish_load()
    assert migrated.snapshot() == Engine.restore(config, engine.snapshot()).snapshot()


def test_changes_under_another_configuration_do_not_go_on_from_these() -> None:
    engine, other = fed(changed(), 400), fed(changed(alerts__anomaly__cooldown=9), 400)
    first, later = BytesIO(), BytesIO()
    engine.write_snapshot(first, full=True)
    other.write_snapshot(BytesIO(), full=True)
    other.write_snapshot(later, full=False)
    mixed = Engine(changed())
    mixed.load(SnapshotReader(first))
    with pytest.raises(StateError, match="the incremental snapshot follows one that another"):
        mixed.load(SnapshotReader(later))


def settings_with(config: Config, writers: int) -> dict[str, Any]:
    """Its runtime settings, of a release with another number of producers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sinks, "writers", writers)
        return runtime_settings(config)


def test_what_lies_outside_of_the_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    before = changed(state={"shards": 4})
    login = {"sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "${KAFKA_PASSWORD}"}
    kafka = {"security.protocol": "SASL_SSL", **login}
    after = changed(state={"shards": 4}, source__topic="u", source__kafka=kafka)
    assert diff_model_settings(before.model_settings, after.model_settings) == []
    found = diff_runtime_settings(settings_with(before, 2), runtime_settings(after))
    assert [(change.path, change.effect) for change in found] == [("source.topic", "kept")], "writers are no setting"
    assert overall_effect(found) == "kept"
    assert "secret" not in orjson.dumps(runtime_settings(after)).decode()


def test_writers_stay_where_the_state_or_the_broker_has_each() -> None:
    exactly = changed(delivery="exactly_once", state={"shards": 4}, recovery__directory="d")
    four, two = runtime_settings(exactly), settings_with(exactly, 2)
    for first, second, text in ((four, two, "4 → 2"), (two, four, "2 → 4")):
        (change,) = diff_runtime_settings(first, second)
        assert change.text.startswith(f"state.shards (writers): {text} (refused: ")
    least = changed(state={"shards": 4})
    assert [each.effect for each in diff_runtime_settings(runtime_settings(least), settings_with(least, 2))] == [
        "refused"
    ]
    assert diff_runtime_settings(four, settings_with(exactly, 9)) == [], "no more than shards"


def test_states_without_their_settings_are_refused_as_before(whole: bytes) -> None:
    words: dict[str, Any] = {**SnapshotReader(BytesIO(whole)).metadata}
    del words["settings"]
    require_compatible_state(words, changed())
    with pytest.raises(StateError, match="put `event`, `model`, `alerts` and `state` back"):
        require_compatible_state(words, changed(event__lags=7))


def test_words_for_what_is_not_there() -> None:
    (change,) = diff_model_settings(changed().model_settings, changed(labels={"topic": "l"}).model_settings)
    assert (change.path, change.old, change.effect) == ("labels", UNSET, "refused")
    assert change.text.startswith("labels: unset → {")
    (change,) = diff_model_settings(changed().model_settings, changed(event__feature_lags=2).model_settings)
    assert (change.path, change.old, change.effect) == ("event.feature_lags", UNSET, "migrated")
    assert change.text.startswith("event.feature_lags: unset → 2 (migrated: ")


def test_values_are_shown_as_the_file_has_them() -> None:
    """Durations with their unit, sections and lists by whole entries."""
    (change,) = diff_model_settings(changed().model_settings, changed(state__ttl="10d").model_settings)
    assert change.text.startswith("state.ttl: 90d → 10d (")
    epochs = [runtime_settings(changed(recovery={"directory": None, "epoch_interval": each})) for each in ("10s", "5s")]
    (change,) = diff_runtime_settings(*epochs)
    assert change.text.startswith("recovery.epoch_interval: 10s → 5s (")
    assert format_value({"topic": "l", "wait": 86400.0}, "labels") == "{topic: l, wait: 1d}"
    assert format_value({"temp": 90.0}, "event.max_age") == "{temp: 90s}"
    assert format_value([{"topic": "t", "max_age": 60.0}], "source.context") == "[{topic: t, max_age: 1m}]"
    assert format_value({f"feature_{i}": [i, i + 1] for i in range(9)}) == (
        "{feature_0: [0, 1], feature_1: [1, 2], feature_2: [2, 3], feature_3: [3, 4], …}"
    )
    assert format_value(["load", "speed"]) == "['load', 'speed']"
    assert format_value("x" * 90) == "x" * 77 + "…"
    assert (format_value(None), format_value(True), format_value(5.0, "state.shards")) == ("null", "true", "5.0")
