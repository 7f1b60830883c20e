"""What a fleet takes on the reader's machines: what was measured in this run, times the fleet in question."""

from __future__ import annotations

import math
import os
from typing import Any

from ssm_stream.config import Config
from ssm_stream.evaluate.pilot.costs import Costs
from ssm_stream.evaluate.pilot.format import Format
from ssm_stream.evaluate.pilot.sections.layout import Figure, Section, Table
from ssm_stream.evaluate.pilot.sections.measurement import Measurement

TOPIC_US = 7.0
"""CPU of reading an event from a topic and writing its prediction, µs: 9.6 from topic to topic with 8 inputs, of which
the engine takes 3 (`benchmarks/scaling.py workers`)."""
BUSY = 0.6
"""Share of a core that is planned with: the rest is for bursts, and for catching up after a restart."""
BASE_GB = 0.25
"""Memory of a process without entities."""
OVERHEAD = 1.05
"""Memory of entities over the bytes of their state: names and indices."""
RECOVERY_S_PER_GB = 1.0
"""Of a large state, s a GB (`benchmarks/scaling.py state`): that of a recording is too small to show it."""
COPIES = 5
"""Copies of the state on the disk at most."""


def machines(config: Config, measured: Measurement, intervals: list[float], pools: int, costs: Costs) -> dict[str, Any]:
    """Return what was measured, the fleet, and the machines for it.

    Args:
        intervals: usual seconds between two events of each recorded entity that has some
        pools: of the recorded entities
        costs: with the size of the fleet, if it is not that of the recording
    """
    recorded = max(measured.entities[1], 1)
    each = sum(1.0 / seconds for seconds in intervals) / max(len(intervals), 1)
    entities = costs.entities or recorded
    rate = costs.events_per_second or each * entities
    event_us = measured.event_us + TOPIC_US
    busy = rate * event_us / 1e6
    processes = max(math.ceil(busy / BUSY), 1)
    state = OVERHEAD * measured.entity_bytes * entities / 1e9
    # Events fall on entities at random; from half of the entities on, a snapshot has all of them.
    changed = 1.0 - math.exp(-rate * config.epoch_interval / entities)
    written = state * (1.0 if changed > 0.5 else changed)
    return {
        "cores_here": os.cpu_count(),
        "measured": {
            "event_us": measured.event_us,
            "entity_bytes": measured.entity_bytes,
            "pool_bytes": measured.pool_bytes,
            "snapshot_bytes": measured.snapshot_bytes[1],
            "snapshot_seconds": measured.snapshot_seconds,
            "recovery_seconds": measured.recovery_seconds,
        },
        "assumed": {
            "topic_us": TOPIC_US,
            "busy": BUSY,
            "base_gb": BASE_GB,
            "copies": COPIES,
            "recovery_s_per_gb": RECOVERY_S_PER_GB,
        },
        "fleet": {
            "entities": entities,
            "events_per_second": rate,
            "given": [name for name in ("entities", "events_per_second") if name in costs.model_fields_set],
            "cores_busy": busy,
            "cores": processes,
            "memory_gb": processes * BASE_GB + state + pools * measured.pool_bytes / 1e9,
            "disk_gb": COPIES * state,
            "written_mb_per_s": 1000.0 * written / config.epoch_interval,
            "recovery_seconds": measured.recovery_seconds + RECOVERY_S_PER_GB * state,
        },
    }


def section(f: Format) -> Section:
    """Return the section `On your machines`."""
    r = f.report["machines"]
    fleet, measured, assumed = r["fleet"], r["measured"], r["assumed"]
    rows = [
        (f.text(f"machines.{key}"), Figure(f"machines.{path}", how))
        for key, path, how in (
            ("event_us", "measured.event_us", "brief"),
            ("topic_us", "assumed.topic_us", "brief"),
            ("entity_bytes", "measured.entity_bytes", "bytes"),
            ("snapshot", "measured.snapshot_seconds", "seconds"),
            ("recovery", "measured.recovery_seconds", "seconds"),
        )
    ]
    busy = f.brief(fleet["cores_busy"]) if fleet["cores_busy"] >= 0.001 else "< 0.001"
    sized = [
        (f.text(f"machines.{key}"), Figure(f"machines.fleet.{path}", how), f.text(f"machines.{key}.note", **values))
        for key, path, how, values in (
            ("cores", "cores", "number", {
                "busy": busy, "rate": f.brief(fleet["events_per_second"]),
                "us": f.brief(measured["event_us"] + assumed["topic_us"]), "share": f.percent(assumed["busy"]),
            }),
            ("memory", "memory_gb", "gigabytes", {
                "entities": f.number(fleet["entities"]), "bytes": f.bytes(measured["entity_bytes"]),
                "base": f.gigabytes(assumed["base_gb"]),
            }),
            ("disk", "disk_gb", "gigabytes", {"copies": f.number(assumed["copies"])}),
            ("written", "written_mb_per_s", "megabytes", {}),
            ("fleet_recovery", "recovery_seconds", "seconds", {}),
        )
    ]  # fmt: skip
    origin = "given" if fleet["given"] else "recorded"
    text = f.text(
        "machines.text",
        entities=f.number(fleet["entities"]),
        rate=f.brief(fleet["events_per_second"]),
        origin=f.text(f"machines.{origin}"),
    )
    return Section(
        "machines",
        [text],
        [
            Table("machines.needed", ("machines.what", "machines.amount", "machines.how"), sized, left=(2,)),
            Table("machines.measured", ("machines.what", "machines.amount"), rows),
        ],
        [f.text("machines.note")],
    )
