"""Which generations are kept: all of the last hour, then one an hour for a day, then one a day.

Bounded in number and in bytes: where they need more than their part of the disk, the closest ones go first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from ssm_stream.recovery.generations.store import Generation

HOUR, DAY = 3_600_000, 86_400_000  # ms
STEP = 600.0
"""Seconds between two generations."""
MAX_RECENT = 12
"""Generations of the last hour, which restarts add to."""
DISK_SHARE = 0.25
"""Part of the free disk, with what generations have of it, that they may have."""


def superfluous(generations: Sequence[Generation], now: int, keep: float) -> list[Generation]:
    """Return the generations that are not kept.

    Args:
        generations: the oldest first; the newest stays
        now: ms since 1970
        keep: seconds for which generations are kept
    """
    kept, gone, seen = list[Generation](), list[Generation](), set[tuple[str, int]]()
    for each in generations:
        age = now - each.taken
        bucket = ("hour", each.taken // HOUR) if age <= DAY else ("day", each.taken // DAY)
        if each is generations[-1]:
            kept.append(each)
        elif age > 1000 * keep or (age > HOUR and bucket in seen):
            gone.append(each)
        else:
            kept.append(each)
        seen.add(bucket)
    while sum(now - each.taken <= HOUR for each in kept) > MAX_RECENT:
        recent = [each for each in kept if now - each.taken <= HOUR]
        closest = _closest(recent)
        kept.remove(closest)
        gone.append(closest)
    return gone


def beyond_disk(
    generations: Sequence[Generation], size: Callable[[Iterable[Generation]], int], free: int
) -> list[Generation]:
    """Return the generations that there is no room for, the closest ones first; the newest stays.

    Args:
        size: bytes of the files of some
        free: bytes that are free
    """
    kept, gone = list(generations), list[Generation]()
    most = DISK_SHARE * (free + size(kept))
    while len(kept) > 1 and size(kept) > most:
        closest = _closest(kept) if len(kept) > 2 else kept[0]
        kept.remove(closest)
        gone.append(closest)
    return gone


def _closest(generations: Sequence[Generation]) -> Generation:
    """Return the one whose neighbours are the closest, of three or more: neither the oldest nor the newest."""
    gaps = [(after.taken - before.taken, each) for (before, _), (each, after) in pairwise(pairwise(generations))]
    return min(gaps, key=lambda gap: gap[0])[1]
