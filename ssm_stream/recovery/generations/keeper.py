"""Keeps generations while a flow runs: one at the start, and then one every ten minutes.

The positions are noted before the files: a shard's newest file has learned every event before the positions that were
safe earlier. It may have learned more, which is why a generation has the positions of each shard, too. Bytewax's
databases are not opened: another SQLite in this process would release their locks.
"""

from __future__ import annotations

import math
import threading
import time

import structlog

from ssm_stream.config import Config
from ssm_stream.engine.snapshot import times_of
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ops.observers import ObservedShard, RunObserver
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.catch_up import read_catch_up
from ssm_stream.recovery.checkpoint_files import FOLDER, open_checkpoint, read_chain
from ssm_stream.recovery.generations.store import FolderStore, Generation, GenerationStore, ShardGeneration
from ssm_stream.recovery.generations.thinning import STEP, beyond_disk, superfluous
from ssm_stream.recovery.positions import Positions
from ssm_stream.recovery.reader import read_sound_state

LOG = structlog.get_logger("ssm_stream.generations")
ATTEMPTS = 5
"""Of keeping one: its files may be replaced meanwhile."""


class Keeper(RunObserver):
    """Keeps the generations of one process. config: with `recovery.keep`; its directory is locked and pruned

    Raises:
        RecoveryError, StateError: the directory is damaged.
    """

    def __init__(self, config: Config, store: GenerationStore | None = None) -> None:
        directory, keep = config.recovery.directory, config.recovery.keep
        assert directory is not None
        assert keep is not None
        self._keep, self._folder = keep, directory / FOLDER
        self._store = FolderStore(directory) if store is None else store
        self._topics = {*config.source.names, (config.labels and config.labels.topic) or config.source.topic}
        stored = read_sound_state(directory)
        # Before Bytewax opens its databases, which hold the end of one epoch of all of the state.
        self._positions: Positions = {
            (topic, partition): offset for topic, partition, offset in stored.positions(config) if topic in self._topics
        }
        caught = read_catch_up(directory)
        self._shards: dict[str, tuple[str, Positions]] = {
            shard: (chain[-1].name, {} if caught is None else dict(caught.read.get(shard, {})))
            for shard, chain in stored.chains.items()
        }
        self._first_read = {shard: read for shard, (_, read) in self._shards.items()}
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self.keep()

    def on_durable(self, topic: str, partition: int, offset: int) -> None:
        """Note a position up to which the state is on the disk."""
        if topic in self._topics:
            self._positions[topic, partition] = offset
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="generations", daemon=True)
            self._thread.start()

    def on_snapshot(self, shard: ObservedShard, file: str, seconds: float, size: int) -> None:
        """Note the newest file of a shard, and the positions up to which it has learned."""
        assert shard.key is not None
        self._shards[shard.key] = file, dict(shard.read)

    def close(self) -> None:
        """End the thread."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(STEP):
            self.keep()

    def keep(self) -> Generation | None:
        """Keep the present state, and remove what is superfluous; return the generation, None if there is nothing new.

        What cannot be kept is logged: the flow goes on.
        """
        try:
            for _ in range(ATTEMPTS):
                try:
                    return self._keep_one()
                except (FileNotFoundError, StateError) as error:
                    failed: Exception = error  # replaced meanwhile
            LOG.warning("generation_not_kept", error=str(failed))
        except (OSError, RecoveryError) as error:
            LOG.warning("generation_not_kept", error=str(error))
        return None

    def _keep_one(self) -> Generation | None:
        positions = dict(self._positions)
        shards, times = dict[str, ShardGeneration](), list[float]()
        for key, (file, read) in list(self._shards.items()):
            chain = [each.name for each in read_chain(self._folder, file)]
            with open_checkpoint(self._folder, chain[-1]) as reader:
                times += [each for each in times_of(reader.metadata) if not math.isnan(each)]
            learned = self._first_read.get(key, {}) | read
            shards[key] = ShardGeneration(chain, {at: n for at, n in learned.items() if n > positions.get(at, 0)})
        known = self._store.all()
        if not shards or (known and known[-1].positions == positions):
            return None
        time_ = math.floor(max(times)) if times else None
        made = Generation(time.time_ns() // 1_000_000, time_, positions, shards)
        self._store.add(made, self._folder)
        known.append(made)
        gone = superfluous(known, made.taken, self._keep)
        kept = [each for each in known if each not in gone]
        if crowded := beyond_disk(kept, self._store.size, self._store.free()):
            LOG.warning("generations_thinned", removed=len(crowded), why="they need more than a quarter of the disk")
            kept = [each for each in kept if each not in crowded]
        if gone or crowded:
            self._store.remove([*gone, *crowded])
        LOG.info("generation_kept", kept=len(kept), bytes=self._store.size(kept))
        return made
