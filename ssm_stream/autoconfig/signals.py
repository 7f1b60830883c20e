"""Signals of a sample as inputs and targets: symptoms are no inputs of symptoms, or each signal is a target."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import name_words, own_reason, word_set
from ssm_stream.autoconfig.drivers import MIN_DEVIATION, MIN_GAIN, MIN_ROWS, Drivers, Sample, find_drivers, spans_days
from ssm_stream.autoconfig.feature_selection import MAX_CATEGORY_VALUES, MAX_FLEET_VALUES
from ssm_stream.autoconfig.roles import (
    OUTCOME,
    RARE_FAILURES,
    SAME_FAILURES,
    counts_failures,
    is_outcome,
    is_output,
    role_of,
)
from ssm_stream.config import Alerts, Anomaly, Config, ConfigError, Drift, Event, Source
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize

SAME = "the same in all rows"
MAX_MODES = 8
"""Values of a column of whole numbers, or of decimals that are set, that is a mode, no signal."""
MIN_STAY, MIN_LONG, MIN_STAYS = 20, 0.9, 2
"""Rows for which a decimal that is set stays as it is, in this share of its stays at least, and stays at each of its
values in the sample."""
UNEVEN, MAX_DIGITS = 1.5, 7
"""Longest step between neighbours of its values over the shortest; decimals from which numbers have no grid."""
MIN_LASTING = 0.5
"""Share of the rows off the most frequent value that the same value follows where values are modes: a mode lasts, and a
count from zero on (rejects) is another in each row."""
MIN_STRETCHES, MIN_JUMP = 4, 0.6
"""Stretches of rows in which each value comes, in the mean, and length of the changes in mean distances of two values,
for whole numbers of more values to be the names of things, such as tools: the next is any other, and no neighbour."""
MIN_BY_NAME, MAX_BY_SIZE = 0.1, 0.5
"""Share of some other column that such numbers explain as names, and the share of that at most that they explain as
sizes: a level of a valve, a setpoint and a count explain what follows them by their size."""
THINGS = word_set(
    "mould mold tool die recipe program programme product article material grade sku variant "
    "programm rezept artikel produkt werkzeug sorte"
)
"""Words for what modes that are whole numbers name: each machine has its own level with each."""
MAX_LISTED = 3
"""Drivers that a reason names."""
MIN_LISTED, MIN_APART = 0.05, 0.05
"""Share that drivers explain of a signal for a reason to name it; and by which they explain less of it than with hour
and categories for both to be named."""
MAX_COST = 0.05
"""Share by which errors may grow without a symptom as an input."""
MAX_JUDGED, MAX_TRIED = 8_000, 12
"""Events by which that is judged, and symptoms that are tried one by one."""


class Narrowed(NamedTuple):
    """event: with the inputs that are left; left_out: path → why; why: setting → reason; notes: for the user;
    followed: signal → share that the inputs explain of what the hour leaves, where every signal is a target"""

    event: Event
    left_out: dict[str, str]
    why: dict[str, str]
    notes: list[str]
    followed: Mapping[str, float] = MappingProxyType({})


def without_outcomes(event: Event, _: Events) -> Narrowed:
    """Return the section without the inputs that are named like a result."""
    left_out = {path: OUTCOME for path in event.columns if is_outcome(path)}
    if not left_out:
        return Narrowed(event, {}, {}, [])
    features = [path for path in event.numbers if path not in left_out]
    categories = [path for path in event.categories if path not in left_out]
    return Narrowed(_changed(event, features=features, categories=categories), left_out, {}, [])


def without_symptoms(event: Event, events: Events, given: Collection[str] = ()) -> Narrowed:
    """Return the section without the features that only follow the same causes as the targets.

    Args:
        event: the section
        events: those of the sample, read by it
        given: paths of commands and of what all machines share, which are no symptoms
    """
    targets = event.targets
    sample, _ = _sample(event, events)
    columns = events.target.reshape(len(events), -1).T
    signals = sample.signals | dict(zip(targets, columns, strict=True))
    drivers = find_drivers(sample._replace(signals=signals), targets, given)
    symptoms = [] if drivers is None else _without_cost(event, events, drivers.symptoms())
    if drivers is None or not symptoms:
        return Narrowed(event, {}, {}, [])
    which = ", ".join(targets) if len(targets) <= MAX_LISTED else "the targets"
    drivers_text = _listed(drivers.chosen)
    left_out = {
        path: f"follows {drivers_text} ({_shares(drivers, path)}) and adds next to nothing to them for {which}: "
        "probably another symptom of the same causes, which as an input would explain faults away"
        for path in symptoms
    }
    features = [path for path in event.numbers if path not in left_out]
    note = f"left out of the inputs, so not watched: {', '.join(symptoms)}; --target all watches every signal by itself"
    return Narrowed(_changed(event, features=features), left_out, {}, [note])


def _shares(drivers: Drivers, path: str) -> str:
    """Return how much of a signal its drivers explain; of that of hour and categories apart, where these do too."""
    followed, added = drivers.followed[path], drivers.added[path][1]
    apart = f"{added:.0%} of what hour and categories leave, {followed:.0%} with them"
    return apart if followed - added >= MIN_APART else f"{followed:.0%}"


def _without_cost(event: Event, events: Events, symptoms: list[str]) -> list[str]:
    """Return the symptoms without which the predictions of the sample are hardly worse: all of them, or one by one."""
    if not symptoms:
        return []
    most = (1.0 + MAX_COST) * _error(event, events, [])
    if _error(event, events, symptoms) <= most:
        return symptoms
    out: list[str] = []
    for path in symptoms[:MAX_TRIED]:
        if _error(event, events, [*out, path]) <= most:
            out.append(path)
    return out


def _error(event: Event, events: Events, without: list[str]) -> float:
    """Return the mean error of the engine's predictions without some features, over the target's mean deviation."""
    kept = [j for j, path in enumerate(event.numbers) if path not in without]
    texts = list(range(len(event.numbers), events.features.shape[1]))
    some = events.take(np.arange(min(len(events), MAX_JUDGED)))
    some = replace(some, features=np.ascontiguousarray(some.features[:, kept + texts]))
    section = _changed(event, features=[event.numbers[j] for j in kept])
    off = Alerts(anomaly=Anomaly(enabled=False), drift=Drift(enabled=False))
    engine = Engine(Config(source=Source(brokers="-", topic="-"), event=section, alerts=off))
    predicted = engine.process(some)[0].yhat.reshape(len(some), -1)
    y = some.target.reshape(len(some), -1)
    errors = np.abs(predicted - y)[len(some) // 4 :]
    usual = np.nanmean(np.abs(y - np.nanmean(y, 0)), 0)
    return float(np.nansum(np.nanmean(errors, 0) / np.maximum(usual, 1e-300)))


def as_targets(event: Event, events: Events, never: Mapping[str, str], given: Mapping[str, str]) -> Narrowed:
    """Return the section with every signal as a target (`target: all`), and the drivers as inputs.

    Args:
        event: with all columns as features and categories, and a target that no event has
        events: those of the sample, read by the section
        never: path → why, of counters and parts of the calendar, which are no signals
        given: path → why, of commands and of what all machines share, which are inputs only

    Raises:
        ConfigError: there are fewer than two signals.
    """
    sample, settings = _sample(event, events)
    context = [path for path in sample.signals if path in given and path not in never]
    signals = [path for path in sample.signals if path not in never and path not in given]
    if len(signals) < 2:
        found = ", ".join(signals) or "none"
        raise ConfigError(
            f"--target all: found {len(signals)} signals ({found}), and needs two: numbers, but flags, counters, parts "
            f"of the calendar and modes, which are whole numbers of at most {MAX_MODES} values, are set, or name "
            "things, and but commands and what all machines share. Name targets with --target"
        )
    left_out = {path: never[path] for path in event.numbers if path in never}
    left_out |= {path: SAME for path, count in settings.items() if count < 2 and path not in never}
    left_out |= {path: OUTCOME for path in event.columns if is_outcome(path) and path not in sample.signals}
    for j, path in enumerate(event.numbers):
        if path in (*signals, *given) or path in {*settings} - {*left_out} or not counts_failures(path):
            continue
        most = np.nanmax(events.features[:, j], initial=0.0)
        if path not in left_out:
            left_out[path] = RARE_FAILURES.format(path, most)
        elif left_out[path].startswith(SAME):
            left_out[path] = SAME_FAILURES.format(left_out[path], path, most)
    categories = [path for path in (*event.categories, *settings) if path not in never and path not in left_out]
    drivers = find_drivers(
        sample._replace(signals={path: sample.signals[path] for path in (*signals, *context)}),
        given=[*context, *settings],
    )
    taken = [*["the categories"][: len(sample.categories)], *["the hour of the day"][: spans_days(sample)]]
    beyond = f" beyond {' and '.join(taken)}" if taken else ""
    notes, inputs = _context_notes(context, given), None if drivers is None else drivers.chosen
    why = {"target": "every signal is watched: predicted from its own past, the calendar and the inputs"}
    if drivers is None:
        reason = (
            f"fewer than {MIN_ROWS} rows, too few to distinguish drivers from symptoms"
            if len(events) < MIN_ROWS
            else "no drivers to distinguish from symptoms: of all signals, or all but one, the hour of the day "
            "explains nearly everything, the categories explain all, or they hardly move"
        )
        notes.append(f"{reason}: each signal is predicted from all the others; name the drivers in event.inputs")
        able = [path for path in signals if not is_outcome(path)]
        inputs = [*able, *context] if context or len(able) < len(signals) else None
    elif inputs or context:
        inputs = list(dict.fromkeys((*context, *(inputs or []))))
        shares = sorted(drivers.added.items(), key=lambda item: -item[1][0])
        follow = _listed([f"{path} {share:.0%}" for path, (share, _) in shares if share >= MIN_LISTED])
        explains = f"{'they explain' if len(inputs) > 1 else 'it explains'} the others{beyond} ({follow})"
        why["inputs"] = f"{explains}. The others are no inputs: as such they would explain each other's faults away"
        if not follow:
            why["inputs"] = "what is known of all of them at each time"
    else:
        unexplained = f"no signal explains a part of another{beyond} and shows that it drives it"
        why["inputs"] = f"{unexplained}: each is predicted from its own past and the calendar"
    own = {
        path: (settings[path], _of_machine(events.features[:, j], sample.groups))
        for j, path in enumerate(event.numbers)
        if path in settings and path in categories
    }
    if categories != event.categories:
        many = {path: (fleet, most) for path, (fleet, most) in own.items() if most and fleet > MAX_CATEGORY_VALUES}
        why["categories"] = own_reason(many) if many else "text, flags and modes with few values"
    changed = _changed(event, target="all", features=signals, categories=categories, inputs=inputs)
    return Narrowed(changed, left_out, why, notes, {} if drivers is None else drivers.beyond_hour)


def suggested_target(narrowed: Narrowed, free: Sequence[str]) -> str:
    """Return the signal to suggest as the target: of those that are no drivers, the one that the inputs explain most;
    what a machine is there for before others, and what a controller moves after them.

    What is a sum or a copy of others is no signal of its own, and none to suggest.

    Args:
        narrowed: the section with every signal as a target
        free: columns that vary freely, the best guess first
    """
    signals = narrowed.event.targets
    shares = {path: share for path, share in narrowed.followed.items() if path in signals}
    usable = [path for path in dict.fromkeys((*free, *signals)) if path in signals]
    followed = [path for path in shares if shares[path] >= MIN_GAIN]
    for some in ([path for path in usable if is_output(path)], followed, usable):
        for roles in (("response", "unknown"), ("actuator",)):
            if able := [path for path in some if role_of(path, signals) in roles]:
                return max(able, key=lambda path: shares.get(path, 0.0))
    return usable[0]


def _context_notes(context: Sequence[str], given: Mapping[str, str]) -> list[str]:
    """Return a note for each reason by which signals are inputs only. given: path → reason"""
    by_reason = dict[str, list[str]]()
    for path in context:
        by_reason.setdefault(given[path], []).append(path)
    return [
        f"{', '.join(f'`{path}`' for path in paths)}: {why}; input of all signals, no target"
        for why, paths in by_reason.items()
    ]


def _changed(event: Event, **settings: object) -> Event:
    return Event.model_validate({**event.model_dump(), **settings})


def _sample(event: Event, events: Events) -> tuple[Sample, dict[str, int]]:
    """Return the sample of the signals among the features; and for flags and modes, the number of their values."""
    numbers = event.numbers
    entity = factorize(events.entity, {})
    order = np.argsort(entity, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(entity[order])) + 1)
    signals: dict[str, NDArray[np.float64]] = {}
    settings: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    texts = enumerate(event.categories, len(numbers))
    named = {path: events.features[:, j] for j, path in texts if not is_outcome(path)}
    for j, path in enumerate(numbers):
        x = events.features[:, j]
        values = np.unique(x[np.isfinite(x)])
        few = len(values) <= MAX_MODES and bool((values == np.round(values)).all())
        is_mode = len(values) <= 2 or (few and not _is_count(x, groups)) or _is_set(x, values, groups)
        if is_mode and (is_outcome(path) or (len(values) > 1 and counts_failures(path))):
            continue  # neither a signal nor an input
        is_thing = bool(THINGS & {*name_words(path.rpartition(".")[2])})
        are_names = _are_names(x, values, events.features[:, : len(numbers)], groups)
        are_names |= is_thing and _of_machine(x, groups) > 0
        if are_names or (is_mode and is_thing):
            named[path] = x
        if is_mode or are_names:
            settings[path], counts[path] = x, len(values)
        else:
            signals[path] = x
    codes = {path: np.unique(x, return_inverse=True)[1].astype(np.int64) for path, x in {**named, **settings}.items()}
    return Sample(signals, groups, events.ts, [*codes.values()], [codes[path] for path in named]), counts


def _of_machine(x: NDArray[np.float64], groups: Sequence[NDArray[np.int64]]) -> int:
    """Return how many of many whole numbers one machine has at most, if few, as of the programs of a fleet; else 0."""
    values = np.unique(x[np.isfinite(x)])
    if not MAX_MODES < len(values) <= MAX_FLEET_VALUES or not bool((values == np.round(values)).all()):
        return 0
    own = [len(np.unique(x[rows[np.isfinite(x[rows])]])) for rows in groups]
    several = np.count_nonzero(np.array(own) > 1)
    return max(own) if len(own) > 1 and max(own) <= MAX_CATEGORY_VALUES and 2 * several >= len(own) else 0


def _is_count(x: NDArray[np.float64], groups: Sequence[NDArray[np.int64]]) -> bool:
    """Return whether few whole numbers are counts, not modes: from zero on, and without a state that lasts."""
    known, n = np.isfinite(x), np.zeros(2)
    values, often = np.unique(x[known], return_counts=True)
    usual = values[often.argmax()]
    for rows in groups:
        own = x[rows[known[rows]]]
        before = own[:-1]
        n += np.count_nonzero(before != usual), np.count_nonzero((before != usual) & (own[1:] == before))
    return bool(values[0] == 0 and n[1] < MIN_LASTING * n[0])


def _is_set(x: NDArray[np.float64], values: NDArray[np.float64], groups: Sequence[NDArray[np.int64]]) -> bool:
    """Return whether decimals are set, as a bottle's size: few, each again and again and for long, as the next any.

    What is measured, by a sensor or once a day in the laboratory, fills the grid of its digits, or one of even steps.
    """
    if not 2 < len(values) <= MAX_MODES:
        return False
    steps = np.diff(values)
    digits = next((d for d in range(MAX_DIGITS) if np.allclose(values, values.round(d))), None)
    if steps.max() < UNEVEN * steps.min() or (digits is not None and steps.min() < 1.5 * 10.0**-digits):
        return False
    known = [own[np.isfinite(own)] for own in (x[rows] for rows in groups)]
    at = [np.searchsorted(values, own) for own in known if len(own)]
    begins = [np.flatnonzero(np.append(True, np.diff(each) != 0)) for each in at]
    stays = np.concatenate([each[begin] for each, begin in zip(at, begins, strict=True)])
    lengths = np.concatenate([np.diff(each) for each in begins])  # of those that end
    lasts = len(lengths) > 0 and np.count_nonzero(lengths >= MIN_STAY) >= MIN_LONG * len(lengths)
    return bool(lasts and np.bincount(stays, minlength=len(values)).min() >= MIN_STAYS)


def _are_names(
    x: NDArray[np.float64],
    values: NDArray[np.float64],
    numbers: NDArray[np.float64],
    groups: Sequence[NDArray[np.int64]],
) -> bool:
    """Return whether whole numbers name things: they last, jump at random, and explain others by no size.

    Args:
        x: the column (n,); values: its different ones
        numbers: all columns (n, d)
        groups: the rows of each entity
    """
    if not 2 <= len(values) <= MAX_CATEGORY_VALUES or not bool((values == np.round(values)).all()):
        return False  # one value names nothing: there is no other thing to jump to
    if _is_count(x, groups):
        return False
    runs = [own[np.isfinite(own)] for own in (x[rows] for rows in groups)]
    stretches = [run[np.append(True, np.diff(run) != 0)] for run in runs if len(run)]
    seen = np.concatenate(stretches)
    jumps = np.abs(np.concatenate([np.diff(each) for each in stretches]))
    if len(seen) < MIN_STRETCHES * len(values) or not 0 < 2 * len(jumps) <= len(x):
        return False
    share = np.array([np.count_nonzero(seen == value) for value in values]) / len(seen)
    pairs = np.outer(share, share)
    distance = (pairs * np.abs(values[:, None] - values)).sum() / (pairs.sum() - np.trace(pairs))
    if jumps.mean() < MIN_JUMP * distance:
        return False
    by_name, by_size = _explained(x, values, numbers)
    moved = by_name >= MIN_BY_NAME
    return bool(moved.any() and (by_size[moved] <= MAX_BY_SIZE * by_name[moved]).all())


def _explained(
    x: NDArray[np.float64], values: NDArray[np.float64], numbers: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of each of d columns that a level for each value of x explains, and a line: (d,) each.

    Those of x itself, and of a constant, are 0.
    """
    by_name, by_size = np.zeros((2, numbers.shape[1]))
    for j, column in enumerate(numbers.T):
        known = np.isfinite(x) & np.isfinite(column)
        size, y = x[known], column[known]
        if not known.any() or np.ptp(size) == 0 or (size == y).all():
            continue
        size, y = (v / np.abs(v).max(initial=1e-300) for v in (size - size.mean(), y - y.mean()))
        at = np.searchsorted(values, x[known])
        count, total = np.bincount(at), float(y @ y)
        if total > MIN_DEVIATION:
            by_name[j] = (np.bincount(at, y) ** 2 / np.maximum(count, 1)).sum() / total
            by_size[j] = (size @ y) ** 2 / (size @ size) / total
    return by_name, by_size


def _listed(paths: list[str]) -> str:
    return ", ".join(paths[:MAX_LISTED]) + (" and others" if len(paths) > MAX_LISTED else "")
