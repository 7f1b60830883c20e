"""Columns that are no inputs by what they name: labels, not known when an event comes, and the numbers of lots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from typing import Any

from ssm_stream.autoconfig.columns import Column, name_words, word_set

KNOWN_LATER = word_set(
    "label labels anomaly anomalies anomalous outlier fault failure fail defect attack changepoint target truth class"
)
"""Words for columns that are not available when an event comes, or contain the target."""
MARKS = word_set(
    "event events alarm alarms alert trip tripped incident breakdown broken downtime abnormal error failed faulty "
    "failures faults defective leak issue problem"
)
"""Words for columns that are labels if they mark few rows."""
MAX_MARKED = 0.1
"""Share of rows that a label marks at most."""
MIN_LOTS, MIN_NAMED, MIN_NUMBERED = (8, 8), (2, 1), (2, 0)
"""Different texts, and changes from one to another, without which a sample does not show that none comes again; those
of a column that is named like lots, of which a sample of a day or two has few; and where all of its texts have a number
in them, as the lots of vessels that take a week for one."""
LOTS = word_set(
    "batch batchid batchno lot lotid lotno order orderno job charge chargen los partie auftrag auftrags campaign "
    "ロット ロット番号 製番 指図番号 バッチ番号"
)
LOT_NUMBER = (
    "the number of a lot or an order: whole numbers that stay for a stretch of rows and hardly ever come again, which "
    "name what is made and measure nothing"
)
MIN_STRETCH, MAX_STRETCHES = 4, 2
"""Rows in the mean of a stretch in which a lot's number stays, and stretches of an entity in the mean in which each
comes, from which whole numbers name something that comes again: programs, that some call jobs."""
AMOUNTS = word_set("charge")
"""Words for lots that are amounts where numbers have them as their last word: battery_charge; a charge_no is a lot."""
NUMBERED = word_set("id no nr nummer number num code key name")
"""Words for lots, and those after them that do not change what is named: batch_id; a batch_type is no lot."""


def is_known_later(words: Collection[str], *, free: bool) -> bool:
    """Return whether a column is not known when an event comes, by the words of its name.

    free: whether `target` does not count: it is what a machine is set to, or the name of a signal among others
    """
    return not (KNOWN_LATER - {"target"} if free else KNOWN_LATER).isdisjoint(words)


def known_later(paths: Collection[str], commands: Collection[str], *, watches_all: bool) -> set[str]:
    """Return the columns that are not known when an event comes, by their names.

    Args:
        paths: of all columns
        commands: paths of those that are set
        watches_all: whether every signal is a target, so that one named `target` may be one
    """
    words = {path: name_words(path.rpartition(".")[2]) for path in paths}
    free = {path for path, own in words.items() if path in commands or (watches_all and own == ["target"])}
    return {path for path, own in words.items() if is_known_later(own, free=path in free)}


def label_reason(column: Column) -> str | None:
    """Return why a column is a label by its name and its values; None if it is none."""
    if not set(column.name) & (MARKS | KNOWN_LATER) or column.distinct != 2:
        return None
    ((_, usual), (mark, rare)) = Counter(column.values.values()).most_common(2)
    if rare > MAX_MARKED * (usual + rare):
        return None
    return (
        f"{mark!r} in {rare} of {usual + rare} rows, and named like a label: what marks events is not known when they "
        "come; name it under features if it is. An alarm of the machine itself is passed on by alerts.limits: "
        f"[{{column: {json.dumps(column.path, ensure_ascii=False)}, one_of: [{json.dumps(mark, ensure_ascii=False)}]}}]"
    )


def lot_reason(column: Column, owners: dict[int, Any]) -> str | None:
    """Return why a column is no input: it names lots, and the next is one without a past; None if not.

    owners: row → name of its entity; a lot may pass through several entities
    """
    words = [word for word in column.name if word not in NUMBERED and not word.isdecimal()]
    named = bool(words) and words[-1] in LOTS
    if column.kind != "text" and not (column.kind == "whole" and named and column.name[-1] not in AMOUNTS):
        return None
    stretches = _stretches(column, owners)
    changes = sum(stretches.values()) - len({owner for owner, _ in stretches})
    if column.kind == "whole":
        lasting = MIN_STRETCH * sum(stretches.values()) <= len(column.values)
        mostly_once = sum(stretches.values()) < MAX_STRETCHES * len(stretches)
        return LOT_NUMBER if changes and lasting and mostly_once else None
    least, turns = MIN_LOTS
    if named:
        numbered = all(any(map(str.isdecimal, value)) for value in column.values.values())
        least, turns = MIN_NUMBERED if numbered else MIN_NAMED
    if column.distinct < least or max(stretches.values()) > 1 or changes < turns:
        return None
    return (
        f"each of its {column.distinct} values comes in one stretch of rows and never again: the number of a lot or an "
        "order, of which the next is always unknown"
    )


def _stretches(column: Column, owners: dict[int, Any]) -> Counter[tuple[Any, Any]]:
    """Return in how many stretches of rows each entity has each value. owners: row → name of its entity"""
    last, stretches = dict[Any, Any](), Counter[tuple[Any, Any]]()
    for i, value in column.values.items():
        owner = owners.get(i)
        if owner not in last or last[owner] != value:
            stretches[owner, value] += 1
        last[owner] = value
    return stretches
