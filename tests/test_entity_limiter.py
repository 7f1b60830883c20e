"""Limits: how many entities may be in memory, and how large a message may be; no producer can exhaust the memory."""

from __future__ import annotations

import random
import tracemalloc
from collections import OrderedDict
from io import BytesIO
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_decoder import FakeMessage, chunk, decode, event, faults_of
from test_state import KINDS, configured, labels_of, stream

from ssm_stream.config import Config, State, parse_config
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.entity_limiter import CLOCK_STEPS_PER_TTL, EntityLimiter
from ssm_stream.engine.snapshot_format import SnapshotReader
from ssm_stream.flow.feedback import FeedbackDecoder
from ssm_stream.ingest.events import MAX_NAME_LENGTH, Events
from ssm_stream.kafka import bounded_cache
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.records import Chunk, OutputBatch, PredictedBatch, ShardBatch
from ssm_stream.operators.shard_operator import ShardLogic

TTL = 86_400_000
LIMITED = "state: {{ttl: 1d, max_entities: {most}, when_full: {full}}}"


def rules(most: int, full: str, **more: Any) -> State:
    return State(max_entities=most, when_full=full, **{"ttl": "1d", **more})


class Slowly:
    """The same rules, an event at a time, as a person would write them down."""

    def __init__(self, most: int, *, evict: bool) -> None:
        self.most, self.evict, self.clock = most, evict, None
        self.seen: OrderedDict[str, int] = OrderedDict()

    def event(self, name: str, ts: int) -> tuple[bool, list[str]]:
        """Whether it is let in, and who leaves for it."""
        gone = []
        if name not in self.seen:
            while len(self.seen) >= self.most:
                oldest = next(iter(self.seen))
                if not self.evict and self.clock - self.seen[oldest] <= TTL:
                    return False, []
                del self.seen[oldest]
                gone.append(oldest)
        self.clock = ts if self.clock is None else self.clock + min(max(ts - self.clock, 0), TTL // CLOCK_STEPS_PER_TTL)
        self.seen[name] = self.clock
        self.seen.move_to_end(name)
        return True, gone


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10**6),
    most=st.integers(1, 8),
    evict=st.booleans(),
    cuts=st.sets(st.integers(1, 99), max_size=9),
)
def test_who_is_let_in_and_who_leaves_is_decided_event_by_event(
    seed: int, most: int, evict: bool, cuts: set[int]
) -> None:
    rng = random.Random(seed)
    names = [f"m{int(rng.random() ** 2 * 14)}" for _ in range(100)]
    ts = np.cumsum([rng.choice([-500, 1000, TTL // 50, 2 * TTL]) for _ in names])
    slowly, limiter = Slowly(most, evict=evict), EntityLimiter(rules(most, "evict" if evict else "refuse"))
    expected = [slowly.event(name, int(t)) for name, t in zip(names, ts, strict=True)]
    known: set[str] = set()
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 100], strict=True):
        segments, rejected = limiter.admit(names[start:stop], ts[start:stop], {}, 0)
        assert rejected == [i - start for i in range(start, stop) if not expected[i][0]]
        left = []
        for rows, evicted in segments:
            mine = [names[start + i] for i in rows.tolist()]
            first = {name: int(i) for name, i in zip(reversed(mine), reversed(rows.tolist()), strict=True)}
            for i, name in evicted:
                assert i in rows
                assert first.get(name, 100) >= i, "an evicted entity has no event before that in the segment"
                known.discard(name)
            left += evicted
            known |= set(mine)
        assert left == [(i - start, name) for i in range(start, stop) for name in expected[i][1]]
        saved = orjson.loads(orjson.dumps(limiter.dump()))
        limiter = EntityLimiter(rules(most, "evict" if evict else "refuse"))
        limiter.load(saved)
    assert limiter.dump() == [[0, 0, slowly.clock, list(slowly.seen), list(slowly.seen.values())]] == saved
    assert len(limiter) <= most


def test_shards_and_sources_have_a_limit_each() -> None:
    limiter, names = EntityLimiter(rules(2, "refuse")), [f"m{i}" for i in range(40)]
    homes = {name: shard_of(name, 4) for name in names}
    ts = np.arange(40)
    for source in (0, 5):
        _, rejected = limiter.admit(names, ts, homes, source)
        assert len(rejected) == 40 - 8
    assert len(limiter) == 16
    # As each shard would decide by itself.
    for shard in range(4):
        mine = [name for name in names if homes[name] == shard]
        alone = EntityLimiter(rules(2, "refuse"))
        assert alone.admit(mine, np.arange(len(mine)), dict.fromkeys(mine, shard), 0)[1] == list(range(2, len(mine)))


def test_a_wrong_time_expires_no_entity() -> None:
    limiter = EntityLimiter(rules(1, "refuse"))
    assert not limiter.admit(["a", "a"], np.array([0, 200 * 365 * TTL]), {}, 0)[1]
    assert limiter.admit(["b"], np.array([TTL]), {}, 0)[1] == [0]


def limited(kind: str, most: int, full: str) -> Config:
    return configured(kind, more=LIMITED.format(most=most, full=full))


def fed(engine: Engine, events: Events, start: int, stop: int, out: list[tuple[int, Any]]) -> None:
    """Events through the limit and the engine, with what was said of each, by its offset."""
    part = events.take(np.arange(start, stop))
    place = part.position
    part, rejected = engine.admit(part, source=0)
    out += [(int(place[r.position]), r.fault) for r in rejected]
    if len(part):
        predictions, alerts = engine.process(part, source=0)
        rows = zip(part.position.tolist(), *(column.tolist() for column in predictions), strict=True)
        out += [(at, repr(said)) for at, *said in rows]
        out += [(int(part.position[alert.row]), orjson.dumps(alert.message)) for alert in alerts]
        for settled in engine.resolved_predictions:
            out += [(int(part.position[i]), ("settled", y)) for i, y in zip(settled.item, settled.y, strict=True)]
    if engine.config.labels is not None:
        for i in range(start, stop):
            if i >= 15:
                engine.learn(labels_of(events.take(np.arange(i - 15, i - 14))))
        out += [(label.position, ("unmatched", label.entity)) for label in engine.pop_unmatched_labels()]


@pytest.mark.parametrize("full", ["evict", "refuse"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "labels"])
@settings(max_examples=7)
@given(
    seed=st.integers(0, 1000), most=st.integers(1, 25), cuts=st.sets(st.integers(1, 239), max_size=8), n=st.just(240)
)
@example(seed=177, most=9, cuts={7, 17}, n=400)  # one that left a row comes again, to a row of its own
def test_limits_change_no_bit_by_batches_restarts_and_snapshots(
    kind: str, full: str, seed: int, most: int, cuts: set[int], n: int
) -> None:
    config = limited(kind, most, full)
    events = stream(config, n, seed)
    plain, expected = Engine(config), list[tuple[int, Any]]()
    for i in range(n):
        fed(plain, events, i, i + 1, expected)
        assert len(plain) <= most
    engine, found = Engine(config), list[tuple[int, Any]]()
    files: list[BytesIO] = []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), n], strict=True):
        fed(engine, events, start, stop, found)
        file = BytesIO()
        whole = not files or engine.changed_share == 1
        engine.write_snapshot(file, full=whole)
        files = [file] if whole else [*files, file]
        again = Engine(config)  # what the files say, from now on
        for each in files:
            again.load(SnapshotReader(each))
        assert again.snapshot() == engine.snapshot()
        if start % 2:
            engine, files = again, []
    key = lambda item: (item[0], repr(item[1]))  # noqa: E731
    assert sorted(found, key=key) == sorted(expected, key=key)
    assert {name: engine.state_hash(name) for name in engine.names} == {
        name: plain.state_hash(name) for name in plain.names if name in engine
    }
    assert len(engine) <= most


@pytest.mark.parametrize("full", ["evict", "refuse"])
@pytest.mark.parametrize("most", [3, 12])
def test_labels_of_those_who_left_find_no_event(full: str, most: int) -> None:
    config = limited("labels", most, full)
    events = stream(config, 300, 1)
    plain, expected = Engine(config), list[tuple[int, Any]]()
    engine, found = Engine(config), list[tuple[int, Any]]()
    for start in range(0, 300, 20):
        fed(plain, events, start, start + 20, expected)
        fed(engine, events, start, start + 20, found)
        engine = Engine.restore(config, engine.snapshot())
        assert len(engine) <= most
    assert found == expected
    free: list[tuple[int, Any]] = []
    unlimited = Engine(configured("labels"))
    for start in range(0, 300, 20):
        fed(unlimited, events, start, start + 20, free)

    def unmatched(said: list[tuple[int, Any]]) -> int:
        return sum(what[0] == "unmatched" for _, what in said if isinstance(what, tuple))

    assert full == "refuse" or unmatched(found) > unmatched(free)


def test_who_was_evicted_starts_afresh_and_the_others_do_not_notice() -> None:
    config = limited("plain", 3, "evict")
    names = [f"m{i % 3}" for i in range(30)] + ["new", *(["m1", "m2"] * 5), "m0"]
    n = len(names)
    events = Events(names, 1000 * np.arange(n), np.zeros((n, 2)), np.ones(n), np.arange(n))
    engine, free = Engine(config), Engine(configured())
    kept, rejected = engine.admit(events)
    assert not rejected
    predictions, _ = engine.process(kept)
    without, _ = free.process(events)
    assert predictions.n.tolist()[:-1] == without.n.tolist()[:-1]
    assert (predictions.n[-1], without.n[-1]) == (0, 10)
    assert sorted(engine.names) == ["m0", "m1", "m2"]


def test_the_limit_may_be_changed_in_the_life_of_a_state() -> None:
    events = stream(configured(), 300)
    engine = Engine(limited("plain", 20, "evict"))
    engine.process(engine.admit(events)[0])
    for more in ("state: {ttl: 1d}", LIMITED.format(most=30, full="refuse"), LIMITED.format(most=2, full="evict")):
        config = configured(more=more)
        assert config.hash == engine.config.hash
        other = Engine.restore(config, engine.snapshot())
        assert other.names == engine.names
        other.process(other.admit(events.take(np.arange(20)))[0])
    unlimited = Engine(configured())
    unlimited.process(events)
    late = Engine.restore(limited("plain", 5, "refuse"), unlimited.snapshot())  # who was known is met again first
    assert len(late.admit(events.take(np.arange(50)))[1]) > 0


# What a hostile producer may do.


def flood(config: Config, n: int, size: int = 12) -> list[bytes | None]:
    rng = random.Random(n)
    return [event(machine="".join(rng.choices("abcdefghij", k=size)), ts=1_800_000_000 + i) for i in range(n)]


@pytest.mark.parametrize("full", ["evict", "refuse"])
def test_random_names_do_not_exhaust_the_memory(full: str) -> None:
    config = parse_config(
        "source: {brokers: a, topic: plant.events}\nevent: {entity: machine, timestamp: ts, features: [load], target: "
        f"temp}}\nstate: {{max_entities: 100, when_full: {full}}}\nrecovery: {{directory: null}}"
    )
    decoder, logic = Decoder(config), ShardLogic(config, None)
    answered, room = 0, 0
    tracemalloc.start()
    try:
        for i in range(12):
            for _, batch in decoder.decode(chunk(flood(config, 1000 + i), first=2000 * i)):
                assert isinstance(batch, ShardBatch)
                for item in logic.on_batch([batch])[0]:
                    answered += len(item.records) if isinstance(item, OutputBatch) else len(item.batch.events)
            snapshot = logic.snapshot()
            if i == 4:
                room, size = tracemalloc.get_traced_memory()[0], len(snapshot)
        assert answered == sum(range(1000, 1012))
        assert len(logic.engine) == 100
        assert len(snapshot) < 1.5 * size
        # The decoder remembers up to a million names, some 200 bytes each.
        assert tracemalloc.get_traced_memory()[0] < room + 400 * answered
    finally:
        tracemalloc.stop()


def test_refused_events_are_dead_letters_as_they_came() -> None:
    config = parse_config(
        "source: {brokers: a, topic: plant.events}\nevent: {entity: machine, timestamp: ts, features: [load], target: "
        "temp}\nstate: {max_entities: 2}\nrecovery: {directory: null}"
    )
    values: list[bytes | None] = [event(machine=name) for name in ("a", "b", "c", "a", "d", "b")]
    messages: list[Any] = [
        FakeMessage(100 + i, value, b"k%d" % i, [("mine", b"%d" % i)]) for i, value in enumerate(values)
    ]
    ((_, batch),) = Decoder(config).decode(Chunk("plant.events", 3, messages))
    assert isinstance(batch, ShardBatch)
    logic = ShardLogic(config, None)
    letters, judged = logic.on_batch([batch])[0]
    assert isinstance(letters, OutputBatch)
    assert isinstance(judged, PredictedBatch)
    assert (letters.first, letters.last) == (102, 104)
    assert [(r.key, r.value, r.offset) for r in letters.records] == [(b"k2", values[2], 102), (b"k4", values[4], 104)]
    assert letters.records[0].headers is not None
    assert letters.records[0].headers[0] == ("mine", b"2")
    faults = faults_of(letters.records[0])
    assert (faults["exception.class.name"], faults["stage"]) == ("ssm_stream.TooManyEntities", "admit")
    assert "'c' is new, and 2 entities are in memory already (state.max_entities" in faults["exception.message"]
    assert (judged.batch.events.entity, judged.batch.offsets) == (["a", "b", "a", "b"], [100, 101, 103, 105])
    assert len(judged.predictions.yhat) == 4
    assert judged.batch.raw is None
    # A batch that is rejected as a whole.
    ((_, batch),) = Decoder(config).decode(chunk([event(machine="e")]))
    assert isinstance(batch, ShardBatch)
    (only,) = logic.on_batch([batch])[0]
    assert isinstance(only, OutputBatch)


def test_large_messages_are_not_parsed() -> None:
    config = parse_config(
        "source: {brokers: a, topic: plant.events, kafka: {max.partition.fetch.bytes: 200}}\n"
        "event: {entity: machine, timestamp: ts, features: [load], target: temp}\nalerts: {feedback: {topic: feedback}}"
    )
    large = event(note="x" * 200)
    batches, letters = decode([event(), large, b"not json", None, event()], config)
    assert [list(batch.offsets) for _, batch in batches] == [[100, 104]]
    assert [faults_of(letter)["exception.class.name"] for letter in letters] == [
        "ssm_stream.TooLarge", "ssm_stream.NotJson", "ssm_stream.Tombstone",
    ]  # fmt: skip
    reason = f"{len(large)} bytes, more than 200 (source.kafka: max.partition.fetch.bytes)"
    assert reason in faults_of(letters[0])["exception.message"]
    assert letters[0].value == large
    batches, letters = decode([event(), large], config)  # all plain
    assert [list(batch.offsets) for _, batch in batches] == [[100]]
    ((_, output),) = FeedbackDecoder(config)(chunk([b'{"id": "' + b"x" * 200 + b'"}']))
    assert isinstance(output, OutputBatch)
    assert faults_of(output.records[0])["exception.class.name"] == "ssm_stream.TooLarge"


def test_deep_wide_and_long_messages_are_refused_one_by_one() -> None:
    deep = b'{"machine": "a", "ts": 1, "load": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    wide = event(deep={"speed": 1}, **{f"k{i}": i for i in range(50_000)})
    long = event(machine="x" * (MAX_NAME_LENGTH + 1))
    digits = b'{"machine": "a", "ts": 1, "load": ' + b"9" * 100_000 + b"}"
    batches, letters = decode([deep, wide, long, digits, event()])
    assert sorted(offset for _, batch in batches for offset in batch.offsets) == [101, 104]
    names = [faults_of(letter)["exception.class.name"].removeprefix("ssm_stream.") for letter in letters]
    assert names[:2] == ["NotJson", "NameTooLong"]
    assert len(names) == 3


def test_the_decoder_remembers_so_many_bytes_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_cache, "MAX_BYTES", 5000)
    more = "state: {shards: 4}\nevent: {entity: machine, timestamp: ts, features: [load], target: temp}"
    decoder = Decoder(parse_config("source: {brokers: a, topic: plant.events}\n" + more))
    assert decoder._fast is not None
    for i in range(50):
        values = flood(decoder.config, 10 + i, MAX_NAME_LENGTH)
        batches = decoder.decode(chunk(values))
        assert sum(len(batch.events) for _, batch in batches if isinstance(batch, ShardBatch)) == len(values)
        assert sum(map(len, decoder._shards)) < 5000 + 60 * MAX_NAME_LENGTH


def test_categories_without_end_share_an_input() -> None:
    config = configured("codes")
    n = 3000
    features = np.stack([np.ones(n), np.arange(n) * 7.0 + 2**33], axis=1)
    events = Events(["a"] * n, 1000 * np.arange(n), features, np.ones(n), np.arange(n))
    engine = Engine(config)
    engine.process(events)
    assert engine.params.K <= 40
