"""The kinds, phases, ends and scopes of alerts, for the engine, the messages and the metrics alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssm_stream.core import lifecycle

KINDS = lifecycle.KINDS
"""`anomaly` and `drift`, in the order of the rows of `LifecycleState`."""
PHASES = lifecycle.PHASES[1:]
"""`started`, `ongoing` and `recovered`, in the order in which an episode goes through them."""
SCOPES = ("entity", "fleet")
"""Whether an alert is about one entity or about many entities of a pool."""
BY_EVENT = lifecycle.ENDED[1:]
"""`recovered` and `absorbed`: an event of the entity ended the episode."""
STOPPED = "stopped"
"""As `ended_by`: the entity has left its operating condition for as long as recovery takes."""
ENDED_BY = (*BY_EVENT, STOPPED, "ttl", "reset", "rewind", "disabled", "maintenance")
"""What ends an episode; `maintenance` is reserved until a window ends some."""
FLEET, OTHER = "-fleet", "-"
"""Suffixes of the ids of a fleet's alerts, and of those that are numbered."""
SHADOW = "shadow"
"""As `suppressed_by`: what `alerts.shadow` withholds."""
MAINTENANCE = "maintenance"
"""As `suppressed_by`: what is withheld in a window of `alerts.maintenance`."""
SUPPRESSED_BY = ("fleet", SHADOW, MAINTENANCE)
"""What suppresses alerts, as metrics count them."""


def target_of(alert: Mapping[str, Any], targets: Sequence[str]) -> int:
    """Return the number of the target whose values show an alert best: the one that it is about, else the first.

    alert: its message, or the fields of its episode; a limit, silence or stuck value is about a column, which need be
    no target
    """
    about = alert.get("target") or alert.get("column")
    return targets.index(about) if about in targets else 0
