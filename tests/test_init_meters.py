"""`ssm-stream init` on meters that count up, setpoints of a curve, and names in German."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from test_init_plants import decided, noise, plant

from ssm_stream.autoconfig.columns import name_words
from ssm_stream.autoconfig.roles import is_weather, role_of

N = 1500


def substations(seed: int = 0, machines: int = 4, rows: int = N) -> list[dict[str, Any]]:
    """Heat by a curve of the weather, a valve under control, and a meter that is read each fourth row."""
    rng = np.random.default_rng(seed)
    wander = np.cumsum(rng.normal(0, 0.3, rows))
    outside = (wander - np.linspace(0, wander[-1], rows))[:, None] + rng.normal(0, 0.1, (rows, machines))
    sp = 46 - 1.1 * outside
    supply = sp + rng.normal(0, 0.3, (rows, machines))
    power = 2.5 * (supply - 22) * (1 + 0.06 * rng.normal(size=(rows, machines)))
    back = 28 + 0.3 * (supply - 28) + rng.normal(0, 0.3, (rows, machines))
    flow = power / 45
    valve = 8 + 20 * flow + rng.normal(0, 0.4, (rows, machines))
    energy = 500 + np.cumsum(power, axis=0) / 4000
    signals = {"t_outside": outside, "t_return": back, "t_supply": supply, "t_supply_sp": sp, "valve_pct": valve}
    made = {
        name: (lambda i, m, x=x: round(float(x[i, m]), 1))
        for name, x in {**signals, "flow_m3h": flow * 10, "power_kw": power}.items()
    }
    meter = lambda i, m: round(float(energy[i, m]), 3) if i % 4 == 0 else None  # noqa: E731
    return plant(rows, machines, 15, **made, energy_mwh=meter)


def test_a_meter_that_few_rows_have_is_no_number_to_watch() -> None:
    rows = substations()
    reason = decided(rows).left_out["energy_mwh"]
    assert reason.startswith("it never falls, and grows all along the sample: a total")
    assert "--target" not in reason


def test_a_meter_that_is_named_as_the_target_is_drafted_with_what_comes_of_it() -> None:
    rows = substations()
    why = decided(rows, "energy_mwh").why["target"]
    assert why.startswith("as given. But of `energy_mwh`: it never falls")
    assert "event.derive makes inputs alone" in why
    assert decided(rows, "power_kw").why["target"] == "as given"


@pytest.mark.parametrize("name", ["t_supply_sp", "sp_t_supply", "t_supply_sv"])
def test_a_setpoint_that_varies_all_the_time_is_known_by_what_it_sets(name: str) -> None:
    rows = [{name if path == "t_supply_sp" else path: value for path, value in row.items()} for row in substations()]
    draft = decided(rows)
    assert name not in draft.event.targets
    assert name in (draft.event.inputs or [])
    assert "t_supply" in draft.event.targets
    alone = [{path: value for path, value in row.items() if path != "t_supply"} for row in rows]
    assert name in decided(alone).event.targets, "a static pressure, for all that is known"


@pytest.mark.parametrize("seed", range(6))
def test_the_inputs_of_a_plant_do_not_hang_on_the_sample(seed: int) -> None:
    """Valve and flow explain each other, and the rest alike; what returns is an answer; weather is an input."""
    assert decided(substations(seed)).event.inputs == ["t_supply_sp", "t_outside"]


def test_names_of_what_leaves_a_machine_are_responses() -> None:
    names = ["t_return_prim", "outlet", "exhaust_flow", "Rücklauf"]
    assert [name for name in names if role_of(name) != "response"] == []
    assert [name for name in ("outlet_valve", "return_fan_rpm") if role_of(name) != "actuator"] == []


def test_german_words_are_split_before_what_they_are_a_kind_of() -> None:
    assert name_words("Kerntemperatur") == name_words("Kern_Temperatur") == ["kern", "temperatur"]
    assert name_words("Temperatursollwert") == ["temperatur", "sollwert"]
    assert name_words("Füllstand_Öl1") == ["füllstand", "öl", "1"]
    assert name_words("Volumenstrom") == ["volumenstrom"], "a flow, no current"
    assert name_words("Motorstrom") == ["motor", "strom"]
    assert [role_of(name) for name in ("Kerntemperatur", "Netzdruck", "Motordrehzahl")] == [
        "response",
        "response",
        "driver",
    ]
    assert is_weather("Außentemperatur")
    assert is_weather("umgebungstemperatur")


def test_a_flag_that_is_always_one_for_many_machines_is_no_name_of_things() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draft = decided(plant(400, 8, 15, load=noise(50, 9), flow=noise(9, 1, 1), pump_on=lambda i, m: 1))
        decided(plant(400, 8, 15, load=noise(50, 9), flow=noise(9, 1, 1), kind=lambda i, m: m % 2 + 3))
    assert draft.left_out["pump_on"] == "the same in all rows"


def test_why_there_are_inputs_reads_of_the_signals_and_not_of_the_categories() -> None:
    why = decided(substations()).why["inputs"]
    assert "(" in why
    assert why.endswith("The others are no inputs: as such they would explain each other's faults away")


def routers(bits: int = 64, rows: int = 300) -> list[dict[str, Any]]:
    """Three routers with two interfaces each, whose octets and errors are counters, in rows of one time."""
    rng, out = np.random.default_rng(3), list[dict[str, Any]]()
    octets, errors = rng.integers(2**31, 2**32, (3, 2)), rng.integers(0, 100, (3, 2))
    for i in range(rows):
        octets = octets + rng.integers(10**8, 6 * 10**8, (3, 2))
        errors = errors + rng.integers(0, 2, (3, 2))
        for router in range(3):
            for port in range(2):
                row = {"timestamp": 1_772_409_600 + 300 * i, "hostname": f"r{router}", "ifName": f"xe-{port}"}
                row |= {"ifInOctets": int(octets[router, port]) % 2**bits, "ifInErrors": int(errors[router, port])}
                rx, temp = -3.0 - port + 0.05 * rng.normal(), 40 + router + 0.3 * rng.normal()
                out.append({**row, "rx_dbm": round(float(rx), 3), "temperature": round(float(temp), 2)})
    return out


def test_two_columns_that_name_one_thing_together_are_named() -> None:
    """The note named neither of them, and counters of interfaces were targets: mixed up they do not only grow."""
    draft = decided(routers())
    assert draft.event.entity == "hostname"
    (note,) = [note for note in draft.notes if "times repeat" in note]
    assert "and not if `ifName` is the same, too: both together name one thing" in note
    assert "such as r0/xe-0, and name it with --entity" in note
    assert set(draft.event.targets) == {"rx_dbm", "temperature"}
    assert draft.left_out["ifInOctets"].startswith("it never falls, and grows all along the sample: a total")


def test_rows_that_repeat_by_chance_are_of_no_second_name() -> None:
    rows = [{**row, "ifName": f"xe-{np.random.default_rng(i).integers(4)}"} for i, row in enumerate(routers())]
    (note,) = [note for note in decided(rows).notes if "times repeat" in note]
    assert note.endswith("if one thing is named by several columns, put them together into one")


def test_counters_of_32_bits_that_wrap_again_and_again_are_totals() -> None:
    """Of an interface at 10 Mb/s each dozen rows; it was a signal with a fall of the whole range each time."""
    rows = [{**row, "interface": f"{row['hostname']}/{row['ifName']}"} for row in routers(bits=32)]
    draft = decided(rows)
    assert draft.event.entity == "interface"
    assert set(draft.event.targets) == {"rx_dbm", "temperature"}
    assert draft.left_out["ifInOctets"].startswith("it never falls, and grows all along the sample: a total")
    course = [{**row, "ifInOctets": row["ifInOctets"] % 2_000_000_000} for row in rows]
    assert "ifInOctets" in decided(course).event.targets, "a course of its own: no counter ends there"
