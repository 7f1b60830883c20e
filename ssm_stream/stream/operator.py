"""The engine as a Bytewax operator: one logic, one engine, one snapshot a shard."""

from __future__ import annotations

from collections.abc import Iterable

from bytewax.operators import StatefulBatchLogic

from ssm_stream.config import Config
from ssm_stream.engine import Engine
from ssm_stream.stream.codec import Encoder, Judged, LabelBatch, Output, ShardBatch


class ShardLogic(StatefulBatchLogic[ShardBatch | LabelBatch, Judged | Output, bytes]):
    """Predicts and learns the events of one shard, and their labels where these come by themselves."""

    def __init__(self, config: Config, resume_state: bytes | None) -> None:
        self._engine = Engine(config) if resume_state is None else Engine.restore(config, resume_state)
        self._encode = Encoder(config)

    def on_batch(self, values: list[ShardBatch | LabelBatch]) -> tuple[Iterable[Judged | Output], bool]:
        out: list[Judged | Output] = []
        for batch in values:
            if isinstance(batch, LabelBatch):
                out.append(self._encode.labelled(batch, self._engine.learn(batch.labels, batch.partition)))
            else:
                out.append(Judged(batch, *self._engine.process(batch.events, batch.partition)))
            if unmatched := self._engine.take_unmatched():
                out.append(self._encode.unmatched(unmatched))
        return out, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        return self._engine.snapshot()
