"""Tools about the flow as a whole: overview, running processes, metrics, configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from prometheus_client.parser import text_string_to_metric_families
from pydantic import Field

from ssm_stream.config import Config
from ssm_stream.config.client_properties import security_warnings
from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.mcp.process_client import ProcessClient, Response
from ssm_stream.mcp.redaction import Placeholders
from ssm_stream.mcp.results import Configuration, Health, Metric, Metrics, Overview, ProcessHealth, TopicState
from ssm_stream.mcp.tools.common import Limit, Offset, View, alert_lines, page_of

MAX_SAMPLES = 50
"""Samples of a metric; buckets of histograms are left out."""
WORST, NEWEST = 5, 5
NO_PROCESS = "no process is named: ops.address is null; give --process URL"


class ProcessTools:
    """The flow.

    Args:
        file: of the configuration
        processes: those that run
        files: whether the tools on files are on
    """

    def __init__(self, view: View, file: Path, processes: ProcessClient, *, files: bool) -> None:
        self._view, self._file, self._processes, self._files = view, file, processes, files

    def overview(self) -> Overview:
        """Return the state of the whole flow at a glance; call it first. What is monitored, how many entities, open
        alerts, the worst entities, the newest alerts, and whether the topics are read."""
        view, config = self._view, self._view.config
        fresh = view.freshness("predictions", "alerts", also=("feedback",))
        opened, now = view.episodes.open_by_entity(), view.flow.clock()
        series = view.predictions.worst()
        worst = sorted(series.items(), key=lambda each: -each[1].score)[:WORST]
        episodes = [each for each in view.episodes.all() if not each.is_suppressed]
        going_on = [each for each in episodes if each.is_open]
        return Overview(
            events_topic=config.source.topic,
            targets=config.event.targets,
            release=version("ssm-stream"),
            config_hash=hash_of(config),
            clock=ms_to_iso(now),
            entities=len(series),
            entities_in_warmup=sum(bool(each.last.get("warmup")) for each in series.values()),
            entities_above_1=sum(each.score > 1 for each in series.values()),
            open_alerts=len(going_on),
            open_alerts_by_kind=dict(Counter(each.state["kind"] for each in going_on)),
            open_critical=sum(each.message.get("severity") == "critical" for each in going_on),
            worst=[view.entity_line(name, each, opened, now) for name, each in worst],
            newest_alerts=alert_lines(sorted(episodes, key=lambda each: -each.last)[:NEWEST]),
            topics=self._topics(),
            files=self._files,
            **fresh._asdict(),
        )

    def _topics(self) -> list[TopicState]:
        return [
            TopicState(
                topic=each.topic,
                loaded=each.loaded.is_set(),
                messages_read=each.read,
                last_message_at=ms_to_iso(each.received) if each.received else None,
                messages_left_out=each.skipped,
                error=each.error or None,
            )
            for each in self._view.flow.topics.values()
        ]

    def get_health(self) -> Health:
        """Return whether each running process is reachable and ready: partitions assigned, broker reachable, caught up
        with its topic."""
        found = [
            ProcessHealth(
                url=each.url,
                reachable=each.status > 0,
                ready=each.json().get("ready") if each.status else None,
                details={name: value for name, value in each.json().items() if name != "ready"},
                error=None if each.status in (200, 503) else each.text[:500],
            )
            for each in self._get("/readyz")
        ]
        return Health(processes=found, notes=[] if found else [NO_PROCESS])

    def get_metrics(
        self,
        contains: Annotated[
            str, Field(max_length=100, description="Part of a metric's name or help, such as lag, dead_letters, error")
        ] = "",
        limit: Limit = 20,
        offset: Offset = 0,
    ) -> Metrics:
        """Return current metrics of the running processes: throughput, lag, errors, coverage, alerts, dead letters,
        memory. docs page metrics.md explains each."""
        found, errors = list[Metric](), list[str]()
        for each in self._get("/metrics"):
            if each.status != 200:
                errors.append(f"{each.url}: {each.text[:300]}")
                continue
            found += _metrics(each, contains.casefold())
        shown, page = page_of(found, offset, limit)
        notes = [] if self._processes.urls else [NO_PROCESS]
        return Metrics(metrics=list(shown), errors=errors, notes=notes, **page)

    def get_configuration(self) -> Configuration:
        """Return the configuration that this server was started with: all settings, defaults filled in. Secrets, Kafka
        properties and values from the environment are not in it."""
        config = self._view.config
        return Configuration(
            config_hash=hash_of(config),
            settings=Placeholders(self._file).restore(config.redacted()),
            warnings=warnings_of(config),
        )

    def _get(self, path: str) -> list[Response]:
        if not self._processes.urls:
            return []
        with ThreadPoolExecutor(len(self._processes.urls)) as pool:
            return list(pool.map(lambda url: self._processes.get(url, path), self._processes.urls))


def hash_of(config: Config) -> str | None:
    """Return the hash of a configuration; None while its features are not selected."""
    return None if config.event.features == "auto" else config.hash


def warnings_of(config: Config) -> list[str]:
    """Return what is known to do harm, or to be insecure, in a configuration."""
    return [*config.harmful_combinations(), *security_warnings({**config.source.kafka, **config.sinks.kafka})]


def _metrics(response: Response, part: str) -> Iterator[Metric]:
    for family in text_string_to_metric_families(response.text):
        # The parser takes `_total` off a counter's name; samples have the names that the page has, and docs.
        names = {family.name, *(each.name for each in family.samples)}
        if not any(part in each.casefold() for each in (*names, family.documentation)):
            continue
        samples = [each for each in family.samples if not each.name.endswith(("_bucket", "_created"))]
        if samples:
            yield Metric(
                url=response.url,
                name=samples[0].name if family.type == "counter" else family.name,
                kind=family.type,
                help=family.documentation,
                samples=[
                    {"name": each.name, **each.labels, "value": each.value if each.value == each.value else None}
                    for each in samples[:MAX_SAMPLES]
                ],
            )
