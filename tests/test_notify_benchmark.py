"""benchmarks/notify.py in small: nothing is lost when notify is killed, and a storm is few messages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from brokers import Kafka

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import notify


def test_nothing_is_lost_when_notify_is_killed(kafka: Kafka, tmp_path: Path) -> None:
    checks, figures = notify.delivery(kafka.bootstrap_servers, tmp_path, 300)
    values = {check["name"]: check["value"] for check in checks}
    assert figures["alerts"] == 300
    assert figures["calls"] > 400, "every third fails"
    assert values["delivery, alerts lost"] == 0
    assert values["delivery, share of duplicates, with the same id"] <= 0.1, "a few of those in flight, of so few"


def test_a_storm_is_few_messages_that_name_all(kafka: Kafka, tmp_path: Path) -> None:
    pytest.importorskip("apprise")
    checks, figures = notify.storm(kafka.bootstrap_servers, tmp_path, 300, 3.0, after=2.0)
    assert all(check["ok"] for check in checks), (checks, figures)
