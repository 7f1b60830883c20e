"""What later rows of a file show of a draft that is made of its first ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssm_stream.cli.inputs import Reading
from ssm_stream.cli.terminal.console import output

if TYPE_CHECKING:
    from ssm_stream.autoconfig.draft import Draft
    from ssm_stream.autoconfig.stops import Stops

SAME, MAX_STATES = ("the same in all", "the same text"), 32
"""Reasons for leaving a column out that later rows may refute, and states of a machine that are searched in them."""
SHOWN = 20
"""Columns that are left out for one reason and are all named."""


def own_signals(draft: Draft, file: Path, reading: Reading) -> list[str]:
    """Return the columns that have one value for all machines in the sample, and several in later rows."""
    from ssm_stream.autoconfig.inputs.shared import find_own, only_these
    from ssm_stream.evaluate.recordings import Recording, RecordingError
    from ssm_stream.evaluate.recordings.column_reader import ColumnReader

    event, shared = draft.event, draft.shared
    if not shared or event.makes_rows or event.entity_default is not None:
        return []
    own = set[int]()
    reader = ColumnReader(only_these(event, shared))
    # A row that cannot be read is none of the sample.
    with contextlib.suppress(RecordingError), output(error=True).status(f"reading on in {file.name}"):
        for part in Recording(file, None, reading.options()).first_slices(reader.names):
            own |= find_own(reader.read(part)[0])
            if len(own) == len(shared):
                break
    return [path for j, path in enumerate(shared) if j in own]


def own_note(own: Sequence[str]) -> str:
    """Return a note on columns that are machines' own in later rows only."""
    return f"{some_of(own)}: one value for all machines in the sample, and not in later rows of the file: each its own"


def with_later_rows(draft: Draft, file: Path, reading: Reading) -> Draft:
    """Return the draft with notes on what later rows have: values of columns that the sample has one of, and states
    that a condition would leave out, which it has none of.

    It is one part of the file: gaps between several would pass for silence, and their steps for those of machines.
    """
    from ssm_stream.autoconfig.roles import counts_failures
    from ssm_stream.autoconfig.target import SAME_IN_EACH
    from ssm_stream.evaluate.recordings import Recording
    from ssm_stream.evaluate.recordings.signals import signal_texts

    event, left_out, rest = draft.event, draft.left_out, draft.rest
    own = [path for path, why in left_out.items() if why.startswith(SAME_IN_EACH)]
    same = [path for path, why in left_out.items() if why.startswith(SAME) and path not in own]
    most, notes = dict.fromkeys(same, 2), [*draft.notes]
    recording, is_signal = Recording(file, None, reading.options()), event.layout == "readings"
    if rest is not None and rest.texts and not is_signal:
        most[rest.column.path] = MAX_STATES
    found = recording.distinct(most) if most else {}
    if rest is not None and rest.texts and is_signal:
        found[rest.column.path] = signal_texts(event, rest.column.path, recording.first_slices, MAX_STATES)
    if rest is not None and rest.texts < (states := found.get(rest.column.path, set())):
        known, rest = rest.note(), rest._replace(later=sorted(states - rest.texts))
        notes[notes.index(known)] = rest.note()
    moving = [path for path in same if len(found[path]) > 1]
    texts = [path for path in moving if left_out[path].startswith("the same text")]
    failing = [path for path in moving if path not in texts and counts_failures(path)]
    numbers = [path for path in moving if path not in (*texts, *failing)]
    key = "inputs" if event.watches_all and event.inputs is not None else "features"
    cures = (numbers, f"add to event.{key} what counts"), (texts, "add to event.categories what counts")
    notes += [
        f"{some_of(paths)}: the same in the sample, and not in later rows of the file; {cure}"
        for paths, cure in (*cures, (failing, "watch by alerts.limits what fails"))
        if paths
    ]
    is_row = not event.makes_rows and event.entity_default is None
    changing = recording.varying(event.entity, own) if own and is_row else set()
    if paths := [path for path in own if path in changing and not counts_failures(path)]:
        notes.append(
            f"{some_of(paths)}: {SAME_IN_EACH} of the sample, and not in later rows of the file; add to event.{key} "
            "what counts, to event.categories what names things, such as products"
        )
    return draft._replace(notes=notes, rest=rest)


def with_ends(draft: Draft, judge: Callable[[Stops], Stops]) -> Draft:
    """Return the draft with what ends by more than its sample. judge: returns its switches by that"""
    from ssm_stream.autoconfig.stops import ttl_reason

    event, stops = draft.event, draft.stops
    if stops is None or not stops.machines or event.entity_default is not None or event.tag is not None:
        return draft
    stops, why = judge(stops), {name: reason for name, reason in draft.why.items() if name != "state.ttl"}
    if stops.ttl is not None:
        why["state.ttl"] = ttl_reason(stops)
    return draft._replace(stops=stops, why=why)


def later_ends(stops: Stops, draft: Draft, file: Path, reading: Reading) -> Stops:
    """Return the switches by all rows of the file that are read."""
    from ssm_stream.autoconfig.stops import LaterRows
    from ssm_stream.evaluate.recordings import Recording, RecordingError
    from ssm_stream.evaluate.recordings.column_reader import ColumnReader

    found, recording, rows = LaterRows(draft.event, draft.step), Recording(file, None, reading.options()), 0
    reader = ColumnReader(found.event)
    # A row that cannot be read is none of the sample.
    with contextlib.suppress(RecordingError), output(error=True).status(f"reading on in {file.name}") as status:
        for part in recording.first_slices(reader.names):
            rows += part.height
            if not found.add(reader.read(part)[0]):
                break
            status.update(f"reading on in {file.name}: {rows:,} rows")
    return found.judge(stops, f"the file's first {rows:,} rows")


def some_of(paths: Sequence[str], examples: int = SHOWN) -> str:
    """Return paths as text; of more than 20 the first ones."""
    shown = paths if len(paths) <= SHOWN else paths[:examples]
    return ", ".join(shown) + (f" and {len(paths) - len(shown):,} more" if len(shown) < len(paths) else "")
