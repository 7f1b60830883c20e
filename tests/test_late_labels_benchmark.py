"""The benchmark of soft sensors with late labels: the simple ways know no label before it is there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import late_labels
from accuracy_peers import SCORED_FROM
from accuracy_product import Recording


def recording(n: int, target: str) -> Recording:
    """Two entities in turn, y = 3a + 10 or a ramp."""
    a = np.random.default_rng(1).normal(size=n)
    y = 3.0 * a + 10.0 if target == "linear" else np.arange(n) / 1.0
    rows = [
        {"entity": f"m{i % 2}", "ts": i, "target": float(y[i]), "a": float(a[i]) if i % 50 else None} for i in range(n)
    ]
    return Recording("made", "", ["a"], rows)


@pytest.mark.parametrize("delay", [0, 1, 10])
def test_the_last_label_is_the_last_that_is_there(delay: int) -> None:
    """Labels of an entity come every second row: of a ramp, the last one is as many rows behind as it is late."""
    found = late_labels.simple_ways(recording(600, "ramp"), delay)
    known = delay + 1  # rows back to the last label of all
    assert found["last label, all"] == pytest.approx(known)
    assert found["last label"] == pytest.approx(known + known % 2)
    assert found["running mean, all"] == pytest.approx(
        np.mean([t - (t - delay - 1) / 2 for t in range(SCORED_FROM, 600)]), rel=1e-6
    )


def test_least_squares_finds_a_line_and_the_best_way_is_named() -> None:
    ways = late_labels.simple_ways(recording(1500, "linear"), 10)
    assert list(ways) == late_labels.titles()
    best = min(ways, key=lambda way: ways[way])
    assert best.startswith("least squares")
    assert ways[best] < 0.2 * ways["running mean"]


def test_the_product_is_judged_by_the_best_way_in_hindsight() -> None:
    report = late_labels.measure([recording(500, "linear")], "fast", [0, 10])
    assert [row["name"] for row in report["rows"]] == ["made/0", "made/10"]
    for row in report["rows"]:
        assert row["simple"] == min(row["ways"].values())
        assert row["ratio"] == pytest.approx(row["mae"] / row["simple"])
    worse = sum(row["ratio"] > 1.0 + late_labels.TIE for row in report["rows"])
    assert report["checks"][0]["value"] == worse
    assert report["checks"][0]["bar"] == pytest.approx(0.2)
