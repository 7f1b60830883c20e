"""Reloads a changed configuration file while the flow runs, or refuses it with the reason.

A reload is a graceful stop and a start in the same process: the epoch ends, the state is written and restored, and no
event is lost or repeated. So it may change what a restart may change (`recovery.compatibility`), except for settings
that name another stream.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from ssm_stream.config import Config, ConfigError, load_config
from ssm_stream.config.changes import NOT_LIVE, Change, diff_settings
from ssm_stream.kafka.client import STOP
from ssm_stream.recovery.compatibility import check_running_state

LOG = structlog.get_logger("ssm_stream")
POLL_EVERY = 1.0
"""Seconds between checks of the file."""
SETTLED = 0.2
"""Seconds in which a file that has changed must stay the same before it is read."""


class RefusedError(ValueError):
    """A changed file that is not loaded; the text has the reason."""


def live_changes(old: Config, new: Config) -> list[str]:
    """Return the changes a reload would make, each as `path: old → new (effect: why)`; empty if nothing differs.

    Raises:
        RefusedError: some settings cannot change while the flow runs.
    """
    differing = diff_settings(_all(old), _all(new))
    if not differing:
        return []
    refused = {path: f"{path}: {why}" for path, _, _ in differing if (why := _not_live(path))}
    if refused and new.recovery.directory is not None and new.recovery.directory == old.recovery.directory:
        # What a start would refuse, too, must not name a start as the cure.
        changes = check_running_state(old, new).changes
        refused |= {each.path: each.text for each in changes if each.effect == "refused" and each.path in refused}
    if new.recovery.directory is None:
        refused["recovery.directory"] = (
            "recovery.directory is null: without a state on disk a reload would lose what was learned"
        )
    if refused:
        raise RefusedError("\n  ".join(["these settings cannot change while the flow runs:", *refused.values()]))
    found = check_running_state(old, new)
    known: dict[str, list[Change]] = {}
    for change in found.changes:
        known.setdefault(change.path, []).append(change)
    if found.effect == "refused":
        reasons = [found.why] if found.why is not None else []
        reasons += [change.text for change in found.changes if change.effect == "refused"]
        raise RefusedError("\n  ".join(["the state cannot continue with it:", *reasons]))
    return [
        change.text
        for path, was, now in differing
        for change in known.get(path, [Change(path, was, now, "kept", "the state does not depend on it")])
    ]


def _not_live(path: str) -> str | None:
    return next((why for start, why in NOT_LIVE.items() if path == start or path.startswith(f"{start}.")), None)


def _all(config: Config) -> dict[str, Any]:
    """Return all settings; Kafka properties and the token compare by value but print as `***`."""
    content = config.model_dump(mode="json")
    for section, kafka in (("source", config.source.kafka), ("sinks", config.sinks.kafka)):
        content[section]["kafka"] = {name: _Hidden(value) for name, value in kafka.items()}
    content["ops"]["token"] = _Hidden(config.ops.token)
    return content


class _Hidden:
    """A value that is compared and never printed."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __str__(self) -> str:
        return "***"


class Reload:
    """Watches the file while the flow runs, and stops the flow when there is a new configuration to load."""

    def __init__(self, file: Path, running: Config) -> None:
        self._file, self._running = file, running
        self._seen = self._saved()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self.new_config: Config | None = None
        """The configuration to continue with once the flow has ended; None: it has ended for another reason."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _saved(self) -> tuple[bytes, int] | None:
        """Return the file's content and when it was saved, ns; None if it cannot be read, as while an editor writes it.

        A file that was refused for what lies outside it, such as a topic that is missing, is saved again as it was.
        """
        try:
            return self._file.read_bytes(), self._file.stat().st_mtime_ns
        except OSError:
            return None

    def _run(self) -> None:
        while not self._done.wait(POLL_EVERY):
            saved = self._saved()
            if saved is None or saved == self._seen:
                continue
            # Half a file may be valid: wait until its writer is done.
            if self._done.wait(SETTLED) or self._saved() != saved:
                continue
            self._seen = saved
            try:
                config = load_config(self._file)
                changes = live_changes(self._running, config)
            except (ConfigError, RefusedError) as error:
                LOG.error("config_refused", error=str(error), running=self._running.hash)
                continue
            if not changes:
                LOG.info("config_unchanged", file=str(self._file))
                continue
            LOG.info("config_reloading", changes=changes)
            self.new_config = config
            STOP.set()
            return
