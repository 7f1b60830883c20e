"""Operators' verdicts on the alarms of a pilot: whether each was right, but not for how long anything was wrong."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssm_stream.config import Config
from ssm_stream.evaluate.alarm_matching import Alarm
from ssm_stream.evaluate.engine_run import Floats
from ssm_stream.evaluate.pilot.alarm_tally import Blocks
from ssm_stream.evaluate.recordings.files import RecordingError
from ssm_stream.ingest.verdicts import FeedbackError, FeedbackReader, Verdict


class JudgedAlarms(NamedTuple):
    """Alarms of the judged part that have a verdict."""

    right: dict[int, bool]
    """By place among these alarms."""
    counts: Floats
    """(B, 2) false and right ones by block."""

    @property
    def false(self) -> int:
        """Number of false ones."""
        return sum(not right for right in self.right.values())


def read_feedback(path: Path, config: Config) -> dict[str, bool]:
    """Return whether an alert was right by its id, of messages as on the feedback topic, one a line; the last counts.

    Raises:
        RecordingError: names the line, what was found, and the cure.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; give the path of a file of verdicts, JSON lines")
    read, out = FeedbackReader(config), dict[str, bool]()
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                found = read(line)
            except FeedbackError as error:
                raise RecordingError(f"{path}:{number}: {error}") from None
            if isinstance(found, Verdict):
                out[found.alert] = found.true
    if not out:
        raise RecordingError(f'{path}: no verdicts; write one a line: {{"id": ALERT_ID, "true": false}}')
    return out


def judge_alarms(alarms: list[Alarm], verdicts: dict[str, bool], blocks: Blocks) -> JudgedAlarms:
    """Return the alarms that have a verdict. alarms: of the judged part

    Raises:
        RecordingError: no verdict is about any of them.
    """
    right, counts = dict[int, bool](), np.zeros((len(blocks.start), 2))
    for i, alarm in enumerate(alarms):
        verdict = verdicts.get(alarm.message["episode"])
        if verdict is not None:
            right[i] = verdict
            counts[blocks.of(alarm.entities[0], alarm.ts), int(verdict)] += 1
    if not right:
        known = alarms[0].message["episode"] if alarms else None
        example = f"its alarms have ids such as {known}" if known else "it has no alarm in its judged part"
        raise RecordingError(f"no verdict is about an alarm of this run: {example} (`id` of `alerts` in the report)")
    return JudgedAlarms(right, counts)
