"""Sends to people: grouped, limited, repeated, through Apprise."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from ssm_stream.config.sections.notify import Target
from ssm_stream.ingest.faults import Fault
from ssm_stream.kafka.groups.reader import Place
from ssm_stream.notify.alerts import AlertMessage, Episode, News, passed
from ssm_stream.notify.charts.charts import Chart, Charts
from ssm_stream.notify.outbox import Batch, Entry, Outbox
from ssm_stream.notify.quiet import QuietHours
from ssm_stream.notify.rendering import MAX_DETAILED, Renderer, Text, parts, ranked
from ssm_stream.notify.senders.apprise import PartlySentError, PeopleSender
from ssm_stream.notify.senders.backoff import Backoff
from ssm_stream.notify.senders.http import SendError
from ssm_stream.notify.workers import base
from ssm_stream.notify.workers.base import Shared, TargetWorker

LOG = structlog.get_logger("ssm_stream.notify")
ATTEMPTS = 3
"""Of a part in a row, before the whole message waits: what was sent of it would come again."""


class PeopleWorker(TargetWorker):
    """The worker of a target for people."""

    def __init__(self, name: str, target: Target, shared: Shared, sender: PeopleSender) -> None:
        super().__init__(name, target, shared)
        self._sender = sender
        self.renderer = Renderer(shared.config, self.routing, shared.file)
        self._quiet = QuietHours(shared.notify.quiet, shared.config.event.time_zone)
        charted = target.chart is not False and sender.takes_charts and not shared.dry_run
        self._charts = Charts(shared.config) if charted else None
        self._backoff, self._failing_since = Backoff(1.0), 0.0
        self.open()

    def open(self) -> None:
        super().open()
        self._outbox, self._retry_at = Outbox(self.shared.notify, self._quiet), 0.0
        self._alerts: dict[Place, AlertMessage] = {}

    def on_caught_up(self, *, new_group: bool) -> None:
        super().on_caught_up(new_group=new_group)
        now, every = time.time(), self.shared.notify.repeat
        mine = [episode for episode in self.episodes if episode.announced]
        for episode in mine:
            if every is not None:
                episode.sent_at += max(now - episode.sent_at, 0.0) // every * every
        if new_group and not self.shared.dry_run:
            self._outbox.greet(mine, now)

    def on_alert(self, alert: AlertMessage, episode: Episode, news: News) -> None:
        if self._outbox.add(episode, news, alert.place, time.time()):
            self._alerts[alert.place] = alert
        else:
            self.settle([alert.place], sent=False)

    def on_history(self, alert: AlertMessage, episode: Episode, news: News) -> None:
        if not episode.needs_nothing:
            super().on_history(alert, episode, news)

    def on_redriven(self, alert: AlertMessage, episode: Episode | None) -> None:
        self._alerts[alert.place] = alert
        self._outbox.add_again(episode or passed(alert), alert.place, time.time(), over=episode is None)

    def on_orphan(self, episode: Episode) -> None:
        super().on_orphan(episode)
        self._outbox.forget_repeat(episode)

    def on_acknowledged(self, episode: Episode) -> None:
        super().on_acknowledged(episode)
        self._outbox.forget_repeat(episode)

    def tick(self, now: float) -> None:
        self._outbox.tick(self.episodes, now)
        if now >= self._retry_at and (batch := self._outbox.take(now)) is not None:
            self._deliver(batch, now)
        self._settle_done()
        self.shared.metrics.held_back.labels(self.name).set(self._outbox.held_back(now))

    def send_heartbeat(self, now: float, predictions: int | None) -> bool:
        text = self.renderer.heartbeat(self.watched, predictions)
        if not self._quiet.contains(now) or predictions == 0:
            try:
                self._send(text, urgent=predictions == 0)
            except SendError as error:
                LOG.warning("heartbeat_not_sent", target=self.name, error=str(error))
                return False
        return True

    def send_test(self) -> None:
        self._sender.send(self.renderer.test(), urgent=False)

    def _settle_done(self) -> None:
        done = self._outbox.pop_done()
        for place in done:
            self._alerts.pop(place, None)
        self.settle(done)

    def _deliver(self, batch: Batch, now: float) -> None:
        """Send a batch; if that fails, it is taken again later, with what has come meanwhile."""
        urgent = any(e.episode.critical and e.what in ("started", "escalated", "open") for e in batch.entries)
        texts = parts(self.renderer.batch(batch, self.watched), self._sender.max_length)
        try:
            for i, text in enumerate(texts):
                self._send(text, urgent=urgent, charts=self._drawn(batch) if i == 0 else ())
        except SendError as error:
            self._retry_at = now + self._backoff.next()
            self._failing_since = self._failing_since or now
            LOG.warning("message_not_sent", target=self.name, alerts=len(batch.entries), error=str(error))
            if now - self._failing_since >= base.GIVE_UP:
                self._give_up(batch.entries, str(error))
            return
        self._backoff.reset()
        self._failing_since = 0.0
        self._outbox.sent(batch, time.time(), len(texts))

    def _drawn(self, batch: Batch) -> list[Chart]:
        """Return the charts of the alerts that the message has in detail."""
        news = [entry for entry in batch.entries if entry.what in ("started", "escalated")]
        return [] if self._charts is None else self._charts.of(each.episode for each in ranked(news)[:MAX_DETAILED])

    def _give_up(self, entries: list[Entry], reason: str) -> None:
        """Write dead letters of what has waited for too long."""
        for entry in entries:
            for place in entry.places:
                self.refuse(self._alerts.pop(place), Fault.UNDELIVERABLE, reason)
            entry.places.clear()
        self._outbox.drop(entries)

    def _send(self, text: Text, *, urgent: bool, charts: Sequence[Chart] = ()) -> None:
        """Send one message, with a few attempts; those after the first one without pictures, which may be the cause.

        What some recipients have counts as sent: they would get it again for as long as another one is refused.

        Raises:
            SendError: all failed.
        """
        for attempt in range(ATTEMPTS):
            try:
                self._sender.send(text, urgent=urgent, charts=() if attempt else charts, again=attempt > 0)
            except SendError as error:
                self.shared.metrics.on_failure(self.name)
                if attempt < ATTEMPTS - 1 and not self.shared.stopping.wait(self._backoff.next()):
                    continue
                if not isinstance(error, PartlySentError):
                    raise
                LOG.error("message_not_sent_to_all", target=self.name, error=str(error))
            self.shared.metrics.on_taken(self.name)
            return
