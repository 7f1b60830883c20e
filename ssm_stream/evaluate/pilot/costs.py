"""What things cost: the file that turns alarms and retrainings into money."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from ssm_stream.config import ConfigError, Section
from ssm_stream.config.suggestions import suggest

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Alarms = Literal["never", "three_sigma", "sigma", "ewma", "adwin"]


class Costs(Section):
    """What things cost. What the file leaves out is an assumption, and the report shows it as one."""

    currency: Annotated[str, Field(min_length=1, max_length=8)] = "EUR"
    """How amounts are named."""
    false_alarm: Amount = 50.0
    """Of one false alarm: someone checks it."""
    missed_hour: Amount = 200.0
    """Of an hour of a true event without an alarm."""
    retraining: Amount = 10.0
    """Of one nightly retraining of a batch model, for all entities together: computing and maintenance."""
    engineer_hour: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 75.0
    """Of an engineer's hour; work is counted in these."""
    alarms_today: Alarms = "never"
    """How alarms are raised today; savings are against that."""
    retrained_today: Literal["nightly", "never"] = "nightly"
    """Whether today's model, or the one that would be built instead, is retrained."""

    @property
    def assumed(self) -> list[str]:
        """Names of what the file leaves out."""
        return [name for name in type(self).model_fields if name not in self.model_fields_set]


def read_costs(path: Path | None) -> Costs:
    """Return the costs of a YAML file; without one, assumptions only.

    Raises:
        ConfigError: it cannot be read, or holds a wrong key or value: names line and key, and the cure.
    """
    if path is None:
        return Costs()
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    known = list(Costs.model_fields)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: no costs; write lines such as `false_alarm: 50` ({', '.join(known)})")
    lines = {key.value: key.start_mark.line + 1 for key, _ in root.value} if root is not None else {}
    try:
        return Costs.model_validate({str(key): value for key, value in raw.items()})
    except ValidationError as error:
        problems = []
        for item in error.errors():
            name = str(item["loc"][0])
            where = f"{path}:{lines.get(name, 1)}: {name}"
            if item["type"] == "extra_forbidden":
                problems.append(f"{where}: unknown key; {suggest(name, known)}")
            else:
                problems.append(f"{where}: {item['msg']} (found {item['input']!r})")
        raise ConfigError("\n".join(problems)) from None
