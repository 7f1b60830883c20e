"""Kafka messages to events, and results to Kafka messages: the wire contract, and nothing but.

Every message of a chunk ends in exactly one place: an event, or a dead letter with its reason and position.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from operator import methodcaller
from typing import Any, NamedTuple, TypeVar

import numpy as np
import orjson
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.contract.headers import ERROR_HEADER
from ssm_stream.engine.engine import Alert, LabelResult, shard_of
from ssm_stream.ingest.events import EPOCH, EventReader, Events, Refused, value_at
from ssm_stream.ingest.labels import LabelReader, Labels, Unmatched
from ssm_stream.kafka.bounded_cache import Remembered
from ssm_stream.kafka.fast_json import PlainReader
from ssm_stream.kafka.json_rows import assembled
from ssm_stream.kernels.loop import Predictions
from ssm_stream.ops.metrics import Sent

STAMPED = 4  # messages of a chunk whose timestamps are kept
T = TypeVar("T")
Headers = list[tuple[str, str | bytes | None]]
Raw = tuple[bytes | str | None, bytes | None, Headers]


class Chunk(NamedTuple):
    """Messages of one partition, in offset order, as the client handed them over."""

    topic: str
    partition: int
    messages: list[Message]


class ShardBatch(NamedTuple):
    """Events of one chunk that belong to one shard, with the offset of each.

    raw: key, value and headers of each, where an event may still be refused
    stamps: timestamps of some of the messages, ms: to tell how long they have taken
    chunk: first offset of the chunk
    """

    partition: int
    events: Events
    offsets: list[int]
    raw: list[Raw] | None = None
    stamps: tuple[int, ...] = ()
    chunk: int = 0

    def only(self, events: Events, refused: list[Refused]) -> ShardBatch:
        """With these events, which are the batch's without those refused."""
        gone = {refusal.position for refusal in refused}
        offsets = [offset for i, offset in enumerate(self.offsets) if i not in gone] if gone else self.offsets
        return ShardBatch(self.partition, events, offsets, None, self.stamps, self.chunk)

    def part(self, begin: int, end: int) -> ShardBatch:
        """Its events from one to before another; the last part has the timestamps."""
        raw = None if self.raw is None else self.raw[begin:end]
        stamps = self.stamps if end == len(self.events) else ()
        events = self.events.take(np.arange(begin, end))
        return ShardBatch(self.partition, events, self.offsets[begin:end], raw, stamps, self.chunk)


class LabelBatch(NamedTuple):
    """Labels of one chunk that belong to one shard, with the offset of each as their position."""

    partition: int
    labels: Labels


class Judged(NamedTuple):
    """A shard batch and what the engine said of it, to be encoded where it goes out."""

    batch: ShardBatch
    predictions: Predictions
    alerts: list[Alert]


class Record(NamedTuple):
    """One message to be produced. offset: of the message that caused it; sent: what it counts as"""

    topic: str
    key: bytes | str | None
    value: bytes | None
    headers: Headers | None
    offset: int
    sent: Sent | None = None


class Output(NamedTuple):
    """What is to be produced for one batch of one partition of a source topic; the offsets of the messages that caused
    it lie in [first, last].

    Predictions are columns: `keys` and `values` for the one topic `predictions`, `offsets` of what caused each. They
    come before the `others`.
    """

    topic: str
    partition: int
    first: int
    last: int
    others: list[Record]
    predictions: str | None = None
    keys: Sequence[str] = ()
    values: Sequence[bytes] = ()
    offsets: Sequence[int] = ()

    @property
    def records(self) -> list[Record]:
        """All messages one by one, in the order of production."""
        if self.predictions is None:
            return self.others
        rows = zip(self.keys, self.values, self.offsets, strict=True)
        return [*(Record(self.predictions, key, value, None, offset) for key, value, offset in rows), *self.others]

    def caused_from(self, offset: int) -> Output:
        """Without what messages before that offset have caused."""
        others = [record for record in self.others if record.offset >= offset]
        at = bisect_left(self.offsets, offset)
        return self._replace(others=others, keys=self.keys[at:], values=self.values[at:], offsets=self.offsets[at:])


def shard_key(shard: int) -> str:
    """The shard's name among Bytewax's keys, which are sorted as text."""
    return f"{shard:04d}"


class Decoder:
    """Chunks to shard batches and dead letters."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reader = EventReader(config.event)
        plain = PlainReader(config.event)
        self._plain = plain if plain.able and config.labels is None else None
        self._shards: Remembered[str, int] = Remembered(partial(shard_of, shards=config.state.shards))
        self._most = config.event.max_bytes
        self._framed = config.event.framed
        self._raw = config.state.max_entities is not None and config.state.when_full == "refuse"
        self._labels = LabelReader(config, config.labels) if config.labels else None
        self._when = value_at(config.labels.marker) if config.labels and config.labels.marker else None

    def __call__(self, chunk: Chunk) -> list[tuple[str, ShardBatch | LabelBatch | Output]]:
        """(shard key, batch of events or labels, or dead letters) of a chunk; dead letters go by source partition."""
        values: list[bytes | None] = list(map(methodcaller("value"), chunk.messages))
        if self._framed:
            values = list(map(unframed, values))
        fits = _largest(values) <= self._most
        if fits and self._plain is not None and (plain := self._plain(values)) is not None:
            return list(self._split(chunk, plain))
        refused: list[Refused] = []
        documents, places = _parse(values, refused) if fits else _parse_each(values, refused, self._most)
        out: list[tuple[str, ShardBatch | LabelBatch | Output]] = []
        if self._labels is not None:
            documents, places = self._take_labels(chunk, documents, places, refused, out)
        events, misfits = self.reader.read(documents)
        if self._labels is not None:
            events, nameless = self._labels.identify(documents, events)
            misfits += nameless
        if places is not None:
            events = replace(events, position=np.array(places, np.int64)[events.position])
            misfits = [m._replace(position=places[m.position]) for m in misfits]
        refused += misfits
        out += self._split(chunk, events)
        if refused:
            refused.sort()
            records = [self._dead_letter(chunk, refusal) for refusal in refused]
            offsets = [offset_of(chunk.messages[r.position]) for r in refused]
            key = shard_key(chunk.partition % self.config.state.shards)
            out.append((key, Output(chunk.topic, chunk.partition, offsets[0], offsets[-1], records)))
        return out

    def _split(self, chunk: Chunk, events: Events) -> list[tuple[str, ShardBatch]]:
        messages = chunk.messages
        if len(events) < len(messages):
            messages = [messages[i] for i in events.position.tolist()]
        if not messages:
            return []
        offsets = offsets_of(messages)
        raw = list(map(raw_of, messages)) if self._raw else None
        some = [message.timestamp() for message in messages[:: -(-len(messages) // STAMPED)]]
        stamps = tuple(ms for kind, ms in some if kind != TIMESTAMP_NOT_AVAILABLE)
        first = offset_of(chunk.messages[0])
        if self.config.state.shards == 1:
            return [(shard_key(0), ShardBatch(chunk.partition, events, offsets, raw, stamps, first))]
        batches = [
            (
                key,
                ShardBatch(
                    chunk.partition,
                    events.take(rows),
                    [offsets[i] for i in rows.tolist()],
                    None if raw is None else [raw[i] for i in rows.tolist()],
                    chunk=first,
                ),
            )
            for key, rows in self._by_shard(events.entity)
        ]
        key, last = batches[-1]
        return [*batches[:-1], (key, last._replace(stamps=stamps))]

    def _take_labels(
        self,
        chunk: Chunk,
        documents: list[Any],
        places: list[int] | None,
        refused: list[Refused],
        out: list[tuple[str, ShardBatch | LabelBatch | Output]],
    ) -> tuple[list[Any], list[int]]:
        """Put the labels among the documents out; returns the rest, and their places among the messages."""
        assert self.config.labels is not None
        assert self._labels is not None
        at = list(range(len(documents))) if places is None else places
        if chunk.topic == self.config.labels.topic:
            chosen = list(range(len(documents)))
        elif (when := self._when) is None:
            return documents, at
        else:
            chosen = [i for i, d in enumerate(documents) if type(d) is dict and when(d) is not None]
        labels, misfits = self._labels.read([documents[i] for i in chosen])
        refused += [m._replace(position=at[chosen[m.position]]) for m in misfits]
        messages = [chunk.messages[at[chosen[i]]] for i in labels.position.tolist()]
        # A position is an offset from here on.
        offsets = np.array([offset_of(message) for message in messages], np.int64)
        labels = replace(labels, position=offsets, raw=[(m.key(), m.value()) for m in messages])
        out += [(key, LabelBatch(chunk.partition, labels.take(r))) for key, r in self._by_shard(labels.entity)]
        taken = set(chosen)
        rest = [i for i in range(len(documents)) if i not in taken]
        return [documents[i] for i in rest], [at[i] for i in rest]

    def _by_shard(self, names: list[str]) -> list[tuple[str, NDArray[np.intp]]]:
        """The rows of each shard, by its key."""
        if not names:
            return []
        shard = np.array(self._shards.of(names), np.int64)
        order = np.argsort(shard, kind="stable")
        cuts = np.flatnonzero(np.diff(shard[order])) + 1
        return [(shard_key(int(shard[rows[0]])), rows) for rows in np.split(order, cuts)]

    def _dead_letter(self, chunk: Chunk, refusal: Refused) -> Record:
        message = chunk.messages[refusal.position]
        place = (chunk.topic, chunk.partition, offset_of(message))
        return dead_letter(self.config, raw_of(message), place, "decode", refusal.fault, refusal.reason)


def _largest(values: list[bytes | None]) -> int:
    """Bytes of the largest value."""
    try:
        return max(map(len, values), default=0)  # type: ignore[arg-type]  # the error tells of one that is None
    except TypeError:
        return max(map(len, filter(None, values)), default=0)


def _parse(values: list[bytes | None], refused: list[Refused]) -> tuple[list[Any], list[int] | None]:
    """JSON documents, and their places among the values where some are no JSON (None: all are)."""
    try:
        return list(map(orjson.loads, values)), None  # type: ignore[arg-type]
    except orjson.JSONDecodeError:
        return _parse_each(values, refused)  # at least one is bad


def _parse_each(
    values: list[bytes | None], refused: list[Refused], most: float = math.inf
) -> tuple[list[Any], list[int]]:
    """`_parse`, one by one. most: bytes of a value that is looked into"""
    documents, places = [], []
    for i, value in enumerate(values):
        if value is None:
            refused.append(Refused(i, "Tombstone", "the value is null; an event is a JSON object"))
            continue
        if not value:
            refused.append(Refused(i, "Empty", "the value is empty; an event is a JSON object"))
            continue
        if len(value) > most:
            refused.append(Refused(i, "TooLarge", too_large(len(value), most)))
            continue
        try:
            documents.append(orjson.loads(value))
            places.append(i)
        except orjson.JSONDecodeError as error:
            refused.append(_not_json(i, value, error))
    return documents, places


def unframed(value: bytes | None) -> bytes | None:
    """The value without a schema registry's frame, a zero byte and four bytes of id, where it has one."""
    return value[5:] if value is not None and value[:1] == b"\0" else value


def too_large(size: int, most: float) -> str:
    """Why a message is not looked into."""
    return f"the value has {size} bytes, more than {most} (event.max_bytes)"


def _not_json(position: int, value: bytes, error: orjson.JSONDecodeError) -> Refused:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return Refused(position, "NotUtf8", f"byte {wrong.start} (0x{value[wrong.start]:02x}) is not UTF-8")
    return Refused(position, "NotJson", f"not JSON: {str(error)[:200]}")


offset_of: Callable[[Message], int] = methodcaller("offset")
"""Offset of a message that was consumed."""


def offsets_of(messages: Sequence[Message]) -> list[int]:
    """Offsets of one message or more of a partition, in their order; most often none is left out between."""
    first, last = offset_of(messages[0]), offset_of(messages[-1])
    if last - first == len(messages) - 1:
        return list(range(first, last + 1))
    return list(map(offset_of, messages))


def headers_of(message: Message) -> Headers:
    """Headers of a message, none where it has none."""
    headers = message.headers()
    return list(headers.items()) if isinstance(headers, dict) else list(headers or [])


def raw_of(message: Message) -> Raw:
    """What a message brought: key, value and headers."""
    return message.key(), message.value(), headers_of(message)


def dead_letter(config: Config, raw: Raw, place: tuple[str, int, int], stage: str, fault: str, reason: str) -> Record:
    """A message that cannot be used, untouched but for the headers that say why. place: topic, partition, offset"""
    (key, value, headers), (topic, partition, offset) = raw, place
    said = error_headers(topic, partition, offset, stage, f"ssm_stream.{fault}", reason)
    sent = Sent("dead_letter", (stage, fault))
    return Record(config.sinks.dead_letters, key, value, [*headers, *said], offset, sent)


def error_headers(topic: str, partition: int, offset: int, stage: str, fault: str, reason: str) -> Headers:
    """Kafka Connect's dead-letter headers."""
    content = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "stage": stage,
        "exception.class.name": fault,
        "exception.message": reason,
    }
    # A lone surrogate (from a key that was no text) must not stop the letter that reports it.
    return [(ERROR_HEADER + name, str(value).encode("utf-8", "backslashreplace")) for name, value in content.items()]


FIELDS = ("ts", "y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score", "warmup", "n", "fleet")
"""Of a prediction, between the entity and the id."""


def _template(stem: str, ahead: bool, target: str | None, frame: bytes) -> list[bytes]:
    """What stands before, between and after the values; where there are several targets, with the path of one."""
    before = {"y": b'"target":' + orjson.dumps(target) + b","} if target is not None else {}
    names = ["ts", "for", *FIELDS[1:]] if ahead else FIELDS
    end = b'"}' if target is None else b"-" + orjson.dumps(target)[1:] + b"}"
    fields = [b"," + before.get(name, b"") + b'"%b":' % name.encode() for name in names]
    return [frame + b'{"entity":', *fields, b',"id":' + orjson.dumps(stem)[:-1], end]


def prediction_values(
    batch: ShardBatch,
    predictions: Predictions,
    stem: str,
    ahead: float | None = None,
    targets: Sequence[str] = (),
    frame: bytes = b"",
    quoted: Callable[[list[str]], list[bytes]] = lambda names: list(map(orjson.dumps, names)),
) -> list[bytes]:
    """The prediction messages of a batch as JSON; `stem` and the offset make the id.

    With a horizon, `ahead` is how far it reaches, s (0 where it counts events): the field `for` is the time predicted.
    With several `targets`, an event has a message for each of them, in their order. Each begins with the `frame`.
    `quoted` gives names as JSON has them.

    The same bytes as a dict an event through orjson, in a fifth of the time. A missing target (NaN) is written as null.
    """
    events, p = batch.events, predictions
    numbers: list[NDArray[Any]] = [events.ts, events.target, p.yhat, p.lower, p.upper, p.score, p.warmup, p.n, p.fleet]
    if ahead is not None:
        numbers.insert(1, events.ts + round(ahead * 1000) if ahead else np.full(len(events), np.nan))
    numbers.append(np.array(batch.offsets, np.int64))
    names = quoted(events.entity)
    if m := len(targets):
        names = _each(names, m)
        numbers = [np.repeat(column, m) if column.ndim == 1 else column.ravel() for column in numbers]
    templates = [_template(stem, ahead is not None, target, frame) for target in targets or (None,)]
    return assembled(templates, names, numbers)


def _each(items: Iterable[T], m: int) -> list[T]:
    """Each m times."""
    return [item for item in items for _ in range(m)]


class Encoder:
    """What the engine said of a shard batch, as messages.

    Raises:
        RegistryError: there is a schema registry, which does not answer or refuses.
    """

    def __init__(self, config: Config) -> None:
        from ssm_stream.kafka.schema_registry import frames_of  # which needs to know the messages, and so this module

        self._frames = frames_of(config)
        self._quoted: Remembered[str, bytes] = Remembered(orjson.dumps)
        self.config = config
        horizon = config.model.horizon
        self._ahead = horizon.seconds if horizon.seconds or horizon.events else None
        self._targets = config.event.targets if len(config.event.targets) > 1 else []
        self._topic = (config.labels and config.labels.topic) or config.source.topic

    def labelled(self, batch: LabelBatch, outcome: LabelResult) -> Output:
        """Alerts of one batch of labels; their source is the label."""
        stem = f"{self._topic}-{batch.partition}-"
        at = batch.labels.position
        alerts = [] if self.config.sinks.alerts is None else outcome.alerts
        others = [self._alert(alert, self._topic, batch.partition, int(at[alert.row]), stem) for alert in alerts]
        return Output(self._topic, batch.partition, int(at[0]), int(at[-1]), others)

    def refused(self, batch: ShardBatch, refused: list[Refused]) -> Output:
        """Events of a batch that the engine does not take as dead letters, untouched."""
        assert batch.raw is not None
        topic, records = self.config.source.topic, []
        for refusal in refused:
            place = (topic, batch.partition, batch.offsets[refusal.position])
            raw = batch.raw[refusal.position]
            records.append(dead_letter(self.config, raw, place, "admit", refusal.fault, refusal.reason))
        return Output(topic, batch.partition, records[0].offset, records[-1].offset, records)

    def unmatched(self, batch: ShardBatch | LabelBatch, labels: list[Unmatched]) -> Output:
        """Labels that were given up in a batch as dead letters: key and value untouched, without the headers that they
        had."""
        if isinstance(batch, LabelBatch):
            topic, offsets = self._topic, batch.labels.position.tolist()
        else:
            topic, offsets = self.config.source.topic, batch.offsets
        records = []
        for label in labels:
            key, value = label.raw or (None, None)
            place = (self._topic, label.source, label.position)
            letter = dead_letter(self.config, (key, value, []), place, "label", "UnmatchedLabel", label.reason)
            records.append(letter._replace(offset=offsets[label.row]))  # of what it was given up at
        return Output(topic, batch.partition, records[0].offset, records[-1].offset, records)

    def __call__(self, batch: ShardBatch, predictions: Predictions, alerts: list[Alert]) -> Output:
        """Predictions and alerts of one batch."""
        stem = f"{self.config.source.topic}-{batch.partition}-"
        sinks = self.config.sinks
        alerts, topic, partition = [] if sinks.alerts is None else alerts, self.config.source.topic, batch.partition
        others = [self._alert(alert, topic, partition, batch.offsets[alert.row], stem) for alert in alerts]
        output = Output(topic, batch.partition, batch.offsets[0], batch.offsets[-1], others)
        if sinks.predictions is None:
            return output
        values = prediction_values(
            batch, predictions, stem, self._ahead, self._targets, self._frames.prediction, self._quoted.of
        )
        keys, offsets = batch.events.entity, batch.offsets
        if m := len(self._targets):
            keys, offsets = _each(keys, m), _each(offsets, m)
        return output._replace(predictions=sinks.predictions, keys=keys, values=values, offsets=offsets)

    def _alert(self, alert: Alert, topic: str, partition: int, offset: int, stem: str) -> Record:
        """A CloudEvent in binary mode: attributes in the headers, the alert itself in the value."""
        message = alert.message
        source = {"topic": topic, "partition": partition, "offset": offset}
        body = {**message, "source": source, "id": f"{stem}{offset}-{message['kind']}{alert.suffix}"}
        moment = EPOCH + timedelta(milliseconds=message["ts"])
        attributes = {
            "ce_specversion": "1.0",
            "ce_id": body["id"],
            "ce_source": f"/ssm-stream/{topic}",
            "ce_type": f"io.ssm-stream.{message['kind']}.{message['phase']}",
            "ce_subject": message["entity"],
            "ce_time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "content-type": "application/json",
        }
        headers: Headers = [(name, value.encode()) for name, value in attributes.items()]
        assert self.config.sinks.alerts is not None
        sent = Sent("alert", (message["kind"], message["phase"], message["scope"]))
        return Record(
            self.config.sinks.alerts, message["entity"], self._frames.alert + orjson.dumps(body), headers, offset, sent
        )
