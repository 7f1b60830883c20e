"""Keeps the open alerts at Prometheus' Alertmanager, which forgets what is not repeated."""

from __future__ import annotations

import time

import structlog

from ssm_stream.config.sections.notify import Target
from ssm_stream.ingest.faults import Fault
from ssm_stream.notify.alerts import AlertMessage, Episode, News, passed
from ssm_stream.notify.rendering import Links
from ssm_stream.notify.senders import alertmanager, http
from ssm_stream.notify.senders.alertmanager import KEEP_RESOLVED, REPEAT_EVERY, Firing, Labels
from ssm_stream.notify.senders.backoff import Backoff
from ssm_stream.notify.senders.http import RefusedError, SendError
from ssm_stream.notify.workers.base import Shared, TargetWorker
from ssm_stream.notify.workers.webhook import Post

LOG = structlog.get_logger("ssm_stream.notify")
BATCH = 500
"""Alerts of a request."""


class AlertmanagerWorker(TargetWorker):
    """The worker of an Alertmanager."""

    def __init__(self, name: str, target: Target, shared: Shared, post: Post = http.post) -> None:
        super().__init__(name, target, shared)
        assert target.alertmanager is not None
        base = target.alertmanager.rstrip("/")
        self._url = base if base.endswith("/api/v2/alerts") else f"{base}/api/v2/alerts"
        self._links, self._post = Links(shared.config, shared.file), post
        self._backoff = Backoff(0.5)
        self.open()

    def open(self) -> None:
        super().open()
        self._firing: dict[Labels, Firing] = {}
        self._of_episode: dict[str, Labels] = {}
        self._changed: dict[Labels, None] = {}
        self._behind: dict[Labels, list[AlertMessage]] = {}
        """The messages that an alert's present state comes from, until Alertmanager has it."""
        self._retry_at = self._repeat_at = 0.0

    def on_history(self, alert: AlertMessage, episode: Episode, news: News) -> None:
        super().on_history(alert, episode, news)
        self._firing[self._update(episode, news, alert.at)].known = True

    def on_alert(self, alert: AlertMessage, episode: Episode, news: News) -> None:
        episode.announced = True
        labels = self._update(episode, news, time.time())
        self._behind.setdefault(labels, []).append(alert)

    def on_redriven(self, alert: AlertMessage, episode: Episode | None) -> None:
        if episode is not None:
            labels = self._update(episode, "ongoing", time.time())
        else:
            labels = self._update(passed(alert), "recovered", time.time())
        self._behind.setdefault(labels, []).append(alert)

    def on_orphan(self, episode: Episode) -> None:
        super().on_orphan(episode)
        self._end(episode.id, time.time())

    def on_acknowledged(self, episode: Episode) -> None:
        super().on_acknowledged(episode)
        if episode.id in self._of_episode:
            self._update(episode, "ongoing", time.time())

    def _update(self, episode: Episode, news: News, now: float) -> Labels:
        """Bring the alert of an episode up to date; return its labels."""
        if news == "recovered":
            labels = self._of_episode.get(episode.id)
            if labels is None:
                found = self._make(episode)
                labels = found.labels
                self._firing.setdefault(labels, found)
                self._of_episode[episode.id] = labels
            summary = str(episode.last["summary"])
            self._firing[labels].annotations["summary"] = summary[: alertmanager.MAX_TEXT]
            self._end(episode.id, now)
            return labels
        found = self._make(episode)
        before = self._of_episode.get(episode.id)
        if before is not None and before != found.labels:  # another severity or target is another alert
            self._replace(before, found.labels, episode.id, now)
        former = self._firing.get(found.labels)
        found.known = former is not None and former.fires(now) and former.known
        self._firing[found.labels] = found
        self._of_episode[episode.id] = found.labels
        self._changed[found.labels] = None
        return found.labels

    def _replace(self, before: Labels, labels: Labels, episode: str, now: float) -> None:
        """End the alert of an episode that is another one now; forget it if Alertmanager never had it."""
        known = self._firing[before].known
        self._end(episode, now)
        if not known and before not in self._of_episode.values():
            del self._firing[before]
            self._changed.pop(before, None)
            self._behind.setdefault(labels, []).extend(self._behind.pop(before, []))

    def _make(self, episode: Episode) -> Firing:
        source = self.shared.config.source.topic
        return alertmanager.firing(episode, self.routing.team(episode), source, self._links)

    def _end(self, episode: str, now: float) -> None:
        """End the alert of an episode, unless another episode has the same one."""
        labels = self._of_episode.pop(episode, None)
        if labels is not None and labels not in self._of_episode.values():
            self._firing[labels].ends = now
            self._changed[labels] = None

    def tick(self, now: float) -> None:
        if now < self._retry_at:
            return
        if now >= self._repeat_at:
            self._repeat_at = now + REPEAT_EVERY
            for labels, found in list(self._firing.items()):
                if found.ends is not None and now - found.ends > KEEP_RESOLVED and labels not in self._behind:
                    del self._firing[labels]
                    self._changed.pop(labels, None)
            self._changed |= dict.fromkeys(self._firing)
        while self._changed and not self.shared.stopping.is_set():
            some = list(self._changed)[:BATCH]
            for labels in some:
                self._firing[labels].prolong(now)
            try:
                self._send([self._firing[labels] for labels in some], now)
            except RefusedError as error:
                self._on_refusal(some, now, error)
            except SendError as error:
                self._retry_at = now + self._backoff.next(error.retry_after)
                LOG.warning("alertmanager_failed", target=self.name, alerts=len(self._changed), error=str(error))
                return
            else:
                self._backoff.reset()
                self._done(some, now)

    def send_test(self) -> None:
        self._send([alertmanager.test(self.shared.config.source.topic, time.time())], time.time())

    def send_heartbeat(self, now: float, predictions: int | None) -> bool:
        every = self.shared.notify.heartbeat or 0.0
        if predictions == 0:
            LOG.warning("no_predictions", target=self.name, since_s=every)
            return True
        found = alertmanager.heartbeat(self.shared.config.source.topic, self.watched, now)
        try:
            self._send([found], now, 2 * every)
        except (SendError, RefusedError) as error:
            LOG.warning("heartbeat_not_sent", target=self.name, error=str(error))
            return False
        return True

    def _send(self, alerts: list[Firing], now: float, forget_after: float = alertmanager.FORGET_AFTER) -> None:
        """Send alerts in one request.

        Raises:
            SendError: it failed, and may work later.
            RefusedError: Alertmanager refuses the content.
        """
        headers = {"Content-Type": "application/json"}
        if self.target.authorization is not None:
            headers["Authorization"] = self.target.authorization.get_secret_value()
        body = alertmanager.encode(each.as_json(now, forget_after) for each in alerts)
        try:
            self._post(self._url, body, headers)
        except (SendError, RefusedError):
            self.shared.metrics.on_failure(self.name)
            raise
        self.shared.metrics.on_taken(self.name)

    def _done(self, some: list[Labels], now: float) -> None:
        for labels in some:
            self._firing[labels].known |= self._firing[labels].fires(now)
            self._changed.pop(labels, None)
            self.settle(alert.place for alert in self._behind.pop(labels, []))

    def _on_refusal(self, some: list[Labels], now: float, error: RefusedError) -> None:
        """Send the alerts of a refused request one by one; one that is refused alone is given up."""
        for labels in some:
            reason = error
            if len(some) > 1:
                try:
                    self._send([self._firing[labels]], now)
                except RefusedError as own:
                    reason = own
                except SendError:
                    return
                else:
                    self._done([labels], now)
                    continue
            self._changed.pop(labels, None)
            self._firing.pop(labels, None)
            self._of_episode = {name: each for name, each in self._of_episode.items() if each != labels}
            for alert in self._behind.pop(labels, []):
                self.refuse(alert, Fault.UNDELIVERABLE, str(reason))
