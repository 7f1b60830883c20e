"""What the page shows, as plain JSON for other programs, such as Grafana: GET only, and bounded.

/ui/api/entities?q=&state=&sort=&limit=      entities, those that need attention first
/ui/api/entity?name=&target=                 one entity: its last predictions, limits, why it is predicted so
/ui/api/alerts?entity=&from=&to=&limit=      episodes of alerts, as annotations; from, to: ms since 1970
/ui/api/history?name=                        the hours of the last week of an entity, from its summaries
/ui/api/report?days=                         the last day, or up to seven, of all entities, from their summaries
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from ssm_stream.engine.alert_kinds import MAINTENANCE
from ssm_stream.ingest.timestamps import MAX_MS
from ssm_stream.ui.alert_episodes import MAX_EPISODES, describe, is_open
from ssm_stream.ui.followed_entities import MAX_POINTS
from ssm_stream.ui.history.hours import HourlyHistory
from ssm_stream.ui.history.report import days_of, entity_history, fleet_report
from ssm_stream.ui.live_page import LivePage
from ssm_stream.ui.views import PAGE_SIZES, SORTS, STATES, EntityView, FleetView, parse_int

LIMIT = 120
"""Entities, unless a request names another number."""
KEEP_REPORT = 50.0
"""Seconds for which a report is kept: of a large fleet it takes a while."""
POINT = ("y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score")
"""Values of a point, in the order of the cache."""
Content = dict[str, Any]


class QueryError(ValueError):
    """A parameter has a value that there is not; the text names it and those that there are."""


class JsonApi:
    """The answers. paths: of the requests, and what returns the content of each, from the query"""

    def __init__(self, page: LivePage) -> None:
        self._page = page
        self._reports: dict[int, tuple[float, str, Content]] = {}
        self.paths: dict[str, Callable[[Mapping[str, str]], Content]] = {
            "/ui/api/entities": self._entities,
            "/ui/api/entity": self._entity,
            "/ui/api/alerts": self._alerts,
            "/ui/api/history": self._history,
            "/ui/api/report": self._report,
        }

    def __call__(self, path: str, query: Mapping[str, str]) -> Content:
        """Return the content of an answer.

        Raises:
            QueryError: the query names a state, an order or a target that there is not.
        """
        self._page.history_requested.set()
        self._page.refresh()
        return self.paths[path](query)

    def _entities(self, query: Mapping[str, str]) -> Content:
        for name, known in (("state", tuple(STATES)), ("sort", SORTS)):
            if (given := query.get(name)) and given not in known:
                raise QueryError(f"{name}: found {given[:60]!r}; write one of {', '.join(known)}")
        limit = parse_int(query.get("limit"), LIMIT, 1, PAGE_SIZES[1])
        shown = FleetView(self._page.cache, self._page.names, {**query, "size": str(limit)}, least=1).next()
        page = shown.get("page", {"names": [], "matching": 0, "total": 0, "page": 0, "pages": 1})
        opened, last = self._page.alert_episodes.open_kinds(), self._last(page["names"])
        found = [
            {"entity": name, **each, "open_alerts": ", ".join(sorted(opened.get(name, ())))}
            for name, each in last.items()
        ]
        rest = {name: page[name] for name in ("matching", "total", "page", "pages")}
        return {"entities": found, **rest}

    def _last(self, names: list[str]) -> dict[str, Content]:
        """Return the last event of entities, of the target with the highest score."""
        cache, found = self._page.cache, dict[str, Content]()
        with cache.lock:
            worst = cache.worst_targets()
            for name in names:
                if (row := cache.row_of(name)) is None:
                    continue
                target = int(worst[row])
                found[name] = {
                    "time": int(cache.ts[row]),
                    "target": self._page.config.event.targets[target],
                    **_named(cache.last[row, target].tolist()),
                    "warmup": bool(cache.warmup[row, target]),
                    "source": "summaries" if cache.other[row] else "process",
                }
        return found

    def _entity(self, query: Mapping[str, str]) -> Content:
        page, given = self._page, query.get("target")
        if given and given not in map(str, range(len(page.config.event.targets))):
            last = len(page.config.event.targets) - 1
            raise QueryError(f"target: found {given[:60]!r}; write its number, from 0 to {last}")
        view = EntityView(page.cache, page.followed, query, page.limits_of)
        shown = view.next()
        if not shown["entity"]["known"]:
            return {"entity": view.name, "known": False, "points": [], "limits": [], "explanation": None}
        points = shown.get("points", [[] for _ in range(6)])
        rows = [{"time": ts, **_named(values)} for ts, *values in zip(*(list(each) for each in points), strict=True)]
        return {
            "entity": view.name,
            "known": True,
            "target": page.config.event.targets[shown["entity"]["target"]],
            "points": rows[-MAX_POINTS:],
            "limits": [{"column": each["column"], "text": each["text"]} for each in shown["limits"]],
            "explanation": _explained(shown.get("look")),
        }

    def _alerts(self, query: Mapping[str, str]) -> Content:
        begin, end = (parse_int(query.get(name), most, 0, MAX_MS) for name, most in (("from", 0), ("to", MAX_MS)))
        limit = parse_int(query.get("limit"), MAX_EPISODES, 1, MAX_EPISODES)
        changes = self._page.alert_episodes.changes(entity=query.get("entity") or None)
        found = []
        for each in changes.episodes:
            since, ended = each["since"] or each["ts"], each["ts"] if each["phase"] == "recovered" else None
            if since <= end and (ended is None or ended >= begin):
                found.append(_annotation(each, since, ended))
        return {"alerts": found[-limit:]}

    def _history(self, query: Mapping[str, str]) -> Content:
        return {**entity_history(self._kept(), query.get("name", "")), "state": self._page.history_state}

    def _report(self, query: Mapping[str, str]) -> Content:
        days, now, state = days_of(query), time.monotonic(), self._page.history_state
        at, before, found = self._reports.get(days, (-math.inf, "", {}))
        # One that was made while the summaries were read does not hold once they are.
        if state != before or now - at > (KEEP_REPORT / 10 if state else KEEP_REPORT):
            found = fleet_report(self._kept(), days)
            self._reports[days] = now, state, found
        return {**found, "state": state}

    def _kept(self) -> HourlyHistory:
        return self._page.history or HourlyHistory()


def _annotation(episode: Mapping[str, Any], since: int, ended: int | None) -> Content:
    """Return an episode as an annotation of charts. ended: None while it goes on"""
    state = "ended" if ended is not None else "open" if is_open(episode) else ""
    suppressed = "suppressed" if episode["suppressed_by"] == MAINTENANCE else ""
    return {
        "id": episode["id"],
        "time": since,
        "time_end": ended,
        "entity": episode["entity"],
        "title": f"{episode['kind']} of {episode['entity']}",
        "text": describe(episode),
        "tags": ",".join(filter(None, (episode["kind"], episode["severity"], state, suppressed))),
        "score": episode["top"],
    }


def _explained(content: Mapping[str, Any] | None) -> Content | None:
    """Return an explanation with names in place of the browser's positions."""
    if content is None:
        return None
    inputs, heads = ("input", "value", "weight", "contribution", "reading"), ("head", "prediction", "weight")
    return {
        "time": content["ts"],
        **{name: content[name] for name in ("yhat", "base", "constant", "rest", "fleet")},
        "parts": [dict(zip(inputs, each, strict=True)) for each in content["parts"]],
        "other_inputs": dict(zip(("number", "contribution"), content["others"], strict=True)),
        "heads": [dict(zip(heads, each, strict=True)) for each in content["answers"]],
    }


def _named(values: list[Any]) -> Content:
    return {name: None if math.isnan(each) else float(each) for name, each in zip(POINT, values, strict=True)}
