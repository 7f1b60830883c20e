"""The lock of a recovery directory: one process at a time."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from ssm_stream.recovery.bytewax_db import RecoveryError


def lock(directory: Path) -> IO[str]:
    """Lock the directory; the lock is held until the returned file is closed or the process ends.

    Raises:
        RecoveryError: another process holds it.
    """
    file = (directory / "lock").open("a+")
    for left in range(5, -1, -1):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if left:
                time.sleep(0.02)  # it may be `lock_owner` of another process, which lets go at once
                continue
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise RecoveryError(
                f"recovery.directory: {directory} is in use by process {owner}: stop that process, or name another "
                "directory"
            ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def lock_owner(directory: Path) -> str | None:
    """The id of the process that holds the lock of a directory, or None."""
    try:
        file = (directory / "lock").open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "unknown"
    return None
