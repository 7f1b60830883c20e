"""Single cases of bad weather on three nodes of Apache Kafka: what the product says, and what is left.

    python benchmarks/torture_weather.py                  # all; or some by name
    python benchmarks/torture_weather.py disk disks --json

Each case has nodes, topics and a job of its own, with events at a steady rate, and ends as `torture.py` does: beside a
job that nobody has disturbed. Where a person must act, the case acts on what the product has said, and starts it again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)
from measuring import check, end_on_signals, say, tell
from torture import Campaign, Load
from torture_job import PARTITIONS, SHAPES, Difference, Job, compare

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from brokers.clock import clock_obstacle, skewed
from brokers.nodes import Node

from ssm_stream.kafka.admin import create_topics
from ssm_stream.kafka.client import LOGGER, BrokerError
from ssm_stream.recovery.reader import read_state

SMALL = 160 << 20
"""Bytes of a small disk."""
WAIT = 10.0
"""`source.wait` of the cases in which it must pass."""
PATIENCE = 90.0
AHEAD, BEHIND = 600, 2 * 3_600
"""Seconds. The brokers take no message that is more than an hour ahead of their clock."""


class Found(NamedTuple):
    """What came of a case. stopped: the product has ended, with these words; empty: it went on"""

    stopped: str
    difference: Difference


class SkippedError(Exception):
    """A case cannot be had here."""


def prediction_numbers(job: Job) -> list[dict[str, Any]]:
    """All predictions, as consumers see them."""
    return [orjson.loads(m.value() or b"") for m in job.kafka.read(job.sinks["predictions"], timeout=60)]


def last_words(job: Job) -> str:
    """The sentence with which it has ended, and the cure."""
    lines = job.said().splitlines()
    at = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    return " / ".join(lines[at[-1] : at[-1] + 2]) if at else "NO SENTENCE: " + job.said()[-1_500:]


def await_end(job: Job, seconds: float = PATIENCE) -> str:
    """Wait until the product ends by itself. Returns its last words; none if it does not end."""
    try:
        for process in job.processes:
            process.wait(seconds)
    except subprocess.TimeoutExpired:
        return ""
    words = last_words(job)
    job.processes = []
    return words


def begun(folder: Path, prepare: Callable[[Node], None] = lambda _: None, **source: Any) -> Campaign:
    """A job that runs, and has predicted."""
    made = Campaign(folder, 0, prepare, **source)
    made.watch.start()
    made.load.start()
    made.job.start(SHAPES[1])
    assert made.job.await_started(), made.job.said()
    made.recovered("begun")
    return made


class Disk:
    """A small disk for nodes of these numbers, in memory."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.mounted = numbers, list[Path]()

    def prepare(self, node: Node) -> None:
        """Mount it where the node's data will be."""
        if node.number not in self.numbers:
            return
        data = node.directory / f"data-{node.port}"
        data.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(data)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise SkippedError("no file system can be mounted here")
        self.mounted.append(data)

    def fill(self) -> None:
        """Until nothing more can be written."""
        for data in self.mounted:
            with contextlib.suppress(OSError), (data / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))

    def clear(self) -> None:
        """Make room again."""
        for data in self.mounted:
            (data / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        for data in self.mounted:
            subprocess.run(["umount", "-l", str(data)], capture_output=True, check=False)


def fallen(made: Campaign, seconds: float = 30.0) -> list[Node]:
    """Wait for nodes that end by themselves. Returns them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.5)
        for node in made.kafka.nodes:
            if node.process is not None and node.process.poll() is not None:
                time.sleep(2)
                return [each for each in made.kafka.nodes if each.process is None or each.process.poll() is not None]
    return []


def disk(folder: Path) -> Found:
    """The disk of one broker of three is full."""
    small = Disk(1)
    with closing(begun(folder, small.prepare), small.close) as made:
        small.fill()
        down = fallen(made)
        say(f"brokers that have ended: {len(down)}")
        made.recovered("a full disk")
        made.kafka.stop(made.kafka.nodes[:1])
        small.clear()
        made.kafka.start(made.kafka.nodes[:1])
        made.recovered("room again")
        return ended(made, "")


def disks(folder: Path) -> Found:
    """The disks of all brokers are full for longer than `source.wait`."""
    small = Disk(1, 2, 3)
    with closing(begun(folder, small.prepare, wait=WAIT), small.close) as made:
        small.fill()
        words = await_end(made.job)
        say(f"brokers that have ended: {len(fallen(made, 1.0))}")
        made.kafka.stop(made.kafka.nodes)
        small.clear()
        made.kafka.start(made.kafka.nodes)
        return again(made, words)


def away(folder: Path) -> Found:
    """Two of three brokers are away for longer than `source.wait`."""
    with closing(begun(folder, wait=WAIT)) as made:
        made.kafka.stop(made.kafka.nodes[1:])
        words = await_end(made.job)
        made.kafka.start(made.kafka.nodes[1:])
        return again(made, words)


def size(folder: Path) -> Found:
    """`max.message.bytes` of the predictions is lowered while the product runs, to less than a message has."""
    with closing(begun(folder)) as made:
        topic = made.job.sinks["predictions"]
        set_size(made, topic, "100")
        words = await_end(made.job)
        set_size(made, topic, "1048588")
        return again(made, words)


def smaller(folder: Path) -> Found:
    """`max.message.bytes` of the predictions is lowered while the product runs, to less than is sent at once."""
    with closing(begun(folder)) as made:
        topic = made.job.sinks["predictions"]
        set_size(made, topic, "2000")
        time.sleep(5)
        made.recovered("smaller")
        return ended(made, "")


def set_size(made: Campaign, topic: str, value: str) -> None:
    entry = ConfigEntry("max.message.bytes", value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = admin_of(made)  # kept: the answers are lost with it
    client.incremental_alter_configs([resource])[resource].result(20)


def admin_of(made: Campaign) -> AdminClient:
    return AdminClient({"bootstrap.servers": made.kafka.bootstrap_servers, "logger": LOGGER})


def clocks(folder: Path) -> Found:
    """The clock of one broker is ten minutes ahead, that of another one ten minutes behind."""
    with closing(begun(folder, wrong_clock(1, AHEAD, 2, -AHEAD))) as made:
        stamps = stamped(made)
        say(f"brokers' clocks beside ours, s: {stamps}")
        assert max(stamps) > AHEAD - 60, stamps
        assert min(stamps) < 60 - AHEAD, stamps
        made.live()
        made.strike()
        made.job.kill(made.rng)
        return ended(made, "")


def late_clock(folder: Path) -> Found:
    """The clock of one broker is two hours behind, which takes what comes for messages of the future."""
    with closing(begun(folder, wait=WAIT)) as made:
        node = made.kafka.nodes[0]
        made.kafka.stop([node])
        wrong_clock(1, -BEHIND)(node)
        made.kafka.start([node])
        made.kafka.await_in_sync(60)
        client = admin_of(made)  # the node leads partitions again
        client.elect_leaders(ElectionType.PREFERRED).result(20)
        words = await_end(made.job)
        made.kafka.stop([node])
        node.environment = {}
        made.kafka.start([node])
        return again(made, words)


def wrong_clock(*pairs: int) -> Callable[[Node], None]:
    """Return what sets the clocks of nodes. pairs: number and seconds of one, then of the next"""
    if obstacle := clock_obstacle():
        raise SkippedError(obstacle)
    by_number = dict(zip(pairs[::2], pairs[1::2], strict=True))

    def prepare(node: Node) -> None:
        if node.number in by_number:
            node.directory.mkdir(parents=True, exist_ok=True)
            node.environment = skewed(node.directory, by_number[node.number])

    return prepare


def stamped(made: Campaign) -> list[float]:
    """Seconds by which the brokers' clocks are ahead, by what they note on messages."""
    topic = made.kafka.topic("stamps", PARTITIONS, {"message.timestamp.type": "LogAppendTime"})
    for partition in range(PARTITIONS):
        made.kafka.produce(topic, [b"now"], partition=partition)
    now = time.time()
    return [round(message.timestamp()[1] / 1000 - now, 1) for message in made.kafka.read(topic)]


def retention(folder: Path) -> Found:
    """Retention passes the position while nobody runs; `state resume`; killed on the way."""
    with closing(begun(folder)) as made:
        calm = halted(made)
        positions = {
            each.partition: each.offset for each in read_state(folder / "job/recovery").positions(made.job.config)
        }
        more(made)
        places = [TopicPartition(made.job.topic, partition, at + 50) for partition, at in positions.items()]
        client = admin_of(made)
        for answer in client.delete_records(places).values():
            answer.result(20)
        return resumed(made, calm)


def anew(folder: Path) -> Found:
    """The events' topic is deleted and created again; `state resume`; killed on the way."""
    with closing(begun(folder)) as made:
        calm = halted(made)
        topic = made.job.topic
        client = admin_of(made)
        client.delete_topics([topic])[topic].result(20)
        deadline = time.monotonic() + 30
        while True:  # the brokers delete by and by
            try:
                create_topics(
                    made.kafka.source(topic), {topic: PARTITIONS}, replication=3, config={"retention.ms": "-1"}
                )
                break
            except BrokerError:
                assert time.monotonic() < deadline
                time.sleep(0.5)
        more(made)
        return resumed(made, calm)


def halted(made: Campaign) -> Job:
    """End events and the job, and let another one in peace come as far."""
    made.load.done.set()
    made.load.join()
    made.job.stop()
    # With a group of its own, whose marker is its own, too.
    calm = Job(made.kafka, made.folder / "calm", made.job.topic, "exactly_once", **made.source, group="calm")
    assert made.job.finish() == 0, made.job.said()
    assert calm.finish() == 0, calm.said()
    return calm


def more(made: Campaign) -> None:
    """Send so many events again."""
    first = made.load.sent
    made.load = Load(made.kafka.bootstrap_servers, made.job.topic, rate=5_000)
    made.load.sent = first
    made.load.start()
    time.sleep(2)
    made.load.done.set()
    made.load.join()


def resumed(made: Campaign, calm: Job) -> Found:
    """Do for both what the product says; kill the one on its way."""
    said = []
    for job in (made.job, calm):
        job.start(SHAPES[0], "--until-eof")
        said.append(await_end(job))
        command = [sys.executable, "-m", "ssm_stream", "state", "resume", str(job.path), "--from", "earliest", "--yes"]
        subprocess.run(command, check=True, capture_output=True)
    for _ in range(4):
        made.live()
    assert made.job.finish() == 0, made.job.said()
    assert calm.finish() == 0, calm.said()
    return Found(said[0], compare(made.job, calm))


def partitions(folder: Path) -> Found:
    """Partitions are doubled under load; killed on the way. Each event once, and each entity counts on."""
    with closing(begun(folder)) as made:
        client = admin_of(made)
        client.create_partitions([NewPartitions(made.job.topic, 2 * PARTITIONS)])[made.job.topic].result(20)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            time.sleep(1)
            if any(int(each["id"].split("-")[-2]) >= PARTITIONS for each in prediction_numbers(made.job)):
                break
        made.job.kill(made.rng)
        for _ in range(4):
            made.live()
        made.load.done.set()
        made.load.join()
        assert made.job.finish() == 0, made.job.said()
        events = {f"{m.topic()}-{m.partition()}-{m.offset()}" for m in made.kafka.read(made.job.topic)
                  if b"no event" not in (m.value() or b"")}  # fmt: skip
        told = prediction_numbers(made.job)
        ids = [each["id"] for each in told]
        assert any(int(each.split("-")[-2]) >= PARTITIONS for each in ids), "none of the new partitions"
        by_entity: dict[str, list[int]] = {}
        for each in told:
            by_entity.setdefault(each["entity"], []).append(each["n"])
        wrong = sum(sorted(n) != list(range(len(n))) for n in by_entity.values())
        lost, twice, other = len(events - set(ids)), len(ids) - len(set(ids)), len(set(ids) - events)
        return Found("", Difference(len(events), lost, twice, other, 0, len(by_entity), wrong))


@contextlib.contextmanager
def closing(made: Campaign, *after: Callable[[], None]) -> Iterator[Campaign]:
    """Close a campaign and what belongs to it."""
    try:
        yield made
    finally:
        for line in made.job.log.read_text(errors="replace").splitlines():
            if '"flow_restarts"' in line:
                say(f"  {line}")
        made.close()
        for each in after:
            each()


def again(made: Campaign, words: str) -> Found:
    """Start it again once the cause is away."""
    if words:
        made.job.start(SHAPES[1])
    made.recovered("started again")
    return ended(made, words)


def ended(made: Campaign, words: str) -> Found:
    """Go on for a while, and compare."""
    time.sleep(2)
    made.job.check()
    made.job.stop()
    if made.job.ended:
        words = f"{words} ENDED {len(made.job.ended)} TIMES BY ITSELF: {made.job.ended[0].words}"
    return Found(words, made.ended())


CASES: dict[str, tuple[Callable[[Path], Found], bool]] = {
    "away": (away, True),
    "disk": (disk, False),
    "disks": (disks, True),
    "size": (size, True),
    "smaller": (smaller, False),
    "clocks": (clocks, False),
    "late-clock": (late_clock, True),
    "retention": (retention, True),
    "anew": (anew, True),
    "partitions": (partitions, False),
}
"""Name → the case, and whether the product must stop for a person."""


def run(name: str) -> dict[str, Any]:
    """One case. Returns its figures."""
    folder = Path(tempfile.mkdtemp(prefix="weather-"))
    case, stops = CASES[name]
    say(f"{name}: {case.__doc__}")
    try:
        found = case(folder)
    except SkippedError as error:
        say(f"{name}: skipped: {error}")
        return {"skipped": str(error)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"{name}: {found.stopped or 'went on'}\n{name}: {found.difference}")
    clear = bool(re.match("error: .", found.stopped)) if stops else not found.stopped
    return {"as expected": clear, "stopped": found.stopped, **found.difference._asdict()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"some of {', '.join(CASES)}; all without")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    options = parser.parse_args()
    end_on_signals()
    figures = {name: run(name) for name in options.cases or CASES}
    done = [each for each in figures.values() if "skipped" not in each]
    checks = [
        check("lost", sum(each["lost"] for each in done), "<=", 0),
        check("twice", sum(each["twice"] for each in done), "<=", 0),
        check("other bits", sum(each["other"] + each["states_that_differ"] for each in done), "<=", 0),
        check("cases neither borne nor clearly stopped", sum(not each["as expected"] for each in done), "<=", 0),
        check("cases", len(done), ">=", len(options.cases or CASES)),
    ]
    tell(checks)
    if options.json:
        print(json.dumps({"checks": checks, "cases": figures}))
    return 0 if all(each["ok"] for each in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
