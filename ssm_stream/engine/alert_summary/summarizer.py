"""Puts the sentence of an alert together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ssm_stream.config import Config
from ssm_stream.core.loop import CHANNELS
from ssm_stream.engine.alert_summary.errors import MAX_SCALES
from ssm_stream.engine.alert_summary.evidence import NO_EVIDENCE, STILL, Evidence, MovedLevel, NewValue
from ssm_stream.engine.alert_summary.names import container_of, shown_name
from ssm_stream.engine.alert_summary.numbers import (
    MAX_FACTOR,
    MIN_FACTOR,
    exact,
    factor,
    measured,
    next_step,
    number_of,
    round_count,
    rounded,
    signed,
)
from ssm_stream.engine.alert_summary.times import clock, zone_of
from ssm_stream.engine.alert_summary.values import (
    FINER,
    MINOR,
    Message,
    is_near,
    places_of,
    shown_value,
    shows,
    side_of,
    size_of,
)
from ssm_stream.engine.alert_summary.words import text

MIN_RATIO, TINY = 1.5, 1e-9
"""Least factor of the size of errors that a drift without a direction is about; least divisor."""
MAX_COLUMNS, MAX_TARGETS, MAX_ENTITIES = 3, 3, 3
"""Columns, targets and entities that a sentence names."""
CHANGE_KEYS = {
    "higher": "shift_up",
    "lower": "shift_down",
    "creeping up": "creep_up",
    "creeping down": "creep_down",
    "larger": "errors_larger",
    "smaller": "errors_smaller",
}
FAR_KEYS = {"errors_larger": "errors_far_larger", "errors_smaller": "errors_far_smaller"}
"""Of factors that are given as a bound."""


class Summarizer:
    """Writes the sentences of a configuration's alerts, in its language and time zone.

    container: beginning of all signals' paths that it leaves out, see `container_of`

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
        self.container = container_of(config)
        self._first, self._shards = config.event.targets[0], config.state.shards
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
            who = shown_name(str(message["entity"]))
            rule, over = message["kind"] in ("limit", "silence", "stuck"), message["phase"] == "recovered"
            what = (self._rule if rule else self._end if over else self._open)(message, evidence)
        return self._text("sentence", who=who, what=what, when=self._when(message, evidence))

    def _text(self, key: str, **values: object) -> str:
        return text(key, self.language, **values)

    def _when(self, message: Message, evidence: Evidence) -> str:
        ts, since = message["ts"], _since(message)
        start, end = (
            clock(ms, now, self._zone, japanese=self.language == "ja") for ms, now in ((since, ts), (ts, since))
        )
        if message["phase"] != "recovered":
            return self._text("since" if evidence.days is None else "found", start=start)
        return self._text("at", start=start) if start == end else self._text("from_to", start=start, end=end)

    def _target(self, message: Message) -> str:
        """Return the target that the message is about."""
        target = message.get("target")
        return self._signal(self._first if target is None else str(target))

    def _signal(self, path: str) -> str:
        """Return the name of a target or another column."""
        return shown_name(path.removeprefix(self.container))

    def _open(self, message: Message, evidence: Evidence) -> str:
        """Return what is wrong, the other targets included."""
        what = self._cause(message, evidence)
        # A target whose level moved is named already.
        named = {message.get("target"), *(each.column for each in evidence.moved[:MAX_COLUMNS] if each.what == "level")}
        others = [each for each in message.get("targets") or () if each["target"] not in named]
        if evidence.moved and evidence.moved[0].column != message.get("target"):
            others = [each for each in others if side_of(each)]  # each target has reported the same column
        if not others:
            return what
        names = []
        for each in others[:MAX_TARGETS]:
            name, valued = self._signal(str(each["target"])), side_of(each) and message["kind"] == "anomaly"
            if evidence.reported is not None and each["target"] not in evidence.reported:
                valued = False  # its value is that of an earlier event, and may be over
            names.append(self._text("other_outside", **self._value(each, name, 0.0)) if valued else name)
        return self._text("also", what=what, others=self._list(names, len(others)))

    def _cause(self, message: Message, evidence: Evidence) -> str:
        """Return what is wrong with the target of the report."""
        return self._drift(message, evidence) if message["kind"] == "drift" else self._anomaly(message, evidence)

    def _anomaly(self, message: Message, evidence: Evidence) -> str:
        values = self._value(message, self._target(message), evidence.step)
        side, channel = side_of(message), message.get("channel")
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
            return self._levels(values, evidence, outside=side != 0, brief=brief)
        lead = self._text("outside_and" if side else "inside_but", **values)
        if channel == "novelty":
            return self._novelty(message, evidence.new, evidence.step)
        if channel is None or channel in CHANNELS:
            return self._text("outside", **values) if side else lead + self._text("far")
        return lead + self._text("own", channel=shown_name(str(channel)), score=rounded(score, score / 4))

    def _novelty(self, message: Message, new: NewValue | None, step: float) -> str:
        """Return a value and in which sense it is new. step: as of `Evidence`"""
        key, target, y = "outside_and" if side_of(message) else "inside_but", self._target(message), message["y"]
        size = size_of(message)
        if new is None:
            return self._text(key, **self._value(message, target, step)) + self._text("new")
        latest = {"events": round_count(new.events), "latest": f"{new.latest:,}"}
        earlier = self._text("before" if new.latest <= 1 else "before_latest", **latest)
        side, places = {"higher": 1, "lower": -1}.get(new.sense, 0), places_of(y, step)
        digits, shown = max(new.size, size), ""
        if side and not math.isnan(new.bound):
            # What is read in steps has no values between the bound and the nearest of these within it.
            bound = next_step(new.bound, places, side) if step else new.bound
            # As written, too, the value is beyond all others, and none of them is beyond the bound.
            for finer in [digits / 10.0**each for each in range(FINER)]:
                shown = rounded(bound, finer, side, places)
                if (number_of(measured(y, min(size, finer))) - number_of(shown)) * side > 0.0:
                    size = min(size, finer)
                    break
            else:
                shown = ""
        elif new.sense in ("hour", "usual"):
            off = abs(y - new.bound)
            shown = rounded(new.bound, min(digits, off, max(abs(new.bound) / 5.0, off / MINOR)), most=places + 1)
        what = self._text(new.sense, earlier=earlier, bound=shown)
        if side and shown:
            what = self._text("at_most" if side > 0 else "at_least", what=what, bound=shown)
        return self._text(key, **self._value(message, target, step, size)) + what

    def _levels(self, values: Mapping[str, str], evidence: Evidence, *, outside: bool, brief: bool) -> str:
        """Return which levels moved, and the target's value unless it is one of them, or `brief`."""
        moved = evidence.moved
        if not moved:
            what = self._text("levels_unknown")
        elif moved[0].what != "level":
            what = self._steps(moved[0])
        else:
            levels = [each for each in moved if each.what == "level"]
            own = (
                self._signal(levels[0].column) == values["target"]
            )  # how finely another column is measured is not known
            by = levels[0].after - levels[0].before
            if own and len(levels) == 1 and 0.0 < abs(by) < evidence.step:
                key = "level_up_small" if by > 0.0 else "level_down_small"
                size = self._text("below_step", step=exact(evidence.step))
                what = self._text(key, column=values["target"], size=size)
            else:
                what = self._level(levels)
        if brief or (not outside and self._signal(moved[0].column if moved else "") == values["target"]):
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
                return self._text("level_by", column=self._signal(each.column), by=signed(by))
            parts.append({"column": self._signal(each.column), "before": before, "after": after})
        if len(moved) == 1:
            return self._text("level", **parts[0])
        names = [self._text("level_from_to", **part) for part in parts]
        return self._text("levels", columns=self._list(names, len(moved)))

    def _steps(self, moved: MovedLevel) -> str:
        column, last = self._signal(moved.column), measured(moved.last, moved.noise)
        if moved.before <= 0.0:
            return self._text("restless", column=column, last=last)
        ratio = max(moved.after, 0.0) / moved.before
        if moved.what == "steps_here":
            return self._text("steps_up_here" if ratio > 1.0 else "steps_down_here", column=column)
        if ratio < STILL:
            return self._text("still", column=column, last=last)
        return self._text("steps_up" if ratio > 1.0 else "steps_down", column=column, times=factor(ratio))

    def _drift(self, message: Message, evidence: Evidence) -> str:
        target, errors = self._target(message), evidence.errors
        if side_of(message) is None:
            return self._text("drift", target=target)
        if evidence.days is not None:
            return self._text(evidence.days.key, target=target, **evidence.days.shown())
        key = CHANGE_KEYS.get(message.get("change") or "", "drift")
        level = 1 if key.endswith("_up") else -1 if key.endswith("_down") else 0
        # Later, the errors before are no longer those before the change.
        started = message["ts"] == _since(message)
        # The ranks of errors may go one way and their mean another, as where the target is mostly zero.
        if level and errors is not None and errors.side != level:
            key, level = "drift", 0
            if started and max(errors.ratio, 1.0 / max(errors.ratio, TINY)) >= MIN_RATIO:
                key = "errors_larger" if errors.ratio > 1.0 else "errors_smaller"
        text_key, shown = key if key == "drift" else f"{key}_some", dict[str, object]()
        if errors is not None and started:
            if level and errors.shift * level > 0.0:
                shift, step = abs(errors.shift), evidence.step
                # It is known within that factor.
                size = self._text("below_step" if shift * MAX_SCALES < step else "near_step", step=exact(step))
                text_key = f"{key}_small" if shift < step else key
                shown = {"shift": rounded(shift, shift), "size": size, "events": errors.events}
            elif errors.ratio >= 1.05 if key == "errors_larger" else key == "errors_smaller" and errors.ratio <= 0.95:
                known = MIN_FACTOR <= errors.ratio <= MAX_FACTOR
                text_key, shown = key if known else FAR_KEYS[key], {"times": factor(errors.ratio)}
        what = self._text(text_key, target=target, **shown)
        if "times" in shown and errors is not None and errors.here:
            what = self._text("usual_here", what=what)
        if shown and errors is not None and errors.rests:
            what = self._text("without_rest", what=what)
        if "times" in shown and key == "errors_larger" and errors is not None and errors.sign:
            what = self._text("all_above" if errors.sign > 0 else "all_below", what=what)
        if not shows(message, key):
            return what
        return self._text("with_now", what=what, now=self._text("now", **self._value(message, target, evidence.step)))

    def _end(self, message: Message, evidence: Evidence) -> str:
        """Return that an episode is over, and how."""
        target, drift = self._target(message), message["kind"] == "drift"
        ended, n = message.get("ended_by") or "recovered", message.get("absorbed_after") or 1
        if ended not in ("recovered", "absorbed"):
            return self._text(ended)
        # No value need have moved where cycles alone are odd: there is no new level.
        key = "absorbed_drift" if drift else "absorbed_shape" if message.get("channel") == "shape" else "absorbed"
        if drift and evidence.days is not None:
            return self._text(evidence.days.end(ended), target=target, **evidence.days.shown())
        if ended == "recovered":
            key = "learned" if drift else "recovered" if side_of(message) == 0 else "calm"
            if drift and evidence.stopped_still:
                key = "at_rest"  # whether the errors would fit again, a target without any does not show
        what = self._text(key, target=target, **self._lasted(n, evidence.calm, absorbed=ended == "absorbed"))
        if key == "recovered" and not evidence.ended and None not in (message.get("y"), message.get("yhat")):
            # What is expected may have moved to where the value stayed: the two show whether it is back.
            now = self._text("now", **self._value(message, target, evidence.step))
            what = self._text("with_now", what=what, now=now)
        alike = [self._signal(name) for name, by in evidence.ended if by == ended]
        if alike:
            what = self._text("also", what=what, others=self._list(alike[:MAX_TARGETS], len(alike)))
        for name, by in evidence.ended:
            if by != ended:
                key = "absorbed_before" if by == "absorbed" else "recovered_before"
                what = self._text(key, what=what, target=self._signal(name))
        return what

    def _lasted(self, n: int, calm: int | None, *, absorbed: bool) -> dict[str, str]:
        """Return after how many events an episode ended: in all as many as there are from its start to its end.

        n: from its start until what it was about was over; calm: normal events from then on, 0: not known; None: `n`
        is not of the same time
        """
        if calm is None:
            return {"after": "", "long": self._text("for_long")}
        n += calm if absorbed else 0
        events = self._text("event" if n == 1 else "events", n=f"{n:,}")
        after = self._text("after_confirmed" if calm else "after", events=events, calm=f"{calm:,}")
        return {"after": after, "long": self._text("for", events=events)}

    def _rule(self, message: Message, evidence: Evidence) -> str:
        """Return what a rule has found, or that it no longer holds."""
        kind, ended, value = message["kind"], message.get("ended_by"), message["value"]
        if ended not in (None, "recovered"):
            return self._text(str(ended))
        if kind == "limit":
            return self._limit(message)
        key, column = kind if message["column"] is not None else "silence_all", self._signal(str(message["column"]))
        shown = exact(value) if isinstance(value, float) else str(value)
        what = self._text(f"{key}_over" if ended else key, column=column, value=shown)
        what = self._text("others_stopped", what=what, n=evidence.stopped) if evidence.stopped else what
        return self._text("stands_still", what=what, column=column, of=evidence.still) if evidence.still[0] else what

    def _limit(self, message: Message) -> str:
        """Return by which limit a value is beyond what is allowed, or that it no longer is."""
        column, value, ended = self._signal(str(message["column"])), message["value"], message.get("ended_by")
        limit = self._limits.get(message["limit"])
        bounds = {} if limit is None else limit.bounds
        size = min((abs(value - bound) for bound in bounds.values()), default=0.0) if isinstance(value, float) else 0.0
        shown = shown_name(str(value))
        if isinstance(value, float):
            shown = measured(value, size) if size else exact(value)
        if ended == "recovered":
            return self._text("within_limit", column=column, value=shown)
        words = [self._text(f"limit_{word}", bound=exact(bound)) for word, bound in bounds.items()]
        key = "beyond_limit" if words else "forbidden"
        return self._text(key, column=column, value=shown, limit=self._text("list").join(words))

    def _fleet(self, message: Message, evidence: Evidence, entities: int) -> tuple[str, str]:
        """Return which entities an alert is about, and what is wrong with them."""
        count, pool, target = message.get("count") or 0, self._pool(message), self._target(message)
        ended = message.get("ended_by")
        if message["phase"] == "recovered" and ended not in (None, "recovered", "absorbed"):
            return self._text("fleet_all", pool=pool), self._text(str(ended))
        if message["phase"] == "recovered":
            key = "fleet_recovered" if message.get("target") is None else "fleet_recovered_several"
            return self._text("fleet_all", pool=pool), self._text(key, target=target, count=f"{count:,}")
        members = evidence.members
        key = "fleet_partly" if members is not None and members.partly else "fleet"
        key = key if entities >= count else "fleet_uncounted"
        who = self._text(key, count=f"{count:,}", total=f"{entities:,}", pool=pool)
        if message["phase"] == "started" and (count != entities or key == "fleet_partly"):
            who = self._text("fleet_or_more", who=who)  # raised at the first that are enough, as others follow
        names = [shown_name(str(each["entity"])) for each in (message.get("entities") or ())[:MAX_ENTITIES]]
        kind = "fleet_drift" if message["kind"] == "drift" else "fleet_anomaly"
        if members is not None and len({*members.targets}) > 1:
            kind = f"{kind}_several"
            names = [
                name if own is None else self._text("fleet_member", name=name, target=self._signal(own))
                for name, own in zip(names, members.targets, strict=False)
            ]
        what = self._text(kind, target=target, names=self._text("list").join(names) or "?")
        if side_of(message) is None:
            return who, what
        key, name = ("last", "") if not members or members.last is None else ("last_named", shown_name(members.last))
        return who, self._text(key, what=what, name=name, last=self._cause(message, evidence))

    def _pool(self, message: Message) -> str:
        """Return which entities learn together: those of a partition, or of a shard of it."""
        at, _, shard = str(message.get("pool") or "?").partition("-")
        return self._text("partition" if self._shards == 1 else "shard", partition=at, shard=shard)

    def _value(self, values: Message, target: str, step: float, size: float | None = None) -> dict[str, str]:
        """Return target, value and prediction. step: as of `Evidence`; size: as of `shown_value`"""
        shown = shown_value(values, step, size)
        expected = self._text(shown.key, yhat=shown.yhat, **shown.interval) if shown.key else shown.yhat
        place = self._text("near" if is_near(values) else "within")
        return {"target": target, "y": shown.y, "expected": expected, "place": place}

    def _list(self, names: Sequence[str], count: int) -> str:
        """Return names as a list, of so many."""
        more = self._text("and_more", n=count - len(names)) if count > len(names) else ""
        return self._text("list").join(names) + more


def _since(message: Message) -> int:
    """Return when the episode began: of the target that the message is about, while it is open."""
    own = [each["since"] for each in message.get("targets") or () if each["target"] == message.get("target")]
    since = own[0] if own else message.get("since")
    return int(message["ts"] if since is None else since)
