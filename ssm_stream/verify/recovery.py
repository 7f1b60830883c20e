"""Part (c) of `verify`: how soon does the error come back after a change that is injected into this recording?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table
from ssm_stream.verify.record import Frozen
from ssm_stream.verify.reference import Array
from ssm_stream.verify.replay import Replay

WINDOW = 50
"""Events of the rolling mean absolute error."""
BACK = 1.25
"""The error is back when it is at most this multiple of the level to return to."""
MIN_AFTER = 4 * WINDOW
"""Labelled events after the middle without which recovery is not measured."""
COEFFICIENT = 2.0
"""Injected weight: standard deviations of the target for one of the feature."""
OFFSET = 3.0
"""Injected sensor offset, in standard deviations."""
GAIN = 2.0
"""Injected gain of the target about its mean, where the events have no features."""
SEED = 20_240


class Change(NamedTuple):
    """An injected change: what it is in words, and the columns u (n, C) and targets y (n,) that hold it.

    gain: multiple of the uninjected error that the change itself makes of it; noise: whether it adds noise that stays
    """

    name: str
    what: str
    u: Array
    y: Array
    gain: float = 1.0
    noise: bool = False


class Recovery(NamedTuple):
    """What the error did after a change. Rolling errors are over the last `WINDOW` events, pooled over entities.

    since (k,): events since the change; changed, clean, level (k,): rolling errors with and without the change, and
    the level to return to; peak: largest multiple of the level; above: share of the time after the change with an error
    above `BACK` times the level; events: after which the error is back and stays for `WINDOW` events, 0 if it never
    left, infinite if it never came back
    """

    since: Array
    changed: Array
    clean: Array
    level: Array
    peak: float
    above: float
    events: float


def recovery_section(
    run: Replay, frozen: Frozen, clean: Array, advance: Callable[[float], None]
) -> tuple[Section, Any]:
    """Coefficient change, sensor offset and noise, each injected into a copy of the recording at every life's middle.

    frozen: of the uninjected run, for what each input moves; clean (n,): the predictions of the uninjected run;
    advance: takes the fraction done
    """
    title = "Recovery after injected changes"
    remaining = _remaining(run)
    if remaining < MIN_AFTER:
        need = f"it needs {MIN_AFTER} labelled events an entity after its middle, here there are {remaining}"
        return Section(title, text=[f"Not measured: {need}."]), []
    section = Section(title, text=_text(run, remaining))
    figures: list[dict[str, Any]] = []
    rows: list[list[Cell]] = []
    changes = _changes(run, frozen, np.abs(run.y - clean))
    for i, change in enumerate(changes):
        found = _recover(run, change, clean, remaining)
        value = int(found.events) if math.isfinite(found.events) else math.inf
        check = Check(f"verify recovery: events after the injected {change.name}", value, "<=", remaining // 2)
        section.checks.append(check)
        section.charts.append(_chart(change, found))
        events: Cell = value if isinstance(value, int) else f"not within {remaining:,}"
        rows.append([f"{change.name}: {change.what}", found.peak, f"{found.above:.1%}", events])
        figures.append(
            {
                "change": change.name, "what": change.what, "peak_over_level": found.peak, "share_above": found.above,
                "events": value if isinstance(value, int) else None, "remaining": remaining,
            }
        )  # fmt: skip
        advance((i + 1) / len(changes))
    columns = ["injected change", "largest error", "time above", "events until back"]
    note = (
        "Largest error: as a multiple of the level to return to. Time above: share of the "
        f"{remaining:,} events after the change with a rolling error more than {BACK:g} times that level. 0 events: it "
        f"was never above in the first {WINDOW}. One large error alone keeps the mean high until it leaves the window, "
        f"after {WINDOW} events."
    )
    section.tables.append(Table("Events until the error is back", columns, rows, note))
    section.text.append(_verdict(section.checks))
    return section, figures


def _remaining(run: Replay) -> int:
    """Labelled events after the middle that at least half of the lives have."""
    return int(np.median(run.labelled - run.middle))


def _since(run: Replay) -> NDArray[np.int64]:
    """(n,) labelled events since the middle of the life; negative before."""
    since: NDArray[np.int64] = run.seen - run.middle[run.lives]
    return since


def _moments(run: Replay, values: Array) -> tuple[Array, Array]:
    """(E,) mean and deviation of a column (n,) over each life's events before its middle."""
    use = (_since(run) < 0) & ~np.isnan(values)
    lives, E = run.lives[use], len(run.names)
    count = np.maximum(np.bincount(lives, minlength=E), 1)
    mean = np.bincount(lives, values[use], E) / count
    variance = np.bincount(lives, (values[use] - mean[lives]) ** 2, E) / count
    return mean, np.sqrt(variance)


def _changes(run: Replay, frozen: Frozen, error: Array) -> list[Change]:
    """The three changes. error (n,): absolute error of the uninjected run."""
    after, lives = _since(run) >= 0, run.lives
    y_mean, y_size = _moments(run, run.y)
    usual = _moments(run, error)[0]
    noise = np.random.default_rng(SEED).standard_normal(len(run.y))
    # The mean of |a + b| of normal a, b with equal spread s is s √2 √(2/π); doubling the error takes a spread of √3.
    spread = math.sqrt(3.0) * math.sqrt(math.pi / 2.0) * usual[lives]
    noisy = Change(
        "noise",
        "independent normal noise on the target, such that an error of the usual size doubles",
        run.u,
        np.where(after, run.y + spread * noise, run.y),
        noise=True,
    )
    if not run.plan.features:
        gained = y_mean[lives] + GAIN * (run.y - y_mean[lives])
        raised = run.y + OFFSET * y_size[lives]
        return [
            Change(
                "coefficient change",
                f"no features here, so the gain of the target: {GAIN:g} times its distance from its mean",
                run.u,
                np.where(after, gained, run.y),
                GAIN,
            ),
            Change(
                "sensor offset",
                f"no features here, so on the target: +{OFFSET:g} of its standard deviations",
                run.u,
                np.where(after, raised, run.y),
            ),
            noisy,
        ]
    j = int(np.argmax(frozen.moved.sum(0)))
    feature, column = run.plan.features[j], run.u[:, j]
    mean, size = _moments(run, column)
    z = np.nan_to_num((column - mean[lives]) / np.where(size > 0, size, np.inf)[lives])
    shifted = run.u.copy()
    shifted[:, j] = np.where(after, column + OFFSET * size[lives], column)
    return [
        Change(
            "coefficient change",
            f"weight of {feature} on the target: +{COEFFICIENT:g} standard deviations for each of its own",
            run.u,
            np.where(after, run.y + COEFFICIENT * z * y_size[lives], run.y),
        ),
        Change("sensor offset", f"{feature}: +{OFFSET:g} of its standard deviations", shifted, run.y),
        noisy,
    ]


def _recover(run: Replay, change: Change, clean: Array, remaining: int) -> Recovery:
    since = _since(run)
    use = ~np.isnan(run.y) & (run.seen > 0) & (since >= -remaining) & (since < remaining)
    at = since[use] + remaining

    def rolling(error: Array) -> Array:
        """Mean over the last WINDOW indices of all lives' errors; index 0 is `remaining` events before the change."""
        total = np.cumsum(np.bincount(at, error[use], 2 * remaining))
        count = np.cumsum(np.bincount(at, minlength=2 * remaining))
        total[WINDOW:] -= total[:-WINDOW].copy()
        count[WINDOW:] -= count[:-WINDOW].copy()
        mean: Array = total / np.maximum(count, 1)
        return mean

    error, after = np.abs(run.y - clean), since >= 0
    changed, usual = rolling(np.abs(change.y - run.production(change.u, change.y))), rolling(error)
    level = rolling(np.where(after, change.gain * error, error))
    if change.noise:
        level = np.hypot(usual, rolling(np.abs(change.y - run.y)))
        end = slice(remaining + remaining // 2, None)
        plateau = changed[end].mean() / max(float(level[end].mean()), 1e-300)
        # The window fills with events after the change over its first WINDOW of them.
        share = np.clip((np.arange(2 * remaining) - remaining + 1) / WINDOW, 0.0, 1.0)
        level *= 1.0 + (plateau - 1.0) * share
    tiny = 1e-9 * max(float(usual.max()), 1e-300)
    multiple = ((changed + tiny) / (level + tiny))[remaining:]
    back = multiple <= BACK
    calm = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(back, WINDOW).all(1))
    index = np.arange(-remaining, remaining, dtype=np.float64) + 1
    return Recovery(
        index, changed, usual, level, float(multiple.max()), float(1.0 - back.mean()),
        float(calm[0]) if len(calm) else math.inf,
    )  # fmt: skip


def _chart(change: Change, found: Recovery) -> Chart:
    """Rolling errors from shortly before the change until well after the recovery."""
    reach = 6 * WINDOW if not math.isfinite(found.events) else max(6 * WINDOW, 2 * found.events)
    shown = np.flatnonzero((found.since >= -2 * WINDOW) & (found.since <= reach))
    shown = shown[:: max(1, len(shown) // 400)]
    x = found.since[shown].tolist()
    after = shown[found.since[shown] > 0]
    series = [
        Series("injected", x, found.changed[shown].tolist()),
        Series("uninjected", x, found.clean[shown].tolist()),
        Series("back at or below", found.since[after].tolist(), (BACK * found.level[after]).tolist(), dashed=True),
    ]
    title = f"Injected {change.name}: mean absolute error over {WINDOW} events"
    return Chart(title, "events since the change", "mean absolute error", series)


def _text(run: Replay, remaining: int) -> list[str]:
    pooled = f", pooled over {len(run.names)} entities by events since the change" if len(run.names) > 1 else ""
    return [
        "These changes are injected: they are not in the recording. Each is made in a copy of it, from the middle of "
        f"every entity's labelled events to its end ({remaining:,} events), and the production kernel runs over the "
        f"copy from the start. The error is its mean over the last {WINDOW} events{pooled}. It is back when it is at "
        f"most {BACK:g} times its level, and stays there for {WINDOW} events.",
        "The level to return to is the error of the uninjected run on the same events; where the target's gain was "
        "changed, that times the gain. Noise stays, so there it is the plateau of the injected run itself: uninjected "
        "error and injected noise in quadrature, scaled to the injected error of the second half after the change.",
    ]


def _verdict(checks: list[Check]) -> str:
    missed = [
        check.name.removeprefix("verify recovery: events after the injected ") for check in checks if not check.ok
    ]
    if not missed:
        return "After each of the three the error was back within half of the remaining events."
    return f"The error was not back within half of the remaining events after: {', '.join(missed)}."
