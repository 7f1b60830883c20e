"""Tools about alerts: which there are, why each was raised, and how many."""

from __future__ import annotations

import shlex
from collections import defaultdict
from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.mcp.results import AlertCounts, AlertDetails, Alerts, Count
from ssm_stream.mcp.tools.common import (
    EntityPattern,
    Limit,
    Offset,
    RefusedCallError,
    Since,
    View,
    alert_line,
    alert_lines,
    matcher,
    page_of,
)
from ssm_stream.mcp.tools.explanation import explain_message
from ssm_stream.mcp.view.episodes import Episode

MAX_GROUPS = 100
OVERLAPPING = 20
"""Episodes that overlap with one."""
MAX_ITEMS = 30
"""Items of each list of a message."""
Group = Literal["kind", "severity", "entity", "hour", "day", "channel", "ended_by"]


class AlertFilter(BaseModel):
    """Which alerts; all conditions must hold. Without any: all but suppressed ones."""

    model_config = ConfigDict(extra="forbid")
    open: bool | None = Field(default=None, description="true: those that go on now; false: those that have ended")
    entity: EntityPattern = None
    kind: Literal["anomaly", "drift", "limit", "silence", "stuck"] | None = None
    scope: Literal["entity", "fleet"] | None = Field(default=None, description="fleet: many entities at once")
    severity: Literal["warning", "critical"] | None = None
    since: Since = None
    until: Since = None
    suppressed: Literal["no", "only", "both"] = Field(
        default="no",
        description="Alerts withheld by a planned stop, by a fleet alert that replaces them, or by shadow mode",
    )
    verdict: Literal["true", "false", "none"] | None = Field(
        default=None, description="What an operator called it; none: not judged yet"
    )
    acknowledged: bool | None = Field(default=None, description="Whether somebody attends to it")
    contains: str | None = Field(default=None, max_length=200, description="Part of its sentence, in any case")


class AlertTools:
    """Alerts. config_file: as the operator named it"""

    def __init__(self, view: View, config_file: str) -> None:
        self._view, self._file = view, config_file

    def list_alerts(
        self,
        which: Annotated[AlertFilter | None, Field(description="Which alerts; leave it out for all")] = None,
        sort: Annotated[
            Literal["newest", "oldest", "score"], Field(description="newest: by the last report")
        ] = "newest",
        limit: Limit = 20,
        offset: Offset = 0,
    ) -> Alerts:
        """List alerts. One alert is an episode: from `started` to `recovered`. Filter by entity, kind, severity, time,
        whether it goes on, or operators' verdicts. `since` and `until` choose episodes that overlap with that
        time."""
        fresh = self._view.freshness("alerts", "suppressed", also=("feedback",))
        found = self._find(which or AlertFilter())
        keys = {
            "newest": lambda each: -each.last,
            "oldest": lambda each: each.since,
            "score": lambda each: -each.top,
        }
        found.sort(key=keys[sort])
        shown, page = page_of(found, offset, limit)
        return Alerts(alerts=alert_lines(shown), **page, **fresh._asdict())

    def get_alert(
        self,
        id: Annotated[str, Field(max_length=900, description="Id of any message of the alert")],  # noqa: A002
    ) -> AlertDetails:
        """Explain one alert: why it was raised, in sentences; its message with prediction, interval, contributions of
        the inputs and changed weights; and what else alarmed at that time."""
        fresh = self._view.freshness("alerts", "suppressed", also=("feedback",))
        episode = self._view.episodes.find(id)
        if episode is None:
            raise RefusedCallError(
                f"no alert {id!r} among the last {len(self._view.episodes.all()):,}; list_alerts has the ids"
            )
        overlapping = [
            each
            for each in self._view.episodes.all()
            if each is not episode and each.since <= episode.end and episode.since <= each.end
        ]
        overlapping.sort(key=lambda each: abs(each.since - episode.since))
        return AlertDetails(
            alert=alert_line(episode),
            explanation=explain_message({**episode.message, **_end(episode)}),
            message=_shortened(dict(episode.message)),
            at_the_same_time=alert_lines(overlapping[:OVERLAPPING]),
            reproduce=shlex.join(["ssm-stream", "explain", self._file, episode.id]),
            **fresh._asdict(),
        )

    def count_alerts(
        self,
        by: Annotated[Group, Field(description="hour and day: of the begin, in the plant's time zone")] = "kind",
        which: Annotated[AlertFilter | None, Field(description="Which alerts; leave it out for all")] = None,
        groups: Annotated[int, Field(ge=1, le=MAX_GROUPS, description="Groups of the answer, the largest")] = 20,
    ) -> AlertCounts:
        """Count alerts by kind, severity, entity, hour, day, channel or end, with operators' verdicts: which entities
        alarm most, whether alerts increase, how many were false."""
        fresh = self._view.freshness("alerts", "suppressed", also=("feedback",))
        which = which or AlertFilter()
        found, members = self._find(which), defaultdict[str, list[Episode]](list)
        for episode in found:
            members[self._group(by, episode)].append(episode)
        counts = [
            Count(
                group=name,
                alerts=len(each),
                open=sum(episode.is_open for episode in each),
                critical=sum(episode.message.get("severity") == "critical" for episode in each),
                called_true=sum(episode.verdict is True for episode in each),
                called_false=sum(episode.verdict is False for episode in each),
            )
            for name, each in members.items()
        ]
        counts.sort(key=lambda each: each.group if by in ("hour", "day") else (-each.alerts, each.group))
        shown = counts[-groups:] if by in ("hour", "day") else counts[:groups]
        begin = self._view.since(which.since)
        return AlertCounts(
            since=None if begin is None else ms_to_iso(begin),
            by=by,
            alerts=len(found),
            groups=shown,
            groups_left_out=len(counts) - len(shown),
            **fresh._asdict(),
        )

    def _group(self, by: Group, episode: Episode) -> str:
        if by in ("hour", "day"):
            at = datetime.fromtimestamp(episode.since / 1000, ZoneInfo(self._view.config.event.time_zone))
            return at.strftime("%Y-%m-%d %H:00" if by == "hour" else "%Y-%m-%d")
        if by == "entity":
            return episode.entity
        if by == "ended_by":
            return "open" if episode.is_open else str(episode.state.get("ended_by") or "recovered")
        return str(episode.message.get(by) or "none")

    def _find(self, which: AlertFilter) -> list[Episode]:
        since, until = self._view.since(which.since), self._view.since(which.until, "until")
        matches, part = matcher(which.entity), which.contains.casefold() if which.contains else None
        verdict = None if which.verdict is None else {"true": True, "false": False, "none": None}[which.verdict]
        return [
            each
            for each in self._view.episodes.all()
            if (which.open is None or each.is_open == which.open)
            and (which.entity is None or any(map(matches, each.entities)))
            and which.kind in (None, each.state["kind"])
            and which.scope in (None, each.state.get("scope", "entity"))
            and which.severity in (None, each.message.get("severity"))
            and (since is None or each.end >= since)
            and (until is None or each.since <= until)
            and (which.suppressed == "both" or each.is_suppressed == (which.suppressed == "only"))
            and (which.verdict is None or each.verdict is verdict)
            and (which.acknowledged is None or (each.acknowledged is not None) == which.acknowledged)
            and (part is None or part in str(each.message.get("summary") or "").casefold())
        ]  # fmt: skip


def _shortened(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose lists are not longer than `MAX_ITEMS`."""
    return {name: value[:MAX_ITEMS] if isinstance(value, list) else value for name, value in message.items()}


def _end(episode: Episode) -> dict[str, Any]:
    """Return how an episode ended."""
    return {"ended_by": None if episode.is_open else episode.state.get("ended_by")}
