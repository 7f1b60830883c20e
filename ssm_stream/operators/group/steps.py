"""Source, shard operator and sink of a member's dataflow: one source part, whatever the number of its partitions, so
that an epoch ends for all of them at once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from bytewax.inputs import AbortExecution, FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import FixedPartitionedSink

from ssm_stream.engine.parallel.cores import cores
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.producer import Marker
from ssm_stream.kafka.records import LabelBatch, OutputBatch, PredictedBatch, ShardBatch
from ssm_stream.operators.failures import explained
from ssm_stream.operators.group.member import Member
from ssm_stream.operators.shard_operator import events_of, learn_side_by_side
from ssm_stream.operators.sink import KafkaWriter
from ssm_stream.operators.source import BUSY, IDLE
from ssm_stream.recovery.positions import Positions
from ssm_stream.recovery.store.blobs import StoreAwayError

WHOLE = "0000"
"""The one part of source and sink."""


class GroupSource(FixedPartitionedSource[Any, int]):
    """All partitions that a member holds, as one part."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def list_parts(self) -> list[str]:
        return [WHOLE]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> GroupReader:
        return GroupReader(self._member)


class GroupReader(StatefulSourcePartition[Any, int]):
    """Hands the messages of the held partitions to the dataflow, in turn."""

    def __init__(self, member: Member) -> None:
        self._member, self._limit = member, member.config.source.batch
        self._next: Positions = {}
        self._awake: datetime | None = None

    def next_batch(self) -> list[Any]:
        if self._member.must_abort:
            raise AbortExecution("what is not committed is done again")
        if self._member.must_end:
            raise StopIteration
        items, partitions = list[Any](), set[int]()
        try:
            # What a core each can learn at the same time.
            while len(partitions) < cores():
                taken = self._member.inputs.take_next(self._member.consumer, self._limit)
                if taken is None:
                    break
                self._next[taken.topic, taken.partition] = taken.next
                items += taken.items
                if taken.partition in partitions:
                    break
                partitions.add(taken.partition)
        except Exception as error:  # noqa: BLE001  # the dataflow begins again, or ends with it
            self._member.fail(error)
            raise AbortExecution("the reading has ended") from None
        if partitions:
            self._awake = None
            return items
        at_end = self._member.inputs.at_end(self._member.consumer)
        self._awake = datetime.now(UTC) + (IDLE if at_end else BUSY)
        return []

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        self._member.positions = dict(self._next)
        return 0


class MemberLogic(StatefulBatchLogic[ShardBatch | LabelBatch, PredictedBatch | OutputBatch, bytes]):
    """Predicts and learns the events of the partitions whose states the member holds, side by side."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._changed: set[int] = set()  # partitions, in this epoch

    def on_batch(self, values: list[ShardBatch | LabelBatch]) -> tuple[Iterable[PredictedBatch | OutputBatch], bool]:
        held, by_partition = self._member.held, dict[int, list[ShardBatch | LabelBatch]]()
        for each in values:
            by_partition.setdefault(each.partition, []).append(each)
        self._changed.update(by_partition)
        out: list[PredictedBatch | OutputBatch] = []
        with explained():
            events = {partition: events_of(own) for partition, own in by_partition.items()}
            total = sum(events.values())
            begun = {
                partition: held[partition].logic.begin(own, total - events[partition])
                for partition, own in by_partition.items()
            }
            learn_side_by_side(list(begun.values()))
            for partition, own in by_partition.items():
                found = held[partition].logic.finish(begun[partition])
                # Bytewax ends an epoch in the sink only where something came: an event that causes nothing is
                # committed, too.
                out += found or [OutputBatch(self._member.config.source.topic, partition, -1, -1, [])]
                if not self._member.must_abort:
                    self._member.write_ahead(partition, own)
        return out, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        changed, self._changed = sorted(self._changed), set()
        for partition in changed:
            if self._member.must_abort:
                break
            with explained():
                try:
                    self._member.write(partition)
                except StoreAwayError as error:
                    self._member.fail(error)
        return b""


class GroupSink(FixedPartitionedSink[PredictedBatch | OutputBatch, Marker | None]):
    """The one producer of a member."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def list_parts(self) -> list[str]:
        return [WHOLE]

    def part_fn(self, item_key: str) -> int:
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> GroupWriter:
        with explained():
            return GroupWriter(self._member)


class GroupWriter(KafkaWriter):
    """Delivers an epoch and commits it. What the broker refuses ends the dataflow, not the process."""

    def __init__(self, member: Member) -> None:
        self._member = member
        super().__init__(member.config, member.producer(), member.observers)

    def snapshot(self) -> None:
        with self._observers.timed("deliver"):
            self._join()
            self._raise()
            if self._member.must_abort:
                return
            try:
                self._producer.deliver()
            except (BrokerError, StoreAwayError) as error:
                self._member.fail(error)
                return
        self._member.committed()
        now, before = time.monotonic(), self._epoch_began
        self._observers.on_epoch(None if before is None else now - before)
        self._epoch_began = now

    def _raise(self) -> None:
        if self._broken is None:
            return
        error = self._producer.explain(self._broken)
        if isinstance(error, BrokerError):
            self._member.fail(error)
        else:
            super()._raise()
