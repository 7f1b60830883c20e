"""Metrics of a member of a group: what it holds, and what a successor would have to load."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ssm_stream.operators.group.member import Member
from ssm_stream.ops.metrics import Metrics


class GroupMetrics(Collector):
    """Collects them at each scrape. member: that runs now; None while the process is in no group"""

    def __init__(self, metrics: Metrics) -> None:
        self._rebalances = 0
        self._member: Member | None = None
        metrics.registry.register(self)

    @property
    def member(self) -> Member | None:
        """The member that runs now."""
        return self._member

    @member.setter
    def member(self, member: Member | None) -> None:
        if self._member is not None:
            self._rebalances += self._member.rebalances
        self._member = member

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        member = self._member
        held = [] if member is None else list(member.held.items())
        yield GaugeMetricFamily("ssm_stream_partitions_held", "Partitions that the group assigns.", value=len(held))
        now = self._rebalances + (0 if member is None else member.rebalances)
        partitions = 0 if member is None else member.consumer.topic_partitions
        yield GaugeMetricFamily("ssm_stream_topic_partitions", "Partitions of the events topic.", value=partitions)
        yield CounterMetricFamily("ssm_stream_rebalances", "Times that partitions came or went.", value=now)
        size = GaugeMetricFamily(
            "ssm_stream_stored_snapshot_bytes", "State in the store, to be loaded by a successor.", labels=["partition"]
        )
        written = GaugeMetricFamily(
            "ssm_stream_stored_snapshot_timestamp_seconds", "When the state was last stored.", labels=["partition"]
        )
        unowned = GaugeMetricFamily(
            "ssm_stream_partition_unowned_seconds", "From its last commit until it was read on.", labels=["partition"]
        )
        for partition, each in sorted(held):
            if each.unowned is not None:
                unowned.add_metric([str(partition)], each.unowned)
            size.add_metric([str(partition)], each.snapshots.size)
            written.add_metric([str(partition)], each.snapshots.written_at)
        yield from (size, written, unowned)
