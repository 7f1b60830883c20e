"""`ssm-stream init` on uplinks of radio sensors and of vehicles: kinds, names, counters, positions, pauses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_init_ends import drafted, write
from test_init_plants import START, decided, noise, plant

from ssm_stream.config import parse_config

N = 400


def uplinks(machines: int = 9, rows: int = N, late: float = 0.02) -> list[dict[str, Any]]:
    """Sensors of rooms, water meters and valves, each a third; some uplinks have a time after those that they left."""
    rng, out = np.random.default_rng(4), list[tuple[float, dict[str, Any]]]()
    for m in range(machines):
        total, name = 1000.0 + m, ("room", "meter", "valve")[m % 3]
        for i in range(rows):
            total += float(rng.gamma(1.0, 4.0))
            signals = {
                "room": {"temperature": 21 + rng.normal(), "co2": 600 + 40 * rng.normal()},
                "meter": {"volume": float(int(total)), "water_temp": 11 + rng.normal(), "leak": False},
                "valve": {"position": 40 + 9 * rng.normal(), "room_temperature": 20 + rng.normal()},
            }[name]
            values = {path: round(x, 2) if isinstance(x, float) else x for path, x in signals.items()}
            ts = START + 600 * i + 5 * m + (1500 if rng.random() < late else 0)
            row = {"ts": ts, "device": f"{name}-{m}", "dev_eui": f"24E1{7919 * (m + 3):06X}", "f_cnt": 70 + i}
            out.append((ts, {**row, "battery": round(90 + 0.3 * rng.normal(), 1), **values}))
    twice = [each for i, each in enumerate(out) for _ in range(1 + (i % 23 == 0))]
    return [row for _, row in sorted(twice, key=lambda each: each[0])]


def test_kinds_are_noted_where_a_column_of_one_is_left_out() -> None:
    """Of the two numbers of a meter one is a total, and no signal: it had one column of its own."""
    (note,) = [note for note in decided(uplinks()).notes if "kinds of machines" in note]
    assert note.startswith("3 kinds of machines: ")
    assert "meter-* with 3 columns of their own" in note


def test_another_name_of_the_entity_is_no_category() -> None:
    """Of nine machines each with a text of its own, it names them; a model has no use for it, and a new one none."""
    draft = decided(uplinks())
    assert draft.event.entity == "device"
    assert "dev_eui" not in draft.event.categories
    assert draft.left_out["dev_eui"] == "another name of the entity: one for each"


@pytest.mark.parametrize("late", [0.0, 0.02])
def test_counters_of_which_some_rows_come_late_are_no_signals(late: float) -> None:
    """A time of arrival orders the rows: a message that was delayed has the count of before."""
    draft = decided(uplinks(late=late))
    assert {"f_cnt", "volume"} <= {*draft.left_out}
    assert not {"f_cnt", "volume"} & {*draft.event.targets, *(draft.event.inputs or [])}
    assert "volume" not in decided(uplinks(late=late), "battery").event.columns


def test_what_rises_slowly_and_falls_now_and_then_is_no_counter() -> None:
    rng = np.random.default_rng(2)
    level = np.cumsum(0.02 + 0.05 * rng.normal(size=N * 2)).round(1)
    rows = plant(N * 2, 1, x=noise(), level=lambda i, m: float(level[i]))
    assert "level" in decided(rows).event.targets


@pytest.mark.parametrize(
    ("lat", "lon"),
    [("lat", "lon"), ("gps.latitude", "gps.longitude"), ("Breitengrad", "Längengrad"), ("start_lat", "start_lng")],
)
def test_where_a_vehicle_is_is_no_signal(lat: str, lon: str) -> None:
    """A course over ground is a walk: it raised an alert on each second trip."""
    rng = np.random.default_rng(3)
    walk = np.cumsum(0.002 * rng.normal(size=(2, N)), axis=1)
    rows = plant(N, 1, speed=noise(60, 5))
    for i, row in enumerate(rows):
        at = (walk[:, i] + [48.1, 11.5]).round(5).tolist()
        place = dict(zip((lat.rpartition(".")[2], lon.rpartition(".")[2]), at, strict=True))
        row |= {"gps": place} if "." in lat else place
        row["oil"] = round(4 + 0.01 * row["speed"], 2)
    draft = decided(rows)
    assert draft.event.targets == ["oil", "speed"]
    assert draft.left_out[lat].startswith("a position")
    assert draft.left_out[lon].startswith("a position")


def test_a_latency_is_no_latitude() -> None:
    rows = plant(N, 1, lat=noise(40, 5), load=noise(60, 5, seed=2))
    assert decided(rows).event.targets == ["lat", "load"]


def trips(days: int = 28, machines: int = 8) -> Iterator[dict[str, Any]]:
    """Vehicles that send on trips alone: three a day, none at weekends, at times of their own."""
    rng = np.random.default_rng(6)
    for day in range(days):
        rows = list[dict[str, Any]]()
        for m in range(machines if day % 7 < 5 else 0):
            for hour in (6, 10, 14):
                first, count = 86_400 * day + 3600 * hour + int(rng.integers(0, 3600)), int(rng.integers(190, 330))
                rows += [{"ts": START + first + 20 * i, "truck": f"T{m:02d}", "oil": 4.0} for i in range(count)]
        for row in sorted(rows, key=lambda row: row["ts"]):
            yield {**row, "oil": round(4 + 0.1 * rng.normal(), 2), "speed": round(60 + 9 * rng.normal(), 1)}


def test_machines_that_pause_are_silent_when_they_pause_for_longer_than_ever(tmp_path: Path) -> None:
    """Each began with alerts on its first pauses, though all of them came back."""
    config, text, _ = drafted(write(trips(), tmp_path / "trips.csv"))
    assert config.alerts.silence is not None
    assert config.alerts.silence.after == 4 * 86_400, "a weekend is up to 64 hours, and half as long again"
    assert "in the file's first" in text
    config, *_ = drafted(write(trips(8), tmp_path / "week.csv"))
    assert config.alerts.silence is None or config.alerts.silence.after == "auto", "one weekend shows no other"


def test_what_a_meter_counts_is_noted_where_nothing_watches_it() -> None:
    """A leak shows in what a total grows by alone, which no setting computes; a counter of frames has none."""
    (note,) = [note for note in decided(uplinks()).notes if "counts" in note]
    assert note.startswith("nothing watches what `volume` counts")
    assert "--target volume" in note
    assert not [note for note in decided(uplinks(), "battery").notes if "nothing watches" in note]
    named = decided(uplinks(), "volume")
    assert not [note for note in named.notes if "nothing watches" in note]


@pytest.mark.parametrize("server", ["chirpstack", "things"])
@pytest.mark.parametrize("target", [[], ["temperature"]])
def test_the_radio_link_of_an_uplink_is_no_input(server: str, target: list[str]) -> None:
    """Channels are drawn at random: errors were up to 5 % larger with them, and one was stuck."""
    rng, rows = np.random.default_rng(5), list[dict[str, Any]]()
    for i in range(N):
        for m in range(4):
            link = {"frequency": 868_100_000 + 200_000 * int(rng.integers(3)), "factor": 7 + 2 * int(rng.integers(2))}
            payload = {"temperature": round(21 + rng.normal(), 2), "co2": round(600 + 40 * rng.normal())}
            count, time = int(7 + i + rng.integers(2)), START + 600 * i + m
            rows.append(
                {"time": time, "deviceInfo": {"deviceName": f"s-{m}", "devEui": f"24e1{m}"}, "fPort": 2, "dr": i % 5}
                | {"fCnt": count, "txInfo": link, "object": payload}
                if server == "chirpstack"
                else {"received_at": time, "end_device_ids": {"device_id": f"s-{m}", "dev_eui": f"24E1{m}"}}
                | {"uplink_message": {"f_cnt": count, "f_port": i % 5, "settings": link, "decoded_payload": payload}}
            )
    parent = "object." if server == "chirpstack" else "uplink_message.decoded_payload."
    draft = decided(rows, *(f"{parent}{name}" for name in target))
    used = {*draft.event.columns, *draft.event.targets}
    assert used == {f"{parent}temperature", f"{parent}co2"}
    link = "txInfo.frequency" if server == "chirpstack" else "uplink_message.settings.frequency"
    assert draft.left_out[link].startswith("of the radio link")


def test_an_alarm_of_the_machine_itself_comes_with_the_limit_that_passes_it_on() -> None:
    """The flag of a meter was left out as a label, and its alarm was lost."""
    rows = plant(N, 2, x=noise(), y=noise(seed=2), leak=lambda i, m: 300 <= i < 310 and m == 1)
    reason = decided(rows).left_out["leak"]
    assert reason.startswith("True in 10 of 800 rows, and named like a label")
    setting = reason.partition("alerts.limits: ")[2]
    assert setting == '[{column: "leak", one_of: [true]}]'
    limits = parse_config(
        "source: {brokers: b, topic: t}\nevent: {entity: machine, timestamp: ts, target: x}\n"
        f"alerts: {{limits: {setting}}}"
    ).alerts.limits
    assert limits[0].column == "leak"
