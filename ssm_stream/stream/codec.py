"""Kafka messages to events, and results to Kafka messages: the wire contract, and nothing but.

Every message of a chunk ends in exactly one place: an event, or a dead letter with its reason and position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import orjson
from confluent_kafka import Message
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.engine import Alert, shard_of
from ssm_stream.events import EPOCH, EventReader, Events, Refused
from ssm_stream.loop import Predictions

ERROR_HEADER = "__connect.errors."
Headers = list[tuple[str, str | bytes | None]]


class Chunk(NamedTuple):
    """Messages of one partition, in offset order, as the client handed them over."""

    topic: str
    partition: int
    messages: list[Message]


class ShardBatch(NamedTuple):
    """Events of one chunk that belong to one shard, with the offset of each."""

    partition: int
    events: Events
    offsets: list[int]


class Record(NamedTuple):
    """One message to be produced."""

    topic: str
    key: bytes | str | None
    value: bytes | None
    headers: Headers | None = None


class Output(NamedTuple):
    """What is to be produced for one batch of one source partition; the offsets that caused it lie in [first, last].

    Predictions are columns: `keys` and `values` for the one topic `predictions`. They come before the `others`.
    """

    partition: int
    first: int
    last: int
    others: list[Record]
    predictions: str | None = None
    keys: Sequence[str] = ()
    values: Sequence[bytes] = ()

    @property
    def records(self) -> list[Record]:
        """All messages one by one, in the order of production."""
        if self.predictions is None:
            return self.others
        pairs = zip(self.keys, self.values, strict=True)
        return [*(Record(self.predictions, key, value) for key, value in pairs), *self.others]


def shard_key(shard: int) -> str:
    """The shard's name among Bytewax's keys, which are sorted as text."""
    return f"{shard:04d}"


class Decoder:
    """Chunks to shard batches and dead letters."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reader = EventReader(config.event)
        self._shards: dict[str, int] = {}

    def __call__(self, chunk: Chunk) -> list[tuple[str, ShardBatch | Output]]:
        """(shard key, batch of events or dead letters) of a chunk; dead letters go by source partition."""
        values = [message.value() for message in chunk.messages]
        refused: list[Refused] = []
        documents, places = _parse(values, refused)
        events, misfits = self.reader.read(documents)
        if places is not None:
            events = replace(events, position=np.array(places, np.int64)[events.position])
            misfits = [m._replace(position=places[m.position]) for m in misfits]
        refused += misfits
        out: list[tuple[str, ShardBatch | Output]] = list(self._split(chunk, events))
        if refused:
            refused.sort()
            records = [self._dead_letter(chunk, refusal) for refusal in refused]
            offsets = [offset_of(chunk.messages[r.position]) for r in refused]
            key = shard_key(chunk.partition % self.config.state.shards)
            out.append((key, Output(chunk.partition, offsets[0], offsets[-1], records)))
        return out

    def _split(self, chunk: Chunk, events: Events) -> list[tuple[str, ShardBatch]]:
        if not events.entity:
            return []
        known, shards = self._shards, self.config.state.shards
        try:
            shard = np.fromiter(map(known.__getitem__, events.entity), np.int64, len(events))
        except KeyError:
            if len(known) > 1_000_000:
                known.clear()  # a bound, should names never end
            for name in set(events.entity):
                known[name] = shard_of(name, shards)
            shard = np.fromiter(map(known.__getitem__, events.entity), np.int64, len(events))
        offsets = [offset_of(chunk.messages[i]) for i in events.position.tolist()]
        order = np.argsort(shard, kind="stable")
        cuts = np.flatnonzero(np.diff(shard[order])) + 1
        out = []
        for rows in np.split(order, cuts):
            batch = ShardBatch(chunk.partition, events.take(rows), [offsets[i] for i in rows.tolist()])
            out.append((shard_key(int(shard[rows[0]])), batch))
        return out

    def _dead_letter(self, chunk: Chunk, refusal: Refused) -> Record:
        message = chunk.messages[refusal.position]
        headers = error_headers(
            chunk.topic, chunk.partition, offset_of(message), "decode", f"ssm_stream.{refusal.fault}", refusal.reason
        )
        return Record(self.config.sinks.dead_letters, message.key(), message.value(), [*headers_of(message), *headers])


def _parse(values: list[bytes | None], refused: list[Refused]) -> tuple[list[Any], list[int] | None]:
    """JSON documents, and their places among the values where some are no JSON (None: all are)."""
    try:
        return list(map(orjson.loads, values)), None  # type: ignore[arg-type]
    except orjson.JSONDecodeError:
        pass  # at least one is bad: look at each
    documents, places = [], []
    for i, value in enumerate(values):
        if value is None:
            refused.append(Refused(i, "Tombstone", "the value is null; an event is a JSON object"))
            continue
        if not value:
            refused.append(Refused(i, "Empty", "the value is empty; an event is a JSON object"))
            continue
        try:
            documents.append(orjson.loads(value))
            places.append(i)
        except orjson.JSONDecodeError as error:
            refused.append(_not_json(i, value, error))
    return documents, places


def _not_json(position: int, value: bytes, error: orjson.JSONDecodeError) -> Refused:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return Refused(position, "NotUtf8", f"byte {wrong.start} (0x{value[wrong.start]:02x}) is not UTF-8")
    return Refused(position, "NotJson", f"not JSON: {str(error)[:200]}")


def offset_of(message: Message) -> int:
    """Offset of a message that was consumed."""
    return message.offset()  # type: ignore[return-value]  # None only before delivery of a produced one


def headers_of(message: Message) -> Headers:
    """Headers of a message, none where it has none."""
    headers = message.headers()
    return list(headers.items()) if isinstance(headers, dict) else list(headers or [])


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


PREDICTION = (
    b'{"entity":%b,"ts":%b,"y":%b,"yhat":%b,"yhat_lower":%b,"yhat_upper":%b,'
    b'"anomaly_score":%b,"warmup":%b,"n":%b,"fleet":%b,"id":"'
)


def prediction_values(batch: ShardBatch, predictions: Predictions, stem: str) -> list[bytes]:
    """The prediction messages of a batch as JSON; `stem` and the offset make the id.

    The same bytes as a dict an event through orjson, in a third of the time: whole columns are written, cut at their
    commas, and put into the fixed schema. A missing target (NaN) is written as null.
    """
    events, p = batch.events, predictions
    numbers = [events.ts, events.target, p.yhat, p.lower, p.upper, p.score, p.warmup, p.n, p.fleet]
    rows = zip(map(orjson.dumps, events.entity), *map(_texts, numbers), batch.offsets, strict=True)
    template = PREDICTION + stem.encode() + b'%d"}'  # a topic's name holds nothing to be escaped here
    return [template % row for row in rows]


def _texts(column: NDArray[np.generic]) -> list[bytes]:
    """Each number as JSON writes it."""
    return orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


class Encoder:
    """What the engine said of a shard batch, as messages."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, batch: ShardBatch, predictions: Predictions, alerts: list[Alert]) -> Output:
        """Predictions and alerts of one batch."""
        stem = f"{self.config.source.topic}-{batch.partition}-"
        sinks = self.config.sinks
        others = [] if sinks.alerts is None else [self._alert(batch, alert, stem) for alert in alerts]
        output = Output(batch.partition, batch.offsets[0], batch.offsets[-1], others)
        if sinks.predictions is None:
            return output
        values = prediction_values(batch, predictions, stem)
        return output._replace(predictions=sinks.predictions, keys=batch.events.entity, values=values)

    def _alert(self, batch: ShardBatch, alert: Alert, stem: str) -> Record:
        """A CloudEvent in binary mode: attributes in the headers, the alert itself in the value."""
        offset = batch.offsets[alert.row]
        message = alert.message
        source = {"topic": self.config.source.topic, "partition": batch.partition, "offset": offset}
        body = {**message, "source": source, "id": f"{stem}{offset}-{message['kind']}"}
        moment = EPOCH + timedelta(milliseconds=message["ts"])
        attributes = {
            "ce_specversion": "1.0",
            "ce_id": body["id"],
            "ce_source": f"/ssm-stream/{self.config.source.topic}",
            "ce_type": f"io.ssm-stream.{message['kind']}.{message['phase']}",
            "ce_subject": message["entity"],
            "ce_time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "content-type": "application/json",
        }
        headers: Headers = [(name, value.encode()) for name, value in attributes.items()]
        assert self.config.sinks.alerts is not None
        return Record(self.config.sinks.alerts, message["entity"], orjson.dumps(body), headers)
