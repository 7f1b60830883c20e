"""Alerts made again from their topic to the same bits, and the audit that the states on the way are held to."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka
from test_ops import until
from test_stream import Job, events, finished
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import ConfigError, parse_config
from ssm_stream.evaluate.report.explain import alert_section, explain_html
from ssm_stream.flow import reproduce_alert
from ssm_stream.flow.alert_id import parse_alert_id
from ssm_stream.ops.audit import ENDING, entity_hashes, records, verify_audit

ALERTS = {"anomaly": {"budget": "1 per 100 events"}, "drift": {"budget": "1 per 200 events"}}


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def explained(job: Job, wanted: str, *options: str) -> dict[str, Any]:
    told = run("explain", str(job.path), wanted, "--json", *options)
    assert told.stdout, told.output + told.stderr
    content: dict[str, Any] = orjson.loads(told.stdout)
    assert (told.exit_code == 0) == (content["same"] is not False and not content["broken"])
    return content


def turned(event: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """One whose target depends on its features the other way round, of one machine in ten."""
    key, value = event
    document = orjson.loads(value)
    sign = -1 if key.endswith(b"7") else 1
    return key, orjson.dumps({**document, "target": sign * document["target"]})


@pytest.fixture(scope="module")
def job(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A flow with an audit that was killed once in the middle; an export of its state lies beside."""
    folder = tmp_path_factory.mktemp("replayed")
    topic = kafka.topic("events", 3)
    kafka.produce(topic, events(3000, seed=3))
    # The audit has a line an epoch: several of them on fast machines, too.
    made = Job(kafka, folder, topic, shards=2, epoch="20ms")
    content = orjson.loads(made.path.read_bytes())
    more = {"alerts": ALERTS, "audit": {"directory": str(folder / "audit")}, "model": {"warmup": 20}}
    made.path.write_bytes(orjson.dumps({**content, **more}))
    made.run()
    assert run("state", "export", str(made.path), str(folder / "export")).exit_code == 0
    kafka.produce(topic, [*events(6000, seed=3)[3000:], *(turned(each) for each in events(9000, seed=3)[6000:])])
    process = made.start()
    until(lambda: sum(made.ids().values()) > 4000, 60, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made.run()
    return made


@pytest.fixture(scope="module")
def told(job: Job) -> dict[str, bytes]:
    alerts = job.told_alerts()
    assert len(alerts) > 10
    return alerts


def test_every_alert_comes_again_to_the_same_bits(job: Job, told: dict[str, bytes]) -> None:
    audited_ = 0
    for wanted, sent in list(told.items())[:: max(len(told) // 6, 1)]:
        found = explained(job, wanted)
        assert found["same"] is True
        assert found["replayed"] == found["sent"] == orjson.loads(sent)
        assert found["differences"] == []
        audited_ += found["audited"]
        assert found["verdict"].startswith("Made again to the same bits from ")
        message = found["sent"]
        if message["scope"] == "entity":
            parts = found["explanation"]
            total = parts["base"] + parts["constant"] + parts["rest"] + sum(p["contribution"] for p in parts["parts"])
            assert total == pytest.approx(message["yhat"], rel=1e-6)
            assert parts["yhat"] == pytest.approx(message["yhat"], rel=1e-6)
            assert parts["y"] == message["y"]
    assert audited_ > 0


def test_an_exported_state_is_a_place_to_begin(job: Job, told: dict[str, bytes]) -> None:
    export = str(job.folder / "export")
    later = [wanted for wanted in told if (at := parse_alert_id(wanted)) is not None and at.offset > 2000]
    found = explained(job, later[-1], "--state", export)
    assert found["same"] is True
    assert 500 < found["first_offset"] <= found["sent"]["source"]["offset"]
    earlier = [wanted for wanted in told if (at := parse_alert_id(wanted)) is not None and at.offset < 900]
    refused = run("explain", str(job.path), earlier[0], "--state", export)
    assert refused.exit_code == 1
    assert "was made after the alert" in refused.stderr


def test_the_first_offset_is_that_of_the_first_of_many_batches(
    job: Job, told: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce_alert, "BATCH", 500)
    wanted = [wanted for wanted in told if (at := parse_alert_id(wanted)) is not None and at.offset > 2000][-1]
    found = explained(job, wanted)
    assert found["same"] is True
    assert found["first_offset"] == 0
    assert "from offset 0:" in found["verdict"]
    never = run("explain", str(job.path), f"{job.topic}-0-1900-drift")
    assert never.exit_code == 1
    assert "the events from offset 0 on do not lead to this alert" in " ".join(never.stderr.split())


def test_an_alert_of_another_configuration_is_named_so(job: Job, told: dict[str, bytes], tmp_path: Path) -> None:
    """Settings were changed since: values differ as they must, and nothing is wrong with the state."""
    wanted, sent = next(iter(told.items()))
    file = tmp_path / "alert.json"
    file.write_bytes(orjson.dumps({**orjson.loads(sent), "score": 99.5, "config_hash": "0123456789ab"}))
    verdict = explained(job, wanted, "--alert", str(file))["verdict"]
    assert "It was raised with config hash 0123456789ab, another configuration: name its file." in verdict
    shown = run("explain", str(job.path), wanted, "--alert", str(file))
    assert "config hash 0123456789ab, another configuration: name its file." in " ".join(shown.stdout.split())
    file.write_bytes(orjson.dumps({**orjson.loads(sent), "score": 99.5}))
    assert "another configuration" not in explained(job, wanted, "--alert", str(file))["verdict"]


def test_an_alert_that_was_altered_is_found_out(job: Job, told: dict[str, bytes], tmp_path: Path) -> None:
    wanted, sent = next(iter(told.items()))
    file = tmp_path / "alert.json"
    file.write_bytes(orjson.dumps({**orjson.loads(sent), "score": 99.5, "severity": "minor"}))
    found = explained(job, wanted, "--alert", str(file))
    assert found["same"] is False
    assert {difference["path"] for difference in found["differences"]} == {"score", "severity"}
    shown = run("explain", str(job.path), wanted, "--alert", str(file))
    assert shown.exit_code == 1
    assert "Not the same" in shown.stdout
    file.write_bytes(sent.replace(wanted.encode(), b"another"))
    assert run("explain", str(job.path), wanted, "--alert", str(file)).exit_code == 2


def test_an_alert_that_never_was_is_told(job: Job) -> None:
    for wanted, words in (
        (f"{job.topic}-0-11-drift", "do not lead to this alert"),
        (f"{job.topic}-0-999999-drift", "the event no longer exists"),
        (f"{job.topic}-9-1-drift", "no partition 9"),
        ("elsewhere-0-1-drift", "is of topic 'elsewhere'"),
    ):
        told = run("explain", str(job.path), wanted)
        assert told.exit_code == 1
        assert words in " ".join(told.stderr.split()), told.stderr
    told = run("explain", str(job.path), "press-7")
    assert told.exit_code == 2
    assert "--recording" in told.stderr


def test_an_alert_is_explained_in_japanese(job: Job, told: dict[str, bytes], tmp_path: Path) -> None:
    later = [wanted for wanted in told if (at := parse_alert_id(wanted)) is not None and at.offset > 2000]
    for wanted, more in ((next(iter(told)), []), (later[-1], ["--state", str(job.folder / "export")])):
        page = tmp_path / "why.html"
        shown = run("explain", str(job.path), wanted, "--lang", "ja", "--html", str(page), *more)
        assert shown.exit_code == 0, shown.output
        first = shown.stdout.splitlines()[0]
        assert "）：" in first, first
        assert "全ビットが一致しました" in shown.stdout
        assert first.split("（")[-1][-8:] in page.read_text(encoding="utf-8")
        assert "アラート" in page.read_text(encoding="utf-8")
        same = [run("explain", str(job.path), wanted, "--json", "--lang", each, *more).stdout for each in ("en", "ja")]
        contents = [{**orjson.loads(text), "seconds": 0.0} for text in same]
        assert contents[0] == contents[1]
        assert contents[0]["replayed"]["summary"] != first


def test_the_page_shows_all_of_it_and_fetches_nothing(job: Job, told: dict[str, bytes], tmp_path: Path) -> None:
    wanted = next(w for w, sent in told.items() if orjson.loads(sent)["scope"] == "entity")
    page = tmp_path / "why.html"
    assert run("explain", str(job.path), wanted, "--html", str(page)).exit_code == 0
    text = page.read_text()
    assert "Made again to the same bits" in text
    assert text.count("<svg") >= 4
    assert "What contributed" in text
    drift = {**orjson.loads(told[wanted]), "weight_change": [{"feature": "<b>", "before": 1.0, "after": -2.5}]}
    section = explain_html("why", "", None, [alert_section(drift)])
    assert "Weights that changed most" in section
    assert "&lt;b&gt;" in section
    assert not re.search(r"(?:src|href)=[\"'](?!#|data:)", text)


# The audit.


def test_the_audit_is_unbroken_through_a_kill(job: Job) -> None:
    directory = job.config.audit.directory
    assert directory is not None
    found = verify_audit(directory)
    assert found.faults == []
    assert found.shards == 2
    assert found.entities == 60
    checked = run("state", "audit", str(job.path), "--json")
    assert checked.exit_code == 0
    assert orjson.loads(checked.stdout)["ok"] is True
    hashes = entity_hashes(directory, 0, job.config.hash, None)
    assert hashes[max(hashes)]
    final = {key.partition(" ")[0]: value for key, value in job.state().items() if key.endswith(" 0")}
    last = {name: value for at in sorted(hashes) for name, value in hashes[at].items()}
    at_end = hashes[max(hashes)]
    assert {name: final[name] for name in at_end} == at_end
    assert set(last) <= set(final)


def lines_of(folder: Path) -> tuple[Path, list[bytes]]:
    """Return the file with the most lines, and these: a last line that is missing is no gap."""
    of = {file: file.read_bytes().split(b"\n")[:-1] for file in sorted(folder.glob(f"*{ENDING}"))}
    file = max(of, key=lambda each: len(of[each]))
    assert len(of[file]) > 3
    return file, of[file]


def altered(lines: list[bytes]) -> list[bytes]:
    record = orjson.loads(lines[2])
    partition = next(iter(record["entities"]))
    name = next(iter(record["entities"][partition]))
    record["entities"][partition][name] = "0" * 16
    return [*lines[:2], orjson.dumps(record), *lines[3:]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (altered, "it was altered"),
        (lambda lines: [*lines[:2], *lines[3:]], "lines are missing"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "were moved"),
        (lambda lines: [*lines[:2], b"{}", *lines[3:]], "no line of an audit"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "half written"),
    ],
)
def test_what_is_missing_altered_or_moved_shows(
    job: Job, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    assert job.config.audit.directory is not None
    folder = tmp_path / "audit"
    shutil.copytree(job.config.audit.directory, folder)
    file, lines = lines_of(folder)
    ending = b"" if words == "half written" else b"\n"
    file.write_bytes(b"\n".join(change(lines)) + ending)
    found = verify_audit(folder)
    assert any(words in fault.text for fault in found.faults), found.faults
    content = orjson.loads(job.path.read_bytes())
    config = tmp_path / "config.yaml"
    config.write_bytes(orjson.dumps({**content, "audit": {"directory": str(folder)}}))
    checked = run("state", "audit", str(config))
    assert checked.exit_code == 1
    assert "broken" in checked.stdout


def test_half_a_line_is_taken_off_at_the_next_start(job: Job, tmp_path: Path) -> None:
    from ssm_stream.ops.audit import AuditFile

    assert job.config.audit.directory is not None
    folder = tmp_path / "audit"
    shutil.copytree(job.config.audit.directory, folder)
    file, lines = lines_of(folder)
    with file.open("ab") as out:
        out.write(b'{"half": ')
    AuditFile(folder, "c", file.name.removesuffix(ENDING))
    assert not [told for *_, told in records(folder) if told]
    assert len(lines_of(folder)[1]) == len(lines)


def test_an_audit_needs_a_state_that_is_kept() -> None:
    with pytest.raises(ConfigError, match=r"recovery\.directory: null; an audit"):
        parse_config(
            "source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\nrecovery: {directory: null}\n"
            "audit: {directory: /x}\n"
        )


def test_no_audit_is_told(tmp_path: Path, job: Job) -> None:
    content = orjson.loads(job.path.read_bytes())
    config = tmp_path / "config.yaml"
    config.write_bytes(orjson.dumps({**content, "audit": {"directory": str(tmp_path / "none")}}))
    told = run("state", "audit", str(config))
    assert told.exit_code == 1
    assert "holds no audit" in told.stderr
    config.write_bytes(orjson.dumps({**content, "audit": {}}))
    assert run("state", "audit", str(config)).exit_code == 2


def test_nothing_is_recorded_where_nothing_came(job: Job) -> None:
    assert job.config.audit.directory is not None
    before = verify_audit(job.config.audit.directory).lines
    process = job.start()
    time.sleep(4)
    process.send_signal(signal.SIGTERM)
    finished(process, 20)
    assert verify_audit(job.config.audit.directory).lines == before
