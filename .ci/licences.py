"""The licence of every package that an installation of ssm-stream brings, the extra `torch` included; needs no network.

Exit code 1 where one says nothing, or has a licence that nobody has looked at.
"""

from __future__ import annotations

import importlib.metadata as metadata
import re
import sys

from packaging.requirements import Requirement

ALLOWED = re.compile(r"\b(mit|0?bsd|apache|psf|python|isc|mpl|mozilla|unlicense|zlib|cc0|boost|nvidia)", re.IGNORECASE)
"""What may be used with no more than naming it; NVIDIA's own come with PyTorch for CUDA."""
DOUBTFUL = re.compile(r"GPL|non-?commercial|\bSSPL|\bBUSL", re.IGNORECASE)
KNOWN = {"bytewax": "Apache-2.0", "setuptools": "MIT"}
"""Package → licence, where its own metadata do not say."""


def licence_of(name: str) -> str:
    """As the package's metadata have it: the expression, else the classifiers, else the first line of the text."""
    about = metadata.metadata(name)
    if expression := about.get("License-Expression"):
        return str(expression)
    classified = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    classified = [c for c in classified if c != "OSI Approved"]
    if classified:
        return ", ".join(classified)
    lines = str(about.get("License") or "").strip().splitlines()
    return KNOWN.get(name.lower(), lines[0][:80] if lines else "")


def brought(name: str, found: dict[str, str]) -> None:
    """Add the package and all that it needs here to name → version; those not installed are not brought."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in found:
        return
    try:
        found[key] = metadata.version(name)
    except metadata.PackageNotFoundError:
        return
    for line in metadata.requires(name) or []:
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}) or needed.marker.evaluate({"extra": "torch"}):
            brought(needed.name, found)


def main() -> int:
    found: dict[str, str] = {}
    brought("ssm-stream", found)
    doubtful = []
    for name in sorted(found):
        licence = licence_of(name)
        if not ALLOWED.search(licence) or DOUBTFUL.search(licence):
            doubtful.append(name)
        sys.stdout.write(f"{name:32} {found[name]:16} {licence or '(says nothing)'}\n")
    if doubtful:
        sys.stderr.write(f"look at the licences of: {', '.join(doubtful)}\n")
    return 1 if doubtful else 0


if __name__ == "__main__":
    sys.exit(main())
