"""Streams in which something changes: generated ones, whose noise is known, and recordings with an injected change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from accuracy import SHORT
from accuracy_product import Recording, read
from numpy.typing import NDArray

Array = NDArray[np.float64]

INPUTS = 8
EVENTS, TRAINED = 4000, 1000
"""Events of a generated stream, and those that a frozen model is trained on: errors count from there on."""
NOISE = 0.3
"""Deviation of the noise; a coefficient is drawn from N(0, 1), an input varies by 1."""
GAP = 600
"""Seconds between events: 144 a day."""
MACHINES, BEFORE, YOUNG = 6, 400, 500
"""Machines that a fleet has had before, events of each until the new one comes, events of the new one that count."""
ROWS = 3000
COEFFICIENT, OFFSET = 2.0, 3.0
"""Injected: standard deviations of the target for one of the input; standard deviations of the sensor's offset."""
KINDS = ("coefficients", "offset", "product", "noise", "machine")
INJECTED = ("coefficients", "offset")
FIRST = 1_700_000_000


class Stream(NamedTuple):
    """Events in time order.

    x (n, d), y (n,): inputs and target; ts (n,): seconds; entity (n,): numbers of the entities; noise (n,): the error
    of who knows the relation, NaN where nobody does; codes: columns of x that are categories; names (d,): of the
    columns; start: errors count from here on; at: the change; counted (n,): events whose error counts; gain: multiple
    of the error that the change itself makes of it; past: past targets and the calendar are inputs, too
    """

    name: str
    kind: str
    x: Array
    y: Array
    ts: Array
    entity: NDArray[np.int64]
    noise: Array
    codes: tuple[int, ...]
    names: tuple[str, ...]
    start: int
    at: int
    counted: NDArray[np.bool_]
    gain: float = 1.0
    past: bool = False

    @property
    def key(self) -> str:
        """12 hex digits over what a learner sees."""
        content = hashlib.sha256(f"{self.start} {self.codes} {self.past}".encode())
        for array in (self.x, self.y, self.ts, self.entity):
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()[:12]


def generated(kind: str, seed: int) -> Stream:
    """A stream of one of `KINDS`."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    return fleet(seed, rng) if kind == "machine" else single(kind, seed, rng)


def inputs(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """(n, 8) independent normal inputs as their sensors give them, in units of any size, and standardised."""
    z = rng.normal(size=(n, INPUTS))
    size, mean = 10.0 ** rng.uniform(-2, 3, INPUTS), rng.normal(size=INPUTS)
    return (z + 3.0 * mean) * size, z


def single(kind: str, seed: int, rng: np.random.Generator) -> Stream:
    """One machine, 8 inputs, a change in the middle, at any time of the day."""
    n, at = EVENTS, EVENTS // 2 + int(rng.integers(0, 144))
    x, z = inputs(rng, n)
    after = np.arange(n) >= at
    W, noise = rng.normal(size=(2, INPUTS)), NOISE * rng.normal(size=n)
    names, codes, gain = [f"x{i}" for i in range(INPUTS)], (), 1.0
    y = z @ W[0]
    if kind == "coefficients":
        y = np.where(after, z @ W[1], y)
    elif kind == "offset":
        j = int(np.abs(W[0]).argmax())
        x[:, j] += np.where(after, OFFSET * x[:, j].std(), 0.0)
    elif kind == "noise":
        noise, gain = np.where(after, 2.0, 1.0) * noise, 2.0
    elif kind == "product":
        # Campaigns of 200 events; each product has its own offset and its own weights of two inputs.
        campaign = np.arange(n) // 200 % 2
        product = np.where(after, np.where((np.arange(n) - at) // 200 % 2 == 0, 2, 0), campaign)
        special, offset = rng.normal(size=(3, 2)), 2.0 * rng.normal(size=3)
        y = z[:, 2:] @ W[0, 2:] + (z[:, :2] * special[product]).sum(1) + offset[product]
        x, names, codes = np.column_stack([x, product]), [*names, "product"], (INPUTS,)
    ts, one = FIRST + GAP * np.arange(n, dtype=np.float64), np.zeros(n, np.int64)
    counted = np.arange(n) >= TRAINED
    title = f"{kind}/{seed}"
    return Stream(
        title, kind, x, y + noise, ts, one, np.abs(noise), codes, tuple(names), TRAINED, at, counted, gain
    )  # fmt: skip


def fleet(seed: int, rng: np.random.Generator) -> Stream:
    """Six machines much alike, each with an offset and weights of its own; then a seventh comes."""
    early = np.tile(np.arange(MACHINES), BEFORE)
    late = np.tile(np.arange(MACHINES + 1), YOUNG)
    entity = np.concatenate([early, late])
    n, at = len(entity), len(early)
    x, z = inputs(rng, n)
    W = rng.normal(size=INPUTS) + 0.3 * rng.normal(size=(MACHINES + 1, INPUTS))
    noise = NOISE * rng.normal(size=n)
    y = (z * W[entity]).sum(1) + rng.normal(size=MACHINES + 1)[entity] + noise
    rounds = np.concatenate([np.arange(at) // MACHINES, BEFORE + np.arange(len(late)) // (MACHINES + 1)])
    ts, counted = FIRST + GAP * rounds.astype(np.float64) + entity, entity == MACHINES
    names = tuple(f"x{i}" for i in range(INPUTS))
    return Stream(f"machine/{seed}", "machine", x, y, ts, entity, np.abs(noise), (), names, at, at, counted)


def recorded(folder: Path, rows: int = ROWS) -> Iterator[Stream]:
    """The recordings with bars of the accuracy benchmark, each with each change of `INJECTED` in the middle."""
    for stem, short in SHORT.items():
        if (path := folder / f"{stem}.csv.gz").exists():
            for kind in INJECTED:
                yield injected(read(path, rows), short, kind)


def injected(recording: Recording, name: str, kind: str) -> Stream:
    """A recording with a change from the middle on, in the input that goes best with the target before it.

    coefficients: the input's weight on the target, +2 standard deviations for each of its own; offset: the input
    itself, +3 standard deviations
    """
    events, n = recording.rows, len(recording.rows)
    x = np.array([[row[name] for name in recording.features] for row in events], np.float64)
    y = np.array([row["target"] for row in events], np.float64)
    start, at = n // 3, n // 2
    x = np.where(np.isnan(x), np.nanmean(x[:at], axis=0), x)
    deviation = x[:at].std(0)
    together = np.nan_to_num(((x[:at] - x[:at].mean(0)) * (y[:at] - y[:at].mean())[:, None]).mean(0))
    j = int(np.abs(together / np.where(deviation > 0, deviation, np.inf)).argmax())
    after = np.arange(n) >= at
    if kind == "coefficients":
        y = y + np.where(after, COEFFICIENT * y[:at].std() * (x[:, j] - x[:at, j].mean()) / deviation[j], 0.0)
    else:
        x[:, j] += np.where(after, OFFSET * deviation[j], 0.0)
    order = {value: i for i, value in enumerate(dict.fromkeys(row["entity"] for row in events))}
    entity = np.array([order[row["entity"]] for row in events], np.int64)
    ts = np.array([datetime.fromisoformat(row["ts"]).replace(tzinfo=UTC).timestamp() for row in events])
    names, unknown = tuple(recording.features), np.full(n, np.nan)
    return Stream(
        f"{name}/{kind}", kind, x, y, ts, entity, unknown, (), names, start, at, np.arange(n) >= start, past=True
    )  # fmt: skip
