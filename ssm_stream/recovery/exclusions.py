"""Stretches that were excluded from learning by a rewind: planned stops that are stored with the state.

They hold for all that reads the events again: a start, a reload, `explain`. They are windows of `alerts.maintenance`
after those of the file, so that the state is that of a file that had them from the beginning.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.config.sections.maintenance import Maintenance
from ssm_stream.recovery.bytewax_db import RecoveryError

EXCLUSIONS = "excluded.json"


class Rewind(NamedTuple):
    """A rewind that was made.

    at: when, ISO 8601; by: user and machine; to: the time to which it was; excluded: the windows that it added
    """

    at: str
    by: str
    to: str
    excluded: list[Maintenance]

    @property
    def text(self) -> str:
        """Return it as a line."""
        windows = [f"{each.entities} from {each.begin} to {each.end}" for each in self.excluded]
        what = f", without {', '.join(windows)}" if windows else ""
        return f"rewound to {self.to} at {self.at} by {self.by}{what}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        windows = [{"entities": each.entities, "from": each.begin, "to": each.end} for each in self.excluded]
        return {"at": self.at, "by": self.by, "to": self.to, "excluded": windows}


def read_rewinds(directory: Path) -> list[Rewind]:
    """Return the rewinds of a state, the first one first.

    Raises:
        RecoveryError: the file is damaged.
    """
    file = directory / EXCLUSIONS
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["rewinds"]
        return [
            Rewind(row["at"], row["by"], row["to"], [Maintenance.model_validate(each) for each in row["excluded"]])
            for row in rows
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecoveryError(
            f"recovery.directory: {file} cannot be read ({error!r}): restore it from a copy, or reset the state "
            "(ssm-stream state reset)"
        ) from error


def with_exclusions(config: Config, *, rewinds: int | None = None) -> Config:
    """Return the configuration with the stretches that were excluded from its state.

    Args:
        rewinds: only those of the first so many rewinds

    Raises:
        RecoveryError: they cannot be read.
    """
    directory = config.recovery.directory
    if directory is None:
        return config
    return with_windows(config, [each for made in read_rewinds(directory)[:rewinds] for each in made.excluded])


def with_windows(config: Config, windows: list[Maintenance]) -> Config:
    """Return the configuration with more planned stops."""
    if not windows:
        return config
    maintenance = [*config.alerts.maintenance, *windows]
    return config.replace(alerts=config.alerts.model_copy(update={"maintenance": maintenance}))


def as_sent(config: Config, config_hash: str) -> Config:
    """Return the configuration with what was excluded when an alert was sent; with all if none of them fits.

    Args:
        config: without exclusions
        config_hash: of the alert
    """
    directory = config.recovery.directory
    count = 0 if directory is None else len(read_rewinds(directory))
    for rewinds in range(count, -1, -1):
        found = with_exclusions(config, rewinds=rewinds)
        if found.hash == config_hash:
            return found
    return with_exclusions(config)
