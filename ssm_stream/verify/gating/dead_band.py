"""The dead band of the last known target in 64-bit floats: where a prediction is that target.

As in `gates.py`, it is learned from the kernel's answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssm_stream.core.constants import BAND_CLIP, BAND_DECAY, BAND_HALF, BAND_PRIOR
from ssm_stream.core.shapes import BANDS
from ssm_stream.verify.reference import Array

PLACES = np.arange(BANDS + 1.0)
"""Of the distances at which it is learned; the last is infinite."""


def _place(distance: float, unit: float) -> float:
    """Place of a distance among them, 0 to BANDS."""
    return BANDS * distance / (distance + BAND_HALF * unit)


class Held(NamedTuple):
    """part (BANDS + 1,): of the way back to the last target that a prediction takes, by distance."""

    part: Array

    def predict(self, predicted: float, last: float, unit: float) -> float:
        """Return the prediction. predicted: by the gates; last: target; unit: usual error, 0 while there is none."""
        if unit == 0.0:
            return predicted
        part = float(np.interp(_place(abs(predicted - last), unit), PLACES, self.part))
        return (1.0 - part) * predicted + part * last


class DeadBand:
    """Of a pool: gains, squares (BANDS,): by distance, what leaving the last target has gained; both decayed."""

    def __init__(self) -> None:
        self.gains, self.squares = np.zeros((2, BANDS))

    def held(self) -> Held:
        """Return what it holds: all where nothing has been gained, nothing where a standard error or more has."""
        part = np.clip(1.0 - self.gains / np.sqrt(self.squares + BAND_PRIOR), 0.0, 1.0)
        return Held(np.append(part, 0.0))

    def learn(self, predicted: float, last: float, y: float, unit: float) -> None:
        """Learn target y. predicted: by the gates"""
        gain = float(np.clip((abs(y - last) - abs(y - predicted)) / unit, -BAND_CLIP, BAND_CLIP))
        share = np.maximum(1.0 - np.abs(PLACES[:BANDS] - _place(abs(predicted - last), unit)), 0.0)
        self.gains = BAND_DECAY * self.gains + share * gain
        self.squares = BAND_DECAY * self.squares + share * gain**2
