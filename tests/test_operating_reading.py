"""What conditions, flags and limits read: alike by each reader, and as a definition that is written out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.autoconfig.feature_selection import select_features
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.recordings.column_reader import ColumnReader
from ssm_stream.ingest.event_columns import COLUMNS, Events
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.single_event import SingleEventReader
from ssm_stream.kafka.fast_json import FastReader

SETTINGS = """
  when:
    - {entities: "pump-*", state: [running, auto], load: {above: 10}}
    - {entities: "oven-*", hot: true}
  quality: {column: quality, good: [good, 192], columns: {load: load_quality}}
"""


def configured(more: str = SETTINGS) -> Config:
    return parse_config(
        f"""
source: {{brokers: a, topic: t}}
event:
  entity: m
  timestamp: ts
  features: [load, x]
  categories: [kind]
  target: y
  derive: {{share: {{ratio: [power, load]}}}}
{more}
alerts:
  limits:
    - {{column: power, above: 5}}
    - {{column: door, one_of: [open]}}
"""
    )


NUMBERS = st.sampled_from([None, 0.0, 5.0, 20.0, 21])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "m": st.sampled_from(["pump-1", "oven-1", "fan-1"]),
            "ts": st.integers(1_700_000_000, 1_700_000_100),
            "load": NUMBERS,
            "x": NUMBERS,
            "y": NUMBERS,
            "power": NUMBERS,
            "kind": st.sampled_from([None, "a", "b"]),
            "state": st.sampled_from([None, "running", "auto", "stop"]),
            "hot": st.sampled_from([None, True, False]),
            "door": st.sampled_from([None, "open", "shut"]),
            "quality": st.sampled_from(["good", "good", "good", "bad", None]),
            "load_quality": st.sampled_from([192, 192, 192, 0, None]),
        }
    ),
    min_size=1,
    max_size=12,
)


def assert_same(found: Events, expected: Events) -> None:
    assert (found.entity, found.category_texts or {}) == (expected.entity, expected.category_texts or {})
    for name in COLUMNS:
        ours, theirs = getattr(found, name), getattr(expected, name)
        if ours is None or theirs is None:
            assert ours is theirs, name
        else:
            assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes()), name


def is_idle(row: dict[str, Any]) -> bool:
    if row["m"] == "pump-1":
        return not (row["state"] in ("running", "auto") and row["load"] is not None and row["load"] > 10)
    return row["m"] == "oven-1" and row["hot"] is not True


@settings(max_examples=100)
@given(ROWS)
def test_each_reader_reads_what_the_definition_says(rows: list[dict[str, Any]]) -> None:
    made = configured()
    assert made.event.context == ["state", "hot", "quality", "load_quality", "power", "door"]
    events, refused = EventReader(made.event).read(rows)
    assert not refused
    fast = FastReader(made.event).read([orjson.dumps(row) for row in rows])
    assert fast is not None
    assert_same(fast, events)
    assert events.idle is not None
    assert events.doubtful is not None
    assert events.context is not None
    for i, row in enumerate(rows):
        bad = row["quality"] != "good"
        load = None if bad or row["load_quality"] != 192 else row["load"]
        x, y, power = (None if bad else row[name] for name in ("x", "y", "power"))
        share = power / load if power is not None and load else None
        assert events.idle[i] == is_idle(row)
        assert np.array_equal(events.features[i, :3], _array(load, x, share), equal_nan=True)
        assert np.array_equal(events.measured[i], _array(y)[0], equal_nan=True)
        assert np.array_equal(events.target[i], _array(None if is_idle(row) else y)[0], equal_nan=True)
        assert np.array_equal(events.context[i, 4], _array(power)[0], equal_nan=True)
        lost = [load, x, y, power, None if bad else row["kind"], None if bad else row["state"]]
        lost += [None if bad else row["hot"], None if bad else row["door"]]
        given_ = [row[name] for name in ("load", "x", "y", "power", "kind", "state", "hot", "door")]
        assert events.doubtful[i] == any(a is None and b is not None for a, b in zip(lost, given_, strict=True))
    single = SingleEventReader(made.event)
    assert all(single.read_one(row) is None for row in rows)


def _array(*values: float | None) -> Any:
    return np.array([math.nan if value is None else value for value in values], np.float64)


@settings(max_examples=25)
@given(ROWS)
def test_a_recording_is_read_as_its_rows_are(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    made = configured()
    file: Path = tmp_path_factory.mktemp("rows") / "rows.csv"
    names = list(rows[0])
    lines = [",".join("" if row[name] is None else str(row[name]) for name in names) for row in rows]
    file.write_text("\n".join([",".join(names), *lines]) + "\n")
    for part in Recording(file).slices():
        found, refused = ColumnReader(made.event).read(part)
        expected, also = EventReader(made.event).read(part.rows())
        assert refused == also
        assert_same(found, expected)


@settings(max_examples=25)
@given(ROWS, st.data())
def test_rows_that_are_taken_are_those_of_the_columns(rows: list[dict[str, Any]], data: Any) -> None:
    reader = EventReader(configured().event)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    found = reader.read(rows)[0].take(np.array(chosen, np.intp))
    expected = reader.read([rows[i] for i in chosen])[0]
    for name in ("ts", "features", "context", "idle", "doubtful", "measured"):
        assert np.array_equal(getattr(found, name), getattr(expected, name), equal_nan=name not in ("ts", "idle"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("  when: {m: pump-1}", "the entity or the time"),
        ("  when: {}", "name at least one field"),
        ("  when: running", "write fields and their values"),
        ("  when: {state: {above: x}}", "above"),
        ("  quality: {good: [good]}", "found no flag"),
        ("  quality: {column: load}", "is an input or a target, and a flag"),
        ("  quality: {column: q, good: []}", "a list names at least one value"),
        ("  quality: {columns: {load: x}, good: {above: 0}}", "is an input or a target, and a flag"),
        ("  quality: {columns: {load: load}}", "is judged by its own value"),
    ],
)
def test_what_the_file_may_not_say(more: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        configured(more)


def test_a_number_may_be_its_own_flag() -> None:
    own = "quality: {columns: {load: load, y: y, power: power}, good: {above: -9999}}"
    reader = EventReader(configured("  " + own).event)
    rows = [
        {"m": "a", "ts": 1, "load": -9999, "x": -9999, "y": 5.0, "power": 4.0},
        {"m": "a", "ts": 2, "load": 2.0, "x": 1.0, "y": -9999, "power": -9999},
        {"m": "a", "ts": 3, "load": 2.0, "x": None, "y": None, "power": 3.0},
    ]
    events = reader.read(rows)[0]
    names = configured("  " + own).event.columns
    assert np.array_equal(events.features[:, names.index("load")], [np.nan, 2.0, 2.0], equal_nan=True)
    assert np.array_equal(events.features[:, names.index("x")], [-9999.0, 1.0, np.nan], equal_nan=True)
    assert np.array_equal(events.features[:, names.index("share")], [np.nan, np.nan, 1.5], equal_nan=True)
    assert np.array_equal(events.target, [5.0, np.nan, np.nan], equal_nan=True)
    assert events.doubtful is not None
    assert events.doubtful.tolist() == [True, True, False]
    every = parse_config(
        "source: {brokers: a, topic: t}\n"
        "event: {entity: m, timestamp: ts, target: all, features: [load, x], "
        "quality: {columns: {load: load}, good: {from: 0}}}"
    )
    events = EventReader(every.event).read(rows)[0]
    assert np.array_equal(events.target[:, 0], [np.nan, 2.0, 2.0], equal_nan=True)


def test_settings_that_are_absent_change_no_hash() -> None:
    assert {"when", "quality"}.isdisjoint(configured("").model_settings["event"])
    settings_ = configured().model_settings["event"]
    assert settings_["when"][0] == {
        "entities": "pump-*",
        "state": {"one_of": ["running", "auto"]},
        "load": {"above": 10.0},
    }


def test_a_flag_is_no_feature() -> None:
    made = parse_config(
        "source: {brokers: a, topic: t}\n"
        "event: {entity: m, timestamp: ts, features: auto, target: y, quality: {column: q}, when: {state: on}}"
    )
    rows = [{"m": "a", "ts": i, "y": i, "x": i % 7, "q": ["good", "bad"][i % 2], "state": "on"} for i in range(50)]
    found = select_features(made, rows).config.event
    assert "q" not in found.columns
    assert found.context[-1] == "q"
    assert EventReader(found).read(rows)[0].doubtful.sum() == 25
