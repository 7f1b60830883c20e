"""The messages of alerts by rules: those of the model's alerts, with null for what a rule has not."""

from __future__ import annotations

from typing import Any

from ssm_stream.config import Config
from ssm_stream.config.sections.alerts import LIMIT
from ssm_stream.engine.alert_kinds import KINDS

FIELDS = ("limit", "column", "value")
"""Fields that messages have in addition where the configuration has limits; null in those of the model."""


def alert_kinds(config: Config) -> list[str]:
    """Return the kinds of alerts of a configuration."""
    return [*KINDS, *([LIMIT] if config.alerts.limits else [])]


def rule_fields(config: Config) -> dict[str, Any]:
    """Return the fields that rules add to the alerts of the model, null; none where there are no rules."""
    return dict.fromkeys(FIELDS) if config.alerts.limits else {}


def limit_kind(text: str) -> str:
    """Return the `episode_kind` of a limit. text: of the limit"""
    return f"{LIMIT} {text}"


def episode_kind(message: dict[str, Any]) -> str:
    """Return the identity of an episode among those of its entity: the kind, and for a limit its text."""
    return limit_kind(message["limit"]) if message["kind"] == LIMIT else str(message["kind"])


def split_kind(kind: str) -> tuple[str, str | None]:
    """Return the kind of an `episode_kind`, and the text of the limit."""
    name, _, limit = kind.partition(" ")
    return name, limit or None


def limit_message(config: Config, text: str, entity: str, since: int, ts: int) -> dict[str, Any]:
    """Return the message of a limit's episode that ends without an event of its entity.

    Args:
        text: of the limit
        since, ts: of the episode's first event, and of the event at which it is sent, ms
    """
    several: dict[str, Any] = {"target": None, "targets": []} if len(config.event.targets) > 1 else {}
    return {
        "entity": entity,
        "scope": "entity",
        "kind": LIMIT,
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
        "budget": None,
        "config_hash": config.hash,
        "state_hash": None,
        **several,
        "limit": text,
        "column": next((each.column for each in config.alerts.limits if each.text == text), None),
        "value": None,
    }
