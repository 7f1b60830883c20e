"""Copies `source.repartition` while the dataflow runs."""

from __future__ import annotations

import contextlib
import threading

import structlog

from ssm_stream.config import Config
from ssm_stream.kafka.repartition.copier import Repartition
from ssm_stream.ops.observers import UNOBSERVED, RunObserver

LOG = structlog.get_logger("ssm_stream.repartition")


class RepartitionThread:
    """Copies in a thread of its own while the block runs; an error there ends the dataflow, and is raised at its end.

    Args:
        config: with `source.repartition`
        until_eof: copy all that the topic holds before the block instead, and nothing during it
        stop: is set when copying has failed
        observers: get the positions of the topic
    """

    def __init__(
        self, config: Config, *, until_eof: bool, stop: threading.Event, observers: RunObserver = UNOBSERVED
    ) -> None:
        self._config, self._until_eof, self._stop = config, until_eof, stop
        self._done, self._failed = threading.Event(), list[Exception]()
        self._repartition = Repartition(config)
        if not until_eof:
            observers.register_reader(self._repartition)
        self._thread = threading.Thread(target=self._run, name="repartition", daemon=True)

    def __enter__(self) -> RepartitionThread:
        LOG.info("repartitioning", topic=self._config.source.repartition, into=self._config.source.topic)
        if self._until_eof:
            try:
                self._repartition.run(self._stop.is_set, to_end=True)
            finally:
                self._repartition.close()
        else:
            self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self._repartition.run(self._done.is_set)
        except Exception as error:  # noqa: BLE001  # raised at the end
            LOG.error("repartition_failed", error=str(error))
            self._failed.append(error)
            self._stop.set()
        finally:
            self._repartition.close()

    def __exit__(self, *error: object) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(2 * self._config.source.wait)
        if self._failed and error[0] is None:
            raise self._failed[0]


def repartitioning(
    config: Config, observers: RunObserver, *, until_eof: bool = False, stop: threading.Event, first: bool = True
) -> contextlib.AbstractContextManager[object]:
    """Return a block during which `source.repartition` is copied, if there is one: see `RepartitionThread`.

    first: of several processes

    Raises:
        BrokerError: as of `Repartition`.
    """
    if config.source.repartition is None or not first:
        return contextlib.nullcontext()
    return RepartitionThread(config, until_eof=until_eof, stop=stop, observers=observers)
