"""Renders the templates of the reports: one HTML file each, with nothing to fetch."""

from __future__ import annotations

import functools
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ssm_stream.evaluate.report.chart import draw, plot_of
from ssm_stream.evaluate.report.numbers import number


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ssm_stream.evaluate.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["number"] = number
    environment.globals |= {"draw": draw, "plot_of": plot_of}
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False, "allow_nan": False, "separators": (",", ":"),
    }  # fmt: skip
    return environment


def render(template: str, *, title: str, language: str = "en", **content: Any) -> str:
    """Return a report as HTML; text in `content` is escaped. template: name of a file in `templates/`"""
    return _environment().get_template(template).render(title=title, language=language, **content)
