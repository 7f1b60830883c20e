"""What a rewind leaves for the runs after it: which results consumers have, and which episodes are open for them.

It stays in the recovery directory. All of it goes by positions, so that no run has to note how far it has come.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.engine.episodes.ids import Ended, load_ended
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.positions import Positions, positions_from_json, positions_to_json
from ssm_stream.recovery.reader import read_sound_state
from ssm_stream.recovery.settings_files import read_json, write_json

CATCH_UP = "rewound.json"
UNDELIVERED = "undelivered-"


class CatchUp(NamedTuple):
    """What is read again after a rewind.

    delivered: by topic and partition: what events before this offset cause is delivered, and is not sent again
    caught_up: by topic and partition: offset, at or after the one of `delivered`, from which on the broker has no
        results yet; there the open episodes are compared
    read: by shard's key: events before these positions are in its state already
    open: the episodes whose beginning consumers have, and whose end they have not
    shards: keys of the shards that have a state, or open episodes
    number: of the rewind, from 1
    """

    delivered: Positions
    caught_up: Positions
    read: dict[str, Positions]
    open: list[Ended]
    shards: list[str]
    number: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "delivered": positions_to_json(self.delivered),
            "caught_up": positions_to_json(self.caught_up),
            "read": {shard: positions_to_json(read) for shard, read in sorted(self.read.items())},
            "open": [each.to_json() for each in self.open],
            "shards": sorted(self.shards),
            "number": self.number,
        }


def read_catch_up(directory: Path) -> CatchUp | None:
    """Return what the last rewind of a directory has left; None if there was none.

    Raises:
        RecoveryError: the file is damaged.
    """
    file = directory / CATCH_UP
    if not file.exists():
        return None
    content = read_json(file)
    try:
        return CatchUp(
            positions_from_json(content["delivered"]),
            positions_from_json(content["caught_up"]),
            {str(shard): positions_from_json(rows) for shard, rows in content["read"].items()},
            load_ended(content["open"]),
            [str(shard) for shard in content["shards"]],
            int(content["number"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecoveryError(
            f"recovery.directory: {file} is damaged: repeat the rewind (ssm-stream state rewind)"
        ) from error


class UndeliveredFile:
    """The beginnings of episodes that a shard has found while it reads again, as alerts by `episode`, in a file.

    It is written before each snapshot, and may have more than the snapshot: that is found again.
    """

    def __init__(self, directory: Path, shard: str) -> None:
        found = read_catch_up(directory)
        self._file = directory / f"{UNDELIVERED}{0 if found is None else found.number}-{shard}.json"
        self._changed = False
        content = read_json(self._file)
        self.alerts: list[dict[str, Any]] = content["alerts"] if isinstance(content, dict) else []

    def add(self, alert: dict[str, Any]) -> None:
        """Add an alert."""
        self.alerts = [each for each in self.alerts if each["id"] != alert["id"]] + [alert]
        self._changed = True

    def remove(self, episode: str, *, suppressed: bool) -> None:
        """Remove the alert of an episode, if there is one."""
        left = [each for each in self.alerts if (each["episode"], "suppressed_by" in each) != (episode, suppressed)]
        self._changed |= len(left) < len(self.alerts)
        self.alerts = left

    def write(self) -> None:
        """Write what has changed."""
        if self._changed:
            write_json(self._file, {"alerts": self.alerts})
            self._changed = False


def remove_undelivered(directory: Path) -> None:
    """Remove the files of earlier rewinds."""
    for file in directory.glob(f"{UNDELIVERED}*.json"):
        file.unlink(missing_ok=True)


class PendingCatchUp(NamedTuple):
    """What a run has to read again. resume: where it begins to read"""

    catch_up: CatchUp
    resume: Positions

    def left(self) -> dict[str, int]:
        """Return the number of messages by topic and partition, for the log."""
        left = {at: end - self.resume.get(at, 0) for at, end in self.catch_up.delivered.items()}
        return {f"{topic}-{partition}": n for (topic, partition), n in sorted(left.items()) if n > 0}


def pending_catch_up(config: Config) -> PendingCatchUp | None:
    """Return what a run has to read again, None if nothing; the directory is open (`open_recovery`).

    Raises:
        RecoveryError, StateError: the directory is damaged.
    """
    directory = config.recovery.directory
    if directory is None or (found := read_catch_up(directory)) is None:
        return None
    resume = {(topic, partition): at for topic, partition, at in read_sound_state(directory).positions(config)}
    ends = [found.caught_up, *found.read.values()]
    if all(resume.get(at, 0) > end for each in ends for at, end in each.items()):
        return None
    return PendingCatchUp(found, resume)
