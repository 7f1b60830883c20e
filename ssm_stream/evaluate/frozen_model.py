"""The production engine, frozen: it learns for a while, and predicts from then on with what it learned."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.prequential import batches
from ssm_stream.evaluate.recordings import Recording


class FrozenPredictions(NamedTuple):
    """Times in ms: of the first event, at which learning ends, of the last event; predictions by entity and time."""

    begin: int
    until: int
    end: int
    yhat: dict[tuple[str, int], float]


def predict_frozen(config: Config, recording: Recording, learns: int) -> FrozenPredictions:
    """Return the predictions of an engine that learns for `learns` ms from the recording's first event on.

    Until then they are those of the engine that goes on learning. From then on it gets no target, so that nothing can
    change it; an entity that comes later is predicted with what the others taught. No prediction depends on a later
    event.

    Args:
        recording: in the order of its times

    Raises:
        ValueError: `event.lags` is not 0: without targets an engine has no lags.
    """
    if config.event.lags != 0:
        raise ValueError(f"event.lags: found {config.event.lags}; an engine without targets needs 0")
    engine, yhat = Engine(config), dict[tuple[str, int], float]()
    begin: int | None = None
    end = 0
    for events, *_ in batches(config, recording):
        if not len(events):
            continue
        begin = int(events.ts[0]) if begin is None else begin
        end = int(events.ts[-1])
        withheld = replace(events, target=np.where(events.ts < begin + learns, events.target, np.nan))
        predicted = engine.process(withheld)[0].yhat
        yhat.update(zip(zip(events.entity, events.ts.tolist(), strict=True), predicted.tolist(), strict=True))
    begin = begin or 0
    return FrozenPredictions(begin, begin + learns, end, yhat)
