"""JSON Schema of the hourly summaries of entities."""

from __future__ import annotations

from ssm_stream.config import Config
from ssm_stream.contract.event_schema import NAME, nullable
from ssm_stream.contract.message_schemas import NATURAL, SHARE, TIME, closed, described
from ssm_stream.contract.path_schema import Schema
from ssm_stream.engine.rules.messages import alert_kinds

POSITIVE = {"type": "number", "minimum": 0}


def summary_schema(config: Config) -> Schema:
    """Return the schema of a summary: of an entity and an hour, with several targets of one of them."""
    several = config.event.targets if len(config.event.targets) > 1 else []
    target = {"target": {"enum": several, "description": "Path of the target that errors are of."}} if several else {}
    kinds = alert_kinds(config)
    properties: dict[str, Schema] = {
        "entity": described(NAME, "Whose hour it is."),
        "hour": described(TIME, "When the hour begins, by the time of events."),
        **target,
        "events": described(NATURAL, "Events of the entity, late ones among them."),
        "labelled": described(NATURAL, "Targets that were learned."),
        "mean": described(nullable({"type": "number"}), "Mean of these; null: there were none."),
        "mean_predicted": described(nullable({"type": "number"}), "Mean of their predictions."),
        "judged": described(NATURAL, "Those past the warm-up: error and coverage are of them."),
        "error": described(nullable(POSITIVE), "Mean |y − yhat|; null: none was judged."),
        "usual_error": described(nullable(POSITIVE), "Mean of the hours before, with a half-life of a week."),
        "relative_error": described(nullable(POSITIVE), "error / usual_error."),
        "coverage": described(nullable(SHARE), "Share of the targets inside their interval."),
        "score": described(POSITIVE, "The highest anomaly score; above 1 is anomalous."),
        "stopped": described(NATURAL, "Events in planned stops."),
        "episode_seconds": described(
            {"type": "number", "minimum": 0, "maximum": 3600}, "Time of the hour with an open episode."
        ),
        "open": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Kinds of the episodes that were open at its end. Later releases add kinds.",
        },
        "alerts": described(closed(dict.fromkeys(kinds, NATURAL)), "Alerts that started, by kind."),
        "last": described(nullable(TIME), "Time of the last event."),
        "silent_since": described(nullable(TIME), "With alerts.silence: since when the whole entity is silent."),
    }
    words = "What happened to an entity in an hour, keyed by entity and hour: the last one of a key counts."
    return {"title": "Summary", "description": words, **closed(properties)}
