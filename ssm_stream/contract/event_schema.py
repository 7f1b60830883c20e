"""JSON Schema of the messages that are read: events, labels and feedback, as one configuration reads them.

An event that `EventReader` accepts is valid. One that it refuses is not, as far as a schema can express it: to JSON
Schema 1.0 is a whole number, and it has no calendar. Where a path has dots, the schema has both spellings, `{"a.b": 1}`
and `{"a": {"b": 1}}`; a message with both must be valid in both, though only the first one is read.

The keywords are those that draft 2020-12 and draft-07 share, without references, so that the same text may stand in
an AsyncAPI document and be read by what generates code from one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ssm_stream.config import MAX_NAME_LENGTH, Config, Event, Labels
from ssm_stream.config.own_messages import origins
from ssm_stream.config.paths import Step, is_message_field, joined_keys, parse_path
from ssm_stream.config.quantities import format_duration
from ssm_stream.config.sections.kafka import Context
from ssm_stream.contract.path_schema import Schema, add_schema, schema_at
from ssm_stream.engine.rules.messages import alert_kinds
from ssm_stream.ingest.events import MAX_NUMBER
from ssm_stream.ingest.timestamps import EPOCH_TEXTS, MAX_MS, MIN_MS, UNITS_PER_MS

ISO_8601 = (
    r"^(?![0-9]{9,}$)[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|W[0-9]{2}(?:-?[1-7])?)"
    r"(?:[\s\S][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:\.[0-9]+)?)?)?)?)?$"
)
"""Texts that may be a time; a pattern cannot check that the day is in the calendar."""
NUMBER = {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
NAME = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}
WHOLE = {"type": "integer", "minimum": -(2**63), "maximum": 2**64 - 1}
"""Whole numbers that a JSON reader of 64 bits accepts."""
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


class Field(NamedTuple):
    """The schema at a path of a message. required: a message without the field, or with null, is refused"""

    path: str
    schema: Schema
    required: bool = False


def nullable(schema: Schema) -> Schema:
    """Return the schema that accepts null too."""
    return {"anyOf": [schema, {"type": "null"}]}


def literal(text: str) -> str:
    """Return a regular expression that matches this text, in JavaScript's engines too (`re.escape` fails there)."""
    return re.sub(r"[\\^$.*+?()\[\]{}|/]", lambda found: f"\\{found[0]}", text)


def event_schema(config: Config) -> Schema:
    """Return the schema of an event; if labels come on the same topic, of an event or a label."""
    event, labels = config.event, config.labels
    if labels is None or labels.marker is None:
        return _event(config)
    return {
        "title": "Event or label",
        "description": f"A message with `{labels.marker}` is a label, any other one an event.",
        "type": "object",
        "if": schema_at(labels.marker, {"not": {"type": "null"}}),
        "then": _label(event, labels),
        "else": _event(config),
    }


def label_schema(config: Config) -> Schema:
    """Return the schema of a label: a target that comes by itself. The configuration must have `labels`."""
    assert config.labels is not None
    return _label(config.event, config.labels)


def feedback_schema(config: Config) -> Schema:
    """Return the schema of feedback: an operator's verdict on an alert, or an acknowledgement of one."""
    alert = Field(
        "id", {"type": "string", "pattern": alert_ids(config), "description": "The alert's id."}, required=True
    )
    text: Schema = {"type": "string"}
    verdict = [alert, Field("true", {"type": "boolean", "description": "It was worth raising."}, required=True)]
    acknowledgement = [
        alert,
        Field("acknowledged", {"const": True, "description": "Somebody attends to it."}, required=True),
        Field("by", {**text, "pattern": r"\S", "description": "Who."}, required=True),
        Field("note", {**text, "description": "What they do."}),
        Field("at", {"anyOf": [{**text, "pattern": ISO_8601}, {"type": "integer"}], "description": "When."}),
    ]
    words = "Other keys are ignored."
    return {
        "title": "Feedback",
        "type": "object",
        "if": {"required": ["acknowledged"]},
        "then": _document("Acknowledgement", f"Somebody attends to an alert. {words}", acknowledgement),
        "else": _document("Verdict", f"What an operator says of an alert. {words}", verdict),
    }


def fact_schema(config: Config, context: Context) -> Schema:
    """Return the schema of a message of a topic of facts. context: the part of `source.context` for it"""
    event = config.event
    who = {"anyOf": [NAME, WHOLE, {"type": "null"}], "description": "Whose fact it is. Missing or null: the key."}
    when = nullable(_time(event)) | {"description": "From when on it holds. Missing or null: Kafka's timestamp."}
    number = {"anyOf": [NUMBER, {"type": ["boolean", "null"]}]}
    name = {"anyOf": [{"type": "string", "maxLength": MAX_NAME_LENGTH}, *number["anyOf"]]}
    numbers = () if event.features == "auto" else event.read_numbers
    holds = "until the next fact" if context.max_age is None else f"for at most {format_duration(context.max_age)}"
    fields = [
        Field(context.entity or (event.entity if event.tag is None else "entity"), who),
        Field(context.timestamp or event.timestamp, when),
        *(Field(path, {**(number if path in numbers else name), "description": "Missing or null: unknown."})
          for path in context.columns),
    ]  # fmt: skip
    return _document("Fact", f"What holds of an entity from its time on, {holds}. Other keys are ignored.", fields)


def control_schema(config: Config) -> Schema:
    """Return the schema of a message of the control topic: of what is announced, or of an answer to it."""
    return {"title": "Message of the control topic", "anyOf": [stop_schema(config), answer_schema()]}


def answer_schema() -> Schema:
    """Return the schema of what a process writes on the control topic when it has read a message there."""
    which = {"type": "string", "pattern": "^[0-9]+-[0-9]+$", "description": "Partition and offset of its message."}
    group = Field("group", {"type": "string", "description": "The flow's source.group."}, required=True)
    place = [Field(name, {"type": "integer", "minimum": 0}, required=True) for name in ("partition", "offset")]
    words = "A process of the flow acts on the message from this event on."
    taken = _document("Acknowledgement", words, [Field("acknowledges", which, required=True), group, *place])
    refused = _document("Refusal", "The message cannot be used.", [Field("refused", which, required=True), group])
    return {"title": "Answer", "type": "object", "anyOf": [taken, refused]}


def stop_schema(config: Config) -> Schema:
    """Return the schema of what is announced on the control topic: a planned stop, or the end of one."""
    iso = {"type": "string", "pattern": ISO_8601}
    time = {"anyOf": [iso, {"type": "integer", "minimum": MIN_MS, "maximum": MAX_MS}]}
    begins = f"When it begins; without an offset in {config.event.time_zone}."
    fields = [
        Field("entity", {**NAME, "description": "Name of the entity, or a pattern such as pump-*."}, required=True),
        Field("from", {**time, "description": begins}, required=True),
        Field("to", {**time, "description": "When it ends: this time no longer belongs to it."}, required=True),
        Field("learn", {"enum": ["hold", "adapt"], "description": "Whether its events are learned. Default: hold."}),
        Field("reason", {"description": "Why, as text."}),
        Field("by", {"description": "Who announces it, as text."}),
    ]
    stop = _document("Planned stop", "Alerts of the entity are suppressed. Other keys are ignored.", fields)
    ended = {"type": "string", "pattern": "^[0-9]+-[0-9]+$", "description": "Partition and offset of its message."}
    end = _document("End of a planned stop", "It acts no more.", [Field("ends", ended, required=True)])
    return {"title": "Planned stop", "type": "object", "anyOf": [stop, end]}


def alert_ids(config: Config) -> str:
    """Return the pattern of the ids of alerts."""
    topics = "|".join(literal(topic) for topic in origins(config))
    numbers = "(?:-[0-9]+){0,2}" if config.event.makes_rows else "(?:-[0-9]+)?"
    return f"^(?:{topics})-[0-9]+-[0-9]+-(?:{'|'.join(alert_kinds(config))})(?:-fleet)?{numbers}$"


def example_event(config: Config) -> dict[str, Any]:
    """Return an event with a value at every path that is read."""
    event = config.event
    if event.layout == "readings":
        return _with_paths({event.timestamp: _example_time(event), **_example_reading(event)})
    if event.aggregate is not None:
        return _with_paths({event.timestamp: _example_time(event), event.entity: "checkout", **event.aggregate.example})
    values: dict[str, Any] = dict.fromkeys(event.categories, "A")
    if event.features != "auto":
        values |= dict.fromkeys(event.context, "A")
        values |= dict.fromkeys(event.read_numbers, 1.5)
    values = {path: value for path, value in values.items() if path not in config.source.context_columns}
    values |= dict.fromkeys(event.targets, 20.25)
    if (by_id := _event_id(config)) is not None:
        values[by_id] = "part-4711"
    return _with_paths(values | {event.timestamp: _example_time(event), event.entity: "press-7"})


def _example_reading(event: Event) -> dict[str, Any]:
    """Return a value at every path of a reading but that of its time."""
    flags = [] if event.quality is None else event.quality.flags
    out: dict[str, Any] = {event.value: 20.25, **dict.fromkeys(flags, "good")}
    if event.tag is None:
        assert event.signal is not None
        return out | {event.signal: event.targets[0], event.entity: "press-7"}
    text = event.tag.pattern.replace("*", "plant").replace("{entity}", "press-7")
    return out | {event.tag.field: text.replace("{signal}", event.targets[0])}


def _with_paths(values: dict[str, Any]) -> dict[str, Any]:
    """Return a document with these values at their paths."""
    out: dict[str, Any] = {}
    for path, value in reversed(values.items()):
        if not is_message_field(path) and not _set(out, parse_path(path), value):
            out[path] = value  # another path ends above this one, or goes on below it
    return out


def _set(within: Any, steps: tuple[Step, ...], value: Any) -> bool:
    """Set a value in an example; return whether there is room for it."""
    (first, *rest), inner = steps, None
    if isinstance(first, str):
        if not isinstance(within, dict):
            return False
        inner = within.setdefault(first, _holder(rest) if rest else value)
    elif not isinstance(within, list):
        return False
    elif isinstance(first, int):
        while len(within) <= first:
            within.append(None if not rest or len(within) < first else _holder(rest))
        if not rest:
            within[first] = value
        inner = within[first]
    else:
        inner = next(filter(first.matches, within), None)
        if inner is None:
            within.append(inner := {first.key: first.value})
    return _set(inner, tuple(rest), value) if rest else not isinstance(inner, dict | list)


def _holder(rest: list[Step]) -> Any:
    return {} if isinstance(rest[0], str) else []


def _example_time(event: Event) -> int | str:
    if event.timestamp_format in ("auto", "iso"):
        return "2026-01-31T12:00:00Z"
    return int(1_769_860_800_000 * UNITS_PER_MS[event.timestamp_format])


def _event_id(config: Config) -> str | None:
    labels = config.labels
    return None if labels is None else labels.event_id or labels.id


def _reading(config: Config) -> Schema:
    event = config.event
    kinds = [NUMBER, {"type": ["boolean", "null"]}]
    if event.categories or event.context:
        kinds.append({"type": "string", "maxLength": MAX_NAME_LENGTH})
    fields = _who_and_when(event, event.entity, event.timestamp)
    if event.tag is not None:
        words = f"Entity and signal: {event.tag.pattern}."
        fields[0] = Field(event.tag.field, {**NAME, "pattern": event.tag.schema_pattern, "description": words}, True)
    else:
        assert event.signal is not None
        words = "The signal whose value it is. Readings of other signals than those that are used pass by."
        fields.append(Field(event.signal, {"anyOf": [NAME, WHOLE], "description": words}))
    words = "The signal's value. Missing or null: it is unknown from then on."
    fields.append(Field(event.value, {"anyOf": kinds, "description": words}))
    signals, most = ", ".join(sorted(event.signals)), config.source.max_message_bytes
    words = f"One value of one signal, in a JSON object of at most {most} bytes. Signals: {signals}."
    return {**_document("Reading", words, fields), "examples": [example_event(config)]}


def _operation(config: Config) -> Schema:
    event, aggregate = config.event, config.event.aggregate
    assert aggregate is not None
    number = {"anyOf": [NUMBER, {"type": ["boolean", "null"]}]}
    of_number = {**number, "description": "A number of which windows are made. Missing or null: unknown."}
    text = {"type": "string", "maxLength": MAX_NAME_LENGTH}
    of_condition = {"anyOf": [text, *number["anyOf"]], "description": "What counts and shares look at."}
    fields = _who_and_when(event, event.entity, event.timestamp)
    fields += [Field(path, of_number) for path in aggregate.numbers]
    fields += [Field(path, of_condition) for path in aggregate.fields if path not in aggregate.numbers]
    most = config.source.max_message_bytes
    words = (
        f"One operation, such as a request, in a JSON object of at most {most} bytes. A window of "
        f"{format_duration(aggregate.every)} of an entity's operations is a row. Other keys are ignored."
    )
    return {**_document("Event", words, fields), "examples": [example_event(config)]}


def _event(config: Config) -> Schema:
    event = config.event
    if event.layout == "readings":
        return _reading(config)
    if event.aggregate is not None:
        return _operation(config)
    late = "its label brings it" if config.labels else "predicted, not learned from"
    target = {**nullable(NUMBER), "description": f"The number to predict. Missing or null: {late}."}
    number = {
        "anyOf": [NUMBER, {"type": ["boolean", "null"]}],
        "description": "An input. Missing or null: unknown, which is not zero.",
    }
    name = {"type": "string", "maxLength": MAX_NAME_LENGTH}
    category = {
        "anyOf": [name, NUMBER, {"type": ["boolean", "null"]}],
        "description": "An input that is a name. Missing or null: unknown.",
    }
    fields = [*_who_and_when(event, event.entity, event.timestamp), *(Field(path, target) for path in event.targets)]
    fields += [] if event.features == "auto" else [Field(path, number) for path in event.read_numbers]
    fields += [Field(path, category) for path in event.categories]
    if event.features != "auto":
        context = category | {"description": "What conditions or limits look at. Missing or null: it meets none."}
        fields += [Field(path, context) for path in event.context if path not in event.read_numbers]
    fields = [field for field in fields if field.path not in config.source.context_columns]
    if (by_id := _event_id(config)) is not None:
        fields.append(_id(by_id, "By which labels name this event."))
    most = config.source.max_message_bytes
    words = f"A JSON object of at most {most} bytes. Keys that are not named here are ignored."
    if event.features == "auto":
        words = (
            f"A JSON object of at most {most} bytes. Its inputs are selected from the first events at start "
            "(event.features: auto): any key may be one."
        )
    return {**_document("Event", words, fields), "examples": [example_event(config)]}


def _label(event: Event, labels: Labels) -> Schema:
    entity, timestamp = labels.entity or event.entity, labels.timestamp or event.timestamp
    fields = _who_and_when(event, entity, None if labels.id else timestamp)
    target = {**NUMBER, "description": "The target of the event that it belongs to."}
    fields.append(Field(labels.target or event.targets[0], target, required=True))
    if labels.id:
        fields.append(_id(labels.id, "The id of the event that it belongs to."))
    elif labels.timestamp is None or labels.timestamp == event.timestamp:
        fields[1].schema["description"] = "The time of the event that it belongs to, to the millisecond."
    return _document("Label", "A target that comes by itself. Keys that are not named here are ignored.", fields)


def _who_and_when(event: Event, entity: str, timestamp: str | None) -> list[Field]:
    who: Schema = {"anyOf": [NAME, WHOLE], "description": "The machine, sensor, service or line."}
    if (nameless := event.entity_default) is not None:
        who["anyOf"] = [NAME, WHOLE, {"type": "null"}]
        who["description"] += f" Missing or null: {nameless}."
    return [
        Field(entity, who, required=nameless is None),
        *([] if timestamp is None else [Field(timestamp, _time(event), required=True)]),
    ]


def _time(event: Event) -> Schema:
    form, zone = event.timestamp_format, event.time_zone
    text = {"type": "string", "pattern": ISO_8601}
    in_words = f"ISO 8601 (without an offset: in {zone})"
    if form == "iso":
        return {**text, "description": f"The event's time, {in_words}."}
    # By its size a number may be in any unit: nanoseconds reach furthest.
    per_ms = UNITS_PER_MS["ns" if form == "auto" else form]
    number = {"type": "number", "minimum": float(MIN_MS * per_ms), "maximum": float(MAX_MS * per_ms)}
    if form == "auto":
        units = "seconds, milli-, micro- or nanoseconds since 1970 by its size"
        return {"anyOf": [number, text], "description": f"The event's time, {in_words}, or a number: {units}."}
    quoted = {"type": "string", "pattern": f"^(?:{EPOCH_TEXTS[form].pattern})$"}
    return {"anyOf": [number, quoted], "description": f"The event's time, {UNITS[form]} since 1970."}


def _id(path: str, words: str) -> Field:
    return Field(path, {"anyOf": [NAME, WHOLE], "description": words}, required=True)


def _document(title: str, words: str, fields: Iterable[Field]) -> Schema:
    """Return the schema of an object with these fields, and any others."""
    properties: dict[str, Schema] = {}
    needed: list[Schema] = []
    for path, schema, required in fields:
        if is_message_field(path):
            continue
        steps = parse_path(path)
        add_schema(properties, [path], schema)
        for i in range(1, len(steps) - 1):
            if one_key := joined_keys(steps[i:]):
                add_schema(properties, [*steps[:i], one_key], schema)
        if len(steps) > 1:
            add_schema(properties, steps, schema)
        if required:
            needed.append(schema_at(path, {}))
    out: Schema = {"title": title, "description": words, "type": "object", "properties": properties}
    plain = [each["required"][0] for each in needed if "anyOf" not in each]
    dotted = [each for each in needed if "anyOf" in each]
    return out | ({"required": plain} if plain else {}) | ({"allOf": dotted} if dotted else {})
