"""Files that commands write: their errors name the option, and a file has its name once it is complete."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import typer

DEVICES = Path("/dev")
"""Such as /dev/stdout, which may be a file that others write to."""


class OutputError(OSError):
    """A file that cannot be written; the text names the option, the file and the cause."""


class OutputFile(NamedTuple):
    """A file that is written part by part."""

    option: str
    path: Path
    file: BinaryIO

    def write(self, content: bytes) -> None:
        """Append to the file.

        Raises:
            OutputError: it cannot be written.
        """
        with _named(self.option, self.path):
            self.file.write(content)


@contextlib.contextmanager
def open_output(option: str, path: Path | None) -> Iterator[OutputFile | None]:
    """Open the file of an option, or none if it is not given; whatever had its name is replaced at the end.

    Until then the content is in `.NAME.part` in the same folder, which is removed if the command fails or is stopped:
    half of a file of lines would pass for a whole one. What is no regular file, such as a pipe, is written as it is.

    Raises:
        OutputError: it cannot be opened, written or given its name.
    """
    if path is None:
        yield None
        return
    regular = not path.exists() or (path.is_file() and DEVICES not in path.absolute().parents)
    target = path.resolve() if regular else path  # a link stays one
    part = target.with_name(f".{target.name}.part") if regular else target
    with _named(option, path):
        file = part.open("wb")
    try:
        yield OutputFile(option, path, file)
        with _named(option, path):
            file.close()
            if regular:
                _rename(part, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            file.close()
        if regular:
            part.unlink(missing_ok=True)
        if isinstance(error, KeyboardInterrupt):
            state = "was not written" if regular else "is incomplete"
            typer.echo(f"stopped: {path} ({option}) {state}", err=True)
        raise


def write_output(option: str, path: Path, content: str | bytes) -> None:
    """Write the whole file of an option, text as UTF-8.

    Raises:
        OutputError: it cannot be written.
    """
    with open_output(option, path) as file:
        assert file is not None
        file.write(content if isinstance(content, bytes) else content.encode())


def _rename(part: Path, target: Path) -> None:
    if target.exists():
        shutil.copymode(target, part)
    try:
        part.replace(target)
    except OSError:  # a file that is mounted by itself, as in a container, keeps its place
        shutil.copyfile(part, target)
        part.unlink()


@contextlib.contextmanager
def _named(option: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{option}: cannot write {path}: {error.strerror or error}") from None
