"""Dumps an entity store as metadata and arrays, and loads it: all of it, or what changed since the last snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.config.changes import HOLIDAYS, diff_model_settings, overall_effect
from ssm_stream.config.sections.holidays import Holidays, from_years, ranges
from ssm_stream.core import frozen_weights, pending
from ssm_stream.core.pending import Pending
from ssm_stream.engine import category_texts, trials
from ssm_stream.engine.entity_limiter import EntityLimiter
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.memory import growable_arrays
from ssm_stream.engine.memory.growable_arrays import named_arrays
from ssm_stream.engine.memory.state_layout import entity_layout, pool_layout
from ssm_stream.engine.snapshot_format import (
    ArrayPart,
    SnapshotReader,
    StateError,
    bytes_part,
    damage_as_state_error,
    incompatible_array,
    read_bytes,
)
from ssm_stream.engine.summaries import hourly
from ssm_stream.engine.summaries.hourly import HourlySummaries
from ssm_stream.ingest.holidays import last_day, with_learned_holidays
from ssm_stream.ingest.labels import EarlyLabels
from ssm_stream.ingest.rows.builder import RowBuilder
from ssm_stream.ingest.windows import Windows

DETECTORS = ("detector.", "days.", "hours.", "novelty.", "shape.", "levels.")
"""Prefixes of arrays that exist only while alerts need them; zeros are the detector of a new entity."""


class _Rows(NamedTuple):
    """Rows that a snapshot has: of entities and of pools. full: all of them"""

    entities: NDArray[np.int64]
    pools: NDArray[np.int64]
    full: bool


def require_compatible_state(metadata: dict[str, Any], config: Config) -> None:
    """Check that a configuration can go on with a state. metadata: of a full snapshot

    Raises:
        StateError: it cannot; names the settings that differ, and the cure.
    """
    if metadata["config"] == config.hash:
        return
    made = f"the state was made by configuration {metadata['config']}, this one is {config.hash}"
    if "settings" not in metadata:
        raise StateError(
            f"{made}: put `event`, `model`, `alerts` and `state` back as they were, or start anew with another "
            "recovery.directory"
        )
    changes = diff_model_settings(metadata["settings"], config.model_settings)
    if any(change.path == HOLIDAYS for change in changes):
        learned, last = learned_holidays(metadata), last_day(config, times_of(metadata))
        days = [day for some in learned.difference(config.event.holidays) for day in some if last and day <= last]
        if days:
            raise StateError(
                f"{made}: event.holidays: the list differs at {ranges(sorted(days))}, and days up to {last}, the "
                "last that was learned, must stay as they were: put them back"
            )
    if overall_effect(changes) == "refused":
        listed = "".join(f"\n  {change.text}" for change in changes)
        raise StateError(f"{made}:{listed}\nput back what is refused, or start anew with another recovery.directory")


def times_of(metadata: dict[str, Any]) -> list[float]:
    """Return the time, ms, that each source had reached in a snapshot; NaN before its first event."""
    return [float(time) for target in metadata["targets"] for _, time in target["marks"]]


def learned_holidays(metadata: dict[str, Any]) -> Holidays:
    """Return the days by which a state was learned. metadata: of a full snapshot"""
    found = metadata["settings"]["event"].get("holidays")
    return Holidays(days=from_years(found["days"])) if found else Holidays()


def with_holidays_of(config: Config, metadata: dict[str, Any], newest: dict[str, Any] | None = None) -> Config:
    """Return the configuration with the days that a state was learned by, up to its last event.

    Args:
        metadata: of a full snapshot
        newest: of the last incremental one after it, if there is one

    Raises:
        StateError: the snapshot is damaged.
    """
    if not config.event.holidays:
        return config
    with damage_as_state_error():
        if "holidays" not in metadata["settings"]["event"]:
            return config
        times = times_of(metadata if newest is None else newest)
        return with_learned_holidays(config, learned_holidays(metadata), last_day(config, times))


def _ascending(rows: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return row numbers of a snapshot, checked against the number of rows."""
    if rows.dtype != np.int64 or rows.ndim != 1 or (np.diff(rows, prepend=-1, append=count) <= 0).any():
        raise StateError("the snapshot is damaged: it names rows that are not there")
    return rows


def dump_common(
    windows: Windows,
    rows: RowBuilder | None,
    limiter: EntityLimiter | None,
    summaries: HourlySummaries,
    *,
    full: bool,
) -> tuple[dict[str, Any], list[ArrayPart]]:
    """Return what all targets have in common as metadata and arrays."""
    metadata, parts = dict[str, Any](), list[ArrayPart]()
    if windows:
        metadata["windows"], arrays = windows.dump(full=full)
        parts += [ArrayPart(f"windows.{name}", array) for name, array in arrays]
    if rows is not None:
        metadata["rows"] = True
        parts.append(bytes_part("rows", rows.dump()))
    if limiter is not None:
        metadata["census"] = True
        parts.append(bytes_part("census", orjson.dumps(limiter.dump())))
    if summaries.enabled:
        metadata["summaries"], arrays_ = summaries.dump(full=full)
        parts += arrays_
    return metadata, parts


def load_common(
    reader: SnapshotReader,
    windows: Windows,
    rows: RowBuilder | None,
    limiter: EntityLimiter | None,
    summaries: HourlySummaries,
    *,
    full: bool,
) -> None:
    """Load what `dump_common` returned. Settings may have been set or removed since then."""
    metadata = reader.metadata
    if windows:
        names = ("names", "seen", "past") if full else ("gone", "names", "seen", "past")
        windows.load(metadata["windows"], {name: reader.read(f"windows.{name}") for name in names})
    if metadata.get("rows"):
        content = read_bytes(reader, "rows")
        if rows is not None:
            rows.load(content)
    if metadata.get("census"):
        entities = orjson.loads(read_bytes(reader, "census"))
        if limiter is not None:
            limiter.load(entities)
    if "summaries" not in metadata:
        summaries.clear()
    elif not summaries.enabled:
        hourly.skip(reader)
    else:
        summaries.load(metadata["summaries"], reader, full=full)


def dump(store: EntityStore, prefix: str, *, full: bool) -> tuple[dict[str, Any], list[ArrayPart]]:
    """Return a store as metadata and arrays: all of it, or what changed since `EntityStore.mark_persisted`.

    Removes expired entities first. prefix: of the arrays' names
    """
    assert full or not store.needs_full_snapshot, "more has changed than rows"
    if full:
        trials.end(store)
    added = store.names[store.persisted_rows :]
    gone = store.evict_expired()
    if full and len(gone):
        store.needs_full_snapshot = True  # until this one is persisted: rows have moved
    used = len(store.names)
    pools = len(store.pools) if store.config.model.fleet else used
    rows = _Rows(np.arange(used), np.arange(pools), full)
    parts = [bytes_part("names", orjson.dumps(store.names if full else added))]
    if not full:
        changed, pools_changed = np.flatnonzero(store.changed[:used]), np.flatnonzero(store.pools_changed[:pools])
        rows = _Rows(changed.astype(np.int64), pools_changed.astype(np.int64), full)
        parts += [ArrayPart("gone", gone), ArrayPart("rows", rows.entities), ArrayPart("pool_rows", rows.pools)]
    for name, array, chosen in _enabled_arrays(store, rows):
        parts.append(ArrayPart(name, array[: len(chosen)]) if full else ArrayPart(name, array, (chosen,)))
    if store.delayed is not None:
        parts += _dump_pending(store, rows.entities)
    own = store.own
    if own is not None:
        parts.append(bytes_part("own", own.dump(store.names[row] for row in rows.entities.tolist())))
    if full:
        category_texts.prune(store)
    metadata: dict[str, Any] = {
        "weights": frozen_weights.digest(store.weights),
        "marks": [[source, repr(float(store.watermarks[at]))] for source, at in sorted(store.sources.items())],
        "pools": list(store.pools),
        "slots": store.params.K,
        "norm": len(store.shared.norm.near) > 0,
    }
    if own is not None:
        metadata["own"] = True
    if store.challenger is not None:
        metadata["challenger"] = True
    if not full and store.reassigned:
        metadata["renamed"] = sorted(store.reassigned.items())
    if store.category_texts:
        metadata["texts"] = [[int(code), text] for code, text in sorted(store.category_texts.items())]
    return metadata, [ArrayPart(f"{prefix}{name}", array, rows_) for name, array, rows_ in parts]


def _enabled_arrays(store: EntityStore, rows: _Rows) -> Iterator[tuple[str, NDArray[Any], NDArray[np.int64]]]:
    """Yield name, array and rows of each array that the settings enable."""
    norm, challenger = len(store.shared.norm.near) > 0, store.challenger is not None
    for groups, layout, chosen in (
        (store.state, entity_layout(store.config, store.params, challenger=challenger), rows.entities),
        (store.shared, pool_layout(store.params, norm=norm, challenger=challenger), rows.pools),
    ):
        there = {name for name, *_ in layout.groups if layout.has(name)}
        for name, array in named_arrays(groups):
            if name.partition(".")[0] in there:
                yield name, array, chosen


def _pending_fields(store: EntityStore) -> tuple[str, ...]:
    return Pending._fields[: None if store.challenger is not None else pending.OF_CHALLENGER]


def _dump_pending(store: EntityStore, rows: NDArray[np.int64]) -> list[ArrayPart]:
    """Return the waiting events of these rows without the gaps: counts, then a row a record, oldest first."""
    q = store.pending
    row, index, place = pending.waiting(q, rows)
    at = rows[row], place
    parts = [ArrayPart("late_rows", row), ArrayPart("late_index", index)]
    for i, name in enumerate(_pending_fields(store)):
        parts.append(ArrayPart(name, getattr(q, name), (rows,) if i < pending.BY_ENTITY else at))
    return [*parts, ArrayPart("tally", store.label_counts), bytes_part("early", store.early_labels.dump())]


def load(
    store: EntityStore, metadata: dict[str, Any], reader: SnapshotReader, *, full: bool, migrates: bool = False
) -> None:
    """Load what `dump` returned: a full state, or the changes since the state that the store holds.

    Args:
        migrates: the snapshot was made under settings that enable other detectors

    Raises:
        StateError: damaged, or a state that other weights or another release made.
    """
    if metadata["weights"] != frozen_weights.digest(store.weights):
        raise StateError(
            "the state was made with other frozen weights: put model.weights back as it was (or use the release "
            "that wrote it), or start anew with another recovery.directory"
        )
    rows = _load_rows(store, metadata, reader, full=full)
    if full:
        for block in (store.entity_block, store.pool_block):
            growable_arrays.populate(block, len(store.names))
    _load_arrays(store, reader, _without_later_rows(rows, reader), migrates=migrates)
    if store.delayed is not None:
        _load_pending(store, reader, rows.entities)
    if metadata.get("own"):  # channels may have been added or removed since then
        own = read_bytes(reader, "own")
        if store.own is not None:
            store.own.load(own, [store.names[row] for row in rows.entities.tolist()])
    for source, value in metadata["marks"]:
        at = store.watermark_index(source)  # may replace `watermarks`
        store.watermarks[at] = float(value)
    store.category_texts = {float(code): str(text) for code, text in metadata.get("texts", ())}
    store.mark_persisted()
    store.needs_full_snapshot = migrates


def _load_rows(store: EntityStore, metadata: dict[str, Any], reader: SnapshotReader, *, full: bool) -> _Rows:
    """Load names and pools, make room for them, and return the rows whose arrays follow."""
    fleet, pools_before = store.config.model.fleet, len(store.pools)
    store.pools = {(shard, source): i for i, (shard, source) in enumerate(metadata["pools"])}
    added = orjson.loads(read_bytes(reader, "names"))
    empty = np.zeros(0, np.int64)
    gone, mine, theirs = (empty, empty, empty) if full else map(reader.read, ("gone", "rows", "pool_rows"))
    # Before room is made for as many as the names claim: the file must hold their rows, too.
    moved = metadata.get("moved")  # of a file whose rows are in later ones
    entity_rows, pool_rows = moved or (reader.row_count("clock.number") + len(gone), reader.row_count("pool.n"))
    more = len(store.pools) - (0 if full else pools_before)
    if len(added) > entity_rows or (fleet and (more > pool_rows or len(store.pools) != len(metadata["pools"]))):
        raise incompatible_array(f"{reader.prefix}names")
    if metadata.get("challenger") and store.challenger is None:
        store.set_challenger(there=True)
    if metadata["slots"] != store.params.K:
        store.add_code_slots(metadata["slots"])
    # First the reassigned rows: an entity that was evicted may have come back in a new one.
    for row, name in metadata.get("renamed", ()):
        store.reassign_row(row, name)
    store.row_by_name |= {name: i for i, name in enumerate(added, len(store.names))}
    store.names += added
    if len(store.row_by_name) != len(store.names):
        raise incompatible_array(f"{reader.prefix}names")
    store.ensure_rows(len(store.names))
    store.remove_rows(_ascending(gone, len(store.names)))
    used = len(store.names)
    pools = len(store.pools) if fleet else used
    if pools > len(store.shared.pool.n):
        store.resize_pools(growable_arrays.rows_to_reserve(pools))
    if metadata["norm"] and not len(store.shared.norm.near):
        store.resize_pools(len(store.shared.pool.n), norm=True)
    if full and not moved:
        return _Rows(np.arange(used), np.arange(pools), full)
    return _Rows(_ascending(mine, used), _ascending(theirs, pools), False)


def _without_later_rows(rows: _Rows, reader: SnapshotReader) -> _Rows:
    """Return the rows with −1 in place of those that later files have, which need not be written twice."""
    if reader.prefix not in reader.live:
        return rows
    entities, pools = reader.live[reader.prefix]
    return _Rows(
        np.where(entities[rows.entities], rows.entities, -1), np.where(pools[rows.pools], rows.pools, -1), False
    )


def _load_arrays(store: EntityStore, reader: SnapshotReader, rows: _Rows, *, migrates: bool) -> None:
    """Load the arrays of these rows; a detector that the snapshot lacks starts afresh, a disabled one is skipped."""
    arrays = list(_enabled_arrays(store, rows))
    ours, there = {name for name, *_ in arrays}, reader.names
    for name, array, chosen in arrays:
        while migrates and there[0] not in ours and there[0].startswith(DETECTORS):
            reader.skip()
            there.pop(0)
        if migrates and there[0] != name and name.startswith(DETECTORS):
            continue
        reader.into(name, array[: len(chosen)] if rows.full else array, None if rows.full else (chosen,))
        there.pop(0)


def _load_pending(store: EntityStore, reader: SnapshotReader, rows: NDArray[np.int64]) -> None:
    assert store.delayed is not None
    row, index = reader.read("late_rows"), reader.read("late_index")
    q = store.pending
    counts = q._fields[: pending.BY_ENTITY]
    for name in counts:
        reader.into(name, getattr(q, name), (rows,))
    q.open[rows] = 0
    span, places = int(np.max(q.met[rows][row] - index, initial=0)), q.open.shape[1]
    while places < min(span, store.delayed.most):
        places = min(2 * places, store.delayed.most)
    store.resize_pending(len(store.state.clock.number), places)
    at = (rows[row], index % places)
    for name in _pending_fields(store)[pending.BY_ENTITY :]:
        reader.into(name, getattr(store.pending, name), at)
    reader.into("tally", store.label_counts)
    store.early_labels = EarlyLabels(store.delayed.wait, store.delayed.most, by_id=store.delayed.by_id)
    store.early_labels.load(read_bytes(reader, "early"))
