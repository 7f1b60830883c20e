"""Prometheus metrics of one process.

`Metrics` observes the run and adds to its counters once a batch, never once an event. What is a state rather than a
count (lag, entities, open episodes) is read from readers and shards at each scrape. Entities are never labels: the
values of labels come from the configuration or from a list in the code.
"""

from __future__ import annotations

import math
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import KINDS, PHASES, SCOPES, SUPPRESSED_BY
from ssm_stream.engine.entity_report import episode_figures
from ssm_stream.engine.rules.messages import alert_kinds
from ssm_stream.ingest.planned_stops import withhold_targets
from ssm_stream.ingest.verdicts import Verdict
from ssm_stream.ops.last_seen import LastSeen
from ssm_stream.ops.observers import ChunkPlace, LearnedBatch, ObservedShard, ReaderReport, RunObserver, SentBatch
from ssm_stream.ops.partition_metrics import partition_families
from ssm_stream.ops.prediction_quality import PredictionQuality, add_resolved

# It would be one more series for each counter; process_start_time_seconds has when all of them began.
disable_created_metrics()  # type: ignore[no-untyped-call]

STAGES = ("read", "decode", "learn", "encode", "produce", "deliver")
"""Of a batch: taken from the consumer, decoded, predicted and learned, encoded, handed to the producer; of an epoch:
the wait until the broker has acknowledged everything."""
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200)
EPOCHS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 60, 120, 300)
BATCHES = (1, 4, 16, 64, 256, 1000, 4000, 16_000, 64_000)
MAX_STEP = 86_400.0
"""Seconds that one batch may add to the time for which a budget in time allows alarms."""


class Metrics(RunObserver):
    """The metrics of one process.

    >>> from ssm_stream.config import parse_config
    >>> metrics = Metrics(parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: machine, timestamp: ts, features: [load]}
    ... '''))
    >>> metrics.on_sent(SentBatch(predictions=3, records=[]))
    >>> metrics.value("ssm_stream_predictions_total")
    3.0

    config: of the run
    """

    def __init__(self, config: Config) -> None:
        self.registry = CollectorRegistry()
        compares = config.event.lags > 0 or config.labels is not None
        self.quality = {path: PredictionQuality(compares=compares) for path in config.event.targets}
        self.verify_deviation = math.nan
        self.missing_paths = 0
        self.missing_offsets: Mapping[str, float] = {}  # by topic: of the gaps of the state
        self.ready: Callable[[], bool] = lambda: False
        self.config = config
        self._readers: WeakSet[ReaderReport] = WeakSet()
        # Of each shard the latest event time so far, ms.
        self._shards: WeakKeyDictionary[ObservedShard, float] = WeakKeyDictionary()
        self.last_seen = LastSeen()
        self._lock = threading.Lock()
        self._has_read = self._has_processed = False
        registry = self.registry
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(f"ssm_stream_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
            return Histogram(f"ssm_stream_{name}", text, labels, buckets=buckets, registry=registry)

        self._events = counter("events", "Messages read, by topic.", ["topic"])
        self._passed_by = counter("events_passed_by", "Messages of entities or signals that are left out.")
        self._idle = counter("events_idle", "Events that do not meet event.when: passed through.")
        self._doubtful = counter("events_doubtful", "Events with a value that event.quality makes unknown.")
        self._predictions = counter("predictions", "Prediction messages handed to the producer.")
        self._alerts = counter("alerts", "Alert messages handed to the producer.", ["kind", "phase", "scope"])
        self._suppressed = counter(
            "alerts_suppressed",
            "Suppressed alerts handed to the producer, for sinks.suppressed, by what suppresses them.",
            ["kind", "phase", "by"],
        )
        self._allowed = counter(
            "alarms_allowed", "False alarms that the budget allows for what has been seen so far.", ["kind"]
        )
        self._labelled = counter("labelled_events", "Events whose target has come, with them or later.")
        self._letters = counter("dead_letters", "Dead letters handed to the producer.", ["stage", "reason"])
        self._counters = {"alert": self._alerts, "suppressed": self._suppressed, "dead_letter": self._letters}
        self._feedback = counter("feedback", "Verdicts of operators on alerts.", ["rule", "verdict"])
        self._evicted = counter("entities_evicted", "Entities evicted: idle for state.ttl, or to make room.")
        self._latency = histogram(
            "end_to_end_latency_seconds",
            "From a message's timestamp until its prediction was handed to the producer; up to 4 messages a batch.",
            LATENCIES,
        )
        stages = histogram("stage_duration_seconds", "Work on one batch, by stage.", SECONDS, ["stage"])
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._batch = histogram("batch_size_events", "Events predicted and learned at a time.", BATCHES)
        self._epoch = histogram("epoch_duration_seconds", "Between two snapshots of a writer.", EPOCHS)
        self._snapshot = histogram("snapshot_duration_seconds", "Writing the state of one shard.", SECONDS)
        self._written = counter("snapshot_written_bytes", "Bytes of state written for recovery.")
        self._last = Gauge(
            "ssm_stream_last_snapshot_timestamp_seconds",
            "When an epoch last ended with all its messages delivered; until then, when the process began.",
            registry=registry,
        )
        if config.recovery.directory is not None:
            self._last.set_to_current_time()
        self._budgets = [
            (rules.budget, self._allowed.labels(kind))
            for kind in KINDS
            if (rules := config.alerts.anomaly if kind == "anomaly" else config.alerts.drift).enabled
        ]
        for kind in KINDS:
            self._allowed.labels(kind)
        for kind, phase in product(alert_kinds(config), PHASES):
            for by in SUPPRESSED_BY:
                self._suppressed.labels(kind, phase, by)
            for scope in SCOPES:
                self._alerts.labels(kind, phase, scope)
        self._info(config)
        registry.register(_CurrentState(self))

    def _info(self, config: Config) -> None:
        info = Gauge(
            "ssm_stream_config_info", "The configuration, always 1.", ["config_hash", "topic", "delivery"],
            registry=self.registry,
        )  # fmt: skip
        info.labels(config.hash, ",".join(config.source.names), config.delivery).set(1)
        build = Gauge(
            "ssm_stream_build_info", "The release, always 1.", ["version", "python", "bytewax", "torch"],
            registry=self.registry,
        )  # fmt: skip
        build.labels(_version("ssm-stream"), platform.python_version(), _version("bytewax"), _version("torch")).set(1)

    # What is read at each scrape.

    def register_reader(self, reader: ReaderReport) -> None:
        """Read lag and offsets from this reader as long as it lives."""
        with self._lock:
            self._readers.add(reader)

    def register_shard(self, shard: ObservedShard) -> None:
        """Read entities and open episodes from this shard as long as it lives."""
        with self._lock:
            self._shards[shard] = -math.inf

    @property
    def readers(self) -> list[ReaderReport]:
        """The readers that live."""
        with self._lock:
            return list(self._readers)

    @property
    def shards(self) -> list[ObservedShard]:
        """The shards that live."""
        with self._lock:
            return list(self._shards)

    @property
    def working(self) -> bool:
        """Whether something has been processed, or nothing was read yet."""
        return self._has_processed or not self._has_read

    # What is counted as it happens.

    def on_read(self, topic: str, messages: int) -> None:
        """Count messages that were read."""
        self._has_read = True
        self._events.labels(topic).inc(messages)

    def observe_stage(self, stage: str, seconds: float, chunk: ChunkPlace | None = None) -> None:
        """Add to the durations of a stage."""
        self._stages[stage].observe(seconds)

    def on_batch(self, shard: ObservedShard, batch: LearnedBatch) -> None:
        """Count a batch, add to the alarms that its budget allows, and judge its predictions."""
        self._has_processed = True
        events, partition, p, engine = withhold_targets(batch.events), batch.partition, batch.predictions, shard.engine
        self._batch.observe(len(events))
        for counted, flags in ((self._idle, events.idle), (self._doubtful, events.doubtful)):
            if flags is not None:
                counted.inc(int(np.count_nonzero(flags)))
        missing = np.isnan(events.target)
        unlabelled = np.count_nonzero(missing if missing.ndim == 1 else missing.all(axis=1))
        before = self._shards.get(shard, -math.inf)
        latest = self._shards[shard] = max(before, float(events.ts.max()))
        elapsed = (latest - before) / 1000 if math.isfinite(before) else 0.0
        labelled = 0 if engine.labels_delayed else len(events) - int(unlabelled)
        self.allow_alarms(labelled, len(engine), elapsed)
        self._labelled.inc(labelled)
        if engine.labels_delayed:
            self.on_labels(shard, events.entity, partition, events.ts)
            return
        y = events.target
        if y.ndim == 1:
            (quality,) = self.quality.values()
            quality.add(events.entity, y, p.yhat, p.lower, p.upper, p.warmup, partition)
            return
        for j, quality in enumerate(self.quality.values()):
            quality.add(events.entity, y[:, j], p.yhat[:, j], p.lower[:, j], p.upper[:, j], p.warmup[:, j], partition)

    def on_labels(
        self, shard: ObservedShard, names: list[str], partition: int, ts: NDArray[np.int64] | None = None
    ) -> None:
        """Judge the predictions that delayed labels have resolved. ts: of events that brought the targets, ms"""
        labelled = max(len(s.item) for s in shard.engine.resolved_predictions)
        self._labelled.inc(labelled)
        self.allow_alarms(labelled, 0, 0.0)  # by time the batch of events has
        add_resolved(self.quality.values(), shard.engine, names, ts, partition)

    def allow_alarms(self, labelled: int, entities: int, seconds: float) -> None:
        """Add to the false alarms that the budgets allow.

        Args:
            labelled: events with a target
            entities: of the shard
            seconds: event time since the shard's batch before
        """
        for budget, allowed in self._budgets:
            if budget.events:
                allowed.inc(labelled / budget.events)
            else:
                allowed.inc(entities * min(max(seconds, 0.0), MAX_STEP) / budget.seconds)

    def on_passed_by(self, messages: int) -> None:
        """Count messages of entities that are not watched."""
        self._passed_by.inc(messages)

    def on_missing_paths(self, paths: int) -> None:
        """Set the number of configured paths that the first messages do not have."""
        self.missing_paths = paths

    def on_evicted(self, entities: int) -> None:
        """Count entities that were evicted."""
        if entities:
            self._evicted.inc(entities)

    def on_snapshot(self, shard: ObservedShard, file: str, seconds: float, size: int) -> None:
        """Add to the durations and bytes of snapshots."""
        self._snapshot.observe(seconds)
        self._written.inc(size)

    def on_sent(self, sent: SentBatch) -> None:
        """Count messages that were handed to the producer, and the latency of some."""
        self._has_processed = True
        if sent.predictions:
            self._predictions.inc(sent.predictions)
        for record in sent.records:
            if record.sent is not None:
                self._counters[record.sent.what].labels(*record.sent.labels).inc()
        now = time.time()
        for timestamp in sent.timestamps:
            self._latency.observe(max(now - timestamp / 1000, 0.0))

    def on_epoch(self, seconds: float | None) -> None:
        """Note when an epoch ended, and its duration."""
        self._last.set_to_current_time()
        if seconds is not None:
            self._epoch.observe(seconds)

    def on_verdict(self, verdict: Verdict) -> None:
        """Count an operator's verdict."""
        self._feedback.labels(verdict.rule, "true" if verdict.true else "false").inc()

    # Current values.

    def value(self, name: str, **labels: str) -> float | None:
        """Return the present value of one series; None if it does not exist."""
        return self.registry.get_sample_value(name, labels)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the series of that name that have these labels."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


class _CurrentState(Collector):
    """Collects lag, entities, open episodes and prediction quality at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        metrics = self._metrics
        shards = metrics.shards
        yield from partition_families(metrics.readers)
        yield _gauge("entities", "Entities in memory.", sum(len(shard.engine) for shard in shards))
        divided = GaugeMetricFamily(
            "ssm_stream_alarm_budget_entities", "Entities that alerts.budget is divided over.", labels=[]
        )
        if metrics.config.alerts.budget is not None:
            divided.add_metric([], metrics.config.alerts.budget.entities)
        yield divided
        shares = [share for shard in shards if (share := shard.engine.fullness) is not None]
        limit = GaugeMetricFamily(
            "ssm_stream_entities_limit_used_ratio", "Of state.max_entities, in the fullest partition.", labels=[]
        )
        if shares:
            limit.add_metric([], max(shares))
        yield limit
        kinds = alert_kinds(metrics.config)
        episodes = {kind: sum(shard.engine.count_open_episodes(kind) for shard in shards) for kind in kinds}
        yield _by("episodes_open", "Entities with an open episode.", "kind", episodes)
        yield from _episodes(shards)
        quality = {path: each.read() for path, each in metrics.quality.items()}
        for name, text, values in (
            ("prediction_mean_absolute_error", "Recent, in the target's unit.", {t: q.mae for t, q in quality.items()}),
            (
                "prediction_persistence_mean_absolute_error",
                "The same of repeating the last value, sampled.",
                {t: q.persistence for t, q in quality.items()},
            ),
            ("interval_coverage_ratio", "Share of recent targets inside their interval.",
             {t: q.coverage for t, q in quality.items()}),
        ):  # fmt: skip
            yield _by(name, text, "target", values)
        yield _gauge(
            "verify_deviation_ratio",
            "Largest deviation of the kernel from its definition, in standard deviations of the target; at the start.",
            metrics.verify_deviation,
        )
        shadow, level = metrics.config.alerts.shadow, metrics.config.model.interval
        yield _gauge("alerts_shadow", "1 while alerts.shadow withholds the alerts, else 0.", float(shadow))
        yield _gauge("interval_level_ratio", "Intended coverage of the intervals.", level)
        yield _gauge("missing_paths", "Configured paths that no early message has.", metrics.missing_paths)
        text = "Offsets that the state has never read, since it began; an unknown number counts as one."
        yield _by("missing_offsets", text, "topic", metrics.missing_offsets)
        yield _gauge("ready", "1 if /readyz answers 200.", float(metrics.ready()))


def _episodes(shards: list[ObservedShard]) -> Iterable[Metric]:
    """Yield how many events lie inside episodes, and the longest one that is open, by kind."""
    events = CounterMetricFamily(
        "ssm_stream_episode_events", "Labelled events inside an episode of their entity.", labels=["kind"]
    )
    longest, seconds = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0.0)
    for kind in KINDS:
        found = [episode_figures(shard.engine, kind) for shard in shards]
        events.add_metric([kind], sum(figures.events for figures in found))
        longest[kind] = max((figures.open_events for figures in found), default=0)
        seconds[kind] = max((figures.open_seconds for figures in found), default=0.0)
    yield events
    yield _by("episode_longest_events", "Labelled events of the longest open episode.", "kind", longest)
    yield _by("episode_longest_seconds", "Event time of the longest open episode.", "kind", seconds)


def _version(package: str) -> str:
    """Return the installed version of a package without importing it, `none` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ssm_stream_{name}", text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """Return a gauge with a value for each label, without those that are NaN."""
    family = GaugeMetricFamily(f"ssm_stream_{name}", text, labels=[label])
    for of, value in values.items():
        if not math.isnan(value):
            family.add_metric([of], value)
    return family
