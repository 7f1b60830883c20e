"""Snapshots that are cut, bent, spliced or made up: refused in words, whatever the bytes, and without much memory.

`FUZZ_EXAMPLES=100000 pytest tests/test_fuzz_state.py` tries more of each.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import resource
import struct
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64

from ssm_stream.config import parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import MAGIC, PREFIX, VERSION, SnapshotReader, StateError
from ssm_stream.recovery.comparison import hash_file

GOLDEN = Path(__file__).parent / "golden" / f"format-{VERSION}"
KINDS = ("codes", "two", "labels")
MEMORY = 1 << 29
"""Bytes that a refusal may take beyond what the process has already."""
many = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "150")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
kinds = st.sampled_from(KINDS)


@cache
def golden(kind: str) -> bytes:
    return gzip.decompress((GOLDEN / f"{kind}.state.gz").read_bytes())


@cache
def config_of(kind: str) -> Any:
    text = orjson.loads((GOLDEN / "expected.json").read_bytes())[kind]["config"]
    return parse_config(f"source: {{brokers: a, topic: t}}\nrecovery: {{directory: null}}\n{text}\n")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Whatever a header promises: room for it is an error here, and not one that a refusal may be."""
    for kind in KINDS:
        Engine.restore(config_of(kind), golden(kind))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def refused(kind: str, data: bytes) -> None:
    with pytest.raises(StateError) as error:
        Engine.restore(config_of(kind), data)
    assert len(str(error.value)) > 20, "it says why"


def sealed(header: bytes, body: bytes) -> bytes:
    """A snapshot whose checksums are right, whatever is in it."""
    head, tail = xxh3_64(header).intdigest(), xxh3_64(body).intdigest()
    return PREFIX.pack(MAGIC, VERSION, 0, len(header), head, len(body), tail) + header + body


def opened(data: bytes) -> tuple[Any, bytes]:
    """Header and body of a snapshot."""
    size = PREFIX.unpack(data[: PREFIX.size])[3]
    return orjson.loads(data[PREFIX.size : PREFIX.size + size]), data[PREFIX.size + size :]


@many
@given(kind=kinds, at=st.floats(0, 1, exclude_max=True))
def test_cut(kind: str, at: float) -> None:
    data = golden(kind)
    refused(kind, data[: int(at * len(data))])


@many
@given(kind=kinds, more=st.binary(min_size=1, max_size=100))
def test_longer_than_it_was(kind: str, more: bytes) -> None:
    refused(kind, golden(kind) + more)


@many
@given(kind=kinds, flips=st.sets(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1))
def test_bits_flipped_anywhere(kind: str, flips: set[tuple[float, int]]) -> None:
    data = bytearray(golden(kind))
    for at, bit in flips:
        data[int(at * len(data))] ^= 1 << bit
    if data != golden(kind):
        refused(kind, bytes(data))


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_of_the_beginning_counts(kind: str) -> None:
    for at in range(PREFIX.size + 40):
        for bit in range(8):
            data = bytearray(golden(kind))
            data[at] ^= 1 << bit
            refused(kind, bytes(data))


@many
@given(first=kinds, second=kinds, at=st.floats(0, 1), to=st.floats(0, 1), size=st.integers(1, 50_000))
def test_spliced(first: str, second: str, at: float, to: float, size: int) -> None:
    """A part of one over a part of another; halves of two; a part moved within one."""
    a, b = golden(first), golden(second)
    start, into = int(at * len(b)), int(to * len(a))
    piece = b[start : start + size]
    for data in (a[:into] + piece + a[into + len(piece) :], a[:into] + b[start:], a[:into] + piece + a[into:]):
        if data != a:
            refused(first, data)


@many
@given(
    kind=kinds, data=st.binary(max_size=4_000), begins=st.sampled_from([b"", MAGIC, MAGIC + struct.pack("<HH", 3, 0)])
)
def test_anything(kind: str, data: bytes, begins: bytes) -> None:
    refused(kind, begins + data)


@many
@given(kind=kinds, head=st.integers(0, 2**64 - 1), body=st.integers(0, 2**64 - 1), rest=st.binary(max_size=100))
def test_lengths_that_are_not_there(little_memory: None, kind: str, head: int, body: int, rest: bytes) -> None:
    refused(kind, PREFIX.pack(MAGIC, VERSION, 0, head, xxh3_64(rest).intdigest(), body, 0) + rest)


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=8)
    | st.just("clock.number"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=6,
)


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all that is in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(place for key, inner in items for place in places(inner, (*above, key)))]


@many
@given(kind=kinds, data=st.data())
def test_a_header_with_other_content(little_memory: None, kind: str, data: st.DataObject) -> None:
    """Its checksum is right: somebody meant it. It is refused, or makes an engine that can be told of again."""
    header, body = opened(golden(kind))
    for _ in range(data.draw(st.integers(1, 3))):
        there = [place for place in places(header) if place]
        if not there:
            break
        *above, last = there[data.draw(st.integers(0, 1 << 30)) % len(there)]
        inside = header
        for key in above:
            inside = inside[key]
        what = data.draw(st.sampled_from(["drop", "double", "replace"]))
        if what == "drop":
            del inside[last]
        elif what == "double" and isinstance(inside, list):
            inside.insert(last, inside[last])
        else:
            inside[last] = data.draw(json)
    with contextlib.suppress(TypeError):  # orjson writes no integers beyond 64 bits
        bent = sealed(orjson.dumps(header), body)
        with contextlib.suppress(StateError):
            Engine.restore(config_of(kind), bent)


@many
@given(kind=kinds, data=st.data())
def test_arrays_of_other_shapes(little_memory: None, kind: str, data: st.DataObject) -> None:
    """Rows, names and bodies that do not belong together, all of it sealed again."""
    header, body = opened(golden(kind))
    arrays = header["arrays"]
    i = data.draw(st.integers(0, len(arrays) - 1))
    size = st.sampled_from([0, 1, 2, 3, 1 << 20, 1 << 40, 1 << 62])
    arrays[i][2] = data.draw(st.lists(size, max_size=3))
    arrays[i][1] = data.draw(
        st.sampled_from([arrays[i][1], "<f4", "<i8", "|u1", "|O", "<U4", ">f8", "|V8", "<c16", "?"])
    )
    if data.draw(st.booleans()):
        body = data.draw(st.binary(max_size=200))
    if arrays != opened(golden(kind))[0]["arrays"]:
        refused(kind, sealed(orjson.dumps(header), body))


@many
@given(data=st.data())
def test_names_that_promise_more_than_there_is(little_memory: None, data: st.DataObject) -> None:
    """A list of names costs a few bytes each, an entity thousands."""
    header, body = opened(golden("codes"))
    old = header["arrays"][0][2][0]
    names = orjson.dumps([f"x{i}" for i in range(data.draw(st.sampled_from([0, 1, 100, 100_000])))])
    header["arrays"][0][2] = [len(names)]
    refused("codes", sealed(orjson.dumps(header), names + body[old:]))


@many
@given(kind=kinds, at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_files_for_diff(tmp_path_factory: pytest.TempPathFactory, kind: str, at: float, bit: int) -> None:
    file = tmp_path_factory.getbasetemp() / "bent.state"
    data = bytearray(golden(kind))
    data[int(at * len(data))] ^= 1 << bit
    file.write_bytes(data)
    with pytest.raises(StateError):
        hash_file(file)


@pytest.mark.parametrize("kind", KINDS)
def test_as_they_were_written(kind: str) -> None:
    """The tests above refuse what is bent, not everything."""
    header, body = opened(golden(kind))
    assert sealed(orjson.dumps(header, option=orjson.OPT_SORT_KEYS), body) == golden(kind)
    assert Engine.restore(config_of(kind), golden(kind)).snapshot() == golden(kind)
    assert SnapshotReader(BytesIO(golden(kind))).metadata["config"] == config_of(kind).hash
