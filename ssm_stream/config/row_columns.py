"""Checks that the columns of rows come from readings or windows, or from context topics."""

from __future__ import annotations

from ssm_stream.config.sections import Event
from ssm_stream.config.sections.conditions import fields
from ssm_stream.config.sections.readings import check_max_age


def check_row_columns(event: Event) -> None:
    """Check the columns of rows that are made of messages.

    Raises:
        ValueError: a setting names none, or a column has two origins.
    """
    if event.layout == "readings":
        check_max_age(event.max_age, event.every, event.signals)
    if event.aggregate is None:
        return
    if twice := sorted({*event.facts} & {*event.aggregate.columns}):
        raise ValueError(f"source.context: {twice} is a column of event.aggregate, too; rename one of the two")
    used = [("features", event.features), ("target", event.targets), ("categories", event.categories)]
    used.append(("inputs", event.inputs or []))
    used += [(f"derive.{name}", each.sources) for name, each in event.derive.items()]
    used.append(("when", fields(each.condition for each in event.when)))
    elsewhere = {*event.derive, *event.facts}
    named = ((f"event.{key}", path) for key, paths in used for path in paths)
    event.aggregate.check((key, path) for key, path in named if path not in elsewhere)
