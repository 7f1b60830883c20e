"""Whether all tests have passed on the commit that is checked out.

python .ci/release/tested.py --record    # `make test` notes the commit, in build/tested
python .ci/release/tested.py [COMMIT]    # exit code 1 where neither that note nor COMMIT (tested elsewhere) is this one
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTE = ROOT / "build" / "tested"
SHORTEST = 7


def commit() -> str:
    """Return the commit that is checked out; empty without git, or where a file that git knows differs from it."""

    def git(*arguments: str) -> str | None:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return None if done.returncode else done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "HEAD") or "") if changed == "" else ""


def known(present: str, noted: str, named: str = "") -> bool:
    """Return whether the present commit is the noted one, or the one that is named by its first digits."""
    return bool(present) and (present == noted or (len(named) >= SHORTEST and present.startswith(named)))


def main(arguments: list[str]) -> int:
    present = commit()
    if arguments == ["--record"]:
        NOTE.parent.mkdir(exist_ok=True)
        NOTE.write_text(f"{present}\n", encoding="utf-8")
        return 0
    noted = NOTE.read_text(encoding="utf-8").strip() if NOTE.exists() else ""
    if known(present, noted, *arguments):
        sys.stdout.write(f"tests: passed on {present[:12]} before\n")
        return 0
    sys.stdout.write(f"tests: none known of {present[:12] or 'a checkout with changes'}, they are run\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
