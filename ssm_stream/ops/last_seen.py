"""What a run has left when readers and shards are gone: for the last line of the log."""

from __future__ import annotations

from ssm_stream.ops.observers import LearnedBatch, ObservedShard, PartitionPosition, RunObserver


class LastSeen(RunObserver):
    """Where each partition was left, and how many entities each shard had."""

    def __init__(self) -> None:
        self.positions = dict[tuple[str, int], PartitionPosition]()
        """By topic and partition: those that are read no more."""
        self.entities = dict[str, int]()
        """By shard: after its last batch, or at its start."""

    def on_left(self, place: PartitionPosition) -> None:
        """Keep where a partition was left."""
        self.positions[place.topic, place.partition] = place

    def register_shard(self, shard: ObservedShard) -> None:
        """Count the entities of a stored state."""
        if shard.key is not None:
            self.entities[shard.key] = len(shard.engine)

    def on_batch(self, shard: ObservedShard, batch: LearnedBatch) -> None:
        """Count the entities after a batch."""
        self.entities[shard.key or ""] = len(shard.engine)
