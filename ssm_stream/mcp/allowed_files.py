"""The files that the tools may read: those in the folders that the operator has named, and no others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_FILES = 10_000
"""Files of a folder that are listed or checked."""


class NotAllowedError(Exception):
    """A file is not among those that may be read."""


class AllowedFiles:
    """Files and folders that may be read. paths: as the operator named them; links in them lead nowhere else"""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._roots = {str(path): path.resolve() for path in paths}

    def __bool__(self) -> bool:
        return bool(self._roots)

    def __call__(self, name: str) -> Path:
        """Return the path of a file or folder by the name that `list` returns, or by its path.

        Raises:
            NotAllowedError: it does not exist, or lies elsewhere.
        """
        candidates = [root.parent / name for root in self._roots.values()]
        candidates += [Path(name), *(root / name for root in self._roots.values())]
        for path in candidates:
            try:
                found = path.resolve()
                if self._is_within(found) and found.exists():
                    self._check_inside(found)
                    return found
            except (OSError, ValueError, RuntimeError):  # a name that is none, or links in a circle
                continue
        raise NotAllowedError(
            f"no file {name!r} among those that may be read ({', '.join(self._roots)}); list_files has their names"
        )

    def _is_within(self, path: Path) -> bool:
        return any(path == root or path.is_relative_to(root) for root in self._roots.values())

    def _check_inside(self, folder: Path) -> None:
        """Check that no link in a folder leads out of what may be read.

        Raises:
            NotAllowedError: one does.
        """
        if folder.is_dir():
            for path in _files_below(folder):
                if not self._is_within(path.resolve()):
                    raise NotAllowedError(f"{path.name} in {folder.name} is a link to a file that may not be read")

    def list(self) -> list[tuple[str, Path]]:
        """Return the name and the path of each file, in order; at most `MAX_FILES`. Of files whose names are the same,
        all but the first have their whole path."""
        found = dict[str, Path]()
        for root in self._roots.values():
            for path in [root] if root.is_file() else _files_below(root):
                hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
                if not hidden and self._is_within(path.resolve()):
                    name = path.relative_to(root.parent).as_posix()
                    found[name if found.get(name, path) == path else path.as_posix()] = path
        return sorted(found.items())


def _files_below(folder: Path) -> Iterator[Path]:
    count = 0
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if count >= MAX_FILES:
                return
            count += 1
            yield Path(at) / name
