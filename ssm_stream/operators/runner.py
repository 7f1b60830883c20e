"""Bytewax's runner, `python -m bytewax.run`, as the dataflow that it builds sees it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

from ssm_stream.config import Config, ConfigError
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.recovery.checkpoint_files import FOLDER
from ssm_stream.recovery.settings_files import read_runtime_settings

RUNNERS = ("bytewax.run", "bytewax.testing")
MADE_BY_SERVICE = (
    "the state in this recovery directory was made by `ssm-stream run`: continue it with `ssm-stream run`, or start "
    "with another recovery directory (-r)"
)


class BytewaxOptions(NamedTuple):
    """Options of `python -m bytewax.run`. recovery: `-r`; process: `-i`"""

    recovery: Path | None
    process: int | None


def bytewax_options() -> BytewaxOptions | None:
    """Return the options that Bytewax's runner has been started with; None if this process is not its."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is None or spec.name not in RUNNERS:
        return None
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-r", "--recovery-directory", default=os.environ.get("BYTEWAX_RECOVERY_DIRECTORY"))
    parser.add_argument("-i", "--process-id", type=int, default=os.environ.get("BYTEWAX_PROCESS_ID"))
    found, _ = parser.parse_known_args(sys.argv[1:])
    return BytewaxOptions(Path(found.recovery_directory) if found.recovery_directory else None, found.process_id)


def refuse_state_of_service() -> None:
    """Refuse a start with `-r` on a directory of `ssm-stream run`: the snapshots of both would be in it.

    Raises:
        StateError: names the cure.
    """
    options = bytewax_options()
    directory = None if options is None else options.recovery
    if directory is None:
        return
    if read_runtime_settings(directory) is not None or any((directory / FOLDER).glob("*.state")):
        raise StateError(MADE_BY_SERVICE)


def require_recovery(config: Config) -> None:
    """Refuse a start without `-r` where the configuration names a recovery directory.

    Raises:
        ConfigError: Bytewax would keep no state.
    """
    options, directory = bytewax_options(), config.recovery.directory
    if options is not None and options.recovery is None and directory is not None:
        raise ConfigError(
            f"recovery.directory is {directory}, and Bytewax was started without -r, so that it would keep no state: "
            f"add -r {directory} -s 10 -b 10 (seconds of an epoch), or set recovery.directory: null"
        )
