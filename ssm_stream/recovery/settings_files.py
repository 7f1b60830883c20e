"""Small JSON files in the recovery directory: the feature selection, and the settings that no snapshot holds.

The features of `event.features: auto` are selected once, from the first events, and stay the same as long as the state.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ssm_stream.autoconfig.feature_selection import with_columns
from ssm_stream.config import Config, ConfigError
from ssm_stream.config.changes import runtime_settings
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import sync

FEATURE_SELECTION = "features.json"
RUNTIME_SETTINGS = "config.json"


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a small file atomically: it is there whole or not at all, even if the power fails.

    Raises:
        RecoveryError: it cannot be written.
    """
    draft = file.with_suffix(".draft")
    try:
        with draft.open("w", encoding="utf-8") as out:
            json.dump(content, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
        sync(file.parent)
    except OSError as error:
        raise RecoveryError(f"recovery.directory: {file} cannot be written: {error}") from error


def read_json(file: Path) -> Any:
    """The content of a JSON file, or None if it is missing or cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_runtime_settings(config: Config) -> None:
    """Write the settings that no snapshot holds, for the comparison with a later configuration.

    Raises:
        RecoveryError: the file cannot be written.
    """
    directory = config.recovery.directory
    if directory is not None and read_runtime_settings(directory) != runtime_settings(config):
        content = {"release": version("ssm-stream"), "settings": runtime_settings(config)}
        write_json(directory / RUNTIME_SETTINGS, content)


def read_runtime_settings(directory: Path) -> dict[str, Any] | None:
    """The settings of the last start that no snapshot holds, or None if the file is missing or cannot be read."""
    content = read_json(directory / RUNTIME_SETTINGS)
    settings = content.get("settings") if isinstance(content, dict) else None
    return settings if isinstance(settings, dict) else None


def write_feature_selection(directory: Path, config: Config, resolved: Config) -> None:
    """Write the features and categories that were selected for `config`; `resolved` has them.

    Raises:
        RecoveryError: the file cannot be written.
    """
    event = resolved.event
    content = {"for": _selection_settings(config), "features": event.numbers, "categories": event.categories}
    write_json(directory / FEATURE_SELECTION, content)


def read_feature_selection(directory: Path, config: Config) -> Config | None:
    """`config` with the features that were selected when its state began, or None if none were.

    Raises:
        RecoveryError: the file is damaged, or was made for another entity, time, target or other categories.
    """
    file = directory / FEATURE_SELECTION
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        made_for, features, categories = content["for"], content["features"], content["categories"]
        if not all(isinstance(path, str) for path in [*features, *categories]):
            raise TypeError("a path is not a string")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecoveryError(
            f"recovery.directory: {file} cannot be read ({error!r}): restore it from a copy, or start with another "
            "recovery.directory"
        ) from error
    now = _selection_settings(config)
    if made_for != now:
        names = [name for name in {**made_for, **now} if made_for.get(name) != now.get(name)]
        changed = [f"{name} {made_for.get(name)!r} → {now.get(name)!r}" for name in names]
        raise RecoveryError(
            f"recovery.directory: the features in {file} were selected under other settings of `event` "
            f"({', '.join(changed)}): undo the change, or start with another recovery.directory"
        )
    return with_columns(config, features, categories)


def with_stored_features(config: Config) -> Config:
    """`config` with the features that were selected for its state, where they are `auto` and a state is there.

    Raises:
        RecoveryError: the selection cannot be read.
    """
    directory = config.recovery.directory
    if config.event.features != "auto" or directory is None:
        return config
    return read_feature_selection(directory, config) or config


def require_stored_features(config: Config) -> Config:
    """`with_stored_features`, for commands that need the features of a state.

    Raises:
        ConfigError: none have been selected yet.
        RecoveryError: the selection cannot be read.
    """
    resolved, directory = with_stored_features(config), config.recovery.directory
    if resolved.event.features == "auto" and directory is not None:
        raise ConfigError(
            f"event.features: auto, and no features have been selected yet in {directory}: there is no state"
        )
    return resolved


def _selection_settings(config: Config) -> dict[str, Any]:
    """The settings that the selection depends on."""
    event = config.event
    derived = {name: each.model_dump(exclude_defaults=True) for name, each in event.derive.items()}
    return {
        "entity": event.entity,
        "timestamp": event.timestamp,
        "target": event.target,
        "categories": event.categories,
        **({"derive": derived} if derived else {}),
    }
