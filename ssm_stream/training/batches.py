"""Batches of streams, and what the production learner predicts for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core import kernel, shapes
from ssm_stream.core.features import FeaturePlan, calendar_columns
from ssm_stream.core.frozen_weights import Weights, save
from ssm_stream.core.shapes import Heads, Learner, LearnerParams
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.prequential import with_row_labels
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels
from ssm_stream.training import streams
from ssm_stream.training.recipe import Recipe, Setting

Floats = NDArray[np.float64]
CALENDAR = ("auto",)
CODES = 64  # slots of the calendar's codes: 24 hours, 7 weekdays, and inputs that are codes by chance
AT_ONCE = 0.5  # of the delay: so many events are predicted between two times at which labels come


class Batch(NamedTuple):
    """B streams of T events: e, y, ts (B, T); u (B, T, C); steps (B, T, 2) hour and weekday. E entities a pool."""

    e: NDArray[np.int64]
    u: Floats
    y: Floats
    ts: Floats
    steps: NDArray[np.int64]
    entities: int


def feature_plan(setting: Setting, features: int) -> FeaturePlan:
    """The inputs of a setting with so many numeric features; the calendar is the default's."""
    names = tuple(f"x{i}" for i in range(features))
    return FeaturePlan(names, calendar=CALENDAR, lags=setting.lags, differences=True)


def setting_params(setting: Setting, features: int, weights: Weights) -> LearnerParams:
    """The learner's sizes and constants in a setting."""
    return shapes.learner_params(feature_plan(setting, features), weights, Heads(), K=CODES)


def new_batch(drawn: streams.Streams, entities: int) -> Batch:
    """The streams as a batch."""
    steps = np.stack([calendar_columns(FeaturePlan(()), ts.astype(np.int64))[1] for ts in drawn.ts])
    return Batch(drawn.e, drawn.x, drawn.y, drawn.ts, steps, entities)


def training_batch(recipe: Recipe, number: int, setting: int) -> Batch:
    """A stream of each kind, for a round and a setting."""
    features = recipe.features[(number + setting) % len(recipe.features)]
    entities = recipe.settings[setting].entities
    seed = (recipe.seed, number, setting)
    return new_batch(streams.draw(seed, streams.KINDS, recipe.events, features, entities), entities)


def predict(setting: Setting, batch: Batch, weights: Weights) -> Floats:
    """Predictions (B, T) of the production learner in a setting, each stream a pool of its own."""
    if setting.delay:
        return _predict_late(setting, batch, weights)
    return predict_with_kernel(setting_params(setting, batch.u.shape[2], weights), batch)


def mean_errors(setting: Setting, batch: Batch, weights: Weights, burn_in: int) -> Floats:
    """(B,) mean absolute errors after the first events, as many more of which do not count as labels are late."""
    error: Floats = np.abs(predict(setting, batch, weights) - batch.y)[:, burn_in + setting.delay :].mean(1)
    return error


def predict_with_kernel(p: LearnerParams, batch: Batch) -> Floats:
    """Predictions (B, T) of the production kernel, each stream a pool of its own, each target known at once."""
    B, T = batch.y.shape
    E = batch.entities
    state = Learner(
        shapes.new_entities(p, B * E),
        shapes.new_pools(p, B),
        shapes.new_heads(p, B, "fleet"),
        shapes.new_heads(p, B if E > 1 else 0, "norm"),
    )
    pools = np.repeat(np.arange(B), T)
    out = np.empty(B * T)
    at, need = kernel.run(
        p, state, shapes.new_scratch(p), pools, pools * E + batch.e.ravel(), batch.u.reshape(B * T, -1),
        batch.steps.reshape(B * T, 2), batch.ts.ravel(), batch.y.ravel(), 0, out,
    )  # fmt: skip
    if need != kernel.ENOUGH:
        raise AssertionError(f"the kernel stopped at event {at}: the arrays were made too small")
    return out.reshape(B, T)


def _late_config(setting: Setting, features: int) -> Config:
    """A flow whose labels come by themselves, each entity a pool, without alerts."""
    columns = {"entity": "stream", "timestamp": "ts", "target": "y", "features": [f"x{i}" for i in range(features)]}
    sections = {
        "source": {"brokers": "localhost:9092", "topic": "streams"},
        "event": {**columns, "lags": setting.lags},
        "model": {"fleet": False},
        "alerts": {"anomaly": {"enabled": False}, "drift": {"enabled": False}},
    }
    return with_row_labels(Config.model_validate(sections))


def _predict_late(setting: Setting, batch: Batch, weights: Weights) -> Floats:
    """Predictions (B, T) of the production engine, the streams side by side.

    Some events of each stream are predicted at once, then labels are learned, so that each is at least the delay late.
    """
    B, T = batch.y.shape
    with with_weights(_late_config(setting, batch.u.shape[2]), weights) as config:
        engine = PartitionedEngine(config)
    names, width = np.array([f"s{b}" for b in range(B)]), max(int(AT_ONCE * setting.delay), 1)
    order = np.arange(B * T).reshape(T, B)  # rows of the topic: the first event of every stream, then the second
    columns = batch.u.transpose(1, 0, 2).reshape(B * T, -1)
    ts, y = batch.ts.T.ravel().astype(np.int64), batch.y.T.ravel()
    out = np.empty(B * T)
    for first in range(0, T, width):
        rows = order[first : first + width].ravel()
        missing = np.full(len(rows), np.nan)
        events = Events(names[rows % B].tolist(), ts[rows], columns[rows], missing, rows, key=rows)
        out[rows] = engine.process(events, 0, EventIds("streams", 0, rows.tolist()))[0].yhat
        known = order[max(first - setting.delay, 0) : max(first - setting.delay + width, 0)].ravel()
        if len(known):
            zero = np.zeros(len(known), np.int64)
            labels = Labels(names[known % B].tolist(), zero, known, y[known], zero)
            engine.learn(labels, 0, EventIds("streams", 0, known.tolist()))
    return out.reshape(T, B).T


@contextmanager
def with_weights(config: Config, weights: Weights) -> Iterator[Config]:
    """The configuration with other frozen weights: in a file, which engines read when they are made."""
    with tempfile.TemporaryDirectory(prefix="ssm-stream-") as folder:
        path = Path(folder) / "candidate.safetensors"
        save(weights, path, {})
        yield config.replace(model=config.model.model_copy(update={"weights": path}))
