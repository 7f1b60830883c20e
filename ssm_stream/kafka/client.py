"""Brokers, from the client's side: settings every client shares, the check before a start, topics, an embedded broker.

`check_broker` waits for a cluster and returns what is on it; `create_topics` makes topics on a real one;
`EmbeddedBroker` is librdkafka's mock cluster, the broker of `ssm-stream demo` and of the tests that inject faults.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from ssm_stream.config import Source
from ssm_stream.config.client_properties import REDACTED, USERINFO, is_redacted, librdkafka_paths
from ssm_stream.kafka.handshake import certificate_fault

if TYPE_CHECKING:
    from confluent_kafka.admin._metadata import ClusterMetadata

LOGGER = logging.getLogger("ssm_stream.kafka")
"""Where librdkafka's log lines go. Silent unless the application configures logging: without a handler Python would
print every lost connection to stderr, in the middle of the live view."""
LOGGER.addHandler(logging.NullHandler())

CURES = {
    KafkaError._RESOLVE: "correct the host name in source.brokers, or this machine's name service",
    KafkaError._AUTHENTICATION: "correct the sasl.* properties in source.kafka; the broker refused them",
    KafkaError._SSL: (
        "correct the ssl.* properties and security.protocol in source.kafka: ssl.ca.location names who is believed, "
        "ssl.certificate.location and ssl.key.location are for brokers that want a certificate from us"
    ),
    KafkaError._TRANSPORT: (
        "start the broker, or correct source.brokers; where the broker wants TLS or SASL, set security.protocol in "
        "source.kafka"
    ),
}


class BrokerError(RuntimeError):
    """A broker or topic cannot be used. The text names it, gives the broker's own message and says what to do.

    Attributes:
        cure: the last part of the text, on its own.
    """

    def __init__(self, found: str, cure: str) -> None:
        super().__init__(f"{found}\n  {cure}")
        self.found = found
        self.cure = cure


class LastError:
    """An `error_cb` that remembers: librdkafka tells why a broker is away only there, never in the failed call."""

    def __init__(self, source: Source, more: Mapping[str, Any] | None = None) -> None:
        self.code: int = KafkaError._TRANSPORT
        self.text: str = ""
        self._properties = (source.kafka, more or {})

    def __call__(self, error: KafkaError) -> None:
        # "1/1 brokers are down" always follows the message that says why: it would only hide that one.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.code, self.text = error.code(), scrubbed(error.str(), *self._properties)

    @property
    def cure(self) -> str:
        # A broker that ends the handshake, as it wants a certificate from us, shows as a broken connection.
        code = KafkaError._SSL if "SSL routines" in self.text else self.code
        return CURES.get(code, CURES[KafkaError._TRANSPORT])


def client_properties(source: Source, **extra: Any) -> dict[str, Any]:
    """The properties that every client starts from: brokers, `source.kafka`, a quiet logger; `extra` has the last word.

    Names with dots are given as `**{"group.id": "..."}`. The result holds secrets: show it only through `redacted`.
    """
    return {"client.id": "ssm-stream", **source.kafka, "bootstrap.servers": source.brokers, "logger": LOGGER, **extra}


def redacted(properties: Mapping[str, Any]) -> dict[str, Any]:
    """`properties` as they may be shown: secrets as `***`, objects (logger, callbacks) left out."""
    shown = {k: v for k, v in properties.items() if isinstance(v, str | int | float | bool)}
    return {
        k: REDACTED if is_redacted(k) else USERINFO.sub(REDACTED, v) if isinstance(v, str) else v
        for k, v in shown.items()
    }


def scrubbed(text: str, *properties: Mapping[str, Any]) -> str:
    """`text` with every secret value of the properties that stands in it as `***`."""
    values = {str(value) for some in properties for key, value in some.items() if is_redacted(key)}
    for value in sorted(values, key=len, reverse=True):  # one may be part of another
        if len(value) > 2:
            text = text.replace(value, REDACTED)
    return USERINFO.sub(REDACTED, text)


class KafkaProducer(Producer):
    """A producer whose fatal errors are `KafkaException` in every case.

    confluent-kafka raises a fatal error from within the call that runs callbacks. Where one more callback is due in
    that call, it runs with the exception already set, and Python makes a SystemError of both.
    """

    def poll(self, timeout: float = -1) -> int:
        with plainly():
            return super().poll(timeout)

    def flush(self, timeout: float = -1) -> int:
        with plainly():
            return super().flush(timeout)

    def commit_transaction(self, timeout: float = -1) -> None:
        with plainly():
            super().commit_transaction(timeout)

    def abort_transaction(self, timeout: float = -1) -> None:
        with plainly():
            super().abort_transaction(timeout)


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Whatever Python made of a client's exception is that exception again."""
    try:
        yield
    except SystemError as error:
        cause: BaseException = error
        while isinstance(cause, SystemError) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, KafkaException):
            raise cause from None
        raise


def kafka_error(error: KafkaException) -> KafkaError:
    """The broker's or client's error inside the exception."""
    inner = error.args[0]
    assert isinstance(inner, KafkaError)
    return inner


def fenced(error: KafkaError) -> bool:
    """A newer producer has the transactional id, or the broker has ended a transaction that was open for too long: the
    error is the same."""
    return error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


class Cluster(NamedTuple):
    """What a cluster said of itself.

    Attributes:
        addresses: broker id → `host:port`, as the cluster advertises them (clients go there, not to the bootstrap).
        topics: topic → its partitions, ascending. Topics the user may not see are not in it.
        troubles: topic → the broker's message, for topics that it could not describe.
        asked: the bootstrap servers that were asked.
        waited: seconds until the answer.
        embedded: it is librdkafka's mock cluster.
    """

    addresses: dict[int, str]
    topics: dict[str, tuple[int, ...]]
    troubles: dict[str, str]
    asked: str
    waited: float
    embedded: bool = False

    def partitions_of(self, topic: str) -> tuple[int, ...]:
        """All partitions of a topic, ascending.

        Raises:
            BrokerError: the topic is not there (or hidden from this user), or the broker cannot describe it.
        """
        if topic in self.troubles:
            cure = "the cluster has to be put right; `ssm-stream doctor CONFIG` shows the topics"
            raise BrokerError(f"topic {topic!r} on {self.asked}: {self.troubles[topic]}", cure)
        if topic not in self.topics:
            found = f"topic {topic!r} does not exist on {self.asked}, or this user may not see it"
            raise BrokerError(found, "create it: ssm-stream doctor CONFIG --create-topics")
        return self.topics[topic]

    def source_partitions(self, source: Source) -> tuple[int, ...]:
        """The partitions to read: `source.partitions`, or all.

        Raises:
            BrokerError: the topic is not there, or lacks one of `source.partitions`.
        """
        there = self.partitions_of(source.topic)
        if source.partitions is None:
            return there
        if missing := sorted(set(source.partitions) - set(there)):
            found = f"topic {source.topic!r} on {self.asked} has partitions {_ranges(there)}, not {missing}"
            raise BrokerError(found, "correct source.partitions, or add partitions to the topic")
        return tuple(sorted(set(source.partitions)))


def _ranges(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    whole = ordered == list(range(len(ordered)))
    return f"0 to {len(ordered) - 1}" if whole and len(ordered) > 1 else ", ".join(map(str, ordered)) or "none"


@contextlib.contextmanager
def metadata_client(source: Source, remember: LastError, **more: str | int | bool) -> Iterator[Consumer]:
    """A consumer that joins no group and creates no topic by asking for it (an AdminClient or producer would).

    Args:
        more: further properties of the client, such as `**{"auto.offset.reset": "earliest"}`

    Raises:
        BrokerError: librdkafka refuses a property.
    """
    extra = {"group.id": source.group_id, "allow.auto.create.topics": False, "enable.auto.commit": False}
    try:
        client = Consumer(client_properties(source, error_cb=remember, **{**extra, **more}))
    except (KafkaException, TypeError, ValueError) as error:
        raise unusable(error, source) from None
    try:
        yield client
    finally:
        client.close()


def unusable(error: Exception, source: Source, of_sinks: Mapping[str, Any] | None = None) -> BrokerError:
    """Properties of which librdkafka makes no client. of_sinks: those on top of `source.kafka`, of a producer"""
    reason = kafka_error(error).str() if isinstance(error, KafkaException) else str(error)
    section = "sinks.kafka" if of_sinks else "source.kafka"
    cure = f"correct {section}; the names and values are in librdkafka's CONFIGURATION.md"
    return BrokerError(f"{section}: {scrubbed(reason, source.kafka, of_sinks or {})}", cure)


def check_broker(source: Source) -> Cluster:
    """Wait until a broker answers, `source.wait` seconds at most, and return what the cluster says of itself.

    Raises:
        BrokerError: a property that librdkafka refuses (at once), or no answer in time. The text has the brokers, the
            wait, librdkafka's last own message and the cure.
    """
    began = time.monotonic()
    remember = LastError(source)
    with metadata_client(source, remember) as client:
        while True:
            left = began + source.wait - time.monotonic()
            try:
                # A second at a time: a signal is handled between calls, not within.
                metadata = client.list_topics(timeout=max(0.05, min(left, 1.0)))
            except KafkaException as error:
                client.poll(0.05)  # serves error_cb
                if time.monotonic() - began < source.wait:
                    continue
                reason = remember.text or scrubbed(kafka_error(error).str(), source.kafka)
                if "certificate verify failed" in reason:
                    reason = certificate_fault(source) or reason
                found = f"no broker at {source.brokers} answered within {source.wait:g} s (source.wait): {reason}"
                raise BrokerError(found, remember.cure) from None
            return _cluster(metadata, source, time.monotonic() - began)


def _cluster(metadata: ClusterMetadata, source: Source, waited: float) -> Cluster:
    return Cluster(
        addresses={b.id: f"{b.host}:{b.port}" for b in metadata.brokers.values()},
        topics={name: tuple(sorted(t.partitions)) for name, t in metadata.topics.items() if t.error is None},
        troubles={name: t.error.str() for name, t in metadata.topics.items() if t.error is not None},
        asked=source.brokers,
        waited=waited,
        embedded=str(metadata.cluster_id).startswith("mockCluster"),
    )


def create_topics(
    source: Source,
    topics: Mapping[str, int],
    *,
    replication: int = -1,
    config: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> list[str]:
    """Create topics (name → partitions) that are not there, and wait until the cluster shows them.

    Args:
        replication: copies of each partition; -1 is the broker's default (Kafka 2.4 and later).
        config: topic settings, such as `{"retention.ms": "-1"}`.
        timeout: seconds, for each of creating and showing.

    Returns:
        The names that were created, in order; topics that were there already are left as they are.

    Raises:
        BrokerError: refused by the broker, or no answer in time. librdkafka's mock cluster never answers: give its
            topics to `EmbeddedBroker(topics=...)`.
    """
    remember = LastError(source)
    try:
        # Held by a name until all futures are done: an AdminClient that is collected takes its answers with it.
        admin = AdminClient(client_properties(source, error_cb=remember))
    except (KafkaException, TypeError, ValueError) as error:
        raise unusable(error, source) from None
    settings = dict(config or {})
    wanted = [NewTopic(name, n, replication_factor=replication, config=settings) for name, n in topics.items()]
    answers = admin.create_topics(wanted, request_timeout=timeout) if wanted else {}
    created, refused = [], []
    for name, answer in answers.items():
        try:
            answer.result(timeout + 1)
            created.append(name)
        except KafkaException as error:
            reason = kafka_error(error)
            if reason.code() == KafkaError._TIMED_OUT:
                admin.poll(0)  # serves error_cb
                found = f"topic {name!r} on {source.brokers}: {remember.text or reason.str()} (waited {timeout:g} s)"
                mock = "an embedded (mock) broker creates topics only when it is made; else try again later"
                raise BrokerError(found, remember.cure if remember.text else mock) from None
            if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                refused.append(f"topic {name!r} on {source.brokers}: {reason.name()}: {reason.str()}")
    if refused:
        raise BrokerError("\n".join(refused), "create it with the cluster's own tools, or with a user who may")
    deadline = time.monotonic() + timeout
    while created and not _shown(admin, created):
        if time.monotonic() > deadline:
            raise BrokerError(f"topics {created} are created, but {source.brokers} does not show them", "try again")
        time.sleep(0.05)
    return created


def _shown(admin: AdminClient, names: Iterable[str]) -> bool:
    """Whether the cluster's metadata holds the topics with leaders: it lags behind their creation."""
    try:
        known = admin.list_topics(timeout=5).topics
    except KafkaException:
        return False
    return all(
        name in known
        and known[name].partitions
        and all(partition.leader >= 0 for partition in known[name].partitions.values())
        for name in names
    )


class ApiKey(enum.IntEnum):
    """Requests of the Kafka protocol that a test may want to fail (the protocol's own numbers)."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26


class EmbeddedBroker:
    """librdkafka's mock cluster: the real protocol on loopback ports, inside this process, nothing to install.

    >>> with EmbeddedBroker(topics={"events": 3}) as broker:
    ...     address = broker.bootstrap_servers

    It is for demonstrations and tests, not for data: everything is in memory; a partition holds about 5 MB of message
    batches as they were sent, and **older data is dropped silently**; AdminClient calls time out; transactions are
    accepted but not isolated; there is no compaction, authentication or quota.

    Args:
        topics: name → number of partitions. A topic that is only produced to is created with 4 partitions.
        brokers: number of brokers; their ids are 1 to `brokers`. Each topic has one replica.

    Attributes:
        bootstrap_servers: `host:port` of each broker, comma-separated.
        faults: whether the library's own functions were found. Without them (see `librdkafka`) topics get 4 partitions
            whatever was asked, which is warned of, and no fault can be injected.

    Raises:
        BrokerError: the cluster or a topic cannot be made.
    """

    def __init__(self, topics: Mapping[str, int] | None = None, *, brokers: int = 1) -> None:
        self._library = librdkafka()
        self._handle: int | None = None
        self._cluster: int | None = None
        self._producer: Producer | None = None
        self.faults = self._library is not None
        if self._library is None:
            self.bootstrap_servers = self._start_through_producer(brokers)
        else:
            self.bootstrap_servers = self._start(self._library, brokers)
        try:
            for name, partitions in (topics or {}).items():
                self.create_topic(name, partitions)
        except BrokerError:
            self.close()
            raise

    def _start(self, library: ctypes.CDLL, brokers: int) -> str:
        settings = library.rd_kafka_conf_new()
        # The handle only carries the cluster and has no servers of its own: do not let it say so on stderr.
        library.rd_kafka_conf_set(settings, b"log_level", b"0", None, 0)
        reason = ctypes.create_string_buffer(512)
        self._handle = library.rd_kafka_new(0, settings, reason, len(reason))
        if not self._handle:
            raise BrokerError(f"embedded broker: {reason.value.decode()}", "check memory and open files (ulimit -n)")
        self._cluster = library.rd_kafka_mock_cluster_new(self._handle, brokers)
        if not self._cluster:
            self.close()
            raise BrokerError(f"embedded broker: {brokers} brokers cannot listen on loopback", "check ulimit -n")
        address: bytes = library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return address.decode()

    def _start_through_producer(self, brokers: int) -> str:
        warnings.warn(
            "librdkafka's functions cannot be reached through ctypes: the embedded broker's topics have 4 partitions "
            "whatever was asked for, and no faults can be injected",
            RuntimeWarning,
            stacklevel=3,
        )
        self._producer = Producer({"test.mock.num.brokers": brokers, "logger": LOGGER})
        found = self._producer.list_topics(timeout=10).brokers.values()
        return ",".join(f"{b.host}:{b.port}" for b in found)

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic.

        Raises:
            BrokerError: it is there already, or the number of partitions is below 1.
        """
        if self._producer is not None:
            self._producer.list_topics(name, timeout=10)  # asking for a topic creates it
            return
        if partitions < 1:
            raise BrokerError(f"topic {name!r}: {partitions} partitions", "give it 1 or more")
        # A replication factor above the number of brokers is accepted and means nothing here.
        self._call("rd_kafka_mock_topic_create", name.encode(), partitions, 1)

    def push_errors(self, api_key: int, errors: Iterable[int]) -> None:
        """Fail the next requests of a kind, one after another, with these error codes (`KafkaError.…`).

        `KafkaError._TRANSPORT` cuts the client's connection instead of answering.
        """
        codes = list(errors)
        self._faulty().rd_kafka_mock_push_request_errors_array(
            self._cluster, api_key, len(codes), (ctypes.c_int * len(codes))(*codes)
        )

    def clear_errors(self, api_key: int) -> None:
        """Forget the errors of `push_errors` that no request has met yet."""
        self._faulty().rd_kafka_mock_clear_request_errors(self._cluster, api_key)

    def set_down(self, broker_id: int = 1) -> None:
        """Cut a broker's connections and refuse new ones; it stays the leader of its partitions. -1: all brokers."""
        self._call("rd_kafka_mock_broker_set_down", broker_id)

    def set_up(self, broker_id: int = 1) -> None:
        """Let a broker accept connections again. -1: all brokers."""
        self._call("rd_kafka_mock_broker_set_up", broker_id)

    def set_delay(self, milliseconds: int, broker_id: int = -1) -> None:
        """Answer every request so much later. -1: all brokers."""
        self._call("rd_kafka_mock_broker_set_rtt", broker_id, milliseconds)

    def set_leader(self, topic: str, partition: int, broker_id: int) -> None:
        """Make a broker the partition's leader; -1 leaves it without one."""
        self._call("rd_kafka_mock_partition_set_leader", topic.encode(), partition, broker_id)

    def close(self) -> None:
        """Stop the brokers; what they held is gone. Close clients first: they would go on trying to connect."""
        if self._library is not None and self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        if self._library is not None and self._handle:
            self._library.rd_kafka_destroy(self._handle)
        self._cluster = self._handle = self._producer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _faulty(self) -> ctypes.CDLL:
        if self._library is None or not self._cluster:
            cure = "install confluent-kafka from its wheel" if self.faults is False else "keep it open"
            raise BrokerError("the embedded broker is closed, or its faults are out of reach", cure)
        return self._library

    def _call(self, function: str, *arguments: int | bytes) -> None:
        library = self._faulty()
        code = getattr(library, function)(self._cluster, *arguments)
        if code:
            name: bytes = library.rd_kafka_err2name(code)
            raise BrokerError(f"embedded broker: {function}{arguments}: {name.decode()}", "correct the arguments")


_POINTER, _TEXT, _INT32, _INT16 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int16
_INT, _SIZE = ctypes.c_int, ctypes.c_size_t
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (_POINTER, []),
    "rd_kafka_conf_set": (_INT, [_POINTER, _TEXT, _TEXT, _POINTER, _SIZE]),
    "rd_kafka_new": (_POINTER, [_INT, _POINTER, _TEXT, _SIZE]),
    "rd_kafka_destroy": (None, [_POINTER]),
    "rd_kafka_err2name": (_TEXT, [_INT]),
    "rd_kafka_mock_cluster_new": (_POINTER, [_POINTER, _INT]),
    "rd_kafka_mock_cluster_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, [_POINTER]),
    "rd_kafka_mock_topic_create": (_INT, [_POINTER, _TEXT, _INT, _INT]),
    "rd_kafka_mock_push_request_errors_array": (None, [_POINTER, _INT16, _SIZE, ctypes.POINTER(_INT)]),
    "rd_kafka_mock_clear_request_errors": (None, [_POINTER, _INT16]),
    "rd_kafka_mock_broker_set_down": (_INT, [_POINTER, _INT32]),
    "rd_kafka_mock_broker_set_up": (_INT, [_POINTER, _INT32]),
    "rd_kafka_mock_broker_set_rtt": (_INT, [_POINTER, _INT32, _INT]),
    "rd_kafka_mock_partition_set_leader": (_INT, [_POINTER, _TEXT, _INT32, _INT32]),
}
"""Results and arguments in C of the functions used (rdkafka.h, rdkafka_mock.h). The mock's are experimental there: a
release may drop one, which `librdkafka` notices."""


def librdkafka() -> ctypes.CDLL | None:
    """confluent-kafka's own librdkafka with the functions of `SIGNATURES` typed; None where it cannot be had."""
    for candidate in librdkafka_paths():
        try:
            library = ctypes.CDLL(candidate)
            for name, (result, arguments) in SIGNATURES.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError):
            continue
        return library
    return None
