"""Which input of a former plan each input of the present one was, and arrays mapped so along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.config.input_changes import input_settings, redefined
from ssm_stream.core.features import FeaturePlan
from ssm_stream.core.shapes import LearnerParams

NEW = -1
"""In place of the former index: the input is new."""
Indices = NDArray[np.int64]


class InputMap(NamedTuple):
    """For each input of the present plan, its index in the former one, or NEW.

    old, new: sizes of the learner, with the same number of code slots
    numbers (F,), features (features,), categories (categories,), coded (Q,): of the inputs
    removed: former indices of coded columns that are gone
    """

    old: LearnerParams
    new: LearnerParams
    numbers: Indices
    features: Indices
    categories: Indices
    coded: Indices
    removed: Indices

    @property
    def same_numbers(self) -> bool:
        """Whether the numeric inputs are the same, in the same order."""
        return self.old.F == self.new.F and bool((self.numbers == np.arange(self.new.F)).all())

    @property
    def none_kept(self) -> bool:
        """Whether there were features or categories, and none of them is left."""
        had = self.old.features + self.old.categories > 0
        return had and bool((self.features == NEW).all() and (self.categories == NEW).all())

    def place_of_feature(self, former: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return places of features, counted from 1 and with a sign, as they are now; 0 for one that is gone."""
        now = np.zeros(self.old.features + 1)
        kept = np.flatnonzero(self.features != NEW)
        now[self.features[kept] + 1] = kept + 1
        return np.sign(former) * now[np.abs(former).astype(np.int64)]

    @property
    def fleet(self) -> Indices:
        """Inputs (L,) of the fleet and entity scope: the constant, the numbers, the slots of codes."""
        return np.concatenate([[0], _shifted(self.numbers, 1), 1 + self.old.F + np.arange(self.old.K)])

    @property
    def norm(self) -> Indices:
        """Inputs (N,) of the norm scope."""
        F = self.old.F
        slots = 1 + 2 * F + np.arange(self.old.K)
        return np.concatenate([[0], _shifted(self.numbers, 1), _shifted(self.numbers, 1 + F), slots])


def input_map(former: tuple[Config, FeaturePlan, LearnerParams], plan: FeaturePlan, new: LearnerParams,
              config: Config) -> InputMap:  # fmt: skip
    """Return the map of one target. former: its configuration, plan and sizes; plan, new, config: the present ones"""
    was, before, old = former
    settings = [input_settings(each.model_settings["event"]) for each in (was, config)]
    changed = {name for name in plan.features if name in redefined(*settings)}
    before, after = _tagged(before, set()), _tagged(plan, changed)
    return InputMap(
        old, new, _places(before.numbers, after.numbers), _places(before.features, after.features),
        _places(before.categories, after.categories), _places(before.coded, after.coded),
        np.array([i for i, name in enumerate(before.coded) if name not in after.coded], np.int64),
    )  # fmt: skip


def _tagged(plan: FeaturePlan, changed: set[str]) -> FeaturePlan:
    """Return a plan whose names differ by the kind of input. changed: features that are no longer what they were"""
    features = tuple(f"{'changed' if name in changed else 'feature'} {name}" for name in plan.features)
    return plan._replace(features=features, categories=tuple(f"category {name}" for name in plan.categories))


def _places(before: Sequence[str], after: Sequence[str]) -> Indices:
    places = {name: i for i, name in enumerate(before)}
    return np.array([places.get(name, NEW) for name in after], np.int64)


def _shifted(places: Indices, by: int) -> Indices:
    return np.where(places == NEW, NEW, places + by)


def removed_inputs(places: Indices, count: int) -> Indices:
    """Return which of `count` former inputs are gone."""
    return np.setdiff1d(np.arange(count), places)


def take(array: NDArray[Any], places: Indices, axis: int, fill: float = 0.0) -> NDArray[Any]:
    """Return an array mapped along an axis: a new input gets `fill`. Beyond `places`, the array is left out."""
    before = np.moveaxis(array, axis, 0)
    out = np.full((len(places), *before.shape[1:]), fill, array.dtype)
    known = places != NEW
    out[known] = before[places[known]]
    return np.moveaxis(out, 0, axis)


def widen(array: NDArray[Any], width: int) -> NDArray[Any]:
    """Return an array whose last axis is filled up with zeros to so many numbers."""
    out = np.zeros((*array.shape[:-1], width), array.dtype)
    out[..., : array.shape[-1]] = array
    return out
