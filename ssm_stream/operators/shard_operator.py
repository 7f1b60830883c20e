"""The engine as a Bytewax operator: one logic, one engine, one snapshot a shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from bytewax.operators import StatefulBatchLogic

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.parallel.lanes import Task, run_all
from ssm_stream.engine.snapshot import with_holidays_of
from ssm_stream.engine.snapshot_format import SnapshotReader
from ssm_stream.kafka.context.rows import RowFacts
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import CaughtUp, LabelBatch, OutputBatch, PredictedBatch, ShardBatch, shard_key
from ssm_stream.operators.catch_up import Undelivered
from ssm_stream.operators.failures import explained
from ssm_stream.ops.observers import UNOBSERVED, ChunkPlace, LearnedBatch, RunObserver
from ssm_stream.recovery.bytewax_db import on_disk
from ssm_stream.recovery.catch_up import UndeliveredFile
from ssm_stream.recovery.checkpoint_files import ShardCheckpoints, referenced_file, state_folder
from ssm_stream.recovery.ended_episodes import add_ended
from ssm_stream.recovery.resume.gaps import GapNotes

Item = ShardBatch | LabelBatch | CaughtUp
MAX_TOGETHER = 65_536
"""Events that are learned side by side at most: while they are, memory has their columns twice."""


@dataclass(slots=True)
class Begun:
    """What a shard is to learn next.

    items: batches of events with their rows, and others; out: dead letters; cuts: as of `ShardLogic._split`
    tasks: what is learned before; seconds: that this has taken, an event
    """

    items: list[Item]
    out: list[PredictedBatch | OutputBatch]
    cuts: list[list[int]]
    tasks: list[Task]
    seconds: float = 0.0


def events_of(items: Iterable[Item]) -> int:
    """Return the number of events and labels."""
    return sum(
        len(each.events) if isinstance(each, ShardBatch) else len(each.labels)
        for each in items
        if not isinstance(each, CaughtUp)
    )


def learn_side_by_side(all_of: Sequence[Begun]) -> None:
    """Learn what several shards have begun, on as many cores as there are."""
    some = [each for each in all_of if each.tasks]
    if some:
        began = time.perf_counter()
        run_all(task for each in some for task in each.tasks)
        seconds = (time.perf_counter() - began) / sum(events_of(each.items) for each in some)
        for each in some:
            each.seconds = seconds


def _cut(values: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield the items in parts of `MAX_TOGETHER` events and labels at most, or of one item."""
    first = events = 0
    for i, each in enumerate(values):
        size = events_of([each])
        if i > first and events + size > MAX_TOGETHER:
            yield values[first:i]
            first, events = i, 0
        events += size
    yield values[first:]


class ShardLogic(StatefulBatchLogic[Item, PredictedBatch | OutputBatch, bytes]):
    """Predicts and learns the events of one shard, and its delayed labels.

    A snapshot is the name of a file in the recovery directory; without such a directory it is the state itself.

    Args:
        facts: the context topics whose facts its rows get
    """

    def __init__(
        self,
        config: Config,
        resume_state: bytes | None,
        observers: RunObserver = UNOBSERVED,
        facts: RowFacts | None = None,
    ) -> None:
        self._shards, self._observers, self._facts = config.state.shards, observers, facts
        self._encoder = Encoder(config)
        self._keep_raw = config.state.max_entities is not None and config.state.when_full == "refuse"
        self._labels_topic = (config.labels and config.labels.topic) or config.source.topic
        self.read: dict[tuple[str, int], int] = {}
        """Topic and partition → offset after the last of its events since the start."""
        folder = state_folder(config)
        self._files = None if folder is None else ShardCheckpoints(folder)
        self._undelivered = Undelivered(self._encoder, config.recovery.directory)
        self.key: str | None = None
        """Its key in the dataflow; None before the first batch in a run without earlier state."""
        file = None if resume_state is None else referenced_file(resume_state)
        if self._files is not None and file is not None:
            self.set_engine(self._files.restore(config, file))
            self.key = file.partition("-")[0]
        elif resume_state is None:
            self.set_engine(Engine(config))
        else:
            metadata = SnapshotReader(BytesIO(resume_state)).metadata
            self.set_engine(Engine.restore(with_holidays_of(config, metadata), resume_state))
        directory = None if self._files is None else config.recovery.directory
        self._gaps = GapNotes(directory, self.key, self.engine)
        self._ahead = 0.0  # s an event that a batch has taken before its turn
        observers.register_shard(self)

    def set_engine(self, engine: Engine) -> None:
        """Go on with an engine, whose rows get the facts of context topics."""
        self.engine = engine
        if engine.rows is not None and self._facts is not None:
            engine.rows.join_facts(self._facts)

    def on_batch(self, values: Sequence[Item]) -> tuple[Iterable[PredictedBatch | OutputBatch], bool]:
        out: list[PredictedBatch | OutputBatch] = []
        with explained():
            for some in _cut(values):
                begun = self.begin(some)
                learn_side_by_side([begun])
                out += self.finish(begun)
        return out, StatefulBatchLogic.RETAIN

    def begin(self, values: Sequence[Item], others: int = 0) -> Begun:
        """Return what `learn_side_by_side` learns before `finish`. others: events that it learns of other shards"""
        if self.key is None:
            self._identify(values[0])
        out: list[PredictedBatch | OutputBatch] = []
        items = list(self._with_rows(values, out))
        batches = [each for each in items if isinstance(each, ShardBatch)]
        cuts = [self._observers.positions_to_explain(each.events.entity) for each in batches]
        tasks: list[Task] = []
        if batches and len(batches) == len(items) and not any(cuts):
            tasks = self.engine.begin([(each.events, self._encoder.source_of(each)) for each in batches], others)
        return Begun(items, out, cuts, tasks)

    def finish(self, begun: Begun) -> list[PredictedBatch | OutputBatch]:
        """Return the results of batches that have begun."""
        self._ahead, out = begun.seconds, begun.out
        for batch in self._split(begun.items, begun.cuts):
            if isinstance(batch, CaughtUp):
                out += self._undelivered.compare(str(self.key), self.engine, batch)
            else:
                out += self._learn_labels(batch) if isinstance(batch, LabelBatch) else self._process(batch)
        return out

    def _identify(self, batch: Item) -> None:
        """Set the shard, which Bytewax does not pass on, by the first entity, and find what a reset left to it."""
        if isinstance(batch, CaughtUp):
            shard = batch.shard
        else:
            names = batch.labels.entity if isinstance(batch, LabelBatch) else batch.events.entity
            shard = shard_of(names[0], self._shards)
        self.key = shard_key(shard)
        if self._files is not None:
            self._files.shard = shard
            add_ended(self.engine, self._files.folder.parent, shard)

    def _with_rows(self, values: Sequence[Item], out: list[PredictedBatch | OutputBatch]) -> Iterator[Item]:
        """Yield the batches, with rows in place of messages that are none; append the dead letters to `out`."""
        for batch in values:
            if isinstance(batch, ShardBatch):
                place = (self._encoder.topic_of(batch), batch.partition)
                self.read[place] = max(batch.offsets[-1] + 1, self.read.get(place, 0))
            if self.engine.rows is None or not isinstance(batch, ShardBatch):
                yield batch
                continue
            rows = self.engine.rows.add(batch.events, batch.offsets, self._encoder.source_of(batch))
            if rows.late and not batch.again:
                out.append(self._encoder.encode_refused(batch, rows.late, "rows"))
            if self._facts is not None and (letters := self._facts.pop_letters()) and not batch.again:
                first = batch.offsets[0]
                caused = [letter._replace(offset=first) for letter in letters]
                out.append(OutputBatch(place[0], batch.partition, first, first, caused))
            if len(rows):
                yield batch.with_rows(rows, keep_raw=self._keep_raw)

    def _split(self, items: Iterable[Item], cuts: Iterable[list[int]]) -> Iterator[Item]:
        """Yield the items, batches of events cut before the events whose predictions an observer explains.

        An explanation needs the state before its event. No result depends on how events are cut into batches.

        cuts: of each batch of events
        """
        left = iter(cuts)
        for batch in items:
            if isinstance(batch, ShardBatch) and (own := next(left)):
                begin = 0
                for cut in own:
                    if cut > begin:
                        yield batch.slice(begin, cut)
                    event = batch.events.take(np.array([cut]))
                    self._observers.explain(self.engine, event, self._encoder.source_of(batch))
                    begin = cut
                batch = batch.slice(begin, len(batch.events))
            yield batch

    def _process(self, batch: ShardBatch) -> list[PredictedBatch | OutputBatch]:
        """Predict and learn a batch of events; returns the predictions and alerts, after the dead letters."""
        out: list[PredictedBatch | OutputBatch] = []
        source = self._encoder.source_of(batch)
        self.engine.episodes.set_control(batch.control)
        marked = self.engine.episodes.mark(batch.events, self._encoder.event_ids(batch))
        events, refused = self.engine.admit(marked, source)
        if refused and not batch.again:
            out.append(self._encoder.encode_refused(batch, refused))
        batch = batch.without(refused, events)
        if not len(events):
            return out
        began = time.perf_counter()
        predictions, alerts = self.engine.process(events, source, self._encoder.event_ids(batch))
        chunk = ChunkPlace(self._encoder.topic_of(batch), batch.partition, batch.chunk, len(events))
        self._observers.observe_stage("learn", time.perf_counter() - began + self._ahead * len(events), chunk)
        learned = LearnedBatch(source, events, predictions, batch.offsets[0], batch.offsets[-1])
        self._observers.on_batch(self, learned)
        self._observers.on_evicted(self.engine.pop_evicted_count())
        ended = self.engine.summaries.pop_ended()
        if batch.again:
            self._undelivered.add(str(self.key), alerts, self._encoder.event_ids(batch))
            self.engine.pop_unmatched_labels()
            return out
        gaps = self._gaps.of_batch(self._encoder.topic_of(batch), batch.partition, events.entity, batch.offsets)
        return [*out, PredictedBatch(batch, predictions, alerts, ended, gaps or None), *self._unmatched(batch)]

    def _learn_labels(self, batch: LabelBatch) -> list[PredictedBatch | OutputBatch]:
        """Learn delayed labels; returns the predictions that they resolved."""
        source = self._encoder.source_of(batch)
        place, end = (batch.topic or self._labels_topic, batch.partition), int(batch.labels.position[-1]) + 1
        self.read[place] = max(end, self.read.get(place, 0))
        with self._observers.timed("learn"):
            outcome = self.engine.learn(batch.labels, source, self._encoder.label_ids(batch))
        self._observers.on_labels(self, batch.labels.entity, source)
        if batch.again:
            self._undelivered.add(str(self.key), outcome.alerts, self._encoder.label_ids(batch))
            self.engine.pop_unmatched_labels()
            return []
        return [self._encoder.encode_labelled(batch, outcome), *self._unmatched(batch)]

    def _unmatched(self, batch: ShardBatch | LabelBatch) -> list[OutputBatch]:
        """Return dead letters for the labels that a batch has left without an event for good."""
        unmatched = self.engine.pop_unmatched_labels()
        return [self._encoder.encode_unmatched(batch, unmatched)] if unmatched else []

    def snapshot(self) -> bytes:
        with explained():
            return self.engine.snapshot() if self._files is None else self._write_snapshot(self._files)

    def follow_rewind(self, stored: Callable[[str], UndeliveredFile]) -> None:
        """Note in a store what consumers do not have of events that are read again. stored: opens a shard's file"""
        self._undelivered = Undelivered(self._encoder, None, stored)

    def write_notes(self) -> None:
        """Write what consumers do not have, before the snapshot."""
        self._undelivered.write()

    def _write_snapshot(self, files: ShardCheckpoints) -> bytes:
        began = time.perf_counter()
        self._observers.before_snapshot(self)
        self._undelivered.write()
        self._gaps.write()
        with on_disk(files.folder.parent):
            state = files.write(self.engine)
        seconds = time.perf_counter() - began
        self._observers.on_snapshot(self, referenced_file(state) or "", seconds, files.written)
        self._observers.on_evicted(self.engine.pop_evicted_count())
        return state
