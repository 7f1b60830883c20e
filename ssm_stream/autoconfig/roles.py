"""What a signal is to the others: a driver or a response by its name, a command, or what all machines share.

Names have what correlation has not: a motor current and a load go together, and only the load is there before. The head
of a name decides, `load_current` is a current, unless a word places it outside of the machine: `inlet_temp`. Shared is
what has one value at one time for all machines: it is not theirs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column, name_words, word_set
from ssm_stream.autoconfig.labels import is_known_later

Floats = NDArray[np.float64]
WEATHER = word_set("ambient outdoor outside weather irradiance irradiation aussen außen umgebung umgebungs")
"""Words for what no machine drives."""
OUTSIDE = WEATHER | word_set("inlet intake feed zuluft eintritt eintritts einlass")
"""Words for what comes from outside, whatever it is."""
ROOM = word_set("room raum hall halle shopfloor")
CLIMATE = word_set(
    "valve damper fan supply return zone heating cooling chiller boiler heater ahu hvac vav setpoint co2 occupancy "
    "ventil klappe lüfter zuluft abluft heizung kühlung kälte"
)
"""Words for where machines stand; and for what is there to heat, cool or air it."""
HEADS = word_set("load speed rpm drehzahl setpoint sp set command cmd demand throughput rate feed traffic")
"""Words for what drives a process."""
CALLS = word_set("request requests req reqs rps qps tps hits calls queries transactions messages msgs messagesin")
"""Words for the load of a service, where the name has none `OF_CALLS`: request_time is how it answers."""
OF_CALLS = word_set("time duration latency response size ready unacked unacknowledged undelivered")
PERCENTILE = re.compile(r"(?<![a-z0-9])p(?:50|75|90|95|98|99|999)(?![a-z0-9])", re.IGNORECASE)
"""Of a latency: p99. `P50` may be a pump, so that words for what drives a process come first."""
ACTUATORS = word_set("valve position damper opening vane pitch")
"""Words for what a controller moves: no symptoms, as the process follows them, and no drivers by their name, as they
follow the process. So is the speed of a fan."""
RESPONSES = word_set(
    "temp temperature temperatur vibration vib acceleration current amps amp ampere strom power watt leistung voltage "
    "volt spannung pressure druck torque energy noise latency superheat duration response pending inflight heap "
    "return outlet exhaust ruecklauf rücklauf austritt ablauf abluft"
)
"""Words for what a process answers with: what it measures of itself, and what leaves it, as its inlet is what comes."""
ANSWERS = word_set(
    "error errors failed failures timeout timeouts exceptions retries dropped success hit miss availability queue "
    "backlog cache behind"
)
"""Words for how well a service answers, which drives nothing of it."""
COMPUTED = ANSWERS | word_set("cpu gpu memory mem gc utilization utilisation")
"""Words by which a name is of what a service answers with, whatever its head is: error_rate, cpu_load, queue_rate."""
STATUS = re.compile(r"(?<![a-z0-9])[45]xx(?![a-z0-9])", re.IGNORECASE)
"""Answers of a service that are errors: http_5xx."""
OUTCOMES = word_set(
    "scrap scrapped reject rejects rejected rejection rejections rework reworked defect defects nok nio ausschuss"
)
"""Words for what comes of a process, and is known after it: scrap_rate. A machine for it, reject_valve, is none."""
AMOUNTS = word_set("count counts rate pct percent percentage ratio share total n no nr number qty ppm flag part parts")
FAILURES = word_set(
    "errors failures timeouts exceptions dropped drops discards discarded collisions restarts reboots crashes "
    "retransmits retransmissions"
)
COUNTABLE = word_set("error failure timeout restart reboot crash ecc sbe dbe retransmit")
COUNTS = word_set("count counts total number")
"""Words for what is counted where something fails; and those that are so together: error_count."""
WATCH_FAILURES = "alerts.limits watches it: {{column: {}, above: {:g}}}"
RARE_FAILURES = (
    "counts what fails, by its name, in few values: too few to predict, and no input, which would explain faults away; "
    f"{WATCH_FAILURES}"
)
SAME_FAILURES = f"{{}}; it counts what fails, by its name: {WATCH_FAILURES}"
"""How a limit watches what counts failures; the reasons of what has few values, and of what is left out by another."""
JUDGED, GOOD = word_set("quality part parts product test inspection"), word_set("ok pass passed")
"""Words that are an outcome together: quality_ok."""
OUTCOME = (
    "a result by its name, which is known after the process and is no input; name it under features if it is known "
    "before"
)
PROXIES = word_set("power watt leistung current amps amp ampere strom torque kw mw w kva a ma")
"""Those, and units, of what a machine takes: they stand for its load where nothing that drives it is measured."""
UTILISED, PROCESSORS = word_set("util utilization utilisation auslastung"), word_set("cpu gpu")
USED = AMOUNTS | UTILISED | word_set("load usage used busy avg mean")
STORED = ANSWERS | word_set("memory mem heap gc ram vram fb disk swap storage volume filesystem")
"""Words for how busy something is; for what is so with no others than those of a share: cpu_load; and for what is
filled, which is no load: memory_util."""
OUTPUTS = word_set("power output production yield leistung ertrag")
"""Words for what a machine is there for."""
UNITS = word_set("degc celsius degf fahrenheit bar mbar kpa mpa pa psi kw mw kva kvar kv ma mv ppm db ms")
LETTERS = word_set("a v k c f w")
"""Units of responses at the end of a name; the letters only as capitals, after other words, and if they are no letter
of several things: flow_A and flow_B."""
COMMANDS = word_set(
    "setpoint sp sv set command cmd commanded demand reference ref soll sollwert consigne consigna"
)  # fmt: skip
CERTAIN = word_set("setpoint command cmd commanded soll sollwert consigne consigna")
SETPOINTS = word_set("sp sv setpoint soll sollwert")
AIM = word_set("target")
MEASURED = word_set("actual act measured meas feedback fb pv ist istwert")
NO_COMMANDS = MEASURED | word_set("error deviation dev diff difference delta")
"""Words for what is commanded; those that mean nothing else (sp may be a static pressure, a demand is often measured);
those of a number that something is held at; the word for that, or for what is to be predicted; words for what is
measured of a command; and for what is made of it and of the measurement."""
MIN_HOLDING, MAX_TURNS = 0.5, 0.1
"""Share of the steps off its usual value at which a command stays as it is, as people change it now and then; or of its
changes those that turn back, as on a ramp few do. What is measured has noise, by which every second change does."""
MIN_SHARING, MIN_CHANGES, MAX_OWN = 3, 20, 0.1
"""Machines, or all, that have what is shared, as two batteries may charge by one schedule; changes without which they
do not show that they share a value; and those of the machines but one that may be at times of their own, over all that
these have."""
SHARED = "one value for all machines at each time: what they share, as the weather"
COMMAND = "named like a command: what is set, not what is measured"


def role_of(path: str, names: Collection[str] = ()) -> Literal["driver", "actuator", "response", "unknown"]:
    """Return what a signal is by its name. names: of all signals"""
    words = [word for word in name_words(path) if not word.isdecimal()]
    moved = not ACTUATORS.isdisjoint(words) or "fan" in words
    if is_outcome(path) or is_behind(path) or STATUS.search(path) or not (moved or COMPUTED.isdisjoint(words)):
        return "response"
    if not OUTSIDE.isdisjoint(words):
        return "driver"
    for word in reversed(words):
        if word in RESPONSES:
            return "response"
        if word in ACTUATORS or (word in ("rpm", "speed") and "fan" in words):
            return "actuator"
        if word in CALLS:
            return "response" if PERCENTILE.search(path) or not OF_CALLS.isdisjoint(words) else "driver"
        if word in HEADS:
            return "driver"
    return "response" if PERCENTILE.search(path) or unit_of(path, names) else "unknown"


def is_behind(path: str) -> bool:
    """Return whether its name means how far a service is behind: replication_lag. `load_lag1` is of the row before."""
    return any(word == "lag" and not after.isdecimal() for word, after in pairwise([*name_words(path), ""]))


def is_answer(path: str) -> bool:
    """Return whether its name means how well a service answers, and so no load in its place: p99, errors, a lag."""
    words = {*name_words(path)}
    return role_of(path) == "response" and bool(PERCENTILE.search(path) or is_behind(path) or words & ANSWERS)


def is_outcome(path: str) -> bool:
    """Return whether its name means what comes of a process, such as scrap: a result, and no input."""
    words = [word for word in name_words(path.rpartition(".")[2]) if not word.isdecimal()]
    if {*words} <= JUDGED | GOOD | {"is"}:
        return not (JUDGED.isdisjoint(words) or GOOD.isdisjoint(words))
    heads = [word for word in words if word not in AMOUNTS]
    return bool(heads) and heads[-1] in OUTCOMES and not COMMANDS & {*words}


def counts_failures(path: str) -> bool:
    """Return whether its name means how often something failed: in_errors. A flag `error` may be a mode."""
    words = {*name_words(path.rpartition(".")[2])}
    return bool(words & FAILURES or (words & COUNTABLE and words & COUNTS))


def unit_of(path: str, names: Collection[str] = ()) -> str | None:
    """Return the unit of a response that a name ends with, in lower case; None if it ends with none."""
    parts = re.findall("[A-Za-z]+", path)
    last = parts[-1].lower() if parts else ""
    if last in UNITS:
        return last
    if len(parts) < 2 or last not in LETTERS or not path[-1:].isupper():
        return None
    others = [name for name in names if name[:-1] == path[:-1] and name != path]
    return None if any(name[-1:].isalpha() for name in others) else last


def is_named_driver(path: str) -> bool:
    """Return whether its name means what drives a process."""
    return role_of(path) == "driver"


def is_weather(path: str) -> bool:
    """Return whether its name means what comes from outside, and is the same whatever the machines do."""
    return role_of(path) == "driver" and not WEATHER.isdisjoint(name_words(path))


def drives_machine(path: str) -> bool:
    """Return whether its name means a driver or a command of a machine, not what comes from outside of it."""
    words = {*name_words(path)}
    return OUTSIDE.isdisjoint(words) and (is_named_driver(path) or not COMMANDS.isdisjoint(words))


def may_follow(path: str, names: Collection[str] = ()) -> bool:
    """Return whether its name lets it be a symptom: a driver is none, nor what a controller moves, nor the climate of a
    room, which no machine in it drives but one that is made for it. names: of all signals
    """
    of_room = not ROOM.isdisjoint(name_words(path)) and role_of(path) == "unknown"
    made_for_it = any(not CLIMATE.isdisjoint(name_words(name)) for name in names)
    return role_of(path) in ("response", "unknown") and (made_for_it or not of_room)


def is_utilisation(path: str) -> bool:
    """Return whether its name means how busy a machine is: gpu_util, cpu_pct. Its memory is full or not, not busy."""
    words = {word for word in name_words(path.rpartition(".")[2]) if not word.isdecimal()}
    of_processor = not PROCESSORS.isdisjoint(words) and words <= PROCESSORS | USED
    return STORED.isdisjoint(words) and (of_processor or not UTILISED.isdisjoint(words))


def stands_for_load(path: str, names: Collection[str]) -> bool:
    """Return whether it is what a machine takes, such as its current, or how busy it is. names: of all signals"""
    if is_utilisation(path):
        return True
    return role_of(path, names) == "response" and bool(PROXIES & {*name_words(path), unit_of(path, names) or ""})


def is_output(path: str) -> bool:
    """Return whether it is named like what a machine is there for."""
    words = {*name_words(path)}
    return bool(OUTPUTS & words) and "factor" not in words


def stem_of(path: str) -> tuple[bool, list[str]]:
    """Return whether its name is that of a command, and the words of it that name the quantity."""
    words = name_words(path)
    return not COMMANDS.isdisjoint(words), [word for word in words if word not in COMMANDS | MEASURED]


def given_inputs(
    columns: Mapping[str, Column], owners: Mapping[int, Any], ts: NDArray[np.int64], taken: Collection[str]
) -> dict[str, str]:
    """Return the numbers that are known at a prediction as it is made, and are no signals of a machine: path → why.

    Args:
        columns: path → column, whose rows of each entity are in the order of their times
        owners: row → name of its entity, if a column has it
        ts: (n,) times of the rows, ms
        taken: paths that have another role
    """
    names: dict[Any, int] = {}
    codes = np.array([names.setdefault(owners.get(i), len(names)) for i in range(len(ts))], np.int64)
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    out = {}
    for path, column in columns.items():
        if path in taken or column.kind not in ("number", "whole") or column.distinct < 2:
            continue
        named = has_measured_sibling(path, columns) or is_command(path, column.numbers, groups)
        if named or is_aim(path, columns, groups):
            out[path] = COMMAND
        elif len(groups) > 1 and is_shared(column.numbers, groups, ts):
            out[path] = SHARED
    return out


def is_command(path: str, x: Floats, groups: Sequence[NDArray[np.int64]]) -> bool:
    """Return whether it is a command by its name and, where its words may mean something else, as it holds its
    values or goes in ramps.

    Args:
        x: (n,) its numbers; groups: the rows of each entity
    """
    words = name_words(path.rpartition(".")[2])
    if NO_COMMANDS & {*words} or not (COMMANDS & {*words}):
        return False
    if CERTAIN & {*words} or ("set", "point") in pairwise(words):
        return True
    steps, changes = _steps(x, groups)
    turns = np.count_nonzero(np.diff(np.sign(changes)))
    return len(steps) > 0 and (_holds(steps, changes) or bool(turns <= MAX_TURNS * len(changes)))


def _steps(x: Floats, groups: Sequence[NDArray[np.int64]]) -> tuple[Floats, Floats]:
    """Return the steps off its usual value, and those by which it changes. x, groups: as of `is_command`"""
    values, counts = np.unique(x[np.isfinite(x)], return_counts=True)
    runs = [x[rows[np.isfinite(x[rows])]] for rows in groups]
    off = [np.diff(run)[run[:-1] != values[counts.argmax()]] for run in runs if len(run)]
    steps: Floats = np.concatenate(off) if off else np.empty(0)
    return steps, np.compress(steps != 0, steps)


def _holds(steps: Floats, changes: Floats) -> bool:
    return bool(len(changes) <= (1 - MIN_HOLDING) * len(steps))


def is_aim(path: str, columns: Mapping[str, Column], groups: Sequence[NDArray[np.int64]]) -> bool:
    """Return whether `target` in its name is what something is set to: it holds its values, and another number is named
    for what it sets (`cw_target` of `cw_top`). Else it is what a model shall predict.

    Args:
        path, columns: of the column; path → column
        groups: the rows of each entity
    """
    words, x = {*columns[path].name}, columns[path].numbers
    stem = words - AIM
    if (
        not (words & AIM and stem)
        or words & NO_COMMANDS
        or is_known_later(stem, free=True)
        or columns[path].distinct < 3
    ):
        return False
    others = [{*other.name} for other in columns.values() if other.kind in ("number", "whole")]
    steps, changes = _steps(x, groups)
    return any(stem <= other and not other & AIM for other in others) and len(steps) > 0 and _holds(steps, changes)


def has_measured_sibling(path: str, columns: Mapping[str, Column]) -> bool:
    """Return whether it is a setpoint by its name, and another number is named for what it sets.

    `t_supply_sp` of a heating curve varies with the weather all the time, as what is measured does: `t_supply`, of the
    same words but for this one, shows which it is. `sp` without one may be a static pressure.
    """
    command, stem = stem_of(path)
    words = {*name_words(path.rpartition(".")[2])}
    if not (command and stem and SETPOINTS & words) or NO_COMMANDS & words:
        return False
    return any(
        stem_of(other) == (False, stem) for other, column in columns.items() if column.kind in ("number", "whole")
    )


def is_shared(x: Floats, groups: Sequence[NDArray[np.int64]], ts: NDArray[np.int64]) -> bool:
    """Return whether a signal has one value at one time for all entities that have it.

    In the order of time it then changes no more often than for one of them.

    Args:
        x: (n,) its numbers
        groups: the rows of each entity, in the order of their times
        ts: (n,) times, ms
    """
    having = sum(bool(np.isfinite(x[rows]).any()) for rows in groups)
    others, at_own_times = count_changes(x, groups, ts)
    return others >= MIN_CHANGES and having >= min(MIN_SHARING, len(groups)) and at_own_times <= MAX_OWN * others


def count_changes(x: Floats, groups: Sequence[NDArray[np.int64]], ts: NDArray[np.int64]) -> tuple[int, int]:
    """Return the changes of all entities but the one with most, and those in the order of time beyond that one's.

    Args: as of `is_shared`
    """
    known = np.isfinite(x)
    own = [int(np.count_nonzero(np.diff(x[rows[known[rows]]]))) for rows in groups]
    at = np.flatnonzero(known)
    changes = int(np.count_nonzero(np.diff(x[at[np.argsort(ts[at], kind="stable")]])))
    return sum(own) - max(own), changes - max(own)
