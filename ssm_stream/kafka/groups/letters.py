"""Writes dead letters of messages that a group cannot process."""

from __future__ import annotations

import contextlib
import threading

from confluent_kafka import KafkaError, KafkaException

from ssm_stream.config import Config
from ssm_stream.contract.headers import NOTIFY_TARGET, REDRIVEN_FROM
from ssm_stream.ingest.faults import Fault
from ssm_stream.kafka.client import BrokerError, LastError, kafka_error, open_producer
from ssm_stream.kafka.dead_letters import make_dead_letter, truncate
from ssm_stream.kafka.records import Message, offset_of, raw_message


class LetterWriter:
    """Writes dead letters to `sinks.dead_letters`, each acknowledged by the broker. Thread-safe.

    stage: as in the letters' headers
    """

    def __init__(self, config: Config, stage: str) -> None:
        self._config, self._stage, self._lock = config, stage, threading.Lock()
        self._last_error = LastError(config.source, config.sinks.kafka)
        defaults = {"acks": "all", "message.timeout.ms": int(1000 * config.source.wait)}
        self._producer = open_producer(config, self._last_error, defaults=defaults)

    def write(self, message: Message, target: str, fault: Fault, reason: str) -> None:
        """Write the dead letter of a message. target: that it is for

        Raises:
            BrokerError: the broker does not have it.
        """
        place = (str(message.topic()), message.partition() or 0, offset_of(message))
        raw = raw_message(message)
        ours = (NOTIFY_TARGET, REDRIVEN_FROM)
        headers = [
            *((name, value) for name, value in raw.headers if name not in ours),
            (NOTIFY_TARGET, target.encode()),
        ]
        raw = raw._replace(headers=headers)
        letter = make_dead_letter(self._config, raw, place, self._stage, fault, f"target {target!r}: {reason}")
        with self._lock:
            while (failed := self._produce(letter.key, letter.value, letter.headers)) is not None:
                shorter = truncate(letter)
                if failed.code() != KafkaError.MSG_SIZE_TOO_LARGE or shorter is letter:
                    where = f"topic {letter.topic!r} on {self._config.source.brokers}"
                    raise BrokerError(f"{where}: {failed.str()}", self._last_error.cure)
                letter = shorter

    def _produce(
        self, key: str | bytes | None, value: bytes | None, headers: list[tuple[str, str | bytes | None]] | None
    ) -> KafkaError | None:
        """Produce a letter and wait; return the error, if any."""
        failed = list[KafkaError]()

        def on_delivery(error: KafkaError | None, _: object) -> None:
            if error is not None:
                failed.append(error)

        try:
            self._producer.produce(
                self._config.sinks.dead_letters, value, key, headers=headers, on_delivery=on_delivery
            )
            if self._producer.flush(self._config.source.wait + 1):
                failed.append(KafkaError(KafkaError._TIMED_OUT))
        except KafkaException as error:
            failed.append(kafka_error(error))
        return failed[0] if failed else None

    def close(self) -> None:
        """Wait a little for the last letters."""
        with contextlib.suppress(KafkaException):
            self._producer.flush(1.0)
