"""What a disk refuses, as one sentence with the file or folder, the reason and the cure."""

from __future__ import annotations

from pathlib import Path

CURES = (
    (("no space", "quota", "is full"), "make room on its disk"),
    (("read-only", "readonly"), "mount its file system for writing"),
    (("denied", "not permitted"), "let this user read and write it"),
    (("file exists", "not a directory"), "name a folder, not a file"),
    (("",), "see whether its disk works and has room"),
)
"""Words in the reasons of Linux and of SQLite → what to do about them."""


def refused_by_disk(place: Path, reason: OSError | str) -> str:
    """Return that a file or folder cannot be used, with the cure. place: unless the reason names one"""
    if isinstance(reason, OSError):
        place = place if reason.filename is None else Path(str(reason.filename))
        reason = reason.strerror or str(reason)
    cure = next(cure for words, cure in CURES if any(each in reason.lower() for each in words))
    return f"{place} cannot be used ({reason}): {cure}, then start again, which goes on from the last state written"
