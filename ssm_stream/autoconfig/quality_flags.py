"""Flags of values, as columns that mark which are good: `temp_quality`, `TEMP.Q`, `Status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

from ssm_stream.autoconfig.columns import Column, name_words, word_set
from ssm_stream.autoconfig.roles import is_outcome
from ssm_stream.config.sections.operating import Quality

FLAGS = word_set("quality qual q qc flag flags status stat state validity valid")
CERTAIN = word_set("quality qual q qc validity")
"""Those that name the flag of all values, if there is no value with the same name."""
GOOD = word_set("good ok valid g gut true normal gültig bueno bon 良好 正常")
GOOD_CODES = range(192, 256)
"""Quality codes of OPC DA that are good; OPC UA has 0."""
MAX_VALUES = 16
"""Different values of a flag."""
MIN_GOOD = 0.5
"""Share of good values."""


class Flags(NamedTuple):
    """column: flag of all values of a row; columns: value → its flag; good: values of flags; why: the reason"""

    column: str | None
    columns: dict[str, str]
    good: list[Any]
    why: str

    @property
    def paths(self) -> list[str]:
        """Paths of the flags."""
        return list(dict.fromkeys([*([self.column] if self.column else []), *self.columns.values()]))

    def of(self, paths: Collection[str]) -> Quality | None:
        """Return the section `event.quality` for these columns; None if none of them has a flag."""
        columns = {value: flag for value, flag in self.columns.items() if value in paths}
        if self.column is None and not columns:
            return None
        return Quality.model_validate({"column": self.column, "columns": columns, "good": self.good})


def find_flags(found: dict[str, Column], taken: Collection[str], targets: Collection[str] = ()) -> Flags | None:
    """Return the flags of values; None if there are none.

    Args:
        found: path → column
        taken: paths with another role than that of a value
        targets: those that are given; each may have a flag of its own, which is none of the inputs
    """
    by_words = {tuple(name_words(path)): path for path in found}
    columns: dict[str, str] = {}
    alone: str | None = None
    good: dict[Any, None] = {}
    shares: list[str] = []
    for path, column in found.items():
        words = name_words(path)
        flag = [word for word in words if word in FLAGS]
        if (
            path in taken
            or path in targets
            or not flag
            or is_outcome(path)
            or column.distinct > MAX_VALUES
            or column.kind not in ("text", "whole", "flag")
        ):
            continue
        bare = tuple(word for word in words if word not in FLAGS)
        value = by_words.get(bare) if bare else None  # a name without words, such as `%`, is not that of each flag
        counts = Counter(column.values.values())
        values = [each for each in counts if _is_good(each, counts, paired=value is not None)]
        share = sum(counts[each] for each in values) / max(column.n, 1)
        if share < MIN_GOOD:
            continue
        if value is not None and value != path and value not in taken:
            columns[value] = path
        elif alone is None and set(flag) & CERTAIN:
            alone = path
        else:
            continue
        good |= dict.fromkeys(values)
        shares.append(f"{path} {share:.1%} good")
    if alone is None and not columns:
        return None
    listed = ", ".join(shares[:3]) + (", …" if len(shares) > 3 else "")
    return Flags(alone, columns, list(good), f"flags by their names and values ({listed}): what is not good is unknown")


def _is_good(value: Any, counts: Counter[Any], paired: bool) -> bool:
    """Return whether a value of a flag is good. paired: the flag is that of one value, by its name"""
    if type(value) is bool:
        return value
    if isinstance(value, int):
        codes = any(each in GOOD_CODES for each in counts if isinstance(each, int))
        return value in GOOD_CODES or (not codes and value == 0 and paired)
    return str(value).strip().lower() in GOOD
