"""What the live page reads of topics, whichever process wrote it: alerts, feedback, and hourly summaries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import orjson
import structlog

from ssm_stream.config import Config
from ssm_stream.config.own_messages import OwnMessages
from ssm_stream.engine.alert_kinds import MAINTENANCE, SHADOW
from ssm_stream.flow.feedback import feedback_topic
from ssm_stream.flow.topic_contents import contents_of
from ssm_stream.ingest.verdicts import FeedbackError, FeedbackReader, Verdict
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.dead_letters import is_redriven
from ssm_stream.kafka.formats.messages import alert_reader
from ssm_stream.kafka.groups.followed_topic import FollowedTopic
from ssm_stream.kafka.records import Message
from ssm_stream.ui.history.hours import HOURS
from ssm_stream.ui.live_page import LivePage

LOG = structlog.get_logger("ssm_stream.ui")
HISTORY = 200
"""Messages of each partition of the alerts and feedback topics that are read at the start."""
TIMEOUT = 10.0
"""Seconds that alerts as they come wait for those from before the start."""
MARGIN = 24
"""Hours by which the clock of a machine that writes summaries may be behind."""
SHARE, LAGGING_SHARE = 0.2, 0.02
"""Share of the time that reading summaries may cost: while the flow keeps up, and while it lags."""
SHOWN = tuple(f'"suppressed_by":"{by}"'.encode() for by in (SHADOW, MAINTENANCE))
ReadValue = Callable[[bytes | None], bytes | None]


def follow_page_topics(page: LivePage) -> None:
    """Follow the topics in threads until the page is closed."""
    config = page.config
    history = AlertHistory(page)
    followed = [FollowedTopic(with_topic(config.source, topic), last_each=HISTORY) for topic in alert_topics(config)]
    for each in followed:
        each.start(history.add, page.closed, f"ui-{each.topic}")
    feedback = feedback_topic(config)
    if feedback is not None and followed:
        verdicts = FollowedTopic(feedback, last_each=HISTORY)
        verdicts.start(FeedbackOfPage(page), page.closed, "ui-feedback")
        followed.append(verdicts)
    threading.Thread(target=history.show, args=(followed,), name="ui-history", daemon=True).start()
    if config.sinks.summaries is not None and page.history is not None:
        threading.Thread(target=_follow_summaries, args=(page,), name="ui-summaries", daemon=True).start()


def alert_topics(config: Config) -> list[str]:
    """Return the topics of the alerts that the page shows, the suppressed ones of planned stops among them."""
    sinks, alerts = config.sinks, config.alerts
    topics = [sinks.suppressed] if alerts.shadow else [sinks.alerts, sinks.suppressed if alerts.has_stops else None]
    return [topic for topic in topics if topic is not None]


class AlertHistory:
    """Shows the alerts of topics: those from before the start in the order of their times, then as they come."""

    def __init__(self, page: LivePage) -> None:
        self._page, self._as_json = page, page.alert_episodes.as_json
        self._own = OwnMessages(page.config)
        self._lock = threading.Lock()
        self._early: list[Message] | None = []

    def add(self, messages: list[Message]) -> None:
        """Add messages as they are read."""
        with self._lock:
            if self._early is not None:
                self._early += messages
                return
        self._show(messages)

    def show(self, followed: list[FollowedTopic]) -> None:
        """Wait until the topics are read, for a few seconds, and show what they held."""
        deadline = time.monotonic() + TIMEOUT
        for each in followed:
            while not each.loaded.wait(0.05) and not each.error and time.monotonic() < deadline:
                if self._page.closed.is_set():
                    return
            if each.error:
                LOG.warning("alerts_not_remembered", topic=each.topic, error=each.error)
        with self._lock:
            early, self._early = self._early or [], None
            self._show(sorted(early, key=lambda message: message.timestamp()[1]))
        self._page.history_read.set()

    def _show(self, messages: list[Message]) -> None:
        contents = (self._as_json(message.value()) for message in messages if not is_redriven(message))
        self._page.alert_episodes.add(filter(self._is_shown, contents), framed=False)

    def _is_shown(self, value: bytes | None) -> bool:
        """Return whether the page shows a message: not one that a fleet alert replaces, nor another flow's."""
        if not value or (b'"suppressed_by":' in value and not any(by in value for by in SHOWN)):
            return False
        try:
            return self._own.has_alert(orjson.loads(value))
        except orjson.JSONDecodeError:
            return False


class FeedbackOfPage:
    """Shows verdicts and acknowledgements."""

    def __init__(self, page: LivePage) -> None:
        self._page, self._read = page, FeedbackReader(page.config)

    def __call__(self, messages: list[Message]) -> None:
        """Add messages of the feedback topic; others are ignored."""
        for message in messages:
            try:
                found = self._read(message.value())
            except FeedbackError:
                continue
            if isinstance(found, Verdict):
                self._page.on_verdict(found)
            else:
                self._page.on_acknowledged(found)


def _follow_summaries(page: LivePage) -> None:
    """Show the hourly summaries once a browser is connected: a week of a large fleet takes a while to read."""
    while not page.history_requested.wait(1.0):
        if page.closed.is_set():
            return
    config = page.config
    read = alert_reader(config)
    since = int(1000 * time.time()) - (HOURS + MARGIN) * 3_600_000
    followed = FollowedTopic(with_topic(config.source, config.sinks.summaries or ""), since=since)

    def add(messages: list[Message]) -> None:
        began = time.thread_time()
        page.add_summaries(content for _, content in contents_of(messages, read))
        share = LAGGING_SHARE if page.cache.lagging else SHARE
        page.closed.wait((time.thread_time() - began) * (1 / share - 1))

    followed.start(add, page.closed, "ui-summaries-read")
    while not page.closed.is_set():
        page.history_state = "" if followed.loaded.is_set() else followed.error or "loading"
        page.closed.wait(0.25)
