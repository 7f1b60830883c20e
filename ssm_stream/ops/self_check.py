"""Is the compiled kernel, on this processor and with these settings, what its definition in torch says?

A process of its own and of low priority runs both over the same made-up events and tells how far they are apart, so
that production holds no torch and waits for nothing. `ssm-stream verify` does it thoroughly, on a recording.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import orjson
import structlog

from ssm_stream.config import Config, Horizon

LOG = structlog.get_logger("ssm_stream.ops")
EVENTS, ENTITIES = 400, 2
BAR = 1e-3
"""Deviation, in standard deviations of the target, above which the log warns: far above rounding."""
LONGEST = 900.0
"""Seconds that a check may take."""
NICE = 10
"""It gives way to production, and still gets a tenth of a processor that is never idle."""


def deviation(config: Config) -> float:
    """Largest |kernel − definition| over the predictions, in standard deviations of the target; NaN: not comparable.

    With several targets, the first is checked; where targets come late, the same learner with targets that do not.
    """
    import torch

    from ssm_stream.engine.target_engine import TargetEngine, kernel_columns
    from ssm_stream.ingest.events import Events
    from ssm_stream.reference import learner

    torch.set_num_threads(1)
    first = config.for_target(config.event.targets[0])
    first = first.model_copy(
        update={
            "labels": None,
            "model": first.model.model_copy(update={"horizon": Horizon(text="0"), "fleet": True}),
            "state": first.state.model_copy(update={"shards": 1, "ttl": None}),
            "alerts": first.alerts.model_copy(
                update={
                    "anomaly": first.alerts.anomaly.model_copy(update={"enabled": False}),
                    "drift": first.alerts.drift.model_copy(update={"enabled": False}),
                }
            ),
        }
    )
    rng = np.random.default_rng(0)
    numbers, names = len(first.event.numbers), len(first.event.categories)
    u = rng.normal(size=(EVENTS, numbers + names)) * 2 + 10
    u[:, numbers:] = rng.integers(0, 3, (EVENTS, names))
    ts = 1_700_000_000_000 + 60_000 * np.arange(EVENTS)
    who = rng.integers(0, ENTITIES, EVENTS)
    y = u[:, :numbers] @ rng.normal(size=numbers) + np.sin(np.arange(EVENTS) / 20) + 0.1 * rng.normal(size=EVENTS) + who
    engine = TargetEngine(first)
    events = Events([f"e{e}" for e in who], ts, u, y, np.arange(EVENTS))
    said, _ = engine.process(events)
    rows = np.array([engine.store.names.index(f"e{e}") for e in who])
    columns, steps = kernel_columns(engine.plan, events, ts)
    p = engine.store.params
    meta, state = learner.new_meta(p, engine.weights), learner.new_state(p, 1, ENTITIES)
    defined = np.empty(EVENTS)
    with torch.no_grad():
        for t in range(EVENTS):
            event = learner.Event(
                torch.from_numpy(rows[t : t + 1]),
                torch.from_numpy(columns[t : t + 1]),
                torch.from_numpy(steps[t : t + 1]),
                torch.tensor([float(ts[t])], dtype=torch.float64),
            )
            answer = learner.predict(p, meta, state, event)
            defined[t] = float(answer.yhat)
            state = learner.learn(p, meta, state, event, answer, torch.from_numpy(y[t : t + 1]))
    return float(np.max(np.abs(said.yhat - defined)) / np.std(y))


class SelfCheck:
    """A check that is under way. config: with its features"""

    def __init__(self, config: Config) -> None:
        content: dict[str, Any] = config.model_dump(
            mode="json", include={"event", "model", "state", "labels", "alerts"}
        )
        content["source"] = {"brokers": "none", "topic": config.source.topic}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ssm_stream.ops.self_check"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(content))
        self._process.stdin.close()
        self._deadline = time.monotonic() + LONGEST

    def poll(self) -> float | None:
        """The deviation, NaN where it could not be found out; None while it is under way."""
        if self._process.poll() is None:
            if time.monotonic() < self._deadline:
                return None
            self.stop()
            LOG.warning("self_check_failed", error=f"it took more than {LONGEST:.0f} s")
            return math.nan
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with self._process.stdout as out, self._process.stderr as errors:
            told, said = out.read(), errors.read()
        try:
            found = float(orjson.loads(told))
        except (orjson.JSONDecodeError, TypeError):
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            LOG.warning("self_check_failed", error=last or f"exit status {self._process.returncode}")
            return math.nan
        if found <= BAR:
            LOG.info("self_check", deviation=found, bar=BAR)
        else:
            LOG.error("self_check", deviation=found, bar=BAR, cure="run `ssm-stream verify` on a recording; see docs")
        return found

    def stop(self) -> None:
        """End it, whatever it has found."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def main() -> None:
    """The process: the configuration from standard input, the deviation to standard output."""
    os.nice(NICE)
    config = Config.model_validate(orjson.loads(sys.stdin.buffer.read()))
    sys.stdout.write(str(deviation(config)))


if __name__ == "__main__":
    main()
