"""Keys of earlier releases: those that have another name or place now, those that are gone, and files with them."""

from __future__ import annotations

from typing import Any

RENAMED = {
    "alerts.fleet.least": "alerts.fleet.min_entities",
    "labels.when": "labels.marker",
    "sinks.schema_registry": "schema_registry",
}
"""Keys that have another name now: the old one is an error that names the new one."""
MOVED = {
    f"model.{key}": f"model.tuning.{key}" for key in ("half_lives", "window", "embedding", "log_space", "heads", "gate")
}
"""Keys that have another place now. They are read at the old one as well, and count where the new one is left out."""
_BYTEWAX = (
    "leave it out: Bytewax's own variable BYTEWAX_DATAFLOW_API_ENABLED switches its server on, and its metrics are on "
    "/metrics then"
)
REMOVED = {
    "event.framed": (
        "leave it out: a schema registry's frame before JSON is skipped by itself; for Avro and Protobuf, write "
        "`event.format` and `schema_registry`"
    ),
    "event.max_bytes": (
        "leave it out: Kafka's own property sets it, source.kafka: {max.partition.fetch.bytes: 1048576}; larger "
        "messages are dead letters"
    ),
    "alerts.ongoing_every": (
        "leave it out: an open alert is reported again every 500 events of its entity; `notify` repeats by time"
    ),
    "alerts.critical": (
        "leave it out: the severity is critical from a score of 3 on; consumers may set bounds of their own on `score`"
    ),
    "alerts.contributions": "leave it out: an alert names the five weightiest features; `explain` shows all",
    "sinks.writers": "leave it out: there are as many producers as state.shards, at most four",
    "ops.bytewax_metrics": _BYTEWAX,
    "ops.engine_metrics": _BYTEWAX,
    "ops.self_check": "leave it out: the core is always compared with its golden results after the start",
    "ops.log_every": "leave it out: the progress is logged once a minute; `run --log-level warning` logs none",
    "ops.traces_share": (
        "leave it out: OpenTelemetry's own variable OTEL_TRACES_SAMPLER_ARG sets the share, which is 0.01 without it"
    ),
}
"""Keys that are gone → the cure."""
WITHOUT_EFFECT: dict[str, tuple[object, ...]] = {
    "event.framed": (False, None),
    "event.max_bytes": (1_048_576,),
    "alerts.ongoing_every": (500,),
    "alerts.critical": (3, 3.0),
    "alerts.contributions": (5,),
    "sinks.schema_registry": (None,),
    "sinks.writers": (4,),
    "ops.bytewax_metrics": (False,),
    "ops.engine_metrics": (False,),
    "ops.self_check": (True,),
    "ops.log_every": ("60s", "1m", 60, 60.0),
    "ops.traces_share": (0.01,),
}
"""Keys of earlier releases → values that changed nothing, as in a file with all defaults: these are read as before."""


def adapt(raw: dict[Any, Any]) -> None:
    """Change the content of a file of an earlier release to what it means now: drop the keys whose values change
    nothing, and move those that have another place."""
    for path, values in WITHOUT_EFFECT.items():
        above, _, key = path.rpartition(".")
        section = raw.get(above)
        if isinstance(section, dict) and key in section:
            found = section[key]
            if any(type(found) is type(value) and found == value for value in values):
                del section[key]
    model = raw.get("model")
    tuning = model.get("tuning") if isinstance(model, dict) else None
    if isinstance(model, dict) and (tuning is None or isinstance(tuning, dict)):
        keys = [path.rpartition(".")[2] for path in MOVED]
        if given := {key: model.pop(key) for key in keys if key in model}:
            model["tuning"] = {**given, **(tuning or {})}
