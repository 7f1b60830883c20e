"""Which columns are used where there are more than a flow takes: some of each kind, as their names show kinds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ssm_stream.config.natural_order import natural_key

STEPS = 20
"""Parts of the events by which columns are as complete as others: one value that is bad costs none its place."""
NUMBER = re.compile("[0-9]+")
LOOP = 3
"""Digits of the number of an instrument, of which all but the last two are those of an area: TT_101, TT_301."""


def by_worth(columns: Mapping[str, Mapping[int, Any]], events: int) -> list[str]:
    """Return paths, those to be used first.

    What stands still is last. Else the most complete come first, and of equal ones those of each kind in turn: by the
    alphabet alone all valves (ZT) would go, and none of forty temperatures (TT).

    Args:
        columns: path → event → value, without nulls
        events: number of events
    """
    kinds = _kinds(columns)
    places = defaultdict[Any, int](int)
    order = []
    for path in sorted(columns, key=natural_key):
        values = columns[path]
        still = len({*map(repr, values.values())}) < 2
        missing = STEPS * (events - len(values)) // max(events, 1)
        kind = (still, missing, kinds[path])
        order.append((still, missing, places[kind], path))
        places[kind] += 1
    return [path for *_, path in sorted(order, key=lambda each: each[:3])]  # stable: of equal ones the first by name


def _kinds(paths: Mapping[str, Any]) -> dict[str, str]:
    """Return path → its kind: its name but for the numbers, with the area of an instrument."""
    stems = {path: NUMBER.sub("#", path).casefold() for path in paths}
    digits = defaultdict[str, set[tuple[int, ...]]](set)
    for path, stem in stems.items():
        digits[stem].add(tuple(map(len, NUMBER.findall(path))))
    return {path: _with_area(path) if len(digits[stem]) == 1 else stem for path, stem in stems.items()}


def _with_area(path: str) -> str:
    return NUMBER.sub(lambda found: f"{found[0][:-2] if len(found[0]) >= LOOP else ''}#", path).casefold()
