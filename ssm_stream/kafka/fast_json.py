"""Plain events without the interpreter: flat JSON objects whose numbers are numbers, straight into columns.

A chunk with anything else in it (a message that is no event, an escaped or missing name, time as text, …) is left to
`EventReader`, which names the fault. So this need not handle every case: it gives up where it is not sure. What it
reads equals the result of `EventReader` to the last bit.
"""

from __future__ import annotations

import functools

import numpy as np

from ssm_stream.config import Event
from ssm_stream.core import native
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.timestamps import to_milliseconds


@functools.cache
def powers_of_five() -> bytes:
    """Return the leading 128 bits of 5^q, two words each: Lemire, Number Parsing at a Gigabyte per Second (2021)."""
    rows = []
    for q in range(native.SMALLEST_POWER, native.LARGEST_POWER + 1):
        five = 5 ** abs(q)
        if q < 0:
            z = (five - 1).bit_length()
            word = 2 ** (z + 127 if q >= -27 else 2 * z + 128) // five + 1
        else:
            word = five << 128
        word = word >> (word.bit_length() - 128)
        rows.append((word >> 64, word & 0xFFFFFFFFFFFFFFFF))
    return np.array(rows, np.uint64).tobytes()


class FastReader:
    """Reads chunks of plain events by the `event` section of the configuration."""

    def __init__(self, event: Event) -> None:
        self.event = event
        fields = [event.entity, event.timestamp, *event.targets, *event.columns]
        self._columns, self._targets = len(fields) - 1, len(event.targets)
        self._reader = native.Reader([name.encode() for name in fields], 2 + self._targets, powers_of_five())
        self.supported = (
            event.timestamp_format != "iso"
            and not event.categories
            and not any("." in name for name in fields)
            and len(set(fields)) == len(fields)
        )
        """Whether events of this configuration may be plain at all."""

    def read(self, values: list[bytes | None]) -> Events | None:
        """Return the events of all messages; None if one of them is not plain."""
        found = np.empty((len(values), self._columns))
        names = self._reader.read(values, found)
        ts = None if names is None else to_milliseconds(found[:, 0], self.event.timestamp_format)
        if names is None or ts is None:
            return None
        m = self._targets
        target = found[:, 1].copy() if m == 1 else np.ascontiguousarray(found[:, 1 : 1 + m])
        features = np.ascontiguousarray(found[:, 1 + m :])
        return Events(names, ts, features, target, np.arange(len(values)))
