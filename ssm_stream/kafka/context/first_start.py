"""Where the context topics ended when a flow first began: facts before these positions are joined whenever they came.

The recovery directory has them for all later starts, so that what an event gets then is what it got before.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from ssm_stream.config import Config, ConfigError

FIRST_POSITIONS = "context-*.json"
"""The files, one for each topic."""


def first_positions(config: Config, topic: str, now: Mapping[int, int], *, keep: bool) -> dict[int, int] | None:
    """Return by partition where a context topic ended when the flow first began; None if the flow has not begun.

    Args:
        config: with the recovery directory; without one, each start is the first one
        topic: the context topic
        now: by partition, where it ends now
        keep: this is the flow, which begins now if it has not yet

    Raises:
        ConfigError: the directory cannot be used, or the file in it is damaged.
    """
    directory = config.recovery.directory
    if directory is None:
        return dict(now) if keep else None
    file = directory / FIRST_POSITIONS.replace("*", f"{zlib.crc32(topic.encode()):08x}")
    try:
        if not file.exists():
            if not keep:
                return None
            _create(file, {"topic": topic, "positions": {str(p): offset for p, offset in sorted(now.items())}})
        return {int(p): int(offset) for p, offset in json.loads(file.read_bytes())["positions"].items()}
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"recovery.directory: {file}, which has the positions of {topic!r} at the first start, cannot be used: "
            f"{error}; restore it from a copy, or delete it: then all facts that are there now count as there from the "
            "first start on"
        ) from error


def _create(file: Path, content: dict[str, object]) -> None:
    """Write a file, whole, if no other process does it first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}.draft")
    with draft.open("w", encoding="utf-8") as out:
        json.dump(content, out)
        out.flush()
        os.fsync(out.fileno())
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        draft.replace(file)
    draft.unlink(missing_ok=True)
