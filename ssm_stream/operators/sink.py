"""The sink of the dataflow: predictions, alerts and dead letters, through one sink, so that they go out together.

An epoch is complete only when the broker has every message of it; a message that it does not take stops the dataflow
with the broker's own words.
"""

from __future__ import annotations

import queue
import threading
import time

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from ssm_stream.config import Config
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.producer import Marker, OutputProducer
from ssm_stream.kafka.records import OutputBatch, PredictedBatch
from ssm_stream.kafka.transactional_producer import Part, Sources, TransactionalProducer, max_output_bytes
from ssm_stream.operators.failures import explained
from ssm_stream.ops.observers import UNOBSERVED, ChunkPlace, RunObserver, SentBatch

AHEAD = 8
"""Batches that wait to be encoded: as many as come until a new client may send, half a second after its start."""


class KafkaSink(FixedPartitionedSink[PredictedBatch | OutputBatch, Marker | None]):
    """A fixed number of producers; a shard's output always goes through the same one. Delivers at least once."""

    def __init__(self, config: Config, observers: RunObserver = UNOBSERVED) -> None:
        self.config, self.observers = config, observers

    def list_parts(self) -> list[str]:
        return [f"{i:04d}" for i in range(self.config.writers)]

    def part_fn(self, item_key: str) -> int:
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: Marker | None) -> KafkaWriter:
        return KafkaWriter(self.config, OutputProducer(self.config), self.observers)


class TransactionalSink(KafkaSink):
    """`KafkaSink` whose writers commit an epoch's output, of all topics, together. Delivers exactly once.

    sources: all that is read
    """

    def __init__(self, config: Config, sources: Sources, observers: RunObserver = UNOBSERVED) -> None:
        super().__init__(config, observers)
        self.sources = sources
        self.max_bytes = max_output_bytes(config)

    def build_part(self, step_id: str, for_part: str, resume_state: Marker | None) -> KafkaWriter:
        part = Part(for_part, self.sources, resume_state or {}, self.max_bytes)
        return KafkaWriter(self.config, TransactionalProducer(self.config, part), self.observers)


class KafkaWriter(StatefulSinkPartition[PredictedBatch | OutputBatch, Marker | None]):
    """One producer, and a thread that encodes for it while the worker computes.

    `write_batch` waits only if more than a few batches are still to be encoded; `snapshot` waits until the broker has
    everything. Either raises what the thread raised.
    """

    def __init__(self, config: Config, producer: OutputProducer, observers: RunObserver = UNOBSERVED) -> None:
        self._producer = producer
        self._observers = observers
        self._epoch_began: float | None = None
        self._encoder = Encoder(config)
        self._queue: queue.Queue[list[PredictedBatch | OutputBatch] | None] = queue.Queue(AHEAD)
        self._broken: Exception | None = None
        self._awaited = False  # whether the epoch's end waits for what is in the queue
        producer.hurried = lambda: self._awaited or self._queue.qsize() > 1
        self._thread = threading.Thread(target=self._run, name="write", daemon=True)
        self._thread.start()

    def write_batch(self, values: list[PredictedBatch | OutputBatch]) -> None:
        self._raise()
        self._queue.put(values)

    def snapshot(self) -> Marker | None:
        with self._observers.timed("deliver"):
            self._join()
            self._raise()
            with explained():
                marker = self._producer.deliver()
        now, before = time.monotonic(), self._epoch_began
        self._observers.on_epoch(None if before is None else now - before)
        self._epoch_began = now
        return marker

    def close(self) -> None:
        # Called at the end of input and after an error in any step; an exception here would end the process unreported.
        self._awaited = True
        self._queue.put(None)
        self._thread.join()
        self._producer.close()

    def _join(self) -> None:
        """Wait until the client has all that was written."""
        self._awaited = True
        self._queue.join()
        self._awaited = False

    def _raise(self) -> None:
        if self._broken is None:
            return
        with explained():
            error = self._producer.explain(self._broken)
            if error is not self._broken:
                raise error from self._broken
            raise error

    def _run(self) -> None:
        self._producer.fetch_metadata()
        while (values := self._queue.get()) is not None:
            try:
                if self._broken is None:
                    self._write(values)
            except Exception as error:  # noqa: BLE001  # raised again in the dataflow
                self._broken = error
            finally:
                self._queue.task_done()

    def _write(self, values: list[PredictedBatch | OutputBatch]) -> None:
        for item in values:
            began = time.perf_counter()
            output = self._encoder.encode(*item) if isinstance(item, PredictedBatch) else item
            encoded = time.perf_counter()
            output = self._producer.produce(output)
            self._report(item, output, encoded - began, time.perf_counter() - encoded)
        self._producer.poll()

    def _report(
        self, item: PredictedBatch | OutputBatch, output: OutputBatch, encoding: float, producing: float
    ) -> None:
        """Report what was produced for an item, and the seconds of encoding and producing."""
        sent = SentBatch(len(output.values), output.others)
        if isinstance(item, PredictedBatch):
            batch = item.batch
            self._observers.observe_stage("encode", encoding)
            chunk = ChunkPlace(output.topic, batch.partition, batch.chunk, output.size)
            self._observers.observe_stage("produce", producing, chunk)
            timestamps = batch.timestamps if output.values else ()
            sent = sent._replace(
                partition=self._encoder.source_of(batch),
                events=batch.events,
                predicted=item.predictions,
                timestamps=timestamps,
            )
        self._observers.on_sent(sent)
