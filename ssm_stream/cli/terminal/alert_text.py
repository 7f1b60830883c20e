"""Alerts, numbers and times as text for a terminal."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Message = Mapping[str, Any]
ENDS = {
    "absorbed": "taken as the new normal",
    "ttl": "ended, no events for state.ttl",
    "reset": "ended, it starts anew",
    "disabled": "ended, its detector is switched off",
    "maintenance": "ended by maintenance",
}
"""What ended an episode, other than that the entity recovered."""


def describe_alert(alert: Message, zone: zoneinfo.ZoneInfo | None = None) -> str:
    """An alert as a sentence, the most important words first, as a line may be cut at its end."""
    zone = zone or zoneinfo.ZoneInfo("UTC")
    when = format_minute(alert["ts"], zone)[5:]
    if alert.get("scope") == "fleet":
        return _describe_fleet_alert(alert, when)
    others = len(alert.get("targets", ())) - 1
    more = f" and {others} more" if others > 0 else ""
    about = f"{when} {printable(row_name(alert['entity'], alert.get('target')))}{more}"
    since = alert.get("since")
    lasted = f" for {format_duration(alert['ts'] - since)}" if since is not None and alert["ts"] > since else ""
    if alert["phase"] == "recovered":
        back = ENDS.get(alert.get("ended_by") or "") or (
            "normal again" if alert["kind"] == "anomaly" else "new behaviour learned"
        )
        return f"{about}: {back} ({alert['kind']}{lasted})"
    critical = ", critical" if alert.get("severity") == "critical" else ""
    if alert["kind"] == "drift":
        what = "behaves differently" if alert["phase"] == "started" else f"still settling{lasted}"
        inputs = dict.fromkeys(_describe_input(str(c["feature"])) for c in alert.get("weight_change") or [])
        names = f": {', '.join(list(inputs)[:2])}" if inputs else ""
        return f"{about}: {what}{names}{critical}"
    y, low, high = alert.get("y"), alert.get("yhat_lower"), alert.get("yhat_upper")
    if y is None or low is None or high is None:
        return f"{about}: anomaly, score {alert['score']:.1f}{critical}"
    side = "above" if y > high else "below" if y < low else "near the edge of"
    still = f" (anomaly{lasted})" if alert["phase"] == "ongoing" and lasted else ""
    bounds = f"{short_number(low)} … {short_number(high)}"
    return f"{about}: {short_number(y)} is {side} {bounds}, score {alert['score']:.1f}{critical}{still}"


def _describe_fleet_alert(alert: Message, when: str) -> str:
    """A fleet alert as a sentence, with the first entities."""
    if alert["phase"] == "recovered":
        over = ENDS.get(alert.get("ended_by") or "", "over")
        return f"{when} fleet: {over} ({alert['kind']} for {format_duration(max(alert['ts'] - alert['since'], 0))})"
    what = "behave differently" if alert["kind"] == "drift" else "anomalous"
    names = ", ".join(printable(each["entity"]) for each in alert["entities"][:3])
    more = ", …" if alert["count"] > 3 else ""
    critical = ", critical" if alert.get("severity") == "critical" else ""
    return f"{when} fleet: {count(alert['count'], 'entity', 'entities')} {what}{critical}: {names}{more}"


def _describe_input(name: str) -> str:
    """The meaning of an input that was derived from the event; the event's own fields keep their names."""
    if name.startswith("hour_"):
        return "hour of day"
    if name.startswith("weekday_") or name == "weekend":
        return "weekday"
    words = {"last": "last value", "constant": "level"}.get(name, "earlier values" if name.startswith("lag") else name)
    return printable(words)


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


def format_duration(ms: float) -> str:
    """A duration in its largest unit."""
    seconds = ms / 1000
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"


def printable(name: str) -> str:
    """A name from a topic without control characters, which could draw on the terminal."""
    return name if name.isprintable() else "".join(c if c.isprintable() else "·" for c in name)


def count(n: int, one: str, more: str) -> str:
    """A number with the noun in singular or plural."""
    return f"{n:,} {one if n == 1 else more}"


def row_name(entity: str, target: str | None) -> str:
    """The name of a row: the entity, or entity and target where there are several."""
    return entity if target is None else f"{entity} {target}"
