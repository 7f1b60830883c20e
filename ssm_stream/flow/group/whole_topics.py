"""The topics that each member of a group reads whole: control, context and feedback.

They are few messages, and what they change is the same in every member: a planned stop acts from the offset that its
acknowledgement has, on the control topic itself; a fact holds from its time on. So a partition that moves finds them.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping

import orjson
import structlog

from ssm_stream.config import Config, Source
from ssm_stream.flow.feedback import feedback_topic
from ssm_stream.ingest.verdicts import ALERT_ID, AlertAcknowledgement, FeedbackError, FeedbackReader, VerdictCounts
from ssm_stream.kafka.context.rows import row_facts
from ssm_stream.kafka.context.topic import ContextTopics, context_of
from ssm_stream.kafka.control.topic import ControlTopic
from ssm_stream.kafka.groups.followed_topic import FollowedTopic
from ssm_stream.kafka.records import Message, offset_of
from ssm_stream.ops.observers import RunObserver
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.store.blobs import Blobs

LOG = structlog.get_logger("ssm_stream.feedback")


class WholeTopics:
    """Opens control and context topics when they are needed, for the decoders of a member.

    Attributes `control` and `context` are of the decoders, `facts` is of the shards, where rows are made, and
    `partitions` is the number of those of the events.

    holds: returns whether the member holds a partition of the events
    partitions: of the events
    """

    def __init__(self, config: Config, blobs: Blobs, holds: Callable[[int], bool], partitions: int) -> None:
        self._config, self._blobs, self._holds, self.partitions = config, blobs, holds, partitions
        self.control: ControlTopic | None = None
        self.context: ContextTopics | None = None
        self.facts = row_facts(config, flow=True, shared=self)

    def open(self) -> None:
        """Open the topics, or read to their ends, before a partition is read.

        Raises:
            BrokerError: a topic does not exist, or the broker refuses or does not answer.
        """
        if self._config.control_topic is not None:
            if self.control is None:
                # The member before may have been killed. What it put out past its commit is aborted with exactly once.
                self.control = ControlTopic(self._config, interrupted=self._config.delivery == "at_least_once")
            else:
                self.control.catch_up()
        if self.context is None:
            self.context = context_of(self._config, flow=True, shared=self)
        if self.facts is not None:
            self.facts.topics()

    def close(self) -> None:
        """End the reading."""
        for each in (self.control, self.context, self.facts):
            if each is not None:
                each.close()

    def first_positions(self, topic: str, now: Mapping[int, int]) -> dict[int, int]:
        key = f"context-{zlib.crc32(topic.encode()):08x}.json"
        content = {"topic": topic, "positions": {str(p): offset for p, offset in sorted(now.items())}}
        if self._blobs.create(key, orjson.dumps(content)):
            return dict(now)
        try:
            found = orjson.loads(self._blobs.read(key) or b"")["positions"]
            return {int(p): int(offset) for p, offset in found.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise RecoveryError(f"state.store: {self._blobs.place}/{key} is damaged: restore it from a copy") from error

    def answers_for(self, partition: int) -> bool:
        return self._holds(partition % self.partitions)


class GroupFeedback:
    """Counts the verdicts on alerts of the partitions that a member holds, as they come.

    What is no feedback is logged: no member is the one that would write its dead letter.

    holds: returns whether the member holds a partition
    """

    def __init__(self, config: Config, source: Source, observers: RunObserver, holds: Callable[[int], bool]) -> None:
        self._read, self._observers, self._holds = FeedbackReader(config), observers, holds
        self._topic, self._counts, self._ended = FollowedTopic(source), VerdictCounts(), threading.Event()

    def start(self) -> None:
        """Follow the topic in a thread."""
        self._topic.start(self._add, self._ended, "feedback")

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _add(self, messages: list[Message]) -> None:
        changed: dict[str, None] = {}
        for message in messages:
            try:
                found = self._read(message.value())
            except FeedbackError as error:
                place = f"{self._topic.topic}-{message.partition()}-{offset_of(message)}"
                LOG.warning("feedback_refused", message=place, why=str(error))
                continue
            if isinstance(found, AlertAcknowledgement):
                self._observers.on_acknowledged(found)
            elif self._counts.add(found) and self._topic.loaded.is_set() and self._is_mine(found.alert):
                self._observers.on_verdict(found)
                changed[found.rule] = None
        for rule in changed:
            LOG.info("feedback", **self._counts.of(rule))

    def _is_mine(self, alert: str) -> bool:
        parts = ALERT_ID.fullmatch(alert)
        return parts is not None and self._holds(int(parts["partition"]))


def group_feedback(config: Config, observers: RunObserver, holds: Callable[[int], bool]) -> GroupFeedback | None:
    """Return what follows the feedback topic; None if none is configured."""
    source = feedback_topic(config)
    return None if source is None else GroupFeedback(config, source, observers, holds)
