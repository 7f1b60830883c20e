"""Which of the messages on a topic a flow has written itself: another flow may write to the same one.

Where a result comes from stands in it: an alert names the topic of its event in `source`, and the id of a prediction
begins with it. Hourly summaries do not have it.
"""

from __future__ import annotations

import re
from typing import Any

from ssm_stream.config.config import Config


def origins(config: Config) -> list[str]:
    """Return the topics whose messages cause alerts."""
    return [*config.source.names, *([config.labels.topic] if config.labels and config.labels.topic else [])]


class OwnMessages:
    """Recognises the predictions and alerts of a flow. What does not show where it comes from counts as its own.

    >>> from ssm_stream.config import parse_config
    >>> own = OwnMessages(parse_config("{source: {brokers: b, topic: line}, event: {entity: e, timestamp: t}}"))
    >>> own.has_alert({"source": {"topic": "line"}}), own.has_alert({"source": {"topic": "line-2"}})
    (True, False)
    >>> own.has_prediction({"id": "line-2-17"}), own.has_prediction({"id": "line-2-0-17"})
    (True, False)
    """

    def __init__(self, config: Config) -> None:
        event = config.event
        self._topics = frozenset(origins(config))
        number = r"(?:-\d+)?" if event.makes_rows else ""
        target = f"-(?:{'|'.join(map(re.escape, event.targets))})" if len(event.targets) > 1 else ""
        # All of the id: line-2-0-17 is of the topic line-2, and not of partition 2 of the topic line.
        topics = "|".join(map(re.escape, config.source.names))
        self._matches = re.compile(rf"(?:{topics})-\d+-\d+{number}{target}").fullmatch

    def has_alert(self, content: Any) -> bool:
        """Return whether the content of an alert's message is of the flow."""
        source = content.get("source") if isinstance(content, dict) else None
        return not isinstance(source, dict) or source.get("topic") in self._topics

    def has_prediction(self, content: Any) -> bool:
        """Return whether the content of a prediction's message is of the flow."""
        name = content.get("id") if isinstance(content, dict) else None
        return not isinstance(name, str) or self._matches(name) is not None
