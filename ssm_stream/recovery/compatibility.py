"""Decides whether a stored state can continue under the present configuration, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.config.changes import (
    Change,
    Effect,
    diff_model_settings,
    diff_runtime_settings,
    holiday_changes,
    moved_topics,
    overall_effect,
    runtime_settings,
)
from ssm_stream.engine.snapshot import require_compatible_state
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.reader import StoredState, read_sound_state, with_state
from ssm_stream.recovery.settings_files import (
    as_learned,
    last_learned_day,
    read_feature_selection,
    read_runtime_settings,
)


class Compatibility(NamedTuple):
    """The effect of the present configuration on the stored state."""

    changes: list[Change]
    """Every setting that differs."""
    why: str | None = None
    """Another reason for a refusal."""

    @property
    def effect(self) -> Effect:
        """Whether a start keeps, migrates or refuses the state."""
        return "refused" if self.why is not None else overall_effect(self.changes)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {"effect": self.effect, "why": self.why, "changes": [change._asdict() for change in self.changes]}

    def lines(self) -> list[str]:
        """The same as text, with a line for each setting that differs."""
        summary = {
            "kept": "kept      the stored state continues as it is",
            "migrated": "migrated  the stored state continues under the new settings; what it has learned stays",
            "refused": "refused   the stored state: restore the settings marked `refused`, or start with another "
            "recovery.directory",
        }
        why = [] if self.why is None else [f"          {self.why}"]
        return [summary[self.effect], *why, *(f"          {change.text}" for change in self.changes)]


def check_state(config: Config) -> Compatibility | None:
    """Compare a configuration with the stored state; returns None if nothing is stored.

    With `event.features: auto`, the features that were selected for the state count.
    """
    directory = config.recovery.directory
    if directory is None:
        return None
    try:
        return with_state(directory, lambda stored: _check(stored, config))
    except (RecoveryError, StateError) as error:
        return Compatibility([], str(error))


def report_fit(config: Config) -> list[tuple[str, bool, str, str]]:
    """Return as a check that a start refuses the stored state: name, whether a run starts, finding and cure; nothing
    if no state is stored, or a start continues from it."""
    directory = config.recovery.directory
    found = check_state(config) if directory is not None and directory.is_dir() else None
    if found is None or found.effect != "refused":
        return []
    reasons = [each.text for each in found.changes if each.effect == "refused"]
    cure = "put these settings back, or start anew with another recovery.directory" if reasons else ""
    why = "; ".join(reasons if found.why is None else [found.why, *reasons])
    return [("state", False, f"the state in {directory} does not fit: {why}", cure)]


def check_running_state(running: Config, new: Config) -> Compatibility:
    """Compare a configuration with the state that this process is writing to under `running`, in the same directory.

    The databases are not opened. File locks belong to the process, and Bytewax has an SQLite of its own: to that one,
    ours is no other process, and so truncates the shared memory that the other has mapped (SIGBUS), and releases its
    locks.
    """
    directory = new.recovery.directory
    assert directory is not None
    try:
        was, now = _as_learned(directory, running), _as_learned(directory, new)
        changes = [] if was.hash == now.hash else diff_model_settings(was.model_settings, now.model_settings)
        return Compatibility([*_kept_holidays(new, now), *changes, *_runtime_changes(directory, now)])
    except RecoveryError as error:
        return Compatibility([], str(error))


def _check(stored: StoredState, config: Config) -> Compatibility | None:
    if stored.empty:
        return None
    learned = _as_learned(stored.directory, config)
    changes = [*_kept_holidays(config, learned), *_model_changes(stored, learned)]
    return Compatibility([*changes, *_runtime_changes(stored.directory, learned)])


def _as_learned(directory: Path, config: Config) -> Config:
    """The configuration with the features that were selected for the state, and the holidays and exclusions by
    which it was learned."""
    if config.event.features == "auto":
        resolved = read_feature_selection(directory, config)
        if resolved is None:
            raise RecoveryError("event.features: auto, but the state was made with a list of features: list them")
        config = resolved
    return as_learned(config)


def _kept_holidays(config: Config, learned: Config) -> list[Change]:
    """What the list of holidays has otherwise for days that have been learned already, and which stay as they were."""
    return [
        Change(
            path, was, now, "kept", f"days up to {last_learned_day(config)}, that of the last event, stay as learned"
        )
        for path, was, now in holiday_changes(learned.event.holidays, config.event.holidays)
    ]


def _runtime_changes(directory: Path, config: Config) -> list[Change]:
    stored = read_runtime_settings(directory)
    return [] if stored is None else diff_runtime_settings(stored, runtime_settings(config))


def _model_changes(stored: StoredState, config: Config, *, required: bool = False) -> list[Change]:
    """The differences from the settings that made the shards' states.

    Args:
        required: refuse a state that does not fit

    Raises:
        StateError: a state does not fit, or does not hold the settings that made it.
    """
    changes: dict[str, Change] = {}
    for shard in stored.chains:
        metadata = stored.metadata(shard)
        if required or "settings" not in metadata:
            require_compatible_state(metadata, config)
        if metadata["config"] != config.hash:
            found = diff_model_settings(metadata["settings"], config.model_settings)
            changes |= {change.path: change for change in found}
    return list(changes.values())


def require_compatible(config: Config) -> list[Change]:
    """Refuse a state that the configuration cannot continue; returns the changes that migrate it.

    The directory is open (`open_recovery`), so its databases are sound.

    Raises:
        RecoveryError, StateError: names the settings that differ and the cure.
    """
    directory = config.recovery.directory
    if directory is None:
        return []
    stored = read_runtime_settings(directory)
    if stored is not None and (why := moved_topics(stored, runtime_settings(config))):
        raise RecoveryError(f"source.topics: {why}, or start with another recovery.directory")
    return _model_changes(read_sound_state(directory), config, required=True)
