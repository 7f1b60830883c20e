"""Supervises a running process: the HTTP server, the progress line in the log, the self-check."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import SHADOW
from ssm_stream.ops.bytewax_metrics import BytewaxMetrics, free_port
from ssm_stream.ops.health import Health
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import MountedSite, PartitionPosition
from ssm_stream.ops.self_check import check_core
from ssm_stream.ops.server import OpsServer, serve

LOG = structlog.get_logger("ssm_stream")
BYTEWAX_API = "BYTEWAX_DATAFLOW_API_ENABLED"
"""Environment variable that switches Bytewax's own server on."""
PROGRESS_EVERY = 60.0
"""Seconds between log lines that report the progress."""
TICK = 0.5
"""Seconds between checks."""
CHECK_AFTER = 3.0
"""Seconds of processing after which the self-check begins, so that it does not delay the start."""


class Supervisor:
    """Serves metrics and health, logs progress and runs the self-check while the dataflow runs.

    Raises:
        ConfigError: the server cannot listen on `ops.address`.
    """

    bytewax_port = ""
    """Port that the last supervisor of this process chose for Bytewax: the next one chooses another."""

    def __init__(
        self, config: Config, metrics: Metrics, health: Health, site: MountedSite | None = None, process: int = 0
    ) -> None:
        self._config, self._metrics, self._health = config, metrics, health
        self._done = threading.Event()
        self._places: list[PartitionPosition] = []
        self._entities = 0
        self._cache: tempfile.TemporaryDirectory[str] | None = None
        metrics.ready = lambda: health.ready
        self._server: OpsServer | None = serve(config, metrics, health, site, process)
        if BYTEWAX_API in os.environ and self._server is not None:
            self._serve_bytewax_metrics()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def _serve_bytewax_metrics(self) -> None:
        """Have Bytewax serve its metrics on a free port, unless its variable names one, and collect them there."""
        if os.environ.get("BYTEWAX_DATAFLOW_API_PORT", "") == self.bytewax_port:
            Supervisor.bytewax_port = os.environ["BYTEWAX_DATAFLOW_API_PORT"] = str(free_port())
        port = int(os.environ["BYTEWAX_DATAFLOW_API_PORT"])
        self._cache = tempfile.TemporaryDirectory(prefix="ssm-stream-")
        os.environ["BYTEWAX_DATAFLOW_API_CACHE_PATH"] = str(Path(self._cache.name))
        self._metrics.registry.register(BytewaxMetrics(port))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._server is not None:
            self._server.close()
        if self._cache is not None:
            self._cache.cleanup()

    def _run(self) -> None:
        before, ready, worked = self._counts(), False, 0.0
        due = self._server is not None
        began = last_line = time.monotonic()
        while not self._done.wait(TICK):
            now = time.monotonic()
            self._update_positions()
            if not ready and self._health.ready:
                ready = True
                LOG.info("ready", after_s=round(now - began, 1), positions=self._positions())
            if due and not worked and self._metrics.value("ssm_stream_predictions_total"):
                worked = now
            if due and worked and now - worked >= CHECK_AFTER:
                due, self._metrics.verify_deviation = False, check_core()
            if now - last_line >= PROGRESS_EVERY:
                counts = self._counts()
                self._log_progress(counts, before, now - last_line)
                before, last_line = counts, now
        self._update_positions()
        if self._config.source.assignment == "manual":  # of a group others have the partitions now, and their entities
            self._take_last_seen()
        self._log_progress(self._counts(), before, time.monotonic() - last_line)

    def _counts(self) -> dict[str, float]:
        total = self._metrics.total
        counts = {
            "events": total("ssm_stream_events_total"),
            "predictions": total("ssm_stream_predictions_total"),
            "alerts": total("ssm_stream_alerts_total"),
            "dead_letters": total("ssm_stream_dead_letters_total"),
        }
        if self._config.event.only:
            counts["passed_by"] = total("ssm_stream_events_passed_by_total")
        if self._config.alerts.shadow:
            counts["alerts_in_shadow"] = total("ssm_stream_alerts_suppressed_total", by=SHADOW)
        return counts

    def _update_positions(self) -> None:
        """Note where each partition is read, and how many entities there are, while there are readers."""
        if places := sorted(place for reader in self._metrics.readers for place in reader.positions()):
            self._places = places
            self._entities = sum(len(shard.engine) for shard in self._metrics.shards)

    def _take_last_seen(self) -> None:
        """Note where each partition was left, and the entities: at the stop readers and shards are gone."""
        last = self._metrics.last_seen
        places = {(place.topic, place.partition): place for place in self._places}
        self._places = sorted({**places, **last.positions}.values())
        self._entities = sum(last.entities.values())

    def _positions(self) -> dict[str, int]:
        """Return `topic-partition` → next offset; at the stop, as they were last seen."""
        return {f"{place.topic}-{place.partition}": place.next for place in self._places}

    def _log_progress(self, counts: dict[str, float], before: dict[str, float], seconds: float) -> None:
        """Log the counts since the line before."""
        since: dict[str, Any] = {name: int(count - before[name]) for name, count in counts.items()}
        lags = [place.lag for place in self._places]
        LOG.info(
            "progress",
            **since,
            events_per_s=round(since["events"] / seconds, 1),
            lag=sum(lag for lag in lags if lag is not None),
            entities=self._entities,
            positions=self._positions(),
        )
