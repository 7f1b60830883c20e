"""Estimators in the conventions of River: they learn and predict one event at a time.

    from river import compose, preprocessing
    import ssm_stream

    model = compose.Pipeline(preprocessing.StandardScaler(), ssm_stream.Regressor())

Where River is installed they derive from its base classes, because its pipelines, its evaluation and its checks decide
by `isinstance`. Where it is not, they are the same without River's further methods: nothing here needs it. A pickle
made in one of the two can be loaded in the other.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import warnings
from collections import deque
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssm_stream.config import MAX_NAME_LENGTH, Config, Event
from ssm_stream.core import error_scale, interval, shapes
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import EventReader, FaultError, text_code
from ssm_stream.ingest.json_values import abbreviated, is_utf8, plain_value
from ssm_stream.ingest.single_event import SingleEvent, feature_number, to_events, usual_number

MAX_HISTORY = 500
"""Last events that an estimator holds, from which a model with a new feature learns."""
MAX_FEATURES = 256
"""Features of a model: the cost of an event grows with them."""
MAX_WATCHED = 64
"""Features that `AnomalyDetector` watches at most: there is a model for each."""
MAX_SCORE = 1e6
EVENT_GAP = 1000
"""ms between two events where no feature is their time."""
AS_BEFORE = ", as in the events before"
LIMITS = {"lags": (0, 64), "budget": (20, 10**12), "warmup": (10, 100_000)}
"""Of the parameters, as of the keys of the configuration that they become."""
NAMELESS = "all"
"""Name of the one entity where no feature names it."""


class _Estimator:
    """The methods of River's base class that matter without it: parameters and clones."""

    def _get_params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def clone(self, new_params: dict[str, Any] | None = None, include_attributes: bool = False) -> Any:
        """Return a new estimator with the same parameters. include_attributes: with what it has learned, too"""
        if include_attributes and not new_params:
            return copy.deepcopy(self)
        return type(self)(**self._get_params() | (new_params or {}))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._get_params().items())})"


if TYPE_CHECKING:

    class _RegressorBase(_Estimator): ...

    class _DetectorBase(_Estimator): ...

else:
    try:
        from river.base import Regressor as _RegressorBase
    except ImportError:
        _RegressorBase = _DetectorBase = _Estimator
    else:
        try:
            from river.base import AnomalyDetector as _DetectorBase
        except ImportError:  # River up to 0.25
            from river.anomaly.base import AnomalyDetector as _DetectorBase


class _Learned(NamedTuple):
    """An event that was learned. x: its features; y: the target of a regressor"""

    entity: str
    ts: int
    x: dict[Hashable, Any]
    y: float


class _Model(NamedTuple):
    """A model of one target: y, or a feature (`watched`) that is predicted from the others."""

    engine: Engine
    watched: Hashable | None = None
    column: int | None = None
    """Of `watched` among the numbers, where it is left out."""

    def event(self, at: tuple[str, int], values: _Values, y: float) -> SingleEvent:
        """Return an event of this model. at: entity and time"""
        features = values.features
        if self.column is not None:
            y, features = features[self.column], features[: self.column] + features[self.column + 1 :]
        return SingleEvent(*at, features, (y,), values.texts)


class _Values(NamedTuple):
    """The values of an event's features: the numbers, then the codes of categories; and the texts of these."""

    features: list[float]
    texts: dict[float, str] | None


class _OnlineModel:
    """What the estimators have in common: features that come and go, and the models of their targets."""

    entity: str | None
    timestamp: str | None
    lags: int
    _budget: int | None = None
    _warmup: int | None = None

    def _start(self) -> None:
        """Begin without events. Raises ValueError: a parameter is out of its limits."""
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name, low)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not (whole and low <= value <= high):
                raise ValueError(f"{name}: found {abbreviated(value)}; give a whole number from {low:,} to {high:,}")
        self._numbers: list[Hashable] = []
        self._categories: list[Hashable] = []
        self._known: set[Hashable] = {key for key in (self.entity, self.timestamp) if key is not None}
        self._history: deque[_Learned] = deque(maxlen=MAX_HISTORY)
        self._count = 0
        self._models: list[_Model] = []

    # Features.

    def _add_features(self, x: Mapping[Hashable, Any]) -> None:
        """Add the features that have their first value in an event; the models then learn the history again, with them.
        Raises ValueError: a value cannot be used, and nothing has changed."""
        new = [key for key in x.keys() - self._known if plain_value(x[key]) is not None]
        used = len(self._numbers) + len(self._categories)
        if used == MAX_FEATURES or (self._models and not new):
            return
        before = self._numbers, self._categories, self._known
        self._numbers, self._categories, self._known = self._numbers[:], self._categories[:], self._known.copy()
        try:
            for key in sorted(new, key=lambda key: (str(key), str(type(key))))[: MAX_FEATURES - used]:
                (self._categories if isinstance(x[key], str) else self._numbers).append(key)
                self._known.add(key)
            self._values(x)
            self._models = self._restarted()
        except BaseException:
            self._numbers, self._categories, self._known = before
            raise
        if used + len(new) >= MAX_FEATURES:
            text = f"{type(self).__name__}: more than {MAX_FEATURES} features; those that come from now on are not used"
            warnings.warn(text, stacklevel=4)

    def _restarted(self) -> list[_Model]:
        """Return new models, which have learned the history."""
        models = [_Model(Engine(config), watched, column) for config, watched, column in self._plans()]
        events = [((each.entity, each.ts), self._values(each.x), each.y) for each in self._history]
        for model in models if events else ():
            model.engine.process(to_events([model.event(*event) for event in events]))
        return models

    def _plans(self) -> list[tuple[Config, Hashable | None, int | None]]:
        """Return the configuration of each model, the feature that it watches and that one's column."""
        return [(self._config(len(self._numbers), 1), None, None)]

    def _config(self, numbers: int, models: int) -> Config:
        """Return the configuration of a model with so many numbers, one of so many models."""
        features = [f"x{i}" for i in range(numbers)]
        categories = [f"c{i}" for i in range(len(self._categories))]
        lags = int(self.lags) if features or categories else max(int(self.lags), 1)
        names = {"entity": "entity", "timestamp": "ts", "target": "y"}
        event = {**names, "features": features, "categories": categories, "lags": lags}
        if self.timestamp is None:
            event["calendar"] = []
        alerts: dict[str, Any] = {"anomaly": {"enabled": False}, "drift": {"enabled": False}}
        if self._budget is not None:
            alerts["anomaly"]["budget"] = f"1 per {models * self._budget} events"
        model = {} if self._warmup is None else {"warmup": int(self._warmup)}
        source = {"brokers": "unused:9092", "topic": "unused"}
        return Config.model_validate({"source": source, "event": event, "model": model, "alerts": alerts})

    # Events.

    def _place(self, x: Mapping[Hashable, Any]) -> tuple[str, int]:
        """Return the entity and the time, ms, of an event. Raises ValueError."""
        entity = NAMELESS
        if self.entity is not None:
            given = x.get(self.entity)
            entity = "" if plain_value(given) is None else str(given)
            if not (0 < len(entity) <= MAX_NAME_LENGTH and (entity.isascii() or is_utf8([entity]))):
                expected = f"it must name the entity, in at most {MAX_NAME_LENGTH} characters of UTF-8"
                raise ValueError(f"entity: found {abbreviated(given)} as {self.entity!r}; {expected}")
        if self.timestamp is None:
            return entity, self._count * EVENT_GAP
        value = x.get(self.timestamp)
        try:
            return entity, _time_reader().read_time(plain_value(value))
        except FaultError:
            reason = f"found {abbreviated(value)} as {self.timestamp!r}; it must be a time, ISO 8601 text or a number"
            raise ValueError(f"timestamp: {reason}") from None

    def _values(self, x: Mapping[Hashable, Any]) -> _Values:
        """Return the values of the features in use; those that the event lacks are unknown (NaN). Raises ValueError."""
        features = []
        for key in self._numbers:
            number = usual_number(x.get(key))
            features.append(feature_number(key, x[key], AS_BEFORE) if number is None else number)
        texts: dict[float, str] = {}
        for key in self._categories:
            value = x.get(key)
            if isinstance(value, str):
                text = value[:MAX_NAME_LENGTH]
                if not (text.isascii() or is_utf8([text])):
                    raise ValueError(f"feature {key!r}: found {abbreviated(value)}; it must be text of UTF-8")
                code = text_code(text)
                texts[code] = text
            else:
                code = math.nan if value is None else feature_number(key, value)
            features.append(code)
        return _Values(features, texts or None)

    def _learn(self, x: Mapping[Hashable, Any], y: float) -> None:
        at = self._place(x)
        if not (self._models and x.keys() <= self._known):
            self._add_features(x)
        values = self._values(x)
        for model in self._models:
            _process(model.engine, model.event(at, values, y))
        self._history.append(_Learned(*at, dict(x), y))
        self._count += 1


@functools.cache
def _time_reader() -> EventReader:
    return EventReader(Event(entity="entity", timestamp="ts"))


def _process(engine: Engine, event: SingleEvent) -> tuple[float, float]:
    """Process an event; return its prediction and anomaly score."""
    found = engine.process_one(event)
    if found is not None:
        values = found[0][0]
        return values[0], values[3]
    predictions, _ = engine.process(to_events([event]))
    return float(predictions.yhat[0]), float(predictions.score[0])


class Regressor(_OnlineModel, _RegressorBase):
    """Predicts a number by the state-space model of this package, which adapts with each event.

    The features may come and go: one that an event lacks is unknown in it. With a feature that is new, the model starts
    again and learns the last 500 events with it. A feature whose first known value is text is a category.

    Parameters
    ----------
    entity
        Feature that names the machine, sensor or line of an event. Each has a state of its own, and they learn
        together. None: all events are of one.
    timestamp
        Feature with the time of an event: a datetime, ISO 8601 text or a number since 1970. None: events are a second
        apart, and the hour and the weekday are no inputs.
    lags
        Past targets that are inputs, up to 64; 0 for a prediction by the features alone.

    Examples
    --------
    >>> model = Regressor()
    >>> for i in range(300):
    ...     model.learn_one({"load": i % 5}, 20 + 3 * (i % 5))
    >>> round(model.predict_one({"load": 2}))
    26
    """

    def __init__(self, entity: str | None = None, timestamp: str | None = None, lags: int = 8) -> None:
        self.entity, self.timestamp, self.lags = entity, timestamp, lags
        self._start()

    def learn_one(self, x: Mapping[Hashable, Any], y: float) -> None:
        """Learn one event. x: its features; y: its target. Raises ValueError: a value cannot be used."""
        target = usual_number(y)
        self._learn(x, feature_number("y", y) if target is None else target)

    def predict_one(self, x: Mapping[Hashable, Any]) -> float:
        """Return the prediction for an event; 0 before the first. Raises ValueError: a value cannot be used."""
        if not self._models:
            return 0.0
        model, at = self._models[0], self._place(x)
        engine, event = model.engine, model.event(at, self._values(x), math.nan)
        if at[0] in engine:
            return _process(engine, event)[0]
        if len(engine) == 1:  # the second entity of a pool begins what all of them learn in common
            return _process(copy.deepcopy(engine), event)[0]
        predicted, _ = _process(engine, event)
        engine.remove(at[0])
        return predicted


class AnomalyDetector(_OnlineModel, _DetectorBase):
    """Scores events by how far a feature lies from its prediction, by the other features and its own past.

    A score above 1 is anomalous: one in `budget` events has one while nothing changes. The first `warmup` events
    of an entity have the score 0. Features may come and go as with `Regressor`.

    Parameters
    ----------
    target
        Feature that is watched. None: each numeric one, by a model for each, and the score is the highest of them; an
        event then costs in proportion to their number.
    entity, timestamp, lags
        As of `Regressor`.
    budget
        Events among which one false alarm is allowed, at least 20; with several models, one of all together.
    warmup
        Events of an entity before it has scores, from 10 to 100,000.

    Examples
    --------
    >>> detector = AnomalyDetector("temp")
    >>> for i in range(300):
    ...     detector.learn_one({"load": i % 5, "temp": 20 + 3 * (i % 5) + 0.1 * (i % 7)})
    >>> detector.score_one({"load": 2, "temp": 26.2}) < 1 < detector.score_one({"load": 2, "temp": 40})
    True
    """

    def __init__(
        self,
        target: str | None = None,
        entity: str | None = None,
        timestamp: str | None = None,
        lags: int = 8,
        budget: int = 10_000,
        warmup: int = 100,
    ) -> None:
        self.target, self.entity, self.timestamp, self.lags = target, entity, timestamp, lags
        self.budget, self.warmup = budget, warmup
        self._start()

    @property
    def _budget(self) -> int:  # type: ignore[override]
        return self.budget

    @property
    def _warmup(self) -> int:  # type: ignore[override]
        return self.warmup

    def _plans(self) -> list[tuple[Config, Hashable | None, int | None]]:
        watched = self._numbers[:MAX_WATCHED] if self.target is None else [self.target]
        if not set(watched) & set(self._numbers):  # nothing is known yet of what is watched
            return []
        if len(watched) < len(self._numbers) and self.target is None:
            warnings.warn(f"AnomalyDetector: only {MAX_WATCHED} of the features are watched", stacklevel=6)
        config = self._config(len(self._numbers) - 1, len(watched))
        return [(config, key, self._numbers.index(key)) for key in watched if key in self._numbers]

    def learn_one(self, x: Mapping[Hashable, Any]) -> None:
        """Learn one event. x: its features. Raises ValueError: a value cannot be used."""
        if self.target is not None and isinstance(watched := x.get(self.target), str):
            feature_number(self.target, watched, ", as it is watched")
        self._learn(x, math.nan)

    def score_one(self, x: Mapping[Hashable, Any]) -> float:
        """Return the anomaly score of an event, which is that of `Engine` if it is learned next.

        Raises ValueError: a value cannot be used.
        """
        if not self._models:
            return 0.0
        at, values = self._place(x), self._values(x)
        return max(_score(model.engine, model.event(at, values, math.nan)) for model in self._models)


def _score(engine: Engine, event: SingleEvent) -> float:
    """Return the anomaly score that an event would have, and learn nothing."""
    if math.isnan(y := event.targets[0]):
        return 0.0
    store = engine.target_engines[0].store
    row = store.row_by_name.get(event.entity)
    if row is None or store.state.learner.n[row] < engine.config.model.warmup:
        return 0.0
    _process(engine, event._replace(targets=(math.nan,)))
    pool, rate = store.pool_of(row, 0), 1.0 / engine.config.alerts.anomaly.budget.events
    # The prediction has left in the scratch the answer that is judged, which no dead band holds, and its scale.
    answer = float(store.scratch.judged[0])
    room = store.scratch.error_scale[error_scale.ROOM :].ravel()
    scale, wider = float(room[error_scale.UPPER if y > answer else error_scale.LOWER]), float(room[error_scale.WIDER])
    own, step = store.state.error_scale.number[row], store.shared.error_scale.number[pool, error_scale.STEP]
    known = store.shared.error_scale.tail[pool], (float(own[error_scale.SEEN]), scale)
    bound = scale * wider * interval.anomaly_bound(store.state.interval, row, rate, *known)
    first = own[error_scale.SIZE] <= 0.0 and bool(store.state.error_scale.rest[row, error_scale.STANDING])
    moved = 2.0 * abs(answer - float(own[error_scale.TARGET])) if first else 0.0
    bound = max(bound, 1e-9 * max(abs(y), abs(answer)) + 1e-300, 0.5 * float(step), moved)  # as in process.cpp
    return min(abs(y - float(np.clip(answer, *store.scratch.base[[shapes.LEAST, shapes.MOST]]))) / bound, MAX_SCORE)
