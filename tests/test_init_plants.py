"""`ssm-stream init` on plants: counters, counts, modes, lots, standstills, weather and actuators."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ssm_stream.autoconfig.alert_rules.budgets import budget_of, patience_events
from ssm_stream.autoconfig.columns import columns
from ssm_stream.autoconfig.draft import Choices, Draft, draft_event
from ssm_stream.autoconfig.labels import lot_reason
from ssm_stream.autoconfig.render import render_config
from ssm_stream.autoconfig.stops import LaterRows
from ssm_stream.autoconfig.tag_names import family_note
from ssm_stream.cli.app import app
from ssm_stream.config import Event

START = 1_772_409_600


def plant(n: int, machines: int = 1, minutes: int = 2, **signals: Callable[[int, int], Any]) -> list[dict[str, Any]]:
    """Rows of machines one by one, `minutes` apart. signals: name → value of a row i of a machine"""
    return [
        {"ts": START + 60 * minutes * i, "machine": f"M{m}", **{name: at(i, m) for name, at in signals.items()}}
        for i in range(n)
        for m in range(machines)
    ]


def noise(level: float = 10.0, size: float = 1.0, seed: int = 0, digits: int = 2) -> Callable[[int, int], Any]:
    rng = np.random.default_rng(seed)

    def at(i: int, m: int) -> Any:
        value = round(float(level + size * rng.normal()), digits)
        return value if digits else int(value)

    return at


def poisson(mean: float, seed: int = 1) -> Callable[[int, int], int]:
    rng = np.random.default_rng(seed)
    return lambda i, m: int(rng.poisson(mean))


def decided(rows: list[dict[str, Any]], *targets: str) -> Draft:
    return draft_event(rows, Choices(targets=targets), "line-1")


def test_whole_numbers_named_like_a_counter_count_only_if_they_go_one_way() -> None:
    rows = plant(600, cycle_time_ms=noise(1000, 15, digits=0), cycle_no=lambda i, m: i // 3 % 40, x=noise(seed=2))
    draft = decided(rows)
    assert draft.event.targets == ["cycle_time_ms", "x"]
    assert draft.left_out["cycle_no"] == "a counter or a part of the calendar, no signal"


@pytest.mark.parametrize("mean", [0.05, 0.3, 1.5])
def test_counts_are_signals_and_modes_are_none(mean: float) -> None:
    """Few whole numbers from zero on: a count is another in each row, and a mode lasts."""
    modes = {"phase": lambda i, m: i // 12 % 4, "speed_setpoint": lambda i, m: (0, 60, 90)[i // 200 % 3]}
    draft = decided(plant(1500, 2, rejects=poisson(mean), x=noise(), **modes))
    assert draft.event.targets == ["rejects", "x"]
    assert draft.event.categories == ["phase", "speed_setpoint"]


def test_decimals_that_are_set_are_modes_and_what_is_measured_is_none() -> None:
    """Few values are not enough: a sensor's grid is even, and what a laboratory measures has all its digits."""
    laboratory = np.random.default_rng(5).choice([0.2, 0.21, 0.22, 0.23, 0.25], 100)
    coarse = np.random.default_rng(6).choice([20.0, 20.5, 21.0, 21.5], 100)
    few = {
        "bottle": lambda i, m: (0.33, 0.5, 1.0)[i // 150 % 3],
        "acid": lambda i, m: float(laboratory[i // 60 + 40 * m]),
        "tank": lambda i, m: float(coarse[i // 40 + 50 * m]),
        "flicker": lambda i, m: (0.33, 0.5, 1.0)[(i // 3 + i % 2 + m) % 3],
    }
    draft = decided(plant(1500, 2, x=noise(), **few))
    assert draft.event.targets == ["acid", "flicker", "tank", "x"]
    assert draft.event.categories == ["bottle"]


def test_a_column_of_one_machine_is_used_and_one_that_is_mostly_empty_is_not() -> None:
    rows = plant(300, 4, x=noise())
    glue, rare = noise(180, 2, seed=3), noise(seed=4)
    for i, row in enumerate(rows):
        row |= {"glue_temp": glue(0, 0) if row["machine"] == "M2" else None, "rare": rare(0, 0) if i % 3 == 0 else None}
    draft = decided(rows)
    assert draft.event.targets == ["glue_temp", "x"]
    assert draft.left_out["rare"].startswith("a number in only ")
    assert decided(rows, "x").event.numbers == ["glue_temp"]
    each = [{**row, "machine": f"M{i}"} for i, row in enumerate(rows)]  # a row a machine shows nothing
    assert "glue_temp" in decided(each, "x").left_out


def test_two_batteries_among_many_inverters_keep_their_signals() -> None:
    rows = plant(60, 40, x=noise(), z=noise(seed=2))
    soc = noise(50, 5, seed=3)
    for row in rows:
        if row["machine"] in ("M3", "M30"):
            row |= {"x": None, "z": None, "soc": soc(0, 0)}
    assert decided(rows).event.targets == ["soc", "x", "z"]


def hours(resets: int = 0) -> Callable[[int, int], float]:
    """A running clock of a machine that stands still at night and at the weekend; 12 rows an hour."""

    def at(i: int, m: int) -> float:
        day, hour = divmod(i / 12, 24)
        worked = 14 * sum(d % 7 < 5 for d in range(int(day))) + (min(max(hour - 6, 0), 14) if day % 7 < 5 else 0)
        return round(5000 + worked, 1) if not resets else round(worked % (100 / resets), 1)

    return at


def test_totals_are_no_inputs_also_where_a_machine_stands_still() -> None:
    signals = {
        "run_hours": hours(),
        "replaced": hours(1),
        "phase_hours": hours(20),
        "spare": lambda i, m: 7.5 + (m and i // 30),
    }
    rows = plant(12 * 24 * 9, 2, 5, x=noise(), y=noise(seed=5), **signals)
    for draft in (decided(rows), decided(rows, "y")):
        total = "it never falls, and grows all along the sample: a total or a running clock"
        assert {path for path, why in draft.left_out.items() if why.startswith(total)} == {
            "run_hours",
            "replaced",
            "spare",
        }
        assert {"x", "phase_hours"} <= {*draft.event.columns, *draft.event.targets}
    assert decided(rows, "run_hours").event.target == "run_hours"
    hourly = plant(1400, 1, 1, x=noise(), hour=lambda i, m: i // 60, y=noise(seed=5))
    assert "hour" in decided(hourly, "y").event.numbers, "a day of the calendar"


def test_totals_are_known_by_the_order_of_their_times_where_rows_come_late() -> None:
    rows = plant(900, 2, x=noise(), z=noise(seed=5), run_hours=lambda i, m: round(400 + m + i / 30, 1))
    starts = iter(np.random.default_rng(0).integers(0, 2, len(rows)).cumsum().tolist())
    rows = [{**row, "no_of_starts": next(starts)} for row in rows]
    late = [*rows[:600], *rows[660:900], *rows[600:660], *rows[900:]]
    for machines in (late, [row for row in late if row["machine"] == "M0"]):
        for draft in (decided(machines), decided(machines, "z")):
            assert {"run_hours", "no_of_starts"} <= {*draft.left_out}
            assert "x" in {*draft.event.columns, *draft.event.targets}
            assert any("sort the rows by `ts`" in note for note in draft.notes)


def test_what_begins_anew_by_the_clock_is_a_total_and_a_tank_is_a_signal() -> None:
    rng = np.random.default_rng(0)
    n, minutes = 12 * 24 * 6, 5
    grown = np.concatenate([[0.0], rng.uniform(0, 1, n).cumsum()])
    filled, levels = 0.0, []
    for _ in range(n):  # emptied when it is full, at any time of the day
        filled = filled + float(rng.uniform(0, 1)) if filled < 90 else 0.0
        levels.append(filled)

    def since(begin: Callable[[int], int]) -> Callable[[int, int], float]:
        return lambda i, m: round(float((1 + m) * (grown[i] - grown[begin(i)])), 1)

    rows = plant(
        n,
        2,
        minutes,
        x=noise(),
        energy_today=since(lambda i: max((i + 12) // 288 * 288 - 12, 0)),  # local midnight is 23:00 UTC
        parts_of_shift=since(lambda i: i // 96 * 96),
        seconds=lambda i, m: 300 * (i % 288),
        tank=lambda i, m: round(levels[(i + 40 * m) % n], 1),
        z=noise(seed=3),
    )
    lossy = [row for row in rows if rng.random() > 0.02]
    for draft in (decided(lossy), decided(lossy, "z")):
        by_clock = {path: why for path, why in draft.left_out.items() if "begins anew by the clock" in why}
        assert {*by_clock} == {"energy_today", "parts_of_shift"}
        assert "every 24 hours" in by_clock["energy_today"]
        assert "every 8 hours" in by_clock["parts_of_shift"]
        assert {"tank", "seconds", "x"} <= {*draft.event.columns, *draft.event.targets}


def test_what_is_fed_at_set_hours_is_a_signal_and_no_total() -> None:
    """A feeder's grams, six times a day, zero in between: they "only grow, and begin anew by the clock, every hour"."""
    rng = np.random.default_rng(0)

    def fed(i: int, m: int) -> float:
        return round(float(rng.normal(50, 3)), 1) if i % 144 in (36, 54, 72, 90, 108, 120) else 0.0

    draft = decided(plant(3000, 2, 10, feed=fed, x=noise(seed=2)), "x")
    assert "feed" not in draft.left_out
    assert "feed" in {*draft.event.columns, *draft.event.targets}


def machine(n: int = 2400, seed: int = 0) -> list[dict[str, Any]]:
    """Load by shifts, air with a daily course and a little weather; oil follows both, and vibration follows load."""
    rng = np.random.default_rng(seed)
    hour = np.arange(n) / 12 % 24
    load = np.where((hour >= 6) & (hour < 22), 75.0, 45.0) + 4 * rng.normal(size=n)
    air = 12 + 8 * np.sin(2 * np.pi * (hour - 9) / 24) + 0.3 * rng.normal(size=n)
    oil = 30 + 0.3 * load + air + 0.3 * rng.normal(size=n)
    vibration = 1 + 0.02 * load + 0.02 * rng.normal(size=n)
    made = {"load": load, "oil": oil, "vibration": vibration, "air": air}
    return plant(n, 1, 5, **{name: lambda i, m, x=x: round(float(x[i]), 2) for name, x in made.items()})


def renamed(rows: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    return [{names.get(key, key): value for key, value in row.items()} for row in rows]


@pytest.mark.parametrize("name", ["air", "outside_c", "intake_air", "Inlet temp"])
def test_what_has_only_the_daily_course_in_common_is_no_symptom(name: str) -> None:
    draft = decided(renamed(machine(), air=name), "oil")
    assert draft.event.numbers == sorted(["load", name])
    assert draft.left_out["vibration"].startswith("follows load")


def test_actuators_are_no_symptoms_and_weather_follows_nothing() -> None:
    rows = renamed(machine(), vibration="cooling_valve")
    assert "cooling_valve" in decided(rows, "oil").event.numbers
    rows = renamed(machine(), air="outdoor_temp")
    assert decided(rows).event.inputs == ["load", "outdoor_temp"]
    x = np.random.default_rng(0).normal(size=1200)
    rows = plant(1200, a=lambda i, m: float(x[i]), c=noise(seed=5), b=lambda i, m: float(x[i] ** 2))
    assert decided(rows).event.inputs == ["a"]
    assert decided(renamed(rows, b="ambient")).event.inputs == []


def spindle(n: int = 3000) -> dict[str, np.ndarray[Any, Any]]:
    """A command in steps; what is measured of it, and warms the bearing; and the power, which has a noisy load, too."""
    rng = np.random.default_rng(0)
    speed = np.repeat(rng.choice([0.0, *np.arange(900.0, 4000.0, 200.0)], n // 5), 5)
    rpm = speed + (speed > 0) * rng.normal(0, 25, n)
    load = rng.normal(40, 8, n)
    return {
        "rpm_cmd": speed,
        "rpm": rpm,
        "load": load,
        "power": rpm * load / 9000 + rng.normal(0, 0.1, n),
        "vibration": 1 + 1e-6 * (rpm - speed + 0.3 * speed) ** 2 + rng.normal(0, 0.01, n),
    }


@pytest.mark.parametrize(
    ("command", "measured"),
    [("rpm_cmd", "rpm"), ("Speed SP", "Speed PV"), ("drehzahl_soll", "drehzahl_ist"), ("a", "b"), ("s1", "rpm")],
)
def test_a_command_is_the_input_and_not_what_is_measured_of_it(command: str, measured: str) -> None:
    """By the names, or as the one holds its value while the other moves: which gains more does not matter."""
    made = {{"rpm_cmd": command, "rpm": measured}.get(name, name): x for name, x in spindle().items()}
    draft = decided(plant(3000, 1, 5, **{name: lambda i, m, x=x: round(float(x[i]), 3) for name, x in made.items()}))
    assert command in (draft.event.inputs or [])
    assert measured not in (draft.event.inputs or [])
    assert measured in draft.event.targets


def tools(kind: str, n: int = 3000) -> list[dict[str, Any]]:
    """A whole number from 1 to 12 that lasts for some rows, and a torque: each tool has its own; a valve's grows."""
    rng = np.random.default_rng(1)
    number = np.repeat(rng.integers(1, 13, n // 6), 6)
    if kind == "buffer":  # parts that wait: a few more, a few fewer
        number = np.repeat(np.abs(np.cumsum(rng.integers(-1, 2, n // 6)) % 24 - 12), 6)
    own = rng.permutation(np.linspace(10, 60, 13)) if kind == "tool" else np.linspace(10, 60, 13) ** 1.5 / 8
    torque = own[number] + rng.normal(0, 2, n)
    return plant(n, 1, 5, number=lambda i, m: int(number[i]), torque=lambda i, m: round(float(torque[i]), 2), x=noise())


def test_whole_numbers_that_name_things_are_a_category_and_levels_are_signals() -> None:
    assert decided(tools("tool")).event.categories == ["number"]
    for kind in ("valve", "buffer"):
        event = decided(tools(kind)).event
        assert (event.categories, event.targets) == ([], ["number", "torque", "x"])


def test_the_target_that_is_suggested_is_a_signal_that_the_others_explain() -> None:
    def suggested(rows: list[dict[str, Any]]) -> str:
        (note,) = (note for note in decided(rows).notes if note.startswith("for one target"))
        return note.rpartition("--target ")[2]

    assert suggested(renamed(machine(), air="outdoor_temp")) == "oil"
    rows = renamed(machine(), air="outdoor_temp")
    assert suggested([{**row, "run_hours": i / 12} for i, row in enumerate(rows)]) == "oil"
    assert suggested(plant(300, x=noise(), ambient_temp=noise(seed=2))) == "x", "too few rows for drivers"


def test_collinear_features_are_those_that_are_left() -> None:
    rows = [{**row, "oil_2": row["oil"] + 0.01 * (i % 2)} for i, row in enumerate(machine())]
    draft = decided([{**row, "y": noise(row["load"], 0.5, seed=i)(0, 0)} for i, row in enumerate(rows)], "y")
    for note in draft.notes:
        assert not (note.startswith("collinear") and any(path in note for path in draft.left_out)), note


def test_a_number_of_a_standstill_is_no_mark_of_a_missing_value() -> None:
    def marked(at: Callable[[int], bool], number: float, machines: int = 1) -> list[str]:
        rows = plant(600, machines, power=noise(50), x=noise(seed=2))
        for i, row in enumerate(rows):
            row["power"] = number if at(i) else row["power"]
        return [note for note in decided(rows).notes if "stands in" in note]

    off = 0.3
    assert not marked(lambda i: i % 100 < 30, off), "often"
    assert not marked(lambda i: 200 <= i < 210, off), "rarely, and long"
    (note,) = marked(lambda i: i % 80 == 7, off)
    cure = "write such cells empty (in messages null), or take it for none by event.quality: "
    assert note.endswith(cure + "{columns: {'power': 'power'}, good: {above: 0.3}}")
    (note,) = marked(lambda i: i % 160 == 7, off, 2)
    assert note.endswith("event.quality: {columns: {'power': 'power'}, good: {above: 0.3}}")
    for number in (-999, 9999.0, 32767, -32768, 65535):
        assert marked(lambda i: i % 100 < 30, number), "what programs write for no value"


def test_states_in_which_signals_rest_are_noted() -> None:
    """A line that runs, idles at an empty belt, and is off at night; a mode alone is no rest."""
    rng = np.random.default_rng(0)
    state = np.array(["run", "off", "idle"])[np.minimum(np.arange(2400) // 40 % 5, 2) * (np.arange(2400) // 40 % 5 < 3)]
    size = np.where(state == "run", 1.0, 0.05)
    x = 10.0 + size[:, None] * rng.normal(size=(2400, 4))
    names = ("flow", "temp", "power", "torque")
    signals = {name: lambda i, _, j=j: float(round(x[i, j], 3)) for j, name in enumerate(names)}
    draft = decided(plant(2400, state=lambda i, _: str(state[i]), recipe=lambda i, _: "AB"[i // 300 % 2], **signals))
    (note,) = [note for note in draft.notes if "event.when" in note]
    assert note.startswith('`state` is "idle" or "off" in 40% of the rows, where many of the other signals rest')
    assert 'event.when: {"state": ["run"]} leaves them out' in note
    lively = {name: noise(10.0, 1.0, j) for j, name in enumerate(names)}
    belts = plant(2400, load=lambda i, _: 0.0 if state[i] == "off" else 5.0 + float(x[i, 0]), **lively)
    assert not [note for note in decided(belts).notes if "event.when" in note]  # they go on at no load


def test_a_load_cell_that_flickers_above_zero_is_off() -> None:
    """A crane in its shift's break: 0.1 t now and then on an empty hook hid the state from which the rest is known."""
    rng = np.random.default_rng(0)
    at_work = np.arange(3000) % 300 >= 40
    lifts = np.where(rng.random(3000) < 0.7, rng.uniform(5.0, 30.0, 3000), 0.0)
    load = np.maximum(np.where(at_work, lifts, 0.0) + 0.1 * rng.normal(size=3000), 0.0).round(1)
    height = np.where(at_work, rng.uniform(0, 35, 3000), 5.0).round(2)
    signals = {
        "load_t": lambda i, _: float(load[i]),
        "height_m": lambda i, _: float(height[i]),
        "current_A": lambda i, _: round(float(40 + 10 * load[i] + rng.normal()), 1) if at_work[i] else 40.0,
        "oil_temp": noise(60.0, 0.2, 7),
    }
    draft = decided(plant(3000, 1, state=lambda i, _: "WORK" if at_work[i] else "BREAK", **signals))
    (note,) = [note for note in draft.notes if "event.when" in note]
    assert note.startswith('`state` is "BREAK" in 13% of the rows')


def resting(at: Callable[[int], bool], n: int = 2400, machines: int = 2) -> list[dict[str, Any]]:
    """Rows of signals that wander, and stand still where `at` is true of a row."""
    rng = np.random.default_rng(0)
    still = np.array([at(i) for i in range(n)])
    x = np.cumsum(np.where(still[:, None], 0.0, rng.normal(size=(n, 4))), axis=0).round(3)
    return plant(n, machines, **{f"x{j}": lambda i, _, j=j: float(x[i, j]) for j in range(4)})


def rest_notes(rows: list[dict[str, Any]]) -> list[str]:
    return [note for note in decided(rows).notes if "event.when" in note]


def test_the_condition_that_is_offered_keeps_what_does_not_rest() -> None:
    rows = resting(lambda i: i // 40 % 10 == 0)

    def noted(name: str, on: Any, off: Any) -> list[str]:
        return rest_notes([{**row, name: on if i // 80 % 10 == 0 else off} for i, row in enumerate(rows)])

    (note,) = noted("standby", 1, 0)
    assert note.startswith("`standby` is 1 in 10% of the rows")
    assert 'event.when: {"standby": 0} leaves' in note
    (note,) = noted("running", 0, 1)
    assert note.startswith("`running` is 0 in 10% of the rows")
    assert 'event.when: {"running": {above: 0}} leaves' in note
    (note,) = noted("standby", True, False)
    assert "`standby` is true" in note
    assert 'event.when: {"standby": [false]} leaves' in note
    assert "not in the sample" not in note, "there is no third truth value"
    (note,) = noted("state", "off", "run")
    assert 'event.when: {"state": ["run"]} leaves' in note
    assert "A state that is not in the sample, such as a fault, is left out too unless you add it" in note
    assert not noted("state", "pump fault", "run"), "what is to be seen"
    assert not noted("alarm_code", 7, 0)
    assert not noted("state", "PAPER JAM", "run")
    assert not noted("Jam_Flag", 1, 0)


def test_a_column_of_one_kind_of_machine_shows_rest_of_that_kind_alone() -> None:
    rows = resting(lambda i: i // 40 % 10 == 0)
    for i, row in enumerate(rows):
        row |= {"standby": 1 if i // 80 % 10 == 0 else 0, "state": "run"}
    others = [{"ts": START + 120 * i, "machine": "Z1", "state": "charging"} for i in range(2400)]
    (note,) = rest_notes(rows + others)
    assert 'event.when: [{entities: "M*", "standby": 0}] leaves' in note, "the others would be idle for good"
    (note,) = rest_notes(rows + [{**row, "machine": "M9"} for row in others])
    assert "1 of 3 machines never have `standby`" in note
    unknown = [{key: value for key, value in row.items() if key != "standby"} for row in rows]
    assert not rest_notes(unknown + others), "signals that a machine does not have do not rest"


def test_an_angle_that_passes_through_north_is_no_signal() -> None:
    rng = np.random.default_rng(0)
    course = 350.0 + np.cumsum(rng.normal(0.0, 4.0, 2400))
    course -= np.linspace(0.0, 1.0, 2400) * (course[-1] - 350.0)  # about north, from first to last
    switched = np.where(np.arange(2400) // 40 % 2 == 0, 0.0, 352.0 + rng.normal(0.0, 4.0, 2400))
    idle = rng.uniform(-1.0, 1.0, 2400)
    rows = plant(
        2400,
        direction=lambda i, _: float(np.round(course[i] % 360.0)),
        bearing=lambda i, _: float(np.round((course[i] + 10.0) % 360.0 - 180.0)),
        power_kw=lambda i, _: float(np.round(np.clip(switched[i], 0.0, 360.0), 1)),
        pump_bar=lambda i, _: float(np.round(2.0 + idle[i] if i // 40 % 2 else 348.0 + 4 * idle[i], 1)),
        pump=lambda i, _: float(np.round(1.0 + idle[i] if i // 40 % 2 else 354.0 + 2 * idle[i], 2)),
        speed=noise(8.0, 1.0, 1),
        temp=noise(20.0, 1.0, 2),
    )
    draft = decided(rows)
    for angle in ("direction", "bearing"):
        assert draft.left_out[angle].startswith("an angle that passes through north")
    assert {"power_kw", "pump_bar", "pump", "speed", "temp"} <= {*draft.event.targets}


def test_names_that_never_come_again_are_no_category() -> None:
    def reason(at: Callable[[int, int], str | None], machines: int = 1) -> str | None:
        rows = plant(400, machines, made=at)
        (column,) = (column for column in columns(rows) if column.path == "made")
        return lot_reason(column, {i: row["machine"] for i, row in enumerate(rows)})

    assert reason(lambda i, m: f"L{i // 40}") is not None
    assert reason(lambda i, m: f"L{(i + 5 * m) // 40}", 3) is not None, "through several machines"
    assert reason(lambda i, m: f"L{i // 40}" if i % 40 > 5 else None) is not None, "with pauses"
    assert reason(lambda i, m: f"L{i // 100}") is None, "few"
    assert reason(lambda i, m: f"L{i // 40 % 9}") is None, "the first comes again"
    assert reason(lambda i, m: f"model-{m}", 12) is None, "each machine has its own"
    rows = plant(400, lot=lambda i, m: f"L{i // 40}", x=noise(), y=noise(seed=2))
    assert not decided(rows, "y").event.categories
    assert "the number of a lot or an order" in decided(rows).left_out["lot"]
    rows = plant(400, 6, batch_id=lambda i, m: f"B26{m}1" if i > 60 * m else None, x=noise(), y=noise(seed=2))
    assert not decided(rows, "y").event.categories, "vessels that are at their first batch all along the sample"
    rows = plant(400, 3, job=lambda i, m: ["etl", "web", "db"][m], x=noise(), y=noise(seed=2))
    assert "the number of a lot" not in str(decided(rows, "y").left_out), "a name without a number may last"


def test_columns_of_several_kinds_of_machines_are_noted_as_tags(tmp_path: Path) -> None:
    names = [
        *(f"AHU-{i}.{signal}" for i in (1, 2) for signal in ("supply", "valve", "fan")),
        "CH-1.flow",
        "CH-1.power",
        "CH-1.kpa",
    ]
    note = family_note(["time", *names])
    assert note is not None
    assert "3 machines (AHU-1, AHU-2, CH-1)" in note
    assert family_note(["time", "plant.a", "plant.b", "other.c"]) is None
    units = [f"{name} [mg/l]" for name in ("O2 B1", "O2 B2", "NH4", "NO3")]
    assert family_note(["time", *units, "Zulauf (m³/h)", "Luft [Nm³/h]", "Strom [A]"]) is None, "of a unit"
    rng, file = np.random.default_rng(0), tmp_path / "wide.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["time", *names])
        writer.writerows([START + 60 * i, *rng.normal(size=len(names)).round(3)] for i in range(300))
    command = ["init", str(file), "--out", str(tmp_path / "m.yaml"), "--force"]
    assert "--read tags='{entity}.{signal}'" in CliRunner().invoke(app, command).stderr
    told = CliRunner().invoke(app, [*command, "--read", "tags={entity}.{signal}"])
    assert "flow, fan" not in told.stderr
    assert "all: fan, flow, kpa, power, supply, valve" in told.stderr
    assert "machines (AHU-1" not in CliRunner().invoke(app, [*command, "--read", "tags=none"]).stderr


def test_what_counts_the_rows_of_a_cycle_is_no_signal() -> None:
    """Wafers since a cleaning, and a place in a lot; what warms up from 0 in each cycle is one."""
    rng = np.random.default_rng(8)
    lengths = rng.integers(40, 60, 40)
    since = np.concatenate([[0, *range(length)] for length in lengths])[:1500]
    rows = plant(
        1500,
        since_clean=lambda i, m: int(since[i]),
        slot=lambda i, m: 1 + i % 25,
        warm=lambda i, m: round(float(since[i] + rng.normal(0, 2)), 1),
        steps=lambda i, m: 20 + i % 11,
        x=noise(),
    )
    draft = decided(rows)
    assert (
        draft.left_out["slot"] == "it counts the rows, and begins anew again and again: a place in a cycle, no signal"
    )
    assert draft.event.inputs is not None
    assert "since_clean" in draft.event.inputs, "what warms up follows it"
    assert {*draft.event.targets} == {"warm", "steps", "x"}


def test_the_chambers_of_a_tool_are_machines_though_each_runs_for_a_while() -> None:
    """Each processes a wafer of 60 rows, one after another, and in no turn."""
    rng = np.random.default_rng(9)
    chambers = np.repeat(rng.integers(4, size=30), 60)
    rows = [
        {"ts": START + i, "chamber": f"CH{k + 1}", "wafer": 100 * k + i // 60, "pressure": k + 0.1 * x, "rf": y}
        for i, (k, x, y) in enumerate(zip(chambers.tolist(), *rng.normal(size=(2, 1800)).tolist(), strict=True))
    ]
    draft = decided(rows)
    assert (draft.event.entity, draft.why["entity"]) == ("chamber", "by its name; 4 values in the sample")


def test_a_mark_for_no_value_among_readings_is_named_without_a_setting_that_they_cannot_have() -> None:
    """`event.quality.columns` is of rows: a reading has one value."""
    rng = np.random.default_rng(10)
    marked = dict.fromkeys([("NH4", 50), ("NH4", 200), ("NH4", 350)], 99.0)
    rows = [
        {"time": START + 60 * i, "tag": tag, "value": marked.get((tag, i), float(rng.normal(2, 0.2)))}
        for i in range(500)
        for tag in ("FLOW", "NH4", "NO3")
    ]
    (note,) = [each for each in decided(rows).notes if "is learned as a measurement" in each]
    assert note.startswith("99 stands in `NH4` (3) of 500 rows")
    assert "event.quality" not in note


def test_a_battery_in_whole_percent_is_not_watched_for_being_stuck() -> None:
    """It stays at one value for days, and longer as it ages; a level that is filled again does not."""
    rng = np.random.default_rng(0)
    charge = [90 - 7 * m - i / (300 + 40 * m) + 0.3 * rng.normal() for i in range(900) for m in range(4)]
    rows = plant(
        900, 4, 60,
        battery=lambda i, m: int(charge[4 * i + m]),
        tank_pct=lambda i, m: 90 - (i // 6 + 11 * m) % 60,
        warm=lambda i, m: round(20 + 5 * math.sin(i / 30 + m)),
        x=noise(),
    )  # fmt: skip
    draft = decided(rows)
    assert draft.stops is not None
    assert draft.stops.watched is not None
    assert {"battery", "tank_pct", "warm", "x"} - {*draft.stops.watched} == {"battery"}
    assert draft.stops.unwatched.startswith("battery: a whole number that falls slowly")


@pytest.mark.parametrize(
    ("step", "events", "text"),
    [(0.0, 10_000, "1 per 10000 events"), (30.0, 86_400, "1 per 30d"), (600.0, 10_000, "1 per 10000 events")],
)
def test_what_stops_is_judged_by_the_budget_of_the_draft(step: float, events: int, text: str) -> None:
    assert (patience_events(step), budget_of(step)) == (events, text)
    rules = LaterRows(Event(entity="machine", timestamp="ts", target="y"), step).alerts
    assert rules.anomaly.budget.text == text


@pytest.mark.parametrize(("minutes", "written"), [(5, 0), (33, 1)])
def test_rare_rows_have_no_cooldown_of_days(minutes: int, written: int) -> None:
    """A point machine is thrown each half hour: an obstruction a day after another had no alert."""
    rows = plant(2400, 1, minutes, current=noise(5.0), duration=noise(6000.0, 40.0, 3, 0))
    text = render_config(decided(rows), "throws", "-", {}, "")
    assert text.count("cooldown: 0") == written
