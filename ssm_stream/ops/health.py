"""Whether a process is of use now: what `/readyz` says."""

from __future__ import annotations

from typing import Any

from ssm_stream.ops.metrics import Metrics


class Health:
    """Checks, each true or false; ready is a process of which all are true.

    source_assigned: every partition that is to be read is; broker_reachable: one has answered lately
    caught_up: each partition has been at its end since the start, or within a batch of it, and what came from there has
        been processed, which takes a while where the kernels are to be compiled first

    partitions: that this process may read; a cluster's processes read them together
    """

    def __init__(self, metrics: Metrics, partitions: int, *, cluster: bool = False) -> None:
        self._metrics, self._partitions, self._cluster = metrics, partitions, cluster

    def checks(self) -> dict[str, bool]:
        """Each by its name."""
        readers = self._metrics.readers
        positions = [place for reader in readers for place in reader.positions()]
        # In a cluster some process may be left without a partition, and is ready all the same.
        assigned = len(positions) >= self._partitions or (self._cluster and bool(readers))
        return {
            "source_assigned": assigned,
            "broker_reachable": bool(readers) and not any(reader.away for reader in readers),
            "caught_up": assigned and self._metrics.working and all(place.caught_up for place in positions),
        }

    @property
    def ready(self) -> bool:
        """All of them are true."""
        return all(self.checks().values())

    def as_json(self) -> dict[str, Any]:
        """What `/readyz` answers."""
        checks = self.checks()
        return {"ready": all(checks.values()), "checks": checks}
