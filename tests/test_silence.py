"""What stops: entities, columns, signals that repeat; found soon, within the budget, wherever batches are cut."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from numpy.typing import NDArray

from ssm_stream import Engine as DocumentEngine
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.contract.message_schemas import alert_schema
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import Events

MINUTE = 60_000.0
Floats = NDArray[np.float64]


def config_text(alerts: str = "silence: {}", more: str = "") -> str:
    return f"""
source: {{brokers: "localhost:9092", topic: events}}
event: {{entity: machine, timestamp: ts, features: [load], target: temp}}
alerts: {{{alerts}, fleet: {{enabled: false}}, anomaly: {{budget: "1 per 2000 events"}}}}
{more}
"""


def config(alerts: str = "silence: {}", more: str = "") -> Config:
    return parse_config(config_text(alerts, more))


def test_stuck_may_be_written_as_silence_is() -> None:
    assert config("silence: {}, stuck: {}").alerts.stuck
    assert config("stuck: {}").hash == config("stuck: true").hash
    with pytest.raises(
        ConfigError, match=r"alerts.stuck: found \{'after': 5\}; write true or false, or a list of columns: it has no"
    ):
        config("stuck: {after: 5}")


CADENCES = {
    "regular": lambda g, n: np.full(n, MINUTE),
    "jittered": lambda g, n: MINUTE * g.uniform(0.5, 1.5, n),
    "bursty": lambda g, n: MINUTE * np.where(np.arange(n) % 10 == 9, g.uniform(7, 11, n), g.uniform(0.05, 0.15, n)),
    "at random": lambda g, n: g.exponential(MINUTE, n),
}


def fleet(cadence: str, entities: int = 20, events: int = 600, seed: int = 0) -> Events:
    """Events of entities with gaps of this kind, until the first of them ends."""
    g = np.random.default_rng(seed)
    times = [np.cumsum(CADENCES[cadence](g, events)) + g.uniform(0, MINUTE) for _ in range(entities)]
    end = min(own[-1] for own in times)
    pairs = sorted((float(t), e) for e, own in enumerate(times) for t in own if t <= end)
    n = len(pairs)
    load = g.normal(size=n)
    y = load + 0.1 * g.normal(size=n)
    ts = np.array([t for t, _ in pairs]).astype(np.int64)
    return Events([f"m{e:02d}" for _, e in pairs], ts, load[:, None], y, np.arange(n))


def at_once(entities: int, times: int) -> Events:
    """Events of entities that all come at the same times, a minute apart."""
    n = entities * times
    y = np.random.default_rng(0).normal(size=n)
    ts = np.repeat(np.arange(times) * int(MINUTE), entities)
    return Events([f"m{i % entities:02d}" for i in range(n)], ts, y[:, None], y, np.arange(n))


def without(events: Events, entity: str, start: int, stop: float = np.inf) -> Events:
    """The events without those of an entity in a stretch of time, ms."""
    gone = (np.array(events.entity) == entity) & (events.ts >= start) & (events.ts < stop)
    return events.take(np.flatnonzero(~gone))


def found(engine: Engine, events: Events, cuts: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    out = list[dict[str, Any]]()
    for start, stop in pairwise([0, *cuts, len(events)]):
        ids = EventIds("events", 0, list(range(start, stop)))
        alerts = engine.process(events.take(np.arange(start, stop)), 0, ids)[1]
        out += [a.message | {"row": start + a.row, "id": ids.alert_id(a)} for a in alerts]
    return [message for message in out if message["kind"] in ("silence", "stuck")]


def starts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["phase"] == "started"]


@pytest.mark.parametrize("cadence", sorted(CADENCES))
def test_false_alarms_keep_the_budget(cadence: str) -> None:
    made = config("silence: {columns: false}")
    count = n = 0
    for seed in range(3):
        events = fleet(cadence, 30, 1500, seed)
        count += len([a for a in SilenceAlerts(made).process(events, 0, []) if a.message["phase"] == "started"])
        n += len(events)
    assert count <= 1.2 * n / 2000 + 3 * np.sqrt(n / 2000)


@pytest.mark.parametrize(("cadence", "gaps"), [("regular", 2.5), ("jittered", 3.0), ("at random", 14.0)])
def test_a_machine_that_stops_is_found_soon_and_told_when_it_is_back(cadence: str, gaps: float) -> None:
    events = fleet(cadence)
    start, stop = int(events.ts[len(events) // 2]), int(events.ts[3 * len(events) // 4])
    engine = Engine(config())
    messages = [m for m in found(engine, without(events, "m07", start, stop)) if m["entity"] == "m07"]
    first, last = messages[0], messages[-1]
    assert [m["phase"] for m in (first, last)] == ["started", "recovered"]
    assert first["ts"] - first["since"] <= gaps * MINUTE + 0.5 * MINUTE
    assert last["ts"] >= stop
    assert first["episode"] == last["episode"] == first["id"]
    assert first["summary"].startswith("m07: no usable events come any more (since ")
    assert last["summary"].startswith("m07: events come again (")
    assert first["value"] is first["column"] is first["y"] is None
    validator = Draft202012Validator(alert_schema(engine.config))
    for m in messages:
        row = m.pop("row")
        validator.validate({**m, "source": {"topic": "events", "partition": 0, "offset": row}})


def test_a_row_that_is_missing_now_and_then_is_no_silence_on_the_first_day() -> None:
    """One in 500 of a regular cadence, of machines that have had none before: the first is no alarm in any of them."""
    events = fleet("regular", 20, 3000)
    gone = np.random.default_rng(1).random(len(events)) < 0.002
    kept = events.take(np.flatnonzero(~gone))
    made = config("silence: {columns: false}")
    messages = starts([a.message for a in SilenceAlerts(made).process(kept, 0, [])])
    assert len(messages) <= 2
    start = int(kept.ts[len(kept) // 10])
    messages = starts([a.message for a in SilenceAlerts(made).process(without(kept, "m07", start), 0, [])])
    assert [m["entity"] for m in messages if m["since"] <= start] == ["m07"]
    assert messages[0]["ts"] - messages[0]["since"] <= 3.0 * MINUTE


DAY = 1440 * MINUTE


def with_nights(days: int, seed: int = 0) -> Events:
    """An event a minute of six machines; the first is off for 8 hours at night, the second then stands at 0."""
    g = np.random.default_rng(seed)
    ts = np.repeat(np.arange(days * 1440) * MINUTE, 6) + g.uniform(0, MINUTE / 3, days * 1440 * 6)
    order = np.argsort(ts, kind="stable")
    names = np.tile([f"m{i}" for i in range(6)], days * 1440)[order]
    ts, y = ts[order], g.normal(size=len(ts))
    night = ts % DAY >= 16 * 60 * MINUTE
    y[night & (names == "m1")] = 0.0
    events = Events(names.tolist(), ts.astype(np.int64), g.normal(size=(len(ts), 1)), y, np.arange(len(ts)))
    return events.take(np.flatnonzero(~night | (names != "m0")))


def test_a_machine_that_is_off_every_night_alarms_in_the_first_few() -> None:
    """And is missed soon after its usual pause is over; one that is seldom away is missed within minutes. A signal that
    stands at the same value each night alarms in the first."""
    made, days = config("silence: {}, stuck: true"), 16
    events = with_nights(days)
    messages = starts([a.message for a in SilenceAlerts(made).process(events, 0, [])])
    nights = {(m["kind"], m["entity"], m["ts"] // int(DAY)) for m in messages}
    assert nights == {("silence", "m0", day) for day in range(4)} | {("stuck", "m1", 0)}
    late = without(events, "m0", int(15 * DAY), int(15 * DAY + 4 * 60 * MINUTE))
    outages = without(without(late, "m5", int(5 * DAY), int(5.5 * DAY)), "m5", int(10 * DAY), int(10.5 * DAY))
    messages = starts([a.message for a in SilenceAlerts(made).process(outages, 0, [])])
    told = [(m["entity"], m["since"] // int(DAY), (m["ts"] - m["since"]) / MINUTE) for m in messages]
    assert [9.5 * 60 < gap < 10.5 * 60 for entity, day, gap in told if (entity, day) == ("m0", 14)] == [True]
    assert [gap < 10 for entity, _, gap in told if entity == "m5"] == [True, True]


def upon_change(entities: int = 60, days: int = 12, seed: int = 0) -> Events:
    """Events of chargers: one in 40 s while a session lasts, and in a while between two; few begin at noon."""
    g = np.random.default_rng(seed)
    pairs = list[tuple[float, int]]()
    for e in range(entities):
        t = g.uniform(0, 60 * MINUTE)
        while t < days * DAY:
            hour = t % DAY / (60 * MINUTE)
            pairs.append((t, e))
            if g.random() < 0.02 + 0.3 * np.exp(-(((hour - 18) / 2) ** 2)):
                session = t + np.cumsum(g.uniform(0.3, 1.0, 100)) * MINUTE
                pairs += [(float(at), e) for at in session]
                t = session[-1]
            t += g.exponential(90 if 11 < hour < 16 else 20) * MINUTE
    pairs.sort()
    n = len(pairs)
    names, ts = [f"m{e:02d}" for _, e in pairs], np.array([t for t, _ in pairs]).astype(np.int64)
    return Events(names, ts, np.zeros((n, 1)), np.zeros(n), np.arange(n))


def test_what_was_an_alarm_is_remembered_whatever_the_others_taught_meanwhile() -> None:
    """While one was silent, the pauses of the others made what is usual longer than its own: its alarm was forgotten,
    and the next came sooner than that gap had lasted, again and again."""
    messages = [a.message for a in SilenceAlerts(config("silence: {columns: false}")).process(upon_change(), 0, [])]
    waits, lasted = list[float](), dict[str, list[tuple[float, float]]]()
    for m in messages:
        gap = m["ts"] - m["since"]
        if m["phase"] == "recovered":
            lasted.setdefault(m["entity"], []).append((gap, m["ts"]))
        else:  # as many gaps later as keep it in mind
            known = [length for length, at in lasted.get(m["entity"], []) if m["ts"] - at < 50 * length]
            waits += [gap / max(known)] if known else []
    assert len(waits) > 20
    # Not none: of one long gap at most four times what was usual is kept, and a pause of many does not count in full.
    assert sum(wait < 0.6 for wait in waits) <= 2


def test_what_was_too_long_is_forgotten_in_time() -> None:
    """A machine whose pauses of half an hour ended long ago is missed as one that never had any."""
    n = 40 * 1440
    names, ts = [f"m{i % 6}" for i in range(6 * n)], (np.arange(6 * n) * MINUTE / 6).astype(np.int64)
    events = Events(names, ts, np.zeros((6 * n, 1)), np.zeros(6 * n), np.arange(6 * n))
    for day in range(6):
        events = without(events, "m0", int((day + 0.5) * DAY), int((day + 0.5) * DAY + 30 * MINUTE))
    events = without(events, "m0", int(39 * DAY))
    made = parse_config(config_text("silence: {columns: false}").replace("2000 events", "200 events"))
    messages = starts([a.message for a in SilenceAlerts(made).process(events, 0, [])])
    assert len(messages) <= 4
    assert (messages[-1]["ts"] - messages[-1]["since"]) / MINUTE < 5


def away() -> tuple[Config, Events]:
    return config(), without(fleet("jittered", 12, 400), "m03", 200 * 60_000, 260 * 60_000)


def frozen() -> tuple[Config, Events]:
    """Columns stop together at the middle; the first of them goes on sooner than the others."""
    made, events = wide(events=400)
    mine = own_rows(events, "m01")
    events.features[mine[190:230], 1:] = 0.5
    events.features[mine[190:210], 0] = 0.5
    return made, events


def of_all() -> tuple[Config, Events]:
    return shared(590)


def of_all_missing() -> tuple[Config, Events]:
    return missing(590)


def at_bound() -> tuple[Config, Events]:
    return bounded()


def in_states(categories: str = "[state]") -> tuple[Config, Events]:
    """Cappers whose torque is blank while they stand, for an hour or for ten; one loses it at work, for 40 events."""
    made = parse_config(config_text().replace("[load]", f"[load], categories: {categories}"))
    g, n = np.random.default_rng(4), 3000
    features, names, ts = list[Any](), list[str](), np.repeat(np.arange(n) * 60_000, 3)
    states = np.stack([np.repeat(np.arange(n) % 2 + 1.0, g.integers(30, 600, n))[:n] for _ in range(3)], 1)
    states[1000:1200], states[2100:2300] = 1.0, 1.0  # at work
    for i in range(n):
        for e in range(3):
            lost = e == 1 and 2200 <= i < 2240
            load = np.nan if lost or states[i, e] == 2.0 else float(g.normal())
            features.append([load, states[i, e]] if categories != "[]" else [load])
            names.append(f"m{e}")
    return made, Events(names, ts, np.array(features), g.normal(size=3 * n), np.arange(3 * n))


def test_a_column_is_not_missing_in_states_of_the_process_in_which_it_never_has_values() -> None:
    first, message = starts(found(Engine(in_states()[0]), in_states()[1]))
    assert first["row"] // 3 < 300, "the first stop of all is new"
    assert (message["entity"], message["column"]) == ("m1", "load")
    assert 2201 <= message["row"] // 3 <= 2206, "where it has them it is missed as soon as ever"
    assert len(starts(found(Engine(in_states("[]")[0]), in_states("[]")[1]))) > 5, "of no state nothing is known"


@pytest.mark.parametrize("case", [away, frozen, of_all, of_all_missing, at_bound, in_states])
def test_no_batch_and_no_restart_changes_where(case: Callable[[], tuple[Config, Events]]) -> None:
    made, events = case()
    whole = found(Engine(made), events)
    assert len(starts(whole)) >= 1
    n = len(events)
    for cuts in ((1,), (n // 3, n // 2), tuple(range(500, n, 137))):
        assert found(Engine(made), events, cuts) == whole
    for cut in (n // 2 - 40, n // 2 + 7, n // 2 + 200):
        engine = Engine(made)
        first = found(engine, events.take(np.arange(cut)))
        engine = Engine.restore(made, engine.snapshot())
        ids = EventIds("events", 0, list(range(cut, n)))
        rest = [
            a.message | {"row": cut + a.row, "id": ids.alert_id(a)}
            for a in engine.process(events.take(np.arange(cut, n)), 0, ids)[1]
        ]
        assert first + [m for m in rest if m["kind"] in ("silence", "stuck")] == whole


def test_a_state_of_another_layout_is_counted_anew() -> None:
    made, events = frozen()
    rules = SilenceAlerts(made)
    rules.process(events, 0, [])
    content = rules.dump()
    kept = SilenceAlerts(made)
    kept.load(content)
    assert kept.dump()["names"] == content["names"]
    for part in ("entity", "source"):
        anew = SilenceAlerts(made)
        anew.load(content | {part: base64.b64encode(base64.b64decode(content[part])[: -8 * 5]).decode()})
        assert anew.dump()["names"] == []


def test_a_clock_that_is_a_year_ahead_silences_nobody() -> None:
    events = fleet("jittered", 10, 500)
    wrong = (np.array(events.entity) == "m04") & (events.ts > events.ts[len(events) // 2])
    events.ts[wrong] += 365 * 86_400_000
    assert [m["entity"] for m in starts(found(Engine(config()), events))] == []


def test_a_pause_of_all_is_nobodys_silence() -> None:
    events = fleet("jittered", 10, 600)
    events.ts[:] += (events.ts // (120 * 60_000)) * 8 * 3_600_000
    assert len(starts(found(Engine(config()), events))) <= 3


def test_a_time_that_is_set_is_kept() -> None:
    events = fleet("jittered", 6, 60)
    start = int(events.ts[len(events) // 2])
    (message,) = starts(found(Engine(config("silence: {after: 10m}")), without(events, "m02", start)))
    assert message["entity"] == "m02"
    assert 10 * MINUTE <= message["ts"] - message["since"] <= 12 * MINUTE
    assert message["budget"] is None


def test_a_column_without_values_and_one_that_repeats() -> None:
    events = fleet("regular", 5, 800)
    mine = np.flatnonzero(np.array(events.entity) == "m01")
    events.features[mine[500:560], 0] = np.nan
    events.target[mine[600:700]] = 1.25
    messages = found(Engine(config("silence: {}, stuck: true")), events)
    told = [(m["kind"], m["column"], m["phase"], int(np.searchsorted(mine, m["row"]))) for m in messages]
    assert [each[:3] for each in told] == [
        ("silence", "load", "started"), ("silence", "load", "recovered"),
        ("stuck", "temp", "started"), ("stuck", "temp", "recovered"),
    ]  # fmt: skip
    assert 502 <= told[0][3] <= 508
    assert (told[1][3], told[3][3]) == (560, 700)
    assert 604 <= told[2][3] <= 610
    assert messages[2]["value"] == 1.25
    assert messages[2]["summary"].startswith("m01: temp is stuck at 1.25 (since ")


def wide(columns: int = 6, entities: int = 5, events: int = 800) -> tuple[Config, Events]:
    """Noise in so many columns; all entities come at the same times."""
    features = [f"x{j}" for j in range(columns)]
    made = parse_config(config_text("silence: {}, stuck: true").replace("[load]", f"[{', '.join(features)}]"))
    out = at_once(entities, events)
    return made, replace(out, features=np.random.default_rng(1).normal(size=(len(out), columns)))


def own_rows(events: Events, entity: str) -> NDArray[np.int64]:
    return np.flatnonzero(np.array(events.entity) == entity)


def test_columns_that_stop_together_are_one_alert() -> None:
    """A source that sends what it had, and then a module that sends nothing for its columns."""
    made, events = wide()
    mine = own_rows(events, "m01")
    events.features[mine[500:560]] = events.features[mine[500]]
    events.target[mine[500:560]] = 1.25
    events.features[mine[600:660], :4] = np.nan
    messages = found(Engine(made), events)
    told = [(m["kind"], m["phase"], int(np.searchsorted(mine, m["row"]))) for m in messages]
    assert [each[:2] for each in told] == [
        ("stuck", "started"), ("stuck", "recovered"), ("silence", "started"), ("silence", "recovered"),
    ]  # fmt: skip
    assert {m["entity"] for m in messages} == {"m01"}
    assert told[0][2] <= 510
    assert (told[1][2], told[3][2]) == (560, 660)
    assert ", and 6 more with it (since " in messages[0]["summary"]
    assert ", and 3 more with it (since " in messages[2]["summary"]
    assert "more" not in messages[1]["summary"] + messages[3]["summary"]


def test_when_the_first_goes_on_one_of_those_that_do_not_is_an_alert() -> None:
    made, events = wide()
    mine = own_rows(events, "m01")
    events.features[mine[500:600]] = events.features[mine[500]]
    first = found(Engine(made), events)[0]["column"]
    j = int(first[1:])
    events.features[mine[550:600], j] = np.random.default_rng(2).normal(size=50)
    messages = found(Engine(made), events)
    told = [(m["phase"], m["column"] == first, int(np.searchsorted(mine, m["row"]))) for m in messages]
    assert told[1:] == [("recovered", True, 550), ("started", False, 550), ("recovered", False, 600)]
    assert messages[2]["since"] == events.ts[mine[500]]
    assert ", and 4 more with it (since " in messages[2]["summary"]


def test_what_stops_later_is_an_alert_of_its_own() -> None:
    made, events = wide()
    mine = own_rows(events, "m01")
    events.features[mine[500:700], 0] = 1.25
    events.features[mine[600:700], 1] = 0.75
    messages = found(Engine(made), events)
    assert [(m["column"], m["phase"]) for m in messages[:2]] == [("x0", "started"), ("x1", "started")]
    assert not any("more with it" in m["summary"] for m in messages)


@pytest.mark.parametrize(("least", "alerts"), [(0.0, 0), (-1.0, 1)])
def test_zero_is_rest_of_what_is_never_on_both_sides_of_it(least: float, alerts: int) -> None:
    """A machine that is off has no load, no flow; a signal about zero may be stuck there."""
    events = fleet("regular", 5, 800)
    events.features[:] = np.random.default_rng(0).uniform(least, 1.0, (len(events), 1))
    events.features[own_rows(events, "m01")[600:700], 0] = 0.0
    assert len(starts(found(Engine(config("stuck: true")), events))) == alerts


def stuck_values(values: Floats) -> list[tuple[float, int]]:
    """What the first of two machines is stuck at, and at which row."""
    n = len(values)
    y = np.random.default_rng(9).normal(size=2 * n)
    y[::2] = values
    ts = np.repeat(np.arange(n) * int(MINUTE), 2)
    rules = SilenceAlerts(config("stuck: true"))
    events = Events(["m0", "m1"] * n, ts, np.random.default_rng(8).normal(size=(2 * n, 1)), y, np.arange(2 * n))
    found = starts([a.message for a in rules.process(events, 0, [])])
    return [(m["value"], m["ts"] // int(MINUTE)) for m in found if m["entity"] == "m0"]


def valve(below: Callable[[int], Floats], cycles: int = 60, seed: int = 2) -> Floats:
    """A valve: open for about 30 rows, at 0 for about 50. below: of a rest by its number, its first values"""
    g, parts = np.random.default_rng(seed), list[Floats]()
    for i in range(cycles):
        rest = np.zeros(int(g.integers(45, 56)))
        first = below(i)
        rest[: len(first)] = first
        parts += [g.normal(60.0, 8.0, int(g.integers(25, 36))).round(1), rest]
    return np.concatenate(parts)


@pytest.mark.parametrize("seed", range(3))
def test_a_rest_at_zero_stays_one_when_the_signal_is_once_below_it(seed: int) -> None:
    """As it closes, after a long time or soon; and where it now and then is a little on either side."""
    assert stuck_values(valve(lambda i: np.array([-0.1] if i >= 40 else []), seed=seed)) == []
    assert stuck_values(valve(lambda i: np.array([0.0, 0.0, -0.1] if i >= 2 else []), seed=seed)) == []
    g = np.random.default_rng(seed)
    assert stuck_values(valve(lambda i: g.choice([0.0, -0.1, 0.1], 45, p=[0.9, 0.05, 0.05]), seed=seed)) == []
    assert stuck_values(-valve(lambda i: np.array([-0.1] if i >= 40 else []), seed=seed)) == []


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_end_of_its_range_stays_rest_when_the_signal_is_once_beyond_it(sign: float) -> None:
    """A transmitter that sends 4 mA at rest."""
    assert stuck_values(sign * (valve(lambda i: np.array([-0.1] if i >= 40 else [])) + 4.0)) == []


def test_what_rests_at_zero_is_stuck_there_for_longer_than_it_ever_rested_and_elsewhere_as_soon() -> None:
    values = valve(lambda i: np.array([-0.1] if i >= 40 else []))
    n = len(values)
    closed = stuck_values(np.concatenate([values, np.full(100, 0.0)]))
    assert [value for value, _ in closed] == [0.0]
    ((value, at),) = stuck_values(np.concatenate([values, np.full(100, 63.2)]))
    assert value == 63.2
    assert at <= n + 12


def test_a_stop_before_it_is_used_hides_no_signal_that_is_stuck_at_zero() -> None:
    """A week at zero, then about zero, on either side."""
    g = np.random.default_rng(0)
    values = np.concatenate([np.zeros(3000), g.uniform(-1.0, 1.0, 1000).round(2), np.zeros(100)])
    ((value, at),) = stuck_values(values)
    assert value == 0.0
    assert at <= 4000 + 30


def test_a_value_at_which_it_stood_before_is_rest() -> None:
    """The power of a machine that is off: an alert the first time, and none when it is off again."""
    events = fleet("regular", 5, 1200)
    mine = own_rows(events, "m01")
    for start, value in ((400, 0.4), (600, 0.4), (700, 0.4), (900, 0.7)):
        events.features[mine[start : start + 40], 0] = value
    told = starts(found(Engine(config("stuck: true")), events))
    assert [m["value"] for m in told] == [0.4, 0.7]


@pytest.mark.parametrize("end", [-0.2, 1.7])
def test_an_end_of_its_range_at_which_it_often_is_is_rest(end: float) -> None:
    """A machine that draws a little at rest, a fan at its most: for longer now than before. As long at an end that it
    has touched once, and at a value within the range, is an alert."""
    events = fleet("regular", 5, 1200)
    events.features[:] = np.random.default_rng(0).uniform(0.0, 1.5, (len(events), 1))
    mine = own_rows(events, "m01")
    for start in range(100, 700, 12):  # a tenth of the rows, one at a time
        events.features[mine[start], 0] = end
    events.features[mine[800:840], 0] = end
    assert starts(found(Engine(config("stuck: true")), events)) == []
    for value, again in ((0.75, 700), (3.0, 890), (-3.0, 890)):
        changed = replace(events, features=events.features.copy())
        changed.features[mine[again], 0] = value
        changed.features[mine[900:940], 0] = value
        assert [m["value"] for m in starts(found(Engine(config("stuck: true")), changed))] == [value]


def shared(goes_on: int = 560) -> tuple[Config, Events]:
    """All machines have the load of the plant, which stands still from their row 500 to 560, that of m03 to another."""
    events = at_once(5, 800)
    load = np.random.default_rng(3).uniform(0.5, 1.5, 800)
    load[500:560] = 0.75
    events.features[:, 0] = np.repeat(load, 5)
    events.features[own_rows(events, "m03")[560:goes_on], 0] = 0.75
    return config("silence: {}, stuck: true"), events


@pytest.mark.parametrize("goes_on", [560, 590])
def test_a_signal_that_machines_share_is_stuck_once(goes_on: int) -> None:
    made, events = shared(goes_on)
    messages = found(Engine(made), events)
    told = [(m["entity"], m["phase"], m["row"] // 5) for m in messages]
    later = [("m03", "started", 560), ("m03", "recovered", 590)] if goes_on > 560 else []
    assert told == [("m00", "started", told[0][2]), ("m00", "recovered", 560), *later]
    assert {m["since"] for m in messages} == {int(events.ts[2500])}


def missing(goes_on: int = 560) -> tuple[Config, Events]:
    """All machines have the load of the plant, which has no value from their row 500 to 560, that of m03 to another."""
    made, events = shared()
    events.features[:, 0] = np.repeat(np.random.default_rng(3).uniform(0.5, 1.5, 800), 5)
    events.features[2500:2800, 0] = np.nan
    events.features[own_rows(events, "m03")[500:goes_on], 0] = np.nan
    return made, events


@pytest.mark.parametrize("alerts", ["silence: {}, stuck: true", "silence: {}"])
@pytest.mark.parametrize("goes_on", [560, 590])
def test_a_signal_that_machines_share_is_missing_once(goes_on: int, alerts: str) -> None:
    _, events = missing(goes_on)
    messages = found(Engine(config(alerts)), events)
    told = [(m["entity"], m["phase"], m["row"] // 5, m["value"]) for m in messages]
    again = events.features[2800, 0]
    later = [("m03", "started", 560, None), ("m03", "recovered", 590, events.features[5 * 590, 0])]
    first = [("m00", "started", told[0][2], None), ("m00", "recovered", 560, again)]
    assert told == first + (later if goes_on > 560 else [])
    assert {m["since"] for m in messages} == {int(events.ts[2500])}


def test_signals_of_their_own_are_missing_each() -> None:
    """All at once, as behind one gateway, and one by itself."""
    made, events = missing()
    events.features[:2500, 0] += np.tile(np.arange(5.0), 500)
    assert sorted(m["entity"] for m in starts(found(Engine(made), events))) == [f"m{i:02}" for i in range(5)]
    alone = at_once(5, 800)
    alone.features[own_rows(alone, "m02")[500:560], 0] = np.nan
    told = [(m["entity"], m["phase"]) for m in found(Engine(made), alone)]
    assert told == [("m02", "started"), ("m02", "recovered")]


def bounded(apart: int = 1) -> tuple[Config, Events]:
    """All machines reach the same bound, each some rows after the one before, and stay there until row 560 or so."""
    events = at_once(5, 800)
    for i in range(5):
        events.features[own_rows(events, f"m{i:02}")[500 + apart * i : 560 + i], 0] = 0.75
    return config("silence: {}, stuck: true"), events


def test_what_machines_reach_at_about_the_same_moment_is_one_alert() -> None:
    """As the power to which a grid operator curtails: when the first goes on, one of those that do not is the next."""
    made, events = bounded()
    told = [(m["entity"], m["phase"], m["row"] // 5, m["since"]) for m in found(Engine(made), events)]
    since = [int(events.ts[5 * (500 + i)]) for i in range(5)]
    first = ("m00", "started", told[0][2], since[0])
    assert told[:3] == [first, ("m00", "recovered", 560, since[0]), ("m01", "started", 560, since[1])]
    assert (
        told[3:]
        == [
            each
            for i in range(1, 5)
            for each in [
                (f"m{i:02}", "recovered", 560 + i, since[i]),
                (f"m{i + 1:02}", "started", 560 + i, since[(i + 1) % 5]),
            ]
        ][:-1]
    )


def test_what_machines_reach_at_other_moments_are_alerts_of_their_own() -> None:
    made, events = bounded(12)
    told = starts(found(Engine(made), events))
    assert [m["entity"] for m in told if m["row"] // 5 < 560] == [f"m{i:02}" for i in range(5)]


def test_the_same_value_at_another_time_is_an_alert_of_its_own() -> None:
    made, events = shared()
    events.features[own_rows(events, "m02")[490:500], 0] = 0.75
    told = [m["entity"] for m in starts(found(Engine(made), events))]
    assert sorted(told) == ["m00", "m02"]


def test_only_the_columns_of_a_list_may_be_stuck() -> None:
    _, events = wide()
    mine = own_rows(events, "m01")
    events.features[mine[500:560], :3] = 0.5
    events.features[mine[600:620], 1] = np.nan
    text = config_text("silence: {}, stuck: [x1, temp]").replace("[load]", "[x0, x1, x2, x3, x4, x5]")
    every = Engine(parse_config(text.replace("[x1, temp]", "true")))
    first = events.take(np.arange(5 * 520))
    assert [m["column"] for m in starts(found(every, first))] == ["x0"]
    some = Engine(parse_config(text))
    messages = found(some, events)
    told = [(m["kind"], m["column"], m["phase"]) for m in messages]
    assert told == [
        ("stuck", "x1", "started"), ("stuck", "x1", "recovered"),
        ("silence", "x1", "started"), ("silence", "x1", "recovered"),
    ]  # fmt: skip
    assert "more" not in messages[0]["summary"]
    assert messages[3]["value"] == pytest.approx(float(events.features[mine[620], 1]))
    # The state of a flow that watched all of them: the alert of one that is none of the list ends.
    later = Engine.restore(parse_config(text), every.snapshot())
    ids = EventIds("events", 0, list(range(5 * 520, 5 * 700)))
    rest = [a.message for a in later.process(events.take(np.arange(5 * 520, 5 * 700)), 0, ids)[1]]
    ended = [(m["column"], m["phase"], m["ended_by"]) for m in rest if m["kind"] == "stuck"]
    assert ended[0] == ("x0", "recovered", "disabled")
    assert {each[0] for each in ended[1:]} <= {"x1"}
    with pytest.raises(ConfigError, match=r"alerts.stuck: found 'x9', which is no input .* choose among x0, x1"):
        parse_config(text.replace("[x1, temp]", "[x9]"))


def test_a_stop_ends_nothing_that_is_stuck_or_missing() -> None:
    """The machine stands still for a while: its sensor is no more mended by that than told twice."""
    events = fleet("regular", 5, 800)
    mine = np.flatnonzero(np.array(events.entity) == "m01")
    events.features[mine[500:700], 0] = np.nan
    events.target[mine[500:700]] = 1.25
    idle = np.zeros(len(events), np.bool_)
    idle[mine[550:570]] = True
    made = config("silence: {}, stuck: true")
    messages = found(Engine(made), replace(events, idle=idle))
    told = [(m["kind"], m["column"], m["phase"]) for m in messages]
    assert sorted(told) == [
        ("silence", "load", "recovered"), ("silence", "load", "started"),
        ("stuck", "temp", "recovered"), ("stuck", "temp", "started"),
    ]  # fmt: skip
    since = {m["since"] for m in messages}
    assert since == {int(events.ts[mine[500]])}


def test_entities_that_are_gone_for_good_leave_and_a_switch_ends_what_is_open() -> None:
    made = config(more="state: {ttl: 2h}")
    events = without(fleet("jittered", 6, 900), "m05", 400 * 60_000)
    engine = Engine(made)
    messages = [m for m in found(engine, events) if m["entity"] == "m05"]
    assert [(m["phase"], m["ended_by"]) for m in messages] == [("started", None), ("recovered", "ttl")]
    events = without(fleet("jittered", 6, 300), "m05", 200 * 60_000)
    engine = Engine(config())
    assert starts(found(engine, events))
    off = Engine.restore(config("stuck: true"), engine.snapshot())
    ids = EventIds("events", 0, [0])
    (ended,) = [a.message for a in off.process(events.take(np.array([0])), 0, ids)[1] if a.message["kind"] == "silence"]
    assert (ended["entity"], ended["ended_by"]) == ("m05", "disabled")
    none = Engine.restore(config("shadow: false"), engine.snapshot())
    (ended,) = [a.message for a in none.process(events.take(np.array([0])), 0, ids)[1]]
    assert (ended["kind"], ended["column"], ended["ended_by"]) == ("silence", None, "disabled")


@pytest.mark.parametrize("after", [5, 20])
def test_a_fixed_time_is_that_time_where_all_entities_come_at_once(after: int) -> None:
    """To one of their gaps: the clock then moves by a whole one in one step."""
    engine = Engine(config(f'silence: {{after: "{after}m"}}'))
    alerts = engine.process(without(at_once(6, 400), "m00", int(200 * MINUTE)))[1]
    (began,) = [alert.message for alert in alerts if alert.message["kind"] == "silence"]
    assert began["entity"] == "m00"
    assert after - 1 <= (began["ts"] - began["since"]) / MINUTE <= after + 1


def test_a_clock_that_was_never_set_is_no_absence() -> None:
    """A snapshot frees the rows of those that have not come for `state.ttl`, by the clock of the source."""
    found = []
    for snapshots in (False, True):
        engine, alerts = DocumentEngine(config_text("silence: {after: 10m}")), []
        for i in range(300):
            now = 1_767_225_600 + 60 * i
            events = [{"machine": name, "ts": now, "load": 0.5, "temp": 1.0 + i % 3} for name in ("m1", "m2", "m3")]
            if i < 200:
                events.append({"machine": "of-1970", "ts": 60 * i, "load": 0.5, "temp": 1.0 + i % 3})
            alerts += [(i, alert["entity"], alert["phase"]) for alert in engine.run(events).alerts]
            if snapshots and i % 5 == 0:
                engine.snapshot()
        found.append(alerts)
    assert found[0] == found[1] == [(209, "of-1970", "started")]


def test_readings_in_rows_are_watched() -> None:
    engine = DocumentEngine(
        "source: {brokers: 'x:1', topic: t}\n"
        "event: {layout: readings, tag: '{entity}.{signal}', timestamp: t, target: flow, features: [load, speed]}\n"
        "alerts: {silence: {}, stuck: true}\n"
    )
    readings = [
        {"tag": f"p{p}.{signal}", "t": 60 * i + j, "value": (7 * i + p) % 5}
        for i in range(50)
        for p in range(2)
        for j, signal in enumerate(("load", "speed", "flow"))
    ]
    assert len(engine.run(readings).predictions) == 100
