"""Small JSON files in the recovery directory: the feature selection, holidays, and the settings that no snapshot holds.

The features of `event.features: auto` are selected once, from the first events, and stay the same as long as the state.
The days of `event.holidays` up to the last event stay, too.
"""

from __future__ import annotations

import contextlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ssm_stream.autoconfig.feature_selection import with_columns
from ssm_stream.config import Config, ConfigError
from ssm_stream.config.changes import runtime_settings, taken_out
from ssm_stream.config.sections.holidays import Holidays, by_year, from_years
from ssm_stream.engine.snapshot import times_of
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.holidays import last_day, with_learned_holidays
from ssm_stream.recovery.bytewax_db import RecoveryError, on_disk
from ssm_stream.recovery.checkpoint_files import FOLDER, open_checkpoint, sync
from ssm_stream.recovery.exclusions import with_exclusions

FEATURE_SELECTION = "features.json"
RUNTIME_SETTINGS = "config.json"
HOLIDAYS = "holidays.json"


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a small file atomically: it is there whole or not at all, even if the power fails.

    Raises:
        RecoveryError: it cannot be written.
    """
    draft = file.with_suffix(".draft")
    with on_disk(file):
        with draft.open("w", encoding="utf-8") as out:
            json.dump(content, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
        sync(file.parent)


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
    if directory is None:
        return
    before, settings = read_runtime_settings(directory), runtime_settings(config)
    if before is not None and (out := taken_out(before, settings)):
        settings["source"]["taken_out"] = out
    if before != settings:
        write_json(directory / RUNTIME_SETTINGS, {"release": version("ssm-stream"), "settings": settings})


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


def write_holidays(config: Config) -> None:
    """Write the days of `event.holidays`, by which the state is learned from now on.

    Raises:
        RecoveryError: the file cannot be written.
    """
    directory, holidays = config.recovery.directory, config.event.holidays
    if directory is not None and holidays and read_json(directory / HOLIDAYS) != (content := _days(holidays)):
        write_json(directory / HOLIDAYS, content)


def _days(holidays: Holidays) -> dict[str, Any]:
    return {"days": by_year(holidays.days)}


def read_holidays(directory: Path) -> Holidays | None:
    """The days by which the state was learned, or None without the file.

    Raises:
        RecoveryError: the file is damaged.
    """
    file = directory / HOLIDAYS
    try:
        return Holidays(days=from_years(json.loads(file.read_text(encoding="utf-8"))["days"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecoveryError(
            f"recovery.directory: {file} cannot be read ({error!r}): restore it from a copy, or remove it if "
            "event.holidays is as it was at the last start"
        ) from error


def last_learned_day(config: Config) -> str | None:
    """The local day of the last event in the state files; None without any."""
    times: list[float] = []
    assert config.recovery.directory is not None
    for file in sorted((config.recovery.directory / FOLDER).glob("*.state")):
        # A running process may remove a file; one that is damaged is reported where the state is read.
        with contextlib.suppress(StateError), open_checkpoint(file.parent, file.name) as reader:
            times += times_of(reader.metadata)
    return last_day(config, times)


def with_stored_holidays(config: Config) -> Config:
    """`config` with the days up to the last event as its state was learned by.

    Raises:
        RecoveryError: they cannot be read.
    """
    directory = config.recovery.directory
    if directory is None or not config.event.holidays or (learned := read_holidays(directory)) is None:
        return config
    return with_learned_holidays(config, learned, last_learned_day(config))


def as_learned(config: Config) -> Config:
    """`config` with the holidays by which its state was learned, and what was excluded from it.

    Raises:
        RecoveryError: they cannot be read.
    """
    return with_exclusions(with_stored_holidays(config))


def with_stored_features(config: Config, *, exclusions: bool = True) -> Config:
    """`config` with the features that were selected for its state, where they are `auto` and a state is there, and with
    the holidays that it was learned by.

    Args:
        exclusions: with what was excluded from the state, too

    Raises:
        RecoveryError: the selection, or the holidays, cannot be read.
    """
    directory = config.recovery.directory
    if directory is None:
        return config
    if config.event.features == "auto":
        config = read_feature_selection(directory, config) or config
    return as_learned(config) if exclusions else with_stored_holidays(config)


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
