"""Examples for one entity of a stored state: better first predictions, the bits of one that saw them, a record."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brokers import Kafka
from test_stream import Job, events
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, load_config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.entity_report import entity_hash
from ssm_stream.ingest.events import Events
from ssm_stream.ops.audit import primings, verify_audit
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.export import export_state, import_state
from ssm_stream.recovery.locking import lock
from ssm_stream.recovery.prime import learn_examples, read_examples
from ssm_stream.recovery.reader import read_state
from tests.test_kept import N, events_of, hashes_of, run, written

EXAMPLES, START = 60, 1_700_000_000_000 + 60_000 * 3_000
NEW = [0.5, 3.0]
"""Coefficients of the new product; the fleet's are 1 and −2."""


def product(n: int, seed: int, name: str = "new") -> Events:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 2))
    y = features @ NEW + 0.1 * rng.normal(size=n)
    return Events([name] * n, START + 60_000 * np.arange(n), features, y, np.arange(n), np.zeros(n, np.int64))


def as_csv(path: Path, events: Events, head: str = "t,a,b,target") -> Path:
    rows = zip(events.ts.tolist(), *events.features.T.tolist(), events.target.tolist(), strict=True)
    path.write_text("\n".join([head, *(",".join(map(repr, row)) for row in rows)]) + "\n")
    return path


def command(*words: str | Path, code: int = 0, **more: Any) -> str:
    found = CliRunner().invoke(app, [str(word) for word in words], **more)
    assert found.exit_code == code, found.output
    return " ".join(found.output.split())


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The state of a fleet, with an audit."""
    path = written(tmp_path, shards=1, more=f"audit: {{directory: {tmp_path / 'audit'}}}")
    run(path, N // 4)
    return path


def engine_of(path: Path) -> Engine:
    config = load_config(path)
    assert config.recovery.directory is not None
    return read_state(config.recovery.directory).engine("0000", config)


def test_first_predictions_are_better_and_the_bits_are_those_of_an_entity_that_saw_the_examples(
    made: Path, tmp_path: Path
) -> None:
    before = engine_of(made)
    file = as_csv(tmp_path / "examples.csv", product(EXAMPLES, 1))
    assert "learned 60 examples" in command("state", "prime", made, "new", file, "--source", "1", "--yes")
    primed = engine_of(made)

    seen = before  # the same state, whose next events are the examples
    seen.process(product(EXAMPLES, 1), 1)
    assert primed.state_hash("new", 1) == seen.state_hash("new", 1)
    assert all(entity_hash(primed, name) == entity_hash(seen, name) for name in seen.names)

    coming = product(40, 2)
    first, second = primed.process(coming, 1)[0], seen.process(coming, 1)[0]
    assert first.yhat.tobytes() == second.yhat.tobytes()
    assert first.upper.tobytes() == second.upper.tobytes()
    unprimed = Engine(load_config(made))
    for partition in range(2):
        unprimed.process(events_of(partition).take(np.arange(N // 4)), partition)
    alone = unprimed.process(coming, 1)[0]
    errors = [np.abs(each.yhat - coming.target)[:10].mean() for each in (first, alone)]
    assert errors[0] < 0.4 * errors[1], errors


def test_it_is_as_reported_and_the_next_start_continues_from_it(made: Path, tmp_path: Path) -> None:
    file = as_csv(tmp_path / "examples.csv", product(EXAMPLES, 1))
    before = hashes_of(made)
    plan = json.loads(command("state", "prime", made, "new", file, "--source", "0", "--dry-run", "--json"))
    assert (plan["done"], plan["audited"], plan["new"], plan["examples"]) == (False, False, True, EXAMPLES)
    assert hashes_of(made) == before
    found = json.loads(command("state", "prime", made, "new", file, "--source", "0", "--yes", "--json"))
    assert (found["done"], found["audited"], found["hash"]) == (True, True, plan["hash"])
    (error,) = found["errors"]
    assert error["last"] < 0.5 * error["first"]
    assert found["record"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["record"]["by"]
    assert set(hashes_of(made)) == {*before, "new"}

    shown = json.loads(command("state", "show", made, "new", "--json"))
    assert shown["primed"] == found["record"]
    assert "primed with 60 examples of examples.csv" in command("state", "show", made, "new")
    assert "primed" not in command("state", "show", made, "m3")
    told = run(made, N)
    assert len(told) == 2 * (N - N // 4), "the positions are as they were"
    assert engine_of(made).primed == {"new": found["record"]}

    other = written(tmp_path, "other", shards=1)
    config = load_config(made)
    export_state(config, tmp_path / "file.state")
    import_state(load_config(other), tmp_path / "file.state")
    assert engine_of(other).primed == {"new": found["record"]}
    command("state", "reset", other, "new", "--yes")
    assert engine_of(other).primed == {}


def test_the_audit_has_it_in_its_chain(made: Path, tmp_path: Path) -> None:
    file = as_csv(tmp_path / "examples.csv", product(EXAMPLES, 1))
    for _ in range(2):  # the same file again gives another state, which is no contradiction
        found = json.loads(command("state", "prime", made, "new", file, "--yes", "--json"))
    folder = load_config(made).audit.directory
    assert folder is not None
    checked = verify_audit(folder)
    assert (checked.primed, checked.faults) == (2, [])
    assert [each["entity"] for each in primings(folder, load_config(made).hash)] == ["new", "new"]
    text = (folder / "0000.audit.jsonl").read_text().splitlines()
    record = json.loads(text[-1])
    assert record["primed"] == {"entity": "new", **found["record"]}
    assert record["entities"] == {str(found["source"]): {"new": found["hash"]}}
    assert "2 of them of examples" in command("state", "audit", made)
    altered = [*text[:-1], text[-1].replace("examples.csv", "others.csv")]
    (folder / "0000.audit.jsonl").write_text("\n".join([*altered, ""]))
    assert "was altered" in command("state", "audit", made, code=1)


def test_it_asks_first(made: Path, tmp_path: Path) -> None:
    file, before = as_csv(tmp_path / "examples.csv", product(EXAMPLES, 1)), hashes_of(made)
    assert "would learn 60 examples" in command("state", "prime", made, "new", file, code=1, input="n\n")
    assert hashes_of(made) == before
    command("state", "prime", made, "new", file, input="y\n")
    assert "new" in hashes_of(made)


def test_an_entity_that_has_a_state_learns_on_top_and_its_open_episode_ends(made: Path, tmp_path: Path) -> None:
    spiked = product(EXAMPLES, 1)
    spiked.target[40:] += 500
    assert "has a state already" in command(
        "state", "prime", made, "m3", as_csv(tmp_path / "spiked.csv", spiked), "--yes"
    )
    report = json.loads(command("state", "show", made, "m3", "--json"))
    assert [each["episodes"] for each in report["targets"]] == [[]]


REFUSALS = {
    "t,a,target\n1,2,3\n": "no column 'b'",
    "e,t,a,b,target\nx,1,2,3,4\ny,2,2,3,4\n": "examples of 2 entities (x, y",
    "t,a,b,target\n1,2,3,4\n2,2,3,4\nnever,2,3,4\n": "1 of 3 rows are no examples, the first is row 3",
    "t,a,b,target\n1,2,3,\n": "no row has a target",
}


@pytest.mark.parametrize("content", REFUSALS)
def test_what_is_no_example_is_refused_and_nothing_changes(made: Path, tmp_path: Path, content: str) -> None:
    file, before = tmp_path / "wrong.csv", hashes_of(made)
    file.write_text(content)
    result = CliRunner().invoke(app, ["state", "prime", str(made), "new", str(file), "--yes"])
    assert result.exit_code in (1, 2)
    assert REFUSALS[content] in " ".join(result.output.split())
    assert hashes_of(made) == before


def test_other_refusals(made: Path, tmp_path: Path) -> None:
    file = as_csv(tmp_path / "examples.csv", product(EXAMPLES, 1))
    assert "has read nothing from partition 7" in command(
        "state", "prime", made, "new", file, "--source", "7", "--yes", code=1
    )
    directory = load_config(made).recovery.directory
    assert directory is not None
    with lock(directory):
        assert "is in use" in command("state", "prime", made, "new", file, "--yes", code=1)
    none = written(tmp_path, "none")
    assert "does not exist" in command("state", "prime", none, "new", file, "--yes", code=1)
    assert "no such file" in command("state", "prime", made, "new", tmp_path / "none.csv", "--yes", code=1)


def settings_of(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(f"source: {{brokers: a, topic: t}}\nrecovery: {{directory: null}}\n{text}")
    return load_config(path)


@pytest.mark.parametrize(
    "text",
    [
        "event: {entity: e, timestamp: t, features: [a, b]}\nlabels: {topic: labels}",
        "event: {entity: e, timestamp: t, features: [a, b]}\nlabels: {topic: labels, id: job}",
        "event: {entity: e, timestamp: t, features: [a, b]}\nmodel: {horizon: 2 events}",
        "event: {entity: e, timestamp: t, features: [b], target: [target, a]}",
        "event: {entity: e, timestamp: t, features: [target, a, b], target: all}",
        "event: {entity: e, timestamp: t, features: [a, b]}\nmodel: {fleet: false}",
        "event: {entity: e, timestamp: t, features: [a, b], derive: {m: {rolling_mean: a, over: 3}}}",
    ],
)
def test_each_kind_of_target_is_learned(tmp_path: Path, text: str) -> None:
    config = settings_of(tmp_path, text)
    events = read_examples(config, "new", as_csv(tmp_path / "examples.csv", product(EXAMPLES, 1)))
    engine = Engine(config)
    errors, compared = learn_examples(engine, events, 0)
    assert compared == 10
    assert [each.target for each in errors] == config.event.targets
    if not config.model.horizon.events:  # these features lead to no later target
        assert errors[0].last < errors[0].first
    assert len(engine.windows._rows) == bool(config.event.derive)
    counts = engine.label_counts
    assert not counts or counts["matched"] == EXAMPLES - (2 if config.labels is None else 0)


def test_no_room_for_another(tmp_path: Path) -> None:
    text = "event: {entity: e, timestamp: t, features: [a, b]}\nstate: {max_entities: 1}"
    config = settings_of(tmp_path, text)
    engine = Engine(config)
    learn_examples(engine, product(5, 1), 0)
    with pytest.raises(RecoveryError, match=r"state\.max_entities"):
        learn_examples(engine, product(5, 1, "other"), 0)


def test_a_process_on_a_broker_continues_from_the_examples(kafka: Kafka, tmp_path: Path) -> None:
    """With derived inputs of the past, an audit, and the partition that this producer chooses for the name."""
    topic = kafka.topic("events", 3)
    kafka.produce(topic, events(1500))
    job = Job(kafka, tmp_path, topic, shards=1, event={"derive": {"m": {"rolling_mean": "a", "over": 5}}})
    content = json.loads(job.path.read_bytes())
    job.path.write_text(json.dumps({**content, "audit": {"directory": str(tmp_path / "audit")}}))
    job.run()
    rng = np.random.default_rng(4)
    x = rng.normal(size=(EXAMPLES + 30, 2)).round(4)
    y = (x @ NEW).round(4)
    rows = [
        {"entity": "new", "ts": 1_700_000_000_000 + 2000 + i, "a": a, "b": b, "target": t}
        for i, ((a, b), t) in enumerate(zip(x.tolist(), y.tolist(), strict=True))
    ]
    file = tmp_path / "examples.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:EXAMPLES]))
    found = json.loads(command("state", "prime", job.path, "new", file, "--source", "0", "--yes", "--json"))
    kafka.produce(topic, [(b"new", json.dumps(row).encode()) for row in rows[EXAMPLES:]])
    job.run()
    sent = [each for each in map(json.loads, job.messages().values()) if each["entity"] == "new"]
    assert len(sent) == 30, "the examples are not predicted for anyone"
    assert sorted(each["n"] for each in sent) == list(range(EXAMPLES, EXAMPLES + 30))
    assert {int(each["id"].split("-")[-2]) for each in sent} == {found["source"]}
    assert np.mean([abs(rows[each["n"]]["target"] - each["yhat"]) for each in sent]) < 1.0
    checked = verify_audit(tmp_path / "audit")
    assert (checked.primed, checked.faults) == (1, [])
