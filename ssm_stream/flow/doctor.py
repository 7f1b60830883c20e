"""What stands between a configuration and a running flow: each thing looked at, what was found, what to do about it.

Nothing is written to a topic and no offset is committed; topics are created only by `create_missing`.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import confluent_kafka
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ssm_stream.config import Config
from ssm_stream.config.client_properties import security_warnings
from ssm_stream.kafka.client import (
    BrokerError,
    Cluster,
    LastError,
    check_broker,
    client_properties,
    create_topics,
    kafka_error,
    metadata_client,
    redacted,
    scrubbed,
)
from ssm_stream.kafka.sample import decode_sample
from ssm_stream.recovery.directory import writable_by_others

LIBRARIES = ("ssm-stream", "bytewax", "confluent-kafka", "numba", "numpy")
PYTHONS = ((3, 11), (3, 13))  # Bytewax has wheels for none later
AHEAD = 5.0
"""Seconds that the newest message may lie in this machine's future before clocks are said to differ."""
FREE = 200 * 1024**2
"""Bytes that the recovery directory's disk should have left."""
LATEST = 200
"""Messages of a partition, from its end, that are tried."""
READ_TIMEOUT = 10.0
"""Seconds for the trial read of all partitions together."""


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: what it is, a word or two.
        ok: whether a run may rely on it.
        found: what was found, for a person.
        cure: what to do about it; empty where `ok`.
    """

    name: str
    ok: bool
    found: str
    cure: str = ""


def diagnose(config: Config) -> list[Check]:
    """Look at everything that a run needs. Takes `source.wait` seconds where no broker answers."""
    local = [_python(), _libraries(), _configuration(config), _recovery(config)]
    try:
        cluster = check_broker(config.source)
    except BrokerError as error:
        return [*local, Check("brokers", False, error.found, error.cure)]
    many = f"{len(cluster.addresses)} broker" + "s" * (len(cluster.addresses) != 1)
    found = f"{many} ({', '.join(cluster.addresses.values())}) answered in {cluster.waited:.2f} s"
    beside = _topics(_beside(config), cluster)
    return [*local, Check("brokers", True, found), *_source(config, cluster), *beside, *_sinks(config, cluster)]


def create_missing(config: Config, partitions: int) -> Check:
    """Create those of the topics that are read or written that are not there, with so many partitions each.

    The source gets more where `source.partitions` names higher ones. Replication is the cluster's default.
    """
    source = config.source
    needed = max([partitions, *(p + 1 for p in source.partitions or [])])
    try:
        cluster = check_broker(source)
        wanted = dict.fromkeys(_beside(config).values(), partitions) | {source.topic: needed}
        wanted |= dict.fromkeys(_outputs(config).values(), partitions)
        absent = {t: n for t, n in wanted.items() if t not in cluster.topics and t not in cluster.troubles}
        created = create_topics(source, absent, timeout=source.wait)
    except BrokerError as error:
        return Check("create topics", False, error.found, error.cure)
    return Check("create topics", True, ", ".join(f"{t} ({wanted[t]} partitions)" for t in created) or "all were there")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]
    return Check(
        "python", ok, version, "" if ok else "install Python 3.11 or 3.12; Bytewax has no wheels for later ones"
    )


def _libraries() -> Check:
    versions, missing = [], []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    found = ", ".join([*versions, f"librdkafka {confluent_kafka.libversion()[0]}", *(f"no {m}" for m in missing)])
    return Check("libraries", not missing, found, f"pip install {' '.join(missing)}" if missing else "")


def _configuration(config: Config) -> Check:
    event = config.event
    if event.features == "auto":
        start = "valid: features picked from the first events at start"
    else:
        start = f"valid, {config.hash}: {len(event.columns)} features"
    found = f"{start} and {event.lags} lags of {', '.join(event.targets)}, {config.state.shards} state shards"
    everything = {**config.source.kafka, **config.sinks.kafka}
    properties = redacted(everything)
    if properties:
        found += "; ".join([f"; Kafka properties {properties}", *security_warnings(everything)])
    return Check("configuration", True, found)


def _recovery(config: Config) -> Check:
    directory = config.recovery.directory
    if directory is None:
        return Check("recovery", True, f"off: every start begins at the {config.source.start} events")
    above = directory.absolute()
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        return Check("recovery", False, f"{above} is not a directory", "correct recovery.directory")
    problem = _unwritable(above)
    if problem:
        cure = f"let this user write in {above}, or correct recovery.directory"
        return Check("recovery", False, f"{above}: {problem}", cure)
    if writable_by_others(above) and above == directory.absolute():
        cure = f"chmod 700 {directory}: whoever writes there can run code as this user"
        return Check("recovery", False, f"{directory} may be written by others", cure)
    free = shutil.disk_usage(above).free
    state = "is writable" if above == directory.absolute() else "will be created"
    found = f"{directory} {state}, {free / 1024**3:.1f} GiB free"
    return Check("recovery", free >= FREE, found, "" if free >= FREE else f"free at least {FREE // 1024**2} MiB")


def _unwritable(directory: Path) -> str | None:
    """Why a file cannot be written there; tried, as permissions do not tell of read-only or full disks."""
    if not os.access(directory, os.W_OK | os.X_OK):
        return "no permission to write"
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _source(config: Config, cluster: Cluster) -> list[Check]:
    source = config.source
    try:
        partitions = cluster.source_partitions(source)
    except BrokerError as error:
        return [Check("source topic", False, error.found, error.cure)]
    of = "" if source.partitions is None else f" of {len(cluster.topics[source.topic])}"
    there = Check("source topic", True, f"{source.topic}: {len(partitions)}{of} partitions")
    remember = LastError(source)
    try:
        with metadata_client(source, remember) as client:
            reading, newest, messages = _read(client, config, partitions)
    except (KafkaException, BrokerError) as error:
        said = kafka_error(error).str() if isinstance(error, KafkaException) else str(error)
        reason = scrubbed(said, source.kafka) + (f"; {remember.text}" if remember.text else "")
        advertised = ", ".join(cluster.addresses.values())
        cure = (
            f"make sure that this machine reaches every broker where it advertises itself ({advertised}), and that the "
            f"user may read topic {source.topic} and group {source.group_id}"
        )
        return [there, Check("reading", False, f"{source.topic}: {reason}", cure)]
    return [there, reading, *([_events(config, messages)] if messages else []), _clock(newest)]


def _events(config: Config, messages: list[confluent_kafka.Message]) -> Check:
    """Whether the configuration can use the last messages; a flow goes on without those that it cannot."""
    seen = decode_sample(config, messages)
    found = f"{seen.events} of the last {seen.messages} messages are events"
    found += f", {seen.labels} are labels" if seen.labels else ""
    # Labels come later, and events to be predicted only have none.
    if seen.events and seen.unlabelled == seen.events and config.labels is None:
        paths = ", ".join(config.event.targets)
        return Check("events", False, f"{found}; none has a target", f"see whether event.target ({paths}) is right")
    if seen.refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in seen.refused.most_common(3))
        found += f"; the others would be dead letters ({reasons}); {seen.example}"
    if not seen.events and not seen.labels:
        return Check("events", False, found, "correct the paths in `event`, or see what the producers write")
    if seen.astray is not None and config.model.fleet:
        found += f"; {seen.astray!r} comes by two partitions, so that it learns with two pools: key the topic by entity"
    return Check("events", True, found)


class Newest(NamedTuple):
    """The latest Kafka timestamp among the messages read: seconds since 1970, and whether the broker set it."""

    seconds: float
    by_broker: bool


def _read(
    client: Consumer, config: Config, partitions: Iterable[int]
) -> tuple[Check, Newest | None, list[confluent_kafka.Message]]:
    """Ask for the offsets and read the last messages, as a run will.

    Raises:
        KafkaException: not allowed, or a broker does not answer.
    """
    source = config.source
    deadline = time.monotonic() + READ_TIMEOUT
    client.list_topics(source.topic, timeout=READ_TIMEOUT)
    starts, waiting = [], 0
    for partition in partitions:
        place = TopicPartition(source.topic, partition)
        low, high = client.get_watermark_offsets(place, timeout=max(0.1, deadline - time.monotonic()))
        waiting += high - low
        if high > low:
            # Some back: the very last offsets may be transaction markers, which are not delivered.
            starts.append(TopicPartition(source.topic, partition, max(low, high - LATEST)))
    committed = client.committed([TopicPartition(source.topic, p) for p in partitions], timeout=READ_TIMEOUT)
    if refused := next((c.error for c in committed if c.error is not None), None):
        raise KafkaException(refused)
    messages = _last_messages(client, starts, deadline)
    found = f"{waiting:,} messages to read; group {source.group_id} may be used"
    if starts and not messages:
        found += f"; none of the last ones came within {READ_TIMEOUT:g} s"
    stamps = [
        (ms / 1000, kind == TIMESTAMP_LOG_APPEND_TIME) for kind, ms in (m.timestamp() for m in messages) if ms > 0
    ]
    newest = Newest(*max(stamps)) if stamps else None
    cure = "" if messages or not starts else "see whether the brokers are overloaded, or the topic's leaders are away"
    return Check("reading", not cure, found, cure), newest, messages


def _last_messages(client: Consumer, starts: list[TopicPartition], deadline: float) -> list[confluent_kafka.Message]:
    """One or more messages of each partition, as far as they come in time."""
    messages: list[confluent_kafka.Message] = []
    wanted = {place.partition for place in starts}
    if starts:
        client.assign(starts)
    while wanted and time.monotonic() < deadline:
        for message in client.consume(1000, timeout=0.2):
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():
                raise KafkaException(error)
            else:
                continue
            wanted.discard(message.partition())
    return messages


def _clock(newest: Newest | None) -> Check:
    """Kafka tells no time of its own; a stamp from the future is all that gives a wrong clock away."""
    if newest is None:
        return Check("clock", True, "not known: Kafka tells no time, and there is no message to compare with")
    ahead = newest.seconds - time.time()
    who = "the broker" if newest.by_broker else "its producer"
    if ahead > AHEAD:
        found = f"the newest message was stamped by {who} {ahead:.1f} s in this machine's future"
        return Check("clock", False, found, f"set the clocks of this machine and of {who} by NTP")
    if newest.by_broker:
        return Check("clock", True, f"the broker is not ahead: it stamped the newest message {-ahead:.1f} s ago")
    found = f"the broker's is not known (producers stamp this topic's messages; the newest is {-ahead:.1f} s old)"
    return Check("clock", True, found)


def _outputs(config: Config) -> dict[str, str]:
    """Sink → topic, of those that are on."""
    sinks = config.sinks
    named = {"predictions": sinks.predictions, "alerts": sinks.alerts, "dead_letters": sinks.dead_letters}
    return {name: topic for name, topic in named.items() if topic is not None}


def _beside(config: Config) -> dict[str, str]:
    """Key → topic, of those that are read beside the events."""
    labels, feedback = config.labels, config.alerts.feedback
    named = {"labels.topic": labels.topic if labels else None, "alerts.feedback": feedback.topic if feedback else None}
    return {name: topic for name, topic in named.items() if topic is not None}


def _sinks(config: Config, cluster: Cluster) -> list[Check]:
    outputs = {f"sinks.{name}": topic for name, topic in _outputs(config).items()}
    return [_writers(config), *_topics(outputs, cluster)]


def _topics(named: dict[str, str], cluster: Cluster) -> list[Check]:
    checks = []
    for name, topic in named.items():
        try:
            partitions = cluster.partitions_of(topic)
        except BrokerError as error:
            checks.append(Check(name, False, error.found, error.cure))
        else:
            checks.append(Check(name, True, f"{topic}: {len(partitions)} partitions"))
    return checks


def _writers(config: Config) -> Check:
    """Whether a producer can be made; whether it may write is known only by writing, which is not done here."""
    try:
        Producer(client_properties(config.source, **config.sinks.kafka))
    except (KafkaException, TypeError, ValueError) as error:
        reason = kafka_error(error).str() if isinstance(error, KafkaException) else str(error)
        cure = "correct sinks.kafka; the names and values are in librdkafka's CONFIGURATION.md"
        return Check("writing", False, scrubbed(reason, config.source.kafka, config.sinks.kafka), cure)
    return Check("writing", True, "producers can be made; permission to write is not tried")
