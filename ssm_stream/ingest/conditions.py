"""Conditions over the columns of events: which rows meet them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Event
from ssm_stream.config.sections.conditions import Test, Value
from ssm_stream.config.sections.operating import When
from ssm_stream.ingest.entity_filter import EntityFilter
from ssm_stream.ingest.event_columns import Events, text_code

FIRST_CODE = 2.0**33
"""Least code of a text: numbers from here on are none in a column that may hold texts."""


def met(condition: Mapping[str, Test], column: Callable[[str], NDArray[np.float64]], n: int) -> NDArray[np.bool_]:
    """Return which of n rows pass every test (n,).

    Args:
        condition: path of a field → its test
        column: path → its values (n,): numbers, codes of texts (see `text_code`), NaN = unknown, which passes no test
    """
    found = np.ones(n, np.bool_)
    for path, test in condition.items():
        found &= passes(test, column(path))
    return found


def passes(test: Test, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which values (n,) pass a test (n,). A text has no place in an order: it passes no bound."""
    found = ~np.isnan(values)
    if test.one_of is not None:
        found &= np.isin(values, list(map(code, test.one_of)))
    with np.errstate(invalid="ignore"):
        if test.above is not None:
            found &= values > test.above
        if test.below is not None:
            found &= values < test.below
        if test.least is not None:
            found &= values >= test.least
        if test.most is not None:
            found &= values <= test.most
    if any(bound is not None for bound in (test.above, test.below, test.least, test.most)):
        found &= values < FIRST_CODE
    return found


class OperatingCondition:
    """Which events meet their operating condition; one of an entity that no pattern matches does. when: `event.when`"""

    def __init__(self, when: Sequence[When]) -> None:
        self._when = when
        self._filters = [EntityFilter([each.entities]) for each in when]

    def __call__(self, entity: Sequence[str], column: Callable[[str], NDArray[np.float64]]) -> NDArray[np.bool_]:
        """Return which of n events meet theirs (n,). entity: their names; column: as of `met`"""
        n, when = len(entity), self._when
        if len(when) == 1 and when[0].entities == "*":
            return met(when[0].condition, column, n)
        out, left = np.ones(n, np.bool_), np.ones(n, np.bool_)
        for each, pattern in zip(when, self._filters, strict=True):
            mine = left & np.fromiter(map(pattern.matches, entity), np.bool_, n)
            if mine.any():
                out[mine] = met(each.condition, column, n)[mine]
                left &= ~mine
        return out


def event_column(event: Event, events: Events, path: str) -> NDArray[np.float64]:
    """Return the values (n,) of a column that is read. event: the section of the configuration"""
    if path in event.targets:
        target = events.measured
        return target if target.ndim == 1 else target[:, event.targets.index(path)]
    if path in event.columns:
        return events.features[:, event.columns.index(path)]
    assert events.context is not None, "a reader of this configuration reads it"
    return events.context[:, event.context.index(path)]


def code(value: Value) -> float:
    """Return a value as columns have it."""
    return text_code(value) if isinstance(value, str) else float(value)
