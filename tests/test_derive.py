"""Derived inputs: what they are, the same bits by every way, state of rolling means, and what is refused."""

from __future__ import annotations

import itertools
import math
from collections import deque
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.autoconfig.feature_selection import select_features
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.contract.event_schema import event_schema, example_event
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import explain_recorded
from ssm_stream.engine.snapshot_format import SnapshotReader
from ssm_stream.evaluate.engine_run import run_engine
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.recordings.column_reader import ColumnReader
from ssm_stream.ingest.events import MAX_NUMBER, EventReader, Events
from ssm_stream.ingest.single_event import SingleEventReader
from ssm_stream.kafka.fast_json import FastReader
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.settings_files import read_feature_selection, write_feature_selection
from ssm_stream.verify.replay import compare, replay

DERIVE = """
  derive:
    efficiency: {ratio: [power, flow]}
    work: {product: [power, speed, speed]}
    dp: {difference: [power, in.flow]}
    log_flow: {log: flow}
    mean: {rolling_mean: flow, over: 4}
    before: {ratio: [power, flow], lag: 2}
    past: {rolling_mean: y, over: 3, lag: 1}
"""
WINDOWED = {"mean": (4, 0), "before": (1, 2), "past": (3, 1)}


ALL = f"  features: [speed]\n  categories: [mode]{DERIVE}"


def config(event: str = ALL, more: str = "") -> Config:
    return parse_config(
        "source: {brokers: a, topic: t}\nrecovery: {directory: null}\n"
        f"event:\n  entity: e\n  timestamp: t\n  target: y\n{event}\n{more}"
    )


def documents(n: int, seed: int = 0, entities: int = 5, gap: int = 60) -> list[dict[str, Any]]:
    """y is 3 power / flow; values that are missing, null, zero or negative among them."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        flow = float(rng.choice([rng.uniform(0.5, 3), 0.0, -1.0, 2.0], p=[0.9, 0.03, 0.03, 0.04]))
        power, speed = float(rng.uniform(1, 4)), int(rng.integers(1, 4))
        y = 3 * power / flow if flow > 0 else 0.0
        values: dict[str, Any] = {"power": power, "flow": flow, "speed": speed, "y": y, "mode": str(rng.integers(3))}
        for key in list(values):
            if rng.random() < 0.04:
                values[key] = None
            elif rng.random() < 0.03:
                del values[key]
        t = 1_700_000_000 + gap * i + int(rng.integers(-gap, gap))
        out.append({"e": f"m{rng.integers(entities)}", "t": t, "in": {"flow": 1.5}, **values})
    return out


def expected(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """What the derived inputs are, computed in plain Python, an event at a time."""
    past: dict[tuple[str, str], deque[float]] = {}
    out = []
    for row in rows:
        power, flow, y = (math.nan if row.get(key) is None else float(row[key]) for key in ("power", "flow", "y"))
        speed = math.nan if row.get("speed") is None else float(row["speed"])
        ratio = power / flow if flow else math.nan
        found = {
            "efficiency": ratio,
            "work": power * speed * speed,
            "dp": power - 1.5,
            "log_flow": math.log(flow) if flow > 0 else math.nan,
        }
        for name, value in (("mean", flow), ("before", ratio), ("past", y)):
            over, lag = WINDOWED[name]
            chain = past.setdefault((row["e"], name), deque([math.nan] * (over + lag), over + lag))
            chain.append(value)
            known = [each for each in list(chain)[:over] if each == each]
            found[name] = math.fsum(known) / len(known) if known else math.nan
        out.append(found)
    return out


def columns_of(made: Config, features: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(made.event.numbers, features.T, strict=False))


def test_they_are_what_they_are_called() -> None:
    made, rows = config(), documents(600)
    events, refused = EventReader(made.event).read(rows)
    assert not refused
    assert made.event.numbers == ["speed", *made.event.derive]
    assert made.event.read_numbers == ["speed", "power", "flow", "in.flow"]
    Engine(made).process(events)
    found, want = columns_of(made, events.features), expected(rows)
    for name in made.event.derive:
        np.testing.assert_allclose(found[name], [row[name] for row in want], rtol=1e-12, atol=1e-12, err_msg=name)
        assert 0 < np.isnan(found[name]).sum() < 200, name


def test_without_a_finite_result_in_32_bits_a_value_is_unknown() -> None:
    derive = "r: {ratio: [a, b]}, p: {product: [a, b]}, d: {difference: [a, b]}, l: {log: a}"
    made = config(f"  derive: {{{derive}}}")
    rows = [(MAX_NUMBER, 1e-3), (MAX_NUMBER, 2.0), (-MAX_NUMBER, MAX_NUMBER), (1.0, 0.0), (0.0, 1.0), (5e-324, 1.0)]
    rows += [(-1.0, -0.0), (None, 1.0)]
    events, refused = EventReader(made.event).read([{"e": "m", "t": 0, "a": a, "b": b} for a, b in rows])
    assert not refused
    known = ~np.isnan(events.features)
    assert known.tolist() == [
        [False, True, True, True], [True, False, True, True], [True, False, False, False], [False, True, True, True],
        [True, True, True, False], [True, True, True, False], [False, True, True, False], [False] * 4,
    ]  # fmt: skip


def same(a: Events, b: Events) -> None:
    assert a.entity == b.entity
    for name in ("features", "target", "ts", "windows"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None)
        assert x is None or (x.shape, x.tobytes()) == (y.shape, y.tobytes()), name


@pytest.mark.parametrize(
    "event", [f"  features: [speed]\n  categories: [mode]{DERIVE}", "  derive: {r: {ratio: [a, b]}}"]
)
def test_every_reader_reads_the_same_bits(event: str, tmp_path: Path) -> None:
    made = config(event)
    rows = documents(300)
    general, refused = EventReader(made.event).read(rows)
    assert not refused
    fast = FastReader(made.event).read([orjson.dumps(row) for row in rows])
    assert fast is not None, "the native reader reads what others are derived from"
    same(general, fast)
    single = SingleEventReader(made.event)
    single.read(rows)
    ones = [single.read_one(row) for row in rows]
    assert all(one is not None for one in ones)
    numbers = np.array([one.features for one in ones if one is not None])
    assert numbers.tobytes() == general.features.tobytes()
    if general.windows is not None:
        assert np.array([one.windows for one in ones if one is not None]).tobytes() == general.windows.tobytes()
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    flat = [{**row, "in.flow": 1.5} for row in rows]
    table = tmp_path / "rows.csv"
    names = ["e", "t", "in.flow", "power", "flow", "speed", "y", "mode"]
    lines = [",".join("" if row.get(name) is None else str(row[name]) for name in names) for row in flat]
    table.write_text("\n".join([",".join(names), *lines]) + "\n")
    if "in.flow" in made.event.read_numbers:
        (part,) = Recording(table).slices()
        events, refused = ColumnReader(made.event).read(part)
        assert not refused
        assert events.features.shape == general.features.shape
        assert np.array_equal(events.features[:, :4], general.features[:, :4], equal_nan=True)


def test_text_at_a_source_is_refused_as_at_a_feature() -> None:
    _, refused = EventReader(config().event).read([{"e": "m", "t": 0, "power": "much"}])
    assert [(each.fault, each.reason) for each in refused] == [("WrongType", "`power` must be a number, found 'much'")]


# The state of the windows.


@settings(max_examples=8)
@given(
    seed=st.integers(0, 2**32),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    ttl=st.sampled_from(["null", "1h", "10m"]),
    limit=st.sampled_from(["", ", max_entities: 3, when_full: evict"]),
)
def test_any_cuts_restarts_and_sources_give_the_same_bits(seed: int, cuts: list[int], ttl: str, limit: str) -> None:
    made = config(more=f"state: {{ttl: {ttl}{limit}}}\n")
    rows = documents(400, seed, gap=240)
    rng = np.random.default_rng(seed)
    for i in rng.integers(0, 400, 8).tolist():  # some are silent for long, and a time is wrong
        for row in rows[i : i + 20]:
            row["t"] += int(rng.choice([7200, 0]))
    rows[100]["t"] += 10**8
    source = [int(row["e"][1:]) % 2 for row in rows]

    def read(i: int, j: int) -> Events:
        return EventReader(made.event).read(rows[i:j])[0]

    def run(engine: Engine, i: int, j: int) -> list[bytes]:
        out = []
        for at, group in itertools.groupby(range(i, j), lambda k: source[k]):
            span = list(group)
            events = engine.admit(read(span[0], span[-1] + 1), at)[0]
            out += [row.tobytes() for row in engine.process(events, at)[0].yhat]
        return out

    whole = Engine(made)
    once = run(whole, 0, 400)
    engine, got, chain = Engine(made), list[bytes](), list[BytesIO]()
    name = ""
    for i, j in itertools.pairwise(sorted({0, *cuts, 400})):
        got += run(engine, i, j)
        file = BytesIO()
        full = not chain or engine.changed_share > 0.9 or len(chain) > 3
        chain = [] if full else chain
        name = engine.write_snapshot(file, full=full, base="" if full else name)
        chain.append(file)
        engine = Engine(made)
        for each in chain:
            engine.load(SnapshotReader(each))
        engine.finish_load()
    assert got == once
    for entity in whole.names:
        assert [engine.state_hash(entity, s) for s in (0, 1)] == [whole.state_hash(entity, s) for s in (0, 1)]
    if not limit:
        assert engine.windows._rows.keys() <= whole.windows._rows.keys()


def test_an_entity_starts_afresh_after_its_ttl() -> None:
    made = config("  derive: {m: {rolling_mean: a, over: 3}}", "state: {ttl: 1h}\n")
    # The clock follows all entities; one event advances it by a hundredth of the TTL at most.
    times = [("m", 0), ("m", 60), ("m", 120), *(("other", 120 + 36 * i) for i in range(150)), ("m", 5500), ("m", 5560)]
    rows = [{"e": e, "t": 1_700_000_000 + t, "a": float(i), "y": 1.0} for i, (e, t) in enumerate(times)]
    events = EventReader(made.event).read(rows)[0]
    Engine(made).process(events)
    assert events.features[[0, 1, 2, -2, -1], 0].tolist() == [0.0, 0.5, 1.0, 153.0, 153.5]


def test_an_input_that_is_defined_otherwise_begins_afresh() -> None:
    one = config("  derive: {m: {rolling_mean: a, over: 3}}")
    other = config("  derive: {m: {rolling_mean: a, over: 4}}")
    engine = Engine(one)
    engine.process(EventReader(one.event).read([{"e": "m", "t": 0, "a": 1.0, "y": 1.0}])[0])
    restored = Engine.restore(other, engine.snapshot())
    assert np.isnan(restored.windows._past[restored.windows._rows["m"]]).all()
    same = Engine.restore(one, engine.snapshot())
    assert same.windows._past[same.windows._rows["m"]].tolist()[-1] == 1.0


def test_removed_and_copied() -> None:
    made = config()
    engine = Engine(made)
    engine.process(EventReader(made.event).read(documents(200))[0])
    copy = Engine.restore(made, engine.snapshot())
    assert copy.state_hash("m1") == engine.state_hash("m1")
    assert engine.bytes_per_entity > sum(each.bytes_of_rows[0] for each in engine.target_engines)
    engine.remove("m1")
    assert "m1" not in engine.windows._rows
    state = Engine.restore(made, engine.snapshot())
    assert state.windows._rows.keys() == {"m0", "m2", "m3", "m4"}


def test_nothing_is_kept_without_them() -> None:
    engine = Engine(config("  features: [a]"))
    engine.process(EventReader(engine.config.event).read([{"e": "m", "t": 0, "a": 1.0, "y": 1.0}])[0])
    assert not engine.windows
    assert "windows" not in SnapshotReader(BytesIO(engine.snapshot())).metadata


# What they are good for, and where they are seen.


def test_an_input_by_design_is_worth_more_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    power, flow, noise = rng.uniform(1, 4, 1500), rng.uniform(0.5, 3, 1500), 0.1 * rng.normal(size=1500)
    rows = [
        {"e": "m", "t": 60 * i, "power": p, "flow": f, "y": 3 * p / f + e}
        for i, (p, f, e) in enumerate(zip(*(x.tolist() for x in (power, flow, noise)), strict=True))
    ]
    errors = []
    for derive in ("", ", derive: {efficiency: {ratio: [power, flow]}}"):
        made = parse_config(
            "source: {brokers: a, topic: t}\n"
            f"event: {{entity: e, timestamp: t, target: y, features: [power, flow], lags: 0{derive}}}\n"
        )
        run = run_engine(made, rows)
        errors.append(np.abs(run.y - run.yhat)[300:].mean())
    assert errors[1] < 0.5 * errors[0], errors  # the products of the parts get half of it
    assert errors[1] < 0.09


def test_verify_and_explain_see_the_same_inputs() -> None:
    made, rows = config(), documents(400, entities=2)
    seen = replay(made, rows, lambda _: None)
    want = expected(rows)
    for j, name in enumerate(made.event.numbers[1:], 1):
        np.testing.assert_allclose(seen.u[:, j], [row[name] for row in want], rtol=1e-12, atol=1e-12)
    deviation = compare(seen, lambda _: None).recorder.deviation
    assert deviation.answer[deviation.learned].max() < 1e-2
    found, history = explain_recorded(made, rows, "m1", history=3)
    assert found.derived["efficiency"] == "power / flow"
    assert found.derived["before"] == "power / flow, 2 events before"
    assert found.derived["mean"] == "mean of flow over 4 events"
    values = {part.feature: part.value for part in found.parts}
    last = [i for i, row in enumerate(rows) if row["e"] == "m1"][-1]
    for name in ("mean", "past", "work"):
        assert values[name] == pytest.approx(want[last][name], nan_ok=True) or math.isnan(want[last][name])
    assert len(history) == 2, "of its first event nothing has been learned yet"


def test_automatic_selection_has_them_and_remarks_what_is_odd() -> None:
    made = config("  features: auto\n  derive:\n    r: {ratio: [power, flow]}\n    none: {log: nothing}\n")
    rows = [
        {**row, "y": 3 * row["power"] / row["flow"]} for row in documents(100) if row.get("power") and row.get("flow")
    ]
    found = select_features(made, rows)
    assert found.config.event.numbers[-2:] == ["r", "none"]
    assert {"power", "flow", "speed"} <= set(found.config.event.numbers)
    text = " ".join(found.remarks)
    assert "r = power / flow: moves with the target almost exactly" in text
    assert "none = log(nothing): known in only 0 of" in text


def test_the_schema_of_events_has_what_is_read() -> None:
    made = config()
    assert {"power", "flow", "speed", "in"} <= set(example_event(made))
    assert "efficiency" not in str(event_schema(made)["properties"].keys())


REFUSALS = {
    "derive: {x: {ratio: [power, y]}}": "derive.x: 'y' is a target, which is not known yet when the event is predicted",
    "derive: {x: {product: [y, power]}}": "add `lag: 1` for its value at the event before, or leave it out",
    "derive: {x: {rolling_mean: y, over: 5}}": "derive.x: 'y' is a target",
    "derive: {x: {ratio: [power]}}": "event.derive.x.ratio: List should have at least 2 items",
    "derive: {x: {log: power, ratio: [a, b]}}": "found ratio and log: two inputs",
    "derive: {x: {}}": "found no operation; write one of ratio, product, difference, log, rolling_mean",
    "derive: {x: {rolling_mean: power}}": "over how many events? write `over: 20`",
    "derive: {x: {log: power, over: 3}}": "over: found 3 with log",
    "derive: {x: {log: a}, z: {log: x}}": "derive.z: 'x' is itself derived",
    "derive: {y: {log: a}}": "derive: 'y' is the name of another column",
    "derive: {x: {log: mode}}, categories: [mode]": "derive.x: 'mode' is a category",
    "derive: {x: {ratoi: [a, b]}}": "event.derive.x.ratoi: unknown key; did you mean `ratio`?",
    "derive: {x: {rolling_mean: a, over: 5000}}": "event.derive.x.over: Input should be less than or equal to 512",
}


@pytest.mark.parametrize("event", REFUSALS)
def test_what_cannot_be_is_refused_with_the_cure(event: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(f"source: {{brokers: a, topic: t}}\nevent: {{entity: e, timestamp: t, target: y, {event}}}\n")
    assert REFUSALS[event] in str(refused.value)


def test_every_feature_as_target_leaves_no_room_for_them() -> None:
    text = "event: {entity: e, timestamp: t, features: [a, b], target: all, derive: {x: {ratio: [a, b]}}}"
    with pytest.raises(ConfigError, match="a derived one would hold it"):
        parse_config(f"source: {{brokers: a, topic: t}}\n{text}\n")
    late = "event: {entity: e, timestamp: t, target: y, derive: {x: {log: y, lag: 1}}}\nlabels: {topic: l}"
    with pytest.raises(ConfigError, match="`labels`, which bring it after its event"):
        parse_config(f"source: {{brokers: a, topic: t}}\n{late}\n")


def test_a_listed_name_is_there_once() -> None:
    both = [config(f"  features: [{listed}]\n  derive: {{r: {{ratio: [a, b]}}}}") for listed in ("a, r", "a")]
    assert both[0].event.numbers == both[1].event.numbers == ["a", "r"]
    assert both[0].hash == both[1].hash


def test_a_selection_belongs_to_the_derived_inputs_that_it_was_made_with(tmp_path: Path) -> None:
    made = config("  features: auto\n  derive: {r: {ratio: [power, flow]}}\n")
    resolved = select_features(made, documents(100)).config
    write_feature_selection(tmp_path, made, resolved)
    where = made.recovery.model_copy(update={"directory": tmp_path})
    assert read_feature_selection(tmp_path, made.replace(recovery=where)) == resolved.replace(recovery=where)
    other = config("  features: auto\n")
    with pytest.raises(RecoveryError, match=r"derive .* → None"):
        read_feature_selection(tmp_path, other)
