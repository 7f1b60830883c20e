"""Maps the learner's arrays of entities and pools to other inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.shapes import PART_SUMS, RESPONSE, RESTING, VALUES, LearnerParams
from ssm_stream.engine.input_changes.input_map import NEW, Indices, InputMap, take, widen

Array = NDArray[Any]
GATES = ("stack_", "regret", "hour_", "level_", "difference_", "view", "top", "band", "carry")
"""Prefixes of arrays of the gates that pools have, and of what is judged by their answers: dead band, corrections."""
EVENTS_KEPT = 30.0
"""Events that moments count for at most once there are inputs that explain much of the errors before."""
BY_NUMBER = ("v_mean", "v_var", "v_count")
BY_CATEGORY = ("effect", "effect_known", "part")
BY_CODED = ("value", "seen", "dead", "slot", "missing", "other")


def entity_array(inputs: InputMap, name: str, array: Array, gone: Array) -> Array:
    """Return an array of `EntityState`. gone (E, K) bool: slots whose column is gone, by entity"""
    if name in BY_NUMBER:
        return take(array, inputs.numbers, 1)
    if name == "holding":
        return take(array, inputs.features, 2)
    if name == "category":
        turns = turning_places(inputs)
        out = take(array, turns, 2)
        out[:, :2, turns == NEW] = math.nan  # the next event counts as a change from unknown
        return out
    if name == "u_last":
        return past_features(inputs, array)
    if name == "y_last":
        return past_targets(inputs, array, 1) if inputs.new.lags else array
    if name == "lately":  # [0, numbers], empty without such heads
        return np.concatenate([array[:, :1], take(array[:, 1:], inputs.numbers, 1)], 1) if array.shape[1] else array
    if name == "W":
        return widen(linear_weights(inputs, array, gone), _vectors(inputs.new.L))
    return array


def _vectors(inputs: int) -> int:
    """Return the width that the core gives to so many inputs."""
    return -(-inputs // 16) * 16


def linear_weights(inputs: InputMap, array: Array, gone: Array) -> Array:
    """Return weights (E, …, L) of entities. gone: as of `entity_array`"""
    out = take(array, inputs.fleet, -1)
    codes = out[..., 1 + inputs.new.F :]
    cleared = gone.reshape(len(gone), *(1,) * (array.ndim - 2), gone.shape[1])
    codes[np.broadcast_to(cleared, codes.shape)] = 0
    return out


def pool_array(inputs: InputMap, name: str, array: Array) -> Array:
    """Return an array of `PoolState`."""
    if name in BY_NUMBER:
        return take(array, inputs.numbers, 1)
    if name == "believed":
        return take(array, inputs.features, 1)
    if name in BY_CATEGORY:
        places = turning_places(inputs) if name == "part" else _effect_places(inputs)
        if inputs.old.effects == inputs.new.effects:
            return take(array, places, 2)
        rows = inputs.new.effects * (PART_SUMS if name == "part" else 2 * RESPONSE)
        return np.zeros((len(array), rows, len(places)))
    if name.startswith(GATES) and inputs.none_kept:  # what the answers were worth has become another question
        return np.zeros_like(array)
    if name == "differs":  # so that hour and weekday go on as codes
        return take(array, inputs.coded, 1, 1)
    return take(array, inputs.coded, 1) if name in BY_CODED else array


def turning_places(inputs: InputMap) -> Indices:
    """Return which column each that turns was: the categories, then the features where changes have effects."""
    if not inputs.new.effects:
        return inputs.categories
    there = (inputs.features != NEW) & (inputs.old.effects > 0)
    return np.concatenate([inputs.categories, np.where(there, inputs.old.categories + inputs.features, NEW)])


def _effect_places(inputs: InputMap) -> Indices:
    """Return which place each effect had: of a category's values, then of whether a feature is zero."""

    def of_values(columns: Indices, size: int, first: int) -> Indices:
        places = first + size * columns[:, None] + np.arange(size)
        return np.where(columns[:, None] == NEW, NEW, places).ravel()

    categories = of_values(inputs.categories, VALUES, 0)
    features = of_values(inputs.features, RESTING, inputs.old.categories * VALUES)
    return np.concatenate([categories, features]) if inputs.new.effects else categories


def removed_slots(inputs: InputMap, arrays: dict[str, Array]) -> Array:
    """Return (P, K) bool: the slots of codes whose column is gone. arrays: of the former `PoolState`, by name"""
    pools, K = len(arrays["used"]), inputs.old.K
    gone = np.zeros((pools, K + 1), np.bool_)  # slot 0 is none
    for j in inputs.removed.tolist():
        for slots in (arrays["slot"][:, j], arrays["missing"][:, j, None], arrays["other"][:, j, None]):
            np.put_along_axis(gone, slots, values=True, axis=1)
    return gone[:, 1:]


def past_targets(inputs: InputMap, array: Array, axis: int) -> Array:
    """Return past targets, newest first: of those further back than any that is known, the oldest known one."""
    return take(array, np.minimum(np.arange(inputs.new.lags), inputs.old.lags - 1), axis)


def past_features(inputs: InputMap, array: Array) -> Array:
    """Return the last known features, then those of the events before; unknown where they were not kept."""
    old, new, width = inputs.old, inputs.new, inputs.old.features

    def back(events: int) -> Array:
        """Those of so many events back; 0: the last known."""
        kept = 0 if events <= 1 and old.feature_lags <= 1 else events
        if kept > max(old.feature_lags, 0) or (kept and old.feature_lags <= 1):
            return np.full((len(array), new.features), np.nan)
        return take(array[:, kept * width : (kept + 1) * width], inputs.features, 1, np.nan)

    return np.concatenate([back(i) for i in range(new.feature_lags + 1 if new.feature_lags > 1 else 1)], axis=1)


def discounted_level(level: Array, S: Array) -> Array:
    """Return the level (P, M) of moments S (P, M, D, n) that count for EVENTS_KEPT events at most; the weights stay.

    The first input is the constant, so that its moment is the number of events, decayed.
    """
    now = np.where(level == 0, 1, level)
    events = now * S[:, :, 0, 0]
    found: Array = (now * np.minimum(1.0, EVENTS_KEPT / np.maximum(events, 1e-9))).astype(level.dtype)
    return found


class HeadArrays:
    """Maps the arrays of `HeadsState` of one scope.

    Removing an input takes its row and column from S. What is stored of P is R = P − S W, so that R of the inputs that
    stay grows by the part of S W that was the removed one's.

    Args:
        inputs: the map
        places (D,): former inputs of the scope
        gone (P, D0): bool, former inputs that are gone, by pool
        arrays: the former ones, by name
    """

    def __init__(self, inputs: InputMap, places: Indices, gone: Array, arrays: dict[str, Array]) -> None:
        self._inputs, self._places, self._gone, self._former = inputs, places, gone, arrays
        new: LearnerParams = inputs.new
        self._width = _vectors(len(places))
        self._random = inputs.same_numbers  # the embedding: its directions depend on all numbers
        self._functions: dict[str, Callable[[Array], Array]] = {
            "S": self._moments,
            "R": self._residual,
            "W": self._linear,
            "batch": self._linear,
            "gradient": self._linear,
            "embedding": self._embedding,
            "gd": self._linear if new.gd else self._same,
            "keys": lambda array: take(self._cleared(array, 1), self._places, 1),
            "past": lambda array: past_targets(inputs, array, 1) if array.shape[1] else array,
        }

    def array(self, name: str) -> Array:
        """Return a present array."""
        return self._functions.get(name, self._same)(self._former[name])

    @staticmethod
    def _same(array: Array) -> Array:
        return array

    def _cleared(self, array: Array, axis: int) -> Array:
        """Return an array with zeros for the inputs that are gone; beyond the inputs it is left out."""
        D = self._gone.shape[1]
        out: Array = np.moveaxis(array, axis, 1)[:, :D].copy()
        out[self._gone] = 0
        return np.moveaxis(out, 1, axis)

    def _linear(self, array: Array) -> Array:
        return widen(take(self._cleared(array, -1), self._places, -1), self._width)

    def _embedding(self, array: Array) -> Array:
        R = self._inputs.old.R
        if not array.shape[-1]:  # there is none, in this scope or at all
            return array
        waves = array[..., :R] if self._random else np.zeros_like(array[..., :R])
        return np.concatenate([waves, self._linear(array[..., R:])], axis=-1)

    def _moments(self, array: Array) -> Array:
        rows = take(self._cleared(array, 2), self._places, 2)
        return self._linear(rows)

    def _residual(self, array: Array) -> Array:
        """R + Σ S_j W_j over the inputs j that are gone; of the events that wait, S has yet to get their part."""
        S, W = self._former["S"], self._former["W"]
        batch, kept = self._former["batch"], self._former["kept"]
        out = array.copy()
        for j in np.flatnonzero(self._gone.any(axis=0)).tolist():
            weight = np.where(self._gone[:, j, None], W[:, :, j], 0)[:, :, None]
            out += S[:, :, j, :] * weight
            for b in range(batch.shape[1]):
                out += (kept[:, :, b] * batch[:, None, b, j])[:, :, None] * batch[:, None, b, :] * weight
        return self._linear(out)
