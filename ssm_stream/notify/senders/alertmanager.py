"""Alerts as Prometheus' Alertmanager has them: its API v2."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from ssm_stream.notify.alerts import Episode
from ssm_stream.notify.rendering import Links

FORGET_AFTER = 300.0
"""Seconds after which Alertmanager takes an alert for resolved that is not repeated: ten of the intervals below."""
REPEAT_EVERY = 30.0
"""Seconds between repetitions."""
KEEP_RESOLVED = 900.0
"""Seconds for which the end of an alert is repeated, as Prometheus does: an Alertmanager that has been restarted needs
it."""
FIRES_FOR = 120.0
"""Seconds for which an alert fires that had ended before Alertmanager had anything of it: of one that ends within the
`group_wait` of its route it sends nothing."""
MAX_TEXT = 500
Labels = tuple[tuple[str, str], ...]


@dataclass
class Firing:
    """An alert at Alertmanager. starts, ends: s since 1970; ends: None while it is open, or later than now

    known: Alertmanager has taken that it fires
    """

    labels: Labels
    annotations: dict[str, str]
    link: str | None
    starts: float
    ends: float | None = None
    known: bool = False

    def fires(self, now: float) -> bool:
        """Return whether it fires."""
        return self.ends is None or self.ends > now

    def prolong(self, now: float) -> None:
        """Let it fire for a while, if it has ended before Alertmanager had it; its real end is an annotation."""
        if self.ends is not None and not self.known and self.ends <= now and "ended" not in self.annotations:
            self.annotations["ended"] = _time(self.ends)
            self.ends = now + FIRES_FOR

    def as_json(self, now: float, forget_after: float = FORGET_AFTER) -> dict[str, Any]:
        """Return it as the API has it."""
        ends = now + forget_after if self.ends is None or self.ends > now else self.ends
        starts = min(self.starts, ends - 0.001)
        found: dict[str, Any] = {
            "labels": dict(self.labels),
            "annotations": self.annotations,
            "startsAt": _time(starts),
            "endsAt": _time(ends),
        }
        return found if self.link is None else {**found, "generatorURL": self.link}


def labels_of(episode: Episode, team: str | None, source: str) -> Labels:
    """Return the labels of an episode, by which Alertmanager separates, routes and silences alerts.

    source: topic of the events, where the message does not name it
    """
    last = episode.last
    found = {
        "alertname": f"SsmStream{episode.kind.capitalize()}",
        "entity": episode.entity,
        "kind": episode.kind,
        "severity": episode.severity,
        "scope": str(last.get("scope") or "entity"),
        "source": (last.get("source") or {}).get("topic") or source,
        "team": team,
        "pool": last.get("pool"),
        "target": episode.target,
        "column": last.get("column"),
        "limit": last.get("limit"),
    }
    return tuple(sorted((name, str(value)) for name, value in found.items() if value))


def firing(episode: Episode, team: str | None, source: str, links: Links) -> Firing:
    """Return the alert of an open episode."""
    last = episode.last
    annotations = {"summary": str(last["summary"])[:MAX_TEXT], "episode": episode.id}
    if (mute := links.mute(episode)) is not None:
        annotations["mute"] = mute
    if episode.acknowledged is not None:
        annotations["acknowledged_by"] = episode.acknowledged.by
    if last.get("scope") == "fleet":
        annotations["entities"] = ", ".join(episode.entities)
    since = last.get("since")
    starts = episode.began if since is None else min(float(since) / 1000, episode.began)
    return Firing(labels_of(episode, team, source), annotations, links.of(episode), max(starts, 0.0))


def heartbeat(source: str, watched: int, now: float) -> Firing:
    """Return an alert that always fires: where it ends, nobody watches."""
    summary = f"ssm-stream watches; open alerts: {watched}. Where this alert ends, nobody does."
    labels = (("alertname", "SsmStreamHeartbeat"), ("kind", "heartbeat"), ("severity", "none"), ("source", source))
    return Firing(labels, {"summary": summary}, None, now)


def test(source: str, now: float) -> Firing:
    """Return an alert that only shows that alerts arrive."""
    labels = (("alertname", "SsmStreamTest"), ("kind", "test"), ("severity", "none"), ("source", source))
    return Firing(labels, {"summary": "A test of ssm-stream notify; it ends by itself."}, None, now)


def encode(alerts: Iterable[dict[str, Any]]) -> bytes:
    """Return the body of a request."""
    return orjson.dumps(list(alerts))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
