"""Puts the sentence of an alert together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssm_stream.config import Config
from ssm_stream.core.loop import CHANNELS
from ssm_stream.engine.alert_summary.evidence import NO_EVIDENCE, STILL, Evidence, MovedLevel, NewValue
from ssm_stream.engine.alert_summary.numbers import factor, measured, number_of, round_count, rounded
from ssm_stream.engine.alert_summary.times import clock, zone_of
from ssm_stream.engine.alert_summary.words import text

MAX_NAME = 60
"""Characters of a name in a sentence."""
MAX_COLUMNS, MAX_TARGETS, MAX_ENTITIES = 3, 3, 3
"""Columns, targets and entities that a sentence names."""
MINOR, FAR, WIDE = 50.0, 10.0, 100.0
"""An error is shown to a fiftieth where the interval is narrower; where it is ten times narrower, it is left out.
Where the interval is far wider than the values, these keep two digits, unless they are a hundred times smaller."""
FINER = 4
"""Powers of ten that numbers become finer by, until what is outside of its interval is so as written."""
UNEVEN = 0.2
"""Share of the half-width by which the prediction may be off the middle of its interval to be written with ±."""
Message = Mapping[str, Any]
CHANGE_KEYS = {
    "higher": "shift_up",
    "lower": "shift_down",
    "creeping up": "creep_up",
    "creeping down": "creep_down",
    "larger": "errors_larger",
    "smaller": "errors_smaller",
}


class Summarizer:
    """Writes the sentences of a configuration's alerts, in its language and time zone.

    >>> from ssm_stream.config import parse_config
    >>> config = parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: machine, timestamp: ts, features: [load], target: temp}
    ... ''')
    >>> Summarizer(config)({
    ...     "entity": "PUMP-3", "scope": "entity", "kind": "anomaly", "phase": "started", "channel": "residual",
    ...     "ts": 600_000, "since": 600_000, "score": 2.1,
    ...     "y": 92.1234, "yhat": 70.2384, "yhat_lower": 66.1, "yhat_upper": 74.4,
    ... })
    'PUMP-3: temp is 92, expected 70 ± 4 (since 00:10).'
    """

    def __init__(self, config: Config) -> None:
        self.language = config.alerts.language
        self._zone = zone_of(config.event.time_zone)
        self._targets = [_name(path) for path in config.event.targets]
        self._limits = {limit.text: limit for limit in config.alerts.limits}

    def __call__(self, message: Message, evidence: Evidence = NO_EVIDENCE, entities: int = 0) -> str:
        """Return the sentence of a message.

        Args:
            message: complete, or with what it has; numbers may be null
            evidence: what the state shows of the alert's cause
            entities: of the pool, for an alert on many of them; 0: unknown
        """
        if message.get("scope") == "fleet":
            who, what = self._fleet(message, evidence, entities)
        else:
            who = _name(str(message["entity"]))
            if message["kind"] in ("limit", "silence", "stuck"):
                what = self._rule(message, evidence.stopped)
            else:
                what = self._end(message) if message["phase"] == "recovered" else self._open(message, evidence)
        return self._text("sentence", who=who, what=what, when=self._when(message))

    def _text(self, key: str, **values: object) -> str:
        return text(key, self.language, **values)

    def _when(self, message: Message) -> str:
        ts, since = message["ts"], _since(message)
        start, end = (
            clock(ms, now, self._zone, japanese=self.language == "ja") for ms, now in ((since, ts), (ts, since))
        )
        if message["phase"] != "recovered":
            return self._text("since", start=start)
        return self._text("at", start=start) if start == end else self._text("from_to", start=start, end=end)

    def _target(self, message: Message) -> str:
        """Return the target that the message is about."""
        target = message.get("target")
        return self._targets[0] if target is None else _name(str(target))

    def _open(self, message: Message, evidence: Evidence) -> str:
        """Return what is wrong, the other targets included."""
        what = self._cause(message, evidence)
        others = [each for each in message.get("targets") or () if each["target"] != message.get("target")]
        if evidence.moved and evidence.moved[0].column != message.get("target"):
            others = [each for each in others if _side(each)]  # each target has reported the same column
        if not others:
            return what
        names = []
        for each in others[:MAX_TARGETS]:
            key = "other_outside" if _side(each) else None
            name = _name(str(each["target"]))
            names.append(self._text(key, **self._value(each, name)) if key and message["kind"] == "anomaly" else name)
        return self._text("also", what=what, others=self._list(names, len(others)))

    def _cause(self, message: Message, evidence: Evidence) -> str:
        """Return what is wrong with the target of the report."""
        return self._drift(message, evidence) if message["kind"] == "drift" else self._anomaly(message, evidence)

    def _anomaly(self, message: Message, evidence: Evidence) -> str:
        values, side, channel = self._value(message, self._target(message)), _side(message), message.get("channel")
        score = message.get("score") or 0.0
        if side is None:
            return self._text("no_value", target=values["target"])
        still = channel == "levels" and any(each.before == each.after for each in evidence.moved)
        if not side and (score <= 1.0 or still):
            now = self._text("now_inside", **values)
            return self._text("again", target=values["target"], now=now)
        if channel == "shape":
            length = evidence.cycle
            key, shown = ("cycle", f"{length:,.0f}") if length else ("cycle_some", "")
            what = self._text(key, target=values["target"], events=shown)
            return self._text("while_outside" if side else "while_inside", what=what, **values)
        if channel == "levels":
            brief = not side and (message.get("targets") is not None or message.get("scope") == "fleet")
            return self._levels(values, evidence.moved, outside=side != 0, brief=brief)
        lead = self._text("outside_and" if side else "inside_but", **values)
        if channel == "novelty":
            return self._novelty(message, evidence.new)
        if channel is None or channel in CHANNELS:
            return self._text("outside", **values) if side else lead + self._text("far")
        return lead + self._text("own", channel=_name(str(channel)), score=rounded(score, score / 4))

    def _novelty(self, message: Message, new: NewValue | None) -> str:
        """Return a value and in which sense it is new."""
        key, target = "outside_and" if _side(message) else "inside_but", self._target(message)
        size = _size(message)
        if new is None:
            return self._text(key, **self._value(message, target)) + self._text("new")
        latest = {"events": round_count(new.events), "latest": f"{new.latest:,}"}
        earlier = self._text("before" if new.latest <= 1 else "before_latest", **latest)
        side = {"higher": 1, "lower": -1}.get(new.sense, 0)
        bound, digits = "?", max(new.size, size)
        if side and not math.isnan(new.bound):
            # As written, too, the value is beyond all others, and none of them is beyond the bound.
            for finer in range(FINER):
                bound = rounded(new.bound, digits / 10.0**finer, side)
                size = min(size, digits / 10.0**finer) if finer else size
                if (number_of(measured(message["y"], size)) - number_of(bound)) * side > 0.0:
                    break
            else:
                bound = rounded(new.bound, 0.0)
        elif new.sense in ("hour", "usual"):
            bound = measured(new.bound, min(digits, abs(message["y"] - new.bound)))
        return self._text(key, **self._value(message, target, size)) + self._text(
            new.sense, earlier=earlier, bound=bound
        )

    def _levels(self, values: Mapping[str, str], moved: Sequence[MovedLevel], *, outside: bool, brief: bool) -> str:
        """Return which levels moved, and the target's value unless it is one of them, or `brief`."""
        if not moved:
            what = self._text("levels_unknown")
        elif moved[0].what != "level":
            what = self._steps(moved[0])
        else:
            what = self._level([each for each in moved if each.what == "level"])
        if brief or (not outside and _name(moved[0].column if moved else "") == values["target"]):
            return what
        return self._text("while_outside" if outside else "while_inside", what=what, **values)

    def _level(self, moved: Sequence[MovedLevel]) -> str:
        parts = []
        for each in moved[:MAX_COLUMNS]:
            by = each.after - each.before
            size = max(min(2.0 * each.noise, abs(by)), abs(by) / 5.0)
            before, after = rounded(each.before, size), rounded(each.after, size)
            if before.endswith(".0") and after.endswith(".0"):
                before, after = before[:-2], after[:-2]
            if before == after:  # a small move of large values
                return self._text("level_by", column=_name(each.column), by=_signed(by))
            parts.append({"column": _name(each.column), "before": before, "after": after})
        if len(moved) == 1:
            return self._text("level", **parts[0])
        names = [self._text("level_from_to", **part) for part in parts]
        return self._text("levels", columns=self._list(names, len(moved)))

    def _steps(self, moved: MovedLevel) -> str:
        column, last = _name(moved.column), measured(moved.last, moved.noise)
        if moved.before <= 0.0:
            return self._text("restless", column=column, last=last)
        ratio = max(moved.after, 0.0) / moved.before
        if moved.what == "steps_here":
            return self._text("steps_up_here" if ratio > 1.0 else "steps_down_here", column=column)
        if ratio < STILL:
            return self._text("still", column=column, last=last)
        return self._text("steps_up" if ratio > 1.0 else "steps_down", column=column, times=factor(ratio))

    def _drift(self, message: Message, evidence: Evidence) -> str:
        target, side, errors = self._target(message), _side(message), evidence.errors
        if side is None:
            return self._text("drift_no_value", target=target)
        values = self._value(message, target)
        now = self._text("now", **values)
        key = CHANGE_KEYS.get(message.get("change") or "")
        if key is None:
            return self._text("drift", target=target, now=now)
        # Later, the errors before are no longer those before the change.
        if errors is None or message["ts"] != _since(message):
            return self._text(f"{key}_some", target=target, now=now)
        if key.startswith("errors"):
            clear = errors.ratio >= 1.05 if key == "errors_larger" else errors.ratio <= 0.95
            shown: dict[str, object] = {"times": factor(errors.ratio)}
        else:
            clear = errors.shift > 0.0 if key.endswith("_up") else errors.shift < 0.0
            shown = {"shift": rounded(abs(errors.shift), abs(errors.shift)), "events": errors.events}
        return self._text(key if clear else f"{key}_some", target=target, now=now, **shown)

    def _end(self, message: Message) -> str:
        target, drift = self._target(message), message["kind"] == "drift"
        ended, n = message.get("ended_by") or "recovered", message.get("absorbed_after") or 1
        events = self._text("event" if n == 1 else "events", n=f"{n:,}")
        if ended == "absorbed":
            return self._text("absorbed_drift" if drift else "absorbed", target=target, events=events)
        if ended != "recovered":
            return self._text(ended)
        key = "learned" if drift else "recovered" if _side(message) == 0 else "calm"
        return self._text(key, target=target, events=events)

    def _rule(self, message: Message, stopped: int) -> str:
        """Return what a rule has found, or that it no longer holds. stopped: other columns that stopped as well"""
        kind, ended = message["kind"], message.get("ended_by")
        if ended not in (None, "recovered"):
            return self._text(str(ended))
        if kind == "limit":
            return self._limit(message)
        value = message["value"]
        key = kind if message["column"] is not None else "silence_all"
        shown = rounded(value, 0.0) if isinstance(value, float) else str(value)
        what = self._text(f"{key}_over" if ended else key, column=_name(str(message["column"])), value=shown)
        return self._text("others_stopped", what=what, n=stopped) if stopped else what

    def _limit(self, message: Message) -> str:
        """Return by which limit a value is beyond what is allowed, or that it no longer is."""
        column, value, ended = _name(str(message["column"])), message["value"], message.get("ended_by")
        limit = self._limits.get(message["limit"])
        bounds = {} if limit is None else limit.bounds
        size = min((abs(value - bound) for bound in bounds.values()), default=0.0) if isinstance(value, float) else 0.0
        shown = _name(str(value))
        if isinstance(value, float):
            shown = measured(value, size) if size else f"{value:.6g}"
        if ended == "recovered":
            return self._text("within_limit", column=column, value=shown)
        words = [self._text(f"limit_{word}", bound=f"{bound:.15g}") for word, bound in bounds.items()]
        key = "beyond_limit" if words else "forbidden"
        return self._text(key, column=column, value=shown, limit=self._text("list").join(words))

    def _fleet(self, message: Message, evidence: Evidence, entities: int) -> tuple[str, str]:
        """Return which entities an alert is about, and what is wrong with them."""
        count, pool, target = message.get("count") or 0, message.get("pool") or "?", self._target(message)
        ended = message.get("ended_by")
        if message["phase"] == "recovered" and ended not in (None, "recovered", "absorbed"):
            return self._text("fleet_all", pool=pool), self._text(str(ended))
        if message["phase"] == "recovered":
            return self._text("fleet_all", pool=pool), self._text("fleet_recovered", target=target, count=f"{count:,}")
        key = "fleet" if entities >= count else "fleet_uncounted"
        who = self._text(key, count=f"{count:,}", total=f"{entities:,}", pool=pool)
        names = [_name(str(each["entity"])) for each in (message.get("entities") or ())[:MAX_ENTITIES]]
        kind = "fleet_drift" if message["kind"] == "drift" else "fleet_anomaly"
        what = self._text(kind, target=target, names=self._text("list").join(names) or "?")
        if _side(message) is None:
            return who, what
        return who, self._text("last", what=what, last=self._cause(message, evidence))

    def _value(self, values: Message, target: str, size: float | None = None) -> dict[str, str]:
        """Return target, value and prediction, rounded to `size`; None: of the interval, or of an error beyond."""
        side, least = _side(values), _size(values) if size is None else size
        y, yhat, lower, upper = (values.get(name) for name in ("y", "yhat", "yhat_lower", "yhat_upper"))
        known, half = [math.nan if x is None else x for x in (y, yhat)], _half(values)
        if lower is None or upper is None or y is None or yhat is None or half < _error(values) / FAR:
            shown = (measured(known[0], least), rounded(known[1], least))
            return {"target": target, "y": shown[0], "expected": shown[1]}
        even = abs((lower / 2 + upper / 2) - yhat) <= UNEVEN * half
        found = list[dict[str, str]]()
        for finer in [10.0**each for each in range(FINER)]:
            size, width = least / finer, half / finer
            numbers = {"y": measured(y, size), "yhat": rounded(yhat, size), "half": rounded(half, width)}
            bounds = {"lower": rounded(lower, width), "upper": rounded(upper, width)}
            at, middle, reach = (number_of(numbers[name]) for name in ("y", "yhat", "half"))
            for key, low, high in (
                ("interval", middle - reach, middle + reach),
                ("bounds", number_of(bounds["lower"]), number_of(bounds["upper"])),
            ):
                if key == "bounds" or even:
                    expected = self._text(key, **numbers, **bounds)
                    found.append({"target": target, "y": numbers["y"], "expected": expected})
                    if side == (1 if at > high else -1 if at < low else 0):
                        return found[-1]
        return found[0]

    def _list(self, names: Sequence[str], count: int) -> str:
        """Return names as a list, of so many."""
        more = count - len(names)
        return self._text("list").join(names) + (self._text("and_more", n=more) if more > 0 else "")


def _side(values: Message) -> int | None:
    """Return 1 for a value above its interval, −1 below, 0 inside or where rounding hides it; None if it has none."""
    y, yhat, lower, upper = (values.get(name) for name in ("y", "yhat", "yhat_lower", "yhat_upper"))
    if y is None or yhat is None or lower is None or upper is None:
        return None
    size = _size(values)
    if lower <= y <= upper or rounded(y, size) == rounded(yhat, size):
        return 0
    return 1 if y > upper else -1


def _size(values: Message) -> float:
    """Return what is small for a value: half the width of its interval, or a part of an error that is far beyond.

    Where that is far wider than the values are large, it is a part of these.
    """
    y, yhat = (abs(values.get(name) or 0.0) for name in ("y", "yhat"))
    half, own = _half(values), max(y, yhat) / 5.0
    size = max(half, _error(values))
    return min(size, max(own, half / WIDE)) if own > 0.0 else size


def _error(values: Message) -> float:
    """Return a part of the error, to which it is shown."""
    y, yhat = values.get("y"), values.get("yhat")
    return 0.0 if y is None or yhat is None else abs(y / MINOR - yhat / MINOR)


def _since(message: Message) -> int:
    """Return when the episode began: of the target that the message is about, while it is open."""
    own = [each["since"] for each in message.get("targets") or () if each["target"] == message.get("target")]
    since = own[0] if own else message.get("since")
    return int(message["ts"] if since is None else since)


def _half(values: Message) -> float:
    """Return half the width of the interval; 0 without one."""
    lower, upper = values.get("yhat_lower"), values.get("yhat_upper")
    return 0.0 if lower is None or upper is None else abs(upper / 2 - lower / 2)


def _signed(value: float) -> str:
    shown = rounded(value, abs(value) / 4)
    return f"+{shown}" if value > 0 else shown


def _name(name: str) -> str:
    """Return a name on one line, cut if it is long."""
    name = "".join(c if c.isprintable() else "·" for c in name)
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
