"""A recording → the events topic.

    python -m bytewax.run "flows.replay:build('monitor.yaml', 'recording.csv')"

With `-r DIRECTORY` a restart continues where the last run ended. `ssm-stream replay` does the same with a progress bar,
a rate and the recorded speed.
"""

from __future__ import annotations

import itertools
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from ssm_stream.config import Config, load_config
from ssm_stream.kafka.client import client_properties
from ssm_stream.kafka.formats.rows import row_encoder
from ssm_stream.kafka.replay import RowProducer, encode_row

CHUNK = 1000
Row = dict[str, Any]


def build(config: str, file: str) -> Dataflow:
    """Return the dataflow. Nothing is opened before it runs.

    Args:
        config: path of the configuration, whose `source` is the topic
        file: recording with a row an event: CSV, JSON lines or Parquet

    Raises:
        ConfigError: the configuration cannot be used.
    """
    settings, flow = load_config(config), Dataflow("replay")
    rows = op.input("recording", flow, Recording(file))
    op.output("topic", op.key_on("one_producer", rows, lambda _: "producer"), Topic(settings))
    return flow


class RecordingPartition(StatefulSourcePartition[list[Row], int]):
    """Reads one file, a chunk of rows at a time; its state is the number of rows read."""

    def __init__(self, path: str, read: int) -> None:
        from ssm_stream.evaluate.recordings import Recording  # brings polars, which takes a while

        self._read = read
        self._rows = itertools.islice(Recording(path), read, None)

    def next_batch(self) -> list[list[Row]]:
        chunk = list(itertools.islice(self._rows, CHUNK))
        if not chunk:
            raise StopIteration
        self._read += len(chunk)
        return [chunk]

    def snapshot(self) -> int:
        return self._read


class Recording(FixedPartitionedSource[list[Row], int]):
    """A file, as the only partition of a source."""

    def __init__(self, path: str) -> None:
        self._path = path

    def list_parts(self) -> list[str]:
        return [self._path]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> RecordingPartition:
        return RecordingPartition(for_part, resume_state or 0)


class TopicPartition(StatefulSinkPartition[list[Row], None]):
    """Produces rows. The broker acknowledges a chunk before the flow continues: no stored position is ahead of it."""

    def __init__(self, config: Config) -> None:
        properties, encode = client_properties(config.source), row_encoder(config) or encode_row
        self._producer = RowProducer(properties, config.source.topic, config.event, encode)

    def write_batch(self, chunks: list[list[Row]]) -> None:
        for row in itertools.chain.from_iterable(chunks):
            self._producer.send(row)
        self._producer.flush()

    def snapshot(self) -> None:
        return None


class Topic(FixedPartitionedSink[list[Row], None]):
    """The events topic, written by one producer."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def list_parts(self) -> list[str]:
        return ["producer"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> TopicPartition:
        return TopicPartition(self._config)
