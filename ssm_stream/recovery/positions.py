"""Positions in topics, as JSON files of the recovery directory have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Place = tuple[str, int]
"""Topic and partition."""
Positions = dict[Place, int]
"""Topic and partition → the next offset to read."""


def positions_to_json(positions: Positions) -> list[list[Any]]:
    """Return positions as JSON has them, sorted."""
    return [[topic, partition, offset] for (topic, partition), offset in sorted(positions.items())]


def positions_from_json(rows: Iterable[Sequence[Any]]) -> Positions:
    """Return what `positions_to_json` returned."""
    return {(str(topic), int(partition)): int(offset) for topic, partition, offset in rows}
