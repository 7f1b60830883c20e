"""A folder that installs ssm-stream on a machine without a network: dist/ssm-stream-VERSION-PLATFORM, and its .tar.gz.

    python .ci/release/bundle.py             # after `make wheels docs`

In it: the wheels of dist/ and those of all that they need, with the extras of EXTRAS; the
documentation, configurations, what is in docker/, the bill of materials (sbom.cdx.json), install.sh and SHA256SUMS.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import sbom
import version

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
EXTRAS = ("excel", "holidays", "mcp", "notify", "registry", "store", "zstd")
"""Everything but torch and notebooks, which no plant's machine needs, and traces."""
NEEDED_GLIBC = "2.31"
"""What the wheels of others need: Bytewax 0.21 is for Debian 11, Ubuntu 20.04, RHEL 9 and later. Our own need less."""
COPIED = ("README.md", "README.ja.md", "CHANGELOG.md", "LICENSE", "SECURITY.md", "configs", "docker")
INSTALL = """#!/bin/sh
# Installs ssm-stream from the wheels of this folder, without a network: install.sh FOLDER [EXTRA …]
#   ./install.sh /opt/ssm-stream
#   PYTHON=python3.12 ./install.sh /opt/ssm-stream notify excel
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n 2,4p "$0" >&2; exit 2; }
target=$1; shift
(cd "$here" && sha256sum --check --quiet SHA256SUMS) || { echo "the bundle is damaged: copy it again" >&2; exit 1; }
extras=$(printf '%s,' "$@")
"${PYTHON:-python3}" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \\
    || { echo "ssm-stream needs Python 3.11 or 3.12: name one in PYTHON" >&2; exit 1; }
"${PYTHON:-python3}" -m venv "$target"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$here/wheels" \\
    "ssm-stream[${extras%,}]==VERSION"
"$target/bin/ssm-stream" --version
"""


def platforms() -> list[str]:
    """Options of pip for wheels of machines with `NEEDED_GLIBC`, or an earlier one."""
    machine, minor = platform.machine(), int(NEEDED_GLIBC.split(".")[1])
    names = [f"manylinux_2_{n}_{machine}" for n in range(minor, 4, -1)] + [f"manylinux2014_{machine}"]
    return [part for name in names for part in ("--platform", name)]


def download(wheel: Path, folder: Path) -> None:
    """Get the wheels of all that the wheel needs, for its Python."""
    tag = next(part for part in wheel.name.split("-") if part.startswith("cp3"))
    python = f"3.{tag.removeprefix('cp3')}"
    where = ["--python-version", python, "--implementation", "cp", *platforms(), "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *where]
    done = subprocess.run([*command, "--dest", str(folder), f"{wheel}[{','.join(EXTRAS)}]"], check=False)
    if done.returncode:
        raise SystemExit(f"not all packages have a wheel for Python {python} and glibc {NEEDED_GLIBC}")


def checksums(folder: Path) -> str:
    """Return the lines of SHA256SUMS for every file of the folder but itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files)


def main() -> None:
    release = version.current()
    wheels = sorted(DIST.glob("*.whl"))
    if not wheels:
        raise SystemExit("no wheel in dist: `make wheels` first")
    name = f"ssm-stream-{release}-linux-{platform.machine()}"
    folder = DIST / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "wheels").mkdir(parents=True)
    for wheel in wheels:
        shutil.copy2(wheel, folder / "wheels")
        download(wheel, folder / "wheels")
    for each in COPIED:
        source = ROOT / each
        if source.is_dir():
            shutil.copytree(source, folder / each, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder)
    site = ROOT / "build" / "docs"
    if not (site / "index.html").exists():
        raise SystemExit("no documentation in build/docs: `make docs` first")
    shutil.copytree(site, folder / "docs")
    document = json.dumps(sbom.sbom(folder / "wheels"), indent=2) + "\n"
    (folder / "sbom.cdx.json").write_text(document, encoding="utf-8")
    (DIST / f"ssm-stream-{release}.cdx.json").write_text(document, encoding="utf-8")
    script = folder / "install.sh"
    script.write_text(INSTALL.replace("VERSION", release), encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    (folder / "SHA256SUMS").write_text(checksums(folder), encoding="utf-8")
    with tarfile.open(DIST / f"{name}.tar.gz", "w:gz", compresslevel=6) as archive:
        archive.add(folder, arcname=name)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    count = len(list((folder / "wheels").glob("*.whl")))
    sys.stdout.write(f"dist{os.sep}{name}: {count} wheels, {size / 2**20:.0f} MiB; ./install.sh FOLDER installs it\n")


if __name__ == "__main__":
    main()
