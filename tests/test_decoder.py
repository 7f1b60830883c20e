"""Decoder: every message becomes an event or a dead letter with its reason and position."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from brokers import MockKafka
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.config import Config, parse_config
from ssm_stream.contract.headers import ERROR_HEADER
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.kafka.dead_letters import TRUNCATED_TO, truncate
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import Chunk, OutputBatch, ProducerRecord, ShardBatch, offsets_of, shard_key

CONFIG = parse_config(
    """
source: {brokers: "localhost:9092", topic: plant.events}
event: {entity: machine, timestamp: ts, features: [load, deep.speed], target: temp}
state: {shards: 8}
"""
)
DEAD, PREDICTIONS, ALERTS = CONFIG.sinks.dead_letters, CONFIG.sinks.predictions, CONFIG.sinks.alerts


class FakeMessage:
    """A consumed message as the Kafka client shows it."""

    def __init__(self, offset: int, value: bytes | None, key: bytes | None = None, headers: Any = None) -> None:
        self._offset, self._value, self._key, self._headers = offset, value, key, headers

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> bytes | None:
        return self._key

    def headers(self) -> Any:
        return self._headers

    def partition(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_800_000_000_000 + self._offset

    def error(self) -> None:
        return None


def event(**changed: Any) -> bytes:
    return orjson.dumps({"machine": "press-1", "ts": 1_800_000_000, "load": 1.5, "temp": 20.0, **changed})


def chunk(values: list[bytes | None], first: int = 100, partition: int = 3) -> Chunk:
    messages: list[Any] = [FakeMessage(first + i, value, f"key-{i}".encode()) for i, value in enumerate(values)]
    return Chunk("plant.events", partition, messages)


def decode(
    values: list[bytes | None], config: Config = CONFIG
) -> tuple[list[tuple[str, ShardBatch]], list[ProducerRecord]]:
    """Shard batches, and the dead letters of all outputs."""
    batches, letters = [], []
    for key, item in Decoder(config).decode(chunk(values)):
        if isinstance(item, OutputBatch):
            assert (item.first, item.last) == (offset_in(item.records[0]), offset_in(item.records[-1]))
            letters += item.records
        else:
            batches.append((key, item))
    return batches, letters


def offset_in(letter: ProducerRecord) -> int:
    return int(faults_of(letter)["offset"])


def faults_of(letter: ProducerRecord) -> dict[str, str]:
    """The error headers of a dead letter, by name."""
    out = {}
    for name, value in letter.headers or []:
        if name.startswith(ERROR_HEADER):
            assert isinstance(value, bytes)
            out[name.removeprefix(ERROR_HEADER)] = value.decode()
    return out


# What becomes a dead letter.

DEEP = b'{"machine":"a","ts":1,"load":' + b"[" * 1000 + b"]" * 1000 + b"}"
BAD: dict[str, tuple[bytes | None, str]] = {
    "a tombstone": (None, "Tombstone"),
    "an empty value": (b"", "Empty"),
    "white space": (b" \n", "NotJson"),
    "no JSON": (b"load=1.5", "NotJson"),
    "JSON cut short": (event()[:-3], "NotJson"),
    "two documents": (event() + event(), "NotJson"),
    "NaN, which is no JSON": (event(load=7).replace(b"7", b"NaN"), "NotJson"),
    "Infinity, which is no JSON": (event(load=7).replace(b"7", b"-Infinity"), "NotJson"),
    "a number beyond 64-bit floats": (event(load=7).replace(b"7", b"1e400"), "NotJson"),
    "an integer beyond 64-bit floats": (event(load=7).replace(b"7", b"9" * 400), "NotJson"),
    "a lone surrogate": (event(machine="x").replace(b'"x"', rb'"\ud800"'), "NotJson"),
    "nested beyond the parser": (b"[" * 100_000, "NotJson"),
    "no UTF-8": (event(machine="x").replace(b"x", b"\xff\xfe"), "NotUtf8"),
    "UTF-16": (event().decode().encode("utf-16"), "NotUtf8"),
    "1 MB of no JSON": (b"x" * 1_000_000, "NotJson"),
    "1 MB of no UTF-8": (b"\xc3" * 1_000_000, "NotUtf8"),
    "a JSON list": (b"[1,2]", "NotAnObject"),
    "JSON null": (b"null", "NotAnObject"),
    "JSON text": (b'"press-1"', "NotAnObject"),
    "a number": (b"17", "NotAnObject"),
    "a list nested too deeply to print": (b"[" * 1000 + b"]" * 1000, "NotAnObject"),
    "a feature nested too deeply to print": (DEEP, "WrongType"),
    "no entity": (b'{"ts":1}', "MissingField"),
    "no timestamp": (b'{"machine":"a"}', "MissingField"),
    "a timestamp in the year 30000": (event(ts=884_541_600_000_000_000_000.0), "OutOfRange"),
    "NaN as text": (event(load="NaN"), "WrongType"),
    "a number beyond 32-bit floats": (event(temp=1e39), "OutOfRange"),
    "a 1 MB entity": (event(machine="x" * 1_000_000), "NameTooLong"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_message_that_is_no_event_becomes_a_dead_letter_with_reason_and_position(name: str) -> None:
    """Untouched, beside good neighbours that are not touched either."""
    value, fault = BAD[name]
    batches, letters = decode([event(), value, event()])
    assert [offset for _, batch in batches for offset in batch.offsets] == [100, 102]
    assert len(letters) == 1
    assert letters[0][:3] == (DEAD, b"key-1", value)
    faults = faults_of(letters[0])
    assert faults.pop("exception.message")
    assert faults == {
        "topic": "plant.events", "partition": "3", "offset": "101", "stage": "decode",
        "exception.class.name": f"ssm_stream.{fault}",
    }  # fmt: skip
    assert sum(len(name) + len(text or b"") for name, text in letters[0].headers or []) < 1000


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "nan", "-inf"])
@pytest.mark.parametrize("before", ["", "製品"])
def test_what_is_no_number_of_json_is_named(before: str, text: str) -> None:
    """Python writes such text, and a place in the line alone would not show what to change in the producer."""
    value = event(machine=f"m{before}", load=77).replace(b"77", text.encode())
    _, (letter,) = decode([value])
    reason = str(faults_of(letter)["exception.message"])
    assert reason == (
        f"not JSON: {text} is no number of JSON, where no value is null: char {value.decode().index(text)}"
    )
    _, (letter,) = decode([event(load=77).replace(b"77", b"x" + text.encode())])
    assert "number of JSON" not in str(faults_of(letter)["exception.message"])


@pytest.mark.parametrize("given_", [None, [], [("trace", b"1"), ("trace", b"2"), ("none", None)]])
def test_headers_of_the_source_come_first_and_stay_as_they_were(given_: Any) -> None:
    message: Any = FakeMessage(7, b"?", None, given_)
    ((_, output),) = Decoder(CONFIG).decode(Chunk("plant.events", 0, [message]))
    assert isinstance(output, OutputBatch)
    (letter,) = output.records
    assert letter.key is None
    headers = list(letter.headers or [])
    assert headers[: len(given_ or [])] == (given_ or [])
    assert [name for name, _ in headers[len(given_ or []) :]] == [
        f"__connect.errors.{name}"
        for name in ("topic", "partition", "offset", "stage", "exception.class.name", "exception.message")
    ]


def test_dead_letters_go_out_in_offset_order_whatever_their_fault() -> None:
    values = [b"{}", b"?", event(load="x"), None, event(), b"[]", b"\xff", b"", event(machine="")]
    _, letters = decode(values)
    assert [offset_in(letter) for letter in letters] == [100, 101, 102, 103, 105, 106, 107, 108]


def test_a_dead_letter_too_large_for_its_topic_keeps_its_head_and_says_so() -> None:
    _, (letter,) = decode([b"x" * 1_000_000])
    short = truncate(letter)
    assert short.value == b"x" * TRUNCATED_TO
    assert list(short.headers or [])[-1] == ("ssm-stream.truncated.from.bytes", b"1000000")
    assert list(short.headers or [])[:-1] == letter.headers
    # A topic may want it shorter still; the header keeps the first length.
    assert len(truncate(short).value or b"") == TRUNCATED_TO // 4
    assert truncate(short).headers == short.headers


# What becomes an event.


@pytest.mark.parametrize(
    "value",
    [
        event(),
        event(padding="x" * 1_000_000),
        event(**{f"key-{i}": i for i in range(10_000)}),
        event(other=7).replace(b"7", b"[" * 1000 + b"]" * 1000),
        b'{"load": 9, ' + event()[1:],
        b"\n " + event() + b" \n",
    ],
    ids=["plain", "1 MB", "10,000 unknown keys", "deep nesting elsewhere", "a key twice: the last", "white space"],
)
def test_a_message_that_is_an_event_is_read(value: bytes) -> None:
    ((key, batch),), letters = decode([value])
    assert letters == []
    assert key == shard_key(shard_of("press-1", 8))
    assert (batch.partition, batch.offsets, batch.events.entity) == (3, [100], ["press-1"])
    assert batch.events.features[0, 0] == 1.5
    assert batch.events.target.tolist() == [20.0]


def test_duplicate_and_late_timestamps_are_events_in_the_order_of_their_offsets() -> None:
    times = [50, 10, 10, 10, 70, 20]
    ((_, batch),), letters = decode([event(ts=t, temp=float(i)) for i, t in enumerate(times)])
    assert letters == []
    assert batch.events.ts.tolist() == [1000 * t for t in times]
    assert batch.events.target.tolist() == [0, 1, 2, 3, 4, 5]
    assert list(batch.offsets) == list(range(100, 106))


def test_a_chunk_is_split_by_shard_with_every_events_own_offset_and_values() -> None:
    names = [f"m{i % 11}" for i in range(60)]
    values: list[bytes | None] = [event(machine=name, temp=float(i)) for i, name in enumerate(names)]
    values[7] = b"?"
    batches, letters = decode(values)
    assert len(letters) == 1
    assert len(batches) == len({key for key, _ in batches}) > 1
    seen = []
    for key, batch in batches:
        assert list(batch.offsets) == sorted(batch.offsets)
        for name, target, offset in zip(batch.events.entity, batch.events.target, batch.offsets, strict=True):
            assert (name, target) == (names[offset - 100], offset - 100)
            assert key == shard_key(shard_of(name, 8))
            seen.append(offset)
    assert sorted(seen) == [100 + i for i in range(60) if i != 7]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=20))
def test_offsets_are_the_messages_own_whether_any_are_left_out_between(steps: list[int]) -> None:
    """As where a topic is compacted, or has notes of transactions."""
    offsets = np.cumsum([7, *steps]).tolist()
    messages: list[Any] = [FakeMessage(offset, b"") for offset in offsets]
    assert list(offsets_of(messages)) == offsets


def test_shards_of_names_never_change() -> None:
    """State lies by shard: another routing would lose it at the next start."""
    names = ["press-1", "press-2", "gt-1", "Öfen/4", "機械", ""]
    assert [shard_of(name, 16) for name in names] == [12, 6, 15, 8, 12, 0]
    assert [shard_of(name, 1000) for name in names] == [724, 102, 383, 376, 996, 0]
    assert [shard_key(n) for n in (0, 7, 15, 4095)] == ["0000", "0007", "0015", "4095"]


def test_shards_share_the_entities_about_evenly() -> None:
    counts = np.bincount([shard_of(f"machine-{i}", 16) for i in range(16_000)], minlength=16)
    assert counts.min() > 800
    assert counts.max() < 1200


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.none(),
            st.binary(max_size=40),
            st.text(max_size=20).map(str.encode),
            st.builds(lambda m, t: event(machine=m, temp=t), st.sampled_from(["a", "b", ""]), st.floats(-9, 9)),
            st.tuples(st.integers(0, 80), st.binary(max_size=3)).map(
                lambda cut: event()[: cut[0]] + cut[1] + event()[cut[0] :]
            ),
        ),
        max_size=12,
    )
)
def test_whatever_the_bytes_predicted_and_dead_lettered_make_up_what_was_read(values: list[bytes | None]) -> None:
    batches, letters = decode(values)
    offsets = [offset_in(letter) for letter in letters]
    for letter, offset in zip(letters, offsets, strict=True):
        assert (letter.key, letter.value) == (f"key-{offset - 100}".encode(), values[offset - 100])
    encoder = Encoder(CONFIG)
    for _, batch in batches:
        output = encoder.encode(batch, *Engine(CONFIG).process(batch.events, batch.partition, encoder.event_ids(batch)))
        predicted = [r for r in output.records if r.topic == PREDICTIONS]
        offsets += [int(orjson.loads(r.value or b"")["id"].rsplit("-", 1)[1]) for r in predicted]
        assert (output.first, output.last) == (batch.offsets[0], batch.offsets[-1])
    assert sorted(offsets) == list(range(100, 100 + len(values)))


def test_messages_of_a_broker_are_decoded_and_kept_as_those_of_the_tests(mock_kafka: MockKafka) -> None:
    topic = mock_kafka.topic()
    values = [event(), b"\xff", b"", None, event(temp=None)]
    mock_kafka.produce(topic, [(f"key-{i}", value) for i, value in enumerate(values)], partition=0)
    got = Decoder(CONFIG).decode(Chunk(topic, 0, mock_kafka.read(topic, len(values))))
    letters = [record for _, item in got if isinstance(item, OutputBatch) for record in item.records]
    assert [(r.key, r.value) for r in letters] == [(b"key-1", b"\xff"), (b"key-2", b""), (b"key-3", None)]
    assert [faults_of(r)["topic"] for r in letters] == [topic] * 3
    assert [batch.offsets for _, batch in got if isinstance(batch, ShardBatch)] == [[0, 4]]


def test_readings_that_are_refused_are_the_same_by_the_native_reader_and_by_the_general_one() -> None:
    config = parse_config(
        "source: {brokers: 'h:1', topic: plant.events}\n"
        "event: {layout: readings, tag: '{entity}.{signal}', timestamp: ts, target: y, features: [a]}\n"
    )
    tags = ["m.y", "m.a", "no tag", "k.y", "m.other", "k.a", "", "m.y"]
    values = [orjson.dumps({"tag": tag, "ts": 1_800_000_000 + i, "value": i}) for i, tag in enumerate(tags)]
    found = []
    for native in (True, False):
        decoder = Decoder(config)
        assert decoder._fast is not None
        decoder._fast = decoder._fast if native else None
        items = decoder.decode(chunk(list(values)))
        (refused,) = [item for _, item in items if isinstance(item, OutputBatch)]
        (events,) = [item for _, item in items if isinstance(item, ShardBatch)]
        columns = (events.events.entity, events.events.features.tolist(), events.events.ts.tolist(), events.offsets)
        found.append((columns, refused))
    assert found[0] == found[1]
    assert len(found[0][1].records) == 2
