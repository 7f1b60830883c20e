"""Drafts a configuration from a sample of events: which columns are the entity, the time, the target and the inputs.

Names of columns are hints, and the order of the rows is evidence: where times go back or repeat, and do not within the
rows of one machine, the machine's column is the entity. Each choice has its reason, so that a person can check it; what
the sample does not show is an error or a note.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import (
    Column,
    columns,
    count_disorder,
    has_offset,
    may_be_elapsed_seconds,
    median_step,
    name_words,
    time_format,
)
from ssm_stream.autoconfig.feature_selection import SAMPLE, select_features
from ssm_stream.autoconfig.idle_columns import collinear_notes, without_idle_columns
from ssm_stream.autoconfig.signals import as_targets, without_symptoms
from ssm_stream.config import ALL, Config, ConfigError, Event, Model, Source
from ssm_stream.config.suggestions import suggest
from ssm_stream.ingest.events import EventReader

TIMES = ("timestamp", "ts", "datetime", "time", "date", "t", "when", "created", "epoch")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


THINGS = _words(
    "entity machine device asset equipment sensor host hostname engine turbine pump robot vehicle station meter server "
    "service instance node pod line motor compressor press oven furnace mill boiler chiller conveyor reactor tank "
    "inverter battery well truck bus train building room pipe plc"
)
"""Words for what is monitored."""
IDENTIFIERS = _words(
    "id name tag key no nr num number code series channel unit site plant location area region zone store shop item "
    "group serial source system"
)
"""Words that accompany those, or name an entity by themselves."""
TARGETS = (("target", "y"), ("value", "measurement", "reading", "output"))
KNOWN_LATER = _words(
    "label labels anomaly anomalies anomalous outlier fault failure fail defect attack changepoint target truth class"
)
"""Words for columns that are not available when an event comes, or contain the target."""
CALENDAR = _words("hour minute second day dow weekday week month year quarter holiday weekend")
COUNTERS = _words("index row cycle step count counter seq sequence offset n")
WARMUP = Model().warmup


class Choices(NamedTuple):
    """The paths that the user has chosen."""

    entity: str | None = None
    timestamp: str | None = None
    targets: Sequence[str] = ()
    """Or `all` alone: every signal."""


class Draft(NamedTuple):
    """An `event` section with its reasons.

    Attributes:
        event: the section, with its features
        why: setting → the reason
        left_out: path of a column → why it is no input
        notes: further observations for the user
        rows: number of rows examined; entities: among them; step: median seconds between rows of an entity, or NaN
    """

    event: Event
    why: dict[str, str]
    left_out: dict[str, str]
    notes: list[str]
    rows: int
    entities: int
    step: float


def draft_event(documents: Sequence[Any], choices: Choices, name: str) -> Draft:
    """Return an event section for these documents.

    Args:
        documents: parsed JSON or rows, in the order of their source
        choices: what need not be inferred
        name: of the entity, if no column names one

    Raises:
        ConfigError: no column is a time, or none can be a target; a chosen column is not there.
    """
    rows = [d for d in documents if type(d) is dict]
    if not rows:
        raise ConfigError(
            f"none of the {len(documents)} messages of the sample is a JSON object: there is nothing to read"
        )
    found = {column.path: column for column in columns(rows)}
    watches_all = list(choices.targets) == [ALL]
    for path in (choices.entity, choices.timestamp, *(() if watches_all else choices.targets)):
        if path is not None and path not in found:
            raise ConfigError(f"no column {path!r} in the sample; {suggest(path, found, 'its columns')}")
    why: dict[str, str] = {}
    notes: list[str] = []
    timestamp, form = _timestamp(found, choices.timestamp, why, notes)
    ts = _times(rows, timestamp, form)
    entity = _entity(found, choices.entity, timestamp, ts, why, notes)
    default = None if entity else name
    taken = {timestamp, *([entity] if entity else [])}
    targets = [_free("target", found)] if watches_all else list(choices.targets)
    targets = targets or [_target(found, taken, entity, why, notes)]
    if choices.targets:
        why["target"] = "as given"
    fixed: dict[str, Any] = {
        "entity": entity or _free("entity", found),
        "entity_default": default,
        "timestamp": timestamp,
        "timestamp_format": form,
        "target": targets,
        "features": "auto",
    }
    event = Event.model_validate(fixed)
    event, left_out, remarks = _inputs(event, rows, why, KNOWN_LATER - {"target"} if watches_all else KNOWN_LATER)
    events, refused = EventReader(event).read(rows)
    if len(events):
        if watches_all:
            owners = found[entity].values if entity else {}
            never = [path for path in event.numbers if _is_no_signal(found[path], owners)]
            narrowed, remarks = as_targets(event, events, never), []
        else:
            idle = without_idle_columns(event, events)
            if idle.left_out:
                events, _ = EventReader(idle.event).read(rows)
            narrowed = without_symptoms(idle.event, events)
            left_out |= idle.left_out
            if narrowed.left_out:
                events, _ = EventReader(narrowed.event).read(rows)
            notes += [*idle.notes, *collinear_notes(narrowed.event, events)]
        event, left_out = narrowed.event, left_out | narrowed.left_out
        why |= narrowed.why
        notes += narrowed.notes
    if refused:
        notes.append(f"{len(refused)} of {len(rows)} rows cannot be read, the first: {refused[0].reason}")
    entities = len(set(events.entity))
    if len(events) < WARMUP * entities:
        notes.append(
            f"about {len(events) // max(entities, 1)} rows an entity in the sample: it can raise alerts from its event "
            f"{WARMUP} on (model.warmup)"
        )
    return Draft(event, why, left_out, notes + remarks, len(rows), entities, median_step(events.entity, events.ts))


def _timestamp(found: dict[str, Column], chosen: str | None, why: dict[str, str], notes: list[str]) -> tuple[str, str]:
    """Return the path of the time, and its format."""
    if chosen is not None:
        form = time_format(found[chosen]) or ("s" if may_be_elapsed_seconds(found[chosen]) else "auto")
        why["timestamp"] = f"as given; {_describe_time(found[chosen], form, notes)}"
        return chosen, form
    forms = {
        path: detected
        for path, column in found.items()
        if (detected := time_format(column)) is not None
        and (detected == "iso" or _rank(column, TIMES) < len(TIMES) or _is_increasing(column))
    }
    if forms:
        path = min(forms, key=lambda path: (_rank(found[path], TIMES), found[path].index))
        why["timestamp"] = _describe_time(found[path], forms[path], notes)
        if len(forms) > 1:
            others = ", ".join(other for other in forms if other != path)
            why["timestamp"] += f"; {others} would do, too"
        return path, forms[path]
    elapsed = [c for c in found.values() if _rank(c, TIMES) < len(TIMES) and may_be_elapsed_seconds(c)]
    if elapsed:
        column = min(elapsed, key=lambda c: (_rank(c, TIMES), c.index))
        why["timestamp"] = _describe_time(column, "s", notes)
        return column.path, "s"
    named = [c for c in found.values() if _rank(c, TIMES) < len(TIMES)]
    hint = ""
    if named:
        value = next(iter(named[0].values.values()))
        hint = f"; `{named[0].path}` ({value!r}) is named like one, but is neither ISO 8601 nor a number: convert it"
    raise ConfigError(
        f"no column is a time{hint}; name one with --timestamp. Times are ISO 8601 text (2026-01-31T12:00:00Z) or "
        f"seconds, milli-, micro- or nanoseconds since 1970. Columns: {', '.join(found)}"
    )


def _describe_time(column: Column, form: str, notes: list[str]) -> str:
    """Return a description of a column of times; add notes on its zone and origin."""
    if form == "iso":
        if has_offset(column):
            return "text in ISO 8601"
        notes.append(
            f"`{column.path}` has no offset from UTC and is taken for UTC: set event.time_zone where it is local time"
        )
        return "text in ISO 8601, without an offset: taken for UTC"
    if form == "auto":
        return "the format is detected value by value"
    unit = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[form]
    if time_format(column) is None:
        notes.append(f"`{column.path}` does not count from 1970: calendar inputs and times in alerts are meaningless")
        return f"numbers that grow, taken for {unit} since some beginning"
    return f"numbers, {unit} since 1970"


def _is_increasing(column: Column) -> bool:
    """Return whether hardly a number is smaller than that of the row before."""
    steps = np.diff(column.numbers[~np.isnan(column.numbers)])
    return bool(np.count_nonzero(steps < 0) <= 0.1 * len(steps))


def _rank(column: Column, ranked: Sequence[str]) -> int:
    """Return the index of its best word in a ranked list; the length of the list if none is in it."""
    return min((ranked.index(word) for word in column.name if word in ranked), default=len(ranked))


def _times(rows: Sequence[dict[str, Any]], timestamp: str, form: str) -> NDArray[np.int64]:
    """Return times (n,) in ms; where one cannot be read, the last one before."""
    bare = {"entity": "\0", "entity_default": "-", "timestamp": timestamp, "timestamp_format": form, "target": "\0"}
    reader = EventReader(Event.model_validate(bare))
    events, _ = reader.read(rows)
    if not len(events):
        raise ConfigError(
            f"timestamp: `{timestamp}` cannot be read in any of {len(rows)} rows; name another with --timestamp"
        )
    at = np.searchsorted(events.position, np.arange(len(rows)), side="right") - 1
    return events.ts[np.maximum(at, 0)]


def _entity(
    found: dict[str, Column],
    chosen: str | None,
    timestamp: str,
    ts: NDArray[np.int64],
    why: dict[str, str],
    notes: list[str],
) -> str | None:
    """Return the path of the entity's name; None if no column is one."""
    whole = count_disorder(None, ts)
    if chosen is not None:
        column = found[chosen]
        if not column.may_be_entity:
            notes.append(
                f"`{chosen}`: an entity's name is text or a whole number, in every row; other rows are dead letters"
            )
        why["entity"] = f"as given; {_count(column.distinct)}"
        return chosen
    scored: list[tuple[float, int, int, Column]] = []
    for column in found.values():
        if column.path == timestamp or not column.may_be_entity or 2 * column.distinct > max(column.n, 3):
            continue
        left, explains = _order(column, ts, whole)
        named = 0.0 if column.kind == "whole" and column.distinct == 2 else _name_score(column)
        score = 3.0 * explains + named + (column.kind == "text")
        if score >= 2.5:
            scored.append((-score, left, column.index, column))
    if scored:
        _, left, _, column = min(scored, key=lambda item: item[:3])
        _, explains = _order(column, ts, whole)
        reason = "by its name" if _name_score(column) else "the only name in the rows" if column.distinct == 1 else ""
        order = "times only grow within each of its values" if explains else ""
        why["entity"] = f"{', and '.join(filter(None, [reason, order]))}; {_count(column.distinct)}"
        if left > 0.2 * column.n:
            notes.append(
                f"times repeat or go back in {left} of {column.n} rows within one `{column.path}`: if one thing is "
                "named by several columns, put them together into one"
            )
        return column.path
    only = next((c for c in found.values() if c.distinct == 1 and c.kind == "text" and c.may_be_entity), None)
    if only is not None:
        why["entity"] = "the only name in the rows; 1 value"
        return only.path
    why["entity"] = "no column names one: all rows are taken for those of one machine (event.entity_default)"
    if whole > 0.02 * len(ts):
        notes.append(
            f"times repeat or go back in {whole} of {len(ts)} rows, and no column distinguishes several machines: name "
            "one with --entity, or add one"
        )
    return None


def _order(column: Column, ts: NDArray[np.int64], whole: int) -> tuple[int, bool]:
    """Return the rows out of order within its values, and whether its values explain those of all rows, `whole`."""
    names = [column.values.get(i) for i in range(column.n)]
    left = count_disorder(names, ts)
    if whole > 0.02 * column.n:  # interleaved
        by_chance = count_disorder(np.random.default_rng(0).permutation(np.array(names, object)).tolist(), ts)
        return left, left <= min(0.02 * whole, 0.2 * by_chance) and by_chance >= 10
    runs = 1 + sum(a != b for a, b in pairwise(names))
    return left, whole > left == 0 and runs == column.distinct  # one after another


def _name_score(column: Column) -> float:
    """Return how likely a column's name is that of an entity: 2.5 for one of `THINGS`, 1.5 for an id, else 0."""
    if not column.name or not all(w in THINGS or w in IDENTIFIERS or w.isdecimal() for w in column.name):
        return 0.0
    return 2.5 if any(word in THINGS for word in column.name) else 1.5


def _count(distinct: int) -> str:
    return f"{distinct} value{'s' if distinct != 1 else ''} in the sample"


def _target(
    found: dict[str, Column], taken: set[str], entity: str | None, why: dict[str, str], notes: list[str]
) -> str:
    names = found[entity].values if entity else {}
    usable = [
        column
        for column in found.values()
        if column.path not in taken and column.kind in ("number", "whole") and column.distinct > 2
        and 2 * len(column.values) >= column.n and (_rank(column, TIMES) == len(TIMES) or time_format(column) is None)
    ]  # fmt: skip
    for tier in TARGETS:
        for word in tier:
            exact = [c for c in usable if c.name == [word]]
            if exact:
                why["target"] = "by its name"
                return exact[0].path
    varied = [c for c in usable if not _is_auxiliary(c) and not _never_decreases(c, names)]
    if not varied:
        raise ConfigError(
            f"no column is a number that varies and could be predicted; name the target with --target. Columns: "
            f"{', '.join(found)}"
        )
    best = max(varied, key=lambda c: (any(w in TARGETS[1] for w in c.name), min(c.distinct, 20), c.index))
    others = ", ".join(c.path for c in varied if c is not best)
    why["target"] = "no column is named like one: the last number that varies freely" if others else "the only number"
    if others:
        notes.append(f"target: `{best.path}` is a guess; name another with --target: {others}")
    return best.path


def _is_auxiliary(column: Column) -> bool:
    """Return whether it is named like a label, a part of the calendar, a counter or an id."""
    return any(w in KNOWN_LATER or w in CALENDAR or w in COUNTERS or w == "id" for w in column.name)


def _is_no_signal(column: Column, names: dict[int, Any]) -> bool:
    """Return whether it is no signal: a label, a part of the calendar, a counter or an id."""
    return (_is_auxiliary(column) and column.name != ["target"]) or _never_decreases(column, names)


def _never_decreases(column: Column, names: dict[int, Any]) -> bool:
    """Return whether it has whole numbers that never decrease within an entity."""
    last: dict[Any, float] = {}
    for i, value in column.values.items():
        name = names.get(i)
        if not isinstance(value, int) or value < last.get(name, -math.inf):
            return False
        last[name] = value
    return True


def _inputs(
    event: Event, rows: Sequence[dict[str, Any]], why: dict[str, str], known_later: frozenset[str]
) -> tuple[Event, dict[str, str], list[str]]:
    """Return the section with its features and categories, the columns left out, and remarks."""
    bare = Config(source=Source(brokers="-", topic="-"), event=event)
    spread = [rows[i] for i in np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int).tolist()]
    selection = select_features(bare, spread)
    selected, left_out = selection.config.event, dict(selection.left_out)
    words = {path: name_words(path.rpartition(".")[2]) for path in selected.columns}
    later = {path for path, own in words.items() if set(own) & (known_later if own == ["target"] else KNOWN_LATER)}
    left_out |= dict.fromkeys(sorted(later), "by its name not known when an event comes, or a target itself")
    features = [path for path in selected.numbers if path not in later]
    categories = [path for path in selected.categories if path not in later]
    why["features"] = "numbers" if features else "no other column is a number: its own past and the calendar predict"
    if categories:
        why["categories"] = "text with few values"
    remarks = [remark for remark in selection.remarks if remark.partition(":")[0] not in later]
    return (
        Event.model_validate({**event.model_dump(), "features": features, "categories": categories}),
        left_out,
        remarks,
    )


def _free(name: str, found: dict[str, Column]) -> str:
    """Return a name that no column has."""
    while name in found:
        name = f"{name}_"
    return name
