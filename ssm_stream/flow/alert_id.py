"""An alert's id, taken apart."""

from __future__ import annotations

from typing import NamedTuple

from ssm_stream.engine.alert_kinds import FLEET
from ssm_stream.ingest.verdicts import ALERT_ID


class AlertId(NamedTuple):
    """An alert's id, and the message that caused it. row: the number at its end, of a row or of the alert; or 0"""

    text: str
    topic: str
    partition: int
    offset: int
    row: int = 0

    @property
    def is_fleet(self) -> bool:
        """Whether the alert is about many entities at once."""
        return FLEET in self.text.removeprefix(f"{self.topic}-{self.partition}-{self.offset}-")


def parse_alert_id(text: str) -> AlertId | None:
    """Return the parts of an alert's id; None if the text is none."""
    found = ALERT_ID.fullmatch(text)
    if found is None:
        return None
    last = text.rpartition("-")[2]
    row = int(last) if last.isdigit() else 0
    return AlertId(text, found["topic"], int(found["partition"]), int(found["offset"]), row)
