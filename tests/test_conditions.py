"""Conditions: which events meet them, against a definition that is written out; what the file may not say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ssm_stream.config.sections.conditions import Condition, fields
from ssm_stream.ingest.conditions import code, met
from ssm_stream.ingest.entity_filter import EntityFilter

CONDITION: TypeAdapter[Any] = TypeAdapter(Condition)
TEXTS = ["running", "auto", "stop"]
NUMBERS = st.sampled_from([-1.0, 0.0, 1.0, 2.5, 10.0])


def expected(condition: dict[str, Any], row: dict[str, Any]) -> bool:
    """The grammar, said once more for one event."""
    for path, test in condition.items():
        value = row.get(path)
        if value is None:
            return False
        if not isinstance(test, dict):
            if value not in (test if isinstance(test, list) else [test]):
                return False
            continue
        if "one_of" in test and value not in test["one_of"]:
            return False
        for word, holds in {
            "above": lambda x, b: x > b, "below": lambda x, b: x < b,
            "from": lambda x, b: x >= b, "to": lambda x, b: x <= b,
        }.items():  # fmt: skip
            if word in test and (isinstance(value, str) or not holds(value, test[word])):
                return False
    return True


VALUES = st.one_of(st.sampled_from(TEXTS), NUMBERS)
BOUNDS = st.one_of(
    st.fixed_dictionaries({"above": NUMBERS}), st.fixed_dictionaries({"to": NUMBERS}),
    st.just({"from": 0.0, "below": 10.0}), st.just({"one_of": [1.0, "auto"], "from": 1.0}),
)  # fmt: skip
TESTS = st.one_of(VALUES, st.lists(VALUES, min_size=1, max_size=3), BOUNDS)


@given(
    st.dictionaries(st.sampled_from("abc"), TESTS, min_size=1),
    st.lists(st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), VALUES)), max_size=6),
)
def test_the_columns_give_what_each_row_gives(written: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    condition = CONDITION.validate_python(written)

    def column(path: str) -> Any:
        return np.array([math.nan if (value := row.get(path)) is None else code(value) for row in rows])

    assert met(condition, column, len(rows)).tolist() == [expected(written, row) for row in rows]
    assert fields([condition]) == list(written)
    assert CONDITION.validate_python(CONDITION.dump_python(condition)) == condition


def test_truth_values_are_numbers_as_in_events() -> None:
    condition = CONDITION.validate_python({"on": True})
    assert met(condition, lambda _: np.array([1.0, 0.0, math.nan]), 3).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({}, "name at least one field"),
        ({"speed": {}}, "write a value, a list of values"),
        ({"speed": []}, "at least one value"),
        ({"speed": {"above": 3, "below": 2}}, "no number keeps"),
        ({"speed": {"above": 3, "to": 3}}, "no number keeps"),
        ({"speed": {"over": 3}}, "Extra inputs"),
        ({"speed": {"above": math.inf}}, "finite"),
        ({"speed": None}, "valid"),
    ],
)
def test_what_means_nothing_is_refused(written: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CONDITION.validate_python(written)


def test_patterns_are_of_names() -> None:
    assert EntityFilter(["pump-*"]).matches("pump-3")
    assert not EntityFilter(["pump-*"]).matches("Pump-3")
    assert EntityFilter(["press-[12]"]).matches("press-2")
