"""What a group commits for a partition: the offset, and in its metadata the name of the snapshot that goes with it.

The offset is the commit of everything. A member that takes a partition over reads it, loads that snapshot and goes on
from that offset; no other record exists that could disagree.
"""

from __future__ import annotations

from typing import NamedTuple

VERSION = "1"
NONE = "-"
"""Stands for a name that there is not."""


class CommitError(RuntimeError):
    """The metadata of a committed offset cannot be read; the text has the reason and the cure."""


class Commit(NamedTuple):
    """The committed offset of a partition.

    offset: of the next message; None: nothing is committed
    snapshot: name of the file with the state before that message; empty: there is none
    transactions: transactional id of the member that committed it; empty: it has none, or has let the partition go
    member: id of that member in the group
    """

    offset: int | None
    snapshot: str = ""
    transactions: str = ""
    member: str = ""

    def metadata(self) -> str:
        """Return the metadata of the offset: a broker takes 4,096 bytes by default."""
        return " ".join([VERSION, *(each or NONE for each in (self.snapshot, self.transactions, self.member))])


def parse_commit(offset: int, metadata: str | None) -> Commit:
    """Return what is committed. offset: negative if nothing is

    An offset without metadata was set by an operator: it goes with no snapshot.

    Raises:
        CommitError: another release wrote it, or another program.
    """
    if offset < 0:
        return Commit(None)
    if not metadata:
        return Commit(offset)
    version, *rest = metadata.split(" ")
    if version != VERSION or len(rest) != 3:
        raise CommitError(
            f"the committed offset {offset} has metadata that this release cannot read ({metadata[:80]!r}): another "
            "program commits to this group, or a later release does: give the flow a source.group of its own, or use "
            "that release"
        )
    return Commit(offset, *("" if each == NONE else each for each in rest))
