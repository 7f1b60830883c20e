"""Stands for the package `holidays`, which the tests do not need."""

from __future__ import annotations

import sys
import types
from datetime import date
from typing import Any

import pytest

from ssm_stream.config.sections import holidays


def stub_package(monkeypatch: pytest.MonkeyPatch, days: dict[tuple[str, str | None], list[str]]) -> None:
    """Let the package have these days of a country and a subdivision, and no other country."""

    def country_holidays(country: str, subdiv: str | None = None, years: Any = None) -> dict[date, str]:
        if (country, subdiv) not in days:
            raise NotImplementedError(f"Country {country} not available")
        assert years == holidays.YEARS
        return {date.fromisoformat(day): "a holiday" for day in days[country, subdiv]}

    module = types.ModuleType("holidays")
    module.country_holidays = country_holidays  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "holidays", module)
    holidays._public.cache_clear()
