"""What a sentence needs beyond the message, read from the state that was captured at the alert's event.

Levels that moved: from where to where, and what is noise there. A new value: new in which sense. The steps that
the target is measured in. Of its errors: `errors`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import cycle_shape, detect, error_scale, lifecycle, loop
from ssm_stream.engine.alert_summary.days import DayChange, day_change
from ssm_stream.engine.alert_summary.errors import ErrorChange, Rows, error_change

BITS, GENERATION, NEW_SETTLE, QUIET, REST = 64, 8000.0, 50.0, 1e-3, 60
"""Of the novelty channel: bins of a map, events of a generation, events before the first, floor of the steps, events
after which what was new is known."""
BLOCK, BEYOND = 1000, 0.5
"""Events that wait before they are in its range; part of the range beyond which a value is new whatever is usual."""
SPANS, ASINH_UNIT = 3, 3.0
"""Running means of a signal of the novelty channel; spreads that its asinh is of."""
WEEK_S = 7 * 86_400.0
VANISHED = 1e-12
"""A mean that approaches a constant for ever is this close to it: it is there."""
MIN_SHARE = 0.5
"""Columns whose part in the score is at least so large a share of the largest one's have moved."""
SPREAD_OF_MEAN = (0.1 / 1.9) ** 0.5
"""Standard deviation of the fast mean of white noise, over that of the noise (its rate is 0.1)."""
STILL = 0.1
"""A column whose steps are smaller than this share of the usual ones stands still."""
MAX_CALM = 1.25
"""Factor by which errors may differ here from the usual ones for the target's steps to be compared with the usual."""
MIN_STOOD = 50
"""Events in a row at which a target has stood still that ended an alert about its errors (`core/monitor/rest.hpp`)."""
STEP_DIGITS = 6
"""Significant digits of the smallest step."""


class MovedLevel(NamedTuple):
    """A column whose level, or whose steps (`what`), moved; `steps_here`: for the size of errors here.

    before, after: the level, or the typical size of a step, in the column's unit
    noise: what its values usually vary by from event to event; last: its last value
    """

    column: str
    what: Literal["level", "steps", "steps_here"]
    before: float
    after: float
    noise: float
    last: float


class NewValue(NamedTuple):
    """What is new in the target's values.

    sense: `higher` or `lower` than all, `between` values that it had, unlike those of this `hour` of the week, or (at
        its first there, and in its first week) its `usual` one; steps that are `livelier` or `calmer` than all, or
        `other_steps` than any; `mean`: of its last values; `mean_here`: that, for this hour of the week; `mean_off`:
        the same, in its first week
    events: number of events that it is compared with; latest: those after them, its own the last
    bound: what no value of those is beyond, or what is usual; NaN: none
    size: to which the bound is exact
    """

    sense: Literal[
        "higher",
        "lower",
        "between",
        "hour",
        "usual",
        "livelier",
        "calmer",
        "other_steps",
        "mean",
        "mean_here",
        "mean_off",
    ]
    events: int
    latest: int
    bound: float
    size: float


class Members(NamedTuple):
    """The entities of a fleet alert.

    targets: that each one's last report was about, the highest score first, as in the message; None: not known
    partly: some columns are on some entities only, so that the pool may have more than any of its targets
    last: whose event the message has the values of; None: not known
    """

    targets: Sequence[str | None]
    partly: bool
    last: str | None = None


class Evidence(NamedTuple):
    """What is known of an alert's cause.

    moved: the columns whose levels moved most, the first the most; cycle: events of a cycle of the target
    stopped: other columns that stopped with it; still: in how many entities of how many it stands still; zeros: few
    step: smallest that a target of the pool has made: of the digits that it is measured to; 0: not known
    ended: other targets of an episode that is over, and what ended each one's part
    members: of a fleet alert; days: of a target that creeps from day to day, or is off for hours
    calm: normal events that ended an episode, 0: not known; None: the events that the message counts are not those of
        its times, as where targets of an entity joined one after another
    reported: of several targets, those that are reported at the alert's event; None: all that it lists. What it lists
        of the others is of the event at which they were
    stopped_still: the target stands still for so long that it is over, though its errors were not as usual before
    """

    moved: Sequence[MovedLevel] = ()
    new: NewValue | None = None
    errors: ErrorChange | None = None
    cycle: float | None = None
    stopped: int = 0
    still: tuple[int, int] = (0, 0)
    step: float = 0.0
    ended: Sequence[tuple[str, str]] = ()
    members: Members | None = None
    calm: int | None = 0
    stopped_still: bool = False
    days: DayChange | None = None
    reported: Sequence[str] | None = None


NO_EVIDENCE = Evidence()


def read_evidence(
    kind: str, channel: str | None, rows: Rows, columns: Sequence[str], shifts: NDArray[np.float64] | None
) -> Evidence:
    """Return what the captured state shows.

    Args:
        kind, channel: of the alert
        rows: the captured state
        columns: names of the columns that the level channel watches (D,), the target last
        shifts: signed parts of the columns, then of their steps, in the level channel's score (2 D,); None: unknown
    """
    pool, episodes = rows("pool_error_scale.number"), rows("lifecycle.number")
    # Without the rounding of differences of large values.
    step = 0.0 if pool is None else float(f"{pool[error_scale.STEP]:.{STEP_DIGITS}g}")
    calm = 0 if episodes is None else int(episodes[lifecycle.KINDS.index(kind), lifecycle.CALM])
    found = Evidence(step=step, calm=calm)
    if kind == "drift":
        days = day_change(rows)
        return found._replace(errors=error_change(rows), stopped_still=_stopped_still(rows), days=days)
    if channel == "levels" and shifts is not None:
        return found._replace(moved=_moved_levels(rows, columns, shifts))
    if channel == "novelty":
        return found._replace(new=_new_value(rows))
    if channel == "shape":
        return found._replace(cycle=_cycle(rows))
    return found


def _stopped_still(rows: Rows) -> bool:
    """Return whether the target rests for so long that it is over, whatever its errors were like before."""
    rest, number = rows("error_scale.rest"), rows("detector.number")
    if rest is None or number is None:
        return False
    return abs(float(rest[error_scale.STANDING])) > MIN_STOOD and not detect.is_calm(number)


def _moved_levels(rows: Rows, columns: Sequence[str], shifts: NDArray[np.float64]) -> list[MovedLevel]:
    """Return the columns with the largest parts in the score, each once."""
    arrays = [rows(f"levels.{name}") for name in ("origin", "last", "mean", "base", "rms")]
    found: dict[str, MovedLevel] = {}
    size = np.abs(shifts)
    for i in np.argsort(-size, kind="stable").tolist():
        column = columns[i % len(columns)]
        if not size[i] or size[i] < MIN_SHARE * size.max() or any(array is None for array in arrays):
            break
        if column not in found:
            origin, last, mean, base, rms = (np.asarray(array, np.float64) for array in arrays)
            found[column] = moved = _moved(column, i, origin, last, (mean, base, rms))
            if i == len(size) - 1:
                found[column] = _in_context(moved, rows("error_scale.number"))
    return list(found.values())


def _in_context(steps: MovedLevel, scale: NDArray[np.float64] | None) -> MovedLevel:
    """Return how the target's steps moved, in its unit. steps: as they are judged, by the size that errors have here"""
    if scale is None or not (scale[error_scale.SIZE] > 0.0 and scale[error_scale.LAST] > 0.0 and steps.before > 0.0):
        return steps
    level, last = float(scale[error_scale.LEVEL]), math.log(scale[error_scale.LAST])
    share = min(math.sqrt(2.0) * math.exp(min(max(level, -700.0), 700.0)) / steps.before, 1.0) ** 2
    calm = 1.0 / math.sqrt(1.0 - share + share * math.exp(2.0 * min(max(last - level, -10.0), 10.0)))
    after = steps.after / calm
    plain = 1.0 / MAX_CALM <= calm <= MAX_CALM or after < STILL * steps.before
    return steps._replace(after=after, what="steps") if plain else steps._replace(what="steps_here")


def _moved(
    column: str,
    i: int,
    origin: NDArray[np.float64],
    last: NDArray[np.float64],
    levels: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> MovedLevel:
    """Return what moved in column i of 2 D. levels: fast means, baselines, rms of their gaps (2 D,)"""
    mean, base = (x if abs(x) >= VANISHED else 0.0 for x in (float(levels[0][i]), float(levels[1][i])))
    D = len(origin)
    j = i % D
    start, value, step = float(origin[j]), float(last[j]), float(levels[1][D + j]) ** 2
    # White noise: the fast mean's spread says how large it is; its steps do where values follow each other.
    noise = min(float(levels[2][j]) / SPREAD_OF_MEAN, step)
    if i >= D:  # the mean of √|step|
        return MovedLevel(column, "steps", base * abs(base), mean * abs(mean), noise, start + value)
    # The fast mean has gone a part of the way only, and is bounded; a last value beyond all noise has gone all of it.
    gap = value - base
    beyond = gap * (mean - base) > 0.0 and abs(gap) > max(2.0 * noise, abs(mean - base))
    return MovedLevel(column, "level", start + base, start + (value if beyond else mean), noise, start + value)


def _cycle(rows: Rows) -> float | None:
    """Return how many events a cycle of the target has."""
    number = rows("shape.number")
    if number is None:
        return None
    return float(number[cycle_shape.PERIOD] * number[cycle_shape.EVERY]) or None


def _new_value(rows: Rows) -> NewValue | None:
    """Return in which sense the target's value is new; None if the state no longer shows it."""
    names = ("number", "smooth", "grid", "visited", "cell", "cell_events", "range")
    arrays = [rows(f"novelty.{name}") for name in names]
    if any(array is None for array in arrays):
        return None
    number, smooth, grid, visited, cell, cell_events, ranges = (np.asarray(array) for array in arrays)
    seen, centre, spread, age, _, activity = (float(x) for x in number[:6])
    clock = rows("clock.number")
    young = clock is not None and seen * float(clock[loop.GAP]) < WEEK_S  # no hour of the week has come again yet
    # The latest values wait until they count as known: which of them was how high is not known.
    latest = int(age) % REST
    remembered = int(age + (GENERATION if seen - NEW_SETTLE > GENERATION else 0.0))
    events = remembered - latest
    spread = max(spread, 1e-9 * abs(centre), 1e-300)
    if seen - NEW_SETTLE > GENERATION and (far := _beyond(float(smooth[0, 1]), ranges)):
        side, end = far
        waiting = int(age) % BLOCK
        size = spread * float(np.spacing(np.float32(end)))
        return NewValue("higher" if side > 0 else "lower", remembered - waiting, waiting, centre + spread * end, size)
    places = [*smooth.ravel().tolist(), math.log(max(activity, 0.0) + QUIET)]
    views = [_view(x, *grid[c].tolist(), *visited[c, :2].tolist()) for c, x in enumerate(places)]
    # √novelty of the signals, as the score has it: value, asinh, both of this hour, steps.
    new = [sum(math.sqrt(view[0]) for view in views[3 * i : 3 * i + 3]) for i in range(4)]
    new.append(3.0 * math.sqrt(views[-1][0]))
    best = int(np.argmax(new))
    if new[best] == 0.0:
        return None
    if best == 4:
        steps: Literal["calmer", "other_steps", "livelier"] = ("other_steps", "livelier", "calmer")[views[-1][1]]
        return NewValue(steps, events, latest, math.nan, 0.0)
    width = float(grid[0, 1]) * spread
    if best in (2, 3) and views[2 * SPANS][0] == views[3 * SPANS][0] == 0.0:
        return NewValue("mean_off" if young else "mean_here", events, latest, math.nan, 0.0)
    if best in (2, 3):
        usual = centre + spread * (float(smooth[0, 0]) - float(smooth[2, 0]))  # the value, and minus the usual one
        first = (cell_events == 1) & np.isclose(cell[:, 0], smooth[0, 0], rtol=1e-6, atol=0.0)  # it is its hour's first
        return NewValue("usual" if young or first.any() else "hour", events, latest, usual, width)
    # The value, and its asinh, whose bins are finer near the centre.
    (near, side, bound), (bent_near, bent_side, bent_bound) = views[0], views[SPANS]
    if near == bent_near == 0.0:
        return NewValue("mean", events, latest, math.nan, 0.0)
    if not (side or bent_side):
        return NewValue("between", events, latest, math.nan, 0.0)
    side = side or bent_side
    bounds = [x for x in (bound, ASINH_UNIT * math.sinh(min(max(bent_bound, -500.0), 500.0))) if not math.isnan(x)]
    nearest = min(bounds) if side > 0 else max(bounds)
    return NewValue("higher" if side > 0 else "lower", events, latest, centre + spread * nearest, width)


def _beyond(x: float, ranges: NDArray[Any]) -> tuple[int, float] | None:
    """Return on which side x is beyond the range by more than half of it, and the range's end there; None: it is not.

    ranges: (3, 2) of `core/novelty.py`, of which the last one waits
    """
    least, largest = float(ranges[:2, 0].min()), float(ranges[:2, 1].max())
    if max(x - largest, least - x) <= BEYOND * (largest - least):
        return None
    return (1, largest) if x > largest else (-1, least)


def _view(x: float, low: float, width: float, now: int, last: int) -> tuple[float, int, float]:
    """Return the distance of x to the nearest visited bin over the visited range, its side, and the range's near edge.

    low, width: lowest edge and width of the bins; now, last: bitmaps of this generation and of the last
    side: 1 above all visited bins, −1 below, 0 among them
    """
    known = int(now) | int(last)
    if not known or not width > 0.0:
        return 0.0, 0, math.nan
    at = (x - low) / width
    if not 0.0 <= at < BITS or known >> int(at) & 1:
        return 0.0, 0, math.nan
    lowest, highest = (known & -known).bit_length() - 1, known.bit_length() - 1
    span = highest - lowest + 1.0
    if at > highest:
        return min((at - highest - 1.0) / span, 1.0), 1, low + (highest + 1) * width
    if at < lowest:
        return min((lowest - at) / span, 1.0), -1, low + lowest * width
    below, above = known & ((1 << int(at)) - 1), known >> int(at) + 1
    near = min(at - below.bit_length(), int(at) + (above & -above).bit_length() - at)
    return min(max(near, 0.0) / span, 1.0), 0, math.nan
