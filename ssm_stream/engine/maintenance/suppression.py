"""Suppresses the episodes that start in a planned stop, to their end; fleet alerts do not count them.

An entity that has not come back by the end of the window, though, is an alert of its own then: its silence is sent at
the first event of its source after the window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ssm_stream.config import Config
from ssm_stream.config.sections.alerts import SILENCE
from ssm_stream.engine.alert_kinds import MAINTENANCE, OTHER
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.episodes.endings import Batch
from ssm_stream.engine.episodes.ids import OpenEpisode
from ssm_stream.engine.maintenance.windows import MaintenanceWindows
from ssm_stream.engine.rules.messages import episode_kind, rule_message, split_kind

EntityKind = tuple[str, str]
"""An entity, and the `episode_kind` of an episode of its."""


class Suppression:
    """The open episodes that started in a window.

    windows: None without any, for episodes that began under others; open_: those that were loaded
    """

    def __init__(
        self, config: Config, windows: MaintenanceWindows | None, open_: Mapping[EntityKind, OpenEpisode] | None = None
    ) -> None:
        self._config, self._windows = config, windows
        self._open = dict(open_ or {})

    def is_idle(self, batch: Batch) -> bool:
        """Return whether no window ends, in a batch, in which an entity stopped."""
        return not any(self._is_silence(key, each, batch) for key, each in self._open.items())

    def split(self, alerts: Sequence[Alert], batch: Batch | None) -> tuple[list[Alert], list[Alert]]:
        """Return the alerts of entities that are not suppressed, and those that are, marked.

        Args:
            alerts: in the order of their events
            batch: the events; None for labels
        """
        sent, suppressed = list[Alert](), list[Alert]()
        for alert in alerts:
            if self._update(alert, batch):
                suppressed.append(alert._replace(suppressed_by=MAINTENANCE))
            else:
                sent.append(alert)
        return sent, suppressed

    def split_rules(self, alerts: Sequence[Alert], batch: Batch | None) -> list[Alert]:
        """Return the alerts of rules, the suppressed ones marked, and those on entities that outlast their window.

        alerts, batch: as of `split`
        """
        out = list[Alert]()
        due = {} if batch is None else {key: self._due(key, 0, batch) for key in self._open}
        for alert in alerts:
            key = (alert.message["entity"], episode_kind(alert.message))
            out += self._outlasting(due, batch, alert.row)
            sent, suppressed = self.split([alert], batch)
            out += sent + suppressed
            due.pop(key, None)
            if batch is not None and key in self._open:
                due[key] = self._due(key, alert.row, batch)
        return [*out, *self._outlasting(due, batch, None)]

    def _update(self, alert: Alert, batch: Batch | None) -> bool:
        """Return whether an alert is suppressed, and note whether its episode is."""
        message = alert.message
        key, phase = (message["entity"], episode_kind(message)), message["phase"]
        if phase == "started":
            self._open.pop(key, None)
            if self._begins_inside(alert, batch):
                self._open[key] = OpenEpisode(alert.pool, message["since"])
                return True
            return False
        if key not in self._open:
            return False
        if phase == "recovered":
            del self._open[key]
        return True

    def _begins_inside(self, alert: Alert, batch: Batch | None) -> bool:
        """Return whether the time of an alert, or that of the event at which it is sent, lies in a window."""
        entity, kind, ts = alert.message["entity"], alert.message["kind"], alert.message["ts"]
        if self._windows is None:
            return False
        if batch is None:
            return self._windows.suppresses(entity, kind, np.array([ts]), None)
        offset = -math.inf if batch.offsets is None else batch.offsets[alert.row]
        return self._windows.suppresses(entity, kind, np.array([ts, int(batch.ts[alert.row])]), (offset, offset))

    @staticmethod
    def _is_silence(key: EntityKind, episode: OpenEpisode, batch: Batch) -> bool:
        return split_kind(key[1])[0] == SILENCE and episode.pool[1] == batch.source

    def _due(self, key: EntityKind, first: int, batch: Batch) -> int | None:
        """Return the row, from `first` on, at which an entity that stopped in a window is outside; None if none."""
        if not self._is_silence(key, self._open[key], batch):
            return None
        if self._windows is None:
            return first if first < len(batch.ts) else None
        offsets = None if batch.offsets is None else batch.offsets[first:]
        outside = ~self._windows.contain(key[0], np.asarray(batch.ts[first:]), offsets)
        return first + int(np.argmax(outside)) if outside.any() else None

    def _outlasting(self, due: dict[EntityKind, int | None], batch: Batch | None, before: int | None) -> list[Alert]:
        """Return the alerts on entities that are outside their windows before a row of the batch; None: at its end."""
        found = sorted((row, key) for key, row in due.items() if row is not None and (before is None or row < before))
        out = list[Alert]()
        for row, key in found:
            assert batch is not None
            del due[key]
            episode = self._open.pop(key)
            message = rule_message(self._config, *split_kind(key[1]), key[0], episode.since, int(batch.ts[row]))
            out.append(Alert(row, message | {"phase": "started"}, episode.pool, suffix=OTHER))
        return out

    def end(self, kind: str, entity: str | None = None) -> None:
        """Remove the episodes of a kind: of one entity, or of all. kind: see `episode_kind`"""
        for key in [key for key in self._open if key[1] == kind and entity in (None, key[0])]:
            del self._open[key]
