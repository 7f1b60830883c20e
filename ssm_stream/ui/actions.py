"""What people do on the page: they acknowledge and judge alerts, announce planned stops, and end them.

Each action is the body of a request, and becomes a message on a topic. Who may act is the caller's to decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import structlog

from ssm_stream.config import DURATION, UNITS
from ssm_stream.ingest.timestamps import in_range, iso_to_ms, ms_to_iso
from ssm_stream.ingest.verdicts import AlertAcknowledgement, FeedbackReader, Verdict
from ssm_stream.ops.http_auth import Refusal
from ssm_stream.ui.live_page import LivePage

LOG = structlog.get_logger("ssm_stream.ui")
NO_FEEDBACK = Refusal("409 Conflict", "no feedback topic is configured: alerts.feedback")
NO_CONTROL = Refusal(
    "409 Conflict",
    "no control topic is configured: write alerts: {control: true}, create the topic by `ssm-stream doctor CONFIG "
    "--create-topics`, and start again",
)
Content = dict[str, Any]


class PageActions:
    """The actions of a page.

    paths: of the requests, and what each does with its body: it returns the content of the answer, or why it is
    refused
    """

    def __init__(self, page: LivePage) -> None:
        self._page = page
        self._read = FeedbackReader(page.config)
        self.paths: dict[str, Callable[[bytes], Content | Refusal]] = {
            "/ui/feedback": self._judge,
            "/ui/acknowledge": self._acknowledge,
            "/ui/stops": self._stop,
        }

    def __call__(self, path: str, body: bytes) -> Content | Refusal:
        """Do what a request demands, and return the content of the answer, or why it is refused."""
        try:
            return self.paths[path](body)
        except ValueError as error:
            return Refusal("400 Bad Request", str(error))
        except RuntimeError as error:
            LOG.warning("page_message_not_sent", path=path, error=str(error))
            return Refusal("502 Bad Gateway", str(error))

    def _judge(self, body: bytes) -> Content | Refusal:
        """Publish a verdict: `{"id": ALERT_ID, "true": true}`, as on the topic."""
        if self._page.feedback is None:
            return NO_FEEDBACK
        verdict = self._read(body)
        if not isinstance(verdict, Verdict):
            raise ValueError("`true` is missing: was the alert worth raising?")
        content = {"id": verdict.alert, "true": verdict.true}
        self._page.feedback(verdict.alert, content)
        self._page.on_verdict(verdict)
        return content

    def _acknowledge(self, body: bytes) -> Content | Refusal:
        """Publish who attends to an alert: `{"id": ALERT_ID, "by": TEXT, "note": TEXT}`."""
        if self._page.feedback is None:
            return NO_FEEDBACK
        given = orjson.loads(body)
        if not isinstance(given, dict):
            raise ValueError('an acknowledgement is a JSON object such as {"id": ALERT_ID, "by": "Ann"}')
        texts = {key: _text(given, key) for key in ("id", "by", "note")}
        found = self._read(orjson.dumps(texts | {"acknowledged": True}))
        assert isinstance(found, AlertAcknowledgement)
        found = found._replace(at=round(time.time() * 1000))
        # With a key of its own: where the topic is compacted, a verdict stays beside it.
        self._page.feedback(f"{found.alert}-acknowledged", found.to_json())
        self._page.on_acknowledged(found)
        return found.to_json()

    def _stop(self, body: bytes) -> Content | Refusal:
        """Announce a planned stop, `{"entity": "pump-3", "for": "8h", "reason": TEXT, "by": TEXT}`, or end one,
        `{"ends": ID, "by": TEXT}`."""
        control = self._page.control
        if control is None:
            return NO_CONTROL
        given = orjson.loads(body)
        if not isinstance(given, dict):
            raise ValueError('a planned stop is a JSON object such as {"entity": "pump-3", "for": "8h", "by": "Ann"}')
        by, reason = (_text(given, key) for key in ("by", "reason"))
        if not by:
            raise ValueError("`by` is missing: who announces it? It stands in the message for those who read it later")
        if "ends" in given:
            name = _text(given, "ends")
            if not self._page.stops.is_announced(name):
                raise ValueError(f"there is no planned stop with the id {name[:50]!r}")
            document = {"ends": name, "reason": reason, "by": by}
            found = control(name, document)
            LOG.info("planned_stop_end_announced", stop=name, message=found, by=by)
            return {"id": found, **document}
        entity = _text(given, "entity")
        begin, end = self._times(given)
        learn = {"learn": "adapt"} if given.get("learn") == "adapt" else {}
        document = {"entity": entity, "from": ms_to_iso(begin), "to": ms_to_iso(end), "reason": reason, "by": by}
        found = control(entity, document | learn)
        LOG.info("planned_stop_announced", entity=entity, message=found, by=by)
        return {"id": found, **document, **learn}

    def _times(self, given: Content) -> tuple[int, int]:
        """Return [begin, end), ms, of `from` (default: now, by the stream's time), and of `for` or `to`.

        Raises:
            ValueError: these are no times.
        """
        zone = ZoneInfo(self._page.config.event.time_zone)

        def at(key: str) -> int:
            try:
                return in_range(iso_to_ms(_text(given, key), zone))
            except (ValueError, OverflowError):
                raise ValueError(f"`{key}` must be a time such as 2026-08-10T06:00") from None

        begin = at("from") if given.get("from") else self._page.clock() // 1000 * 1000
        if given.get("to"):
            end = at("to")
        else:
            found = DURATION.match(_text(given, "for"))
            if found is None:
                raise ValueError("`for` must be a duration such as 30m, 8h or 2d")
            try:
                end = in_range(begin + 1000 * float(found[1]) * UNITS[found[2]])
            except OverflowError:
                raise ValueError(
                    "`for` must be a duration such as 30m, 8h or 2d, that ends before the year 9999"
                ) from None
        return begin, end


def _text(given: Content, key: str) -> str:
    value = given.get(key) or ""
    if not isinstance(value, str):
        raise ValueError(f"`{key}` must be a text")
    return value.strip()
