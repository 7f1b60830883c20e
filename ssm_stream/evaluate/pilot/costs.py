"""What things cost, how large the fleet is, and the bars of each stage: the file that a pilot is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import Field, ValidationError

from ssm_stream.config import ConfigError, Section
from ssm_stream.config.suggestions import suggest

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Alarms = Literal["never", "three_sigma", "sigma", "ewma", "adwin"]
Figure = Literal[
    "judged_events", "error_ratio", "coverage_off", "true_events", "recall", "false_share", "false_a_week", "usable",
    "settings", "saved_share", "productivity", "over_random", "cores", "memory_gb", "growth",
]  # fmt: skip
"""Figures that a stage may have a bar for; `stages` has where each stands in the report."""
Bars = dict[Figure, Annotated[float, Field(allow_inf_nan=False)] | None]

CURRENCIES = {"en": "EUR", "ja": "JPY"}
"""By language, where the file names none."""
PER_EURO = {"JPY": 100.0}
"""Of the assumed amounts, by currency: not the rate of exchange, but one for all, so that no verdict depends on it."""
PRICES = ("false_alarm", "missed_hour", "retraining", "engineer_hour", "running_week")


class Stages(Section):
    """Bars that a stage of the introduction has to meet, by figure.

    A bar that is left out is the default one; null: none.
    """

    task: Bars = Field(default_factory=dict)
    """One small task, and nobody is called."""
    field: Bars = Field(default_factory=dict)
    """One line: its people are called."""
    fleet: Bars = Field(default_factory=dict)
    """All machines."""


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
    running_week: Amount = 25.0
    """Of this product, a week: its machine, and who takes care of it."""
    alarms_today: Alarms = "never"
    """How alarms are raised today; savings are against that."""
    retrained_today: Literal["nightly", "never"] = "nightly"
    """Whether today's model, or the one that would be built instead, is retrained."""
    entities: Annotated[int, Field(ge=1)] | None = None
    """Of the fleet that machines are sized for; None: as many as recorded."""
    events_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Of the whole fleet; None: as often an entity as recorded."""
    stages: Stages = Stages()

    @property
    def assumed(self) -> list[str]:
        """Names of what the file leaves out; the size of the fleet follows from the recording."""
        measured = {"entities", "events_per_second"}
        return [name for name in type(self).model_fields if name not in self.model_fields_set | measured]


def default_costs(language: Literal["en", "ja"] = "en", given: Costs | None = None) -> Costs:
    """Return the costs with the currency of the language, and the assumed amounts of the currency.

    Args:
        given: of a file: what it holds stays
    """
    given = given or Costs()
    fields = dict(given)
    if "currency" not in given.model_fields_set:
        fields["currency"] = CURRENCIES[language]
    factor = PER_EURO.get(fields["currency"], 1.0)
    for name in PRICES:
        if name not in given.model_fields_set:
            fields[name] = factor * fields[name]
    return Costs.model_construct(_fields_set=set(given.model_fields_set), **fields)


def read_costs(path: Path | None, language: Literal["en", "ja"] = "en") -> Costs:
    """Return the costs of a YAML file; without one, assumptions only.

    Raises:
        ConfigError: it cannot be read, or holds a wrong key or value: names line and key, and the cure.
    """
    if path is None:
        return default_costs(language)
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    known = list(Costs.model_fields)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: no costs; write lines such as `false_alarm: 50` ({', '.join(known)})")
    try:
        return default_costs(language, Costs.model_validate({str(key): value for key, value in raw.items()}))
    except ValidationError as error:
        problems = []
        for item in error.errors():
            keys = [str(part) for part in item["loc"] if part != "[key]"]
            where = f"{path}:{_line(root, keys)}: {'.'.join(keys)}"
            if item["type"] == "extra_forbidden":
                names = known if len(keys) == 1 else list(Stages.model_fields)
                problems.append(f"{where}: unknown key; {suggest(keys[-1], names)}")
            elif item["type"] == "literal_error" and item["loc"][-1] == "[key]":
                problems.append(f"{where}: unknown figure; {suggest(keys[-1], list(get_args(Figure)))}")
            else:
                problems.append(f"{where}: {item['msg']} (found {item['input']!r})")
        raise ConfigError("\n".join(problems)) from None


def _line(root: yaml.Node | None, keys: list[str]) -> int:
    """Return the line of a key in the file, or of the nearest key above it."""
    line = 1
    for key in keys:
        found = [pair for pair in root.value if pair[0].value == key] if isinstance(root, yaml.MappingNode) else []
        if not found:
            break
        line, root = found[0][0].start_mark.line + 1, found[0][1]
    return line
