"""Holds the state of one target's entities: one row an entity in arrays that the kernels read and write.

Entities of one shard and one source learn together in a pool, which has a row in arrays of its own; with `model.fleet`
off, each entity is its own pool. Rows of evicted entities are reused or removed. This module processes no events.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from itertools import islice
from operator import is_
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.config.sections.own_parts import load_part
from ssm_stream.core import lifecycle, loop, native, pending, shapes
from ssm_stream.core.blocks import Layout
from ssm_stream.core.features import FeaturePlan
from ssm_stream.core.frozen_weights import Weights
from ssm_stream.core.own_channels import OwnChannels
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.counts.batch_labels import BatchLabels
from ssm_stream.engine.counts.episode_tally import EpisodeTally
from ssm_stream.engine.kernel_params import build_learner_params, delayed_label_rules, own_channels, ttl_ms
from ssm_stream.engine.memory import growable_arrays
from ssm_stream.engine.memory.state_layout import entity_layout, pool_layout
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.labels import EarlyLabels
from ssm_stream.ingest.windows import Windows

MIN_PENDING = 16
"""Initial places of an entity's ring of events that wait for their targets."""


def shard_of(entity: str, shards: int) -> int:
    """Return the shard of an entity, the same in every process (Python's own hash is not)."""
    return zlib.crc32(entity.encode()) % shards if shards > 1 else 0


class ResetEntity(NamedTuple):
    """An entity that started afresh. row: of the batch's event; labelled_at: last time before, ms, −∞ if never"""

    row: int
    entity: str
    labelled_at: float


class EntityStore:
    """The rows of one target's entities and pools.

    names: of the entities, by row; row_by_name: the rows by name; shards (entities,): shard of each row
    pools: pool rows by shard and source; sources: indexes into `watermarks`, ms, one a source
    params, scratch, report: sizes, working memory and output of the kernels, as wide as the arrays
    state, shared: arrays with one row an entity, and with one row a pool: views on `entity_block` and `pool_block`
    category_texts: text of category codes, see `category_texts.CategoryTexts`
    challenger: working memory of the challenger, see `trials`; None if there is none
    own: anomaly channels that other packages bring, and their states; None if there are none
    delayed: rules for targets that come after their events; None if each comes with its event. Only with these:
        pending: events that wait for their targets; early_labels: labels that wait for their events
        label_counts (3,) int64: targets matched, events dropped, targets missed

    Args:
        config: of one target
        plan: of its inputs
        frozen: weights of the learner
    """

    def __init__(self, config: Config, plan: FeaturePlan, frozen: Weights) -> None:
        self.config, self.plan, self.weights = config, plan, frozen
        self.params = build_learner_params(config, plan, frozen, 0)
        self.names: list[str] = []
        self.row_by_name: dict[str, int] = {}
        self.shards = np.zeros(0, np.int64)
        self.pools: dict[tuple[int, int], int] = {}
        self.sources: dict[int, int] = {}
        self.category_texts: dict[float, str] = {}
        self.watermarks = np.full(1, np.nan)
        self._bound: tuple[tuple[Any, ...], native.Engine] | None = None
        entities, pools = entity_layout(config, self.params), pool_layout(self.params, norm=False)
        self.entity_block, self.pool_block = (growable_arrays.new_block(0, of.size) for of in (entities, pools))
        self.state: loop.EntityStates = entities.views(self.entity_block)
        self.shared: loop.PoolStates = pools.views(self.pool_block)
        self.scratch = shapes.new_scratch(self.params)
        self.challenger: shapes.Scratch | None = None
        self.report = self.new_report()
        self.reset_entities: list[ResetEntity] = []  # in the last batch: expired, or evicted
        self.tally, self.labels = EpisodeTally(), BatchLabels()
        self.evicted = 0  # entities that expired or were evicted, since the counter was last reset
        # Changes since the last persisted snapshot: which rows, how many rows it has, whether the next one must be full
        # (rows have moved, or arrays have other widths), and which of its rows now belong to another entity.
        self.changed, self.pools_changed = np.zeros(0, np.bool_), np.zeros(0, np.bool_)
        self.persisted_rows, self.needs_full_snapshot = 0, True
        self.reassigned: dict[int, str] = {}
        self._free_rows: list[int] = []  # rows of evicted entities
        functions = {name: load_part("channel", name) for name in own_channels(config)}
        self.windows: Windows | None = None  # of derived inputs; the engine of all targets sets it
        self.own = OwnChannels(functions, self.names, plan.features) if functions else None
        self.delayed = delayed_label_rules(config)
        if self.delayed is not None:
            self.pending = pending.new_pending(self.params, 0, min(MIN_PENDING, self.delayed.most))
            self.label_counts = np.zeros(3, np.int64)
            self.early_labels = EarlyLabels(self.delayed.wait, self.delayed.most, by_id=self.delayed.by_id)

    def __len__(self) -> int:
        """Entities in memory."""
        return len(self.names)

    def __contains__(self, entity: object) -> bool:
        """Return whether the entity is in memory."""
        return entity in self.row_by_name

    def pool_of(self, row: int, source: int) -> int | None:
        """Return the pool row that an entity learns with; None if its shard has no events from that source."""
        return row if not self.config.model.fleet else self.pools.get((int(self.shards[row]), source))

    # Rows of entities and pools.

    def assign_rows(self, entities: list[str]) -> NDArray[np.int64]:
        """Return the row of each entity; new entities get one."""
        if self._free_rows:
            self._reuse_rows(entities)
        rows = factorize(entities, self.row_by_name)
        if len(self.row_by_name) > len(self.names):
            self.names += islice(self.row_by_name, len(self.names), None)
            self.ensure_rows(len(self.names))
        return rows

    def _reuse_rows(self, entities: list[str]) -> None:
        """Give free rows to new entities, and remove the free rows that remain."""
        new = [name for name in dict.fromkeys(entities) if name not in self.row_by_name][: len(self._free_rows)]
        for row, name in zip(self._free_rows, new, strict=False):
            self.reassign_row(row, name)
            if row < self.persisted_rows:
                self.reassigned[row] = name
        if len(new) < len(self._free_rows):
            self.remove_rows(np.array(sorted(self._free_rows[len(new) :]), np.int64))
            self.needs_full_snapshot = True  # rows have moved, which an incremental snapshot cannot express
        self._free_rows = []

    def reassign_row(self, row: int, name: str) -> None:
        """Give the row of an evicted entity to this one."""
        if self.row_by_name.get(self.names[row]) == row:
            self._reset_own(row)
            del self.row_by_name[self.names[row]]
        self.names[row], self.row_by_name[name] = name, row
        self.shards[row] = shard_of(name, self.config.state.shards)

    def pools_of(self, rows: NDArray[np.int64], source: int) -> NDArray[np.int64]:
        """Return the pool row of each event: events of a shard and a source keep their order, so they may share one."""
        if not self.config.model.fleet:
            return rows
        if self.config.state.shards == 1:
            return np.full(len(rows), self.create_pool(0, source)) if len(rows) else np.empty(0, np.int64)
        shards = self.shards[rows]
        out = np.empty(len(rows), np.int64)
        for shard in np.unique(shards).tolist():
            out[shards == shard] = self.create_pool(shard, source)
        return out

    def create_pool(self, shard: int, source: int) -> int:
        """Return the pool row of a shard and a source; create it if there is none."""
        key = (shard, source)
        if key not in self.pools:
            self.pools[key] = len(self.pools)
            if len(self.pools) > len(self.shared.pool.n):
                self.resize_pools(growable_arrays.rows_to_reserve(len(self.pools)))
        return self.pools[key]

    def watermark_index(self, source: int) -> int:
        """Return the index of a source in `watermarks`; create it if there is none."""
        if source not in self.sources:
            self.sources[source] = len(self.sources)
            if len(self.sources) > len(self.watermarks):
                self.watermarks = np.concatenate([self.watermarks, np.full(len(self.watermarks), np.nan)])
        return self.sources[source]

    def watermark(self, source: int) -> float:
        """Return the watermark of a source, ms; NaN before its first event."""
        at = self.sources.get(source)
        return math.nan if at is None else float(self.watermarks[at])

    # Eviction.

    def begin_batch(self) -> None:
        """Start a batch: no entity has been reset in it yet."""
        self.reset_entities = []

    def expire(self, at: int, row: int) -> None:
        """Reset an entity whose TTL is over at event `at` of the batch."""
        self.evicted += 1
        self.reset_entities.append(ResetEntity(at, self.names[row], self._labelled_at(row)))
        self._reset_row(row)

    def evict(self, leaving: Sequence[tuple[int, str]]) -> None:
        """Evict entities, each at an event of the batch; `assign_rows` reuses their rows."""
        for at, name in leaving:
            labelled_at = self.labelled_at(name)
            row = self.row_by_name.pop(name, None)
            self.reset_entities.append(ResetEntity(at, name, labelled_at))
            if row is None:
                continue
            self.evicted += 1
            self._reset_row(row)
            self.changed[row] = True
            if not self.config.model.fleet:
                self.pools_changed[row] = True
            self._free_rows.append(row)

    def labelled_at(self, entity: str) -> float:
        """Return the event time, ms, at which an entity was last labelled, from which its TTL counts; −∞ if never."""
        own = self.row_by_name.get(entity)
        return -math.inf if own is None else self._labelled_at(own)

    def _labelled_at(self, row: int) -> float:
        clock = self.state.clock.number[row]
        return float(max(clock[loop.MARK], clock[loop.LAST])) if clock[loop.GAPS] > 0 else -math.inf

    def evict_expired(self) -> NDArray[np.int64]:
        """Remove entities past their TTL, or without an event: each would start afresh anyway, so no result changes.

        Returns:
            their rows, ascending; the last rows have filled the gaps (`growable_arrays.remove_rows`)
        """
        ttl = ttl_ms(self.config)
        if not math.isfinite(ttl) or not self.names:
            return np.zeros(0, np.int64)
        latest = np.nanmin(self.watermarks[: len(self.sources)]) if self.sources else math.nan
        seen = self.state.clock.number[: len(self.names)]
        expired = (seen[:, loop.GAPS] == 0) | (latest - np.maximum(seen[:, loop.MARK], seen[:, loop.LAST]) > ttl)
        gone = np.flatnonzero(expired).astype(np.int64)
        self.evicted += len(gone)
        self._count_dropped(gone)
        self.remove_rows(gone)
        return gone

    def remove(self, entity: str) -> None:
        """Remove an entity, if it is in memory; what its pool has learned from it stays."""
        if entity in self.row_by_name:
            row = np.array([self.row_by_name[entity]])
            self._count_dropped(row)
            self.remove_rows(row)
            self.needs_full_snapshot = True
        if self.delayed is not None:
            self.early_labels.drop_entity(entity)

    def remove_rows(self, gone: NDArray[np.int64]) -> None:
        """Remove rows, ascending, and release their memory."""
        if not len(gone):
            return
        count, own_pools = len(self.names), not self.config.model.fleet
        arrays: list[NDArray[Any]] = [self.entity_block, self.changed]
        if own_pools:
            arrays += [self.pool_block, self.pools_changed]
        if self.delayed is not None:
            arrays += self.pending
        growable_arrays.remove_rows([*arrays, self.shards], count, gone)
        for row in gone.tolist():
            if self.row_by_name.get(self.names[row]) == row:  # else the entity came back in another row
                self._reset_own(row)
                del self.row_by_name[self.names[row]]
        for row, last in zip(*(index.tolist() for index in growable_arrays.moves(count, gone)), strict=True):
            self.names[row] = self.names[last]
            self.row_by_name[self.names[row]] = row
        left = count - len(gone)
        del self.names[left:]
        self.shards = self.shards[:left].copy()

    def _reset_row(self, row: int) -> None:
        """Reset an entity's state; its pool's too if the entity is its own pool."""
        self._count_dropped(row)
        self._reset_own(row)
        blocks = [self.entity_block] if self.config.model.fleet else [self.entity_block, self.pool_block]
        for array in [*blocks, *(self.pending if self.delayed is not None else ())]:
            array[row] = 0

    def _reset_own(self, row: int) -> None:
        if self.own is not None:
            self.own.reset(self.names[row])

    def _count_dropped(self, rows: NDArray[np.int64] | int) -> None:
        """Count the waiting events of these rows as dropped, and their open episodes as ended."""
        self.tally.end_open(self.state, rows, self.names)
        if self.delayed is not None:
            self.label_counts[loop.DROPPED] += int(self.pending.open[rows].sum())

    def end_episodes(self, kind: str, entity: str | None = None) -> None:
        """End the open episodes of a kind without an alert: of one entity, if it is in memory, or of all."""
        if entity is None or entity in self.row_by_name:
            rows = slice(len(self.names)) if entity is None else self.row_by_name[entity]
            self.tally.end_open(self.state, rows, self.names, kind)
            self.state.lifecycle.number[rows, KINDS.index(kind), lifecycle.ZEROED[kind]] = 0.0
            self.changed[rows] = True

    def make_room(self, stop: int, event: int, row: int, pool: int) -> None:
        """Make the room that the kernel needs to go on with an event of the batch.

        stop: why it stopped (`loop.EXPIRED` and so on); row, pool: of the event's entity
        """
        if stop == loop.EXPIRED:
            self.expire(event, row)
        elif stop == loop.MORE_SLOTS:
            needed = self.shared.pool.used[pool] + self.scratch.flag[shapes.FRESH]
            if self.challenger is not None:
                needed = max(needed, self.shared.challenger_pool.used[pool] + self.challenger.flag[shapes.FRESH])
            self.add_code_slots(int(needed))
        elif stop == loop.SECOND_ENTITY:
            self.resize_pools(len(self.shared.pool.n), norm=True)
            self.needs_full_snapshot = True
        elif stop == loop.MORE_PLACES:
            assert self.delayed is not None
            self.resize_pending(len(self.state.clock.number), min(2 * self.pending.open.shape[1], self.delayed.most))

    def bind(self, rules: loop.Rules) -> native.Engine:
        """Return the core's loops on the arrays as they are now."""
        of = (self.params, self.scratch, self.state, self.shared, rules, self.report, self.challenger)
        if self._bound is None or not all(map(is_, self._bound[0], of)):
            self._bound = of, native.Engine(*of)
            if self.own is not None:
                self._bound[1].own_channels(self.own, len(self.own.channels))
        return self._bound[1]

    def new_report(self) -> loop.Reported:
        """Return room for what the kernel reports of an event."""
        return loop.Reported(np.zeros(6, np.int64), np.zeros((2, 3)), np.zeros(self.params.L, np.float32))

    def ensure_rows(self, needed: int) -> None:
        """Make room for so many entities, and compute the shards of the new ones."""
        if needed > len(self.state.clock.number):
            self._resize_rows(growable_arrays.rows_to_reserve(needed))
        assigned = len(self.shards)
        if needed > assigned:
            more = [shard_of(name, self.config.state.shards) for name in self.names[assigned:needed]]
            self.shards = np.concatenate([self.shards, np.array(more, np.int64)])

    def _resize_rows(self, E: int) -> None:
        self.entity_block = growable_arrays.fit_block(self.entity_block, E, len(self.names))
        self.state = self._entity_layout().views(self.entity_block)
        self.changed = np.concatenate([self.changed, np.zeros(E, np.bool_)])[:E]
        if self.delayed is not None:
            self.resize_pending(E, self.pending.open.shape[1])
        if not self.config.model.fleet:
            self.resize_pools(E)

    def resize_pools(self, P: int, *, norm: bool = False) -> None:
        """Make room for so many pools. norm: with a norm scope, which pools that have one keep in any case"""
        norm = norm or len(self.shared.norm.near) > 0
        layout = pool_layout(self.params, norm=norm, challenger=self.challenger is not None)
        used = len(self.pools) if self.config.model.fleet else len(self.names)
        if layout.size == self.pool_block.shape[1]:
            self.pool_block = growable_arrays.fit_block(self.pool_block, P, used)
            self.shared = layout.views(self.pool_block)
        else:
            self.pool_block, self.shared = growable_arrays.fit_fields(self.shared, self.pool_block, layout, P, used)
        self.pools_changed = np.concatenate([self.pools_changed, np.zeros(P, np.bool_)])[:P]

    def add_code_slots(self, slots: int) -> None:
        """Make room for so many code slots."""
        self.params = build_learner_params(self.config, self.plan, self.weights, slots)
        self.scratch = shapes.new_scratch(self.params)
        self.report = self.new_report()
        self.set_challenger(there=self.challenger is not None)

    def set_challenger(self, *, there: bool) -> None:
        """Make rows for a challenger, or remove them; see `trials`."""
        self.challenger = shapes.new_scratch(self.params) if there else None
        self.entity_block, self.state = growable_arrays.fit_fields(
            self.state, self.entity_block, self._entity_layout(), len(self.entity_block), len(self.names)
        )
        self.resize_pools(len(self.pool_block))
        if self.delayed is not None:
            self.resize_pending(len(self.entity_block), self.pending.open.shape[1])
        self.needs_full_snapshot = True

    def _entity_layout(self) -> Layout:
        return entity_layout(self.config, self.params, challenger=self.challenger is not None)

    def resize_pending(self, E: int, H: int) -> None:
        """Make rings of H places for E entities."""
        q, one = self.pending, pending.new_pending(self.params, 1, H, challenger=self.challenger is not None)
        if q.open.shape[1] == H and q.predicted.shape[2] == one.predicted.shape[2]:
            self.pending = growable_arrays.fit_group(q, one, E, len(self.names))
        else:
            self.pending = pending.resized(q, type(q)(*(growable_arrays.zeros(E, array) for array in one)))

    @property
    def changed_share(self) -> float:
        """Share of the entities that changed since the last persisted snapshot; 1 if the next one must be full."""
        if self.needs_full_snapshot or not self.names:
            return 1.0
        return float(np.count_nonzero(self.changed)) / len(self.names)

    def mark_persisted(self) -> None:
        """Mark the state as persisted: the next incremental snapshot has what changes from now on."""
        self.changed[:] = self.pools_changed[:] = False
        self.persisted_rows, self.needs_full_snapshot, self.reassigned = len(self.names), False, {}
