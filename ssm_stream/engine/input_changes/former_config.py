"""The present configuration with the inputs and targets that a state was made with."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ssm_stream.config import Config
from ssm_stream.config.input_changes import input_settings
from ssm_stream.config.sections import Alerts, Event
from ssm_stream.engine.snapshot import require_compatible_state
from ssm_stream.engine.snapshot_format import StateError


def former_config(config: Config, metadata: dict[str, Any]) -> Config | None:
    """Return the configuration with the inputs and targets of a state; None if they are its own.

    metadata: of a full snapshot

    Raises:
        StateError: the configuration cannot continue with the state, or this release cannot read the settings.
    """
    require_compatible_state(metadata, config)
    if metadata["config"] == config.hash:
        return None
    was = input_settings(metadata["settings"]["event"])
    if was == input_settings(config.model_settings["event"]):
        return None
    try:
        # As a file would have them, so that they are checked.
        content, aggregate = was._asdict(), config.event.aggregate
        columns = content.pop("columns")
        if aggregate is not None:
            # Those that are new, too, which rules may name; the state has them in no window.
            content["aggregate"] = {
                "every": aggregate.every,
                "columns": {**aggregate.model_dump()["columns"], **columns},
            }
        read = Event.model_validate({"entity": "e", "timestamp": "t", **content})
        update = {name: getattr(read, name) for name in content}
        if aggregate is not None and read.aggregate is not None:
            update["aggregate"] = aggregate.model_copy(update={"columns": read.aggregate.columns})
        event = config.event.model_copy(update=update)
        if event.aggregate is not None:
            event = event.with_facts(sorted(event.signals - {*event.aggregate.columns}))
        # Facts of other topics, of which a state has none, may be for inputs that are new.
        source = config.source.model_copy(update={"context": []})
        return config.replace(event=event, source=source, alerts=_alerts(config, event))
    except ValidationError as error:
        raise StateError(f"this release cannot read the inputs of the state: {error}") from error


def _alerts(config: Config, event: Event) -> Alerts:
    """Return the rules without the columns that only the present inputs have. event: of the state"""
    stuck = config.alerts.stuck
    if not isinstance(stuck, list):
        return config.alerts
    return config.alerts.model_copy(
        update={"stuck": [path for path in stuck if path in (*event.numbers, *event.targets)] or False}
    )
