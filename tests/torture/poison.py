"""An adversary owns an entity's events for 400 steps: what is left of it after they stop.

    python tests/torture/poison.py

prints the mean error of events 10 to 50, and of 500 to 1,000, after the attack, as multiples of the error before it,
for each of the settings of `alerts.*.learn`. `tests/test_poison.py` says what must hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

BEFORE, DURING, AFTER = 5_000, 400, 1_000
Attack = Callable[[np.random.Generator, Any, Any], tuple[Any, Any]]
TURNS = np.where(np.arange(DURING) % 2, 1.0, -1.0)
GROSS: dict[str, Attack] = {
    "huge targets in turn": lambda _, x, y: (x, y + 1e6 * TURNS),
    "growing targets": lambda _, x, y: (x, y * np.exp(np.arange(DURING) / 50)),
    "targets at the edge of 32 bits": lambda _, x, y: (x, 3e38 * TURNS),
    "huge features": lambda _, x, y: (x * 1e8, y),
    "tiny values": lambda _, x, y: (x * 1e-30, y * 1e-30),
}
WITHIN: dict[str, Attack] = {
    "relation reversed": lambda _, x, y: (x, 40 - y),
    "targets shuffled": lambda rng, x, y: (x, rng.permutation(y)),
    "all the same": lambda _, x, y: (0 * x, 0 * y + 20),
}
SLY: dict[str, Attack] = {
    "creeping targets": lambda _, x, y: (x, y + 0.05 * np.arange(DURING)),
    "a huge feature now and then": lambda rng, x, y: (np.where(rng.random(x.shape) < 0.05, 3e38, x), y),
}
LEARN = ("adapt", "slow", "hold")
ATTACKS = {**GROSS, **WITHIN, **SLY}


def config(learn: str) -> Config:
    return parse_config(
        "source: {brokers: a, topic: t}\n"
        "event: {entity: e, timestamp: t, features: [a, b], target: y, lags: 2, calendar: []}\n"
        f"alerts: {{anomaly: {{learn: {learn}}}, drift: {{learn: {learn}}}}}\n"
    )


def honest(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    x = rng.normal(size=(n, 2))
    return x, 20 + 3 * x[:, 0] - 2 * x[:, 1] + 0.2 * rng.normal(size=n)


def errors(engine: Engine, x: Any, y: Any, start: int) -> Any:
    n = len(y)
    ts = 1_700_000_000_000 + 60_000 * (start + np.arange(n))
    predictions, _ = engine.process(Events(["m"] * n, ts, x, y, np.arange(n), np.zeros(n, np.int64)))
    assert np.isfinite(predictions.yhat).all()
    assert np.isfinite(predictions.lower).all()
    assert np.isfinite(predictions.upper).all()
    return np.abs(predictions.yhat - y)


def attacked(name: str, learn: str) -> tuple[Any, Engine]:
    """Errors of the events after an attack, by the mean error before it."""
    rng, engine = np.random.default_rng(0), Engine(config(learn))
    before = errors(engine, *honest(rng, BEFORE), 0)[1_000:].mean()
    errors(engine, *ATTACKS[name](rng, *honest(rng, DURING)), BEFORE)
    return errors(engine, *honest(rng, AFTER), BEFORE + DURING) / before, engine


def main() -> None:
    print(f"{'attack':32}" + "".join(f"{learn:>24}" for learn in LEARN))
    for name in ATTACKS:
        cells = []
        for learn in LEARN:
            after, _ = attacked(name, learn)
            cells.append(f"{after[10:50].mean():.2g}, {after[500:].mean():.2g}")
        print(f"{name:32}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
