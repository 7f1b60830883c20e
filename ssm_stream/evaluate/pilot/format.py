"""Figures, times and sentences of the pilot report as text of one language."""

from __future__ import annotations

import datetime
import math
import re
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from ssm_stream.evaluate.pilot.words import words
from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.texts import Language

MISSING = "–"
MONEY = ("saved", "saved_low", "saved_high", "saved_random", "apart", "money")
SHARES = ("share", "covered", "level")
METHODS = ("today", "rival", "best")
ONE = re.compile(r"(?<![\w.,])1 (false )?(entities|events|alarms|alerts|hours|trainings|stretches|signals|nights)\b")
"""A noun in the plural after a one, which only English texts have."""


class Format:
    """Writes the figures of a report in one language. report: `Pilot.report`"""

    def __init__(self, report: dict[str, Any], language: Language) -> None:
        self.report, self.language, self.words = report, language, words(language)
        currency = str(report["costs"]["currency"])
        self.currency = "¥" if (language, currency) == ("ja", "JPY") else currency
        self.zone = ZoneInfo(report["recording"]["time_zone"])
        intervals = [each["interval_s"] or 60.0 for each in report.get("quality", {}).get("by_entity", ())]
        self.with_seconds = min(intervals, default=60.0) < 60.0

    def at(self, path: str) -> Any:
        """Return what stands at a path of the report, such as `kpis.saved.value`."""
        value: Any = self.report
        for part in path.split("."):
            value = value[int(part)] if isinstance(value, list) else None if value is None else value[part]
        return value

    def text(self, key: str, **values: object) -> str:
        """Return the text of a key, filled in. Raises KeyError for an unknown key or a value that is not given."""
        return ONE.sub(_singular, self.words[key].format(**values))

    def html(self, key: str, **values: object) -> Markup:
        """Return the text of a key as HTML, filled in with values that are escaped unless they are `Markup`."""
        return Markup(ONE.sub(_singular, Markup(escape(self.words[key])).format(**values)))

    def number(self, value: float | None) -> str:
        """Return a figure with four digits at most; a count as it is."""
        if value is None or not math.isfinite(value):
            return MISSING
        whole = isinstance(value, int) or (abs(value) >= 100 and value == int(value))
        if whole:
            return f"{int(value):,}".replace("-", "−")
        text = number(float(value))
        return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text

    def brief(self, value: float | None) -> str:
        """Return a figure with three digits at most."""
        if value is None or not math.isfinite(value) or value == 0:
            return self.number(value)
        digits = 2 - math.floor(math.log10(abs(value)))
        return self.number(round(value, digits))

    def money(self, value: float | None) -> str:
        """Return an amount, to three digits."""
        if value is None or not math.isfinite(value):
            return MISSING
        rounded = 0.0 if value == 0 else round(value, max(2 - math.floor(math.log10(abs(value))), -15))
        text = f"{abs(rounded):,.2f}".rstrip("0").rstrip(".")
        return f"{self.currency} {'−' if rounded < 0 else ''}{text}"

    def percent(self, value: float | None) -> str:
        """Return a share, with enough digits to distinguish it from 0 and 1."""
        if value is None or not math.isfinite(value):
            return MISSING
        size = abs(value)
        if 0.0 < size < 0.001:
            return f"{self.brief(100 * value)} %"
        text = f"{100 * value:.1f} %" if 0.0 < size < 0.1 or 0.9 < size < 1.0 else f"{100 * value:.0f} %"
        return text.replace("-", "−")

    def points(self, value: float | None) -> str:
        """Return a difference of shares, to a tenth of a per cent."""
        return MISSING if value is None else f"{100 * value:.1f} %".replace("-", "−")

    def gain(self, value: float | None) -> str:
        """Return a share with its sign: what is better is positive."""
        if value is None or not math.isfinite(value):
            return MISSING
        sign = "−" if value < 0 else "+" if value > 0 else "±"
        return f"{sign}{self.percent(abs(value))}"

    def ratio(self, value: float | None) -> str:
        """Return a ratio as a factor."""
        return MISSING if value is None else f"× {self.brief(value)}"

    def duration(self, hours: float | None) -> str:
        """Return a duration in its usual unit."""
        if hours is None or not math.isfinite(hours):
            return MISSING
        for unit, size in (("d", 24.0), ("h", 1.0), ("min", 1 / 60)):
            if hours >= 1.5 * size or (unit == "min" and hours >= size):
                return self.text(f"unit.{unit}", n=self.brief(round(hours / size, 1)))
        return self.text("unit.s", n=self.brief(round(hours * 3600, 1)))

    def seconds(self, value: float | None) -> str:
        """Return a duration that is given in seconds; below a minute in seconds, to two digits."""
        if value is None or value >= 60.0:
            return self.duration(None if value is None else value / 3600)
        return self.text("unit.s", n=self.number(float(f"{value:.2g}")))

    def hours(self, value: float | None) -> str:
        """Return a number of hours, to three digits."""
        return MISSING if value is None else self.text("unit.h", n=self.brief(value))

    def bytes(self, value: float | None) -> str:
        """Return a size in its usual unit."""
        if value is None:
            return MISSING
        if value < 0.5:
            return "0 B"
        unit, size = next(each for each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)) if value >= each[1] / 2)
        return f"{self.brief(value / size)} {unit}"

    def gigabytes(self, value: float | None) -> str:
        """Return a size that is given in GB."""
        return self.bytes(None if value is None else 1e9 * value)

    def megabytes(self, value: float | None) -> str:
        """Return bytes a second that are given in MB."""
        return self.text("unit.a_second", n=self.bytes(None if value is None else 1e6 * value))

    def time(self, ms: int | None) -> str:
        """Return local date and time, with seconds if events come more often than once a minute."""
        if ms is None:
            return MISSING
        form = "%Y-%m-%d %H:%M:%S" if self.with_seconds else "%Y-%m-%d %H:%M"
        return datetime.datetime.fromtimestamp(ms / 1000.0, self.zone).strftime(form)

    def method(self, name: str) -> str:
        """Return the name of a way to predict or to alarm."""
        return self.text(f"method.{name}")

    def sentence(self, key: str, values: dict[str, Any]) -> str:
        """Return a sentence of the verdict. `saved…_loss` is `saved…` with the other sign."""
        filled = {}
        for name, value in values.items():
            if name in MONEY:
                filled[name] = self.money(value)
                filled[f"{name}_loss"] = self.money(None if value is None else -value)
            elif name in METHODS:
                filled[name] = self.method(value) if value else MISSING
            elif name in SHARES:
                filled[name] = self.percent(value)
            elif isinstance(value, str):
                filled[name] = value
            elif name == "delay":
                filled[name] = self.duration(value)
            else:
                filled[name] = self.brief(value) if isinstance(value, float) else self.number(value)
        return self.text(key, **filled)


def paragraph(report: dict[str, Any], language: Language) -> str:
    """Return the verdict in words."""
    f, sentences = Format(report, language), report["verdict"]["sentences"]
    texts = [f.sentence(each["key"], {k: v for k, v in each.items() if k != "key"}) for each in sentences]
    return ("" if language == "ja" else " ").join(texts)


def _singular(found: re.Match[str]) -> str:
    """Return one of something."""
    return found[0].replace("entities", "entity").replace("stretches", "stretch").removesuffix("s")
