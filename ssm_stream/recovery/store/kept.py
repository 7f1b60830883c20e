"""Keeps earlier states of a partition in the store, for `ssm-stream state rewind`: one every ten minutes at most.

A kept state is a small file with the names of its files, which the member that has the partition does not delete.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import orjson

from ssm_stream.recovery.checkpoint_files import FOLDER
from ssm_stream.recovery.generations.report import GenerationList
from ssm_stream.recovery.generations.store import GENERATIONS, Generation, ShardGeneration
from ssm_stream.recovery.generations.thinning import STEP, beyond_disk, superfluous
from ssm_stream.recovery.store.blobs import Blobs
from ssm_stream.recovery.store.head import HEADS, Head


class KeptStates:
    """The kept states of one partition. keep: seconds; None: none are kept"""

    def __init__(self, blobs: Blobs, topic: str, partition: int, keep: float | None) -> None:
        self._blobs, self._topic, self._partition, self._keep = blobs, topic, partition, keep
        self._kept: list[Generation] | None = None
        self._sizes: dict[str, int] = {}

    @property
    def files(self) -> set[str]:
        """The files that are kept. Known after the first `keep`."""
        return {name for each in self._kept or () for name in each.files}

    def keep(self, head: Head, time: float | None) -> set[str]:
        """Keep the state that was committed, if the last one is old enough; remove those that are superfluous.

        Args:
            time: the latest event time in it, ms

        Returns:
            the files of those that were removed

        Raises:
            RecoveryError: the store refuses.
        """
        if self._kept is None:
            self._kept = read_kept(self._blobs, self._partition)
        if self._keep is None or (self._kept and head.at - self._kept[-1].taken < 1000 * STEP):
            return set()
        learned = None if time is None else math.floor(time)
        positions = head.positions(self._topic, self._partition)
        made = Generation(head.at, learned, positions, {f"{self._partition:04d}": ShardGeneration(head.files, {})})
        self._blobs.write(self._key(made), orjson.dumps(made.to_json()))
        self._kept.append(made)
        gone = superfluous(self._kept, head.at, self._keep)
        left = [each for each in self._kept if each not in gone]
        if (free := self._blobs.free()) is not None:
            self._sizes = {each.key.rpartition("/")[2]: each.size for each in self._blobs.find(FOLDER)}
            partitions = max(len(self._blobs.find(HEADS)), 1)
            crowded = beyond_disk(left, self._size, free // partitions)
            gone, left = [*gone, *crowded], [each for each in left if each not in crowded]
        self._kept = left
        self._blobs.delete([self._key(each) for each in gone])
        return {name for each in gone for name in each.files}

    def _size(self, some: Iterable[Generation]) -> int:
        return sum(self._sizes.get(name, 0) for name in {name for each in some for name in each.files})

    def _key(self, kept: Generation) -> str:
        return f"{GENERATIONS}/{self._partition:04d}/{kept.taken:013d}.json"


def read_kept(blobs: Blobs, partition: int) -> list[Generation]:
    """Return the kept states of a partition, the oldest first; those that cannot be read are left out.

    Raises:
        RecoveryError: the store refuses.
    """
    found = []
    for each in blobs.find(f"{GENERATIONS}/{partition:04d}"):
        try:
            found.append(Generation.from_json(orjson.loads(blobs.read(each.key) or b"")))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # of a later release, or damaged
    return sorted(found, key=lambda each: each.taken)


def list_kept(blobs: Blobs) -> GenerationList:
    """Return the kept states of all partitions, and the bytes of their files, each counted once.

    Raises:
        RecoveryError: the store refuses.
    """
    partitions = sorted({int(each.key.split("/")[1]) for each in blobs.find(GENERATIONS)})
    found = [each for partition in partitions for each in read_kept(blobs, partition)]
    sizes = {each.key.rpartition("/")[2]: each.size for each in blobs.find(FOLDER)}
    size = sum(sizes.get(name, 0) for name in {name for each in found for name in each.files})
    return GenerationList(sorted(found, key=lambda each: each.taken), size)
