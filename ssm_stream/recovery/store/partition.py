"""The snapshots of one partition in the store that all members of a group reach.

A snapshot is a file PARTITION-NUMBER-CONTENT.state with what an epoch changed, and the names of the earlier files that
have the rest of the state. The number is the offset of the next message, and with several topics the sum of theirs: it
grows with what was read. The last part of a name is a checksum of the content: a
name always means the same state, and a member that was believed dead cannot overwrite another's.

A file is complete, under its final name and safe in the store before its name is committed with the offset. Only the
member that has just committed deletes, and only files of lower numbers than its own: what a successor needs has higher
ones, or is among the files that it began with.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import structlog

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot import require_compatible_state, times_of, with_holidays_of
from ssm_stream.engine.snapshot_format import SnapshotCopy, SnapshotReader
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import FOLDER, load_chain, open_checkpoint
from ssm_stream.recovery.store import ahead
from ssm_stream.recovery.store.background import Background
from ssm_stream.recovery.store.blobs import Blobs, await_writes
from ssm_stream.recovery.store.chain import read_log
from ssm_stream.recovery.store.head import Head, write_head
from ssm_stream.recovery.store.kept import KeptStates
from ssm_stream.recovery.store.live_rows import LiveRows, LoggedFile

LOG = structlog.get_logger("ssm_stream.store")
ORPHANED = 3600.0
"""Seconds after which a file that no commit names is deleted: its member was killed before the commit."""
SWEEP = 60.0
"""Seconds between two searches for such files."""
_PUBLISH, _TIDY = ThreadPoolExecutor(16, "store"), Background(8, "store-tidy")


class _Todo(NamedTuple):
    """What is to be noted of a commit. needed: files that stay; time: the latest event time, ms; size: of the epoch, in
    bytes"""

    head: Head
    needed: set[str]
    time: float | None
    size: int


class PartitionSnapshots:
    """Writes, commits and loads the snapshots of one partition.

    Args:
        blobs: of the flow
        keep: seconds for which earlier states are kept; None: none are
    """

    def __init__(self, blobs: Blobs, topic: str, partition: int, keep: float | None = None) -> None:
        self.blobs, self.partition = blobs, partition
        self.written = 0
        """Bytes that were written for the last snapshot."""
        self.written_at = 0.0
        """When it was written, s since 1970."""
        self.name = ""
        """The latest snapshot; empty: there is none."""
        # The one before in this process may still be publishing its draft.
        self._draft = f"{partition:04d}.{uuid.uuid4().hex[:8]}"
        self._changes = ahead.EpochChanges()
        self._ahead = list[LoggedFile]()  # of this epoch
        self._rows = LiveRows(fleet=True)
        self._committed: list[str] = []
        self._known = set[str]()  # files that it has loaded or written
        self._time: float | None = None
        self._publishing: list[Future[None]] = []
        self._swept = time.monotonic()
        self._change, self._tidying = threading.Lock(), threading.Lock()
        self._todo: _Todo | None = None
        self._stale = set[str]()
        self.kept = KeptStates(blobs, topic, partition, keep)

    @property
    def size(self) -> int:
        """Bytes that a successor has to load."""
        return self._rows.size

    @property
    def files(self) -> list[str]:
        """The files of the latest snapshot, the first one whole."""
        return [each.name for each in self._rows.files]

    def restore(self, config: Config, name: str) -> Engine:
        """Return the engine with the state of a snapshot.

        Raises:
            StateError: a file is missing or damaged, or another model made the state.
            RecoveryError: the store refuses.
        """
        rows = LiveRows(fleet=config.model.fleet)
        with self.blobs.fetch(FOLDER, [name]) as folder:
            names = read_log(folder, name)
            with open_checkpoint(folder, name) as reader:
                newest = reader.metadata
        with self.blobs.fetch(FOLDER, names) as folder:
            for each in names:
                with open_checkpoint(folder, each) as reader:
                    if each == names[0]:
                        config = with_holidays_of(config, reader.metadata, newest)
                        require_compatible_state(reader.metadata, config)
                    rows.load(each, reader)
            rows.count()
            rows.require_whole()
            engine = Engine(config)
            load_chain(engine, folder, rows.checkpoints, rows.live_of)
        self._rows, self.name = rows, name
        self._committed = self.files
        self._known = set(self._committed)
        return engine

    def write_ahead(self, engine: Engine, events: int, number: int) -> None:
        """Write what has changed since the beginning of the epoch, if that spares its end much.

        Args:
            events: that the engine has processed since the last call
            number: of the last commit
        """
        self._changes.add_events(events)
        if not self._changes.spread or not self._rows.files or not ahead.are_many(engine):
            return
        self._changes.add_rows(engine)
        memory = ahead.MEMORY.get()
        try:
            metadata, parts = engine.dump(full=False)
            stores = [each.store for each in engine.target_engines]
            blocks = [block for each in stores for block in (each.entity_block, each.pool_block)]
            copy = SnapshotCopy({**metadata, "after": ""}, parts, memory, blocks)
            engine.mark_persisted()
            file = self._rows.add_copy(copy)
            self._ahead.append(file)
            draft = f"{self._draft}-{len(self._ahead)}"
            self._publishing.append(_PUBLISH.submit(self._write_copy, copy, file, draft, number))
        except BaseException:
            ahead.MEMORY.put(memory)
            raise

    def _write_copy(self, copy: SnapshotCopy, found: LoggedFile, name: str, number: int) -> None:
        try:
            with _writable(draft := self.blobs.draft(name)) as file:
                found.name = f"{self.partition:04d}-{number:08d}-{copy.write(file)}.state"
        except OSError as error:
            raise RecoveryError(f"state.store: {draft} cannot be written: {error}") from error
        finally:
            ahead.MEMORY.put(copy.memory)
        self.blobs.publish(draft, f"{FOLDER}/{found.name}")

    def write(self, engine: Engine, number: int) -> str:
        """Write what has changed, or all of it where that costs about the same; returns the name of the snapshot.

        It is not safe in the store before `wait` returns.

        Args:
            number: of the commit that it is for

        Raises:
            RecoveryError: it cannot be written.
        """
        self.wait()
        self._changes.end(engine)
        self.written = sum(each.size for each in self._ahead)
        self._known |= {each.name for each in self._ahead}
        self._ahead = []
        whole = self._rows.must_rewrite(engine)
        if whole:
            self._rows = LiveRows(fleet=engine.config.model.fleet)
        else:
            for dead, content in self._rows.drop_dead():
                dead.name = self._put(dead.name.split("-")[1], content)
            self._rows.clean(engine)
        draft = self.blobs.draft(self._draft)
        base = "" if whole else " ".join(self.files)
        try:
            with _writable(draft) as file:
                content_name = engine.write_snapshot(file, full=whole, base=base)
                self.written += file.seek(0, os.SEEK_END)
                file.seek(0)
                reader = SnapshotReader(file)
                name = f"{self.partition:04d}-{number:08d}-{content_name}.state"
                self._rows.add(name, reader)
        except OSError as error:
            raise RecoveryError(f"state.store: {draft} cannot be written: {error}") from error
        self._time = max((each for each in times_of(reader.metadata) if each == each), default=None)
        self.name, self.written_at = name, time.time()
        self._known.add(name)
        self._publishing.append(_PUBLISH.submit(self.blobs.publish, draft, f"{FOLDER}/{name}"))
        return name

    def _put(self, offset: str, content: bytes) -> str:
        """Write a small file of the state; returns its name."""
        name = f"{self.partition:04d}-{offset}-{SnapshotReader(BytesIO(content)).name}.state"
        self.written += len(content)
        self._known.add(name)
        self._publishing.append(_PUBLISH.submit(self.blobs.write, f"{FOLDER}/{name}", content))
        return name

    def wait(self) -> None:
        """Wait until the last snapshot is safe in the store under its name.

        Raises:
            RecoveryError: it cannot be written.
        """
        await_writes(self._publishing)

    def commit(self, offset: int, further: tuple[tuple[str, int], ...] = ()) -> None:
        """Note that the group has committed the latest snapshot with its offsets, and delete what nobody needs."""
        before, self._committed = self._committed, self.files
        needed = {*before, *self._committed}
        stale, self._known = self._known - needed, set(needed)
        head = Head(self.name, offset, time.time_ns() // 1_000_000, self._committed, further)
        with self._change:
            waits = self._todo is not None
            self._todo = _Todo(head, needed, self._time, self.written)
            self._stale |= stale
        if not waits:
            _TIDY.submit(self._tidy)

    def _tidy(self) -> None:
        """Note the newest commit in the store, and delete what was needed by earlier ones alone."""
        with self._tidying:
            with self._change:
                todo, self._todo = self._todo, None
                stale, self._stale = self._stale, set()
            assert todo is not None
            try:
                write_head(self.blobs, self.partition, todo.head)
                stale |= self.kept.keep(todo.head, todo.time)
                needed = todo.needed | self.kept.files
                self.blobs.replace(
                    (f"{FOLDER}/{each}" for each in sorted(stale - needed)), f"{self.partition:04d}", todo.size
                )
                if time.monotonic() - self._swept >= SWEEP:
                    self._swept = time.monotonic()
                    self._sweep(todo.head.number, needed)
            except (RecoveryError, OSError) as error:  # a later sweep deletes
                LOG.warning("store_not_tidied", partition=self.partition, error=str(error))

    def _sweep(self, number: int, needed: set[str]) -> None:
        """Delete what members left behind that were killed."""
        orphaned = time.time() - ORPHANED
        old = [
            each.key
            for each in self.blobs.find(FOLDER)
            if (name := each.key.rpartition("/")[2]).startswith(f"{self.partition:04d}-")
            and name not in needed
            and int(name.split("-")[1]) < number
            and each.modified < orphaned
        ]
        self.blobs.delete(old)
        for draft in self.blobs.drafts(orphaned):
            draft.unlink(missing_ok=True)


def _writable(draft: Path) -> BinaryIO:
    """Open a draft, which may be a file that nobody needs any longer."""
    return draft.open("r+b" if draft.exists() else "w+b")


def flush() -> None:
    """Wait until what was committed is noted in the store, and what nobody needs is deleted."""
    _TIDY.drain()
