"""Columns of text as what the whole file holds in them: numbers, with the texts among them, or text."""

from __future__ import annotations

from typing import Any

import polars as pl

from ssm_stream.evaluate.recordings.exports.columns import Column, Kind
from ssm_stream.evaluate.recordings.files import Row, to_dicts


def number(name: str, column: Column) -> pl.Expr:
    """Return the column as its kind; a stray text becomes NaN, and with one whole numbers become floats."""
    text = pl.col(name)
    if column.kind == "text":
        return text
    whole = column.kind == "int" and not column.stray
    value = text.str.strip_chars().cast(pl.Int64 if whole else pl.Float64, strict=False)
    if not column.stray:
        return value
    return pl.when(text.is_not_null() & value.is_null()).then(float("nan")).otherwise(value).alias(name)


def text_rows(frame: pl.DataFrame, columns: dict[str, Column]) -> list[Row]:
    """Return the rows of a frame of text."""
    return to_dicts(frame.columns, [_cells(frame[name], columns[name].kind) for name in frame.columns])


def text_column(frame: pl.DataFrame, columns: dict[str, Column], name: str) -> pl.Series | None:
    """Return a column of a frame of text as its kind; None if it has a stray text, all null if it is not there."""
    if name not in columns:
        return pl.Series([None]).new_from_index(0, len(frame))
    text = frame[name]
    number = _parsed(text, columns[name].kind)
    return None if number.null_count() > text.null_count() else number


def _parsed(text: pl.Series, kind: Kind) -> pl.Series:
    """Return the column as its kind; other cells are null."""
    if kind == "text":
        return text
    return text.str.strip_chars().cast(pl.Int64 if kind == "int" else pl.Float64, strict=False)


def _cells(text: pl.Series, kind: Kind) -> list[Any]:
    """Return the column as Python values; a text among numbers stays as it is."""
    number = _parsed(text, kind)
    values: list[Any] = number.to_list()
    if number.null_count() > text.null_count():
        return [t if v is None else v for v, t in zip(values, text.to_list(), strict=True)]
    return values
