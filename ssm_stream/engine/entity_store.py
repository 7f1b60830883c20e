"""What is known of the entities of one target: a row each in arrays that the kernels read and write.

Entities of one shard and one source learn together, in a pool, which has a row in arrays of its own; without that each
entity is its own pool. Rows that are left are taken by who comes next, or closed up. No events and no learning here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.engine import growable_arrays
from ssm_stream.engine.growable_arrays import arrays_of
from ssm_stream.engine.kernel_params import build_learner_params, delayed_label_rules, enabled_channels, ttl_ms
from ssm_stream.ingest.events import places
from ssm_stream.ingest.labels import EarlyLabels
from ssm_stream.kernels import detect, interval, levels, lifecycle, loop, novelty, pending, shapes
from ssm_stream.kernels.features import FeaturePlan
from ssm_stream.kernels.frozen_weights import Weights

FIRST_PLACES = 16
"""Of an entity's ring of events that wait for their targets."""


def shard_of(entity: str, shards: int) -> int:
    """The shard that an entity belongs to, the same in every process (Python's own hash is not)."""
    return zlib.crc32(entity.encode()) % shards


class View(NamedTuple):
    """An entity's row in the states, and the pools of its shard by source; where it learns alone, its own."""

    row: int
    state: loop.EntityStates
    pools: dict[int, int]


class Store:
    """Rows of entities and pools.

    names: of the entities, by row; slots: their rows; shards (entities,)
    pools: rows by shard and source; sources: places in `marks`, the watermark of each source
    params, scratch, reported: what the kernels need beside, as wide as the arrays are
    state, shared: arrays with a row an entity, and with a row a pool
    pending, tally, early: only where targets come late (`late`): events that wait for them, counts, and targets that
        wait for their events

    Args:
        config: of one target
        plan: of its inputs
        frozen: weights of the learner
    """

    def __init__(self, config: Config, plan: FeaturePlan, frozen: Weights) -> None:
        self.config, self.plan, self.weights = config, plan, frozen
        self.params = build_learner_params(config, plan, frozen, 0)
        self.names: list[str] = []
        self.slots: dict[str, int] = {}
        self.shards = np.zeros(0, np.int64)
        self.pools: dict[tuple[int, int], int] = {}
        self.sources: dict[int, int] = {}
        self.marks = np.full(1, np.nan)
        self.state = self.fresh(0)
        self.shared = self.fresh_pools(0, 0)
        self.scratch = shapes.new_scratch(self.params)
        self.reported = self._fresh_reported()
        self.expired: list[tuple[int, str]] = []
        """Row and entity of those of the last batch that started afresh, as they were past their TTL, or were left."""
        self._heard: list[float] = []  # of each of them: when it had last been labelled
        self.evicted = 0
        """Entities forgotten so far: past their TTL, or to make room."""
        # What a snapshot has yet to tell (`saved`): rows that are no longer as they were told, those told of at all,
        # whether the arrays themselves have changed since then, and rows told of that were left and taken again.
        self.changed, self.pools_changed = np.zeros(0, np.bool_), np.zeros(0, np.bool_)
        self.told_of, self.reshaped = 0, True
        self.renamed: dict[int, str] = {}
        self._free: list[int] = []  # rows that were left for others
        self.late = delayed_label_rules(config)
        if self.late is not None:
            self.pending = pending.new_pending(self.params, 0, min(FIRST_PLACES, self.late.most))
            self.tally = np.zeros(3, np.int64)
            self.early = EarlyLabels(self.late.wait, self.late.most, by_id=self.late.by_id)

    def __len__(self) -> int:
        """Entities in memory."""
        return len(self.names)

    def __contains__(self, entity: object) -> bool:
        """Is that entity in memory?"""
        return entity in self.slots

    def view(self, entity: str) -> View | None:
        """Where what is known of an entity lies, to be read; None where it is not here."""
        row = self.slots.get(entity)
        if row is None:
            return None
        if not self.config.model.fleet:
            return View(row, self.state, {0: row})
        shard = int(self.shards[row])
        return View(row, self.state, {source: pool for (home, source), pool in self.pools.items() if home == shard})

    def pool_of(self, row: int, source: int) -> int | None:
        """The pool that an entity learns with; None where its shard has met nothing from that source."""
        return row if not self.config.model.fleet else self.pools.get((int(self.shards[row]), source))

    # Who is where.

    def rows(self, entities: list[str]) -> NDArray[np.int64]:
        """The row of each; those that are new are given one."""
        if self._free:
            self._reuse(entities)
        rows = places(entities, self.slots)
        if len(self.slots) > len(self.names):
            self.names += islice(self.slots, len(self.names), None)
            self.grow(len(self.names))
        return rows

    def _reuse(self, entities: list[str]) -> None:
        """Rows that were left to entities that have none; where there are too few, the rest is closed up."""
        new = [name for name in dict.fromkeys(entities) if name not in self.slots][: len(self._free)]
        for slot, name in zip(self._free, new, strict=False):
            self.rename(slot, name)
            if slot < self.told_of:
                self.renamed[slot] = name
        if len(new) < len(self._free):
            self.close(np.array(sorted(self._free[len(new) :]), np.int64))
            self.reshaped = True  # rows have moved, and nobody was told which
        self._free = []

    def rename(self, slot: int, name: str) -> None:
        """A row that was left is this entity's now."""
        if self.slots.get(self.names[slot]) == slot:
            del self.slots[self.names[slot]]
        self.names[slot], self.slots[name] = name, slot
        shards = self.config.state.shards
        self.shards[slot] = shard_of(name, shards) if shards > 1 else 0

    def pools_of(self, rows: NDArray[np.int64], source: int) -> NDArray[np.int64]:
        """The pool of each event: entities learn together within a shard and a source, whose order never changes."""
        if not self.config.model.fleet:
            return rows
        if self.config.state.shards == 1:
            return np.full(len(rows), self._pool(0, source)) if len(rows) else np.empty(0, np.int64)
        shards = self.shards[rows]
        out = np.empty(len(rows), np.int64)
        for shard in np.unique(shards).tolist():
            out[shards == shard] = self._pool(shard, source)
        return out

    def _pool(self, shard: int, source: int) -> int:
        """The pool of a shard and a source, made where there is none yet."""
        key = (shard, source)
        if key not in self.pools:
            self.pools[key] = len(self.pools)
            if len(self.pools) > len(self.shared.pool.n):
                self.resize_pools(growable_arrays.room_for(len(self.pools)))
        return self.pools[key]

    def mark_of(self, source: int) -> int:
        """The place of a source in `marks`."""
        if source not in self.sources:
            self.sources[source] = len(self.sources)
            if len(self.sources) > len(self.marks):
                self.marks = np.concatenate([self.marks, np.full(len(self.marks), np.nan)])
        return self.sources[source]

    # Who goes.

    def begin(self) -> None:
        """A batch begins."""
        self.expired, self._heard = [], []

    def expire(self, at: int, row: int) -> None:
        """An entity starts afresh with event `at` of the batch, as it is past its TTL."""
        self.evicted += 1
        self.expired.append((at, self.names[row]))
        self._heard.append(self._labelled_at(row))
        self._clear(row)

    def leave(self, leaving: Sequence[tuple[int, str]]) -> None:
        """Forget entities, each at an event of the batch; `rows` gives theirs to those that have come instead."""
        for at, name in leaving:
            slot = self.slots.pop(name, None)
            self.expired.append((at, name))
            self._heard.append(-math.inf if slot is None else self._labelled_at(slot))
            if slot is None:
                continue
            self.evicted += 1
            self._clear(slot)
            self.changed[slot] = True
            if not self.config.model.fleet:
                self.pools_changed[slot] = True
            self._free.append(slot)

    def heard(self, entity: str, row: int) -> float:
        """Event time, ms, that an entity was last labelled at, where its TTL counts from: −∞ where it is not known.

        As of a row of the last batch; of one labelled again since then, without having started afresh, later.
        """
        for (at, name), before in zip(self.expired, self._heard, strict=True):
            if name == entity and at > row:
                return before
        slot = self.slots.get(entity)
        return -math.inf if slot is None else self._labelled_at(slot)

    def _labelled_at(self, row: int) -> float:
        clock = self.state.clock.number[row]
        return float(max(clock[loop.MARK], clock[loop.LAST])) if clock[loop.GAPS] > 0 else -math.inf

    def evict(self) -> NDArray[np.int64]:
        """Drop entities past their TTL, or never labelled: each would start afresh anyway, so no result changes.

        Returns:
            their rows, ascending; the last of the others have taken their places (`growth.close`)
        """
        ttl = ttl_ms(self.config)
        if not math.isfinite(ttl) or not self.names:
            return np.zeros(0, np.int64)
        latest = np.nanmin(self.marks[: len(self.sources)]) if self.sources else math.nan
        seen = self.state.clock.number[: len(self.names)]
        expired = (seen[:, loop.GAPS] == 0) | (latest - np.maximum(seen[:, loop.MARK], seen[:, loop.LAST]) > ttl)
        gone = np.flatnonzero(expired).astype(np.int64)
        self.evicted += len(gone)
        if self.late is not None:
            self.tally[loop.DROPPED] += int(self.pending.open[gone].sum())
        self.close(gone)
        return gone

    def forget(self, entity: str) -> None:
        """Drop an entity, where it is here; what it has taught its pool stays."""
        if entity in self.slots:
            row = np.array([self.slots[entity]])
            if self.late is not None:
                self.tally[loop.DROPPED] += int(self.pending.open[row].sum())
            self.close(row)
            self.reshaped = True
        if self.late is not None:
            self.early.forget(entity)

    def close(self, gone: NDArray[np.int64]) -> None:
        """Without these rows; their memory is given back."""
        if not len(gone):
            return
        count, own_pools = len(self.names), not self.config.model.fleet
        arrays = [*arrays_of(self.state), self.changed]
        if own_pools:
            arrays += [*arrays_of(self.shared), self.pools_changed]
        if self.late is not None:
            arrays += self.pending
        growable_arrays.close([*arrays, self.shards], count, gone)
        for row in gone.tolist():
            if self.slots.get(self.names[row]) == row:  # else it came back in another row
                del self.slots[self.names[row]]
        for row, last in zip(*(index.tolist() for index in growable_arrays.moves(count, gone)), strict=True):
            self.names[row] = self.names[last]
            self.slots[self.names[row]] = row
        left = count - len(gone)
        del self.names[left:]
        self.shards = self.shards[:left].copy()

    def _clear(self, row: int) -> None:
        """Start an entity afresh; its pool too, where that is its alone."""
        for array in (
            arrays_of(self.state) if self.config.model.fleet else arrays_of(self.state) + arrays_of(self.shared)
        ):
            if len(array):
                array[row] = 0
        if self.late is not None:
            self.tally[loop.DROPPED] += int(self.pending.open[row].sum())
            for array in self.pending:
                array[row] = 0

    def end_episodes(self, kind: str, entity: str | None = None) -> None:
        """The episodes of a kind are over, without a word: of an entity, where it is here, or of all."""
        if entity is None or entity in self.slots:
            rows: slice | int = slice(None) if entity is None else self.slots[entity]
            self.state.lifecycle.number[rows, lifecycle.KINDS.index(kind)] = 0.0
            self.reshaped = True

    # Room.

    def fresh(self, E: int) -> loop.EntityStates:
        """Arrays of E new entities."""
        _, looks, moves = enabled_channels(self.config)
        return loop.EntityStates(
            shapes.new_entities(self.params, E),
            interval.new_interval_state(E),
            detect.new_detector_state(E if self.config.alerts.drift.enabled else 0),
            novelty.new_novelty_state(E if looks else 0),
            levels.new_levels_state(E if moves else 0, self.params.features + 1),
            lifecycle.new_lifecycle_state(E),
            loop.Clock(np.zeros((E, 4))),
            loop.Reference(np.zeros((E, self.params.L), np.float32)),
        )

    def fresh_pools(self, P: int, norms: int) -> loop.PoolStates:
        """Arrays of P new pools. norms: 1 with their norm scope, 0 without"""
        p = self.params
        return loop.PoolStates(shapes.new_pools(p, P), shapes.new_heads(p, P, p.L), shapes.new_heads(p, norms, p.N))

    def _fresh_reported(self) -> loop.Reported:
        return loop.Reported(np.zeros(4, np.int64), np.zeros((2, 3)), np.zeros(self.params.L, np.float32))

    def grow(self, needed: int) -> None:
        """Room for so many entities, and their shards."""
        if needed > len(self.state.clock.number):
            self._resize(growable_arrays.room_for(needed))
        shards = self.config.state.shards
        known = len(self.shards)
        if needed > known:
            more = [shard_of(name, shards) if shards > 1 else 0 for name in self.names[known:needed]]
            self.shards = np.concatenate([self.shards, np.array(more, np.int64)])

    def _resize(self, E: int) -> None:
        self.state = growable_arrays.fit(self.state, self.fresh(1), E, len(self.names))
        self.changed = np.concatenate([self.changed, np.zeros(E, np.bool_)])[:E]
        if self.late is not None:
            self.place(E, self.pending.open.shape[1])
        if not self.config.model.fleet:
            self.resize_pools(E)

    def resize_pools(self, P: int, *, norm: bool = False) -> None:
        """Room for so many pools. norm: for their norm scope too, as it is where there is some already."""
        norms = int(norm or len(self.shared.norm.near) > 0)
        used = len(self.pools) if self.config.model.fleet else len(self.names)
        self.shared = growable_arrays.fit(self.shared, self.fresh_pools(1, norms), P, used)
        self.pools_changed = np.concatenate([self.pools_changed, np.zeros(P, np.bool_)])[:P]

    def widen(self, slots: int) -> None:
        """Room for so many codes."""
        self.params = build_learner_params(self.config, self.plan, self.weights, slots)
        self.state = growable_arrays.fit(self.state, self.fresh(1), len(self.state.clock.number), len(self.names))
        self.resize_pools(len(self.shared.pool.n))
        self.scratch = shapes.new_scratch(self.params)
        self.reported = self._fresh_reported()
        self.reshaped = True

    def place(self, E: int, H: int) -> None:
        """Rings of H places for E entities."""
        q, one = self.pending, pending.new_pending(self.params, 1, H)
        if q.open.shape[1] == H:
            self.pending = growable_arrays.fit_group(q, one, E, len(self.names))
        else:
            self.pending = pending.resized(q, type(q)(*(growable_arrays.zeros(E, array) for array in one)))

    # What it is asked.

    @property
    def bytes_per_entity(self) -> int:
        """Memory of one entity's own state."""
        return sum(array.nbytes for array in arrays_of(self.fresh(1)))

    @property
    def bytes_per_pool(self) -> int:
        """Memory of what the entities of one shard and source have learned together."""
        return sum(array.nbytes // max(len(array), 1) for array in arrays_of(self.shared))

    def count_open_episodes(self, kind: str) -> int:
        """Entities with an open episode of a kind (`lifecycle.KINDS`); may be asked from another thread."""
        number = self.state.lifecycle.number
        return int(np.count_nonzero(number[: len(self.names), lifecycle.KINDS.index(kind), lifecycle.OPEN]))

    @property
    def changed_share(self) -> float:
        """Of the entities: that are not as the last `save` told them; 1 where the arrays have changed themselves."""
        if self.reshaped or not self.names:
            return 1.0
        return float(np.count_nonzero(self.changed)) / len(self.names)

    def told(self) -> None:
        """What `save` gave has been kept: the next one may tell what changes from now on."""
        self.changed[:] = self.pools_changed[:] = False
        self.told_of, self.reshaped, self.renamed = len(self.names), False, {}
