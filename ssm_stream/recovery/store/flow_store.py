"""The folder of one flow in the store: all members of its group reach it, each writes the partitions that it holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ssm_stream.config import Config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.recovery.bytewax_db import RecoveryError, SnapshotRow, source_part
from ssm_stream.recovery.checkpoint_files import FOLDER, read_chain
from ssm_stream.recovery.reader import ATTEMPTS, StoredState, require_directory, with_state
from ssm_stream.recovery.settings_files import read_json, write_json
from ssm_stream.recovery.store.partition import HEADS, PartitionSnapshots, read_head

T = TypeVar("T")
FLOW = "flow.json"


def flow_folder(config: Config) -> Path:
    """Return the folder of a flow: its name is that of its group.

    Raises:
        RecoveryError: the flow has no store.
    """
    if config.state.store is None:
        raise RecoveryError("state.store: null, so no state is stored: name a folder")
    return config.state.store / config.source.group_id


class FlowStore:
    """The snapshots of a flow.

    Raises:
        RecoveryError: the folder cannot be used, or belongs to another flow.
    """

    def __init__(self, config: Config, topic_id: str | None = None) -> None:
        self.folder = flow_folder(config)
        try:
            for each in (self.folder / FOLDER, self.folder / HEADS):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RecoveryError(f"state.store: {self.folder} cannot be used: {error}") from error
        self._identify(_identity(config, topic_id))

    def _identify(self, identity: dict[str, Any]) -> None:
        """Write what flow this is, or compare."""
        file = self.folder / FLOW
        found = read_json(file)
        if found is None:
            write_json(file, identity)
            return
        differing = [k for k in identity if found.get(k) != identity[k] and None not in (found.get(k), identity[k])]
        if differing:
            what = ", ".join(f"{key} {found.get(key)!r}, here {identity[key]!r}" for key in differing)
            cure = "the topic was created again, or this is another cluster" if "topic_id" in differing else what
            raise RecoveryError(
                f"state.store: {self.folder} holds the state of another flow ({what}): "
                + (f"{cure}: " if cure != what else "")
                + "give this one a source.group of its own"
            )

    def partition(self, partition: int) -> PartitionSnapshots:
        """Return the snapshots of a partition."""
        return PartitionSnapshots(self.folder, partition)

    def head(self, partition: int) -> tuple[str, int] | None:
        """Return the snapshot of a partition that was committed last, and its offset; None without one."""
        return read_head(self.folder, partition)


def _identity(config: Config, topic_id: str | None) -> dict[str, Any]:
    event = config.event
    return {"topic": config.source.topic, "topic_id": topic_id, "entity": event.entity, "targets": list(event.targets)}


def with_stored_state(config: Config, read: Callable[[StoredState], T]) -> T:
    """Call `read` with the state of a flow, wherever it is; again where a process has replaced files meanwhile.

    Raises:
        RecoveryError, StateError: it is damaged, or there is none.
    """
    if config.state.store is None:
        return with_state(require_directory(config), read)
    for _ in range(ATTEMPTS):
        try:
            return read(read_store(config))
        except StateError:
            time.sleep(0.05)
    return read(read_store(config))


def read_store(config: Config) -> StoredState:
    """Return what the members of a group have committed last, whether or not they run.

    Raises:
        RecoveryError: there is no store.
        StateError: a file is damaged.
    """
    folder = flow_folder(config)
    heads = {}
    for file in sorted((folder / HEADS).glob("[0-9][0-9][0-9][0-9]")):
        if (found := read_head(folder, int(file.name))) is not None:
            heads[int(file.name)] = found
    rows = [SnapshotRow(0, "monitor.source", source_part(0, p), 0, at) for p, (_, at) in heads.items()]
    chains = {f"{p:04d}": read_chain(folder / FOLDER, name) for p, (name, _) in heads.items() if name != "-"}
    return StoredState(folder, 0, None, 0, rows, chains)
