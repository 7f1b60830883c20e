"""A column a tag: `PUMP-1.TEMP` is the signal TEMP of the entity PUMP-1, and a row a time becomes a row an entity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from ssm_stream.autoconfig.tag_names import find_tag_names, match_names

ROW = "\0row"


class Tags(NamedTuple):
    """Which columns are tags."""

    pattern: str
    """Of their names, as shown to the user: `{entity}.{signal}`."""
    entity: str
    """Name of the column that the entities' names become."""
    columns: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """Entity and its (signal, column)."""

    @property
    def entities(self) -> list[str]:
        """Names of the entities."""
        return [entity for entity, _ in self.columns]

    @property
    def signals(self) -> list[str]:
        """Names of the signals, in the order of their columns."""
        return list(dict.fromkeys(signal for _, pairs in self.columns for signal, _ in pairs))

    def signal_of(self, column: str) -> str:
        """Return the signal of a column that is a tag; another column itself."""
        return next((signal for _, pairs in self.columns for signal, name in pairs if name == column), column)

    def count(self, frame: pl.DataFrame) -> int:
        """Return the number of rows that `to_rows` makes."""
        held = [pl.any_horizontal(pl.col(name).is_not_null() for _, name in pairs).sum() for _, pairs in self.columns]
        return int(frame.select(pl.sum_horizontal(each.cast(pl.Int64) for each in held)).item())

    def names(self, columns: Sequence[str]) -> list[str]:
        """Return the columns of the rows: those that are no tags, the entity, and the signals."""
        tags = {column for _, pairs in self.columns for _, column in pairs}
        return [*(name for name in columns if name not in tags), self.entity, *self.signals]

    def to_rows(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a row for each entity that has a value in a row of the frame, in the order of the columns."""
        names = self.names(frame.columns)
        numbered = frame.with_row_index(ROW)
        parts = []
        for number, (entity, pairs) in enumerate(self.columns):
            column_of = dict(pairs)
            held = [signal for signal in self.signals if signal in column_of]
            part = numbered.filter(pl.any_horizontal(pl.col(column_of[signal]).is_not_null() for signal in held))
            parts.append(part.select(
                pl.col(ROW), pl.lit(number, pl.UInt32).alias(f"{ROW}.entity"),
                *(self._cell(name, entity, column_of, frame) for name in names),
            ))  # fmt: skip
        return pl.concat(parts, how="vertical_relaxed").sort(ROW, f"{ROW}.entity").select(names)

    def _cell(self, name: str, entity: str, column_of: dict[str, str], frame: pl.DataFrame) -> pl.Expr:
        if name == self.entity:
            return pl.lit(entity, pl.String).alias(name)
        if name in column_of:
            return pl.col(column_of[name]).alias(name)
        return pl.lit(None).alias(name) if name in self.signals else pl.col(name)

    def describe(self) -> str:
        """Return what was found, in words."""
        entities, signals = self.entities, self.signals
        return (
            f"a column a tag ({self.pattern}: {_listed(entities)}; {_listed(signals)}): a row becomes one for each "
            f"`{self.entity}`"
        )


def _listed(names: list[str]) -> str:
    return f"{len(names)} — {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"


def find_tags(names: Sequence[str], pattern: str | None = None, used: frozenset[str] = frozenset()) -> Tags | None:
    """Return which of the columns are tags; None if they are none.

    Args:
        names: of the columns
        pattern: of tags, if it is given; `none`: there are no tags
        used: columns that the configuration names: if tags are among them, they are meant as columns
    """
    if pattern == "none":
        return None
    found = find_tag_names(names) if pattern is None else match_names(names, pattern)
    if found is None or not found.names:
        return None
    if pattern is None and used & {column for pairs in found.names.values() for column in pairs.values()}:
        return None
    entity = "entity"
    while entity in names:
        entity += "_"
    return Tags(found.pattern, entity, tuple((each, tuple(pairs.items())) for each, pairs in found.names.items()))
