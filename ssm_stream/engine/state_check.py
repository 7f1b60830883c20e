"""Checks a loaded state before the core computes with it; `core/bounds.hpp` has the bounds.

The checksums of a snapshot find damage. The bounds hold for a file that was made to mislead, too: no content of a
state may lead the core outside its arrays, or into a loop without an end.
"""

from __future__ import annotations

from ssm_stream.config import MAX_PENDING
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.kernel_params import build_rules
from ssm_stream.engine.snapshot_format import StateError


def check_state(store: EntityStore) -> None:
    """Check the rows in use: every number that the core takes for an index or a count, or that steers a loop.

    Raises:
        StateError: a number is out of its bounds; the text names the array.
    """
    fleet, entities = store.config.model.fleet, len(store.names)
    pools = len(store.pools) if fleet else entities
    core = store.bind(build_rules(store.config))
    found = core.check(entities, pools)
    if not found and store.delayed is not None:
        # Where each entity is its own pool, the core takes the entity's row: rows move, and `pool` does not follow.
        found = core.check_pending(store.pending, entities, pools if fleet else -1, MAX_PENDING)
    if found:
        raise StateError(f"the snapshot is damaged: {found}")
