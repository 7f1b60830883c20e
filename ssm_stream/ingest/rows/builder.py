"""What makes rows of messages: the protocol, and the rows that it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ssm_stream.ingest.context.facts import JoinFacts
from ssm_stream.ingest.events import Events, RefusedDocument


class Rows(NamedTuple):
    """Rows that are complete, in the order in which messages completed them.

    events: n rows as the configuration's columns have them (`RowColumns.events`), all with an `events.number`
        (`row_number`) where one message may cause several rows
    offsets: of the message that caused each row: at which it became complete. They never decrease within a call, nor
        from call to call of a partition: what has been delivered is dropped by them
    late: messages that were not used, each with a fault and a reason; `position` is that among the messages given
    """

    events: Events
    offsets: list[int]
    late: Sequence[RefusedDocument] = ()

    def __len__(self) -> int:
        return len(self.events)


class RowBuilder(Protocol):
    """Makes rows of the messages of one shard. Its state is in the shard's snapshot.

    What it returns depends on the messages alone, in the order of their partition: never on how they are cut into
    calls, on snapshots between them, or on how partitions interleave (but for an entity that is in several).
    """

    def add(self, messages: Events, offsets: Sequence[int], partition: int) -> Rows:
        """Return the rows that these messages complete.

        Args:
            messages: as `MessageReader` has read them, of one partition and in its order
            offsets: of each; in a file its row
        """
        ...

    def flush(self) -> Rows:
        """Return the rows that would be complete at some later message, at the end of a file. Their offsets are −1."""
        ...

    @property
    def overtaken(self) -> int:
        """Number of messages so far that a row of their time has not got, as it was complete before; 0: none, or they
        are `late`."""
        ...

    def join_facts(self, join: JoinFacts) -> None:
        """Set what joins the columns of context topics to the rows from now on, if they have such."""
        ...

    def dump(self) -> bytes:
        """Return the state."""
        ...

    def load(self, data: bytes) -> None:
        """Replace the state by one that `dump` returned. Raises ValueError, or as numpy, if it is damaged."""
        ...
