"""Files of facts next to a recording, for rows of readings and windows: `week.orders.jsonl` next to `week.parquet` has
what the context topic `orders` held. `record` writes them; of a file of one's own, they are exports like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from ssm_stream.config import Config
from ssm_stream.evaluate.recordings.exports.file_names import name_of
from ssm_stream.evaluate.recordings.exports.folder import KINDS, LISTED
from ssm_stream.evaluate.recordings.files import RecordingError
from ssm_stream.evaluate.recordings.recording import Recording
from ssm_stream.ingest.context.facts import JoinFacts
from ssm_stream.ingest.context.table import ContextTable, JoinedTables, Message, Place

PARTITION, OFFSET, CAME = "fact.partition", "fact.offset", "fact.came"
"""Where a fact was in its topic, and when the broker got it, ms; null: it was there when the flow first began."""
Fact = tuple[str, Place, int | None, dict[str, Any]]


def file_to_write(recording: Path, topic: str) -> Path:
    """Return the file for the facts of a context topic, next to a recording."""
    return recording.with_name(f"{name_of(recording)}.{topic}.jsonl")


def write_facts(recording: Path, topic: str, facts: Iterable[Fact]) -> int:
    """Write the facts of a context topic next to a recording; return their number."""
    count = 0
    with file_to_write(recording, topic).open("wb") as file:
        for _, place, came, document in facts:
            placed = {**document, PARTITION: place.partition, OFFSET: place.offset, CAME: came}
            file.write(orjson.dumps(placed, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def find_facts(config: Config, recording: Path) -> tuple[list[Path], list[str]]:
    """Return the files with the facts of a recording, and a sentence for each context topic that has none."""
    files, missing = list[Path](), list[str]()
    for section in config.source.context if config.event.facts else ():
        begin = f"{name_of(recording)}.{section.topic}"
        named = [recording.with_name(f"{begin}{suffix}") for suffix in KINDS]
        found = next((each for each in named if each.is_file()), None)
        if found is not None:
            files.append(found)
            continue
        columns = ", ".join(section.columns)
        missing.append(
            f"source.context: rows of {recording.name} get {columns} from {section.topic!r}, and there is no file of "
            f"these facts beside it: name one {begin}.csv (or {LISTED}), with the entity, the time from which on they "
            f"hold, and {columns}; `ssm-stream record` writes it"
        )
    return files, missing


def recorded_facts(config: Config, rows: Iterable[Any]) -> JoinFacts | None:
    """Return what joins the facts that lie next to a recording; None if no row has facts.

    Raises:
        RecordingError: there is no such file, or a line of one is no fact.
    """
    if not config.event.facts:
        return None
    if not isinstance(rows, Recording):
        raise RecordingError(
            "source.context: the facts of rows are in files beside a recording: give the path of a file"
        )
    files, missing = find_facts(config, rows.path)
    if missing:
        raise RecordingError("\n".join(missing))
    sections = zip(config.source.context, files, strict=True)
    return JoinedTables([_table(config, section, file) for section, file in sections])


def _table(config: Config, section: Any, file: Path) -> ContextTable:
    recording = Recording(file)
    documents = list(recording)
    placed = any(OFFSET in each for each in documents)
    table = ContextTable(config, section, {} if placed else None)
    refused = table.add(list(_messages(documents)))
    if refused:
        first = refused[0]
        raise RecordingError(
            f"{file}: {len(refused)} of {len(documents)} rows are no facts; the first, row {first.position + 1}: "
            f"{first.reason}"
        )
    return table


def _messages(documents: Iterable[dict[str, Any]]) -> Iterator[Message]:
    for row, document in enumerate(documents):
        came = document.get(CAME)
        place = (document.get(PARTITION, 0), document.get(OFFSET, row))
        yield Message(*place, None, came if isinstance(came, int) else 0, document, came is None)
