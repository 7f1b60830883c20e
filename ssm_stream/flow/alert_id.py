"""An alert's id, taken apart."""

from __future__ import annotations

from typing import NamedTuple

from ssm_stream.ingest.verdicts import ALERT_ID


class AlertId(NamedTuple):
    """An alert's id, and the message that caused it."""

    text: str
    topic: str
    partition: int
    offset: int


def parse_alert_id(text: str) -> AlertId | None:
    """Return the parts of an alert's id; None if the text is none."""
    found = ALERT_ID.fullmatch(text)
    return None if found is None else AlertId(text, found["topic"], int(found["partition"]), int(found["offset"]))
