"""`ssm-stream notify`: a worker for each target, acknowledgements, metrics and health, from start to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import structlog

from ssm_stream.config import Config, ConfigError
from ssm_stream.config.sections.notify import Target
from ssm_stream.ingest.verdicts import AlertAcknowledgement, FeedbackError, FeedbackReader
from ssm_stream.kafka.client import BrokerError, with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.groups.letters import LetterWriter
from ssm_stream.kafka.topic_reader import open_topic
from ssm_stream.notify.metrics import NotifyMetrics
from ssm_stream.notify.senders.apprise import AppriseSender, PeopleSender
from ssm_stream.notify.senders.printer import Print, PrintSender
from ssm_stream.notify.workers.alertmanager import AlertmanagerWorker
from ssm_stream.notify.workers.base import Shared, TargetWorker
from ssm_stream.notify.workers.people import PeopleWorker
from ssm_stream.notify.workers.webhook import WebhookWorker
from ssm_stream.ops.server import OpsServer

LOG = structlog.get_logger("ssm_stream.notify")
STOP_WITHIN = 15.0
"""Seconds that a request may still last when the process stops."""
OF_INCIDENTS = {"pagerduty", "opsgenie", "pagertree", "splunk", "victorops", "ilert", "incidentio", "firehydrant"}
"""Services of people that keep incidents, which a message of Apprise begins and none ends."""
STAGE = "notify"
"""Of the dead letters."""


class NotifyService:
    """Sends the alerts of a configuration until it is stopped.

    Args:
        config: with `notify`
        file: its name, for commands in messages
        dry_run: a function that prints; nothing is sent and no position is committed

    Raises:
        ConfigError: a target cannot be sent to, or the template cannot be used.
    """

    def __init__(self, config: Config, file: str, dry_run: Print | None = None) -> None:
        assert config.notify is not None
        assert config.sinks.alerts is not None
        self.config, self._print = config, dry_run
        targets = dict(config.notify.named_targets())
        self.metrics = NotifyMetrics(targets)
        if dry_run is None:
            _require_secrets(config.notify.targets)
        letters = None if dry_run else LetterWriter(config, STAGE)
        self.shared = Shared(config, file, self.metrics, letters, dry_run=dry_run is not None)
        self.workers = [self._worker(name, target) for name, target in targets.items()]
        self.port: int | None = None

    def _worker(self, name: str, target: Target) -> TargetWorker:
        printer = None if self._print is None else PrintSender(name, self._print)
        if target.apprise is not None:
            if target.service in OF_INCIDENTS:
                cure = f"send to {target.service} through Alertmanager, by a target with alertmanager"
                LOG.warning("each_message_is_an_incident", target=name, service=target.service, cure=cure)
            sender: PeopleSender = AppriseSender(name, target) if printer is None else printer
            return PeopleWorker(name, target, self.shared, sender)
        more: dict[str, Any] = {} if printer is None else {"post": printer.post}
        kind = AlertmanagerWorker if target.alertmanager is not None else WebhookWorker
        return kind(name, target, self.shared, **more)

    def stop(self) -> None:
        """Let the process end: what is being sent is finished, the rest is sent after the next start."""
        self.shared.stopping.set()

    def run(self) -> None:
        """Send alerts until `stop`.

        Raises:
            ConfigError: the address cannot be listened on.
            BrokerError: the broker does not answer, or has no topic of alerts.
        """
        check_broker(self.config.source).partitions_of(self.config.sinks.alerts or "")
        with self._server():
            followed = threading.Thread(target=self._follow_feedback, name="acknowledgements", daemon=True)
            followed.start()
            for worker in self.workers:
                worker.thread.start()
            self.shared.stopping.wait()
            deadline = time.monotonic() + STOP_WITHIN
            for worker in self.workers:
                worker.thread.join(max(deadline - time.monotonic(), 0.0))
            followed.join(max(deadline - time.monotonic(), 0.0))
        if self.shared.letters is not None:
            self.shared.letters.close()
        failed = next((worker.failed for worker in self.workers if worker.failed is not None), None)
        if failed is not None:
            raise failed

    @contextlib.contextmanager
    def _server(self) -> Iterator[None]:
        """Serve metrics and health, unless it is a dry run; at the default address only where it is free."""
        notify = self.shared.notify
        if notify.address is None or self._print is not None:
            yield
            return
        config = self.config.replace(ops=self.config.ops.model_copy(update={"address": notify.address, "ui": False}))
        try:
            server = OpsServer(config, self.metrics, self.metrics)
        except ConfigError as error:
            if "address" in notify.model_fields_set:
                raise ConfigError(str(error).replace("ops.address", "notify.address", 1)) from None
            LOG.warning("ops_not_served", error=str(error))
            yield
            return
        self.port = server.port
        LOG.info("ops_served", address=f"{notify.address.rpartition(':')[0]}:{server.port}")
        try:
            yield
        finally:
            server.close()

    def _follow_feedback(self) -> None:
        """Hand the acknowledgements on the feedback topic to the workers, those of the last days at the start."""
        feedback, stopping = self.config.alerts.feedback, self.shared.stopping
        if feedback is None:
            return
        source, read = with_topic(self.config.source, feedback.topic), FeedbackReader(self.config)
        while not stopping.is_set():
            try:
                with open_topic(source) as reader:
                    since = int(1000 * (time.time() - self.shared.notify.orphans))
                    spans = reader.spans(check_broker(source).partitions_of(source.topic), since=since)
                    for messages, _ in reader.poll({p: span.begin for p, span in spans.items()}):
                        for message in messages:
                            with contextlib.suppress(FeedbackError):
                                self._acknowledge(read(message.value()))
                        if stopping.is_set():
                            return
            except BrokerError as error:
                LOG.warning("feedback_not_read", error=str(error))
                stopping.wait(10.0)

    def _acknowledge(self, found: object) -> None:
        if isinstance(found, AlertAcknowledgement):
            for worker in self.workers:
                worker.acknowledge(found)

    def send_tests(self) -> Iterator[tuple[str, str | None]]:
        """Send a test message to each target; yield its name, and why it failed, None if it did not."""
        for worker in self.workers:
            try:
                worker.send_test()
            except (RuntimeError, ConfigError) as error:
                yield worker.name, str(error)
            else:
                yield worker.name, None


def _require_secrets(targets: Sequence[Target]) -> None:
    """Check that the environment has what the targets need.

    Raises:
        ConfigError: it lacks a variable.
    """
    for i, target in enumerate(targets):
        for key, variable in target.unset:
            raise ConfigError(
                f"notify.targets[{i}].{key}: the environment variable {variable} is not set; export it, or write "
                "${file:/path}"
            )


def run_until_signal(service: NotifyService) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        BrokerError, ConfigError: as of `NotifyService.run`.
    """

    def on_signal(number: int, _: FrameType | None) -> None:
        service.stop()

    before: Sequence[tuple[int, Callable[..., Any] | int | None]] = [
        (number, signal.signal(number, on_signal)) for number in (signal.SIGTERM, signal.SIGINT)
    ]
    try:
        service.run()
    finally:
        for number, handler in before:
            signal.signal(number, handler)
