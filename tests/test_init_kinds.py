"""`ssm-stream init` where machines are of several kinds, and where a part of the signals is zero at times."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from test_init_plants import START, decided, rest_notes
from typer.testing import CliRunner

from ssm_stream.autoconfig.feature_selection import spread_rows
from ssm_stream.autoconfig.rest import work_bound
from ssm_stream.autoconfig.tag_names import find_families, find_tag_names, match_names
from ssm_stream.cli.app import app
from ssm_stream.config import parse_config


@pytest.mark.parametrize("n", [2_090, 6_000, 20_000])
def test_rows_of_each_machine_are_examined(n: int) -> None:
    """Even steps over the rows of nine that take turns passed by three of them."""
    owners = [f"M{i % 9}" for i in range(n)]
    rows = spread_rows(owners)
    counts = Counter(owners[i] for i in rows)
    assert rows == sorted(set(rows))
    assert len(rows) == 200
    assert set(counts.values()) <= {22, 23}


def test_few_rows_of_one_machine_are_all_examined() -> None:
    owners = ["a"] * 3 + ["b"] * 1_000
    rows = spread_rows(owners)
    assert rows[:3] == [0, 1, 2]
    assert len(rows) == 200


def engine_rooms(n: int = 2_090) -> list[dict[str, Any]]:
    """Three main engines with an order from the bridge, and six generator sets, which have none."""
    rng, out, speed, heat = np.random.default_rng(0), list[dict[str, Any]](), np.zeros(9), np.full(9, 40.0)
    for i in range(n):
        m, k = i % 9, i // 9
        main = m % 3 == 2
        order = float(40 + 10 * ((k // 20 + m) % 5))
        speed[m] += 0.5 * ((order if main else 70 + 5 * np.sin(k / 30 + m)) - speed[m])
        heat[m] += 0.2 * (30 + 0.6 * speed[m] - heat[m])
        row = {"ts": START + 60 * k, "machine": f"{'ME' if main else 'GE'}{m}", "speed_1": speed[m] + rng.normal()}
        row |= {"oil": heat[m] + 0.2 * rng.normal(), "pressure": 0.05 * speed[m] + 0.02 * rng.normal()}
        if main:
            row |= {"order_rpm": order, "telegraph": f"T{order:.0f}"}
        if k % 5 == 0 and main:
            row |= {"sample_ph": 7 + 0.1 * rng.normal()}
        out.append({name: round(float(x), 3) if isinstance(x, float) else x for name, x in row.items()})
    return out


def test_what_only_one_kind_of_machine_has_is_an_input() -> None:
    """Its only command was `a number in only` so many rows, which were all of its rows."""
    draft = decided(engine_rooms(), "oil")
    assert "order_rpm" in draft.event.numbers
    assert draft.event.categories == ["telegraph"]
    reason = draft.left_out["sample_ph"]
    assert reason.startswith("a number in only 141 of 696 rows of the machines that have it: to watch it")


def test_a_state_that_seldom_comes_is_a_category() -> None:
    """A line that stood once, for 15 of 6,000 minutes, none of which is among the rows that are examined."""
    rng = np.random.default_rng(0)
    stop = next(i for i in range(3_000, 3_030) if not set(range(i, i + 15)) & set(spread_rows(["m"] * 6_000)))
    rows = [
        {
            "ts": START + 60 * i,
            "state": "RUN",
            "note": "-",
            "speed": round(100 + float(x), 2),
            "temp": round(float(y), 1),
        }
        for i, (x, y) in enumerate(rng.normal(size=(6_000, 2)))
    ]
    for row in rows[stop : stop + 15]:
        row["state"] = "STOP"
    rows[stop]["note"] = "rolls"
    draft = decided(rows, "temp")
    assert draft.event.categories == ["state"]
    assert draft.left_out["note"] == "'-' in 5,999 of 6,000 rows, and in those that were examined"


def greenhouse(seed: int) -> list[dict[str, Any]]:
    """At night there is no sun, no venting, no light and no dosing; rooms are heated, and their climate matters."""
    rng, out = np.random.default_rng(seed), list[dict[str, Any]]()
    pipe, t, wander, outside = np.full(2, 45.0), np.full(2, 18.0), np.zeros(2), 0.0
    for i in range(288 * 10):
        hour = i % 288 / 12
        sun = max(0.0, 700 * np.sin(np.pi * (hour - 6) / 12))
        outside = 0.995 * outside + 0.1 * rng.normal()
        out_t = 8 + 4 * np.sin(2 * np.pi * (hour - 9) / 24) + outside
        wander = 0.97 * wander + 0.3 * rng.normal(size=2)
        pipe += 0.2 * (25 + 2.2 * (18 - out_t) * (1 if sun < 300 else 0.3) + 2 * wander - pipe)
        vent = np.clip(np.round((sun - 350) / 15 + 3 * wander), 0, 60) * (sun > 0)
        t += 0.1 * (18 + 0.003 * sun + 0.05 * wander - 0.02 * vent - t)
        for m in range(2):
            row = {"sun": sun, "vent": vent[m], "light": (sun > 50) * (200 + 5 * rng.normal()), "pipe": pipe[m]}
            row["dosing"] = float(sun > 100 and rng.random() < 0.5) * (2 + rng.random())
            row |= {
                "temp": t[m] + 0.08 * rng.normal(),
                "humidity": 80 - 0.02 * sun + 3 * wander[m] + 0.6 * rng.normal(),
            }
            values = {name: round(float(x), 2) for name, x in row.items()}
            out.append({"ts": START + 300 * i, "machine": f"G{m}", "screen": "open" if sun else "closed", **values})
    return out


def mixers(seed: int, cools_in: float) -> list[dict[str, Any]]:
    """Mixers that stop for 2 h in 6: what is zero then is off, the others have the noise of sensors and cool down."""
    rng, out, x, wander = np.random.default_rng(seed), list[dict[str, Any]](), np.full((2, 3), 25.0), np.zeros(2)
    for i in range(4_000):
        for m in range(2):
            on = (i + 100 * m) % 360 < 240
            wander[m] = 0.97 * wander[m] + 0.3 * rng.normal()
            load = (50 + 5 * wander[m]) * on
            x[m] += ((np.array([60, 55, 50]) + wander[m] * 2 if on else np.full(3, 22.0)) - x[m]) / cools_in
            row = {"power": 0.4 * load, "flow": load + rng.normal(), "amps": 8 + 0.1 * load, "valve": 40 + wander[m]}
            row = {name: value * on for name, value in row.items()}
            row |= {f"temp_{k}": x[m, k] + 0.15 * rng.normal() for k in range(3)}
            row |= {"level": 70 + 0.5 * wander[m] * on + 0.2 * rng.normal(), "press": 2 + 0.02 * rng.normal()}
            values = {name: round(float(value), 2) for name, value in row.items()}
            out.append({"ts": START + 60 * i, "machine": f"M{m}", **values})
    return out


@pytest.mark.parametrize("seed", range(2))
def test_a_night_in_which_the_climate_goes_on_is_no_rest(seed: int) -> None:
    """Half of the rows were to be left out, as sun, vents, light and dosing are zero."""
    assert not rest_notes(greenhouse(seed))


@pytest.mark.parametrize(("seed", "cools_in"), [(1, 60.0), (2, 15.0)])
def test_a_machine_that_cools_down_rests(seed: int, cools_in: float) -> None:
    (note,) = rest_notes(mixers(seed, cools_in))
    assert "is 0 in 33% of the rows, where many of the other signals rest" in note


def vessels(named: str) -> list[dict[str, Any]]:
    """Vessels that wait for their next batch a fifth of the time: all that they are fed is zero, and the probes in
    them, empty or not, follow the room and drift. named: for that state"""
    rng, out, room = np.random.default_rng(5), list[dict[str, Any]](), np.zeros((2, 4))
    for i in range(3_000):
        for m in range(2):
            at = (i + 250 * m) % 500
            on = at < 400
            room[m] = 0.97 * room[m] + 0.3 * rng.normal(size=4)
            flows = {name: on * (level + rng.normal()) for name, level in (("agit", 300), ("air", 30), ("feed", 60))}
            probes = {f"probe_{k}": 20 + 20 * on + room[m, k] + 0.05 * rng.normal() for k in range(4)}
            values = {name: round(float(x), 2) for name, x in {**flows, **probes}.items()}
            phase = ("BATCH" if at < 100 else "FED") if on else named
            out.append({"ts": START + 60 * i, "vessel": f"V{m}", "phase": phase, **values})
    return out


def test_a_state_that_is_named_for_rest_rests_though_its_probes_go_on() -> None:
    """The probes of an empty vessel moved by more than their noise, so that its wait for a batch was learned."""
    (note,) = rest_notes(vessels("IDLE"))
    assert note.startswith('`phase` is "IDLE" in 20% of the rows, where many of the other signals rest')
    assert not rest_notes(vessels("SOAK")), "another name may be a part of the process"


def test_a_state_that_all_machines_have_comes_first() -> None:
    """A condition on what only some have leaves the others out, or has no effect on them."""
    rows = mixers(1, 60.0)
    for row in rows:
        if row["machine"] == "M0":
            row["order"] = "stop" if row["flow"] == 0 else "run"
    (note,) = rest_notes(rows)
    assert "never have" not in note
    assert "order" not in note


def in_turn(names: list[str], seconds: int, rows: int = 1200) -> list[dict[str, Any]]:
    """Rows at even times, each of the next of the names; one in fifty is lost."""
    rng = np.random.default_rng(3)
    values = rng.normal(20, 1, (rows, 2)).round(2).tolist()
    made = [
        {"ts": START + seconds * i, "crac": names[i % len(names)], "mode": "AB"[i // 90 % 2], "temp": x, "flow": y}
        for i, (x, y) in enumerate(values)
    ]
    return [row for row in made if rng.random() > 0.02]


def test_machines_that_are_polled_in_turn_are_entities() -> None:
    """Each has times of its own, so that over all rows times only grow, as those of one machine do."""
    draft = decided(in_turn([f"CU{k:02d}" for k in range(12)], 25))
    assert draft.event.entity == "crac"
    assert draft.why["entity"] == "its values come in turn, row by row; 12 values in the sample"


@pytest.mark.parametrize(
    ("names", "seconds"),
    [
        (["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], 86_400),
        (["early", "late", "night"], 28_800),
        (["up", "down"], 5),
    ],
)
def test_the_calendar_and_strokes_come_in_turn_and_are_no_entities(names: list[str], seconds: int) -> None:
    assert decided(in_turn(names, seconds)).why["entity"].startswith("no column names one")


def test_what_changes_at_random_is_no_entity() -> None:
    rng = np.random.default_rng(4)
    rows = [row | {"crac": "abc"[rng.integers(3)]} for row in in_turn(["x"], 25)]
    assert decided(rows).why["entity"].startswith("no column names one")


def upon_change(names: list[str], machines: bool, rows: int = 1200) -> list[dict[str, Any]]:
    """Rows at uneven times, each of any of the names; what a state does is that of each name, or of one machine whose
    products the names are, which have levels of their own."""
    rng = np.random.default_rng(5)
    state, time, out = np.zeros(len(names)), float(START), list[dict[str, Any]]()
    for _ in range(rows):
        time += float(rng.exponential(20))
        k = int(rng.integers(len(names)))
        if machines:
            state[k] = 0.98 * state[k] + rng.normal(0, 0.3)
        else:
            state[:] = 0.98 * state + rng.normal(0, 0.3)
        heat = round(20 + 3 * k + float(state[k]), 2)
        out.append({"ts": round(time, 3), "site": f"S{k % 2}", "outlet": names[k], "heat": heat, "volts": rng.normal()})
    return out


def test_machines_that_send_upon_a_change_are_entities() -> None:
    """They have no common times and keep no turn, but each goes on from its own row before; a site has several."""
    draft = decided(upon_change([f"CP-{k:03d}" for k in range(12)], machines=True))
    assert draft.event.entity == "outlet"
    assert draft.why["entity"] == "numbers go on from row to row within each of its values; 12 values in the sample"


def test_products_that_alternate_on_one_machine_are_no_entities() -> None:
    draft = decided(upon_change([f"P{k}" for k in range(12)], machines=False))
    assert draft.event.entity != "outlet"


def compressors(n: int = 1_200) -> list[dict[str, Any]]:
    """Rows of two machines that run in turn; their sensors have the same noise at rest as at work."""
    rng = np.random.default_rng(7)
    out = list[dict[str, Any]]()
    for i in range(n):
        for m in range(2):
            on = (i // 150) % 2 == m
            load = 9_000 + 300 * np.sin(i / 200)
            row = {"speed": load * on, "oil": 0.05 + 2.3 * on + 0.02 * rng.normal()}
            row |= {"gas": 3 + 38 * on + 0.8 * rng.normal(), "temp": 22 + load / 200 * on + 0.2 * rng.normal()}
            out.append({"ts": START + 60 * i, "machine": f"K{m}", **{k: round(float(v), 2) for k, v in row.items()}})
    return out


def test_signals_that_collapse_rest_though_their_noise_goes_on() -> None:
    (note,) = rest_notes(compressors())
    assert note.startswith("`speed` is 0 in 50% of the rows, where many of the other signals rest")
    idle = compressors()  # a fan that stands still while the plant goes on
    for row in idle:
        row["speed"], on = row["speed"] * (row["ts"] // 3_000 % 2), row["speed"] > 0
        row["temp"] += 5 * on
    assert not rest_notes(idle)


def coasting(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The compressors, of which the speed takes some rows to fall to 0, and at rest is a little below it at times."""
    since, rng = dict[str, int](), np.random.default_rng(3)
    for row in rows:
        name = row["machine"]
        since[name] = 0 if row["speed"] > 0 else since.get(name, 9) + 1
        if 0 < since[name] < 6:
            row["speed"] = round(9_000 * 0.5 ** since[name], 1)
        elif row["speed"] == 0 and rng.random() < 0.015:
            row["speed"] = -0.4
    return rows


def test_the_condition_leaves_out_running_up_and_coasting_down() -> None:
    (note,) = rest_notes(coasting(compressors()))
    assert note.startswith("`speed` is 0 in 4"), "though some readings are below"
    bound = float(note.partition("above: ")[2].partition("}")[0])
    assert 4_500 < bound < 8_000
    assert "running up and coasting down with them" in note


def test_values_of_all_sizes_are_work() -> None:
    rng = np.random.default_rng(1)
    assert work_bound(np.concatenate([np.zeros(500), rng.uniform(0, 100, 2_000)])) == 0.0
    assert work_bound(np.concatenate([np.zeros(500), rng.uniform(0, 100, 20)])) == 0.0, "too few to know"
    assert 30 < work_bound(np.concatenate([np.zeros(500), rng.uniform(0, 1, 500), rng.uniform(60, 90, 2_000)])) < 55
    below = compressors()
    for row in below[::40]:
        row["speed"] = row["speed"] or -500.0
    assert not [note for note in rest_notes(below) if "`speed`" in note], "a direction, no noise"


def test_the_drafted_file_has_the_condition_as_a_comment(tmp_path: Path) -> None:
    """Uncommented where it stands, it is the condition of the note."""
    recording, out = tmp_path / "k.jsonl", tmp_path / "monitor.yaml"
    recording.write_bytes(b"\n".join(map(orjson.dumps, coasting(compressors()))))
    result = CliRunner().invoke(app, ["init", str(recording), "--out", str(out)])
    assert result.exit_code == 0, result.output
    (line,) = [line for line in out.read_text().splitlines() if line.startswith("  # when: ")]
    assert parse_config(out.read_text(), "a").event.when == []
    (when,) = parse_config(out.read_text().replace(line, line.replace("# ", "")), "a").event.when
    assert when.text.startswith("speed above ")
    assert f"event.when: {line.removeprefix('  # when: ')} leaves" in " ".join(result.output.split())


def test_tags_of_machines_and_of_their_station_are_rows_of_each() -> None:
    """All signals of the machines were those of one, as the station has others."""
    tags = [
        {"ts": row["ts"], "tag": f"CS7.{row['machine']}.{name.upper()}", "value": value}
        for row in compressors()
        for name, value in row.items()
        if name not in ("ts", "machine")
    ]
    tags += [
        {"ts": START + 60 * i, "tag": f"CS7.STN.{name}", "value": 50 + k + i % (70 + k) / 10}
        for i in range(1_200)
        for k, name in enumerate(("SUCTION", "DISCHARGE"))
    ]
    draft = decided(sorted(tags, key=lambda row: row["ts"]))
    assert draft.event.tag is not None
    assert (draft.event.tag.pattern, draft.event.every) == ("{entity}.{signal}", 60.0)
    assert {"SUCTION", "DISCHARGE", "OIL", "GAS", "TEMP"} <= {*draft.event.targets}
    assert draft.why["entity"] == "in the tag; 3 in the sample"
    assert any(note.startswith("2 kinds of machines: CS7.K* with 4 columns") for note in draft.notes)


@pytest.mark.parametrize("names", ["B1.TI-101 B1.TI-102 B1.FIC-103", "K1 K2 STN.x.y"])
def test_tags_of_instruments_are_none_of_machines(names: str) -> None:
    tags = [f"{name}.{value}" for name in names.split() for value in ("PV", "SP")]
    if "STN" in names:
        tags += [f"A{i}" for i in range(3)]  # not all are tags
    assert find_families(tags) is None


def exporters(serial: str | None, hosts: int = 3, rows: int = 300) -> list[dict[str, Any]]:
    """Two devices of each host, all with the same names; each host is read at its own second of the minute."""
    rng, out = np.random.default_rng(0), list[dict[str, Any]]()
    for k in range(rows):
        for host in range(hosts):
            for device in range(2):
                level = 30.0 + 10 * host + 5 * device + 3 * np.sin(k / 20 + host)
                row: dict[str, Any] = {"ts": START + 60 * k + 7 * host, "device": f"nvidia{device}"}
                row |= {"hostname": f"node-{host}", "temp": round(float(level + rng.normal()), 2)}
                row |= {"power": round(float(100 + level + rng.normal()), 2), "batch": f"B{host}{device}{k // 60}"}
                if serial is not None:
                    row[serial] = f"GPU-{7919 * host + 104729 * device:06x}"
                out.append(row)
    return out


@pytest.mark.parametrize("serial", ["UUID", "asset"])
def test_names_that_come_again_on_each_host_are_no_entities(serial: str) -> None:
    """`device` was the entity by its name, with three machines in each."""
    draft = decided(exporters(serial))
    assert draft.event.entity == serial
    assert draft.why["entity"] == "each `device` is that of several, whose rows come in turn; 6 values in the sample"


def test_names_that_need_the_host_are_noted() -> None:
    draft = decided(exporters(None))
    assert [note for note in draft.notes if "rows of each `device` are of several `hostname` in turn" in note]


def test_devices_of_one_host_are_entities_whatever_their_lots_are() -> None:
    draft = decided(exporters(None, hosts=1))
    assert draft.event.entity == "device"
    assert not [note for note in draft.notes if "in turn" in note]


MILL = [f"CON.L{k}.{name}" for k in (1, 2) for name in ("WIT_101.PV", "JI_110.PV", "PI_112.PV", "TI_113.PV", "XS_1.ST")]


def test_the_last_part_of_a_tag_may_be_a_property_of_its_instrument() -> None:
    """Two mills were one machine, with the feed of one as an input of the other's temperature."""
    found = find_tag_names(MILL, later_parts_first=False)
    assert found is not None
    assert found.pattern == "{entity}.{signal}.*"
    assert found == match_names(MILL, found.pattern), "what the drafted configuration reads"
    assert [*found.names] == ["CON.L1", "CON.L2"]
    assert found.signals == ["WIT_101", "JI_110", "PI_112", "TI_113", "XS_1"]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([*MILL, "CON.L1.WIT_101.SP", "CON.L2.WIT_101.SP"], id="two of one instrument"),
        pytest.param([name.replace("L2", "L1.X") for name in MILL], id="not named alike"),
        pytest.param(
            [f"P.B{k}.{name}" for k in (1, 2) for name in ("DRUM.level", "STACK.temp")], id="what is measured"
        ),
        pytest.param([f"P.{code}.10{k}.PV" for k in (1, 2, 3) for code in ("TI", "FI")], id="instruments"),
    ],
)
def test_a_last_part_that_is_needed_is_no_property(names: list[str]) -> None:
    assert find_tag_names(names, later_parts_first=False) is None


def test_readings_of_tags_with_a_property_are_rows_of_each_machine() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"tag": tag, "ts": START + 60 * i, "value": round(float(rng.normal(100 * k, 3)), 2)}
        for i in range(400)
        for k, tag in enumerate(MILL[:4] + MILL[5:9])
    ]
    draft = decided(rows)
    assert draft.event.tag is not None
    assert draft.event.tag.pattern == "{entity}.{signal}.*"
    assert draft.why["entity"] == "in the tag; 2 in the sample"
    assert {*draft.event.targets} == {"WIT_101", "JI_110", "PI_112", "TI_113"}
