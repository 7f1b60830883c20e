"""Where the answers of the heads that `verify` compares stand among the kernel's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.shapes import (
    ENTITY,
    FLEET,
    LOG_RESIDUAL,
    NORM,
    PRODUCTS,
    RESIDUAL,
    LearnerParams,
    product_heads,
)
from ssm_stream.verify.reference import Heads


class AnswerLayout(NamedTuple):
    """Where the answers of the heads that are compared stand, one after another: row and place in the kernel's answers
    by scope, place among the experts, side and kind of their scale; by itself: whether the head answers alone."""

    row: NDArray[np.int64]
    place: NDArray[np.int64]
    at: NDArray[np.int64]
    side: NDArray[np.int64]
    kind: NDArray[np.int64]
    alone: NDArray[np.bool_]


def answer_layouts(p: LearnerParams, heads: Heads, own: NDArray[np.int64]) -> list[AnswerLayout]:
    """For the fleet scope alone, and for all three. own: kinds of the entity's own heads."""
    H, J, there = len(heads.kind), product_heads(p), heads.there[1]
    count = np.array([H, J, int(there.sum()), len(own)])
    row = np.repeat((FLEET, PRODUCTS, NORM, ENTITY), count)
    place = np.concatenate([heads.place[0], np.arange(J), heads.place[1, there], np.arange(len(own))])
    norm = p.bases + p.B + J + len(own)
    first = np.repeat([p.bases, p.bases + p.B, norm, norm - len(own)], count)
    products = np.array([RESIDUAL, LOG_RESIDUAL][:J], np.int64)
    kind = np.concatenate([heads.kind, products, heads.kind[there], own])
    side = ((row == NORM) | (row == ENTITY)).astype(np.int64)
    whole = AnswerLayout(row, place, first + place, side, kind, place >= 0)
    n = H + J
    alone = AnswerLayout(row[:n], place[:n], whole.at[:n], side[:n], kind[:n], whole.alone[:n])
    return [alone, whole]
