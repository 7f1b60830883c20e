"""The store of one flow: all members of its group reach it, each writes the partitions that it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from ssm_stream.config import Config
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.store.blobs import Blobs, FolderBlobs
from ssm_stream.recovery.store.head import Head, read_head
from ssm_stream.recovery.store.partition import PartitionSnapshots

FLOW = "flow.json"


def open_blobs(config: Config) -> Blobs:
    """Return the files of a flow: below its group's name.

    Raises:
        RecoveryError: the flow has no store.
        ConfigError: the extra for object stores is missing.
    """
    store = config.state.store
    if store is None:
        raise RecoveryError("state.store: null, so no state is stored: name a folder")
    if isinstance(store, Path):
        return FolderBlobs(store / config.source.group_id)
    from ssm_stream.recovery.store.object_store import ObjectBlobs

    return ObjectBlobs(f"{store}/{config.source.group_id}", config.source.wait)


class FlowStore:
    """The snapshots of a flow.

    Raises:
        RecoveryError: the store cannot be used, or has the state of another flow.
    """

    def __init__(self, config: Config, topic_id: str | None = None) -> None:
        self.blobs, self._config = open_blobs(config), config
        identity = _identity(config, topic_id)
        if not self.blobs.create(FLOW, orjson.dumps(identity)) and require_same_flow(self.blobs, config, topic_id):
            now = {"targets": identity["targets"]}
            self.blobs.update(FLOW, lambda noted: orjson.dumps(orjson.loads(noted or b"{}") | now))

    def partition(self, partition: int) -> PartitionSnapshots:
        """Return the snapshots of a partition."""
        config = self._config
        return PartitionSnapshots(self.blobs, config.source.topic, partition, config.recovery.keep)

    def head(self, partition: int) -> Head | None:
        """Return the snapshot of a partition that was committed last; None without one."""
        return read_head(self.blobs, partition)


def require_same_flow(blobs: Blobs, config: Config, topic_id: str | None) -> bool:
    """Compare what flow is noted in a store with this one; nothing may be noted yet.

    Returns:
        whether it is to be noted anew: its targets have changed, and one of them has stayed

    Raises:
        RecoveryError: it is another flow, or another topic of the same name.
    """
    identity = _identity(config, topic_id)
    try:
        found = orjson.loads(blobs.read(FLOW) or b"{}")
    except orjson.JSONDecodeError as error:
        raise RecoveryError(f"state.store: {blobs.place}/{FLOW} is damaged: restore it") from error
    differing = [k for k in identity if found.get(k) != identity[k] and None not in (found.get(k), identity[k])]
    if differing == ["targets"] and {*found["targets"]} & {*identity["targets"]}:
        return True
    if differing:
        what = ", ".join(f"{key} {found.get(key)!r}, here {identity[key]!r}" for key in differing)
        cure = "the topic was created again, or this is another cluster" if "topic_id" in differing else what
        raise RecoveryError(
            f"state.store: {blobs.place} holds the state of another flow ({what}): "
            + (f"{cure}: " if cure != what else "")
            + "give this one a source.group of its own"
        )
    return False


def _identity(config: Config, topic_id: str | None) -> dict[str, Any]:
    event = config.event
    return {"topic": config.source.topic, "topic_id": topic_id, "entity": event.entity, "targets": list(event.targets)}
