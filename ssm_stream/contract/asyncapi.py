"""The topics of one configuration as an AsyncAPI 3.0 document: servers, channels, messages, keys; no secrets.

Actions are those of ssm-stream: what it receives, others send.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from ssm_stream.config import Config
from ssm_stream.config.client_properties import mechanism_of, protocol_of
from ssm_stream.config.sections.registry import OF_REGISTRY
from ssm_stream.contract.avro_schemas import alert_avro, prediction_avro, summary_avro, suppressed_avro
from ssm_stream.contract.event_schema import (
    answer_schema,
    event_schema,
    example_event,
    fact_schema,
    feedback_schema,
    label_schema,
    stop_schema,
)
from ssm_stream.contract.message_schemas import (
    CONTENT_TYPES,
    alert_headers,
    alert_schema,
    dead_letter_headers,
    prediction_schema,
    receipt_headers,
    receipt_schema,
    suppressed_schema,
)
from ssm_stream.contract.summary_schema import summary_schema
from ssm_stream.engine.summaries.messages import summary_key

BINDING = {"bindingVersion": "0.5.0"}
TEXT = {"type": "string"}
EXAMPLE_HOUR = 1_769_850_000_000
"""2026-01-31, nine o'clock, ms."""
AVRO = "application/vnd.apache.avro;version=1.9.0"
SECURITY = {
    "PLAIN": {"type": "plain"},
    "SCRAM-SHA-256": {"type": "scramSha256"},
    "SCRAM-SHA-512": {"type": "scramSha512"},
    "OAUTHBEARER": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}
"""SASL mechanism → AsyncAPI's security scheme."""


def asyncapi(config: Config) -> dict[str, Any]:
    """Return the document. With `event.features: auto` it has no hash of the configuration, which is not fixed yet."""
    document: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"ssm-stream on {', '.join(config.source.names)}",
            "version": version("ssm-stream") + ("" if config.event.features == "auto" else f"+{config.hash}"),
            "description": "Reads events; writes predictions, anomaly and drift alerts, and what it could not use.",
        },
        "defaultContentType": "application/json",
        "servers": _servers(config),
        "channels": {},
        "operations": {},
        "components": {"messages": {}},
    }
    if (scheme := _scheme(config)) is not None:
        document["components"]["securitySchemes"] = {"sasl": scheme}
    labels, feedback, sinks = config.labels, config.alerts.feedback, config.sinks
    event = {
        "title": "Event",
        "summary": "Something that was measured.",
        "payload": event_schema(config),
        "bindings": _key("The entity: then its events lie in one partition, in order."),
        "examples": [{"payload": example_event(config)}],
    }
    if config.event.format != "json":
        of_schema = "in Avro, Protobuf or JSON" if config.event.format == "auto" else f"in {config.event.format}"
        own = f"in the format {config.event.format}"
        form = of_schema if config.event.format in OF_REGISTRY else own
        event["summary"] = f"Something that was measured, {form}; its document:"
        event["contentType"] = "application/octet-stream"
    for i, topic in enumerate(config.source.names):
        _add_channel(document, f"events{i + 1 if i else ''}", topic, "receive", event, group=config.source.group_id)
    if config.source.repartition is not None:
        _add_operation(document, "events", "send", "events")
        unkeyed = {**event, "bindings": _key("Any: each message is copied to the events topic, as it is.")}
        _add_channel(
            document,
            "unkeyedEvents",
            config.source.repartition,
            "receive",
            unkeyed,
            f"{config.source.group_id}-repartition",
        )
    for i, context in enumerate(config.source.context):
        fact = {
            "title": "Fact",
            "summary": f"What holds of an entity from a time on, which its events have: {', '.join(context.columns)}.",
            "payload": fact_schema(config, context),
            "bindings": _key("The entity, where the message does not name it."),
        }
        _add_channel(document, f"facts{i + 1 if i else ''}", context.topic, "receive", fact)
    if labels is not None and labels.topic is not None:
        label = {
            "title": "Label",
            "summary": "A target that comes by itself.",
            "payload": label_schema(config),
            "bindings": _key("The entity."),
        }
        _add_channel(document, "labels", labels.topic, "receive", label, group=config.source.group_id)
    if feedback is not None:
        verdict = {
            "title": "Feedback",
            "summary": "What an operator says of an alert.",
            "payload": feedback_schema(config),
            "bindings": _key("The alert's id: then what was said of it last is known."),
        }
        _add_channel(document, "feedback", feedback.topic, "receive", verdict, group=config.source.group_id)
    if config.control_topic is not None:
        stop = {
            "title": "Planned stop",
            "summary": "A window in which the alerts of an entity are suppressed. ssm-stream acknowledges it there.",
            "payload": stop_schema(config),
            "bindings": _key("The entity."),
        }
        _add_channel(document, "control", config.control_topic, "receive", stop, group=config.source.group_id)
        answer = {
            "title": "Answer to a planned stop",
            "summary": "Written by each process that has read one. Who announces stops skips it.",
            "payload": answer_schema(),
            "bindings": _key("Partition and offset of the message that it answers, as 0-17."),
        }
        _add_message(document, "control", "send", "answers", answer)
    framed = config.schema_registry is not None
    if sinks.predictions is not None:
        prediction = {
            "title": "Prediction",
            "summary": f"What was predicted of an event. {_repeats(config)}",
            **_written(config, prediction_schema, prediction_avro),
            "bindings": _key("The entity.", framed=framed),
        }
        _add_channel(document, "predictions", sinks.predictions, "send", prediction)
    if sinks.alerts is not None:
        alert = {
            "title": "Alert",
            "summary": f"A CloudEvent 1.0 in binary mode. {_repeats(config)}",
            "headers": alert_headers(config),
            **_written(config, alert_schema, alert_avro),
            "bindings": _key("The entity, or * where it is of many.", framed=framed),
        }
        _add_channel(document, "alerts", sinks.alerts, "send", alert)
    if sinks.suppressed is not None:
        suppressed = {
            "title": "Suppressed alert",
            "summary": f"An alert that is withheld, a CloudEvent 1.0 in binary mode. {_repeats(config)}",
            "headers": alert_headers(config),
            **_written(config, suppressed_schema, suppressed_avro),
            "bindings": _key("The entity, or * where it is of many.", framed=framed),
        }
        _add_channel(document, "suppressed", sinks.suppressed, "send", suppressed)
    if sinks.summaries is not None:
        summary = {
            "title": "Summary",
            "summary": f"What happened to an entity in an hour. The topic is compacted. {_repeats(config, 'key')}",
            **_written(config, summary_schema, summary_avro),
            "bindings": _key(f"{_summary_key(config)}: the last of a key counts.", framed=framed),
        }
        _add_channel(document, "summaries", sinks.summaries, "send", summary)
    letter = {
        "title": "Dead letter",
        "summary": "A message that could not be used: its own key, value and headers, and the reason in headers.",
        "contentType": "application/octet-stream",
        "headers": dead_letter_headers(config),
        "payload": {"description": "The value as it came, or its head where it was too large for the topic."},
        "bindings": _key("The message's own."),
    }
    _add_channel(document, "deadLetters", sinks.dead_letters, "send", letter)
    receipt = {
        "title": "Receipt",
        "summary": "Of `ssm-stream dlq redrive`: a dead letter was sent back. Consumers of dead letters skip it.",
        "headers": receipt_headers(config),
        "payload": receipt_schema(config),
        "bindings": _key("Always the same."),
    }
    _add_message(document, "deadLetters", "send", "receipts", receipt)
    return document


def _written(
    config: Config, schema: Callable[[Config], dict[str, Any]], avro: Callable[[Config], dict[str, Any]]
) -> dict[str, Any]:
    """Return payload and content type of a message in `sinks.format`."""
    if config.sinks.format == "json":
        return {"payload": schema(config)}
    return {"contentType": CONTENT_TYPES["avro"], "payload": {"schemaFormat": AVRO, "schema": avro(config)}}


def _add_channel(
    document: dict[str, Any], name: str, topic: str, action: str, message: dict[str, Any], group: str | None = None
) -> None:
    """Add a channel with its one message, and the operation of ssm-stream on it."""
    document["components"]["messages"][name] = {"name": name, **message}
    document["channels"][name] = {
        "address": topic,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": {"topic": topic, **BINDING}},
    }
    _add_operation(document, name, action, name, group)


def _add_operation(document: dict[str, Any], channel: str, action: str, message: str, group: str | None = None) -> None:
    """Add an operation of ssm-stream on a channel, with one of its messages."""
    client = {"clientId": {"type": "string", "enum": ["ssm-stream"]}}
    of_group = {} if group is None else {"groupId": {"type": "string", "enum": [group]}}
    document["operations"][f"{action}{channel[0].upper()}{channel[1:]}"] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
        "bindings": {"kafka": {**of_group, **client, **BINDING}},
    }


def _add_message(document: dict[str, Any], channel: str, action: str, name: str, message: dict[str, Any]) -> None:
    """Add another message of a channel."""
    document["components"]["messages"][name] = {"name": name, **message}
    document["channels"][channel]["messages"][name] = {"$ref": f"#/components/messages/{name}"}
    operation = document["operations"].get(f"{action}{channel[0].upper()}{channel[1:]}")
    if operation is None:
        _add_operation(document, channel, action, name)
    else:
        operation["messages"].append({"$ref": f"#/channels/{channel}/messages/{name}"})


def _servers(config: Config) -> dict[str, Any]:
    protocol = protocol_of(config.source.kafka)
    secure = protocol in ("SSL", "SASL_SSL")
    more: dict[str, Any] = {"description": f"security.protocol: {protocol}"}
    if _scheme(config) is not None:
        more["security"] = [{"$ref": "#/components/securitySchemes/sasl"}]
    if (registry := config.schema_registry) is not None:
        binding = {"schemaRegistryUrl": registry.url, "schemaRegistryVendor": "confluent"}
        more["bindings"] = {"kafka": {**binding, **BINDING}}
    hosts = [host.strip() for host in config.source.brokers.split(",") if host.strip()]
    return {
        f"kafka{i}": {"host": host.rpartition("://")[2], "protocol": "kafka-secure" if secure else "kafka", **more}
        for i, host in enumerate(hosts)
    }


def _scheme(config: Config) -> dict[str, Any] | None:
    """Return the security scheme of the login; None without one."""
    kafka = config.source.kafka
    return SECURITY.get(mechanism_of(kafka)) if protocol_of(kafka).startswith("SASL_") else None


def _key(words: str, *, framed: bool = False) -> dict[str, Any]:
    """Return the bindings of a message. framed: it begins with its schema's id"""
    frame = {"schemaIdLocation": "payload", "schemaIdPayloadEncoding": "confluent"} if framed else {}
    strategy = {"schemaLookupStrategy": "TopicNameStrategy"} if framed else {}
    return {"kafka": {"key": {**TEXT, "description": words}, **frame, **strategy, **BINDING}}


def _summary_key(config: Config) -> str:
    """Return the parts of a summary's key, and an example."""
    targets = config.event.targets
    if len(targets) == 1:
        return f"Entity|hour, as {summary_key('press-7', EXAMPLE_HOUR)}"
    return f"Entity|hour|target, as {summary_key('press-7', EXAMPLE_HOUR, targets[0])}"


def _repeats(config: Config, by: str = "id") -> str:
    if config.delivery == "exactly_once":
        return "Comes once, for consumers with isolation.level=read_committed."
    return f"May come twice after a crash, with the same {by} and content."
