"""Reads the control topic whole, and acknowledges on it from which offset of which partition a message acts.

The acknowledgement is on the broker before the first event on which the message acts is passed on. So whoever reads the
topic later, a restart or a replay, applies the message to the same events.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import structlog
from confluent_kafka import KafkaException

from ssm_stream.config import Config, Source
from ssm_stream.ingest.control import Acknowledgement, ControlError, ControlReader, ControlWindow, EndedStop
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.kafka.client import BrokerError, LastError, kafka_error, open_producer, topic_error, with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.dead_letters import make_dead_letter
from ssm_stream.kafka.outages.classify import passes
from ssm_stream.kafka.records import Message, offset_of, raw_message
from ssm_stream.kafka.topic_reader import open_topic

LOG = structlog.get_logger("ssm_stream.maintenance")
QUIET = 3.0
"""Seconds without messages after which what a broker that answers still has of a partition are no messages."""
READ_EVERY = 0.5
"""Seconds between two requests for new messages, while events come."""


def control_topic(config: Config) -> Source | None:
    """Return the control topic as a source of its own; None if none is configured."""
    return None if config.control_topic is None else with_topic(config.source, config.control_topic)


def message_id(message: Message) -> str:
    """Return the id of a message on the control topic: `PARTITION-OFFSET`."""
    return f"{message.partition()}-{offset_of(message)}"


class ControlMessages:
    """What the control topic holds.

    windows: by the id of their message; ends: id of a message that ends one → id of the window
    applied: partition of the events → id → offset from which on the message acts
    written: id of a window, or of what ends one → when it was written, ms
    """

    def __init__(self, config: Config) -> None:
        self._read, self._group = ControlReader(config), config.source.group_id
        self.windows: dict[str, ControlWindow] = {}
        self.ends: dict[str, str] = {}
        self.applied: dict[int, dict[str, int]] = {}
        self.written: dict[str, int] = {}
        self._refused: dict[str, tuple[Message, ControlError]] = {}
        self._noted = set[str]()

    def add(self, messages: Iterable[Message]) -> None:
        """Add messages, in any order of their partitions."""
        for message in messages:
            name = message_id(message)
            try:
                found = self._read(message.value(), name)
            except ControlError as error:
                self._refused[name] = message, error
                continue
            if isinstance(found, ControlWindow):
                self.windows[name] = found
            elif isinstance(found, EndedStop):
                self.ends[name] = found.stop
            elif found.group == self._group:
                self.acknowledge(found)
            if not isinstance(found, Acknowledgement):
                self.written[name] = message.timestamp()[1]

    def end_of(self, name: str) -> str | None:
        """Return the id of the message that ends a window before its time, the first one; None if there is none."""
        return next((end for end, stop in self.ends.items() if stop == name), None)

    def span(self, name: str) -> tuple[int, int]:
        """Return [begin, end) of a window, ms, in which it acts: see `ControlWindow.span`."""
        return self.windows[name].span(self.written[name], self.written.get(self.end_of(name) or ""))

    def acknowledge(self, found: Acknowledgement) -> None:
        """Note an acknowledgement of this flow. The first one counts."""
        if found.partition is None or found.offset is None:
            self._noted.add(found.id)
        else:
            self.applied.setdefault(found.partition, {}).setdefault(found.id, found.offset)

    def of_partition(self, partition: int) -> tuple[ControlWindow, ...]:
        """Return the windows that are applied to the events of a partition, in a fixed order."""
        applied, until = self.applied.get(partition, {}), dict[str, int]()
        for name, stop in self.ends.items():
            if name in applied:
                until[stop] = min(applied[name], until.get(stop, applied[name]))
        return tuple(
            self.windows[name]._replace(since=applied[name], until=until.get(name))
            for name in sorted(applied)
            if name in self.windows
        )

    def new_to(self, partition: int) -> list[str]:
        """Return the ids of the messages that no process has applied to the events of a partition."""
        applied = self.applied.setdefault(partition, {})
        return [name for each in (self.windows, self.ends) for name in each if name not in applied]

    def pop_refused(self) -> list[tuple[Message, ControlError]]:
        """Return the messages that cannot be used and that no acknowledgement refuses yet."""
        found = [each for name, each in self._refused.items() if name not in self._noted]
        self._noted |= self._refused.keys()
        self._refused.clear()
        return found


def read_control(config: Config, source: Source) -> ControlMessages:
    """Return what the control topic holds now.

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
    """
    found, partitions = ControlMessages(config), check_broker(source).partitions_of(source.topic)
    with open_topic(source) as reader:
        for messages in reader.read(reader.spans(partitions)):
            found.add(messages)
    return found


def recorded_stops(config: Config) -> Callable[[int, int], tuple[ControlWindow, ...]] | None:
    """Return a function of partition and offset that returns the windows that a run has applied, for its replay.

    None without a control topic.

    Raises:
        BrokerError: as of `read_control`.
    """
    source = control_topic(config)
    if source is None:
        return None
    found = read_control(config, source)
    return lambda partition, offset: found.of_partition(partition)


def _ends(config: Config) -> dict[int, int]:
    """Return the ends of the partitions of the events topics, by their `Source.number`."""
    out = dict[int, int]()
    for each in config.source.each:
        with open_topic(each) as reader:
            spans = reader.spans(check_broker(each).partitions_of(each.topic))
        out |= {config.source.number(each.topic, partition): span.end for partition, span in spans.items()}
    return out


class ControlTopic:
    """Applies the messages of the control topic to the events of a running flow. Thread-safe.

    Args:
        config: with `alerts.control`
        interrupted: a run before may have put out results past the positions that this one begins at. They are not put
            out with other contents: what is new acts behind all that run could read, the ends of the partitions now.

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
    """

    def __init__(self, config: Config, *, interrupted: bool = False) -> None:
        source = control_topic(config)
        assert source is not None
        self._interrupted = interrupted
        self._unknown = _ends(config) if interrupted else {}
        self._config, self._source, self._lock = config, source, threading.Lock()
        self._last_error = LastError(config.source, config.sinks.kafka)
        self._failed: BrokerError | None = None
        self._producer = open_producer(
            config, self._last_error, defaults={"acks": "all", "message.timeout.ms": int(1000 * source.wait)}
        )
        self._messages = ControlMessages(config)
        self._cached: dict[int, tuple[ControlWindow, ...]] = {}
        self._opened = contextlib.ExitStack()
        self._reader = reader = self._opened.enter_context(open_topic(source))
        spans = reader.spans(check_broker(source).partitions_of(source.topic))
        for messages in reader.read(spans):
            self._messages.add(messages)
        self._positions = {partition: span.end for partition, span in spans.items()}
        self._coming = reader.poll(self._positions, wait=0.0)
        self._next = time.monotonic() + READ_EVERY
        self._refuse()

    def windows(self, partition: int, offset: int) -> tuple[ControlWindow, ...]:
        """Return the windows for the events of a partition from an offset on; new ones act from there, or later.

        Raises:
            BrokerError: the control topic cannot be read, or an acknowledgement was not taken.
        """
        with self._lock:
            if time.monotonic() >= self._next:
                self._read()
            messages = self._messages
            if new := messages.new_to(partition):
                for name in new:
                    self._apply(name, partition, max(offset, self._unknown.get(partition, 0)))
                self._deliver()
                self._cached.pop(partition, None)
            if partition not in self._cached:
                self._cached[partition] = messages.of_partition(partition)
            return self._cached[partition]

    def catch_up(self) -> None:
        """Add all that the topic holds now: another process may have applied messages to a partition that comes here.

        Raises:
            BrokerError: the control topic cannot be read.
        """
        with self._lock:
            if self._interrupted:
                self._unknown = _ends(self._config)
            ends = {partition: span.end for partition, span in self._reader.spans(self._positions).items()}
            began, before = time.monotonic(), dict(self._positions)
            while any(self._positions[partition] < end for partition, end in ends.items()):
                self._read(ends)
                if self._positions != before:
                    began, before = time.monotonic(), dict(self._positions)
                elif time.monotonic() - began > QUIET:  # what is left are markers of transactions
                    break
                time.sleep(0.005)
            self._cached.clear()

    def close(self) -> None:
        """End the reading."""
        with self._lock:
            self._opened.close()

    def _read(self, ends: Mapping[int, int] = MappingProxyType({})) -> None:
        """Add the messages that have come. ends: of the partitions, whatever their last message"""
        self._reader.require_there(self._positions)
        try:
            while (found := next(self._coming)) != ([], set()):
                self._messages.add(found[0])
                for message in found[0]:
                    self._positions[message.partition() or 0] = offset_of(message) + 1
                for partition in found[1] if ends else ():
                    self._positions[partition] = max(self._positions[partition], ends[partition])
        except KafkaException as error:
            raise topic_error(self._source, error, self._last_error) from error
        self._next = time.monotonic() + READ_EVERY
        self._refuse()

    def _apply(self, name: str, partition: int, offset: int) -> None:
        """Apply a message from an offset on, and hand its acknowledgement to the producer."""
        found = Acknowledgement(name, self._config.source.group_id, partition, offset)
        self._messages.acknowledge(found)
        self._produce(self._source.topic, found.to_json(), name)
        place = {"message": name, "partition": partition, "offset": offset}
        window = self._messages.windows.get(name)
        if window is None:
            stop = self._messages.ends[name]
            if stop in self._messages.windows:
                LOG.info("planned_stop_ended", stop=stop, **place)
            else:
                LOG.warning("planned_stop_unknown", stop=stop, cure="ssm-stream mute CONFIG --list", **place)
            return
        begin, end = ms_to_iso(window.begin), ms_to_iso(window.end)
        of = {"entity": window.entity, "begin": begin, "end": end, "reason": window.reason, "by": window.by}
        LOG.info("planned_stop", **of, **place)

    def _refuse(self) -> None:
        """Write dead letters for messages that cannot be used, once."""
        refused = self._messages.pop_refused()
        for message, error in refused:
            place = (self._source.topic, message.partition() or 0, offset_of(message))
            letter = make_dead_letter(self._config, raw_message(message), place, "control", error.fault, str(error))
            self._producer.produce(letter.topic, letter.value, letter.key, headers=letter.headers)
            answer = Acknowledgement(message_id(message), self._config.source.group_id)
            self._produce(self._source.topic, answer.to_json(), answer.id)
            LOG.warning("control_message_refused", message=answer.id, why=str(error))
        if refused:
            self._deliver()

    def _produce(self, topic: str, value: bytes, key: str) -> None:
        self._producer.produce(topic, value, key, on_delivery=self._on_delivery)

    def _on_delivery(self, error: object, message: Message) -> None:
        if error is not None:
            self._failed = BrokerError(
                f"topic {message.topic()!r}: an acknowledgement was not taken: {error}",
                "let this user write to the control topic; without acknowledgements no replay can agree",
            )

    def _deliver(self) -> None:
        """Wait until all that was produced is on the broker."""
        try:
            left = self._producer.flush(self._source.wait)
        except KafkaException as error:
            reason = kafka_error(error)
            found = f"topic {self._source.topic!r}: {reason.str()}"
            raise BrokerError(found, self._last_error.cure, passes=passes(reason)) from None
        if self._failed is not None:
            raise self._failed
        if left:
            found = f"topic {self._source.topic!r}: no answer for {self._source.wait:g} s (source.wait)"
            raise BrokerError(found, self._last_error.cure, passes=True)


def write_message(config: Config, source: Source, document: bytes, key: str) -> str:
    """Write a planned stop, or its end, to the control topic, and return the id of the message. document: its content

    Raises:
        ControlError: the message could not be used.
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
    """
    if isinstance(ControlReader(config)(document, ""), Acknowledgement):
        raise ControlError(Fault.WRONG_TYPE, "found an acknowledgement, not a planned stop")
    check_broker(source).partitions_of(source.topic)
    last_error, sent = LastError(config.source, config.sinks.kafka), list[tuple[object, Message]]()
    producer = open_producer(
        config, last_error, defaults={"acks": "all", "message.timeout.ms": int(1000 * source.wait)}
    )
    producer.produce(source.topic, document, key, on_delivery=lambda error, message: sent.append((error, message)))
    producer.flush(source.wait)
    if not sent or sent[0][0] is not None:
        reason = sent[0][0] if sent else f"no answer for {source.wait:g} s (source.wait)"
        raise BrokerError(f"topic {source.topic!r} on {source.brokers}: {reason}", last_error.cure)
    return message_id(sent[0][1])
