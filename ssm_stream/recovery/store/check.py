"""Checks that a store can be used: writes a file, reads it, lists it and deletes it."""

from __future__ import annotations

import uuid

from ssm_stream.config import Config, ConfigError
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.store.flow_store import open_blobs

FOLDER = "check"


def check_store(config: Config) -> None:
    """Use the store as a member does.

    Raises:
        RecoveryError: it refuses, or does not have what was written.
        ConfigError: the extra for object stores is missing.
    """
    blobs, key, content = open_blobs(config), f"{FOLDER}/{uuid.uuid4().hex}", b"ssm-stream doctor"
    first = blobs.create(key, content)
    again = blobs.create(key, content)
    found, listed = blobs.read(key), [each.key for each in blobs.find(FOLDER)]
    blobs.delete([key])
    if found != content or key not in listed:
        raise RecoveryError(f"state.store: {blobs.place}: what was written is not there, or is not listed")
    if not first or again:
        raise RecoveryError(
            f"state.store: {blobs.place}: it writes over a file that was to be written only if absent: members need "
            "a store with conditional puts (If-None-Match)"
        )


def probe(config: Config) -> tuple[bool, str, str]:
    """Return whether the store can be used, what was found, and the cure, for `doctor`."""
    try:
        check_store(config)
    except (ConfigError, RecoveryError) as error:
        return False, str(error), "see docs/scaling.md, the store"
    return True, f"{config.state.store}: files can be written, read, listed and deleted", ""
