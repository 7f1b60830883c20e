"""Health checks of a process, served at `/readyz`."""

from __future__ import annotations

from typing import Any

from ssm_stream.ops.metrics import Metrics


class Health:
    """Named checks; a process is ready if all are true.

    source_assigned: every partition is being read; broker_reachable: a broker has answered recently
    caught_up: each partition has been at its end since the start, or within a batch of it, and its messages have been
        processed

    partitions: number that this process may read; the processes of a cluster share them
    """

    def __init__(self, metrics: Metrics, partitions: int, *, cluster: bool = False) -> None:
        self._metrics, self._partitions, self._cluster = metrics, partitions, cluster

    def checks(self) -> dict[str, bool]:
        """Return the checks by name."""
        readers = self._metrics.readers
        positions = [place for reader in readers for place in reader.positions()]
        # In a cluster a process may have no partition, and is ready all the same.
        assigned = len(positions) >= self._partitions or (self._cluster and bool(readers))
        return {
            "source_assigned": assigned,
            "broker_reachable": bool(readers) and not any(reader.away for reader in readers),
            "caught_up": assigned and self._metrics.working and all(place.caught_up for place in positions),
        }

    @property
    def ready(self) -> bool:
        """Whether all checks are true."""
        return all(self.checks().values())

    def as_json(self) -> dict[str, Any]:
        """Return the body of `/readyz`."""
        checks = self.checks()
        return {"ready": all(checks.values()), "checks": checks}
