"""What the live view shows of the demonstration: marked alarms, what happens on stage, the errors of both models."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ssm_stream.cli.terminal.alert_text import Message, describe_alert, format_minute, short_number
from ssm_stream.cli.terminal.live import PHASE_STYLES, FeedLine, LiveView, Panel
from ssm_stream.cli.terminal.sparkline import sparkline

if TYPE_CHECKING:
    from ssm_stream.evaluate.alarm_marks import Mark
    from ssm_stream.flow.demonstration.figures import Change, DemoFigures, Progress

MARKS = {True: ("✓", "bold green", "right"), False: ("✗", "bold red", "wrong")}
"""Sign, style and word of an alarm that the labels confirm, and of one that they do not."""


class DemoView:
    """Feeds a live view with the demonstration's messages."""

    def __init__(self, view: LiveView, figures: DemoFigures) -> None:
        self._view, self._figures = view, figures

    def observe(self, progress: Progress) -> None:
        """Show messages."""
        marks = progress.marks
        lines = [alert_line(alert, marks.get(alert["id"])) for alert in progress.alerts]
        notes = [change_line(change) for change in progress.began]
        self._view.observe(
            progress.predictions, progress.alerts, progress.dead_letters, lines=[*notes, *lines], panel=self._panel()
        )

    def _panel(self) -> Panel:
        """Return the errors of all pumps so far, of both models."""
        ours, frozen = self._figures.series(None)
        known = [value for value in (*ours, *frozen) if value == value]
        if not known:
            return Panel([], "")
        top = max(known)
        last = [[value for value in series if value == value][-1] for series in (ours, frozen)]
        rows = zip(("ssm-stream", "frozen"), (ours, frozen), last, strict=True)
        lines = [f"  {name:<11}{sparkline(series, top)} {short_number(value)}" for name, series, value in rows]
        words = f"error of power {short_number(last[0])}, frozen model {short_number(last[1])}"
        return Panel(["  Error of power, all pumps; the frozen model is the same, learning for 7 days", *lines], words)


def alert_line(alert: Message, mark: Mark | None) -> FeedLine:
    """An alert as a line of the list; one that starts an episode has its mark."""
    if mark is None:
        return FeedLine(*PHASE_STYLES[alert["phase"]], describe_alert(alert))
    sign, style, word = MARKS[mark.right]
    what = f" ({mark.event.kind})" if mark.event is not None else ""
    return FeedLine(sign, style, f"{word}{what}: {describe_alert(alert)}")


def change_line(change: Change) -> FeedLine:
    """What begins on stage, as a line of the list."""
    event = change.event
    began = format_minute(event.start, ZoneInfo("UTC"))[5:]
    return FeedLine("▶", "cyan", f"on stage: {began} {event.entity}: {event.kind}")
