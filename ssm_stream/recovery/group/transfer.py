"""Imports the export of a group's state: the next members go on from there, with the same bits."""

from __future__ import annotations

import fnmatch
import time
from pathlib import Path
from typing import NamedTuple

from ssm_stream.config import Config
from ssm_stream.engine.snapshot import require_compatible_state
from ssm_stream.engine.snapshot_format import SnapshotReader, StateError, damage_as_state_error
from ssm_stream.kafka.context.first_start import FIRST_POSITIONS
from ssm_stream.kafka.membership.commit import Commit
from ssm_stream.kafka.membership.stopped import delete_commits, require_stopped, write_commits
from ssm_stream.recovery import export
from ssm_stream.recovery.bytewax_db import RecoveryError, parse_source_part
from ssm_stream.recovery.checkpoint_files import FOLDER
from ssm_stream.recovery.export import ASSIGNMENT, REWOUND, Export
from ssm_stream.recovery.store.flow_store import FlowStore
from ssm_stream.recovery.store.head import Head, read_heads, replace_head
from ssm_stream.recovery.store.notes import write_note


class Imported(NamedTuple):
    """What an import has filled. parts: shards, or partitions; aside: place of the former state; place: of the new"""

    parts: int
    place: str
    aside: str | None
    goes_on: str


def import_state(config: Config, file: Path, *, force: bool = False) -> Imported:
    """Fill the recovery directory, or the store of a group, from an export.

    Args:
        force: move the present state aside

    Raises:
        ConfigError: the features are `auto`, and the export was made with a list.
        StateError: the export is damaged, or made under settings that do not fit.
        RecoveryError: there is a state already, or it is in use, or the export is not one of a group.
        BrokerError: members of the group run: the text names them; or the broker does not answer.
        OSError: the file cannot be read.
    """
    if config.state.store is None:
        done = export.import_state(config, file, force=force)
        aside = None if done.aside is None else str(done.aside)
        return Imported(done.shards, str(config.recovery.directory), aside, f"continues with epoch {done.epoch}")
    with file.open("rb") as content:
        reader = SnapshotReader(content)
        reader.check()
        found = Export(reader, file)
        if ASSIGNMENT not in found.metadata:
            raise RecoveryError(
                f"{file}: the export of a recovery directory, whose entities of all partitions are together: a group "
                "has a state a partition: let it learn anew (source.start: earliest)"
            )
        with damage_as_state_error():
            for metadata in found.metadata["made"].values():
                require_compatible_state(metadata, config)
            offsets = {
                parse_source_part(key)[1]: int(value)
                for _, step, key, _, value in found.metadata["rows"]
                if step.endswith(".source")
            }
        require_stopped(config)
        store, aside = FlowStore(config), None
        if read_heads(store.blobs):
            if not force:
                raise RecoveryError(
                    f"state.store: {store.blobs.place} holds a state: move it aside (--force), or name another store"
                )
            delete_commits(config)
            aside = store.blobs.move_aside(time.strftime("%Y%m%d-%H%M%S"))
            store = FlowStore(config)
        heads = _publish(store, found, offsets)
    for name, path in REWOUND.items():
        if found.metadata.get(name):
            write_note(store.blobs, path, found.metadata[name])
    for name, content in (found.metadata.get("context") or {}).items():
        if fnmatch.fnmatchcase(name, FIRST_POSITIONS) and "/" not in name:
            write_note(store.blobs, name, content)
    for partition, head in heads.items():
        replace_head(store.blobs, partition, head)
    write_commits(config, {p: Commit(offset, heads[p].name if p in heads else "") for p, offset in offsets.items()})
    return Imported(len(heads), store.blobs.place, aside, "reads on from its offsets")


def _publish(store: FlowStore, found: Export, offsets: dict[int, int]) -> dict[int, Head]:
    """Put the states into the store; return the heads by partition."""
    heads = {}
    for shard in found.reader.names:
        partition = int(shard)
        if partition not in offsets:
            raise StateError("the export is damaged: a partition has no offset")
        draft = store.blobs.draft(shard)
        with draft.open("w+b") as out:
            found.reader.copy(shard, out)
            out.flush()
            inner = SnapshotReader(out)
            inner.check()
        name = f"{shard}-{offsets[partition]:08d}-{inner.name}.state"
        store.blobs.publish(draft, f"{FOLDER}/{name}")
        heads[partition] = Head(name, offsets[partition], time.time_ns() // 1_000_000, [name])
    return heads
