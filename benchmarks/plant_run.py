"""The production engine over a simulated plant, and all that it says: raised and suppressed alerts, start to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from measuring import MissingError

from ssm_stream.config import Config, load_config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.evaluate.prequential import batches
from ssm_stream.evaluate.recordings import Recording

LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "when": ("event", {"when": {"load": {"above": 1}}}),
    "quality": ("event", {"quality": {"column": "quality", "good": ["good", 192]}}),
    "window": ("alerts", {"maintenance": [{"weekly": "Sun 06:00-16:00"}]}),
    "limits": (
        "alerts",
        {
            "limits": [
                {"column": "pressure", "above": 6.3, "severity": "critical"},
                {"column": "temp", "above": 80, "for": "3 events"},
            ]
        },
    ),
    "silence": ("alerts", {"silence": {"after": "auto"}}),
    "stuck": ("alerts", {"stuck": True}),
}
"""What an engineer adds to the file of `init`, by a word for it: a section and its lines."""
ALL = tuple(LINES)
MODEL = ("anomaly", "drift")


class Told(NamedTuple):
    """An episode. start, end: ms, of the events at which the two messages are sent; end: None if it is open at the last

    pumps: its entity, or those of a fleet alert; column: of a limit, of silence, of a stuck signal; limit: its text
    suppressed: by what, empty if it is raised
    """

    kind: str
    pumps: tuple[str, ...]
    column: str | None
    limit: str | None
    start: int
    end: int | None
    suppressed: str


def initial(folder: Path, arguments: tuple[str, ...] = ()) -> Path:
    """The file that `ssm-stream init` writes for plant.csv."""
    out = folder / f"monitor{''.join(arguments)}.yaml"
    command = [sys.executable, "-m", "ssm_stream", "init", str(folder / "plant.csv"), "--out", str(out), "--force"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"init ended with {done.returncode}:\n{done.stderr[-1000:]}")
    return out


def with_lines(file: Path, words: tuple[str, ...], more: dict[str, dict[str, Any]] | None = None) -> Config:
    """The configuration of a file with the lines for these words.

    more: further lines, by section; a line of `event` that is None is left out
    """
    return load_config(written(file, words, more))


def written(file: Path, words: tuple[str, ...], more: dict[str, dict[str, Any]] | None = None) -> Path:
    """The file that has them, beside the other one."""
    document = yaml.safe_load(file.read_text())
    for section, lines in [LINES[word] for word in words] + list((more or {}).items()):
        document[section] = {**(document.get(section) or {}), **lines}
    document["event"] = {name: value for name, value in document["event"].items() if value is not None}
    document["sinks"].setdefault("suppressed", "suppressed")
    # Whether values are good is no property of the machine: who sets `event.quality` does not predict by it.
    if "quality" in words and "quality" in document["event"].get("categories", []):
        document["event"]["categories"].remove("quality")
    out = file.with_name(f"{file.stem}-{'-'.join(words) or 'plain'}.yaml")
    out.write_text(yaml.safe_dump(document, allow_unicode=True))
    return out


def told(config: Config, file: Path) -> list[Told]:
    """Every episode of a recording, by its start; those that are suppressed are marked."""
    engine, first = Engine(config), 0
    open_: dict[str, Told] = {}
    found: list[Told] = []
    for part in batches(config, Recording(file)):
        events, _ = engine.admit(engine.episodes.mark(part.events))
        ids = EventIds("plant", 0, (first + events.position).tolist())
        for alert in engine.process(events, 0, ids)[1]:
            message, ts = alert.message, int(events.ts[alert.row])
            if message["phase"] == "started":
                fleet = message["scope"] == "fleet"
                pumps = tuple(one["entity"] for one in message["entities"]) if fleet else (message["entity"],)
                open_[message["episode"]] = Told(
                    message["kind"],
                    pumps,
                    message.get("column"),
                    message.get("limit"),
                    ts,
                    None,
                    alert.suppressed_by or "",
                )
            elif message["phase"] == "recovered" and message["episode"] in open_:
                found.append(open_.pop(message["episode"])._replace(end=ts))
        first += part.height
    return sorted([*found, *open_.values()], key=lambda one: one.start)
