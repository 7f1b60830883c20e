"""Anomaly and drift alerts of single entities, and their episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engines import ALONE, DIRECT, HOUR, assert_same_bits, config, cut, fleet, linear, made, run, started, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssm_stream.config.sections import Alerts
from ssm_stream.engine.engine import Alert, Engine

# Anomaly alerts.


def alarms(spikes: dict[int, float], anomaly: str, n: int = 1000) -> tuple[list[Alert], dict[str, NDArray[Any]]]:
    """Anomaly alerts on a well-known relation (noise 0.3) with deviations at some rows."""
    features, y = linear(n)
    for row, size in spikes.items():
        y[row] += size
    sections = f"alerts: {{anomaly: {{{anomaly}}}, drift: {{enabled: false}}}}"
    predicted, alerts = run(Engine(config(DIRECT, sections)), made(y, features))
    return alerts, predicted


@pytest.mark.parametrize(("direction", "rows_"), [("both", [500, 700]), ("above", [500]), ("below", [700])])
def test_only_the_configured_direction_alerts(direction: str, rows_: list[int]) -> None:
    alerts, predicted = alarms({500: 15, 700: -15}, f"direction: {direction}")
    assert started(alerts, "anomaly") == rows_
    assert (predicted["score"][[500, 700]] > 1).all()


@pytest.mark.parametrize(("option", "rows_"), [
    ("min_deviation: 0", [500, 700]), ("min_deviation: 20", [700]), ("min_deviation: 40", []),
    ("min_deviation_relative: 4", [700]), ("min_deviation_relative: 1e6", []),
])  # fmt: skip
def test_small_deviations_do_not_alert_if_so_configured(option: str, rows_: list[int]) -> None:
    features, y = linear(1000)
    features[500] = features[700] = 0
    y[500], y[700] = 5 + 12, 5 + 30
    sections = f"alerts: {{anomaly: {{{option}}}, drift: {{enabled: false}}}}"
    _, alerts = run(Engine(config(DIRECT, sections)), made(y, features))
    assert started(alerts, "anomaly") == rows_


def test_consecutive_events_are_needed_if_so_configured() -> None:
    spikes = {2000: 15, 2400: 15, 2401: 15, 2800: 15, 2801: -15, 2802: 15, 2803: 15}
    alerts, _ = alarms(spikes, "consecutive: 3", 3000)
    assert started(alerts, "anomaly") == [2802]
    assert [a.message["since"] for a in alerts] == [2_802_000] * len(alerts)


def test_an_episode_ends_after_so_many_normal_events() -> None:
    alerts, _ = alarms({500: 15, 504: 15}, "recover_after: 7")
    assert [(a.row, a.message["phase"], a.message["absorbed_after"]) for a in alerts] == [
        (500, "started", None), (511, "recovered", 5),
    ]  # fmt: skip


def test_no_episode_starts_in_the_cooldown() -> None:
    spikes = {500: 15, 530: 15, 570: 15}
    assert started(alarms(spikes, "recover_after: 5, cooldown: 60")[0], "anomaly") == [500, 570]
    assert started(alarms(spikes, "recover_after: 5, cooldown: 0")[0], "anomaly") == [500, 530, 570]
    assert started(alarms(spikes, "recover_after: 5, cooldown: 400")[0], "anomaly") == [500]


def test_what_is_switched_off_never_alerts() -> None:
    events = fleet(6000)
    for off, left in (("anomaly", "drift"), ("drift", "anomaly")):
        _, alerts = run(Engine(config(sections=f"alerts: {{{off}: {{enabled: false}}}}")), events)
        assert {a.message["kind"] for a in alerts} == {left}


def test_severity_is_critical_from_a_score_of_three() -> None:
    features, y = linear(3000)
    y[2000] += 3.5
    y[2500] += 60
    settings_ = config(DIRECT, "alerts: {drift: {enabled: false}}")
    predicted, alerts = run(Engine(settings_), made(y, features))
    assert started(alerts, "anomaly") == [2000, 2500]
    assert 1.1 < predicted["score"][2000] < 3 < predicted["score"][2500]
    assert [a.message["severity"] for a in alerts if a.message["phase"] == "started"] == ["warning", "critical"]


@pytest.mark.parametrize("several", [False, True])
def test_errors_that_become_smaller_are_never_critical(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is to be done: the score says how sure it is, and not how bad."""
    monkeypatch.setattr(Alerts, "critical", 1.0)
    rng = np.random.default_rng(3)
    features, n = rng.normal(size=(9000, 1)), 9000
    noise = rng.normal(size=(n, 2)) * np.where(np.arange(n) < 6000, 1.0, 0.02)[:, None]
    y = features + noise
    targets = "target: [y, z], features: [x], lags: 0" if several else "target: y, features: [x], lags: 0"
    events = made(y if several else y[:, 0], features)
    _, alerts = run(Engine(config(targets, "alerts: {anomaly: {enabled: false}}")), events)
    found = [a.message for a in alerts if a.message["kind"] == "drift" and a.message["change"] == "smaller"]
    assert max(message["score"] for message in found) >= 1.0
    assert {message["severity"] for message in found} == {"warning"}
    fields = {"target", "score", "since", "y", "yhat", "yhat_lower", "yhat_upper"}
    assert all(set(each) == fields for message in found for each in message.get("targets", []))


AT_ONCE = "alerts: {fleet: {wait: 0}}"


def test_an_alert_has_the_values_of_its_event() -> None:
    events = fleet(6000)
    predicted, alerts, _ = whole(0, AT_ONCE)
    own = [alert for alert in alerts if not alert.suffix]
    assert own
    for alert in own:
        m, row = alert.message, alert.row
        assert set(m) == {
            "entity", "scope", "kind", "phase", "severity", "summary", "ts", "score", "y", "yhat", "yhat_lower",
            "yhat_upper", "since", "absorbed_after", "contributions", "weight_change", "heads", "channel", "change",
            "learning", "budget", "config_hash", "state_hash", "episode", "ended_by",
        }  # fmt: skip
        assert (m["entity"], m["ts"], m["y"]) == (events.entity[row], events.ts[row], events.target[row])
        assert (m["yhat"], m["yhat_lower"], m["yhat_upper"]) == (
            predicted["yhat"][row], predicted["lower"][row], predicted["upper"][row],
        )  # fmt: skip
        assert m["kind"] == "drift" or m["score"] == predicted["score"][row]
        assert (m["budget"], m["config_hash"]) == ("1 per 10000 events", config(sections=AT_ONCE).hash)
        assert len(m["contributions"]) == 5
        assert sum(abs(c["share"]) for c in m["contributions"]) <= 1 + 1e-9
        assert m["kind"] == "drift" or m["weight_change"] == []


def test_an_alerts_state_hash_is_the_state_after_its_event() -> None:
    events = fleet(6000)
    _, alerts, _ = whole(0, AT_ONCE)
    for alert in alerts[:3]:
        engine = Engine(config(sections=AT_ONCE))
        run(engine, cut(events, 0, alert.row + 1))
        assert engine.state_hash(alert.message["entity"]) == alert.message["state_hash"]


# Episodes.


@settings(max_examples=20)
@given(
    st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 20), st.integers(0, 40), st.integers(1, 60),
    st.sampled_from([20, 100, 10_000]),
)  # fmt: skip
def test_episodes_start_go_on_and_recover_in_that_order(
    seed: int, consecutive: int, recover: int, cooldown: int, every: int, budget: int
) -> None:
    """Whatever the settings: one episode at a time of an entity and kind, its `since` the start, reports not too often,
    cooldown kept."""
    rng = np.random.default_rng(seed)
    n = 4000
    features, y = linear(n, seed)
    bursts = np.repeat(rng.random(n // 20) < 0.15, 20)
    y += np.where(bursts, rng.normal(0, 20, n), 0) + np.where(np.arange(n) % 3000 > 2200, 4 * features[:, 0], 0)
    settings_ = config(
        DIRECT,
        f"alerts: {{anomaly: {{budget: 1 per {budget} events, consecutive: {consecutive}, recover_after: {recover}, "
        f"cooldown: {cooldown}}}, drift: {{budget: 1 per {budget} events, cooldown: {cooldown}}}}}",
    )
    names = [f"m{i % 2}" for i in range(n)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Alerts, "ongoing_every", every)
        predicted, alerts = run(Engine(settings_), made(y, features, names))
    assert alerts or budget == 10_000  # at which 2,000 events of a young entity may pass without any
    open_since: dict[tuple[str, str], int] = {}
    reported: dict[tuple[str, str], int] = {}
    ended: dict[tuple[str, str], int] = {}
    for alert in alerts:
        m, key, at = alert.message, (alert.message["entity"], alert.message["kind"]), int(predicted["n"][alert.row])
        if m["phase"] == "started":
            assert key not in open_since
            assert m["since"] == m["ts"]
            assert at - ended.get(key, -(10**9)) >= cooldown
            open_since[key] = m["ts"]
        else:
            assert m["since"] == open_since[key]
        if m["phase"] == "ongoing":
            assert at - reported[key] == every
        if m["phase"] == "recovered":
            del open_since[key]
            ended[key] = at
            assert m["absorbed_after"] >= 1
        else:
            assert m["absorbed_after"] is None
        reported[key] = at


def test_a_long_episode_is_reported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Alerts, "ongoing_every", 20)
    rng = np.random.default_rng(1)
    features, y = linear(2000)
    y[1000:] += 50 * np.exp(rng.normal(size=1000)) * rng.choice([-1, 1], 1000)
    sections = "alerts: {drift: {enabled: false}, anomaly: {recover_after: 100}}"
    _, alerts = run(Engine(config(DIRECT, sections)), made(y, features))
    first = [(a.row, a.message["phase"]) for a in alerts if a.row >= 1000][:3]
    assert first == [(1000, "started"), (1020, "ongoing"), (1040, "ongoing")]


# Drift.


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_a_change_of_coefficients_is_found_within_200_events_and_recovers(event: str) -> None:
    """Twenty entities, each alone, change after 2,000 events. One false episode may be open then and hide the start."""
    entities, n = 20, 4000
    features, y = linear(entities * n, 4)
    number, age = np.arange(entities * n) % entities, np.arange(entities * n) // entities
    y -= 3 * features[:, 0] * (age >= 2000)
    settings_ = config(event, f"{ALONE}\nalerts: {{anomaly: {{enabled: false}}}}")
    _, alerts = run(Engine(settings_), made(y, features, [f"m{i}" for i in number]))
    found = {a.message["entity"] for a in alerts if a.message["phase"] == "started" and 2000 <= age[a.row] <= 2200}
    assert len(found) >= 19
    over = {a.message["entity"] for a in alerts if a.message["phase"] == "recovered" and 2050 <= age[a.row] <= 3000}
    assert len(over) == 20


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_a_change_of_one_of_a_fleet_is_found_within_200_events_and_is_its_own(event: str) -> None:
    entities, n = 20, 3000
    features, y = linear(entities * n, 4)
    number, age = np.arange(entities * n) % entities, np.arange(entities * n) // entities
    y -= 3 * features[:, 0] * ((age >= 2000) & (number == 7))
    settings_ = config(event, "alerts: {anomaly: {enabled: false}}")
    predicted, alerts = run(Engine(settings_), made(y, features, [f"m{i}" for i in number]))
    found = [a.message["entity"] for a in alerts if a.message["phase"] == "started" and 2000 <= age[a.row] <= 2200]
    assert "m7" in found
    assert len(found) <= 3
    others = (number != 7) & (age >= 2000)
    assert np.abs(y - predicted["yhat"])[others].mean() < 0.3


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_a_change_of_a_whole_fleet_is_reported_and_soon_learned(event: str) -> None:
    """What twenty entities see together is learned within a few events of each: not all have something to tell, and by
    the time at which it would be a drift it may be none any more."""
    entities, n = 20, 3000
    features, y = linear(entities * n, 4)
    number, age = np.arange(entities * n) % entities, np.arange(entities * n) // entities
    y -= 3 * features[:, 0] * (age >= 2000)
    predicted, alerts = run(Engine(config(event)), made(y, features, [f"m{i}" for i in number]))
    assert any(a.message["phase"] == "started" and 2000 <= age[a.row] <= 2010 for a in alerts)
    assert np.abs(y - predicted["yhat"])[(age >= 2010) & (age < 2100)].mean() < 0.35


def test_a_drift_alert_names_the_weights_before_it() -> None:
    features, y = linear(4000)
    y[2000:] -= 3 * features[2000:, 0]
    sections = "alerts: {anomaly: {enabled: false}}"
    _, alerts = run(Engine(config(DIRECT, sections)), made(y, features))
    over = next(a.message for a in alerts if a.row >= 2000 and a.message["phase"] == "recovered")
    change = {item["feature"]: item for item in over["weight_change"]}
    assert over["weight_change"][0]["feature"] == "a"
    assert change["a"]["after"] == pytest.approx(-1, abs=0.4)
    first = next(a.message for a in alerts if a.row >= 2000)
    before = {item["feature"]: item["before"] for item in first["weight_change"]}
    assert before["a"] == pytest.approx(2, abs=0.4)
    assert before["b"] == pytest.approx(-1, abs=0.4)


@pytest.mark.parametrize(("entities", "event"), [(20, DIRECT), (20, "features: [a, b]"), (200, "features: [a, b]")])
def test_stationary_noise_raises_at_most_three_times_the_budget(entities: int, event: str) -> None:
    """200,000 events at one false alarm in 10,000; with 200 entities all are young."""
    features, y = linear(200_000, 1, 1.0)
    names = [f"m{i % entities}" for i in range(200_000)]
    _, alerts = run(Engine(config(event)), made(y, features, names))
    assert len(started(alerts, "drift")) <= 3 * 20
    assert len(started(alerts, "anomaly")) <= 3 * 20


@pytest.mark.parametrize("hours", [1, 6])
def test_a_budget_in_time_is_the_budget_in_events_at_the_entitys_own_rate(hours: int) -> None:
    """'1 per 30d' of an event every hour is one in 720 events, of an event every six hours one in 120."""
    features, y = linear(20_000, 2, 1.0)
    results = []
    for budget in ("1 per 30d", f"1 per {720 // hours} events"):
        sections = f"alerts: {{anomaly: {{budget: {budget}}}, drift: {{budget: {budget}}}}}"
        predicted, alerts = run(
            Engine(config(DIRECT, sections)), made(y, features, ts=np.arange(20_000) * hours * HOUR)
        )
        results.append(
            (predicted, [(a.row, a.message["kind"], a.message["phase"], a.message["score"]) for a in alerts])
        )
        assert {a.message["budget"] for a in alerts} == {budget}
    assert_same_bits(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    allowed = 20_000 / (720 / hours)
    for kind in ("anomaly", "drift"):
        assert sum(item[1:3] == (kind, "started") for item in results[0][1]) <= 3 * allowed
