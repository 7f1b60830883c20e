"""A recorded file → the events topic, as a Bytewax flow: python -m bytewax.run flows.replay

SSM_STREAM_CONFIG is the YAML file, SSM_STREAM_FILE the recording. With `-r DIRECTORY` a restart continues where the
last run ended. `ssm-stream replay` does the same with a progress bar, a rate and the recorded speed.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from ssm_stream.config import Config, load_config
from ssm_stream.evaluate import recordings
from ssm_stream.kafka.client import client_properties
from ssm_stream.kafka.replay import RowProducer

CHUNK = 1000
Row = dict[str, Any]


class RecordingPartition(StatefulSourcePartition[list[Row], int]):
    """Reads one file, a chunk of rows at a time; its state is the number of rows read."""

    def __init__(self, path: str, read: int) -> None:
        self._read = read
        self._rows = itertools.islice(recordings.Recording(path), read, None)

    def next_batch(self) -> list[list[Row]]:
        chunk = list(itertools.islice(self._rows, CHUNK))
        if not chunk:
            raise StopIteration
        self._read += len(chunk)
        return [chunk]

    def snapshot(self) -> int:
        return self._read


class Recording(FixedPartitionedSource[list[Row], int]):
    def __init__(self, path: str) -> None:
        self._path = path

    def list_parts(self) -> list[str]:
        return [self._path]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> RecordingPartition:
        return RecordingPartition(for_part, resume_state or 0)


class TopicPartition(StatefulSinkPartition[list[Row], None]):
    """Produces rows. The broker acknowledges a chunk before the flow continues: no stored position is ahead of it."""

    def __init__(self, config: Config) -> None:
        self._producer = RowProducer(client_properties(config.source), config.source.topic, config.event)

    def write_batch(self, chunks: list[list[Row]]) -> None:
        for row in itertools.chain.from_iterable(chunks):
            self._producer.send(row)
        self._producer.flush()

    def snapshot(self) -> None:
        return None


class Topic(FixedPartitionedSink[list[Row], None]):
    def __init__(self, config: Config) -> None:
        self._config = config

    def list_parts(self) -> list[str]:
        return ["producer"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> TopicPartition:
        return TopicPartition(self._config)


settings = load_config(os.environ.get("SSM_STREAM_CONFIG", "ssm-stream.yaml"))
flow = Dataflow("replay")
recording = op.input("recording", flow, Recording(os.environ["SSM_STREAM_FILE"]))
op.output("topic", op.key_on("one_producer", recording, lambda _: "producer"), Topic(settings))
