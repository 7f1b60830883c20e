"""What a person sees while events flow, and the summary at the end.

`LiveView` shows the entities that matter most now and the last alerts in words: on a terminal as a picture that is
redrawn, elsewhere as a plain line every two seconds. It is fed from the thread of the dataflow and draws in its own.
"""

from __future__ import annotations

import collections
import heapq
import math
import threading
import time
import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PLAIN_EVERY = 2.0
"""Seconds between two plain lines."""
CHOOSE_EVERY = 1.5
"""Seconds for which the shown entities stay the same, so that the eye can follow a row."""
SPEED_OVER = 5.0
"""Seconds over which events/s is measured."""
FEED = 6
"""Alerts in the feed."""
AROUND = 9
"""Lines of the picture that are neither entities nor alerts."""
LOOK = {"started": ("▲", "bold red"), "ongoing": ("●", "yellow"), "recovered": ("✓", "green")}

Message = Mapping[str, Any]


class Seen(NamedTuple):
    """What is known at one moment, for drawing."""

    events: int
    entities: int
    hidden: int
    open: list[tuple[str, str]]
    alerts: int
    started: Mapping[str, int]
    dead_letters: int
    now: int
    rows: list[Message]
    feed: list[Message]


class LiveView:
    """Predictions and alerts as they come.

    >>> with LiveView("ssm-stream demo", console=Console(quiet=True)) as view:
    ...     view.observe([{"entity": "pump-1", "ts": 0, "y": 1.0, "yhat": 1.1, "yhat_lower": 0.9, "yhat_upper": 1.3,
    ...                    "anomaly_score": 0.2, "warmup": False, "n": 1, "id": "events-0-1"}], [])
    ...     view.events
    1

    Args:
        title: what is being watched.
        total: events expected, for a share in the header; None where that is unknown.
        time_zone: in which event times are shown.
        console: where to; default standard output.
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
        self._started: collections.Counter[str] = collections.Counter()
        self._feed: collections.deque[Message] = collections.deque(maxlen=FEED)
        self._unsaid: list[Message] = []
        self._marks: collections.deque[tuple[float, int]] = collections.deque()
        self._events = self._dead_letters = self._now = 0
        self._chosen: list[str] = []
        self._chosen_at = -CHOOSE_EVERY
        self._began = time.monotonic()
        self._ended: float | None = None
        self._done = threading.Event()
        self._live: Live | None = None
        self._ticker: threading.Thread | None = None

    # What comes in.

    def observe(self, predictions: Sequence[Message], alerts: Sequence[Message], dead_letters: int = 0) -> None:
        """Take messages as they are on the topics; may be called from any thread."""
        with self._lock:
            last, peak, firsts = self._last, self._peak, 0
            if predictions and not last:
                self._first = predictions[0].get("target")
            for message in predictions:
                row = _row(message["entity"], message.get("target"))
                last[row] = message
                score = message["anomaly_score"]
                if score > peak.get(row, 0.0):
                    peak[row] = score
                # An event has a prediction for each target: that of the first one stands for it.
                firsts += message.get("target") == self._first
                self._entities.add(message["entity"])
            if predictions:
                self._now = max(self._now, predictions[-1]["ts"])
            for alert in alerts:
                # Each pool may have a fleet alert; those of entities have none.
                which = (alert["entity"], alert["kind"], alert.get("pool"))
                if alert["phase"] == "recovered":
                    self._open.pop(which, None)
                else:
                    self._open[which] = alert
                if alert["phase"] == "started":
                    self._started[alert["kind"]] += 1
                self._feed.append(alert)
                if self._ticker is not None:
                    self._unsaid.append(alert)
            self._events += firsts
            self._dead_letters += dead_letters
            now = time.monotonic()
            self._marks.append((now, self._events))
            while self._marks[0][0] < now - SPEED_OVER:
                self._marks.popleft()

    @property
    def events(self) -> int:
        """Events whose predictions were seen."""
        return self._events

    @property
    def events_per_s(self) -> float:
        """Over the last five seconds; after the end, over the whole time."""
        with self._lock:
            if self._ended is not None:
                return self._events / max(self._ended - self._began, 1e-9)
            since = time.monotonic() - SPEED_OVER
            before = next((m for m in self._marks if m[0] >= since), None)
            if before is None:
                return 0.0
            start = max(self._began, since)
            # The first mark inside the window stands for events from before it, unless all began within.
            base = 0 if start == self._began else before[1]
            return (self._events - base) / max(time.monotonic() - start, 0.1)

    # Start and end.

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
            self._say()

    def _tick(self) -> None:
        while not self._done.wait(PLAIN_EVERY):
            self._say()

    def _say(self) -> None:
        """The plain form: the alerts since the last time, then a line of numbers."""
        with self._lock:
            alerts = self._unsaid
            self._unsaid = []
        if len(alerts) > FEED:
            self._console.print(f"  … {len(alerts) - FEED} alerts before", highlight=False)
        for alert in alerts[-FEED:]:
            words = f"  {LOOK[alert['phase']][0]} {alert_words(alert, self._zone)}"
            self._console.print(words, markup=False, highlight=False, soft_wrap=True)
        seen = self._seen(0)
        line = "  ".join(part for part, _ in self._numbers(seen))
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    # What is drawn.

    def _seen(self, most: int) -> Seen:
        with self._lock:
            if time.monotonic() - self._chosen_at >= CHOOSE_EVERY or len(self._chosen) < min(most, len(self._last)):
                self._chosen = self._choose(most)
                self._chosen_at = time.monotonic()
                self._peak.clear()
            return Seen(
                events=self._events,
                entities=len(self._entities),
                hidden=len(self._last) - len(self._chosen[:most]),
                open=[(row, kind) for (_, kind, _), alert in self._open.items() for row in _rows(alert)],
                alerts=len(self._open),
                started=dict(self._started),
                dead_letters=self._dead_letters,
                now=self._now,
                rows=[self._last[name] for name in self._chosen[:most]],
                feed=list(self._feed),
            )

    def _choose(self, most: int) -> list[str]:
        """Entities with an open alert first, then the highest scores since the last choice; each group by name."""
        rows = [row for alert in self._open.values() for row in _rows(alert) if row in self._last]
        alarmed = set(rows)
        if len(alarmed) >= most:
            newest = reversed(rows)
            return sorted(list(dict.fromkeys(newest))[:most])
        quiet = (name for name in self._last if name not in alarmed)
        others = heapq.nlargest(most - len(alarmed), quiet, key=lambda name: self._peak.get(name, 0.0))
        return [*sorted(alarmed), *sorted(others)]

    def _numbers(self, seen: Seen) -> list[tuple[str, str]]:
        """The figures of the header, each with its style."""
        took = (self._ended or time.monotonic()) - self._began
        share = f" ({seen.events / self._total:.0%})" if self._total else ""
        opened = seen.alerts
        parts = [
            (f"{int(took) // 60}:{int(took) % 60:02d}", "dim"),
            (f"{seen.events:,} events{share}", ""),
            (f"{self.events_per_s:,.0f} events/s", ""),
            (_many(seen.entities, "entity", "entities"), ""),
            (_many(opened, "open alert", "open alerts"), "bold red" if opened else ""),
        ]
        if seen.dead_letters:
            parts.append((_many(seen.dead_letters, "dead letter", "dead letters"), "yellow"))
        return parts

    def render(self) -> RenderableType:
        """The picture, no higher and no wider than the terminal."""
        height = max(12, self._console.size.height)
        feed_lines = min(FEED, max(2, height - AROUND - 4))
        seen = self._seen(max(1, height - AROUND - feed_lines))
        numbers = Text("  ", no_wrap=True, overflow="ellipsis")
        for part, style in self._numbers(seen):
            numbers.append(part, style).append("   ")
        moment = _moment(seen.now, self._zone) if seen.entities else "waiting for events"
        head = Text(f"  {self._title}", "bold", no_wrap=True, overflow="ellipsis")
        head.append(f"   event time {moment}" if seen.entities else f"   {moment}", "not bold dim")
        calmer = _many(seen.hidden, "calmer entity", "calmer entities")
        more = f"  and {calmer}" if seen.hidden else ""
        feed = [self._alert_line(alert) for alert in reversed(seen.feed)][:feed_lines]
        return Group(
            Text(),
            head,
            numbers,
            Text(),
            Padding(self._table(seen), (0, 0, 0, 1)),
            Text(more, "dim", no_wrap=True),
            Text("  Last alerts", "bold"),
            *(feed or [Text("    none so far", "dim")]),
        )

    def _table(self, seen: Seen) -> Table:
        table = Table(box=None, padding=(0, 1), expand=False, header_style="dim")
        wide = max(16, min(40, self._console.size.width - 64))
        table.add_column("entity", no_wrap=True, overflow="ellipsis", min_width=wide, max_width=wide)
        table.add_column("value", justify="right", no_wrap=True, min_width=8)
        table.add_column("predicted", justify="right", no_wrap=True, min_width=8)
        table.add_column("interval", justify="center", no_wrap=True, min_width=17)
        table.add_column("score", no_wrap=True, min_width=11)
        table.add_column("alert", no_wrap=True, min_width=7)
        open_of: dict[str, list[str]] = {}
        for row, kind in seen.open:
            open_of.setdefault(row, []).append(kind)
        for message in seen.rows:
            row = _row(message["entity"], message.get("target"))
            kinds = open_of.get(row, [])
            low, high = number(message["yhat_lower"]), number(message["yhat_upper"])
            table.add_row(
                Text(_printable(row), "bold red" if kinds else ""),
                number(message["y"]),
                number(message["yhat"]),
                Text(f"{low:>7} … {high:<7}", "dim"),
                _score(message),
                Text(kinds[0] if len(kinds) == 1 else "both" if kinds else "", "red"),
            )
        return table

    def _alert_line(self, alert: Message) -> Text:
        sign, style = LOOK[alert["phase"]]
        line = Text("  ", no_wrap=True, overflow="ellipsis")
        return line.append(sign, style).append(f" {alert_words(alert, self._zone)}")


def _row(entity: str, target: str | None) -> str:
    """What a row is called: with several targets, each has its own."""
    return entity if target is None else f"{entity} {target}"


def _rows(alert: Message) -> list[str]:
    """The rows that an open alert is about."""
    if alert.get("scope") == "fleet":
        return [_row(each["entity"], alert.get("target")) for each in alert["entities"]]
    causes = [cause["target"] for cause in alert.get("targets", ())] or [None]
    return [_row(alert["entity"], target) for target in causes]


def _score(message: Message) -> Text:
    """Six cells, full at twice the threshold of 1; by the square root, as most scores are small."""
    if message["warmup"]:
        return Text("warming up", "dim")
    score = message["anomaly_score"]
    style = "bold red" if score > 1 else "yellow" if score > 0.7 else "green"
    filled = max(0, min(6, round(math.sqrt(max(score, 0.0) / 2) * 6)))
    shown = f"{score:4.2f}" if score < 9.995 else f"{score:4.1f}" if score < 99.95 else " >99"
    return Text("█" * filled, style).append("░" * (6 - filled), "dim").append(f" {shown}", style)


def alert_words(alert: Message, zone: zoneinfo.ZoneInfo | None = None) -> str:
    """An alert as a sentence, weightiest words first: it may be cut at the end of a line."""
    zone = zone or zoneinfo.ZoneInfo("UTC")
    when = _moment(alert["ts"], zone)[5:]
    if alert.get("scope") == "fleet":
        return _fleet_words(alert, when)
    others = len(alert.get("targets", ())) - 1
    beside = f" and {others} more" if others > 0 else ""
    about = f"{when} {_printable(_row(alert['entity'], alert.get('target')))}{beside}"
    since = alert.get("since")
    lasted = f" for {_length(alert['ts'] - since)}" if since is not None and alert["ts"] > since else ""
    if alert["phase"] == "recovered":
        back = "normal again" if alert["kind"] == "anomaly" else "new behaviour learned"
        return f"{about}: {back} ({alert['kind']}{lasted})"
    critical = ", critical" if alert.get("severity") == "critical" else ""
    if alert["kind"] == "drift":
        what = "behaves differently" if alert["phase"] == "started" else f"still settling{lasted}"
        inputs = dict.fromkeys(_input_words(str(c["feature"])) for c in alert.get("weight_change") or [])
        names = f": {', '.join(list(inputs)[:2])}" if inputs else ""
        return f"{about}: {what}{names}{critical}"
    y, low, high = alert.get("y"), alert.get("yhat_lower"), alert.get("yhat_upper")
    if y is None or low is None or high is None:
        return f"{about}: anomaly, score {alert['score']:.1f}{critical}"
    side = "above" if y > high else "below" if y < low else "near the edge of"
    still = f" (anomaly{lasted})" if alert["phase"] == "ongoing" and lasted else ""
    return f"{about}: {number(y)} is {side} {number(low)} … {number(high)}, score {alert['score']:.1f}{critical}{still}"


def _fleet_words(alert: Message, when: str) -> str:
    """A fleet alert: how many entities, and the first few."""
    if alert["phase"] == "recovered":
        return f"{when} fleet: over ({alert['kind']} for {_length(alert['ts'] - alert['since'])})"
    what = "behave differently" if alert["kind"] == "drift" else "anomalous"
    names = ", ".join(_printable(each["entity"]) for each in alert["entities"][:3])
    more = ", …" if alert["count"] > 3 else ""
    critical = ", critical" if alert.get("severity") == "critical" else ""
    return f"{when} fleet: {_many(alert['count'], 'entity', 'entities')} {what}{critical}: {names}{more}"


def _input_words(name: str) -> str:
    """An input that was made from the event, in words; the event's own fields keep their names."""
    if name.startswith("hour_"):
        return "hour of day"
    if name.startswith("weekday_") or name == "weekend":
        return "weekday"
    words = {"last": "last value", "constant": "level"}.get(name, "earlier values" if name.startswith("lag") else name)
    return _printable(words)


def number(value: float | None) -> str:
    """A measurement in at most 8 characters; `–` where there is none."""
    if value is None:
        return "–"
    size = abs(value)
    if size != size or size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2g}" if size >= 1e100 else f"{value:.3g}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 10 else f"{value:.3f}"


def _moment(ms: int, zone: zoneinfo.ZoneInfo) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M")


def _length(ms: float) -> str:
    seconds = ms / 1000
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"


def _printable(name: str) -> str:
    """Names come from the topic: one with escape sequences must not draw on the terminal."""
    return name if name.isprintable() else "".join(c if c.isprintable() else "·" for c in name)


def _many(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


NEXT = (
    ("ssm-stream backtest CONFIG FILE", "how well it does on a recording of yours"),
    ("ssm-stream doctor CONFIG", "whether your brokers and topics are ready"),
    ("ssm-stream run CONFIG", "the same on your own topic"),
)


def summary(
    result: Mapping[str, Any],
    console: Console | None = None,
    *,
    title: str = "Done",
    next_steps: Sequence[tuple[str, str]] = NEXT,
) -> None:
    """Print the end of a demonstration: how good, how calibrated, how many alerts, how fast, and what to do next.

    Args:
        result: `events, entities, mae, mae_persistence, coverage, level, anomalies, drifts, dead_letters, events_per_s,
            seconds`; the errors and the coverage may be None where no event had a target.
        console: where to; default standard output.
        title: the heading.
        next_steps: command and what it is for.
    """
    (console or Console()).print(_summary(result, title, next_steps), highlight=False)


def _summary(result: Mapping[str, Any], title: str, next_steps: Sequence[tuple[str, str]]) -> RenderableType:
    mae, naive, coverage = result["mae"], result["mae_persistence"], result["coverage"]
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    entities = _many(result["entities"], "entity", "entities")
    speed = f"in {result['seconds']:.1f} s: {result['events_per_s']:,.0f} events/s"
    table.add_row("events", f"{result['events']:,} from {entities} {speed}")
    if mae is None or not naive:
        table.add_row("error (MAE)", "no event had a target" if mae is None else number(mae))
    else:
        text = Text(f"{number(mae)}, ").append(f"{mae / naive:.2f} ×", "bold green" if mae < naive else "bold yellow")
        table.add_row("error (MAE)", text.append(f" that of repeating the last value ({number(naive)})"))
    if coverage is not None:
        table.add_row("intervals", f"hold {coverage:.1%} of the targets, {result['level']:.0%} wanted")
    anomalies, drifts = result["anomalies"], result["drifts"]
    table.add_row("alerts", f"{_many(anomalies, 'anomaly', 'anomalies')}, {_many(drifts, 'drift', 'drifts')}")
    lost = result["dead_letters"]
    table.add_row("dead letters", Text(f"{lost:,}", "yellow") if lost else "none")
    steps = Table(box=None, padding=(0, 1), show_header=False)
    steps.add_column(style="bold cyan", no_wrap=True)
    steps.add_column()
    for command, purpose in next_steps:
        steps.add_row(command, purpose)
    heading = Text(f"  {title}", "bold")
    return Group(
        Text(),
        heading,
        Padding(table, (0, 0, 0, 1)),
        Text(),
        Text("  What to do next", "bold"),
        Padding(steps, (0, 0, 0, 1)),
    )
