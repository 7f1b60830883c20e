"""States of a sample in which the signals of a machine rest, and how to leave such rows out."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column, name_words, word_set
from ssm_stream.autoconfig.roles import is_weather

MAX_STATES, MIN_SIGNALS = 12, 3
"""Values of a column that shows states; signals that rest or do not."""
MIN_REST, MAX_REST, MIN_RUN = 0.03, 0.9, 5.0
"""Share of the rows in a state of rest, and rows of a stretch of it in the mean."""
STILL, MIN_RESTING = 1 / 3, 0.4
"""A signal rests where its noise is smaller than this share of that elsewhere; more than this share of them do. What a
controller holds in place has no ramps, and its noise as elsewhere: noise is how far values are off the line through
their neighbours."""
LOW, HIGH, COLLAPSED = 0.05, 0.95, 0.5
"""A signal has collapsed in a state where nearly all of its values are below nearly all of those elsewhere, and its
median is less than this share of that: an oil pressure at rest, whose sensor has the noise that it has at work."""
MIN_AT_REST, MIN_OFF, ALL_OFF = 0.9, 0.5, 0.75
"""Share of the rows of a state at zero by which a column that is zero at times, a flow or a current, is off in it;
share of these columns that must be, as a machine whose motor runs does not rest; and share that shows rest by itself:
sensors of a tank that stands still have their noise, and it cools down."""
SMOOTH, GOES_ON, MIN_LIVING = 8, 0.1, 0.5
"""Rows of a mean in which noise hardly counts; share of what these means of a signal move by elsewhere from which on it
goes on in a state; and share of the signals that are never zero that do where nothing rests: at night a greenhouse has
no sun and no dosing, and is heated."""
MEAN_OF_MEDIAN = 1.183
"""Mean over median of the size of what is normal."""
MIN_STEPS = 5
"""Steps of a signal that show whether it rests: where there are fewer, as in columns of other machines, none do."""
FAULTS = word_set(
    "fault faults faulted faulty fail failed failure failures error errors alarm alarms alert alerts trip trips "
    "tripped emergency breakdown broken defect defective anomaly jam jams jammed"
)
"""Words of states that are to be seen, though signals rest in them."""
RESTS = word_set("idle off standby stop stopped halted parked shutdown stillstand aus 停止 停止中 休止 待機 待機中")
"""Words of states that are rest where what is zero at times is off, whatever the sensors of an empty vessel go on with:
they follow the room, and drift."""
ABOVE_ZERO = "above 0"
MAX_BELOW = 0.01
"""Share of the rows, and part of the usual size at work, by which a number that is 0 at rest may be below."""
PARTS, MIN_PARTS, RARE, MIN_WORK = 20, 3, 0.01, 200
"""Between 0 and the median at work there are so many ranges; so many of the first that have few rows each, at most this
share of those above 0, lie between rest and work; and rows at work by which they are known to be few. The first range
of all may have the noise of a sensor at rest."""
BELOW_WORK = 0.8
"""Part of the least value at work that the bound of a condition is."""


class Rest(NamedTuple):
    """States of a column in which many signals of a machine rest.

    Attributes:
        column: that shows the states; owners: row → name of its entity
        resting, kept: states in which they rest, and the others
        share: of the rows, in which they rest
        later: states that only rows after the sample have
    """

    column: Column
    owners: Mapping[int, Any]
    resting: list[str]
    kept: list[str]
    share: float
    later: Collection[str] = ()

    @property
    def texts(self) -> set[str]:
        """The states as texts; empty for numbers and truth values, whose conditions do not list them all."""
        return {*self.column.values.values()} if self.column.kind == "text" else set()

    def note(self) -> str:
        """Return the states, and how to leave their rows out."""
        return f"{self.what}: {_cure(self)}"

    @property
    def what(self) -> str:
        """The states, and that signals rest in them."""
        states = " or ".join(self.resting)
        return f"`{self.column.path}` is {states} in {self.share:.0%} of the rows, where many of the other signals rest"

    @property
    def bound(self) -> float:
        """The bound that a number is above at work, see `work_bound`."""
        measured = self.kept == [ABOVE_ZERO] and self.column.distinct > MAX_STATES  # few numbers are states
        return work_bound(self.column.numbers) if measured else 0.0

    @property
    def lacking(self) -> set[Any]:
        """Entities that never have the column."""
        column, owners = self.column, self.owners
        return {owners.get(i) for i in range(column.n)} - {owners.get(i) for i in column.values}

    @property
    def when(self) -> str:
        """The operating condition that only the states that are kept meet, as `event.when` has it.

        A condition has no "all but": bounds are met by numbers that the sample does not show, a list of texts is not.
        """
        test = f"[{', '.join([*self.kept, *map(_as_json, self.later)])}]"
        if self.column.kind in ("number", "whole"):
            test = "0" if self.kept == ["0"] else f"{{above: {self.bound:g}}}"
        condition, having = f"{_as_json(self.column.path)}: {test}", {self.owners.get(i) for i in self.column.values}
        entities = name_pattern(having, self.lacking) if self.lacking else None
        return f"{{{condition}}}" if entities is None else f"[{{entities: {_as_json(entities)}, {condition}}}]"


def find_rest(columns: Sequence[Column], owners: Mapping[int, Any]) -> Rest | None:
    """Return the states in which many signals of a machine rest; None if there are none.

    Args:
        columns: those that are used, some of which show a state: zero in a number that is never below, or one of a few
            texts; those named like a fault show none
        owners: row → name of its entity
    """
    signals = {c.path: c.numbers for c in columns if c.kind in ("number", "whole") and c.distinct > MAX_STATES}
    before = _rows_before(columns[0].n if columns else 0, owners)
    codes = _entity_codes(len(before), owners)
    steps = {path: _own_noise(x, before, codes) for path, x in signals.items()}
    flows = {c.path: c.numbers for c in columns if c.kind in ("number", "whole") and _is_zero_at_times(c)}
    best: tuple[bool, bool, float] = (False, False, MIN_RESTING)
    machines = len(set(owners.values()))
    windows, living = dict[bytes, NDArray[np.int64]](), dict[bytes, float]()
    lasting = [_moves(x, codes, windows) for path, x in signals.items() if path not in flows and not is_weather(path)]
    found: Rest | None = None
    for column in columns:
        states = {} if FAULTS & {*column.name} else _states(column)
        if len(states) < 2:
            continue
        others = [(signals[path], x) for path, x in steps.items() if path != column.path]
        off = [x for path, x in flows.items() if path != column.path]
        still = dict[str, float]()
        for value, rows in states.items():
            share = _share_off(off, rows)
            is_off = share is not None and share >= ALL_OFF and len(off) >= MIN_SIGNALS
            if share is not None and (is_off or share < MIN_OFF):
                still[value] = share if is_off else 0.0
            else:
                still[value] = _share_that_rests(others, rows, before)
            named = is_off and column.kind == "text" and RESTS & {*name_words(value)}
            if still[value] > MIN_RESTING and not named:
                key = rows.tobytes()  # the signals of a machine that are zero at rest are so in the same rows
                if key not in living:
                    living[key] = _share_that_lives(lasting, rows, before)
                if living[key] >= MIN_LIVING:
                    still[value] = 0.0
        resting = [value for value, share in still.items() if share > MIN_RESTING and not FAULTS & {*name_words(value)}]
        kept = [value for value in states if value not in resting]
        rests = np.any([states[value] for value in resting] or [np.zeros(column.n, np.bool_)], axis=0)
        starts = int(np.count_nonzero(rests & ~((before >= 0) & rests[before])))
        most = max((still[value] for value in resting), default=0.0)
        # What all machines have leaves none out; and a name tells more than a zero that comes with it.
        rank = len({owners.get(i) for i in column.values}) >= machines, column.kind in ("text", "flag"), most
        if kept and MIN_REST <= rests.mean() <= MAX_REST and rests.sum() >= MIN_RUN * starts and rank > best:
            best, found = rank, Rest(column, owners, resting, kept, float(rests.mean()))
    return found


def _cure(rest: Rest) -> str:
    """Return the operating condition that only the states that are kept meet, and what else it leaves out."""
    column, owners, later, lacking = rest.column, rest.owners, rest.later, rest.lacking
    having = {owners.get(i) for i in column.values}
    cure = f"event.when: {rest.when} leaves them out of learning and alerts"
    if rest.bound > 0.0:
        cure += ", and running up and coasting down with them: few rows have values up to there"
    if column.kind == "text":
        alone = f". Only in rows after the sample: {', '.join(later)}" if later else ""
        rows = "that no row of the file has" if later else "that is not in the sample"
        cure += f"{alone}. A state {rows}, such as a fault, is left out too unless you add it"
    missing = sum(owners.get(i) in having for i in range(column.n)) - len(column.values)
    if missing:
        cure += f". So are the {missing} rows without `{column.path}`"
    if lacking and "entities: " not in rest.when:
        cure += (
            f". {len(lacking)} of {len(having | lacking)} machines never have `{column.path}` and would be left out "
            "for good: write an entry for each that has it, with `entities: NAME`"
        )
    return cure


def work_bound(x: NDArray[np.float64]) -> float:
    """Return a bound between rest, where a number (n,) is 0, and work; 0 where values of all sizes are work, or none is
    known to lie between."""
    at_work = x[x > 0.0]
    if len(at_work) < MIN_WORK:
        return 0.0
    part = float(np.median(at_work)) / PARTS
    counts = np.bincount(np.minimum(at_work // part, PARTS).astype(np.int64), minlength=PARTS + 1)
    rare = int(np.argmax(counts[1:] > RARE * len(at_work)))  # ranges without work, after the first
    return float(f"{BELOW_WORK * (rare + 1) * part:.2g}") if rare >= MIN_PARTS else 0.0


def name_pattern(having: Collection[Any], lacking: Collection[Any]) -> str | None:
    """Return the beginning that the names of these entities share, as a pattern; None if others have it too."""
    first, last = min(map(str, having)), max(map(str, having))
    different = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    begin = first[: next(different, min(len(first), len(last)))]
    if not begin or {*begin} & {*"*?["} or any(str(name).startswith(begin) for name in lacking):
        return None
    return f"{begin}*" if len(having) > 1 else begin


def _rows_before(n: int, owners: Mapping[int, Any]) -> NDArray[np.int64]:
    """Return of each row the one before of its entity, −1 if there is none."""
    last: dict[Any, int] = {}
    out = np.full(n, -1)
    for i in range(n):
        name = owners.get(i)
        out[i], last[name] = last.get(name, -1), i
    return out


def _is_zero_at_times(column: Column) -> bool:
    x = column.numbers[~np.isnan(column.numbers)]
    return _is_never_below(x) and MIN_REST <= float(np.mean(x <= 0)) <= MAX_REST


def _is_never_below(x: NDArray[np.float64]) -> bool:
    """Return whether a number is 0 at the least; but for a few readings of a sensor, which are a little below."""
    if not (x < 0).any():
        return True
    usual = float(np.median(x[x > 0])) if (x > 0).any() else 0.0
    return float(np.mean(x < 0)) <= MAX_BELOW and float(np.nanmin(x)) >= -MAX_BELOW * usual and bool((x == 0).any())


def _share_off(flows: Sequence[NDArray[np.float64]], rows: NDArray[np.bool_]) -> float | None:
    """Return the share of the columns that are zero at times which are so in a state; None if there are none.

    Args:
        flows: (n,) each such column
        rows: (n,) whether a row is in the state
    """
    known = [(x[rows & np.isfinite(x)], _noise_of_none(x)) for x in flows]
    off = [float(np.mean(x <= most)) >= MIN_AT_REST for x, most in known if len(x)]
    return sum(off) / len(off) if off else None


def _noise_of_none(x: NDArray[np.float64]) -> float:
    """Return up to where a number (n,) that is zero at times is off: a load cell or a meter flickers above zero."""
    at_work = x[x > 0]
    return float(np.median(at_work)) / PARTS if len(at_work) else 0.0


def _entity_codes(n: int, owners: Mapping[int, Any]) -> NDArray[np.int64]:
    """Return the number (n,) of each row's entity, by appearance."""
    names: dict[Any, int] = {}
    return np.array([names.setdefault(owners.get(i), len(names)) for i in range(n)], np.int64)


def _own_noise(x: NDArray[np.float64], before: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far a signal (n,) is off the line through the two values before, over the mean of its entity, as
    machines differ; NaN: unknown.

    Args:
        x: (n,) the signal
        before: (n,) row before of the entity, -1: none
        codes: (n,) number of the entity
    """
    steps = x - np.where(before >= 0, x[before], np.nan)
    steps = np.abs(steps - np.where(before >= 0, steps[before], np.nan))
    known, entities = np.isfinite(steps), int(codes.max(initial=-1)) + 1
    totals = np.bincount(codes[known], steps[known], minlength=entities)
    counts = np.bincount(codes[known], minlength=entities)
    means = np.divide(totals, counts, out=np.full(entities, np.nan), where=totals > 0)
    own: NDArray[np.float64] = steps / means[codes]
    return own


class _Moves(NamedTuple):
    """How far a signal is off the line through its neighbours: single values, and means of `SMOOTH` rows.

    values, means: of each place, over the mean of its entity's values, the means with their sign
    rows (places, 3 · SMOOTH): of the sample
    """

    values: NDArray[np.float64]
    means: NDArray[np.float64]
    rows: NDArray[np.int64]


def _moves(x: NDArray[np.float64], codes: NDArray[np.int64], windows_of: dict[bytes, NDArray[np.int64]]) -> _Moves:
    """Return how a signal (n,) moves, at all places at which its entity has three means in a row.

    codes: (n,) number of the entity; windows_of: `rows` of the signals so far, by which of their values are known
    """
    parts, known = [], np.isfinite(x)
    for code in range(int(codes.max(initial=-1)) + 1):
        rows = np.flatnonzero((codes == code) & known)
        if len(rows) < 3 * SMOOTH:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(rows, 3 * SMOOTH)
        means = np.lib.stride_tricks.sliding_window_view(x[rows], SMOOTH).mean(axis=1)
        values = np.abs(np.diff(x[rows], 2))
        usual = float(values.mean()) or 1.0
        smooth = means[2 * SMOOTH :] - 2 * means[SMOOTH:-SMOOTH] + means[: -2 * SMOOTH]
        parts.append(_Moves(values[: len(windows)] / usual, smooth / usual, windows))
    if not parts:
        return _Moves(x[:0], x[:0], np.empty((0, 1), np.int64))
    if (key := known.tobytes()) not in windows_of:
        windows_of[key] = np.concatenate([part.rows for part in parts])
    values, means = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    return _Moves(values, means, windows_of[key])


def _later_half(rows: NDArray[np.bool_], before: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the rows (n,) in the later half of each stretch in a state; rows, before: as of `_share_that_rests`"""
    place = np.zeros(len(rows), np.int64)
    last = dict[int, int]()  # last row of a stretch so far → its first
    for i in np.flatnonzero(rows).tolist():
        first = last.pop(int(before[i]), i)
        place[i], last[i] = 1 if first == i else place[before[i]] + 1, first
    length = {first: int(place[i]) for i, first in last.items()}
    out, begin = np.zeros(len(rows), np.bool_), dict[int, int]()
    for i in np.flatnonzero(rows).tolist():
        begin[i] = i if place[i] == 1 else begin[int(before[i])]
        out[i] = 2 * place[i] > length[begin[i]]
    return out


def _share_that_lives(signals: Sequence[_Moves], rows: NDArray[np.bool_], before: NDArray[np.int64]) -> float:
    """Return the share of signals whose means go on moving in the later half of stretches in a state, by more than
    noise would move them; 0 if too few are known there and elsewhere. rows, before: as of `_share_that_rests`"""
    found, later = [], _later_half(rows, before)
    places = dict[int, tuple[NDArray[np.bool_], NDArray[np.bool_]]]()
    for each in signals:
        if (at := id(each.rows)) not in places:  # the same of signals whose values are known in the same rows
            places[at] = np.all(later[each.rows], axis=1), ~np.any(rows[each.rows], axis=1)
        within, elsewhere = places[at]
        if min(np.count_nonzero(within), np.count_nonzero(elsewhere)) >= MIN_STEPS * SMOOTH:
            means = float(np.median(np.abs(each.means[within]))) * MEAN_OF_MEDIAN
            noise = float(each.values[within].mean()) / math.sqrt(SMOOTH)
            one_way = abs(2.0 * float(np.mean(each.means[within] > 0.0)) - 1.0)  # what cools down is bent to one side
            own = math.sqrt(max(means * means - noise * noise, 0.0)) * (1.0 - one_way)
            usual = float(np.median(np.abs(each.means[elsewhere]))) * MEAN_OF_MEDIAN
            found.append(own >= max(STILL * means, GOES_ON * usual) > 0.0)
    return sum(found) / len(found) if len(found) >= MIN_SIGNALS else 0.0


def _states(column: Column) -> dict[str, NDArray[np.bool_]]:
    """Return the rows (n,) of each state that a column may show, by its value as JSON: of a number zero, and others."""
    x = column.numbers
    if column.kind in ("number", "whole") and column.distinct > 1 and _is_never_below(x):
        others = np.unique(x[x > 0])
        return {"0": x <= 0.0, f"{others[0]:g}" if len(others) == 1 else ABOVE_ZERO: x > 0.0}
    states: dict[Any, NDArray[np.bool_]] = {}
    if column.kind in ("text", "flag") and column.distinct <= MAX_STATES:
        for i, value in column.values.items():
            states.setdefault(value, np.zeros(column.n, np.bool_))[i] = True
    return {_as_json(value): states[value] for value in sorted(states, key=str)}


def _share_that_rests(
    signals: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    rows: NDArray[np.bool_],
    before: NDArray[np.int64],
) -> float:
    """Return the share of the signals whose noise is small within a state, or that have collapsed there, of those that
    are known in it and elsewhere; 0 if these are too few.

    Args:
        signals: (n,) values and (n,) noise of each signal
        rows: (n,) whether a row is in the state
        before: (n,) row before of the entity, -1: none
    """
    earlier = before[before]
    inside, outside = rows & rows[before] & rows[earlier], ~(rows | rows[before] | rows[earlier])
    known = list[bool]()
    for x, noise in signals:
        within, elsewhere = _mean(noise[inside]), _mean(noise[outside])
        if within is not None and elsewhere is not None:
            known.append(within < STILL * elsewhere or _has_collapsed(x[inside], x[outside]))
    return sum(known) / len(known) if len(known) >= MIN_SIGNALS else 0.0


def _has_collapsed(within: NDArray[np.float64], elsewhere: NDArray[np.float64]) -> bool:
    """Return whether the values of a signal in a state, some of which are known, are far below those elsewhere."""
    low, usual = np.nanquantile(elsewhere, [LOW, 0.5])
    return bool(np.nanquantile(within, HIGH) < low and abs(np.nanmedian(within)) < COLLAPSED * usual)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _mean(steps: NDArray[np.float64]) -> float | None:
    """Return the mean of the steps that are known; None if there are too few."""
    known = steps[np.isfinite(steps)]
    return float(known.mean()) if len(known) >= MIN_STEPS else None
