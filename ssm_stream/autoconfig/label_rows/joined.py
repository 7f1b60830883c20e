"""Rows that are late labels: the target alone, at the time of an earlier row (`labels.marker`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from ssm_stream.config import MAX_PENDING, Labels

MIN_LABELS = 5
MIN_MATCHED = 0.9
"""Share of the labels that have an event before them."""
DAY = 86400.0
ROOM = 4
"""How many times longer than in the sample, at least, an event waits."""


class LabelRows(NamedTuple):
    """A sample of events and late labels.

    Attributes:
        rows: the events, each with its label as its target
        labels: how many rows are labels
        behind: rows from an event to its label, at most
    """

    rows: list[dict[str, Any]]
    labels: int
    behind: int


def find_label_rows(rows: Sequence[dict[str, Any]], target: str) -> LabelRows | None:
    """Return the events and their labels; None where the target comes with its event.

    All rows with the target are labels, and nothing else, if they have no column of their own, lack some that others
    have, and what they have apart from it, such as entity and time, is that of an earlier row without it. Between most
    of them and that row are others: else one row of values may have been written as several.
    """
    of_labels, of_events = set[str](), set[str]()
    labelled = [_is_known(row.get(target)) for row in rows]
    if not MIN_LABELS <= sum(labelled) < len(rows):
        return None
    for row, is_label in zip(rows, labelled, strict=True):
        (of_labels if is_label else of_events).update(name for name, value in row.items() if _is_known(value))
    common = sorted(of_labels - {target})
    if not common or not of_labels - {target} < of_events:
        return None
    key = _key_of(common)
    place = dict[tuple[Any, ...], int]()
    joined, at, behind = list[dict[str, Any]](), list[int](), list[int]()
    for i, (row, is_label) in enumerate(zip(rows, labelled, strict=True)):
        if not is_label:
            place[key(row)] = len(joined)
            joined.append(row)
            at.append(i)
        elif (event := place.get(key(row))) is not None:
            joined[event] = {**joined[event], target: row[target]}
            behind.append(i - at[event])
    labels = sum(labelled)
    if len(behind) < MIN_MATCHED * labels or median(behind) <= 1:
        return None
    return LabelRows(joined, labels, max(behind))


def late_labels(found: LabelRows, target: str, entities: int, step: float) -> Labels:
    """Return the section `labels`: they may come several times later than in the sample.

    entities: of the sample; step: seconds from a row of an entity to its next, or NaN
    """
    behind = ROOM * math.ceil(found.behind / max(entities, 1))
    days = math.ceil(behind * step / DAY) if step > 0 else 1
    pending = min(max(behind, Labels.model_fields["pending"].default), MAX_PENDING)
    return Labels(marker=target, target=target, wait=days * DAY, pending=pending)


def _key_of(names: Sequence[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Return what gives the values of these columns."""
    return lambda row: tuple(str(row.get(name)) for name in names)


def _is_known(value: Any) -> bool:
    """Return whether a cell has a value."""
    return value is not None and value == value and value != ""
