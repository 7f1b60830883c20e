"""How a run is observed: what source, shard operator and sink report, and to whom.

The dataflow holds one `RunObserver` and calls it once a batch, never once an event. Metrics, traces, the audit and the
live page are observers; each overrides what it needs. `Observers` passes every call on to several.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol
from wsgiref.types import StartResponse, WSGIEnvironment

from ssm_stream.core.loop import Predictions
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.verdicts import AlertAcknowledgement, Verdict


class PartitionPosition(NamedTuple):
    """How far a partition has been read."""

    topic: str
    partition: int
    next: int  # offset of the next message to process
    lag: int | None  # messages from there to the end; None: not known yet
    caught_up: bool  # has been at its end, or within a batch of it, since the start
    read_at: float = math.nan  # when a message of it was last read, s since 1970; until then, when the reading began


class ReaderReport(Protocol):
    """A reader of one topic, as metrics and health checks see it."""

    def positions(self) -> list[PartitionPosition]:
        """Return the position of each of its partitions."""

    @property
    def away(self) -> bool:
        """Whether no broker is reachable."""


class ObservedShard(Protocol):
    """A shard of entities, as observers see it."""

    @property
    def key(self) -> str | None:
        """Its key in the dataflow; None before its first batch in a run without earlier state."""

    @property
    def engine(self) -> Engine:
        """Its engine."""

    @property
    def read(self) -> Mapping[tuple[str, int], int]:
        """Topic and partition → offset after the last of its events since the start."""


class ChunkPlace(NamedTuple):
    """A chunk of consecutive messages of one partition."""

    topic: str
    partition: int
    first: int  # offset of its first message
    messages: int


class LearnedBatch(NamedTuple):
    """Events of one partition that were predicted and learned; their messages' offsets lie in [first, last].

    partition: its `Source.number`, with one topic the partition itself
    """

    partition: int
    events: Events
    predictions: Predictions
    first: int
    last: int


class Sent(NamedTuple):
    """How a message other than a prediction is counted: an alert by kind, phase and scope, a suppressed one by kind,
    phase and what suppresses it (fleet or shadow), a dead letter by stage and reason."""

    what: str
    labels: tuple[str, ...]


class SentRecord(Protocol):
    """An alert, a dead letter or another message that was handed to the producer."""

    @property
    def value(self) -> bytes | None:
        """Its value, encoded."""

    @property
    def sent(self) -> Sent | None:
        """How it is counted; None: not at all."""


class SentBatch(NamedTuple):
    """What was handed to the producer for one batch.

    `events` and `predicted` are those of a batch of events, and None for dead letters of the decoder. `partition` is as
    of `LearnedBatch`.
    """

    predictions: int  # prediction messages
    records: Sequence[SentRecord]  # all other messages
    partition: int = 0
    events: Events | None = None
    predicted: Predictions | None = None
    timestamps: Sequence[int] = ()  # of some of the messages predicted from, ms


class RunObserver:
    """Observes a run; ignores everything it does not override.

    The threads of readers, shards and producers call it, several at a time: no method may wait for long, and only the
    audit's may raise (a record that cannot be written stops the run).
    """

    # Source.

    def register_reader(self, reader: ReaderReport) -> None:
        """A topic has a reader from now on."""

    def on_read(self, topic: str, messages: int) -> None:
        """Messages of a topic were read and decoded."""

    def on_left(self, place: PartitionPosition) -> None:
        """A partition is read no more. place: how far it was read"""

    def on_passed_by(self, messages: int) -> None:
        """Messages were read whose entities `event.only` leaves out; none, too."""

    def on_missing_paths(self, paths: int) -> None:
        """So many configured paths are in none of the first messages."""

    def on_durable(self, topic: str, partition: int, offset: int) -> None:
        """What was learned from the messages before an offset is on the disk."""

    # Each stage.

    def observe_stage(self, stage: str, seconds: float, chunk: ChunkPlace | None = None) -> None:
        """A batch has passed one of `metrics.STAGES`. chunk: its messages, at the stages that are traced"""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Observe the time of a `with` block as that of a stage."""
        began = time.perf_counter()
        yield
        self.observe_stage(stage, time.perf_counter() - began)

    # Shard operator.

    def register_shard(self, shard: ObservedShard) -> None:
        """A shard is in memory from now on."""

    def positions_to_explain(self, names: Sequence[str]) -> list[int]:
        """Return the positions in a batch, ascending, whose predictions `explain` must see before they are made.

        Args:
            names: entity of each event
        """
        return []

    def explain(self, engine: Engine, event: Events, partition: int) -> None:
        """Explain the prediction of the event that the engine processes next."""

    def on_batch(self, shard: ObservedShard, batch: LearnedBatch) -> None:
        """A batch was predicted and learned."""

    def on_labels(self, shard: ObservedShard, names: list[str], partition: int) -> None:
        """Labels of these entities were learned, and have resolved `shard.engine.resolved_predictions`."""

    def on_evicted(self, entities: int) -> None:
        """Entities were evicted."""

    def before_snapshot(self, shard: ObservedShard) -> None:
        """The state of a shard is about to be written."""

    def on_snapshot(self, shard: ObservedShard, file: str, seconds: float, size: int) -> None:
        """The state of a shard was written to a file of that name and size, in bytes."""

    # Sink.

    def on_sent(self, sent: SentBatch) -> None:
        """Messages were handed to the producer."""

    def on_epoch(self, seconds: float | None) -> None:
        """An epoch ended with all its messages delivered. seconds: since the one before, None for a writer's first"""

    # Feedback.

    def on_verdict(self, verdict: Verdict) -> None:
        """An operator's verdict on an alert was read."""

    def on_acknowledged(self, acknowledgement: AlertAcknowledgement) -> None:
        """That somebody attends to an alert was read."""

    def close(self) -> None:
        """The run has ended."""


class Observers(RunObserver):
    """Passes every call on to each of several observers."""

    def __init__(self, *observers: RunObserver) -> None:
        self._all = observers

    def register_reader(self, reader: ReaderReport) -> None:
        for each in self._all:
            each.register_reader(reader)

    def on_read(self, topic: str, messages: int) -> None:
        for each in self._all:
            each.on_read(topic, messages)

    def on_left(self, place: PartitionPosition) -> None:
        for each in self._all:
            each.on_left(place)

    def on_passed_by(self, messages: int) -> None:
        for each in self._all:
            each.on_passed_by(messages)

    def on_missing_paths(self, paths: int) -> None:
        for each in self._all:
            each.on_missing_paths(paths)

    def on_durable(self, topic: str, partition: int, offset: int) -> None:
        for each in self._all:
            each.on_durable(topic, partition, offset)

    def observe_stage(self, stage: str, seconds: float, chunk: ChunkPlace | None = None) -> None:
        for each in self._all:
            each.observe_stage(stage, seconds, chunk)

    def register_shard(self, shard: ObservedShard) -> None:
        for each in self._all:
            each.register_shard(shard)

    def positions_to_explain(self, names: Sequence[str]) -> list[int]:
        found = [at for each in self._all for at in each.positions_to_explain(names)]
        return sorted(set(found)) if found else found

    def explain(self, engine: Engine, event: Events, partition: int) -> None:
        for each in self._all:
            each.explain(engine, event, partition)

    def on_batch(self, shard: ObservedShard, batch: LearnedBatch) -> None:
        for each in self._all:
            each.on_batch(shard, batch)

    def on_labels(self, shard: ObservedShard, names: list[str], partition: int) -> None:
        for each in self._all:
            each.on_labels(shard, names, partition)

    def on_evicted(self, entities: int) -> None:
        for each in self._all:
            each.on_evicted(entities)

    def before_snapshot(self, shard: ObservedShard) -> None:
        for each in self._all:
            each.before_snapshot(shard)

    def on_snapshot(self, shard: ObservedShard, file: str, seconds: float, size: int) -> None:
        for each in self._all:
            each.on_snapshot(shard, file, seconds, size)

    def on_sent(self, sent: SentBatch) -> None:
        for each in self._all:
            each.on_sent(sent)

    def on_epoch(self, seconds: float | None) -> None:
        for each in self._all:
            each.on_epoch(seconds)

    def on_verdict(self, verdict: Verdict) -> None:
        for each in self._all:
            each.on_verdict(verdict)

    def on_acknowledged(self, acknowledgement: AlertAcknowledgement) -> None:
        for each in self._all:
            each.on_acknowledged(acknowledgement)

    def close(self) -> None:
        for each in self._all:
            each.close()


UNOBSERVED = RunObserver()
"""Observes nothing."""


class MountedSite(Protocol):
    """A WSGI application that the HTTP server of metrics and health serves at `/` and below `/ui`."""

    def open(self, port: int) -> None:
        """Prepare for requests; the server listens on this port."""

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Respond to a request."""

    def close(self) -> None:
        """End the open responses."""
