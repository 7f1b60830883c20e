"""Contract tests of own parts, for their authors: call them in a test of the package.

from ssm_stream.testing import check_channel, check_format

def test_format():
    check_format(my_format, [b"..."])

def test_channel():
    check_channel(my_channel)
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from ssm_stream.core.own_channels import Channel, ChannelEvent
from ssm_stream.ingest.formats import FormatError, OwnFormat

__all__ = ["ContractError", "check_channel", "check_format"]

GARBAGE = (b"\0", b"{", b"\xff\xfe", b"x" * 4096)
"""Messages that any topic may have."""
EVENTS, BUDGET = 2000, 200.0


class ContractError(AssertionError):
    """An own part does not keep its contract. The text has the reason and the cure."""


def check_format(function: Callable[[bytes], Any], examples: Sequence[bytes]) -> list[dict[str, Any]]:
    """Check that a message format keeps its contract, and return the documents of the examples.

    Args:
        function: the format
        examples: messages that it can read

    Raises:
        ContractError: an example cannot be read, a document has what an event cannot have, equal bytes give other
            documents, or a message that cannot be read ends the process.
    """
    if not examples:
        raise ContractError("check_format needs at least one message that the format can read")
    format_, documents = OwnFormat(getattr(function, "__name__", "format"), function), []
    for value in examples:
        try:
            first, second = format_(value), format_(bytes(bytearray(value)))
        except FormatError as error:
            raise ContractError(f"{value[:60]!r}: {error}") from error
        if repr(first) != repr(second):  # by their texts, in which NaN equals NaN
            raise ContractError(f"{value[:60]!r}: two readings differ; equal bytes must give equal documents")
        documents.append(first)
    for value in GARBAGE:
        try:
            format_(value)
        except FormatError:
            continue  # it becomes a dead letter
        except BaseException as error:
            raise ContractError(f"{value[:60]!r} raised {type(error).__name__}; raise an Exception instead") from error
    return documents


def check_channel(function: Channel) -> float:
    """Check that an anomaly channel keeps its contract, and return its share of scores above 1 on calm events.

    Raises:
        ContractError: it fails, a score is no number from 0 on, its state does not outlive a restart, it changes its
            event, or equal arguments give other results.
    """
    alarms, state, restored = 0, None, None
    for i, event in enumerate(_calm_events()):
        before = copy.deepcopy(event)
        score, state = _call(function, state, event, i)
        again, restored = _call(function, restored, copy.deepcopy(before), i)
        if repr(event) != repr(before):
            raise ContractError(f"event {i}: the channel changed its event; copy what you change")
        try:
            data = orjson.dumps(state)
        except TypeError as error:
            raise ContractError(f"event {i}: the state cannot be stored as JSON: {error}") from error
        if orjson.loads(data) != state:
            raise ContractError(
                f"event {i}: the state is not the same after a restart; it may have only what JSON has (no tuples, no "
                "NaN, text as keys)"
            )
        if score != again or data != orjson.dumps(restored):
            raise ContractError(
                f"event {i}: the channel gave another result after a restart; its results may depend on its arguments "
                "alone, and it may keep nothing outside of its state"
            )
        restored = orjson.loads(data)
        alarms += score > 1.0
    return alarms / EVENTS


def _call(function: Channel, state: Any, event: ChannelEvent, i: int) -> tuple[float, Any]:
    try:
        found, state = function(state, event)
        score = float(found)
    except Exception as error:
        raise ContractError(f"event {i}: the channel failed: {type(error).__name__}: {error}") from error
    if math.isnan(score) or score < 0.0:
        raise ContractError(f"event {i}: found the score {score}; it must be 0 or more")
    return score, state


def _calm_events() -> Iterator[ChannelEvent]:
    """Yield events of one entity without anomalies, some with unknown features."""
    rng = random.Random(0)
    for i in range(EVENTS):
        load = rng.gauss(0, 1)
        features = {"load": load if rng.random() > 0.05 else math.nan}
        yield ChannelEvent("m", 60_000 * i, 20 + 3 * load + rng.gauss(0, 1), 20 + 3 * load, features, BUDGET)
