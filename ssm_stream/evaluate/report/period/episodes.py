"""Alert messages joined to episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ssm_stream.evaluate.report.period.messages import Message

OTHER = ""
"""The team of entities that no pattern matches."""


@dataclass
class Episode:
    """An alert from its start to its end. since, ended: ms; ended: None: it was open at the end of the period

    entities: its entity; of many at once those that its first message lists, the worst first
    rule: kind, with `-fleet` for many entities at once; started: whether its first message was seen; ts: of that
    true: the last verdict on one of its messages; None: none
    """

    id: str
    entity: str
    rule: str
    severity: str
    summary: str
    since: int
    ts: int
    started: bool
    entities: list[str]
    ended: int | None = None
    true: bool | None = None
    suppressed_by: str | None = None

    def hours(self, until: int) -> float:
        """Return how long it lasted, h. until: as far as it is counted"""
        return max(min(self.ended if self.ended is not None else until, until) - self.since, 0) / 3_600_000


def join_episodes(messages: Iterable[Message], verdicts: Mapping[str, bool], until: int) -> list[Episode]:
    """Return the episodes of messages up to a time, ordered by their starts."""
    found = dict[str, Episode]()
    for each in messages:
        if each["ts"] >= until:
            continue
        name = each["episode"] or each["id"]
        if name not in found:
            fleet, started = each["scope"] == "fleet", each["phase"] == "started"
            rule = each["kind"] + ("-fleet" if fleet else "")
            entities = [one["entity"] for one in each.get("entities") or ()] if fleet else [each["entity"]]
            found[name] = Episode(
                name, each["entity"], rule, each["severity"], each["summary"], each["since"], each["ts"], started,
                entities, suppressed_by=each.get("suppressed_by"),
            )  # fmt: skip
        episode = found[name]
        if each["severity"] == "critical":
            episode.severity = "critical"
        if each["phase"] == "recovered":
            episode.ended = each["ts"]
        if each["id"] in verdicts:
            episode.true = verdicts[each["id"]]
    return sorted(found.values(), key=lambda each: (each.ts, each.id))
