"""Blanks that are usual: a column that has values in some states of the process only is not missing in the others.

A capper has no torque while its line stands, and that stands for as long as it likes. For each value of each category
it is counted in how many events a column had a value, and in how many elsewhere, over all entities of a source. No
result depends on how the events are cut into batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_EVENTS = 20
"""Events with a value of a category, and without it, before a blank is usual there: what was always there is missed
sooner."""
MAX_SHARE = 0.05
"""Times the share of events elsewhere that have a value, up to which blanks are usual."""
MAX_CODES = 64
"""Values of a category that are counted, the first that come."""
USUAL = -np.inf
"""In place of a value: the blank is usual, and not judged. See `Silence::look`."""

Counts = NDArray[np.float64]
"""(1 + C,): events, and those with a value of each of C columns."""


class UsualBlanks:
    """What is counted of each source. categories: their paths; columns: C of them"""

    def __init__(self, categories: Sequence[str], columns: int) -> None:
        self._categories, self._columns = list(categories), columns
        self._all: dict[int, Counts] = {}
        self._by_code: dict[int, list[dict[float, Counts]]] = {}

    def mark(self, values: NDArray[np.float64], codes: NDArray[np.float64], source: int) -> None:
        """Replace the blanks of a batch that are usual by `USUAL`, and count its events.

        Args:
            values: of the columns (n, C), NaN = blank, infinite in all columns of an event that does not count
            codes: of the categories (n, k), NaN = unknown
            source: that the events come from
        """
        rows = np.flatnonzero(~np.isinf(values).all(axis=1))
        if not len(rows) or not self._categories:
            return
        known = np.column_stack([np.ones(len(rows)), ~np.isnan(values[rows])])
        every = self._all.setdefault(source, np.zeros(1 + self._columns))
        before = every + np.cumsum(known, axis=0) - known
        blank, usual = known == 0.0, np.zeros(known.shape, np.bool_)
        by_category = self._by_code.setdefault(source, [{} for _ in self._categories])
        for counts, column in zip(by_category, codes[rows].T, strict=True):
            found, first = np.unique(column, return_index=True)
            for code in found[np.argsort(first)].tolist():
                if code != code or (code not in counts and len(counts) >= MAX_CODES):
                    continue
                own = counts.setdefault(code, np.zeros(1 + self._columns))
                at = np.flatnonzero(column == code)
                if blank[at].any():
                    here = own + np.cumsum(known[at], axis=0) - known[at]
                    elsewhere = before[at] - here
                    few = here * elsewhere[:, :1] <= MAX_SHARE * elsewhere * here[:, :1]
                    enough = (here[:, :1] >= MIN_EVENTS) & (elsewhere[:, :1] >= MIN_EVENTS)
                    usual[at] |= few & enough & blank[at]
                own += known[at].sum(axis=0)
        every += known.sum(axis=0)
        some, columns = np.nonzero(usual[:, 1:])
        values[rows[some], columns] = USUAL

    def dump(self) -> dict[str, Any]:
        """Return the counts as JSON has them."""
        by_code = [
            [source, j, code, own.tolist()]
            for source, categories in self._by_code.items()
            for j, counts in enumerate(categories)
            for code, own in counts.items()
        ]
        every = [[source, counts.tolist()] for source, counts in self._all.items()]
        return {"categories": self._categories, "all": every, "by_code": by_code}

    def load(self, content: dict[str, Any], places: dict[int, int]) -> None:
        """Load what `dump` returned; of other categories it is counted anew. places: of its columns that are left"""
        if content.get("categories") != self._categories:
            return
        self._all = {source: self._placed(counts, places) for source, counts in content["all"]}
        self._by_code = {source: [{} for _ in self._categories] for source in self._all}
        for source, j, code, own in content["by_code"]:
            self._by_code[source][j][code] = self._placed(own, places)

    def _placed(self, counts: list[float], places: dict[int, int]) -> Counts:
        """Return counts of former columns by the present ones: the events first."""
        out = np.zeros(1 + self._columns)
        out[0] = counts[0]
        for j, now in places.items():
            out[1 + now] = counts[1 + j]
        return out
