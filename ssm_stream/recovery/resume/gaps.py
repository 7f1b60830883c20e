"""The gaps of a state, which its directory keeps, and their notes in the predictions.

The first event of each entity after a gap is noted in its prediction: `gap`, the number of offsets that are missing.
Which entities have had it is kept in a file a shard, with the offset of that event, so that an epoch that is gone
through again notes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.recovery.settings_files import read_json, write_json

GAPS = "gaps.json"
UNKNOWN = -1
"""In place of a number of offsets, where the topic was made anew."""


class Gap(NamedTuple):
    """Offsets of a partition that were not learned. missing: their number, or `UNKNOWN`; number: of the resume"""

    number: int
    topic: str
    partition: int
    position: int
    to: int
    missing: int
    at: str
    by: str

    @property
    def text(self) -> str:
        """Return it as a line."""
        many = "an unknown number of" if self.missing == UNKNOWN else f"{self.missing:,}"
        return (
            f"{many} offsets of {self.topic} partition {self.partition} are missing before {self.to:,}: resumed at "
            f"{self.at} by {self.by}"
        )


def read_gaps(directory: Path | None) -> list[Gap]:
    """Return the gaps of a state, the first one first."""
    content = None if directory is None else read_json(directory / GAPS)
    return [Gap(**each) for each in content["gaps"]] if isinstance(content, dict) else []


def missing_offsets(config: Config) -> dict[str, float]:
    """Return how many offsets the state has never read, by events topic; an unknown number counts as one."""
    found = dict.fromkeys(config.source.names, 0.0)
    for each in read_gaps(config.recovery.directory):
        found[each.topic] = found.get(each.topic, 0.0) + (1 if each.missing == UNKNOWN else each.missing)
    return found


def gaps_to_json(gaps: Sequence[Gap]) -> dict[str, Any]:
    """Return gaps as the file has them."""
    return {"gaps": [each._asdict() for each in gaps]}


def notes_file(directory: Path, number: int, shard: str) -> Path:
    """Return the file of a shard's notes on the gap of a resume."""
    return directory / f"gap-{number}-{shard}.json"


def remove_notes(directory: Path) -> None:
    """Remove the files of earlier gaps."""
    for file in directory.glob("gap-*.json"):
        file.unlink(missing_ok=True)


class GapNotes:
    """Which entities of a shard have had no event since the last gap.

    directory: the recovery directory; None: no gap is known
    shard: its key; engine: as a run begins with it
    """

    def __init__(self, directory: Path | None, shard: str | None, engine: Engine) -> None:
        self._missing: dict[tuple[str, int], int] = {}
        self._left, self._noted, self._changed = set[str](), dict[str, list[Any]](), False
        self._last: dict[tuple[str, int], int] = {}  # latest offset that is noted
        gaps = read_gaps(directory) if shard is not None else []
        if not gaps or directory is None or shard is None:
            return
        number = gaps[-1].number
        self._missing = {(each.topic, each.partition): each.missing for each in gaps if each.number == number}
        self._file = notes_file(directory, number, shard)
        content = read_json(self._file)
        if isinstance(content, dict):
            self._left, self._noted = set(content["left"]), content["noted"]
            for at, partition, offset in self._noted.values():
                self._last[at, partition] = max(offset, self._last.get((at, partition), 0))
        else:
            self._left, self._changed = set(engine.names), True

    def of_batch(self, topic: str, partition: int, entities: Sequence[str], offsets: Sequence[int]) -> dict[int, int]:
        """Return the missing offsets by row of a batch, for the events that are the first of their entity."""
        if offsets[0] > self._last.get((topic, partition), -1) and self._left.isdisjoint(entities):
            return {}  # as almost always
        found, seen = dict[int, int](), set[str]()
        for row, (name, offset) in enumerate(zip(entities, offsets, strict=True)):
            if name in seen:
                continue
            seen.add(name)
            if name in self._left:
                self._left.discard(name)
                self._noted[name], self._changed = [topic, partition, offset], True
            elif self._noted.get(name) != [topic, partition, offset]:
                continue
            if (missing := self._missing.get((topic, partition), 0)) != 0:
                found[row] = missing
        return found

    def write(self) -> None:
        """Write what has changed, before the snapshot of the shard."""
        if self._changed:
            write_json(self._file, {"left": sorted(self._left), "noted": self._noted})
            self._changed = False
