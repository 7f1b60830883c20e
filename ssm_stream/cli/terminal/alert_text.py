"""Alerts, numbers and times as text for a terminal."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ssm_stream.cli.terminal.printable import printable

Message = Mapping[str, Any]


def describe_alert(alert: Message, zone: zoneinfo.ZoneInfo | None = None) -> str:
    """An alert as a line: when it was raised, and its sentence."""
    when = format_minute(alert["ts"], zone or zoneinfo.ZoneInfo("UTC"))[5:]
    critical = "critical: " if alert.get("severity") == "critical" and alert["phase"] != "recovered" else ""
    return f"{when} {critical}{printable(alert['summary'])}"


def short_number(value: float | None) -> str:
    """A measurement in at most 8 characters; `–` for None."""
    if value is None:
        return "–"
    size = abs(value)
    if size != size or size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2g}" if size >= 1e100 else f"{value:.3g}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 10 else f"{value:.3f}"


def format_minute(ms: int, zone: zoneinfo.ZoneInfo) -> str:
    """A time to the minute."""
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M")


def count(n: int, one: str, more: str) -> str:
    """A number with the noun in singular or plural."""
    return f"{n:,} {one if n == 1 else more}"


def row_name(entity: str, target: str | None) -> str:
    """The name of a row: the entity, or entity and target where there are several."""
    return entity if target is None else f"{entity} {target}"
