"""`event.features: auto`: what is an input, what is not and why, whatever stands in the documents."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.autoconfig.feature_selection import (
    MAX_CATEGORY_VALUES,
    MAX_COLUMNS,
    SAMPLE,
    FeatureSelection,
    select_features,
)
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.ingest.events import EventReader

NOON = 1_767_268_800_000


def config(**keys: Any) -> Config:
    event = {"entity": "machine", "timestamp": "ts", "target": "y", "features": "auto", **keys}
    return parse_config(f"source: {{brokers: a, topic: t}}\nevent: {event}\n".replace("'", '"'))


def documents(n: int, **columns: Any) -> list[dict[str, Any]]:
    """n events; a column is a value, or a function of the number of the event, where `...` means: not there."""
    found = []
    for i in range(n):
        values = {name: of(i) if callable(of) else of for name, of in columns.items()}
        document = {"machine": f"m{i % 3}", "ts": NOON + 1000 * i, "y": math.sin(i), **values}
        found.append({name: value for name, value in document.items() if value is not ...})
    return found


def picked(column: Any, n: int = 100, **keys: Any) -> tuple[str, str]:
    """What becomes of one column: feature, category or none; and the words about it."""
    made = select_features(config(**keys), documents(n, x=column))
    event = made.config.event
    kind = "feature" if event.features == ["x"] else "category" if event.categories == ["x"] else "none"
    words = made.left_out.get("x", "")
    assert (kind == "none") == bool(words)
    return kind, words or " ".join(made.remarks)


@pytest.mark.parametrize(
    ("column", "kind", "words"),
    [
        (lambda i: i * 0.5, "feature", ""),
        (lambda i: i % 3, "feature", ""),
        (7, "feature", ""),
        (lambda i: 1.5 if i < 50 else ..., "feature", ""),
        (lambda i: 1.5 if i < 49 else ..., "none", "a number in only 49 of 100 events"),
        (lambda i: 1.5 if i < 49 else None, "none", "a number in only 49 of 100 events"),
        (lambda i: "n/a" if i == 7 else i, "feature", "no usable number in 1 of 100 events"),
        (lambda i: math.nan if i == 7 else i, "feature", "no usable number in 1 of 100 events"),
        (lambda i: "n/a" if i % 3 else i, "none", "numbers and text with 35 different values"),
        (lambda i: "n/a" if i % 3 else i % 6, "category", ""),
        (lambda i: 10**400 + i, "none", "numbers that cannot be used, such as 1000"),
        (lambda i: math.inf if i % 4 else i, "none", "such as inf, in 75 of 100 events: leave the value out"),
        (lambda i: bool(i % 2), "category", ""),
        (False, "feature", ""),
        (lambda i: "ab"[i % 2], "category", ""),
        (lambda i: f"name {i % MAX_CATEGORY_VALUES}", "category", ""),
        (lambda i: f"name {i % (MAX_CATEGORY_VALUES + 1)}", "none", "33 different values"),
        ("Lyon", "none", "the same text in all events"),
        (None, "none", "null in all of the 100 events that were examined"),
        ([1, 2], "none", "lists or objects in 100 of 100 events"),
        (lambda i: [1] if i % 2 else "a", "none", "lists or objects in 50 of 100 events"),
        (lambda i: "ab"[i % 2] * 600, "none", "more than 512 characters"),
        (lambda i: "ab"[i % 2] + "\ud800", "none", "not UTF-8"),
        (lambda i: f"2026-01-01T12:00:{i % 60:02d}Z", "none", "a time"),
        (lambda i: "2026-01-01", "none", "a time"),
        (lambda i: NOON // 1000 + i, "none", "a time"),
        (lambda i: (NOON - i) * 1_000_000, "none", "a time"),
        (lambda i: 20_260_101, "feature", ""),
        (lambda i: math.sin(i), "none", "the same as the target in all 100 events that have both: a copy"),
        (lambda i: str(math.sin(i)), "none", "a copy"),
        (lambda i: math.sin(i) if i % 4 else ..., "none", "a copy"),
        (lambda i: math.sin(i) if i else 0.5, "feature", "moves with the target almost exactly (correlation 0.998)"),
    ],
)
def test_a_column_is_judged_by_what_stands_in_it(column: Any, kind: str, words: str) -> None:
    got = picked(column)
    assert got[0] == kind, got
    assert words in got[1]
    assert bool(words) == bool(got[1])


def test_a_column_of_a_rarer_kind_of_machine_is_known_by_how_often_these_have_it() -> None:
    """Nine events of each of 22 machines, two of them batteries; a column that any machine has now and then is none."""
    docs = documents(198, unit=lambda i: f"u{i % 22:02d}", load=lambda i: i)
    for i, each in enumerate(docs):
        each |= {"soc": float(i) if i % 22 < 2 and i != 22 else None, "rare": float(i) if i % 7 == 0 else None}
        each |= {"chance": float(i) if i % 22 < 2 and i % 4 == 0 else None}
    made = select_features(config(entity="unit"), docs)
    assert made.config.event.features == ["load", "soc"]
    assert made.left_out["rare"].startswith("a number in only ")
    assert made.left_out["chance"].startswith("a number in only ")
    once = [{**each, "unit": f"u{i}"} for i, each in enumerate(docs)]
    assert "soc" in select_features(config(entity="unit"), once).left_out, "an event of each shows nothing"


def test_the_event_itself_is_never_an_input() -> None:
    made = select_features(config(), documents(50, load=lambda i: i))
    assert made.config.event.columns == ["load"]
    assert made.left_out == {}
    number = select_features(config(entity="unit"), documents(50, unit=lambda i: i % 3, load=1))
    assert number.config.event.features == ["load"]


def test_objects_are_looked_into() -> None:
    docs = documents(50, payload=lambda i: {"sensor": {"temp": i, "state": "ab"[i % 2]}, "raw": [1]})
    made = select_features(config(entity="machine"), docs)
    assert made.config.event.features == ["payload.sensor.temp"]
    assert made.config.event.categories == ["payload.sensor.state"]
    assert list(made.left_out) == ["payload.raw"]


def test_names_with_dots() -> None:
    """A key with dots is read before objects of that path, within an object, too; what is below it cannot be named."""
    within = {"b": 3, "c.d": 4, "c": {"d": 7}, "e": 5, "k.l": {"m": 8}}
    docs = documents(50, **{"a.b": "same", "a": within, "f.g": {"h": 6}})
    made = select_features(config(), docs)
    assert made.config.event.features == ["a.c.d", "a.e"]
    assert set(made.left_out) == {"a.b", "a.k.l", "f.g"}
    assert "the same text" in made.left_out["a.b"]
    assert "cannot be written as a path" in made.left_out["a.k.l"]


def test_objects_without_end_are_not_followed() -> None:
    deep: Any = 1
    for _ in range(3000):
        deep = {"a": deep}
    made = select_features(config(), documents(3, x=deep, load=1))
    assert made.config.event.features == ["load"]
    assert len(made.left_out) == 1


def test_categories_of_the_user_stay_as_they_are() -> None:
    docs = documents(50, mode=lambda i: "ab"[i % 2], shift=lambda i: "ab"[i % 2], hot=lambda i: i % 2 == 0, zone=3)
    made = select_features(config(categories=["shift", "zone"]), docs)
    assert made.config.event.categories == ["shift", "zone"]
    assert made.config.event.features == ["hot"], "true and false are read as 1 and 0"
    assert "event.categories names others" in made.left_out["mode"]


def test_of_equally_complete_columns_the_first_as_people_count_are_used() -> None:
    made = select_features(config(), documents(200, **{f"ch{j}": lambda i: i for j in range(110)}))
    assert set(made.config.event.features) == {f"ch{j}" for j in range(MAX_COLUMNS)}


def test_the_most_complete_64_columns_are_used() -> None:
    columns = {f"c{j:03d}": (lambda i, j=j: i if i >= j else ...) for j in range(80)}
    made = select_features(config(), documents(200, **columns))
    assert made.config.event.features == [f"c{j:03d}" for j in range(MAX_COLUMNS)]
    assert set(made.left_out) == {f"c{j:03d}" for j in range(MAX_COLUMNS, 80)}
    assert all("most complete" in why for why in made.left_out.values())
    lines = made.lines()
    assert sum("left out" in line for line in lines) == 16
    assert any("c079" in line for line in lines)


def test_columns_with_a_few_odd_values_do_not_cost_many_events_together() -> None:
    columns = {f"c{j}": (lambda i, j=j: "n/a" if i == j or (i, j) == (9, 4) else i) for j in range(10)}
    docs = documents(100, **columns)
    made = select_features(config(), docs)
    assert made.config.event.features == ["c0", "c1", "c2", "c3", "c5"]
    assert made.left_out["c4"] == "no usable number in 2 of 100 events, and such events are refused"
    assert len(made.remarks) == 5
    assert len(EventReader(made.config.event).read(docs)[1]) == 5


def test_a_feature_that_may_be_the_target_in_another_form_is_told_of() -> None:
    columns: dict[str, Any] = {
        "fahrenheit": lambda i: 32 - 1.8 * math.sin(i), "near": lambda i: math.sin(i) + 0.3 * math.cos(17 * i),
        "constant": 3, "huge": lambda i: 3e38 * math.sin(i), "tiny": lambda i: 1e-300 * i,
    }  # fmt: skip
    made = select_features(config(), documents(100, **columns))
    assert made.config.event.features == sorted(columns)
    assert [remark.split(":")[0] for remark in made.remarks] == ["fahrenheit", "huge"]
    assert "correlation 1.000" in made.remarks[0]
    assert select_features(config(), documents(10, **columns)).remarks == []


def test_what_was_picked_is_told_in_words() -> None:
    made = select_features(config(), documents(60, load=lambda i: i, mode=lambda i: "ab"[i % 2], city="Lyon", y=...))
    assert made.lines() == [
        "selected from the first 60 events (event.features: auto)",
        "  features    load",
        "  categories  mode",
        "  left out    city: the same text in all events",
        "  note        the target `y` is in none of these events",
    ]
    many = select_features(config(), documents(3, **{f"c{i}": "x" for i in range(100)}))
    assert len(many.lines()) == 3 + 20 + 1
    assert many.lines()[-1].endswith("and 80 more")


def test_only_the_first_documents_and_only_events_count() -> None:
    docs: list[Any] = [7, {"ts": 1}, {"machine": "a", "junk": 1.0}, *documents(400, load=lambda i: i)]
    for document in docs[SAMPLE:]:
        document["late"] = 1.0
    made = select_features(config(), docs)
    assert made.events == SAMPLE - 3
    assert made.config.event.columns == ["load"]


@pytest.mark.parametrize(
    ("docs", "words"),
    [([], "no event to select from"), ([1], "none of the first 1 documents is an event: expected a JSON object"),
     ([{"ts": 1}], "`machine` is missing or null")],
)  # fmt: skip
def test_without_events_nothing_is_picked(docs: list[Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        select_features(config(), docs)


def test_nothing_to_predict_from() -> None:
    docs = documents(10, city="Lyon")
    with pytest.raises(ConfigError, match=r"(?s)no column of the first 10 events.*lags.*city: the same text"):
        select_features(config(lags=0, calendar=[]), docs)
    assert select_features(config(lags=1, calendar=[]), docs).config.event.columns == []
    assert select_features(config(lags=0, calendar=["hour"]), docs).config.event.columns == []


def test_a_list_is_left_as_it_is() -> None:
    listed = config(features=["a"])
    assert select_features(listed, []).config is listed


def test_the_hash_is_that_of_the_features() -> None:
    open_ = config()
    before = open_.hash
    made = select_features(open_, documents(50, load=lambda i: i)).config
    assert made.hash == config(features=["load"]).hash != before


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
    st.sampled_from(["2026-01-01T00:00:00Z", "\ud800", 10**400, 1e39, NOON]),
)  # fmt: skip
keys = st.sampled_from(["a", "b", "a.b", "c", "machine", "ts", "y", "", ".", "a.", "\ud800"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3))
rows = st.fixed_dictionaries(
    {"machine": st.sampled_from(["m", "n"]), "ts": st.integers(0, NOON)},
    optional={"y": st.floats(-9, 9), "a": values, "b": values, "a.b": values, "c": st.integers(0, 3), "": values},
)
batches = st.lists(st.one_of(rows, rows, rows, values), min_size=1, max_size=8)


def result(docs: list[Any], **event: Any) -> FeatureSelection | str:
    try:
        return select_features(config(**event), docs)
    except ConfigError as error:
        return str(error)


@settings(max_examples=300)
@given(batches, st.randoms(use_true_random=False))
def test_whatever_is_in_the_documents(docs: list[Any], shuffle: random.Random) -> None:
    """Never an error but in words; the order of documents and keys is of no matter; the reader reads what is picked."""
    made = result(docs)
    if isinstance(made, str):
        assert made.startswith("event.features: auto: ")
        return
    turned = [dict(reversed(d.items())) if isinstance(d, dict) else d for d in docs]
    shuffle.shuffle(turned)
    again = result(turned)
    assert isinstance(again, FeatureSelection)
    assert again.config == made.config
    assert again.left_out == made.left_out

    event = made.config.event
    assert len(event.columns) <= MAX_COLUMNS
    assert not {event.entity, event.timestamp, event.target, *made.left_out} & set(event.columns)
    events, _ = EventReader(event).read(docs)
    assert len(events), "a column that makes every event refused was picked"
    for j, path in enumerate(event.columns):
        known = ~np.isnan(events.target) & ~np.isnan(events.features[:, j])
        if known.any() and len(events) == made.events:
            assert not np.array_equal(events.features[known, j], events.target[known]), f"{path} is the target"
    if len(events) == made.events:
        filled = (~np.isnan(events.features)).sum(0)
        assert (2 * filled[: len(event.numbers)] >= made.events).all()
        for column in events.features[:, len(event.numbers) :].T:
            assert 2 <= len(set(column[~np.isnan(column)])) <= MAX_CATEGORY_VALUES
