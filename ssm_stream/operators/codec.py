"""Messages → events, and records → messages: the steps before and after `monitor`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream

from ssm_stream.config import Config
from ssm_stream.ingest.events import RefusedDocument, not_an_object
from ssm_stream.ingest.message_fields import MessageFields
from ssm_stream.kafka.dead_letters import make_dead_letter
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.records import (
    Headers,
    OutputBatch,
    PredictedBatch,
    ProducerRecord,
    RawMessage,
    shard_key,
)
from ssm_stream.operators.documents import NO_OFFSET, PLACE, MessageTopic, is_decoded
from ssm_stream.operators.embedded_shard import UnreadErrors
from ssm_stream.operators.failures import ItemError, explained, explained_build
from ssm_stream.operators.monitor_operator import Settings, monitor_config, with_alerts, without_alerts
from ssm_stream.operators.records import Alert, Prediction, RefusedEvent
from ssm_stream.operators.service import Service

SinkMessage = KafkaSinkMessage[bytes | str | None, bytes | None]


@dataclass(frozen=True)
class DecodeOut:
    """The streams of `decode`. `errors` and `letters` cost something only if they are used."""

    step_id: str
    events: Stream[Any]
    """Dicts with their `PLACE`; batches of columns, where the messages came as such."""
    refused: KeyedStream[OutputBatch]
    unread: UnreadErrors

    @property
    def letters(self) -> KeyedStream[OutputBatch]:
        """The dead letters, a batch at a time: for `kafka_output`."""
        self.unread.read = True
        return self.refused

    @cached_property
    def errors(self) -> Stream[RefusedEvent]:
        """A `RefusedEvent` for each message that is not a JSON object, or not in `event.format`."""
        self.unread.read = True

        def unpack(items: list[tuple[str, OutputBatch]]) -> list[RefusedEvent]:
            return [RefusedEvent.from_record(each) for _, output in items for each in output.others]

        return op.flat_map_batch(f"{self.step_id}_errors", self.refused, unpack)


def decode(step_id: str, up: Stream[Any], config: Settings, *, service: Service | None = None) -> DecodeOut:
    """Decode messages of any source into events.

    Args:
        step_id: unique name of the step
        up: values as bytes or text (JSON, or in `event.format`), pairs of a key and such a value, messages of Bytewax's
            Kafka source or of `kafka_input`
        config: as of `monitor`
        service: of `ssm-stream run`; None in a dataflow of your own

    Returns:
        the streams `events` and `errors`

    Raises:
        ConfigError: the configuration cannot be used.
    """
    unread = UnreadErrors(step_id)
    decoded = up
    if service is None:
        with explained_build():
            settings = monitor_config(config, step_id, registry=True)
        decoded = op.flat_map_batch(f"{step_id}_json", up, MessageDecoder(step_id, settings, unread))
    split = op.branch(step_id, decoded, _is_event)
    return DecodeOut(step_id, split.trues, split.falses, unread)


def _is_event(item: Any) -> bool:
    return not (type(item) is tuple and isinstance(item[1], OutputBatch))


class MessageDecoder:
    """Decodes the messages of one activation into dicts, and dead letters; batches among them pass unchanged."""

    def __init__(self, step: str, config: Config, unread: UnreadErrors) -> None:
        self._step, self._config, self._unread = step, config, unread
        self._format = message_format(config)
        self._label_format = message_format(config, labels=True)
        self._fields = MessageFields(config)
        self._labels_topic = config.labels.topic if config.labels else None

    def __call__(self, items: list[Any]) -> list[Any]:
        """Return dicts with the place of their message, batches and dead letters."""
        out: list[Any] = []
        messages: list[tuple[RawMessage, tuple[str, int, int] | None]] = []
        with explained():
            for item in items:
                if is_decoded(item):
                    if isinstance(item[1], OutputBatch):
                        self._unread.add(item[1])
                    out.append(item)
                else:
                    messages.append(self._message(item))
        return out + self._decode(messages) if messages else out

    def _message(self, item: Any) -> tuple[RawMessage, tuple[str, int, int] | None]:
        """Return key, value and headers of an item, and its place if it has one."""
        if type(item) is tuple and len(item) == 2:
            key, item = item
        else:
            key = getattr(item, "key", None)
        value, headers, place = item, list[Any](), None
        if hasattr(item, "value"):  # Bytewax's KafkaSourceMessage, or one like it
            value, headers = item.value, list(getattr(item, "headers", None) or [])
            topic, partition, offset = (getattr(item, name, None) for name in ("topic", "partition", "offset"))
            if topic is not None and partition is not None and offset is not None:
                place = (topic, partition, offset)
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogatepass")
        if value is not None and not isinstance(value, bytes):
            raise ItemError(
                f"step {self._step!r}: a message is bytes or text, found {type(value).__name__}: events that are dicts "
                "already go to ssm_stream.operators.monitor"
            )
        return RawMessage(key, value, headers), place

    def _decode(self, messages: list[tuple[RawMessage, tuple[str, int, int] | None]]) -> list[Any]:
        """Return the documents of messages, in their order, and their dead letters."""
        if self._config.source.context:
            raise ItemError(
                f"step {self._step!r}: source.context is joined where the topic is read: use kafka_input(…, "
                "batches=True)"
            )
        values = [raw.value for raw, _ in messages]
        out: list[Any] = []
        refused: list[RefusedDocument] = []

        def is_label(at: int) -> bool:
            place = messages[at][1]
            return place is not None and place[0] == self._labels_topic

        for label, run in groupby(range(len(values)), is_label):
            at = list(run)
            failed: list[RefusedDocument] = []
            read = self._label_format if label else self._format
            documents, positions = read.parse([values[i] for i in at], failed, [messages[i][0].headers for i in at])
            refused += [each._replace(position=at[each.position]) for each in failed]
            places = range(len(at)) if positions is None else positions
            for document, position in zip(documents, places, strict=True):
                message, place = at[position], messages[at[position]][1]
                if type(document) is not dict:
                    refused.append(not_an_object(message, document))
                    continue
                raw = messages[message][0]
                if self._fields.paths:
                    document.update(self._fields.values(raw.key, raw.headers))
                if place is not None:
                    document[PLACE] = MessageTopic.of(place[0], raw), *place[1:]
                out.append(document)
        if refused:
            letters = [self._letter(*messages[each.position], each) for each in sorted(refused)]
            output = OutputBatch(self._config.source.topic, 0, letters[0].offset, letters[-1].offset, letters)
            self._unread.add(output)
            out.append((shard_key(0), output))
        return out

    def _letter(self, raw: RawMessage, place: tuple[str, int, int] | None, refusal: RefusedDocument) -> ProducerRecord:
        place = place or (self._config.source.topic, 0, NO_OFFSET)
        return make_dead_letter(self._config, raw, place, "decode", refusal.fault, refusal.reason)


def encode(step_id: str, up: Stream[Any], config: Settings, *, topic: str | None = None) -> Stream[SinkMessage]:
    """Encode records as the messages of the service, for a Kafka sink.

    Args:
        step_id: unique name of the step
        up: records of `monitor` or `decode`, or the batches of `MonitorOut.batches`
        config: as of `monitor`; `sinks` has the topics, and the schema registry if there is one. What has none there
            (null) gives no message
        topic: of all messages, in place of those of `sinks`; records that have none there give messages, too

    Returns:
        a stream of `KafkaSinkMessage`, with its topic

    Raises:
        ConfigError: the configuration cannot be used.
        RegistryError: the schema registry does not answer, while the dataflow runs.
    """
    return op.flat_map_batch(
        step_id, up, MessageEncoder(step_id, monitor_config(config, step_id, registry=True), topic)
    )


class MessageEncoder:
    """Encodes the records of one activation as messages for Kafka. topic: of all; None: those of `sinks`"""

    def __init__(self, step: str, config: Config, topic: str | None = None) -> None:
        self._step, self._config, self._topic = step, config, topic
        self._opened: Encoder | None = None

    @property
    def _encoder(self) -> Encoder:
        if self._opened is None:  # not before the dataflow runs: it may register schemas
            self._opened = Encoder(self._config if self._topic is None else with_alerts(self._config))
        return self._opened

    def __call__(self, items: list[Any]) -> list[SinkMessage]:
        """Return the messages, in the order of their items."""
        with explained():
            return [message for item in items for message in self._messages(item)]

    def _messages(self, item: Any) -> Iterator[SinkMessage]:
        sinks = self._config.sinks
        if type(item) is tuple and len(item) == 2 and isinstance(item[1], PredictedBatch | OutputBatch):
            batch = item[1]
            output = self._encoder.encode(*batch) if isinstance(batch, PredictedBatch) else batch
            output = without_alerts(output) if sinks.alerts is None else output
            for record in output.records:
                yield self._message(record.key, record.value, record.headers, record.topic)
        elif isinstance(item, Prediction):
            if (topic := self._topic or sinks.predictions) is not None:
                yield self._message(item.entity, self._encoder.outputs.prediction.of_json(item.to_json()), None, topic)
        elif isinstance(item, Alert):
            if (topic := self._topic or sinks.alerts) is not None:
                record = self._encoder.alert_record(item.to_dict())
                yield self._message(record.key, record.value, record.headers, topic)
        elif isinstance(item, RefusedEvent):
            yield self._message(item.key, item.value, item.letter_headers(), sinks.dead_letters)
        else:
            raise ItemError(
                f"step {self._step!r}: encodes predictions, alerts and errors of ssm_stream.operators, found "
                f"{type(item).__name__}: leave out what is none, or encode it by a step of your own"
            )

    def _message(self, key: Any, value: bytes | None, headers: Headers | None, topic: str) -> SinkMessage:
        return KafkaSinkMessage(key, value, self._topic or topic, list(headers or []))  # type: ignore[arg-type]
