"""Dead letters counted, looked at, and sent back: each once, through choices, kills, copies and two at a time."""

from __future__ import annotations

import functools
import json
import random
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka, MockKafka
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from forked import Forked
from jsonschema import Draft202012Validator
from test_stream import Job, events
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, load_config, parse_config
from ssm_stream.contract.headers import REDRIVEN_FROM
from ssm_stream.contract.message_schemas import dead_letter_headers, receipt_headers, receipt_schema
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.dead_letter_topic import DeadLetterTopic, LetterFilter, group_letters
from ssm_stream.kafka.dead_letters import make_dead_letter, parse_dead_letter, truncate
from ssm_stream.kafka.records import ProducerRecord, RawMessage
from ssm_stream.kafka.redrive import Redecoder, redrive
from ssm_stream.kafka.topic_reader import TopicReader
from ssm_stream.ops.health import Health
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.server import OpsServer

GOOD = {"entity": "m1", "ts": 1_700_000_000_000, "a": 1, "b": 2, "target": 3}


class Box:
    """A configuration on topics of its own, and letters on its dead-letter topic."""

    def __init__(self, kafka: Kafka, folder: Path, partitions: int = 2) -> None:
        self.kafka, self.path = kafka, folder / "monitor.yaml"
        self.topic, self.dead = kafka.topic("events", 3), kafka.topic("dead", partitions)
        content = {
            "source": {"brokers": kafka.bootstrap_servers, "topic": self.topic},
            "event": {"entity": "entity", "timestamp": "ts", "features": ["a", "b"]},
            "sinks": {"dead_letters": self.dead},
            "recovery": {"directory": None},
        }
        self.path.write_bytes(orjson.dumps(content))

    @functools.cached_property
    def config(self) -> Config:
        return load_config(self.path)

    def letter(self, offset: int, value: bytes | None, fault: str = "WrongType", **more: Any) -> ProducerRecord:
        """Of a message that stood in partition 1; its key is the entity."""
        raw = RawMessage(more.get("key", b"m%d" % (offset % 7)), value, [("trace", b"t-%d" % offset)])
        return make_dead_letter(
            self.config, raw, (more.get("topic", self.topic), 1, offset), more.get("stage", "decode"), fault, "why"
        )

    def write(self, letters: Sequence[ProducerRecord], at: int = 0) -> None:
        """at: their time, ms; 0: now"""
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap_servers, "message.max.bytes": 2_000_000})
        for letter in letters:
            producer.produce(letter.topic, letter.value, letter.key, timestamp=at, headers=letter.headers)
        assert not producer.flush(20)

    def dlq(self, *arguments: str) -> Any:
        name, *rest = arguments
        return CliRunner().invoke(app, ["dlq", name, str(self.path), *rest])

    def report(self, *arguments: str) -> dict[str, Any]:
        told = self.dlq("redrive", *arguments, "--json")
        assert told.exit_code == 0, told.stderr
        report: dict[str, Any] = json.loads(told.stdout)
        return report

    def back(self) -> list[Message]:
        """What stands on the events topic, by partition and offset."""
        return self.kafka.read(self.topic)

    @functools.cached_property
    def watcher(self) -> Consumer:
        return Consumer({"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": "watcher"})

    def end(self) -> int:
        """End of the partition that letters come back to, which moves before a transaction has ended, too."""
        _, high = self.watcher.get_watermark_offsets(TopicPartition(self.topic, 1), timeout=10)
        return int(high)


@pytest.fixture
def box(kafka: Kafka, tmp_path: Path) -> Box:
    if isinstance(kafka, MockKafka):
        pytest.skip("the embedded broker's transactions are not isolated")
    return Box(kafka, tmp_path)


def usable(i: int) -> bytes:
    return orjson.dumps({**GOOD, "i": i})


def numbers(messages: Sequence[Message]) -> list[int]:
    return [orjson.loads(message.value() or b"")["i"] for message in messages]


# From the flow and back into it.


@pytest.mark.parametrize(("running", "warned"), [("a", False), ("b", True), ("other", False), ("none", False)])
def test_a_process_that_reads_otherwise_than_the_file_is_a_warning(
    mock_kafka: MockKafka, tmp_path: Path, running: str, warned: bool
) -> None:
    """Letters are judged by the file, of which a running process may have refused the change."""
    box = Box(mock_kafka, tmp_path)
    content = orjson.loads(box.path.read_bytes())
    applied = {**content, "event": {**content["event"], "features": ["b"]}} if running == "b" else content
    if running == "other":
        applied = {
            **content,
            "event": {"entity": "e", "timestamp": "t", "features": []},
            "sinks": {"dead_letters": "d"},
        }
    with socket.create_server(("127.0.0.1", 0)) as free:
        ops = {"ops": {"address": f"127.0.0.1:{free.getsockname()[1]}"}}
    health = Health(metrics := Metrics(made := parse_config(orjson.dumps(applied | ops).decode())), 1)
    server = OpsServer(made, metrics, health)
    if running == "none":
        server.close()
    try:
        box.path.write_bytes(orjson.dumps(content | ops))
        told = CliRunner().invoke(app, ["dlq", "redrive", str(box.path)])
    finally:
        if running != "none":
            server.close()
    assert told.exit_code == 0, told.output
    assert ("warning: the process at" in told.stderr) == warned
    assert ("config_refused" in told.stderr) == warned


def test_what_was_refused_is_fixed_sent_back_and_learned(kafka: Kafka, tmp_path: Path) -> None:
    """A column that was text by mistake is left out of the features: its events come back, in place, and only once."""
    if isinstance(kafka, MockKafka):
        pytest.skip("the embedded broker's transactions are not isolated")
    good, topic = events(900), kafka.topic("events", 3)
    texts = [(key, orjson.dumps({**orjson.loads(value), "b": "n/a"})) for key, value in good[300:600]]
    kafka.produce(topic, [*good[:300], *texts, (b"m1", b"not json"), *good[600:]])
    job = Job(kafka, tmp_path, topic)
    job.run()
    letters = kafka.read(job.dead)
    assert len(letters) == 301
    content = orjson.loads(job.path.read_bytes())
    content["event"]["features"] = ["a"]
    content["recovery"]["directory"] = str(tmp_path / "anew")
    job.path.write_bytes(orjson.dumps(content))

    def report(*options: str) -> dict[str, Any]:
        told = CliRunner().invoke(app, ["dlq", "redrive", str(job.path), "--json", *options])
        assert told.exit_code == 0, told.stderr
        found: dict[str, Any] = json.loads(told.stdout)
        return found

    expected = {"sent": {"WrongType": 300}, "failing": {"NotJson": 1}, "already": 0, "foreign": 0}
    dry = report()
    assert dry["dry_run"]
    assert {name: dry[name] for name in expected} == expected
    assert len(kafka.read(topic)) == 901
    sent = report("--yes")
    assert {name: sent[name] for name in expected} == expected
    before = {(m.key(), m.value()): m.partition() for m in kafka.read(topic) if not m.headers()}
    again = [m for m in kafka.read(topic) if m.headers()]
    assert Counter((m.key(), m.value()) for m in again) == Counter(texts)
    assert all(m.partition() == before[m.key(), m.value()] for m in again)
    places = {f"{job.dead}-{m.partition()}-{m.offset()}" for m in letters if m.value() != b"not json"}
    assert {dict(m.headers() or [])[REDRIVEN_FROM].decode() for m in again} == places
    assert report("--yes")["sent"] == {}
    assert report()["already"] == 300
    content["source"]["start"] = "earliest"
    job.run()
    predicted = [orjson.loads(m.value() or b"") for m in kafka.read(job.predictions)]
    # The first run's 600, and the second's: the same, the refused ones in their first place, and those once more.
    assert len(predicted) == 600 + 900 + 300


def test_a_letter_that_fails_again_is_a_new_letter(box: Box) -> None:
    box.write([box.letter(1, usable(1))])
    assert box.report("--yes")["sent"] == {"WrongType": 1}
    (back,) = box.back()
    headers = [(name, value) for name, value in back.headers() or []]
    assert headers[0] == ("trace", b"t-1")
    raw = RawMessage(back.key(), back.value(), headers)
    place = (box.topic, int(back.partition() or 0), int(back.offset() or 0))
    box.write([make_dead_letter(box.config, raw, place, "label", "UnmatchedLabel", "no event came")])
    assert box.report("--yes")["sent"] == {"UnmatchedLabel": 1}
    last = box.back()[-1]
    names = [name for name, _ in last.headers() or []]
    assert names == ["trace", REDRIVEN_FROM], "the header of the first time is not kept beside that of the second"


# Each once.


def test_choices_lose_nothing_and_send_nothing_twice(box: Box) -> None:
    faults = ["WrongType", "OutOfRange", "MissingField"]
    box.write([box.letter(i, usable(i), faults[i % 3]) for i in range(90)])
    assert box.report("--yes", "--reason", "OutOfRange", "--limit", "10")["sent"] == {"OutOfRange": 10}
    assert box.report("--yes", "--reason", "OutOfRange")["sent"] == {"OutOfRange": 20}
    assert box.report("--yes", "--stage", "label")["sent"] == {}
    rest = box.report("--yes")
    assert (rest["sent"], rest["already"]) == ({"WrongType": 30, "MissingField": 30}, 30)
    assert sorted(numbers(box.back())) == list(range(90))
    assert {m.partition() for m in box.back()} == {1}


def test_letters_of_an_entity_come_back_in_their_order(box: Box) -> None:
    box.write([box.letter(i, usable(i)) for i in range(400)])
    box.report("--yes")
    found: dict[bytes | None, list[int]] = {}
    for message in box.back():
        found.setdefault(message.key(), []).append(orjson.loads(message.value() or b"")["i"])  # type: ignore[arg-type]
    assert len(found) == 7
    assert all(some == sorted(some) for some in found.values())


def test_a_copy_that_a_crash_has_left_is_not_sent_and_another_message_in_its_place_is(box: Box) -> None:
    box.write([box.letter(1, usable(1)), box.letter(1, usable(1))])
    report = box.report()
    assert (report["sent"], report["copies"], report["already"]) == ({"WrongType": 1}, 1, 0)
    report = box.report("--yes")
    assert (report["sent"], report["copies"], report["already"]) == ({"WrongType": 1}, 1, 0)
    box.write([box.letter(1, usable(1)), box.letter(1, usable(2))])  # the latter: the topic was made anew
    assert box.report("--yes")["sent"] == {"WrongType": 1}
    assert numbers(box.back()) == [1, 2]


def test_kills_send_nothing_twice_and_lose_nothing(box: Box) -> None:
    """SIGKILL at random moments; transactions of a run that was killed are ended by the next."""
    n = 20_000
    box.write([box.letter(i, usable(i)) for i in range(n)])
    command = ["dlq", "redrive", str(box.path), "--yes", "--json"]
    rng, cut = random.Random(5), 0
    for attempt in range(3):
        process = Forked(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        before, until = box.end(), time.monotonic() + 20
        while process.poll() is None and box.end() == before and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.02 * attempt * rng.random())
        cut += process.poll() is None
        process.kill()
        process.communicate()
    assert cut, "every run ended before it was killed"
    box.report("--yes")
    assert sorted(numbers(box.back())) == list(range(n))
    assert box.report("--yes")["sent"] == {}


def test_two_at_a_time_send_nothing_twice(box: Box) -> None:
    n = 3_000
    box.write([box.letter(i, usable(i)) for i in range(n)])
    command = ["dlq", "redrive", str(box.path), "--yes", "--json"]
    both = [Forked(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    told = [process.communicate(timeout=60) for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, told
    for code, (_, error) in zip(codes, told, strict=True):
        assert code == 0 or "start again: what was sent is not sent twice" in error
    box.report("--yes")
    assert sorted(numbers(box.back())) == list(range(n))


def test_what_the_broker_refuses_is_not_sent_and_has_no_receipt(box: Box) -> None:
    """A message too large for its topic by now: the transaction with the one before it is undone."""
    small = box.kafka.topic("small", 3, {"max.message.bytes": "2000"})
    content = orjson.loads(box.path.read_bytes())
    content["source"] |= {"topic": small, "wait": "5s"}
    box.path.write_bytes(orjson.dumps(content))
    large = orjson.dumps({**GOOD, "x": random.Random(0).randbytes(20_000).hex()})
    box.write([box.letter(1, usable(1), topic=small), box.letter(2, large, topic=small)])
    told = box.dlq("redrive", "--yes")
    if told.exit_code == 0:
        pytest.skip(f"{box.kafka.kind} does not keep max.message.bytes")
    assert told.exit_code == 1
    assert "start again: what was sent is not sent twice" in told.stderr
    assert box.kafka.read(small) == []
    assert [parse_dead_letter(message) is None for message in box.kafka.read(box.dead)] == [False, False]


# What is not sent.


def test_what_would_fail_again_was_cut_or_is_anothers_stays(box: Box) -> None:
    large = truncate(box.letter(3, orjson.dumps({**GOOD, "x": "y" * 500_000})))
    box.write(
        [
            box.letter(1, b"not json", "NotJson"),
            box.letter(2, None, "Tombstone"),
            large,
            box.letter(4, usable(4), topic="another.flow"),
            ProducerRecord(box.dead, b"k", b"no letter at all", None, 0),
            box.letter(5, usable(5)),
        ]
    )
    dry = box.report()
    assert (dry["sent"], dry["failing"]) == ({"WrongType": 1}, {"NotJson": 1, "Tombstone": 1})
    assert (dry["truncated"], dry["foreign"]) == (1, 2)
    words = box.dlq("redrive").stdout
    for part in ("would be sent back", "would fail again", "not sent", "cut short", "of other flows", "--yes sends"):
        assert part in words
    assert box.back() == []
    box.report("--yes")
    assert numbers(box.back()) == [5]
    one = box.report("--failing", "--limit", "1")
    assert (one["sent"], one["failing"]) == ({"NotJson": 1}, {"NotJson": 1}), "of those that are within the limit"
    assert box.report("--yes", "--failing", "--reason", "NotJson")["sent"] == {"NotJson": 1}
    assert [m.value() for m in box.back()][1:] == [b"not json"]


def test_the_judge_says_what_the_decoder_says(box: Box) -> None:
    content = orjson.loads(box.path.read_bytes())
    content |= {"alerts": {"feedback": {"topic": "said"}}, "labels": {"topic": "labels"}}
    content["source"]["kafka"] = {"max.partition.fetch.bytes": 300}
    box.path.write_bytes(orjson.dumps(content))
    made = box.config
    tried = {
        (box.topic, usable(1)): None,
        (box.topic, b"{"): "NotJson",
        ("labels", usable(1)): None,
        ("labels", b'{"entity":"m1","ts":1}'): "MissingField",
        ("said", orjson.dumps({"id": f"{box.topic}-0-1-drift", "true": True})): None,
        ("said", b"{}"): "MissingField",
        ("said", b"x" * 500): "TooLarge",
    }
    box.write([box.letter(i, value, topic=topic) for i, (topic, value) in enumerate(tried)])
    letters = [letter for message in box.kafka.read(box.dead) if (letter := parse_dead_letter(message)) is not None]
    found = {
        (letter.topic, letter.message.value()): refusal
        for letter, refusal in zip(letters, Redecoder(made).check(letters), strict=True)
    }
    assert {key: refusal and refusal.fault for key, refusal in found.items()} == tried


def test_a_broker_without_transactions_is_refused(mock_kafka: MockKafka) -> None:
    mock_kafka.create_topic("events", 1)
    mock_kafka.create_topic("dead", 1)
    made = parse_config(
        f"source: {{brokers: '{mock_kafka.bootstrap_servers}', topic: events}}\n"
        "event: {entity: e, timestamp: t}\nsinks: {dead_letters: dead}\n"
    )
    with pytest.raises(BrokerError, match="embedded"):
        redrive(made, LetterFilter(), send=True)


# Looking.


def test_the_sample_is_the_same_in_whatever_order_partitions_are_read(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.write(
        [box.letter(i, usable(i), fault) for i in range(8) for fault in ("WrongType", "NotUtf8")],
        int(time.time() * 1000),
    )
    letters = DeadLetterTopic(box.config)
    letters.update_offsets()
    told, foreign = group_letters(letters, LetterFilter(), None)
    assert [(group.fault, group.count) for group in told] == [("NotUtf8", 8), ("WrongType", 8)]
    last = max((m.partition(), m.offset()) for m in box.kafka.read(box.dead) if parse_dead_letter(m).fault == "NotUtf8")
    assert told[0].sample["place"] == "{}-{}".format(*last)
    read = TopicReader.read
    for order in (1, -1):
        monkeypatch.setattr(
            TopicReader,
            "read",
            lambda self, spans, order=order: (
                some for p in sorted(spans)[::order] for some in read(self, {p: spans[p]})
            ),
        )
        assert group_letters(letters, LetterFilter(), None) == (told, foreign)


def test_letters_are_counted_by_reason_with_a_sample(box: Box) -> None:
    box.write([box.letter(i, usable(i)) for i in range(5)])
    box.write([box.letter(9, b"\xff\x1b[31m", "NotUtf8")])
    box.report("--yes", "--limit", "2")
    content = json.loads(box.dlq("ls", "--json").stdout)
    told = {group["fault"]: (group["stage"], group["count"], group["redriven"]) for group in content["groups"]}
    assert told == {"WrongType": ("decode", 5, 2), "NotUtf8": ("decode", 1, 0)}
    sample = content["groups"][1]["sample"]
    assert sample["origin"] == f"{box.topic}-1-9"
    words = box.dlq("ls").stdout
    assert "NotUtf8" in words
    assert "\x1b" not in words
    for long_ago in ("1h", "36500d"):  # the latter before 1970
        assert json.loads(box.dlq("ls", "--json", "--since", long_ago).stdout)["groups"] == content["groups"]
    assert json.loads(box.dlq("ls", "--json", "--since", "2200-01-01").stdout)["groups"] == []
    assert sum(g["count"] for g in json.loads(box.dlq("ls", "--json", "--limit", "1").stdout)["groups"]) <= 2
    told = box.dlq("ls", "--since", "yesterday")
    assert told.exit_code == 2
    assert "--since: found 'yesterday'" in told.stderr


def test_one_letter_is_shown_with_what_the_configuration_makes_of_it(box: Box) -> None:
    box.write([box.letter(1, usable(1)), box.letter(2, b"\x00\xff{", "NotUtf8", key=b"\xff")])
    place = {
        letter.offset: letter.place for m in box.kafka.read(box.dead) if (letter := parse_dead_letter(m)) is not None
    }
    shown = box.dlq("show", place[1])
    assert shown.exit_code == 0, shown.stderr
    for part in (f"{box.topic}-1-1", "trace: t-1", '"entity": "m1"', "it would be read"):
        assert part in shown.stdout
    assert (
        shown.stdout == box.dlq("show", f"{box.topic}-1-1").stdout == box.dlq("show", f"{box.dead}-{place[1]}").stdout
    )
    content = json.loads(box.dlq("show", place[2], "--json").stdout)
    assert (content["key"], content["value"]) == ("0xff", "0x00ff7b")
    assert (content["now"]["read"], content["now"]["fault"]) == (False, "NotUtf8")
    assert "000000  00 ff 7b" in box.dlq("show", place[2]).stdout
    cut = truncate(box.letter(3, orjson.dumps({**GOOD, "x": "y" * 500_000})))
    box.write([cut])
    shown = box.dlq("show", f"{box.topic}-1-3")
    assert f"now      not known, as the value was cut: the whole message is at {box.topic}-1-3" in shown.stdout
    assert json.loads(box.dlq("show", f"{box.topic}-1-3", "--json").stdout)["now"]["read"] is None
    box.report("--yes")
    receipts = [m for m in box.kafka.read(box.dead) if parse_dead_letter(m) is None]
    told = box.dlq("show", f"{receipts[0].partition()}-{receipts[0].offset()}")
    assert (told.exit_code, "the receipt of a redrive" in told.stderr) == (1, True)
    for which, code in (("0-999", 1), (f"{box.topic}-1-77", 1), ("seven", 2)):
        assert box.dlq("show", which).exit_code == code


def test_letters_and_receipts_are_those_of_the_contract(box: Box) -> None:
    box.write([box.letter(1, usable(1))])
    box.report("--yes")
    (receipt,) = [m for m in box.kafka.read(box.dead) if parse_dead_letter(m) is None]
    Draft202012Validator(receipt_schema(box.config)).validate(orjson.loads(receipt.value() or b""))
    said = {name: (value or b"").decode() for name, value in receipt.headers() or []}
    Draft202012Validator(receipt_headers(box.config)).validate(said)
    headers = {name: (value or b"").decode() for name, value in box.letter(1, b"x").headers or []}  # type: ignore[union-attr]
    Draft202012Validator(dead_letter_headers(box.config)).validate(headers)


def test_help_has_examples_and_unknown_reasons_are_refused(box: Box) -> None:
    for name in ("ls", "show", "redrive"):
        assert f"Example: ssm-stream dlq {name}" in " ".join(
            CliRunner().invoke(app, ["dlq", name, "--help"]).stdout.split()
        )
    told = box.dlq("redrive", "--reason", "WrongTipe")
    assert told.exit_code == 2
