"""A short campaign of kills, the faults of a broker by the mock, and the engine's own bug that the prune is for.

The long campaign is a command: `python tests/torture/campaign.py --events 200000 --kills 60`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers import noida_obstacle

from torture.campaign import campaign


@pytest.mark.skipif(noida_obstacle() is not None, reason=f"no broker with transactions: {noida_obstacle()}")
def test_kills_lose_nothing_repeat_nothing_and_change_no_bit(tmp_path: Path, compiled: None) -> None:
    """Killed at every place once, a full disk, a directory that cannot be written: as if nothing had happened."""
    figures = campaign(tmp_path, n=12_000, kills=14, seed=1)
    assert figures["kills"] >= 10, figures
    assert figures["alerts"] > 0
    assert figures["dead letters"] > 0
    for name in ("lost", "extra", "states that differ", "orphans"):
        assert figures[name] == 0, figures
