"""A message format and an anomaly channel for ssm-stream."""

from __future__ import annotations

import struct
from typing import Any

from ssm_stream import ChannelEvent

TELEGRAM = struct.Struct("<8sQff")
"""Machine, ms since 1970, load and temperature."""


def telegram(value: bytes) -> dict[str, Any]:
    """Return the event in a telegram of the plant's controllers."""
    machine, ts, load, temp = TELEGRAM.unpack(value)
    return {"machine": machine.rstrip(b"\0").decode(), "ts": ts, "load": load, "temp": temp}


def stuck(state: Any, event: ChannelEvent) -> tuple[float, Any]:
    """Score a target that repeats its value: above 1 when it does so three times as long as ever before."""
    last, repeats, longest = state or [None, 0, 3]
    if event.y == last:
        repeats += 1
    else:
        repeats, longest = 0, max(longest, repeats)
    return repeats / (3 * longest), [event.y, repeats, longest]
