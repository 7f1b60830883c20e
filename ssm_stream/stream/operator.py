"""The engine as a Bytewax operator: one logic, one engine, one snapshot a shard."""

from __future__ import annotations

from collections.abc import Iterable

from bytewax.operators import StatefulBatchLogic

from ssm_stream.config import Config
from ssm_stream.engine import Engine, shard_of
from ssm_stream.stream.codec import Encoder, Judged, LabelBatch, Output, ShardBatch
from ssm_stream.stream.generations import ShardFiles, folder_of, name_in


class ShardLogic(StatefulBatchLogic[ShardBatch | LabelBatch, Judged | Output, bytes]):
    """Predicts and learns the events of one shard, and their labels where these come by themselves.

    A snapshot is the name of a file in the recovery directory; where there is none, the state itself.
    """

    def __init__(self, config: Config, resume_state: bytes | None) -> None:
        folder = folder_of(config)
        self._files = None if folder is None else ShardFiles(folder)
        name = None if resume_state is None else name_in(resume_state)
        if self._files is not None and name is not None:
            self._engine = self._files.restore(config, name)
        else:
            self._engine = Engine(config) if resume_state is None else Engine.restore(config, resume_state)
        self._shards, self._nameless = config.state.shards, name is None
        self._encode = Encoder(config)

    def on_batch(self, values: list[ShardBatch | LabelBatch]) -> tuple[Iterable[Judged | Output], bool]:
        out: list[Judged | Output] = []
        for batch in values:
            if isinstance(batch, LabelBatch):
                out.append(self._encode.labelled(batch, self._engine.learn(batch.labels, batch.partition)))
            else:
                events, refused = self._engine.admit(batch.events, batch.partition)
                if refused:
                    out.append(self._encode.refused(batch, refused))
                batch = batch.only(events, refused)
                if not len(events):
                    continue
                out.append(Judged(batch, *self._engine.process(events, batch.partition)))
            if unmatched := self._engine.take_unmatched():
                out.append(self._encode.unmatched(batch, unmatched))
        if self._nameless and self._files is not None:
            first = values[0]
            names = first.labels.entity if isinstance(first, LabelBatch) else first.events.entity
            self._files.take(shard_of(names[0], self._shards))
            self._nameless = False
        return out, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        return self._engine.snapshot() if self._files is None else self._files.write(self._engine)
