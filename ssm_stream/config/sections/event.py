"""The section `event`: which fields of an event are its entity, time, features and targets."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ssm_stream.config.quantities import Duration
from ssm_stream.config.sections.aggregate import Aggregate
from ssm_stream.config.sections.base import ConfigError, Path, Section
from ssm_stream.config.sections.conditions import fields
from ssm_stream.config.sections.derive import MAX_DERIVED, Derived
from ssm_stream.config.sections.holidays import Holidays, HolidaysSetting
from ssm_stream.config.sections.operating import Conditions, Quality
from ssm_stream.config.sections.own_parts import BUILT_IN, require_part
from ssm_stream.config.sections.readings import Grace, MaxAge, Tag, TagSetting, check_max_age
from ssm_stream.config.sections.targets import ALL, MAX_TARGETS, Targets, repeated

MAX_NAME_LENGTH = 512
"""Characters of an entity's or a category's name."""
READING_SETTINGS = {"signal", "value", "tag", "every", "max_age", "grace"}
"""Settings of `layout: readings` alone."""


def _format(value: str) -> str:
    if value not in BUILT_IN["format"]:
        require_part("format", value)
    return value


def _entity_or_tag(schema: dict[str, Any]) -> None:
    """Let the schema of the section require one of `entity` and `tag`, which has it."""
    schema["required"] = [name for name in schema["required"] if name != "entity"]
    schema["anyOf"] = [{"required": [name]} for name in ("entity", "tag")]


class Event(Section):
    """How an event (or a row of a file) is read. Paths may lead into objects and lists, `payload.sensor.temp`,
    `sensors[0].value` or `sensors[name=temp].value`; `$key` and `$header.NAME` are the message's key and a header."""

    model_config = ConfigDict(json_schema_extra=_entity_or_tag)

    layout: Literal["events", "readings"] = "events"
    """What a message is: `events`, all columns of an entity at one time; `readings`, one value of one signal at one
    time, as historians, OPC UA gateways and MQTT bridges send them. Of readings, rows are made: `target`, `features`,
    `categories` and so on name signals."""
    entity: Path
    """Path of the name of the machine, sensor, service or line (text or whole number). With `tag`: leave it out."""
    entity_default: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)] | None = None
    """Name for events (and labels) that have none at `entity`: for a topic of one machine. Default: they are dead
    letters."""
    only: Annotated[list[Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]], Field(max_length=1000)] = []
    """Patterns of the entities to watch, such as `press-*` or `line-[12]/*`: the events and labels of all others pass
    by, which are counted, but neither predicted nor learned, and are no dead letters. Default: all. `*` is any text,
    `?` one character, `[12]` one of these; upper and lower case differ."""
    timestamp: Path
    """Path of the event's time."""
    timestamp_format: Literal["auto", "s", "ms", "us", "ns", "iso"] = "auto"
    """`auto`: text is ISO 8601, in which 24:00 is 00:00 of the next day; a number is seconds, milli-, micro- or
    nanoseconds since 1970 by its size. A unit is that of all numbers since 1970, also of those in quotes."""
    time_zone: str = "UTC"
    """Zone of ISO times without an offset, and of the calendar features."""
    signal: Path | None = None
    """Readings: path of the name of the signal. Readings of signals that are not used pass by."""
    value: Path = "value"
    """Readings: path of the value: a number, true or false, and text where the signal is in `categories`. Missing or
    null: the signal is unknown from then on."""
    tag: TagSetting | None = None
    """Readings: one text that has both entity and signal, in place of `entity` and `signal`: how it is made up, such as
    `"{entity}.{signal}"`, of the field `tag`; or `{field: name, pattern: "{entity}/{signal}"}`."""
    every: Duration | None = None
    """Readings: a row an entity every so long, at whole multiples since 1970, while a signal is known. Default: a row
    at each reading of the target (of several, the first)."""
    max_age: MaxAge | None = None
    """Readings: how old the last value of a signal may be, at the row; an older one is unknown. A duration, or one by
    signal, such as `{temp: 5m}`. Default, and for signals that are not listed: 10 times the signal's usual gap."""
    grace: Grace = 0.0
    """Readings: how far behind the entity's latest reading one may come and still be used. A row waits until the
    entity has a reading that is so much later. `0s`: a row is made at once, of what came before. Later ones than that
    are dead letters."""
    format: Annotated[str, AfterValidator(_format)] = "json"
    """How an event is read from the bytes of its message: `json`, with or without a schema registry's frame, which is
    skipped; `avro` and `protobuf`, by the schema in `schema_registry` that the message names; `auto`: each message by
    its schema, or as JSON if it names none; or the name of an own part that is installed."""
    derive: Annotated[dict[Path, Derived], Field(max_length=MAX_DERIVED)] = {}
    """Inputs that are computed from numbers of the event: a name for each, and one of `ratio: [a, b]`,
    `product: [a, b]`, `difference: [a, b]`, `log: a` and `rolling_mean: a` with `over: 20` (events of the entity);
    with `lag: 1` the value of the event before. Each is a feature, listed there or not."""
    features: Annotated[Literal["auto"] | list[Path], Field(validate_default=True)] = []
    """Paths of the numeric inputs. A missing or null feature counts as unknown, not as zero: it is held near its last
    known value, as far as its values resemble each other over time. A column of 3 to 32 whole numbers is also read as a
    category, until it has another value. `auto`: selected from the first events at start."""
    categories: list[Path] = []
    """Paths of inputs that are names (text, numbers or true/false): each of the first 32 values is an input of its own,
    later ones share one."""
    target: Targets = "target"
    """Path of the number to predict, or a list of up to 64: each is predicted by itself, with past values of its own;
    alerts are by entity. `all`: every one of `features`, 2 to 64, from its own past and from the others. Missing or
    null in an event: it is predicted, not learned."""
    inputs: list[Path] | None = None
    """With `target: all`: those of the features that the others are predicted from, and further columns, which are
    inputs only and not predicted: the weather, setpoints. Default: all features. Leave out what only follows the same
    causes, such as a vibration or a temperature: as an input it explains a fault away that it shows itself."""
    lags: Annotated[int, Field(ge=0, le=64)] = 8
    """Past targets used as inputs. 0: a soft sensor that must not lean on the last measurement; where targets come as
    `labels`, the last known one corrects it all the same."""
    differences: bool | None = None
    """Use each feature's change since the entity's last event as an input too. Default: where `lags` is 1 or more; a
    change predicts the target's next step, but hardly its level."""
    feature_lags: Annotated[int, Field(ge=0, le=16)] = 0
    """Past events whose features are inputs too, each as its difference from the present value; the first of them is
    the change of `differences`. For effects that arrive some events later."""
    calendar: Literal["auto"] | list[Literal["hour", "weekday", "hour_cycle", "weekday_cycle"]] = "auto"
    """Inputs made from the event's time: hour of day and day of week, a step each or as smooth cycles. `auto`: steps,
    where events come often enough to have a day and the columns do not hold the same already."""
    holidays: HolidaysSetting = Holidays()
    """Days that differ from others of their weekday, as an input `holiday`, 1 or 0 by the event's day in `time_zone`:
    public holidays of a country, such as `JP` or `US-CA`, and a plant's own days, a CSV file with a column `date`, or
    `from` and `to`. Days up to the last event that was learned stay as they were, whatever the list becomes."""

    when: Conditions = []
    """Operating condition: fields and what their values must be, such as `{state: [running, auto], speed: {above:
    10}}`, or a list of them with `entities`, of which the first that matches holds. An event that does not meet it is
    passed through as `idle`: not predicted, judged or learned. Default: every event meets it."""
    quality: Quality | None = None
    """Flags of the values: those that are not good count as unknown."""
    aggregate: Aggregate | None = None
    """For events that are single operations, such as requests. Default: each event is a row by itself."""
    _limited: tuple[str, ...] = PrivateAttr(default=())
    _silence: tuple[float, float, float] | None = PrivateAttr(default=None)
    _facts: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("features", mode="after")
    @classmethod
    def _with_derived(cls, features: Literal["auto"] | list[str], info: ValidationInfo) -> Literal["auto"] | list[str]:
        """Return the features with the derived ones that are not listed."""
        if features == "auto":
            return features
        return [*features, *(name for name in info.data.get("derive", {}) if name not in features)]

    @model_validator(mode="before")
    @classmethod
    def _entity_of_tag(cls, given: Any) -> Any:
        """Set the path of the entity, which a tag has."""
        if not isinstance(given, dict) or given.get("tag") is None or given.get("layout") != "readings":
            return given
        tag = given["tag"]
        field = tag.get("field", "tag") if isinstance(tag, dict) else tag.field if isinstance(tag, Tag) else "tag"
        if given.get("entity", field) != field:
            raise ValueError("entity: found with `tag`, which has it; leave one of the two out")
        return {**given, "entity": field}

    @property
    def makes_rows(self) -> bool:
        """Whether messages are no rows, and rows are made of them."""
        return self.layout != "events" or self.aggregate is not None

    @property
    def uses_differences(self) -> bool:
        """Whether the features' changes are inputs."""
        return self.feature_lags > 0 or (self.lags > 0 if self.differences is None else self.differences)

    @model_validator(mode="after")
    def _usable(self) -> Event:
        try:
            zoneinfo.ZoneInfo(self.time_zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"time_zone: found {self.time_zone!r}; write an IANA name such as 'Asia/Tokyo'") from error
        self._check_layout()
        if self.derive:
            self._check_derived()
        self._check_conditions()
        if self.watches_all:
            return self._usable_signals()
        if self.inputs is not None:
            raise ValueError("inputs: only with `target: all`, whose features are targets; else they are the inputs")
        selected_later = self.features == "auto"
        columns = self.categories if selected_later else self.columns
        if self.holidays and not selected_later and "holiday" in columns:
            raise ValueError("holidays: found a column `holiday`, too; leave one of the two out")
        if not selected_later and not columns and not self.lags and not self.calendar and not self.holidays:
            raise ValueError("nothing to predict from; name features, or set lags to 1 or more")
        if twice := repeated(columns):
            raise ValueError(f"features: {twice} named twice; name each once")
        for target in self.targets:
            if target in columns:
                which = "the target" if len(self.targets) == 1 else "a target"
                raise ValueError(f"features: {target!r} is {which}; it may not be a feature")
        return self

    def _check_layout(self) -> None:
        """Check the settings of readings and windows."""
        if self.aggregate is not None:
            self._check_windows()
        if self.layout == "events":
            fields = type(self).model_fields
            if given := sorted(name for name in READING_SETTINGS if getattr(self, name) != fields[name].default):
                raise ValueError(f"{given[0]}: found without `layout: readings`; add that, or leave {given[0]} out")
            return
        if (self.signal is None) == (self.tag is None):
            found = "neither" if self.tag is None else "both"
            raise ValueError(
                f"layout: readings, with {found} of `signal` and `tag`; write one of them: the path of the signal's "
                "name, or a text that has entity and signal"
            )
        if self.features == "auto":
            raise ValueError("features: auto with layout: readings; list the signals (`ssm-stream init` does)")
        if self.quality is not None and self.quality.columns:
            raise ValueError(
                "quality.columns: found with layout: readings, each of which has one value; write `column`"
            )
        check_max_age(self.max_age, self.every, self.signals)

    def _check_windows(self) -> None:
        """Check which settings are found together."""
        if self.layout != "events" or self.features == "auto":
            key = "features: auto" if self.features == "auto" else f"layout: {self.layout}"
            raise ValueError(f"{key}: found with `aggregate`, which makes the columns of rows; leave it out")

    def _check_derived(self) -> None:
        """Check where derived inputs come from: none may hold a target that is not known yet."""
        if self.watches_all:
            raise ValueError(
                "derive: found with `target: all`, where each feature is a target, too, and a derived one would hold "
                "it; list the targets in `target`, or leave derive out"
            )
        for name, derived in self.derive.items():
            if name in (self.entity, self.timestamp, *self.targets, *self.categories):
                raise ValueError(f"derive: {name!r} is the name of another column; choose another name")
            for path in derived.sources:
                if path in self.derive:
                    raise ValueError(
                        f"derive.{name}: {path!r} is itself derived; name fields of the event (an input that is the "
                        "sum of two is learned from the two)"
                    )
                if path in self.categories:
                    raise ValueError(f"derive.{name}: {path!r} is a category; name a number")
                if path in self.targets and not derived.lag:
                    raise ValueError(
                        f"derive.{name}: {path!r} is a target, which is not known yet when the event is predicted; "
                        "add `lag: 1` for its value at the event before, or leave it out"
                    )

    def _check_conditions(self) -> None:
        """Check which fields conditions and flags are of."""
        past = [name for name, each in self.derive.items() if each.past]
        flags = self.quality.flags if self.quality is not None else []
        for key, paths in (("when", fields(each.condition for each in self.when)), ("quality", flags)):
            for path in paths:
                if path in (self.entity, self.timestamp):
                    cure = (
                        "for some entities, write `entities` with a pattern" if path == self.entity else "leave it out"
                    )
                    raise ValueError(f"{key}: {path!r} is the entity or the time of the event; {cure}")
                if path in past:
                    raise ValueError(
                        f"{key}: {path!r} is derived from earlier events; name a field of the event itself"
                    )
        flagged = set(flags) & {*self.targets, *self.categories, *([] if self.features == "auto" else self.features)}
        if flagged:
            raise ValueError(f"quality: {sorted(flagged)} is an input or a target, and a flag; it can only be one")

    def _usable_signals(self) -> Event:
        """Check what `target: all` needs."""
        if self.features == "auto" or not 2 <= len(self.features) <= MAX_TARGETS:
            found = self.features if self.features == "auto" else f"{len(self.features)} features"
            raise ValueError(
                f"target: found all with features: {found}; list the signals in `features`, 2 to {MAX_TARGETS} of them "
                "(`ssm-stream init --target all` does)"
            )
        if twice := repeated(self.features + self.categories):
            raise ValueError(f"features: {twice} named twice; name each once")
        if twice := repeated(self.inputs or []) or sorted({*self.categories} & {*(self.inputs or [])}):
            raise ValueError(f"inputs: {twice} named twice; name each once")
        if wrong := sorted({self.entity, self.timestamp} & {*self.numbers}):
            raise ValueError(f"inputs: {wrong} is the entity or the time of the event; leave it out")
        if not self.lags and not self.calendar and not self.categories and not self.holidays:
            alone = [path for path in self.features if not self.inputs_of(path)]
            if alone:
                raise ValueError(f"nothing to predict {alone} from; name more inputs, or set lags to 1 or more")
        return self

    @property
    def watches_all(self) -> bool:
        """Whether every feature is a target."""
        return self.target == ALL

    @property
    def targets(self) -> list[str]:
        """`target` as a list."""
        if self.watches_all:
            return list(self.features)
        return [self.target] if isinstance(self.target, str) else self.target

    def inputs_of(self, target: str) -> list[str]:
        """Return the numeric inputs of a target; with `target: all` other targets first, then `numbers`."""
        if not self.watches_all:
            return self.numbers
        return [path for path in self.watched_inputs if path != target] + self.numbers

    @property
    def watched_inputs(self) -> list[str]:
        """With `target: all` the inputs that are targets, too; else none."""
        if not self.watches_all:
            return []
        return [path for path in (self.features if self.inputs is None else self.inputs) if path in self.features]

    def for_target(self, target: str) -> Event:
        """Return the section of one of the targets alone."""
        return self.model_copy(update={"target": target, "features": self.inputs_of(target), "inputs": None})

    @property
    def numbers(self) -> list[str]:
        """The numbers that are inputs only: `features` as a list; with `target: all` the `inputs` that are no features.

        Raises:
            ConfigError: `auto`, and `autoconfig.feature_selection` has not filled them in yet.
        """
        if self.watches_all:
            return [path for path in self.inputs or [] if path not in self.features]
        if self.features == "auto":
            raise ConfigError(
                "event.features: found auto, and none are selected yet; select them from the first events, or list "
                "the paths"
            )
        return self.features

    @property
    def read_numbers(self) -> list[str]:
        """Paths of the numbers that are read from an event: `numbers`, those that others are derived from in place of
        these; targets, which are read anyway, are not among them. Raises as `numbers`."""
        numbers = self.numbers
        plain = [path for path in numbers if path not in self.derive]
        sources = [path for name in numbers if name in self.derive for path in self.derive[name].sources]
        return [*plain, *(path for path in dict.fromkeys(sources) if path not in (*plain, *self.targets))]

    @property
    def columns(self) -> list[str]:
        """Paths of the columns of `Events.features`: `numbers`, then `categories`. Raises as `numbers`."""
        return [*self.numbers, *self.categories]

    def with_limits(self, columns: Iterable[str]) -> Event:
        """Return the section that has the columns of fixed limits read as well."""
        found = self.model_copy()
        found._limited = tuple(columns)
        return found

    def with_silence(self, rule: tuple[float, float, float]) -> Event:
        """Return the section with the rule of `alerts.silence`, after which an entity has no empty windows."""
        found = self.model_copy()
        found._silence = rule
        return found

    @property
    def silence(self) -> tuple[float, float, float] | None:
        """What `with_silence` has set: `Config.silence_rule`; None without it."""
        return self._silence

    def with_facts(self, columns: Iterable[str]) -> Event:
        """Return the section whose rows have columns of context topics (`source.context`)."""
        found = self.model_copy()
        found._facts = tuple(columns)
        return found

    @property
    def facts(self) -> tuple[str, ...]:
        """What `with_facts` has set: the columns of a row that no message has."""
        return self._facts

    @property
    def signals(self) -> set[str]:
        """The columns of a row that messages have, those of conditions and limits among them. Raises as `numbers`."""
        return {*self.targets, *self.read_numbers, *self.categories, *self.context} - {*self._facts}

    @property
    def context(self) -> list[str]:
        """Paths of the columns of `Events.context`: of conditions, flags and limits, if nothing else reads them. Raises
        as `numbers`."""
        flags = [] if self.quality is None or self.makes_rows else self.quality.flags
        used = [*fields(each.condition for each in self.when), *flags, *self._limited]
        read = {*self.columns, *self.targets}
        return [path for path in dict.fromkeys(used) if path not in read]
