"""The last predictions of an entity, for a chart: from the live page, else from the end of the topic of predictions."""

from __future__ import annotations

import http.client
import math
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
import structlog

from ssm_stream.config import Config
from ssm_stream.kafka.client import BrokerError, with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.formats.messages import output_format
from ssm_stream.kafka.formats.schema_readers import SchemaError
from ssm_stream.kafka.topic_reader import open_topic

LOG = structlog.get_logger("ssm_stream.notify")
PAGE_TIMEOUT = 1.0
"""Seconds that the live page has to answer."""
TOPIC_TIMEOUT = 3.0
"""Seconds for which the topic of predictions is read."""
LAST = 20_000
"""Messages of the topic that are read, the last of its partitions."""
MOST = 120
"""Points of a chart."""
MAX_BYTES = 2**20
COLUMNS = ("y", "yhat", "yhat_lower", "yhat_upper")
UNREACHABLE = (OSError, http.client.HTTPException, ValueError)
Series = tuple[str, str | None]
"""Entity, and of several targets one."""


class Point(NamedTuple):
    """A prediction. ts: ms; NaN: unknown"""

    ts: int
    y: float
    yhat: float
    lower: float
    upper: float


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would carry the token elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class LastPredictions:
    """Reads the last predictions of entities. config: with `notify`"""

    def __init__(self, config: Config) -> None:
        self._config, self._format = config, output_format(config)
        page = config.notify.page if config.notify else None
        if page is None and config.ops.address is not None:
            page = f"http://{config.ops.address.replace('0.0.0.0', '127.0.0.1').replace('[::]', '[::1]')}"
        self._page = None if page is None else page.rstrip("/").removesuffix("/ui")
        self._token = None if config.ops.token is None else config.ops.token.get_secret_value()
        self._opener = urllib.request.build_opener(_NoRedirects())

    def of(self, series: Iterable[Series]) -> dict[Series, list[Point]]:
        """Return the points of each, oldest first; those of which there are none are left out."""
        found, left = dict[Series, list[Point]](), list(dict.fromkeys(series))
        for each in left:
            try:
                points = self._of_page(*each)
            except UNREACHABLE:
                break
            if points:
                found[each] = points
        missing = [each for each in left if each not in found]
        if missing and self._config.sinks.predictions is not None:
            try:
                found |= self._of_topic(self._config.sinks.predictions, missing)
            except BrokerError as error:
                LOG.warning("no_chart", error=str(error))
        return found

    def _of_page(self, entity: str, target: str | None) -> list[Point]:
        if self._page is None:
            return []
        targets = self._config.event.targets
        query = urlencode({"name": entity, "target": targets.index(target) if target in targets else 0})
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(f"{self._page}/ui/api/entity?{query}", headers=headers)
        try:
            with self._opener.open(request, timeout=PAGE_TIMEOUT) as answer:
                content = orjson.loads(answer.read(MAX_BYTES))
        except urllib.error.HTTPError as error:
            error.close()
            return []
        rows = content.get("points") if isinstance(content, dict) else None
        if not isinstance(rows, list) or content.get("entity") != entity:
            return []
        return [_point(row["time"], row) for row in rows if isinstance(row, dict) and "time" in row][-MOST:]

    def _of_topic(self, topic: str, series: list[Series]) -> dict[Series, list[Point]]:
        """Return what the last messages of the topic have.

        Raises:
            BrokerError: the topic cannot be read.
        """
        source = with_topic(self._config.source, topic)
        source = source.model_copy(update={"wait": min(source.wait, TOPIC_TIMEOUT)})
        needed, found = {entity.encode() for entity, _ in series}, dict[Series, list[Point]]()
        plain = all(entity.isprintable() and not set(entity) & {'"', "\\"} for entity, _ in series)
        deadline, partitions = time.monotonic() + TOPIC_TIMEOUT, check_broker(source).partitions_of(topic)
        with open_topic(source) as reader:
            for messages in reader.read(reader.spans(partitions, last=max(LAST // len(partitions), 1))):
                for message in messages:
                    value = message.value() or b""
                    raw = value.encode() if isinstance(value, str) else value
                    # Most are of other entities: their names need no decoding.
                    if plain and not any(name in raw for name in needed):
                        continue
                    try:
                        content = self._format.read(raw)
                    except (SchemaError, orjson.JSONDecodeError):
                        continue
                    if isinstance(content, dict) and (key := (content.get("entity"), content.get("target"))) in series:
                        found.setdefault(key, []).append(_point(content["ts"], content))
                if time.monotonic() > deadline:
                    break
        return {key: sorted(points)[-MOST:] for key, points in found.items()}


def _point(ts: int, content: Mapping[str, Any]) -> Point:
    return Point(int(ts), *(math.nan if content.get(name) is None else float(content[name]) for name in COLUMNS))
