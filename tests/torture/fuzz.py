"""Bytes that no producer should send, by the million: each ends as an event or as a dead letter, whichever way it goes.

    python tests/torture/fuzz.py --inputs 1000000

Events are cut, spliced, flipped bit by bit, and filled with numbers, texts and times from the edges of what JSON and
calendars know. Every chunk is decoded twice, by the kernel for plain events where that takes it and by the general way:
both must give the same columns, to the bit, and the same refusals. What is an event then goes through the engine and
the encoder, where every prediction must be JSON with the right id.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from measuring import check, say
from test_decoder import FakeMessage

from ssm_stream.config import parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import Chunk, OutputBatch, ShardBatch

CONFIG = parse_config(
    """
source: {brokers: "localhost:9092", topic: fuzz}
event: {entity: machine, timestamp: ts, features: [load, speed], target: temp}
state: {shards: 2}
"""
)
NUMBERS = (
    b"0 -0 -0.0 1 -1 0.5 1e5 1E+5 1e-5 1e308 -1e308 1.7976931348623157e308 1e309 5e-324 1e-400 9007199254740993 "
    b"123456789012345678901234567890 9223372036854775807 -9223372036854775808 18446744073709551616 3.4028235e38 3.5e38 "
    b"1e39 01 +1 .5 1. 1e 0x10 NaN nan Infinity -Infinity null true false 1_000 1,5 \xd9\xa1 2147483648 "
    b"0.1000000000000000055511151231257827021181583404541015625"
).split(b" ")
TIMES = [
    b"0", b"1", b"-1", b"86399999", b"1700000000", b"1700000000000", b"1700000000000000", b"1700000000000000000",
    b"253402300799999", b"253402300800000", b"9999999999999999999", b"-62135596800000", b"1700000000.5", b"1e12",
    b'"1970-01-01T00:00:00Z"', b'"9999-12-31T23:59:59.999Z"', b'"10000-01-01T00:00:00Z"', b'"2016-12-31T23:59:60Z"',
    b'"2024-02-30T00:00:00Z"', b'"2024-02-29T23:59:59+14:00"', b'"2025-03-30T02:30:00"', b'"2025-10-26T02:30:00"',
    b'"0001-01-01T00:00:00Z"', b'"2024-13-01"', b'"20240101"', b'"2024-01-01T24:00:00Z"', b'"now"', b'""', b"null",
    b"[]",
]  # fmt: skip
TEXTS = [
    b'"a"', b'"b"', b'""', b'" "', b'"\\u0000"', b'"\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\"', b'"\\n"',
    b'"\xe6\xa9\x9f"', b'"' + b"x" * 300 + b'"', b"7", b"7.0", b"-7", b"1e2", b"null", b"true", b"{}", b"[1]",
    b'"__proto__"', b'"a\x00b"',
]  # fmt: skip
KEYS = [b"machine", b"ts", b"load", b"speed", b"temp", b"", b"temp ", b"TEMP", b"load.speed", b"\\u0074s", b"extra"]
WHOLE = [
    b"", b"null", b"[]", b"{}", b"0", b'"x"', b"[" * 2_000, b'{"a":' * 1_000, b"\xef\xbb\xbf{}", b"\x00",
    b"\xff\xfe",
]  # fmt: skip
TOKENS = [*NUMBERS, *TEXTS, b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\n", b'"', b"\\"]


def event(rng: random.Random) -> bytes:
    """An event, mostly a good one."""
    fields = [
        (b"machine", rng.choice(TEXTS) if rng.random() < 0.1 else b'"m%d"' % rng.randrange(5)),
        (b"ts", rng.choice(TIMES) if rng.random() < 0.15 else b"%d" % (1_700_000_000_000 + rng.randrange(10**9))),
    ]
    fields += [
        (name, rng.choice(NUMBERS) if rng.random() < 0.15 else b"%.6g" % rng.gauss(0, 100))
        for name in (b"load", b"speed", b"temp")
    ]
    if rng.random() < 0.1:
        rng.shuffle(fields)
    if rng.random() < 0.05:
        del fields[rng.randrange(len(fields))]
    if rng.random() < 0.05:
        fields.insert(rng.randrange(6), (rng.choice(KEYS), rng.choice(TOKENS)))
    space = b" " if rng.random() < 0.1 else b""
    return b"{" + b",".join(b'"%b":%b%b' % (name, space, value) for name, value in fields) + b"}"


def mutated(rng: random.Random) -> bytes | None:
    """What a chunk may hold."""
    kind = rng.random()
    if kind < 0.01:
        return None if rng.random() < 0.3 else rng.choice(WHOLE)
    value = event(rng)
    if kind < 0.5:
        return value
    data = bytearray(value)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(5)
        if how == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[at:at] = rng.choice(TOKENS)
        elif how == 2:
            del data[at : at + rng.randrange(1, 8)]
        elif how == 3:
            other = event(rng)
            data[at:] = other[rng.randrange(len(other)) :]
        else:
            data[at : at + 1] = bytes([rng.randrange(256)])
        if not data:
            break
    return bytes(data)


def columns(items: list[tuple[str, Any]]) -> list[Any]:
    """What a chunk became, comparable to the bit."""
    out: list[Any] = []
    for key, item in items:
        if isinstance(item, OutputBatch):
            out.append((key, [(record.offset, record.value, record.headers) for record in item.records]))
        else:
            e = item.events
            arrays = [e.ts, e.features, e.target]
            out.append(
                (key, item.offsets, e.entity, [(a.dtype.str, np.ascontiguousarray(a).tobytes()) for a in arrays])
            )
    return out


def fuzz(inputs: int, seed: int = 0) -> dict[str, int]:
    """Counts of inputs, events, dead letters, and chunks that the kernel for plain events took.

    Raises:
        AssertionError: an input was lost, or two ways differ; the text holds the chunk.
    """
    rng = random.Random(seed)
    either, general = Decoder(CONFIG), Decoder(CONFIG)
    plain = either._fast
    general._fast = None
    engines, encoder = {0: Engine(CONFIG), 1: Engine(CONFIG)}, Encoder(CONFIG)
    done = events = letters = taken = 0
    while done < inputs:
        count = rng.choice((1, 1, 1, 1, 1, 1, 2, 8, 64))
        values = [mutated(rng) for _ in range(count)]
        messages: list[Any] = [FakeMessage(done + i, value) for i, value in enumerate(values)]
        chunk = Chunk("fuzz", 0, messages)
        found = either.decode(chunk)
        taken += plain is not None and plain.read(values) is not None
        assert columns(found) == columns(general.decode(chunk)), f"two ways differ: {values!r}"
        offsets = []
        for key, item in found:
            if isinstance(item, ShardBatch):
                output = encoder.encode(item, *engines[int(key)].process(item.events, 0, encoder.event_ids(item)))
                told = [orjson.loads(value) for value in output.values]
                assert [row["id"] for row in told] == [f"fuzz-0-{at}" for at in item.offsets], values
                assert [row["entity"] for row in told] == item.events.entity, values
                offsets += item.offsets
                events += len(item.offsets)
            else:
                assert isinstance(item, OutputBatch)
                offsets += [record.offset for record in item.records]
                letters += len(item.records)
        assert sorted(offsets) == list(range(done, done + count)), f"lost or twice: {values!r}"
        done += count
    return {"inputs": done, "events": events, "dead letters": letters, "plain chunks": taken}


PART = 20_000
"""Inputs between new engines; what a crash costs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    options = parser.parse_args()
    found, crashes, began = Counter[str](), 0, time.monotonic()
    for part in range(-(-options.inputs // PART)):
        try:
            found.update(fuzz(min(PART, options.inputs - part * PART), options.seed + part))
        except Exception:  # noqa: BLE001  # it is what is looked for
            crashes += 1
            say(f"seed {options.seed + part}: {traceback.format_exc()}")
        say(f"{found['inputs']:,} inputs, {crashes} crashes, {time.monotonic() - began:.0f} s")
    say(str(dict(found)))
    checks = [check("fuzz inputs", found["inputs"], ">=", 1_000_000), check("fuzz crashes", crashes, "<=", 0)]
    if options.json:
        print(json.dumps({"checks": checks, **found}))
    sys.exit(crashes > 0)


if __name__ == "__main__":
    main()
