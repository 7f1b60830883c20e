"""Whether a start must compile the kernels first, which takes a while, once a machine and release."""

from __future__ import annotations

import importlib
from pathlib import Path

import numba

ABOUT = "one to four minutes"
NOTICE = f"compiling the kernels for this machine, once: {ABOUT}"


def cache_folder() -> str:
    """Where the kernels are kept; `model.jit` names it when it is imported."""
    importlib.import_module("ssm_stream.kernels.jit")
    return str(numba.config.CACHE_DIR)  # type: ignore[attr-defined]  # set by numba at import


def are_compiled() -> bool:
    """Whether the engine's kernels lie there."""
    return any(Path(cache_folder()).rglob("loop.run-*.nbi"))
