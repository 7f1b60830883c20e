"""The parameters of meta-training: the frozen weights as a function of one vector of offsets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.frozen_weights import Weights, bounds

Floats = NDArray[np.float64]
FIXED, COMMON = ("phase",), ("frequency",)
"""What is not trained, as it is random; what has one offset for all its elements, as random numbers times a scale."""


class Offsets:
    """The weights as a function of one vector of offsets (n,).

    An offset is added to the logarithm of an element that is bounded below, to the logit of one that is bounded on both
    sides. Offset 0 is the start, bit by bit.
    """

    def __init__(self, start: Weights) -> None:
        self.start = start
        parts = {name: array for name, array in start._asdict().items() if name not in FIXED}
        self.sizes = {name: 1 if name in COMMON else array.size for name, array in parts.items()}
        self.size = sum(self.sizes.values())

    def weights(self, offset: Floats) -> Weights:
        """The weights at an offset (n,)."""
        if not offset.any():
            return self.start
        changed, first = {}, 0
        for name, size in self.sizes.items():
            array = getattr(self.start, name)
            own = offset[first] if name in COMMON else offset[first : first + size].reshape(array.shape)
            changed[name] = _moved(name, array, np.broadcast_to(own, array.shape))
            first += size
        return self.start._replace(**changed)


def _moved(name: str, array: Floats, offset: Floats) -> Floats:
    low, high = (np.broadcast_to(bound, array.shape) for bound in bounds(name))
    width = np.where(np.isfinite(high), high - low, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (array - low) / width
        odds = share / (1.0 - share) * np.exp(offset)
        moved = np.where(np.isfinite(high), low + width * odds / (1.0 + odds), low + (array - low) * np.exp(offset))
    return np.array(moved)
