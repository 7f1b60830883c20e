"""The parameters of meta-training: the frozen weights as a function of one vector of offsets."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ssm_stream.core.frozen_weights import Weights, bounds
from ssm_stream.core.shapes import LearnerParams
from ssm_stream.reference import learner
from ssm_stream.reference.state import Meta


class Offsets:
    """The weights as a function of one vector of offsets (n,)."""

    def __init__(self, start: Weights) -> None:
        self.start = start
        self.shapes = {name: array.shape for name, array in start._asdict().items()}
        self.size = sum(array.size for array in start)
        self._parts: dict[str, tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = {}
        for name, array in start._asdict().items():
            low, high = (np.broadcast_to(bound, array.shape) for bound in bounds(name))
            both, half = np.isfinite(high), np.isfinite(low) & ~np.isfinite(high)
            least, width = np.where(np.isfinite(low), low, 0.0), np.where(both, high - low, 1.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                share = (array - least) / width
                at = np.where(both, np.log(share / (1.0 - share)), np.where(half, np.log(array - least), array))
            self._parts[name] = tuple(map(torch.as_tensor, (at, both, half, least, width)))  # type: ignore[assignment]

    def tensors(self, offset: Tensor) -> dict[str, Tensor]:
        """The weights by name, differentiable."""
        out, first = {}, 0
        for name, shape in self.shapes.items():
            count = math.prod(shape)
            at, both, half, least, width = self._parts[name]
            z = at + offset[first : first + count].reshape(shape)
            out[name] = torch.where(both, least + width * torch.sigmoid(z), torch.where(half, least + torch.exp(z), z))
            first += count
        return out

    def weights(self, offset: Tensor) -> Weights:
        """The weights as arrays; those of offset 0 are the start, bit by bit."""
        if not bool(offset.any()):
            return self.start
        with torch.no_grad():
            return Weights(**{name: part.numpy().copy() for name, part in self.tensors(offset).items()})


def meta_parameters(p: LearnerParams, offsets: Offsets, offset: Tensor) -> Meta:
    """The learner's meta-parameters at an offset."""
    tensors = offsets.tensors(offset)
    if not p.R:
        tensors |= {"frequency": tensors["frequency"][:0], "phase": tensors["phase"][:0]}
    tensors["proximal_step"] = tensors["proximal_step"][: p.prox]
    if (p.half_life > 0).any() or len(p.decay) != len(tensors["moment_decay"]):
        del tensors["moment_decay"], tensors["moment_ridge"], tensors["moment_huber"]
    return learner.new_meta(p, offsets.start)._replace(**tensors)
