"""Drafts a configuration from a sample in which late labels may be rows of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssm_stream.autoconfig.draft import Choices, Draft, draft_event
from ssm_stream.autoconfig.label_rows.joined import find_label_rows, late_labels
from ssm_stream.autoconfig.measurements.sample import draft_measurements
from ssm_stream.config import ALL, ConfigError

OTLP = ("resourceMetrics", "scopeMetrics", "resourceLogs", "resourceSpans")
"""What messages of OpenTelemetry's exporters, or a resource of one, have their data points in."""


def draft_sample(documents: Sequence[Any], choices: Choices, name: str, *, as_they_came: bool = False) -> Draft:
    """Return as `draft_event`; with late labels a soft sensor, whose inputs are chosen by the events with their labels;
    of rows of one measurement each the windows that join them.

    Raises:
        ConfigError: as `draft_event`.
    """
    rows = [d for d in documents if type(d) is dict]
    target = choices.targets[0] if len(choices.targets) == 1 else ALL
    if (not choices.targets or [*choices.targets] == [ALL]) and (
        several := draft_measurements(rows, choices, name)
    ) is not None:
        return several
    found = None if target == ALL else find_label_rows(rows, target)
    if found is None:
        return draft_event(documents, choices, name, as_they_came=as_they_came)
    draft = draft_event(found.rows, choices._replace(lags=0), name, as_they_came=as_they_came)
    if draft.event.makes_rows:
        return draft_event(documents, choices, name, as_they_came=as_they_came)
    reason = (
        f"{found.labels:,} rows have `{target}` and none of the inputs, at the time of an earlier row, up to "
        f"{found.behind:,} rows after it: late labels. So it is a soft sensor (lags: 0), which the last label that has "
        "come corrects"
    )
    return draft._replace(
        why=draft.why | {"labels": reason},
        rows=len(rows),
        labels=late_labels(found, target, draft.entities, draft.step),
    )


def refuse_batches(documents: Sequence[Any]) -> None:
    """Raise a ConfigError where documents have many values each, as messages of Prometheus's remote write (or series of
    one) and of OpenTelemetry's exporters (or resources of one) have."""
    for row in (document for document in documents if type(document) is dict):
        if any(type(row.get(name)) is list for name in OTLP):
            raise ConfigError(
                "these are messages of OpenTelemetry's exporters (OTLP), each with many data points, and no events: "
                'send an event a data point, such as {"timeUnixNano": …, "service.name": …, "metric": …, "value": …}, '
                "which are readings (docs/data-shapes.md#readings)"
            )
        match row.get("timeseries"), row.get("labels"), row.get("samples"):
            case ([{"labels": _, "samples": _}, *_], _, _) | (_, list() | dict(), [{"value": _, "timestamp": _}, *_]):
                raise ConfigError(
                    "these are messages of Prometheus's remote write, each with many series, and no events: send an "
                    'event a sample, such as {"name": …, "instance": …, "time": …, "value": …}, or give as a FILE the '
                    "answer of /api/v1/query_range"
                )
