"""The engine as a Bytewax operator: one logic, one engine, one snapshot a shard."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator

import numpy as np
from bytewax.operators import StatefulBatchLogic

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import LabelBatch, OutputBatch, PredictedBatch, ShardBatch, shard_key
from ssm_stream.kernels.loop import Predictions
from ssm_stream.ops.audit import Auditor
from ssm_stream.ops.metrics import Metrics
from ssm_stream.recovery.checkpoint_files import ShardCheckpoints, referenced_file, state_folder


class ShardLogic(StatefulBatchLogic[ShardBatch | LabelBatch, PredictedBatch | OutputBatch, bytes]):
    """Predicts and learns the events of one shard, and their labels where these come by themselves.

    A snapshot is the name of a file in the recovery directory; where there is none, the state itself.
    """

    def __init__(self, config: Config, resume_state: bytes | None, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics(config)
        self._topic = config.source.topic
        self._latest = -math.inf  # of the events' times so far, ms
        folder = state_folder(config)
        self._files = None if folder is None else ShardCheckpoints(folder)
        name = None if resume_state is None else referenced_file(resume_state)
        if self._files is not None and name is not None:
            self._engine = self._files.restore(config, name)
        else:
            self._engine = Engine(config) if resume_state is None else Engine.restore(config, resume_state)
        self._shards, self._nameless = config.state.shards, name is None
        self._encoder = Encoder(config)
        self._audit = None if config.audit.directory is None else Auditor(config.audit.directory, config.hash)
        if self._audit is not None and name is not None:
            self._audit.take(name.partition("-")[0])
        self._metrics.ask_shard(self)

    def entities(self) -> int:
        """Live ones."""
        return len(self._engine)

    def episodes(self, kind: str) -> int:
        """Entities with an open episode of that kind."""
        return self._engine.count_open_episodes(kind)

    def fullness(self) -> float | None:
        """Share of `state.max_entities` that the fullest source has; None without a limit."""
        return self._engine.fullness

    def on_batch(self, values: list[ShardBatch | LabelBatch]) -> tuple[Iterable[PredictedBatch | OutputBatch], bool]:
        out: list[PredictedBatch | OutputBatch] = []
        for batch in self._pieces(values):
            if isinstance(batch, LabelBatch):
                with self._metrics.timed("learn"):
                    outcome = self._engine.learn(batch.labels, batch.partition)
                self._judge_late(batch.labels.entity, batch.partition)
                out.append(self._encoder.encode_labelled(batch, outcome))
            else:
                events, refused = self._engine.admit(batch.events, batch.partition)
                if refused:
                    out.append(self._encoder.encode_refused(batch, refused))
                batch = batch.without(refused, events)
                if not len(events):
                    continue
                began = time.perf_counter()
                judged = PredictedBatch(batch, *self._engine.process(events, batch.partition))
                took = time.perf_counter() - began
                self._metrics.traced("learn", took, self._topic, batch.partition, batch.chunk, len(events))
                out.append(judged)
                if self._audit is not None:
                    self._audit.saw(events, batch.partition, batch.offsets[0], batch.offsets[-1])
                self._count(events, judged.predictions, batch.partition)
            if unmatched := self._engine.pop_unmatched_labels():
                out.append(self._encoder.encode_unmatched(batch, unmatched))
        if self._nameless and self._files is not None:
            first = values[0]
            names = first.labels.entity if isinstance(first, LabelBatch) else first.events.entity
            shard = shard_of(names[0], self._shards)
            self._files.shard = shard
            if self._audit is not None:
                self._audit.take(shard_key(shard))
            self._nameless = False
        return out, StatefulBatchLogic.RETAIN

    def _pieces(self, values: list[ShardBatch | LabelBatch]) -> Iterator[ShardBatch | LabelBatch]:
        """The batches; where the live page wants a prediction taken apart, cut before its event, and that is done when
        all before it is learned. No result depends on how events are cut into batches."""
        page = self._metrics.page
        for batch in values:
            if page is not None and isinstance(batch, ShardBatch) and (cuts := page.wanted(batch.events.entity)):
                begin = 0
                for cut in cuts:
                    if cut > begin:
                        yield batch.slice(begin, cut)
                    page.look(self._engine, batch.events.take(np.array([cut])), batch.partition)
                    begin = cut
                batch = batch.slice(begin, len(batch.events))
            yield batch

    def _count(self, events: Events, predictions: Predictions, source: int) -> None:
        """What the metrics are to know of a batch."""
        metrics, engine = self._metrics, self._engine
        without = np.isnan(events.target)
        labelled = len(events) - int(np.count_nonzero(without if without.ndim == 1 else without.all(axis=1)))
        latest = max(self._latest, float(events.ts.max()))
        ahead = (latest - self._latest) / 1000 if math.isfinite(self._latest) else 0.0
        self._latest = latest
        metrics.learned(len(events), labelled, len(engine), ahead)
        metrics.evicted(engine.pop_evicted_count())
        if engine.late:
            self._judge_late(events.entity, source)
            return
        y, p = events.target, predictions
        if y.ndim == 1:
            (quality,) = metrics.quality.values()
            quality.add(events.entity, y, p.yhat, p.lower, p.upper, p.warmup, source)
            return
        for j, quality in enumerate(metrics.quality.values()):
            quality.add(events.entity, y[:, j], p.yhat[:, j], p.lower[:, j], p.upper[:, j], p.warmup[:, j], source)

    def _judge_late(self, names: list[str], source: int) -> None:
        """Predictions that have met their targets. names: of the events or labels that brought them"""
        for quality, settled in zip(self._metrics.quality.values(), self._engine.resolved_predictions, strict=True):
            s = settled
            quality.add([names[i] for i in s.item.tolist()], s.y, s.yhat, s.lower, s.upper, s.warmup, source)

    def snapshot(self) -> bytes:
        if self._files is None:
            return self._engine.snapshot()
        began = time.perf_counter()
        hashes = {} if self._audit is None else self._audit.hashes(self._engine)
        name = self._files.write(self._engine)
        if self._audit is not None:
            self._audit.write(referenced_file(name) or "", hashes)
        self._metrics.wrote(time.perf_counter() - began, self._files.written)
        self._metrics.evicted(self._engine.pop_evicted_count())
        return name
