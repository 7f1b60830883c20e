"""Reads the state of a group in its store, whether or not its members run: as they have committed it last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from ssm_stream.config import Config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.recovery.bytewax_db import LABELS_PREFIX, RecoveryError, SnapshotRow, source_part
from ssm_stream.recovery.checkpoint_files import FOLDER, TOKEN
from ssm_stream.recovery.generations.report import GenerationList, list_generations
from ssm_stream.recovery.reader import ATTEMPTS, StoredState, require_directory, with_state
from ssm_stream.recovery.store.blobs import FolderBlobs
from ssm_stream.recovery.store.chain import read_checkpoints
from ssm_stream.recovery.store.flow_store import open_blobs
from ssm_stream.recovery.store.head import Head, read_heads
from ssm_stream.recovery.store.kept import list_kept
from ssm_stream.recovery.store.notes import copy_notes

T = TypeVar("T")


def with_stored_state(config: Config, read: Callable[[StoredState], T]) -> T:
    """Call `read` with the state of a flow, wherever it is; again where a process has replaced files meanwhile.

    Raises:
        RecoveryError, StateError: it is damaged, or there is none.
    """
    if config.state.store is None:
        directory = require_directory(config)
        if not directory.exists():
            raise RecoveryError(
                f"recovery.directory: no state at {directory.absolute()}: the flow has not started yet, or it runs in "
                "another folder, which a relative path is from: call this there, or write an absolute path"
            )
        return with_state(directory, read)
    for _ in range(ATTEMPTS):
        try:
            with open_store(config) as stored:
                return read(stored)
        except StateError:
            time.sleep(0.05)
    with open_store(config) as stored:
        return read(stored)


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
    with blobs.fetch(FOLDER, names) as files:
        rows = [
            SnapshotRow(0, "monitor.source", _source_part(config, *place), 0, offset)
            for p, head in heads.items()
            for place, offset in head.positions(config.source.topic, p).items()
        ]
        there = {f"{p:04d}": head.name for p, head in heads.items() if head.name}
        rows += [SnapshotRow(0, "monitor.learn", key, 0, TOKEN + name.encode()) for key, name in there.items()]
        chains = {key: read_checkpoints(files, name) for key, name in there.items()}
        directory = files
        if isinstance(blobs, FolderBlobs):
            directory = blobs.folder
        else:
            copy_notes(blobs, files)
        yield StoredState(directory, 0, None, 0, rows, chains, files, blobs.place)


def _source_part(config: Config, topic: str, partition: int) -> str:
    names = config.source.names
    return source_part(names.index(topic), partition) if topic in names else LABELS_PREFIX + source_part(0, partition)


def kept_states(config: Config, stored: StoredState) -> GenerationList:
    """Return the earlier states that are kept.

    Raises:
        RecoveryError: the store refuses.
    """
    return list_generations(stored.directory) if config.state.store is None else list_kept(open_blobs(config))
