"""Compile the kernels of `ssm_stream.engine.explain` ahead of their use.

python -m ssm_stream.ui.compile_explain < configuration.json
"""

from __future__ import annotations

import os
import sys

import numpy as np
import orjson

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import explain
from ssm_stream.ingest.events import Events


def compile_explain(config: Config) -> None:
    """Explain a prediction of a throwaway engine, which compiles the kernels."""
    engine, n, d, m = Engine(config), 3, len(config.event.columns), len(config.event.targets)
    target = np.arange(n, dtype=np.float64)
    if m > 1:
        target = np.repeat(target[:, None], m, axis=1)
    ts = 1_700_000_000_000 + 60_000 * np.arange(n, dtype=np.int64)
    events = Events(["e"] * n, ts, np.ones((n, d)), target, np.arange(n))
    engine.process(engine.admit(events.take(np.arange(n - 1)))[0])
    explain(engine.target_engines[0], events.take(np.array([n - 1])))


def main() -> None:
    """Compile at low priority."""
    os.nice(19)
    compile_explain(Config.model_validate(orjson.loads(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
