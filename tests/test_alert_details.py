"""An alert's details are those of its own event, whenever they are computed; those of alerts never sent are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from engines import config, run
from test_fleet_alerts import LIVELY, reported_often, struck  # noqa: F401  # the fixture

from ssm_stream.engine import alerts as module
from ssm_stream.engine import report_collector
from ssm_stream.engine.alerts import Alert, AlertBuilder, AlertDetails
from ssm_stream.engine.engine import Engine

# By a budget in events a fleet alert needs more than so loose a one explains, and would withhold less.
LOOSE = LIVELY.replace("100 events", "20m")
NO_FLEET_ALERTS = LOOSE.replace("alerts:\n", "alerts:\n  fleet: {enabled: false}\n")
TARGETS = ["", ", target: [y, z]"]
Messages = dict[tuple[str, str, int], dict[str, Any]]


def alerts_of(sections: str, targets: str = "") -> list[Alert]:
    """Of a stream whose last fifth has another relation, when drift is looked for."""
    events = struck(5000, seed=12, entities=4)
    y = events.target.copy()
    y[4000:] += 4 * events.features[4000:, 1]
    events = replace(events, target=y)
    if targets:
        y = events.target[:, None] * [1.0, -2.0]
        y[:, 1] += events.features[:, 1] ** 2
        events = replace(events, target=y)
    engine = Engine(config(f"features: [a, b]{targets}", sections))
    return run(engine, events, cuts=range(250, 5000, 250))[1]


def by_event(alerts: list[Alert]) -> Messages:
    """The entities' messages by entity, kind and time, without what other settings change."""
    changed = ("config_hash", "episode")
    return {
        (m["entity"], m["kind"], m["ts"]): {name: value for name, value in m.items() if name not in changed}
        for m in (alert.message for alert in alerts)
        if m["scope"] == "entity"
    }


@pytest.fixture(scope="module", params=TARGETS)
def own_messages(request: pytest.FixtureRequest) -> tuple[str, Messages]:
    """All messages of entities without fleet alerts, and of which targets."""
    return request.param, by_event(alerts_of(NO_FLEET_ALERTS, request.param))


@pytest.mark.parametrize(("size", "batch"), [(module.MAX_PENDING_BYTES, 16), (200_000, 1), (0, 3)])
def test_withheld_alerts_have_the_details_of_their_own_event(
    own_messages: tuple[str, Messages], size: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the state was held for long, or the details were computed at once for lack of memory."""
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", size)
    monkeypatch.setattr(report_collector, "BATCH", batch)
    targets, alone = own_messages
    alerts = alerts_of(LOOSE.replace("alerts:\n", "alerts:\n  fleet: {wait: 0}\n"), targets)
    assert {"-fleet", "-1"} <= {alert.suffix for alert in alerts}, "some were withheld, and sent later"
    assert {alert.message["kind"] for alert in alerts if alert.suffix == "-fleet"} == {"anomaly", "drift"}
    for key, message in by_event(alerts).items():
        own = alone[key]
        assert {**message, "phase": own["phase"]} == own
        assert list(message) == list(own), "in the same order, as JSON has them"
    assert all(alert.details is None and len(alert.message["state_hash"]) == 16 for alert in alerts)


def test_details_of_alerts_that_are_never_sent_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    computed, held, fields, hold = [], [], AlertBuilder.detail_fields, AlertBuilder._hold
    monkeypatch.setattr(AlertBuilder, "detail_fields", lambda *args: computed.append(1) or fields(*args))
    monkeypatch.setattr(AlertBuilder, "_hold", lambda *args: held.append(1) or hold(*args))
    sent = alerts_of(LOOSE)
    assert len(computed) <= len(sent) < 0.8 * len(held)


def test_pending_details_hold_a_bounded_amount_of_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 300_000)
    sizes, hold = [], AlertBuilder._hold

    def measured(self: AlertBuilder, details: AlertDetails, size: int) -> None:
        hold(self, details, size)
        sizes.append(sum(size for ref, size in self._pending if (each := ref()) is not None and each.pending))

    monkeypatch.setattr(AlertBuilder, "_hold", measured)
    alerts_of(NO_FLEET_ALERTS)
    assert 0 < max(sizes) <= 300_000
