"""Names of tags, such as `PUMP-1.TEMP`: which part is the entity, and which the signal.

Names are tags if they fall into two parts of which the first differ in a number or a letter only (PUMP-1, PUMP-2), and
most of these have the same second parts. Names of instruments fall so, too: TI-101 and FI-101, U_L1 and I_L1, TIC101.PV
and FIC101.PV. But what differs there are the letters for what is measured, and what is the same is a number.

The last part of a tag may be a property of an instrument, of which there are few: `M.L1.TI_101.PV` is TI_101 of M.L1.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SEPARATORS = (".", "/", "|", ":", "\\")
PARTS = re.compile(r"[./|:\\]")
WEAK = ("_", "-", " ")
"""Separators that are also found within names: they count only where hardly a name is no tag."""
MAX_LISTED = 4
"""Entities that a note names."""
MAX_OTHERS = 2
"""Names that are no tags then."""
MIN_FILLED = 0.6
"""Share of entities times signals that have a tag."""
MEASURED = re.compile("[A-Za-z]{1,4}")
"""Letters for what is measured, by which instruments are named."""
INSTRUMENT = re.compile("([A-Z][ACDEHIQRSTVYZ]{1,3})[-_ ]?[0-9]*[A-Z]?")
"""Those with what an instrument does (I indicates, C controls, T transmits, …), and its number: FIC-101."""
NUMBER, PLACE = re.compile("[0-9]+[A-Za-z]?"), re.compile("[A-Za-z]{0,2}[0-9]+[A-Za-z]?|[A-Za-z]")
"""The number of an instrument; and where it is, such as at the phase L1."""
ENCLOSED = re.compile(r"\[[^][]*\]|\([^()]*\)")
"""What stands in brackets, such as a unit: a separator within (`NH4 [mg/l]`) is none of the name."""


class TagNames(NamedTuple):
    """How names are made up. names: entity → signal → name"""

    pattern: str
    """`{entity}.{signal}`, to be shown."""
    names: dict[str, dict[str, str]]

    @property
    def signals(self) -> list[str]:
        """The signals, in the order of the names."""
        return list(dict.fromkeys(signal for names in self.names.values() for signal in names))

    @property
    def size(self) -> int:
        """Number of names that are tags."""
        return sum(map(len, self.names.values()))


def find_tag_names(names: Sequence[str], *, later_parts_first: bool = True) -> TagNames | None:
    """Return how names are made up of entity and signal; None if they are not.

    later_parts_first: an entity may also be the part before the first separator, not only that before the last
    """
    best: TagNames | None = None
    for separator in (*SEPARATORS, *WEAK):
        splits = [_split(names, separator, longest) for longest in ((True, False) if later_parts_first else (True,))]
        splits += [] if separator in WEAK else [_without_property(names, separator)]
        for found in splits:
            weak = separator in WEAK and (len(names) - found.size > MAX_OTHERS or len(found.signals) < 2)
            if weak or not _is_table(found) or _are_instruments(found, separator in WEAK):
                continue
            if best is None or len(found.signals) * len(found.names) > len(best.signals) * len(best.names):
                best = found
    return best


def find_families(names: Sequence[str]) -> TagNames | None:
    """Return how names are made up of entity and signal where machines of several kinds have them, such as compressors
    and their station (K1.SPEED, K2.SPEED, STN.PRESSURE); None if they are not.

    All names are tags then, and at least half of them those of machines that are named alike.
    """
    for separator in SEPARATORS:
        found = _split(names, separator, True)
        alike = sum(family.size for family in _families(found) if _is_table(family))
        if found.size == len(names) and 2 * alike >= len(names) and len(_codes(found.names, separator)) <= 1:
            return found
    return None


def _codes(entities: Iterable[str], separator: str) -> set[str]:
    """Return what the instruments measure by which entities are named: of `GF1.TT_101`, and of `GF1.TT_101.PV`, TT."""
    parts = (part for entity in entities for part in entity.split(separator)[-2:])
    return {match[1] for part in parts if (match := INSTRUMENT.fullmatch(part)) and any(map(str.isdigit, part))}


def _families(tags: TagNames) -> list[TagNames]:
    """Return the tags of the machines that are named alike but for their numbers, for each such name."""
    families: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for entity, signals in tags.names.items():
        families[re.sub("[0-9]+", "#", entity)][entity] = signals
    return [TagNames(tags.pattern, family) for family in families.values()]


def family_note(names: Sequence[str]) -> str | None:
    """Return a note where some columns are tags of machines named alike (AHU-1, AHU-2) and others those of further
    machines (CH-1), so that the columns as a whole are no table of tags; None where none are."""
    for separator in SEPARATORS:
        found = _split(names, separator, True)
        if any(map(_is_table, _families(found))) and len(_codes(found.names, separator)) <= 1:
            entities = list(found.names)
            listed = ", ".join(entities[:MAX_LISTED]) + (", …" if len(entities) > MAX_LISTED else "")
            return (
                f"columns are named like tags of {len(entities)} machines ({listed}), and are read as those of one: "
                f"--read tags='{found.pattern}' makes a row for each machine"
            )
    return None


def match_names(names: Iterable[str], pattern: str) -> TagNames:
    """Return the names that have a pattern such as `{entity}.{signal}`; `*` is any text."""
    parts = re.split(r"(\{entity\}|\{signal\}|\*)", pattern)
    known = {"{entity}": "(?P<entity>.+)", "{signal}": "(?P<signal>.+)", "*": ".*"}
    expression = re.compile("".join(known.get(part, re.escape(part)) for part in parts))
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        if (match := expression.fullmatch(name)) is not None:
            found[match["entity"].strip()].setdefault(match["signal"].strip(), name)
    return TagNames(pattern, dict(found))


def _bare(name: str) -> str:
    return ENCLOSED.sub(lambda found: "\0" * len(found[0]), name)


def _split(names: Sequence[str], separator: str, longest: bool) -> TagNames:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        bare = _bare(name)
        at = bare.rfind(separator) if longest else bare.find(separator)
        if at < 0:
            continue
        entity, signal = name[:at], name[at + len(separator) :]
        if entity.strip() and signal.strip():
            found[entity.strip()].setdefault(signal.strip(), name)
    return TagNames(f"{{entity}}{separator}{{signal}}", dict(found))


def _without_property(names: Sequence[str], separator: str) -> TagNames:
    """Return the names whose last part is a property of an instrument; none where an instrument has several, as a name
    without its last part is not enough then, or where last parts differ as what is measured does."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    properties = set()
    for name in names:
        bare = _bare(name)
        last = bare.rfind(separator)
        at = bare.rfind(separator, 0, max(last, 0))
        entity, signal = name[: max(at, 0)].strip(), name[at + 1 : last].strip()
        if not entity or not signal:
            continue
        if signal in found[entity]:
            return TagNames("", {})
        found[entity][signal] = name
        properties.add(name[last + 1 :].strip())
    tags = TagNames(f"{{entity}}{separator}{{signal}}{separator}*", dict(found))
    return tags if 2 * len(properties) <= len(tags.signals) else TagNames("", {})


def _is_table(tags: TagNames) -> bool:
    """Return whether several entities that are named alike have mostly the same signals."""
    if len(tags.names) < 2 or not _named_alike(list(tags.names)):
        return False
    shared = any(sum(signal in names for names in tags.names.values()) > 1 for signal in tags.signals)
    return shared and tags.size >= MIN_FILLED * len(tags.names) * len(tags.signals)


def _are_instruments(tags: TagNames, weak: bool) -> bool:
    """Return whether names are those of instruments, and their first parts what these measure. weak: the separator"""
    entities = [PARTS.split(name)[-1] for name in tags.names]  # GF1.TT_101.PV may be split at `_`
    signals = [PARTS.split(name)[0] for name in tags.signals]
    codes = {match[1] if (match := INSTRUMENT.fullmatch(name)) else "" for name in entities}
    if "" not in codes and len(codes) > 1:
        return True
    if all(map(MEASURED.fullmatch, entities)):
        return _are_mostly(PLACE, signals)
    return weak and _are_mostly(NUMBER, signals)


def _are_mostly(pattern: re.Pattern[str], signals: Sequence[str]) -> bool:
    return 2 * sum(pattern.fullmatch(signal) is not None for signal in signals) > len(signals)


def _named_alike(names: list[str]) -> bool:
    """Return whether names differ in their numbers, or in one letter at the same place, only."""
    if len({re.sub("[0-9]+", "#", name) for name in names}) == 1:
        return True
    first = names[0]
    if any(len(name) != len(first) for name in names):
        return False
    places = {i for name in names for i, (a, b) in enumerate(zip(first, name, strict=True)) if a != b}
    return len(places) == 1 and all(name[next(iter(places))].isalnum() for name in names)
