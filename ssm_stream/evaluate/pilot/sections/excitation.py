"""Whether the inputs carry the gradient: a model can learn only along the directions in which they vary."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.core.excitation import measure_excitation
from ssm_stream.evaluate.engine_run import EngineRun
from ssm_stream.evaluate.pilot.format import Format
from ssm_stream.evaluate.pilot.sections.layout import Cell, Figure, Section, Table


def excitation(config: Config, run: EngineRun) -> dict[str, Any]:
    """Return rank and condition of the numeric inputs, the dead and the collinear ones. run: with its events

    With `target: all` of the targets that are inputs, each of which is one to all others, and of what is an input only.
    """
    event, names, values = config.event, config.event.numbers, run.features
    if event.watches_all:
        at = [event.targets.index(path) for path in event.watched_inputs]
        values = np.concatenate([np.concatenate([events.target[:, at] for events in run.batches]), values], axis=1)
        names = [*event.watched_inputs, *names]
    found = measure_excitation(values[:, : len(names)], names)
    return {
        "inputs": found.inputs,
        "rank": found.rank,
        "condition": found.as_json()["condition"],
        "full_after": found.full_after,
        "dead": list(found.dead),
        "collinear": [each.column for each in found.collinear if each.exact],
        "nearly": [each.column for each in found.collinear if not each.exact],
    }


def section(f: Format) -> Section:
    """Return the section `Excitation`."""
    r = f.report["excitation"]
    if not r["inputs"]:
        return Section("excitation", [f.text("excitation.none")])
    names = {name: ", ".join(r[name]) or "–" for name in ("dead", "collinear", "nearly")}
    rows: list[list[Cell]] = [
        [f.text("excitation.rank"), Figure("excitation.rank"), f.text("excitation.rank.note", inputs=r["inputs"])],
        [f.text("excitation.condition"), Figure("excitation.condition", "brief"), f.text("excitation.condition.note")],
        [f.text("excitation.full"), Figure("excitation.full_after"), f.text("excitation.full.note")],
    ]
    rows += [[f.text(f"excitation.{name}"), f.number(len(r[name])), listed] for name, listed in names.items()]
    columns = ("excitation.what", "excitation.value", "excitation.how")
    return Section("excitation", [f.text("excitation.text")], [Table("excitation.table", columns, rows, left=(2,))])
