"""Anomaly channels that other packages bring: functions of Python, called by the core for each event that is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson


class ChannelEvent(NamedTuple):
    """An event that a channel scores.

    ts: ms since 1970 UTC; y, yhat: target and prediction
    features: the numeric inputs by name, NaN = unknown
    budget: mean events between two false alarms that the channel is allowed: a score above 1 is to be that rare
    """

    entity: str
    ts: int
    y: float
    yhat: float
    features: Mapping[str, float]
    budget: float


Channel = Callable[[Any, ChannelEvent], tuple[float, Any]]
"""Takes its state of the entity (None at first) and an event; returns a score, 0 or more, and the state from then on.

A score above 1 is anomalous. The state has only what JSON has: it is part of the snapshot. The function must return
equal results for equal arguments, in every process. It is called for every labelled event of an entity but the first,
in order, whatever the batches.
"""


class ChannelError(RuntimeError):
    """A channel failed. The text names the channel, the entity and the event."""


class OwnChannels:
    """The own channels of one target, and their states of each entity.

    Args:
        functions: by name, in the order of the configuration
        names: of the entities by row, the list that the store keeps up to date
        features: names of the numeric inputs
    """

    def __init__(self, functions: Mapping[str, Channel], names: Sequence[str], features: Sequence[str]) -> None:
        self.channels = list(functions)
        self._functions = list(functions.items())
        self._names, self._features = names, features
        self._states: dict[str, list[Any]] = {}

    def __call__(
        self, row: int, ts: float, y: float, yhat: float, features: Sequence[float], budget: float
    ) -> tuple[float, int]:
        """Return the highest score and the number of its channel. Raises ChannelError."""
        entity = self._names[row]
        states = self._states.setdefault(entity, [None] * len(self._functions))
        event = ChannelEvent(entity, int(ts), y, yhat, dict(zip(self._features, features, strict=True)), budget)
        best, at = 0.0, 0
        for i, (name, function) in enumerate(self._functions):
            try:
                found, states[i] = function(states[i], event)
                score = float(found)
            except Exception as error:
                raise ChannelError(
                    f"channel {name!r} failed at the event of {entity!r} at {event.ts} ms: "
                    f"{type(error).__name__}: {error}"
                ) from error
            if math.isnan(score) or score < 0.0:
                raise ChannelError(
                    f"channel {name!r} returned the score {score} for the event of {entity!r} at {event.ts} ms; it "
                    "must be 0 or more"
                )
            if score > best:
                best, at = score, i
        return best, at

    def reset(self, entity: str) -> None:
        """Remove the states of an entity, which starts afresh."""
        self._states.pop(entity, None)

    def dump_one(self, entity: str) -> bytes:
        """Return the states of an entity as JSON."""
        return self._json({entity: self._states.get(entity)})

    def dump(self, entities: Iterable[str]) -> bytes:
        """Return the states of entities, for `load`. Raises ChannelError: a state is not what JSON has."""
        states = {entity: self._states[entity] for entity in entities if entity in self._states}
        return orjson.dumps([self.channels, orjson.Fragment(self._json(states))])

    def load(self, data: bytes, entities: Iterable[str]) -> None:
        """Load what `dump` returned of these entities; a channel that it lacks starts afresh."""
        channels, states = orjson.loads(data)
        places = [channels.index(name) if name in channels else None for name in self.channels]
        for entity in entities:
            own = states.get(entity)
            if own is None:
                self.reset(entity)
            else:
                self._states[entity] = [None if at is None else own[at] for at in places]

    def _json(self, states: dict[str, Any]) -> bytes:
        try:
            data = orjson.dumps(states)
            equal = orjson.loads(data) == states
        except TypeError as error:
            raise ChannelError(f"{self._named}: a state cannot be stored as JSON: {error}") from error
        if not equal:
            raise ChannelError(
                f"{self._named}: a state is not the same after a restart; it may have only what JSON has (no tuples, "
                "no NaN)"
            )
        return data

    @property
    def _named(self) -> str:
        return f"channel {', '.join(map(repr, self.channels))}"
