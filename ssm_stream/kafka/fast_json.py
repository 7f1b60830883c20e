"""Plain events without the interpreter: flat JSON objects whose numbers are numbers, straight into columns.

A chunk with anything else in it (a message that is no event, an escaped or missing name, time as text, …) is left to
`EventReader`, which names the fault. So this need not handle every case: it gives up where it is not sure. What it
reads equals the result of `EventReader` to the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Event
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.timestamps import to_milliseconds
from ssm_stream.kafka.bounded_cache import BoundedCache
from ssm_stream.kernels.json_read import TENS, distinct, powers_of_five, read


class FastReader:
    """Reads chunks of plain events by the `event` section of the configuration."""

    def __init__(self, event: Event) -> None:
        self.event = event
        fields = [event.entity, event.timestamp, *event.targets, *event.columns]
        encoded = [name.encode() for name in fields]
        self._names = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([len(name) for name in encoded])
        self._targets = len(event.targets)
        self._fives, self._tens = powers_of_five(), np.array(TENS)
        self._decoded: BoundedCache[bytes, str] = BoundedCache(bytes.decode)
        self.supported = (
            event.timestamp_format != "iso"
            and not event.categories
            and not any("." in name for name in fields)
            and len(set(fields)) == len(fields)
        )
        """Whether events of this configuration may be plain at all."""
        if self.supported:
            self.read([])  # loads the kernel before the first message comes

    def read(self, values: list[bytes | None]) -> Events | None:
        """Return the events of all messages; None if one of them is not plain."""
        try:
            text = b"".join(values)  # type: ignore[arg-type]  # a TypeError where one is None
        except TypeError:
            return None
        ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), dtype=np.int64)  # type: ignore[arg-type]
        columns = len(self._ends) - 1
        found, spans = np.empty((len(values), columns)), np.empty((len(values), 2), np.int64)
        raw = np.frombuffer(text, np.uint8)
        done = read(
            raw, ends, self._names, self._ends, columns, 2 + self._targets, found, spans, self._fives, self._tens
        )
        ts = to_milliseconds(found[:, 0], self.event.timestamp_format) if done == len(values) else None
        if ts is None or not (names := self._entities(text, raw, spans)):
            return None
        m = self._targets
        target = found[:, 1].copy() if m == 1 else np.ascontiguousarray(found[:, 1 : 1 + m])
        features = np.ascontiguousarray(found[:, 1 + m :])
        return Events(names, ts, features, target, np.arange(len(values)))

    def _entities(self, text: bytes, raw: NDArray[np.uint8], spans: NDArray[np.int64]) -> list[str]:
        """Return the entities' names; an empty list if the text is not UTF-8."""
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError:
                return []
        n = len(spans)
        first, which = np.empty(n, np.int64), np.empty(n, np.int64)
        count = distinct(raw, spans, np.full(1 << (2 * n).bit_length(), -1), first, which)
        names = self._decoded.values_of([text[a:b] for a, b in spans[first[:count]].tolist()])
        return list(map(names.__getitem__, which.tolist()))
