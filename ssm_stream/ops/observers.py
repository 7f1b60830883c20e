"""Protocols between the dataflow and its observers: the parts of a run report to metrics, and metrics and the live page
observe the run, without either side importing the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol
from wsgiref.types import StartResponse, WSGIEnvironment

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.kernels.loop import Predictions


class PartitionPosition(NamedTuple):
    """A partition that is read: the next offset to be processed, messages behind it, and whether the flow has been at
    its end, or within a batch of it, since the start."""

    topic: str
    partition: int
    next: int
    lag: int | None
    caught_up: bool


class ReaderReport(Protocol):
    """What reads a topic."""

    def positions(self) -> list[PartitionPosition]:
        """Of its partitions."""

    @property
    def away(self) -> bool:
        """No broker has answered lately."""


class ShardReport(Protocol):
    """What holds entities."""

    def entities(self) -> int:
        """Live ones."""

    def episodes(self, kind: str) -> int:
        """Entities with an open episode of that kind."""

    def fullness(self) -> float | None:
        """Share of `state.max_entities` that the fullest source has; None without a limit."""


class LivePage(Protocol):
    """The live page, as the dataflow and the HTTP server use it.

    The dataflow calls it from the threads that learn and send: no method raises or waits.
    """

    def saw(self, source: int, events: Events, predictions: Predictions) -> None:
        """A batch was predicted and is about to be sent. source: its partition"""

    def alerted(self, values: Iterable[bytes | None]) -> None:
        """Alert messages with these values are about to be sent."""

    def judged(self, alert: str, true: bool) -> None:
        """A verdict on an alert was read from the feedback topic."""

    def wanted(self, names: Sequence[str]) -> list[int]:
        """Places in a batch of events, ascending, before which `look` must be called."""

    def look(self, engine: Engine, event: Events, source: int) -> None:
        """Explain the event that the engine processes next."""


class MountedSite(Protocol):
    """A WSGI application that the HTTP server of metrics and health serves at `/` and below `/ui`."""

    def open(self, port: int) -> None:
        """Prepare for requests; the server listens on this port."""

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Respond to a request."""

    def close(self) -> None:
        """End the open responses."""
