"""`ssm-stream init` on what drives and what answers: weather, commands, responses, rest, kinds of machines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_init_plants import decided, noise, plant, rest_notes

from ssm_stream.autoconfig.columns import columns
from ssm_stream.autoconfig.render import render_config
from ssm_stream.autoconfig.roles import role_of
from ssm_stream.autoconfig.stops import Stops

N = 1500


def of(x: np.ndarray[Any, Any]) -> Any:
    """The values of a signal: by row, or by row and machine."""
    return lambda i, m: round(float(x[i] if x.ndim == 1 else x[i, m]), 2)


def site(machines: int = 3, **more: Any) -> list[dict[str, Any]]:
    """Meters whose power follows the hour and the weather, which is the same for all of them."""
    rng = np.random.default_rng(0)
    day = np.sin(np.arange(N) / 288 * 2 * np.pi)
    slow = np.cumsum(rng.normal(0, 0.2, N))
    weather = 12 + 6 * day + slow
    power = 20 + 0.8 * np.abs(weather - 15)[:, None] + rng.normal(0, 0.5, (N, machines))
    volts = 230 - 0.1 * power + rng.normal(0, 0.05, (N, machines))
    made = {"U_L1_V": of(volts), "active_power_kW": of(power), "sky_W_m2": of(np.abs(day) + slow), "air_C": of(weather)}
    return plant(N, machines, 5, **made, **more)


def test_what_all_machines_share_is_an_input_and_no_target() -> None:
    draft = decided(site())
    assert draft.event.targets == ["U_L1_V", "active_power_kW"]
    assert draft.event.inputs is not None
    assert {"air_C", "sky_W_m2"} <= {*draft.event.inputs}
    assert "U_L1_V" not in draft.event.inputs
    assert any(note.startswith("`air_C`, `sky_W_m2`: one value for all machines at each time") for note in draft.notes)
    assert any(note.endswith("--target active_power_kW") for note in draft.notes)
    lossy = [row for i, row in enumerate(site()) if i % 7]
    assert decided(lossy).event.targets == draft.event.targets, "where rows are missing, too"
    assert {"air_C", "sky_W_m2"} <= {*decided(site(1)).event.targets}, "of one machine it may be its own"
    given = decided(site(), "active_power_kW")
    assert {"air_C", "sky_W_m2"} <= {*given.event.numbers}
    assert not {"air_C", "sky_W_m2"} & {*given.left_out}


def test_pulses_that_all_machines_are_mostly_without_are_not_shared() -> None:
    rng = np.random.default_rng(1)
    pulses = rng.poisson(0.02, (N, 3)) * rng.integers(1, 9, (N, 3))
    rows = site(rejects=lambda i, m: int(pulses[i, m]))
    assert "rejects" in decided(rows).event.targets


@pytest.mark.parametrize("name", ["supply_temp_sp_C", "TempSetpoint", "druck_soll", "SV"])
def test_a_command_is_an_input_and_no_target(name: str) -> None:
    rng = np.random.default_rng(2)
    steps = np.repeat(rng.integers(32, 43, (N // 50, 2)) / 2.0, 50, axis=0)
    temp = steps + rng.normal(0, 0.3, (N, 2))
    made = {name: of(steps), "temp": of(temp), "valve": of(3 * (temp - 10) + rng.normal(0, 0.3, (N, 2)))}
    draft = decided(plant(N, 2, 5, **made, x=noise()))
    assert name in (draft.event.inputs or [])
    assert name not in draft.event.targets
    assert "temp" in draft.event.targets


def test_a_measurement_named_like_a_command_is_a_signal() -> None:
    """Static pressure, and what a machine demands: they do not hold their values."""
    draft = decided(plant(N, 2, 5, duct_sp_Pa=noise(250, 5), power_demand=noise(40, 3, 1), x=noise(seed=2)))
    assert {"duct_sp_Pa", "power_demand"} <= {*draft.event.targets}


def test_the_name_of_a_response_is_no_driver() -> None:
    roles = {
        "driver": ["rotor_speed", "motor_load_kW", "inlet_pressure_bar", "ambient_temp", "feed_rate"],
        "actuator": ["cooling_valve_pct", "fan_rpm", "PitchAngle"],
        "response": ["AGIT_A", "load_current", "valve_temp", "TT102_degC", "suction_pressure_bar", "speed_noise"],
        "unknown": ["requests", "flow_A", "FT101_kgh", "x"],
    }
    for role, names in roles.items():
        assert [name for name in names if role_of(name, ["flow_A", "flow_B"]) != role] == []


def test_symptoms_are_no_drivers_where_another_drives_or_two_explain_each_other_alone() -> None:
    rng = np.random.default_rng(3)
    requests = np.abs(np.cumsum(rng.normal(0, 1, (N, 2)), axis=0)) + 50
    cpu = 0.5 * requests + rng.normal(0, 2, (N, 2))
    heat = 20 + 0.4 * cpu + rng.normal(0, 0.1, (N, 2))
    made = {"requests": requests, "cpu": cpu, "chip_temp": heat, "fan_rpm": 90 * heat + rng.normal(0, 5, (N, 2))}
    rows = plant(N, 2, 5, **{name: of(x) for name, x in made.items()})
    inputs = decided(rows).event.inputs
    assert inputs is not None
    assert not {"fan_rpm", "chip_temp"} & {*inputs}
    assert {"requests", "cpu"} & {*inputs}
    current = [{**row, "motor_A": row["cpu"]} for row in rows]
    current = [{k: v for k, v in row.items() if k not in ("requests", "cpu", "fan_rpm")} for row in current]
    noisy = noise(0, 1, seed=4)
    current = [{**row, "vibration": 2 * row["motor_A"] + noisy(0, 0)} for row in current]
    assert decided(current).event.inputs == ["motor_A"], "what it takes stands for the load, where nothing else does"


def reactor() -> list[dict[str, Any]]:
    """Ramps, a hold under control, and idle: a controller holds in place what has the noise of its sensors."""
    rng = np.random.default_rng(5)
    phase = np.array(["HEAT", "DOSE", "HOLD", "COOL", "IDLE"])[
        np.array([0] * 8 + [1] * 8 + [2] * 16 + [3] * 8 + [4] * 8)
    ]
    at = np.arange(2400) // 4 % 48
    state = phase[at]
    aim = {"HEAT": 0.8, "DOSE": 0.0, "HOLD": 0.0, "COOL": -0.8, "IDLE": 0.0}
    temp = 20 + np.cumsum([aim[each] for each in state]) + rng.normal(0, 0.05, 2400)
    idle = state == "IDLE"
    flow = np.where(state == "DOSE", 300 + rng.normal(0, 4, 2400), 0.0)
    amps = np.where(idle, 0.0, 6 + np.isin(state, ["HEAT", "DOSE"]) + rng.normal(0, 0.05, 2400))
    valve = np.where(idle, 0.0, 50 + rng.normal(0, 1, 2400))
    level = np.where(state == "DOSE", at * 2.0, 30.0) + np.where(idle, 0, rng.normal(0, 0.1, 2400))
    set_point = np.round(np.cumsum([aim[each] for each in state]), 1)
    made = {"temp": temp, "flow": flow, "motor_A": amps, "valve": valve, "level": level, "temp_sp": set_point}
    return plant(2400, 1, 1, phase=lambda i, m: str(state[i]), **{name: of(x) for name, x in made.items()})


def test_a_hold_under_control_is_no_rest_and_idle_is() -> None:
    (note,) = rest_notes(reactor())
    assert note.startswith('`phase` is "IDLE" in 16% of the rows')
    assert '["COOL", "DOSE", "HEAT", "HOLD"]' in note


def test_kinds_of_machines_with_columns_of_their_own_are_noted() -> None:
    rows = plant(300, 2, a=noise(), b=noise(seed=1), c=noise(seed=2))
    others = [
        {"ts": row["ts"], "machine": f"CH-{row['machine']}", "p": row["b"], "q": row["c"], "a": row["a"]}
        for row in rows
    ]
    (note,) = [note for note in decided(rows + others).notes if "kinds of machines" in note]
    assert note.startswith("2 kinds of machines: M* with 2 columns of their own; CH-M* with 2 columns")
    assert 'event.only: ["M*"]' in note
    for same in (rows, plant(300, 3, a=noise(), b=noise(seed=1), c=lambda i, m: m if m else None)):
        assert not [note for note in decided(same).notes if "kinds of machines" in note]


def test_the_file_states_which_budgets_there_are_and_when_alerts_begin() -> None:
    draft = decided(site())
    text = " ".join(render_config(draft, "t", "b:9092", {}, "rows").replace("\n# ", " ").split())
    assert "of anomaly and of drift at a row every 5 min about once in 35 d each" in text
    assert "of silence and stuck together as many as of anomaly" in text
    assert "They begin 100 of those after an entity's first (model.warmup), about 8.3 h." in text
    assert "together" not in render_config(draft._replace(stops=None), "t", "b:9092", {}, "rows")


def test_the_budget_is_that_of_the_switches_that_are_on() -> None:
    draft = decided(site())
    for stops, text in (
        (Stops("left out"), "; of stuck as many as of anomaly."),
        (Stops(None, "left out"), "; of silence as many as of anomaly."),
        (Stops("left out", "left out"), " each."),
    ):
        lines = render_config(draft._replace(stops=stops), "t", "b:9092", {}, "rows").split("# How many")[1]
        assert " ".join(lines.split("# They begin")[0].replace("#", " ").split()).endswith(text)


def test_the_step_of_rows_that_come_in_bursts_is_the_mean() -> None:
    """Trips of a lift: ten within twenty minutes, and then none for some hours."""
    rows = [row for i, row in enumerate(plant(6000, 1, 2, x=noise(), z=noise(seed=1))) if i // 10 % 10 == 0]
    draft = decided(rows, "x")
    assert 1150 < draft.step < 1250
    assert decided(plant(600, 1, 2, x=noise(), z=noise(seed=1)), "x").step == 120.0
    text = render_config(draft, "t", "b", {}, "rows").replace("\n# ", " ")
    assert "at a row every 20 min about once in 140 d each" in text


def test_two_batteries_of_one_schedule_are_no_weather_of_a_site() -> None:
    rng = np.random.default_rng(3)
    charge = 50 + 40 * np.sin(np.arange(N) / 48) + np.cumsum(rng.normal(0, 0.2, N))
    rows = site(4, soc_pct=lambda i, m: round(float(charge[i]), 1) if m < 2 else None)
    assert "soc_pct" in decided(rows).event.targets
    rows = site(4, soc_pct=lambda i, m: round(float(charge[i]), 1) if m < 3 else None)
    assert "soc_pct" in (decided(rows).event.inputs or [])


def test_a_counter_that_is_left_out_comes_with_the_cure() -> None:
    rows = plant(N, 2, octets=lambda i, m: 1000 * (i + (i % 7 == 0)), x=noise(), z=noise(seed=1))
    assert {column.path for column in columns(rows)} >= {"octets"}
    reason = decided(rows, "x").left_out["octets"]
    assert "what it grew by since the row before is one: send that as a column" in reason
