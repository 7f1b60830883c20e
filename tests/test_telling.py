"""What an alert says is of its own moment, whenever its words are made; those that nobody hears are not made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_engine import config, run
from test_fleet import LIVELY, struck

from ssm_stream.engine import alerts as telling
from ssm_stream.engine import target_engine
from ssm_stream.engine.engine import Alert, Engine

pytestmark = pytest.mark.timeout(900)  # a start may have to compile
ALONE = LIVELY.replace("alerts:\n", "alerts:\n  fleet: {enabled: false}\n")
TARGETS = ["", ", target: [y, z]"]
Heard = dict[tuple[str, str, int], dict[str, Any]]


def told(sections: str, targets: str = "") -> list[Alert]:
    events = struck(3000)
    if targets:
        y = events.target[:, None] * [1.0, -2.0]
        y[:, 1] += events.features[:, 1] ** 2
        events = replace(events, target=y)
    engine = Engine(config(f"features: [a, b]{targets}", sections))
    return run(engine, events, cuts=range(250, 3000, 250))[1]


def by_event(alerts: list[Alert]) -> Heard:
    """The entities' messages by entity, kind and time, without what other settings change."""
    return {
        (m["entity"], m["kind"], m["ts"]): {name: value for name, value in m.items() if name != "config_hash"}
        for m in (alert.message for alert in alerts)
        if m["scope"] == "entity"
    }


@pytest.fixture(scope="module", params=TARGETS)
def each(request: pytest.FixtureRequest) -> tuple[str, Heard]:
    """All that entities tell where no fleet alert stands for them, and of which targets."""
    return request.param, by_event(told(ALONE, request.param))


@pytest.mark.parametrize(("room", "together"), [(telling.ROOM, 16), (200_000, 1), (0, 3)])
def test_what_was_held_is_told_in_the_words_of_its_own_moment(
    each: tuple[str, Heard], room: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held for long or made at once for lack of room: an alert that the fleet's stood for says the same."""
    monkeypatch.setattr(telling, "ROOM", room)
    monkeypatch.setattr(target_engine, "TOGETHER", together)
    targets, alone = each
    alerts = told(LIVELY, targets)
    assert {"-fleet", "-1"} <= {alert.suffix for alert in alerts}, "some were held, and told later"
    for key, message in by_event(alerts).items():
        own = alone[key]
        assert {**message, "phase": own["phase"]} == own
        assert list(message) == list(own), "in the same order, as JSON has them"
    assert all(alert.words is None and len(alert.message["state_hash"]) == 16 for alert in alerts)


def test_the_words_of_what_is_never_sent_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made, kept, rest = [], [], telling.AlertBuilder.rest
    keep = telling.AlertBuilder._keep
    monkeypatch.setattr(telling.AlertBuilder, "rest", lambda *args: made.append(1) or rest(*args))
    monkeypatch.setattr(telling.AlertBuilder, "_keep", lambda *args: kept.append(1) or keep(*args))
    # By a budget in events a fleet alert needs more than so loose a one explains, and would hide less.
    sent = told(LIVELY.replace("100 events", "20m"))
    assert len(made) <= len(sent) < 0.8 * len(kept)


def test_moments_that_wait_stay_within_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "ROOM", 300_000)
    waiting, keep = [], telling.AlertBuilder._keep

    def kept(self: telling.AlertBuilder, words: telling.Words, size: int) -> None:
        keep(self, words, size)
        waiting.append(sum(size for ref, size in self._made if (each := ref()) is not None and each.waits))

    monkeypatch.setattr(telling.AlertBuilder, "_keep", kept)
    told(ALONE)
    assert 0 < max(waiting) <= 300_000
