"""librdkafka's mock cluster as a broker inside this process, for `ssm-stream demo` and the tests."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import socket
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Producer

from ssm_stream.config.client_properties import librdkafka_paths
from ssm_stream.kafka.client import LOGGER, BrokerError


class ApiKey(enum.IntEnum):
    """Requests of the Kafka protocol that `push_errors` can fail (the protocol's own numbers)."""

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
    accepted but not isolated; it has no compaction, authentication or quota.

    Args:
        topics: name → number of partitions. A topic that is only produced to is created with 4 partitions.
        brokers: number of brokers; their ids are 1 to `brokers`. Each topic has one replica.

    Attributes:
        bootstrap_servers: `host:port` of each broker, comma-separated.
        faults: whether the library's own functions were found. Without them (see `librdkafka`) topics have 4 partitions
            whatever `topics` gives, with a warning, and no fault can be injected.

    Raises:
        BrokerError: the cluster or a topic cannot be created.
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
            with _kept_awake(self.bootstrap_servers):
                for name, partitions in (topics or {}).items():
                    self.create_topic(name, partitions)
        except BrokerError:
            self.close()
            raise

    def _start(self, library: ctypes.CDLL, brokers: int) -> str:
        settings = library.rd_kafka_conf_new()
        # The handle only carries the cluster and has no servers of its own: without this it complains on stderr.
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
            "whatever is configured, and no faults can be injected",
            RuntimeWarning,
            stacklevel=3,
        )
        self._producer = Producer({"test.mock.num.brokers": brokers, "logger": LOGGER})
        found = self._producer.list_topics(timeout=10).brokers.values()
        return ",".join(f"{b.host}:{b.port}" for b in found)

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic.

        Raises:
            BrokerError: it exists, or the number of partitions is below 1.
        """
        if self._producer is not None:
            self._producer.list_topics(name, timeout=10)  # a request for its metadata creates a topic
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
        self._controls().rd_kafka_mock_push_request_errors_array(
            self._cluster, api_key, len(codes), (ctypes.c_int * len(codes))(*codes)
        )

    def clear_errors(self, api_key: int) -> None:
        """Drop the errors of `push_errors` that no request has met yet."""
        self._controls().rd_kafka_mock_clear_request_errors(self._cluster, api_key)

    def set_down(self, broker_id: int = 1) -> None:
        """Cut a broker's connections and refuse new ones; it stays the leader of its partitions. -1: all brokers."""
        self._call("rd_kafka_mock_broker_set_down", broker_id)

    def set_up(self, broker_id: int = 1) -> None:
        """Let a broker accept connections again. -1: all brokers."""
        self._call("rd_kafka_mock_broker_set_up", broker_id)

    def set_delay(self, milliseconds: int) -> None:
        """Delay the answer of all brokers to every request."""
        self._call("rd_kafka_mock_broker_set_rtt", -1, milliseconds)

    def set_leader(self, topic: str, partition: int, broker_id: int) -> None:
        """Make a broker the partition's leader; -1: it has none."""
        self._call("rd_kafka_mock_partition_set_leader", topic.encode(), partition, broker_id)

    def close(self) -> None:
        """Stop the brokers and drop their data. Close clients first: they would go on trying to connect."""
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

    def _controls(self) -> ctypes.CDLL:
        if self._library is None or not self._cluster:
            cure = "keep it open" if self.faults else "install confluent-kafka from its wheel"
            raise BrokerError("the embedded broker is closed, or faults cannot be injected", cure)
        return self._library

    def _call(self, function: str, *arguments: int | bytes) -> None:
        library = self._controls()
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
"""Results and arguments in C of the functions used (rdkafka.h, rdkafka_mock.h). The mock's are experimental: a release
may drop one, and `librdkafka` returns None then."""


@contextlib.contextmanager
def _kept_awake(servers: str) -> Iterator[None]:
    """Open connections to the first broker, again and again, from another thread.

    The cluster's thread sometimes misses that a call waits for it, and then sleeps a second; a connection wakes it.
    """
    host, _, port = servers.partition(",")[0].rpartition(":")
    done = threading.Event()

    def knock() -> None:
        while not done.wait(0.02):
            with contextlib.suppress(OSError):
                socket.create_connection((host, int(port)), 1).close()

    thread = threading.Thread(target=knock, name="embedded-broker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def librdkafka() -> ctypes.CDLL | None:
    """Load confluent-kafka's own librdkafka with the functions of `SIGNATURES` typed; None if that fails."""
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
