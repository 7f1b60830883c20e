"""The paper's experiments: their yardsticks, their plumbing, and a short run of each."""

from __future__ import annotations

import json
import math

import pytest
import torch
import typer
from typer.testing import CliRunner

from ssm_stream.cli.paper import paper
from ssm_stream.evaluate.report.chart import ticks
from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.section import Chart, Check, Section, Series, Table, at_least, at_most
from ssm_stream.paper import report as plans
from ssm_stream.paper.compare import AblationSettings, BaselineSettings, ablations, baselines
from ssm_stream.paper.equalities import EqualitySettings, equalities
from ssm_stream.paper.experiment import Context
from ssm_stream.paper.gdssm import GDSSM
from ssm_stream.paper.guideline import GuidelineSettings, guideline
from ssm_stream.paper.lengths import LengthSettings, chunked, lengths, peak_bytes
from ssm_stream.paper.linear import (
    ClosedFormSettings,
    OodSettings,
    SizesSettings,
    TrainedSettings,
    closed_form,
    out_of_distribution,
    sizes,
    trained,
)
from ssm_stream.paper.nonlinear import ClassificationSettings, SineSettings, classification, sine
from ssm_stream.paper.page import report_html
from ssm_stream.paper.sliding_window import FrontedGDSSM, WindowSettings, sliding_window
from ssm_stream.paper.steps import SecondOrderSettings, StepsSettings, second_order, steps
from ssm_stream.paper.tasks import (
    LinearTasks,
    best_rates,
    context_spectrum,
    descent,
    evaluation_tasks,
    expected_loss,
    gradient_descent,
    least_squares,
    mean_losses,
    newton_schulz,
)
from ssm_stream.paper.training import Recipe, fit

SHORT = Recipe(updates=4, batch=8)
CPU = Context("cpu", lambda _: None)


@pytest.mark.parametrize(
    ("f", "rate", "loss"),
    [(5, 8.11, 0.0676), (10, 6.06, 0.2062), (20, 4.03, 0.554), (35, 2.68, 1.133), (50, 2.01, 1.735)],
)
def test_closed_form_of_one_step(f, rate, loss):
    tasks = LinearTasks(f=f)
    assert tasks.best_rate == pytest.approx(rate, rel=2e-3)
    assert tasks.one_step_loss(tasks.best_rate) == pytest.approx(loss, rel=1e-3)
    assert tasks.one_step_loss(0.0) == pytest.approx(tasks.zero_loss)


def test_expected_loss_agrees_with_the_closed_form_with_noise():
    tasks = LinearTasks(pairs=15, noise=0.3, weight=1.5)
    spectrum = context_spectrum(tasks, 50_000, seed=1)
    assert float(spectrum.weights.sum()) == pytest.approx(tasks.f)
    rate = best_rates(tasks, spectrum, 1, shared=True)[0]
    assert rate == pytest.approx(tasks.best_rate, rel=5e-3)
    expected = float(expected_loss(tasks, spectrum, torch.tensor([rate], dtype=torch.float64)))
    assert expected == pytest.approx(tasks.one_step_loss(rate), rel=5e-3)


def test_rates_of_two_steps_are_those_of_the_minimum():
    tasks = LinearTasks()
    spectrum = context_spectrum(tasks, 50_000, seed=1)
    rates = torch.tensor(best_rates(tasks, spectrum, 2, shared=False), dtype=torch.float64)
    best = float(expected_loss(tasks, spectrum, rates))
    assert best == pytest.approx(0.141, rel=0.01)
    for change in (0.98, 1.02):
        for index in range(2):
            other = rates.clone()
            other[index] *= change
            assert float(expected_loss(tasks, spectrum, other)) > best


def test_evaluation_tasks_repeat_and_measure_the_closed_form():
    tasks = LinearTasks(m=10)
    losses = [mean_losses({"GD": descent([6.06])}, evaluation_tasks(tasks, 5000, 3))["GD"] for _ in range(2)]
    assert losses[0] == losses[1] == pytest.approx(tasks.one_step_loss(6.06), rel=0.02)


def test_solvers_agree_where_they_converge():
    t = LinearTasks(f=4, pairs=30, m=3).draw(5, torch.Generator().manual_seed(2))
    exact = least_squares(t.x, t.y)
    assert torch.allclose(newton_schulz(t.x, t.y, 30), exact, atol=1e-3)
    assert torch.allclose(gradient_descent(t.x, t.y, [8.0] * 300), exact, atol=1e-3)
    assert torch.allclose(least_squares(t.x, t.y, 1e-6), exact, atol=1e-3)


def test_training_lowers_the_loss_and_reports_its_progress():
    told: list[float] = []
    recipe = Recipe(updates=200, batch=64)
    _, curve = fit(lambda: GDSSM(3), LinearTasks(f=3), recipe, seed=1, device="cpu", advance=told.append)
    assert sum(curve.losses[-5:]) < 0.7 * sum(curve.losses[:5])
    assert told == sorted(told)
    assert told[-1] <= 1.0


def test_training_is_repeatable():
    runs = [fit(lambda: GDSSM(3), LinearTasks(f=3), SHORT, seed=1, device="cpu")[1] for _ in range(2)]
    assert runs[0].losses == runs[1].losses


def test_a_diverged_run_is_an_error():
    def build():
        layer = GDSSM(3)
        with torch.no_grad():
            layer.D.fill_(math.inf)
        return layer

    with pytest.raises(FloatingPointError, match="diverged"):
        fit(build, LinearTasks(f=3), SHORT, seed=1, device="cpu")


SHORT_RUNS = {
    "equalities": (equalities, EqualitySettings(shapes=((3, 4, 2),), batch=2, steps=2)),
    "closed form": (closed_form, ClosedFormSettings(sizes=(5,), count=2000)),
    "trained": (trained, TrainedSettings(m=3, f=3, count=100, probes=10, recipe=SHORT)),
    "sizes": (sizes, SizesSettings(sizes=((5, SHORT),), count=100)),
    "steps": (steps, StepsSettings(steps=(1, 2), learned=(2,), trained=((2, SHORT),), count=100, contexts=2000)),
    "ood": (
        out_of_distribution,
        OodSettings(ranges=(1.0, 2.0), weights=(1.0,), count=100, trained=TrainedSettings(m=10, recipe=SHORT)),
    ),
    "ablations": (ablations, AblationSettings(recipe=SHORT, count=100)),
    "baselines": (baselines, BaselineSettings(recipes=dict.fromkeys(BaselineSettings().recipes, SHORT), count=100)),
    "second order": (
        second_order,
        SecondOrderSettings(cases=((10, 0.0), (20, 0.3)), steps=(1, 2), learned=2, count=100, contexts=2000),
    ),
    "sine": (sine, SineSettings(width=4, hidden=(0, 5), recipe=SHORT, count=100)),
    "classification": (classification, ClassificationSettings(f=4, pairs=5, classes=3, recipe=SHORT, count=500)),
    "sliding window": (sliding_window, WindowSettings(modes=(1, 3), recipe=SHORT, longer=SHORT, count=100)),
    "lengths": (
        lengths,
        LengthSettings(lengths=(8, 70), longest_recurrent=8, longest_matrix=8, chunk=32, repeats=1),
    ),
    "guideline": (
        guideline,
        GuidelineSettings(
            contexts=(5, 10), trained_contexts=(10,), sine_contexts=(5,), cost_contexts=(4, 8),
            sequences=2, repeats=2, recipe=SHORT, sine_recipe=SHORT, count=100,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHORT_RUNS)
def test_every_experiment_runs_and_can_be_stored_and_shown(name):
    function, settings = SHORT_RUNS[name]
    section = function(settings, CPU)
    assert section.text
    assert section.tables
    assert all(len(row) == len(table.columns) for table in section.tables for row in table.rows)
    assert Section.from_json(json.loads(json.dumps(section.as_json()))) == section
    assert section.title in report_html([section], "test").replace("&#x27;", "'")


@pytest.mark.parametrize("size", [1, 7, 32, 300])
def test_chunks_predict_what_the_parallel_form_does(size):
    torch.manual_seed(1)
    layer, tokens = GDSSM(4), torch.rand(2, 2 * 70 + 1, 4) - 0.5
    with torch.no_grad():
        assert torch.allclose(chunked(layer, tokens, size), layer(tokens), atol=1e-5)


def test_peak_memory_is_that_of_what_lives_at_once():
    million = 1_000_000

    def one_after_the_other():
        for _ in range(4):
            torch.zeros(million)

    assert peak_bytes(one_after_the_other) == 4 * million
    assert peak_bytes(lambda: [torch.zeros(million) for _ in range(4)]) == 16 * million
    assert peak_bytes(lambda: torch.zeros(million).view(10, -1)[2:]) == 4 * million


def test_what_stands_in_for_the_window_can_be_the_window():
    """Weights by position that are all on one token are the window's: the same predictions."""
    torch.manual_seed(2)
    layer, fronted = GDSSM(3), FrontedGDSSM(3, 21, 0)
    with torch.no_grad():
        fronted.position.fill_(-1e9)
        for place in range(3):
            fronted.position[place, 2 - place] = 0.0
        fronted.D.copy_(layer.D)
        fronted.head.load_state_dict(layer.heads[0][0].state_dict())
        tokens = torch.rand(5, 21, 3) - 0.5
        assert torch.allclose(fronted.predict_query(tokens), layer.predict_query(tokens), atol=1e-6)


def test_a_change_of_one_experiment_leaves_the_others_in_the_cache():
    names = {piece.name: piece.module for piece in plans.full_plan()}
    assert names["lengths"] == "ssm_stream.paper.lengths"
    assert len({plans.code_digest(module) for module in names.values()}) == len(set(names.values()))


def test_equalities_hold_in_the_report_too():
    section = equalities(EqualitySettings(shapes=((4, 6, 2), (2, 3, 5)), batch=3, steps=4), CPU)
    assert all(check.ok for check in section.checks)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("plan", [plans.quick_plan, plans.full_plan])
def test_plans_have_distinct_names_and_settings_that_make_a_key(plan, tmp_path):
    pieces = plan()
    files = {plans.cache_file(tmp_path, piece, "cpu") for piece in pieces}
    assert len(files) == len(pieces) == len({piece.name for piece in pieces})
    assert files.isdisjoint({plans.cache_file(tmp_path, piece, "cuda") for piece in pieces})


# --- checks, cache, report, command -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "ok"),
    [
        (at_most("a", 1.0, 1.0), True),
        (at_most("a", 1.1, 1.0), False),
        (at_least("a", 1.0, 1.0), True),
        (at_least("a", 0.9, 1.0), False),
        (at_most("a", math.nan, 1.0), False),
        (at_most("a", math.inf, 1.0), False),
    ],
)
def test_checks(check, ok):
    row = json.loads(json.dumps(check.row(), allow_nan=False))
    assert row["ok"] is check.ok is ok
    assert set(row) == {"name", "value", "relation", "bar", "ok"}


def piece(calls: list[str], name: str = "one", value: float = 0.0, seed: int = 1) -> plans.Experiment:
    def run(context: Context) -> Section:
        calls.append(name)
        context.advance(0.5)
        return Section(name, ["text"], [at_most(f"loss: {name}", value, 1.0)])

    return plans.Experiment(name, {"seed": seed}, run, 1.0)


def run(pieces, cache, resume=True):
    fractions: list[float] = []
    sections = plans.run_plan(pieces, "cpu", cache, resume, lambda _: None, fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    return sections


def test_a_finished_experiment_is_not_run_again(tmp_path):
    calls: list[str] = []
    first = run([piece(calls), piece(calls, "two")], tmp_path)
    assert run([piece(calls), piece(calls, "two")], tmp_path) == first
    assert calls == ["one", "two"]
    run([piece(calls), piece(calls, "two", seed=2)], tmp_path)
    assert calls == ["one", "two", "two"]
    run([piece(calls)], tmp_path, resume=False)
    assert calls == ["one", "two", "two", "one"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"title": "one"}', "\x00\xff"])
def test_a_damaged_cache_file_is_run_again(tmp_path, content):
    calls: list[str] = []
    run([piece(calls)], tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(content, encoding="latin-1")
    run([piece(calls)], tmp_path)
    assert calls == ["one", "one"]


def test_report_is_one_file_that_says_what_was_missed():
    chart = Chart("c", "x", "y", [Series("<b>", [1, 10, 100], [0.0, 1e-3, 2.0]), Series("empty", [], [])], True, True)
    table = Table("t", ["a"], [[1.0], ["<i>"], [12345]], "note")
    bad = Section(
        "S & T", ["p < q"], [at_most("loss: x", 2.0, 1.0), Check("eta: y", math.nan, ">=", 0.0)], [table], [chart]
    )
    page = report_html([bad], "CPU")
    assert "2 of 2 checks are missed: loss: x; eta: y." in page
    for wanted in ("S &amp; T", "p &lt; q", "&lt;i&gt;", "&lt;b&gt;", "12,345", "<svg"):
        assert wanted in page
    for unwanted in ("<script", "http://", "https://", "src=", "@import", "<b>", "<i>"):
        assert unwanted not in page


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.20621, "0.2062"), (-1.5e-7, "−1.5e−07"), (1234.5, "1,234"), (7, "7")]
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0.1, 0.11), (1.0, 1000.0), (1e-9, 1e4), (0.2, 0.5), (3.0, 3.0001)])
def test_ticks_lie_within_the_axis(log, low, high):
    found = ticks(low, high, log)
    assert 1 <= len(found) <= 16
    assert all(low * 0.999 <= t <= high * 1.001 for t in found)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`paper` with a plan of one experiment whose value is given."""
    app = typer.Typer()
    app.command()(paper)

    def invoke(*arguments: str, value: float = 0.0):
        monkeypatch.setattr(plans, "quick_plan", lambda: [piece([], value=value)])
        out = str(tmp_path / "report.html")
        return CliRunner().invoke(
            app, ["--quick", "--fresh", "--cache", str(tmp_path / "cache"), "--out", out, *arguments]
        )

    return invoke


@pytest.mark.parametrize(("value", "code"), [(0.5, 0), (1.5, 1)])
def test_json_is_all_that_standard_output_holds(command, tmp_path, value, code):
    result = command("--json", value=value)
    assert result.exit_code == code
    row = {"name": "loss: one", "value": value, "relation": "<=", "bar": 1.0, "ok": code == 0}
    assert json.loads(result.stdout) == {"checks": [row]}
    assert "loss: one" in result.stderr
    assert "loss: one" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_people_get_the_same_rows_as_a_table(command):
    result = command()
    assert result.exit_code == 0
    assert "loss: one" in result.stdout
    assert "{" not in result.stdout


@pytest.mark.parametrize("arguments", [("--device", "tpu"), ("--out", "/nowhere/at/all.html")])
def test_wrong_calls(command, arguments):
    assert command(*arguments).exit_code == 2


def test_no_gpu_is_said(command):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    result = command("--device", "cuda")
    assert result.exit_code == 2
    assert "--device cpu" in result.stderr
