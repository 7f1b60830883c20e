"""Tools about entities: which there are, and what is predicted of them."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import Field

from ssm_stream.ingest.entity_filter import EntityFilter
from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.mcp.results import (
    Entities,
    EntityDetails,
    PredictionList,
    RecentPredictions,
)
from ssm_stream.mcp.tools.common import (
    EntityPattern,
    Limit,
    Offset,
    View,
    alert_lines,
    check_target,
    matcher,
    page_of,
    prediction_of,
)
from ssm_stream.mcp.tools.stops import StopTools
from ssm_stream.mcp.view.predictions import COLUMNS, POINTS, Series

MAX_NAMES = 100
"""Entities of one call."""
PAST = 10
"""Past alerts of an entity."""
State = Literal["any", "alerting", "calm", "warmup", "above_1", "planned_stop", "idle"]
Order = Literal["score", "name", "newest", "oldest", "error"]


class EntityTools:
    """Entities and predictions."""

    def __init__(self, view: View, stops: StopTools) -> None:
        self._view, self._stops = view, stops
        self._limits = [(limit, EntityFilter([limit.entities])) for limit in view.config.alerts.limits]

    def list_entities(
        self,
        pattern: EntityPattern = None,
        contains: Annotated[str | None, Field(max_length=200, description="Part of the name, in any case")] = None,
        state: Annotated[State, Field(description="Only entities in this state; alerting: with an open alert")] = "any",
        sort: Annotated[
            Order,
            Field(
                description="score: the highest anomaly score first; oldest: those without an event for longest first; "
                "error: the largest last absolute error first"
            ),
        ] = "score",
        no_event_for_seconds: Annotated[
            float | None, Field(ge=0, description="Only entities whose last event is older than that")
        ] = None,
        limit: Limit = 20,
        offset: Offset = 0,
    ) -> Entities:
        """List the monitored entities (machines, services, …), each with its last value, prediction, anomaly score and
        open alerts. Use it to find names, the worst entities, or those without events."""
        fresh = self._view.freshness("predictions", also=("alerts",))
        opened, now = self._view.episodes.open_by_entity(), self._view.flow.clock()
        matches, part = matcher(pattern), contains.casefold() if contains else None
        found = [
            (name, series)
            for name, series in self._view.predictions.worst(_error if sort == "error" else None).items()
            if matches(name)
            and (part is None or part in name.casefold())
            and _is_in(state, series, name in opened)
            and (no_event_for_seconds is None or now - series.ts > no_event_for_seconds * 1000)
        ]
        found.sort(key=lambda each: _sort_key(sort, *each))
        shown, page = page_of(found, offset, limit)
        lines = [self._view.entity_line(name, series, opened, now) for name, series in shown]
        return Entities(entities=lines, **page, **fresh._asdict())

    def get_predictions(
        self,
        entities: Annotated[list[str], Field(min_length=1, max_length=MAX_NAMES, description="Their names")],
        target: Annotated[str | None, Field(description="Only this target, of several")] = None,
    ) -> PredictionList:
        """Return the last prediction of each of some entities: measured value, prediction, interval, anomaly score."""
        targets = self._view.config.event.targets
        check_target(target, targets)
        names = (target, None) if len(targets) == 1 else (target,)  # of one target, messages do not name it
        fresh, found, unknown = self._view.freshness("predictions"), list[Series](), list[str]()
        for name in dict.fromkeys(entities):
            series = [each for each in self._view.predictions.of(name) if target is None or each.target in names]
            found += series
            if not series:
                unknown.append(name)
        return PredictionList(predictions=list(map(prediction_of, found)), unknown=unknown, **fresh._asdict())

    def get_entity(
        self,
        entity: Annotated[str, Field(max_length=600, description="Its exact name")],
        recent: Annotated[int, Field(ge=0, le=POINTS, description="Last predictions of each target")] = 12,
    ) -> EntityDetails:
        """Return everything about one entity: last predictions of each target, recent error and coverage, open and past
        alerts, fixed limits, planned stops. For a name that is not known it returns similar ones."""
        fresh = self._view.freshness("predictions", "alerts", also=("suppressed", "feedback", "control"))
        series, view = self._view.predictions.of(entity), self._view
        episodes = [each for each in view.episodes.all() if entity in each.entities]
        if not series and not episodes:
            return EntityDetails(entity=entity, known=False, similar_names=self._similar(entity), **fresh._asdict())
        past = sorted((each for each in episodes if not each.is_open), key=lambda each: -each.last)
        return EntityDetails(
            entity=entity,
            known=True,
            predictions=list(map(prediction_of, series)),
            recent=[_recent(each, recent) for each in series],
            open_alerts=alert_lines(each for each in episodes if each.is_open),
            past_alerts=alert_lines(past[:PAST]),
            limits=[limit.text for limit, own in self._limits if own.matches(entity)],
            planned_stops=self._stops.of(entity),
            **fresh._asdict(),
        )

    def _similar(self, entity: str) -> list[str]:
        names, part = self._view.predictions.names(), entity.casefold()
        within = [name for name in names if part and part in name.casefold()][:10]
        return within or difflib.get_close_matches(entity, names, 10, 0.6)


def _is_in(state: State, series: Series, alerting: bool) -> bool:
    last = series.last
    return {
        "any": True,
        "alerting": alerting,
        "calm": not alerting,
        "warmup": bool(last.get("warmup")),
        "above_1": series.score > 1.0,
        "planned_stop": bool(last.get("maintenance")),
        "idle": bool(last.get("idle")),
    }[state]


def _sort_key(order: Order, name: str, series: Series) -> tuple[float, str]:
    if order == "error":
        return -_error(series), name
    return {"score": -series.score, "name": 0.0, "newest": -series.ts, "oldest": float(series.ts)}[order], name


def _error(series: Series) -> float:
    """Return the last absolute error; 0 if one of the two is unknown."""
    y, yhat = series.last.get("y"), series.last.get("yhat")
    return 0.0 if y is None or yhat is None else abs(y - yhat)


def _recent(series: Series, most: int) -> RecentPredictions:
    points = series.points()
    judged = [(y, yhat, low, high) for _, y, yhat, low, high, _ in points if y is not None and yhat is not None]
    inside = [low <= y <= high for y, _, low, high in judged if low is not None and high is not None]
    shown = points[len(points) - most :] if most else []
    columns = {name: [each[i] for each in shown] for i, name in enumerate(COLUMNS)}
    return RecentPredictions(
        target=series.target,
        columns={**columns, "time": [ms_to_iso(int(each or 0)) for each in columns["time"]]},
        mean_absolute_error=sum(abs(y - yhat) for y, yhat, *_ in judged) / len(judged) if judged else None,
        share_inside_interval=sum(inside) / len(inside) if inside else None,
    )
