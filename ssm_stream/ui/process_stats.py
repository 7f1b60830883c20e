"""Throughput, lag and quality of the process, read from its metrics once a second while a browser is connected."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Collection
from typing import Any

from ssm_stream.engine.alert_kinds import KINDS, SHADOW
from ssm_stream.engine.entity_report import episode_figures
from ssm_stream.ops.metrics import Metrics

EVERY = 1.0
"""Seconds between two readings."""
KEPT = 180
"""Rates that are kept."""
MAX_GAP = 5.0
"""Seconds between two readings beyond which no rate is computed: it would average over a time without viewers."""
COUNTED = {
    "ssm_stream_events_total": "events",
    "ssm_stream_predictions_total": "predictions",
    "ssm_stream_alerts_total": "alerts",
    "ssm_stream_alerts_suppressed_total": "alerts",
    "ssm_stream_dead_letters_total": "dead_letters",
    "ssm_stream_labelled_events_total": "labelled",
}


class ProcessStats:
    """Reads the statistics of a process."""

    def __init__(self, metrics: Metrics, topics: Collection[str]) -> None:
        self._metrics, self._topics = metrics, topics
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._read: tuple[float, float] | None = None
        self._last: dict[str, Any] = {}
        self._rates: deque[tuple[int, float, int | None]] = deque(maxlen=KEPT)
        self.number = 0

    def read(self) -> dict[str, Any]:
        """Return the latest statistics, read again if they are a second old."""
        now = time.monotonic()
        with self._lock:
            if self._read is None or now - self._read[0] >= EVERY:
                self._last = self._collect(now)
                self.number += 1
            return self._last

    def rates(self) -> list[tuple[int, float, int | None]]:
        """Return recent (ms since 1970, events/s, lag)."""
        with self._lock:
            return list(self._rates)

    def _collect(self, now: float) -> dict[str, Any]:
        metrics = self._metrics
        counts = dict.fromkeys(COUNTED.values(), 0.0)
        events, started = 0.0, dict.fromkeys(KINDS, 0)
        for family in metrics.registry.collect():
            name = COUNTED.get(f"{family.name}_total")
            if name is None:
                continue
            for sample in family.samples:
                # What the shadow withholds counts as an alert, what a fleet alert replaces does not.
                if sample.name in COUNTED and sample.labels.get("by", SHADOW) == SHADOW:
                    counts[name] += sample.value
                    of_entity = sample.labels.get("scope", "entity") == "entity"
                    if name == "alerts" and sample.labels["phase"] == "started" and of_entity:
                        kind = sample.labels["kind"]
                        started[kind] = started.get(kind, 0) + int(sample.value)
                    # Labels and feedback are counted too, under their topics.
                    events += sample.value if name == "events" and sample.labels.get("topic") in self._topics else 0.0
        rate = None
        if self._read is not None and now - self._read[0] < MAX_GAP:
            rate = (events - self._read[1]) / (now - self._read[0])
        self._read = (now, events)
        places = [place for reader in metrics.readers for place in reader.positions()]
        lags = [place.lag for place in places if place.lag is not None]
        lag = sum(lags) if lags else None
        at = round(time.time() * 1000)
        if rate is not None:
            self._rates.append((at, round(rate, 1), lag))
        quality = [
            {"target": target, **{name: None if math.isnan(v) else v for name, v in each.read()._asdict().items()}}
            for target, each in metrics.quality.items()
        ]
        return {
            "at": at,
            "up": round(now - self._began, 1),
            "rate": rate,
            "lag": lag,
            "entities": sum(len(shard.engine) for shard in metrics.shards),
            "ready": bool(metrics.ready()),
            "quality": quality,
            "episodes": self._episodes(counts["labelled"], started),
            "places": [[place.topic, place.partition, place.next, place.lag] for place in sorted(places)][:64],
            **{name: int(count) for name, count in counts.items()},
        }

    def _episodes(self, labelled: float, started: dict[str, int]) -> list[dict[str, Any]]:
        """Return by kind the alerts of entities that started, the share of the labelled events inside their episodes
        (None without events), and the labelled events of the longest one, since the process has started."""
        out = []
        for kind in KINDS:
            found = [episode_figures(shard.engine, kind) for shard in self._metrics.shards]
            inside = sum(figures.events for figures in found)
            out.append(
                {
                    "kind": kind,
                    "started": started.get(kind, 0),
                    "share": min(inside / labelled, 1.0) if labelled else None,
                    "longest": max((figures.longest for figures in found), default=0),
                }
            )
        return out
