"""What an engine has not met before, or not for long: a step beyond all errors, a recipe, a second midnight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_plant_budgets import FIRST, result, started

Rows = list[dict[str, Any]]


def wandering(rng: np.random.Generator, n: int, keep: float, size: float) -> np.ndarray[Any, Any]:
    """An autoregression of the first order of that deviation, (n,)."""
    out, value = np.zeros(n), 0.0
    for i, z in enumerate(rng.normal(size=n) * size * np.sqrt(1 - keep * keep)):
        value = keep * value + z
        out[i] = value
    return out


@pytest.mark.parametrize("others", [0, 9])
def test_a_step_of_four_times_the_largest_error_alarms_at_once(others: int) -> None:
    """A temperature read in whole degrees steps by 8; no error in five weeks was above 2. The tail that errors were
    taken to have, and ten signals that share a budget, had put the bound at 10 and 18."""
    rng, n, step = np.random.default_rng(3), 144 * 37, 144 * 35
    time = np.arange(n)
    temp = 10 + 3 * np.sin(2 * np.pi * time / 144) + wandering(rng, n, 0.998, 3) + wandering(rng, n, 0.92, 0.4)
    temp = np.round(temp + rng.normal(0, 0.15, n) + 8 * (time >= step))
    columns = {"temp": temp, **{f"s{j}": np.round(5 * j + wandering(rng, n, 0.975, 1), 2) for j in range(others)}}
    rows: Rows = [
        {"machine": "m", "ts": FIRST + 600 * i, **{name: float(x[i]) for name, x in columns.items()}} for i in range(n)
    ]
    event = {"target": "all", "features": [*columns], "inputs": []} if others else {"target": "temp", "features": []}
    found = result(event, rows)
    begun = [alert["ts"] for alert in started(found, "anomaly") if alert["ts"] >= 1000 * rows[step]["ts"]]
    assert begun[:1] == [1000 * rows[step]["ts"]]
    assert len(started(found, "anomaly")) <= 4


def recipes(length: float, inertia: float, seed: int) -> tuple[Rows, list[int]]:
    """Three machines with six recipes, whose level the process reaches within `inertia` events; places of changes."""
    rng, n = np.random.default_rng(seed), 12_000
    levels, rows, changes = rng.normal(0, 5, 6), list[dict[str, Any]](), list[int]()
    for machine in range(3):
        noise, load, recipe, left, level = wandering(rng, n, 0.9, 0.2), wandering(rng, n, 0.95, 1.0), 0, 0.0, 0.0
        for i in range(n):
            if left <= 0:
                before, recipe, left = recipe, int(rng.integers(6)), max(8.0, float(rng.exponential(length)))
                if i and recipe != before:
                    changes.append(3 * i + machine)
            left -= 1
            level += (levels[recipe] - level) * (1 - np.exp(-1 / inertia))
            y = round(50 + machine + level + 0.5 * load[i] + noise[i], 2)
            rows.append(
                {"machine": f"m{machine}", "ts": FIRST + 60 * i, "y": y, "load": load[i], "recipe": f"R{recipe}"}
            )
    return sorted(rows, key=lambda row: row["ts"]), changes


@pytest.mark.parametrize(("length", "inertia", "most"), [(60, 0.01, 6), (300, 0.01, 8), (300, 4, 30)])
def test_a_change_of_recipe_is_no_surprise_for_ever(length: float, inertia: float, most: int) -> None:
    """The first rows of a recipe were outside of most intervals, and alarmed. A remark that is never there is none."""
    rows, changes = recipes(length, inertia, 1)
    found = result({"target": "y", "features": ["load"], "categories": ["recipe", "remark"]}, rows)
    later = [at + 3 * k for at in changes if at > 9000 for k in range(4) if at + 3 * k < len(rows)]
    inside = [
        found.predictions[i].yhat_lower <= found.predictions[i].y <= found.predictions[i].yhat_upper for i in later
    ]
    assert np.mean(inside) > 0.8
    assert len(started(found, "anomaly")) <= most


def test_a_fault_within_a_recipe_is_found_as_ever() -> None:
    rows, changes = recipes(300, 4, 2)
    at = next(i for i in range(27_000, len(rows)) if all(not 0 <= i - change < 120 for change in changes))
    machine = rows[at]["machine"]
    for row in rows[at:]:
        if row["machine"] == machine:
            row["y"] += 4.0
    found = result({"target": "y", "features": ["load"], "categories": ["recipe"]}, rows)
    assert any(a["entity"] == machine and a["ts"] == 1000 * rows[at]["ts"] for a in started(found, "anomaly"))


def test_seasonal_answers_do_little_harm_where_there_is_no_season() -> None:
    """Batches of eleven hours know no day. The answers of a day and of a week ago, when first there, were believed for
    one event: of 24 first midnights and Mondays four were wrong by 88 to 165 usual errors."""
    n, shocks = 1440 * 8 + 30, 0
    for seed in range(5, 9):
        rng = np.random.default_rng(seed)
        rows: Rows = []
        for machine in range(3):
            phase = (np.arange(n) + int(rng.integers(667))) % 667
            cycle = np.interp(phase, [0, 60, 200, 420, 600, 667], [22, 22, 75, 75, 25, 22])
            jacket, inside = cycle + wandering(rng, n, 0.95, 0.3), np.full(n, 25.0)
            for i in range(1, n):
                inside[i] = inside[i - 1] + (jacket[i] - inside[i - 1]) / 20
            inside += rng.normal(0, 0.05, n)
            rows += [
                {
                    "machine": f"m{machine}",
                    "ts": FIRST + 60 * i,
                    "y": round(inside[i], 2),
                    "jacket": round(jacket[i], 2),
                }
                for i in range(n)
            ]
        rows.sort(key=lambda row: row["ts"])
        found = result({"target": "y", "features": ["jacket"]}, rows)
        errors = np.array([abs(each.y - each.yhat) for each in found.predictions]).reshape(n, 3)
        usual = errors[2000:].mean()
        shocks += sum(int((errors[1440 * day : 1440 * day + 10].max(0) > 30 * usual).sum()) for day in (1, 7))
    assert shocks <= 1


@pytest.mark.parametrize(
    ("steps", "severity", "measured"), [({150: 0.125}, "warning", False), ({20: 0.002, 150: 0.9}, "critical", True)]
)
def test_the_first_step_of_a_machine_that_joins_is_no_graver_than_can_be_measured(
    steps: dict[int, float], severity: str, measured: bool
) -> None:
    """A new pod's first failed request scored hundreds and was critical, above an outage: its prediction had come down
    from the fleet's to its zeros, and what that took passed for the size of its errors."""
    rng, joins = np.random.default_rng(0), 1_000
    rows: Rows = []
    for i in range(1_200):
        for k in range(6):
            failed = round(int(rng.binomial(300, 0.004)) / 300, 4)
            rows.append({"machine": f"p{k}", "ts": FIRST + 10 * i, "errors": failed})
        if i >= joins:
            rows.append({"machine": "new", "ts": FIRST + 10 * i, "errors": steps.get(i - joins, 0.0)})
    alerts = [a for a in started(result({"target": "errors", "features": []}, rows), "anomaly") if a["entity"] == "new"]
    (first, *_) = [a for a in alerts if a["ts"] == 1000 * (FIRST + 10 * (joins + 150))]
    assert first["severity"] == severity
    assert (first["score"] != 1.0) == measured
