"""Names that come again elsewhere: `eth0` of each host, channel 3 of each logger, `nvidia0` of each node.

Where each host is read at its own moment, times only grow within each such name, too, though its rows are those of
several machines: they alternate, and each of these goes on all along.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ssm_stream.autoconfig.columns import Column

MIN_MIXED, MIN_TURNS = 0.5, 0.5
"""Share of the names that must be those of several machines; and share of the rows of these with another machine than
the row before. A mode, a product or a lot stays for some rows."""
MIN_SPAN, MIN_ROWS = 0.5, 20
"""Share of a name's rows from the first to the last of each of its machines, in the median, as a lot comes and goes;
and rows of a machine without which nothing is known."""


def finer_name(coarse: Column, candidates: Sequence[Column]) -> Column | None:
    """Return the column that names the machines which share the names of `coarse`; None if there is none.

    It has no value under two names: a serial number belongs to one device. Of several the one with the fewest values.

    Args:
        coarse: a column that may name the machines
        candidates: other columns that may
    """
    nested = (c for c in candidates if c is not coarse and _belongs(c, coarse) and mixes(coarse, c))
    return min(nested, key=lambda c: (c.distinct, c.index), default=None)


def mixed_by(coarse: Column, candidates: Iterable[Column]) -> Column | None:
    """Return the first column with which `coarse` names machines: each of its names is that of several; None if none
    is. coarse, candidates: as of `finer_name`"""
    return next((c for c in candidates if c is not coarse and mixes(coarse, c)), None)


def _belongs(fine: Column, coarse: Column) -> bool:
    """Return whether each value of one column has one value of the other."""
    return len({(value, coarse.values.get(i)) for i, value in fine.values.items()}) == fine.distinct > coarse.distinct


def mixes(coarse: Column, fine: Column) -> bool:
    """Return whether rows of a name are those of several machines in turn, each of which goes on all along.

    Args:
        coarse: with the names, of few machines or of several
        fine: with the machines, or with what distinguishes them within a name
    """
    rows = defaultdict[Any, list[Any]](list)
    for i, name in coarse.values.items():
        rows[name].append(fine.values.get(i))
    shared = [own for own in rows.values() if len(set(own)) > 1]
    if len(shared) < MIN_MIXED * len(rows):
        return False
    turns = sum(sum(a != b for a, b in pairwise(own)) for own in shared)
    if turns < MIN_TURNS * sum(map(len, shared)):
        return False
    spans = [(at[-1] - at[0]) / len(own) for own in shared for at in _places(own) if len(at) >= MIN_ROWS]
    machines = sum(len(set(own)) for own in shared)
    return 2 * len(spans) > machines and float(np.median(spans)) >= MIN_SPAN


def _places(own: Sequence[Any]) -> list[list[int]]:
    """Return the places of each value."""
    out = defaultdict[Any, list[int]](list)
    for i, value in enumerate(own):
        out[value].append(i)
    return list(out.values())
