"""What decides a run besides the settings: the files that it reads, and the code."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import ssm_stream
from ssm_stream.config import Config
from ssm_stream.config.sections.own_parts import load_part
from ssm_stream.core import native
from ssm_stream.engine.kernel_params import own_channels


def files_digest(files: Iterable[Path], relative_to: Path | None = None) -> str:
    """Return 32 hex digits over names and contents of files, in their order.

    relative_to: folder from which on the paths count as names; None: the last part of each path

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name if relative_to is None else file.relative_to(relative_to)}\0".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:32]


def code_digest(config: Config) -> list[str]:
    """Return the release, a digest of the package's code, and one of each own channel of a configuration."""
    channels = (inspect.getmodule(load_part("channel", name)) for name in own_channels(config))
    return [version("ssm-stream"), package_digest(), *map(_module_digest, channels)]


@functools.cache
def package_digest() -> str:
    """Return 32 hex digits over the compiled core and every module of the package: releases alone are too rare.

    It is of the files as they are at the first call, which takes 20 ms.
    """
    folder = Path(ssm_stream.__file__).parent
    return files_digest([Path(native.__file__)]) + files_digest(sorted(folder.rglob("*.py")), folder)


def _module_digest(module: ModuleType | None) -> str:
    file = None if module is None else getattr(module, "__file__", None)
    return "" if file is None else files_digest([Path(file)])
