"""The user's own recording: its first part trains in stretches, the rest validates."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssm_stream.config import Config
from ssm_stream.core import shapes
from ssm_stream.core.features import calendar_columns
from ssm_stream.core.frozen_weights import Weights, save
from ssm_stream.core.shapes import PLAIN, Heads
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.target_engine import TargetInputs
from ssm_stream.ingest.events import Events
from ssm_stream.training.batches import Batch, Floats, usual_error
from ssm_stream.training.recipe import Recipe, TrainingError

TRAINED_SHARE = 0.7
MIN_LABELLED = 100  # events with a target that either part of a history needs


class History(NamedTuple):
    """The user's own recording, with one target: the first `split` events train, the others validate."""

    config: Config
    events: Events
    split: int


def target_histories(config: Config, events: Events, chosen: Sequence[str]) -> tuple[list[History], list[str]]:
    """Return a history for each chosen target, as its engine has it, and the targets with too few events.

    Raises:
        TrainingError: too few events of each of them.
    """
    inputs, found, short = TargetInputs(config.event), list[History](), list[str]()
    for j, path in enumerate(config.event.targets):
        if path not in chosen:
            continue
        try:
            found.append(split_history(config.for_target(path), inputs.select(j, events)))
        except TrainingError:
            if path == chosen[-1] and not found:
                raise
            short.append(path)
    return found, short


def split_history(config: Config, events: Events) -> History:
    """The first 70 % of the events train, the rest validate.

    Raises:
        TrainingError: too few events with a target.
    """
    split = int(TRAINED_SHARE * len(events))
    known = np.isfinite(events.target)
    if known[:split].sum() < MIN_LABELLED or known[split:].sum() < MIN_LABELLED:
        found = f"{int(known[:split].sum())} and {int(known[split:].sum())}"
        raise TrainingError(
            f"history: {found} events with a target in the parts that train and validate; each needs {MIN_LABELLED}"
        )
    return History(config, events, split)


def history_error(history: History, weights: Weights) -> float:
    """MAE of the production engine on the part of the history that validates, after it has learned the rest."""
    with tempfile.TemporaryDirectory(prefix="ssm-stream-") as folder:
        path = Path(folder) / "candidate.safetensors"
        save(weights, path, {})
        model = history.config.model.model_copy(update={"weights": path})
        engine = Engine(history.config.replace(model=model))
    predictions, _ = engine.process(history.events)
    error = np.abs(predictions.yhat - history.events.target)[history.split :]
    return float(np.nanmean(error))


class Stretches:
    """The part of the user's own history that trains, as streams: stretches of it that begin anywhere."""

    def __init__(self, recipe: Recipe, history: History, start: Weights) -> None:
        config, model, split = history.config, history.config.model, history.split
        engine = Engine(config)
        events = history.events
        first = events.take(np.arange(split))
        self.error = engine.process(first)[0].yhat - first.target
        cycles, self.steps = calendar_columns(engine.plan, first.ts)
        self.u = np.hstack([first.features, cycles])
        self.first, self.fleet, self.recipe = first, model.fleet, recipe
        self.length = min(recipe.events, split)
        tuned = model.tuned
        names = tuned.heads or ["moments", "products", "proximal", "embedding", "fern"]
        attends = "attention" in names or (tuned.heads is None and model.profile == "accurate")
        heads = Heads(
            "moments" in names, "products" in names, "proximal" in names, "embedding" in names, "fern" in names,
            PLAIN if attends else 0, "gd" in names, tuned.log_space, tuned.gate == "learned",
            tuned.gate == "heads",
        )  # fmt: skip
        lives = tuned.half_lives
        half_lives = tuple((life.events, life.seconds) for life in lives) if lives else None
        self.p = shapes.learner_params(engine.plan, start, heads, half_lives, engine.params.K)

    def batch(self, number: int) -> tuple[Batch, Floats]:
        """Streams of a round, and their usual errors (B,)."""
        recipe, first, length = self.recipe, self.first, self.length
        rng = np.random.default_rng((recipe.seed, number, len(recipe.settings)))
        rows = max(1, min(recipe.streams // 3, len(first.target) // length))
        at = rng.integers(0, len(first.target) - length + 1, rows)[:, None] + np.arange(length)
        e = np.zeros(at.shape, np.int64)
        for b in range(rows if self.fleet else 0):
            known: dict[str, int] = {}
            e[b] = [known.setdefault(first.entity[i], len(known)) for i in at[b].tolist()]
        batch = Batch(e, self.u[at], first.target[at], first.ts[at].astype(float), self.steps[at], int(e.max()) + 1)
        return batch, usual_error(self.error[at], recipe.burn_in)
