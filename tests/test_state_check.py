"""Bounds of a loaded state: whatever valid runs write is loaded, and no made-up number reaches the core."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import orjson
import pytest
from xxhash import xxh3_64

from ssm_stream.config import MAX_PENDING, Config, parse_config
from ssm_stream.core import detect
from ssm_stream.core.hours import NAMED_CODES
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import PREFIX, StateError
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels

ROOT = Path(__file__).parent.parent
LAST = 4_990
"""Minute of the last event, the one that waits for its label."""


def configured(fleet: bool) -> Config:
    return parse_config(
        "source: {brokers: a, topic: t}\n"
        "event: {entity: e, timestamp: t, features: [a]}\n"
        "labels: {topic: labels, wait: 1d}\n"
        "state: {ttl: 1h}\n"
        f"model: {{fleet: {str(fleet).lower()}}}\n"
        "recovery: {directory: null}\n"
    )


def events_of(names: list[str], ts: int) -> Events:
    n = len(names)
    return Events(
        names, np.full(n, ts, np.int64), np.arange(float(n))[:, None], np.full(n, np.nan), np.arange(n),
        np.zeros(n, np.int64),
    )  # fmt: skip


def label(engine: Engine, events: Events) -> None:
    n = len(events)
    engine.learn(Labels(events.entity, events.ts, np.zeros(n, np.int64), np.arange(n) % 7.0, np.arange(n)))


def grown(fleet: bool) -> Engine:
    """An engine of 400 entities of which all but the last have just expired, with events that wait for labels."""
    engine = Engine(configured(fleet))
    for minute in range(3):
        events = events_of([f"m{i}" for i in range(400)], minute * 60_000)
        engine.process(events)
        label(engine, events)
    for minute in range(10, 5_000, 10):  # many events: the watermark follows by small steps
        events = events_of(["m399"], minute * 60_000)
        engine.process(events)
        if minute < LAST:
            label(engine, events)
    return engine


@pytest.mark.parametrize("fleet", [True, False])
def test_rows_that_moved_are_loaded_again(fleet: bool) -> None:
    """An entity's row moves when others expire; its waiting events keep the number of the pool that they came by."""
    engine = grown(fleet)
    assert len(engine) == 400
    state = engine.snapshot()
    assert engine.names == ["m399"]
    again = Engine.restore(engine.config, state)
    assert again.snapshot() == state
    for each in (engine, again):
        label(each, events_of(["m399"], LAST * 60_000))
    assert engine.label_counts["waiting"] == again.label_counts["waiting"] == 0
    assert engine.snapshot() == again.snapshot()


def bent(state: bytes, array: str, value: float) -> bytes:
    """A snapshot whose checksums are right, with this number in the first place of an array."""
    size = PREFIX.unpack(state[: PREFIX.size])[3]
    header = orjson.loads(state[PREFIX.size :][:size])
    body, at = bytearray(state[PREFIX.size + size :]), 0
    for name, dtype, shape in header["arrays"]:
        if name == f"0.{array}":
            number = np.array([value]).astype(dtype).tobytes()
            body[at : at + len(number)] = number
        at += int(np.prod(shape)) * np.dtype(dtype).itemsize
    head = PREFIX.unpack(state[: PREFIX.size])
    return PREFIX.pack(*head[:6], xxh3_64(bytes(body)).intdigest()) + state[PREFIX.size :][:size] + bytes(body)


@pytest.mark.parametrize(
    ("array", "value"),
    [
        ("met", 2 * MAX_PENDING),
        ("met", -1),
        ("oldest", 1e14),
        ("pool", 1),
        ("pool", -1),
        ("places", 10_000),
        ("steps", 24),
        ("open", 2),
        ("pool.used", 1_000),
        ("pool.n", -1),
        ("pool.slot", 300),
        ("pool.dead", np.iinfo(np.int64).max),
        ("pool.stack_waiting", 8),
        ("fleet.waiting", -1),
        ("learner.n", 1e17),
        ("learner.bin", np.nan),
        ("learner.bin", 1e17),
        ("detector.number", np.nan),
        ("novelty.number", -1),
        ("novelty.number", 50.001),
        ("novelty.grid", 1e308),
        ("novelty.smooth", np.nan),
        ("shape.number", np.nan),
        ("shape.distance", np.nan),
        ("hours.learned", -1),
        ("hours.place", 1),
        ("flag", 2),
        ("active", -1),
    ],
)
def test_a_number_out_of_bounds_is_refused(array: str, value: float) -> None:
    engine = grown(fleet=True)
    state = engine.snapshot()
    Engine.restore(engine.config, state)
    with pytest.raises(StateError, match="is damaged"):
        Engine.restore(engine.config, bent(state, array, value))


def test_whatever_a_drift_has_found_is_loaded() -> None:
    """An alert of any kind is no damage: the service starts again after it."""
    engine = grown(fleet=True)
    number = engine.target_engines[0].store.state.detector.number
    for change in range(len(detect.CHANGES)):
        number[0, detect.CHANGE] = change
        state = engine.snapshot()
        assert Engine.restore(engine.config, state).snapshot() == state
    number[0, detect.CHANGE] = len(detect.CHANGES)
    with pytest.raises(StateError, match=r"detector.number \(change\) has a number that is not between 0 and 10"):
        Engine.restore(engine.config, engine.snapshot())


def test_numbers_that_are_places_in_arrays_are_those_of_places() -> None:
    """Of hours the codes that have a column, and their columns; of novelty the hour of the week."""
    engine = grown(fleet=True)
    store = engine.target_engines[0].store
    place, learned, week = store.shared.hours.place, store.shared.hours.learned, store.state.novelty.week
    place[0, :3] = 1, 2, 3
    learned[0, NAMED_CODES] = 3
    for hour in (0, 168):
        week[0, 1] = hour
        Engine.restore(engine.config, engine.snapshot())
    for array, at, value in ((place, 2, 4), (learned, NAMED_CODES, 1e9), (week, 1, 169), (week, 1, -1), (week, 1, 1e9)):
        kept = array[0, at]
        array[0, at] = value
        with pytest.raises(StateError, match=r"the snapshot is damaged: (hours|novelty)\."):
            Engine.restore(engine.config, engine.snapshot())
        array[0, at] = kept


def test_the_fuzz_target_has_every_group_of_the_state() -> None:
    """What it lacks is not there to be bent, and the core would take it from nowhere."""
    header = (ROOT / "ssm_stream/core/state.hpp").read_text("utf-8")
    (groups,) = re.findall(r"^struct MonitorState \{.*?\n    Table ([^;]+);", header, re.DOTALL | re.MULTILINE)
    world = (ROOT / "tests/fuzz/world.hpp").read_text("utf-8")
    names = groups.split(", ")
    assert len(names) > 10
    assert [name for name in names if f"m.{name} = table(" not in world] == []
