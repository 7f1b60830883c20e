"""What the tools share: the view they answer from, parameters, and short forms of predictions and alerts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import Field

from ssm_stream.config import DURATION, UNITS
from ssm_stream.ingest.entity_filter import pattern_filter
from ssm_stream.ingest.timestamps import MAX_MS, MIN_MS, iso_to_ms, ms_to_iso
from ssm_stream.mcp.results import AlertLine, EntityLine, Prediction
from ssm_stream.mcp.view.episodes import Episode
from ssm_stream.mcp.view.predictions import Series
from ssm_stream.mcp.view.topics import FlowView

MAX_PAGE = 200
LOADING_WAIT = 8.0
"""Seconds that the first answers wait for the topics to be read."""
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="Items of a page")]
Offset = Annotated[int, Field(ge=0, le=1_000_000, description="Matches to skip: `next_offset` of the page before")]
EntityPattern = Annotated[
    str | None,
    Field(max_length=600, description="Its name, or a pattern such as `pump-*`; upper and lower case differ"),
]
Since = Annotated[
    str | None,
    Field(max_length=60, description="How long ago, such as `30m`, `24h` or `7d`, or a time in ISO 8601"),
]


class RefusedCallError(Exception):
    """A call cannot be answered; the text has the reason and the cure, for the assistant to read."""


class Freshness(NamedTuple):
    """`as_of` and `notes` of an answer."""

    as_of: str | None
    notes: list[str]


class View:
    """The view of the flow, as the tools use it."""

    def __init__(self, flow: FlowView) -> None:
        self.flow, self.config = flow, flow.config
        self.predictions, self.episodes = flow.predictions, flow.episodes

    def freshness(self, *needed: str, also: Sequence[str] = ()) -> Freshness:
        """Return how complete the view is of the topics of an answer; waits while they are first read.

        Args:
            needed: those that it is about
            also: those that it has something of: without them it has a note

        Raises:
            RefusedCallError: the configuration has none of the needed topics, or none of them can be read.
        """
        main = [self.flow.topics[name] for name in needed if name in self.flow.topics]
        if needed and not main:
            raise RefusedCallError(f"the configuration has no topic of {needed[0]} (sinks.{needed[0]}: null)")
        topics = [*main, *(self.flow.topics[name] for name in also if name in self.flow.topics)]
        deadline = time.monotonic() + LOADING_WAIT
        while not all(each.loaded.is_set() or each.error for each in topics) and time.monotonic() < deadline:
            time.sleep(0.02)
        if main and all(each.error for each in main):
            raise RefusedCallError(main[0].error)
        failed = [each.error for each in topics if each.error]
        notes = [f"cannot be read, and is missing here: {error}" for error in failed]
        notes += [
            f"topic {each.topic} is still being read: this answer is not complete yet"
            for each in topics
            if not each.loaded.is_set() and not each.error
        ]
        notes += [
            f"{each.skipped:,} messages of topic {each.topic} were left out: more came than could be read"
            for each in topics
            if each.skipped
        ]
        if self.predictions.evicted:
            notes.append(f"entities idle for longest have made room: {self.predictions.evicted:,} targets are left out")
        latest = self.predictions.latest
        return Freshness(ms_to_iso(latest) if latest else None, notes)

    def since(self, text: str | None, name: str = "since") -> int | None:
        """Return the time that a parameter names, ms; None without one.

        Raises:
            RefusedCallError: it is no time.
        """
        if text is None:
            return None
        if found := DURATION.match(text):
            return round(max(self.flow.clock() - float(found[1]) * UNITS[found[2]] * 1000, MIN_MS))
        try:
            ms = iso_to_ms(text, ZoneInfo(self.config.event.time_zone))
        except (ValueError, OverflowError):
            ms = MAX_MS + 1
        if not MIN_MS <= ms <= MAX_MS:
            raise RefusedCallError(f"{name}: found {text!r}; write how long ago, such as 24h, or 2026-01-31T12:00")
        return ms

    def entity_line(self, name: str, series: Series, opened: Mapping[str, Sequence[Episode]], now: int) -> EntityLine:
        """Return an entity in short."""
        last = series.last
        return EntityLine(
            entity=name,
            time=ms_to_iso(series.ts),
            target=series.target,
            y=last.get("y"),
            yhat=last["yhat"],
            anomaly_score=last.get("anomaly_score"),
            warmup=bool(last.get("warmup")),
            seconds_since_last_event=round((now - series.ts) / 1000, 3),
            open_alerts=sorted({each.state["kind"] for each in opened.get(name, ())}),
        )


def check_target(target: str | None, targets: Sequence[str]) -> None:
    """Check a target that a call names, against those of the configuration.

    Raises:
        RefusedCallError: the configuration has no such target.
    """
    if target is not None and target not in targets:
        raise RefusedCallError(f"target: found {target!r}; the configuration has {', '.join(targets)}")


def page_of(found: Sequence[Any], offset: int, limit: int) -> tuple[Sequence[Any], dict[str, Any]]:
    """Return the items of a page, and `total`, `offset` and `next_offset` of the answer."""
    after = offset + limit
    following = after if after < len(found) else None
    return found[offset:after], {"total": len(found), "offset": offset, "next_offset": following}


def matcher(pattern: str | None) -> Callable[[str], bool]:
    """Return a function that returns whether a name matches a pattern; any does without one."""
    return (lambda name: True) if pattern is None else pattern_filter(pattern).matches


def prediction_of(series: Series) -> Prediction:
    """Return the last prediction of a series."""
    last = series.last
    return Prediction(
        entity=series.entity,
        target=series.target,
        time=ms_to_iso(series.ts),
        y=last.get("y"),
        yhat=last["yhat"],
        yhat_lower=last.get("yhat_lower"),
        yhat_upper=last.get("yhat_upper"),
        anomaly_score=last.get("anomaly_score"),
        warmup=bool(last.get("warmup")),
        labelled_events=last.get("n"),
        fleet_share=last.get("fleet"),
        in_planned_stop=bool(last.get("maintenance")),
        idle=bool(last.get("idle")),
        id=last.get("id"),
    )


def alert_line(episode: Episode) -> AlertLine:
    """Return an episode in short."""
    state, message = episode.state, episode.message
    return AlertLine(
        id=episode.id,
        entity=episode.entity,
        kind=state["kind"],
        severity=message.get("severity"),
        open=episode.is_open,
        since=ms_to_iso(episode.since),
        last_report=ms_to_iso(episode.last),
        ended_by=state.get("ended_by"),
        score=episode.top or None,
        summary=message.get("summary"),
        entities=message.get("count"),
        suppressed_by=state.get("suppressed_by"),
        verdict=episode.verdict,
        acknowledged_by=None if episode.acknowledged is None else episode.acknowledged.get("by"),
    )


def alert_lines(episodes: Iterable[Episode]) -> list[AlertLine]:
    """Return episodes in short."""
    return list(map(alert_line, episodes))
