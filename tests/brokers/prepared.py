"""What each start of Apache Kafka would make again, made once: see `preparation.py`."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "SSM_STREAM_TEST_PREPARED"
"""Names the folder, for the processes that the tests run in, and for the benchmarks that they run."""
ARCHIVE, FORMATTED = "classes.jsa", "formatted"


def _found(name: str) -> Path | None:
    folder = os.environ.get(FOLDER)
    return path if folder and (path := Path(folder) / name).exists() else None


def options() -> list[str]:
    """Options of a JVM: the archive of classes, where there is one. A JVM that it does not fit starts without."""
    archive = _found(ARCHIVE)
    return [] if archive is None else [f"-XX:SharedArchiveFile={archive}"]


def formatted() -> dict[str, bytes]:
    """Name → content of the files in a formatted data folder; nothing where there is none yet."""
    folder = _found(FORMATTED)
    return {} if folder is None else {file.name: file.read_bytes() for file in folder.iterdir()}
