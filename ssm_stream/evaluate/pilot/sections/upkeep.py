"""The work of those who run the deployment: settings, restarts, trainings, growth of the state."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ssm_stream.config import Config
from ssm_stream.config.changes import change_needs
from ssm_stream.config.setting_text import format_value
from ssm_stream.evaluate.pilot.format import Format
from ssm_stream.evaluate.pilot.sections.layout import Cell, Figure, Section, Table
from ssm_stream.evaluate.pilot.sections.measurement import Measurement

HIDDEN = ("source.kafka", "sinks.kafka", "ops.token")
"""Settings whose values may be secret."""
NEEDS = ("reload", "restart", "anew")
MAX_SETTINGS = 30


def upkeep(config: Config, measured: Measurement, trainings: int, pools: int) -> dict[str, Any]:
    """Return settings touched, restarts and growth of the state.

    Args:
        config: of the run
        measured: bytes of the state halfway and at the end
        trainings: of the batch models that the product is compared with
        pools: of the recorded entities
    """
    touched = touched_settings(config)
    half, end = measured.snapshot_bytes
    # Entities that came since are no growth; nor is room of a fixed size that fills, as that of the week's hours does.
    room = measured.entities[0] * measured.entity_bytes + pools * measured.pool_bytes
    kept = max(end - (measured.entities[1] - measured.entities[0]) * measured.entity_bytes, room)
    half = max(half, room)
    more = measured.events[1] - measured.events[0]
    return {
        "settings": touched,
        "required": sum(each["default"] is None and each["required"] for each in touched),
        "touched": sum(not each["required"] for each in touched),
        "needs": {need: sum(each["needs"] == need for each in touched) for need in NEEDS},
        "restarts": 0,
        "trainings": 0,
        "batch_trainings": trainings,
        "state": {
            "events": list(measured.events),
            "entities": list(measured.entities),
            "bytes": list(measured.snapshot_bytes),
            "growth": kept / half,
            "bytes_per_event": (kept - half) / more if more else None,
        },
    }


def touched_settings(config: Config) -> list[dict[str, Any]]:
    """Return the settings of the file that have no default, or another value than it: path, value, default, needs."""
    return list(_touched(config, ""))


def _touched(section: BaseModel, above: str) -> list[dict[str, Any]]:
    out = list[dict[str, Any]]()
    for name, field in type(section).model_fields.items():
        if name not in section.model_fields_set:
            continue
        path, value = f"{above}{name}", getattr(section, name)
        if isinstance(value, BaseModel) and path not in HIDDEN and not hasattr(value, "text"):
            out += _touched(value, f"{path}.")
            continue
        default = field.get_default(call_default_factory=True)
        required = default is PydanticUndefined
        if not required and value == default:
            continue
        out.append(
            {
                "path": path,
                "value": "***" if path in HIDDEN else _text(value),
                "default": None if required else _text(default),
                "required": required,
                "needs": change_needs(path),
            }
        )
    return out


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "–"
    if hasattr(value, "text"):
        return str(value.text)
    if isinstance(value, BaseModel):
        return value.model_dump_json(exclude_unset=True, by_alias=True)
    return format_value(value)


def section(f: Format) -> Section:
    """Return the section `Upkeep`."""
    r = f.report["upkeep"]
    needs, state = r["needs"], r["state"]
    rows: list[list[Cell]] = [
        [f.text("upkeep.touched"), Figure("upkeep.touched"), f.text("upkeep.touched.note", required=r["required"])],
        [
            f.text("upkeep.restarts"), Figure("upkeep.restarts"),
            f.text("upkeep.restarts.note", **{need: f.number(needs[need]) for need in NEEDS}),
        ],
        [
            f.text("upkeep.trainings"), Figure("upkeep.trainings"),
            f.text("upkeep.trainings.note", batch=f.number(r["batch_trainings"])),
        ],
        [
            f.text("upkeep.growth"), Figure("upkeep.state.growth", "ratio"),
            f.text(
                "upkeep.growth.note", half=f.bytes(state["bytes"][0]), end=f.bytes(state["bytes"][1]),
                before=f.number(state["entities"][0]), entities=f.number(state["entities"][1]),
                slope=f.brief(state["bytes_per_event"]),
            ),
        ],
    ]  # fmt: skip
    settings: list[list[Cell]] = [
        [
            each["path"], each["value"], f.text("upkeep.required") if each["required"] else str(each["default"]),
            f.text(f"upkeep.{each['needs']}"),
        ]
        for each in r["settings"][:MAX_SETTINGS]
    ]  # fmt: skip
    return Section(
        "upkeep",
        [f.text("upkeep.text")],
        [
            Table("upkeep", ("upkeep.what", "upkeep.amount", "upkeep.how"), rows, left=(2,)),
            Table(
                "upkeep.settings",
                ("upkeep.setting", "upkeep.value", "upkeep.default", "upkeep.change"),
                settings,
                left=(1, 2, 3),
            ),
        ],
    )
