"""Where generations are kept: an interface, and the folder in the recovery directory.

A generation names the state files of all shards and the positions that belong to them. Files are named by their
content, so generations that share a file keep it once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import FOLDER, link_files
from ssm_stream.recovery.positions import Positions, positions_from_json, positions_to_json
from ssm_stream.recovery.settings_files import read_json, write_json

GENERATIONS = "generations"
"""Folder in the recovery directory."""
FORMAT = 1


class ShardGeneration(NamedTuple):
    """The state of a shard.

    files: names of the chain's files, the whole one first
    read: positions up to which the shard has learned, where it is beyond those of the generation
    """

    files: list[str]
    read: Positions


class Generation(NamedTuple):
    """A state that is kept.

    taken: when, ms since 1970; it names the generation
    time: the latest event time that any source had reached, ms; None before the first event
    positions: every event before them is learned; shards: by key
    """

    taken: int
    time: int | None
    positions: Positions
    shards: dict[str, ShardGeneration]

    @property
    def files(self) -> list[str]:
        """The names of all its files."""
        return [name for shard in self.shards.values() for name in shard.files]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "format": FORMAT,
            "taken": self.taken,
            "time": self.time,
            "positions": positions_to_json(self.positions),
            "shards": {
                key: {"files": shard.files, "read": positions_to_json(shard.read)}
                for key, shard in sorted(self.shards.items())
            },
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Generation:
        """Return what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        shards = {
            str(key): ShardGeneration([str(name) for name in each["files"]], positions_from_json(each["read"]))
            for key, each in content["shards"].items()
        }
        time = None if content["time"] is None else int(content["time"])
        return cls(int(content["taken"]), time, positions_from_json(content["positions"]), shards)


class GenerationStore(Protocol):
    """Keeps generations."""

    def all(self) -> list[Generation]:
        """Return all of them, the oldest first."""

    def add(self, generation: Generation, folder: Path) -> None:
        """Keep another. folder: of its files, which stay there

        Raises:
            FileNotFoundError: a file is no longer there; nothing was added.
        """

    def remove(self, generations: Iterable[Generation]) -> None:
        """Remove some, and the files that only they have."""

    def fetch(self, generation: Generation, folder: Path) -> None:
        """Put the files of a generation into a folder, and wait until they are on the disk.

        Raises:
            RecoveryError: one is missing.
        """

    def size(self, generations: Iterable[Generation]) -> int:
        """Return the bytes of the files of some, each counted once."""

    def free(self) -> int:
        """Return the bytes that are free for more."""


class FolderStore:
    """Keeps generations in a folder of the recovery directory: a JSON file each, and their state files as hard links.

    directory: the recovery directory
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / GENERATIONS
        self._files = self._folder / FOLDER

    def all(self) -> list[Generation]:
        """Return all that can be read, the oldest first."""
        found = []
        for file in self._folder.glob("*.json"):
            try:
                found.append(Generation.from_json(read_json(file)))
            except (KeyError, TypeError, ValueError, AttributeError):
                continue  # of a later release, or damaged
        return sorted(found, key=lambda each: each.taken)

    def add(self, generation: Generation, folder: Path) -> None:
        """Keep another."""
        self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
        link_files(generation.files, folder, self._files)
        write_json(self._manifest(generation), generation.to_json())

    def remove(self, generations: Iterable[Generation]) -> None:
        """Remove some, and the files that no other has."""
        for each in generations:
            self._manifest(each).unlink(missing_ok=True)
        needed = {name for each in self.all() for name in each.files}
        for file in self._files.glob("*.state"):
            if file.name not in needed:
                file.unlink(missing_ok=True)

    def fetch(self, generation: Generation, folder: Path) -> None:
        """Put the files of a generation into a folder."""
        folder.mkdir(exist_ok=True)
        try:
            link_files(generation.files, self._files, folder)
        except FileNotFoundError as error:
            raise RecoveryError(
                f"recovery.directory: {error.filename} of a kept generation is missing: choose an earlier one (--to)"
            ) from error

    def size(self, generations: Iterable[Generation]) -> int:
        """Return the bytes of the files of some, each counted once."""
        total = 0
        for name in {name for each in generations for name in each.files}:
            try:
                total += (self._files / name).stat().st_size
            except FileNotFoundError:
                continue
        return total

    def free(self) -> int:
        """Return the bytes that are free on the disk."""
        return shutil.disk_usage(self._folder.parent).free

    @property
    def files(self) -> Path:
        """The folder of the state files."""
        return self._files

    def _manifest(self, generation: Generation) -> Path:
        return self._folder / f"{generation.taken:013d}.json"
