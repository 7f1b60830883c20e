"""Which entities a setting is for: those whose names match one of its patterns. Upper and lower case differ."""

from __future__ import annotations

import fnmatch
import functools
import glob
import re
from collections.abc import Iterable, Mapping, Sequence

MAX_CACHED_NAMES = 100_000
"""Names whose matches are cached: bounded, so that unlimited distinct names cannot exhaust memory."""


class EntityFilter:
    """Matches names against patterns: `*` stands for any text, `?` for one character, `[ab]` for one of these.

    A pattern that is a name itself, such as the tag `TI[1]`, matches it, too.

    >>> EntityFilter(["press-*", "oven-[12]"]).passed_by([0, 1, 2], ["press-7", "oven-3", ""])
    {1}
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        names = frozenset(patterns)
        either = re.compile("|".join(map(fnmatch.translate, sorted(names))))
        self.matches = functools.lru_cache(MAX_CACHED_NAMES)(
            lambda name: name in names or either.match(name) is not None
        )

    def passed_by(self, positions: Sequence[int], names: Sequence[str]) -> set[int]:
        """Return the positions whose name matches none of the patterns; an empty name, which is a fault, is not among
        them."""
        matched = list(map(self.matches, names))
        if all(matched):
            return set()
        rows = zip(positions, names, matched, strict=True)
        return {position for position, name, found in rows if name and not found}


@functools.lru_cache(1000)
def pattern_filter(pattern: str) -> EntityFilter:
    """Return the filter of one pattern; those used last are kept."""
    return EntityFilter([pattern])


def only_this(name: str) -> str:
    """Return the pattern that this name alone matches.

    >>> only_this("TI[1]")
    'TI[[]1]'
    """
    return glob.escape(name)


class Teams:
    """Which team an entity is of. patterns: of each team, in the order in which they count

    >>> teams = Teams({"water": "pump-*", "paint": "press-*"})
    >>> teams.of("pump-3"), teams.of_first(["fan-1", "press-2", "pump-3"])
    ('water', 'paint')
    """

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._teams = [(name, pattern_filter(pattern)) for name, pattern in patterns.items()]
        self.of = functools.lru_cache(MAX_CACHED_NAMES)(self._of)

    def of_first(self, entities: Iterable[str]) -> str | None:
        """Return the team of the first of these entities that has one: of a fleet alert's, the worst comes first."""
        return next((team for entity in entities if (team := self.of(entity))), None)

    def _of(self, entity: str) -> str | None:
        return next((name for name, pattern in self._teams if pattern.matches(entity)), None)


def entity_filter(patterns: Sequence[str] | None) -> EntityFilter | None:
    """Return the filter of `event.only`; None without patterns."""
    return EntityFilter(patterns) if patterns else None
