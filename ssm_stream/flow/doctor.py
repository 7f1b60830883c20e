"""Checks everything between a configuration and a running dataflow, with the finding and the cure of each.

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

from ssm_stream.config import Config, ConfigError
from ssm_stream.config.client_properties import security_warnings
from ssm_stream.config.quantities import plural
from ssm_stream.config.sections.own_parts import installed_parts, load_part
from ssm_stream.config.suggestions import missing_signals
from ssm_stream.evaluate.pools import describe_budget, describe_pools, other_partitioner, pools_of
from ssm_stream.flow.other_flows import other_flows
from ssm_stream.ingest.message_fields import MessageFields
from ssm_stream.ingest.missing_paths import missing_paths
from ssm_stream.ingest.rows.names import signal_getter
from ssm_stream.kafka.admin import create_topics
from ssm_stream.kafka.client import (
    BrokerError,
    LastError,
    MissingRightError,
    librdkafka_version,
    open_producer,
    redact_properties,
)
from ssm_stream.kafka.cluster import Cluster, check_broker
from ssm_stream.kafka.foresight.topics import report
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.formats.outputs import open_outputs
from ssm_stream.kafka.formats.registry import RegistryError, open_registry
from ssm_stream.kafka.records import Message, offset_of, timestamp_of
from ssm_stream.kafka.sample import SampleCounts, decode_sample
from ssm_stream.kafka.topic_head import parse_documents
from ssm_stream.kafka.topic_reader import TopicReader, open_topic
from ssm_stream.recovery.compatibility import report_fit
from ssm_stream.recovery.directory import writable_by_others
from ssm_stream.recovery.resume.resume import report_positions
from ssm_stream.recovery.store.check import probe, report_group

LIBRARIES = ("ssm-stream", "bytewax", "confluent-kafka", "numpy")
PYTHONS = ((3, 11), (3, 13))  # Bytewax has wheels for none later
AHEAD = 5.0
"""Seconds that the newest message may lie in this machine's future before the clocks count as different."""
FREE = 200 * 1024**2
"""Free bytes that the recovery directory's disk should have."""
LATEST = 200
"""Messages of a partition, from its end, that are decoded as a trial."""
SAMPLE_ROUNDS = 4
"""Events of each entity, in the mean, in which hardly an entity is missing."""
SPREAD = "key the topic by entity; or name it in source.repartition, and in source.topic one for copies by entity"
READ_TIMEOUT = 10.0
"""Seconds for the trial read of all partitions together."""
SUMMARIES = {"cleanup.policy": "compact,delete", "retention.ms": str(92 * 86_400_000)}
"""Settings of the topic of summaries: the last of each entity and hour, for a quarter of a year."""


class Check(NamedTuple):
    """The result of one check.

    Attributes:
        name: what was checked, a word or two.
        ok: whether a run may rely on it.
        found: the finding, for a person.
        cure: what to do about it; empty if there is nothing to do. With `ok` it is a warning.
    """

    name: str
    ok: bool
    found: str
    cure: str = ""


def diagnose(config: Config) -> list[Check]:
    """Check everything that a run needs. Takes `source.wait` seconds if no broker answers."""
    local = [_python(), _libraries(), _own_parts(), _configuration(config), _recovery(config)]
    if config.schema_registry is not None:
        local.append(_registry(config))
    try:
        cluster = check_broker(config.source, [*_inputs(config).values(), *_outputs(config).values()])
    except BrokerError as error:
        return [*local, Check("brokers", False, error.found, error.cure)]
    many = f"{len(cluster.addresses)} broker" + "s" * (len(cluster.addresses) != 1)
    found = f"{many} ({', '.join(cluster.addresses.values())}) answered in {cluster.seconds:.2f} s"
    inputs = _topics(_inputs(config), cluster)
    sources = [check for each in config.source.each for check in _source(config.replace(source=each), cluster)]
    states = *report_fit(config), *report_positions(config, cluster), *report_group(config, cluster)
    sources += [Check(*each) for each in states]
    return [*local, Check("brokers", True, found), *sources, *inputs, *_sinks(config, cluster)]


def create_missing(config: Config, partitions: int) -> Check:
    """Create the topics of the configuration that do not exist, with so many partitions each.

    The source gets more if `source.partitions` names higher ones. Replication is the cluster's default.
    """
    source = config.source
    needed = max([partitions, *(p + 1 for p in source.partitions or [])])
    try:
        cluster = check_broker(source)
        topics = dict.fromkeys(_inputs(config).values(), partitions) | dict.fromkeys(source.names, needed)
        topics |= dict.fromkeys(_outputs(config).values(), partitions)
        absent = {t: n for t, n in topics.items() if t not in cluster.topics and t not in cluster.topic_errors}
        control = {name: 1 for name in absent if name == config.control_topic}
        topics |= control
        summaries = {name: n for name, n in absent.items() if name == config.sinks.summaries}
        others = {name: n for name, n in absent.items() if name not in control and name not in summaries}
        created = create_topics(source, others, timeout=source.wait)
        # Without its messages a replay would not agree: they are few, and kept.
        created += create_topics(source, control, config={"retention.ms": "-1"}, timeout=source.wait)
        created += create_topics(source, summaries, config=SUMMARIES, timeout=source.wait)
    except BrokerError as error:
        return Check("create topics", False, error.found, error.cure)
    return Check("create topics", True, ", ".join(f"{t} ({topics[t]} partitions)" for t in created) or "all exist")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]
    cure = "" if ok else "install Python 3.11 or 3.12; Bytewax has no wheels for later ones"
    return Check("python", ok, version, cure)


def _libraries() -> Check:
    versions, missing = [], []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    found = ", ".join([*versions, f"librdkafka {librdkafka_version()}", *(f"no {m}" for m in missing)])
    return Check("libraries", not missing, found, f"pip install {' '.join(missing)}" if missing else "")


def _own_parts() -> Check:
    """List the own parts that are installed, and load each of them: one that cannot be imported shows here."""
    parts, failures = installed_parts(), []
    for part in parts:
        try:
            load_part(part.kind, part.name)
        except ConfigError as error:
            failures.append(str(error))
    found = ", ".join(f"{part.kind} {part.name} ({part.package})" for part in parts) or "none installed"
    return Check("own parts", not failures, "; ".join([found, *failures]), "correct or remove it" if failures else "")


def _configuration(config: Config) -> Check:
    event = config.event
    start = "valid: features selected from the first events at start"
    if event.features != "auto":
        start = f"valid, {config.hash}: {plural(len(event.watched_inputs) + len(event.columns), 'feature')}"
    shards = plural(config.state.shards, "state shard")
    found = f"{start} and {plural(event.lags, 'lag')} of {', '.join(event.targets)}, {shards}"
    if properties := redact_properties(both := {**config.source.kafka, **config.sinks.kafka}):
        found += "; ".join([f"; Kafka properties {properties}", *security_warnings(both)])
    return Check("configuration", True, found)


def _recovery(config: Config) -> Check:
    directory = config.recovery.directory or config.state.store
    if isinstance(directory, str):
        return Check("recovery", *probe(config))
    if directory is None:
        return Check("recovery", True, f"off: every start begins at the {config.source.start} events")
    above = next(each for each in (directory.absolute(), *directory.absolute().parents) if each.exists())
    if not above.is_dir():
        return Check("recovery", False, f"{above} is not a directory", "correct recovery.directory")
    if problem := _unwritable(above):
        cure = f"let this user write in {above}, or correct recovery.directory"
        return Check("recovery", False, f"{above}: {problem}", cure)
    if writable_by_others(above) and above == directory.absolute():
        cure = f"chmod 700 {directory}: whoever writes there can run code as this user"
        return Check("recovery", False, f"{directory} may be written by others", cure)
    free = shutil.disk_usage(above).free
    state = "is writable" if above == directory.absolute() else "will be created"
    found = f"{directory} {state}, {free // 1024**2:,} MiB free"
    return Check("recovery", free >= FREE, found, "" if free >= FREE else f"free at least {FREE // 1024**2} MiB")


def _unwritable(directory: Path) -> str | None:
    """Return why a file cannot be written there; tried, because permissions do not show read-only or full disks."""
    if not os.access(directory, os.W_OK | os.X_OK):
        return "no permission to write"
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _registry(config: Config) -> Check:
    """Check whether the schema registry answers, and has the schemas of the output where they must be there already."""
    assert config.schema_registry is not None
    began, settings = time.monotonic(), config.schema_registry
    try:
        kinds = open_registry(config).check()
        answered = time.monotonic() - began
        message_format(config)
        if not settings.register_schemas:
            open_outputs(config)
    except RegistryError as error:
        return Check("schema registry", False, error.found, error.cure)
    return Check("schema registry", True, f"{settings.url} answered in {answered:.2f} s, and has {', '.join(kinds)}")


def _source(config: Config, cluster: Cluster) -> list[Check]:
    source = config.source
    try:
        partitions = cluster.source_partitions(source)
    except BrokerError as error:
        return [Check("source topic", False, error.found, error.cure)]
    of = "" if source.partitions is None else f" of {len(cluster.topics[source.topic])}"
    topic = Check("source topic", True, f"{source.topic}: {len(partitions)}{of} partitions")
    try:
        with open_topic(source.model_copy(update={"wait": min(source.wait, READ_TIMEOUT)})) as reader:
            reading, newest, messages = _read(reader, partitions)
    except MissingRightError as error:
        return [topic, Check("reading", False, error.found, error.cure)]
    except BrokerError as error:
        advertised = ", ".join(cluster.addresses.values())
        cure = (
            f"make sure that this machine reaches every broker where it advertises itself ({advertised}), and that the "
            f"user may read topic {source.topic} and group {source.group_id}"
        )
        return [topic, Check("reading", False, error.found, cure)]
    if not messages:
        return [topic, reading, _clock(newest)]
    try:
        sample = decode_sample(config, messages)
    except RegistryError as error:
        return [topic, reading, Check("events", False, error.found, error.cure), _clock(newest)]
    entities = [_entities(config, sample, len(cluster.topics[source.topic]))] if sample.events else []
    return [topic, reading, _events(config, messages, sample), *entities, _clock(newest)]


def _entities(config: Config, sample: SampleCounts, partitions: int) -> Check:
    """Describe the pools of the entities in the last messages; the team's budget, if it is for another number."""
    names = sample.partition_by_entity
    found = f"{describe_pools(config, pools_of(names, config.state.shards), partitions)} (in the last messages)"
    budget = config.alerts.budget
    enough = budget is not None and sample.events >= SAMPLE_ROUNDS * budget.entities
    far = describe_budget(config, len(names), all_seen=enough)
    notes = [other_partitioner(names, partitions), far]
    return Check("entities", True, "; ".join([found, *(each for each in notes if each is not None)]))


def _events(config: Config, messages: list[Message], sample: SampleCounts) -> Check:
    """Check whether the configuration can use the last messages; a flow goes on without those that it cannot."""
    what = "readings of signals that are used" if config.event.layout == "readings" else "events"
    found = f"{sample.events} of the last {sample.messages} messages are {what}"
    found += f", {sample.labels} are labels" if sample.labels else ""
    passed = sample.messages - sample.events - sample.labels - sample.refused.total()
    why = "" if config.event.layout == "readings" else " (event.only)"
    found += f", {passed} pass by{why}" if passed else ""
    parsed = parse_documents(messages, message_format(config), MessageFields(config))
    documents = [each for each in parsed if isinstance(each, dict)]
    if missing := missing_paths(config, documents, f"the last {sample.messages} messages"):
        return Check(
            "events", False, f"{found}; {'; '.join(missing)}", "correct these paths, or see what producers write"
        )
    if config.event.layout == "readings" and sample.events:
        get = signal_getter(config.event)
        signals = {str(name) for each in documents if (name := get(each)) is not None}
        if missing := missing_signals(config, signals, f"the last {sample.messages} messages"):
            found += f"; {'; '.join(missing)}"
            cure = "correct these signals; or the last messages are too few to have one of each"
            return Check("events", not {*config.event.targets} - signals, found, cure)
    # Labels come later, and events to be predicted only have none.
    if sample.events and sample.unlabelled == sample.events and config.labels is None:
        paths = ", ".join(config.event.targets)
        return Check("events", False, f"{found}; none has a target", f"check whether event.target ({paths}) is right")
    if sample.refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sample.refused.most_common())
        found += f"; the others would be dead letters ({reasons}); {sample.example}"
    if not sample.events and not sample.labels:
        return Check("events", False, found, "correct the paths in `event`, or see what the producers write")
    if (name := sample.split_entity) is not None and (config.model.fleet or config.event.makes_rows):
        found += f"; {name!r} comes by two partitions"
        if config.event.layout == "readings" and config.delivery == "exactly_once":
            return Check("events", False, f"{found}, which exactly_once refuses", SPREAD)
        what = "makes windows in each" if config.event.aggregate is not None else "learns with two pools"
        late = "its readings may be late while a backlog is read"
        found += f", so that {late if config.event.layout == 'readings' else f'it {what}'}: {SPREAD}"
    return Check("events", True, found)


class Newest(NamedTuple):
    """The latest Kafka timestamp among the messages read: seconds since 1970, and whether the broker set it."""

    seconds: float
    by_broker: bool


def _read(reader: TopicReader, partitions: Iterable[int]) -> tuple[Check, Newest | None, list[Message]]:
    """Request the offsets and read the last messages, as a run will, up to the end of each partition if they come.

    Raises:
        BrokerError: not allowed, or a broker does not answer.
    """
    source = reader.source
    deadline = time.monotonic() + READ_TIMEOUT
    spans = reader.spans(partitions)
    # Some back: the very last offsets may be transaction markers, which are not delivered.
    begins = {p: max(span.begin, span.end - LATEST) for p, span in spans.items() if span.begin < span.end}
    reader.require_group(spans)
    messages, left = list[Message](), set(begins)
    for some, ended in reader.poll(begins) if begins else ():
        messages += some
        left -= ended | {p for each in some if offset_of(each) + 1 >= spans[p := each.partition() or 0].end}
        if not left or time.monotonic() >= deadline:
            break
    waiting = sum(span.end - span.begin for span in spans.values())
    found = f"{waiting:,} messages on the topic; group {source.group_id} may be used"
    if begins and not messages:
        found += f"; none of the last ones came within {READ_TIMEOUT:g} s"
    stamps = [
        (stamp[0] / 1000, stamp[1]) for stamp in map(timestamp_of, messages) if stamp is not None and stamp[0] > 0
    ]
    cure = "" if messages or not begins else "see whether the brokers are overloaded, or the topic's leaders are away"
    if held := reader.held_back(spans):
        found, cure = f"{found}; {held[0]}", cure or held[1]
    newest = Newest(*max(stamps)) if stamps else None
    return Check("reading", bool(messages) or not begins, found, cure), newest, messages


def _clock(newest: Newest | None) -> Check:
    """Check the clocks: Kafka reports no time of its own, so only a timestamp from the future shows a wrong one."""
    if newest is None:
        return Check("clock", True, "not known: Kafka reports no time, and there is no message to compare with")
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
    """Return the topic of each sink that is on."""
    sinks = config.sinks
    named = {
        "predictions": sinks.predictions,
        "alerts": sinks.alerts,
        "suppressed": sinks.suppressed,
        "summaries": sinks.summaries,
        "dead_letters": sinks.dead_letters,
    }
    return {name: topic for name, topic in named.items() if topic is not None}


def _inputs(config: Config) -> dict[str, str]:
    """Return the topics that are read in addition to the events, by their key in the configuration."""
    labels, feedback = config.labels, config.alerts.feedback
    named = {
        "source.repartition": config.source.repartition,
        "labels.topic": labels.topic if labels else None,
        "alerts.feedback": feedback.topic if feedback else None,
        "alerts.control": config.control_topic,
    } | {f"source.context[{i}]": each.topic for i, each in enumerate(config.source.context)}
    return {name: topic for name, topic in named.items() if topic is not None}


def _sinks(config: Config, cluster: Cluster) -> list[Check]:
    outputs = {f"sinks.{name}": topic for name, topic in _outputs(config).items()}
    foreseen = [Check(*each) for each in (*report(config, cluster), *other_flows(config, cluster))]
    return [_writers(config), *_topics(outputs, cluster, "Write"), *foreseen]


def _topics(named: dict[str, str], cluster: Cluster, operation: str = "Read") -> list[Check]:
    checks = []
    for name, topic in named.items():
        try:
            found = f"{topic}: {len(cluster.partitions_of(topic, operation))} partitions"
            checks.append(Check(name, True, found))
        except BrokerError as error:
            checks.append(Check(name, False, error.found, error.cure))
    return checks


def _writers(config: Config) -> Check:
    """Check whether a producer can be made."""
    try:
        open_producer(config, LastError(config.source, config.sinks.kafka))
    except BrokerError as error:
        return Check("writing", False, error.found, error.cure)
    return Check("writing", True, "producers can be made; nothing is written")
