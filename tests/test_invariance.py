"""What should not matter does not: units, weeks, names, the order of columns, columns that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from engines import config, made, run
from numpy.typing import NDArray

from ssm_stream.config import parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.engine_run import run_engine
from ssm_stream.ingest.events import Events

MINUTE, WEEK = 60_000, 604_800_000
MONDAY = 1_767_571_200_000
LINEAR = "model: {tuning: {log_space: false}}"
"""Heads in log space do depend on the unit: the logarithm is of 1 + target."""
SETTLED = 1000
"""Events after which errors count."""

Floats = NDArray[np.float64]


def machine(n: int = 6000, seed: int = 0) -> Events:
    """A temperature (40 to 90, in steps of 1/8) that follows a load with a day and a wandering ambient temperature,
    every 5 minutes; at 2/3 of it a spike, at 4/5 an offset that stays for 200 events."""
    rng = np.random.default_rng(seed)
    wander, noise = np.zeros((n, 2)), np.zeros(n)
    for t, step in enumerate(rng.normal(size=(n - 1, 3)), 1):
        wander[t] = 0.97 * wander[t - 1] + 0.24 * step[:2]
        noise[t] = 0.5 * noise[t - 1] + 0.7 * step[2]
    day = np.sin(np.arange(n) / 288 * 2 * np.pi)
    features = np.round(64 * np.stack([50 + 15 * day + 5 * wander[:, 0], 15 + 3 * wander[:, 1]], 1)) / 64
    y = 25 + features @ [0.5, 0.8] + noise
    y[2 * n // 3] += 12
    y[4 * n // 5 : 4 * n // 5 + 200] += 5
    return made(np.round(8 * y) / 8, features, ts=MONDAY + 5 * MINUTE * np.arange(n))


def answers(
    events: Events, event: str = "features: [a, b]", sections: str = LINEAR
) -> tuple[dict[str, Any], list[Any]]:
    """Predictions; alerts as kind, row, phase and score."""
    predicted, alerts = run(Engine(config(event, sections)), events)
    return predicted, [(a.message["kind"], a.row, a.message["phase"], a.message["score"]) for a in alerts]


def error_of(events: Events, predicted: dict[str, Any]) -> float:
    return float(np.abs(events.target - predicted["yhat"])[SETTLED:].mean())


@pytest.mark.parametrize("unit", [4.0, 2.0**-10, 2.0**60])
def test_a_target_in_another_unit_is_predicted_alike(unit: float) -> None:
    """A power of two changes no digit of a prediction. The size of errors goes by logarithms, which are rounded."""
    events = machine()
    (one, alerts), (other, others) = answers(events), answers(replace(events, target=unit * events.target))
    assert (unit * one["yhat"]).tobytes() == other["yhat"].tobytes()
    np.testing.assert_allclose(other["upper"], unit * one["upper"], rtol=1e-4)
    assert [alert[:3] for alert in alerts] == [alert[:3] for alert in others]


@pytest.mark.parametrize("unit", [4.0, 2.0**-40])
def test_features_in_another_unit_change_nothing(unit: float) -> None:
    events = machine()
    (one, alerts), (other, others) = answers(events), answers(replace(events, features=unit * events.features))
    assert one["yhat"].tobytes() == other["yhat"].tobytes()
    assert alerts == others


def test_an_entity_far_from_its_pool_is_predicted_as_well() -> None:
    """Two machines in turn, one of which stands elsewhere."""
    first, second = machine(3000), machine(3000, seed=1)
    order = np.argsort(np.concatenate([first.ts, second.ts]), kind="stable")

    def of_second(offset: float) -> float:
        y = np.concatenate([first.target, second.target + offset])[order]
        names = np.array(["m"] * 3000 + ["far"] * 3000)[order]
        features = np.concatenate([first.features, second.features])[order]
        events = made(y, features, names.tolist(), np.sort(np.concatenate([first.ts, second.ts])))
        off = np.abs(answers(events)[0]["yhat"] - y)[names == "far"]
        return float(off[SETTLED:].mean())

    assert of_second(1000.0) < 1.05 * of_second(0.0)


@pytest.mark.parametrize("weeks", [1, 52, -1043])
def test_other_weeks_change_nothing(weeks: int) -> None:
    events = machine()
    (one, alerts), (other, others) = answers(events), answers(replace(events, ts=events.ts + weeks * WEEK))
    assert all(one[name].tobytes() == other[name].tobytes() for name in ("yhat", "lower", "upper", "score"))
    assert alerts == others


def test_names_of_entities_change_nothing() -> None:
    events = machine()
    (one, alerts), (other, others) = answers(events), answers(replace(events, entity=["Pumpe 7"] * len(events)))
    assert one["yhat"].tobytes() == other["yhat"].tobytes()
    assert alerts == others


def swapped(events: Events) -> Floats:
    return events.features[:, ::-1]


def with_constant(events: Events) -> Floats:
    return np.column_stack([events.features, np.full(len(events), 7.25)])


def with_copy(events: Events) -> Floats:
    return np.column_stack([events.features, events.features[:, 0]])


def with_noise(events: Events) -> Floats:
    return np.column_stack([events.features, np.random.default_rng(9).normal(size=len(events))])


@pytest.mark.parametrize("change", [swapped, with_constant, with_copy, with_noise])
def test_columns_that_say_nothing_new_cost_nothing(change: Callable[[Events], Floats]) -> None:
    events = machine()
    other = replace(events, features=np.ascontiguousarray(change(events)))
    names = ", ".join("abc"[: other.features.shape[1]])
    one, two = answers(events)[0], answers(other, f"features: [{names}]")[0]
    assert abs(error_of(events, two) / error_of(events, one) - 1) < 0.02


def test_values_of_a_category_are_but_names() -> None:
    events = machine()
    state = np.repeat(np.arange(60) % 3, 100).astype(np.float64)
    y = events.target + 5.0 * state
    of = [
        replace(events, features=np.column_stack([events.features, names]), target=y) for names in (state, 7.5 - state)
    ]
    (one, alerts), (other, others) = (answers(each, "features: [a, b], categories: [c]") for each in of)
    assert one["yhat"].tobytes() == other["yhat"].tobytes()
    assert alerts == others


def test_times_may_be_written_in_any_way() -> None:
    events = machine(4500)

    def alarms(written: Callable[[int], Any]) -> list[tuple[Any, ...]]:
        rows = [
            {"e": "m", "t": written(int(ts)), "target": y, "a": a, "b": b}
            for ts, y, (a, b) in zip(events.ts, events.target.tolist(), events.features.tolist(), strict=True)
        ]
        of = parse_config(
            "source: {brokers: 'localhost:9092', topic: events}\nevent: {entity: e, timestamp: t, features: [a, b]}\n"
        )
        return [(row, m["kind"], m["phase"], m["score"]) for row, m in run_engine(of, rows).messages]

    one = alarms(lambda ts: datetime.fromtimestamp(ts / 1000, UTC).isoformat())
    assert started_rows(one)
    assert one == alarms(lambda ts: ts) == alarms(lambda ts: ts // 1000) == alarms(lambda ts: 1000 * ts)


def started_rows(alarms: list[tuple[Any, ...]]) -> list[int]:
    return [row for row, _, phase, _ in alarms if phase == "started"]
