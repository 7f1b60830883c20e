"""A shard's state on disk: files next to Bytewax's recovery databases, which hold only the name of the latest one.

A checkpoint is what one epoch wrote of a shard: all of its state, or the rows that changed since the checkpoint before,
which it names. A checkpoint with its predecessors, down to a whole one, is a chain. The last part of a file's name
SHARD-NUMBER-CONTENT.state is a checksum of the whole chain's content, so that a name always means the same state.

A file is complete and under its final name before Bytewax gets that name: killing the process loses nothing. The next
epoch waits until the file is on the disk, and needs the checkpoint before it in case the power fails meanwhile
(`directory.roll_back`). Three checkpoints are retained: the one being written and the two before it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.memory import growable_arrays
from ssm_stream.engine.snapshot_format import BodyError, Live, SnapshotReader, StateError, damage_as_state_error

FOLDER = "state"
TOKEN = b"ssm-stream state in "
STATE_NAME = r"\d{4}-\d{8,}-[0-9a-f]{16}\.state"
_TOKEN = re.compile(TOKEN + b"(" + STATE_NAME.encode() + b")")
RETAINED = 3
"""Checkpoints: the one being written, the one that the epoch started from, and one more in case that one is torn."""
FULL_WRITE_SHARE = 0.5
"""Share of changed rows from which all are written: picking rows out costs about twice as much as writing a row."""
ROOM = 1 << 28
"""Bytes of rows that the files of a state may name without having them, apart from a multiple of what they have."""
MIN_SPARE_BYTES = 1 << 24
"""Size of a file from which overwriting it is faster than writing a new one."""

_ZEROS = bytes(1 << 20)
_DISK = ThreadPoolExecutor(1, "state-on-disk")
_ENDING = threading.Event()


class Checkpoint(NamedTuple):
    """A file of a chain: its name, size in bytes, and whether it holds the whole state."""

    name: str
    size: int
    whole: bool


def state_folder(config: Config) -> Path | None:
    """The folder of the state files, or None where recovery is off and a snapshot is the state itself."""
    return None if config.recovery.directory is None else config.recovery.directory / FOLDER


def referenced_file(snapshot: bytes) -> str | None:
    """The file that a snapshot of a shard names, pickled by Bytewax or not; None if it names none."""
    found = _TOKEN.search(snapshot, 0, 200)
    return found[1].decode() if found else None


class ShardCheckpoints:
    """Writes and restores the checkpoints of one shard. folder: the state files of all shards"""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shard = self._number = 0
        self._chains: list[list[Checkpoint]] = []
        self._on_disk: Future[None] | None = None
        self._stop_filling = threading.Event()
        self.written = 0
        """Bytes of the last checkpoint."""

    def restore(self, config: Config, name: str) -> Engine:
        """The engine with the state of that file and its predecessors.

        Raises:
            StateError: a file is missing or damaged, or another configuration made the state.
        """
        chain = read_chain(self.folder, name)
        engine = Engine(config)
        try:
            load_chain(engine, self.folder, chain)
        except StateError as error:
            if not isinstance(error.__cause__, BodyError):
                raise
            raise StateError(
                f"{error}: restore the whole directory from a copy or from an export (ssm-stream state import), or "
                "move it away to start anew (ssm-stream state reset)"
            ) from error
        shard, number, _ = name.split("-")
        self.shard, self._number, self._chains = int(shard), int(number), [chain]
        return engine

    def write(self, engine: Engine) -> bytes:
        """Write what has changed, or all of it where that costs about the same; returns the snapshot for Bytewax."""
        self.finish()
        chain = self._chains[-1] if self._chains else []
        later = sum(checkpoint.size for checkpoint in chain[1:])
        whole = not chain or later >= chain[0].size or engine.changed_share > FULL_WRITE_SHARE
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        draft, spare = self._path("draft"), self._path("spare")
        if whole and spare.exists():
            spare.rename(draft)
        with draft.open("r+b" if whole and draft.exists() else "wb") as file:
            content = engine.write_snapshot(file, full=whole, base="" if whole else chain[-1].name)
            size = file.seek(0, os.SEEK_END)
        name = f"{self.shard:04d}-{self._number:08d}-{content}.state"
        draft.rename(self.folder / name)
        self.written = size
        self._chains = [*self._chains, [*([] if whole else chain), Checkpoint(name, size, whole)]][-RETAINED:]
        needed = {checkpoint.name for chain in self._chains for checkpoint in chain}
        spare_size = size if whole and size >= MIN_SPARE_BYTES else 0
        self._on_disk = _DISK.submit(self._sync_and_clean_up, name, needed, spare_size)
        return TOKEN + name.encode()

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        if self._on_disk is not None:
            self._stop_filling.set()
            self._on_disk.result()
            self._stop_filling.clear()

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.shard:04d}.{suffix}"

    def _sync_and_clean_up(self, name: str, needed: set[str], spare_size: int) -> None:
        """Sync a checkpoint to the disk, delete the files not needed and prepare a spare one for the next.

        An overwritten file has its pages and blocks already, which takes most of the time of writing one. A spare file
        that is filled only in part, as the next epoch or the end has come, helps for that part.

        Args:
            spare_size: bytes of the spare file, 0 for none
        """
        sync(self.folder / name)
        sync(self.folder)
        spare = self._path("spare")
        for file in self.folder.glob(f"{self.shard:04d}-*.state"):
            if file.name in needed:
                continue
            about = file.stat()
            # A file with another link belongs to a generation, too: it must not be overwritten.
            if spare_size and not spare.exists() and about.st_size >= spare_size // 2 and about.st_nlink == 1:
                file.rename(spare)
            else:
                file.unlink()
        if spare_size and not spare.exists():
            with spare.open("wb") as made:
                for _ in range(0, spare_size, len(_ZEROS)):
                    if self._stop_filling.is_set() or _ENDING.is_set():
                        break
                    made.write(_ZEROS)


def link_files(names: Sequence[str], source: Path, target: Path) -> None:
    """Put state files into another folder, as hard links or, where the file system has none, as copies; wait until they
    are on the disk.

    It runs on the thread that deletes and overwrites files, so that none changes meanwhile.

    Raises:
        FileNotFoundError: one is not there.
    """
    _DISK.submit(_link_files, names, source, target).result()


def _link_files(names: Sequence[str], source: Path, target: Path) -> None:
    for name in names:
        path = target / name
        if path.exists():
            continue
        try:
            os.link(source / name, path)
        except FileNotFoundError:
            raise
        except OSError:
            draft = target / f"{name}.draft"
            shutil.copyfile(source / name, draft)
            draft.rename(path)
        sync(path)
    sync(target)


def flush() -> None:
    """Wait until all checkpoints of this process are on the disk and the files not needed are deleted."""
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


def read_chain(folder: Path, name: str, *, verify: bool = False) -> list[Checkpoint]:
    """The checkpoints that a state consists of, the whole one first.

    Args:
        verify: read all of each file and compare its checksum; else only the header is read

    Raises:
        StateError: a file is missing or damaged.
    """
    chain: list[Checkpoint] = []
    while name:
        with open_checkpoint(folder, name) as reader:
            if verify:
                reader.check()
            with damage_as_state_error():
                chain.append(Checkpoint(name, reader.size, bool(reader.metadata["whole"])))
                name = reader.metadata["after"]
                if name and re.fullmatch(STATE_NAME, name) is None:
                    raise StateError("the snapshot is damaged: its predecessor is not the name of a state file")
    return chain[::-1]


def load_chain(
    engine: Engine, folder: Path, chain: Sequence[Checkpoint], live: Callable[[int], Live] = lambda _: {}
) -> None:
    """Load a full snapshot and the incremental ones after it.

    Args:
        live: returns which rows are loaded of a file, by its place in the chain, as `SnapshotReader.live` has them

    Raises:
        StateError: a file is missing or damaged, or another configuration made the state; names the file.
    """
    named = 0
    for i, checkpoint in enumerate(chain):
        with open_checkpoint(folder, checkpoint.name) as reader:
            reader.live = live(i)
            named += _named_bytes(engine, reader.metadata)
            if named > 4 * sum(each.size for each in chain) + ROOM:
                raise StateError("the snapshot is damaged: it names far more entities than its files have")
            engine.load(reader)
            if checkpoint is chain[-1]:
                engine.finish_load()
    for each in engine.target_engines:
        growable_arrays.request_huge_pages(each.store.entity_block)
        growable_arrays.request_huge_pages(each.store.pool_block)


def _named_bytes(engine: Engine, metadata: dict[str, Any]) -> int:
    """Return the memory of the rows that a file names, and that later files have."""
    with damage_as_state_error():
        moved = [own["moved"] for own in metadata["targets"] if "moved" in own]
        return sum(int(n) * engine.bytes_per_entity + int(pools) * engine.bytes_per_pool for n, pools in moved)


@contextlib.contextmanager
def open_checkpoint(folder: Path, name: str) -> Iterator[SnapshotReader]:
    """Open a file for reading.

    Raises:
        StateError: the file is missing or damaged; one that is raised inside the block gets the file's name.
    """
    path = folder / name
    try:
        with path.open("rb") as file:
            reader = SnapshotReader(file)
            if f"-{reader.name}.state" not in name:
                raise StateError("its content is not the one that its name states")
            yield reader
    except FileNotFoundError:
        raise StateError(f"{path} is missing") from None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error}") from error
    except StateError as error:
        raise StateError(f"{path}: {error}") from error
