"""Candidates are judged by the production learner on streams held back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.frozen_weights import Weights
from ssm_stream.training import streams
from ssm_stream.training.batches import Floats, mean_errors, new_batch
from ssm_stream.training.history import History, history_error
from ssm_stream.training.recipe import Recipe

HELD_BACK = 982_451_653  # first number of the seeds that no training stream has
HISTORY = "history"
WORSE = 2.0
"""Weight of a stream whose error has grown: what is close to its noise has nothing to gain, and should not pay."""


def loss_of(error: Floats, start: Floats) -> Floats:
    """Logarithm of the ratio of errors to those of the start, (n,); what is worse counts twice."""
    ratio: Floats = np.log(error / start)
    return np.where(ratio > 0, WORSE * ratio, ratio)


class Row(NamedTuple):
    """One line of the table: MAE in mean absolute deviations of the target, geometric mean over the streams."""

    kind: str
    streams: int
    untrained: float
    start: float
    trained: float


class Validation:
    """Streams held back, the same for every training; errors are those of the production learner."""

    def __init__(self, recipe: Recipe, histories: Sequence[History]) -> None:
        self.recipe, self.histories = recipe, histories
        kinds = streams.KINDS * recipe.held_streams
        self.batches = []
        for i, setting in enumerate(recipe.settings):
            features = recipe.features[i % len(recipe.features)]
            drawn = streams.draw((HELD_BACK, i), kinds, recipe.held_events, features, setting.entities)
            self.batches.append(new_batch(drawn, setting.entities))
        self.kinds = np.array([*(kinds * len(recipe.settings)), *([HISTORY] * len(histories))])
        names = [setting.name for setting in recipe.settings for _ in kinds]
        self.settings = np.array([*names, *([HISTORY] * len(histories))])
        targets = [y[recipe.held_burn_in :] for batch in self.batches for y in batch.y]
        targets += [each.events.target[each.split :] for each in histories]
        self.deviation = np.array([np.nanmean(np.abs(y - np.nanmedian(y))) for y in targets])
        # The user's own history counts as much as all other streams together, and each of its targets alike.
        self.share = np.full(len(self.kinds), 1.0)
        if histories:
            self.share[-len(histories) :] = (len(self.kinds) - len(histories)) / len(histories)
        self.share /= self.share.sum()

    def judge(self, weights: Weights) -> Floats:
        """(n,) mean absolute error of a candidate on each stream held back, those of the user's own history last."""
        out: list[float] = []
        for setting, batch in zip(self.recipe.settings, self.batches, strict=True):
            out += mean_errors(setting, batch, weights, self.recipe.held_burn_in).tolist()
        out += [history_error(each, weights) for each in self.histories]
        return np.array(out)

    def score(self, judged: Floats, start: Floats) -> float:
        """Geometric mean of MAE / MAE of the start, in which what is worse counts twice."""
        least = 1e-9 * self.deviation + 1e-300
        return float(np.exp((self.share * loss_of(judged + least, start + least)).sum()))

    def rows(self, plain: Floats, start: Floats, best: Floats) -> list[Row]:
        """By kind of stream, then by setting, then all."""
        relative = [(judged + 1e-300) / (self.deviation + 1e-300) for judged in (plain, start, best)]

        def row(name: str, chosen: NDArray[np.bool_]) -> Row:
            means = (float(np.exp(np.log(part[chosen]).mean())) for part in relative)
            return Row(name, int(chosen.sum()), *means)

        out = [row(kind, self.kinds == kind) for kind in streams.KINDS]
        if self.histories:
            out.append(row(HISTORY, self.kinds == HISTORY))
        out += [row(f"({setting.name})", self.settings == setting.name) for setting in self.recipe.settings]
        return [*out, row("all", np.ones(len(self.kinds), bool))]
