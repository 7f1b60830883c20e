"""Exactly once: what an epoch puts out, and the note of how far that goes, in one transaction of the broker.

The note, or marker, is for each partition of the source the offset from which outputs are still to come. It lies in the
offsets of a consumer group of its own, named like the transactional id, and is committed in the transaction of the
outputs. Bytewax writes its frontier after that. Where the process ends in between, the next one reads the epoch again,
which gives the same outputs, and what lies below the marker is left out.

Order: lock the recovery directory and prune it (`recovery.py`) → init_transactions, which fences a process that was
thought dead and aborts what it left open → read the marker → an epoch: begin at the first output, produce, send the
marker, commit → frontier. Any call may hang where a broker goes away, timeouts or not, so that each is watched.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from ssm_stream.config import Config
from ssm_stream.flow.sink import KAFKA_DEFAULT, KafkaSink, KafkaWriter, Marker
from ssm_stream.kafka.client import BrokerError, Cluster, LastError, client_properties, fenced, kafka_error, scrubbed
from ssm_stream.kafka.codec import Judged, Output
from ssm_stream.ops.metrics import Metrics

LOG = structlog.get_logger("ssm_stream.sink")
T = TypeVar("T")
Sources = Mapping[str, tuple[int, ...]]
"""Topics that are read, and which partitions of each."""

LONGEST = 900.0
"""Seconds that a transaction may take at most, as brokers have it by default (transaction.max.timeout.ms)."""
AGAIN = 5.0
"""Seconds that a call has beyond its own timeout before it counts as hanging."""
RESTART = "put that right and start again: the flow goes on where consumers have seen the last result"


class MarkerError(RuntimeError):
    """What the broker knows of earlier deliveries does not fit; the text says why and what to do."""


def refuse_without_transactions(cluster: Cluster) -> None:
    """Brokers that accept transactions and do not keep them apart.

    Raises:
        BrokerError: so it is here.
    """
    if cluster.embedded:
        raise BrokerError(
            f"delivery: exactly_once: {cluster.asked} is an embedded (mock) broker, which shows consumers what was "
            "never committed",
            "use a broker with transactions, or delivery: at_least_once",
        )


def transactional_id(config: Config, part: str) -> str:
    """Name of one writer's transactions, and of the group that its marker lies in.

    Independent processes that share a topic (`source.partitions`) have names of their own.
    """
    source = config.source
    mine = "" if source.partitions is None else "-" + "_".join(map(str, sorted(source.partitions)))
    return f"{source.group_id}{mine}-writer-{part}"


class TransactionalSink(KafkaSink):
    """`KafkaSink` whose writers commit an epoch's output, of all topics, together.

    sources: all that is read
    """

    def __init__(self, config: Config, sources: Sources, metrics: Metrics | None = None) -> None:
        super().__init__(config, metrics)
        self.sources = sources
        self.limit = smallest_limit(config)

    def build_part(self, step_id: str, for_part: str, resume_state: Marker | None) -> KafkaWriter:
        return TransactionalWriter(
            self.config, self.sources, for_part, resume_state or {}, self.limit, metrics=self.metrics
        )


class TransactionalWriter(KafkaWriter):
    """One producer with a transaction an epoch.

    sources: all that is read; part: which of the writers; resume: the marker that the recovery state knows
    limit: bytes of a message that every topic takes
    """

    def __init__(
        self,
        config: Config,
        sources: Sources,
        part: str,
        resume: Marker,
        limit: int,
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self._name = transactional_id(config, part)
        self._sources, self._resume = sources, resume
        self._wait = config.source.wait
        self._open = False
        self._done: Marker = {}
        self._next: Marker = {}
        self._dropped = 0
        # A transaction lasts for an epoch, and for as long as the next steps of all writers take.
        self._timeout = min(max(60.0, 10 * config.epoch_interval, 2 * self._wait), LONGEST)
        super().__init__(
            config,
            {
                "transactional.id": self._name,
                "transaction.timeout.ms": int(self._timeout * 1000),
                "message.timeout.ms": int(min(self._wait, self._timeout) * 1000),
                "acks": "all",
                "enable.idempotence": True,
                "message.max.bytes": limit,
            },
            metrics,
        )

    def _prepare(self) -> None:
        self._ask("init_transactions", lambda: self._producer.init_transactions(self._wait))
        self._done = self._ask("reading the marker", self._read_marker)  # not before: the predecessor may go on
        for (topic, partition), offset in self._resume.items():
            there = self._done.get((topic, partition), 0)
            if there >= offset or partition not in self._sources.get(topic, ()):
                continue
            raise MarkerError(
                f"delivery: exactly_once: {self._name} has put out the results of {topic!r} partition {partition} up "
                f"to offset {offset} by the recovery state, and up to {there} by the broker's consumer group of that "
                "name: the group was deleted or has expired, or this is another cluster. Start with another "
                "recovery.directory and source.group, or set the group's offset to that of the recovery state"
            )

    def _read_marker(self) -> Marker:
        consumer = Consumer(
            {
                **client_properties(self.config.source, error_cb=self._last_error),
                "group.id": self._name,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",  # waits for the end of an open transaction
            }
        )
        try:
            self._group = consumer.consumer_group_metadata()
            places = [TopicPartition(topic, p) for topic, partitions in self._sources.items() for p in partitions]
            marker: Marker = {}
            for place in consumer.committed(places, self._wait):
                if place.error is not None:
                    raise KafkaException(place.error)
                if place.offset < 0:
                    continue
                if place.metadata and place.metadata != self._metadata:  # none: an operator has set it
                    raise MarkerError(
                        f"delivery: exactly_once: what {self._name} has put out was written with {place.metadata}, now "
                        f"there are {self._metadata} (the smaller of sinks.writers and state.shards): set them back, "
                        "or start with another recovery.directory and source.group"
                    )
                end = consumer.get_watermark_offsets(place, self._wait)[1]
                if place.offset > end:
                    raise MarkerError(
                        f"delivery: exactly_once: {self._name} has put out the results of {place.topic!r} partition "
                        f"{place.partition} up to offset {place.offset}, but the topic ends at {end}: it was made "
                        "anew. Start with another recovery.directory and source.group"
                    )
                marker[place.topic, place.partition] = place.offset
            return marker
        finally:
            consumer.close()

    @property
    def _metadata(self) -> str:
        return f"writers={self.config.writers}"

    def _admit(self, output: Output) -> Output:
        place = (output.topic, output.partition)
        done = self._done.get(place, 0)  # of the last commit, the same during all of an epoch
        if output.first < done:
            before = len(output.values) + len(output.others)
            output = output.caused_from(done)
            self._dropped += before - len(output.values) - len(output.others)
        if not output.values and not output.others:
            return output
        if not self._open:
            self._producer.begin_transaction()
            self._open = True
        self._next[place] = max(self._next.get(place, 0), output.last + 1)
        return output

    def write_batch(self, values: list[Judged | Output]) -> None:
        with self._in_words():
            super().write_batch(values)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """What ended a transaction is told of one call only; what else fails then comes of that, as messages that were
        purged.

        Raises:
            BrokerError: in place of the client's own error.
        """
        try:
            yield
        except (BrokerError, KafkaException) as error:
            try:
                self._producer.begin_transaction()  # which is refused again, with the reason
            except KafkaException as refused:
                reason = kafka_error(refused)
                if reason.fatal() or reason.txn_requires_abort():
                    raise self._lost("producing", refused) from error
            if isinstance(error, KafkaException):
                raise self._lost("producing", error) from error
            raise

    def _deliver(self) -> Marker:
        with self._in_words():
            self._settle()
        if self._open:
            places = [TopicPartition(*place, offset, self._metadata) for place, offset in self._next.items()]
            self._ask(
                "send_offsets_to_transaction",
                lambda: self._producer.send_offsets_to_transaction(places, self._group, self._wait),
            )
            self._commit()
            self._done = {**self._done, **self._next}  # a new one: Bytewax writes the old one when it likes
            self._open, self._next = False, {}
        if self._dropped:
            LOG.info("delivered_before", messages=self._dropped, writer=self._name)
            self._dropped = 0
        return self._done

    def _commit(self) -> None:
        deadline = time.monotonic() + 2 * self._wait
        while True:
            try:
                self._bounded("commit_transaction", lambda: self._producer.commit_transaction(self._wait), self._wait)
                return
            except KafkaException as error:
                # Only commit may be called again: the marker tells the next start how this one has ended.
                if not kafka_error(error).retriable() or time.monotonic() > deadline:
                    raise self._lost("commit_transaction", error) from error

    def _lost(self, what: str, error: KafkaException) -> BrokerError:
        reason = kafka_error(error)
        found = f"delivery: exactly_once: {what} of {self._name}"
        text = self._scrubbed(reason.str())
        if reason.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT) and self._last_error.text:
            text = f"{text} ({self._last_error.text})"  # why, which no call tells
        if fenced(reason):
            return BrokerError(
                f"{found} was refused: {text}",
                "another process with the same source.group has taken over: end one of them, or give them different "
                f"groups. Where there is no other, a transaction was open for longer than {self._timeout:g} s, as when "
                "the machine was paused: start again",
            )
        return BrokerError(f"{found}: {text}", self._cures.get(reason.code(), RESTART))

    @property
    def _cures(self) -> Mapping[int, str]:
        sinks = self.config.sinks
        topics = ", ".join(repr(t) for t in (sinks.predictions, sinks.alerts, sinks.dead_letters) if t is not None)
        grant = "the user needs the operations {} and Describe on {}: grant them and start again"
        transactions = grant.format("Write", f"the transactional id {self._name!r}")
        return {
            KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: transactions,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED: transactions,  # as some brokers say it
            KafkaError.GROUP_AUTHORIZATION_FAILED: grant.format("Read", f"the consumer group {self._name!r}"),
            KafkaError.TOPIC_AUTHORIZATION_FAILED: grant.format("Write", f"the topics {topics}"),
            KafkaError.INVALID_TRANSACTION_TIMEOUT: (
                f"raise the broker's transaction.max.timeout.ms to {self._timeout * 1000:.0f} at least, or shorten "
                "recovery.epoch_interval or source.wait where they are long, and start again"
            ),
        }

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        """`_bounded`, with the broker's refusal in words."""
        try:
            return self._bounded(what, call, self._wait)
        except KafkaException as error:
            raise self._lost(what, error) from error

    def _bounded(self, what: str, call: Callable[[], T], seconds: float) -> T:
        """The call's result, in a thread of its own.

        Args:
            seconds: that the call itself waits at most, if it keeps to that

        Raises:
            BrokerError: it does not return. Then its thread keeps hold of the client, and so nothing waits for it when
                the process ends. What the call raises comes out as it is.
        """
        outcome: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                outcome.append(call())
            except BaseException as error:  # noqa: BLE001  # raised below
                failed.append(error)

        limit = seconds + AGAIN
        thread = threading.Thread(target=run, name=what, daemon=True)
        thread.start()
        thread.join(limit)
        if thread.is_alive():
            raise BrokerError(
                f"delivery: exactly_once: {what} of {self._name} has not returned in {limit:g} s: "
                f"{self._last_error.text or 'the broker does not answer'}",
                RESTART,
            )
        if failed:
            raise failed[0]
        return outcome[0]

    def close(self) -> None:
        # As the parent's: it must not raise, and what is open is no epoch's end.
        self._end()
        if self._open:
            try:
                self._bounded("abort_transaction", lambda: self._producer.abort_transaction(AGAIN), AGAIN)
            except (BrokerError, KafkaException) as error:  # the next start's init_transactions does it
                LOG.warning("transaction_not_aborted", writer=self._name, error=str(error))


def smallest_limit(config: Config) -> int:
    """Bytes of the largest message that all output topics take. A client that refuses a larger one by itself leaves the
    transaction whole; the broker's refusal would end it, and the next, at every start."""
    sinks = config.sinks
    remember = LastError(config.source)
    admin = AdminClient(client_properties(config.source, error_cb=remember))
    topics = [topic for topic in (sinks.predictions, sinks.alerts, sinks.dead_letters) if topic is not None]
    asked = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    limits = [KAFKA_DEFAULT]
    try:
        for answer in admin.describe_configs(asked, request_timeout=config.source.wait).values():
            found = cast("dict[str, Any]", answer.result(config.source.wait + AGAIN))
            if "max.message.bytes" in found:
                limits.append(int(found["max.message.bytes"].value))
    except KafkaException as error:
        # A user without the right to ask: the broker's default stands.
        LOG.warning("limits_unknown", topics=topics, error=scrubbed(kafka_error(error).str(), config.source.kafka))
    return max(min(limits), 1000)
