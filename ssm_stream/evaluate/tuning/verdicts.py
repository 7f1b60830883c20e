"""Operators' verdicts on the alarms of a recording: which alarm of a replay each is about, and what others raise.

An alarm is found by the place of its event in the topic, which its id has, and its kind. The replay need not raise it
at that very event, as it may have learned from another point on: an alarm of the entity and kind that is open at the
event, or that begins within NEAR of its events, stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ssm_stream.config import Source
from ssm_stream.evaluate.alarm_matching import Alarm
from ssm_stream.evaluate.engine_run import EngineRun
from ssm_stream.ingest.verdicts import ALERT_ID

NEAR = 20
"""Usual gaps of an entity by which an alarm may begin earlier or later than the one that a verdict is about."""
FOREVER = 2**62


class JudgedAlarm(NamedTuple):
    """An alarm of the replay as configured, and what an operator called it."""

    id: str
    """Of the alert that the verdict is about."""
    true: bool
    alarm: Alarm

    @property
    def stretch(self) -> tuple[int, int]:
        """Its begin and end, ms."""
        return self.alarm.ts, FOREVER if self.alarm.end is None else self.alarm.end

    def raised_by(self, alarms: list[Alarm]) -> list[Alarm]:
        """Return those of a replay's alarms that call a person about it.

        They begin while it lasts, or are of its kind and open when it begins; they are of its entity, or of a fleet
        with it. For one that was called false only its kind counts, as another kind may be right at the time.
        """
        begin, end = self.stretch
        return [
            each
            for each in alarms
            if set(each.entities) & set(self.alarm.entities)
            and (each.kind == self.alarm.kind or self.true)
            and (
                begin <= each.ts <= end
                or (each.kind == self.alarm.kind and each.ts < begin <= (FOREVER if each.end is None else each.end))
            )
        ]


class Located(NamedTuple):
    """Verdicts by what became of them.

    elsewhere: on events that the recording does not have; absent: on alarms that its replay does not raise
    others: on alerts of other rules, such as limits
    """

    judged: list[JudgedAlarm]
    elsewhere: int
    absent: list[str]
    others: int

    @property
    def false(self) -> list[JudgedAlarm]:
        """The alarms called false."""
        return [each for each in self.judged if not each.true]

    @property
    def right(self) -> list[JudgedAlarm]:
        """The alarms called true."""
        return [each for each in self.judged if each.true]


def locate(
    verdicts: Mapping[str, bool],
    run: EngineRun,
    row_by_place: Mapping[tuple[int, int], int] | None = None,
    source: Source | None = None,
) -> Located:
    """Return the alarms of a run that verdicts are about; of two on one alarm, the one that calls it true counts.

    Args:
        verdicts: whether it was right, by the id of an alert
        row_by_place: row of the file by partition and offset; None: the only partition is 0, and an offset is a row
        source: of the configuration, where it has several topics
    """
    index = {row: i for i, row in enumerate(run.position.tolist())}
    alarms, gaps = run.alarms(), _gaps(run)
    judged: dict[int, JudgedAlarm] = {}
    elsewhere, others, absent = 0, 0, list[str]()
    for name, true in verdicts.items():
        found = ALERT_ID.fullmatch(name)
        assert found is not None, "the reader checked it"
        rule, number = found["rule"], int(found["partition"])
        place = (number if source is None else source.number(found["topic"], number), int(found["offset"]))
        kind = rule.removesuffix("-fleet")
        if kind not in ("anomaly", "drift"):
            others += 1
            continue
        row = (place[1] if place[0] == 0 else None) if row_by_place is None else row_by_place.get(place)
        at = None if row is None else index.get(row)
        if at is None:
            elsewhere += 1
            continue
        same = [i for i, each in enumerate(alarms) if each.kind == kind and _fleet(each) == rule.endswith("-fleet")]
        i = next((i for i in same if alarms[i].row == at and _own(alarms[i], name)), None)
        if i is None:
            i = _nearest(same, alarms, int(run.entity[at]), int(run.ts[at]), NEAR * gaps[run.entity[at]])
        if i is None:
            absent.append(name)
        elif i not in judged or true:
            judged[i] = JudgedAlarm(name, true, alarms[i])
    return Located([judged[i] for i in sorted(judged)], elsewhere, absent, others)


def none_judged(found: Located, run: EngineRun, verdicts: int) -> str:
    """Return why none of the verdicts is about an alarm of a run, with an example of what would be."""
    alarms = run.alarms()
    example = f"such as {alarms[0].message['episode']}" if alarms else "and it has none"
    return (
        f"none of the {verdicts} verdicts is about an anomaly or drift alarm of this recording, {example}: "
        f"{found.elsewhere} are on events that it does not have, {len(found.absent)} on alarms that its replay does "
        f"not raise, {found.others} on other rules; give the recording of these alarms (--topic or `ssm-stream record`)"
    )


def _fleet(alarm: Alarm) -> bool:
    return bool(alarm.message["scope"] == "fleet")


def _own(alarm: Alarm, name: str) -> bool:
    """Return whether an alarm at the event has the same end of its id, after place and kind."""
    episode: str = alarm.message["episode"] or ""
    return episode.rpartition(alarm.kind)[2] == name.rpartition(alarm.kind)[2]


def _nearest(chosen: list[int], alarms: list[Alarm], entity: int, ts: int, near: float) -> int | None:
    """Return the alarm of an entity that is open at a time, or begins nearest to it."""
    best: tuple[float, int] | None = None
    for i in chosen:
        each = alarms[i]
        if entity not in each.entities:
            continue
        open_then = each.ts <= ts <= (FOREVER if each.end is None else each.end)
        distance = 0.0 if open_then else float(abs(each.ts - ts))
        if distance <= near and (best is None or (distance, i) < best):
            best = distance, i
    return None if best is None else best[1]


def _gaps(run: EngineRun) -> list[float]:
    """Return the median gap of each entity, ms."""
    out = []
    for e in range(len(run.names)):
        gaps = np.diff(np.sort(run.ts[run.entity == e]))
        out.append(float(np.median(gaps)) if len(gaps) else 0.0)
    return out
