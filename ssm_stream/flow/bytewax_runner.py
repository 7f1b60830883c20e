"""The service by another runner than `ssm-stream run`: Bytewax's (`python -m bytewax.run`), or a program of one's own.

`python -m bytewax.run` calls `build` in order to run what it returns, so there the service starts with it: the recovery
directory has to be locked, cleaned and checked before Bytewax opens it. Any other caller gets a dataflow that opens
nothing before it runs; its state is in the snapshots of Bytewax's recovery, which such a program gives by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bytewax.dataflow import Dataflow

from ssm_stream.config import Config, ConfigError, load_config
from ssm_stream.flow.dataflow import build
from ssm_stream.operators.failures import EXPECTED
from ssm_stream.ops.observers import RunObserver

if TYPE_CHECKING:
    from ssm_stream.flow.runtime import Prepared

RUNNERS = ("bytewax.run", "bytewax.testing")


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


def build_service(file: str | Path) -> Dataflow:
    """Return the dataflow of the service.

    Raises:
        ConfigError: the configuration cannot be used.
        SystemExit: under Bytewax's runner the service cannot start; the text is one sentence.
    """
    options = bytewax_options()
    if options is None:
        return build(DeferredService(load_config(file)))
    from ssm_stream.flow import runtime  # and with it all that a run needs, which an import of this module does not
    from ssm_stream.ops.logging import set_up_logging
    from ssm_stream.ops.supervisor import Supervisor

    set_up_logging(level="info")
    try:
        config = _with_recovery(load_config(file), options)
        prepared = runtime.prepare(config, lock=not options.process, cluster=options.process is not None)
        supervisor = Supervisor(config, prepared.metrics, prepared.health, prepared.site, options.process or 0)
    except EXPECTED as error:
        raise SystemExit(f"error: {error}") from None
    supervisor.__enter__()  # until the process ends
    return prepared.flow


def _with_recovery(config: Config, options: BytewaxOptions) -> Config:
    """Return the configuration with the directory that the runner has been given.

    Raises:
        ConfigError: it has been given none, and the configuration names one.
    """
    directory = config.recovery.directory
    if options.recovery is None and directory is not None:
        raise ConfigError(
            f"recovery.directory is {directory}, and Bytewax was started without -r, so that it would keep no state: "
            f"add -r {directory} -s 10 -b 10 (seconds of an epoch), or set recovery.directory: null"
        )
    return config.model_copy(update={"recovery": config.recovery.model_copy(update={"directory": options.recovery})})


class DeferredService:
    """A service that is prepared when its dataflow runs. Its state is in snapshots, not in files."""

    files = False

    def __init__(self, settings: Config, *, until_eof: bool = False) -> None:
        self.settings, self.until_eof = settings, until_eof
        self._lock = threading.Lock()
        self._prepared: Prepared | None = None

    def _run(self) -> Prepared:
        from ssm_stream.flow import runtime
        from ssm_stream.ops.supervisor import Supervisor

        with self._lock:
            if self._prepared is None:
                self._prepared = prepared = runtime.prepare(self.settings, until_eof=self.until_eof, embedded=True)
                # Until the process ends.
                Supervisor(prepared.config, prepared.metrics, prepared.health, prepared.site).__enter__()
            return self._prepared

    @property
    def config(self) -> Config:
        """The configuration, with its features."""
        return self._run().config

    @property
    def partitions(self) -> Mapping[str, tuple[int, ...]]:
        """Topic → the partitions to read."""
        return self._run().partitions

    @property
    def observers(self) -> RunObserver:
        """Observers of the run."""
        return self._run().observers
