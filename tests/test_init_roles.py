"""`ssm-stream init` on what drives and what answers: weather, commands, responses, rest, kinds of machines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_init_plants import START, decided, noise, plant, rest_notes
from typer.testing import CliRunner

from ssm_stream.autoconfig.columns import columns
from ssm_stream.autoconfig.render import render_config
from ssm_stream.autoconfig.roles import counts_failures, is_outcome, may_follow, role_of
from ssm_stream.autoconfig.stops import Stops
from ssm_stream.cli.app import app
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.ingest.events import EventReader

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


@pytest.mark.parametrize("name", ["supply_temp_sp_C", "TempSetpoint", "druck_soll", "SV", "target_temp", "TempTarget"])
def test_a_command_is_an_input_and_no_target(name: str) -> None:
    rng = np.random.default_rng(2)
    steps = np.repeat(rng.integers(32, 43, (N // 50, 2)) / 2.0, 50, axis=0)
    temp = steps + rng.normal(0, 0.3, (N, 2))
    made = {name: of(steps), "temp": of(temp), "valve": of(3 * (temp - 10) + rng.normal(0, 0.3, (N, 2)))}
    draft = decided(plant(N, 2, 5, **made, x=noise()))
    assert name in (draft.event.inputs or [])
    assert name not in draft.event.targets
    assert "temp" in draft.event.targets


def test_a_target_that_sets_nothing_is_what_a_model_shall_predict() -> None:
    """A setpoint holds its values, and another number is named for it; a label of two values may hold them, too."""
    rng = np.random.default_rng(2)
    steps = np.repeat(rng.integers(32, 43, (N // 50, 2)) / 2.0, 50, axis=0)
    temp = steps + rng.normal(0, 0.3, (N, 2))
    made = {"temp_target": of(steps), "grade_target": of(steps), "temp": of(temp), "valve_target": of(steps > 18)}
    rows = plant(N, 2, 5, **made, valve=of(temp), target_valve_next=of(np.roll(temp, -1)), x=noise())
    labels = {"grade_target", "valve_target", "target_valve_next"}
    for draft in (decided(rows), decided(rows, "temp")):
        assert "temp_target" in [*(draft.event.inputs or draft.event.numbers), *draft.event.categories]
        assert not labels & {*draft.event.columns, *draft.event.targets}
        assert {path: why for path, why in draft.left_out.items() if path in labels}.keys() == labels


def test_a_measurement_named_like_a_command_is_a_signal() -> None:
    """Static pressure, and what a machine demands: they do not hold their values."""
    draft = decided(plant(N, 2, 5, duct_sp_Pa=noise(250, 5), power_demand=noise(40, 3, 1), x=noise(seed=2)))
    assert {"duct_sp_Pa", "power_demand"} <= {*draft.event.targets}


def test_the_name_of_a_response_is_no_driver() -> None:
    roles = {
        "driver": ["rotor_speed", "motor_load_kW", "inlet_pressure_bar", "ambient_temp", "feed_rate"],
        "actuator": ["cooling_valve_pct", "fan_rpm", "PitchAngle"],
        "response": ["AGIT_A", "load_current", "valve_temp", "TT102_degC", "suction_pressure_bar", "speed_noise"],
        "unknown": ["flow_A", "FT101_kgh", "x"],
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


def test_a_response_that_explains_one_other_alone_is_no_input() -> None:
    """People are heard in a room, and warm it in the hours after: either sensor may fail without the other."""
    present = np.maximum(np.sin(np.arange(N) / 40)[:, None] + np.random.default_rng(3).normal(0, 0.3, (N, 2)), 0)
    warm, rng = np.zeros((N, 2)), np.random.default_rng(4)
    for i in range(1, N):
        warm[i] = warm[i - 1] + (present[i] - warm[i - 1]) / 8
    room = {
        "temperature": 20 + 2 * warm + rng.normal(0, 0.1, (N, 2)),
        "noise_db": 40 + 20 * present + rng.normal(0, 4, (N, 2)),
        "battery": 90 + rng.normal(0, 1, (N, 2)),
    }
    assert decided(plant(N, 2, 5, **{name: of(x) for name, x in room.items()})).event.inputs == []


def test_a_response_of_a_service_is_no_input_where_it_is_unclear_what_drives() -> None:
    """Messages in and bytes out explain each other; the p99, which follows both, explains two and drives neither."""
    rng = np.random.default_rng(3)
    load = 5.0 + 0.5 * np.abs(np.cumsum(rng.normal(0, 1, (N, 2)), axis=0))
    made = {
        "intake_kb": 2 * load + rng.normal(0, 1.2, (N, 2)),
        "delivery_kb": 3 * load + rng.normal(0, 1.8, (N, 2)),
        "totaltimems_p99": load + rng.normal(0, 0.2, (N, 2)),
    }
    draft = decided(plant(N, 2, 5, **{name: of(x) for name, x in made.items()}))
    assert "totaltimems_p99" not in (draft.event.inputs or [])
    named = {"messages_in_per_sec" if name == "intake_kb" else name: x for name, x in made.items()}
    assert decided(plant(N, 2, 5, **{name: of(x) for name, x in named.items()})).event.inputs == ["messages_in_per_sec"]


def test_the_climate_of_a_room_follows_no_machine_but_one_that_is_made_for_it() -> None:
    assert not may_follow("room_humidity_pct", ["turret_rpm", "punch_temp_C"])
    assert may_follow("room_humidity_pct", ["damper_pct", "ambient_temp"])
    assert may_follow("room_temp", ["turret_rpm"]), "a temperature is a response"


def test_how_far_a_service_is_behind_is_a_response() -> None:
    names = ("replication_lag_s", "kafka_consumergroup_lag_sum", "consumerLag", "seconds_behind_source")
    assert {role_of(name) for name in (*names, "messages_ready")} == {"response"}
    assert {role_of(name) for name in ("load_lag1", "load_lag_7", "messages_in_per_sec")} == {"driver"}


def test_text_with_the_name_of_the_entity_is_no_category() -> None:
    """A product that each machine makes may change; an address is the machine."""
    load, heat = noise(50, 5, seed=1), noise(40, 2, seed=2)
    rows = plant(N, 3, 5, load=load, heat=heat, product=lambda i, m: f"A{m}")
    named = [row | {"server": f"host={row['machine']} port=5432"} for row in rows]
    draft = decided(named)
    assert draft.event.categories == ["product"]
    assert "entity's name" in draft.left_out["server"]


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
    assert note.endswith('alone: event.only: ["M*"] and a, b, c; event.only: ["CH-M*"] and a, p, q')
    for same in (rows, plant(300, 3, a=noise(), b=noise(seed=1), c=lambda i, m: m if m else None)):
        assert not [note for note in decided(same).notes if "kinds of machines" in note]


def test_the_file_states_which_budgets_there_are_and_when_alerts_begin() -> None:
    draft = decided(site())
    text = " ".join(render_config(draft, "t", "b:9092", {}, "rows").replace("\n# ", " ").split())
    assert "of anomaly and of drift at a row every 5 min about once in 35 d each" in text
    assert "of silence and stuck together as many as of anomaly" in text
    assert "They begin 100 of those after an entity's first (model.warmup), about 8.3 h." in text
    assert "together" not in render_config(draft._replace(stops=None), "t", "b:9092", {}, "rows")
    assert draft.entities == 3
    assert "Of all 3 of the sample that is one about every 3.9 d" in text, "35 d over 3 entities and 3 budgets"


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


def test_names_of_services_are_their_load_or_how_they_answer() -> None:
    roles = {
        "driver": ["rps", "requests", "qps", "req_s", "tps", "hits", "http_requests_per_second", "call_rate"],
        "response": [
            "p50_ms", "p95", "latency_p99", "request_p99", "request_latency_ms", "response_time", "request_time",
            "duration_s", "error_rate", "failed_requests", "http_5xx", "requests_timeout", "queue_depth", "cpu_load",
            "mem_mb", "memory_used", "cache_hit_rate", "scrap_rate",
        ],
        "actuator": ["cpu_fan_speed"],
        "unknown": ["whits", "prequest", "P50x", "group_p99x", "callsign"],
    }  # fmt: skip
    for role, names in roles.items():
        assert [(name, role_of(name)) for name in names if role_of(name) != role] == []
    assert [role_of("P50_speed"), role_of("heap_feed_rate"), role_of("scrap_conveyor_speed")] == ["driver"] * 3


def test_requests_drive_a_service_and_not_its_latency() -> None:
    rng = np.random.default_rng(6)
    rps = np.exp(np.cumsum(rng.normal(0, 0.02, (N, 3)), axis=0)) * 100
    p50 = 20 + 0.1 * rps + rng.normal(0, 0.3, (N, 3))
    made = {"p50_ms": p50, "rps": rps + rng.normal(0, 4, (N, 3)), "p99_ms": 3 * p50 + rng.normal(0, 1, (N, 3))}
    made["cpu_pct"] = 0.3 * rps + rng.normal(0, 2, (N, 3))
    draft = decided(plant(N, 3, 1, **{name: of(x) for name, x in made.items()}))
    assert draft.event.inputs == ["rps"]


def moulds(machines: int = 4, driven: float = 0.0, text: bool = True) -> list[dict[str, Any]]:
    """Moulds that several machines share, each of which sets all signals. driven: of the others by the pressure"""
    rng = np.random.default_rng(7)
    sets = rng.uniform([600, 4, 20], [1500, 8, 45], (5, 3))
    which = np.stack([(np.arange(N) // 150 + m) % 3 + m for m in range(machines)], 1) % 5
    own = rng.normal(0, 1, (N, machines, 3))
    own[..., 1:] += driven * own[..., :1]
    x = sets[which] * (1 + 0.004 * own)
    names = ("inj_pressure_bar", "cushion_mm", "cycle_s")
    signals = {name: of(x[..., j]) for j, name in enumerate(names)}
    return plant(
        N, machines, 2, mould=lambda i, m: f"W{which[i, m]}" if text else (30, 7, 41, 12, 25)[which[i, m]], **signals
    )


@pytest.mark.parametrize(("machines", "text"), [(1, True), (4, True), (4, False)])
def test_what_only_a_category_sets_has_no_driver(machines: int, text: bool) -> None:
    """Mould by mould nothing explains anything, and on each machine the moulds are others."""
    draft = decided(moulds(machines, text=text))
    assert draft.event.categories == ["mould"]
    assert draft.event.inputs == []
    assert draft.why["inputs"].startswith("no signal explains a part of another beyond the categories")


def test_a_driver_is_printed_with_what_it_adds_beyond_categories() -> None:
    draft = decided(moulds(driven=1.0))
    assert draft.event.inputs
    assert " beyond the categories (" in draft.why["inputs"]
    shares = [int(share) for share in re.findall(r" (\d+)%", draft.why["inputs"])]
    assert len(shares) == 2
    assert all(20 <= share <= 60 for share in shares), f"{shares}, of half of the noise, and by moulds of other sizes"
    given = decided(moulds(driven=1.0), "cushion_mm")
    (why,) = [why for why in given.left_out.values() if why.startswith("follows")]
    assert re.match(r"follows \w+ \([2-5]\d% of what hour and categories leave, (9\d|100)% with them\)", why), why


def with_results() -> list[dict[str, Any]]:
    """A load that makes heat, and of the heat's parts some are bad: as a flag, a count and a text."""
    rng = np.random.default_rng(8)
    load = np.cumsum(rng.normal(0, 1, (N, 2)), axis=0) + 50
    temp = 20 + 0.4 * load + rng.normal(0, 0.5, (N, 2))
    bad = rng.random((N, 2)) < 0.2
    rejects = rng.poisson(np.exp(np.clip((temp - 40) / 4, -3, 3)))
    made = {"temp": of(temp), "load": of(load), "vibration": of(0.1 * temp + rng.normal(0, 0.3, (N, 2)))}
    return plant(
        N, 2, 5, scrap=lambda i, m: int(bad[i, m]), quality_ok=lambda i, m: not bad[i, m],
        part_ok=lambda i, m: "NOK" if bad[i, m] else "OK", reject_count=lambda i, m: int(rejects[i, m]), **made,
    )  # fmt: skip


def test_a_result_is_no_input() -> None:
    flags = ["scrap", "quality_ok", "part_ok"]
    every = decided(with_results())
    assert "reject_count" in every.event.targets, "it is watched"
    assert not {"reject_count", *flags} & {*(every.event.inputs or []), *every.event.categories}
    assert every.event.quality is None, "quality_ok is that of the part"
    one = decided(with_results(), "temp")
    for draft, names in ((every, flags), (one, [*flags, "reject_count"])):
        assert not {*names} & {*draft.event.numbers[: 0 if draft is every else None], *draft.event.categories}
        assert [name for name in names if not draft.left_out.get(name, "").startswith("a result by its name")] == []
    few = decided(with_results()[:400])
    assert few.event.inputs is not None, "nor where each signal is predicted from all the others"
    assert "reject_count" not in few.event.inputs
    assert decided(with_results(), "reject_count").event.targets == ["reject_count"]


@pytest.mark.parametrize(
    ("name", "result"),
    [("scrap", True), ("part.Rejects", True), ("scrap_rate_pct", True), ("parts_rejected", True), ("is_ok", False),
     ("reject_valve", False), ("scrap_charge_kg", False), ("scraper_speed", False), ("defective_x", False)],
)  # fmt: skip
def test_which_names_are_results(name: str, result: bool) -> None:
    assert is_outcome(name) == result


def test_a_number_in_few_rows_comes_with_how_to_watch_it() -> None:
    weight = noise(8, 0.1, 9)
    rows = plant(N, 2, x=noise(), z=noise(seed=1), weight_g=lambda i, m: weight(i, m) if i % 24 == 0 else None)
    reason = decided(rows).left_out["weight_g"]
    assert reason.startswith("a number in only 126 of 3,000 rows: to watch it, draft a flow of its own with")
    assert "--target weight_g, where rows without it are events without a label" in reason
    draft = decided(rows, "weight_g")
    events, refused = EventReader(draft.event).read(rows)
    assert (len(events), len(refused)) == (3000, 0)
    assert int(np.isfinite(events.target).sum()) == 126


def test_what_is_the_same_in_the_sample_and_moves_later_is_noted(tmp_path: Path) -> None:
    file, rng = tmp_path / "services.csv", np.random.default_rng(0)
    with file.open("w") as text:
        text.write("ts,replicas,fixed,version,x,z\n")
        for i, (x, z) in enumerate(rng.normal(0, 1, (21_000, 2)).round(3).tolist()):
            text.write(f"{START + 60 * i},{2 + (i > 20_500)},7,{'ab'[i > 20_600]},{x},{z}\n")
    notes = CliRunner().invoke(app, ["init", str(file), "--out", str(tmp_path / "m.yaml")]).stderr
    later = [line.split("note")[1].strip() for line in notes.splitlines() if "later rows" in line]
    assert later == [
        "replicas: the same in the sample, and not in later rows of the file; add to event.inputs what counts",
        "version: the same in the sample, and not in later rows of the file; add to event.categories what counts",
    ]
    found = Recording(file).distinct(dict.fromkeys(["replicas", "fixed", "version", "absent"], 2))
    assert {name: len(values) for name, values in found.items()} == {
        "replicas": 2, "fixed": 1, "version": 2, "absent": 0,
    }  # fmt: skip


def test_what_later_rows_of_json_lines_have_is_noted(tmp_path: Path) -> None:
    """The version of a service is one in the sample of a day, and was left out as the same in all events."""
    file, rng = tmp_path / "services.jsonl", np.random.default_rng(0)
    with file.open("w") as text:
        for i, (x, z) in enumerate(rng.normal(0, 1, (21_000, 2)).round(3).tolist()):
            row = {
                "ts": START + 60 * i,
                "app": {"version": "1.1" if i > 20_600 else "1.0", "zone": "a"},
                "x": x,
                "z": z,
            }
            text.write(json.dumps(row) + "\n")
    notes = CliRunner().invoke(app, ["init", str(file), "--out", str(tmp_path / "m.yaml")]).stderr
    later = [line.split("note")[1].strip() for line in notes.splitlines() if "later rows" in line]
    assert later == [
        "app.version: the same in the sample, and not in later rows of the file; add to event.categories what counts"
    ]
    found = Recording(file).distinct({"app.version": 2, "app.zone": 2, "app": 2, "absent": 2})
    assert found == {"app.version": {"1.0", "1.1"}, "app.zone": {"a"}, "app": set(), "absent": set()}


def _retort(minutes: int) -> Iterator[tuple[int, str, list[float]]]:
    """Yield time, phase and values of a retort, which stand still while it is idle; it is cleaned for 100 minutes, 500
    before the end."""
    rng, x = np.random.default_rng(0), np.zeros(4)
    for i in range(minutes):
        phase = "cip" if 400 < minutes - i <= 500 else "idle" if i // 40 % 10 == 0 else "run"
        x = x + (0.0 if phase == "idle" else 1.0) * rng.normal(size=4)
        yield START + 60 * i, phase, x.round(3).tolist()


def test_the_condition_that_is_offered_keeps_states_that_only_later_rows_have(tmp_path: Path) -> None:
    """A cleaning on Sundays is in no sample of two days, and is no rest."""
    file = tmp_path / "retorts.csv"
    with file.open("w") as text:
        text.write("ts,machine,phase,a,b,c,d\n")
        for ts, phase, values in _retort(21_000):
            text.write(f"{ts},M1,{phase},{','.join(map(str, values))}\n")
    made = CliRunner().invoke(app, ["init", str(file), "--out", str(tmp_path / "m.yaml")])
    (note,) = [line for line in made.stderr.splitlines() if "event.when" in line]
    assert 'event.when: {"phase": ["run", "cip"]} leaves' in note
    assert "Only in rows after the sample: cip." in note


def test_the_condition_keeps_states_that_only_later_readings_have(tmp_path: Path) -> None:
    """Its states are no column of a file of readings, of which none were searched: the cleaning was left out."""
    file = tmp_path / "retorts.csv"
    with file.open("w") as text:
        text.write("tag,ts,value,quality\n")
        for i, (ts, phase, values) in enumerate(_retort(26_000)):
            for name, value in zip("abcd", values, strict=True):
                text.write(f"M1.{name},{ts},{value},Good\n")
            good = i % 1_000 != 999
            text.write(f"M1.phase,{ts},{phase if good else 'I/O Timeout'},{'Good' if good else 'Bad'}\n")
    made = CliRunner().invoke(app, ["init", str(file), "--out", str(tmp_path / "m.yaml")])
    (note,) = [line for line in made.stderr.splitlines() if "event.when" in line]
    assert 'event.when: {"M1.phase": ["run", "cip"]} leaves' in note
    assert "Only in rows after the sample: cip." in note, "and no text of a reading that is not good"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_each_machine_has_for_itself_and_changes_later_is_noted(tmp_path: Path, kind: str) -> None:
    """20,000 rows of many machines are hours, in which no loom gets another article."""
    file, rng = tmp_path / f"looms.{kind}", np.random.default_rng(0)
    rows = [
        {"ts": START + 60 * (i // 10), "loom": f"W{i % 10}", "article": 100 + i % 5 + (i > 20_500), "width": 2 + i % 10,
         "x": x, "z": z}
        for i, (x, z) in enumerate(rng.normal(0, 1, (21_000, 2)).round(3).tolist())
    ]  # fmt: skip
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    file.write_text("\n".join(lines if kind == "csv" else map(json.dumps, rows)) + "\n")
    notes = CliRunner().invoke(app, ["init", str(file), "--out", str(tmp_path / "m.yaml")]).stderr
    assert [line.split("note")[1].strip() for line in notes.splitlines() if "later rows" in line] == [
        "article: the same in all rows of each entity of the sample, and not in later rows of the file; add to "
        "event.inputs what counts, to event.categories what names things, such as products"
    ]
    assert Recording(file).varying("loom", ["article", "width", "absent"]) == {"article"}


def test_a_counter_of_events_comes_with_how_to_watch_it() -> None:
    """Stops of a machine since its shift began: what is rare does not grow all along a short sample."""
    stops = np.cumsum(np.random.default_rng(3).random((3, N)) < 0.005, axis=1)
    counts = {"stops": lambda i, m: int(stops[m, i]), "row_no": lambda i, m: 7 + i}
    rows = plant(N, 3, x=noise(), z=noise(seed=1), **counts)
    left_out = decided(rows).left_out
    assert left_out["stops"].startswith("whole numbers that never fall: ")
    assert left_out["stops"].endswith("what it grew by since the row before is one: send that as a column")
    assert "grew by" not in left_out["row_no"]


def test_rare_errors_that_are_counted_are_no_input() -> None:
    """Few and small whole numbers were taken for a mode, which explained away the fault that they are of."""
    rare = np.random.default_rng(7).poisson(0.02, (N, 2))
    rows = plant(
        N,
        2,
        5,
        in_errors=lambda i, m: int(rare[i, m]),
        mode=lambda i, m: i // 50 % 3,
        x=noise(seed=1),
        y2=noise(seed=2),
    )
    draft = decided(rows)
    assert "in_errors" not in (*draft.event.columns, *draft.event.targets)
    assert draft.left_out["in_errors"].endswith(f"alerts.limits watches it: {{column: in_errors, above: {rare.max()}}}")
    assert "mode" in draft.event.categories


@pytest.mark.parametrize(
    ("name", "result"),
    [("ifInErrors", True), ("error_count", True), ("port.discards", True), ("error", False), ("error_code", False)],
)
def test_a_name_says_whether_failures_are_counted(name: str, result: bool) -> None:
    assert counts_failures(name) == result
