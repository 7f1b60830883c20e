"""tune --feedback: whose alarms the verdicts are about, what a change spares and loses, and what is proposed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from brokers import Kafka
from test_stream import Job
from typer.testing import CliRunner, Result

from ssm_stream.cli.app import app
from ssm_stream.config import load_config, parse_config
from ssm_stream.config.sections.holidays import Holidays
from ssm_stream.evaluate.alarm_matching import Alarm
from ssm_stream.evaluate.engine_run import EngineRun, run_engine
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.tuning.feedback import (
    Effect,
    FeedbackTuning,
    _above,
    _notes,
    candidates,
    duration,
    measure,
)
from ssm_stream.evaluate.tuning.patterns import find_holidays, find_window
from ssm_stream.evaluate.tuning.runner import Runner, load, save
from ssm_stream.evaluate.tuning.trials import run_trial, with_settings
from ssm_stream.evaluate.tuning.verdicts import JudgedAlarm, Located, locate

STEP = 300_000
MONDAY = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp()) * 1000
HOUR = 3_600_000
FILE = """\
# Two pumps.
source: {brokers: 'x:1', topic: pumps}
event:
  entity: pump
  timestamp: ts
  target: temp
  features: [load]
  lags: 0
alerts:
  anomaly:
    budget: 1 per 1000 events # a loose one
"""


class Plant(NamedTuple):
    """A recording of two pumps with faults, and of one a jolt every Sunday at six. verdicts: on all of its alarms"""

    config: Path
    recording: Path
    run: EngineRun
    verdicts: dict[str, bool]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    folder, rng = tmp_path_factory.mktemp("plant"), np.random.default_rng(5)
    n = 12 * 24 * 42
    faults = {e: np.sort(rng.choice(np.arange(2000, n - 500), 3, replace=False)) for e in range(2)}
    ts = MONDAY + STEP * np.arange(n)
    columns: dict[str, list[Any]] = {"pump": [], "ts": [], "load": [], "temp": []}
    values = []
    for e in range(2):
        load = rng.normal(50, 10, n)
        temp = 0.5 * load + rng.normal(size=n)
        for at in faults[e]:
            temp[at : at + 30] += 25
        if e == 0:
            temp[((ts // HOUR - 96) % 168 == 6 * 24 + 6) & (ts // STEP % 12 < 2)] += 8
        values.append((load.round(3), temp.round(3)))
    for i in range(n):
        for e, (load, temp) in enumerate(values):
            columns["pump"].append(f"P{e}")
            columns["ts"].append(int(ts[i]))
            columns["load"].append(float(load[i]))
            columns["temp"].append(float(temp[i]))
    config, recording = folder / "pumps.yaml", folder / "pumps.csv"
    config.write_text(FILE)
    pl.DataFrame(columns).write_csv(recording)
    run = run_engine(load_config(config), Recording(recording))
    verdicts = {
        alarm.message["episode"]: any(
            MONDAY + STEP * (at - 2) <= alarm.ts < MONDAY + STEP * (at + 60) for at in faults[alarm.entities[0]]
        )
        for alarm in run.alarms()
    }
    assert sum(verdicts.values()) >= 6
    assert len(verdicts) - sum(verdicts.values()) >= 6
    return Plant(config, recording, run, verdicts)


def said(path: Path, verdicts: dict[str, bool]) -> Path:
    path.write_text("".join(json.dumps({"id": name, "true": true}) + "\n" for name, true in verdicts.items()))
    return path


def tuned(plant: Plant, folder: Path, verdicts: dict[str, bool], *options: str) -> Result:
    file = said(folder / "verdicts.jsonl", verdicts)
    arguments = ["tune", str(plant.config), str(plant.recording), "--feedback", str(file), *options]
    return CliRunner().invoke(app, [*arguments, "--cache", str(plant.recording.parent / "cache")])


def test_false_alarms_go_and_the_true_ones_stay(plant: Plant, tmp_path: Path) -> None:
    """What it claims is counted here anew, on a run of the file that it writes."""
    out = tmp_path / "tuned.yaml"
    found = tuned(plant, tmp_path, plant.verdicts, "--json", "--out", str(out))
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert plant.config.read_text() == FILE, "never changed"
    chosen = next(each for each in result["tried"] if each["chosen"])
    assert chosen["settings"] == result["settings"] != {}
    assert chosen["true_lost"] == []
    assert [each["value"] for each in result["checks"]] == [0.0]
    assert "a loose one" in result["diff"], "comments stay"
    assert sorted(result["called_true"]) == sorted(name for name, true in plant.verdicts.items() if true)

    alarms = run_engine(load_config(out), Recording(plant.recording)).alarms()
    spared = lost = 0
    for before in plant.run.alarms():
        end = before.end if before.end is not None else 2**62
        near = [a for a in alarms if a.entities == before.entities and before.ts <= a.ts <= end]
        earlier = [
            a for a in alarms
            if a.entities == before.entities and a.kind == before.kind
            and a.ts < before.ts <= (a.end if a.end is not None else 2**62)
        ]  # fmt: skip
        if plant.verdicts[before.message["episode"]]:
            lost += not (near or earlier)
        else:
            spared += not ([a for a in near if a.kind == before.kind] or earlier)
    assert (spared, lost, len(alarms)) == (chosen["false_spared"], 0, chosen["alarms"])
    assert spared >= len(result["called_false"]) * 0.7


def test_the_table_is_for_people(plant: Plant, tmp_path: Path) -> None:
    found = tuned(plant, tmp_path, plant.verdicts)
    assert found.exit_code == 0, found.output
    false = sum(not true for true in plant.verdicts.values())
    true = len(plant.verdicts) - false
    assert f"alarms of this stretch with a verdict: {false} false, {true} true" in found.stdout
    assert f"all {true} called true are raised" in found.stdout
    assert "begin Sun 06:00-07:00, where 0.6% of the events and no true alarm lie" in found.stdout
    assert "proposed" in found.stdout
    assert "+++ " in found.stdout


def test_what_loses_a_true_alarm_is_named_and_not_proposed(plant: Plant, tmp_path: Path) -> None:
    """The jolts are called true: what would spare the rest of the false ones loses them."""
    alarms = plant.run.alarms()
    hour = lambda a: (a.ts // HOUR - 96) % 168  # noqa: E731
    verdicts = {a.message["episode"]: hour(a) == 6 * 24 + 6 for a in alarms}
    assert any(verdicts.values())
    result = json.loads(tuned(plant, tmp_path, verdicts, "--json").stdout)
    losing = [each for each in result["tried"] if each["true_lost"]]
    assert losing, "some change loses one"
    assert not any(each["chosen"] for each in losing)
    spared = max((each["false_spared"] for each in result["tried"] if each["chosen"]), default=0)
    for each in losing:
        if each["false_spared"] > spared:
            assert any(each["true_lost"][0] in note for note in result["notes"])


def test_without_true_ones_it_says_so(plant: Plant, tmp_path: Path) -> None:
    false = dict.fromkeys((), True) | {name: False for name, true in plant.verdicts.items() if not true}
    found = json.loads(tuned(plant, tmp_path, false, "--json").stdout)
    assert "none was called true, so nothing shows what it would lose" in found["verdict"]
    assert any("have no verdict" in note for note in found["notes"])


def test_without_false_ones_nothing_changes(plant: Plant, tmp_path: Path) -> None:
    found = tuned(plant, tmp_path, {name: True for name, true in plant.verdicts.items() if true})
    assert found.exit_code == 0
    assert "Keep what you have: no alarm of this stretch was called false." in found.stdout
    assert "+++" not in found.stdout


def test_verdicts_on_something_else(plant: Plant, tmp_path: Path) -> None:
    strange = {
        "pumps-0-99999999-anomaly": False,
        "pumps-3-1-anomaly": False,
        "pumps-0-10-limit": False,
        "pumps-0-40-drift": False,
    }
    found = tuned(plant, tmp_path, strange)
    assert found.exit_code == 1
    assert (
        "none of the 4 verdicts is about an anomaly or drift alarm of this recording, such as pumps-0-" in found.output
    )
    assert (
        "2 are on events that it does not have, 1 on alarms that its replay does not raise, 1 on other" in found.output
    )
    one = next(iter(plant.verdicts))
    result = json.loads(tuned(plant, tmp_path, {**strange, one: False}, "--json").stdout)
    assert (result["verdicts_elsewhere"], result["verdicts_on_other_rules"]) == (2, 1)
    assert result["verdicts_not_raised"] == ["pumps-0-40-drift"]
    assert len([note for note in result["notes"] if "not judged" in note or "by hand" in note]) == 3


def test_a_verdict_on_a_later_message_of_an_episode_is_about_it(plant: Plant) -> None:
    alarm = next(a for a in plant.run.alarms() if a.end is not None and a.end - a.ts >= 10 * STEP)
    inside = int(np.flatnonzero((plant.run.entity == alarm.entities[0]) & (plant.run.ts == alarm.ts + 5 * STEP))[0])
    name = f"pumps-0-{plant.run.position[inside]}-{alarm.kind}"
    found = locate({name: False}, plant.run)
    assert [each.alarm for each in found.judged] == [alarm]
    both = locate({alarm.message["episode"]: True, name: False}, plant.run)
    assert [each.true for each in both.judged] == [True], "of two the true one counts"
    places = {(7, 1000 + int(row)): int(row) for row in plant.run.position}
    live = locate({f"pumps-7-{1000 + plant.run.position[alarm.row]}-{alarm.kind}": False}, plant.run, places)
    assert [each.alarm for each in live.judged] == [alarm]


def made(ts: int, end: int | None, kind: str = "anomaly", entities: tuple[int, ...] = (0,)) -> Alarm:
    return Alarm(ts, entities, kind, 0, MappingProxyType({}), end)


def test_what_calls_a_person() -> None:
    judged = JudgedAlarm("x", False, made(100, 200))
    for alarm, raises in (
        (made(100, 150), True),
        (made(200, None), True),
        (made(201, None), False),
        (made(50, 99), False),
        (made(50, None), True),
        (made(150, 160, "drift"), False),
        (made(150, 160, entities=(1,)), False),
        (made(150, 160, entities=(3, 0)), True),
    ):
        assert bool(judged.raised_by([alarm])) is raises, alarm
    right = judged._replace(true=True)
    assert right.raised_by([made(150, 160, "drift")])
    assert not right.raised_by([made(50, None, "drift")]), "it was open before"


def test_an_effect_counts_what_is_spared_lost_and_late(plant: Plant) -> None:
    located = Located(
        [
            JudgedAlarm("a", False, made(100, 200)),
            JudgedAlarm("b", True, made(1000, 2000)),
            JudgedAlarm("c", True, made(5000, None)),
        ],
        0, [], 0,
    )  # fmt: skip
    trial = run_trial(load_config(plant.config), plant.recording, 50)._replace(
        alarms=[made(1300, 1400), made(1900, None)]
    )
    found = measure(located, trial)
    assert found == Effect(1, [], [300.0, 0.0], 2)
    late = measure(located, trial._replace(alarms=[made(1300, 1400)]))
    assert [each.id for each in late.lost] == ["c"]


def test_candidates_are_bounded_and_stricter(plant: Plant) -> None:
    config = load_config(plant.config)
    located = locate(plant.verdicts, plant.run)
    for settings in (group for some in candidates(config, plant.run, located).values() for group in some):
        changed = with_settings(config, settings).alerts
        assert changed.anomaly.budget.events >= config.alerts.anomaly.budget.events
        assert changed.drift.budget.events >= config.alerts.drift.budget.events
        assert changed.anomaly.consecutive <= 5
        assert changed.anomaly.min_deviation <= 60
    text = FILE[: FILE.index("alerts:")] + "alerts: {budget: {alerts: 20, per: 7d, entities: 2}}\n"
    team = parse_config(text)
    assert set(candidates(team, plant.run, located)) <= {"budget", "min_deviation", "consecutive"}
    assert _above(4.65) == 4.7
    assert _above(0.0) == 0.0
    assert [duration(ms) for ms in (90_000, 900_000, 3 * HOUR, 72 * HOUR)] == ["90s", "15m", "3h", "3d"]


def test_a_window_is_named_only_beyond_chance() -> None:
    rng = np.random.default_rng(3)
    weeks = MONDAY + HOUR * np.arange(24 * 7 * 8)
    sundays = MONDAY + HOUR * (24 * 7 * np.arange(6) + 6 * 24 + 8)
    none = np.empty(0, np.int64)
    found = find_window(np.concatenate([sundays, weeks[[30, 200]]]), none, weeks, "UTC")
    assert found is not None
    assert (found.text, found.inside, found.of) == ("Sun 08:00-09:00", 6, 8)
    tokyo = find_window(sundays, none, weeks, "Asia/Tokyo")
    assert tokyo is not None
    assert tokyo.text == "Sun 17:00-18:00"
    assert find_window(sundays, sundays[:1], weeks, "UTC") is None, "a true alarm is in it"
    assert find_window(sundays[:2], none, weeks, "UTC") is None
    chance = [find_window(np.sort(rng.choice(weeks, 12)), none, weeks, "UTC") for _ in range(200)]
    assert sum(each is not None for each in chance) <= 6


def test_holidays_and_a_channel_are_named(plant: Plant) -> None:
    days = Holidays(days=("2026-02-02", "2026-02-09"))
    event = load_config(plant.config).event.model_copy(update={"holidays": days})
    hours = MONDAY + HOUR * np.arange(24 * 7 * 6)
    on = MONDAY + HOUR * (24 * np.array([28, 28, 35, 35, 3, 4]) + 8)
    none = np.empty(0, np.int64)
    found = find_holidays(on, none, hours, event)
    assert found is not None
    assert (found.inside, found.of, round(found.events, 3)) == (4, 6, 0.048)
    assert find_holidays(on, on[:1], hours, event) is None, "a true alarm is on one"
    assert find_holidays(on[2:], none, hours, event) is None, "two may be by chance"
    assert find_holidays(on, none, hours, load_config(plant.config).event) is None
    for channel, named in (("levels", True), (None, False)):
        judged = [
            JudgedAlarm(str(i), False, Alarm(i, (0,), "anomaly", 0, {"channel": channel}, None)) for i in range(4)
        ]
        result = FeedbackTuning(Located(judged, 0, [], 0), Effect(0, [], [], 4))
        assert any("of the channel levels" in note for note in _notes(result, plant.run)) is named


def test_a_cached_run_without_ends_is_made_anew(plant: Plant, tmp_path: Path) -> None:
    trial = run_trial(load_config(plant.config), plant.recording)
    assert any(alarm.end is not None for alarm in trial.alarms)
    save(trial, tmp_path / "t.npz")
    kept = load(tmp_path / "t.npz")
    assert kept is not None
    assert kept.alarms == trial.alarms
    with np.load(tmp_path / "t.npz") as content:
        arrays = dict(content)
    details = json.loads(arrays["details"].tobytes())
    details["alarms"] = [each[:4] for each in details["alarms"]]
    arrays["details"] = np.frombuffer(json.dumps(details).encode(), np.uint8)
    np.savez_compressed(tmp_path / "t.npz", **arrays)
    assert load(tmp_path / "t.npz") is None
    assert Runner(plant.recording, folder=tmp_path).done == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--feedback", "none.jsonl"], 1, "none.jsonl: no such file"),
        (["--feedback", "none.jsonl", "--only", "lags"], 2, "changes the alarm settings alone"),
        (["--feedback", "topic"], 2, "alerts.feedback: not set; name the topic there, or give a file"),
    ],
)
def test_it_needs_verdicts(plant: Plant, options: list[str], code: int, message: str) -> None:
    found = CliRunner().invoke(app, ["tune", str(plant.config), str(plant.recording), *options])
    assert found.exit_code == code, found.output
    assert message in " ".join(found.output.replace("│", " ").split())


def test_verdicts_and_events_of_topics(kafka: Kafka, tmp_path: Path) -> None:
    """The ids that operators saw are those of partitions and offsets; so are the events of the recorded topic."""
    topic, feedback = kafka.topic("events", 2), kafka.topic("feedback", 1)
    rng, n = np.random.default_rng(8), 8000
    x = rng.normal(size=(n, 2))
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=n) + 30 * (rng.random(n) < 0.002)
    rows = [
        {"entity": f"m{i % 4}", "ts": MONDAY + i * 60_000, "a": a, "b": b, "target": t}
        for i, ((a, b), t) in enumerate(zip(x.tolist(), y.tolist(), strict=True))
    ]
    kafka.produce(topic, [(row["entity"].encode(), json.dumps(row).encode()) for row in rows])
    job = Job(kafka, tmp_path, topic, shards=1)
    content = json.loads(job.path.read_bytes())
    content["alerts"] = {"feedback": {"topic": feedback}, "anomaly": {"budget": "1 per 300 events"}}
    job.path.write_text(json.dumps(content))
    job.run()
    sent = [each for each in map(json.loads, job.told_alerts().values()) if each["phase"] == "started"]
    assert len(sent) > 5
    jumps = [each for each in sent if abs((each["y"] or 0.0) - each["yhat"]) > 10]
    kafka.produce(
        feedback, [json.dumps({"id": each["id"], "true": each in jumps}).encode() for each in sent] + [b"nonsense"]
    )
    arguments = ["tune", str(job.path), "--topic", "--feedback", "topic", "--json", "--cache", str(tmp_path / "cache")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    judged = len(result["called_false"]) + len(result["called_true"])
    assert judged >= 0.8 * len(sent), "pools of both partitions are one here, so a few alarms differ"
    assert result["verdicts_elsewhere"] == 0
    assert set(result["called_true"]) <= {each["id"] for each in jumps}
