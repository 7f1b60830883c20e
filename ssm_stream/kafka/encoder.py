"""Results of the engine to messages: predictions, alerts as CloudEvents, and dead letters of events and labels."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.contract.message_schemas import CONTENT_TYPES, OF_PREDICTION
from ssm_stream.core import native
from ssm_stream.core.loop import Predictions
from ssm_stream.engine.alert_kinds import MAINTENANCE, SHADOW
from ssm_stream.engine.engine import Alert, LabelResult
from ssm_stream.engine.episodes.ids import EventIds, alert_id, source_of
from ssm_stream.engine.summaries.columns import HOUR, HOUR_MS
from ssm_stream.engine.summaries.hourly import EndedHours
from ssm_stream.engine.summaries.messages import summary_key, summary_lines, summary_messages
from ssm_stream.ingest.events import RefusedDocument
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.labels import UnmatchedLabel
from ssm_stream.ingest.timestamps import EPOCH
from ssm_stream.kafka.dead_letters import make_dead_letter
from ssm_stream.kafka.formats.outputs import open_outputs
from ssm_stream.kafka.records import Headers, LabelBatch, OutputBatch, ProducerRecord, RawMessage, ShardBatch
from ssm_stream.kafka.wire.values import WrittenValues
from ssm_stream.ops.observers import Sent

T = TypeVar("T")
PREDICTION_FIELDS = ("ts", "y", *OF_PREDICTION)
"""Fields of a prediction, between the entity and the id."""


@functools.lru_cache(1024)
def _template(
    stem: str,
    names: tuple[str, ...],
    target: str | None,
    frame: bytes,
    idle: bool | None = None,
    *,
    numbered: bool = False,
) -> tuple[bytes, ...]:
    """Return the text before, between and after the values; with several targets, with the path of one.

    idle: None without `event.when`; an event that is has no prediction; numbered: ids have the row's number
    """
    before = {"y": b'"target":' + orjson.dumps(target) + b","} if target is not None else {}
    end = b'"}' if target is None else b"-" + orjson.dumps(target)[1:] + b"}"
    texts, gap = [frame + b'{"entity":'], b""
    for name in names:
        text = b"," + before.get(name, b"") + b'"%b":' % name.encode()
        if idle and name in OF_PREDICTION:
            gap += text + b"null"
        else:
            texts.append(gap + text)
            gap = b""
    flag = b"" if idle is None else b',"idle":%b' % orjson.dumps(idle)
    number = [b"-"] if numbered else []
    return (*texts, gap + flag + b',"id":' + orjson.dumps(stem)[:-1], *number, end)


def encode_predictions(
    batch: ShardBatch,
    predictions: Predictions,
    stem: str,
    ahead: float | None = None,
    targets: Sequence[str] = (),
    frame: bytes = b"",
) -> Sequence[bytes]:
    """Return the prediction messages of a batch as JSON.

    The bytes are those of a dict per event through orjson, in a fifth of the time. A missing target (NaN) is null.
    Events for which planned stops are determined have the field `maintenance`.

    Args:
        stem: beginning of the ids, which end with the offset, or with offset and number (`Events.number`)
        ahead: the horizon, s (0 if it counts events), for the field `for`, the time predicted; None: without it
        targets: where there are several, an event has a message for each of them, in their order
        frame: first bytes of every message
    """
    events, p = batch.events, predictions
    numbers: list[NDArray[Any]] = [
        events.ts, events.measured, p.yhat, p.lower, p.upper, p.score, p.warmup, p.n, p.fleet,
    ]  # fmt: skip
    fields = [*PREDICTION_FIELDS]
    if events.maintenance is not None:
        fields.append(MAINTENANCE)
        numbers.append(events.maintenance > 0)
    if ahead is not None:
        fields.insert(1, "for")
        numbers.insert(1, events.ts + round(ahead * 1000) if ahead else np.full(len(events), np.nan))
    names, offsets, m = events.entity, batch.offsets, len(targets)
    of_row = [] if events.number is None else [np.repeat(events.number, m or 1)]
    if m:
        names, offsets = _repeat(names, m), _repeat(offsets, m)
        numbers = [np.repeat(column, m) if column.ndim == 1 else column.ravel() for column in numbers]
    ids: list[NDArray[Any] | list[int]] = [_numbers(offsets), *of_row]

    names_of = tuple(fields)

    def templates(idle: bool | None) -> list[tuple[bytes, ...]]:
        return [_template(stem, names_of, target, frame, idle, numbered=bool(of_row)) for target in targets or (None,)]

    if events.idle is None:
        return WrittenValues(native.write_json(templates(None), names, [*numbers, *ids]))
    out = native.write_rows(templates(False), names, [*numbers, *ids])
    rows = np.flatnonzero(np.repeat(events.idle, m or 1))
    given = [i for i, name in enumerate(fields) if name not in OF_PREDICTION]
    columns = [np.asarray(column)[rows] for column in (*(numbers[i] for i in given), *ids)]
    written = native.write_rows(templates(True), [names[i] for i in rows.tolist()], columns)
    for i, value in zip(rows.tolist(), written, strict=True):
        out[i] = value
    return out


def with_gaps(values: list[bytes], gaps: Mapping[int, int], m: int) -> list[bytes]:
    """Return the messages with the field `gap` where offsets are missing before the event. m: messages an event"""
    for row, missing in gaps.items():
        for i in range(m * row, m * row + m):
            values[i] = values[i][:-1] + b',"gap":%d}' % missing
    return values


def _numbers(offsets: Sequence[int]) -> NDArray[np.int64] | list[int]:
    """Return offsets as a column to be written."""
    if isinstance(offsets, range):
        return np.arange(offsets.start, offsets.stop, offsets.step, dtype=np.int64)
    return list(offsets)


def _repeat(items: Iterable[T], m: int) -> list[T]:
    """Return each item m times."""
    return [item for item in items for _ in range(m)]


class Encoder:
    """Encodes the engine's results as messages.

    Raises:
        RegistryError: the schema registry, if there is one, does not answer or refuses.
    """

    def __init__(self, config: Config) -> None:
        self.outputs = open_outputs(config)
        self.config = config
        horizon = config.model.horizon
        self._ahead = horizon.seconds if horizon.seconds or horizon.events else None
        self._targets = config.event.targets if len(config.event.targets) > 1 else []
        self._label_topic = (config.labels and config.labels.topic) or config.source.topic

    def encode(
        self,
        batch: ShardBatch,
        predictions: Predictions,
        alerts: list[Alert],
        ended: Sequence[EndedHours] = (),
        gaps: Mapping[int, int] | None = None,
    ) -> OutputBatch:
        """Return the predictions and alerts of one batch, and the summaries of the hours that it ends. gaps: by row"""
        topic, sinks = self.topic_of(batch), self.config.sinks
        stem = f"{topic}-{batch.partition}-"
        others = self.alert_records(alerts, self.event_ids(batch))
        others += itertools.chain.from_iterable(map(self.summary_records, ended))
        output = OutputBatch(topic, batch.partition, batch.offsets[0], batch.offsets[-1], others)
        if sinks.predictions is None:
            return output
        write = self.outputs.prediction
        frame = write.frame if write.schema is None else b""
        values = encode_predictions(batch, predictions, stem, self._ahead, self._targets, frame)
        if gaps:
            values = with_gaps(list(values), gaps, len(self._targets) or 1)
        if write.schema is not None:
            values = list(map(write.of_json, values))
        keys, offsets = batch.events.entity, batch.offsets
        if m := len(self._targets):
            keys, offsets = _repeat(keys, m), _repeat(offsets, m)
        return output._replace(predictions=sinks.predictions, keys=keys, values=values, offsets=offsets)

    def encode_labelled(self, batch: LabelBatch, outcome: LabelResult) -> OutputBatch:
        """Return the alerts of one batch of labels; their source is the label."""
        ids = self.label_ids(batch)
        others = self.alert_records(outcome.alerts, ids)
        return OutputBatch(ids.topic, batch.partition, ids.offsets[0], ids.offsets[-1], others)

    def alert_records(self, alerts: list[Alert], ids: EventIds) -> list[ProducerRecord]:
        """Return the messages of alerts, on the topics of those that are sent and of those that are suppressed."""
        sinks = self.config.sinks
        return [
            self.alert_record(alert_body(alert, ids), ids.offsets[alert.row])
            for alert in alerts
            if (sinks.alerts if alert.suppressed_by is None else sinks.suppressed) is not None
        ]

    def summary_records(self, ended: EndedHours) -> Iterator[ProducerRecord]:
        """Yield the messages of hours that have ended."""
        topic, write = self.config.sinks.summaries, self.outputs.summary
        assert topic is not None
        if self._targets or write.schema is not None:
            for key, offset, content in summary_messages(self.config, ended):
                yield ProducerRecord(topic, key, write.encode(content), None, offset)
            return
        keys = map(summary_key, ended.names, (ended.times[:, HOUR] * HOUR_MS).tolist())
        for key, offset, line in zip(keys, ended.offsets, summary_lines(self.config, ended), strict=True):
            yield ProducerRecord(topic, key, write.frame + line, None, offset)

    def encode_refused(
        self, batch: ShardBatch, refused: Sequence[RefusedDocument], stage: str = "admit"
    ) -> OutputBatch:
        """Return the dead letters of the events, or messages, of a batch that the shard refuses."""
        assert batch.raw is not None
        topic, records = self.topic_of(batch), []
        for refusal in refused:
            place = (topic, batch.partition, batch.offsets[refusal.position])
            raw = batch.raw[refusal.position]
            records.append(make_dead_letter(self.config, raw, place, stage, refusal.fault, refusal.reason))
        return OutputBatch(topic, batch.partition, records[0].offset, records[-1].offset, records)

    def encode_unmatched(self, batch: ShardBatch | LabelBatch, labels: list[UnmatchedLabel]) -> OutputBatch:
        """Return the dead letters of the labels that were given up in a batch: key and value as they came, without the
        headers that they had."""
        if isinstance(batch, LabelBatch):
            topic, offsets = batch.topic or self._label_topic, batch.labels.position.tolist()
        else:
            topic, offsets = self.topic_of(batch), batch.offsets
        records = []
        for label in labels:
            raw = RawMessage(*(label.raw or (None, None)), [])
            by_marker = self._label_topic in self.config.source.names
            origin = self.config.source.place(label.source) if by_marker else (self._label_topic, label.source)
            place = (*origin, label.position)
            letter = make_dead_letter(self.config, raw, place, "label", Fault.UNMATCHED_LABEL, label.reason)
            records.append(letter._replace(offset=offsets[label.row]))  # of the message at which it was given up
        return OutputBatch(topic, batch.partition, records[0].offset, records[-1].offset, records)

    def topic_of(self, batch: ShardBatch) -> str:
        """Return the topic that a batch came from."""
        return batch.topic or self.config.source.topic

    def source_of(self, batch: ShardBatch | LabelBatch) -> int:
        """Return the number of the partition that a batch came from: see `Source.number`."""
        return self.config.source.number(batch.topic, batch.partition)

    def event_ids(self, batch: ShardBatch) -> EventIds:
        """Return where the events of a batch come from, for the ids of their alerts."""
        return EventIds(self.topic_of(batch), batch.partition, batch.offsets, batch.events.number)

    def label_ids(self, batch: LabelBatch) -> EventIds:
        """Return where the labels of a batch come from, for the ids of their alerts."""
        return EventIds(batch.topic or self._label_topic, batch.partition, batch.labels.position.tolist())

    def alert_bodies(self, batch: ShardBatch, alerts: list[Alert]) -> list[dict[str, Any]]:
        """Return the contents of the alerts of one batch that are sent."""
        ids = self.event_ids(batch)
        return [alert_body(alert, ids) for alert in alerts if alert.suppressed_by is None]

    def waiting_record(self, alert: Alert) -> ProducerRecord:
        """Return the message of an alert that waits, as it will be sent."""
        assert alert.place is not None
        place = alert.place
        return self.alert_record(alert_body(alert, EventIds(place.topic, place.partition, [place.offset])))

    def alert_record(self, body: dict[str, Any], offset: int | None = None) -> ProducerRecord:
        """Return a CloudEvent in binary mode: attributes in the headers, the alert itself in the value.

        One with `suppressed_by` is for `sinks.suppressed`.

        Args:
            body: content
            offset: of the message at which it is sent; None: its own event's
        """
        time = EPOCH + timedelta(milliseconds=body["ts"])
        attributes = {
            "ce_specversion": "1.0",
            "ce_id": body["id"],
            "ce_source": f"/ssm-stream/{body['source']['topic']}",
            "ce_type": f"io.ssm-stream.{body['kind']}.{body['phase']}",
            "ce_subject": body["entity"],
            "ce_time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "content-type": CONTENT_TYPES[self.config.sinks.format],
        }
        headers: Headers = [(name, value.encode()) for name, value in attributes.items()]
        sinks, suppressed = self.config.sinks, "suppressed_by" in body
        topic = sinks.suppressed if suppressed else sinks.alerts
        assert topic is not None
        counted = (body["kind"], body["phase"])
        sent = Sent("alert", (*counted, body["scope"]))
        if suppressed:
            by = body["suppressed_by"]
            sent = Sent("suppressed", (*counted, by if by in (SHADOW, MAINTENANCE) else "fleet"))
        value = (self.outputs.suppressed if suppressed else self.outputs.alert).encode(body)
        cause = body["source"]["offset"] if offset is None else offset
        return ProducerRecord(topic, body["entity"], value, headers, cause, sent)


def alert_body(alert: Alert, ids: EventIds) -> dict[str, Any]:
    """Return the content of an alert with its source and its id. ids: of the batch in which it is sent"""
    topic, partition, offset = source_of(alert, ids)
    source = {"topic": topic, "partition": partition, "offset": offset}
    return {**alert.message, "source": source, "id": alert_id(topic, partition, offset, alert)}
