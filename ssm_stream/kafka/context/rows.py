"""Joins the facts of context topics to the rows of readings and windows, where these are made: in the shard.

The thread that reads messages waits until the topics are read as far as the rows of these messages may need, so that
the shard does not; a shard in another process than the reader waits by itself.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.ingest.context.table import JoinedTables
from ssm_stream.kafka.context.topic import ContextTopic, SharedTopics
from ssm_stream.kafka.records import ProducerRecord


class RowFacts:
    """The context topics of a process, as a `JoinFacts`; opened when they are first needed. Thread-safe.

    Args:
        config: with `source.context`, whose rows are made of messages
        flow, shared: as of `ContextTopic`
    """

    def __init__(self, config: Config, *, flow: bool = False, shared: SharedTopics | None = None) -> None:
        self._config, self._flow, self._shared, self._lock = config, flow, shared, threading.Lock()
        self._opened: list[ContextTopic] | None = None

    def topics(self) -> list[ContextTopic]:
        """Return the topics, read up to now at the first call.

        Raises:
            BrokerError: a topic does not exist, or the broker refuses or does not answer.
            ConfigError: as of `ContextTopic`.
        """
        with self._lock:
            if self._opened is None:
                sections = self._config.source.context
                self._opened = [
                    ContextTopic(self._config, section, flow=self._flow, shared=self._shared) for section in sections
                ]
            return self._opened

    def close(self) -> None:
        """End the reading."""
        with self._lock:
            for topic in self._opened or []:
                topic.close()

    def read_to(self, ts: NDArray[np.int64], came: NDArray[np.int64] | None) -> None:
        """Read the topics as far as the rows up to these times may need; wait for it if need be.

        Args:
            ts: ms
            came: as of `JoinFacts`

        Raises:
            BrokerError: a topic cannot be read.
        """
        for topic in self.topics():
            due = topic.table.due_of_rows(ts, came)
            if due is not None:
                topic.wait(due)  # while others may join
                with self._lock:
                    topic.read_to(due)

    def __call__(
        self, entity: list[str], ts: NDArray[np.int64], came: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float64], dict[float, str]]:
        """Return the columns of rows, and their texts; see `JoinFacts`.

        Raises:
            BrokerError: a topic cannot be read.
        """
        self.read_to(ts, came)
        tables = [topic.table for topic in self.topics()]
        with self._lock:
            return JoinedTables(tables)(entity, ts, came)

    def pop_letters(self) -> list[ProducerRecord]:
        """Return the dead letters of facts that are late or cannot be used, since the last call."""
        with self._lock:
            return [letter for topic in self._opened or [] for letter in topic.pop_letters()]


def row_facts(config: Config, *, flow: bool = False, shared: SharedTopics | None = None) -> RowFacts | None:
    """Return what joins the context topics to rows; None where no row has facts. flow, shared: as of `ContextTopic`"""
    return RowFacts(config, flow=flow, shared=shared) if config.event.facts else None
