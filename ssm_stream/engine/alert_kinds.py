"""The kinds, phases, ends and scopes of alerts, for the engine, the messages and the metrics alike."""

from __future__ import annotations

from ssm_stream.core import lifecycle

KINDS = lifecycle.KINDS
"""`anomaly` and `drift`, in the order of the rows of `LifecycleState`."""
PHASES = lifecycle.PHASES[1:]
"""`started`, `ongoing` and `recovered`, in the order in which an episode goes through them."""
SCOPES = ("entity", "fleet")
"""Whether an alert is about one entity or about many entities of a pool."""
BY_EVENT = lifecycle.ENDED[1:]
"""`recovered` and `absorbed`: an event of the entity ended the episode."""
ENDED_BY = (*BY_EVENT, "ttl", "reset", "rewind", "disabled", "maintenance")
"""What ends an episode; `maintenance` is reserved until a window ends some."""
FLEET, OTHER = "-fleet", "-"
"""Suffixes of the ids of a fleet's alerts, and of those that are numbered."""
SHADOW = "shadow"
"""As `suppressed_by`: what `alerts.shadow` withholds."""
MAINTENANCE = "maintenance"
"""As `suppressed_by`: what is withheld in a window of `alerts.maintenance`."""
SUPPRESSED_BY = ("fleet", SHADOW, MAINTENANCE)
"""What suppresses alerts, as metrics count them."""
