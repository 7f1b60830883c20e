"""The tool about planned stops."""

from __future__ import annotations

from typing import Any

from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.mcp.results import Stops
from ssm_stream.mcp.tools.common import EntityPattern, View, matcher

MAX_STOPS = 200


class StopTools:
    """Planned stops, of the file and announced ones."""

    def __init__(self, view: View) -> None:
        self._view = view

    def list_planned_stops(self, entity: EntityPattern = None) -> Stops:
        """List the planned stops (maintenance windows, muted machines): those in the configuration file, and those that
        were announced and are not over. In a stop, alerts are suppressed and, as a rule, nothing is learned."""
        fresh = self._view.freshness(also=("control",))
        notes = [] if self._view.config.control_topic else ["no stops can be announced: alerts.control is not set"]
        file = [each for each in self._file() if _concerns(each["entities"], entity)]
        announced = [each for each in self._announced() if _concerns(each["entities"], entity)]
        return Stops(announced=announced[:MAX_STOPS], in_the_file=file[:MAX_STOPS], notes=[*notes, *fresh.notes])

    def of(self, entity: str) -> list[dict[str, Any]]:
        """Return the stops of one entity."""
        return [each for each in (*self._announced(), *self._file()) if _concerns(each["entities"], entity)]

    def _file(self) -> list[dict[str, Any]]:
        return [
            {"entities": each.entities, "when": each.text, "learn": each.learn}
            for each in self._view.config.alerts.maintenance
        ]

    def _announced(self) -> list[dict[str, Any]]:
        stops, now = self._view.flow.stops, self._view.flow.clock()
        ended = set(stops.ends.values())
        found = [
            {
                "id": name,
                "entities": window.entity,
                "from": ms_to_iso(window.begin),
                "to": ms_to_iso(window.end),
                "now": window.begin <= now,
                "reason": window.reason,
                "by": window.by,
                "acts": any(name in ids for ids in stops.applied.values()),
            }
            for name, window in list(stops.windows.items())
            if window.end > now and name not in ended
        ]
        return sorted(found, key=lambda each: str(each["from"]))


def _concerns(entities: str, entity: str | None) -> bool:
    """Return whether a stop of these entities is of an entity, or of those of a pattern; any is without one."""
    return entity is None or matcher(entities)(entity) or matcher(entity)(entities)
