"""What the live page holds, and what it costs.

    python benchmarks/ui.py [--json]

What it holds: Chromium (headless, without a graphics card) opens the page of a process with ten thousand entities, all
of which get events, and counts by itself the updates that it has applied and the frames that it has drawn.

What it costs: within one run the page is told of the events and tells a browser for some tenths of a second, for as
many it does neither, and so on (slices.py says why). The browser is not on the process's machine there: a reader takes
its place, which draws nothing, as on this machine both would share cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import throughput_topics as topics
from confluent_kafka import Producer
from measuring import MissingError, check, cpu_seconds, end_on_signals, hand_over, running, say, tell
from slices import Slice, cost, told
from wire import cluster, configuration, create, events, named

from ssm_stream.ops.bytewax_metrics import free_port

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--mute-audio",
]  # fmt: skip
UPDATES_LEAST = 30.0
COST_MOST = 0.03
RATE, FED = 10_000, 400_000
"""Events a second while the browser looks, so many that nearly every thirtieth of one has some for the 120 tiles; and
how many different ones there are."""


@contextmanager
def feeding(broker: str, topic: str, entities: int) -> Iterator[None]:
    """First some events of each entity, then `RATE` a second; the same ones again when they end."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    made = [(key, orjson.dumps(event)) for key, event in events(FED, entities)]
    done = threading.Event()

    def run() -> None:
        began = time.monotonic()
        for sent, (key, value) in enumerate(itertools.cycle(made)):
            hand_over(producer, topic, value, key)
            if sent % 100 == 0:
                producer.poll(0)
                ahead = (sent - 5 * entities) / RATE - (time.monotonic() - began)
                if done.wait(max(ahead, 0.0)):
                    break
        producer.flush(5)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def holds(broker: str, folder: Path, entities: int, seconds: float) -> dict[str, float]:
    """Updates and frames a second of the fleet's page, and what the process takes for it."""
    from playwright.sync_api import sync_playwright

    topic, sink = named("events-page"), named("page")
    create(broker, [topic, sink, f"{sink}-alerts", f"{sink}-dead"])
    port = free_port()
    more = f"ops: {{address: '127.0.0.1:{port}', ui: true}}\n"
    file = folder / "page.yaml"
    file.write_text(configuration(broker, topic, sink, folder / "page-state", more=more))
    command = [sys.executable, "-m", "ssm_stream", "run", str(file)]
    with running(command, folder / "page.log") as process, feeding(broker, topic, entities), sync_playwright() as play:
        _wait(f"http://127.0.0.1:{port}/ui/")
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"http://127.0.0.1:{port}/ui/")
        # The page's policy allows no eval, which Playwright's own waiting needs.
        deadline = time.monotonic() + 240
        while page.evaluate("window.app?.view?.names?.length ?? 0") < entities:
            if time.monotonic() > deadline:
                raise MissingError(f"the page does not have {entities} entities after four minutes")
            page.wait_for_timeout(200)
        page.wait_for_timeout(5000)
        now = "({...window.ssmStream, at: performance.now()})"
        cpu, before = cpu_seconds(process.pid), page.evaluate(now)
        page.wait_for_timeout(seconds * 1000)
        cpu, after = cpu_seconds(process.pid) - cpu, page.evaluate(now)
        shown = page.evaluate("window.app.view.tiles.length")
        browser.close()
    took = (after["at"] - before["at"]) / 1000
    if after["opened"] != before["opened"]:
        raise MissingError("the stream was cut while it was measured")
    return {
        "entities": entities,
        "tiles": shown,
        "updates_per_s": (after["updates"] - before["updates"]) / took,
        "frames_per_s": (after["frames"] - before["frames"]) / took,
        "process_cpu": cpu / took,
    }


def _wait(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise MissingError(f"{url} did not answer within a minute") from None
            time.sleep(0.2)


@contextmanager
def looking(address: str) -> Iterator[dict[str, int]]:
    """Reads a browser's stream of the fleet from when it is there; messages and bytes that came."""
    came = {"messages": 0, "bytes": 0}
    done = threading.Event()

    def run() -> None:
        while not done.wait(0.1):
            try:
                with urllib.request.urlopen(f"http://{address}/ui/stream?view=fleet", timeout=10) as answer:
                    for line in answer:
                        came["messages"] += line.startswith(b"data")
                        came["bytes"] += len(line)
            except (urllib.error.URLError, OSError):  # not there yet, or no longer
                continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield came
    finally:
        done.set()
        thread.join(11)


def costs(broker: str, folder: Path, count: int, entities: int, rounds: int) -> list[dict[str, Any]]:
    """`slices` of each run, and the seconds of CPU of the page's `own` functions while it was on.

    Raises:
        MissingError: a run whose stream was never there.
    """

    def looked_at(number: int) -> list[topics.Client]:
        ops = f"address: '127.0.0.1:{free_port()}', ui: true"
        title, more, off = "the page on and off", f"ops: {{{ops}}}\n", number % 2 == 1
        return [topics.Client("page", "product", title, more=more, alternating="page", off_first=off)]

    def one(client: topics.Client, source: topics.Topic) -> dict[str, Any]:
        with looking(client.more.split("'")[1]) as came:
            figures = topics.time_client(client, broker, source, sys.executable, folder)
        if not came["messages"]:
            raise MissingError("the stream was never there")
        say(f"  {came['messages']} messages, {came['bytes']:,} bytes for the browser")
        return figures

    found: list[dict[str, dict[str, Any]]] = topics.in_turn(broker, count, entities, rounds, looked_at, one)
    return [{name: figures["page"][name] for name in ("slices", "own")} for figures in found]


def main() -> None:
    parser = argparse.ArgumentParser(description="What the live page holds, and what it costs.")
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--entities", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="that the browser counts; 0: only what it costs")
    parser.add_argument("--rounds", type=int, default=14, help="of the cost; 0: only what the page holds")
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    arguments = parser.parse_args()
    end_on_signals()
    if not Path(CHROMIUM).exists():
        raise SystemExit(f"{CHROMIUM} is missing: apt-get install chromium")
    report: dict[str, Any] = {}
    checks = []
    many = f"{arguments.entities:,} entities"
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as name, cluster(Path(name)) as (broker, word):
        say(f"on {word}")
        if arguments.seconds:
            held = report["holds"] = holds(broker, Path(name), arguments.entities, arguments.seconds)
            checks += [
                check(f"page, updates applied a second, {many}", held["updates_per_s"], ">=", UPDATES_LEAST),
                check(f"page, frames drawn a second, {many}", held["frames_per_s"], ">=", UPDATES_LEAST * 0.9),
            ]
        if arguments.rounds:
            found = costs(broker, Path(name), arguments.events, arguments.entities, arguments.rounds)
            runs: list[list[Slice]] = [run["slices"] for run in found]
            wall, cpu = cost(runs, 1), cost(runs, 2)
            own = sum(run["own"] for run in found) / sum(one[2] for run in runs for one in run if one[3])
            title = f"page, share of the throughput that it costs with one browser, {many}"
            checks.append(check(title, wall.share, "<=", COST_MOST))
            report |= {"throughput": wall._asdict(), "cpu": cpu._asdict(), "own_cpu_share": own, "runs": found}
    tell(checks)
    if arguments.rounds:
        say(told("of the throughput", wall))
        say(told("of the CPU time", cpu))
        say(f"of the CPU time by the page's own functions alone: {own:.4f}")
    if arguments.json:
        print(json.dumps({"checks": checks, **report}))


if __name__ == "__main__":
    main()
