"""What a part of the product costs, by turns within a run (`benchmarks/slices.py`), on slices that are made up."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import slices
from measuring import MissingError
from slices import BEGIN, END, FOUR, Slice, Slices, cost

COST = 0.02


def run(count: int, *, off_first: bool = False, drift: float = 0.0, noise: float = 0.0, seed: int = 0) -> list[Slice]:
    """Of a process that is slower by `COST` with the part on, and by `drift` more from each slice to the next."""
    rng, found = np.random.default_rng(seed), []
    for i in range(count):
        on = (i % FOUR in (0, 3)) != off_first
        pace = 100_000 * (1 - COST * on) * (1 - drift * i) * (1 + noise * rng.normal())
        found.append((round(pace * 0.4 * 1000), 400.0, 600.0 * (1 + COST * on), on))
    return found


@pytest.mark.parametrize("off_first", [False, True])
def test_a_pace_that_drifts_is_no_cost(off_first: bool) -> None:
    found = cost([run(80, off_first=off_first, drift=0.004)], 1)
    assert found.share == pytest.approx(COST, abs=2e-4)
    assert found.standard_error < 1e-4
    assert found.comparisons == (80 - BEGIN - END) // FOUR


def test_cpu_time_is_a_figure_of_its_own() -> None:
    assert cost([run(80)], 2).share == pytest.approx(1 - (1 - COST) / (1 + COST), abs=1e-6)


def test_the_standard_error_is_that_of_the_figure() -> None:
    found = [cost([run(80, noise=0.05, seed=seed)], 1) for seed in range(200)]
    spread = float(np.std([one.share for one in found]))
    assert np.mean([one.share for one in found]) == pytest.approx(COST, abs=3 * spread / 200**0.5)
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.2)


def test_start_end_and_slices_that_stall_do_not_count() -> None:
    calm = run(120)
    begun = [(1, 400.0, 600.0, on) for *_, on in calm[:BEGIN]]
    ended = [(1, 400.0, 600.0, on) for *_, on in calm[-END:]]
    stalled = [*begun, *calm[BEGIN:-END], *ended]
    stalled[BEGIN + 5] = (100, 9000.0, 600.0, stalled[BEGIN + 5][3])
    assert cost([stalled], 1).share == pytest.approx(COST, abs=1e-4)
    assert cost([stalled], 1).mean != pytest.approx(COST, abs=1e-3), "told beside"


def test_too_few_are_no_figure() -> None:
    with pytest.raises(MissingError, match="9 comparisons are too few"):
        cost([run(BEGIN + END + 9 * FOUR)], 1)


@pytest.mark.parametrize("off_first", [False, True])
def test_a_run_is_cut_by_turns(monkeypatch: pytest.MonkeyPatch, off_first: bool) -> None:
    clock = iter(np.arange(0.5, 100.0, 0.1).tolist())
    monkeypatch.setattr(slices.time, "perf_counter", lambda: next(clock))
    cut = Slices(0.25, off_first=off_first)
    began = [cut.learned(10) for _ in range(25)]
    assert began.count(True) == len(cut.done) == 8
    assert [on != off_first for *_, on in cut.done] == [True, False, False, True] * 2
    assert [events for events, *_ in cut.done] == [30] * 8
    assert [seconds for _, seconds, *_ in cut.done] == pytest.approx([0.3] * 8)
