"""Drafts a configuration from a sample of events: which columns are the entity, the time, the target and the inputs.

Names of columns are hints, and the order of the rows is evidence: where times go back or repeat, and do not within the
rows of one machine, the machine's column is the entity. Each choice has its reason, so that a person can check it; what
the sample does not show is an error or a note.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import (
    SPARSE,
    Column,
    columns,
    examined_rows,
    free_name,
    has_offset,
    holds_quoted_numbers,
    own_reason,
    reordered,
    usual_step,
    whole_reason,
)
from ssm_stream.autoconfig.entity import find_entity, kinds_note, warmup_note
from ssm_stream.autoconfig.event_time import find_timestamp, read_times, zone_of
from ssm_stream.autoconfig.feature_selection import select_features
from ssm_stream.autoconfig.inputs.categories import own_categories
from ssm_stream.autoconfig.inputs.cycle_places import with_places
from ssm_stream.autoconfig.inputs.reasons import no_input_reason
from ssm_stream.autoconfig.inputs.redundant import (
    collinear_notes,
    without_copies,
    without_derived,
    without_idle_columns,
)
from ssm_stream.autoconfig.labels import known_later
from ssm_stream.autoconfig.marks import mark_notes
from ssm_stream.autoconfig.operations import find_operations
from ssm_stream.autoconfig.quality_flags import find_flags
from ssm_stream.autoconfig.readings import (
    Behind,
    Readings,
    Times,
    as_rows,
    depends_on_signal,
    find_after,
    find_behind,
    find_readings,
    unused_signals,
    with_layout,
)
from ssm_stream.autoconfig.rest import Rest, find_rest
from ssm_stream.autoconfig.roles import COMMAND, SHARED, given_inputs
from ssm_stream.autoconfig.row_order import order_notes, second_name, things, time_order
from ssm_stream.autoconfig.signals import Narrowed, as_targets, suggested_target, without_outcomes, without_symptoms
from ssm_stream.autoconfig.stops import UNJUDGED, Stops, find_stops, ttl_reason
from ssm_stream.autoconfig.target import counter_reason, find_target, given_reason, no_signal_reason
from ssm_stream.autoconfig.uplinks.envelope import find_positions
from ssm_stream.autoconfig.uplinks.meters import meter_notes
from ssm_stream.config import ALL, Config, ConfigError, Event, Labels, Model, Source
from ssm_stream.config.first_alerts import first_alerts
from ssm_stream.config.suggestions import suggest
from ssm_stream.ingest.events import EventReader, Events, RefusedDocument
from ssm_stream.ingest.paths import path_getter

NUMBERS = "numbers"
"""Why columns are features."""


class Choices(NamedTuple):
    """The paths that the user has chosen."""

    entity: str | None = None
    timestamp: str | None = None
    targets: Sequence[str] = ()
    """Or `all` alone: every signal."""
    of_readings: bool = False
    """Whether the rows are made of readings, which have one value each."""
    lags: int = 8
    """Past targets as inputs, by which inputs are judged, too."""
    own: Sequence[str] = ()
    """What is a signal of each machine, though all share it in the sample."""


class Draft(NamedTuple):
    """An `event` section with its reasons.

    Attributes:
        event: the section, with its features
        why: setting → the reason
        left_out: path of a column → why it is no input
        notes: further observations for the user
        rows: number of rows examined; entities: among them; step: seconds from a row of an entity to its next, or NaN
        alone: the target to take if it is to be one, where every signal is one as none stands out
        stops: whether to watch for silence and stuck signals; None: not
        labelled: share of the events that have a target; of several, the one that most have
        rest: states in which the machines rest, of which a note is
        labels: the section, where labels are rows of their own
        shared: columns that have one value for all machines at each time of the sample
    """

    event: Event
    why: dict[str, str]
    left_out: dict[str, str]
    notes: list[str]
    rows: int
    entities: int
    step: float
    alone: str | None = None
    stops: Stops | None = None
    labelled: float = 1.0
    rest: Rest | None = None
    labels: Labels | None = None
    shared: Sequence[str] = ()


def draft_event(documents: Sequence[Any], choices: Choices, name: str, *, as_they_came: bool = False) -> Draft:
    """Return an event section for these documents.

    Args:
        documents: parsed JSON or rows, in the order of their source
        choices: what need not be inferred
        name: of the entity, if no column names one
        as_they_came: their order is that of a topic, not of a file, which may have signal after signal

    Raises:
        ConfigError: no column is a time, or none can be a target; a chosen column is not there.
    """
    rows = [d for d in documents if type(d) is dict]
    if not rows:
        raise ConfigError(
            f"none of the {len(documents)} messages of the sample is a JSON object: there is nothing to read"
        )
    watches_all = list(choices.targets) == [ALL]
    chosen = (choices.entity, choices.timestamp, *(() if watches_all else choices.targets))
    given = [path for path in chosen if path is not None]
    found = {column.path: column for column in columns(rows, given)}
    readings = find_readings(found, choices.entity)
    if readings is not None and not set(choices.targets) & {readings.value}:
        return _of_readings(rows, found, readings, choices, name, as_they_came=as_they_came)
    if missing := next((path for path in given if path not in found), None):
        raise ConfigError(f"no column {missing!r} in the sample; {suggest(missing, found, 'its columns')}")
    why: dict[str, str] = {}
    notes: list[str] = []
    timestamp, form = find_timestamp(found, choices.timestamp, why, notes)
    ts = read_times(rows, timestamp, form)
    entity = find_entity(found, choices.entity, timestamp, ts, why, notes)
    fixed: dict[str, Any] = {
        "entity": entity or free_name("entity", found),
        "entity_default": None if entity else name,
        "timestamp": timestamp,
        "timestamp_format": form,
        "features": "auto",
        "lags": choices.lags,
    }
    if form == "iso" and not has_offset(found[timestamp]) and (zone := zone_of(found, entity, ts, why, notes)):
        fixed["time_zone"] = zone
    taken = {timestamp, *([entity] if entity else [])}
    if not choices.targets:
        operations = find_operations(found, taken, ts, found[entity] if entity else None, notes)
        if operations is not None:
            fixed |= {"time_zone": fixed.get("time_zone", "UTC"), **operations.section}
            why |= operations.why
            entities = found[entity].distinct if entity else 1
            event = Event.model_validate(fixed)
            sooner = "shorter windows, or rows as they come (--target), are sooner"
            notes += filter(None, [first_alerts(operations.seconds, Model(), sooner)])
            stops = Stops(UNJUDGED, UNJUDGED)
            return Draft(event, why, operations.left_out, notes, len(rows), entities, operations.seconds, None, stops)
    as_learned, order, second = rows, None, second_name(found.get(entity or ""), found, ts)
    if "time_zone" not in fixed:  # else times go back where clocks did, and nowhere else
        notes += order_notes(found[entity] if entity else None, timestamp, ts, second)
        order = time_order(found[entity] if entity else None, ts)
    if order is not None:
        rows, ts = [rows[i] for i in order.tolist()], ts[order]
        found = {path: reordered(column, order) for path, column in found.items()}
    flags = find_flags(found, taken, choices.targets)
    if flags is not None:
        fixed["quality"], why["quality"] = flags.of(found), flags.why
        taken |= set(flags.paths)
    owners = things(found.get(entity or ""), found[second.path] if second is not None else None)
    inputs = given_inputs(found, owners, ts, {*taken, *choices.targets, *choices.own})
    sample = _Sample(rows, found, owners, ts, inputs)
    if choices.targets:
        why["target"] = given_reason([found[path] for path in choices.targets if path in found], owners, ts)
        made = _every_signal(fixed, sample, why) if watches_all else _these(fixed, list(choices.targets), sample, why)
    else:
        made = _proposed(fixed, taken, entity, sample, why)
    event, events = made.narrowed.event, made.events
    why |= made.narrowed.why
    if not event.features and why.get("features") == NUMBERS:
        why["features"] = "none of the numbers varies: its own past and the calendar predict"
    notes += made.narrowed.notes
    if made.refused:
        notes.append(f"{len(made.refused)} of {len(rows)} rows cannot be read, the first: {made.refused[0].reason}")
    used = [found[path] for path in dict.fromkeys((*event.columns, *event.targets)) if path in found]
    judges = flags is None and not choices.of_readings and event.aggregate is None
    notes += mark_notes(used, sample.owners, judges)
    rest = find_rest(used, owners)
    notes += filter(None, [kinds_note(used, found.values(), owners), rest and rest.note()])
    notes += filter(None, [warmup_note(events, entity, found, sample.owners)])
    if flags is not None:
        event = event.model_copy(update={"quality": flags.of({*event.columns, *event.targets})})
    step = usual_step(events.entity, events.ts)
    stops = find_stops(event, as_learned, [path for path, reason in sample.given.items() if reason == COMMAND])
    notes += [f"alerts.stuck leaves out {stops.unwatched or stops.stuck}"] if stops.unwatched or stops.stuck else []
    if stops.ttl is not None:
        why["state.ttl"] = ttl_reason(stops)
    shared = [path for path, reason in sample.given.items() if reason == SHARED]
    known = float(np.isfinite(events.target.reshape(len(events), -1)).mean(0).max()) if len(events) else 1.0
    sooner = "rows that come more often, if there are any, are sooner"
    notes += [*filter(None, [first_alerts(step, Model(), sooner)]), *made.remarks]
    size = len(rows), len(set(events.entity)), step
    return Draft(event, why, made.narrowed.left_out, notes, *size, made.alone, stops, known, rest, None, shared)


def _of_readings(
    rows: list[dict[str, Any]],
    found: dict[str, Column],
    readings: Readings,
    choices: Choices,
    name: str,
    *,
    as_they_came: bool,
) -> Draft:
    """Return the section of readings: that of the rows that are made of them, with how they are read."""
    reasons, remarks = dict[str, str](), list[str]()
    timestamp, form = find_timestamp(found, choices.timestamp, reasons, [])
    ts = read_times(rows, timestamp, form)
    flags = find_flags(found, {timestamp, readings.signal, readings.value})
    entity, names = choices.entity, found[readings.signal]
    if entity is None and readings.pattern is None:
        tag, one = path_getter(readings.signal), next(iter(readings.signals))
        at = [i for i, row in enumerate(rows) if tag(row) == one]
        no_names = {readings.signal, readings.value, *(flags.paths if flags is not None else [])}
        values = found[readings.value]
        no_names |= {path for path, column in found.items() if depends_on_signal(column, names, values)} - {timestamp}
        some = {c.path: c for c in columns([rows[i] for i in at]) if c.path not in no_names}
        entity = find_entity(some, None, timestamp, ts[at], reasons, remarks) if timestamp in some else None
    times = Times(timestamp, ts)
    made = as_rows(rows, times, readings, entity, flags)
    owner = readings.signal if readings.pattern is not None else entity
    draft = draft_event(made.documents, Choices(owner, timestamp, choices.targets, of_readings=True), name)
    why = draft.why | reasons | {"layout": readings.why}
    if readings.pattern is not None:
        why["entity"] = f"in the tag; {draft.entities} in the sample"
    if flags is not None and flags.column is not None:
        why["quality"] = flags.why
    if made.every is not None:
        why["every"] = f"signals come at different gaps; so far apart are usual readings of `{made.trigger}`"
    left_out = draft.left_out | unused_signals(readings, names, made)
    event = with_layout(draft.event, readings, made, flags)
    notes = [*draft.notes, *remarks]
    draft = draft._replace(event=event, why=why, left_out=left_out, notes=notes, rows=len(rows))
    behind = find_behind(rows, times, readings, entity, as_they_came=as_they_came)
    if behind is not None:
        return _with_grace(draft, behind)
    if made.every is None and (after := find_after(rows, times, readings, entity, event.targets[0])) is not None:
        return draft._replace(event=event.model_copy(update={"grace": 0.001}), why=why | {"grace": after})
    return draft


def _with_grace(draft: Draft, behind: Behind) -> Draft:
    """Return the section with the time to wait for readings that come after later ones."""
    if behind.grace is None:
        cure = "event.grace would have to be longer than an hour: they will be dead letters"
        return draft._replace(notes=[*draft.notes, f"{behind.why}; {cure}"])
    event = draft.event.model_copy(update={"grace": behind.grace})
    return draft._replace(event=event, why=draft.why | {"grace": f"{behind.why}; without it those are refused as late"})


class _Sample(NamedTuple):
    """rows: documents, those of each entity in the order of their times; columns: path → column; owners: row → name of
    its entity, if a column has it; ts: (n,) times, ms; given: path → why it is an input, and no signal of a machine"""

    rows: Sequence[dict[str, Any]]
    columns: dict[str, Column]
    owners: dict[int, Any]
    ts: NDArray[np.int64]
    given: dict[str, str]


class _Made(NamedTuple):
    """narrowed: the section and its reasons; events, refused: of the sample; remarks: notes that come last"""

    narrowed: Narrowed
    events: Events
    refused: list[RefusedDocument]
    remarks: list[str]
    alone: str | None = None


def _proposed(
    fixed: dict[str, Any], taken: Collection[str], entity: str | None, sample: _Sample, why: dict[str, str]
) -> _Made:
    """Return the section with the target that stands out, or with every signal as one."""
    own = {*taken, *find_positions(sample.columns)}
    try:
        target = find_target(sample.columns, own | {*sample.given}, entity, sample.ts)
    except ConfigError:
        target = find_target(sample.columns, own, entity, sample.ts)
    if target.others:
        reasons = dict(why)
        try:
            made = _every_signal(fixed, sample, reasons)
        except ConfigError:  # fewer than two signals
            note = f"target: `{target.path}` is a guess; name another with --target: {', '.join(target.others)}"
        else:
            why |= reasons
            reason = f"no column stands out as the target, so {made.narrowed.why['target']}"
            one = suggested_target(made.narrowed, [target.path, *target.others])
            notes = [*made.narrowed.notes, f"for one target, predicted from the others: --target {shlex.quote(one)}"]
            narrowed = made.narrowed._replace(why=made.narrowed.why | {"target": reason}, notes=notes)
            return made._replace(narrowed=narrowed, alone=one)
    made = _these(fixed, [target.path], sample, why)
    why["target"] = target.reason
    if target.others:
        made.narrowed.notes.insert(0, note)
    return made


def _every_signal(fixed: dict[str, Any], sample: _Sample, why: dict[str, str]) -> _Made:
    """Return the section with every signal as a target."""
    event = Event.model_validate({**fixed, "target": free_name("target", sample.columns)})
    event, left_out, _ = _inputs(event, sample, why, watches_all=True)
    events, refused = EventReader(event).read(sample.rows)
    if not len(events):
        return _Made(Narrowed(event, left_out, {"target": "every signal"}, []), events, refused, [])
    reasons = {path: no_signal_reason(sample.columns[path], sample.owners, sample.ts) for path in event.numbers}
    reasons |= {path: reason for path, reason in find_positions(sample.columns).items() if path in reasons}
    never = {path: reason for path, reason in reasons.items() if reason is not None}
    derived = without_derived(event, events, never)
    if derived.left_out:
        events, _ = EventReader(derived.event).read(sample.rows)
    narrowed = as_targets(derived.event, events, never, sample.given)
    narrowed = with_places(narrowed, left_out | narrowed.left_out, sample.columns, sample.owners, events)
    left_out |= derived.left_out | narrowed.left_out
    left_out = {path: why_not for path, why_not in left_out.items() if path not in (narrowed.event.inputs or [])}
    narrowed = narrowed._replace(left_out=left_out, notes=[*derived.notes, *narrowed.notes, *meter_notes(left_out)])
    return _Made(narrowed, events, refused, [])


def _these(fixed: dict[str, Any], targets: list[str], sample: _Sample, why: dict[str, str]) -> _Made:
    """Return the section with these targets."""
    event = Event.model_validate({**fixed, "target": targets})
    event, left_out, remarks = _inputs(event, sample, why)
    events, refused = EventReader(event).read(sample.rows)
    if not len(events):
        return _Made(Narrowed(event, left_out, {}, []), events, refused, remarks)
    notes: list[str] = []
    symptoms = partial(without_symptoms, given=sample.given)
    for narrow in (without_copies, without_idle_columns, without_outcomes, symptoms):
        narrowed = narrow(event, events)
        event, left_out = narrowed.event, left_out | narrowed.left_out
        notes += narrowed.notes
        if narrowed.left_out:
            events, _ = EventReader(event).read(sample.rows)
    notes += collinear_notes(event, events)
    remarks = [remark for remark in remarks if remark.partition(":")[0] in (*event.columns, *event.targets)]
    return _Made(Narrowed(event, left_out, {}, notes), events, refused, remarks)


def _inputs(
    event: Event, sample: _Sample, why: dict[str, str], *, watches_all: bool = False
) -> tuple[Event, dict[str, str], list[str]]:
    """Return the section with its features and categories, the columns left out, and remarks."""
    bare, rows = Config(source=Source(brokers="-", topic="-"), event=event), sample.rows
    owners, ts, names = sample.owners, sample.ts, [sample.owners.get(i) for i in range(len(rows))]
    spread = [rows[i] for i in examined_rows(sample.columns, names)]
    selection = select_features(bare, spread, len(spread))
    selected, found = selection.config.event, sample.columns
    left_out = {path: whole_reason(found.get(path), names, why) for path, why in selection.left_out.items()}
    for path in [path for path, reason in left_out.items() if reason.startswith(SPARSE)]:
        if total := counter_reason(found[path], owners, ts):
            left_out[path] = total  # a meter that few rows have counts up, too: its level is none to watch
    commands = [path for path, reason in sample.given.items() if reason == COMMAND]
    later = known_later(selected.columns, commands, watches_all=watches_all)
    left_out |= dict.fromkeys(sorted(later), "by its name not known when an event comes, or a target itself")
    left_out |= {path: no for path in selected.columns if (no := no_input_reason(path, found, owners, ts))}
    own = own_categories(left_out, found, owners)
    left_out = {path: reason for path, reason in left_out.items() if path not in own}
    for path, reason in left_out.items():
        if reason.startswith("text") and path in sample.columns and holds_quoted_numbers(sample.columns[path]):
            left_out[path] = f"{reason}. They are numbers in quotes: write them as numbers"
    later |= set(left_out)
    features = [path for path in selected.numbers if path not in later]
    categories = [*(path for path in selected.categories if path not in later), *own]
    why["features"] = NUMBERS if features else "no other column is a number: its own past and the calendar predict"
    if categories:
        why["categories"] = own_reason(own) if own else "text with few values"
    remarks = [remark for remark in selection.remarks if remark.partition(":")[0] not in later]
    made = Event.model_validate({**event.model_dump(), "features": features, "categories": categories})
    return made, left_out, remarks
