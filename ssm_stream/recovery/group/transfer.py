"""Imports the export of a group's state: the next members go on from there, with the same bits."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.engine.snapshot import require_compatible_state
from ssm_stream.engine.snapshot_format import SnapshotReader, StateError, damage_as_state_error
from ssm_stream.kafka.context.first_start import FIRST_POSITIONS
from ssm_stream.kafka.membership.commit import Commit
from ssm_stream.kafka.membership.stopped import delete_commits, require_stopped, write_commits
from ssm_stream.recovery import export
from ssm_stream.recovery.bytewax_db import LABELS_PREFIX, RecoveryError, parse_source_part
from ssm_stream.recovery.checkpoint_files import FOLDER
from ssm_stream.recovery.export import ASSIGNMENT, REWOUND, Export, open_export
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
    with open_export(file) as found:
        if ASSIGNMENT not in found.metadata:
            raise RecoveryError(
                f"{file}: the export of a recovery directory, whose entities of all partitions are together: a group "
                "has a state a partition: let it learn anew (source.start: earliest)"
            )
        with damage_as_state_error():
            for metadata in found.metadata["made"].values():
                require_compatible_state(metadata, config)
            commits = _commits(found.metadata["rows"], config)
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
        heads = _publish(store, found, commits)
    for name, path in REWOUND.items():
        if found.metadata.get(name):
            write_note(store.blobs, path, found.metadata[name])
    for name, content in (found.metadata.get("context") or {}).items():
        if fnmatch.fnmatchcase(name, FIRST_POSITIONS) and "/" not in name:
            write_note(store.blobs, name, content)
    for partition, head in heads.items():
        replace_head(store.blobs, partition, head)
    names = {partition: head.name for partition, head in heads.items()}
    write_commits(config, {p: each._replace(snapshot=names.get(p, "")) for p, each in commits.items()})
    return Imported(len(heads), store.blobs.place, aside, "reads on from its offsets")


def _commits(rows: Iterable[Sequence[Any]], config: Config) -> dict[int, Commit]:
    """Return the positions of an export as what is committed of each partition, without the snapshots."""
    found, further = dict[int, int](), dict[int, dict[str, int]]()
    for _, step, key, _, value in rows:
        if not step.endswith(".source"):
            continue
        index, partition = parse_source_part(key.removeprefix(LABELS_PREFIX))
        if key.startswith(LABELS_PREFIX) and config.labels is not None and config.labels.topic is not None:
            further.setdefault(partition, {})[config.labels.topic] = int(value)
        elif index:
            further.setdefault(partition, {})[config.source.names[index]] = int(value)
        else:
            found[partition] = int(value)
    return {p: Commit(offset, further=tuple(sorted(further.get(p, {}).items()))) for p, offset in found.items()}


def _publish(store: FlowStore, found: Export, commits: Mapping[int, Commit]) -> dict[int, Head]:
    """Put the states into the store; return the heads by partition."""
    heads = {}
    for shard in found.reader.names:
        partition = int(shard)
        if partition not in commits:
            raise StateError("the export is damaged: a partition has no offset")
        commit, draft = commits[partition], store.blobs.draft(shard)
        with draft.open("w+b") as out:
            found.reader.copy(shard, out)
            out.flush()
            inner = SnapshotReader(out)
            inner.check()
        name = f"{shard}-{commit.number:08d}-{inner.name}.state"
        store.blobs.publish(draft, f"{FOLDER}/{name}")
        heads[partition] = Head(name, commit.offset or 0, time.time_ns() // 1_000_000, [name], commit.further)
    return heads
