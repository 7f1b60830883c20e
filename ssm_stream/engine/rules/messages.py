"""The messages of alerts by rules: those of the model's alerts, with null for what a rule has not."""

from __future__ import annotations

import re
from typing import Any

from ssm_stream.config import Config
from ssm_stream.config.sections.alerts import LIMIT, SILENCE, STUCK
from ssm_stream.engine.alert_kinds import KINDS

_TEST = r"(?:above|below|from|to) [-+.e0-9]+"
_BOUNDED = re.compile(rf"(.+?) {_TEST}(?: and {_TEST})*")
"""The text of a limit with bounds alone: its column first."""


def rule_kinds(config: Config) -> list[str]:
    """Return the kinds of alerts that the rules of a configuration raise."""
    alerts = config.alerts
    found = {LIMIT: bool(alerts.limits), SILENCE: alerts.silence is not None, STUCK: bool(alerts.stuck)}
    return [kind for kind, used in found.items() if used]


def alert_kinds(config: Config) -> list[str]:
    """Return the kinds of alerts of a configuration."""
    return [*KINDS, *rule_kinds(config)]


def rule_fields(config: Config) -> list[str]:
    """Return the fields that messages have in addition where there are rules; null in those of the model."""
    fields = ["column", "value"] if rule_kinds(config) else []
    return ["limit", *fields] if config.alerts.limits else fields


def rule_kind(kind: str, subject: str | None) -> str:
    """Return the `episode_kind` of a rule. subject: text of a limit, or a column; None: the whole entity"""
    return kind if subject is None else f"{kind} {subject}"


def episode_kind(message: dict[str, Any]) -> str:
    """Return the identity of an episode among those of its entity: the kind, and what else a rule has one for."""
    kind = message["kind"]
    if kind in KINDS:
        return str(kind)
    return rule_kind(kind, message["limit"] if kind == LIMIT else message["column"])


def split_kind(kind: str) -> tuple[str, str | None]:
    """Return the kind of an `episode_kind`, and its subject."""
    name, _, subject = kind.partition(" ")
    return name, subject or None


def rule_message(config: Config, kind: str, subject: str | None, entity: str, since: int, ts: int) -> dict[str, Any]:
    """Return the message of an episode of a rule that ends without an event of its entity.

    Args:
        subject: as of `rule_kind`
        since, ts: of the episode's first event, and of the event at which it is sent, ms
    """
    several: dict[str, Any] = {"target": None, "targets": []} if len(config.event.targets) > 1 else {}
    column = subject if subject is None or kind != LIMIT else _column_of(config, subject)
    # A rule that is gone keeps the fields that name its episode; the budget, though, is never null without rules.
    own = {"limit": subject if kind == LIMIT else None} if kind == LIMIT or config.alerts.limits else {}
    budget = None if kind == LIMIT and rule_kinds(config) else config.alerts.anomaly.budget.text
    if config.alerts.silence is not None and kind == SILENCE and config.alerts.silence.after != "auto":
        budget = budget if column is not None else None
    return {
        **ended_message(config, entity, kind, since, ts, budget),
        **several,
        **own,
        "column": column,
        "value": None,
    }


def _column_of(config: Config, limit: str) -> str | None:
    """Return the column of a limit, which may be gone, by its text; None if that does not show it."""
    for each in config.alerts.limits:
        if each.text == limit:
            return each.column
    bounded = _BOUNDED.fullmatch(limit)
    if bounded is not None and not bounded[1].endswith(" and"):
        return bounded[1]
    event = config.event
    known = [*event.numbers, *event.categories, *event.targets, *(each.column for each in config.alerts.limits)]
    return max((path for path in known if limit.startswith(f"{path} ")), key=len, default=None)


def ended_message(config: Config, entity: str, kind: str, since: int, ts: int, budget: str | None) -> dict[str, Any]:
    """Return the fields that all alerts have, of an episode that no event of its entity ends: what belongs to such an
    event is null.

    kind: of the message; since, ts: of the episode's first event, and of the event at which it is sent, ms
    """
    return {
        "entity": entity,
        "scope": "entity",
        "kind": kind,
        "phase": "recovered",
        "episode": None,
        "ended_by": None,
        "severity": "warning",
        "summary": "",
        "ts": ts,
        **dict.fromkeys(("score", "y", "yhat", "yhat_lower", "yhat_upper")),
        "since": since,
        "absorbed_after": None,
        "contributions": [],
        "weight_change": [],
        "heads": [],
        "channel": None,
        "change": None,
        "learning": 1.0,
        "budget": budget,
        "config_hash": config.hash,
        "state_hash": None,
    }
