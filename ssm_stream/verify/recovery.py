"""Part (c) of `verify`: is the error back soon after a change that is injected into this recording?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table, at_most
from ssm_stream.verify.changes import Change, injected_changes, moments, since_change
from ssm_stream.verify.record import Frozen
from ssm_stream.verify.reference import Array
from ssm_stream.verify.replay import Replay
from ssm_stream.verify.words import Words

WINDOW = 50
"""Events of the rolling mean absolute error."""
BACK = 1.25
"""The error is back when it is at most this multiple of the level to return to."""
LEARNING = 100
"""Labelled events that a new entity has, by default, before it may alert (`model.warmup`)."""
SOON = WINDOW + LEARNING
"""Events of an entity after the change within which the error must be back: those that empty the window, and those in
which a new entity learns. A learner that needs more would have done better to forget everything."""
MIN_AFTER = SOON + WINDOW
"""Labelled events after the middle without which recovery cannot be judged."""
CHANGES = {"coefficient": "coefficient change", "offset": "sensor offset", "noise": "noise"}
CHECK = "verify recovery: events after the injected"


class Recovery(NamedTuple):
    """What the error did after a change. Rolling errors are over the last `WINDOW` events, in usual errors of each
    entity, pooled over entities.

    since (k,): events since the change; changed, clean, level (k,): rolling errors with and without the change, and
    the level to return to; peak: largest multiple of the level; above: share of the time after the change with an error
    above `BACK` times the level; events: see `_events_until_back`; always: mean multiple of the level, over the events
    in which the recovery is judged, of a model that had the change from the first event
    """

    since: Array
    changed: Array
    clean: Array
    level: Array
    peak: float
    above: float
    events: float
    always: float


class Outcome(NamedTuple):
    """The judgement of one change. check: None if the recording cannot show the recovery; why: reason, in words."""

    name: str
    check: Check | None
    why: str


def recovery_section(
    run: Replay, frozen: Frozen, clean: Array, words: Words, advance: Callable[[float], None]
) -> tuple[Section, list[Outcome], list[dict[str, Any]]]:
    """Coefficient change, sensor offset and noise, each injected into a copy of the recording at every life's middle.

    frozen: of the uninjected run, for what each input moves; clean (n,): the predictions of the uninjected run;
    advance: takes the fraction done
    """
    remaining = int(np.median(run.labelled - run.middle))
    section = Section(words("recovery.title"))
    figures: list[dict[str, Any]] = []
    outcomes: list[Outcome] = []
    rows: list[list[Cell]] = []
    error = np.abs(run.y - clean)
    for i, change in enumerate(injected_changes(run, frozen, error, SOON)):
        short = remaining < MIN_AFTER
        found = None if short or change.why else _recover(run, change, clean, remaining)
        outcome = _judge(change, found, remaining, words)
        outcomes.append(outcome)
        name, what = words(f"change.{change.name}.name"), words(change.text, **change.values)
        row: dict[str, Any] = {
            "change": CHANGES[change.name], "what": what, "judged": outcome.check is not None,
            "met": None if outcome.check is None else outcome.check.ok, "why": outcome.why, "bar": SOON,
            "remaining": remaining, "events": None,
        }  # fmt: skip
        if outcome.check is not None:
            section.checks.append(outcome.check)
        if found is None:
            rows.append([f"{name}: {what}", "–", "–", "–", "–", words("recovery.unjudged")])
        else:
            back = math.isfinite(found.events)
            row |= {
                "events": int(found.events) if back else None, "peak_over_level": found.peak,
                "share_above": found.above, "always_over_level": None if change.name == "noise" else found.always,
            }  # fmt: skip
            events: Cell = int(found.events) if back else words("recovery.not_within", events=f"{remaining:,}")
            events = "–" if outcome.check is None else events
            result = "unjudged" if outcome.check is None else "met" if outcome.check.ok else "missed"
            always: Cell = "–" if change.name == "noise" else found.always
            cells: list[Cell] = [found.peak, f"{found.above:.1%}", always, events, words(f"recovery.{result}")]
            rows.append([f"{name}: {what}", *cells])
            section.charts.append(_chart(name, found, words))
        figures.append(row)
        advance((i + 1) / len(CHANGES))
    section.text = [*_text(run, remaining, words), *_results(outcomes, words)]
    columns = [words(f"recovery.column.{name}") for name in ("change", "peak", "above", "always", "events", "result")]
    note = words("recovery.note", back=f"{BACK:g}", window=WINDOW, soon=SOON, remaining=f"{remaining:,}")
    section.tables.append(Table(words("recovery.table"), columns, rows, note))
    return section, outcomes, figures


def _judge(change: Change, found: Recovery | None, remaining: int, words: Words) -> Outcome:
    """Hold the recovery to the bar, or return the reason for which the recording cannot show it."""
    if found is None:
        why = "short" if remaining < MIN_AFTER else change.why
        return Outcome(change.name, None, words(f"why.{why}", need=MIN_AFTER, remaining=remaining, **change.values))
    if math.isnan(found.events):
        why = "why.late" if found.peak > BACK else "why.unmoved"
        return Outcome(change.name, None, words(why, peak=f"{found.peak:.2f}", back=f"{BACK:g}"))
    return Outcome(change.name, at_most(f"{CHECK} {CHANGES[change.name]}", found.events, SOON), "")


def _recover(run: Replay, change: Change, clean: Array, remaining: int) -> Recovery:
    since = since_change(run)
    error = np.abs(run.y - clean)
    usual = moments(run, error, since < 0)[0]
    use = ~np.isnan(run.y) & (run.seen > 0) & (since >= -remaining) & (since < remaining) & (usual > 0)[run.lives]
    at, part = since[use] + remaining, 1.0 / usual[run.lives[use]]

    def rolling(error: Array) -> Array:
        """Mean over the last WINDOW indices of all lives' errors; index 0 is `remaining` events before the change."""
        total = np.cumsum(np.bincount(at, error[use] * part, 2 * remaining))
        count = np.cumsum(np.bincount(at, minlength=2 * remaining))
        total[WINDOW:] -= total[:-WINDOW].copy()
        count[WINDOW:] -= count[:-WINDOW].copy()
        mean: Array = np.maximum(total, 0.0) / np.maximum(count, 1)
        return mean

    def changed_error(u: Array, y: Array) -> Array:
        return rolling(np.abs(y - run.production(u, y)))

    u, y = change.always
    changed, same, always = changed_error(change.u, change.y), rolling(error), changed_error(u, y)
    level = always if change.name == "noise" else rolling(np.where(since >= 0, change.gain * error, error))
    before = float(np.median(same[:remaining]))
    level = np.maximum(level, np.where(np.arange(2 * remaining) < remaining, before, change.gain * before))
    multiple = _over(changed[remaining:], level[remaining:])
    back = multiple <= BACK
    index = np.arange(-remaining, remaining, dtype=np.float64) + 1
    soon = slice(remaining + WINDOW, remaining + MIN_AFTER)
    return Recovery(
        index, changed, same, level, float(multiple.max()), float(1.0 - back.mean()),
        _events_until_back(back, change.name == "noise"), float(_over(always[soon], level[soon]).mean()),
    )  # fmt: skip


def _over(error: Array, level: Array) -> Array:
    """(k,) multiples of the level; 1 where both are 0, as on a target that is predicted exactly."""
    return np.divide(error, level, out=np.where(error > 0.0, np.inf, 1.0), where=level > 0.0)


def _events_until_back(back: NDArray[np.bool_], stays: bool) -> float:
    """Events after which the error is back and stays for `WINDOW` events; NaN if it never rose in time to be judged.

    They count from the change, or from where it shows if that is later than `WINDOW` events after it.

    back (k,): by events since the change, whether the error is at most `BACK` times its level
    stays: whether the change stays, so that an error which never rose is back after 0 events
    """
    calm = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(back, WINDOW).all(1))
    rose = np.flatnonzero(~back)
    first = 0 if stays else int(rose[0]) if len(rose) else len(back)
    origin = first if first >= WINDOW else 0
    if origin + MIN_AFTER > len(back):
        return math.nan
    calm = calm[calm >= first]
    return float(calm[0] - origin) if len(calm) else math.inf


def _chart(name: str, found: Recovery, words: Words) -> Chart:
    """Rolling errors from shortly before the change until well after the recovery."""
    reach = 6 * WINDOW if not math.isfinite(found.events) else max(6 * WINDOW, 2 * found.events)
    shown = np.flatnonzero((found.since >= -2 * WINDOW) & (found.since <= reach))
    shown = shown[:: max(1, len(shown) // 400)]
    x = found.since[shown].tolist()
    after = shown[found.since[shown] > 0]
    series = [
        Series(words("recovery.injected"), x, found.changed[shown].tolist()),
        Series(words("recovery.uninjected"), x, found.clean[shown].tolist()),
        Series(words("recovery.back"), found.since[after].tolist(), (BACK * found.level[after]).tolist(), dashed=True),
    ]
    title = words("recovery.chart", change=name, window=WINDOW)
    return Chart(title, words("recovery.x"), words("recovery.y"), series)


def _text(run: Replay, remaining: int, words: Words) -> list[str]:
    entities = len(run.names)
    pooled = words("recovery.pooled", entities=f"{entities:,}") if entities > 1 else ""
    numbers = {"window": WINDOW, "back": f"{BACK:g}", "soon": SOON, "learning": LEARNING}
    return [
        words("recovery.text.how", remaining=f"{remaining:,}", pooled=pooled, **numbers),
        words("recovery.text.bar", **numbers),
    ]


def _results(outcomes: list[Outcome], words: Words) -> list[str]:
    """A sentence for those that are missed, one for each that is not judged, or one for all."""
    named = {outcome.name: words(f"change.{outcome.name}.name") for outcome in outcomes}
    judged = [(outcome.name, outcome.check) for outcome in outcomes if outcome.check is not None]
    missed = [named[name] for name, check in judged if not check.ok]
    met = [named[name] for name, check in judged if check.ok]
    lines = [words("recovery.some_missed", changes=words.listed(missed), soon=SOON)] if missed else []
    lines += [words("recovery.some_met", changes=words.listed(met), soon=SOON)] if met else []
    return lines + [words("recovery.one_unjudged", change=named[o.name], why=o.why) for o in outcomes if o.why]
