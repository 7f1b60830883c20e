"""Whether the state that is there goes on under the present configuration: known before anything runs."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.config.changes import (
    Change,
    Effect,
    diff_model_settings,
    diff_runtime_settings,
    overall_effect,
    runtime_settings,
)
from ssm_stream.engine.engine import require_compatible_state
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.directory import read_json, read_picked, write_json
from ssm_stream.recovery.reader import Kept, kept_by, read_kept

SETTINGS = "config.json"
"""Beside the snapshots: the settings of the last start that the snapshots themselves know nothing of."""


class Verdict(NamedTuple):
    """What the present configuration does to the state that is there.

    changes: every setting that differs; why: it is refused for another reason than those
    """

    changes: list[Change]
    why: str | None = None

    @property
    def effect(self) -> Effect:
        """What a start would do: go on as before, take the state along, or refuse it."""
        return "refused" if self.why is not None else overall_effect(self.changes)

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"effect": self.effect, "why": self.why, "changes": [change._asdict() for change in self.changes]}

    def lines(self) -> list[str]:
        """The same in words, a line for each setting that differs."""
        said = {
            "kept": "kept      the state that is there goes on as it is",
            "migrated": "migrated  the state that is there is taken along; what has been learned stays",
            "refused": "refused   the state that is there; put back what is refused, or start anew elsewhere",
        }
        why = [] if self.why is None else [f"          {self.why}"]
        return [said[self.effect], *why, *(f"          {change.text}" for change in self.changes)]


def verdict(config: Config) -> Verdict | None:
    """Before anything runs; None where no state is there.

    Args:
        config: whose features may be picked later; those that were picked are then taken
    """
    directory = config.recovery.directory
    if directory is None:
        return None
    try:
        return read_kept(directory, lambda kept: _verdict(kept, config))
    except (RecoveryError, StateError) as error:
        return Verdict([], str(error))


def verdict_while_running(running: Config, new: Config) -> Verdict:
    """The same for a state that this process is at work on under `running`, in the same directory.

    Its databases are left alone. Locks of files belong to the process, and Bytewax has an SQLite of its own: to it ours
    is no other process, and so cuts the shared memory that the other has mapped (SIGBUS), and lets go of its locks.
    """
    directory = new.recovery.directory
    assert directory is not None
    try:
        was, now = _picked(directory, running), _picked(directory, new)
        changes = [] if was.hash == now.hash else diff_model_settings(was.model_settings, now.model_settings)
        return Verdict([*changes, *_noted(directory, now)])
    except RecoveryError as error:
        return Verdict([], str(error))


def _verdict(kept: Kept, config: Config) -> Verdict | None:
    if kept.empty:
        return None
    config = _picked(kept.directory, config)
    return Verdict([*_decided(kept, config), *_noted(kept.directory, config)])


def _picked(directory: Path, config: Config) -> Config:
    """With the features that were picked for the state, where they are to be picked."""
    if config.event.features != "auto":
        return config
    picked = read_picked(directory, config)
    if picked is None:
        raise RecoveryError("event.features: auto, but the features of the state were listed, not picked: list them")
    return picked


def _noted(directory: Path, config: Config) -> list[Change]:
    """What differs from the settings beside the state."""
    noted = read_settings(directory)
    return [] if noted is None else diff_runtime_settings(noted, runtime_settings(config))


def _decided(kept: Kept, config: Config, *, required: bool = False) -> list[Change]:
    """The settings that differ from those that the shards' states were made with.

    Args:
        required: refuse what does not fit

    Raises:
        StateError: a state does not fit, or does not tell what it was made with.
    """
    changes: dict[str, Change] = {}
    for shard in kept.chains:
        words = kept.words(shard)
        if required or "settings" not in words:
            require_compatible_state(words, config)
        if words["config"] != config.hash:
            changes |= {change.path: change for change in diff_model_settings(words["settings"], config.model_settings)}
    return list(changes.values())


def require_state(config: Config) -> list[Change]:
    """Refuse a state that the configuration cannot go on with, before anything runs; returns what migrates it.

    The directory is open (`open_recovery`), so its databases are sound.

    Raises:
        RecoveryError, StateError: which settings differ, and what can be done.
    """
    directory = config.recovery.directory
    return [] if directory is None else _decided(kept_by(directory), config, required=True)


def write_settings(config: Config) -> None:
    """Note beside the state what it knows nothing of itself, for the comparison with a later configuration.

    Raises:
        RecoveryError: it cannot be written.
    """
    directory = config.recovery.directory
    if directory is not None and read_settings(directory) != runtime_settings(config):
        write_json(directory / SETTINGS, {"release": version("ssm-stream"), "settings": runtime_settings(config)})


def read_settings(directory: Path) -> dict[str, Any] | None:
    """What `write_settings` noted; None where nothing is, or nothing that can be read: nothing depends on it."""
    content = read_json(directory / SETTINGS)
    settings = content.get("settings") if isinstance(content, dict) else None
    return settings if isinstance(settings, dict) else None
