"""Names of entities and signals in a sentence."""

from __future__ import annotations

from ssm_stream.config import Config, ConfigError

MAX_NAME = 60
"""Characters of a name in a sentence."""
CONTAINERS = {
    "body",
    "data",
    "event",
    "fields",
    "measurements",
    "message",
    "metrics",
    "payload",
    "readings",
    "sensors",
    "signals",
    "values",
}
"""Objects that have all signals of a message, and whose name means nothing to a reader: Telegraf has `fields`. Any
other beginning of a name (`K101.SPEED`) may be the machine."""


def shown_name(name: str) -> str:
    """Return a name on one line, cut if it is long."""
    name = "".join(c if c.isprintable() else "·" for c in name)
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def container_of(config: Config) -> str:
    """Return the beginning, with its dot, that the paths of all signals share and a sentence leaves out; mostly none.

    >>> from ssm_stream.config import parse_config
    >>> container_of(parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: tags.host, timestamp: timestamp, features: [fields.load], target: fields.disk_used}
    ... '''))
    'fields.'
    """
    event = config.event
    try:
        signals = [*event.targets, *event.numbers, *(limit.column for limit in config.alerts.limits)]
    except ConfigError:  # features are not selected yet
        return ""
    begin, left = "", signals
    while left and len(first := {path.partition(".")[0] for path in left}) == 1:
        if not all("." in path for path in left) or not first <= CONTAINERS:
            break
        begin += f"{first.pop()}."
        left = [path.partition(".")[2] for path in left]
    return begin
