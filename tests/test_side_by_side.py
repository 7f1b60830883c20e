"""Batches of several sources, and several targets, are learned at the same time: nothing depends on it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import orjson
import pytest
from engines import FIELDS, config, fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.config import Config
from ssm_stream.core.loop import Predictions
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.engine.entity_report import episode_figures
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.parallel import lanes, side_by_side
from ssm_stream.engine.parallel.cores import cores, cores_of_container
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.kafka.records import OutputBatch, PredictedBatch, ShardBatch
from ssm_stream.operators import shard_operator
from ssm_stream.operators.group.steps import MemberLogic
from ssm_stream.operators.shard_operator import ShardLogic, events_of
from ssm_stream.ops.observers import ChunkPlace, RunObserver

OFTEN = "alerts: {anomaly: {budget: 1 per 100 events}, drift: {budget: 1 per 300 events}}"
READ = "features: [a, b], target: y"
CASES = {
    "plain": config(READ, OFTEN),
    "accurate": config(READ, f"{OFTEN}\nmodel: {{profile: accurate}}"),
    "codes": config(f"{READ}, categories: [kind]", OFTEN),
    "targets": config("features: [a], target: [b, y]", OFTEN),
    "all targets": config("target: all, features: [a, y]", OFTEN),
    "each alone": config(READ, f"{OFTEN}\nmodel: {{fleet: false}}"),
    "shards": config(READ, f"{OFTEN}\nstate: {{shards: 3}}"),
    "ttl": config(READ, f"{OFTEN}\nstate: {{ttl: 100s}}"),
    "held": config(READ, "alerts: {anomaly: {budget: 1 per 100 events, learn: hold}}"),
}
NOT_AHEAD = {
    "late": config(READ, f"{OFTEN}\nlabels: {{topic: results}}"),
    "ahead": config(READ, f"{OFTEN}\nmodel: {{horizon: 3 events}}"),
    "limit": config(READ, f"{OFTEN}\nstate: {{max_entities: 3}}"),
    "conditions": config(READ + ", when: {b: {above: -1}}", OFTEN),
    "derived": config(READ + ", derive: {m: {rolling_mean: a, over: 3}}", OFTEN),
}
TOGETHER = {
    name: config(f"features: [a], target: [b, y]{event}", f"{OFTEN}\n{more}")
    for name, event, more in (
        ("conditions", ", when: {a: {above: -1}}", ""),
        ("derived", ", derive: {m: {rolling_mean: a, over: 3}}", ""),
        ("limit", "", "state: {max_entities: 3}"),
        ("ahead", "", "model: {horizon: 3 events}"),
        ("ttl", "", "state: {ttl: 100s}"),
    )
}
"""Of several targets, though none begins before its turn."""
SOURCES, START = 4, 1_700_000_000_000


class Batch(NamedTuple):
    events: Events
    source: int
    ids: EventIds


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads, for the smallest batches."""
    monkeypatch.setattr(side_by_side, "MIN_EVENTS", 2)
    for module in (side_by_side, lanes):
        monkeypatch.setattr(module, "cores", lambda: 3)


def streams(of: Config, n: int, *, keyed: bool = True) -> list[Events]:
    """The events of each source, as they are read. keyed: each entity has one source"""
    out = []
    for source in range(SOURCES):
        events = fleet(n, seed=source, entities=3)
        read = EventReader(of.event)
        documents = [
            {
                "e": f"{source if keyed else ''}{name}",
                "t": START + int(ts),
                "a": a,
                "b": b,
                "y": y,
                "kind": f"k{round(b)}",
            }
            for name, ts, (a, b), y in zip(
                events.entity, events.ts, np.nan_to_num(events.features).tolist(), events.target.tolist(), strict=True
            )
            if not (of.state.ttl and name == "m1" and ts % 500_000 > 150_000)  # away for longer than its TTL
        ]
        for each in documents:
            each["y"] = None if np.isnan(each["y"]) else each["y"]
        found, refused = read.read(documents)
        assert not refused
        out.append(found)
    return out


def batches(all_of: Sequence[Events], turns: Sequence[Sequence[tuple[int, int]]]) -> Iterator[list[Batch]]:
    """What each turn brings: batches of some sources, by source and size."""
    at = [0] * len(all_of)
    for turn in turns:
        out = []
        for source, size in turn:
            first, end = at[source], min(at[source] + size, len(all_of[source]))
            if end > first:
                rows = np.arange(first, end)
                out.append(Batch(all_of[source].take(rows), source, EventIds("t", source, rows.tolist())))
            at[source] = end
        yield out


def same(a: tuple[Predictions, list[Alert]], b: tuple[Predictions, list[Alert]]) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a[0], name), getattr(b[0], name), err_msg=name)
    assert [(each.row, orjson.dumps(each.message)) for each in a[1]] == [
        (each.row, orjson.dumps(each.message)) for each in b[1]
    ]


def begun(engine: Engine, batch: Batch) -> int:
    """How many of a batch's events have been learned before its turn."""
    found = engine._side_by_side._begun.get(id(batch.events))
    return 0 if found is None else min(run.at for run in found[1])


def compare(of: Config, all_of: Sequence[Events], turns: Sequence[Sequence[tuple[int, int]]]) -> tuple[int, int, int]:
    """Compare with an engine that learns one batch after another; returns events, those learned ahead, and alerts."""
    alone, several = Engine(of), Engine(of)
    alone._side_by_side.enabled = False
    events = ahead = alerts = 0
    for turn, found in enumerate(batches(all_of, turns)):
        lanes.run_all(several.begin([(each.events, each.source) for each in found]))
        for each in found:
            ahead += begun(several, each)
            own = several.process(several.admit(each.events, each.source)[0], each.source, each.ids)
            expected = alone.process(alone.admit(each.events, each.source)[0], each.source, each.ids)
            same(expected, own)
            events, alerts = events + len(each.events), alerts + len(own[1])
        if turn % 5 == 4:
            assert several.snapshot() == alone.snapshot()
    for kind in KINDS:
        assert episode_figures(several, kind) == episode_figures(alone, kind)
    assert several.snapshot() == alone.snapshot()
    for name in several.names:
        for source in range(SOURCES):
            assert several.state_hash(name, source) == alone.state_hash(name, source)
    return events, ahead, alerts


TURNS = [
    [(source, 40 + 60 * ((turn + source) % 3)) for source in np.roll(range(SOURCES), turn).tolist()]
    for turn in range(15)
]
"""Fifteen of 40 to 160 events a source, in turning order."""


@pytest.mark.parametrize("case", CASES)
def test_what_is_learned_side_by_side_is_the_same_to_the_bit(case: str) -> None:
    events, ahead, alerts = compare(CASES[case], streams(CASES[case], 1500), TURNS)
    assert ahead > 0.4 * events
    assert alerts > 10
    if case == "ttl":
        engine = Engine(CASES[case])
        for source, each in enumerate(streams(CASES[case], 1500)):
            engine.process(each, source)
        assert engine.pop_evicted_count() > 3


@pytest.mark.parametrize("most", [1, 3])
def test_of_a_flood_of_alerts_the_rest_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(lanes, "MAX_REPORTS", most)
    events, ahead, alerts = compare(CASES["plain"], streams(CASES["plain"], 1500), TURNS)
    assert 0 < ahead < 0.9 * events
    assert alerts > 10


@pytest.mark.parametrize("case", NOT_AHEAD)
def test_what_needs_its_turn_waits_for_it(case: str) -> None:
    _, ahead, _ = compare(NOT_AHEAD[case], streams(NOT_AHEAD[case], 400), TURNS[:4])
    assert ahead == 0


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the tasks that threads take on at the turn of a batch."""
    sizes = list[int]()

    def run_all(tasks: Iterable[lanes.Task]) -> None:
        found = list(tasks)
        sizes.extend(task.events for task in found)
        lanes.run_all(found)

    monkeypatch.setattr(side_by_side, "run_all", run_all)
    return sizes


@pytest.mark.parametrize("case", ["targets", "all targets", *TOGETHER])
def test_targets_of_one_source_are_learned_together_to_the_bit(case: str, helped: list[int]) -> None:
    of = TOGETHER.get(case) or CASES[case]
    turns = [[(turn % 2, 40 + 60 * (turn % 3))] for turn in range(15)]
    events, ahead, alerts = compare(of, streams(of, 1500), turns)
    assert ahead == 0
    assert sum(helped) > 0.5 * events * len(of.event.targets)
    assert alerts


def test_inputs_of_many_targets_are_not_twice_in_memory(monkeypatch: pytest.MonkeyPatch, helped: list[int]) -> None:
    monkeypatch.setattr(side_by_side, "MAX_INPUTS", 2 * 4 * 30 - 1)  # two targets with an input each, of 4 × 30 events
    of, turn = CASES["targets"], [(source, 30) for source in range(SOURCES)]
    assert compare(of, streams(of, 100), [turn])[1] == 0
    assert helped == [30] * 8
    monkeypatch.setattr(side_by_side, "MAX_INPUTS", 2 * 4 * 30)
    assert compare(of, streams(of, 100), [turn])[1] > 0


def test_a_channel_of_ones_own_is_called_by_one_thread(monkeypatch: pytest.MonkeyPatch, helped: list[int]) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "own_parts"))
    of = config("features: [a], target: [b, y]", "alerts: {anomaly: {channels: [residual, stuck]}}")
    compare(of, streams(of, 100), [[(0, 50)], [(0, 50)]])
    assert not helped


@pytest.mark.parametrize("case", [*CASES, *sorted(NOT_AHEAD.keys() - {"late"})])
def test_a_recording_by_partitions(case: str) -> None:
    of = CASES.get(case) or NOT_AHEAD[case]
    all_of = streams(of, 900)
    several, alone = (PartitionedEngine(of, 3, side_by_side=on) for on in (True, False))
    for found in batches(all_of, TURNS):
        for each in found:
            own = several.process(several.admit(each.events)[0], 0, each.ids)
            expected = alone.process(alone.admit(each.events)[0], 0, each.ids)
            same(expected, own)
    assert several.snapshot() == alone.snapshot()


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_batch_of_which_the_limit_leaves_nothing(partitions: int) -> None:
    of = config(READ, "state: {max_entities: 1}")
    engine = PartitionedEngine(of, partitions)
    *known, others = streams(of, 30)
    for each in known:
        engine.process(engine.admit(each)[0])
    assert len(engine) == partitions
    left, refused = engine.admit(others)
    assert len(refused) == 30
    predictions, alerts = engine.process(left)
    assert predictions.yhat.shape == (0,)
    assert not alerts


@settings(max_examples=25)
@given(
    case=st.sampled_from(sorted(CASES)),
    keyed=st.booleans(),
    turns=st.lists(st.lists(st.tuples(st.integers(0, SOURCES - 1), st.integers(1, 90)), max_size=7), max_size=7),
)
def test_any_batches(case: str, keyed: bool, turns: list[list[tuple[int, int]]]) -> None:
    compare(CASES[case], streams(CASES[case], 350, keyed=keyed), turns)


def test_entities_of_several_sources_wait_for_their_turn() -> None:
    _, ahead, _ = compare(CASES["plain"], streams(CASES["plain"], 400, keyed=False), TURNS[:4])
    assert ahead == 0


@pytest.mark.parametrize("number", [1, 3])
def test_few_events_or_one_core_begin_nothing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(side_by_side, "cores", lambda: number)
    monkeypatch.setattr(side_by_side, "MIN_EVENTS", 241 if number > 1 else 2)
    engine = Engine(CASES["plain"])
    (found,) = batches(streams(CASES["plain"], 100), [[(source, 60) for source in range(SOURCES)]])
    assert engine.begin([(each.events, each.source) for each in found]) == []
    assert [begun(engine, each) for each in found] == [0] * SOURCES


def test_an_error_is_raised_once_the_others_have_ended() -> None:
    done = []

    def fail() -> None:
        raise ValueError("no")

    for tasks in ([fail, partial(done.append, 1), partial(done.append, 2)], [partial(done.append, 3), fail]):
        with pytest.raises(ValueError, match="no"):
            lanes.run_all(lanes.Task(9 - i, task) for i, task in enumerate(tasks))
    assert sorted(done)[-1] == 3


# The operator.


class Stages(RunObserver):
    """Explains an event now and then, and adds up what the stages take."""

    def __init__(self, explains: bool) -> None:
        self._explains, self.explained, self.seconds, self.chunks = explains, 0, 0.0, 0

    def positions_to_explain(self, names: Sequence[str]) -> list[int]:
        return [3, 17] if self._explains and len(names) > 17 else []

    def explain(self, engine: Engine, event: Events, partition: int) -> None:
        assert begun(engine, Batch(event, partition, EventIds("t", 0, [0]))) == 0
        self.explained += 1

    def observe_stage(self, stage: str, seconds: float, chunk: ChunkPlace | None = None) -> None:
        assert seconds > 0
        self.seconds, self.chunks = self.seconds + seconds, self.chunks + 1


@pytest.mark.parametrize(("most", "parts"), [(10_000, [4]), (60, [2, 2]), (30, [1, 1, 1, 1]), (1, [1, 1, 1, 1])])
def test_memory_is_bounded_by_few_at_once(monkeypatch: pytest.MonkeyPatch, most: int, parts: list[int]) -> None:
    monkeypatch.setattr(shard_operator, "MAX_TOGETHER", most)
    (found,) = batches(streams(CASES["plain"], 30), [[(source, 30) for source in range(SOURCES)]])
    values = [ShardBatch(each.source, each.events, list(each.ids.offsets)) for each in found]
    cut = list(shard_operator._cut(values))
    assert [len(each) for each in cut] == parts
    assert [one for each in cut for one in each] == values


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores_of_container(tmp_path) == expected
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("explains", [False, True])
def test_the_operator_gives_the_same_results(monkeypatch: pytest.MonkeyPatch, *, explains: bool) -> None:
    of = CASES["plain"].replace(recovery=CASES["plain"].recovery.model_copy(update={"directory": None}))
    results, begins = dict[int, list[Any]](), list[int]()
    for number in (1, 3):
        monkeypatch.setattr(side_by_side, "cores", lambda number=number: number)
        stages = Stages(explains and number > 1)
        logic = ShardLogic(of, None, stages)
        process = logic.engine.process

        def spied(
            events: Events, source: int, ids: EventIds, engine: Engine = logic.engine, process: Any = process
        ) -> Any:
            begins.append(begun(engine, Batch(events, source, ids)))
            return process(events, source, ids)

        monkeypatch.setattr(logic.engine, "process", spied)
        out = list[PredictedBatch | OutputBatch]()
        for found in batches(streams(of, 800), TURNS):
            values = [
                ShardBatch(each.source, each.events, list(each.ids.offsets), chunk=each.ids.offsets[0])
                for each in found
            ]
            out += logic.on_batch(values)[0]
        assert all(isinstance(each, PredictedBatch) for each in out)
        rows = [
            (each.batch.partition, *each.predictions, each.batch.offsets)
            for each in out
            if isinstance(each, PredictedBatch)
        ]
        by_source = [[row for row in rows if row[0] == source] for source in range(SOURCES)]
        columns = [np.concatenate([row[i] for row in own]) for own in by_source for i in range(1, 9)]
        alerts = [alert.message for each in out if isinstance(each, PredictedBatch) for alert in each.alerts]
        results[number] = [[column.tolist() for column in columns], alerts, logic.snapshot(), stages.chunks]
        assert stages.explained == (0 if not stages._explains else 2 * stages.chunks // 3)
        if number == 1:
            assert not any(begins)
    np.testing.assert_equal(results[1][0], results[3][0])
    assert results[1][1] == results[3][1]
    assert results[1][2] == results[3][2]
    assert len(results[1][1]) > 5
    assert explains or sum(begins) > 1000


class FakeMember:
    """Holds partitions without a broker."""

    def __init__(self, of: Config) -> None:
        self.config, self.must_abort = of, False
        self.held = {source: SimpleNamespace(logic=ShardLogic(of, None)) for source in range(SOURCES)}
        self.ahead, self.written = list[tuple[int, int]](), list[int]()

    def write_ahead(self, partition: int, values: Sequence[ShardBatch]) -> None:
        self.ahead.append((partition, events_of(values)))

    def write(self, partition: int) -> None:
        self.written.append(partition)


def test_the_partitions_of_a_member_are_learned_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    of = CASES["plain"].replace(recovery=CASES["plain"].recovery.model_copy(update={"directory": None}))
    member, alone = FakeMember(of), {source: ShardLogic(of, None) for source in range(SOURCES)}
    logic, ran = MemberLogic(cast("Any", member)), list[int]()

    def run_all(tasks: Iterable[lanes.Task]) -> None:
        found = list(tasks)
        ran.append(len(found))
        lanes.run_all(found)

    monkeypatch.setattr(shard_operator, "run_all", run_all)
    for found in batches(streams(of, 800), TURNS):
        values = [
            ShardBatch(each.source, each.events, list(each.ids.offsets), chunk=each.ids.offsets[0]) for each in found
        ]
        out, expected = (
            logic.on_batch(values)[0],
            [one for each in values for one in alone[each.partition].on_batch([each])[0]],
        )
        for a, b in zip(out, expected, strict=True):
            assert isinstance(a, PredictedBatch)
            assert isinstance(b, PredictedBatch)
            same((a.predictions, a.alerts), (b.predictions, b.alerts))
    assert ran == [SOURCES] * len(ran)
    assert len(ran) > 5
    assert sum(events for _, events in member.ahead) == sum(map(len, streams(of, 800)))
    logic.snapshot()
    logic.snapshot()
    assert member.written == list(range(SOURCES)), "what has changed in the epoch, once"
    for source in range(SOURCES):
        assert member.held[source].logic.snapshot() == alone[source].snapshot()
    first = streams(of, 50)[2]
    logic.on_batch([ShardBatch(2, first, list(range(50)))])
    assert ran[-1] == SOURCES, "one partition by itself has its turn at once"
    member.must_abort = True
    logic.snapshot()
    assert member.written == list(range(SOURCES))
