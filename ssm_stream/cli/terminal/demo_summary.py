"""The last screen of the demonstration: both models' errors as a picture, every alarm marked, one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.text import Text

from ssm_stream.cli.terminal.alert_text import count, format_minute, short_number
from ssm_stream.cli.terminal.demo_view import MARKS
from ssm_stream.cli.terminal.printable import printable
from ssm_stream.cli.terminal.sparkline import sparkline

Result = Mapping[str, Any]
UTC = ZoneInfo("UTC")
INDENT = 22
"""Characters to the left of the bars."""
NEXT = "Next: `ssm-stream examples` writes these files; `ssm-stream init FILE`: yours."


def print_summary(result: Result, console: Console) -> None:
    """Print the figures of `DemoFigures.result`.

    Picture, marked alarms and sentence fit 80 by 24 characters if there are no more than seven alarms.
    """
    console.print()
    console.print(_figures(result), highlight=False)
    for line in (Text(), *_picture(result["frozen"]), Text(), *_alarms(result), Text()):
        console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)
    console.print(Text(sentence(result), "bold"), highlight=False)
    console.print(Text(NEXT), highlight=False)


def _figures(result: Result) -> Text:
    events = f"{result['events']:,} events of {count(result['entities'], 'entity', 'entities')}"
    first = result["first_prediction_s"]
    began = "" if first is None else f", the first prediction after {first:.1f} s"
    lost = result["dead_letters"]
    letters = f", {count(lost, 'dead letter', 'dead letters')}" if lost else ""
    return Text(f"{events} in {result['seconds']:.0f} s{began}{letters}")


def _picture(frozen: Result) -> Iterator[Text]:
    """Two rows of bars for each pump on stage, on one scale, below a row that has the change."""
    yield Text("Error of power (kW) over four weeks; from ┊ on the frozen model learns no more", "bold")
    bins = len(frozen["series"])
    span = (frozen["end"] + 1 - frozen["begin"]) / bins
    stop = int((frozen["learns_until"] - frozen["begin"]) / span)
    for change in frozen["changes"]:
        ours, other = change["series"], change["series_frozen"]
        top = max((value for value in (*ours, *other) if value == value), default=0.0)
        at = int((change["start"] - frozen["begin"]) / span)
        above = [" "] * max(bins, at + 1)
        above[stop], above[at] = "┊", "▼"
        yield Text(" " * INDENT + "".join(above[: at + 1]) + f" {change['kind']}", "dim")
        for i, (name, series, figure) in enumerate((("ssm-stream", ours, "ours"), ("frozen", other, "other"))):
            label = printable(change["entity"])[:8] if i == 0 else ""
            style = "green" if i == 0 else "red"
            bars = Text(f"  {label:<8} {name:<11}").append(sparkline(series, top), style)
            yield bars.append(f" {short_number(change['after'][figure])}")


def _alarms(result: Result) -> Iterator[Text]:
    alarms, missed = result["alarms"], result["missed"]
    right = sum(alarm["right"] for alarm in alarms)
    parts = [f"{right} right", f"{len(alarms) - right} wrong", f"{len(missed)} missed"]
    yield Text(f"Alarms, marked by labels that no model sees: {', '.join(parts)}", "bold")
    width = max((len(_name(each["entities"])) for each in alarms), default=0)
    for alarm in alarms:
        what = "nothing happened there"
        if alarm["right"]:
            what = f"{alarm['event']} ({_delay(alarm['after_s'])})" if alarm["first"] else f"{alarm['event']}, again"
        words = f"{_name(alarm['entities']):<{width}}  {alarm['kind']:<7}  {what}"
        yield _alarm_line(MARKS[alarm["right"]], alarm["ts"], words)
    for event in missed:
        yield _alarm_line(("✗", "bold red", "missed"), event["start"], f"{_name([event['entity']])}  {event['kind']}")


def _alarm_line(mark: tuple[str, str, str], ts: int, words: str) -> Text:
    sign, style, word = mark
    return Text("  ").append(f"{sign} {word:<5}", style).append(f"  {format_minute(ts, UTC)[5:]}  {words}")


def _name(entities: list[str]) -> str:
    """The names of an alarm's entities, in at most 20 characters."""
    name = printable(", ".join(entities))
    return name if len(name) <= 20 else f"{name[:19]}…"


def _delay(seconds: float) -> str:
    """The time from the beginning of an event to its alarm."""
    if seconds <= 0:
        return "at once"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def sentence(result: Result) -> str:
    """What the demonstration has shown, in words that the figures choose."""
    changes = result["frozen"]["changes"]
    after = [change["after"] for change in changes if change["after"]["events"]]
    events = sum(each["events"] for each in after)
    alarms, missed = result["alarms"], len(result["missed"])
    right = sum(alarm["right"] for alarm in alarms)
    found = len({(alarm["stream"], alarm["event"], *alarm["entities"]) for alarm in alarms if alarm["first"]})
    marked = f"{found} of {found + missed} events found, {right} of {count(len(alarms), 'alarm', 'alarms')} right."
    if not events:
        return marked
    ours, other = (sum(each["events"] * each[name] for each in after) / events for name in ("ours", "other"))
    before = [change["before"] for change in changes if change["before"]["events"]]
    n = sum(each["events"] for each in before)
    was = sum(each["events"] * each["ours"] for each in before) / n if n else float("nan")
    return (
        f"Without retraining, the error after the changes is {ours:.2g} ({was:.2g} before), the frozen model's "
        f"{other:.2g}: {other / ours:.1f} × as large. {marked}"
    )
