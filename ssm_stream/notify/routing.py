"""Which alerts a target is for, and whose they are."""

from __future__ import annotations

from ssm_stream.config import Notify
from ssm_stream.config.sections.notify import Target
from ssm_stream.ingest.entity_filter import EntityFilter, Teams
from ssm_stream.notify.alerts import Episode

HEARTBEAT = "heartbeat"


class Routing:
    """The route of one target.

    >>> notify = Notify.model_validate({
    ...     "targets": [{"webhook": "http://localhost:8080", "team": "water"}], "teams": {"water": "pump-*"}
    ... })
    >>> routing = Routing(notify, notify.targets[0])
    >>> routing.team_of_entity("pump-3"), routing.team_of_entity("press-1")
    ('water', None)
    """

    def __init__(self, notify: Notify, target: Target) -> None:
        self._target = target
        self._entities = EntityFilter([target.entities])
        self._teams = Teams(notify.teams)
        self.team_of_entity = self._teams.of

    def team(self, episode: Episode) -> str | None:
        """Return the team of an episode: that of its entity, of a fleet's that of the worst that has one."""
        return self._teams.of_first(episode.entities)

    def matches(self, episode: Episode) -> bool:
        """Return whether the target is for an episode; for a fleet's if it is for one of the entities listed."""
        target = self._target
        if target.kinds is not None and episode.kind not in target.kinds:
            return False
        if target.severity == "critical" and not episode.critical:
            return False
        if not any(self._entities.matches(entity) for entity in episode.entities):
            return False
        return target.team is None or any(self.team_of_entity(each) == target.team for each in episode.entities)

    @property
    def has_heartbeats(self) -> bool:
        """Whether the target gets heartbeats, where there are some."""
        return self._target.kinds is None or HEARTBEAT in self._target.kinds
