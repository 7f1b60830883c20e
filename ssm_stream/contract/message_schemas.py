"""JSON Schema of the messages that are written: predictions, alerts, dead letters and receipts, and their headers.

The schemas are closed: a message has exactly their fields. The keywords are those of `event_schema`.
"""

from __future__ import annotations

from typing import Any

from ssm_stream.config import Config
from ssm_stream.config.own_messages import origins
from ssm_stream.config.sections.alerts import LIMIT
from ssm_stream.contract.event_schema import NAME, NUMBER, alert_ids, literal, nullable
from ssm_stream.contract.headers import ERROR_HEADER, FAULT_PREFIX, NOTIFY_TARGET, RECEIPT, TRUNCATED
from ssm_stream.contract.path_schema import Schema
from ssm_stream.core.detect import CHANGES
from ssm_stream.core.loop import CHANNELS
from ssm_stream.engine.alert_kinds import BY_EVENT, ENDED_BY, KINDS, MAINTENANCE, PHASES, SHADOW
from ssm_stream.engine.fleet_alerts import MAX_LISTED
from ssm_stream.engine.kernel_params import own_channels
from ssm_stream.engine.rules.messages import alert_kinds, rule_fields, rule_kinds
from ssm_stream.ingest.faults import Fault

CONTENT_TYPES = {"json": "application/json", "avro": "application/vnd.apache.avro"}
"""`sinks.format` → content type of predictions and alerts."""
TIME = {"type": "integer", "description": "Milliseconds since 1970 UTC."}
NATURAL = {"type": "integer", "minimum": 0}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
FAULTS: dict[str, frozenset[Fault]] = {
    "decode": frozenset(Fault) - {
        Fault.AHEAD, Fault.LATE, Fault.TOO_MANY_ENTITIES, Fault.UNDELIVERABLE, Fault.UNMATCHED_LABEL,
    },
    "rows": frozenset({Fault.AHEAD, Fault.LATE}),
    "context": frozenset(Fault) - {
        Fault.AHEAD, Fault.TOO_MANY_ENTITIES, Fault.UNDELIVERABLE, Fault.UNMATCHED_LABEL,
    },
    "admit": frozenset({Fault.TOO_MANY_ENTITIES}),
    "label": frozenset({Fault.UNMATCHED_LABEL}),
    "feedback": frozenset({
        Fault.TOMBSTONE, Fault.NOT_JSON, Fault.NOT_AN_OBJECT, Fault.MISSING_FIELD, Fault.WRONG_TYPE, Fault.WRONG_ID,
        Fault.TOO_LARGE,
    }),
    "control": frozenset({
        Fault.TOMBSTONE, Fault.NOT_JSON, Fault.NOT_AN_OBJECT, Fault.MISSING_FIELD, Fault.WRONG_TYPE,
        Fault.WRONG_TIMESTAMP,
    }),
    "notify": frozenset({Fault.WRONG_TYPE, Fault.UNDELIVERABLE}),
}  # fmt: skip
"""Stage → its faults."""
GAP: Schema = {
    "type": "integer",
    "minimum": -1,
    "description": "Only for the first event of an entity after a gap: the offsets of its partition that are missing "
    "before it (state resume, source.on_gap); -1: unknown, as the topic was made anew.",
}
OF_PREDICTION = ("yhat", "yhat_lower", "yhat_upper", "anomaly_score", "warmup", "n", "fleet")
"""Fields of a prediction that are null where the event is idle."""


def prediction_schema(config: Config) -> Schema:
    """Return the schema of a prediction."""
    event, horizon = config.event, config.model.horizon
    several = event.targets if len(event.targets) > 1 else []
    end = f"-(?:{'|'.join(map(literal, several))})" if several else ""
    number = "(?:-[0-9]+)?" if event.makes_rows else ""
    properties: dict[str, Schema] = {
        "entity": described(NAME, "Whose event it is."),
        "ts": described(TIME, "The event's time."),
    }
    if horizon.seconds:
        properties["for"] = described(TIME, f"The time predicted: {horizon.text} after the event's.")
    elif horizon.events:
        properties["for"] = {
            "type": "null",
            "description": f"The time predicted: of its entity's event {horizon.text} from it, which no one knows yet.",
        }
    if several:
        properties["target"] = {"enum": several, "description": "Path of the target that is predicted."}
    ahead = bool(horizon.seconds or horizon.events)
    properties |= {
        "y": described(nullable(NUMBER), "The event's own target." if ahead else "The target, if the event has one."),
        "yhat": described(NUMBER, "What is predicted, before the target is looked at."),
        "yhat_lower": described(
            NUMBER, f"Lower bound of the interval that is to hold {config.model.interval:.4g} of all."
        ),
        "yhat_upper": described(NUMBER, "Upper bound of the interval."),
        "anomaly_score": {"type": "number", "minimum": 0, "description": "Above 1 is anomalous; 0 while warming up."},
        "warmup": {
            "type": "boolean",
            "description": f"The entity has fewer than {config.model.warmup} labelled events.",
        },
        "n": described(NATURAL, "Labelled events of this entity before this one."),
        "fleet": described(SHARE, "Share of the prediction that rests on what other entities taught."),
        **_maintenance(config),
        "id": {
            "type": "string",
            "pattern": f"^{_any_of(config.source.names)}-[0-9]+-[0-9]+{number}{end}$",
            "description": "Topic, partition and offset of the event: a repeat has the same id, and the same content.",
        },
        "gap": GAP,
    }
    words = "One an event and target" if several else "One an event"
    found = {"title": "Prediction", "description": f"{words}, keyed by entity."}
    if not event.when:
        return closed(properties) | found
    some, null = {name: properties[name] for name in OF_PREDICTION}, {"type": "null"}
    identity = properties.pop("id")
    properties.pop("gap")
    properties |= {name: described(nullable(some[name]), "Null where `idle`.") for name in OF_PREDICTION}
    properties["idle"] = described({"type": "boolean"}, "The event does not meet event.when: there is no prediction.")
    properties |= {"id": identity, "gap": GAP}
    return {
        **closed(properties),
        **found,
        "if": {"properties": {"idle": {"const": True}}},
        "then": {"properties": dict.fromkeys(OF_PREDICTION, null)},
        "else": {"properties": some},
    }


def _maintenance(config: Config) -> dict[str, Schema]:
    """Return the properties that predictions have in addition where there are planned stops."""
    if not config.alerts.has_stops:
        return {}
    return {"maintenance": {"type": "boolean", "description": "The event lies in a planned stop."}}


def alert_schema(config: Config) -> Schema:
    """Return the schema of an alert's value; the alert is a CloudEvent in binary mode."""
    title = {"title": "Alert", "description": "An episode that starts, goes on or recovers, keyed by entity."}
    of_one = _alert(config, "entity")
    if not config.model.fleet:
        return of_one | title
    return {**title, "type": "object", "oneOf": [of_one, _alert(config, "fleet")]}


def suppressed_schema(config: Config) -> Schema:
    """Return the schema of a suppressed alert's value: that of an alert of an entity, and `suppressed_by`."""
    title = {
        "title": "Suppressed alert",
        "description": "Not among the alerts, because of another episode, alerts.shadow or a stop; keyed by entity.",
    }
    shadow = {
        "enum": [SHADOW, MAINTENANCE],
        "description": "alerts.shadow withholds all alerts; or the episode started in a planned stop.",
    }
    part = {
        "type": "string",
        "pattern": alert_ids(config),
        "description": "`episode` of the fleet alert it is part of.",
    }
    if not config.model.fleet:
        return _alert(config, "entity", {"suppressed_by": shadow}) | title
    of_one = _alert(config, "entity", {"suppressed_by": {"anyOf": [part, shadow]}})
    return {**title, "type": "object", "oneOf": [of_one, _alert(config, "fleet", {"suppressed_by": shadow})]}


def _alert(config: Config, scope: str, more: dict[str, Schema] | None = None) -> Schema:
    """Return the schema of the alerts of a scope. more: further properties"""
    several = len(config.event.targets) > 1
    numbers = dict.fromkeys(("y", "yhat", "yhat_lower", "yhat_upper"), NUMBER)
    score = {"type": "number", "minimum": 0, "description": "Above 1: beyond what the budget allows."}
    feature = {"type": "string"}
    kinds = "Later releases add kinds; skip those that you do not know."
    rules = rule_kinds(config)
    properties: dict[str, Schema] = {
        "entity": {"const": "*"} if scope == "fleet" else NAME,
        "scope": {"const": scope},
        "kind": described({"enum": list(KINDS) if scope == "fleet" else alert_kinds(config)}, kinds),
        "phase": {"enum": list(PHASES)},
        "episode": {"type": "string", "pattern": alert_ids(config), "description": "`id` of its `started` message."},
        "ended_by": described({"enum": [*ENDED_BY, None]}, "When recovered: what ended the episode."),
        "severity": {"enum": ["warning", "critical"]},
        "summary": {"type": "string", "minLength": 1, "description": "The alert as a sentence, in alerts.language."},
        "ts": described(TIME, "Time of the event that caused it, or at which it was sent."),
        "score": nullable(score),
        **{name: nullable(number) for name, number in numbers.items()},
        "since": described(TIME, "Time of the episode's first event."),
        "absorbed_after": described(
            nullable({"type": "integer", "minimum": 1}), "Events until errors were normal again, if that ended it."
        ),
        "contributions": _list({"feature": feature, "share": {"type": "number", "minimum": -1, "maximum": 1}}),
        "weight_change": _list({"feature": feature, "before": {"type": "number"}, "after": {"type": "number"}}),
        "heads": _list({"head": {"type": "string"}, "weight": {"type": "number"}}),
        "channel": described({"enum": [*CHANNELS, *own_channels(config), None]}, "What detected it, for anomaly."),
        "change": described({"enum": [*dict.fromkeys(CHANGES[1:]), None]}, "What the errors do, for drift."),
        "learning": described(SHARE, "Share of the episode's events that are learned."),
        "budget": described(
            nullable({"type": "string"}) if rules else {"type": "string"}, "The false alarms that are allowed."
        ),
        "config_hash": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
        "state_hash": nullable({"type": "string", "pattern": "^[0-9a-f]{16}$"}),
    }
    if several:
        targets = {"enum": config.event.targets}
        properties["target"] = described({"enum": [*config.event.targets, None]}, "The one that this report is about.")
        properties["targets"] = _list({"target": targets, "score": score, "since": TIME, **numbers})
    if scope == "fleet":
        properties |= {
            "pool": {"type": "string", "pattern": "^[0-9]+-[0-9]+$", "description": "Partition and shard."},
            "count": described(NATURAL, "Entities whose episode of this kind is open."),
            "entities": _list({"entity": NAME, "score": score, "since": TIME}) | {"maxItems": MAX_LISTED},
        }
    properties |= _rule_properties(config)
    source: dict[str, Schema] = {"topic": {"enum": origins(config)}, "partition": NATURAL, "offset": NATURAL}
    properties |= {**(more or {}), "source": closed(source), "id": {"type": "string", "pattern": alert_ids(config)}}
    return {"title": f"Alert on {'many entities' if scope == 'fleet' else 'an entity'}", **closed(properties)} | {
        "allOf": _alert_rules(scope, rules if scope == "entity" else [])
    }


def _rule_properties(config: Config) -> dict[str, Schema]:
    """Return the properties that alerts have in addition where there are rules."""
    limits, events = config.alerts.limits, config.event
    signals = [*(events.numbers if events.features != "auto" else []), *events.targets]
    columns = list(dict.fromkeys([*(each.column for each in limits), *signals]))
    every = {
        "limit": described({"enum": [*dict.fromkeys(each.text for each in limits), None]}, "For limit: which one."),
        "column": described({"enum": [*columns, None]}, "For limit, silence and stuck: the column; null: all of it."),
        "value": described({"type": ["number", "string", "null"]}, "Its value in the event."),
    }
    return {name: every[name] for name in rule_fields(config)}


def _alert_rules(scope: str, rules: list[str]) -> list[Schema]:
    """Return which fields of an alert are null, and which are not. rules: kinds of rules that it may be of"""
    null, some, none = {"type": "null"}, {"not": {"type": "null"}}, {"maxItems": 0}
    # A fleet's score is the highest of its entities, whose events are others.
    of_event = ["y", "yhat", "yhat_lower", "yhat_upper", "state_hash", *(["score"] if scope == "entity" else [])]
    without = {
        **dict.fromkeys([*of_event, "channel", "change"], null),
        **dict.fromkeys(("contributions", "weight_change", "heads"), none),
    }
    by_kind = {
        "if": {"properties": {"kind": {"const": "drift"}}},
        "then": {"properties": {"channel": null, "change": some}},
        "else": {"properties": {"channel": some, "change": null, "weight_change": none, "heads": none}},
    }
    # Of the event of a rule there is its value; what the model made of it does not matter.
    of_rule = {"absorbed_after": null, **without}
    of_model = {"properties": dict.fromkeys(of_event, some), **by_kind}
    others = [end for end in ENDED_BY if end not in BY_EVENT]
    # The threshold of a fleet grows with it: then its episode may end though none of its entities has recovered.
    absorbed = some if scope == "entity" else {}
    return [
        {
            "if": {"properties": {"phase": {"const": "recovered"}}},
            "then": {"properties": {"ended_by": some}},
            "else": {"properties": {"ended_by": null}},
        },
        {
            "if": {"properties": {"ended_by": {"enum": list(BY_EVENT)}}},
            "then": {"properties": {"absorbed_after": {} if rules else absorbed}},
            "else": {"properties": {"absorbed_after": null}},
        },
        {
            "if": {"properties": {"ended_by": {"enum": others}}},
            "then": {"properties": without},
            "else": {} if rules else of_model,
        },
        *([_by_rule(rules, of_rule, of_model, others)] if rules else []),
    ]


def _by_rule(rules: list[str], of_rule: Schema, of_model: Schema, others: list[str]) -> Schema:
    """Return what holds for the alerts of rules, and what for those of the model while events cause them."""
    null, some = {"type": "null"}, {"not": {"type": "null"}}
    fields = ["column", "value", *(["limit"] if LIMIT in rules else [])]
    limit = {"limit": some, "column": some, "budget": null} if LIMIT in rules else {}
    return {
        "if": {"properties": {"kind": {"enum": rules}}},
        "then": {
            "properties": of_rule,
            "if": {"properties": {"kind": {"const": LIMIT}}},
            "then": {"properties": limit},
            "else": {"properties": {"limit": null} if LIMIT in rules else {}},
        },
        "else": {
            "properties": {**dict.fromkeys(fields, null), "budget": {"type": "string"}},
            "if": {"properties": {"ended_by": {"enum": others}}},
            "then": {},
            "else": of_model,
        },
    }


def alert_headers(config: Config) -> Schema:
    """Return the schema of an alert's headers: the attributes of a CloudEvent, as text."""
    kinds = "|".join(alert_kinds(config))
    attributes: dict[str, Schema] = {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "pattern": alert_ids(config), "description": "As `id` of the value."},
        "ce_source": {"enum": [f"/ssm-stream/{topic}" for topic in origins(config)]},
        "ce_type": {"type": "string", "pattern": rf"^io\.ssm-stream\.(?:{kinds})\.(?:{'|'.join(PHASES)})$"},
        "ce_subject": described(NAME, "As `entity` of the value."),
        "ce_time": {"type": "string", "format": "date-time", "description": "As `ts` of the value."},
        "content-type": {"const": CONTENT_TYPES[config.sinks.format]},
    }
    return {"title": "Headers of an alert", **closed(attributes)}


def dead_letter_headers(config: Config) -> Schema:
    """Return the schema of a dead letter's headers, as text; the message's own headers are there too."""
    stages = [stage for stage in FAULTS if _has(config, stage)]
    faults = sorted({f"{FAULT_PREFIX}{fault}" for stage in stages for fault in FAULTS[stage]})
    number, facts = {"type": "string", "pattern": "^[0-9]+$"}, [each.topic for each in config.source.context]
    ours: dict[str, Schema] = {
        "topic": described(
            {"enum": [*redrivable_topics(config), *facts]},
            "Where the message stands.",
        ),
        "partition": number,
        "offset": number,
        "stage": {"enum": stages},
        "exception.class.name": {"enum": faults},
        "exception.message": {"type": "string", "minLength": 1, "description": "The reason in words."},
    }
    truncated = {
        **number,
        "description": "Bytes of the value, of which the letter has the head only: it was too large for the topic.",
    }
    targets = [name for name, _ in config.notify.named_targets()] if config.notify else []
    target = {NOTIFY_TARGET: {"enum": targets, "description": "The target of notify."}} if targets else {}
    names = [literal(name) for name in ours]
    return {
        "title": "Headers of a dead letter",
        "description": "Key and value are those of the message, whatever they are; its own headers stand beside these.",
        "type": "object",
        "properties": {**{ERROR_HEADER + name: own for name, own in ours.items()}, TRUNCATED: truncated, **target},
        "required": [ERROR_HEADER + name for name in ours],
        "patternProperties": {f"^{literal(ERROR_HEADER)}(?!(?:{'|'.join(names)})$)": False},
    }


def receipt_schema(config: Config) -> Schema:
    """Return the schema of a receipt's value; `ssm-stream dlq redrive` writes it to the dead-letter topic."""
    place = {"type": "string", "pattern": "^[0-9]+-[0-9]+$", "description": "Of the letter: partition and offset."}
    fields = closed({"redriven": place, "to": {"enum": redrivable_topics(config)}, "partition": NATURAL})
    return {"title": "Receipt", "description": "A dead letter was sent back to its topic.", **fields}


def receipt_headers(config: Config) -> Schema:
    """Return the schema of a receipt's headers."""
    topics = "|".join(map(literal, redrivable_topics(config)))
    target = "( [A-Za-z0-9_-]{1,60})?" if config.notify else ""
    what = {"type": "string", "pattern": f"^(?:{topics})-[0-9]+-[0-9]+ [0-9a-f]{{16}}{target}$"}
    words = "Topic, partition and offset of the message that could not be used, a hash of its key and value, and the "
    words += "target of notify, if it is an alert for one."
    return {"title": "Headers of a receipt", **closed({RECEIPT: described(what, words)})}


def _any_of(topics: list[str]) -> str:
    """Return the pattern of these names."""
    found = "|".join(map(literal, topics))
    return found if len(topics) == 1 else f"(?:{found})"


def input_topics(config: Config) -> list[str]:
    """Return the topics that are read."""
    feedback, control = config.alerts.feedback, config.control_topic
    return [*origins(config), *([feedback.topic] if feedback else []), *([control] if control else [])]


def redrivable_topics(config: Config) -> list[str]:
    """Return the topics whose messages may become dead letters: with `notify` that of the alerts, too."""
    return [*input_topics(config), *([config.sinks.alerts] if config.notify and config.sinks.alerts else [])]


def _has(config: Config, stage: str) -> bool:
    """Return True if the configuration has this stage."""
    if stage == "admit":
        return config.state.max_entities is not None and config.state.when_full == "refuse"
    if stage == "rows":
        return config.event.makes_rows
    if stage == "context":
        return bool(config.source.context)
    alerts = config.alerts
    sections = {
        "label": config.labels, "feedback": alerts.feedback, "control": alerts.control, "notify": config.notify,
    }  # fmt: skip
    return sections.get(stage, True) is not None


def described(schema: Schema, words: str) -> Schema:
    """Return the schema with a description."""
    return {**schema, "description": words}


def closed(properties: dict[str, Schema]) -> Schema:
    """Return the schema of an object with exactly these fields."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name, schema in properties.items() if schema is not GAP],
        "additionalProperties": False,
    }


def _list(properties: dict[str, Any]) -> Schema:
    return {"type": "array", "items": closed(properties)}
