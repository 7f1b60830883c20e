"""What a group commits for a partition: the offset, and in its metadata the name of the snapshot that goes with it.

The offset is the commit of everything. A member that takes a partition over reads it, loads that snapshot and goes on
from that offset; no other record exists that could disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import TopicPartition

VERSION = "1"
NONE = "-"
"""Stands for a name that there is not."""


class CommitError(RuntimeError):
    """The metadata of a committed offset cannot be read; the text has the reason and the cure."""


class Commit(NamedTuple):
    """The committed offset of a partition.

    offset: of the next message; None: nothing is committed
    snapshot: name of the file with the state before that message; empty: there is none
    further: names of the topics whose partition goes along with this one, and the offset of the next message of each
    transactions: transactional id of the member that committed it; empty: it has none, or has let the partition go
    member: id of that member in the group
    """

    offset: int | None
    snapshot: str = ""
    transactions: str = ""
    member: str = ""
    further: tuple[tuple[str, int], ...] = ()

    @property
    def number(self) -> int:
        """Return what grows with each commit of a partition that has read something."""
        return (self.offset or 0) + sum(offset for _, offset in self.further)

    def metadata(self) -> str:
        """Return the metadata of the offset: a broker takes 4,096 bytes by default."""
        further = [",".join(f"{topic}:{offset}" for topic, offset in self.further)] if self.further else []
        return " ".join(
            [VERSION, *(each or NONE for each in (self.snapshot, self.transactions, self.member)), *further]
        )


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
    try:
        if version != VERSION:
            raise ValueError(version)
        snapshot, transactions, member = ("" if each == NONE else each for each in rest[:3])
        further = [pair.split(":") for part in rest[3:] for pair in part.split(",")]
        return Commit(offset, snapshot, transactions, member, tuple((topic, int(at)) for topic, at in further))
    except ValueError:
        raise CommitError(
            f"the committed offset {offset} has metadata that this release cannot read ({metadata[:80]!r}): another "
            "program commits to this group, or a later release does: give the flow a source.group of its own, or use "
            "that release"
        ) from None


def places_of(topic: str, commits: Mapping[int, Commit]) -> list[TopicPartition]:
    """Return what a broker is given of the commits of a topic's partitions.

    The offsets of further topics are in the metadata, which is what counts: they do not expire there while the group
    reads. By themselves they are for tools that show the lag.
    """
    places = [TopicPartition(topic, p, each.offset or 0, metadata=each.metadata()) for p, each in commits.items()]
    return places + [TopicPartition(name, p, at) for p, each in commits.items() for name, at in each.further]
