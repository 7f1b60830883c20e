"""Which rows of a state each stored file has that no later file has: the store is a log that is cleaned.

An epoch's file has the rows that it changed. A file whose rows are all in later ones is left out of the state; where it
names entities or moves rows, a small file takes its place that has these alone. While the files have much more than the
state, some rows of the file with the least are written again, a small part of what changes at most.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine
from ssm_stream.engine.memory import growable_arrays
from ssm_stream.engine.snapshot_format import (
    ArrayPart,
    Live,
    SnapshotCopy,
    SnapshotReader,
    StateError,
    damage_as_state_error,
    write,
)
from ssm_stream.recovery.checkpoint_files import ROOM, Checkpoint

CLEANED = 0.15
"""Bytes that are written again, for each byte that changed, at most."""
FULL_SHARE = 0.9
"""Share of changed rows from which all are written."""
FILLED, MAX_FILLED = 2.0, 4.0
"""Times the state that the files have, from which on cleaning begins, and all of the state is written anew."""
SPARSE = 0.6
"""Share of a file's rows below which they may be written again."""
MAX_FILES = 1024
MIN_LOG = 1 << 21
"""Bytes of files up to which a state is not written anew, however small it is."""
KEPT = ("names", "gone", "tally", "early")
"""Arrays of a target that a file without rows keeps."""


@dataclass
class LoggedFile:
    """A file of the state.

    rows, pools: that it has; live, live_pools: those that no later file has
    stub: what takes its place once none is live: metadata and arrays, compressed once another file follows; b"":
        nothing has to; None: it has to stay
    moved: entities and pools that it names without having them
    hollow: it replaces a file whose rows are all in later ones
    """

    name: str
    size: int
    whole: bool
    rows: int = 0
    pools: int = 0
    live: int = 0
    live_pools: int = 0
    stub: bytes | tuple[dict[str, Any], list[ArrayPart]] | None = None
    moved: tuple[int, int] = (0, 0)
    hollow: bool = False

    @property
    def dead(self) -> bool:
        """Return whether later files have all of its rows."""
        return not self.live and not self.live_pools


class LiveRows:
    """The files of a partition's state, oldest first, and the latest file of each row. fleet: pools are apart"""

    def __init__(self, *, fleet: bool) -> None:
        self._fleet = fleet
        self.clear()

    def clear(self) -> None:
        """Forget all files."""
        self.files: list[LoggedFile] = []
        self._numbers: list[int] = []
        self._next = self._moved = 0  # numbers: of the next file, and of the last one that moved rows
        self._credit = 0.0
        self._entities: list[NDArray[np.int64]] = []
        self._pools: list[NDArray[np.int64]] = []
        self._known_pools: list[Any] = []

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(each.size for each in self.files)

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The files as `load_chain` takes them."""
        return [Checkpoint(each.name, each.size, each.whole) for each in self.files]

    def add(self, name: str, reader: SnapshotReader) -> None:
        """Add the newest file. reader: at its beginning

        Raises:
            StateError: it is damaged.
        """
        self.load(name, reader)
        self.count()

    def add_copy(self, copy: SnapshotCopy) -> LoggedFile:
        """Add the newest file before it is written; the caller gives it its name."""
        self._add("", copy)
        self.count()
        self._credit += CLEANED * copy.size
        return self.files[-1]

    def load(self, name: str, reader: SnapshotReader) -> None:
        """Add a file of a state that is loaded; call `count` after the last one.

        Raises:
            StateError: it is damaged.
        """
        with damage_as_state_error():
            self._add(name, reader)

    def _add(self, name: str, reader: SnapshotReader | SnapshotCopy) -> None:
        metadata, number = reader.metadata, self._next
        if metadata["whole"]:
            self.clear()
            number = 0
        elif self.files and isinstance(self.files[-1].stub, tuple):
            self.files[-1].stub = zlib.compress(_stub(*self.files[-1].stub), 1)
        found = LoggedFile(name, reader.size, bool(metadata["whole"]))
        found.hollow = any("moved" in own for own in metadata["targets"])
        parts: list[ArrayPart] = []
        stays, names_rows = False, found.whole or any(k in metadata for k in ("windows", "summaries"))
        for j, own in enumerate(metadata["targets"]):
            reader.prefix = f"{j}."
            if len(self._entities) <= j:
                self._entities.append(np.zeros(0, np.int64))
                self._pools.append(np.zeros(0, np.int64))
                self._known_pools.append(None)
            names_rows |= self._add_target(j, own, reader, found, parts)
            stays |= bool(own.get("own"))
        reader.prefix = ""
        parts += [ArrayPart(each, reader.read(each)) for each in reader.names] if names_rows else []
        if names_rows and not stays and not found.hollow:
            found.stub = metadata, parts
        elif not stays and not found.hollow:
            found.stub = b""
        self.files.append(found)
        self._numbers.append(number)
        self._next = number + 1

    def _add_target(
        self,
        j: int,
        own: dict[str, Any],
        reader: SnapshotReader | SnapshotCopy,
        found: LoggedFile,
        parts: list[ArrayPart],
    ) -> bool:
        """Note the rows of a target; return whether the file names entities or pools, or moves rows."""
        names_of = reader.read("names")
        parts.append(ArrayPart(f"{j}.names", names_of))
        added, moved = len(orjson.loads(names_of.tobytes())), own.get("moved")
        gone = np.zeros(0, np.int64)
        rows: Any
        pool_rows: Any
        entities, pools = self._entities[j], self._pools[j]
        entities = np.concatenate([entities, np.full(added, -1, np.int64)])
        more = (len(own["pools"]) if self._fleet else len(entities)) - len(pools)
        pools = np.concatenate([pools, np.full(max(more, 0), -1, np.int64)])
        if found.whole:
            rows, pool_rows = (slice(0, 0 if moved else len(each)) for each in (entities, pools))
        else:
            gone = reader.read("gone")
            parts.append(ArrayPart(f"{j}.gone", gone))
            arrays = [entities] if self._fleet else [entities, pools]
            growable_arrays.remove_rows(arrays, len(entities), gone)
            self._moved = self._next if len(gone) else self._moved
            entities = entities[: len(entities) - len(gone)]
            pools = pools if self._fleet else pools[: len(entities)]
            rows, pool_rows = reader.read("rows"), reader.read("pool_rows")
            parts += [ArrayPart(f"{j}.{each}", np.zeros(0, np.int64)) for each in ("rows", "pool_rows")]
        entities[rows] = pools[pool_rows] = self._next
        if moved:
            found.moved = found.moved[0] + int(moved[0]), found.moved[1] + int(moved[1])
        else:
            found.rows += len(entities[rows])
            found.pools += len(pools[pool_rows])
        for each in reader.names:
            kept = each in KEPT
            parts.append(ArrayPart(f"{j}.{each}", reader.read(each) if kept else reader.empty()))
        changed = own["pools"] != self._known_pools[j]
        self._entities[j], self._pools[j], self._known_pools[j] = entities, pools, own["pools"]
        return bool(added or len(gone) or own.get("renamed") or changed)

    def count(self) -> None:
        """Count the live rows of each file."""
        entities, pools = self._live(self._entities), self._live(self._pools)
        for number, each in zip(self._numbers, self.files, strict=True):
            each.live, each.live_pools = int(entities[number]), int(pools[number])
        if self._next > 4 * MAX_FILES:
            self._renumber()

    def _renumber(self) -> None:
        """Count the files from 0 again."""
        to = np.full(self._next + 1, -1, np.int64)  # the last one, of the rows that are in none
        to[self._numbers] = np.arange(len(self._numbers))
        self._entities = [to[each] for each in self._entities]
        self._pools = [to[each] for each in self._pools]
        self._numbers, self._next = list(range(len(self.files))), len(self.files)
        self._moved = self._next

    def _live(self, latest: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        found = np.zeros(self._next, np.int64)
        for each in latest:
            found += np.bincount(each[each >= 0], minlength=self._next)
        return found

    def live_of(self, at: int) -> Live:
        """Return the rows of the file in a place that no later one has; nothing where a later one moves rows."""
        number = self._numbers[at]
        if number < self._moved:
            return {}
        pairs = zip(self._entities, self._pools, strict=True)
        return {f"{j}.": (entities == number, pools == number) for j, (entities, pools) in enumerate(pairs)}

    def require_whole(self) -> None:
        """Check that each row is in a file.

        Raises:
            StateError: one is in none.
        """
        if any((each < 0).any() for each in (*self._entities, *self._pools)):
            raise StateError("the snapshot is damaged: rows are missing")

    def must_rewrite(self, engine: Engine) -> bool:
        """Return whether all of the state is to be written."""
        if not self.files or len(self.files) >= MAX_FILES or engine.changed_share > FULL_SHARE:
            return True
        weight = engine.bytes_per_pool / engine.bytes_per_entity
        live = sum(each.size * _fraction(each, weight) for each in self.files)
        promised = sum(_moved_bytes(engine, each.moved) for each in self.files)
        return self.size > MAX_FILLED * live + MIN_LOG or promised > 2 * self.size + ROOM / 2

    def drop_dead(self) -> Iterator[tuple[LoggedFile, bytes]]:
        """Leave out the files without live rows; yield those that others must take the place of, with their content.

        The caller gives them their new name and size.
        """
        for number, each in list(zip(self._numbers, self.files, strict=True)):
            if not each.dead or each.stub is None:
                continue
            if each.stub:
                content = zlib.decompress(each.stub) if isinstance(each.stub, bytes) else _stub(*each.stub)
                yield each, content
                each.size, each.moved, each.hollow, each.stub = len(content), _moved_of(content), True, None
            else:
                at = self._numbers.index(number)
                del self.files[at], self._numbers[at]

    def clean(self, engine: Engine) -> None:
        """Let the engine write some live rows of sparse files again, so that these files can go."""
        stores = [each.store for each in engine.target_engines]
        size = engine.bytes_per_entity / len(stores)
        written = (
            engine.bytes_per_pool / len(stores) * sum(int(np.count_nonzero(each.pools_changed)) for each in stores)
        )
        written += size * sum(int(np.count_nonzero(each.changed)) for each in stores)
        size += 0 if self._fleet else engine.bytes_per_pool / len(stores)
        self._credit = min(self._credit + CLEANED * written, float(self.size))
        weight = engine.bytes_per_pool / engine.bytes_per_entity
        live = sum(each.size * _fraction(each, weight) for each in self.files)
        if self.size <= FILLED * live:
            return
        order = sorted(zip(self._numbers, self.files, strict=True), key=lambda pair: _fraction(pair[1], weight))
        for number, each in order:
            if _fraction(each, weight) > SPARSE or self._credit < size:
                return
            if each.dead or each.stub is None:
                continue
            self._carry(number, stores, size)

    def _carry(self, number: int, stores: Sequence[Any], size: float) -> None:
        """Mark live rows of a file as changed, as many as there is credit for."""
        for j, store in enumerate(stores):
            latest = self._entities[j]
            mine = np.flatnonzero((latest == number) & ~store.changed[: len(latest)])[: int(self._credit / size)]
            store.changed[mine] = True
            self._credit -= size * len(mine)
            pools = np.flatnonzero(self._pools[j] == number)
            store.pools_changed[pools if self._fleet else mine] = True


def _fraction(file: LoggedFile, weight: float) -> float:
    """Return the share of a file that is live. weight: bytes of a pool, in those of an entity"""
    return (file.live + weight * file.live_pools) / max(file.rows + weight * file.pools, 1.0)


def _moved_bytes(engine: Engine, moved: Sequence[int]) -> int:
    return moved[0] * engine.bytes_per_entity + moved[1] * engine.bytes_per_pool


def _stub(metadata: dict[str, Any], parts: list[ArrayPart]) -> bytes:
    """Return a file that names what this one does, and has no rows."""
    targets = []
    for j, own in enumerate(metadata["targets"]):
        names = next(len(orjson.loads(part.array.tobytes())) for part in parts if part.name == f"{j}.names")
        targets.append({**own, "moved": [names, len(own["pools"]) if own["pools"] else names]})
    file = BytesIO()
    write(file, {**metadata, "targets": targets, "after": ""}, parts)
    return file.getvalue()


def _moved_of(content: bytes) -> tuple[int, int]:
    rows = [own["moved"] for own in SnapshotReader(BytesIO(content)).metadata["targets"]]
    return sum(row[0] for row in rows), sum(row[1] for row in rows)
