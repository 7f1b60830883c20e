"""Sends a recording to the events topic: as fast as the broker accepts it, at a rate, or at the recorded speed.

`replay` is the whole job as one function: the command, the demo (in a thread) and the tests call it. `RowProducer` is
the producer under it, and under the sink of `flows/replay.py`: every row has a delivery report, and a row that the
broker refuses stops the replay with the broker's own words.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import KafkaError, KafkaException, Message

from ssm_stream.config import Event
from ssm_stream.config.paths import HEADER, KEY, is_message_field
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.json_values import bytes_of, is_utf8
from ssm_stream.ingest.paths import path_getter
from ssm_stream.ingest.rows.names import entity_getter
from ssm_stream.kafka.client import LOGGER, PROPERTY_ERRORS, KafkaProducer, kafka_error, redact_text
from ssm_stream.kafka.formats.rows import RowError

Row = dict[str, Any]
STOP_INTERVAL = 0.05
"""Seconds between two calls of `should_stop`, at most."""
PROGRESS_INTERVAL = 0.1
"""Seconds between two calls of `on_progress`."""
AHEAD = 256
"""Rows whose times are parsed at once for pacing."""
PRODUCER = {
    # The partitioner of Kafka's own clients: a key goes to the partition that a Java producer chooses.
    "partitioner": "murmur2_random",
    "linger.ms": 20,
    "message.timeout.ms": 30_000,
    "topic.metadata.propagation.max.ms": 10_000,
}
ALIASES = {"message.timeout.ms": "delivery.timeout.ms", "linger.ms": "queue.buffering.max.ms"}
CURES = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic: ssm-stream doctor CONFIG --create-topics",
    KafkaError._UNKNOWN_TOPIC: "create the topic: ssm-stream doctor CONFIG --create-topics",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "let this user write to the topic",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "allow IdempotentWrite, or set enable.idempotence: false in source.kafka",
    KafkaError._UNSUPPORTED_FEATURE: "the broker is too old: set enable.idempotence: false in source.kafka",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise message.max.bytes in source.kafka and at the broker, or leave the row out",
    KafkaError._MSG_TIMED_OUT: "start the broker, or raise message.timeout.ms in source.kafka",
}


class ReplayError(RuntimeError):
    """The replay stopped. The text has the broker's own message and the cure.

    Attributes:
        acknowledged: number of rows, from the first on without a gap, that the broker has.
    """

    def __init__(self, text: str, acknowledged: int = 0) -> None:
        super().__init__(text)
        self.acknowledged = acknowledged


class PositionError(ReplayError):
    """The position file cannot be used. The text has its path and the cure."""


class ReplayResult(NamedTuple):
    """rows: acknowledged by the broker; seconds: first row to last report; stopped: before the end, by `should_stop`"""

    rows: int
    seconds: float
    stopped: bool

    @property
    def events_per_s(self) -> float:
        return self.rows / self.seconds if self.seconds > 0 else 0.0


def replay(
    producer: RowProducer,
    rows: Iterable[Row],
    *,
    speed: float | None = None,
    rate: float | None = None,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ReplayResult:
    """Send every row as a message whose key is its entity, and wait until the broker has them all.

    Columns `$header.NAME` become headers; they and `$key` are no fields of the message's value.

    Args:
        speed: factor by which the recorded time runs faster. A row whose time cannot be read, or is before that of the
            previous row, is sent at once; where time returns to the start (entity after entity), the pace starts again.
        rate: events a second. With neither: as fast as the broker accepts them.
        on_progress: called about ten times a second, and at the end, with the number of rows, from the first on without
            a gap, that the broker has acknowledged.
        should_stop: called at least every 50 ms; True ends the replay once all sent rows are acknowledged.

    Raises:
        ReplayError: a row was refused, or `speed` is given and no time can be read.
        RecordingError: from `rows`; what was sent before is delivered first.
    """
    report, stop = on_progress or _nothing, should_stop or _never
    if speed is not None:
        paced = _at_speed(rows, producer.event, speed)
    elif rate is not None:
        paced = ((number / rate, row) for number, row in enumerate(rows))
    else:
        paced = ((None, row) for row in rows)

    started = reported = time.monotonic()
    stopped = False
    try:
        for number, (due, row) in enumerate(paced):
            if due is not None or number % 1000 == 0:
                now = time.monotonic()
                while not (stopped := stop()) and due is not None and (wait := started + due - now) > 0:
                    producer.poll(min(wait, STOP_INTERVAL))
                    now = time.monotonic()
                    if now - reported >= PROGRESS_INTERVAL:
                        reported = now
                        report(producer.acknowledged)
                if stopped:
                    break
                if now - reported >= PROGRESS_INTERVAL:
                    reported = now
                    report(producer.acknowledged)
            producer.send(row)
    finally:
        # Also when the recording breaks off in the middle: what was sent is delivered.
        producer.flush(report)
        report(producer.acknowledged)
    return ReplayResult(producer.acknowledged, time.monotonic() - started, stopped)


def _nothing(_: int) -> None:
    return None


def _never() -> bool:
    return False


def _at_speed(rows: Iterable[Row], event: Event, speed: float) -> Iterator[tuple[float | None, Row]]:
    """Yield each row with the second, from the start on, at which it is due."""
    format_ = {"timestamp_format": event.timestamp_format, "time_zone": event.time_zone}
    reader = EventReader(Event.model_validate({"entity": "entity", "timestamp": "ts", **format_}))
    source, get = iter(rows), path_getter(event.timestamp)
    first: float | None = None
    latest = begun = last_due = 0.0
    while some := list(itertools.islice(source, AHEAD)):
        events, refused = reader.read([{"entity": "-", "ts": get(row)} for row in some])
        if first is None and not len(events):
            raise ReplayError(f"no time can be read in the first {len(some)} rows: {refused[0].reason}")
        times = dict(zip(events.position.tolist(), (events.ts / 1000).tolist(), strict=True))
        for position, row in enumerate(some):
            ts = times.get(position)
            if ts is None:
                yield None, row
                continue
            if first is None or ts <= first < latest:
                first, latest, begun = ts, ts, last_due
            latest = max(latest, ts)
            last_due = begun + (latest - first) / speed
            yield last_due, row


def encode_row(row: Row) -> bytes:
    """Return the row as JSON. NaN and infinities, which JSON lacks, become text, and text that is not UTF-8 the list of
    its bytes, so that a consumer can refuse them.

    Numbers beyond 64 bits are written in full.
    """
    try:
        data = orjson.dumps(row)
    except TypeError:
        return json.dumps(_spell_out(row), default=str).encode()
    # orjson writes null for NaN, which would turn a broken measurement into a missing one: check where a null is.
    return orjson.dumps(_spell_out(row)) if b"null" in data else data


def _spell_out(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return value if is_utf8([value]) else list(bytes_of(value))
    if isinstance(value, dict):
        return {str(key): _spell_out(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spell_out(item) for item in value]
    return value


def _split_headers(row: Row) -> tuple[list[tuple[str, str | bytes | None]], Row]:
    """Return the headers of a row's message, and the row without these and the key: see `config.paths`."""
    own = [name for name in row if is_message_field(name)]
    if not own:
        return [], row
    headers: list[tuple[str, str | bytes | None]] = [
        (name.removeprefix(HEADER), bytes_of(str(row[name]))) for name in own if name != KEY and row[name] is not None
    ]
    return headers, {name: value for name, value in row.items() if name not in own}


class RowProducer:
    """Sends rows as messages keyed by their entity, and counts those that the broker has.

    properties: librdkafka's, at least `bootstrap.servers`
    event: where a row has its entity. A row without one has no key, or `entity_default`
    encode: from `row_encoder`; by default as JSON

    Raises:
        ReplayError: librdkafka refuses a property.
    """

    def __init__(
        self, properties: Mapping[str, Any], topic: str, event: Event, encode: Callable[[Row], bytes] = encode_row
    ) -> None:
        self.event = event
        self._topic, self._encode, self._entity = topic, encode, entity_getter(event)
        self._properties = dict(properties)
        self._last_error = ""
        self._sent = 0
        self._waiting: dict[int, None] = {}
        self._failure: tuple[int, KafkaError] | None = None
        defaults = {k: v for k, v in PRODUCER.items() if not {k, ALIASES.get(k)} & set(properties)}
        if not {"acks", "request.required.acks"} & set(properties):
            defaults["enable.idempotence"] = True
        try:
            self._producer = KafkaProducer({"error_cb": self._on_error, "logger": LOGGER, **defaults, **properties})
        except PROPERTY_ERRORS as error:
            reason = kafka_error(error).str() if isinstance(error, KafkaException) else str(error)
            raise ReplayError(f"source.kafka: {redact_text(reason, properties)}; correct the property") from None

    @property
    def acknowledged(self) -> int:
        """Number of rows, from the first on without a gap, that the broker has."""
        return next(iter(self._waiting), self._sent)

    def send(self, row: Row) -> None:
        """Hand a row to the client; wait while its queue is full.

        Raises:
            ReplayError: the broker refused this row or an earlier one.
        """
        name = self._entity(row)
        name = self.event.entity_default if name is None else name
        key = bytes_of(str(name)) if name is not None and name != "" else None
        headers, row = _split_headers(row)
        try:
            value = self._encode(row)
        except RowError as error:
            raise ReplayError(f"topic {self._topic!r}: row {self._sent + 1}: {error}", self.acknowledged) from None
        on_delivery = functools.partial(self._on_delivery, self._sent)
        while True:
            try:
                self._producer.produce(self._topic, value, key, headers=headers, on_delivery=on_delivery)
                break
            except BufferError:
                self.poll(STOP_INTERVAL)
            except KafkaException as error:
                self._fail(self._sent, kafka_error(error))
        self._waiting[self._sent] = None
        self._sent += 1
        if self._sent % 100 == 0:
            self.poll(0)

    def poll(self, seconds: float) -> None:
        """Process delivery reports for so long.

        Raises:
            ReplayError: a row was not delivered.
        """
        until = time.monotonic() + seconds
        self._serve(self._producer.poll, seconds)
        while self._failure is None and (left := until - time.monotonic()) > 0:
            self._serve(self._producer.poll, left)
        if self._failure is not None:
            self._fail(*self._failure)

    def flush(self, on_progress: Callable[[int], None] = _nothing) -> None:
        """Wait until every row is delivered, `message.timeout.ms` at most.

        Raises:
            ReplayError: a row was not delivered.
        """
        while self._waiting and self._failure is None:
            self._serve(self._producer.flush, PROGRESS_INTERVAL)
            on_progress(self.acknowledged)
        if self._failure is not None:
            self._fail(*self._failure)

    def _serve(self, call: Callable[[float], int], seconds: float) -> None:
        """Process delivery reports; keep a fatal error of the client, which is an exception, as the failure."""
        try:
            call(seconds)
        except KafkaException as error:
            self._failure = self._failure or (self.acknowledged, kafka_error(error))

    def _on_delivery(self, number: int, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._waiting.pop(number, None)
        elif self._failure is None or number < self._failure[0]:
            self._failure = (number, error)

    def _on_error(self, error: KafkaError) -> None:
        # "All brokers are down" always follows the message with the reason.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = error.str()

    def _fail(self, number: int, error: KafkaError) -> None:
        """Stop: drop what is queued, so that it cannot arrive later, and raise the reason."""
        self._producer.purge()
        self._producer.flush(1.0)
        code = error.code()
        reason = error.str()
        if code in (KafkaError._MSG_TIMED_OUT, KafkaError._FATAL) and self._last_error:
            reason = f"{reason} ({self._last_error})"
        cure = CURES.get(code, "see the broker's log")
        found = redact_text(reason, self._properties)
        text = f"topic {self._topic!r}: row {number + 1} was not delivered: {found}; {cure}"
        self._waiting.setdefault(number, None)
        done = min(self._waiting)
        self._waiting.clear()
        self._failure = None
        self._sent = done
        raise ReplayError(text, done)


class ReplayPosition:
    """How far a recording was replayed onto a topic: a small file in `.ssm-stream/` of the working directory."""

    def __init__(self, recording: Path, brokers: str, topic: str, folder: Path = Path(".ssm-stream")) -> None:
        what = f"{recording.resolve()}\n{brokers}\n{topic}"
        self.path = folder / f"replay-{hashlib.sha256(what.encode()).hexdigest()[:12]}.json"
        self._size = recording.stat().st_size
        self._about = {"file": str(recording), "topic": topic, "bytes": self._size}

    def read(self) -> int:
        """Return the number of rows that are on the topic; 0 without a position file.

        Raises:
            PositionError: the position file is broken, or the recording is shorter than it was.
        """
        if not self.path.is_file():
            return 0
        try:
            found = orjson.loads(self.path.read_bytes())
            rows, size = int(found["rows"]), int(found["bytes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PositionError(f"{self.path}: not a position file ({error}); delete it to start again") from error
        if self._size < size:
            raise PositionError(
                f"{self._about['file']}: shorter than when it was replayed to row {rows} ({size} bytes then); "
                f"start again without --resume"
            )
        return rows

    def write(self, rows: int) -> None:
        """Write the position. The file is replaced in one step, so that a crash leaves the old one or the new one.

        Raises:
            PositionError: the folder cannot be written.
        """
        content = orjson.dumps({**self._about, "rows": rows}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        new = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(content)
            os.replace(new, self.path)
        except OSError as error:
            raise PositionError(f"{self.path}: the position cannot be written: {error}") from error
