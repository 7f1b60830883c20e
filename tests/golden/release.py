"""Notes what this release promises, for the next ones to be held to (see docs/upgrades.md).

    python tests/golden/release.py

Writes `release-MAJOR.MINOR`: the configurations of configs/ with their hashes, the schemas of the configuration and of
the messages that go with each, and the commands. A folder that a release has shipped with is never made again.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import orjson

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from test_upgrades import MESSAGES, commands_of  # noqa: E402  # what the release is asked for is asked in the same way

from ssm_stream.cli.app import app  # noqa: E402
from ssm_stream.config import load_config  # noqa: E402


def asked(*words: str) -> bytes:
    """What a command prints."""
    done = subprocess.run([sys.executable, "-m", "ssm_stream", *words], capture_output=True, check=True)
    return done.stdout


def main() -> None:
    folder = HERE / f"release-{'.'.join(version('ssm-stream').split('.')[:2])}"
    for name in ("configs", "messages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    hashes = {}
    for file in sorted((ROOT / "configs").glob("*.yaml")):
        (folder / "configs" / file.name).write_bytes(file.read_bytes())
        hashes[file.name] = load_config(file).hash
        for kind in MESSAGES:
            (folder / "messages" / f"{file.stem}.{kind}.json").write_bytes(asked("schema", kind, str(file)))
    (folder / "hashes.json").write_bytes(orjson.dumps(hashes, option=orjson.OPT_INDENT_2))
    (folder / "config.schema.json").write_bytes(asked("schema", "config"))
    (folder / "commands.json").write_bytes(orjson.dumps(commands_of(app), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
