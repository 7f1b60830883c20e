"""The message of an alert, as it was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from ssm_stream.config import Config, ConfigError
from ssm_stream.flow.alert_id import AlertId
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.formats.messages import alert_reader
from ssm_stream.kafka.topic_reader import read_topic


def read_sent_alert(config: Config, alert: AlertId) -> bytes | None:
    """Return the alert as its topic has it, as JSON, that of suppressed ones included; None if it is no longer there.

    Raises:
        BrokerError: the topic does not exist, or a broker refuses or does not answer.
    """
    named, as_json = alert.text.encode(), alert_reader(config)
    for topic in filter(None, (config.sinks.alerts, config.sinks.suppressed)):
        for message in read_topic(with_topic(config.source, topic)):
            value = message.value()
            if value is None or named not in value or (content := as_json(value)) is None:
                continue
            if orjson.loads(content).get("id") == alert.text:
                return content
    return None


def read_alert_file(config: Config, alert: AlertId, file: Path) -> bytes:
    """Return the alert as a file has it, as JSON: its message alone, or one of the lines of `backtest --alerts`.

    Raises:
        ConfigError: the file is neither, or has other alerts.
        OSError: it cannot be read.
    """
    raw, found = file.read_bytes(), dict[Any, bytes]()
    for each in (alert_reader(config)(raw) or b"", *raw.splitlines()):
        try:
            content = orjson.loads(each)
        except orjson.JSONDecodeError:
            continue
        if isinstance(content, dict):
            found.setdefault(content.get("id"), each)
    if alert.text in found:
        return found[alert.text]
    if not found:
        raise ConfigError(f"--alert: {file} holds no message of an alert: one JSON object, or one on each line")
    only = f"the alert {next(iter(found))!r}" if len(found) == 1 else f"{len(found):,} alerts"
    raise ConfigError(f"--alert: {file} holds {only}, not {alert.text!r}")


def sent_content(config: Config, sent: bytes, replayed: dict[str, Any]) -> dict[str, Any]:
    """Return the content of an alert that was sent, to be compared with the same one computed again.

    Avro has fields in an order of its own, and those that the alert lacks as null.
    """
    content: dict[str, Any] = orjson.loads(sent)
    if config.sinks.format == "json":
        return content
    return {name: value for name, value in content.items() if value is not None or name in replayed}
