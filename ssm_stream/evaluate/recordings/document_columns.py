"""JSON documents → typed columns, without loss: what a Parquet recording of a topic is made of.

Nested objects become columns with dotted names, the paths under which a configuration names them. A column has one
type: that of most of its values where it first appears. A document with a value of another type is kept as its JSON
text, so that reading it gives the same event, or the same refusal, as the message.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import Any, NamedTuple

import orjson
import polars as pl

Document = Mapping[str, Any]
PARTITION, OFFSET, TIMESTAMP, KEY = "kafka.partition", "kafka.offset", "kafka.timestamp", "kafka.key"
WHOLE = "kafka.value"
"""Column with the JSON text of a document that does not fit into the other columns."""
PLACE = (PARTITION, OFFSET, TIMESTAMP, KEY, WHOLE)
"""Columns of a recorded topic that are no fields of its events."""
MAX_COLUMNS = 4096
"""Columns that a recording has at most; documents with others are kept as text."""
MAX_DEPTH = 8
"""Levels of nested objects that become columns."""
TYPES: dict[frozenset[type], Any] = {
    frozenset(): pl.Null,
    frozenset({bool}): pl.Boolean,
    frozenset({int}): pl.Int64,
    frozenset({float}): pl.Float64,
    frozenset({int, float}): pl.Float64,
    frozenset({str}): pl.String,
}
KINDS = {bool: "truth", int: "number", float: "number", str: "text", list: "list", dict: "object"}
FAILURES = (OverflowError, TypeError, ValueError, pl.exceptions.PolarsError)
EMPTY: dict[str, Any] = {}
MAX_EXACT = 2**53
"""Whole numbers up to this are the same as floats."""


class _Column(NamedTuple):
    """The values of a field, None where a document has none. kinds: types of the others"""

    values: Sequence[Any]
    kinds: frozenset[type]


class _Flat(NamedTuple):
    """Documents as columns. odd: rows that cannot be columns"""

    columns: dict[str, _Column]
    odd: set[int]


class DocumentColumns:
    """Turns documents into frames whose columns have the same types each time; numbers may be whole or not.

    Attributes:
        types: of the columns so far, in the order in which they appeared
    """

    def __init__(self) -> None:
        self.types: dict[str, Any] = {}
        self._kinds: dict[str, str] = {}
        self._large: set[str] = set()  # columns with whole numbers beyond `MAX_EXACT`

    def frame(self, documents: Sequence[Document]) -> pl.DataFrame:
        """Return one or more documents as a frame, with `WHOLE` if some of them are kept as text."""
        flat = _Flat({}, set())
        self._flatten(documents, "", 0, flat)
        columns, odd = flat
        if odd:
            columns = {name: _without(column, odd) for name, column in columns.items()}
        out: list[pl.Series] = []
        for name, column in columns.items():
            if name not in self.types:
                continue
            series = self._series(name, column)
            if series is None:  # a value that its type cannot hold: rare, so that these rows are all kept as text
                more = {i for i, value in enumerate(column.values) if value is not None}
                return self._frame_without(documents, odd | more)
            out.append(series)
        if odd:
            texts = [_to_json(document) if i in odd else None for i, document in enumerate(documents)]
            out.append(pl.Series(WHOLE, texts, dtype=pl.String))
        return pl.DataFrame(out) if out else pl.DataFrame({WHOLE: [_to_json(document) for document in documents]})

    def _frame_without(self, documents: Sequence[Document], odd: set[int]) -> pl.DataFrame:
        """Return the frame with more rows kept as text."""
        frame = self.frame([EMPTY if i in odd else document for i, document in enumerate(documents)])
        texts = frame[WHOLE].to_list() if WHOLE in frame.columns else [None] * len(documents)
        texts = [_to_json(document) if i in odd else texts[i] for i, document in enumerate(documents)]
        return frame.with_columns(pl.Series(WHOLE, texts, dtype=pl.String))

    def _flatten(self, documents: Sequence[Document], above: str, depth: int, flat: _Flat) -> None:
        """Add the columns of documents, those of nested objects under dotted names."""
        for name, values in _columns(documents):
            path, column = f"{above}{name}", _Column(values, frozenset(map(type, values)) - {NoneType})
            flat.odd.update(self._misfits(path, column))
            if self._kinds.get(path) == "object":
                inner = [value if type(value) is dict else EMPTY for value in values]
                if depth < MAX_DEPTH:
                    self._flatten(inner, f"{path}.", depth + 1, flat)
                else:
                    flat.odd.update(i for i, value in enumerate(inner) if value)
            elif path in flat.columns:  # {"a.b": 1, "a": {"b": 2}}, the value of "a.b", also where it is null
                pairs = enumerate(zip(values, flat.columns[path].values, strict=True))
                flat.odd.update(i for i, pair in pairs if name in documents[i] and pair != (None, None))
            else:
                flat.columns[path] = column

    def _misfits(self, name: str, column: _Column) -> set[int]:
        """Return the rows whose value has not the kind of its column, which is fixed when it first has a value."""
        mine = self._kinds.get(name)
        if mine is None and column.kinds:
            counts = Counter(KINDS.get(type(value), "other") for value in column.values if value is not None)
            counts.pop("other", None)
            mine = self._kinds[name] = counts.most_common(1)[0][0] if counts else "text"
        if mine != "object" and name not in self.types:
            if name in PLACE or len(self.types) >= MAX_COLUMNS:
                return {i for i, value in enumerate(column.values) if value is not None}
            self.types[name] = pl.Null
        if all(KINDS.get(kind, "other") == mine for kind in column.kinds):
            return set()
        values = enumerate(column.values)
        return {i for i, value in values if value is not None and KINDS.get(type(value), "other") != mine}

    def _series(self, name: str, column: _Column) -> pl.Series | None:
        """Return values of one kind as a column; None if one of them does not fit into its type."""
        before, series = self.types[name], _series(name, column)
        if series is None or series.dtype == pl.Null:
            return series
        large = series.dtype == pl.Int64 and not series.is_between(-MAX_EXACT, MAX_EXACT).all()
        if before in (pl.Null, series.dtype):
            self.types[name] = series.dtype
        elif {before, series.dtype} == {pl.Int64, pl.Float64} and not large and name not in self._large:
            self.types[name] = pl.Float64
        else:
            return None
        if large:
            self._large.add(name)
        return series

    def final_types(self) -> dict[str, Any]:
        """Return the type of each column over all documents; a column without any value is of numbers."""
        return {name: pl.Float64() if kind == pl.Null else kind for name, kind in self.types.items()}


def _columns(documents: Sequence[Document]) -> list[tuple[str, Sequence[Any]]]:
    """Return the values of each key, None where a document has none."""
    names = tuple(documents[0])
    if len(names) > 1 and sum(map(len, documents)) == len(names) * len(documents):
        try:
            return list(zip(names, zip(*map(itemgetter(*names), documents), strict=True), strict=True))
        except KeyError:
            pass  # other keys, as many
    found = dict.fromkeys(chain.from_iterable(documents))
    return [(name, [document.get(name) for document in documents]) for name in found]


def _without(column: _Column, odd: set[int]) -> _Column:
    out = list(column.values)
    for i in odd:
        out[i] = None
    return _Column(out, frozenset(map(type, out)) - {NoneType})


def _series(name: str, column: _Column) -> pl.Series | None:
    """Return values of one kind as a column; None if one of them is too large for it."""
    values, kinds = column
    try:
        if kinds == {int, float} and any(isinstance(each, int) and abs(each) > MAX_EXACT for each in values):
            return None
        if kinds in TYPES:
            return pl.Series(name, values, dtype=TYPES[kinds], strict=len(kinds) < 2)
        inner = frozenset(map(type, chain.from_iterable(filter(None, values)))) - {NoneType}
        if kinds != {list} or inner not in TYPES or not inner:
            return None
        one = pl.Float64 if inner <= {int, float} else TYPES[inner]
        return pl.Series(name, values, dtype=pl.List(one), strict=False)
    except FAILURES:
        return None


def _to_json(document: Document) -> str:
    try:
        return orjson.dumps(document).decode()
    except TypeError:
        return json.dumps(document, default=str)
