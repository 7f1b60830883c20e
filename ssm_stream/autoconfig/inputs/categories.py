"""Text with many values in a fleet, of which each machine has a few: the programs of robots, the recipes of presses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ssm_stream.autoconfig.columns import Column
from ssm_stream.autoconfig.feature_selection import MAX_CATEGORY_VALUES, MAX_FLEET_VALUES

MIN_RETURNS = 2.0
"""Stretches of rows in which a value of a machine comes, in the mean: names of lots come in one."""
MIN_SEVERAL = 0.5
"""Share of the machines that have several values: else the text names the machine."""


def own_categories(
    left_out: Mapping[str, str], columns: Mapping[str, Column], owners: Mapping[int, Any]
) -> dict[str, tuple[int, int]]:
    """Return path → (values in the fleet, most of one machine) of text that is a category in spite of its many values.

    Args:
        left_out: path → why it is no input
        columns: path → column
        owners: row → name of its entity, if a column has it
    """
    found = {
        path: _count(columns[path], owners) for path, why in left_out.items() if why.startswith("text with") and owners
    }
    return {path: counts for path, counts in found.items() if counts is not None}


def _count(column: Column, owners: Mapping[int, Any]) -> tuple[int, int] | None:
    """Return the values of a column in the fleet and the most of one machine; None if it is no category."""
    if column.kind != "text" or not MAX_CATEGORY_VALUES < column.distinct <= MAX_FLEET_VALUES:
        return None
    values, last, stretches = defaultdict[Any, set[str]](set), dict[Any, str](), 0
    for i, value in column.values.items():
        owner = owners.get(i)
        stretches += last.get(owner) != value
        last[owner] = value
        values[owner].add(value)
    own = [len(each) for each in values.values()]
    several = sum(count > 1 for count in own)
    if max(own) > MAX_CATEGORY_VALUES or several < MIN_SEVERAL * len(own) or stretches < MIN_RETURNS * sum(own):
        return None
    return column.distinct, max(own)
