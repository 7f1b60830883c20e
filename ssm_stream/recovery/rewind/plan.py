"""What a rewind would do: the generation, the events to be read again, and how long that takes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from ssm_stream.config import Config, ConfigError
from ssm_stream.config.sections.maintenance import Maintenance
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot import require_compatible_state
from ssm_stream.ingest.context.facts import unknown_facts
from ssm_stream.ingest.timestamps import in_range, iso_to_ms, ms_to_iso
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.control.topic import recorded_stops
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import Chunk, Message, ShardBatch
from ssm_stream.kafka.topic_reader import Span, open_topic
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import Checkpoint, load_chain, open_checkpoint, read_chain
from ssm_stream.recovery.exclusions import with_windows
from ssm_stream.recovery.generations.store import FolderStore, Generation, ShardGeneration
from ssm_stream.recovery.positions import Positions
from ssm_stream.recovery.reader import StoredState

SAMPLE = 5000
"""Events of which the rate is measured."""
ABSENT = (
    "earlier states are kept from the first start with recovery.keep on, one every ten minutes, and not by a cluster "
    "of processes; to learn all that the topic still has anew: ssm-stream state reset"
)


class Request(NamedTuple):
    """What to forget. to: ms, from which on nothing stays learned; excluded: stretches that are not learned again"""

    to: int
    excluded: list[Maintenance]


def read_request(config: Config, to: str, excluded: Iterable[tuple[str, str, str]]) -> Request:
    """Return a request from the texts of the command.

    Args:
        excluded: entity or pattern, from, to

    Raises:
        ConfigError: a text is no time, or a stretch ends before it begins.
    """
    windows = []
    for entity, begin, end in excluded:
        first, last = _ms(config, "--without", begin), _ms(config, "--without", end)
        if first >= last:
            raise ConfigError(f"--without: {end} is not later than {begin}")
        content = {"entities": entity, "from": ms_to_iso(first), "to": ms_to_iso(last)}
        windows.append(Maintenance.model_validate(content))
    if windows and config.labels is not None:
        raise ConfigError(
            "--without: labels come by themselves, so that a stretch cannot be left out: rewind to before it, and let "
            "the labels be corrected"
        )
    return Request(_ms(config, "--to", to), windows)


def _ms(config: Config, option: str, text: str) -> int:
    try:
        return in_range(iso_to_ms(text, ZoneInfo(config.event.time_zone)))
    except (ValueError, OverflowError):
        raise ConfigError(f"{option}: found {text!r}; write a time such as 2026-08-10T06:00") from None


class Reread(NamedTuple):
    """What is read again of a partition: [begin, end). first: offset that the broker still has"""

    topic: str
    partition: int
    begin: int
    end: int
    first: int

    @property
    def lost(self) -> int:
        """Messages that the broker no longer has."""
        return max(min(self.first, self.end) - self.begin, 0)


class Plan(NamedTuple):
    """A rewind. rate: events a second, measured on the first of them; None: there are none"""

    request: Request
    generation: Generation
    partitions: list[Reread]
    rate: float | None
    config: Config

    @property
    def events(self) -> int:
        """Messages that are read again."""
        return sum(each.end - each.begin for each in self.partitions)

    @property
    def lost(self) -> int:
        """Messages that the broker no longer has."""
        return sum(each.lost for each in self.partitions)

    @property
    def seconds(self) -> float | None:
        """How long the reading takes with one worker; None: unknown."""
        return None if self.rate is None else self.events / self.rate

    def as_json(self) -> dict[str, Any]:
        """Return it for `--json`."""
        made = self.generation
        windows = [{"entities": each.entities, "from": each.begin, "to": each.end} for each in self.request.excluded]
        return {
            "to": ms_to_iso(self.request.to),
            "without": windows,
            "generation": {
                "taken": ms_to_iso(made.taken), "time": None if made.time is None else ms_to_iso(made.time)
            },
            "partitions": [{**each._asdict(), "lost": each.lost} for each in self.partitions],
            "events": self.events,
            "lost": self.lost,
            "events_per_s": self.rate,
            "seconds": self.seconds,
            "config_hash": self.config.hash,
        }  # fmt: skip


class KeptFiles(Protocol):
    """The files of kept states."""

    @property
    def files(self) -> Path:
        """Their folder."""

    def chain(self, shard: ShardGeneration) -> list[Checkpoint]:
        """Return the files of a shard's state, the whole one first."""


class FolderKept(FolderStore):
    """Those of a recovery directory."""

    def chain(self, shard: ShardGeneration) -> list[Checkpoint]:
        """Return the files of a shard's state."""
        return read_chain(self.files, shard.files[-1])


def make_plan(config: Config, stored: StoredState, request: Request) -> Plan:
    """Return what a rewind of a recovery directory would do.

    Args:
        config: as its state was learned

    Raises:
        RecoveryError, StateError, BrokerError: as of `plan_for`; or no generation is from before the time.
    """
    kept = FolderKept(stored.directory)
    return plan_for(config, stored, request, choose(kept.all(), request), kept)


def plan_for(config: Config, stored: StoredState, request: Request, generation: Generation, kept: KeptFiles) -> Plan:
    """Return what a rewind to a kept state would do.

    Args:
        config: as its state was learned

    Raises:
        StateError: the configuration cannot continue with it.
        BrokerError: the broker does not answer.
    """
    learned = with_windows(config, request.excluded)
    for shard in generation.shards.values():
        with open_checkpoint(kept.files, shard.files[0]) as reader:
            require_compatible_state(reader.metadata, learned)
    partitions = list(_partitions(config, stored, generation))
    rate = None if any(each.lost for each in partitions) else _measure(learned, kept, generation, partitions)
    return Plan(request, generation, partitions, rate, learned)


def choose(generations: list[Generation], request: Request) -> Generation:
    """Return the newest generation that has learned nothing from the time on.

    Raises:
        RecoveryError: there is none, or a stretch begins before it.
    """
    found = [each for each in generations if each.time is None or each.time < request.to]
    if not found:
        have = "no earlier state is kept"
        if generations and generations[0].time is not None:
            have = f"the earliest state that is kept has learned up to {ms_to_iso(generations[0].time)}"
        raise RecoveryError(f"--to {ms_to_iso(request.to)}: {have}: {ABSENT}")
    for each in request.excluded:
        assert each.begin is not None
        if iso_to_ms(each.begin) < request.to:
            raise RecoveryError(
                f"--without {each.entities} {each.begin}: it begins before --to {ms_to_iso(request.to)}, and what was "
                f"learned before that stays: write --to {each.begin}, or an earlier time"
            )
    return found[-1]


def _partitions(config: Config, stored: StoredState, generation: Generation) -> Iterator[Reread]:
    now: Positions = {(topic, partition): offset for topic, partition, offset in stored.positions(config)}
    feedback = config.alerts.feedback and config.alerts.feedback.topic
    for topic in sorted({topic for topic, _ in now if topic != feedback}):
        mine = {partition: end for (name, partition), end in now.items() if name == topic}
        with open_topic(with_topic(config.source, topic)) as reader:
            spans = reader.spans(sorted(mine))
        for partition, end in sorted(mine.items()):
            first = spans[partition].begin
            begin = generation.positions.get((topic, partition), min(first, end))  # a partition that was added
            yield Reread(topic, partition, min(begin, end), end, first)


def _measure(config: Config, kept: KeptFiles, generation: Generation, partitions: list[Reread]) -> float | None:
    """Return the rate at which the first events are learned again, in memory; None without any."""
    mine = [each for each in partitions if each.topic in config.source.names and each.begin < each.end]
    if not mine:
        return None
    topic = mine[0].topic  # of several topics, one is enough
    mine = [each for each in mine if each.topic == topic]
    most = max(SAMPLE // len(mine), 100)
    engines, encoder = dict[str, Engine](), Encoder(config)
    decoder, events, seconds = Decoder(config, control=recorded_stops(config)), 0, 0.0
    for key, shard in generation.shards.items():
        engines[key] = Engine(config)
        load_chain(engines[key], kept.files, kept.chain(shard))
    spans = {each.partition: Span(each.begin, min(each.begin + most, each.end)) for each in mine}
    with open_topic(with_topic(config.source, topic)) as reader:
        for messages in reader.read(spans):
            began = time.perf_counter()
            for partition, own in itertools.groupby(sorted(messages, key=_partition), _partition):
                for key, item in decoder.decode(Chunk(topic, partition, list(own))):
                    if not isinstance(item, ShardBatch):
                        continue
                    engine = engines.get(key) or engines.setdefault(key, Engine(config))
                    if engine.rows is not None:
                        engine.rows.join_facts(unknown_facts(len(config.event.facts)))
                        rows = engine.rows.add(item.events, item.offsets, item.partition)
                        if not len(rows):
                            continue
                        item = item.with_rows(rows)
                    engine.episodes.set_control(item.control)
                    marked = engine.episodes.mark(item.events, encoder.event_ids(item))
                    source = encoder.source_of(item)
                    admitted, _ = engine.admit(marked, source)
                    engine.process(admitted, source, encoder.event_ids(item))
            seconds += time.perf_counter() - began
            events += len(messages)
    return events / seconds if events and seconds else None


def _partition(message: Message) -> int:
    return message.partition() or 0
