"""Reports the generations of a recovery directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.recovery.generations.store import FolderStore, Generation


class GenerationList(NamedTuple):
    """The generations that are kept, the oldest first, and the bytes of their files, each counted once."""

    generations: list[Generation]
    size: int

    @property
    def text(self) -> str:
        """Return it as a line."""
        kept = self.generations
        if not kept:
            return "no earlier state is kept"
        reach = [ms_to_iso(each.taken - each.taken % 1000) for each in (kept[0], kept[-1])]
        if len(kept) == 1:
            return f"1 earlier state is kept, from {reach[0]}, {self.size:,} bytes"
        return f"{len(kept):,} earlier states are kept, from {reach[0]} to {reach[1]}, {self.size:,} bytes"

    def as_json(self) -> dict[str, Any]:
        """Return it for `--json`."""
        rows = [
            {"taken": ms_to_iso(each.taken), "time": None if each.time is None else ms_to_iso(each.time)}
            for each in self.generations
        ]
        return {"bytes": self.size, "kept": rows}


def list_generations(directory: Path) -> GenerationList:
    """Return the generations of a recovery directory."""
    store = FolderStore(directory)
    found = store.all()
    return GenerationList(found, store.size(found))
