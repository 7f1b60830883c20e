"""Reads the state of a group in its store, whether or not its members run: as they have committed it last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ssm_stream.config import Config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.recovery.bytewax_db import SnapshotRow, source_part
from ssm_stream.recovery.checkpoint_files import FOLDER
from ssm_stream.recovery.reader import ATTEMPTS, StoredState, require_directory, with_state
from ssm_stream.recovery.store.blobs import Blobs, FolderBlobs
from ssm_stream.recovery.store.chain import read_checkpoints
from ssm_stream.recovery.store.flow_store import open_blobs
from ssm_stream.recovery.store.head import Head, read_heads

T = TypeVar("T")


def with_stored_state(config: Config, read: Callable[[StoredState], T]) -> T:
    """Call `read` with the state of a flow, wherever it is; again where a process has replaced files meanwhile.

    Raises:
        RecoveryError, StateError: it is damaged, or there is none.
    """
    if config.state.store is None:
        return with_state(require_directory(config), read)
    for attempt in range(ATTEMPTS):
        try:
            with open_store(config) as stored:
                return read(stored)
        except StateError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.05)
    raise AssertionError


@contextlib.contextmanager
def open_store(config: Config, heads: dict[int, Head] | None = None) -> Iterator[StoredState]:
    """Yield the state in a store: its files are in a folder of this machine for as long.

    Args:
        heads: snapshots by partition; None: those that the members have committed last

    Raises:
        RecoveryError: there is no store, or it refuses.
        StateError: a file is damaged.
    """
    blobs = open_blobs(config)
    heads = read_heads(blobs) if heads is None else heads
    names = [name for head in heads.values() for name in head.files]
    with blobs.fetch(FOLDER, names) as folder:
        rows = [SnapshotRow(0, "monitor.source", source_part(0, p), 0, head.offset) for p, head in heads.items()]
        chains = {f"{p:04d}": read_checkpoints(folder, head.name) for p, head in heads.items() if head.name}
        yield StoredState(_place(blobs), 0, None, 0, rows, chains, folder)


def _place(blobs: Blobs) -> Path:
    return blobs.folder if isinstance(blobs, FolderBlobs) else Path(blobs.place)
