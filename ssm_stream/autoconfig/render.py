"""Renders a draft as a commented YAML file."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence

import yaml

from ssm_stream.autoconfig.alert_rules.budgets import BY_EVENTS, BY_TIME, budget_of, is_by_time, patience
from ssm_stream.autoconfig.draft import Draft
from ssm_stream.autoconfig.stops import WARMUP, Stops
from ssm_stream.config.natural_order import natural_key
from ssm_stream.config.quantities import format_duration
from ssm_stream.config.quantities import rough_duration as _span
from ssm_stream.config.sections.aggregate import Aggregate
from ssm_stream.config.sections.alerts import SILENCE, STUCK, Anomaly
from ssm_stream.config.sections.operating import Quality

WIDTH = 100
MAX_LEFT_OUT, MAX_ALIKE = 20, 3  # lines on columns left out; columns of one reason with a line each
MAX_COOLDOWN = 43_200.0  # s after an anomaly in which no other of the machine begins: no whole day is to be lost
MAX_SPARSE = 0.2
"""Share of the events with a target up to which what a label means is worth a note."""
SOFT = (
    ". lags: 0 makes a soft sensor, which does not lean on the last value; for values that come later than their rows "
    "there is the section labels"
)


def render_config(
    draft: Draft,
    topic: str,
    brokers: str,
    kafka: Mapping[str, str],
    sampled: str,
    alerts_per_week: float | None = None,
    reading: str = "",
) -> str:
    """Return the file's text.

    Args:
        draft: the event section
        topic: of the events; brokers: bootstrap servers
        kafka: properties of the clients, with placeholders for secrets
        sampled: description of the sample
        alerts_per_week: false alarms of all its entities together; None: a budget for each entity
        reading: how the file is read, if not as it stands
    """
    event, why = draft.event, draft.why
    lines = [
        f"# Drafted from {_one_line(sampled)}. Every key with its default: configs/reference.yaml;",
        "# ssm-stream validate explains a file, ssm-stream backtest measures how well it predicts a recording.",
        *(f"# {line}" for line in textwrap.wrap(_one_line(reading), WIDTH - 2)),
        "",
        "source:",
        f"  brokers: {yaml_quoted(brokers)}",
        f"  topic: {yaml_quoted(topic)}",
    ]
    if kafka:
        lines += ["  kafka:", *(f"    {yaml_quoted(key)}: {yaml_quoted(value)}" for key, value in kafka.items())]
    lines += ["", "event:", *_layout(draft)]
    if event.tag is None:
        lines += [*_why(why.get("entity")), f"  entity: {yaml_quoted(event.entity)}"]
    if event.entity_default is not None:
        lines.append(
            f"  entity_default: {yaml_quoted(event.entity_default)}   # the name of the one machine; change it freely"
        )
    lines += [*_why(why.get("timestamp")), f"  timestamp: {yaml_quoted(event.timestamp)}"]
    lines.append(f"  timestamp_format: {event.timestamp_format}")
    if "time_zone" in why:
        lines += [*_why(why["time_zone"]), f"  time_zone: {event.time_zone}"]
    elif "without an offset" in why.get("timestamp", ""):
        lines.append("  time_zone: UTC   # or an IANA name such as Asia/Tokyo, where they are local times")
    if event.format != "json":
        lines.append(f"  format: {event.format}   # messages name their schema, which is in schema_registry")
    if event.aggregate is not None:
        lines += [*_why(why.get("aggregate")), *_windows(event.aggregate)]
    targets = event.targets
    lines += _why(f"what is predicted, and watched: {why.get('target')}")
    if event.watches_all:
        lines += ["  target: all", *_alone(draft.alone), *_paths("features", targets)]
        if event.inputs is not None:
            lines += [*_why(why.get("inputs")), *_paths("inputs", event.inputs)]
    else:
        lines += [f"  target: {yaml_quoted(targets[0])}"] if len(targets) == 1 else _paths("target", targets)
        lines += [*_why(why.get("features")), *_paths("features", event.numbers)]
    if event.quality is not None:
        lines += [*_why(why.get("quality")), *_quality(event.quality)]
    if event.categories:
        lines += [*_why(why.get("categories")), *_paths("categories", event.categories)]
    lines += _left_out(draft.left_out)
    if draft.rest is not None:
        what = f"{draft.rest.what}. Without the mark before it, this leaves such rows out of learning and alerts:"
        lines += [*_why(what), f"  # when: {_one_line(draft.rest.when)}"]
    lines += [
        *_why(sparse_note(draft)),
        *_past(draft),
        "",
    ]
    lines += [
        *(_entity_budgets(draft) if alerts_per_week is None else _team_budget(alerts_per_week, draft.entities)),
        *_stopped(draft.stops),
        "",
        "sinks:",
        "  predictions: predictions",
        "  alerts: alerts",
        "  dead_letters: dead-letters",
        "",
        "# What has been learned is kept here across restarts.",
        "recovery:",
        "  directory: ssm-stream-state",
        "",
        *_lifetime(draft.stops),
    ]
    return "\n".join(lines)


def _past(draft: Draft) -> list[str]:
    """Return the setting of past targets, and the section `labels` where they come late."""
    labels = draft.labels
    if labels is None:
        return ["  # lags: 8   # past targets as inputs; 0: a soft sensor, which must not lean on the last measurement"]
    marker = yaml_quoted(labels.marker or "")
    return [
        "  lags: 0   # past targets as inputs: a soft sensor, which must not lean on the last measurement",
        "",
        *_comment(f"Labels come later than their events: {draft.why.get('labels')}."),
        "labels:",
        f"  marker: {marker}   # a row that has it is a label, any other an event",
        f"  target: {marker}",
        f"  wait: {format_duration(labels.wait)}   # so long an event waits for its label",
        f"  pending: {labels.pending}   # so many of an entity at most",
    ]


def sparse_note(draft: Draft) -> str | None:
    """Return a note on the settings that matter where few events have the target; None where many have it."""
    if not _is_sparse(draft):
        return None
    (*_, target), step = draft.event.targets, draft.step / draft.labelled
    return (
        f"`{target}` has a value in 1 of {1.0 / draft.labelled:.0f} rows, about every {_span(step)}; these alone are "
        f"learned and judged. An entity may raise alerts after {WARMUP} of them (model.warmup), about "
        f"{_span(WARMUP * step)}, and a budget of events counts them alone: give one as a time, such as 1 per 30d"
        + ("" if draft.labels is not None else SOFT)
    )


def _is_sparse(draft: Draft) -> bool:
    return 0.0 < draft.labelled <= MAX_SPARSE


def _entity_budgets(draft: Draft) -> list[str]:
    """Return the section `alerts` with a budget for an entity, which counts the events with a target."""
    what, step = ("value", draft.step / draft.labelled) if _is_sparse(draft) else ("row", draft.step)
    often = f" at a {what} every {_span(step)} about once in {_span(patience(step))} each" if step > 0 else " each"
    stops = draft.stops
    left_out = (None, None) if stops is None else (stops.silence, stops.stuck)
    on = [] if stops is None else [name for name, why in zip((SILENCE, STUCK), left_out, strict=True) if why is None]
    together = " together" if len(on) > 1 else ""
    budget, other = budget_of(step), f"events: {BY_EVENTS}" if is_by_time(step) else f"a time: {BY_TIME}"
    others = f"; of {' and '.join(on)}{together} as many as of anomaly" if on else ""
    return [
        *_comment(f"How many false alarms an entity may raise, of anomaly and of drift{often}{others}."),
        *_comment(_warmup(step)),
        *_comment(_of_all(step, draft.entities, 2 + bool(on))),
        "alerts:",
        "  anomaly:",
        f"    budget: {budget}   # or {other}",
        *_cooldown(step),
        "  drift:",
        f"    budget: {budget}",
    ]


def _cooldown(step: float) -> list[str]:
    """Return the line that lets an anomaly begin soon after another where rows are rare. step: as of `_warmup`"""
    default = Anomaly().cooldown
    if default * step < MAX_COOLDOWN:
        return []
    return [
        f"    cooldown: 0   # the default of {default} events is about {_span(default * step)} in which no other begins"
    ]


def _of_all(step: float, entities: int, kinds: int) -> str:
    """Return how often all entities may raise a false alarm. step: s between two events of one; kinds: its budgets"""
    if not (step > 0 and entities > 1):
        return ""
    often = _span(patience(step) / (kinds * entities))
    return (
        f"Of all {entities} of the sample that is one about every {often}: ssm-stream init --alerts-per-week gives all "
        "of them one number."
    )


def _team_budget(alerts_per_week: float, entities: int) -> list[str]:
    """Return the section `alerts` with a budget for all entities together."""
    return [
        "# How many false alarms all entities together may raise; correct `entities`, which is the sample's, if there",
        "# will be others.",
        "alerts:",
        f"  budget: {{alerts: {alerts_per_week:g}, per: 7d, entities: {entities}}}",
    ]


def _warmup(step: float) -> str:
    """Return when alerts begin, and what is new to a young model. step: s between two that are learned"""
    if not step > 0:
        return ""
    return (
        f"They begin {WARMUP} of those after an entity's first (model.warmup), about {_span(WARMUP * step)}. What "
        "recurs more slowly (a day, a week, a batch) is new to a model until it comes again: alerts before that mean "
        "little."
    )


def _stopped(stops: Stops | None) -> list[str]:
    """Return the switches of the section `alerts` for what stops; in a comment those that do not suit the sample."""
    if stops is None:
        return []
    after = "auto" if stops.after is None else format_duration(stops.after)
    pauses = f"; {_one_line(stops.pauses)}" if stops.pauses else ""
    silence = (f"silence: {{after: {after}}}", f"machines whose events stop, columns without values{pauses}")
    if stops.columns is not None and stops.silence is None:
        silence = (
            f"silence: {{after: {after}, columns: false}}",
            f"machines whose events stop, not columns: {_one_line(stops.columns)}{pauses}",
        )
    repeat = "signals that repeat one value as they never did"
    some = stops.watched is not None and stops.stuck is None
    switches = [(*silence, stops.silence), *([] if some else [("stuck: true", repeat, stops.stuck)])]
    lines = [
        f"  {setting}   # {what}" if left_out is None else f"  # {setting}   # left out: {_one_line(left_out)}"
        for setting, what, left_out in switches
    ]
    if some:
        lines += [*_why(f"{repeat}. Left out: {stops.unwatched}"), *_paths("stuck", stops.watched or [])]
    return lines


def _lifetime(stops: Stops | None) -> list[str]:
    """Return the section `state` where machines end within the sample."""
    if stops is None or stops.ttl is None:
        return []
    return [
        f"# {stops.silence}: after so long without events the state of one goes,",
        "# and an alert of it that is still open ends. A machine that comes back later starts afresh.",
        "state:",
        f"  ttl: {format_duration(stops.ttl)}",
        "",
    ]


def yaml_quoted(text: str) -> str:
    """Return a text as a YAML scalar on one line: bare where that is safe, else in quotes."""
    plain = re.fullmatch(r"[A-Za-z0-9_$][A-Za-z0-9_./:${}-]*", text) and not text.endswith(":")
    return text if plain and yaml.safe_load(f"a: {text}") == {"a": text} else _in_quotes(text)


def _in_quotes(text: str) -> str:
    whole: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1_000_000)
    return whole.strip()


def _why(reason: str | None) -> list[str]:
    lines = textwrap.wrap(_one_line(reason or ""), WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    return [f"  # {line}" for line in lines]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False)]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _paths(key: str, paths: Sequence[str]) -> list[str]:
    names = [yaml_quoted(path) if not set(path) & set(",[]{}") else _in_quotes(path) for path in paths]
    short = f"  {key}: [{', '.join(names)}]"
    return [short] if len(short) <= WIDTH else [f"  {key}:", *(f"    - {name}" for name in names)]


def _layout(draft: Draft) -> list[str]:
    """Return how readings are read; nothing where each message is a row."""
    event = draft.event
    if event.layout == "events":
        return []
    lines = [*_why(draft.why.get("layout")), f"  layout: {event.layout}"]
    if event.tag is not None:
        lines.append(f"  tag: {{field: {_in_quotes(event.tag.field)}, pattern: {_in_quotes(event.tag.pattern)}}}")
    if event.signal is not None:
        lines.append(f"  signal: {yaml_quoted(event.signal)}")
    lines.append(f"  value: {yaml_quoted(event.value)}")
    if event.every is not None:
        lines += [*_why(draft.why.get("every")), f"  every: {format_duration(event.every)}"]
    if event.grace:
        lines += [*_why(draft.why.get("grace")), f"  grace: {format_duration(event.grace)}"]
    return lines


def _windows(aggregate: Aggregate) -> list[str]:
    """Return the section `event.aggregate`."""
    lines = ["  aggregate:", f"    every: {format_duration(aggregate.every)}", "    columns:"]
    for name, column in aggregate.columns.items():
        lines.append(f"      {yaml_quoted(name)}: {_flow(column.model_dump())}")
    return lines


def _flow(value: object) -> str:
    """Return a value as YAML on one line; a test of equality as what must be equal."""
    if isinstance(value, dict) and set(value) == {"one_of"}:
        return _flow(value["one_of"][0] if len(value["one_of"]) == 1 else value["one_of"])
    if isinstance(value, dict):
        return f"{{{', '.join(f'{yaml_quoted(key)}: {_flow(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return (
        yaml_quoted(value)
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else json.dumps(value)
    )


def _alone(path: str | None) -> list[str]:
    """Return a comment on how to have one target alone."""
    if path is None:
        return []
    return _why(f"One alone, from the others: the same ssm-stream init with --target {shlex.quote(path)}")


def _quality(quality: Quality) -> list[str]:
    """Return the section `event.quality`."""
    out = ["  quality:"]
    if quality.column is not None:
        out.append(f"    column: {yaml_quoted(quality.column)}")
    if quality.columns:
        out += ["    columns:", *(f"      {yaml_quoted(a)}: {yaml_quoted(b)}" for a, b in quality.columns.items())]
    good = [yaml_quoted(each) if isinstance(each, str) else json.dumps(each) for each in quality.good.one_of or []]
    return [*out, f"    good: [{', '.join(good)}]"]


def _left_out(left_out: Mapping[str, str]) -> list[str]:
    """Return the columns left out: those of one reason on a line of their own each, many of them together."""
    lines = []
    for paths, reason in by_reason(left_out):
        many = len(paths) > MAX_ALIKE
        wrapped = textwrap.wrap(f"{_one_line(', '.join(paths))}: {_one_line(reason)}", WIDTH - 6) if many else []
        lines += [f"  #   {line}" for line in wrapped] or [f"  #   {_one_line(*paths)}: {_one_line(reason)}"]
    if len(lines) > MAX_LEFT_OUT:
        lines[MAX_LEFT_OUT:] = [f"  #   and {len(lines) - MAX_LEFT_OUT} more lines: ssm-stream init --json has all"]
    return ["  # Left out:", *lines] if lines else []


def by_reason(left_out: Mapping[str, str]) -> Iterator[tuple[list[str], str]]:
    """Yield paths with their reason: each path by itself, but more than three of one reason together."""
    alike = {reason: [path for path, other in left_out.items() if other == reason] for reason in left_out.values()}
    for path, reason in left_out.items():
        if len(alike[reason]) <= MAX_ALIKE:
            yield [path], reason
        elif path == alike[reason][0]:
            yield sorted(alike[reason], key=natural_key), reason
