"""A first configuration from a sample of events: what names an entity, what tells the time, what is to be predicted.

Names of columns are hints, and the order of the rows is evidence: where times go back or repeat, and do not within the
rows of one machine, the machine's column is the entity. Each decision comes with its reason, so that a person can check
it; what cannot be known is an error, or a note that says so.
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
    counts_seconds,
    disorder,
    has_offset,
    step_of,
    time_format,
    words,
)
from ssm_stream.autoconfig.feature_selection import SAMPLE, select_features
from ssm_stream.config import Config, ConfigError, Event, Model, Source
from ssm_stream.ingest.events import EventReader

TIMES = ("timestamp", "ts", "datetime", "time", "date", "t", "when", "created", "epoch")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


THINGS = _words(
    "entity machine device asset equipment sensor host hostname engine turbine pump robot vehicle station meter server "
    "service instance node pod line motor compressor press oven furnace mill boiler chiller conveyor reactor tank "
    "inverter battery well truck bus train building room pipe plc"
)
"""Words for what is watched."""
LABELS_OF_THINGS = _words(
    "id name tag key no nr num number code series channel unit site plant location area region zone store shop item "
    "group serial source system"
)
"""Words that go with those, and may stand alone for one."""
TARGETS = (("target", "y"), ("value", "measurement", "reading", "output"))
KNOWN_LATER = _words(
    "label labels anomaly anomalies anomalous outlier fault failure fail defect attack changepoint target truth class"
)
"""Words for columns that are not known when an event comes, or would tell what is to be predicted."""
CALENDAR = _words("hour minute second day dow weekday week month year quarter holiday weekend")
COUNTERS = _words("index row cycle step count counter seq sequence offset n")
WARMUP = Model().warmup


class Wishes(NamedTuple):
    """What the user has decided: paths, or nothing."""

    entity: str | None = None
    timestamp: str | None = None
    targets: Sequence[str] = ()


class Draft(NamedTuple):
    """An `event` section, and why it is so.

    Attributes:
        event: the section, with its features
        why: setting → the reason in words
        left_out: path of a column → why it is no input
        notes: what the reader should know beside that
        rows: that were looked at; entities: among them; step: median seconds between rows of an entity, or NaN
    """

    event: Event
    why: dict[str, str]
    left_out: dict[str, str]
    notes: list[str]
    rows: int
    entities: int
    step: float


def decide(documents: Sequence[Any], wishes: Wishes, name: str) -> Draft:
    """An event section for these documents.

    Args:
        documents: parsed JSON or rows, in the order of their source
        wishes: what need not be inferred
        name: for the entity, where the documents name none

    Raises:
        ConfigError: nothing tells the time, or no column can be a target; a column that is wished for is not there.
    """
    rows = [d for d in documents if type(d) is dict]
    if not rows:
        raise ConfigError(f"none of the {len(documents)} messages looked at is a JSON object: there is nothing to read")
    found = {column.path: column for column in columns(rows)}
    for path in (wishes.entity, wishes.timestamp, *wishes.targets):
        if path is not None and path not in found:
            raise ConfigError(f"no column {path!r} in the sample; there are: {', '.join(found)}")
    why: dict[str, str] = {}
    notes: list[str] = []
    timestamp, form = _timestamp(found, wishes.timestamp, why, notes)
    ts = _times(rows, timestamp, form)
    entity = _entity(found, wishes.entity, timestamp, ts, why, notes)
    default = None if entity else name
    taken = {timestamp, *([entity] if entity else [])}
    targets = list(wishes.targets) or [_target(found, taken, entity, why, notes)]
    if wishes.targets:
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
    event, left_out, remarks = _inputs(event, rows, why)
    events, refused = EventReader(event).read(rows)
    if refused:
        notes.append(f"{len(refused)} of {len(rows)} rows cannot be read, the first: {refused[0].reason}")
    entities = len(set(events.entity))
    if len(events) < WARMUP * entities:
        notes.append(
            f"about {len(events) // max(entities, 1)} rows an entity in the sample: it can raise alerts from its event "
            f"{WARMUP} on (model.warmup)"
        )
    return Draft(event, why, left_out, notes + remarks, len(rows), entities, step_of(events.entity, events.ts))


def _timestamp(found: dict[str, Column], wish: str | None, why: dict[str, str], notes: list[str]) -> tuple[str, str]:
    """The path of the time, and its format."""
    if wish is not None:
        form = time_format(found[wish]) or ("s" if counts_seconds(found[wish]) else "auto")
        why["timestamp"] = f"as given; {_told(found[wish], form, notes)}"
        return wish, form
    forms = {
        path: told
        for path, column in found.items()
        if (told := time_format(column)) is not None
        and (told == "iso" or _rank(column, TIMES) < len(TIMES) or _grows(column))
    }
    if forms:
        path = min(forms, key=lambda path: (_rank(found[path], TIMES), found[path].place))
        why["timestamp"] = _told(found[path], forms[path], notes)
        if len(forms) > 1:
            others = ", ".join(other for other in forms if other != path)
            why["timestamp"] += f"; {others} would do, too"
        return path, forms[path]
    counting = [c for c in found.values() if _rank(c, TIMES) < len(TIMES) and counts_seconds(c)]
    if counting:
        column = min(counting, key=lambda c: (_rank(c, TIMES), c.place))
        why["timestamp"] = _told(column, "s", notes)
        return column.path, "s"
    named = [c for c in found.values() if _rank(c, TIMES) < len(TIMES)]
    hint = ""
    if named:
        value = next(iter(named[0].values.values()))
        hint = (
            f"; `{named[0].path}` ({value!r}) sounds like one, but is no ISO 8601 nor a number of seconds: convert it"
        )
    raise ConfigError(
        f"no column tells a time{hint}; name one with --timestamp. Times are ISO 8601 text (2026-01-31T12:00:00Z) or "
        f"seconds, milli-, micro- or nanoseconds since 1970. Columns: {', '.join(found)}"
    )


def _told(column: Column, form: str, notes: list[str]) -> str:
    """What a column of times holds, in words."""
    if form == "iso":
        if has_offset(column):
            return "text in ISO 8601"
        notes.append(
            f"`{column.path}` has no offset from UTC and is taken for UTC: set event.time_zone where it is local time"
        )
        return "text in ISO 8601, without an offset: taken for UTC"
    if form == "auto":
        return "its form is told by each value"
    unit = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[form]
    if time_format(column) is None:
        notes.append(f"`{column.path}` does not count from 1970: calendar inputs and times in alerts mean nothing")
        return f"numbers that grow, taken for {unit} since some beginning"
    return f"numbers, {unit} since 1970"


def _grows(column: Column) -> bool:
    """Numbers of which hardly one is smaller than that of the row before."""
    steps = np.diff(column.numbers[~np.isnan(column.numbers)])
    return bool(np.count_nonzero(steps < 0) <= 0.1 * len(steps))


def _rank(column: Column, wanted: Sequence[str]) -> int:
    """Place of its best word among the wanted ones."""
    return min((wanted.index(word) for word in column.name if word in wanted), default=len(wanted))


def _times(rows: Sequence[dict[str, Any]], timestamp: str, form: str) -> NDArray[np.int64]:
    """Times (n,) in ms; where one cannot be read, the last one before."""
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
    wish: str | None,
    timestamp: str,
    ts: NDArray[np.int64],
    why: dict[str, str],
    notes: list[str],
) -> str | None:
    """The path of the entity's name; None where no column is one."""
    whole = disorder(None, ts)
    if wish is not None:
        column = found[wish]
        if not column.names_things:
            notes.append(
                f"`{wish}`: an entity's name is text or a whole number, in every row; other rows are dead letters"
            )
        why["entity"] = f"as given; {_count(column.distinct)}"
        return wish
    scored: list[tuple[float, int, int, Column]] = []
    for column in found.values():
        if column.path == timestamp or not column.names_things or 2 * column.distinct > max(column.n, 3):
            continue
        left, explains = _order(column, ts, whole)
        sounds = 0.0 if column.kind == "whole" and column.distinct == 2 else _sounds(column)
        score = 3.0 * explains + sounds + (column.kind == "text")
        if score >= 2.5:
            scored.append((-score, left, column.place, column))
    if scored:
        _, left, _, column = min(scored, key=lambda item: item[:3])
        _, explains = _order(column, ts, whole)
        reason = "by its name" if _sounds(column) else "the only name in the rows" if column.distinct == 1 else ""
        order = "times only grow within each of its values" if explains else ""
        why["entity"] = f"{', and '.join(filter(None, [reason, order]))}; {_count(column.distinct)}"
        if left > 0.2 * column.n:
            notes.append(
                f"times repeat or go back in {left} of {column.n} rows within one `{column.path}`: if one thing is "
                "named by several columns, put them together into one"
            )
        return column.path
    if any(column.distinct == 1 and column.kind == "text" and column.names_things for column in found.values()):
        column = next(c for c in found.values() if c.distinct == 1 and c.kind == "text" and c.names_things)
        why["entity"] = "the only name in the rows; 1 value"
        return column.path
    why["entity"] = "no column names one: all rows are taken for those of one machine (event.entity_default)"
    if whole > 0.02 * len(ts):
        notes.append(
            f"times repeat or go back in {whole} of {len(ts)} rows, and no column tells several machines apart: name "
            "one with --entity, or add one"
        )
    return None


def _order(column: Column, ts: NDArray[np.int64], whole: int) -> tuple[int, bool]:
    """Rows out of order within the column's values, and whether these explain those of all rows, `whole`."""
    names = [column.values.get(i) for i in range(column.n)]
    left = disorder(names, ts)
    if whole > 0.02 * column.n:  # side by side
        by_chance = disorder(np.random.default_rng(0).permutation(np.array(names, object)).tolist(), ts)
        return left, left <= min(0.02 * whole, 0.2 * by_chance) and by_chance >= 10
    runs = 1 + sum(a != b for a, b in pairwise(names))
    return left, whole > left == 0 and runs == column.distinct  # one after another


def _sounds(column: Column) -> float:
    """How much a column's name is that of an entity: 2.5 for one of the things watched, 1.5 for an id."""
    if not column.name or not all(w in THINGS or w in LABELS_OF_THINGS or w.isdecimal() for w in column.name):
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
    varied = [c for c in usable if not _told_apart(c) and not _counts_up(c, names)]
    if not varied:
        raise ConfigError(
            f"no column is a number that varies and could be predicted; name the target with --target. Columns: "
            f"{', '.join(found)}"
        )
    best = max(varied, key=lambda c: (any(w in TARGETS[1] for w in c.name), min(c.distinct, 20), c.place))
    others = ", ".join(c.path for c in varied if c is not best)
    why["target"] = "no column is named like one: the last number that varies freely" if others else "the only number"
    if others:
        notes.append(f"target: `{best.path}` is a guess; name another with --target: {others}")
    return best.path


def _told_apart(column: Column) -> bool:
    """By its name a label, a part of the calendar, a counter or an id."""
    return any(w in KNOWN_LATER or w in CALENDAR or w in COUNTERS or w == "id" for w in column.name)


def _counts_up(column: Column, names: dict[int, Any]) -> bool:
    """Whole numbers that never fall within an entity."""
    last: dict[Any, float] = {}
    for i, value in column.values.items():
        name = names.get(i)
        if not isinstance(value, int) or value < last.get(name, -math.inf):
            return False
        last[name] = value
    return True


def _inputs(
    event: Event, rows: Sequence[dict[str, Any]], why: dict[str, str]
) -> tuple[Event, dict[str, str], list[str]]:
    """The section with its features and categories; what is left out, and remarks."""
    bare = Config(source=Source(brokers="-", topic="-"), event=event)
    spread = [rows[i] for i in np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int).tolist()]
    selection = select_features(bare, spread)
    chosen, left_out = selection.config.event, dict(selection.left_out)
    later = {path for path in chosen.columns if set(words(path.rpartition(".")[2])) & KNOWN_LATER}
    left_out |= dict.fromkeys(sorted(later), "by its name not known when an event comes, or a target itself")
    features = [path for path in chosen.numbers if path not in later]
    categories = [path for path in chosen.categories if path not in later]
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
    """A name that no column has."""
    while name in found:
        name = f"{name}_"
    return name
