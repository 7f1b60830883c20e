"""Readings → rows: equal to a join as of the row's time, however they come, and over a topic as in a file."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from engines import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ssm_stream import Engine as PublicEngine
from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, Event, parse_config, read_config
from ssm_stream.core.loop import Predictions
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.document_engine import DocumentEngine
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.ingest.event_columns import concatenate
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.rows.stage import read_rows, row_builder

SIGNALS = ("y", "a", "b")
Reading = dict[str, Any]
FOLDED = {"layout": "readings", "entity": "machine", "signal": "signal", "timestamp": "ts"}


def config(**event: Any) -> Config:
    """A configuration of readings."""
    given = {**FOLDED, "target": "y", "features": ["a", "b"], **event}
    if "tag" in given:
        given = {name: value for name, value in given.items() if name not in ("entity", "signal")}
    return read_config({
        "source": {"brokers": "-", "topic": "readings"},
        "sinks": {"predictions": "p", "alerts": "al", "dead_letters": "d"},
        "event": given,
    })  # fmt: skip


def reading(signal: str, ts: int, value: Any, machine: str = "m", **more: Any) -> Reading:
    return {"machine": machine, "signal": signal, "ts": 1_700_000_000_000 + ts, "value": value, **more}


def stream(n: int, seed: int, machines: int = 4, span: int = 1_000) -> list[Reading]:
    """n readings of the machines, in the order of their times, which differ."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.choice(n * span // 2, n, replace=False)).tolist()
    names = rng.choice([*SIGNALS, "unused"], n).tolist()
    who, values = rng.integers(0, machines, n).tolist(), rng.normal(size=n).tolist()
    return [reading(*each[:3], f"m{each[3]}") for each in zip(names, ts, values, who, strict=True)]


def in_order(rows: Events) -> dict[str, Any]:
    """The rows of each entity in the order in which they were made, entity after entity."""
    at = np.argsort(np.array(rows.entity), kind="stable")
    return {
        "entity": [rows.entity[i] for i in at.tolist()],
        "ts": rows.ts[at],
        "features": rows.features[at],
        "target": rows.target[at],
    }


def assert_equal_rows(one: Events, other: Events) -> None:
    mine, theirs = in_order(one), in_order(other)
    assert mine["entity"] == theirs["entity"]
    for name in ("ts", "features", "target"):
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def joined(left: pl.DataFrame, readings: Sequence[Reading], signals: Iterable[str], tolerance: int) -> pl.DataFrame:
    """Return the left rows with the last value of each signal as of their times, by polars."""
    frame = pl.DataFrame(readings)
    for name in signals:
        own = frame.filter(pl.col("signal") == name).select("machine", "ts", pl.col("value").alias(name)).sort("ts")
        left = left.sort("ts").join_asof(own, on="ts", by="machine", tolerance=tolerance, check_sortedness=False)
    return left.sort("machine", "ts", maintain_order=True).fill_null(float("nan"))


@pytest.mark.parametrize("grace", ["0s", "700ms"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_equal_a_join_as_of_the_targets_time(seed: int, grace: str) -> None:
    readings = stream(4_000, seed)
    rows, refused = read_rows(config(max_age="20s", grace=grace).event, readings)
    assert not refused
    targets = pl.DataFrame(readings).filter(pl.col("signal") == "y").rename({"value": "y"}).drop("signal")
    expected, mine = joined(targets, readings, ["a", "b"], 20_000), in_order(rows)
    assert mine["entity"] == expected["machine"].to_list()
    for found, name in ((mine["ts"], "ts"), (mine["target"], "y")):
        np.testing.assert_array_equal(found, expected[name].to_numpy())
    np.testing.assert_array_equal(mine["features"], expected.select("a", "b").to_numpy())
    assert 0.01 < np.isnan(mine["features"]).mean() < 0.5


@pytest.mark.parametrize("grace", ["0s", "2s"])
def test_rows_of_a_grid_equal_a_join_as_of_its_times(grace: str) -> None:
    readings = [each for each in stream(3_000, 5) if each["signal"] != "unused" or each["ts"] % 7]
    rows, refused = read_rows(config(max_age="15s", grace=grace, every="5s").event, readings)
    assert not refused
    used = pl.DataFrame(readings).filter(pl.col("signal") != "unused")
    ticks = []
    for (name,), own in used.group_by("machine"):
        first, last = int(own["ts"].min()), int(own["ts"].max())  # type: ignore[arg-type]
        ticks += [{"machine": name, "ts": ts} for ts in range(-(-first // 5_000) * 5_000, last + 1, 5_000)]
    expected = joined(pl.DataFrame(ticks), readings, SIGNALS, 15_000)
    expected = expected.filter(~pl.all_horizontal(pl.col(*SIGNALS).is_nan()))
    mine = in_order(rows)
    assert mine["entity"] == expected["machine"].to_list()
    np.testing.assert_array_equal(mine["ts"], expected["ts"].to_numpy())
    np.testing.assert_array_equal(mine["target"], expected["y"].to_numpy())
    np.testing.assert_array_equal(mine["features"], expected.select("a", "b").to_numpy())
    assert rows.number is not None
    assert len(set(rows.number.tolist())) == len(rows)


def shuffled(readings: Sequence[Reading], grace: int, seed: int) -> list[Reading]:
    """Return the readings in another order, in which none is further behind another than `grace` ms."""
    rng = random.Random(seed)
    return sorted(readings, key=lambda each: (each["ts"] + rng.uniform(0, grace), rng.random()))


READINGS = st.lists(
    st.tuples(
        st.sampled_from(SIGNALS), st.integers(0, 60), st.one_of(st.none(), st.floats(-5, 5)), st.sampled_from("mno")
    ),
    max_size=60,
    unique_by=lambda each: (each[0], each[1], each[3]),  # of one signal and time, the last to come counts
)


@settings(max_examples=150)
@given(
    READINGS,
    st.integers(1, 20),
    st.sampled_from([None, 4, 7]),
    st.sampled_from([None, "9ms", {"a": "3ms"}]),
    st.integers(0, 5),
)
def test_any_interleaving_within_grace_gives_equal_rows(
    found: list[tuple[Any, ...]], grace: int, every: int | None, max_age: Any, seed: int
) -> None:
    """Also several readings of one time, in any order."""
    event = config(grace=f"{grace}ms", max_age=max_age, every=None if every is None else f"{every}ms").event
    readings = sorted((reading(*each) for each in found), key=lambda each: each["ts"])
    expected, refused = read_rows(event, readings)
    rows, more = read_rows(event, shuffled(readings, grace, seed))
    assert not refused
    assert not more
    assert_equal_rows(rows, expected)


def built(event: Any, readings: Sequence[Reading], cuts: Iterable[int], *, reload: bool) -> tuple[Any, ...]:
    """Rows, their causes and late readings of readings that come in parts; with a restart after each part."""
    reader, builder = MessageReader(event), row_builder(event)
    assert builder is not None
    edges = sorted({0, len(readings), *cuts})
    out: list[Any] = []
    for start, stop in itertools.pairwise(edges):
        messages, _ = reader.read(readings[start:stop])
        place = (messages.position + start).tolist()
        rows = builder.add(messages, place, 0)
        late = [(place[each.position], each.fault, each.reason) for each in rows.late]
        of = rows.events
        number = [0] * len(rows) if of.number is None else of.number.tolist()
        out.append((of.entity, of.ts.tolist(), of.features.tolist(), of.target.tolist(), number, rows.offsets, late))
        if reload:
            state, builder = builder.dump(), row_builder(event)
            assert builder is not None
            builder.load(state)
    last = builder.flush().events
    out.append((last.entity, last.ts.tolist(), last.features.tolist(), last.target.tolist(), [], [], []))
    return tuple([each for part in column for each in part] for column in zip(*out, strict=True))


@pytest.mark.parametrize("event", [{}, {"grace": "2s"}, {"grace": "300ms", "every": "1s"}, {"every": "3s"}])
def test_no_cut_and_no_restart_changes_a_row(event: dict[str, Any]) -> None:
    section = config(**event).event
    readings = shuffled(stream(900, 3), 1_000, 4)
    whole = built(section, readings, (), reload=False)
    assert len(whole[0]) > 100
    for seed in range(4):
        cuts = random.Random(seed).sample(range(len(readings)), 7)
        assert repr(built(section, readings, cuts, reload=False)) == repr(whole)
        assert repr(built(section, readings, cuts, reload=True)) == repr(whole)
    assert whole[5] == sorted(whole[5]), "causes never go back"
    assert bool(whole[6]) == (section.grace < 1)


def test_a_reading_that_is_too_late_is_refused_and_says_by_how_much() -> None:
    event = config(grace="5s").event
    readings = [reading("a", 0, 1.0), reading("a", 10_000, 2.0), reading("a", 4_999, 3.0), reading("a", 5_000, 4.0)]
    rows, refused = read_rows(event, readings)
    assert not len(rows)
    assert [(each.position, each.fault) for each in refused] == [(2, Fault.LATE)]
    assert refused[0].reason == (
        "'a' of 'm' at 2023-11-14T22:13:24.999Z is 5.001s behind the entity's latest reading, "
        "2023-11-14T22:13:30Z; event.grace is 5s: for readings that come so late it must be longer"
    )


def test_a_clock_that_was_wrong_does_not_end_an_entity() -> None:
    """One reading from the year 2099 makes all others late; after 100 of them the entity starts again."""
    event = config(max_age="1m").event
    readings = [reading("a", 0, 1.0), reading("a", 10**12, 2.0)]
    readings += [reading(name, 1_000 * t, float(t)) for t in range(1, 200) for name in ("a", "y")]
    rows, refused = read_rows(event, readings)
    assert len(refused) == 99
    assert len(rows) == 150
    np.testing.assert_array_equal(rows.features[1:, 0], rows.target[1:])


def test_by_default_a_value_is_unknown_after_ten_of_its_usual_gaps() -> None:
    """Whatever the gap is: a signal that comes every ten minutes is known for longer than one of every second."""
    event = config().event
    fast = [reading("a", 1_000 * t, 1.0) for t in range(30)]
    slow = [reading("b", 600_000 * t - 600_000 * 20, 2.0) for t in range(20)]
    targets = [reading("y", ts, 0.0) for ts in (39_000, 39_001, 5_400_000, 5_400_001)]
    rows, refused = read_rows(event, sorted([*fast, *slow, *targets], key=lambda each: each["ts"]))
    assert not refused
    np.testing.assert_array_equal(rows.features[:, 0], [1.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(rows.features[:, 1], [2.0, 2.0, 2.0, np.nan])


def test_a_pause_of_an_entity_is_not_filled_for_ever() -> None:
    rows, _ = read_rows(
        config(every="1s").event, [reading("y", 1_000 * t, 1.0) for t in (0, 1, 2, 3, 10**6, 10**6 + 2)]
    )
    assert (rows.ts - 1_700_000_000_000).tolist() == [*range(0, 14_000, 1_000), *range(10**9, 10**9 + 3_000, 1_000)]


def test_entity_and_signal_from_one_text() -> None:
    event = config(tag={"field": "tag.name", "pattern": "*/{entity}/{signal}@x"}, only=["P*"]).event
    tags = ["x/P1/y@x", "x/P1/a@x", "x/P1/other@x", "P1.a", "x/Z/y@x", "x/z/P1/y@x"]
    readings = [{"tag": {"name": tag}, "ts": t, "value": t} for t, tag in enumerate(tags)]
    rows, refused = read_rows(event, readings)
    assert (rows.entity, rows.target.tolist(), rows.features[1].tolist()[:1]) == (["P1"] * 2, [0.0, 5.0], [1.0])
    assert [each.position for each in refused] == [3]
    assert refused[0].reason == "tag: `tag.name` is not of the form '*/{entity}/{signal}@x', found 'P1.a'"


def test_a_tag_is_split_as_late_as_possible() -> None:
    event = config(tag="{entity}.{signal}").event
    rows, refused = read_rows(
        event, [{"tag": f"LINE-1.P-3.{name}", "ts": t, "value": t} for t, name in enumerate("aby")]
    )
    assert not refused
    assert rows.entity == ["LINE-1.P-3"]
    np.testing.assert_array_equal(rows.features, [[0.0, 1.0]])
    assert event.entity == "tag"


def test_flags_texts_and_wrong_values() -> None:
    event = config(categories=["state"], quality={"column": "q", "good": [192, "good"]}, max_age="1h").event
    readings = [
        reading("a", 0, 1.5, q="good"),
        reading("state", 1, "run", q=192),
        reading("b", 2, "run", q=192),  # a number is expected
        reading("b", 3, True, q=192),
        reading("y", 4, 2.5, q="good"),
        reading("a", 5, 9.5, q="bad"),
        reading("y", 6, 3.5, q="good"),
        reading("a", 7, 2.0, q=192),
        reading("state", 8, None, q=192),
        reading("y", 9, 4.5),  # without a flag
        reading("a", 10, [1], q=192),
    ]
    rows, refused = read_rows(event, readings)
    assert [(each.position, each.fault) for each in refused] == [(2, Fault.WRONG_TYPE), (10, Fault.WRONG_TYPE)]
    assert "of the signal 'b' must be a number, found 'run'" in refused[0].reason
    code = next(iter(rows.category_texts or {}))
    assert rows.category_texts == {code: "run"}
    np.testing.assert_array_equal(rows.features, [[1.5, 1.0, code], [np.nan, 1.0, code], [2.0, 1.0, np.nan]])
    np.testing.assert_array_equal(rows.target, [2.5, 3.5, np.nan])
    assert rows.doubtful is not None
    assert rows.doubtful.tolist() == [False, True, True]


def test_what_depends_on_rows_works_on_them() -> None:
    """Derived inputs, conditions and limits name signals."""
    made = config(
        derive={"ratio": {"ratio": ["a", "b"]}}, features=["a"], when={"mode": {"above": 0}}, target="y", max_age="1h"
    )
    readings = [reading(name, t, value) for t, (name, value) in enumerate(
        [("a", 6.0), ("b", 2.0), ("mode", 1), ("y", 1.0), ("mode", 0), ("y", 2.0)]
    )]  # fmt: skip
    rows, _ = read_rows(made.event, readings)
    np.testing.assert_array_equal(rows.features, [[6.0, 3.0]] * 2)
    assert rows.idle is not None
    assert rows.idle.tolist() == [False, True]
    np.testing.assert_array_equal(rows.target, [1.0, np.nan])


def test_a_state_goes_on_with_another_grace_and_age() -> None:
    before, after = config(grace="3s", max_age="5s"), config(grace="1s", max_age="9s")
    engine = DocumentEngine(before)
    readings = stream(400, 1)
    engine.process_documents(readings[:300])
    moved = Engine.restore(after, engine.snapshot())
    assert moved.rows is not None
    messages, _ = MessageReader(after.event).read(readings[300:])
    assert len(moved.rows.add(messages, messages.position.tolist(), 0))


def plain_and_readings(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> Iterator[list[Reading]]:
    for row in rows:
        yield [{"machine": row["entity"], "signal": c, "ts": row["ts"], "value": row[c]} for c in (*columns, "target")]


@pytest.mark.parametrize("name", ["skab_shared", "gas_turbine_nox"])
def test_a_recording_as_readings_gives_the_predictions_of_its_rows(name: str) -> None:
    file = Path(__file__).parents[2] / "shared" / "data" / f"{name}.csv.gz"
    if not file.exists():
        pytest.skip(f"no recording {file}")
    rows = list(Recording(file, 1_500))
    columns = [c for c in rows[0] if c not in ("entity", "ts", "target") and not c.startswith("label")]
    event = {"target": "target", "features": columns}
    settings_of_readings = config(**event, max_age="365d")
    plain = settings_of_readings.replace(event=Event(entity="entity", timestamp="ts", **event))
    readings = [each for some in plain_and_readings(rows, columns) for each in some]
    expected, found = (
        Predictions(*map(np.concatenate, zip(*(chunk.predictions for chunk in prequential(made, given)), strict=True)))
        for made, given in ((plain, rows), (settings_of_readings, readings))
    )
    assert_same_bits(found._asdict(), expected._asdict())


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"signal": None}, "neither of `signal` and `tag`"),
        ({"every": "1s", "max_age": "3h"}, "more than 10000 rows"),
        ({"max_age": {"c": "1s"}}, r"\['c'\] is no signal that is used; the signals are a, b, y"),
        ({"features": "auto"}, "list the signals"),
        ({"tag": "{entity}{signal}"}, "nothing between"),
        ({"tag": "{entity}.x"}, "0 times {signal}"),
        ({"layout": "events", "signal": None, "grace": "1s"}, "found without `layout: readings`"),
        ({"grace": "-1s"}, "write a duration"),
        ({"quality": {"columns": {"a": "q"}}}, "write `column`"),
    ],
)
def test_settings_that_cannot_be(event: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(**event)


def test_one_by_one_as_dicts_is_the_same() -> None:
    made, readings = config(grace="500ms", max_age="9s"), stream(600, 2)
    whole = DocumentEngine(made).process_documents(readings)
    engine, out = DocumentEngine(made), []
    for i, each in enumerate(readings):
        out += [one._replace(row=i) for one in engine.process_document(each).predictions]
    assert repr(out) == repr(whole.predictions)
    assert len(out) > 100


def test_a_plain_section_is_not_touched() -> None:
    event = Event(entity="e", timestamp="t", features=["a"])
    assert row_builder(event) is None
    documents = [{"e": "m", "t": 1, "a": 2, "target": 3}, {"e": "m"}]
    events, refused = read_rows(event, documents)
    expected, more = EventReader(event).read(documents)
    assert (events.features.tolist(), refused) == (expected.features.tolist(), more)


def test_every_signal_as_a_target() -> None:
    """On a grid, where no signal leads; each is predicted from its own past and from the others."""
    made = config(target="all", features=list(SIGNALS), every="2s", max_age="20s")
    rows, _ = read_rows(made.event, stream(800, 6, machines=2))
    assert rows.target.shape == (len(rows), 3)
    assert rows.features.shape == (len(rows), 0)
    found = DocumentEngine(made).process_documents(stream(800, 6, machines=2))
    assert {each.target for each in found.predictions} == set(SIGNALS)


def test_a_file_by_tag_is_sorted_and_overtaken_readings_are_counted() -> None:
    made, readings = config(max_age="1m"), stream(2_000, 8)
    for each in readings:
        each["ts"] -= each["ts"] % 500  # several readings of one time
    readings = list({(each["machine"], each["signal"], each["ts"]): each for each in readings}.values())
    by_tag = sorted(readings, key=lambda each: (each["signal"], each["machine"]))
    chunks = list(prequential(made, by_tag))
    assert chunks[-1].sorted
    assert not any(chunk.refused for chunk in chunks)
    assert sum(chunk.height for chunk in chunks) == len(readings)
    assert chunks[-1].overtaken == 0
    expected, _ = read_rows(config(max_age="1m", grace="1ms").event, by_tag[:0] + sorted(
        by_tag, key=lambda each: each["ts"]
    ))  # fmt: skip
    events = [chunk.events for chunk in chunks]
    assert_equal_rows(concatenate(events), expected)
    rows = np.concatenate([chunk.first + chunk.events.position for chunk in chunks if len(chunk.events)])
    assert [by_tag[i]["signal"] for i in rows.tolist()] == ["y"] * len(rows)
    plain = list(prequential(made, readings))
    assert not plain[-1].sorted
    assert plain[-1].overtaken > 10


@pytest.mark.parametrize(("every", "absent"), [("", 2), (", every: 10s", 0)])
def test_machines_without_a_row_are_named_with_the_cure(tmp_path: Path, every: str, absent: int) -> None:
    """Fans have no TEMP, at whose readings rows are made: nothing of them was watched, and nobody knew."""
    names = {"P1": ("TEMP", "POWER"), "F1": ("SPEED", "POWER"), "F2": ("SPEED", "POWER")}
    file, monitor = tmp_path / "tags.jsonl", tmp_path / "tags.yaml"
    with file.open("wb") as out:
        for i in range(300):
            for machine, signals in names.items():
                for signal in signals:
                    row = {"tag": f"{machine}.{signal}", "t": 1_700_000_000_000 + 10_000 * i, "value": 5 + i % 7}
                    out.write(orjson.dumps(row) + b"\n")
    monitor.write_text(
        "source: {topic: a, brokers: b}\nevent: {layout: readings, tag: '{entity}.{signal}', timestamp: t, "
        f"features: [TEMP, POWER, SPEED], target: all{every}}}\n"
    )
    result = CliRunner().invoke(app, ["backtest", str(monitor), str(file)])
    assert result.exit_code == 0, result.output
    cure = "2 of the entities (F1, F2) have readings and no row"
    assert (cure in result.output) == bool(absent)
    assert ("event.every: 1m" in result.output) == bool(absent)
    found = orjson.loads(CliRunner().invoke(app, ["backtest", str(monitor), str(file), "--json"]).stdout)
    assert found.get("rowless", []) == ["F1", "F2"][:absent]


def test_a_signal_that_no_reading_has_is_named(tmp_path: Path) -> None:
    file = tmp_path / "readings.jsonl"
    file.write_text("".join(f"{orjson.dumps(each).decode()}\n" for each in stream(50, 1)))
    Recording(file).check_columns(config())
    with pytest.raises(ConfigError, match=r"event\.features: no signal 'unusd' in .*; did you mean `unused`\?"):
        Recording(file).check_columns(config(features=["a", "unusd"]))
    with pytest.raises(ConfigError, match=r"event\.signal: no column 'sig'"):
        Recording(file).check_columns(config(signal="sig"))


def test_a_clock_that_was_never_set_is_not_forgotten() -> None:
    """A snapshot forgets those that have not come for `state.ttl`; one whose own clock is behind comes."""
    event = "layout: readings, tag: '{entity}.{signal}', timestamp: t, target: power, features: [speed]"
    text = f"source: {{brokers: 'x:1', topic: t}}\nevent: {{{event}}}\nstate: {{ttl: 1h}}\n"
    found, states, state = [], [], b""
    for every in (10_000, 1, 30):
        engine, predictions = PublicEngine(parse_config(text)), []
        for i in range(200):
            for name, start in (("p1", 1_767_225_600), ("p2", 1_767_225_600), ("of-1970", 0), ("gone", 0)):
                if name == "gone" and i > 20:
                    continue
                values = (("speed", i % 7), ("power", 3 * (i % 7)))
                some = [{"tag": f"{name}.{signal}", "t": start + 60 * i, "value": value} for signal, value in values]
                predictions += engine.run(some).predictions
            if i % every == every - 1:
                state = engine.snapshot()
        if every < 10_000:
            engine = PublicEngine.restore(parse_config(text), state)
        found.append([(each.entity, each.ts, each.yhat) for each in predictions])
        states.append(engine.snapshot())
    assert found[0] == found[1] == found[2]
    assert [b"gone" in state for state in states] == [True, False, False]
    assert all(b"of-1970" in state for state in states)
