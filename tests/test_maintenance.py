"""Planned stops: which events lie in a window, what is learned there, and which alerts are not raised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pytest
from engines import HOUR, assert_same_bits, config, cut, fleet, made, run
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_episodes import messages, restored, together
from test_fleet_alerts import LIVELY, struck

from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.config.changes import diff_model_settings, overall_effect
from ssm_stream.config.sections import Alerts
from ssm_stream.config.sections.maintenance import Span, weekly_spans
from ssm_stream.contract.message_schemas import prediction_schema
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.maintenance.windows import between, weekly
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.planned_stops import HELD, LEARNED
from ssm_stream.kafka.encoder import Encoder, encode_predictions
from ssm_stream.kafka.records import ShardBatch
from ssm_stream.operators.records import predictions_of

DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
MINUTE = 60_000
QUICK = "anomaly: {recover_after: 5, cooldown: 0}"
TOPIC = "sinks: {suppressed: hidden}\n"


@pytest.fixture(autouse=True, scope="module")
def reported_often() -> Iterator[None]:
    """Open alerts are reported again every 3 events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Alerts, "ongoing_every", 3)
        yield


def windows(*entries: str, alerts: str = QUICK, more: str = "model: {warmup: 10}\n", event: str = "") -> Config:
    listed = ", ".join(f"{{{each}}}" for each in entries)
    return config(event or "features: [a, b]", f"alerts: {{{alerts}, maintenance: [{listed}]}}\n{more}{TOPIC}")


def once(begin: int, end: int, more: str = "") -> str:
    """A window between two times, ms."""
    times = [datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in (begin, end)]
    return f"from: '{times[0]}', to: '{times[1]}'{more}"


# Which times lie in a window.


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Mon 00:00-24:00", [(0, 1440)]),
        ("Tue 06:00-18:30", [(1440 + 360, 1440 + 1110)]),
        ("Sat,Sun 06:00-18:00", [(7560, 8280), (9000, 9720)]),
        ("Mon-Wed,Sun 01:00-02:00", [(60, 120), (1500, 1560), (2940, 3000), (8700, 8760)]),
        ("Sat-Mon 22:00-23:00", [(1320, 1380), (8520, 8580), (9960, 10020)]),
        ("Sun 22:00-06:00", [(0, 360), (9960, 10080)]),
        ("Fri 22:00-06:00", [(7080, 7560)]),
    ],
)
def test_a_text_names_parts_of_the_week(text: str, spans: list[tuple[int, int]]) -> None:
    assert weekly_spans(text) == [Span(*each) for each in spans]


@pytest.mark.parametrize(
    "text",
    ["", "Sunday 06:00-18:00", "Sun 6:00-18:00", "Sun 06:00", "06:00-18:00", "Sun 06:00-06:00", "Sun 24:00-06:00",
     "Sun 06:00-25:00", "Sun 06:00-24:30", "Mon-Wed-Fri 06:00-07:00", "Sun; 06:00-18:00"],
)  # fmt: skip
def test_a_text_that_names_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write days and times such as 'Sun 06:00-18:00'"):
        weekly_spans(text)


def by_clock(days: list[int], begin: int, length: int, zone: str, ms: int) -> bool:
    """The definition: what the clock shows lies on one of these days, or in what passes their midnight."""
    local = datetime.fromtimestamp(ms / 1000, UTC).astimezone(ZoneInfo(zone))
    minute = 60 * local.hour + local.minute
    before = (local.weekday() - 1) % 7
    return (local.weekday() in days and begin <= minute < begin + length) or (
        before in days and begin <= minute + 1440 < begin + length
    )


@given(
    days=st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True),
    begin=st.integers(0, 1439),
    length=st.integers(1, 1440),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
    times=st.lists(
        st.one_of(
            st.integers(0, 2_000_000_000_000),
            st.integers(1_774_700_000_000, 1_774_900_000_000),  # spring 2026 in Berlin
            st.integers(1_792_800_000_000, 1_793_500_000_000),  # autumn, and New York's
        ),
        min_size=1,
        max_size=30,
    ),
    near=st.lists(st.integers(0, 80_000_000), min_size=1, max_size=30),
)
@settings(max_examples=300)
def test_a_weekly_window_is_on_the_clock_of_its_zone(
    days: list[int], begin: int, length: int, zone: str, times: list[int], near: list[int]
) -> None:
    end = (begin + length) % 1440
    ends = "24:00" if end == 0 and begin + length == 1440 else f"{end // 60:02}:{end % 60:02}"
    text = f"{','.join(DAYS[day] for day in days)} {begin // 60:02}:{begin % 60:02}-{ends}"
    if end == begin:
        return
    within_a_day = [times[0] + ms for ms in near]
    for some in (times, within_a_day):
        assert weekly(text, zone)(np.array(some)).tolist() == [by_clock(days, begin, length, zone, ms) for ms in some]
    assert weekly(text, zone)(np.array([], np.int64)).tolist() == []


def minutes_inside(text: str, day: datetime) -> int:
    """Minutes from a local noon to the next, in Berlin, that lie in a window."""
    begin = int(day.replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000)
    end = int((day + timedelta(days=1)).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000)
    return int(weekly(text, "Europe/Berlin")(np.arange(begin, end, MINUTE)).sum())


def test_both_changes_of_the_clock() -> None:
    spring, autumn, usual = datetime(2026, 3, 28, 12), datetime(2026, 10, 24, 12), datetime(2026, 5, 2, 12)
    night = "Sat 22:00-06:00"
    assert [minutes_inside(night, day) for day in (usual, spring, autumn)] == [480, 420, 540]
    # The hour that is skipped does not occur, the one that is repeated does so twice.
    assert [minutes_inside("Sun 02:15-02:45", day) for day in (usual, spring, autumn)] == [30, 0, 60]
    assert [minutes_inside("Sun 06:00-18:00", day) for day in (usual, spring, autumn)] == [360, 360, 360]


def test_a_window_that_occurs_once() -> None:
    inside = between(1000, 3000)(np.array([999, 1000, 2999, 3000]))
    assert inside.tolist() == [False, True, True, False]
    settings_ = windows("from: 1970-01-01T01:00, to: 1970-01-01T03:00", event="features: [a, b], time_zone: Asia/Tokyo")
    events = Engine(settings_).episodes.mark(made(np.zeros(4), ts=np.array([-9, -8, -7, -6]) * HOUR))
    assert events.maintenance is not None
    assert events.maintenance.tolist() == [0, HELD, HELD, 0]


def test_where_windows_overlap_the_one_that_holds_counts() -> None:
    settings_ = windows(
        once(0, 10, ", learn: adapt"), once(5, 20, ", learn: hold, entities: 'pump-*'"), once(8, 30, ", learn: adapt")
    )
    events = made(
        np.zeros(6), entity=["pump-1", "press", "pump-1", "press", "pump-2", "pump-2"], ts=[1, 6, 6, 9, 25, 40]
    )
    marked = Engine(settings_).episodes.mark(events).maintenance
    assert marked is not None
    assert marked.tolist() == [LEARNED, LEARNED, HELD, LEARNED, LEARNED, 0]


# What is learned.


@pytest.mark.parametrize(
    "event", ["features: [a, b]", "features: [a, b], target: [y, z]", "features: [a, b, c], target: all"]
)
@pytest.mark.parametrize("learn", ["hold", "adapt"])
def test_events_of_a_window_are_predicted_and_not_learned(event: str, learn: str) -> None:
    """With `hold` what is learned, and all that is predicted, is as if they had never come."""
    plain = config(event, f"alerts: {{{QUICK}}}\nmodel: {{warmup: 10}}\n{TOPIC}")
    events = fleet(2000)
    if "target: [" in event:
        events = replace(events, target=np.stack([events.target, events.target[::-1]], axis=1).copy())
    if "all" in event:
        events = replace(events, features=np.empty((2000, 0)), target=np.c_[events.features, events.target])
    begin, end = 800_000, 1_100_000
    inside = (begin <= events.ts) & (events.ts < end)
    stopped = events.target.copy()
    stopped[inside] = 0.0
    engine = Engine(windows(once(begin, end, f", learn: {learn}"), event=event))
    found, _ = run(engine, replace(events, target=stopped))
    without, _ = run(Engine(plain), events.take(np.flatnonzero(~inside)))
    outside = {name: values[~inside] for name, values in found.items()}
    assert np.isfinite(found["yhat"]).all()
    if learn == "adapt":
        assert not np.array_equal(outside["yhat"], without["yhat"])
        return
    first = int(np.argmax(inside))
    assert_same_bits(*({name: own[:first] for name, own in each.items()} for each in (outside, without)))
    for name in ("yhat", "n", "warmup", "fleet"):
        assert outside[name].tobytes() == without[name].tobytes(), name
    assert not found["score"][inside].any()


def test_the_first_events_after_a_window_have_the_allowance_of_a_restart() -> None:
    """They are learned; what they are off by is no alarm, as those of a machine that starts again."""
    events = fleet(2000)
    begin, end = 800_000, 1_100_000
    after = (end <= events.ts) & (events.ts < end + 30_000)
    events.target[after] += 50.0
    alarms = {
        learn: [a for a in run(Engine(windows(once(begin, end, f", learn: {learn}"))), events)[1] if after[a.row]]
        for learn in ("hold", "adapt")
    }
    assert not alarms["hold"]
    assert any(a.message["phase"] == "started" for a in alarms["adapt"])


def test_a_horizon_meets_no_target_of_a_window() -> None:
    event, more = "features: [a, b]", "model: {warmup: 10, horizon: 2 events}\n"
    events = fleet(1500)
    settings_ = windows(once(500_000, 700_000), event=event, more=more)
    engine = Engine(settings_)
    run(engine, events)
    plain = Engine(config(event, f"alerts: {{{QUICK}}}\n{more}{TOPIC}"))
    inside = (events.ts >= 500_000) & (events.ts < 700_000)
    unlabelled = replace(events, target=np.where(inside, np.nan, events.target))
    run(plain, unlabelled)
    assert [engine.state_hash(name) for name in engine.names] == [plain.state_hash(name) for name in plain.names]


# Which alerts are not raised.


def broken(n: int = 90, at: int = 40, back: int = 46, entity: str = "old") -> Events:
    """An entity's events, a minute apart, far off between two of them."""
    y = np.random.default_rng(0).normal(size=n)
    y[at:back] += 1000
    return made(y, entity=entity, ts=np.arange(n) * MINUTE)


ADAPT = ", learn: adapt"


@pytest.mark.parametrize(
    ("begin", "end", "where"),
    [
        (30, 85, "hidden"),  # all of it
        (30, 45, "hidden"),  # it goes on after the window
        (41, 85, "alerts"),  # it began before
        (30, 40, "alerts"),  # it begins after
    ],
)
def test_an_episode_is_suppressed_to_its_end_if_it_began_in_a_window(begin: int, end: int, where: str) -> None:
    plain = config(sections=f"alerts: {{{QUICK}}}\nmodel: {{warmup: 10}}\n{TOPIC}")
    expected, _ = messages(Engine(plain), broken())
    assert [m["phase"] for m in expected][:: len(expected) - 1] == ["started", "recovered"]
    engine = Engine(windows(once(begin * MINUTE, end * MINUTE, ADAPT)))
    sent, hidden = messages(engine, broken())
    found = {"alerts": sent, "hidden": hidden}
    assert not found["alerts" if where == "hidden" else "hidden"]
    own = [{k: v for k, v in m.items() if k not in ("suppressed_by", "config_hash")} for m in found[where]]
    assert own == [{k: v for k, v in m.items() if k != "config_hash"} for m in expected]
    assert {m.get("suppressed_by") for m in found[where]} == {"maintenance" if where == "hidden" else None}


def test_an_episode_stays_suppressed_when_the_windows_are_removed_and_when_it_is_reset() -> None:
    plain = config(sections=f"alerts: {{{QUICK}}}\nmodel: {{warmup: 10}}\n{TOPIC}")
    began = windows(once(30 * MINUTE, 45 * MINUTE, ADAPT))
    engine = Engine(began)
    _, (start,) = messages(engine, cut(broken(), 0, 42))
    assert overall_effect(diff_model_settings(began.model_settings, plain.model_settings)) == "migrated"
    other = restored(engine, plain)
    sent, hidden = messages(other, cut(broken(), 42, None), 42)
    assert (sent, hidden[-1]["phase"], {m["episode"] for m in hidden}) == ([], "recovered", {start["id"]})
    engine.remove("old")
    sent, hidden = messages(restored(engine, plain), made([0.0], entity="other", ts=[100 * MINUTE]), 100)
    assert sent == []
    assert [(m["ended_by"], m["episode"], m["suppressed_by"]) for m in hidden] == [
        ("reset", start["id"], "maintenance")
    ]


def test_the_shadow_withholds_the_rest() -> None:
    settings_ = windows(once(30 * MINUTE, 45 * MINUTE, ADAPT), alerts=f"{QUICK}, shadow: true")
    two = together(broken(), replace(broken(entity="new"), ts=(100 + np.arange(90)) * MINUTE))
    sent, hidden = messages(Engine(settings_), two)
    assert sent == []
    assert {(m["entity"], m["suppressed_by"]) for m in hidden} == {("old", "maintenance"), ("new", "shadow")}


def test_what_is_stopped_is_no_fleet_alert() -> None:
    """Entities of a window do not count for the others, whose alerts stay what they are."""
    events = struck(4000)
    alarmed = set(events.entity)
    sections = LIVELY + TOPIC
    _, replaced = messages(Engine(config(sections=sections)), events)
    assert replaced
    stop = f"[{{entities: '*', {once(0, 10**10)}, learn: adapt}}]"
    content = sections.replace("alerts:\n", f"alerts:\n  maintenance: {stop}\n", 1)
    sent, hidden = messages(Engine(config(sections=content)), events)
    assert sent == []
    assert {m["suppressed_by"] for m in hidden} == {"maintenance"}
    assert {m["scope"] for m in hidden} == {"entity"}
    assert {m["entity"] for m in hidden} <= alarmed


def test_limits_are_raised_unless_the_window_has_them_too() -> None:
    alerts = f"{QUICK}, limits: [{{column: a, above: 5}}]"
    features = np.zeros((60, 2))
    features[20:30, 0] = 9.0
    events = made(np.zeros(60), features, ts=np.arange(60) * MINUTE)
    for more, where in (("", "alerts"), (", limits: true", "hidden")):
        sent, hidden = messages(Engine(windows(once(0, 40 * MINUTE, more), alerts=alerts)), events)
        found = {"alerts": sent, "hidden": hidden}[where]
        assert [(m["kind"], m["phase"]) for m in found if m["phase"] != "ongoing"] == [
            ("limit", "started"), ("limit", "recovered"),
        ]  # fmt: skip
        assert len(sent) + len(hidden) == len(found)


@settings(max_examples=10)
@given(
    cuts=st.sets(st.integers(1, 1499), max_size=5),
    restarts=st.sets(st.integers(1, 1499), max_size=2),
    learn=st.sampled_from(["hold", "adapt"]),
    pattern=st.sampled_from(["*", "m[12]"]),
)
def test_no_batch_and_no_restart_changes_anything(cuts: set[int], restarts: set[int], learn: str, pattern: str) -> None:
    more = f", learn: {learn}, entities: '{pattern}'"
    alerts = "anomaly: {budget: 1 per 100 events, cooldown: 0, recover_after: 5}"
    alerts += ", silence: {after: 20s}, stuck: true, limits: [{column: a, above: 2}]"
    settings_ = windows(once(500_000, 800_000, more), once(1_100_000, 1_300_000, more), alerts=alerts)
    events = fleet(1500, seed=2)
    expected = messages(Engine(settings_), events)
    assert learn == "hold" or "maintenance" in {m["suppressed_by"] for m in expected[1]}
    engine = Engine(settings_)
    sent, hidden = list[dict[str, Any]](), list[dict[str, Any]]()
    edges = [0, *sorted(cuts | restarts), 1500]
    for begin, end in pairwise(edges):
        if begin in restarts:
            engine = restored(engine)
        more_sent, more_hidden = messages(engine, cut(events, begin, end), begin)
        sent += more_sent
        hidden += more_hidden
    assert (sent, hidden) == expected


# What stops.


def stopping(n: int, entities: int, begin: int, end: int) -> Events:
    """Entities that send once a minute, of which the last sends nothing between two minutes."""
    minute, who = np.repeat(np.arange(n), entities), np.tile(np.arange(entities), n)
    gone = (who == entities - 1) & (begin <= minute) & (minute < end)
    y = np.random.default_rng(5).normal(size=n * entities)
    events = made(y, entity=[f"m{e}" for e in who], ts=minute * MINUTE + who)
    return events.take(np.flatnonzero(~gone))


@pytest.mark.parametrize("back", [250, 400])
def test_a_silence_that_outlasts_its_window_is_an_alert_of_its_own(back: int) -> None:
    alerts = f"{QUICK}, silence: {{after: 10m}}"
    events = stopping(500, 4, 200, back)
    settings_ = windows(once(190 * MINUTE, 300 * MINUTE), alerts=alerts)
    sent, hidden = messages(Engine(settings_), events)
    own = [(m["phase"], (m["ts"] - int(events.ts[0])) // MINUTE) for m in sent if m["kind"] == "silence"]
    suppressed = [m["phase"] for m in hidden if m["kind"] == "silence"]
    if back == 250:
        assert (own, suppressed) == ([], ["started", "recovered"])
    else:
        assert (own, suppressed) == ([("started", 300), ("recovered", 400)], ["started"])


def test_a_held_stop_is_no_stuck_signal_and_teaches_none() -> None:
    """All values stand still for hours; afterwards a signal that is stuck is found as without the stop."""
    rng = np.random.default_rng(3)
    n, stop = 1200, slice(600, 900)
    y, features = rng.normal(size=n), rng.normal(size=(n, 2))
    y[stop], features[stop] = 7.0, 7.0
    features[1100:, 0] = 3.0
    alerts = "anomaly: {enabled: false}, drift: {enabled: false}, stuck: true, silence: {after: auto}"
    ts = np.arange(n) * MINUTE
    held = windows(once(600 * MINUTE, 900 * MINUTE), alerts=alerts)
    plain = config(sections=f"alerts: {{{alerts}}}\nmodel: {{warmup: 10}}\n{TOPIC}")
    sent, hidden = messages(Engine(held), made(y, features, ts=ts))
    assert hidden == []
    rows = np.r_[0:600, 900:n]
    without, _ = messages(Engine(plain), made(y[rows], features[rows], ts=ts[rows]))
    assert [(m["column"], m["ts"]) for m in sent] == [(m["column"], m["ts"]) for m in without]
    assert {m["column"] for m in sent} == {"a"}


# The messages, and the file.


@pytest.mark.parametrize("event", ["features: [a, b]", "features: [a, b], target: [y, z]"])
@pytest.mark.parametrize("horizon", ["0", "1h", "3 events"])
def test_the_window_is_in_the_prediction(event: str, horizon: str) -> None:
    settings_ = windows(once(20_000, 40_000), event=event, more=f"model: {{horizon: {horizon}}}\n")
    events = fleet(60)
    if "[y" in event:
        events = replace(events, target=np.stack([events.target, events.target], axis=1))
    engine, encoder = Engine(settings_), Encoder(settings_)
    batch = ShardBatch(0, engine.episodes.mark(events), list(range(60)))
    predictions, alerts = engine.process(batch.events)
    values = encoder.encode(batch, predictions, alerts).values
    documents = [orjson.loads(value) for value in values]
    Draft202012Validator.check_schema(prediction_schema(settings_))
    for document in documents:
        Draft202012Validator(prediction_schema(settings_)).validate(document)
        assert document["maintenance"] == (20_000 <= document["ts"] < 40_000)
    assert 10 < sum(document["maintenance"] for document in documents) < len(documents) - 10
    # What is withheld from the model is in the message all the same.
    assert any(document["maintenance"] and document["y"] is not None for document in documents)
    assert [each.to_json() for each in predictions_of(settings_, batch, predictions)] == list(values)


def test_without_windows_nothing_changes() -> None:
    plain = config()
    assert "maintenance" not in prediction_schema(plain)["properties"]
    assert "maintenance" not in plain.model_settings["alerts"]
    events = fleet(10)
    engine = Engine(plain)
    predictions, _ = engine.process(events)
    values = encode_predictions(ShardBatch(0, engine.episodes.mark(events), list(range(10))), predictions, "t-0-")
    assert all("maintenance" not in orjson.loads(value) for value in values)
    assert windows("weekly: Sun 06:00-18:00").hash != plain.hash


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("weekly: Sunday", "String should match pattern"),
        ("entities: a", "a window is `weekly`, or has `from` and `to`"),
        ("from: 2026-01-01", "a window is `weekly`, or has `from` and `to`"),
        ("weekly: Sun 06:00-18:00, to: 2026-01-01", "found weekly together with from or to"),
        ("from: 2026-01-02, to: 2026-01-01", "entry 1 ends before it begins"),
        ("from: tomorrow, to: 2026-01-01", "write a time such as '2026-08-10T06:00'"),
        ("weekly: Sun 06:00-18:00, time_zone: Mars", "write an IANA name such as 'Asia/Tokyo'"),
        ("weekly: Sun 06:00-18:00, learn: slow", "Input should be 'hold' or 'adapt'"),
    ],
)
def test_a_window_that_cannot_be_used_is_refused(entry: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        windows(entry)


def test_the_file_is_read_back_as_it_was() -> None:
    settings_ = windows(
        "weekly: 'Sat,Sun 22:00-06:00', entities: 'pump-*', time_zone: Asia/Tokyo", once(0, HOUR, ADAPT)
    )
    again = parse_config(orjson.dumps(settings_.model_dump(mode="json", exclude={"ops", "recovery", "audit"})).decode())
    assert again.alerts == settings_.alerts
    assert [each.text for each in settings_.alerts.maintenance] == [
        "Sat,Sun 22:00-06:00 Asia/Tokyo", "1970-01-01T00:00:00+00:00 to 1970-01-01T01:00:00+00:00",
    ]  # fmt: skip
    (warning,) = [text for text in settings_.replace(sinks={}).harmful_combinations() if "maintenance" in text]
    assert "name a topic for it" in warning


def test_labels_are_not_held() -> None:
    labels = "labels: {topic: results, wait: 1h}\n"
    with pytest.raises(ConfigError, match="write learn: adapt"):
        windows("weekly: Sun 06:00-18:00", more=labels)
    assert windows("weekly: Sun 06:00-18:00, learn: adapt", more=labels).labels is not None
