"""Rows are made of readings or windows: signals and columns change while the state goes on, and what was half made."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from test_readings import Reading, reading, stream
from test_readings import config as of_readings
from test_windows import NOON, document, run

from ssm_stream.config import Config, parse_config
from ssm_stream.config.changes import diff_model_settings, overall_effect
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.rows.reading_state import rename_signal
from ssm_stream.ingest.rows.stage import row_builder
from ssm_stream.ingest.rows.window_builder import WindowBuilder

# Readings.


def rows(of: Config, builder: Any, readings: list[Reading], *, last: bool = False) -> list[Events]:
    messages, refused = MessageReader(of.event).read(readings)
    assert not refused
    made = [builder.add(messages, messages.position.tolist(), 0).events]
    return [*made, *([builder.flush().events] if last else [])]


def table(events: list[Events], of: Config) -> dict[str, list[Any]]:
    """Columns by name."""
    out: dict[str, list[Any]] = {"entity": [name for each in events for name in each.entity]}
    out["ts"] = np.concatenate([each.ts for each in events]).tolist()
    out["y"] = np.concatenate([each.target for each in events]).tolist()
    for j, name in enumerate(of.event.columns):
        out[name] = np.concatenate([each.features[:, j] for each in events]).tolist()
    return out


CHANGES = {
    "added": (["a"], ["a", "b"]),
    "removed": (["a", "b"], ["b"]),
    "exchanged and in another order": (["c", "a"], ["a", "b"]),
}


@pytest.mark.parametrize("how", [{"grace": "2s"}, {}, {"grace": "1s", "every": "3s"}])
@pytest.mark.parametrize("change", CHANGES)
def test_of_readings_signals_that_stay_have_the_rows_of_a_builder_that_always_had_them(
    change: str, how: dict[str, Any]
) -> None:
    before, after = (of_readings(features=features, max_age="1h", **how) for features in CHANGES[change])
    kept = {"y", *before.event.features} & {"y", *after.event.features}
    readings = stream(1_200, 1)
    cut = len(readings) // 2
    builder, whole, present = (row_builder(each.event) for each in (before, after, after))
    assert builder is not None
    assert whole is not None
    assert present is not None
    first = rows(before, builder, readings[:cut])
    present.load(builder.dump())
    found = table(rows(after, present, readings[cut:], last=True), after)
    expected = table([*rows(after, whole, readings[:cut]), *rows(after, whole, readings[cut:], last=True)], after)
    # With `grace` a signal that is used moves the time of its entity, so that rows come a little earlier or later.
    all_rows = [*zip(*(table(first, before)[name] for name in ("entity", "ts")), strict=True)]
    all_rows += zip(found["entity"], found["ts"], strict=True)
    at = {key: i for i, key in enumerate(zip(expected["entity"], expected["ts"], strict=True))}
    if "every" not in how:
        assert sorted(all_rows) == sorted(at)
    mine = [i for i, key in enumerate(zip(found["entity"], found["ts"], strict=True)) if key in at]
    places = [at[found["entity"][i], found["ts"][i]] for i in mine]
    assert len(mine) > 50
    seen = False
    for name in ["y", *after.event.features]:
        ours, theirs = np.array(found[name])[mine], np.array(expected[name])[places]
        if name in kept:
            np.testing.assert_array_equal(ours, theirs)
        else:
            # Unknown until its first reading since, and then the same.
            known = ~np.isnan(ours)
            np.testing.assert_array_equal(ours[known], theirs[known])
            assert known.mean() > 0.5
            seen = True
    assert seen == (change != "removed")


def test_readings_that_wait_stay_and_those_of_a_signal_that_left_are_dropped() -> None:
    before, after = of_readings(features=["a", "b"], grace="10s"), of_readings(features=["b"], grace="10s")
    builder = row_builder(before.event)
    assert builder is not None
    rows(before, builder, [reading("a", 0, 1.0), reading("b", 1_000, 2.0), reading("y", 2_000, 3.0)])
    present = row_builder(after.event)
    assert present is not None
    present.load(builder.dump())
    made = table([present.flush().events], after)
    assert made == {"entity": ["m"], "ts": [1_700_000_002_000], "y": [3.0], "b": [2.0]}


def test_a_text_is_no_value_of_a_signal_that_is_a_number_now() -> None:
    before = of_readings(features=["a"], categories=["b"], max_age="1h", grace="1s")
    after = of_readings(features=["a", "b"], max_age="1h", grace="1s")
    builder = row_builder(before.event)
    assert builder is not None
    rows(before, builder, [reading("b", 0, "running"), reading("a", 500, 4.0), reading("b", 2_500, "off")])
    present = row_builder(after.event)
    assert present is not None
    present.load(builder.dump())
    made = table(rows(after, present, [reading("y", 3_000, 1.0)], last=True), after)
    assert made["a"] == [4.0]
    assert math.isnan(made["b"][0])


def test_a_signal_that_was_renamed_keeps_its_last_values() -> None:
    before = of_readings(features=["a"], max_age="1h")
    after = of_readings(features=["b"], max_age="1h")
    builder = row_builder(before.event)
    assert builder is not None
    rows(before, builder, [reading("a", 0, 7.0)])
    present = row_builder(after.event)
    assert present is not None
    present.load(rename_signal(builder.dump(), "a", "b"))
    assert table(rows(after, present, [reading("y", 1_000, 1.0)]), after)["b"] == [7.0]


# Windows.

COLUMNS = {
    "requests": "count", "failed": "{count: {status: {from: 500}}}", "errors": "{share: {status: {from: 500}}}",
    "bytes": "{sum: size}", "mean": "{mean: size}", "least": "{min: size}", "most": "{max: size}",
    "last": "{last: size}", "p90": "{p90: size}", "slow": "{count: {route: b}}", "wide": "{mean: width}",
}  # fmt: skip


def of_windows(names: list[str], more: str = "", **other: str) -> Config:
    columns = ", ".join(f"{name}: {other.get(name) or COLUMNS[name]}" for name in ["requests", *names])
    return parse_config(
        f"""
source: {{brokers: "localhost:9092", topic: requests}}
event:
  entity: service
  timestamp: at
  aggregate: {{every: 1s, grace: 300ms, columns: {{{columns}}}}}
  features: [{", ".join(names)}]
  target: requests
{more}
"""
    )


def documents(n: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            **document(f"s{i % 3}", NOON + 37 * i, float(rng.normal()), int(rng.choice([200, 500])), "ab"[i % 2]),
            "width": float(rng.normal()),
        }
        for i in range(n)
    ]  # fmt: skip


CASES = {
    "all at once": (["mean"], ["failed", "errors", "bytes", "mean", "least", "most", "last", "p90", "slow", "wide"]),
    "left": (["failed", "errors", "bytes", "mean", "p90", "slow", "wide"], ["wide", "errors"]),
    "exchanged": (["p90", "wide", "slow"], ["mean", "failed", "p90"]),
}
HELD = {"mean": {"least", "most", "last", "bytes"}, "p90": {"least", "most", "last"}}
"""What the windows hold of a field for a column is enough for these."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cut", [100, 211, 260])
def test_of_windows_what_was_gathered_stays_and_nothing_is_half_counted(case: str, cut: int) -> None:
    before, after = (of_windows(names) for names in CASES[case])
    sent = documents()
    builder = WindowBuilder(before.event)
    run(before, sent[:cut], builder=builder, flush=False)
    present, whole = WindowBuilder(after.event), WindowBuilder(after.event)
    present.load(builder.dump())
    begin = max(each["at"] for each in sent[:cut])
    found = {(r.entity, r.ts): r.values for r in run(after, sent[cut:], builder=present)[0]}
    run(after, sent[:cut], builder=whole, flush=False)
    expected = {(r.entity, r.ts): r.values for r in run(after, sent[cut:], builder=whole)[0]}
    assert found.keys() == expected.keys()
    kept = {"requests", *CASES[case][0]}
    held = set().union(*(HELD.get(name, set()) for name in kept))
    half = 0
    for key, values in found.items():
        for name, value in values.items():
            exact = repr(value) == repr(expected[key][name])
            if name in kept or name in held or key[1] - 999 > begin:
                assert exact, (key, name, value, expected[key][name])
            elif not exact:
                assert math.isnan(value), (key, name)
                half += 1
    assert half > 0 or case == "left"


def test_a_column_of_another_definition_is_another_input() -> None:
    before, after = of_windows(["p90"]), of_windows(["p90"], p90="{p50: size}")
    changes = diff_model_settings(before.model_settings, after.model_settings)
    assert overall_effect(changes) == "migrated"
    assert "defined otherwise, which are new inputs: p90" in changes[0].why
    engine = processed(Engine(before), before, documents())
    moved = Engine.restore(after, engine.snapshot())
    weights = [each.target_engines[0].store.shared.fleet.W[0] for each in (engine, moved)]
    place = 1 + moved.plan.numbers.index("p90")
    assert np.abs(weights[0][..., place]).max() > 0
    assert np.abs(weights[1][..., place]).max() == 0


def processed(engine: Engine, of: Config, sent: list[dict[str, Any]], first: int = 0) -> Engine:
    messages, _ = MessageReader(of.event).read(sent)
    assert engine.rows is not None
    engine.process(engine.rows.add(messages, (messages.position + first).tolist(), 0).events)
    return engine


def test_a_target_of_another_definition_is_refused() -> None:
    before = of_windows(["mean"])
    after = parse_config(
        """
source: {brokers: "localhost:9092", topic: requests}
event:
  entity: service
  timestamp: at
  aggregate: {every: 1s, grace: 300ms, columns: {requests: {sum: size}, mean: {mean: size}}}
  features: [mean]
  target: requests
"""
    )
    assert overall_effect(diff_model_settings(before.model_settings, after.model_settings)) == "refused"
    with pytest.raises(StateError, match="'requests' would be another column of windows"):
        Engine.restore(after, Engine(before).snapshot())


def test_a_rule_may_name_a_column_that_comes_with_it() -> None:
    before = of_windows(["mean"])
    after = of_windows(["mean", "most"], "alerts: {limits: [{column: most, above: 90}]}")
    engine = processed(Engine(before), before, documents(200))
    moved = processed(Engine.restore(after, engine.snapshot()), after, documents(400)[200:], 200)
    assert len(moved) == 3


# Both, in the engine.


def plant(n: int) -> list[dict[str, Any]]:
    """Readings every second of three machines: y from a and b, as it was a moment ago."""
    rng, out = np.random.default_rng(2), list[dict[str, Any]]()
    for i in range(n):
        a, b = rng.normal(size=2)
        y = 5 + 2 * a - b + 0.3 * rng.normal()
        for j, (signal, value) in enumerate((("a", a), ("b", b), ("y", y))):
            out.append(reading(signal, 1_000 * i + j, float(value), f"m{i % 3}"))
    return out


@pytest.mark.parametrize(("was", "now"), [(["a"], ["a", "b"]), (["a", "b"], ["a"]), (["a"], ["b"])])
def test_it_is_never_worse_than_a_fresh_start_after_500_events(was: list[str], now: list[str]) -> None:
    before, after = of_readings(features=was), of_readings(features=now)
    sent, n = plant(3_600), 1_800
    engine = processed(Engine(before), before, sent[: 3 * n])
    moved, fresh = Engine.restore(after, engine.snapshot()), Engine(after)
    messages, _ = MessageReader(after.event).read(sent[3 * n :])
    errors = []
    for each in (moved, fresh):
        assert each.rows is not None
        made = each.rows.add(messages, messages.position.tolist(), 0).events
        errors.append(np.abs(each.process(made)[0].yhat - made.target))
    assert len(errors[0]) == len(errors[1]) == n
    assert errors[0][500:].mean() <= 1.005 * errors[1][500:].mean()
    assert errors[0][:200].mean() <= errors[1][:200].mean()


def test_what_becomes_of_columns_is_written() -> None:
    before, after = of_windows(["mean", "p90"]), of_windows(["mean", "most", "slow"])
    changes = diff_model_settings(before.model_settings, after.model_settings)
    assert overall_effect(changes) == "migrated"
    told = {change.path: change.why for change in changes}
    assert told["event.features"].startswith("added: most, slow, at weight zero; removed: p90; kept: 1")
    assert told["event.aggregate.columns.most"] == (
        "columns added: most, slow; removed: p90; windows that are open go on; what they have not gathered from their "
        "begin is unknown in them"
    )
    readings = [of_readings(features=features) for features in (["a"], ["a", "b"])]
    (change,) = diff_model_settings(*(each.model_settings for each in readings))
    assert change.why == "added: b, at weight zero; kept: 1"
