"""The snapshots of one partition in the store that all members of a group reach.

A snapshot is a file PARTITION-OFFSET-CONTENT.state: the state before the message of that offset, whole or what changed
since the snapshot that it names. The last part is a checksum of all of its content, the predecessors' included: a name
always means the same state, and a member that was believed dead cannot overwrite another's.

A file is complete, under its final name and on the disk before its name is committed with the offset. Only the member
that has just committed deletes, and only files of earlier offsets than its own: what a successor needs has later ones.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot import require_compatible_state
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import (
    FOLDER,
    FULL_WRITE_SHARE,
    Checkpoint,
    load_chain,
    open_checkpoint,
    read_chain,
    sync,
)

HEADS = "committed"
"""Folder with a file a partition: the snapshot that was committed last, for those that do not read the commits."""
ORPHANED = 3600.0
"""Seconds after which a file that no commit names is deleted: its member was killed before the commit."""
SWEEP = 60.0
"""Seconds between two searches for such files."""
_DISK, _TIDY = ThreadPoolExecutor(4, "store"), ThreadPoolExecutor(1, "store-tidy")
_OWN = uuid.uuid4().hex[:8]
"""Of this process: its drafts have names of their own."""


class PartitionSnapshots:
    """Writes, commits and loads the snapshots of one partition. folder: of the flow in the store"""

    def __init__(self, folder: Path, partition: int) -> None:
        self.folder, self.partition = folder, partition
        self.written = 0
        """Bytes of the last file."""
        self.written_at = 0.0
        """When it was written, s since 1970."""
        self._chain: list[Checkpoint] = []
        self._committed: list[Checkpoint] = []
        self._known = set[str]()  # files that it has loaded or written
        self._on_disk: Future[None] | None = None
        self._swept = time.monotonic()

    @property
    def name(self) -> str:
        """The latest snapshot; empty: there is none."""
        return self._chain[-1].name if self._chain else ""

    @property
    def size(self) -> int:
        """Bytes that a successor has to load."""
        return sum(each.size for each in self._chain)

    def restore(self, config: Config, name: str) -> Engine:
        """Return the engine with the state of a snapshot.

        Raises:
            StateError: a file is missing or damaged, or another model made the state.
        """
        chain = read_chain(self.folder / FOLDER, name)
        with open_checkpoint(self.folder / FOLDER, chain[0].name) as reader:
            require_compatible_state(reader.metadata, config)
        engine = Engine(config)
        load_chain(engine, self.folder / FOLDER, chain)
        self._chain = self._committed = chain
        self._known = {each.name for each in chain}
        self.written_at = (self.folder / FOLDER / name).stat().st_mtime
        return engine

    def write(self, engine: Engine, offset: int) -> str:
        """Write what has changed, or all of it where that costs about the same; returns the name of the snapshot.

        It is not on the disk before `wait` returns.

        Raises:
            RecoveryError: it cannot be written.
        """
        self.wait()
        chain, states = self._chain, self.folder / FOLDER
        later = sum(each.size for each in chain[1:])
        whole = not chain or later >= chain[0].size or engine.changed_share > FULL_WRITE_SHARE
        draft = states / f"{self.partition:04d}.{_OWN}.draft"
        try:
            with draft.open("wb") as file:
                content = engine.write_snapshot(file, full=whole, base="" if whole else chain[-1].name)
                size = file.seek(0, os.SEEK_END)
        except OSError as error:
            raise RecoveryError(f"state.store: {draft} cannot be written: {error}") from error
        name = f"{self.partition:04d}-{offset:08d}-{content}.state"
        self._chain = [*([] if whole else chain), Checkpoint(name, size, whole)]
        self.written, self.written_at = size, time.time()
        self._known.add(name)
        self._on_disk = _DISK.submit(_publish, draft, states / name)
        return name

    def wait(self) -> None:
        """Wait until the last snapshot is on the disk under its name.

        Raises:
            RecoveryError: it cannot be written.
        """
        if self._on_disk is None:
            return
        try:
            self._on_disk.result()
        except OSError as error:
            raise RecoveryError(f"state.store: {self.folder} cannot be written: {error}") from error
        self._on_disk = None

    def commit(self, offset: int) -> None:
        """Note that the group has committed the latest snapshot with an offset, and delete what nobody needs."""
        before, self._committed = self._committed, self._chain
        needed = {each.name for each in [*before, *self._committed]}
        stale, self._known = self._known - needed, needed
        _TIDY.submit(self._tidy, self.name, offset, stale, needed)

    def _tidy(self, name: str, offset: int, stale: set[str], needed: set[str]) -> None:
        states, now = self.folder / FOLDER, time.time()
        with contextlib.suppress(OSError):  # the next one deletes
            _replace(self.folder / HEADS / f"{self.partition:04d}", f"{name} {offset}\n".encode())
            for old in stale:
                (states / old).unlink(missing_ok=True)
            if time.monotonic() - self._swept < SWEEP:
                return
            self._swept = time.monotonic()
            for file in states.glob(f"{self.partition:04d}[-.]*"):
                old_draft = file.suffix == ".draft"
                earlier = old_draft or int(file.name.split("-")[1]) < offset
                if earlier and file.name not in needed and now - file.stat().st_mtime > ORPHANED:
                    file.unlink(missing_ok=True)


def _publish(draft: Path, path: Path) -> None:
    sync(draft)
    draft.replace(path)
    sync(path.parent)


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.{_OWN}.draft")
    draft.write_bytes(content)
    draft.replace(path)


def read_head(folder: Path, partition: int) -> tuple[str, int] | None:
    """Return the snapshot of a partition that was committed last, and its offset; None without one."""
    try:
        name, offset = (folder / HEADS / f"{partition:04d}").read_text().split()
        return name, int(offset)
    except (OSError, ValueError):
        return None
