"""Delivers an epoch's results, with the positions and the names of the snapshots: one commit for everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from confluent_kafka import KafkaException

from ssm_stream.config import Config
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.membership.commit import Commit, places_of
from ssm_stream.kafka.membership.consumer import GroupConsumer
from ssm_stream.kafka.producer import Marker, OutputProducer
from ssm_stream.kafka.records import OutputBatch
from ssm_stream.kafka.transactional_producer import (
    MAX_TIMEOUT,
    TransactionalProducer,
    max_output_bytes,
    transactional_properties,
)

SEND_TIMEOUT = 5.0
"""Seconds in which the broker has to take the offsets. Where it goes away meanwhile, librdkafka 2.16 may not return:
the epoch is done again."""
Commits = Callable[[Mapping[tuple[str, int], int]], Mapping[int, Commit]]
"""Returns what is to be committed by partition, once its snapshots are in the store. Takes the last offset of each
topic and partition whose results were produced."""


class CommittingProducer(OutputProducer):
    """Delivers at least once: the offsets follow when the broker has the results."""

    def __init__(self, config: Config, consumer: GroupConsumer, commits: Commits) -> None:
        self._consumer, self._commits = consumer, commits
        self._last: dict[tuple[str, int], int] = {}
        super().__init__(config)

    def produce(self, output: OutputBatch) -> OutputBatch:
        place = output.topic, output.partition
        self._last[place] = max(output.last, self._last.get(place, -1))
        return super().produce(output)

    def deliver(self) -> Marker | None:
        commits, self._last = self._commits(self._last), {}
        self._flush()
        if commits:
            self._consumer.commit_group(commits)
        return None


class GroupTransactions(TransactionalProducer):
    """Delivers exactly once: the results of an epoch, the offsets and the names of the snapshots are one transaction.

    A member that was believed dead is shut out by its generation in the group, or by whoever has ended its transaction.

    Raises:
        BrokerError: the broker refuses, or does not answer.
    """

    def __init__(self, config: Config, consumer: GroupConsumer, commits: Commits) -> None:
        self._consumer, self._commits = consumer, commits
        self._name, self._last = consumer.transactions, dict[tuple[str, int], int]()
        self._wait, self._open, self._max_bytes = config.source.wait, False, max_output_bytes(config)
        # What a right is granted on: the transactions have another name after each start.
        self._granted = ("transactional ids that begin with", f"{config.source.group_id}-")
        self._read_group = ("Read", "consumer group", config.source.group_id)
        self._timeout = min(max(30.0, 10 * config.epoch_interval), MAX_TIMEOUT)
        OutputProducer.__init__(
            self,
            config,
            transactional_properties(self._name, self._wait, self._timeout, self._max_bytes),
        )
        self._call("init_transactions", self.connected().init_transactions)

    def produce(self, output: OutputBatch) -> OutputBatch:
        place = output.topic, output.partition
        self._last[place] = max(output.last, self._last.get(place, -1))
        if output.size:
            self._begin()
        return OutputProducer.produce(self, output)

    def _begin(self) -> None:
        if not self._open:
            self._call("begin_transaction", lambda _: self._producer.begin_transaction())
            self._open = True

    def deliver(self) -> Marker:
        commits, self._last = self._commits(self._last), {}
        try:
            self._flush()
        except BrokerError as error:
            if (cause := self.explain(error)) is not error:
                raise cause from error
            raise
        if commits:
            self._begin()
        if not self._open:
            return {}
        if commits:
            self._send_offsets(commits)
        self._commit()
        self._open = False
        return {}

    def _send_offsets(self, commits: Mapping[int, Commit]) -> None:
        places = places_of(self.config.source.topic, commits)
        group = self._consumer.metadata()
        if group is None:
            raise BrokerError(f"this process is no member of the group {self.config.source.group_id}", "it joins again")
        seconds = min(self._wait, SEND_TIMEOUT)
        try:
            self._limit_time(
                "send_offsets_to_transaction",
                lambda: self._producer.send_offsets_to_transaction(places, group, seconds),
                seconds,
            )
        except KafkaException as error:
            raise self._error("send_offsets_to_transaction", error) from error
