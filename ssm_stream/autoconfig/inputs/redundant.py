"""Columns that hold what others do: copies of the target in another unit and sums with it, copies and sums of each
other, and constant ones, which hold nothing. A second sensor of the same is none: it has an error of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.signals import Narrowed
from ssm_stream.config import Event
from ssm_stream.core.excitation import Collinear, Excitation, measure_excitation
from ssm_stream.ingest.events import Events

Floats = NDArray[np.float64]
MIN_ROWS, MIN_ROWS_EACH = 50, 5
"""Rows, and rows a column, without which a relation may be an accident of the sample."""
MAX_ROWS = 2_000
"""Rows by which a relation is judged, from all over the sample."""
EXACT = 0.002
"""Standard deviation of what a relation leaves, over that of the column: what rounding leaves."""
ROUNDED = 0.5
"""Standard deviation of what a relation leaves, over the root of the sum of squares of its columns' steps: rounding
leaves 0.29 of a step each."""
MAX_TERMS = 4
"""Columns of a relation."""
UNIT = 0.005
"""By which the factors of a sum may differ from 1."""
MIN_VARIED, MIN_VARIED_EACH = 200, 10
"""Events without which a sample does not show what is constant or a copy; and events a feature without which collinear
columns may be an accident of the sample."""
MAX_LISTED = 5
"""Collinear columns that a note names."""


class Relation(NamedTuple):
    """A column as a weighted sum of others, and a constant. terms: path → factor"""

    terms: dict[str, float]
    constant: float

    @property
    def is_sum(self) -> bool:
        """Whether all factors are 1."""
        return len(self.terms) > 1 and all(abs(factor - 1.0) <= UNIT for factor in self.terms.values())

    @property
    def text(self) -> str:
        """`0.556 temp_f − 17.8`."""
        parts = [_term(factor, path) for path, factor in self.terms.items()]
        size = max(map(abs, self.terms.values()))
        parts += [_term(self.constant, "")] if abs(self.constant) > 0.01 * size else []
        text = "".join(parts).strip()
        return text.removeprefix("+ ") if text.startswith("+") else text.replace("− ", "−", 1)


def _term(factor: float, path: str) -> str:
    sign = " − " if factor < 0 else " + "
    number = "" if path and abs(abs(factor) - 1.0) <= UNIT else f"{abs(factor):.3g}"
    return f"{sign}{number}{' ' if number and path else ''}{path}"


def find_relation(y: Floats, columns: dict[str, Floats]) -> Relation | None:
    """Return how a column follows from at most four others in all rows; None if it does not. y: the column (n,)"""
    names = list(columns)
    if not names:
        return None
    table = np.stack([columns[name] for name in names], axis=1)
    rows = np.isfinite(y) & np.isfinite(table).all(axis=1)
    if rows.sum() < max(MIN_ROWS, MIN_ROWS_EACH * len(names)) or not np.std(y[rows]) > 1e-9 * np.abs(y[rows]).max():
        return None
    at = np.flatnonzero(rows)
    at = at[np.linspace(0, len(at) - 1, min(len(at), MAX_ROWS)).astype(int)]
    y, table = y[at], table[at]
    moving = np.std(table, axis=0) > 1e-9 * np.abs(table).max(axis=0)
    chosen = [j for j in range(len(names)) if moving[j]]
    if not chosen:
        return None
    fits = _Fits(y, table)
    if fits.left(chosen) > EXACT:
        return None
    alone = min(chosen, key=lambda j: fits.left([j]))  # a copy before a second sensor
    if fits.left([alone]) <= EXACT:
        chosen = [alone]
    while len(chosen) > 1:
        left = {j: fits.left([k for k in chosen if k != j]) for j in chosen}
        least = min(left, key=lambda j: left[j])
        if left[least] > EXACT:
            break
        chosen.remove(least)
    if len(chosen) > MAX_TERMS:
        return None
    factors = _fit(y, table, chosen)
    return Relation({names[j]: float(f) for j, f in zip(chosen, factors[:-1], strict=True)}, float(factors[-1]))


def _is_rounding(y: Floats, columns: dict[str, Floats], relation: Relation) -> bool:
    """Return whether a relation leaves no more than rounding does: a second sensor of the same leaves its own noise."""
    left, steps = y - relation.constant, [_step(y)]
    for path, factor in relation.terms.items():
        left = left - factor * columns[path]
        steps.append(abs(factor) * _step(columns[path]))
    left = left[np.isfinite(left)]
    rounding = ROUNDED * float(np.linalg.norm(steps))
    return float(np.std(left)) <= max(rounding, EXACT * EXACT * float(np.nanstd(y)))


def _step(column: Floats) -> float:
    """Return the least difference of two values, as of a column's last digit."""
    values = np.unique(column[np.isfinite(column)])
    return float(np.diff(values).min()) if len(values) > 1 else 0.0


def _fit(y: Floats, table: Floats, chosen: Sequence[int]) -> Floats:
    part = table[:, list(chosen)]
    middle, scale = part.mean(axis=0), part.std(axis=0)
    factors = np.linalg.lstsq((part - middle) / scale, y - y.mean(), rcond=None)[0] / scale
    out: Floats = np.append(factors, y.mean() - factors @ middle)
    return out


class _Fits:
    """What a column leaves of another, or several do, by least squares.

    The table is turned into as many rows as it has columns, by which the fits are the same and take a fraction of the
    time: with n columns there are up to n² / 2 of them.
    """

    def __init__(self, y: Floats, table: Floats) -> None:
        scale = table.std(axis=0)
        turned, self._table = np.linalg.qr((table - table.mean(axis=0)) / np.where(scale > 0, scale, 1.0))
        self._y, centred = turned.T @ (y - y.mean()), y - y.mean()
        self._rest, self._whole = np.sum((centred - turned @ self._y) ** 2), np.sum(centred**2)
        self._cut = np.finfo(np.float64).eps * len(y)

    def left(self, chosen: Sequence[int]) -> float:
        """Return the standard deviation of what chosen columns leave, over that of the column."""
        part = self._table[:, list(chosen)]
        residual = self._y - part @ np.linalg.lstsq(part, self._y, rcond=self._cut)[0]
        return float(np.sqrt((residual @ residual + self._rest) / self._whole))


def without_copies(event: Event, events: Events) -> Narrowed:
    """Return the section without features that are a target in another unit, and a note on sums with one.

    events: those of the sample, read by the section
    """
    numbers = {path: events.features[:, j].astype(np.float64) for j, path in enumerate(event.numbers)}
    left_out: dict[str, str] = {}
    notes: list[str] = []
    for path, y in zip(event.targets, events.target.reshape(len(events), -1).T, strict=True):
        for _ in range(len(numbers)):
            relation = find_relation(y, {name: x for name, x in numbers.items() if name not in left_out})
            if relation is None:
                break
            if len(relation.terms) > 1:
                names = ", ".join(f"`{name}`" for name in relation.terms)
                notes.append(
                    f"leak: {path} = {relation.text} in all {len(events):,} rows: one of {names} is computed from the "
                    "target; leave out of the features what is known only after it"
                )
                break
            (copy,) = relation.terms
            left_out[copy] = f"a leak: it is the target in another unit ({path} = {relation.text} in all rows)"
            if not _is_rounding(y, numbers, relation):
                second = "another sensor of the target or computed from it; name it under features if it is a sensor"
                left_out[copy] = f"maybe a leak: {second} ({path} = {relation.text}, but for an error of its own)"
    return Narrowed(_without(event, left_out), left_out, {}, notes)


def without_derived(event: Event, events: Events, never: Collection[str]) -> Narrowed:
    """Return the section without features that are another one in another unit, or the sum of others.

    Args:
        event: with the signals as features
        events: those of the sample, read by the section
        never: paths that are no signals
    """
    left = {path: events.features[:, j].astype(np.float64) for j, path in enumerate(event.numbers) if path not in never}
    left = {path: x for path, x in left.items() if len(np.unique(x[np.isfinite(x)][:1000])) > 2}
    left_out: dict[str, str] = {}
    for path in reversed(list(left)):
        others = {name: x for name, x in left.items() if name != path and name not in left_out}
        relation = find_relation(left[path], others)
        if relation is None or not _is_rounding(left[path], others, relation):
            continue
        if len(relation.terms) == 1 or relation.is_sum:
            what = f"the sum of {' and '.join(relation.terms)}" if relation.is_sum else f"{relation.text}"
            left_out[path] = f"{what} in all rows: it holds nothing of its own, and would explain the others away"
    return Narrowed(_without(event, left_out), left_out, {}, [])


def _without(event: Event, left_out: Collection[str]) -> Event:
    features = [path for path in event.features if path not in left_out]
    return event.model_copy(update={"features": features}) if left_out else event


def without_idle_columns(event: Event, events: Events) -> Narrowed:
    """Return the section without the constant features and the copies of others.

    events: those of the sample, read by the section
    """
    found = _measured(event, events)
    if found is None:
        return Narrowed(event, {}, {}, [])
    left_out = {
        name: f"the same in all {len(events):,} rows of the sample, so no gradient reaches its weight; name it under "
        "features if it will move"
        for name in found.dead
    }
    left_out |= {
        each.column: f"{each.others[0]} in another unit: it adds no direction to the gradient"
        for each in _collinear(found, events)
        if _is_copy(each)
    }
    features = [name for name in event.numbers if name not in left_out]
    if not features and not event.categories and not event.lags and not event.calendar:
        return Narrowed(event, {}, {}, [f"no feature varies in the sample: {', '.join(event.numbers)}"])
    return Narrowed(event.model_copy(update={"features": features}), left_out, {}, [])


def collinear_notes(event: Event, events: Events) -> list[str]:
    """Return a note on the features that others hold, or nearly hold.

    events: those of the sample, read by the section
    """
    found = _measured(event, events)
    columns = [] if found is None else [each for each in _collinear(found, events) if not _is_copy(each)]
    if not columns:
        return []
    listed = "; ".join(_described(each) for each in columns[:MAX_LISTED])
    more = f"; and {len(columns) - MAX_LISTED} more" if len(columns) > MAX_LISTED else ""
    return [
        f"collinear features: {listed}{more}. Predictions do not suffer, but single weights mean little "
        "(ssm-stream verify has the rank)"
    ]


def _measured(event: Event, events: Events) -> Excitation | None:
    names = event.numbers
    if not names or len(events) < MIN_VARIED:
        return None
    return measure_excitation(np.asarray(events.features[:, : len(names)], np.float64), names)


def _collinear(found: Excitation, events: Events) -> tuple[Collinear, ...]:
    return found.collinear if len(events) >= MIN_VARIED_EACH * found.inputs else ()


def _is_copy(column: Collinear) -> bool:
    return column.exact and len(column.others) == 1


def _described(column: Collinear) -> str:
    share = "all" if column.exact else f"{1.0 - column.left:.2%}"
    return f"{column.column} ({share} of its variance is held by {', '.join(column.others)})"
