"""The recent quality of predictions whose targets come late, or that must not know the last one."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from engines import config, made

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels
from ssm_stream.ops.metrics import Metrics

if TYPE_CHECKING:
    from ssm_stream.ops.observers import LearnedBatch


class Shard:
    """As the metrics see one."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine


def process(metrics: Metrics, shard: Any, events: Events) -> None:
    """Process events, and let the metrics judge them, as a shard does."""
    predictions, _ = shard.engine.process(events)
    metrics.on_batch(shard, cast("LearnedBatch", SimpleNamespace(events=events, partition=0, predictions=predictions)))


@pytest.mark.parametrize("delay", [0, 1, 12])
def test_late_labels_are_compared_with_the_last_one_that_was_known(delay: int) -> None:
    """Two machines; every third event has a label, so many events later."""
    settings, n = config("features: [a], lags: 0", "labels: {topic: labels}\nmodel: {warmup: 20}"), 600
    metrics, rng, zero = Metrics(settings), np.random.default_rng(3), np.zeros(2, np.int64)
    shard: Any = Shard(Engine(settings))
    load = np.cumsum(rng.normal(size=(n, 2)), axis=0)
    y = 3.0 * load + 0.1 * rng.normal(size=(n, 2))
    known, then, steps = np.full(2, np.nan), np.full((n, 2), np.nan), list[float]()
    for i in range(n):
        then[i] = known
        for m in range(2):
            process(metrics, shard, made([math.nan], load[i : i + 1, m : m + 1], f"m{m}", [1000 * i]))
        if i < delay or i % 3:
            continue
        labels = Labels(["m0", "m1"], np.full(2, 1000 * (i - delay)), zero, y[i - delay], zero)
        shard.engine.learn(labels)
        metrics.on_labels(shard, labels.entity, 0)
        warm = shard.engine.resolved_predictions[0].warmup
        steps += np.abs(y[i - delay] - then[i - delay])[~warm].tolist()
        known = y[i - delay]
    assert len(steps) > 250
    found = metrics.quality["target"].read().persistence
    assert found == pytest.approx(float(np.nanmean(steps)), rel=0.03), "the later ones count for a little more"


def test_a_label_with_its_event_is_known_from_the_next_one_on() -> None:
    settings = config("features: [a], lags: 0", "labels: {topic: labels}\nmodel: {warmup: 20}")
    metrics, y = Metrics(settings), 3.0 * np.arange(400)
    process(metrics, Shard(Engine(settings)), made(y, np.zeros((400, 1)), "m"))
    assert metrics.quality["target"].read().persistence == pytest.approx(3.0)


def test_a_prediction_ahead_is_compared_with_the_target_of_its_own_event() -> None:
    settings = config("features: [a]", "model: {horizon: 5 events, warmup: 20}")
    metrics = Metrics(settings)
    process(metrics, Shard(Engine(settings)), made(np.arange(400.0), np.zeros((400, 1)), "m"))
    assert metrics.quality["target"].read().persistence == pytest.approx(5.0), "not 1"


def test_a_soft_sensor_is_not_compared_with_a_target_that_it_must_not_know() -> None:
    settings = config("features: [a], lags: 0", "model: {warmup: 20}")
    metrics, load = Metrics(settings), np.random.default_rng(3).normal(size=(400, 1))
    process(metrics, Shard(Engine(settings)), made(load[:, 0], load, "m"))
    found = metrics.quality["target"].read()
    assert found.mae >= 0.0
    assert math.isnan(found.persistence), "so neither the rule nor the chart has anything to compare"


def test_a_fleet_that_is_large_is_remembered_in_part() -> None:
    settings = config("features: [a], lags: 0", "labels: {topic: labels}\nmodel: {warmup: 10}")
    metrics, names = Metrics(settings), [f"m{i}" for i in range(3000)]
    shard: Any = Shard(Engine(settings))
    for i in range(15):
        process(metrics, shard, made(np.full(3000, float(i)), np.zeros((3000, 1)), names, np.full(3000, 1000 * i)))
    quality = metrics.quality["target"]
    assert quality.read().persistence == pytest.approx(1.0)
    assert len(quality._known._of) == 1000
