"""Where errors have become larger, the sentence has the side on which most of them are, by their size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ssm_stream.core import detect, error_scale
from ssm_stream.engine.alert_summary.errors import LAG, ErrorChange, error_change

SEEN, LATEST = 1000, 20


def changed(latest: NDArray[np.float64]) -> ErrorChange:
    """What is read of a detector whose errors were standard normal, and the latest are these."""
    errors = np.concatenate([np.random.default_rng(0).normal(size=LAG - len(latest)), latest])
    number, context = np.zeros(detect.NUMBERS), np.zeros(8)
    number[[detect.SEEN, detect.SCALE, detect.TOTAL, detect.MASS]] = SEEN, 1.0, SEEN, 1.0
    context[[error_scale.SEEN, error_scale.LAST, error_scale.PLAIN]] = SEEN, 1.0, 1.0
    ring = np.zeros(LAG)
    ring[np.arange(SEEN - LAG, SEEN) % LAG] = errors
    rows = {
        "detector.number": number,
        "detector.waiting": ring,
        "error_scale.number": context,
        "learner.n": np.array(SEEN),
    }
    found = error_change(rows.get)
    assert found is not None
    return found


@pytest.mark.parametrize("side", [1, -1])
def test_large_errors_of_one_sign_have_a_side_though_small_ones_have_the_other(side: int) -> None:
    found = changed(side * np.where(np.arange(LATEST) % 2, 6.0, -0.5))
    assert found.ratio > 2.0
    assert found.sign == side


def test_large_errors_of_both_signs_have_none() -> None:
    found = changed(np.where(np.arange(LATEST) % 2, 6.0, -6.0))
    assert found.ratio > 2.0
    assert found.sign == 0
