"""A stop (`event.when`) ends the alerts of the model: what stands still has no errors by which it could recover."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from test_episodes import messages

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.episodes.stops import Stops
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.labels import LabelReader

KINDS = {
    "one target": ("  target: temp\n", ""),
    "several targets": ("  target: [temp, rpm]\n", ""),
    "a horizon": ("  target: temp\n", "model: {horizon: 2 events}\n"),
    "expiring": ("  target: [temp, rpm]\n", "state: {ttl: 12h}\n"),
    "limited": ("  target: temp\n", "state: {max_entities: 4, when_full: evict}\n"),
}
DAY, RUNS = 1440, 600
STOPPED = 100  # idle events after which they end


def config(kind: str = "one target", more: str = "", labels: str = "") -> Config:
    event, own = KINDS[kind]
    return parse_config(
        "source: {brokers: a, topic: events}\nrecovery: {directory: null}\nevent:\n  entity: m\n  timestamp: ts\n"
        f"  features: [load]\n{event}  when: {{load: {{above: 0}}}}\n{own}{more}{labels}"
    )


def documents(days: int, seed: int = 0, machines: int = 3) -> list[dict[str, Any]]:
    """Machines that run 10 h a day, in rows of a minute; in their last minute the load is almost gone."""
    rng, x, out = np.random.default_rng(seed), np.full(machines, 30.0), []
    for i in range(days * DAY):
        for m in range(machines):
            at = (i + 97 * m) % DAY
            load = 0.0 if at >= RUNS else 10.0 if at == RUNS - 1 else 60 + 5 * rng.normal()
            x[m] += 0.05 * (30 + 0.5 * load - x[m])
            rpm = 12 * load + 0.4 * rng.normal() if load else 0.0
            row = {"m": f"m{m}", "ts": 1_772_000_000 + 60 * i, "load": round(load, 1), "rpm": round(rpm, 1)}
            out.append(row | {"temp": round(float(x[m] + 0.15 * rng.normal()), 2), "at": at, "day": i // DAY})
    return out


def alerts_of(
    made: Config,
    rows: list[dict[str, Any]],
    cuts: list[int] | None = None,
    restored: frozenset[int] = frozenset(),
) -> list[dict[str, Any]]:
    engine, out = Engine(made), list[dict[str, Any]]()
    for start, stop in pairwise([0, *(cuts or []), len(rows)]):
        if start in restored:
            engine = Engine.restore(made, engine.snapshot())
        events, refused = EventReader(made.event).read(rows[start:stop])
        assert not refused
        events = engine.admit(events)[0]
        ids = EventIds("events", 0, (start + events.position).tolist())
        found = engine.process(events, 0, ids)[1]
        out += [each.message | {"row": ids.offsets[each.row], "id": ids.alert_id(each)} for each in found]
    return out


def fault(rows: list[dict[str, Any]], day: int, begin: int, size: float, until: int = 99) -> None:
    """From that minute of a day on one machine is warmer."""
    for row in rows:
        if row["m"] == "m0" and row["load"] and (day, begin) <= (row["day"], row["at"]) and row["day"] < until:
            row["temp"] += size


def test_an_anomaly_ends_within_the_stop() -> None:
    """It stayed open for the 14 hours of each, as nothing is judged within it."""
    rows, made = documents(12), config("several targets")
    fault(rows, 8, RUNS - 3, 8.0, 9)
    found = [each for each in alerts_of(made, rows) if each["entity"] == "m0" and each["kind"] == "anomaly"]
    start = next(each for each in found if each["phase"] == "started" and rows[each["row"]]["day"] == 8)
    end = found[found.index(start) + 1]
    assert rows[start["row"]]["at"] >= RUNS - 3
    assert (end["phase"], end["ended_by"], rows[end["row"]]["at"]) == ("recovered", "stopped", RUNS + STOPPED - 1)
    assert end["summary"].startswith("m0: closed, as it has stopped")
    assert (end["score"], end["y"], end["absorbed_after"]) == (None, None, None)
    assert end["episode"] == start["episode"]
    events = EventReader(made.event).read(rows)[0]
    sent, _ = messages(Engine(made), events)  # valid, each of them
    assert end["summary"] in [each["summary"] for each in sent]


def test_a_drift_ends_within_the_stop() -> None:
    rows = documents(12)
    rng = np.random.default_rng(0)
    for row in rows:
        if row["m"] == "m0" and row["load"] and row["day"] == 8 and row["at"] >= RUNS - 60:
            row["temp"] += float(rng.choice([-4.0, 4.0]))
    found = [each for each in alerts_of(config(), rows) if each["entity"] == "m0" and each["kind"] == "drift"]
    start = next(each for each in found if rows[each["row"]]["day"] == 8)
    end = found[found.index(start) + 1]
    assert start["phase"] == "started"
    assert (end["ended_by"], rows[end["row"]]["at"]) == ("stopped", RUNS + STOPPED - 1)


def test_a_short_pause_ends_nothing() -> None:
    rows = documents(12)
    fault(rows, 8, 300, 8.0, 9)
    for row in rows:
        if row["m"] == "m0" and row["day"] == 8 and 303 <= row["at"] < 303 + STOPPED - 1:
            row["load"] = 0.0
    found = [each for each in alerts_of(config(), rows) if each["entity"] == "m0" and rows[each["row"]]["day"] == 8]
    assert next(each["phase"] for each in found if each["kind"] == "anomaly") == "started"
    assert "stopped" not in [each["ended_by"] for each in found if rows[each["row"]]["at"] < RUNS]


def test_entities_that_have_left_are_forgotten() -> None:
    """Names that come and go, as of pods, must not fill the memory while the process runs."""
    made = config()
    rows = [{"m": f"m{i}", "ts": 1_772_000_000 + i, "load": 0.0, "temp": 20.0} for i in range(6)]
    events, stops = EventReader(made.event).read(rows)[0], Stops(made)
    stops.mark(events, [{each["m"] for each in rows}])
    assert [each for each in events.entity if stops.stands(each)] == events.entity
    assert stops.dump([{"m2"}]) == {"idle": {"m2": 1}}
    assert [each for each in events.entity if stops.stands(each)] == ["m2"]


@pytest.mark.parametrize("learn", ["adapt", "hold"])
def test_what_is_still_wrong_at_the_restart_is_a_new_alert(learn: str) -> None:
    """The machine trips by its fault, and is started again as it is."""
    rows = documents(16)
    for row in rows:
        if row["m"] == "m0" and row["load"] and (row["day"], row["at"]) >= (13, RUNS - 2):
            row["temp"] += 25.0 if row["day"] == 13 else 25.0 * (row["at"] % 40 < 20)
    rules = f"alerts: {{anomaly: {{learn: {learn}}}, drift: {{enabled: false}}}}\n"
    found = alerts_of(config(more=rules), rows)
    mine = [each for each in found if each["entity"] == "m0" and rows[each["row"]]["day"] >= 13]
    assert [each["phase"] for each in mine[:3]] == ["started", "recovered", "started"]
    assert mine[1]["ended_by"] == "stopped"
    assert rows[mine[2]["row"]]["day"] == 14


@pytest.mark.parametrize("kind", KINDS)
def test_no_batch_and_no_snapshot_changes_where_it_ends(kind: str) -> None:
    rows, made = documents(9, 1), config(kind, "alerts: {anomaly: {consecutive: 2, budget: 1 per 300 events}}\n")
    rng = np.random.default_rng(2)
    for row in rows:
        if RUNS - 20 <= row["at"] < RUNS:
            row["temp"] += float(rng.choice([-3.0, 3.0]))
    if kind == "limited":  # others come and go
        rows = [{**row, "m": f"x{i}"} if i % 900 == 0 else row for i, row in enumerate(rows)]
    want = alerts_of(made, rows)
    if kind != "a horizon":  # what is predicted within a stop is not, so that no target comes in it
        assert sum(each["ended_by"] == "stopped" for each in want) > 3
    for seed in range(4):
        cuts = sorted(set(np.random.default_rng(seed).integers(1, len(rows), 60).tolist()))
        assert alerts_of(made, rows, cuts, frozenset(cuts[::3])) == want


def test_what_a_late_label_opens_within_a_stop_ends_at_its_next_event() -> None:
    made = config(labels="labels: {topic: l, timestamp: ts, target: temp}\nalerts: {anomaly: {consecutive: 1}}\n")
    rows = [row for row in documents(3, machines=1) if row["day"] < 2]
    assert made.labels is not None
    engine, alerts = Engine(made), list[dict[str, Any]]()
    stop = next(i for i, row in enumerate(rows) if row["day"] == 1 and row["at"] == RUNS)
    fault(rows, 1, RUNS - 5, 40.0)
    bare = [{name: value for name, value in row.items() if name != "temp"} for row in rows]
    labels = [{"m": row["m"], "ts": row["ts"], "temp": row["temp"]} for row in rows if row["load"]]
    late = [each for each in labels if each["ts"] >= rows[stop - 5]["ts"]]
    for begin in (*range(0, stop + 130, 100), stop + 130):
        part = bare[begin : min(begin + 100, stop + 130 if begin < stop + 130 else len(bare))]
        alerts += [each.message for each in engine.process(EventReader(made.event).read(part)[0])[1]]
        ready = [each for each in labels if part[0]["ts"] <= each["ts"] <= part[-1]["ts"] and each not in late]
        ready += late if part[-1] == bare[stop + 129] else []
        alerts += [each.message for each in engine.learn(LabelReader(made, made.labels).read(ready)[0]).alerts]
    mine = [each for each in alerts if each["kind"] == "anomaly" and each["since"] >= 1000 * rows[stop - 5]["ts"]]
    assert [each["phase"] for each in mine] == ["started", "recovered"]
    assert (mine[1]["ended_by"], mine[1]["ts"]) == ("stopped", 1000 * rows[stop + 130]["ts"])
