"""Replaces the state of a recovery directory by another in one step: a kill leaves either the old one or the new one.

The new files are written to a folder (DRAFT), which then gets its final name (READY): from there on the new state
counts. Whoever locks the directory next moves the files to their places, as often as it takes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import sync

DRAFT, READY = "replacing.draft", "replacing"


@contextmanager
def replacement(directory: Path) -> Iterator[Path]:
    """Yield a folder for the new files of a locked directory; at the end of the block they count.

    Raises:
        OSError: they cannot be written; the old ones count.
    """
    draft = directory / DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    yield draft
    for file in draft.iterdir():
        sync(file)
    sync(draft)
    draft.rename(directory / READY)
    sync(directory)
    finish_replacement(directory)


def finish_replacement(directory: Path) -> bool:
    """Finish or undo what a kill has interrupted in a locked directory; returns True if there is another state."""
    shutil.rmtree(directory / DRAFT, ignore_errors=True)
    ready = directory / READY
    if not ready.exists():
        return False
    for file in sorted(ready.iterdir()):
        for ending in ("-wal", "-shm"):  # of the old database: they would be applied to the new one
            (directory / f"{file.name}{ending}").unlink(missing_ok=True)
        file.replace(directory / file.name)
    sync(directory)
    shutil.rmtree(ready)
    sync(directory)
    return True


def require_replaced(directory: Path) -> None:
    """Refuse to read a directory in which a kill has interrupted the replacement.

    Raises:
        RecoveryError: names the cure.
    """
    if (directory / READY).exists():
        raise RecoveryError(
            f"recovery.directory: a rewind of {directory} was interrupted: the next start (ssm-stream run) finishes it"
        )
