"""What all Kafka clients share: their properties, their errors, and texts without secrets."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from ssm_stream.config import Config, Source
from ssm_stream.config.client_properties import REDACTED, USERINFO, is_redacted
from ssm_stream.core import native
from ssm_stream.kafka.outages.classify import is_fenced as is_fenced
from ssm_stream.kafka.outages.classify import kafka_error as kafka_error
from ssm_stream.kafka.outages.classify import passes
from ssm_stream.kafka.wire.library import latest_client, with_plugin
from ssm_stream.kafka.wire.values import WrittenValues

LOGGER = logging.getLogger("ssm_stream.kafka")
"""Receives librdkafka's log lines. They are dropped unless the application configures logging: without a handler Python
would print every lost connection to stderr, in the middle of the live view."""
LOGGER.addHandler(logging.NullHandler())

STOP = threading.Event()
"""Set: every source ends at its next poll, and the dataflow ends as at the end of its input, snapshots written; no
server is waited for any longer."""

PROPERTY_ERRORS = (KafkaException, TypeError, ValueError)
"""Raised where librdkafka refuses a property of a new client."""
CURES = {
    KafkaError._RESOLVE: "correct the host name in source.brokers, or this machine's name service",
    KafkaError._AUTHENTICATION: "correct the sasl.* properties in source.kafka; the broker refused them",
    KafkaError._SSL: (
        "correct the ssl.* properties and security.protocol in source.kafka: ssl.ca.location names the authorities "
        "that are trusted, ssl.certificate.location and ssl.key.location are for brokers that require a client "
        "certificate"
    ),
    KafkaError._TRANSPORT: (
        "start the broker, or correct source.brokers; if the broker requires TLS or SASL, set security.protocol in "
        "source.kafka"
    ),
}
ABSENT = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
CURES |= dict.fromkeys(
    ABSENT,
    "the brokers answer, but have no such topic or partition, or no leader for it: ssm-stream doctor CONFIG shows what "
    "they have; create a topic that was deleted again: ssm-stream doctor CONFIG --create-topics",
)


DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "consumer group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
}
"""Code of the broker's refusal → the resource that the user has no right to."""


class BrokerError(RuntimeError):
    """A broker or topic cannot be used. The text names it and has the broker's own message and the cure.

    Attributes:
        found: the first part of the text, on its own.
        cure: the last part of the text, on its own.
        passes: a new client may succeed later, without a person.
    """

    def __init__(self, found: str, cure: str, *, passes: bool = False) -> None:
        super().__init__(f"{found}\n  {cure}")
        self.found = found
        self.cure = cure
        self.passes = passes


class MissingRightError(BrokerError):
    """This user lacks a right. The cure names the operation and the resource.

    Args:
        found: what was refused
        operation: as Kafka's ACLs name it
        resource: as in `DENIED`
    """

    def __init__(self, found: str, operation: str, resource: str, *names: str) -> None:
        super().__init__(found, grant_cure(operation, resource, *names))


def grant_cure(operation: str, resource: str, *names: str) -> str:
    """Return the cure of a missing right. resource: as in `DENIED`"""
    on = f"{resource}{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
    return f"the user needs the operation {operation} on the {on}: grant it (kafka-acls, docs/security.md), try again"


class LastError:
    """An `error_cb` that keeps the last error: librdkafka reports there, and nowhere else, why a broker is away.

    more: properties on top of `source.kafka`, whose secrets are removed from the text too
    """

    def __init__(self, source: Source, more: Mapping[str, Any] | None = None) -> None:
        self.code: int = KafkaError._TRANSPORT
        self.text: str = ""
        self._properties = (source.kafka, more or {})

    def __call__(self, error: KafkaError) -> None:
        # "1/1 brokers are down" always follows the message with the reason, and would hide it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.code, self.text = error.code(), redact_text(error.str(), *self._properties)

    @property
    def cure(self) -> str:
        # A broker that ends the handshake because it requires a client certificate, or another one, shows as a broken
        # connection: with its alert, or in the write that comes too late for that.
        refused = "SSL routines" in self.text or "tls_retry_write_records" in self.text
        code = KafkaError._SSL if refused else self.code
        return CURES.get(code, CURES[KafkaError._TRANSPORT])


def client_properties(source: Source, **extra: Any) -> dict[str, Any]:
    """Return the properties of a client: brokers, `source.kafka`, a quiet logger, and `extra`, which wins.

    Names with dots are given as `**{"group.id": "..."}`. The result holds secrets: show it only through
    `redact_properties`.
    """
    return {"client.id": "ssm-stream", **source.kafka, "bootstrap.servers": source.brokers, "logger": LOGGER, **extra}


def redact_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties as they may be shown: secrets as `***`, without objects (logger, callbacks)."""
    shown = {k: v for k, v in properties.items() if isinstance(v, str | int | float | bool)}
    return {
        k: REDACTED if is_redacted(k) else USERINFO.sub(REDACTED, v) if isinstance(v, str) else v
        for k, v in shown.items()
    }


def redact_text(text: str, *properties: Mapping[str, Any]) -> str:
    """Return the text with `***` in place of every secret value of the properties."""
    values = {str(value) for some in properties for key, value in some.items() if is_redacted(key)}
    for value in sorted(values, key=len, reverse=True):  # one may be part of another
        if len(value) > 2:
            text = text.replace(value, REDACTED)
    return USERINFO.sub(REDACTED, text)


def with_topic(source: Source, topic: str) -> Source:
    """Return the settings that read another topic of the same brokers, all of its partitions."""
    return source.model_copy(update={"topic": topic, "topics": None, "partitions": None})


def property_error(error: Exception, source: Source, of_sinks: Mapping[str, Any] | None = None) -> BrokerError:
    """Return the error for properties that librdkafka refuses.

    Args:
        error: one of `PROPERTY_ERRORS`
        of_sinks: a producer's properties, on top of `source.kafka`
    """
    reason = kafka_error(error).str() if isinstance(error, KafkaException) else str(error)
    section = "sinks.kafka" if of_sinks else "source.kafka"
    cure = f"correct {section}; the names and values are in librdkafka's CONFIGURATION.md"
    return BrokerError(f"{section}: {redact_text(reason, source.kafka, of_sinks or {})}", cure)


def topic_error(source: Source, error: KafkaException, last_error: LastError) -> BrokerError:
    """Return the error for a topic whose broker refuses a request or does not answer it."""
    refused = kafka_error(error)
    reason = redact_text(refused.str(), source.kafka)
    if last_error.text and last_error.text not in reason:
        reason += f"; {last_error.text}"
    return read_error(source, f"topic {source.topic!r} on {source.brokers}: {reason}", refused, last_error)


def read_error(source: Source, found: str, refused: KafkaError, last_error: LastError) -> BrokerError:
    """Return the error for what a broker refused to someone who reads; refused: the broker's"""
    code = refused.code()
    if code in DENIED:
        name = source.group_id if code == KafkaError.GROUP_AUTHORIZATION_FAILED else source.topic
        return MissingRightError(found, "Read", DENIED[code], name)
    cure = CURES[code] if code in ABSENT else last_error.cure
    return BrokerError(found, cure, passes=passes(refused))


def given_up(error: Exception) -> BrokerError | None:
    """Return the error for a client that has failed in a call where nobody expects it; None: it is no client's."""
    if not isinstance(error, KafkaException):
        return None
    reason = kafka_error(error)
    cure = "correct that and start again: the flow continues from the last epoch"
    return BrokerError(f"the client has given up: {reason.str()}", cure, passes=passes(reason))


@contextlib.contextmanager
def open_consumer(source: Source, last_error: LastError, **more: str | int | bool) -> Iterator[Consumer]:
    """Open a consumer that joins no group, commits nothing and creates no topic by a request for its metadata, as an
    AdminClient or producer would.

    Args:
        more: further properties of the client, such as `**{"auto.offset.reset": "earliest"}`

    Raises:
        BrokerError: librdkafka refuses a property.
    """
    extra = {"group.id": source.group_id, "allow.auto.create.topics": False, "enable.auto.commit": False}
    try:
        client = Consumer(client_properties(source, error_cb=last_error, **{**extra, **more}))
    except PROPERTY_ERRORS as error:
        raise property_error(error, source) from None
    try:
        yield client
    finally:
        client.close()


class KafkaProducer(Producer):
    """A producer that takes messages in batches, and whose fatal errors are always a `KafkaException`.

    confluent-kafka raises a fatal error from within the call that runs callbacks. If one more callback is due in that
    call, it runs with the exception already set, and Python makes a SystemError of both.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        super().__init__(with_plugin(properties))
        client = latest_client()
        self._batches = native.Producing(client) if client else None

    def hand_over(self, topic: str, keys: list[str], values: Sequence[bytes], begin: int, end: int) -> int:
        """Hand over messages [begin, end) until one is not taken; their delivery is reported by `failure` alone.

        Returns:
            how many were taken: 0 also where messages must go one by one, by `produce`, which raises why
        """
        if self._batches is None:
            return 0
        given = values.native if isinstance(values, WrittenValues) else list(values)
        return self._batches.produce(topic, keys, given, begin, end)[0]

    @property
    def takes_batches(self) -> bool:
        """Whether `hand_over` may take something."""
        return self._batches is not None

    def failure(self) -> tuple[str, KafkaError, str] | None:
        """Return topic, error and its text of the first message of a batch that was not delivered."""
        found = None if self._batches is None else self._batches.failure()
        return None if found is None else (found[0], KafkaError(found[1]), found[2])

    def poll(self, timeout: float = -1) -> int:
        with unwrap_system_error():
            return super().poll(timeout)

    def flush(self, timeout: float = -1) -> int:
        with unwrap_system_error():
            return super().flush(timeout)

    def commit_transaction(self, timeout: float = -1) -> None:
        with unwrap_system_error():
            super().commit_transaction(timeout)

    def abort_transaction(self, timeout: float = -1) -> None:
        with unwrap_system_error():
            super().abort_transaction(timeout)


@contextlib.contextmanager
def unwrap_system_error() -> Iterator[None]:
    """Raise the client's exception in place of the SystemError that Python made of it, which has lost it where the
    fatal error was noticed without a callback."""
    try:
        yield
    except SystemError as error:
        cause: BaseException = error
        while isinstance(cause, SystemError) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, KafkaException):
            raise cause from None
        if "without setting an exception" in str(error):
            lost = KafkaError(KafkaError._FATAL, "the client has met a fatal error, and lost its text", fatal=True)
            raise KafkaException(lost) from None
        raise


def open_producer(
    config: Config,
    last_error: LastError,
    *,
    defaults: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> KafkaProducer:
    """Return a producer with the properties of `source.kafka` and `sinks.kafka`.

    Args:
        defaults: properties that the configuration may change
        fixed: properties that it may not

    Raises:
        BrokerError: librdkafka refuses a property.
    """
    configured = {**client_properties(config.source, error_cb=last_error), **config.sinks.kafka}
    try:
        return KafkaProducer({**(defaults or {}), **configured, **(fixed or {})})
    except PROPERTY_ERRORS as error:
        raise property_error(error, config.source, config.sinks.kafka) from None


def librdkafka_version() -> str:
    """Return the version of the C library under confluent-kafka."""
    return str(confluent_kafka.libversion()[0])
