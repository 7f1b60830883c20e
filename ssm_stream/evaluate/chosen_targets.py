"""Some of the targets of a configuration, for commands that judge them one by one."""

from __future__ import annotations

from collections.abc import Sequence

from ssm_stream.config import Config, ConfigError
from ssm_stream.config.suggestions import suggest
from ssm_stream.evaluate.budgets import scale_budget


def choose_targets(config: Config, named: Sequence[str] = ()) -> list[str]:
    """Return the targets that were named, in the order of the configuration; without names, all.

    Raises:
        ConfigError: one of them is no target: names the nearest that is.
    """
    for path in named:
        if path not in config.event.targets:
            raise ConfigError(f"--target: {path!r} is no target; {suggest(path, config.event.targets, 'the targets')}")
    return [path for path in config.event.targets if not named or path in named]


def alone(config: Config, target: str | None) -> Config:
    """Return the configuration of one target alone, with its share of the budgets; None: the configuration.

    It predicts, and alerts, as the target's engine among the others does. Rules and planned stops stay; of the signals
    that may be stuck, those that are left.
    """
    if target is None or len(config.event.targets) == 1:
        return config
    share, alerts, event = 1.0 / len(config.event.targets), config.alerts, config.event.for_target(target)
    if not isinstance(alerts.stuck, bool) and event.features != "auto":
        left = [path for path in alerts.stuck if path in (*event.numbers, *event.targets)]
        alerts = alerts.model_copy(update={"stuck": left or False})
    if alerts.budget is not None:
        alerts = alerts.with_team_budget(alerts.budget.scaled(share))
    else:
        anomaly = alerts.anomaly.model_copy(update={"budget": scale_budget(alerts.anomaly.budget, share)})
        drift = alerts.drift.model_copy(update={"budget": scale_budget(alerts.drift.budget, share)})
        alerts = alerts.model_copy(update={"anomaly": anomaly, "drift": drift})
    return config.replace(event=event, alerts=alerts)
