"""Files of a recording: one, or those of a folder in the order of their names."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ssm_stream.evaluate.recordings.exports.table import SHEETS
from ssm_stream.evaluate.recordings.files import RecordingError, is_json
from ssm_stream.evaluate.recordings.line_protocol import is_line_protocol

TEXTS = (".csv", ".tsv", ".txt", ".tab", ".dat", ".asc")
LINES = (".jsonl", ".ndjson", ".json", ".lp")
PACKED = (".gz", ".zst")
KINDS = {
    **{f"{suffix}{packed}": "table" for suffix in TEXTS for packed in ("", *PACKED)},
    **{f"{suffix}{packed}": "jsonl" for suffix in LINES for packed in ("", *PACKED)},
    **dict.fromkeys(SHEETS, "table"),
    ".parquet": "parquet",
}
"""Suffix → how the file is read."""
LISTED = ".csv, .tsv, .txt, .json, .jsonl, .ndjson (each also .gz or .zst), .parquet, .xlsx, .ods"


def kind_of(path: Path) -> str:
    """Return how a file, or the files of a folder, are read.

    Raises:
        RecordingError: there is no such file, or its name does not show what it is.
    """
    if path.is_dir():
        kinds = {kind: each for each in files_of(path) if (kind := _kind(each)) is not None}
        if len(kinds) > 1:
            names = ", ".join(each.name for each in kinds.values())
            raise RecordingError(f"{path}: files of several kinds ({names}); put those of one kind into a folder")
        kind, first = next(iter(kinds.items()))
        return _of_text(first) or kind
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; give the path of a recording ({LISTED})")
    kind = _of_text(path) or _kind(path)
    if kind is None:
        raise RecordingError(f"{path}: unknown kind of file; name it {LISTED}, by what it holds")
    return kind


def _of_text(path: Path) -> str | None:
    """Return the kind of a file by what it holds, as agents give theirs any name; None: its name shows it."""
    return "jsonl" if path.suffix.lower() not in (".parquet", *SHEETS) and is_line_protocol(path) else None


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    return KINDS[max(fits, key=len)] if (fits := [suffix for suffix in KINDS if name.endswith(suffix)]) else None


def files_of(path: Path) -> list[Path]:
    """Return the files of a recording: of a folder those that can be read, by name, and numbers in names by size.

    Next to files of another kind, .json files describe them, and are left out.

    Raises:
        RecordingError: the folder has none.
    """
    if not path.is_dir():
        return [path]
    if not (found := recordings_in(path)):
        raise RecordingError(f"{path}: is a folder without a recording; it needs files named {LISTED}")
    return found


def recordings_in(folder: Path) -> list[Path]:
    """Return the files of `files_of`; there may be none."""
    found = [each for each in folder.iterdir() if each.is_file() and _is_named(each)]
    return sorted([each for each in found if not is_json(each)] or found, key=_order)


def would_be_read(path: Path, files: Collection[Path]) -> bool:
    """Return whether a file, which need not be there, would be one of a folder's. files: those that it has"""
    return _is_named(path) and (not is_json(path) or all(map(is_json, files)))


def _is_named(path: Path) -> bool:
    return not path.name.startswith((".", "~")) and _kind(path) is not None


def _order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split("([0-9]+)", path.name.lower())]
