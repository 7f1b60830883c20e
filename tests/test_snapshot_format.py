"""Snapshots: what they hold survives, and damaged, foreign or newer bytes are refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from engines import assert_same_bits, config, linear, made, run, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64

from ssm_stream.engine import snapshot_format as snapshots
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import StateError


def test_a_restored_engine_has_the_same_snapshot() -> None:
    state = whole(0)[2]
    assert Engine.restore(config(), state).snapshot() == state


def test_an_empty_engine_has_a_snapshot_too() -> None:
    engine = Engine.restore(config(), Engine(config()).snapshot())
    features, y = linear(50)
    assert_same_bits(run(engine, made(y, features))[0], run(Engine(config()), made(y, features))[0])


@settings(deadline=None)
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


@settings(max_examples=60, deadline=None)
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
