"""A live view of predictions and alerts on a terminal.

`LiveView` shows the entities with open alerts or the highest scores, and the last alerts as text: on a terminal as a
picture that is redrawn, elsewhere as plain lines every two seconds. It is fed from the thread of the dataflow and draws
in a thread of its own.
"""

from __future__ import annotations

import collections
import heapq
import math
import threading
import time
import zoneinfo
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ssm_stream.cli.terminal.alert_text import (
    Message,
    count,
    describe_alert,
    format_minute,
    row_name,
    short_number,
)
from ssm_stream.cli.terminal.printable import printable

PLAIN_EVERY = 2.0
"""Seconds between two reports where there is no terminal."""
CHOOSE_EVERY = 1.5
"""Seconds for which the shown entities stay the same, so that a reader can follow a row."""
SPEED_OVER = 5.0
"""Seconds over which events/s is measured."""
FEED, PLAIN_FEED = 6, 40
"""Lines of the list of alerts: of the picture, and of a report where there is no terminal."""
FRAME_LINES = 9
"""Lines of the picture without entities and alerts."""
WITH_INTERVAL, WITH_ALERT = 80, 62
"""Widths from which the table has these columns."""
PHASE_STYLES = {"started": ("▲", "bold red"), "ongoing": ("●", "yellow"), "recovered": ("○", "green")}


class FeedLine(NamedTuple):
    """A line of the list of alerts. style: of the sign"""

    sign: str
    style: str
    text: str


class Panel(NamedTuple):
    """What a caller shows below the table. lines: of the picture; plain: at the end of a plain line of numbers"""

    lines: list[str]
    plain: str


NO_PANEL = Panel([], "")


class Frame(NamedTuple):
    """The content of one picture."""

    events: int
    entities: int
    hidden: int
    open: list[tuple[str, str]]
    alerts: int
    dead_letters: int
    now: int
    rows: list[Message]
    feed: list[FeedLine]
    panel: list[str]


class LiveView:
    """Shows predictions and alerts as they come.

    >>> with LiveView("ssm-stream demo", console=Console(quiet=True)) as view:
    ...     view.observe([{"entity": "pump-1", "ts": 0, "y": 1.0, "yhat": 1.1, "yhat_lower": 0.9, "yhat_upper": 1.3,
    ...                    "anomaly_score": 0.2, "warmup": False, "n": 1, "id": "events-0-1"}], [])
    ...     view.events
    1

    Args:
        title: the heading
        total: number of events to come, for a share in the header; None if unknown
        time_zone: of the event times
        console: default: standard output
    """

    def __init__(
        self,
        title: str = "ssm-stream",
        *,
        total: int | None = None,
        time_zone: str = "UTC",
        console: Console | None = None,
    ) -> None:
        self._console = console or Console()
        self._title = title
        self._total = total
        self._zone = zoneinfo.ZoneInfo(time_zone)
        self._lock = threading.Lock()
        self._last: dict[str, Message] = {}
        self._entities: set[str] = set()
        self._first: str | None = None
        self._peak: dict[str, float] = {}
        self._open: dict[tuple[str, str, str | None], Message] = {}
        self._feed: collections.deque[FeedLine] = collections.deque(maxlen=FEED)
        self._unreported: list[FeedLine] = []
        self._panel = NO_PANEL
        self._marks: collections.deque[tuple[float, int]] = collections.deque()
        self._events = self._dead_letters = self._now = 0
        self._chosen: list[str] = []
        self._chosen_at = -CHOOSE_EVERY
        self._began = time.monotonic()
        self._ended: float | None = None
        self._done = threading.Event()
        self._live: Live | None = None
        self._ticker: threading.Thread | None = None

    def observe(
        self,
        predictions: Sequence[Message],
        alerts: Sequence[Message],
        dead_letters: int = 0,
        *,
        lines: Sequence[FeedLine] | None = None,
        panel: Panel | None = None,
    ) -> None:
        """Add messages as they are on the topics; may be called from any thread.

        Args:
            lines: for the list of alerts; default: of each alert when it was raised, and its sentence
            panel: to show from now on
        """
        with self._lock:
            self._panel = panel or self._panel
            last, peak, firsts = self._last, self._peak, 0
            if predictions and not last:
                self._first = predictions[0].get("target")
            for message in predictions:
                row = row_name(message["entity"], message.get("target"))
                last[row] = message
                score = message["anomaly_score"]
                if score > peak.get(row, 0.0):
                    peak[row] = score
                # An event has a prediction for each target: the first target's counts the event.
                firsts += message.get("target") == self._first
                self._entities.add(message["entity"])
            if predictions:
                self._now = max(self._now, predictions[-1]["ts"])
            for alert in alerts:
                # Each pool may have a fleet alert, each limit one of an entity.
                which = (alert["entity"], alert["kind"], alert.get("pool") or alert.get("limit") or alert.get("column"))
                if alert["phase"] == "recovered":
                    self._open.pop(which, None)
                else:
                    self._open[which] = alert
            lines = [self._alert_line(alert) for alert in alerts] if lines is None else lines
            self._feed.extend(lines)
            if self._ticker is not None:
                self._unreported.extend(lines)
            self._events += firsts
            self._dead_letters += dead_letters
            now = time.monotonic()
            self._marks.append((now, self._events))
            while self._marks[0][0] < now - SPEED_OVER:
                self._marks.popleft()

    @property
    def events(self) -> int:
        """Number of events with a prediction."""
        return self._events

    @property
    def events_per_s(self) -> float:
        """Events per second over the last five seconds; after the end, over the whole time."""
        with self._lock:
            if self._ended is not None:
                return self._events / max(self._ended - self._began, 1e-9)
            since = time.monotonic() - SPEED_OVER
            before = next((m for m in self._marks if m[0] >= since), None)
            if before is None:
                return 0.0
            start = max(self._began, since)
            # The first mark inside the window counts events from before it, unless the view began within.
            base = 0 if start == self._began else before[1]
            return (self._events - base) / max(time.monotonic() - start, 0.1)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=4)
            self._live.start()
        else:
            self._ticker = threading.Thread(target=self._tick, name="live-view", daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = time.monotonic()
        self._done.set()
        if self._live is not None:
            self._live.stop()
        if self._ticker is not None:
            self._ticker.join()
            self._report()

    def _tick(self) -> None:
        while not self._done.wait(PLAIN_EVERY):
            self._report()

    def _report(self) -> None:
        """Print the alerts since the last report, then a line of numbers."""
        with self._lock:
            lines = self._unreported
            self._unreported = []
        if (before := len(lines) - PLAIN_FEED) > 0:
            self._console.print(f"  … {count(before, 'line', 'lines')} before", highlight=False)
        for each in lines[-PLAIN_FEED:]:
            self._console.print(f"  {each.sign} {each.text}", markup=False, highlight=False, soft_wrap=True)
        frame = self._frame(0)
        parts = [part for part, _ in self._numbers(frame)]
        line = "  ".join([*parts, self._panel.plain] if self._panel.plain else parts)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _frame(self, most: int) -> Frame:
        with self._lock:
            if time.monotonic() - self._chosen_at >= CHOOSE_EVERY or len(self._chosen) < min(most, len(self._last)):
                self._chosen = self._choose(most)
                self._chosen_at = time.monotonic()
                self._peak.clear()
            return Frame(
                events=self._events,
                entities=len(self._entities),
                hidden=len(self._last) - len(self._chosen[:most]),
                open=[(row, kind) for (_, kind, _), alert in self._open.items() for row in _alert_rows(alert)],
                alerts=len(self._open),
                dead_letters=self._dead_letters,
                now=self._now,
                rows=[self._last[name] for name in self._chosen[:most]],
                feed=list(self._feed),
                panel=self._panel.lines,
            )

    def _choose(self, most: int) -> list[str]:
        """Rows with an open alert, then those with the highest scores since the last choice; each group by name."""
        rows = [row for alert in self._open.values() for row in _alert_rows(alert) if row in self._last]
        alarmed = set(rows)
        if len(alarmed) >= most:
            newest = reversed(rows)
            return sorted(list(dict.fromkeys(newest))[:most])
        quiet = (name for name in self._last if name not in alarmed)
        others = heapq.nlargest(most - len(alarmed), quiet, key=lambda name: self._peak.get(name, 0.0))
        return [*sorted(alarmed), *sorted(others)]

    def _numbers(self, frame: Frame) -> list[tuple[str, str]]:
        """The numbers of the header, each with its style."""
        elapsed = (self._ended or time.monotonic()) - self._began
        share = f" ({frame.events / self._total:.0%})" if self._total else ""
        opened = frame.alerts
        parts = [
            (f"{int(elapsed) // 60}:{int(elapsed) % 60:02d}", "dim"),
            (f"{frame.events:,} events{share}", ""),
            (f"{self.events_per_s:,.0f} events/s", ""),
            (count(frame.entities, "entity", "entities"), ""),
            (count(opened, "open alert", "open alerts"), "bold red" if opened else ""),
        ]
        if frame.dead_letters:
            parts.append((count(frame.dead_letters, "dead letter", "dead letters"), "yellow"))
        return parts

    def render(self) -> RenderableType:
        """The picture, no higher and no wider than the terminal."""
        height = max(12, self._console.size.height)
        height -= len(self._panel.lines)
        feed_lines = min(FEED, max(2, height - FRAME_LINES - 4))
        frame = self._frame(max(1, height - FRAME_LINES - feed_lines))
        numbers = Text("  ", no_wrap=True, overflow="ellipsis")
        for part, style in self._numbers(frame):
            numbers.append(part, style).append("   ")
        moment = format_minute(frame.now, self._zone) if frame.entities else "waiting for events"
        head = Text(f"  {self._title}", "bold", no_wrap=True, overflow="ellipsis")
        head.append(f"   event time {moment}" if frame.entities else f"   {moment}", "not bold dim")
        calmer = count(frame.hidden, "calmer entity", "calmer entities")
        more = f"  and {calmer}" if frame.hidden else ""
        feed = [self._feed_text(line) for line in reversed(frame.feed)][:feed_lines]
        return Group(
            Text(),
            head,
            numbers,
            Text(),
            Padding(self._table(frame), (0, 0, 0, 1)),
            Text(more, "dim", no_wrap=True),
            *(Text(line, no_wrap=True, overflow="ellipsis") for line in frame.panel),
            Text("  Last alerts", "bold"),
            *(feed or [Text("    none so far", "dim")]),
        )

    def _table(self, frame: Frame) -> Table:
        width = self._console.size.width
        # Narrow terminals have room for fewer columns: numbers are never cut.
        interval, alert = width >= WITH_INTERVAL, width >= WITH_ALERT
        entity = max(16, min(40, width - (64 if interval else 45 if alert else 36)))
        table = Table(box=None, padding=(0, 1), expand=False, header_style="dim")
        table.add_column("entity", no_wrap=True, overflow="ellipsis", min_width=entity, max_width=entity)
        table.add_column("value", justify="right", no_wrap=True, min_width=8)
        table.add_column("predicted", justify="right", no_wrap=True, min_width=9)
        if interval:
            table.add_column("interval", justify="center", no_wrap=True, min_width=17)
        table.add_column("score", no_wrap=True, min_width=11)
        if alert:
            table.add_column("alert", no_wrap=True, min_width=7)
        open_of: dict[str, list[str]] = {}
        for row, kind in frame.open:
            open_of.setdefault(row, []).append(kind)
        for message in frame.rows:
            row = row_name(message["entity"], message.get("target"))
            kinds = open_of.get(row, [])
            low, high = short_number(message["yhat_lower"]), short_number(message["yhat_upper"])
            cells: list[RenderableType] = [
                Text(printable(row), "bold red" if kinds else ""), short_number(message["y"]),
                short_number(message["yhat"]), *([Text(f"{low:>7} … {high:<7}", "dim")] if interval else []),
                _score(message),
            ]  # fmt: skip
            if alert:
                cells.append(Text(kinds[0] if len(kinds) == 1 else "both" if kinds else "", "red"))
            table.add_row(*cells)
        return table

    def _alert_line(self, alert: Message) -> FeedLine:
        return FeedLine(*PHASE_STYLES[alert["phase"]], describe_alert(alert, self._zone))

    def _feed_text(self, line: FeedLine) -> Text:
        text = Text("  ", no_wrap=True, overflow="ellipsis")
        return text.append(line.sign, line.style).append(f" {line.text}")


def _alert_rows(alert: Message) -> list[str]:
    """The names of the rows that an alert concerns."""
    if alert.get("scope") == "fleet":
        return [row_name(each["entity"], alert.get("target")) for each in alert["entities"]]
    causes = [cause["target"] for cause in alert.get("targets", ())] or [None]
    return [row_name(alert["entity"], target) for target in causes]


def _score(message: Message) -> Text:
    """A bar of six cells, full at twice the threshold of 1, with the score; by the square root, as most are small."""
    if message["warmup"]:
        return Text("warming up", "dim")
    score = message["anomaly_score"]
    style = "bold red" if score > 1 else "yellow" if score > 0.7 else "green"
    filled = max(0, min(6, round(math.sqrt(max(score, 0.0) / 2) * 6)))
    shown = f"{score:4.2f}" if score < 9.995 else f"{score:4.1f}" if score < 99.95 else " >99"
    return Text("█" * filled, style).append("░" * (6 - filled), "dim").append(f" {shown}", style)
