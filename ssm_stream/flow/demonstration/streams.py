"""The streams of the demonstration: the example configurations, their recordings, and the labels of these."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ssm_stream.config import Config, load_config
from ssm_stream.evaluate.examples import Example, example_file
from ssm_stream.evaluate.recordings import count_rows
from ssm_stream.evaluate.true_events import TrueEvent, read_true_events


class DemoStream(NamedTuple):
    """name: of the recording; rows: in it; events: what truly happens, which only the marks of the alarms use"""

    name: str
    config: Config
    recording: Path
    rows: int
    events: list[TrueEvent]


def load_stream(example: Example, config: Path) -> DemoStream:
    """Return an example, with another configuration than its own."""
    loaded = load_config(config)
    labels = example_file(example.labels or "")
    entities = {line.partition(",")[0] for line in labels.read_text(encoding="utf-8").splitlines()}
    events = read_true_events(labels, loaded, entities)
    recording = example_file(example.recording)
    return DemoStream(recording.name.partition(".")[0], loaded, recording, count_rows(recording), events)
