"""The section `labels`: targets that arrive later than their events."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ssm_stream.config.quantities import MAX_PENDING, Duration
from ssm_stream.config.sections.base import Path, Section, Topic


class Labels(Section):
    """Targets that arrive later than their events. Without this section they come with the events."""

    topic: Topic | None = None
    """Topic of the labels; null: they come on the events topic, where `marker` distinguishes them."""
    marker: Path | None = None
    """Path of a field that marks a message on the events topic as a label; any other message is an event."""
    entity: Path | None = None
    """Path of the entity in a label. Default: as `event.entity`."""
    timestamp: Path | None = None
    """Path, in a label, of the time of the event that it belongs to. Default: as `event.timestamp`."""
    id: Path | None = None
    """Path, in a label, of the id of the event that it belongs to: labels are joined by it, not by their time."""
    event_id: Path | None = None
    """Path of the id in an event. Default: as `id`."""
    target: Path | None = None
    """Path of the target in a label. Default: as `event.target`."""
    wait: Duration = 86400.0
    """An event waits for its label until one of its entity is so much newer; so does a label for its event."""
    pending: Annotated[int, Field(ge=1, le=MAX_PENDING)] = 256
    """Most events back, of its entity, that a label may belong to."""

    @model_validator(mode="after")
    def _usable(self) -> Labels:
        if self.topic is None and self.marker is None:
            raise ValueError(
                "no labels can be found; set the `topic` of the labels, or `marker`, a path only they have"
            )
        if self.topic is not None and self.marker is not None:
            raise ValueError("`marker` is for labels on the events topic; leave it out, or set topic: null")
        if self.id is not None and self.timestamp is not None:
            raise ValueError("found `id` and `timestamp`; labels are joined by one of them: leave the other out")
        if self.event_id is not None and self.id is None:
            raise ValueError("`event_id` goes with `id`, the path of the id in a label")
        return self
