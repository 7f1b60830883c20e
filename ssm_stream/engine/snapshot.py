"""A store as words and arrays, for a snapshot: all of it, or what has changed since the last one was kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.engine import growable_arrays
from ssm_stream.engine.entity_store import Store
from ssm_stream.engine.growable_arrays import arrays_of, named_arrays
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, StateError, text_part, unlike
from ssm_stream.ingest.labels import EarlyLabels
from ssm_stream.kernels import frozen_weights, pending

SWITCHED = ("detector.", "novelty.", "levels.")
"""Arrays that are there only where alerts need them: zeros are a new entity's, whatever the learner knows."""


def _ascending(rows: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Rows of `count`, as a snapshot names them."""
    if rows.dtype != np.int64 or rows.ndim != 1 or (np.diff(rows, prepend=-1, append=count) <= 0).any():
        raise StateError("the snapshot is damaged: it names rows that are not there")
    return rows


def save(store: Store, *, whole: bool) -> tuple[dict[str, Any], list[ArrayPart]]:
    """The state as words and arrays, for `load`: all of it, or what has changed since this was `told`.

    Expired entities are dropped first.
    """
    assert whole or not store.reshaped, "what has changed since then is more than rows"
    added = store.names[store.told_of :]
    gone = store.evict()
    if whole and len(gone):
        store.reshaped = True  # rows have moved, and nobody was told which: see `told`
    used, fleet = len(store.names), store.config.model.fleet
    pools = len(store.pools) if fleet else used
    parts = [text_part("names", orjson.dumps(store.names if whole else added))]
    mine, theirs = np.arange(used), np.arange(pools)
    if not whole:
        mine = np.flatnonzero(store.changed[:used]).astype(np.int64)
        theirs = np.flatnonzero(store.pools_changed[:pools]).astype(np.int64)
        parts += [ArrayPart("gone", gone), ArrayPart("rows", mine), ArrayPart("pool_rows", theirs)]
    for name, array, chosen in _kept(store, mine, theirs):
        parts.append(ArrayPart(name, array[: len(chosen)]) if whole else ArrayPart(name, array, (chosen,)))
    if store.late is not None:
        parts += _save_late(store, mine)
    words = {
        "weights": frozen_weights.digest(store.weights),
        "marks": [[source, repr(float(store.marks[at]))] for source, at in sorted(store.sources.items())],
        "pools": list(store.pools),
        "slots": store.params.K,
        "norm": len(store.shared.norm.near) > 0,
    }
    if not whole and store.renamed:
        words["renamed"] = sorted(store.renamed.items())
    return words, parts


def _kept(
    store: Store, mine: NDArray[np.int64], theirs: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[Any], NDArray[np.int64]]]:
    """Name, array and chosen rows (of entities, of pools) of all that is switched on."""
    norm = int(len(store.shared.norm.near) > 0)
    for groups, one, chosen in (
        (store.state, store.fresh(1), mine),
        (store.shared, store.fresh_pools(1, norm), theirs),
    ):
        for (name, array), row in zip(named_arrays(groups), arrays_of(one), strict=True):
            if len(row):
                yield name, array, chosen


def _save_late(store: Store, mine: NDArray[np.int64]) -> list[ArrayPart]:
    """What waits of these rows, without the room between: counts, then a row a record, oldest first."""
    q, H = store.pending, store.pending.open.shape[1]
    row, place = np.nonzero(q.open[mine])
    latest = q.met[mine][row] - 1
    index = latest - (latest - place) % H
    order = np.lexsort((index, row))
    row, index, at = row[order].astype(np.int64), index[order], (mine[row[order]], place[order])
    parts = [ArrayPart("late_rows", row), ArrayPart("late_index", index)]
    for i, (name, array) in enumerate(q._asdict().items()):
        parts.append(ArrayPart(name, array, (mine,) if i < pending.BY_ENTITY else at))
    return [*parts, ArrayPart("tally", store.tally), text_part("early", store.early.dump())]


def load(store: Store, words: dict[str, Any], reader: SnapshotReader, *, whole: bool, migrates: bool = False) -> None:
    """Take over what `save` gave: all of it, or what had changed since the state that is here.

    Args:
        migrates: it was made under settings that switch other detectors on

    Raises:
        StateError: damaged, or a state that other weights or another release made.
    """
    if words["weights"] != frozen_weights.digest(store.weights):
        raise StateError(
            "the state was made with other frozen weights: put model.weights back as it was (or use the release "
            "that wrote it), or start anew with another recovery.directory"
        )
    fleet, pools_before = store.config.model.fleet, len(store.pools)
    store.pools = {(shard, source): i for i, (shard, source) in enumerate(words["pools"])}
    added = orjson.loads(reader.read("names").tobytes())
    empty = np.zeros(0, np.int64)
    gone, mine, theirs = (empty, empty, empty) if whole else map(reader.read, ("gone", "rows", "pool_rows"))
    # Before there is room for what the names promise: it must be in the file, too.
    promised = reader.rows_of("clock.number") + len(gone), reader.rows_of("pool.n")
    more = len(store.pools) - (0 if whole else pools_before)
    if len(added) > promised[0] or (fleet and (more > promised[1] or len(store.pools) != len(words["pools"]))):
        raise unlike(f"{reader.prefix}names")
    if words["slots"] != store.params.K:
        store.widen(words["slots"])
    # First the rows that were left to others: who left one may have come again, to a new one.
    for slot, name in words.get("renamed", ()):
        store.rename(slot, name)
    store.slots |= {name: i for i, name in enumerate(added, len(store.names))}
    store.names += added
    if len(store.slots) != len(store.names):
        raise unlike(f"{reader.prefix}names")
    store.grow(len(store.names))
    store.close(_ascending(gone, len(store.names)))
    used = len(store.names)
    pools = len(store.pools) if fleet else used
    if pools > len(store.shared.pool.n):
        store.resize_pools(growable_arrays.room_for(pools))
    if words["norm"] and not len(store.shared.norm.near):
        store.resize_pools(len(store.shared.pool.n), norm=True)
    if whole:
        mine, theirs = np.arange(used), np.arange(pools)
    else:
        mine, theirs = _ascending(mine, used), _ascending(theirs, pools)
    _load_kept(store, reader, mine, theirs, whole=whole, migrates=migrates)
    if store.late is not None:
        _load_late(store, reader, mine)
    for source, value in words["marks"]:
        at = store.mark_of(source)  # may make `marks` anew
        store.marks[at] = float(value)
    store.told()
    store.reshaped = migrates


def _load_kept(
    store: Store,
    reader: SnapshotReader,
    mine: NDArray[np.int64],
    theirs: NDArray[np.int64],
    *,
    whole: bool,
    migrates: bool,
) -> None:
    """The arrays of these rows; a detector of which nothing is there begins anew, one that is off is left out."""
    kept = list(_kept(store, mine, theirs))
    ours, there = {name for name, *_ in kept}, reader.names
    for name, array, chosen in kept:
        while migrates and there[0] not in ours and there[0].startswith(SWITCHED):
            reader.skip()
            there.pop(0)
        if migrates and there[0] != name and name.startswith(SWITCHED):
            continue
        reader.into(name, array[: len(chosen)] if whole else array, None if whole else (chosen,))
        there.pop(0)


def _load_late(store: Store, reader: SnapshotReader, mine: NDArray[np.int64]) -> None:
    assert store.late is not None
    row, index = reader.read("late_rows"), reader.read("late_index")
    q = store.pending
    counts = q._fields[: pending.BY_ENTITY]
    for name in counts:
        reader.into(name, getattr(q, name), (mine,))
    q.open[mine] = 0
    span, places = int(np.max(q.met[mine][row] - index, initial=0)), q.open.shape[1]
    while places < min(span, store.late.most):
        places = min(2 * places, store.late.most)
    store.place(len(store.state.clock.number), places)
    at = (mine[row], index % places)
    for name in q._fields[pending.BY_ENTITY :]:
        reader.into(name, getattr(store.pending, name), at)
    reader.into("tally", store.tally)
    store.early = EarlyLabels(store.late.wait, store.late.most, by_id=store.late.by_id)
    store.early.load(reader.read("early").tobytes())
