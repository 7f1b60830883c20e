"""The live page of a process: it observes the run and keeps what browsers show."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import MAINTENANCE, SHADOW
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.rules.messages import rule_kinds
from ssm_stream.ingest.entity_filter import EntityFilter
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.timestamps import OTHER_TIME
from ssm_stream.ingest.verdicts import AlertAcknowledgement, Verdict
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import RunObserver, Sent, SentBatch
from ssm_stream.ui.alert_episodes import AlertEpisodes
from ssm_stream.ui.entity_cache import EntityCache
from ssm_stream.ui.followed_entities import FollowedEntities
from ssm_stream.ui.history.hours import HourlyHistory
from ssm_stream.ui.page_writer import PageWriter
from ssm_stream.ui.planned_stops import PlannedStops
from ssm_stream.ui.process_stats import ProcessStats
from ssm_stream.ui.views import NameOrder

MAX_ALERTS = 2_000
"""Alerts that wait to be read."""
READ_ALERTS, READ_EVERY = 100, 0.2
"""Alerts that are read at a time, and seconds between two readings without viewers."""
HISTORY_TIMEOUT = 15.0
"""Seconds for which alerts wait for those from before the start."""
FLAG_EVERY = 1.0
"""Seconds between two times at which entities that are new get the flags of alerts that came before them."""
RECENT = 60.0
"""Seconds before the last event in which the events came that set the clock of the stream."""


def is_shown(sent: Sent) -> bool:
    """Return whether the page shows a message: an alert, or one that `alerts.shadow` or a planned stop withholds."""
    return sent.what == "alert" or (sent.what == "suppressed" and sent.labels[-1] in (SHADOW, MAINTENANCE))


class LivePage(RunObserver):
    """The content of the live page.

    Args:
        config: with its features
        metrics: of the process
        feedback: writes to the feedback topic; None: no such topic
        control: writes to the control topic; None: no such topic
    """

    def __init__(
        self, config: Config, metrics: Metrics, feedback: PageWriter | None = None, control: PageWriter | None = None
    ) -> None:
        self.config, self.feedback, self.control = config, feedback, control
        self.boot = secrets.token_hex(8)
        self.cache = EntityCache(len(config.event.targets))
        self.alert_episodes = AlertEpisodes(self.cache)
        self.names = NameOrder(self.cache)
        self.stops = PlannedStops(config)
        self._limits = [(limit, EntityFilter([limit.entities])) for limit in config.alerts.limits]
        horizon = config.model.horizon
        late = config.labels is not None or bool(horizon.events or horizon.seconds)
        self.followed = FollowedEntities(self.cache, "late" if late else None)
        self.cache.on_followed = self.followed.add
        self.process_stats = ProcessStats(metrics, config.source.names)
        self.closed = threading.Event()
        self.history_read = threading.Event()
        """Set once the alerts from before the start have been read."""
        self.history = HourlyHistory() if config.sinks.summaries is not None else None
        """The hours before, of the topic of summaries; None: no such topic."""
        self.history_requested = threading.Event()
        """Set with the first request of a browser or program: the summaries are read from then on."""
        self.history_state = "loading"
        """Empty once the summaries are read; else `loading`, or why they cannot be read."""
        self._began = time.monotonic()
        self._flagged_at, self._flagged = 0.0, -1
        self._alerts: deque[bytes | None] = deque(maxlen=MAX_ALERTS)
        self._drained = 0.0
        self._draining = threading.Lock()

    # From the dataflow.

    def on_sent(self, sent: SentBatch) -> None:
        """Keep the batch and the alerts of it."""
        if sent.events is not None and sent.predicted is not None:
            self.cache.observe(sent.partition, sent.events, sent.predicted)
        if sent.records:
            self.queue_alerts(each.value for each in sent.records if each.sent and is_shown(each.sent))

    def queue_alerts(self, values: Iterable[bytes | None]) -> None:
        """Keep alert messages until they are read; read them if the last reading was a while ago."""
        self._alerts.extend(values)
        if self._alerts and time.monotonic() - self._drained > READ_EVERY:
            self.drain()

    def on_verdict(self, verdict: Verdict) -> None:
        """Show an operator's verdict at its alert."""
        self.alert_episodes.add_verdict(verdict.alert, verdict.true)

    def on_acknowledged(self, acknowledgement: AlertAcknowledgement) -> None:
        """Show at an alert who attends to it."""
        self.alert_episodes.add_acknowledgement(acknowledgement)

    def positions_to_explain(self, names: Sequence[str]) -> list[int]:
        """Return the events of a batch whose predictions are shown with their parts."""
        return self.followed.positions_to_explain(names)

    def explain(self, engine: Engine, event: Events, partition: int) -> None:
        """Explain the prediction of the engine's next event for those who follow its entity."""
        self.followed.explain(engine, event, partition)

    # For browsers.

    def drain(self) -> None:
        """Read waiting alerts, at most `READ_ALERTS`."""
        if not self.history_read.is_set() and time.monotonic() - self._began < HISTORY_TIMEOUT:
            return
        if self._draining.acquire(blocking=False):
            try:
                self._drained = time.monotonic()
                values: list[bytes | None] = []
                while self._alerts and len(values) < READ_ALERTS:
                    values.append(self._alerts.popleft())
                self.alert_episodes.add(values)
            finally:
                self._draining.release()

    def refresh(self) -> None:
        """Merge waiting batches and alerts, before a browser is sent what is new."""
        self.cache.merge()
        if self._alerts:
            self.drain()
        now = time.monotonic()
        if self._flagged != self.cache.layout and now - self._flagged_at > FLAG_EVERY:
            self._flagged, self._flagged_at = self.cache.layout, now
            self.alert_episodes.flag_again()

    def add_summaries(self, contents: Iterable[dict[str, Any]]) -> None:
        """Keep hourly summaries, and list their entities."""
        if self.history is None:
            return
        names = self.history.add(contents)
        latest = [self.history.latest[name] for name in names]
        self.cache.list_others(names, [each.last or each.hour for each in latest], [each.score for each in latest])

    def stats(self) -> dict[str, Any]:
        """Return throughput, lag and quality, at most a second old."""
        stats = self.process_stats.read()
        self.cache.lagging = (stats["lag"] or 0) > self.config.source.batch
        return {**stats, "left_out": self.cache.skipped, "freed": self.cache.evicted, "clock": self.clock()}

    def clock(self) -> int:
        """Return the time of the stream now, ms: by the wall clock, or by the last events where their time is more than
        an hour away from when they came, as in a recording."""
        now = time.time() * 1000.0
        with self.cache.lock:
            n = len(self.cache)
            seen, ts = self.cache.seen[:n], self.cache.ts[:n]
            recent = seen > seen.max() - RECENT if n else np.zeros(0, np.bool_)
            if not recent.any():
                return round(now)
            came = now - 1000.0 * (time.monotonic() - float(np.median(seen[recent])))
            away = float(np.median(ts[recent])) - came
        return round(now + away if abs(away) > OTHER_TIME else now)

    def limits_of(self, entity: str) -> list[dict[str, Any]]:
        """Return the fixed limits that hold for an entity."""
        return [
            {"column": limit.column, "text": limit.text, "severity": limit.severity, "bounds": limit.bounds}
            for limit, own in self._limits
            if own.matches(entity)
        ]

    def set_viewers(self, viewers: int) -> None:
        """Set the number of connected browsers."""
        self.cache.has_viewers = viewers > 0
        if viewers > 0:
            self.history_requested.set()
        # Lag is only read for viewers: without them it would keep its last value.
        self.cache.lagging = self.cache.lagging and viewers > 0

    def info(self) -> dict[str, Any]:
        """Return what does not change while the process lives."""
        config = self.config
        horizon = config.model.horizon
        return {
            "boot": self.boot,
            "release": version("ssm-stream"),
            "topic": ", ".join(config.source.names),
            "config_hash": config.hash,
            "targets": config.event.targets,
            "time_zone": config.event.time_zone,
            "level": config.model.interval,
            "horizon": horizon.text if horizon.events or horizon.seconds else None,
            "ahead": round(horizon.seconds * 1000),
            "late": config.labels is not None,
            "warmup": config.model.warmup,
            "no_alerts": (config.sinks.suppressed if config.alerts.shadow else config.sinks.alerts) is None,
            "shadow": config.alerts.shadow,
            "no_feedback": None if self.feedback is not None else "no topic",
            "no_control": None if self.control is not None else "no topic",
            "rules": rule_kinds(config),
            "no_looks": self.followed.unavailable,
            "no_history": self.history is None,
            "most": self.cache.capacity,
        }

    def close(self) -> None:
        """End the streams."""
        self.closed.set()
