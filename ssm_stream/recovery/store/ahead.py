"""Writes what an epoch has changed while the epoch goes on: its end has the rest to write, a small part.

Each time that much has changed, it is copied, which takes a tenth of the time of writing it, and another thread writes
the copy. An entity that changes again is in two files then. So this is done only where entities have hardly more than
one event in an epoch each: where they have several, few change after long, and the end of the epoch is the time to
write them.
"""

from __future__ import annotations

import queue

import numpy as np
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine

MUCH = 1 << 25
"""Bytes of changes from which on they are written."""
AGAIN = 1.1
"""Events of an epoch for each entity that has changed, at most: so much more is written."""
COPIES = 4
"""Copies that a process has in memory at once."""
MEMORY: queue.SimpleQueue[NDArray[np.uint8]] = queue.SimpleQueue()
"""For the copies. It is used again: memory that is new to a process costs as much as what is copied into it."""
for _ in range(COPIES):
    MEMORY.put(np.empty(0, np.uint8))


class EpochChanges:
    """Which entities of a partition have changed in an epoch. spread: whether they had an event each in the last one"""

    def __init__(self) -> None:
        self.spread = False
        self._events = 0
        self._rows = np.zeros(0, np.bool_)

    def add_events(self, events: int) -> None:
        """Count events."""
        self._events += events

    def add_rows(self, engine: Engine) -> None:
        """Note the entities that are about to be written."""
        for each in engine.target_engines[:1]:
            changed = each.store.changed[: len(each.store)]
            if len(self._rows) < len(changed):
                self._rows = np.concatenate([self._rows, np.zeros(2 * len(changed) - len(self._rows), np.bool_)])
            self._rows[: len(changed)] |= changed

    def end(self, engine: Engine) -> None:
        """End an epoch."""
        self.add_rows(engine)
        self.spread = self._events <= AGAIN * int(np.count_nonzero(self._rows))
        self._events = 0
        self._rows[:] = False


def are_many(engine: Engine) -> bool:
    """Return whether changes are to be written, and can be: not where the next snapshot must be whole."""
    stores = [each.store for each in engine.target_engines]
    size = sum(int(np.count_nonzero(each.changed)) * each.entity_block.shape[1] for each in stores)
    return size >= MUCH and not any(each.needs_full_snapshot for each in stores)
