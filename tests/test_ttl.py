"""Entities past their time to live start afresh, whether a snapshot has removed them or not."""

from __future__ import annotations

import numpy as np
import pytest
from engines import ALONE, DAY, HOUR, PAST, assert_same_bits, config, cut, linear, made, run
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream.engine.engine import Engine

TTL = config(sections="state: {ttl: 1d}")
TTL_ALONE = config(sections=f"state: {{ttl: 1d}}\n{ALONE}")


@pytest.mark.parametrize("event", ["features: [a, b]", PAST])
def test_an_entity_without_events_for_longer_than_its_ttl_starts_afresh(event: str) -> None:
    features, y = linear(400)
    settings_ = config(event, f"state: {{ttl: 1d}}\n{ALONE}")
    engine = Engine(settings_)
    run(engine, made(y, features, "old"))
    run(engine, made(np.zeros(200), entity="clock", ts=np.arange(200) * HOUR))
    again, _ = run(engine, made(y, features, "old", np.arange(400) * 1000 + 200 * HOUR))
    fresh, _ = run(Engine(settings_), made(y, features, "old", np.arange(400) * 1000 + 200 * HOUR))
    assert_same_bits(again, fresh)


def test_an_evicted_entity_is_to_the_fleet_as_a_new_one() -> None:
    """Its own is gone, what it taught the others stays: the same bits as another's first event."""
    features, y = linear(400)
    results = []
    for name in ("old", "new"):
        engine = Engine(TTL)
        run(engine, made(y, features, ["old", "other"] * 200))
        run(engine, made(np.zeros(200), entity="other", ts=np.arange(200) * HOUR))
        results.append(run(engine, made(y, features, name, np.arange(400) * 1000 + 200 * HOUR))[0])
    assert results[0]["n"][0] == 0
    assert results[0]["fleet"][0] > 0.5
    assert_same_bits(*results)


def test_an_entity_without_events_for_less_than_its_ttl_is_kept() -> None:
    engine = Engine(TTL)
    run(engine, made(np.zeros(50), entity="old"))
    run(engine, made(np.zeros(90), entity="clock", ts=np.arange(90) * DAY / 100))
    predicted, _ = run(engine, made([0.0], entity="old", ts=[0.9 * DAY]))
    assert predicted["n"].tolist() == [50]


def test_without_ttl_no_entity_is_evicted() -> None:
    engine = Engine(config(sections="state: {ttl: null}"))
    run(engine, made(np.zeros(50), entity="old"))
    run(engine, made(np.zeros(200), entity="clock", ts=np.arange(200) * 365 * DAY))
    engine.snapshot()
    assert run(engine, made([0.0], entity="old", ts=[200 * 365 * DAY]))[0]["n"].tolist() == [50]


def test_a_snapshot_frees_expired_entities() -> None:
    engine = Engine(TTL)
    run(engine, made(np.zeros(100), entity=[f"old{i}" for i in range(100)]))
    run(engine, made(np.zeros(200), entity="clock", ts=np.arange(200) * HOUR))
    assert len(engine) == 101
    state = engine.snapshot()
    assert len(engine) == len(Engine.restore(TTL, state)) == 1


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 400), max_size=6))
def test_evicted_at_a_snapshot_or_not_the_results_are_the_same(seed: int, points: list[int]) -> None:
    """Gaps near the TTL, in two partitions: whether a snapshot falls in between must not show."""
    rng = np.random.default_rng(seed)
    n = 400
    ts = np.cumsum(rng.choice([60_000, HOUR, 12 * HOUR, 30 * HOUR], n, p=[0.6, 0.3, 0.08, 0.02]))
    number = (rng.random(n) ** 3 * 12).astype(int)
    events = made(rng.normal(size=n), entity=[f"m{i}" for i in number], ts=ts)
    sources = number % 2

    kept = TTL if seed % 2 else TTL_ALONE

    def results(snapshot_at: set[int]) -> tuple[list[tuple[float, ...]], dict[str, str]]:
        engine, out = Engine(kept), []
        for i in range(n):
            if i in snapshot_at:
                engine = Engine.restore(kept, engine.snapshot())
            p, _ = engine.process(cut(events, i, i + 1), int(sources[i]))
            out.append((p.yhat[0], p.lower[0], p.score[0], p.n[0]))
        engine.snapshot()
        return out, {name: engine.state_hash(name, int(name[1:]) % 2) for name in engine.names}

    assert results(set(points)) == results(set())


def test_one_event_with_a_clock_far_ahead_does_not_evict_the_fleet() -> None:
    names = [f"m{i}" for i in range(50)]
    engine = Engine(TTL)
    for minute in range(20):
        run(engine, made(np.ones(50), entity=names, ts=np.full(50, minute * 60_000)))
    run(engine, made([1.0], entity="m7", ts=[100 * 365 * DAY]))
    engine.snapshot()
    assert len(engine) == 50
    predicted, _ = run(engine, made(np.ones(50), entity=names, ts=np.full(50, 21 * 60_000)))
    assert predicted["n"].tolist() == [21 if name == "m7" else 20 for name in names]


def test_each_partition_has_a_time_of_its_own() -> None:
    """A partition that lags by weeks keeps its entities while another runs ahead."""
    engine = Engine(TTL)
    engine.process(made(np.zeros(50), entity="slow"), source=0)
    engine.process(made(np.zeros(500), entity="fast", ts=np.arange(500) * HOUR), source=1)
    engine.snapshot()
    predictions, _ = engine.process(made([0.0], entity="slow", ts=[60_000]), source=0)
    assert predictions.n.tolist() == [50]
