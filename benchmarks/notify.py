"""Whether `ssm-stream notify` loses an alert, how soon one arrives, and what a storm becomes for people.

    python benchmarks/notify.py [--json] [--quick] [--part delivery --part alertmanager --part storm]

Delivery: alerts at 50 a second to a webhook that fails every third call, while notify is killed by SIGKILL twice; from
the broker's acknowledgement until the webhook has answered 200.
Alertmanager: the real one. Alerts start and recover while it, and then notify, is restarted; one entity is silenced.
Storm: 1,000 alerts in a minute, a tenth of them critical, half of them over within it, to people with the default
settings.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer
from measuring import MissingError, check, end_on_signals, running, say, tell
from wire import cluster, create, named

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from notified import Receiver, alert, next_phase

from ssm_stream.ops.bytewax_metrics import free_port

RATE = 50.0
AFTER_A_KILL = 10.0
P95_MOST, DUPLICATES_MOST, MESSAGES_MOST = 1.0, 0.01, 10
PARTS = ("delivery", "alertmanager", "storm")


class Job:
    """A configuration of notify with topics of its own, and the process."""

    def __init__(self, broker: str, folder: Path, name: str, target: str, environment: dict[str, str]) -> None:
        self.topic, self.port = named(f"{name}-alerts"), free_port()
        self._broker, self._file, self._log = broker, folder / f"{name}.yaml", folder / f"{name}.log"
        self._environment = {**os.environ, **environment}
        create(broker, [self.topic], 4)
        create(broker, [named(f"{name}-letters")], 1)
        self._file.write_text(
            f"source: {{brokers: '{broker}', topic: events, group: {self.topic}}}\n"
            f"event: {{entity: e, timestamp: t, features: [a]}}\n"
            f"sinks: {{alerts: {self.topic}, dead_letters: {named(f'{name}-letters')}, predictions: null}}\n"
            f"notify: {{targets: [{target}], address: '127.0.0.1:{self.port}'}}\n"
        )
        self.visible: dict[str, float] = {}
        self._producer = Producer({"bootstrap.servers": broker, "linger.ms": 0})

    def start(self) -> Any:
        """A running process, as a context, once it reads."""
        return running([sys.executable, "-m", "ssm_stream", "notify", str(self._file)], self._log, self._environment)

    def wait_ready(self, seconds: float = 60.0) -> None:
        self.wait(self._ready, seconds, "notify is not ready")

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def send(self, content: dict[str, Any]) -> None:
        """Produce an alert; `visible` has the time of the broker's acknowledgement."""
        name = str(content["id"])

        def delivered(error: object, _: object) -> None:
            if error is not None:
                raise MissingError(f"not on the topic: {error}")
            self.visible[name] = time.time()

        self._producer.produce(self.topic, orjson.dumps(content), content["entity"], on_delivery=delivered)
        self._producer.poll(0)

    def pace(self, until: float) -> None:
        """Serve acknowledgements until a time, s since 1970."""
        while (left := until - time.time()) > 0:
            self._producer.poll(min(left, 0.005))

    def flush(self) -> None:
        self._producer.flush(30)

    def wait(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise MissingError(f"{what}:\n{self._log.read_text()[-2000:] if self._log.exists() else ''}")
            time.sleep(0.05)


def _ids(receiver: Receiver) -> set[str]:
    return {request.headers["ce-id"] for request in receiver.accepted}


def delivery(broker: str, folder: Path, count: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Alerts to a webhook that fails every third call, with two kills."""
    receiver = Receiver(lambda n: 503 if n % 3 == 2 else 200)
    job = Job(broker, folder, "delivery", f"{{webhook: '{receiver.url}/in'}}", {})
    kills, sent = list[float](), 0
    began = 0.0
    for part in range(3):
        with job.start() as process:
            if part == 0:
                job.wait_ready()
                began = time.time()
            end = count * (part + 1) // 3
            while sent < end:
                job.pace(began + sent / RATE)
                job.send(alert(f"pump-{sent % 500}"))
                sent += 1
            if part < 2:
                kills.append(time.time())
                process.send_signal(signal.SIGKILL)
                process.wait()
                continue
            job.flush()
            job.wait(lambda: _ids(receiver) >= job.visible.keys(), 60, "alerts are missing")
            time.sleep(1.0)
    receiver.close()
    first, times = dict[str, float](), Counter[str]()
    for request in receiver.accepted:
        name = request.headers["ce-id"]
        first.setdefault(name, request.at)
        times[name] += 1
    judged = {
        name: first[name] - at
        for name, at in job.visible.items()
        if name in first
        and not any(kill <= each <= kill + AFTER_A_KILL for kill in kills for each in (at, first[name]))
    }
    delays = list(judged.values())
    lost = len(job.visible) - len(first.keys() & job.visible.keys())
    doubled = sum(n - 1 for n in times.values()) / len(job.visible)
    delays.sort()
    p95 = delays[int(0.95 * len(delays))]
    figures = {
        "alerts": len(job.visible),
        "calls": len(receiver.requests),
        "kills": len(kills),
        "judged_for_delay": len(delays),
        "p50_s": statistics.median(delays),
        "p99_s": delays[int(0.99 * len(delays))],
        "s_from_a_kill_to_the_next_accepted": [
            round(min(at for at in first.values() if at > kill + 0.5) - kill, 1) for kill in kills
        ],
        "late_by_s_of_the_run": dict(
            sorted(Counter(int(job.visible[n] - began) // 10 * 10 for n, s in judged.items() if s > P95_MOST).items())
        ),
        "load_average": os.getloadavg()[0],
    }
    return [
        check("delivery, alerts lost", lost, "<=", 0),
        check("delivery, share of duplicates, with the same id", doubled, "<=", DUPLICATES_MOST),
        check("delivery, p95 from visible to accepted, s", p95, "<=", P95_MOST),
    ], figures


def alertmanager(broker: str, folder: Path, count: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The real Alertmanager, which is restarted, and so is notify."""
    if shutil.which("prometheus-alertmanager") is None:
        say("alertmanager: not installed, left out")
        return [], {"left_out": "prometheus-alertmanager is not installed"}
    receiver, port = Receiver(), free_port()
    (folder / "alertmanager.yml").write_text(
        "route: {receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}\n"
        f"receivers: [{{name: hook, webhook_configs: [{{url: '{receiver.url}', send_resolved: true}}]}}]\n"
    )
    command = [
        "prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    job = Job(broker, folder, "alertmanager", f"{{alertmanager: 'http://127.0.0.1:{port}'}}", {})

    def states() -> dict[str, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/alerts", timeout=5) as answer:
                return {each["labels"]["entity"]: each["status"]["state"] for each in json.loads(answer.read())}
        except OSError:
            return {}

    def sent(status: str) -> set[str]:
        found = (each for request in receiver.accepted for each in request.json["alerts"])
        return {each["labels"]["entity"] for each in found if each["status"] == status}

    started = [alert(f"pump-{i}") for i in range(count)]
    everyone = {each["entity"] for each in started}
    quiet = started[0]["entity"]
    halves = [{each["entity"] for each in started[1::2]}, {each["entity"] for each in started[2::2]}]

    def recover(entities: set[str]) -> None:
        for each in started:
            if each["entity"] in entities:
                job.send(next_phase(each, "recovered"))
        job.flush()

    with running(command, folder / "am.log") as process:
        job.wait(lambda: _answers(port), 30, "Alertmanager does not answer")
        _silence(port, quiet)
        with job.start() as notify:
            job.wait_ready()
            for each in started:
                job.send(each)
            job.flush()
            job.wait(lambda: states().keys() == everyone, 60, "not all fire")
            suppressed = states()[quiet] == "suppressed"
            job.wait(lambda: sent("firing") == everyone - {quiet}, 60, "not all were sent on")
            time.sleep(2.0)  # until it has noted what it has sent on: without that it sends no end
            _end(process)
            recover(halves[0])  # while Alertmanager is away
            time.sleep(2.0)
            with running(command, folder / "am.log") as process:
                began = time.monotonic()
                job.wait(lambda: states().keys() == everyone - halves[0], 90, "not what is open after the restart")
                back = time.monotonic() - began
                job.wait(lambda: sent("resolved") >= halves[0], 60, "not all resolved were sent on after the restart")
                notify.send_signal(signal.SIGKILL)
                notify.wait()
                recover(halves[1])  # while notify is away
                with job.start():
                    job.wait(lambda: states().keys() == {quiet}, 90, "not what is open after notify's restart")
                    job.wait(lambda: sent("resolved") >= halves[0] | halves[1], 60, "not all resolved were sent on")
    receiver.close()
    found = Counter(
        (each["status"], each["labels"]["entity"]) for request in receiver.accepted for each in request.json["alerts"]
    )
    missing = sum(found[(status, name)] == 0 for status in ("firing", "resolved") for name in everyone - {quiet})
    more = sum(n - 1 for n in found.values())
    return [
        check("alertmanager, firings and resolutions that are missing", missing, "<=", 0),
        check("alertmanager, silenced alerts that were sent on", found[("firing", quiet)], "<=", 0),
        check("alertmanager, silence is honoured", float(suppressed), ">=", 1),
    ], {"alerts": count, "sent_twice": more, "s_until_all_are_back_after_a_restart": round(back, 1)}


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _silence(port: int, entity: str) -> None:
    now = datetime.now(UTC)
    content = {
        "matchers": [{"name": "entity", "value": entity, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "benchmark",
        "comment": "silenced",
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v2/silences", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=5).close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


def storm(
    broker: str, folder: Path, count: int, seconds: float, after: float = 15.0
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Alerts of a storm to people, with the default settings. after: seconds in which more messages may come"""
    receiver = Receiver()
    address = f"json://127.0.0.1:{receiver.port}"
    job = Job(broker, folder, "storm", "{apprise: '${STORM_URL}'}", {"STORM_URL": address})
    names, texts = [f"machine-{i:04d}" for i in range(count)], list[str]()

    def named_all() -> bool:
        texts[:] = [f"{each.json['title']}\n{each.json['message']}" for each in receiver.accepted]
        text = "\n".join(texts)
        return all(name in text for name in names)

    with job.start():
        job.wait_ready()
        job.wait(lambda: receiver.accepted, 30, "no first message")
        began, latest = time.time(), 0.0
        for i, name in enumerate(names):
            job.pace(began + i * seconds / count)
            one = alert(
                name, kind=("anomaly", "drift", "limit")[i % 3], severity="critical" if i % 10 == 0 else "warning"
            )
            job.send(one)
            if i % 2:
                job.send(next_phase(one, "recovered"))
        job.flush()
        job.wait(named_all, 400, "not all are named")
        latest = time.time() - began
        time.sleep(after)
        named_all()
    receiver.close()
    return [
        check("storm, messages to people", len(texts), "<=", MESSAGES_MOST),
        check("storm, alerts that no message names", sum(n not in "\n".join(texts) for n in names), "<=", 0),
    ], {
        "alerts": count,
        "in_s": seconds,
        "all_named_after_s": round(latest, 1),
        "titles": [t.split("\n")[0] for t in texts],
    }


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=10_000, help="of the delivery part (10,000)")
    parser.add_argument("--quick", action="store_true", help="1,500 alerts, and a storm of ten seconds")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; repeatable")
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    arguments = parser.parse_args()
    end_on_signals()
    quick, parts = arguments.quick, arguments.part or PARTS
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as name, cluster(Path(name)) as (broker, word):
        say(f"on {word}")
        folder, checks, figures = Path(name), list[dict[str, Any]](), dict[str, Any]()
        jobs: dict[str, Callable[[], tuple[list[dict[str, Any]], dict[str, Any]]]] = {
            "delivery": lambda: delivery(broker, folder, 1500 if quick else arguments.alerts),
            "alertmanager": lambda: alertmanager(broker, folder, 20 if quick else 200),
            "storm": lambda: storm(broker, folder, 1000, 10.0 if quick else 60.0),
        }
        failed = False
        for part in parts:
            say(part)
            try:
                found, figures[part] = jobs[part]()
            except MissingError as error:
                say(f"{part}: {error}")
                figures[part], failed = {"failed": str(error)}, True
                continue
            checks += found
            tell(found)
    if arguments.json:
        print(json.dumps({"checks": checks, **figures}, indent=2, ensure_ascii=False))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
