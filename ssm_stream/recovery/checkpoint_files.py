"""A shard's state on disk: files beside Bytewax's recovery databases, which only hold the name of the latest.

A generation is what one epoch has left of a shard: all of its state, or the rows that have changed since the generation
before, which it names. The files of a generation, its predecessor, … down to a whole one are a chain. The last part of
SHARD-NUMBER-CONTENT.state stands for all of the chain's content, so that a name never stands for another state.

A file is complete, under its final name, before Bytewax hears of it: killing the process loses nothing. That it is on
the disk is waited for at the next epoch, in which the generation before it has to be there still for when the power
fails (`recovery.py`). With the next one before that, for the same reason, three generations are kept.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import SnapshotReader, StateError, sound

FOLDER = "state"
TOKEN = b"ssm-stream state in "
_NAME = r"\d{4}-\d{8,}-[0-9a-f]{16}\.state"
_TOKEN = re.compile(TOKEN + b"(" + _NAME.encode() + b")")
KEPT = 3
"""Generations: the one being written, the one that the epoch started from, and the one before, should that be torn."""
MOSTLY = 0.5
"""Share of changed rows from which all are written: picking rows out costs about twice as much as writing a row."""

SPARED = 1 << 24
"""Bytes from which a file is worth writing over."""

_ZEROS = bytes(1 << 20)
_DISK = ThreadPoolExecutor(1, "state-on-disk")
_ENDING = threading.Event()


class Generation(NamedTuple):
    """A file: its name, bytes, and whether it is the whole state."""

    name: str
    size: int
    whole: bool


def folder_of(config: Config) -> Path | None:
    """Where states are kept; None where recovery is off, and a snapshot is the state itself."""
    return None if config.recovery.directory is None else config.recovery.directory / FOLDER


def name_in(snapshot: bytes) -> str | None:
    """The file that a snapshot names, also as Bytewax keeps it; None where it is a state itself, or not a shard's."""
    found = _TOKEN.search(snapshot, 0, 200)
    return found[1].decode() if found else None


class ShardFiles:
    """Writes the generations of one shard. folder: of all shards' files"""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shard = self._number = 0
        self._chains: list[list[Generation]] = []
        self._on_disk: Future[None] | None = None
        self._hurried = threading.Event()
        self.written = 0
        """Bytes of the last generation."""

    def take(self, shard: int) -> None:
        """The shard whose files these are."""
        self._shard = shard

    def restore(self, config: Config, name: str) -> Engine:
        """The engine whose state is in that file and its predecessors.

        Raises:
            StateError: one is missing or damaged, or another configuration made the state.
        """
        chain = chain_of(self.folder, name)
        engine = Engine(config)
        for generation in chain:
            with opened(self.folder, generation.name) as reader:
                engine.load(reader)
        engine.finish_load()
        shard, number, _ = name.split("-")
        self._shard, self._number, self._chains = int(shard), int(number), [chain]
        return engine

    def write(self, engine: Engine) -> bytes:
        """Keep what has changed, or all of it where that is about as much; returns what Bytewax is to keep."""
        self.finish()
        chain = self._chains[-1] if self._chains else []
        later = sum(generation.size for generation in chain[1:])
        whole = not chain or later >= chain[0].size or engine.changed_share > MOSTLY
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        draft, spare = self._beside("draft"), self._beside("spare")
        if whole and spare.exists():
            spare.rename(draft)
        with draft.open("r+b" if whole and draft.exists() else "wb") as file:
            content = engine.write_snapshot(file, full=whole, base="" if whole else chain[-1].name)
            size = file.seek(0, os.SEEK_END)
        name = f"{self._shard:04d}-{self._number:08d}-{content}.state"
        draft.rename(self.folder / name)
        self.written = size
        self._chains = [*self._chains, [*([] if whole else chain), Generation(name, size, whole)]][-KEPT:]
        needed = {generation.name for chain in self._chains for generation in chain}
        self._on_disk = _DISK.submit(self._settle, name, needed, size if whole and size >= SPARED else 0)
        return TOKEN + name.encode()

    def finish(self) -> None:
        """Wait until what was written last is on the disk."""
        if self._on_disk is not None:
            self._hurried.set()
            self._on_disk.result()
            self._hurried.clear()

    def _beside(self, ending: str) -> Path:
        return self.folder / f"{self._shard:04d}.{ending}"

    def _settle(self, name: str, needed: set[str], size: int) -> None:
        """What can wait until the snapshot is over. size: of a spare file that may be of use next time, 0: of none

        A file that is written over has its pages and blocks already, which takes most of the time of writing one. One
        that is made only in part, as the next epoch or the end has come, helps for that part.
        """
        sync(self.folder / name)
        sync(self.folder)
        spare = self._beside("spare")
        for file in self.folder.glob(f"{self._shard:04d}-*.state"):
            if file.name in needed:
                continue
            if size and not spare.exists() and file.stat().st_size >= size // 2:
                file.rename(spare)
            else:
                file.unlink()
        if size and not spare.exists():
            with spare.open("wb") as made:
                for _ in range(0, size, len(_ZEROS)):
                    if self._hurried.is_set() or _ENDING.is_set():
                        break
                    made.write(_ZEROS)


def settled() -> None:
    """Wait until what this process has written lately is on the disk, and what it no longer needs is gone from it."""
    _ENDING.set()
    _DISK.submit(lambda: None).result()
    _ENDING.clear()


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def chain_of(folder: Path, name: str, *, thoroughly: bool = False) -> list[Generation]:
    """The generations that a state is made of, the whole one first.

    Args:
        thoroughly: read all of each, for its checksum; else its header only

    Raises:
        StateError: one is missing or damaged.
    """
    chain: list[Generation] = []
    while name:
        with opened(folder, name) as reader:
            if thoroughly:
                reader.check()
            with sound():
                chain.append(Generation(name, reader.size, bool(reader.metadata["whole"])))
                name = reader.metadata["after"]
                if name and re.fullmatch(_NAME, name) is None:
                    raise StateError("the snapshot is damaged: what it goes on from is no name of a state")
    return chain[::-1]


@contextmanager
def opened(folder: Path, name: str) -> Iterator[SnapshotReader]:
    """A file to be read.

    Raises:
        StateError: it is missing or damaged; so where one is raised inside.
    """
    path = folder / name
    try:
        with path.open("rb") as file:
            reader = SnapshotReader(file)
            if f"-{reader.name}.state" not in name:
                raise StateError("it holds another snapshot than its name says")
            yield reader
    except FileNotFoundError:
        raise StateError(f"{path} is missing") from None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error}") from error
    except StateError as error:
        raise StateError(f"{path}: {error}") from error
