"""Which messages of a partition are processed, where some are before others: the position that a group commits.

The position is the first offset that is not processed. What is processed beyond it is in the metadata of the commit, as
ranges counted from it, so that few messages come twice after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_METADATA = 3500
"""Characters of metadata; a broker takes 4,096 bytes by default."""


class Positions:
    """The offsets of one partition that were read, and those of them that are processed.

    >>> positions = Positions(5)
    >>> for offset in (5, 6, 7):
    ...     positions.begin(offset)
    >>> positions.end(6)
    >>> positions.committable
    (5, '1')
    >>> Positions(*positions.committable).is_processed(6)
    True

    position: first offset that is not processed; metadata: of its commit
    """

    def __init__(self, position: int, metadata: str = "") -> None:
        self._next = position
        self._open: dict[int, None] = {}
        self._done = set(_offsets(position, metadata))

    def is_processed(self, offset: int) -> bool:
        """Return whether an offset was processed."""
        return offset in self._done or (offset < self._next and offset not in self._open)

    def begin(self, offset: int) -> None:
        """Note that an offset is read; offsets come in ascending order."""
        self._open[offset] = None
        self._next = max(self._next, offset + 1)

    def end(self, offset: int) -> None:
        """Note that an offset is processed."""
        if offset in self._open:
            del self._open[offset]
            self._done.add(offset)

    def skip(self, offset: int) -> None:
        """Note that an offset was processed before."""
        self._next = max(self._next, offset + 1)

    @property
    def waiting(self) -> int:
        """Offsets that are read and not processed."""
        return len(self._open)

    @property
    def committable(self) -> tuple[int, str]:
        """The position and the metadata of its commit."""
        position = next(iter(self._open), self._next)
        self._done = {offset for offset in self._done if offset >= position}
        return position, _ranges(position, self._done)


def _ranges(position: int, offsets: set[int]) -> str:
    """Return offsets as ranges counted from the position, as many as there is room for."""
    out, size, ordered = list[str](), 0, sorted(offsets)
    at = 0
    while at < len(ordered):
        last = at
        while last + 1 < len(ordered) and ordered[last + 1] == ordered[last] + 1:
            last += 1
        first, end = ordered[at] - position, ordered[last] - position
        text = f"{first}-{end}" if end > first else str(first)
        size += len(text) + 1
        if size > MAX_METADATA:
            break
        out.append(text)
        at = last + 1
    return ",".join(out)


def _offsets(position: int, metadata: str) -> Iterator[int]:
    """Yield the offsets of ranges; none where the metadata is another program's."""
    try:
        ranges = [tuple(map(int, part.partition("-")[::2])) if "-" in part else (int(part),) * 2
                  for part in metadata.split(",") if part]  # fmt: skip
    except ValueError:
        return
    for first, last in ranges:
        if 0 <= first <= last <= first + 10_000_000:
            yield from range(position + first, position + last + 1)
