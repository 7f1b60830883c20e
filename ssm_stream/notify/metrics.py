"""Metrics and health of `ssm-stream notify`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

DELAYS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200)
FAILING_AFTER = 300.0
"""Seconds of failed attempts from which on a target counts as failing."""


class NotifyMetrics:
    """The metrics of one process. Labels are the names of targets."""

    def __init__(self, targets: Iterable[str]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"ssm_stream_notify_{name}", text, ["target", *more], registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"ssm_stream_notify_{name}", text, ["target"], registry=registry)

        self.alerts = counter("alerts", "Alert messages that are settled.", "outcome")
        self.messages = counter("messages", "Messages that the target has taken.")
        self.failures = counter("failures", "Attempts that failed.")
        self.waiting = gauge("waiting_alerts", "Alert messages that are read and not settled.")
        self.open = gauge("episodes_open", "Open episodes that the target is for.")
        self.failing = gauge("failing_since_seconds", "How long all attempts have failed; 0: the last one did not.")
        self.held_back = gauge(
            "held_back_seconds", "How long notify.per_hour has held back what is to be sent; 0: not."
        )
        self.heartbeat = gauge(
            "heartbeat_late_seconds", "Since a heartbeat was due that the target has not taken; 0: none."
        )
        self.delay = Histogram(
            "ssm_stream_notify_delay_seconds", "From an alert's timestamp on the topic until the target had it.",
            ["target"], buckets=DELAYS, registry=registry,
        )  # fmt: skip
        build = Gauge("ssm_stream_notify_build_info", "The release, always 1.", ["version"], registry=registry)
        build.labels(version("ssm-stream")).set(1)
        self._lock = threading.Lock()
        self._failing_since: dict[str, float] = {}
        self._heartbeat_due: dict[str, float] = {}
        self._reading: dict[str, bool] = {}
        for target in targets:
            self._reading[target] = False
            for outcome in ("delivered", "dead_letter"):
                self.alerts.labels(target, outcome)
            for each in (self.messages, self.failures, self.waiting, self.open, self.delay, self.held_back):
                each.labels(target)
            self.heartbeat.labels(target).set_function(lambda target=target: self.heartbeat_late(target))  # type: ignore[misc]
            self.failing.labels(target).set_function(lambda target=target: self.failing_for(target))  # type: ignore[misc]

    def on_taken(self, target: str) -> None:
        """Count a message that the target has taken."""
        self.messages.labels(target).inc()
        with self._lock:
            self._failing_since.pop(target, None)

    def on_failure(self, target: str) -> None:
        """Count an attempt that failed."""
        self.failures.labels(target).inc()
        with self._lock:
            self._failing_since.setdefault(target, time.monotonic())

    def on_settled(self, target: str, timestamps: Iterable[float]) -> None:
        """Count alerts that the target has. timestamps: of their messages, s"""
        now = time.time()
        for at in timestamps:
            self.alerts.labels(target, "delivered").inc()
            self.delay.labels(target).observe(max(now - at, 0.0))

    def failing_for(self, target: str) -> float:
        """Return for how many seconds all attempts have failed."""
        with self._lock:
            since = self._failing_since.get(target)
        return 0.0 if since is None else time.monotonic() - since

    def on_heartbeat(self, target: str, *, taken: bool) -> None:
        """Note a heartbeat that was due. taken: the target has it, or is to have none now"""
        with self._lock:
            if taken:
                self._heartbeat_due.pop(target, None)
            else:
                self._heartbeat_due.setdefault(target, time.monotonic())

    def heartbeat_late(self, target: str) -> float:
        """Return the seconds since a heartbeat was due that the target has not taken."""
        with self._lock:
            due = self._heartbeat_due.get(target)
        return 0.0 if due is None else time.monotonic() - due

    def set_reading(self, target: str, reading: bool) -> None:
        """Note whether the topic is read for a target."""
        self._reading[target] = reading

    def checks(self) -> dict[str, bool]:
        """Return the checks of `/readyz` by name."""
        return {
            "topic_read": all(self._reading.values()),
            "targets_accept": all(self.failing_for(target) < FAILING_AFTER for target in self._reading),
        }

    @property
    def ready(self) -> bool:
        """Whether all checks are true."""
        return all(self.checks().values())

    def as_json(self) -> dict[str, Any]:
        """Return the body of `/readyz`."""
        checks = self.checks()
        failing = [target for target in self._reading if self.failing_for(target) >= FAILING_AFTER]
        return {"ready": all(checks.values()), "checks": checks, "failing": failing}
