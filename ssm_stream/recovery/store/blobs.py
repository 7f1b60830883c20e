"""Where a group's files are: an interface, and a folder that all members reach.

A key is a path below the flow's folder. A file appears whole under its key, or not at all, and is safe once the call
has returned. `object_store` is the other implementation.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import sync

_OWN = uuid.uuid4().hex[:8]
"""Of this process: its drafts have names of their own."""


def await_writes(writes: list[Future[None]]) -> None:
    """Wait until files that are on their way are in the store, and drop them from the list.

    Raises:
        RecoveryError: one cannot be written; it stays in the list.
    """
    while writes:
        writes[0].result()
        del writes[0]


class StoreAwayError(RecoveryError):
    """The store does not answer, or answers that it cannot now; later it may."""


class Blob(NamedTuple):
    """A file of the store. modified: s since 1970"""

    key: str
    size: int
    modified: float


class Blobs(Protocol):
    """The files of one flow. All methods raise `RecoveryError` where the store refuses.

    place: what messages call it
    """

    place: str

    def draft(self, name: str) -> Path:
        """Return the local path for a draft of a file, to be written over if there is one."""

    def publish(self, draft: Path, key: str) -> None:
        """Put a draft into the store, and remove it."""

    def write(self, key: str, content: bytes) -> None:
        """Write a small file, over one that is there."""

    def create(self, key: str, content: bytes) -> bool:
        """Write a small file unless there is one; return whether there was none."""

    def update(self, key: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace a small file by what `change` makes of it; None: leave it. Of two members at once, one is first."""

    def read(self, key: str) -> bytes | None:
        """Return the content of a small file, None if there is none."""

    def find(self, prefix: str) -> list[Blob]:
        """Return the files below a folder of keys, sorted."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files; one that is not there is no error."""

    def replace(self, keys: Iterable[str], name: str, size: int) -> None:
        """Delete files; some may become drafts whose names begin so, up to a dot. size: bytes of them, at most"""

    def move_aside(self, stamp: str) -> str:
        """Move all files to another place, and return it. stamp: of its name"""

    def fetch(self, folder: str, names: Sequence[str]) -> AbstractContextManager[Path]:
        """Yield a local folder with these files of a folder; what is not in the store is not in it either."""

    def free(self) -> int | None:
        """Return the bytes that are free, None if there is no limit."""

    def drafts(self, older: float) -> list[Path]:
        """Return the drafts that were written last before a time, s since 1970: their members were killed."""


class FolderBlobs:
    """A folder of a file system whose renames are atomic."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, str(folder)
        self._spare: dict[str, list[tuple[Path, int]]] = {}
        """Files that nobody needs any longer, and their bytes, by the beginning of the names of drafts."""

    def draft(self, name: str) -> Path:
        path = self._path(f"drafts/{name}.{_OWN}.draft")
        with self._explained(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError, KeyError, IndexError):
                self._spare[name.partition(".")[0]].pop()[0].replace(path)
        return path

    def publish(self, draft: Path, key: str) -> None:
        path = self._path(key)
        with self._explained(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync(draft)
            draft.replace(path)
            sync(path.parent)

    def write(self, key: str, content: bytes) -> None:
        path = self._path(key)
        with self._explained(path):
            self._written(path, content).replace(path)

    def create(self, key: str, content: bytes) -> bool:
        path = self._path(key)
        with self._explained(path):
            draft = self._written(path, content)
            try:
                os.link(draft, path)
                return True
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links: two members at once write the same
                there = path.exists()
                if not there:
                    draft.replace(path)
                return not there
            finally:
                draft.unlink(missing_ok=True)

    def update(self, key: str, change: Callable[[bytes | None], bytes | None]) -> None:
        if (content := change(self.read(key))) is not None:
            self.write(key, content)

    def _written(self, path: Path, content: bytes) -> Path:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.draft")
        draft.write_bytes(content)
        sync(draft)
        return draft

    def read(self, key: str) -> bytes | None:
        with self._explained(self._path(key)), contextlib.suppress(FileNotFoundError):
            return self._path(key).read_bytes()
        return None

    def find(self, prefix: str) -> list[Blob]:
        found = []
        for path in sorted(self._path(prefix).rglob("*")):
            with contextlib.suppress(OSError):  # deleted meanwhile
                about = path.stat()
                if path.is_file() and path.suffix != ".draft":
                    found.append(Blob(str(path.relative_to(self.folder)), about.st_size, about.st_mtime))
        return found

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self._explained(self._path(key)):
                self._path(key).unlink(missing_ok=True)

    def replace(self, keys: Iterable[str], name: str, size: int) -> None:
        # A file that is written over has its pages and blocks already, which takes most of the time of writing one.
        # Who reads it meanwhile finds another checksum, as it would find no file.
        spare = self._spare.setdefault(name, [])
        for key in keys:
            path = self._path(key)
            with self._explained(path), contextlib.suppress(FileNotFoundError):
                about = path.stat()
                if about.st_size + sum(each for _, each in spare) <= size + size // 8 and about.st_nlink == 1:
                    target = self._path(f"drafts/{uuid.uuid4().hex[:8]}.spare.draft")
                    os.utime(path)  # no draft that a killed member has left
                    path.replace(target)
                    spare.append((target, about.st_size))
                else:
                    path.unlink()

    def move_aside(self, stamp: str) -> str:
        target = self.folder.with_name(f"{self.folder.name}.{stamp}")
        while target.exists():
            target = target.with_name(f"{target.name}-1")
        with self._explained(self.folder):
            self.folder.rename(target)
        return str(target)

    @contextlib.contextmanager
    def fetch(self, folder: str, names: Sequence[str]) -> Iterator[Path]:
        yield self._path(folder)

    def free(self) -> int | None:
        return shutil.disk_usage(self.folder).free

    def drafts(self, older: float) -> list[Path]:
        found = []
        for path in self.folder.rglob("*.draft"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < older:
                    found.append(path)
        return found

    def _path(self, key: str) -> Path:
        return self.folder / key

    @contextlib.contextmanager
    def _explained(self, path: Path) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RecoveryError(f"state.store: {path} cannot be used: {error}") from error
