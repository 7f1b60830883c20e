"""`ssm-stream init`: from a sample to a configuration that validates and backtests; what it cannot know, it says."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from brokers import Kafka, MockKafka
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ssm_stream.autoconfig.columns import name_words
from ssm_stream.autoconfig.draft import Choices, Draft, draft_event
from ssm_stream.autoconfig.inputs.redundant import find_relation
from ssm_stream.autoconfig.render import render_config, yaml_quoted
from ssm_stream.cli.app import app
from ssm_stream.config import ConfigError, Event, load_config, parse_config
from ssm_stream.config.paths import PathError, parse_path
from ssm_stream.ingest.events import EventReader

DATA = Path(os.environ.get("SSM_STREAM_DATA") or Path(__file__).parents[2] / "shared" / "data")
RECORDINGS = ("bike_sharing_hourly", "chick_weights", "cmapss_fd001", "gas_turbine_nox", "msl_telemetry", "nab_shared")
RECORDINGS += ("parking_birmingham", "skab_shared", "steel_energy", "tep_shared", "water_flow")


def ssm_stream(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def plant(n: int = 240, machines: int = 3, **changed: Any) -> list[dict[str, Any]]:
    """Rows of machines side by side, one a minute; `changed` renames columns (None: left out)."""
    rng, out = np.random.default_rng(0), []
    for i in range(n):
        minute, machine = divmod(i, machines)
        load = round(float(rng.normal(5, 1)), 3)
        row = {
            "recorded_at": f"2026-03-01T{minute // 60:02d}:{minute % 60:02d}:00",
            "press": f"press-{machine + 1}",
            "mode": "AB"[int(rng.integers(2))],
            "load": load,
            "speed": int(rng.integers(100, 200)),
            "temp": round(20 + 3 * load + float(rng.normal(0, 0.1)), 3),
        }
        out.append({changed.get(key, key): value for key, value in row.items() if changed.get(key, key) is not None})
    return out


def decided(rows: list[dict[str, Any]], **wishes: Any) -> Draft:
    return draft_event(rows, Choices(**wishes), "line-1")


# Real recordings.


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_real_recording_gives_a_configuration_that_validates_and_backtests(name: str, tmp_path: Path) -> None:
    """The first rows; the entity, the time and the target are those that the recording is meant to have."""
    file, out = DATA / f"{name}.csv.gz", tmp_path / "monitor.yaml"
    if not file.exists():
        pytest.skip(f"{name} is not in {DATA}; set SSM_STREAM_DATA to the folder that holds it")
    told = ssm_stream("init", file, "--out", out)
    assert told.exit_code == 0, told.stderr
    event = load_config(out).event
    assert (event.entity, event.timestamp, event.targets) == ("entity", "ts", ["target"])
    assert not [path for path in event.columns if path.startswith(("label_", "alt_target_"))]
    assert ssm_stream("validate", out).exit_code == 0
    result = ssm_stream("backtest", out, file, "--limit", 1000, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["events"] == min(1000, 578 if name == "chick_weights" else 1000)


def test_columns_left_out_for_one_reason_hide_no_other(tmp_path: Path) -> None:
    file = tmp_path / "wide.jsonl"
    wide = {f"c{j:03d}": j for j in range(200)}
    rows = [{**row, **{name: j * i for name, j in wide.items()}, "note": f"n{i}"} for i, row in enumerate(plant())]
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    told = ssm_stream("init", file, "--out", tmp_path / "monitor.yaml", "--target", "temp", "--json")
    lines = [line for line in told.stderr.splitlines() if line.startswith("  left out ")]
    assert len(lines) <= 25
    assert any("note: text with " in line for line in lines)
    (many,) = (line for line in lines if "list those that matter in event.features" in line)
    assert re.match(r"  left out    c0\d\d, c0\d\d, c0\d\d and 1\d\d more: more than 64 columns", many)
    assert len(json.loads(told.stdout)["left_out"]) > 100


def test_the_next_commands_can_be_pasted(tmp_path: Path) -> None:
    file, out = tmp_path / "line 1.jsonl", tmp_path / "my conf.yaml"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in plant()))
    told = ssm_stream("init", file, "--out", out)
    commands = [line for line in told.stderr.splitlines() if line.startswith("  ssm-stream ")]
    assert len(commands) == 2
    for command in commands:
        assert ssm_stream(*shlex.split(command)[1:]).exit_code == 0


# What is inferred.


MINUTES = [f"2026-03-{1 + i // 1440:02d}T{i // 60 % 24:02d}:{i % 60:02d}:00" for i in range(3000)]


def notes_of(times: list[str], machines: list[str] | None = None, **wishes: Any) -> list[str]:
    rng = np.random.default_rng(1)
    columns = {"ts": times, **({"machine": machines} if machines else {}), "temp": rng.normal(size=len(times)).tolist()}
    draft = decided([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], **wishes)
    return [note for note in draft.notes if "offset from UTC" not in note and "rows an entity" not in note]


def test_rows_that_are_not_in_the_order_of_their_times_are_to_be_sorted() -> None:
    shuffled = np.random.default_rng(0).permutation(MINUTES[:200]).tolist()
    cure = "sort the rows by `ts`, oldest first: they are learned in their order"
    assert notes_of(MINUTES[:200]) == []
    newest = f"the newest row is first (times go back in 199 of 200 rows): {cure}"
    assert notes_of(MINUTES[199::-1]) == [newest]
    (unsorted,) = notes_of(shuffled)
    assert re.fullmatch(
        r"times go back in \d+ of 200 rows: " + re.escape(cure) + "; if they are of several .*", unsorted
    )
    (own,) = notes_of(shuffled * 2, ["m1"] * 200 + ["m2"] * 200)
    assert re.fullmatch(r"times go back in \d+ of 400 rows within one `machine`: " + re.escape(cure), own)
    (several,) = notes_of([time for time in MINUTES[:100] for _ in range(3)])
    assert several.startswith(
        "times repeat or go back in 200 of 300 rows, and no column distinguishes several machines"
    )


def test_one_jump_back_is_noticed_and_a_clock_that_goes_back_is_not() -> None:
    """Two machines one after another are a single step of 3,000; rows that come a little late are none."""
    (note,) = notes_of([*MINUTES, *MINUTES])
    assert note.startswith(
        "times go back once, by 2 days, first in row 3001: if they are of several machines, one after"
    )
    assert note.endswith(
        "--entity, or add one; else sort the rows by `ts`, oldest first: they are learned in their order"
    )
    (own,) = notes_of([*MINUTES[1500:], *MINUTES[:1500]], ["m1"] * 3000)
    assert own.startswith(
        "times go back once within one `machine`, by 2 days, first in row 1501: sort the rows by `ts`"
    )
    late = [*MINUTES[:500], *MINUTES[480:490], *MINUTES[500:]]
    assert notes_of(late) == notes_of([*MINUTES, *MINUTES], ["m1"] * 3000 + ["m2"] * 3000) == []
    autumn = [f"2026-10-25T{hour:02d}:{minute:02d}:00" for hour in (0, 1, 2, 2, 3, 4) for minute in range(60)]
    assert not any("times go back" in note for note in notes_of(autumn))


@pytest.mark.parametrize("name", ["machine", "where"])
def test_an_entity_is_found_by_the_order_where_the_newest_row_is_first(name: str) -> None:
    draft = decided(plant(press=name, mode=None)[::-1])
    assert draft.event.entity == name
    assert "times only go back within each of its values" in draft.why["entity"]
    assert any(note.startswith("the newest row is first (times go back in 237 of 240 rows)") for note in draft.notes)


def test_a_machine_is_known_by_the_order_of_the_rows() -> None:
    """Its column has a name that says nothing; times only grow within each of its values."""
    draft = decided(plant(press="c1", recorded_at="c2", mode="c3", load="c4", speed="c5", temp="c6"))
    assert draft.event.entity == "c1"
    assert "times only grow within" in draft.why["entity"]
    assert (draft.event.timestamp, draft.event.timestamp_format) == ("c2", "iso")
    assert draft.event.categories == ["c3"]
    assert (draft.entities, draft.step) == (3, 60.0)


def test_machines_one_after_another_are_known_too() -> None:
    rows = sorted(plant(press="c1"), key=lambda row: row["c1"])
    assert decided(rows).event.entity == "c1"


def test_a_category_is_no_machine() -> None:
    """One machine, which the rows do not name: the mode must not be taken for it."""
    draft = decided(plant(machines=1, press=None))
    assert (draft.event.entity, draft.event.entity_default) == ("entity", "line-1")
    assert draft.event.categories == ["mode"]
    assert "event.entity_default" in draft.why["entity"]
    events = [*plant(machines=1, press=None), {"entity": "press-9", **plant(machines=1, press=None)[0]}]
    text = render_config(draft, "t", "a", {}, "rows")
    from ssm_stream.ingest.events import EventReader

    assert set(EventReader(parse_config(text).event).read(events)[0].entity) == {"line-1", "press-9"}


def test_a_text_that_is_the_same_in_the_sample_is_a_machine_by_its_name_alone() -> None:
    """It may be a mode, which changes after the sample and would be another machine then."""
    for named in ("mode", "code", "unit", "state"):
        draft = decided([{**row, named: "Running"} for row in plant(machines=1, press=None, mode=None)])
        assert draft.event.entity_default == "line-1"
        notes = [note for note in draft.notes if "the same text" in note]
        cure = f"`{named}` is the same text in all rows: if it names the machine, give --entity {named}"
        assert notes == ([cure] if named in ("mode", "code") else [])
    for named in ("boiler", "site", "Serial No"):
        draft = decided([{**row, named: "B-1"} for row in plant(machines=1, press=None, mode=None)])
        assert (draft.event.entity, draft.why["entity"]) == (named, "by its name; 1 value in the sample")
    several = [{**row, **dict.fromkeys("abcd", "x")} for row in plant(machines=1, press=None, mode=None)]
    assert "`a`, `b`, `c` and others are the same text" in "; ".join(decided(several).notes)


@pytest.mark.parametrize(
    ("named", "values"),
    [("Hora", range(1, 25)), ("period", range(1, 49)), ("c2", [f"{i}:{j}0a" for i in range(12) for j in (0, 3)])],
)
def test_the_time_of_day_of_dates_is_no_machine(named: str, values: Sequence[Any]) -> None:
    """Nothing else shows it: within each hour, too, the dates grow. Machines have a row a day by their names."""
    rng = np.random.default_rng(0)
    rows = [
        {"date": f"2026-03-{1 + day:02d}", named: value, "y": float(rng.normal()), "x": float(rng.normal())}
        for day in range(20)
        for value in values
    ]
    draft = decided(rows)
    assert draft.event.entity_default == "line-1"
    (note,) = [note for note in draft.notes if "on each date" in note]
    assert note.startswith(f"`{named}` runs through the same values on each date, as the hours of a day do")
    assert note.endswith(f"give --entity {named}")
    assert not any("on each date" in note for note in decided(rows, entity=named).notes)
    for name in (int, "M{}".format):
        machines = [{**row, "oven" if name is int else named: name(i % 24)} for i, row in enumerate(rows[: 20 * 24])]
        machines = [{**row, "date": f"2026-03-{1 + i // 24:02d}"} for i, row in enumerate(machines)]
        assert decided(machines).event.entity == ("oven" if name is int else named)


def test_several_machines_without_a_name_are_told_of() -> None:
    draft = decided(plant(press=None))
    assert draft.event.entity_default == "line-1"
    assert any("no column distinguishes several machines" in note for note in draft.notes)


def test_a_thing_and_its_id_name_a_machine_whatever_words_there_are() -> None:
    """Where rows of machines alternate, times do not repeat, and show nothing."""
    rows = [{**row, "recorded_at": f"2026-03-01T00:{i // 60:02d}:{i % 60:02d}Z"} for i, row in enumerate(plant())]
    for named, machine in (("connectionDeviceId", True), ("wind_turbine_name", True), ("next_station_name", False)):
        draft = decided([{named if key == "press" else key: value for key, value in row.items()} for row in rows])
        assert (draft.event.entity == named) == machine


def test_a_number_may_name_a_machine_and_a_setting_does_not() -> None:
    rows = [{**row, "unit": int(row["press"][-1]), "stage": 1} for row in plant(press="press")]
    numbered = [{key: value for key, value in row.items() if key != "press"} for row in rows]
    assert decided(numbered).event.entity == "unit"
    assert decided(rows).event.entity == "press"


@pytest.mark.parametrize(
    ("unit", "value"),
    [("s", 1_772_000_000), ("ms", 1_772_000_000_000), ("us", 1_772_000_000_000_000), ("s", 1_772_000_000.5)],
)
def test_times_as_numbers_are_known_by_their_size(unit: str, value: float) -> None:
    per = {"s": 1, "ms": 1000, "us": 1_000_000}[unit]
    rows = [{**row, "at": value + 60 * per * (i // 3)} for i, row in enumerate(plant(recorded_at=None))]
    draft = decided(rows)
    assert (draft.event.timestamp, draft.event.timestamp_format) == ("at", unit)
    assert draft.step == 60.0


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_in_quotes_are_known_by_their_size_too(unit: str) -> None:
    """So are those of OpenTelemetry, `timeUnixNano`, and all 64-bit integers in the JSON of Protobuf."""
    zeros = {"s": 0, "ms": 3, "us": 6, "ns": 9}[unit]
    rows = [{**row, "at": f"{1_772_000_000 + 60 * (i // 3)}{'0' * zeros}"} for i, row in enumerate(plant())]
    draft = decided([{key: value for key, value in row.items() if key != "recorded_at"} for row in rows])
    assert (draft.event.timestamp, draft.event.timestamp_format) == ("at", unit)
    assert "in quotes" in draft.why["timestamp"]
    assert (draft.event.entity, draft.step) == ("press", 60.0)


def test_seconds_since_some_beginning_are_taken_and_told_of() -> None:
    draft = decided([{**row, "t": float(i // 3)} for i, row in enumerate(plant(recorded_at=None))])
    assert (draft.event.timestamp, draft.event.timestamp_format) == ("t", "s")
    assert any("does not count from 1970" in note for note in draft.notes)


def test_dates_as_whole_numbers_are_no_seconds() -> None:
    """Where they are not read as what they are: in messages, and in objects of a file."""
    for number in (20260203, 2026020306, 202602030600, 20260203060000):
        rows = [{"time": number + i, "load": float(i % 7), "temp": i * 0.5} for i in range(5)]
        for chosen in (None, "time"):
            with pytest.raises(ConfigError, match=f"`time` .found {number}. holds dates .* ISO 8601 text"):
                decided(rows, timestamp=chosen)


def test_numbers_in_several_units_are_each_taken_by_its_size() -> None:
    rows = [{"ts": 1_770_098_400 + 300 * i, "load": float(i % 7), "y": i * 0.5 % 9} for i in range(40)]
    mixed = [{**row, "ts": 1000 * int(row["ts"])} if i > 20 else row for i, row in enumerate(rows)]
    draft = decided(mixed, targets=["y"])
    assert (draft.event.timestamp, draft.event.timestamp_format) == ("ts", "auto")
    assert "several units" in "; ".join(draft.notes)
    assert EventReader(draft.event).read(mixed)[0].ts.tolist() == [1000 * row["ts"] for row in rows]


@pytest.mark.parametrize("offset", ["-0800", " -0800", " +01:00", "Z", " Z", ""])
def test_times_without_an_offset_are_noted(offset: str) -> None:
    draft = decided([{**row, "recorded_at": row["recorded_at"] + offset} for row in plant()])
    noted = [note for note in draft.notes if "no offset from UTC" in note]
    assert len(noted) == (not offset)
    assert ("taken for UTC" in draft.why["timestamp"]) == (not offset)
    local = [note for note in draft.notes if "unless event.time_zone names the zone" in note]
    assert len(local) == ("0" in offset), "UTC would be the zone of its hours without a word"


def test_why_a_column_named_like_a_time_is_none() -> None:
    for values, reason in (
        (lambda i: -5 - i, "(-5) is named like one, but is in no unit a time"),
        (lambda i: "noon", "('noon') is named like one, but is neither ISO 8601 nor a number"),
        (
            lambda i: "01-Jan-26 6:00:00 PM IST",
            "('01-Jan-26 6:00:00 PM IST') is named like one, but has the zone IST in place of",
        ),
        (lambda i: 7, "(7) is named like one, but hardly changes: 1 different in 9 rows"),
        (lambda i: 7 if i else None, "(7) is named like one, but 1 of 9 rows have none"),
    ):
        rows = [{"ts": values(i), "load": float(i % 7), "y": i * 0.5} for i in range(9)]
        with pytest.raises(ConfigError, match=rf"`ts` {re.escape(reason)}.*: convert it"):
            decided(rows)


def test_a_column_of_numbers_and_texts_is_named_where_there_is_no_target() -> None:
    rows = [{"ts": 1_770_098_400 + 60 * i, "state": "on" if i % 5 == 0 else i * 0.5 % 9} for i in range(40)]
    with pytest.raises(
        ConfigError, match=r"--target; `state` holds 'on' and the like in 8 of 40 rows, else numbers\. C"
    ):
        decided(rows)
    assert decided(rows, targets=["state"]).event.target == "state"


@pytest.mark.parametrize("every", [1, 2])
def test_values_in_quotes_are_named_where_there_is_no_target(every: int) -> None:
    """The 64-bit integers of Protobuf's JSON, with other numbers or without."""
    values = [f"{i % 9}" if i % every == 0 or i % 5 == 0 else i * 0.5 % 9 for i in range(40)]
    rows = [{"ts": 1_770_098_400 + 60 * i, "reading": value} for i, value in enumerate(values)]
    with pytest.raises(ConfigError, match=r"`reading` holds '0' and the like, numbers in quotes: write"):
        decided(rows)
    with pytest.raises(ConfigError, match=r"--target; `reading` holds '0'"):
        decided([{**row, "ts": str(row["ts"])} for row in rows])


def test_a_number_like_a_time_is_no_time_unless_it_grows() -> None:
    rng = np.random.default_rng(0)
    rows = [{**row, "bytes": int(rng.integers(1_000_000_000, 2_000_000_000))} for row in plant()]
    draft = decided(rows, targets=["temp"])
    assert draft.event.timestamp == "recorded_at"
    assert "bytes" in draft.event.numbers


def test_a_target_stands_out_by_its_name_or_every_signal_is_one() -> None:
    assert decided(plant(load="target")).event.target == "target"
    assert decided(plant(load="sensor_value")).event.target == "sensor_value"
    draft = decided(plant(speed=None))
    assert draft.event.targets == ["load", "temp"]
    assert draft.event.watches_all
    assert draft.why["target"].startswith("no column stands out as the target, so every signal is watched")
    assert any("for one target, predicted from the others: --target temp" in note for note in draft.notes)
    one = [{**row, "load": "low" if row["load"] < 5 else "high"} for row in plant(speed=None)]
    assert decided(one).event.target == "temp"
    modes = [{**row, "load": i // 30 % 4} for i, row in enumerate(plant(speed=None))]
    draft = decided(modes)
    assert draft.event.target == "temp", "one signal and a mode"
    assert any("`temp` is a guess; name another with --target: load" in note for note in draft.notes)
    assert decided(plant(), targets=["load", "speed"]).event.targets == ["load", "speed"]


def test_labels_counters_and_the_calendar_are_no_target_and_labels_no_input() -> None:
    rows = [
        {**row, "hour": i % 24, "cycle": i, "is_anomaly": i % 2, "target_next": i * 0.5}
        for i, row in enumerate(plant())
    ]
    draft = decided(rows)
    assert draft.event.targets == ["load", "speed", "temp"]
    assert not {"is_anomaly", "target_next"} & set(draft.event.columns)
    assert "by its name not known" in draft.left_out["is_anomaly"]
    assert not {"is_anomaly", "target_next"} & set(decided(rows, targets=["temp"]).event.columns)


def test_a_word_in_a_name_makes_no_counter_of_what_does_not_count() -> None:
    """It may be a unit, or one of several words; numbers of the calendar and counters go one way."""
    rng = np.random.default_rng(0)
    signals = ["Temp, °C (S/N: 7)", "Flow [t/hour]", "Spd80mN", "Cycle time [s]", "Speed (Meters/second)", "Id [A]"]
    whole = ["Air index", "Parts per hour", "n [1/min]", "m3/day"]
    counted = {"hour_of_day": 24, "Step no": 9, "local hour UTC": 24, "batch cycle": 40, "messageId": 7}
    rows = [
        {**row, **{name: float(rng.normal()) for name in signals}, **{name: int(rng.integers(1, 24)) for name in whole},
         **{name: (i // 3) % count for name, count in counted.items()}, "day_sin": float(rng.normal())}
        for i, row in enumerate(plant(900))
    ]  # fmt: skip
    draft = decided(rows)
    assert set(draft.event.targets) == {"load", "speed", "temp", *signals, *whole}
    for name in (*counted, "day_sin"):
        assert draft.left_out[name] == "a counter or a part of the calendar, no signal"


def test_totals_and_running_clocks_are_no_signals() -> None:
    """They grow all along the sample; what warms up, is set now and then or is measured with noise does not."""
    rows: list[dict[str, Any]] = plant(1800)
    for i, row in enumerate(rows):
        t = i // 3
        row |= {"energy kWh": round(float(t * 1.3 + np.sin(t)), 2), "hours": 800 + t / 60, "night kWh": t // 2 / 8}
        row |= {"warm": 60 - 40 * 0.9**t, "set": 5.5 + t // 100, "wear": t / 99 + (t % 2) / 50}
    draft = decided(rows)
    assert {*draft.event.targets, *draft.event.numbers} == {"load", "speed", "temp", "warm", "set", "wear"}
    for name in ("energy kWh", "hours", "night kWh"):
        assert draft.left_out[name].startswith("it never falls, and grows all along the sample: a total or a running")
    assert decided(rows, targets=["hours"]).event.target == "hours"
    only = [{"ts": 60 * i, "meter kWh": i / 7} for i in range(300)]
    with pytest.raises(ConfigError, match=r"predicted; `meter kWh` is none: it never falls.* with --target"):
        decided(only)


def test_what_does_not_change_is_no_counter() -> None:
    rows = [
        {**row, "fan": 127, "rated": 100 * int(row["press"][-1]), "valve": 1 + (i > 99)}
        for i, row in enumerate(plant())
    ]
    draft = decided(rows)
    assert draft.left_out["fan"] == "the same in all rows"
    assert draft.left_out["rated"] == "the same in all rows of each entity"
    assert "valve" in draft.event.categories


def test_the_fraction_of_a_time_is_no_input() -> None:
    rows = [{**row, "TIMESTAMP_NANO_OFFSET": i * 7919 % 1000} for i, row in enumerate(plant())]
    for wishes in ({}, {"targets": ["temp"]}):
        assert decided(rows, **wishes).left_out["TIMESTAMP_NANO_OFFSET"] == "a part of the time"


def test_what_marks_few_rows_and_is_named_like_a_label_is_no_input() -> None:
    rows = [{**row, "EVENT": int(i in (70, 71)), "alarm": i % 2} for i, row in enumerate(plant())]
    for wishes in ({}, {"targets": ["temp"]}):
        draft = decided(rows, **wishes)
        assert "EVENT" not in (*draft.event.columns, *draft.event.targets)
        assert draft.left_out["EVENT"].startswith("1 in 2 of 240 rows, and named like a label")
        assert "alarm" in draft.event.columns, "an alarm in every other row marks nothing"
        assert "#   EVENT: 1 in 2 of 240 rows" in render_config(draft, "t", "a", {}, "rows")


def test_negative_nines_are_noted_however_far_the_others_reach() -> None:
    """The sun's radiation, 0 to 1300: -999 is no farther from 0 than these."""
    rows = plant()
    for i, row in enumerate(rows):
        row["sun"] = -999 if 100 <= i < 124 else round(650 * (1 + math.sin(i / 7)), 1)
    (note,) = [note for note in decided(rows).notes if "stands in" in note]
    assert note.startswith("-999 stands in `sun` (24) of 240 rows, below all others (")
    for row in rows[150:160]:
        row["sun"] = -5.5
    assert not [note for note in decided(rows).notes if "stands in" in note], "it may be a measurement"


def test_marks_for_no_value_are_noted() -> None:
    """A number that repeats far outside the others, and the other columns that it bounds; no zero, level or outlier."""

    def marked(**marks: float) -> list[str]:
        rows = plant()
        for i, (column, mark) in enumerate(marks.items()):
            for row in rows[5 + i :: 60]:
                row[column] = mark
        return [note for note in decided(rows).notes if "stands in" in note]

    (note,) = marked(load=-999, speed=-999)
    assert note.startswith("-999 stands in `load` (4), `speed` (4) of 240 rows, far from all others (")
    cure = re.search(r"event.quality: (\{.*\})$", note)
    assert cure is not None
    assert cure[1] == "{columns: {'load': 'load', 'speed': 'speed'}, good: {above: -999}}"
    (note,) = marked(temp=9999)
    assert note.endswith("event.quality: {columns: {'temp': 'temp'}, good: {below: 9999}}")
    assert not marked()
    assert not marked(load=0, temp=0)
    rows = plant()
    rows[7]["load"] = 999.0
    for i, row in enumerate(rows):
        row["speed"] = 900 if i % 9 == 0 else 100
    assert not [note for note in decided(rows).notes if "stands in" in note]


def test_relations_of_many_columns_are_found_in_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits are of as many rows as columns, whatever the sample has; the last one, of the relation itself, of all."""
    rng, sizes, fit = np.random.default_rng(1), [], np.linalg.lstsq
    columns = {f"c{j}": rng.normal(j, 1 + j, 900) for j in range(12)}

    def counted(a: Any, b: Any, rcond: Any = None) -> Any:
        sizes.append(a.shape[0])
        return fit(a, b, rcond=rcond)

    monkeypatch.setattr(np.linalg, "lstsq", counted)
    relation = find_relation(2 * columns["c3"] - columns["c7"] + 5, columns)
    assert relation is not None
    assert relation.text == "2 c3 − c7 + 5"
    assert len(sizes) > 50
    assert sorted(sizes)[-2:] == [12, 900]


def test_leaks_are_left_out_or_noted() -> None:
    rows = [
        {**row, "temp_f": round(32 + 1.8 * row["temp"], 3), "heat": round(row["temp"] + row["load"], 3)}
        for row in plant()
    ]
    one = decided(rows, targets=["temp"])
    assert one.left_out["temp_f"] == "a leak: it is the target in another unit (temp = 0.556 temp_f − 17.8 in all rows)"
    (note,) = [note for note in one.notes if note.startswith("leak:")]
    assert "temp = heat − load in all 240 rows" in note or "temp = −load + heat in all 240 rows" in note
    every = decided(rows)
    assert every.event.targets == ["load", "speed", "temp"]
    assert every.left_out["heat"].startswith("the sum of load and temp in all rows")
    assert every.left_out["temp_f"].startswith("1.8 temp + 32 in all rows")


def test_flags_of_values_are_no_inputs() -> None:
    rows = [{**row, "load_q": 192 if i % 9 else 0, "state": "ok"} for i, row in enumerate(plant())]
    draft = decided(rows)
    assert draft.event.quality is not None
    assert draft.event.quality.columns == {"load": "load_q"}
    assert draft.event.quality.good.one_of == [192]
    assert "load_q" not in draft.event.columns
    text = render_config(draft, "t", "a", {}, "rows")
    assert parse_config(text).event == draft.event
    assert "load_q 88.8% good" in text
    whole = decided([{**row, "Quality": "Good" if i % 9 else "Bad"} for i, row in enumerate(plant())])
    assert whole.event.quality is not None
    assert (whole.event.quality.column, whole.event.quality.good.one_of) == ("Quality", ["Good"])


def test_flags_belong_to_values_with_names_in_another_script() -> None:
    """A name without a Latin letter is no empty name, to which the flags of all others would belong."""
    signals = {"load": "差圧", "speed": "Давление", "temp": "温度"}
    flags = {f"{name}_quality" for name in signals.values()}
    rows = [
        {**{signals.get(name, name): value for name, value in row.items()}, **dict.fromkeys(sorted(flags), 192),
         "扉": int(i % 50 == 0), "温度_quality": 192 if i % 9 else 0}
        for i, row in enumerate(plant())
    ]  # fmt: skip
    draft = decided(rows)
    assert draft.event.quality is not None
    assert draft.event.quality.columns == {name: f"{name}_quality" for name in signals.values()}
    assert not flags & {*draft.event.columns, *draft.left_out}
    assert {*draft.event.targets} == {*signals.values()}


def test_the_flag_of_the_target_is_none_of_the_inputs() -> None:
    rows = [{**row, "temp_q": "good" if i % 9 else "cal"} for i, row in enumerate(plant())]
    for targets in (["temp"], []):
        quality = decided(rows, targets=targets).event.quality
        assert quality is not None
        assert (quality.column, quality.columns) == (None, {"temp": "temp_q"}), "the inputs are good all the same"


def test_what_counts_rows_is_no_signal() -> None:
    rows = [{**row, "record": i} for i, row in enumerate(plant())]
    draft = decided(rows, targets=["temp"])
    assert draft.left_out["record"] == "it counts the rows"


def test_nested_events_have_dotted_paths(tmp_path: Path) -> None:
    rows = [
        {"head": {"machineId": r["press"], "time": r["recorded_at"]}, "body": {"load": r["load"], "value": r["temp"]}}
        for r in plant()
    ]
    draft = decided(rows)
    event = draft.event
    assert (event.entity, event.timestamp, event.target, event.numbers) == (
        "head.machineId",
        "head.time",
        "body.value",
        ["body.load"],
    )
    assert parse_config(render_config(draft, "t", "a", {}, "rows")).event == event


def in_lists(row: dict[str, Any]) -> dict[str, Any]:
    sensors = [{"name": name, "value": row[name]} for name in ("temp", "load")]
    return {"at": [row["recorded_at"]], "sensors": sensors}


def test_paths_into_lists_may_be_given_and_are_named_where_no_column_will_do(tmp_path: Path) -> None:
    file, out = tmp_path / "lists.jsonl", tmp_path / "monitor.yaml"
    file.write_bytes(b"\n".join(orjson.dumps(in_lists(row)) for row in plant(press="a", mode="b")))
    told = ssm_stream("init", file, "--out", out)
    assert told.exit_code == 2
    assert "no column is a time; name one with --timestamp" in told.stderr
    assert "In lists: at[0], sensors[name=temp].name, sensors[name=temp].value, sensors[name=load].name" in told.stderr
    target = "sensors[name=temp].value"
    told = ssm_stream("init", file, "--out", out, "--timestamp", "at[0]", "--target", target)
    assert told.exit_code == 0, told.stderr
    event = load_config(out).event
    assert (event.timestamp, event.timestamp_format, event.targets) == ("at[0]", "iso", [target])
    assert "numbers in lists are inputs only where event.features names them: sensors[name=load].value" in told.stderr
    told = ssm_stream("backtest", out, file)
    assert told.exit_code == 0, told.stderr


# What cannot be known.


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (plant(recorded_at=None), ["no column is a time", "--timestamp", "ISO 8601", "press, mode"]),
        (
            [{**row, "date": "31/01/2026"} for row in plant(recorded_at=None)],
            ["`date` ('31/01/2026') is named like one"],
        ),
        ([{"machine": "a", "ts": i, "state": "on"} for i in range(50)], ["name the target with --target"]),
        ([[1], "x"], ["none of the 2 messages of the sample is a JSON object"]),
    ],
)
def test_what_cannot_be_known_is_said_with_the_cure(rows: list[Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        draft_event(rows, Choices(), "line-1")
    for word in words:
        assert word in str(caught.value)


def test_a_column_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"no column 'tmep' in the sample; did you mean `temp`\? its columns: recorded_at, press"
    ):
        decided(plant(), targets=["tmep"])


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["ts", "id", "value", "a.b", "a: b", "#", "x y", "-", "true", "12"]),
            st.none()
            | st.booleans()
            | st.integers(0, 2_000_000_000)
            | st.floats(allow_nan=False)
            | st.text(max_size=5)
            | st.lists(st.none()),
        ),
        max_size=12,
    )
)
def test_any_sample_gives_a_file_that_parses_or_words(rows: list[dict[str, Any]]) -> None:
    with contextlib.suppress(ConfigError):
        draft = decided(rows)
        assert parse_config(render_config(draft, "t", "a:1", {}, "rows")).event == draft.event


def test_a_column_whose_name_is_no_path_is_left_out() -> None:
    draft = decided([{"t": 60 * i, "m": "a", "x[0": i % 7, "load": i % 5, "temp": i % 11} for i in range(60)])
    assert "never closed" in draft.left_out["x[0"]
    assert {*draft.event.targets, *draft.event.columns} <= {"load", "temp"}


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=20).filter(lambda text: "${" not in text))
def test_any_path_is_written_so_that_it_is_read_back(path: str) -> None:
    if any(0xD800 <= ord(letter) < 0xE000 for letter in path):
        return
    try:
        parse_path(path)
    except PathError:
        return  # a column of such a name is left out, see below
    event = Event(entity=path, timestamp="other t", features=[path], target="other y")
    draft = Draft(event, {}, {}, [], 1, 1, 1.0)
    assert parse_config(render_config(draft, "t", "a", {}, "rows")).event.entity == path
    assert yaml_quoted("load") == "load"


def test_names_are_taken_apart() -> None:
    assert name_words("payload.machineId_2") == ["payload", "machine", "id", "2"]


# The command.


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    if path.suffix == ".parquet":
        pl.DataFrame(rows).with_columns(pl.col("recorded_at").str.to_datetime()).write_parquet(path)
    elif path.suffix == ".csv":
        pl.DataFrame(rows).write_csv(path)
    else:
        path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_file_of_any_kind_is_read_and_the_next_commands_work(tmp_path: Path, suffix: str) -> None:
    file, out = write(plant(), tmp_path / f"my data.{suffix}"), tmp_path / "monitor.yaml"
    told = ssm_stream("init", file, "--out", out, "--json")
    assert told.exit_code == 0, told.stderr
    content = json.loads(told.stdout)
    assert content["event"] == {
        "entity": "press", "timestamp": "recorded_at", "timestamp_format": "iso", "features": ["load", "speed", "temp"],
        "categories": ["mode"], "target": "all",
    }  # fmt: skip
    made = load_config(out)
    assert (made.source.topic, made.source.brokers) == ("my-data", "localhost:9092")
    assert f"ssm-stream backtest {out}" in told.stderr
    result = ssm_stream("backtest", out, file, "--json")
    assert json.loads(result.stdout)["events"] == 240


def test_a_file_is_never_overwritten_unless_asked(tmp_path: Path) -> None:
    file, out = write(plant(), tmp_path / "data.csv"), tmp_path / "monitor.yaml"
    out.write_text("mine")
    told = ssm_stream("init", file, "--out", out)
    assert told.exit_code == 2
    assert "exists and is not overwritten" in told.stderr
    assert out.read_text() == "mine"
    assert ssm_stream("init", file, "--out", out, "--force", "--target", "load").exit_code == 0
    assert load_config(out).event.target == "load"


def test_one_machine_without_a_name_is_backtested(tmp_path: Path) -> None:
    file, out = write(plant(machines=1, press=None), tmp_path / "oven.csv"), tmp_path / "monitor.yaml"
    assert ssm_stream("init", file, "--out", out).exit_code == 0
    result = json.loads(ssm_stream("backtest", out, file, "--json").stdout)
    assert (result["events"], list(result["by_entity"])) == (240, ["oven"])


def test_init_needs_a_file_or_a_topic() -> None:
    told = ssm_stream("init")
    assert told.exit_code == 2
    assert "give a FILE, or --topic" in told.stderr


def test_a_topic_is_sampled_without_moving_a_position(kafka: Kafka, tmp_path: Path) -> None:
    topic, out = kafka.topic("events", 2), tmp_path / "monitor.yaml"
    where = ["--topic", topic, "--brokers", kafka.bootstrap_servers, "--out", out]
    told = ssm_stream("init", *where)
    assert told.exit_code == 2
    assert "holds no JSON message" in told.stderr
    absent = ssm_stream("init", "--topic", "nope", *where[2:])
    assert absent.exit_code == 2
    assert "topic 'nope' does not exist" in absent.stderr
    assert "correct --topic, or give a FILE for a sample" in absent.stderr
    assert "CONFIG" not in absent.stderr, "there is none yet"
    kafka.produce(topic, [(row["press"].encode(), orjson.dumps(row)) for row in plant()])
    told = ssm_stream("init", *where, "--kafka", "client.rack=r1")
    assert told.exit_code == 0, told.stderr
    made = load_config(out)
    assert (made.source.topic, made.source.brokers) == (topic, kafka.bootstrap_servers)
    assert made.source.kafka == {"client.rack": "r1"}
    assert (made.event.entity, made.event.targets) == ("press", ["load", "speed", "temp"])
    assert "240 messages of topic" in told.stderr
    assert "init FILE" not in out.read_text(), "there is none"
    steps = told.stderr.partition("; next:\n")[2].splitlines()
    assert [line.split()[1] for line in steps] == ["validate", "backtest", "doctor", "run"]
    assert steps[2].endswith(" --create-topics")


def test_the_key_or_a_header_of_messages_may_be_the_entity(mock_kafka: MockKafka, tmp_path: Path) -> None:
    topic, out = mock_kafka.topic("events", 1), tmp_path / "monitor.yaml"
    producer = Producer({"bootstrap.servers": mock_kafka.bootstrap_servers})
    for row in plant():
        machine = row.pop("press").encode()
        producer.produce(topic, orjson.dumps(row), key=machine, headers=[("machine", machine)])
    producer.flush()
    where = ["--topic", topic, "--brokers", mock_kafka.bootstrap_servers, "--out", out, "--force"]
    told = ssm_stream("init", *where)
    assert told.exit_code == 0, told.stderr
    assert load_config(out).event.entity_default == topic
    note = "the messages have keys, 3 different ones in the sample: if a key names the machine, give --entity '$key'"
    assert note in told.stderr
    for path in ("$key", "$header.machine"):
        told = ssm_stream("init", *where, "--entity", path)
        assert told.exit_code == 0, told.stderr
        assert f"{path}: as given; 3 values in the sample" in told.stderr
        assert "give --entity" not in told.stderr
        assert (load_config(out).event.entity, load_config(out).event.entity_default) == (path, None)
    told = ssm_stream("init", *where, "--entity", "$header.press")
    assert told.exit_code == 2
    assert "no column '$header.press' in the sample" in told.stderr


def test_a_literal_secret_is_refused_and_not_written(tmp_path: Path) -> None:
    file, out = write(plant(), tmp_path / "data.csv"), tmp_path / "monitor.yaml"
    secret = ["--kafka", "security.protocol=SASL_SSL", "--kafka", "sasl.mechanism=PLAIN", "--kafka", "sasl.username=me"]
    told = ssm_stream("init", file, "--out", out, *secret, "--kafka", "sasl.password=hunter2")
    assert told.exit_code == 2
    assert "a secret must not be written in the file" in told.stderr
    assert "hunter2" not in told.stderr
    assert not out.exists()


def idle_rows(n: int) -> list[dict[str, object]]:
    """A machine with a constant, a copy in another unit and a sum among its columns."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for t in range(n):
        load, speed, flow = rng.normal(size=3).tolist()
        rows.append({
            "machine": "m", "ts": 1_700_000_000 + 60 * t, "celsius": 20 + load, "fahrenheit": 68 + 1.8 * load,
            "set_pressure": 4.0, "speed": speed, "flow": flow, "both": speed + flow,
            "target": load - speed + 0.5 * flow + 0.1 * float(rng.normal()),
        })  # fmt: skip
    return rows


def test_constants_and_copies_are_left_out_and_sums_are_noted() -> None:
    draft = draft_event(idle_rows(400), Choices(), "plant")
    assert draft.left_out["set_pressure"].startswith("the same in all 400 rows of the sample")
    assert draft.left_out["fahrenheit"] == "celsius in another unit: it adds no direction to the gradient"
    assert set(draft.event.numbers) == {"both", "celsius", "flow", "speed"}
    (note,) = [note for note in draft.notes if note.startswith("collinear")]
    assert "speed (all of its variance is held by both, flow)" in note
    text = render_config(draft, "plant", "-", {}, "400 rows")
    assert "#   set_pressure: the same in all 400 rows" in text


def test_few_rows_show_no_constant() -> None:
    draft = draft_event(idle_rows(100), Choices(), "plant")
    assert "set_pressure" in draft.event.numbers
    assert not [note for note in draft.notes if note.startswith("collinear")]


def readings(n: int = 200, **changed: str) -> list[dict[str, Any]]:
    """One value of one signal a row: load and speed every minute, a lab value every ten."""
    rng, out = np.random.default_rng(0), []
    for i in range(n):
        for machine in ("press-1", "press-2"):
            load = float(rng.normal(5, 1))
            values = {
                "load": load,
                "speed": 100 + float(rng.normal(0, 3)),
                **({"lab": 7.0 + load} if i % 10 == 0 else {}),
            }
            for k, (signal, value) in enumerate(values.items()):
                row = {"ts": 1_772_323_200 + 60 * i + k, "machine": machine, "signal": signal, "value": value}
                out.append({changed.get(key, key): v for key, v in row.items()})
    return out


def test_readings_with_an_entity_and_a_signal() -> None:
    draft = decided(readings(), targets=["speed"])
    event = draft.event
    assert (event.layout, event.entity, event.signal, event.value) == ("readings", "machine", "signal", "value")
    assert (event.target, event.features, event.every) == ("speed", ["lab", "load"], 60.0)
    text = render_config(draft, "t", "a", {}, "rows")
    assert parse_config(text).event == event
    assert "  every: 1m" in text


@pytest.mark.parametrize(("machine", "signal"), [("device", "dataItemId"), ("host", "item"), ("machine", "DataItem")])
def test_items_of_a_thing_are_signals(machine: str, signal: str) -> None:
    event = decided(readings(machine=machine, signal=signal)).event
    assert (event.layout, event.entity, event.signal) == ("readings", machine, signal)
    series = decided(readings(machine="shop", signal="item"), targets=["value"]).event
    assert series.layout == "events", "of a shop they are goods, each with a series of its own"


def test_readings_of_a_topic_that_come_out_of_order_are_waited_for() -> None:
    rows = readings()
    for i in range(0, len(rows) - 5, 5):
        rows[i], rows[i + 4] = rows[i + 4], rows[i]  # up to two minutes behind
    draft = draft_event(rows, Choices(targets=("speed",)), "line-1", as_they_came=True)
    text = render_config(draft, "t", "a", {}, "rows")
    assert parse_config(text).event == draft.event
    assert draft.event.grace == 300.0
    assert re.search(r"# \d+ of \d+ readings came after a later one of their entity, by up to [\d.]+s", text)
    for each in (
        draft_event(rows, Choices(targets=("speed",)), "line-1"),  # a file: it is sorted
        draft_event(readings(), Choices(targets=("speed",)), "line-1", as_they_came=True),
    ):
        assert each.event.grace == 0.0
    rows[-1]["ts"] += 10_000
    rows = [rows[-1], *rows]
    draft = draft_event(rows, Choices(targets=("speed",)), "line-1", as_they_came=True)
    assert draft.event.grace == 0.0
    assert "they will be dead letters" in draft.notes[-1]


@pytest.mark.parametrize("by_tag", [False, True], ids=["by time", "tag after tag"])
def test_rows_of_readings_wait_for_those_of_their_time_where_the_last_is_no_target(by_tag: bool) -> None:
    signals = {
        "FLOW": lambda i: i % 7 * 0.5,
        "TEMP": lambda i: 20 + i % 11,
        "VALVE": lambda i: "open" if i % 9 else "shut",
    }
    rows = [
        {"time": f"2026-03-02T{i // 60:02d}:{i % 60:02d}:00Z", "tag": f"{tag}.PV", "value": value(i)}
        for i in range(300)
        for tag, value in signals.items()
    ]
    if by_tag:
        rows.sort(key=lambda row: str(row["tag"]))
    draft = draft_event(rows, Choices(), "m")
    assert draft.event.target == "all"
    assert draft.event.grace == 0.001
    assert "come after that of `FLOW.PV` with the same time" in draft.why["grace"]
    assert draft_event(rows, Choices(targets=("TEMP.PV",)), "m").event.grace == 0.001
    without = [row for row in rows if not str(row["tag"]).startswith("VALVE")]
    assert draft_event(without, Choices(targets=("TEMP.PV",)), "m").event.grace == 0.0


def test_readings_of_one_plant() -> None:
    rows = [
        {key: value for key, value in row.items() if key != "machine"}
        for row in readings()
        if row["machine"] == "press-1"
    ]
    event = decided(rows).event
    assert (event.layout, event.entity_default, event.signal, event.value) == ("readings", "line-1", "signal", "value")


def test_what_each_signal_has_one_value_of_is_no_entity() -> None:
    """Its unit or description, by whatever name: as one, it left the other signals out."""
    units = {"load": "t/h", "speed": "1/min", "lab": "%"}
    one = [{**row, "unit": units[row["signal"]]} for row in readings() if row["machine"] == "press-1"]
    for rows in ([{k: v for k, v in row.items() if k != "machine"} for row in one], one):
        draft = decided(rows)
        assert draft.event.entity == ("machine" if rows is one else "entity")
        assert (sorted(draft.event.targets), draft.left_out) == (["lab", "load", "speed"], {})
    assert "lab" in decided(one, entity="unit").event.targets, "on a grid, whatever has readings has rows"
    alike = [row for row in one if row["signal"] != "lab"]
    left_out = decided(alike, entity="unit").left_out
    assert left_out["speed"] == "in no row: they are made at readings of `load`, of what their entity had until then"
    assert decided(readings(machine="unit")).event.entity == "unit", "two machines by the order of their rows"


def test_a_sample_of_readings_has_the_stops_in_which_most_signals_are_not_sent() -> None:
    """Of a historian that stores changes alone: production makes rows on the grid all the same."""
    rng, rows = np.random.default_rng(0), []
    for i in range(800):
        stops = i % 100 >= 80
        values: dict[str, Any] = {"state": "stop" if stops else "run"} if i % 20 == 0 else {}
        values |= {} if stops else {"flow": 50 + float(rng.normal())}
        values |= {"temp": 80 + float(rng.normal())} if i % 2 else {}
        rows += [{"ts": 1_772_323_200 + 60 * i, "tag": tag, "value": value} for tag, value in values.items()]
    draft = decided(rows)
    assert draft.event.every == 60.0
    assert "state" in draft.event.categories


def test_signals_beyond_those_that_are_taken_are_printed() -> None:
    rows = [{"ts": 1_772_323_200 + i, "tag": f"t{j}", "value": i % 7 + j / 9} for i in range(5) for j in range(66)]
    left_out = decided(rows).left_out
    assert [left_out[tag] for tag in ("t64", "t65")] == ["more than 64 signals: those with most readings are taken"] * 2


@pytest.mark.parametrize(("n", "reason"), [(400, "fewer than 500 rows"), (1_200, "no drivers to distinguish")])
def test_why_there_are_no_drivers(n: int, reason: str) -> None:
    """Too few rows; or a signal alone that is no function of the hour."""
    rng = np.random.default_rng(0)
    rows = [
        {"ts": f"2026-03-{1 + i // 96:02d}T{i // 4 % 24:02d}:{i % 4 * 15:02d}:00Z",
         "sun": 1.1 * max(i // 4 % 24 - 6, 0), "temp": round(float(rng.normal(20, 1)), 2)}
        for i in range(n)
    ]  # fmt: skip
    notes = [note for note in decided(rows, targets=["all"]).notes if "predicted from all the others" in note]
    assert len(notes) == 1
    assert notes[0].startswith(reason)


def test_numbers_in_quotes_are_named() -> None:
    rows = [row | {"speed": f"{row['load']:.2f}", "code": f"{i + 900:04d}"} for i, row in enumerate(plant())]
    left_out = decided(rows, targets=["temp"]).left_out
    assert left_out["speed"].endswith("a category has at most 32. They are numbers in quotes: write them as numbers")
    assert "quotes" not in left_out["code"]


def test_readings_by_tags() -> None:
    rows = [
        {"ts": row["ts"], "tag": f"{row['machine']}/{row['signal']}", "value": row["value"], "quality": "GOOD"}
        for row in readings() if row["signal"] != "lab"
    ]  # fmt: skip
    event = decided(rows).event
    assert event.tag is not None
    assert (event.tag.field, event.tag.pattern, event.every) == ("tag", "{entity}/{signal}", None)
    assert event.targets == ["speed", "load"]


def test_a_series_of_each_sensor_is_no_reading() -> None:
    rows = [
        {"ts": row["ts"], "sensor": row["machine"], "value": row["value"]}
        for row in readings()
        if row["signal"] == "load"
    ]
    event = decided(rows).event
    assert (event.layout, event.entity, event.target) == ("events", "sensor", "value")


def requests(regular: bool = False) -> list[dict[str, Any]]:
    """A row a request of two services, some three seconds apart, by chance or not."""
    rng, out = np.random.default_rng(0), []
    for service in ("cart", "pay"):
        time = 1_772_323_200.0
        for i in range(600):
            time += 3.0 if regular else float(rng.exponential(3.0))
            row = {"time": time, "service": service, "route": f"/{i % 5}", "status": 500 if i % 20 == 0 else 200}
            out.append({**row, "latency_ms": float(rng.lognormal(4, 0.5)), "bytes": int(rng.integers(100, 9000))})
    return sorted(out, key=lambda row: row["time"])


def test_single_operations_become_windows() -> None:
    draft = decided(requests())
    event = draft.event
    assert event.aggregate is not None
    assert (event.entity, event.aggregate.every, event.target, event.inputs) == ("service", 60.0, "all", ["requests"])
    assert event.features == ["requests", "errors", "latency_p95", "bytes_sum"]
    text = render_config(draft, "t", "a", {}, "rows")
    assert "errors: {share: {status: {from: 500}}}" in text
    assert "latency_p95: {p95: latency_ms}" in text
    assert parse_config(text).event == event
    assert draft.left_out["route"] == "of single operations, in no window"
    assert decided(requests(regular=True)).event.aggregate is None
    assert decided(requests(), targets=["latency_ms"]).event.aggregate is None
    outcomes = [{**row, "status": "error" if row["status"] == 500 else "ok"} for row in requests()]
    assert "errors: {share: {status: error}}" in render_config(decided(outcomes), "t", "a", {}, "rows")


def trips() -> list[dict[str, Any]]:
    """Two lifts: a row is a trip, with what it measures; a code of an error in one of 300."""
    rng, out = np.random.default_rng(0), []
    for lift in ("A1", "B2"):
        time = 1_772_323_200.0
        for i in range(600):
            time += float(rng.exponential(600.0))
            row: dict[str, Any] = {
                "time": time,
                "machine": lift,
                "trip_no": 40_000 + i,
                "door": None,
                "error_code": None,
            }
            if i % 300 == 7:
                row["error_code"] = f"E{i // 300}"
            distance = float(rng.integers(1, 8)) * 3.4
            row |= {"distance_m": distance, "duration_s": round(4.0 + distance / 2.0 + float(rng.normal(0.0, 0.2)), 2)}
            row |= {name: round(float(rng.normal(mean, 0.1 * mean)), 2) for name, mean in MEASURED.items()}
            out.append(row)
    return sorted(out, key=lambda row: row["time"])


MEASURED = {"load_kg": 200.0, "motor_current_A": 4.0, "vibration_mm_s": 0.8}


def test_operations_that_measure_are_events_themselves() -> None:
    draft = decided(trips())
    assert draft.event.aggregate is None
    assert {*MEASURED, "duration_s"} <= {*draft.event.targets, *draft.event.numbers}
    assert "trip_no" not in draft.event.columns
    assert any("measures by itself (" in note and "event.aggregate" in note for note in draft.notes)
    assert draft.left_out["error_code"] == "a value in only 4 of 1,200 rows"
    assert decided([{**row, "door": 1.0} if i == 9 else row for i, row in enumerate(trips())]).left_out["door"] == (
        "a value in only 1 of 1,200 rows"
    )
    one = decided(trips(), targets=["vibration_mm_s"])
    assert one.left_out["error_code"] == draft.left_out["error_code"]
    assert draft.left_out["door"] == "null in all of the 1,200 rows that were read"


def test_windows_give_reasons_and_how_late_the_first_alert_is() -> None:
    def rare(row: dict[str, Any], number: int) -> dict[str, Any]:
        time = 1_772_323_200.0 + 300.0 * (row["time"] - 1_772_323_200.0)
        return {key: value for key, value in row.items() if key != "bytes"} | {"time": time, "request_no": number}

    draft = decided([rare(row, 7_000 + i) for i, row in enumerate(requests())])
    assert draft.event.aggregate is not None
    assert draft.event.features == ["requests", "errors", "latency_p95"]
    assert draft.left_out["request_no"] == "it counts the rows"
    assert any("the first anomaly of an entity can be an alert after 25 days" in note for note in draft.notes)
    assert not any("can be an alert after" in note for note in decided(requests()).notes)
    text = render_config(draft, "t", "a", {}, "rows")
    assert "# silence: {after: auto}   # left out: not judged by the sample" in text
    assert "# stuck: true   # left out: not judged by the sample" in text


START = 1_767_225_600


def machines(*, one_after_another: bool = False) -> list[dict[str, Any]]:
    """Four machines of 200 rows."""
    rng, rows = np.random.default_rng(0), list[dict[str, Any]]()
    for machine in range(4):
        temp = rng.normal(60.0, 5.0, 200).round(3)
        load = rng.normal(5.0, 1.0, 200).round(3)
        for i in range(200):
            ts = START + 60 * (i + 200 * machine * one_after_another)
            rows.append({"machine": f"m{machine}", "ts": ts, "load": float(load[i]), "temp": float(temp[i])})
    return sorted(rows, key=lambda row: row["ts"])


def switches(rows: list[dict[str, Any]]) -> list[str]:
    text = render_config(draft_event(rows, Choices(targets=["temp"]), "plant"), "t", "a", {}, "rows")
    parse_config(text)
    return [line.strip() for line in text.splitlines() if "silence:" in line or "stuck:" in line]


def test_what_stops_is_watched() -> None:
    assert [line.split("   #")[0] for line in switches(machines())] == ["silence: {after: auto}", "stuck: true"]
    config = parse_config(render_config(decided(machines(), targets=["temp"]), "t", "a", {}, "rows", 5.0))
    assert config.alerts.stuck
    assert config.alerts.silence is not None
    assert not parse_config(render_config(decided(requests()), "t", "a", {}, "rows")).alerts.stuck


def test_a_signal_that_floods_or_is_set_is_not_watched_and_the_others_are() -> None:
    """A setpoint and a blade angle that are held, each time for longer; the temperature stays watched."""
    rows, rng = machines(), np.random.default_rng(5)
    for i, row in enumerate(rows):
        held = (i // 4) % 80 >= 60 - 4 * (i // 320)
        value = round(60.0 + i // 320 + 0.1 * (i % 4), 1) if held else round(float(rng.normal(60.0, 3.0)), 3)
        row["temp_setpoint"] = value
        row["angle"] = round(1.5 * value, 3) if held else round(float(rng.normal(90.0, 5.0)), 3)
    draft = draft_event(rows, Choices(targets=["temp"]), "plant")
    stops = draft.stops
    assert stops is not None
    assert stops.watched == ["load", "temp"]
    held, _, flooding = stops.unwatched.partition("; ")
    assert held == "temp_setpoint: set by command, and held"
    assert flooding.startswith("angle (")
    assert "than the budget allows" in flooding
    text = render_config(draft, "t", "a", {}, "rows")
    assert parse_config(text).alerts.stuck == ["load", "temp"]
    assert f"Left out: {stops.unwatched}" in " ".join(line.strip(" #") for line in text.splitlines())
    assert f"alerts.stuck leaves out {stops.unwatched}" in draft.notes


def test_columns_that_stand_still_together_are_one_alert_of_the_sample() -> None:
    """A module that fails holds three columns of a machine, and a further one repeats in another machine."""
    rows, rng = machines(), np.random.default_rng(6)
    for i, row in enumerate(rows):
        machine, at = row["machine"], i // 4
        values = rng.normal(20.0, 2.0, 4).round(3).tolist()
        if machine == "m0" and at >= 100:
            values[:3] = 20.0, 21.0, 22.0
        if machine == "m1" and 100 <= at < 140:
            values[3] = 23.0
        row |= dict(zip(("flow", "level", "oil", "speed"), values, strict=True))
    stops = draft_event(rows, Choices(targets=["temp"]), "plant").stops
    assert stops is not None
    assert stops.watched == ["flow", "level", "load", "oil", "temp"]
    assert stops.unwatched.startswith("speed (1 alert): ")


def test_the_ends_of_machines_are_no_alerts_where_all_end() -> None:
    silence, stuck = switches(machines(one_after_another=True))
    assert silence == "# silence: {after: auto}   # left out: 3 of 4 machines end within the sample"
    assert stuck.startswith("stuck: true")


def pods(service: Callable[[int], str] = lambda pod: f"s{pod % 2}") -> list[dict[str, Any]]:
    """Sixty pods, each of 40 rows, a row a minute, six at a time."""
    rng = np.random.default_rng(0)
    return [
        {
            "pod": f"{service(pod)}-{pod:03x}",
            "service": service(pod),
            "ts": START + 60 * (40 * (pod // 6) + i),
            "cpu": round(float(rng.normal(40.0, 5.0)), 2),
            "memory": round(float(rng.normal(200.0, 9.0)), 2),
        }
        for i in range(40)
        for pod in range(60)
    ]


def test_machines_that_end_before_they_may_alert_are_noted_with_what_groups_them(tmp_path: Path) -> None:
    rows = sorted(pods(), key=lambda row: row["ts"])
    draft = decided(rows)
    (note,) = [note for note in draft.notes if "model.warmup" in note]
    assert note.startswith("54 of 60 machines (`pod`) end in the sample within 100 rows")
    assert "--entity service watches what lasts (2 values)" in note
    first = {row["pod"]: row["ts"] for row in reversed(rows)}  # a version for 134 min, of which one pod stays
    released = [{**row, "version": f"{row['service']} v{(first[row['pod']] - START) // 8_040}"} for row in rows]
    stay = {(row["version"], row["ts"]): {**row, "pod": f"{row['version']} 0"} for row in released}
    released = sorted([*released, *stay.values()], key=lambda row: row["ts"])
    (note,) = [note for note in decided(released).notes if "model.warmup" in note]
    assert "--entity service watches what lasts (2 values)" in note, "versions have more values, and end"
    alone = [{key: value for key, value in row.items() if key != "service"} for row in rows]
    (note,) = [note for note in decided(alone).notes if "model.warmup" in note]
    assert "if a column groups them, such as a service or a line, name it with --entity" in note
    ending = sorted(pods(lambda pod: f"s{pod // 6}"), key=lambda row: row["ts"])
    (note,) = [note for note in decided(ending).notes if "model.warmup" in note]
    assert "if a column groups them" in note, "groups that end, too, are no cure"
    config = parse_config(render_config(draft, "t", "a", {}, "rows"))
    assert config.state.ttl == 7 * 86_400, "their open alerts would stay for 90 days"
    write(rows, tmp_path / "pods.jsonl")
    printed = ssm_stream("init", tmp_path / "pods.jsonl", "--out", tmp_path / "m.yaml").stderr
    assert "state.ttl   7d: 54 of 60 machines end within the sample" in printed
    assert (
        parse_config(render_config(decided(machines(), targets=["temp"]), "t", "a", {}, "rows")).state.ttl == 7_776_000
    )


def test_the_time_to_live_is_longer_than_the_absences_in_the_sample() -> None:
    rows = [
        {**row, "ts": row["ts"] + (5 * 86_400 if i % 2 else 0)}
        for i, row in enumerate(machines(one_after_another=True))
    ]
    rows = sorted(rows, key=lambda row: row["ts"])
    config = parse_config(render_config(decided(rows, targets=["temp"]), "t", "a", {}, "rows"))
    assert config.state.ttl == 20 * 86_400
    long = [{**row, "ts": START + 10 * (row["ts"] - START) * 12} for row in machines(one_after_another=True)]
    config = parse_config(render_config(decided(long, targets=["temp"]), "t", "a", {}, "rows"))
    assert config.state.ttl == 17 * 86_400, "what ran for 17 days may stand still for as long"


def test_a_column_with_values_in_some_states_only_leaves_the_silence_of_machines() -> None:
    rows = machines()
    for i, row in enumerate(rows):
        if 100 <= i // 4 < 110 or 130 <= i // 4 < 190:  # no slab is rolled
            row["load"] = None
    silence, stuck = switches(rows)
    setting, _, why = silence.partition("   # ")
    assert setting == "silence: {after: auto, columns: false}"
    assert re.fullmatch("machines whose events stop, not columns: load would raise [0-9]+ alerts in the sample", why)
    assert stuck.startswith("stuck: true")


def test_a_target_of_few_rows_is_budgeted_by_its_values(tmp_path: Path) -> None:
    rows = [{**row, "lab": row["temp"] if i // 4 % 20 == 0 else None} for i, row in enumerate(machines())]
    text = render_config(decided(rows, targets=["lab"]), "t", "a", {}, "rows")
    parse_config(text)
    note = " ".join(line.strip(" #") for line in text.splitlines())
    assert "an entity may raise, of anomaly and of drift at a value every 20 min about once in 140 d each" in note
    assert "`lab` has a value in 1 of 20 rows, about every 20 min; these alone are learned and judged." in note
    assert "after 100 of them (model.warmup), about 33 h, and a budget of events counts them alone" in note
    for key in ("1 per 30d", "lags: 0", "labels"):
        assert key in note
    full = render_config(decided(machines(), targets=["temp"]), "t", "a", {}, "rows")
    assert "at a row every 60 s about once\n# in 30 d each" in full
    assert full.count("budget: 1 per 30d") == 2, "ten thousand of its events are a week"
    assert text.count("budget: 1 per 10000 events") == 2, "which are months of its values"
    assert "has a value in" not in full
    years = render_config(decided(rows, targets=["lab"])._replace(step=300.0, labelled=1 / 288), "t", "a", {}, "rows")
    assert "at a value every 24 h about once in 27 years each" in years.replace("\n# ", " ")
    for name, target, few in (("few", "lab", True), ("all", "temp", False)):
        file, config = tmp_path / "rows.jsonl", tmp_path / f"{name}.yaml"
        file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
        config.write_text(render_config(decided(rows, targets=[target]), "t", "a", {}, "rows"))
        printed = ssm_stream("backtest", config, file).stdout
        assert ("labels" in printed) is few
        assert bool(re.search(r"\b800\W+40\b", printed)) is few


def test_no_feature_that_varies_is_no_reason_to_have_numbers() -> None:
    rows = [{"ts": f"2026-01-01T{i // 60:02d}:{i % 60:02d}:00Z", "serial": 7, "temp": i % 13 * 0.7} for i in range(400)]
    draft = draft_event(rows, Choices(None, None, ("temp",)), "m")
    assert draft.event.features == []
    assert draft.why["features"] == "none of the numbers varies: its own past and the calendar predict"
    assert "serial" in draft.left_out
