"""`ssm-stream notify`: alerts reach people and systems, at least once, grouped and limited for people."""

from __future__ import annotations

import contextlib
import email
import email.policy
import itertools
import json
import re
import shutil
import subprocess
import textwrap
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import jsonschema
import orjson
import pytest
import yaml
from aiosmtpd.controller import Controller
from brokers import Kafka, LocalKafka
from hypothesis import given
from hypothesis import strategies as st
from notified import Receiver, alert, config, next_phase, send, until
from pydantic import SecretStr
from test_cli import command
from test_stream import PARTITIONS, Job, events

from ssm_stream.config import Config, ConfigError, Notify, parse_config
from ssm_stream.config.sections.notify import Target
from ssm_stream.contract.message_schemas import dead_letter_headers, receipt_headers
from ssm_stream.ingest.verdicts import AlertAcknowledgement
from ssm_stream.kafka.dead_letter_topic import LetterFilter
from ssm_stream.kafka.groups.positions import Positions
from ssm_stream.kafka.groups.reader import Place, TopicActivity
from ssm_stream.kafka.records import headers_of
from ssm_stream.kafka.redrive import redrive
from ssm_stream.notify.alerts import AlertMessage, Episode, Episodes
from ssm_stream.notify.outbox import Batch, Entry, Outbox, What
from ssm_stream.notify.preview import _history
from ssm_stream.notify.quiet import QuietHours
from ssm_stream.notify.rendering import Links, Renderer, Text, parts
from ssm_stream.notify.routing import Routing
from ssm_stream.notify.senders.alertmanager import labels_of
from ssm_stream.notify.senders.apprise import AppriseSender, PartlySentError
from ssm_stream.notify.senders.backoff import Backoff
from ssm_stream.notify.senders.http import SendError, post
from ssm_stream.notify.service import NotifyService
from ssm_stream.notify.workers.lanes import Lanes
from ssm_stream.notify.workers.people import PeopleWorker
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
        self.unknown: set[str] = set()
        """Recipients that it refuses."""
        self.reached: list[str] = []
        mail = self

        class Handler:
            async def handle_RCPT(  # noqa: N802
                self, server: Any, session: Any, envelope: Any, address: str, options: Any
            ) -> str:
                if address in mail.unknown:
                    return f"550 5.1.1 {address}: no such user"
                envelope.rcpt_tos.append(address)
                return "250 OK"

            async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
                if mail.refuse:
                    return "451 try again later"
                parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
                mail.messages.append(cast("EmailMessage", parsed))
                mail.reached += envelope.rcpt_tos
                return "250 OK"

        self._controller = Controller(Handler(), hostname="127.0.0.1", port=free_port())
        self._controller.start()
        self.port = self._controller.port
        self.url = f"mailto://127.0.0.1:{self.port}?from=ssm@plant.example&to=ann@plant.example"

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
    monkeypatch.setattr("apprise.plugins.NotifyBase.request_rate_per_sec", 0)  # Apprise waits 5 s between messages
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


# Alertmanager


class Alertmanager:
    """The real Alertmanager. It sends what it is told to a webhook. `stop` and `start` keep its data."""

    def __init__(self, directory: Path, webhook: str) -> None:
        self.directory, self.port = directory, free_port()
        (directory / "alertmanager.yml").write_text(
            f"route: {{receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n"
            f"receivers: [{{name: hook, webhook_configs: [{{url: '{webhook}', send_resolved: true}}]}}]\n"
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                "prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=data",
                f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address=",
            ],
            cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.get("/api/v2/status"))
        return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.loads(answer.read())

    def state(self) -> dict[str, str]:
        """Entity → active or suppressed, of the alerts that fire."""
        found = self.get("/api/v2/alerts")
        return {each["labels"]["entity"]: each["status"]["state"] for each in found}

    def silence(self, entity: str) -> None:
        now = datetime.now(UTC)
        matcher = {"name": "entity", "value": entity, "isRegex": False, "isEqual": True}
        content = {
            "matchers": [matcher], "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat(),
            "createdBy": "ann", "comment": "new bearing",
        }  # fmt: skip
        post(f"{self.url}/api/v2/silences", json.dumps(content).encode(), {"Content-Type": "application/json"})


@pytest.fixture
def alertmanager(tmp_path: Path, receiver: Receiver) -> Iterator[Alertmanager]:
    if shutil.which("prometheus-alertmanager") is None:
        pytest.skip("prometheus-alertmanager is not installed (apt-get install prometheus-alertmanager)")
    found = Alertmanager(tmp_path, receiver.url)
    yield found
    found.stop()


def notified(receiver: Receiver) -> list[tuple[str, str]]:
    """Status and entity of each alert that Alertmanager has sent on."""
    return [(e["status"], e["labels"]["entity"]) for request in receiver.accepted for e in request.json["alerts"]]


def test_alertmanager_fires_resolves_and_honours_silences_through_restarts(
    kafka: Kafka, alertmanager: Alertmanager, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssm_stream.notify.workers.alertmanager.REPEAT_EVERY", 1.0)
    topic = kafka.topic("alerts", partitions=2)
    loaded = config(kafka, topic, f"  targets: [{{alertmanager: '{alertmanager.url}'}}]\n  teams: {{water: 'pump-*'}}")
    with running(loaded):
        first, other, third = alert("pump-1"), alert("pump-2", severity="critical"), alert("pump-3")
        send(kafka, topic, [first, other], 0)
        until(lambda: alertmanager.state() == {"pump-1": "active", "pump-2": "active"})
        until(lambda: len(notified(receiver)) == 2)
        labels = {e["labels"]["entity"]: e for e in alertmanager.get("/api/v2/alerts")}["pump-2"]
        assert labels["labels"] == {
            "alertname": "SsmStreamAnomaly", "entity": "pump-2", "kind": "anomaly", "severity": "critical",
            "scope": "entity", "source": "events", "team": "water",
        }  # fmt: skip
        assert labels["annotations"]["summary"] == other["summary"]
        alertmanager.silence("pump-3")
        send(kafka, topic, [third], 1)
        until(lambda: alertmanager.state().get("pump-3") == "suppressed")
        # Alertmanager forgets its alerts when it restarts; what ends meanwhile is resolved afterwards.
        alertmanager.stop()
        send(kafka, topic, [next_phase(first, "recovered")], 0)
        time.sleep(1.0)
        alertmanager.start()
        until(lambda: alertmanager.state() == {"pump-2": "active", "pump-3": "suppressed"})
        until(lambda: ("resolved", "pump-1") in notified(receiver))
    # notify restarts: what is open is known again from the topic, what ended meanwhile is resolved.
    send(kafka, topic, [next_phase(other, "recovered"), fourth := alert("pump-4")], 0)
    alertmanager.stop()
    alertmanager.start()
    with running(loaded):
        until(lambda: alertmanager.state() == {"pump-3": "suppressed", "pump-4": "active"})
        until(lambda: {("resolved", "pump-2"), ("firing", "pump-4")} <= set(notified(receiver)))
        send(kafka, topic, [next_phase(fourth, "ongoing", severity="critical"), next_phase(third, "recovered")], 0)
        until(lambda: alertmanager.state() == {"pump-4": "active"})
        until(lambda: [e["labels"]["severity"] for e in alertmanager.get("/api/v2/alerts")] == ["critical"])
    assert ("firing", "pump-3") not in notified(receiver), "silenced"
    fired = Counter(notified(receiver))
    assert fired[("firing", "pump-1")] == fired[("firing", "pump-2")] == 1, "once, whatever restarts"


def test_what_begins_and_ends_while_alertmanager_or_notify_is_away_is_told(
    kafka: Kafka, alertmanager: Alertmanager, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssm_stream.notify.workers.alertmanager.REPEAT_EVERY", 1.0)
    monkeypatch.setattr("ssm_stream.notify.senders.alertmanager.FIRES_FOR", 8.0)
    topic = kafka.topic("alerts")
    loaded = config(kafka, topic, f"  targets: [{{alertmanager: '{alertmanager.url}'}}]")
    with running(loaded):
        alertmanager.stop()
        first, worse = alert("pump-1"), alert("pump-2")
        send(kafka, topic, [first, worse, next_phase(first, "recovered")])
        send(kafka, topic, [next_phase(worse, "ongoing", severity="critical"), next_phase(worse, "recovered")])
        time.sleep(2.0)
        alertmanager.start()
        until(lambda: {("firing", "pump-1"), ("firing", "pump-2")} <= set(notified(receiver)))
        sent_on = [each for request in receiver.accepted for each in request.json["alerts"]]
        found = {each["labels"]["entity"]: each for each in sent_on if each["status"] == "firing"}
        assert found["pump-2"]["labels"]["severity"] == "critical", (
            "the warning that it was before is no alert of its own"
        )
        at = datetime.fromisoformat(found["pump-1"]["startsAt"]).timestamp()
        assert at == pytest.approx(first["since"] / 1000, abs=0.01), "it began when it began"
        ended = datetime.fromisoformat(found["pump-1"]["annotations"]["ended"]).timestamp()
        assert at < ended < time.time() - 1
        until(lambda: {("resolved", "pump-1"), ("resolved", "pump-2")} <= set(notified(receiver)))
    send(kafka, topic, [third := alert("pump-3"), next_phase(third, "recovered")])  # notify is away
    with running(loaded):
        until(lambda: ("resolved", "pump-3") in notified(receiver))
    fired = Counter(notified(receiver))
    assert len(fired) == 6, "each of the three fired, and was resolved"
    assert all(n == 1 for (status, _), n in fired.items() if status == "firing")


# What is sent to people, and when


NOON = datetime(2026, 5, 6, 12, 0, tzinfo=UTC).timestamp()  # a Wednesday


class Clocked:
    """An outbox with a clock, and the episodes of what is fed to it."""

    def __init__(self, text: str = "", now: float = NOON) -> None:
        notify = Notify.model_validate({"targets": [{"alertmanager": "http://a"}], **yaml.safe_load(text or "{}")})
        self.outbox, self.episodes, self.now = Outbox(notify, QuietHours(notify.quiet, "UTC")), Episodes(), now
        self.places = itertools.count()
        self.sent: list[tuple[float, list[tuple[str, str]], Batch]] = []

    def feed(self, *contents: dict[str, Any]) -> None:
        for content in contents:
            place = Place(0, next(self.places))
            applied = self.episodes.apply(AlertMessage(place, cast("Any", None), content, b"", self.now, False))
            assert applied is not None
            self.outbox.add(*applied, place, self.now)

    def run(self, seconds: float, step: float = 1.0) -> list[list[tuple[str, str]]]:
        """What is sent in that time: entity and what, of each message."""
        before, end = len(self.sent), self.now + seconds
        while self.now < end:
            self.now += step
            self.outbox.tick(self.episodes, self.now)
            if (batch := self.outbox.take(self.now)) is not None:
                self.sent.append((self.now, [(e.episode.entity, e.what) for e in batch.entries], batch))
                self.outbox.sent(batch, self.now)
        return [entries for _, entries, _ in self.sent[before:]]


def test_an_alert_waits_for_those_that_start_with_it() -> None:
    clocked = Clocked("group: 10s")
    clocked.feed(first := alert("a"))
    assert clocked.run(5) == []
    clocked.feed(alert("b"))
    assert clocked.run(10) == [[("a", "started"), ("b", "started")]]
    assert clocked.sent[0][0] == NOON + 10
    clocked.feed(next_phase(first, "ongoing"))
    assert clocked.run(60) == [], "it goes on: no news"
    clocked.feed(next_phase(first, "ongoing", severity="critical"))
    assert clocked.run(20) == [[("a", "escalated")]]
    clocked.feed(next_phase(first, "recovered"))
    assert clocked.run(20) == [[("a", "recovered")]]
    assert clocked.outbox.pop_done() == [Place(0, i) for i in (0, 1, 3, 4)]
    clocked = Clocked("group: 0")
    clocked.feed(alert("a"))
    assert clocked.run(1) == [[("a", "started")]]


def drift(target: str, score: float, change: str, *others: str) -> dict[str, Any]:
    """What a drift's message has with several targets. others: that are open as well"""
    return {"target": target, "score": score, "change": change, "targets": [{"target": t} for t in (target, *others)]}


def test_a_target_that_joins_above_what_was_sent_is_sent_once() -> None:
    """A fault behind an open episode that was started by noise."""
    clocked = Clocked("group: 0")
    first = alert("a", kind="drift", **drift("flow", 1.4, "smaller"))
    clocked.feed(first)
    assert clocked.run(60) == [], "errors that are smaller: nothing is to be done"
    clocked.feed(next_phase(first, "ongoing", **drift("temp", 1.2, "smaller", "flow")))
    assert clocked.run(60) == []
    clocked.feed(next_phase(first, "ongoing", **drift("pressure", 1.3, "larger", "flow")))
    assert clocked.run(1) == [[("a", "started")]]
    for target, score in (("pressure", 2.5), ("level", 1.7), ("level", 2.9)):
        clocked.feed(next_phase(first, "ongoing", **drift(target, score, "larger", "flow")))
    assert clocked.run(60) == [], "each target once, when it joins"
    clocked.feed(next_phase(first, "ongoing", **drift("power", 1.8, "higher", "flow")))
    assert clocked.run(1) == [[("a", "escalated")]], "by a quarter above 1.4"
    clocked.feed(next_phase(first, "recovered", **drift("flow", 1.0, "smaller")))
    assert clocked.run(1) == [[("a", "recovered")]]
    anomaly = alert("b", target="flow", targets=[{"target": "flow"}])
    clocked.feed(anomaly, next_phase(anomaly, "ongoing", target="temp", score=1.6))
    assert clocked.run(1) == [[("b", "started")]], "where nothing was sent yet, it is in the first message"


def test_errors_that_are_smaller_are_no_message_to_people() -> None:
    clocked = Clocked("group: 0")
    first = alert("a", kind="drift", change="smaller", score=2.0)
    clocked.feed(first, next_phase(first, "ongoing", change="smaller"), next_phase(first, "recovered"))
    second = alert("b", kind="drift", change="smaller", score=2.0)
    clocked.feed(second)
    assert clocked.run(6 * 3600, 60.0) == [], "nor is it sent again, while it stays open"
    assert clocked.outbox.pop_done() == []
    # Of a message that names several targets, or entities, it is not known what the others have.
    clocked.feed(alert("c", kind="drift", **drift("flow", 1.4, "smaller", "temp")))
    assert clocked.run(1) == [[("c", "started")]]
    fleet = alert("*", kind="drift", change="smaller", scope="fleet", entities=[{"entity": "a"}, {"entity": "b"}])
    clocked.feed(fleet)
    assert clocked.run(1) == [[("*", "started")]]


def test_what_makes_an_alert_worse_is_another_one_at_alertmanager() -> None:
    episodes = Episodes()

    def labels(content: dict[str, Any]) -> dict[str, str]:
        found = AlertMessage(Place(0, 0), cast("Any", None), content, b"", NOON, False)
        applied = episodes.apply(found)
        assert applied is not None
        return dict(labels_of(applied[0], None, "events"))

    first = alert("a", kind="drift", **drift("flow", 1.4, "larger"))
    assert labels(first)["target"] == "flow"
    assert labels(next_phase(first, "ongoing", **drift("temp", 1.5, "larger", "flow")))["target"] == "flow"
    assert labels(next_phase(first, "ongoing", **drift("level", 1.8, "larger", "flow")))["target"] == "level"
    assert labels(next_phase(first, "ongoing", **drift("flow", 0.0, "larger")))["target"] == "level"
    fleet = alert("*", scope="fleet", target="flow", targets=[], pool="0-0", count=3)
    assert labels(fleet)["target"] == "flow"
    assert labels(next_phase(fleet, "ongoing", scope="fleet", target="temp", score=9.0))["target"] == "flow"
    assert "target" not in labels(alert("b"))


def test_what_stays_open_is_repeated_until_somebody_attends_to_it() -> None:
    clocked = Clocked("{group: 0, repeat: 1h, per_hour: 1000}")
    clocked.feed(first := alert("a"), second := alert("b"))
    clocked.run(1)
    assert clocked.run(2 * 3600, 60) == [[("a", "open"), ("b", "open")]] * 2
    found = clocked.episodes.acknowledge(AlertAcknowledgement(second["id"], "Ann"))
    assert found is not None
    clocked.outbox.forget_repeat(found)
    assert clocked.run(3600, 60) == [[("a", "open")]]
    clocked.feed(next_phase(first, "recovered"), next_phase(second, "recovered"))
    assert clocked.run(3600, 60) == [[("a", "recovered"), ("b", "recovered")]]


def test_quiet_hours_end_with_a_digest() -> None:
    evening = datetime(2026, 5, 6, 23, 0, tzinfo=UTC).timestamp()
    clocked = Clocked("{group: 10s, quiet: ['Mon-Sun 22:00-06:00'], repeat: 1h, per_hour: 1000}", evening)
    clocked.feed(alert("a"), gone := alert("b"), alert("c", severity="critical"))
    clocked.feed(next_phase(gone, "recovered"))
    assert clocked.run(60) == [[("c", "started")]]
    night = clocked.run(7 * 3600, 30)
    assert [entries for entries in night if entries != [("c", "open")]] == [[("a", "started"), ("b", "passed")]]
    when, _, digest = next(each for each in clocked.sent if each[2].digest)
    assert datetime.fromtimestamp(when, UTC).strftime("%H:%M:%S") == "06:00:00"
    assert len(night) > 5, "what is critical is repeated in the night, too"
    assert digest.held_back == 0


def test_messages_are_limited_and_what_is_held_back_is_in_the_next_one() -> None:
    clocked = Clocked("{group: 0, per_hour: 8, repeat: null}")
    for i in range(30):
        clocked.feed(alert(f"m{i}"))
        clocked.run(10)
    assert len(clocked.sent) == 2, "a quarter of eight at once"
    clocked.run(3600, 10)
    assert len(clocked.sent) <= 2 + 8
    named = [entity for _, entries, _ in clocked.sent for entity, _ in entries]
    assert sorted(named) == sorted(f"m{i}" for i in range(30)), "each once"
    assert clocked.sent[2][2].held_back > 300


def test_an_alert_whose_recovery_never_comes_is_closed() -> None:
    clocked = Clocked()
    clocked.feed(alert("a"))
    clocked.now += 100
    clocked.feed(alert("b"))
    assert [e.entity for e in clocked.episodes.orphans(clocked.now - 50)] == ["a"]
    assert [e.entity for e in clocked.episodes] == ["b"]


def routed(content: dict[str, Any], target: str, teams: str = "{}") -> bool:
    section = yaml.safe_load(f"{{targets: [{{alertmanager: 'http://a', {target}}}], teams: {teams}}}")
    notify = Notify.model_validate(section)
    return Routing(notify, notify.targets[0]).matches(Episode("e", content, content["severity"], 0.0, 0.0))


@pytest.mark.parametrize(
    ("target", "entity", "kind", "severity", "expected"),
    [
        ("", "a", "drift", "warning", True),
        ("kinds: [limit, silence]", "a", "drift", "critical", False),
        ("kinds: [limit, silence]", "a", "silence", "warning", True),
        ("severity: critical", "a", "drift", "warning", False),
        ("severity: critical", "a", "drift", "critical", True),
        ("entities: 'pump-*'", "press-1", "drift", "warning", False),
        ("team: water", "pump-1", "drift", "warning", True),
        ("team: paint", "pump-1", "drift", "warning", False),
        ("", "a", "a kind of a later release", "warning", True),
    ],
)
def test_routes(target: str, entity: str, kind: str, severity: str, expected: bool) -> None:
    content = alert(entity, kind=kind, severity=severity)
    assert routed(content, target, "{water: 'pump-*', paint: 'press-*'}") is expected


def test_a_fleets_alert_is_for_whom_one_of_its_entities_is() -> None:
    listed = [{"entity": f"pump-{i}", "score": 2.0, "since": 0} for i in range(3)]
    content = alert("*", scope="fleet", entities=listed, count=3)
    assert routed(content, "entities: 'pump-2'")
    assert routed(content, "team: water", "{water: 'pump-*'}")
    assert not routed(content, "entities: 'press-*'")


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(0, 5))
def test_positions_survive_a_restart(ended: list[int], begin: int) -> None:
    positions = Positions(begin)
    for offset in range(begin, begin + 31):
        positions.begin(offset)
    for offset in ended:
        positions.end(begin + offset)
    again = Positions(*positions.committable)
    done = {begin + offset for offset in ended}
    for offset in range(begin, begin + 31):
        assert again.is_processed(offset) == (offset in done)
    assert Positions(5, "another program's").committable == (5, "")


# The recipes of docs/notify.md


def recipe(title: str) -> str:
    """The YAML below a heading of the page."""
    text = (Path(__file__).parent.parent / "docs/notify.md").read_text(encoding="utf-8")
    section = text.partition(f"### {title}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    found = re.search(r"^( *)```yaml\n(.*?)^ *```$", section, re.M | re.S)
    assert found is not None
    return textwrap.dedent(found[2]).removeprefix("notify:\n")


def results_of_test(loaded: Config) -> list[tuple[str, str | None]]:
    """What `--test` finds."""
    return list(NotifyService(loaded, "monitor.yaml").send_tests())


def test_recipe_for_slack(kafka: Kafka, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_URL", "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", f"{receiver.url}/services")
    topic = kafka.topic("alerts")
    loaded = config(kafka, topic, f"{recipe('Slack')}\n  group: 1s")
    assert results_of_test(loaded) == [("slack", None)]
    with running(loaded):
        until(lambda: len(receiver.accepted) == 2)
        send(kafka, topic, [alert("press-3", severity="critical")])
        until(lambda: len(receiver.accepted) == 3)
    assert {each.path for each in receiver.accepted} == {"/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"}
    assert "ssm-stream: test" in receiver.accepted[0].body.decode()
    text = orjson.dumps(receiver.accepted[2].json).decode()
    assert "press-3: anomaly (critical)" in text
    assert "press-3: temp is 92, expected 70 ± 4 (since 06:10)." in text
    assert "ssm-stream mute monitor.yaml press-3 --for 8h" in text


def test_recipe_for_mail(kafka: Kafka, mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_URL", mail.url)
    topic = kafka.topic("alerts")
    loaded = config(kafka, topic, f"{recipe('E-mail')}\n  group: 0")
    assert loaded.notify is not None
    assert results_of_test(loaded) == [("mailto", None)]
    with running(loaded):
        until(lambda: len(mail.messages) == 2)
        send(kafka, topic, [first := alert("press-3", severity="critical")])
        until(lambda: len(mail.messages) == 3)
    assert mail.messages[2]["To"] == "ann@plant.example"
    title, body = mail.text(2)
    assert title == "press-3: anomaly (critical)"
    assert f"https://monitor.plant.example/ui/#alert/{first['id']}" in body


def test_mail_has_lines_and_names_are_text(kafka: Kafka, mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_URL", mail.url)
    topic, names = kafka.topic("alerts"), ["<img src=x>", "a\nb", "press-3"]
    with running(config(kafka, topic, f"{recipe('E-mail')}\n  group: 0")):
        until(lambda: len(mail.messages) == 1)
        for i, name in enumerate(names):
            send(kafka, topic, [alert(name, severity="critical")])
            until(lambda: len(mail.messages) == 2 + i)  # noqa: B023
    assert [mail.text(i)[0] for i in (1, 2, 3)] == [
        f"{each}: anomaly (critical)" for each in ("<img src=x>", "a·b", "press-3")
    ]
    plain, page = (mail.messages[1].get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert "<img src=x>: temp is 92" in plain.get_content()
    assert "ssm-stream mute monitor.yaml '<img src=x>' --for 8h" in plain.get_content()
    assert len(plain.get_content().strip().splitlines()) > 2
    assert page is None or "<img" not in page.get_content()  # by the version of Apprise


def test_recipe_for_alertmanager(kafka: Kafka, alertmanager: Alertmanager, receiver: Receiver) -> None:
    topic = kafka.topic("alerts")
    text = recipe("Alertmanager").replace("http://alertmanager:9093", alertmanager.url)
    loaded = config(kafka, topic, text)
    assert results_of_test(loaded) == [("alertmanager", None)]
    assert [e["labels"]["alertname"] for e in alertmanager.get("/api/v2/alerts")] == ["SsmStreamTest"]
    with running(loaded):
        send(kafka, topic, [alert("press-3", kind="drift")])
        until(lambda: len(receiver.accepted) >= 2)
    labels = receiver.accepted[-1].json["alerts"][0]["labels"]
    assert (labels["alertname"], labels["team"]) == ("SsmStreamDrift", "paint")


def test_recipe_for_a_webhook(kafka: Kafka, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETS_AUTHORIZATION", "Bearer 123456")
    topic = kafka.topic("alerts")
    loaded = config(kafka, topic, recipe("Webhook").replace("https://tickets.plant.example", receiver.url))
    assert "123456" not in str(loaded.redacted()) + repr(loaded)
    assert results_of_test(loaded) == [("webhook", None)]
    with running(loaded):
        send(kafka, topic, [alert("Presse Süd 3")])
        until(lambda: len(receiver.accepted) == 2)
    assert receiver.accepted[1].path == "/alerts"
    assert receiver.accepted[1].headers["authorization"] == "Bearer 123456"


# Failures


def test_what_a_receiver_refuses_is_a_dead_letter_and_delays_nothing(kafka: Kafka, receiver: Receiver) -> None:
    topic, letters = kafka.topic("alerts"), kafka.topic("letters")
    receiver.status = lambda n: 422 if n == 1 else 503 if n % 3 == 2 else 200
    loaded = config(kafka, topic, f"  targets: [{{name: tickets, webhook: '{receiver.url}'}}]", letters=letters)
    sent = [alert("pump-3") for _ in range(6)]
    with running(loaded) as service:
        send(kafka, topic, sent[:1])
        until(lambda: len(receiver.requests) == 1)
        kafka.produce(topic, [("x", b"no alert")], 0)
        send(kafka, topic, sent[1:2])
        until(lambda: len(receiver.requests) == 2)
        send(kafka, topic, sent[2:])
        until(lambda: len(receiver.accepted) == 5)
        assert service.metrics.alerts.labels("tickets", "dead_letter")._value.get() == 2
        found = kafka.read(letters, expected=2)
    assert {r.json["id"] for r in receiver.accepted} == {a["id"] for a in sent} - {sent[1]["id"]}
    by_value = {message.value(): headers_of(message) for message in found}
    assert by_value.keys() == {b"no alert", orjson.dumps(sent[1])}
    headers = dict(by_value[orjson.dumps(sent[1])])
    assert headers["__connect.errors.stage"] == b"notify"
    assert headers["__connect.errors.exception.class.name"] == b"ssm_stream.Undeliverable"
    reason = cast("bytes", headers["__connect.errors.exception.message"]).decode()
    assert reason.startswith("target 'tickets': 127.0.0.1:")
    assert "HTTP 422" in reason
    schema = dead_letter_headers(loaded)
    for each in by_value.values():
        jsonschema.validate({name: cast("bytes", value).decode() for name, value in each}, schema)
    with running(loaded):
        time.sleep(0.5)
    assert len(kafka.read(letters)) == 2, "once"


def test_a_dead_letter_is_redriven_to_the_target_that_did_not_get_it(
    kafka: Kafka, receiver: Receiver, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, letters = kafka.topic("alerts"), kafka.topic("letters")
    well, refuses = Receiver(), receiver
    refuses.status = lambda n: 422
    targets = (
        f"{{name: tickets, webhook: '{refuses.url}'}}, {{name: other, webhook: '{well.url}'}}, "
        "{name: ann, apprise: '${NOTIFY_URL}'}"
    )
    loaded = config(kafka, topic, f"  targets: [{targets}]\n  group: 0", letters=letters)
    everything = LetterFilter((), ("notify",), None)
    first, second = alert("pump-1"), alert("pump-2")
    with running(loaded):
        until(lambda: len(mail.messages) == 1)
        send(kafka, topic, [first, second])
        kafka.produce(topic, [("x", b"no alert")], 0)
        until(lambda: len(kafka.read(letters)) == 5)  # each target's own of what is no alert
        until(lambda: len(mail.messages) == 2 or len(mail.messages) == 3)
    monkeypatch.setattr("ssm_stream.notify.workers.base.GIVE_UP", -1.0)
    mail.refuse = True
    with running(loaded):
        send(kafka, topic, [third := alert("pump-3")])
        until(lambda: len(kafka.read(letters)) == 7)  # of tickets, and of ann
        until(lambda: len(well.accepted) == 3)
    mail.refuse, refuses.status = False, lambda n: 200
    refuses.requests.clear()
    mails = len(mail.messages)
    foreseen = redrive(loaded, everything, send=False)
    assert (foreseen.sent, foreseen.failing) == ({"Undeliverable": 4}, {"WrongType": 3})
    with running(loaded):
        assert redrive(loaded, everything, send=True).sent.total() == 4
        until(lambda: len(refuses.accepted) == 3)
        until(lambda: len(mail.messages) == mails + 1)
        assert redrive(loaded, everything, send=True).sent.total() == 0, "each once"
    got = sorted((request.json for request in refuses.accepted), key=lambda each: str(each["entity"]))
    assert got == [first, second, third], "as they were; episodes do not wait for each other"
    assert "pump-3" in mail.text(mails)[0]
    with running(loaded):
        send(kafka, topic, [next_phase(first, "recovered")])
        until(lambda: len(refuses.accepted) == 4)
        until(lambda: len(mail.messages) == mails + 2)
        until(lambda: len(well.accepted) >= 4)
    assert "pump-1: anomaly is over" in mail.text(mails + 1)[0]
    assert len(well.accepted) == 4, "who had it does not get it again"
    well.close()
    schema = receipt_headers(loaded)
    for message in kafka.read(letters)[7:]:
        names = {name: cast("bytes", value).decode() for name, value in headers_of(message)}
        jsonschema.validate(names, schema)


def test_people_get_later_what_failed_and_what_came_meanwhile(kafka: Kafka, mail: Mail) -> None:
    topic = kafka.topic("alerts")
    loaded = config(kafka, topic, "  targets: [{apprise: '${NOTIFY_URL}'}]\n  group: 0")
    with running(loaded) as service:
        until(lambda: len(mail.messages) == 1)
        mail.refuse = True
        send(kafka, topic, [alert("pump-1")])
        until(lambda: service.metrics.failures.labels("mailto")._value.get() >= 2)
        assert service.metrics.failing_for("mailto") > 0
        send(kafka, topic, [alert("pump-2")])
        mail.refuse = False
        until(lambda: len(mail.messages) >= 2)
        until(lambda: "pump-2" in mail.text(-1)[0] + mail.text(-1)[1])
        assert service.metrics.failing_for("mailto") == 0
    assert len([i for i in range(len(mail.messages)) if "pump-1: temp" in mail.text(i)[1]]) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mailto://127.0.0.1:{free}?from=a@plant.example", r"^127.0.0.1:\d+: .* Connection refused"),
        ("mailto://nosuchhost.invalid?from=a@plant.example", r"^nosuchhost.invalid:25: .*Name or service not known"),
        ("mailto://ann:s3cr%40t-pass@127.0.0.1:{port}?from=a@plant.example", "AUTH extension not supported"),
        ("mailtos://ann:s3cr%40t-pass@127.0.0.1:{port}?from=a@plant.example", "STARTTLS extension not supported"),
        ("mailtos://127.0.0.1:{port}?from=a@plant.example&mode=ssl", "WRONG_VERSION_NUMBER"),
        ("mailto://127.0.0.1:{port}?from=a@plant.example&to=nobody@plant.example", "no such user"),
        ("jsons://user:s3cr%40t-pass@127.0.0.1:{port}/s3cret-path", "WRONG_VERSION_NUMBER"),
    ],
)
def test_a_failure_of_apprise_has_its_cause_without_secrets(
    kafka: Kafka, mail: Mail, monkeypatch: pytest.MonkeyPatch, url: str, words: str
) -> None:
    mail.unknown = {"nobody@plant.example"}
    monkeypatch.setenv("NOTIFY_URL", url.format(port=mail.port, free=free_port()))
    loaded = config(kafka, "alerts", "  targets: [{name: post, apprise: '${NOTIFY_URL}'}]")
    ((_, reason),) = results_of_test(loaded)
    assert re.search(words, str(reason)), reason
    assert not re.search("s3cr", str(reason))


def test_who_has_a_message_does_not_get_it_again_as_another_is_refused(
    kafka: Kafka, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssm_stream.notify.workers.people.Backoff", lambda _: Backoff(0.01))
    topic = kafka.topic("alerts")
    monkeypatch.setenv("NOTIFY_URL", f"{mail.url},nobody@plant.example,bob@plant.example")
    loaded = config(kafka, topic, "  targets: [{apprise: '${NOTIFY_URL}'}]\n  group: 0")
    with running(loaded) as service:
        until(lambda: len(mail.reached) == 3)
        mail.unknown = {"nobody@plant.example"}
        for i in range(2):
            send(kafka, topic, [alert(f"pump-{i}")])
            until(lambda n=i: service.metrics.failures.labels("mailto")._value.get() == 3 * (n + 1))  # type: ignore[misc]
        until(lambda: len(mail.reached) == 7)
        until(lambda: service.metrics.failing_for("mailto") == 0)  # the answer to the mail comes a little later
    assert Counter(mail.reached) == {"ann@plant.example": 3, "bob@plant.example": 3, "nobody@plant.example": 1}
    monkeypatch.setenv("NOTIFY_URL", f"{mail.url}&cc=nobody@plant.example")
    sender = NotifyService(config(kafka, topic, "  targets: [{apprise: '${NOTIFY_URL}'}]"), "monitor.yaml").workers[0]
    assert isinstance(sender, PeopleWorker)
    before = len(mail.reached)
    with pytest.raises(PartlySentError, match="no such user"):
        sender._sender.send(Text("a", "b"), urgent=False)
    with pytest.raises(PartlySentError):
        sender._sender.send(Text("a", "b"), urgent=False, again=True)
    assert len(mail.reached) == before + 1, "the server had taken it"


def test_each_channel_of_a_service_has_a_message_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slack, Matrix and Rocket.Chat have their recipients elsewhere than other services of Apprise."""
    monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", f"{receiver.url}/services")
    receiver.status = lambda n: 404 if n == 1 else 200
    url = SecretStr("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#paint/#water")
    sender = AppriseSender("slack", Target(apprise=url))
    with pytest.raises(PartlySentError, match="1 of 2 recipients"):
        sender.send(Text("a", "b"), urgent=False)
    sender.send(Text("a", "b"), urgent=False, again=True)
    assert [each.json["channel"] for each in receiver.accepted] == ["#paint", "#water"]


@pytest.mark.parametrize(
    "url",
    [
        "matrixs://u:p@h/#a/#b/#c",
        "rocket://u:p@h/#a/@b/c",
        "mailtos://u:p@h.example?to=a@x.example,b@x.example,c@x.example",
    ],
)
def test_a_url_with_three_recipients_is_three_services(url: str) -> None:
    assert len(AppriseSender("x", Target(apprise=SecretStr(url)))._notifiers) == 3


def test_what_people_cannot_be_sent_for_long_is_a_dead_letter(
    kafka: Kafka, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssm_stream.notify.workers.base.GIVE_UP", 0.0)
    topic, letters = kafka.topic("alerts"), kafka.topic("letters")
    loaded = config(kafka, topic, "  targets: [{apprise: '${NOTIFY_URL}'}]\n  group: 0", letters=letters)
    with running(loaded):
        until(lambda: len(mail.messages) == 1)
        mail.refuse = True
        send(kafka, topic, [first := alert("pump-1")])
        (found,) = kafka.read(letters, expected=1)
        assert found.value() == orjson.dumps(first)
        mail.refuse = False
        send(kafka, topic, [alert("pump-2")])
        until(lambda: len(mail.messages) == 2)
        assert "pump-1" not in mail.text(1)[1]


def test_the_topic_is_read_again_after_a_broker_that_was_away(
    private_kafka: Callable[[], LocalKafka], receiver: Receiver
) -> None:
    broker = private_kafka()
    topic = broker.topic("alerts")
    loaded = config(broker, topic, f"  targets: [{{webhook: '{receiver.url}'}}]")
    with running(loaded):
        send(broker, topic, [first := alert("pump-1")])
        until(lambda: len(receiver.accepted) == 1)
        time.sleep(0.5)
        broker.stop()
        time.sleep(2.0)
        broker.start()
        send(broker, topic, [second := alert("pump-2")])
        until(lambda: {r.json["id"] for r in receiver.accepted} == {first["id"], second["id"]}, 60)
    assert len(receiver.accepted) == 2


def test_an_acknowledged_alert_is_not_repeated_and_heartbeats_come(kafka: Kafka, mail: Mail) -> None:
    topic, feedback = kafka.topic("alerts"), kafka.topic("feedback")
    loaded = config(
        kafka, topic, "  targets: [{apprise: '${NOTIFY_URL}'}]\n  group: 0\n  repeat: 2s\n  per_hour: 3600\n"
        "  heartbeat: 2s", f", feedback: {{topic: {feedback}}}"
    )  # fmt: skip

    def texts(word: str) -> int:
        return sum(word in "\n".join(mail.text(i)) for i in range(len(mail.messages)))

    with running(loaded):
        send(kafka, topic, [first := alert("pump-1"), alert("pump-2")])
        until(lambda: texts("Still open"))
        assert "pump-1" in mail.text(-1)[1] or "watches" in mail.text(-1)[0]
        said = AlertAcknowledgement(first["id"], "Ann", "on my way").to_json()
        kafka.produce(feedback, [(first["id"], orjson.dumps(said))])
        time.sleep(1.5)
        before, named = texts("Still open"), texts("pump-1")
        until(lambda: texts("Still open") >= before + 2)
        assert texts("pump-1") == named
        assert texts("ssm-stream watches") >= 1


def test_a_heartbeat_counts_the_predictions_since_the_last_one(kafka: Kafka) -> None:
    topic = kafka.topic("predictions")
    source = config(kafka, topic, "  targets: [{webhook: 'http://127.0.0.1:9/'}]").source.model_copy(
        update={"topic": topic}
    )
    activity = TopicActivity(source)
    kafka.produce(topic, [(None, b"{}")] * 3)
    assert activity.since_last() == 3
    assert activity.since_last() == 0
    assert TopicActivity(source.model_copy(update={"topic": "none"})).since_last() is None


# The command


def test_a_preview_goes_on_to_the_present() -> None:
    """The digest of quiet hours, hours after the last alert, repeats, and what waits in the end."""
    loaded = parse_config(
        "source: {brokers: 'a:1', topic: events}\nevent: {entity: e, timestamp: t}\nsinks: {alerts: a}\n"
        "notify: {targets: [{apprise: '${NOTIFY_URL:-}'}], quiet: ['Wed 12:00-15:00'], repeat: 4h, orphans: 1d}\n"
    )
    notify = loaded.notify
    assert notify is not None
    (_, target), *_ = notify.named_targets()
    alerts = [
        AlertMessage(Place(0, i), cast("Any", None), content, b"", NOON + i, False)
        for i, content in enumerate([alert("a"), alert("b", severity="critical")])
    ]

    def shown(hours: float) -> tuple[list[str], int]:
        outbox = Outbox(notify, QuietHours(notify.quiet, "UTC"))
        found = [*_history(loaded, "m.yaml", target, alerts, outbox, NOON + hours * 3600)]
        return [datetime.fromtimestamp(at, UTC).strftime("%H") for at, _ in found], len(outbox)

    assert shown(0) == (["12"], 1), "what is critical, though its group ends in a moment; the other waits"
    assert shown(2.9) == (["12"], 1)
    assert shown(3.1) == (["12", "15"], 0)
    assert shown(9) == (["12", "15", "16", "19", "20"], 0)
    assert shown(25) == shown(40), "taken for over"


def test_the_command_prints_what_would_be_sent(kafka: Kafka, tmp_path: Path) -> None:
    topic, file = kafka.topic("alerts"), tmp_path / "monitor.yaml"
    file.write_text(
        f"source: {{brokers: '{kafka.bootstrap_servers}', topic: events}}\nevent: {{entity: e, timestamp: t}}\n"
        f"sinks: {{alerts: {topic}}}\nalerts: {{language: ja}}\n"
        "notify: {targets: [{apprise: '${NOTIFY_URL:-}'}, "
        "{webhook: 'http://127.0.0.1:9/secret-path', kinds: [drift]}]}\n"
    )
    send(kafka, topic, [first := alert("pump-1"), alert("pump-2", kind="drift"), next_phase(first, "recovered")])
    done = command("notify", str(file), "--dry-run", "--since", "1h")
    assert done.returncode == 0, done.stderr
    assert "発生 1 件、発生後すぐ終了 1 件" in done.stdout
    assert "apprise: 1 messages from 3 alert messages" in done.stdout
    assert "webhook: 1 messages from 3 alert messages" in done.stdout
    done = command("notify", str(file), "--test")
    assert done.returncode == 2
    assert "Apprise does not take the URL" in done.stderr
    file.write_text(file.read_text().replace("{apprise: '${NOTIFY_URL:-}'}, ", ""))
    done = command("notify", str(file), "--test")
    assert done.returncode == 1
    assert done.stdout.startswith("webhook: 127.0.0.1:9: ")
    assert "secret-path" not in done.stdout + done.stderr
    file.write_text(file.read_text().partition("notify:")[0])
    done = command("notify", str(file))
    assert done.returncode == 2
    assert "notify: missing" in done.stderr


def test_only_notify_needs_the_secrets_of_its_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_URL", raising=False)
    text = (
        "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\nnotify: {targets: [{%s: '${NOTIFY_URL}'}]}"
    )
    for key in ("apprise", "webhook"):
        loaded = parse_config(text % key)
        with pytest.raises(ConfigError, match=rf"targets\[0\].{key}: the environment variable NOTIFY_URL is not set"):
            NotifyService(loaded, "monitor.yaml")
        NotifyService(loaded, "monitor.yaml", print)


def test_a_secret_that_no_request_can_have_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\n"
        "notify: {targets: [{webhook: '%s', authorization: '${AUTH}'}]}"
    )
    monkeypatch.setenv("AUTH", "Bearer abcdefgh\n")
    loaded = parse_config(text % "http://a")
    assert loaded.notify is not None
    assert loaded.notify.targets[0].authorization is not None
    assert loaded.notify.targets[0].authorization.get_secret_value() == "Bearer abcdefgh"
    for value in ("Bearer abc\nabcdefgh", "Bearer abcdefgh\r\n\tx", "Bearer abcdefghトークン", "Bearer abcdefgh\x7f"):
        monkeypatch.setenv("AUTH", value)
        with pytest.raises(ConfigError, match=r"targets\[0\].authorization: the value has a line break") as caught:
            parse_config(text % "http://a")
        assert "abcdefgh" not in str(caught.value)
    monkeypatch.setenv("AUTH", "Bearer Schlüssel")
    for url, words in (
        ("http://abcdefgh:99999/", "no host, or a port"),
        ("http://[abcdefgh/", "no host, or a port"),
        ("http://abcdefgh..example/", "no host, or a port"),
        ("http://a/abcdefgh/ä", "write it as %XX"),
    ):
        monkeypatch.setenv("URL", url)
        with pytest.raises(ConfigError, match=words) as caught:
            parse_config(text % "${URL}")
        assert "abcdefgh" not in str(caught.value)
    for url in ("http://münchen.example/a?b=%C3%A4", "https://[::1]:8443/x", "http://user:secret@a:80", "${URL_UNSET}"):
        parse_config(text % url)


def test_what_cannot_be_a_request_is_a_failure_without_the_secret() -> None:
    for url, token in (
        ("http://127.0.0.1:9/", "abcdefgh\n"),
        ("http://127.0.0.1:9/abcdefgh/ä", "a"),
        ("http://[a", "b"),
    ):
        with pytest.raises(SendError) as caught:
            post(url, b"{}", {"Authorization": token})
        assert "abcdefgh" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("targets: []", "at least 1 item"),
        ("targets: [{apprise: 'slack://abcdefgh'}]", "must not be written in the file"),
        ("targets: [{webhook: 'http://a', authorization: 'Bearer abcdefgh'}]", "must not be written in the file"),
        ("targets: [{webhook: 'http://a', alertmanager: 'http://b'}]", "found alertmanager and webhook"),
        ("targets: [{severity: critical}]", "found no address"),
        ("targets: [{webhook: 'tickets'}]", "write an address"),
        ("targets: [{webhook: 'http://a', team: paint}]", "not in notify.teams"),
        ("targets: [{webhook: 'http://a'}], quiet: [nights]", "write days and times"),
        ("targets: [{webhook: 'http://a', kinds: [lies]}]", "anomaly"),
    ],
)
def test_a_wrong_section_is_refused_with_the_cure(section: str, words: str) -> None:
    text = f"source: {{brokers: a, topic: t}}\nevent: {{entity: e, timestamp: t}}\nnotify: {{{section}}}\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert words in str(caught.value)
    assert "notify" in str(caught.value)
    assert "abcdefgh" not in str(caught.value)


def test_a_service_of_incidents_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("apprise")
    monkeypatch.setenv("ROTA_URL", "pagerduty://abcdefgh@ijklmnop/source/component")
    text = "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\n"
    text += "notify: {targets: [{apprise: '${ROTA_URL}'}]}"
    NotifyService(parse_config(text), "monitor.yaml", print)
    printed = capsys.readouterr()
    assert "each_message_is_an_incident" in printed.out + printed.err
    assert "through Alertmanager" in printed.out + printed.err
    monkeypatch.setenv("ROTA_URL", "slack://TokenA/TokenB/TokenC/Channel")
    NotifyService(parse_config(text), "monitor.yaml", print)
    assert "incident" not in "".join(capsys.readouterr())


def test_names_of_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("A", "https://hooks.slack.com/services/a"), ("B", "tgram://bot"), ("C", "no url")):
        monkeypatch.setenv(name, value)
    loaded = parse_config(
        "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\n"
        "notify: {targets: [{apprise: '${A}'}, {apprise: '${B}'}, {apprise: '${C}'}, {webhook: 'http://a'},"
        " {webhook: 'http://b'}, {webhook: 'http://c', name: webhook-3}, {webhook: 'http://d'}]}"
    )
    assert loaded.notify is not None
    names = [name for name, _ in loaded.notify.named_targets()]
    assert names == ["slack", "tgram", "apprise", "webhook", "webhook-2", "webhook-3", "webhook-4"]
    assert loaded.hash == parse_config("source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}").hash


def test_metrics_and_health_are_served_and_documented(kafka: Kafka, receiver: Receiver) -> None:
    topic, port = kafka.topic("alerts"), free_port()
    text = f"  targets: [{{webhook: '{receiver.url}'}}]\n  address: '127.0.0.1:{port}'"
    loaded = config(kafka, topic, text.replace("\n  address", "\n  #address"))
    assert loaded.notify is not None
    loaded = loaded.replace(notify=loaded.notify.model_copy(update={"address": f"127.0.0.1:{port}"}))
    with running(loaded):
        send(kafka, topic, [alert()])
        until(lambda: receiver.accepted)

        def served(path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())

        assert json.loads(served("/readyz"))["ready"]
        until(lambda: 'ssm_stream_notify_alerts_total{outcome="delivered",target="webhook"} 1.0' in served("/metrics"))
        names = set(re.findall(r"^# TYPE (ssm_stream_\w+) ", served("/metrics"), re.M))
    page = (Path(__file__).parent.parent / "docs/metrics.md").read_text()
    assert names == set(re.findall(r"^\| `(ssm_stream_notify_\w+)` \|", page, re.M))


@pytest.mark.parametrize(
    ("name", "command"),
    [("TI[1]", "'TI[[]1]' --for 8h"), ("-dash", "--for 8h -- -dash"), ("a b", "'a b' --for 8h")],
)
def test_the_command_that_mutes_is_for_this_entity_alone(name: str, command: str) -> None:
    loaded = parse_config(
        "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\nalerts: {control: true}\n"
        "notify: {targets: [{alertmanager: 'http://a'}]}"
    )
    mute = Links(loaded, "m.yaml").mute(Episode("1", alert(name), "warning", 0.0, 0.0))
    assert mute == f"ssm-stream mute m.yaml {command}"


def test_templates_have_the_same_parts_in_both_languages() -> None:
    for language in ("en", "ja"):
        loaded = parse_config(
            "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\n"
            f"alerts: {{language: {language}, control: true}}\n"
            "notify: {targets: [{alertmanager: 'http://a'}], page: 'http://p/ui/'}"
        )
        assert loaded.notify is not None
        renderer = Renderer(loaded, Routing(loaded.notify, loaded.notify.targets[0]), "my monitor.yaml")
        whats: list[What] = ["started", "escalated", "open", "recovered", "passed"]
        entries = [
            Entry(Episode(f"{what}-{i}", alert(f"{what}-{i}"), "warning", 0.0, 0.0), what, 0.0)
            for what in whats
            for i in range(40)
        ]
        text = renderer.batch(Batch(entries, digest=True, held_back=70.0), 9)
        assert all(entry.episode.entity in text.body for entry in entries)
        assert "70" in text.body
        assert "http://p/ui/#alert/" in text.body
        assert "ssm-stream mute 'my monitor.yaml' started-0 --for 8h" in text.body
        assert "\n\n\n" not in text.body
        for limit in (1000, 2000):
            pieces = parts(text, limit)
            assert all(len(piece.body) <= limit for piece in pieces)
            assert len({piece.title for piece in pieces}) == len(pieces)
        assert len(parts(text, 160)) == 1
        for other in (renderer.heartbeat(3, 0), renderer.heartbeat(3, 5), renderer.test()):
            assert other.title.startswith("ssm-stream")
            assert other.body
        exactly = Renderer(
            loaded.replace(delivery="exactly_once"), Routing(loaded.notify, loaded.notify.targets[0]), ""
        )
        assert {"en": "Up to 5 predictions", "ja": "最大 5 件"}[language] in exactly.heartbeat(3, 5).body
        assert {"en": "Up to", "ja": "最大"}[language] not in renderer.heartbeat(3, 5).body


def test_an_own_template(tmp_path: Path) -> None:
    file = tmp_path / "short.txt.j2"
    loaded = parse_config(
        "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\n"
        f"notify: {{targets: [{{alertmanager: 'http://a'}}], template: {file}}}"
    )
    assert loaded.notify is not None
    routing = Routing(loaded.notify, loaded.notify.targets[0])
    with pytest.raises(ConfigError, match="cannot be read"):
        Renderer(loaded, routing, "m.yaml")
    file.write_text("{% if %}")
    with pytest.raises(ConfigError, match="has an example"):
        Renderer(loaded, routing, "m.yaml")
    file.write_text(
        "{{ groups.started.count }} new\n{% for i in groups.started.shown %}{{ i.alert.score }}{% endfor %}"
    )
    entry = Entry(Episode("e", alert(), "warning", 0.0, 0.0), "started", 0.0)
    assert Renderer(loaded, routing, "m.yaml").batch(Batch([entry]), 1) == Text("1 new", "1.5")
    file.write_text("{{ no_such_thing }}")
    assert Renderer(loaded, routing, "m.yaml").batch(Batch([entry]), 1).title == "pump-3: anomaly", "the package's"


def test_a_job_that_is_tried_again_later_delays_only_its_own_episode() -> None:
    done, lanes = list[str](), Lanes("test", 2)
    attempts = itertools.count()

    def first() -> float | None:
        if next(attempts) < 3:
            return 0.1
        done.append("first")
        return None

    for key, job in (("a", first), ("a", lambda: done.append("second"))):
        lanes.submit(key, job)
    for i in range(5):
        lanes.submit(f"b{i}", lambda: done.append("other"))
    until(lambda: len(done) == 7)
    assert done == ["other"] * 5 + ["first", "second"]
    lanes.submit("c", lambda: 60.0)
    lanes.close()


def test_the_alerts_of_a_flow_are_sent_as_they_are(kafka: Kafka, receiver: Receiver, tmp_path: Path) -> None:
    topic = kafka.topic("events", PARTITIONS)
    kafka.produce(topic, events(20_000))
    job = Job(kafka, tmp_path, topic)
    content = orjson.loads(job.path.read_bytes())
    content["notify"] = {"targets": [{"webhook": receiver.url, "kinds": ["anomaly", "drift"]}], "address": None}
    job.path.write_bytes(orjson.dumps(content))
    with running(job.config):
        job.run()
        written = job.told_alerts()
        until(lambda: len(receiver.accepted) >= len(written))
    assert len(written) > 10
    assert {each.headers["ce-id"]: each.body for each in receiver.accepted} == written
    assert {each.headers["ce-subject"] for each in receiver.accepted} == {
        each.json["entity"] for each in receiver.accepted
    }
    done = command("notify", str(job.path), "--dry-run", "--since", "1h")
    assert f"webhook: {len(written)} messages from {len(written)} alert messages" in done.stdout
    shown = orjson.loads(job.path.read_bytes())
    shown["notify"]["targets"] = [{"apprise": "${NOTIFY_URL}"}]
    job.path.write_bytes(orjson.dumps(shown))
    done = command("notify", str(job.path), "--dry-run", "--since", "1h")
    assert done.returncode == 0, done.stderr
    assert "expected" in done.stdout
    assert re.search(r"came and passed|started", done.stdout)
