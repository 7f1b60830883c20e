"""The format of dead letters: the message as it came, and Kafka Connect's headers with its origin and the fault.

`ssm-stream dlq redrive` writes receipts to the same topic.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from ssm_stream.config import Config
from ssm_stream.contract.headers import ERROR_HEADER, FAULT_PREFIX, NOTIFY_TARGET, RECEIPT, REDRIVEN_FROM, TRUNCATED
from ssm_stream.ingest.faults import Fault
from ssm_stream.kafka.records import Headers, Message, ProducerRecord, RawMessage, headers_of
from ssm_stream.ops.observers import Sent

TRUNCATED_TO = 100_000
"""Bytes of the value of a truncated dead letter; if its topic refuses that too, a quarter of it at a time."""
MIN_TRUNCATED = 100


def make_dead_letter(
    config: Config, raw: RawMessage, place: tuple[str, int, int], stage: str, fault: Fault, reason: str
) -> ProducerRecord:
    """Return the dead letter of a message that cannot be used. place: topic, partition, offset"""
    topic, partition, offset = place
    content = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "stage": stage,
        "exception.class.name": f"{FAULT_PREFIX}{fault}",
        "exception.message": reason,
    }
    # A lone surrogate (from a key that was no text) must not stop the letter that reports it.
    errors: Headers = [
        (ERROR_HEADER + name, str(value).encode("utf-8", "backslashreplace")) for name, value in content.items()
    ]
    sent = Sent("dead_letter", (stage, str(fault)))
    return ProducerRecord(config.sinks.dead_letters, raw.key, raw.value, [*raw.headers, *errors], offset, sent)


def truncate(record: ProducerRecord) -> ProducerRecord:
    """Return a dead letter with only the beginning of its value, and a header with the original size; the record itself
    if it is too short to be truncated."""
    if record.value is None or len(record.value) <= MIN_TRUNCATED:
        return record
    size = len(record.value)
    headers = list(record.headers or [])
    if all(name != TRUNCATED for name, _ in headers):
        headers.append((TRUNCATED, str(size).encode()))
    return record._replace(value=record.value[: TRUNCATED_TO if size > TRUNCATED_TO else size // 4], headers=headers)


class DeadLetter(NamedTuple):
    """A dead letter read from its topic.

    topic, partition, offset: of the message that could not be used; stage, fault, reason: why
    truncated: size in bytes of the original value, where the letter has only its beginning
    """

    message: Message
    topic: str
    partition: int
    offset: int
    stage: str
    fault: str
    reason: str
    truncated: int | None = None

    @property
    def place(self) -> str:
        """PARTITION-OFFSET on the dead-letter topic."""
        return f"{self.message.partition()}-{self.message.offset()}"

    @property
    def origin(self) -> str:
        """TOPIC-PARTITION-OFFSET of the message that could not be used."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    @property
    def receipt(self) -> str:
        """The header of its receipt: the origin, a hash of key and value, and notify's target. A copy of the letter,
        which a crash may leave, has the same; a message at the same offset of a topic that was created again has
        another."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.message.key(), self.message.value()):
            content = part.encode() if isinstance(part, str) else part
            digest.update(b"-" if content is None else b"%d:%b" % (len(content), content))
        receipt = f"{self.origin} {digest.hexdigest()}"
        return receipt if self.target is None else f"{receipt} {self.target}"

    @property
    def target(self) -> str | None:
        """The target of `notify` that the alert was for; None in letters of the flow."""
        return next((_text(value) for name, value in headers_of(self.message) if name == NOTIFY_TARGET), None)

    @property
    def own_headers(self) -> Headers:
        """The headers of the original message."""
        ours = {TRUNCATED, REDRIVEN_FROM}
        return [(n, v) for n, v in headers_of(self.message) if not n.startswith(ERROR_HEADER) and n not in ours]


class Refusal(NamedTuple):
    """Why the present configuration refuses a message."""

    fault: str
    reason: str


def refusal_of(record: ProducerRecord) -> Refusal:
    """Return the fault and the reason in the headers of a dead letter that was just made."""
    found = {name: _text(value) for name, value in record.headers or []}
    fault = found[f"{ERROR_HEADER}exception.class.name"].removeprefix(FAULT_PREFIX)
    return Refusal(fault, found[f"{ERROR_HEADER}exception.message"])


def parse_dead_letter(message: Message) -> DeadLetter | None:
    """Return the dead letter in a message of the dead-letter topic; None if ssm-stream did not write it."""
    found = {name: _text(value) for name, value in headers_of(message)}
    errors = {n.removeprefix(ERROR_HEADER): v for n, v in found.items() if n.startswith(ERROR_HEADER)}
    try:
        truncated = int(found[TRUNCATED]) if TRUNCATED in found else None
        return DeadLetter(
            message,
            errors["topic"],
            int(errors["partition"]),
            int(errors["offset"]),
            errors["stage"],
            errors["exception.class.name"].removeprefix(FAULT_PREFIX),
            errors["exception.message"],
            truncated,
        )
    except (KeyError, ValueError):
        return None


def is_redriven(message: Message) -> bool:
    """Return whether a message is one that was a dead letter, and stands on its topic once more."""
    return any(name == REDRIVEN_FROM for name, _ in headers_of(message))


def parse_receipt(message: Message) -> str | None:
    """Return `DeadLetter.receipt` of the letter that a receipt is for; None if the message is no receipt."""
    return next((_text(value) for name, value in headers_of(message) if name == RECEIPT), None)


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
