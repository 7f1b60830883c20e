"""The service by another runner than `ssm-stream run`: Bytewax's (`python -m bytewax.run`), or a program of one's own.

`python -m bytewax.run` calls `build` in order to run what it returns, so there the service starts with it: the recovery
directory has to be locked, cleaned and checked before Bytewax opens it. Any other caller gets a dataflow that opens
nothing before it runs; its state is in the snapshots of Bytewax's recovery, which such a program gives by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bytewax.dataflow import Dataflow

from ssm_stream.config import Config, load_config
from ssm_stream.flow.dataflow import build
from ssm_stream.kafka.context.rows import RowFacts
from ssm_stream.operators.failures import EXPECTED
from ssm_stream.operators.runner import bytewax_options, require_recovery
from ssm_stream.ops.observers import RunObserver

if TYPE_CHECKING:
    from ssm_stream.flow.runtime import Prepared


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
    from ssm_stream.kafka.client import STOP
    from ssm_stream.kafka.repartition.thread import repartitioning
    from ssm_stream.ops.logging import set_up_logging
    from ssm_stream.ops.server import probes_of_a_start
    from ssm_stream.ops.supervisor import Supervisor

    set_up_logging(level="info")
    try:
        config = load_config(file)
        require_recovery(config)
        config = config.replace(recovery=config.recovery.model_copy(update={"directory": options.recovery}))
        with probes_of_a_start(config, options.process or 0):
            prepared = runtime.prepare(config, lock=not options.process, cluster=options.process is not None)
        supervisor = Supervisor(config, prepared.metrics, prepared.health, prepared.site, options.process or 0)
        copied = repartitioning(prepared.config, prepared.observers, stop=STOP, first=not options.process)
        copied.__enter__()  # until the process ends
    except EXPECTED as error:
        raise SystemExit(f"error: {error}") from None
    supervisor.__enter__()  # until the process ends
    return prepared.flow


class DeferredService:
    """A service that is prepared when its dataflow runs. Its state is in snapshots, not in files."""

    files = False
    catch_up = None
    begun = resting = frozenset[str]()  # what Bytewax's recovery holds cannot be read while it is open
    interrupted = True  # what Bytewax's recovery holds does not tell

    def __init__(self, settings: Config, *, until_eof: bool = False) -> None:
        self.settings, self.until_eof = settings, until_eof
        self._lock = threading.Lock()
        self._prepared: Prepared | None = None

    def _run(self) -> Prepared:
        from ssm_stream.flow import runtime
        from ssm_stream.kafka.client import STOP
        from ssm_stream.kafka.repartition.thread import repartitioning
        from ssm_stream.ops.supervisor import Supervisor

        with self._lock:
            if self._prepared is None:
                self._prepared = prepared = runtime.prepare(self.settings, until_eof=self.until_eof, embedded=True)
                # Until the process ends.
                observers, until_eof = prepared.observers, self.until_eof
                repartitioning(prepared.config, observers, until_eof=until_eof, stop=STOP).__enter__()
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

    @property
    def facts(self) -> RowFacts | None:
        """The context topics whose facts rows get."""
        return self._run().facts
