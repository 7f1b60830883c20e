"""Maps what the detectors and the scale of errors hold of each feature to other features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import hours
from ssm_stream.engine.input_changes.input_map import Indices, InputMap, removed_inputs, take, widen

Array = NDArray[Any]
CONTEXT = 9
"""Inputs of the scale of errors before the features."""
RIDGE = 3.0
"""Times the number of inputs: the prior's moments, as in `monitor/error_scale.hpp`."""


def levels_array(inputs: InputMap, name: str, array: Array) -> Array:
    """Return an array of `LevelsState`, whose columns are the features, then the target."""
    features = inputs.old.features
    columns = np.append(inputs.features, features)
    if name == "number":
        return array
    if name in ("origin", "last", "quantum"):
        return take(array, columns, 1)
    steps = np.where(columns < 0, columns, columns + features + 1)
    return take(array, np.concatenate([columns, steps]), 1)


def days_array(inputs: InputMap, name: str, array: Array) -> Array:
    """Return an array of `DaysState`; of a new feature no mean is known."""
    return array if name == "number" else take(array, inputs.features, 1, math.nan)


def days_pool_array(inputs: InputMap, name: str, array: Array) -> Array:
    """Return an array of `DaysPoolState`, whose columns are the features, then the target."""
    if name == "events":
        return array
    if name == "fourth":
        return take(array, inputs.features, 1)
    columns = np.append(inputs.features, inputs.old.features)
    return take(take(array, columns, 1), columns, 2)


def hours_array(inputs: InputMap, name: str, array: Array, gone: Array) -> Array:
    """Return an array of `HoursState` or `HoursPoolState`, whose columns are the features, then others that stay.

    gone: (P, K) bool, slots whose column is gone: their columns are those of codes that do not come
    """
    if name in ("number", "learned"):
        return array
    if name == "place":
        out = array.copy()
        out[:, : gone.shape[1]][gone] = 0
        return out
    columns = np.concatenate([inputs.features, inputs.old.features + np.arange(hours.MORE)])
    array = take(array, columns, array.ndim - 1, math.nan if name == "base" else 0.0)
    return take(array, columns, 1) if name == "scatter" else array


def scale_array(inputs: InputMap, name: str, array: Array) -> Array:
    """Return an array of `ErrorScaleState`."""
    return take(array, scale_places(inputs), 1) if name in ("w", "v") else array


def scale_places(inputs: InputMap) -> Indices:
    """Return the former inputs of the scale of errors."""
    features = np.where(inputs.features < 0, inputs.features, inputs.features + CONTEXT)
    return np.concatenate([np.arange(CONTEXT), features])


def scale_pool_arrays(inputs: InputMap, arrays: dict[str, Array]) -> dict[str, Array]:
    """Return the arrays of `ErrorScalePoolState`.

    An input that is gone leaves as it leaves a least-squares fit: the weights of the others are those of the fit
    without it, and P is the inverse of their own moments.
    """
    places = scale_places(inputs)
    w, v, P = arrays["w"].copy(), arrays["v"].copy(), arrays["P"][:, :, : arrays["w"].shape[1]].copy()
    used = arrays["number"][:, 0] > 0.0
    for j in removed_inputs(places, CONTEXT + inputs.old.features).tolist():
        rows = np.flatnonzero(used & (P[:, j, j] > 0.0))
        share = P[rows, :, j] / P[rows, j, j, None]
        w[rows] -= share * w[rows, j, None]
        v[rows] -= share * v[rows, j, None]
        # Symmetric to the last bit, as the core keeps it.
        column = P[rows, :, j]
        P[rows] -= column[:, :, None] * column[:, None, :] / P[rows, j, j, None, None]
    P = take(take(P, places, 1), places, 2)
    D = len(places)
    for j in np.flatnonzero(places < 0).tolist():
        P[used, j, j] = 1.0 / (RIDGE * D)
    return {**arrays, "w": take(w, places, 1), "v": take(v, places, 1), "P": widen(P, -(-D // 8) * 8)}
