"""Decides whether a flow that has ended is built again in this process, from its last epoch.

A flow that meets an error which passes by itself (a broker that is away for longer than a message may wait, a producer
whose numbers have a gap) cannot go on: its producers have given messages up. Its state of the last epoch is on the
disk, so it is built again from there, as by a start, which takes milliseconds and a request to the broker.
"""

from __future__ import annotations

import time

import structlog

from ssm_stream.flow.runtime import Prepared, release
from ssm_stream.kafka.client import STOP, BrokerError
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.watch.topic import ADDITIONS
from ssm_stream.operators.failures import forget, reported
from ssm_stream.operators.source import SIGNALLED

LOG = structlog.get_logger("ssm_stream")
FIRST_PAUSE, MAX_PAUSE = 0.2, 5.0
"""Seconds before the flow is built again; twice as long each time, until an epoch ends."""


class Restarts:
    """Counts how often a flow was built again. alone: no other process shares the dataflow, whose end would end it"""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        ADDITIONS.followed = True
        self.count = 0
        self._since: float | None = None
        self._epoch = -1
        self._pause = FIRST_PAUSE

    def after(self, error: BaseException, prepared: Prepared) -> bool:
        """Return True if the flow may be built again after the error that has ended it: the error passes by itself,
        and it is not so that no epoch has ended for `source.wait` seconds of such errors. Waits a moment."""
        found, recovery = reported(error), prepared.recovery
        if not isinstance(found, BrokerError) or not found.passes or not self._alone or recovery is None:
            return False
        now, wait = time.monotonic(), prepared.config.source.wait
        if self._since is None or recovery.resume_epoch > self._epoch:
            self._since, self._epoch, self._pause = now, recovery.resume_epoch, FIRST_PAUSE
        elif now - self._since > wait:
            return False
        if SIGNALLED.is_set():
            return False
        self.count += 1
        LOG.warning("flow_restarts", why=found.found, from_epoch=recovery.resume_epoch, times=self.count)
        forget()
        release(prepared)
        STOP.clear()
        SIGNALLED.wait(self._pause)
        self._pause = min(2 * self._pause, MAX_PAUSE)
        return not SIGNALLED.is_set()

    def added(self, prepared: Prepared) -> bool:
        """Return True if the flow has ended because partitions were added, so that it is built again with them. In a
        cluster another process may have noticed them."""
        if SIGNALLED.is_set() or prepared.until_eof or prepared.config.source.partitions is not None:
            return False
        noticed = ADDITIONS.found.is_set()
        ADDITIONS.found.clear()
        if not noticed and not self._alone:
            cluster = check_broker(prepared.config.source)
            read = prepared.partitions
            noticed = any(len(cluster.topics.get(topic, ())) > len(partitions) for topic, partitions in read.items())
        if noticed:
            release(prepared)
            STOP.clear()
        return noticed
