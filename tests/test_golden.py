"""States that releases have written load in this one, and go on with the same bits."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from ssm_stream.config import parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import VERSION

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make import AFTER, BEFORE, SOURCE, go_on  # noqa: E402  # the script that made the files

FILES = sorted(GOLDEN.glob("*/*.state.gz"))


def expected_of(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads((file.parent / "expected.json").read_bytes())
    return content[file.name.removesuffix(".state.gz")]


def test_the_present_format_has_golden_files() -> None:
    assert {file.parent.name for file in FILES} >= {f"format-{VERSION}"}
    assert sum(path.stat().st_size for path in GOLDEN.glob("format-*/*")) < 200_000


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name.split('.')[0]}")
def test_a_golden_state_goes_on_with_the_same_bits(file: Path) -> None:
    expected = expected_of(file)
    snapshot = gzip.decompress(file.read_bytes())
    engine = Engine.restore(parse_config(SOURCE + expected["config"]), snapshot)
    assert {name: engine.state_hash(name) for name in engine.names} == expected["hashes"]
    assert engine.snapshot() == snapshot, "what is written is what was read"
    # JSON holds every bit of a float: none may differ.
    assert orjson.loads(orjson.dumps(go_on(engine, BEFORE, BEFORE + AFTER))) == expected["said"]
    assert {name: engine.state_hash(name) for name in engine.names} == expected["hashes_after"]
