"""Makes the golden files: states of the present format, what they hash to, and what is predicted from them.

    python tests/golden/make.py NAME

NAME is the folder, such as `format-8`: the format's version, with a letter after it where a release changed what arrays
mean without a change of the format. A folder that a release has shipped with is never made again: what it holds must
stay loadable, or be refused with the release to use (see docs/state.md).
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels

HERE = Path(__file__).parent
EVENT = "entity: e, timestamp: t"
KINDS = {
    "codes": f"event: {{{EVENT}, features: [a], categories: [mode], lags: 2}}",
    "two": f"event: {{{EVENT}, features: [a], target: [y, z], lags: 1, calendar: []}}\nmodel: {{fleet: false}}",
    "labels": f"event: {{{EVENT}, features: [a], lags: 2}}\nlabels: {{topic: labels, wait: 1d}}\nstate: {{shards: 2}}",
}
SOURCE = "source: {brokers: a, topic: t}\nrecovery: {directory: null}\n"
BEFORE, AFTER = 400, 60


def configured(kind: str) -> Config:
    """The configuration of a golden state."""
    return parse_config(f"{SOURCE}{KINDS[kind]}\n")


def events(config: Config) -> Events:
    """Events of three entities, some with faults, in whole numbers only: the same on every machine and release."""
    n = BEFORE + AFTER
    i = np.arange(n)
    a = (i * 7919 % 101 / 8.0)[:, None]
    mode = (i // 3 % 5).astype(float)[:, None]
    features = np.hstack([a, mode]) if config.event.categories else a
    y = 3.0 * a[:, 0] + mode[:, 0] + (i * 104729 % 17) / 16.0 + 64.0 * (i % 97 == 96)
    if len(config.event.targets) > 1:
        y = np.stack([y, 100.0 - y], axis=1)
    if config.labels is not None:
        y = np.full(n, np.nan)
    names = [f"m{k}" for k in (i * i % 3).tolist()]
    return Events(names, 1_700_000_000_000 + 60_000 * i, features, y, i, np.zeros(n, np.int64))


def go_on(engine: Engine, start: int, stop: int) -> list[Any]:
    """What the engine says of these events: predictions and alerts as JSON has them."""
    every, said = events(engine.config), []
    for at in range(start, stop, 20):
        predictions, alerts = engine.process(every.take(np.arange(at, at + 20)))
        said.append([predictions.yhat.tolist(), predictions.lower.tolist(), predictions.score.tolist()])
        said.append([[alert.message["kind"], alert.message["phase"], alert.message["score"]] for alert in alerts])
        if engine.config.labels is not None:
            late = every.take(np.arange(max(at - 10, 0), at + 10))
            m = len(late)
            labelled = engine.learn(
                Labels(late.entity, late.ts, np.zeros(m, np.int64), late.features[:, 0], np.arange(m))
            )
            said.append(labelled.resolved.score.tolist())
            engine.pop_unmatched_labels()
    return said


def make(folder: Path) -> None:
    """Write all golden states of a folder, and what is expected of them."""
    folder.mkdir()
    expected = {}
    for kind in KINDS:
        engine = Engine(configured(kind))
        go_on(engine, 0, BEFORE)
        snapshot = engine.snapshot()
        (folder / f"{kind}.state.gz").write_bytes(gzip.compress(snapshot, 9, mtime=0))
        hashes = {name: engine.state_hash(name) for name in engine.names}
        said = go_on(engine, BEFORE, BEFORE + AFTER)
        after = {name: engine.state_hash(name) for name in engine.names}
        expected[kind] = {"config": KINDS[kind], "hashes": hashes, "said": said, "hashes_after": after}
    (folder / "expected.json").write_bytes(orjson.dumps(expected, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    make(HERE / sys.argv[1])
