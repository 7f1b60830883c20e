"""What would have been sent so far: alerts of the past through the rules of today, by the clock of their timestamps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from ssm_stream.config import Config
from ssm_stream.config.sections.notify import Target
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.formats.messages import alert_reader
from ssm_stream.kafka.groups.reader import GroupMessage, Place
from ssm_stream.kafka.records import offset_of
from ssm_stream.kafka.topic_reader import open_topic
from ssm_stream.notify.alerts import AlertMessage, Episodes, NotAnAlertError, parse_alert
from ssm_stream.notify.outbox import Outbox
from ssm_stream.notify.quiet import QuietHours
from ssm_stream.notify.rendering import Renderer, Text
from ssm_stream.notify.routing import Routing
from ssm_stream.notify.senders.printer import Print

FINE, COARSE = 1.0, 60.0
"""Seconds between two steps of the clock: in the first minutes after an alert, and later."""
FINE_FOR = 900.0


def print_history(config: Config, file: str, since: int, write: Print) -> None:
    """Print what each target would have got up to now, how many messages, and what still waits. since: ms since 1970

    Raises:
        BrokerError: the topic of alerts cannot be read.
        ConfigError: the template cannot be used.
    """
    assert config.notify is not None
    alerts, now = _read(config, since), time.time()
    for name, target in config.notify.named_targets():
        outbox, count = Outbox(config.notify, QuietHours(config.notify.quiet, config.event.time_zone)), 0
        for at, text in _history(config, file, target, alerts, outbox, now):
            count += 1
            when = datetime.fromtimestamp(at, ZoneInfo(config.event.time_zone)).isoformat(" ", "seconds")
            write(f"── {name} ── {when} ── {text.title}\n{text.body}\n")
        waiting = f"; {len(outbox)} alerts still wait (notify.quiet or notify.per_hour)" if len(outbox) else ""
        write(f"{name}: {count} messages from {len(alerts)} alert messages{waiting}\n")


def _read(config: Config, since: int) -> list[AlertMessage]:
    """Return the alerts on the topic, by their timestamps."""
    as_json = alert_reader(config)
    source, found = with_topic(config.source, config.sinks.alerts or ""), list[AlertMessage]()
    with open_topic(source) as reader:
        for messages in reader.read(reader.spans(check_broker(source).partitions_of(source.topic), since=since)):
            for message in messages:
                place = Place(message.partition() or 0, offset_of(message))
                with contextlib.suppress(NotAnAlertError):
                    found.append(parse_alert(GroupMessage(place, message, processed=False), since / 1000, as_json))
    return sorted(found, key=lambda alert: alert.at)


def _history(
    config: Config, file: str, target: Target, alerts: list[AlertMessage], outbox: Outbox, present: float
) -> Iterator[tuple[float, Text]]:
    """Yield the messages of a target with their times, s; what then still waits is in its outbox. present: s"""
    assert config.notify is not None
    routing, episodes = Routing(config.notify, target), Episodes()
    renderer, orphans = Renderer(config, routing, file), config.notify.orphans

    def advance(now: float, until: float) -> Iterator[tuple[float, Text]]:
        began = now
        while now < until:
            for orphan in episodes.orphans(now - orphans):
                outbox.forget_repeat(orphan)
            outbox.tick(episodes, now)
            if (batch := outbox.take(now)) is not None:
                text = renderer.batch(batch, sum(map(routing.matches, episodes)))
                outbox.sent(batch, now)
                yield now, text
            now += FINE if now - began < FINE_FOR else COARSE

    now = alerts[0].at if alerts else 0.0
    for alert in alerts:
        if target.for_people:
            yield from advance(now, alert.at)
        now = alert.at
        applied = episodes.apply(alert)
        if applied is None or not (applied[0].announced or routing.matches(applied[0])):
            continue
        episode, news = applied
        if target.for_people:
            outbox.add(episode, news, alert.place, now)
        else:
            episode.announced = True
            content = alert.content
            yield now, Text(f"{content['kind']} {content['phase']}", str(content["summary"]))
    if target.for_people:
        # The last alert waits for those that start with it, if need be beyond the present.
        yield from advance(now, max(present, now + config.notify.group + FINE))
