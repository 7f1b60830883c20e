"""The parts of `alerts` on planned stops: windows of time in which alerts are not raised."""

from __future__ import annotations

import re
import zoneinfo
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, model_serializer, model_validator

from ssm_stream.config.sections.base import Section, Topic
from ssm_stream.config.sections.conditions import EntityPattern

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
WEEKLY = re.compile(
    r"^\s*((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?:\s*[-,]\s*(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun))*)\s+"
    r"([0-2]\d:[0-5]\d)\s*-\s*([0-2]\d:[0-5]\d)\s*$"
)
HELP = "write days and times such as 'Sun 06:00-18:00', 'Sat,Sun 00:00-24:00' or 'Mon-Fri 22:00-06:00'"
LearnInWindow = Literal["hold", "adapt"]


class Span(NamedTuple):
    """Minutes of the local week, from Monday 00:00 on: [begin, end)."""

    begin: int
    end: int


def weekly_spans(text: str) -> list[Span]:
    """Return the parts of the week that a text such as `Sat,Sun 22:00-06:00` names, in order.

    One that passes midnight belongs to the day on which it begins; one that passes the end of the week is two parts.

    Raises:
        ValueError: it names none.
    """
    found = WEEKLY.match(text)
    if not found:
        raise ValueError(f"found {text!r}; {HELP}")
    begin, end = (_minutes(each, text) for each in found.groups()[1:])
    if begin in (end, DAY_MINUTES):
        raise ValueError(f"found {text!r}, which has no length or begins at 24:00; {HELP}")
    length = (end - begin) % DAY_MINUTES or DAY_MINUTES
    out = set[Span]()
    for day in _days(found[1]):
        start = day * DAY_MINUTES + begin
        stop = start + length
        out.add(Span(start, min(stop, WEEK_MINUTES)))
        if stop > WEEK_MINUTES:
            out.add(Span(0, stop - WEEK_MINUTES))
    return sorted(out)


def _minutes(clock: str, text: str) -> int:
    hours, minutes = map(int, clock.split(":"))
    if hours * 60 + minutes > DAY_MINUTES:
        raise ValueError(f"found {text!r}, with a time after 24:00; {HELP}")
    return hours * 60 + minutes


def _days(text: str) -> set[int]:
    """Return the numbers of days, Monday 0, of a text such as `Mon-Wed,Sun`."""
    out = set[int]()
    for part in re.sub(r"\s", "", text).split(","):
        first, *others = (DAYS.index(name) for name in part.split("-"))
        if len(others) > 1:
            raise ValueError(f"found the days {part!r}; {HELP}")
        last = others[0] if others else first
        out |= {day % 7 for day in range(first, last + 1 + 7 * (last < first))}
    return out


def _weekly(text: str) -> str:
    weekly_spans(text)
    return text.strip()


def _time(value: object) -> object:
    """Return a time as text, in the form in which the file has it; YAML reads some texts as times."""
    if isinstance(value, datetime | date):
        value = value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return value
    raise ValueError(f"found {value!r}; write a time such as '2026-08-10T06:00', or with its offset from UTC")


def as_time(text: str, zone: zoneinfo.ZoneInfo) -> datetime:
    """Return the time of an ISO 8601 text; without an offset it is in `zone`."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=zone) if found.tzinfo is None else found


def _zone(value: str | None) -> str | None:
    try:
        zoneinfo.ZoneInfo(value or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"found {value!r}; write an IANA name such as 'Asia/Tokyo'") from error
    return value


Time = Annotated[str, BeforeValidator(_time)]


class Control(Section):
    """A topic on which planned stops are announced while the flow runs: by `ssm-stream mute`, or by any other system.
    `true` stands for a section without keys."""

    topic: Topic | None = None
    """Topic of the messages `{"entity": "pump-3", "from": TIME, "to": TIME, "reason": TEXT, "by": TEXT}`. Null: the
    events topic's name with `-control` at its end."""


class Maintenance(Section):
    """A planned stop: a window of event time in which alerts are not raised, but kept as suppressed. Every week, or
    once."""

    entities: EntityPattern = "*"
    """Entities that stop: a name, or a pattern such as `pump-*`."""
    weekly: Annotated[str, Field(pattern=WEEKLY.pattern), AfterValidator(_weekly)] | None = None
    """Days and times on the clock of `time_zone`: `Sun 06:00-18:00`, `Sat,Sun 00:00-24:00`, `Mon-Fri 22:00-06:00` (over
    midnight: it belongs to the day on which it begins)."""
    begin: Annotated[Time | None, Field(alias="from")] = None
    """In place of `weekly`, one window: from this time, `2026-08-10T06:00` (without an offset in `time_zone`), …"""
    end: Annotated[Time | None, Field(alias="to")] = None
    """… to this one, which no longer belongs to it."""
    time_zone: Annotated[str | None, AfterValidator(_zone)] = None
    """IANA name of the zone of these times. Null: that of `event.time_zone`."""
    learn: LearnInWindow = "hold"
    """`hold`: events of the window are predicted, and neither learned nor judged; `adapt`: they are."""
    limits: bool = False
    """Suppress the alerts of `alerts.limits`, too. A limit is a matter of safety, so that they are raised otherwise."""

    @model_validator(mode="after")
    def _weekly_or_once(self) -> Maintenance:
        once = (self.begin, self.end)
        if self.weekly is not None and once != (None, None):
            raise ValueError("found weekly together with from or to; write either, and another entry for the other")
        if self.weekly is None and None in once:
            raise ValueError("found no weekly, and not both from and to; a window is `weekly`, or has `from` and `to`")
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        when = {"weekly": self.weekly} if self.weekly is not None else {"from": self.begin, "to": self.end}
        zone = {} if self.time_zone is None else {"time_zone": self.time_zone}
        return {"entities": self.entities, **when, **zone, "learn": self.learn, "limits": self.limits}

    @property
    def text(self) -> str:
        """`Sun 06:00-18:00`, or `2026-08-10T06:00 to 2026-08-12T18:00`: names the window to a person."""
        when = self.weekly or f"{self.begin} to {self.end}"
        return when if self.time_zone is None else f"{when} {self.time_zone}"
