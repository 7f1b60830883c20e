"""The health of a member of a group: it follows the assignment."""

from __future__ import annotations

from ssm_stream.operators.group.member import Member
from ssm_stream.ops.health import Health
from ssm_stream.ops.metrics import Metrics


class GroupHealth(Health):
    """A member is ready once it has joined, also without partitions, and while none are being moved.

    member: that runs now; None while the process is in no group
    """

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(metrics, 0, cluster=True)
        self.member: Member | None = None

    def checks(self) -> dict[str, bool]:
        member, checks = self.member, super().checks()
        checks["source_assigned"] = member is not None and member.consumer.joined and not member.rebalancing
        checks["caught_up"] = checks["caught_up"] and checks["source_assigned"]
        return checks
