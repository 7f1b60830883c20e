"""Computes an alert again from the events of its partition, and compares the message with the one that was sent.

The production decoder, engine and encoder process the partition, from its beginning or an exported state to the event
of the alert; the messages are equal to the last bit.

An entity's alerts depend on the events of its partition and shard in their order (`engine.py`), so the other partitions
need not be read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from ssm_stream.config import Config
from ssm_stream.config.changes import diff_settings
from ssm_stream.engine.alert_kinds import SHADOW
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import Explanation, explain_target, set_language, spread_evenly
from ssm_stream.flow.alert_id import AlertId
from ssm_stream.flow.row_state import row_of, row_state, with_rows
from ssm_stream.flow.sent_alert import sent_content
from ssm_stream.ingest.rows.builder import RowBuilder
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.context.rows import row_facts
from ssm_stream.kafka.context.topic import context_of
from ssm_stream.kafka.control.topic import recorded_stops
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import Chunk, Message, ProducerRecord, ShardBatch, offset_of
from ssm_stream.kafka.topic_reader import FROM_BEGINNING, Span, open_topic
from ssm_stream.recovery.export import load_exported_engines

BATCH, FEW = 5000, 100
"""Messages that are decoded at a time: up to the alert's event, and after it, while the alert waits."""


class NotReproducibleError(LookupError):
    """The alert cannot be computed again. The text has the reason and the cure."""


class Difference(NamedTuple):
    """A field whose computed value differs from the sent one."""

    path: str
    sent: Any
    replayed: Any


class Audited(NamedTuple):
    """The hash of an entity's state in the audit. next: the partition's next offset at that time"""

    next: int
    hash: str


class ReproducedAlert(NamedTuple):
    """An alert that was computed again.

    sent, replayed: the messages, `sent` None if it was not available; same: their bytes are equal
    first, events, seconds: the first offset, number of events processed, and the time that this needed
    explanation: of the prediction at the event, None if its target comes later; history: of earlier ones
    audited: number of the audit's records that were compared; broken: those whose hash differs
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

    @property
    def other_config(self) -> str | None:
        """The hash of the configuration that raised the alert, if it was another one."""
        return next((each.sent for each in self.differences if each.path == "config_hash"), None)

    @property
    def verdict(self) -> str:
        """Return the result of the comparison as a sentence."""
        of = f"{self.events:,} events of {self.id.topic}, partition {self.id.partition}, from offset {self.first}"
        config, state, other = self.replayed["config_hash"], self.replayed["state_hash"], self.other_config
        hashes = f"config hash {config}" if state is None else f"config hash {config}, state hash {state}"
        agree = self.audited - len(self.broken)
        audit = f" The audit's records on the way: {agree} of {self.audited} agree." if self.audited else ""
        if self.same is None:
            return f"Made again from {of} ({hashes}); the sent message was not available for the comparison.{audit}"
        if self.same:
            return f"Made again to the same bits from {of}: {hashes}.{audit}"
        names = ", ".join(difference.path for difference in self.differences[:8]) or "the order of its fields"
        why = f" It was raised with config hash {other}, another configuration: name its file." if other else ""
        return f"Not the same: made again from {of}, it differs in {names}.{why}{audit}"

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "id": self.id.text,
            "same": self.same,
            "verdict": self.verdict,
            "sent": self.sent,
            "replayed": self.replayed,
            "differences": [difference._asdict() for difference in self.differences],
            "first_offset": self.first,
            "events": self.events,
            "seconds": self.seconds,
            "audited": self.audited,
            "broken": [audited._asdict() for audited in self.broken],
            "explanation": None if self.explanation is None else self.explanation.as_json(),
            "history": [each.as_json() for each in self.history],
        }


def reproduce_alert(
    config: Config,
    alert: AlertId,
    sent: bytes | None,
    *,
    state: Path | None = None,
    history: int = 0,
    audit: Sequence[tuple[int, dict[str, str]]] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    language: Literal["en", "ja"] | None = None,
) -> ReproducedAlert:
    """Compute an alert again and compare it with the one that was sent.

    Args:
        config: with its features
        sent: the message to compare with, as JSON
        state: an export (`ssm-stream state export`) to begin from, made before the alert
        history: number of the entity's earlier predictions, evenly spaced, that are explained too
        audit: next offset of the partition → entity → hash of its state at that time
        on_progress: called with the numbers of messages read and to be read
        language: of the alert's sentence; None: the configuration's, as it was sent

    Raises:
        NotReproducibleError: the events no longer exist, do not lead to that alert, …
        BrokerError, StateError, OSError: the topic or the state cannot be read.
    """
    _require_reproducible(config, alert)
    if sent is not None:  # it may have been set otherwise when the alert was sent
        shadow = orjson.loads(sent).get("suppressed_by") == SHADOW
        config = config.replace(alerts=config.alerts.model_copy(update={"shadow": shadow}))
    began = time.monotonic()
    engines, first = _start(config, alert, state)
    message = {} if sent is None else orjson.loads(sent)
    entity = message.get("entity")
    stops: list[int] = []
    if history and isinstance(entity, str):
        stops = spread_evenly(_offsets_of(config, alert, first, entity, on_progress), history)
    run = _Run(config, alert, engines, entity, stops, dict(audit))
    run.language = language
    run.target = message.get("target") or config.event.targets[0]
    low, total = first, alert.offset - first + 1
    for number, chunk in enumerate(_chunks(config, alert, first, run.is_waiting)):
        if number == 0 and state is None:
            low = offset_of(chunk.messages[0])  # above 0: transaction markers, or events that the topic has dropped
        run.process(chunk)
        on_progress(offset_of(chunk.messages[-1]) + 1 - first, total)
    run.finish()
    if run.value is None:
        raise NotReproducibleError(
            f"{alert.text}: the events from offset {low} on do not lead to this alert: the state did not begin "
            "with them (give an export from before the alert by --state), the configuration was another, or the topic "
            "is not keyed by entity; or, of a `recovered`, a reset or a changed configuration ended the episode"
        )
    replayed = orjson.loads(run.value)
    content = None if sent is None else sent_content(config, sent, replayed)
    differences = [] if content is None else [Difference(*row) for row in diff_settings(content, replayed)]
    same = None if sent is None else run.value == sent if config.sinks.format == "json" else content == replayed
    # Without a value the prediction is another entity's.
    explanation = None if replayed["y"] is None else run.explanations.get(replayed.get("target") or run.target)
    return ReproducedAlert(
        alert, content, replayed, same, differences, low, run.events, time.monotonic() - began, explanation,
        run.history, run.audited, run.broken,
    )  # fmt: skip


def _require_reproducible(config: Config, alert: AlertId) -> None:
    if alert.topic not in config.source.names:
        raise NotReproducibleError(
            f"{alert.text} is of topic {alert.topic!r}, and this configuration reads {', '.join(config.source.names)}"
            + ("; an alert that a label caused cannot be computed again" if config.labels is not None else "")
        )
    if config.labels is not None and config.labels.topic is not None:
        raise NotReproducibleError(
            "with labels on a topic of their own the result depends on the order of two topics, which is not recorded: "
            "the alert cannot be computed again"
        )


def _start(config: Config, alert: AlertId, state: Path | None) -> tuple[dict[str, Engine], int]:
    """Return the engines to begin with, by shard, and the first offset."""
    if state is not None:
        engines, positions = load_exported_engines(state, config)
        first = positions.get(config.source.number(alert.topic, alert.partition), 0)
        if first > alert.offset:
            raise NotReproducibleError(
                f"{state} was made after the alert: it continues at offset {first} of partition {alert.partition}"
            )
        return engines, first
    return {}, 0


class _Run:
    """The engines, from the first message to the alert's event."""

    def __init__(
        self,
        config: Config,
        alert: AlertId,
        engines: dict[str, Engine],
        entity: str | None,
        stops: list[int],
        audit: dict[int, dict[str, str]],
    ) -> None:
        self._config, self._alert, self._engines, self._entity = config, alert, engines, entity
        self._facts = row_facts(config)
        self._decoder = Decoder(config, control=recorded_stops(config), join=context_of(config), facts=self._facts)
        self._encoder = Encoder(config.without_registry())
        self._audit, self._stops = audit, {alert.offset, *stops}
        self._cuts = sorted({*self._stops, *(n for n in audit if n <= alert.offset)})
        self.language: Literal["en", "ja"] | None = None
        self.value: bytes | None = None
        self.events = self.audited = 0
        self.target = config.event.targets[0]
        self.explanations: dict[str, Explanation] = {}  # of the alert's event, by target
        self.history, self.broken = list[Explanation](), list[Audited]()

    def process(self, chunk: Chunk) -> None:
        """Process a chunk, split before each message at which something is examined."""
        messages = chunk.messages
        while messages:
            at = offset_of(messages[0])
            while self._cuts and self._cuts[0] < at:
                self._cuts.pop(0)  # no message has that offset
            cut = self._cuts[0] if self._cuts else None
            size = next((i for i, m in enumerate(messages) if cut is not None and offset_of(m) >= cut), len(messages))
            if size:
                self._process_messages(chunk, messages[:size])
            if size < len(messages):
                assert cut is not None
                self._cuts.pop(0)
                self._examine(chunk, messages[size], cut)
                self._process_messages(chunk, messages[size : size + 1])
            messages = messages[size + 1 :]

    def _process_messages(self, chunk: Chunk, messages: Sequence[Message]) -> None:
        source = self._config.source.number(chunk.topic, chunk.partition)
        for key, item in self._decoder.decode(Chunk(chunk.topic, chunk.partition, messages)):
            if not isinstance(item, ShardBatch):
                continue
            engine = self._engine(key)
            if engine.rows is not None and self._facts is not None:
                engine.rows.join_facts(self._facts)
            item = with_rows(item, engine.rows, source)
            engine.episodes.set_control(item.control)
            events, refused = engine.admit(engine.episodes.mark(item.events, self._encoder.event_ids(item)), source)
            batch = item.without(refused, events)
            if not len(events):
                continue
            self.events += len(events)
            predictions, alerts = engine.process(events, source, self._encoder.event_ids(batch))
            at = self._alert.offset
            mine = [
                raised
                for raised in alerts
                if (batch.offsets[raised.row] if raised.place is None else raised.place.offset) == at
            ]
            self._take(self._encoder.encode(batch, predictions, mine).others)

    def _take(self, records: Iterable[ProducerRecord]) -> None:
        """Take the alert's message from among these."""
        for record in records:
            if orjson.loads(record.value or b"")["id"] == self._alert.text:
                self.value = record.value

    def _waiting(self) -> list[ProducerRecord]:
        """Return the messages of the alerts that wait, as they will be sent if no fleet alert replaces them."""
        return [
            self._encoder.waiting_record(each)
            for engine in self._engines.values()
            for each in engine.episodes.waiting()
        ]

    def is_waiting(self) -> bool:
        """Return whether the alert waits for others (`alerts.fleet.wait`), so that later events decide about it."""
        return any(orjson.loads(record.value or b"")["id"] == self._alert.text for record in self._waiting())

    def finish(self) -> None:
        """Take the alert as it will be sent if it still waits at the topic's end."""
        if self.value is None:
            self._take(self._waiting())

    def _engine(self, key: str) -> Engine:
        engine = self._engines.get(key)
        if engine is None:
            engine = self._engines[key] = Engine(self._config)
        if self.language is not None:
            set_language(engine, self.language)
        return engine

    def _examine(self, chunk: Chunk, message: Message, cut: int) -> None:
        """Explain the prediction of the next message, and compare the entities' states with the audit."""
        if cut in self._audit:
            self._compare_audit(self._config.source.number(chunk.topic, chunk.partition), cut)
        if offset_of(message) not in self._stops:
            return
        for key, item in self._decoder.decode(Chunk(chunk.topic, chunk.partition, [message])):
            if not isinstance(item, ShardBatch) or self._config.labels is not None:
                continue
            engine = self._engine(key)
            if engine.rows is not None:
                rows = row_state(self._config, engine.rows.dump(), self._facts)
                item = row_of(with_rows(item, rows, self._encoder.source_of(item)), self._alert.row)
                if not len(item.events):
                    continue
            if cut == self._alert.offset:
                paths = self._config.event.targets
                self.explanations = {p: e for p in paths if (e := self._explain(engine, item, p)) is not None}
            found = self._explain(engine, item, self.target)
            if found is not None and (self._entity is None or found.entity == self._entity):
                self.history.append(found)

    def _explain(self, engine: Engine, batch: ShardBatch, target: str) -> Explanation | None:
        source, horizon = self._encoder.source_of(batch), self._config.model.horizon
        if horizon.events or horizon.seconds:
            return None
        try:
            return explain_target(engine, engine.windows.filled(batch.events, source), target, source)
        except KeyError:
            return None  # the entity's first event

    def _compare_audit(self, source: int, cut: int) -> None:
        for entity, expected in self._audit[cut].items():
            for engine in self._engines.values():
                if entity in engine:
                    self.audited += 1
                    self.broken += [Audited(cut, expected)] if engine.state_hash(entity, source) != expected else []


def _offsets_of(
    config: Config, alert: AlertId, first: int, entity: str, on_progress: Callable[[int, int], None]
) -> list[int]:
    """Return the offsets of the entity's events up to the alert's."""
    decoder, found, total = Decoder(config), list[int](), alert.offset - first + 1
    rows: dict[str, RowBuilder | None] = {}
    for chunk in _chunks(config, alert, first):
        for key, item in decoder.decode(chunk):
            if isinstance(item, ShardBatch):
                source = config.source.number(chunk.topic, chunk.partition)
                item = with_rows(item, rows.setdefault(key, row_state(config)), source)
                found += [at for at, name in zip(item.offsets, item.events.entity, strict=True) if name == entity]
        on_progress(offset_of(chunk.messages[-1]) + 1 - first, total)
    return found


def _chunks(config: Config, alert: AlertId, first: int, goes_on: Callable[[], bool] = lambda: False) -> Iterator[Chunk]:
    """Yield the partition's messages from an offset to the alert's, and further ones, a few at a time, while `goes_on`.

    Raises:
        NotReproducibleError: the topic does not hold them.
        BrokerError: the broker refuses, or does not answer.
    """
    source = with_topic(config.source, alert.topic)
    with open_topic(source, reset="error") as reader:
        if alert.partition not in check_broker(source).partitions_of(source.topic):
            raise NotReproducibleError(f"{alert.text}: the topic has no partition {alert.partition}")
        begin, end = reader.spans([alert.partition])[alert.partition]
        if not max(begin, first) <= alert.offset < end:
            raise NotReproducibleError(
                f"{alert.text}: partition {alert.partition} of {source.topic!r} holds offsets {begin} to {end - 1} "
                "now: the event no longer exists"
            )
        if first and begin > first:
            raise NotReproducibleError(
                f"{alert.text}: the state continues at offset {first}, and the topic begins at {begin} now"
            )
        span, last = Span(first or FROM_BEGINNING, alert.offset + 1), -1
        for messages in reader.read({alert.partition: span}, BATCH):
            yield Chunk(source.topic, alert.partition, messages)
            last = offset_of(messages[-1])
        if last != alert.offset:
            raise NotReproducibleError(f"{alert.text}: there is no message at offset {alert.offset}")
        if not goes_on() or last + 1 >= end:
            return
        for messages in reader.read({alert.partition: Span(last + 1, end)}, FEW):
            yield Chunk(source.topic, alert.partition, messages)
            if not goes_on():
                return
