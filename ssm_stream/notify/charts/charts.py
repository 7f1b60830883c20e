"""The charts of a message's alerts."""

from __future__ import annotations

import importlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

import structlog

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import target_of
from ssm_stream.notify.alerts import Episode
from ssm_stream.notify.charts.points import LastPredictions, Point, Series

LOG = structlog.get_logger("ssm_stream.notify")
KEPT = 50
"""Charts that are kept, for a message that has to be sent again."""
LEAST = 2
"""Points of a chart."""


class Chart(NamedTuple):
    """A chart. name: of its file; content: PNG"""

    name: str
    content: bytes


class Charts:
    """Draws the charts of alerts; without Pillow none. config: with `notify`"""

    def __init__(self, config: Config) -> None:
        self._config, self._points = config, LastPredictions(config)
        self._lock = threading.Lock()
        self._kept = OrderedDict[str, Chart | None]()
        self._drawing: ModuleType | None = None
        try:
            self._drawing = importlib.import_module("ssm_stream.notify.charts.drawing")
        except ImportError as error:
            LOG.warning("no_charts", reason=f"Pillow is not installed: pip install 'ssm-stream[notify]' ({error})")

    def of(self, episodes: Iterable[Episode], *, wait: bool = True) -> list[Chart]:
        """Return the charts of alerts whose last predictions are known; never raises.

        wait: until another thread has its charts; else there are none
        """
        charted = [each for each in episodes if each.entity != "*"]
        if self._drawing is None or not charted or not self._lock.acquire(blocking=wait):
            return []
        try:
            self._draw([each for each in charted if each.last["id"] not in self._kept])
            found = [self._kept.get(each.last["id"]) for each in charted]
        except Exception:  # a chart must cost no alert
            LOG.exception("chart_failed")
            return []
        finally:
            self._lock.release()
        return [each for each in found if each is not None]

    def _draw(self, episodes: list[Episode]) -> None:
        points = self._points.of(map(self._series, episodes)) if episodes else {}
        for episode in episodes:
            self._kept[episode.last["id"]] = self._chart(episode, points.get(self._series(episode), []))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def _chart(self, episode: Episode, points: list[Point]) -> Chart | None:
        """Return a chart; None if the points are too few, later than the alert, or long before it."""
        since, at = int(episode.last.get("since") or episode.last["ts"]), int(episode.last["ts"])
        if self._drawing is None or len(points) < LEAST or points[0].ts > at:
            return None
        if since - points[-1].ts > points[-1].ts - points[0].ts:
            return None
        event = self._config.event
        shown, title = event.targets[target_of(episode.last, event.targets)], f"{episode.entity}: {episode.kind}"
        content = self._drawing.draw(points, since, at, title, event.time_zone, shown)
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", episode.entity)[:60].strip("._") or "alert"
        return Chart(f"{name}-{episode.kind}.png", content)

    def _series(self, episode: Episode) -> Series:
        targets = self._config.event.targets
        return episode.entity, targets[target_of(episode.last, targets)] if len(targets) > 1 else None
