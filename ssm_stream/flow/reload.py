"""A changed file while the flow runs: taken over where the state can go on, refused with the reason where not.

Taking over is a graceful end and a start in the same process: the epoch ends, the state is written, the state is taken
along as after any restart (`changes.py`), and no event is lost or repeated. So what a reload may do is what a restart
may do, less what names another stream, and there is one way to change a setting, not two.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from ssm_stream.config import Config, ConfigError, load_config
from ssm_stream.config.changes import Change, diff_settings
from ssm_stream.flow.source import STOP
from ssm_stream.recovery.compatibility import check_running_state

LOG = structlog.get_logger("ssm_stream")
LOOK_EVERY = 1.0
"""Seconds between looks at the file."""
SETTLED = 0.2
"""Seconds in which a file that has changed must stay the same before it is read."""
_STREAM = "it names another stream or another state: stop the process, and start it on purpose"
NOT_LIVE = {
    "source.brokers": _STREAM,
    "source.topic": _STREAM,
    "source.partitions": _STREAM,
    "source.start": "it only counts where there is no state",
    "source.group": _STREAM,
    "delivery": "consumers must know of it: stop the process, and start it on purpose",
    "recovery.directory": _STREAM,
}
"""Settings that a restart may change, and a reload may not."""


class RefusedError(ValueError):
    """A changed file that is not taken over; the text says why."""


def live_changes(old: Config, new: Config) -> list[str]:
    """What a reload would do, setting by setting, as `path: old → new (effect: why)`; nothing where nothing differs.

    Raises:
        RefusedError: what cannot be changed while the flow runs, and why.
    """
    differing = diff_settings(_all(old), _all(new))
    if not differing:
        return []
    refused = [f"{path}: {why}" for path, _, _ in differing if (why := _not_live(path))]
    if new.recovery.directory is None:
        refused.append("recovery.directory is null: without a state on disk a reload would forget what was learned")
    if refused:
        raise RefusedError("\n  ".join(["it cannot be changed while the flow runs:", *refused]))
    found = check_running_state(old, new)
    known: dict[str, Change] = {change.path: change for change in found.changes}
    if found.effect == "refused":
        told = [found.why] if found.why is not None else []
        told += [change.text for change in found.changes if change.effect == "refused"]
        raise RefusedError("\n  ".join(["the state cannot go on with it:", *told]))
    return [
        known[path].text if path in known else Change(path, was, now, "kept", "the state knows nothing of it").text
        for path, was, now in differing
    ]


def _not_live(path: str) -> str | None:
    return next((why for start, why in NOT_LIVE.items() if path == start or path.startswith(f"{start}.")), None)


def _all(config: Config) -> dict[str, Any]:
    """All settings; of Kafka properties whether they are the same, never what they are."""
    content = config.model_dump(mode="json")
    for section, kafka in (("source", config.source.kafka), ("sinks", config.sinks.kafka)):
        content[section]["kafka"] = {name: _Hidden(value) for name, value in kafka.items()}
    content["ops"]["token"] = _Hidden(config.ops.token)
    return content


class _Hidden:
    """A value that is compared and not shown."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __str__(self) -> str:
        return "***"


class Reload:
    """Looks at the file while the flow runs; ends the flow when there is something to take over.

    wanted: the configuration to go on with, once the flow has ended; None: it has ended for another reason
    """

    def __init__(self, file: Path, running: Config) -> None:
        self._file, self._running = file, running
        self._seen = self._text()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self.wanted: Config | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _text(self) -> bytes | None:
        """Of the file; None where it cannot be read, as while an editor writes it."""
        try:
            return self._file.read_bytes()
        except OSError:
            return None

    def _run(self) -> None:
        while not self._done.wait(LOOK_EVERY):
            text = self._text()
            if text is None or text == self._seen:
                continue
            # Half a file may be a valid one: whoever writes it may not be done.
            if self._done.wait(SETTLED) or self._text() != text:
                continue
            self._seen = text
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
            self.wanted = config
            STOP.set()
            return
