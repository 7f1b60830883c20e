"""What a process counts of itself, for Prometheus. No Kafka, no Bytewax.

`Metrics` has a registry of its own. The parts of the dataflow add to its counters once a batch, never once an event;
what is a state rather than a count (lag, entities, open episodes) is read from them when somebody asks. Entities are
never labels, and what is a label comes from the configuration or from a list in the code.
"""

from __future__ import annotations

import math
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple
from weakref import WeakSet

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
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ssm_stream.config import Config
from ssm_stream.ops.observers import LivePage, ReaderReport, ShardReport
from ssm_stream.ops.prediction_quality import PredictionQuality
from ssm_stream.ops.traces import Traces

# A series more for each, which nothing here needs: process_start_time_seconds tells when all began.
disable_created_metrics()  # type: ignore[no-untyped-call]

KINDS = ("anomaly", "drift")
PHASES = ("started", "ongoing", "recovered")
SCOPES = ("entity", "fleet")
STAGES = ("read", "decode", "learn", "encode", "produce", "deliver")
"""Of a batch: taken from the client, decoded, predicted and learned, encoded, handed to the client; of an epoch: the
wait until the broker has everything."""
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200)
EPOCHS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 60, 120, 300)
BATCHES = (1, 4, 16, 64, 256, 1000, 4000, 16_000, 64_000)
LONGEST_STEP = 86_400.0
"""Seconds that one batch may add to the time for which a budget in time allows alarms."""


class Sent(NamedTuple):
    """What a message other than a prediction is counted as: an alert by kind, phase and scope, or a dead letter by
    stage and reason."""

    what: str
    labels: tuple[str, ...]


class Metrics:
    """The counters of one process.

    >>> from ssm_stream.config import parse_config
    >>> metrics = Metrics(parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: machine, timestamp: ts, features: [load]}
    ... '''))
    >>> metrics.sent(3, [Sent("alert", ("drift", "started", "entity"))])
    >>> metrics.value("ssm_stream_predictions_total")
    3.0

    config: what the process runs

    Raises:
        ConfigError: traces are to be made, and the packages for it are not there.
    """

    def __init__(self, config: Config) -> None:
        self.registry = CollectorRegistry()
        self.quality = {path: PredictionQuality() for path in config.event.targets}
        self.verify_deviation = math.nan
        self.ready: Callable[[], bool] = lambda: False
        self.traces = Traces(config) if config.ops.traces is not None else None
        self.page: LivePage | None = None
        """The live page, where it is wanted."""
        self._config = config
        self._readers: WeakSet[ReaderReport] = WeakSet()
        self._shards: WeakSet[ShardReport] = WeakSet()
        self._lock = threading.Lock()
        self._came = self._processed = False
        registry = self.registry
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(f"ssm_stream_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
            return Histogram(f"ssm_stream_{name}", text, labels, buckets=buckets, registry=registry)

        self._events = counter("events", "Messages read, by topic.", ["topic"])
        self._predictions = counter("predictions", "Prediction messages handed to the producer.")
        self._alerts = counter("alerts", "Alert messages handed to the producer.", ["kind", "phase", "scope"])
        self._allowed = counter(
            "alarms_allowed", "False alarms that the budget allows for what has been seen so far.", ["kind"]
        )
        self._letters = counter("dead_letters", "Dead letters handed to the producer.", ["stage", "reason"])
        self._feedback = counter("feedback", "Verdicts of operators on alerts.", ["rule", "verdict"])
        self._evicted = counter("entities_evicted", "Entities forgotten: silent for their TTL, or to make room.")
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
        for kind in KINDS:
            self._allowed.labels(kind)
            for phase in PHASES:
                for scope in SCOPES:
                    self._alerts.labels(kind, phase, scope)
        self._info(config)
        registry.register(_AtTheMoment(self))

    def _info(self, config: Config) -> None:
        info = Gauge(
            "ssm_stream_config_info", "The configuration, always 1.", ["config_hash", "topic", "delivery"],
            registry=self.registry,
        )  # fmt: skip
        info.labels(config.hash, config.source.topic, config.delivery).set(1)
        build = Gauge(
            "ssm_stream_build_info", "The release, always 1.", ["version", "python", "bytewax", "torch"],
            registry=self.registry,
        )  # fmt: skip
        try:
            torch = version("torch")
        except PackageNotFoundError:
            torch = "none"
        build.labels(version("ssm-stream"), platform.python_version(), version("bytewax"), torch).set(1)
        level = Gauge("ssm_stream_interval_level_ratio", "Coverage that the intervals are to have.",
                      registry=self.registry)  # fmt: skip
        level.set(config.model.interval)

    # What is asked at the moment.

    def ask_reader(self, reader: ReaderReport) -> None:
        """Ask this one for lag, as long as it lives."""
        with self._lock:
            self._readers.add(reader)

    def ask_shard(self, shard: ShardReport) -> None:
        """Ask this one for entities and episodes, as long as it lives."""
        with self._lock:
            self._shards.add(shard)

    @property
    def readers(self) -> list[ReaderReport]:
        """Those that live."""
        with self._lock:
            return list(self._readers)

    @property
    def shards(self) -> list[ShardReport]:
        """Those that live."""
        with self._lock:
            return list(self._shards)

    @property
    def working(self) -> bool:
        """Something has been processed, or nothing has come yet."""
        return self._processed or not self._came

    # What is counted as it happens.

    def read(self, topic: str, messages: int) -> None:
        """Messages have come from a topic."""
        self._came = True
        self._events.labels(topic).inc(messages)

    def took(self, stage: str, seconds: float) -> None:
        """A batch has been through a stage of `STAGES`."""
        self._stages[stage].observe(seconds)

    def traced(self, stage: str, seconds: float, topic: str, partition: int, first: int, messages: int) -> None:
        """`took`, and a span where the batch is traced. As `Traces.span`."""
        self._stages[stage].observe(seconds)
        if self.traces is not None:
            self.traces.span(stage, seconds, topic, partition, first, messages)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """The time of what is done inside, as `took`."""
        began = time.perf_counter()
        yield
        self.took(stage, time.perf_counter() - began)

    def learned(self, events: int, labelled: int, entities: int, seconds: float) -> None:
        """A batch was predicted and learned.

        Args:
            events: of the batch; labelled: of these, with a target
            entities: that live in the shard
            seconds: by which the time of its events is beyond the time of those before
        """
        self._processed = True
        self._batch.observe(events)
        for kind in KINDS:
            rules = self._config.alerts.anomaly if kind == "anomaly" else self._config.alerts.drift
            if not rules.enabled:
                continue
            if rules.budget.events:
                allowed = labelled / rules.budget.events
            else:
                allowed = entities * min(max(seconds, 0.0), LONGEST_STEP) / rules.budget.seconds
            self._allowed.labels(kind).inc(allowed)

    def sent(self, predictions: int, others: Iterable[Sent]) -> None:
        """Messages were handed to the producer."""
        self._processed = True
        if predictions:
            self._predictions.inc(predictions)
        for what, labels in others:
            (self._alerts if what == "alert" else self._letters).labels(*labels).inc()

    def late(self, stamps: Sequence[int]) -> None:
        """Predictions for messages with these timestamps, ms, were handed to the producer."""
        now = time.time()
        for stamp in stamps:
            self._latency.observe(max(now - stamp / 1000, 0.0))

    def evicted(self, entities: int) -> None:
        """Entities were forgotten."""
        if entities:
            self._evicted.inc(entities)

    def judged(self, rule: str, *, true: bool) -> None:
        """An operator has said of an alert whether it was true."""
        self._feedback.labels(rule, "true" if true else "false").inc()

    def wrote(self, seconds: float, size: int) -> None:
        """The state of a shard was written."""
        self._snapshot.observe(seconds)
        self._written.inc(size)

    def epoch_ended(self, seconds: float | None) -> None:
        """All of a writer's epoch is delivered; it took so long, None for the first."""
        self._last.set_to_current_time()
        if seconds is not None:
            self._epoch.observe(seconds)

    # What there is.

    def value(self, name: str, **labels: str) -> float | None:
        """One series, as it would be told now; None where there is none."""
        return self.registry.get_sample_value(name, labels)

    def total(self, name: str, **labels: str) -> float:
        """The series of that name with these labels, together."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


class _AtTheMoment(Collector):
    """Lag, entities, open episodes, quality: as they are when asked."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        metrics = self._metrics
        lag = GaugeMetricFamily(
            "ssm_stream_consumer_lag_messages", "Messages of the partition that are yet to be processed.",
            labels=["topic", "partition"],
        )  # fmt: skip
        offset = GaugeMetricFamily(
            "ssm_stream_consumer_offset", "Next offset to be processed.", labels=["topic", "partition"]
        )
        for reader in metrics.readers:
            for place in reader.positions():
                of = [place.topic, str(place.partition)]
                offset.add_metric(of, place.next)
                if place.lag is not None:
                    lag.add_metric(of, place.lag)
        shards = metrics.shards
        yield lag
        yield offset
        yield _gauge("entities", "Entities in memory.", sum(shard.entities() for shard in shards))
        shares = [share for shard in shards if (share := shard.fullness()) is not None]
        limit = GaugeMetricFamily(
            "ssm_stream_entities_limit_used_ratio", "Of state.max_entities, in the fullest partition.", labels=[]
        )
        if shares:
            limit.add_metric([], max(shares))
        yield limit
        episodes = {kind: sum(shard.episodes(kind) for shard in shards) for kind in KINDS}
        yield _by("episodes_open", "Entities with an open episode.", "kind", episodes)
        told = {path: each.read() for path, each in metrics.quality.items()}
        for name, text, values in (
            ("prediction_mean_absolute_error", "Of late, in the target's unit.", {t: q.mae for t, q in told.items()}),
            (
                "prediction_persistence_mean_absolute_error",
                "That of repeating the last value, now and then.",
                {t: q.persistence for t, q in told.items()},
            ),
            ("interval_coverage_ratio", "Of late: targets inside their interval.",
             {t: q.coverage for t, q in told.items()}),
        ):  # fmt: skip
            yield _by(name, text, "target", values)
        yield _gauge(
            "verify_deviation_ratio",
            "Largest deviation of the kernel from its definition, in standard deviations of the target; at the start.",
            metrics.verify_deviation,
        )
        yield _gauge("ready", "1 where /readyz says so.", float(metrics.ready()))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ssm_stream_{name}", text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """A gauge with a value for each label; those that are not known yet are left out."""
    family = GaugeMetricFamily(f"ssm_stream_{name}", text, labels=[label])
    for of, value in values.items():
        if not math.isnan(value):
            family.add_metric([of], value)
    return family
