"""`ssm-stream notify`: alerts reach people and systems, at least once, grouped and limited for people."""

from __future__ import annotations

import contextlib
import email
import email.policy
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from brokers import Kafka
from notified import Receiver, alert, config, next_phase, send, until

from ssm_stream.config import Config
from ssm_stream.notify.service import NotifyService
from ssm_stream.ops.bytewax_metrics import free_port


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@contextlib.contextmanager
def running(config: Config) -> Iterator[NotifyService]:
    """The service in a thread, once all its targets are read for."""
    service = NotifyService(config, "monitor.yaml")
    failed: list[Exception] = []

    def run() -> None:
        try:
            service.run()
        except Exception as error:  # noqa: BLE001 - raised below
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        until(lambda: failed or service.metrics.checks()["topic_read"])
        yield service
    finally:
        service.stop()
        thread.join(20)
        assert not thread.is_alive()
        if failed:
            raise failed[0]


def test_a_webhook_gets_each_alert_as_a_cloud_event(kafka: Kafka, receiver: Receiver) -> None:
    topic = kafka.topic("alerts")
    loaded = config(
        kafka, topic, f"  targets: [{{webhook: '{receiver.url}/in', team: water}}]\n  teams: {{water: 'pump-*'}}"
    )
    with running(loaded):
        first = alert()
        send(kafka, topic, [first, alert("press-1"), next_phase(first, "recovered"), first])
        until(lambda: len(receiver.accepted) == 2)
    found = receiver.accepted
    assert [each.json["phase"] for each in found] == ["started", "recovered"]
    assert found[0].json == first
    headers = found[0].headers
    assert headers["ce-id"] == first["id"]
    assert headers["ce-type"] == "io.ssm-stream.anomaly.started"
    assert headers["ce-team"] == "water"
    assert headers["content-type"] == "application/json"
    with running(loaded):  # from its position on
        send(kafka, topic, [second := alert("pump-9")])
        until(lambda: len(receiver.accepted) == 3)
    assert receiver.accepted[-1].json == second


class Mail:
    """A local SMTP server that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.refuse = False
        mail = self

        class Handler:
            async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
                if mail.refuse:
                    return "451 try again later"
                parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
                mail.messages.append(cast("EmailMessage", parsed))
                return "250 OK"

        self._controller = Controller(Handler(), hostname="127.0.0.1", port=free_port())
        self._controller.start()
        self.url = f"mailto://127.0.0.1:{self._controller.port}?from=ssm@plant.example&to=ann@plant.example"

    def text(self, i: int) -> tuple[str, str]:
        """Subject and text."""
        found = self.messages[i]
        body = found.get_body(("plain", "html"))
        assert body is not None
        return str(found["Subject"]), body.get_content()

    def close(self) -> None:
        self._controller.stop()


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mail]:
    """Its URL is in the environment, as NOTIFY_URL."""
    found = Mail()
    monkeypatch.setenv("NOTIFY_URL", found.url)
    yield found
    found.close()


def test_people_get_what_starts_together_as_one_message(kafka: Kafka, mail: Mail) -> None:
    topic = kafka.topic("alerts")
    loaded = config(
        kafka, topic, "  targets: [{apprise: '${NOTIFY_URL}'}]\n  group: 1s\n  page: 'https://plant.example'"
    )
    with running(loaded):
        until(lambda: len(mail.messages) == 1)
        assert mail.text(0)[0] == "ssm-stream notifies here from now on; open alerts: 0"
        first = [alert(f"pump-{i}", severity="critical" if i == 7 else "warning") for i in range(8)]
        send(kafka, topic, first)
        until(lambda: len(mail.messages) == 2)
        title, body = mail.text(1)
        assert title == "8 alerts started (1 critical)"
        assert body.index("pump-7: temp is 92") < body.index("pump-0: temp is 92"), "the worst first"
        assert all(each["entity"] in body for each in first)
        link = f"https://plant.example/ui/#alert/{first[7]['id']}"
        assert link in body
        assert "ssm-stream mute monitor.yaml pump-7 --for 8h" in body
        send(kafka, topic, [next_phase(first[3], "recovered"), next_phase(first[4], "ongoing")])
        until(lambda: len(mail.messages) == 3)
        assert mail.text(2)[0] == "pump-3: anomaly is over"
    send(kafka, topic, [next_phase(first[7], "recovered"), alert("pump-20"), gone := alert("pump-21")])
    send(kafka, topic, [next_phase(gone, "recovered")])
    with running(loaded):  # what came meanwhile
        until(lambda: len(mail.messages) == 4)
    title, body = mail.text(3)
    assert title == "1 alert started, 1 over, 1 came and passed"
    assert len(mail.messages) == 4
