"""Whether the rules on what stops suit the data: what they would raise on the sample.

Where machines end, as batches and test runs do, each end would be an alert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ssm_stream.config import Config, Event, Source
from ssm_stream.config.sections.alerts import SILENCE, STUCK, Alerts, Silence
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import EventReader

MAX_ENDED = 0.1
"""Share of the entities that end up to which an end is worth an alert."""
MAX_ALERTS = 4.0
"""Times what the default budget allows for the sample, up to which a switch is worth its alerts; or one an entity."""


class Stops(NamedTuple):
    """What a switch would do on the sample: why it is left out; None: it is not."""

    silence: str | None = None
    stuck: str | None = None


def find_stops(event: Event, rows: Sequence[Any]) -> Stops:
    """Return whether silence and stuck signals are worth watching.

    Args:
        event: the section, without an operating condition
        rows: the sample, as `EventReader` reads it
    """
    events, _ = EventReader(event).read(rows)
    alerts = Alerts(silence=Silence(), stuck=True)
    rules = SilenceAlerts(Config(source=Source(brokers="-", topic="-"), event=event, alerts=alerts))
    messages = [alert.message for alert in rules.process(events, 0, [])]
    phase_by_entity = {
        each["entity"]: each["phase"] for each in messages if each["kind"] == SILENCE and each["column"] is None
    }
    ended, entities = [*phase_by_entity.values()].count("started"), len(set(events.entity))
    counts = Counter(each["kind"] for each in messages if each["phase"] == "started")
    allowed = max(MAX_ALERTS * len(events) / alerts.anomaly.budget.events, entities)
    silence, stuck = (
        f"it would raise {counts[kind]} alerts in the sample" if counts[kind] > allowed else None
        for kind in (SILENCE, STUCK)
    )
    return Stops(
        f"{ended} of {entities} machines end within the sample" if ended > MAX_ENDED * entities else silence, stuck
    )
