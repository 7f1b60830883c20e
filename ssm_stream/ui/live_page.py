"""The live page of a process: it observes the run and keeps what browsers show."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any

import orjson
import structlog

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.verdicts import Verdict
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import RunObserver, SentBatch
from ssm_stream.ui.alert_episodes import AlertEpisodes
from ssm_stream.ui.entity_cache import EntityCache
from ssm_stream.ui.followed_entities import FollowedEntities
from ssm_stream.ui.process_stats import ProcessStats
from ssm_stream.ui.views import NameOrder

LOG = structlog.get_logger("ssm_stream.ui")
WAITING = 2_000
"""Alerts that wait to be read."""
AT_ONCE, DRAIN_EVERY = 100, 0.2
"""Of these so many are read at a time, and how often, s, while nobody looks."""
PATIENCE = 15.0
"""Seconds for which alerts wait for those of before the start."""


class LivePage(RunObserver):
    """All that is shown of a process.

    Args:
        config: with its features
        metrics: of the process
        publish: sends a verdict (alert's id, whether it was true) to the feedback topic; None: there is none
    """

    def __init__(self, config: Config, metrics: Metrics, publish: Callable[[str, bool], None] | None = None) -> None:
        self.config, self.publish = config, publish
        self.boot = secrets.token_hex(8)
        self.cache = EntityCache(len(config.event.targets))
        self.alert_episodes = AlertEpisodes(self.cache)
        self.names = NameOrder(self.cache)
        horizon = config.model.horizon
        late = config.labels is not None or bool(horizon.events or horizon.seconds)
        self.followed = FollowedEntities(self.cache, "late" if late else None)
        self.cache.listen = self.followed.take
        self.process_stats = ProcessStats(metrics, config.source.topic)
        self.closed = threading.Event()
        self.history_read = threading.Event()
        """The alerts of before the start have been taken."""
        self._began = time.monotonic()
        self._alerts: deque[bytes | None] = deque(maxlen=WAITING)
        self._drained = 0.0
        self._draining = threading.Lock()
        self._warming: threading.Thread | None = None
        self._compiler: subprocess.Popen[bytes] | None = None

    # From the dataflow.

    def on_sent(self, sent: SentBatch) -> None:
        """Keep the batch and the alerts of it."""
        if sent.events is not None and sent.predicted is not None:
            self.cache.observe(sent.partition, sent.events, sent.predicted)
        if sent.records:
            self.queue_alerts(each.value for each in sent.records if each.sent and each.sent.what == "alert")

    def queue_alerts(self, values: Iterable[bytes | None]) -> None:
        """Keep alert messages until they are read; read them if the last reading was a while ago."""
        self._alerts.extend(values)
        if self._alerts and time.monotonic() - self._drained > DRAIN_EVERY:
            self.drain()

    def on_verdict(self, verdict: Verdict) -> None:
        """Show an operator's verdict at its alert."""
        self.alert_episodes.add_verdict(verdict.alert, verdict.true)

    def positions_to_explain(self, names: Sequence[str]) -> list[int]:
        """Return the events of a batch whose predictions are shown with their parts."""
        return self.followed.positions_to_explain(names)

    def explain(self, engine: Engine, event: Events, partition: int) -> None:
        """Explain the prediction of the engine's next event for those who follow its entity."""
        self.followed.explain(engine, event, partition)

    # For the browsers.

    def drain(self, most: int = AT_ONCE) -> None:
        """Read alerts that wait."""
        if not self.history_read.is_set() and time.monotonic() - self._began < PATIENCE:
            return
        if self._draining.acquire(blocking=False):
            try:
                self._drained = time.monotonic()
                values: list[bytes | None] = []
                while self._alerts and len(values) < most:
                    values.append(self._alerts.popleft())
                self.alert_episodes.add(values)
            finally:
                self._draining.release()

    def settle(self) -> None:
        """Before somebody looks: take in what waits."""
        self.cache.settle()
        if self._alerts:
            self.drain()
        # Not before the first predictions: until then the dataflow may be compiling itself.
        if self._warming is None and self.followed.began and self.cache.taken and self.followed.unable is None:
            with self._draining:
                if self._warming is None:
                    self._warming = threading.Thread(target=self._warm, name="ui-warm", daemon=True)
                    self._warming.start()

    def reading(self) -> dict[str, Any]:
        """How the process does, of the last second."""
        told = self.process_stats.read()
        self.cache.pressed = (told["lag"] or 0) > self.config.source.batch
        return {**told, "left_out": self.cache.left_out, "freed": self.cache.freed}

    def watch(self, viewers: int) -> None:
        """So many browsers look now."""
        self.cache.watched = viewers > 0
        # Lag is read for those who look: without them it would stay as it was.
        self.cache.pressed = self.cache.pressed and viewers > 0

    def _warm(self) -> None:
        """The kernels that take predictions apart, compiled by a process of low priority: here they would hold up the
        dataflow for a minute."""
        content: dict[str, Any] = self.config.model_dump(
            mode="json", include={"event", "model", "state", "labels", "alerts"}
        )
        content["source"] = {"brokers": "none", "topic": self.config.source.topic}
        self._compiler = subprocess.Popen(
            [sys.executable, "-m", "ssm_stream.ui.compile_explain"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        said = self._compiler.communicate(orjson.dumps(content))[1].decode(errors="replace")
        if self.closed.is_set():
            return
        if self._compiler.returncode:
            LOG.warning("looks_not_ready", error=said.strip().rpartition("\n")[2] or "the compiler ended")
            self.followed.unable = "failed"
            return
        from ssm_stream.ui.compile_explain import compile_explain

        compile_explain(self.config)
        self.followed.ready = True

    def hello(self) -> dict[str, Any]:
        """What does not change while the process lives."""
        config = self.config
        horizon = config.model.horizon
        feedback = None if self.publish is not None else "no topic"
        return {
            "boot": self.boot,
            "release": version("ssm-stream"),
            "topic": config.source.topic,
            "config_hash": config.hash,
            "targets": config.event.targets,
            "time_zone": config.event.time_zone,
            "level": config.model.interval,
            "horizon": horizon.text if horizon.events or horizon.seconds else None,
            "ahead": round(horizon.seconds * 1000),
            "late": config.labels is not None,
            "warmup": config.model.warmup,
            "no_alerts": config.sinks.alerts is None,
            "no_feedback": feedback,
            "no_looks": self.followed.unable,
            "most": self.cache.most,
        }

    def close(self) -> None:
        """End the connections."""
        self.closed.set()
        if self._compiler is not None and self._compiler.poll() is None:
            self._compiler.terminate()
