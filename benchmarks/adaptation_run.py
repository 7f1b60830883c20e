"""Everybody on a stream: the product in this process, the others in the peers' environment, their answers kept."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accuracy_product import configuration
from adaptation_peers import BOOSTED, GROUPS
from adaptation_streams import Array, Stream
from measuring import HERE, child, say

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

BLOCK = 25
"""Events whose mean error says whether the error is back."""
BACK = 1.25
QUICK_LEARNERS = ("linear", "Bayesian", "HAT")
"""River's learners in a quick run: all seven take ten times as long."""


class Figures(NamedTuple):
    """What one learner reached on one stream.

    mae: over all events that count; before: over those before the change; own: `before` by the error of who knows the
    relation; events: after the change until the mean of `BLOCK` errors is back within `BACK` times what it was,
    infinite if it never was, NaN where nothing was before; cpu: seconds; curve (n,): absolute errors of those events
    """

    mae: float
    before: float
    own: float
    events: float
    cpu: float
    curve: Array


def until_back(error: Array, at: int, level: float) -> float:
    """Events after the change until the mean of `BLOCK` errors, all of them after it, is at most `BACK` · level."""
    total = np.concatenate([[0.0], np.cumsum(error[at:])])
    back = np.flatnonzero((total[BLOCK:] - total[:-BLOCK]) / BLOCK <= BACK * level)
    return float(back[0] + BLOCK) if len(back) else float("inf")


def figures(stream: Stream, yhat: Array, cpu: float) -> Figures:
    """Judge predictions (n,)."""
    error = np.abs(yhat - stream.y)[stream.counted]
    noise = stream.noise[stream.counted]
    at = int(stream.counted[: stream.at].sum())
    if at == 0:
        return Figures(float(error.mean()), np.nan, float(error.mean() / noise.mean()), np.nan, cpu, error)
    before = float(error[:at].mean())
    events = until_back(error, at, before * stream.gain)
    return Figures(float(error.mean()), before, before / float(noise[:at].mean()), events, cpu, error)


def settings(stream: Stream) -> Config:
    """The defaults, the columns named; no past targets where the target has no memory, as in the generated streams."""
    numbers = [name for i, name in enumerate(stream.names) if i not in stream.codes]
    event: dict[str, Any] = {"categories": [stream.names[i] for i in stream.codes]}
    return configuration(numbers, "fast", {"event": event if stream.past else {**event, "lags": 0}})


def events_of(stream: Stream, known: int | None = None) -> Events:
    """The stream as the engine takes it; from event `known` on without targets, so that nothing is learned."""
    target = stream.y.copy()
    target[known:] = np.nan if known is not None else target[known:]
    n = len(target)
    columns = [i for i in range(stream.x.shape[1]) if i not in stream.codes] + list(stream.codes)
    names = [f"m{i}" for i in stream.entity.tolist()]
    ts = (1000.0 * stream.ts).astype(np.int64)
    return Events(names, ts, stream.x[:, columns], target, np.arange(n), np.zeros(n, np.int64))


def product(stream: Stream, known: int | None = None) -> Figures:
    """The whole engine with its alerts: the least CPU time of three runs."""
    config, best, events = settings(stream), float("inf"), events_of(stream, known)
    for _ in range(3):
        engine = Engine(config)
        begin = time.process_time()
        predictions, _ = engine.process(events)
        best = min(best, time.process_time() - begin)
    return figures(stream, np.nan_to_num(predictions.yhat), best)


def arrays(stream: Stream) -> dict[str, Any]:
    """What a worker reads of a stream."""
    return {name: np.asarray(getattr(stream, name)) for name in ("x", "y", "ts", "entity", "codes", "start", "past")}


def version() -> str:
    """4 hex digits over the peers' code."""
    return hashlib.sha256((HERE / "adaptation_peers.py").read_bytes()).hexdigest()[:4]


def peer(
    stream: Stream, group: str, python: str, folder: Path, names: Iterable[str] | None = None
) -> dict[str, Figures]:
    """A group of learners on a stream, by variant; from `folder` where it has been done before."""
    chosen = sorted(names) if names is not None and group == "River" else []
    mark = hashlib.sha256(" ".join(chosen).encode()).hexdigest()[:4]
    out = folder / f"{stream.name.replace('/', '-')}-{group.replace(' ', '-')}-{stream.key}-{version()}-{mark}.npz"
    told = out.with_suffix(".json")
    if not told.exists():
        with tempfile.NamedTemporaryFile(suffix=".npz") as data:
            np.savez(data, **arrays(stream))
            data.flush()
            job = {"data": data.name, "group": group, "out": str(out), **({"names": chosen} if chosen else {})}
            answer = child("adaptation_peers.py", job, python=python, title=f"{group} on {stream.name}")
        told.write_text(json.dumps(answer))
        say(f"  {stream.name}: {group}: {sum(answer['cpu']):.1f} s")
    answer = json.loads(told.read_text())
    with np.load(out) as made:
        return {
            variant: figures(stream, made[str(i)], cpu)
            for i, (variant, cpu) in enumerate(zip(answer["variants"], answer["cpu"], strict=True))
        }


def by_row(group: str, variants: dict[str, Figures]) -> dict[str, dict[str, Figures]]:
    """A group's variants by the row that shows them: LightGBM apart from ridge regression."""
    if group not in ("frozen", "nightly", "sliding"):
        return {group: variants}
    trees = {name: one for name, one in variants.items() if name.split(", ")[0] in BOOSTED}
    lines = {name: one for name, one in variants.items() if name not in trees}
    return {group: trees, f"{group}, ridge": lines}


Everybody = dict[str, dict[str, Figures]]


def everybody(streams: list[Stream], python: str, folder: Path, *, quick: bool, processes: int) -> dict[str, Everybody]:
    """Figures by stream, row and variant; `ssm-stream` and `ssm-stream, frozen` among the rows."""
    jobs = [(stream, group) for stream in streams for group in GROUPS]
    names = QUICK_LEARNERS if quick else None
    with ThreadPoolExecutor(processes) as pool:
        answers = list(pool.map(lambda job: peer(*job, python, folder, names), jobs))
    found: dict[str, Everybody] = {}
    for stream in streams:
        rows: Everybody = {"ssm-stream": {"default": product(stream)}}
        if not stream.past:
            rows["ssm-stream, frozen"] = {"default": product(stream, stream.start)}
        for (other, group), variants in zip(jobs, answers, strict=True):
            if other.name == stream.name:
                rows |= by_row(group, variants)
        found[stream.name] = rows
    return found
