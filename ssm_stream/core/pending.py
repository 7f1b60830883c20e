"""Predictions that wait for their targets: a ring of records an entity, and how a record is taken up again.

An event whose target comes later, or is to predict a later one, is kept with what it was predicted from. When the
target is there, the heads learn on what they would answer now, in their present weights on the inputs as they were
then; the gates judge the answers as they were given, for an answer is judged as of its time. Where the target
comes at once, both are the same numbers, and so is all that is learned.

Record i of an entity (counted from 0) stands in place i mod H of its ring.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.shapes import BASES, MADE, LearnerParams, turning


class Pending(NamedTuple):
    """Rings of E entities with H places each; zeros are empty.

    met (E,): events remembered so far; oldest (E,): no record before this one waits
    open (E, H) int8; ts (E, H) int64 ms; key (E, H) int64: code of the event's id; pool (E, H) int64
    flag (E, H, 6) int8: did entity and norm scope answer; were hour and weekday codes, and the seasons inputs; had the
        entity no label yet; had the pool one
    number (E, H, 21): distances from the gates' answer to the bounds of its interval; share of the prediction that
        stands on other entities; `Scratch.wild`, `otherwise` and `unsure`
    v (E, H, F + features): numbers, NaN where unknown, then what the features were taken for; named
        (E, H, categories + 2 · turning): categories and `Scratch.turn`; steps (E, H, 2) int8: inputs;
        base (E, H, 10); places (E, H) int64
    a (E, H, T), active (E, H, T) int8, made (E, H, G + 2): answers, which of them count, the gates' own
        and the prediction
    past (E, H, 2, lags) float32: attention's other keys
    challenger_… : the same, of the challenger's answers; predicted (E, H, 3): whether there are any, and then what both
        have predicted together: of the gates, and with the dead band; no columns while there is no challenger
    """

    met: NDArray[np.int64]
    oldest: NDArray[np.int64]
    open: NDArray[np.int8]
    ts: NDArray[np.int64]
    key: NDArray[np.int64]
    pool: NDArray[np.int64]
    flag: NDArray[np.int8]
    number: NDArray[np.float64]
    v: NDArray[np.float64]
    named: NDArray[np.float64]
    steps: NDArray[np.int8]
    base: NDArray[np.float64]
    places: NDArray[np.int64]
    a: NDArray[np.float64]
    active: NDArray[np.int8]
    made: NDArray[np.float64]
    past: NDArray[np.float32]
    challenger_flag: NDArray[np.int8]
    challenger_v: NDArray[np.float64]
    challenger_base: NDArray[np.float64]
    challenger_places: NDArray[np.int64]
    challenger_a: NDArray[np.float64]
    challenger_active: NDArray[np.int8]
    challenger_made: NDArray[np.float64]
    challenger_past: NDArray[np.float32]
    predicted: NDArray[np.float64]


BY_ENTITY = 2
"""So many arrays of `Pending` have a row an entity; the others a place a record."""
OF_CHALLENGER = Pending._fields.index("challenger_flag")
"""From here on they are the challenger's."""

WILD = 3
"""Column of `Pending.number`."""


class Room(NamedTuple):
    """Where the columns of a remembered event are put together: u (C,); steps (2,) int64."""

    u: NDArray[np.float64]
    steps: NDArray[np.int64]


def new_pending(p: LearnerParams, E: int, H: int, *, challenger: bool = False) -> Pending:
    """Empty rings."""
    past, there = p.lags if p.window else 0, int(challenger)
    return Pending(
        met=np.zeros(E, np.int64),
        oldest=np.zeros(E, np.int64),
        open=np.zeros((E, H), np.int8),
        ts=np.zeros((E, H), np.int64),
        key=np.zeros((E, H), np.int64),
        pool=np.zeros((E, H), np.int64),
        flag=np.zeros((E, H, 6), np.int8),
        number=np.zeros((E, H, 21)),
        v=np.zeros((E, H, p.F + p.features)),
        named=np.zeros((E, H, p.categories + 2 * turning(p))),
        steps=np.zeros((E, H, 2), np.int8),
        base=np.zeros((E, H, BASES)),
        places=np.zeros((E, H), np.int64),
        a=np.zeros((E, H, p.T)),
        active=np.zeros((E, H, p.T), np.int8),
        made=np.zeros((E, H, MADE)),
        past=np.zeros((E, H, 2, past), np.float32),
        challenger_flag=np.zeros((E, H, 6 * there), np.int8),
        challenger_v=np.zeros((E, H, (p.F + p.features) * there)),
        challenger_base=np.zeros((E, H, BASES * there)),
        challenger_places=np.zeros((E, H, there), np.int64),
        challenger_a=np.zeros((E, H, p.T * there)),
        challenger_active=np.zeros((E, H, p.T * there), np.int8),
        challenger_made=np.zeros((E, H, MADE * there)),
        challenger_past=np.zeros((E, H, 2, past * there), np.float32),
        predicted=np.zeros((E, H, 3 * there)),
    )


def new_room(p: LearnerParams) -> Room:
    """Working space of one record."""
    return Room(np.zeros(p.C), np.zeros(2, np.int64))


def resized(old: Pending, new: Pending) -> Pending:
    """`new` with the records of `old`: more entities, more places, or both. Each record moves to its place there.

    What one of them has no columns for is left out, or zero.
    """
    E, H = old.open.shape
    wide = new.open.shape[1]
    new.met[:E], new.oldest[:E] = old.met, old.oldest
    if H:
        rows, places = np.nonzero(old.open)
        latest = old.met[rows] - 1
        at = (latest - (latest - places) % H) % wide
        for source, target in zip(old[BY_ENTITY:], new[BY_ENTITY:], strict=True):
            if source.shape[2:] == target.shape[2:]:
                target[rows, at] = source[rows, places]
    return new


def waiting(q: Pending, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the records that wait of these entities, oldest first: place in `rows`, number, and place in the ring."""
    H = q.open.shape[1]
    row, place = np.nonzero(q.open[rows])
    latest = q.met[rows][row] - 1
    index = latest - (latest - place) % H
    order = np.lexsort((index, row))
    return row[order].astype(np.int64), index[order], place[order]
