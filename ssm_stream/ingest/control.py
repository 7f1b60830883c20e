"""Messages of the control topic: planned stops, their ends, and what acknowledges that a process has applied one."""

from __future__ import annotations

from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from ssm_stream.config import MAX_NAME_LENGTH, Config
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.timestamps import MAX_MS, MIN_MS, iso_to_ms

EXAMPLE = '{"entity": "pump-3", "from": "2026-08-10T06:00:00Z", "to": "2026-08-10T14:00:00Z", "reason": "bearing"}'
MAX_TEXT = 1000
"""Characters of a reason that are kept."""


class ControlError(ValueError):
    """A message cannot be used; its text is the reason."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault


class ControlWindow(NamedTuple):
    """A planned stop.

    id: partition and offset of its message on the control topic, `0-17`
    entity: name or pattern of the entities; begin, end: ms, [begin, end); held: whether its events are not learned
    reason, by: as the message has them
    since: offset of the events' partition from which on it acts there; 0 as long as no partition is meant
    until: offset from which on it acts no more, as it was ended; None: it was not
    """

    id: str
    entity: str
    begin: int
    end: int
    held: bool
    reason: str = ""
    by: str = ""
    since: int = 0
    until: int | None = None

    def span(self, written: int, ended: int | None) -> tuple[int, int]:
        """Return its [begin, end), ms, without the time before it was announced and after it was ended, where these lie
        in it: it acts on no earlier and no later events. One that was ended before its begin has no length.

        written, ended: when it and its end were announced, ms; None: it was not ended
        """
        begin, end = self.begin, self.end
        if ended is not None and ended < end:
            end = max(begin, ended)
        return (written if begin < written < end else begin), end


class EndedStop(NamedTuple):
    """The end of a planned stop before its time. id: of its own message; stop: of that of the stop"""

    id: str
    stop: str


class Acknowledgement(NamedTuple):
    """What a process wrote when it applied a message, or refused it.

    id: of the message; group: `source.group` of the flow
    partition, offset: of the events topic, from where on the message acts there; None: it was refused
    """

    id: str
    group: str
    partition: int | None = None
    offset: int | None = None

    def to_json(self) -> bytes:
        """Return the content of the message."""
        if self.partition is None:
            return orjson.dumps({"refused": self.id, "group": self.group})
        place = {"partition": self.partition, "offset": self.offset}
        return orjson.dumps({"acknowledges": self.id, "group": self.group, **place})


class ControlReader:
    """Reads the messages of the control topic."""

    def __init__(self, config: Config) -> None:
        self._zone, self._may_hold = ZoneInfo(config.event.time_zone), config.labels is None

    def __call__(self, value: bytes | None, message_id: str) -> ControlWindow | EndedStop | Acknowledgement:
        """Return the content of a message. message_id: of the window that it sets

        Raises:
            ControlError: the message cannot be used.
        """
        if value is None:
            raise ControlError(Fault.TOMBSTONE, f"the value is null; a planned stop is a JSON object such as {EXAMPLE}")
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ControlError(Fault.NOT_JSON, f"not JSON: {str(error)[:200]}") from None
        if not isinstance(document, dict):
            raise ControlError(Fault.NOT_AN_OBJECT, f"a planned stop is a JSON object such as {EXAMPLE}")
        if "acknowledges" in document or "refused" in document:
            return _acknowledgement(document)
        if document.get("ends") is not None:
            if not isinstance(document["ends"], str):
                raise ControlError(Fault.WRONG_TYPE, '`ends` must be the id of a planned stop, such as "0-17"')
            return EndedStop(message_id, document["ends"])
        for key in ("entity", "from", "to"):
            if document.get(key) is None:
                raise ControlError(Fault.MISSING_FIELD, f"`{key}` is missing; a planned stop is such as {EXAMPLE}")
        entity, learn = document["entity"], document.get("learn", "hold")
        if not isinstance(entity, str) or not 0 < len(entity) <= MAX_NAME_LENGTH:
            raise ControlError(Fault.WRONG_TYPE, f"`entity` must be a name or a pattern, found {str(entity)[:50]!r}")
        if learn not in ("hold", "adapt"):
            raise ControlError(Fault.WRONG_TYPE, f"`learn` must be hold or adapt, found {str(learn)[:50]!r}")
        begin, end = self._time(document, "from"), self._time(document, "to")
        if begin >= end:
            raise ControlError(Fault.WRONG_TIMESTAMP, "`to` must be later than `from`")
        reason, by = (str(document.get(key) or "")[:MAX_TEXT] for key in ("reason", "by"))
        # Labels come by themselves, after the window, and cannot be withheld.
        return ControlWindow(message_id, entity, begin, end, learn == "hold" and self._may_hold, reason, by)

    def _time(self, document: dict[str, Any], key: str) -> int:
        value = document[key]
        try:
            ms = value if type(value) is int else iso_to_ms(value, self._zone)
        except (TypeError, ValueError, OverflowError):
            ms = None
        if ms is None or not MIN_MS <= ms <= MAX_MS:
            found = str(value)[:50]
            reason = f"`{key}` must be a time in ISO 8601, or milliseconds since 1970, found {found!r}"
            raise ControlError(Fault.WRONG_TIMESTAMP, reason)
        return ms


def _acknowledgement(document: dict[str, Any]) -> Acknowledgement:
    name, group = document.get("acknowledges", document.get("refused")), document.get("group")
    place = document.get("partition"), document.get("offset")
    whole = all(type(each) is int for each in place)
    if not isinstance(name, str) or not isinstance(group, str) or ("acknowledges" in document and not whole):
        raise ControlError(Fault.WRONG_TYPE, "an acknowledgement has `acknowledges`, `group`, `partition` and `offset`")
    return Acknowledgement(name, group, *(place if whole else (None, None)))
