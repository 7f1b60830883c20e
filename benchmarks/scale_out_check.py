"""What a campaign of members has left, beside one process that nobody disturbed: results, states, gaps."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from wire import read

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import Chunk, OutputBatch, ShardBatch
from ssm_stream.recovery.store.reading import open_store

BATCH = 5_000
BEFORE = {"broker": 11_000, "pause": 11_000, "kill": 11_000, "planned": 3_000}
"""For so long after it, ms, a change may begin a gap: a dead member holds the group back until its session ends, and
one that joins has to start."""
AFTER = {"planned": 8_000, "kill": 14_000}
"""For so long after it, ms, a change counts as the cause of what began."""
Digests = Counter[bytes]
"""Of a topic's messages, by key and value."""


class Outcome(NamedTuple):
    """Messages of a topic that are missing, twice, or other than those of an undisturbed process."""

    expected: int
    lost: int
    twice: int
    other: int


def digest(key: bytes | str | None, value: bytes | None) -> bytes:
    """What stands for a message: 12 bytes."""
    name = key.encode() if isinstance(key, str) else key or b""
    return hashlib.blake2b(name + b"\0" + (value or b""), digest_size=12).digest()


def undisturbed(config: Config, broker: str) -> tuple[dict[str, Digests], dict[str, str]]:
    """Messages by topic, and the hash of each entity's state, of one engine for all partitions."""
    decoder, encoder, engine = Decoder(config), Encoder(config), Engine(config)
    found: dict[str, Digests] = {topic: Counter() for topic in config.sinks.topics}
    sources: dict[str, int] = {}
    for partition, messages in _by_partition(config.source.topic, broker):
        for at in range(0, len(messages), BATCH):
            for _, item in decoder.decode(Chunk(config.source.topic, partition, messages[at : at + BATCH])):
                if isinstance(item, ShardBatch):
                    sources |= dict.fromkeys(item.events.entity, partition)
                    output = encoder.encode(item, *engine.process(item.events, partition, encoder.event_ids(item)))
                else:
                    assert isinstance(item, OutputBatch)
                    output = item
                for record in output.records:
                    found[record.topic][digest(record.key, record.value)] += 1
    return found, {name: engine.state_hash(name, partition) for name, partition in sources.items()}


def _by_partition(topic: str, broker: str) -> Iterator[tuple[int, list[Any]]]:
    messages: dict[int, list[Any]] = {}
    for message in read(broker, topic):
        messages.setdefault(message.partition(), []).append(message)
    for partition in sorted(messages):
        yield partition, messages.pop(partition)


def compare(config: Config, broker: str) -> tuple[dict[str, Outcome], dict[str, int]]:
    """By topic what consumers see, and how many entities have another state than undisturbed, or none."""
    expected, states = undisturbed(config, broker)
    outcomes = {}
    for topic, wanted in expected.items():
        got: Digests = Counter(digest(m.key(), m.value()) for m in read(broker, topic))
        missing, more = wanted - got, got - wanted
        twice = sum(n for each, n in more.items() if each in wanted)
        other = more.total() - twice
        outcomes[topic] = Outcome(wanted.total(), max(missing.total() - other, 0), twice, other)
    found = {}
    with open_store(config) as stored:
        for shard in stored.chains:
            engine = stored.engine(shard, config)
            found |= {name: engine.state_hash(name, int(shard)) for name in engine.names}
    differing = {name for name in states.keys() | found.keys() if states.get(name) != found.get(name)}
    return outcomes, {"entities": len(states), "differing": len(differing)}


class Change(NamedTuple):
    """What was done to the members, and when, ms."""

    kind: str
    at: int


class Gap(NamedTuple):
    """Time without results of a partition, s, and what was done meanwhile: kill, pause, broker, planned or none."""

    partition: int
    seconds: float
    cause: str


def result_times(broker: str, topic: str) -> dict[int, list[int]]:
    """The times of the results of each partition by the producers' clocks, ms, ascending."""
    times: dict[int, list[int]] = {}
    for message in read(broker, topic):
        partition = int(message.value().split(b'"id":"')[1].split(b'"')[0].split(b"-")[-2])
        times.setdefault(partition, []).append(message.timestamp()[1])
    return {partition: sorted(stamps) for partition, stamps in times.items()}


def gaps(times: dict[int, list[int]], changes: list[Change], least: float) -> list[Gap]:
    """Times between two results of a partition that are longer than `least`, s."""
    found = []
    for partition, stamps in times.items():
        for begin, end in itertools.pairwise(stamps):
            if end - begin > 1000 * least:
                causes = {each.kind for each in changes if begin - BEFORE[each.kind] <= each.at <= end}
                cause = next((each for each in BEFORE if each in causes), "none")
                found.append(Gap(partition, (end - begin) / 1000, cause))
    return found


def gaps_of_changes(times: dict[int, list[int]], changes: list[Change], kind: str) -> list[float]:
    """By change of a kind, the longest time without results that a partition has had from then on, s."""
    found = []
    for change in (each for each in changes if each.kind == kind):
        longest = 0
        for stamps in times.values():
            at = bisect.bisect_left(stamps, change.at)
            until = bisect.bisect_right(stamps, change.at + AFTER[kind])
            some = stamps[max(at - 1, 0) : until + 1]
            longest = max([longest, *(end - begin for begin, end in itertools.pairwise(some))])
        found.append(longest / 1000)
    return found


def middle(values: list[float]) -> float | None:
    """The median; None of nothing."""
    return sorted(values)[len(values) // 2] if values else None


def summary(found: list[Gap]) -> dict[str, Mapping[str, float | int | None]]:
    """Number, median and longest gap by cause."""
    out = {}
    for cause in ("planned", "kill", "pause", "broker", "none"):
        mine = [each.seconds for each in found if each.cause == cause]
        out[cause] = {"gaps": len(mine), "median": middle(mine), "longest": max(mine, default=None)}
    return out
