"""The kernels of the wire: what they read and write is what the general reader and a JSON library would."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.config import MAX_NAME_LENGTH, Config, parse_config
from ssm_stream.core import native
from ssm_stream.ingest.events import MAX_NUMBER, EventReader
from ssm_stream.kafka.fast_json import FastReader


def configured(event: str = "") -> Config:
    return parse_config(
        "source: {brokers: 'localhost:9092', topic: t}\n"
        f"event: {{entity: e, timestamp: t, features: [a, b], target: y{event}}}\n"
    )


PLAIN = FastReader(configured().event)
GENERAL = EventReader(configured().event)


def agree(values: list[bytes], plain: FastReader = PLAIN, general: EventReader = GENERAL) -> bool:
    """Whether the kernel read them; then they are what the general reader reads, to the last bit."""
    got = plain.read(list(values))
    if got is None:
        return False
    want, refused = general.read(list(map(orjson.loads, values)))
    assert refused == []
    assert (got.entity, got.category_texts) == (want.entity, want.category_texts)
    for name in ("ts", "features", "target", "position"):
        ours, theirs = getattr(got, name), getattr(want, name)
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes()), name
    return True


def row(number: str, name: str = "m") -> bytes:
    return f'{{"e":"{name}","t":1700000000000,"a":{number},"b":null,"y":2}}'.encode()


@settings(max_examples=300)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=20))
def test_every_float_is_read_to_the_last_bit(numbers: list[float]) -> None:
    usable = [x for x in numbers if abs(x) <= 3.4e38]
    read = [agree([row(repr(x))]) for x in usable]
    assert all(found for found, x in zip(read, usable, strict=True) if x == 0 or abs(x) > 1e-250)


@settings(max_examples=300)
@given(st.integers(0, 10**19), st.integers(-400, 400), st.sampled_from(["", "-"]), st.integers(0, 19))
def test_digits_and_exponents_as_they_come(digits: int, power: int, sign: str, point: int) -> None:
    text = str(digits)
    if 0 < point < len(text):
        text = f"{text[:point]}.{text[point:]}"
    for number in (f"{sign}{text}", f"{sign}{text}e{power}", f"{sign}{text}E+{abs(power)}"):
        agree([row(number)])


@pytest.mark.parametrize("seed", range(3))
def test_numbers_half_way_between_two_floats_are_rounded_to_even(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for bits in rng.integers(0, 2**52, 300).tolist():
        exponent = int(rng.integers(1023, 1080))
        (x,) = struct.unpack("<d", struct.pack("<Q", exponent << 52 | bits))
        middle = (int(x) * 2 + int(math.nextafter(x, math.inf)) * 2) // 4
        assert agree([row(f"{middle}.0"), row(f"{middle}"), row(f"{middle}e0")]) or len(str(middle)) > 18


@pytest.mark.parametrize(
    "value",
    [
        b'{"y":1,"b":2,"a":3,"t":4,"e":"x"}',
        b' \n{ "e" : "x" , "t" : 4 , "a" : true , "b" : false , "y" : null } \t',
        b'{"e":"x","t":4}',
        b'{"e":"x","t":4,"other":"text","more":null,"flag":true,"n":-1.5e3,"y":0}',
        b'{"e":"x","t":4,"a":1,"a":2}',
        '{"e":"Öfen/4 機械","t":4,"ö":"ü"}'.encode(),
        b'{"e":"x","t":1.5e9,"a":-0.0}',
    ],
)
def test_what_is_plain(value: bytes) -> None:
    assert agree([value, row("1"), value])


NOT_PLAIN = [
    b"", b" ", b"{}", b"[]", b"null", b'{"e":"x","t":4', b'{"e":"x","t":4}}', b'{"e":"x","t":4}{"e":"x","t":4}',
    b'{"e":"x","t":4,}', b'{"e":"x" "t":4}', b'{"e":"x","t":4,"a":01}', b'{"e":"x","t":4,"a":1.}',
    b'{"e":"x","t":4,"a":.5}', b'{"e":"x","t":4,"a":+1}', b'{"e":"x","t":4,"a":1e}', b'{"e":"x","t":4,"a":NaN}',
    b'{"e":"x","t":4,"a":"1"}', b'{"e":"x","t":4,"a":[1]}', b'{"e":"x","t":4,"z":{]}', b'{"e":"x","t":4,"a":1e39}',
    b'{"e":"x","t":4,"y":true}', b'{"e":7,"t":4}', b'{"e":"","t":4}', b'{"t":4}', b'{"e":"x"}', b'{"e":"x","t":null}',
    b'{"e":"x","t":"2026-01-31"}', b'{"e":"x","t":1e30}', b'{"e":"a\\u0062","t":4}', b'{"e":"a\tb","t":4}',
    b'{"e":"\xff","t":4}', b'{"e":"' + b"x" * 513 + b'","t":4}', b'{"e":"x","t":4,"a":tru}', b'{"e":"x","t":4,"a":nul',
    b'{"e":"x","t":4,"a":-}', b'{"e":"x","t":4,"a":-', b'{"e', b'{"e":', b'{"e":"x', b"{",
]  # fmt: skip


@pytest.mark.parametrize("value", NOT_PLAIN)
def test_what_must_be_looked_at_is_left_to_the_general_reader(value: bytes) -> None:
    for values in ([value], [row("1"), value], [value, row("1")]):
        assert PLAIN.read(list(values)) is None


def test_a_tombstone_is_left_to_the_general_reader() -> None:
    assert PLAIN.read([row("1"), None]) is None


@settings(max_examples=300)
@given(st.integers(0, 60), st.binary(max_size=3), st.integers(0, 4))
def test_bytes_that_are_cut_or_put_in_are_read_alike_or_not_at_all(at: int, more: bytes, less: int) -> None:
    value = row("1.25e2")
    try:
        agree([value, value[:at] + more + value[at + less :]])
    except orjson.JSONDecodeError:
        pytest.fail("the kernel took what is no JSON")


@pytest.mark.parametrize(
    "features", ["[a, a.b]", "[a.b.c, a.b]", "[t.x]", f"[{', '.join(f'f{i}.x' for i in range(40))}]"]
)
def test_configurations_that_have_no_plain_events(features: str) -> None:
    text = "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t, target: y, features: "
    assert not FastReader(parse_config(f"{text}{features}}}\n").event).supported
    iso = parse_config(f"{text}[a], timestamp_format: iso}}\n")
    assert not FastReader(iso.event).supported


NESTED = parse_config(
    "source: {brokers: a, topic: t}\n"
    "event: {entity: meta.name, timestamp: t, target: out.y, features: [in.a, in.deep.b, c], categories: [meta.kind]}\n"
)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (b'{"meta":{"name":"x","kind":"k"},"t":4,"in":{"a":1,"deep":{"b":2}},"c":3,"out":{"y":5}}', True),
        (
            b' { "out" : { } , "t":4 , "in" : { "deep" : { "b" : 2 , "z" : [1 , { } ] } } , "meta":{"name" : "x" }}\t',
            True,
        ),
        (b'{"meta":{"name":"x","kind":7},"t":4,"in":null,"out":[1,{"y":2}],"z":{"in":{"a":9}}}', True),
        (b'{"meta.name":"x","meta.kind":"","t":4,"in.a":1,"in.deep.b":2,"a":8,"deep":{"b":9},"out":3}', True),
        (b'{"meta":{"name":"x"},"t":4,"in":{"a":1,"deep.b":2},"in.deep":{"b":3}}', True),
        (b'{"meta":{"name":"x"},"t":4,"in":{"deep.b":2,"a":1},"c":3}', True),
        (b'{"meta":{"name":"x"},"t":4,"in":{"deep.b":2,"deep":7}}', True),
        (b'{"meta":{"name":"x"},"t":4,"in":{"deep.b":2,"deep":{}}}', False),
        (b'{"meta":{"name":"x"},"t":4,"in":{"deep":{"b":1},"deep.b":2}}', False),
        (b'{"meta":{"name":"x"},"t":4,"in":{"deep.b":2},"in.deep.b":3}', False),
        (b'{"meta":{"name":"x"},"t":4,"in":{"a":1},"in":{}}', False),
        (b'{"meta":{"name":"x"},"t":4,"in":{"a":1},"in.a":2}', False),
        (b'{"meta":{"name":"x"},"t":4,"in.a":2,"in":{"a":1}}', False),
        (b'{"meta":{"name":"x"},"t":4,"in":1,"in":{"a":1}}', True),
        (b'{"meta":{"name":"x"},"t":4,"in":{"a":1},"in":1}', False),
        (b'{"meta":{"name":"x"},"t":4,"in.a":1,"in":1}', True),
        (b'{"meta":{"name":"x"},"t":4,"c":{"d":1}}', False),
        (b'{"meta":{"name":"x"},"t":4,"in":{"a":1}', False),
        (b'{"meta":{"name":"x"},"t":4,"in":{"a":1,}}', False),
        (b'{"meta":{"name":"x"},"t":4,"in":{,"a":1}}', False),
        (b'{"meta":{"name":"x"},"t":4,"z":' + b"[" * 40 + b"]" * 40 + b"}", False),
        (b'{"meta":{"name":"x","kind":"' + b"k" * 513 + b'"},"t":4}', False),
    ],
)
def test_paths_through_objects(value: bytes, plain: bool) -> None:
    usual = b'{"meta":{"name":"m","kind":"k"},"t":4,"in":{"a":1,"deep":{"b":2}},"c":3,"out":{"y":5}}'
    fast, general = FastReader(NESTED.event), EventReader(NESTED.event)
    for values in ([value], [usual, value, usual, value, value, usual]):
        assert (fast.read(list(values)) is not None) is plain
        if plain:
            assert agree(values, fast, general)


def test_the_name_of_events_without_one() -> None:
    made = configured(", entity_default: press")
    fast, general = FastReader(made.event), EventReader(made.event)
    values = [b'{"t":4,"a":1}', b'{"e":null,"t":4}', b'{"e":"x","t":4}', b'{"e":"x","t":4,"e":null}']
    assert agree(values, fast, general)
    assert fast.read([b'{"e":"","t":4}']) is None


KEYS = st.sampled_from(["a", "b", "c", "d"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(-1e9, 1e9),
    st.sampled_from(["", "k", "熱", "x y"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)


class Members(list[tuple[str, Any]]):
    """Members of an object in their order; a key may come twice."""

    def text(self, space: str) -> str:
        each = (f"{json.dumps(key)}:{space}{_text(value, space)}" for key, value in self)
        return "{" + space + f"{space},{space}".join(each) + space + "}"


def _text(value: Any, space: str) -> str:
    return value.text(space) if isinstance(value, Members) else json.dumps(value, ensure_ascii=False)


@st.composite
def configurations_and_messages(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """Return the lines of an event section and messages, most of which have its fields somewhere."""
    path = st.lists(KEYS, min_size=1, max_size=3).map(".".join)
    paths = draw(st.lists(path, min_size=3, max_size=7, unique=True))
    target, first, *others = paths
    cut = draw(st.integers(0, len(others)))
    section = (
        f"target: {target}, features: [{', '.join([first, *others[:cut]])}], categories: [{', '.join(others[cut:])}]"
    )

    def nested(path: str, value: Any) -> tuple[str, Any]:
        keys = path.split(".")
        if draw(st.integers(0, 5)) == 0:
            return path, value
        if len(keys) > 2 and draw(st.booleans()):
            keys[1:] = [".".join(keys[1:])]
        for key in reversed(keys[1:]):
            value = Members([(key, value)])
        return keys[0], value

    kinds = []
    for _ in range(draw(st.integers(1, 3))):
        members: dict[str, Any] = {}
        for each in draw(st.permutations(paths)):
            if draw(st.integers(0, 3)):
                key, value = nested(each, ...)
                if isinstance(members.get(key), Members) and isinstance(value, Members):
                    members[key] += value
                else:
                    members[key] = value
        kinds.append((list(members.items()), draw(st.sampled_from(["", " "]))))

    def filled(value: Any) -> Any:
        if isinstance(value, Members):
            if draw(st.integers(0, 7)) == 0:
                return draw(SCALARS)
            return Members((key, filled(each)) for key, each in value)
        return draw(st.floats(-1e6, 1e6) | SCALARS) if value is ... else value

    def filled_all(members: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return [(key, filled(value)) for key, value in members]

    messages = []
    for _ in range(draw(st.integers(1, 6))):
        members, space = draw(st.sampled_from(kinds))
        more = draw(st.lists(st.tuples(st.sampled_from(["a", "b", "a.b", "x"]), VALUES), max_size=2))
        where = draw(st.integers(0, len(members)))
        whole = [("e", "m"), ("t", 1_700_000_000_000), *filled_all(members[:where]), *more]
        messages.append(Members([*whole, *filled_all(members[where:])]).text(space).encode())
    return section, messages


@settings(max_examples=60)
@given(configurations_and_messages())
def test_any_configuration_and_messages_are_read_as_by_the_general_reader(given: tuple[str, list[bytes]]) -> None:
    section, messages = given
    made = parse_config(f"source: {{brokers: a, topic: t}}\nevent: {{entity: e, timestamp: t, {section}}}\n")
    fast, general = FastReader(made.event), EventReader(made.event)
    if fast.supported:
        agree(messages, fast, general)
        for message in messages:  # some of them may be plain by themselves
            agree([message, message], fast, general)


def test_several_targets() -> None:
    made = parse_config(
        "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t, features: [a], target: [y, z]}\n"
    )
    values = [orjson.dumps({"e": "m", "t": i, "a": 1.5, "y": i, "z": None if i % 2 else -i}) for i in range(5)]
    assert agree(values, FastReader(made.event), EventReader(made.event))


numbers = st.one_of(st.floats(width=64), st.floats(-1e3, 1e3))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.text(max_size=9), numbers, st.integers(-(2**63), 2**63 - 1), st.booleans()), min_size=1))
def test_rows_are_what_a_json_library_writes(rows: list[tuple[Any, ...]]) -> None:
    names, floats, whole, flags = zip(*rows, strict=True)
    columns = [np.array(floats), np.array(whole, np.int64), np.array(flags)]
    templates = [[b'{"k":', b',"x":', b',"i":', b',"f":', b"}"], [b'{"q":', b',"x":', b',"i":', b',"f":', b',"z":1}']]
    for i, value in enumerate(native.write_rows(templates, list(names), columns)):
        finite = floats[i] if math.isfinite(floats[i]) else None
        want = {"q" if i % 2 else "k": names[i], "x": finite, "i": whole[i], "f": flags[i]} | (
            {"z": 1} if i % 2 else {}
        )
        assert value == orjson.dumps(want)


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(["a", "b", "aa", "ab", "Ω", "温度", "a" * 40, *(f"m{i}" for i in range(9))]), max_size=60)
)
def test_names_are_those_of_the_messages_however_often_each_comes(names: list[str]) -> None:
    assert agree([row("1.5", name) for name in names]) or not names


def test_many_names_in_a_chunk_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    names = [f"line-{i}/press-{j}" for i, j in rng.integers(0, 400, (20_000, 2)).tolist()]
    assert agree([row("1.5", name) for name in names])


def test_limits_are_those_of_the_general_reader() -> None:
    assert (native.MAX_NUMBER, native.MAX_NAME_LENGTH) == (MAX_NUMBER, MAX_NAME_LENGTH)
