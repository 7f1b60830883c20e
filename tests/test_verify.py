"""`verify`: the reference is gradient descent, a wrong kernel is found out, the certificate follows from the checks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, parse_config
from ssm_stream.core import shapes
from ssm_stream.evaluate.report.section import Check
from ssm_stream.verify import kernel as verify_kernel
from ssm_stream.verify import record, replay
from ssm_stream.verify import reference as verify_reference
from ssm_stream.verify import seasons as verify_seasons
from ssm_stream.verify.certificate import Verification, verify
from ssm_stream.verify.context import persistence
from ssm_stream.verify.excitation import excitation_section
from ssm_stream.verify.gating import corrections as verify_corrections
from ssm_stream.verify.gating import dead_band as verify_dead_band
from ssm_stream.verify.gating import gates as verify_gates
from ssm_stream.verify.gating import regrets as verify_regrets
from ssm_stream.verify.gating import views as verify_views
from ssm_stream.verify.recovery import CHANGES, CHECK, SOON, Outcome, _over
from ssm_stream.verify.replay import NothingToVerifyError, Replay
from ssm_stream.verify.report import judge
from ssm_stream.verify.words import words

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


class Heads:
    """The heads of one scope on D inputs, of which `lead` are no codes, coordinate by coordinate, with the gradients of
    the moment heads by automatic differentiation of their loss: moments, proximal, slow, gd. step: of those after"""

    def __init__(self, c: verify_reference.Heads, step: Any, D: int, lead: int, moments: bool) -> None:
        self.c, self.step, self.lead, self.M = c, step[len(c.decay) :], lead, len(c.decay) if moments else 0
        self.S, self.P = np.zeros((self.M, D, D)), np.zeros((self.M, D))
        self.W = np.zeros((self.M + len(self.step), D))

    def gradient(self, m: int, W: Any) -> Any:
        """Of ½WᵀSW − PᵀW + ½ρ‖W‖²."""
        S, P, w = torch.from_numpy(self.S[m]), torch.from_numpy(self.P[m]), torch.tensor(W, requires_grad=True)
        loss = 0.5 * w @ S @ w - P @ w + 0.5 * float(self.c.ridge[m]) * w @ w
        return torch.autograd.grad(loss, w)[0].numpy()

    def learn(self, x: Any, q: float, value: float, kept: float, centre: Any = 0.0) -> None:
        """A sweep of exact steps, one coordinate after the other; the implicit step as its own equation about a centre.

        value: standardised target; centre (D,): of the numbers, zero elsewhere
        """
        x = np.pad(x.astype(np.float64), (0, self.W.shape[1] - len(x)))  # codes that are yet to come
        c, M, W, said = self.c, self.M, self.W, self.W @ x
        for m in range(M):
            weigh = min(1.0, c.huber[m] / max(abs(q - said[m]), 1e-300))
            keep = c.decay[m] * (kept if m else 1.0)
            self.S[m] = keep * self.S[m] + weigh * np.outer(x, x)
            self.P[m] = keep * self.P[m] + weigh * q * x
            for i in np.flatnonzero((np.arange(len(x)) < self.lead) | (x != 0)):
                W[m, i] -= self.gradient(m, W[m])[i] / (self.S[m, i, i] + c.ridge[m])
        for h, step in enumerate(self.step[:-1], M):
            target = value if h == len(W) - 2 else q
            # by the weights about the centre: of [1, z − c, codes], the constant that of the answer at the centre
            about, off = W[h].copy(), x - centre
            about[0] = W[h] @ np.where(np.arange(len(x)) == 0, 1.0, centre)
            about += step * np.clip(target - said[h], -3, 3) * off / (off @ off)
            W[h] = about
            W[h, 0] = about[0] - about[1:] @ np.broadcast_to(centre, x.shape)[1:]
        keep = c.direct[0]
        W[-1] = keep * W[-1] + (1 - keep) * q * x


def test_reference_is_gradient_descent_to_rounding() -> None:
    """Against automatic differentiation, on the kernel's scratch, with the kernel run one event at a time from here."""
    run = replay.replay(
        parsed(CONFIG + "model: {heads: [moments, proximal, gd], log_space: false}\n"), rows(240), lambda _: None
    )
    recorder = replay.compare(run, lambda _: None).recorder
    c, production, tape = verify_reference.pooled_heads(run.params), run.fresh(), run.tape
    fleet, norm, own = (
        Heads(c, c.step[0], run.params.L, 1 + run.params.F, True),
        Heads(c, c.step[1], run.params.N, 1 + 2 * run.params.F, True),
        [Heads(c, c.step[0], run.params.L, 1 + run.params.F, False) for _ in "ab"],
    )
    lately = np.zeros((2, run.params.L))
    fast = slow = held = 0.0
    for t, y in enumerate(tape.y.tolist()):
        k, e = int(tape.pools[t]), int(tape.lives[t])
        n, n_pool = int(production.learner.entity.n[e]), int(production.learner.pool.n[k])
        event = (k, e, tape.u[t], tape.steps[t], float(tape.ts[t]))
        production.predict(event, not math.isnan(y))
        p, w = production.params, production.scratch
        if math.isnan(y):
            continue
        scale, base, many = w.scale.copy(), float(w.base[shapes.BASE]), bool(w.flag[shapes.MANY])
        production.learn(event, y)
        if n == 0 or n_pool == 0:
            continue
        q, value = (
            np.clip(
                (target - scale[:, kind, 0])
                / np.where(scale[:, kind, 1] > 0, scale[:, kind, 1], abs(target - scale[:, kind, 0])),
                -6,
                6,
            )
            for kind, target in ((shapes.RESIDUAL, y - base), (shapes.VALUE, y))
        )
        error = abs(q[0] - fleet.W[0, : p.L] @ w.fleet[: p.L].astype(np.float64))
        strength, threshold, rate = c.surprise
        fast += max(rate, 1 / (n_pool + 1)) * (error - fast)
        held = (1 - 0.1 * rate) * held + 1
        slow += (error - slow) / held
        excess = max(math.log((fast + 1e-9) / (slow + 1e-9)) - threshold, 0)
        slow, held = fast + math.exp(-excess) * (slow - fast), max(held * math.exp(-excess), 1)
        kept = math.exp(-strength * excess)
        fleet.learn(w.fleet[: p.L], q[0], value[0], kept)
        if many:
            norm.learn(w.norm[: p.N], q[1], value[1], kept)
            x = w.entity[: p.L].astype(np.float64)
            own[e].learn(x, q[1], value[1], kept, np.where(abs(lately[e]) > shapes.OFF_CENTRE, lately[e], 0.0))
            if n >= shapes.LATELY_FROM:
                numbers = slice(1, 1 + p.F)
                lately[e, numbers] += shapes.LATELY_RATE * (x - lately[e])[numbers]
    for found, heads in zip(recorder.pools[0].W, (fleet, norm), strict=True):
        W, M = found[:, : heads.W.shape[1]], heads.M
        np.testing.assert_allclose(W[:M], heads.W[:M], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(W[M:], heads.W[M:], rtol=1e-9, atol=1e-12)
    for descent, heads in zip(recorder.own, own, strict=True):
        np.testing.assert_allclose(descent.W, heads.W[:-1], rtol=1e-9, atol=1e-12)


def test_kernel_and_construction_hold_on_a_synthetic_recording(result: Verification) -> None:
    assert result.verdict.kernel
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
    change, offset, _ = result.figures["recovery"]
    assert change["peak_over_level"] > 2
    assert 10 < offset["events"] < 150
    bins = result.figures["in_context"]["bins"]
    assert sum(b["events"] for b in bins) == 2 * (600 - 12) - 2
    assert bins[-1]["frozen"] is not None


def test_coefficient_change_is_taken_up_within_150_events(result: Verification) -> None:
    assert (result.figures["recovery"][0]["events"] or math.inf) < 150
    assert result.verdict.ok
    assert {row["bar"] for row in result.figures["recovery"]} == {150}


def test_model_that_had_the_change_always_is_the_measure_of_what_can_be_regained(result: Verification) -> None:
    change, _, noise = result.figures["recovery"]
    assert change["always_over_level"] < 1.25
    assert noise["always_over_level"] is None


def test_recording_without_features_changes_the_target(result: Verification) -> None:
    bare = verify(parsed(CONFIG.replace("features: [load, temp]", "features: []")), rows(500, features=False))
    assert bare.verdict.kernel
    assert [r["change"] for r in bare.figures["recovery"]] == [r["change"] for r in result.figures["recovery"]]
    assert all("no features here" in r["what"] for r in bare.figures["recovery"][:2])


def test_short_recording_is_verified_and_says_what_was_not_measured() -> None:
    short = verify(parsed(), rows(8)[:16])
    assert short.verdict.ok
    text = " ".join(line for section in short.sections for line in section.text)
    assert text.count("Not measured") == 1
    assert text.count("could not be judged") == 3
    assert "learning is not judged" in text
    assert "Recovery could not be judged: it needs 200 labelled events an entity" in short.verdict.text
    content = short.as_json()
    assert list(content["recovery_not_judged"]) == ["coefficient", "offset", "noise"]
    assert content["recovery_missed"] == []
    assert [row["met"] for row in content["recovery"]] == [None, None, None]


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
    run = replay.replay(parsed(), first + gone + back, lambda _: None)
    assert sorted(run.names) == ["m0", "m0", "m1"]
    assert run.pools.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(replay.compare(run, lambda _: None).recorder.seen.yhat, run.yhat)


def test_persistence_is_the_last_target_of_the_life(result: Verification) -> None:
    y = np.array([1.0, 10.0, np.nan, 11.0, 2.0, 3.0])
    lives = np.array([0, 1, 0, 1, 0, 0])
    zeros = np.zeros(6, np.int64)
    run = replay.replay(parsed(), rows(8), lambda _: None)
    tape = run.tape._replace(lives=lives, y=y)
    small = Replay(run.plan, run.params, ["a", "b"], tape, zeros[:2], zeros, zeros[:2], y, {})
    np.testing.assert_array_equal(persistence(small), [np.nan, np.nan, 1.0, 10.0, 1.0, 2.0])


CODED = """\
source: {brokers: "localhost:9092", topic: events}
event: {entity: machine, timestamp: ts, features: [load], categories: [mode], target: power, lags: 3}
"""


def coded_rows(n: int, least: float = 0.0) -> list[dict[str, object]]:
    """Three machines that do not begin together, modes that appear one after another, the power at least `least`."""
    rng = np.random.default_rng(1)
    found: list[dict[str, object]] = []
    for t in range(n):
        for m in range(1 + (t > 20) + (t > 90)):
            mode = int(rng.integers(1 + t // 30))
            power = least + 30 + 10 * m + 5 * (mode % 3) + float(rng.normal())
            found.append(
                {"machine": f"m{m}", "ts": 600 * t, "load": float(rng.normal()), "mode": f"k{mode}", "power": power}
            )
    return found


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("{}", 0.0),
        ("{profile: accurate}", 0.0),
        ("{profile: accurate, log_space: false}", 0.0),
        ("{}", -31.0),
        ("{fleet: false}", 0.0),
        ("{heads: [attention]}", 0.0),
        ("{heads: [moments, proximal, gd], half_lives: [12h, 100 events]}", 0.0),
        ("{heads: [proximal, gd]}", 0.0),
        ("{half_lives: [6h, 30 events], gate: equal}", 0.0),
    ],
)
def test_every_kind_of_head_is_held_to_the_reference(model: str, least: float) -> None:
    run = replay.replay(parsed(f"{CODED}model: {model}\n"), coded_rows(200, least), lambda _: None)
    found = replay.compare(run, lambda _: None).recorder
    np.testing.assert_array_equal(found.seen.yhat, run.yhat)
    learned = found.deviation.learned
    scopes = {
        name.split(":")[0]
        for name, used in zip(verify_reference.head_names(run.params), learned.any(0), strict=True)
        if used
    }
    assert ("norm" in scopes) == ("fleet: false" not in model)
    for values in (found.deviation.answer, found.deviation.weights):
        assert values[learned].max() < 1e-4
        assert np.median(values[learned]) < 1e-5
    assert found.deviation.gate.max() < 1e-4
    assert found.deviation.gated.max() < 1e-4
    assert found.deviation.whole.max() < 1e-3
    assert np.abs(found.deviation.reference - run.yhat).max() < 1e-3


def test_rounding_of_a_target_that_stands_still_is_not_learned() -> None:
    """Else the stacking gates learn the answers' last bits for a preference, and other bits for another one."""
    still = [row | {"power": 1 / 3} if i < 20 else row for i, row in enumerate(rows(200))]
    checks = {check.name: check for check in verify(parsed(), still).checks}
    assert checks["verify kernel: weights of the gates, largest deviation"].value < 1e-6
    assert checks["verify kernel: the whole prediction, largest deviation"].ok


def _powers(kind: str) -> Iterator[float]:
    """Of two machines in turn."""
    rng = np.random.default_rng(0)
    for i in range(400):
        machine, t = i % 2, i // 2
        if kind == "first steps alike":  # 0.3 as differences of numbers that are no binary fractions
            yield 231.5 + 0.2 * machine + 0.3 * min(t, 2) + (0.1 * float(rng.integers(-3, 4)) if t > 2 else 0.0)
        elif kind == "counter":
            yield 0.1 * t + 10 * machine
        else:
            yield 50 + float(rng.normal()) * (1e-8 if machine else 3)


@pytest.mark.parametrize("lags", [0, 2])
@pytest.mark.parametrize("kind", ["first steps alike", "counter", "machine that hardly varies"])
def test_rounding_of_answers_is_no_deviation_where_a_residual_hardly_varies(kind: str, lags: int) -> None:
    """Answers are rounded on the scale of each head, which may be many residuals."""
    alike = [row | {"power": power} for row, power in zip(rows(200), _powers(kind), strict=False)]
    found = verify(parsed(CONFIG.replace("lags: 2", f"lags: {lags}")), alike)
    assert [check.name for check in found.checks if check.name.startswith("verify kernel") and not check.ok] == []


def test_past_features_are_verified_too(result: Verification) -> None:
    """The certificate takes the inputs as the kernel made them; its injected changes run through the lags."""
    found = verify(parsed(CONFIG.replace("  lags: 2", "  lags: 2\n  feature_lags: 3")), rows())
    assert found.verdict.kernel
    assert found.recording["inputs"] == result.recording["inputs"] + 4


def test_frozen_model_is_production_where_nothing_changes() -> None:
    """On a stationary recording what was learned early stays right."""
    run = replay.replay(parsed(CODED), coded_rows(600), lambda _: None)
    found = replay.compare(run, lambda _: None).recorder
    late = ~np.isnan(found.seen.frozen)
    assert 0.7 < late.mean() < 0.85
    frozen, production, w0 = (
        np.abs(run.y - answer)[late].mean() for answer in (found.seen.frozen, run.yhat, found.seen.w0)
    )
    assert production < frozen < 0.8 * w0


def test_exact_solution_is_at_distance_zero() -> None:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(20, 4))
    S, P = A.T @ A, A.T @ rng.normal(size=20)
    best = np.linalg.solve(S + np.eye(4), P)
    assert verify_reference.solve_distance(S, P, best, 1.0) < 1e-12
    assert verify_reference.solve_distance(S, P, np.zeros(4), 1.0) == pytest.approx(1.0)
    assert math.isnan(verify_reference.solve_distance(S, np.zeros(4), best, 1.0))


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
    for forbidden in ("http://", "https://", "<script", 'rel="stylesheet"', "@import"):
        assert forbidden not in page


def changed(field: str, factor: float) -> Any:
    """The heads with a constant, or the steps of a kind of head, off by a factor."""
    exact = verify_reference.pooled_heads

    def heads(p: verify_reference.LearnerParams) -> verify_reference.Heads:
        found = exact(p)
        slow = found.kind == shapes.VALUE
        waves = np.isin(np.arange(len(slow)), found.waves)
        steps = {"embedding": waves, "slow": slow, "proximal": ~waves & ~slow}
        if field in steps:
            return found._replace(step=np.where(steps[field], factor * found.step, found.step))
        return found._replace(**{field: getattr(found, field) * factor})

    return heads


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (0.999, 1)])
def test_wrong_decay_fails_with_exit_code_1(
    files: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, factor: float, code: int
) -> None:
    monkeypatch.setattr(record, "pooled_heads", changed("decay", factor))
    config, recording, out = files
    told = CliRunner().invoke(app, ["verify", config, recording, "--out", out, "--json", "--limit", "400"])
    assert told.exit_code == code, told.output
    content = json.loads(told.stdout)
    assert content["ok"] is (code == 0)
    page = Path(out).read_text()
    assert ("Not verified: the production model deviates" in page) == (code == 1)


@pytest.mark.parametrize("field", ["decay", "ridge", "huber", "proximal", "slow", "embedding", "surprise", "phase"])
def test_any_wrong_constant_is_found_out(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = replay.replay(parsed(), rows(150), lambda _: None)
    monkeypatch.setattr(record, "pooled_heads", changed(field, 0.9))
    found = replay.compare(run, lambda _: None).recorder.deviation
    assert found.weights[found.learned].max() > 1e-3


def test_kernel_that_is_not_the_engines_is_found_out() -> None:
    """Another decay in kernel and reference alike: they agree with each other, and not with what the engine said."""
    run = replay.replay(parsed(), rows(100), lambda _: None)
    other = replace(run, params=run.params._replace(decay=0.99 * run.params.decay))
    found = replay.compare(other, lambda _: None)
    seen, deviation = found.recorder.seen, found.recorder.deviation
    section, _ = verify_kernel.kernel_section(other, seen, deviation, found.distances, 1e-3, words("en"))
    assert [check.ok for check in section.checks] == [False] + 10 * [True]


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
    Path(config).write_text(CONFIG + "model: {horizon: 3 events}\n")
    ahead = runner.invoke(app, ["verify", config, recording, "--out", out, "--json"])
    assert ahead.exit_code == 2
    assert "remove `model.horizon` from a copy of the configuration" in " ".join(ahead.stderr.split())
    Path(config).write_text(CONFIG)
    missing = runner.invoke(app, ["verify", config, "none.csv", "--out", out])
    assert missing.exit_code == 1
    assert "none.csv" in missing.stderr


def missed_recovery(events: float) -> Outcome:
    return Outcome("coefficient", Check(f"{CHECK} coefficient change", events, "<=", SOON), "")


@pytest.mark.parametrize(("events", "later"), [(412.0, "412 events"), (math.inf, "never on this recording")])
def test_missed_recovery_is_the_headline(result: Verification, events: float, later: str) -> None:
    missed = missed_recovery(events)
    kernel = [check for check in result.checks if "recovery" not in check.name]
    assert missed.check is not None
    found = judge([*kernel, missed.check], [missed, *result.outcomes[1:]], 100, 1, False, words("en"))
    assert not found.ok
    assert found.kernel
    assert found.missed == ("coefficient",)
    first = "Not verified: after the injected coefficient change the error was not back within 150 events"
    assert found.text.startswith(f"{first} ({later})")
    assert "Verified" not in found.text


def test_verdict_follows_from_the_checks(result: Verification) -> None:
    checks, outcomes, w = result.checks, result.outcomes, words("en")
    assert judge(checks, outcomes, 100, 1, False, w).text.startswith("Verified: over 100 learned events of 1 entity")
    assert "except the corrections of attention, which are not compared," in judge(checks, outcomes, 1, 1, True, w).text
    for part in ("weights, largest", "weights of the gates, median", "the whole prediction, largest", "4 steps"):
        nan = [Check(c.name, math.nan, c.relation, c.bar) if part in c.name else c for c in checks]
        found = judge(nan, outcomes, 100, 2, False, w)
        assert not found.ok
        assert found.text.startswith("Not verified: the production model deviates")
    poor = Check("verify in context: error over that of W0, after 100 events", 1.2, "<=", 1.0)
    found = judge([*checks, poor], outcomes, 100, 1, False, w)
    assert found.ok
    assert "Missed besides: in context: error over that of W0, after 100 events is 1.200, bar 1" in found.text


def test_wrong_gate_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    run = replay.replay(parsed(), rows(150), lambda _: None)
    of_gates = {"POOL_DECAY": 0.9, "LOSS_CLIP": 3.0, "UNIT_RATE": 0.1, "SITUATION_DECAY": 0.5, "BEND": 5.0}
    of_regrets = {"PRIOR": 1.0, "SHARE_OF_ALL": 1.0}
    of_views = {"VIEW_DECAY": 0.5, "VIEW_BEND": 5.0, "DIFFERENCE_HALF": 10.0}
    wrong = {verify_gates: of_gates, verify_regrets: of_regrets, verify_views: of_views}
    for module, name, value in [(m, *each) for m, values in wrong.items() for each in values.items()]:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            found = replay.compare(run, lambda _: None).recorder.deviation
        assert found.gate.max() > 1e-3, name
        assert found.weights[found.learned].max() < 1e-3


def test_wrong_correction_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With labels of their own a soft sensor has corrected answers, which the reference corrects by itself."""
    text = CONFIG.replace("lags: 2", "lags: 0") + "labels: {topic: results}\n"
    run = replay.replay(parsed(text), rows(300), lambda _: None)
    assert replay.compare(run, lambda _: None).recorder.deviation.whole.max() < 1e-3
    for name, value in (("CARRY_PRIOR", 1e3), ("CARRY_DECAY", 0.5), ("CARRY_CLIP", 0.1)):
        with monkeypatch.context() as patch:
            patch.setattr(verify_corrections, name, value)
            found = replay.compare(run, lambda _: None).recorder.deviation
        assert found.whole.max() > 1e-3, name
        assert found.gate.max() < 1e-3, name


def test_wrong_dead_band_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that stands still for six events at a time is held, another is not; the reference knows by itself."""
    moving = rows(300)
    still = [
        row | {"power": moving[i // 12 * 12 + i % 2]["power"]} if "power" in row else row
        for i, row in enumerate(moving)
    ]
    left, held = (replay.replay(parsed(CONFIG), some, lambda _: None) for some in (moving, still))
    for run in (left, held):
        found = replay.compare(run, lambda _: None).recorder.deviation
        assert max(found.gated.max(), found.whole.max()) < 1e-3
    wrong = (
        ("BAND_HALF", 4.0, held),
        ("BAND_DECAY", 0.5, held),
        ("BAND_CLIP", 1e-4, left),
        ("BAND_PRIOR", 1e3, left),
    )
    for name, value, run in wrong:
        with monkeypatch.context() as patch:
            patch.setattr(verify_dead_band, name, value)
            found = replay.compare(run, lambda _: None).recorder.deviation
        assert found.gated.max() > 1e-3, name
        assert found.gate.max() < 1e-3, name


@pytest.mark.parametrize("lags", ["lags: 2", "lags: 0"])
def test_wrong_season_is_found_out(monkeypatch: pytest.MonkeyPatch, lags: str) -> None:
    """What the target was at this time is found by the reference from the events themselves."""
    some = [row if row["ts"] == "yesterday" else row | {"ts": 20 * int(str(row["ts"]))} for row in rows(700)]
    run = replay.replay(parsed(CONFIG.replace("lags: 2", lags)), some, lambda _: None)
    assert replay.compare(run, lambda _: None).recorder.deviation.whole.max() < 1e-3
    for name, value in (("USUAL_RATE", 0.9), ("QUARTER", 1_200_000)):
        with monkeypatch.context() as patch:
            patch.setattr(verify_seasons, name, value)
            found = replay.compare(run, lambda _: None).recorder.deviation
        assert not found.whole.max() <= 1e-3, name  # NaN where only the kernel has an answer
        assert found.gate.max() < 1e-3, name


@pytest.mark.parametrize(
    ("features", "make", "why"),
    [
        ("[load, temp]", lambda t: {"power": 7.0}, "the target is constant before the change"),
        ("[load, temp]", lambda t: {"load": 1.0, "temp": 2.0}, "no feature varies before the change"),
        ("[load]", lambda t: {"load": 20.0} if t >= 240 else {}, "load hardly moves after the change"),
    ],
)
def test_recording_that_cannot_show_recovery_is_named(features: str, make: Any, why: str) -> None:
    some = [row if row["ts"] == "yesterday" else row | make(int(str(row["ts"])) // 60) for row in rows(500)]
    found = verify(parsed(CONFIG.replace("[load, temp]", features)), some)
    change = found.figures["recovery"][0]
    assert change["judged"] is False
    assert why in change["why"]
    assert why in found.verdict.text
    assert "coefficient" in found.as_json()["recovery_not_judged"]
    if "target" in why:  # noise of no size is no noise
        assert set(found.as_json()["recovery_not_judged"]) == {"coefficient", "offset", "noise"}


@pytest.mark.filterwarnings("error")
def test_an_error_of_none_is_at_its_level_of_none() -> None:
    found = _over(np.array([0.0, 1.0, 3.0]), np.array([0.0, 0.0, 2.0]))
    assert found.tolist() == [1.0, math.inf, 1.5]


def test_certificate_has_the_excitation() -> None:
    twins = [row if row["ts"] == "yesterday" else row | {"twin": row["load"], "still": 4.0} for row in rows(300)]
    found = verify(parsed(CONFIG.replace("[load, temp]", "[load, temp, twin, still]")), twins)
    excitation = found.figures["excitation"]
    assert excitation["dead"] == ("still", "change(still)")
    assert [each["column"] for each in excitation["collinear"]][:1] == ["twin"]
    assert excitation["inputs"] - excitation["rank"] == 4
    assert excitation["full_after"] is None
    assert any(line.startswith("Constant at the end") and "still" in line for line in found.warnings)
    assert any("twin (by load)" in line for line in found.warnings)


def test_bins_are_named() -> None:
    assert [verify_kernel.bin_name(i) for i in (0, 1, 12)] == ["1–3", "4–10", "from 1,000,001"]


def test_languages_have_the_same_texts_with_the_same_names() -> None:
    english, japanese = words("en").texts, words("ja").texts
    names = re.compile(r"{(\w+)}")
    checks = {key for key in japanese if key.startswith("verify ")}
    assert set(english) == set(japanese) - checks
    for key, text in english.items():
        assert set(names.findall(text)) == set(names.findall(japanese[key])), key


def test_every_check_has_a_name_in_japanese(result: Verification) -> None:
    for check in [*result.checks, *(Check(f"{CHECK} {name}", 0, "<=", 1) for name in CHANGES.values())]:
        assert words("ja").check(check) != check.name
        assert words("en").check(check) == check.name


@pytest.mark.parametrize(
    ("options", "locale", "japanese"),
    [
        (["--lang", "ja"], "C", True),
        ([], "ja_JP.UTF-8", True),
        ([], "en_US.UTF-8", False),
        (["--lang", "en"], "ja", False),
    ],
)
def test_certificate_is_in_the_language(
    files: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, options: list[str], locale: str, japanese: bool
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    config, recording, out = files
    told = CliRunner().invoke(app, ["verify", config, recording, "--out", out, "--limit", "400", *options])
    assert told.exit_code == 0, told.output
    page = Path(out).read_text()
    assert f'<html lang="{"ja" if japanese else "en"}">' in page
    assert ("検証済み" in told.stderr) == japanese
    assert ("カーネル: 予測全体の偏差" in told.stdout) == japanese
    for english in ("Verified", "largest", "Checks", "Measured"):
        assert (english in page) != japanese, english


RIGID = "model: {heads: [moments], half_lives: [1000000 events], gate: equal}\n"
"""A model that hardly forgets."""


def test_missed_recovery_is_exit_code_3(files: tuple[str, str, str]) -> None:
    config, recording, out = files
    Path(config).write_text(CONFIG.replace("lags: 2", "lags: 0") + RIGID)
    found = CliRunner().invoke(app, ["verify", config, recording, "--out", out, "--json", "--lang", "en"])
    assert found.exit_code == 3, found.output
    content = json.loads(found.stdout)
    assert content["ok"] is False
    assert content["kernel_ok"] is True
    assert "coefficient" in content["recovery_missed"]
    assert content["verdict"].startswith("Not verified: after the injected coefficient change")
    page = Path(out).read_text()
    assert "Verified" not in page
    assert '<p class="lead miss">Not verified: after the injected coefficient change' in page


def test_help_names_the_exit_codes() -> None:
    text = " ".join(CliRunner().invoke(app, ["verify", "--help"]).stdout.split())
    for part in ("Exit code 0:", "1: they do not agree", "2: a wrong call", "3: they agree, but after an injected"):
        assert part in text


def test_events_at_rest_that_production_holds_back_are_learned() -> None:
    """Else the recorded kernel, which learns all, would not predict what the engine does."""
    rested = [
        {**row, **dict.fromkeys(("load", "temp", "power"), 0.0)} if row["ts"] % 12_000 >= 3_000 else row
        for row in rows(600)
        if isinstance(row["ts"], int)
    ]
    run = replay.replay(parsed(), rested, lambda _: None)
    assert np.array_equal(run.production(run.u, run.y), run.yhat)


def test_values_of_categories_are_no_columns_to_leave_out() -> None:
    """They hold each other, and a category of fewer values has places to spare: neither is for the user to mend."""
    run = replay.replay(parsed(CODED), coded_rows(600), lambda _: None)
    seen = replay.compare(run, lambda _: None).recorder.seen
    _, figures, advice = excitation_section(run, seen, words("en"))
    assert figures["inputs"] == len(run.plan.numbers) - len(run.plan.category_values)
    assert not [line for line in advice if ": value" in line]
