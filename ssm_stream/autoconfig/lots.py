"""Numbers of lots, orders and batches: names that each come in one stretch of rows, and never again."""

from __future__ import annotations

from typing import Any

from ssm_stream.autoconfig.columns import Column

MIN_LOTS = 8
"""Different texts, and changes from one to another, without which a sample does not show that none comes again."""


def lot_reason(column: Column, owners: dict[int, Any]) -> str | None:
    """Return why a column of text is no category: it names lots, and the next is one without a past; None if not.

    owners: row → name of its entity; a lot may pass through several entities
    """
    if column.kind != "text" or column.distinct < MIN_LOTS:
        return None
    last, ended, changes = dict[Any, str](), set[tuple[Any, str]](), 0
    for i, value in column.values.items():
        owner = owners.get(i)
        if last.get(owner, value) != value:
            ended.add((owner, last[owner]))
            changes += 1
        if (owner, value) in ended:
            return None
        last[owner] = value
    if changes < MIN_LOTS:
        return None
    return (
        f"each of its {column.distinct} values comes in one stretch of rows and never again: the number of a lot or an "
        "order, of which the next is always unknown"
    )
