"""What is read of each partition at a scrape: its lag, its position, and when its last message came."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from ssm_stream.ops.observers import ReaderReport

LABELS = ["topic", "partition"]


def partition_families(readers: Iterable[ReaderReport]) -> Iterable[Metric]:
    """Yield the metrics of the partitions of all readers."""
    lag = GaugeMetricFamily(
        "ssm_stream_consumer_lag_messages", "Messages of the partition that are yet to be processed.", labels=LABELS
    )
    offset = GaugeMetricFamily("ssm_stream_consumer_offset", "Next offset to be processed.", labels=LABELS)
    last = GaugeMetricFamily(
        "ssm_stream_consumer_last_message_timestamp_seconds",
        "When a message of the partition was last read, by the wall clock; until then, when the reading began.",
        labels=LABELS,
    )
    for reader in readers:
        for place in reader.positions():
            of = [place.topic, str(place.partition)]
            offset.add_metric(of, place.next)
            last.add_metric(of, place.read_at)
            if place.lag is not None:
                lag.add_metric(of, place.lag)
    yield from (lag, offset, last)
