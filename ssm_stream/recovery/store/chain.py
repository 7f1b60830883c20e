"""Which files a snapshot in the store consists of: the newest one names the others."""

from __future__ import annotations

import re
from pathlib import Path

from ssm_stream.engine.snapshot_format import StateError, damage_as_state_error
from ssm_stream.recovery.checkpoint_files import STATE_NAME, Checkpoint, open_checkpoint


def read_log(folder: Path, name: str) -> list[str]:
    """Return the files of a snapshot, the whole one first. folder: with its newest file

    Raises:
        StateError: it is missing or damaged.
    """
    with open_checkpoint(folder, name) as reader, damage_as_state_error():
        names = [*str(reader.metadata["after"]).split(), name]
        if any(re.fullmatch(STATE_NAME, each) is None for each in names) or len(set(names)) < len(names):
            raise StateError("the snapshot is damaged: it names what is no state file")
        return names


def read_checkpoints(folder: Path, name: str) -> list[Checkpoint]:
    """Return the files of a snapshot with their sizes. folder: with all of them

    Raises:
        StateError: one is missing or damaged.
    """
    found = []
    for each in read_log(folder, name):
        with open_checkpoint(folder, each) as reader:
            found.append(Checkpoint(each, reader.size, bool(reader.metadata["whole"])))
    return found
