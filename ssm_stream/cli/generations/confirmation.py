"""Plan, question, deed and report of a command that changes a stopped state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import typer

from ssm_stream.cli.errors import FAILED
from ssm_stream.cli.terminal.printable import echo

Plan = TypeVar("Plan")


class Change(NamedTuple, Generic[Plan]):
    """What a command does to a state.

    plan: returns the plan, and the process that runs on the state, without changing anything
    apply: makes the change, and returns its plan
    describe: returns the plan in words; its last argument: whether it is done
    possible: whether the plan can be made
    question: before it is made
    """

    plan: Callable[[], tuple[Plan, str | None]]
    apply: Callable[[], Plan]
    describe: Callable[[Plan, str | None, bool], str]
    possible: Callable[[Plan], bool]
    question: str


def carry_out(change: Change[Plan], *, yes: bool, dry: bool) -> tuple[Plan, str | None]:
    """Make a change, after a confirmation unless `yes`, or with `dry` only plan it. Return the plan, and the process
    that runs on the state.

    Raises:
        Exit: it was not confirmed.
    """
    if yes and not dry:
        return change.apply(), None
    plan, owner = change.plan()
    if dry:
        return plan, owner
    echo(change.describe(plan, owner, False), err=True)
    if owner is None and change.possible(plan) and not typer.confirm(change.question, err=True):
        raise typer.Exit(FAILED)
    return change.apply(), owner
