"""Reads what the topics of a flow hold of a period: the process that wrote it may be any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from zoneinfo import ZoneInfo

from ssm_stream.config import Config, ConfigError
from ssm_stream.config.own_messages import OwnMessages
from ssm_stream.evaluate.report.period.messages import DAY, AnnouncedStop, Message, Period, RewoundStretch
from ssm_stream.flow.feedback import feedback_topic, read_verdicts
from ssm_stream.flow.topic_contents import contents_of
from ssm_stream.ingest.timestamps import iso_to_ms
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.control.topic import control_topic, read_control
from ssm_stream.kafka.formats.messages import alert_reader
from ssm_stream.kafka.topic_reader import open_topic
from ssm_stream.recovery.exclusions import read_rewinds

EARLIER = DAY
"""How much earlier than its time a message may have been written, ms, as by a machine whose clock is behind."""


def read_period(config: Config, since: int, until: int) -> Period:
    """Return what the topics hold of [since, until), and of as long a time before it. since, until: ms

    Raises:
        ConfigError: the configuration names no topic for alerts.
        BrokerError: a topic does not exist, or a broker refuses or does not answer.
        RecoveryError: the rewinds of the state cannot be read.
    """
    sinks = config.sinks
    if sinks.alerts is None:
        raise ConfigError("sinks.alerts: null: a report is made of the alerts; name their topic")
    read, first = alert_reader(config), 2 * since - until
    feedback = feedback_topic(config)
    summaries = None
    if sinks.summaries is not None:
        last = dict[bytes | str | None, Message]()
        for key, each in _messages(config, sinks.summaries, first, read):
            last[key] = each
        summaries = [each for each in last.values() if first <= each["hour"] < until]
    return Period(
        since,
        until,
        _alerts(config, sinks.alerts, first, read),
        [] if sinks.suppressed is None else _alerts(config, sinks.suppressed, first, read),
        None if feedback is None else read_verdicts(config, feedback),
        summaries,
        _stops(config),
        rewound_stretches(config),
    )


def rewound_stretches(config: Config) -> list[RewoundStretch]:
    """Return the stretches that rewinds have excluded from the state."""
    directory, zone = config.recovery.directory, ZoneInfo(config.event.time_zone)
    made = [] if directory is None else read_rewinds(directory)
    return [
        RewoundStretch(each.entities, iso_to_ms(each.begin or "", zone), iso_to_ms(each.end or "", zone))
        for rewind in made
        for each in rewind.excluded
    ]


def topics_of(config: Config) -> list[str]:
    """Return the topics that a report is made of, the events topic first."""
    sinks, feedback = config.sinks, config.alerts.feedback
    verdicts = None if feedback is None else feedback.topic
    named = (sinks.alerts, sinks.suppressed, sinks.summaries, verdicts, config.control_topic)
    return [config.source.topic, *(topic for topic in named if topic)]


def _alerts(config: Config, topic: str, first: int, read: Callable[[bytes | None], bytes | None]) -> list[Message]:
    """Return the alerts of the flow on a topic, each once, in the order of their times."""
    own = OwnMessages(config)
    found = {each["id"]: each for _, each in _messages(config, topic, first, read) if own.has_alert(each)}
    return sorted(found.values(), key=lambda each: (each["ts"], each["id"]))


def _messages(
    config: Config, topic: str, first: int, read: Callable[[bytes | None], bytes | None]
) -> Iterator[tuple[bytes | str | None, Message]]:
    """Yield key and content of the messages of a topic that were written after a time; what is no JSON is left out."""
    source = with_topic(config.source, topic)
    partitions = check_broker(source).partitions_of(topic)
    with open_topic(source) as reader:
        for messages in reader.read(reader.spans(partitions, since=max(first - EARLIER, 0))):
            yield from contents_of(messages, read)


def _stops(config: Config) -> list[AnnouncedStop]:
    """Return the planned stops that were announced, as far as they act."""
    source = control_topic(config)
    if source is None:
        return []
    found = read_control(config, source)
    stops = [(found.span(name), each) for name, each in found.windows.items()]
    return [AnnouncedStop(each.entity, *span, each.reason, each.by) for span, each in stops if span[0] < span[1]]
