"""What the operators of `ssm-stream run` share: settings, partitions, observers, and where the state is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ssm_stream.config import Config
from ssm_stream.kafka.context.rows import RowFacts
from ssm_stream.ops.observers import RunObserver
from ssm_stream.recovery.catch_up import PendingCatchUp


class Service(Protocol):
    """A run of the service. `config` and what follows may be read only while the dataflow runs."""

    @property
    def settings(self) -> Config:
        """The configuration as the file has it, where `event.features` may be `auto`."""

    @property
    def files(self) -> bool:
        """Whether the state is in files of `recovery.directory`, and snapshots name them."""

    @property
    def until_eof(self) -> bool:
        """Whether the run ends at the end of the topics."""

    @property
    def config(self) -> Config:
        """The configuration, with its features."""

    @property
    def partitions(self) -> Mapping[str, tuple[int, ...]]:
        """Topic → the partitions to read."""

    @property
    def catch_up(self) -> PendingCatchUp | None:
        """What is read again after a rewind; None if nothing is."""

    @property
    def begun(self) -> frozenset[str]:
        """The topics that the state has read some of: partitions that are added to them begin at their beginning."""

    @property
    def resting(self) -> frozenset[str]:
        """Names of source partitions that the state has read and this run does not."""

    @property
    def interrupted(self) -> bool:
        """Whether a run before may have put out results past the positions that this one begins at."""

    @property
    def facts(self) -> RowFacts | None:
        """The context topics whose facts rows get; None where no row has any."""

    @property
    def observers(self) -> RunObserver:
        """Observers of the run."""
