"""All rules of a configuration together, as the pipeline of alerts sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ssm_stream.config import Config
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.entity_store import ResetEntity
from ssm_stream.engine.rules.limits import LimitAlerts
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import Events


class RuleAlerts:
    """The alerts of limits, of silence and of stuck signals. config: with one of them, see `rule_kinds`"""

    def __init__(self, config: Config) -> None:
        alerts = config.alerts
        self._limits = LimitAlerts(config) if alerts.limits else None
        self._silence = SilenceAlerts(config) if alerts.silence is not None or alerts.stuck else None

    @property
    def kinds(self) -> list[str]:
        """The `episode_kind` of each episode that an entity may have."""
        return [kind for each in (self._limits, self._silence) if each is not None for kind in each.kinds]

    def process(self, events: Events, source: int, resets: Sequence[ResetEntity]) -> list[Alert]:
        """Return the alerts of a batch, in the order of its events.

        Args:
            events: n events
            source: the stream that they come from
            resets: the entities that started afresh in the batch; the ends of their episodes are the caller's
        """
        rules = [each for each in (self._silence, self._limits) if each is not None]
        found = [each.process(events, source, resets) for each in rules]
        return found[0] if len(found) == 1 else sorted([*found[0], *found[1]], key=lambda alert: alert.row)

    def end(self, kind: str, entity: str | None = None) -> None:
        """End the episodes of a kind without an alert: of one entity, or of all. kind: see `episode_kind`"""
        for each in (self._limits, self._silence):
            if each is not None and kind in each.kinds:
                each.end(kind, entity)

    def move(self, place: Callable[[str, int], int]) -> int:
        """Let entities be judged by the clock of another source: see `SilenceAlerts.move`."""
        return 0 if self._silence is None else self._silence.move(place)

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON has it."""
        out: dict[str, Any] = {}
        if self._limits is not None:
            out["limits"] = self._limits.dump()
        if self._silence is not None:
            out["silence"] = self._silence.dump()
        return out

    def load(self, content: dict[str, Any]) -> None:
        """Load what `dump` returned, without rules that are no longer there."""
        if self._limits is not None and "limits" in content:
            self._limits.load(content["limits"])
        if self._silence is not None and "silence" in content:
            self._silence.load(content["silence"])
