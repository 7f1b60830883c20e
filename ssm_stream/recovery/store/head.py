"""The head of a partition: the snapshot that was committed last, for those that do not read the commits."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.positions import Positions
from ssm_stream.recovery.store.blobs import Blobs

HEADS = "committed"
"""Folder with a file a partition."""


class Head(NamedTuple):
    """A commit. name: of the snapshot; offset: the next one; at: when, ms since 1970; files: of the snapshot

    further: as of `Commit`
    """

    name: str
    offset: int
    at: int
    files: list[str]
    further: tuple[tuple[str, int], ...] = ()

    @property
    def number(self) -> int:
        """Return what grows with each commit."""
        return self.offset + sum(offset for _, offset in self.further)

    def positions(self, topic: str, partition: int) -> Positions:
        """Return the next offset of each topic's partition. topic: the first"""
        return {(topic, partition): self.offset, **{(name, partition): offset for name, offset in self.further}}


def write_head(blobs: Blobs, partition: int, head: Head) -> None:
    """Write the head of a partition, unless a later member has written a later one.

    Raises:
        RecoveryError: the store refuses.
    """

    def later(content: bytes | None) -> bytes | None:
        found = _parse(content)
        return None if found is not None and found.number > head.number else orjson.dumps(head._asdict())

    blobs.update(f"{HEADS}/{partition:04d}", later)


def read_head(blobs: Blobs, partition: int) -> Head | None:
    """Return the head of a partition; None without one.

    Raises:
        RecoveryError: the store refuses.
    """
    return _parse(blobs.read(f"{HEADS}/{partition:04d}"))


def read_heads(blobs: Blobs) -> dict[int, Head]:
    """Return the heads of all partitions.

    Raises:
        RecoveryError: the store refuses.
    """
    keys = [each.key.rpartition("/")[2] for each in blobs.find(HEADS)]
    found = {int(key): read_head(blobs, int(key)) for key in keys if key.isdigit()}
    return {partition: head for partition, head in sorted(found.items()) if head is not None}


def _parse(content: bytes | None) -> Head | None:
    if content is None:
        return None
    try:
        found = orjson.loads(content)
        further = tuple((str(topic), int(offset)) for topic, offset in found.get("further", ()))
        return Head(str(found["name"]), int(found["offset"]), int(found["at"]), list(map(str, found["files"])), further)
    except (KeyError, TypeError, ValueError) as error:
        raise RecoveryError(f"state.store: the head of a partition is damaged: {content[:80]!r}") from error


def replace_head(blobs: Blobs, partition: int, head: Head) -> None:
    """Write the head of a partition, whose group has no members, whatever its offset.

    Raises:
        RecoveryError: the store refuses.
    """
    blobs.write(f"{HEADS}/{partition:04d}", orjson.dumps(head._asdict()))
