"""The column with the name of an event's entity, among those of a sample."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import MIN_FILLED, Column, count_disorder, word_set
from ssm_stream.autoconfig.date_numbers import HOURS, PARTS, runs_through
from ssm_stream.autoconfig.names.nested_names import finer_name, mixed_by
from ssm_stream.autoconfig.names.own_steps import MAX_STEP, MIN_NAMES, alternates, own_step
from ssm_stream.autoconfig.quality_flags import FLAGS
from ssm_stream.autoconfig.rest import name_pattern
from ssm_stream.autoconfig.row_order import MAX_DISORDER, runs_backwards
from ssm_stream.autoconfig.stops import MAX_ENDED, WARMUP, find_ended, life_of, lives_of, short_lived, step_of
from ssm_stream.config.natural_order import natural_key
from ssm_stream.ingest.events import Events

THINGS = word_set(
    "entity machine device asset equipment sensor host hostname engine turbine pump robot vehicle station meter server "
    "service instance node pod line motor compressor press oven furnace mill boiler chiller conveyor reactor tank "
    "inverter battery well truck bus train building room pipe plc chamber basin blower kiln extruder"
)
"""Words for what is monitored."""
PLACES = word_set("id name serial series site plant location area region zone store shop")
"""Words that name an entity by themselves, too."""
IDENTIFIERS = PLACES | word_set("tag key no nr num number code channel unit item group source system")
"""Words that accompany those, or name an entity by themselves where there are several."""
NAMES = word_set("id name serial uuid")
"""Those that after a thing name it, whatever other words there are."""
PASSING = word_set("next last prev previous first from to origin destination current active lead duty standby")
"""Words for what is another thing from time to time."""
NO_NAMES = FLAGS | {"unit", "units"}
"""Words for texts that a measurement has."""
CLOCK = re.compile("[0-9]{1,2}[:.h][0-9]{2}([:.][0-9]{2})?(?![0-9])")
"""The beginning of a time of day."""
DAY_MS = 86_400_000
MIN_ROWS_OF_KIND, MIN_OWN_COLUMNS = 50, 2
"""Rows of a machine by which it shows the columns that it has; and columns that no other kind of machine has, one of
them an input or a target."""
MIN_NAMED = 8
"""Machines, each with a text of its own, by which it is a name: each of three may make another product."""
MAX_LISTED = 3
"""Columns that a note names."""


def find_entity(
    found: dict[str, Column],
    chosen: str | None,
    timestamp: str,
    ts: NDArray[np.int64],
    why: dict[str, str],
    notes: list[str],
) -> str | None:
    """Return the path of the entity's name; None if no column is one."""
    backwards = runs_backwards(ts)
    ts = -ts if backwards else ts
    whole = count_disorder(None, ts)
    parts = [column.path for column in found.values() if column.path != chosen and _is_part_of_day(column, ts)]
    if parts:
        notes.append(
            f"`{parts[0]}` runs through the same values on each date, as the hours of a day do, so it is taken for no "
            "machine: write date and time into one column (2026-02-03T06:00:00), or, if it does name machines, give "
            f"--entity {shlex.quote(parts[0])}"
        )
    if chosen is not None:
        column = found[chosen]
        if not column.may_be_entity:
            notes.append(
                f"`{chosen}`: an entity's name is text or a whole number, in every row; other rows are dead letters"
            )
        why["entity"] = f"as given; {_count(column.distinct)}"
        return chosen
    scored: list[tuple[float, int, int, Column]] = []
    by_order = False
    for column in found.values():
        if column.path in (timestamp, *parts) or not column.may_be_entity or 2 * column.distinct > max(column.n, 3):
            continue
        left, explains = _order(column, ts, whole)
        explains |= left <= 0.02 * column.n and _in_turn(column, ts)
        by_order |= explains
        named = 0.0 if column.kind == "whole" and column.distinct == 2 else name_score(column)
        score = 3.0 * explains + named + (column.kind == "text")
        if score >= 2.5:
            scored.append((-score, left, column.index, column))
    by_name = max((name_score(column) for *_, column in scored), default=0.0) >= 2.0
    shown = by_order or by_name or whole > MAX_DISORDER * len(ts)
    if going_on := [] if shown else _going_on(found, {timestamp, *parts}):
        _, column = min(going_on, key=lambda item: (item[0], item[1].index))
        why["entity"] = f"numbers go on from row to row within each of its values; {_count(column.distinct)}"
        return column.path
    if scored:
        *_, column = min(scored, key=lambda item: item[:3])
        if finer := finer_name(column, [c for *_, c in scored if c.kind == "text" or not NAMES.isdisjoint(c.name)]):
            why["entity"] = (
                f"each `{column.path}` is that of several, whose rows come in turn; {_count(finer.distinct)}"
            )
            return finer.path
        groups = (c for c in found.values() if c.kind == "text" and c.path != timestamp and name_score(c) > 0)
        if (group := mixed_by(column, groups)) is not None:
            notes.append(
                f"rows of each `{column.path}` are of several `{group.path}` in turn: if both together name a machine, "
                "write them into one column, as `host-1/eth0`, and name it with --entity"
            )
        _, explains = _order(column, ts, whole)
        reason = "by its name" if name_score(column) else ""
        order = f"times only {'go back' if backwards else 'grow'} within each of its values" if explains else ""
        order = order or "its values come in turn, row by row" * _in_turn(column, ts)
        why["entity"] = f"{', and '.join(filter(None, [reason, order]))}; {_count(column.distinct)}"
        return column.path
    why["entity"] = "no column names one: all rows are taken for those of one machine (event.entity_default)"
    same = [c.path for c in found.values() if _may_name_the_machine(c) and c.path != timestamp]
    if same:
        listed = ", ".join(f"`{path}`" for path in same[:MAX_LISTED]) + (" and others" if same[MAX_LISTED:] else "")
        which = f"if it names the machine, give --entity {shlex.quote(same[0])}"
        if len(same) > 1:
            which = "if one names the machine, give it with --entity"
        notes.append(f"{listed} {'is' if len(same) == 1 else 'are'} the same text in all rows: {which}")
    return None


def _is_part_of_day(column: Column, ts: NDArray[np.int64]) -> bool:
    """Return whether it is the time of day of rows that have a date alone: a clock, an hour, or numbers of as many
    parts as a day may have, and named like no entity. ts: times of the rows, ms"""
    if (ts % DAY_MS).any() or not column.may_be_entity or name_score(column):
        return False
    texts = [str(value).strip() for value in column.values.values()]
    rows = zip(ts[list(column.values)].tolist(), texts, strict=True)
    if column.kind == "text":
        return column.distinct > 2 and sum(CLOCK.match(text) is not None for text in texts) >= MIN_FILLED * len(texts)
    numbers = {int(text) for text in texts}
    low, high = min(numbers), max(numbers)
    hours = bool(HOURS & {*column.name}) and low >= 0 and high <= 25 and column.distinct > 2
    parts = low in (0, 1) and len(numbers) == high - low + 1 and len(numbers) in PARTS
    return (hours or parts) and runs_through([(date, int(text)) for date, text in rows])


def _may_name_the_machine(column: Column) -> bool:
    """Return whether a text is the same in all rows, and is named like no unit and no flag; it may be a mode, too."""
    return column.kind == "text" and column.distinct == 1 and column.may_be_entity and not set(column.name) & NO_NAMES


def _order(column: Column, ts: NDArray[np.int64], whole: int) -> tuple[int, bool]:
    """Return the rows out of order within its values, and whether its values explain those of all rows, `whole`."""
    names = [column.values.get(i) for i in range(column.n)]
    left = count_disorder(names, ts)
    if whole > 0.02 * column.n:  # interleaved
        by_chance = count_disorder(np.random.default_rng(0).permutation(np.array(names, object)).tolist(), ts)
        return left, left <= min(0.02 * whole, 0.2 * by_chance) and by_chance >= 10
    runs = 1 + sum(a != b for a, b in pairwise(names))
    return left, whole > left == 0 and runs == column.distinct  # one after another


def _in_turn(column: Column, ts: NDArray[np.int64]) -> bool:
    """Return whether texts come in turn, as machines that are polled one after another, so that over all rows times
    only grow, too: at most rows the value is that of as many rows ago as there are values, in rounds of less than a day
    (weekdays and shifts come in turn). A mode stays for some rows, and what changes at random hardly keeps the turn.
    """
    n = column.distinct
    passing = not PASSING.isdisjoint(column.name)  # the next station of a train comes in turn, too
    if column.kind != "text" or n < MIN_NAMES or 2 * n > len(column.values) or passing:
        return False
    last: dict[str, int] = {}
    kept = 0
    for row, name in column.values.items():
        kept += row - last.get(name, row) == n
        last[name] = row
    return 2 * kept > len(column.values) and 0 < n * float(np.median(np.abs(np.diff(ts)))) < DAY_MS


def name_score(column: Column) -> float:
    """Return how likely a column's name is that of an entity: 2.5 for one of `THINGS`, 2 for one with an id and other
    words, 1.5 for an id, else 0."""
    words = {word for word in column.name if not word.isdecimal()}
    if not column.name or not words <= THINGS | IDENTIFIERS:
        named = any(thing in THINGS and own in NAMES for thing, own in pairwise(column.name))
        return 2.0 if named and not words & PASSING else 0.0  # connectionDeviceId, wind_turbine_name
    if column.kind == "text" and words == {"unit"}:
        return 0.0  # that of a measurement
    if column.kind == "text" and column.distinct == 1 and not words & (THINGS | PLACES):
        return 0.0  # `code`, `source`: in later rows it may be another of the same machine
    return 2.5 if words & THINGS else 1.5


def _going_on(found: Mapping[str, Column], taken: Collection[str]) -> list[tuple[float, Column]]:
    """Return the columns within whose values numbers go on, and how near, of what may name machines: texts, and ids."""
    numbers = [column for column in found.values() if column.kind in ("number", "whole") and column.path not in taken]
    out = list[tuple[float, Column]]()
    for column in found.values():
        named = (column.kind == "text" or not NAMES.isdisjoint(column.name)) and PASSING.isdisjoint(column.name)
        if named and column.path not in taken and alternates(column):
            out.append((own_step(column, numbers), column))
    return [item for item in out if item[0] <= MAX_STEP]


def _count(distinct: int) -> str:
    return f"{distinct} value{'s' if distinct != 1 else ''} in the sample"


def other_name_reason(column: Column, owners: Mapping[int, Any]) -> str | None:
    """Return why a text is another name of the entity, and no category: it would hold nothing but the entity, and cost
    each prediction as much as what does. None if it is none.

    It is one for each entity, with its name in it, as an address has; or of many one each, as a number of the radio is.
    owners: row → name of its entity
    """
    if column.kind != "text" or column.distinct != len({*owners.values()}) or column.distinct < 2:
        return None
    if all(owners.get(i) is not None and str(owners[i]) in str(text) for i, text in column.values.items()):
        return "text that has the entity's name in it, and no other for it"
    is_name = column.distinct == len({(owners.get(i), text) for i, text in column.values.items()})
    return "another name of the entity: one for each" if is_name and column.distinct >= MIN_NAMED else None


def kinds_note(used: Sequence[Column], found: Iterable[Column], owners: Mapping[int, Any]) -> str | None:
    """Return a note on kinds of machines with columns of their own, and how to watch each by a file; None if all have
    the same.

    Args:
        used: the columns that are inputs or targets
        found: all columns, of which a kind may have some that are left out, such as a total
        owners: row → name of its entity
    """
    rows = Counter(owners.values())
    named = {column.path: {owners.get(i) for i in column.values} for column in found}
    kinds: dict[frozenset[str], list[Any]] = {}
    for name, count in rows.items():
        if count >= MIN_ROWS_OF_KIND:
            kinds.setdefault(frozenset(c.path for c in used if name in named[c.path]), []).append(name)
    if len(kinds) < 2 or not all(paths.difference(*(kinds.keys() - {paths})) for paths in kinds):
        return None
    own = {
        paths: sum(not having.isdisjoint(names) and having <= {*names} for having in named.values())
        for paths, names in kinds.items()
    }
    if min(own.values()) < MIN_OWN_COLUMNS:
        return None
    described, only = [], []
    for paths, names in kinds.items():
        pattern = name_pattern(names, [name for name in rows if name not in names])
        only.append([str(name) for name in names] if pattern is None else [pattern])
        described.append(f"{', '.join(only[-1][:MAX_LISTED])} with {own[paths]} columns of their own")
    files = [
        f"event.only: {json.dumps(names, ensure_ascii=False)} and {', '.join(sorted(paths, key=natural_key))}"
        for names, paths in zip(only, kinds, strict=True)
    ]
    return (
        f"{len(kinds)} kinds of machines: {'; '.join(described)}, which are unknown in the rows of the others and "
        "explain nothing there. A file for each watches them apart: this one with event.only and these columns alone: "
        f"{'; '.join(files)}"
    )


def warmup_note(
    events: Events, entity: str | None, found: Mapping[str, Column], owners: Mapping[int, Any]
) -> str | None:
    """Return a note where machines end before they can raise an alert, with what there is in place of them; or where
    the sample is shorter than that.

    Args:
        events: of the sample
        entity: path of the entity's name
        found: path → column
        owners: row → name of its entity
    """
    lives = lives_of(events)
    short = short_lived(lives, step_of(events))
    if entity is not None and len(short) > MAX_ENDED * len(lives):
        note = (
            f"{len(short)} of {len(lives)} machines (`{entity}`) end in the sample within {WARMUP} rows, before the "
            "model may raise an alert of them (model.warmup)"
        )
        if (group := _group(found, owners, entity, events)) is None:
            return f"{note}: if a column groups them, such as a service or a line, name it with --entity"
        return (
            f"{note}: --entity {shlex.quote(group.path)} watches what lasts ({group.distinct} values). Rows of several "
            "machines then share a time: make one of them by event.aggregate (docs/data-shapes.md#windows)"
        )
    if len(events) < WARMUP * len(lives):
        return (
            f"about {len(events) // max(len(lives), 1)} rows an entity in the sample: it can raise alerts from its "
            f"event {WARMUP} on (model.warmup)"
        )
    return None


def _group(found: Mapping[str, Column], owners: Mapping[int, Any], entity: str, events: Events) -> Column | None:
    """Return the column with most values of those that group the entities, and whose groups last; None if none does.

    A group may last though each of its entities ends, as a service does, and not though some of these had many rows, as
    a version.
    """
    step = step_of(events)
    groups = []
    for column in found.values():
        if (
            column.path == entity
            or not column.may_be_entity
            or not 1 < column.distinct <= len(set(owners.values())) / 2
        ):
            continue
        pairs = {(str(owners.get(i)), value) for i, value in column.values.items()}
        if len(pairs) != len(set(owners.values())):
            continue
        of = np.array([str(column.values.get(i)) for i in events.position.tolist()])
        ended = find_ended({value: life_of(events.ts[of == value]) for value in np.unique(of).tolist()}, step)
        if len(ended) <= MAX_ENDED * column.distinct:
            groups.append(column)
    return max(groups, key=lambda column: column.distinct, default=None)
