"""Snapshots: what they hold survives, and damaged, foreign or newer bytes are refused."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from engines import assert_same_bits, config, linear, made, run, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64

from ssm_stream.core import native
from ssm_stream.engine import snapshot_format as snapshots
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, StateError


def test_a_restored_engine_has_the_same_snapshot() -> None:
    state = whole(0)[2]
    assert Engine.restore(config(), state).snapshot() == state


def test_an_empty_engine_has_a_snapshot_too() -> None:
    engine = Engine.restore(config(), Engine(config()).snapshot())
    features, y = linear(50)
    assert_same_bits(run(engine, made(y, features))[0], run(Engine(config()), made(y, features))[0])


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True))
def test_every_name_that_is_text_survives_a_snapshot(names: list[str]) -> None:
    engine = Engine(config())
    run(engine, made(np.arange(float(len(names))), entity=names))
    restored = Engine.restore(config(), engine.snapshot())
    assert restored.names == names
    assert [restored.state_hash(name) for name in names] == [engine.state_hash(name) for name in names]


def test_a_snapshot_of_another_configuration_is_refused() -> None:
    state = whole(0)[2]
    with pytest.raises(StateError, match=r"(?s)model\.interval: .*refused.*put back .*recovery.directory"):
        Engine.restore(config(sections="model: {interval: 0.8}"), state)
    moved = "sinks: {predictions: elsewhere}"
    assert Engine.restore(config(sections=moved), state).snapshot() == state


def test_a_snapshot_of_a_newer_format_is_refused_with_the_cure() -> None:
    state = bytearray(whole(0)[2])
    struct.pack_into("<H", state, 4, snapshots.VERSION + 1)
    with pytest.raises(StateError, match="use the release that wrote it"):
        Engine.restore(config(), bytes(state))


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_snapshot_is_refused_wherever_the_damage_is(data: st.DataObject) -> None:
    state = bytearray(whole(0)[2])
    place = data.draw(st.integers(0, len(state) - 1) | st.integers(0, 300))
    state[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateError, match=r"damaged|not an ssm-stream snapshot|use the release"):
        Engine.restore(config(), bytes(state))


@pytest.mark.parametrize("kept", [0, 3, 9, 10, 500, -1])
def test_a_truncated_snapshot_is_refused(kept: int) -> None:
    with pytest.raises(StateError, match=r"damaged|not an ssm-stream snapshot"):
        Engine.restore(config(), whole(0)[2][:kept])


@pytest.mark.parametrize("head", [b"", b"garbage", bytes(100), b"{}", b"[]"])
def test_foreign_bytes_with_a_right_checksum_are_refused(head: bytes) -> None:
    sums = (len(head), xxh3_64(head).intdigest(), 0, xxh3_64(b"").intdigest())
    state = snapshots.PREFIX.pack(snapshots.MAGIC, snapshots.VERSION, 0, *sums) + head
    with pytest.raises(StateError, match="damaged"):
        Engine.restore(config(), state)


@given(
    st.sampled_from(["u1", "f4", "i8", "?"]), st.lists(st.integers(0, 4), max_size=3), st.integers(1, 40),
    st.lists(st.integers(0, 39), max_size=60), st.booleans(), st.integers(0, 1 << 30),
)  # fmt: skip
def test_rows_are_gathered_and_scattered_as_numpy_does(
    kind: str, shape: list[int], count: int, chosen: list[int], padded: bool, seed: int
) -> None:
    """Whatever lies between the rows, and between the numbers of a row."""
    wide = tuple(size + padded for size in shape)
    block = np.random.default_rng(seed).integers(0, 2, (count, 3, *wide)).astype(kind)
    array = block[(slice(None), 1, *map(slice, shape))]
    rows = np.array([each % count for each in chosen], np.int64)
    size = array.itemsize * int(np.prod(shape, dtype=int))
    first, some = len(rows) // 3, len(rows) - len(rows) // 3
    buffer = np.zeros(some * size + 5, np.uint8)
    native.gather_rows(array, rows, first, some, buffer)
    assert buffer[: some * size].tobytes() == array[rows[first:]].tobytes()
    target, expected = np.zeros_like(block), np.zeros_like(block)
    view = target[(slice(None), 1, *map(slice, shape))]
    native.scatter_rows(view, rows, first, some, buffer)
    expected[(slice(None), 1, *map(slice, shape))][rows[first:]] = array[rows[first:]]
    assert np.array_equal(target, expected), "and nothing else is written"
    whole = np.zeros(count * size, np.uint8)
    native.gather_rows(array, None, 0, count, whole)
    assert whole.tobytes() == array.tobytes()


def test_rows_that_are_not_there_are_refused() -> None:
    array, buffer = np.zeros((4, 2)), np.zeros(64, np.uint8)
    for rows, first, count in ((None, 1, 4), (np.array([0, 4]), 0, 2), (np.array([-1]), 0, 1), (np.array([1]), 0, 2)):
        with pytest.raises(IndexError):
            native.gather_rows(array, rows, first, count, buffer)
    for first, count in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="fewer bytes"):
            native.gather_rows(array, None, first, count, buffer)
    with pytest.raises(ValueError, match="fewer bytes"):
        native.scatter_rows(array, None, 0, 4, buffer[:63])
    frozen = np.zeros((4, 2))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        native.scatter_rows(frozen, None, 0, 4, buffer)


def test_damage_is_found_while_a_snapshot_is_read() -> None:
    """The checksum comes last; an error of what is read before is that of the checksum."""
    file = BytesIO()
    snapshots.write(file, {}, [ArrayPart("a", np.arange(400_000)), ArrayPart("b", np.arange(7))])
    content = bytearray(file.getvalue())

    def read(reader: SnapshotReader) -> None:
        with reader.checking():
            reader.read("a")
            reader.skip()
            reader.finish()

    for at in (len(content) - 3, len(content) - 2_000_000):
        damaged = bytearray(content)
        damaged[at] ^= 1
        with pytest.raises(StateError, match="checksum of its body"):
            read(SnapshotReader(BytesIO(bytes(damaged))))
        reader = SnapshotReader(BytesIO(bytes(damaged)))
        with pytest.raises(StateError, match="checksum of its body"), reader.checking():
            raise StateError("something else")
    reader = SnapshotReader(BytesIO(bytes(content)))
    with reader.checking():
        reader.skip()
        assert reader.read("b").tolist() == list(range(7))
        reader.finish()
