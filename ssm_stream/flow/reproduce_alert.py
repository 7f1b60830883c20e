"""An alert made again from the events: the topic's partition from its beginning (or an exported state) to the event,
through the production decoder, engine and encoder, and the message compared with what was sent, to the bit.

What an entity is told depends on the events of its partition and shard in their order (`engine.py`), so the other
partitions need not be read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from ssm_stream.config import Config, Source
from ssm_stream.config.changes import diff_settings
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import Explanation, explain, spread_evenly
from ssm_stream.flow.feedback import all_messages
from ssm_stream.kafka.client import BrokerError, LastError, check_broker, metadata_client, scrubbed
from ssm_stream.kafka.codec import Chunk, Decoder, Encoder, ShardBatch, offset_of
from ssm_stream.recovery.export import load_exported_engines

ID = re.compile(
    r"(?P<topic>.+)-(?P<partition>\d+)-(?P<offset>\d+)-(?P<kind>anomaly|drift)(?P<more>(?:-fleet)?(?:-\d+)?)"
)
MOST = 5000
"""Messages that are decoded at a time."""


class NotReplayableError(LookupError):
    """The alert cannot be made again from here; the text says why, and what to do."""


class AlertId(NamedTuple):
    """Where an alert comes from, as its id says."""

    text: str
    topic: str
    partition: int
    offset: int


class Difference(NamedTuple):
    """A field whose replayed value is another than the sent one."""

    path: str
    sent: Any
    replayed: Any


class Audited(NamedTuple):
    """An entity's state by the audit: after that offset of the partition, the hash."""

    next: int
    hash: str


class Replayed(NamedTuple):
    """An alert made again.

    sent, replayed: the messages, `sent` None where none was at hand; same: their bytes are equal
    first, events, seconds: offset that the replay began at, events processed, and what it took
    explanation: of the prediction at the event, None where its target comes later; history: of earlier ones
    audited: records of the audit that were compared on the way; broken: those whose hash differs
    """

    id: AlertId
    sent: dict[str, Any] | None
    replayed: dict[str, Any]
    same: bool | None
    differences: list[Difference]
    first: int
    events: int
    seconds: float
    explanation: Explanation | None
    history: list[Explanation]
    audited: int
    broken: list[Audited]


def alert_id(text: str) -> AlertId | None:
    """The parts of an alert's id; None where it is none."""
    found = ID.fullmatch(text)
    return None if found is None else AlertId(text, found["topic"], int(found["partition"]), int(found["offset"]))


def sent_alert(config: Config, wanted: AlertId) -> bytes | None:
    """The alert as it lies on the topic; None where it is there no more.

    Raises:
        BrokerError: no such topic, or a broker that refuses or does not answer.
    """
    if config.sinks.alerts is None:
        return None
    source = config.source.model_copy(update={"topic": config.sinks.alerts, "partitions": None})
    remember = LastError(source)
    try:
        messages = all_messages(source, check_broker(source).source_partitions(source), remember)
    except KafkaException as error:
        reason = scrubbed(str(error.args[0]), source.kafka)
        raise BrokerError(f"topic {source.topic!r} on {source.brokers}: {reason}", remember.cure) from error
    for message in messages:
        value = message.value()
        if value is not None and f'"{wanted.text}"'.encode() in value and orjson.loads(value).get("id") == wanted.text:
            return value
    return None


def replay_alert(
    config: Config,
    wanted: AlertId,
    sent: bytes | None,
    *,
    state: Path | None = None,
    history: int = 0,
    audit: Sequence[tuple[int, dict[str, str]]] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Replayed:
    """Make an alert again.

    Args:
        config: with its features
        sent: the message to compare with
        state: an export (`ssm-stream state export`) to begin from, made before the alert
        history: of so many of the entity's earlier predictions, evenly, explanations too
        audit: by next offset of the partition: entity → hash of its state then
        on_progress: called with the messages read, and those there are to read

    Raises:
        NotReplayableError: the events are there no more, or do not give that alert, …
        BrokerError, StateError, OSError: the topic or the state cannot be read.
    """
    _require_replayable(config, wanted)
    began = time.monotonic()
    engines, first = _beginning(config, wanted, state)
    entity = orjson.loads(sent).get("entity") if sent is not None else None
    stops: list[int] = []
    if history and isinstance(entity, str):
        stops = spread_evenly(_offsets_of(config, wanted, first, entity, on_progress), history)
    run = _Run(config, wanted, engines, entity, stops, dict(audit))
    low, total = first, wanted.offset - first + 1
    for chunk in _chunks(config.source, wanted, first):
        if low == first and (at := offset_of(chunk.messages[0])) > first and state is None:
            low = at  # offsets that hold notes of transactions, or that the topic has dropped
        run.take(chunk)
        on_progress(offset_of(chunk.messages[-1]) + 1 - first, total)
    if run.value is None:
        raise NotReplayableError(
            f"{wanted.text}: the events from offset {low} on do not give this alert: the state did not begin with them "
            "(give an export from before the alert by --state), the configuration was another, or the topic is not "
            "keyed by entity"
        )
    replayed = orjson.loads(run.value)
    content = None if sent is None else orjson.loads(sent)
    differences = [] if content is None else [Difference(*row) for row in diff_settings(content, replayed)]
    same = None if sent is None else run.value == sent
    return Replayed(
        wanted, content, replayed, same, differences, low, run.events, time.monotonic() - began, run.explanation,
        run.history, run.audited, run.broken,
    )  # fmt: skip


def _require_replayable(config: Config, wanted: AlertId) -> None:
    if wanted.topic != config.source.topic:
        raise NotReplayableError(
            f"{wanted.text} is of topic {wanted.topic!r}, and this configuration reads {config.source.topic!r}"
            + ("; alerts that a label brought cannot be replayed yet" if config.labels is not None else "")
        )
    if config.labels is not None and config.labels.topic is not None:
        raise NotReplayableError(
            "with labels on a topic of their own the order of two topics decides, which nobody has kept: the alert "
            "cannot be replayed"
        )


def _beginning(config: Config, wanted: AlertId, state: Path | None) -> tuple[dict[str, Engine], int]:
    """The engines to begin with by shard, and the first offset."""
    if state is not None:
        engines, positions = load_exported_engines(state, config)
        first = positions.get(wanted.partition, 0)
        if first > wanted.offset:
            raise NotReplayableError(
                f"{state} was made after the alert: it goes on at offset {first} of partition {wanted.partition}"
            )
        return engines, first
    return {}, 0


class _Run:
    """The engines on their way to the event."""

    def __init__(
        self,
        config: Config,
        wanted: AlertId,
        engines: dict[str, Engine],
        entity: str | None,
        stops: list[int],
        audit: dict[int, dict[str, str]],
    ) -> None:
        self._config, self._wanted, self._engines, self._entity = config, wanted, engines, entity
        self._decode, self._encode = Decoder(config), Encoder(config)
        self._audit, self._stops = audit, {wanted.offset, *stops}
        self._cuts = sorted({*self._stops, *(n for n in audit if n <= wanted.offset)})
        self.value: bytes | None = None
        self.events = self.audited = 0
        self.explanation: Explanation | None = None
        self.history: list[Explanation] = []
        self.broken: list[Audited] = []

    def take(self, chunk: Chunk) -> None:
        """Process a chunk, cut where something is to be looked at before its message."""
        messages = chunk.messages
        while messages:
            at = offset_of(messages[0])
            while self._cuts and self._cuts[0] < at:
                self._cuts.pop(0)  # no message has that offset
            cut = self._cuts[0] if self._cuts else None
            size = next((i for i, m in enumerate(messages) if cut is not None and offset_of(m) >= cut), len(messages))
            if size:
                self._process(chunk, messages[:size])
            if size < len(messages):
                assert cut is not None
                self._cuts.pop(0)
                self._look(chunk, messages[size], cut)
                self._process(chunk, messages[size : size + 1])
            messages = messages[size + 1 :]

    def _process(self, chunk: Chunk, messages: list[Message]) -> None:
        partition = chunk.partition
        for key, item in self._decode(Chunk(chunk.topic, partition, messages)):
            if not isinstance(item, ShardBatch):
                continue
            engine = self._engine(key)
            events, refused = engine.admit(item.events, partition)
            batch = item.only(events, refused)
            if not len(events):
                continue
            self.events += len(events)
            predictions, alerts = engine.process(events, partition)
            mine = [alert for alert in alerts if batch.offsets[alert.row] == self._wanted.offset]
            for record in self._encode(batch, predictions, mine).others:
                value = record.value or b""
                if orjson.loads(value)["id"] == self._wanted.text:
                    self.value = value

    def _engine(self, key: str) -> Engine:
        engine = self._engines.get(key)
        if engine is None:
            engine = self._engines[key] = Engine(self._config)
        return engine

    def _look(self, chunk: Chunk, message: Message, cut: int) -> None:
        """Before a message: its prediction taken apart, the entities' states held to the audit."""
        if cut in self._audit:
            self._compare(chunk.partition, cut)
        if offset_of(message) not in self._stops:
            return
        for key, item in self._decode(Chunk(chunk.topic, chunk.partition, [message])):
            if not isinstance(item, ShardBatch) or self._config.labels is not None:
                continue
            found = self._explained(self._engine(key), item, chunk.partition)
            if found is not None and cut == self._wanted.offset:
                self.explanation = found
            if found is not None and (self._entity is None or found.entity == self._entity):
                self.history.append(found)

    def _explained(self, engine: Engine, batch: ShardBatch, partition: int) -> Explanation | None:
        horizon = self._config.model.horizon
        if horizon.events or horizon.seconds:
            return None
        try:
            return explain(engine.target_engines[0], batch.events, partition)
        except KeyError:
            return None  # the entity's first event

    def _compare(self, partition: int, cut: int) -> None:
        for entity, expected in self._audit[cut].items():
            for engine in self._engines.values():
                if entity in engine:
                    self.audited += 1
                    if engine.state_hash(entity, partition) != expected:
                        self.broken.append(Audited(cut, expected))


def _offsets_of(
    config: Config, wanted: AlertId, first: int, entity: str, on_progress: Callable[[int, int], None]
) -> list[int]:
    """Of the entity's events up to the alert's."""
    decode, found, total = Decoder(config), list[int](), wanted.offset - first + 1
    for chunk in _chunks(config.source, wanted, first):
        for _, item in decode(chunk):
            if isinstance(item, ShardBatch):
                found += [at for at, name in zip(item.offsets, item.events.entity, strict=True) if name == entity]
        on_progress(offset_of(chunk.messages[-1]) + 1 - first, total)
    return found


def _chunks(source: Source, wanted: AlertId, first: int) -> Iterator[Chunk]:
    """The partition's messages from an offset to the alert's, some at a time.

    Raises:
        NotReplayableError: the topic does not go as far, or does no longer hold the event.
        BrokerError: the broker refuses, or does not answer.
    """
    remember = LastError(source)
    settings: dict[str, str | bool] = {
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
    }
    place = TopicPartition(source.topic, wanted.partition)
    try:
        with metadata_client(source, remember, **settings) as client:
            if wanted.partition not in check_broker(source).partitions_of(source.topic):
                raise NotReplayableError(f"{wanted.text}: the topic has no partition {wanted.partition}")
            low, high = client.get_watermark_offsets(place, timeout=source.wait)
            if not max(low, first) <= wanted.offset < high:
                raise NotReplayableError(
                    f"{wanted.text}: partition {wanted.partition} of {source.topic!r} holds offsets {low} to "
                    f"{high - 1} now: the event is there no more"
                )
            if first and low > first:
                raise NotReplayableError(
                    f"{wanted.text}: the state goes on at offset {first}, and the topic begins at {low} now"
                )
            client.assign([TopicPartition(source.topic, wanted.partition, first if first else OFFSET_BEGINNING)])
            yield from _until(client, source, wanted, remember)
    except KafkaException as error:
        reason = scrubbed(str(error.args[0]), source.kafka)
        raise BrokerError(f"topic {source.topic!r} on {source.brokers}: {reason}", remember.cure) from error


def _until(client: Any, source: Source, wanted: AlertId, remember: LastError) -> Iterable[Chunk]:
    heard = time.monotonic()
    while True:
        messages: list[Message] = []
        ended = False
        for message in client.consume(MOST, 0.2):
            heard, error = time.monotonic(), message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended = True
            elif not error.retriable():
                raise KafkaException(error)
        messages = [m for m in messages if offset_of(m) <= wanted.offset]
        if messages:
            yield Chunk(source.topic, wanted.partition, messages)
            if offset_of(messages[-1]) == wanted.offset:
                return
        if ended:
            raise NotReplayableError(f"{wanted.text}: there is no message at offset {wanted.offset}")
        if time.monotonic() - heard > source.wait:
            text = f"topic {source.topic!r} on {source.brokers} did not answer for {source.wait:g} s (source.wait)"
            raise BrokerError(text + (f": {remember.text}" if remember.text else ""), remember.cure)
