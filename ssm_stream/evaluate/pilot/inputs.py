"""What a pilot is judged by beside the recording: a file of true events (labels), and a file of what things cost."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import Field, ValidationError

from ssm_stream.config import Config, ConfigError, Section
from ssm_stream.evaluate.recordings.file import RecordingError, decode, lines_of, open_file
from ssm_stream.ingest.events import EventReader

COLUMNS = ("entity", "start", "end")
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Alarms = Literal["never", "three_sigma", "sigma", "ewma", "adwin"]


class TrueEvent(NamedTuple):
    """Something that happened to an entity, from `start` to `end`, ms since 1970, both ends included."""

    entity: str
    start: int
    end: int
    kind: str = ""


class Costs(Section):
    """What things cost. What the file leaves out is an assumption, and is shown as one."""

    currency: Annotated[str, Field(min_length=1, max_length=8)] = "EUR"
    """How amounts are named."""
    false_alarm: Amount = 50.0
    """Of one alarm that nothing is behind: someone looks."""
    missed_hour: Amount = 200.0
    """Of an hour of a true event that nobody knows of."""
    retraining: Amount = 10.0
    """Of one nightly retraining of a batch model, for all entities together: computing and looking after it."""
    engineer_hour: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 75.0
    """Of an engineer's hour; work is counted in these."""
    alarms_today: Alarms = "never"
    """How alarms are raised today: what is saved is saved against that."""
    retrained_today: Literal["nightly", "never"] = "nightly"
    """Whether today's model, or the one that would be built instead, is retrained."""

    @property
    def assumed(self) -> list[str]:
        """Names of what the file did not say."""
        return [name for name in type(self).model_fields if name not in self.model_fields_set]


def read_costs(path: Path | None) -> Costs:
    """The costs of a YAML file; without one, assumptions only.

    Raises:
        ConfigError: it cannot be read, or says something wrong: which line and key, and what would be right.
    """
    if path is None:
        return Costs()
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    known = list(Costs.model_fields)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: no costs; write lines such as `false_alarm: 50` ({', '.join(known)})")
    lines = {key.value: key.start_mark.line + 1 for key, _ in root.value} if root is not None else {}
    try:
        return Costs.model_validate({str(key): value for key, value in raw.items()})
    except ValidationError as error:
        said = []
        for item in error.errors():
            name = str(item["loc"][0])
            where = f"{path}:{lines.get(name, 1)}: {name}"
            if item["type"] == "extra_forbidden":
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                cure = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
                said.append(f"{where}: unknown key; {cure}")
            else:
                said.append(f"{where}: {item['msg']} (found {item['input']!r})")
        raise ConfigError("\n".join(said)) from None


def read_labels(path: Path, config: Config, known: Collection[str]) -> list[TrueEvent]:
    """The true events of a CSV or JSON-lines file (also gzipped), by entity and start; those that overlap are one.

    Times are read as those of the configuration's events. Columns: entity, start, end, and `kind` where there is one.

    Args:
        known: entities of the recording

    Raises:
        RecordingError: which line and column is wrong, and what would be right.
    """
    places, rows = zip(*_rows(path), strict=True)
    read: list[tuple[str, list[int]]] = []
    for column in ("start", "end"):
        event = config.event.model_copy(
            update={"timestamp": column, "entity": "entity", "features": [], "categories": [], "target": "target"}
        )
        # What is no number is told of as no time: a text of digits is an epoch here, as CSV has no other.
        events, refused = EventReader(event).read([{**row, "target": None} for row in rows])
        if refused:
            first = refused[0]
            raise RecordingError(f"{path}:{places[first.position]}: {first.reason}")
        read.append((column, events.ts.tolist()))
        names = events.entity
    found = []
    for at, row, name, start, end in zip(places, rows, names, read[0][1], read[1][1], strict=True):
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
            cure = f"did you mean {near[0]!r}?" if near else f"it has {_some(known)}"
            raise RecordingError(f"{path}:{at}: entity: {name!r} is not in the recording; {cure}")
        if end < start:
            raise RecordingError(
                f"{path}:{at}: end: {row['end']!r} is before start {row['start']!r}; write the later time as `end`"
            )
        kind = row.get("kind")
        found.append(TrueEvent(name, start, end, "" if kind is None else str(kind)))
    return _joined(found)


def _some(names: Collection[str]) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _joined(events: list[TrueEvent]) -> list[TrueEvent]:
    """Sorted, and those of an entity that overlap put together."""
    out: list[TrueEvent] = []
    for event in sorted(events):
        if out and out[-1].entity == event.entity and event.start <= out[-1].end:
            last = out[-1]
            kinds = dict.fromkeys(kind for kind in (*last.kind.split(" + "), event.kind) if kind)
            out[-1] = last._replace(end=max(last.end, event.end), kind=" + ".join(kinds))
        else:
            out.append(event)
    return out


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Line and content of each row."""
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; give the path of a CSV or JSON-lines file of true events")
    with open_file(path) as file:
        text = decode(b"".join(lines_of(file, path)), path, 1)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson", ".json")):
        rows = list(_json_rows(path, text))
    elif name.endswith(".csv"):
        rows = list(_csv_rows(path, text))
    else:
        raise RecordingError(f"{path}: unknown kind of file; name it .csv or .jsonl, by what it holds")
    if not rows:
        raise RecordingError(f"{path}: no events; write one a line: {','.join(COLUMNS)}[,kind]")
    return rows


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text.removeprefix("\ufeff").splitlines(), skipinitialspace=True)
    _require(path, 1, list(reader.fieldnames or ()))
    for row in reader:
        cells = {key: _cell(value) for key, value in row.items() if isinstance(key, str)}
        if any(value is not None for value in cells.values()):
            # A name of digits is a name, times of digits are epochs.
            cells["entity"] = row["entity"] or None
            yield reader.line_num, cells


def _cell(text: Any) -> Any:
    if not isinstance(text, str) or not text.strip():
        return None
    text = text.strip()
    try:
        return float(text) if text.replace(".", "", 1).isdecimal() else text
    except ValueError:
        return text


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except ValueError as error:
            raise RecordingError(f"{path}:{line}: not JSON ({error}); write one JSON object a line") from None
        if not isinstance(row, dict):
            raise RecordingError(f"{path}:{line}: found {type(row).__name__}; write one JSON object a line")
        _require(path, line, list(row))
        yield line, row


def _require(path: Path, line: int, names: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        near = difflib.get_close_matches(missing[0], names, n=1, cutoff=0.5)
        cure = f"rename {near[0]!r}" if near else f"found {', '.join(names) or 'none'}"
        raise RecordingError(f"{path}:{line}: column `{missing[0]}` is missing; {cure}")
