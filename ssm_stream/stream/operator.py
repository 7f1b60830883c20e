"""The engine as a Bytewax operator: one logic, one engine, one snapshot a shard."""

from __future__ import annotations

from collections.abc import Iterable

from bytewax.operators import StatefulBatchLogic

from ssm_stream.config import Config
from ssm_stream.engine import Engine
from ssm_stream.stream.codec import Encoder, Output, ShardBatch


class ShardLogic(StatefulBatchLogic[ShardBatch, Output, bytes]):
    """Predicts and learns the events of one shard."""

    def __init__(self, config: Config, resume_state: bytes | None) -> None:
        self._engine = Engine(config) if resume_state is None else Engine.restore(config, resume_state)
        self._encode = Encoder(config)

    def on_batch(self, values: list[ShardBatch]) -> tuple[Iterable[Output], bool]:
        out = []
        for batch in values:
            predictions, alerts = self._engine.process(batch.events, batch.partition)
            out.append(self._encode(batch, predictions, alerts))
        return out, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        return self._engine.snapshot()
