"""What is an event, what is refused and why; many documents at once read as each alone."""

from __future__ import annotations

import math
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssm_stream.config import ConfigError, Event
from ssm_stream.ingest.events import MAX_CACHED_CODES, MAX_NUMBER, EventReader, Events, RefusedDocument, text_code

EVENT = Event(entity="machine", timestamp="ts", features=["load", "speed"], target="temp")
READER = EventReader(EVENT)
NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z in ms
LONG_INT = 10**5000  # Python does not even print it


def document(**changed: Any) -> dict[str, Any]:
    return {"machine": "press-1", "ts": NOON, "load": 1.5, "speed": 2, "temp": 20, **changed}


def without(field: str) -> dict[str, Any]:
    return {key: value for key, value in document().items() if key != field}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def reader(**changed: Any) -> EventReader:
    return EventReader(EVENT.model_copy(update=changed))


def read_one(doc: Any, by: EventReader = READER) -> Events | RefusedDocument:
    """One document alone: its event, or its refusal; never both, never neither."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        events, refused = by.read([doc])
    assert len(events) + len(refused) == 1
    return refused[0] if refused else events


def refusal(doc: Any, by: EventReader = READER) -> RefusedDocument:
    got = read_one(doc, by)
    assert isinstance(got, RefusedDocument), got
    return got


def event(doc: Any, by: EventReader = READER) -> Events:
    got = read_one(doc, by)
    assert isinstance(got, Events), got
    return got


# What is refused.

BAD: dict[str, tuple[Any, str, str]] = {
    "a list": ([1, 2], "NotAnObject", "[1, 2]"),
    "a number": (7, "NotAnObject", "7"),
    "text": ("press-1", "NotAnObject", "'press-1'"),
    "null": (None, "NotAnObject", "None"),
    "true": (True, "NotAnObject", "True"),
    "a list nested too deeply to print": (nested(3000), "NotAnObject", "type list"),
    "an empty object": ({}, "MissingField", "`machine`"),
    "entity missing": (without("machine"), "MissingField", "`machine`"),
    "entity null": (document(machine=None), "MissingField", "`machine`"),
    "entity empty": (document(machine=""), "EmptyEntity", "`machine`"),
    "entity a fraction": (document(machine=1.5), "WrongType", "1.5"),
    "entity a whole float": (document(machine=1.0), "WrongType", "1.0"),
    "entity true": (document(machine=True), "WrongType", "True"),
    "entity a list": (document(machine=["a"]), "WrongType", "['a']"),
    "entity an object": (document(machine={"id": "a"}), "WrongType", "{'id': 'a'}"),
    "entity too long": (document(machine="x" * 513), "NameTooLong", "513"),
    "entity of 1 MB": (document(machine="x" * 1_000_000), "NameTooLong", "1000000"),
    "entity a number with too many digits": (document(machine=LONG_INT), "NameTooLong", "512"),
    "entity with a lone surrogate": (document(machine="a\ud800"), "NotUtf8", "surrogate"),
    "timestamp missing": (without("ts"), "MissingField", "`ts`"),
    "timestamp null": (document(ts=None), "MissingField", "`ts`"),
    "timestamp no time": (document(ts="yesterday"), "WrongTimestamp", "'yesterday'"),
    "timestamp empty": (document(ts=""), "WrongTimestamp", "''"),
    "timestamp a day that is not": (document(ts="2026-02-30T00:00:00Z"), "WrongTimestamp", "2026-02-30"),
    "timestamp NaN as text": (document(ts="NaN"), "WrongTimestamp", "'NaN'"),
    "timestamp epoch as text": (document(ts="1767268800000"), "WrongTimestamp", "'1767268800000'"),
    "timestamp epoch as text that looks like 1712": (document(ts="1712011512003"), "WrongTimestamp", "1712011512003"),
    "timestamp true": (document(ts=True), "WrongType", "True"),
    "timestamp a list": (document(ts=[NOON]), "WrongType", str(NOON)),
    "timestamp NaN": (document(ts=math.nan), "NotFinite", "nan"),
    "timestamp infinite": (document(ts=-math.inf), "NotFinite", "-inf"),
    "timestamp far too large": (document(ts=1e300), "OutOfRange", "1e+300"),
    "timestamp an endless integer": (document(ts=LONG_INT), "OutOfRange", "type int"),
    "timestamp of the year 1 in a zone that leaves it": (
        document(ts="0001-01-01T00:00:00+23:59"), "OutOfRange", "years 2 to 9998"
    ),
    "timestamp of the year 9999": (document(ts="9999-12-31T23:59:59-23:59"), "OutOfRange", "years 2 to 9998"),
    "feature NaN": (document(load=math.nan), "NotFinite", "`load`"),
    "feature infinite": (document(load=math.inf), "NotFinite", "`load`"),
    "feature minus infinity": (document(load=-math.inf), "NotFinite", "`load`"),
    "feature NaN as text": (document(load="NaN"), "WrongType", "'NaN'"),
    "feature Infinity as text": (document(load="Infinity"), "WrongType", "'Infinity'"),
    "feature a number as text": (document(load="1.5"), "WrongType", "'1.5'"),
    "feature empty text": (document(load=""), "WrongType", "''"),
    "feature beyond 32-bit floats": (document(load=1e39), "OutOfRange", "1e+39"),
    "feature below 32-bit floats": (document(load=-1e39), "OutOfRange", "-1e+39"),
    "feature a huge integer": (document(load=10**40), "OutOfRange", "1" + "0" * 40),
    "feature an integer beyond 64-bit floats": (document(load=10**400), "OutOfRange", "`load`"),
    "feature an endless integer": (document(load=LONG_INT), "OutOfRange", "type int"),
    "feature an object": (document(load={"value": 1}), "WrongType", "{'value': 1}"),
    "feature a list": (document(load=[1]), "WrongType", "[1]"),
    "feature nested too deeply to print": (document(load=nested(3000)), "WrongType", "type list"),
    "target true": (document(temp=True), "WrongType", "`temp`"),
    "target NaN": (document(temp=math.nan), "NotFinite", "`temp`"),
    "target a number as text": (document(temp="20"), "WrongType", "`temp`"),
    "target beyond 32-bit floats": (document(temp=-(10**39)), "OutOfRange", "`temp`"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_document_is_refused_with_its_fault_and_what_was_found(name: str) -> None:
    doc, fault, found = BAD[name]
    got = refusal(doc)
    assert (got.position, got.fault) == (0, fault)
    assert found in got.reason
    assert len(got.reason) < 250


@pytest.mark.parametrize("name", BAD)
def test_a_bad_document_leaves_its_neighbours_whole(name: str) -> None:
    """The neighbours are read as without it, and the refusal is the same as alone."""
    doc = BAD[name][0]
    first, last = document(machine="a", temp=None), document(machine="b", load=None, ts=NOON + 1)
    events, refused = READER.read([first, doc, last])
    assert refused == [refusal(doc)._replace(position=1)]
    assert events.entity == ["a", "b"]
    assert events.position.tolist() == [0, 2]
    assert events.ts.tolist() == [NOON, NOON + 1]
    np.testing.assert_array_equal(events.features, [[1.5, 2], [math.nan, 2]])
    np.testing.assert_array_equal(events.target, [math.nan, 20])


def test_the_first_fault_of_a_document_is_the_one_told() -> None:
    assert refusal(document(machine=None, ts="?", temp="x", load="y")).fault == "MissingField"
    assert refusal(document(ts="?", temp="x", load="y")).fault == "WrongTimestamp"
    assert "`temp`" in refusal(document(temp="x", load="y")).reason


@pytest.mark.parametrize(
    ("form", "value"), [("s", "2026-01-01T12:00:00Z"), ("s", "20260101"), ("ms", "1e12"), ("iso", NOON), ("iso", 1.5)]
)
def test_a_timestamp_of_another_form_than_the_configured_is_refused(form: str, value: Any) -> None:
    assert refusal(document(ts=value), reader(timestamp_format=form)).fault == "WrongType"


@pytest.mark.parametrize(
    ("form", "value"),
    [("s", "1767268800"), ("s", "1767268800.000"), ("ms", f"{NOON}"), ("us", f"{NOON}000"), ("ns", f"{NOON}000000")],
)
def test_a_time_in_quotes_is_read_where_its_unit_is_configured(form: str, value: str) -> None:
    """As OpenTelemetry's `timeUnixNano` is, and any 64-bit integer in the JSON of Protobuf."""
    events, refused = reader(timestamp_format=form).read([document(ts=value), document(ts=value)])
    assert not refused
    assert events.ts.tolist() == [NOON, NOON]
    assert "event.timestamp_format" in refusal(document(ts=value)).reason


@pytest.mark.parametrize("form", ["s", "ms", "us", "ns", "auto"])
@pytest.mark.parametrize("value", [1e30, -1e30, 1e308])
def test_a_number_outside_the_years_2_to_9998_is_refused_in_every_unit(form: str, value: float) -> None:
    assert refusal(document(ts=value), reader(timestamp_format=form)).fault == "OutOfRange"


# What is read.


@pytest.mark.parametrize(
    ("ts", "ms"),
    [
        (1_767_268_800, NOON),
        (1_767_268_800.25, NOON + 250),
        (NOON, NOON),
        (NOON + 0.75, NOON),
        (NOON * 1000 + 999, NOON),
        (NOON * 1_000_000, NOON),
        (0, 0),
        (-1.5, -1500),
        (-0.0001, -1),
        ("2026-01-01T12:00:00Z", NOON),
        ("2026-01-01T12:00:00.123456+00:00", NOON + 123),
        ("2026-01-01T17:30:00+05:30", NOON),
        ("2026-01-01 12:00:00", NOON),
        ("20260101T120000", NOON),
        ("2026-01-01", NOON - 43_200_000),
        ("20260101", NOON - 43_200_000),
        ("2025-12-31T24:00:00.0Z", NOON - 43_200_000),
        ("2026-01-01 24:00", NOON + 43_200_000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_time_is_known_by_its_size_or_as_iso_8601(ts: Any, ms: int) -> None:
    assert event(document(ts=ts)).ts.tolist() == [ms]


@pytest.mark.parametrize(("form", "unit"), [("s", 1), ("ms", 1000), ("us", 1_000_000), ("ns", 1_000_000_000)])
def test_a_configured_unit_holds_whatever_the_size(form: str, unit: int) -> None:
    by = reader(timestamp_format=form)
    assert event(document(ts=5 * unit), by).ts.tolist() == [5000]
    assert event(document(ts=NOON // 1000 * unit), by).ts.tolist() == [NOON]


def test_times_without_offset_are_local_to_the_configured_zone() -> None:
    by = reader(time_zone="Asia/Tokyo")
    assert event(document(ts="2026-01-01T21:00:00"), by).ts.tolist() == [NOON]
    assert event(document(ts="2026-01-01T12:00:00Z"), by).ts.tolist() == [NOON]
    summer = reader(time_zone="Europe/London")
    assert event(document(ts="2026-07-01T13:00:00"), summer).ts == event(document(ts="2026-07-01T12:00:00Z")).ts


@pytest.mark.parametrize(
    ("entity", "name"),
    [(7, "7"), (-3, "-3"), ("Linie 4/Öfen", "Linie 4/Öfen"), ("x" * 512, "x" * 512), ("a\0b", "a\0b")],
)
def test_an_entity_is_text_or_a_whole_number(entity: Any, name: str) -> None:
    assert event(document(machine=entity)).entity == [name]


def test_an_event_without_a_name_has_the_default_one_where_that_is_set() -> None:
    named = reader(entity_default="line-1")
    events, refused = named.read([document(), without("machine"), document(machine=None), document(machine="")])
    assert events.entity == ["press-1", "line-1", "line-1"]
    assert [(r.position, r.fault) for r in refused] == [(3, "EmptyEntity")]
    assert refusal(without("machine")).fault == "MissingField"


@pytest.mark.parametrize("field", ["load", "temp"])
@pytest.mark.parametrize("value", [MAX_NUMBER, -MAX_NUMBER, 1e-320, 0, -0.0, 2**53])
def test_every_number_within_32_bit_floats_is_read_as_it_stands(field: str, value: float) -> None:
    got = event(document(**{field: value}))
    assert (got.target[0] if field == "temp" else got.features[0, 0]) == value


def test_missing_and_null_features_are_unknown_and_targets_none() -> None:
    for doc in (document(load=None, temp=None), {"machine": "press-1", "ts": NOON, "speed": 2}):
        got = event(doc)
        np.testing.assert_array_equal(got.features, [[math.nan, 2]])
        np.testing.assert_array_equal(got.target, [math.nan])


def test_a_boolean_feature_is_one_or_zero() -> None:
    np.testing.assert_array_equal(event(document(load=True, speed=False)).features, [[1, 0]])


def test_unknown_keys_do_not_matter() -> None:
    many = {f"key-{i}": i for i in range(10_000)}
    np.testing.assert_array_equal(event({**many, **document()}).features, [[1.5, 2]])


DOTTED = EventReader(Event(entity="device.id", timestamp="meta.time", features=["payload.sensor.temp"], target="y"))


def test_dotted_paths_go_down_into_objects() -> None:
    doc = {"device": {"id": "d"}, "meta": {"time": 5}, "payload": {"sensor": {"temp": 3}}, "y": 1}
    got = event(doc, DOTTED)
    assert (got.entity, got.ts.tolist(), got.features.tolist()) == (["d"], [5000], [[3]])


def test_a_flat_key_that_contains_dots_is_found_first() -> None:
    doc = {
        "device.id": "flat", "device": {"id": "deep"}, "meta": {"time": 5}, "payload.sensor.temp": 4,
        "payload": {"sensor": {"temp": 3}},
    }  # fmt: skip
    got = event(doc, DOTTED)
    assert (got.entity, got.features.tolist()) == (["flat"], [[4]])


@pytest.mark.parametrize("payload", [None, 3, "sensor", [1], {"sensor": None}, {"sensor": [3]}, {}])
def test_a_path_that_ends_early_is_a_missing_feature(payload: Any) -> None:
    doc = {"device": {"id": "d"}, "meta": {"time": 5}, "payload": payload, "y": 1}
    assert math.isnan(event(doc, DOTTED).features[0, 0])


def test_a_path_that_ends_early_is_a_missing_entity() -> None:
    assert refusal({"device": "d", "meta": {"time": 5}}, DOTTED).fault == "MissingField"


# Categories: names as codes, in the last columns.

MODES = EventReader(Event(entity="machine", timestamp="ts", features=["load"], categories=["mode", "speed"]))


def test_categories_are_the_last_columns_as_codes() -> None:
    docs = [document(mode=mode, speed=None) for mode in ("auto", "manual", None, "auto")]
    events, refused = MODES.read(docs)
    assert (refused, events.features.shape) == ([], (4, 3))
    assert events.features[:, 0].tolist() == [1.5] * 4
    auto, manual = (2**33 + zlib.crc32(name) for name in (b"auto", b"manual"))
    np.testing.assert_array_equal(events.features[:, 1], [auto, manual, math.nan, auto])
    assert np.isnan(events.features[:, 2]).all()


def test_the_codes_of_texts_stay_the_same_for_ever() -> None:
    """They are part of the state that is kept: these figures must never change."""
    codes = [text_code(text) for text in ("", "auto", "Öfen", "a\0b")]
    assert codes == [8589934592.0, 10313410042.0, 8831549249.0, 8957491313.0]


@pytest.mark.parametrize(
    ("value", "code"),
    [(0, 0), (-3, -3), (2.5, 2.5), (True, 1), (False, 0), (2**33, 2**33), ("", 2**33), ("x" * 512, None), ("1", None)],
)
def test_a_category_is_text_a_number_or_true_or_false(value: Any, code: float | None) -> None:
    code = text_code(value) if code is None else code
    assert event(document(mode=value), MODES).features[0, 1] == code
    beside_text, _ = MODES.read([document(mode="a"), document(mode=value), document()])
    np.testing.assert_array_equal(beside_text.features[:, 1], [text_code("a"), code, math.nan])


@pytest.mark.parametrize(
    ("value", "fault", "found"),
    [
        ("x" * 513, "NameTooLong", "513 characters, at most 512"),
        ("a\ud800", "NotUtf8", "lone surrogate"),
        (["a"], "WrongType", "must be text, a number, true or false, found ['a']"),
        ({"a": 1}, "WrongType", "found {'a': 1}"),
        (math.nan, "NotFinite", "nan"),
        (1e39, "OutOfRange", "1e+39"),
        pytest.param(LONG_INT, "OutOfRange", "type int", id="an endless integer"),
    ],
)
def test_what_no_category_can_be_is_refused(value: Any, fault: str, found: str) -> None:
    alone = refusal(document(mode=value), MODES)
    assert alone.fault == fault
    assert "`mode`" in alone.reason
    assert found in alone.reason
    for neighbour in ("a", 3, True, None):
        events, refused = MODES.read([document(mode=neighbour), document(mode=value)])
        assert (len(events), refused) == (1, [alone._replace(position=1)])


def test_a_category_may_lie_inside_an_object() -> None:
    by = EventReader(Event(entity="machine", timestamp="ts", categories=["meta.mode"]))
    assert event(document(meta={"mode": "a"}), by).features.tolist() == [[text_code("a")]]
    assert math.isnan(event(document(meta=7), by).features[0, 0])


def test_names_without_end_are_read_in_bounded_memory() -> None:
    by = EventReader(Event(entity="machine", timestamp="ts", categories=["mode"]))
    for start in range(0, 3 * MAX_CACHED_CODES, MAX_CACHED_CODES // 2):
        names = [f"name {i}" for i in range(start, start + MAX_CACHED_CODES // 2)]
        events, _ = by.read([document(mode=name) for name in [*names, "name 0"]])
        assert events.features[:, 0].tolist() == [text_code(name) for name in [*names, "name 0"]]
        assert len(by._codes) <= MAX_CACHED_CODES + 1


def test_features_that_are_not_selected_yet_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match="none are selected yet"):
        EventReader(Event(entity="machine", timestamp="ts", features="auto"))


def test_nothing_is_read_from_nothing() -> None:
    events, refused = READER.read([])
    assert (len(events), refused) == (0, [])
    assert events.features.shape == (0, 2)


def test_a_mixed_batch_keeps_order_and_positions() -> None:
    docs = [document(machine=str(i), ts=i, temp=i) if i % 3 else document(ts="?") for i in range(50)]
    events, refused = READER.read(docs)
    assert events.position.tolist() == [i for i in range(50) if i % 3]
    assert events.entity == [str(i) for i in range(50) if i % 3]
    assert events.target.tolist() == [i for i in range(50) if i % 3]
    assert [r.position for r in refused] == [i for i in range(50) if not i % 3]


def test_taken_rows_keep_everything_together() -> None:
    events, _ = READER.read([document(machine=str(i), ts=1000 + i, load=i, temp=-i) for i in range(5)])
    taken = events.take(np.array([4, 1]))
    assert taken.entity == ["4", "1"]
    assert taken.ts.tolist() == [1_004_000, 1_001_000]
    assert taken.features[:, 0].tolist() == [4, 1]
    assert taken.target.tolist() == [-4, -1]
    assert taken.position.tolist() == [4, 1]


# Whatever stands in the documents.

numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**17 - 1, 10**11, 10**400, MAX_NUMBER, 1e39, 2**63]))
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), st.sampled_from(["NaN", "1.5", ""]))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
entities = st.one_of(st.text(min_size=1, max_size=6), st.integers(-99, 99), values)
times = st.one_of(st.integers(0, 2**62), st.datetimes().map(lambda moment: moment.isoformat()), values)
usual = st.one_of(st.none(), st.floats(-1e6, 1e6), st.integers(-9, 9), values)
named = st.one_of(st.sampled_from(["a", "b", None, True, False, "a\ud800", "x" * 513]), usual)
objects = st.fixed_dictionaries(
    {}, optional={"machine": entities, "ts": times, "load": usual, "speed": usual, "temp": usual, "mode": named}
)
likely = st.fixed_dictionaries(
    {"machine": st.sampled_from(["a", "b"]), "ts": st.integers(0, NOON)},
    optional={"load": usual, "speed": st.floats(-9, 9), "temp": st.floats(-9, 9), "mode": named},
)
batches = st.lists(st.one_of(likely, likely, objects, values), max_size=12)


@settings(max_examples=300)
@given(batches, st.sampled_from([READER, MODES]))
@example([document(ts=10**17 - 1), document(ts="2026-01-01")], READER)
@example([document(load=10**400), document()], READER)
@example([document(mode=True), document(mode=10**400), document(mode=[])], MODES)
def test_every_document_is_an_event_or_refused_exactly_once_and_as_if_alone(docs: list[Any], by: EventReader) -> None:
    """Columns that are read at once, and columns read value by value beside odd ones, give the same."""
    events, refused = by.read(docs)
    positions = events.position.tolist()
    assert sorted(positions + [r.position for r in refused]) == list(range(len(docs)))
    assert positions == sorted(positions)
    by_position = {r.position: r for r in refused}
    for i, doc in enumerate(docs):
        alone = read_one(doc, by)
        if isinstance(alone, RefusedDocument):
            assert by_position[i] == alone._replace(position=i)
            continue
        row = positions.index(i)
        assert events.entity[row] == alone.entity[0]
        assert events.ts[row] == alone.ts[0]
        np.testing.assert_array_equal(events.features[row], alone.features[0])
        np.testing.assert_array_equal(events.target[row], alone.target[0])
    assert np.all(np.isfinite(events.features) | np.isnan(events.features))
    assert np.all(np.abs(np.nan_to_num(events.features)) <= MAX_NUMBER)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "`load` must be a number, found 'NaN'; send null, or leave the field out, where the value is unknown"),
        ("1.5", "`load` must be a number, found '1.5'; send the number without quotes"),
        ("fast", "`load` must be a number, found 'fast'"),
    ],
)
def test_text_that_means_a_number_is_refused_with_its_cure(text: str, reason: str) -> None:
    """The whole event is refused for it: the reason has what the producer is to send."""
    assert refusal(document(load=text)).reason == reason
