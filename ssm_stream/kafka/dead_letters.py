"""Dead letters as they are read back: whence, why, and what the present configuration makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from confluent_kafka import Message

from ssm_stream.config import Config
from ssm_stream.contract.headers import ERROR_HEADER, RECEIPT, REDRIVEN_FROM, TRUNCATED
from ssm_stream.ingest.verdicts import FeedbackReader, NoFeedbackError
from ssm_stream.kafka.codec import Chunk, Decoder, Headers, Output, headers_of, offset_of, too_large

CLASS = "ssm_stream."


class Letter(NamedTuple):
    """A dead letter of ours.

    topic, partition, offset: where the message stood that could not be used; stage, fault, reason: why
    truncated: bytes that it had, where the letter has its head only
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
        """What a receipt for it says: the origin, and what stood there. A copy of the letter, which a crash may have
        left, has the same; what comes to stand there once the topic is made anew, another."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.message.key(), self.message.value()):
            content = part.encode() if isinstance(part, str) else part
            digest.update(b"-" if content is None else b"%d:%b" % (len(content), content))
        return f"{self.origin} {digest.hexdigest()}"

    @property
    def own_headers(self) -> Headers:
        """The message's own headers, without ours."""
        ours = {TRUNCATED, REDRIVEN_FROM}
        return [(n, v) for n, v in headers_of(self.message) if not n.startswith(ERROR_HEADER) and n not in ours]


class Refusal(NamedTuple):
    """Why a message cannot be used by the present configuration."""

    fault: str
    reason: str


def letter_of(message: Message) -> Letter | None:
    """The letter in a message of the dead-letter topic; None: it is none of ours."""
    found = {name: _text(value) for name, value in headers_of(message)}
    errors = {n.removeprefix(ERROR_HEADER): v for n, v in found.items() if n.startswith(ERROR_HEADER)}
    try:
        truncated = int(found[TRUNCATED]) if TRUNCATED in found else None
        return Letter(
            message,
            errors["topic"],
            int(errors["partition"]),
            int(errors["offset"]),
            errors["stage"],
            errors["exception.class.name"].removeprefix(CLASS),
            errors["exception.message"],
            truncated,
        )
    except (KeyError, ValueError):
        return None


def receipt_in(message: Message) -> str | None:
    """What a receipt is for; None: the message is none."""
    return next((_text(value) for name, value in headers_of(message) if name == RECEIPT), None)


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


class Judge:
    """What the present configuration says of letters: the decoder's word, as if the message came now.

    Refusals of later stages (a label without an event, too many entities) depend on the state, and are not foreseen.
    """

    def __init__(self, config: Config) -> None:
        self._decode, self._feedback = Decoder(config), FeedbackReader(config)
        self._most = config.event.max_bytes
        labels, feedback = config.labels, config.alerts.feedback
        self._events = {config.source.topic, *([labels.topic] if labels and labels.topic else [])}
        self._verdicts = feedback.topic if feedback else None

    @property
    def topics(self) -> set[str]:
        """Topics that the configuration reads."""
        return {*self._events, *([self._verdicts] if self._verdicts else [])}

    def __call__(self, letters: Sequence[Letter]) -> list[Refusal | None]:
        """Of each letter why it would be refused; None: it would be read. All are of `topics`."""
        out: list[Refusal | None] = [None] * len(letters)
        groups: dict[tuple[str, int | None], list[int]] = {}
        for i, letter in enumerate(letters):
            groups.setdefault((letter.topic, letter.message.partition()), []).append(i)
        for (topic, _), rows in groups.items():
            if topic == self._verdicts:
                for i in rows:
                    out[i] = self._verdict(letters[i].message.value())
                continue
            at = {offset_of(letters[i].message): i for i in rows}
            for offset, refusal in self._refused(topic, [letters[i].message for i in rows]):
                out[at[offset]] = refusal
        return out

    def _refused(self, topic: str, messages: list[Message]) -> Iterable[tuple[int, Refusal]]:
        for _, item in self._decode(Chunk(topic, 0, messages)):
            if isinstance(item, Output):
                for record in item.others:
                    said = {name: _text(value) for name, value in record.headers or []}
                    fault = said[f"{ERROR_HEADER}exception.class.name"].removeprefix(CLASS)
                    yield record.offset, Refusal(fault, said[f"{ERROR_HEADER}exception.message"])

    def _verdict(self, value: bytes | None) -> Refusal | None:
        if value is not None and len(value) > self._most:
            return Refusal("TooLarge", too_large(len(value), self._most))
        try:
            self._feedback(value)
        except NoFeedbackError as error:
            return Refusal(error.fault, str(error))
        return None
