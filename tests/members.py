"""What a member of a group is without a dataflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssm_stream.kafka.membership.commit import Commit


class NoFlow:
    """Holds the partitions of a member, from their first offset on."""

    idle = True

    def assigned(self, commits: Mapping[int, Commit]) -> dict[int, Commit]:
        return {partition: commit._replace(offset=0) for partition, commit in commits.items()}

    def end_flow(self, partitions: Sequence[int], *, lost: bool) -> None: ...

    def dropped(self, partitions: Sequence[int]) -> None: ...
