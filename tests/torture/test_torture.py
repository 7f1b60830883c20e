"""A short campaign of kills, the faults of a broker by the mock, and bytes of any kind.

The long campaign is a command: `python tests/torture/campaign.py --events 200000 --kills 60`.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from brokers import Kafka, MockKafka
from confluent_kafka import KafkaError
from test_stream import PARTITIONS, Job, events, finished, wait_for

from ssm_stream.kafka.embedded_broker import ApiKey
from torture.campaign import campaign
from torture.fuzz import fuzz


@pytest.mark.parametrize("name", ["campaign.py", "fuzz.py"])
def test_the_long_ones_start_as_commands(name: str) -> None:
    """As commands they find their modules by themselves, among others of the same names."""
    command = [sys.executable, str(Path(__file__).with_name(name)), "--help"]
    assert "--seed" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_kills_lose_nothing_repeat_nothing_and_change_no_bit(kafka: Kafka, tmp_path: Path) -> None:
    """Killed at every place once, a full disk, a directory that cannot be written: as if nothing had happened."""
    if kafka.kind == "mock":
        pytest.skip("a broker without transactions")
    said: list[str] = []
    figures = campaign(kafka, tmp_path, n=12_000, kills=14, seed=1, progress=said.append)
    for line in said:
        if "skipped" in line:
            warnings.warn(line, stacklevel=1)
    assert figures["kills"] >= 10, figures
    assert figures["alerts"] > 0
    assert figures["dead letters"] > 0
    for name in ("lost", "extra", "states that differ", "orphans"):
        assert figures[name] == 0, figures


def test_faults_of_a_broker_lose_nothing(tmp_path: Path) -> None:
    """Three brokers that lose leaders, refuse for a while and go away, and a process that is killed meanwhile."""
    rng = random.Random(4)
    with MockKafka(brokers=3) as kafka:
        topic = kafka.topic("events", PARTITIONS)
        made = Job(kafka, tmp_path / "job", topic)
        for seed in range(4):
            kafka.produce(topic, events(1_500, seed))
        process = made.start()
        wait_for(process, "started")
        for step in range(24):
            fault = step % 4
            if fault == 0:
                kafka.set_leader(rng.choice([topic, made.predictions]), rng.randrange(2), rng.randint(1, 3))
            elif fault == 1:
                errors = [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT]
                kafka.push_errors(rng.choice([ApiKey.PRODUCE, ApiKey.FETCH]), [rng.choice(errors)] * 2)
            elif fault == 2:
                broker = rng.randint(1, 3)
                kafka.set_down(broker)
                time.sleep(0.1)
                kafka.set_up(broker)
            elif step == 11:
                process.kill()
                finished(process, 10)
                process = made.start()
                wait_for(process, "started")
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        finished(process, 60)
        made.run()
        assert len(made.ids()) == 6_000


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_bytes_come_two_ways_of_reading_agree(seed: int) -> None:
    """A part of `fuzz.py`."""
    found = fuzz(8_000, seed)
    assert found["events"] > 1_000
    assert found["dead letters"] > 1_000
    assert found["plain chunks"] > 100
