"""False drift alarms of young entities, whose model is still learning: stationary fleets through the whole engine.

Every fleet starts from nothing (or joins an older one), each entity with a relation of its own that never changes. With
the default calendar the model takes hour and weekday for inputs once it has seen a day; that is measured apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from alerts_recordings import check
from numpy.typing import NDArray
from rich.console import Console

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
AGES = (100, 500, 1000, 2000, 4000)
"""Events of an entity's life between which alarms are counted: from the end of the warm-up on."""
BUDGETS = (1e3, 1e4)
RATE_MOST = 1.2
CHUNK = 4000
START = 1_700_000_000_000

Row = dict[str, Any]


class Fleet(NamedTuple):
    """noise: its standard deviation, where the features' effect has about √features; heavy: Student's t, 3 degrees
    smooth: autocorrelation of the features; season: size of a daily one; minutes: between events of an entity
    joining: half of the entities come when the others are old"""

    features: int
    noise: float
    heavy: bool = False
    smooth: float = 0.0
    season: float = 0.0
    minutes: int = 1
    joining: bool = False
    event: tuple[tuple[str, Any], ...] = ()
    model: tuple[tuple[str, Any], ...] = ()


FLEETS = {
    "8 features": Fleet(8, 0.1),
    "3 features, noisy": Fleet(3, 1.0),
    "5 features, no lags": Fleet(5, 0.1, event=(("lags", 0),)),
    "12 features, each alone": Fleet(12, 0.3, model=(("fleet", False),)),
    "6 features, half joining": Fleet(6, 0.2, joining=True),
    "5 features, heavy tails": Fleet(5, 0.3, heavy=True),
    "5 features, autocorrelated": Fleet(5, 0.2, smooth=0.9),
    "2 features, a daily season": Fleet(2, 0.5, season=3.0, minutes=5),
}


def configuration(fleet: Fleet, budget: float, calendar: bool) -> Config:
    event: Row = {"entity": "entity", "timestamp": "ts", "features": [f"x{i}" for i in range(fleet.features)]}
    if not calendar:
        event["calendar"] = []
    return Config.model_validate(
        {
            "source": {"brokers": "localhost:9092", "topic": "benchmark"},
            "event": {**event, **dict(fleet.event)},
            "model": dict(fleet.model),
            "alerts": {
                "anomaly": {"enabled": False},
                "drift": {"budget": f"1 per {budget:.0f} events"},
                "fleet": {"enabled": False},
            },
        }
    )


def events(fleet: Fleet, entities: int, each: int, seed: int) -> Iterator[Events]:
    """Rounds in which every entity that is there has one event, in random order."""
    g = np.random.default_rng(seed)
    d, late = fleet.features, each // 2 if fleet.joining else 0
    weights, phase = g.normal(size=(entities, d)), g.uniform(0, 2 * np.pi, entities)
    start = np.where(np.arange(entities) % 2 == 1, late, 0)
    x = np.zeros((entities, d))
    names, parts, held = [f"m{k}" for k in range(entities)], [], 0
    for t in range(each + late):
        which = g.permutation(np.flatnonzero((start <= t) & (t < start + each)))
        fresh = g.normal(size=(len(which), d))
        x[which] = fleet.smooth * x[which] + (1 - fleet.smooth**2) ** 0.5 * fresh
        noise = g.standard_t(3, size=len(which)) / 3**0.5 if fleet.heavy else g.normal(size=len(which))
        ts = START + 60_000 * fleet.minutes * t + np.arange(len(which))
        day = 2 * np.pi * fleet.minutes * t / 1440
        y = (x[which] * weights[which]).sum(1) + fleet.season * np.sin(day + phase[which]) + fleet.noise * noise
        parts.append((which, ts, x[which], y))
        held += len(which)
        if held >= CHUNK or t == each + late - 1:
            rows, times, inputs, targets = (np.concatenate(column) for column in zip(*parts, strict=True))
            yield Events([names[k] for k in rows.tolist()], times, inputs, targets, np.arange(held))
            parts, held = [], 0


def alarms_by_age(
    fleet: Fleet, budget: float, calendar: bool, entities: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Drift episodes started, and events judged, between the AGES."""
    engine = Engine(configuration(fleet, budget, calendar))
    alarms, judged = np.zeros(len(AGES) - 1, np.int64), np.zeros(len(AGES) - 1, np.int64)
    for part in events(fleet, entities, AGES[-1], seed):
        predictions, alerts = engine.process(part)
        judged += np.histogram(predictions.n, AGES)[0]
        started = [int(predictions.n[a.row]) for a in alerts if a.message["phase"] == "started"]
        alarms += np.histogram(started, AGES)[0]
    return alarms, judged


def young(quick: bool) -> tuple[list[Row], list[Row]]:
    """Checks by age, all fleets together; a row a fleet and budget: alarms over the budget by age."""
    entities, checks, table = 20 if quick else 100, [], []
    for budget, calendar in itertools.product(BUDGETS, (False, True)):
        kind = "calendar" if calendar else "no calendar"
        alarms, allowed = np.zeros(len(AGES) - 1), np.zeros(len(AGES) - 1)
        for at, (name, fleet) in enumerate(FLEETS.items()):
            if fleet.season and not calendar:
                continue  # errors that the model cannot but make by the hour of the day do change
            found, judged = alarms_by_age(fleet, budget, calendar, entities, 31 + at)
            alarms += found
            allowed += judged / budget
            over = found * budget / judged
            table.append({"fleet": name, "calendar": calendar, "budget": budget, "over budget by age": over.tolist()})
            shown = "  ".join(f"to {age:,}: {rate:.2f}" for age, rate in zip(AGES[1:], over, strict=True))
            CONSOLE.print(f"young: {name}, {kind}, 1 in {budget:,.0f}: {shown}")
        for first, last, rate in zip(AGES, AGES[1:], alarms / allowed, strict=False):
            where = f"{kind}/1 in {budget:,.0f}/events {first:,} to {last:,}"
            checks.append(check(f"budget/young/{where}", rate, "<=", RATE_MOST))
    return checks, table
