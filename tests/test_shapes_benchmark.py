"""The benchmark of shapes: its figures, and that its signals are what their names say."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import shapes
import shapes_streams as streams


def test_areas_of_a_perfect_a_useless_and_a_wrong_score() -> None:
    labels = np.zeros(100, bool)
    labels[40:50] = True
    for score, area in ((labels * 1.0, 1.0), (np.ones(100), 0.5), (-1.0 * labels, 0.0)):
        assert shapes.roc_auc(labels, score) == pytest.approx(area)
    assert shapes.average_precision(labels, labels * 1.0) == pytest.approx(1.0)
    assert shapes.average_precision(labels, np.ones(100)) == pytest.approx(0.1)


def test_equal_scores_count_as_half() -> None:
    labels = np.array([True, False, True, False])
    assert shapes.roc_auc(labels, np.array([1.0, 1.0, 2.0, 0.0])) == pytest.approx(7 / 8)
    assert shapes.average_precision(labels, np.array([1.0, 1.0, 2.0, 0.0])) == pytest.approx(0.5 + 0.5 * 2 / 3)


@pytest.mark.parametrize("kind", streams.KINDS)
def test_a_signal_differs_from_its_normal_one_where_it_is_labelled(kind: str) -> None:
    for name, shape in {**streams.CHOSEN_ON, **streams.JUDGED_ON}.items():
        signal = streams.make(name, shape, kind, 3)
        assert signal.y.shape == signal.labels.shape == (streams.LENGTH,)
        assert np.isfinite(signal.y).all()
        assert np.isfinite(signal.x).all()
        spans = np.flatnonzero(np.diff(signal.labels.astype(int)) == 1)
        assert len(spans) == streams.ANOMALIES
        assert spans.min() >= streams.FIRST - 1
        again = streams.make(name, shape, kind, 3)
        assert (again.y == signal.y).all(), "made from its seed"


def test_the_shapes_that_are_judged_are_others() -> None:
    assert not set(streams.CHOSEN_ON) & set(streams.JUDGED_ON)
    assert len({seed // 1000 for seed in shapes.SEEDS.values()}) == len(shapes.SEEDS)
