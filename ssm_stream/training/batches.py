"""Batches of streams, the production kernel's predictions for them, and the learner's loss on them."""

from __future__ import annotations

from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssm_stream.core import kernel, shapes
from ssm_stream.core.features import FeaturePlan
from ssm_stream.core.frozen_weights import Weights
from ssm_stream.core.shapes import Heads, Learner, LearnerParams
from ssm_stream.reference import learner
from ssm_stream.reference.state import Meta
from ssm_stream.training import streams
from ssm_stream.training.recipe import Recipe, Setting

Floats = NDArray[np.float64]
T_ = TypeVar("T_")
ERROR_CLIP = 5.0  # of a stream's usual error: what one event may cost


class Batch(NamedTuple):
    """B streams of T events: e, y, ts (B, T); u (B, T, C); steps (B, T, 2) hour and weekday. E entities a pool."""

    e: NDArray[np.int64]
    u: Floats
    y: Floats
    ts: Floats
    steps: NDArray[np.int64]
    entities: int


def feature_plan(setting: Setting, features: int) -> FeaturePlan:
    """The inputs of a setting with so many numeric features."""
    names = tuple(f"x{i}" for i in range(features))
    return FeaturePlan(names, lags=setting.lags, differences=setting.lags > 0)


def setting_params(setting: Setting, features: int, weights: Weights, wide: bool = False) -> LearnerParams:
    """The learner's sizes and constants in a setting. wide: with the attention of validation"""
    window = setting.wide if wide else setting.window
    return shapes.learner_params(feature_plan(setting, features), weights, Heads(attention=window))


def new_batch(drawn: streams.Streams, entities: int) -> Batch:
    """The streams as a batch, without a calendar."""
    return Batch(drawn.e, drawn.x, drawn.y, drawn.ts, np.zeros((*drawn.y.shape, 2), np.int64), entities)


def training_batch(recipe: Recipe, number: int, setting: int) -> Batch:
    """Streams of a round and a setting."""
    seed = (recipe.seed, number, setting)
    kinds = streams.kinds_for((*seed, 1), recipe.streams)
    entities = recipe.settings[setting].entities
    return new_batch(streams.draw((*seed, 2), kinds, recipe.events, recipe.features, entities), entities)


def predict_with_kernel(p: LearnerParams, batch: Batch) -> Floats:
    """Predictions (B, T) of the production kernel, each stream a pool of its own."""
    B, T = batch.y.shape
    E = batch.entities
    state = Learner(
        shapes.new_entities(p, B * E),
        shapes.new_pools(p, B),
        shapes.new_heads(p, B, p.L),
        shapes.new_heads(p, B if E > 1 else 0, p.N),
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


def usual_error(error: Floats, burn_in: int) -> Floats:
    """(B,) usual error of the start: mean of |error| (B, T), of which each counts for at most ERROR_CLIP medians."""
    late = np.abs(error)[:, burn_in:]
    most = ERROR_CLIP * np.nanmedian(late, 1, keepdims=True)
    mean: Floats = np.nanmean(np.minimum(late, np.where(most > 0, most, np.inf)), 1)
    return mean


def _event(batch: Batch, t: int) -> learner.Event:
    e, u, steps, ts = (torch.from_numpy(part[:, t]) for part in (batch.e, batch.u, batch.steps, batch.ts))
    return learner.Event(e, u, steps, ts)


def detach(part: T_) -> T_:
    """The state without the graph of the gradient."""
    if isinstance(part, Tensor):
        return cast(T_, part.detach())
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return cast(T_, type(part)(*map(detach, part)))
    return part


def chunk_loss(
    p: LearnerParams, meta: Meta, state: learner.State, batch: Batch, unit: Floats, events: range, burn_in: int
) -> tuple[Tensor, learner.State]:
    """Mean over streams and events of min(|error| / unit, ERROR_CLIP), and the state after.

    unit (B,): a stream's usual error, so that every stream counts alike
    """
    scale = torch.from_numpy(np.where(unit > 0, unit, 1.0))
    total, count = torch.zeros((), dtype=torch.float64), 0
    for t in events:
        event, y = _event(batch, t), torch.from_numpy(batch.y[:, t])
        answer = learner.predict(p, meta, state, event)
        if t >= burn_in:
            known = ~y.isnan()
            error = (answer.yhat - torch.where(known, y, 0.0)).abs() / scale
            total = total + torch.where(known, error.clamp_max(ERROR_CLIP), 0.0).sum()
            count += int(known.sum())
        state = learner.learn(p, meta, state, event, answer, y)
    return total / max(count, 1), state
