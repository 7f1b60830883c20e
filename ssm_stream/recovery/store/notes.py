"""Small files of the whole flow in its store: what resets and rewinds have left for the members."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ssm_stream.recovery.catch_up import CATCH_UP, UNDELIVERED, UndeliveredFile
from ssm_stream.recovery.ended_episodes import FILE
from ssm_stream.recovery.exclusions import EXCLUSIONS
from ssm_stream.recovery.store.blobs import Blobs, FolderBlobs

NOTES = (CATCH_UP, EXCLUSIONS, FILE)


@contextlib.contextmanager
def local_notes(blobs: Blobs) -> Iterator[Path]:
    """Yield a folder that has the notes, as a recovery directory has them.

    Raises:
        RecoveryError: the store refuses.
    """
    if isinstance(blobs, FolderBlobs):
        yield blobs.folder
        return
    with tempfile.TemporaryDirectory(prefix="ssm-stream-") as temporary:
        copy_notes(blobs, Path(temporary))
        yield Path(temporary)


def copy_notes(blobs: Blobs, folder: Path) -> None:
    """Write the notes into a folder of this machine.

    Raises:
        RecoveryError: the store refuses.
    """
    for name in NOTES:
        if (content := blobs.read(name)) is not None:
            (folder / name).write_bytes(content)


def write_note(blobs: Blobs, name: str, content: dict[str, Any]) -> None:
    """Write a note.

    Raises:
        RecoveryError: the store refuses.
    """
    blobs.write(name, orjson.dumps(content))


class StoredUndelivered(UndeliveredFile):
    """The beginnings of episodes of a partition that is read again, in the store. number: of the rewind"""

    def __init__(self, blobs: Blobs, number: int, shard: str) -> None:
        self._blobs, self._key, self._changed = blobs, f"{UNDELIVERED}{number}-{shard}.json", False
        content = blobs.read(self._key)
        self.alerts: list[dict[str, Any]] = [] if content is None else orjson.loads(content)["alerts"]

    def write(self) -> None:
        """Write what has changed."""
        if self._changed:
            write_note(self._blobs, self._key, {"alerts": self.alerts})
            self._changed = False
