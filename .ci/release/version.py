"""The version of a release: it is set in pyproject.toml, and this writes it to the files that must name it.

python .ci/release/version.py            # prints it; exit code 1 where another file names another
python .ci/release/version.py 0.1.1      # sets it everywhere
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSION = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?"
NAMED = {
    "docker/Dockerfile": [r"(ssm-stream:)VERSION", r"(ARG VERSION=)VERSION"],
    "docker/compose.yaml": [r"(ssm-stream:)VERSION"],
    "docker/kubernetes/group/deployment.yaml": [r"(ssm-stream:)VERSION"],
    "docker/kubernetes/statefulset.yaml": [r"(ssm-stream:)VERSION"],
    "docs/deploy.md": [r"(ssm-stream:)VERSION"],
}
"""File → patterns of the places that name the version."""


def current() -> str:
    """Return the version of pyproject.toml."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def places(file: str) -> list[str]:
    """Return the versions that a file names."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = [re.findall(pattern.replace("VERSION", f"({VERSION})"), text) for pattern in NAMED[file]]
    return [version for matches in found for _, version in matches]


def differing() -> dict[str, list[str]]:
    """Return the files that name no version, or another one than pyproject.toml."""
    return {file: found for file in NAMED if set(found := places(file)) != {current()}}


def write(version: str) -> None:
    """Set the version in pyproject.toml and in the files that name it."""
    patterns = {**NAMED, "pyproject.toml": [r'((?m:^)version = ")VERSION']}
    for file, some in patterns.items():
        path = ROOT / file
        text = path.read_text(encoding="utf-8")
        for pattern in some:
            text = re.sub(pattern.replace("VERSION", VERSION), rf"\g<1>{version}", text)
        path.write_text(text, encoding="utf-8")


def main() -> int:
    if len(sys.argv) > 1:
        if not re.fullmatch(VERSION, sys.argv[1]):
            sys.stderr.write(f"{sys.argv[1]!r} is no version: MAJOR.MINOR.PATCH, as 0.1.1 or 0.2.0rc1\n")
            return 2
        write(sys.argv[1])
    sys.stdout.write(f"{current()}\n")
    for file, found in differing().items():
        sys.stderr.write(f"{file}: {', '.join(found) or 'no version'}; pyproject.toml has {current()}\n")
    return 1 if differing() else 0


if __name__ == "__main__":
    sys.exit(main())
