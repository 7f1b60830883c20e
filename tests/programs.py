"""Programs of others that tests run: linters, Prometheus, systemd."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEBIAN = {
    "docker-compose": "docker-compose",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
}
"""Program → package; the others come from PyPI, with the development tools."""


def program(name: str) -> str:
    """Path of a program: of this Python's folder, else of the machine. Skips the test where there is none."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        how = f"apt-get install {DEBIAN[name]}" if name in DEBIAN else "make install-dev"
        pytest.skip(f"{name} is not installed: {how}")
    return found


def ran(name: str, *arguments: str, cwd: Path, timeout: float = 60) -> str:
    """What it prints; the test fails with that where it fails."""
    command = [program(name), *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr
