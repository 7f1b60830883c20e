"""Test files are compiled for pytest by one of its processes each, where they have not been, and not by every process.

That takes 4 s of CPU for all. Each process looks for tests in all of them, so that it needs them all.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest


def rewrite_share(config: pytest.Config, process: int, processes: int) -> None:
    """Compile this process's share of the files, if pytest has the parts that it takes, which are its own."""
    with suppress(ImportError, AttributeError, TypeError, KeyError):
        from _pytest.assertion import rewrite

        state = config.stash[rewrite.assertstate_key]
        for file in sorted(Path(__file__).parent.rglob("test_*.py"))[process::processes]:
            folder = rewrite.get_cache_dir(file)
            compiled = folder / (file.stem + rewrite.PYC_TAIL)
            if not compiled.exists() and rewrite.try_makedirs(folder):
                source, code = rewrite._rewrite_test(file, config)
                rewrite._write_pyc(state, code, source, compiled)
