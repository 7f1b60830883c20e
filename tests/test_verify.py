"""`verify`: the reference is gradient descent, a wrong kernel is found out, the certificate follows from the checks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, parse_config
from ssm_stream.evaluate import verify_kernel, verify_reference, verify_replay
from ssm_stream.evaluate.paper_section import Check
from ssm_stream.evaluate.verify import Verification, verify
from ssm_stream.evaluate.verify_context import persistence
from ssm_stream.evaluate.verify_replay import NothingToVerifyError, Replay
from ssm_stream.evaluate.verify_report import verdict

CONFIG = """\
source: {brokers: "localhost:9092", topic: events}
event:
  entity: machine
  timestamp: ts
  features: [load, temp]
  target: power
  lags: 2
state: {ttl: 30d}
"""
DAY = 86_400


def rows(n: int = 600, seed: int = 0, features: bool = True) -> list[dict[str, object]]:
    """Two machines in turn; the power follows load and temperature, some targets are missing, one row is broken."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, object]] = []
    state = np.zeros((2, 2))
    for t in range(n):
        for m in range(2):
            state[m] = 0.9 * state[m] + rng.normal(size=2)
            load, temp = state[m].tolist()
            power = 50 + 10 * m + 3 * load - 2 * temp + 0.5 * float(rng.normal())
            row: dict[str, object] = {"machine": f"m{m}", "ts": 60 * t, "power": None if t % 50 == 7 else power}
            if features:
                row |= {"load": 20 + load, "temp": None if t % 33 == 5 else 5 + temp}
            found.append(row)
    return [*found, {"machine": "m0", "ts": "yesterday", "power": 1.0}]


def parsed(text: str = CONFIG) -> Config:
    return parse_config(text)


@pytest.fixture(scope="module")
def result() -> Verification:
    return verify(parsed(), rows())


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str, str]:
    """Configuration, recording, certificate."""
    config, recording = tmp_path / "pilot.yaml", tmp_path / "pilot.jsonl"
    config.write_text(CONFIG)
    recording.write_text("".join(json.dumps(row) + "\n" for row in rows(500)))
    return str(config), str(recording), str(tmp_path / "certificate.html")


def test_reference_is_gradient_descent_to_rounding() -> None:
    """Against numpy with whole matrices: the sweep as one triangular solve, the implicit step as its own equation."""
    run = verify_replay.replay(parsed(), rows(200), lambda _: None)
    seen, deviation, _ = verify_replay.compare(run, lambda _: None)
    c, p = verify_reference.constants(run.params), run.params
    for life in range(len(run.names)):
        S, P, W = np.zeros((p.M, p.D, p.D)), np.zeros((p.M, p.D)), np.zeros((p.H, p.D))
        for t in np.flatnonzero(run.lives == life):
            x, q = seen.x[t].astype(np.float64), seen.q[t]
            answers = W @ x
            np.testing.assert_allclose(deviation.answer64[t], answers, rtol=1e-12, atol=1e-12)
            if math.isnan(q):
                continue
            for m in range(p.M):
                weigh = min(1.0, c.huber[m] / max(abs(q - answers[m]), 1e-300))
                S[m] = c.decay[m] * S[m] + weigh * np.outer(x, x)
                P[m] = c.decay[m] * P[m] + weigh * q * x
                gradient = S[m] @ W[m] + c.ridge[m] * W[m] - P[m]
                W[m] -= np.linalg.solve(np.tril(S[m]) + c.ridge[m] * np.eye(p.D), gradient)
            for h in range(p.M, p.H):
                error = float(np.clip(q - answers[h], -3, 3))
                W[h] += c.step[h - p.M] * error * x / (1 + x @ x)


def test_kernel_and_construction_hold_on_a_synthetic_recording(result: Verification) -> None:
    assert result.ok
    for check in result.checks:
        if "kernel" in check.name or "equal" in check.name:
            assert check.ok, check
    assert {name for name in ("kernel", "equal", "recovery") if any(name in c.name for c in result.checks)} == {
        "kernel", "equal", "recovery",
    }  # fmt: skip
    assert all("verify" in check.name for check in result.checks)
    assert result.recording["refused"] == {"WrongTimestamp": 1}
    assert result.recording["labelled"] == 2 * (600 - 12)


def test_model_learns_and_recovers_on_a_linear_recording(result: Verification) -> None:
    by_name = {check.name: check for check in result.checks}
    assert by_name["verify in context: error over that of W0, after 100 events"].value < 0.6
    change = result.figures["recovery"][0]
    assert change["peak_over_level"] > 2
    assert 10 < change["events"] < 150
    bins = result.figures["in_context"]["bins"]
    assert sum(b["events"] for b in bins) == 2 * (600 - 12) - 2
    assert bins[-1]["frozen"] is not None


def test_recording_without_features_changes_the_target(result: Verification) -> None:
    bare = verify(parsed(CONFIG.replace("features: [load, temp]", "features: []")), rows(500, features=False))
    assert bare.ok
    assert [r["change"] for r in bare.figures["recovery"]] == [r["change"] for r in result.figures["recovery"]]
    assert all("no features here" in r["what"] for r in bare.figures["recovery"][:2])


def test_short_recording_is_verified_and_says_what_was_not_measured() -> None:
    short = verify(parsed(), rows(8)[:16])
    assert short.ok
    text = " ".join(line for section in short.sections for line in section.text)
    assert text.count("Not measured") == 2
    assert "not judged" in text


def test_nothing_to_learn_is_told() -> None:
    with pytest.raises(NothingToVerifyError, match=r"no entity has two events with a target \(`power`\)"):
        verify(parsed(), rows(1)[:2])
    with pytest.raises(NothingToVerifyError, match="mostly WrongTimestamp"):
        verify(parsed(), [{"machine": "m0", "ts": "?", "power": 1.0}] * 3)


def test_expired_entity_is_a_new_life() -> None:
    """The engine forgets an entity after its ttl; recorded and reference state start anew with it."""
    first = [row for row in rows(40) if row["ts"] != "yesterday"]
    gone = [{"machine": "m1", "ts": DAY * (1 + day), "load": 1.0, "temp": 0.0, "power": 1.0} for day in range(400)]
    back = [{**row, "ts": 500 * DAY + int(str(row["ts"]))} for row in first if row["machine"] == "m0"]
    run = verify_replay.replay(parsed(), first + gone + back, lambda _: None)
    assert sorted(run.names) == ["m0", "m0", "m1"]
    seen, _, _ = verify_replay.compare(run, lambda _: None)
    np.testing.assert_array_equal(seen.yhat, run.yhat)


def test_persistence_is_the_last_target_of_the_life(result: Verification) -> None:
    y = np.array([1.0, 10.0, np.nan, 11.0, 2.0, 3.0])
    lives = np.array([0, 1, 0, 1, 0, 0])
    zeros = np.zeros(6, np.int64)
    run = verify_replay.replay(parsed(), rows(8), lambda _: None)
    small = Replay(run.plan, run.params, ["a", "b"], lives, run.u[:6], y, zeros, zeros[:2], y, {})
    np.testing.assert_array_equal(persistence(small), [np.nan, np.nan, 1.0, 10.0, 1.0, 2.0])


def test_chunks_do_not_change_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    run = verify_replay.replay(parsed(), rows(60), lambda _: None)
    whole = verify_replay.compare(run, lambda _: None)
    monkeypatch.setattr(verify_replay, "chunk_length", lambda _: 7)
    pieces = verify_replay.compare(run, lambda _: None)
    for a, b in zip([*whole[0], *whole[1]], [*pieces[0], *pieces[1]], strict=True):
        np.testing.assert_array_equal(a, b)


def test_command_writes_certificate_and_json(files: tuple[str, str, str]) -> None:
    config, recording, out = files
    told = CliRunner().invoke(app, ["verify", config, recording, "--out", out, "--json"])
    assert told.exit_code == 0, told.output
    content = json.loads(told.stdout)
    assert set(content["checks"][0]) == {"name", "value", "relation", "bar", "ok"}
    assert content["ok"] is True
    assert set(content) >= {"verdict", "recording", "kernel", "in_context", "recovery", "construction"}
    page = Path(out).read_text()
    assert "Verified: over" in page
    assert content["verdict"].split(" the production")[0] in page
    assert page.count("<svg") >= 6
    assert "injected: they are not in the recording" in page
    for forbidden in ("http://", "https://", "<script", "<link", "@import"):
        assert forbidden not in page


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (0.999, 1)])
def test_wrong_decay_fails_with_exit_code_1(
    files: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, factor: float, code: int
) -> None:
    exact = verify_reference.constants

    def other(p: verify_reference.LearnerParams) -> verify_reference.Constants:
        found = exact(p)
        return found._replace(decay=found.decay * factor)

    monkeypatch.setattr(verify_replay, "constants", other)
    config, recording, out = files
    told = CliRunner().invoke(app, ["verify", config, recording, "--out", out, "--json", "--limit", "400"])
    assert told.exit_code == code, told.output
    content = json.loads(told.stdout)
    assert content["ok"] is (code == 0)
    page = Path(out).read_text()
    assert ("Not verified: the production kernel deviates" in page) == (code == 1)


def test_tighter_tolerance_fails(files: tuple[str, str, str]) -> None:
    config, recording, out = files
    told = CliRunner().invoke(app, ["verify", config, recording, "--out", out, "--tolerance", "1e-12"])
    assert told.exit_code == 1
    assert "Not verified" in told.stderr


def test_wrong_calls_are_exit_code_2_and_missing_recordings_1(files: tuple[str, str, str]) -> None:
    config, recording, out = files
    runner = CliRunner()
    assert runner.invoke(app, ["verify", config, recording, "--out", "/nowhere/at/all.html"]).exit_code == 2
    Path(config).write_text("source: 1\n")
    assert runner.invoke(app, ["verify", config, recording, "--out", out]).exit_code == 2
    Path(config).write_text(CONFIG)
    missing = runner.invoke(app, ["verify", config, "none.csv", "--out", out])
    assert missing.exit_code == 1
    assert "none.csv" in missing.stderr


def test_verdict_follows_from_the_checks(result: Verification) -> None:
    checks = result.checks
    late = Check("verify recovery: events after the injected noise", math.inf, "<=", 10)
    said = verdict([*checks, late], 100, 1)
    assert said.startswith("Verified: over 100 learned events of 1 entity")
    assert "recovery: events after the injected noise" in said.split("are missed:")[1]
    nan = [Check(c.name, math.nan, c.relation, c.bar) if "weights, largest" in c.name else c for c in checks]
    assert verdict(nan, 100, 2).startswith("Not verified")


def test_bins_are_named() -> None:
    assert [verify_kernel.bin_name(i) for i in (0, 1, 12)] == ["1–3", "4–10", "from 1,000,001"]
