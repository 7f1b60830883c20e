"""The estimators: River's own checks, the engine's bits, features that come and go, and life without River."""

from __future__ import annotations

import datetime
import math
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import ssm_stream
from ssm_stream.estimators import LIMITS, MAX_FEATURES, MAX_HISTORY

Event = tuple[dict[str, Any], float]


class CreditCards:
    """In place of `river.datasets.CreditCard`, which has to be downloaded: numbers, and few of them anomalous."""

    def take(self, n: int) -> Iterator[tuple[dict[str, Any], int]]:
        rng = random.Random(7)
        for i in range(n // 4):
            bad, common = i % 97 == 60, rng.gauss(0, 1)
            values = {f"V{j}": common * (j % 2) + rng.gauss(0, 1) + 6.0 * (bad and j == 2) for j in range(1, 5)}
            yield {"Time": i // 2, **values, "Amount": round(rng.expovariate(0.01), 2)}, int(bad)


@pytest.mark.parametrize("model", [ssm_stream.Regressor, ssm_stream.AnomalyDetector])
def test_river_checks(model: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """River is loaded here and not with this file, which every process that runs tests loads: it takes a second."""
    from river import checks, datasets

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "CreditCard", CreditCards)
        every = list(checks.yield_checks(model()))
    assert len(every) > 10
    assert not model()._unit_test_skips()
    for check in every:
        try:
            check(model())
        except Exception as error:
            error.add_note(check.__name__)
            raise


def events(n: int, seed: int = 0) -> list[Event]:
    rng = np.random.default_rng(seed)
    out: list[Event] = []
    for i in range(n):
        a, b = rng.normal(size=2).tolist()
        out.append(({"a": a, "b": b, "c": ["x", "y"][i % 2]}, 5 + 2 * a - b + i % 2 + 0.1 * float(rng.normal())))
    return out


def test_one_line_of_a_pipeline_is_swapped() -> None:
    from river import compose, datasets, evaluate, linear_model, metrics, preprocessing

    def error(model: Any) -> float:
        return float(evaluate.progressive_val_score(datasets.TrumpApproval(), model, metrics.MAE()).get())

    before = error(compose.Pipeline(preprocessing.StandardScaler(), linear_model.LinearRegression()))
    assert error(compose.Pipeline(preprocessing.StandardScaler(), ssm_stream.Regressor())) < before / 2
    assert error(preprocessing.StandardScaler() | ssm_stream.Regressor(lags=0)) < before / 2
    detector = compose.Pipeline(compose.Discard("Time"), ssm_stream.AnomalyDetector())
    assert evaluate.progressive_val_score(CreditCards().take(8000), detector, metrics.ROCAUC()).get() > 0.9


def engine(lags: int = 8, budget: int = 10_000) -> ssm_stream.Engine:
    event = f"entity: e, timestamp: t, calendar: [], features: [a, b], categories: [c], target: y, lags: {lags}"
    anomaly_alerts = f"anomaly: {{enabled: false, budget: 1 per {budget} events}}"
    return ssm_stream.Engine(
        f"source: {{brokers: 'x:1', topic: t}}\nevent: {{{event}}}\n"
        f"alerts: {{{anomaly_alerts}, drift: {{enabled: false}}}}\n"
    )


@pytest.mark.parametrize("lags", [0, 8])
def test_a_regressor_predicts_what_the_engine_predicts(lags: int) -> None:
    model, stream = ssm_stream.Regressor(lags=lags), events(400)
    expected = engine(lags).run([{"e": "m", "t": i, **x, "y": y} for i, (x, y) in enumerate(stream)]).predictions
    for (x, y), prediction in zip(stream, expected, strict=True):
        assert model.predict_one(x) == model.predict_one(dict(reversed(x.items()))) == prediction.yhat
        model.learn_one(x, y)


def test_entities_and_times_are_features() -> None:
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    model, stream = ssm_stream.Regressor(entity="machine", timestamp="when"), events(300)
    whole = ssm_stream.Engine("""
        source: {brokers: "x:1", topic: t}
        event: {entity: machine, timestamp: when, features: [a, b], categories: [c], target: y}
        alerts: {anomaly: {enabled: false}, drift: {enabled: false}}
        """)
    for i, (x, y) in enumerate(stream):
        x |= {"machine": f"m{i % 3}", "when": start + datetime.timedelta(minutes=20 * i)}
        predicted = model.predict_one(x)
        (prediction,) = whole.run({**x, "y": y}).predictions
        assert predicted == prediction.yhat
        model.learn_one(x, y)
    with pytest.raises(ValueError, match="timestamp: found 'noon' as 'when'; it must be a time"):
        model.predict_one({"machine": "m1", "when": "noon"})
    for named in ({}, {"machine": None}, {"machine": math.nan}, {"machine": ""}, {"machine": "\ud800"}):
        with pytest.raises(ValueError, match=r"entity: found .* as 'machine'; it must name the entity"):
            model.learn_one({"when": start, **named}, 1.0)


def test_predictions_and_scores_leave_no_trace() -> None:
    models = [ssm_stream.Regressor(entity="e"), ssm_stream.AnomalyDetector("a", entity="e", warmup=10)]
    for model in models:
        for i, (x, y) in enumerate(events(60)):
            x |= {"e": f"m{i % (1 + i // 30)}"}  # of one entity, then of two
            learned = (x, y) if model is models[0] else (x,)
            if i % 10 < 9:
                model.learn_one(*learned)
                continue
            twin, ask = pickle.loads(pickle.dumps(model)), getattr(model, "predict_one", None) or model.score_one
            ask({**x, "e": f"new{i}", "c": f"c{i}"})
            assert ask(x) == ask({**x, "none": math.nan})
            for each in (model, twin):
                each.learn_one(*learned)
            states, expected = ([of.engine.snapshot() for of in each._models] for each in (model, twin))
            assert states == expected, i
        assert model._models[0].engine.names == ["m0", "m1"]


def test_an_event_that_cannot_be_learned_has_no_effect() -> None:
    model, twin = ssm_stream.Regressor(), ssm_stream.Regressor()
    wrong: list[dict[str, Any]] = [
        {"new": math.inf}, {"new": [1]}, {"new": 1.0, "c": "\ud800"}, {"new": "\ud800"}, {"new": "text", "a": 1j},
        {"new": 1.0, "a": "text"},
    ]  # fmt: skip
    for i, (x, y) in enumerate(events(40)):
        for each in (model, twin):
            each.learn_one({**x, "new": math.nan}, y)
        if i % 5 == 3:
            with pytest.raises(ValueError, match=r"feature '(new|a|c)': found .*; it must be "):
                model.learn_one(x | wrong[i % len(wrong)], y)
    for each in (model, twin):
        each.learn_one({**x, "new": "text"}, y)
    assert model.predict_one(x) == twin.predict_one(x)


def test_a_score_is_that_of_the_engine() -> None:
    stream = events(600, 1)
    detector = ssm_stream.AnomalyDetector("y", budget=500)
    whole = engine(budget=500)
    scores = []
    for i, (x, y) in enumerate(stream):
        y += 20 * (i % 150 == 149)
        scores.append(detector.score_one({**x, "y": y}))
        detector.learn_one({**x, "y": y})
        (prediction,) = whole.run({"e": "m", "t": i, **x, "y": y}).predictions
        assert scores[-1] == prediction.anomaly_score
    assert {149, 299, 449, 599} <= {i for i, score in enumerate(scores) if score > 1}
    assert sum(score > 1 for score in scores) < 10
    assert detector.score_one({"a": 1.0}) == 0.0  # without the target there is nothing to score


def test_a_detector_without_a_target_watches_each_number() -> None:
    rng, detector = np.random.default_rng(0), ssm_stream.AnomalyDetector(budget=1000)
    for _ in range(300):
        a = float(rng.normal())
        detector.learn_one({"a": a, "twice": 2 * a + 0.01 * float(rng.normal()), "name": "n"})
    assert detector.score_one({"a": 1.0, "twice": 2.0, "name": "n"}) < 1
    assert detector.score_one({"a": 1.0, "twice": -2.0, "name": "n"}) > 5  # each of the two alone is usual
    assert detector.score_one({"a": 9.0}) > 1


@pytest.mark.parametrize("first", [{}, {"a": None, "mode": "auto"}, {"a": math.nan}, {"mode": "auto"}])
def test_a_detector_waits_for_its_first_number(first: dict[str, Any]) -> None:
    detector, twin = ssm_stream.AnomalyDetector(warmup=10), ssm_stream.AnomalyDetector("a", warmup=10)
    for each in (detector, twin):
        each.learn_one(first)
        assert each.score_one({"a": 1.0}) == 0.0
        for x, _ in events(40):
            each.learn_one({"a": x["a"]})
    assert detector.score_one({"a": 99.0}) == twin.score_one({"a": 99.0}) > 1


def test_a_new_feature_is_learned_with_the_history() -> None:
    stream = events(MAX_HISTORY)
    whole, growing = ssm_stream.Regressor(), ssm_stream.Regressor()
    for i, (x, y) in enumerate(stream):
        whole.learn_one({**x, "late": None}, y)
        growing.learn_one(x if i < 300 else {**x, "late": None}, y)
    x, y = stream[0]
    for model in (whole, growing):
        model.learn_one({**x, "late": 1.0}, y)
    assert whole.predict_one({**x, "late": 2.0}) == growing.predict_one({**x, "late": 2.0})
    assert abs(growing.predict_one(x) - y) < 0.5  # what the history taught is still there


def test_features_have_a_limit() -> None:
    model = ssm_stream.Regressor()
    model.learn_one({f"f{i}": 1.0 for i in range(MAX_FEATURES - 1)}, 1.0)
    with pytest.warns(UserWarning, match=f"more than {MAX_FEATURES} features"):
        model.learn_one({"g1": 1.0, "g2": 2.0}, 1.0)
    model.learn_one({"g3": 1.0}, 1.0)
    assert math.isfinite(model.predict_one({"g3": 1.0}))


@pytest.mark.parametrize("value", [np.float64(2), np.int32(2), True, np.bool_(True), math.nan, None])
def test_numbers_of_any_kind_are_features(value: Any) -> None:
    expected, model = ssm_stream.Regressor(), ssm_stream.Regressor()
    plain = None if value is None or math.isnan(value) else float(value)
    for i in range(5):
        model.learn_one({"a": 1.0, "b": value if i else 0.0}, i)
        expected.learn_one({"a": 1.0, "b": plain if i else 0.0}, i)
    assert model.predict_one({"a": 1.0, "b": value}) == expected.predict_one({"a": 1.0, "b": plain})


def test_values_that_cannot_be_used_are_errors_that_name_them() -> None:
    model = ssm_stream.Regressor()
    model.learn_one({"a": 1.0}, 1.0)
    for x, y, text in (
        ({"a": "high"}, 1.0, "feature 'a': found 'high'; it must be a number"),
        *(({"a": text}, 1.0, f"feature 'a': found {text!r}; it must be a number") for text in ("3", "nan", " 1_0 ")),
        ({"a": b"3"}, 1.0, "feature 'a': found b'3'; it must be a number$"),
        ({"a": 1.0}, "29", "feature 'y': found '29'; it must be a number$"),
        ({"a": math.inf}, 1.0, "feature 'a': found inf; it must be finite"),
        ({"a": 10**6000}, 1.0, "feature 'a': found a value of type int that is too deep or too long to show"),
        ({"a": 1.0}, math.inf, "feature 'y': found inf"),
    ):
        with pytest.raises(ValueError, match=text):
            model.learn_one(x, y)
    with pytest.raises(ValueError, match="feature 'a': found '3'; it must be a number, as in the events before"):
        model.predict_one({"a": "3"})
    detector = ssm_stream.AnomalyDetector("temp")
    with pytest.raises(ValueError, match=r"feature 'temp': found '21.5'; it must be a number, as it is watched"):
        detector.learn_one({"temp": "21.5"})
    detector.learn_one({"temp": 21.5})


def test_parameters_out_of_their_limits_are_refused_by_name() -> None:
    wrong: list[dict[str, Any]] = [
        {"lags": 65}, {"lags": -1}, {"lags": "3"}, {"budget": 0}, {"budget": 1e4}, {"budget": True}, {"warmup": 9},
        {"warmup": 100_001},
    ]  # fmt: skip
    for given in wrong:
        ((name, value),) = given.items()
        with pytest.raises(ValueError, match=rf"^{name}: found {value!r}; give a whole number from [\d,]+ to [\d,]+$"):
            ssm_stream.AnomalyDetector(**given)
    with pytest.raises(ValueError, match="lags: found 100; give a whole number from 0 to 64"):
        ssm_stream.Regressor(lags=100)
    for i in (0, 1):  # what is within them is what the configuration takes
        detector = ssm_stream.AnomalyDetector("a", **{name: np.int64(limits[i]) for name, limits in LIMITS.items()})
        detector.learn_one({"a": 1.0, "b": 2.0})
        assert math.isfinite(detector.score_one({"a": 1.0}))


def test_a_pickle_has_all_and_a_clone_nothing() -> None:
    model, stream = ssm_stream.Regressor(lags=3), events(300)
    for x, y in stream[:200]:
        model.learn_one(x, y)
    other, clone, twin = pickle.loads(pickle.dumps(model)), model.clone(), model.clone(include_attributes=True)
    assert (clone.lags, clone.predict_one(stream[0][0])) == (3, 0.0)
    for x, y in stream[200:]:
        assert other.predict_one(x) == twin.predict_one(x) == model.predict_one(x)
        for each in (model, other, twin):
            each.learn_one(x, y)


WITHOUT = """
import pickle, sys
sys.modules["river"] = sys.modules["river.base"] = None
import ssm_stream
model = ssm_stream.Regressor(lags=2)
for i in range(100):
    model.learn_one({"a": i % 5}, 3.0 * (i % 5))
print(model.predict_one({"a": 2}).hex())
assert repr(model) == "Regressor(entity=None, timestamp=None, lags=2)", model
assert model.clone({"lags": 1}).lags == 1 and model.clone().predict_one({}) == 0.0
assert model.clone(include_attributes=True).predict_one({"a": 2}) == model.predict_one({"a": 2})
sys.stdout.flush()
sys.stdout.buffer.write(pickle.dumps(model))
"""


def test_river_is_not_needed() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, check=True)
    text, _, data = done.stdout.partition(b"\n")
    model = ssm_stream.Regressor(lags=2)
    for i in range(100):
        model.learn_one({"a": i % 5}, 3.0 * (i % 5))
    assert model.predict_one({"a": 2}).hex() == text.decode() == pickle.loads(data).predict_one({"a": 2}).hex()
