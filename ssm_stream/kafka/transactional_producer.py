"""Exactly once: an epoch's output, and the marker of how far it reaches, in one transaction of the broker.

The marker is, for each partition of the source, the offset from which outputs are still to come. It is kept as the
committed offsets of a consumer group of its own, named like the transactional id, and committed in the transaction of
the outputs. Bytewax writes its frontier after that. If the process ends in between, the next one reads the epoch again,
which gives the same outputs, and leaves out what lies below the marker.

Order: lock and prune the recovery directory → init_transactions, which fences a process that was thought dead and
aborts the transaction that it left open → read the marker → in each epoch: begin at the first output, produce, send the
marker, commit → frontier. Any call may hang when a broker goes away, whatever its timeout, so each has a time limit.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ssm_stream.config import Config
from ssm_stream.kafka.admin import GRACE, group_denied, max_message_bytes
from ssm_stream.kafka.client import BrokerError, LastError, MissingRightError, kafka_error, open_consumer
from ssm_stream.kafka.cluster import Cluster
from ssm_stream.kafka.outages.classify import is_fenced, is_retriable, passes
from ssm_stream.kafka.outages.patience import committed, patiently, watermarks
from ssm_stream.kafka.producer import Marker, OutputProducer
from ssm_stream.kafka.records import OutputBatch

LOG = structlog.get_logger("ssm_stream.sink")
T = TypeVar("T")
Sources = Mapping[str, tuple[int, ...]]
"""Topics that are read, and which partitions of each."""

MAX_TIMEOUT = 900.0
"""Seconds that a transaction may last, by the brokers' default (transaction.max.timeout.ms)."""
STEP = 5.0
"""Seconds after which a call of the producer is made again, which goes on with it. Where a coordinator moves while it
is under way, one may never return, whatever its timeout: noticed soon, the flow is built again soon."""
READING = "reading the marker"
GROUP_DENIED, TOO_LARGE = KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.MSG_SIZE_TOO_LARGE
RESTART = "correct that and start again: the flow continues after the last result that consumers have seen"


class MarkerError(RuntimeError):
    """The broker's marker of earlier deliveries does not match. The text has the reason and the cure."""


def require_transactions(cluster: Cluster) -> None:
    """Refuse brokers that accept transactions without isolating them.

    Raises:
        BrokerError: the cluster is an embedded (mock) broker.
    """
    if cluster.embedded:
        raise BrokerError(
            f"delivery: exactly_once: {cluster.bootstrap_servers} is an embedded (mock) broker, which shows consumers "
            "what was never committed",
            "use a broker with transactions, or delivery: at_least_once",
        )


def transactional_id(config: Config, part: str) -> str:
    """Return the name of one writer's transactions, and of the group with its marker.

    Independent processes that share a topic (`source.partitions`) have names of their own.
    """
    source = config.source
    mine = "" if source.partitions is None else "-" + "_".join(map(str, sorted(source.partitions)))
    return f"{source.group_id}{mine}-writer-{part}"


def transactional_properties(name: str, wait: float, timeout: float, max_bytes: int) -> dict[str, Any]:
    """Return what the configuration may not change of a producer with transactions.

    Args:
        name: id of its transactions
        wait: s that a broker may be away
        timeout: s that a transaction may last
        max_bytes: size of a message that every output topic accepts
    """
    return {
        "transactional.id": name,
        "transaction.timeout.ms": int(timeout * 1000),
        "message.timeout.ms": int(min(wait, timeout) * 1000),
        "acks": "all",
        "enable.idempotence": True,
        "message.max.bytes": max_bytes,
    }


def max_output_bytes(config: Config) -> int:
    """Return the size in bytes of the largest message that all output topics accept."""
    return max_message_bytes(config.source, config.sinks.topics)


def read_markers(config: Config, places: Iterable[tuple[str, int]]) -> Marker:
    """Return up to which offset some writer has delivered the results of each topic and partition, where there are any.

    Raises:
        BrokerError: the broker refuses, or does not answer.
    """
    found = Marker()
    for own in read_writer_markers(config, places).values():
        for at, offset in own.items():
            found[at] = max(offset, found.get(at, 0))
    return found


def read_writer_markers(config: Config, places: Iterable[tuple[str, int]]) -> dict[str, Marker]:
    """Return up to which offset each writer has delivered the results of each topic and partition, where there are any.

    Raises:
        BrokerError: the broker refuses, or does not answer.
    """
    last_error, found = LastError(config.source, config.sinks.kafka), dict[str, Marker]()
    requested = [TopicPartition(topic, partition) for topic, partition in places]
    for part in range(config.writers):
        name = transactional_id(config, f"{part:04d}")
        properties = {"group.id": name, "isolation.level": "read_committed"}
        try:
            with open_consumer(config.source, last_error, **properties) as consumer:
                answers = committed(consumer, requested, config.source.wait)
        except KafkaException as error:
            raise BrokerError(
                f"delivery: exactly_once: the marker of {name}: {kafka_error(error).str()}", RESTART
            ) from error
        found[f"{part:04d}"] = {(place.topic, place.partition): place.offset for place in answers if place.offset >= 0}
    return found


def _note(config: Config) -> str:
    """Return what a marker carries: of how many writers it is, and of which flow."""
    return f"writers={config.writers} to={config.sinks.predictions}"


def _commit(consumer: Consumer, places: list[TopicPartition], _: float) -> None:
    consumer.commit(offsets=places, asynchronous=False)


def write_markers(config: Config, markers: Mapping[str, Marker]) -> None:
    """Set markers of writers, as if they had delivered up to there; no process may run on their state.

    Raises:
        BrokerError: the broker refuses, or does not answer.
    """
    last_error = LastError(config.source, config.sinks.kafka)
    for part, own in markers.items():
        name = transactional_id(config, part)
        places = [TopicPartition(*at, offset, _note(config)) for at, offset in sorted(own.items())]
        try:
            with open_consumer(config.source, last_error, **{"group.id": name}) as consumer:
                patiently(
                    f"setting the marker of {name}", functools.partial(_commit, consumer, places), config.source.wait
                )
        except KafkaException as error:
            raise BrokerError(
                f"delivery: exactly_once: setting the marker of {name}: {kafka_error(error).str()}", RESTART
            ) from error


class Part(NamedTuple):
    """One of the writers.

    Attributes:
        key: which of them
        sources: all that is read
        resume: the marker in the recovery state
        max_bytes: size of a message that every output topic accepts
    """

    key: str
    sources: Sources
    resume: Marker
    max_bytes: int


class TransactionalProducer(OutputProducer):
    """Delivers the dataflow's output exactly once: one transaction per epoch.

    Raises:
        BrokerError: the broker refuses, or does not answer.
        MarkerError: the marker does not match the recovery state.
    """

    def __init__(self, config: Config, part: Part) -> None:
        self._name, self._part, self._wait = transactional_id(config, part.key), part, config.source.wait
        self._max_bytes, self._read_group = part.max_bytes, ("Read", "consumer group", self._name)
        self._granted = ("transactional id", self._name)
        self._open, self._dropped, self._done, self._next = False, 0, Marker(), Marker()
        # A transaction lasts for an epoch, and for as long as the next steps of all writers take.
        self._timeout = min(max(60.0, 10 * config.epoch_interval, 2 * self._wait), MAX_TIMEOUT)
        super().__init__(config, transactional_properties(self._name, self._wait, self._timeout, part.max_bytes))
        self._call("init_transactions", self.connected().init_transactions)
        self._done = self._call(READING, self._read_marker)  # not before: the predecessor may go on
        for (topic, partition), offset in part.resume.items():
            there = self._done.get((topic, partition), 0)
            if there >= offset or partition not in part.sources.get(topic, ()):
                continue
            raise MarkerError(
                f"delivery: exactly_once: {self._name} has put out the results of {topic!r} partition {partition} up "
                f"to offset {offset} by the recovery state, and up to {there} by the broker's consumer group of that "
                "name: source.partitions has changed, by which it is named, the group has gone, or this is another "
                "cluster. To go on with all that was learned: ssm-stream state resume CONFIG --from earliest"
            )

    def _read_marker(self, seconds: float) -> Marker:
        # read_committed: waits for the end of an open transaction
        properties = {"group.id": self._name, "isolation.level": "read_committed"}
        marker: Marker = {}
        with open_consumer(self.config.source, self._last_error, **properties) as consumer:
            self._group = consumer.consumer_group_metadata()
            places = [TopicPartition(topic, p) for topic, partitions in self._part.sources.items() for p in partitions]
            for place in committed(consumer, places, seconds):
                if place.offset < 0:
                    continue
                if place.metadata:  # none: an operator has set it
                    self._require_own(place.metadata)
                end = watermarks(consumer, place, seconds)[1]
                if place.offset > end:
                    raise MarkerError(
                        f"delivery: exactly_once: {self._name} has put out the results of {place.topic!r} partition "
                        f"{place.partition} up to offset {place.offset}, but the topic ends at {end}: it was created "
                        "again. To go on with all that was learned: ssm-stream state resume CONFIG --from earliest"
                    )
                marker[place.topic, place.partition] = place.offset
        return marker

    def _require_own(self, note: str) -> None:
        """Refuse a marker of other writers or, where nothing is recovered, flows. Earlier releases named no flow."""
        (writers, _, to), (mine, _, here) = note.partition(" "), _note(self.config).partition(" ")
        text = f"delivery: exactly_once: the marker of {self._name} was written"
        if writers != mine:
            raise MarkerError(
                f"{text} with {writers}, now there are {mine} (as many as state.shards, at most four): set it back, "
                "or start with another recovery.directory and source.group"
            )
        if to and to != here and not self._part.resume:
            raise MarkerError(
                f"{text} by a flow whose sinks.predictions is {to[3:]}, here it is {here[3:]}, and nothing is in "
                "the recovery directory: what was put out there would be left out here. Name another source.group"
            )

    def produce(self, output: OutputBatch) -> OutputBatch:
        place = (output.topic, output.partition)
        done = self._done.get(place, 0)  # of the last commit, the same during all of an epoch
        if output.first < done:
            before = output.size
            output = output.caused_from(done)
            self._dropped += before - output.size
        if not output.size:
            return output
        if not self._open:
            self._producer.begin_transaction()
            self._open = True
        self._next[place] = max(self._next.get(place, 0), output.last + 1)
        return super().produce(output)

    def explain(self, error: Exception) -> Exception:
        """Return why a transaction ended: only one call reports it; what fails afterwards is its consequence."""
        if not isinstance(error, BrokerError | KafkaException):
            return error
        cause = error if isinstance(error, KafkaException) else None
        try:
            self._producer.begin_transaction()  # refused again, with the reason
        except KafkaException as refused:
            reason = kafka_error(refused)
            if reason.fatal() or reason.txn_requires_abort():
                cause = refused
        return error if cause is None else self._error("producing", cause)

    def deliver(self) -> Marker:
        try:
            self._flush()
        except (BrokerError, KafkaException) as error:
            if (cause := self.explain(error)) is not error:
                raise cause from error
            raise
        if self._open:
            places = [TopicPartition(*place, offset, _note(self.config)) for place, offset in self._next.items()]
            self._call(
                "send_offsets_to_transaction",
                lambda left: self._producer.send_offsets_to_transaction(places, self._group, left),
            )
            self._commit()
            self._done = {**self._done, **self._next}  # a new one: Bytewax serializes the old one at any time
            self._open, self._next = False, {}
        if self._dropped:
            LOG.info("delivered_before", messages=self._dropped, writer=self._name)
            self._dropped = 0
        return self._done

    def close(self) -> None:
        """Abort the transaction that is open, which is no epoch's end. Does not raise."""
        if self._open:
            try:
                self._limit_time("abort_transaction", lambda: self._producer.abort_transaction(GRACE), GRACE)
            except (BrokerError, KafkaException) as error:  # init_transactions of the next start does it
                LOG.warning("transaction_not_aborted", writer=self._name, error=str(error))

    def _commit(self) -> None:
        deadline = time.monotonic() + 2 * self._wait
        while True:
            try:
                self._limit_time("commit_transaction", lambda: self._producer.commit_transaction(STEP), STEP)
                return
            except KafkaException as error:
                # Only commit may be called again: the marker tells the next start how this one ended.
                if not is_retriable(kafka_error(error)) or time.monotonic() > deadline:
                    raise self._error("commit_transaction", error) from error

    def _error(self, what: str, error: KafkaException) -> BrokerError:
        reason, found = kafka_error(error), f"delivery: exactly_once: {what} of {self._name}"
        text = self._redact(reason.str())
        if what == READING and reason.code() == KafkaError._TIMED_OUT and group_denied(self.config.source, self._name):
            return MissingRightError(f"{found}: this user may not use the group", *self._read_group)
        if reason.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT) and self._last_error.text:
            text = f"{text} ({self._last_error.text})"  # the reason, which no call reports
        if is_fenced(reason):
            return BrokerError(
                f"{found} was refused: {text}",
                "another process with the same source.group has taken over: end one of them, or give them different "
                f"groups. If there is no other, a transaction was open for longer than {self._timeout:g} s, as when "
                "the machine was paused: start again",
            )
        # A topic that takes less than at the start: a new producer sends smaller batches, or refuses the message.
        smaller = reason.code() == TOO_LARGE and max_output_bytes(self.config) < self._max_bytes
        cure = self._cures.get(reason.code(), RESTART)
        if not isinstance(cure, str):
            return MissingRightError(f"{found}: {text}", *cure)
        return BrokerError(f"{found}: {text}", cure, passes=smaller or passes(reason))

    @property
    def _cures(self) -> Mapping[int, str | tuple[str, ...]]:
        """By error: what a person does, or operation, resource and names of the right that is missing."""
        return {
            KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ("Write", *self._granted),
            KafkaError.CLUSTER_AUTHORIZATION_FAILED: ("Write", *self._granted),  # some brokers answer so
            GROUP_DENIED: self._read_group,
            KafkaError.TOPIC_AUTHORIZATION_FAILED: ("Write", "topic", *self.config.sinks.topics),
            KafkaError.INVALID_TIMESTAMP: "set that broker's clock, or this machine's: they differ by an hour or more",
            TOO_LARGE: "raise max.message.bytes of that topic, which is less than one of these messages has",
            KafkaError.INVALID_TRANSACTION_TIMEOUT: (
                f"raise the broker's transaction.max.timeout.ms to {self._timeout * 1000:.0f} at least, or shorten "
                "recovery.epoch_interval or source.wait if they are long, and start again"
            ),
        }

    def _call(self, what: str, call: Callable[[float], T]) -> T:
        """Return the call's result; repeat it while it fails with an error that passes. call: takes the seconds left

        Raises:
            BrokerError: the broker refuses, or does not answer.
        """
        most = self._wait if what == READING else STEP

        def attempt(left: float) -> T:
            seconds = min(left, most)
            return self._limit_time(what, lambda: call(seconds), seconds)

        try:
            return patiently(f"{what} of {self._name}", attempt, self._wait)
        except KafkaException as error:
            raise self._error(what, error) from error

    def _limit_time(self, what: str, call: Callable[[], T], seconds: float) -> T:
        """Return the result of the call, which runs in a thread of its own. What it raises is raised here.

        Args:
            seconds: the timeout of the call itself, which it may not keep

        Raises:
            BrokerError: it does not return. Its thread keeps the client, and is a daemon, so that it does not keep the
                process from ending.
        """
        outcome, failed = list[T](), list[BaseException]()

        def run() -> None:
            try:
                outcome.append(call())
            except BaseException as error:  # noqa: BLE001  # raised below
                failed.append(error)

        limit = seconds + GRACE
        thread = threading.Thread(target=run, name=what, daemon=True)
        thread.start()
        thread.join(limit)
        if thread.is_alive():
            raise BrokerError(
                f"delivery: exactly_once: {what} of {self._name} has not returned in {limit:g} s: "
                f"{self._last_error.text or 'the broker does not answer'}",
                RESTART,
                passes=True,
            )
        if failed:
            raise failed[0]
        return outcome[0]
