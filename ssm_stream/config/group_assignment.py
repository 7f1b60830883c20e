"""`source.assignment: group`: what a flow needs whose partitions the group assigns, and what it does not have yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import orjson

MANUAL = "leave assignment out (or write `manual`) and share the topic by source.partitions"
STRATEGIES = ("", "cooperative-sticky")


def with_group(config: Any) -> None:
    """Fill in what follows from the assignment: the name of the group, and no recovery directory.

    Raises:
        ValueError: the flow cannot run so; the text has the reason and the cure.
    """
    for refusal in _refusals(config):
        raise ValueError(f"source.assignment: group: {refusal}")
    source, recovery = config.source, config.recovery
    if source.group is None:
        group = f"ssm-stream-{source.topic}-{flow_identity(config)}"
        object.__setattr__(config, "source", source.model_copy(update={"group": group}))
    object.__setattr__(config, "recovery", recovery.model_copy(update={"directory": None}))


def flow_identity(config: Any) -> str:
    """Return 8 hex digits for what a flow watches and where its results go: two flows on one topic have two."""
    event, sinks = config.event, config.sinks
    content = [event.entity, event.timestamp, list(event.targets), sinks.predictions, sinks.alerts]
    return hashlib.sha256(orjson.dumps(content)).hexdigest()[:8]


def _refusals(config: Any) -> Iterator[str]:
    """Yield what speaks against the group, each with the cure."""
    source, event, state = config.source, config.event, config.state
    if state.store is None:
        yield (
            "state.store: null; members find each other's states there: name a folder that all of them reach, or "
            "the URL of an object store"
        )
    if source.partitions is not None:
        yield "found with source.partitions; the group assigns the partitions: leave one of the two out"
    if "directory" in config.recovery.model_fields_set and config.recovery.directory is not None:
        yield "found with recovery.directory; the state is in state.store: leave recovery.directory out"
    if state.shards != 1:
        yield f"found with state.shards: {state.shards}; a partition is a shard there: leave state.shards out"
    if source.repartition is not None:
        yield f"found with source.repartition, which one process copies, and members do not agree on one yet: {MANUAL}"
    if event.features == "auto":
        yield "found with event.features: auto; members must agree on them: list them (ssm-stream init does)"
    if config.audit.directory is not None and (
        config.audit.directory.is_absolute() or ".." in config.audit.directory.parts
    ):
        yield (
            f"found with audit.directory: {config.audit.directory}; the records move with their partition, in the "
            "store: write a name there, audit.directory: audit"
        )
    strategy = str(source.kafka.get("partition.assignment.strategy", ""))
    if strategy not in STRATEGIES:
        yield (
            f"found with source.kafka partition.assignment.strategy: {strategy}; members hand over one partition at a "
            "time: leave it out (it is cooperative-sticky), or set group.protocol: consumer"
        )
