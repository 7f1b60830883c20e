"""Sends to a system: each alert is a CloudEvent in a POST, several at a time, those of an episode in their order."""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson
import structlog

from ssm_stream.config.sections.notify import Target
from ssm_stream.ingest.faults import Fault
from ssm_stream.kafka.records import headers_of
from ssm_stream.notify.alerts import AlertMessage, Episode, News, passed
from ssm_stream.notify.charts.charts import Charts
from ssm_stream.notify.senders import http
from ssm_stream.notify.senders.backoff import Backoff
from ssm_stream.notify.senders.http import RefusedError, SendError
from ssm_stream.notify.workers import base
from ssm_stream.notify.workers.base import Shared, TargetWorker
from ssm_stream.notify.workers.lanes import Job, Lanes

LOG = structlog.get_logger("ssm_stream.notify")
LANES = 16
"""Requests at a time."""


class Post(Protocol):
    """Sends a POST request: as `http.post`."""

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> None: ...


class WebhookWorker(TargetWorker):
    """The worker of a webhook."""

    def __init__(self, name: str, target: Target, shared: Shared, post: Post = http.post) -> None:
        super().__init__(name, target, shared)
        assert target.webhook is not None
        self._url, self._post = target.webhook.get_secret_value(), post
        self._lanes: Lanes | None = None
        self._charts = Charts(shared.config) if target.chart and not shared.dry_run else None

    def open(self) -> None:
        super().open()
        self._lanes = Lanes(f"notify {self.name}", LANES)

    def close(self) -> None:
        super().close()
        if self._lanes is not None:
            self._lanes.close()
            self._lanes = None

    def on_alert(self, alert: AlertMessage, episode: Episode, news: News) -> None:
        assert self._lanes is not None
        episode.announced = True
        team = self.routing.team(episode)
        body = self._with_chart if news in ("started", "escalated") and self._charts is not None else self._plain
        self._lanes.submit(episode.id, self._delivery(alert, team, body(alert, episode)))

    def _plain(self, alert: AlertMessage, _: Episode) -> Callable[[], bytes]:
        return lambda: alert.value

    def _with_chart(self, alert: AlertMessage, episode: Episode) -> Callable[[], bytes]:
        """Return what makes the message with its picture, once, when it is sent."""

        @functools.cache
        def make() -> bytes:
            assert self._charts is not None
            found = self._charts.of([episode], wait=False)
            if not found:
                return alert.value
            picture = f"data:image/png;base64,{base64.b64encode(found[0].content).decode()}"
            return orjson.dumps({**alert.content, "chart": picture})

        return make

    def on_redriven(self, alert: AlertMessage, episode: Episode | None) -> None:
        assert self._lanes is not None
        found = episode or passed(alert)
        self._lanes.submit(found.id, self._delivery(alert, self.routing.team(found), self._plain(alert, found)))

    def tick(self, now: float) -> None:
        if self._lanes is not None and self._lanes.failed is not None:
            raise self._lanes.failed

    def send_test(self) -> None:
        self._send_own("test", time.time(), {})

    def _send_own(self, kind: str, now: float, content: dict[str, Any]) -> None:
        """Send an event that is no alert."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": f"{self.group}-{kind}-{int(now)}",
            "ce-source": f"/ssm-stream/{self.shared.config.source.topic}",
            "ce-type": f"io.ssm-stream.{kind}",
            "ce-time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        self._send(orjson.dumps({"kind": kind, "ts": int(1000 * now), **content}), headers)

    def send_heartbeat(self, now: float, predictions: int | None) -> bool:
        try:
            self._send_own("heartbeat", now, {"open": self.watched, "predictions": predictions})
        except (SendError, RefusedError) as error:
            LOG.warning("heartbeat_not_sent", target=self.name, error=str(error))
            return False
        return True

    def _send(self, body: bytes, headers: dict[str, str]) -> None:
        """Send a request.

        Raises:
            SendError: it failed, and may work later.
            RefusedError: the receiver refuses the content.
        """
        if self.target.authorization is not None:
            headers = {**headers, "Authorization": self.target.authorization.get_secret_value()}
        try:
            self._post(self._url, body, {"Content-Type": "application/json", **headers})
        except (SendError, RefusedError):
            self.shared.metrics.on_failure(self.name)
            raise
        self.shared.metrics.on_taken(self.name)

    def _delivery(self, alert: AlertMessage, team: str | None, body: Callable[[], bytes]) -> Job:
        """Return the job that sends an alert until the receiver has it or refuses it."""
        headers = _cloud_event(alert, team)
        backoff, began = Backoff(), time.time()

        def attempt() -> float | None:
            try:
                self._send(body(), headers)
            except RefusedError as error:
                self.refuse(alert, Fault.UNDELIVERABLE, str(error))
            except SendError as error:
                if time.time() - began < base.GIVE_UP:
                    LOG.warning("alert_delayed", target=self.name, alert=alert.content["id"], error=str(error))
                    return backoff.next(error.retry_after)
                self.refuse(alert, Fault.UNDELIVERABLE, str(error))
            else:
                self.settle([alert.place])
            return None

        return attempt


def _cloud_event(alert: AlertMessage, team: str | None) -> dict[str, str]:
    """Return the attributes of an alert as headers of a CloudEvent over HTTP in binary mode."""
    found = {
        name.replace("_", "-", 1): value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for name, value in headers_of(alert.message)
        if name.startswith("ce_")
    }
    content = alert.content
    found.setdefault("ce-specversion", "1.0")
    found.setdefault("ce-type", f"io.ssm-stream.{content['kind']}.{content['phase']}")
    found.setdefault("ce-source", "/ssm-stream")
    found["ce-id"] = str(content["id"])
    if team is not None:
        found["ce-team"] = team
    return {name: _percent(value) for name, value in found.items()}


def _percent(value: str) -> str:
    """Return a value as the HTTP binding of CloudEvents writes it: what is not printable ASCII is percent-encoded."""
    return "".join(
        each if 0x21 <= ord(each) <= 0x7E and each not in '"%' else "".join(f"%{byte:02X}" for byte in each.encode())
        for each in value
    )
