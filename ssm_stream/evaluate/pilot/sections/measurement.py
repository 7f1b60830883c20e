"""What the engine takes on this machine: CPU an event, bytes of state, seconds of a snapshot and of a recovery."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ssm_stream.config import Config
from ssm_stream.evaluate.engine_run import EngineRun
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine


class Measurement(NamedTuple):
    """One run of the engine over the recording. Events and entities are counted up to each snapshot."""

    event_us: float
    """CPU of the engine, µs an event; reading and writing topics is not in it."""
    entity_bytes: int
    """Memory of an entity's own state, once all of it has been written to."""
    pool_bytes: int
    """Memory of what the entities of a shard and partition learn together."""
    events: tuple[int, int]
    """Events before the snapshot halfway, and before the one at the end."""
    entities: tuple[int, int]
    snapshot_bytes: tuple[int, int]
    snapshot_seconds: float
    recovery_seconds: float


def measure(config: Config, run: EngineRun, advance: Callable[[float], None] = lambda _: None) -> Measurement:
    """Run the engine once more over the events of a run, without reading them, and return what that takes.

    advance: takes the share of the events that is done
    """
    engine, half, done, cpu = PartitionedEngine(config, run.partitions), len(run) // 2, 0, 0.0
    sizes, entities, counts = list[int](), list[int](), list[int]()
    for events in run.batches:
        cuts = [0, *([half - done] if 0 < half - done < len(events) else []), len(events)]
        for left, right in itertools.pairwise(cuts):
            part = events if right - left == len(events) else events.take(np.arange(left, right))
            start = time.process_time()
            admitted, _ = engine.admit(part)
            engine.process(admitted)
            cpu += time.process_time() - start
            done += right - left
            if done == half:
                sizes.append(len(engine.snapshot()))
                entities.append(len(engine))
                counts.append(done)
        advance(done / max(len(run), 1))
    start = time.perf_counter()
    state = engine.snapshot()
    written = time.perf_counter()
    PartitionedEngine.restore(config, state)
    restored = time.perf_counter()
    sizes, entities, counts = [*sizes, len(state)], [*entities, len(engine)], [*counts, done]
    return Measurement(
        1e6 * cpu / max(done, 1), engine.bytes_per_entity, engine.bytes_per_pool,
        (counts[0], counts[-1]), (entities[0], entities[-1]), (sizes[0], sizes[-1]),
        written - start, restored - written,
    )  # fmt: skip
