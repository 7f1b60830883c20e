"""What the workers of all targets share: reading, routing, acknowledgements, dead letters, commits."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from ssm_stream.config import Config, ConfigError, Notify
from ssm_stream.config.sections.notify import Target
from ssm_stream.contract.headers import NOTIFY_TARGET, REDRIVEN_FROM
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.verdicts import AlertAcknowledgement
from ssm_stream.kafka.client import BrokerError, with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.formats.messages import alert_reader
from ssm_stream.kafka.groups.letters import LetterWriter
from ssm_stream.kafka.groups.reader import GroupMessage, GroupReader, Place, TopicActivity, open_group
from ssm_stream.kafka.records import headers_of
from ssm_stream.notify.alerts import AlertMessage, Episode, Episodes, News, NotAnAlertError, parse_alert
from ssm_stream.notify.metrics import NotifyMetrics
from ssm_stream.notify.routing import Routing
from ssm_stream.notify.senders.backoff import Backoff

LOG = structlog.get_logger("ssm_stream.notify")
POLL = 0.05
COMMIT_EVERY = 0.05
TICK = 1.0
PARTITIONS_EVERY = 60.0
"""Seconds between checks for partitions that were added."""
MAX_WAITING = 2000
"""Alerts that are read ahead of a target."""
GIVE_UP = 86_400.0
"""Seconds of failed attempts after which an alert becomes a dead letter."""


@dataclass
class Shared:
    """What the workers of a process share.

    file: name of the configuration, for commands in messages
    dry_run: print, and commit nothing
    letters: None in a dry run
    """

    config: Config
    file: str
    metrics: NotifyMetrics
    letters: LetterWriter | None
    dry_run: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def notify(self) -> Notify:
        """The section."""
        assert self.config.notify is not None
        return self.config.notify


class TargetWorker(ABC):
    """Reads the alerts topic for one target, in a thread, and sends.

    Subclasses send in `on_alert` and `tick`, and call `settle` for what is sent.
    """

    def __init__(self, name: str, target: Target, shared: Shared) -> None:
        self.name, self.target, self.shared = name, target, shared
        self._as_json = alert_reader(shared.config)
        self.routing = Routing(shared.notify, target)
        self.episodes = Episodes()
        self._settled: deque[Place] = deque()
        self._timestamps: dict[Place, float] = {}
        self._acknowledged: deque[AlertAcknowledgement] = deque()
        self._next_heartbeat = 0.0
        self._activity: TopicActivity | None = None
        self.failed: Exception | None = None
        """What ended the thread."""
        self.thread = threading.Thread(target=self._run, name=f"notify {name}", daemon=True)

    @property
    def group(self) -> str:
        """The consumer group of the target."""
        return f"{self.shared.config.source.group_id}-notify-{self.name}"

    # What subclasses do.

    @abstractmethod
    def on_alert(self, alert: AlertMessage, episode: Episode, news: News) -> None:
        """Process an alert that is new, and for this target."""

    def on_history(self, alert: AlertMessage, episode: Episode, news: News) -> None:
        """Process an alert for this target that was processed by an earlier process."""
        if news in ("started", "escalated") or not episode.announced:
            episode.announced, episode.sent_at = True, alert.at

    @abstractmethod
    def on_redriven(self, alert: AlertMessage, episode: Episode | None) -> None:
        """Process an alert that is sent again, as it was a dead letter. episode: None if it is over"""

    def on_caught_up(self, *, new_group: bool) -> None:
        """Begin to repeat, now that the open episodes are known. new_group: it is the first start of all"""
        LOG.info("notifying", target=self.name, group=self.group, open=len(self.episodes), first_start=new_group)

    def on_orphan(self, episode: Episode) -> None:
        """End an episode whose recovery will not come."""
        LOG.warning("alert_orphaned", target=self.name, episode=episode.id, entity=episode.entity)

    def on_acknowledged(self, episode: Episode) -> None:
        """Note that somebody attends to an episode."""
        by = episode.acknowledged.by if episode.acknowledged else ""
        LOG.info("acknowledged", target=self.name, episode=episode.id, by=by)

    @abstractmethod
    def tick(self, now: float) -> None:
        """Send what is due. now: s since 1970"""

    @abstractmethod
    def send_heartbeat(self, now: float, predictions: int | None) -> bool:
        """Send that somebody watches; return False if the target did not take it."""

    @abstractmethod
    def send_test(self) -> None:
        """Send a message that only shows that messages arrive.

        Raises:
            SendError: it was not taken.
            RefusedError: it was refused.
        """

    def open(self) -> None:
        """Begin without anything that waits: the topic is read again from the group's positions."""
        self.episodes = Episodes()
        self._settled.clear()
        self._timestamps.clear()

    def close(self) -> None:
        """Stop sending, and wait for what is being sent."""
        self.shared.metrics.set_reading(self.name, False)

    # What they call; thread-safe.

    def settle(self, places: Iterable[Place], *, sent: bool = True) -> None:
        """Note that messages need nothing more. sent: the target has them"""
        for place in places:
            self._settled.append(place)
            at = self._timestamps.pop(place, None)
            if sent and at is not None:
                self.shared.metrics.on_settled(self.name, [at])

    def refuse(self, alert: AlertMessage | GroupMessage, fault: Fault, reason: str) -> None:
        """Write the dead letter of a message.

        Raises:
            BrokerError: the broker does not have it.
        """
        LOG.error("alert_not_sent", target=self.name, reason=reason, place=list(alert.place))
        if self.shared.letters is not None:
            self.shared.letters.write(alert.message, self.name, fault, reason)
        self.shared.metrics.alerts.labels(self.name, "dead_letter").inc()
        self.settle([alert.place], sent=False)

    def acknowledge(self, found: AlertAcknowledgement) -> None:
        """Note that somebody attends to an alert."""
        self._acknowledged.append(found)

    # The thread.

    def _run(self) -> None:
        backoff, shared = Backoff(1.0), self.shared
        source = with_topic(shared.config.source, shared.config.sinks.alerts or "")
        source = source.model_copy(update={"group": self.group})
        try:
            while not shared.stopping.is_set():
                self.open()
                since = int(1000 * (time.time() - shared.notify.orphans))
                try:
                    with open_group(source, since=since) as reader:
                        shared.metrics.set_reading(self.name, True)
                        backoff.reset()
                        self._read(reader)
                except BrokerError as error:
                    LOG.warning("topic_not_read", target=self.name, error=str(error))
                    self.close()
                    shared.stopping.wait(backoff.next())
        except ConfigError as error:
            self.failed = error
            shared.stopping.set()
        except Exception as error:  # the main thread raises it
            self.failed = error
            shared.stopping.set()
            raise
        finally:
            self.close()

    def _read(self, reader: GroupReader) -> None:
        """Read until the process stops, or partitions are added."""
        shared, stopping = self.shared, self.shared.stopping
        caught_up, next_commit, next_tick = False, 0.0, 0.0
        next_check = time.monotonic() + PARTITIONS_EVERY
        while not stopping.is_set():
            if reader.waiting < MAX_WAITING:
                for found in reader.poll(POLL):
                    self._process(found)
            else:
                stopping.wait(POLL)
            if not caught_up and reader.caught_up:
                caught_up = True
                self._begin(reader)
            now = time.time()
            if caught_up:
                self._apply_acknowledgements()
                self.tick(now)
                if now >= next_tick:
                    next_tick = now + TICK
                    self._slow_tick(now)
            self._end_settled(reader)
            if now >= next_commit:
                next_commit = now + COMMIT_EVERY
                shared.metrics.waiting.labels(self.name).set(reader.waiting)
                self._commit(reader)
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + PARTITIONS_EVERY
                if check_broker(reader.source).partitions_of(reader.source.topic) != reader.partitions:
                    break
        self.close()
        self._end_settled(reader)
        self._commit(reader, wait=True)

    def _begin(self, reader: GroupReader) -> None:
        shared = self.shared
        every = shared.notify.heartbeat
        if every is not None and self.routing.has_heartbeats:
            self._next_heartbeat = (time.time() // every + 1) * every
            if shared.config.sinks.predictions is not None:
                self._activity = TopicActivity(with_topic(shared.config.source, shared.config.sinks.predictions))
        self.on_caught_up(new_group=reader.new_group)

    def _end_settled(self, reader: GroupReader) -> None:
        settled = list[Place]()
        while self._settled:
            settled.append(self._settled.popleft())
        reader.end(settled)

    def _commit(self, reader: GroupReader, *, wait: bool = False) -> None:
        if not self.shared.dry_run:
            reader.commit(wait=wait)

    def _process(self, found: GroupMessage) -> None:
        """Apply a message of the topic."""
        now = time.time()
        try:
            alert = parse_alert(found, now, self._as_json)
        except NotAnAlertError as error:
            if not found.processed:
                self.refuse(found, Fault.WRONG_TYPE, str(error))
            return
        headers = {name: value for name, value in headers_of(found.message) if name in (REDRIVEN_FROM, NOTIFY_TARGET)}
        if REDRIVEN_FROM in headers:
            if found.processed:
                return
            if _text(headers.get(NOTIFY_TARGET)) != self.name:
                self.settle([found.place], sent=False)
                return
            LOG.info("redriven", target=self.name, alert=alert.content["id"])
            self._timestamps[found.place] = alert.at
            self.on_redriven(alert, self.episodes.find(alert))
            return
        applied = self.episodes.apply(alert)
        if applied is None:  # a repeat of the flow's
            if not found.processed:
                self.settle([found.place], sent=False)
            return
        episode, news = applied
        if not episode.announced and not self.routing.matches(episode):
            if not found.processed:
                self.settle([found.place], sent=False)
            return
        if found.processed:
            self.on_history(alert, episode, news)
            return
        self._timestamps[found.place] = alert.at
        self.on_alert(alert, episode, news)

    def _apply_acknowledgements(self) -> None:
        for _ in range(len(self._acknowledged)):
            found = self._acknowledged.popleft()
            episode = self.episodes.acknowledge(found)
            if episode is not None:
                self.on_acknowledged(episode)

    def _slow_tick(self, now: float) -> None:
        """Close orphans, send heartbeats, count."""
        shared = self.shared
        for episode in self.episodes.orphans(now - shared.notify.orphans):
            if episode.announced:
                self.on_orphan(episode)
        mine = sum(1 for episode in self.episodes if self.routing.matches(episode))
        shared.metrics.open.labels(self.name).set(mine)
        if self._next_heartbeat and now >= self._next_heartbeat:
            every = shared.notify.heartbeat or 0.0
            self._next_heartbeat = (now // every + 1) * every
            taken = self.send_heartbeat(now, None if self._activity is None else self._activity.since_last())
            shared.metrics.on_heartbeat(self.name, taken=taken)

    @property
    def watched(self) -> int:
        """Open episodes that the target is for."""
        return sum(1 for episode in self.episodes if self.routing.matches(episode))


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
