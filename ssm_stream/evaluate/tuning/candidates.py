"""What `tune` tries: a short list of values a key. What only a person can decide is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssm_stream.config import Anomaly, Config, Derived, Drift
from ssm_stream.evaluate.budgets import scale_budget
from ssm_stream.evaluate.tuning.targets import Targets

LAGS = (1, 2, 4, 8, 16, 32)
FEATURE_LAGS = (0, 2, 4, 8)
"""Not 1: that is the changes of `differences`."""
CALENDARS: tuple[Any, ...] = ("auto", [], ["hour", "weekday"], ["hour_cycle", "weekday_cycle"])
HALF_LIVES: tuple[tuple[int, ...] | None, ...] = (None, (20, 200), (100, 1000), (300, 3000), (1000, 10_000))
"""In events, of the moment heads; None: those of the weights."""
LEVELS = (0.8, 0.9, 0.95, 0.99)
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Times the false alarms that the configuration allows."""
PROFILES, WINDOWS = ("fast", "accurate"), (128, 256, 512)
SIZES, SCALES = (16, 32, 64, 128, 256), (0.5, 1.0, 2.0)
HEADS = ("moments", "products", "proximal", "embedding")
"""Of the profile `fast`; `accurate` has attention, too."""
KEYS = (
    "lags", "differences", "feature_lags", "calendar", "profile", "window", "heads", "gate", "embedding_size",
    "embedding_scale", "half_lives", "log_space", "fleet", "features",
)  # fmt: skip
"""Names of the groups, in the order in which they are tried."""
ON_REQUEST = ("derive",)
"""Names of the groups that are tried only if they are named."""
MAX_SOURCES = 5
"""Features, the first ones, of which ratios and products are tried."""
Settings = dict[str, Any]


def candidates(group: str, config: Config, targets: Targets) -> list[Settings]:
    """Return the values of a group to try, other than the configured one, each with the keys that it changes.

    `lags: 0` means that the last measurement is not to be used, and stays; a horizon, the targets, and which columns
    are there when an event comes are also a person's decision.
    """
    event, model = config.event, config.model
    if group == "lags":
        return [{"event.lags": n} for n in LAGS if event.lags and n != event.lags]
    if group == "differences":
        if event.feature_lags or not has_numbers(config):
            return []
        return [{"event.differences": not event.uses_differences}]
    if group == "feature_lags":
        return [{"event.feature_lags": n} for n in FEATURE_LAGS if has_numbers(config) and n != event.feature_lags]
    if group == "calendar":
        return [{"event.calendar": value} for value in CALENDARS if value != event.calendar]
    if group == "half_lives":
        now = None if model.tuned.half_lives is None else [each.text for each in model.tuned.half_lives]
        lists = [None if each is None else [f"{n} events" for n in each] for each in HALF_LIVES]
        uses = model.tuned.heads is None or "moments" in model.tuned.heads or "attention" in model.tuned.heads
        return [{"model.tuning.half_lives": value} for value in lists if uses and value != now]
    if group in ("profile", "window", "heads", "gate", "embedding_size", "embedding_scale"):
        return _of_the_learner(group, config)
    if group == "derive":
        return _derived(config)
    if group == "log_space":
        return [] if targets.negative else [{"model.tuning.log_space": not model.tuned.log_space}]
    if group == "fleet":
        return [{"model.fleet": not model.fleet}] if len(targets.entities) > 1 else []
    return without_columns(config)


def has_numbers(config: Config) -> bool:
    """Return whether targets have numeric inputs."""
    return any(config.event.inputs_of(path) for path in config.event.targets)


def listed(config: Config, key: str) -> list[str]:
    """Return the columns that a key lists. key: `event.features`, `event.categories` or `event.inputs`"""
    event = config.event
    if key == "event.inputs":
        return list(event.targets if event.inputs is None else event.inputs)
    return event.categories if key == "event.categories" else list(event.features)


COLUMN_KEYS = ("event.features", "event.categories", "event.inputs")


def heads_of(config: Config) -> list[str]:
    """Return the heads that predict."""
    model = config.model
    if model.tuned.heads is not None:
        return list(model.tuned.heads)
    return [*HEADS, *(["attention"] if model.profile == "accurate" else [])]


def _of_the_learner(group: str, config: Config) -> list[Settings]:
    """Return the values of a group of `model` that changes what the learner consists of, and so what it costs."""
    model, heads = config.model, heads_of(config)
    if group == "profile":  # with a list of heads, the profile decides nothing
        return [{"model.profile": name} for name in PROFILES if model.tuned.heads is None and name != model.profile]
    if group == "window":
        return [{"model.tuning.window": n} for n in WINDOWS if "attention" in heads and n != model.tuned.window]
    if group == "gate":
        other = "equal" if model.tuned.gate == "learned" else "learned"
        return [{"model.tuning.gate": other}] if len(heads) > 1 else []
    if group == "heads":
        fewer = [[each for each in heads if each != head] for head in heads if len(heads) > 1]
        if model.tuned.embedding != type(model.tuned.embedding)():
            fewer = [each for each in fewer if "embedding" in each]
        return [
            {"model.tuning.heads": each} for each in [*fewer, *([*heads, head] for head in HEADS if head not in heads)]
        ]
    if "embedding" not in heads:
        return []
    if group == "embedding_size":
        return [{"model.tuning.embedding.size": n} for n in SIZES if n != model.tuned.embedding.size]
    return [{"model.tuning.embedding.scale": scale} for scale in SCALES if scale != model.tuned.embedding.scale]


def _derived(config: Config) -> list[Settings]:
    """Return ratios and products of pairs of features. Their differences are no news to a head that is linear."""
    event = config.event
    plain = [path for path in event.numbers if path not in event.derive][:MAX_SOURCES]
    known = {(each.operation, tuple(each.sources)) for each in event.derive.values()}
    out = []
    for i, a in enumerate(plain):
        for b in plain[i + 1 :]:
            for operation, word, pair in (
                ("ratio", "per", (a, b)),
                ("ratio", "per", (b, a)),
                ("product", "by", (a, b)),
            ):
                name = f"{pair[0]}_{word}_{pair[1]}".replace(".", "_")
                if (operation, pair) not in known and name not in event.columns:
                    out.append({f"event.derive.{name}": {operation: list(pair)}})
    return out


def without_columns(config: Config) -> list[Settings]:
    """Return each feature and each category left out; with `target: all` each input, as its features are targets."""
    event, out = config.event, list[Settings]()
    if event.watches_all:
        inputs = listed(config, "event.inputs")
        out += [{"event.inputs": [each for each in inputs if each != path]} for path in inputs]
    for path in [] if event.watches_all else event.numbers:
        left: Settings = {"event.features": [each for each in event.numbers if each != path]}
        if path in event.derive:
            others = {name: each for name, each in event.derive.items() if name != path}
            left["event.derive"] = {name: each.model_dump(exclude_defaults=True) for name, each in others.items()}
        out.append(left)
    return out + [
        {"event.categories": [each for each in event.categories if each != path]} for path in event.categories
    ]


def with_columns_added(config: Config, columns: Mapping[str, str]) -> list[Settings]:
    """Return each of these columns added. columns: path → key that lists it"""
    return [{key: [*listed(config, key), path]} for path, key in columns.items()]


def budgets(config: Config, factor: float) -> Settings:
    """Return the budgets with `factor` times as many false alarms allowed: the team's, or those of both kinds."""
    alerts = config.alerts
    if alerts.budget is not None:
        scaled = alerts.budget.alerts * factor
        return {"alerts.budget.alerts": scaled if factor == 1.0 else float(f"{scaled:.2g}")}
    sections: dict[str, Anomaly | Drift] = {"anomaly": alerts.anomaly, "drift": alerts.drift}
    return {
        f"alerts.{name}.budget": scale_budget(section.budget, factor, digits=2).text
        for name, section in sections.items()
        if section.enabled
    }


def describe(settings: Settings, before: Config) -> str:
    """Return in a few words what the settings change of a configuration."""
    parts: list[str] = []
    for key, value in settings.items():
        name = key.partition(".")[2].removeprefix("tuning.")
        if key == "event.derive":
            continue  # its names are among the features
        if key.startswith("event.derive."):
            parts.append(f"with {name.removeprefix('derive.')}: {Derived.model_validate(value).text}")
        elif key in COLUMN_KEYS:
            was = listed(before, key)
            parts += [f"without {path}" for path in was if path not in value]
            parts += [f"with {path}" for path in value if path not in was]
        else:
            parts.append(f"{name}: {_plain(value)}")
    return "; ".join(parts)


def _plain(value: Any) -> str:
    if value is None:
        return "as the weights have it"
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
