"""The benchmark of the operators on little: it runs, and what it prints has the right form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "plugin.py"


def test_the_parts_without_a_broker_have_their_checks() -> None:
    command = [sys.executable, str(SCRIPT), "--quick", "--json", "--part", "cost", "--part", "import"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert [set(check) for check in checks] == [{"name", "value", "relation", "bar", "ok"}] * 3
    effects = next(check for check in checks if check["name"].startswith("effects"))
    assert effects["value"] == 0
