"""The share of events inside episodes and the longest one: as a plain count over alerts gives them, and in metrics."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from engines import config, cut
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_fleet_alerts import LIVELY, reported_often, struck  # noqa: F401  # the fixture

from ssm_stream.config import Config
from ssm_stream.core import lifecycle
from ssm_stream.core.lifecycle import KINDS
from ssm_stream.engine.counts.episode_tally import EpisodeFigures, open_episodes
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.entity_report import episode_figures
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.episode_shares import EpisodeShares
from ssm_stream.ingest.events import Events
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import LearnedBatch
from ssm_stream.ui.process_stats import ProcessStats

APART = LIVELY.replace("alerts:\n", "alerts:\n  fleet: {enabled: false}\n")
SECTIONS = {
    "": APART,
    "gaps": APART.replace("100 events", "100m") + "state: {ttl: 2h}\n",
    "limit": APART + "state: {max_entities: 7, when_full: evict}\n",
    "horizon": APART.replace("warmup: 10", "warmup: 10, horizon: 2"),
    "hold": APART.replace("cooldown: 0", "learn: hold, cooldown: 0"),
    "targets": APART,
}


def made(case: str) -> Config:
    return config("features: [a, b]" + (", target: [y, z]" if case == "targets" else ""), SECTIONS[case])


def stream(case: str, n: int = 2500) -> Events:
    events = struck(n, gaps=case == "gaps")
    if case == "targets":
        return replace(events, target=np.stack([events.target, np.roll(events.target, 1)], 1))
    return events


class Counted:
    """The lengths of episodes of one target, event by event from the state's own flags."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], int] = defaultdict(int)
        self.done: list[tuple[str, str, int]] = []

    def event(self, entity: str, states: NDArray[np.float64], fresh: bool, labelled: bool) -> None:
        """After an event. states: flags of its episodes; fresh: the entity started afresh at it"""
        for kind, is_open in zip(KINDS, states.tolist(), strict=True):
            key = (entity, kind)
            was = key in self.open
            if fresh and was:
                self.done.append((*key, self.open.pop(key)))
                was = False
            if labelled and (is_open or was):
                self.open[key] += 1
            if was and not is_open and labelled:
                self.done.append((*key, self.open.pop(key)))

    @property
    def all(self) -> list[tuple[str, str, int]]:
        return sorted([*self.done, *((*key, n) for key, n in self.open.items())])


@pytest.mark.parametrize("case", sorted(SECTIONS))
def test_every_episode_is_counted_with_its_events(case: str) -> None:
    events, engine = stream(case), Engine(made(case))
    ended: list[list[tuple[str, str, int]]] = [[] for _ in engine.target_engines]
    counts = [Counted() for _ in engine.target_engines]
    for each, out in zip(engine.target_engines, ended, strict=True):
        each.store.tally.on_end = lambda *episode, out=out: out.append(episode)
    for row in range(len(events)):
        one = engine.admit(cut(events, row, row + 1))[0]
        engine.process(one)
        for j, (each, count) in enumerate(zip(engine.target_engines, counts, strict=True)):
            store = each.store
            for name in (reset.entity for reset in store.reset_entities):
                if name != one.entity[0] or name not in store:
                    count.event(name, np.zeros(2), fresh=True, labelled=False)
            name = one.entity[0]
            fresh = any(reset.entity == name for reset in store.reset_entities)
            y = one.target[0] if one.target.ndim == 1 else one.target[0, j]
            labelled = len(each.resolved.item) > 0 if each.delayed is not None else bool(y == y)
            states = store.state.lifecycle.number[store.row_by_name[name], :, lifecycle.OPEN]
            count.event(name, states, fresh, labelled)
    for each, out, count in zip(engine.target_engines, ended, counts, strict=True):
        found = sorted([*out, *open_episodes(each.store.state, each.store.names)])
        assert found == count.all
        assert len(found) >= 3
        if case in ("gaps", "limit"):
            assert engine.pop_evicted_count() > 0


@pytest.mark.parametrize("case", ["", "targets", "gaps"])
def test_figures_of_an_engine_do_not_depend_on_batches_or_a_restart(case: str) -> None:
    events, whole = stream(case), Engine(made(case))
    whole.process(events)
    parts, engine = dict.fromkeys(KINDS, 0), Engine(made(case))
    for start, stop in pairwise([0, 700, 1400, 2500]):
        engine.process(cut(events, start, stop))
        if case != "targets":  # of several, the figures are those of the target with the most
            for kind in KINDS:
                parts[kind] += episode_figures(engine, kind).events
        found = {kind: episode_figures(engine, kind) for kind in KINDS}
        engine = Engine.restore(engine.config, engine.snapshot())
        assert {kind: episode_figures(engine, kind)[2:] for kind in KINDS} == {k: f[2:] for k, f in found.items()}
        assert {episode_figures(engine, kind).events for kind in KINDS} == {0}, "they count from the start of a process"
    for kind in KINDS:
        figures = episode_figures(whole, kind)
        assert figures.longest >= figures.open_events
        if case == "":
            assert parts[kind] == figures.events
            assert figures.events or kind == "drift"


def test_an_open_episode_is_measured_in_events_and_in_time() -> None:
    engine = Engine(
        config(
            "features: [a, b]",
            "alerts: {anomaly: {recover_after: 100000}, drift: {enabled: false}}\nmodel: {warmup: 50}\n",
        )
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    y = x @ [2.0, -1.0] + 0.1 * rng.normal(size=400)
    y[300] += 100
    engine.process(Events(["m"] * 400, np.arange(400) * 60_000, x, y, np.arange(400)))
    assert episode_figures(engine, "anomaly") == EpisodeFigures(100, 100, 100, 99 * 60.0)
    for each in engine.target_engines:
        each.store.end_episodes("anomaly")
    assert episode_figures(engine, "anomaly") == EpisodeFigures(100, 100, 0, 0.0)


# A backtest.


def documents(events: Events, targets: int = 1) -> list[dict[str, Any]]:
    y = events.target.reshape(len(events), targets)
    return [
        {"e": name, "t": t / 1000, "a": a, "b": b}
        | dict(zip(["target"] if targets == 1 else ["y", "z"], [None if v != v else v for v in own], strict=True))
        for name, t, (a, b), own in zip(
            events.entity, events.ts.tolist(), events.features.tolist(), y.tolist(), strict=True
        )
    ]


@settings(max_examples=10)
@given(st.integers(0, 100), st.integers(1, 5))
def test_a_backtest_shows_the_shares_of_the_messages_it_writes(seed: int, partitions: int) -> None:
    rows, lengths = documents(struck(2500, seed)), defaultdict[tuple[str, str], list[int]](list)
    position, open_ = defaultdict[str, int](int), dict[tuple[str, str], int]()
    at = [0]

    def on_chunk(chunk: Any) -> None:
        alerts = defaultdict(list)
        for alert in chunk.alerts:
            alerts[alert.row].append(alert.message)
        for i, (name, y) in enumerate(zip(chunk.events.entity, chunk.events.target.tolist(), strict=True)):
            if y != y:
                continue
            position[name] += 1
            for m in alerts[i]:
                key = (m["entity"], m["kind"])
                if m["phase"] == "started":
                    open_[key] = position[name]
                elif m["phase"] == "recovered":
                    lengths[key].append(position[name] - open_.pop(key) + 1)
        at[0] += len(chunk.events)

    result = backtest(made(""), rows, on_chunk, partitions=partitions)
    for (name, kind), start in open_.items():
        lengths[name, kind].append(position[name] - start + 1)
    for kind in KINDS:
        mine = {name: found for (name, of), found in lengths.items() if of == kind}
        total = sum(map(sum, mine.values()))
        assert result[f"{kind}_share"] == pytest.approx(total / sum(position.values()))
        assert result[f"{kind}_longest"] == max((max(found) for found in mine.values()), default=0)
        for name, metrics in result["by_entity"].items():
            assert metrics[f"{kind}_share"] == pytest.approx(sum(mine.get(name, [])) / position[name])
            assert metrics[f"{kind}_longest"] == max(mine.get(name, [0]))
    assert result["anomaly_longest_entity"] in result["by_entity"]
    assert sum(pool["entities"] for pool in result["pools"]) == result["entities"]


def test_several_targets_have_shares_of_their_own_and_in_all() -> None:
    result = backtest(made("targets"), documents(stream("targets"), 2))
    by_target = result["by_target"]
    for kind in KINDS:
        shares = [by_target[path][f"{kind}_share"] for path in "yz"]
        assert min(shares) <= result[f"{kind}_share"] <= max(shares)
        assert result[f"{kind}_longest"] == max(by_target[path][f"{kind}_longest"] for path in "yz")
    assert result["by_entity"]["m0"]["by_target"]["y"].keys() >= {"anomaly_share", "drift_longest"}


def test_without_an_engine_there_are_no_episodes() -> None:
    shares = EpisodeShares(None)
    shares.add(["m"], np.array([1.0]))
    shares.finish()
    assert shares.figures() == {"anomaly_share": 0.0, "anomaly_longest": 0, "drift_share": 0.0, "drift_longest": 0}
    assert shares.longest_entity("anomaly") is None


# A running process.


class Shard:
    """As observers see one."""

    key = "0000"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine


@pytest.mark.parametrize("case", ["", "horizon", "targets"])
def test_metrics_and_the_live_page_have_the_figures_of_the_engine(case: str) -> None:
    settings_, events = made(case), stream(case)
    metrics, shard = Metrics(settings_), Shard(Engine(settings_))
    metrics.register_shard(shard)
    for start, stop in pairwise([0, 900, 2500]):
        part = cut(events, start, stop)
        predictions, _ = shard.engine.process(part)
        metrics.on_batch(shard, LearnedBatch(0, part, predictions, start, stop - 1))
    missing = np.isnan(events.target.reshape(2500, -1)).all(axis=1)
    labelled = metrics.value("ssm_stream_labelled_events_total")
    assert labelled == pytest.approx(2500 - missing.sum(), rel=0.02 if case == "horizon" else 1e-9)
    shown = {each["kind"]: each for each in ProcessStats(metrics, "events").read()["episodes"]}
    for kind in KINDS:
        figures = episode_figures(shard.engine, kind)
        assert metrics.value("ssm_stream_episode_events_total", kind=kind) == figures.events
        assert metrics.value("ssm_stream_episode_longest_events", kind=kind) == figures.open_events
        assert metrics.value("ssm_stream_episode_longest_seconds", kind=kind) == figures.open_seconds
        assert shown[kind]["share"] == pytest.approx(figures.events / labelled)
        assert shown[kind]["longest"] == figures.longest
