"""CHANGELOG.md has a dated section of the version that pyproject.toml names, with nothing left above it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import version

TEXT = Path(__file__).parents[2] / "CHANGELOG.md"


def fault(text: str, release: str) -> str:
    """Return what is wrong with the changelog of a release; empty if nothing is."""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    titles = {each.splitlines()[0]: each.partition("\n")[2].strip() for each in sections}
    if titles.get("Unreleased"):
        return f"entries under Unreleased: move them to {release}, or raise the version"
    if not any(re.fullmatch(rf"{re.escape(release)} — \d{{4}}-\d{{2}}-\d{{2}}", title) for title in titles):
        return f"no section '## {release} — YYYY-MM-DD'"
    return ""


if __name__ == "__main__":
    if found := fault(TEXT.read_text(encoding="utf-8"), version.current()):
        sys.stderr.write(f"CHANGELOG.md: {found}\n")
        sys.exit(1)
