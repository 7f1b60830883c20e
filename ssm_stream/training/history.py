"""The user's own recording: its first part trains in stretches, the rest validates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssm_stream.config import Config
from ssm_stream.core.frozen_weights import Weights
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.target_engine import TargetInputs
from ssm_stream.ingest.events import Events
from ssm_stream.training.batches import with_weights
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
    return _mean_error(history, history.events, history.split, weights)


def stretch(recipe: Recipe, history: History, number: int) -> Events:
    """Events of the part that trains, for a round: some that follow each other and begin anywhere."""
    length = min(recipe.events, history.split)
    rng = np.random.default_rng((recipe.seed, number, len(recipe.settings)))
    first = int(rng.integers(0, history.split - length + 1))
    return history.events.take(np.arange(first, first + length))


def stretch_error(recipe: Recipe, history: History, events: Events, weights: Weights) -> float:
    """MAE of the production engine on a stretch, of which the first events do not count; NaN without a target."""
    return _mean_error(history, events, min(recipe.burn_in, len(events) // 2), weights)


def _mean_error(history: History, events: Events, first: int, weights: Weights) -> float:
    with with_weights(history.config, weights) as config:
        predictions, _ = Engine(config).process(events)
    error = np.abs(predictions.yhat - events.target)[first:]
    known = error[~np.isnan(error)]
    return float(known.mean()) if len(known) else float("nan")
