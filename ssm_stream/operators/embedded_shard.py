"""A shard whose state is its snapshot: for a dataflow whose state Bytewax keeps (`-r`).

At the end of an epoch Bytewax stores the snapshots of the shards that had events in it. After a crash, Bytewax 0.21
may load what an epoch that never ended left there: if a shard has no event in the repetition of that epoch, its events
count twice. So every shard gets an item at the start (`ShardWaker`): Bytewax then stores the shard's state, or that it
has none, over what was left.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.operators import StatefulBatchLogic

from ssm_stream.config import Config
from ssm_stream.engine.engine import shard_of
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.event_columns import concatenate
from ssm_stream.kafka.context.rows import RowFacts
from ssm_stream.kafka.records import LabelBatch, OutputBatch, PredictedBatch, ShardBatch, shard_key
from ssm_stream.operators.documents import Batch, EventBatch
from ssm_stream.operators.runner import MADE_BY_SERVICE
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.ops.observers import UNOBSERVED, RunObserver
from ssm_stream.recovery.checkpoint_files import referenced_file

LOG = logging.getLogger("ssm_stream")
MAGIC, VERSION = b"SSMB", 1
PREFIX = struct.Struct("<4sHQ")
"""Of a snapshot: magic, version, number of events that the shard has numbered; the engine's snapshot follows."""


class Wake(NamedTuple):
    """An item without events for a shard, so that Bytewax takes its snapshot."""


class UnreadErrors:
    """Logs refused events while no step reads them: Bytewax would drop them without a word. read: a step does"""

    def __init__(self, step: str) -> None:
        self.step, self.read = step, False
        self._count, self._next = 0, 1

    def add(self, output: OutputBatch) -> None:
        """Count the dead letters of a batch; log at the first, the tenth, the hundredth and so on."""
        letters = [each for each in output.others if each.sent is not None and each.sent.what == "dead_letter"]
        self._count += len(letters)
        if self.read or self._count < self._next:
            return
        self._next = 10 ** len(str(self._count))
        name, value = (letters[-1].headers or [("", b"")])[-1]
        LOG.warning(
            "step %r: %d events refused so far, and no step reads its stream `errors`; the last one: %s",
            self.step, self._count, value.decode() if isinstance(value, bytes) else name,
        )  # fmt: skip


class EmbeddedShard(StatefulBatchLogic[Batch | Wake, PredictedBatch | OutputBatch, bytes]):
    """Predicts and learns the events of one shard; its snapshot holds all of its state, as versioned bytes.

    Args:
        config: without recovery directory
        facts: as of `ShardLogic`

    Raises:
        StateError: the state is damaged, or one that this configuration or release cannot use.
    """

    def __init__(
        self,
        config: Config,
        resume_state: bytes | None,
        errors: UnreadErrors,
        observers: RunObserver = UNOBSERVED,
        facts: RowFacts | None = None,
    ) -> None:
        self._config, self._errors, self._observers, self._facts = config, errors, observers, facts
        self._numbered = 0
        self._shard: ShardLogic | None = None
        if resume_state is not None:
            self._numbered, state = unpack(resume_state)
            self._shard = ShardLogic(config, state, observers, facts)

    def on_batch(self, values: list[Batch | Wake]) -> tuple[Iterable[PredictedBatch | OutputBatch], bool]:
        batches = [each for each in values if not isinstance(each, Wake)]
        if self._shard is None:
            if not batches:
                return (), StatefulBatchLogic.DISCARD
            self._shard = ShardLogic(self._config, None, self._observers, self._facts)
        if not batches:
            return (), StatefulBatchLogic.RETAIN
        out, keep = self._shard.on_batch(self._numbered_batches(batches))
        for each in out:
            if isinstance(each, OutputBatch):
                self._errors.add(each)
        return out, keep

    def _numbered_batches(self, batches: list[Batch]) -> list[ShardBatch | LabelBatch]:
        """Return the batches with offsets; consecutive ones of one partition are joined."""
        out: list[ShardBatch | LabelBatch] = []
        for kind, run in groupby(batches, _joinable):
            members = list(run)
            if kind is None:
                out += [self._with_positions(each) if isinstance(each, LabelBatch) else each for each in members]  # type: ignore[misc]
            else:
                out.append(self._joined([each for each in members if isinstance(each, EventBatch)]))
        return out

    def _joined(self, batches: list[EventBatch]) -> ShardBatch:
        first = batches[0]
        events = concatenate([each.events for each in batches])
        offsets = None if first.offsets is None else [at for each in batches for at in each.offsets or ()]
        raw = None if first.raw is None else [one for each in batches for one in each.raw or ()]
        if offsets is None:
            offsets = self._numbers(events.entity[0], len(events))
        # With the topic, so that a later step with other settings gives the same ids.
        return ShardBatch(first.partition, events, offsets, raw, topic=first.topic or self._config.source.topic)

    def _with_positions(self, batch: LabelBatch) -> LabelBatch:
        """Return a batch of labels with numbers for those without a place."""
        labels = batch.labels
        missing = labels.position < 0
        if not missing.any():
            return batch
        position = labels.position.copy()
        position[missing] = self._numbers(labels.entity[0], int(missing.sum()))
        return batch._replace(labels=replace(labels, position=position))

    def _numbers(self, entity: str, count: int) -> list[int]:
        """Return the next numbers of the shard: none is of another shard, and with one shard they count from 0."""
        shards = self._config.state.shards
        first = self._numbered * shards + shard_of(entity, shards)
        self._numbered += count
        return list(range(first, first + count * shards, shards))

    def snapshot(self) -> bytes:
        assert self._shard is not None, "a shard without state is discarded"
        return PREFIX.pack(MAGIC, VERSION, self._numbered) + self._shard.snapshot()


def unpack(snapshot: bytes) -> tuple[int, bytes]:
    """Return the number of events numbered, and the engine's snapshot.

    Raises:
        StateError: another release or another runner wrote it.
    """
    if isinstance(snapshot, bytes) and referenced_file(snapshot) is not None:
        raise StateError(MADE_BY_SERVICE)
    if not isinstance(snapshot, bytes) or len(snapshot) < PREFIX.size or snapshot[:4] != MAGIC:
        raise StateError(
            "the state in this recovery directory is not one of ssm_stream.operators.monitor: another step had this "
            "step's name; give the step another name, or start with another recovery directory (-r)"
        )
    _, version, numbered = PREFIX.unpack_from(snapshot)
    if version != VERSION:
        raise StateError(
            f"the state in this recovery directory has format {version}, this release reads {VERSION}: use the release "
            "that wrote it, or start with another recovery directory (-r)"
        )
    return numbered, snapshot[PREFIX.size :]


def _joinable(batch: Batch) -> tuple[int, str | None, bool] | None:
    """Return what batches of events must share to be joined; None for other batches."""
    return (batch.partition, batch.topic, batch.offsets is None) if isinstance(batch, EventBatch) else None


class ShardWaker(DynamicSource[tuple[str, Wake]]):
    """One item for every shard at the start, then the end of its input."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _WakerPartition:
        return _WakerPartition(range(self._shards) if worker_index == 0 else range(0))


class _WakerPartition(StatelessSourcePartition[tuple[str, Wake]]):
    def __init__(self, shards: range) -> None:
        self._items = [(shard_key(shard), Wake()) for shard in shards]

    def next_batch(self) -> list[tuple[str, Wake]]:
        items, self._items = self._items, []
        if not items:
            raise StopIteration
        return items
