"""What operators write about alerts: that somebody attends to one, and verdicts, counted: how many alerts of each rule
were true.

A rule is a kind of alert, of an entity or of the fleet: the end of an alert's id names it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, NamedTuple

import orjson

from ssm_stream.config import Config
from ssm_stream.config.own_messages import origins
from ssm_stream.config.sections.alerts import LIMIT, SILENCE, STUCK
from ssm_stream.core.lifecycle import KINDS
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.timestamps import MAX_MS, MIN_MS, iso_to_ms, ms_to_iso

RULES = (*KINDS, *(f"{kind}-fleet" for kind in KINDS), LIMIT, SILENCE, STUCK)
MAX_TEXT = 1000
"""Characters of a name or a note that are kept."""
MAX_VERDICTS = 10_000
"""Alerts whose verdict may still be changed: those with the latest verdicts."""
# Numbers at the end: the alert was sent at an event of another entity, or with others of its event; one of several rows
# of its message.
_RULES = "|".join(sorted(RULES)[::-1])
ALERT_ID = re.compile(rf"(?P<topic>.+)-(?P<partition>\d+)-(?P<offset>\d+)-(?P<rule>{_RULES})(?:-\d+){{0,2}}")


class FeedbackError(ValueError):
    """A message is not feedback; its text is the reason."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault


class Verdict(NamedTuple):
    """Whether an operator called an alert true. alert: its id; rule: that raised it"""

    alert: str
    rule: str
    true: bool


class AlertAcknowledgement(NamedTuple):
    """Somebody attends to an alert. alert: its id; by: who; note: what they wrote; at: when, ms, 0: unknown"""

    alert: str
    by: str
    note: str = ""
    at: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the content of the message."""
        at = {"at": ms_to_iso(self.at)} if self.at else {}
        return {"id": self.alert, "acknowledged": True, "by": self.by, "note": self.note, **at}


class FeedbackReader:
    """Reads messages of the feedback topic."""

    def __init__(self, config: Config) -> None:
        self._topics = origins(config)

    def __call__(self, value: bytes | None) -> Verdict | AlertAcknowledgement:
        """Return the verdict or the acknowledgement in a message's value.

        Raises:
            FeedbackError: the message is not feedback.
        """
        if value is None:
            raise FeedbackError(
                Fault.TOMBSTONE, 'the value is null; feedback is a JSON object such as {"id": ALERT_ID, "true": false}'
            )
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise FeedbackError(Fault.NOT_JSON, f"not JSON: {str(error)[:200]}") from None
        if not isinstance(document, dict):
            raise FeedbackError(
                Fault.NOT_AN_OBJECT, 'feedback is a JSON object such as {"id": ALERT_ID, "true": false}'
            )
        acknowledges = "acknowledged" in document
        for key in ("id", "by") if acknowledges else ("id", "true"):
            if key not in document:
                raise FeedbackError(
                    Fault.MISSING_FIELD,
                    f"`{key}` is missing; feedback has the alert's `id`, and `true`, or `acknowledged` and `by`",
                )
        alert, true = document["id"], document["acknowledged" if acknowledges else "true"]
        if acknowledges and true is not True:
            raise FeedbackError(Fault.WRONG_TYPE, f"`acknowledged` must be true, found {str(true)[:50]!r}")
        if not isinstance(true, bool):
            raise FeedbackError(Fault.WRONG_TYPE, f"`true` must be true or false, found {str(true)[:50]!r}")
        found = ALERT_ID.fullmatch(alert) if isinstance(alert, str) else None
        if found is None or found["topic"] not in self._topics:
            raise FeedbackError(
                Fault.WRONG_ID,
                f"`id` must be that of an alert of this flow, such as {self._topics[0]}-0-12345-anomaly, found "
                f"{str(alert)[:100]!r}",
            )
        return _acknowledgement(alert, document) if acknowledges else Verdict(alert, found["rule"], true)


def _acknowledgement(alert: str, document: dict[str, Any]) -> AlertAcknowledgement:
    by, note, at = (document.get(key) or "" for key in ("by", "note", "at"))
    if not isinstance(by, str) or not isinstance(note, str) or not by.strip():
        raise FeedbackError(Fault.WRONG_TYPE, "`by` and `note` must be texts: who attends to it, and what they do")
    try:
        ms = at if type(at) is int else iso_to_ms(at) if at else 0
    except (TypeError, ValueError, OverflowError):
        ms = 0
    at = ms if MIN_MS <= ms <= MAX_MS else 0
    return AlertAcknowledgement(alert, by.strip()[:MAX_TEXT], note.strip()[:MAX_TEXT], at)


class VerdictCounts:
    """Verdicts counted by rule; an alert counts once, by its last verdict.

    >>> counted = VerdictCounts()
    >>> [counted.add(Verdict(f"events-0-{i}-drift", "drift", i != 9)) for i in (7, 9)]
    [True, True]
    >>> counted.of("drift")
    {'rule': 'drift', 'true': 1, 'false': 1, 'precision': 0.5}
    """

    def __init__(self) -> None:
        self._counts = {rule: [0, 0] for rule in RULES}
        self._last: OrderedDict[str, bool] = OrderedDict()

    def add(self, verdict: Verdict) -> bool:
        """Count a verdict; return whether a count changed."""
        before = self._last.pop(verdict.alert, None)
        self._last[verdict.alert] = verdict.true
        if len(self._last) > MAX_VERDICTS:
            self._last.popitem(last=False)
        if before is verdict.true:
            return False
        counts = self._counts[verdict.rule]
        if before is not None:
            counts[before] -= 1
        counts[verdict.true] += 1
        return True

    def of(self, rule: str) -> dict[str, Any]:
        """Return the numbers of a rule's `true` and `false` alerts, and the share of true ones (None without any)."""
        false, true = self._counts[rule]
        return {
            "rule": rule,
            "true": true,
            "false": false,
            "precision": true / (true + false) if true + false else None,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return `of` for every rule."""
        return [self.of(rule) for rule in RULES]

    def dump(self) -> bytes:
        """Return all counts as JSON."""
        return orjson.dumps([self._counts, list(self._last.items())])

    @classmethod
    def load(cls, data: bytes) -> VerdictCounts:
        """Return the counts in the JSON that `dump` returned."""
        counted = cls()
        counts, last = orjson.loads(data)
        counted._counts |= counts
        counted._last.update(last)
        return counted
