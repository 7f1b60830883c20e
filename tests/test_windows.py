"""Windows of events: rows equal a group-by, whatever the batches, snapshots and interleaving; clocks; refusals."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.contract.event_schema import event_schema, example_event
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.rows.window_builder import WindowBuilder

COLUMNS = """
      requests: count
      failed: {count: {status: {from: 500}}}
      errors: {share: {status: {from: 500}, route: [a, b]}}
      bytes: {sum: size}
      mean: {mean: size}
      least: {min: size}
      most: {max: size}
      last: {last: size}
      p50: {p50: size}
      p99: {p99.9: size}
"""
NAMES = [line.split(":")[0].strip() for line in COLUMNS.strip().splitlines()]
YEAR = 365 * 86_400_000
NOON = 1_767_225_600_000
"""A time that is a whole number of windows, ms."""


def configuration(
    columns: str = COLUMNS, every: str = "1s", grace: str = "300ms", more: str = "", target: str = "requests"
) -> Config:
    return parse_config(
        f"""
source: {{brokers: "localhost:9092", topic: requests}}
event:
  entity: service
  timestamp: at
  aggregate:
    every: {every}
    grace: {grace}
    columns: {columns}
  features: [{", ".join(name for name in NAMES if name != "errors") if columns is COLUMNS else ""}]
  target: {"errors" if columns is COLUMNS else target}
{more}
"""
    )


class Row(NamedTuple):
    """A row, and the offset of the message that closed its window."""

    offset: int
    entity: str
    ts: int
    empty: bool
    values: dict[str, float]


def document(entity: str, at: int, size: float | None = 1.0, status: int = 200, route: str = "a") -> dict[str, Any]:
    return {"service": entity, "at": at, "size": size, "status": status, "route": route}


def rows_of(config: Config, documents: list[dict[str, Any]], cuts: tuple[int, ...] = (), **options: Any) -> list[Row]:
    """The rows of documents in one partition, cut into batches there; `flush=False`: without those at the end."""
    return run(config, documents, cuts, **options)[0]


def run(
    config: Config,
    documents: list[dict[str, Any]],
    cuts: tuple[int, ...] = (),
    *,
    snapshots: bool = False,
    flush: bool = True,
    ttl: float | None = None,
    silence: tuple[float, float, float] | None = None,
    builder: WindowBuilder | None = None,
) -> tuple[list[Row], list[RefusedDocument]]:
    """The rows, and the messages that were not used, by their offsets."""
    event = config.event if silence is None else config.event.with_silence(silence)
    builder = builder or WindowBuilder(event, ttl)
    reader = MessageReader(config.event)
    out: list[Row] = []
    late: list[RefusedDocument] = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(documents)]):
        messages, refused = reader.read(documents[start:stop])
        assert not refused
        found = builder.add(messages, list(range(start, stop)), 0)
        out += named(config, found.events, found.offsets)
        late += [each._replace(position=start + each.position) for each in found.late]
        if snapshots:
            state = builder.dump()
            builder = WindowBuilder(event, ttl)
            builder.load(state)
            assert builder.dump() == state
    if flush:
        found = builder.flush()
        out += named(config, found.events, found.offsets)
    return out, late


def named(config: Config, events: Events, offsets: list[int]) -> list[Row]:
    event = config.event
    assert events.empty is not None
    columns = [*event.columns, *event.targets]
    target = events.measured[:, None] if events.measured.ndim == 1 else events.measured
    values = np.concatenate([events.features, target], axis=1).tolist()
    return [
        Row(offset, entity, ts, empty, dict(zip(columns, row, strict=True)))
        for offset, entity, ts, empty, row in zip(
            offsets, events.entity, events.ts.tolist(), events.empty.tolist(), values, strict=True
        )
    ]


def same(a: list[Row], b: list[Row]) -> bool:
    """To the bit, NaN equal to NaN."""
    return repr(a) == repr(b)


def group_by(documents: list[dict[str, Any]], every: int = 1000) -> dict[tuple[str, int], dict[str, Any]]:
    """The rows of a batch group-by, by entity and end of the window."""
    frame = pl.DataFrame(documents, schema_overrides={"size": pl.Float64}).with_row_index("place")
    frame = frame.with_columns(window=(pl.col("at") // every + 1) * every - 1, bad=pl.col("status") >= 500)
    grouped = frame.sort("at", "place").group_by("service", "window", maintain_order=True)
    known = pl.col("size").drop_nulls()
    found = grouped.agg(
        requests=pl.len(),
        failed=pl.col("bad").sum(),
        errors=(pl.col("bad") & pl.col("route").is_in(["a", "b"])).mean(),
        least=known.min(),
        most=known.max(),
        last=known.last(),
        sizes=known,
    )
    return {(row["service"], row["window"]): row for row in found.to_dicts()}


def check_group_by(rows: list[Row], documents: list[dict[str, Any]], every: int = 1000) -> None:
    """Every window with events is one row with the group-by's values; between two of them lie empty ones."""
    expected, seen = group_by(documents, every), set[tuple[str, int]]()
    windows: dict[str, list[int]] = {}
    for name, end in expected:
        windows.setdefault(name, []).append(end)
    for row in rows:
        key = (row.entity, row.ts)
        assert key not in seen
        seen.add(key)
        if key not in expected:
            assert row.empty
            assert row.ts > min(windows[row.entity])
            assert row.values["requests"] == row.values["failed"] == row.values["bytes"] == 0.0
            assert all(math.isnan(row.values[name]) for name in ("errors", "mean", "least", "most", "last", "p50"))
            continue
        assert not row.empty
        want = expected[key]
        for name in ("requests", "failed", "errors", "least", "most", "last"):
            assert equal(row.values[name], want[name]), (key, name)
        sizes = want["sizes"]
        assert row.values["bytes"] == math.fsum(sizes)
        assert equal(row.values["mean"], math.fsum(sizes) / len(sizes) if sizes else None)
        for name, share in (("p50", 0.5), ("p99", 0.999)):
            exact = float(np.quantile(sizes, share, method="inverted_cdf")) if sizes else None
            if len(sizes) <= 64:
                assert equal(row.values[name], exact)
            else:
                assert row.values[name] == pytest.approx(exact, rel=1 / 128)
    assert seen >= expected.keys()
    for name, ends in windows.items():
        between = {(name, end) for end in range(min(ends), max(ends), every)}
        assert between <= seen


def equal(value: float, expected: float | None) -> bool:
    return math.isnan(value) if expected is None else value == expected


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]], tuple[int, ...]]:
    """Documents within 300 ms of their order, the same in another such order, and cuts."""
    count = draw(st.integers(1, 60))
    spread = draw(st.sampled_from([50, 400, 5_000, 100_000]))
    steps = draw(st.lists(st.integers(0, spread), min_size=count, max_size=count))
    times = (NOON - 3_000 + np.cumsum(steps)).tolist()
    entities = draw(st.integers(1, 12))
    rng = random.Random(draw(st.integers(0, 2**32)))
    documents = [
        document(
            f"s{rng.randrange(entities)}",
            at,
            None if rng.random() < 0.1 else rng.choice([rng.lognormvariate(0, 5), -rng.random(), 0.1, 1e30, 0.0]),
            rng.choice([200, 404, 500, 503]),
            rng.choice("abc"),
        )
        for at in times
    ]
    # Of equal times of an entity the one that comes later is the last: both orders keep them as they are.
    orders = [
        sorted(documents, key=lambda each: each["at"] + delay[each["at"]]) for delay in (Delays(rng), Delays(rng))
    ]
    cuts = tuple(draw(st.lists(st.integers(0, count), max_size=4)))
    return orders[0], orders[1], cuts


class Delays(dict[int, int]):
    """How late events of a time come, ms."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def __missing__(self, at: int) -> int:
        self[at] = self._rng.randrange(0, 300)
        return self[at]


@settings(max_examples=80)
@given(streams())
def test_rows_equal_a_group_by_whatever_the_interleaving_batches_and_snapshots(
    stream: tuple[list[dict[str, Any]], list[dict[str, Any]], tuple[int, ...]],
) -> None:
    one, other, cuts = stream
    config = configuration()
    rows, late = run(config, one)
    assert not late
    check_group_by(rows, one)
    assert same(rows, rows_of(config, one, cuts))
    assert same(rows, rows_of(config, one, cuts, snapshots=True))
    offsets = [row.offset for row in rows if row.offset >= 0]
    assert offsets == sorted(offsets)
    again, late = run(config, other)
    assert not late

    def full(found: list[Row]) -> list[Row]:
        return sorted(row._replace(offset=0) for row in found if not row.empty)

    assert same(full(rows), full(again))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-20_000, 20_000)), max_size=80), st.data())
@example([(0, 0), (0, 10_000), (0, -10_000), (0, 10_000)], None)
@example([(0, 0), (0, 0), (0, 0), (3, 0), (1, 11), (0, -9), (1, 105), (0, -3), (0, 4171)], None)
def test_no_batch_or_snapshot_changes_anything_on_streams_in_any_order(steps: list[tuple[int, int]], data: Any) -> None:
    at, documents = NOON, []
    for entity, step in steps:
        at += step
        documents.append(document(f"s{entity}", at + (YEAR if entity == 3 else 0)))
    cuts = (
        tuple(range(0, len(documents), 3)) if data is None else tuple(data.draw(st.lists(st.integers(0, len(steps)))))
    )
    config = configuration()
    for options in ({}, {"ttl": 5_000.0}, {"silence": (0.0, 0.0, 4_000.0)}):
        whole = run(config, documents, **options)
        parts = run(config, documents, cuts, snapshots=True, **options)
        assert same(whole[0], parts[0])
        assert whole[1] == parts[1]
    if documents:
        used = [each for i, each in enumerate(documents) if i not in {refused.position for refused in whole[1]}]
        assert sum(row.values["requests"] for row in whole[0]) == len(used)


@pytest.mark.parametrize(("spread", "bound"), [(0.5, 1 / 128), (3.0, 1 / 32), (20.0, 1 / 8)])
def test_quantiles_of_many_values_are_close_and_do_not_depend_on_the_order(spread: float, bound: float) -> None:
    rng = random.Random(1)
    config = configuration(every="10s")
    sizes = [rng.choice([-1, 1]) * math.exp(rng.gauss(0, spread)) for _ in range(4_000)]
    found = []
    for seed in range(3):
        random.Random(seed).shuffle(sizes)
        (row,) = rows_of(config, [document("a", NOON + i, size) for i, size in enumerate(sizes)])
        found.append(row.values | {"last": 0.0})
    assert found[0] == found[1] == found[2]
    # Values over more than 16 powers of two share coarser bins.
    for name, share in (("p50", 0.5), ("p99", 0.999)):
        exact = float(np.quantile(sizes, share, method="inverted_cdf"))
        assert found[0][name] == pytest.approx(exact, rel=bound)


def test_late_events_are_refused_with_their_reason_and_not_counted() -> None:
    documents = [document("a", NOON + at) for at in (0, 500, 1_299, 999, 1_300, 999, 1_400)]
    rows, late = run(configuration(), documents)
    assert [(row.ts - NOON, row.values["requests"]) for row in rows] == [(999, 3.0), (1_999, 3.0)]
    assert rows[0].offset == 4, "the first event 300 ms past the window's end"
    (refusal,) = late
    assert (refusal.position, refusal.fault) == (5, Fault.LATE)
    assert "closed before" in refusal.reason
    assert "1ms before the end" in refusal.reason
    assert "grace: 0.3s" in refusal.reason


def test_empty_windows_come_while_others_send_and_at_once_when_the_entity_is_back() -> None:
    others = [document(f"b{i % 5}", NOON + 20 * i) for i in range(1_000)]
    alone = [document("a", NOON), document("a", NOON + 10_000)]
    for documents, last in ((sorted(others + alone, key=lambda each: each["at"]), 18_999), (alone, 10_999)):
        rows = [row for row in rows_of(configuration(), documents) if row.entity == "a"]
        assert [row.ts - NOON for row in rows] == list(range(999, last + 1, 1_000))
        assert [row.empty for row in rows] == [row.ts - NOON not in (999, 10_999) for row in rows]
    rows = rows_of(configuration(), [*others, document("a", NOON)], flush=False)
    assert not [row for row in rows if row.entity == "a"]


def test_empty_windows_end_with_the_ttl_with_silence_and_where_there_were_as_many_as_others() -> None:
    others = [document(f"b{i % 5}", NOON + 500 * i) for i in range(400)]
    documents = [document("a", NOON), *others]

    def empty(**options: Any) -> int:
        return sum(row.entity == "a" and row.empty for row in rows_of(configuration(), documents, **options))

    assert empty() == empty(ttl=math.inf) == 197
    assert empty(ttl=10_000.0) == 10
    assert empty(silence=(0.0, 0.0, 30_000.0)) in (30, 31)
    others = [document(f"b{i % 5}", NOON + 500 * i) for i in range(1_200)]
    documents = sorted([*[document("a", NOON + 900 * i) for i in range(400)], *others], key=lambda each: each["at"])
    assert 1 < empty(silence=(2_000.0, 0.0, 0.0)) < 20 < empty(), "by its gaps, once they are known"
    # A name that came once does not have rows for ever: 10,000 of them, or as many as it had windows with events.
    slow = [document(f"b{i % 5}", NOON + 1_000 * i) for i in range(12_000)]
    rows = rows_of(configuration("{requests: count}"), [document("a", NOON), *slow])
    assert sum(row.entity == "a" and row.empty for row in rows) == 10_000


def test_a_machine_whose_clock_is_a_year_ahead_closes_only_its_own_windows() -> None:
    rng = random.Random(3)
    for others in (1, 2, 6):
        right = [document(f"b{i % others}", NOON + 10 * i + rng.randrange(200)) for i in range(3_000)]
        wrong = [document("a", NOON + YEAR + 10 * i) for i in range(3_000)]
        documents = [each for pair in zip(wrong, right, strict=True) for each in pair]
        rows, late = run(configuration(), documents)
        assert not late
        check_group_by(rows, documents)
        # The wrong one sends far more: of the events that came last nearly all are its own.
        slow = [document(f"b{i % others}", NOON + 500 * i) for i in range(60)]
        documents = sorted([*wrong, *slow], key=lambda each: each["at"] % YEAR)
        rows, late = run(configuration(), documents)
        assert not late
        check_group_by(rows, documents)


def test_one_event_far_ahead_changes_nothing_and_two_are_believed() -> None:
    documents = [document("a", NOON + 10 * i) for i in range(1_000)]
    expected = rows_of(configuration(), documents)
    rows, late = run(configuration(), [*documents[:400], document("a", NOON + YEAR), *documents[400:]])
    assert not late
    assert same([row._replace(offset=0) for row in expected[:-1]], [row._replace(offset=0) for row in rows[:9]])
    assert rows[-1].ts > NOON + YEAR
    # The clock was wrong for a while: once it is right again, its events count again.
    ahead = [document("a", NOON + YEAR + 10 * i) for i in range(300)]
    rows, late = run(configuration(), [*documents[:400], *ahead, *documents[400:]])
    assert len(late) <= 1
    assert sum(row.values["requests"] for row in rows if row.ts < NOON + YEAR) == len(documents) - len(late)
    # A first event that is wrong holds nothing up.
    rows, late = run(configuration(), [document("a", NOON + YEAR), *documents])
    assert not late
    assert [row.values["requests"] for row in rows if row.ts < NOON + YEAR] == [100.0] * 10


def test_times_all_over_are_bounded_and_refused() -> None:
    documents = [document("a", NOON + (i % 2) * (i + 1) * YEAR) for i in range(40)]
    rows, late = run(configuration(every="1m"), documents)
    assert {refused.fault for refused in late} == {Fault.AHEAD}
    assert len(rows) < 20 * 1_440
    assert "beyond the others of its entity" in late[0].reason


def test_memory_is_that_of_entities_not_of_events() -> None:
    def memory(events: int, entities: int) -> int:
        config = configuration()
        builder = WindowBuilder(config.event)
        rng = random.Random(5)
        documents = [document(f"s{i % entities}", NOON + i // 100, rng.lognormvariate(3, 2)) for i in range(events)]
        run(config, documents, flush=False, builder=builder)
        return builder.memory

    few, many = memory(20_000, 10), memory(100_000, 10)
    assert many < 2 * few
    assert many < 10 * 3 * 40_000


def test_a_state_of_other_windows_is_refused() -> None:
    builder = WindowBuilder(configuration().event)
    messages, _ = MessageReader(configuration().event).read([document("a", NOON)])
    builder.add(messages, [0], 0)
    state = builder.dump()
    with pytest.raises(ValueError, match="other windows"):
        WindowBuilder(configuration(every="2s").event).load(state)
    WindowBuilder(configuration(grace="1s").event).load(state)
    for damaged in (state[:-5], state + b"1", state.replace(b'"a"', b'"a","b"')):
        with pytest.raises(ValueError, match=r"windows|names"):
            WindowBuilder(configuration().event).load(damaged)


@pytest.mark.parametrize(
    ("columns", "cure"),
    [
        ("{requests: counts}", "write one of count, {share:"),
        ("{requests: {p100: size}}", "found 'p100'; write one of count, share, sum"),
        ("{requests: {sum: null}}", "sum: found null; name a number"),
        ("{errors: count}", "target: 'requests' is no column of a window"),
        ("{}", "columns"),
    ],
)
def test_a_refused_section_says_what_to_write(columns: str, cure: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configuration(columns)
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    ("event", "cure"),
    [
        ("features: auto", "features: auto: found with `aggregate`"),
        ("features: [size]", "features: 'size' is no column of a window"),
        ("categories: [route]", "categories: 'route' is no column of a window"),
        ("when: {status: 200}", "when: 'status' is no column of a window"),
        ("derive: {x: {log: size}}", "derive.x: 'size' is no column of a window"),
    ],
)
def test_settings_name_columns_of_rows(event: str, cure: str) -> None:
    aggregate = "aggregate: {every: 1m, columns: {requests: count}}"
    with pytest.raises(ConfigError) as caught:
        parse_config(
            "source: {brokers: b, topic: t}\n"
            f"event: {{entity: service, timestamp: at, target: requests, {aggregate}, {event}}}"
        )
    assert cure in str(caught.value)


def test_limits_and_labels_know_windows() -> None:
    for more, cure in (
        ("alerts: {limits: [{column: size, above: 1}]}", "alerts.limits: 'size' is no column of a window"),
        ("labels: {topic: l, entity: service, id: i}", "labels: found with event.aggregate"),
    ):
        with pytest.raises(ConfigError) as caught:
            configuration(more=more)
        assert cure in str(caught.value)


SERVICE = "{requests: count, size: {mean: size}}"


def test_silence_is_judged_by_windows_that_have_events() -> None:
    """An empty window is no event: the alert comes as of plain events, and so do the rows of windows end."""
    config = parse_config(
        f"""
source: {{brokers: "localhost:9092", topic: requests}}
event:
  entity: service
  timestamp: at
  aggregate: {{every: 1s, grace: 0s, columns: {SERVICE}}}
  target: size
  features: [requests]
alerts: {{silence: {{after: 20s}}, anomaly: {{enabled: false}}, drift: {{enabled: false}}}}
"""
    )
    assert config.event.silence == (5 * config.alerts.anomaly.budget.events, 0.0, 20_000.0)
    rng = random.Random(2)
    documents = [
        document(f"s{i % 4}", NOON + 100 * i, rng.gauss(100.0, 5.0))
        for i in range(3_000)
        if i % 4 or not 100_000 <= 100 * i < 200_000
    ]
    engine = Engine(config)
    assert engine.rows is not None
    messages, _ = MessageReader(config.event).read(documents)
    rows = engine.rows.add(messages, list(range(len(messages))), 0)
    _, alerts = engine.process(rows.events, 0)
    assert rows.events.empty is not None
    mine = np.array(rows.events.entity) == "s0"
    assert int((mine & rows.events.empty).sum()) in (20, 21)
    began, ended = (alert.message for alert in alerts)
    assert (began["kind"], began["phase"], began["entity"]) == ("silence", "started", "s0")
    assert (ended["phase"], ended["entity"]) == ("recovered", "s0")
    assert began["since"] == NOON + 99_999, "the last window with events"
    assert 19_000 <= began["ts"] - began["since"] <= 21_000


def test_a_state_goes_on_with_another_grace() -> None:
    config, other = configuration(SERVICE), configuration(SERVICE, grace="2s")
    documents = [document(f"s{i % 3}", NOON + 30 * i, float(i)) for i in range(400)]
    engine, whole = Engine(config), Engine(config)
    reader = MessageReader(config.event)
    for start, stop in ((0, 200), (200, 400)):
        messages, _ = reader.read(documents[start:stop])
        assert engine.rows is not None
        assert whole.rows is not None
        parts = [each.rows.add(messages, list(range(start, stop)), 0) for each in (engine, whole) if each.rows]
        assert parts[0].offsets == parts[1].offsets
        predictions = [each.process(part.events, 0)[0] for each, part in zip((engine, whole), parts, strict=True)]
        assert np.array_equal(predictions[0].yhat, predictions[1].yhat)
        engine = Engine.restore(config, engine.snapshot())
    later = Engine.restore(other, engine.snapshot())
    assert later.rows is not None
    messages, _ = reader.read([document("s0", NOON + 13_500)])
    assert not later.rows.add(messages, [400], 0).offsets
    messages, _ = reader.read([document("s0", NOON + 14_000)])
    assert later.rows.add(messages, [401], 0).events.ts.tolist() == [NOON + 11_999]
    with pytest.raises(StateError, match=r"event\.aggregate\.every"):
        Engine.restore(configuration(SERVICE, every="2s"), engine.snapshot())


def test_an_entity_in_two_partitions_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    config = configuration(SERVICE)
    builder, reader = WindowBuilder(config.event), MessageReader(config.event)
    for i in range(4):
        messages, _ = reader.read([document("a", NOON + 10 * i), document("b", NOON)])
        builder.add(messages, [2 * i, 2 * i + 1], i % 2)
    (record,) = [each for each in caplog.records if "partitions" in each.message]
    assert "'a' come in partitions 0 and 1" in record.message
    assert "key the topic by the entity" in record.message
    assert builder.flush().events.target.tolist() == [2.0, 2.0, 2.0, 2.0]


def test_a_file_may_be_in_any_order_and_rows_of_partitions_are_those_of_production() -> None:
    config = configuration(SERVICE, more="state: {shards: 2}")
    rng = random.Random(9)
    documents = [document(f"s{i % 6}", NOON + 20 * i, rng.gauss(10.0, 1.0)) for i in range(3_000)]

    def rows(some: list[dict[str, Any]], partitions: int) -> list[tuple[str, int, float]]:
        engine = PartitionedEngine(config, partitions)
        return [
            (name, ts, y)
            for chunk in prequential(config, some, engine)
            for name, ts, y in zip(
                chunk.events.entity, chunk.events.ts.tolist(), chunk.events.target.tolist(), strict=True
            )
        ]

    expected = rows(documents, 1)
    assert len(expected) == 6 * 60
    assert sorted(rows(documents, 4)) == sorted(expected)
    by_entity = sorted(documents, key=lambda each: each["service"])
    assert sorted(rows(by_entity, 1)) == sorted(expected)
    backwards = sorted(documents, key=lambda each: -each["at"])
    assert sorted(rows(backwards, 1)) == sorted(expected)


def test_the_schema_has_an_example_that_is_an_event() -> None:
    columns = "{a: count, b: {share: {status: {from: 500}}}, c: {count: {route: x}}, d: {p95: t.ms}}"
    config = configuration(columns, target="a")
    example = example_event(config)
    assert example == {
        "service": "checkout", "at": "2026-01-31T12:00:00Z", "status": 500.0, "route": "x", "t": {"ms": 20.25},
    }  # fmt: skip
    schema = event_schema(config)
    Draft202012Validator(schema).validate(example)
    messages, refused = MessageReader(config.event).read([example])
    assert (len(messages), refused) == (1, [])
