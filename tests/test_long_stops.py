"""What a stop, a restart and an entity's first events leave behind: no alarm for ever, and no deafness."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engines import config
from numpy.typing import NDArray

from ssm_stream.core import levels
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import EventReader

Floats = NDArray[np.float64]
BUDGET, ABSORB = 40_000.0, 1_000.0


def lively_at_first(rng: np.random.Generator, n: int) -> Floats:
    x = rng.normal(size=(n, 3))
    x[:1_200] += 100.0 * np.sign(np.sin(np.arange(1_200) / 60.0))[:, None]
    return x


def stopped_for_days(rng: np.random.Generator, n: int) -> Floats:
    x = 50.0 + np.cumsum(rng.normal(size=(n, 3)), axis=0) * 0.02 + rng.normal(size=(n, 3))
    x[6_000:18_000] = 0.0
    return x


@pytest.mark.parametrize("course", [lively_at_first, stopped_for_days])
def test_levels_are_calm_again_after_a_lively_start_and_a_long_stop(course: Any) -> None:
    for seed in range(3):
        x = course(np.random.default_rng(seed), 30_000)
        state = levels.new_levels_state(1, 3)
        parts = range(0, len(x), 500)
        score = np.concatenate(
            [levels.observe(state, 0, x[i : i + 500, 0], x[i : i + 500, 1:], BUDGET, ABSORB) for i in parts]
        )
        assert (score[20_000:] > 1.0).mean() < 0.01


def batches(seed: int, count: int = 60) -> list[dict[str, Any]]:
    """Rows of three machines: two hours of work a batch, cold at first, and half an hour between; from batch 40 on
    an input of machine 1 is off by six deviations."""
    rng, rows = np.random.default_rng(seed), list[dict[str, Any]]()
    for i in range(150 * count):
        for m in range(3):
            works = i % 150 < 120
            cold = 8.0 * np.exp(-(i % 150) / 3.0) * rng.uniform(0.5, 1.0)  # a machine that starts
            x = float(rng.normal() + cold) + (6.0 if m == 1 and i >= 150 * 40 else 0.0)
            z = float(rng.normal())
            row = {"e": f"m{m}", "t": 60 * i, "a": x if works else 0.0, "b": z, "phase": "hold" if works else "empty"}
            rows.append(row | {"y": z + 0.3 * float(rng.normal()) if works else 0.0})
    return rows


@pytest.mark.parametrize(("course", "graver"), [("never", False), ("often", True)])
def test_the_first_step_of_what_has_never_moved_is_no_grave_fault(course: str, graver: bool) -> None:
    """A setpoint goes from 21 to 20.5 in three machines: a warning of a score of 1, below any fault that can be
    measured, also in the fleet's alert. What moved before, and is off by ten thousand times that, is critical."""
    rng, rows = np.random.default_rng(0), list[dict[str, Any]]()
    for i in range(900):
        for m in range(3):
            y = 21.0 if course == "never" else 21.0 + round(float(rng.normal()), 2)
            y = (20.5 if course == "never" else 9999.0) if i >= 700 else y
            rows.append({"e": f"m{m}", "t": 60 * i, "x": float(rng.normal()), "y": y})
    for fleet in (False, True):
        settings = config(
            "target: y, features: [x], timestamp_format: s",
            f"alerts: {{drift: {{enabled: false}}, fleet: {{enabled: {str(fleet).lower()}}}}}",
        )
        alerts = [a.message for a in Engine(settings).process(EventReader(settings.event).read(rows)[0])[1]]
        found = [m for m in alerts if m["phase"] == "started" and m["ts"] >= 700 * 60_000]
        assert found
        assert any(m["severity"] == "critical" for m in found) == graver
        assert (max(m["score"] for m in found) > 100.0) == graver


def test_an_excursion_that_goes_on_through_restarts_is_one_alert() -> None:
    settings = config(
        "target: y, features: [a, b], timestamp_format: s, when: {phase: hold}",
        "alerts: {drift: {enabled: false}, fleet: {enabled: false}, anomaly: {channels: [levels]}}",
    )
    for seed in range(2):
        engine = Engine(settings)
        events, _ = EventReader(settings.event).read(batches(seed))
        alerts = [alert.message for alert in engine.process(events)[1]]
        found = [m for m in alerts if m["phase"] == "started" and m["entity"] == "m1" and m["ts"] >= 150 * 40 * 60_000]
        assert len(found) == 1  # it ended at each restart, and began again an hour later: eight


def test_an_error_of_the_first_events_hides_no_jump() -> None:
    """Meters with a daily course; one reads twice as much in the seventh day, where several targets share a budget."""
    hour = np.arange(700) % 96 / 4.0
    settings = config("target: [p, q, r, s], features: [], timestamp_format: s", "alerts: {fleet: {enabled: false}}")
    course = 0.35 + 0.75 * np.exp(-(((hour - 7.0) / 1.3) ** 2)) + 0.75 * np.exp(-(((hour - 19.0) / 2.0) ** 2))
    for seed in (0, 3):
        rng = np.random.default_rng(seed)
        y = course[:, None, None] * (10.0 + 5.0 * np.arange(8))[:, None] * (1.0 + 0.05 * rng.normal(size=(700, 8, 4)))
        y[600:604, 4, 0] *= 2.0
        engine = Engine(settings)
        rows = [
            {"e": f"m{j}", "t": 900 * i, **dict(zip("pqrs", y[i, j].round(3).tolist(), strict=True))}
            for i in range(700)
            for j in range(8)
        ]
        alerts = [alert.message for alert in engine.process(EventReader(settings.event).read(rows)[0])[1]]
        found = [m for m in alerts if m["kind"] == "anomaly" and m["phase"] == "started"]
        assert [(m["entity"], m["target"], m["ts"]) for m in found[-1:]] == [("m4", "p", 900_000 * 600)]
